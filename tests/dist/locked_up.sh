#!/usr/bin/env bash
# locked_up.sh: alone.sh around stand-ins for mpiexec that stay, or crash: one whose ranks are gone ends with the exit code that
# it has told; one that still has a rank, had none, or waits for something else is a failure.
set -u
here=$(dirname "$0")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cat >"$work/stays.py" <<'PYTHON'
import threading
with open("/proc/self/comm", "w") as name: name.write("mpiexec")
lock = threading.Lock()
lock.acquire()
lock.acquire()
PYTHON
ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$work/python3" # no script that starts it
cp "$(command -v sleep)" "$work/mpiexec.waits"

# ends NAME CODE PATTERN LIMIT_S BODY: a shell that does this; its argument is this directory.
ends() {
    local code=0
    mkdir "$work/$1"
    printf '#!/bin/bash\n%s\n' "$5" >"$work/$1/mpiexec"
    chmod +x "$work/$1/mpiexec"
    MPI_LIMIT_S=$4 "$here/alone.sh" "$work/$1/mpiexec" "$work" >"$work/$1/log" 2>&1 || code=$?
    if [ "$code" -ne "$2" ] || ! grep -q "$3" "$work/$1/log"; then
        echo "locked_up: $1: exit code $code, want $2 and \"$3\""
        cat "$work/$1/log"
        exit 1
    fi
}
# shellcheck disable=SC2016 # the stand-in expands it
stays='exec "$1/python3" "$1/stays.py"' waits='exec "$1/mpiexec.waits" 60'
rank='sh -c "exit 6" & wait $!'
pids=()
while IFS='|' read -r name code pattern limit_s body; do
    ends "$name" "$code" "$pattern" "$limit_s" "$body" &
    pids+=($!)
done <<TESTS
success|0|would have been 0\$|20|$rank; $stays
failure|6|would have been 6\$|20|$rank; echo '  Exit code:    6' >&2; $stays
unwaited|6|would have been 6\$|20|sleep 1 & echo '  Exit code:    6' >&2; $stays
aborted|3|would have been 3\$|20|$rank; echo 'with errorcode 3.' >&2; $stays
killed|137|would have been 137\$|20|$rank; echo 'rank 2 exited on signal 9 (Killed).' >&2; $stays
improper|1|would have been 1\$|20|$rank; echo 'mpiexec has exited due to process rank 1' >&2; $stays
crashed|6|would have been 6\$|20|$rank; echo '  Exit code:    6' >&2; kill -SEGV \$\$
rank crashed|139|signal 11|20|$rank; echo 'rank 2 exited on signal 11 (Segmentation fault).' >&2; exit 139
crashed itself|139|^begun\$|20|echo begun; kill -SEGV \$\$
by itself|5|^ended\$|20|$rank; echo ended; exit 5
has ranks|1|still running after 8 s:|8|$rank; sleep 50 & $stays
had none|1|still running after 8 s:|8|$stays
waits|1|still running after 8 s:|8|$rank; $waits
TESTS
bad=0
for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
[ "$bad" -ne 0 ] || echo "locked_up: ${#pids[@]} stand-ins: passed"
exit "$bad"
