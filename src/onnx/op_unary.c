/* Functions of one number. */
#include <math.h>
#include <string.h>

#include "walk.h"

/* ---- what computes them: floats as f64 and whole numbers as i64, in runs ---- */

typedef double (*float_fn)(double x, double a, double b);
typedef int64_t (*whole_fn)(int64_t x, bool is_unsigned); /* u64: its bits */

static dt_status run_floats(const dt_onnx_call *c, float_fn fn, double a, double b) {
    const dt_host_tensor *x = c->in[0];
    const int64_t n = dt_host_n_elem(x);
    double v[DT_RUN];
    for (int64_t i = 0; i < n; i += DT_RUN) {
        const int64_t m = dt_min_i64(n - i, DT_RUN);
        dt_host_load_f64(x, i, 1, m, v);
        for (int64_t k = 0; k < m; k++) v[k] = fn(v[k], a, b);
        dt_host_store_f64(&c->out[0], i, m, v);
    }
    return DT_OK;
}

static dt_status run_whole(const dt_onnx_call *c, whole_fn fn) {
    const bool is_unsigned = dt_host_is(c->in[0], DT_HOST_UNSIGNED);
    const dt_host_tensor *x = c->in[0];
    const int64_t n = dt_host_n_elem(x);
    int64_t v[DT_RUN];
    for (int64_t i = 0; i < n; i += DT_RUN) {
        const int64_t m = dt_min_i64(n - i, DT_RUN);
        dt_host_load_i64(x, i, 1, m, v);
        for (int64_t k = 0; k < m; k++) v[k] = fn(v[k], is_unsigned);
        dt_host_store_i64(&c->out[0], i, m, v);
    }
    return DT_OK;
}

static dt_status infer_as(const dt_onnx_call *c, uint32_t types) {
    DT_TRY(dt_onnx_expect(c, 0, types));
    return dt_onnx_out_like(c, 0, 0);
}
static dt_status infer_float(const dt_onnx_call *c) {
    return infer_as(c, DT_HOST_FLOATS);
}
static dt_status infer_number(const dt_onnx_call *c) {
    return infer_as(c, DT_HOST_NUMBERS);
}
static dt_status infer_signed(const dt_onnx_call *c) {
    return infer_as(c, DT_HOST_FLOATS | DT_HOST_SIGNED);
}
static dt_status infer_whole(const dt_onnx_call *c) {
    return infer_as(c, DT_HOST_INTS);
}
static dt_status infer_bool(const dt_onnx_call *c) {
    return infer_as(c, DT_HOST_BOOL);
}
static dt_status infer_test(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    return dt_onnx_out(c, 0, DT_TENSOR_BOOL, c->in[0]->ndim, c->in[0]->dim);
}

/* ---- functions ---- */

static double sigmoid(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double softplus(double x) {
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static double relu(double x) {
    return x < 0 ? 0 : x; /* NaN stays */
}

/* x, not below 0 nor above 1. */
static double unit(double x) {
    return x > 1 ? 1 : relu(x);
}

static double sign(double x) {
    return x > 0 ? 1 : x < 0 ? -1 : x;
}

static double gelu(double x) {
    return 0.5 * x * (1 + erf(x * M_SQRT1_2));
}

static double gelu_tanh(double x) {
    return 0.5 * x * (1 + tanh(0.5 * M_2_SQRTPI * M_SQRT2 * (x + 0.044715 * x * x * x)));
}

/* X(name, since, infer, value of x and the attributes a, b, name and value otherwise of a, of b) */
#define FLOAT_LIST(X)                                                                                        \
    X(Acos, 7, float, acos(x), NULL, 0, NULL, 0)                                                             \
    X(Acosh, 9, float, acosh(x), NULL, 0, NULL, 0)                                                           \
    X(Asin, 7, float, asin(x), NULL, 0, NULL, 0)                                                             \
    X(Asinh, 9, float, asinh(x), NULL, 0, NULL, 0)                                                           \
    X(Atan, 7, float, atan(x), NULL, 0, NULL, 0)                                                             \
    X(Atanh, 9, float, atanh(x), NULL, 0, NULL, 0)                                                           \
    X(Ceil, 1, float, ceil(x), NULL, 0, NULL, 0)                                                             \
    X(Celu, 12, float, x > 0 ? x : a * expm1(x / a), "alpha", 1, NULL, 0)                                    \
    X(Cos, 7, float, cos(x), NULL, 0, NULL, 0)                                                               \
    X(Cosh, 9, float, cosh(x), NULL, 0, NULL, 0)                                                             \
    X(Elu, 1, float, x < 0 ? a * expm1(x) : x, "alpha", 1, NULL, 0)                                          \
    X(Erf, 9, number, erf(x), NULL, 0, NULL, 0)                                                              \
    X(Exp, 1, float, exp(x), NULL, 0, NULL, 0)                                                               \
    X(Floor, 1, float, floor(x), NULL, 0, NULL, 0)                                                           \
    X(HardSigmoid, 1, float, unit(a *x + b), "alpha", 0.2f, "beta", 0.5f)                                    \
    X(HardSwish, 14, float, x *unit(x / 6 + 0.5), NULL, 0, NULL, 0)                                          \
    X(LeakyRelu, 1, float, x < 0 ? a * x : x, "alpha", 0.01f, NULL, 0)                                       \
    X(Log, 1, float, log(x), NULL, 0, NULL, 0)                                                               \
    X(Mish, 18, float, x *tanh(softplus(x)), NULL, 0, NULL, 0)                                               \
    X(Reciprocal, 1, float, 1 / x, NULL, 0, NULL, 0)                                                         \
    X(Round, 11, float, nearbyint(x), NULL, 0, NULL, 0)                                                      \
    X(Selu, 6, float, x > 0 ? b * x : b * a * expm1(x), "alpha", 1.67326319217681884765625f, "gamma",        \
      1.05070102214813232421875f)                                                                            \
    X(Shrink, 9, number, x<-b ? x + a : x> b ? x - a : x != x ? x : 0, "bias", 0, "lambd", 0.5f)             \
    X(Sigmoid, 1, float, sigmoid(x), NULL, 0, NULL, 0)                                                       \
    X(Sin, 7, float, sin(x), NULL, 0, NULL, 0)                                                               \
    X(Sinh, 9, float, sinh(x), NULL, 0, NULL, 0)                                                             \
    X(Softplus, 1, float, softplus(x), NULL, 0, NULL, 0)                                                     \
    X(Softsign, 1, float, x / (1 + fabs(x)), NULL, 0, NULL, 0)                                               \
    X(Sqrt, 1, float, sqrt(x), NULL, 0, NULL, 0)                                                             \
    X(Swish, 24, float, x *sigmoid(a *x), "alpha", 1, NULL, 0)                                               \
    X(Tan, 7, float, tan(x), NULL, 0, NULL, 0)                                                               \
    X(Tanh, 1, float, tanh(x), NULL, 0, NULL, 0)                                                             \
    X(ThresholdedRelu, 10, float, x > a ? x : 0, "alpha", 1, NULL, 0)

#define DEFINE(name, since, infer, expr, a_name, a_value, b_name, b_value)                                   \
    static double value_##name(double x, double a, double b) {                                               \
        (void)a, (void)b;                                                                                    \
        return expr;                                                                                         \
    }                                                                                                        \
    static dt_status run_##name(const dt_onnx_call *c) {                                                     \
        return run_floats(c, value_##name, (double)attr(c, a_name, a_value),                                 \
                          (double)attr(c, b_name, b_value));                                                 \
    }

static float attr(const dt_onnx_call *c, const char *name, float otherwise) {
    return name ? dt_onnx_attr_float(c->node, name, otherwise) : otherwise;
}

FLOAT_LIST(DEFINE)

/* X(name, since, infer, value of a float, value of a whole number) */
#define NUMBER_LIST(X)                                                                                       \
    X(Abs, 1, number, fabs(x), x < 0 && !is_unsigned ? negated(x) : x)                                       \
    X(Neg, 1, signed, -x, negated(x))                                                                        \
    X(Relu, 1, signed, relu(x), x < 0 ? 0 : x)                                                               \
    X(Sign, 9, number, sign(x), is_unsigned ? x != 0 : (x > 0) - (x < 0))

static int64_t negated(int64_t x) {
    return (int64_t)(0 - (uint64_t)x);
}

#define DEFINE_BOTH(name, since, infer, float_expr, whole_expr)                                              \
    static double value_##name(double x, double a, double b) {                                               \
        (void)a, (void)b;                                                                                    \
        return float_expr;                                                                                   \
    }                                                                                                        \
    static int64_t whole_##name(int64_t x, bool is_unsigned) {                                               \
        (void)is_unsigned;                                                                                   \
        return whole_expr;                                                                                   \
    }                                                                                                        \
    static dt_status run_##name(const dt_onnx_call *c) {                                                     \
        return dt_host_is(c->in[0], DT_HOST_FLOATS) ? run_floats(c, value_##name, 0, 0)                      \
                                                    : run_whole(c, whole_##name);                            \
    }

NUMBER_LIST(DEFINE_BOTH)

static int64_t bits_not(int64_t x, bool is_unsigned) {
    (void)is_unsigned;
    return ~x;
}
static dt_status run_bits_not(const dt_onnx_call *c) {
    return run_whole(c, bits_not);
}

static int64_t logic_not(int64_t x, bool is_unsigned) {
    (void)is_unsigned;
    return x == 0;
}
static dt_status run_not(const dt_onnx_call *c) {
    return run_whole(c, logic_not);
}

static double value_gelu(double x, double by_tanh, double b) {
    (void)b;
    return by_tanh != 0 ? gelu_tanh(x) : gelu(x);
}
static dt_status run_gelu(const dt_onnx_call *c) {
    const bool by_tanh = strcmp(dt_onnx_attr_text(c->node, "approximate", "none"), "tanh") == 0;
    return run_floats(c, value_gelu, by_tanh, 0);
}

static double is_nan(double x, double a, double b) {
    (void)a, (void)b;
    return x != x;
}
static dt_status run_is_nan(const dt_onnx_call *c) {
    return run_floats(c, is_nan, 0, 0);
}

static double is_inf(double x, double positive, double negative) {
    return isinf(x) && (x > 0 ? positive : negative) != 0;
}
static dt_status run_is_inf(const dt_onnx_call *c) {
    return run_floats(c, is_inf, (double)dt_onnx_attr_int(c->node, "detect_positive", 1),
                      (double)dt_onnx_attr_int(c->node, "detect_negative", 1));
}

#define FLOAT_ROW(name, since, infer, ...) {"", #name, since, 1, 1, 1, infer_##infer, run_##name, false},

const dt_onnx_op dt_onnx_ops_unary[] = {
    FLOAT_LIST(FLOAT_ROW)
        NUMBER_LIST(FLOAT_ROW){"", "BitwiseNot", 18, 1, 1, 1, infer_whole, run_bits_not, false},
    {"", "Gelu", 20, 1, 1, 1, infer_float, run_gelu, false},
    {"com.microsoft", "Gelu", 1, 1, 1, 1, infer_float, run_gelu, false},
    {"", "IsInf", 10, 1, 1, 1, infer_test, run_is_inf, false},
    {"", "IsNaN", 9, 1, 1, 1, infer_test, run_is_nan, false},
    {"", "Not", 1, 1, 1, 1, infer_bool, run_not, false},
    {.name = NULL},
};
