# shellcheck shell=bash
# Shared by the end-to-end tests; sourced, not run. Each test gets a directory of its own as working directory, with
# base.toml and data/ in it, and a bound on every wait. From ctest: DTRAIN, MPIRUN, E2E_DATA, E2E_SOURCE, E2E_SLOW.
set -euo pipefail
: "${DTRAIN:?}" "${MPIRUN:?}" "${E2E_DATA:?}" "${E2E_SOURCE:?}" "${E2E_SLOW:=1}"
. "$E2E_SOURCE/../dist/mpi.sh"

# Of this host's two or more ranks none is bound, and there may be more ranks than cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=passive
export NCCL_NVLS_ENABLE=0 # NVLink multicast can need a GPU reset after a killed job
unset "${!SLURM_@}" 2>/dev/null || true

name=$(basename "$0" .sh)
work=$(mktemp -d "${TMPDIR:-/tmp}/dtrain-$name.XXXXXX")
started=()

clean_up() {
    local code=${1:-$?} pid
    for pid in "${started[@]}"; do kill_job "$pid"; done
    if [ "$code" -ne 0 ] && [ "$code" -ne 77 ]; then
        for log in "$work"/*.log; do
            [ -s "$log" ] || continue
            echo "---- $(basename "$log")"
            tail -n 40 "$log"
        done
    fi
    cd /
    rm -rf "$work"
    exit "$code"
}
trap clean_up EXIT
cd "$work"
cp "$E2E_SOURCE/base.toml" .
ln -s "$E2E_DATA" data
# One mpirun's end removes a directory that another may be about to use.
export OMPI_MCA_orte_tmpdir_base=$work
# Without a fabric Open MPI chooses this by itself, after having asked all its libraries.
[ -e /sys/class/infiniband ] || export OMPI_MCA_pml=ob1

fail() {
    echo "$name: FAILED: $*"
    exit 1
}

skip() {
    echo "$name: SKIPPED: $*"
    exit 77
}

pass() { echo "$name: $*"; }

# seconds N: N, longer under a sanitizer.
seconds() { echo $(($1 * E2E_SLOW)); }

# train RANKS LOG ARGUMENT...: runs dtrain on RANKS ranks to its end; its exit code is in $code, its time in $took_s.
train() {
    local ranks=$1 log=$2 start_s=$SECONDS
    shift 2
    if [ "$ranks" -gt 0 ]; then
        through "$log" "$MPIRUN" -np "$ranks" "$DTRAIN" "$@"
        return
    fi
    code=0
    timeout -k 5 "$(seconds 60)" "$DTRAIN" "$@" >"$log" 2>&1 </dev/null || code=$?
    took_s=$((SECONDS - start_s))
    [ "$code" -ne 124 ] && [ "$code" -ne 137 ] || fail "$log: still running after $(seconds 60) s"
}

# through LOG COMMAND...: as train, of any command. OUT=FILE: its standard output, apart from LOG.
through() {
    local job
    start "$@"
    end "$job" 60
}

# train_ok: train, and anything but exit code 0 is a failure.
train_ok() {
    train "$@"
    [ "$code" -eq 0 ] || fail "$2: exit code $code, want 0"
}

# begin RANKS LOG ARGUMENT...: starts dtrain in the background; $job is mpirun's pid.
begin() {
    local ranks=$1 log=$2
    shift 2
    start "$log" "$MPIRUN" -np "$ranks" "$DTRAIN" "$@"
}

# start LOG COMMAND...: as begin, of any command. OUT=FILE: its standard output, apart from LOG.
start() {
    local log=$1 OUT=${OUT:-$1}
    shift
    : >"$log" >"$OUT"
    "$@" >>"$OUT" 2>>"$log" </dev/null &
    job=$!
    started+=("$job")
}

# ranks_of JOB: the pids of its ranks.
ranks_of() { pgrep -P "$1" || true; }

# kill_job JOB: kills mpirun and its ranks, without warning.
kill_job() {
    local pids
    pids="$1 $(ranks_of "$1" | tr '\n' ' ')"
    # shellcheck disable=SC2086 # one pid each
    kill -9 $pids 2>/dev/null || true
}

# ask_to_stop JOB: SIGUSR1 to mpirun and to its ranks: not every mpirun hands it on.
ask_to_stop() {
    local pids
    pids="$1 $(ranks_of "$1" | tr '\n' ' ')"
    # shellcheck disable=SC2086 # one pid each
    kill -USR1 $pids 2>/dev/null || true
}

# end JOB SECONDS: waits for a job's end; $code is its exit code, $took_s the time waited. An mpirun that locks itself up
# at its end, all ranks gone, counts as ended with what it has said.
end() {
    local limit_s i
    limit_s=$(seconds "$2")
    mpi_wait "$1" "$limit_s" || fail "job still running after $limit_s s"
    for i in "${!started[@]}"; do [ "${started[i]}" != "$1" ] || unset "started[i]"; done # another may get its number
}

# end_unaided: end, where it is dtrain that has to see to mpirun's end.
end_unaided() { mpi_patience_s=0 end "$@"; }

# gone PID...: none of them runs any more. One that nobody has waited for yet counts as gone.
gone() {
    local pid
    for pid in "$@"; do
        case $(ps -o stat= -p "$pid" || true) in
        '' | Z*) ;;
        *) return 1 ;;
        esac
    done
}

# catches PID COMMAND SIGNAL: the process runs a command line with this in it, and handles the signal.
catches() {
    local mask
    [[ "$(tr '\0' ' ' <"/proc/$1/cmdline")" = *"$2"* ]] || return 1
    mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status")
    [ $(((0x$mask >> ($(kill -l "$3") - 1)) & 1)) -eq 1 ]
}

# await SECONDS COMMAND...: waits until the command succeeds, on a host with nothing else to do within so many seconds.
await() {
    local limit_s start_s=$SECONDS
    limit_s=$(seconds $((3 * $1)))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((SECONDS - start_s)) -le "$limit_s" ] || fail "waited $limit_s s in vain for: $*"
        sleep 0.02
    done
}

expect_code() { [ "$code" -eq "$1" ] || fail "exit code $code, want $1"; }

# expect LOG PATTERN [TIMES]: the extended regular expression is in so many lines of the log; without TIMES: in some.
expect() {
    local n
    n=$(grep -cE -- "$2" "$1" || true)
    if [ $# -lt 3 ]; then
        [ "$n" -ge 1 ] || fail "$1: no line with \"$2\""
    else
        [ "$n" -eq "$3" ] || fail "$1: $n lines with \"$2\", want $3"
    fi
}

newest() { find "$1/checkpoints" -maxdepth 1 -name 'step-*' | sort | tail -n 1; }

# records DIR KIND: its records without the times, which no two runs share.
records() {
    grep "\"kind\": \"$2\"" "$1/metrics.jsonl" |
        sed -E 's/, "(samples_per_s|step_ms|data_wait)": [^,}]*//g'
}

# field DIR KIND NAME: the values of one field, a line each.
field() { grep "\"kind\": \"$2\"" "$1/metrics.jsonl" | sed -E "s/.*\"$3\": ([^,}]*).*/\\1/"; }

# same_run A B: both directories hold the same weights, optimizer state, statistics and records, bit for bit.
same_run() {
    local a b
    a=$(newest "$1") b=$(newest "$2")
    [ "$(basename "$a")" = "$(basename "$b")" ] || fail "$1 ends at $a, $2 at $b"
    cmp "$a/state.h5" "$b/state.h5" || fail "$a and $b differ"
    diff <(records "$1" train) <(records "$2" train) >records.log || fail "$1 and $2 tell different training steps"
    diff <(records "$1" eval) <(records "$2" eval) >records.log || fail "$1 and $2 tell different evaluations"
}

# each_step_once DIR N: metrics.jsonl has the steps 1 to N once each, in order.
each_step_once() { diff <(field "$1" train step) <(seq "$2") >steps.log || fail "$1: not each step of 1 to $2 once"; }

# close_losses A B TOLERANCE [STEPS]: the losses of the first STEPS steps, without it of all, agree relatively.
close_losses() {
    paste <(field "$1" train loss) <(field "$2" train loss) | head -n "${4-1000000}" | awk -v tolerance="$3" '
        { d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || !(d <= tolerance * ($1 + 1e-3))) bad = bad " " NR ": " $0 }
        END { if (NR == 0 || bad != "") { print "steps" bad; exit 1 } }' >losses.log ||
        fail "losses of $1 and $2 differ by more than $3"
}

# need_gpus N: skips the test on a host with fewer, or when dtrain was built without CUDA. $gpus becomes the 1, 2, 4 or 8
# GPUs to use. With E2E_RANKS_PER_GPU=R, and NCCL 2.30 or later, R ranks share each.
need_gpus() {
    local n
    n=$(. "$E2E_SOURCE/../../launch/lib.sh" && dt_gpus)
    if [ "$n" -ge 1 ] && [ "${E2E_RANKS_PER_GPU:-1}" -gt 1 ]; then
        n=$((n * E2E_RANKS_PER_GPU))
        export NCCL_MULTI_RANK_GPU_ENABLE=1 NCCL_MAX_CTAS=4
        sed -i 's/^\[dist\]$/&\nshare_gpu = true\nbackend = "nccl"/' base.toml
    fi
    [ "$n" -ge "$1" ] || skip "needs $1 GPU(s), $n here"
    for gpus in 8 4 2 1; do [ "$gpus" -gt "$n" ] || break; done
    train 0 built.log inspect base.toml run.device=cuda
    ! grep -q 'without CUDA' built.log || skip "dtrain is built without CUDA"
}

# flip FILE OFFSET: inverts one byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
