/* The gradient reducer: the buckets' order and the ways memory takes to the communicator.
 *
 * A range goes the first way that fits: host memory straight to the communicator; device memory on a
 * communication stream forked from the compute stream; device memory through a pinned copy. */
#include "dist/reduce.h"

#include <stdlib.h>

#include "core/trace.h"
#include "pacer.h"

typedef struct range {
    char *data;
    int64_t n_elem;
    dt_dtype dtype;
    bool ready, begun;
    char *stage;        /* pinned; NULL when not staging */
    dt_event *produced; /* compute stream is done with it; for staging: the copy is done */
} range;

struct dt_reducer {
    dt_comm *comm;
    dt_backend *be;
    bool overlap, on_stream, staging;
    dt_stream *stream; /* communication stream; NULL on the CPU */
    dt_event *joined;
    range *range; /* buckets, then the extra values */
    int32_t n_bucket;
    bool has_extra;
    dt_reduce_watch *watch; /* NULL: nobody */
    void *watch_arg;
};

static int32_t range_count(const dt_reducer *r) {
    return r->n_bucket + (r->has_extra ? 1 : 0);
}

static int64_t range_bytes(const range *g) {
    return g->n_elem * (int64_t)dt_dtype_size(g->dtype);
}

static dt_status range_set_up(dt_reducer *r, range *g) {
    if (r->on_stream || r->staging) DT_TRY(r->be->event_create(r->be, &g->produced));
    if (r->staging) {
        void *stage = NULL;
        DT_TRY(r->be->alloc(r->be, DT_MEM_HOST, range_bytes(g), &stage));
        g->stage = stage;
    }
    return DT_OK;
}

static void range_tear_down(dt_reducer *r, range *g) {
    if (g->produced != NULL) r->be->event_destroy(r->be, g->produced);
    if (g->stage != NULL) r->be->free(r->be, DT_MEM_HOST, g->stage);
    *g = (range){0};
}

dt_status dt_reducer_create(const dt_reducer_options *options, dt_reducer **out) {
    *out = NULL;
    dt_status status = DT_OK;
    dt_reducer *r = calloc(1, sizeof *r);
    if (r == NULL) return dt_fail(DT_ERR_MEMORY, "no memory for the gradient reducer");
    r->comm = options->comm;
    r->be = options->be;
    r->overlap = options->overlap;
    bool alone = options->comm->world == 1;
    r->on_stream = !alone && options->comm->device_memory;
    r->staging = !alone && !options->comm->device_memory && options->be->info.is_gpu;
    r->n_bucket = options->n_bucket;
    r->range = calloc((size_t)options->n_bucket + 1, sizeof *r->range);
    if (r->range == NULL) {
        status = dt_fail(DT_ERR_MEMORY, "no memory for %d gradient buckets", (int)options->n_bucket);
        goto fail;
    }
    if (r->on_stream || r->staging) DT_TRY_GOTO(status, r->be->stream_create(r->be, &r->stream), fail);
    if (r->on_stream) DT_TRY_GOTO(status, r->be->event_create(r->be, &r->joined), fail);
    for (int32_t i = 0; i < r->n_bucket; i++) {
        const dt_reduce_range *b = &options->bucket[i];
        range *g = &r->range[i];
        g->data = (char *)options->base + b->offset * (int64_t)dt_dtype_size(options->dtype);
        g->n_elem = b->n_elem;
        g->dtype = options->dtype;
        DT_TRY_GOTO(status, range_set_up(r, g), fail);
    }
    *out = r;
    return DT_OK;
fail:
    dt_reducer_destroy(r);
    return status;
}

void dt_reducer_destroy(dt_reducer *r) {
    if (r == NULL) return;
    if (r->comm->release != NULL) r->comm->release(r->comm);
    for (int32_t i = 0; r->range != NULL && i <= r->n_bucket; i++) range_tear_down(r, &r->range[i]);
    if (r->joined != NULL) r->be->event_destroy(r->be, r->joined);
    if (r->stream != NULL) r->be->stream_destroy(r->be, r->stream);
    free(r->range);
    free(r);
}

dt_status dt_reducer_set_extra(dt_reducer *r, float *values, int32_t n) {
    range *g = &r->range[r->n_bucket];
    range_tear_down(r, g);
    r->has_extra = n > 0;
    if (n <= 0) return DT_OK;
    g->data = (char *)values;
    g->n_elem = n;
    g->dtype = DT_DTYPE_F32;
    return range_set_up(r, g);
}

void dt_reducer_watch(dt_reducer *r, dt_reduce_watch *watch, void *arg) {
    r->watch = watch;
    r->watch_arg = arg;
}

static dt_status tell(dt_reducer *r, const range *g, bool complete) {
    return r->watch
               ? r->watch(r->watch_arg, (int32_t)(g - r->range), complete, r->on_stream ? r->stream : NULL)
               : DT_OK;
}

/* Begins a range whose turn it is. Staged ranges need their copy on the host: *begun false while it is under
 * way. */
static dt_status range_begin(dt_reducer *r, range *g, bool *begun) {
    *begun = false;
    if (r->staging) {
        DT_TRY(r->be->event_query(r->be, g->produced, begun));
        if (!*begun) return DT_OK;
    }
    if (r->on_stream) DT_TRY(r->be->event_wait(r->be, g->produced, r->stream));
    void *buf = r->staging ? g->stage : g->data;
    DT_TRY(tell(r, g, false));
    DT_TRY(r->comm->allreduce_begin(r->comm, buf, g->n_elem, g->dtype, r->stream));
    *begun = true;
    return r->on_stream ? tell(r, g, true) : DT_OK;
}

/* Begins ranges in their order up to the first that is not ready. */
static dt_status begin_ready(dt_reducer *r) {
    for (int32_t i = 0; i < range_count(r); i++) {
        range *g = &r->range[i];
        if (g->begun) continue;
        if (!g->ready) break;
        DT_TRY(range_begin(r, g, &g->begun));
        if (!g->begun) break;
    }
    return DT_OK;
}

/* Marks where the compute stream stands; for staging also enqueues the copy. */
static dt_status range_ready(dt_reducer *r, range *g) {
    g->ready = true;
    if (r->on_stream) return r->be->event_record(r->be, g->produced, NULL);
    if (!r->staging) return DT_OK;
    DT_TRY(r->be->event_record(r->be, g->produced, NULL));
    DT_TRY(r->be->event_wait(r->be, g->produced, r->stream));
    DT_TRY(r->be->copy(r->be, g->stage, g->data, range_bytes(g), r->stream));
    return r->be->event_record(r->be, g->produced, r->stream);
}

dt_status dt_reducer_ready(dt_reducer *r, int32_t bucket) {
    if (r->comm->world == 1) return DT_OK;
    DT_ASSERT(bucket >= 0 && bucket < r->n_bucket && !r->range[bucket].ready);
    DT_TRY(range_ready(r, &r->range[bucket]));
    return r->overlap ? begin_ready(r) : DT_OK;
}

dt_status dt_reducer_progress(dt_reducer *r) {
    if (r->comm->world == 1) return DT_OK;
    if (r->overlap) DT_TRY(begin_ready(r));
    return r->comm->progress(r->comm);
}

/* Begins everything; with staging this waits for the copies to the host. */
static dt_status begin_all(dt_reducer *r) {
    if (r->has_extra) DT_TRY(range_ready(r, &r->range[r->n_bucket]));
    for (int32_t i = 0; i < r->n_bucket; i++)
        if (!r->range[i].ready) return dt_fail(DT_ERR_INTERNAL, "gradient bucket %d was never ready", (int)i);
    if (range_count(r) == 0) return DT_OK;
    const range *last = &r->range[range_count(r) - 1];
    dt_pacer pacer;
    dt_pacer_start(&pacer);
    for (;;) {
        DT_TRY(begin_ready(r));
        if (last->begun) return DT_OK;
        DT_TRY(r->comm->progress(r->comm));
        dt_pacer_rest(&pacer);
    }
}

dt_status dt_reducer_finish(dt_reducer *r) {
    if (r->comm->world == 1) return DT_OK;
    const double begin_s = dt_trace_begin();
    DT_TRY(begin_all(r));
    DT_TRY(r->comm->wait(r->comm, r->stream));
    dt_trace_end(begin_s, "all-reduce: wait", -1);
    for (int32_t i = 0; i < range_count(r); i++) {
        range *g = &r->range[i];
        if (!r->on_stream) DT_TRY(tell(r, g, true));
        if (r->staging) DT_TRY(r->be->copy(r->be, g->data, g->stage, range_bytes(g), NULL));
        g->ready = g->begun = false;
    }
    if (!r->on_stream) return DT_OK;
    DT_TRY(r->be->event_record(r->be, r->joined, r->stream));
    return r->be->event_wait(r->be, r->joined, NULL);
}
