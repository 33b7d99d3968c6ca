#!/usr/bin/env bash
# kill.sh RANKS: the whole job dies by kill -9 at random moments; resumed each time, it ends with the weights and the
# records of the run that nobody disturbed, and keeps the same checkpoints.
. "$(dirname "$0")/lib.sh"
ranks=$1 want_kills=6
common=(base.toml data.train=data/small train.steps=600 checkpoint.every_steps=7 train.eval_every_epochs=5
    checkpoint.keep_last=2 checkpoint.keep_best=2)

RANDOM=${E2E_SEED:=$$}
echo "$name: seed $E2E_SEED (set E2E_SEED to repeat)"
train_ok "$ranks" straight.log "${common[@]}" run.out_dir=straight

kills=0 tries=0
while [ "$kills" -lt "$want_kills" ] && [ "$tries" -lt 40 ]; do
    tries=$((tries + 1))
    begin "$ranks" "killed-$tries.log" "${common[@]}" run.out_dir=killed
    # Some die while starting, most within the steps and the saves.
    sleep "$(awk -v r="$RANDOM" -v slow="$E2E_SLOW" 'BEGIN { print (0.15 + 0.9 * r / 32767) * slow }')"
    kill -0 "$job" 2>/dev/null && kills=$((kills + 1))
    kill_job "$job"
    wait "$job" 2>/dev/null || true
    # A run that ended before it was killed begins anew, so that every kill has something to interrupt.
    if [ "$(field killed train step 2>/dev/null | tail -n 1)" = 600 ]; then rm -rf killed; fi
done
[ "$kills" -ge "$want_kills" ] || fail "only $kills kills in $tries tries"
train_ok "$ranks" last.log "${common[@]}" run.out_dir=killed
same_run straight killed
each_step_once killed 600
diff <(ls straight/checkpoints) <(ls killed/checkpoints) >kept.log || fail "other checkpoints are kept"
for kept in straight/checkpoints/step-*; do
    cmp "$kept/evaluation.json" "killed/checkpoints/$(basename "$kept")/evaluation.json" || fail "another evaluation in $kept"
done
[ "$(readlink straight/checkpoints/best)" = "$(readlink killed/checkpoints/best)" ] || fail "another checkpoint is the best"
if find killed/checkpoints -name '.tmp-*' | grep -q .; then fail "half-written checkpoints were left behind"; fi
pass "$kills kills on $ranks ranks, same weights and records"
