#!/usr/bin/env bash
# Tables of numbers, from CSV, .npy and .npz: imported, trained, resumed and evaluated, for each task that they can have, on one
# rank (0: without MPI) or many.
. "$(dirname "$0")/lib.sh"
ranks=$1

# A table whose last column follows from the others; the labels say whether a number is positive.
awk 'BEGIN { srand(5); print "size,rooms,age,price,old,large"
    for (i = 0; i < 600; i++) { s = 2 * rand() - 1; r = int(8 * rand()); a = 40 * rand()
        printf "%.5f,%d,%.4f,%.5f,%d,%d\n", s, r, a, 2 * s * s + 0.5 * r - 0.05 * a + 1, (a > 20), (s > 0.2) } }' >houses.csv
train_ok 0 import.log data import csv houses.csv --x size,rooms,age --y price --val-fraction 0.2 --out datasets/table

# The configuration that comes with dtrain learns it.
config=$E2E_SOURCE/../../configs/table.toml
train_ok "$ranks" table.log "$config" run.device=cpu run.threads=1 train.epochs=60 train.eval_every_epochs=20
expect table.log '^data +datasets/table/train: [0-9]+ samples, x f32 \[3\], y f32' 1
expect table.log 'step [0-9]+/[0-9]+ .*loss .*RMSE .*lr .* samples/s'
expect table.log 'images' 0
expect table.log '^evaluation at step [0-9]+, epoch 60[0-9.]*: loss [0-9.]+, RMSE [0-9.]+, MAE [0-9.]+, R2 ' 1
r2=$(field runs/table eval r2 | tail -n 1)
awk "BEGIN { exit !($r2 > 0.98) }" || fail "R2 of configs/table.toml is $r2"
train_ok "$ranks" eval.log eval "$config" run.device=cpu
expect eval.log "^runs/table/checkpoints/step-[0-9]+: step [0-9]+, [0-9]+ samples: loss .*, RMSE .*, MAE .*, R2 0\\.9[89]" 1
if [ "$ranks" -eq 0 ]; then
    # What predict gives of the set is what eval measures; of the columns alone, and of NumPy's files, the same.
    train_ok 0 import.log data import csv houses.csv --x size,rooms,age --y price --out whole
    train_ok 0 eval_whole.log eval "$config" run.device=cpu data.val=whole
    rmse=$(sed -n -E 's/.*RMSE ([0-9.e-]+),.*/\1/p' eval_whole.log)
    "$DTRAIN" predict "$config" run.device=cpu whole --format csv >set.csv 2>predict.log || fail "predict: $(cat predict.log)"
    [ "$(head -n 1 set.csv)" = input,sample,y ] || fail "header: $(head -n 1 set.csv)"
    [ "$(wc -l <set.csv)" -eq 601 ] || fail "$(wc -l <set.csv) lines of 600 rows"
    paste -d, <(tail -n +2 set.csv | cut -d, -f3) <(tail -n +2 houses.csv | cut -d, -f4) |
        awk -F, -v rmse="$rmse" '{ s += ($1 - $2) ^ 2 } END { r = sqrt(s / NR); exit !(r / rmse > 0.995 && r / rmse < 1.005) }' ||
        fail "the predictions do not have RMSE $rmse"
    "$DTRAIN" predict "$config" run.device=cpu houses.csv --x size,rooms,age --format csv >columns.csv 2>predict.log || fail "predict"
    cmp <(cut -d, -f2- set.csv) <(cut -d, -f2- columns.csv) || fail "a CSV file gives other numbers than the set made of it"
    cut -d, -f1-3 houses.csv >bare.csv
    "$DTRAIN" predict "$config" run.device=cpu bare.csv --format csv >columns.csv 2>predict.log || fail "predict"
    cmp <(cut -d, -f2- set.csv) <(cut -d, -f2- columns.csv) || fail "a CSV file of inputs gives other numbers"
    OUT=three.csv through predict.log "$MPIRUN" -np 3 "$DTRAIN" predict "$config" run.device=cpu whole --format csv
    expect_code 0
    cmp set.csv three.csv || fail "three ranks give other numbers"
    python3 - <<'PYTHON'
import struct
rows = [line.split(",")[:3] for line in open("houses.csv").read().split()[1:]]
v = [float(x) for row in rows for x in row]
v[3 * 7 + 1] = float("nan")
head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(rows)}, 3), }}".ljust(117) + "\n"
open("rows.npy", "wb").write(b"\x93NUMPY\x01\x00\x76\x00" + head.encode() + struct.pack(f"<{len(v)}d", *v))
PYTHON
    code=0
    "$DTRAIN" predict "$config" run.device=cpu rows.npy --format csv >npy.csv 2>predict.log || code=$?
    expect_code 3
    expect predict.log '^dtrain: rows.npy: \[7, 1\] is not finite' 1
    cmp <(cut -d, -f2- set.csv | grep -v '^7,') <(cut -d, -f2- npy.csv) || fail "a .npy file gives other numbers"
    "$DTRAIN" predict "$config" run.device=cpu whole >text.txt 2>predict.log || fail "predict"
    expect text.txt '^whole\[[0-9]+\]: y [-0-9.e]+$' 600
    train 0 predict.log predict "$config" run.device=cpu houses.csv
    expect_code 3
    expect predict.log 'houses.csv: has 6 columns, and the network reads 3: name those' 1
    train 0 predict.log predict "$config" run.device=cpu whole --top 2
    expect_code 2
    expect predict.log '[-][-]top is of classes' 1
    # What would be ignored of the data's kind, and numbers of other rows under the old name.
    train 0 flip.log "$config" run.device=cpu augment.flip=true
    expect_code 2
    expect flip.log 'command line: augment.flip: would be ignored: it counts only with images, and here the data is arrays' 1
    awk -F, -v OFS=, 'NR > 1 { $4 = $4 + 1 } 1' houses.csv >other.csv
    train_ok 0 import.log data import csv other.csv --x size,rooms,age --y price --val-fraction 0.2 --out datasets/other
    mv datasets/table/train datasets/before && mv datasets/other/train datasets/table/train
    train 0 changed.log "$config" run.device=cpu train.epochs=61
    expect_code 2
    expect changed.log 'was written on a training set with other samples, or in another order, than datasets/table/train holds now' 1
    train_ok 0 changed.log "$config" run.device=cpu run.threads=1 train.epochs=61 data.allow_changed=true run.resume=runs/table run.out_dir=changed
    expect changed.log '^note: datasets/table/train holds other samples than the checkpoint was written on' 1
    rm -r datasets/table/train && mv datasets/before datasets/table/train
    train 0 report.log eval "$config" --report report
    expect_code 2
    expect report.log 'a report is of classes' 1
    train_ok 0 inspect.log inspect "$config"
    expect inspect.log '^hidden1 +dense +32x64 f32 ' 1
    train_ok 0 profile.log profile "$config" run.device=cpu run.threads=1 --steps 2 --by layer
    expect profile.log ' hidden1$' 1
    train_ok 0 bench.log bench step "$config" run.device=cpu --steps 3
    expect bench.log 'samples/s' 1
fi

# task NAME TASK SET...: a network of one hidden layer; the rest of its configuration is standard input.
task() {
    {
        printf '[model]\nname = "layers"\ntask = "%s"\n' "$2"
        cat
        printf '[data]\ntrain = "%s/train"\nval = "%s/val"\n[run]\nout_dir = "%s"\ndevice = "cpu"\nthreads = 1\n' "$3" "$3" "$1"
        printf '[train]\nglobal_batch = 32\nmicro_batch = 16\nsteps = 300\neval_every_epochs = 0\n[optim]\nkind = "adamw"\nlr = 0.02\n'
        printf '[checkpoint]\nevery_steps = 100\nevery_epochs = 0.0\n[dist]\ntimeout_s = 60.0\n'
    } >"$1.toml"
}
hidden='[[model.layers]]
type = "batchnorm"
[[model.layers]]
type = "dense"
name = "hidden"
channels = 32
[[model.layers]]
type = "tanh"
name = "features"'

# A set in which nothing has a label teaches nothing, and that is said once.
awk -F, 'NR == 1 { print "size,rooms,age,y" } NR > 1 { print $1 "," $2 "," $3 ",-1" }' houses.csv >bare.csv
train_ok 0 import.log data import csv bare.csv --y y --val-fraction 0.2 --out unlabelled
task bare classify unlabelled <<<"classes = 2
$hidden
[[model.layers]]
type = \"dense\"
channels = 2"
train_ok "$ranks" bare.log bare.toml train.steps=3
expect bare.log 'no label to learn from: all are -1' 1

# Any number of labels, and a second loss on a layer in the middle.
train_ok 0 import.log data import csv houses.csv --x size,rooms,age --y old,large --val-fraction 0.2 --out labels
task multi multilabel labels <<<"$hidden
[[model.layers]]
type = \"dense\"
channels = 2"
train_ok "$ranks" multi.log multi.toml
accuracy=$(field multi eval accuracy | tail -n 1)
awk "BEGIN { exit !($accuracy > 0.95) }" || fail "label accuracy is $accuracy"
if [ "$ranks" -eq 0 ]; then
    "$DTRAIN" predict multi.toml labels/val --format csv >labels.csv 2>predict.log || fail "predict: $(cat predict.log)"
    [ "$(head -n 1 labels.csv)" = input,sample,y_0,y_1 ] || fail "header: $(head -n 1 labels.csv)"
    awk -F, 'NR > 1 && ($3 < 0 || $3 > 1 || $4 < 0 || $4 > 1) { exit 1 }' labels.csv || fail "probabilities outside 0 to 1"
    "$DTRAIN" predict multi.toml houses.csv --x size,rooms,age --format csv >labels.csv 2>predict.log || fail "predict"
    paste -d, <(tail -n +2 labels.csv) <(tail -n +2 houses.csv | cut -d, -f5,6) |
        awk -F, '{ n += (($3 > 0.5) == $5) + (($4 > 0.5) == $6) } END { exit !(n / (2 * NR) > 0.95) }' || fail "labels are wrong"
    awk -F, -v OFS=, 'NR > 1 { $5 = 2 * $5 } 1' houses.csv >twos.csv
    train_ok 0 import.log data import csv twos.csv --x size,rooms,age --y old,large --val-fraction 0.2 --out twos
    train 0 twos.log multi.toml data.train=twos/train data.val=twos/val run.out_dir=twos-run
    expect_code 3
    expect twos.log 'sample [0-9]+ has y\[0\] = 2: "loss", a bce, takes labels from 0 to 1' 1
fi
expect multi.log '^evaluation at step 300, .*label accuracy [0-9.]+ %, F1 [0-9.]+ %, all labels right [0-9.]+ %, mAP [0-9.]+ %' 1
map=$(field multi eval map | tail -n 1)
awk "BEGIN { exit !($map > 0.95 && $map <= 1) }" || fail "mean average precision is $map"
! grep '"kind": "train"' multi/metrics.jsonl | grep -q '"map"' || fail "steps have a mean average precision"
# The scores of all samples are ranked together, on any number of ranks.
for n in 1 2 4; do
    train_ok $n eval$n.log eval multi.toml train.global_batch=48 train.micro_batch=12
    grep -o 'mAP.* %' eval$n.log >map$n || fail "eval on $n ranks: $(cat eval$n.log)"
    cmp map1 map$n || fail "mean average precision on $n ranks: $(cat map$n), on one $(cat map1)"
done
# A network that does other things with the same weights is not theirs.
sed 's/"tanh"/"relu"/' multi.toml >relu.toml
for verb in eval 'predict labels/val'; do
    set -- $verb
    train "$ranks" relu.log "$1" relu.toml "${@:2}"
    expect_code 2
    expect relu.log 'step-00000300 is of another network than this configuration.s: "features" is "relu of [0-9]+" here and "tanh of [0-9]+" there; ' 1
done
train_ok "$ranks" best.log multi.toml run.out_dir=by-map checkpoint.best_metric=eval_map checkpoint.keep_best=1 train.steps=200 schedule.kind=constant
grep -q '"metric": "eval_map"' by-map/checkpoints/best/evaluation.json || fail "best is not by eval_map: $(cat by-map/checkpoints/best/evaluation.json)"

# Two inputs of an .npz meet in a sum and a concatenation; a second loss with a weight of its own.
python3 - <<'PYTHON'
import random, struct, zipfile
random.seed(3)
x1 = [[random.uniform(-1, 1) for _ in range(4)] for _ in range(400)]
x2 = [random.uniform(-1, 1) for _ in x1]
y = [[a[0] - 2 * a[1] + b * a[2], a[3] + b] for a, b in zip(x1, x2)]
with zipfile.ZipFile("pair.npz", "w") as z:
    for name, shape, v in (("x1", "(400, 4)", sum(x1, [])), ("x2", "(400,)", x2), ("y", "(400, 2)", sum(y, []))):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        z.writestr(name + ".npy", b"\x93NUMPY\x01\x00\x76\x00" + head.encode() + struct.pack(f"<{len(v)}f", *v))
PYTHON
train_ok 0 import.log data import npz pair.npz --val-fraction 0.2 --out pair
two='[[model.layers]]
type = "dense"
name = "a"
channels = 32
from = "x1"
[[model.layers]]
type = "dense"
name = "b"
channels = 32
from = "x2"
[[model.layers]]
type = "add"
from = "a"
with = "b"
[[model.layers]]
type = "tanh"
[[model.layers]]
type = "concat"
with = ["x1", "x2"]
[[model.layers]]
type = "dense"
name = "early"
channels = 2
[[model.layers]]
type = "tanh"
[[model.layers]]
type = "concat"
with = ["layer5"]
[[model.layers]]
type = "dense"
channels = 2
[[model.losses]]
of = "early"
kind = "l1"
weight = 0.3'
task two regress pair <<<"$two"
train_ok "$ranks" two.log two.toml
r2=$(field two eval r2 | tail -n 1)
awk "BEGIN { exit !($r2 > 0.95) }" || fail "R2 of two inputs is $r2"
field two eval loss_early | tail -n 1 | grep -Eq '^[0-9.]+' || fail "the second loss is not in the records"
expect two.log '^evaluation at step 300, .*, R2 .*, loss_early [0-9.]+' 1

# Stopped and continued: the same bits.
train_ok "$ranks" part.log two.toml run.out_dir=parts train.steps=100 schedule.kind=constant
train_ok "$ranks" rest.log two.toml run.out_dir=parts train.steps=200 schedule.kind=constant
expect rest.log '^resuming parts/checkpoints/step-00000100 at step 100' 1
train_ok "$ranks" whole.log two.toml run.out_dir=whole train.steps=200 schedule.kind=constant
each_step_once parts 200
cmp "$(newest parts)/state.h5" "$(newest whole)/state.h5" || fail "a continued run differs from one in a piece"

# What is neither a layer nor a field is told with its line.
sed 's/from = "x2"/from = "x3"/' two.toml >wrong.toml
train "$ranks" wrong.log wrong.toml
expect_code 2
expect wrong.log '^dtrain: .*wrong.toml:[0-9]+: model.layers\[1\].from: no earlier layer and no field of the data is named "x3".*layers: a; fields: x1, x2, y' 1

if [ "$ranks" -eq 0 ]; then
    # Two .npy files.
    python3 -c 'import zipfile; zipfile.ZipFile("pair.npz").extractall()'
    train_ok 0 import.log data import npy x1.npy --y y.npy --val-fraction 0.2 --out npy
    task plain regress npy <<<"$hidden
[[model.layers]]
type = \"dense\"
channels = 2"
    for loss in l1 huber; do
        train_ok "$ranks" $loss.log plain.toml run.out_dir=$loss model.loss=$loss train.steps=60
        expect $loss.log '^evaluation at step 60, .*R2' 1
    done
fi
pass "R2 $r2, label accuracy $accuracy"
