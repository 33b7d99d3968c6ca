#!/usr/bin/env bash
# The number of threads changes nothing: weights, optimizer, averages and records are the same bits with 1, 2, 3 and 5 on
# each rank, also where it changes at a resume.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small train.eval_every_epochs=1)
# Images and channels enough for every kind of convolution, and for sums in several parts.
large=(base.toml model.name=quickstart 'model.layers=[]' data.train=data/small train.global_batch=128 train.micro_batch=64 train.steps=6
    schedule.kind=constant schedule.warmup_steps=0)

train_ok 2 one.log "${common[@]}" run.threads=1 run.out_dir=one
train_ok 2 three.log "${common[@]}" run.threads=3 run.out_dir=three
same_run one three
train_ok 1 large-1.log "${large[@]}" run.threads=1 run.out_dir=large-1
for threads in 2 3 5; do
    train_ok 1 large-$threads.log "${large[@]}" run.threads=$threads run.out_dir=large-$threads
    expect large-$threads.log ", $threads threads a rank" 1
    same_run large-1 large-$threads
done

# The same command on another number of cores.
for steps in 3 6; do
    train_ok 1 part-$steps.log "${large[@]}" data.val= run.threads=$((steps / 2)) run.out_dir=parts train.steps=$steps
done
expect part-6.log '^resuming parts/.*at step 3' 1
train_ok 1 whole.log "${large[@]}" data.val= run.threads=2 run.out_dir=whole
same_run whole parts
pass "the same weights and records with 1, 2, 3 and 5 threads"
