#!/usr/bin/env bash
# launch/train where mpirun or dtrain cannot begin: what is in the way is said, and nothing waits for ever.
. "$(dirname "$0")/lib.sh"
unset OMPI_MCA_orte_tmpdir_base # TMPDIR is to say where
launch=$E2E_SOURCE/../../launch/train
common=(base.toml data.train=data/small train.steps=8 run.out_dir=run)

# refused CODE PATTERN COMMAND...: launch/train's end, with the line that says why.
refused() {
    local want=$1 pattern=$2
    shift 2
    code=0
    timeout -k 5 "$(seconds 60)" "$@" >refused.log 2>&1 </dev/null || code=$?
    expect_code "$want"
    expect refused.log "$pattern" 1
    [ ! -e run ] || fail "trained all the same"
}

# Limits: raised as far as the hard limit goes. Root may raise that, too, unless it lacks the right.
held=()
if [ "$(id -u)" -eq 0 ]; then held=(setpriv --bounding-set -sys_resource); fi
# limited LIMIT PATTERN
limited() { refused 2 "$2" bash -c "ulimit $1 && exec \"\$@\"" - "${held[@]}" "$launch" -n 2 "${common[@]}"; }
limited '-s 64' '^train: limited to 64 kB of stack, where mpirun and its ranks need 512: raise ulimit -s$'
limited '-n 40' '^train: limited to 40 open files, where mpirun and its ranks need 80: raise ulimit -n$'
limited '-f 1000' '^train: limited to 1000 kB of a file, where mpirun and its ranks need 5120: raise ulimit -f$'
if [ "$E2E_SLOW" -eq 1 ]; then # no sanitizer
    limited '-v 300000' '^train: limited to 300000 kB of address space, where mpirun and its ranks need 400000: raise ulimit -v$'
fi

# A directory of Open MPI's that is none, and mpirun that ends without a word.
TMPDIR=$work/base.toml/x refused 2 "^train: $work/base.toml is not a directory that can be written" "$launch" -n 2 "${common[@]}"
OMPI_MCA_pml=absent refused 1 '^train: exit code 1; if nothing above says why, this may: mpirun -np 2 .* base.toml ' \
    "$launch" -n 2 "${common[@]}"

# Ranks that hang before they begin end after the time of a start, or 20 s after a request to stop. They are another
# program's, which the shell before it has told to ignore SIGUSR1.
cp "$(command -v tail)" asleep
DTRAIN=$work/asleep DTRAIN_START_TIMEOUT_S=1 "$launch" -n 2 base.toml -f >waits.log 2>&1 &
waits=$!
DTRAIN=$work/asleep "$launch" -n 2 base.toml -f >asked.log 2>&1 &
asked=$!
started+=("$waits" "$asked")
await 10 grep -q every_epochs asked.log
kill "$asked"
# Meanwhile: without its watch launch/train goes on, and passes the exit code on.
"$launch" -n 2 "${common[@]}" train.steps=1000000 run.log_every=1 run.out_dir=unwatched >unwatched.log 2>&1 &
job=$!
started+=("$job")
await 30 grep -q 'step 5/' unwatched.log
kill -KILL "$(pgrep -P "$job" -f dt_mpi_watch)"
kill "$job"
end "$job" 40
expect_code 85
for run in waits asked; do
    ranks=$(pgrep -f "^$work/asleep base.toml" || true)
    end "${!run}" 60
    expect_code 6
    expect $run.log '^train: the ranks did not come to their beginning, and were killed' 1
    [ "$(grep -c Killed $run.log)" -eq 0 ] || fail "$run.log: the shell speaks of a killed process"
done
# shellcheck disable=SC2086 # one pid each
await 10 gone $ranks
pass "limits and directories are told; ranks that do not begin are ended"
