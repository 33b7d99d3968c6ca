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
train 0 shard.log "${synthetic[@]}" --out few/set
expect_code 1
expect shard.log "^dtrain: few/.*: cannot create.*: $said" 1
! grep -qE 'flags|errno' shard.log || fail "the library's words for the library's authors"

# The run's directories and records have room, a checkpoint has not.
for i in 0 1 2 3 4 5; do rm "few/f$i"; done
train 0 run.log base.toml data.train=data/small train.steps=20 run.out_dir=few/run run.tensorboard=false
expect_code 1
expect run.log "few/run/checkpoints/.*: cannot create.*: $said"
pass "told"
