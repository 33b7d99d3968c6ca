#!/usr/bin/env bash
# A rank that stands still (SIGSTOP) is noticed after dist.timeout_s, and the job ends by itself.
. "$(dirname "$0")/lib.sh"
limit_s=$((3 * E2E_SLOW))

begin 2 stop.log base.toml data.train=data/small run.log_every=1 run.out_dir=run train.steps=1000000 dist.timeout_s=$limit_s
await 30 grep -q 'step 20/' stop.log
pids=$(ranks_of "$job")
kill -STOP "$(echo "$pids" | tail -n 1)"
end "$job" $((limit_s + 10))
[ "$took_s" -ge $((limit_s - 2)) ] || fail "ended after $took_s s already"
expect_code 6
expect stop.log 'no progress|did not complete|no answer'
# shellcheck disable=SC2086 # one pid each
await 5 gone $pids
pass "ended after $took_s s with code $code"
