/* Images in another size, and the largest of each part; the gradients gather, so every element is written once and in
 * a fixed order. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "core/resample.h"

/* Rows and columns from the image to the result, whichever of them is computed. */
typedef struct sides {
    dt_resample_side row, column;
} sides;

/* h, w: of the larger loop, what is written; p, q: of what is read. */
static sides sides_of(const dt_cpu_node *d, dt_resample_mode mode, bool back) {
    const int32_t h = (int32_t)d->h, w = (int32_t)d->w, p = (int32_t)d->p, q = (int32_t)d->q;
    return back ? (sides){{mode, h, p}, {mode, w, q}} : (sides){{mode, p, h}, {mode, q, w}};
}

static dt_resample_span span_of(const dt_resample_side *s, bool back, int64_t i) {
    return back ? dt_resample_targets(s, (int32_t)i) : dt_resample_sources(s, (int32_t)i);
}

static float weight_of(const dt_resample_side *s, bool back, int64_t written, int32_t read) {
    return back ? dt_resample_weight(s, read, (int32_t)written)
                : dt_resample_weight(s, (int32_t)written, read);
}

DT_CPU_SIMD static void add_scaled(float *y, const float *x, float weight, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y[i] += weight * x[i];
}

/* Row h of what is written, of one image. */
static void resample_row(const dt_cpu_node *d, const sides *s, bool back, int64_t image, int64_t h) {
    const float *from = (const float *)d->b.in[0] + image * d->p * d->q * d->c;
    float *to = (float *)d->b.out[0] + (image * d->h + h) * d->w * d->c;
    const dt_resample_span rows = span_of(&s->row, back, h);
    memset(to, 0, (size_t)(d->w * d->c) * sizeof *to);
    for (int64_t w = 0; w < d->w; w++, to += d->c) {
        const dt_resample_span columns = span_of(&s->column, back, w);
        for (int32_t p = rows.first; p < rows.last; p++) {
            const float part = weight_of(&s->row, back, h, p);
            for (int32_t q = columns.first; part != 0 && q < columns.last; q++) {
                const float weight = part * weight_of(&s->column, back, w, q);
                if (weight != 0) add_scaled(to, from + (p * d->q + q) * d->c, weight, d->c);
            }
        }
    }
}

dt_status dt_cpu_resample(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const bool back = d->op == DT_OP_RESAMPLE_BWD;
    const sides s = sides_of(d, d->attr.resample.mode, back);
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t h = 0; h < d->h; h++) resample_row(d, &s, back, n, h);
    return DT_OK;
}

/* The first maximum wins, NaN over all. */
DT_CPU_SIMD static void max_step(float *y, int32_t *at, const float *x, int32_t place, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
        const bool take = x[i] > y[i] || x[i] != x[i];
        y[i] = take ? x[i] : y[i];
        at[i] = take ? place : at[i];
    }
}

static void max_row(const dt_cpu_node *d, const sides *s, int64_t image, int64_t h) {
    const float *from = (const float *)d->b.in[0] + image * d->p * d->q * d->c;
    const int64_t first = (image * d->h + h) * d->w * d->c;
    float *y = (float *)d->b.out[DT_MAXPOOL_OUT_Y] + first;
    int32_t *at = (int32_t *)d->b.out[DT_MAXPOOL_OUT_IDX] + first;
    const dt_resample_span rows = dt_resample_sources(&s->row, (int32_t)h);
    for (int64_t w = 0; w < d->w; w++, y += d->c, at += d->c) {
        const dt_resample_span columns = dt_resample_sources(&s->column, (int32_t)w);
        for (int64_t i = 0; i < d->c; i++)
            y[i] = -INFINITY, at[i] = rows.first * (int32_t)d->q + columns.first;
        for (int32_t p = rows.first; p < rows.last; p++)
            for (int32_t q = columns.first; q < columns.last; q++)
                max_step(y, at, from + (p * d->q + q) * d->c, p * (int32_t)d->q + q, d->c);
    }
}

dt_status dt_cpu_adaptive_maxpool(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const sides s = sides_of(d, DT_RESAMPLE_MEAN, false);
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t h = 0; h < d->h; h++) max_row(d, &s, n, h);
    return DT_OK;
}

DT_CPU_SIMD static void max_collect(float *dx, const float *dy, const int32_t *at, int32_t place, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) dx[i] += at[i] == place ? dy[i] : 0;
}

static void max_back_row(const dt_cpu_node *d, const sides *s, int64_t image, int64_t h) {
    const float *dy = d->b.in[0];
    const int32_t *at = d->b.in[1];
    float *dx = (float *)d->b.out[0] + (image * d->h + h) * d->w * d->c;
    const dt_resample_span rows = dt_resample_targets(&s->row, (int32_t)h);
    memset(dx, 0, (size_t)(d->w * d->c) * sizeof *dx);
    for (int64_t w = 0; w < d->w; w++, dx += d->c) {
        const dt_resample_span columns = dt_resample_targets(&s->column, (int32_t)w);
        for (int32_t p = rows.first; p < rows.last; p++)
            for (int32_t q = columns.first; q < columns.last; q++) {
                const int64_t from = ((image * d->p + p) * d->q + q) * d->c;
                max_collect(dx, dy + from, at + from, (int32_t)(h * d->w + w), d->c);
            }
    }
}

dt_status dt_cpu_adaptive_maxpool_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const sides s = sides_of(d, DT_RESAMPLE_MEAN, true);
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t h = 0; h < d->h; h++) max_back_row(d, &s, n, h);
    return DT_OK;
}
