#!/usr/bin/env bash
# Two, four or eight GPUs, one rank dies or stands still: the job ends by itself in time, not with 0, and resumes.
. "$(dirname "$0")/lib.sh"
need_gpus 2
limit_s=5
common=(base.toml run.device=cuda data.train=data/small run.log_every=1 dist.timeout_s=$limit_s
    train.micro_batch=$((16 / gpus)))

for signal in KILL STOP; do
    begin "$gpus" "$signal.log" "${common[@]}" run.out_dir="run-$signal" train.steps=1000000
    await 30 grep -q 'step 20/' "$signal.log"
    pids=$(ranks_of "$job")
    kill -"$signal" "$(echo "$pids" | tail -n 1)"
    end "$job" $((limit_s + 10))
    [ "$code" -ne 0 ] || fail "exit code 0 although a rank got SIG$signal"
    pass "SIG$signal: ended after $took_s s with code $code"
    # shellcheck disable=SC2086 # one pid each
    await 5 gone $pids
    step=$(basename "$(newest "run-$signal")")
    train_ok "$gpus" "$signal-resumed.log" "${common[@]}" run.out_dir="run-$signal" train.steps=$((10#${step#step-} + 10))
    expect "$signal-resumed.log" "^resuming .*$step" 1
done
expect STOP.log 'no progress|did not complete|no answer'
