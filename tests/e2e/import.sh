#!/usr/bin/env bash
# A folder of images becomes sets to train on: divided by the import, divided before, or with a list of labels. What
# would give images other classes is refused.
. "$(dirname "$0")/lib.sh"

png=iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==
size=(--channels 1 --resize 16 --square)
# images FOLDER CLASS...: 30 images of each class.
images() {
    local folder=$1 class i
    shift
    for class; do
        mkdir -p "$folder/$class"
        for i in {10..39}; do base64 -d <<<"$png" >"$folder/$class/$i.png"; done
    done
}
# refused LOG CODE ARGUMENT...
refused() {
    local log=$1 want=$2
    shift 2
    code=0
    "$DTRAIN" data import folder "$@" >"$log" 2>&1 || code=$?
    expect_code "$want"
}

images photos cat dog hen owl
"$DTRAIN" data import folder photos "${size[@]}" --val-fraction 0.2 --out sets >parts.log
n_val=$(sed -n -E 's/^sets: 120 samples \([0-9]+ in train, ([0-9]+) in val\) of 4 classes.*/\1/p' parts.log)
[ "${n_val:-0}" -ge 8 ] && [ "$n_val" -le 40 ] || fail "parts of 120 images: $(cat parts.log)"
"$DTRAIN" data import folder photos "${size[@]}" --val-fraction 0.2 --out sets >again.log 2>&1
expect again.log '2 shards kept' 1
refused other.log 2 photos "${size[@]}" --val-fraction 0.3 --out sets
refused split.log 2 photos "${size[@]}" --val-fraction 0.2 --split train --out sets
for fraction in 0 1 ten 0.1x; do refused fraction.log 2 photos --val-fraction $fraction --out sets; done
for set in train val; do "$DTRAIN" data verify sets/$set >verify.log; done
train_ok 1 parts-train.log base.toml data.train=sets/train data.val=sets/val run.out_dir=parts train.steps=3 schedule.warmup_steps=0
train_ok 1 parts-eval.log eval base.toml data.train=sets/train data.val=sets/val run.out_dir=parts
expect parts-eval.log "$n_val samples" 1

# Divided before, with a class that does not occur in one part: the commands that the error names do it.
mkdir 'my photos'
mv photos 'my photos/train'
images 'my photos/val' cat dog owl
refused high.log 3 'my photos' "${size[@]}" --out high
[ ! -e high ] || fail "shards of parts taken for classes"
# shellcheck disable=SC2016 # expanded where it is sourced
grep '^  dtrain data import folder ' high.log | sed 's/^  dtrain/"$DTRAIN"/; s/$/ "${size[@]}"/' >commands
[ "$(wc -l <commands)" -eq 2 ] || fail "commands for two parts: $(cat high.log)"
# shellcheck source=/dev/null
. ./commands >commands.log 2>&1
"$DTRAIN" data info high/val >info.log
expect info.log '^ +2 +hen +0$' 1
expect info.log '^ +3 +owl +30$' 1
train_ok 1 high-train.log base.toml data.train=high/train data.val=high/val run.out_dir=high-run train.steps=3 schedule.warmup_steps=0
# Without the training set's classes owl would be class 2.
"$DTRAIN" data import folder 'my photos/val' "${size[@]}" --split val --out three >three.log
train 1 three-train.log base.toml data.train=high/train data.val=three run.out_dir=three-run
expect_code 3
expect three-train.log 'class 2 is "hen" in high/train, but "owl" in three.*--class-names high/train' 1
train 1 fewer.log base.toml data.train=three data.val=high/train run.out_dir=fewer-run
expect_code 3
expect fewer.log 'class 2 is "owl" in three, but "hen" in high/train: import both with the same classes' 1
"$DTRAIN" data import folder 'my photos/val' --channels 3 --resize 16 --square --split val --out colour >colour.log
train 1 colour-train.log base.toml data.channels=0 data.train=high/train data.val=colour run.out_dir=colour-run
expect_code 3
expect colour-train.log "the images of high/train have 1 channel, those of colour have 3: import both" 1
# A folder that the commands filled is no set itself.
train 1 above.log base.toml data.train=high data.val=high/val run.out_dir=above-run
expect_code 3
expect above.log '^dtrain: high: no shard.* train, val in it are data sets' 1
printf '%s\n' hen owl >two.txt
refused unlisted.log 3 'my photos/val' "${size[@]}" --class-names two.txt --out unlisted
expect unlisted.log 'my photos/val/cat: class "cat" is not in two.txt \(nor 1 other\)' 1

# A list.
(cd 'my photos/val' && printf 'file,label\r\n' && find . -name '*.png' | sed -E 's/.*/"&",/; s/$/owl\r/') >labels.csv
"$DTRAIN" data import folder 'my photos/val' "${size[@]}" --labels labels.csv --class-names high/train --out listed >listed.log
"$DTRAIN" data info listed >info.log
expect info.log '^ +3 +owl +90$' 1
echo '"cat/10.png,owl' >>labels.csv
refused quote.log 3 'my photos/val' "${size[@]}" --labels labels.csv --out quote
expect quote.log '^dtrain: labels.csv:92: a quote' 1
pass "$n_val of 120 images for validation"
