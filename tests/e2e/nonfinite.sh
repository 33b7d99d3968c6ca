#!/usr/bin/env bash
# A run whose loss is no longer finite ends with exit code 5, on all ranks, and its good checkpoints stay as they were.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small schedule.kind=constant schedule.warmup_steps=0 checkpoint.every_steps=5)
sums() { find run/checkpoints -path '*/step-*' -type f -exec cksum {} + | sort; }

train_ok 2 good.log "${common[@]}" run.out_dir=run train.steps=20
sums >before.log
train 2 bad.log "${common[@]}" run.out_dir=run train.steps=200 optim.lr=1e6 optim.weight_decay=1e5 train.ema=0 \
    train.max_skipped=4
expect_code 5
expect bad.log '^dtrain: .*not finite' 1
sums | diff before.log - || fail "the checkpoints changed"
if grep -Eiq '"(loss|grad_norm)": *-?(nan|inf)' run/metrics.jsonl; then fail "metrics.jsonl is no JSON: nan or inf"; fi
# Nor does a run pass as done whose last steps changed nothing.
train 2 short.log base.toml data.train=data/small run.out_dir=short train.steps=12 optim.lr=1e6
expect_code 5
expect short.log '^evaluation.*loss not finite' 1
expect short.log '^dtrain: .*in a row .*not finite' 1
train 2 short-eval.log eval base.toml data.train=data/small run.out_dir=short
expect_code 5
expect short-eval.log 'loss not finite' 1
expect short-eval.log '^dtrain: .*the loss of the evaluation is not finite' 1
# Nor one that ends before the damage shows in a step.
for i in 1 2; do # and is no success when it is started again
    train 2 last.log base.toml data.train=data/small run.out_dir=last train.steps=2 schedule.warmup_steps=0 schedule.kind=constant train.ema=0 \
        optim.kind=sgd optim.lr=1e6
    expect_code 5
    expect last.log '^dtrain: .*ends with weights that give a loss that is not finite' 1
done
pass "exit code 5, checkpoints untouched"
