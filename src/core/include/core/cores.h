/* Cores of the host: how many a rank may use, and out of a binding that nobody asked for.
 *
 * The ranks of a host share its cores. A launcher may have bound each rank to cores of its own (then its
 * affinity mask is smaller than the launcher's own) or not (then all ranks see all cores and must divide
 * them). */
#ifndef DT_CORE_CORES_H
#define DT_CORE_CORES_H

#include "core/types.h"

/* Open MPI's mpirun binds each rank of a job of one or two to a single core, where a rank has many threads:
 * its loader, the compilation of GPU kernels. Such a binding is undone, back to the launcher's own cores,
 * where it leaves this rank less than its share and neither the command line nor the environment asked for
 * one. Call it before threads are started. */
void dt_cores_unbind(int32_t local_world);

/* Threads that this rank may run: at least 1, at most its share of the cores that the launcher, Slurm and the
 * control group's quota leave to the job on this host. */
int32_t dt_cores_share(int32_t local_world);

#endif
