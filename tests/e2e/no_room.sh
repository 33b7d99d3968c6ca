#!/usr/bin/env bash
# Open MPI's directory on a file system without room: launch/train and dtrain say so. Where they do not see it, the ranks
# end at their start and mpirun would not: launch/train ends it, and so does dtrain under plain mpirun, but none that only
# waits for who reads its output. Needs root.
if [ -z "${E2E_MOUNTS:-}" ]; then
    if unshare -m sh -c 'mount -t tmpfs none /mnt' 2>/dev/null; then E2E_MOUNTS=own exec unshare -m "$0" "$@"; fi
    echo "no_room: SKIPPED: cannot mount here"
    exit 77
fi
. "$(dirname "$0")/lib.sh"
unset OMPI_MCA_orte_tmpdir_base # TMPDIR is to say where
launch=$E2E_SOURCE/../../launch/train
common=(base.toml data.train=data/small train.steps=8)
mkdir tiny few blind
mount -t tmpfs -o size=512k none tiny
mount -t tmpfs -o size=64m,nr_inodes=14 none few
trap 'code=$?; umount -l "$work"/tiny "$work"/few; clean_up $code' EXIT

# Beside all of this, with room: more than a pipe holds, read after mpirun would have been killed.
train_ok 0 trained.log "${common[@]}" run.out_dir=other schedule.warmup_steps=1
{ TMPDIR=$work "$MPIRUN" -np 2 "$DTRAIN" predict base.toml run.out_dir=other data/train 2>slow.log || true; } |
    { sleep 23; cat; } >slow.out &
slow=$!
for room in tiny few; do
    code=0
    TMPDIR=$work/$room timeout -k 5 "$(seconds 30)" "$launch" -n 2 "${common[@]}" run.out_dir=run >launch.log 2>&1 || code=$?
    expect_code 2
    expect launch.log "^train: $work/$room has .*set TMPDIR to a directory with more" 1
    TMPDIR=$work/$room train 2 plain.log "${common[@]}" run.out_dir=run
    expect_code 2
    expect plain.log "^dtrain: $work/$room/.* set TMPDIR to a directory with more"
    [ ! -e run ] || fail "trained without room"
done

# Neither sees it.
printf '#!/bin/sh\necho none 1000000 1 999999 1%% /\n' >blind/df
cat >blind/dtrain <<DTRAIN
#!/bin/sh
unset PMIX_SERVER_TMPDIR
exec "$DTRAIN" "\$@"
DTRAIN
chmod +x blind/*
# stuck LOG COMMAND...: in the background; its pid in $job
stuck() {
    local log=$1
    shift
    PATH=$work/blind:$PATH DTRAIN=$work/blind/dtrain TMPDIR=$work/tiny "$@" "${common[@]}" run.out_dir=run >"$log" 2>&1 </dev/null &
    job=$!
    started+=("$job")
}
stuck waits.log "$launch" -n 2
waits=$job
stuck asked.log "$launch" -n 2
asked=$job
stuck killed.log "$launch" -n 2
killed=$job
stuck plain.log "$MPIRUN" -np 2 "$work/blind/dtrain"
plain=$job
for log in waits asked killed plain; do await 10 grep -q MPI_ERRORS_ARE_FATAL $log.log; done
kill -TERM "$asked"
kill -KILL "$killed"
end "$waits" 20
expect_code 6
expect waits.log '^train: mpirun did not end after its ranks' 1
end "$asked" 20
expect_code 6
end_unaided "$plain" 35
[ "$code" -ne 0 ] || fail "exit code 0 of an mpirun that started nothing"
await 20 sh -c "! pgrep -f '^mpirun .*$work/blind/dtrain '"
[ ! -e run ] || fail "trained without room"
wait "$slow"
[ "$(grep -c '^data/train\[' slow.out)" -eq 6000 ] || fail "a slow reader got $(wc -l <slow.out) of 6000 lines: $(tail -n 1 slow.out)"
pass "said so, or ended"
