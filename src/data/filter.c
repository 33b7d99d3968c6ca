/* Antialiased bilinear resizing in two passes in fp32: columns first, for the source rows needed, then
 * rows. */
#include "filter.h"

#include <math.h>
#include <stdlib.h>

/* Output o is the sum over its taps of weight[o * n_taps + k] * source[first[o] + k]. */
typedef struct taps {
    int32_t *first;
    float *weight;
    int32_t n_taps;
} taps;

static void free_taps(taps *t) {
    free(t->first);
    free(t->weight);
}

static dt_status make_taps(const dt_resize_axis *axis, int64_t out, taps *t) {
    double width = fmax(axis->step, 1);
    int32_t size = axis->hi - axis->lo + 1;
    t->n_taps = (int32_t)fmin(2 * ceil(width) + 1, size);
    t->first = calloc((size_t)out, sizeof *t->first);
    t->weight = calloc((size_t)out * (size_t)t->n_taps, sizeof *t->weight);
    if (!t->first || !t->weight) return dt_fail(DT_ERR_MEMORY, "out of memory for a resizing filter");
    for (int64_t o = 0; o < out; o++) {
        double centre = axis->origin + ((double)o + 0.5) * axis->step, sum = 0;
        int64_t first = (int64_t)floor(centre - width + 0.5);
        first = dt_max_i64(axis->lo, dt_min_i64(first, axis->hi + 1 - t->n_taps));
        float *weight = t->weight + o * t->n_taps;
        for (int32_t k = 0; k < t->n_taps; k++) {
            double w = fmax(0, 1 - fabs(((double)(first + k) + 0.5 - centre) / width));
            weight[k] = (float)w;
            sum += w;
        }
        for (int32_t k = 0; k < t->n_taps; k++) weight[k] = (float)(weight[k] / sum);
        t->first[o] = (int32_t)first;
    }
    return DT_OK;
}

static void filter_columns(const uint8_t *row, int64_t channels, const taps *t, int64_t out_w, float *dst) {
    for (int64_t o = 0; o < out_w; o++)
        for (int64_t c = 0; c < channels; c++) {
            const uint8_t *from = row + t->first[o] * channels + c;
            const float *weight = t->weight + o * t->n_taps;
            float sum = 0;
            for (int32_t k = 0; k < t->n_taps; k++) sum += weight[k] * (float)from[k * channels];
            dst[o * channels + c] = sum;
        }
}

dt_status dt_filter_resize(const uint8_t *src, int64_t stride, int64_t channels, dt_resize_axis x,
                           dt_resize_axis y, int64_t out_h, int64_t out_w, uint8_t *dst) {
    taps tx = {0}, ty = {0};
    int64_t n = out_w * channels, n_rows = y.hi - y.lo + 1;
    float *rows = malloc((size_t)(n_rows * n) * sizeof *rows), *sum = malloc((size_t)n * sizeof *sum);
    dt_status status = DT_OK;
    if (!rows || !sum) {
        status = dt_fail(DT_ERR_MEMORY, "out of memory for resizing");
        goto done;
    }
    DT_TRY_GOTO(status, make_taps(&x, out_w, &tx), done);
    DT_TRY_GOTO(status, make_taps(&y, out_h, &ty), done);
    for (int64_t r = 0; r < n_rows; r++)
        filter_columns(src + (y.lo + r) * stride, channels, &tx, out_w, rows + r * n);
    for (int64_t o = 0; o < out_h; o++) {
        for (int64_t i = 0; i < n; i++) sum[i] = 0.5f;
        for (int32_t k = 0; k < ty.n_taps; k++) {
            const float *from = rows + (ty.first[o] - y.lo + k) * n;
            float w = ty.weight[o * ty.n_taps + k];
            for (int64_t i = 0; i < n; i++) sum[i] += w * from[i];
        }
        for (int64_t i = 0; i < n; i++) dst[o * n + i] = (uint8_t)fminf(sum[i], 255);
    }
done:
    free_taps(&tx);
    free_taps(&ty);
    free(rows);
    free(sum);
    return status;
}
