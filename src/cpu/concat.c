/* CONCAT, SLICE and PAD: rows of bytes copied. */
#include <string.h>

#include "kernels.h"

enum { GRAIN_BYTES = 128 * 1024, LINE_BYTES = 256 };

/* `rows` stretches of `bytes`, the next one a pitch later; one stretch of all: in pieces. */
typedef struct copy {
    char *dst;
    const char *src;
    int64_t dst_pitch, src_pitch, bytes;
} copy;

static void copy_pieces(const void *arg, int64_t from, int64_t to) {
    const copy *c = arg;
    const int64_t at = from * LINE_BYTES, end = dt_min_i64(to * LINE_BYTES, c->bytes);
    memcpy(c->dst + at, c->src + at, (size_t)(end - at));
}

static void copy_stretches(const void *arg, int64_t from, int64_t to) {
    const copy *c = arg;
    for (int64_t r = from; r < to; r++)
        memcpy(c->dst + r * c->dst_pitch, c->src + r * c->src_pitch, (size_t)c->bytes);
}

static void copy_rows(const dt_cpu_node *d, char *dst, int64_t dst_pitch, const char *src, int64_t src_pitch,
                      int64_t bytes) {
    const int64_t rows = d->blocks[0].rows;
    if (rows * bytes == 0) return;
    const dt_cpu_crew crew = dt_cpu_crew_of(d, rows * bytes > GRAIN_BYTES);
    if (rows == 1) dst_pitch = src_pitch = bytes;
    if (dst_pitch == bytes && src_pitch == bytes) {
        const copy c = {.dst = dst, .src = src, .bytes = rows * bytes};
        dt_cpu_share_range(crew, dt_ceil_div(c.bytes, LINE_BYTES), copy_pieces, &c);
        return;
    }
    const copy c = {dst, src, dst_pitch, src_pitch, bytes};
    dt_cpu_share_range(crew, rows, copy_stretches, &c);
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
