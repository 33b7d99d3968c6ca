/* Places in a sequence: rotated pairs, and waves that are added. The angles of a step are computed once for all
 * samples and heads, in double. */
#include "kernels.h"

#include <math.h>
#include <string.h>

enum { PAIRS_MAX = DT_ROPE_DIMS_MAX / 2 };

/* Turns one head. y may be x. */
DT_CPU_SIMD static void turn(float *y, const float *x, const float *cosine, const float *sine, int64_t pairs,
                             bool interleaved) {
    if (interleaved) {
#pragma omp simd
        for (int64_t i = 0; i < pairs; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            y[2 * i] = a * cosine[i] - b * sine[i];
            y[2 * i + 1] = b * cosine[i] + a * sine[i];
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < pairs; i++) {
        const float a = x[i], b = x[i + pairs];
        y[i] = a * cosine[i] - b * sine[i];
        y[i + pairs] = b * cosine[i] + a * sine[i];
    }
}

/* Step t of samples [first, end), which begin at one place. */
static void turn_step(const dt_cpu_node *d, int64_t t, int64_t first, int64_t end, int64_t place,
                      const double *speed) {
    float cosine[PAIRS_MAX], sine[PAIRS_MAX];
    const int64_t heads = d->w, dims = dt_rope_dims(&d->attr.rope, d->c), rest = d->c - dims;
    const double sign = d->op == DT_OP_ROPE_BWD ? -1 : 1;
    for (int64_t i = 0; i < dims / 2; i++) {
        const double angle = (double)place * speed[i];
        cosine[i] = (float)cos(angle), sine[i] = (float)(sign * sin(angle));
    }
    for (int64_t n = first; n < end; n++)
        for (int64_t k = 0; k < heads; k++) {
            const int64_t at = ((n * d->h + t) * heads + k) * d->c;
            const float *x = (const float *)d->b.in[0] + at;
            float *y = (float *)d->b.out[0] + at;
            turn(y, x, cosine, sine, dims / 2, d->attr.rope.interleaved);
            if (rest > 0 && y != x) memcpy(y + dims, x + dims, (size_t)rest * sizeof *y);
        }
}

dt_status dt_cpu_rope(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const int32_t *start = d->b.in[1];
    const int64_t dims = dt_rope_dims(&d->attr.rope, d->c), units = start ? d->n * d->h : d->h;
    double speed[PAIRS_MAX];
    for (int64_t i = 0; i < dims / 2; i++) speed[i] = dt_rope_speed(&d->attr.rope, i, dims);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t u = 0; u < units; u++) {
        const int64_t t = u % d->h, n = u / d->h;
        if (start)
            turn_step(d, t, n, n + 1, t + start[n], speed);
        else
            turn_step(d, t, 0, d->n, t, speed);
    }
    return DT_OK;
}

int64_t dt_cpu_position_bytes(const dt_cpu_node *d) {
    return d->c * (int64_t)sizeof(double);
}

static void add_step(const dt_cpu_node *d, int64_t t, int64_t first, int64_t end, int64_t place) {
    const double *speed = d->b.workspace;
    for (int64_t i = 0; i < d->c; i++) {
        const double angle = (double)place * speed[i];
        const float p = (float)(i % 2 ? cos(angle) : sin(angle));
        for (int64_t n = first; n < end; n++) {
            const int64_t at = (n * d->h + t) * d->c + i;
            ((float *)d->b.out[0])[at] = ((const float *)d->b.in[0])[at] + p;
        }
    }
}

dt_status dt_cpu_position(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const int32_t *start = d->b.in[1];
    double *speed = d->b.workspace;
    for (int64_t i = 0; i < d->c; i++) speed[i] = dt_rope_speed(&d->attr.rope, i / 2, d->c);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN / 16)
    for (int64_t t = 0; t < d->h; t++) {
        if (!start) add_step(d, t, 0, d->n, t);
        for (int64_t n = 0; start && n < d->n; n++) add_step(d, t, n, n + 1, t + start[n]);
    }
    return DT_OK;
}
