/* Batch normalisation from Gram matrices (core/op.h), as plainly as its formulas: the oracle of backends that
 * are asked for it. Sums are in double, each by one thread in the order of rows, so results do not depend on
 * the number of threads. */
#include "kernels.h"

#include <math.h>

/* out [ka,kb] = a^T b over m rows; a [m,ka], b [m,kb]. */
static void product(const float *a, const float *b, int64_t m, int64_t ka, int64_t kb, float *out,
                    int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (m * ka * kb > DT_CPU_GRAIN)
    for (int64_t i = 0; i < ka; i++)
        for (int64_t j = 0; j < kb; j++) {
            double sum = 0;
            for (int64_t r = 0; r < m; r++) sum += (double)a[r * ka + i] * (double)b[r * kb + j];
            out[i * kb + j] = (float)sum;
        }
}

static void column_sums(const float *x, int64_t m, int64_t c, float *out) {
    for (int64_t i = 0; i < c; i++) {
        double sum = 0;
        for (int64_t r = 0; r < m; r++) sum += (double)x[r * c + i];
        out[i] = (float)sum;
    }
}

dt_status dt_cpu_gram(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    product(d->b.in[0], d->b.in[0], d->m, d->c, d->c, d->b.out[0], d->threads);
    column_sums(d->b.in[0], d->m, d->c, d->b.out[1]);
    return DT_OK;
}

/* The main operand is dz: c are its channels K, k those of x. */
dt_status dt_cpu_gram_cross(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    product(d->b.in[0], d->b.in[1], d->m, d->c, d->k, d->b.out[0], d->threads);
    if (d->b.out[DT_CROSS_OUT_DBETA]) column_sums(d->b.in[0], d->m, d->c, d->b.out[DT_CROSS_OUT_DBETA]);
    return DT_OK;
}

dt_status dt_cpu_bn_gram(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    void *const *in = d->b.in;
    const float *gram = in[DT_BN_GRAM_IN_GRAM], *sum = in[DT_BN_GRAM_IN_SUM];
    const float *gamma = in[DT_BN_GRAM_IN_GAMMA], *beta = in[DT_BN_GRAM_IN_BETA];
    float *rmean = in[DT_BN_GRAM_IN_RMEAN],
          *rvar = in[DT_BN_GRAM_IN_RVAR], *const *out = (float *const *)d->b.out;
    const double m = d->attr.norm.rows, eps = (double)d->attr.norm.eps,
                 momentum = (double)d->attr.norm.momentum;
    const int64_t n = d->c;
    for (int64_t k = 0; k < d->k; k++) {
        const float *w = (const float *)in[DT_BN_GRAM_IN_W] + k * n;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) {
            double wcov = 0;
            for (int64_t j = 0; j < n; j++)
                wcov += (double)w[j] * ((double)gram[j * n + i] - (double)sum[j] / m * (double)sum[i]) / m;
            out[4][k * n + i] = (float)wcov;
            mean += (double)w[i] * (double)sum[i] / m;
            var += (double)w[i] * wcov;
        }
        if (var < 0) var = 0;
        const double invstd = 1 / sqrt(var + eps), scale = (double)gamma[k] * invstd;
        out[0][k] = (float)mean;
        out[1][k] = (float)invstd;
        out[2][k] = (float)scale;
        out[3][k] = (float)((double)beta[k] - mean * scale);
        rmean[k] += (float)(momentum * (mean - (double)rmean[k]));
        rvar[k] += (float)(momentum * (var * m / (m - 1) - (double)rvar[k]));
    }
    return DT_OK;
}

dt_status dt_cpu_bn_mask(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *dy = d->b.in[DT_BN_MASK_IN_DY], *dy2 = d->b.in[DT_BN_MASK_IN_DY2],
                *y = d->b.in[DT_BN_MASK_IN_Y];
    float *dbeta = d->b.out[DT_BN_MASK_OUT_DBETA], *dz = d->b.out[DT_BN_MASK_OUT_DZ];
    for (int64_t i = 0; i < d->c; i++) {
        double sum = 0;
        for (int64_t r = 0; r < d->m; r++) {
            const int64_t at = r * d->c + i;
            float g = dy2 ? dy[at] + dy2[at] : dy[at];
            if (y && !(y[at] > 0)) g = 0;
            if (dz) dz[at] = g;
            sum += (double)g;
        }
        dbeta[i] = (float)sum;
    }
    return DT_OK;
}

/* The main operand is p: m are its rows K, c its columns C. */
dt_status dt_cpu_bn_gram_grad(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *p = d->b.in[0], *dbeta = d->b.in[1], *wcov = d->b.in[2], *sum = d->b.in[3], *w = d->b.in[4];
    const float *mean = d->b.in[5], *invstd = d->b.in[6], *gamma = d->b.in[7];
    float *const *out = (float *const *)d->b.out, *mv = out[4];
    const double rows = d->attr.norm.rows;
    const int64_t n = d->c;
    for (int64_t i = 0; i < (n + 1) * n; i++) mv[i] = 0;
    for (int64_t k = 0; k < d->m; k++) {
        const double is = (double)invstd[k], a = (double)gamma[k] * is;
        double dot = 0;
        for (int64_t i = 0; i < n; i++)
            dot += (double)w[k * n + i] * ((double)p[k * n + i] - (double)dbeta[k] * (double)sum[i] / rows);
        const double dgamma = is * dot, b = -a * is * dgamma / rows;
        const double shift = -a * (double)dbeta[k] / rows - b * (double)mean[k];
        out[0][k] = (float)dgamma;
        out[1][k] = dbeta[k];
        for (int64_t i = 0; i < n; i++) {
            const double q = (double)p[k * n + i] - (double)dbeta[k] * (double)sum[i] / rows;
            const double wi = (double)w[k * n + i];
            out[2][k * n + i] = (float)(a * q + rows * b * (double)wcov[k * n + i]);
            out[3][k * n + i] = (float)(a * wi);
            for (int64_t j = 0; j < n; j++) mv[i * n + j] += (float)(b * wi * (double)w[k * n + j]);
            mv[n * n + i] += (float)(shift * wi);
        }
    }
    return DT_OK;
}

/* The main operand is dz: c are its channels K, k those of x. */
dt_status dt_cpu_bn_gram_dx(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const float *dz = d->b.in[0], *wa = d->b.in[1], *x = d->b.in[2], *mv = d->b.in[3];
    float *dx = d->b.out[0];
    const int64_t n = d->k;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t r = 0; r < d->m; r++)
        for (int64_t i = 0; i < n; i++) {
            double sum = (double)mv[n * n + i];
            for (int64_t k = 0; k < d->c; k++) sum += (double)dz[r * d->c + k] * (double)wa[k * n + i];
            for (int64_t j = 0; j < n; j++) sum += (double)x[r * n + j] * (double)mv[j * n + i];
            dx[r * n + i] = (float)sum;
        }
    return DT_OK;
}
