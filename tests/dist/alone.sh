#!/bin/sh
# alone.sh COMMAND...: Open MPI keeps its files in a directory of the command's own: by default one mpirun's end removes
# what another may be about to use.
OMPI_MCA_orte_tmpdir_base=$(mktemp -d) || exit 1
export OMPI_MCA_orte_tmpdir_base
trap 'rm -rf "$OMPI_MCA_orte_tmpdir_base"' EXIT
"$@"
