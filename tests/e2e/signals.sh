#!/usr/bin/env bash
# signals.sh RANKS: SIGTERM, SIGINT, SIGHUP and SIGUSR1 end a run with exit code 85 after the step at hand; resumed, it ends
# as if nothing had happened. One rank's signal stops all.
. "$(dirname "$0")/lib.sh"
ranks=$1
common=(base.toml data.train=data/small run.log_every=1 train.steps=2000 checkpoint.every_steps=0)

train_ok "$ranks" straight.log "${common[@]}" run.out_dir=straight
reached() { grep -q "step $2/2000" "$1"; }

stopped=0
for signal in TERM INT HUP USR1; do
    last=$(field run train step 2>/dev/null | tail -n 1 || true)
    begin "$ranks" "$signal.log" "${common[@]}" run.out_dir=run
    await 30 reached "$signal.log" $((${last:-0} + 20))
    case $signal in
    # mpirun leaves its ranks a second after SIGTERM and SIGINT of its own, so these go to a rank.
    TERM) kill -TERM "$(ranks_of "$job" | tail -n 1)" ;;
    INT | HUP) kill -"$signal" "$(ranks_of "$job" | head -n 1)" ;;
    USR1) ask_to_stop "$job" ;;
    esac
    end "$job" 20
    [ "$code" -ne 0 ] || break # it was through before the signal came
    expect_code 85
    expect "$signal.log" '^stopped and saved after step [0-9]+ of 2000' 1
    stopped=$((stopped + 1))
    step=$(field run train step | tail -n 1)
    [ -s "run/checkpoints/step-$(printf %08d "$step")/manifest.json" ] || fail "SIG$signal: step $step was not saved"
done
[ "$stopped" -eq 4 ] || fail "only $stopped of 4 signals came in time"
train_ok "$ranks" last.log "${common[@]}" run.out_dir=run
same_run straight run
each_step_once run 2000

# Signals before MPI has started, which rank 0 cannot end as the others wait for "go": the run stops at its first agreed
# point. Of those that come before main nothing is promised, so each waits for the handler to stand.
cat >gated <<EOF
#!/bin/sh
while [ "\$OMPI_COMM_WORLD_RANK" != 0 ] && [ ! -e go ]; do sleep 0.05; done
exec "$DTRAIN" "\$@"
EOF
chmod +x gated
first_rank_catches() { catches "$(ranks_of "$job" | head -n 1)" "$DTRAIN base.toml" "$1"; }
for signal in TERM INT HUP USR1; do
    rm -f go
    DTRAIN=./gated begin "$ranks" early.log "${common[@]}" train.steps=1000000 run.out_dir="early$signal"
    await 10 first_rank_catches "$signal"
    kill -"$signal" "$(ranks_of "$job" | head -n 1)"
    touch go
    end "$job" 20
    expect_code 85
    expect early.log '^stopped and saved after step [0-9]+ of 1000000' 1
done
pass "4 signals and 4 early ones on $ranks ranks, same weights and records"
