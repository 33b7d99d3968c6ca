#!/usr/bin/env bash
# A control group's CPU quota, as a container has one, bounds the threads; where this user may make groups.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small train.steps=1 schedule.warmup_steps=0 checkpoint.every_steps=0 run.threads=0 run.resume=never)
threads() { sed -nE 's/^dtrain .*, ([0-9]+) threads? a rank.*/\1/p' "$1"; }

train_ok 0 free.log "${common[@]}" run.out_dir=free
[ "$(threads free.log)" -ge 2 ] || skip "one core"

# The folder of a new group beside this process' own, for version 1 or 2.
own=$(sed -nE 's/^[0-9]+:([^:]*,)?cpu(,[^:]*)?:(.*)/\3/p' /proc/self/cgroup)
mount=$(awk '$0 ~ / - cgroup .*[ ,]cpu(,|$)/ { print $5; exit }' /proc/self/mountinfo)
if [ -z "$mount" ]; then
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    mount=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
fi
outer=$mount${own%/}/dtrain-test-$$ inner=$mount${own%/}/dtrain-test-$$/inner
mkdir "$outer" 2>/dev/null || skip "no groups can be made in $mount"
leave() {
    local code=$?
    rmdir "$inner" "$outer" 2>/dev/null || true
    clean_up "$code"
}
trap leave EXIT
mkdir "$inner"
if [ -e "$outer/cpu.cfs_quota_us" ]; then
    echo 100000 >"$outer/cpu.cfs_period_us"
    echo 100000 >"$outer/cpu.cfs_quota_us"
else
    { [ -e "$outer/cpu.max" ] && echo "100000 100000" >"$outer/cpu.max"; } 2>/dev/null || skip "no CPU quotas in $mount"
fi
cat >within <<EOF
#!/bin/sh
echo \$\$ >"$inner/cgroup.procs" && exec "$DTRAIN" "\$@"
EOF
chmod +x within
DTRAIN=./within train_ok 0 bounded.log "${common[@]}" run.out_dir=bounded
[ "$(threads bounded.log)" = 1 ] || fail "$(threads bounded.log) threads in a group with the time of one CPU"
pass "1 thread instead of $(threads free.log)"
