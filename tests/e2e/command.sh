#!/usr/bin/env bash
# The command line: help, version, verbs, exit codes.
. "$(dirname "$0")/lib.sh"

train_ok 0 help.log --help
expect help.log 'dtrain CONFIG.toml'
for verb in train eval predict inspect data bench profile config ops man completion; do expect help.log "dtrain $verb "; done
expect help.log 'exit codes'
train_ok 0 version.log --version
expect version.log '^dtrain [0-9]+\.[0-9]+\.[0-9]+( \([^ ]+\))?$' 1
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

train_ok 0 epochs.log inspect base.toml data.train=data/small train.global_batch=1 train.micro_batch=0 train.steps=0 train.epochs=1.1
expect epochs.log '; 550 steps, 500 an epoch' 1
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
train 0 step.log bench step
expect_code 2
expect step.log 'dtrain bench step CONFIG.toml'
train 0 comm.log bench comm
expect_code 2
train 2 comm.log bench comm base.toml --max-bytes 512
expect_code 2
expect comm.log '^dtrain: .*--max-bytes' 1
train_ok 2 comm.log bench comm base.toml --max-bytes 4096
expect comm.log "^ +(1024 +256|4096 +1024) +float +sum +-1( +[0-9.]+){3} +0\$" 2

for verb in train eval predict inspect data bench profile config; do
    for help in --help -h; do
        train_ok 0 help.log "$verb" "$help"
        expect help.log "^usage: dtrain $verb " 1
    done
done
train_ok 0 help.log bench data --help
expect help.log '^  --seconds N +per row \(default: 3\)$' 1
train_ok 0 help.log data import --help
expect help.log '^  idx --images FILE --labels FILE ' 1
train_ok 0 help.log base.toml --help
expect help.log '^usage: dtrain train '
[ ! -e runs ] || fail "help made a run directory"

for arguments in "data import synthetic --samples 8 --classes 2 --size 8 --out" \
    "data import synthetic --samples --classes 2 --size 8 --out made" "bench data --threads" "bench step base.toml --steps"; do
    # shellcheck disable=SC2086 # one word each
    train 0 value.log $arguments
    expect_code 2
    expect value.log '--(out|samples|threads|steps) needs a value' 1
done
for arguments in "idx --images a" "idx b --images a --labels c" "folder data --images a --labels c" \
    "synthetic --samples 8 --classes 2 --size 8 --square" "synthetic --samples 8 --classes 2 --size 8 --quality 80"; do
    # shellcheck disable=SC2086 # one word each
    train 0 fit.log data import $arguments --out made
    expect_code 2
    expect fit.log '^dtrain: .*(go together|is for (folder|JPEG shards) only)' 1
done
[ ! -e made ] || fail "an import without its number of samples made a data set"
pass "as documented"
