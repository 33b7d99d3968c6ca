#!/usr/bin/env bash
# Asked to stop while another rank stands still for good, a rank ends by itself within seconds, long before
# dist.timeout_s; one that is only slow is waited for. A third SIGTERM ends a rank at once.
. "$(dirname "$0")/lib.sh"
: "${ODD_DISK:?}"
common=(base.toml data.train=data/small run.log_every=1 train.steps=1000000 checkpoint.every_steps=0)

# three_ranks DIR: begins a run, stops its last rank; $pids are all, $first the first rank.
three_ranks() {
    begin 3 "$1.log" "${common[@]}" run.out_dir="$1"
    await 30 grep -q 'step 20/' "$1.log"
    pids=$(ranks_of "$job")
    first=$(echo "$pids" | head -n 1)
    kill -STOP "$(echo "$pids" | tail -n 1)"
}

three_ranks stalled
kill -TERM "$first"
end "$job" 15
[ "$took_s" -ge 4 ] || fail "ended after $took_s s already"
expect_code 6
expect stalled.log '^dtrain: rank 0 .*: asked to stop, but step [0-9]+ \(.*\) has not ended for [5-9] s: no answer from rank 2 ' 1
# shellcheck disable=SC2086 # one pid each
await 5 gone $pids
stalled_s=$took_s

three_ranks thrice
for _ in 1 2 3; do
    kill -TERM "$first"
    sleep 0.4
done
end "$job" 10
[ "$code" -eq 143 ] || fail "exit code $code after a third SIGTERM, want 143"
expect thrice.log 'asked to stop' 0

if [ "$E2E_SLOW" -eq 1 ]; then # no preloading under a sanitizer
    touch stall
    LD_PRELOAD=$ODD_DISK DT_STALL=$PWD/stall begin 2 slow.log "${common[@]}" run.out_dir=slow
    rm stall
    await 30 grep -q 'step 20/' slow.log
    touch stall
    sleep 0.5
    kill -TERM "$(ranks_of "$job" | head -n 1)"
    sleep 9
    kill -0 "$job" || fail "a rank that was only slow was taken for lost"
    rm stall
    end "$job" 10
    expect_code 85
    expect slow.log '^stopped and saved after step' 1
fi
pass "ended $stalled_s s after the signal, at once after the third; the slow one was waited for"
