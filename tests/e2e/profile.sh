#!/usr/bin/env bash
# dtrain profile: the table, its JSON and the trace, on 1 and 2 ranks; nothing else is left behind, and what cannot be
# written ends all ranks with one message.
. "$(dirname "$0")/lib.sh"
synthetic=(data.train=synthetic data.val= data.synthetic_samples=512 data.image_size=16 data.synthetic_channels=1 data.synthetic_classes=4)

# read_trace FILE RANKS: is JSON; each thread's spans nest; every rank is a process with its threads and kernels.
read_trace() {
    python3 - "$1" "$2" <<'PYTHON' || fail "$1 is not a sound trace"
import collections, json, sys
path, ranks = sys.argv[1], int(sys.argv[2])
names, spans, processes = {}, collections.defaultdict(list), {}
for e in json.load(open(path))["traceEvents"]:
    if e["ph"] == "M" and e["name"] == "thread_name": names[e["pid"], e["tid"]] = e["args"]["name"]
    if e["ph"] == "M" and e["name"] == "process_name": processes[e["pid"]] = e["args"]["name"]
    if e["ph"] == "X":
        ts, dur = round(1000 * e["ts"]), round(1000 * e["dur"])
        assert ts >= 0 and dur >= 0, e
        spans[e["pid"], e["tid"]].append((ts, -dur, e["name"]))
assert sorted(processes) == list(range(ranks)) and all(processes[r].startswith("rank %d (" % r) for r in processes), processes
for lane, list_ in spans.items():
    end_of = []
    for ts, minus_dur, name in sorted(list_):
        while end_of and end_of[-1] <= ts: end_of.pop()
        assert not end_of or ts - minus_dur <= end_of[-1], (names[lane], name)
        end_of.append(ts - minus_dur)
for rank in range(ranks):
    of = {names[lane]: [s[2] for s in spans[lane]] for lane in names if lane[0] == rank}
    assert of["main"].count("step") == 4 and "feed" in of["main"] and "wait for a batch" in of["main"], of["main"]
    assert any(s.startswith("layer1: conv") for s in of["main"]) and "optimizer" in of["main"]
    assert "fill batch" in of["loader"] and "read" in of["loader"]
    assert (ranks > 1) == ("all-reduce" in of.get("reductions", [])), of.keys()
# On one clock: steps wait for each other.
begin = [[s[0] for s in sorted(spans[lane]) if s[2] == "step"] for lane in names if names[lane] == "main"]
end = [[s[0] - s[1] for s in sorted(spans[lane]) if s[2] == "step"] for lane in names if names[lane] == "main"]
for i in range(4):
    assert max(b[i] for b in begin) < min(e[i] for e in end), (begin, end)
PYTHON
}

read_json() {
    python3 - "$1" <<'PYTHON' || fail "$1 is not a sound table"
import json, sys
p = json.load(open(sys.argv[1]))
rows = p["rows_by_time"]
assert rows and rows == sorted(rows, key=lambda r: -r["seconds"])
assert 0 < p["kernel_s"] <= p["profiled_step_s"] and p["step_s"] > 0 and p["copy_bytes_per_s"] > 0
for r in rows: assert abs(r["forward_s"] + r["backward_s"] + r["update_s"] - r["seconds"]) <= 1e-6 * r["seconds"], r
PYTHON
}

before=$(ls -A)
for ranks in 0 2; do
    train_ok "$ranks" node.log profile base.toml "${synthetic[@]}" --steps 4 --trace trace.json --json table.json
    expect node.log ' forward  layer1 +conv ' 1
    expect node.log ' backward grad/layer1.weight +conv wgrad ' 1
    expect node.log ' update   optimizer +optimizer$' 1
    expect node.log '^a step takes [0-9.]+ ms without profiling, [0-9.]+ ms with it \(median of 4 steps each\)$' 1
    expect node.log '^trace: trace.json' 1
    expect node.log 'exchange of gradients' $((ranks > 0))
    read_trace trace.json $((ranks > 0 ? ranks : 1))
    read_json table.json
    rm node.log trace.json table.json
    [ "$(ls -A)" = "$before" ] || fail "a profile left $(ls -A)"
done
# Data of its own, in other tables.
for by in layer op; do
    train_ok 2 by.log profile base.toml --by $by --steps 2 --json table.json data.workers=2
    expect by.log " $by\$" 1
    read_json table.json
    [ ! -e run ] && [ ! -e runs ] || fail "a profile made a run directory"
done
expect by.log '  conv_wgrad$' 1

# refused RANKS CODE PATTERN ARGUMENT...: with one message.
refused() {
    local ranks=$1 want=$2 pattern=$3
    shift 3
    train "$ranks" refused.log profile "$@"
    expect_code "$want"
    expect refused.log '^dtrain: ' 1
    expect refused.log "$pattern" 1
}
base=(base.toml "${synthetic[@]}" --steps 2)
refused 0 2 'profile needs a configuration' --steps 2
refused 0 2 '--by layers: expected node\|layer\|op' "${base[@]}" --by layers
refused 0 2 '--steps 0: expected a whole number' base.toml --steps 0
refused 2 2 'unknown option --tracee; did you mean --trace' "${base[@]}" --tracee x
refused 0 2 '--trace and --json name the same file, x' "${base[@]}" --trace x --json x
refused 0 2 '"/dev/null" is there and no regular file' "${base[@]}" --trace /dev/null
refused 0 2 '"data" is there and no regular file' "${base[@]}" --json data
refused 2 1 'absent/t.json: cannot be written: No such file or directory' "${base[@]}" --trace absent/t.json
refused 0 1 'absent/t.json: cannot be written: No such file or directory' "${base[@]}" --json absent/t.json
refused 2 3 'gone' base.toml data.train=gone --steps 2
rm -f by.log table.json refused.log
[ "$(ls -A)" = "$before" ] || fail "a refused profile left $(ls -A)"

# No room, found when it is written: the file that was there stays.
echo old >trace.json
for ranks in 0 2; do
    # shellcheck disable=SC2016 # the inner shell expands it
    command=(sh -c 'ulimit -f 8; exec "$0" "$@"' "$DTRAIN" profile "${base[@]}" --trace trace.json)
    [ "$ranks" -eq 0 ] || command=("$MPIRUN" -np "$ranks" "${command[@]}")
    OUT=table.log through full.log "${command[@]}"
    expect_code 1
    expect full.log '^dtrain: .*trace.json: cannot be written: File too large' 1
    [ "$(cat trace.json)" = old ] || fail "a trace that could not be written took the place of another file"
    rm table.log full.log
done
[ "$(ls -A)" = "$(printf '%s\ntrace.json' "$before" | sort)" ] || fail "a trace without room left $(ls -A)"
pass "tables, traces and refusals on 1 and 2 ranks"
