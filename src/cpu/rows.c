/* How a matrix [m, c] is cut into pieces of work, and the two-phase column reduction built on it. */
#include "kernels.h"

int64_t dt_cpu_group_rows(int64_t c) {
    return dt_max_i64(DT_CPU_WIDE / c, 1);
}

int64_t dt_cpu_chunk_rows(int64_t m, int64_t c) {
    int64_t rows = dt_round_up(dt_max_i64(DT_CPU_GRAIN / c, 1), dt_cpu_group_rows(c));
    return dt_min_i64(rows, m);
}

dt_cpu_split dt_cpu_split_reduce(int64_t m, int64_t c) {
    dt_cpu_split s;
    s.n_tile = (c + DT_CPU_TILE - 1) / DT_CPU_TILE;
    s.tile_cols = (c + s.n_tile - 1) / s.n_tile;
    int64_t rows = dt_max_i64(DT_CPU_GRAIN / s.tile_cols, (m + DT_CPU_MAX_CHUNKS - 1) / DT_CPU_MAX_CHUNKS);
    s.chunk_rows = dt_min_i64(dt_round_up(rows, dt_cpu_group_rows(c)), m);
    s.n_chunk = (m + s.chunk_rows - 1) / s.chunk_rows;
    return s;
}

dt_cpu_wide dt_cpu_wide_make(int64_t rows, int64_t c, int64_t cols) {
    dt_cpu_wide v = {.n_row = rows, .stride = c, .width = cols, .last_width = cols, .group = 1, .cols = cols};
    if (cols < c) return v;
    v.group = dt_cpu_group_rows(c);
    v.stride = v.width = v.group * c;
    v.n_row = (rows + v.group - 1) / v.group;
    v.last_width = rows * c - (v.n_row - 1) * v.width;
    return v;
}

const float *dt_cpu_widen(float *buf, const float *src, const dt_cpu_wide *v) {
    if (v->group == 1) return src;
    for (int64_t j = 0; j < v->group; j++)
        for (int64_t i = 0; i < v->cols; i++) buf[j * v->cols + i] = src[i];
    return buf;
}

double dt_cpu_fold(const float *wide, int64_t col, int64_t cols, int64_t group) {
    double sum = 0;
    for (int64_t j = 0; j < group; j++) sum += (double)wide[j * cols + col];
    return sum;
}

int64_t dt_cpu_reduce_bytes(int64_t m, int64_t c, int64_t n_sum) {
    return dt_cpu_split_reduce(m, c).n_chunk * n_sum * c * (int64_t)sizeof(double);
}

void dt_cpu_reduce_columns(const dt_cpu_node *d, int64_t n_sum, dt_cpu_piece_fn piece,
                           dt_cpu_combine_fn combine) {
    dt_cpu_split s = dt_cpu_split_reduce(d->m, d->c);
    double *partial = d->b.workspace;
    int64_t n_item = s.n_chunk * s.n_tile;
    enum { COMBINE_COLS = 64 };
#pragma omp parallel num_threads(d->threads) if (d->m * d->c > DT_CPU_GRAIN)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n_item; i++) {
            int64_t chunk = i / s.n_tile, col0 = i % s.n_tile * s.tile_cols, row0 = chunk * s.chunk_rows;
            int64_t cols = dt_min_i64(s.tile_cols, d->c - col0);
            if (cols > 0)
                piece(d, row0, dt_min_i64(s.chunk_rows, d->m - row0), col0, cols,
                      partial + chunk * n_sum * d->c + col0);
        }
#pragma omp for schedule(static)
        for (int64_t col0 = 0; col0 < d->c; col0 += COMBINE_COLS)
            combine(d, &s, partial, col0, dt_min_i64(COMBINE_COLS, d->c - col0));
    }
}
