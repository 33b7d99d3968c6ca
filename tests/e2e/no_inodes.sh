#!/usr/bin/env bash
# A file system that has room for bytes but for no other file: what cannot be created says so. Needs root.
if [ -z "${E2E_MOUNTS:-}" ]; then
    if unshare -m sh -c 'mount -t tmpfs none /mnt' 2>/dev/null; then E2E_MOUNTS=own exec unshare -m "$0" "$@"; fi
    echo "no_inodes: SKIPPED: cannot mount here"
    exit 77
fi
. "$(dirname "$0")/lib.sh"
mkdir few
mount -t tmpfs -o size=64m,nr_inodes=64 none few
trap 'code=$?; umount -l "$work"/few; clean_up $code' EXIT
said='the file system has no room for another file: all its inodes are in use$'

mkdir few/set
i=0
while touch "few/f$i" 2>/dev/null; do i=$((i + 1)); done
synthetic=(data import synthetic --samples 8 --classes 2 --size 8)
train 0 directory.log "${synthetic[@]}" --out few/other
expect_code 1
expect directory.log "^dtrain: few/other: cannot create the directory: $said" 1
rm few/f0 # the import's lock or its first file, of which it needs two
train 0 shard.log "${synthetic[@]}" --out few/set
if [ "$code" -eq 0 ]; then
    train 0 shard.log "${synthetic[@]}" --out few
fi
[ "$code" -ne 0 ] || fail "an import without room for a shard is done"
expect shard.log "^dtrain: few/.*: cannot create.*: $said" 1
! grep -qE 'flags|errno' shard.log || fail "the library's words for the library's authors"

# A run whose checkpoint has no room: it goes on, and says why at its end.
rm few/f1 few/f2 few/f3 few/f4 few/f5 few/f6 few/f7
mkdir few/run
while touch "few/g$i" 2>/dev/null; do i=$((i + 1)); done
rm few/g* 2>/dev/null || true
keep=5
while [ "$(df --output=iavail few | tail -n 1)" -gt $keep ]; do touch "few/h$i" && i=$((i + 1)); done
train 0 run.log base.toml data.train=data/small train.steps=20 run.out_dir=few/run checkpoint.on_error=warn
[ "$code" -ne 0 ] || fail "a run that could save nothing ends with 0"
expect run.log "$said"
pass "told"
