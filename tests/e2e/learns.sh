#!/usr/bin/env bash
# learns.sh RANKS: training lowers the loss, reaches the accuracy it should, and leaves what a person looks for.
. "$(dirname "$0")/lib.sh"
ranks=$1

train_ok "$ranks" train.log base.toml run.out_dir=run train.steps=120 optim.lr=0.2 \
    data.train=data/train train.eval_every_epochs=1
each_step_once run 120
field run train loss | awk 'NR <= 5 { first += $1 / 5 } { last[NR % 5] = $1 }
    END { for (i in last) mean += last[i] / 5; exit !(mean < 0.6 * first) }' || fail "the loss did not fall"
field run eval top1 | tail -n 1 | awk '{ exit !($1 > 0.85) }' || fail "top-1 $(field run eval top1 | tail -n 1), want above 0.85"
[ "$(field run eval n_samples | sort -u)" = 1001 ] || fail "an evaluation did not see each of 1001 samples once"

expect train.log "^dtrain  .* on ${ranks/#0/1} rank"
expect train.log '^first step done [0-9.]+ s after the start' 1
expect train.log 'step 120/120 .*loss .*accuracy .*lr .*images/s .*ETA .*data wait'
expect train.log '^done: curves in run/curves.svg' 1
if grep -q $'[\r\e]' train.log; then fail "carriage returns in a log file"; fi

for file in config.toml metrics.jsonl curves.svg checkpoints/step-00000120/manifest.json; do
    [ -s "run/$file" ] || fail "no $file"
done
ls run/events.out.tfevents.* >/dev/null || fail "no TensorBoard events"
grep -q '</svg>' run/curves.svg || fail "curves.svg has no end"
"$DTRAIN" config run/config.toml >resolved.log || fail "the resolved configuration is not accepted"

# A plot that cannot be written is not promised.
mkdir -p plotless/curves.svg
train_ok "$ranks" plotless.log base.toml data.train=data/small train.steps=10 run.out_dir=plotless
expect plotless.log '^warning: there is no plot: plotless/curves.svg: cannot be written' 1
expect plotless.log '^done: records in plotless/metrics.jsonl, weights in plotless/checkpoints$' 1
pass "loss $(field run train loss | head -n 1) to $(field run train loss | tail -n 1) on $ranks ranks"
