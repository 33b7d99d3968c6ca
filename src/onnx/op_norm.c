/* Rows of normalisations: over a batch, a sample, a group or a row. */
#include <math.h>
#include <string.h>

#include "numbers.h"

static double epsilon(const dt_onnx_call *c) {
    return (double)dt_onnx_attr_float(c->node, "epsilon", 1e-5f);
}

/* Mean, and variance about it, of n numbers `step` apart. */
static void moments(const double *x, int64_t n, int64_t step, double *mean, double *variance) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i * step];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) square += (x[i * step] - *mean) * (x[i * step] - *mean);
    *variance = square / (double)n;
}

static dt_status store(const dt_onnx_call *c, const double *y) {
    if (dt_onnx_wants(c, 0)) dt_host_store_f64(&c->out[0], 0, dt_host_n_elem(&c->out[0]), y);
    return DT_OK;
}

/* ---- BatchNormalization: x, scale, bias, mean, variance ---- */

/* Numbers that share a channel are [before, channels, after]; before version 9 each place may be a channel. */
static dt_status batch_shape(const dt_onnx_call *c, int64_t *before, int64_t *channels, int64_t *after) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_rank(c, 0, 1, DT_MAX_DIM));
    const bool each = c->version < 9 && dt_onnx_attr_int(c->node, "spatial", 1) == 0;
    *before = x->ndim > 1 ? x->dim[0] : 1;
    *channels = x->ndim > 1 ? dt_host_span(x, 1, each ? x->ndim : 2) : x->dim[0];
    *after = each ? 1 : dt_host_span(x, 2, x->ndim);
    return DT_OK;
}

static bool trains(const dt_onnx_call *c) {
    return c->version >= 14 && dt_onnx_attr_int(c->node, "training_mode", 0) != 0;
}

static dt_status infer_batch(const dt_onnx_call *c) {
    int64_t before, channels, after;
    for (int32_t i = 0; i < 5; i++) DT_TRY(dt_onnx_expect(c, i, DT_HOST_FLOATS));
    DT_TRY(batch_shape(c, &before, &channels, &after));
    for (int32_t i = 1; i < 5; i++)
        if (dt_host_n_elem(c->in[i]) != channels)
            return dt_onnx_refuse(c, "input %d has %lld numbers for %lld channels", i,
                                  (long long)dt_host_n_elem(c->in[i]), (long long)channels);
    DT_TRY(dt_onnx_out_like(c, 0, 0));
    for (int32_t i = 1; i < c->n_out; i++) {
        if (dt_onnx_wants(c, i) && !trains(c)) return dt_onnx_refuse(c, "output %d is of training", i);
        DT_TRY(dt_onnx_out_like(c, i, i < 3 ? i + 2 : 3));
    }
    return DT_OK;
}

static dt_status run_batch(const dt_onnx_call *c) {
    int64_t before, channels, after;
    double *x, *scale, *bias, *mean, *variance;
    DT_TRY(batch_shape(c, &before, &channels, &after));
    DT_TRY(dt_onnx_load(c, 0, &x));
    DT_TRY(dt_onnx_load(c, 1, &scale));
    DT_TRY(dt_onnx_load(c, 2, &bias));
    DT_TRY(dt_onnx_load(c, 3, &mean));
    DT_TRY(dt_onnx_load(c, 4, &variance));
    const double keep = (double)dt_onnx_attr_float(c->node, "momentum", 0.9f);
    for (int64_t k = 0; k < channels; k++) {
        double m = mean[k], v = variance[k];
        if (trains(c)) {
            double sum = 0, square = 0;
            const double n = (double)(before * after);
            for (int64_t i = 0; i < before * after; i++)
                sum += x[(i / after * channels + k) * after + i % after];
            m = sum / n;
            for (int64_t i = 0; i < before * after; i++) {
                const double d = x[(i / after * channels + k) * after + i % after] - m;
                square += d * d;
            }
            v = square / n;
            if (dt_onnx_wants(c, 1)) dt_host_put_f64(&c->out[1], k, mean[k] * keep + m * (1 - keep));
            if (dt_onnx_wants(c, 2)) dt_host_put_f64(&c->out[2], k, variance[k] * keep + v * (1 - keep));
        }
        const double by = scale[k] / sqrt(v + epsilon(c)), add = bias[k] - m * by;
        for (int64_t b = 0; b < before; b++) {
            double *at = x + (b * channels + k) * after;
            for (int64_t i = 0; i < after; i++) at[i] = at[i] * by + add;
        }
    }
    return store(c, x);
}

/* ---- InstanceNormalization, GroupNormalization: x [N, C, ...], scale, bias ---- */

static dt_status read_groups(const dt_onnx_call *c, int64_t *groups) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_rank(c, 0, 2, DT_MAX_DIM));
    const bool by_group = strcmp(c->node->op, "GroupNormalization") == 0;
    *groups = by_group ? dt_onnx_attr_int(c->node, "num_groups", 0) : x->dim[1];
    if (by_group && (*groups < 1 || x->dim[1] % *groups != 0))
        return dt_onnx_refuse(c, "%lld channels in %lld groups", (long long)x->dim[1], (long long)*groups);
    /* Of version 18 each group has a scale, from 21 on each channel. */
    const int64_t n = by_group && c->version < 21 ? *groups : x->dim[1];
    DT_TRY(dt_onnx_shape_of(c, 1, 1, &n));
    return dt_onnx_shape_of(c, 2, 1, &n);
}

static dt_status infer_groups(const dt_onnx_call *c) {
    int64_t groups;
    DT_TRY(dt_onnx_expect_all(c, 0, 2, DT_HOST_FLOATS));
    DT_TRY(read_groups(c, &groups));
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_groups(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t groups;
    double *at, *scale, *bias;
    DT_TRY(read_groups(c, &groups));
    DT_TRY(dt_onnx_load(c, 0, &at));
    DT_TRY(dt_onnx_load(c, 1, &scale));
    DT_TRY(dt_onnx_load(c, 2, &bias));
    double *const y = at;
    const int64_t after = dt_host_span(x, 2, x->ndim), each = x->dim[1] / groups;
    const bool by_group = c->in[1]->dim[0] == groups;
    for (int64_t g = 0; g < x->dim[0] * groups; g++, at += each * after) {
        double mean, variance;
        moments(at, each * after, 1, &mean, &variance);
        const double by = 1 / sqrt(variance + epsilon(c));
        for (int64_t i = 0; i < each * after; i++) {
            const int64_t k = by_group ? g % groups : g % groups * each + i / after;
            at[i] = (at[i] - mean) * by * scale[k] + bias[k];
        }
    }
    return store(c, y);
}

/* ---- LayerNormalization, RMSNormalization: x, scale, bias that broadcast to it ---- */

static dt_status infer_rows(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool mean = strcmp(c->node->op, "LayerNormalization") == 0;
    int32_t axis;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_axis_attr(c, -1, x->ndim, &axis));
    for (int32_t i = 1; i < (mean ? 3 : 2); i++) {
        const dt_host_tensor *s = dt_onnx_in(c, i);
        DT_TRY(dt_onnx_expect(c, i, DT_HOST_FLOATS));
        DT_TRY(dt_onnx_rank(c, i, 0, x->ndim));
        for (int32_t d = 0; s && d < s->ndim; d++)
            if (s->dim[d] != 1 && s->dim[d] != x->dim[x->ndim - s->ndim + d])
                return dt_onnx_refuse(c, "dimension %d of input %d does not broadcast", d, i);
    }
    int64_t dim[DT_MAX_DIM];
    for (int32_t d = 0; d < x->ndim; d++) dim[d] = d < axis ? x->dim[d] : 1;
    DT_TRY(dt_onnx_out_like(c, 0, 0));
    for (int32_t i = 1; i < 3; i++)
        DT_TRY(dt_onnx_out(c, i, x->type == DT_TENSOR_F64 ? DT_TENSOR_F64 : DT_TENSOR_F32, x->ndim, dim));
    return DT_OK;
}

/* Element of s that broadcasts to element i of x. */
static int64_t broadcast_at(const dt_host_tensor *s, const dt_host_tensor *x, int64_t i) {
    int64_t at = 0, step = 1;
    for (int32_t d = s->ndim - 1, k = x->ndim - 1; d >= 0; d--, k--) {
        if (s->dim[d] != 1) at += i % x->dim[k] * step;
        step *= s->dim[d];
        i /= x->dim[k];
    }
    return at;
}

static dt_status run_rows(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *s = c->in[1], *b = dt_onnx_in(c, 2);
    const bool center = strcmp(c->node->op, "LayerNormalization") == 0;
    int32_t axis;
    double *at, *scale, *bias;
    DT_TRY(dt_onnx_axis_attr(c, -1, x->ndim, &axis));
    DT_TRY(dt_onnx_load(c, 0, &at));
    DT_TRY(dt_onnx_load(c, 1, &scale));
    DT_TRY(dt_onnx_load(c, 2, &bias));
    const int64_t n = dt_host_span(x, axis, x->ndim), rows = dt_host_span(x, 0, axis);
    double *const y = at;
    for (int64_t r = 0; r < rows; r++, at += n) {
        double mean = 0, variance = 0;
        if (center)
            moments(at, n, 1, &mean, &variance);
        else
            for (int64_t i = 0; i < n; i++) variance += at[i] * at[i] / (double)n;
        const double by = 1 / sqrt(variance + epsilon(c));
        const bool plain = dt_host_n_elem(s) == n && (!b || dt_host_n_elem(b) == n);
        for (int64_t i = 0; i < n; i++) {
            at[i] = (at[i] - mean) * by * scale[plain ? i : broadcast_at(s, x, r * n + i)];
            if (b) at[i] += bias[plain ? i : broadcast_at(b, x, r * n + i)];
        }
        if (dt_onnx_wants(c, 1)) dt_host_put_f64(&c->out[1], r, mean);
        if (dt_onnx_wants(c, 2)) dt_host_put_f64(&c->out[2], r, by);
    }
    return store(c, y);
}

/* ---- LpNormalization ---- */

static dt_status infer_float(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_lp(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const int64_t p = dt_onnx_attr_int(c->node, "p", 2);
    int32_t axis;
    double *y;
    DT_TRY(dt_onnx_axis_attr(c, -1, x->ndim, &axis));
    if (p != 1 && p != 2) return dt_onnx_refuse(c, "p must be 1 or 2, not %lld", (long long)p);
    DT_TRY(dt_onnx_load(c, 0, &y));
    const int64_t n = x->dim[axis], after = dt_host_span(x, axis + 1, x->ndim);
    for (int64_t i = 0; i < dt_host_span(x, 0, axis) * after; i++) {
        double *at = y + i / after * n * after + i % after, sum = 0;
        for (int64_t k = 0; k < n; k++) sum += p == 1 ? fabs(at[k * after]) : at[k * after] * at[k * after];
        if (p == 2) sum = sqrt(sum);
        for (int64_t k = 0; k < n && sum != 0; k++) at[k * after] /= sum;
    }
    return store(c, y);
}

/* ---- MeanVarianceNormalization: over the dimensions of the attribute axes ---- */

static dt_status run_mean_variance(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    static const int64_t usual[] = {0, 2, 3};
    const int64_t *axes = usual, given = dt_onnx_attr_ints(c->node, "axes", &axes);
    bool over[DT_MAX_DIM] = {false};
    for (int64_t i = 0; i < (given ? given : 3); i++) {
        int32_t d;
        DT_TRY(dt_onnx_axis(c, axes[i], x->ndim, &d));
        over[d] = true;
    }
    int64_t groups = 1, step[DT_MAX_DIM];
    for (int32_t d = x->ndim - 1; d >= 0; d--) {
        step[d] = over[d] ? 0 : groups;
        if (!over[d]) groups *= x->dim[d];
    }
    double *y, *mean, *square;
    const int64_t n = dt_host_n_elem(x);
    DT_TRY(dt_onnx_load(c, 0, &y));
    DT_TRY(dt_onnx_doubles(c, groups, &mean));
    DT_TRY(dt_onnx_doubles(c, groups, &square));
    const double part = (double)groups / (double)n;
    for (int pass = 0; pass < 3; pass++) /* sums, squares about the mean, results */
        for (int64_t i = 0; i < n; i++) {
            int64_t g = 0;
            for (int64_t d = x->ndim - 1, rest = i; d >= 0; d--) {
                g += rest % x->dim[d] * step[d];
                rest /= x->dim[d];
            }
            const double away = y[i] - mean[g];
            if (pass == 0) mean[g] += y[i] * part;
            if (pass == 1) square[g] += away * away * part;
            if (pass == 2) y[i] = away / (sqrt(square[g]) + 1e-9);
        }
    return store(c, y);
}

/* ---- LRN: over neighbouring channels ---- */

static dt_status run_lrn(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const int64_t size = dt_onnx_attr_int(c->node, "size", 0);
    const double alpha = (double)dt_onnx_attr_float(c->node, "alpha", 1e-4f),
                 beta = (double)dt_onnx_attr_float(c->node, "beta", 0.75f),
                 bias = (double)dt_onnx_attr_float(c->node, "bias", 1);
    DT_TRY(dt_onnx_rank(c, 0, 2, DT_MAX_DIM));
    if (size < 1 || size > 1 << 30) return dt_onnx_refuse(c, "a size of %lld", (long long)size);
    const int64_t channels = x->dim[1], after = dt_host_span(x, 2, x->ndim), n = dt_host_n_elem(x);
    double *in, *out;
    DT_TRY(dt_onnx_load(c, 0, &in));
    DT_TRY(dt_onnx_doubles(c, n, &out));
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = i / after % channels, lo = dt_max_i64(0, k - (size - 1) / 2),
                      hi = dt_min_i64(channels - 1, k + size / 2);
        double sum = 0;
        for (int64_t j = lo; j <= hi; j++) sum += in[i + (j - k) * after] * in[i + (j - k) * after];
        out[i] = in[i] / pow(bias + alpha / (double)size * sum, beta);
    }
    return store(c, out);
}

#define ROW(name, since, in_min, in_max, out_max, infer, run)                                                \
    { "", name, since, in_min, in_max, out_max, infer, run, false }

const dt_onnx_op dt_onnx_ops_norm[] = {
    ROW("BatchNormalization", 7, 5, 5, 5, infer_batch, run_batch),
    ROW("BatchNormalization", 14, 5, 5, 3, infer_batch, run_batch),
    ROW("InstanceNormalization", 6, 3, 3, 1, infer_groups, run_groups),
    ROW("GroupNormalization", 18, 3, 3, 1, infer_groups, run_groups),
    ROW("LayerNormalization", 17, 2, 3, 3, infer_rows, run_rows),
    ROW("RMSNormalization", 23, 2, 2, 1, infer_rows, run_rows),
    ROW("SimplifiedLayerNormalization", 1, 2, 2, 1, infer_rows,
        run_rows), /* ONNX Runtime's, without a domain */
    ROW("LpNormalization", 1, 1, 1, 1, infer_float, run_lp),
    ROW("MeanVarianceNormalization", 9, 1, 1, 1, infer_float, run_mean_variance),
    ROW("LRN", 1, 1, 1, 1, infer_float, run_lrn),
    {.name = NULL},
};
