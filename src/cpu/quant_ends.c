/* How sums in 32 bits become results, and f32 becomes numbers of 8 bits and back. The operations and their order are those
 * written here, whatever they are compiled for. */
#include <math.h>
#include <string.h>

#include "quant.h"

enum { WIDE = DT_CPU_Q_WIDE * DT_CPU_Q_UNIT };

/* Added to |v| < 2^22 it leaves the nearest whole number, half to even, in the low bits. */
#define ROUND 12582912.0f

/* v, in units of the result and without its zero point, as u8. */
DT_CPU_INLINE int32_t rounded(float v, float least, float most) {
    v = v > least ? v : least;
    v = v < most ? v : most;
    v += ROUND;
    int32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits - 0x4B400000;
}

/* One row: sums + base, times scale, plus shift. */
DT_CPU_SIMD static void scaled(int64_t n, const int32_t *acc, const int32_t *base, const float *scale,
                               const float *shift, float *v) {
    for (int64_t k = 0; k < n; k++) {
        const int32_t sum = (int32_t)((uint32_t)acc[k] + (uint32_t)base[k]);
        v[k] = (float)sum * scale[k] + shift[k];
    }
}

/* The same where the row has its own scale and zero point. */
DT_CPU_SIMD static void scaled_own(int64_t n, const int32_t *acc, const int32_t *sum, const float *scale,
                                   const float *shift, float own, int32_t zero, float *v) {
    for (int64_t k = 0; k < n; k++) {
        const int32_t moved = (int32_t)((uint32_t)acc[k] - (uint32_t)zero * (uint32_t)sum[k]);
        v[k] = (float)moved * (own * scale[k]) + shift[k];
    }
}

/* v as it comes back from 8 bits, times scale. */
DT_CPU_SIMD static void through(int64_t n, float *v, int32_t zero, float scale) {
    const float least = (float)-zero, most = (float)(255 - zero);
    for (int64_t k = 0; k < n; k++) v[k] = (float)rounded(v[k], least, most) * scale;
}

DT_CPU_SIMD static void add_u8(int64_t n, float *v, const uint8_t *res, int32_t zero, float scale) {
    for (int64_t k = 0; k < n; k++) v[k] += (float)((int32_t)res[k] - zero) * scale;
}

DT_CPU_SIMD static void add_f32(int64_t n, float *v, const float *res, float scale) {
    for (int64_t k = 0; k < n; k++) v[k] += res[k] * scale;
}

DT_CPU_SIMD static void to_u8(int64_t n, const float *v, int32_t zero, bool relu, uint8_t *y) {
    const float least = relu ? 0.0f : (float)-zero, most = (float)(255 - zero);
    for (int64_t k = 0; k < n; k++) y[k] = (uint8_t)(rounded(v[k], least, most) + zero);
}

DT_CPU_SIMD static void to_f32(int64_t n, const float *v, bool relu, float *y) {
    if (!relu)
        memcpy(y, v, (size_t)n * sizeof *y);
    else
        for (int64_t k = 0; k < n; k++) y[k] = v[k] > 0 ? v[k] : 0;
}

/* All of it at once, for the most frequent end. */
DT_CPU_SIMD static void scaled_to_u8(int64_t n, const int32_t *acc, const int32_t *base, const float *scale,
                                     const float *shift, int32_t zero, bool relu, uint8_t *y) {
    const float least = relu ? 0.0f : (float)-zero, most = (float)(255 - zero);
    for (int64_t k = 0; k < n; k++) {
        const int32_t sum = (int32_t)((uint32_t)acc[k] + (uint32_t)base[k]);
        y[k] = (uint8_t)(rounded((float)sum * scale[k] + shift[k], least, most) + zero);
    }
}

void dt_cpu_qproduct_end(const dt_cpu_qplan *p, const dt_binding *b, const int32_t *acc, int64_t ld,
                         int64_t row, int64_t rows, int64_t k0, int64_t n) {
    const dt_qproduct *q = p->q;
    const float *each = b->in[DT_QPRODUCT_IN_X_SCALE];
    const void *res = b->in[DT_QPRODUCT_IN_RES];
    const int32_t *base = p->base + k0;
    const float *scale = p->scale + k0, *shift = p->shift + k0;
    const bool small = q->y_type == DT_DTYPE_U8, relu = q->act != 0;
    const float unit = small ? q->y.scale : 1;
    for (int64_t r = 0; r < rows; r++, acc += ld) {
        const int64_t at = (row + r) * q->k + k0;
        float v[WIDE];
        if (q->y_type == DT_DTYPE_I32) {
            int32_t *y = (int32_t *)b->out[0] + at;
            for (int64_t k = 0; k < n; k++) y[k] = (int32_t)((uint32_t)acc[k] + (uint32_t)base[k]);
            continue;
        }
        if (small && !res && !each) {
            scaled_to_u8(n, acc, base, scale, shift, q->y.zero, relu, (uint8_t *)b->out[0] + at);
            continue;
        }
        if (each) {
            const float *s = each + (row + r) / p->rows_each * 2;
            scaled_own(n, acc, p->sum + k0, scale, shift, s[0], (int32_t)s[1], v);
        } else {
            scaled(n, acc, base, scale, shift, v);
        }
        if (q->has_mid) through(n, v, q->mid.zero, q->mid.scale / unit);
        if (res && p->res == DT_DTYPE_U8)
            add_u8(n, v, (const uint8_t *)res + at, q->res.zero, q->res.scale / unit);
        else if (res)
            add_f32(n, v, (const float *)res + at, 1 / unit);
        if (small)
            to_u8(n, v, q->y.zero, relu, (uint8_t *)b->out[0] + at);
        else
            to_f32(n, v, relu, (float *)b->out[0] + at);
    }
}

/* ---- QUANTIZE, DEQUANTIZE ---- */

/* Of i8 low is -128. */
DT_CPU_SIMD static void quantize(int64_t n, const float *x, float scale, int32_t zero, int32_t low,
                                 uint8_t *y) {
    const float least = (float)(low - zero), most = (float)(low + 255 - zero);
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] / scale;
        v = v == v ? v : least; /* what is no number */
        y[i] = (uint8_t)(rounded(v, least, most) + zero);
    }
}

DT_CPU_SIMD static void range_of(int64_t n, const float *x, float *low, float *high) {
    enum { N = 16 };
    float a[N] = {0}, b[N] = {0};
    int64_t i = 0;
    for (; i + N <= n; i += N)
        for (int k = 0; k < N; k++) {
            a[k] = x[i + k] < a[k] ? x[i + k] : a[k];
            b[k] = x[i + k] > b[k] ? x[i + k] : b[k];
        }
    for (; i < n; i++) {
        a[0] = x[i] < a[0] ? x[i] : a[0];
        b[0] = x[i] > b[0] ? x[i] : b[0];
    }
    for (int k = 1; k < N; k++) {
        a[0] = a[k] < a[0] ? a[k] : a[0];
        b[0] = b[k] > b[0] ? b[k] : b[0];
    }
    *low = a[0], *high = b[0];
}

/* As ONNX's DynamicQuantizeLinear. */
static void measured(float low, float high, float *scale, int32_t *zero) {
    *scale = high == low ? 1 : (high - low) / 255;
    const float z = nearbyintf(-low / *scale);
    *zero = (int32_t)(z < 0 ? 0 : z > 255 ? 255 : z);
}

static int64_t chunks_of(int64_t n) {
    return dt_max_i64(1, dt_min_i64(DT_CPU_MAX_CHUNKS, n / DT_CPU_GRAIN));
}

int64_t dt_cpu_quantize_bytes(const dt_cpu_node *d) {
    (void)d;
    return 2 * DT_CPU_MAX_CHUNKS * (int64_t)sizeof(float);
}

dt_status dt_cpu_quantize(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_quantize_attr *t = &d->attr.quantize;
    const float *x = d->b.in[0];
    uint8_t *y = d->b.out[0];
    float *made = d->b.out[1], *part = d->b.workspace;
    const int32_t low = t->is_signed ? -128 : 0;
    const int64_t groups = t->per == DT_QUANTIZE_ROW ? d->m : t->per == DT_QUANTIZE_FIRST ? d->n : 1;
    const int64_t n = d->n_elem / groups, chunks = groups > 1 ? 1 : chunks_of(n),
                  piece = dt_ceil_div(n, chunks);
    const bool team = d->n_elem > 2 * DT_CPU_GRAIN;
    float scale = t->scale;
    int32_t zero = t->zero;
    if (groups == 1 && t->per != DT_QUANTIZE_GIVEN) {
#pragma omp parallel for schedule(static) num_threads(d->threads) if (team)
        for (int64_t i = 0; i < chunks; i++)
            range_of(dt_min_i64(piece, n - i * piece), x + i * piece, &part[2 * i], &part[2 * i + 1]);
        for (int64_t i = 1; i < chunks; i++) {
            part[0] = part[2 * i] < part[0] ? part[2 * i] : part[0];
            part[1] = part[2 * i + 1] > part[1] ? part[2 * i + 1] : part[1];
        }
        measured(part[0], part[1], &scale, &zero);
        made[0] = scale, made[1] = (float)zero;
    }
#pragma omp parallel for schedule(static) num_threads(d->threads) if (team)
    for (int64_t i = 0; i < groups * chunks; i++) {
        const int64_t at = i * piece, many = groups > 1 ? n : dt_min_i64(piece, n - at);
        float s = scale;
        int32_t z = zero;
        if (groups > 1) {
            float least, most;
            range_of(many, x + at, &least, &most);
            measured(least, most, &s, &z);
            made[2 * i] = s, made[2 * i + 1] = (float)z;
        }
        quantize(many, x + at, s, z, low, y + at);
    }
    return DT_OK;
}

DT_CPU_SIMD static void from_u8(int64_t n, const uint8_t *x, float scale, int32_t zero, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] = (float)((int32_t)x[i] - zero) * scale;
}
DT_CPU_SIMD static void from_i8(int64_t n, const int8_t *x, float scale, int32_t zero, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] = (float)((int32_t)x[i] - zero) * scale;
}

dt_status dt_cpu_dequantize(void *node, dt_stream *stream) {
    (void)stream;
    const dt_cpu_node *d = node;
    const dt_quantize_attr *t = &d->attr.quantize;
    const uint8_t *x = d->b.in[0];
    float *y = d->b.out[0];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (d->n_elem > DT_CPU_GRAIN)
    for (int64_t i = 0; i < d->n_elem; i += DT_CPU_GRAIN) {
        const int64_t n = dt_min_i64(DT_CPU_GRAIN, d->n_elem - i);
        if (d->from == DT_DTYPE_U8)
            from_u8(n, x + i, t->scale, t->zero, y + i);
        else
            from_i8(n, (const int8_t *)x + i, t->scale, t->zero, y + i);
    }
    return DT_OK;
}
