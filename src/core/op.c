/* The op table and the arithmetic that follows from it. */
#include "core/op.h"

#include <string.h>

#include "op_infer.h"

dt_conv_dims dt_op_conv_dims(const dt_graph *g, const dt_node *n) {
    const dt_window_attr *t = &n->attr.window;
    dt_conv_dims d = {.r = t->kernel[0],
                      .s = t->kernel[1],
                      .stride_h = t->stride[0],
                      .stride_w = t->stride[1],
                      .pad_h = t->pad_begin[0],
                      .pad_w = t->pad_begin[1],
                      .dil_h = t->dilation[0],
                      .dil_w = t->dilation[1],
                      .groups = t->groups};
    const dt_value *image = &g->value[n->op == DT_OP_CONV_DGRAD ? n->out[0] : n->in[0]];
    const dt_value *result = &g->value[n->op == DT_OP_CONV         ? n->out[0]
                                       : n->op == DT_OP_CONV_DGRAD ? n->in[0]
                                                                   : n->in[1]];
    d.n = image->dim[0], d.h = image->dim[1], d.w = image->dim[2], d.c = image->dim[3];
    d.p = result->dim[1], d.q = result->dim[2], d.k = result->dim[3];
    if (d.dil_h < 1) d.dil_h = 1;
    if (d.dil_w < 1) d.dil_w = 1;
    return d;
}

bool dt_op_conv_is_product(const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    return d.r == 1 && d.s == 1 && d.stride_h == 1 && d.stride_w == 1 && d.pad_h == 0 && d.pad_w == 0 &&
           d.p == d.h && d.q == d.w && d.groups == 1;
}

static double conv_flops(const dt_graph *g, const dt_node *n) {
    dt_conv_dims d = dt_op_conv_dims(g, n);
    return 2.0 * (double)(d.n * d.p * d.q) * (double)d.k * (double)(d.r * d.s * (d.c / d.groups));
}

static double dense_flops(const dt_graph *g, const dt_node *n) {
    const dt_value *a = &g->value[n->in[0]], *b = &g->value[n->in[1]];
    /* forward: x and w; dgrad: dy and w; wgrad: x and dy: rows*C*K each way */
    const double c = (double)dt_infer_last(a), rows = (double)dt_value_n_elem(a) / c;
    return 2.0 * (n->op == DT_OP_DENSE_WGRAD ? c : rows) * (double)dt_value_n_elem(b);
}

/* rows x K x C: of x^T x (K = C), dz^T x, and dz wa + x M. */
static double rows_flops(const dt_graph *g, const dt_node *n, int32_t i_x) {
    const dt_value *dz = &g->value[n->in[0]], *x = &g->value[n->in[i_x]];
    const double k = (double)dz->dim[dz->ndim - 1], c = (double)x->dim[x->ndim - 1];
    return 2.0 * (double)dt_value_n_elem(dz) / k * c * (k + (n->op == DT_OP_BN_GRAM_DX ? c : 0));
}

static double gram_flops(const dt_graph *g, const dt_node *n) {
    return rows_flops(g, n, 0);
}

static double cross_flops(const dt_graph *g, const dt_node *n) {
    return rows_flops(g, n, DT_CROSS_IN_X);
}

static double gram_dx_flops(const dt_graph *g, const dt_node *n) {
    return rows_flops(g, n, DT_GRAM_DX_IN_X);
}

/* K x C x C */
static double weight_flops(const dt_graph *g, dt_vid w) {
    const dt_value *v = &g->value[w];
    return 2.0 * (double)dt_value_n_elem(v) * (double)v->dim[v->ndim - 1];
}

static double bn_gram_flops(const dt_graph *g, const dt_node *n) {
    return weight_flops(g, n->in[DT_BN_GRAM_IN_W]);
}

static double gram_grad_flops(const dt_graph *g, const dt_node *n) {
    return weight_flops(g, n->in[DT_GRAM_GRAD_IN_W]);
}

static double pool_flops(const dt_graph *g, const dt_node *n) {
    return (double)dt_value_n_elem(&g->value[n->in[dt_op_get(n->op)->main]]);
}

static double bn_flops(const dt_graph *g, const dt_node *n) {
    return 4.0 * pool_flops(g, n);
}

/* Short forms of the slots below. */
#define T(name_, ...)                                                                                        \
    { .name = (name_), __VA_ARGS__ }
#define WEIGHT(name_, ...)                                                                                   \
    { .name = (name_), .type = DT_SLOT_WEIGHT, __VA_ARGS__ }
#define ANY(name_, ...)                                                                                      \
    { .name = (name_), .type = DT_SLOT_ANY, __VA_ARGS__ }
#define FLOAT(name_, ...)                                                                                    \
    { .name = (name_), .type = DT_SLOT_FLOAT, __VA_ARGS__ }
#define F32(name_, ...)                                                                                      \
    { .name = (name_), .type = DT_SLOT_F32, __VA_ARGS__ }
#define OPT            .optional = true
#define SAME(slot)     .same = (slot) + 1
#define LEN(slot, d)   .len_of = (slot) + 1, .len_dim = (d)
#define LAST           (-1)
#define NEEDS(slot)    .needs = 1u << (slot)
#define NEEDS2(a, b)   .needs = 1u << (a) | 1u << (b)
#define IN_PLACE(i, o) .in_place = (i) + 1, .in_place_out = (o)

/* An attribute; its type is that of the field. */
#define FIELD(family, field) ((dt_attr *)0)->family.field
#define A(family_, field)                                                                                      \
    {                                                                                                          \
        .family = #family_, .name = #field,                                                                  \
        .type = _Generic(FIELD(family_, field),                                                              \
                         int32_t: "i32",                                                                     \
                         int32_t *: "i32",                                                                   \
                         int64_t: "i64",                                                                     \
                         int64_t *: "i64",                                                                   \
                         uint64_t: "u64",                                                                    \
                         float: "f32",                                                                       \
                         float *: "f32",                                                                     \
                         bool: "bool",                                                                       \
                         dt_unary: "function",                                                               \
                         dt_binary: "function",                                                              \
                         dt_loss_kind: "loss",                                                               \
                         dt_loss_sums: "sums",                                                               \
                         dt_dtype: "type"),                                                                  \
        .offset = offsetof(dt_attr, family_.field), .size = sizeof FIELD(family_, field),                    \
        .count = sizeof FIELD(family_, field) / _Generic(FIELD(family_, field),                                \
                                                          int32_t *: (sizeof(int32_t)),                     \
                                                          int64_t *: (sizeof(int64_t)),                     \
                                                          float *: (sizeof(float)),                         \
                                                          default: (sizeof FIELD(family_, field))) \
    }
#define WINDOW      A(window, kernel), A(window, stride), A(window, pad_begin), A(window, pad_end)
#define CONVOLUTION WINDOW, A(window, dilation), A(window, groups)

static const dt_op_row op_table[] =
    {
        /* --- layers */
        [DT_OP_INPUT] =
            {
                .name = "input",
                .doc = "x = (image / 255 - mean[c]) / stddev[c], channels past the image's are 0; with aug "
                       "the window {x0, y0, w, h, flip, 0, 0, 0} of each image is resized (bilinear, "
                       "half-pixel centres) to H x W, flip mirrors columns.",
                .in = {{.name = "image", .type = DT_SLOT_U8, .rank = 4},
                       {.name = "aug", .type = DT_SLOT_I32, .rank = 2, OPT}},
                .out = {T("x")},
                .attr = {A(input, size), A(input, padded_c), A(input, mean), A(input, stddev)},
                .infer = dt_infer_input,
            },
        [DT_OP_CONV] =
            {
                .name = "conv",
                .doc = "y [N,P,Q,K] = x [N,H,W,C] * w [K,R,S,C/G] + bias, cross-correlation as PyTorch's "
                       "Conv2d, P = (H + pad_begin + pad_end - dilation (R-1) - 1) / stride + 1. With "
                       "pre_scale x is relu(x * pre_scale + pre_shift). With scale y ends as bn_apply's. "
                       "stats: sum and sum of squares of y per channel.",
                .in = {T("x", .rank = 4), WEIGHT("w", .rank = 4), F32("bias", OPT, LEN(DT_CONV_IN_W, 0)),
                       F32("pre_scale", OPT, LEN(DT_CONV_IN_X, LAST), NEEDS(DT_CONV_IN_PRE_SHIFT)),
                       F32("pre_shift", OPT, LEN(DT_CONV_IN_X, LAST), NEEDS(DT_CONV_IN_PRE_SCALE)),
                       F32("scale", OPT, LEN(DT_CONV_IN_W, 0), NEEDS(DT_CONV_IN_SHIFT)),
                       F32("shift", OPT, LEN(DT_CONV_IN_W, 0), NEEDS(DT_CONV_IN_SCALE)),
                       T("res", OPT, NEEDS(DT_CONV_IN_SCALE)),
                       F32("res_scale", OPT, LEN(DT_CONV_IN_W, 0),
                           NEEDS2(DT_CONV_IN_RES, DT_CONV_IN_RES_SHIFT)),
                       F32("res_shift", OPT, LEN(DT_CONV_IN_W, 0),
                           NEEDS2(DT_CONV_IN_RES, DT_CONV_IN_RES_SCALE))},
                .out = {T("y"), F32("stats", OPT)},
                .attr = {CONVOLUTION, A(window, relu)},
                .infer = dt_infer_conv,
                .grad = dt_grad_conv,
                .flops = conv_flops,
            },
        [DT_OP_DENSE] =
            {
                .name = "dense",
                .doc = "y [...,K] = x [...,C] w^T + bias, w [K,C].",
                .in = {T("x"), WEIGHT("w", .rank = 2), F32("bias", OPT, LEN(DT_DENSE_IN_W, 0))},
                .out = {T("y")},
                .infer = dt_infer_dense,
                .grad = dt_grad_dense,
                .flops = dense_flops,
            },
        [DT_OP_BATCHNORM] =
            {
                .name = "batchnorm",
                .doc = "y = act(x * scale + shift + res), scale = gamma * invstd, shift = beta - mean * "
                       "scale, invstd = 1 / sqrt(var + eps), var biased; training updates rmean += momentum "
                       "(mean - rmean), rvar += momentum (var m / (m-1) - rvar), as PyTorch's BatchNorm2d; "
                       "in evaluation mean and var are rmean and rvar. Never lowered: a pass splits it.",
                .in = {T("x"), F32("gamma", LEN(DT_BN_IN_X, LAST)), F32("beta", LEN(DT_BN_IN_X, LAST)),
                       F32("rmean", LEN(DT_BN_IN_X, LAST), .updated = true),
                       F32("rvar", LEN(DT_BN_IN_X, LAST), .updated = true), T("res", OPT, SAME(DT_BN_IN_X))},
                .out = {T("y"), F32("mean"), F32("invstd"), F32("scale"), F32("shift")},
                .flags = DT_OP_EFFECT,
                .attr = {A(norm, eps), A(norm, momentum), A(norm, relu)},
                .infer = dt_infer_batchnorm,
                .grad = dt_grad_batchnorm,
                .flops = bn_flops,
            },
        [DT_OP_UNARY] =
            {
                .name = "unary",
                .doc = "y = function(x), element by element, in PyTorch's definition.",
                .in = {FLOAT("x")},
                .out = {FLOAT("y")},
                IN_PLACE(0, 0),
                .flags = DT_OP_EMPTY,
                .attr = {A(unary, fn), A(unary, a), A(unary, b)},
                .infer = dt_infer_unary,
                .grad = dt_grad_unary,
            },
        [DT_OP_BINARY] =
            {
                .name = "binary",
                .doc = "y = function(a, b), element by element, of one type. Shapes are aligned at the last "
                       "dimension; one that is missing or 1 is repeated.",
                .in = {FLOAT("a"), FLOAT("b")},
                .out = {FLOAT("y")},
                IN_PLACE(0, 0),
                .flags = DT_OP_EMPTY,
                .attr = {A(binary, fn)},
                .infer = dt_infer_binary,
                .grad = dt_grad_binary,
            },
        [DT_OP_SOFTMAX] =
            {
                .name = "softmax",
                .doc = "y = exp(x) / sum of exp(x) over the last dimension.",
                .in = {FLOAT("x")},
                .out = {FLOAT("y")},
                IN_PLACE(0, 0),
                .flags = DT_OP_EMPTY,
                .infer = dt_infer_same,
                .grad = dt_grad_softmax,
                .flops = bn_flops,
            },
        [DT_OP_LOG_SOFTMAX] =
            {
                .name = "log_softmax",
                .doc = "y = x - log of the sum of exp(x) over the last dimension.",
                .in = {FLOAT("x")},
                .out = {FLOAT("y")},
                IN_PLACE(0, 0),
                .flags = DT_OP_EMPTY,
                .infer = dt_infer_same,
                .grad = dt_grad_softmax,
                .flops = bn_flops,
            },
        [DT_OP_MAXPOOL] =
            {
                .name = "maxpool",
                .doc = "y = maximum of each window; idx its position in the window, row-major, the first one "
                       "wins. With pre_scale x is relu(x * pre_scale + pre_shift) in T.",
                .in = {T("x", .rank = 4), F32("pre_scale", OPT, LEN(0, LAST), NEEDS(DT_MAXPOOL_IN_PRE_SHIFT)),
                       F32("pre_shift", OPT, LEN(0, LAST), NEEDS(DT_MAXPOOL_IN_PRE_SCALE))},
                .out = {T("y"), {.name = "idx", .type = DT_SLOT_U8}},
                .attr = {WINDOW},
                .infer = dt_infer_maxpool,
                .grad = dt_grad_maxpool,
                .flops = pool_flops,
            },
        [DT_OP_AVGPOOL] =
            {
                .name = "avgpool",
                .doc = "y = sum of each window / (R S): padding counts as zeros, PyTorch's default.",
                .in = {T("x", .rank = 4)},
                .out = {T("y")},
                .attr = {WINDOW},
                .infer = dt_infer_avgpool,
                .grad = dt_grad_avgpool,
                .flops = pool_flops,
            },
        [DT_OP_GLOBAL_AVGPOOL] =
            {
                .name = "global_avgpool",
                .doc = "y [N,C] = mean of x [N,H,W,C] over H and W.",
                .in = {T("x", .rank = 4)},
                .out = {T("y")},
                .infer = dt_infer_global_avgpool,
                .grad = dt_grad_global_avgpool,
                .flops = pool_flops,
            },
        [DT_OP_RESHAPE] =
            {
                .name = "reshape",
                .doc = "y = x seen as [N,rest] where size is 0 (flatten), else as [N,H,W,rest].",
                .in = {{.name = "x", .type = DT_SLOT_ANY}},
                .out = {ANY("y")},
                .flags = DT_OP_VIEW | DT_OP_EMPTY,
                .attr = {A(shape, size)},
                .infer = dt_infer_reshape,
                .grad = dt_grad_reshape,
            },
        [DT_OP_CONCAT] =
            {
                .name = "concat",
                .doc = "y = the inputs one after the other along a dimension.",
                .in = {{.name = "x", .type = DT_SLOT_ANY, .many = true}},
                .out = {ANY("y")},
                .flags = DT_OP_EMPTY,
                .attr = {A(shape, axis)},
                .infer = dt_infer_concat,
                .grad = dt_grad_concat,
            },
        [DT_OP_SLICE] =
            {
                .name = "slice",
                .doc = "y = x from begin on for length along a dimension.",
                .in = {ANY("x")},
                .out = {ANY("y")},
                .flags = DT_OP_EMPTY,
                .attr = {A(shape, axis), A(shape, begin), A(shape, length)},
                .infer = dt_infer_slice,
                .grad = dt_grad_slice,
            },
        [DT_OP_DROPOUT] =
            {
                .name = "dropout",
                .doc = "y = x * keep / (1-p); keep from Philox of the key of (seed, DROPOUT, salt) at "
                       "((step, micro), element / 4).",
                .in = {T("x")},
                .out = {T("y")},
                IN_PLACE(0, 0),
                .flags = DT_OP_EMPTY,
                .attr = {A(dropout, p), A(dropout, salt)},
                .infer = dt_infer_dropout,
                .grad = dt_grad_dropout,
            },
        [DT_OP_XENT] =
            {
                .name = "xent",
                .doc = "loss [N] = (1-s) * -log p[label] + s * mean_k(-log p[k]) of p = softmax(logits "
                       "[N,K]), as PyTorch's cross_entropy; 0 where label < 0 or valid is 0. Adds to metrics "
                       "(LOSS, SAMPLES, its own sums among several; the first also TOP1, TOP5); a class "
                       "counts as above the label's if its logit is greater, or equal with a lower index.",
                .in = {T("logits", .rank = 2),
                       {.name = "label", .type = DT_SLOT_I32, LEN(DT_XENT_IN_LOGITS, 0)},
                       F32("metrics", .updated = true),
                       {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(DT_XENT_IN_LOGITS, 0)}},
                .out = {F32("loss"), F32("prob")},
                .flags = DT_OP_EFFECT | DT_OP_SEED,
                .attr = {A(loss, weight), A(loss, nth), A(loss, smoothing)},
                .infer = dt_infer_xent,
                .grad = dt_grad_xent,
                .flops = bn_flops,
            },
        [DT_OP_LOSS] =
            {
                .name = "loss",
                .doc =
                    "loss [N] = mean over a row's elements of value: x; mse: (x - target)^2; l1: |x - "
                    "target|; huber: PyTorch's huber_loss with delta; bce: binary_cross_entropy_with_logits "
                    "with the positives' weight. 0 where valid is 0. Adds to metrics (LOSS, SAMPLES, its own "
                    "sums among several; the first also the task's sums).",
                .in = {T("x"),
                       F32("target", OPT),
                       {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(DT_LOSS_IN_X, 0)},
                       F32("metrics", .updated = true)},
                .out = {F32("loss")},
                .flags = DT_OP_EFFECT | DT_OP_SEED,
                .attr = {A(loss, weight), A(loss, nth), A(loss, kind), A(loss, sums), A(loss, param)},
                .infer = dt_infer_loss,
                .grad = dt_grad_loss,
                .flops = bn_flops,
            },
        [DT_OP_CAST] =
            {
                .name = "cast",
                .doc = "y = x in another type; to f32 or T rounded to nearest, whole numbers to i32 clamped.",
                .in = {{.name = "x", .type = DT_SLOT_ANY}},
                .out = {{.name = "y", .type = DT_SLOT_ANY}},
                .attr = {A(cast, dtype)},
                .infer = dt_infer_cast,
            },
        /* --- made by passes out of batchnorm */
        [DT_OP_BN_STATS] =
            {
                .name = "bn_stats",
                .doc = "stats [2,C] = mean and biased variance of x over its rows.",
                .in = {T("x")},
                .out = {F32("stats")},
                .flags = DT_OP_INTERNAL,
                .infer = dt_infer_bn_stats,
                .flops = pool_flops,
            },
        [DT_OP_BN_FINALIZE] =
            {
                .name = "bn_finalize",
                .doc =
                    "mean, invstd, scale, shift of batchnorm from stats, and its update of rmean and rvar.",
                .in = {F32("stats", LEN(DT_FINALIZE_IN_GAMMA, LAST), .len_times = 2), F32("gamma", .rank = 1),
                       F32("beta", LEN(DT_FINALIZE_IN_GAMMA, LAST)),
                       F32("rmean", LEN(DT_FINALIZE_IN_GAMMA, LAST), .updated = true),
                       F32("rvar", LEN(DT_FINALIZE_IN_GAMMA, LAST), .updated = true)},
                .out = {F32("mean"), F32("invstd"), F32("scale"), F32("shift")},
                .flags = DT_OP_INTERNAL | DT_OP_EFFECT,
                .attr = {A(norm, rows), A(norm, eps), A(norm, momentum), A(norm, stats_are_sums)},
                .infer = dt_infer_bn_finalize,
            },
        [DT_OP_BN_FOLD] =
            {
                .name = "bn_fold",
                .doc = "scale and shift of batchnorm in evaluation.",
                .in = {F32("gamma", .rank = 1), F32("beta", SAME(0)), F32("rmean", SAME(0)),
                       F32("rvar", SAME(0))},
                .out = {F32("scale"), F32("shift")},
                .flags = DT_OP_INTERNAL,
                .attr = {A(norm, eps)},
                .infer = dt_infer_bn_fold,
            },
        [DT_OP_BN_APPLY] =
            {
                .name = "bn_apply",
                .doc = "y = act(x * scale + shift + r), r = res or res * res_scale + res_shift.",
                .in = {T("x"), F32("scale", LEN(DT_APPLY_IN_X, LAST)), F32("shift", LEN(DT_APPLY_IN_X, LAST)),
                       T("res", OPT, SAME(DT_APPLY_IN_X)),
                       F32("res_scale", OPT, LEN(DT_APPLY_IN_X, LAST),
                           NEEDS2(DT_APPLY_IN_RES, DT_APPLY_IN_RES_SHIFT)),
                       F32("res_shift", OPT, LEN(DT_APPLY_IN_X, LAST),
                           NEEDS2(DT_APPLY_IN_RES, DT_APPLY_IN_RES_SCALE))},
                .out = {T("y")},
                .flags = DT_OP_INTERNAL,
                IN_PLACE(DT_APPLY_IN_X, 0),
                .attr = {A(norm, relu)},
                .infer = dt_infer_same,
            },
        /* --- made by the pass gram_batchnorm */
        [DT_OP_GRAM] =
            {
                .name = "gram",
                .doc = "gram [C,C] = x^T x, sum [C] = column sums of x [...,C].",
                .in = {T("x")},
                .out = {F32("gram"), F32("sum")},
                .flags = DT_OP_INTERNAL,
                .infer = dt_infer_gram,
                .flops = gram_flops,
            },
        [DT_OP_GRAM_CROSS] =
            {
                .name = "gram_cross",
                .doc = "p [K,C] = dz^T x of dz [...,K] and x [...,C], dbeta = column sums of dz.",
                .in = {T("dz"), T("x")},
                .out = {F32("p"), F32("dbeta", OPT)},
                .flags = DT_OP_INTERNAL,
                .infer = dt_infer_gram_cross,
                .flops = cross_flops,
            },
        [DT_OP_BN_GRAM] =
            {
                .name = "bn_gram",
                .doc = "bn_finalize for c = x w^T, w [K,1,1,C]: with cov = gram/m - sum sum^T/m^2 and wcov "
                       "[K,C] = w cov, mean_k = w_k.sum/m, var_k = wcov_k.w_k (not below 0).",
                .in = {F32("gram", .rank = 2), F32("sum", LEN(DT_BN_GRAM_IN_GRAM, LAST)), T("w", .rank = 4),
                       F32("gamma", LEN(DT_BN_GRAM_IN_W, 0)), F32("beta", LEN(DT_BN_GRAM_IN_W, 0)),
                       F32("rmean", LEN(DT_BN_GRAM_IN_W, 0), .updated = true),
                       F32("rvar", LEN(DT_BN_GRAM_IN_W, 0), .updated = true)},
                .out = {F32("mean"), F32("invstd"), F32("scale"), F32("shift"), F32("wcov")},
                .flags = DT_OP_INTERNAL | DT_OP_EFFECT,
                .attr = {A(norm, rows), A(norm, eps), A(norm, momentum)},
                .infer = dt_infer_bn_gram,
                .flops = bn_gram_flops,
            },
        [DT_OP_BN_MASK] =
            {
                .name = "bn_mask",
                .doc = "dz = (dy + dy2) where y > 0 (everywhere without y), dbeta [K] = column sums of dz.",
                .in = {T("dy"), T("dy2", OPT, SAME(0)), T("y", OPT, SAME(0))},
                .out = {F32("dbeta"), T("dz", OPT)},
                .flags = DT_OP_INTERNAL,
                IN_PLACE(DT_BN_MASK_IN_DY, DT_BN_MASK_OUT_DZ),
                .infer = dt_infer_bn_mask,
                .flops = pool_flops,
            },
        [DT_OP_BN_GRAM_GRAD] =
            {
                .name = "bn_gram_grad",
                .doc = "from p = dz^T x: with q = p - dbeta sum^T/m and A, B, D of bn_reduce, dgamma_k = "
                       "invstd_k * w_k.q_k, dw_k = A_k q_k + m B_k wcov_k, wa_k = A_k w_k; mv [C+1,C] is M = "
                       "w^T diag(B) w and below it the row v = w^T D.",
                .in = {F32("p", .rank = 2), F32("dbeta", LEN(DT_GRAM_GRAD_IN_P, 0)),
                       F32("wcov", SAME(DT_GRAM_GRAD_IN_P)), F32("sum", LEN(DT_GRAM_GRAD_IN_P, 1)),
                       T("w", .rank = 4), F32("mean", LEN(DT_GRAM_GRAD_IN_P, 0)),
                       F32("invstd", LEN(DT_GRAM_GRAD_IN_P, 0)), F32("gamma", LEN(DT_GRAM_GRAD_IN_P, 0))},
                .out = {T("dgamma"), T("dbeta"), T("dw"), T("wa"), F32("mv")},
                .flags = DT_OP_INTERNAL,
                .attr = {A(norm, rows)},
                .infer = dt_infer_bn_gram_grad,
                .flops = gram_grad_flops,
            },
        [DT_OP_BN_GRAM_DX] =
            {
                .name = "bn_gram_dx",
                .doc = "dx = dz wa + x M + v of dz [...,K], wa [K,1,1,C], x [...,C].",
                .in = {T("dz"), T("wa", .rank = 4), T("x"), F32("mv", .rank = 2)},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL,
                .infer = dt_infer_bn_gram_dx,
                .flops = gram_dx_flops,
            },
        /* --- made by autodiff */
        [DT_OP_CONV_DGRAD] =
            {
                .name = "conv_dgrad",
                .doc = "dx = gradient of conv's x. dx2 is added, then what is not y > 0 is 0. With c dx is "
                       "the masked gradient dz of bn_reduce (c * scale + shift > 0), and dgamma, dbeta, coef "
                       "are its sums.",
                .in = {T("dy", .rank = 4), T("w", .rank = 4), T("dx2", OPT, .rank = 4),
                       T("y", OPT, .rank = 4),
                       T("c", OPT, .rank = 4,
                         .needs = 1u << DT_DGRAD_IN_MEAN | 1u << DT_DGRAD_IN_INVSTD |
                                  1u << DT_DGRAD_IN_GAMMA | 1u << DT_DGRAD_IN_SCALE |
                                  1u << DT_DGRAD_IN_SHIFT),
                       F32("mean", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
                       F32("invstd", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
                       F32("gamma", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
                       F32("scale", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
                       F32("shift", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C))},
                .out = {T("dx"), T("dgamma", OPT), T("dbeta", OPT), F32("coef", OPT)},
                .flags = DT_OP_INTERNAL,
                .attr = {CONVOLUTION, A(window, size)},
                .infer = dt_infer_conv_dgrad,
                .flops = conv_flops,
            },
        [DT_OP_CONV_WGRAD] =
            {
                .name = "conv_wgrad",
                .doc = "dw = gradient of conv's w.",
                .in = {T("x", .rank = 4), T("dy", .rank = 4),
                       F32("pre_scale", OPT, LEN(DT_WGRAD_IN_X, LAST), NEEDS(DT_WGRAD_IN_PRE_SHIFT)),
                       F32("pre_shift", OPT, LEN(DT_WGRAD_IN_X, LAST), NEEDS(DT_WGRAD_IN_PRE_SCALE))},
                .out = {T("dw")},
                .flags = DT_OP_INTERNAL,
                .attr = {CONVOLUTION},
                .infer = dt_infer_conv_wgrad,
                .flops = conv_flops,
            },
        [DT_OP_DENSE_DGRAD] =
            {
                .name = "dense_dgrad",
                .doc = "dx [...,C] = dy [...,K] w [K,C].",
                .in = {T("dy"), T("w", .rank = 2)},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL,
                .infer = dt_infer_dense_dgrad,
                .flops = dense_flops,
            },
        [DT_OP_DENSE_WGRAD] =
            {
                .name = "dense_wgrad",
                .doc = "dw [K,C] = dy^T x of dy [...,K] and x [...,C].",
                .in = {T("x"), T("dy")},
                .out = {T("dw")},
                .flags = DT_OP_INTERNAL,
                .infer = dt_infer_dense_wgrad,
                .flops = dense_flops,
            },
        [DT_OP_BIAS_GRAD] =
            {
                .name = "bias_grad",
                .doc = "db [K] = column sums of dy [...,K].",
                .in = {T("dy")},
                .out = {T("db")},
                .flags = DT_OP_INTERNAL,
                .infer = dt_infer_bias_grad,
                .flops = pool_flops,
            },
        [DT_OP_BN_REDUCE] =
            {
                .name = "bn_reduce",
                .doc = "dz = (dy + dy2) where y > 0, or where c * scale + shift > 0; dbeta = sum dz, dgamma "
                       "= sum dz * (c - mean) * invstd; coef [3,C] = (A, B, D) of dc = A dz + B c + D: A = "
                       "gamma*invstd, B = -A*invstd*dgamma/m, D = -A*dbeta/m - B*mean (Ioffe & Szegedy 2015, "
                       "collected per channel). With dyp dy is the max pool's gradient of dyp + dyp2 at idx.",
                .in = {T("dy", OPT, SAME(DT_REDUCE_IN_C)),
                       T("dy2", OPT, SAME(DT_REDUCE_IN_C), NEEDS(DT_REDUCE_IN_DY)),
                       T("c"),
                       F32("mean", LEN(DT_REDUCE_IN_C, LAST)),
                       F32("invstd", LEN(DT_REDUCE_IN_C, LAST)),
                       F32("gamma", LEN(DT_REDUCE_IN_C, LAST)),
                       T("y", OPT, SAME(DT_REDUCE_IN_C)),
                       F32("scale", OPT, LEN(DT_REDUCE_IN_C, LAST), NEEDS(DT_REDUCE_IN_SHIFT)),
                       F32("shift", OPT, LEN(DT_REDUCE_IN_C, LAST), NEEDS(DT_REDUCE_IN_SCALE)),
                       T("dyp", OPT, .rank = 4, NEEDS2(DT_REDUCE_IN_IDX, DT_REDUCE_IN_SCALE)),
                       T("dyp2", OPT, SAME(DT_REDUCE_IN_DYP), NEEDS(DT_REDUCE_IN_DYP)),
                       {.name = "idx",
                        .type = DT_SLOT_U8,
                        OPT,
                        SAME(DT_REDUCE_IN_DYP),
                        NEEDS(DT_REDUCE_IN_DYP)}},
                .out = {T("dgamma"), T("dbeta"), F32("coef"), T("dz", OPT)},
                .flags = DT_OP_INTERNAL,
                .main = DT_REDUCE_IN_C,
                IN_PLACE(DT_REDUCE_IN_DY, DT_REDUCE_OUT_DZ),
                .attr = {WINDOW},
                .infer = dt_infer_bn_reduce,
                .flops = bn_flops,
            },
        [DT_OP_BN_DX] =
            {
                .name = "bn_dx",
                .doc = "dx = A dz + B c + D, dz = dy where c * scale + shift > 0 (everywhere without scale). "
                       "With dyp dy is the max pool's gradient of dyp + dyp2 at idx.",
                .in = {T("dy", OPT, SAME(DT_DX_IN_C)),
                       T("c"),
                       F32("coef", LEN(DT_DX_IN_C, LAST), .len_times = 3),
                       F32("scale", OPT, LEN(DT_DX_IN_C, LAST), NEEDS(DT_DX_IN_SHIFT)),
                       F32("shift", OPT, LEN(DT_DX_IN_C, LAST), NEEDS(DT_DX_IN_SCALE)),
                       T("dyp", OPT, .rank = 4, NEEDS2(DT_DX_IN_IDX, DT_DX_IN_SCALE)),
                       T("dyp2", OPT, SAME(DT_DX_IN_DYP), NEEDS(DT_DX_IN_DYP)),
                       {.name = "idx", .type = DT_SLOT_U8, OPT, SAME(DT_DX_IN_DYP), NEEDS(DT_DX_IN_DYP)}},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL,
                .main = DT_DX_IN_C,
                IN_PLACE(DT_DX_IN_DY, 0),
                .attr = {WINDOW},
                .infer = dt_infer_bn_dx,
                .flops = bn_flops,
            },
        [DT_OP_UNARY_BWD] =
            {
                .name = "unary_bwd",
                .doc = "dx = dy times the derivative of unary's function; v is its y or its x, as the "
                       "function's gradient is made.",
                .in = {FLOAT("dy"), FLOAT("v", SAME(0))},
                .out = {FLOAT("dx")},
                .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
                IN_PLACE(0, 0),
                .attr = {A(unary, fn), A(unary, a), A(unary, b)},
                .infer = dt_infer_unary,
            },
        [DT_OP_BINARY_BWD] =
            {
                .name = "binary_bwd",
                .doc = "gradient of one operand of binary, summed in a fixed order over what was repeated; a "
                       "and b where the function's gradient reads them.",
                .in = {FLOAT("dy"), FLOAT("a", OPT), FLOAT("b", OPT)},
                .out = {FLOAT("dx")},
                .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
                .attr = {A(binary, fn), A(binary, operand), A(binary, ndim), A(binary, dim)},
                .infer = dt_infer_binary_bwd,
            },
        [DT_OP_SOFTMAX_BWD] =
            {
                .name = "softmax_bwd",
                .doc = "dx = y (dy - sum of dy y over the last dimension).",
                .in = {FLOAT("dy"), FLOAT("y", SAME(0))},
                .out = {FLOAT("dx")},
                .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
                IN_PLACE(0, 0),
                .infer = dt_infer_same,
                .flops = bn_flops,
            },
        [DT_OP_LOG_SOFTMAX_BWD] =
            {
                .name = "log_softmax_bwd",
                .doc = "dx = dy - exp(y) times the sum of dy over the last dimension.",
                .in = {FLOAT("dy"), FLOAT("y", SAME(0))},
                .out = {FLOAT("dx")},
                .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
                IN_PLACE(0, 0),
                .infer = dt_infer_same,
                .flops = bn_flops,
            },
        [DT_OP_MAXPOOL_BWD] =
            {
                .name = "maxpool_bwd",
                .doc = "dx = sum of dy over the windows whose maximum an element was.",
                .in = {T("dy", .rank = 4), {.name = "idx", .type = DT_SLOT_U8, SAME(0)}},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL,
                .attr = {WINDOW, A(window, size)},
                .infer = dt_infer_pool_bwd,
            },
        [DT_OP_AVGPOOL_BWD] =
            {
                .name = "avgpool_bwd",
                .doc = "dx = sum of dy / (R S) over the windows that cover an element.",
                .in = {T("dy", .rank = 4)},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL,
                .attr = {WINDOW, A(window, size)},
                .infer = dt_infer_pool_bwd,
            },
        [DT_OP_GLOBAL_AVGPOOL_BWD] =
            {
                .name = "global_avgpool_bwd",
                .doc = "dx [N,H,W,C] = dy [N,C] / (H W).",
                .in = {T("dy", .rank = 2)},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL,
                .attr = {A(window, size)},
                .infer = dt_infer_global_avgpool_bwd,
            },
        [DT_OP_SLICE_BWD] =
            {
                .name = "slice_bwd",
                .doc = "dx = dy from begin on along a dimension of length, 0 elsewhere.",
                .in = {ANY("dy")},
                .out = {ANY("dx")},
                .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
                .attr = {A(shape, axis), A(shape, begin), A(shape, length)},
                .infer = dt_infer_slice_bwd,
            },
        [DT_OP_DROPOUT_BWD] =
            {
                .name = "dropout_bwd",
                .doc = "dx = dy * keep / (1-p): dropout's own map.",
                .in = {T("dy")},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
                IN_PLACE(0, 0),
                .attr = {A(dropout, p), A(dropout, salt)},
                .infer = dt_infer_same,
            },
        [DT_OP_XENT_BWD] =
            {
                .name = "xent_bwd",
                .doc = "dlogits [N,K] = (prob - target) * weight * loss_weight * loss_scale, target with the "
                       "smoothing of xent; 0 where label < 0 or valid is 0.",
                .in = {F32("prob", .rank = 2),
                       {.name = "label", .type = DT_SLOT_I32, LEN(0, 0)},
                       {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(0, 0)}},
                .out = {T("dlogits")},
                .flags = DT_OP_INTERNAL,
                .attr = {A(loss, weight), A(loss, smoothing)},
                .infer = dt_infer_xent_bwd,
            },
        [DT_OP_LOSS_BWD] =
            {
                .name = "loss_bwd",
                .doc = "dx = slope of loss at each element * weight * loss_weight * loss_scale / elements of "
                       "a row; 0 where valid is 0.",
                .in = {T("x"),
                       F32("target", OPT),
                       {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(DT_LOSS_IN_X, 0)}},
                .out = {T("dx")},
                .flags = DT_OP_INTERNAL,
                IN_PLACE(0, 0),
                .attr = {A(loss, weight), A(loss, kind), A(loss, param)},
                .infer = dt_infer_loss_bwd,
            },
};
_Static_assert(sizeof op_table / sizeof op_table[0] == DT_OP_COUNT, "a row per op");

const dt_op_row *dt_op_get(dt_op op) {
    return &op_table[op];
}

dt_attr dt_op_attr(dt_op op, const dt_attr *from) {
    dt_attr a = {0};
    for (const dt_attr_row *row = op_table[op].attr; row->name; row++)
        memcpy(a.bytes + row->offset, from->bytes + row->offset, row->size);
    return a;
}

dt_dtype dt_op_type(const dt_graph *g, const dt_node *n) {
    for (int32_t i = 0; i < n->n_in; i++) {
        const dt_slot_type type = dt_op_in(n->op, i)->type;
        if (n->in[i] < 0 || (type != DT_SLOT_T && type != DT_SLOT_FLOAT)) continue;
        const dt_dtype is = g->value[n->in[i]].dtype;
        return dt_dtype_is_float(is) ? is : g->compute;
    }
    return g->compute;
}

const char *dt_op_name(const dt_node *n) {
    switch (n->op) {
    case DT_OP_UNARY:
        return dt_unary_table[n->attr.unary.fn].name;
    case DT_OP_UNARY_BWD:
        return dt_unary_table[n->attr.unary.fn].grad_name;
    case DT_OP_BINARY:
        return dt_binary_table[n->attr.binary.fn].name;
    case DT_OP_BINARY_BWD:
        return dt_binary_table[n->attr.binary.fn].grad_name;
    default:
        return op_table[n->op].name;
    }
}

bool dt_op_is_idle(const dt_graph *g, const dt_node *n) {
    if (op_table[n->op].flags & DT_OP_VIEW) return true;
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && dt_value_n_elem(&g->value[n->out[i]]) > 0) return false;
    return true;
}

bool dt_op_is_sum(const dt_graph *g, const dt_node *n) {
    return n->op == DT_OP_BINARY && n->attr.binary.fn == DT_BINARY_ADD &&
           dt_infer_same_dims(dt_infer_in(g, n, 0), dt_infer_in(g, n, 1));
}

static int32_t count(const dt_slot *slot) {
    int32_t n = 0;
    while (slot[n].name) n++;
    return n;
}

const dt_slot *dt_op_in(dt_op op, int32_t i) {
    const int32_t last = count(op_table[op].in) - 1;
    return &op_table[op].in[i > last && op_table[op].in[last].many ? last : i];
}

int32_t dt_op_n_in(dt_op op) {
    return count(op_table[op].in);
}

int32_t dt_op_n_out(dt_op op) {
    return count(op_table[op].out);
}

double dt_op_bytes(const dt_graph *g, const dt_node *n) {
    if (op_table[n->op].flags & DT_OP_VIEW) return 0;
    int64_t bytes = 0;
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0) bytes += dt_value_bytes(&g->value[n->in[i]]);
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0) bytes += dt_value_bytes(&g->value[n->out[i]]);
    return (double)bytes;
}

double dt_op_flops(const dt_graph *g, const dt_node *n) {
    if (op_table[n->op].flags & DT_OP_VIEW) return 0;
    if (op_table[n->op].flops) return op_table[n->op].flops(g, n);
    return (double)dt_value_n_elem(&g->value[n->out[0]]);
}
