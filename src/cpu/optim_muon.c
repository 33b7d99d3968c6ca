/* Muon: each matrix by itself, by all threads. Products are cut by their sizes alone (dense.c) and sums by pieces, so
 * that the number of threads changes no bit; nor does that of ranks, which all step every matrix. */
#include "optim_muon.h"

#include <math.h>
#include <stdlib.h>

#include "kernels.h"
#include "kernels_conv.h"

enum { BLOCK = 1024 /* one fp32 sum */, ALIGN_BYTES = 64 };

struct dt_cpu_muon {
    dt_axis_args args;        /* args.segment is our own */
    dt_axis_segment *segment; /* the matrices */
    int32_t n_segment, threads;
    float *x, *y;       /* [rows, cols] of the largest */
    float *gram, *poly; /* [side, side], side being the lesser of rows and columns */
    void *workspace;    /* of products */
    double *partial;    /* by piece */
};

static int64_t side_of(const dt_axis_segment *s) {
    return dt_min_i64(s->rows, s->cols);
}

/* The products of a step: x x^T (or x^T x), its square, and that times x. */
typedef struct products {
    dt_matmul_dims gram, poly, step;
    dt_matmul_attr square;
} products;

static products products_of(const dt_axis_segment *s) {
    const bool tall = s->rows > s->cols;
    const int64_t side = side_of(s), wide = s->rows + s->cols - side;
    return (products){.gram = {1, side, side, wide},
                      .poly = {1, side, side, side},
                      .step = {1, s->rows, s->cols, side},
                      .square = {.turn_a = tall, .turn_b = !tall}};
}

static int64_t products_bytes(const dt_axis_segment *s, int32_t threads) {
    const dt_matmul_attr plain = {0};
    const products p = products_of(s);
    return dt_max_i64(dt_cpu_matmul_bytes(&p.gram, &p.square, threads),
                      dt_max_i64(dt_cpu_matmul_bytes(&p.poly, &plain, threads),
                                 dt_cpu_matmul_bytes(&p.step, &plain, threads)));
}

dt_cpu_muon *dt_cpu_muon_create(const dt_axis_args *a, int32_t threads) {
    int64_t n = 1, side = 1, bytes = ALIGN_BYTES;
    dt_cpu_muon *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->args = *a;
    m->threads = threads;
    m->segment = calloc((size_t)a->n_segment + 1, sizeof *m->segment);
    if (!m->segment) goto no_memory;
    for (int32_t i = 0; i < a->n_segment; i++) {
        const dt_axis_segment *s = &a->segment[i];
        if (!s->matrix) continue;
        m->segment[m->n_segment++] = *s;
        n = dt_max_i64(n, s->n_elem), side = dt_max_i64(side, side_of(s));
        bytes = dt_max_i64(bytes, products_bytes(s, threads));
    }
    m->args.segment = m->segment;
    m->x = calloc((size_t)n, sizeof *m->x);
    m->y = calloc((size_t)n, sizeof *m->y);
    m->gram = calloc((size_t)(side * side), sizeof *m->gram);
    m->poly = calloc((size_t)(side * side), sizeof *m->poly);
    m->workspace = aligned_alloc(ALIGN_BYTES, (size_t)dt_round_up(bytes, ALIGN_BYTES));
    m->partial = calloc((size_t)(n / DT_CPU_GRAIN + 1), sizeof *m->partial);
    if (m->x && m->y && m->gram && m->poly && m->workspace && m->partial) return m;
no_memory:
    dt_cpu_muon_destroy(m);
    return NULL;
}

void dt_cpu_muon_destroy(dt_cpu_muon *m) {
    if (!m) return;
    free(m->segment), free(m->x), free(m->y), free(m->gram), free(m->poly), free(m->workspace),
        free(m->partial);
    free(m);
}

/* Velocity, and u with the sum of its squares. */
DT_CPU_SIMD static double before(const dt_optim_factors *factors, const float *grad, float *velocity,
                                 float *u, int64_t n) {
    const dt_optim_factors f = *factors;
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        const int64_t end = dt_min_i64(begin + BLOCK, n);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; i++) {
            dt_optim_element e = {.s = {velocity[i]}};
            e = dt_optim_before_muon(&f, grad[i], e);
            velocity[i] = e.s[0], u[i] = e.u;
            sum += e.u * e.u;
        }
        total += (double)sum;
    }
    return total;
}

DT_CPU_SIMD static void after(const dt_optim_factors *factors, const float *o, float *w, float *ema,
                              int64_t n, float decay) {
    const dt_optim_factors f = *factors;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) w[i] = dt_optim_after_muon(&f, o[i], (dt_optim_element){.w = w[i]}).w;
    if (!ema) return;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) ema[i] = decay * ema[i] + (1 - decay) * w[i];
}

/* out = a x + b y; out may be either. */
DT_CPU_SIMD static void mix(float a, const float *x, float b, const float *y, float *out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = a * x[i] + b * y[i];
}

/* x = a x + b y. */
static void mix_all(const dt_cpu_muon *m, float a, float *x, float b, const float *y, int64_t n) {
#pragma omp parallel for schedule(static) num_threads(m->threads) if (n > DT_CPU_GRAIN)
    for (int64_t at = 0; at < n; at += DT_CPU_GRAIN)
        mix(a, x + at, b, y + at, x + at, dt_min_i64(DT_CPU_GRAIN, n - at));
}

/* m->x, of norm 1, becomes orthogonal. */
static void orthogonalise(const dt_cpu_muon *m, const dt_axis_segment *s) {
    const dt_matmul_attr plain = {0};
    const products p = products_of(s);
    const int64_t side = side_of(s);
    for (int32_t i = 0; i < DT_MUON_STEPS; i++) {
        dt_cpu_matmul(&p.gram, &p.square, m->x, m->x, m->gram, (dt_cpu_crew){m->threads, false},
                      m->workspace);
        dt_cpu_matmul(&p.poly, &plain, m->gram, m->gram, m->poly, (dt_cpu_crew){m->threads, false},
                      m->workspace);
        mix_all(m, DT_MUON_C, m->poly, DT_MUON_B, m->gram, side * side);
        if (p.square.turn_a)
            dt_cpu_matmul(&p.step, &plain, m->x, m->poly, m->y, (dt_cpu_crew){m->threads, false},
                          m->workspace);
        else
            dt_cpu_matmul(&p.step, &plain, m->poly, m->x, m->y, (dt_cpu_crew){m->threads, false},
                          m->workspace);
        mix_all(m, DT_MUON_A, m->x, 1, m->y, s->n_elem);
    }
}

static void update_matrix(const dt_cpu_muon *m, const dt_axis_segment *s, const dt_optim_factors *step) {
    const dt_axis_args *a = &m->args;
    const int64_t n = s->n_elem, real = s->n_real > 0 ? s->n_real : n;
    const float *grad = (const float *)a->grad + s->offset;
    float *w = a->master + s->offset, *velocity = a->state[0] + s->offset,
          *ema = a->ema ? a->ema + s->offset : NULL;
    dt_optim_factors f = *step;
    double sum = 0;
    f.decay = s->decay, f.lr *= s->lr_scale;
    f.ratio = dt_muon_scale_of(a->optim.muon_scale, s->rows, real / s->rows);
#pragma omp parallel for schedule(static) num_threads(m->threads) if (n > DT_CPU_GRAIN)
    for (int64_t at = 0; at < n; at += DT_CPU_GRAIN)
        m->partial[at / DT_CPU_GRAIN] =
            before(&f, grad + at, velocity + at, m->x + at, dt_min_i64(DT_CPU_GRAIN, n - at));
    for (int64_t at = 0; at < n; at += DT_CPU_GRAIN) sum += m->partial[at / DT_CPU_GRAIN];
    mix_all(m, 1 / fmaxf((float)sqrt(sum), DT_MUON_EPS), m->x, 0, m->x, n);
    orthogonalise(m, s);
#pragma omp parallel for schedule(static) num_threads(m->threads) if (n > DT_CPU_GRAIN)
    for (int64_t at = 0; at < n; at += DT_CPU_GRAIN)
        after(&f, m->x + at, w + at, ema ? ema + at : NULL, dt_min_i64(DT_CPU_GRAIN, n - at),
              a->params->ema_decay);
}

void dt_cpu_muon_update(dt_cpu_muon *m, const dt_optim_factors *step) {
    for (int32_t i = 0; i < m->n_segment; i++) update_matrix(m, &m->segment[i], step);
}
