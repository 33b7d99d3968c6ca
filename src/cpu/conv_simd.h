/* The inner loops of convolution, once per instruction set; private to conv_*.c, gemm.c and dense.c.
 *
 * conv_avx512.c, conv_avx2.c and conv_generic.c each define the vector type and include conv_gemm_inner.h and
 * conv_winograd_inner.h, which hold the loops; dt_cpu_simd_get picks one table at run time. */
#ifndef DT_CPU_CONV_SIMD_H
#define DT_CPU_CONV_SIMD_H

#include <stdbool.h>
#include <stdint.h>

/* Rows of an implicit matrix: row (n, i, j) holds, tap by tap, `c` channels of the source pixels
 * (i*stride_h + off_h + th*dil_h, j*stride_w + off_w + tw*dil_w); pixels outside the image are 0.
 * Source: [n, src_h, src_w, src_c], channels c0 .. c0+c. Columns: taps_h * taps_w * c. */
typedef struct dt_cpu_gather {
    int64_t src_h, src_w, src_c, c0, c;
    int64_t out_h, out_w;
    int64_t stride_h, stride_w, off_h, off_w, dil_h, dil_w, taps_h, taps_w;
} dt_cpu_gather;

/* Where rows of a product go: row (n, i, j) is pixel (h0 + i*step_h, w0 + j*step_w) of image n of
 * [n, dst_h, dst_w, dst_c]. */
typedef struct dt_cpu_scatter {
    int64_t dst_h, dst_w, dst_c, out_h, out_w, h0, w0, step_h, step_w;
} dt_cpu_scatter;

typedef struct dt_cpu_simd {
    const char *name;
    int64_t lanes; /* floats in a vector */
    int64_t nr;    /* width of a packed panel: two vectors */
    int64_t mr;    /* rows of a full register block */

    /* Copies columns [col0, col1) of rows [row0, row0 + n_row) to dst[row * pitch + col - col0]. */
    void (*gather)(const dt_cpu_gather *g, const float *src, int64_t row0, int64_t n_row, int64_t col0,
                   int64_t col1, float *dst, int64_t pitch);
    /* Copies n columns of rows [row0, row0 + n_row) from tile [n_row][pitch]; tile NULL: zeros. */
    void (*scatter)(const dt_cpu_scatter *s, const float *tile, int64_t row0, int64_t n_row, int64_t n,
                    float *dst, int64_t pitch);
    /* c[m,n] = init + a[m,k] b[k,n]. b: panels [ceil(n/nr)][k][nr]. init: NULL is 0; row i is init +
     * i*init_ld, so init_ld = 0 adds a bias and init = c accumulates. stream: c is large, and past the caches it goes
     * where it can. */
    void (*gemm_nn)(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                    const float *init, int64_t init_ld, float *c, int64_t ldc, bool stream);
    /* c[m,n] = init + a^T b for a [k,m], b [k,n] row-major. Rows of b are read up to n rounded up to
     * lanes. */
    void (*gemm_tn)(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                    const float *init, int64_t init_ld, float *c, int64_t ldc);
    /* A panel for gemm_nn from columns: dst[i*nr + j] = src[j*ld + i] for j < n <= nr, else 0; i < depth. */
    void (*pack_turned)(int64_t n, int64_t depth, const float *src, int64_t ld, float *dst);
    /* Winograd F(4x4,3x3); value xi of the 36 of a tile is `step` floats after value xi - 1, `channels` is a
     * multiple of lanes. Input: pixels (row-major) to values; grad: 4x4 pixels of dy likewise. */
    void (*winograd_input)(const float *const pixel[36], int64_t channels, float *dst, int64_t step);
    void (*winograd_grad)(const float *const pixel[16], int64_t channels, float *dst, int64_t step);
    /* Values to the rows x cols (at most 4 x 4) pixels of an output tile. bias may be NULL. */
    void (*winograd_output)(const float *src, int64_t step, int64_t channels, const float *bias, float *dst,
                            int64_t row_step, int64_t col_step, int64_t rows, int64_t cols);
    /* Values to dst [3*3, channels], or added to it. */
    void (*winograd_dw)(const float *src, int64_t step, int64_t channels, float *dst, bool add);
    /* n_row vectors of weights; tap t of vector i is at g[t * tap_step + i * row_step] and its values go to
     * dst[i * nr]. flip: the taps in reverse, as the gradient of the input wants. */
    void (*winograd_filter)(const float *g, int64_t tap_step, int64_t row_step, bool flip, int64_t n_row,
                            float *dst, int64_t step);
    /* y[i] += a[i] * b[i] */
    void (*mul_add)(int64_t n, const float *a, const float *b, float *y);
} dt_cpu_simd;

extern const dt_cpu_simd dt_cpu_simd_generic;
#if defined(__x86_64__)
extern const dt_cpu_simd dt_cpu_simd_avx2;
extern const dt_cpu_simd dt_cpu_simd_avx512;
#endif

/* The widest one this processor runs; DT_CPU_ISA in the environment (avx512, avx2, generic) asks for less. */
const dt_cpu_simd *dt_cpu_simd_get(void);

#endif
