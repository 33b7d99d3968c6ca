/* Launchers of the kernels around Gram matrices (core/op.h, GRAM to BN_GRAM_DX). Letters as there; rows m.
 * fp32 accumulation, no atomics. All return the launch's error. */
#ifndef DT_GPU_GRAM_H
#define DT_GPU_GRAM_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* gram_mma.cu: products on the matrix units, for 16-bit floats, channels by eight and aligned pointers; a
 * plain kernel else. */

/* out f32 [ka,kb] = a^T diag(weight) b, a T [m,ka], b T [m,kb]; a == b: the product is symmetric. sum, f32
 * [ka], gets a's column sums, of rows times sum_weight, where it is not NULL. weight and sum_weight f32 [m],
 * both or neither (NULL: 1); weighted products are for few rows. */
typedef struct dt_gpu_cross_args {
    const void *a, *b;
    float *out, *sum;
    const float *weight, *sum_weight;
    float *workspace; /* dt_gpu_cross_bytes */
    int64_t rows, ka, kb;
} dt_gpu_cross_args;
int64_t dt_gpu_cross_bytes(const dt_gpu *gpu, int64_t rows, int64_t ka, int64_t kb, bool weighted);
cudaError_t dt_gpu_cross(const dt_gpu *gpu, dt_dtype t, const dt_gpu_cross_args *a, cudaStream_t s);

/* out T [m,n] = a1 b1 * scale + a2 b2 + v + base, a1 T [m,k1], b1 T [k1,n], a2 T [m,k2], b2 T [k2,n], scale
 * f32 [n]. v f32 [n], NULL: 0. base T [m,n], NULL: 0; may be out. k2 may be 0. */
typedef struct dt_gpu_rows_args {
    const void *a1, *b1, *a2, *b2;
    const float *scale, *v;
    const void *base;
    void *out;
    int64_t rows, k1, k2, n;
} dt_gpu_rows_args;
cudaError_t dt_gpu_rows(const dt_gpu *gpu, dt_dtype t, const dt_gpu_rows_args *a, cudaStream_t s);

/* gram.cu */

/* Adds up the splits, in double and in order: out [n] = sum over splits of partial [splits,n]; likewise out2
 * [n2] of partial2 (n2 may be 0). */
typedef struct dt_gpu_sum_args {
    const float *partial, *partial2;
    float *out, *out2;
    int64_t n, n2;
    int32_t splits;
} dt_gpu_sum_args;
cudaError_t dt_gpu_sum_splits(const dt_gpu_sum_args *a, cudaStream_t s);

typedef struct dt_gpu_bn_mask_args {
    const void *dy, *dy2, *y; /* dy2, y NULL: absent */
    void *dz;                 /* NULL: not written; may be dy */
    float *dbeta;
    float *workspace; /* dt_gpu_bn_mask_bytes */
    int64_t rows, c;
} dt_gpu_bn_mask_args;
int64_t dt_gpu_bn_mask_bytes(const dt_gpu *gpu, int64_t rows, int64_t c);
cudaError_t dt_gpu_bn_mask(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_mask_args *a, cudaStream_t s);

/* The rows of BN_GRAM_GRAD: all outputs but mv, and coefficients B, D f32 [2,K]. */
typedef struct dt_gpu_gram_grad_args {
    const float *p, *dbeta, *wcov, *sum, *mean, *invstd, *gamma;
    const void *w;
    void *dgamma, *dbeta_out, *dw, *wa; /* T */
    float *coef;
    double rows;
    int64_t k, c;
} dt_gpu_gram_grad_args;
cudaError_t dt_gpu_gram_grad(dt_dtype t, const dt_gpu_gram_grad_args *a, cudaStream_t s);
/* m T [n,c] = in f32 [n,c] / scale with a power of two per column, scale f32 [c]. */
cudaError_t dt_gpu_narrow_columns(dt_dtype t, const float *in, int64_t n, int64_t c, void *m, float *scale,
                                  cudaStream_t s);

/* gram_stats.cu: BN_FINALIZE of c = x w^T from gram f32 [C,C] = x^T x and the sums of x. The covariance
 * passes through the matrix units as a sum of two matrices of T, so that 16 bits cost it nothing. bn.stats is
 * the sums f32 [C], bn.c is K. */
typedef struct dt_gpu_bn_gram_args {
    dt_gpu_bn_finalize_args bn;
    const float *gram;
    const void *w;    /* T [K,C] */
    float *wcov;      /* [K,C] */
    float *workspace; /* dt_gpu_bn_gram_bytes */
    int64_t c;
} dt_gpu_bn_gram_args;
int64_t dt_gpu_bn_gram_bytes(int64_t k, int64_t c);
cudaError_t dt_gpu_bn_gram(dt_dtype t, const dt_gpu_bn_gram_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
