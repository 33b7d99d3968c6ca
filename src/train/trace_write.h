/* A trace as a file in Chrome's format, which Perfetto and chrome://tracing open. */
#ifndef DT_TRAIN_TRACE_WRITE_H
#define DT_TRAIN_TRACE_WRITE_H

#include "core/trace.h"
#include "dist/comm.h"

/* The lanes of all ranks in one file, a process each, on rank 0's clock; rank 0 writes `path`. No thread may
 * be keeping spans any more. *n_lost: spans of all ranks that found no room. Collective; mpi NULL: one rank. */
dt_status dt_trace_write(const dt_trace *t, dt_comm *mpi, const char *path, int64_t *n_lost);

#endif
