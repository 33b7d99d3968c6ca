#!/usr/bin/env bash
# Text is learnt on a GPU as on a CPU: by attention and by recurrent networks, in every precision; runs repeat with and
# without a captured step, and resume bit for bit.
. "$(dirname "$0")/lib.sh"
need_gpus 1

awk 'BEGIN { srand(11); split("the a one", d, " "); split("small old grey loud", a, " "); split("dog cat bird fox", n, " ")
    for (i = 0; i < 900; i++)
        printf "%s %s %s sees the %s.%s", d[1 + int(3 * rand())], a[1 + int(4 * rand())], n[1 + int(4 * rand())],
            n[1 + int(4 * rand())], rand() < 0.2 ? "\n%%\n" : " " }' >text.txt
train_ok 0 import.log data import text text.txt --separator %% --tokenizer byte --val-fraction 0.1 --out text

# The layers of stdin between the embedding and the logits.
network() {
    printf '[model]\nname = "layers"\ntask = "language"\n'
    printf '[[model.layers]]\ntype = "embedding"\nname = "words"\nrows = 257\nchannels = 32\nstd = 0.05\n'
    cat
    cat <<'END'
[[model.layers]]
type = "dense"
channels = 257
[data]
train = "text/train"
val = "text/val"
context = 48
documents = "isolated"
[train]
global_batch = 16
micro_batch = 8
steps = 30
eval_every_epochs = 0
clip_norm = 1.0
[optim]
kind = "adamw"
lr = 3e-3
[schedule]
kind = "constant"
[checkpoint]
every_steps = 15
every_epochs = 0.0
[run]
seed = 3
device = "cpu"
threads = 1
END
}
network >attention.toml <<'END'
[[model.layers]]
type = "position"
name = "x0"
[[model.layers]]
type = "layernorm"
[[model.layers]]
type = "attention"
heads = 2
causal = true
dropout = 0.1
with = "segment"
[[model.layers]]
type = "add"
with = "x0"
name = "x1"
[[model.layers]]
type = "rmsnorm"
[[model.layers]]
type = "dense"
channels = 64
[[model.layers]]
type = "gelu"
[[model.layers]]
type = "dense"
channels = 32
[[model.layers]]
type = "add"
with = "x1"
END
for type in lstm gru; do printf '[[model.layers]]\ntype = "%s"\nhidden = 48\n' $type | network >$type.toml; done

# difference A B: the largest relative difference of the losses of steps 1 to 10.
difference() {
    paste <(field "$1" train loss) <(field "$2" train loss) | head -n 10 |
        awk '{ d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > most) most = d } END { printf "%.1e", most }'
}

said=
for network in attention lstm gru; do
    train_ok 1 cpu.log $network.toml run.out_dir=$network-cpu
    gpu=("$network.toml" run.device=cuda train.deterministic=true)
    for precision in fp32 tf32 fp16 bf16; do
        train_ok 1 $precision.log "${gpu[@]}" train.precision=$precision run.out_dir=$network-$precision
        said+=" $network $precision $(difference $network-cpu $network-$precision)"
    done
    close_losses $network-cpu $network-fp32 1e-5 10
    close_losses $network-cpu $network-tf32 1e-3 10
    close_losses $network-cpu $network-fp16 1e-3 10
    close_losses $network-cpu $network-bf16 1e-2 10
    train_ok 1 off.log "${gpu[@]}" train.precision=fp16 run.out_dir=$network-off run.capture=off
    same_run $network-fp16 $network-off
    train_ok 1 half.log "${gpu[@]}" train.precision=bf16 run.out_dir=$network-half train.steps=13
    train_ok 1 rest.log "${gpu[@]}" train.precision=bf16 run.out_dir=$network-half
    expect rest.log '^resuming .* at step 13' 1
    sed -i -E '/"eval", "step": 13,/d' $network-half/metrics.jsonl
    same_run $network-bf16 $network-half
done
pass "differs from the CPU by at most:$said"
