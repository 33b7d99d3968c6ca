#!/usr/bin/env bash
# JPEG files are trained on with the GPU decoding them: nearly what the loader's own decoder gives, repeatable, resumed.
. "$(dirname "$0")/lib.sh"
need_gpus 1

"$MAKE_IMAGES" folder 600 5 >/dev/null
train_ok 0 import.log data import folder folder --store jpeg --val-fraction 0.2 --out set
common=(base.toml data.train=set/train data.val=set/val data.image_size=32 augment.crop=random_resized train.steps=30
    schedule.kind=constant run.device=cuda train.deterministic=true train.precision=fp16)
train 1 none.log "${common[@]}" data.decoder=nvjpeg run.out_dir=none train.steps=6
! grep -q 'without nvJPEG' none.log || skip "$(tail -n 1 none.log)"

train_ok 1 cpu.log "${common[@]}" data.decoder=cpu run.out_dir=cpu
train_ok 1 gpu.log "${common[@]}" data.decoder=nvjpeg run.out_dir=gpu
close_losses cpu gpu 0.05 10
train_ok 1 again.log "${common[@]}" data.decoder=nvjpeg run.out_dir=again run.threads=3
same_run gpu again
train_ok 1 half.log "${common[@]}" data.decoder=nvjpeg run.out_dir=half train.steps=13
train_ok 1 rest.log "${common[@]}" data.decoder=nvjpeg run.out_dir=half
expect rest.log '^resuming .* at step 13' 1
sed -i -E '/"eval", "step": 13,/d' half/metrics.jsonl
same_run gpu half

# Colours are edited by the GPU, as the loader's threads do it: the same draws.
colours=(augment.brightness=0.4 augment.contrast=0.4 augment.saturation=0.4 augment.hue=0.1 augment.grayscale=0.2)
train_ok 1 colours.log "${common[@]}" "${colours[@]}" data.decoder=nvjpeg run.out_dir=colours
train_ok 1 host.log "${common[@]}" "${colours[@]}" data.decoder=cpu run.out_dir=host
close_losses host colours 0.05 10
if (close_losses gpu colours 0.001 10) >/dev/null; then fail "colours make no difference"; fi
train 1 policy.log "${common[@]}" data.decoder=nvjpeg augment.policy=randaugment run.out_dir=policy
expect_code 2
expect policy.log 'augment.policy is the loader threads. work'
pass "losses at step 10: $(field cpu train loss | sed -n 10p), decoded by the GPU $(field gpu train loss | sed -n 10p)"
