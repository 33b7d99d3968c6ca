/* Small sums over ranks in the middle of a step, for kernels that need them (core/backend.h, dt_ranks): on the stream
 * where the communicator takes device memory, else by way of the host, which waits. */
#ifndef DT_DIST_SUMS_H
#define DT_DIST_SUMS_H

#include "core/backend.h"
#include "dist/comm.h"

typedef struct dt_sums dt_sums;

/* For sums of at most n_max values; comm and be are borrowed. */
dt_status dt_sums_create(dt_comm *comm, dt_backend *be, int64_t n_max, dt_sums **out);
/* dt_ranks.sum; arg is a dt_sums. */
dt_status dt_sums_run(void *arg, double *values, int64_t n, dt_stream *stream);
void dt_sums_destroy(dt_sums *s); /* accepts NULL */

#endif
