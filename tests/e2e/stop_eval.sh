#!/usr/bin/env bash
# A signal in the middle of an evaluation is heeded there; resumed, the run makes up for the evaluation.
. "$(dirname "$0")/lib.sh"
common=(base.toml data.train=data/small data.val=synthetic data.image_size=16 data.synthetic_channels=1
    data.synthetic_classes=4 data.synthetic_samples=200000 train.steps=3 schedule.warmup_steps=0 train.eval_batch=8 run.log_every=1)

# stop_in_evaluation DIR PATTERN ARGUMENT...: a run that is asked to stop soon after it has printed PATTERN.
stop_in_evaluation() {
    local dir=$1 pattern=$2
    shift 2
    begin 2 "$dir.log" "${common[@]}" run.out_dir="$dir" "$@"
    await 30 grep -q "$pattern" "$dir.log"
    sleep 0.2
    ask_to_stop "$job"
    end "$job" 15
    expect_code 85
    [ -z "$(field "$dir" eval step)" ] || fail "the evaluation had ended before the signal: the test says nothing"
}

stop_in_evaluation run 'step 3/3'

# Stopped while making up for it in another directory, the run leaves there what it started from.
stop_in_evaluation other '^resuming' run.resume=run
[ "$(basename "$(newest other)")" = step-00000003 ] || fail "stopped, but other/ holds no checkpoint"

train_ok 2 resumed.log "${common[@]}" run.out_dir=run
each_step_once run 3
[ "$(field run eval step)" = 3 ] || fail "the evaluation of step 3 was not made up for"
[ "$(field run eval lr)" = "$(field run train lr | tail -n 1)" ] || fail "the evaluation tells another learning rate than its step"
# Made up for once, and not again at every start.
train_ok 2 again.log "${common[@]}" run.out_dir=run
expect again.log 'evaluation at step' 0
[ "$(grep -l 'eval/loss' run/events.out.tfevents.* | wc -l)" -eq 1 ] || fail "TensorBoard has the evaluation more than once"
pass "stopped in an evaluation, which came after resuming"
