/* Batch normalisation backward whose gradient is gathered from that of a max pool's output: BN_REDUCE and
 * BN_DX with dyp. Pixel by pixel; the plain forms are in norm_grad.c. */
#include "kernels.h"

#include <string.h>

enum { BLOCK_ROWS = 128 }; /* rows summed in fp32 before joining the double sums */

/* Operands; per-channel vectors. */
typedef struct pooled {
    const float *c, *scale, *shift, *dyp, *dyp2;
    const uint8_t *idx;
} pooled;

/* g = the masked gradient of n <= DT_CPU_TILE channels of a pixel. */
static void masked_grad(const dt_cpu_node *d, const pooled *a, int64_t pixel, int64_t c0, int64_t n,
                        float *g) {
    const float *c = a->c + pixel * d->c + c0, *scale = a->scale + c0, *shift = a->shift + c0;
    memset(g, 0, (size_t)n * sizeof *g);
    dt_cpu_maxpool_gather(d, a->dyp, a->dyp2, a->idx, pixel, c0, n, g);
    for (int64_t i = 0; i < n; i++) g[i] = c[i] * scale[i] + shift[i] > 0 ? g[i] : 0;
}

static void piece(const dt_cpu_node *d, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                  double *partial) {
    void *const *in = d->b.in;
    const pooled a = {in[DT_REDUCE_IN_C],   in[DT_REDUCE_IN_SCALE], in[DT_REDUCE_IN_SHIFT],
                      in[DT_REDUCE_IN_DYP], in[DT_REDUCE_IN_DYP2],  in[DT_REDUCE_IN_IDX]};
    const float *mean = (const float *)in[DT_REDUCE_IN_MEAN] + col0;
    float g[DT_CPU_TILE], s1[DT_CPU_TILE], s2[DT_CPU_TILE];
    for (int64_t i = 0; i < cols; i++) partial[i] = partial[d->c + i] = 0;
    for (int64_t r = 0; r < rows; r += BLOCK_ROWS) {
        memset(s1, 0, sizeof s1);
        memset(s2, 0, sizeof s2);
        for (int64_t k = r; k < dt_min_i64(r + BLOCK_ROWS, rows); k++) {
            const float *c = a.c + (row0 + k) * d->c + col0;
            masked_grad(d, &a, row0 + k, col0, cols, g);
            for (int64_t i = 0; i < cols; i++) s1[i] += g[i], s2[i] += g[i] * (c[i] - mean[i]);
        }
        for (int64_t i = 0; i < cols; i++) partial[i] += (double)s1[i], partial[d->c + i] += (double)s2[i];
    }
}

dt_status dt_cpu_bn_reduce_pooled(const dt_cpu_node *d) {
    dt_cpu_reduce_columns(d, 2, piece, dt_cpu_bn_reduce_combine);
    return DT_OK;
}

dt_status dt_cpu_bn_dx_pooled(const dt_cpu_node *d) {
    void *const *in = d->b.in;
    const pooled a = {in[DT_DX_IN_C],   in[DT_DX_IN_SCALE], in[DT_DX_IN_SHIFT],
                      in[DT_DX_IN_DYP], in[DT_DX_IN_DYP2],  in[DT_DX_IN_IDX]};
    const float *coef = in[DT_DX_IN_COEF];
    float *dc = d->b.out[0];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t pixel = 0; pixel < d->m; pixel++)
        for (int64_t c0 = 0; c0 < d->c; c0 += DT_CPU_TILE) {
            float g[DT_CPU_TILE];
            const int64_t n = dt_min_i64(DT_CPU_TILE, d->c - c0), at = pixel * d->c + c0;
            masked_grad(d, &a, pixel, c0, n, g);
            for (int64_t i = 0; i < n; i++)
                dc[at + i] =
                    coef[c0 + i] * g[i] + (coef[d->c + c0 + i] * a.c[at + i] + coef[2 * d->c + c0 + i]);
        }
    return DT_OK;
}
