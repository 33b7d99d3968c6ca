#!/usr/bin/env bash
# Two GPUs through NCCL: the same training as on one, resumed on either number, in every way to reduce gradients.
. "$(dirname "$0")/lib.sh"
need_gpus 2
common=(base.toml run.device=cuda data.train=data/small schedule.kind=constant train.eval_every_epochs=1
    train.deterministic=true)

train_ok 2 straight.log "${common[@]}" run.out_dir=straight
expect straight.log 'communication: nccl' 1
train_ok 2 half.log "${common[@]}" run.out_dir=half train.steps=20
cp -r half on-1
train_ok 2 rest.log "${common[@]}" run.out_dir=half
expect rest.log '^resuming .* at step 20' 1
sed -i -E '/"eval", "step": 20,/d' half/metrics.jsonl
same_run straight half

# The same sums in the same order, whenever and however they are started.
train_ok 2 late.log "${common[@]}" run.out_dir=late dist.overlap=false
same_run straight late
train_ok 2 uncaptured.log "${common[@]}" run.out_dir=uncaptured run.capture=off
same_run straight uncaptured
train_ok 2 mpi.log "${common[@]}" run.out_dir=mpi dist.backend=mpi
close_losses straight mpi 1e-5 25

train_ok 1 one.log "${common[@]}" run.out_dir=one
close_losses straight one 1e-5 25
train_ok 1 on-1.log "${common[@]}" run.out_dir=on-1
expect on-1.log '^resuming .* at step 20' 1
close_losses straight on-1 1e-5 25
train_ok 2 fp16.log "${common[@]}" run.out_dir=fp16 train.precision=fp16
close_losses straight fp16 0.05 25

train 2 comm.log bench comm base.toml run.device=cuda --max-bytes 16777216
expect_code 0
expect comm.log '^# all-reduce in place, float, sum, 2 ranks, nccl' 1
expect comm.log '^ +[0-9]+ +[0-9]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$' 8
pass "2 GPUs train as 1 does"
