/* Shape rules of the ops that compute batch normalisation around a 1x1 convolution from Gram matrices. */
#include "op_infer.h"

static int64_t rows_of(const dt_value *v) {
    return dt_value_n_elem(v) / dt_infer_last(v);
}

/* The input is the weight of a 1x1 convolution, [K,1,1,C]. */
static dt_status need_weight(const dt_graph *g, const dt_node *n, int32_t slot, int64_t k, int64_t c) {
    const int64_t *d = dt_infer_in(g, n, slot)->dim;
    return d[0] == k && d[1] == 1 && d[2] == 1 && d[3] == c ? DT_OK : dt_infer_misfit(g, n, slot);
}

static dt_status need_matrix(const dt_graph *g, const dt_node *n, int32_t slot, int64_t a, int64_t b) {
    const int64_t *d = dt_infer_in(g, n, slot)->dim;
    return d[0] == a && d[1] == b ? DT_OK : dt_infer_misfit(g, n, slot);
}

static dt_status need_rows(const dt_node *n) {
    return n->attr.norm.rows >= 2 ? DT_OK
                                  : dt_fail(DT_ERR_CONFIG, "statistics over %d rows", n->attr.norm.rows);
}

dt_status dt_infer_gram(const dt_graph *g, const dt_node *n, dt_value *out) {
    const int64_t c = dt_infer_last(dt_infer_in(g, n, 0));
    DT_INFER_SET(&out[DT_GRAM_OUT_GRAM], DT_DTYPE_F32, c, c);
    DT_INFER_SET(&out[DT_GRAM_OUT_SUM], DT_DTYPE_F32, c);
    return DT_OK;
}

dt_status dt_infer_gram_cross(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dz = dt_infer_in(g, n, DT_CROSS_IN_DZ), *x = dt_infer_in(g, n, DT_CROSS_IN_X);
    if (rows_of(dz) != rows_of(x)) return dt_infer_misfit(g, n, DT_CROSS_IN_X);
    DT_INFER_SET(&out[DT_CROSS_OUT_P], DT_DTYPE_F32, dt_infer_last(dz), dt_infer_last(x));
    DT_INFER_SET(&out[DT_CROSS_OUT_DBETA], DT_DTYPE_F32, dt_infer_last(dz));
    return DT_OK;
}

dt_status dt_infer_bn_gram(const dt_graph *g, const dt_node *n, dt_value *out) {
    const int64_t c = dt_infer_last(dt_infer_in(g, n, DT_BN_GRAM_IN_GRAM));
    const int64_t k = dt_infer_in(g, n, DT_BN_GRAM_IN_W)->dim[0];
    DT_TRY(need_matrix(g, n, DT_BN_GRAM_IN_GRAM, c, c));
    DT_TRY(need_weight(g, n, DT_BN_GRAM_IN_W, k, c));
    DT_TRY(need_rows(n));
    for (int32_t i = DT_BN_GRAM_OUT_MEAN; i <= DT_BN_GRAM_OUT_SHIFT; i++)
        DT_INFER_SET(&out[i], DT_DTYPE_F32, k);
    DT_INFER_SET(&out[DT_BN_GRAM_OUT_WCOV], DT_DTYPE_F32, k, c);
    return DT_OK;
}

dt_status dt_infer_bn_mask(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, DT_BN_MASK_IN_DY);
    DT_INFER_SET(&out[DT_BN_MASK_OUT_DBETA], DT_DTYPE_F32, dt_infer_last(dy));
    dt_infer_like(&out[DT_BN_MASK_OUT_DZ], dy);
    return DT_OK;
}

dt_status dt_infer_bn_gram_grad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *p = dt_infer_in(g, n, DT_GRAM_GRAD_IN_P), *w = dt_infer_in(g, n, DT_GRAM_GRAD_IN_W);
    const int64_t k = p->dim[0], c = p->dim[1];
    DT_TRY(need_weight(g, n, DT_GRAM_GRAD_IN_W, k, c));
    DT_TRY(need_rows(n));
    DT_INFER_SET(&out[DT_GRAM_GRAD_OUT_DGAMMA], dt_op_type(g, n), k);
    DT_INFER_SET(&out[DT_GRAM_GRAD_OUT_DBETA], dt_op_type(g, n), k);
    dt_infer_like(&out[DT_GRAM_GRAD_OUT_DW], w);
    dt_infer_like(&out[DT_GRAM_GRAD_OUT_WA], w);
    DT_INFER_SET(&out[DT_GRAM_GRAD_OUT_MV], DT_DTYPE_F32, c + 1, c);
    return DT_OK;
}

dt_status dt_infer_bn_gram_dx(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dz = dt_infer_in(g, n, DT_GRAM_DX_IN_DZ), *x = dt_infer_in(g, n, DT_GRAM_DX_IN_X);
    const int64_t c = dt_infer_last(x);
    DT_TRY(need_weight(g, n, DT_GRAM_DX_IN_WA, dt_infer_last(dz), c));
    if (rows_of(dz) != rows_of(x)) return dt_infer_misfit(g, n, DT_GRAM_DX_IN_X);
    DT_TRY(need_matrix(g, n, DT_GRAM_DX_IN_MV, c + 1, c));
    dt_infer_like(&out[0], x);
    return DT_OK;
}
