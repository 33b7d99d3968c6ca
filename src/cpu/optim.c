/* Kernels over the parameter axis: accumulate, sum of squares, optimizer update, copy. One pass over memory
 * each. */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1024 }; /* elements updated, then averaged into the EMA while in cache; also one fp32 sum */

/* A stretch of the axis with one weight decay. */
typedef struct axis_piece {
    int64_t begin, n_elem;
    float decay;
} axis_piece;

struct dt_cpu_axis {
    dt_axis_kind kind;
    dt_axis_args args; /* args.segment is not kept */
    int32_t threads;
    int64_t n_piece;
    axis_piece *piece;
    double *partial; /* SUMSQ: one sum per piece */
};

/* Step factors that are the same for all elements. */
typedef struct update_factors {
    float grad_scale, lr, momentum, decay, beta1, beta2, inv_correct1, inv_correct2, eps;
} update_factors;

DT_CPU_SIMD static void accum(float *acc, const float *grad, int64_t n, bool first) {
    if (first) {
        memcpy(acc, grad, (size_t)n * sizeof *acc);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) acc[i] += grad[i];
}

DT_CPU_SIMD static double sum_squares(const float *x, int64_t n, float scale) {
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t end = dt_min_i64(begin + BLOCK, n);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; i++) sum += (x[i] * scale) * (x[i] * scale);
        total += (double)sum;
    }
    return total;
}

DT_CPU_SIMD static void sgd(float *w, const float *grad, int64_t n, const update_factors *f) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) w[i] -= f->lr * (grad[i] * f->grad_scale + f->decay * w[i]);
}

DT_CPU_SIMD static void sgd_momentum(float *w, float *v, const float *grad, int64_t n,
                                     const update_factors *f) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        v[i] = f->momentum * v[i] + (grad[i] * f->grad_scale + f->decay * w[i]);
        w[i] -= f->lr * v[i];
    }
}

DT_CPU_SIMD static void sgd_nesterov(float *w, float *v, const float *grad, int64_t n,
                                     const update_factors *f) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * f->grad_scale + f->decay * w[i];
        v[i] = f->momentum * v[i] + g;
        w[i] -= f->lr * (g + f->momentum * v[i]);
    }
}

DT_CPU_SIMD static void adamw(float *w, float *m, float *v, const float *grad, int64_t n,
                              const update_factors *f) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * f->grad_scale;
        m[i] = f->beta1 * m[i] + (1 - f->beta1) * g;
        v[i] = f->beta2 * v[i] + (1 - f->beta2) * (g * g);
        w[i] -= f->lr * f->decay * w[i];
        w[i] -= f->lr * (m[i] * f->inv_correct1) / (sqrtf(v[i] * f->inv_correct2) + f->eps);
    }
}

DT_CPU_SIMD static void average(float *ema, const float *w, int64_t n, float decay) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) ema[i] = decay * ema[i] + (1 - decay) * w[i];
}

static void update_piece(const dt_axis_args *a, const axis_piece *p, update_factors f) {
    f.decay = p->decay;
    for (int64_t done = 0; done < p->n_elem; done += BLOCK) {
        int64_t at = p->begin + done, n = dt_min_i64(BLOCK, p->n_elem - done);
        float *w = a->master + at;
        const float *grad = (const float *)a->grad + at;
        if (a->optim == DT_OPTIM_ADAMW)
            adamw(w, a->mom1 + at, a->mom2 + at, grad, n, &f);
        else if (!a->mom1)
            sgd(w, grad, n, &f);
        else if (a->nesterov)
            sgd_nesterov(w, a->mom1 + at, grad, n, &f);
        else
            sgd_momentum(w, a->mom1 + at, grad, n, &f);
        if (a->ema) average(a->ema + at, w, n, a->params->ema_decay);
    }
}

static void run_update(const dt_cpu_axis *axis) {
    const dt_axis_args *a = &axis->args;
    const dt_step_params *s = a->params;
    float clip = 1;
    if (a->norm2) {
        bool finite = isfinite(*a->norm2);
        double norm = sqrt((double)*a->norm2);
        a->metrics[DT_METRIC_GRAD_NORM] = (float)norm;
        a->metrics[DT_METRIC_SKIPPED] = finite ? 0 : 1;
        if (!finite) return;
        if (a->clip_norm > 0) clip = (float)fmin(1, (double)a->clip_norm / (norm + 1e-6));
    }
    update_factors f = {.grad_scale = clip / s->loss_scale,
                        .lr = s->lr,
                        .momentum = a->momentum,
                        .beta1 = a->beta1,
                        .beta2 = a->beta2,
                        .eps = a->eps};
    if (a->optim == DT_OPTIM_ADAMW) {
        f.inv_correct1 = 1 / s->adam_correct1;
        f.inv_correct2 = 1 / s->adam_correct2;
    }
#pragma omp parallel for schedule(static) num_threads(axis->threads) if (axis->n_piece > 1)
    for (int64_t i = 0; i < axis->n_piece; i++) update_piece(a, &axis->piece[i], f);
}

static void run_average(const dt_cpu_axis *axis) {
    const dt_axis_args *a = &axis->args;
    if (a->norm2 && !isfinite(*a->norm2)) return;
#pragma omp parallel for schedule(static) num_threads(axis->threads) if (axis->n_piece > 1)
    for (int64_t i = 0; i < axis->n_piece; i++) {
        const axis_piece *p = &axis->piece[i];
        average(a->ema + p->begin, a->master + p->begin, p->n_elem, a->params->ema_decay);
    }
}

static void run_sumsq(const dt_cpu_axis *axis) {
    const dt_axis_args *a = &axis->args;
    float scale = 1 / a->params->loss_scale;
    double total = (double)*a->norm2;
#pragma omp parallel for schedule(static) num_threads(axis->threads) if (axis->n_piece > 1)
    for (int64_t i = 0; i < axis->n_piece; i++)
        axis->partial[i] =
            sum_squares((const float *)a->grad + axis->piece[i].begin, axis->piece[i].n_elem, scale);
    for (int64_t i = 0; i < axis->n_piece; i++) total += axis->partial[i];
    *a->norm2 = (float)total;
}

static void run_accum(const dt_cpu_axis *axis) {
    const dt_axis_args *a = &axis->args;
#pragma omp parallel for schedule(static) num_threads(axis->threads) if (axis->n_piece > 1)
    for (int64_t i = 0; i < axis->n_piece; i++) {
        const axis_piece *p = &axis->piece[i];
        accum(a->acc + p->begin, (const float *)a->grad + p->begin, p->n_elem, a->params->first_micro != 0);
    }
}

static void run_scale(const dt_axis_args *a) {
    dt_step_params *p = a->params;
    if (a->metrics[DT_METRIC_SKIPPED] > 0) {
        p->loss_scale = fmaxf(1, p->loss_scale / 2);
        p->good_steps = 0;
    } else if (++p->good_steps >= a->growth_steps) {
        p->loss_scale = fminf(0x1p24f, p->loss_scale * 2);
        p->good_steps = 0;
    }
    a->metrics[DT_METRIC_LOSS_SCALE] = p->loss_scale;
    a->metrics[DT_METRIC_GOOD_STEPS] = (float)p->good_steps;
}

dt_status dt_cpu_axis_run(void *axis, dt_stream *stream) {
    (void)stream;
    const dt_cpu_axis *x = axis;
    if (x->kind == DT_AXIS_ACCUM) run_accum(x);
    if (x->kind == DT_AXIS_SUMSQ) run_sumsq(x);
    if (x->kind == DT_AXIS_UPDATE) run_update(x);
    if (x->kind == DT_AXIS_SCALE) run_scale(&x->args);
    if (x->kind == DT_AXIS_AVERAGE) run_average(x);
    return DT_OK; /* CAST: fp32 parameters are the masters themselves */
}

/* Counts the pieces of [begin, end) and, where `out` is given, writes them. */
static int64_t cut(int64_t begin, int64_t end, float decay, axis_piece *out) {
    int64_t n = 0;
    for (int64_t at = begin; at < end; at += DT_CPU_GRAIN, n++)
        if (out) out[n] = (axis_piece){at, dt_min_i64(DT_CPU_GRAIN, end - at), decay};
    return n;
}

static int64_t cut_all(dt_axis_kind kind, const dt_axis_args *a, axis_piece *out) {
    int64_t begin = a->offset, end = a->offset + a->n_elem, n = 0;
    if (kind != DT_AXIS_UPDATE) return cut(begin, end, 0, out);
    for (int32_t i = 0; i < a->n_segment; i++) {
        const dt_axis_segment *s = &a->segment[i];
        n += cut(dt_max_i64(s->offset, begin), dt_min_i64(s->offset + s->n_elem, end), s->decay,
                 out ? out + n : NULL);
    }
    return n;
}

dt_status dt_cpu_axis_create(dt_axis_kind kind, const dt_axis_args *args, int32_t threads,
                             dt_cpu_axis **out) {
    if (kind != DT_AXIS_CAST && args->grad_dtype != DT_DTYPE_F32)
        return dt_fail(DT_ERR_UNSUPPORTED, "the cpu backend keeps gradients in f32, not %s",
                       dt_dtype_name(args->grad_dtype));
    if (args->param16)
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "the cpu backend has no 16-bit parameters: set train.precision = \"fp32\"");
    dt_cpu_axis *x = calloc(1, sizeof *x);
    if (!x) goto no_memory;
    x->kind = kind;
    x->args = *args;
    x->args.segment = NULL;
    x->threads = threads;
    x->n_piece = cut_all(kind, args, NULL);
    x->piece = calloc((size_t)dt_max_i64(x->n_piece, 1), sizeof *x->piece);
    x->partial = calloc((size_t)dt_max_i64(x->n_piece, 1), sizeof *x->partial);
    if (!x->piece || !x->partial) goto no_memory;
    cut_all(kind, args, x->piece);
    *out = x;
    return DT_OK;
no_memory:
    dt_cpu_axis_destroy(x);
    return dt_fail(DT_ERR_MEMORY, "no memory for a kernel over %lld parameters", (long long)args->n_elem);
}

void dt_cpu_axis_destroy(dt_cpu_axis *axis) {
    if (!axis) return;
    free(axis->piece);
    free(axis->partial);
    free(axis);
}
