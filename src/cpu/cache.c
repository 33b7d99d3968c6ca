/* Keys and values of new places to where attention reads them. */
#include <string.h>

#include "kernels.h"

dt_status dt_cpu_cache(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_cache_dims *s = &d->cache;
    const int32_t *start = d->b.in[DT_CACHE_IN_START], *count = d->b.in[DT_CACHE_IN_COUNT];
    const float *k = d->b.in[DT_CACHE_IN_K], *v = d->b.in[DT_CACHE_IN_V] ? d->b.in[DT_CACHE_IN_V] : k;
    float *k_cache = d->b.in[DT_CACHE_IN_K_CACHE], *v_cache = d->b.in[DT_CACHE_IN_V_CACHE];
    int32_t *lengths = d->b.out[0];
    const size_t bytes = (size_t)s->wide * sizeof(float);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t i = 0; i < s->b * s->t; i++) {
        const int64_t row = i / s->t, t = i % s->t, at = start[row] + t;
        if (t >= count[row] || at < 0 || at >= s->s) continue;
        memcpy(k_cache + (row * s->s + at) * s->wide, k + i * s->k_row + d->attr.cache.k_at, bytes);
        memcpy(v_cache + (row * s->s + at) * s->wide, v + i * s->v_row + d->attr.cache.v_at, bytes);
    }
    for (int64_t row = 0; row < s->b; row++) lengths[row] = start[row] + count[row];
    return DT_OK;
}
