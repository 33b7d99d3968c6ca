/* Batch normalisation around a 1x1 convolution, from Gram matrices; made by the pass gram_batchnorm. */
#include "op_row.h"

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

static dt_status infer_gram(const dt_graph *g, const dt_node *n, dt_value *out) {
    const int64_t c = dt_infer_last(dt_infer_in(g, n, 0));
    DT_INFER_SET(&out[DT_GRAM_OUT_GRAM], DT_DTYPE_F32, c, c);
    DT_INFER_SET(&out[DT_GRAM_OUT_SUM], DT_DTYPE_F32, c);
    return DT_OK;
}

static dt_status infer_gram_cross(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dz = dt_infer_in(g, n, DT_CROSS_IN_DZ), *x = dt_infer_in(g, n, DT_CROSS_IN_X);
    if (rows_of(dz) != rows_of(x)) return dt_infer_misfit(g, n, DT_CROSS_IN_X);
    DT_INFER_SET(&out[DT_CROSS_OUT_P], DT_DTYPE_F32, dt_infer_last(dz), dt_infer_last(x));
    DT_INFER_SET(&out[DT_CROSS_OUT_DBETA], DT_DTYPE_F32, dt_infer_last(dz));
    return DT_OK;
}

static dt_status infer_bn_gram(const dt_graph *g, const dt_node *n, dt_value *out) {
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

static dt_status infer_bn_mask(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, DT_BN_MASK_IN_DY);
    DT_INFER_SET(&out[DT_BN_MASK_OUT_DBETA], DT_DTYPE_F32, dt_infer_last(dy));
    dt_infer_like(&out[DT_BN_MASK_OUT_DZ], dy);
    return DT_OK;
}

static dt_status infer_bn_gram_grad(const dt_graph *g, const dt_node *n, dt_value *out) {
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

static dt_status infer_bn_gram_dx(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dz = dt_infer_in(g, n, DT_GRAM_DX_IN_DZ), *x = dt_infer_in(g, n, DT_GRAM_DX_IN_X);
    const int64_t c = dt_infer_last(x);
    DT_TRY(need_weight(g, n, DT_GRAM_DX_IN_WA, dt_infer_last(dz), c));
    if (rows_of(dz) != rows_of(x)) return dt_infer_misfit(g, n, DT_GRAM_DX_IN_X);
    DT_TRY(need_matrix(g, n, DT_GRAM_DX_IN_MV, c + 1, c));
    dt_infer_like(&out[0], x);
    return DT_OK;
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

const dt_op_row dt_row_gram = {
    .name = "gram",
    .doc = "gram [C,C] = x^T x, sum [C] = column sums of x [...,C].",
    .in = {T("x")},
    .out = {F32("gram"), F32("sum")},
    .flags = DT_OP_INTERNAL,
    .infer = infer_gram,
    .flops = gram_flops,
};

const dt_op_row dt_row_gram_cross = {
    .name = "gram_cross",
    .doc = "p [K,C] = dz^T x of dz [...,K] and x [...,C], dbeta = column sums of dz.",
    .in = {T("dz"), T("x")},
    .out = {F32("p"), F32("dbeta", OPT)},
    .flags = DT_OP_INTERNAL,
    .infer = infer_gram_cross,
    .flops = cross_flops,
};

const dt_op_row dt_row_bn_gram = {
    .name = "bn_gram",
    .doc = "bn_finalize for c = x w^T, w [K,1,1,C]: with cov = gram/m - sum sum^T/m^2 and wcov "
           "[K,C] = w cov, mean_k = w_k.sum/m, var_k = wcov_k.w_k (not below 0).",
    .in = {F32("gram", .rank = 2), F32("sum", LEN(DT_BN_GRAM_IN_GRAM, LAST)), T("w", .rank = 4),
           F32("gamma", LEN(DT_BN_GRAM_IN_W, 0)), F32("beta", LEN(DT_BN_GRAM_IN_W, 0)),
           F32("rmean", LEN(DT_BN_GRAM_IN_W, 0), .updated = true),
           F32("rvar", LEN(DT_BN_GRAM_IN_W, 0), .updated = true)},
    .out = {F32("mean"), F32("invstd"), F32("scale"), F32("shift"), F32("wcov")},
    .flags = DT_OP_INTERNAL | DT_OP_EFFECT,
    .attr = {A(norm, rows), A(norm, eps), LEARNS(norm, momentum)},
    .infer = infer_bn_gram,
    .flops = bn_gram_flops,
};

const dt_op_row dt_row_bn_mask = {
    .name = "bn_mask",
    .doc = "dz = (dy + dy2) where y > 0 (everywhere without y), dbeta [K] = column sums of dz.",
    .in = {T("dy"), T("dy2", OPT, SAME(0)), T("y", OPT, SAME(0))},
    .out = {F32("dbeta"), T("dz", OPT)},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(DT_BN_MASK_IN_DY, DT_BN_MASK_OUT_DZ),
    .infer = infer_bn_mask,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_bn_gram_grad = {
    .name = "bn_gram_grad",
    .doc = "from p = dz^T x: with q = p - dbeta sum^T/m and A, B, D of bn_reduce, dgamma_k = "
           "invstd_k * w_k.q_k, dw_k = A_k q_k + m B_k wcov_k, wa_k = A_k w_k; mv [C+1,C] is M = "
           "w^T diag(B) w and below it the row v = w^T D.",
    .in = {F32("p", .rank = 2), F32("dbeta", LEN(DT_GRAM_GRAD_IN_P, 0)), F32("wcov", SAME(DT_GRAM_GRAD_IN_P)),
           F32("sum", LEN(DT_GRAM_GRAD_IN_P, 1)), T("w", .rank = 4), F32("mean", LEN(DT_GRAM_GRAD_IN_P, 0)),
           F32("invstd", LEN(DT_GRAM_GRAD_IN_P, 0)), F32("gamma", LEN(DT_GRAM_GRAD_IN_P, 0))},
    .out = {T("dgamma"), T("dbeta"), T("dw"), T("wa"), F32("mv")},
    .flags = DT_OP_INTERNAL,
    .attr = {A(norm, rows)},
    .infer = infer_bn_gram_grad,
    .flops = gram_grad_flops,
};

const dt_op_row dt_row_bn_gram_dx = {
    .name = "bn_gram_dx",
    .doc = "dx = dz wa + x M + v of dz [...,K], wa [K,1,1,C], x [...,C].",
    .in = {T("dz"), T("wa", .rank = 4), T("x"), F32("mv", .rank = 2)},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    .infer = infer_bn_gram_dx,
    .flops = gram_dx_flops,
};
