#!/usr/bin/env bash
# dtrain eval counts the same right answers on 1, 2, 3 and 4 ranks, whatever the batch: each of the 1001 samples once.
. "$(dirname "$0")/lib.sh"

train_ok 2 train.log base.toml data.train=data/small run.out_dir=run train.steps=15
for ranks in 0 1 2 3 4; do
    for batch in 8 100; do
        train_ok "$ranks" "eval-$ranks-$batch.log" eval base.toml data.train=data/small run.out_dir=run train.eval_batch=$batch
        sed -n -E 's/.*, (1001 samples): loss ([0-9.]+), (top-1 [0-9.]+ %, top-5 [0-9.]+ %).*/\1 \3/p' "eval-$ranks-$batch.log" >>counts
        sed -n -E 's/.*: loss ([0-9.]+), .*/\1/p' "eval-$ranks-$batch.log" >>losses
    done
done
[ "$(wc -l <counts)" -eq 10 ] || fail "10 evaluations, $(wc -l <counts) results"
[ "$(sort -u counts | wc -l)" -eq 1 ] || fail "the counts differ: $(sort -u counts | tr '\n' ';')"
awk 'NR == 1 { min = max = $1 } $1 < min { min = $1 } $1 > max { max = $1 } END { exit !(max - min <= 1e-3 * max) }' losses ||
    fail "the losses differ: $(sort -u losses | tr '\n' ' ')"
# The training run itself evaluated the same weights, averaged ones, at its end, and the current ones beside them.
expect train.log 'averaged weights; current weights: loss [0-9.]+, top-1 [0-9.]+ %' 1
[ -n "$(field run eval current_top1)" ] || fail "no accuracy of the current weights on record"
[ "$(sort -u counts)" = "1001 samples $(sed -n -E 's/^evaluation.*(top-1 [0-9.]+ %, top-5 [0-9.]+ %).*/\1/p' train.log)" ] ||
    fail "training found other counts: $(grep '^evaluation' train.log)"
train_ok 2 path.log eval base.toml data.train=data/small run.out_dir=elsewhere run.resume="$(newest run)"
diff <(sed -n -E 's/.*(top-1.*%,).*/\1/p' path.log) <(sed -n -E 's/.*(top-1.*%,).*/\1/p' eval-2-8.log) || fail "run.resume = PATH gives another result"
# Where there are none, none are claimed.
train_ok 2 plain.log base.toml data.train=data/small run.out_dir=plain train.steps=10 train.ema=0
train_ok 2 plain-eval.log eval base.toml data.train=data/small run.out_dir=plain train.ema=0.9
expect plain-eval.log '1001 samples' 1
expect plain-eval.log 'averaged weights' 0
# A set to evaluate on in which the highest class does not occur, with the model's size taken from the data.
"$DTRAIN" data import synthetic --samples 80 --classes 4 --size 16 --out four >import.log
"$DTRAIN" data import synthetic --samples 30 --classes 3 --size 16 --split val --out three >>import.log
fewer=(base.toml model.name=quickstart 'model.layers=[]' data.train=four data.val=three run.out_dir=fewer)
train_ok 2 fewer.log "${fewer[@]}" train.steps=10
train_ok 1 fewer-eval.log eval "${fewer[@]}"
[ "$(sed -n -E 's/.*(top-1 [0-9.]+ %), top-5.*/\1/p' fewer.log)" = "$(sed -n -E 's/.*(top-1 [0-9.]+ %), top-5.*/\1/p' fewer-eval.log)" ] ||
    fail "three of four classes: $(cat fewer-eval.log)"
train_ok 1 other.log eval "${fewer[@]}" 'augment.mean=[0.1, 0.2, 0.3]' 'augment.std=[1.0, 1.0, 1.0]'
expect other.log '^dtrain: these images are normalised with another mean' 1
expect fewer-eval.log 'normalised' 0
# A label that means something else is no label.
for names in abcd abdc; do
    fold -w 1 <<<"$names" >names.txt
    "$DTRAIN" data import idx --images data/idx/small-images.idx --labels data/idx/small-labels.idx --class-names names.txt --split train \
        --out "$names" >>import.log
done
train 2 meaning.log base.toml data.train=abcd data.val=abdc run.out_dir=meaning
expect_code 3
expect meaning.log '^dtrain: .*class 2 is "c" in abcd, but "d" in abdc' 1
train_ok 2 named.log base.toml data.train=abcd data.val=abcd run.out_dir=named train.steps=10
train 2 renamed.log base.toml data.train=abdc data.val= run.out_dir=named train.steps=20
expect_code 2
expect renamed.log 'other class names, or in another order' 1
expect meaning.log 'data import ... --class-names abcd' 1
# Also where the training set is not there any more: the checkpoint knows.
train 2 elsewhere.log eval base.toml data.train=gone data.val=abdc run.out_dir=named augment.mean=[0.5] augment.std=[0.25]
expect_code 3
expect elsewhere.log 'class 2 is "c" in the checkpoint, but "d" in abdc' 1
train_ok 2 same.log eval base.toml data.train=gone data.val=abcd run.out_dir=named augment.mean=[0.5] augment.std=[0.25]
train_ok 2 nameless.log eval base.toml data.train=gone data.val=data/small run.out_dir=named augment.mean=[0.5] augment.std=[0.25]
expect same.log 'none to compare' 0
train_ok 1 half.log base.toml data.train=abcd data.val=data/small run.out_dir=half train.steps=3 schedule.warmup_steps=0
expect half.log 'data/small has no class names to compare with those of abcd' 1
expect nameless.log 'classes have names, those of this evaluation have none to compare' 1
train 1 more.log "${fewer[@]}" run.out_dir=more data.train=three data.val=four
expect_code 3
expect more.log "^dtrain: four has 4 classes, three has only 3: import both with the same classes" 1
# Ranks of which each would train on one sample: too few for batch statistics, which evaluation does not take.
awk '/^\[\[model/ { skip = 1 }
    /^\[data/ { skip = 0; print "[[model.layers]]\ntype = \"global_avgpool\"\n\n[[model.layers]]\ntype = \"batchnorm\"\n" }
    /^\[data/ { print "[[model.layers]]\ntype = \"dense\"\nchannels = 4\n" }
    !skip' base.toml >pairs.toml
pairs=(pairs.toml data.train=data/small train.global_batch=2 train.micro_batch=0 run.out_dir=pairs)
train_ok 1 pairs.log "${pairs[@]}"
train_ok 1 pairs-1.log eval "${pairs[@]}"
train_ok 2 pairs-2.log eval "${pairs[@]}"
pass "$(sort -u counts)"
