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
pass "3 signals, exit codes passed on"
