#!/usr/bin/env bash
# Damaged checkpoints: the newest is passed over with a message and the one before it continues the run; where all are
# damaged the run ends with exit code 4 and touches nothing.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small schedule.kind=constant checkpoint.every_steps=10 checkpoint.keep_last=2)

train_ok 2 straight.log "${common[@]}" run.out_dir=straight
train_ok 2 good.log "${common[@]}" run.out_dir=good train.steps=30

damage() {
    local file=$2/step-$3/state.h5
    case $1 in
    truncated) truncate -s -1 "$file" ;;
    empty) : >"$file" ;;
    flipped) flip "$file" $(($(stat -c %s "$file") / 2)) ;;
    no_state) rm "$file" ;;
    no_manifest) rm "$2/step-$3/manifest.json" ;;
    half_manifest) truncate -s 50 "$2/step-$3/manifest.json" ;;
    esac
}

for kind in truncated empty flipped no_state no_manifest half_manifest; do
    cp -r good "$kind"
    damage "$kind" "$kind/checkpoints" 00000030
    train_ok 2 "$kind.log" "${common[@]}" run.out_dir="$kind"
    expect "$kind.log" 'step-00000030' 1
    expect "$kind.log" "^resuming $kind/checkpoints/step-00000020 at step 20" 1
    same_run straight "$kind"
    each_step_once "$kind" 40
done

# An old checkpoint that cannot be removed does not undo the save: all steps are done, and the others are removed.
train_ok 1 stuck.log "${common[@]}" data.val= run.out_dir=stuck checkpoint.keep_last=2 train.steps=10
if chattr +i stuck/checkpoints/step-00000010 2>/dev/null; then
    train_ok 1 stuck.log "${common[@]}" data.val= run.out_dir=stuck checkpoint.keep_last=2 train.steps=40
    chattr -i stuck/checkpoints/step-00000010
    expect stuck.log '^dtrain: step (30|40) is saved, but old checkpoints stay: .*step-00000010' 2
    [ "$(basename -a stuck/checkpoints/step-* | tr '\n' ' ')" = "step-00000010 step-00000030 step-00000040 " ] ||
        fail "not just the checkpoint that could not be removed stayed"
fi

# A run that does not continue the newest checkpoint must not write beside it.
for resume in never good/checkpoints/step-00000020; do
    train 2 mixed.log "${common[@]}" run.out_dir=good run.resume=$resume
    expect_code 2
    expect mixed.log '^dtrain: .*good/checkpoints holds checkpoints of an earlier run' 1
done
train_ok 2 same.log "${common[@]}" run.out_dir=good run.resume=good/checkpoints/step-00000030 train.steps=30

# A run that starts at its end in another directory leaves there what it started from.
train_ok 2 copy.log "${common[@]}" run.out_dir=copy run.resume=good train.steps=30
[ "$(basename "$(newest copy)")" = step-00000030 ] || fail "copy/ holds no checkpoint"
cmp good/checkpoints/step-00000030/state.h5 copy/checkpoints/step-00000030/state.h5 || fail "the checkpoint differs from its source"
[ -s copy/config.toml ] || fail "copy/ holds no configuration"

for step in 00000020 00000030; do damage flipped good/checkpoints $step; done
before=$(find good -type f ! -name '.lock' -exec cksum {} + | sort)
train 2 all.log "${common[@]}" run.out_dir=good
expect_code 4
expect all.log '^dtrain: good/checkpoints: none of 2 checkpoints is usable' 1
[ "$before" = "$(find good -type f ! -name '.lock' -exec cksum {} + | sort)" ] || fail "a refused resume changed the run"
train 2 missing.log "${common[@]}" run.out_dir=elsewhere run.resume=not/here
expect_code 4
train 1 eval.log eval "${common[@]}" run.out_dir=nothing
expect_code 4
pass "fell back past 6 kinds of damage"
