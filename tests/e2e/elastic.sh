#!/usr/bin/env bash
# A run begun on 2 ranks goes on with 1 and with 4: same samples in the same steps, losses equal up to rounding.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small schedule.kind=constant train.eval_every_epochs=1)

train_ok 2 straight.log "${common[@]}" run.out_dir=straight
train_ok 2 half.log "${common[@]}" run.out_dir=half train.steps=20
for ranks in 1 4; do
    cp -r half "on-$ranks"
    train_ok "$ranks" "on-$ranks.log" "${common[@]}" run.out_dir="on-$ranks"
    expect "on-$ranks.log" "^resuming .* at step 20" 1
    each_step_once "on-$ranks" 40
    # Exact up to the change, equal up to rounding after it, until the rounding has flipped a maximum or a ReLU.
    diff <(records straight train | head -n 20) <(records "on-$ranks" train | head -n 20) >records.log ||
        fail "the first 20 steps differ"
    close_losses straight "on-$ranks" 1e-5 25
    close_losses straight "on-$ranks" 0.05
done

# The number of ranks alone changes nothing but rounding either.
for ranks in 1 4; do
    train_ok "$ranks" "all-$ranks.log" "${common[@]}" run.out_dir="all-$ranks"
    close_losses straight "all-$ranks" 1e-5 25
    close_losses straight "all-$ranks" 0.05
done
# The comparison can fail: other samples give other losses.
train_ok 2 other.log "${common[@]}" run.out_dir=other run.seed=8
if (close_losses straight other 0.05) >/dev/null; then fail "runs with other samples count as equal"; fi
pass "2 ranks to 1 and to 4"
