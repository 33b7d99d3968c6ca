# shellcheck shell=bash
# Shared by the tests of sampling; sourced after lib.sh: a small text, and the configurations of two networks.
awk 'BEGIN { srand(5); split("the a one", d, " "); split("small old grey loud", a, " "); split("dog cat bird fox", n, " ")
    for (i = 0; i < 900; i++)
        printf "%s %s %s sees the %s.%s", d[1 + int(3 * rand())], a[1 + int(4 * rand())], n[1 + int(4 * rand())],
            n[1 + int(4 * rand())], rand() < 0.4 ? " öä\n%%\n" : " " }' >text.txt
train_ok 0 import.log data import text text.txt --separator %% --tokenizer byte --val-fraction 0.1 --out text
head_of() {
    printf '[model]\nname = "layers"\ntask = "language"\n'
    printf '[[model.layers]]\ntype = "embedding"\nname = "words"\nrows = 260\nchannels = 32\nstd = 0.05\n'
}
settings() {
    cat <<'END'
[data]
train = "text/train"
val = "text/val"
context = 48
documents = "isolated"
[train]
global_batch = 16
micro_batch = 16
steps = 40
eval_every_epochs = 0
[optim]
kind = "adamw"
lr = 1e-2
[schedule]
kind = "cosine"
warmup_steps = 4
[checkpoint]
every_steps = 20
every_epochs = 0.0
[run]
seed = 3
device = "cpu"
threads = 1
END
}
{
    head_of
    cat <<'END'
[[model.layers]]
type = "attention"
heads = 4
kv_heads = 2
causal = true
rotary = true
qk_norm = true
with = "segment"
[[model.layers]]
type = "add"
with = "words"
name = "x1"
[[model.layers]]
type = "layernorm"
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
[[model.layers]]
type = "tied"
to = "words"
END
    settings
} >attention.toml
{
    head_of
    printf '[[model.layers]]\ntype = "lstm"\nhidden = 40\nlayers = 2\n[[model.layers]]\ntype = "dense"\nchannels = 260\n'
    settings
} >lstm.toml
