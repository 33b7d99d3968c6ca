#!/usr/bin/env bash
# The start of several ranks: one that is stopped while MPI starts is noticed, and tasks that fail before MPI starts all
# end with their own exit code, although the first that ends takes the others down.
. "$(dirname "$0")/lib.sh"

# Rank 0 comes late, so that the others are inside MPI_Init when one of them is stopped.
cat >late <<LATE
#!/bin/sh
[ "\$OMPI_COMM_WORLD_RANK" != 0 ] || { until [ -e come ]; do sleep 0.05; done; }
exec "$DTRAIN" "\$@"
LATE
chmod +x late
limit_s=$((2 * E2E_SLOW))
for verb in train eval; do
    rm -f come
    DTRAIN_START_TIMEOUT_S=$limit_s start stop.log "$MPIRUN" -np 3 ./late $verb base.toml run.out_dir=run
    in_mpi() { # its files in the directory of mpirun are there
        victim=$(pgrep -n -P "$job" -x "$(basename "$DTRAIN")") && grep -q '/dstore_\|/pmix_' "/proc/$victim/maps"
    }
    await 20 in_mpi
    kill -STOP "$victim"
    touch come
    end "$job" $((limit_s + 10))
    expect_code 6
    expect stop.log "^dtrain: rank [01] .*: MPI has not started after $limit_s s: .* rank [12] \\(process $victim of this host\\) is stopped"
    await 5 gone "$victim"
done
# Asked to stop there is less time, and what is said is the time that was.
rm -f come
DTRAIN_START_TIMEOUT_S=200 start asked.log "$MPIRUN" -np 3 ./late base.toml run.out_dir=run
asked=$job
await 20 in_mpi
kill -STOP "$victim"
touch come
await 10 sh -c "[ \$(pgrep -c -P $asked -x '$(basename "$DTRAIN")') -eq 3 ]"
for pid in $(pgrep -P "$asked" -x "$(basename "$DTRAIN")"); do
    [ "$pid" = "$victim" ] || await 5 catches "$pid" "$DTRAIN" USR1
    [ "$pid" = "$victim" ] || kill -USR1 "$pid"
done
export DTRAIN_START_TIMEOUT_S=soon
train 2 soon.log base.toml
expect_code 2
expect soon.log '^dtrain: DTRAIN_START_TIMEOUT_S is "soon"' 1
unset DTRAIN_START_TIMEOUT_S

# As under srun --kill-on-bad-exit: the first task that fails ends the others by SIGTERM. The last one comes late.
cat >coded <<CODED
#!/bin/sh
echo \$\$ >"pid-\$OMPI_COMM_WORLD_RANK"
[ "\$OMPI_COMM_WORLD_RANK" != 2 ] || sleep 0.7
trap : TERM
"$DTRAIN" "\$@"
echo \$? >"code-\$OMPI_COMM_WORLD_RANK"
for pid in \$(cat pid-*); do
    [ "\$pid" = \$\$ ] || pkill -TERM -P "\$pid"
    [ "\$pid" = \$\$ ] || kill -TERM "\$pid"
done
exit 0
CODED
chmod +x coded
n_wrong=0
while read -r wrong; do
    rm -f code-* pid-*
    # shellcheck disable=SC2086 # one word each
    through wrong.log "$MPIRUN" -np 3 ./coded $wrong
    expect_code 0
    [ "$(cat code-[012] | tr '\n' ' ')" = "2 2 2 " ] || fail "$wrong: exit codes $(tail code-* | tr '\n' ' '), want 2 2 2"
    expect wrong.log '^dtrain: ' 1
    n_wrong=$((n_wrong + 1))
done <<'WRONG'

trian
config absent.toml
absent.toml
eval absent.toml
base.toml train.stepz=3
bench op
WRONG
end "$asked" 40
expect_code 6
expect asked.log "^dtrain: rank [01] .*: MPI has not started after 30 s, while asked to stop: .* is stopped"
[ ! -e run ] || fail "trained without a rank"
pass "a stopped rank was noticed, and $n_wrong mistakes had code 2 on every task"
