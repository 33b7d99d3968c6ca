#!/usr/bin/env bash
# dtrain eval --report: figures by class, the confusion matrix and the surest mistakes add up to the evaluation's own
# counts, the same on any number of ranks, and with more classes than a picture holds.
. "$(dirname "$0")/lib.sh"

fold -w 1 <<<'abc<' | sed 's/^b$/b, "quoted"/; s/^<$/<d \& é>/' >names.txt
for set in small val; do
    "$DTRAIN" data import idx --images data/idx/$set-images.idx --labels data/idx/$set-labels.idx --class-names names.txt --split $set \
        --out $set >>import.log
done
run=(base.toml data.train=small data.val=val run.out_dir=run)
train_ok 2 train.log "${run[@]}" train.steps=15
for ranks in 0 1 2 3; do
    train_ok "$ranks" "eval-$ranks.log" eval "${run[@]}" --report "deep/report-$ranks"
    expect "eval-$ranks.log" '1001 samples' 1
    expect "eval-$ranks.log" "^report: classes.csv, confusion.csv, confusion.svg and mistakes.csv in deep/report-$ranks\$" 1
    diff -r deep/report-0 "deep/report-$ranks" || fail "$ranks ranks: another report than one's"
done
[ "$(ls deep/report-0 | tr '\n' ' ')" = "classes.csv confusion.csv confusion.svg mistakes.csv " ] || fail "files: $(ls -A deep/report-0)"

# right SUM: top-1 of the evaluation, as the tables count it.
cd deep/report-0
expect classes.csv '^class,name,samples,right,accuracy,predicted$' 1
expect classes.csv '^1,"b, ""quoted""",' 1
sed -i 's/"b, ""quoted"""/b/g' ./*.csv
right=$(awk -F, 'NR > 1 { n += $3; right += $4; p += $6 } END { if (n != 1001 || p != 1001) exit 1; print right }' classes.csv) ||
    fail "classes.csv does not count 1001 samples"
expect ../../eval-0.log "top-1 $(awk -v n="$right" 'BEGIN { printf "%.2f", 100 * n / 1001 }') %" 1
awk -F, -v right="$right" 'NR > 1 { n += $5; if ($1 == $3) d += $5 } END { exit !(n == 1001 && d == right) }' confusion.csv ||
    fail "confusion.csv does not add up"
mistakes=$((1001 - right))
[ "$mistakes" -gt 50 ] || fail "$mistakes mistakes: the test sees nothing"
[ "$(tail -n +2 mistakes.csv | wc -l)" -eq "$mistakes" ] || fail "mistakes.csv does not have the $mistakes mistakes"
awk -F, 'NR > 1 { if ($4 == $6 || $8 > last + (NR == 2)) exit 1; last = $8 } END { exit !(last > 0.2) }' mistakes.csv ||
    fail "mistakes.csv is not in order"
expect mistakes.csv '^[0-9]+,shard-00000-of-00001.h5,[0-9]+,' "$mistakes"
# The labels in it are the set's own.
"$DTRAIN" predict ../../base.toml run.out_dir=../../run ../../val --format csv 2>/dev/null | sed 's/"b, ""quoted"""/b/g' >../../all.csv
awk -F, 'NR == FNR { label[$2] = $3; class[$2] = $5; next } FNR > 1 && ($5 != label[$1] || $7 != class[$1]) { exit 1 }' \
    ../../all.csv mistakes.csv || fail "mistakes.csv and predict say different things"
expect confusion.svg '^<svg ' 1
expect confusion.svg '&#60;d &#38; é&#62;' 2
expect confusion.svg '>c</text>$' 2
cd "$work"

# A thousand classes, most of them without a sample; what cannot be written is said.
many=(base.toml 'model.layers=[]' model.name=quickstart model.classes=1000 data.train=small data.val=val run.out_dir=many)
train_ok 2 many.log "${many[@]}" train.steps=6
train_ok 2 many-eval.log eval "${many[@]}" --report many-report
expect many-report/confusion.svg '>[1-9][0-9]* of 1000 classes: those with most mistakes<' 1
[ "$(wc -l <many-report/classes.csv)" -eq 1001 ] || fail "$(wc -l <many-report/classes.csv) lines for 1000 classes"
awk -F, 'NR > 1 { n += $NF } END { exit !(n == 1001) }' many-report/confusion.csv || fail "1000 classes: confusion.csv does not add up"
: >file
train 2 file.log eval "${run[@]}" --report file/report
[ "$code" -eq 1 ] || fail "a report that cannot be written: exit code $code, want 1"
expect file.log '^dtrain: .*file' 1
expect file.log 'top-1' 0 # said before the work, not after it
train 2 file.log eval "${run[@]}" --report file
[ "$code" -eq 1 ] || fail "a report in a file: exit code $code, want 1"
expect file.log '^dtrain: file: cannot create the directory: there is a file of this name' 1
expect file.log 'top-1' 0
train 2 value.log eval "${run[@]}" --report
expect_code 2
pass "$right of 1001 right, $mistakes mistakes, the same on 1, 2 and 3 ranks"
