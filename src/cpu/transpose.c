/* TRANSPOSE: values of any size moved to another order. */
#include <string.h>

#include "kernels.h"

enum { TILE = 32 };

/* rows x cols values of `item` bytes: out [rows][cols], element (r, c) of src at r * step_r + c * step_c. */
#define TILE_OF(bits)                                                                                        \
    static void tile_##bits(uint##bits##_t *out, int64_t pitch, const uint##bits##_t *src, int64_t step_r,   \
                            int64_t step_c, int64_t rows, int64_t cols) {                                    \
        for (int64_t r = 0; r < rows; r++)                                                                   \
            for (int64_t c = 0; c < cols; c++) out[r * pitch + c] = src[r * step_r + c * step_c];            \
    }
TILE_OF(8)
TILE_OF(16)
TILE_OF(32)
TILE_OF(64)
#undef TILE_OF

static void move_tile(int64_t item, void *out, int64_t pitch, const void *src, int64_t step_r, int64_t step_c,
                      int64_t rows, int64_t cols) {
    if (item == 1) tile_8(out, pitch, src, step_r, step_c, rows, cols);
    if (item == 2) tile_16(out, pitch, src, step_r, step_c, rows, cols);
    if (item == 4) tile_32(out, pitch, src, step_r, step_c, rows, cols);
    if (item == 8) tile_64(out, pitch, src, step_r, step_c, rows, cols);
}

static void move_tiles(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    const dt_space *s = &d->space;
    const int64_t item = (int64_t)dt_dtype_size(d->from);
    const int64_t cols = s->dim[s->n - 1], rows = s->n > 1 ? s->dim[s->n - 2] : 1;
    const int64_t step_c = s->stride[DT_SPACE_A][s->n - 1],
                  step_r = s->n > 1 ? s->stride[DT_SPACE_A][s->n - 2] : 0;
    const int64_t across = dt_ceil_div(cols, TILE), down = dt_ceil_div(rows, TILE);
    char *out = d->b.out[0];
    const char *in = d->b.in[0];
    for (int64_t i = from; i < to; i++) {
        const int64_t c = i % across * TILE, r = i / across % down * TILE,
                      at = i / across / down * rows * cols;
        int64_t off[DT_SPACE_OPERANDS];
        dt_space_offsets(s, at + r * cols + c, off);
        move_tile(item, out + (at + r * cols + c) * item, cols, in + off[DT_SPACE_A] * item, step_r, step_c,
                  dt_min_i64(TILE, rows - r), dt_min_i64(TILE, cols - c));
    }
}

/* The space is that of the result; its last two dimensions are walked in tiles, so that a cache line of the
 * source is used while it is there. */
dt_status dt_cpu_transpose(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_space *s = &d->space;
    const int64_t cols = s->dim[s->n - 1], rows = s->n > 1 ? s->dim[s->n - 2] : 1;
    if (d->n_elem == 0) return DT_OK;
    const int64_t n_tile = d->n_elem / (rows * cols) * dt_ceil_div(cols, TILE) * dt_ceil_div(rows, TILE);
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), n_tile, move_tiles, d);
    return DT_OK;
}
