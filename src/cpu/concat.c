/* CONCAT, SLICE and PAD: rows of bytes copied. */
#include <string.h>

#include "kernels.h"

enum { GRAIN_BYTES = 128 * 1024 };

/* `rows` stretches of `bytes`, the next one a pitch later. */
static void copy_rows(const dt_cpu_node *d, char *dst, int64_t dst_pitch, const char *src, int64_t src_pitch,
                      int64_t bytes) {
    const int64_t rows = d->blocks[0].rows;
    if (rows * bytes == 0) return;
    if (rows == 1) dst_pitch = src_pitch = bytes;
    if (dst_pitch == bytes && src_pitch == bytes) {
        const int64_t all = rows * bytes;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (all > GRAIN_BYTES)
        for (int64_t at = 0; at < all; at += GRAIN_BYTES)
            memcpy(dst + at, src + at, (size_t)dt_min_i64(GRAIN_BYTES, all - at));
        return;
    }
#pragma omp parallel for schedule(static) num_threads(d->threads) if (rows * bytes > GRAIN_BYTES)
    for (int64_t r = 0; r < rows; r++) memcpy(dst + r * dst_pitch, src + r * src_pitch, (size_t)bytes);
}

/* blocks: of every input, then of the output. */
dt_status dt_cpu_concat(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_blocks *y = &d->blocks[d->n_in];
    char *to = d->b.out[0];
    for (int32_t i = 0; i < d->n_in; i++) {
        copy_rows(d, to, y->bytes, d->b.in[i], d->blocks[i].bytes, d->blocks[i].bytes);
        to += d->blocks[i].bytes;
    }
    return DT_OK;
}

dt_status dt_cpu_slice(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_blocks *x = &d->blocks[0], *y = &d->blocks[1];
    copy_rows(d, d->b.out[0], y->bytes, (const char *)d->b.in[0] + x->begin, x->bytes, y->bytes);
    return DT_OK;
}

dt_status dt_cpu_pad(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_blocks *x = &d->blocks[0], *y = &d->blocks[1];
    memset(d->b.out[0], 0, (size_t)(y->rows * y->bytes));
    copy_rows(d, (char *)d->b.out[0] + y->begin, y->bytes, d->b.in[0], x->bytes, x->bytes);
    return DT_OK;
}
