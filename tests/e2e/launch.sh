#!/usr/bin/env bash
# launch/train: ranks, exit codes, and signals that reach it are a request to save, which mpirun alone would cut short.
. "$(dirname "$0")/lib.sh"
launch=$E2E_SOURCE/../../launch/train
common=(base.toml data.train=data/small run.log_every=1 run.out_dir=run)

code=0
"$launch" >usage.log 2>&1 || code=$?
expect_code 2
code=0
"$launch" -n 3 base.toml train.stepz=3 >bad.log 2>&1 || code=$?
expect_code 2
for signal in TERM INT HUP; do
    # A job of a script starts with SIGINT ignored, which a shell cannot undo; a terminal's does not.
    env --default-signal=INT "$launch" -n 2 "${common[@]}" train.steps=1000000 >"$signal.log" 2>&1 &
    job=$!
    started+=("$job")
    await 30 grep -q 'step [0-9]*[05]/' "$signal.log"
    kill -$signal "$job"
    end "$job" 20
    expect_code 85
    expect "$signal.log" '^dtrain  .* on 2 ranks' 1
done
steps=$(($(field run train step | tail -n 1) + 5))
"$launch" -n 3 "${common[@]}" train.steps=$steps >last.log 2>&1 || fail "exit code $?"
each_step_once run $steps

# Ranks are known by DTRAIN's name, whatever is in it, or by dtrain where that is what DTRAIN starts.
ln -s "$DTRAIN" dtrain+1
printf '#!/bin/sh\nexec "%s" "$@"\n' "$DTRAIN" >wrapper
chmod +x wrapper
for program in dtrain+1 wrapper; do
    DTRAIN=./$program "$launch" -n 2 "${common[@]}" train.steps=1000000 run.out_dir="by-$program" >"$program.log" 2>&1 &
    job=$!
    started+=("$job")
    await 30 grep -q 'step 5/' "$program.log"
    kill "$job"
    end "$job" 20
    expect_code 85
done

# A request before the ranks, or mpirun itself, can handle it: so long after launch/train does.
for wait_s in 0 0.1 0.3 0.6; do
    "$launch" -n 2 "${common[@]}" train.steps=1000000 run.out_dir=early >early.log 2>&1 &
    job=$!
    started+=("$job")
    await 10 catches "$job" "$launch -n" USR1
    sleep "$wait_s"
    kill -USR1 "$job" || fail "launch/train ended before $wait_s s"
    end "$job" 20
    expect_code 85
done

# Or before launch/train itself has come far.
mkdir bin
cat >bin/nvidia-smi <<'SMI'
#!/bin/sh
touch asked-for-gpus
sleep 1
SMI
chmod +x bin/nvidia-smi
for verb in train eval; do
    rm -f asked-for-gpus
    PATH=$work/bin:$PATH "$launch" $verb "${common[@]}" train.steps=1000000 run.out_dir=earliest >earliest.log 2>&1 &
    job=$!
    started+=("$job")
    await 10 test -e asked-for-gpus
    kill -USR1 "$job"
    end "$job" 20
    if [ $verb = train ]; then expect_code 85; else expect_code 1; fi
    expect earliest.log '^train: stopped before anything was started' 1
    [ ! -e earliest ] || fail "a rank ran"
done

# GPUs, with CUDA_VISIBLE_DEVICES as CUDA reads it.
# shellcheck disable=SC2016 # the stand-in expands it
printf '#!/bin/sh\n[ "$1" = -L ] && for i in 0 1 2 3; do echo "GPU $i: Some (UUID: GPU-$i)"; done\n' >bin/nvidia-smi
gpus_are() { # COUNT [CUDA_VISIBLE_DEVICES]
    local n
    n=$(
        unset CUDA_VISIBLE_DEVICES
        [ $# -lt 2 ] || export CUDA_VISIBLE_DEVICES=$2
        PATH=$work/bin:$PATH
        . "$E2E_SOURCE/../../launch/lib.sh"
        dt_gpus
    )
    [ "$n" = "$1" ] || fail "CUDA_VISIBLE_DEVICES=${2-(unset)}: $n GPUs, want $1"
}
gpus_are 4
gpus_are 0 ''
gpus_are 0 -1
gpus_are 0 NoDevFiles
gpus_are 1 0
gpus_are 2 '3, 1'
gpus_are 2 2,0,-1,1
gpus_are 1 3,4,0
gpus_are 2 GPU-1a2b,GPU-3c4d
gpus_are 1 MIG-5e6f

# Killed, with all of its process group as timeout -k does, it leaves nobody behind, nor a rank that is stopped.
setsid "$launch" -n 2 "${common[@]}" train.steps=1000000 run.out_dir=orphans >orphans.log 2>&1 &
job=$!
started+=("$job")
await 30 grep -q 'step 5/' orphans.log
mpirun=$(pgrep -P "$job" -x mpirun)
orphans=$(pgrep -P "$job,$mpirun")
[ "$(wc -w <<<"$orphans")" -ge 4 ] || fail "launch/train has no watch, or mpirun no two ranks"
kill -STOP "$(pgrep -n -P "$mpirun")"
kill -KILL -- "-$job"
# shellcheck disable=SC2086 # one pid each
await 15 gone $orphans

# What could not be started is no killed rank.
refused() { # CODE PATTERN ARGUMENT...
    local want=$1 pattern=$2
    shift 2
    code=0
    timeout -k 5 "$(seconds 60)" "$launch" "$@" base.toml >refused.log 2>&1 </dev/null || code=$?
    expect_code "$want"
    expect refused.log "$pattern"
    expect refused.log 'newest checkpoint' 0
}
DTRAIN=$work refused 1 'is not a program'
DTRAIN=$work/base.toml refused 1 'is not a program'
DTRAIN=$work/absent refused 1 'build it first'
echo '#!/absent/interpreter' >broken
chmod +x broken
DTRAIN=$work/broken refused 127 'could not be started' -n 1
stub=bin/no-route # for ssh: what it waits for depends on the network
printf '#!/bin/sh\nexit 255\n' >$stub
chmod +x $stub
OMPI_MCA_plm_rsh_agent=$work/$stub refused 255 'could not be started' -n 2 -H 192.0.2.1:2
printf '#!/bin/sh\nkill -KILL $$\n' >killed
chmod +x killed
code=0
DTRAIN=$work/killed "$launch" -n 1 base.toml >killed.log 2>&1 || code=$?
expect_code 6
expect killed.log '(killed by signal 9|mpirun did not end after its ranks, and was killed); the same command continues' 1
pass "5 signals, 6 early ones, GPUs counted, exit codes passed on"
