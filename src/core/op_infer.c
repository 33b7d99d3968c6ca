/* Shape rules: what each op takes and makes. Every rule refuses what the kernels could not do. */
#include "op_infer.h"

#include <string.h>

#include "core/step.h"

static const dt_value *in_value(const dt_graph *g, const dt_node *n, int32_t i) {
    return &g->value[n->in[i]];
}

static int64_t last_dim(const dt_value *v) {
    return v->dim[v->ndim - 1];
}

static void set_out(dt_value *out, dt_dtype dtype, int32_t ndim, int64_t a, int64_t b, int64_t c, int64_t d) {
    const int64_t dim[DT_MAX_DIM] = {a, b, c, d};
    out->dtype = dtype;
    out->ndim = ndim;
    memcpy(out->dim, dim, sizeof dim);
}

static void set_like(dt_value *out, const dt_value *v) {
    set_out(out, v->dtype, v->ndim, v->dim[0], v->dim[1], v->dim[2], v->dim[3]);
}

static bool same_shape(const dt_value *a, const dt_value *b) {
    if (a->ndim != b->ndim || a->dtype != b->dtype) return false;
    for (int32_t i = 0; i < a->ndim; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

static dt_status need_image(const dt_graph *g, const dt_node *n, int32_t i) {
    const dt_value *v = in_value(g, n, i);
    if (v->ndim != 4)
        return dt_fail(DT_ERR_CONFIG, "input %s is %s, not an image N H W C", v->name,
                       dt_value_shape_text(v));
    return DT_OK;
}

static dt_status need_compute(const dt_graph *g, const dt_node *n, int32_t i) {
    const dt_value *v = in_value(g, n, i);
    if (v->dtype != g->compute)
        return dt_fail(DT_ERR_CONFIG, "input %s is %s, not of dtype %s", v->name, dt_value_shape_text(v),
                       dt_dtype_name(g->compute));
    return DT_OK;
}

/* Inputs i .. i+count-1 are f32 vectors of n_elem elements. */
static dt_status need_vectors(const dt_graph *g, const dt_node *n, int32_t i, int32_t count, int64_t n_elem) {
    for (int32_t j = i; j < i + count; j++) {
        if (j >= n->n_in)
            return dt_fail(DT_ERR_CONFIG, "%d inputs, expected at least %d", n->n_in, i + count);
        const dt_value *v = in_value(g, n, j);
        if (v->dtype != DT_DTYPE_F32 || dt_value_n_elem(v) != n_elem)
            return dt_fail(DT_ERR_CONFIG, "input %s is %s, expected %lld f32", v->name,
                           dt_value_shape_text(v), (long long)n_elem);
    }
    return DT_OK;
}

static dt_status need_count(const dt_node *n, int32_t expected) {
    if (n->n_in != expected) return dt_fail(DT_ERR_CONFIG, "%d inputs, expected %d", n->n_in, expected);
    return DT_OK;
}

static dt_status need_same(const dt_graph *g, const dt_node *n, int32_t i, int32_t j) {
    const dt_value *a = in_value(g, n, i), *b = in_value(g, n, j);
    if (same_shape(a, b)) return DT_OK;
    char text[96];
    memcpy(text, dt_value_shape_text(a), sizeof text);
    return dt_fail(DT_ERR_CONFIG, "%s is %s but %s is %s", a->name, text, b->name, dt_value_shape_text(b));
}

/* Output size of a window along axis a; fails when the window does not fit. */
static dt_status window_out(const dt_attr *t, int32_t a, int64_t in, int64_t *out) {
    int64_t dilation = t->dilation[a] > 0 ? t->dilation[a] : 1;
    if (t->kernel[a] < 1 || t->stride[a] < 1 || t->pad[a] < 0 || t->dilation[a] < 0)
        return dt_fail(DT_ERR_CONFIG, "kernel %d, stride %d, padding %d, dilation %d: not a window",
                       t->kernel[a], t->stride[a], t->pad[a], t->dilation[a]);
    int64_t span = dilation * (t->kernel[a] - 1) + 1;
    if (in + 2 * t->pad[a] < span)
        return dt_fail(DT_ERR_CONFIG, "a window of %lld does not fit an image side of %lld with padding %d",
                       (long long)span, (long long)in, t->pad[a]);
    *out = (in + 2 * t->pad[a] - span) / t->stride[a] + 1;
    return DT_OK;
}

dt_status dt_infer_input(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *v = in_value(g, n, 0);
    DT_TRY(need_image(g, n, 0));
    DT_TRY(need_count(n, n->attr.source_crop ? 2 : 1));
    if (v->dtype != DT_DTYPE_U8 || v->dim[3] > 4)
        return dt_fail(DT_ERR_CONFIG, "input %s is %s, expected u8 with at most 4 channels", v->name,
                       dt_value_shape_text(v));
    if (n->attr.groups < v->dim[3])
        return dt_fail(DT_ERR_CONFIG, "padded channels (%d) fewer than the image's (%lld)", n->attr.groups,
                       (long long)v->dim[3]);
    if (!n->attr.source_crop && (v->dim[1] != n->attr.size[0] || v->dim[2] != n->attr.size[1]))
        return dt_fail(DT_ERR_CONFIG, "the image is %lldx%lld, the model's input %dx%d", (long long)v->dim[1],
                       (long long)v->dim[2], n->attr.size[0], n->attr.size[1]);
    if (n->attr.source_crop) {
        const dt_value *aug = in_value(g, n, 1);
        if (aug->dtype != DT_DTYPE_I32 || aug->ndim != 2 || aug->dim[0] != v->dim[0] || aug->dim[1] != 8)
            return dt_fail(DT_ERR_CONFIG, "windows %s are %s, expected [%lld,8] i32", aug->name,
                           dt_value_shape_text(aug), (long long)v->dim[0]);
    }
    for (int64_t c = 0; c < v->dim[3]; c++)
        if (!(n->attr.stddev[c] > 0))
            return dt_fail(DT_ERR_CONFIG, "the standard deviation must be positive");
    *n_out = 1;
    set_out(&out[0], g->compute, 4, v->dim[0], n->attr.size[0], n->attr.size[1], n->attr.groups);
    return DT_OK;
}

dt_status dt_infer_conv(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_attr *t = &n->attr;
    DT_TRY(need_image(g, n, 0));
    DT_TRY(need_image(g, n, 1));
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_compute(g, n, 1));
    const int32_t n_apply =
        t->apply ? 2 + (t->residual ? 1 : 0) + (t->residual && t->residual_scaled ? 2 : 0) : 0;
    DT_TRY(need_count(n, 2 + (t->bias ? 1 : 0) + (t->prologue ? 2 : 0) + n_apply));
    if (t->apply && (t->bias || t->prologue || t->stats))
        return dt_fail(DT_ERR_CONFIG, "a normalised result beside a bias, a prologue or statistics");
    const dt_value *x = in_value(g, n, 0), *w = in_value(g, n, 1);
    int64_t c = x->dim[3], k = w->dim[0], groups = t->groups;
    if (groups < 1 || c % groups || k % groups)
        return dt_fail(DT_ERR_CONFIG, "groups %d does not divide %lld input and %lld output channels",
                       t->groups, (long long)c, (long long)k);
    if (w->dim[1] != t->kernel[0] || w->dim[2] != t->kernel[1] || w->dim[3] != c / groups)
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s, expected [K,%d,%d,%lld]", w->name,
                       dt_value_shape_text(w), t->kernel[0], t->kernel[1], (long long)(c / groups));
    int32_t next = 2;
    if (t->bias) DT_TRY(need_vectors(g, n, next++, 1, k));
    if (t->prologue) DT_TRY(need_vectors(g, n, next, 2, c));
    int64_t p = 0, q = 0;
    DT_TRY(window_out(t, 0, x->dim[1], &p));
    DT_TRY(window_out(t, 1, x->dim[2], &q));
    *n_out = t->stats ? 2 : 1;
    set_out(&out[0], g->compute, 4, x->dim[0], p, q, k);
    if (t->apply) DT_TRY(need_vectors(g, n, 2, 2, k));
    if (t->apply && t->residual && !same_shape(&out[0], in_value(g, n, 4)))
        return dt_fail(DT_ERR_CONFIG, "the residual %s is %s", in_value(g, n, 4)->name,
                       dt_value_shape_text(in_value(g, n, 4)));
    if (n_apply == 5) DT_TRY(need_vectors(g, n, 5, 2, k));
    set_out(&out[1], DT_DTYPE_F32, 2, 2, k, 0, 0);
    return DT_OK;
}

dt_status dt_infer_dense(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *x = in_value(g, n, 0), *w = in_value(g, n, 1);
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_compute(g, n, 1));
    DT_TRY(need_count(n, n->attr.bias ? 3 : 2));
    int64_t features = dt_value_n_elem(x) / x->dim[0];
    if (w->ndim != 2 || w->dim[1] != features)
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s, expected [K,%lld]", w->name, dt_value_shape_text(w),
                       (long long)features);
    if (n->attr.bias) DT_TRY(need_vectors(g, n, 2, 1, w->dim[0]));
    *n_out = 1;
    set_out(&out[0], g->compute, 2, x->dim[0], w->dim[0], 0, 0);
    return DT_OK;
}

dt_status dt_infer_batchnorm(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *x = in_value(g, n, 0);
    int64_t c = last_dim(x);
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_count(n, n->attr.residual ? 6 : 5));
    DT_TRY(need_vectors(g, n, 1, 4, c));
    if (n->attr.residual) DT_TRY(need_same(g, n, 0, 5));
    if (!(n->attr.eps > 0)) return dt_fail(DT_ERR_CONFIG, "eps must be positive");
    if (g->training && dt_value_n_elem(x) / c < 2)
        return dt_fail(DT_ERR_CONFIG, "batch statistics need more than one value per channel (%s)",
                       dt_value_shape_text(x));
    if (dt_value_n_elem(x) / c > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG, "more than 2^31 - 1 values per channel (%s): a smaller batch or image",
                       dt_value_shape_text(x));
    *n_out = 5;
    set_like(&out[0], x);
    for (int32_t i = 1; i < 5; i++) set_out(&out[i], DT_DTYPE_F32, 1, c, 0, 0, 0);
    return DT_OK;
}

/* Output like input 0; further inputs of the compute dtype must have its shape (RELU, RELU_BWD, DROPOUT_BWD).
 */
dt_status dt_infer_same(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    DT_TRY(need_compute(g, n, 0));
    for (int32_t i = 1; i < n->n_in; i++) DT_TRY(need_same(g, n, 0, i));
    *n_out = 1;
    set_like(&out[0], in_value(g, n, 0));
    return DT_OK;
}

dt_status dt_infer_add(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    DT_TRY(need_same(g, n, 0, 1));
    *n_out = 1;
    set_like(&out[0], in_value(g, n, 0));
    return DT_OK;
}

static dt_status infer_pool(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_image(g, n, 0));
    DT_TRY(need_compute(g, n, 0));
    const dt_value *x = in_value(g, n, 0);
    int64_t p = 0, q = 0;
    for (int32_t a = 0; a < 2; a++)
        if (n->attr.pad[a] * 2 > n->attr.kernel[a])
            return dt_fail(DT_ERR_CONFIG, "padding %d is more than half the window %d", n->attr.pad[a],
                           n->attr.kernel[a]);
    DT_TRY(window_out(&n->attr, 0, x->dim[1], &p));
    DT_TRY(window_out(&n->attr, 1, x->dim[2], &q));
    set_out(&out[0], x->dtype, 4, x->dim[0], p, q, x->dim[3]);
    return DT_OK;
}

dt_status dt_infer_maxpool(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    DT_TRY(need_count(n, n->attr.prologue ? 3 : 1));
    DT_TRY(infer_pool(g, n, out));
    if (n->attr.prologue) DT_TRY(need_vectors(g, n, 1, 2, out[0].dim[3]));
    if (n->attr.kernel[0] * n->attr.kernel[1] > 255)
        return dt_fail(DT_ERR_CONFIG, "a window of %dx%d is more than 255 elements", n->attr.kernel[0],
                       n->attr.kernel[1]);
    *n_out = 2;
    set_like(&out[1], &out[0]);
    out[1].dtype = DT_DTYPE_U8;
    return DT_OK;
}

dt_status dt_infer_avgpool(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    *n_out = 1;
    return infer_pool(g, n, out);
}

dt_status dt_infer_global_avgpool(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    DT_TRY(need_image(g, n, 0));
    DT_TRY(need_compute(g, n, 0));
    const dt_value *x = in_value(g, n, 0);
    *n_out = 1;
    set_out(&out[0], x->dtype, 2, x->dim[0], x->dim[3], 0, 0);
    return DT_OK;
}

dt_status dt_infer_reshape(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *x = in_value(g, n, 0);
    int64_t rest = dt_value_n_elem(x) / x->dim[0], h = n->attr.size[0], w = n->attr.size[1];
    *n_out = 1;
    if (h == 0) {
        set_out(&out[0], x->dtype, 2, x->dim[0], rest, 0, 0);
        return DT_OK;
    }
    if (h < 0 || w < 1 || rest % (h * w))
        return dt_fail(DT_ERR_CONFIG, "%lld elements a sample do not make a %lldx%lld image", (long long)rest,
                       (long long)h, (long long)w);
    set_out(&out[0], x->dtype, 4, x->dim[0], h, w, rest / (h * w));
    return DT_OK;
}

dt_status dt_infer_dropout(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    if (!(n->attr.drop_p >= 0 && n->attr.drop_p < 1))
        return dt_fail(DT_ERR_CONFIG, "dropout rate %g is not in [0, 1)", (double)n->attr.drop_p);
    return dt_infer_same(g, n, n_out, out);
}

dt_status dt_infer_xent(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *x = in_value(g, n, 0), *label = in_value(g, n, 1);
    DT_TRY(need_compute(g, n, 0));
    if (x->ndim != 2)
        return dt_fail(DT_ERR_CONFIG, "logits %s are %s, expected [N,K]", x->name, dt_value_shape_text(x));
    if (label->dtype != DT_DTYPE_I32 || dt_value_n_elem(label) != x->dim[0])
        return dt_fail(DT_ERR_CONFIG, "labels %s are %s, expected %lld i32", label->name,
                       dt_value_shape_text(label), (long long)x->dim[0]);
    DT_TRY(need_vectors(g, n, 2, 1, DT_METRIC_COUNT));
    if (!(n->attr.smoothing >= 0 && n->attr.smoothing < 1))
        return dt_fail(DT_ERR_CONFIG, "label smoothing %g is not in [0, 1)", (double)n->attr.smoothing);
    *n_out = 2;
    set_out(&out[0], DT_DTYPE_F32, 1, x->dim[0], 0, 0, 0);
    set_out(&out[1], DT_DTYPE_F32, 2, x->dim[0], x->dim[1], 0, 0);
    return DT_OK;
}

dt_status dt_infer_bn_stats(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    DT_TRY(need_compute(g, n, 0));
    *n_out = 1;
    set_out(&out[0], DT_DTYPE_F32, 2, 2, last_dim(in_value(g, n, 0)), 0, 0);
    return DT_OK;
}

dt_status dt_infer_bn_finalize(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    int64_t c = last_dim(in_value(g, n, 0));
    DT_TRY(need_vectors(g, n, 0, 1, 2 * c));
    DT_TRY(need_vectors(g, n, 1, 4, c));
    if (n->attr.kernel[0] < 2) return dt_fail(DT_ERR_CONFIG, "statistics over %d rows", n->attr.kernel[0]);
    *n_out = 4;
    for (int32_t i = 0; i < 4; i++) set_out(&out[i], DT_DTYPE_F32, 1, c, 0, 0, 0);
    return DT_OK;
}

dt_status dt_infer_bn_fold(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    int64_t c = last_dim(in_value(g, n, 0));
    DT_TRY(need_vectors(g, n, 0, 4, c));
    *n_out = 2;
    for (int32_t i = 0; i < 2; i++) set_out(&out[i], DT_DTYPE_F32, 1, c, 0, 0, 0);
    return DT_OK;
}

dt_status dt_infer_bn_apply(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *x = in_value(g, n, 0);
    int64_t c = last_dim(x);
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_count(n, 3 + (n->attr.residual ? 1 : 0) + (n->attr.residual_scaled ? 2 : 0)));
    DT_TRY(need_vectors(g, n, 1, 2, c));
    if (n->attr.residual) DT_TRY(need_same(g, n, 0, 3));
    if (n->attr.residual_scaled) {
        if (!n->attr.residual) return dt_fail(DT_ERR_CONFIG, "a scaled residual without a residual");
        DT_TRY(need_vectors(g, n, 4, 2, c));
    }
    *n_out = 1;
    set_like(&out[0], x);
    return DT_OK;
}

/* dy [N,P,Q,K], w [K,R,S,C/G] and attr.size agree; dims of dx in h, w. */
dt_status dt_infer_conv_dgrad(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_attr *t = &n->attr;
    DT_TRY(need_image(g, n, 0));
    DT_TRY(need_image(g, n, 1));
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_compute(g, n, 1));
    const int32_t n_more = (t->second_grad ? 1 : 0) + (t->mask == DT_MASK_FROM_Y ? 1 : 0);
    if ((t->bn_epilogue && n_more > 0) || t->mask == DT_MASK_FROM_C)
        return dt_fail(DT_ERR_CONFIG, "two kinds of mask for one gradient");
    DT_TRY(need_count(n, t->bn_epilogue ? 8 : 2 + n_more));
    const dt_value *dy = in_value(g, n, 0), *w = in_value(g, n, 1);
    int64_t p = 0, q = 0, c = w->dim[3] * t->groups;
    if (t->groups < 1 || w->dim[0] != dy->dim[3] || w->dim[1] != t->kernel[0] || w->dim[2] != t->kernel[1] ||
        w->dim[0] % t->groups)
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s: it does not fit", w->name, dt_value_shape_text(w));
    DT_TRY(window_out(t, 0, t->size[0], &p));
    DT_TRY(window_out(t, 1, t->size[1], &q));
    if (p != dy->dim[1] || q != dy->dim[2])
        return dt_fail(DT_ERR_CONFIG, "gradient %s is %s, expected a %lldx%lld image", dy->name,
                       dt_value_shape_text(dy), (long long)p, (long long)q);
    set_out(&out[0], g->compute, 4, dy->dim[0], t->size[0], t->size[1], c);
    *n_out = 1;
    for (int32_t i = 2; i < 2 + n_more; i++)
        if (!same_shape(&out[0], in_value(g, n, i)))
            return dt_fail(DT_ERR_CONFIG, "input %d is %s: not like the gradient", i,
                           dt_value_shape_text(in_value(g, n, i)));
    if (t->bn_epilogue) {
        if (!same_shape(&out[0], in_value(g, n, 2)))
            return dt_fail(DT_ERR_CONFIG, "the BN input is %s", dt_value_shape_text(in_value(g, n, 2)));
        DT_TRY(need_vectors(g, n, 3, 5, c));
        *n_out = 4;
        set_out(&out[1], g->compute, 1, c, 0, 0, 0);
        set_out(&out[2], g->compute, 1, c, 0, 0, 0);
        set_out(&out[3], DT_DTYPE_F32, 2, 3, c, 0, 0);
    }
    return DT_OK;
}

dt_status dt_infer_conv_wgrad(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_attr *t = &n->attr;
    DT_TRY(need_image(g, n, 0));
    DT_TRY(need_image(g, n, 1));
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_compute(g, n, 1));
    DT_TRY(need_count(n, t->prologue ? 4 : 2));
    const dt_value *x = in_value(g, n, 0), *dy = in_value(g, n, 1);
    int64_t p = 0, q = 0, c = x->dim[3], k = dy->dim[3];
    DT_TRY(window_out(t, 0, x->dim[1], &p));
    DT_TRY(window_out(t, 1, x->dim[2], &q));
    if (t->groups < 1 || c % t->groups || k % t->groups || p != dy->dim[1] || q != dy->dim[2] ||
        x->dim[0] != dy->dim[0])
        return dt_fail(DT_ERR_CONFIG, "gradient %s is %s: it does not fit", dy->name,
                       dt_value_shape_text(dy));
    if (t->prologue) DT_TRY(need_vectors(g, n, 2, 2, c));
    *n_out = 1;
    set_out(&out[0], g->compute, 4, k, t->kernel[0], t->kernel[1], c / t->groups);
    return DT_OK;
}

dt_status dt_infer_dense_dgrad(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *dy = in_value(g, n, 0), *w = in_value(g, n, 1);
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_compute(g, n, 1));
    if (dy->ndim != 2 || w->ndim != 2 || w->dim[0] != dy->dim[1])
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s: it does not fit", w->name, dt_value_shape_text(w));
    *n_out = 1;
    set_out(&out[0], g->compute, 2, dy->dim[0], w->dim[1], 0, 0);
    return DT_OK;
}

dt_status dt_infer_dense_wgrad(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *x = in_value(g, n, 0), *dy = in_value(g, n, 1);
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_compute(g, n, 1));
    if (dy->ndim != 2 || dy->dim[0] != x->dim[0])
        return dt_fail(DT_ERR_CONFIG, "gradient %s is %s: it does not fit", dy->name,
                       dt_value_shape_text(dy));
    *n_out = 1;
    set_out(&out[0], g->compute, 2, dy->dim[1], dt_value_n_elem(x) / x->dim[0], 0, 0);
    return DT_OK;
}

dt_status dt_infer_bias_grad(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    DT_TRY(need_compute(g, n, 0));
    *n_out = 1;
    set_out(&out[0], g->compute, 1, last_dim(in_value(g, n, 0)), 0, 0, 0);
    return DT_OK;
}

/* The operands of a pooled gradient of input 0, from input i on: dyp, [dyp2], idx. */
static dt_status need_pooled(const dt_graph *g, const dt_node *n, int32_t i) {
    const int32_t i_idx = i + (n->attr.second_grad ? 2 : 1);
    dt_value pooled = {0};
    DT_TRY(need_count(n, i_idx + 1));
    if (n->attr.mask != DT_MASK_FROM_C || n->attr.writes_dz)
        return dt_fail(DT_ERR_CONFIG, "a pooled gradient needs a mask from the BN input and is not written");
    DT_TRY(infer_pool(g, n, &pooled));
    for (int32_t j = i; j <= i_idx; j++) {
        const dt_value *v = in_value(g, n, j);
        pooled.dtype = j == i_idx ? DT_DTYPE_U8 : g->compute;
        if (!same_shape(v, &pooled))
            return dt_fail(DT_ERR_CONFIG, "%s is %s: it does not fit the pool", v->name,
                           dt_value_shape_text(v));
    }
    return DT_OK;
}

static void set_reduce_outs(const dt_graph *g, int64_t c, dt_value *out) {
    set_out(&out[0], g->compute, 1, c, 0, 0, 0);
    set_out(&out[1], g->compute, 1, c, 0, 0, 0);
    set_out(&out[2], DT_DTYPE_F32, 2, 3, c, 0, 0);
}

dt_status dt_infer_bn_reduce(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_attr *t = &n->attr;
    if (t->pooled) {
        DT_TRY(need_pooled(g, n, 6));
        DT_TRY(need_vectors(g, n, 1, 5, last_dim(in_value(g, n, 0))));
        *n_out = 3;
        set_reduce_outs(g, last_dim(in_value(g, n, 0)), out);
        return DT_OK;
    }
    int32_t i_c = t->second_grad ? 2 : 1;
    int32_t expected = i_c + 4 + (t->mask == DT_MASK_FROM_Y ? 1 : t->mask == DT_MASK_FROM_C ? 2 : 0);
    DT_TRY(need_count(n, expected));
    DT_TRY(need_compute(g, n, 0));
    for (int32_t i = 1; i <= i_c; i++) DT_TRY(need_same(g, n, 0, i));
    int64_t c = last_dim(in_value(g, n, i_c));
    DT_TRY(need_vectors(g, n, i_c + 1, 3, c));
    if (t->mask == DT_MASK_FROM_Y) DT_TRY(need_same(g, n, 0, i_c + 4));
    if (t->mask == DT_MASK_FROM_C) DT_TRY(need_vectors(g, n, i_c + 4, 2, c));
    *n_out = t->writes_dz ? 4 : 3;
    set_reduce_outs(g, c, out);
    set_like(&out[3], in_value(g, n, 0));
    return DT_OK;
}

dt_status dt_infer_bn_dx(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    if (n->attr.pooled) {
        int64_t n_c = last_dim(in_value(g, n, 0));
        DT_TRY(need_pooled(g, n, 4));
        DT_TRY(need_vectors(g, n, 1, 1, 3 * n_c));
        DT_TRY(need_vectors(g, n, 2, 2, n_c));
        *n_out = 1;
        set_like(&out[0], in_value(g, n, 0));
        return DT_OK;
    }
    DT_TRY(need_count(n, n->attr.mask == DT_MASK_FROM_C ? 5 : 3));
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_same(g, n, 0, 1));
    int64_t c = last_dim(in_value(g, n, 0));
    DT_TRY(need_vectors(g, n, 2, 1, 3 * c));
    if (n->attr.mask == DT_MASK_FROM_C) DT_TRY(need_vectors(g, n, 3, 2, c));
    *n_out = 1;
    set_like(&out[0], in_value(g, n, 0));
    return DT_OK;
}

dt_status dt_infer_pool_bwd(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *dy = in_value(g, n, 0);
    int64_t p = 0, q = 0;
    DT_TRY(need_image(g, n, 0));
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(window_out(&n->attr, 0, n->attr.size[0], &p));
    DT_TRY(window_out(&n->attr, 1, n->attr.size[1], &q));
    if (p != dy->dim[1] || q != dy->dim[2])
        return dt_fail(DT_ERR_CONFIG, "gradient %s is %s: it does not fit", dy->name,
                       dt_value_shape_text(dy));
    if (n->n_in > 1) {
        const dt_value *idx = in_value(g, n, 1);
        if (idx->dtype != DT_DTYPE_U8 || dt_value_n_elem(idx) != dt_value_n_elem(dy))
            return dt_fail(DT_ERR_CONFIG, "positions %s are %s", idx->name, dt_value_shape_text(idx));
    }
    *n_out = 1;
    set_out(&out[0], dy->dtype, 4, dy->dim[0], n->attr.size[0], n->attr.size[1], dy->dim[3]);
    return DT_OK;
}

dt_status dt_infer_global_avgpool_bwd(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *dy = in_value(g, n, 0);
    DT_TRY(need_compute(g, n, 0));
    if (dy->ndim != 2 || n->attr.size[0] < 1 || n->attr.size[1] < 1)
        return dt_fail(DT_ERR_CONFIG, "gradient %s is %s, expected [N,C]", dy->name, dt_value_shape_text(dy));
    *n_out = 1;
    set_out(&out[0], dy->dtype, 4, dy->dim[0], n->attr.size[0], n->attr.size[1], dy->dim[1]);
    return DT_OK;
}

dt_status dt_infer_xent_bwd(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *prob = in_value(g, n, 0), *label = in_value(g, n, 1);
    if (prob->dtype != DT_DTYPE_F32 || prob->ndim != 2 || label->dtype != DT_DTYPE_I32 ||
        dt_value_n_elem(label) != prob->dim[0])
        return dt_fail(DT_ERR_CONFIG, "probabilities %s are %s: they do not fit the labels", prob->name,
                       dt_value_shape_text(prob));
    *n_out = 1;
    set_out(&out[0], g->compute, 2, prob->dim[0], prob->dim[1], 0, 0);
    return DT_OK;
}
