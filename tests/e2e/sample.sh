#!/usr/bin/env bash
# A trained network goes on with texts: the same for one thread as for two, for a prompt alone as among others, with the
# cache and without; it stops where documents end; what cannot be is refused in one line.
. "$(dirname "$0")/lib.sh"
. "$E2E_SOURCE/sample_nets.sh"

for net in attention lstm; do
    train_ok 0 "$net.log" $net.toml run.out_dir=$net
    [ "$net" = attention ] && room=44 || room=300
    "$DTRAIN" sample $net --prompt 'the ' --tokens $room --seed 9 --no-stop >one.txt 2>note.log
    expect note.log "^dtrain: weights of $net/checkpoints/step-00000040, step 40$" 1
    expect note.log "^dtrain: $room tokens in [0-9.]+ s, [0-9.]+k? tokens/s$" 1
    [ "$(head -c 4 one.txt)" = 'the ' ] || fail "$net: the prompt is not there"
    for how in 'run.threads=2' '--no-cache' '--batch 7'; do
        # shellcheck disable=SC2086
        "$DTRAIN" sample $net --prompt 'the ' --tokens $room --seed 9 --no-stop $how >other.txt 2>/dev/null
        cmp one.txt other.txt || fail "$net: another text with $how"
    done
    "$DTRAIN" sample $net --prompt 'the ' --tokens $room --seed 10 --no-stop >other.txt 2>/dev/null
    ! cmp -s one.txt other.txt || fail "$net: the same text of another seed"

    # A batch of prompts is the prompts, in their order.
    printf 'the old dog\na\n\none grey fox sees\n' >prompts.txt
    "$DTRAIN" sample $net --prompts prompts.txt --tokens 20 --samples 2 --json >batch.jsonl 2>/dev/null
    "$DTRAIN" sample $net --prompts prompts.txt --tokens 20 --samples 2 >batch.txt 2>/dev/null
    while IFS= read -r prompt; do
        "$DTRAIN" sample $net --prompt "$prompt" --tokens 20 --samples 2 --json 2>/dev/null
    done <prompts.txt >single.jsonl
    cmp batch.jsonl single.jsonl || fail "$net: prompts in a batch give other texts"
    [ "$(grep -c '^{"prompt": ' batch.jsonl)" = 8 ] || fail "$net: not eight texts"
    [ "$(grep -c '^---$' batch.txt)" = 7 ] || fail "$net: texts are not told apart"
    grep -q '"end": "stop"' batch.jsonl || [ "$net" = lstm ] || fail "no text has stopped"
    ! grep -q '"tokens": \[[^]]*256' batch.jsonl || fail "the end is among the tokens"

    # The likeliest, whatever the seed.
    "$DTRAIN" sample $net --temperature 0 --tokens 20 --seed 1 >one.txt 2>/dev/null
    "$DTRAIN" sample $net/checkpoints/step-00000040 --temperature 0 --tokens 20 --seed 2 >other.txt 2>/dev/null
    cmp one.txt other.txt || fail "$net: the likeliest text depends on the seed"
    "$DTRAIN" sample $net.toml run.out_dir=$net --top-k 1 --tokens 20 --seed 2 >other.txt 2>/dev/null
    cmp one.txt other.txt || fail "$net: the first of one is not the likeliest"

    # Prompts of any bytes.
    "$DTRAIN" sample $net --prompt $'\xff\xc3(\xf0\x9f' --tokens 9 --json >bad.jsonl 2>/dev/null
    iconv -f utf-8 -t utf-8 bad.jsonl >/dev/null || fail "$net: JSON is not UTF-8"
    printf 'a\0b\n' >nul.txt
    "$DTRAIN" sample $net --prompts nul.txt --tokens 3 --json >nul.jsonl 2>/dev/null
    expect nul.jsonl '^{"prompt": "a\\u0000b"' 1
done
# The set may be gone.
mv text away
train_ok 0 gone.log sample attention --tokens 5
mv away text
long=$(printf 'word %.0s' $(seq 40))
# refused LOG CODE TEXT ARGUMENT...
refused() {
    local log=$1 want=$2 text=$3
    shift 3
    train 0 "$log" "$@"
    expect_code "$want"
    expect "$log" "^dtrain: .*$text" 1
    [ "$(grep -c '^dtrain: ' "$log")" -le 2 ] || fail "$log: more than the weights and the error"
}
refused long.log 2 '200 tokens of prompt and 5 more are more than the 48 that the network sees at once' sample attention --prompt "$long" --tokens 5
refused huge.log 2 '1 tokens of prompt and 1000000000 more' sample attention --tokens 1000000000
refused nothing.log 2 'tokens 0: expected a whole number from 1' sample attention --tokens 0
refused more.log 2 "expected .*1073741824" sample attention --tokens 99999999999
train_ok 0 window.log sample attention --prompt "$long" --tokens 60 --window --no-stop
train_ok 0 lstm_long.log sample lstm --prompt "$long" --tokens 60
refused nobody.log 2 'nobody' sample nobody
mkdir empty
refused empty.log 4 'empty is neither a run nor a checkpoint' sample empty
refused both.log 2 'not both' sample lstm --prompt a --prompts prompts.txt
refused number.log 2 'temperature warm: expected a number' sample lstm --temperature warm
refused part.log 2 'a part of 2 of all probability' sample lstm --top-p 2
refused file.log 3 'none.txt: No such file' sample lstm --prompts none.txt
: >none.txt
refused none.log 3 'none.txt: no prompt is in it' sample lstm --prompts none.txt
printf 'a\n%s\n' "$long" >second.txt
refused second.log 2 'prompt 2: 200 tokens' sample attention --prompts second.txt --tokens 3
cp -r lstm broken
for f in broken/checkpoints/*/state.h5; do printf x | dd of="$f" bs=1 seek=2000 conv=notrunc status=none; done
train 0 broken.log sample broken
expect_code 4
expect broken.log 'broken/checkpoints/step-00000040'
train 2 ranks.log sample lstm
expect_code 2
expect ranks.log 'sample is for one rank'
# What looks ahead cannot go on.
sed 's/^causal = true$/causal = false/' attention.toml >ahead.toml
train_ok 0 ahead.log ahead.toml run.out_dir=ahead train.steps=6
refused ahead.1.log 2 'not causal.*cannot go on with a text' sample ahead
pass "texts go on"
