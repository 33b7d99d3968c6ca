#!/usr/bin/env bash
# Malformed configurations end with exit code 2 and one message that names file, line and column; so do overrides, by key.
. "$(dirname "$0")/lib.sh"

# bad NAME PATTERN: standard input is appended to a good configuration.
bad() {
    { sed '/^\[train\]/,$d' base.toml && cat; } >"$1.toml"
    train 0 "$1.log" "$1.toml" run.out_dir=run
    expect_code 2
    expect "$1.log" "^dtrain: " 1
    expect "$1.log" "$1\\.toml:[0-9]+:[0-9]+: .*$2" 1
}
bad unknown_key 'train.epoch.*train.epochs' <<<'[train]
epoch = 3'
bad unknown_section 'optimizer.*optim' <<<'[optimizer]
lr = 3'
bad wrong_type 'train.steps' <<<'[train]
steps = "many"'
bad out_of_range 'checkpoint.keep_last' <<<'[checkpoint]
keep_last = 1'
bad choice 'optim.kind.*sgd' <<<'[optim]
kind = "sgdd"'
bad syntax '' <<<'[train
steps = 3'
bad twice '' <<<'[train]
steps = 3
steps = 4'
bad layer 'kernel' <<<'[[model.layers]]
type = "conv"
channels = 3
kernels = 3'

refused() {
    local pattern=$1
    shift
    train 0 override.log "$@"
    expect_code 2
    expect override.log '^dtrain: ' 1
    expect override.log "$pattern" 1
}
refused 'train.stepz' base.toml train.stepz=3
refused 'train.steps' base.toml train.steps=-1
refused 'global_batch' base.toml train.global_batch=33
refused 'data.decoder.*needs a GPU' base.toml run.device=cpu data.decoder=nvjpeg
refused 'absent.toml' absent.toml
refused 'oops' base.toml oops
: >empty.toml
refused 'empty.toml' empty.toml
head -c 4096 /dev/urandom >noise.toml
refused 'noise.toml' noise.toml
mkdir folder.toml
refused 'folder.toml' folder.toml
refused 'augment.mean and augment.std are for 2 channels, but the images have 1: ' base.toml 'augment.mean=[0.5, 0.4]' \
    'augment.std=[0.5, 0.5]'
for store in raw jpeg; do "$DTRAIN" data import synthetic --samples 20 --classes 4 --size 16 --store $store --out $store >import.log; done
refused 'data.val = "jpeg": .*augment.crop = "pad" needs images of one size' base.toml data.train=raw data.val=jpeg data.image_size=16
refused 'train.epochs: a run of 1e.21 samples is longer' base.toml data.train=synthetic data.val= data.synthetic_samples=1000000000000 \
    data.synthetic_channels=1 data.synthetic_classes=4 data.image_size=16 train.epochs=1e9 train.steps=0
[ ! -e run ] || fail "a refused configuration made a run directory"

# The configurations that come with dtrain are good ones.
for config in "$E2E_SOURCE"/../../configs/*.toml; do
    train_ok 0 shipped.log config "$config"
done

# All ranks refuse together, with one message.
train 4 ranks.log base.toml train.stepz=3
expect_code 2
expect ranks.log '^dtrain: ' 1

# What is allowed and hardly meant is told.
train 0 notes.log base.toml data.train=synthetic data.val= data.synthetic_samples=16 data.synthetic_channels=1 \
    data.synthetic_classes=4 data.image_size=16 train.steps=2 train.epochs=0 schedule.warmup_steps=0 schedule.kind=cosine run.out_dir=notes
expect_code 0
expect notes.log '^note +a batch is larger than the training set: a step sees each sample 2 times$' 1
expect notes.log '^note +train.ema = 0.9: the average reaches back about 10 steps, the run has only 2: ' 1
train 0 no_notes.log base.toml train.steps=2 train.epochs=0 train.ema=0.5 schedule.warmup_steps=0 run.out_dir=no_notes
expect_code 0
expect no_notes.log '^note' 0
pass "all refused"
