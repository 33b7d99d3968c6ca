/* Probes in the places of kernels: on a backend without timers the clock tells, around run; on a device events
 * around it. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One stretch of a stream. */
typedef struct stretch {
    dt_event *begin, *end;
    bool used;
} stretch;

typedef struct probe {
    dt_probes *of;
    dt_kernel kernel; /* what it stands for */
    const char *name; /* in the trace */
} probe;

struct dt_probes {
    dt_engine *e;
    dt_backend *be;
    dt_trace *trace;
    bool placed;
    int32_t n_kernel;
    dt_engine_kernel *kernel;
    probe *probe;
    int32_t n_call, room;
    dt_probe_call *call;

    dt_lane *reductions;
    int32_t n_range; /* buckets, and the extra values behind them */
    double *range_begin_s;
    double reduced_s; /* when the host knew the reductions of this step done; 0: not yet */

    /* Of a device alone. */
    dt_lane *compute, *copies;
    dt_event *base; /* recorded and waited for at the begin of a step: */
    double base_s;  /* then */
    stretch *run;   /* of each call */
    stretch *range; /* of each reduction */
    stretch *copy;  /* of each micro-batch */
    int32_t n_copy;
};

static bool has_timers(const dt_probes *p) {
    return p->be->timer_create != NULL;
}

/* ---- while a step runs ---- */

static dt_status run_probe(void *ctx, dt_stream *stream) {
    probe *x = ctx;
    dt_probes *p = x->of;
    if (p->n_call == p->room) return dt_fail(DT_ERR_INTERNAL, "more kernels in a step than were told");
    const int32_t i = p->n_call++;
    p->call[i].kernel = (int32_t)(x - p->probe);
    if (p->be->range_begin) p->be->range_begin(p->be, x->name);
    dt_status st = has_timers(p) ? p->be->event_record(p->be, p->run[i].begin, stream) : DT_OK;
    const double begin_s = dt_time_s();
    if (st == DT_OK) st = x->kernel.run(x->kernel.ctx, stream);
    const double end_s = dt_time_s();
    if (st == DT_OK && has_timers(p)) st = p->be->event_record(p->be, p->run[i].end, stream);
    if (p->be->range_end) p->be->range_end(p->be);
    p->call[i].begin_s = begin_s;
    p->call[i].seconds = end_s - begin_s;
    /* On a device this is the launch. */
    if (p->trace && dt_trace_current() == p->trace)
        dt_lane_add(dt_trace_thread, &(dt_span){x->name, -1, begin_s, end_s});
    return st;
}

static dt_status mark(dt_probes *p, stretch *s, bool end, dt_stream *stream) {
    s->used = true;
    return p->be->event_record(p->be, end ? s->end : s->begin, stream);
}

static dt_status on_reduction(void *arg, int32_t range, bool complete, dt_stream *stream) {
    dt_probes *p = arg;
    DT_ASSERT(range < p->n_range);
    if (stream && has_timers(p)) {
        if (!complete && p->be->range_begin) p->be->range_begin(p->be, "all-reduce");
        const dt_status st = mark(p, &p->range[range], complete, stream);
        if (complete && p->be->range_end) p->be->range_end(p->be);
        return st;
    }
    if (!complete) {
        p->range_begin_s[range] = dt_time_s();
        return DT_OK;
    }
    if (p->reduced_s == 0) p->reduced_s = dt_time_s();
    if (p->reductions)
        dt_lane_add(p->reductions, &(dt_span){"all-reduce", range, p->range_begin_s[range], p->reduced_s});
    return DT_OK;
}

static dt_status on_copy(void *arg, bool done) {
    dt_probes *p = arg;
    if (p->n_copy == p->e->division.n_micro)
        return dt_fail(DT_ERR_INTERNAL, "more batches in a step than it has");
    const dt_status st = mark(p, &p->copy[p->n_copy], done, p->e->copy_stream);
    p->n_copy += done;
    return st;
}

dt_status dt_probes_begin_step(dt_probes *p) {
    p->n_call = p->n_copy = 0;
    p->reduced_s = 0;
    if (!has_timers(p)) return DT_OK;
    for (int32_t i = 0; i < p->n_range; i++) p->range[i].used = false;
    DT_TRY(p->be->event_record(p->be, p->base, NULL));
    DT_TRY(p->be->stream_sync(p->be, NULL));
    p->base_s = dt_time_s();
    return DT_OK;
}

/* When a stretch began, on dt_time_s' clock, and how long it was; also to the lane, where the clock's grain may
 * not let it begin before the end of the one before. */
static dt_status read_stretch(dt_probes *p, const stretch *s, const char *name, int64_t number, dt_lane *lane,
                              double *begin_s, double *seconds) {
    double after;
    DT_TRY(p->be->timer_elapsed(p->be, p->base, s->begin, &after));
    DT_TRY(p->be->timer_elapsed(p->be, s->begin, s->end, seconds));
    *begin_s = p->base_s + after;
    if (!lane) return DT_OK;
    dt_span span = {name, number, *begin_s, *begin_s + *seconds};
    if (lane->n > 0) span.begin_s = fmax(span.begin_s, lane->span[lane->n - 1].end_s);
    span.end_s = fmax(span.end_s, span.begin_s);
    dt_lane_add(lane, &span);
    return DT_OK;
}

dt_status dt_probes_end_step(dt_probes *p) {
    double begin_s, seconds;
    DT_TRY(p->be->stream_sync(p->be, NULL));
    if (!has_timers(p)) return DT_OK;
    if (p->e->copy_stream) DT_TRY(p->be->stream_sync(p->be, p->e->copy_stream));
    for (int32_t i = 0; i < p->n_call; i++)
        DT_TRY(read_stretch(p, &p->run[i], p->probe[p->call[i].kernel].name, -1, p->compute,
                            &p->call[i].begin_s, &p->call[i].seconds));
    for (int32_t i = 0; i < p->n_range; i++)
        if (p->range[i].used)
            DT_TRY(read_stretch(p, &p->range[i], "all-reduce", i, p->reductions, &begin_s, &seconds));
    for (int32_t i = 0; i < p->n_copy; i++)
        DT_TRY(read_stretch(p, &p->copy[i], "batch to the device", -1, p->copies, &begin_s, &seconds));
    return DT_OK;
}

/* ---- before and after ---- */

static dt_status create_stretches(dt_backend *be, int64_t n, stretch **out) {
    stretch *s = *out = calloc((size_t)n + 1, sizeof *s);
    if (!s) return dt_fail(DT_ERR_MEMORY, "no memory for %lld timers", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        DT_TRY(be->timer_create(be, &s[i].begin));
        DT_TRY(be->timer_create(be, &s[i].end));
    }
    return DT_OK;
}

static void destroy_stretches(dt_backend *be, int64_t n, stretch *s) {
    for (int64_t i = 0; s && i < n; i++) {
        if (s[i].begin) be->event_destroy(be, s[i].begin);
        if (s[i].end) be->event_destroy(be, s[i].end);
    }
    free(s);
}

/* In the order in which they are to be shown. */
static dt_status create_lanes(dt_probes *p) {
    if (!p->trace) return DT_OK;
    if (has_timers(p)) {
        DT_TRY(dt_trace_lane(p->trace, "compute stream", &p->compute));
        DT_TRY(dt_trace_lane(p->trace, "copy stream", &p->copies));
    }
    return p->e->reducer ? dt_trace_lane(p->trace, "reductions", &p->reductions) : DT_OK;
}

static const char *name_of(dt_probes *p, const dt_engine_kernel *k) {
    char text[DT_NAME_MAX + 128];
    const char *label = k->kernel->label ? k->kernel->label : "kernel";
    if (!p->trace && !p->be->range_begin) return label;
    if (k->node)
        snprintf(text, sizeof text, "%s: %s", p->e->program->graph->value[k->node->out[0]].name, label);
    const char *copy = k->node && p->trace ? dt_trace_text(p->trace, text) : NULL;
    return copy ? copy : label;
}

static dt_status create(dt_probes *p) {
    dt_engine *e = p->e;
    p->n_kernel = dt_engine_kernels(e, NULL);
    p->room = (int32_t)(e->division.n_micro * p->n_kernel);
    p->n_range = e->axis->n_bucket + 1;
    p->kernel = calloc((size_t)p->n_kernel + 1, sizeof *p->kernel);
    p->probe = calloc((size_t)p->n_kernel + 1, sizeof *p->probe);
    p->call = calloc((size_t)p->room + 1, sizeof *p->call);
    p->range_begin_s = calloc((size_t)p->n_range, sizeof *p->range_begin_s);
    if (!p->kernel || !p->probe || !p->call || !p->range_begin_s)
        return dt_fail(DT_ERR_MEMORY, "no memory for a profile of %d kernels", p->n_kernel);
    DT_TRY(create_lanes(p));
    dt_engine_kernels(e, p->kernel);
    for (int32_t i = 0; i < p->n_kernel; i++)
        p->probe[i] = (probe){.of = p, .kernel = *p->kernel[i].kernel, .name = name_of(p, &p->kernel[i])};
    if (!has_timers(p)) return DT_OK;
    DT_TRY(p->be->timer_create(p->be, &p->base));
    DT_TRY(create_stretches(p->be, p->room, &p->run));
    DT_TRY(create_stretches(p->be, p->n_range, &p->range));
    return create_stretches(p->be, e->division.n_micro, &p->copy);
}

dt_status dt_probes_create(dt_engine *e, dt_trace *trace, dt_probes **out) {
    dt_probes *p = *out = calloc(1, sizeof *p);
    if (!p) return dt_fail(DT_ERR_MEMORY, "no memory for a profile");
    p->e = e;
    p->be = e->be;
    p->trace = trace;
    const dt_status st = create(p);
    if (st == DT_OK) return DT_OK;
    dt_probes_destroy(p);
    *out = NULL;
    return st;
}

void dt_probes_place(dt_probes *p, bool place) {
    dt_engine *e = p->e;
    for (int32_t i = 0; i < p->n_kernel && place != p->placed; i++) {
        dt_kernel *k = p->kernel[i].kernel;
        *k = p->probe[i].kernel;
        if (place) k->run = run_probe, k->ctx = &p->probe[i];
    }
    p->placed = place;
    e->plain = place;
    e->on_copy = place && has_timers(p) ? on_copy : NULL;
    e->on_copy_arg = p;
    if (e->reducer) dt_reducer_watch(e->reducer, place ? on_reduction : NULL, p);
}

void dt_probes_destroy(dt_probes *p) {
    if (!p) return;
    dt_probes_place(p, false);
    destroy_stretches(p->be, p->room, p->run);
    destroy_stretches(p->be, p->n_range, p->range);
    destroy_stretches(p->be, p->e->division.n_micro, p->copy);
    if (p->base) p->be->event_destroy(p->be, p->base);
    free(p->kernel), free(p->probe), free(p->call), free(p->range_begin_s), free(p);
}

int32_t dt_probes_n_call(const dt_probes *p) {
    return p->n_call;
}
const dt_probe_call *dt_probes_calls(const dt_probes *p) {
    return p->call;
}
int32_t dt_probes_n_kernel(const dt_probes *p) {
    return p->n_kernel;
}
const dt_engine_kernel *dt_probes_kernels(const dt_probes *p) {
    return p->kernel;
}
const char *dt_probes_label(const dt_probes *p, int32_t kernel) {
    const char *label = p->probe[kernel].kernel.label;
    return label ? label : "";
}
