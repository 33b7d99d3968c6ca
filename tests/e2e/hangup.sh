#!/usr/bin/env bash
# A terminal that closes: the run in it stops and saves, unless nohup was asked for. What trains nothing just ends.
. "$(dirname "$0")/lib.sh"
launch=$E2E_SOURCE/../../launch/train
common=(base.toml data.train=data/small run.log_every=1 train.steps=1000000)
command -v script >/dev/null || skip "no script"

reached() { [ "$(field "$1" train step 2>/dev/null | tail -n 1)" -ge "$2" ]; }
goes_on() { await 20 reached "$1" $(($(field "$1" train step | tail -n 1) + 30)); }

# in_terminal DIR COMMAND...: begins it in a terminal of its own and waits until it trains in DIR; $terminal is that
# terminal, $pid the command.
in_terminal() {
    local dir=$1
    shift
    rm -f code pid
    # The first shell dies with its terminal, whereupon the kernel tells the rest; the second lives on, to say how the
    # command ended. This test may itself run under nohup.
    printf 'trap : HUP\nenv --default-signal=HUP sh -c %q sh %s\necho $? >code\n' 'echo $$ >pid; exec "$@"' "$(printf ' %q' "$@")" >line
    env --default-signal=HUP script -qc "bash $PWD/line; true" /dev/null >"$dir-terminal.log" 2>&1 </dev/null &
    terminal=$!
    started+=("$terminal")
    await 30 reached "$dir" 20
    pid=$(cat pid)
    started+=("$pid")
}
close_terminal() {
    kill -9 "$terminal"
    wait "$terminal" 2>/dev/null || true
}
expect_code_there() {
    await 20 test -s code
    code=$(cat code)
    expect_code "$1"
}

# Asked by signal; then by the terminal, which is gone for the output too.
env --default-signal=HUP "$DTRAIN" "${common[@]}" run.out_dir=asked >asked.log 2>&1 &
job=$!
started+=("$job")
await 30 reached asked 20
kill -HUP "$job"
end "$job" 20
expect_code 85
expect asked.log '^stopped and saved after step' 1

i=0
for start in "$DTRAIN" "$launch -n 2"; do
    # shellcheck disable=SC2086 # -n 2
    in_terminal closed$i $start "${common[@]}" run.out_dir=closed$i
    close_terminal
    expect_code_there 85
    step=$(field closed$i train step | tail -n 1)
    [ -s "closed$i/checkpoints/step-$(printf %08d "$step")/manifest.json" ] || fail "$start: step $step was not saved"

    # shellcheck disable=SC2086
    in_terminal kept$i nohup $start "${common[@]}" run.out_dir=kept$i
    close_terminal
    goes_on kept$i
    kill -HUP "$pid"
    goes_on kept$i
    kill -TERM "$pid"
    expect_code_there 85
    i=$((i + 1))
done

# A reader of the output that ends.
for start in "$DTRAIN" "$launch -n 2"; do
    rm -f code pid
    # shellcheck disable=SC2016,SC2086 # the inner shell expands it; -n 2
    { env --default-signal=PIPE sh -c 'echo $$ >pid; exec "$@"' sh $start "${common[@]}" run.out_dir=unread$i 2>&1 || echo $? >code; } |
        head -n 3 >/dev/null &
    await 30 reached unread$i 20
    goes_on unread$i
    kill -TERM "$(cat pid)"
    expect_code_there 85
    i=$((i + 1))
done

# mpirun overrides nohup; a rank says so, where it is so.
in_terminal vain nohup "$MPIRUN" -np 2 "$DTRAIN" "${common[@]}" run.out_dir=vain
expect nohup.out '^note    mpirun does not heed nohup' 1
kill -9 "$pid"
close_terminal
in_terminal plain "$MPIRUN" -np 2 "$DTRAIN" "${common[@]}" run.out_dir=plain
kill -9 "$pid"
close_terminal
expect plain-terminal.log 'does not heed nohup' 0

# Nothing to save.
env --default-signal=HUP "$DTRAIN" eval base.toml run.out_dir=asked data.val=synthetic data.image_size=16 \
    data.synthetic_channels=1 data.synthetic_classes=4 data.synthetic_samples=20000000 >eval.log 2>&1 &
job=$!
started+=("$job")
sleep "$(seconds 1)"
kill -HUP "$job"
end "$job" 15
expect_code 129
pass "saved without nohup, went on with it"
