#!/usr/bin/env bash
# Batch statistics of all GPUs: they train as one does, captured in the step or not, through NCCL and by way of the host.
# E2E_RANKS_PER_GPU=2 does it on one card.
. "$(dirname "$0")/lib.sh"
need_gpus 2
sed -i 's/^rate = 0.1$/rate = 0.0/' base.toml # of dropout, whose draws go with a row's place on its rank
common=(base.toml run.device=cuda data.train=data/small schedule.kind=constant train.deterministic=true
    train.micro_batch=0)

train_ok 1 one.log "${common[@]}" run.out_dir=one
train_ok "$gpus" all.log "${common[@]}" train.sync_batch_norm=true run.out_dir=all
expect all.log 'communication: nccl' 1
close_losses one all 1e-5 10
train_ok "$gpus" uncaptured.log "${common[@]}" train.sync_batch_norm=true run.out_dir=uncaptured run.capture=off
same_run all uncaptured
train_ok "$gpus" begun.log "${common[@]}" train.sync_batch_norm=true run.out_dir=begun train.steps=20
train_ok "$gpus" begun.log "${common[@]}" train.sync_batch_norm=true run.out_dir=begun
sed -i -E '/"eval", "step": 20,/d' begun/metrics.jsonl
same_run all begun
train_ok "$gpus" mpi.log "${common[@]}" train.sync_batch_norm=true run.out_dir=mpi dist.backend=mpi
close_losses one mpi 1e-5 10
train_ok "$gpus" micro.log "${common[@]}" train.sync_batch_norm=true run.out_dir=micro train.micro_batch=$((16 / gpus))
train_ok "$gpus" fp16.log "${common[@]}" train.sync_batch_norm=true run.out_dir=fp16 train.precision=fp16
close_losses one fp16 0.05 10
train_ok "$gpus" own.log "${common[@]}" run.out_dir=own
if (close_losses one own 1e-3 10) >/dev/null; then fail "statistics of GPUs make no difference"; fi
pass "$gpus GPUs with statistics in common are one"
