#!/usr/bin/env bash
# A network as an ONNX model and back: the same weights, and a run that goes on by the same numbers.
. "$(dirname "$0")/lib.sh"
short="train.steps=3 schedule.warmup_steps=0 run.log_every=1"

train_ok 1 a.log base.toml run.out_dir=a checkpoint.export=onnx
train_ok 0 convert.log convert a a.onnx
expect convert.log '^a.onnx: layers, 9 weights, step 40$' 1
cmp a.onnx "$(newest a)/model.onnx" || fail "checkpoint.export writes another model than convert"
train_ok 0 again.log convert a again.onnx
cmp a.onnx again.onnx || fail "one network has two files"

train_ok 0 inspect.log inspect a.onnx
expect inspect.log '^a.onnx: ONNX, 1 file$' 1
expect inspect.log '^IR 8, opset 17, by dtrain ' 1
expect inspect.log '^input +image +F32 +Nx1x16x16$' 1
expect inspect.log '^output +logits +F32 +Nx' 1
expect inspect.log '^[0-9]+ nodes: .*Conv ' 1
expect inspect.log '^layer5.weight +F32 +16x8x3x3 +4608$' 1
expect inspect.log '^"dtrain.step": "40"$' 1

# dtrain run takes the run, its checkpoint, its model and its weights alone, and they say the same.
{
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 16, 16), }"
    for ((i = 0; i < 512; i++)); do
        printf -v number '\\x00\\x00\\x%02x\\x3f' $((i % 128))
        printf '%b' "$number"
    done
} >x.npy
train_ok 0 convert.log convert a alone.pt
i=0
for from in a.onnx a "$(newest a)" "alone.pt --config base.toml"; do
    # shellcheck disable=SC2086 # options
    train_ok 0 run$i.log run $from --input image=x.npy --output out$i
    cmp out0/logits.npy out$i/logits.npy || fail "$from is another network: $(cat run$i.log)"
    i=$((i + 1))
done
train 0 lost.log run a.onnx --input image=x.npy --config base.toml
expect_code 2
expect lost.log 'a configuration is for files of weights alone' 1

# Back as a run, and as what another begins with.
train_ok 0 convert.log convert a.onnx back
train_ok 0 eval.log eval base.toml run.out_dir=a
train_ok 0 eval_back.log eval back/config.toml
[ "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval.log)" = "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval_back.log)" ] ||
    fail "a network that went to ONNX and back is another one: $(cat eval.log eval_back.log)"
# shellcheck disable=SC2086 # options
{
    train_ok 1 run.log base.toml run.out_dir=by_run model.init_from=a $short
    train_ok 1 file.log base.toml run.out_dir=by_file model.init_from=a.onnx $short
}
expect file.log '^weights 9 of 9 from a.onnx \(ONNX\)$' 1
diff <(records by_run train) <(records by_file train) >records.log || fail "steps after ONNX are others than those after the run"

# A file for weights alone, or of a type that it does not have, is no model.
train_ok 0 weights.log convert a.onnx a.safetensors
train_ok 0 weights.log inspect a.safetensors
expect weights.log '^layer5.weight +F32 +16x8x3x3 +4608$' 1
train 0 lost.log convert a.safetensors b.onnx
expect_code 2
expect lost.log 'only a run or a checkpoint becomes an ONNX model' 1
train 0 lost.log convert a half.onnx --dtype f16
expect_code 2
expect lost.log 'ONNX models are written in f32' 1
head -c 3000 a.onnx >cut.onnx
train 0 lost.log inspect cut.onnx
expect_code 3
expect lost.log 'cut.onnx: .* at byte ' 1

# What was written is a network of a file, which trains on and is written again.
sed -e '/^\[model\]/,/^\[data\]/{/^\[data\]/!d}' base.toml >file.toml
printf '[model]\nname = "file"\npath = "a.onnx"\n' >>file.toml
# shellcheck disable=SC2086 # options
train_ok 1 file.log file.toml run.out_dir=file $short
first=$(field file train loss | head -n 1)
awk "BEGIN { exit !($first < 1.1) }" || fail "a trained network that is read from its model has loss $first"
train_ok 0 convert.log convert file file.onnx
train_ok 0 inspect.log inspect file.onnx
expect inspect.log '^input +image +F32 +Nx1x16x16$' 1
expect inspect.log '^layer5.weight +F32 +16x8x3x3 +4608$' 1
