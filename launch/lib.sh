# shellcheck shell=bash
# Shared by the launch scripts; sourced by them, not run.

# With CDPATH set, cd may go elsewhere, and prints.
dt_root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

dt_say() { printf '\n== %s\n' "$*"; }

dt_die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

dt_packages() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$dt_root/launch/packages"; }

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

# Prints the packages of launch/packages that are not installed.
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

# dt_mpi_setup RANKS: sets dt_mpi_args for `mpirun "${dt_mpi_args[@]}" PROGRAM` on this host, and what Open MPI wants
# of root. Ranks are not bound to a core: each runs several threads and divides the host's cores itself. What went
# wrong the ranks say; mpirun need not add to it.
dt_mpi_setup() {
    local ranks=$1
    case $(ulimit -Ss) in
    ? | ?? | ???) ulimit -Ss 8192 2>/dev/null || ulimit -Ss "$(ulimit -Hs)" ;; # kB: mpirun does not start with so little
    esac
    dt_mpi_args=(--quiet -np "$ranks" --bind-to none)
    if [ "$ranks" -gt "$(dt_cores)" ]; then dt_mpi_args+=(--oversubscribe); fi
    if [ "$(id -u)" -eq 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
}
