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
# One sample for evaluation likewise, beside a rank with many batches to go; the steps are kept.
cp -r data/val/. damaged-val
file=$(find damaged-val -name 'shard-*.h5' | head -n 1)
flip "$file" $(($(stat -c %s "$file") / 2))
for verb in train eval; do
    train 2 "val-$verb.log" "$verb" base.toml data.train=data/small data.val=damaged-val run.out_dir=run-val train.steps=5 \
        schedule.warmup_steps=0 train.eval_batch=8
    expect_code 3
    expect "val-$verb.log" 'dtrain: .*damaged-val/.*sample [0-9]+' 1
    [ "$took_s" -le "$(seconds 15)" ] || fail "$verb took $took_s s to end"
done
[ "$(basename "$(newest run-val)")" = step-00000005 ] || fail "the steps before the evaluation are lost"
if "$DTRAIN" data verify damaged >verify.log 2>&1; then fail "data verify finds nothing"; fi
expect verify.log '^dtrain: damaged/shard-.*\.h5' 1
train_ok 2 unchecked.log base.toml data.train=damaged data.verify=false run.out_dir=unchecked
pass "exit code 3, one message, on 1, 2 and 4 ranks"
