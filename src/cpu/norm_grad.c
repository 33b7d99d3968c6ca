/* Batch normalisation backward: the reduction over rows, the input gradient, and the bias gradient (a plain
 * column sum). A ReLU's mask is applied while reading: from its output or recomputed from the BN input, with
 * the forward's own arithmetic. */
#include "kernels.h"

#include <string.h>

enum { BLOCK_ROWS = 128 }; /* wide rows summed in fp32 before joining the double sums */

/* Operands of BN_REDUCE at the first element of a piece; wide per-channel vectors. */
typedef struct reduce_args {
    const float *dy, *dy2, *c, *y, *mean, *scale, *shift;
    float *dz;
} reduce_args;

/* Where a ReLU's mask comes from: nowhere, y > 0, or c * scale + shift > 0. */
typedef enum mask_kind { MASK_NONE = 0, MASK_FROM_Y, MASK_FROM_C } mask_kind;

/* g = the masked gradient of n elements at `at`; returns where it is (dy itself if nothing is to be done). */
DT_CPU_INLINE const float *masked_grad(const reduce_args *a, mask_kind mask, int64_t at, int64_t n,
                                       float *buf) {
    const float *dy = a->dy + at;
    float *g = a->dz ? a->dz + at : buf;
    if (a->dy2) {
        const float *dy2 = a->dy2 + at;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) g[i] = dy[i] + dy2[i];
        dy = g;
    }
    if (mask == MASK_FROM_Y) {
        const float *y = a->y + at;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) g[i] = y[i] > 0 ? dy[i] : 0;
    } else if (mask == MASK_FROM_C) {
        const float *c = a->c + at;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) g[i] = c[i] * a->scale[i] + a->shift[i] > 0 ? dy[i] : 0;
    } else if (dy != g && a->dz) {
        memmove(g, dy, (size_t)n * sizeof *g);
    } else {
        return dy;
    }
    return g;
}

DT_CPU_SIMD static void grad_sums(const reduce_args *a, mask_kind mask, const dt_cpu_wide *v, int64_t r0,
                                  int64_t r1, float *s1, float *s2) {
    float buf[DT_CPU_TILE];
    memset(s1, 0, (size_t)v->width * sizeof *s1);
    memset(s2, 0, (size_t)v->width * sizeof *s2);
    for (int64_t r = r0; r < r1; r++) {
        int64_t at = r * v->stride, n = r + 1 == v->n_row ? v->last_width : v->width;
        const float *g = masked_grad(a, mask, at, n, buf), *c = a->c + at;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            s1[i] += g[i];
            s2[i] += g[i] * (c[i] - a->mean[i]);
        }
    }
}

static void bn_reduce_piece(const dt_cpu_node *d, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                            double *partial) {
    int64_t at = row0 * d->c + col0;
    void *const *in = d->b.in;
    const float *dy2 = in[DT_REDUCE_IN_DY2], *y = in[DT_REDUCE_IN_Y], *scale = in[DT_REDUCE_IN_SCALE];
    const mask_kind mask = y ? MASK_FROM_Y : scale ? MASK_FROM_C : MASK_NONE;
    float *dz = d->b.out[DT_REDUCE_OUT_DZ];
    dt_cpu_wide v = dt_cpu_wide_make(rows, d->c, cols);
    float buf[3][DT_CPU_WIDE], s1[DT_CPU_TILE], s2[DT_CPU_TILE];
    reduce_args a = {.dy = (const float *)in[DT_REDUCE_IN_DY] + at,
                     .dy2 = dy2 ? dy2 + at : NULL,
                     .c = (const float *)in[DT_REDUCE_IN_C] + at,
                     .y = y ? y + at : NULL,
                     .mean = dt_cpu_widen(buf[0], (const float *)in[DT_REDUCE_IN_MEAN] + col0, &v),
                     .dz = dz ? dz + at : NULL};
    if (mask == MASK_FROM_C) {
        a.scale = dt_cpu_widen(buf[1], scale + col0, &v);
        a.shift = dt_cpu_widen(buf[2], (const float *)in[DT_REDUCE_IN_SHIFT] + col0, &v);
    }
    for (int64_t i = 0; i < cols; i++) partial[i] = partial[d->c + i] = 0;
    for (int64_t r = 0; r < v.n_row; r += BLOCK_ROWS) {
        grad_sums(&a, mask, &v, r, dt_min_i64(r + BLOCK_ROWS, v.n_row), s1, s2);
        for (int64_t i = 0; i < cols; i++) {
            partial[i] += dt_cpu_fold(s1, i, cols, v.group);
            partial[d->c + i] += dt_cpu_fold(s2, i, cols, v.group);
        }
    }
}

dt_status dt_cpu_bn_reduce(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    if (d->b.in[DT_REDUCE_IN_DYP]) return dt_cpu_bn_reduce_pooled(d);
    dt_cpu_reduce_columns(d, 2, bn_reduce_piece, dt_cpu_bn_reduce_combine);
    return DT_OK;
}

/* Wide per-channel vectors of BN_DX; scale is NULL without a mask. */
typedef struct dx_params {
    const float *a, *b, *d, *scale, *shift;
} dx_params;

DT_CPU_SIMD static void dx_piece(float *dc, const float *dz, const float *c, const dt_cpu_wide *v,
                                 const dx_params *k) {
    for (int64_t r = 0; r < v->n_row; r++) {
        int64_t at = r * v->stride, n = r + 1 == v->n_row ? v->last_width : v->width;
        if (k->scale) {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                float g = c[at + i] * k->scale[i] + k->shift[i] > 0 ? dz[at + i] : 0;
                dc[at + i] = k->a[i] * g + (k->b[i] * c[at + i] + k->d[i]);
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                dc[at + i] = k->a[i] * dz[at + i] + (k->b[i] * c[at + i] + k->d[i]);
        }
    }
}

dt_status dt_cpu_bn_dx(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    if (d->b.in[DT_DX_IN_DYP]) return dt_cpu_bn_dx_pooled(d);
    void *const *in = d->b.in;
    const float *dz = in[DT_DX_IN_DY], *c = in[DT_DX_IN_C], *coef = in[DT_DX_IN_COEF];
    float *dc = d->b.out[0];
    int64_t chunk = dt_cpu_chunk_rows(d->m, d->c);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t row = 0; row < d->m; row += chunk) {
        dt_cpu_wide v = dt_cpu_wide_make(dt_min_i64(chunk, d->m - row), d->c, d->c);
        float buf[5][DT_CPU_WIDE];
        dx_params k = {dt_cpu_widen(buf[0], coef, &v), dt_cpu_widen(buf[1], coef + d->c, &v),
                       dt_cpu_widen(buf[2], coef + 2 * d->c, &v), NULL, NULL};
        if (in[DT_DX_IN_SCALE]) {
            k.scale = dt_cpu_widen(buf[3], in[DT_DX_IN_SCALE], &v);
            k.shift = dt_cpu_widen(buf[4], in[DT_DX_IN_SHIFT], &v);
        }
        dx_piece(dc + row * d->c, dz + row * d->c, c + row * d->c, &v, &k);
    }
    return DT_OK;
}

DT_CPU_SIMD static void column_sums(const float *x, const dt_cpu_wide *v, int64_t r0, int64_t r1,
                                    float *sum) {
    memset(sum, 0, (size_t)v->width * sizeof *sum);
    for (int64_t r = r0; r < r1; r++) {
        const float *row = x + r * v->stride;
        int64_t n = r + 1 == v->n_row ? v->last_width : v->width;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) sum[i] += row[i];
    }
}

static void bias_piece(const dt_cpu_node *d, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                       double *partial) {
    const float *dy = (const float *)d->b.in[0] + row0 * d->c + col0;
    dt_cpu_wide v = dt_cpu_wide_make(rows, d->c, cols);
    float sum[DT_CPU_TILE];
    for (int64_t i = 0; i < cols; i++) partial[i] = 0;
    for (int64_t r = 0; r < v.n_row; r += BLOCK_ROWS) {
        column_sums(dy, &v, r, dt_min_i64(r + BLOCK_ROWS, v.n_row), sum);
        for (int64_t i = 0; i < cols; i++) partial[i] += dt_cpu_fold(sum, i, cols, v.group);
    }
}

static void bias_combine(const dt_cpu_node *d, const dt_cpu_split *s, const double *partial, int64_t col0,
                         int64_t cols) {
    float *db = d->b.out[0];
    for (int64_t i = col0; i < col0 + cols; i++) {
        double sum = 0;
        for (int64_t j = 0; j < s->n_chunk; j++) sum += partial[j * d->c + i];
        db[i] = (float)sum;
    }
}

dt_status dt_cpu_bias_grad(void *node, dt_stream *stream) {
    (void)stream;
    dt_cpu_reduce_columns(node, 1, bias_piece, bias_combine);
    return DT_OK;
}
