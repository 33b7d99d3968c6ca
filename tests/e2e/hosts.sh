#!/usr/bin/env bash
# Two hosts, of which each has a network and a name of its own: they train as one does, and when the cable between them
# is cut the job ends by itself, on both, and resumes. Needs root and iproute2.
if [ -z "${E2E_HOST:-}" ]; then
    if command -v ip >/dev/null && unshare -nu ip link set lo up 2>/dev/null; then
        E2E_HOST=one exec unshare -nu "$0" "$@"
    fi
    echo "hosts: SKIPPED: cannot make a network here"
    exit 77
fi
. "$(dirname "$0")/lib.sh"
launch=$E2E_SOURCE/../../launch/train
common=(base.toml data.train=data/small run.log_every=1 checkpoint.every_steps=5)

# The second host is a process that holds its network and name; what ssh would do nsenter does.
hostname one
unshare -nu sleep 600 &
disown
two=$!
started+=("$two")
await 5 sh -c "! [ /proc/$two/ns/net -ef /proc/self/ns/net ]"
on_two() { nsenter -t "$two" -n -u sh -c "$*"; }
cat >rsh <<RSH
#!/bin/sh
[ "\$1" = 10.77.0.2 ] && ip link show up dev cable | grep -q LOWER_UP || exit 255
shift
exec nsenter -t $two -n -u sh -c "\$*"
RSH
chmod +x rsh
ip link set lo up
ip link add cable type veth peer name cable netns "$two"
ip address add 10.77.0.1/24 dev cable
ip link set cable up
on_two 'hostname two; ip link set lo up; ip address add 10.77.0.2/24 dev cable; ip link set cable up'
hosts=(-n 4 -H 10.77.0.1:2,10.77.0.2:2)
export OMPI_MCA_plm_rsh_agent=$work/rsh
export OMPI_MCA_oob_tcp_keepalive_time=2 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=2

# across LOG ARGUMENT...: trains on both hosts, to the end.
across() {
    local log=$1
    shift
    timeout -k 5 "$(seconds 60)" "$launch" "${hosts[@]}" "${common[@]}" "$@" >"$log" 2>&1 || fail "$log: exit code $?"
}

across both.log run.out_dir=both
expect both.log '^dtrain .* on 4 ranks' 1
train_ok 4 one.log "${common[@]}" run.out_dir=one
close_losses one both 1e-5 25

# By the directory's whole name: the processes are those of all tests on this host.
no_rank_of() { ! pgrep -f "run.out_dir=$work/$1 "; }
for end in cable rank; do
    "$launch" "${hosts[@]}" "${common[@]}" run.out_dir="$work/$end" train.steps=1000000 >$end.log 2>&1 &
    job=$!
    started+=("$job")
    await 30 grep -q 'step 20/' $end.log
    if [ $end = cable ]; then on_two ip link set cable down; else kill -9 "$(pgrep -n -f "run.out_dir=$work/$end ")"; fi
    end "$job" 60
    expect_code 6
    pass "$end: ended after $took_s s"
    await 5 no_rank_of $end
    on_two ip link set cable up
    step=$(basename "$(newest $end)")
    across $end-resumed.log run.out_dir=$end train.steps=$((10#${step#step-} + 10))
    expect $end-resumed.log "^resuming .*$step" 1
done
expect cable.log '^train: a host was lost \(no answer from 10.77.0.2\)' 1
expect rank.log '^train: (a rank, or mpirun, was killed by signal 9|mpirun did not end after its ranks)' 1

# Ranks that give up before mpirun has missed the host: it would go on sending, and wait. launch/train ends it, dtrain that
# of plain mpirun.
unset OMPI_MCA_oob_tcp_keepalive_time OMPI_MCA_oob_tcp_keepalive_intvl OMPI_MCA_oob_tcp_keepalive_probes
short=("${common[@]}" train.steps=1000000 dist.timeout_s=3)
"$launch" "${hosts[@]}" "${short[@]}" run.out_dir=short >short.log 2>&1 &
by_launch=$!
started+=("$by_launch")
start plain.log "$MPIRUN" -np 4 --host 10.77.0.1:2,10.77.0.2:2 "$DTRAIN" "${short[@]}" run.out_dir=plain
by_mpirun=$job
for run in short plain; do await 40 grep -q 'step 20/' $run.log; done
on_two ip link set cable down
end "$by_launch" 30
expect_code 6
expect short.log '^train: a host was lost \(no answer from 10.77.0.2\)' 1
pass "short: ended after $took_s s"
end_unaided "$by_mpirun" 35
[ "$code" -ne 0 ] || fail "exit code 0 although a host was lost"
for run in short plain; do await 10 no_rank_of $run; done
no_daemon() { ! pgrep -f "^orted .*$work/rsh"; }
await 30 no_daemon
pass "trained, ended and went on, on two hosts"
