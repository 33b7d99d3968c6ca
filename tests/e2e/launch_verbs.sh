#!/usr/bin/env bash
# Verbs that do not train, under launch/train and bench/scaling: they have nothing to save, so a signal ends them within seconds.
. "$(dirname "$0")/lib.sh"
launch=$E2E_SOURCE/../../launch/train
common=(base.toml data.train=data/small run.out_dir=run)

train_ok 2 train.log "${common[@]}" train.steps=10
long_eval=(eval "${common[@]}" data.val=synthetic data.image_size=16 data.synthetic_channels=1
    data.synthetic_classes=4 data.synthetic_samples=10000000 train.eval_batch=8)
long_bench=(bench step "${common[@]}" --steps 1000000)
"$launch" -n 2 eval "${common[@]}" >eval.log 2>&1 || fail "exit code $?"

# run.seed tells its ranks from all others.
ranks_run() { [ "$(pgrep -c -f "^$DTRAIN .* run.seed=$mark( |\$)")" -eq "$1" ]; }
mark=$$
stop_verb() { # SIGNAL SECONDS ARGUMENT...: 1 second after the ranks have started, or so long after mpirun has
    local signal=$1 wait_s=$2
    shift 2
    mark=$((mark + 1))
    # A job of a script starts with SIGINT ignored, which a shell cannot undo; a terminal's does not.
    env --default-signal=INT "$launch" -n 2 "$@" run.seed=$mark >verb.log 2>&1 &
    job=$!
    started+=("$job")
    if [ "$wait_s" = 1 ]; then await 30 ranks_run 2; else await 30 pgrep -P "$job" -x mpirun; fi
    sleep "$wait_s"
    kill -"$signal" "$job" || fail "$1 ended before the signal"
    end "$job" 20 # 10 of them for an mpirun that locks itself up
    expect_code 1
    expect verb.log '^train: ended by the signal' 1
    await 5 ranks_run 0
}
stop_verb TERM 1 "${long_eval[@]}"
stop_verb INT 1 "${long_eval[@]}"
stop_verb USR1 1 "${long_bench[@]}"
for wait_s in 0.1 0.3 0.6; do stop_verb TERM "$wait_s" "${long_bench[@]}"; done

# A verb that failed by itself keeps its code.
code=0
"$launch" -n 2 eval "${common[@]}" run.out_dir=absent >absent.log 2>&1 || code=$?
expect_code 4

# bench/scaling takes its directory away however it ends.
mkdir scratch
scaling=(env --default-signal=INT TMPDIR="$work/scratch" "$E2E_SOURCE/../../bench/scaling" -n 2 -b 8 -s 1000 base.toml data.image_size=16)
code=0
"${scaling[@]}" optim.absent=1 >scaling.log 2>&1 || code=$?
expect_code 1
expect scaling.log 'optim.absent: unknown key'
[ -z "$(ls scratch)" ] || fail "bench/scaling failed and left its directory"
mark=$((mark + 1))
"${scaling[@]}" run.seed=$mark >scaling.log 2>&1 &
job=$!
started+=("$job")
await 30 ranks_run 1
kill -INT "$job"
end "$job" 20 # 10 of them for an mpirun that locks itself up
expect_code 1
[ -z "$(ls scratch)" ] || fail "bench/scaling was stopped and left its directory"
await 5 ranks_run 0
pass "3 signals and 3 early ones to eval and bench; bench/scaling cleans up"
