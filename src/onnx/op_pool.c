/* Rows of pooling. */
#include <math.h>
#include <string.h>

#include "numbers.h"
#include "sample.h"
#include "window.h"

/* One window over one plane: elements start[d] + k step[d], n[d] of them. */
typedef struct view {
    int64_t start[DT_MAX_SPACE], n[DT_MAX_SPACE];
    int64_t count;  /* elements in the plane */
    int64_t padded; /* and with those that pads add */
} view;

static view view_of(const dt_window *w, const int64_t *place) {
    view v = {.count = 1, .padded = 1};
    for (int32_t d = 0; d < w->nd; d++) {
        const int64_t first = place[d] * w->stride[d] - w->pad[d], step = w->dilation[d],
                      lo = first < 0 ? (-first + step - 1) / step : 0,
                      hi = w->in[d] > first ? dt_min_i64(w->kernel[d], (w->in[d] - 1 - first) / step + 1) : 0,
                      last = w->in[d] + w->pad_end[d] - 1;
        v.start[d] = first + lo * step;
        v.n[d] = dt_max_i64(0, hi - lo);
        v.count *= v.n[d];
        v.padded *= last < first ? 0 : dt_min_i64(w->kernel[d], (last - first) / step + 1);
    }
    return v;
}

/* Element of the plane at place `at` of the view; stride of the dimensions as in storage order 0 or 1. */
static int64_t element(const dt_window *w, const view *v, const int64_t *at, bool column_major) {
    int64_t i = 0;
    for (int32_t k = 0; k < w->nd; k++) {
        const int32_t d = column_major ? w->nd - 1 - k : k;
        i = i * w->in[d] + v->start[d] + at[d] * w->dilation[d];
    }
    return i;
}

static dt_status read_pool(const dt_onnx_call *c, dt_window *w) {
    return dt_window_read(c, NULL, dt_onnx_attr_int(c->node, "ceil_mode", 0) != 0, w);
}

static dt_status infer_pool(const dt_onnx_call *c) {
    dt_window w;
    const bool max = strcmp(c->node->op, "MaxPool") == 0;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS | (max ? DT_HOST_BYTES : 0)));
    DT_TRY(read_pool(c, &w));
    int64_t dim[DT_MAX_DIM] = {c->in[0]->dim[0], c->in[0]->dim[1]};
    memcpy(dim + 2, w.out, sizeof *dim * (size_t)w.nd);
    DT_TRY(dt_onnx_out(c, 0, c->in[0]->type, w.nd + 2, dim));
    return dt_onnx_out(c, 1, DT_TENSOR_I64, w.nd + 2, dim);
}

/* What a window's numbers become. */
typedef struct pool {
    bool max, average, include_pad, column_major;
    double p;
} pool;

static double take(const pool *how, const dt_window *w, const view *v, const double *plane, int64_t *best) {
    int64_t at[DT_MAX_SPACE] = {0};
    double sum = how->max ? -HUGE_VAL : 0;
    *best = -1;
    if (v->count == 0) return sum;
    do {
        const int64_t i = element(w, v, at, false);
        const double x = plane[i];
        if (!how->max) {
            sum += how->average ? x : how->p == 2 ? x * x : pow(fabs(x), how->p);
        } else if (*best < 0 || x > sum || (isnan(x) && !isnan(sum))) {
            sum = x;
            *best = how->column_major ? element(w, v, at, true) : i;
        }
    } while (dt_next(w->nd, v->n, at));
    if (how->average) return sum / (double)(how->include_pad ? v->padded : v->count);
    return how->max ? sum : how->p == 2 ? sqrt(sum) : pow(sum, 1 / how->p);
}

static dt_status run_pool(const dt_onnx_call *c) {
    dt_window w;
    DT_TRY(read_pool(c, &w));
    const pool how = {.max = strcmp(c->node->op, "MaxPool") == 0,
                      .average = strcmp(c->node->op, "AveragePool") == 0,
                      .include_pad = dt_onnx_attr_int(c->node, "count_include_pad", 0) != 0,
                      .column_major = dt_onnx_attr_int(c->node, "storage_order", 0) != 0,
                      .p = (double)dt_onnx_attr_int(c->node, "p", 2)};
    if (how.p < 1) return dt_onnx_refuse(c, "p must be at least 1");
    const int64_t planes = c->in[0]->dim[0] * c->in[0]->dim[1];
    double *x, *row;
    DT_TRY(dt_onnx_load(c, 0, &x));
    DT_TRY(dt_onnx_doubles(c, w.n_out, &row));
    for (int64_t k = 0; k < planes; k++, x += w.n_in) {
        int64_t place[DT_MAX_SPACE] = {0};
        for (int64_t o = 0; o < w.n_out; o++) {
            const view v = view_of(&w, place);
            int64_t best;
            row[o] = take(&how, &w, &v, x, &best);
            if (dt_onnx_wants(c, 1)) dt_host_put_i64(&c->out[1], k * w.n_out + o, k * w.n_in + best);
            dt_next(w.nd, w.out, place);
        }
        if (dt_onnx_wants(c, 0)) dt_host_store_f64(&c->out[0], k * w.n_out, w.n_out, row);
    }
    return DT_OK;
}

/* ---- over whole planes ---- */

static dt_status infer_global(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_rank(c, 0, 2, DT_MAX_DIM));
    int64_t dim[DT_MAX_DIM] = {x->dim[0], x->dim[1]};
    for (int32_t d = 2; d < x->ndim; d++) dim[d] = 1;
    return dt_onnx_out(c, 0, x->type, x->ndim, dim);
}

static dt_status run_global(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const int64_t n = dt_host_span(x, 2, x->ndim);
    const bool max = strcmp(c->node->op, "GlobalMaxPool") == 0,
               average = strcmp(c->node->op, "GlobalAveragePool") == 0;
    const double p = (double)dt_onnx_attr_int(c->node, "p", 2);
    if (p < 1) return dt_onnx_refuse(c, "p must be at least 1");
    double *at;
    DT_TRY(dt_onnx_load(c, 0, &at));
    for (int64_t k = 0; k < x->dim[0] * x->dim[1]; k++, at += n) {
        double sum = max ? -HUGE_VAL : 0;
        for (int64_t i = 0; i < n; i++)
            if (max)
                sum = at[i] > sum || isnan(at[i]) ? at[i] : sum;
            else
                sum += average ? at[i] : pow(fabs(at[i]), p);
        dt_host_put_f64(&c->out[0], k, max ? sum : average ? sum / (double)n : pow(sum, 1 / p));
    }
    return DT_OK;
}

/* ---- MaxUnpool: x, indices, output shape ---- */

static dt_status read_unpool(const dt_onnx_call *c, int64_t *dim, int64_t *out) {
    const dt_host_tensor *x = c->in[0];
    const int32_t nd = x->ndim - 2;
    int64_t kernel[DT_MAX_SPACE], stride[DT_MAX_SPACE], pad[2 * DT_MAX_SPACE];
    DT_TRY(dt_onnx_rank(c, 0, 3, DT_MAX_DIM));
    DT_TRY(dt_onnx_shape_of(c, 1, x->ndim, x->dim));
    DT_TRY(dt_onnx_space(c, "kernel_shape", nd, 1, 1, kernel));
    DT_TRY(dt_onnx_space(c, "strides", nd, 1, 1, stride));
    DT_TRY(dt_onnx_space(c, "pads", 2 * nd, 0, 0, pad));
    for (int32_t d = 0; d < x->ndim; d++) {
        dim[d] = x->dim[d];
        if (d < 2) continue;
        if (__builtin_mul_overflow(x->dim[d] - 1, stride[d - 2], &dim[d]) || dim[d] > (int64_t)1 << 60)
            return dt_onnx_refuse(c, "its result is too large");
        dim[d] += kernel[d - 2] - pad[d - 2] - pad[nd + d - 2];
        if (dim[d] < 0) return dt_onnx_refuse(c, "dimension %d would be %lld", d, (long long)dim[d]);
    }
    memcpy(out, dim, sizeof *out * DT_MAX_DIM);
    int32_t n;
    DT_TRY(dt_onnx_numbers(c, "output_shape", 2, DT_MAX_DIM, out, &n));
    if (n < 0) return DT_OK;
    if (n != x->ndim) return dt_onnx_refuse(c, "its output shape has %d numbers", n);
    for (int32_t d = 0; d < n; d++)
        if (out[d] < dim[d])
            return dt_onnx_refuse(c, "dimension %d must be at least %lld, not %lld", d, (long long)dim[d],
                                  (long long)out[d]);
    return DT_OK;
}

static dt_status infer_unpool(const dt_onnx_call *c) {
    int64_t dim[DT_MAX_DIM], out[DT_MAX_DIM];
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_IS(DT_TENSOR_I64)));
    DT_TRY(read_unpool(c, dim, out));
    return dt_onnx_out(c, 0, c->in[0]->type, c->in[0]->ndim, out);
}

static dt_status run_unpool(const dt_onnx_call *c) {
    int64_t dim[DT_MAX_DIM], out[DT_MAX_DIM], at[DT_MAX_DIM];
    DT_TRY(read_unpool(c, dim, out));
    const int32_t nd = c->in[0]->ndim;
    int64_t n = 1;
    for (int32_t d = 0; d < nd; d++)
        if (__builtin_mul_overflow(n, dim[d], &n)) return dt_onnx_refuse(c, "its result is too large");
    double *x;
    DT_TRY(dt_onnx_load(c, 0, &x));
    for (int64_t i = 0; i < dt_host_n_elem(c->in[0]); i++) {
        const int64_t to = dt_host_i64(c->in[1], i);
        if (to < 0 || to >= n)
            return dt_onnx_refuse(c, "index %lld of %lld elements", (long long)to, (long long)n);
        dt_place(nd, dim, to, at);
        int64_t o = 0;
        for (int32_t d = 0; d < nd; d++) o = o * out[d] + at[d];
        dt_host_put_f64(&c->out[0], o, x[i]);
    }
    return DT_OK;
}

#define ROW(name, since, in_min, in_max, out_max, infer, run)                                                \
    { "", name, since, in_min, in_max, out_max, infer, run, false }

const dt_onnx_op dt_onnx_ops_pool[] = {
    ROW("MaxPool", 1, 1, 1, 1, infer_pool, run_pool),
    ROW("MaxPool", 8, 1, 1, 2, infer_pool, run_pool),
    ROW("AveragePool", 1, 1, 1, 1, infer_pool, run_pool),
    ROW("LpPool", 2, 1, 1, 1, infer_pool, run_pool),
    ROW("GlobalAveragePool", 1, 1, 1, 1, infer_global, run_global),
    ROW("GlobalMaxPool", 1, 1, 1, 1, infer_global, run_global),
    ROW("GlobalLpPool", 2, 1, 1, 1, infer_global, run_global),
    ROW("MaxUnpool", 9, 2, 3, 1, infer_unpool, run_unpool),
    ROW("MaxRoiPool", 1, 2, 2, 1, dt_infer_max_roi_pool, dt_run_max_roi_pool),
    {.name = NULL},
};
