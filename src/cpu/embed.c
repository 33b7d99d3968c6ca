/* Rows of a table by number, and the table's gradient. */
#include "kernels.h"

#include <string.h>

#include "core/text.h"

enum { N_PART = 64 }; /* parts of the table whose gradient is one piece of work */

/* The row of the tables, one after the other, that index number r means. */
static int64_t row_of(const dt_cpu_node *d, const int32_t *index, int64_t r) {
    return d->tables > 1 ? r / (d->m / d->tables) * d->rows + index[r] : index[r];
}

static dt_status need_rows(const int32_t *index, int64_t m, int64_t rows) {
    for (int64_t i = 0; i < m; i++)
        if (index[i] < 0 || index[i] >= rows)
            return dt_fail(DT_ERR_DATA, "index %d at place %lld of the batch: the table has only %s",
                           index[i], (long long)i, dt_count_text(rows, "row").s);
    return DT_OK;
}

static void copy_rows(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    const float *w = d->b.in[DT_EMBED_IN_WEIGHT];
    float *y = d->b.out[0];
    for (int64_t r = from; r < to; r++)
        memcpy(y + r * d->c, w + row_of(d, d->b.in[DT_EMBED_IN_INDEX], r) * d->c, (size_t)d->c * sizeof *y);
}

dt_status dt_cpu_embed(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    DT_TRY(need_rows(d->b.in[DT_EMBED_IN_INDEX], d->m, d->rows));
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), d->m, copy_rows, d);
    return DT_OK;
}

dt_status dt_cpu_one_hot(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const int32_t *index = d->b.in[0];
    float *y = d->b.out[0];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t r = 0; r < d->m; r++) {
        memset(y + r * d->c, 0, (size_t)d->c * sizeof *y);
        if (index[r] >= 0 && index[r] < d->c) y[r * d->c + index[r]] = 1;
    }
    return DT_OK;
}

DT_CPU_SIMD static void add_row(float *sum, const float *x, int64_t c) {
#pragma omp simd
    for (int64_t i = 0; i < c; i++) sum[i] += x[i];
}

/* A part has every N_PART-th row of the tables, so that frequent indices are spread, and adds in the order of the
 * indices. begin [N_PART + 1] says where its places stand in `place`. */
typedef struct parts {
    int32_t *begin, *place;
} parts;

int64_t dt_cpu_embed_bwd_bytes(const dt_cpu_node *d) {
    return (d->m + N_PART + 1) * (int64_t)sizeof(int32_t);
}

static bool learns(const dt_cpu_node *d, int32_t v) {
    return v >= 0 && v < d->rows && v != d->attr.embed.padding;
}

static parts sort_places(const dt_cpu_node *d) {
    const int32_t *index = d->b.in[1];
    const parts p = {.begin = d->b.workspace, .place = (int32_t *)d->b.workspace + N_PART + 1};
    int32_t next[N_PART] = {0}, sum = 0;
    for (int64_t r = 0; r < d->m; r++)
        if (learns(d, index[r])) next[row_of(d, index, r) % N_PART]++;
    for (int32_t k = 0; k < N_PART; k++) {
        const int32_t count = next[k];
        p.begin[k] = next[k] = sum;
        sum += count;
    }
    p.begin[N_PART] = sum;
    for (int64_t r = 0; r < d->m; r++)
        if (learns(d, index[r])) p.place[next[row_of(d, index, r) % N_PART]++] = (int32_t)r;
    return p;
}

static void back_part(const dt_cpu_node *d, const parts *p, int64_t part) {
    const float *dy = d->b.in[0];
    const int32_t *index = d->b.in[1];
    float *dw = d->b.out[0];
    for (int64_t v = part; v < d->rows * d->tables; v += N_PART)
        memset(dw + v * d->c, 0, (size_t)d->c * sizeof *dw);
    for (int32_t i = p->begin[part]; i < p->begin[part + 1]; i++)
        add_row(dw + row_of(d, index, p->place[i]) * d->c, dy + p->place[i] * d->c, d->c);
}

dt_status dt_cpu_embed_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const parts p = sort_places(d);
#pragma omp parallel for schedule(dynamic) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t k = 0; k < N_PART; k++) back_part(d, &p, k);
    return DT_OK;
}
