#!/usr/bin/env bash
# Text is learnt: by attention and by a recurrent network, by one rank as by two, resumed as if nothing had been; evaluation
# tells perplexity and bits per byte; a network that does not fit the data is refused.
. "$(dirname "$0")/lib.sh"

# Documents of sentences over few words, of uneven length.
awk 'BEGIN { srand(11); split("the a one", d, " "); split("small old grey loud", a, " "); split("dog cat bird fox", n, " ")
    split("sees hears follows", v, " ")
    for (i = 0; i < 1200; i++) {
        printf "%s %s %s %s the %s.%s", d[1 + int(3 * rand())], a[1 + int(4 * rand())], n[1 + int(4 * rand())],
            v[1 + int(3 * rand())], n[1 + int(4 * rand())], rand() < 0.2 ? "\n%%\n" : " "
    } }' >text.txt
train_ok 0 import.log data import text text.txt --separator %% --tokenizer byte --val-fraction 0.1 --out text
expect import.log '^text: [0-9]+ tokens .* of [0-9]{3} documents' 1

# The rest of the configuration; its layers come before it.
settings() {
    cat <<'END'
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
lr = 1e-2
weight_decay = 0.01
[schedule]
kind = "cosine"
warmup_steps = 4
[checkpoint]
every_steps = 5
every_epochs = 0.0
[run]
seed = 3
device = "cpu"
threads = 1
log_every = 5
END
}
words() {
    printf '[model]\nname = "layers"\ntask = "language"\n'
    printf '[[model.layers]]\ntype = "embedding"\nname = "words"\nrows = %d\nchannels = 32\nstd = 0.05\n' "$1"
}
{
    words 257
    cat <<'END'
[[model.layers]]
type = "position"
name = "x0"
[[model.layers]]
type = "layernorm"
[[model.layers]]
type = "attention"
heads = 4
causal = true
dropout = 0.1
with = "segment"
[[model.layers]]
type = "add"
with = "x0"
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
type = "layernorm"
[[model.layers]]
type = "tied"
to = "words"
END
    settings
} >attention.toml
{
    words 257
    printf '[[model.layers]]\ntype = "lstm"\nhidden = 48\n[[model.layers]]\ntype = "dense"\nchannels = 257\n'
    settings
} >lstm.toml

# is CONDITION: of awk.
is() { awk "BEGIN { exit !($1) }" || fail "not so: $1"; }
last() { field "$1" eval "$2" | tail -n 1; }

train_ok 1 one.log attention.toml run.out_dir=one
expect one.log '^data +text/train: [0-9]+ samples, tokens i32 \[48\], label i32 \[48\], segment i32 \[48\], vocabulary of 257' 1
expect one.log 'step 30/30 .*loss [0-9.]+ +perplexity [0-9.]+ '
expect one.log '^evaluation at step 30, .*: loss [0-9.]+, perplexity [0-9.]+, bits per byte [0-9.]+, accuracy [0-9.]+ % \([0-9]+ tokens\)$' 1
is "$(field one train loss | head -n 1) > 5.3 && $(last one loss) < 3" # ln 257 is 5.55
expect one/curves.svg "[Pp]erplexity"
is "sqrt((log($(last one perplexity)) - $(last one loss)) ^ 2) < 1e-6"
# What is told of a byte is of all tokens, also of those that are none.
[ "$(last one n_tokens)" -gt 1000 ] || fail "$(last one n_tokens) tokens were judged"
bits=$(last one bits_per_byte)
is "$bits > $(last one loss) / log(2) && $bits < 1.05 * $(last one loss) / log(2)" # a token is a byte, or an end of none

train_ok 2 two.log attention.toml run.out_dir=two
close_losses one two 1e-4
is "sqrt(($(last one loss) - $(last two loss)) ^ 2) < 1e-4 * $(last one loss)"
[ "$(last one n_tokens)" = "$(last two n_tokens)" ] || fail "two ranks judge other tokens"

cut=''
for try in 1 2 3 4 5; do
    rm -rf killed
    begin 2 "killed-$try.log" attention.toml run.out_dir=killed
    await 20 test -e killed/checkpoints/step-00000005
    kill_job "$job"
    wait "$job" 2>/dev/null || true
    [ "$(field killed train step | tail -n 1)" = 30 ] || cut=1
    [ -z "$cut" ] || break
done
[ -n "$cut" ] || fail "the run was never cut short"
train_ok 2 resumed.log attention.toml run.out_dir=killed
expect resumed.log '^resuming killed/.* at step [0-9]+' 1
same_run two killed
each_step_once killed 30

train_ok 2 eval.log eval attention.toml run.out_dir=two
expect eval.log '^two/checkpoints/step-00000030: step 30, [0-9]+ samples: loss [0-9.]+, perplexity [0-9.]+, bits per byte [0-9.]+, accuracy ' 1
train_ok 1 lstm.log lstm.toml run.out_dir=lstm checkpoint.best_metric=eval_bits_per_byte checkpoint.keep_best=1
is "$(last lstm loss) < 3.2"
grep -q '"metric": "eval_bits_per_byte"' "$(newest lstm)/evaluation.json" || fail "judged by something else"

# Tokens whose text is not known have no bits per byte.
printf '\x01\x00\x02\x00\x03\x00\x02\x00\x01\x00\x05\x00\x01\x00\x02\x00\x03\x00' >ids.bin
train_ok 0 ids.log data import text ids.bin --tokenizer ids:6 --out ids
ids=(data.train=ids data.val=ids data.context=4 data.documents=joined train.micro_batch=1 train.steps=5 train.global_batch=1)
train_ok 1 ids_lstm.log lstm.toml "${ids[@]}" run.out_dir=ids_lstm
expect ids_lstm.log '^evaluation at step 5, .*: loss [0-9.]+, perplexity [0-9.]+, accuracy [0-9.]+ % \(8 tokens\)$' 1
[ "$(records ids_lstm eval | grep -c bits_per_byte || true)" -eq 0 ] || fail "bits of bytes that nobody knows"

# refused LOG CODE TEXT ARGUMENT...: with one line.
refused() {
    local log=$1 want=$2 text=$3
    shift 3
    train 2 "$log" "$@"
    expect_code "$want"
    expect "$log" "^dtrain: .*$text" 1
    expect "$log" '^dtrain: ' 1
}
sed 's/rows = 257/rows = 200/' attention.toml >small.toml
refused small.log 2 'small.toml:[0-9]+: model.layers\[11\], the last layer, gives 200 logits a place, but the data.s vocabulary is of 257' small.toml
sed 's/rows = 257/rows = 200/' lstm.toml >rows.toml
refused rows.log 2 'text/train: tokens are from 0 to 256, but "words.weight" has 200 rows' rows.toml
sed 's/^type = "position"/&\nrows = 32/' attention.toml >short.toml
refused short.log 2 'its input has 48 steps, but there are 32 positions: more rows, or a shorter context of the text' short.toml
sed 's/^type = "lstm"/&\nlast = true/' lstm.toml >flat.toml
refused flat.log 2 'expected logits for each place' flat.toml
refused bits.log 2 'ids does not say how many bytes' lstm.toml "${ids[@]}" train.global_batch=2 checkpoint.best_metric=eval_bits_per_byte
refused images.log 2 'learns text, and the data are images' lstm.toml data.train=data/train data.val=
# What does not fit a built-in network is told in the words of its keys.
{
    printf '[model]\nname = "gpt2"\ntask = "language"\nblocks = 1\nchannels = 32\nheads = 2\n'
    settings
} >gpt2.toml
sed -E '/^(blocks|channels|heads) /d; s/gpt2/vit_tiny_patch16/' gpt2.toml >vit.toml
refused positions.log 2 'model.positions = 32, but its input has 48 steps: set as many or more, or a shorter data.context' gpt2.toml \
    model.positions=32
refused heads.log 2 'model.heads: 3 heads do not divide model.channels = 32' gpt2.toml model.heads=3
refused vocab.log 2 "model.vocab = 100, but the data.s vocabulary is of 257" gpt2.toml model.vocab=100
refused micro.log 2 'train.micro_batch: 3 is larger than the 2 samples of data.context = 48 that train.global_tokens = 96 are' gpt2.toml \
    train.global_tokens=96 train.micro_batch=3
for task in classify language; do
    refused vit.log 2 'model vit_tiny_patch16: it reads images or rows of numbers, and the data is text' vit.toml model.task=$task
done
refused tokens.log 2 'model gpt2: it reads tokens, and the data are images' gpt2.toml data.train=data/train data.val=
pass "text is learnt"
