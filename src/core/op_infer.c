/* Shape rules: what each op makes of its operands. Every rule refuses what the kernels could not do. */
#include "op_infer.h"

#include "core/step.h"

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
static dt_status windows_out(const dt_window_attr *t, int64_t h, int64_t w, int64_t *p, int64_t *q) {
    *p = *q = 0;
    DT_TRY(window_out(t, 0, h, p));
    return window_out(t, 1, w, q);
}

dt_status dt_infer_input(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *v = dt_infer_in(g, n, DT_INPUT_IMAGE);
    const dt_input_attr *t = &n->attr.input;
    if (v->dim[3] > 4)
        return dt_fail(DT_ERR_CONFIG, "input %s is %s, expected at most 4 channels", v->name,
                       dt_value_shape_text(v));
    if (t->padded_c < v->dim[3])
        return dt_fail(DT_ERR_CONFIG, "padded channels (%d) fewer than the image's (%lld)", t->padded_c,
                       (long long)v->dim[3]);
    if (dt_node_has(n, DT_INPUT_AUG)) {
        const dt_value *aug = dt_infer_in(g, n, DT_INPUT_AUG);
        if (aug->dim[0] != v->dim[0] || aug->dim[1] != 8)
            return dt_fail(DT_ERR_CONFIG, "windows %s are %s, expected [%lld,8] i32", aug->name,
                           dt_value_shape_text(aug), (long long)v->dim[0]);
    } else if (v->dim[1] != t->size[0] || v->dim[2] != t->size[1]) {
        return dt_fail(DT_ERR_CONFIG, "the image is %lldx%lld, the model's input %dx%d", (long long)v->dim[1],
                       (long long)v->dim[2], t->size[0], t->size[1]);
    }
    for (int64_t c = 0; c < v->dim[3]; c++)
        if (!(t->stddev[c] > 0)) return dt_fail(DT_ERR_CONFIG, "the standard deviation must be positive");
    DT_INFER_SET(&out[0], dt_op_type(g, n), v->dim[0], t->size[0], t->size[1], t->padded_c);
    return DT_OK;
}

dt_status dt_infer_conv(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_window_attr *t = &n->attr.window;
    const dt_value *x = dt_infer_in(g, n, DT_CONV_IN_X), *w = dt_infer_in(g, n, DT_CONV_IN_W);
    const bool applied = dt_node_has(n, DT_CONV_IN_SCALE);
    const int64_t c = x->dim[3], k = w->dim[0], groups = t->groups;
    int64_t p, q;
    if (applied && (dt_node_has(n, DT_CONV_IN_BIAS) || dt_node_has(n, DT_CONV_IN_PRE_SCALE) ||
                    dt_node_makes(n, DT_CONV_OUT_STATS)))
        return dt_fail(DT_ERR_CONFIG, "a normalised result beside a bias, a prologue or statistics");
    if (groups < 1 || c % groups || k % groups)
        return dt_fail(DT_ERR_CONFIG, "groups %d does not divide %lld input and %lld output channels",
                       t->groups, (long long)c, (long long)k);
    if (w->dim[1] != t->kernel[0] || w->dim[2] != t->kernel[1] || w->dim[3] != c / groups)
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s, expected [K,%d,%d,%lld]", w->name,
                       dt_value_shape_text(w), t->kernel[0], t->kernel[1], (long long)(c / groups));
    DT_TRY(windows_out(t, x->dim[1], x->dim[2], &p, &q));
    DT_INFER_SET(&out[DT_CONV_OUT_Y], dt_op_type(g, n), x->dim[0], p, q, k);
    DT_INFER_SET(&out[DT_CONV_OUT_STATS], DT_DTYPE_F32, 2, k);
    if (dt_node_has(n, DT_CONV_IN_RES) && !dt_infer_same_dims(&out[0], dt_infer_in(g, n, DT_CONV_IN_RES)))
        return dt_infer_misfit(g, n, DT_CONV_IN_RES);
    return DT_OK;
}

/* Like v with another last dimension. */
static void set_last(dt_value *out, const dt_value *v, int64_t last) {
    dt_infer_like(out, v);
    out->dim[out->ndim - 1] = last;
}

dt_status dt_infer_dense(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_DENSE_IN_X), *w = dt_infer_in(g, n, DT_DENSE_IN_W);
    if (w->dim[1] != dt_infer_last(x))
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s, expected [K,%lld]", w->name, dt_value_shape_text(w),
                       (long long)dt_infer_last(x));
    set_last(&out[0], x, w->dim[0]);
    return DT_OK;
}

dt_status dt_infer_batchnorm(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_BN_IN_X);
    const int64_t c = dt_infer_last(x), rows = dt_value_n_elem(x) / c;
    if (!(n->attr.norm.eps > 0)) return dt_fail(DT_ERR_CONFIG, "eps must be positive");
    if (g->training && rows < 2)
        return dt_fail(DT_ERR_CONFIG, "batch statistics need more than one value per channel (%s)",
                       dt_value_shape_text(x));
    if (rows > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG, "more than 2^31 - 1 values per channel (%s): a smaller batch or image",
                       dt_value_shape_text(x));
    dt_infer_like(&out[DT_BN_OUT_Y], x);
    for (int32_t i = DT_BN_OUT_MEAN; i <= DT_BN_OUT_SHIFT; i++) DT_INFER_SET(&out[i], DT_DTYPE_F32, c);
    return DT_OK;
}

/* One output like the first input. */
dt_status dt_infer_same(const dt_graph *g, const dt_node *n, dt_value *out) {
    dt_infer_like(&out[0], dt_infer_in(g, n, 0));
    return DT_OK;
}

/* The pooled image of v. */
static dt_status infer_pool(const dt_window_attr *t, const dt_value *v, dt_value *out) {
    int64_t p, q;
    for (int32_t a = 0; a < 2; a++)
        if (dt_max_i64(t->pad_begin[a], t->pad_end[a]) > t->kernel[a] / 2)
            return dt_fail(DT_ERR_CONFIG, "padding %d and %d: more than half the window %d", t->pad_begin[a],
                           t->pad_end[a], t->kernel[a]);
    DT_TRY(windows_out(t, v->dim[1], v->dim[2], &p, &q));
    DT_INFER_SET(out, v->dtype, v->dim[0], p, q, v->dim[3]);
    return DT_OK;
}

dt_status dt_infer_maxpool(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_window_attr *t = &n->attr.window;
    DT_TRY(infer_pool(t, dt_infer_in(g, n, DT_MAXPOOL_IN_X), &out[DT_MAXPOOL_OUT_Y]));
    if (t->kernel[0] * t->kernel[1] > 255)
        return dt_fail(DT_ERR_CONFIG, "a window of %dx%d is more than 255 elements", t->kernel[0],
                       t->kernel[1]);
    dt_infer_like(&out[DT_MAXPOOL_OUT_IDX], &out[DT_MAXPOOL_OUT_Y]);
    out[DT_MAXPOOL_OUT_IDX].dtype = DT_DTYPE_U8;
    return DT_OK;
}

dt_status dt_infer_avgpool(const dt_graph *g, const dt_node *n, dt_value *out) {
    return infer_pool(&n->attr.window, dt_infer_in(g, n, 0), &out[0]);
}

dt_status dt_infer_global_avgpool(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    DT_INFER_SET(&out[0], x->dtype, x->dim[0], x->dim[3]);
    return DT_OK;
}

dt_status dt_infer_reshape(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    int64_t rest = 1;
    for (int32_t i = 1; i < x->ndim; i++) rest *= x->dim[i];
    const int64_t h = n->attr.shape.size[0], w = n->attr.shape.size[1];
    if (h == 0) {
        DT_INFER_SET(&out[0], x->dtype, x->dim[0], rest);
        return DT_OK;
    }
    if (h < 0 || w < 1 || rest % (h * w))
        return dt_fail(DT_ERR_CONFIG, "%lld elements a sample do not make a %lldx%lld image", (long long)rest,
                       (long long)h, (long long)w);
    DT_INFER_SET(&out[0], x->dtype, x->dim[0], h, w, rest / (h * w));
    return DT_OK;
}

dt_status dt_infer_dropout(const dt_graph *g, const dt_node *n, dt_value *out) {
    if (!(n->attr.dropout.p >= 0 && n->attr.dropout.p < 1))
        return dt_fail(DT_ERR_CONFIG, "dropout rate %g is not in [0, 1)", (double)n->attr.dropout.p);
    return dt_infer_same(g, n, out);
}

dt_status dt_infer_bn_stats(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_INFER_SET(&out[0], DT_DTYPE_F32, 2, dt_infer_last(dt_infer_in(g, n, 0)));
    return DT_OK;
}

dt_status dt_infer_bn_finalize(const dt_graph *g, const dt_node *n, dt_value *out) {
    if (n->attr.norm.rows < 2) return dt_fail(DT_ERR_CONFIG, "statistics over %d rows", n->attr.norm.rows);
    for (int32_t i = 0; i < n->n_out; i++)
        DT_INFER_SET(&out[i], DT_DTYPE_F32, dt_infer_in(g, n, DT_FINALIZE_IN_GAMMA)->dim[0]);
    return DT_OK;
}

dt_status dt_infer_bn_fold(const dt_graph *g, const dt_node *n, dt_value *out) {
    for (int32_t i = 0; i < n->n_out; i++) dt_infer_like(&out[i], dt_infer_in(g, n, 0));
    return DT_OK;
}

static void set_sums(const dt_graph *g, const dt_node *n, int64_t c, dt_value *dgamma, dt_value *dbeta,
                     dt_value *coef) {
    DT_INFER_SET(dgamma, dt_op_type(g, n), c);
    DT_INFER_SET(dbeta, dt_op_type(g, n), c);
    DT_INFER_SET(coef, DT_DTYPE_F32, 3, c);
}

/* dy [N,P,Q,K], w [K,R,S,C/G] and attr.size agree. */
dt_status dt_infer_conv_dgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
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
    DT_TRY(windows_out(t, t->size[0], t->size[1], &p, &q));
    if (p != dy->dim[1] || q != dy->dim[2])
        return dt_fail(DT_ERR_CONFIG, "gradient %s is %s, expected a %lldx%lld image", dy->name,
                       dt_value_shape_text(dy), (long long)p, (long long)q);
    DT_INFER_SET(&out[DT_DGRAD_OUT_DX], dt_op_type(g, n), dy->dim[0], t->size[0], t->size[1], c);
    for (int32_t i = DT_DGRAD_IN_DX2; i <= DT_DGRAD_IN_C; i++)
        if (dt_node_has(n, i) && !dt_infer_same_dims(&out[DT_DGRAD_OUT_DX], dt_infer_in(g, n, i)))
            return dt_infer_misfit(g, n, i);
    set_sums(g, n, c, &out[DT_DGRAD_OUT_DGAMMA], &out[DT_DGRAD_OUT_DBETA], &out[DT_DGRAD_OUT_COEF]);
    return DT_OK;
}

dt_status dt_infer_conv_wgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_window_attr *t = &n->attr.window;
    const dt_value *x = dt_infer_in(g, n, DT_WGRAD_IN_X), *dy = dt_infer_in(g, n, DT_WGRAD_IN_DY);
    const int64_t c = x->dim[3], k = dy->dim[3];
    int64_t p, q;
    DT_TRY(windows_out(t, x->dim[1], x->dim[2], &p, &q));
    if (t->groups < 1 || c % t->groups || k % t->groups || p != dy->dim[1] || q != dy->dim[2] ||
        x->dim[0] != dy->dim[0])
        return dt_infer_misfit(g, n, DT_WGRAD_IN_DY);
    DT_INFER_SET(&out[0], dt_op_type(g, n), k, t->kernel[0], t->kernel[1], c / t->groups);
    return DT_OK;
}

dt_status dt_infer_dense_dgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0), *w = dt_infer_in(g, n, 1);
    if (w->dim[0] != dt_infer_last(dy)) return dt_infer_misfit(g, n, 1);
    set_last(&out[0], dy, w->dim[1]);
    return DT_OK;
}

dt_status dt_infer_dense_wgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0), *dy = dt_infer_in(g, n, 1);
    dt_value like_x;
    set_last(&like_x, dy, dt_infer_last(x));
    if (!dt_infer_same_dims(x, &like_x)) return dt_infer_misfit(g, n, 1);
    DT_INFER_SET(&out[0], dt_op_type(g, n), dt_infer_last(dy), dt_infer_last(x));
    return DT_OK;
}

dt_status dt_infer_bias_grad(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_INFER_SET(&out[0], dt_op_type(g, n), dt_infer_last(dt_infer_in(g, n, 0)));
    return DT_OK;
}

/* The gradient is there once: as it is, or in slot dyp to be gathered from the pooled image of c. */
static dt_status need_one_gradient(const dt_graph *g, const dt_node *n, int32_t dy, int32_t c, int32_t dyp) {
    dt_value pooled = {0};
    if (dt_node_has(n, dy) == dt_node_has(n, dyp))
        return dt_fail(DT_ERR_CONFIG, "the gradient must be given once: dy or dyp");
    if (!dt_node_has(n, dyp)) return DT_OK;
    if (dt_infer_in(g, n, c)->ndim != 4) return dt_infer_misfit(g, n, c);
    DT_TRY(infer_pool(&n->attr.window, dt_infer_in(g, n, c), &pooled));
    return dt_infer_same_dims(dt_infer_in(g, n, dyp), &pooled) ? DT_OK : dt_infer_misfit(g, n, dyp);
}

dt_status dt_infer_bn_reduce(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *c = dt_infer_in(g, n, DT_REDUCE_IN_C);
    DT_TRY(need_one_gradient(g, n, DT_REDUCE_IN_DY, DT_REDUCE_IN_C, DT_REDUCE_IN_DYP));
    if (dt_node_has(n, DT_REDUCE_IN_Y) && dt_node_has(n, DT_REDUCE_IN_SCALE))
        return dt_fail(DT_ERR_CONFIG, "two kinds of mask for one gradient");
    if (dt_node_has(n, DT_REDUCE_IN_DYP) && dt_node_makes(n, DT_REDUCE_OUT_DZ))
        return dt_fail(DT_ERR_CONFIG, "a gathered gradient is not written");
    set_sums(g, n, dt_infer_last(c), &out[DT_REDUCE_OUT_DGAMMA], &out[DT_REDUCE_OUT_DBETA],
             &out[DT_REDUCE_OUT_COEF]);
    dt_infer_like(&out[DT_REDUCE_OUT_DZ], c);
    return DT_OK;
}

dt_status dt_infer_bn_dx(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_one_gradient(g, n, DT_DX_IN_DY, DT_DX_IN_C, DT_DX_IN_DYP));
    dt_infer_like(&out[0], dt_infer_in(g, n, DT_DX_IN_C));
    return DT_OK;
}

dt_status dt_infer_pool_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0);
    int64_t p, q;
    DT_TRY(windows_out(&n->attr.window, n->attr.window.size[0], n->attr.window.size[1], &p, &q));
    if (p != dy->dim[1] || q != dy->dim[2]) return dt_infer_misfit(g, n, 0);
    DT_INFER_SET(&out[0], dy->dtype, dy->dim[0], n->attr.window.size[0], n->attr.window.size[1], dy->dim[3]);
    return DT_OK;
}

dt_status dt_infer_global_avgpool_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0);
    const int32_t *size = n->attr.window.size;
    if (size[0] < 1 || size[1] < 1) return dt_fail(DT_ERR_CONFIG, "an image of %dx%d", size[0], size[1]);
    DT_INFER_SET(&out[0], dy->dtype, dy->dim[0], size[0], size[1], dy->dim[1]);
    return DT_OK;
}
