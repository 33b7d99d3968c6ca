/* What ONNX has for each op. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "onnx_export_private.h"

#define OP(op, name, in, attr) dt_onnx_draft_op(&x->d, op, name, in, attr)
#define ONE(a)                 DT_ONNX_IN(a)
#define TWO(a, b)              DT_ONNX_IN(a, b)
#define NONE                   DT_ONNX_PLAIN

static const char *number(dt_onnx_exporter *x, float value) {
    return dt_onnx_draft_f32(&x->d, value);
}

static const char *ints(dt_onnx_exporter *x, int32_t n, const int64_t *value) {
    return dt_onnx_draft_i64s(&x->d, n, value);
}

/* ---- products ---- */

static void put_window(const dt_window_attr *w, int64_t kernel[2], int64_t stride[2], int64_t pad[4],
                       int64_t dilation[2]) {
    for (int i = 0; i < 2; i++) {
        kernel[i] = w->kernel[i], stride[i] = w->stride[i];
        pad[i] = w->pad_begin[i], pad[2 + i] = w->pad_end[i];
        dilation[i] = w->dilation[i] > 0 ? w->dilation[i] : 1;
    }
}

static void put_conv(dt_onnx_exporter *x, const dt_node *n) {
    int64_t kernel[2], stride[2], pad[4], dilation[2];
    put_window(&n->attr.window, kernel, stride, pad, dilation);
    const char *in = dt_onnx_see(x, n->in[DT_CONV_IN_X], DT_ONNX_CHANNELS),
               *w = dt_onnx_see(x, n->in[DT_CONV_IN_W], DT_ONNX_CHANNELS),
               *bias = dt_onnx_see_in(x, n, DT_CONV_IN_BIAS, DT_ONNX_SAME);
    const dt_onnx_attr attr[] = {dt_onnx_ints("kernel_shape", 2, kernel), dt_onnx_ints("strides", 2, stride),
                                 dt_onnx_ints("pads", 4, pad), dt_onnx_ints("dilations", 2, dilation),
                                 dt_onnx_int("group", n->attr.window.groups)};
    dt_onnx_set(x, n->out[0], DT_ONNX_CHANNELS,
                dt_onnx_draft_op(&x->d, "Conv", dt_onnx_result(x, n), (const char *const[]){in, w, bias},
                                 *bias ? 3 : 2, attr, 5));
}

/* A transposed convolution. */
static void put_conv_dgrad(dt_onnx_exporter *x, const dt_node *n) {
    int64_t kernel[2], stride[2], pad[4], dilation[2], more[2];
    const dt_value *dy = dt_onnx_value(x, n->in[DT_DGRAD_IN_DY]);
    put_window(&n->attr.window, kernel, stride, pad, dilation);
    for (int i = 0; i < 2; i++)
        more[i] = n->attr.window.size[i] - ((dy->dim[1 + i] - 1) * stride[i] - pad[i] - pad[2 + i] +
                                            dilation[i] * (kernel[i] - 1) + 1);
    const char *in = dt_onnx_see(x, n->in[DT_DGRAD_IN_DY], DT_ONNX_CHANNELS),
               *w = dt_onnx_see(x, n->in[DT_DGRAD_IN_W], DT_ONNX_CHANNELS);
    const bool added = dt_node_has(n, DT_DGRAD_IN_DX2);
    const char *y = OP(
        "ConvTranspose", added ? NULL : dt_onnx_result(x, n), TWO(in, w),
        DT_ONNX_ATTR(dt_onnx_ints("kernel_shape", 2, kernel), dt_onnx_ints("strides", 2, stride),
                     dt_onnx_ints("pads", 4, pad), dt_onnx_ints("dilations", 2, dilation),
                     dt_onnx_ints("output_padding", 2, more), dt_onnx_int("group", n->attr.window.groups)));
    if (added)
        y = OP("Add", dt_onnx_result(x, n), TWO(y, dt_onnx_see(x, n->in[DT_DGRAD_IN_DX2], DT_ONNX_CHANNELS)),
               NONE);
    dt_onnx_set(x, n->out[0], DT_ONNX_CHANNELS, y);
}

static void put_dense(dt_onnx_exporter *x, const dt_node *n) {
    const dt_vid in = n->in[DT_DENSE_IN_X], w = n->in[DT_DENSE_IN_W];
    const char *bias = dt_onnx_see_in(x, n, DT_DENSE_IN_BIAS, DT_ONNX_SAME);
    const bool turned = x->view[w].name[DT_ONNX_TURNED] && !x->view[w].name[DT_ONNX_SAME];
    const char *y;
    if (dt_onnx_value(x, in)->ndim == 2) {
        const bool rows = x->view[w].name[DT_ONNX_ROWS] && x->view[in].name[DT_ONNX_ROWS];
        const dt_onnx_layout layout = rows ? DT_ONNX_ROWS : DT_ONNX_SAME;
        const char *a = dt_onnx_see(x, in, layout), *b = dt_onnx_see(x, w, turned ? DT_ONNX_TURNED : layout);
        y = dt_onnx_draft_op(&x->d, "Gemm", dt_onnx_result(x, n), (const char *const[]){a, b, bias},
                             *bias ? 3 : 2, DT_ONNX_ATTR(dt_onnx_int("transB", !turned)));
    } else {
        y = OP("MatMul", *bias ? NULL : dt_onnx_result(x, n),
               TWO(dt_onnx_see(x, in, DT_ONNX_SAME), dt_onnx_see(x, w, DT_ONNX_TURNED)), NONE);
        if (*bias) y = OP("Add", dt_onnx_result(x, n), TWO(y, bias), NONE);
    }
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME, y);
}

/* The last two dimensions of an operand, swapped. */
static const char *swapped(dt_onnx_exporter *x, dt_vid v, bool swap) {
    const char *from = dt_onnx_see(x, v, DT_ONNX_SAME);
    const int32_t ndim = dt_onnx_value(x, v)->ndim;
    int64_t perm[DT_MAX_DIM];
    if (!swap) return from;
    for (int32_t i = 0; i < ndim; i++) perm[i] = i < ndim - 2 ? i : 2 * ndim - 3 - i;
    return OP("Transpose", NULL, ONE(from), DT_ONNX_ATTR(dt_onnx_ints("perm", ndim, perm)));
}

static void put_matmul(dt_onnx_exporter *x, const dt_node *n) {
    const char *a = swapped(x, n->in[DT_MATMUL_IN_A], n->attr.matmul.turn_a),
               *b = swapped(x, n->in[DT_MATMUL_IN_B], n->attr.matmul.turn_b);
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME, OP("MatMul", dt_onnx_result(x, n), TWO(a, b), NONE));
}

/* ---- norms ---- */

/* (x - mean) / sqrt(var + eps) * gamma + beta along the last dimension. */
static const char *normalised(dt_onnx_exporter *x, const dt_node *n, const char *in) {
    const char *mean = dt_onnx_see(x, n->in[DT_BN_IN_RMEAN], DT_ONNX_SAME),
               *var = dt_onnx_see(x, n->in[DT_BN_IN_RVAR], DT_ONNX_SAME);
    const char *spread =
        OP("Sqrt", NULL, ONE(OP("Add", NULL, TWO(var, number(x, n->attr.norm.eps)), NONE)), NONE);
    const char *unit = OP("Div", NULL, TWO(OP("Sub", NULL, TWO(in, mean), NONE), spread), NONE);
    const char *scaled =
        OP("Mul", NULL, TWO(unit, dt_onnx_see(x, n->in[DT_BN_IN_GAMMA], DT_ONNX_SAME)), NONE);
    return OP("Add", NULL, TWO(scaled, dt_onnx_see(x, n->in[DT_BN_IN_BETA], DT_ONNX_SAME)), NONE);
}

static void put_batchnorm(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[DT_BN_IN_X]);
    const bool rows = in->ndim == 2 && x->view[n->in[DT_BN_IN_X]].name[DT_ONNX_ROWS] &&
                      x->view[n->in[DT_BN_IN_GAMMA]].name[DT_ONNX_ROWS];
    const dt_onnx_layout layout = in->ndim == 4 ? DT_ONNX_CHANNELS
                                  : rows        ? DT_ONNX_ROWS
                                                : DT_ONNX_SAME,
                         of = rows ? DT_ONNX_ROWS : DT_ONNX_SAME;
    const bool res = dt_node_has(n, DT_BN_IN_RES), relu = n->attr.norm.relu;
    const char *from = dt_onnx_see(x, n->in[DT_BN_IN_X], layout), *name = dt_onnx_result(x, n), *y;
    if (in->ndim == 2 || in->ndim == 4)
        y = OP("BatchNormalization", res || relu ? NULL : name,
               DT_ONNX_IN(from, dt_onnx_see(x, n->in[DT_BN_IN_GAMMA], of),
                          dt_onnx_see(x, n->in[DT_BN_IN_BETA], of), dt_onnx_see(x, n->in[DT_BN_IN_RMEAN], of),
                          dt_onnx_see(x, n->in[DT_BN_IN_RVAR], of)),
               DT_ONNX_ATTR(dt_onnx_float("epsilon", n->attr.norm.eps)));
    else
        y = normalised(x, n, from);
    if (res) y = OP("Add", relu ? NULL : name, TWO(y, dt_onnx_see(x, n->in[DT_BN_IN_RES], layout)), NONE);
    if (relu) y = OP("Relu", name, ONE(y), NONE);
    x->view[n->out[0]].pixels = x->view[n->in[DT_BN_IN_X]].pixels;
    dt_onnx_set(x, n->out[0], layout, y);
}

static const char *filled(dt_onnx_exporter *x, int64_t n, float value) {
    float *all = dt_onnx_alloc(x->d.m, n * (int64_t)sizeof *all);
    for (int64_t i = 0; all && i < n; i++) all[i] = value;
    if (!all) {
        dt_onnx_draft_fail(&x->d, "no memory for a constant");
        return "";
    }
    return dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_F32, 1, &n, all, true);
}

static void put_layernorm(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[DT_LN_IN_X]);
    const bool gamma = dt_node_has(n, DT_LN_IN_GAMMA), beta = dt_node_has(n, DT_LN_IN_BETA);
    const bool rows = gamma && x->view[n->in[DT_LN_IN_GAMMA]].name[DT_ONNX_ROWS] &&
                      x->view[n->in[DT_LN_IN_X]].name[DT_ONNX_ROWS];
    const dt_onnx_layout layout = rows ? DT_ONNX_ROWS : DT_ONNX_SAME;
    const char *from = dt_onnx_see(x, n->in[DT_LN_IN_X], layout),
               *scale = gamma ? dt_onnx_see(x, n->in[DT_LN_IN_GAMMA], layout)
                              : filled(x, in->dim[in->ndim - 1], 1),
               *shift = beta ? dt_onnx_see(x, n->in[DT_LN_IN_BETA], layout) : "";
    x->view[n->out[0]].pixels = x->view[n->in[DT_LN_IN_X]].pixels;
    dt_onnx_set(
        x, n->out[0], layout,
        dt_onnx_draft_op(&x->d, "LayerNormalization", dt_onnx_result(x, n),
                         (const char *const[]){from, scale, shift}, beta ? 3 : 2,
                         DT_ONNX_ATTR(dt_onnx_int("axis", -1), dt_onnx_float("epsilon", n->attr.norm.eps))));
}

static void put_rmsnorm(dt_onnx_exporter *x, const dt_node *n) {
    const int64_t last = -1;
    const char *from = dt_onnx_see(x, n->in[DT_LN_IN_X], DT_ONNX_SAME), *length;
    const bool gamma = dt_node_has(n, DT_LN_IN_GAMMA);
    if (n->attr.norm.length) {
        length = OP("ReduceL2", NULL, ONE(from), DT_ONNX_ATTR(dt_onnx_ints("axes", 1, &last)));
        length = OP("Max", NULL, TWO(length, number(x, n->attr.norm.eps)), NONE);
    } else {
        length = OP("ReduceMean", NULL, ONE(OP("Mul", NULL, TWO(from, from), NONE)),
                    DT_ONNX_ATTR(dt_onnx_ints("axes", 1, &last)));
        length = OP("Sqrt", NULL, ONE(OP("Add", NULL, TWO(length, number(x, n->attr.norm.eps)), NONE)), NONE);
    }
    const char *y = OP("Div", gamma ? NULL : dt_onnx_result(x, n), TWO(from, length), NONE);
    if (gamma)
        y = OP("Mul", dt_onnx_result(x, n), TWO(y, dt_onnx_see(x, n->in[DT_LN_IN_GAMMA], DT_ONNX_SAME)),
               NONE);
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME, y);
}

/* As instance norm of groups: opset 17 has no group norm. */
static void put_groupnorm(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[DT_LN_IN_X]);
    const int64_t groups = n->attr.norm.groups, c = in->dim[in->ndim - 1];
    const int32_t ndim = in->ndim;
    const bool image = ndim == 4;
    int64_t to[DT_MAX_DIM], back[DT_MAX_DIM], wide[DT_MAX_DIM];
    for (int32_t i = 0; i < ndim; i++) {
        to[i] = i == 0 ? 0 : i == 1 ? ndim - 1 : i - 1;
        back[i] = i == 0 ? 0 : i == ndim - 1 ? 1 : i + 1;
        wide[i] = i == 0 ? c : 1;
    }
    const char *from = image ? dt_onnx_see(x, n->in[DT_LN_IN_X], DT_ONNX_CHANNELS)
                       : ndim == 2
                           ? dt_onnx_see(x, n->in[DT_LN_IN_X], DT_ONNX_SAME)
                           : OP("Transpose", NULL, ONE(dt_onnx_see(x, n->in[DT_LN_IN_X], DT_ONNX_SAME)),
                                DT_ONNX_ATTR(dt_onnx_ints("perm", ndim, to)));
    const char *apart = OP("Reshape", NULL, TWO(from, ints(x, 3, (int64_t[]){0, groups, -1})), NONE);
    const char *unit =
        OP("InstanceNormalization", NULL, DT_ONNX_IN(apart, filled(x, groups, 1), filled(x, groups, 0)),
           DT_ONNX_ATTR(dt_onnx_float("epsilon", n->attr.norm.eps)));
    const char *y = OP("Reshape", NULL, TWO(unit, OP("Shape", NULL, ONE(from), NONE)), NONE);
    const char *shape = ints(x, ndim - 1, wide);
    for (int32_t k = DT_LN_IN_GAMMA; k <= DT_LN_IN_BETA; k++) {
        if (!dt_node_has(n, k)) continue;
        const char *by = OP("Reshape", NULL, TWO(dt_onnx_see(x, n->in[k], DT_ONNX_SAME), shape), NONE);
        y = OP(k == DT_LN_IN_GAMMA ? "Mul" : "Add", NULL, TWO(y, by), NONE);
    }
    if (!image && ndim > 2) y = OP("Transpose", NULL, ONE(y), DT_ONNX_ATTR(dt_onnx_ints("perm", ndim, back)));
    dt_onnx_set(x, n->out[0], image ? DT_ONNX_CHANNELS : DT_ONNX_SAME,
                OP("Identity", dt_onnx_result(x, n), ONE(y), NONE));
}

/* ---- element by element ---- */

typedef struct unary_row {
    const char *op;
    const char *a, *b; /* attributes that are the function's scalars */
} unary_row;

/* Those that ONNX has by themselves. */
static const unary_row unary_table[DT_UNARY_COUNT] = {
    [DT_UNARY_RELU] = {"Relu"},         [DT_UNARY_LEAKY_RELU] = {"LeakyRelu", "alpha"},
    [DT_UNARY_ELU] = {"Elu", "alpha"},  [DT_UNARY_SELU] = {"Selu"},
    [DT_UNARY_SIGMOID] = {"Sigmoid"},   [DT_UNARY_TANH] = {"Tanh"},
    [DT_UNARY_SOFTPLUS] = {"Softplus"}, [DT_UNARY_HARDSWISH] = {"HardSwish"},
    [DT_UNARY_EXP] = {"Exp"},           [DT_UNARY_LOG] = {"Log"},
    [DT_UNARY_SQRT] = {"Sqrt"},         [DT_UNARY_NEG] = {"Neg"},
    [DT_UNARY_ABS] = {"Abs"},           [DT_UNARY_RECIPROCAL] = {"Reciprocal"},
};

/* x / 2 (1 + erf(x / sqrt 2)) */
static const char *gelu(dt_onnx_exporter *x, const char *name, const char *in) {
    const char *erf = OP("Erf", NULL, ONE(OP("Div", NULL, TWO(in, number(x, (float)M_SQRT2)), NONE)), NONE);
    const char *twice = OP("Mul", NULL, TWO(in, OP("Add", NULL, TWO(erf, number(x, 1)), NONE)), NONE);
    return OP("Mul", name, TWO(twice, number(x, 0.5f)), NONE);
}

/* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
static const char *gelu_tanh(dt_onnx_exporter *x, const char *name, const char *in) {
    const char *cube = OP("Mul", NULL, TWO(OP("Mul", NULL, TWO(in, in), NONE), in), NONE);
    const char *sum = OP("Add", NULL, TWO(in, OP("Mul", NULL, TWO(cube, number(x, 0.044715f)), NONE)), NONE);
    const char *tanh = OP("Tanh", NULL, ONE(OP("Mul", NULL, TWO(sum, number(x, 0.797884561f)), NONE)), NONE);
    const char *twice = OP("Mul", NULL, TWO(in, OP("Add", NULL, TWO(tanh, number(x, 1)), NONE)), NONE);
    return OP("Mul", name, TWO(twice, number(x, 0.5f)), NONE);
}

static const char *unary(dt_onnx_exporter *x, const dt_unary_attr *t, const char *name, const char *in) {
    const unary_row *row = &unary_table[t->fn];
    if (row->op)
        return dt_onnx_draft_op(&x->d, row->op, name, ONE(in),
                                (const dt_onnx_attr[]){dt_onnx_float(row->a, t->a)}, 1);
    switch (t->fn) {
    case DT_UNARY_RELU6:
        return OP("Clip", name, DT_ONNX_IN(in, number(x, 0), number(x, 6)), NONE);
    case DT_UNARY_CLAMP:
        return OP("Clip", name, DT_ONNX_IN(in, number(x, t->a), number(x, t->b)), NONE);
    case DT_UNARY_SILU:
        return OP("Mul", name, TWO(in, OP("Sigmoid", NULL, ONE(in), NONE)), NONE);
    case DT_UNARY_MISH:
        return OP("Mul", name, TWO(in, OP("Tanh", NULL, ONE(OP("Softplus", NULL, ONE(in), NONE)), NONE)),
                  NONE);
    case DT_UNARY_HARDSIGMOID:
        return OP("HardSigmoid", name, ONE(in), DT_ONNX_ATTR(dt_onnx_float("alpha", 1.0f / 6)));
    case DT_UNARY_GELU:
        return gelu(x, name, in);
    case DT_UNARY_GELU_TANH:
        return gelu_tanh(x, name, in);
    case DT_UNARY_SQUARE:
        return OP("Mul", name, TWO(in, in), NONE);
    case DT_UNARY_SCALE:
        return OP("Mul", name, TWO(in, number(x, t->a)), NONE);
    default:
        dt_onnx_draft_fail(&x->d, "%s (%s): has no form in ONNX", name, dt_unary_table[t->fn].name);
        return "";
    }
}

static void put_unary(dt_onnx_exporter *x, const dt_node *n) {
    const dt_onnx_layout layout = dt_onnx_prefer(x, n);
    x->view[n->out[0]].pixels = x->view[n->in[0]].pixels;
    dt_onnx_set(x, n->out[0], layout,
                unary(x, &n->attr.unary, dt_onnx_result(x, n), dt_onnx_see(x, n->in[0], layout)));
}

/* An operand as it is broadcast to [N,C,H,W]. */
static const char *beside_channels(dt_onnx_exporter *x, dt_vid v) {
    const dt_value *value = dt_onnx_value(x, v);
    int64_t wide[4] = {1, 1, 1, 1};
    if (value->ndim == 4) return dt_onnx_see(x, v, DT_ONNX_CHANNELS);
    if (value->ndim == 1) return dt_onnx_see(x, v, DT_ONNX_COLUMN);
    const char *same = dt_onnx_see(x, v, DT_ONNX_SAME);
    if (value->ndim == 0) return same;
    for (int32_t d = 0; d < value->ndim; d++) wide[4 - value->ndim + d] = value->dim[d];
    same = dt_onnx_reshape(x, NULL, same, 4, wide, false);
    return OP("Transpose", NULL, ONE(same), DT_ONNX_ATTR(dt_onnx_ints("perm", 4, (int64_t[]){0, 3, 1, 2})));
}

static void put_binary(dt_onnx_exporter *x, const dt_node *n) {
    static const char *const op[DT_BINARY_COUNT] = {
        [DT_BINARY_ADD] = "Add", [DT_BINARY_SUB] = "Sub", [DT_BINARY_MUL] = "Mul",
        [DT_BINARY_DIV] = "Div", [DT_BINARY_MIN] = "Min", [DT_BINARY_MAX] = "Max"};
    const dt_value *y = dt_onnx_value(x, n->out[0]);
    const char *in[2];
    bool channels = false, rows = y->ndim == 2;
    for (int i = 0; i < 2; i++) {
        const dt_onnx_view *w = &x->view[n->in[i]];
        const dt_value *v = dt_onnx_value(x, n->in[i]);
        channels |= v->ndim == 4 && w->first == DT_ONNX_CHANNELS;
        rows &= w->name[DT_ONNX_ROWS] != NULL && v->ndim == 2;
    }
    const dt_onnx_layout layout = channels ? DT_ONNX_CHANNELS : rows ? DT_ONNX_ROWS : DT_ONNX_SAME;
    for (int i = 0; i < 2; i++)
        in[i] = channels ? beside_channels(x, n->in[i]) : dt_onnx_see(x, n->in[i], layout);
    x->view[n->out[0]].pixels = x->view[n->in[0]].pixels;
    dt_onnx_set(x, n->out[0], layout,
                OP(op[n->attr.binary.fn], dt_onnx_result(x, n), TWO(in[0], in[1]), NONE));
}

static void put_softmax(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[0]);
    const dt_onnx_layout layout = dt_onnx_prefer(x, n) == DT_ONNX_CHANNELS ? DT_ONNX_CHANNELS : DT_ONNX_SAME;
    const int64_t axis = dt_onnx_axis_in(in, layout, in->ndim - 1);
    dt_onnx_set(x, n->out[0], layout,
                OP(n->op == DT_OP_SOFTMAX ? "Softmax" : "LogSoftmax", dt_onnx_result(x, n),
                   ONE(dt_onnx_see(x, n->in[0], layout)), DT_ONNX_ATTR(dt_onnx_int("axis", axis))));
}

static void put_cast(dt_onnx_exporter *x, const dt_node *n) {
    const dt_dtype to = n->attr.cast.dtype;
    const dt_onnx_layout layout = dt_onnx_prefer(x, n);
    const int64_t type = to == DT_DTYPE_I32 ? 7 : to == DT_DTYPE_U8 ? 2 : 1; /* INT64, UINT8, FLOAT */
    x->view[n->out[0]].pixels = x->view[n->in[0]].pixels;
    dt_onnx_set(x, n->out[0], layout,
                OP("Cast", dt_onnx_result(x, n), ONE(dt_onnx_see(x, n->in[0], layout)),
                   DT_ONNX_ATTR(dt_onnx_int("to", type))));
}

/* Nothing is dropped in evaluation. */
static void put_dropout(dt_onnx_exporter *x, const dt_node *n) {
    x->view[n->out[0]] = x->view[n->in[0]];
}

/* ---- images ---- */

static void put_pool(dt_onnx_exporter *x, const dt_node *n) {
    int64_t kernel[2], stride[2], pad[4], dilation[2];
    const bool mean = n->op == DT_OP_AVGPOOL;
    put_window(&n->attr.window, kernel, stride, pad, dilation);
    dt_onnx_set(
        x, n->out[0], DT_ONNX_CHANNELS,
        OP(mean ? "AveragePool" : "MaxPool", dt_onnx_result(x, n),
           ONE(dt_onnx_see(x, n->in[0], DT_ONNX_CHANNELS)),
           DT_ONNX_ATTR(dt_onnx_ints("kernel_shape", 2, kernel), dt_onnx_ints("strides", 2, stride),
                        dt_onnx_ints("pads", 4, pad), dt_onnx_int(mean ? "count_include_pad" : NULL, 1))));
}

static void put_global_avgpool(dt_onnx_exporter *x, const dt_node *n) {
    const char *y;
    if (dt_onnx_prefer(x, n) == DT_ONNX_CHANNELS)
        y = OP("Flatten", dt_onnx_result(x, n),
               ONE(OP("GlobalAveragePool", NULL, ONE(dt_onnx_see(x, n->in[0], DT_ONNX_CHANNELS)), NONE)),
               NONE);
    else
        y = OP("ReduceMean", dt_onnx_result(x, n), ONE(dt_onnx_see(x, n->in[0], DT_ONNX_SAME)),
               DT_ONNX_ATTR(dt_onnx_ints("axes", 2, (int64_t[]){1, 2}), dt_onnx_int("keepdims", 0)));
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME, y);
}

/* [out, in], or [in, out]: what each place of a result is the mean of. */
static const char *mean_matrix(dt_onnx_exporter *x, int64_t in, int64_t out, bool turned) {
    float *m = dt_onnx_alloc(x->d.m, in * out * (int64_t)sizeof *m);
    for (int64_t o = 0; m && o < out; o++) {
        const int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
        for (int64_t i = begin; i < end; i++)
            m[turned ? i * out + o : o * in + i] = 1.0f / (float)(end - begin);
    }
    return dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_F32, 2,
                                  turned ? (int64_t[]){in, out} : (int64_t[]){out, in}, m, true);
}

/* Pools of parts: one window where they are all of one size, else products with the means. */
static const char *parts(dt_onnx_exporter *x, const dt_node *n, const char *in, const char *name) {
    const dt_value *v = dt_onnx_value(x, n->in[0]);
    const int64_t h = v->dim[1], w = v->dim[2], p = n->attr.resample.size[0], q = n->attr.resample.size[1];
    const int64_t kernel[2] = {h / p, w / q};
    const bool mean = n->op == DT_OP_RESAMPLE;
    if (h % p == 0 && w % q == 0)
        return OP(mean ? "AveragePool" : "MaxPool", name, ONE(in),
                  DT_ONNX_ATTR(dt_onnx_ints("kernel_shape", 2, kernel), dt_onnx_ints("strides", 2, kernel)));
    if (!mean) {
        dt_onnx_draft_fail(
            &x->d, "%s (adaptive_maxpool): its parts are not of one size, for which ONNX has nothing", name);
        return "";
    }
    const char *rows = OP("MatMul", NULL, TWO(mean_matrix(x, h, p, false), in), NONE);
    return OP("MatMul", name, TWO(rows, mean_matrix(x, w, q, true)), NONE);
}

static const char *resized(dt_onnx_exporter *x, const dt_node *n, const char *in) {
    static const char *const place[] = {[DT_RESAMPLE_NEAREST] = "asymmetric",
                                        [DT_RESAMPLE_BILINEAR] = "half_pixel",
                                        [DT_RESAMPLE_ALIGNED] = "align_corners",
                                        [DT_RESAMPLE_BICUBIC] = "half_pixel"};
    const dt_resample_attr *t = &n->attr.resample;
    const bool nearest = t->mode == DT_RESAMPLE_NEAREST, cubic = t->mode == DT_RESAMPLE_BICUBIC;
    const char *front = OP("Shape", NULL, ONE(in), DT_ONNX_ATTR(dt_onnx_int("end", 2)));
    const char *size = OP("Concat", NULL, TWO(front, ints(x, 2, (int64_t[]){t->size[0], t->size[1]})),
                          DT_ONNX_ATTR(dt_onnx_int("axis", 0)));
    return OP("Resize", dt_onnx_result(x, n), DT_ONNX_IN(in, "", "", size),
              DT_ONNX_ATTR(dt_onnx_word("mode", nearest ? "nearest"
                                                : cubic ? "cubic"
                                                        : "linear"),
                           dt_onnx_word("coordinate_transformation_mode", place[t->mode]),
                           dt_onnx_word(nearest ? "nearest_mode" : NULL, "floor")));
}

static void put_resample(dt_onnx_exporter *x, const dt_node *n) {
    const char *in = dt_onnx_see(x, n->in[0], DT_ONNX_CHANNELS);
    const bool part = n->op == DT_OP_ADAPTIVE_MAXPOOL || n->attr.resample.mode == DT_RESAMPLE_MEAN;
    dt_onnx_set(x, n->out[0], DT_ONNX_CHANNELS,
                part ? parts(x, n, in, dt_onnx_result(x, n)) : resized(x, n, in));
}

/* ---- shapes ---- */

/* An image in a row, and back, stays in the order that ONNX has it in. */
static bool put_flat(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[0]), *out = dt_onnx_value(x, n->out[0]);
    const dt_onnx_view *w = &x->view[n->in[0]];
    dt_onnx_view *to = &x->view[n->out[0]];
    if (in->ndim == 4 && out->ndim == 2 && w->first == DT_ONNX_CHANNELS && in->dim[0] == out->dim[0]) {
        const char *y = OP("Flatten", dt_onnx_result(x, n), ONE(w->name[DT_ONNX_CHANNELS]), NONE);
        to->pixels = in->dim[1] * in->dim[2];
        dt_onnx_set(x, n->out[0], to->pixels == 1 ? DT_ONNX_SAME : DT_ONNX_ROWS, y);
        return true;
    }
    if (in->ndim == 2 && out->ndim == 4 && w->first == DT_ONNX_ROWS && in->dim[0] == out->dim[0] &&
        w->pixels == out->dim[1] * out->dim[2]) {
        const int64_t dim[4] = {out->dim[0], out->dim[3], out->dim[1], out->dim[2]};
        dt_onnx_set(x, n->out[0], DT_ONNX_CHANNELS,
                    dt_onnx_reshape(x, dt_onnx_result(x, n), w->name[DT_ONNX_ROWS], 4, dim, true));
        return true;
    }
    /* One channel, or one pixel, lies the same in both. */
    if (out->ndim == 4 && (out->dim[3] == 1 || out->dim[1] * out->dim[2] == 1) && in->dim[0] == out->dim[0] &&
        in->ndim < 4 && w->name[DT_ONNX_SAME]) {
        const int64_t dim[4] = {out->dim[0], out->dim[3], out->dim[1], out->dim[2]};
        dt_onnx_set(x, n->out[0], DT_ONNX_CHANNELS,
                    dt_onnx_reshape(x, dt_onnx_result(x, n), w->name[DT_ONNX_SAME], 4, dim, true));
        return true;
    }
    return false;
}

static void put_reshape(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[0]), *out = dt_onnx_value(x, n->out[0]);
    if (put_flat(x, n)) return;
    const bool same =
        in->ndim > 0 && out->ndim > 0 && in->dim[0] == out->dim[0] && in->dim[0] % DT_ONNX_EXPORT_ROWS == 0;
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME,
                dt_onnx_reshape(x, dt_onnx_result(x, n), dt_onnx_see(x, n->in[0], DT_ONNX_SAME), out->ndim,
                                out->dim, same));
}

/* The layout in which an op along an axis works. */
static dt_onnx_layout along(const dt_onnx_exporter *x, const dt_node *n) {
    bool channels = dt_onnx_value(x, n->in[0])->ndim == 4;
    for (int32_t i = 0; i < n->n_in; i++)
        channels &= n->in[i] < 0 || x->view[n->in[i]].first == DT_ONNX_CHANNELS;
    return channels ? DT_ONNX_CHANNELS : DT_ONNX_SAME;
}

static void put_concat(dt_onnx_exporter *x, const dt_node *n) {
    const dt_onnx_layout layout = along(x, n);
    const int64_t axis = dt_onnx_axis_in(dt_onnx_value(x, n->in[0]), layout, n->attr.shape.axis);
    const char **in = calloc((size_t)n->n_in + 1, sizeof *in);
    if (!in) {
        dt_onnx_draft_fail(&x->d, "no memory for a list of operands");
        return;
    }
    for (int32_t i = 0; i < n->n_in; i++) in[i] = dt_onnx_see(x, n->in[i], layout);
    dt_onnx_set(x, n->out[0], layout,
                dt_onnx_draft_op(&x->d, "Concat", dt_onnx_result(x, n), in, n->n_in,
                                 DT_ONNX_ATTR(dt_onnx_int("axis", axis))));
    free(in);
}

static void put_slice(dt_onnx_exporter *x, const dt_node *n) {
    const dt_shape_attr *t = &n->attr.shape;
    const dt_onnx_layout layout = along(x, n);
    const int64_t axis = dt_onnx_axis_in(dt_onnx_value(x, n->in[0]), layout, t->axis),
                  end = t->begin + t->length;
    dt_onnx_set(x, n->out[0], layout,
                OP("Slice", dt_onnx_result(x, n),
                   DT_ONNX_IN(dt_onnx_see(x, n->in[0], layout), ints(x, 1, &t->begin), ints(x, 1, &end),
                              ints(x, 1, &axis)),
                   NONE));
}

static void put_pad(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[0]);
    const dt_shape_attr *t = &n->attr.shape;
    const dt_onnx_layout layout = along(x, n);
    const int32_t axis = dt_onnx_axis_in(in, layout, t->axis);
    int64_t pads[2 * DT_MAX_DIM] = {0};
    pads[axis] = t->begin;
    pads[in->ndim + axis] = t->length - t->begin - in->dim[t->axis];
    dt_onnx_set(x, n->out[0], layout,
                OP("Pad", dt_onnx_result(x, n),
                   TWO(dt_onnx_see(x, n->in[0], layout), ints(x, 2 * in->ndim, pads)), NONE));
}

static void put_transpose(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *in = dt_onnx_value(x, n->in[0]);
    const dt_onnx_layout layout = along(x, n);
    int64_t perm[DT_MAX_DIM];
    for (int32_t i = 0; i < in->ndim; i++) perm[i] = dt_onnx_axis_in(in, layout, n->attr.transpose.perm[i]);
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME,
                OP("Transpose", dt_onnx_result(x, n), ONE(dt_onnx_see(x, n->in[0], layout)),
                   DT_ONNX_ATTR(dt_onnx_ints("perm", in->ndim, perm))));
}

static void put_reduce(dt_onnx_exporter *x, const dt_node *n) {
    static const char *const op[DT_REDUCE_COUNT] = {
        [DT_REDUCE_SUM] = "ReduceSum", [DT_REDUCE_MEAN] = "ReduceMean", [DT_REDUCE_MAX] = "ReduceMax"};
    const dt_value *in = dt_onnx_value(x, n->in[0]);
    const dt_onnx_layout layout = along(x, n);
    const dt_reduce_kind kind = n->attr.reduce.kind;
    int64_t axes[DT_MAX_DIM];
    int32_t n_axes = 0;
    for (int32_t d = 0; d < in->ndim; d++)
        if (n->attr.reduce.axes >> d & 1) axes[n_axes++] = dt_onnx_axis_in(in, layout, d);
    const char *from = dt_onnx_see(x, n->in[0], layout), *name = dt_onnx_result(x, n);
    dt_onnx_set(x, n->out[0], layout,
                kind == DT_REDUCE_SUM
                    ? OP(op[kind], name, TWO(from, ints(x, n_axes, axes)), NONE)
                    : OP(op[kind], name, ONE(from), DT_ONNX_ATTR(dt_onnx_ints("axes", n_axes, axes))));
}

dt_onnx_writer *const dt_onnx_writers[DT_OP_COUNT] = {
    [DT_OP_CONV] = put_conv,
    [DT_OP_DENSE] = put_dense,
    [DT_OP_BATCHNORM] = put_batchnorm,
    [DT_OP_UNARY] = put_unary,
    [DT_OP_BINARY] = put_binary,
    [DT_OP_SOFTMAX] = put_softmax,
    [DT_OP_LOG_SOFTMAX] = put_softmax,
    [DT_OP_LAYERNORM] = put_layernorm,
    [DT_OP_RMSNORM] = put_rmsnorm,
    [DT_OP_GROUPNORM] = put_groupnorm,
    [DT_OP_EMBED] = dt_onnx_put_embed,
    [DT_OP_ONE_HOT] = dt_onnx_put_one_hot,
    [DT_OP_POSITION] = dt_onnx_put_position,
    [DT_OP_ROPE] = dt_onnx_put_rope,
    [DT_OP_MAXPOOL] = put_pool,
    [DT_OP_AVGPOOL] = put_pool,
    [DT_OP_GLOBAL_AVGPOOL] = put_global_avgpool,
    [DT_OP_RESAMPLE] = put_resample,
    [DT_OP_ADAPTIVE_MAXPOOL] = put_resample,
    [DT_OP_RESHAPE] = put_reshape,
    [DT_OP_CONCAT] = put_concat,
    [DT_OP_SLICE] = put_slice,
    [DT_OP_PAD] = put_pad,
    [DT_OP_TRANSPOSE] = put_transpose,
    [DT_OP_MATMUL] = put_matmul,
    [DT_OP_REDUCE] = put_reduce,
    [DT_OP_DROPOUT] = put_dropout,
    [DT_OP_ATTENTION] = dt_onnx_put_attention,
    [DT_OP_RECURRENT] = dt_onnx_put_recurrent,
    [DT_OP_CAST] = put_cast,
    [DT_OP_CONV_DGRAD] = put_conv_dgrad,
};
