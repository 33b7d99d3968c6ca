#include "gemm.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/simd.h"
#include "core/types.h"

enum {
    BLOCK_N = 128,
    BLOCK_K = 256,
    BLOCK_M = 64,  /* rows of a packed at once */
    SUPER_M = 512, /* rows whose sums are held */
    TILE_M = 4,
    TILE_N = 16,
    DOUBLES = SUPER_M * BLOCK_N + BLOCK_M * BLOCK_K + BLOCK_K * BLOCK_N
};

typedef double lanes __attribute__((vector_size(64), aligned(64)));

/* sum[TILE_M][TILE_N] += a[TILE_M][nk] b[nk][TILE_N] for all tiles of a block. */
DT_CPU_SIMD static void multiply(int64_t nm, int64_t nn, int64_t nk, const double *a, const double *b,
                                 double *sum) {
    for (int64_t j = 0; j < nn; j += TILE_N)
        for (int64_t i = 0; i < nm; i += TILE_M) {
            lanes t[TILE_M][2];
            double *at = sum + i * BLOCK_N + j;
            for (int r = 0; r < TILE_M; r++)
                for (int h = 0; h < 2; h++) t[r][h] = *(const lanes *)(at + r * BLOCK_N + 8 * h);
            const double *pa = a + i * BLOCK_K, *pb = b + j;
            for (int64_t k = 0; k < nk; k++) {
                const lanes b0 = *(const lanes *)(pb + k * BLOCK_N),
                            b1 = *(const lanes *)(pb + k * BLOCK_N + 8);
                for (int r = 0; r < TILE_M; r++) {
                    const double x = pa[r * BLOCK_K + k];
                    t[r][0] += x * b0;
                    t[r][1] += x * b1;
                }
            }
            for (int r = 0; r < TILE_M; r++)
                for (int h = 0; h < 2; h++) *(lanes *)(at + r * BLOCK_N + 8 * h) = t[r][h];
        }
}

/* Columns [col, col + nn) of rows [row, row + nm). */
static void block(const dt_gemm *g, int64_t row, int64_t nm, int64_t col, int64_t nn, double *room) {
    double *sum = room, *a = sum + SUPER_M * BLOCK_N, *b = a + BLOCK_M * BLOCK_K;
    const int64_t wide = dt_round_up(nn, TILE_N);
    memset(sum, 0, sizeof *sum * (size_t)(dt_round_up(nm, TILE_M) * BLOCK_N));
    for (int64_t k = 0; k < g->k; k += BLOCK_K) {
        const int64_t nk = dt_min_i64(BLOCK_K, g->k - k);
        if (wide > nn)
            for (int64_t r = 0; r < nk; r++) memset(b + r * BLOCK_N + nn, 0, sizeof *b * (size_t)(wide - nn));
        g->b(g->self, k, nk, col, nn, b, BLOCK_N);
        for (int64_t m = 0; m < nm; m += BLOCK_M) {
            const int64_t n_row = dt_min_i64(BLOCK_M, nm - m), tall = dt_round_up(n_row, TILE_M);
            g->a(g->self, row + m, n_row, k, nk, a, BLOCK_K);
            for (int64_t r = n_row; r < tall; r++) memset(a + r * BLOCK_K, 0, sizeof *a * (size_t)nk);
            multiply(tall, wide, nk, a, b, sum + m * BLOCK_N);
        }
    }
    for (int64_t r = 0; r < nm; r++) g->store(g->self, row + r, col, nn, sum + r * BLOCK_N);
}

dt_status dt_gemm_run(const dt_gemm *g) {
    if (g->m <= 0 || g->n <= 0) return DT_OK;
    const int64_t n_col = dt_ceil_div(g->n, BLOCK_N), n_row = dt_ceil_div(g->m, SUPER_M),
                  n_block = n_col * n_row;
    const bool small = (double)g->m * (double)g->n * (double)g->k < 1e6;
    const int threads = small ? 1 : (int)dt_min_i64(omp_get_max_threads(), n_block);
    double *room = aligned_alloc(64, sizeof *room * DOUBLES * (size_t)threads);
    if (!room) return dt_fail(DT_ERR_MEMORY, "no memory for a product of matrices");
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i = 0; i < n_block; i++) {
        const int64_t col = i / n_row * BLOCK_N, row = i % n_row * SUPER_M;
        block(g, row, dt_min_i64(SUPER_M, g->m - row), col, dt_min_i64(BLOCK_N, g->n - col),
              room + (int64_t)omp_get_thread_num() * DOUBLES);
    }
    free(room);
    return DT_OK;
}

typedef struct dense {
    int64_t n, k;
    const double *a, *b;
    double *c;
} dense;

static void dense_a(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col, double *out,
                    int64_t ld) {
    const dense *d = self;
    for (int64_t r = 0; r < n_row; r++)
        memcpy(out + r * ld, d->a + (row + r) * d->k + col, sizeof *out * (size_t)n_col);
}

static void dense_b(const void *self, int64_t row, int64_t n_row, int64_t col, int64_t n_col, double *out,
                    int64_t ld) {
    const dense *d = self;
    for (int64_t j = 0; j < n_col; j++)
        for (int64_t r = 0; r < n_row; r++) out[r * ld + j] = d->b[(col + j) * d->k + row + r];
}

static void dense_store(const void *self, int64_t row, int64_t col, int64_t n_col, const double *sum) {
    const dense *d = self;
    memcpy(d->c + row * d->n + col, sum, sizeof *sum * (size_t)n_col);
}

dt_status dt_gemm_transposed(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c) {
    const dense d = {n, k, a, b, c};
    return dt_gemm_run(
        &(dt_gemm){.m = m, .n = n, .k = k, .self = &d, .a = dense_a, .b = dense_b, .store = dense_store});
}
