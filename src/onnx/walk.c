/* Ways through tensors. */
#include "walk.h"

#include <string.h>

void dt_walk_steps(int32_t ndim, const int64_t *dim, int64_t *step) {
    int64_t s = 1;
    for (int32_t d = ndim - 1; d >= 0; d--) {
        step[d] = s;
        s *= dim[d];
    }
}

/* Whether dimension b, which follows a, continues it in every tensor. */
static bool continues(const dt_walk *w, int32_t a, int32_t b) {
    for (int32_t k = 0; k < w->n_tensor; k++)
        if (w->step[k][a] != w->step[k][b] * w->dim[b]) return false;
    return true;
}

void dt_walk_begin(dt_walk *w) {
    int32_t n = 0;
    for (int32_t d = 0; d < w->n; d++) {
        if (w->dim[d] == 1) continue;
        const bool join = n > 0 && continues(w, n - 1, d);
        const int32_t to = join ? n - 1 : n++;
        w->dim[to] = join ? w->dim[to] * w->dim[d] : w->dim[d];
        for (int32_t k = 0; k < w->n_tensor; k++) w->step[k][to] = w->step[k][d];
    }
    if (n == 0) {
        w->dim[0] = 1;
        for (int32_t k = 0; k < w->n_tensor; k++) w->step[k][0] = 0;
        n = 1;
    }
    w->n = n;
    w->run = w->dim[n - 1];
    w->rows = w->run > 0;
    for (int32_t d = 0; d + 1 < n; d++) w->rows *= w->dim[d];
    memset(w->index, 0, sizeof w->index);
}

void dt_walk_next(dt_walk *w) {
    w->rows--;
    for (int32_t d = w->n - 2; d >= 0; d--) {
        for (int32_t k = 0; k < w->n_tensor; k++) w->at[k] += w->step[k][d];
        if (++w->index[d] < w->dim[d]) return;
        for (int32_t k = 0; k < w->n_tensor; k++) w->at[k] -= w->step[k][d] * w->dim[d];
        w->index[d] = 0;
    }
}

dt_walk dt_walk_broadcast(int32_t ndim, const int64_t *dim, int32_t n, const dt_host_tensor *const *tensor) {
    dt_walk w = {.n_tensor = n, .n = ndim};
    memcpy(w.dim, dim, (size_t)ndim * sizeof *dim);
    for (int32_t k = 0; k < n; k++) {
        const dt_host_tensor *t = tensor[k];
        int64_t step[DT_MAX_DIM];
        dt_walk_steps(t ? t->ndim : ndim, t ? t->dim : dim, step);
        for (int32_t d = 0; d < ndim; d++) {
            const int32_t from = t ? d - (ndim - t->ndim) : d;
            w.step[k][d] = from < 0 || (t && t->dim[from] == 1) ? 0 : step[from];
        }
    }
    dt_walk_begin(&w);
    return w;
}

#define COPY(type)                                                                                           \
    {                                                                                                        \
        type *y = (type *)to->data + w.at[0];                                                                \
        const type *x = (const type *)from->data + w.at[1];                                                  \
        for (int64_t i = 0; i < w.run; i++) y[i * sy] = x[i * sx];                                           \
    }

void dt_walk_copy(dt_walk w, dt_host_tensor *to, const dt_host_tensor *from) {
    const int64_t bytes = dt_host_elem_bytes(from->type), sy = dt_walk_step(&w, 0), sx = dt_walk_step(&w, 1);
    for (; w.rows > 0; dt_walk_next(&w)) {
        if (sy == 1 && sx == 1)
            memcpy((char *)to->data + w.at[0] * bytes, (const char *)from->data + w.at[1] * bytes,
                   (size_t)(w.run * bytes));
        else if (bytes == 1)
            COPY(uint8_t)
        else if (bytes == 2)
            COPY(uint16_t)
        else if (bytes == 4)
            COPY(uint32_t)
        else
            COPY(uint64_t)
    }
}

#define BY_TABLE(type)                                                                                       \
    {                                                                                                        \
        type *y = (type *)to->data + w.at[0], other;                                                         \
        memcpy(&other, fill, sizeof other);                                                                  \
        for (int64_t i = 0; i < run; i++)                                                                    \
            y[i] = base < 0 || last[i] < 0 ? other : ((const type *)from->data)[base + last[i]];             \
    }

void dt_walk_tables(dt_host_tensor *to, const dt_host_tensor *from, const int64_t *const *table,
                    const void *fill) {
    static const int64_t zero;
    const int32_t n = to->ndim;
    const int64_t run = n > 0 ? to->dim[n - 1] : 1, bytes = dt_host_elem_bytes(to->type);
    const int64_t *last = n > 0 ? table[n - 1] : &zero;
    const int64_t none = 0;
    if (!fill) fill = &none;
    if (dt_host_n_elem(to) == 0) return;
    dt_walk w = {.rows = dt_host_n_elem(to) / run, .run = run};
    for (; w.rows > 0; w.rows--) {
        int64_t base = 0;
        for (int32_t d = 0; d + 1 < n && base >= 0; d++)
            base = table[d][w.index[d]] < 0 ? -1 : base + table[d][w.index[d]];
        if (bytes == 1)
            BY_TABLE(uint8_t)
        else if (bytes == 2)
            BY_TABLE(uint16_t)
        else if (bytes == 4)
            BY_TABLE(uint32_t)
        else
            BY_TABLE(uint64_t)
        w.at[0] += run;
        for (int32_t d = n - 2; d >= 0; d--) {
            if (++w.index[d] < to->dim[d]) break;
            w.index[d] = 0;
        }
    }
}
