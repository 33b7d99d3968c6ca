/* Mean squares by row, by column, and of vectors. Every sum is of one thread, in the order of its elements, so
 * that their number changes no bit. */
#include "optim_factored.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { COLUMNS = 256 }; /* summed at once, in double */

/* Rows, columns or elements [first, first + n) of a segment. */
typedef struct task {
    dt_state_shape shape;
    int32_t segment;
    int64_t first, n;
} task;

struct dt_cpu_factored {
    dt_axis_args args; /* args.segment is our own */
    dt_axis_segment *segment;
    float *inv_mean; /* by segment: 1 / mean of the rows' mean squares */
    task *task;
    int64_t n_task;
    int32_t threads;
};

/* Cuts what a segment has of that shape; counts where `out` is NULL. */
static int64_t cut(const dt_axis_segment *s, int32_t i, dt_state_shape shape, task *out) {
    const int64_t all = dt_segment_state_elem(s, shape);
    const int64_t each = shape == DT_STATE_ROW      ? dt_max_i64(1, DT_CPU_GRAIN / s->cols)
                         : shape == DT_STATE_COLUMN ? COLUMNS
                                                    : DT_CPU_GRAIN;
    int64_t n = 0;
    for (int64_t at = 0; at < all; at += each, n++)
        if (out) out[n] = (task){shape, i, at, dt_min_i64(each, all - at)};
    return n;
}

static int64_t cut_all(const dt_axis_args *a, task *out) {
    static const dt_state_shape shape[] = {DT_STATE_ROW, DT_STATE_COLUMN, DT_STATE_VECTOR};
    int64_t n = 0;
    for (int32_t i = 0; i < a->n_segment; i++)
        for (int k = 0; k < 3; k++)
            if (dt_segment_state_elem(&a->segment[i], shape[k]) > 0)
                n += cut(&a->segment[i], i, shape[k], out ? out + n : NULL);
    return n;
}

dt_cpu_factored *dt_cpu_factored_create(const dt_axis_args *a, int32_t threads) {
    dt_cpu_factored *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->args = *a;
    f->threads = threads;
    f->n_task = cut_all(a, NULL);
    f->task = calloc((size_t)f->n_task + 1, sizeof *f->task);
    f->segment = calloc((size_t)a->n_segment + 1, sizeof *f->segment);
    f->inv_mean = calloc((size_t)a->n_segment + 1, sizeof *f->inv_mean);
    if (!f->task || !f->segment || !f->inv_mean) {
        dt_cpu_factored_destroy(f);
        return NULL;
    }
    cut_all(a, f->task);
    memcpy(f->segment, a->segment, (size_t)a->n_segment * sizeof *f->segment);
    f->args.segment = f->segment;
    return f;
}

void dt_cpu_factored_destroy(dt_cpu_factored *f) {
    if (!f) return;
    free(f->task), free(f->segment), free(f->inv_mean);
    free(f);
}

static int64_t real_elem(const dt_axis_segment *s) {
    return s->n_real > 0 ? s->n_real : s->n_elem;
}

/* s += weight (x - s). */
static void lerp(float *s, float x, float weight) {
    *s += weight * (x - *s);
}

static void take_rows(const dt_cpu_factored *f, const task *t, const dt_optim_factors *step) {
    const dt_axis_segment *s = &f->segment[t->segment];
    float *mean = f->args.state[0] + s->state_at[DT_STATE_ROW];
    const double n = (double)(real_elem(s) / s->rows);
    for (int64_t row = t->first; row < t->first + t->n; row++) {
        const float *g = (const float *)f->args.grad + s->offset + row * s->cols;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < s->cols; i++)
            sum += (double)(g[i] * step->grad_scale) * (double)(g[i] * step->grad_scale);
        lerp(&mean[row], (float)(sum / n), step->new_weight);
    }
}

static void take_columns(const dt_cpu_factored *f, const task *t, const dt_optim_factors *step) {
    const dt_axis_segment *s = &f->segment[t->segment];
    float *mean = f->args.state[1] + s->state_at[DT_STATE_COLUMN] + t->first;
    double sum[COLUMNS] = {0};
    for (int64_t row = 0; row < s->rows; row++) {
        const float *g = (const float *)f->args.grad + s->offset + row * s->cols + t->first;
#pragma omp simd
        for (int64_t i = 0; i < t->n; i++)
            sum[i] += (double)(g[i] * step->grad_scale) * (double)(g[i] * step->grad_scale);
    }
    for (int64_t i = 0; i < t->n; i++) lerp(&mean[i], (float)(sum[i] / (double)s->rows), step->new_weight);
}

static void take_vector(const dt_cpu_factored *f, const task *t, const dt_optim_factors *step) {
    const dt_axis_segment *s = &f->segment[t->segment];
    float *mean = f->args.state[2] + s->state_at[DT_STATE_VECTOR] + t->first;
    const float *g = (const float *)f->args.grad + s->offset + t->first;
    for (int64_t i = 0; i < t->n; i++) {
        const float x = g[i] * step->grad_scale;
        lerp(&mean[i], x * x, step->new_weight);
    }
}

void dt_cpu_factored_update(dt_cpu_factored *f, const dt_optim_factors *step) {
#pragma omp parallel for schedule(static) num_threads(f->threads) if (f->n_task > 1)
    for (int64_t i = 0; i < f->n_task; i++) {
        const task *t = &f->task[i];
        if (t->shape == DT_STATE_ROW) take_rows(f, t, step);
        if (t->shape == DT_STATE_COLUMN) take_columns(f, t, step);
        if (t->shape == DT_STATE_VECTOR) take_vector(f, t, step);
    }
    for (int32_t i = 0; i < f->args.n_segment; i++) {
        const dt_axis_segment *s = &f->segment[i];
        if (s->rows == 0) continue;
        const float *mean = f->args.state[0] + s->state_at[DT_STATE_ROW];
        double sum = 0;
        for (int64_t row = 0; row < s->rows; row++) sum += (double)mean[row];
        f->inv_mean[i] = 1 / fmaxf((float)(sum / (double)s->rows), step->eps);
    }
}

void dt_cpu_factored_estimate(const dt_cpu_factored *f, int32_t segment, int64_t at, int64_t n, float *out) {
    const dt_axis_segment *s = &f->segment[segment];
    int64_t i = at - s->offset;
    if (s->rows == 0) {
        memcpy(out, f->args.state[2] + s->state_at[DT_STATE_VECTOR] + i, (size_t)n * sizeof *out);
        return;
    }
    const float *row = f->args.state[0] + s->state_at[DT_STATE_ROW],
                *column = f->args.state[1] + s->state_at[DT_STATE_COLUMN];
    while (n > 0) { /* to the end of a row */
        const int64_t c = i % s->cols, m = dt_min_i64(n, s->cols - c);
        const float r = row[i / s->cols] * f->inv_mean[segment];
        for (int64_t k = 0; k < m; k++) out[k] = r * column[c + k];
        out += m, i += m, n -= m;
    }
}

float dt_cpu_factored_inv_sqrt_n(const dt_cpu_factored *f, int32_t segment) {
    return (float)(1 / sqrt((double)real_elem(&f->segment[segment])));
}
