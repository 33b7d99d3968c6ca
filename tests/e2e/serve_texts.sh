#!/usr/bin/env bash
# Texts over HTTP: those of dtrain sample, alone and among others that come and go; one event a token; stop texts; what is
# refused; clients that vanish give up their place; a full queue; the end.
. "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "needs curl"
. "$E2E_SOURCE/sample_nets.sh"

serve() {
    start "$@"
    server=$job
    await 20 grep -q '^ready at ' "$1"
    url=$(sed -n 's/^ready at //p' "$1")
}
ask() { status=$(curl -s -S -N -m "$(seconds 60)" -o answer -w '%{http_code}' "$@" 2>curl.log) || status=000; }
want() {
    [ "$status" = "$1" ] || fail "status $status, want $1: $(head -c 300 answer)"
    [ $# -lt 2 ] || grep -q -- "$2" answer || fail "no \"$2\" in $(head -c 500 answer)"
}
# sampled NET PROMPT TOKENS SEED: the text by dtrain sample, without its prompt, as JSON has it.
sampled() {
    "$DTRAIN" sample "$1" --prompt "$2" --tokens "$3" --seed "$4" --json 2>/dev/null | sed 's/.*"text": \("\(\\.\|[^"\\]\)*"\), "prompt_tokens.*/\1/'
}
# body PROMPT TOKENS SEED
body() { printf '{"text_input":"%s","parameters":{"max_tokens":%d,"seed":%d}}' "$@"; }
text_of() { sed 's/.*"text_output":\("\(\\.\|[^"\\]\)*"\).*/\1/' "$1"; }

for net in attention lstm; do train_ok 0 "$net.log" $net.toml run.out_dir=$net; done
serve serve.log "$DTRAIN" serve --model attention=attention lstm=lstm --port 0 --texts 4 --queue 40
ask "$url/v2" && want 200 '"generate"'

for net in attention lstm; do
    for seed in 3 4; do
        [ $seed = 3 ] && prompt='the old ' || prompt='the old fox sees the grey dog, and' # more than a chunk
        [ $seed = 3 ] && n=25 || n=9
        sampled $net "$prompt" $n $seed >want.json
        ask -d "$(body "$prompt" $n $seed)" "$url/v2/models/$net/generate" && want 200 '"finish_reason":"'
        [ "$(text_of answer)" = "$(cat want.json)" ] || fail "$net: $(cat answer), dtrain sample says $(cat want.json)"
    done
done

# Others join and leave meanwhile, more than there are places, of all lengths: each text is what it is alone.
mkdir -p alone among
for i in $(seq 20); do
    [ $((i % 2)) = 0 ] && net=attention || net=lstm
    prompt=$(printf 'the old fox sees %.0s' $(seq $((i % 3))))
    body "$prompt" $((1 + (7 * i) % 11)) $i >"body.$i"
    ask -d "@body.$i" "$url/v2/models/$net/generate" && want 200
    cp answer "alone/$i"
done
for round in 1 2; do
    jobs=()
    for i in $(seq 20); do
        [ $((i % 2)) = 0 ] && net=attention || net=lstm
        curl -s -m "$(seconds 60)" -o "among/$i" -d "@body.$i" "$url/v2/models/$net/generate" &
        jobs+=($!)
    done
    wait "${jobs[@]}"
    for i in $(seq 20); do cmp "alone/$i" "among/$i" || fail "text $i is another among others: $(cat "among/$i")"; done
done

# One event a token, and one at the end; together they are the text.
ask -D headers -d "$(body 'the old ' 25 3)" "$url/v2/models/lstm/generate_stream" && want 200
grep -qi '^Content-Type: text/event-stream' headers || fail "no stream of events"
[ "$(grep -c '^data: {.*"token":' answer)" = 25 ] || fail "not 25 events: $(cat answer)"
[ "$(grep -c '^data: ' answer)" = 26 ] || fail "not one event more"
tail -n 2 answer | grep -q '"finish_reason":"length","prompt_tokens":8,"tokens":25}' || fail "no end: $(tail -n 2 answer)"
grep '^data: ' answer | while IFS= read -r line; do printf '%s\n' "$line" >one; text_of one; done | sed 's/^"//; s/"$//' | tr -d '\n' >together
[ "\"$(cat together)\"" = "$(sampled lstm 'the old ' 25 3)" ] || fail "the events are another text: $(cat together)"

# A text ends before a stop text, no part of which is told.
ask -d '{"text_input":"the old ","seed":3,"max_tokens":25}' "$url/v2/models/attention/generate" && want 200
whole=$(text_of answer | sed 's/^"//; s/"$//')
stop=$(printf %s "${whole:3}" | grep -oE "[a-z]{2}" | head -n 1)
before=${whole%%"$stop"*}
ask -d "{\"text_input\":\"the old \",\"seed\":3,\"max_tokens\":25,\"stop\":[\"never there\",\"$stop\"]}" "$url/v2/models/attention/generate" && want 200 '"finish_reason":"stop"'
[ "$(text_of answer)" = "\"$before\"" ] || fail "stopped at \"$stop\": $(cat answer), the whole is $whole"
ask -d "{\"text_input\":\"the old \",\"seed\":3,\"max_tokens\":25,\"stop\":\"$stop\"}" "$url/v2/models/attention/generate_stream" && want 200 '"finish_reason":"stop"'
grep '^data: ' answer | while IFS= read -r line; do printf '%s\n' "$line" >one; text_of one; done | sed 's/^"//; s/"$//' | tr -d '\n' >together
[ "$(cat together)" = "$before" ] || fail "streamed up to \"$stop\": $(cat together)"

# What is refused, before any of it is told.
for path in generate generate_stream; do
    ask -d '{"text_input":"the ","max_tokens":1000}' "$url/v2/models/attention/$path" && want 400 'more than the 48'
    ask -d '{"parameters":{}}' "$url/v2/models/attention/$path" && want 400 'text_input'
    ask -d '{"text_input":"a","top_p":0}' "$url/v2/models/attention/$path" && want 400
    ask -d '{"text_input":"a","temperature":-1}' "$url/v2/models/attention/$path" && want 400
    ask -d '{"text_input":"a","stop":""}' "$url/v2/models/attention/$path" && want 400
    ask -d '{"text_input":"a"' "$url/v2/models/attention/$path" && want 400
    ask "$url/v2/models/attention/$path" && want 405
    ask -d '{"text_input":"a"}' "$url/v2/models/none/$path" && want 404
done
ask -d '{"text_input":"a","id":"7"}' "$url/v2/models/attention/generate" && want 200 '^{"id":"7"'

# running NET: texts that have a place now.
running() { curl -s "$url/metrics" >metrics && sed -n "s/^dtrain_texts_running{model=\"$1\",.*} //p" metrics; }
idle() { [ "$(running "$1")" = 0 ]; }

# Clients that go away in the middle of a text give up their places.
for i in 1 2 3 4 5 6; do
    curl -s -N -m 0.3 -o /dev/null -d '{"text_input":"a","max_tokens":1000000,"ignore_eos":true}' "$url/v2/models/lstm/generate_stream" || true
    curl -s -m 0.3 -o /dev/null -d '{"text_input":"a","max_tokens":1000000,"ignore_eos":true}' "$url/v2/models/lstm/generate" || true
done
await 20 idle lstm
ask "$url/metrics" && want 200
expect answer '^dtrain_requests_total.model="lstm",version="1",result="cancelled". 12$' 1

# More than wait: 503, and when to come again.
hold=()
for i in $(seq 60); do
    curl -s -N -o /dev/null -d '{"text_input":"a","max_tokens":1000000,"ignore_eos":true}' "$url/v2/models/lstm/generate_stream" &
    hold+=($!)
done
full() {
    ask -m 2 -D headers -d '{"text_input":"a","max_tokens":1}' "$url/v2/models/lstm/generate"
    [ "$status" = 503 ]
}
await 20 full
want 503 'wait already'
grep -qi '^Retry-After: ' headers || fail "no Retry-After"
# The end cuts texts that do not come to an end, and waits for no more.
kill -TERM "$server"
wait "${hold[@]}" || true
end "$server" 60
expect_code 0
pass "texts of two networks, alone and among others"
