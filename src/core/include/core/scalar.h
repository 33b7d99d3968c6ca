/* Element-wise functions, one line each, read by C and by CUDA: UNARY_LIST and BINARY_LIST. Definitions are
 * PyTorch's; arithmetic is fp32. Everything here is free of branches, so that loops over it vectorise, and
 * finite where the function is: nothing overflows on the way. A GPU uses its own exp and log. NaN stays
 * NaN. */
#ifndef DT_CORE_SCALAR_H
#define DT_CORE_SCALAR_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define DT_SCALAR __host__ __device__ static __forceinline__
#else
#define DT_SCALAR static inline __attribute__((always_inline))
#endif

/* ---- what the lists are written with ---- */

DT_SCALAR int32_t dt_scalar_bits(float x) {
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return i;
}

DT_SCALAR float dt_scalar_of_bits(uint32_t i) {
    float x;
    memcpy(&x, &i, sizeof x);
    return x;
}

DT_SCALAR float dt_expf(float x) {
#ifdef __CUDA_ARCH__
    return expf(x);
#else
    const float to_whole = 12582912.0f; /* 1.5 * 2^23: adding it rounds, the low bits are the whole number */
    const float in = x > 89.0f ? 89.0f : x < -110.0f ? -110.0f : x;
    const float shifted = in * 1.44269504f + to_whole, n = shifted - to_whole;
    const float r = (in - n * 0.693359375f) + n * 2.12194440e-4f; /* in - n ln 2 */
    const float tail = 1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720 + r * (1.0f / 5040)));
    const float e = 1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6 + r * tail)));
    /* 2^n in two factors: one alone would overflow at both ends. */
    const int32_t k = dt_scalar_bits(shifted) - 0x4B400000, half = k >> 1;
    return e * dt_scalar_of_bits((uint32_t)(half + 127) << 23) *
           dt_scalar_of_bits((uint32_t)(k - half + 127) << 23);
#endif
}

DT_SCALAR float dt_expm1f(float x) {
    const float tail = 1.0f / 24 + x * (1.0f / 120 + x * (1.0f / 720 + x * (1.0f / 5040 + x / 40320)));
    const float small = x + x * x * (0.5f + x * (1.0f / 6 + x * tail)), large = dt_expf(x) - 1.0f;
    return fabsf(x) < 0.5f ? small : large;
}

/* Of a normal positive number. */
DT_SCALAR float dt_log_normal(float x) {
    /* x = m 2^e, sqrt(1/2) <= m < sqrt(2); log m = 2 atanh(s) */
    const uint32_t from = 0x3F3504F3, ix = (uint32_t)dt_scalar_bits(x) - from;
    const float e = (float)((int32_t)ix >> 23), m = dt_scalar_of_bits((ix & 0x7FFFFF) + from);
    const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    const float tail = z * (1.0f / 3 + z * (1.0f / 5 + z * (1.0f / 7 + z * (1.0f / 9))));
    return e * 0.693359375f + (2.0f * s + (2.0f * s * tail - e * 2.12194440e-4f));
}

DT_SCALAR float dt_logf(float x) {
#ifdef __CUDA_ARCH__
    return logf(x);
#else
    const float tiny = x < FLT_MIN ? 8388608.0f : 1.0f; /* 2^23 */
    const float l = dt_log_normal(x * tiny) - (x < FLT_MIN ? 15.9423847f : 0.0f);
    const float edge = x == 0.0f ? -INFINITY : NAN;
    return x > 0.0f ? (x <= FLT_MAX ? l : x) : edge;
#endif
}

/* log(1 + x) of x in [0, 1] */
DT_SCALAR float dt_log1pf(float x) {
    const float u = 1.0f + x;
    return dt_log_normal(u) + (x - (u - 1.0f)) / u; /* what the sum lost */
}

/* 1 / x of x from 1 on; on a GPU to two units of the last place, in two instructions for the dozen of a division. */
DT_SCALAR float dt_inverse(float x) {
#ifdef __CUDA_ARCH__
    return __fdividef(1.0f, x);
#else
    return 1.0f / x;
#endif
}

DT_SCALAR float dt_sigmoidf(float x) {
    return dt_inverse(1.0f + dt_expf(-x));
}

DT_SCALAR float dt_softplusf(float x) {
    return (x > 0.0f ? x : 0.0f) + dt_log1pf(dt_expf(-fabsf(x)));
}

DT_SCALAR float dt_tanhf(float x) {
    /* Lambert's fraction near 0, where 1 - 2 / (e^2x + 1) cancels. */
    const float z = x * x, a = fabsf(x);
    const float small = x * (945.0f + z * (105.0f + z)) / (945.0f + z * (420.0f + z * 15.0f));
    const float large = copysignf(1.0f - 2.0f / (dt_expf(2.0f * a) + 1.0f), x);
    return a < 0.7f ? small : large;
}

DT_SCALAR float dt_normal_pdf(float x) {
    return 0.398942280f * dt_expf(-0.5f * x * x);
}

/* The normal distribution, exact in its tails too. */
DT_SCALAR float dt_normal_cdf(float x) {
    /* erfc(a) e^(a^2) of a = |x| / sqrt(2) is t times a polynomial of t = 1 / (1 + 0.4 a), fitted to 1e-8 */
    const float t = dt_inverse(1.0f + 0.282842712f * fabsf(x));
    float p = -0.030823268f;
    p = p * t + 0.204526648f;
    p = p * t - 0.513732314f;
    p = p * t + 0.566785276f;
    p = p * t - 0.299989641f;
    p = p * t + 0.280194163f;
    p = p * t + 0.126959741f;
    p = p * t + 0.215482786f;
    p = p * t + 0.224886432f;
    p = p * t + 0.225710168f;
    const float tail = 0.5f * t * p * dt_expf(-0.5f * x * x);
    return x < 0.0f ? tail : 1.0f - tail;
}

/* tanh(softplus(x)) from e^x: with w = e (e + 2) it is w / (w + 2). At 20 it is 1. */
DT_SCALAR float dt_mishf(float x) {
    const float e = dt_expf(x > 20.0f ? 20.0f : x), w = e * (e + 2.0f);
    return x * (w / (w + 2.0f));
}

DT_SCALAR float dt_mish_slope(float x) {
    const float in = x > 20.0f ? 20.0f : x, e = dt_expf(in), w = e * (e + 2.0f), d = 1.0f / (w + 2.0f);
    return w * d + in * (4.0f * (w + 1.0f) * d * d) * (e / (1.0f + e));
}

DT_SCALAR float dt_silu_slope(float x) {
    const float s = dt_sigmoidf(x);
    return s * (1.0f + x * (1.0f - s));
}

/* gelu by tanh(u) is x sigmoid(2 u). */
DT_SCALAR float dt_gelu_arg(float x) {
    return 1.59576912f * (x + 0.044715f * x * x * x);
}

DT_SCALAR float dt_gelu_tanh_slope(float x) {
    const float in = x > 9.0f ? 9.0f : x < -9.0f ? -9.0f : x; /* past these it is 1 and 0 */
    const float e = dt_expf(-dt_gelu_arg(in)), s = dt_inverse(1.0f + e);
    return s + in * (s * (e * s)) * (1.59576912f * (1.0f + 0.134145f * in * in)); /* e s = 1 - s */
}

DT_SCALAR float dt_seluf(float x) {
    return 1.05070099f * (x > 0.0f ? x : 1.67326324f * dt_expm1f(x));
}

DT_SCALAR float dt_selu_slope(float x) {
    return 1.05070099f * (x > 0.0f ? 1.0f : 1.67326324f * dt_expf(x));
}

DT_SCALAR float dt_hardswish_slope(float x) {
    return x < -3.0f ? 0.0f : x > 3.0f ? 1.0f : x / 3.0f + 0.5f;
}

DT_SCALAR float dt_clampf(float x, float lo, float hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

/* ---- functions of one variable ---- */

/* U(CONSTANT, name, what its gradient is made of: X or Y, scalars, value of x, gradient of x)
 * in terms of x, y = value, g = gradient of y, and the scalars a, b. A gradient made of Y lets y take the
 * memory of x. Scalars: none, or their names and default values. */
/* clang-format off */
#define DT_UNARY_LIST(U) \
    U(RELU, relu, Y, DT_SCALARS_0, x < 0 ? 0 : x, y > 0 ? g : 0) \
    U(RELU6, relu6, Y, DT_SCALARS_0, dt_clampf(x, 0, 6), y > 0 && y < 6 ? g : 0) \
    U(LEAKY_RELU, leaky_relu, X, DT_SCALARS_1("alpha", 0.01f), x > 0 ? x : a * x, x > 0 ? g : a * g) \
    U(ELU, elu, X, DT_SCALARS_1("alpha", 1), x > 0 ? x : a * dt_expm1f(x), x > 0 ? g : g * a * dt_expf(x)) \
    U(SELU, selu, X, DT_SCALARS_0, dt_seluf(x), g * dt_selu_slope(x)) \
    U(SIGMOID, sigmoid, Y, DT_SCALARS_0, dt_sigmoidf(x), g * y * (1 - y)) \
    U(TANH, tanh, Y, DT_SCALARS_0, dt_tanhf(x), g * (1 - y * y)) \
    U(SOFTPLUS, softplus, X, DT_SCALARS_0, dt_softplusf(x), g * dt_sigmoidf(x)) \
    U(SILU, silu, X, DT_SCALARS_0, x * dt_sigmoidf(x), g * dt_silu_slope(x)) \
    U(MISH, mish, X, DT_SCALARS_0, dt_mishf(x), g * dt_mish_slope(x)) \
    U(HARDSWISH, hardswish, X, DT_SCALARS_0, x * (dt_clampf(x + 3, 0, 6) / 6), g * dt_hardswish_slope(x)) \
    U(HARDSIGMOID, hardsigmoid, X, DT_SCALARS_0, dt_clampf(x + 3, 0, 6) / 6, x > -3 && x < 3 ? g / 6 : 0) \
    U(GELU, gelu, X, DT_SCALARS_0, x * dt_normal_cdf(x), g * (dt_normal_cdf(x) + x * dt_normal_pdf(x))) \
    U(GELU_TANH, gelu_tanh, X, DT_SCALARS_0, x * dt_sigmoidf(dt_gelu_arg(x)), g * dt_gelu_tanh_slope(x)) \
    U(EXP, exp, Y, DT_SCALARS_0, dt_expf(x), g * y) \
    U(LOG, log, X, DT_SCALARS_0, dt_logf(x), g / x) \
    U(SQRT, sqrt, Y, DT_SCALARS_0, sqrtf(x), g / (2 * y)) \
    U(NEG, neg, Y, DT_SCALARS_0, -x, -g) \
    U(ABS, abs, X, DT_SCALARS_0, fabsf(x), x > 0 ? g : x < 0 ? -g : 0) \
    U(CLAMP, clamp, X, DT_SCALARS_2("lo", 0, "hi", 1), dt_clampf(x, a, b), x >= a && x <= b ? g : 0) \
    U(SQUARE, square, X, DT_SCALARS_0, x * x, 2 * x * g) \
    U(RECIPROCAL, reciprocal, Y, DT_SCALARS_0, 1 / x, -g * y * y) \
    U(SCALE, scale, Y, DT_SCALARS_1("factor", 1), a * x, a * g)

#define DT_SCALARS_0 {{NULL, 0}}
#define DT_SCALARS_1(name, value) {{name, value}}
#define DT_SCALARS_2(name, value, name2, value2) {{name, value}, {name2, value2}}
/* clang-format on */

/* ---- functions of two variables ---- */

/* B(CONSTANT, name, value, what the gradient of x reads, gradient of x, what that of y reads, gradient of y)
 * in terms of x, y and g. Reads: bit 0 x, bit 1 y. Of two equal ones min and max share the gradient. */
/* clang-format off */
#define DT_BINARY_LIST(B) \
    B(ADD, add, x + y, 0, g, 0, g) \
    B(SUB, sub, x - y, 0, g, 0, -g) \
    B(MUL, mul, x * y, 2, g * y, 1, g * x) \
    B(DIV, div, x / y, 2, g / y, 3, -(g / y) * (x / y)) \
    B(MIN, min, x < y || x != x ? x : y, 3, x < y ? g : x == y ? g / 2 : 0, 3, y < x ? g : x == y ? g / 2 : 0) \
    B(MAX, max, x > y || x != x ? x : y, 3, x > y ? g : x == y ? g / 2 : 0, 3, y > x ? g : x == y ? g / 2 : 0)
/* clang-format on */

/* ---- what the compiler knows of them ---- */

#define DT_UNARY_CONSTANT(NAME, name, of, scalars, value, gradient) DT_UNARY_##NAME,
typedef enum dt_unary { DT_UNARY_LIST(DT_UNARY_CONSTANT) DT_UNARY_COUNT } dt_unary;
#define DT_BINARY_CONSTANT(NAME, name, value, rx, gx, ry, gy) DT_BINARY_##NAME,
typedef enum dt_binary { DT_BINARY_LIST(DT_BINARY_CONSTANT) DT_BINARY_COUNT } dt_binary;

/* The function of one variable that a product ends in, as its attribute act: 1 + the function, which has no scalars. */
enum { DT_ACT_NONE = 0, DT_ACT_RELU = 1 + DT_UNARY_RELU };

enum { DT_SCALARS_MAX = 2 };
typedef struct dt_scalar_param {
    const char *name; /* NULL ends the list */
    float value;      /* the default */
} dt_scalar_param;

typedef struct dt_unary_row {
    const char *name, *grad_name;          /* "relu", "relu_bwd" */
    dt_scalar_param param[DT_SCALARS_MAX]; /* a, b */
    int of_y;                              /* its gradient is made of y, not of x */
} dt_unary_row;

typedef struct dt_binary_row {
    const char *name, *grad_name;
    uint32_t reads[2]; /* by the gradients of x and y: bit 0 x, bit 1 y */
} dt_binary_row;

#ifdef __cplusplus
extern "C" {
#endif
extern const dt_unary_row dt_unary_table[DT_UNARY_COUNT];
extern const dt_binary_row dt_binary_table[DT_BINARY_COUNT];
#ifdef __cplusplus
}
#endif

#endif
