/* Layer and RMS normalisation of rows, and their gradients. A row is one thread's; the sums over rows are taken by
 * chunks, which depend on sizes alone. */
#include "kernels.h"

#include <math.h>
#include <string.h>

enum {
    PIECE = 512,    /* of a row: summed in fp32, the pieces in double */
    FLUSH_ROWS = 64 /* summed in fp32 by column, these sums in double */
};

DT_CPU_SIMD static double sum_row(const float *x, int64_t c) {
    double sum = 0;
    for (int64_t at = 0; at < c; at += PIECE) {
        const int64_t end = dt_min_i64(at + PIECE, c);
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = at; i < end; i++) part += x[i];
        sum += (double)part;
    }
    return sum;
}

/* Sums of x - mid and of its square. */
DT_CPU_SIMD static void moments_row(const float *x, int64_t c, float mid, double *sum, double *square) {
    *sum = *square = 0;
    for (int64_t at = 0; at < c; at += PIECE) {
        const int64_t end = dt_min_i64(at + PIECE, c);
        float s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : s1, s2)
        for (int64_t i = at; i < end; i++) {
            s1 += x[i] - mid;
            s2 += (x[i] - mid) * (x[i] - mid);
        }
        *sum += (double)s1, *square += (double)s2;
    }
}

/* The mean is mid + low: what fp32 cannot hold of it would show in rows far from 0. */
DT_CPU_SIMD static void apply_row(float *y, const float *x, int64_t c, float mid, float low, float rstd,
                                  const float *gamma, const float *beta) {
    if (gamma && beta) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) y[i] = (x[i] - mid - low) * rstd * gamma[i] + beta[i];
    } else if (gamma) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) y[i] = (x[i] - mid - low) * rstd * gamma[i];
    } else if (beta) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) y[i] = (x[i] - mid - low) * rstd + beta[i];
    } else {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) y[i] = (x[i] - mid - low) * rstd;
    }
}

static void norm_rows(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    const bool centred = d->op == DT_OP_LAYERNORM;
    const float *x = d->b.in[DT_LN_IN_X], *gamma = d->b.in[DT_LN_IN_GAMMA],
                *beta = centred ? d->b.in[DT_LN_IN_BETA] : NULL;
    float *y = d->b.out[DT_LN_OUT_Y], *rstd = d->b.out[DT_LN_OUT_RSTD],
          *mean = centred ? d->b.out[DT_LN_OUT_MEAN] : NULL;
    const double c = (double)d->c, eps = (double)d->attr.norm.eps;
    for (int64_t r = from; r < to; r++) {
        const float *row = x + r * d->c;
        const float mid = centred ? (float)(sum_row(row, d->c) / c) : 0;
        double sum, square;
        moments_row(row, d->c, mid, &sum, &square);
        const double low = centred ? sum / c : 0,
                     var = square / c - low * low; /* below 0 by rounding; NaN stays */
        const double of = d->attr.norm.length ? sqrt(square) : sqrt((var < 0 ? 0 : var) + eps);
        rstd[r] = (float)(1 / (d->attr.norm.length && of < eps ? eps : of)); /* NaN stays */
        if (mean) mean[r] = (float)((double)mid + low);
        apply_row(y + r * d->c, row, d->c, mid, (float)low, rstd[r], gamma, beta);
    }
}

dt_status dt_cpu_layernorm(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), d->m, norm_rows, d);
    return DT_OK;
}

/* What a row's gradient is made of. dgamma, dbeta: sums by column, or NULL. */
typedef struct back_row {
    float *dx, *dgamma, *dbeta;
    const float *dy, *x, *gamma;
    float mean, rstd;
    int64_t c;
} back_row;

/* Sums of d xh and of d over a row, d = dy * gamma. */
DT_CPU_SIMD static void back_sums(const back_row *b, double *with_x, double *alone) {
    const float *dy = b->dy, *x = b->x, *gamma = b->gamma, mean = b->mean, rstd = b->rstd;
    double s1 = 0, s2 = 0;
    for (int64_t at = 0; at < b->c; at += PIECE) {
        const int64_t end = dt_min_i64(at + PIECE, b->c);
        float p1 = 0, p2 = 0;
        if (gamma) {
#pragma omp simd reduction(+ : p1, p2)
            for (int64_t i = at; i < end; i++) {
                const float g = dy[i] * gamma[i];
                p1 += g * ((x[i] - mean) * rstd);
                p2 += g;
            }
        } else {
#pragma omp simd reduction(+ : p1, p2)
            for (int64_t i = at; i < end; i++) {
                p1 += dy[i] * ((x[i] - mean) * rstd);
                p2 += dy[i];
            }
        }
        s1 += (double)p1, s2 += (double)p2;
    }
    *with_x = s1, *alone = s2;
}

/* The gradient: d - m2 - xh m1. dx may be dy. */
DT_CPU_SIMD static void back_apply(const back_row *b, float m1, float m2) {
    float *dx = b->dx, *dgamma = b->dgamma, *dbeta = b->dbeta;
    const float *dy = b->dy, *x = b->x, *gamma = b->gamma, mean = b->mean, rstd = b->rstd;
    const int64_t c = b->c;
    if (dgamma) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            dgamma[i] += dy[i] * ((x[i] - mean) * rstd);
            dbeta[i] += dy[i];
        }
    }
    if (gamma) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) dx[i] = rstd * (dy[i] * gamma[i] - m2 - (x[i] - mean) * rstd * m1);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) dx[i] = rstd * (dy[i] - m2 - (x[i] - mean) * rstd * m1);
    }
}

/* The column sums of a chunk, dgamma and then dbeta: in double, and in fp32 since the last flush. */
static double *total_of(const dt_cpu_node *d, int64_t chunk) {
    return (double *)d->b.workspace + chunk * 3 * d->c;
}

static float *recent_of(const dt_cpu_node *d, int64_t chunk) {
    return (float *)(total_of(d, chunk) + 2 * d->c);
}

int64_t dt_cpu_layernorm_bwd_bytes(const dt_cpu_node *d) {
    return dt_cpu_split_reduce(d->m, d->c).n_chunk * 3 * d->c * (int64_t)sizeof(double);
}

static void flush(const dt_cpu_node *d, int64_t chunk) {
    double *total = total_of(d, chunk);
    float *recent = recent_of(d, chunk);
    for (int64_t i = 0; i < 2 * d->c; i++) total[i] += (double)recent[i], recent[i] = 0;
}

static void back_chunk(const dt_cpu_node *d, int64_t chunk, int64_t row0, int64_t rows, bool sums) {
    const bool centred = d->op == DT_OP_LAYERNORM_BWD;
    const float *dy = d->b.in[DT_LN_BWD_IN_DY], *x = d->b.in[DT_LN_BWD_IN_X],
                *rstd = d->b.in[DT_LN_BWD_IN_RSTD], *mean = centred ? d->b.in[DT_LN_BWD_IN_MEAN] : NULL;
    back_row b = {.gamma = d->b.in[DT_LN_BWD_IN_GAMMA], .c = d->c};
    if (sums) {
        memset(total_of(d, chunk), 0, (size_t)(3 * d->c) * sizeof(double));
        b.dgamma = recent_of(d, chunk), b.dbeta = b.dgamma + d->c;
    }
    for (int64_t r = row0; r < row0 + rows; r++) {
        double with_x, alone;
        b.dx = (float *)d->b.out[DT_LN_BWD_OUT_DX] + r * d->c, b.dy = dy + r * d->c, b.x = x + r * d->c;
        b.mean = mean ? mean[r] : 0, b.rstd = rstd[r];
        back_sums(&b, &with_x, &alone);
        if (d->attr.norm.length) /* of rows that eps was the length of it is but a factor */
            back_apply(&b, b.rstd >= (float)(1 / (double)d->attr.norm.eps) ? 0 : (float)with_x, 0);
        else
            back_apply(&b, (float)(with_x / (double)d->c), centred ? (float)(alone / (double)d->c) : 0);
        if (sums && (r + 1 - row0) % FLUSH_ROWS == 0) flush(d, chunk);
    }
    if (sums) flush(d, chunk);
}

dt_status dt_cpu_layernorm_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const bool centred = d->op == DT_OP_LAYERNORM_BWD;
    float *dgamma = d->b.out[DT_LN_BWD_OUT_DGAMMA], *dbeta = centred ? d->b.out[DT_LN_BWD_OUT_DBETA] : NULL;
    const dt_cpu_split s = dt_cpu_split_reduce(d->m, d->c);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t k = 0; k < s.n_chunk; k++)
        back_chunk(d, k, k * s.chunk_rows, dt_min_i64(s.chunk_rows, d->m - k * s.chunk_rows),
                   dgamma || dbeta);
    const float *dx2 = d->b.in[dt_op_norm_dx2(d->op)];
    float *dx = d->b.out[DT_LN_BWD_OUT_DX];
    if (dx2) {
#pragma omp parallel for simd schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
        for (int64_t i = 0; i < d->n_elem; i++) dx[i] += dx2[i];
    }
    if (!dgamma && !dbeta) return DT_OK;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (s.n_chunk * d->c > DT_CPU_GRAIN)
    for (int64_t i = 0; i < d->c; i++) {
        double sum[2] = {0, 0};
        for (int64_t k = 0; k < s.n_chunk; k++)
            sum[0] += total_of(d, k)[i], sum[1] += total_of(d, k)[d->c + i];
        if (dgamma) dgamma[i] = (float)sum[0];
        if (dbeta) dbeta[i] = (float)sum[1];
    }
    return DT_OK;
}
