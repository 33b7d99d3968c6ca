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

# A request before the ranks, or mpirun itself, can handle it.
for wait_s in 0.1 0.3 0.6; do
    "$launch" -n 2 "${common[@]}" train.steps=1000000 run.out_dir=early >early.log 2>&1 &
    job=$!
    started+=("$job")
    sleep "$wait_s"
    kill -USR1 "$job" || fail "launch/train ended before $wait_s s"
    end "$job" 20
    expect_code 85
done

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
refused 255 'could not be started' -n 2 -H host.invalid:2
printf '#!/bin/sh\nkill -KILL $$\n' >killed
chmod +x killed
code=0
DTRAIN=$work/killed "$launch" -n 1 base.toml >killed.log 2>&1 || code=$?
expect_code 6
expect killed.log 'killed by signal 9; the same command continues' 1
pass "3 signals, 3 early ones, exit codes passed on"
