/* Kernels over the parameter axis: accumulate, sum of squares, optimizer update, copy. One pass over memory
 * each. */
#include "kernels.h"
#include "optim_factored.h"
#include "optim_muon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1024 }; /* elements updated, then averaged into the EMA while in cache; also one fp32 sum */

/* A stretch of the axis, of one segment. */
typedef struct axis_piece {
    int64_t begin, n_elem;
    int32_t segment;
    int64_t rest_begin; /* UPDATE: of its state that is of the rest alone */
    float decay, lr_scale;
} axis_piece;

typedef struct square_sums {
    double w, u;
} square_sums;

struct dt_cpu_axis {
    dt_axis_kind kind;
    dt_axis_args args; /* args.segment is not kept */
    int32_t threads;
    int64_t n_piece;
    axis_piece *piece;
    double *partial;           /* SUMSQ: one sum per piece */
    square_sums *measure;      /* UPDATE of a TRUST optimizer: of a piece's weights and of its direction */
    float *ratio;              /* likewise: of its segment */
    dt_cpu_factored *factored; /* UPDATE of a FACTORED optimizer */
    dt_cpu_muon *muon;         /* UPDATE of a MATRIX optimizer: of what is no piece */
};

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

/* A block of at most BLOCK elements; an absent state vector is zeros that nobody keeps. */
typedef struct block {
    float *w;
    const float *grad;
    float *state[DT_OPTIM_STATES_MAX];
    int64_t n;
} block;

#define LOAD(n_state)                                                                                        \
    {                                                                                                        \
        .w = w[i], .s = { n_state > 0 ? s0[i] : 0, n_state > 1 ? s1[i] : 0, n_state > 2 ? s2[i] : 0 }        \
    }
#define STORE(n_state)                                                                                       \
    do {                                                                                                     \
        if (n_state > 0) s0[i] = e.s[0];                                                                     \
        if (n_state > 1) s1[i] = e.s[1];                                                                     \
        if (n_state > 2) s2[i] = e.s[2];                                                                     \
    } while (0)

/* update_<name>: the optimizer's formula over a block of n_state vectors. */
#define UPDATE(upper, lower, n_state)                                                                        \
    DT_CPU_SIMD static void update_##lower(const block *b, const dt_optim_factors *factors) {                \
        const dt_optim_factors f = *factors;                                                                 \
        float *w = b->w, *s0 = b->state[0], *s1 = b->state[1], *s2 = b->state[2];                            \
        const float *grad = b->grad;                                                                         \
        const int64_t n = b->n;                                                                              \
        (void)s0, (void)s1, (void)s2;                                                                        \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                \
            dt_optim_element e = LOAD(n_state);                                                              \
            e = dt_optim_##lower(&f, grad[i], e);                                                            \
            w[i] = e.w;                                                                                      \
            STORE(n_state);                                                                                  \
        }                                                                                                    \
    }
DT_OPTIM_LIST(UPDATE)

/* measure_<name>: the state of the step, and the squares that the ratio wants. */
#define MEASURE(upper, lower, n_state)                                                                       \
    DT_CPU_SIMD static square_sums measure_##lower(const block *b, const dt_optim_factors *factors) {        \
        const dt_optim_factors f = *factors;                                                                 \
        float *s0 = b->state[0], *s1 = b->state[1], *s2 = b->state[2];                                       \
        const float *w = b->w, *grad = b->grad;                                                              \
        const int64_t n = b->n;                                                                              \
        float w2 = 0, u2 = 0;                                                                                \
        (void)s0, (void)s1, (void)s2;                                                                        \
        _Pragma("omp simd reduction(+ : w2, u2)") for (int64_t i = 0; i < n; i++) {                          \
            dt_optim_element e = LOAD(n_state);                                                              \
            e = dt_optim_measure_##lower(&f, grad[i], e);                                                    \
            STORE(n_state);                                                                                  \
            w2 += w[i] * w[i], u2 += e.u * e.u;                                                              \
        }                                                                                                    \
        return (square_sums){(double)w2, (double)u2};                                                        \
    }
DT_OPTIM_TRUST_LIST(MEASURE)

#define UPDATE_OF(upper, lower, n_state)  [DT_OPTIM_##upper] = update_##lower,
#define MEASURE_OF(upper, lower, n_state) [DT_OPTIM_##upper] = measure_##lower,
#define RATIO_OF(upper, lower, n_state)   [DT_OPTIM_##upper] = dt_optim_ratio_##lower,
static void (*const update_of[])(const block *, const dt_optim_factors *) = {DT_OPTIM_LIST(UPDATE_OF)};
static square_sums (*const measure_of[DT_OPTIM_COUNT])(const block *, const dt_optim_factors *) = {
    DT_OPTIM_TRUST_LIST(MEASURE_OF)};
static float (*const ratio_of[DT_OPTIM_COUNT])(const dt_optim_factors *, float,
                                               float) = {DT_OPTIM_TRUST_LIST(RATIO_OF)};

DT_CPU_SIMD static void average(float *ema, const float *w, int64_t n, float decay) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) ema[i] = decay * ema[i] + (1 - decay) * w[i];
}

/* Room for the vectors that a piece of work has not: a factor of 0 in the formula keeps them from mattering. */
typedef struct no_state {
    float v[DT_OPTIM_STATES_MAX][BLOCK];
} no_state;

static block block_of(const dt_cpu_axis *x, const axis_piece *p, int64_t done, no_state *none) {
    const dt_axis_args *a = &x->args;
    const int64_t at = p->begin + done;
    block b = {
        .w = a->master + at, .grad = (const float *)a->grad + at, .n = dt_min_i64(BLOCK, p->n_elem - done)};
    if (x->factored) {
        dt_cpu_factored_estimate(x->factored, p->segment, at, b.n, none->v[0]);
        b.state[0] = none->v[0];
        return b;
    }
    const dt_optim_state_row *row = dt_optim_get((dt_optim_kind)a->optim.kind)->state;
    for (int k = 0; k < DT_OPTIM_STATES_MAX; k++)
        b.state[k] = !a->state[k]                    ? none->v[k]
                     : row[k].shape == DT_STATE_REST ? a->state[k] + p->rest_begin + done
                                                     : a->state[k] + at;
    return b;
}

static void clear_state(const dt_axis_args *a, no_state *none) {
    const dt_optim_state_row *row = dt_optim_get((dt_optim_kind)a->optim.kind)->state;
    for (int k = 0; k < DT_OPTIM_STATES_MAX; k++)
        if (row[k].name && !a->state[k]) memset(none->v[k], 0, sizeof none->v[k]);
}

static dt_optim_factors factors_of(const dt_cpu_axis *x, const axis_piece *p, dt_optim_factors f) {
    f.decay = p->decay;
    f.lr *= p->lr_scale;
    if (x->factored) f.inv_sqrt_n = dt_cpu_factored_inv_sqrt_n(x->factored, p->segment);
    return f;
}

static void update_piece(const dt_cpu_axis *x, const axis_piece *p, const dt_optim_factors *f) {
    const dt_axis_args *a = &x->args;
    no_state none;
    clear_state(a, &none);
    for (int64_t done = 0; done < p->n_elem; done += BLOCK) {
        const block b = block_of(x, p, done, &none);
        update_of[a->optim.kind](&b, f);
        if (a->ema) average(a->ema + p->begin + done, b.w, b.n, a->params->ema_decay);
    }
}

static square_sums measure_piece(const dt_cpu_axis *x, const axis_piece *p, const dt_optim_factors *f) {
    const dt_axis_args *a = &x->args;
    no_state none;
    square_sums sum = {0};
    clear_state(a, &none);
    for (int64_t done = 0; done < p->n_elem; done += BLOCK) {
        const block b = block_of(x, p, done, &none);
        const square_sums part = measure_of[a->optim.kind](&b, f);
        sum.w += part.w, sum.u += part.u;
    }
    return sum;
}

/* The ratios of the segments, from sums over their pieces in the order of these. */
static void trust(const dt_cpu_axis *axis, const dt_optim_factors *step) {
    const dt_axis_args *a = &axis->args;
#pragma omp parallel for schedule(static) num_threads(axis->threads) if (axis->n_piece > 1)
    for (int64_t i = 0; i < axis->n_piece; i++) {
        const dt_optim_factors f = factors_of(axis, &axis->piece[i], *step);
        axis->measure[i] = measure_piece(axis, &axis->piece[i], &f);
    }
    for (int64_t i = 0, end; i < axis->n_piece; i = end) {
        const dt_optim_factors f = factors_of(axis, &axis->piece[i], *step);
        square_sums sum = {0};
        for (end = i; end < axis->n_piece && axis->piece[end].segment == axis->piece[i].segment; end++)
            sum.w += axis->measure[end].w, sum.u += axis->measure[end].u;
        const float ratio = ratio_of[a->optim.kind](&f, (float)sqrt(sum.w), (float)sqrt(sum.u));
        for (int64_t k = i; k < end; k++) axis->ratio[k] = ratio;
    }
}

static void run_update(const dt_cpu_axis *axis) {
    const dt_axis_args *a = &axis->args;
    dt_step_params *s = a->params;
    const float mean = dt_optim_mean_scale(a->sample_rows, s->loss_weight,
                                           a->sample_rows > 0 ? a->metrics[DT_METRIC_SAMPLES] : 0);
    float clip = 1;
    if (a->norm2) {
        bool finite = isfinite(*a->norm2);
        double norm = sqrt((double)*a->norm2) * (double)mean;
        a->metrics[DT_METRIC_GRAD_NORM] = (float)norm;
        a->metrics[DT_METRIC_SKIPPED] = finite ? 0 : 1;
        if (!finite) return;
        if (a->clip_norm > 0) clip = (float)fmin(1, (double)a->clip_norm / (norm + 1e-6));
    }
    const dt_optim_factors step = dt_optim_begin(&a->optim, s->lr, clip * mean / s->loss_scale, ++s->updates);
    if (axis->factored) dt_cpu_factored_update(axis->factored, &step);
    if (axis->ratio) trust(axis, &step);
    if (axis->muon) dt_cpu_muon_update(axis->muon, &step);
#pragma omp parallel for schedule(static) num_threads(axis->threads) if (axis->n_piece > 1)
    for (int64_t i = 0; i < axis->n_piece; i++) {
        dt_optim_factors f = factors_of(axis, &axis->piece[i], step);
        if (axis->ratio) f.ratio = axis->ratio[i];
        update_piece(axis, &axis->piece[i], &f);
    }
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

/* Counts the pieces of [begin, end) and, where `out` is given, writes them: those of one segment, or of none. */
static int64_t cut(int64_t begin, int64_t end, int32_t segment, const dt_axis_segment *s, axis_piece *out) {
    int64_t n = 0;
    for (int64_t at = begin; at < end; at += DT_CPU_GRAIN, n++)
        if (out)
            out[n] = (axis_piece){.begin = at,
                                  .n_elem = dt_min_i64(DT_CPU_GRAIN, end - at),
                                  .segment = segment,
                                  .rest_begin = s ? s->state_at[DT_STATE_REST] + at - s->offset : 0,
                                  .decay = s ? s->decay : 0,
                                  .lr_scale = s ? s->lr_scale : 1};
    return n;
}

static int64_t cut_all(dt_axis_kind kind, const dt_axis_args *a, axis_piece *out) {
    int64_t begin = a->offset, end = a->offset + a->n_elem, n = 0;
    if (kind != DT_AXIS_UPDATE) return cut(begin, end, -1, NULL, out);
    const bool whole = dt_optim_get((dt_optim_kind)a->optim.kind)->flags & DT_OPTIM_MATRIX;
    for (int32_t i = 0; i < a->n_segment; i++) {
        const dt_axis_segment *s = &a->segment[i];
        if (whole && s->matrix) continue;
        n += cut(dt_max_i64(s->offset, begin), dt_min_i64(s->offset + s->n_elem, end), i, s,
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
    if (kind == DT_AXIS_UPDATE && dt_optim_get((dt_optim_kind)args->optim.kind)->flags & DT_OPTIM_TRUST) {
        x->measure = calloc((size_t)dt_max_i64(x->n_piece, 1), sizeof *x->measure);
        x->ratio = calloc((size_t)dt_max_i64(x->n_piece, 1), sizeof *x->ratio);
        if (!x->measure || !x->ratio) goto no_memory;
    }
    if (kind == DT_AXIS_UPDATE && dt_optim_get((dt_optim_kind)args->optim.kind)->flags & DT_OPTIM_FACTORED) {
        x->factored = dt_cpu_factored_create(args, threads);
        if (!x->factored) goto no_memory;
    }
    if (kind == DT_AXIS_UPDATE && dt_optim_get((dt_optim_kind)args->optim.kind)->flags & DT_OPTIM_MATRIX) {
        x->muon = dt_cpu_muon_create(args, threads);
        if (!x->muon) goto no_memory;
    }
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
    free(axis->measure);
    free(axis->ratio);
    dt_cpu_factored_destroy(axis->factored);
    dt_cpu_muon_destroy(axis->muon);
    free(axis);
}
