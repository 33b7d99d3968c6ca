#!/usr/bin/env bash
# Two, four or eight GPUs, as the host has, through NCCL: the same training as on one, resumed on fewer and on all again,
# in every way to reduce gradients.
. "$(dirname "$0")/lib.sh"
need_gpus 2
half=$((gpus / 2))
common=(base.toml run.device=cuda data.train=data/small schedule.kind=constant train.eval_every_epochs=1
    train.deterministic=true train.micro_batch=$((16 / gpus)))

train_ok "$gpus" straight.log "${common[@]}" run.out_dir=straight
expect straight.log 'communication: nccl' 1
train_ok "$gpus" begun.log "${common[@]}" run.out_dir=begun train.steps=20
for dir in same fewer; do cp -r begun $dir; done
train_ok "$gpus" same.log "${common[@]}" run.out_dir=same
expect same.log '^resuming .* at step 20' 1
sed -i -E '/"eval", "step": 20,/d' same/metrics.jsonl
same_run straight same

# The same sums in the same order, whenever and however they are started.
train_ok "$gpus" late.log "${common[@]}" run.out_dir=late dist.overlap=false
same_run straight late
train_ok "$gpus" uncaptured.log "${common[@]}" run.out_dir=uncaptured run.capture=off
same_run straight uncaptured
train_ok "$gpus" mpi.log "${common[@]}" run.out_dir=mpi dist.backend=mpi
close_losses straight mpi 1e-5 25

# Another number of GPUs divides the same work.
train_ok 1 one.log "${common[@]}" run.out_dir=one
close_losses straight one 1e-5 25
train_ok "$half" fewer.log "${common[@]}" run.out_dir=fewer train.steps=30
expect fewer.log '^resuming .* at step 20' 1
train_ok "$gpus" more.log "${common[@]}" run.out_dir=fewer
expect more.log '^resuming .* at step 30' 1
each_step_once fewer 40
close_losses straight fewer 1e-5 25
train_ok "$gpus" fp16.log "${common[@]}" run.out_dir=fp16 train.precision=fp16
close_losses straight fp16 0.05 25

if [ "${E2E_RANKS_PER_GPU:-1}" -eq 1 ]; then # thousands of reductions, each milliseconds long where ranks take turns
    train "$gpus" comm.log bench comm base.toml run.device=cuda --max-bytes 16777216
    expect_code 0
    expect comm.log "^# all-reduce in place, $gpus ranks?, nccl" 1
    expect comm.log '^ +[0-9]+ +[0-9]+ +float +sum +-1( +[0-9.]+){3} +0$' 8
fi
pass "$gpus GPUs train as 1 does, go on with $half and with $gpus again"
