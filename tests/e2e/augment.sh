#!/usr/bin/env bash
# Training with every augmentation: it learns, is resumed bit for bit, and is the same on any number of ranks.
. "$(dirname "$0")/lib.sh"
all=(base.toml data.train=data/small schedule.kind=constant train.eval_every_epochs=1 augment.policy=randaugment
    augment.brightness=0.3 augment.contrast=0.3 augment.grayscale=0.1 augment.erase=0.3 augment.erase_fill=noise
    augment.mixup=0.4 augment.cutmix=1.0 augment.repeats=3 train.label_smoothing=0.1 train.ema_warmup=0.67)

# In parts, one of them killed, bit for bit.
for loss in cross_entropy bce; do
    options=("${all[@]}" model.loss=$loss)
    train_ok 1 straight.log "${options[@]}" run.out_dir=straight-$loss
    train_ok 1 part-20.log "${options[@]}" run.out_dir=parts-$loss train.steps=20
    begin 1 killed.log "${options[@]}" run.out_dir=parts-$loss
    sleep "$(seconds 1)"
    kill_job "$job"
    wait "$job" 2>/dev/null || true
    train_ok 1 part-40.log "${options[@]}" run.out_dir=parts-$loss
    sed -i -E '/"eval", "step": 20,/d' parts-$loss/metrics.jsonl
    sed -i -E '/"eval", "step": 20,/d' straight-$loss/metrics.jsonl
    same_run straight-$loss parts-$loss
done

# With the micro-batches given partners are the same rows on any number of ranks, drawn alike.
for each in batch sample; do
    for ranks in 1 2 4; do
        train_ok "$ranks" "$each-$ranks.log" "${all[@]}" augment.mix_each=$each run.out_dir="$each-$ranks" \
            train.steps=12 train.eval_every_epochs=0
        close_losses "$each-1" "$each-$ranks" 1e-5 10
    done
done
if (close_losses batch-1 sample-1 0.001) >/dev/null; then fail "what lambda is drawn for changes nothing"; fi

# Each alone changes the run, and lets it learn (chance is 0.25).
train_ok 0 plain.log base.toml data.train=data/train run.out_dir=plain train.steps=80 optim.lr=0.2
for option in policy=randaugment policy=trivialaugment brightness=0.5 contrast=0.5 erase=0.5 mixup=0.2 cutmix=1.0 repeats=2; do
    dir=alone-${option%=*}-${option#*=}
    train_ok 0 alone.log base.toml data.train=data/train run.out_dir="$dir" train.steps=80 optim.lr=0.2 \
        "augment.$option" train.eval_every_epochs=1
    field "$dir" eval top1 | tail -n 1 | awk '{ exit !($1 > 0.5) }' ||
        fail "$option: top-1 $(field "$dir" eval top1 | tail -n 1), want above 0.5"
    if (close_losses plain "$dir" 1e-4) >/dev/null; then fail "augment.$option changes nothing"; fi
done

# Evaluation at another side: not where the weights depend on it; else the same weights at each.
train 0 side.log base.toml data.train=data/small run.out_dir=side data.val_size=24
expect_code 2
expect side.log 'layer.*\.weight has [0-9]+ numbers in training and [0-9]+ in evaluation'
sed 's/type = "flatten"/type = "global_avgpool"/' base.toml >pooled.toml
train_ok 0 side.log pooled.toml data.train=data/small run.out_dir=side
"$DTRAIN" eval pooled.toml data.train=data/small run.out_dir=side >own.log
"$DTRAIN" eval pooled.toml data.train=data/small run.out_dir=side data.val_size=24 augment.eval_resize=24 >larger.log
[ "$(sed -E 's/ \(.*//' own.log)" != "$(sed -E 's/ \(.*//' larger.log)" ] || fail "data.val_size changes nothing"
pass "all of it resumed, on 1, 2 and 4 ranks, and each alone"
