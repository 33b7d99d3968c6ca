#!/usr/bin/env bash
# Unmodified clients of others: tritonclient's and KServe's. DTRAIN_PYTHON: a Python that has them.
. "$(dirname "$0")/lib.sh"
python=${DTRAIN_PYTHON:-python3}
"$python" -c 'import numpy, tritonclient.http' 2>/dev/null || skip "$python has no tritonclient[http]: pip install 'tritonclient[http]' kserve"
train_ok 1 a.log base.toml run.out_dir=a
start serve.log "$DTRAIN" serve --model net=a --port 0
server=$job
await 20 grep -q '^ready at ' serve.log
through clients.log "$python" "$E2E_SOURCE/serve_clients.py" "$(sed -n 's/^ready at //p' serve.log)" net
expect_code 0
kill -TERM "$server"
end "$server" 20
expect_code 0
pass "$(paste -sd ';' clients.log)"
