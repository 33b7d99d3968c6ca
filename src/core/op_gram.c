/* Shape rules of the ops that compute batch normalisation around a 1x1 convolution from Gram matrices. */
#include "op_infer.h"

static const dt_value *in_value(const dt_graph *g, const dt_node *n, int32_t i) {
    return &g->value[n->in[i]];
}

static int64_t last_dim(const dt_value *v) {
    return v->dim[v->ndim - 1];
}

static int64_t rows_of(const dt_value *v) {
    return dt_value_n_elem(v) / last_dim(v);
}

static dt_value f32_of(int32_t ndim, int64_t a, int64_t b) {
    return (dt_value){.dtype = DT_DTYPE_F32, .ndim = ndim, .dim = {a, b}};
}

/* Takes shape and dtype, leaving the rest of the value as it is. */
static void set_like(dt_value *out, const dt_value *v) {
    out->dtype = v->dtype;
    out->ndim = v->ndim;
    for (int32_t i = 0; i < DT_MAX_DIM; i++) out->dim[i] = v->dim[i];
}

static dt_status misfit(const dt_graph *g, const dt_node *n, int32_t i) {
    const dt_value *v = in_value(g, n, i);
    return dt_fail(DT_ERR_CONFIG, "input %d, %s, is %s: it does not fit the others", i, v->name,
                   dt_value_shape_text(v));
}

static dt_status need_compute(const dt_graph *g, const dt_node *n, int32_t i) {
    return in_value(g, n, i)->dtype == g->compute ? DT_OK : misfit(g, n, i);
}

static dt_status need_f32(const dt_graph *g, const dt_node *n, int32_t i, int64_t n_elem) {
    const dt_value *v = in_value(g, n, i);
    return v->dtype == DT_DTYPE_F32 && dt_value_n_elem(v) == n_elem ? DT_OK : misfit(g, n, i);
}

/* Input i is a matrix f32 [a,b]. */
static dt_status need_matrix(const dt_graph *g, const dt_node *n, int32_t i, int64_t a, int64_t b) {
    const dt_value *v = in_value(g, n, i);
    return v->dtype == DT_DTYPE_F32 && v->ndim == 2 && v->dim[0] == a && v->dim[1] == b ? DT_OK
                                                                                        : misfit(g, n, i);
}

/* Input i is the weight of a 1x1 convolution, T [K,1,1,C]. */
static dt_status need_weight(const dt_graph *g, const dt_node *n, int32_t i, int64_t k, int64_t c) {
    const dt_value *w = in_value(g, n, i);
    DT_TRY(need_compute(g, n, i));
    if (w->ndim != 4 || w->dim[0] != k || w->dim[1] != 1 || w->dim[2] != 1 || w->dim[3] != c)
        return misfit(g, n, i);
    return DT_OK;
}

static dt_status need_count(const dt_node *n, int32_t expected) {
    return n->n_in == expected ? DT_OK : dt_fail(DT_ERR_CONFIG, "%d inputs, expected %d", n->n_in, expected);
}

static dt_status need_rows(const dt_node *n) {
    return n->attr.kernel[0] >= 2 ? DT_OK
                                  : dt_fail(DT_ERR_CONFIG, "statistics over %d rows", n->attr.kernel[0]);
}

dt_status dt_infer_gram(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const int64_t c = last_dim(in_value(g, n, 0));
    const dt_value gram = f32_of(2, c, c), sum = f32_of(1, c, 0);
    DT_TRY(need_count(n, 1));
    DT_TRY(need_compute(g, n, 0));
    *n_out = 2;
    set_like(&out[0], &gram);
    set_like(&out[1], &sum);
    return DT_OK;
}

dt_status dt_infer_gram_cross(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *dz = in_value(g, n, 0), *x = in_value(g, n, 1);
    const dt_value p = f32_of(2, last_dim(dz), last_dim(x)), dbeta = f32_of(1, last_dim(dz), 0);
    DT_TRY(need_count(n, 2));
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_compute(g, n, 1));
    if (rows_of(dz) != rows_of(x)) return misfit(g, n, 1);
    *n_out = n->attr.stats ? 2 : 1;
    set_like(&out[0], &p);
    set_like(&out[1], &dbeta);
    return DT_OK;
}

dt_status dt_infer_bn_gram(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const int64_t c = last_dim(in_value(g, n, 0)), k = in_value(g, n, 2)->dim[0];
    const dt_value vector = f32_of(1, k, 0), wcov = f32_of(2, k, c);
    DT_TRY(need_count(n, 7));
    DT_TRY(need_matrix(g, n, 0, c, c));
    DT_TRY(need_f32(g, n, 1, c));
    DT_TRY(need_weight(g, n, 2, k, c));
    for (int32_t i = 3; i < 7; i++) DT_TRY(need_f32(g, n, i, k));
    DT_TRY(need_rows(n));
    *n_out = 5;
    for (int32_t i = 0; i < 4; i++) set_like(&out[i], &vector);
    set_like(&out[4], &wcov);
    return DT_OK;
}

dt_status dt_infer_bn_mask(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_attr *t = &n->attr;
    const dt_value *dy = in_value(g, n, 0);
    const dt_value dbeta = f32_of(1, last_dim(dy), 0);
    DT_TRY(need_count(n, 1 + (t->second_grad ? 1 : 0) + (t->mask == DT_MASK_FROM_Y ? 1 : 0)));
    if (t->mask == DT_MASK_FROM_C) return dt_fail(DT_ERR_CONFIG, "a mask that is not from the output");
    DT_TRY(need_compute(g, n, 0));
    for (int32_t i = 1; i < n->n_in; i++) {
        const dt_value *v = in_value(g, n, i);
        bool same = v->dtype == dy->dtype && v->ndim == dy->ndim;
        for (int32_t j = 0; same && j < v->ndim; j++) same = v->dim[j] == dy->dim[j];
        if (!same) return misfit(g, n, i);
    }
    *n_out = t->writes_dz ? 2 : 1;
    set_like(&out[0], &dbeta);
    set_like(&out[1], dy);
    return DT_OK;
}

dt_status dt_infer_bn_gram_grad(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *p = in_value(g, n, 0), *w = in_value(g, n, 4);
    const int64_t k = p->dim[0], c = last_dim(p);
    const dt_value vector = {.dtype = g->compute, .ndim = 1, .dim = {k}}, mv = f32_of(2, c + 1, c);
    DT_TRY(need_count(n, 8));
    DT_TRY(need_matrix(g, n, 0, k, c));
    DT_TRY(need_f32(g, n, 1, k));
    DT_TRY(need_matrix(g, n, 2, k, c));
    DT_TRY(need_f32(g, n, 3, c));
    DT_TRY(need_weight(g, n, 4, k, c));
    for (int32_t i = 5; i < 8; i++) DT_TRY(need_f32(g, n, i, k));
    DT_TRY(need_rows(n));
    *n_out = 5;
    for (int32_t i = 0; i < 2; i++) set_like(&out[i], &vector);
    for (int32_t i = 2; i < 4; i++) set_like(&out[i], w);
    set_like(&out[4], &mv);
    return DT_OK;
}

dt_status dt_infer_bn_gram_dx(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out) {
    const dt_value *dz = in_value(g, n, 0), *x = in_value(g, n, 2);
    const int64_t c = last_dim(x);
    DT_TRY(need_count(n, 4));
    DT_TRY(need_compute(g, n, 0));
    DT_TRY(need_weight(g, n, 1, last_dim(dz), c));
    DT_TRY(need_compute(g, n, 2));
    if (rows_of(dz) != rows_of(x)) return misfit(g, n, 2);
    DT_TRY(need_matrix(g, n, 3, c + 1, c));
    *n_out = 1;
    set_like(&out[0], x);
    return DT_OK;
}
