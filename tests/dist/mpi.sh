# shellcheck shell=bash
# How tests wait for mpiexec; sourced. Open MPI 4.1's locks itself up now and then in its own end (PMIx_server_finalize), or
# crashes there, after its ranks are gone and it has said all. That is no failure of what it ran: it is killed, and what
# it has said is its exit code.

# mpi_is_over PID: an mpiexec that has had ranks, none of whose children still runs, that sleeps in all of its threads, and
# waits in the first for another of them: in its loop it would wait for something outside, be it by dtrain's fault.
# $mpi_cpu is the processor time it has used.
mpi_is_over() {
    local list state child had='' where=0
    local -a field children
    mpi_is_one "$1" || return 1
    read -r where 2>/dev/null <"/proc/$1/wchan" || true # without a newline at its end; 0 where the kernel does not tell
    [[ $where = *futex* || $where = 0 ]] || return 1
    for list in "/proc/$1"/task/*/children; do
        mpi_stat "${list%/*}" && [ "$state" = S ] || return 1
        children=()
        read -ra children 2>/dev/null <"$list" || true # without a newline at its end
        for child in "${children[@]}"; do
            had=yes
            ! mpi_stat "/proc/$child" || [ "$state" = Z ] || return 1
        done
    done
    mpi_stat "/proc/$1" || return 1
    mpi_cpu="${field[11]} ${field[12]}"
    [ -n "$had" ] || [ "${field[8]}" -gt 0 ] # page faults of children that it has waited for
}

mpi_is_one() {
    local name=''
    read -r name 2>/dev/null <"/proc/$1/comm" || return 1
    case $name in mpirun* | mpiexec* | orterun | prterun) ;; *) return 1 ;; esac
}

# mpi_stat DIR: sets field to what DIR/stat says from the state on, and state.
mpi_stat() {
    local stat
    read -r stat 2>/dev/null <"$1/stat" || return 1
    read -ra field <<<"${stat##*) }"
    state=${field[0]}
}

# mpi_said LOG: the exit code that mpiexec has written of, which it does without --quiet; 1 where it complains without one.
mpi_said() {
    local said
    [ -f "$1" ] || return 0
    said=$(sed -nE -e 's/^ *Exit code: +([0-9]+)$/\1/p' -e 's/^with errorcode ([0-9]+)\.$/\1/p' \
        -e 's/.* exited on signal ([0-9]+) .*/-\1/p' \
        -e 's/^(mpi(exec|run)|orterun) (has exited due|was unable) .*/1/p' "$1" | tail -n 1)
    case $said in
    -*) echo $((128 - said)) ;;
    *) echo "$said" ;;
    esac
}

# mpi_wait PID LIMIT_S [LOG]: waits for a child of this shell, mpiexec or anything else. $code is its exit code, $took_s
# the time until its end or, of an mpiexec that locked itself up, of its ranks: then $locked_up is not empty. Returns 1
# where it still runs, or has ranks, after the limit. LOG is where its standard error goes, needed unless that is a file.
mpi_patience_s=4 # 0: it has to end by itself
mpi_wait() {
    local start_s=$SECONDS over_s='' cpu='' mpi_cpu='' log=${3:-} said
    code=0 locked_up='' took_s=0
    while kill -0 "$1" 2>/dev/null; do
        if [ -z "$log" ] && mpi_is_one "$1"; then log=$(readlink "/proc/$1/fd/2") || true; fi
        if [ "$mpi_patience_s" -eq 0 ] || ! mpi_is_over "$1" || [ "$mpi_cpu" != "$cpu" ]; then
            over_s='' cpu=$mpi_cpu
            took_s=$((SECONDS - start_s))
            [ "$took_s" -le "$2" ] || return 1
        elif [ -z "$over_s" ]; then
            over_s=$SECONDS
        elif [ $((SECONDS - over_s)) -ge "$mpi_patience_s" ]; then
            locked_up=yes
            kill -KILL "$1"
            break
        fi
        sleep 0.05
    done
    wait "$1" 2>/dev/null || code=$?
    said=$(mpi_said "$log")
    if [ -n "$locked_up" ]; then
        code=137
        [ ! -f "$log" ] || code=${said:-0}
        echo "mpiexec locked itself up at its end, and was killed; its exit code would have been $code"
    elif [ "$code" -eq 139 ] && [ -n "$said" ] && [ "$said" -ne 139 ]; then
        code=$said
        echo "mpiexec crashed at its end; its exit code would have been $code"
    fi
}
