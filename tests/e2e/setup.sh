#!/usr/bin/env bash
# Makes the data set that the other tests train on, the way a user would: dtrain data import.
set -euo pipefail
: "${DTRAIN:?}" "${MAKE_IDX:?}" "${E2E_DATA:?}"

fail() {
    echo "setup: FAILED: $*"
    exit 1
}

rm -rf "$E2E_DATA"
mkdir -p "$E2E_DATA/idx"
cd "$E2E_DATA"
import() { "$DTRAIN" data import idx --images "idx/$1-images.idx" --labels "idx/$1-labels.idx" --split "$2" --out "$1" --shard-mib 1; }

"$MAKE_IDX" idx/train 6000 1
"$MAKE_IDX" idx/small 500 2
"$MAKE_IDX" idx/val 1001 3
import train train
import small train
import val val

[ "$(find train -name 'shard-*.h5' | wc -l)" -ge 2 ] || fail "6000 samples of 256 bytes are in one shard of 1 MiB"
for set in train small val; do
    "$DTRAIN" data verify "$set"
    "$DTRAIN" data info "$set"
done | tee said.txt
grep -Eq '^train: 6000 samples.*all sound' said.txt || fail "data verify does not say what it saw"
grep -Eq '16 ?x ?16' said.txt || fail "data info does not say the size of the images"

# Importing again does nothing; importing something else into the same place is refused.
sums=$(cat train/*.h5 | cksum)
import train train | grep -Eq '\([1-9][0-9]* shards kept' || fail "importing again made the shards anew"
[ "$sums" = "$(cat train/*.h5 | cksum)" ] || fail "importing again changed the shards"
if "$DTRAIN" data import idx --images idx/val-images.idx --labels idx/val-labels.idx --split train --out train 2>said.txt; then
    fail "importing other samples over a data set was not refused"
fi
[ "$sums" = "$(cat train/*.h5 | cksum)" ] || fail "a refused import changed the shards"
