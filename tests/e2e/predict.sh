#!/usr/bin/env bash
# dtrain predict: over the files of a folder what it says of the set imported from it, whatever way they were imported, and
# the same bytes on any number of ranks; the checkpoint knows names, sizes and normalisation when the data is gone.
. "$(dirname "$0")/lib.sh"
: "${MAKE_IMAGES:?}"

"$MAKE_IMAGES" photos 240 1
"$MAKE_IMAGES" more 101 2
cat >pictures.toml <<'END'
[run]
seed = 3
device = "cpu"
threads = 1
log_every = 20
[model]
name = "quickstart"
[data]
train = "train"
val = "val"
image_size = 24
[augment]
eval_resize = 28
[train]
global_batch = 24
micro_batch = 8
steps = 24
ema = 0.9
eval_every_epochs = 0
[optim]
lr = 0.05
[schedule]
warmup_steps = 3
END

# import KIND OPTION...: train-KIND and val-KIND, and the network of run-KIND trained on them.
import() {
    local kind=$1 set
    shift
    for set in photos:train more:val; do
        "$DTRAIN" data import folder "${set%:*}" --split "${set#*:}" --out "${set#*:}-$kind" --shard-mib 1 "$@" >>import.log 2>&1
    done
    run=(pictures.toml data.train="train-$kind" data.val="val-$kind" run.out_dir="run-$kind")
    train_ok 0 "train-$kind.log" "${run[@]}"
}
# predict RANKS OUT ARGUMENT...: as train, standard output apart.
predict() {
    local ranks=$1 out=$2
    shift 2
    code=0
    if [ "$ranks" -eq 0 ]; then
        timeout -k 5 "$(seconds 60)" "$DTRAIN" predict "$@" >"$out" 2>predict.log </dev/null || code=$?
    else
        OUT=$out through predict.log "$MPIRUN" -np "$ranks" "$DTRAIN" predict "$@"
    fi
}
predict_ok() {
    predict "$@"
    [ "$code" -eq 0 ] || fail "exit code $code, want 0: $(cat predict.log)"
}
# columns: class, index, probability of each input of a CSV, without its name and label.
columns() { tail -n +2 "$1" | sed -E 's/^[^,]*,[0-9]*,[a-z]*,//'; }

# same_as_set KIND: the folder as the set that was imported from it, and as evaluation counts it.
same_as_set() {
    predict_ok 0 folder.csv "${run[@]}" more --format csv --top 4
    predict_ok 0 set.csv "${run[@]}" "val-$1" --format csv --top 4
    [ "$(wc -l <folder.csv)" -eq 405 ] || fail "$1: $(wc -l <folder.csv) lines for 101 inputs of 4 classes"
    cmp <(columns folder.csv) <(columns set.csv) || fail "$1: the folder is predicted otherwise than the set imported from it"
    train_ok 0 eval.log eval "${run[@]}"
    right=$(awk -F, 'NR > 1 && $4 == 1 && index($1, "more/" $5 "/") == 1' folder.csv | wc -l)
    expect eval.log "101 samples: .*top-1 $(awk -v n="$right" 'BEGIN { printf "%.2f", 100 * n / 101 }') %" 1
    [ "$(awk -F, 'NR > 1 && $4 == 1 && $3 == $5' set.csv | wc -l)" -eq "$right" ] || fail "$1: the set's own labels count otherwise"
}
import raw --resize 40 --square
same_as_set raw
import grey --resize 30 --square --channels 1
same_as_set grey
import short --store jpeg --resize 32 --quality 60
same_as_set short
import jpeg --store jpeg
same_as_set jpeg
[ "$right" -gt 40 ] && [ "$right" -lt 101 ] || fail "$right of 101 right: the test sees nothing"

# On any number of ranks the same bytes; inputs stay in their order, named twice and mixed; what cannot be read is told.
mkdir -p odd/deep
cp more/cat/*1.jpg odd/deep
cp "$(find more -name '*.png' | sort | head -n 1)" odd/'a,"b".png'
cp "$(find more -name '*.jpg' | sort | head -n 1)" odd/run.x=1.jpg
head -c 700 "$(find more -name '*.jpg' | sort | head -n 1)" >odd/short.jpg
echo text >odd/text.png
: >odd/empty.jpg
echo text >odd/notes.txt
mkdir none
inputs=(odd "$(find more -name '*.jpg' | sort | tail -n 1)" absent.jpg val-jpeg none odd/deep ./odd/run.x=1.jpg)
for format in text jsonl csv; do
    for ranks in 0 2 3; do
        [ $ranks -ne 2 ] || [ $format = jsonl ] || continue
        predict "$ranks" "$format-$ranks" "${run[@]}" --format $format --top 2 "${inputs[@]}"
        expect_code 3
        for bad in odd/short.jpg odd/text.png odd/empty.jpg absent.jpg 'none: no images'; do expect predict.log "^dtrain: $bad" 1; done
        expect predict.log '^dtrain: 1 file without .jpg or .png in the name left out' 1
        expect predict.log "^dtrain: 5 of $((110 + 2 * $(find odd/deep -name '*.jpg' | wc -l))) inputs could not be read" 1
        cmp "$format-0" "$format-$ranks" || fail "$format: $ranks ranks say something else than one"
    done
done
expect text-0 '^odd/a,"b".png: [a-z]+ [0-9.]+ %, [a-z]+ [0-9.]+ %$' 1
expect text-0 '^val-jpeg\[100\]: .* \(labelled owl\)$' 1
expect csv-0 '^"odd/a,""b"".png",,,1,' 1
[ "$(sed -n -E 's/^\{"input": "val-jpeg", "sample": ([0-9]+), "label": "[a-z]+", .*/\1/p' jsonl-0)" = "$(seq 0 100)" ] ||
    fail "not each sample of the set once, in order"
one='\{"class": "[a-z]+", "index": [0-3], "probability": [0-9.e-]+\}'
! grep -vE '^\{"input": "([^"\\]|\\u[0-9a-f]{4})+"(, "sample": [0-9]+, "label": "[a-z]+")?, "classes": \['"$one, $one"'\]\}$' jsonl-0 ||
    fail "that is not the JSON it should be"
expect jsonl-0 '^\{"input": "odd/a,\\u0022b\\u0022.png", "classes"' 1
for batch in 1 7 64; do
    predict_ok 0 "batch-$batch" "${run[@]}" more train.eval_batch=$batch
    cmp "batch-$batch" batch-1 || fail "in batches of $batch: other answers"
done

# Without the data, and as another checkpoint: by names, sizes and normalisation of the checkpoint.
mkdir away
mv train-* val-* away
predict_ok 2 alone.csv "${run[@]}" more --format csv --top 4
cmp alone.csv folder.csv || fail "without its data set the network says something else"
predict_ok 2 path.csv pictures.toml data.train=gone data.val= run.resume="$(newest run-jpeg)" run.out_dir=elsewhere more --format csv --top 4
cmp path.csv folder.csv || fail "run.resume = PATH gives another result"
predict 2 none.log pictures.toml run.out_dir=elsewhere more
expect_code 4
[ ! -e elsewhere ] || fail "predict made a run directory"
# Evaluation, too, normalises as training did.
train_ok 0 alone.log eval "${run[@]}" data.train=gone data.val=away/val-jpeg
diff <(sed -E 's/ \([0-9]+ samples.s\)//' alone.log) <(sed -E 's/ \([0-9]+ samples.s\)//' eval.log) || fail "evaluation without the training set differs"

# Images of another size than a raw set's are made so, which is told; sets of other channels are not.
run=(base.toml data.train=data/small run.out_dir=digits)
train_ok 0 digits.log "${run[@]}" train.steps=10
predict_ok 0 digits.txt "${run[@]}" more
expect predict.log "^dtrain: 101 images were not of the training set's 16 x 16" 1
expect digits.txt '^more/cat/[0-9]+\.(jpg|png): [0-3] [0-9.]+ %$'
predict 0 channels.txt "${run[@]}" away/val-raw more/owl
expect_code 3
expect predict.log '^dtrain: away/val-raw: 3 channels, but the network was trained on images of 1' 1
"$DTRAIN" data import folder more --channels 1 --resize 20 --square --out twenty >>import.log 2>&1
predict_ok 2 twenty.txt "${run[@]}" twenty
expect predict.log "^dtrain: 101 images in data sets are not of the training set's 16 x 16: seen as eval sees them" 1
# A set may be labelled in classes that the network has not.
printf '%s\n' ape bee cat dog emu fox hen owl >eight.txt
"$DTRAIN" data import folder more --channels 1 --resize 16 --square --class-names eight.txt --out eight >>import.log 2>&1
predict_ok 0 fitted.csv "${run[@]}" more --format csv
for ranks in 0 2; do
    predict_ok "$ranks" "eight-$ranks.csv" "${run[@]}" eight --format csv
    expect predict.log 'not of the training set' 0
    expect "eight-$ranks.csv" '^eight,[0-9]+,owl,1,[0-3],'
    diff <(cut -d, -f4- fitted.csv) <(cut -d, -f4- "eight-$ranks.csv") >/dev/null || fail "labels that the network does not know change what it says"
done

for arguments in "" "more --format xml" "more --top 0" "more --topp 3"; do
    # shellcheck disable=SC2086 # one word each
    predict 0 usage.txt "${run[@]}" $arguments
    expect_code 2
    expect predict.log '^dtrain: ' 1
done
pass "$right of 101 right, from files, sets and four kinds of import, on 1, 2 and 3 ranks"
