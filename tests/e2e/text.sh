#!/usr/bin/env bash
# Text becomes tokens with a tokenizer that is learnt, read or borrowed; what the files are is found out; sets are shown,
# verified, and refused where they do not fit together.
. "$(dirname "$0")/lib.sh"

# made LOG ARGUMENT...
made() {
    local log=$1
    shift
    train_ok 0 "$log" data import text "$@"
}
# refused LOG CODE TEXT ARGUMENT...
refused() {
    local log=$1 want=$2 text=$3
    shift 3
    train 0 "$log" data import text "$@"
    expect_code "$want"
    expect "$log" "$text" 1
}
golden=$E2E_SOURCE/../golden

made bpe.log "$golden/tokens_text.txt" --tokenizer bpe:364 --val-fraction 0.1 --out bpe
expect bpe.log '^bpe: [0-9]+ tokens \([0-9]+ in train, [0-9]+ in val\) of 2 documents, 31.9 KiB of text, [0-9.]+ bytes a token, in 2 shards' 1
train_ok 0 info.log data info bpe/val
expect info.log '^kind +tokens, u16' 1
expect info.log '^tokenizer bpe, 364 tokens, end 363, ' 1
expect info.log '^begins +[[:alnum:]]' 1
train_ok 0 verify.log data verify bpe/train
expect verify.log 'all sound' 1
made again.log "$golden/tokens_text.txt" --tokenizer bpe:364 --val-fraction 0.1 --out bpe
expect again.log 'is finished already: kept' 2

# The same merges from a file give the same tokens as those that were learnt of all of the text.
made all.log "$golden/tokens_text.txt" --tokenizer bpe:364 --out all
made gpt2.log "$golden/tokens_text.txt" --tokenizer "gpt2:$golden/tokens_merges.txt" --out gpt2
[ "$(grep xxh3 all/index.json | head -n 1)" = "$(grep xxh3 gpt2/index.json | head -n 1)" ] || fail "other merges than in the file"

printf '{"body": "one"}\n{"body": "two"}\n' | gzip >docs.jsonl.gz
made lines.log docs.jsonl.gz --field body --tokenizer byte --out lines
expect lines.log '^lines: 8 tokens of 2 documents, 6 bytes of text, 0.75 bytes a token, in 1 shard' 1
printf 'one\n%%%%\ntwo\n' >sep.txt
made sep.log sep.txt --separator %% --tokenizer char --out sep
expect sep.log '^sep: 10 tokens of 2 documents' 1
made borrowed.log sep.txt --tokenizer bpe/train --split val --out borrowed

printf '\x01\x00\x02\x00\x63\x00' >nano.bin
made nano.log nano.bin --tokenizer ids:100:99 --out nano
expect nano.log '^nano: 3 tokens of 1 document, in 1 shard' 1

refused none.log 2 'tokenizer is missing: byte, char, bpe:N' sep.txt --out never
refused words.log 2 'tokenizer words: expected byte, char, bpe:N' sep.txt --tokenizer words --out never
printf '{"text": "one"}\n{"text": 2}\n' >bad.jsonl
refused line.log 3 'bad.jsonl:2: no object with a string "text"' bad.jsonl --tokenizer byte --out never
head -c 40 docs.jsonl.gz >cut.jsonl.gz
refused cut.log 3 'cut.jsonl.gz: gzip data is damaged: it is cut short' cut.jsonl.gz --field body --tokenizer byte --out never
printf 't h\nq\n' >merges.txt
refused merges.log 3 'merges.txt:2: not two tokens' sep.txt --tokenizer gpt2:merges.txt --out never
refused fit.log 2 'option resize is for folder only' sep.txt --tokenizer byte --resize 8 --out never
refused other.log 2 'was imported from something else or with other options' "$golden/tokens_text.txt" --tokenizer bpe:300 --out all
[ ! -e never/index.json ] || fail "a refused import made a data set"

# ---- a run on them ----
cat >run.toml <<'END'
[data]
train = "bpe/train"
val = "sep"
context = 16
[model]
name = "layers"
task = "regress"
[[model.layers]]
type = "dense"
channels = 1
[train]
global_batch = 4
micro_batch = 4
epochs = 1
[optim]
lr = 0.1
[run]
device = "cpu"
END
train 0 tokenizers.log run.toml
expect_code 3
expect tokenizers.log 'bpe/train \(bpe, 364 tokens\) and sep \(char, 257 tokens\) were made by different tokenizers' 1
train 0 images.log run.toml data.val=data/val
expect_code 3
expect images.log 'holds tokens, data/val holds images' 1
pass "text becomes tokens"
