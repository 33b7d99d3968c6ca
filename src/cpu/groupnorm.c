/* Group normalisation N ... C and its gradient. A sample is cut into chunks of its positions by sizes alone; a chunk
 * leaves two sums of each channel, which are joined in order. */
#include "kernels.h"

#include <math.h>
#include <string.h>

enum { FLUSH_ROWS = 64 /* positions summed in fp32, these sums in double */ };

/* How the work is cut and where its parts lie in the workspace. */
typedef struct groups {
    const dt_cpu_node *d;
    int64_t n, rows, c, n_group, width; /* samples; positions; channels; groups; channels of one */
    int64_t chunk_rows, n_chunk;        /* of a sample */
} groups;

static groups groups_of(const dt_cpu_node *d) {
    groups s = {
        .d = d, .n = d->n, .rows = d->n_elem / (d->n * d->c), .c = d->c, .n_group = d->attr.norm.groups};
    const dt_cpu_split cut = dt_cpu_split_reduce(s.rows, s.c);
    s.width = s.c / s.n_group;
    s.chunk_rows = cut.chunk_rows, s.n_chunk = cut.n_chunk;
    return s;
}

/* Of a chunk: two sums of each channel, and the same in fp32 since the last flush. */
static double *sums_of(const groups *s, int64_t n, int64_t chunk) {
    return (double *)s->d->b.workspace + (n * s->n_chunk + chunk) * 3 * s->c;
}

enum { VECTORS = 4 };

/* Of a sample: what its channels are mapped by. */
static float *vector_of(const groups *s, int64_t n, int32_t which) {
    return (float *)((double *)s->d->b.workspace + s->n * s->n_chunk * 3 * s->c) +
           (n * VECTORS + which) * s->c;
}

int64_t dt_cpu_groupnorm_bytes(const dt_cpu_node *d) {
    const groups s = groups_of(d);
    return s.n * s.c * (s.n_chunk * 3 * (int64_t)sizeof(double) + VECTORS * (int64_t)sizeof(float));
}

/* Sums of x - mid, and its square. */
DT_CPU_SIMD static void add_moments(float *sum, float *square, const float *x, const float *mid, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
        const float v = x[i] - mid[i];
        sum[i] += v;
        square[i] += v * v;
    }
}

/* Sums of dy, and of dy (x - mean). */
DT_CPU_SIMD static void add_products(float *sum, float *product, const float *dy, const float *x,
                                     const float *mean, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
        sum[i] += dy[i];
        product[i] += dy[i] * (x[i] - mean[i]);
    }
}

/* The two sums of a chunk: with dy its products, without it moments around `mid`. */
static void sum_chunk(const groups *s, int64_t n, int64_t chunk, const float *dy, const float *x,
                      const float *mid) {
    double *total = sums_of(s, n, chunk);
    float *recent = (float *)(total + 2 * s->c);
    memset(total, 0, (size_t)(3 * s->c) * sizeof *total);
    const int64_t begin = chunk * s->chunk_rows, end = dt_min_i64(begin + s->chunk_rows, s->rows);
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = (n * s->rows + r) * s->c;
        if (dy)
            add_products(recent, recent + s->c, dy + at, x + at, mid, s->c);
        else
            add_moments(recent, recent + s->c, x + at, mid, s->c);
        if ((r + 1 - begin) % FLUSH_ROWS != 0 && r + 1 < end) continue;
        for (int64_t i = 0; i < 2 * s->c; i++) total[i] += (double)recent[i], recent[i] = 0;
    }
}

static void sum_all(const groups *s, const float *dy, const float *x, int32_t mid) {
#pragma omp parallel for schedule(static) num_threads(s->d->threads) if (s->d->n_elem > DT_CPU_GRAIN)
    for (int64_t i = 0; i < s->n * s->n_chunk; i++)
        sum_chunk(s, i / s->n_chunk, i % s->n_chunk, dy, x, vector_of(s, i / s->n_chunk, mid));
    for (int64_t n = 0; n < s->n; n++) /* a sample's into its first chunk's */
        for (int64_t k = 1; k < s->n_chunk; k++)
            for (int64_t i = 0; i < 2 * s->c; i++) sums_of(s, n, 0)[i] += sums_of(s, n, k)[i];
}

/* Sum over the channels of a group of which [C]. */
static double group_sum(const groups *s, const double *which, int64_t group) {
    double sum = 0;
    for (int64_t i = group * s->width; i < (group + 1) * s->width; i++) sum += which[i];
    return sum;
}

DT_CPU_SIMD static void apply_row(float *y, const float *x, const float *mean, const float *scale,
                                  const float *shift, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y[i] = (x[i] - mean[i]) * scale[i] + shift[i];
}

enum { MEAN, SCALE, SHIFT };

dt_status dt_cpu_groupnorm(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const groups s = groups_of(d);
    const float *x = d->b.in[DT_LN_IN_X], *gamma = d->b.in[DT_LN_IN_GAMMA], *beta = d->b.in[DT_LN_IN_BETA];
    float *y = d->b.out[DT_LN_OUT_Y], *rstd = d->b.out[DT_LN_OUT_RSTD], *mean = d->b.out[DT_LN_OUT_MEAN];
    const double count = (double)(s.rows * s.width);
    /* The mean first, around the first position; then deviations from it. */
    for (int64_t n = 0; n < s.n; n++)
        memcpy(vector_of(&s, n, MEAN), x + n * s.rows * s.c, (size_t)s.c * sizeof *x);
    sum_all(&s, NULL, x, MEAN);
    for (int64_t n = 0; n < s.n; n++) {
        float *mid = vector_of(&s, n, MEAN);
        for (int64_t i = 0; i < s.c; i++) sums_of(&s, n, 0)[i] += (double)mid[i] * (double)s.rows;
        for (int64_t k = 0; k < s.n_group; k++) {
            mean[n * s.n_group + k] = (float)(group_sum(&s, sums_of(&s, n, 0), k) / count);
            for (int64_t i = k * s.width; i < (k + 1) * s.width; i++) mid[i] = mean[n * s.n_group + k];
        }
    }
    sum_all(&s, NULL, x, MEAN);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t i = 0; i < s.c; i++) {
            const int64_t k = n * s.n_group + i / s.width;
            if (i % s.width == 0)
                rstd[k] = (float)(1 / sqrt(group_sum(&s, sums_of(&s, n, 0) + s.c, i / s.width) / count +
                                           (double)d->attr.norm.eps));
            vector_of(&s, n, SCALE)[i] = gamma ? rstd[k] * gamma[i] : rstd[k];
            vector_of(&s, n, SHIFT)[i] = beta ? beta[i] : 0;
        }
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t r = 0; r < d->m; r++)
        apply_row(y + r * s.c, x + r * s.c, vector_of(&s, r / s.rows, MEAN), vector_of(&s, r / s.rows, SCALE),
                  vector_of(&s, r / s.rows, SHIFT), s.c);
    return DT_OK;
}

enum { BACK_MEAN, BACK_A, BACK_B, BACK_D };

/* dx = A dy - B (x - mean) - D */
DT_CPU_SIMD static void back_row(float *dx, const float *dy, const float *x, const float *mean,
                                 const float *a, const float *b, const float *at_0, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) dx[i] = a[i] * dy[i] - b[i] * (x[i] - mean[i]) - at_0[i];
}

dt_status dt_cpu_groupnorm_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const groups s = groups_of(d);
    const float *dy = d->b.in[DT_LN_BWD_IN_DY], *x = d->b.in[DT_LN_BWD_IN_X],
                *rstd = d->b.in[DT_LN_BWD_IN_RSTD], *gamma = d->b.in[DT_LN_BWD_IN_GAMMA],
                *mean = d->b.in[DT_LN_BWD_IN_MEAN];
    float *dx = d->b.out[DT_LN_BWD_OUT_DX], *dgamma = d->b.out[DT_LN_BWD_OUT_DGAMMA],
          *dbeta = d->b.out[DT_LN_BWD_OUT_DBETA];
    const double count = (double)(s.rows * s.width);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t i = 0; i < s.c; i++) vector_of(&s, n, BACK_MEAN)[i] = mean[n * s.n_group + i / s.width];
    sum_all(&s, dy, x, BACK_MEAN);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t k = 0; k < s.n_group; k++) {
            const double *alone = sums_of(&s, n, 0), *with_x = alone + s.c,
                         r = (double)rstd[n * s.n_group + k];
            double m1 = 0, m2 = 0;
            for (int64_t i = k * s.width; i < (k + 1) * s.width; i++) {
                const double scale = gamma ? (double)gamma[i] : 1;
                m1 += scale * with_x[i] * r, m2 += scale * alone[i];
            }
            for (int64_t i = k * s.width; i < (k + 1) * s.width; i++) {
                vector_of(&s, n, BACK_A)[i] = (float)(r * (gamma ? (double)gamma[i] : 1));
                vector_of(&s, n, BACK_B)[i] = (float)(r * r * m1 / count);
                vector_of(&s, n, BACK_D)[i] = (float)(r * m2 / count);
            }
        }
    for (int64_t i = 0; i < s.c && (dgamma || dbeta); i++) {
        double sum[2] = {0, 0};
        for (int64_t n = 0; n < s.n; n++) {
            sum[0] += sums_of(&s, n, 0)[s.c + i] * (double)rstd[n * s.n_group + i / s.width];
            sum[1] += sums_of(&s, n, 0)[i];
        }
        if (dgamma) dgamma[i] = (float)sum[0];
        if (dbeta) dbeta[i] = (float)sum[1];
    }
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t r = 0; r < d->m; r++) {
        const int64_t n = r / s.rows;
        back_row(dx + r * s.c, dy + r * s.c, x + r * s.c, vector_of(&s, n, BACK_MEAN),
                 vector_of(&s, n, BACK_A), vector_of(&s, n, BACK_B), vector_of(&s, n, BACK_D), s.c);
    }
    return DT_OK;
}
