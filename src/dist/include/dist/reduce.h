/* Sums gradients over ranks, bucket by bucket, while backward still computes the next ones.
 *
 * Buckets are ranges of the parameter axis in the order in which backward completes them; every rank begins
 * them in that order. With overlap a bucket starts as soon as it is ready, without it all start in
 * dt_reducer_finish. Host communicator and GPU memory: through pinned buffers (right, not fast). In a world
 * of one all calls do nothing. Not thread-safe: one thread calls. */
#ifndef DT_DIST_REDUCE_H
#define DT_DIST_REDUCE_H

#include "core/backend.h"
#include "dist/comm.h"

typedef struct dt_reducer dt_reducer;

/* Elements [offset, offset + n_elem) of the parameter axis. */
typedef struct dt_reduce_range {
    int64_t offset, n_elem;
} dt_reduce_range;

typedef struct dt_reducer_options {
    dt_comm *comm; /* borrowed, as are be and base */
    dt_backend *be;
    void *base; /* element 0 of the gradients, memory of `be` */
    dt_dtype dtype;
    bool overlap;
    int32_t n_bucket;
    const dt_reduce_range *bucket; /* copied */
} dt_reducer_options;

/* Told of each range (a bucket; the extra values are the one after the last) before its reduction begins and
 * when it is complete: on a device once both are enqueued on `stream`, else (NULL) when the host knows it. */
typedef dt_status dt_reduce_watch(void *arg, int32_t range, bool complete, dt_stream *stream);

dt_status dt_reducer_create(const dt_reducer_options *options, dt_reducer **out);
/* A few fp32 values in memory of `be`, summed with the buckets; final when dt_reducer_finish is called. */
dt_status dt_reducer_set_extra(dt_reducer *r, float *values, int32_t n);
/* The compute stream has produced this bucket. Once per bucket and step, in any order. */
dt_status dt_reducer_ready(dt_reducer *r, int32_t bucket);
/* Moves reductions on between kernels; cheap. */
dt_status dt_reducer_progress(dt_reducer *r);
/* Begins what has not begun and completes everything: afterwards the compute stream sees the sums. Fails with
 * DT_ERR_INTERNAL if a bucket was never ready, DT_ERR_PEER when a rank does not come. */
dt_status dt_reducer_finish(dt_reducer *r);
/* For a profile; NULL: nobody is told any more. */
void dt_reducer_watch(dt_reducer *r, dt_reduce_watch *watch, void *arg);
void dt_reducer_destroy(dt_reducer *r); /* accepts NULL */

#endif
