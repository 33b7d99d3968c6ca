#!/usr/bin/env bash
# srun without MPI support starts N jobs of one rank each, all of which believe to be alone: they refuse.
. "$(dirname "$0")/lib.sh"

code=0
SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_JOB_ID=1 timeout 60 "$DTRAIN" base.toml run.out_dir=run >alone.log 2>&1 || code=$?
expect_code 2
expect alone.log '^dtrain: .*(srun|mpirun)'
[ ! -e run ] || fail "it began a run"
SLURM_NTASKS=1 SLURM_PROCID=0 timeout 60 "$DTRAIN" base.toml run.out_dir=run >one.log 2>&1 || fail "a job of one task was refused"
pass "refused"
