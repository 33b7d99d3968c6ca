#!/usr/bin/env bash
# A disk that takes longer than dist.timeout_s is waited for, by all ranks, in saving and in loading; a rank that stands
# still meanwhile is not. And what rank 0 was still writing when all gave up is finished.
. "$(dirname "$0")/lib.sh"
[ "$E2E_SLOW" -eq 1 ] || skip "no preloading under a sanitizer"
common=(base.toml data.train=data/small schedule.kind=constant schedule.warmup_steps=0 dist.timeout_s=2 train.steps=20)
: "${ODD_DISK:?}"

slow() { LD_PRELOAD=$ODD_DISK DT_SLOW_MS=$1 DT_SLOW_OPEN_MS=$2 train_ok 2 "${@:3}"; }
slow 1000 0 save.log "${common[@]}" run.out_dir=run checkpoint.every_steps=0
slow 0 2500 load.log "${common[@]}" run.out_dir=run checkpoint.every_steps=0 train.steps=25
expect load.log '^resuming .* at step 20' 1
each_step_once run 25
slow 0 2500 eval.log eval "${common[@]}" run.out_dir=run

LD_PRELOAD=$ODD_DISK DT_SLOW_MS=20000 begin 2 stopped.log "${common[@]}" run.out_dir=stopped checkpoint.every_steps=0
await 30 grep -q 'step 20/20' stopped.log
sleep 0.5
kill -STOP "$(ranks_of "$job" | head -n 1)"
end "$job" 15
[ "$code" -ne 0 ] || fail "exit code 0 although a rank stood still"
expect stopped.log '^dtrain: .*no answer from rank 0' 1

LD_PRELOAD=$ODD_DISK DT_SLOW_MS=500 train 2 diverged.log "${common[@]}" run.out_dir=diverged run.log_every=1 train.steps=200 \
    optim.lr=1e6 optim.weight_decay=1e5 train.ema=0 train.max_skipped=4 checkpoint.every_steps=1 checkpoint.keep_last=100
expect_code 5
expect diverged.log '^dtrain: .*not finite' 1
told=$(sed -n -E 's|^epoch.* step ([0-9]+)/.*|\1|p' diverged.log | tail -n 1)
[ "$(field diverged train step | tail -n 1)" = "$told" ] || fail "step $told was told, and is not on record"
[ -z "$(find diverged/checkpoints -name '.tmp-*')" ] || fail "a save was cut off"
[ -s diverged/curves.svg ] || fail "no curves"
pass "saved, loaded, gave up and finished, at its pace"
