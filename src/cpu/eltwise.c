/* Element-wise functions of one variable, and dropout. One pass over memory each. */
#include "kernels.h"

#include "core/rng.h"
#include "core/scalar.h"
#include "kernels_conv.h"

typedef void (*map_fn)(float *out, const float *in, const float *v, int64_t n, float a, float b);

#define MAP(NAME, name, of, scalars, value, gradient)                                                        \
    DT_CPU_SIMD static void map_##name(float *out, const float *in, const float *v, int64_t n, float a,      \
                                       float b) {                                                            \
        (void)v, (void)a, (void)b;                                                                           \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                \
            const float x = in[i];                                                                           \
            out[i] = value;                                                                                  \
        }                                                                                                    \
    }
DT_UNARY_LIST(MAP)
#undef MAP

/* v is x or y, whichever the gradient is made of. */
#define MAP(NAME, name, of, scalars, value, gradient)                                                        \
    DT_CPU_SIMD static void map_##name##_bwd(float *out, const float *in, const float *v, int64_t n,         \
                                             float a, float b) {                                             \
        (void)a, (void)b;                                                                                    \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                \
            const float g = in[i], x = v[i], y = x;                                                          \
            (void)x, (void)y;                                                                                \
            out[i] = gradient;                                                                               \
        }                                                                                                    \
    }
DT_UNARY_LIST(MAP)
#undef MAP

#define ROW(NAME, name, of, scalars, value, gradient) [DT_UNARY_##NAME] = {map_##name, map_##name##_bwd},
static const map_fn map_table[DT_UNARY_COUNT][2] = {DT_UNARY_LIST(ROW)};
#undef ROW

enum { LINE = 64 }; /* elements: what is cut begins at a line of the caches */

typedef struct map {
    const dt_cpu_node *d;
    const float *v;
    map_fn fn;
} map;

static void map_lines(const void *arg, int64_t from, int64_t to) {
    const map *m = arg;
    const dt_cpu_node *d = m->d;
    const int64_t at = from * LINE, n = dt_min_i64(to * LINE, d->n_elem) - at;
    m->fn((float *)d->b.out[0] + at, (const float *)d->b.in[0] + at, m->v ? m->v + at : NULL, n,
          d->attr.unary.a, d->attr.unary.b);
}

static dt_status map_run(const dt_cpu_node *d, const float *v, map_fn fn) {
    const map m = {d, v, fn};
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), dt_ceil_div(d->n_elem, LINE), map_lines,
                       &m);
    return DT_OK;
}

dt_status dt_cpu_unary(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    return map_run(d, NULL, map_table[d->attr.unary.fn][0]);
}

dt_status dt_cpu_unary_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    return map_run(d, d->b.in[1], map_table[d->attr.unary.fn][1]);
}

DT_CPU_SIMD static void add_to(float *y, const float *res, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += res[i];
}

void dt_cpu_end_rows(float *y, const float *res, int64_t ld, int64_t rows, int64_t cols, int32_t act) {
    if (!res && !act) return;
    if (ld == cols) cols *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++) {
        if (res) add_to(y + r * ld, res + r * ld, cols);
        if (act) map_table[act - 1][0](y + r * ld, y + r * ld, NULL, cols, 0, 0);
    }
}

typedef struct end {
    float *y;
    const float *res;
    int64_t n;
    int32_t act;
} end;

static void end_lines(const void *arg, int64_t from, int64_t to) {
    const end *e = arg;
    const int64_t at = from * LINE, n = dt_min_i64(to * LINE, e->n) - at;
    dt_cpu_end_rows(e->y + at, e->res ? e->res + at : NULL, n, 1, n, e->act);
}

void dt_cpu_end(float *y, const float *res, int64_t n, int32_t act, dt_cpu_crew crew) {
    const end e = {y, res, n, act};
    if (!res && !act) return;
    if (n <= DT_CPU_GRAIN) crew.threads = 1;
    dt_cpu_share_range(crew, dt_ceil_div(n, LINE), end_lines, &e);
}

/* Element e takes word e % 4 of the draw with counter (step << 24 | micro, e / 4); it is kept when u >= p. */
DT_CPU_SIMD static void dropout_piece(float *y, const float *x, int64_t first, int64_t n, uint64_t key,
                                      uint64_t counter_hi, float p) {
    float scale = 1.0f / (1.0f - p);
    for (int64_t i = 0; i < n; i += 4) {
        dt_u32x4 r = dt_philox(key, counter_hi, (uint64_t)(first + i) / 4);
        int64_t left = dt_min_i64(4, n - i);
        for (int64_t j = 0; j < left; j++) y[i + j] = dt_u01(r.v[j]) >= p ? x[i + j] * scale : 0;
    }
}

/* Row r takes word r % 4 of the draw r / 4. */
DT_CPU_SIMD static void dropout_row(float *y, const float *x, int64_t row, int64_t n, uint64_t key,
                                    uint64_t counter_hi, float p) {
    const dt_u32x4 r = dt_philox(key, counter_hi, (uint64_t)row / 4);
    const float scale = dt_u01(r.v[row % 4]) >= p ? 1.0f / (1.0f - p) : 0;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = scale > 0 ? x[i] * scale : 0;
}

dt_status dt_cpu_dropout(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_step_params *s = d->b.params;
    float *y = d->b.out[0];
    const float *x = d->b.in[0];
    uint64_t key = dt_rng_key(s->seed, DT_RNG_DROPOUT, d->attr.dropout.salt);
    uint64_t counter_hi = s->step << 24 | s->micro;
    enum { PIECE = 4096 };
    if (d->attr.dropout.rows) {
        const int64_t n = d->n > 0 ? d->n_elem / d->n : 0;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > PIECE)
        for (int64_t r = 0; r < d->n; r++)
            dropout_row(y + r * n, x + r * n, r, n, key, counter_hi, d->attr.dropout.p);
        return DT_OK;
    }
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > PIECE)
    for (int64_t i = 0; i < d->n_elem; i += PIECE)
        dropout_piece(y + i, x + i, i, dt_min_i64(PIECE, d->n_elem - i), key, counter_hi, d->attr.dropout.p);
    return DT_OK;
}
