#!/usr/bin/env bash
# Evaluating leaves no trace in training: weights, optimizer state, averages and every rank's own running statistics are
# bit for bit those of a run that never evaluates.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small run.log_every=1)
tensors() { grep -o '"xxh3": *"[0-9a-f]*"' "$(newest "$1")/manifest.json" | tail -n +2; } # the first is the file's, which holds the accuracy

for ranks in 1 2 3; do
    train_ok "$ranks" never.log "${common[@]}" data.val= run.out_dir="never-$ranks"
    train_ok "$ranks" often.log "${common[@]}" train.eval_every_epochs=1 run.out_dir="often-$ranks"
    [ "$(field "often-$ranks" eval step | tr '\n' ' ')" = "16 32 40 " ] || fail "evaluations at steps $(field "often-$ranks" eval step)"
    [ "$(tensors "never-$ranks" | wc -l)" -gt 10 ] || fail "no tensors in the manifest"
    diff <(tensors "never-$ranks") <(tensors "often-$ranks") >tensors.log || fail "$ranks ranks: the states differ"
    diff <(records "never-$ranks" train) <(records "often-$ranks" train) >records.log || fail "$ranks ranks: the records differ"
done
pass "the same $(tensors never-3 | wc -l) tensors on 1, 2 and 3 ranks"
