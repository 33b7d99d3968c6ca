#!/usr/bin/env bash
# Two jobs on one run directory: the second refuses and says who has it; the first is not disturbed.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small run.log_every=1 train.steps=1000000)

begin 2 first.log "${common[@]}" run.out_dir=run
await 30 grep -q 'step 5/' first.log
train 2 second.log "${common[@]}" run.out_dir=run
expect_code 2
expect second.log "^dtrain: .*run.*(pid|process) [0-9]+" 1
[ "$took_s" -le "$(seconds 10)" ] || fail "refusing took $took_s s"
kill -0 "$job" || fail "the first job ended"
ask_to_stop "$job"
end "$job" 20
expect_code 85
train_ok 2 third.log "${common[@]}" run.out_dir=run train.steps="$(field run train step | tail -n 1)"
pass "the second job refused"
