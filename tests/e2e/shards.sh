#!/usr/bin/env bash
# Shards that are truncated, empty, of another type, missing or flipped in their metadata end a run with exit code 3 and
# the file's name, before the first step.
. "$(dirname "$0")/lib.sh"

try() {
    train "${2-0}" "$1.log" base.toml data.train=bad run.out_dir="run-$1"
    expect_code 3
    expect "$1.log" '^dtrain: .*bad' 1
    [ "$took_s" -le "$(seconds 15)" ] || fail "$1: took $took_s s"
    rm -rf bad
}
fresh() {
    cp -r data/train/. bad
    file=$(find bad -name 'shard-*.h5' | sort | tail -n 1)
}

fresh
truncate -s -1 "$file"
try short 2
fresh
truncate -s 100 "$file"
try head_only
fresh
: >"$file"
try empty
fresh
seq 10000 >"$file"
try text
fresh
rm "$file"
try missing_shard
mkdir bad
try no_shards
try no_directory
fresh
flip "$file" 0
try signature

# Whatever byte of the metadata is wrong: an error that names the file, or a harmless byte; no crash and no hang.
for offset in 24 40 96 136 300 500 900 1300; do
    fresh
    flip "$file" "$offset"
    train 0 "flip-$offset.log" base.toml data.train=bad run.out_dir="run-flip-$offset" train.steps=3 schedule.warmup_steps=0
    [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || fail "byte $offset flipped: exit code $code, want 0 or 3"
    rm -rf bad
done
pass "all refused"
