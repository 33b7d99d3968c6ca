#!/usr/bin/env bash
# Ranks that were given different configurations, or see different data, refuse to train together.
. "$(dirname "$0")/lib.sh"

sed 's/^lr = .*/lr = 0.04/' base.toml >other.toml
through differ.log "$MPIRUN" -np 1 "$DTRAIN" base.toml run.out_dir=run : -np 1 "$DTRAIN" other.toml run.out_dir=run
expect_code 2
expect differ.log '^dtrain: .*configuration' 1
[ ! -e run/metrics.jsonl ] || fail "training began"
# apart VERB ARGUMENT...: two ranks in the directories one and two.
apart() {
    through "differ-$1.log" "$MPIRUN" -np 1 --wdir one "$DTRAIN" "$1" ../base.toml run.out_dir=../run "${@:2}" : \
        -np 1 --wdir two "$DTRAIN" "$1" ../base.toml run.out_dir=../run "${@:2}"
}
# refused VERB MESSAGE ARGUMENT...
refused() {
    apart "$1" "${@:3}"
    expect_code 2
    expect "differ-$1.log" "^dtrain: $2 differs between ranks" 1
}
mkdir one one/data two two/data
ln -s "$E2E_DATA/train" one/data/train
ln -s "$E2E_DATA/small" two/data/train
ln -s "$E2E_DATA/val" one/data/val
ln -s "$E2E_DATA/val" two/data/val
refused train 'the training set'
[ ! -e run ] || fail "training began"
# What was trained on is the checkpoint's to say.
train_ok 1 trained.log base.toml data.train=data/small run.out_dir=run train.steps=10
apart eval
expect_code 0
expect differ-eval.log ' 1001 samples: ' 1
ln -s "$E2E_DATA/train" one/set
ln -s "$E2E_DATA/small" two/set
refused predict 'the inputs' set
rm one/data/val
ln -s "$E2E_DATA/small" one/data/val
refused eval 'the validation set'
# The same images and labels, which mean something else.
for dir in one two; do
    rm -r $dir/data
    mkdir $dir/data
    fold -w 1 <<<"$([ $dir = one ] && echo abcd || echo abdc)" >names.txt
    for set in train val; do
        "$DTRAIN" data import idx --images "$E2E_DATA/idx/small-images.idx" --labels "$E2E_DATA/idx/small-labels.idx" \
            --class-names names.txt --split $set --out $dir/data/$set >>import.log
    done
done
refused train "the list of the training set's classes"
refused eval "the list of the validation set's classes"
pass "refused"
