/* Dense layers of a text's next places: a few rows, and weights that are read once. Packing them, as a product of many rows
 * does, would take longer than the product. A number is the sum of its own row's LANES partial sums along the depth,
 * whatever is computed beside it: bits depend on no other row. */
#include <string.h>

#include "kernels.h"

enum { LANES = 16, COLS = 4 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* Vectors go by address: as arguments or results they would need the instruction set that a caller may not have. */
DT_CPU_INLINE void load(lanes *v, const float *p, int64_t n) {
    if (n >= LANES) {
        memcpy(v, p, sizeof *v);
        return;
    }
    memset(v, 0, sizeof *v);
    memcpy(v, p, (size_t)n * sizeof *p);
}

DT_CPU_INLINE float sum_of(const lanes *v) {
    float s[LANES];
    memcpy(s, v, sizeof s);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

/* y[k] = x . w[k] + bias[k] of up to COLS rows of w. */
DT_CPU_SIMD static void columns(float *y, const float *x, const float *w, const float *bias, int64_t depth,
                                int64_t n) {
    /* Past the last row it is computed again. */
    const float *row[COLS] = {w, w + (n > 1 ? 1 : 0) * depth, w + (n > 2 ? 2 : 0) * depth,
                              w + (n > 3 ? 3 : 0) * depth};
    lanes sum[COLS] = {{0}, {0}, {0}, {0}};
    int64_t j = 0;
    for (; j + LANES <= depth; j += LANES) {
        lanes v, u;
        load(&v, x + j, LANES);
        for (int k = 0; k < COLS; k++) {
            load(&u, row[k] + j, LANES);
            sum[k] += v * u;
        }
    }
    if (j < depth) {
        lanes v, u;
        load(&v, x + j, depth - j);
        for (int k = 0; k < COLS; k++) {
            load(&u, row[k] + j, depth - j);
            sum[k] += v * u;
        }
    }
    for (int64_t k = 0; k < n; k++) y[k] = (bias ? bias[k] : 0.0f) + sum_of(&sum[k]);
}

/* Groups [from, to) of COLS outputs. */
static void groups(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    const float *x = d->b.in[DT_DENSE_IN_X], *w = d->b.in[DT_DENSE_IN_W], *bias = d->b.in[DT_DENSE_IN_BIAS];
    float *y = d->b.out[0];
    for (int64_t k = from * COLS; k < dt_min_i64(to * COLS, d->k); k += COLS)
        for (int64_t r = 0; r < d->m; r++)
            columns(y + r * d->k + k, x + r * d->c, w + k * d->c, bias ? bias + k : NULL, d->c,
                    dt_min_i64(COLS, d->k - k));
}

void dt_cpu_dense_few(const dt_cpu_node *d) {
    dt_cpu_share_range(dt_cpu_crew_of(d, d->m * d->c * d->k > DT_CPU_GRAIN), dt_ceil_div(d->k, COLS), groups,
                       d);
}

bool dt_cpu_is_few(const dt_graph *g, const dt_node *n) {
    const dt_value *y = &g->value[n->out[0]];
    if (n->op != DT_OP_DENSE || g->training || y->ndim != 3 || y->dim[1] != 1) return false;
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_CACHE) return true;
    return false;
}
