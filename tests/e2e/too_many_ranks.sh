#!/usr/bin/env bash
# More ranks than a global batch has work for: refused once, before anything is opened (the data set does not exist).
. "$(dirname "$0")/lib.sh"

# refused BATCH MICRO PATTERN
refused() {
    train 4 refused.log base.toml data.train=not/there run.out_dir=run train.global_batch="$1" train.micro_batch="$2"
    expect_code 2
    expect refused.log '^dtrain: ' 1
    expect refused.log "^dtrain: train.global_batch = $1 $3" 1
    [ ! -e run ] || fail "the run directory was made"
}
refused 3 0 'is less than the number of ranks, 4: raise it, or start fewer ranks$'
refused 2 1 'is less than the number of ranks, 4: raise it, or start fewer ranks$'
refused 32 16 'in micro-batches of 16 gives work to 2 of 4 ranks: set train.micro_batch to a divisor of at most 8, or start fewer ranks$'
pass "refused"
