/* Softmax and its logarithm over the last dimension, and their gradients. A row is one thread's. */
#include "kernels.h"

#include "core/scalar.h"

enum { PIECE = 512 }; /* of a row: summed in fp32, the pieces in double */

/* The sum of exp(x - top) over a row, which y [c] gets if it is not NULL (it may be x). */
DT_CPU_SIMD static double exp_row(float *y, const float *x, int64_t c, float top) {
    double sum = 0;
    for (int64_t at = 0; at < c; at += PIECE) {
        const int64_t end = dt_min_i64(at + PIECE, c);
        float part = 0;
        if (y) {
#pragma omp simd reduction(+ : part)
            for (int64_t i = at; i < end; i++) {
                y[i] = dt_expf(x[i] - top);
                part += y[i];
            }
        } else {
#pragma omp simd reduction(+ : part)
            for (int64_t i = at; i < end; i++) part += dt_expf(x[i] - top);
        }
        sum += (double)part;
    }
    return sum;
}

DT_CPU_SIMD static float top_of(const float *x, int64_t c) {
    float top = -INFINITY;
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < c; i++) top = x[i] > top ? x[i] : top;
    return top;
}

DT_CPU_SIMD static void softmax_row(float *y, const float *x, int64_t c, bool logarithm) {
    const float top = top_of(x, c);
    const double sum = exp_row(logarithm ? NULL : y, x, c, top);
    const float less = (float)((double)top + log(sum)), scale = (float)(1 / sum);
    if (logarithm) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) y[i] = x[i] - less;
    } else {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) y[i] *= scale;
    }
}

/* The sum of dy over a row, times y if that is not NULL. */
DT_CPU_SIMD static double sum_row(const float *dy, const float *y, int64_t c) {
    double sum = 0;
    for (int64_t at = 0; at < c; at += PIECE) {
        const int64_t end = dt_min_i64(at + PIECE, c);
        float part = 0;
        if (y) {
#pragma omp simd reduction(+ : part)
            for (int64_t i = at; i < end; i++) part += dy[i] * y[i];
        } else {
#pragma omp simd reduction(+ : part)
            for (int64_t i = at; i < end; i++) part += dy[i];
        }
        sum += (double)part;
    }
    return sum;
}

DT_CPU_SIMD static void softmax_bwd_row(float *dx, const float *dy, const float *y, int64_t c,
                                        bool logarithm) {
    const float sum = (float)sum_row(dy, logarithm ? NULL : y, c);
    if (logarithm) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) dx[i] = dy[i] - dt_expf(y[i]) * sum;
    } else {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) dx[i] = y[i] * (dy[i] - sum);
    }
}

static void softmax_rows(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    float *y = d->b.out[0];
    const float *x = d->b.in[0];
    for (int64_t r = from; r < to; r++)
        softmax_row(y + r * d->c, x + r * d->c, d->c, d->op == DT_OP_LOG_SOFTMAX);
}

dt_status dt_cpu_softmax(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), d->m, softmax_rows, d);
    return DT_OK;
}

dt_status dt_cpu_softmax_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    float *dx = d->b.out[0];
    const float *dy = d->b.in[0], *y = d->b.in[1];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t r = 0; r < d->m; r++) {
        const int64_t at = r * d->c;
        softmax_bwd_row(dx + at, dy + at, y + at, d->c, d->op == DT_OP_LOG_SOFTMAX_BWD);
    }
    return DT_OK;
}
