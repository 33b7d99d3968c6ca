/* Convolutions, and the windows that pools share with them. */
#include "op_row.h"

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

/* Output size of a window along axis a; fails when the window does not fit. */
static dt_status window_out(const dt_window_attr *t, int32_t a, int64_t in, int64_t *out) {
    int64_t dilation = t->dilation[a] > 0 ? t->dilation[a] : 1;
    const int32_t begin = t->pad_begin[a], end = t->pad_end[a];
    if (t->kernel[a] < 1 || t->stride[a] < 1 || begin < 0 || end < 0 || t->dilation[a] < 0)
        return dt_fail(DT_ERR_CONFIG, "kernel %d, stride %d, padding %d and %d, dilation %d: not a window",
                       t->kernel[a], t->stride[a], begin, end, t->dilation[a]);
    int64_t span = dilation * (t->kernel[a] - 1) + 1;
    const int64_t side = in + begin + end;
    if (side < span)
        return dt_fail(DT_ERR_CONFIG,
                       "a window of %lld does not fit an image side of %lld with padding %d and %d",
                       (long long)span, (long long)in, begin, end);
    *out = (side - span) / t->stride[a] + 1;
    return DT_OK;
}

/* P and Q of an image of h x w. */
dt_status dt_infer_windows(const dt_window_attr *t, int64_t h, int64_t w, int64_t *p, int64_t *q) {
    *p = *q = 0;
    DT_TRY(window_out(t, 0, h, p));
    return window_out(t, 1, w, q);
}

void dt_infer_bn_sums(const dt_graph *g, const dt_node *n, int64_t c, dt_value *dgamma, dt_value *dbeta,
                      dt_value *coef) {
    DT_INFER_SET(dgamma, dt_op_type(g, n), c);
    DT_INFER_SET(dbeta, dt_op_type(g, n), c);
    DT_INFER_SET(coef, DT_DTYPE_F32, 3, c);
}

/* Of a convolution or pool. */
dt_attr dt_grad_window(const dt_graph *g, const dt_attr *attr, dt_vid image) {
    dt_attr t = *attr;
    t.window.size[0] = (int32_t)g->value[image].dim[1];
    t.window.size[1] = (int32_t)g->value[image].dim[2];
    return t;
}

/* The pooled image of v. */
dt_status dt_infer_pooled(const dt_window_attr *t, const dt_value *v, dt_value *out) {
    int64_t p, q;
    for (int32_t a = 0; a < 2; a++)
        if (dt_max_i64(t->pad_begin[a], t->pad_end[a]) > t->kernel[a] / 2)
            return dt_fail(DT_ERR_CONFIG, "padding %d and %d: more than half the window %d", t->pad_begin[a],
                           t->pad_end[a], t->kernel[a]);
    DT_TRY(dt_infer_windows(t, v->dim[1], v->dim[2], &p, &q));
    DT_INFER_SET(out, v->dtype, v->dim[0], p, q, v->dim[3]);
    return DT_OK;
}

static dt_status infer_conv(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_window_attr *t = &n->attr.window;
    const dt_value *x = dt_infer_in(g, n, DT_CONV_IN_X), *w = dt_infer_in(g, n, DT_CONV_IN_W);
    const bool applied = dt_node_has(n, DT_CONV_IN_SCALE);
    const int64_t c = x->dim[3], k = w->dim[0], groups = t->groups;
    int64_t p, q;
    if (applied && (dt_node_has(n, DT_CONV_IN_BIAS) || dt_node_has(n, DT_CONV_IN_PRE_SCALE) ||
                    dt_node_makes(n, DT_CONV_OUT_STATS)))
        return dt_fail(DT_ERR_CONFIG, "a normalised result beside a bias, a prologue or statistics");
    if ((t->act || dt_node_has(n, DT_CONV_IN_RES)) &&
        (dt_node_has(n, DT_CONV_IN_PRE_SCALE) || dt_node_makes(n, DT_CONV_OUT_STATS)))
        return dt_fail(DT_ERR_CONFIG, "a function or a sum at the end, beside a prologue or statistics");
    DT_TRY(dt_infer_act(t->act));
    if (groups < 1 || c % groups || k % groups)
        return dt_fail(DT_ERR_CONFIG, "groups %d does not divide %lld input and %lld output channels",
                       t->groups, (long long)c, (long long)k);
    if (w->dim[1] != t->kernel[0] || w->dim[2] != t->kernel[1] || w->dim[3] != c / groups)
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s, expected [K,%d,%d,%lld]", w->name,
                       dt_value_shape_text(w), t->kernel[0], t->kernel[1], (long long)(c / groups));
    DT_TRY(dt_infer_windows(t, x->dim[1], x->dim[2], &p, &q));
    DT_INFER_SET(&out[DT_CONV_OUT_Y], dt_op_type(g, n), x->dim[0], p, q, k);
    DT_INFER_SET(&out[DT_CONV_OUT_STATS], DT_DTYPE_F32, 2, k);
    if (dt_node_has(n, DT_CONV_IN_RES) && !dt_infer_same_dims(&out[0], dt_infer_in(g, n, DT_CONV_IN_RES)))
        return dt_infer_misfit(g, n, DT_CONV_IN_RES);
    return DT_OK;
}

/* dy [N,P,Q,K], w [K,R,S,C/G] and attr.size agree. */
static dt_status infer_conv_dgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_window_attr *t = &n->attr.window;
    const dt_value *dy = dt_infer_in(g, n, DT_DGRAD_IN_DY), *w = dt_infer_in(g, n, DT_DGRAD_IN_W);
    const bool sums = dt_node_has(n, DT_DGRAD_IN_C);
    const int64_t c = w->dim[3] * t->groups;
    int64_t p, q;
    if (sums && (dt_node_has(n, DT_DGRAD_IN_DX2) || dt_node_has(n, DT_DGRAD_IN_Y)))
        return dt_fail(DT_ERR_CONFIG, "two kinds of mask for one gradient");
    for (int32_t i = DT_DGRAD_OUT_DGAMMA; i <= DT_DGRAD_OUT_COEF; i++)
        if (dt_node_makes(n, i) != sums)
            return dt_fail(DT_ERR_CONFIG, "sums go with the input of batch norm");
    if (t->groups < 1 || w->dim[0] != dy->dim[3] || w->dim[1] != t->kernel[0] || w->dim[2] != t->kernel[1] ||
        w->dim[0] % t->groups)
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s: it does not fit", w->name, dt_value_shape_text(w));
    DT_TRY(dt_infer_windows(t, t->size[0], t->size[1], &p, &q));
    if (p != dy->dim[1] || q != dy->dim[2])
        return dt_fail(DT_ERR_CONFIG, "gradient %s is %s, expected a %lldx%lld image", dy->name,
                       dt_value_shape_text(dy), (long long)p, (long long)q);
    DT_INFER_SET(&out[DT_DGRAD_OUT_DX], dt_op_type(g, n), dy->dim[0], t->size[0], t->size[1], c);
    for (int32_t i = DT_DGRAD_IN_DX2; i <= DT_DGRAD_IN_C; i++)
        if (dt_node_has(n, i) && !dt_infer_same_dims(&out[DT_DGRAD_OUT_DX], dt_infer_in(g, n, i)))
            return dt_infer_misfit(g, n, i);
    dt_infer_bn_sums(g, n, c, &out[DT_DGRAD_OUT_DGAMMA], &out[DT_DGRAD_OUT_DBETA], &out[DT_DGRAD_OUT_COEF]);
    return DT_OK;
}

static dt_status infer_conv_wgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_window_attr *t = &n->attr.window;
    const dt_value *x = dt_infer_in(g, n, DT_WGRAD_IN_X), *dy = dt_infer_in(g, n, DT_WGRAD_IN_DY);
    const int64_t c = x->dim[3], k = dy->dim[3];
    int64_t p, q;
    DT_TRY(dt_infer_windows(t, x->dim[1], x->dim[2], &p, &q));
    if (t->groups < 1 || c % t->groups || k % t->groups || p != dy->dim[1] || q != dy->dim[2] ||
        x->dim[0] != dy->dim[0])
        return dt_infer_misfit(g, n, DT_WGRAD_IN_DY);
    DT_INFER_SET(&out[0], dt_op_type(g, n), k, t->kernel[0], t->kernel[1], c / t->groups);
    return DT_OK;
}

static dt_status grad_conv(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid x = n.in[DT_CONV_IN_X], w = n.in[DT_CONV_IN_W], bias = n.in[DT_CONV_IN_BIAS], dy = dout[0];
    if (n.attr.window.act || dt_node_has(&n, DT_CONV_IN_RES) || dt_node_has(&n, DT_CONV_IN_SCALE))
        return dt_fail(DT_ERR_INTERNAL, "a fused convolution is not differentiated");
    const dt_attr t = dt_grad_window(g, &n.attr, x);
    /* The weight gradient first: its bucket can start while the data gradient runs. */
    if (want[DT_CONV_IN_W])
        DT_TRY(dt_grad_add_node(g, w, DT_OP_CONV_WGRAD, &t, 2, (dt_vid[]){x, dy}, &din[DT_CONV_IN_W]));
    if (want[DT_CONV_IN_BIAS])
        DT_TRY(dt_grad_add_of(g, bias, DT_OP_BIAS_GRAD, NULL, dy, &din[DT_CONV_IN_BIAS]));
    if (want[DT_CONV_IN_X])
        DT_TRY(dt_grad_add_node(g, x, DT_OP_CONV_DGRAD, &t, 2, (dt_vid[]){dy, w}, &din[DT_CONV_IN_X]));
    return DT_OK;
}

/* As a layer it is the transposed convolution: its own gradients are a convolution and its weight gradient, with
 * image and result in each other's place. */
static dt_status grad_conv_dgrad(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid y = n.in[DT_DGRAD_IN_DY], w = n.in[DT_DGRAD_IN_W];
    for (int32_t i = DT_DGRAD_IN_DX2; i < n.n_in; i++)
        if (n.in[i] >= 0) return dt_fail(DT_ERR_INTERNAL, "a fused gradient is not differentiated again");
    if (want[DT_DGRAD_IN_W])
        DT_TRY(dt_grad_add_node(g, w, DT_OP_CONV_WGRAD, &n.attr, 2, (dt_vid[]){dout[0], y},
                                &din[DT_DGRAD_IN_W]));
    if (want[DT_DGRAD_IN_DY])
        DT_TRY(dt_grad_add_node(g, y, DT_OP_CONV, &n.attr, 2, (dt_vid[]){dout[0], w}, &din[DT_DGRAD_IN_DY]));
    return DT_OK;
}

static double conv_flops(const dt_graph *g, const dt_node *n) {
    dt_conv_dims d = dt_op_conv_dims(g, n);
    return 2.0 * (double)(d.n * d.p * d.q) * (double)d.k * (double)(d.r * d.s * (d.c / d.groups));
}

const dt_op_row dt_row_conv = {
    .name = "conv",
    .doc =
        "y [N,P,Q,K] = x [N,H,W,C] * w [K,R,S,C/G] + bias, cross-correlation as PyTorch's "
        "Conv2d, P = (H + pad_begin + pad_end - dilation (R-1) - 1) / stride + 1. With "
        "pre_scale x is relu(x * pre_scale + pre_shift). y = act(y + res); with scale act(y * scale + shift "
        "+ res [* res_scale + res_shift]). act: 1 + a function without scalars, 0 none. "
        "stats: sum and sum of squares of y per channel.",
    .in = {T("x", .rank = 4), WEIGHT("w", .rank = 4), FLOAT("bias", OPT, LEN(DT_CONV_IN_W, 0)),
           F32("pre_scale", OPT, LEN(DT_CONV_IN_X, LAST), NEEDS(DT_CONV_IN_PRE_SHIFT)),
           F32("pre_shift", OPT, LEN(DT_CONV_IN_X, LAST), NEEDS(DT_CONV_IN_PRE_SCALE)),
           F32("scale", OPT, LEN(DT_CONV_IN_W, 0), NEEDS(DT_CONV_IN_SHIFT)),
           F32("shift", OPT, LEN(DT_CONV_IN_W, 0), NEEDS(DT_CONV_IN_SCALE)), T("res", OPT),
           F32("res_scale", OPT, LEN(DT_CONV_IN_W, 0),
               .needs = 1u << DT_CONV_IN_SCALE | 1u << DT_CONV_IN_RES | 1u << DT_CONV_IN_RES_SHIFT),
           F32("res_shift", OPT, LEN(DT_CONV_IN_W, 0), NEEDS2(DT_CONV_IN_RES, DT_CONV_IN_RES_SCALE))},
    .out = {T("y"), F32("stats", OPT)},
    .attr = {CONVOLUTION, A(window, act)},
    .infer = infer_conv,
    .grad = grad_conv,
    .flops = conv_flops,
};

const dt_op_row dt_row_conv_dgrad = {
    .name = "conv_dgrad",
    .doc = "dx = gradient of conv's x: the transposed convolution, PyTorch's ConvTranspose2d, of size. dx2 "
           "is added, then what is not y > 0 is 0. With c dx is "
           "the masked gradient dz of bn_reduce (c * scale + shift > 0), and dgamma, dbeta, coef "
           "are its sums.",
    .in = {T("dy", .rank = 4), T("w", .rank = 4), T("dx2", OPT, .rank = 4), T("y", OPT, .rank = 4),
           T("c", OPT, .rank = 4,
             .needs = 1u << DT_DGRAD_IN_MEAN | 1u << DT_DGRAD_IN_INVSTD | 1u << DT_DGRAD_IN_GAMMA |
                      1u << DT_DGRAD_IN_SCALE | 1u << DT_DGRAD_IN_SHIFT),
           F32("mean", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
           F32("invstd", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
           F32("gamma", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
           F32("scale", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C)),
           F32("shift", OPT, LEN(DT_DGRAD_IN_C, LAST), NEEDS(DT_DGRAD_IN_C))},
    .out = {T("dx"), T("dgamma", OPT), T("dbeta", OPT), F32("coef", OPT)},
    .attr = {CONVOLUTION, A(window, size)},
    .infer = infer_conv_dgrad,
    .grad = grad_conv_dgrad,
    .flops = conv_flops,
};

const dt_op_row dt_row_conv_wgrad = {
    .name = "conv_wgrad",
    .doc = "dw = gradient of conv's w.",
    .in = {T("x", .rank = 4), T("dy", .rank = 4),
           F32("pre_scale", OPT, LEN(DT_WGRAD_IN_X, LAST), NEEDS(DT_WGRAD_IN_PRE_SHIFT)),
           F32("pre_shift", OPT, LEN(DT_WGRAD_IN_X, LAST), NEEDS(DT_WGRAD_IN_PRE_SCALE))},
    .out = {T("dw")},
    .flags = DT_OP_INTERNAL,
    .attr = {CONVOLUTION},
    .infer = infer_conv_wgrad,
    .flops = conv_flops,
};
