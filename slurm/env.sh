# shellcheck shell=bash
# What the job scripts can be told, and their defaults. A variable that is set where sbatch is called travels with the job:
#   MAX_REQUEUE=50 PROGRESS_S=300 sbatch slurm/train-srun-pmix.sbatch configs/resnet50.toml
# What suits a site stands here. Sourced by slurm/job.sh, after DTRAIN_ROOT is known: the folder of dtrain, where it is not
# the one that the script was submitted from.

# The program. In a container: its path there.
DTRAIN=${DTRAIN:-$DTRAIN_ROOT/build/dtrain}

# Ranks on each node where sbatch was told neither --ntasks nor --ntasks-per-node. Empty: one per GPU, or one where none
# was asked for.
RANKS_PER_NODE=${RANKS_PER_NODE:-}
# srun's --mpi (`srun --mpi=list` names what the site has), --cpu-bind, and any further options, separated by blanks.
MPI_TYPE=${MPI_TYPE:-pmix}
CPU_BIND=${CPU_BIND:-none}
SRUN_ARGS=${SRUN_ARGS:-}

# How often a job is put back into the queue in all; how many losses of a rank, one after another without a newer
# checkpoint between them, end it; whether a node that does not answer, or whose GPU failed, is excluded (0: no).
MAX_REQUEUE=${MAX_REQUEUE:-20}
MAX_LOST=${MAX_LOST:-3}
EXCLUDE_LOST=${EXCLUDE_LOST:-1}
# How long a node may take to answer, in seconds.
PROBE_S=${PROBE_S:-20}

# How often the job's comment in Slurm tells step, loss and time to go, in seconds; 0: never.
PROGRESS_S=${PROGRESS_S:-60}

# sweep-array.sbatch: where the runs go. Empty: runs/ and the name of the file of settings.
SWEEP_DIR=${SWEEP_DIR:-}

# train-container.sbatch: the image (a .sif file, or what `srun --container-image` takes), "apptainer" or "pyxis" (empty: by
# the image), and what is mounted beside the working directory, as FROM:TO, separated by commas.
CONTAINER_IMAGE=${CONTAINER_IMAGE:-}
CONTAINER_RUNTIME=${CONTAINER_RUNTIME:-}
CONTAINER_MOUNTS=${CONTAINER_MOUNTS:-}

# NCCL picks its network by itself; NCCL_SOCKET_IFNAME and NCCL_IB_HCA say otherwise, for Open MPI OMPI_MCA_btl_tcp_if_include.
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
