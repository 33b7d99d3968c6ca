/* Tensors of the host: numbers of any type as f64 or i64, in runs. */
#include "onnx/op.h"

#include <math.h>

#include "core/half.h"

int64_t dt_host_n_elem(const dt_host_tensor *t) {
    int64_t n = 1;
    for (int32_t d = 0; d < t->ndim; d++) {
        if (t->dim[d] == 0) return 0;
        if (__builtin_mul_overflow(n, t->dim[d], &n)) n = INT64_MAX;
    }
    return n;
}

int64_t dt_host_elem_bytes(dt_tensor_type type) {
    static const int8_t bytes[DT_TENSOR_TYPES] = {
        [DT_TENSOR_BOOL] = 1,        [DT_TENSOR_U8] = 1,          [DT_TENSOR_I8] = 1,
        [DT_TENSOR_F8_E5M2] = 1,     [DT_TENSOR_F8_E4M3] = 1,     [DT_TENSOR_F8_E8M0] = 1,
        [DT_TENSOR_F8_E5M2FNUZ] = 1, [DT_TENSOR_F8_E4M3FNUZ] = 1, [DT_TENSOR_I16] = 2,
        [DT_TENSOR_U16] = 2,         [DT_TENSOR_F16] = 2,         [DT_TENSOR_BF16] = 2,
        [DT_TENSOR_I32] = 4,         [DT_TENSOR_U32] = 4,         [DT_TENSOR_F32] = 4,
        [DT_TENSOR_C64] = 8,         [DT_TENSOR_F64] = 8,         [DT_TENSOR_I64] = 8,
        [DT_TENSOR_U64] = 8,         [DT_TENSOR_I4] = 1,          [DT_TENSOR_U4] = 1,
        [DT_TENSOR_I2] = 1,          [DT_TENSOR_U2] = 1,
    };
    return (unsigned)type < DT_TENSOR_TYPES ? bytes[type] : 0;
}

int64_t dt_host_bytes(const dt_host_tensor *t) {
    int64_t bytes;
    if (__builtin_mul_overflow(dt_host_n_elem(t), dt_host_elem_bytes(t->type), &bytes)) return INT64_MAX;
    return bytes;
}

static int64_t i64_of_f64(double x) {
    return x >= 0x1p63 ? INT64_MAX : x <= -0x1p63 ? INT64_MIN : x == x ? (int64_t)x : 0;
}

static uint64_t u64_of_f64(double x) {
    return x >= 0x1p64 ? UINT64_MAX : x > 0 ? (uint64_t)x : 0;
}

static double clamp(double x, double low, double high) {
    return x > high ? high : x > low ? x : x == x ? low : 0;
}

/* f16 and bf16 are rounded once, from f64: through f32 with its last bit set where it is not exact (round to odd), which
 * 16 bits then round as the number itself. */
static float odd(double x) {
    const float f = (float)x;
    if ((double)f == x || x != x || isinf(f)) return f;
    uint32_t bits = dt_f32_bits(f);
    if (fabs((double)f) > fabs(x)) bits--; /* toward zero */
    return dt_f32_from_bits(bits | 1);
}

/* Types of whole numbers: X(type of element, C type, lowest, highest). */
#define WHOLE_LIST(X)                                                                                        \
    X(DT_TENSOR_U8, uint8_t, 0, UINT8_MAX)                                                                   \
    X(DT_TENSOR_I8, int8_t, INT8_MIN, INT8_MAX)                                                              \
    X(DT_TENSOR_U16, uint16_t, 0, UINT16_MAX)                                                                \
    X(DT_TENSOR_I16, int16_t, INT16_MIN, INT16_MAX)                                                          \
    X(DT_TENSOR_U32, uint32_t, 0, UINT32_MAX)                                                                \
    X(DT_TENSOR_I32, int32_t, INT32_MIN, INT32_MAX)

/* Narrow ones: X(type, C type, bits). */
#define NARROW_LIST(X)                                                                                       \
    X(DT_TENSOR_I4, int8_t, 4, -8, 7)                                                                        \
    X(DT_TENSOR_U4, uint8_t, 4, 0, 15)                                                                       \
    X(DT_TENSOR_I2, int8_t, 2, -2, 1)                                                                        \
    X(DT_TENSOR_U2, uint8_t, 2, 0, 3)

#define LOAD(name, ctype, expr)                                                                              \
    case name: {                                                                                             \
        const ctype *p = (const ctype *)t->data + at;                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const ctype x = p[i * stride];                                                                   \
            out[i] = (expr);                                                                                 \
        }                                                                                                    \
        break;                                                                                               \
    }
#define STORE(name, ctype, expr)                                                                             \
    case name: {                                                                                             \
        ctype *p = (ctype *)t->data + at;                                                                    \
        for (int64_t i = 0; i < n; i++) p[i] = (ctype)(expr);                                                \
        break;                                                                                               \
    }

void dt_host_load_f64(const dt_host_tensor *t, int64_t at, int64_t stride, int64_t n, double *out) {
#define WHOLE(name, ctype, low, high)        LOAD(name, ctype, (double)x)
#define NARROW(name, ctype, bits, low, high) LOAD(name, ctype, (double)x)
    switch (t->type) {
        WHOLE_LIST(WHOLE)
        NARROW_LIST(NARROW)
        LOAD(DT_TENSOR_BOOL, uint8_t, x != 0)
        LOAD(DT_TENSOR_I64, int64_t, (double)x)
        LOAD(DT_TENSOR_U64, uint64_t, (double)x)
        LOAD(DT_TENSOR_F16, uint16_t, (double)dt_f16_to_f32(x))
        LOAD(DT_TENSOR_BF16, uint16_t, (double)dt_bf16_to_f32(x))
        LOAD(DT_TENSOR_F32, float, (double)x)
        LOAD(DT_TENSOR_F64, double, x)
    default:
        DT_ASSERT(!"a type that is computed with");
    }
#undef WHOLE
#undef NARROW
}

void dt_host_load_i64(const dt_host_tensor *t, int64_t at, int64_t stride, int64_t n, int64_t *out) {
#define WHOLE(name, ctype, low, high)        LOAD(name, ctype, (int64_t)x)
#define NARROW(name, ctype, bits, low, high) LOAD(name, ctype, (int64_t)x)
    switch (t->type) {
        WHOLE_LIST(WHOLE)
        NARROW_LIST(NARROW)
        LOAD(DT_TENSOR_BOOL, uint8_t, x != 0)
        LOAD(DT_TENSOR_I64, int64_t, x)
        LOAD(DT_TENSOR_U64, uint64_t, (int64_t)x)
        LOAD(DT_TENSOR_F16, uint16_t, i64_of_f64((double)dt_f16_to_f32(x)))
        LOAD(DT_TENSOR_BF16, uint16_t, i64_of_f64((double)dt_bf16_to_f32(x)))
        LOAD(DT_TENSOR_F32, float, i64_of_f64((double)x))
        LOAD(DT_TENSOR_F64, double, i64_of_f64(x))
    default:
        DT_ASSERT(!"a type that is computed with");
    }
#undef WHOLE
#undef NARROW
}

void dt_host_store_f64(dt_host_tensor *t, int64_t at, int64_t n, const double *in) {
#define WHOLE(name, ctype, low, high)        STORE(name, ctype, clamp(nearbyint(in[i]), low, high))
#define NARROW(name, ctype, bits, low, high) STORE(name, ctype, clamp(nearbyint(in[i]), low, high))
    switch (t->type) {
        WHOLE_LIST(WHOLE)
        NARROW_LIST(NARROW)
        STORE(DT_TENSOR_BOOL, uint8_t, in[i] != 0)
        STORE(DT_TENSOR_I64, int64_t, i64_of_f64(nearbyint(in[i])))
        STORE(DT_TENSOR_U64, uint64_t, u64_of_f64(nearbyint(in[i])))
        STORE(DT_TENSOR_F16, uint16_t, dt_f32_to_f16(odd(in[i])))
        STORE(DT_TENSOR_BF16, uint16_t, dt_f32_to_bf16(odd(in[i])))
        STORE(DT_TENSOR_F32, float, in[i])
        STORE(DT_TENSOR_F64, double, in[i])
    default:
        DT_ASSERT(!"a type that is computed with");
    }
#undef WHOLE
#undef NARROW
}

/* The low `bits` of x, as a signed number where `is_signed`. */
static int64_t low_bits(int64_t x, int bits, bool is_signed) {
    const int64_t mask = ((int64_t)1 << bits) - 1, low = x & mask;
    return is_signed && low >> (bits - 1) ? low - mask - 1 : low;
}

void dt_host_store_i64(dt_host_tensor *t, int64_t at, int64_t n, const int64_t *in) {
#define WHOLE(name, ctype, low, high)        STORE(name, ctype, in[i])
#define NARROW(name, ctype, bits, low, high) STORE(name, ctype, low_bits(in[i], bits, (low) < 0))
    switch (t->type) {
        WHOLE_LIST(WHOLE)
        NARROW_LIST(NARROW)
        STORE(DT_TENSOR_BOOL, uint8_t, in[i] != 0)
        STORE(DT_TENSOR_I64, int64_t, in[i])
        STORE(DT_TENSOR_U64, uint64_t, in[i])
        STORE(DT_TENSOR_F16, uint16_t, dt_f32_to_f16(odd((double)in[i])))
        STORE(DT_TENSOR_BF16, uint16_t, dt_f32_to_bf16(odd((double)in[i])))
        STORE(DT_TENSOR_F32, float, in[i])
        STORE(DT_TENSOR_F64, double, in[i])
    default:
        DT_ASSERT(!"a type that is computed with");
    }
#undef WHOLE
#undef NARROW
}

double dt_host_f64(const dt_host_tensor *t, int64_t i) {
    double x;
    dt_host_load_f64(t, i, 0, 1, &x);
    return x;
}

int64_t dt_host_i64(const dt_host_tensor *t, int64_t i) {
    int64_t x;
    dt_host_load_i64(t, i, 0, 1, &x);
    return x;
}

void dt_host_put_f64(dt_host_tensor *t, int64_t i, double value) {
    dt_host_store_f64(t, i, 1, &value);
}

void dt_host_put_i64(dt_host_tensor *t, int64_t i, int64_t value) {
    dt_host_store_i64(t, i, 1, &value);
}
