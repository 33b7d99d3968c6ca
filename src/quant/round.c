#include "quant/round.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/types.h"

/* Products of scales stay numbers. */
#define SCALE_LEAST 1e-30f

dt_quant_u8 dt_quant_u8_of(float low, float high) {
    const double width = (double)high - (double)low;
    if (!(width > 0)) return (dt_quant_u8){.scale = 1};
    const float scale = fmaxf((float)(width / 255), SCALE_LEAST);
    const float zero = nearbyintf(-low / scale);
    return (dt_quant_u8){.scale = scale, .zero = (uint8_t)fminf(fmaxf(zero, 0), 255)};
}

static int8_t i8_of(float x) {
    return (int8_t)fminf(fmaxf(nearbyintf(x), -127), 127);
}

void dt_quant_i8(int64_t outer, int64_t n_channel, int64_t inner, const float *w, const float *least,
                 int8_t *out, float *scale) {
    for (int64_t c = 0; c < n_channel; c++) {
        float most = 0;
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) most = fmaxf(most, fabsf(w[(o * n_channel + c) * inner + i]));
        scale[c] = most > 0 ? fmaxf(most / 127, SCALE_LEAST) : 1;
        if (least && most > 0) scale[c] = fmaxf(scale[c], least[c]);
        if (least && most == 0) scale[c] = fmaxf(least[c], 1);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) {
                const int64_t at = (o * n_channel + c) * inner + i;
                out[at] = i8_of(w[at] / scale[c]);
            }
    }
}

/* A quarter of what 32 bits hold; the rest is the sum's. */
#define BIAS_MOST 0x1p29

float dt_quant_least_scale(float bias, float input_scale) {
    return (float)(fabs((double)bias) / ((double)input_scale * BIAS_MOST));
}

void dt_quant_i32(int64_t n, const float *bias, const double *unit, int32_t *out) {
    for (int64_t i = 0; i < n; i++) {
        const double q = nearbyint((double)bias[i] / unit[i]);
        out[i] = q >= INT32_MAX ? INT32_MAX : q <= INT32_MIN ? INT32_MIN : (int32_t)q;
    }
}

/* ---- 4 bits ---- */

static uint8_t i4_of(float x, float scale) {
    return (uint8_t)fminf(fmaxf(nearbyintf(x / scale) + 8, 0), 15);
}

float dt_quant_i4(const float *x, uint8_t q[DT_QUANT_BLOCK]) {
    enum { TRIES = 17 };
    float furthest = 0, best = 0;
    double least = DBL_MAX;
    for (int i = 0; i < DT_QUANT_BLOCK; i++)
        if (fabsf(x[i]) > fabsf(furthest)) furthest = x[i];
    /* The number furthest from 0 lies near -8, or, where that is better for the others, short of it. */
    for (int t = 0; t < 2 * TRIES && furthest != 0; t++) {
        const float steps = (t < TRIES ? -9.0f : 6.0f) + 0.1875f * (float)(t % TRIES);
        const float scale = dt_f16_to_f32(dt_f32_to_f16(furthest / steps));
        if (scale == 0 || !isfinite(scale)) continue;
        double error = 0;
        for (int i = 0; i < DT_QUANT_BLOCK; i++) {
            const float d = ((float)i4_of(x[i], scale) - 8) * scale - x[i];
            error += (double)d * (double)d;
        }
        if (error < least) least = error, best = scale;
    }
    if (best == 0) { /* zeros, or too small for f16 */
        memset(q, 8, DT_QUANT_BLOCK);
        return 1;
    }
    for (int i = 0; i < DT_QUANT_BLOCK; i++) q[i] = i4_of(x[i], best);
    return best;
}

/* ---- compensation ---- */

/* h, made a little heavier on its diagonal, to the upper triangle u of its inverse's factors: h^-1 = u^T u. false: not
 * positive. */
static bool inverse_factor(int64_t k, double *h, double *u) {
    double trace = 0;
    for (int64_t i = 0; i < k; i++) trace += h[i * k + i];
    const double damp = 0.01 * trace / (double)k;
    for (int64_t i = 0; i < k; i++) h[i * k + i] += damp > 0 ? damp : 1;
    /* h = l l^T, in its lower triangle. */
    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = j; i < k; i++) {
            double s = h[i * k + j];
            for (int64_t m = 0; m < j; m++) s -= h[i * k + m] * h[j * k + m];
            if (i == j && !(s > 0)) return false;
            h[i * k + j] = i == j ? sqrt(s) : s / h[j * k + j];
        }
    }
    /* l^-1 in place, by columns; then h^-1 = l^-T l^-1 into u. */
    for (int64_t j = 0; j < k; j++) {
        h[j * k + j] = 1 / h[j * k + j];
        for (int64_t i = j + 1; i < k; i++) {
            double s = 0;
            for (int64_t m = j; m < i; m++) s -= h[i * k + m] * h[m * k + j];
            h[i * k + j] = s / h[i * k + i];
        }
    }
    memset(u, 0, (size_t)(k * k) * sizeof *u);
    for (int64_t m = 0; m < k; m++)
        for (int64_t i = 0; i <= m; i++)
            for (int64_t j = 0; j <= i; j++) u[i * k + j] += h[m * k + i] * h[m * k + j];
    /* u = c c^T with c lower; what is wanted is its transpose. */
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = j; i < k; i++) {
            double s = u[i * k + j];
            for (int64_t m = 0; m < j; m++) s -= u[i * k + m] * u[j * k + m];
            if (i == j && !(s > 0)) return false;
            u[i * k + j] = i == j ? sqrt(s) : s / u[j * k + j];
        }
    return true;
}

dt_status dt_quant_compensate(int64_t k, int64_t n, float *w, double *h, dt_quant_block_fn *block,
                              dt_quant_round_fn *round, void *arg) {
    double *u = malloc((size_t)(k * k) * sizeof *u + 1);
    float *was = malloc((size_t)n * sizeof *was + 1);
    if (!u || !was) {
        free(u), free(was);
        return dt_fail(DT_ERR_MEMORY, "no memory to round %lld x %lld numbers", (long long)k, (long long)n);
    }
    const bool usable = inverse_factor(k, h, u);
    for (int64_t i = 0; i < k; i++) {
        float *row = w + i * n;
        if (i % DT_QUANT_BLOCK == 0 && block) block(arg, i, row);
        memcpy(was, row, (size_t)n * sizeof *was);
        round(arg, i, row);
        for (int64_t j = i + 1; j < k && usable; j++) {
            const float part = (float)(u[j * k + i] / u[i * k + i]);
            if (part == 0) continue;
            float *to = w + j * n;
            for (int64_t c = 0; c < n; c++) to[c] -= (was[c] - row[c]) * part;
        }
    }
    free(u), free(was);
    return DT_OK;
}
