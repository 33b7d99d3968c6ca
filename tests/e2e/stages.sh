#!/usr/bin/env bash
# Progressive learning: images grow and are edited more by stages; resumed bit for bit within a stage and between two, the
# same on 1 and 4 ranks; what cannot be is refused before the first step.
. "$(dirname "$0")/lib.sh"
sed 's/type = "flatten"/type = "global_avgpool"/' base.toml >pooled.toml
stages=('train.stage_epochs=[0,0.5,1.2]' 'train.stage_sizes=[12,16,20]' 'train.stage_strengths=[0,0.5,1]')
common=(pooled.toml data.train=data/small schedule.kind=constant train.steps=30 augment.crop=random_resized
    augment.brightness=0.4 augment.mixup=0.2 train.eval_every_epochs=1)

train_ok 0 straight.log "${common[@]}" "${stages[@]}" run.out_dir=straight
expect straight.log '^stage 1 of 3 from step 0: images of 12 x 12, augmentation x 0$' 1
expect straight.log '^stage 2 of 3 from step 8: images of 16 x 16, augmentation x 0.5$' 1
expect straight.log '^stage 3 of 3 from step 19: images of 20 x 20, augmentation x 1$' 1
each_step_once straight 30
# Step 8 is where a stage ends; 13 is within one.
for at in 8 13; do
    train_ok 0 half.log "${common[@]}" "${stages[@]}" run.out_dir="from-$at" train.steps=$at
    train_ok 0 rest.log "${common[@]}" "${stages[@]}" run.out_dir="from-$at"
    expect rest.log "^resuming .* at step $at" 1
    expect rest.log '^stage 1 of' 0
    sed -i -E "/\"eval\", \"step\": $at,/d" "from-$at/metrics.jsonl"
    same_run straight "from-$at"
done
train_ok 4 ranks.log "${common[@]}" "${stages[@]}" run.out_dir=on-4
close_losses straight on-4 1e-5 15

# A stage that says nothing new changes nothing, another size and another strength do.
train_ok 0 plain.log "${common[@]}" run.out_dir=plain
train_ok 0 same.log "${common[@]}" 'train.stage_epochs=[0,1]' 'train.stage_sizes=[16,16]' run.out_dir=same data.image_size=16
close_losses plain same 0
train_ok 0 never.log "${common[@]}" 'train.stage_epochs=[0,1000]' 'train.stage_sizes=[16,12]' run.out_dir=never
expect never.log 'train.stage_epochs: stage 2 would begin at step [0-9]+, and the run ends at step' 1
for other in 'train.stage_sizes=[16,12]' 'train.stage_strengths=[1,0]'; do
    train_ok 0 other.log "${common[@]}" 'train.stage_epochs=[0,0.5]' "$other" run.out_dir="other-${other//[^a-z]/}"
    close_losses plain "other-${other//[^a-z]/}" 0 8
    if (close_losses plain "other-${other//[^a-z]/}" 1e-4) >/dev/null; then fail "$other changes nothing"; fi
done

# A vision transformer has positions for data.image_size, between which it finds those of other sizes; one that goes on with
# the weights of another size has its own.
awk '/^\[\[model/ { off = 1; next } /^\[/ { off = 0 } !off' base.toml >vit.toml
vit=(vit.toml model.name=vit_tiny_patch16 model.patch=4 data.train=data/small data.val= data.image_size=16 train.ema=0
    train.global_batch=8 augment.crop=random_resized optim.kind=adamw optim.lr=1e-3 schedule.kind=constant schedule.warmup_steps=0)
stages_vit=('train.stage_epochs=[0,0.03]' 'train.stage_sizes=[12,16]')
train_ok 0 vit.log "${vit[@]}" "${stages_vit[@]}" train.steps=4 run.out_dir=vit
train_ok 0 vit-half.log "${vit[@]}" "${stages_vit[@]}" train.steps=3 run.out_dir=vit-half
train_ok 0 vit-rest.log "${vit[@]}" "${stages_vit[@]}" train.steps=4 run.out_dir=vit-half
same_run vit vit-half
train_ok 0 vit-24.log "${vit[@]}" train.steps=1 data.image_size=24 model.init_from=vit run.out_dir=vit-24
expect vit-24.log 'weights [0-9]+ of [0-9]+ from vit/.*; positions of 4x4 patches resampled to 6x6' 1
train 0 vit-20.log inspect "${vit[@]}" data.val=data/val data.val_size=20 augment.eval_resize=20
expect_code 0

train 0 inspect.log inspect "${common[@]}" "${stages[@]}"
expect_code 0
expect inspect.log '^2 +0.5 +8 +[0-9.]+ [KM]iB +images of 16 x 16, augmentation x 0.5$' 1

refused() {
    local want=$1
    shift
    train 0 refused.log "$@" data.train=data/small run.out_dir=refused
    expect_code 2
    expect refused.log "$want"
}
refused 'weight has [0-9]+ numbers in one stage and [0-9]+ in another' base.toml augment.crop=random_resized "${stages[@]}"
refused 'stage_sizes has 1 entries, train.stage_epochs 2' pooled.toml 'train.stage_epochs=[0,1]' 'train.stage_sizes=[16]'
refused 'begins with epoch 0, not 1' pooled.toml 'train.stage_epochs=[1,2]' 'train.stage_sizes=[16,20]'
refused '2 comes before 2' pooled.toml 'train.stage_epochs=[0,2,2]' 'train.stage_sizes=[16,20,24]'
refused 'differ in nothing' pooled.toml 'train.stage_epochs=[0,2]'
refused 'no whole number' pooled.toml 'train.stage_epochs=[0,2]' 'train.stage_sizes=[16,20.5]'
pass "three stages, resumed and on 1 and 4 ranks"
