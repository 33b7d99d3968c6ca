#!/usr/bin/env bash
# The job scripts under a real Slurm of four nodes: they train over two of them, save at the early signal, and go on after
# it, after a killed rank, a node without power or network, a start that came to nothing, a preemption; and what must end
# does end.
. "$(dirname "$0")/slurm_cluster.sh"
. "$(dirname "$0")/lib.sh"
scripts=$E2E_SOURCE/../../slurm
common=(base.toml data.train=data/small run.log_every=500 train.global_batch=64 train.steps=1000 checkpoint.every_steps=100)
fail() {
    squeue || true
    sinfo -N || true
    echo "$name: FAILED: $*"
    exit 1
}
for_ever=train.steps=100000000

# field_of JOB NAME: as Slurm has it.
field_of() { scontrol show job "$1" | sed -nE "s/^(.* )?$2=([^ ]*).*/\2/p" | head -n 1; }

# submit LOG ARGUMENT...: sets id.
submit() {
    local log=$1
    shift
    id=$(sbatch --parsable --output="$log" "$@") || fail "sbatch refuses $*"
}

# Jobs that were requeued need not wait for two minutes, as Slurm makes them; but slurmd takes a start in the second of the
# requeue for the one that it is to kill.
hurry() {
    local job
    for job in $(squeue -h -o '%A %t %r' | sed -n 's/ PD BeginTime$//p'); do
        sleep 1.1
        scontrol update JobId="$job" StartTime=now
    done
    # When a job has lost a node, Slurm 22.05 may go on counting cores of other nodes as used, until it counts anew.
    if squeue -h -o '%t %r' | grep -q '^PD Resources$' && all_idle_but_down; then
        scontrol reconfigure
        sleep 3
    fi
}
all_idle_but_down() { [ -z "$(sinfo -h -o %T | grep -vE '^(idle|down\*?)$')" ]; }

# Whether the job is over.
ends() {
    hurry
    case $(field_of "$1" JobState) in PENDING | RUNNING | COMPLETING | REQUEUED | SUSPENDED) return 1 ;; esac
}

# ended JOB STATE RESTARTS [EXIT]: waits for its end.
ended() {
    await 90 ends "$1"
    local got
    got="$(field_of "$1" JobState) $(field_of "$1" Restarts) $(field_of "$1" ExitCode)"
    [[ $got == "$2 $3 "${4:-*} ]] || fail "job $1: state, restarts and exit code are $got, want $2 $3 ${4:-}"
}

# begins LOG: the first step is done. trains DIR: there is a checkpoint, and steps after it.
begins() { grep -q '^first step done' "$1"; }
trains() { grep -q '"step": 200,' "$1/metrics.jsonl"; }
# goes_on LOG TIMES: it has resumed so often, and is on its way.
goes_on() { hurry && [ "$(grep -c '^resuming ' "$1")" -eq "$2" ] && [ "$(grep -c '^first step done' "$1")" -gt "$2" ]; }

# on_nodes JOB NODES: it runs there.
on_nodes() { [ "$(field_of "$1" JobState) $(field_of "$1" NodeList)" = "RUNNING $2" ]; }
has_comment() { scontrol show job "$1" | grep -E "Comment=$2"; }

cluster_start 4 SlurmdTimeout=300
train_ok 2 straight.log "${common[@]}" run.out_dir=straight

# The early signal, as Slurm sends it to ranks and to the script: saved, requeued, resumed, and bit for bit as without.
# One from another directory.
submit srun.log --gpus-per-node=0 --nodes=2 "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=srun
srun=$id
mkdir elsewhere
ln -s "$PWD"/{base.toml,data} elsewhere
(cd elsewhere && submit ../mpirun.log --gpus-per-node=0 --nodes=2 "$scripts/train-mpirun.sbatch" "${common[@]}" run.out_dir=../mpirun && echo "$id" >../id)
mpirun=$(cat id)
await 30 begins srun.log
scancel --signal=USR1 "$srun"
await 30 begins mpirun.log
scancel --signal=USR1 --batch "$mpirun"
for way in srun mpirun; do
    ended "${!way}" COMPLETED 1
    expect $way.log "^job ${!way}: stopped and saved; back into the queue \(restart 1 of at most 20\)" 1
    expect $way.log "^job +${!way}, restart [01], 2 ranks on n[02], n[13];" 2
    expect $way.log '^resuming ' 1
    same_run straight $way
    has_comment "${!way}" 'step 1000 of 1000, loss [0-9.]+, done' >/dev/null || fail "$way: no comment"
done
pass "early signal: $SECONDS s"

# Meanwhile: the time limit itself; two tasks of an array, of which one alone is requeued.
submit limit.log --gpus-per-node=0 --time=1 --signal=USR1@50 "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=limit $for_ever
limit=$id
printf 'run.seed=1\nrun.seed=2 train.clip_norm="1.0"\n' >two.sweep
submit array_%a.log --gpus-per-node=0 --cpus-per-task=1 --array=1-2 "$scripts/sweep-array.sbatch" "${common[0]}" two.sweep "${common[@]:1}"
array=$id
await 30 begins array_2.log
scancel --signal=USR1 "${array}_2"
# A killed rank, of three on two nodes.
PROGRESS_S=1 submit kill.log --nodes=2 --ntasks=3 "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=kill $for_ever
kill=$id
await 60 trains kill
kill -9 "$(pgrep -n -f '^[^ ]*dtrain .*run.out_dir=kill ')" # not the script's, whose arguments are the same
await 30 grep -q "^job $kill: a rank was .*back into the queue" kill.log
ended "${array}_1" COMPLETED 0
ended "${array}_2" COMPLETED 1
grep -q '^clip_norm = 1' runs/two/2/config.toml || fail "the sweep's settings are not in use"
await 60 goes_on kill.log 1
await 30 has_comment "$kill" 'step [0-9]+ of 100000000, loss [0-9.]+, [0-9]+:[0-9][0-9]:[0-9][0-9] to go'
scancel "$kill"
pass "killed rank, array: $SECONDS s"
await 60 grep -q "^job $limit: stopped and saved; back into the queue" limit.log
scancel "$limit"
pass "time limit: $SECONDS s"

# No task can be launched: srun ends with 0, and nothing was trained. What is in the way of PMIx, and what that leaves,
# depends on the numbers of job and step.
submit none.log --gpus-per-node=0 --hold --nodelist=n0 "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=none
none=$id
touch "$cluster"/n{0,1,2,3}"/tmp/spmix_appdir_0_$none".{0,1,2}
scontrol release "$none"
# Requeueing is refused; scancel is not a reason to requeue.
submit refused.log --gpus-per-node=0 --no-requeue "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=refused $for_ever
refused=$id
submit cancel.log --gpus-per-node=0 "$scripts/train-mpirun.sbatch" "${common[@]}" run.out_dir=cancel $for_ever
cancel=$id
await 30 trains refused
scancel --signal=USR1 "$refused"
await 30 trains cancel
scancel "$cancel"
await 30 grep -q "^job $none: exit code 0, but no rank was started; back into the queue" none.log
expect none.log "^job $none: no rank was started \(try [123] of 3\)" 3
rm -rf "$cluster"/n*"/tmp/spmix_appdir_0_$none".* "$cluster"/n*/spool/*"pmix.$none".[12]
ended "$none" COMPLETED 1
expect none.log 'no rank was started \(try' 3
ended "$refused" FAILED 0 85:0
expect refused.log "^job $refused: stopped and saved; Slurm refuses to put the job back into the queue \(.+\)" 1
expect refused.log 'back into the queue \(restart' 0
ended "$cancel" CANCELLED 0
expect cancel.log 'back into the queue \(restart' 0
pass "no launch, refused, cancelled: $SECONDS s"

# A preemption.
submit early.log --gpus-per-node=0 --nodes=2 "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=early $for_ever
early=$id
await 30 trains early
submit urgent.log --partition=first --nodes=4 --exclusive --wrap 'sleep 1'
ended "$id" COMPLETED 0
await 60 goes_on early.log 1
[ "$(field_of "$early" Restarts)" -eq 1 ] || fail "not preempted once"
scancel "$early"
await 60 all_idle
pass "preempted: $SECONDS s"

# A node without power, which dtrain notices before Slurm does: the job goes on without it.
PROBE_S=5 submit power.log --gpus-per-node=0 --nodes=2 "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=power dist.timeout_s=4 $for_ever
power=$id
await 30 trains power
on_nodes "$power" 'n[0-1]' || fail "the job is on $(field_of "$power" NodeList)"
node_off n1
await 120 grep -q "^job $power: from now on without n1" power.log
expect power.log "^job $power: .*\(no answer from n1\); back into the queue" 1
scontrol update NodeName=n1 State=DOWN Reason=test
await 90 goes_on power.log 1
expect power.log "^job +$power, restart [0-9], 2 ranks on n[023], n[23];" 1
pass "node without power: $SECONDS s"

scancel "$power"
node_on n1
await 60 all_idle

# The first node without network, which Slurm notices before dtrain does (an administrator says so to it, which is sooner):
# the restarted job waits for the ranks on it.
submit cut.log --gpus-per-node=0 --nodes=2 "$scripts/train-srun-pmix.sbatch" "${common[@]}" run.out_dir=cut dist.timeout_s=40 $for_ever
cut=$id
await 30 trains cut
on_nodes "$cut" 'n[0-1]' || fail "the job is on $(field_of "$cut" NodeList)"
node_cable n0 down
scontrol update NodeName=n0 State=DOWN Reason=test
await 90 goes_on cut.log 1
expect cut.log '^dtrain: cut is still in use \(n0, process [0-9]+, job [0-9]+\)' 1
# What is left on the lost node does not disturb the job when the network is back.
node_cable n0 up
sleep 5
[ "$(field_of "$cut" JobState)" = RUNNING ] && [ "$(field_of "$cut" Restarts)" -eq 1 ] || fail "the first start disturbed the second"
pass "node without network: $SECONDS s"
