#!/usr/bin/env bash
# Models over HTTP: the protocol, what is refused, many clients at once, models that are loaded anew under load, and an end
# under load that loses nothing.
. "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "needs curl"

# serve LOG ARGUMENT...: starts it; $url is where it answers.
serve() {
    start "$@"
    server=$job
    await 20 grep -q '^ready at ' "$1"
    url=$(sed -n 's/^ready at //p' "$1")
}

# ask ARGUMENT...: the answer is in answer, its code in $status.
ask() { status=$(curl -s -S -m "$(seconds 60)" -o answer -w '%{http_code}' "$@" 2>curl.log) || status=000; }

# want CODE [PATTERN]: of the last answer; errors are JSON.
want() {
    [ "$status" = "$1" ] || fail "status $status, want $1: $(head -c 300 answer)"
    [ "$1" = 200 ] || grep -q '^{"error":"..*"}$' answer || fail "an error that is not JSON: $(head -c 300 answer)"
    [ $# -lt 2 ] || grep -q -- "$2" answer || fail "no \"$2\" in $(head -c 500 answer)"
}

train_ok 1 a.log base.toml run.out_dir=a
train_ok 0 convert.log convert a a.onnx
numbers() { awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "%s%g", i ? "," : "", (i % 17) / 16 }'; }
request() { printf '{"id":"%s","inputs":[{"name":"image","shape":[%d,1,16,16],"datatype":"FP32","data":[%s]}]}' "$1" "$2" "$(numbers $((256 * $2)))"; }
request one 1 >one.json
request three 3 >three.json

serve plain.log "$DTRAIN" serve --model net=a.onnx --port 0 --body-mib 1
ask "$url/v2" && want 200 '"binary_tensor_data"'
ask "$url/v2/health/live" && want 200
ask "$url/v2/health/ready" && want 200
ask "$url/v2/models/net" && want 200 '"name":"image","datatype":"FP32","shape":\[-1,1,16,16\]'
ask "$url/v2/models/net/versions/1/config" && want 200 '"max_batch_size":32'
ask "$url/v2/models/net/ready" && want 200
ask -d @one.json "$url/v2/models/net/infer" && want 200 '"id":"one"'
cp answer one.answer
ask -d @three.json "$url/v2/models/net/versions/1/infer" && want 200 '"shape":\[3,'
ask -I "$url/v2" && [ "$status" = 200 ] || fail "HEAD: $status"
ask "$url/" && want 200 '<!doctype html>'

# The same packed, and as binary data: a tensor alone, whose answer is binary.
gzip -k one.json
ask -H 'Content-Encoding: gzip' --data-binary @one.json.gz "$url/v2/models/net/infer" && want 200
cmp answer one.answer || fail "a packed request has another answer"
ask -H 'Transfer-Encoding: chunked' -d @one.json "$url/v2/models/net/infer" && want 200
cmp answer one.answer || fail "a request in chunks has another answer"
head -c 2048 /dev/zero >zero.bin
ask -D headers -H 'Inference-Header-Content-Length: 0' --data-binary @zero.bin "$url/v2/models/net/infer" && want 200 '"shape":\[2,'
json=$(sed -n 's/^Inference-Header-Content-Length: \([0-9]*\).*/\1/Ip' headers)
bytes=$(grep -ao '"binary_data_size":[0-9]*' answer | cut -d : -f 2)
[ $((json + bytes)) -eq "$(wc -c <answer)" ] || fail "$json + $bytes bytes, but $(wc -c <answer)"

# What is refused, each with a reason.
ask "$url/v2/models/other" && want 404 other
ask "$url/v2/models/net/versions/9/infer" -d @one.json && want 404 'no version 9'
ask "$url/nowhere" && want 404
ask -X DELETE "$url/v2" && want 405
ask "$url/v2/models/net/infer" && want 405
ask -d '{"inputs":[' "$url/v2/models/net/infer" && want 400 'byte 11'
ask -d '' "$url/v2/models/net/infer" && want 400
sed 's/16,16/16,15/' one.json >shape.json
ask -d @shape.json "$url/v2/models/net/infer" && want 400 'shape'
ask -H 'Content-Encoding: br' -d @one.json "$url/v2/models/net/infer" && want 415
ask -H 'Content-Encoding: gzip' -d @one.json "$url/v2/models/net/infer" && want 400
head -c 2000000 /dev/zero >large.bin
ask --data-binary @large.bin "$url/v2/models/net/infer" && want 413
ask -H 'Transfer-Encoding: chunked' --data-binary @large.bin "$url/v2/models/net/infer" && want 413
head -c 20000000 /dev/zero | gzip >bomb.gz
ask -H 'Content-Encoding: gzip' --data-binary @bomb.gz "$url/v2/models/net/infer" && want 413
ask -X POST "$url/v2/repository/models/net/unload" && want 403
ask "$url/v2/systemsharedmemory/status" && want 501
ask -X POST "$url/v2/repository/index" && want 200 '"state":"READY"'

ask "$url/metrics" && want 200
expect answer '^dtrain_requests_total\{model="net",version="1",result="success"\} 5$' 1
expect answer '^nv_inference_request_success\{model="net",version="1"\} 5$' 1
expect answer '^nv_inference_count\{model="net",version="1"\} 8$' 1
expect answer '^dtrain_http_request_seconds_count\{model="net"\} 5$' 1
ask "$url/v2/models/net/stats" && want 200 '"inference_count":8'

# Clients that stop in the middle of a request, or never say anything, hinder nobody.
host=${url#http://} port=${url##*:}
for _ in 1 2 3 4 5 6 7 8; do
    (exec 3<>"/dev/tcp/${host%:*}/$port" && printf 'POST /v2/models/net/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n{' >&3) 2>/dev/null || true
    (exec 3<>"/dev/tcp/${host%:*}/$port" && printf '\x00\xff\r\n\r\n' >&3) 2>/dev/null || true
done
ask -d @one.json "$url/v2/models/net/infer" && want 200
kill -TERM "$server"
end "$server" 20
expect_code 0
expect plain.log '^ended$' 1

# load N FILE: a client that asks until it is told to stop; a line with the code for each answer, curl's for each that failed.
load() {
    local line
    while [ ! -e stop ]; do
        line=$(curl -s -m "$(seconds 60)" -o "answer.$1" -w '%{http_code}' -d "@one.json" "$url/v2/models/net/infer") || line="curl $?"
        if [ "$line" = 200 ] && ! cmp -s "answer.$1" one.answer; then line="200 another answer"; fi
        printf '%s\n' "$line" >>"$2"
        [ "$line" != "curl 7" ] || break # nobody listens any more
    done
}
clients() {
    rm -f stop codes.*
    loads=()
    for i in 1 2 3 4 5 6; do
        load "$i" "codes.$i" &
        loads+=($!)
    done
}

# Versions in a repository; loaded anew while they are asked, also when the new one is damaged: not one answer is lost.
mkdir -p models/net/1 models/net/2
cp a.onnx models/net/1/model.onnx
cp a.onnx models/net/2/model.onnx
serve repository.log "$DTRAIN" serve --repository models --versions all --control --port 0
ask "$url/v2/models/net" && want 200 '"versions":\["1","2"\]'
ask -d @one.json "$url/v2/models/net/infer" && want 200 '"model_version":"2"'
cp answer one.answer
clients
for i in 1 2 3; do
    ask -X POST "$url/v2/repository/models/net/load" && want 200
    kill -HUP "$server"
    sleep 0.2
done
head -c 3000 a.onnx >models/net/2/model.onnx
ask -X POST "$url/v2/repository/models/net/load" && want 400 'model.onnx'
ask -d @one.json "$url/v2/models/net/infer" && want 200
touch stop
wait "${loads[@]}"
cat codes.* >codes
[ "$(sort -u codes)" = 200 ] || fail "under load: $(sort codes | uniq -c)"
pass "$(wc -l <codes) answers while the model was loaded anew"
ask -X POST "$url/v2/repository/models/net/unload" && want 200
ask -d @one.json "$url/v2/models/net/infer" && want 503 'not loaded'
ask -X POST "$url/v2/repository/index" && want 200 '"state":"UNAVAILABLE","reason":"unloaded"'
cp a.onnx models/net/2/model.onnx
ask -X POST "$url/v2/repository/models/net/load" && want 200
ask -X POST "$url/v2/repository/models/other/load" && want 404
kill -TERM "$server"
end "$server" 20
expect_code 0

# The end under load: not ready at once, then refused, and every answer that began is whole.
serve ending.log "$DTRAIN" serve --model net=a.onnx --port 0 --grace-s 1
ask -d @one.json "$url/v2/models/net/infer" && want 200
cp answer one.answer
clients
sleep 0.5
kill -TERM "$server"
sleep 0.3
ask "$url/v2/health/ready" && want 503 'ending'
ask "$url/v2/health/live" && want 200
ask -d @one.json "$url/v2/models/net/infer" && want 200
end "$server" 20
expect_code 0
wait "${loads[@]}"
cat codes.* >codes
[ "$(grep -cvxE '200|503|curl 7' codes)" = 0 ] || fail "at the end: $(sort codes | uniq -c)"
pass "$(grep -c 200 codes) answers, $(grep -c 503 codes || true) refused at the end"

# What cannot be served ends before it listens.
train 0 none.log serve --port 0
expect_code 2
train 0 none.log serve --model a=gone.onnx --port 0
expect_code 3
expect none.log gone.onnx
train 0 none.log serve --model a=a.onnx a=a.onnx --port 0
expect_code 2
expect none.log 'two models called "a"' 1
