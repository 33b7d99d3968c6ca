#!/usr/bin/env bash
# Text with hidden words and text with classes are learnt: by one rank as by two, resumed as if nothing had been. Classes come
# from JSON lines or directories and keep their labels over sets; what does not fit is refused.
. "$(dirname "$0")/lib.sh"

# Reviews: a word of theirs says their class, "plain" have none of these words.
awk 'BEGIN { srand(7); n = split("the a film book was very it seemed to be", w, " ")
    split("good great fine", w1, " "); split("bad poor sad", w2, " "); split("liked disliked plain", c, " ")
    for (i = 0; i < 360; i++) {
        k = 1 + i % 3; text = ""; at = int(5 * rand())
        for (j = 0; j < 4 + int(5 * rand()); j++)
            text = text (j == at && k < 3 ? (k == 1 ? w1[1 + int(3 * rand())] : w2[1 + int(3 * rand())]) : w[1 + int(n * rand())]) " "
        printf "{\"text\": \"%s\", \"kind\": \"%s\"}\n", text, c[k]
    } }' >docs.jsonl
mkdir -p folder/{liked,plain}
printf 'a good book' >folder/liked/1.txt
printf 'it was a great film' >folder/liked/2.txt
printf 'a book' >folder/plain/1.txt

train_ok 0 import.log data import text docs.jsonl --label kind --tokenizer byte --val-fraction 0.2 --out text
expect import.log '^text: [0-9]+ tokens .* of 360 documents in 3 classes' 1
train_ok 0 again.log data import text docs.jsonl --label kind --tokenizer byte --val-fraction 0.2 --out text
expect again.log 'is finished already: kept' 2
train_ok 0 folder.log data import text folder --tokenizer byte --class-names text/train --split val --out folder_set
expect folder.log '^folder_set: 39 tokens of 3 documents in 3 classes' 1
train_ok 0 info.log data info text/val
expect info.log '^classes +3$' 1
train_ok 0 verify.log data verify text/train

# settings EXTRA: the rest of a configuration.
settings() {
    cat <<END
[data]
train = "text/train"
val = "text/val"
context = 40
$1
[train]
global_batch = 24
micro_batch = 12
steps = 24
eval_every_epochs = 0
[optim]
kind = "adamw"
lr = 2e-2
[schedule]
kind = "constant"
[checkpoint]
every_steps = 6
every_epochs = 0.0
[run]
seed = 3
device = "cpu"
threads = 1
log_every = 5
END
}
{
    printf '[model]\nname = "lstm_classifier"\ntask = "classify"\nchannels = 24\nhidden = 24\n'
    settings ''
} >classify.toml
{
    printf '[model]\nname = "bert_tiny"\ntask = "masked_language"\nblocks = 1\nchannels = 32\nheads = 2\nvocab = 260\n'
    settings 'mask_share = 0.3'
} >masked.toml

last() { field "$1" eval "$2" | tail -n 1; }
is() { awk "BEGIN { exit !($1) }" || fail "not so: $1"; }

# both NAME: one rank, two, and two that were killed and go on.
both() {
    local name=$1 cut='' try
    train_ok 1 "$name.one.log" "$name.toml" run.out_dir="$name.one"
    train_ok 2 "$name.two.log" "$name.toml" run.out_dir="$name.two"
    close_losses "$name.one" "$name.two" 1e-4
    is "sqrt(($(last "$name.one" loss) - $(last "$name.two" loss)) ^ 2) < 1e-4 * $(last "$name.one" loss)"
    for try in 1 2 3 4 5; do
        rm -rf "$name.killed"
        begin 2 "$name.killed-$try.log" "$name.toml" run.out_dir="$name.killed"
        await 20 test -e "$name.killed/checkpoints/step-00000006"
        kill_job "$job"
        wait "$job" 2>/dev/null || true
        [ "$(field "$name.killed" train step | tail -n 1)" = 24 ] || cut=1
        [ -z "$cut" ] || break
    done
    [ -n "$cut" ] || fail "$name: the run was never cut short"
    train_ok 2 "$name.resumed.log" "$name.toml" run.out_dir="$name.killed"
    same_run "$name.two" "$name.killed"
    each_step_once "$name.killed" 24
}
both classify
expect classify.one.log '^data +text/train: [0-9]+ samples, tokens i32 \[40\], label i32 \[\], lengths i32 \[\], vocabulary of 257' 1
expect classify.one.log '^evaluation at step 24, .*: loss [0-9.]+, top-1 [0-9.]+ %'
is "$(field classify.one train loss | head -n 1) > 0.9 && $(last classify.one loss) < 0.9"
train_ok 1 report.log eval classify.toml run.out_dir=classify.one --report report
expect report/classes.csv '^[012],(liked|disliked|plain),'  3
# Lines of a file are told apart as the documents of a set are: what eval counts is what predict says.
"$DTRAIN" data import text docs.jsonl --label kind --tokenizer text/train --class-names text/train --out all >all.log 2>&1 || fail "import"
train_ok 0 all.log eval classify.toml run.out_dir=classify.one data.val=all
sed -E 's/.*"text": "([^"]*)".*/\1/' docs.jsonl >lines.txt
for ranks in 1 3; do
    OUT=said.$ranks.csv through predict.log "$MPIRUN" -np "$ranks" "$DTRAIN" predict classify.toml run.out_dir=classify.one lines.txt --format csv
    expect_code 0
done
cmp said.1.csv said.3.csv || fail "three ranks say other classes"
# What is no text has no class.
gzip -k lines.txt && printf 'fine\n\0\n' >zero.txt
for row in 'lines.txt.gz|it is packed' 'docs.jsonl|objects of JSON' 'zero.txt|line 2 has a byte of 0' '/dev/zero|no regular file' 'text|a directory'; do
    OUT=none.csv through predict.log "$DTRAIN" predict classify.toml run.out_dir=classify.one "${row%|*}" --format csv
    expect_code 3
    expect predict.log "${row#*|}"
done
right=$(paste -d, <(tail -n +2 said.1.csv) <(sed -E 's/.*"kind": "([^"]*)".*/\1/' docs.jsonl) | awk -F, '{ for (i = 1; i < NF; i++) if ($i == $NF) { n++; break } } END { printf "%.2f", 100 * n / NR }')
expect all.log "top-1 $right %" 1
train_ok 1 other.log eval classify.toml run.out_dir=classify.one data.val=folder_set
expect other.log ' 3 samples: loss '

both masked
expect masked.one.log '^data +.* label i32 \[40\], vocabulary of 258' 1
expect masked.one.log '^evaluation at step 24, .*: loss [0-9.]+, perplexity [0-9.]+, accuracy [0-9.]+ % \([0-9]+ tokens\)$' 1
# Of the validation set's tokens that are no ends about the share was asked for, each time the same ones.
tokens=$(sed -nE 's/.*\([0-9]+ in train, ([0-9]+) in val\).*/\1/p' import.log | head -n 1)
is "$(last masked.one n_tokens) > 0.25 * $tokens && $(last masked.one n_tokens) < 0.35 * $tokens"
[ "$(last masked.one n_tokens)" = "$(last masked.two n_tokens)" ] || fail "two ranks judge other tokens"
train_ok 1 seed.log masked.toml run.out_dir=seed run.seed=4 train.steps=2
[ "$(last seed n_tokens)" = "$(last masked.one n_tokens)" ] || fail "another seed evaluates other tokens"
! diff <(records seed train) <(records masked.one train | head -n 2) >/dev/null || fail "another seed hides the same"

# A classifier begins with what hidden words have taught: the encoder is taken, pooler and head are drawn.
sed 's/^task = .*/task = "classify"/; /mask_share/d' masked.toml >tuned.toml
tuned="run.out_dir=tuned model.init_from=masked.one model.init_head=new optim.lr=5e-3"
# shellcheck disable=SC2086
{
    train 1 strict.log tuned.toml $tuned
    expect_code 2
    expect strict.log 'missing \(2\): bert.pooler.dense.weight, bert.pooler.dense.bias; .*model.init_strict = false' 1
    train_ok 1 tuned.log tuned.toml $tuned model.init_strict=false
}
expect tuned.log '^weights 21 of 25 from masked.one.*; drawn anew: .*bert.pooler.dense.weight, .*classifier.weight' 1
expect tuned.log '^evaluation at step 24, .*: loss [0-9.]+, top-1 [0-9.]+ %' 1

# Labels are left aside where the text is a stream; a batch in tokens.
sed '/mask_share/d; s/^global_batch.*/global_tokens = 480/' masked.toml >stream.toml
train_ok 1 stream.log stream.toml model.name=gpt2 model.task=language train.micro_batch=6 train.steps=2
expect stream.log '^batch +12 = 2 micro-batches of 6, 480 tokens' 1

# refused LOG CODE TEXT ARGUMENT...: with one line.
refused() {
    local log=$1 want=$2 text=$3
    shift 3
    train 0 "$log" "$@"
    expect_code "$want"
    expect "$log" "^dtrain: .*$text" 1
}
printf '{"text": "a", "kind": "new"}\n' >new.jsonl
refused unknown.log 3 'new.jsonl:1: class "new" is not in the list of --class-names' data import text new.jsonl --label kind --tokenizer byte --class-names text/train --out never
refused missing.log 3 'no object with a class in "kinds"' data import text docs.jsonl --label kinds --tokenizer byte --out never
refused plain.log 2 'label names a field of JSON lines' data import text folder/liked/1.txt --label kind --tokenizer byte --out never
refused mixed.log 2 'no files beside it' data import text folder docs.jsonl --tokenizer byte --out never
refused names.log 2 'class-names is for text with classes' data import text docs.jsonl --class-names text/train --tokenizer byte --out never
train_ok 0 unlabelled.log data import text docs.jsonl --tokenizer byte --out bare
refused bare.log 2 'the text has no classes: import it with --label' classify.toml data.train=bare data.val=
refused task.log 2 'it is for model.task = "language", and that is "masked_language"' masked.toml model.name=gpt2
refused vocab.log 2 'model.vocab = 200, but the data.s vocabulary is of 258' masked.toml model.vocab=200
refused tokens.log 2 'train.global_tokens: 100 is no multiple of data.context = 40' masked.toml train.global_tokens=100
refused images.log 2 'it reads tokens, and the data are images' masked.toml data.train=data/train data.val=
pass "hidden words and classes of texts are learnt"
