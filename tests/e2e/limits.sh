#!/usr/bin/env bash
# A small stack (ulimit -s): more is taken where the hard limit allows, else the run says what it needs. A soft limit of CPU
# time (ulimit -St) stops and saves.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small train.steps=8 run.threads=2)
launch=$E2E_SOURCE/../../launch/train

for kb in 64 200; do
    code=0
    (ulimit -Ss $kb && exec "$DTRAIN" "${common[@]}" run.out_dir=run-$kb) >small-$kb.log 2>&1 || code=$?
    expect_code 0
    (ulimit -Ss $kb && exec "$DTRAIN" eval "${common[@]}" run.out_dir=run-$kb) >eval-$kb.log 2>&1 || code=$?
    expect_code 0
    (ulimit -Ss $kb && exec "$launch" -n 2 "${common[@]}" run.out_dir=two-$kb) >two-$kb.log 2>&1 || code=$?
    expect_code 0
done

# Root may raise a hard limit, unless it lacks the right.
held=()
if [ "$(id -u)" -eq 0 ]; then held=(setpriv --bounding-set -sys_resource); fi
code=0
(ulimit -s 64 && exec "${held[@]}" "$DTRAIN" "${common[@]}" run.out_dir=held) >held.log 2>&1 || code=$?
expect_code 2
expect held.log 'the stack is limited to 64 kB for good, dtrain needs 512 kB: raise the hard limit' 1

code=0
(ulimit -St 2 && exec "$DTRAIN" base.toml data.train=data/small train.steps=10000000 run.out_dir=timed) >timed.log 2>&1 || code=$?
expect_code 85
expect timed.log '^stopped and saved after step' 1
pass "64 and 200 kB of stack are raised, 64 kB for good are refused"
