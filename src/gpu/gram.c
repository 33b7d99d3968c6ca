/* GRAM to BN_GRAM_DX (core/op.h): which kernels of gram.h compute them, and where these keep what passes
 * between them. */
#include "gram.h"

#include <stdio.h>

#include "lower.h"

/* Parts of the workspace; each node uses those it took. */
typedef dt_gram_prep gram;

static int64_t take(dt_prep *p, int64_t n_elem, size_t size) {
    return dt_prep_take(p, n_elem * (int64_t)size);
}

static const dt_value *in_value(const dt_graph *g, const dt_node *n, int32_t i) {
    return &g->value[n->in[i]];
}

static int64_t last_dim(const dt_value *v) {
    return v->dim[v->ndim - 1];
}

static void *at(const dt_bound *k, int64_t offset) {
    return dt_bound_workspace(k, offset);
}

dt_status dt_lower_gram_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    gram *q = &p->gram;
    const size_t t = dt_dtype_size(p->t), f32 = sizeof(float);
    switch (n->op) {
    case DT_OP_GRAM:
    case DT_OP_GRAM_CROSS:
        q->k = p->c, q->c = last_dim(in_value(g, n, n->op == DT_OP_GRAM ? 0 : DT_CROSS_IN_X));
        DT_TRY(dt_blas_product_choose(cu, g, n, &q->blas));
        q->sums_at = dt_prep_take(p, q->blas.use ? q->blas.bytes
                                                 : dt_gpu_cross_bytes(&cu->gpu, p->rows, q->k, q->c, false));
        break;
    case DT_OP_BN_GRAM:
        q->k = in_value(g, n, DT_BN_GRAM_IN_W)->dim[0], q->c = p->c;
        q->sums_at = dt_prep_take(p, dt_gpu_bn_gram_bytes(q->k, q->c));
        break;
    case DT_OP_BN_MASK:
        q->k = p->c;
        q->sums_at = dt_prep_take(p, dt_gpu_bn_mask_bytes(&cu->gpu, p->rows, p->c));
        break;
    case DT_OP_BN_GRAM_GRAD:
        q->k = p->rows, q->c = p->c;
        q->coef_at = take(p, 2 * q->k, f32);
        q->sums_at = dt_prep_take(p, dt_gpu_cross_bytes(&cu->gpu, q->k, q->c, q->c, true));
        break;
    default: /* BN_GRAM_DX */
        q->k = p->c, q->c = last_dim(in_value(g, n, DT_GRAM_DX_IN_X));
        DT_TRY(dt_blas_product_choose(cu, g, n, &q->blas));
        q->sums_at = dt_prep_take(p, q->blas.bytes);
        q->m_at = take(p, q->c * q->c, t);
        q->scale_at = take(p, q->c, f32);
        break;
    }
    snprintf(p->label, sizeof p->label, "%s %lld x %lld->%lld %s%s", p->row->name,
             (long long)(n->op == DT_OP_BN_GRAM || n->op == DT_OP_BN_GRAM_GRAD ? n->attr.norm.rows : p->rows),
             (long long)q->c, (long long)q->k, dt_dtype_name(p->t),
             !q->blas.use         ? ""
             : q->blas.sums_apart ? " [cublaslt, sums]"
                                  : " [cublaslt]");
    return DT_OK;
}

dt_status dt_lower_gram_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const void *first = k->b.in[0], *last = p->node.op == DT_OP_GRAM ? first : k->b.in[DT_CROSS_IN_X];
    float *sums = k->b.out[1]; /* GRAM's sum, GRAM_CROSS's dbeta */
    if (p->gram.blas.use)
        return dt_blas_product_run(cu, &p->gram.blas, last, first, k->b.out[0], sums, at(k, p->gram.sums_at),
                                   s);
    const dt_gpu_cross_args a = {.a = first,
                                 .b = last,
                                 .out = k->b.out[0],
                                 .sum = sums,
                                 .workspace = at(k, p->gram.sums_at),
                                 .rows = p->rows,
                                 .ka = p->gram.k,
                                 .kb = p->gram.c};
    return dt_launch_status(dt_gpu_cross(&cu->gpu, p->t, &a, s), k);
}

dt_status dt_lower_bn_gram_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    (void)cu;
    const dt_prep *p = k->prep;
    const dt_norm_attr *t = &p->node.attr.norm;
    void *const *in = k->b.in, *const *out = k->b.out;
    const dt_gpu_bn_gram_args a = {.bn = {.stats = in[DT_BN_GRAM_IN_SUM],
                                          .gamma = in[DT_BN_GRAM_IN_GAMMA],
                                          .beta = in[DT_BN_GRAM_IN_BETA],
                                          .rmean = in[DT_BN_GRAM_IN_RMEAN],
                                          .rvar = in[DT_BN_GRAM_IN_RVAR],
                                          .mean = out[DT_BN_GRAM_OUT_MEAN],
                                          .invstd = out[DT_BN_GRAM_OUT_INVSTD],
                                          .scale = out[DT_BN_GRAM_OUT_SCALE],
                                          .shift = out[DT_BN_GRAM_OUT_SHIFT],
                                          .c = p->gram.k,
                                          .rows = t->rows,
                                          .eps = t->eps,
                                          .momentum = t->momentum},
                                   .gram = in[DT_BN_GRAM_IN_GRAM],
                                   .w = in[DT_BN_GRAM_IN_W],
                                   .wcov = out[DT_BN_GRAM_OUT_WCOV],
                                   .workspace = at(k, p->gram.sums_at),
                                   .c = p->gram.c};
    return dt_launch_status(dt_gpu_bn_gram(p->t, &a, s), k);
}

dt_status dt_lower_bn_mask_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_gpu_bn_mask_args a = {
        .dy = k->b.in[DT_BN_MASK_IN_DY],
        .dy2 = k->b.in[DT_BN_MASK_IN_DY2],
        .y = k->b.in[DT_BN_MASK_IN_Y],
        .dz = k->b.out[DT_BN_MASK_OUT_DZ],
        .dbeta = k->b.out[DT_BN_MASK_OUT_DBETA],
        .workspace = at(k, p->gram.sums_at),
        .rows = p->rows,
        .c = p->c,
    };
    return dt_launch_status(dt_gpu_bn_mask(&cu->gpu, p->t, &a, s), k);
}

dt_status dt_lower_bn_gram_grad_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const gram *q = &p->gram;
    void *const *in = k->b.in, *const *out = k->b.out;
    const void *w = in[DT_GRAM_GRAD_IN_W];
    float *coef = at(k, q->coef_at), *mv = out[DT_GRAM_GRAD_OUT_MV];
    const dt_gpu_gram_grad_args a = {.p = in[DT_GRAM_GRAD_IN_P],
                                     .dbeta = in[DT_GRAM_GRAD_IN_DBETA],
                                     .wcov = in[DT_GRAM_GRAD_IN_WCOV],
                                     .sum = in[DT_GRAM_GRAD_IN_SUM],
                                     .w = w,
                                     .mean = in[DT_GRAM_GRAD_IN_MEAN],
                                     .invstd = in[DT_GRAM_GRAD_IN_INVSTD],
                                     .gamma = in[DT_GRAM_GRAD_IN_GAMMA],
                                     .dgamma = out[DT_GRAM_GRAD_OUT_DGAMMA],
                                     .dbeta_out = out[DT_GRAM_GRAD_OUT_DBETA],
                                     .dw = out[DT_GRAM_GRAD_OUT_DW],
                                     .wa = out[DT_GRAM_GRAD_OUT_WA],
                                     .coef = coef,
                                     .rows = p->node.attr.norm.rows,
                                     .k = q->k,
                                     .c = q->c};
    DT_TRY(dt_launch_status(dt_gpu_gram_grad(p->t, &a, s), k));
    const dt_gpu_cross_args m = {.a = w,
                                 .b = w,
                                 .out = mv,
                                 .sum = mv + q->c * q->c,
                                 .weight = coef,
                                 .sum_weight = coef + q->k,
                                 .workspace = at(k, q->sums_at),
                                 .rows = q->k,
                                 .ka = q->c,
                                 .kb = q->c};
    return dt_launch_status(dt_gpu_cross(&cu->gpu, p->t, &m, s), k);
}

dt_status dt_lower_bn_gram_dx_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const gram *q = &p->gram;
    void *const *in = k->b.in, *m = at(k, q->m_at);
    const void *dz = in[DT_GRAM_DX_IN_DZ], *wa = in[DT_GRAM_DX_IN_WA];
    const float *mv = in[DT_GRAM_DX_IN_MV];
    float *scale = at(k, q->scale_at);
    DT_TRY(dt_launch_status(dt_gpu_narrow_columns(p->t, mv, q->c, q->c, m, scale, s), k));
    dt_gpu_rows_args a = {.a1 = in[DT_GRAM_DX_IN_X],
                          .b1 = m,
                          .a2 = dz,
                          .b2 = wa,
                          .scale = scale,
                          .v = mv + q->c * q->c,
                          .out = k->b.out[0],
                          .rows = p->rows,
                          .k1 = q->c,
                          .k2 = q->k,
                          .n = q->c};
    if (q->blas.use) {
        DT_TRY(dt_blas_product_run(cu, &q->blas, wa, dz, k->b.out[0], NULL, at(k, q->sums_at), s));
        a.base = k->b.out[0];
        a.k2 = 0;
    }
    return dt_launch_status(dt_gpu_rows(&cu->gpu, p->t, &a, s), k);
}
