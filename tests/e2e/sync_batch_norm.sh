#!/usr/bin/env bash
# Batch statistics of all ranks: 2 and 4 ranks with a part of the batch each train as one with all of it; they
# are resumed bit for bit.
. "$(dirname "$0")/lib.sh"
sed -i 's/^rate = 0.1$/rate = 0.0/' base.toml # of dropout, whose draws go with a row's place on its rank
common=(base.toml data.train=data/small schedule.kind=constant train.eval_every_epochs=1 train.micro_batch=0)

train_ok 1 one.log "${common[@]}" run.out_dir=one
for ranks in 2 4; do
    train_ok "$ranks" "on-$ranks.log" "${common[@]}" train.sync_batch_norm=true run.out_dir="on-$ranks"
    close_losses one "on-$ranks" 1e-5 10
    close_losses one "on-$ranks" 0.02
    train_ok "$ranks" half.log "${common[@]}" train.sync_batch_norm=true run.out_dir="half-$ranks" train.steps=20
    train_ok "$ranks" rest.log "${common[@]}" train.sync_batch_norm=true run.out_dir="half-$ranks"
    expect rest.log '^resuming .* at step 20' 1
    sed -i -E '/"eval", "step": 20,/d' "half-$ranks/metrics.jsonl" "on-$ranks/metrics.jsonl"
    same_run "on-$ranks" "half-$ranks"
done

# Without the key each rank has statistics of its own, and one rank is what it was.
train_ok 4 own.log "${common[@]}" run.out_dir=own
if (close_losses one own 1e-3 10) >/dev/null; then fail "statistics of ranks make no difference"; fi
train_ok 1 alone.log "${common[@]}" train.sync_batch_norm=true run.out_dir=alone
close_losses one alone 0

# Ranks that do not come as often as others would be waited for in vain.
train 3 uneven.log base.toml data.train=data/small train.sync_batch_norm=true run.out_dir=uneven
expect_code 2
expect uneven.log 'train.sync_batch_norm: the 4 micro-batches of a step do not go evenly into 3 ranks' 1
pass "2 and 4 ranks with statistics in common are one"
