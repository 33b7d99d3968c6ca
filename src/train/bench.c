/* Timing of steps, kernels and reductions through the same engine that trains. */
#include "train/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "model/model.h"
#include "core/mix.h"
#include "core/op.h"
#include "core/rng.h"
#include "core/text.h"
#include "measure.h"
#include "train/session.h"

enum {
    WINDOWS = DT_MEASURE_WINDOWS,
    MIN_BYTES = 1024, /* that bench comm exchanges */
    CHUNK = 1 << 20
};

/* Made-up rows of an input: bytes and numbers at random, classes in turn, whole images as windows. */
static void fill_rows(const dt_graph *g, const dt_field *f, int64_t rows, void *to) {
    const dt_vid image = dt_graph_input(g, "image"), logits = dt_graph_output(g, "logits");
    const int64_t n = rows * dt_field_bytes(f) / (int64_t)dt_dtype_size(f->dtype);
    const int64_t classes = logits >= 0 ? g->value[logits].dim[g->value[logits].ndim - 1] : 1;
    for (int64_t i = 0; i < n; i++) {
        if (f->dtype == DT_DTYPE_U8)
            ((uint8_t *)to)[i] = (uint8_t)(dt_philox(1, 0, (uint64_t)i / 16).v[i / 4 % 4] >> (8 * (i % 4)));
        if (f->dtype == DT_DTYPE_F32) ((float *)to)[i] = dt_u01(dt_philox(1, 0, (uint64_t)i / 4).v[i % 4]);
        if (strcmp(f->name, "label") == 0 || strcmp(f->name, "partner") == 0)
            ((int32_t *)to)[i] = (int32_t)(i % classes);
    }
    for (int64_t i = 0; strcmp(f->name, "aug") == 0 && i < rows; i++) {
        const dt_value *v = &g->value[image];
        const int32_t whole[8] = {0, 0, (int32_t)v->dim[2], (int32_t)v->dim[1], (int32_t)(i & 1), 0, 0, 0};
        memcpy((int32_t *)to + 8 * i, whole, sizeof whole);
    }
    for (int64_t i = 0; strcmp(f->name, "mix") == 0 && i < rows; i++) {
        const dt_mix halves = {.partner = (int32_t)(rows - 1 - i), .share = 0.5f};
        memcpy((int32_t *)to + DT_MIX_INTS * i, &halves, sizeof halves);
    }
}

/* A batch of made-up rows in the program's input arena. */
static dt_status fill_input(dt_session *s) {
    const dt_graph *g = dt_engine_program(s->engine, false)->graph;
    const int64_t rows = dt_graph_rows(g);
    dt_field field[DT_FIELDS_MAX];
    dt_batch b = {.field = field, .rows = rows, .n_valid = rows};
    dt_status st = DT_OK;
    for (dt_vid id = 0; st == DT_OK && id < g->n_value; id++) {
        const dt_value *v = &g->value[id];
        if (v->role != DT_ROLE_INPUT || strcmp(v->name, DT_FIELD_VALID) == 0) continue;
        dt_field *f = &field[b.n_field];
        *f = (dt_field){.dtype = v->dtype, .ndim = v->ndim - 1};
        snprintf(f->name, sizeof f->name, "%s", v->name);
        memcpy(f->dim, v->dim + 1, (size_t)f->ndim * sizeof *f->dim);
        st = s->be->alloc(s->be, DT_MEM_HOST, rows * dt_field_bytes(f), &b.data[b.n_field]);
        if (st == DT_OK) fill_rows(g, f, rows, b.data[b.n_field++]);
    }
    if (st == DT_OK) st = dt_engine_feed(s->engine, &b, false);
    if (st == DT_OK) st = dt_engine_sync(s->engine);
    for (int32_t i = 0; i < b.n_field; i++) s->be->free(s->be, DT_MEM_HOST, b.data[i]);
    return st;
}

static dt_status one_step(dt_session *s, int64_t step, dt_step_result *last) {
    const dt_config *c = s->config;
    const dt_division *d = dt_engine_division(s->engine);
    dt_step_params p = dt_measure_params(c, step);
    DT_TRY(dt_engine_begin_step(s->engine, false, false));
    for (int64_t m = 0; m < d->n_micro; m++) {
        p.first_micro = m == 0;
        p.micro = (uint64_t)m;
        DT_TRY(dt_engine_micro(s->engine, &p, m == d->n_micro - 1));
    }
    DT_TRY(dt_engine_end_step(s->engine, step));
    while (dt_engine_pending(s->engine) > dt_engine_lag(s->engine)) DT_TRY(dt_engine_result(s->engine, last));
    return DT_OK;
}

dt_status dt_bench_step(const dt_config *c, dt_comm *mpi, int64_t steps, const dt_sink *sink) {
    dt_session s;
    dt_step_result r = {0};
    double start_s = dt_time_s();
    DT_TRY(dt_session_open(c, mpi, true, sink, &s));
    dt_status st = dt_engine_init(s.engine);
    if (st == DT_OK)
        st = dt_engine_set_loss_scale(s.engine, c->train.precision == DT_PRECISION_FP16 ? 1024 : 1, 0);
    if (st == DT_OK) st = fill_input(&s);
    for (int64_t i = 0; st == DT_OK && i < 3; i++) st = one_step(&s, i, &r);
    if (st == DT_OK) st = dt_engine_sync(s.engine);
    double ready_s = dt_time_s() - start_s, window_s[WINDOWS];
    for (int w = 0; st == DT_OK && w < WINDOWS; w++) {
        DT_TRY_GOTO(st, dt_comm_barrier(mpi), out);
        double t = dt_time_s();
        for (int64_t i = 0; st == DT_OK && i < steps; i++) {
            dt_watchdog_beat(s.watchdog, i, "benchmark");
            st = one_step(&s, 3 + w * steps + i, &r);
        }
        if (st == DT_OK) st = dt_engine_sync(s.engine);
        window_s[w] = (dt_time_s() - t) / (double)steps;
    }
    if (st != DT_OK || mpi->rank != 0) goto out;
    double lo = window_s[0], hi = window_s[0];
    for (int w = 1; w < WINDOWS; w++) lo = fmin(lo, window_s[w]), hi = fmax(hi, window_s[w]);
    double step_s = dt_measure_median(window_s, WINDOWS), flops = 0;
    const dt_graph *g = dt_engine_program(s.engine, false)->graph;
    for (dt_nid i = 0; i < g->n_node; i++) flops += dt_op_flops(g, &g->node[i]);
    flops *= (double)dt_engine_division(s.engine)->n_micro;
    const double loss = (double)r.metric[DT_METRIC_LOSS] / fmax(1, (double)r.metric[DT_METRIC_SAMPLES]);
    char loss_text[32];
    snprintf(loss_text, sizeof loss_text, isfinite(loss) ? "%.5f" : "null", loss); /* JSON has no NaN */
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    dt_tell(sink, DT_NEWS_LINE, "%s, %s, %s: step %.3f ms (%.3f to %.3f), %.1f samples/s, %s a rank",
            c->model.name, dt_count_text(mpi->world, "rank").s, s.be->info.name, 1e3 * step_s, 1e3 * lo,
            1e3 * hi, (double)c->train.global_batch / step_s, dt_unit_text(flops / step_s, "FLOP/s").s);
    dt_tell(sink, DT_NEWS_LINE,
            "{\"bench\":\"step\",\"model\":\"%s\",\"ranks\":%d,\"global_batch\":%lld,\"step_ms\":%.4f,"
            "\"samples_per_s\":%.2f,"
            "\"device_mib\":%.3f,\"peak_rss_mib\":%.1f,\"ready_s\":%.2f,\"loss\":%s}",
            c->model.name, mpi->world, (long long)c->train.global_batch, 1e3 * step_s,
            (double)c->train.global_batch / step_s, (double)dt_engine_device_bytes(s.engine) / (1 << 20),
            (double)use.ru_maxrss / 1024, ready_s, loss_text);
out:
    dt_session_close(&s, st);
    return st;
}

/* A copy that moves as many bytes as a kernel: what memory gives at that size. */
typedef struct copy_like {
    dt_backend *be;
    char *buf;
    int64_t half_bytes; /* of buf, and most that one copy moves */
    int64_t bytes;      /* read, and as many written */
} copy_like;

static dt_status run_copy(void *arg, dt_stream *stream) {
    const copy_like *y = arg;
    return y->be->copy(y->be, y->buf + y->half_bytes, y->buf, y->bytes, stream);
}

static dt_status make_copies(dt_backend *be, const dt_program *p, copy_like *out) {
    *out = (copy_like){.be = be};
    for (int32_t i = 0; i < p->n_kernel; i++) {
        const double bytes = dt_op_bytes(p->graph, &p->graph->node[p->kernel[i].node]) / 2;
        if (bytes > (double)out->half_bytes) out->half_bytes = dt_round_up((int64_t)bytes, 256);
    }
    return be->alloc(be, DT_MEM_DEVICE, 2 * out->half_bytes, (void **)&out->buf);
}

dt_status dt_bench_op(const dt_config *c, dt_comm *mpi, int64_t repeats, const dt_sink *sink) {
    dt_session s;
    dt_step_result r;
    copy_like copy = {0};
    DT_TRY(dt_session_open(c, mpi, true, sink, &s));
    dt_status st = dt_engine_init(s.engine);
    if (st == DT_OK)
        st = dt_engine_set_loss_scale(s.engine, c->train.precision == DT_PRECISION_FP16 ? 1024 : 1, 0);
    if (st == DT_OK) st = fill_input(&s);
    if (st == DT_OK) st = one_step(&s, 0, &r);
    const dt_program *p = dt_engine_program(s.engine, false);
    double total_s = 0, op_s[DT_OP_COUNT] = {0};
    if (st == DT_OK) st = make_copies(s.be, p, &copy);
    if (st == DT_OK && mpi->rank == 0)
        dt_tell(sink, DT_NEWS_LINE, "%-16s %-34s %10s %10s %8s %10s  %s", "op", "result", "ms", "GB/s",
                "of copy", "GFLOP/s", "kernel");
    for (int32_t i = 0; st == DT_OK && i < p->n_kernel; i++) {
        const dt_node *n = &p->graph->node[p->kernel[i].node];
        const dt_kernel copy_kernel = {.run = run_copy, .ctx = &copy};
        dt_measured run, same;
        dt_watchdog_beat(s.watchdog, i, "benchmark");
        DT_TRY_GOTO(st, dt_measure_kernel(s.be, &p->kernel[i], repeats, s.watchdog, &run), out);
        copy.bytes = (int64_t)(dt_op_bytes(p->graph, n) / 2);
        DT_TRY_GOTO(st, dt_measure_kernel(s.be, &copy_kernel, repeats, s.watchdog, &same), out);
        const double kernel_s = run.median_s, copy_s = same.median_s;
        total_s += kernel_s;
        op_s[n->op] += kernel_s;
        if (mpi->rank == 0)
            dt_tell(sink, DT_NEWS_LINE, "%-16s %-34.34s %10.4f %10.1f %7.0f%% %10.1f  %s",
                    dt_op_get(n->op)->name, p->graph->value[n->out[0]].name, 1e3 * kernel_s,
                    dt_op_bytes(p->graph, n) / kernel_s / 1e9, 100 * copy_s / kernel_s,
                    dt_op_flops(p->graph, n) / kernel_s / 1e9, p->kernel[i].label ? p->kernel[i].label : "");
    }
    if (st == DT_OK && mpi->rank == 0) {
        dt_tell(sink, DT_NEWS_LINE, "\n%-16s %10s %8s", "op", "ms", "share");
        for (int op = 0; op < DT_OP_COUNT; op++)
            if (op_s[op] > 0)
                dt_tell(sink, DT_NEWS_LINE, "%-16s %10.3f %7.1f%%", dt_op_get((dt_op)op)->name,
                        1e3 * op_s[op], 100 * op_s[op] / total_s);
        dt_tell(sink, DT_NEWS_LINE, "%-16s %10.3f", "sum", 1e3 * total_s);
    }
out:
    s.be->free(s.be, DT_MEM_DEVICE, copy.buf);
    dt_session_close(&s, st);
    return st;
}

/* A row of reductions, back to back: on a device on one stream that leaves the compute stream and joins it
 * again once, as those of a step do. */
typedef struct reduce_row {
    dt_comm *comm;
    dt_backend *be;
    dt_stream *stream; /* NULL: the communicator takes host memory */
    dt_event *fork, *join;
    void *buf;
    int64_t n_elem;
    int repeats;
} reduce_row;

static dt_status row_open(reduce_row *r) {
    if (!r->comm->device_memory) return DT_OK;
    DT_TRY(r->be->stream_create(r->be, &r->stream));
    DT_TRY(r->be->event_create(r->be, &r->fork));
    return r->be->event_create(r->be, &r->join);
}

static void row_close(reduce_row *r) {
    if (r->join) r->be->event_destroy(r->be, r->join);
    if (r->fork) r->be->event_destroy(r->be, r->fork);
    if (r->stream) r->be->stream_destroy(r->be, r->stream);
}

static dt_status enqueue_row(void *arg) {
    const reduce_row *r = arg;
    if (r->stream) {
        DT_TRY(r->be->event_record(r->be, r->fork, NULL));
        DT_TRY(r->be->event_wait(r->be, r->fork, r->stream));
    }
    for (int i = 0; i < r->repeats; i++) {
        DT_TRY(r->comm->allreduce_begin(r->comm, r->buf, r->n_elem, DT_DTYPE_F32, r->stream));
        DT_TRY(r->comm->wait(r->comm, r->stream));
    }
    if (!r->stream) return DT_OK;
    DT_TRY(r->be->event_record(r->be, r->join, r->stream));
    return r->be->event_wait(r->be, r->join, NULL);
}

/* Median seconds of one reduction. On a device the row is captured once and replayed, as a training step does
 * it. */
static dt_status time_row(dt_comm *mpi, dt_backend *be, dt_watchdog *watch, reduce_row *r, double *out_s) {
    dt_capture *captured = NULL;
    double sample[WINDOWS];
    dt_status st = DT_OK;
    DT_TRY_GOTO(st, enqueue_row(r), out);
    DT_TRY_GOTO(st, be->stream_sync(be, NULL), out);
    if (r->comm->device_memory && be->capture)
        DT_TRY_GOTO(st, be->capture(be, enqueue_row, r, &captured), out);
    for (int w = -1; w < WINDOWS; w++) { /* the first window warms up */
        dt_watchdog_beat(watch, r->n_elem, "all-reduce");
        DT_TRY_GOTO(st, dt_comm_barrier(mpi), out);
        double t = dt_time_s();
        DT_TRY_GOTO(st, captured ? be->replay(be, captured, NULL) : enqueue_row(r), out);
        DT_TRY_GOTO(st, be->stream_sync(be, NULL), out);
        if (w >= 0) sample[w] = (dt_time_s() - t) / r->repeats;
    }
    *out_s = dt_measure_median(sample, WINDOWS);
out:
    if (captured) be->capture_free(be, captured);
    return st;
}

/* Element i of a rank, before the sum; small whole numbers, so that every order of summation is exact. */
static float term(int rank, int64_t i) {
    return (float)(rank + 1) * (float)(i % 5 + 1);
}

/* Elements, over all ranks, that one reduction gets wrong. `chunk`: host memory of CHUNK elements. The buffer
 * is zero afterwards: sums of sums stay finite. */
static dt_status count_wrong(dt_comm *mpi, dt_backend *be, const reduce_row *r, float *chunk, double *out) {
    float *buf = r->buf;
    reduce_row once = *r;
    once.repeats = 1;
    *out = 0;
    for (int64_t at = 0; at < r->n_elem; at += CHUNK) {
        const int64_t n = dt_min_i64(CHUNK, r->n_elem - at);
        for (int64_t i = 0; i < n; i++) chunk[i] = term(mpi->rank, at + i);
        DT_TRY(be->copy(be, buf + at, chunk, n * (int64_t)sizeof *buf, NULL));
        DT_TRY(be->stream_sync(be, NULL));
    }
    DT_TRY(enqueue_row(&once));
    const float ranks = 0.5f * (float)mpi->world * (float)(mpi->world + 1); /* 1 + 2 + ... + world */
    for (int64_t at = 0; at < r->n_elem; at += CHUNK) {
        const int64_t n = dt_min_i64(CHUNK, r->n_elem - at);
        DT_TRY(be->copy(be, chunk, buf + at, n * (int64_t)sizeof *buf, NULL));
        DT_TRY(be->stream_sync(be, NULL));
        for (int64_t i = 0; i < n; i++) *out += chunk[i] != ranks * term(0, at + i);
    }
    DT_TRY(be->fill(be, buf, 0, r->n_elem * (int64_t)sizeof *buf, NULL));
    return dt_comm_sum_host(mpi, out, 1);
}

/* nccl-tests' columns, of the reduction in place alone. */
static void tell_row_head(const dt_comm *comm, const dt_sink *sink) {
    dt_tell(sink, DT_NEWS_LINE, "# all-reduce in place, %s, %s", dt_count_text(comm->world, "rank").s,
            comm->name);
    dt_tell(sink, DT_NEWS_LINE, "#%12s %13s %7s %7s %5s %9s %7s %7s %6s", "size", "count", "type", "redop",
            "root", "time", "algbw", "busbw", "#wrong");
    dt_tell(sink, DT_NEWS_LINE, "#%12s %13s %7s %7s %5s %9s %7s %7s", "(B)", "(elements)", "", "", "", "(us)",
            "(GB/s)", "(GB/s)");
}

static void tell_row(const dt_comm *comm, const reduce_row *r, double seconds, double n_wrong,
                     const dt_sink *sink) {
    const int64_t bytes = r->n_elem * (int64_t)sizeof(float);
    const double alg = (double)bytes / seconds / 1e9;
    dt_tell(sink, DT_NEWS_LINE, " %12lld %13lld %7s %7s %5d %9.2f %7.2f %7.2f %6.0f", (long long)bytes,
            (long long)r->n_elem, "float", "sum", -1, 1e6 * seconds, alg,
            alg * 2 * (comm->world - 1) / comm->world, n_wrong);
}

dt_status dt_bench_comm(const dt_config *c, dt_comm *mpi, int64_t max_bytes, const dt_sink *sink) {
    dt_backend *be = NULL;
    dt_watchdog *watch = NULL;
    reduce_row r = {.comm = mpi};
    void *chunk = NULL;
    dt_memkind kind = DT_MEM_HOST;
    if (mpi->world == 1)
        return dt_fail(DT_ERR_USAGE,
                       "bench comm: one rank has nobody to exchange with: mpirun -np 2 dtrain bench comm");
    if (max_bytes < MIN_BYTES)
        return dt_fail(DT_ERR_USAGE, "bench comm: --max-bytes starts at %d, got %lld", MIN_BYTES,
                       (long long)max_bytes);
    mpi->timeout_s = c->dist.timeout_s;
    dt_status st = dt_comm_agree(mpi, dt_session_backend(c, mpi, &be));
    if (st != DT_OK) goto out;
    r.be = be;
    DT_TRY_GOTO(st, dt_session_comm(c, mpi, be, &r.comm), out);
    DT_TRY_GOTO(st, dt_session_watch(c, mpi, r.comm, &watch), out);
    DT_TRY_GOTO(st, dt_comm_agree(mpi, row_open(&r)), out);
    if (r.comm->device_memory) kind = DT_MEM_COMM;
    st = be->alloc(be, kind, max_bytes, &r.buf);
    if (st == DT_OK) st = be->alloc(be, DT_MEM_HOST, CHUNK * (int64_t)sizeof(float), &chunk);
    DT_TRY_GOTO(st, dt_comm_agree(mpi, st), out);
    if (mpi->rank == 0) tell_row_head(r.comm, sink);
    for (int64_t bytes = MIN_BYTES; bytes <= max_bytes; bytes *= 4) {
        double seconds, n_wrong;
        r.n_elem = bytes / (int64_t)sizeof(float);
        /* Many of the small ones: a window also pays for its own start and end. */
        r.repeats = (int)dt_min_i64(dt_max_i64((1 << 30) / bytes, 20), 200);
        dt_watchdog_beat(watch, r.n_elem, "all-reduce");
        DT_TRY_GOTO(st, count_wrong(mpi, be, &r, chunk, &n_wrong), out);
        DT_TRY_GOTO(st, time_row(mpi, be, watch, &r, &seconds), out);
        if (mpi->rank == 0) tell_row(r.comm, &r, seconds, n_wrong, sink);
        if (n_wrong > 0) {
            st = dt_fail(DT_ERR_DEVICE, "an all-reduce of %s: %s wrong", dt_count_text(bytes, "byte").s,
                         dt_count_text((int64_t)n_wrong, "element").s);
            goto out;
        }
    }
out:
    if (st != DT_OK) dt_comm_fail(mpi, st);
    dt_watchdog_stop(watch);
    if (r.comm->release) r.comm->release(r.comm);
    row_close(&r);
    if (r.buf) be->free(be, kind, r.buf);
    if (chunk) be->free(be, DT_MEM_HOST, chunk);
    if (r.comm != mpi) r.comm->destroy(r.comm);
    if (be) be->destroy(be);
    return st;
}
