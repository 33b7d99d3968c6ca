#!/usr/bin/env bash
# alone.sh COMMAND...: Open MPI keeps its files in a directory of the command's own: by default one mpirun's end removes
# what another may be about to use. An mpiexec that locks itself up at its end is ended: mpi.sh.
set -u
# shellcheck source=tests/dist/mpi.sh
. "$(dirname "$0")/mpi.sh"
OMPI_MCA_orte_tmpdir_base=$(mktemp -d) || exit 1
export OMPI_MCA_orte_tmpdir_base
trap 'rm -rf "$OMPI_MCA_orte_tmpdir_base"' EXIT
log=$OMPI_MCA_orte_tmpdir_base/log limit_s=${MPI_LIMIT_S:-110}
exec 3> >(exec tee "$log" >&2) # no child of the command's
"$@" 2>&3 3>&- &
job=$!
exec 3>&-
if ! mpi_wait $job "$limit_s" "$log"; then
    mapfile -t ranks < <(pgrep -P $job)
    kill -KILL $job "${ranks[@]}"
    echo "alone: still running after $limit_s s: $*"
    exit 1
fi
exit "$code"
