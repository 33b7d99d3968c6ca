#!/usr/bin/env bash
# faults.sh CASE MPIEXEC PROGRAM: runs a fault case of comm_ranks on 3 ranks and checks how and how soon the job ends.
set -u
# shellcheck source=tests/dist/mpi.sh
. "$(dirname "$0")/mpi.sh"
case=$1 mpiexec=$2 program=$3
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

fail() {
    echo "faults: $case: $*"
    cat "$log"
    exit 1
}

# want_code "" : any but 0. want_lines: how often the text may appear, as a grep -c result.
case $case in
kill)   limit_s=20 want_code=''    want_text='' ;;
stop)   limit_s=20 want_code=6   want_text='no progress for [5-9] s in step 10 (all-reduce); ending the job' ;;
silent) limit_s=20 want_code=6   want_text='all-reduce did not complete within 1 s: no answer from rank 2 (' ;;
apart)  limit_s=20 want_code=6   want_text='did not complete within 1 s: all ranks are alive, but wait in different calls' ;;
stray)  limit_s=20 want_code=3   want_text='rank 2 (.*): the disk is on fire' ;;
together) limit_s=20 want_code=3 want_text='dtrain: rank 1 (.*): no such shard' ;;
finalize) limit_s=20 want_code=6 want_text='dtrain: rank 0 (.*): MPI_Finalize has not returned after 1 s.*; rank 2 (process .*) is stopped' ;;
lone)   limit_s=20 want_code=2   want_text='set DTRAIN_SINGLE=1' ;;
*) echo "faults: no case $case"; exit 2 ;;
esac

if [ "$case" = lone ]; then
    env -u DTRAIN_SINGLE SLURM_NTASKS=4 "$program" sums >"$log" 2>&1 &
else
    "$mpiexec" --oversubscribe -np 3 "$program" "$case" >"$log" 2>&1 &
fi
job=$!
if ! mpi_wait $job 60; then
    mapfile -t ranks < <(pgrep -P $job)
    kill -KILL $job "${ranks[@]}"
    fail "still running after 60 s"
fi

[ "$code" -ne 0 ] || fail "ended with 0"
[ -z "$want_code" ] || [ "$code" -eq "$want_code" ] || fail "exit code $code, want $want_code"
[ "$took_s" -le "$limit_s" ] || fail "took $took_s s, at most $limit_s s allowed"
[ -z "$want_text" ] || grep -q "$want_text" "$log" || fail "no \"$want_text\" in the output"
case $case in
stop | silent | apart | stray | together | lone | finalize)
    [ "$(grep -c "$want_text" "$log")" -eq 1 ] || fail "the message came more than once" ;;
esac
if [ "$case" = together ] && grep -q MPI_ABORT "$log"; then fail "did not end properly"; fi
if [ "$case" = lone ]; then
    SLURM_NTASKS=4 DTRAIN_SINGLE=1 "$program" sums >"$log" 2>&1 || fail "DTRAIN_SINGLE=1 was refused"
fi
tries=0
while pgrep -f "$program $case\$" >/dev/null; do
    [ $tries -lt 20 ] || fail "a rank is left behind"
    tries=$((tries + 1))
    sleep 0.05
done
echo "faults: $case: code $code after $took_s s: passed"
