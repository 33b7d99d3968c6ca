# shellcheck shell=bash
# A Slurm cluster of nodes that are namespaces of this host: the nodes n0, n1, ... have a network, processes, names and
# shared memory of their own, and share the file system, as over NFS. The controller runs in the test's own namespaces,
# with whose first process all of it ends. Sourced by the test, first of all: it starts itself anew in there.
if [ -z "${SLURM_CLUSTER:-}" ]; then
    for program in slurmctld slurmd munged ip unshare nsenter; do
        command -v $program >/dev/null && continue
        echo "$(basename "$0" .sh): SKIPPED: no $program (launch/packages-test names the packages)"
        exit 77
    done
    alone=(unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc)
    if "${alone[@]}" ip link set lo up 2>/dev/null; then SLURM_CLUSTER=yes exec "${alone[@]}" "$0" "$@"; fi
    echo "$(basename "$0" .sh): SKIPPED: no namespaces here, or not root"
    exit 77
fi
mount --make-rprivate /
unset "${!SLURM_@}"

# slurm_conf LINE...: writes slurm.conf for the nodes, with these lines before the usual ones.
slurm_conf() {
    {
        printf '%s\n' "$@"
        cat <<CONF
ClusterName=test
SlurmctldHost=login(10.78.0.1)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$cluster/munge.socket
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/%n/spool
TmpFS=$cluster/%n/tmp
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/%n/slurmd.pid
SlurmctldLogFile=$cluster/slurmctld.txt
SlurmdLogFile=$cluster/%n/slurmd.txt
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
KillWait=4
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
GresTypes=gpu
NodeName=n[0-$((nodes - 1))] CPUs=2 RealMemory=2000 Gres=gpu:8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=first Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
CONF
    } >"$cluster/slurm.conf"
}

# cluster_start NODES LINE...: as slurm_conf, and starts everything.
cluster_start() {
    local i
    nodes=$1 cluster=$work/cluster
    shift
    mkdir -p "$cluster/state"
    chmod 755 "$work" "$cluster" # munged wants its socket to be in reach
    export SLURM_CONF=$cluster/slurm.conf
    slurm_conf "$@"
    : >"$cluster/cgroup.conf"
    for ((i = 0; i < 8; i++)); do mknod "$cluster/gpu$i" c 1 3; done # GPUs by name alone
    echo "Name=gpu File=$cluster/gpu[0-7]" >"$cluster/gres.conf"
    hostname login
    {
        echo "127.0.0.1 localhost"
        echo "10.78.0.1 login"
        for ((i = 0; i < nodes; i++)); do echo "10.78.0.$((10 + i)) n$i"; done
    } >"$cluster/hosts"
    mount --bind "$cluster/hosts" /etc/hosts
    ip link set lo up
    ip link add switch type bridge
    ip address add 10.78.0.1/24 dev switch
    ip link set switch up
    (umask 077 && head -c 128 /dev/urandom >"$cluster/munge.key")
    munged --force --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" --pid-file="$cluster/munge.pid" \
        --log-file="$cluster/munge.txt" --seed-file="$cluster/munge.seed" 2>>"$cluster/munge.txt"
    # The daemons' environment becomes that of jobs: not the test's.
    env -i PATH="$PATH" SLURM_CONF="$SLURM_CONF" slurmctld 2>>"$cluster/slurmctld.txt"
    for ((i = 0; i < nodes; i++)); do node_on "n$i"; done
    await 30 all_idle
}

all_idle() { [ "$(sinfo -h -o %T | sort -u)" = idle ]; }

# node NAME COMMAND...: runs it there.
node() {
    local pid
    pid=$(cat "$cluster/$1/pid")
    shift
    nsenter -t "$pid" --net --uts --ipc --pid --mount --wd="$PWD" "$@"
}

# node_on NAME: a boot.
node_on() {
    local dir=$cluster/$1 pid
    rm -rf "$dir"
    mkdir -p "$dir/spool" "$dir/tmp"
    # shellcheck disable=SC2016 # the node's shell expands it
    unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc sh -c '
        hostname "$1" && mount -t tmpfs none /dev/shm && touch "$2/up"
        while :; do sleep 3600; done' init "$1" "$dir" </dev/null >"$dir/init.txt" 2>&1 &
    pid=$!
    disown
    await 10 test -e "$dir/up"
    pgrep -P $pid >"$dir/pid"
    ip link add "port-$1" type veth peer name eth0 netns "$(cat "$dir/pid")"
    ip link set "port-$1" master switch up
    node "$1" ip link set lo up
    node "$1" ip address add "10.78.0.$((10 + ${1#n}))/24" dev eth0
    node "$1" ip link set eth0 up
    node "$1" env -i PATH="$PATH" SLURM_CONF="$SLURM_CONF" slurmd -N "$1" </dev/null 2>>"$dir/slurmd.txt"
}

# node_off NAME: without power, all at once.
node_off() {
    ip link del "port-$1"
    kill -9 "$(cat "$cluster/$1/pid")"
}

# node_cable NAME down|up: its network.
node_cable() { ip link set "port-$1" "$2"; }
