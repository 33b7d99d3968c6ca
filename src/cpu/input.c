/* The INPUT op: bytes to normalised fp32, channels padded; with aug also window, resize and flip; with mix rows erased
 * and mixed, a stretch of a row at a time. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "core/mix.h"

enum { STRETCH = 32 /* pixels */ };

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

/* Columns [begin, end) of an output row to x: resized and flipped, rounded to bytes as the loader does, then
 * normalised. */
static void crop_row(const dt_cpu_node *d, int64_t n, int64_t row, int64_t begin, int64_t end,
                     const normal_table *t, float *x) {
    const int32_t *aug = (const int32_t *)d->b.in[1] + n * 8;
    const uint8_t *image = (const uint8_t *)d->b.in[0] + n * d->p * d->q * d->k;
    tap v = tap_make(row, d->h, aug[3]);
    const uint8_t *low = image + (aug[1] + v.low) * d->q * d->k;
    const uint8_t *high = image + (aug[1] + v.high) * d->q * d->k;
    for (int64_t o = begin; o < end; o++, x += d->c) {
        tap u = tap_make(aug[4] ? d->w - 1 - o : o, d->w, aug[2]);
        int64_t left = (aug[0] + u.low) * d->k, right = (aug[0] + u.high) * d->k;
        uint8_t pixel[4];
        for (int64_t k = 0; k < d->k; k++) {
            float above = (float)low[left + k] + u.weight * (float)(low[right + k] - low[left + k]);
            float below = (float)high[left + k] + u.weight * (float)(high[right + k] - high[left + k]);
            pixel[k] = (uint8_t)floorf(above + v.weight * (below - above) + 0.5f);
        }
        normalise_pixels(x, pixel, 1, d, t);
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

static void plain_row(const dt_cpu_node *d, int64_t n, int64_t row, int64_t begin, int64_t end,
                      const normal_table *t, float *x) {
    if (d->b.in[DT_INPUT_AUG]) {
        crop_row(d, n, row, begin, end, t, x);
        return;
    }
    const uint8_t *image = (const uint8_t *)d->b.in[0] + ((n * d->h + row) * d->w + begin) * d->k;
    normalise_pixels(x, image, end - begin, d, t);
}

static dt_mix mix_of(const dt_cpu_node *d, int64_t n) {
    dt_mix m;
    memcpy(&m, (const int32_t *)d->b.in[DT_INPUT_MIX] + n * DT_MIX_INTS, sizeof m);
    return m;
}

/* The same, with its rectangle erased. */
static void erased_row(const dt_cpu_node *d, int64_t n, const dt_mix *m, int64_t row, int64_t begin,
                       int64_t end, const normal_table *t, float *x) {
    plain_row(d, n, row, begin, end, t, x);
    if (row < m->erase.y0 || row >= m->erase.y1) return;
    const int64_t from = dt_max_i64(begin, m->erase.x0), to = dt_min_i64(end, m->erase.x1);
    for (int64_t o = from; o < to; o++)
        for (int64_t k = 0; k < d->k; k++)
            x[(o - begin) * d->c + k] = m->noise ? dt_mix_noise(m->key, row, o, (int32_t)k) : 0;
}

/* And mixed with the partner's. */
static void mixed_row(const dt_cpu_node *d, int64_t n, int64_t row, const normal_table *t, float *x) {
    float partner[STRETCH * DT_MIX_CHANNELS];
    const dt_mix m = mix_of(d, n), theirs = mix_of(d, m.partner);
    const bool cut = row >= m.box.y0 && row < m.box.y1 && m.box.x1 > m.box.x0;
    if (m.share == 1.0f && !cut) {
        erased_row(d, n, &m, row, 0, d->w, t, x);
        return;
    }
    for (int64_t begin = 0; begin < d->w; begin += STRETCH) {
        const int64_t end = dt_min_i64(begin + STRETCH, d->w);
        float *own = x + begin * d->c;
        erased_row(d, n, &m, row, begin, end, t, own);
        erased_row(d, m.partner, &theirs, row, begin, end, t, partner);
        for (int64_t o = begin; o < end; o++) {
            const float share = dt_box_holds(&m.box, row, o) ? 0.0f : m.share;
            float *a = own + (o - begin) * d->c;
            const float *b = partner + (o - begin) * d->c;
            for (int64_t k = 0; k < d->k; k++) a[k] = share * a[k] + (1.0f - share) * b[k];
        }
    }
}

static dt_status check_partners(const dt_cpu_node *d) {
    for (int64_t n = 0; n < d->n; n++) {
        const dt_mix m = mix_of(d, n);
        if (m.partner < 0 || m.partner >= d->n || !(m.share >= 0 && m.share <= 1))
            return dt_fail(DT_ERR_DATA, "row %lld of %lld is to be mixed with row %d by a share of %g",
                           (long long)n, (long long)d->n, m.partner, (double)m.share);
    }
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
    if (d->b.in[DT_INPUT_MIX]) DT_TRY(check_partners(d));
    float *x = d->b.out[0];
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t row = 0; row < d->h; row++) {
            float *to = x + (n * d->h + row) * d->w * d->c;
            if (d->b.in[DT_INPUT_MIX])
                mixed_row(d, n, row, &t, to);
            else
                plain_row(d, n, row, 0, d->w, &t, to);
        }
    return DT_OK;
}
