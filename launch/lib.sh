# shellcheck shell=bash
# Shared by the launch scripts; sourced by them, not run.

# With CDPATH set, cd may go elsewhere, and prints.
dt_root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

dt_say() { printf '\n== %s\n' "$*"; }

dt_die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# The lists of packages in launch/ that are installed and asked for.
dt_package_lists=(packages)

dt_packages() { (cd "$dt_root/launch" && sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "${dt_package_lists[@]}"); }

# Whether the text is a whole number from 1 to 999,999.
dt_is_count() { [[ $1 =~ ^[1-9][0-9]{0,5}$ ]]; }

# GPUs of this host, by the driver's tool; of those CUDA_VISIBLE_DEVICES names where it is set: as CUDA does, up to the
# first entry that names none.
dt_gpus() {
    local n named=0 entry entries
    n=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
    if [ -n "${CUDA_VISIBLE_DEVICES+set}" ] && [ "$n" -gt 0 ]; then
        IFS=', ' read -ra entries <<<"$CUDA_VISIBLE_DEVICES"
        for entry in "${entries[@]}"; do
            case $entry in
            GPU-* | MIG-*) ;;
            *) if ! [[ $entry =~ ^[0-9]{1,6}$ ]] || [ "$entry" -ge "$n" ]; then break; fi ;;
            esac
            named=$((named + 1))
        done
        n=$named
    fi
    echo "$n"
}

# Sets dtrain to the program: DTRAIN's or the build's.
dt_find_dtrain() {
    dtrain=${DTRAIN:-$dt_root/build/dtrain}
    [ -e "$dtrain" ] || dt_die "no $dtrain: build it first (launch/quickstart, or cmake --preset release && cmake --build build)"
    if [ ! -f "$dtrain" ] || [ ! -x "$dtrain" ]; then dt_die "$dtrain is not a program: DTRAIN names the file dtrain"; fi
    case $dtrain in /*) ;; *) dtrain=$PWD/$dtrain ;; esac
    command -v mpirun >/dev/null || dt_die "no mpirun on the PATH: launch/packages names the packages"
}

# Prints the packages of these lists that are not installed.
dt_packages_missing() {
    local package
    for package in $(dt_packages); do
        # shellcheck disable=SC2016 # the format is dpkg-query's
        case " $(dpkg-query -W -f '${db:Status-Status} ' "$package" 2>/dev/null)" in
        *\ installed\ *) ;; # not "not-installed"
        *) echo "$package" ;;
        esac
    done
}

# Installs what is missing: nothing, and without the network, where all is there.
dt_packages_install() {
    local missing as_root=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        dt_say "No apt on this system. dtrain needs these packages (Debian's names):"
        dt_packages | sed 's/^/     /'
        echo "   Going on with what is installed; the configuration step names what it does not find."
        return 0
    fi
    missing=$(dt_packages_missing | tr '\n' ' ')
    if [ -z "${missing// /}" ]; then
        dt_say "Packages: all installed"
        return 0
    fi
    dt_say "Packages: installing $missing"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || dt_die "needs root or sudo to install packages; as root, run:
    apt-get update && apt-get install --no-install-recommends $missing"
        as_root=(sudo)
    fi
    # Lists that cannot be renewed may still do.
    "${as_root[@]}" apt-get update -q </dev/null || echo "apt-get update failed; trying with the lists there are"
    # shellcheck disable=SC2086 # one word each
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 $missing </dev/null ||
        dt_die "could not install the packages (on Ubuntu some are in \"universe\": sudo add-apt-repository universe)"
}

# dt_build PRESET CMAKE-ARGUMENT...: configures and builds what a preset names, with one process a core.
dt_build() {
    dt_say "Configuring ($1)"
    cmake -S "$dt_root" --preset "$@" </dev/null
    dt_say "Building ($1)"
    (cd "$dt_root" && cmake --build --preset "$1" --parallel "$(nproc)" </dev/null)
}

# Cores that mpirun counts as slots on this host: cores, not hardware threads.
dt_cores() {
    local n
    n=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l)
    local allowed
    allowed=$(nproc)
    if [ "$n" -ge 1 ] && [ "$n" -lt "$allowed" ]; then echo "$n"; else echo "$allowed"; fi
}

# dt_mpi_limits RANKS: mpirun crashes with little stack or few files, and waits for ever where files may not grow; dtrain's
# libraries do so without memory. Takes what the hard limits allow, and says so where that is not enough.
dt_mpi_limits() {
    local option needed better have what
    while read -r option needed better what; do
        have=$(ulimit -S "-$option")
        if [ "$have" = unlimited ] || [ "$have" -ge "$needed" ]; then continue; fi
        if [ "$better" != - ]; then
            ulimit -S "-$option" "$better" 2>/dev/null || ulimit -S "-$option" "$(ulimit -H "-$option")"
            have=$(ulimit -S "-$option")
            if [ "$have" = unlimited ] || [ "$have" -ge "$needed" ]; then continue; fi
        fi
        echo "$(basename "$0"): limited to $have $what, where mpirun and its ranks need $needed: raise ulimit -$option" >&2
        return 1
    done <<LIMITS
s 512 8192 kB of stack
n $((64 + 8 * ($1 < 64 ? $1 : 64))) 4096 open files
f 5120 - kB of a file
v 400000 - kB of address space
LIMITS
}

# dt_mpi_setup RANKS: sets dt_mpi_args for `mpirun "${dt_mpi_args[@]}" PROGRAM` on this host, and what Open MPI wants
# of root. Ranks are not bound to a core: each runs several threads and divides the host's cores itself. What went
# wrong the ranks say; mpirun need not add to it.
dt_mpi_setup() {
    local ranks=$1
    dt_mpi_limits "$ranks" || exit 2
    dt_mpi_args=(--quiet -np "$ranks" --bind-to none)
    if [ "$ranks" -gt "$(dt_cores)" ]; then dt_mpi_args+=(--oversubscribe); fi
    if [ "$(id -u)" -eq 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
}

# Open MPI's directory for files that mpirun and its ranks share, on this host.
dt_mpi_dir() { echo "${OMPI_MCA_orte_tmpdir_base:-${TMPDIR:-${TEMP:-${TMP:-/tmp}}}}"; }

# Whether it may write there, and that has the room: Open MPI 4 keeps two segments of 4 MiB and some small files there. Without it the ranks end
# at their start, and mpirun does not.
dt_mpi_room() {
    local need_kib=10240 need_files=50 dir at free
    dir=$(dt_mpi_dir)
    at=$dir
    while [ ! -e "$at" ] && [ "$at" != / ] && [ "$at" != . ]; do at=$(dirname "$at"); done # mpirun makes it
    if ! [ -d "$at" ] || ! [ -w "$at" ]; then
        echo "$at is not a directory that can be written, as Open MPI needs it: set TMPDIR to another"
        return 1
    fi
    free=$(df -Pk "$at" 2>/dev/null | awk 'END { print $4 }')
    if [[ $free =~ ^[0-9]+$ ]] && [ "$free" -lt "$need_kib" ]; then
        echo "$dir has $free KiB left, and Open MPI needs $need_kib there: set TMPDIR to a directory with more"
        return 1
    fi
    free=$(df -Pi "$at" 2>/dev/null | awk 'END { if ($2 > 0) print $4 }')
    if [[ $free =~ ^[0-9]+$ ]] && [ "$free" -lt "$need_files" ]; then
        echo "$dir has room for $free more files, and Open MPI needs $need_files: set TMPDIR to a directory with more"
        return 1
    fi
}

# dt_process PID: sets process_name, process_state and process_parent, from /proc.
dt_process() {
    local line rest
    { IFS= read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    process_name=${line#*\(} rest=${line##*\) }
    process_name=${process_name%\) *}
    read -r process_state process_parent rest <<<"$rest"
}

dt_alive() { dt_process "$1" && [ "$process_state" != Z ]; }

# dt_mpi_children MPIRUN RANK-NAME: sets ranks_here, and others_here: what connects mpirun to its other hosts.
dt_mpi_children() {
    local list pid children=()
    ranks_here=() others_here=()
    for list in "/proc/$1"/task/*/children; do
        { IFS=' ' read -r -a children <"$list"; } 2>/dev/null || true
        for pid in "${children[@]}"; do
            dt_alive "$pid" || continue
            case $process_name in
            "$2" | dtrain) ranks_here+=("$pid") ;;
            *) others_here+=("$pid") ;;
            esac
        done
    done
}

# dt_mpi_asleep PROGRAM: whether there are ranks_here, of this program, and none has come to its beginning: they still ignore
# SIGUSR1, as they were started. A library may not get memory, or a file system not answer.
dt_mpi_asleep() {
    local pid key value ignored
    [ "${#ranks_here[@]}" -gt 0 ] || return 1
    for pid in "${ranks_here[@]}"; do
        [ "/proc/$pid/exe" -ef "$1" ] || return 1
        ignored=0 # without a process of its own: this runs in traps
        while read -r key value; do
            [ "$key" != SigIgn: ] || ignored=$value
        done 2>/dev/null <"/proc/$pid/status" || true
        (((0x$ignored >> 9) & 1)) || return 1
    done
}

# dt_mpi_end MPIRUN RANK-NAME: ends mpirun, its ranks and connections; the other hosts' daemons end when they miss it.
# It may be beyond SIGTERM, or die of it with a trace that says nothing about the run.
dt_mpi_end() {
    dt_mpi_children "$1" "$2"
    kill -KILL "$1" 2>/dev/null
    [ "${#others_here[@]}" -eq 0 ] || kill -TERM "${others_here[@]}" 2>/dev/null
    [ "${#ranks_here[@]}" -eq 0 ] || kill -KILL "${ranks_here[@]}" 2>/dev/null
    rm -rf "$(dt_mpi_dir)/ompi.$(uname -n | cut -d. -f1).$(id -u)/pid.$1"
}

# dt_mpi_ends FILE: sets ended to the exit code with which all ranks of this host have ended, by what they wrote there: the
# first that is not 0, as mpirun has it. Fails where one has written none, or has lost another: then mpirun knows more.
dt_mpi_ends() {
    local code of line lines
    ended=0
    { mapfile -t lines <"$1"; } 2>/dev/null && [ "${#lines[@]}" -gt 0 ] || return 1
    for line in "${lines[@]}"; do
        read -r code of <<<"$line"
        [[ $code =~ ^[0-9]{1,3}$ ]] && [ "$code" -ne 6 ] && [ "$of" = "${#lines[@]}" ] || return 1
        [ "$ended" -ne 0 ] || ended=$code
    done
}

# dt_mpi_writes MPIRUN: it waits for whoever reads its output, a pager for one: not for an event, nor for a thread of its own.
dt_mpi_writes() {
    local where=0
    { read -r where <"/proc/$1/wchan"; } 2>/dev/null || true # without a newline; 0 where the kernel does not tell
    case $where in 0 | *futex* | *poll* | *select* | *nanosleep*) return 1 ;; esac
}

# dt_mpi_watch MPIRUN STARTER RANK-NAME HOSTS PROGRAM ENDS: stays beside mpirun until it has ended. Returns 6 where it ended
# mpirun itself, which can outlive its ranks for ever: when its directory is full, when it waits for a host that is gone, or when it
# locks itself up at its end, of which Open MPI 4.1 is capable after any run;
# and 7 where the ranks, of PROGRAM (empty: they may be of any), had not begun in the time that a start may take.
# Where STARTER, the parent of this process, has been killed, it ends the whole job.
dt_mpi_watch() {
    local mpirun=$1 starter=$2 name=$3 hosts=$4 program=$5 ends=$6 had='' second=0 steady=0 alone_s=0 asleep_s=0
    # From the last rank's end, from there where all have told how they ended and no other host is left, from the start without any, until an ssh counts as one that stays, and until a rank begins,
    # later than a rank that waits for others gives up.
    local patience_s=10 told_s=4 first_s=30 steady_s=10 begin_s=${DTRAIN_START_TIMEOUT_S:-300}
    if dt_is_count "$begin_s"; then begin_s=$((begin_s + 10)); else begin_s=310; fi
    trap '' HUP INT TERM USR1 USR2
    while sleep 1 && dt_alive "$mpirun"; do
        if dt_process $$ && [ "$process_parent" -ne "$starter" ]; then
            kill -TERM "$mpirun"
            rm -f "$ends"
            for _ in 1 2 3 4 5; do
                sleep 1
                dt_alive "$mpirun" || return 0
            done
            dt_mpi_end "$mpirun" "$name"
            return 0
        fi
        second=$((second + 1))
        dt_mpi_children "$mpirun" "$name"
        [ "$second" -ne "$steady_s" ] || steady=${#others_here[@]}
        if [ "${#ranks_here[@]}" -gt 0 ] || dt_mpi_writes "$mpirun"; then
            [ "${#ranks_here[@]}" -eq 0 ] || had=yes
            alone_s=0
        elif [ -n "$had" ] || [ "${#others_here[@]}" -lt "$steady" ] || dt_mpi_ends "$ends"; then
            alone_s=$((alone_s + 1))
        fi
        if [ "$asleep_s" -ge 0 ]; then
            if [ "${#ranks_here[@]}" -eq 0 ] || dt_mpi_asleep "$program"; then
                asleep_s=$((asleep_s + 1))
            else
                asleep_s=-1
            fi
        fi
        if [ "$asleep_s" -ge "$begin_s" ] && [ "${#ranks_here[@]}" -gt 0 ]; then
            dt_mpi_end "$mpirun" "$name"
            return 7
        fi
        if [ "$alone_s" -ge "$patience_s" ] || { [ -z "$had$hosts" ] && [ "$second" -ge "$first_s" ]; }; then
            dt_mpi_end "$mpirun" "$name"
            return 6
        fi
        if [ "$alone_s" -ge "$told_s" ] && [ "${#others_here[@]}" -eq 0 ] && dt_mpi_ends "$ends"; then
            dt_mpi_end "$mpirun" "$name"
            return 6
        fi
    done
    return 0
}
