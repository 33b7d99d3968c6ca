#!/usr/bin/env bash
# A network in a file: run on arrays, evaluated as it is, trained further on one rank and on two, resumed, with another head.
. "$(dirname "$0")/lib.sh"

train_ok 1 a.log base.toml run.out_dir=a train.steps=20
train_ok 0 convert.log convert a a.onnx
sed -e '/^\[\[model.layers\]\]/,/^\[data\]/{/^\[data\]/!d}' -e 's/^name = "layers"/name = "file"\npath = "a.onnx"/' base.toml >file.toml
sed -i 's/^ema = .*//' file.toml
common=(file.toml schedule.kind=constant schedule.warmup_steps=0 optim.lr=0.01 run.log_every=1)

# As it is, it is as good as the run that it was made of.
train_ok 0 eval.log eval base.toml run.out_dir=a
train_ok 2 eval_file.log eval file.toml run.out_dir=none
[ "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval.log)" = "$(grep -o 'loss [0-9.]*, top-1 [0-9.]*' eval_file.log)" ] ||
    fail "a network in a file is another one: $(cat eval.log eval_file.log)"
expect eval_file.log '^a.onnx, as it is: 1001 samples' 1

# Trained further: the loss falls, two ranks do what one does, and in three parts it is the same to the bit.
train_ok 1 one.log "${common[@]}" run.out_dir=one
train_ok 2 two.log "${common[@]}" run.out_dir=two
expect one.log '^weights and constants [0-9]+ from a.onnx$' 1
close_losses one two 1e-4
first=$(field one train loss | head -n 5 | awk '{ s += $1 } END { print s / NR }')
last=$(field one train loss | tail -n 5 | awk '{ s += $1 } END { print s / NR }')
awk "BEGIN { exit !($last < $first) }" || fail "the loss went from $first to $last"
for steps in 13 29 40; do train_ok 2 "part-$steps.log" "${common[@]}" run.out_dir=parts train.steps=$steps; done
expect part-40.log '^resuming parts/.*/step-00000029 at step 29' 1
sed -i -E '/"eval", "step": (13|29),/d' parts/metrics.jsonl # the parts also evaluated where they ended
same_run two parts
train_ok 0 eval_one.log eval file.toml run.out_dir=one
expect eval_one.log '^one/checkpoints/step-00000040: step 40' 1

# Only its last layer, drawn anew.
train_ok 1 head.log "${common[@]}" run.out_dir=head model.init_head=new model.freeze=all_but_head train.steps=5

# Killed, it goes on from its last checkpoint.
begin 2 killed.log "${common[@]}" run.out_dir=killed train.steps=4000
await 30 test -d killed/checkpoints/step-00000020
kill_job "$job"
end "$job" 30 || true
train_ok 2 again.log "${common[@]}" run.out_dir=killed train.steps="$((10#$(basename "$(newest killed)" | tr -dc 0-9) + 2))"
expect again.log '^resuming killed/' 1

# Another file in its place is refused, by a run that goes on and by an evaluation.
cp a.onnx b.onnx
train_ok 0 convert.log convert one b.onnx
mv b.onnx a.onnx
train 2 other.log "${common[@]}" run.out_dir=parts train.steps=50
expect_code 2
expect other.log 'was written with another file in the place of a.onnx'
train 0 other_eval.log eval file.toml run.out_dir=one
expect_code 2
expect other_eval.log 'was written with another file in the place of a.onnx'
train 0 other_size.log eval file.toml run.out_dir=one model.init_head=new
expect_code 2
expect other_size.log 'was written with another file in the place of a.onnx'
train 0 gone.log inspect file.toml model.path=gone.onnx
[ "$code" -ne 0 ] || fail "a file that is not there was accepted"
expect gone.log 'gone.onnx'

# On arrays: what there is to give and to get is said.
train 0 run.log run a.onnx
expect_code 2
expect run.log 'no value for '
train 0 run.log run a.onnx nothing=x.npy
expect_code 2
expect run.log 'there is no input of nothing'
pass "a network in a file is run, evaluated, trained further and resumed"
