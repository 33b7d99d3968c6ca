#!/usr/bin/env bash
# mpirun binds a job of one or two ranks to a core each. Unasked, a rank takes its share of the host all the same; asked,
# it stays where it was put.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small train.steps=1 schedule.warmup_steps=0 checkpoint.every_steps=0 run.threads=0 run.resume=never)
threads() { sed -nE 's/^dtrain .*, ([0-9]+) threads? a rank.*/\1/p' "$1"; }

train_ok 1 free.log "${common[@]}" run.out_dir=free
cores=$(threads free.log)
[ "$cores" -ge 2 ] || skip "one core"
unset OMPI_MCA_hwloc_base_binding_policy OMPI_MCA_rmaps_base_oversubscribe
train_ok 1 unasked.log "${common[@]}" run.out_dir=unasked
[ "$(threads unasked.log)" = "$cores" ] || fail "$(threads unasked.log) threads, want $cores"
OMPI_MCA_hwloc_base_binding_policy=core train_ok 1 asked.log "${common[@]}" run.out_dir=asked
[ "$(threads asked.log)" = 1 ] || fail "$(threads asked.log) threads where one core was asked for"
pass "$cores threads instead of the one core that mpirun chose"
