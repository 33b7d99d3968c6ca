/* Looking through numbers of any type. Those of fp32 and fp16 are looked at as bits, many at once. */
#include "numbers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/half.h"

enum { BLOCK = 1024, WHOLE_MAX = 1 << 24 /* fp32 holds all whole numbers up to this */ };

double dt_number_at(dt_dtype dtype, const void *numbers, int64_t i) {
    switch (dtype) {
    case DT_DTYPE_F32:
        return ((const float *)numbers)[i];
    case DT_DTYPE_F64:
        return ((const double *)numbers)[i];
    case DT_DTYPE_F16:
        return dt_f16_to_f32(((const uint16_t *)numbers)[i]);
    case DT_DTYPE_BF16:
        return dt_bf16_to_f32(((const uint16_t *)numbers)[i]);
    case DT_DTYPE_I64:
        return (double)((const int64_t *)numbers)[i];
    case DT_DTYPE_I32:
        return ((const int32_t *)numbers)[i];
    default:
        return ((const uint8_t *)numbers)[i];
    }
}

void dt_number_set(dt_dtype dtype, void *numbers, int64_t i, double x) {
    switch (dtype) {
    case DT_DTYPE_F32:
        ((float *)numbers)[i] = (float)x;
        return;
    case DT_DTYPE_F64:
        ((double *)numbers)[i] = x;
        return;
    case DT_DTYPE_F16:
        ((uint16_t *)numbers)[i] = dt_f32_to_f16((float)x);
        return;
    case DT_DTYPE_BF16:
        ((uint16_t *)numbers)[i] = dt_f32_to_bf16((float)x);
        return;
    case DT_DTYPE_I64:
        ((int64_t *)numbers)[i] = (int64_t)x;
        return;
    case DT_DTYPE_I32:
        ((int32_t *)numbers)[i] = (int32_t)x;
        return;
    default:
        ((uint8_t *)numbers)[i] = (uint8_t)x;
    }
}

static bool any_bad(dt_dtype dtype, const void *numbers, int64_t n) {
    const uint32_t *w = numbers;
    const uint16_t *h = numbers;
    const double *d = numbers;
    uint32_t bad = 0;
    if (dtype == DT_DTYPE_F32)
        for (int64_t i = 0; i < n; i++) bad |= (w[i] & 0x7F800000) == 0x7F800000;
    else if (dtype == DT_DTYPE_F16)
        for (int64_t i = 0; i < n; i++) bad |= (h[i] & 0x7C00) == 0x7C00;
    else if (dtype == DT_DTYPE_BF16)
        for (int64_t i = 0; i < n; i++) bad |= (h[i] & 0x7F80) == 0x7F80;
    else if (dtype == DT_DTYPE_F64)
        for (int64_t i = 0; i < n; i++) bad |= (uint32_t)!isfinite((float)d[i]);
    return bad != 0;
}

int64_t dt_numbers_find_bad(dt_dtype dtype, const void *numbers, int64_t n) {
    const size_t size = dt_dtype_size(dtype);
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t end = dt_min_i64(i + BLOCK, n);
        if (!any_bad(dtype, (const uint8_t *)numbers + (size_t)i * size, end - i)) continue;
        for (int64_t k = i; k < end; k++)
            if (!isfinite((float)dt_number_at(dtype, numbers, k))) return k;
    }
    return -1;
}

/* More significant bits than fp32 has. */
static bool is_inexact(int64_t x) {
    const uint64_t u = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    return u > WHOLE_MAX && u >> __builtin_ctzll(u) > WHOLE_MAX;
}

int64_t dt_numbers_find_inexact(dt_dtype dtype, const void *numbers, int64_t n) {
    const int32_t *narrow = numbers;
    const int64_t *wide = numbers;
    if (dtype != DT_DTYPE_I32 && dtype != DT_DTYPE_I64) return -1;
    for (int64_t i = 0; i < n; i++)
        if (is_inexact(dtype == DT_DTYPE_I32 ? narrow[i] : wide[i])) return i;
    return -1;
}

dt_number_shown dt_number_why(double x) {
    dt_number_shown out;
    if (isfinite(x))
        snprintf(out.s, sizeof out.s, "is %.12g, too large for fp32", x);
    else
        snprintf(out.s, sizeof out.s, "is %s", isnan(x) ? "nan" : "infinite");
    return out;
}

dt_place_shown dt_number_place(const dt_field *f, int64_t e) {
    dt_place_shown out;
    int64_t index[DT_MAX_DIM] = {0};
    for (int32_t i = f->ndim - 1; i >= 0; i--) {
        index[i] = e % f->dim[i];
        e /= f->dim[i];
    }
    size_t used = (size_t)snprintf(out.s, sizeof out.s, "%s", f->name);
    for (int32_t i = 0; i < f->ndim && used < sizeof out.s; i++)
        used += (size_t)snprintf(out.s + used, sizeof out.s - used, "%s%lld%s", i ? ", " : "[",
                                 (long long)index[i], i + 1 == f->ndim ? "]" : "");
    return out;
}
