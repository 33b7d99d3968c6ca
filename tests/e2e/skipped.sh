#!/usr/bin/env bash
# Updates are skipped because the gradients overflow: a stop and the end save nevertheless, other saves wait for a good step.
. "$(dirname "$0")/lib.sh"
# Without normalisation in the network its weights' gradients are as large as the images are bright.
sed -z 's/\[\[model.layers\]\]\ntype = "batchnorm"\n\n//' base.toml >plain.toml
common=(plain.toml data.train=data/small data.val= schedule.kind=constant optim.lr=1e-30 run.log_every=1 train.max_skipped=1000000
    'augment.mean=[0.0]')
saved() { [ "$(basename "$(newest "$1")")" = "step-$(printf %08d "$2")" ] || fail "the newest of $1 is $(newest "$1"), want step $2"; }
all_skipped() { [ "$(field "$1" train skipped | sort -u)" = true ] || fail "$1 did not skip every step"; }

begin 2 stop.log "${common[@]}" 'augment.std=[1e-25]' run.out_dir=stop train.steps=1000000
await 30 grep -q 'step 25/' stop.log
ask_to_stop "$job"
end "$job" 15
expect_code 85
all_skipped stop
saved stop "$(field stop train step | tail -n 1)"
[ "$(find stop/checkpoints -name 'step-*' | wc -l)" -eq 1 ] || fail "saved in the midst of skipped steps"

train 2 end.log "${common[@]}" 'augment.std=[1e-25]' run.out_dir=end train.steps=15
expect_code 5
all_skipped end
saved end 15
# The same command again has nothing to do, and does not make a success of it.
train 2 again.log "${common[@]}" 'augment.std=[1e-25]' run.out_dir=end train.steps=15
expect_code 5

# The norm of the gradient overflows in about every other step: saves that are due in such a step come after it.
train 2 late.log "${common[@]}" 'augment.std=[2e-20]' run.out_dir=late train.steps=105 checkpoint.keep_last=1000
expect_code "$(if [ "$(field late train skipped | tail -n 1)" = true ]; then echo 5; else echo 0; fi)"
field late train skipped | awk '
    NR % 10 == 0 { due = 1 }
    due && $0 == "false" { print NR; due = 0; late += NR % 10 > 0 }
    END { print 105; exit !late }' >want.log || fail "no save had to wait: the test says nothing"
find late/checkpoints -name 'step-*' | sort | sed -E 's/.*step-0*//' | diff want.log - >saves.log || fail "saved at other steps"
pass "saved at a stop and at the end; $(grep -vc '[05]$' want.log) saves waited for a good step"
