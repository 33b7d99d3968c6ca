/* The INPUT op: bytes to normalised fp32, channels padded; with aug also window, resize and flip. */
#include "kernels.h"

#include <math.h>

typedef struct normal_table {
    float of[4][256]; /* channel, byte value */
} normal_table;

DT_CPU_INLINE void normalise(float *x, const uint8_t *image, int64_t n_pixel, int64_t src_c, int64_t c,
                             const normal_table *t) {
    for (int64_t i = 0; i < n_pixel; i++) {
        for (int64_t k = 0; k < src_c; k++) x[i * c + k] = t->of[k][image[i * src_c + k]];
        for (int64_t k = src_c; k < c; k++) x[i * c + k] = 0;
    }
}

static void normalise_pixels(float *x, const uint8_t *image, int64_t n_pixel, const dt_cpu_node *d,
                             const normal_table *t) {
    if (d->k == 1 && d->c == 1)
        normalise(x, image, n_pixel, 1, 1, t);
    else if (d->k == 3 && d->c == 3)
        normalise(x, image, n_pixel, 3, 3, t);
    else
        normalise(x, image, n_pixel, d->k, d->c, t);
}

/* Where output position o of `size` falls between two source positions of a window of `len`: low, high,
 * weight of high. Half-pixel centres, clamped to the window. */
typedef struct tap {
    int64_t low, high;
    float weight;
} tap;

static tap tap_make(int64_t o, int64_t size, int64_t len) {
    float at = ((float)o + 0.5f) * ((float)len / (float)size) - 0.5f;
    at = at < 0 ? 0 : at;
    int64_t low = dt_min_i64((int64_t)at, len - 1);
    return (tap){low, dt_min_i64(low + 1, len - 1), at - (float)low};
}

/* One output row: resized and flipped, rounded to bytes as the loader does, then normalised. */
static void crop_row(const dt_cpu_node *d, int64_t n, int64_t row, const normal_table *t) {
    const int32_t *aug = (const int32_t *)d->b.in[1] + n * 8;
    const uint8_t *image = (const uint8_t *)d->b.in[0] + n * d->p * d->q * d->k;
    float *x = (float *)d->b.out[0] + (n * d->h + row) * d->w * d->c;
    tap v = tap_make(row, d->h, aug[3]);
    const uint8_t *low = image + (aug[1] + v.low) * d->q * d->k;
    const uint8_t *high = image + (aug[1] + v.high) * d->q * d->k;
    for (int64_t o = 0; o < d->w; o++) {
        tap u = tap_make(aug[4] ? d->w - 1 - o : o, d->w, aug[2]);
        int64_t left = (aug[0] + u.low) * d->k, right = (aug[0] + u.high) * d->k;
        uint8_t pixel[4];
        for (int64_t k = 0; k < d->k; k++) {
            float above = (float)low[left + k] + u.weight * (float)(low[right + k] - low[left + k]);
            float below = (float)high[left + k] + u.weight * (float)(high[right + k] - high[left + k]);
            pixel[k] = (uint8_t)floorf(above + v.weight * (below - above) + 0.5f);
        }
        normalise_pixels(x + o * d->c, pixel, 1, d, t);
    }
}

static dt_status check_windows(const dt_cpu_node *d) {
    const int32_t *aug = d->b.in[1];
    for (int64_t n = 0; n < d->n; n++, aug += 8)
        if (aug[0] < 0 || aug[1] < 0 || aug[2] < 1 || aug[3] < 1 || (int64_t)aug[0] + aug[2] > d->q ||
            (int64_t)aug[1] + aug[3] > d->p)
            return dt_fail(DT_ERR_DATA, "crop window %d,%d %dx%d of sample %lld leaves the %lldx%lld image",
                           aug[0], aug[1], aug[2], aug[3], (long long)n, (long long)d->q, (long long)d->p);
    return DT_OK;
}

dt_status dt_cpu_input(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    normal_table t;
    for (int64_t k = 0; k < d->k; k++)
        for (int v = 0; v < 256; v++)
            t.of[k][v] = ((float)v / 255.0f - d->attr.input.mean[k]) / d->attr.input.stddev[k];
    if (d->b.in[DT_INPUT_AUG]) DT_TRY(check_windows(d));
    const uint8_t *image = d->b.in[0];
    float *x = d->b.out[0];
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t row = 0; row < d->h; row++) {
            int64_t pixel = (n * d->h + row) * d->w;
            if (d->b.in[DT_INPUT_AUG])
                crop_row(d, n, row, &t);
            else
                normalise_pixels(x + pixel * d->c, image + pixel * d->k, d->w, d, &t);
        }
    return DT_OK;
}
