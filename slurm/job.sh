# shellcheck shell=bash
# What the job scripts share: starting the ranks, progress in the job's comment, and what follows their end. Sourced.
export DTRAIN_ROOT
# shellcheck source-path=SCRIPTDIR source=env.sh
. "$DTRAIN_ROOT/slurm/env.sh"
export DTRAIN

# As scontrol wants it: an array's last task has the number of the whole array.
job=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
restart=${SLURM_RESTART_COUNT:-0}
out_dir='' # of the run; empty: nothing is trained, or the configuration is wrong
dtrain_here=("$DTRAIN") # runs dtrain on this host, without MPI
# What each task of srun runs. Until dtrain can handle the early signal, it is ignored.
# shellcheck disable=SC2016 # the task's shell expands it
dtrain_task=(sh -c 'trap "" USR1; exec "$0" "$@"' "$DTRAIN")
asked=''   # a signal has asked to stop
srun_failed=66 # of srun itself, not of what it runs
srun_args=(--mpi="$MPI_TYPE" --cpu-bind="$CPU_BIND" --kill-on-bad-exit=1)

dt_say() { echo "job $job: $*"; }

dt_die() {
    echo "job $job: $*" >&2
    exit 2
}

dt_control() { timeout -k 5 30 scontrol "$@"; }

# dt_job_field NAME: of this job, as Slurm has it; empty where there is none.
dt_job_field() {
    local value
    value=$(dt_control show job "$job" 2>/dev/null | sed -nE "s/^(.* )?$1=([^ ]*).*/\2/p" | head -n 1)
    if [ "$value" != '(null)' ]; then echo "$value"; fi
}

# dt_json NAME: the value of a field in a record on standard input.
dt_json() { sed -nE "s/.*\"$1\": \"?([^\",}]*).*/\1/p"; }

# ---- what is run, and where to ----

# dt_check_knobs: those of env.sh that are numbers. A limit that is none would be no limit.
dt_check_knobs() {
    local name range
    for name in MAX_REQUEUE MAX_LOST EXCLUDE_LOST PROBE_S PROGRESS_S RANKS_PER_NODE; do
        case $name in
        EXCLUDE_LOST) range='[01]' ;;
        MAX_LOST | PROBE_S) range='[1-9][0-9]{0,5}' ;;
        RANKS_PER_NODE) range='([1-9][0-9]{0,5})?' ;;
        *) range='(0|[1-9][0-9]{0,5})' ;;
        esac
        [[ ${!name} =~ ^$range$ ]] || dt_die "$name=${!name}: expected a whole number, as $DTRAIN_ROOT/slurm/env.sh says"
    done
}

# dt_check_arguments NAME ARGUMENT...
dt_check_arguments() {
    if [ $# -lt 2 ]; then dt_die "usage: sbatch slurm/$1 CONFIG.toml [section.key=value ...]"; fi
    dt_check_knobs
    command -v "${dtrain_here[0]}" >/dev/null ||
        dt_die "there is no ${dtrain_here[0]}: build it (cmake --preset release && cmake --build build), or set DTRAIN"
}

# Sets ranks, and per_node where it is the script that divides them among the nodes.
dt_count_ranks() {
    per_node=''
    ranks=${SLURM_NTASKS:-}
    [ -z "$ranks" ] || return 0
    # Asked for, as 8 or h100:8; an exclusive node comes with all of its own.
    per_node=${SLURM_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
    per_node=${RANKS_PER_NODE:-${per_node##*:}}
    if ! [[ $per_node =~ ^[1-9][0-9]*$ ]]; then per_node=1; fi # 0 GPUs
    ranks=$((per_node * SLURM_JOB_NUM_NODES))
}

# dt_find_run ARGUMENT...: sets out_dir, where the arguments are those of a training.
dt_find_run() {
    case $1 in
    train) shift ;;
    *.toml) ;;
    *) return 0 ;;
    esac
    out_dir=$("${dtrain_here[@]}" config "$@" 2>/dev/null | sed -nE '/^out_dir = "(.*)"$/{s//\1/;s/\\(["\\])/\1/g;p;q}')
}

# ---- progress ----

# The record of this start of the run; fails where no rank has come that far.
dt_start_record() {
    grep -a '^{"kind": "start"' "$out_dir/metrics.jsonl" 2>/dev/null | tail -n 1 |
        grep "\"job\": \"$job\", \"restart\": $restart,"
}

# "120 0.4321", step and loss of the newest record; fails where there is none.
dt_newest_step() {
    tail -c 8192 "$out_dir/metrics.jsonl" 2>/dev/null | grep -a '^{"kind": "train".*}$' | tail -n 1 |
        sed -nE 's/.*"step": ([0-9]+),.*"loss": ([-+0-9.e]+|null),.*/\1 \2/p' | grep .
}

# dt_progress STEP TOTAL LOSS
dt_progress() {
    local loss=$3
    if [ "$loss" != null ]; then loss=$(LC_ALL=C printf '%.4f' "$loss"); fi
    echo "step $1 of $2, loss $loss"
}

# dt_comment TEXT: the job's comment, unless it has one that is not of these scripts.
dt_comment() {
    case $(dt_job_field Comment) in '' | step*) dt_control update JobId="$job" Comment="$1" ;; esac
}

# Tells from time to time how far the run is, until the script ends. Whatever goes wrong here is no concern of the run.
dt_tell_progress() {
    local total='' first='' at step loss text left_s failed=0 wait_s
    trap 'kill $! 2>/dev/null; exit' TERM
    trap '' USR1
    while kill -0 $$ && [ $failed -lt 3 ]; do
        # In parts: a script that was killed shall not have left this for long.
        for ((wait_s = PROGRESS_S; wait_s > 0; wait_s -= 5)); do
            sleep $((wait_s < 5 ? wait_s : 5)) &
            wait $!
            kill -0 $$ || return
        done
        [ -n "$total" ] || total=$(dt_start_record | dt_json total_steps)
        read -r step loss < <(dt_newest_step) || continue
        [ -n "$total" ] || continue
        text=$(dt_progress "$step" "$total" "$loss")
        if [ -z "$first" ]; then
            first=$step at=$SECONDS
        elif [ "$step" -gt "$first" ]; then
            left_s=$(((total - step) * (SECONDS - at) / (step - first)))
            text+=$(printf ', %d:%02d:%02d to go' $((left_s / 3600)) $((left_s / 60 % 60)) $((left_s % 60)))
        fi
        if dt_comment "$text"; then failed=0; else failed=$((failed + 1)); fi
    done
}

# dt_last_word WORD: how far the run came, and how it ended there.
dt_last_word() {
    local total step loss
    [ "$PROGRESS_S" -gt 0 ] || return
    total=$(dt_start_record | dt_json total_steps)
    if [ -n "$total" ] && read -r step loss < <(dt_newest_step); then
        dt_comment "$(dt_progress "$step" "$total" "$loss"), $1" >/dev/null 2>&1
    fi
}

# ---- running ----

# dt_ask_node NODE: prints its name when a step on it starts nothing; srun may end with 0 all the same.
dt_ask_node() (
    # What the job asked for is not what this step asks for.
    for name in "${!SLURM_@}"; do case $name in SLURM_CONF | SLURM_JOB_ID) ;; *) unset "$name" ;; esac done
    said=$(timeout -k 5 "$PROBE_S" srun --mpi=none --overlap --gres=none --mem=0 --nodes=1 --ntasks=1 --ntasks-per-node=1 \
        --nodelist="$1" echo alive 2>/dev/null </dev/null)
    if [ "$said" != alive ]; then echo "$1"; fi
)

# dt_run COMMAND...: runs it to its end and sets code. SIGUSR1 is handed on; of what else it is trapped for, that too.
dt_run() {
    local pid teller=''
    trap 'asked=yes' USR1
    "$@" &
    pid=$!
    if [ -n "$out_dir" ] && [ "$PROGRESS_S" -gt 0 ]; then
        dt_tell_progress >/dev/null 2>&1 &
        teller=$!
    fi
    while kill -0 $pid; do
        sleep 1 &
        wait $! # until a second or a signal has come
        if [ -n "$asked" ]; then kill -USR1 $pid && asked=''; fi
    done 2>/dev/null # what bash would say of a killed one
    { wait $pid; } 2>/dev/null
    code=$?
    if [ -n "$teller" ]; then kill "$teller" 2>/dev/null; fi
}

# A type that this Slurm lacks would look like the loss of a node. Versions of it may be named with more: pmix_v4.
dt_check_mpi_type() {
    local types
    types=$(timeout -k 5 30 srun --mpi=list 2>&1 </dev/null) || return 0
    if grep -qwi none <<<"$types" && ! grep -qw -- "$MPI_TYPE" <<<"${types//[,:]/ }"; then
        dt_die "MPI_TYPE=$MPI_TYPE: this Slurm has it not (srun --mpi=list): set another, or use train-mpirun.sbatch"
    fi
}

# dt_train_by_srun ARGUMENT...: does not return.
dt_train_by_srun() {
    local more=() try i
    dt_count_ranks
    # shellcheck disable=SC2153 # of env.sh
    read -ra more <<<"$SRUN_ARGS"
    if [ -n "$per_node" ]; then more+=(--nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node="$per_node"); fi
    if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then more+=(--cpus-per-task="$SLURM_CPUS_PER_TASK"); fi
    dt_check_mpi_type
    dt_find_run "$@"
    export SLURM_EXIT_ERROR=$srun_failed
    # Steps are counted anew in each start of a job. An srun that an earlier start has left on a lost node may still end the
    # step of its number, and what a step has left on a node may be in the way of one of its number: take another one.
    for ((i = restart % 4; i > 0; i--)); do dt_ask_node "${SLURMD_NODENAME:-$(hostname -s)}" >/dev/null; done
    # Where srun can launch no task it ends with 0.
    for try in 1 2 3; do
        dt_run srun --ntasks="$ranks" "${srun_args[@]}" "${more[@]}" "${dtrain_task[@]}" "$@"
        if [ -z "$out_dir" ] || dt_start_record >/dev/null; then break; fi
        case $code in 0 | "$srun_failed") dt_say "no rank was started (try $try of 3)" ;; *) break ;; esac
    done
    dt_end
}

# dt_train_by_mpirun ARGUMENT...: does not return.
dt_train_by_mpirun() {
    dt_count_ranks
    # Without a number of tasks every core is a slot of Open MPI's, and the first node would take all ranks.
    if [ -n "$per_node" ]; then export OMPI_MCA_rmaps_base_mapping_policy=ppr:$per_node:node; fi
    dt_find_run "$@"
    # SIGTERM would make mpirun kill its ranks within two seconds; launch/train takes SIGUSR1 as a request to save.
    trap 'asked=yes' TERM
    dt_run "$DTRAIN_ROOT/launch/train" -n "$ranks" "$@"
    dt_end
}

# ---- after the end ----

# Whether this start of the run has done all its steps.
dt_is_finished() {
    tail -c 8192 "$out_dir/metrics.jsonl" 2>/dev/null | grep -a '^{"kind": "end"' | tail -n 1 |
        grep -q "\"status\": \"done\", \"job\": \"$job\", \"restart\": $restart,"
}

# The nodes of this job that start nothing. None where this one does not either: then it is the question that is wrong.
dt_silent_nodes() {
    local node silent
    silent=$(
        for node in $(dt_control show hostnames "$SLURM_JOB_NODELIST"); do dt_ask_node "$node" & done
        wait
    )
    if ! grep -qx -- "${SLURMD_NODENAME:-$(hostname -s)}" <<<"$silent"; then echo "$silent"; fi
}

# The host that the last error of a rank named.
dt_blamed_host() {
    tail -n 100 "$(dt_job_field StdErr)" 2>/dev/null | sed -nE 's/^dtrain: rank [0-9]+ \(([^)]*)\): .*/\1/p' | tail -n 1
}

# dt_can_exclude NODE...: whether enough other nodes of the partition remain, and the job does not insist on these.
dt_can_exclude() {
    local node left
    [ "$EXCLUDE_LOST" != 0 ] && [ $# -gt 0 ] && [ -z "$(dt_job_field ReqNodeList)" ] || return 1
    left=$(timeout 30 sinfo -h -N -p "$SLURM_JOB_PARTITION" -t idle,alloc,mix,comp -o %N 2>/dev/null | sort -u)
    for node in "$@" $(dt_control show hostnames "$(dt_job_field ExcNodeList)" 2>/dev/null); do
        left=$(grep -vx -- "$node" <<<"$left")
    done
    [ "$(grep -c . <<<"$left")" -ge "$SLURM_JOB_NUM_NODES" ]
}

# dt_requeue WHY [NODE...]: back into the queue, without these nodes. Returns where that must not or cannot be.
dt_requeue() {
    local why=$1 state='' said excluded='' told i
    shift
    if [ "$restart" -ge "$MAX_REQUEUE" ]; then
        dt_say "$why; not put back into the queue, where it has been $restart times (MAX_REQUEUE). Submitted again, the same" \
            "command continues"
        return
    fi
    # A controller that is started anew, or out of reach for a while, is waited for.
    for i in 1 2 3 4 5 6 7 8 9 10; do
        state=$(dt_job_field JobState)
        [ -z "$state" ] || break
        echo "job $job: Slurm's controller does not answer (try $i of 10)" >&2
        sleep 30
    done
    # Slurm may have ended the job (scancel) or put it back itself (preemption, a node that failed).
    if [ "$state" != RUNNING ] || [ "$(dt_job_field Restarts)" != "$restart" ]; then
        dt_say "$why; the job is Slurm's now (${state:-it does not answer})"
        return
    fi
    if dt_can_exclude "$@"; then
        excluded=$(dt_job_field ExcNodeList)
        excluded=$(IFS=, && echo "${excluded:+$excluded,}$*")
    fi
    # Slurm now ends what is left of this start: what is under way here goes on (timeout would pass SIGTERM on).
    told=''
    trap 'told=yes' TERM
    if ! said=$(trap '' TERM && scontrol requeue "$job" 2>&1); then
        dt_say "$why; Slurm refuses to put the job back into the queue ($said). Submitted again, the same command continues"
        return
    fi
    dt_say "$why; back into the queue (restart $((restart + 1)) of at most $MAX_REQUEUE)"
    if [ -n "$excluded" ]; then
        if said=$(trap '' TERM && scontrol update JobId="$job" ExcNodeList="$excluded" 2>&1); then
            dt_say "from now on without $excluded (scontrol update JobId=$job ExcNodeList= lets it back in)"
        else
            dt_say "$excluded could not be excluded: $said"
        fi
    fi
    trap 'exit "$code"' TERM
    [ -z "$told" ] || exit "$code"
    sleep 60 &
    wait $!
}

# Counts the losses since the newest checkpoint came; sets losses.
dt_count_loss() {
    local newest by at n file=$out_dir/.slurm-losses
    newest=$(find "$out_dir/checkpoints" -maxdepth 1 -name 'step-*' 2>/dev/null | sort | tail -n 1)
    newest=$(basename "${newest:-none}")
    losses=1
    if read -r by at n <"$file" && [ "$by $at" = "$job $newest" ] && [[ $n =~ ^[0-9]{1,6}$ ]]; then losses=$((n + 1)); fi
    mkdir -p "$out_dir" && echo "$job $newest $losses" >"$file"
} 2>/dev/null

# dt_lost WHY [NODE...]: a rank is gone, and the run goes on without the nodes that are to blame.
dt_lost() {
    local why=$1 silent nodes
    shift
    mapfile -t silent < <(dt_silent_nodes)
    mapfile -t nodes < <(printf '%s\n' "$@" "${silent[@]}" | grep . | sort -u)
    if [ -n "${silent[*]}" ]; then why+=" (no answer from ${silent[*]})"; fi
    if ! dt_count_loss; then
        dt_say "$why; not put back into the queue, because $out_dir cannot be written"
    elif [ "$losses" -ge "$MAX_LOST" ]; then
        dt_say "$why; that was loss $losses in a row without a newer checkpoint (MAX_LOST), so the job ends here. Submitted" \
            "again, the same command continues from the newest checkpoint"
    else
        dt_requeue "$why" "${nodes[@]}"
    fi
}

# What follows from the exit code of the ranks; does not return.
dt_end() {
    local why
    if [ -z "$out_dir" ]; then
        if [ "$code" = "$srun_failed" ]; then dt_say "srun failed" && code=1; fi
        exit "$code"
    fi
    case $code in
    0)
        if dt_is_finished; then
            dt_last_word "done"
        elif code=6 && dt_start_record >/dev/null; then
            dt_lost "exit code 0, but the run is not finished"
        else
            dt_lost "exit code 0, but no rank was started"
        fi
        ;;
    "$srun_failed") code=6 && dt_lost "srun failed" ;;
    85)
        dt_last_word saved
        dt_requeue "stopped and saved"
        ;;
    2 | 3 | 4 | 5) dt_last_word "exit code $code" ;;
    6) dt_lost "a rank was lost or stuck" ;;
    7) dt_lost "a GPU failed" "$(dt_blamed_host)" ;;
    125) code=6 && dt_lost "a rank was killed, out of memory" ;;
    129 | 1[3-8]? | 19[0-2])
        why="a rank was killed by signal $((code - 128))" code=6
        dt_lost "$why"
        ;;
    *)
        # mpirun's own failures have no code of their own; a node without an answer explains them.
        if [ -n "$(dt_silent_nodes)" ]; then dt_lost "exit code $code"; fi
        ;;
    esac
    exit "$code"
}
