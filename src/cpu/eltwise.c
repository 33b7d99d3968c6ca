/* Element-wise ops: relu, add, dropout and the relu gradient. One pass over memory each. */
#include "kernels.h"

#include "core/rng.h"

typedef void (*map_fn)(float *y, const float *a, const float *b, int64_t n);

DT_CPU_SIMD static void map_relu(float *y, const float *a, const float *b, int64_t n) {
    (void)b;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a[i] < 0 ? 0 : a[i]; /* keeps NaN */
}

DT_CPU_SIMD static void map_relu_bwd(float *y, const float *a, const float *b, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = b[i] > 0 ? a[i] : 0;
}

DT_CPU_SIMD static void map_add(float *y, const float *a, const float *b, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static dt_status map_run(const dt_cpu_node *d, const float *b, map_fn fn) {
    float *y = d->b.out[0];
    const float *a = d->b.in[0];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t i = 0; i < d->n_elem; i += DT_CPU_GRAIN)
        fn(y + i, a + i, b ? b + i : NULL, dt_min_i64(DT_CPU_GRAIN, d->n_elem - i));
    return DT_OK;
}

dt_status dt_cpu_relu(void *node, dt_stream *stream) {
    (void)stream;
    return map_run(node, NULL, map_relu);
}

dt_status dt_cpu_relu_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    return map_run(d, d->b.in[1], map_relu_bwd);
}

dt_status dt_cpu_add(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    return map_run(d, d->b.in[1], map_add);
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

dt_status dt_cpu_dropout(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_step_params *s = d->b.params;
    float *y = d->b.out[0];
    const float *x = d->b.in[0];
    uint64_t key = dt_rng_key(s->seed, DT_RNG_DROPOUT, d->attr.salt);
    uint64_t counter_hi = s->step << 24 | s->micro;
    enum { PIECE = 4096 };
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > PIECE)
    for (int64_t i = 0; i < d->n_elem; i += PIECE)
        dropout_piece(y + i, x + i, i, dt_min_i64(PIECE, d->n_elem - i), key, counter_hi, d->attr.drop_p);
    return DT_OK;
}
