#!/usr/bin/env bash
# train.early_stop_patience: a run that gets no better ends as done, at the same evaluation on any number of ranks and
# through stops and kills, and started again stays as it is.
. "$(dirname "$0")/lib.sh"
# No accuracy rises by more than 1: the first evaluation, after 16 steps, stays the best.
common=(base.toml data.train=data/small train.steps=300 train.eval_every_epochs=1 schedule.kind=constant run.log_every=1000
    checkpoint.every_steps=5 train.early_stop_patience=3 train.early_stop_min_delta=1)

for ranks in 0 1 2; do
    train_ok "$ranks" "early-$ranks.log" "${common[@]}" run.out_dir="early-$ranks"
    expect "early-$ranks.log" '^stopping early at step 63: no better eval_top1 than the [0-9.]+ of step 16 in 3 evaluations$' 1
    expect "early-$ranks.log" '^done: ' 1
    each_step_once "early-$ranks" 63
    [ "$(basename "$(newest "early-$ranks")")" = step-00000063 ] || fail "early-$ranks: the last step is not saved"
done
grep -q '"worse": 3,' early-2/checkpoints/step-00000063/evaluation.json || fail "the count is not in the checkpoint"

# Again: nothing to do. With more patience it goes on.
# (metrics.jsonl says of each start that there was one.)
sums() {
    find early-2 -type f ! -name .lock ! -name 'events.*' ! -name curves.svg ! -name metrics.jsonl -exec cksum {} + | sort
    grep -vE '"kind": "(start|end)"' early-2/metrics.jsonl
}
sums >before.log
train_ok 2 again.log "${common[@]}" run.out_dir=early-2
expect again.log '^run +finished at step 63 by train.early_stop_patience = 3' 1
sums | diff before.log - || fail "a run that had stopped early changed"

# Killed between the evaluation's record in metrics.jsonl and that in the checkpoint, or before both: it is made up for,
# recorded once and counted once.
for lost in checkpoint metrics; do
    rm -rf lost && cp -r early-2 lost
    if [ $lost = checkpoint ]; then
        cp lost/checkpoints/step-00000060/evaluation.json lost/checkpoints/step-00000063/
    else
        sed -i '/"eval", "step": 63,/d' lost/metrics.jsonl
    fi
    train_ok 2 lost.log "${common[@]}" run.out_dir=lost
    expect lost.log '^evaluation at step 63' 1
    same_run early-2 lost
    cmp early-2/checkpoints/step-00000063/evaluation.json lost/checkpoints/step-00000063/evaluation.json || fail "lost in the $lost: another count"
done

# In parts: killed or asked to stop, it ends at the same step with the same state.
for part in 1 2 3 4 5 6; do
    begin 2 "part-$part.log" "${common[@]}" run.out_dir=parts
    if [ $((part % 2)) = 0 ]; then
        await 20 grep -Eq 'first step done|run +finished' "part-$part.log" # before that, signals are another test's
        ! grep -q 'first step done' "part-$part.log" || ask_to_stop "$job"
        end "$job" 30
    else
        sleep "0.$part"
        kill_job "$job"
        wait "$job" 2>/dev/null || true
    fi
done
train_ok 2 parts.log "${common[@]}" run.out_dir=parts
same_run early-2 parts
cmp early-2/checkpoints/step-00000063/evaluation.json parts/checkpoints/step-00000063/evaluation.json || fail "another count"

train_ok 2 more.log "${common[@]}" run.out_dir=early-2 train.early_stop_patience=4
expect more.log '^stopping early at step 79: ' 1
each_step_once early-2 79
# By the loss, which falls: to the end.
train_ok 2 falls.log "${common[@]}" run.out_dir=falls train.steps=100 checkpoint.best_metric=eval_loss train.early_stop_min_delta=0 train.early_stop_patience=5
expect falls.log '^stopping early' 0
each_step_once falls 100
pass "ended at step 63 on 1 and 2 ranks, in one part and in several"
