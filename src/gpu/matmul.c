/* MATMUL through cuBLASLt, a batch in one call. Row-major y = a b is y^T = b^T a^T in its order. */
#include <stdio.h>

#include "lower.h"

static dt_status set_batch(cublasLtMatrixLayout_t layout, int64_t batch, int64_t stride) {
    const int32_t count = (int32_t)batch;
    DT_CUBLAS_TRY(
        cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
    DT_CUBLAS_TRY(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                   &stride, sizeof stride));
    return DT_OK;
}

dt_status dt_lower_matmul_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    const dt_matmul_dims d = dt_op_matmul_dims(g, n);
    const bool turn_a = n->attr.matmul.turn_a, turn_b = n->attr.matmul.turn_b;
    const dt_blas_shape shape = {.t = p->t,
                                 .out = p->t,
                                 .trans_a = turn_b,
                                 .trans_b = turn_a,
                                 .a_rows = turn_b ? d.k : d.n,
                                 .a_cols = turn_b ? d.n : d.k,
                                 .b_rows = turn_a ? d.m : d.k,
                                 .b_cols = turn_a ? d.k : d.m,
                                 .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    dt_blas_matmul m = {0};
    snprintf(p->label, sizeof p->label, "matmul %lld x %lldx%lldx%lld %s", (long long)d.batch, (long long)d.m,
             (long long)d.k, (long long)d.n, dt_dtype_name(p->t));
    if (d.batch > INT32_MAX) return dt_fail(DT_ERR_UNSUPPORTED, "%s: too many products", p->label);
    DT_TRY(dt_blas_describe(cu, &shape, &m));
    DT_TRY(set_batch(m.a, d.batch, d.k * d.n));
    DT_TRY(set_batch(m.b, d.batch, d.m * d.k));
    DT_TRY(set_batch(m.d, d.batch, d.m * d.n));
    DT_TRY(dt_blas_first(cu, &m, p->label));
    p->matmul.blas = m;
    (void)dt_prep_take(p, p->matmul.blas.bytes);
    return DT_OK;
}

dt_status dt_lower_matmul_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_blas_operands o = {.a = k->b.in[DT_MATMUL_IN_B],
                                .b = k->b.in[DT_MATMUL_IN_A],
                                .d = k->b.out[0],
                                .workspace = k->b.workspace};
    return dt_blas_run(cu, &k->prep->matmul.blas, &o, s);
}
