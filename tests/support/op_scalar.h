/* The element-wise functions of core/scalar.h once more, in double and in other words: a line each, which is
 * the function's cases of the op matrix and its definition in the oracle. */
#ifndef DT_TEST_OP_SCALAR_H
#define DT_TEST_OP_SCALAR_H

#include <math.h>

#include "core/scalar.h"

/* The normal distribution. */
static inline double op_normal(double x) {
    return 0.5 * erfc(-x * M_SQRT1_2);
}
static inline double op_logistic(double x) {
    return 1 / (1 + exp(-x));
}
static inline double op_log1pexp(double x) {
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}
/* tanh(u(x)) of gelu's approximation, and u'. */
static inline double op_gelu_tanh(double x) {
    return tanh(sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3)));
}
static inline double op_gelu_slope(double x) {
    return sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
enum { OP_SELU_A = 0, OP_SELU_S };
static const double op_selu[] = {1.6732632423543772848, 1.0507009873554804934};

/* U(CONSTANT, kind of x, kind of what the gradient is made of, a, b, value of x, derivative of x or y as v) */
/* clang-format off */
#define OP_UNARY_LIST(U) \
    U(RELU, IN_WIDE, IN_WIDE, 0, 0, fmax(x, 0), v > 0) \
    U(RELU6, IN_WIDER, IN_WIDER, 0, 0, fmin(fmax(x, 0), 6), v > 0 && v < 6) \
    U(LEAKY_RELU, IN_WIDE, IN_WIDE, 0.1f, 0, fmax(x, 0) + a * fmin(x, 0), v > 0 ? 1 : a) \
    U(ELU, IN_WIDE, IN_WIDE, 0.7f, 0, x > 0 ? x : a * expm1(x), v > 0 ? 1 : a * exp(v)) \
    U(SELU, IN_WIDE, IN_WIDE, 0, 0, op_selu[OP_SELU_S] * (x > 0 ? x : op_selu[OP_SELU_A] * expm1(x)), \
      op_selu[OP_SELU_S] * (v > 0 ? 1 : op_selu[OP_SELU_A] * exp(v))) \
    U(SIGMOID, IN_WIDE, IN_ABOVE, 0, 0, op_logistic(x), v * (1 - v)) \
    U(TANH, IN_ACT, IN_ACT, 0, 0, tanh(x), 1 - v * v) \
    U(SOFTPLUS, IN_WIDE, IN_WIDE, 0, 0, op_log1pexp(x), op_logistic(v)) \
    U(SILU, IN_WIDE, IN_WIDE, 0, 0, x * op_logistic(x), op_logistic(v) + v * op_logistic(v) * op_logistic(-v)) \
    U(MISH, IN_WIDE, IN_WIDE, 0, 0, x * tanh(op_log1pexp(x)), \
      tanh(op_log1pexp(v)) + v * op_logistic(v) / pow(cosh(op_log1pexp(v)), 2)) \
    U(HARDSWISH, IN_WIDE, IN_WIDE, 0, 0, x * fmin(fmax(x + 3, 0), 6) / 6, v < -3 ? 0 : v > 3 ? 1 : v / 3 + 0.5) \
    U(HARDSIGMOID, IN_WIDE, IN_WIDE, 0, 0, fmin(fmax(x / 6 + 0.5, 0), 1), fabs(v) < 3 ? 1. / 6 : 0) \
    U(GELU, IN_WIDE, IN_WIDE, 0, 0, x * op_normal(x), op_normal(v) + v * exp(-v * v / 2) / sqrt(2 * M_PI)) \
    U(GELU_TANH, IN_WIDE, IN_WIDE, 0, 0, x * op_logistic(2 * sqrt(2 / M_PI) * (x + 0.044715 * pow(x, 3))), \
      0.5 * (1 + op_gelu_tanh(v)) + 0.5 * v * (1 - pow(op_gelu_tanh(v), 2)) * op_gelu_slope(v)) \
    U(EXP, IN_ACT, IN_ABOVE, 0, 0, exp(x), v) \
    U(LOG, IN_ABOVE, IN_ABOVE, 0, 0, log(x), 1 / v) \
    U(SQRT, IN_ABOVE, IN_ABOVE, 0, 0, sqrt(x), 0.5 / v) \
    U(NEG, IN_ACT, IN_ACT, 0, 0, -x, -1) \
    U(ABS, IN_ACT, IN_ACT, 0, 0, fabs(x), (v > 0) - (v < 0)) \
    U(CLAMP, IN_WIDE, IN_WIDE, -1.5f, 2.5f, fmin(fmax(x, a), b), v >= a && v <= b) \
    U(SQUARE, IN_ACT, IN_ACT, 0, 0, pow(x, 2), 2 * v) \
    U(RECIPROCAL, IN_ABOVE, IN_ABOVE, 0, 0, pow(x, -1), -v * v) \
    U(SCALE, IN_ACT, IN_ACT, -0.75f, 0, a * x, a)

/* B(CONSTANT, kind of the second operand, value, derivative by x, by y) */
#define OP_BINARY_LIST(B) \
    B(ADD, IN_ACT, x + y, 1, 1) \
    B(SUB, IN_ACT, x - y, 1, -1) \
    B(MUL, IN_ACT, x * y, y, x) \
    B(DIV, IN_ABOVE, x / y, 1 / y, -x / (y * y)) \
    B(MIN, IN_ACT, fmin(x, y), x < y ? 1 : 0.5 * (x == y), y < x ? 1 : 0.5 * (x == y)) \
    B(MAX, IN_ACT, fmax(x, y), x > y ? 1 : 0.5 * (x == y), y > x ? 1 : 0.5 * (x == y))
/* clang-format on */

#define OP_COUNT_UNARY(NAME, kind, kind_v, a, b, value, slope) +1
_Static_assert(0 OP_UNARY_LIST(OP_COUNT_UNARY) == DT_UNARY_COUNT,
               "a line for every function of one variable");
#define OP_COUNT_BINARY(NAME, kind, value, dx, dy) +1
_Static_assert(0 OP_BINARY_LIST(OP_COUNT_BINARY) == DT_BINARY_COUNT, "a line for every function of two");

/* Value (which = 0) or derivative (1). */
static inline double op_unary(dt_unary f, int which, double x, double a, double b) {
    const double v = x;
    (void)a, (void)b;
    switch (f) {
#define OP_CASE(NAME, kind, kind_v, a_, b_, value, slope)                                                    \
    case DT_UNARY_##NAME:                                                                                    \
        return which ? slope : value;
        OP_UNARY_LIST(OP_CASE)
#undef OP_CASE
    default:
        return NAN;
    }
}

/* Value (which = 0), derivative by x (1), by y (2). */
static inline double op_binary(dt_binary f, int which, double x, double y) {
    switch (f) {
#define OP_CASE(NAME, kind, value, dx, dy)                                                                   \
    case DT_BINARY_##NAME:                                                                                   \
        return which == 0 ? value : which == 1 ? dx : dy;
        OP_BINARY_LIST(OP_CASE)
#undef OP_CASE
    default:
        return NAN;
    }
}

#endif
