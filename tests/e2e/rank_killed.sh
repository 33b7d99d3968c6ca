#!/usr/bin/env bash
# One rank dies by kill -9: the job ends within seconds, not with 0, and the run resumes.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small run.log_every=1 checkpoint.every_steps=5)

for victim in head tail; do
    begin 3 "$victim.log" "${common[@]}" run.out_dir="run-$victim" train.steps=1000000
    await 30 grep -q 'step 20/' "$victim.log"
    pids=$(ranks_of "$job")
    kill -9 "$(echo "$pids" | "$victim" -n 1)"
    end "$job" 10
    [ "$code" -ne 0 ] || fail "exit code 0 although a rank died"
    ended="after $took_s s with code $code"
    # shellcheck disable=SC2086 # one pid each
    await 5 gone $pids
    step=$(basename "$(newest "run-$victim")")
    train_ok 3 "$victim-resumed.log" "${common[@]}" run.out_dir="run-$victim" train.steps=$((10#${step#step-} + 10))
    expect "$victim-resumed.log" "^resuming .*$step" 1
    pass "ended $ended, resumed"
done
