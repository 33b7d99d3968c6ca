/* Dense layers: OpenBLAS matrix products, row-major, over as many threads as threads.c gave it. */
#include <cblas.h>

#include "kernels_conv.h"

void dt_cpu_dense_forward(int64_t n, int64_t c, int64_t k, const float *x, const float *w, const float *bias,
                          float *y) {
    for (int64_t i = 0; bias && i < n * k; i++) y[i] = bias[i % k];
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)k, (blasint)c, 1.0f, x,
                (blasint)c, w, (blasint)c, bias ? 1.0f : 0.0f, y, (blasint)k);
}

void dt_cpu_dense_dgrad(int64_t n, int64_t c, int64_t k, const float *dy, const float *w, float *dx) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)n, (blasint)c, (blasint)k, 1.0f, dy,
                (blasint)k, w, (blasint)c, 0.0f, dx, (blasint)c);
}

void dt_cpu_dense_wgrad(int64_t n, int64_t c, int64_t k, const float *x, const float *dy, float *dw) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)k, (blasint)c, (blasint)n, 1.0f, dy,
                (blasint)k, x, (blasint)c, 0.0f, dw, (blasint)c);
}
