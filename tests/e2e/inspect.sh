#!/usr/bin/env bash
# dtrain inspect needs neither data nor a GPU where the configuration says the sizes; what the data says otherwise is an
# error that names both, in training alike.
. "$(dirname "$0")/lib.sh"

# The configurations that come with dtrain, each on as many ranks as may be, on a host without their data and without a GPU.
mkdir empty && cd empty
for config in "$E2E_SOURCE"/../../configs/*.toml; do
    case $(basename "$config") in table.toml | diabetes.toml | fashion-attributes.toml | *text*) continue ;; esac # their sizes are the data's
    for ranks in 0 2; do
        CUDA_VISIBLE_DEVICES='' train_ok "$ranks" ../shipped.log inspect "$config"
        expect ../shipped.log '^total ' 1
        expect ../shipped.log '^bucket ' 1
        expect ../shipped.log '; datasets/.* is not there: its samples, and so the steps of an epoch, are not known$' 1
    done
done
table=$E2E_SOURCE/../../configs/table.toml
train 0 ../table.log inspect "$table"
expect_code 3
expect ../table.log '^dtrain: datasets/table/train: no such data, and the network reads its fields: ' 1
train_ok 2 ../table.log inspect "$table" data.train=synthetic data.val= 'data.synthetic_fields=x:f32[3] y:f32'
expect ../table.log '^scale +batchnorm +32x3 f32 ' 1
train_ok 2 ../text.log inspect "$E2E_SOURCE/../../configs/text-quickstart.toml" data.train=synthetic data.val= \
    'data.synthetic_fields=tokens:i32[128] label:i32[128]' model.vocab=1024
expect ../text.log '^lm_head +dense +16x128x1024 f32 ' 1
train_ok 2 ../text.log inspect "$E2E_SOURCE/../../configs/text-quickstart.toml" data.context=64 model.vocab=60000
expect ../text.log '^lm_head +dense +16x64x60000 f32 ' 1
for config in gpt2-124m lstm-lm; do
    train_ok 0 "../$config.log" inspect "$E2E_SOURCE/../../configs/$config.toml" run.device=cpu train.precision=fp32 train.micro_batch=1 \
        model.vocab=60000
    expect "../$config.log" '^(lm_head|decoder) +dense .*x60000 f32 ' 1
done
expect ../gpt2-124m.log '^batch 512 = 512 micro-batches, 524288 tokens; ' 1
# Networks by their names: as published, or of another size.
train_ok 2 ../name.log inspect --model resnet50
expect ../name.log '^total +25557032 ' 1
train_ok 0 ../name.log inspect --model resnet18 --input 32 --outputs 10 model.small_stem=true --passes
expect ../name.log '^total +11173962 ' 1
expect ../name.log '^passes of (training|evaluation)$' 2
train_ok 0 ../name.log inspect --model autoencoder
expect ../name.log '^total +944176 ' 1
train 0 ../name.log inspect --model resnet19
expect_code 2
expect ../name.log '^dtrain: there is no model "resnet19"; did you mean "resnet18"\?$' 1
train 0 ../name.log inspect --model layers
expect_code 2
train 0 ../name.log inspect "$table" --input 32
expect_code 2
train_ok 0 ../models.log models
expect ../models.log '^resnet50 +224x224x3 +1000 +25557032 +8\.24G +torchvision resnet50$' 1
[ -z "$(ls -A)" ] || fail "inspect made $(ls -A)"
cd "$work"
# What the passes of the compilation did, of both programs; without fusion those that fuse do not run.
CUDA_VISIBLE_DEVICES='' train_ok 2 passes.log inspect "$E2E_SOURCE/../../configs/resnet50.toml" --passes
expect passes.log '^passes of (training|evaluation)$' 2
expect passes.log '^  differentiate ' 1
expect passes.log '^  fuse ' 2
expect passes.log '^  batchnorm relu ' 2
CUDA_VISIBLE_DEVICES='' train_ok 0 passes.log inspect "$E2E_SOURCE/../../configs/resnet50.toml" --passes train.fusion=off
expect passes.log '^  fuse ' 0
expect passes.log '^  batchnorm relu ' 0
# What does not fit is a finding, not a failure; nor is a precision that this device lacks.
CUDA_VISIBLE_DEVICES='' train_ok 0 large.log inspect "$E2E_SOURCE/../../configs/resnet50.toml" train.global_batch=65536
expect large.log ' free: it does not fit$' 1
expect large.log 'largest micro-batch that fits: about [1-9]' 1
expect large.log 'in fp32: this device has no other precision$' 1
train 0 large.log base.toml data.train=data/small train.global_batch=16777216 train.micro_batch=0
expect_code 2

# The same as with the data.
sizes=(data.image_size=16 data.channels=1 model.classes=4)
train_ok 2 there.log inspect base.toml "${sizes[@]}"
train_ok 2 gone.log inspect base.toml "${sizes[@]}" data.train=gone data.val=gone
expect there.log '; 40 steps, 187.5 an epoch' 1
diff <(sed 's/of [0-9.]* [KMG]iB free//; s/fits: about.*//; s/each;.*//' there.log) <(sed 's/of [0-9.]* [KMG]iB free//; s/fits: about.*//; s/each;.*//' gone.log) ||
    fail "without its data the network is another one"
train_ok 2 grey.log inspect base.toml 'model.layers=[]' data.train=gone data.val=gone data.image_size=16 model.classes=4 model.name=resnet18
expect grey.log '^conv1 +conv .* 9408 ' 1 # of three channels where nothing says otherwise
for missing in 0 2; do
    some=("${sizes[@]}")
    key=${some[missing]%=*}
    unset "some[$missing]"
    train 2 missing.log inspect base.toml data.train=gone "${some[@]}"
    expect_code 3
    expect missing.log "^dtrain: gone: no such data.*: $key is not set" 1
done

# Keys and data that disagree: both are named, whatever the verb.
for verb in train inspect; do
    train 2 disagree.log $verb base.toml run.out_dir=run data.channels=3
    expect_code 2
    expect disagree.log '^dtrain: data.channels = 3, but the images of data/train have 1' 1
    train 2 disagree.log $verb base.toml run.out_dir=run data.image_size=16 data.channels=1 model.classes=3
    expect_code 2
    expect disagree.log '^dtrain: model.classes = 3, but data/train has 4 classes' 1
done
train 2 disagree.log inspect base.toml "${sizes[@]}" data.train=gone data.channels=3
expect_code 2
expect disagree.log '^dtrain: data.channels = 3, but the images of data/val have 1' 1
# Damaged data is not missing data.
mkdir bad
train 2 bad.log inspect base.toml "${sizes[@]}" data.train=bad
expect_code 3
train_ok 1 trained.log base.toml data.train=data/small run.out_dir=run train.steps=10
train 2 eval.log eval base.toml data.train=data/small run.out_dir=run data.channels=3
expect_code 2
expect eval.log '^dtrain: data.channels = 3, but the images of data/val have 1' 1
pass "$(ls "$E2E_SOURCE"/../../configs/*.toml | wc -l) configurations without data, and disagreements by name"
