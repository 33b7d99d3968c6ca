/* DENSE and its gradients through cuBLASLt. cuBLASLt counts columns first, so a row-major [rows,C] is its C x rows
 * matrix; every product below is written in its order. */
#include <stdio.h>
#include <string.h>

#include "lower.h"

static void release_matmul(void *ptr) {
    (void)cublasLtMatmulDescDestroy(ptr);
}

/* Shapes of the product D = op(A) op(B), column-major. */
typedef struct product {
    cublasOperation_t op_a, op_b;
    int64_t a_rows, a_cols, b_rows, b_cols, d_rows, d_cols;
} product;

static product product_of(dt_op op, int64_t n, int64_t c, int64_t k) {
    if (op == DT_OP_DENSE) /* y^T[K,N] = w[C,K]^T x[C,N] */
        return (product){CUBLAS_OP_T, CUBLAS_OP_N, c, k, c, n, k, n};
    if (op == DT_OP_DENSE_DGRAD) /* dx^T[C,N] = w[C,K] dy[K,N] */
        return (product){CUBLAS_OP_N, CUBLAS_OP_N, c, k, k, n, c, n};
    return (product){CUBLAS_OP_N, CUBLAS_OP_T, c, n, k, n, c, k}; /* dw^T[C,K] = x[C,N] dy[K,N]^T */
}

/* In evaluation cuBLASLt's epilogues take in all but functions that they lack. */
static dt_status choose_end(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    dt_dense_prep *d = &p->dense;
    if (n->op != DT_OP_DENSE) return DT_OK;
    const bool biased = dt_node_has(n, DT_DENSE_IN_BIAS), residual = dt_node_has(n, DT_DENSE_IN_RES);
    const int32_t act = n->attr.dense.act;
    d->own_end = residual || act;
    if (g->training || (biased && g->value[n->in[DT_DENSE_IN_BIAS]].dtype != p->t) ||
        g->value[n->in[DT_DENSE_IN_W]].dtype != p->t)
        return DT_OK;
    const dt_blas_end_shape shape = {.t = p->t,
                                     .rows = d->n,
                                     .c = d->c,
                                     .k = d->k,
                                     .act = dt_blas_ends_in(act) ? act : DT_ACT_NONE,
                                     .bias = biased,
                                     .residual = residual};
    DT_TRY(dt_blas_end_choose(cu, &shape, &d->end));
    if (d->end.use) d->own_end = !dt_blas_ends_in(act);
    return DT_OK;
}

/* What the product does not do of the node's end, in place. */
static dt_status own_end(dt_cuda *cu, const dt_bound *k, const void *residual, cudaStream_t s) {
    const dt_dense_prep *d = &k->prep->dense;
    const int32_t act = k->prep->node.attr.dense.act;
    if (!residual)
        return dt_launch_status(dt_gpu_unary(&cu->gpu, k->prep->t, (dt_unary)(act - 1), 0, 0, k->b.out[0],
                                             k->b.out[0], d->n * d->k, s),
                                k);
    const dt_gpu_end_args e = {.y = k->b.out[0], .res = residual, .rows = d->n, .c = d->k, .act = act};
    return dt_launch_status(dt_gpu_end(&cu->gpu, k->prep->t, &e, s), k);
}

dt_status dt_lower_dense_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *p) {
    dt_dense_prep *d = &p->dense;
    const dt_value *first = &g->value[n->in[0]], *second = &g->value[n->in[1]];
    const int64_t last = first->dim[first->ndim - 1];
    d->n = dt_value_n_elem(first) / last;
    d->c = n->op == DT_OP_DENSE_DGRAD ? second->dim[1] : last;
    d->k = n->op == DT_OP_DENSE         ? second->dim[0]
           : n->op == DT_OP_DENSE_DGRAD ? last
                                        : second->dim[second->ndim - 1];
    snprintf(p->label, sizeof p->label, "%s %lldx%lld->%lld %s", p->row->name, (long long)d->n,
             (long long)d->c, (long long)d->k, dt_dtype_name(p->t));
    cublasComputeType_t compute =
        p->t == DT_DTYPE_F32 && cu->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    DT_CUBLAS_TRY(cublasLtMatmulDescCreate(&d->matmul, compute, CUDA_R_32F));
    DT_TRY(dt_cuda_adopt(cu, d->matmul, release_matmul));
    const product q = product_of(n->op, d->n, d->c, d->k);
    DT_CUBLAS_TRY(
        cublasLtMatmulDescSetAttribute(d->matmul, CUBLASLT_MATMUL_DESC_TRANSA, &q.op_a, sizeof q.op_a));
    DT_CUBLAS_TRY(
        cublasLtMatmulDescSetAttribute(d->matmul, CUBLASLT_MATMUL_DESC_TRANSB, &q.op_b, sizeof q.op_b));
    const bool biased = n->op == DT_OP_DENSE && dt_node_has(n, DT_DENSE_IN_BIAS);
    const bool is_f32 = biased && g->value[n->in[DT_DENSE_IN_BIAS]].dtype == DT_DTYPE_F32;
    DT_TRY(choose_end(cu, g, n, p));
    if (d->end.use) {
        (void)dt_prep_take(p, d->end.matmul.bytes);
        return DT_OK;
    }
    if (biased) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        d->bias16 = p->t != DT_DTYPE_F32 && is_f32; /* the epilogue wants the bias in the output's dtype */
        DT_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(d->matmul, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                     sizeof epilogue));
    }
    DT_TRY(dt_blas_layout(cu, p->t, q.a_rows, q.a_cols, &d->a));
    DT_TRY(dt_blas_layout(cu, p->t, q.b_rows, q.b_cols, &d->b));
    DT_TRY(dt_blas_layout(cu, p->t, q.d_rows, q.d_cols, &d->d));
    dt_blas_matmul found = {.desc = d->matmul, .a = d->a, .b = d->b, .d = d->d};
    DT_TRY(dt_blas_first(cu, &found, p->label));
    d->algo = found.algo;
    d->plan_bytes = (size_t)found.bytes;
    (void)dt_prep_take(p, (int64_t)d->plan_bytes);
    if (d->bias16) (void)dt_prep_take(p, d->k * (int64_t)dt_dtype_size(p->t));
    return DT_OK;
}

dt_status dt_lower_dense_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s) {
    const dt_prep *p = k->prep;
    const dt_dense_prep *d = &p->dense;
    const float one = 1.0f, zero = 0.0f;
    if (d->end.use) {
        const dt_blas_operands o = {.a = k->b.in[DT_DENSE_IN_W],
                                    .b = k->b.in[DT_DENSE_IN_X],
                                    .c = k->b.in[DT_DENSE_IN_RES],
                                    .d = k->b.out[0],
                                    .vector = k->b.in[DT_DENSE_IN_BIAS],
                                    .workspace = k->b.workspace};
        DT_TRY(dt_blas_run(cu, &d->end.matmul, &o, s));
        return d->own_end ? own_end(cu, k, NULL, s) : DT_OK;
    }
    /* A is the weight forward and in dgrad, x in wgrad. */
    const void *a = p->node.op == DT_OP_DENSE_WGRAD ? k->b.in[0] : k->b.in[1];
    const void *b = p->node.op == DT_OP_DENSE_WGRAD ? k->b.in[1] : k->b.in[0];
    const void *bias = p->node.op == DT_OP_DENSE ? k->b.in[DT_DENSE_IN_BIAS] : NULL;
    if (bias) {
        if (d->bias16) {
            void *bias16 = dt_bound_workspace(k, dt_round_up((int64_t)d->plan_bytes, 256));
            DT_TRY(dt_launch_status(dt_gpu_cast_vectors(p->t, bias, NULL, bias16, d->k, s), k));
            bias = bias16;
        }
        DT_CUBLAS_TRY(
            cublasLtMatmulDescSetAttribute(d->matmul, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    }
    cublasStatus_t st = cublasLtMatmul(cu->blas, d->matmul, &one, a, d->a, b, d->b, &zero, k->b.out[0], d->d,
                                       k->b.out[0], d->d, &d->algo, k->b.workspace, d->plan_bytes, s);
    if (st == CUBLAS_STATUS_SUCCESS) return d->own_end ? own_end(cu, k, k->b.in[DT_DENSE_IN_RES], s) : DT_OK;
    dt_status failed = dt_cublas_fail(st, "cublasLtMatmul", __FILE__, __LINE__);
    dt_error_context("%s", p->label);
    return failed;
}
