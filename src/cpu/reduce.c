/* REDUCE and its gradient over the space of x, whose operand A is the result. */
#include "kernels.h"

#include <math.h>

/* Parts of the space: what is kept, what is taken together. */
typedef struct parts {
    dt_space kept, taken;
    int64_t n_kept, n_taken;
} parts;

static parts parts_of(const dt_cpu_node *d) {
    parts p;
    dt_broadcast_split(&d->space, DT_SPACE_A, &p.kept, &p.taken);
    p.n_kept = dt_space_n_elem(&p.kept), p.n_taken = dt_space_n_elem(&p.taken);
    return p;
}

static int64_t start_of(const dt_space *s, int64_t i) {
    int64_t off[DT_SPACE_OPERANDS];
    dt_space_offsets(s, i, off);
    return off[DT_SPACE_FULL];
}

int64_t dt_cpu_sum_bytes(const dt_cpu_node *d) {
    return dt_cpu_sums_bytes(d, 0);
}

/* As PyTorch: a NaN is the maximum. */
static float max_of(const float *x, const parts *p, int64_t i) {
    const int64_t from = start_of(&p->kept, i);
    float top = -INFINITY;
    for (int64_t r = 0; r < p->n_taken; r++) {
        const float v = x[from + start_of(&p->taken, r)];
        if (v > top || isnan(v)) top = v;
        if (isnan(v)) break;
    }
    return top;
}

dt_status dt_cpu_reduce(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const parts p = parts_of(d);
    float *y = d->b.out[0];
    if (d->attr.reduce.kind == DT_REDUCE_MAX) {
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
        for (int64_t i = 0; i < p.n_kept; i++) y[i] = max_of(d->b.in[0], &p, i);
        return DT_OK;
    }
    dt_cpu_sums(d, DT_BINARY_ADD, 0); /* a sum is the gradient of repeating */
    if (d->attr.reduce.kind == DT_REDUCE_MEAN)
        for (int64_t i = 0; i < p.n_kept; i++) y[i] /= (float)p.n_taken;
    return DT_OK;
}

static void share_max(float *dx, float dy, const float *x, float y, const parts *p, int64_t i) {
    const int64_t from = start_of(&p->kept, i);
    int64_t ties = 0;
    for (int64_t r = 0; r < p->n_taken; r++) ties += x[from + start_of(&p->taken, r)] == y;
    for (int64_t r = 0; r < p->n_taken; r++) {
        const int64_t at = from + start_of(&p->taken, r);
        dx[at] = x[at] == y ? dy / (float)ties : 0;
    }
}

dt_status dt_cpu_reduce_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const parts p = parts_of(d);
    float *dx = d->b.out[0];
    const float *dy = d->b.in[DT_REDUCE_BWD_IN_DY];
    if (d->attr.reduce.kind == DT_REDUCE_MAX) {
        const float *x = d->b.in[DT_REDUCE_BWD_IN_X], *y = d->b.in[DT_REDUCE_BWD_IN_Y];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
        for (int64_t i = 0; i < p.n_kept; i++) share_max(dx, dy[i], x, y[i], &p, i);
        return DT_OK;
    }
    const float n = d->attr.reduce.kind == DT_REDUCE_MEAN ? (float)p.n_taken : 1;
    const dt_space *s = &d->space;
    const int64_t cols = s->dim[s->n - 1], step = s->stride[DT_SPACE_A][s->n - 1];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t r = 0; r < d->n_elem / cols; r++) {
        int64_t off[DT_SPACE_OPERANDS];
        dt_space_offsets(s, r * cols, off);
        const float *from = dy + off[DT_SPACE_A];
        for (int64_t c = 0; c < cols; c++) dx[r * cols + c] = from[c * step] / n;
    }
    return DT_OK;
}
