#!/usr/bin/env bash
# kinds.sh KIND...: of each kind of run, killed by kill -9 on two ranks and resumed there it is the run that nobody disturbed, bit
# for bit; begun on two ranks and resumed on one it is the same but for rounding.
. "$(dirname "$0")/lib.sh"

awk 'BEGIN { srand(3); n = split("the quick brown fox jumps over a lazy dog and then it sleeps in its den", w, " ")
    for (i = 0; i < 90; i++) { for (j = 0; j < 12; j++) printf "%s ", w[1 + int(n * rand())]; print "." } }' >book.txt
train_ok 0 import.log data import text book.txt --tokenizer byte --val-fraction 0.2 --out text

# kind_of NAME: [model] and what else is its own. 24 steps, a checkpoint every 4.
kind_of() {
    local batch='global_batch = 16' images='[data]
train = "data/small"
val = "data/small"'
    local text='task = "language"
[data]
train = "text/train"
val = "text/val"
context = 24'
    case $1 in
    gpt2) printf '[model]\nname = "gpt2"\nblocks = 1\nchannels = 32\nheads = 2\ndropout = 0.1\n%s\n[train]\nema = 0.9\n' "$text" ;;
    lstm) printf '[model]\nname = "lstm_lm"\nblocks = 1\nchannels = 24\nhidden = 24\ndropout = 0.2\n%s\n[train]\n' "$text" ;;
    tokens)
        batch='global_tokens = 384'
        printf '[model]\nname = "gru_lm"\nblocks = 1\nchannels = 24\nhidden = 24\n%s\n[train]\n' "$text"
        ;;
    vit)
        printf '[model]\nname = "layers"\n'
        printf '[[model.layers]]\ntype = "%s"\n%s\n' conv $'channels = 32\nkernel = 4\nstride = 4\npad = 0' reshape 'shape = [16, 32]' \
            position 'name = "x"' layernorm '' attention 'heads = 2' drop_path 'rate = 0.1' add 'with = "x"' mean 'axis = 1' \
            dense 'channels = 4'
        printf '%s\n[augment]\ncrop = "random_resized"\nbrightness = 0.3\nerase = 0.3\nmixup = 0.2\ncutmix = 1.0\n' "$images"
        printf '[train]\nema = 0.9\nlabel_smoothing = 0.1\n'
        ;;
    tabular | multilabel)
        local fields='x:f32[12] y:f32[1]' task=regress outputs=1
        [ "$1" = tabular ] || fields='x:f32[12] target:i32[5]' task=multilabel outputs=5
        printf '[model]\nname = "layers"\ntask = "%s"\n' $task
        printf '[[model.layers]]\ntype = "%s"\n%s\n' dense 'channels = 24' batchnorm '' relu '' dropout 'rate = 0.2' dense "channels = $outputs"
        printf '[data]\ntrain = "synthetic"\nval = "synthetic"\nsynthetic_samples = 200\nsynthetic_classes = 2\nsynthetic_fields = "%s"\n[train]\n' "$fields"
        ;;
    lora)
        printf '[model]\nname = "gpt2"\nblocks = 1\nchannels = 32\nheads = 2\ninit_from = "base"\n%s\n' "$text"
        printf '[lora]\nrank = 4\ndropout = 0.1\n[train]\n'
        ;;
    esac
    printf '%s\nmicro_batch = 4\nsteps = 24\neval_every_epochs = 0\n' "$batch"
    printf '[optim]\nkind = "adamw"\nlr = 5e-3\n[schedule]\nkind = "constant"\n[checkpoint]\nevery_steps = 4\nevery_epochs = 0.0\n'
    printf '[run]\nseed = 5\ndevice = "cpu"\nthreads = 1\nlog_every = 8\n'
}

check_kind() {
    local kind=$1 cut='' try
    kind_of "$kind" >"$kind.toml"
    train_ok 2 "$kind.log" "$kind.toml" run.out_dir="$kind"
    for try in 1 2 3 4 5 6; do
        rm -rf "$kind.killed"
        begin 2 "$kind.killed-$try.log" "$kind.toml" run.out_dir="$kind.killed"
        await 20 test -e "$kind.killed/checkpoints/step-00000004"
        kill_job "$job"
        wait "$job" 2>/dev/null || true
        [ "$(field "$kind.killed" train step | tail -n 1)" = 24 ] || cut=1
        [ -z "$cut" ] || break
    done
    [ -n "$cut" ] || fail "$kind: the run was never cut short"
    train_ok 2 "$kind.resumed.log" "$kind.toml" run.out_dir="$kind.killed"
    expect "$kind.resumed.log" '^resuming .* at step' 1
    same_run "$kind" "$kind.killed"
    each_step_once "$kind.killed" 24
    train_ok 2 "$kind.half.log" "$kind.toml" run.out_dir="$kind.on_1" train.steps=8
    train_ok 1 "$kind.on_1.log" "$kind.toml" run.out_dir="$kind.on_1"
    expect "$kind.on_1.log" '^resuming .* at step 8' 1
    each_step_once "$kind.on_1" 24
    close_losses "$kind" "$kind.on_1" 1e-4
}

kind_of gpt2 >base_net.toml
for kind in "$@"; do
    [ "$kind" != lora ] || train_ok 1 base.log base_net.toml run.out_dir=base train.steps=4 train.ema=0
    check_kind "$kind"
done
pass "$*: killed, resumed, and on another number of ranks"
