#!/usr/bin/env bash
# A save in the background that fails is told within a few steps, not at the next save: by "warn" training goes on, by
# "stop" all ranks end there.
. "$(dirname "$0")/lib.sh"
every=1000
common=(base.toml data.train=data/small data.val= schedule.kind=constant run.log_every=1 run.tensorboard=false train.steps=1000000
    checkpoint.every_steps=$every)

# Where checkpoints should go is a file from now on.
obstruct() {
    until rm -rf "$1/checkpoints" && : >"$1/checkpoints"; do sleep 0.01; done 2>/dev/null # a save may be under way
}

# soon LOG STEP: the save was told to have failed at a step shortly after its own.
soon() {
    local saved
    saved=$(sed -n -E 's/.*checkpoint of step ([0-9]+) not saved.*/\1/p' "$1")
    [ $(($2 - saved)) -le $((every / 2)) ] || fail "$1: the save of step $saved was known to have failed at step $2"
}

begin 2 warn.log "${common[@]}" run.out_dir=warn
await 30 grep -q 'step 1/' warn.log
obstruct warn
await 60 grep -q '^checkpoint of step .* not saved: .*warn/checkpoints.*; training goes on' warn.log
sed '/^checkpoint of step/q' warn.log >told.log
soon told.log "$(sed -n -E 's|^epoch.*step ([0-9]+)/.*|\1|p' told.log | tail -n 1)"
await 60 grep -q "step $((2 * every + 1))/" warn.log
kill_job "$job"

begin 2 stop.log "${common[@]}" run.out_dir=stop checkpoint.on_error=stop
await 30 grep -q 'step 1/' stop.log
obstruct stop
end "$job" 60
expect_code 1
expect stop.log '^dtrain: .*checkpoint of step [0-9]+ not saved.*stop/checkpoints' 1
soon stop.log "$(field stop train step | tail -n 1)"
# A stop in the evaluation of the step whose save failed: it is tried again, and not told to have been saved.
begin 2 eval.log base.toml data.train=data/small data.val=synthetic data.image_size=16 data.synthetic_channels=1 data.synthetic_classes=4 \
    data.synthetic_samples=200000 train.eval_batch=8 train.eval_every_epochs=1 checkpoint.every_steps=0 checkpoint.every_epochs=1 \
    checkpoint.async=false train.steps=1000 run.log_every=1 run.out_dir=eval
await 30 grep -q 'step 1/' eval.log
obstruct eval
await 60 grep -q '^checkpoint of step .* not saved: .*; training goes on' eval.log
sleep 0.2
ask_to_stop "$job"
end "$job" 30
expect_code 1
expect eval.log '^dtrain: .*checkpoint of step [0-9]+ not saved' 1
expect eval.log 'stopped and saved' 0

# The last save is tried whatever became of those before; a disk that cannot sync directories (EINVAL) is no failure.
if [ "$E2E_SLOW" -eq 1 ]; then
    : "${ODD_DISK:?}"
    odd=(base.toml data.train=data/small data.val= train.steps=8 checkpoint.every_steps=7 checkpoint.every_epochs=0 checkpoint.on_error=stop)
    LD_PRELOAD=$ODD_DISK DT_DIR_SYNC_FAILS=1 DT_DIR_SYNC_ERRNO=5 train_ok 2 last.log "${odd[@]}" run.out_dir=last
    expect last.log 'checkpoint of step 7 not saved.*a later save went well' 1
    [ "$(basename "$(newest last)")" = step-00000008 ] || fail "the end of the run is not saved"
    LD_PRELOAD=$ODD_DISK DT_DIR_SYNC_FAILS=1 DT_DIR_SYNC_ERRNO=5 train 2 ends.log "${odd[@]}" run.out_dir=ends train.steps=100000
    expect_code 1
    expect ends.log '^dtrain: .*step [0-9]+ is saved, an earlier save failed: .*checkpoint of step 7 not saved' 1
    newest ends >/dev/null
    LD_PRELOAD=$ODD_DISK DT_DIR_SYNC_FAILS=1000 DT_DIR_SYNC_ERRNO=22 train_ok 2 unsynced.log "${odd[@]}" run.out_dir=unsynced
    [ "$(basename "$(newest unsynced)")" = step-00000008 ] || fail "no checkpoint where directories cannot be synced"
fi
pass "stopped at step $(field stop train step | tail -n 1) of saves every $every"
