#!/usr/bin/env bash
# resume.sh RANKS: a run in three parts equals the run in one, bit for bit: weights, optimizer, averages, records.
. "$(dirname "$0")/lib.sh"
ranks=$1
common=(base.toml data.train=data/small schedule.kind=constant train.eval_every_epochs=1)

declare -A optimizer=([nesterov]='optim.lr=0.05' [adamw]='optim.lr=0.003'
    [muon]="optim.lr=0.02 optim.groups=[{pattern='layer5.weight',muon=true}]")
for kind in nesterov adamw muon; do
    read -ra options <<<"optim.kind=$kind ${optimizer[$kind]}"
    train_ok "$ranks" straight.log "${common[@]}" "${options[@]}" run.out_dir=straight-$kind
    for steps in 7 23 40; do
        train_ok "$ranks" "part-$steps.log" "${common[@]}" "${options[@]}" run.out_dir=parts-$kind \
            train.steps=$steps
    done
    expect part-40.log '^resuming parts-.*/step-00000023 at step 23' 1
    # The parts also evaluated where they ended; the straight run had no reason to.
    sed -i -E '/"eval", "step": (7|23),/d' parts-$kind/metrics.jsonl
    same_run straight-$kind parts-$kind
    each_step_once parts-$kind 40
done

# A finished run started again stays as it is.
sum=$(cksum <"$(newest parts-adamw)/state.h5")
train_ok "$ranks" again.log "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=parts-adamw
[ "$sum" = "$(cksum <"$(newest parts-adamw)/state.h5")" ] || fail "a finished run changed when it was started again"
each_step_once parts-adamw 40
expect again.log '^run +finished at step' 1

# Another batch cannot continue it.
train "$ranks" batch.log "${common[@]}" optim.kind=adamw run.out_dir=parts-adamw train.steps=60 train.global_batch=64
expect_code 2
expect batch.log 'train.global_batch' 1
# Nor another optimizer, whose state has another meaning.
train "$ranks" kind.log "${common[@]}" optim.kind=momentum run.out_dir=parts-adamw train.steps=60
expect_code 4
expect kind.log 'optim.kind = "adamw"' 1
# A checkpoint from elsewhere is not mixed with those of another run, even older ones.
train "$ranks" mixed.log "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=straight-nesterov run.resume="$(newest parts-adamw)"
expect_code 2
expect mixed.log 'holds checkpoints of an earlier run' 1
ln -s parts-adamw linked
train_ok "$ranks" own.log "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=linked run.resume="$(newest parts-adamw)" train.steps=42
each_step_once parts-adamw 42
# Started from a path, the same command continues.
for steps in 45 50; do
    train_ok "$ranks" "path-$steps.log" "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=path \
        run.resume=parts-adamw/checkpoints/step-00000042 train.steps=$steps
done
expect path-45.log '^resuming parts-adamw/.*at step 42' 1
expect path-50.log '^resuming path/.*at step 45' 1
# Finished, it stays as it is; a link to its newest checkpoint is that.
kept=$(stat -c %i "$(newest path)/state.h5")
ln -s "$(newest path)" best
for from in parts-adamw/checkpoints/step-00000042 best; do
    train_ok "$ranks" finished.log "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=path run.resume=$from train.steps=50
    expect finished.log '^resuming .*at step 50' 1
    [ "$kept" = "$(stat -c %i "$(newest path)/state.h5")" ] || fail "a finished run was saved again"
done
train "$ranks" file.log "${common[@]}" run.out_dir=file run.resume=best/state.h5
expect_code 4
expect file.log 'run.resume = "best/state.h5" is a file: a checkpoint is the whole directory' 1
# Groups of parameters may change on the way: what is frozen keeps its values and loses its state, and back.
frozen="optim.groups=[{pattern='layer1.*', frozen=true}, {pattern='layer2.*', frozen=true}]"
train_ok "$ranks" groups.log "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=path train.steps=54 "$frozen"
expect groups.log '^note: 0 parameters not trained before begin .*; 3 parameters now frozen lose theirs' 1
expect groups.log '^  the \[\[optim.groups\]\]' 1
train_ok "$ranks" same.log "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=path train.steps=57 "$frozen"
expect same.log 'optimizer state' 0
train_ok "$ranks" thawed.log "${common[@]}" optim.kind=adamw optim.lr=0.003 run.out_dir=path train.steps=60
expect thawed.log '^note: 3 parameters not trained before begin with fresh optimizer state; 0 parameters' 1
train "$ranks" all.log "${common[@]}" optim.kind=adamw run.out_dir=path train.steps=63 "optim.groups=[{pattern='*', frozen=true}]"
expect_code 2
expect all.log 'nothing is left to train' 1
pass "7 + 16 + 17 steps equal 40 on $ranks ranks"
