/* Medians, kernels back to back, and what a device can do at most. */
#include "measure.h"

#include <math.h>
#include <stdlib.h>

#include "core/op.h"

enum {
    CAPTURED = 10,   /* times as many launches in a captured row */
    RATE_ROUNDS = 4, /* of which the best window counts: others may be at work */
    SIDE_HOST = 512, /* of the matrices */
    SIDE_GPU = 8192,
    COPY_BYTES_HOST = 64 << 20,
    COPY_BYTES_GPU = 256 << 20,
    COPY_COLUMNS = 1024,
    IMAGE_WIDTH = 32,
    SMALL_BYTE = 0x3c /* repeated: about 0.01 in f32 and bf16, 1.06 in f16 */
};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double dt_measure_median(double *v, int64_t n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

dt_step_params dt_measure_params(const dt_config *c, int64_t step) {
    return (dt_step_params){
        .lr = 1e-3f, .loss_weight = 1.0f / (float)c->train.global_batch, .seed = 1, .step = (uint64_t)step};
}

/* A kernel, back to back. */
typedef struct kernel_row {
    const dt_kernel *kernel;
    int64_t repeats;
} kernel_row;

static dt_status enqueue_kernels(void *arg) {
    const kernel_row *r = arg;
    for (int64_t i = 0; i < r->repeats; i++) DT_TRY(r->kernel->run(r->kernel->ctx, NULL));
    return DT_OK;
}

dt_status dt_measure_kernel(dt_backend *be, const dt_kernel *k, int64_t repeats, dt_watchdog *watchdog,
                            dt_measured *out) {
    kernel_row row = {k, be->capture ? CAPTURED * repeats : repeats};
    dt_capture *captured = NULL;
    double sample[DT_MEASURE_WINDOWS];
    dt_status st = k->run(k->ctx, NULL);
    if (st == DT_OK && be->capture) st = be->capture(be, enqueue_kernels, &row, &captured);
    for (int w = 0; st == DT_OK && w < DT_MEASURE_WINDOWS; w++) {
        dt_watchdog_beat(watchdog, w, "benchmark");
        DT_TRY_GOTO(st, be->stream_sync(be, NULL), done);
        double t = dt_time_s();
        DT_TRY_GOTO(st, captured ? be->replay(be, captured, NULL) : enqueue_kernels(&row), done);
        DT_TRY_GOTO(st, be->stream_sync(be, NULL), done);
        sample[w] = (dt_time_s() - t) / (double)row.repeats;
    }
    if (st == DT_OK) out->median_s = dt_measure_median(sample, DT_MEASURE_WINDOWS), out->best_s = sample[0];
done:
    if (captured) be->capture_free(be, captured);
    return st;
}

/* Memory of one node's operands. */
typedef struct operands {
    void *in[DT_SLOTS_IN_MAX], *out[DT_SLOTS_OUT_MAX], *workspace;
} operands;

static dt_status allocate(dt_backend *be, const dt_graph *g, int64_t workspace_bytes, operands *o) {
    const dt_node *n = &g->node[0];
    for (int32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] < 0) continue;
        const int64_t bytes = dt_value_bytes(&g->value[n->in[i]]);
        DT_TRY(be->alloc(be, DT_MEM_DEVICE, bytes, &o->in[i]));
        DT_TRY(be->fill(be, o->in[i], SMALL_BYTE, bytes, NULL));
    }
    if (workspace_bytes > 0) DT_TRY(be->alloc(be, DT_MEM_DEVICE, workspace_bytes, &o->workspace));
    return be->alloc(be, DT_MEM_DEVICE, dt_value_bytes(&g->value[n->out[0]]), &o->out[0]);
}

/* One node over operands of its own. */
static dt_status measure_node(dt_backend *be, dt_graph *g, dt_watchdog *watchdog, dt_measured *out) {
    operands o = {.workspace = NULL};
    int64_t workspace_bytes = 0;
    dt_prep *prep;
    dt_kernel kernel;
    dt_status st = be->prepare(be, g, 0, &prep, &workspace_bytes);
    if (st == DT_OK) st = allocate(be, g, workspace_bytes, &o);
    const dt_binding b = {.in = o.in, .out = o.out, .workspace = o.workspace};
    if (st == DT_OK) st = be->bind(be, g, 0, prep, &b, &kernel);
    double best_s = INFINITY;
    for (int i = 0; st == DT_OK && i < RATE_ROUNDS; i++) {
        st = dt_measure_kernel(be, &kernel, 1, watchdog, out);
        if (st == DT_OK) out->best_s = best_s = fmin(best_s, out->best_s);
    }
    for (int32_t i = 0; i < DT_SLOTS_IN_MAX; i++)
        if (o.in[i]) be->free(be, DT_MEM_DEVICE, o.in[i]);
    if (o.out[0]) be->free(be, DT_MEM_DEVICE, o.out[0]);
    if (o.workspace) be->free(be, DT_MEM_DEVICE, o.workspace);
    return st;
}

/* Element by element: x * scale + shift by column. */
static dt_status add_map(dt_graph *g, int64_t rows, int64_t columns) {
    static const char *const name[] = {"scale", "shift"};
    dt_vid in[3];
    DT_TRY(dt_graph_add_value(g, "x", DT_ROLE_INPUT, g->compute, 2, (int64_t[]){rows, columns}, &in[0]));
    for (int i = 0; i < 2; i++)
        DT_TRY(dt_graph_add_value(g, name[i], DT_ROLE_INPUT, DT_DTYPE_F32, 1, &columns, &in[1 + i]));
    return dt_graph_add_node(g, "y", DT_OP_BN_APPLY, NULL, 3, in, NULL);
}

/* A product of square matrices, as a dense layer and as a 1x1 convolution have it. */
static dt_status add_dense(dt_graph *g, int64_t rows, int64_t columns) {
    static const char *const name[] = {"x", "w"};
    dt_vid in[2];
    for (int i = 0; i < 2; i++)
        DT_TRY(
            dt_graph_add_value(g, name[i], DT_ROLE_INPUT, g->compute, 2, (int64_t[]){rows, columns}, &in[i]));
    return dt_graph_add_node(g, "y", DT_OP_DENSE, NULL, 2, in, NULL);
}

static dt_status add_conv(dt_graph *g, int64_t rows, int64_t columns) {
    static const char *const name[] = {"x", "w"};
    const int64_t dim[2][4] = {{1, rows / IMAGE_WIDTH, IMAGE_WIDTH, columns}, {columns, 1, 1, columns}};
    const dt_attr attr = {
        .window.kernel = {1, 1}, .window.stride = {1, 1}, .window.dilation = {1, 1}, .window.groups = 1};
    dt_vid in[2];
    for (int i = 0; i < 2; i++)
        DT_TRY(dt_graph_add_value(g, name[i], DT_ROLE_INPUT, g->compute, 4, dim[i], &in[i]));
    return dt_graph_add_node(g, "y", DT_OP_CONV, &attr, 2, in, NULL);
}

/* What one op gives at best, where that is more than what is known. */
static dt_status measure_op(dt_backend *be, dt_dtype dtype, int64_t rows, int64_t columns,
                            dt_status (*add)(dt_graph *g, int64_t rows, int64_t columns),
                            dt_watchdog *watchdog, dt_device_rates *r) {
    dt_graph *g;
    dt_measured run;
    DT_TRY(dt_graph_create(&g, dtype, false));
    dt_status st = add(g, rows, columns);
    if (st == DT_OK) st = measure_node(be, g, watchdog, &run);
    if (st == DT_OK) {
        r->bytes_per_s = fmax(r->bytes_per_s, dt_op_bytes(g, &g->node[0]) / run.best_s);
        r->flops_per_s = fmax(r->flops_per_s, dt_op_flops(g, &g->node[0]) / run.best_s);
    }
    dt_graph_destroy(g);
    return st;
}

dt_status dt_measure_rates(dt_backend *be, dt_dtype dtype, dt_watchdog *watchdog, dt_device_rates *out) {
    const bool gpu = be->info.is_gpu;
    const int64_t side = gpu ? SIDE_GPU : SIDE_HOST, bytes = gpu ? COPY_BYTES_GPU : COPY_BYTES_HOST;
    const int64_t rows = bytes / (COPY_COLUMNS * (int64_t)dt_dtype_size(dtype));
    dt_device_rates r = {.bytes_per_s = 0};
    *out = r;
    DT_TRY(measure_op(be, dtype, rows, COPY_COLUMNS, add_map, watchdog, &r));
    DT_TRY(measure_op(be, dtype, side, side, add_dense, watchdog, &r));
    /* A GPU's convolutions would look for their engine first; its dense layers have the same units. */
    if (!gpu) DT_TRY(measure_op(be, dtype, side, side, add_conv, watchdog, &r));
    *out = r;
    return DT_OK;
}
