#!/usr/bin/env bash
# The disk fills up: saving fails with a message that names the place, training goes on, and the last good checkpoint
# continues the run once there is room. Needs a small file system of its own: root, or user namespaces.
if [ -z "${E2E_MOUNTED:-}" ]; then
    for how in "unshare -m" "unshare -rm"; do
        # shellcheck disable=SC2086 # a command and its options
        if $how sh -c 'mount -t tmpfs -o size=64k none /mnt' 2>/dev/null; then
            export E2E_MOUNTED=1
            exec $how "$0" "$@"
        fi
    done
    echo "disk_full: SKIPPED: cannot mount a small file system here"
    exit 77
fi
. "$(dirname "$0")/lib.sh"
clean_up_disk() {
    umount -l disk 2>/dev/null || true
    clean_up "$1"
}
trap 'clean_up_disk $?' EXIT
common=(base.toml data.train=data/small schedule.kind=constant run.tensorboard=false checkpoint.async=false checkpoint.keep_last=10)

train_ok 2 straight.log "${common[@]}" run.out_dir=straight train.steps=60
mkdir disk
mount -t tmpfs -o size=3m none disk
train_ok 2 good.log "${common[@]}" run.out_dir=disk/run train.steps=20
head -c $(($(stat -f -c '%a * %S' disk) - 100000)) /dev/zero >disk/filler
train 2 full.log "${common[@]}" run.out_dir=disk/run train.steps=40
train 0 import.log data import synthetic --samples 6400 --classes 10 --size 64 --out disk/shards
expect_code 1
expect import.log '^dtrain: disk/shards/.*: No space left on device$' 1
rm -r disk/shards
# With 100 kB free training goes on to the end; that its result could not be kept is then an error.
expect_code 1
expect full.log 'step 40/40'
expect full.log '^checkpoint of step [0-9]+ not saved: .*disk/run.*; training goes on$'
expect full.log '^dtrain: .*disk/run' 1
[ "$(basename "$(newest disk/run)")" = step-00000020 ] || fail "$(newest disk/run) claims to be a checkpoint"

# "stop" ends it there instead.
train 2 stop.log "${common[@]}" run.out_dir=disk/run train.steps=60 checkpoint.on_error=stop
expect_code 1
expect stop.log '^dtrain: .*disk/run' 1
if grep -q 'step 40/60' stop.log; then fail "checkpoint.on_error = stop did not stop"; fi

rm disk/filler
train_ok 2 room.log "${common[@]}" run.out_dir=disk/run train.steps=60
expect room.log '^resuming .*step-00000020 at step 20' 1
# The parts also evaluated where they ended.
sed -i -E '/"eval", "step": (20|40),/d' disk/run/metrics.jsonl
same_run straight disk/run
each_step_once disk/run 60
pass "went on without saving, then resumed"
