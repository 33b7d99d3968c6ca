#include "dist/sums.h"

#include <stdlib.h>

struct dt_sums {
    dt_comm *comm;
    dt_backend *be;
    double *host; /* pinned; NULL where the communicator takes device memory */
    int64_t n_max;
    bool lost; /* a sum was given up: MPI may still write to `host` */
};

dt_status dt_sums_create(dt_comm *comm, dt_backend *be, int64_t n_max, dt_sums **out) {
    dt_sums *s = calloc(1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for sums over ranks");
    s->comm = comm;
    s->be = be;
    s->n_max = n_max;
    if (!comm->device_memory) {
        const dt_status st = be->alloc(be, DT_MEM_HOST, n_max * (int64_t)sizeof *s->host, (void **)&s->host);
        if (st != DT_OK) {
            free(s);
            return st;
        }
    }
    *out = s;
    return DT_OK;
}

void dt_sums_destroy(dt_sums *s) {
    if (!s) return;
    if (s->host && !s->lost) s->be->free(s->be, DT_MEM_HOST, s->host);
    free(s);
}

dt_status dt_sums_run(void *arg, double *values, int64_t n, dt_stream *stream) {
    dt_sums *s = arg;
    const int64_t bytes = n * (int64_t)sizeof *values;
    DT_ASSERT(n <= s->n_max);
    if (s->comm->device_memory) {
        DT_TRY(s->comm->allreduce_begin(s->comm, values, n, DT_DTYPE_F64, stream));
        return s->comm->wait(s->comm, stream);
    }
    DT_TRY(s->be->copy(s->be, s->host, values, bytes, stream));
    DT_TRY(s->be->stream_sync(s->be, stream));
    const dt_status st = s->comm->sum_now(s->comm, s->host, n);
    s->lost = st != DT_OK;
    DT_TRY(st);
    return s->be->copy(s->be, values, s->host, bytes, stream);
}
