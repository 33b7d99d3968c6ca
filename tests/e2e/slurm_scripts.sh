#!/usr/bin/env bash
# The job scripts with programs in Slurm's and Apptainer's place that write down how they were called: what each exit code
# leads to, how many losses in a row are borne, what is excluded, where the scripts find dtrain, containers and sweeps.
. "$(dirname "$0")/lib.sh"
scripts=$(cd "$E2E_SOURCE/../../slurm" && pwd)
if command -v shellcheck >/dev/null; then shellcheck -x "$scripts"/*.s* >shellcheck.log || fail "shellcheck"; fi

mkdir bin
# stub NAME BODY
stub() {
    printf '#!/bin/bash\n%s\n' "$2" >"bin/$1"
    chmod +x "bin/$1"
}
export CALLS=$work/calls PATH=$work/bin:$PATH STATE=RUNNING RESTARTS=0 NODES='n1 n2 n3' SILENT='' CODE=0 END='' REQUIRED='(null)'
# The ranks: $CODE is how they end, $END what they have recorded by then. A question to a node is answered by all but $SILENT.
# shellcheck disable=SC2016 # the stubs expand it
stub srun 'if [[ $* == *" echo alive" ]]; then
    [[ $* =~ --nodelist=([^ ]*) ]]
    [[ " $SILENT " == *" ${BASH_REMATCH[1]} "* ]] || echo alive
    exit 0
fi
if [ "$*" = --mpi=list ]; then
    printf "MPI plugin types are...\n\tnone\n\tpmix\nspecific pmix plugin versions available: pmix_v4\n"
    exit 0
fi
echo "srun $*" >>"$CALLS"
if [ -n "$END" ]; then
    mkdir -p run
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    for kind in start train end; do
        echo "{\"kind\": \"$kind\", \"step\": 7, \"loss\": 0.5, \"total_steps\": 9, \"status\": \"$END\", \"job\": \"${job:-5}\", \"restart\": ${SLURM_RESTART_COUNT:-0}, \"date\": \"\"}"
    done >>run/metrics.jsonl
fi
exit "$CODE"'
# shellcheck disable=SC2016
stub scontrol 'case "$*" in
show\ hostnames\ *) tr , "\n" <<<"$3" ;;
*show\ job*)
    echo "JobId=5 JobState=$STATE Restarts=$RESTARTS"
    echo "   ReqNodeList=$REQUIRED ExcNodeList=(null)"
    echo "   Command=$SUBMITTED a b"
    echo "   Comment=${COMMENT:-(null)}"
    echo "   StdErr=$PWD/job.log"
    ;;
requeue*)
    echo "scontrol $*" >>"$CALLS"
    [ -z "${REFUSED:-}" ] || { echo "$REFUSED" && exit 1; }
    ;;
*) echo "scontrol $*" >>"$CALLS" ;;
esac'
# shellcheck disable=SC2016
stub sinfo 'tr " " "\n" <<<"$NODES"'
# shellcheck disable=SC2016
stub sleep 'exec /bin/sleep 0.1' # the second between two looks at the ranks; the minute until Slurm ends a script

# job SCRIPT ARGUMENT...: runs it as Slurm would, as job 5 on n1 and n2; sets code.
job() {
    local script=$1
    shift
    : >calls
    code=0
    cp "$scripts/$script" slurm_script
    SUBMITTED=$scripts/$script SLURM_JOB_ID=5 SLURM_JOB_NUM_NODES=2 SLURM_JOB_NODELIST=n1,n2 SLURM_JOB_PARTITION=p SLURMD_NODENAME=n1 \
        SLURM_SUBMIT_DIR=$PWD timeout 60 bash slurm_script "$@" >job.log 2>&1 || code=$?
}

# expect_end CODE REQUEUES PATTERN: what follows from the end of the ranks, and what is said.
expect_end() {
    [ "$code" -eq "$1" ] || fail "ranks ended with $CODE: the script's exit code is $code, want $1: $(cat job.log)"
    expect calls '^scontrol requeue 5$' "$2"
    [ -z "$3" ] || expect job.log "$3"
}
train=(train-srun-pmix.sbatch base.toml run.out_dir=run)
while IFS='|' read -r CODE END want requeued says; do
    rm -rf run
    job "${train[@]}"
    expect_end "$want" "$requeued" "$says"
done <<'CASES'
0|done|0|0|
0||6|1|^job 5: exit code 0, but no rank was started; back into the queue \(restart 1 of at most 20\)
0|stopped|6|1|^job 5: exit code 0, but the run is not finished; back
85|stopped|85|1|^job 5: stopped and saved; back into the queue
2||2|0|
3||3|0|
4||4|0|
5||5|0|
6||6|1|^job 5: a rank was lost or stuck; back
7||7|1|^job 5: a GPU failed; back
1||1|0|
127||127|0|
66||6|1|^job 5: srun failed; back
66|done|6|1|^job 5: srun failed; back
125||6|1|^job 5: a rank was killed, out of memory; back
137||6|1|^job 5: a rank was killed by signal 9; back
139||6|1|^job 5: a rank was killed by signal 11; back
CASES

# Three losses in a row without a newer checkpoint end the job; a newer one, or another job, begins a new row.
rm -rf run
CODE=6 END=''
for turn in 1 2 3 4 5; do
    if [ $turn -eq 3 ]; then mkdir -p run/checkpoints/step-00000010; fi
    job "${train[@]}"
    if [ $turn -eq 5 ]; then
        expect_end 6 0 '^job 5: a rank was lost or stuck; that was loss 3 in a row without a newer checkpoint'
    else
        expect_end 6 1 'back into the queue'
    fi
done
echo "4 step-00000010 2" >run/.slurm-losses
job "${train[@]}"
expect_end 6 1 'back into the queue'
SLURM_RESTART_COUNT=20 RESTARTS=20 job "${train[@]}"
expect_end 6 0 'not put back into the queue, where it has been 20 times'

# The job that Slurm has ended, put back itself, or refuses.
rm -rf run
STATE=CANCELLED job "${train[@]}"
expect_end 6 0 "^job 5: a rank was lost or stuck; the job is Slurm's now \(CANCELLED\)"
RESTARTS=1 job "${train[@]}"
expect_end 6 0 "^job 5: .*Slurm's now"
rm -rf run
REFUSED='no such luck' job "${train[@]}"
expect_end 6 1 '^job 5: .*Slurm refuses to put the job back into the queue \(no such luck\)'

# Nodes that do not answer, and the host of a failed GPU, are excluded where enough others are left.
rm -rf run
excluded() {
    expect calls "^scontrol update JobId=5 ExcNodeList=$1$" "$2"
    rm -rf run
}
SILENT=n2 job "${train[@]}"
expect_end 6 1 '^job 5: a rank was lost or stuck \(no answer from n2\); back'
excluded n2 1
CODE=1 SILENT=n2 job "${train[@]}"
expect_end 1 1 '^job 5: exit code 1 \(no answer from n2\); back'
excluded n2 1
SILENT='n1 n2' job "${train[@]}" # this node does answer: the question is wrong
excluded '.*' 0
SILENT=n2 NODES='n1 n2' job "${train[@]}"
excluded '.*' 0
SILENT=n2 REQUIRED=n1,n2 job "${train[@]}"
excluded '.*' 0
SILENT=n2 EXCLUDE_LOST=0 job "${train[@]}"
excluded '.*' 0
cp bin/srun bin/srun.kept
sed -i 's/^exit "$CODE"/echo "dtrain: rank 3 (n2): CUDA: an illegal address" >\&2\n&/' bin/srun
CODE=7 job "${train[@]}"
expect_end 7 1 '^job 5: a GPU failed; back'
excluded n2 1
mv bin/srun.kept bin/srun

# A comment that is the user's stays.
CODE=0 END=done
job "${train[@]}"
expect calls '^scontrol update JobId=5 Comment=step 7 of 9, loss 0.5000, done$' 1
COMMENT=mine job "${train[@]}"
expect calls 'Comment' 0
PROGRESS_S=0 job "${train[@]}"
expect calls 'Comment' 0

# A rank per GPU, one where there is none, or as many as were asked for.
job "${train[@]}"
expect calls '^srun --ntasks=2 --mpi=pmix --cpu-bind=none --kill-on-bad-exit=1 --nodes=2 --ntasks-per-node=1 sh -c .* base.toml run.out_dir=run$' 1
SLURM_GPUS_ON_NODE=8 job "${train[@]}"
expect calls '^srun --ntasks=16 .*--ntasks-per-node=8 ' 1
SLURM_GPUS_PER_NODE=h100:4 SLURM_GPUS_ON_NODE=8 job "${train[@]}"
expect calls '^srun --ntasks=8 .*--ntasks-per-node=4 ' 1
SLURM_GPUS_PER_NODE=0 SLURM_GPUS_ON_NODE=8 job "${train[@]}"
expect calls '^srun --ntasks=2 .*--ntasks-per-node=1 ' 1
SLURM_NTASKS=3 SLURM_CPUS_PER_TASK=4 job "${train[@]}"
expect calls '^srun --ntasks=3 --mpi=pmix --cpu-bind=none --kill-on-bad-exit=1 --cpus-per-task=4 sh ' 1

# Where dtrain is not, and where nothing is to be trained.
DTRAIN_ROOT=/absent job "${train[@]}"
expect_end 2 0 '^there is no /absent/slurm/job.sh: set DTRAIN_ROOT'
DTRAIN=/absent job "${train[@]}"
expect_end 2 0 '^job 5: there is no /absent: build it'
for knob in MAX_REQUEUE=abc MAX_LOST=0 MAX_LOST=-1 EXCLUDE_LOST=yes PROBE_S=1.5 PROGRESS_S=1m RANKS_PER_NODE=two MPI_TYPE=pmi3; do
    rm -rf run
    CODE=85 SLURM_RESTART_COUNT=30 RESTARTS=30
    export SLURM_RESTART_COUNT
    export "${knob?}"
    for script in train-srun-pmix.sbatch train-mpirun.sbatch; do
        [ "$knob $script" != 'MPI_TYPE=pmi3 train-mpirun.sbatch' ] || continue # does not use it
        job $script base.toml run.out_dir=run
        expect_end 2 0 "^job 5: .*$knob[: ]"
        expect calls '^srun ' 0
    done
    unset "${knob%%=*}" SLURM_RESTART_COUNT
    RESTARTS=0
done
MPI_TYPE=pmix_v4 CODE=2 job "${train[@]}"
expect calls '^srun --ntasks=2 --mpi=pmix_v4 ' 1
job train-srun-pmix.sbatch
expect_end 2 0 '^job 5: usage: sbatch slurm/train-srun-pmix.sbatch'
CODE=6 job train-srun-pmix.sbatch eval base.toml
expect_end 6 0 ''
CODE=66 job train-srun-pmix.sbatch eval base.toml
expect_end 1 0 '^job 5: srun failed'

# A sweep: the task's line, with the shell's quotes, in a directory of its own; and its requeue is its own.
printf 'optim.lr=0.1\n\noptim.lr=0.2  model.name="layers"\n"open\n' >lr.sweep
sweep() { SLURM_ARRAY_JOB_ID=5 SLURM_ARRAY_TASK_ID=$1 job sweep-array.sbatch base.toml lr.sweep train.steps=9; }
CODE=85 END=''
sweep 3
expect calls '^srun .* base.toml train.steps=9 optim.lr=0.2 model.name=layers run.out_dir=runs/lr/3$' 1
expect calls '^scontrol requeue 5_3$' 1
for bad in 2 4 5; do
    sweep $bad
    expect_end 2 0 "^job 5_$bad: lr.sweep"
done

# Containers.
# shellcheck disable=SC2016
stub apptainer 'echo "apptainer $*" >>"$CALLS"
while [ "$1" != an.sif ]; do shift; done
shift
exec "$@"'
# shellcheck disable=SC2016
stub dtrain "exec $DTRAIN"' "$@"'
export DTRAIN=dtrain CODE=85 # not the host's
CONTAINER_IMAGE=an.sif CONTAINER_MOUNTS=/data:/data SLURM_GPUS_ON_NODE=2 job train-container.sbatch base.toml run.out_dir=run
expect calls "^apptainer exec --nv --bind $PWD:$PWD,/data:/data --pwd $PWD an.sif dtrain config base.toml run.out_dir=run$" 1
expect calls "^srun --ntasks=4 .* apptainer exec --nv --bind [^ ]* --pwd $PWD an.sif sh -c .* dtrain base.toml run.out_dir=run$" 1
expect_end 85 1 'stopped and saved; back into the queue'
CONTAINER_IMAGE=registry/dtrain:1 job train-container.sbatch base.toml run.out_dir=run
expect calls "^srun --ntasks=2 .* --container-image=registry/dtrain:1 --container-mounts=$PWD:$PWD --container-workdir=$PWD .*sh -c .* dtrain base.toml" 1
expect calls "^srun --mpi=none .* --container-image=registry/dtrain:1 .* dtrain config base.toml run.out_dir=run$" 1
CONTAINER_IMAGE=x CONTAINER_RUNTIME=docker job train-container.sbatch base.toml
expect_end 2 0 'expected apptainer or pyxis'
job train-container.sbatch base.toml
expect_end 2 0 'set CONTAINER_IMAGE'
pass "exit codes, losses, exclusions, sweeps and containers"

# A server: its exit code is the job's; where it answers is the job's comment, and a signal lets it end in order.
job serve.sbatch
expect_end 2 0 '^job 5: usage: sbatch slurm/serve.sbatch'
job serve.sbatch --model net=gone.onnx
expect_end 3 0 'gone.onnx'
train_ok 1 served.log "$E2E_SOURCE/base.toml" run.out_dir=served
GRACE_S=1 job serve.sbatch --model net=served & # with its own `calls`
await 20 test -s serve-5.url
expect calls '^scontrol update JobId=5 Comment=http://.*:[0-9]+$' 1
expect serve-5.url '^http://.*:[0-9]+$' 1
pkill -USR1 -P "$(pgrep -P $! timeout)" -f slurm_script
wait $!
expect job.log '^ended$' 1
[ ! -e serve-5.url ] || fail "serve-5.url is still there"
