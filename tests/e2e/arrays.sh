#!/usr/bin/env bash
# NumPy's files and CSV become sets of arrays with the numbers that went in; what holds no numbers is refused, and
# nothing is made of it. Networks learn from the sets, the same on any number of ranks.
. "$(dirname "$0")/lib.sh"

# made LOG ARGUMENT...
made() {
    local log=$1
    shift
    train_ok 0 "$log" data import "$@"
}
# refused LOG CODE TEXT ARGUMENT...
refused() {
    local log=$1 want=$2 text=$3
    shift 3
    train 0 "$log" data import "$@"
    expect_code "$want"
    expect "$log" "$text" 1
}
# numbers SET FIELD TYPE: those of the only shard, in the file at the place that the index tells; TYPE as od has it.
numbers() {
    local at bytes
    read -r at bytes < <(tr -d ' \n' <"$1/index.json" | grep -o '"data":\[[^]]*' | grep -oE '"offset":[0-9]+,"bytes":[0-9]+' |
        sed -n -E "$2s/[^0-9]+([0-9]+)[^0-9]+([0-9]+)/\1 \2/p")
    od -An -v -w65536 -t "$3" -j "$at" -N "$bytes" "$1"/shard-00000-of-00001.h5 | tr -s ' '
}

# A .npy file: version, header, numbers.
npy() { printf '\x93NUMPY\x01\x00\x76\x00%-117s\n%b' "{'descr': '$1', 'fortran_order': $2, 'shape': $3, }" "$4"; }
npy '<i2' True '(2, 3)' '\x01\x00\xff\xff\x02\x00\xfe\xff\x03\x00\xfd\xff' >x.npy # [[1, 2, 3], [-1, -2, -3]]
npy '>f4' False '(2,)' '\x3f\x80\x00\x00\xc0\x20\x00\x00' >y.npy                  # [1, -2.5]
made npy.log npy x.npy --y y.npy --out npy
expect npy.log '^npy: 2 samples in 1 shard' 1
train_ok 0 info.log data info npy
expect info.log '^kind +arrays' 1
expect info.log '^fields +x i32 \[3\]' 1
expect info.log '^ +y f32 \[\]' 1
train_ok 0 verify.log data verify npy
expect verify.log '2 samples in 1 shard, .*: all sound' 1

[ "$(numbers npy 1 d4)" = " 1 2 3 -1 -2 -3" ] || fail "x: $(numbers npy 1 d4)"
[ "$(numbers npy 2 f4)" = " 1 -2.5" ] || fail "y: $(numbers npy 2 f4)"

made npz.log npz "$E2E_SOURCE/../golden/numpy.npz" --x i2_le_F_m --y u8_le_C_v --out npz
train_ok 0 info.log data info npz
expect info.log '^fields +x i32 \[3\]' 1
[ "$(numbers npz 1 d4 | cut -d' ' -f1-5)" = " -20 -13 -6 1" ] || fail "x of npz: $(numbers npz 1 d4)"
[ "$(numbers npz 2 d8)" = " 0 7 14 21 28 35" ] || fail "y of npz: $(numbers npz 2 d8)"

{
    echo 'size,"rooms, all",price'
    for i in {1..50}; do echo "$i.5,$((i % 4)),$((1000 * i))"; done
} >houses.csv
made csv.log csv houses.csv --val-fraction 0.2 --out csv
expect csv.log '^csv: 50 samples \([0-9]+ in train, [0-9]+ in val\) in 2 shards' 1
made csv2.log csv houses.csv --x size --out csv2
[ "$(numbers csv2 1 f4 | cut -d' ' -f1-4)" = " 1.5 2.5 3.5" ] || fail "sizes: $(numbers csv2 1 f4)"
[ "$(numbers csv2 2 d4 | cut -d' ' -f1-4)" = " 1000 2000 3000" ] || fail "prices: $(numbers csv2 2 d4)"

refused twice.log 2 'column "size" is named twice' csv houses.csv --x size --y size,price --out never
sed '7s/,2,/,,/' houses.csv >empty.csv
refused empty.log 3 'empty.csv:7: column "rooms, all": is empty' csv empty.csv --out never
sed '9s/.*/nan,1,2/' houses.csv >nan.csv
refused nan.log 3 'nan.csv:9: column "size": "nan" is not a number' csv nan.csv --out never
head -c 130 x.npy >cut.npy
refused cut.log 3 'cut.npy: truncated: 2 bytes of numbers of 12' npy cut.npy --out never
npy '|O' False '(2,)' 'cos\nsystem\n' >object.npy
refused object.log 3 'an array of Python objects' npy object.npy --out never
head -c 5000 "$E2E_SOURCE/../golden/numpy.npz" >cut.npz
refused cutz.log 3 'cut.npz: not a sound zip file' npz cut.npz --out never
refused fit.log 2 'option resize is for folder only' csv houses.csv --resize 8 --out never
[ ! -e never ] || fail "a refused import made a data set"

# ---- training ----
awk 'BEGIN {
    srand(7)
    print "a,b,c,y"
    for (i = 0; i < 600; i++) {
        a = 2 * rand() - 1; b = 2 * rand() - 1; c = 2 * rand() - 1
        printf "%.6f,%.6f,%.6f,%.6f\n", a, b, c, 3 * a - 2 * b + c * c
    }
}' >plane.csv
made plane.log csv plane.csv --val-fraction 0.25 --out plane
cat >regress.toml <<'END'
[data]
train = "plane/train"
val = "plane/val"
[model]
name = "layers"
task = "regress"
[[model.layers]]
type = "dense"
channels = 16
bias = true
[[model.layers]]
type = "relu"
[[model.layers]]
type = "dense"
channels = 1
bias = true
[train]
global_batch = 50
micro_batch = 25
epochs = 6
[optim]
kind = "nesterov"
lr = 0.1
[dist]
payload = "fp32"
[run]
device = "cpu"
END
train_ok 1 one.log regress.toml run.out_dir=one
expect one.log '^data +plane/train: [0-9]+ samples, x f32 \[3\], y f32 \[\]$' 1
r2=$(sed -n -E 's/^evaluation at step .* R2 ([-0-9.]+) .*/\1/p' one.log | tail -n 1)
awk -v r2="$r2" 'BEGIN { exit !(r2 > 0.9) }' || fail "R2 is $r2"
train_ok 2 two.log regress.toml run.out_dir=two
[ "$(grep '^evaluation' one.log)" = "$(grep '^evaluation' two.log)" ] || fail "two ranks find other numbers than one"
train_ok 1 first.log regress.toml run.out_dir=parts train.steps=20 schedule.kind=constant
train_ok 1 rest.log regress.toml run.out_dir=parts train.steps=40 schedule.kind=constant
train_ok 1 whole.log regress.toml run.out_dir=whole train.steps=40 schedule.kind=constant
[ "$(grep '^evaluation at step 40' rest.log)" = "$(grep '^evaluation at step 40' whole.log)" ] || fail "continued otherwise"
train_ok 1 eval.log eval regress.toml run.out_dir=one
expect eval.log " R2 $r2 " 1

train_ok 1 generated.log regress.toml run.out_dir=generated data.train=synthetic data.val='""' \
    data.synthetic_fields='x:f32[3] y:f32' train.epochs=0 train.steps=3
train 1 other.log regress.toml run.out_dir=other data.val=npy
expect_code 3
expect other.log 'plane/train has x f32 \[3\], npy has x i32 \[3\]: import both in the same way' 1
train 1 kinds.log regress.toml run.out_dir=other data.val=data/train
expect_code 3
expect kinds.log 'plane/train holds arrays, data/train holds images' 1
sed 's/^channels = 1$/channels = 4/; s/"regress"/"classify"/' regress.toml >classify.toml
awk -F, 'NR == 1 { print "a,b,c,kind"; next } { print $1 "," $2 "," $3 "," 2 * ($1 > 0) + ($2 > 0) }' plane.csv >kinds.csv
made kinds.log csv kinds.csv --val-fraction 0.25 --out kinds
classify=(classify.toml run.out_dir=classes data.train=kinds/train data.val=kinds/val model.classes=4)
train_ok 2 classify.log "${classify[@]}"
expect classify.log '^data +kinds/train: [0-9]+ samples, x f32 \[3\], y i32 \[\]$' 1
expect classify.log '^evaluation at step .* top-1 (8[5-9]|9[0-9])\.[0-9]+ %'
train 2 classes.log "${classify[@]}" model.classes=3 run.out_dir=other
expect_code 3
expect classes.log 'shard-00000-of-00001.h5: sample [0-9]+ has y = 3: with model.classes = 3 expected 0 to 2' 1
train_ok 1 report.log eval "${classify[@]}" --report report
expect report/mistakes.csv '^[0-9]+,shard-00000-of-00001.h5,[0-9]+,[0-3],,[0-3],,'
"$DTRAIN" predict "${classify[@]}" kinds.csv --x a,b,c --format csv --top 2 >answers.csv 2>predict.log || fail "$(cat predict.log)"
[ "$(head -n 1 answers.csv)" = input,sample,label,rank,class,index,probability ] || fail "header: $(head -n 1 answers.csv)"
paste -d, <(awk -F, '$4 == 1' answers.csv | cut -d, -f6) <(tail -n +2 kinds.csv | cut -d, -f4) |
    awk -F, '{ n += $1 == $2 } END { exit !(NR == 600 && n / NR > 0.85) }' || fail "predict tells other classes"
train 0 predict.log predict "${classify[@]}" data/val
expect_code 3
expect predict.log 'data/val: holds images, the network was trained on arrays' 1
awk -F, -v OFS=, 'NR > 1 { $4 = 16777216 + NR } 1' plane.csv >large.csv
made large.log csv large.csv --out large
expect large.log 'row 0 has y = 16777218: fp32' 0
expect large.log 'row 1 has y = 16777219: fp32, in which networks compute, holds whole numbers beyond 2.24 only rounded' 1
train_ok 1 large.log regress.toml run.out_dir=large-run data.train=large data.val= train.steps=1 train.global_batch=600 train.micro_batch=600
expect large.log 'large/shard-00000-of-00001.h5: sample 1 has y = 16777219: fp32' 1
train 1 field.log regress.toml run.out_dir=other data.train=synthetic data.val='""' data.synthetic_fields='x=f32'
expect_code 2
expect field.log 'data.synthetic_fields: "x=f32": expected NAME:TYPE' 1
pass "numbers as they went in"
