/* Batch normalisation forward: statistics, finalize, fold (evaluation) and apply; and the coefficients of its
 * backward, which is in norm_grad.c and norm_pool.c. */
#include "kernels.h"

#include <math.h>
#include <string.h>

enum { SHIFT_ROWS = 8, BLOCK_ROWS = 128 }; /* wide rows */

/* s1 = sum of (x - shift), s2 = sum of squares of it, per wide column, over wide rows [r0, r1). */
DT_CPU_SIMD static void shifted_sums(const float *x, const dt_cpu_wide *v, int64_t r0, int64_t r1,
                                     const float *shift, float *s1, float *s2) {
    memset(s1, 0, (size_t)v->width * sizeof *s1);
    memset(s2, 0, (size_t)v->width * sizeof *s2);
    for (int64_t r = r0; r < r1; r++) {
        const float *row = x + r * v->stride;
        int64_t n = r + 1 == v->n_row ? v->last_width : v->width;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float delta = row[i] - shift[i];
            s1[i] += delta;
            s2[i] += delta * delta;
        }
    }
}

/* Mean and sum of squared deviations of a piece. One pass: deviations are taken from the mean of the first
 * rows of a block, which is near enough to its mean (their squared distance is at most BLOCK_ROWS /
 * SHIFT_ROWS variances), and blocks are joined in double by Chan, Golub & LeVeque's formula (1979). */
static void stats_piece(const dt_cpu_node *d, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                        double *partial) {
    const float *x = (const float *)d->b.in[0] + row0 * d->c + col0;
    double *mean = partial, *dev2 = partial + d->c;
    dt_cpu_wide v = dt_cpu_wide_make(rows, d->c, cols);
    float shift[DT_CPU_TILE], s1[DT_CPU_TILE], s2[DT_CPU_TILE];
    double n = 0;
    for (int64_t i = 0; i < cols; i++) mean[i] = dev2[i] = 0;
    for (int64_t r = 0; r < v.n_row; r += BLOCK_ROWS) {
        int64_t end = dt_min_i64(r + BLOCK_ROWS, v.n_row), head = dt_min_i64(r + SHIFT_ROWS, end);
        double n_head = (double)(dt_min_i64(head * v.group, rows) - r * v.group);
        double n_block = (double)(dt_min_i64(end * v.group, rows) - r * v.group);
        memset(shift, 0, sizeof shift);
        shifted_sums(x, &v, r, head, shift, s1, s2);
        for (int64_t i = 0; i < cols; i++) shift[i] = (float)(dt_cpu_fold(s1, i, cols, v.group) / n_head);
        for (int64_t i = cols; i < v.width; i++) shift[i] = shift[i - cols];
        shifted_sums(x, &v, r, end, shift, s1, s2);
        double part = n_block / (n + n_block);
        for (int64_t i = 0; i < cols; i++) {
            double sum = dt_cpu_fold(s1, i, cols, v.group);
            double delta = (double)shift[i] + sum / n_block - mean[i];
            dev2[i] += dt_cpu_fold(s2, i, cols, v.group) - sum * sum / n_block + delta * delta * n * part;
            mean[i] += delta * part;
        }
        n += n_block;
    }
}

static void stats_combine(const dt_cpu_node *d, const dt_cpu_split *s, const double *partial, int64_t col0,
                          int64_t cols) {
    float *out = d->b.out[0];
    for (int64_t i = col0; i < col0 + cols; i++) {
        double n = 0, mean = 0, dev2 = 0;
        for (int64_t k = 0; k < s->n_chunk; k++) {
            const double *part = partial + k * 2 * d->c + i;
            double rows = (double)dt_min_i64(s->chunk_rows, d->m - k * s->chunk_rows);
            double delta = part[0] - mean, w = rows / (n + rows);
            mean += delta * w;
            dev2 += part[d->c] + delta * delta * n * w;
            n += rows;
        }
        out[i] = (float)mean;
        out[d->c + i] = (float)(dev2 > 0 || dev2 != dev2 ? dev2 / n : 0);
    }
}

dt_status dt_cpu_bn_stats(void *node, dt_stream *stream) {
    (void)stream;
    dt_cpu_reduce_columns(node, 2, stats_piece, stats_combine);
    return DT_OK;
}

dt_status dt_cpu_bn_finalize(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    void *const *in = d->b.in, *const *out = d->b.out;
    const float *stats = in[DT_FINALIZE_IN_STATS], *gamma = in[DT_FINALIZE_IN_GAMMA],
                *beta = in[DT_FINALIZE_IN_BETA];
    float *rmean = in[DT_FINALIZE_IN_RMEAN], *rvar = in[DT_FINALIZE_IN_RVAR];
    float *mean_out = out[DT_FINALIZE_OUT_MEAN], *invstd_out = out[DT_FINALIZE_OUT_INVSTD];
    float *scale = out[DT_FINALIZE_OUT_SCALE], *shift = out[DT_FINALIZE_OUT_SHIFT];
    double m = (double)d->attr.norm.rows, eps = (double)d->attr.norm.eps,
           momentum = (double)d->attr.norm.momentum;
    double unbias = m > 1 ? m / (m - 1) : 1;
    for (int64_t i = 0; i < d->c; i++) {
        double mean = (double)stats[i], var = (double)stats[d->c + i];
        if (d->attr.norm.stats_are_sums) {
            mean /= m;
            var = var / m - mean * mean;
            if (var < 0) var = 0;
        }
        double invstd = 1 / sqrt(var + eps);
        mean_out[i] = (float)mean;
        invstd_out[i] = (float)invstd;
        scale[i] = (float)((double)gamma[i] * invstd);
        shift[i] = (float)((double)beta[i] - mean * (double)gamma[i] * invstd);
        /* The update after a batch that is not finite is skipped: its statistics must not stay either. */
        if (!isfinite((float)mean) || !isfinite((float)(var * unbias))) continue;
        rmean[i] += (float)(momentum * (mean - (double)rmean[i]));
        rvar[i] += (float)(momentum * (var * unbias - (double)rvar[i]));
    }
    return DT_OK;
}

dt_status dt_cpu_bn_fold(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *gamma = d->b.in[0], *beta = d->b.in[1], *rmean = d->b.in[2], *rvar = d->b.in[3];
    float *scale = d->b.out[0], *shift = d->b.out[1];
    for (int64_t i = 0; i < d->c; i++) {
        double s = (double)gamma[i] / sqrt((double)rvar[i] + (double)d->attr.norm.eps);
        scale[i] = (float)s;
        shift[i] = (float)((double)beta[i] - (double)rmean[i] * s);
    }
    return DT_OK;
}

typedef enum residual { RES_NONE = 0, RES_PLAIN, RES_SCALED } residual;

/* Wide per-channel vectors of BN_APPLY. */
typedef struct apply_params {
    const float *scale, *shift, *rscale, *rshift;
} apply_params;

DT_CPU_INLINE void apply_rows(float *y, const float *x, const float *res, const dt_cpu_wide *v,
                              const apply_params *a, residual kind, bool relu) {
    for (int64_t r = 0; r < v->n_row; r++) {
        int64_t at = r * v->stride, n = r + 1 == v->n_row ? v->last_width : v->width;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float t = x[at + i] * a->scale[i] + a->shift[i];
            if (kind == RES_PLAIN) t += res[at + i];
            if (kind == RES_SCALED) t += res[at + i] * a->rscale[i] + a->rshift[i];
            y[at + i] = relu && t < 0 ? 0 : t;
        }
    }
}

DT_CPU_SIMD static void apply_piece(float *y, const float *x, const float *res, const dt_cpu_wide *v,
                                    const apply_params *a, residual kind, bool relu) {
    if (kind == RES_NONE && relu) apply_rows(y, x, res, v, a, RES_NONE, true);
    if (kind == RES_NONE && !relu) apply_rows(y, x, res, v, a, RES_NONE, false);
    if (kind == RES_PLAIN && relu) apply_rows(y, x, res, v, a, RES_PLAIN, true);
    if (kind == RES_PLAIN && !relu) apply_rows(y, x, res, v, a, RES_PLAIN, false);
    if (kind == RES_SCALED && relu) apply_rows(y, x, res, v, a, RES_SCALED, true);
    if (kind == RES_SCALED && !relu) apply_rows(y, x, res, v, a, RES_SCALED, false);
}

/* Chunks [from, to) of the rows. */
static void apply_chunks(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    void *const *in = d->b.in;
    residual kind = !in[DT_APPLY_IN_RES] ? RES_NONE : in[DT_APPLY_IN_RES_SCALE] ? RES_SCALED : RES_PLAIN;
    const float *x = in[DT_APPLY_IN_X], *res = kind == RES_NONE ? x : in[DT_APPLY_IN_RES];
    float *y = d->b.out[0];
    int64_t chunk = dt_cpu_chunk_rows(d->m, d->c);
    for (int64_t row = from * chunk; row < dt_min_i64(to * chunk, d->m); row += chunk) {
        dt_cpu_wide v = dt_cpu_wide_make(dt_min_i64(chunk, d->m - row), d->c, d->c);
        float buf[4][DT_CPU_WIDE];
        apply_params a = {dt_cpu_widen(buf[0], in[DT_APPLY_IN_SCALE], &v),
                          dt_cpu_widen(buf[1], in[DT_APPLY_IN_SHIFT], &v), NULL, NULL};
        if (kind == RES_SCALED) {
            a.rscale = dt_cpu_widen(buf[2], in[DT_APPLY_IN_RES_SCALE], &v);
            a.rshift = dt_cpu_widen(buf[3], in[DT_APPLY_IN_RES_SHIFT], &v);
        }
        int64_t at = row * d->c;
        apply_piece(y + at, x + at, res + at, &v, &a, kind, d->attr.norm.relu);
    }
}

dt_status dt_cpu_bn_apply(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN),
                       dt_ceil_div(d->m, dt_cpu_chunk_rows(d->m, d->c)), apply_chunks, d);
    return DT_OK;
}

void dt_cpu_bn_reduce_combine(const dt_cpu_node *d, const dt_cpu_split *s, const double *partial,
                              int64_t col0, int64_t cols) {
    void *const *in = d->b.in, *const *out = d->b.out;
    const float *mean = in[DT_REDUCE_IN_MEAN], *invstd = in[DT_REDUCE_IN_INVSTD],
                *gamma = in[DT_REDUCE_IN_GAMMA];
    float *dgamma = out[DT_REDUCE_OUT_DGAMMA], *dbeta = out[DT_REDUCE_OUT_DBETA],
          *coef = out[DT_REDUCE_OUT_COEF];
    const double m = (double)d->m;
    for (int64_t i = col0; i < col0 + cols; i++) {
        double sum = 0, dot = 0;
        for (int64_t j = 0; j < s->n_chunk; j++) {
            sum += partial[j * 2 * d->c + i];
            dot += partial[(j * 2 + 1) * d->c + i];
        }
        double is = (double)invstd[i], a = (double)gamma[i] * is, b = -a * is * is * dot / m;
        dgamma[i] = (float)(dot * is);
        dbeta[i] = (float)sum;
        coef[i] = (float)a;
        coef[d->c + i] = (float)b;
        coef[2 * d->c + i] = (float)(-a * sum / m - b * (double)mean[i]);
    }
}
