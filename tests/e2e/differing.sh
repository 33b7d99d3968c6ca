#!/usr/bin/env bash
# Ranks that were given different configurations refuse to train together.
. "$(dirname "$0")/lib.sh"

sed 's/^lr = .*/lr = 0.04/' base.toml >other.toml
code=0
timeout -k 5 "$(seconds 60)" "$MPIRUN" -np 1 "$DTRAIN" base.toml run.out_dir=run : -np 1 "$DTRAIN" other.toml run.out_dir=run \
    >differ.log 2>&1 </dev/null || code=$?
expect_code 2
expect differ.log '^dtrain: .*configuration' 1
[ ! -e run/metrics.jsonl ] || fail "training began"
pass "refused"
