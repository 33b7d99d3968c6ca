#!/usr/bin/env bash
# Samples while a run trains disturb nothing and are the same after a kill; questions with several endings are scored by the
# sum and by the mean; networks of the table go on with texts, too.
. "$(dirname "$0")/lib.sh"
. "$E2E_SOURCE/sample_nets.sh"

for net in attention lstm; do train_ok 0 "$net.log" $net.toml run.out_dir=$net; done
long=$(printf 'word %.0s' $(seq 40))
sed 's/^causal = true$/causal = false/' attention.toml >ahead.toml
# refused LOG CODE TEXT ARGUMENT...
refused() {
    local log=$1 want=$2 text=$3
    shift 3
    train 0 "$log" "$@"
    expect_code "$want"
    expect "$log" "^dtrain: .*$text" 1
    [ "$(grep -c '^dtrain: ' "$log")" -le 2 ] || fail "$log: more than the weights and the error"
}
sampled=(train.sample_every_steps=10 train.sample_prompt="the " train.sample_tokens=20 train.ema=0.9 train.micro_batch=8 checkpoint.every_steps=5)
samples() { grep -a '^{"kind": "sample"' "$1/metrics.jsonl"; }
train_ok 0 plain.log attention.toml run.out_dir=plain train.ema=0.9 train.micro_batch=8 checkpoint.every_steps=5
train_ok 0 one.log attention.toml run.out_dir=one "${sampled[@]}"
train_ok 2 two.log attention.toml run.out_dir=two "${sampled[@]}"
same_run plain one
expect one.log '^sample at step [1-4]0: the ' 4
[ "$(samples one | grep -c '"prompt": "the ", "text": ".*", "n_tokens": ')" = 4 ] || fail "not four records of samples"
[ "$(samples one | cut -c 1-60 | head -n 1)" = "$(samples two | cut -c 1-60 | head -n 1)" ] || fail "two ranks tell another sample"
[ "$(grep -ac sample two/events.*)" -ge 1 ] || fail "TensorBoard has no sample"
begin 2 killed.log attention.toml run.out_dir=killed "${sampled[@]}"
await 20 test -e killed/checkpoints/step-00000005
kill_job "$job"
wait "$job" 2>/dev/null || true
train_ok 2 resumed.log attention.toml run.out_dir=killed "${sampled[@]}"
same_run two killed
samples two >one.txt
samples killed >other.txt
cmp one.txt other.txt || fail "a run that was killed has other samples"
# One that is due at the step to resume at is made up.
train_ok 0 half.log attention.toml run.out_dir=half "${sampled[@]}" train.steps=20 schedule.kind=constant
sed -i '/^{"kind": "sample", "step": 20,/d' half/metrics.jsonl
train_ok 0 half.1.log attention.toml run.out_dir=half "${sampled[@]}" train.steps=20 schedule.kind=constant
expect half.1.log '^sample at step 20: the ' 1
[ "$(samples half | wc -l)" = 2 ] || fail "a sample that was lost is not made up"
refused room.log 2 'train.sample_every_steps: 4 tokens of prompt and 48 more' attention.toml run.out_dir=room train.sample_every_steps=5 \
    'train.sample_prompt=the '
refused ahead.2.log 2 'train.sample_every_steps: .*not causal' ahead.toml run.out_dir=ahead.2 train.sample_every_steps=5

# Networks of the table, small.
{
    printf '[model]\ntask = "language"\nvocab = 257\nblocks = 2\nchannels = 32\n'
    settings
} >table.toml
for net in 'gpt2 model.heads=4' 'llama_15m model.heads=4 model.kv_heads=2' lstm_lm gru_lm; do
    read -r -a words <<<"$net"
    train_ok 0 "${words[0]}.log" table.toml "model.name=${words[0]}" "${words[@]:1}" "run.out_dir=${words[0]}" train.steps=6
    "$DTRAIN" sample "${words[0]}" --prompt 'a cat' --tokens 40 --no-stop >one.txt 2>/dev/null
    "$DTRAIN" sample "${words[0]}" --prompt 'a cat' --tokens 40 --no-stop --no-cache >other.txt 2>/dev/null
    cmp one.txt other.txt || fail "${words[0]}: another text without the cache"
done

# Questions: the one ending that such texts have is the likeliest; a longer one is never likelier as a whole, and may be by its tokens.
ask() { # LABEL ENDINGS
    for i in 1 2 3 4 5 6 7; do printf '{"ctx": "the old dog sees the", "endings": %s, "label": %d, "ind": %d}\n' "$2" "$1" $i; done
}
ask 1 '["zqxw", "cat.", "qqqqq"]' >right.jsonl
ask 0 '["zqxw", "cat.", "qqqqq"]' >wrong.jsonl
ask 0 '["z", "z the old dog sees the dog"]' >first.jsonl
for ranks in 0 2; do
    train_ok $ranks right.log eval attention.toml run.out_dir=attention --choices right.jsonl
    expect right.log '^attention/checkpoints/step-00000040: step 40, 7 questions of right.jsonl: right by the sum 100.00 %, by the mean of a token 100.00 %$' 1
    train_ok $ranks wrong.log eval attention.toml run.out_dir=attention --choices wrong.jsonl
    expect wrong.log 'right by the sum 0.00 %, by the mean of a token 0.00 %$' 1
    train_ok $ranks first.log eval lstm.toml run.out_dir=lstm --choices first.jsonl
    expect first.log 'right by the sum 100.00 %, by the mean of a token 0.00 %$' 1
done
printf '{"ctx": "%s the old dog sees the", "endings": ["zqxw", "cat."], "label": 1}\n' "$long" >cut.jsonl
train_ok 0 cut.log eval attention.toml run.out_dir=attention --choices cut.jsonl
expect cut.log '^of 1 question the context was too long for the network: its end was looked at$' 1
printf '{"ctx": "the", "endings": ["cat.", "%s"], "label": 1}\n' "$long" >long.jsonl
refused long.1.log 3 'question 1: an ending of 201 tokens' eval attention.toml run.out_dir=attention --choices long.jsonl
printf '{"ctx": "the", "endings": ["cat."], "label": 1}\n' >bad.jsonl
refused bad.log 3 'bad.jsonl:1: .*2 to 16' eval attention.toml run.out_dir=attention --choices bad.jsonl
refused either.log 2 'one of them' eval attention.toml run.out_dir=attention --choices right.jsonl --report report
pass "samples and questions"
