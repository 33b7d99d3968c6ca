#!/usr/bin/env bash
# Weights that go round: a run, a file in safetensors and back, and runs that begin with either.
. "$(dirname "$0")/lib.sh"
short="train.steps=10 schedule.warmup_steps=0 run.log_every=1"

train_ok 1 a.log base.toml run.out_dir=a checkpoint.export=safetensors
train_ok 0 convert.log convert a a.safetensors
expect convert.log '^a.safetensors: layers, 9 weights, step 40$' 1
cmp a.safetensors "$(newest a)/model.safetensors" || fail "checkpoint.export writes another file than convert"
train_ok 0 inspect.log inspect a.safetensors
expect inspect.log '^layer5.weight +F32 +16x8x3x3 +4608$' 1
expect inspect.log '^layer2.num_batches_tracked +I64 ' 1
train_ok 0 inspect.log inspect a
expect inspect.log '^param/layer5.weight +F32 +16x3x3x8 +4608$' 1

# And back: the same network, by the same numbers.
train_ok 0 convert.log convert a.safetensors back
train_ok 0 eval.log eval base.toml run.out_dir=a
train_ok 0 eval_back.log eval back/config.toml
[ "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval.log)" = "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval_back.log)" ] ||
    fail "a network that went to safetensors and back is another one: $(cat eval.log eval_back.log)"
train_ok 0 convert.log convert a.safetensors half.safetensors --dtype f16
expect convert.log '^half.safetensors: 10 tensors$' 1
[ "$(stat -c %s half.safetensors)" -lt "$(stat -c %s a.safetensors)" ] || fail "16 bits are not less"
train 0 convert.log convert a.safetensors back
expect_code 2
expect convert.log 'back/checkpoints is there already' 1

# From the run and from the file, on one rank and on two: the same run.
# shellcheck disable=SC2086 # options
{
    train_ok 1 run.log base.toml run.out_dir=by_run model.init_from=a $short
    train_ok 1 file.log base.toml run.out_dir=by_file model.init_from=a.safetensors $short
    train_ok 2 two.log base.toml run.out_dir=by_two model.init_from=a.safetensors $short
}
expect run.log '^weights 9 of 9 from a/checkpoints/step-00000040 \(checkpoint, averaged\)$' 1
expect file.log '^weights 9 of 9 from a.safetensors \(safetensors\)$' 1
expect two.log '^weights 9 of 9 from a.safetensors \(safetensors\)$' 1
expect by_two/metrics.jsonl '"kind": "weights", "step": 0, "from": "a.safetensors", "format": "safetensors", "taken": 9' 1
for kind in train eval; do
    diff <(records by_run $kind) <(records by_file $kind) >records.log || fail "a run and the file made of it give other runs"
done
close_losses by_run by_two 1e-4
first=$(field by_run train loss | head -n 1)
awk "BEGIN { exit !($first < 1.1) }" || fail "a run that begins with trained weights has loss $first"

# The run that is resumed goes on with its own.
train_ok 1 resume.log base.toml run.out_dir=by_run model.init_from=gone train.steps=12 schedule.warmup_steps=0
expect resume.log '^resuming by_run/' 1
expect resume.log 'note: model.init_from is not read: the run goes on with its own weights' 1

# A row that changes no name is a mistake; a last layer alone is trained on something.
train 1 rows.log base.toml run.out_dir=rows model.init_from=a.safetensors 'model.init_rename=[["encoder.", ""]]'
expect_code 2
expect rows.log 'model.init_rename: no name begins with, or fits, "encoder."' 1
train_ok 1 drawn.log base.toml run.out_dir=drawn model.freeze=all_but_head train.steps=2 schedule.warmup_steps=0
expect drawn.log 'all_but_head" without model.init_from' 1
train_ok 1 drawn.log base.toml run.out_dir=drawn_lora lora.rank=2 lora.targets=layer9 train.steps=2 schedule.warmup_steps=0
expect drawn.log 'lora.rank without model.init_from' 1

# Another number of classes wants another head.
sed 's/^channels = 4/channels = 6/' base.toml >six.toml
train 2 six.log six.toml run.out_dir=six model.classes=6 model.init_from=a.safetensors
expect_code 2
expect six.log 'a.safetensors: does not fit the network: of another shape \(2\): layer9.weight \[4,256\] instead of \[6,256\], layer9.bias \[4\] instead of \[6\]; for other classes set model.init_head = "new"'
# shellcheck disable=SC2086 # options
train_ok 2 six.log six.toml run.out_dir=six model.classes=6 model.init_from=a model.init_head=new $short
expect six.log '^weights 7 of 9 from a/.*; drawn anew: layer9.weight, layer9.bias$' 1
expect six/metrics.jsonl '"drawn": \["layer9.weight", "layer9.bias"\]' 1
train 1 none.log base.toml run.out_dir=none model.init_from=nothing
expect_code 3
expect none.log 'model.init_from: nothing: No such file' 1
# Low-rank adapters on a file's weights: equal on one rank and two, resumed as they were, merged into a plain network.
# shellcheck disable=SC2086 # options
{
    lora="model.init_from=a.safetensors lora.rank=2 lora.alpha=8 lora.targets=layer9 lora.train=layer2.* train.ema=0"
    train_ok 1 lora.log base.toml run.out_dir=lora $lora $short
    train_ok 2 lora_two.log base.toml run.out_dir=lora_two $lora $short
    close_losses lora lora_two 1e-4
    expect lora.log '^weights 9 of 11 from a.safetensors \(safetensors\); drawn anew: layer9.lora_A.weight, layer9.lora_B.weight$' 1
    expect lora.log '^model +536 parameters in [0-9]+ buckets and frozen 2268;' 1
    train_ok 1 half.log base.toml run.out_dir=half $lora train.steps=10 schedule.kind=constant schedule.warmup_steps=0
    train_ok 1 half.log base.toml run.out_dir=half $lora train.steps=20 schedule.kind=constant schedule.warmup_steps=0
    train_ok 1 whole.log base.toml run.out_dir=whole $lora train.steps=20 schedule.kind=constant schedule.warmup_steps=0
    diff <(field half train loss | tail -n 2) <(field whole train loss | tail -n 2) || fail "adapters do not resume as they were"
    train_ok 0 merge.log convert lora merged.safetensors --merge
    train_ok 0 merge.log convert merged.safetensors merged
    train_ok 0 eval.log eval base.toml run.out_dir=lora $lora
    train_ok 0 eval_merged.log eval merged/config.toml
}
! grep -q lora_ <("$DTRAIN" inspect merged.safetensors) || fail "adapters are left in a merged file"
# Adapters are not lost in silence, and count as in training.
# shellcheck disable=SC2086
train 0 alpha.log eval base.toml run.out_dir=lora $lora lora.alpha=16
expect_code 2
expect alpha.log 'lora.alpha makes adapters count 8 times, and .* was trained with 4 times' 1
train 0 lost.log convert lora lost.safetensors lora.rank=0
expect_code 4
expect lost.log '^dtrain: .* has low-rank adapters .*--merge$' 1
train 0 lost.log convert a.safetensors b.safetensors --merge
expect_code 2
[ "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval.log)" = "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval_merged.log)" ] ||
    fail "merged adapters give another network: $(cat eval.log eval_merged.log)"
train 0 merge.log convert a twice.safetensors --merge
expect_code 2
expect merge.log 'has no low-rank adapters' 1

# A linear probe moves the last layer alone.
# shellcheck disable=SC2086 # options
train_ok 2 probe.log base.toml run.out_dir=probe model.init_from=a model.init_head=new model.freeze=all_but_head $short
expect probe.log '^model +1028 parameters in [0-9]+ buckets? and frozen 1256;' 1
pass "runs and files give the same runs"
