#!/usr/bin/env bash
# One damaged sample: the rank that reads it says so, once, and all ranks end within seconds with exit code 3.
. "$(dirname "$0")/lib.sh"

cp -r data/small/. damaged
file=$(find damaged -name 'shard-*.h5' | head -n 1)
size=$(stat -c %s "$file")
# The images lie as one block; in its middle is a pixel.
flip "$file" $((size / 2))

for ranks in 1 2 4; do
    train "$ranks" "train-$ranks.log" base.toml data.train=damaged data.verify=true run.out_dir="run-$ranks" train.steps=100
    expect_code 3
    expect "train-$ranks.log" 'dtrain: .*damaged/.*sample [0-9]+' 1
    [ "$took_s" -le "$(seconds 15)" ] || fail "$ranks ranks took $took_s s to end"
done
if "$DTRAIN" data verify damaged >verify.log 2>&1; then fail "data verify finds nothing"; fi
expect verify.log '^dtrain: damaged/shard-.*\.h5' 1
train_ok 2 unchecked.log base.toml data.train=damaged data.verify=false run.out_dir=unchecked
pass "exit code 3, one message, on 1, 2 and 4 ranks"
