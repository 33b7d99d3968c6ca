#!/usr/bin/env bash
# checkpoint.keep_best: the best evaluated checkpoints outlive the newest, can be named, and are what the records say.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small train.steps=120 train.eval_every_epochs=1 checkpoint.every_steps=10 checkpoint.keep_last=2
    optim.lr=0.3 schedule.kind=constant run.log_every=1000)

# ranking DIR FIELD ORDER: the steps of its evaluations, best first, of equals the earlier.
ranking() { paste <(field "$1" eval "$2") <(field "$1" eval step) | sort -k1,1"$3" -k2,2n | cut -f2; }
step_of() { basename "$1" | sed 's/^step-0*//'; }

for metric in eval_loss:loss:g eval_top1:top1:gr; do
    IFS=: read -r key part order <<<"$metric"
    dir=best-$part
    train_ok 2 "$dir.log" "${common[@]}" run.out_dir="$dir" checkpoint.keep_best=2 checkpoint.best_metric="$key"
    mapfile -t best < <(ranking "$dir" "$part" "$order" | head -n 2)
    for step in "${best[@]}" 120 110; do
        [ -d "$dir/checkpoints/step-$(printf %08d "$step")" ] || fail "$dir: step $step is not kept: $(ls "$dir/checkpoints")"
    done
    [ "$(step_of "$(readlink "$dir/checkpoints/best")")" = "${best[0]}" ] || fail "$dir: best leads to $(readlink "$dir/checkpoints/best")"
    [ "$(find "$dir/checkpoints" -name 'step-*' | wc -l)" -le 4 ] || fail "$dir: more is kept: $(ls "$dir/checkpoints")"
done

# By name, by link, by the checkpoint's own name: the same, and what the run found (counts, whatever the ranks).
first=$(printf 'best-loss/checkpoints/step-%08d' "$(ranking best-loss loss g | head -n 1)")
found=$(paste <(field best-loss eval loss) <(field best-loss eval top1) | sort -k1,1g | head -n 1 | cut -f2)
for resume in best best-loss/checkpoints/best best-loss/checkpoints/best/ "$first"; do
    train_ok 2 eval.log eval "${common[@]}" run.out_dir=best-loss checkpoint.best_metric=eval_loss run.resume="$resume"
    expect eval.log "$(basename "$first"): step $(step_of "$first"), .*top-1 $(awk -v x="$found" 'BEGIN { printf "%.2f", 100 * x }') %" 1
done

# From the best a new run may go on in a directory of its own, not in the midst of the old one; the same command continues it.
train 2 mixed.log "${common[@]}" run.out_dir=best-loss checkpoint.best_metric=eval_loss run.resume=best
expect_code 2
expect mixed.log '^dtrain: run.resume = "best" is step [0-9]+, but best-loss/checkpoints goes on to step 120.*set run.resume = "best-loss/checkpoints/step-' 1
for steps in 121 122; do
    train_ok 2 onward.log "${common[@]}" run.out_dir=onward run.resume=best-loss/checkpoints/best train.steps=$steps
done
expect onward.log '^resuming onward/checkpoints/step-00000121 at step 121' 1

# Where none was evaluated there is no best.
train_ok 1 blind.log "${common[@]}" run.out_dir=blind data.val= checkpoint.keep_best=1 train.steps=10
expect blind.log '^note +checkpoint.keep_best has nothing to judge by' 1
train 1 none.log eval "${common[@]}" run.out_dir=blind run.resume=best
expect_code 4
expect none.log '^dtrain: run.resume = "best", but no checkpoint in blind/checkpoints was evaluated' 1
# Four classes are always among the first five: that judges nothing, and must not end a run.
train_ok 2 top5.log "${common[@]}" run.out_dir=top5 checkpoint.keep_best=1 checkpoint.best_metric=eval_top5 train.steps=10
expect top5.log '^note +checkpoint.keep_best keeps the first: by checkpoint.best_metric = "eval_top5" all are equal' 1
train 2 patient.log "${common[@]}" run.out_dir=patient train.early_stop_patience=1 checkpoint.best_metric=eval_top5
expect_code 2
expect patient.log '^dtrain: train.early_stop_patience: checkpoint.best_metric = "eval_top5" decides, but' 1
train_ok 1 six.log "${common[@]}" run.out_dir=six train.early_stop_patience=1 checkpoint.best_metric=eval_top5 'model.layers=[]' \
    model.name=quickstart model.classes=6 checkpoint.keep_best=1 train.steps=10
expect six.log 'are equal' 0

# Checkpoints of a version that kept no evaluation continue, and are evaluated no second time.
cp -r best-top1 old
rm old/checkpoints/step-*/evaluation.json
n=$(field old eval step | wc -l)
train_ok 2 old.log "${common[@]}" run.out_dir=old
[ "$(field old eval step | wc -l)" = "$n" ] || fail "evaluated again"
# What differs is told, and only that.
train_ok 1 keys.log "${common[@]}" run.out_dir=keys train.steps=10
train_ok 1 differs.log "${common[@]}" run.out_dir=keys train.steps=20 run.log_every=7
expect differs.log '^  \[' 2
expect differs.log '^  \[train\] steps = 20, was: steps = 10$' 1
# A damaged record costs the record, not the checkpoint.
echo >>best-top1/checkpoints/step-00000120/evaluation.json
train_ok 2 damaged.log "${common[@]}" run.out_dir=best-top1
expect damaged.log '^note: its evaluation.json is damaged' 1
expect damaged.log '^evaluation at step 120' 1
[ "$(field best-top1 eval step | wc -l)" = "$n" ] || fail "an evaluation is on record twice, or none"
pass "kept, named, found again"
