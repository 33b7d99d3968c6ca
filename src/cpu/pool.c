/* Max, average and global average pooling and their gradients. The gradients gather: each input element
 * collects from the windows that cover it, so every element is written once and in a fixed order. */
#include "kernels.h"

#include <math.h>
#include <string.h>

enum { TILE = 64, LANES = 16 }; /* channels at a time; max pooling keeps LANES of them in registers */

/* Rows of one side that are pooled together: window `o` covers input [first, last). */
typedef struct span {
    int64_t first, last;
} span;

/* Input positions of window o that lie inside [0, size). */
DT_CPU_INLINE span window(int64_t o, int64_t stride, int64_t pad, int64_t kernel, int64_t size) {
    int64_t begin = o * stride - pad;
    return (span){dt_max_i64(begin, 0), dt_min_i64(begin + kernel, size)};
}

/* Windows that cover input position i. */
DT_CPU_INLINE span covering(int64_t i, int64_t stride, int64_t pad, int64_t kernel, int64_t n_out) {
    int64_t low = i + pad - kernel + 1;
    return (span){low <= 0 ? 0 : (low + stride - 1) / stride, dt_min_i64((i + pad) / stride + 1, n_out)};
}

/* Takes one more element of a window for n <= LANES channels; the first maximum wins, NaN over all, as in
 * PyTorch. scale NULL: no prologue. */
DT_CPU_INLINE void max_step(const float *x, const float *scale, const float *shift, int64_t n,
                            int32_t position, float *best, int32_t *best_at) {
    float v[LANES];
    if (scale) { /* the arithmetic of BN_APPLY */
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float t = x[i] * scale[i] + shift[i];
            v[i] = t < 0 ? 0 : t;
        }
        x = v;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        bool take = x[i] > best[i] || x[i] != x[i];
        best[i] = take ? x[i] : best[i];
        best_at[i] = take ? position : best_at[i];
    }
}

/* One output pixel of n <= LANES channels from c on; h0, w0: the window's corner, which may lie outside the
 * image. */
DT_CPU_INLINE void max_pixel(const dt_cpu_node *d, const float *x, span rows, span cols, int64_t h0,
                             int64_t w0, int64_t c, int64_t n, float *y, uint8_t *idx) {
    const float *scale = d->b.in[DT_MAXPOOL_IN_PRE_SCALE], *shift = d->b.in[DT_MAXPOOL_IN_PRE_SHIFT];
    if (scale) scale += c, shift += c;
    int32_t kernel_w = d->attr.window.kernel[1], at[LANES];
    int32_t first = (int32_t)((rows.first - h0) * kernel_w + cols.first - w0);
    for (int64_t i = 0; i < n; i++) y[i] = -INFINITY, at[i] = first;
    for (int64_t h = rows.first; h < rows.last; h++)
        for (int64_t w = cols.first; w < cols.last; w++)
            max_step(x + (h * d->w + w) * d->c, scale, shift, n, (int32_t)((h - h0) * kernel_w + w - w0), y,
                     at);
    for (int64_t i = 0; i < n; i++) idx[i] = (uint8_t)at[i];
}

DT_CPU_SIMD static void maxpool_row(const dt_cpu_node *d, int64_t image, int64_t p) {
    const float *x = (const float *)d->b.in[0] + image * d->h * d->w * d->c;
    int64_t out = (image * d->p + p) * d->q * d->c;
    float *y = (float *)d->b.out[0] + out;
    uint8_t *idx = (uint8_t *)d->b.out[1] + out;
    const dt_window_attr *k = &d->attr.window;
    int64_t h0 = p * k->stride[0] - k->pad_begin[0];
    span rows = window(p, k->stride[0], k->pad_begin[0], k->kernel[0], d->h);
    for (int64_t q = 0; q < d->q; q++, y += d->c, idx += d->c) {
        int64_t w0 = q * k->stride[1] - k->pad_begin[1], c = 0;
        span cols = window(q, k->stride[1], k->pad_begin[1], k->kernel[1], d->w);
        for (; c + LANES <= d->c; c += LANES)
            max_pixel(d, x + c, rows, cols, h0, w0, c, LANES, y + c, idx + c);
        if (c < d->c) max_pixel(d, x + c, rows, cols, h0, w0, c, d->c - c, y + c, idx + c);
    }
}

static void maxpool_rows(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    for (int64_t i = from; i < to; i++) maxpool_row(d, i / d->p, i % d->p);
}

dt_status dt_cpu_maxpool(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), d->n * d->p, maxpool_rows, d);
    return DT_OK;
}

DT_CPU_INLINE void max_collect(float *dx, const float *dy, const uint8_t *idx, int64_t n, uint8_t at) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] += idx[i] == at ? dy[i] : 0;
}

/* dx += what the windows of rows ps that cover column w give to channels [c0, c0 + n) of pixel (h, w). */
DT_CPU_INLINE void gather_pixel(const dt_cpu_node *d, const float *dyp, const float *dyp2, const uint8_t *idx,
                                int64_t image, span ps, int64_t h, int64_t w, int64_t c0, int64_t n,
                                float *dx) {
    const dt_window_attr *k = &d->attr.window;
    const span qs = covering(w, k->stride[1], k->pad_begin[1], k->kernel[1], d->q);
    for (int64_t p = ps.first; p < ps.last; p++)
        for (int64_t q = qs.first; q < qs.last; q++) {
            int64_t r = h + k->pad_begin[0] - p * k->stride[0], s = w + k->pad_begin[1] - q * k->stride[1];
            int64_t from = ((image * d->p + p) * d->q + q) * d->c + c0;
            uint8_t at = (uint8_t)(r * k->kernel[1] + s);
            max_collect(dx, dyp + from, idx + from, n, at);
            if (dyp2) max_collect(dx, dyp2 + from, idx + from, n, at);
        }
}

DT_CPU_SIMD void dt_cpu_maxpool_gather(const dt_cpu_node *d, const float *dyp, const float *dyp2,
                                       const uint8_t *idx, int64_t pixel, int64_t c0, int64_t n, float *dx) {
    const dt_window_attr *k = &d->attr.window;
    const int64_t image = pixel / (d->h * d->w), h = pixel / d->w % d->h, w = pixel % d->w;
    const span ps = covering(h, k->stride[0], k->pad_begin[0], k->kernel[0], d->p);
    gather_pixel(d, dyp, dyp2, idx, image, ps, h, w, c0, n, dx);
}

DT_CPU_SIMD static void maxpool_bwd_row(const dt_cpu_node *d, int64_t image, int64_t h) {
    float *dx = (float *)d->b.out[0] + (image * d->h + h) * d->w * d->c;
    const dt_window_attr *k = &d->attr.window;
    span ps = covering(h, k->stride[0], k->pad_begin[0], k->kernel[0], d->p);
    memset(dx, 0, (size_t)(d->w * d->c) * sizeof *dx);
    for (int64_t w = 0; w < d->w; w++)
        gather_pixel(d, d->b.in[0], NULL, d->b.in[1], image, ps, h, w, 0, d->c, dx + w * d->c);
}

dt_status dt_cpu_maxpool_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t h = 0; h < d->h; h++) maxpool_bwd_row(d, n, h);
    return DT_OK;
}

DT_CPU_INLINE void add_scaled(float *y, const float *x, float scale, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += x[i] * scale;
}

DT_CPU_INLINE float window_scale(const dt_window_attr *k) {
    return 1.0f / (float)(k->kernel[0] * k->kernel[1]);
}

DT_CPU_SIMD static void avgpool_row(const dt_cpu_node *d, int64_t image, int64_t p) {
    const float *x = (const float *)d->b.in[0] + image * d->h * d->w * d->c;
    float *y = (float *)d->b.out[0] + (image * d->p + p) * d->q * d->c;
    const dt_window_attr *k = &d->attr.window;
    span rows = window(p, k->stride[0], k->pad_begin[0], k->kernel[0], d->h);
    memset(y, 0, (size_t)(d->q * d->c) * sizeof *y);
    for (int64_t q = 0; q < d->q; q++) {
        span cols = window(q, k->stride[1], k->pad_begin[1], k->kernel[1], d->w);
        for (int64_t h = rows.first; h < rows.last; h++)
            for (int64_t w = cols.first; w < cols.last; w++)
                add_scaled(y + q * d->c, x + (h * d->w + w) * d->c, window_scale(k), d->c);
    }
}

static void avgpool_rows(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    for (int64_t i = from; i < to; i++) avgpool_row(d, i / d->p, i % d->p);
}

dt_status dt_cpu_avgpool(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), d->n * d->p, avgpool_rows, d);
    return DT_OK;
}

DT_CPU_SIMD static void avgpool_bwd_row(const dt_cpu_node *d, int64_t image, int64_t h) {
    const float *dy = (const float *)d->b.in[0] + image * d->p * d->q * d->c;
    float *dx = (float *)d->b.out[0] + (image * d->h + h) * d->w * d->c;
    const dt_window_attr *k = &d->attr.window;
    span ps = covering(h, k->stride[0], k->pad_begin[0], k->kernel[0], d->p);
    memset(dx, 0, (size_t)(d->w * d->c) * sizeof *dx);
    for (int64_t w = 0; w < d->w; w++) {
        span qs = covering(w, k->stride[1], k->pad_begin[1], k->kernel[1], d->q);
        for (int64_t p = ps.first; p < ps.last; p++)
            for (int64_t q = qs.first; q < qs.last; q++)
                add_scaled(dx + w * d->c, dy + (p * d->q + q) * d->c, window_scale(k), d->c);
    }
}

dt_status dt_cpu_avgpool_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t h = 0; h < d->h; h++) avgpool_bwd_row(d, n, h);
    return DT_OK;
}

DT_CPU_SIMD static void add_double(double *sum, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += (double)x[i];
}

/* Tiles of channels, of all images in turn. */
static void mean_tiles(const void *arg, int64_t from, int64_t to) {
    const dt_cpu_node *d = arg;
    const int64_t area = d->h * d->w, tiles = dt_ceil_div(d->c, TILE);
    for (int64_t t = from; t < to; t++) {
        const int64_t n = t / tiles, c0 = t % tiles * TILE, cols = dt_min_i64(TILE, d->c - c0);
        const float *x = (const float *)d->b.in[0] + n * area * d->c + c0;
        float *y = (float *)d->b.out[0] + n * d->c + c0;
        double sum[TILE] = {0};
        for (int64_t i = 0; i < area; i++) add_double(sum, x + i * d->c, cols);
        for (int64_t i = 0; i < cols; i++) y[i] = (float)(sum[i] / (double)area);
    }
}

dt_status dt_cpu_global_avgpool(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    dt_cpu_share_range(dt_cpu_crew_of(d, d->n_elem > DT_CPU_GRAIN), d->n * dt_ceil_div(d->c, TILE),
                       mean_tiles, d);
    return DT_OK;
}

DT_CPU_SIMD static void set_scaled(float *y, const float *x, float scale, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale;
}

dt_status dt_cpu_global_avgpool_bwd(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    int64_t area = d->h * d->w;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t i = 0; i < area; i++)
            set_scaled((float *)d->b.out[0] + (n * area + i) * d->c, (const float *)d->b.in[0] + n * d->c,
                       1.0f / (float)area, d->c);
    return DT_OK;
}
