/* Muon: matrix by matrix on one stream, over scratch that all share. A row-major [rows, cols] is a cols x rows matrix
 * to cuBLASLt, X^T. With fp32 weights products are in fp32 (tf32 where the run says so), beside 16-bit ones in tf32:
 * three digits, as bfloat16 has, in which the reference computes. */
#include "axis_muon.h"

#include "blas.h"

/* What a product is called with: d = alpha op(a) op(b) + beta c. */
typedef struct product {
    dt_blas_matmul m;
    float alpha, beta;
} product;

typedef struct matrix {
    dt_gpu_matrix args;
    bool tall;                /* more rows than columns */
    product gram, poly, step; /* A = X X^T or X^T X; P = b A + c A A; X' = a X + P X or X P */
} matrix;

struct dt_muon {
    dt_cuda *cu;
    int32_t n;
    matrix *matrix;
    float *x, *y, *gram, *poly; /* device */
    double *square;
    void *workspace;
};

/* Both operands and the result in f32; the first algorithm, so that every run has the same. */
static dt_status describe(dt_cuda *cu, const dt_axis_args *a, bool trans_a, bool trans_b, int64_t a_rows,
                          int64_t a_cols, int64_t b_rows, int64_t b_cols, float alpha, float beta,
                          product *out) {
    const dt_blas_shape shape = {.t = DT_DTYPE_F32,
                                 .out = DT_DTYPE_F32,
                                 .trans_a = trans_a,
                                 .trans_b = trans_b,
                                 .a_rows = a_rows,
                                 .a_cols = a_cols,
                                 .b_rows = b_rows,
                                 .b_cols = b_cols,
                                 .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                                 .tf32 = cu->tf32 || a->param16};
    dt_blas_matmul m = {0};
    dt_blas_algos found;
    DT_TRY(dt_blas_describe(cu, &shape, &m));
    if (dt_blas_find(cu, &m, NULL, found) == 0)
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "cuBLASLt has no algorithm for a product of %lldx%lld and %lldx%lld",
                       (long long)a_rows, (long long)a_cols, (long long)b_rows, (long long)b_cols);
    *out = (product){dt_blas_with(&m, &found[0]), alpha, beta};
    return DT_OK;
}

/* In cuBLASLt's order, where x is [cols, rows] = X^T, and A and P are symmetric. */
static dt_status describe_all(dt_cuda *cu, const dt_axis_args *a, int64_t rows, int64_t cols, matrix *m) {
    const int64_t side = dt_min_i64(rows, cols);
    m->tall = rows > cols;
    /* tall: A = X^T X = x x^T; else X X^T = x^T x */
    DT_TRY(describe(cu, a, !m->tall, m->tall, cols, rows, cols, rows, 1, 0, &m->gram));
    DT_TRY(describe(cu, a, false, false, side, side, side, side, DT_MUON_C, DT_MUON_B, &m->poly));
    /* tall: (X P)^T = P x; else (P X)^T = x P */
    return m->tall ? describe(cu, a, false, false, side, side, cols, rows, 1, DT_MUON_A, &m->step)
                   : describe(cu, a, false, false, cols, rows, side, side, 1, DT_MUON_A, &m->step);
}

dt_status dt_muon_bind(dt_cuda *cu, const dt_axis_args *a, dt_muon **out) {
    int64_t n = 0, side = 0, bytes = 256;
    dt_muon *m;
    *out = NULL;
    DT_TRY(dt_cuda_own(cu, sizeof *m, (void **)&m));
    m->cu = cu;
    for (int32_t i = 0; i < a->n_segment; i++) m->n += a->segment[i].matrix;
    if (m->n == 0) return DT_OK;
    DT_TRY(dt_cuda_own(cu, (size_t)m->n * sizeof *m->matrix, (void **)&m->matrix));
    for (int32_t i = 0, k = 0; i < a->n_segment; i++) {
        const dt_axis_segment *s = &a->segment[i];
        if (!s->matrix) continue;
        matrix *x = &m->matrix[k++];
        const int64_t real = s->n_real > 0 ? s->n_real : s->n_elem;
        x->args = (dt_gpu_matrix){.offset = s->offset,
                                  .n_elem = s->n_elem,
                                  .decay = s->decay,
                                  .lr_scale = s->lr_scale,
                                  .scale = dt_muon_scale_of(a->optim.muon_scale, s->rows, real / s->rows)};
        DT_TRY(describe_all(cu, a, s->rows, s->cols, x));
        n = dt_max_i64(n, s->n_elem), side = dt_max_i64(side, dt_min_i64(s->rows, s->cols));
        bytes = dt_max_i64(bytes, dt_max_i64(x->gram.m.bytes, dt_max_i64(x->poly.m.bytes, x->step.m.bytes)));
    }
    DT_TRY(dt_cuda_own_device(cu, n * (int64_t)sizeof *m->x, (void **)&m->x));
    DT_TRY(dt_cuda_own_device(cu, n * (int64_t)sizeof *m->y, (void **)&m->y));
    DT_TRY(dt_cuda_own_device(cu, side * side * (int64_t)sizeof *m->gram, (void **)&m->gram));
    DT_TRY(dt_cuda_own_device(cu, side * side * (int64_t)sizeof *m->poly, (void **)&m->poly));
    DT_TRY(dt_cuda_own_device(cu, DT_GPU_MATRIX_BLOCKS * (int64_t)sizeof *m->square, (void **)&m->square));
    DT_TRY(dt_cuda_own_device(cu, bytes, &m->workspace));
    *out = m;
    return DT_OK;
}

static dt_status multiply(const dt_muon *m, const product *p, const float *a, const float *b, const float *c,
                          float *d, cudaStream_t s) {
    DT_CUBLAS_TRY(cublasLtMatmul(m->cu->blas, p->m.desc, &p->alpha, a, p->m.a, b, p->m.b, &p->beta, c, p->m.d,
                                 d, p->m.d, &p->m.algo, m->workspace, (size_t)p->m.bytes, s));
    return DT_OK;
}

static dt_status run_matrix(const dt_muon *m, const matrix *x, const dt_axis_args *a,
                            const dt_gpu_axis_step *step, cudaStream_t s) {
    float *from = m->x, *to = m->y;
    DT_CUDA_TRY(dt_gpu_matrix_before(&m->cu->gpu, a, step, &x->args, from, m->square, s));
    for (int32_t i = 0; i < DT_MUON_STEPS; i++) {
        float *const next = to;
        DT_TRY(multiply(m, &x->gram, from, from, m->gram, m->gram, s));
        DT_TRY(multiply(m, &x->poly, m->gram, m->gram, m->gram, m->poly, s));
        DT_TRY(multiply(m, &x->step, x->tall ? m->poly : from, x->tall ? from : m->poly, from, to, s));
        to = from, from = next;
    }
    DT_CUDA_TRY(dt_gpu_matrix_after(&m->cu->gpu, a, step, &x->args, from, s));
    return DT_OK;
}

dt_status dt_muon_run(const dt_muon *m, const dt_axis_args *a, const dt_gpu_axis_step *step, cudaStream_t s) {
    for (int32_t i = 0; i < m->n; i++) DT_TRY(run_matrix(m, &m->matrix[i], a, step, s));
    return DT_OK;
}
