/* Products of matrices in double, for all ops that are sums of products: operands are brought as blocks, so that a
 * convolution's never exists as a whole. The order of each sum follows from the shape alone. */
#ifndef DT_ONNX_GEMM_H
#define DT_ONNX_GEMM_H

#include "core/status.h"

#include <stdint.h>

/* Writes rows [row, row + n_row) and columns [col, col + n_col) of a matrix to out[r * ld + k]. */
typedef void dt_gemm_pack(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col,
                          double *out, int64_t ld);

typedef struct dt_gemm {
    int64_t m, n, k;
    const void *self; /* handed to all three */
    dt_gemm_pack *a;  /* of [m, k] */
    dt_gemm_pack *b;  /* of [k, n] */
    /* Takes columns [col, col + n_col) of a row of the product; from several threads at once. */
    void (*store)(const void *self, int64_t row, int64_t col, int64_t n_col, const double *sum);
} dt_gemm;

/* DT_ERR_MEMORY: no room for the blocks. */
dt_status dt_gemm_run(const dt_gemm *g);
/* c[m, n] = a[m, k] b[n, k] transposed. */
dt_status dt_gemm_transposed(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c);

#endif
