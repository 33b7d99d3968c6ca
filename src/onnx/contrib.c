#include "contrib.h"

#include <math.h>
#include <string.h>

#include "conv.h"
#include "gemm.h"
#include "numbers.h"

/* Scale and zero point: one float, and one number of the type of the input that it is of, or none. */
static dt_status expect_scale(const dt_onnx_call *c, int32_t scale, int32_t zero, int32_t of) {
    DT_TRY(dt_onnx_expect(c, scale, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_one(c, scale));
    DT_TRY(dt_onnx_expect(c, zero, DT_HOST_BYTES));
    DT_TRY(dt_onnx_one(c, zero));
    return of < 0 ? DT_OK : dt_onnx_same_type(c, of, zero);
}

static double quantized(double x, double scale, double zero) {
    return (double)nearbyintf((float)(x / scale)) + zero;
}

/* ---- QLinearAdd, QLinearMul: a, its scale and zero point, b with its, the result's ---- */

dt_status dt_infer_quantized_pair(const dt_onnx_call *c) {
    int32_t ndim = 0;
    int64_t dim[DT_MAX_DIM];
    for (int32_t i = 0; i < 6; i += 3) {
        DT_TRY(dt_onnx_expect(c, i, DT_HOST_BYTES));
        DT_TRY(expect_scale(c, i + 1, i + 2, i));
    }
    DT_TRY(dt_onnx_same_type(c, 0, 3));
    DT_TRY(expect_scale(c, 6, 7, 0));
    DT_TRY(dt_onnx_broadcast(c, c->in[0], c->in[3], &ndim, dim));
    return dt_onnx_out(c, 0, c->in[0]->type, ndim, dim);
}

/* Element of t that broadcasts to place i of a shape. */
static int64_t broadcast_at(const dt_host_tensor *t, const dt_host_tensor *to, int64_t i) {
    int64_t at = 0, step = 1;
    for (int32_t d = t->ndim - 1, k = to->ndim - 1; d >= 0; d--, k--) {
        if (t->dim[d] != 1) at += i % to->dim[k] * step;
        step *= t->dim[d];
        i /= to->dim[k];
    }
    return at;
}

dt_status dt_run_quantized_pair(const dt_onnx_call *c) {
    const bool add = strcmp(c->node->op, "QLinearAdd") == 0;
    double *a, *b;
    DT_TRY(dt_onnx_load(c, 0, &a));
    DT_TRY(dt_onnx_load(c, 3, &b));
    for (int64_t i = 0; i < dt_host_n_elem(&c->out[0]); i++) {
        const double x = (a[broadcast_at(c->in[0], &c->out[0], i)] - dt_onnx_scalar(c, 2, 0)) *
                         dt_onnx_scalar(c, 1, 1),
                     y = (b[broadcast_at(c->in[3], &c->out[0], i)] - dt_onnx_scalar(c, 5, 0)) *
                         dt_onnx_scalar(c, 4, 1);
        dt_host_put_f64(&c->out[0], i,
                        quantized(add ? x + y : x * y, dt_onnx_scalar(c, 6, 1), dt_onnx_scalar(c, 7, 0)));
    }
    return DT_OK;
}

/* ---- QLinearGlobalAveragePool: x, its scale and zero point, the result's ---- */

dt_status dt_infer_quantized_average(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool last = dt_onnx_attr_int(c->node, "channels_last", 0) != 0;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_BYTES));
    DT_TRY(expect_scale(c, 1, 2, 0));
    DT_TRY(expect_scale(c, 3, 4, 0));
    DT_TRY(dt_onnx_rank(c, 0, 3, DT_MAX_DIM));
    int64_t dim[DT_MAX_DIM];
    for (int32_t d = 0; d < x->ndim; d++) dim[d] = d == 0 || d == (last ? x->ndim - 1 : 1) ? x->dim[d] : 1;
    return dt_onnx_out(c, 0, x->type, x->ndim, dim);
}

dt_status dt_run_quantized_average(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool last = dt_onnx_attr_int(c->node, "channels_last", 0) != 0;
    const int64_t channels = x->dim[last ? x->ndim - 1 : 1],
                  n = last ? dt_host_span(x, 1, x->ndim - 1) : dt_host_span(x, 2, x->ndim);
    double *in;
    DT_TRY(dt_onnx_load(c, 0, &in));
    for (int64_t i = 0; i < x->dim[0] * channels; i++) {
        double sum = 0;
        for (int64_t k = 0; k < n; k++)
            sum += last ? in[(i / channels * n + k) * channels + i % channels] : in[i * n + k];
        const double mean = (sum / (double)n - dt_onnx_scalar(c, 2, 0)) * dt_onnx_scalar(c, 1, 1);
        dt_host_put_f64(&c->out[0], i, quantized(mean, dt_onnx_scalar(c, 3, 1), dt_onnx_scalar(c, 4, 0)));
    }
    return DT_OK;
}

/* ---- products of quantised matrices ---- */

/* Numbers less their zero points, one or one for each column of the last dimension. */
static dt_status load_less(const dt_onnx_call *c, int32_t i, int32_t zero, double **out) {
    double *z;
    DT_TRY(dt_onnx_load(c, i, out));
    DT_TRY(dt_onnx_load(c, zero, &z));
    const int64_t n = z ? dt_host_n_elem(c->in[zero]) : 1;
    for (int64_t k = 0; z && k < dt_host_n_elem(c->in[i]); k++) (*out)[k] -= z[k % n];
    return DT_OK;
}

/* x [rows, columns] as [columns, rows]. */
static dt_status turned(const dt_onnx_call *c, const double *x, int64_t rows, int64_t columns, double **out) {
    DT_TRY(dt_onnx_doubles(c, rows * columns, out));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++) (*out)[k * rows + i] = x[i * columns + k];
    return DT_OK;
}

/* One number, or one for each of n columns. */
static dt_status one_or_each(const dt_onnx_call *c, int32_t i, int64_t n) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    const int64_t is = t ? dt_host_n_elem(t) : 1;
    if (is == 1 || is == n) return DT_OK;
    return dt_onnx_refuse(c, "input %d must have one number or %lld, and has %lld", i, (long long)n,
                          (long long)is);
}

/* QGemm: a, scale, zero point, b, scale, zero point, c in i32, the result's scale and zero point. */
typedef struct gemm_shape {
    int64_t m, n, k;
    bool ta, tb;
} gemm_shape;

static dt_status read_gemm(const dt_onnx_call *c, gemm_shape *g) {
    DT_TRY(dt_onnx_rank(c, 0, 2, 2));
    DT_TRY(dt_onnx_rank(c, 3, 2, 2));
    g->ta = dt_onnx_attr_int(c->node, "transA", 0) != 0, g->tb = dt_onnx_attr_int(c->node, "transB", 0) != 0;
    g->m = c->in[0]->dim[g->ta], g->k = c->in[0]->dim[!g->ta], g->n = c->in[3]->dim[!g->tb];
    if (c->in[3]->dim[g->tb] != g->k)
        return dt_onnx_refuse(c, "a product over %lld and %lld elements", (long long)g->k,
                              (long long)c->in[3]->dim[g->tb]);
    return DT_OK;
}

dt_status dt_infer_quantized_gemm(const dt_onnx_call *c) {
    gemm_shape g;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_BYTES));
    DT_TRY(dt_onnx_expect(c, 3, DT_HOST_BYTES));
    DT_TRY(expect_scale(c, 1, 2, 0));
    DT_TRY(dt_onnx_expect(c, 4, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_same_type(c, 3, 5));
    DT_TRY(dt_onnx_expect(c, 6, DT_HOST_IS(DT_TENSOR_I32)));
    DT_TRY(expect_scale(c, 7, 8, -1));
    DT_TRY(read_gemm(c, &g));
    DT_TRY(one_or_each(c, 4, g.n));
    DT_TRY(one_or_each(c, 5, g.n));
    const dt_host_tensor *add = dt_onnx_in(c, 6), *zero = dt_onnx_in(c, 8);
    if (add && dt_host_n_elem(add) != 1 && dt_host_n_elem(add) != g.n && dt_host_n_elem(add) != g.m * g.n)
        return dt_onnx_refuse(c, "input 6 has %lld numbers", (long long)dt_host_n_elem(add));
    const dt_tensor_type type = !dt_onnx_in(c, 7) ? DT_TENSOR_F32 : zero ? zero->type : c->in[0]->type;
    return dt_onnx_out(c, 0, type, 2, (const int64_t[]){g.m, g.n});
}

dt_status dt_run_quantized_gemm(const dt_onnx_call *c) {
    gemm_shape g;
    double *a, *b, *add, *scale, *zero, *y;
    DT_TRY(read_gemm(c, &g));
    DT_TRY(load_less(c, 0, 2, &a));
    DT_TRY(dt_onnx_load(c, 3, &b));
    DT_TRY(dt_onnx_load(c, 4, &scale));
    DT_TRY(dt_onnx_load(c, 5, &zero));
    DT_TRY(dt_onnx_load(c, 6, &add));
    DT_TRY(dt_onnx_doubles(c, g.m * g.n, &y));
    if (g.ta) DT_TRY(turned(c, a, g.k, g.m, &a));
    if (!g.tb) DT_TRY(turned(c, b, g.k, g.n, &b));
    const int64_t n_zero = zero ? dt_host_n_elem(c->in[5]) : 1, n_scale = dt_host_n_elem(c->in[4]),
                  n_add = add ? dt_host_n_elem(c->in[6]) : 1;
    for (int64_t i = 0; zero && i < g.n * g.k; i++) b[i] -= zero[i / g.k % n_zero];
    DT_TRY(dt_gemm_transposed(g.m, g.n, g.k, a, b, y));
    const double alpha = (double)dt_onnx_attr_float(c->node, "alpha", 1) * dt_onnx_scalar(c, 1, 1);
    for (int64_t i = 0; i < g.m * g.n; i++) {
        y[i] = (y[i] + (add ? add[i % n_add] : 0)) * alpha * scale[i % g.n % n_scale];
        if (dt_onnx_in(c, 7)) y[i] = quantized(y[i], dt_onnx_scalar(c, 7, 1), dt_onnx_scalar(c, 8, 0));
    }
    dt_host_store_f64(&c->out[0], 0, g.m * g.n, y);
    return DT_OK;
}

/* MatMulIntegerToFloat: a, b, their scales, their zero points, what is added. DynamicQuantizeMatMul: a in f32, which is
 * quantised to u8 as a whole; b, its scale and zero point, what is added. */
typedef struct to_float {
    int32_t b_scale, b_zero, bias;
    bool dynamic;
    int64_t m, n, k;
} to_float;

static dt_status read_to_float(const dt_onnx_call *c, to_float *f) {
    f->dynamic = strcmp(c->node->op, "DynamicQuantizeMatMul") == 0;
    f->b_scale = f->dynamic ? 2 : 3, f->b_zero = f->dynamic ? 3 : 5, f->bias = f->dynamic ? 4 : 6;
    const dt_host_tensor *a = c->in[0];
    DT_TRY(dt_onnx_rank(c, 0, 1, DT_MAX_DIM));
    DT_TRY(dt_onnx_rank(c, 1, 2, 2));
    f->k = a->dim[a->ndim - 1], f->n = c->in[1]->dim[1], f->m = dt_host_span(a, 0, a->ndim - 1);
    return dt_onnx_shape_of(c, 1, 2, (const int64_t[]){f->k, f->n});
}

dt_status dt_infer_matmul_to_float(const dt_onnx_call *c) {
    to_float f;
    DT_TRY(read_to_float(c, &f));
    DT_TRY(dt_onnx_expect(c, 0, f.dynamic ? DT_HOST_IS(DT_TENSOR_F32) : DT_HOST_BYTES));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_BYTES));
    if (!f.dynamic) DT_TRY(expect_scale(c, 2, 4, 0));
    DT_TRY(dt_onnx_expect(c, f.b_scale, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_same_type(c, 1, f.b_zero));
    DT_TRY(dt_onnx_expect(c, f.bias, DT_HOST_FLOATS));
    DT_TRY(one_or_each(c, f.b_scale, f.n));
    DT_TRY(one_or_each(c, f.b_zero, f.n));
    DT_TRY(dt_onnx_shape_of(c, f.bias, 1, &f.n));
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, c->in[0]->dim, sizeof dim);
    dim[c->in[0]->ndim - 1] = f.n;
    return dt_onnx_out(c, 0, DT_TENSOR_F32, c->in[0]->ndim, dim);
}

dt_status dt_run_matmul_to_float(const dt_onnx_call *c) {
    to_float f;
    double *a, *b, *scale, *bias, *y, by = 1;
    DT_TRY(read_to_float(c, &f));
    if (f.dynamic) {
        DT_TRY(dt_onnx_load(c, 0, &a));
        double low = 0, high = 0;
        for (int64_t i = 0; i < f.m * f.k; i++) low = fmin(low, a[i]), high = fmax(high, a[i]);
        by = (double)(float)((high - low) / 255);
        if (by == 0) by = 1;
        const double zero = nearbyint(fmin(fmax(-low / by, 0), 255));
        for (int64_t i = 0; i < f.m * f.k; i++) a[i] = fmin(fmax(quantized(a[i], by, zero), 0), 255) - zero;
    } else {
        DT_TRY(load_less(c, 0, 4, &a));
        by = dt_onnx_scalar(c, 2, 1);
    }
    DT_TRY(load_less(c, 1, f.b_zero, &b));
    DT_TRY(turned(c, b, f.k, f.n, &b));
    DT_TRY(dt_onnx_load(c, f.b_scale, &scale));
    DT_TRY(dt_onnx_load(c, f.bias, &bias));
    DT_TRY(dt_onnx_doubles(c, f.m * f.n, &y));
    DT_TRY(dt_gemm_transposed(f.m, f.n, f.k, a, b, y));
    const int64_t n_scale = dt_host_n_elem(c->in[f.b_scale]);
    for (int64_t i = 0; i < f.m * f.n; i++)
        y[i] = y[i] * by * scale[i % f.n % n_scale] + (bias ? bias[i % f.n] : 0);
    dt_host_store_f64(&c->out[0], 0, f.m * f.n, y);
    return DT_OK;
}

/* ---- MatMulNBits: a [..., K], b [N, blocks, bytes of a block], scales and zero points for each block ---- */

typedef struct bits {
    int64_t m, n, k, bits, block, blocks;
} bits;

static dt_status read_bits(const dt_onnx_call *c, bits *b) {
    const dt_host_tensor *a = c->in[0], *zero = dt_onnx_in(c, 3);
    DT_TRY(dt_onnx_rank(c, 0, 1, DT_MAX_DIM));
    b->k = dt_onnx_attr_int(c->node, "K", 0), b->n = dt_onnx_attr_int(c->node, "N", 0);
    b->bits = dt_onnx_attr_int(c->node, "bits", 4), b->block = dt_onnx_attr_int(c->node, "block_size", 0);
    b->m = dt_host_span(a, 0, a->ndim - 1);
    if (b->bits != 2 && b->bits != 4 && b->bits != 8)
        return dt_onnx_refuse(c, "numbers of %lld bits", (long long)b->bits);
    if (b->block < 8 || b->block > 1 << 20 || b->block % 8 != 0 || b->n < 1 || b->n > 1 << 28 || b->k < 1 ||
        b->k > 1 << 28 || a->dim[a->ndim - 1] != b->k)
        return dt_onnx_refuse(c, "%lld x %lld numbers in blocks of %lld", (long long)b->n, (long long)b->k,
                              (long long)b->block);
    b->blocks = (b->k + b->block - 1) / b->block;
    if (dt_host_n_elem(c->in[1]) != b->n * b->blocks * b->block * b->bits / 8)
        return dt_onnx_refuse(c, "input 1 has %lld bytes", (long long)dt_host_n_elem(c->in[1]));
    if (dt_host_n_elem(c->in[2]) != b->n * b->blocks)
        return dt_onnx_refuse(c, "input 2 has %lld scales, not %lld", (long long)dt_host_n_elem(c->in[2]),
                              (long long)(b->n * b->blocks));
    const int64_t packed = b->n * ((b->blocks * b->bits + 7) / 8);
    if (zero && dt_host_n_elem(zero) != (zero->type == DT_TENSOR_U8 ? packed : b->n * b->blocks))
        return dt_onnx_refuse(c, "input 3 has %lld zero points", (long long)dt_host_n_elem(zero));
    if (dt_onnx_in(c, 4)) return dt_onnx_refuse(c, "g_idx is not supported");
    return dt_onnx_shape_of(c, 5, 1, &b->n);
}

dt_status dt_infer_matmul_bits(const dt_onnx_call *c) {
    bits b;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_IS(DT_TENSOR_U8)));
    DT_TRY(dt_onnx_expect(c, 2, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_expect(c, 3, DT_HOST_FLOATS | DT_HOST_IS(DT_TENSOR_U8)));
    DT_TRY(dt_onnx_expect(c, 5, DT_HOST_FLOATS));
    DT_TRY(read_bits(c, &b));
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, c->in[0]->dim, sizeof dim);
    dim[c->in[0]->ndim - 1] = b.n;
    return dt_onnx_out(c, 0, c->in[0]->type, c->in[0]->ndim, dim);
}

/* Number i of a row of packed ones, the first in the lowest bits. */
static double unpacked(const uint8_t *row, int64_t i, int64_t width) {
    return row[i * width / 8] >> i * width % 8 & ((1 << width) - 1);
}

dt_status dt_run_matmul_bits(const dt_onnx_call *c) {
    bits b;
    double *a, *scale, *bias, *zero = NULL, *w, *y;
    DT_TRY(read_bits(c, &b));
    const dt_host_tensor *zeros = dt_onnx_in(c, 3);
    const bool packed = zeros && zeros->type == DT_TENSOR_U8;
    DT_TRY(dt_onnx_load(c, 0, &a));
    DT_TRY(dt_onnx_load(c, 2, &scale));
    DT_TRY(dt_onnx_load(c, 5, &bias));
    if (!packed) DT_TRY(dt_onnx_load(c, 3, &zero));
    DT_TRY(dt_onnx_doubles(c, b.n * b.k, &w));
    DT_TRY(dt_onnx_doubles(c, b.m * b.n, &y));
    const int64_t row_bytes = b.blocks * b.block * b.bits / 8, zero_bytes = (b.blocks * b.bits + 7) / 8;
    for (int64_t n = 0; n < b.n; n++)
        for (int64_t k = 0; k < b.k; k++) {
            const int64_t block = k / b.block;
            const double z = packed ? unpacked((const uint8_t *)zeros->data + n * zero_bytes, block, b.bits)
                             : zero ? zero[n * b.blocks + block]
                                    : 1 << (b.bits - 1);
            w[n * b.k + k] = (unpacked((const uint8_t *)c->in[1]->data + n * row_bytes, k, b.bits) - z) *
                             scale[n * b.blocks + block];
        }
    DT_TRY(dt_gemm_transposed(b.m, b.n, b.k, a, w, y));
    for (int64_t i = 0; bias && i < b.m * b.n; i++) y[i] += bias[i % b.n];
    dt_host_store_f64(&c->out[0], 0, b.m * b.n, y);
    return DT_OK;
}

/* ---- FusedConv: x, w, bias, what is added; then an activation ---- */

typedef struct curve {
    const char *name;
    double a, b; /* unless given */
} curve;

static const curve curves[] = {{"", 0, 0},
                               {"Relu", 0, 0},
                               {"Tanh", 0, 0},
                               {"Sigmoid", 0, 0},
                               {"LeakyRelu", 0.01, 0},
                               {"HardSigmoid", 0.2, 0.5},
                               {"Clip", -HUGE_VAL, HUGE_VAL}};
enum { PLAIN, RELU, TANH, SIGMOID, LEAKY, HARD_SIGMOID, CLIP, CURVES };

static dt_status read_curve(const dt_onnx_call *c, int *kind, double *a, double *b) {
    const char *name = dt_onnx_attr_text(c->node, "activation", "");
    const dt_onnx_attr *given = dt_onnx_attr_find(c->node, "activation_params");
    const int64_t n = given && given->kind == DT_ONNX_FLOATS ? given->n : 0;
    for (*kind = 0; *kind < CURVES && strcmp(curves[*kind].name, name) != 0;) ++*kind;
    if (*kind == CURVES) return dt_onnx_refuse(c, "activation \"%s\" is unknown", name);
    *a = n > 0 ? (double)given->floats[0] : curves[*kind].a;
    *b = n > 1 ? (double)given->floats[1] : curves[*kind].b;
    return DT_OK;
}

static double bend(int kind, double x, double a, double b) {
    switch (kind) {
    case RELU:
        return x > 0 ? x : 0;
    case TANH:
        return tanh(x);
    case SIGMOID:
        return 1 / (1 + exp(-x));
    case LEAKY:
        return x >= 0 ? x : a * x;
    case HARD_SIGMOID:
        return fmin(fmax(a * x + b, 0), 1);
    case CLIP:
        return fmin(fmax(x, a), b);
    default:
        return x;
    }
}

dt_status dt_infer_conv_fused(const dt_onnx_call *c) {
    int kind;
    double a, b;
    DT_TRY(read_curve(c, &kind, &a, &b));
    DT_TRY(dt_infer_conv(c));
    DT_TRY(dt_onnx_same_type(c, 0, 3));
    return dt_onnx_shape_of(c, 3, c->out[0].ndim, c->out[0].dim);
}

dt_status dt_run_conv_fused(const dt_onnx_call *c) {
    int kind = PLAIN;
    double a = 0, b = 0, *y, *add;
    const int64_t n = dt_host_n_elem(&c->out[0]);
    DT_TRY(read_curve(c, &kind, &a, &b));
    DT_TRY(dt_run_conv(c));
    DT_TRY(dt_onnx_load(c, 3, &add));
    DT_TRY(dt_onnx_doubles(c, n, &y));
    dt_host_load_f64(&c->out[0], 0, 1, n, y);
    for (int64_t i = 0; i < n; i++) y[i] = bend(kind, y[i] + (add ? add[i] : 0), a, b);
    dt_host_store_f64(&c->out[0], 0, n, y);
    return DT_OK;
}

/* ---- SkipLayerNormalization: x, skip, scale, then (unless simplified) an offset, and a bias ---- */

typedef struct skip_norm {
    bool simple;
    int64_t n, rows;
    int32_t bias;
} skip_norm;

static dt_status read_skip(const dt_onnx_call *c, skip_norm *s) {
    const dt_host_tensor *x = c->in[0];
    s->simple = strcmp(c->node->op, "SkipSimplifiedLayerNormalization") == 0;
    s->bias = s->simple ? 3 : 4;
    DT_TRY(dt_onnx_expect_all(c, 0, 4, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_rank(c, 0, 2, 3));
    s->n = x->dim[x->ndim - 1], s->rows = dt_host_span(x, 0, x->ndim - 1);
    for (int32_t i = 2; i < 5; i++) DT_TRY(dt_onnx_shape_of(c, i, 1, &s->n));
    const int64_t skip = dt_host_n_elem(c->in[1]);
    if (c->in[1]->ndim < 1 || c->in[1]->dim[c->in[1]->ndim - 1] != s->n ||
        (skip != s->n * s->rows && (skip == 0 || s->n * s->rows % skip != 0)))
        return dt_onnx_refuse(c, "input 1 does not broadcast to input 0");
    return DT_OK;
}

dt_status dt_infer_skip_norm(const dt_onnx_call *c) {
    skip_norm s;
    DT_TRY(read_skip(c, &s));
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, c->in[0]->dim, sizeof dim);
    dim[c->in[0]->ndim - 1] = 1;
    DT_TRY(dt_onnx_out_like(c, 0, 0));
    for (int32_t i = 1; i < 3; i++) DT_TRY(dt_onnx_out(c, i, DT_TENSOR_F32, c->in[0]->ndim, dim));
    return dt_onnx_out_like(c, 3, 0);
}

dt_status dt_run_skip_norm(const dt_onnx_call *c) {
    skip_norm s;
    double *x, *skip, *scale, *offset = NULL, *bias;
    DT_TRY(read_skip(c, &s));
    DT_TRY(dt_onnx_load(c, 0, &x));
    DT_TRY(dt_onnx_load(c, 1, &skip));
    DT_TRY(dt_onnx_load(c, 2, &scale));
    DT_TRY(dt_onnx_load(c, s.bias, &bias));
    if (!s.simple) DT_TRY(dt_onnx_load(c, 3, &offset));
    const double epsilon = (double)dt_onnx_attr_float(c->node, "epsilon", 1e-12f);
    const int64_t n_skip = dt_host_n_elem(c->in[1]);
    for (int64_t r = 0; r < s.rows; r++) {
        double *at = x + r * s.n, mean = 0, square = 0;
        for (int64_t i = 0; i < s.n; i++) {
            at[i] += skip[(r * s.n + i) % n_skip] + (bias ? bias[i] : 0);
            mean += at[i];
        }
        mean = s.simple ? 0 : mean / (double)s.n;
        if (dt_onnx_wants(c, 3)) dt_host_store_f64(&c->out[3], r * s.n, s.n, at);
        for (int64_t i = 0; i < s.n; i++) square += (at[i] - mean) * (at[i] - mean);
        const double by = 1 / sqrt(square / (double)s.n + epsilon);
        for (int64_t i = 0; i < s.n; i++) at[i] = (at[i] - mean) * by * scale[i] + (offset ? offset[i] : 0);
        if (dt_onnx_wants(c, 0)) dt_host_store_f64(&c->out[0], r * s.n, s.n, at);
        if (dt_onnx_wants(c, 1)) dt_host_put_f64(&c->out[1], r, mean);
        if (dt_onnx_wants(c, 2)) dt_host_put_f64(&c->out[2], r, by);
    }
    return DT_OK;
}

/* ---- Gelu, BiasGelu, FastGelu (by tanh), QuickGelu (by a sigmoid): x, and what is added to each row ---- */

dt_status dt_infer_gelu(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_expect_all(c, 0, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_rank(c, 0, 1, DT_MAX_DIM));
    DT_TRY(dt_onnx_shape_of(c, 1, 1, &x->dim[x->ndim - 1]));
    return dt_onnx_out_like(c, 0, 0);
}

dt_status dt_run_gelu(const dt_onnx_call *c) {
    const bool fast = strcmp(c->node->op, "FastGelu") == 0, quick = strcmp(c->node->op, "QuickGelu") == 0;
    const double alpha = (double)dt_onnx_attr_float(c->node, "alpha", 1.702f);
    const int64_t n = dt_host_n_elem(c->in[0]), row = c->in[0]->dim[c->in[0]->ndim - 1];
    double *x, *bias;
    DT_TRY(dt_onnx_load(c, 0, &x));
    DT_TRY(dt_onnx_load(c, 1, &bias));
    for (int64_t i = 0; i < n; i++) {
        const double v = x[i] + (bias ? bias[i % row] : 0);
        x[i] = quick  ? v / (1 + exp(-alpha * v))
               : fast ? 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)))
                      : 0.5 * v * (1 + erf(v / sqrt(2)));
    }
    dt_host_store_f64(&c->out[0], 0, n, x);
    return DT_OK;
}
