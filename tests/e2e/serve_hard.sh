#!/usr/bin/env bash
# What servers die of: the protocol's schema, floods beyond the queue, clients that are slow or vanish, models loaded and unloaded
# again and again without growing, a soak with all of it (SOAK_S seconds, 5), and a server that is killed and started anew.
. "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "needs curl"
python=${DTRAIN_PYTHON:-python3}

serve() {
    start "$@"
    server=$job
    await 20 grep -q '^ready at ' "$1"
    url=$(sed -n 's/^ready at //p' "$1")
}
metric() { curl -s -m "$(seconds 60)" "$url/metrics" >metrics && sed -n "s/^$1 //p" metrics; }
train_ok 1 a.log base.toml run.out_dir=a
train_ok 0 convert.log convert a a.onnx
data=$(awk 'BEGIN { for (i = 0; i < 256; i++) printf "%s%g", i ? "," : "", (i % 17) / 16 }')
printf '{"inputs":[{"name":"image","shape":[1,1,16,16],"datatype":"FP32","data":[%s]}]}' "$data" >one.json

serve serve.log "$DTRAIN" serve --model net=a.onnx --port 0 --queue 2 --control --threads 1 --workers 1 --idle-s 2
through contract.log "$python" "$E2E_SOURCE/serve_contract.py" "$url" net
expect_code 0
pass "$(cat contract.log)"
curl -s -d @one.json "$url/v2/models/net/infer" >want

# load FILE: asks until told to stop, and keeps codes.
load() {
    local code
    while [ ! -e stop ]; do
        code=$(curl -s -m "$(seconds 60)" -D "headers.$1" -o "answer.$1" -w '%{http_code}' -d @one.json "$url/v2/models/net/infer") || code="curl $?"
        if [ "$code" = 200 ] && ! cmp -s "answer.$1" want; then code="another answer"; fi
        if [ "$code" = 503 ] && ! grep -qi '^Retry-After:' "headers.$1"; then code="no Retry-After"; fi
        printf '%s\n' "$code" >>"codes.$1"
    done
}
# Clients that send half a request, read nothing, or go away while they are answered.
awkward() {
    local host=${url#http://} port=${url##*:}
    while [ ! -e stop ]; do
        (exec 3<>"/dev/tcp/${host%:*}/$port" && printf 'POST /v2/models/net/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n{' >&3 && sleep 0.2) 2>/dev/null || true
        curl -s -m 0.02 -o /dev/null --limit-rate 1k -d @one.json "$url/v2/models/net/infer" || true
        head -c 3000 /dev/urandom | curl -s -m 2 -o /dev/null --data-binary @- "$url/v2/models/net/infer" || true
    done
}
rm -f stop codes.*
jobs=()
for i in 1 2 3 4 5 6; do
    load "$i" &
    jobs+=($!)
done
awkward &
jobs+=($!)
end_s=$((SECONDS + ${SOAK_S:-5})) reloads=0
while [ $SECONDS -lt $end_s ]; do
    curl -s -m "$(seconds 60)" -o reload -X POST "$url/v2/repository/models/net/load"
    grep -q '^{}$' reload || fail "not loaded anew: $(cat reload)"
    reloads=$((reloads + 1))
    sleep 0.1
done
touch stop
wait "${jobs[@]}"
cat codes.* >codes
[ "$(grep -cvxE '200|503' codes)" = 0 ] || fail "$(sort codes | uniq -c)"
grep -qx 200 codes || fail "no answer at all"
curl -s -d @one.json "$url/v2/models/net/infer" | cmp - want || fail "another answer after all that"
[ "$(metric 'dtrain_http_body_bytes')" -lt 20000 ] || fail "bodies are kept: $(metric dtrain_http_body_bytes)"
pass "$(grep -c 200 codes) answers, $(grep -c 503 codes || true) refused, $reloads reloads"

# Loaded and unloaded a hundred times, it has grown by 1 % at most.
cycle() {
    curl -s -m "$(seconds 60)" -o /dev/null -X POST "$url/v2/repository/models/net/unload"
    curl -s -m "$(seconds 60)" -o /dev/null -X POST "$url/v2/repository/models/net/load"
    curl -s -m "$(seconds 60)" -d @one.json "$url/v2/models/net/infer" | cmp -s - want || fail "another answer"
}
for _ in $(seq 20); do cycle; done
before=$(metric dtrain_resident_bytes)
for _ in $(seq 100); do cycle; done
after=$(metric dtrain_resident_bytes)
[ "$E2E_SLOW" -gt 1 ] || [ $((after * 100)) -le $((before * 101)) ] || fail "from $before to $after bytes over 100 loads"
pass "$before bytes before 100 loads, $after after"

# One that is killed leaves nothing that hinders the next one at its place.
kill -KILL "$server"
wait "$server" 2>/dev/null || true
port=${url##*:}
serve again.log "$DTRAIN" serve --model net=a.onnx --port "$port"
curl -s -d @one.json "$url/v2/models/net/infer" | cmp - want || fail "another answer after a kill"
kill -TERM "$server"
end "$server" 20
expect_code 0
