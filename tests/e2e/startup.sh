#!/usr/bin/env bash
# The first step is done within two seconds of the start. Measures time: runs alone.
. "$(dirname "$0")/lib.sh"

for ranks in 0 1 2 4; do
    train_ok "$ranks" "$ranks.log" base.toml run.out_dir="run-$ranks" train.steps=6
    took=$(sed -n -E 's/^first step done ([0-9.]+) s.*/\1/p' "$ranks.log")
    awk -v took="$took" -v limit="$(seconds 2)" 'BEGIN { exit !(took > 0 && took <= limit) }' || fail "$ranks ranks: $took s"
    all+=" $took"
done
pass "after$all s on 1, 1, 2 and 4 ranks"
