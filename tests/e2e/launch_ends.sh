#!/usr/bin/env bash
# launch/train and an mpirun that stays after its ranks: where it has locked itself up the exit code is that of the ranks, where
# somebody reads slowly what they wrote he gets all of it.
. "$(dirname "$0")/lib.sh"
launch=$E2E_SOURCE/../../launch/train
common=(base.toml data.train=data/small run.out_dir=run)
mkdir bin tmp
export TMPDIR=$work/tmp

# mpirun, and then one that waits for itself.
cat >bin/stays.py <<'PYTHON'
import threading
lock = threading.Lock()
lock.acquire()
lock.acquire()
PYTHON
cat >bin/mpirun <<MPIRUN
#!/bin/bash
"$MPIRUN" "\$@"
exec "$(python3 -c 'import sys; print(sys.executable)')" "$work/bin/stays.py"
MPIRUN
chmod +x bin/mpirun

# stays CODE ARGUMENT...: of dtrain, in a directory of its own.
i=0 jobs=()
stays() {
    local want=$1
    shift
    i=$((i + 1))
    PATH=$work/bin:$PATH start "stays-$i.log" "$launch" -n 2 "$@"
    jobs+=("$job $want stays-$i.log")
}
train_ok 2 trained.log "${common[@]}" train.steps=10
stays 0 "${common[@]}" train.steps=20
stays 2 "${common[@]}" train.stepz=3
stays 4 eval "${common[@]}" run.out_dir=absent
# More than a pipe holds, read after a stuck mpirun would have been killed.
slow() {
    { "$launch" -n 2 predict "${common[@]}" data/train 2>slow.log || echo "exit code $?"; } | { sleep 7; cat; }
}
slow >slow.out &
slow=$!
for entry in "${jobs[@]}"; do
    read -r job want log <<<"$entry"
    end "$job" 30
    expect_code "$want"
    expect "$log" '^train: mpirun did not end after its ranks, and was killed'
done
expect stays-1.log '^done: ' 1
expect stays-1.log 'their exit code is 0$' 1
expect stays-2.log '^dtrain: .*train\.stepz' 1
wait "$slow"
[ "$(grep -c '^data/train\[' slow.out)" -eq 6000 ] || fail "a slow reader got $(wc -l <slow.out) of 6000 lines: $(tail -n 1 slow.out)"
expect slow.out 'exit code' 0
[ -z "$(ls tmp)" ] || fail "left behind: $(ls tmp)"
pass "${#jobs[@]} that stayed, and a slow reader"
