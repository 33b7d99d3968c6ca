#!/usr/bin/env bash
# The command line: help, version, verbs, exit codes.
. "$(dirname "$0")/lib.sh"

train_ok 0 help.log --help
expect help.log 'dtrain CONFIG.toml'
for verb in train eval inspect data bench config; do expect help.log "dtrain $verb "; done
expect help.log 'exit codes'
train_ok 0 version.log --version
expect version.log '^dtrain [0-9]+\.[0-9]+\.[0-9]+$' 1
train 0 nothing.log
expect_code 2
train 0 verb.log trian base.toml
expect_code 2
expect verb.log '^dtrain: "trian"' 1
train 0 full.log --help >/dev/full
"$DTRAIN" --help >/dev/full 2>/dev/null && fail "help that could not be written counts as done"

train_ok 0 keys.log config
expect keys.log 'global_batch'
train_ok 0 resolved.log config base.toml train.steps=77
expect resolved.log '^steps = 77' 1
cp resolved.log resolved.toml
train_ok 0 again.log config resolved.toml
diff resolved.log again.log || fail "the resolved configuration does not resolve to itself"

for ranks in 0 2; do
    train_ok "$ranks" inspect.log inspect base.toml
    expect inspect.log 'layer1'
    [ ! -e runs ] || fail "inspect made a run directory"
done
train 0 bench.log bench
expect_code 2
train_ok 0 bench.log bench step base.toml --steps 5
train 0 data.log data import
expect_code 2
train 0 data.log data verify absent
expect_code 3
pass "as documented"
