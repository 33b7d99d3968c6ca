#!/usr/bin/env bash
# The page at / in a browser: it shows the models.
. "$(dirname "$0")/lib.sh"
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip "needs chromium"
train_ok 1 a.log base.toml run.out_dir=a
start serve.log "$DTRAIN" serve --model some-net=a --port 0
server=$job
await 20 grep -q '^ready at ' serve.log
shows() {
    timeout -k 2 "$(seconds 30)" "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/browser" --virtual-time-budget=4000 \
        --dump-dom "$(sed -n 's/^ready at //p' serve.log)/" >page.html 2>browser.log && grep -q '<td>some-net</td>' page.html
}
await 60 shows
kill -TERM "$server"
end "$server" 20
expect_code 0
