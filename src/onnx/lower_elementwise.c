/* Functions of one and of two numbers, and choices between two. They follow the order of their operands' dimensions. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lower.h"

/* ---- one operand ---- */

/* out = fn(x), in whatever order x is. */
static bool unary(dt_low *w, const dt_low_node *n, dt_unary fn, float a, float b) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!x || !y || !dt_low_is_real(x) || !dt_low_is_real(y)) return false;
    const bool last = dt_low_is_last(x);
    const dt_vid v = last ? dt_low_last(w, x) : dt_low_plain(w, x);
    dt_low_set(w, y, dt_low_unary(w, y->name, v, fn, a, b), last);
    return true;
}

#define PLAIN(NAME, FN)                                                                                      \
    static bool lower_##NAME(dt_low *w, const dt_low_node *n) {                                              \
        return unary(w, n, DT_UNARY_##FN, 0, 0);                                                             \
    }
PLAIN(relu, RELU)
PLAIN(sigmoid, SIGMOID)
PLAIN(tanh, TANH)
PLAIN(softplus, SOFTPLUS)
PLAIN(mish, MISH)
PLAIN(exp, EXP)
PLAIN(log, LOG)
PLAIN(sqrt, SQRT)
PLAIN(neg, NEG)
PLAIN(abs, ABS)
PLAIN(reciprocal, RECIPROCAL)
PLAIN(hardswish, HARDSWISH)

static bool lower_leaky_relu(dt_low *w, const dt_low_node *n) {
    return unary(w, n, DT_UNARY_LEAKY_RELU, dt_onnx_attr_float(n->node, "alpha", 0.01f), 0);
}

static bool lower_elu(dt_low *w, const dt_low_node *n) {
    return unary(w, n, DT_UNARY_ELU, dt_onnx_attr_float(n->node, "alpha", 1), 0);
}

static bool near(float a, float b) {
    return fabsf(a - b) <= 1e-6f * fabsf(b);
}

static bool lower_selu(dt_low *w, const dt_low_node *n) {
    const float alpha = dt_onnx_attr_float(n->node, "alpha", 1.67326319217681884765625f),
                gamma = dt_onnx_attr_float(n->node, "gamma", 1.05070102214813232421875f);
    return near(alpha, 1.67326324f) && near(gamma, 1.05070099f) && unary(w, n, DT_UNARY_SELU, 0, 0);
}

static bool lower_hard_sigmoid(dt_low *w, const dt_low_node *n) {
    const float alpha = dt_onnx_attr_float(n->node, "alpha", 0.2f),
                beta = dt_onnx_attr_float(n->node, "beta", 0.5f);
    return near(alpha, 1.0f / 6) && near(beta, 0.5f) && unary(w, n, DT_UNARY_HARDSIGMOID, 0, 0);
}

static bool lower_gelu(dt_low *w, const dt_low_node *n) {
    const char *kind = dt_onnx_attr_text(n->node, "approximate", "none");
    if (strcmp(kind, "none") == 0) return unary(w, n, DT_UNARY_GELU, 0, 0);
    return strcmp(kind, "tanh") == 0 && unary(w, n, DT_UNARY_GELU_TANH, 0, 0);
}

static bool lower_swish(dt_low *w, const dt_low_node *n) {
    return dt_onnx_attr_float(n->node, "alpha", 1) == 1 && unary(w, n, DT_UNARY_SILU, 0, 0);
}

static bool lower_clip(dt_low *w, const dt_low_node *n) {
    double lo = dt_onnx_attr_float(n->node, "min", -FLT_MAX),
           hi = dt_onnx_attr_float(n->node, "max", FLT_MAX);
    if (!dt_low_scalar(n, 1, lo, &lo) || !dt_low_scalar(n, 2, hi, &hi)) return false;
    lo = fmax(lo, -FLT_MAX), hi = fmin(hi, FLT_MAX);
    if (!(lo <= hi)) return false;
    if (lo == 0 && hi == 6) return unary(w, n, DT_UNARY_RELU6, 0, 0);
    return unary(w, n, DT_UNARY_CLAMP, (float)lo, (float)hi);
}

/* ---- a gelu in parts ---- */

static const dt_onnx_node *node_at(const dt_low *w, int32_t i) {
    return i >= 0 ? &w->graph->node[i] : NULL;
}

/* The other operand of a function of two, whose one is `name`. */
static const char *beside(const dt_onnx_node *n, const char *name) {
    if (!n || n->n_in != 2) return "";
    return strcmp(n->in[0], name) == 0 ? n->in[1] : strcmp(n->in[1], name) == 0 ? n->in[0] : "";
}

static bool is_number(const dt_low *w, const char *name, float value) {
    const dt_lv *v = name[0] ? dt_low_find(w, name) : NULL;
    float is;
    return v && dt_low_uniform(v, &is) && fabsf(is - value) <= 1e-5f * fabsf(value);
}

static bool is_op(const dt_onnx_node *n, const char *op) {
    return n && strcmp(n->op, op) == 0 && n->n_out == 1;
}

/* x / sqrt(2) here: x (erf(x / sqrt(2)) + 1) / 2 in either order of its products, which PyTorch's exporters write. */
static bool lower_gelu_parts(dt_low *w, const dt_low_node *n, bool divides) {
    dt_lv *x = dt_low_in(n, 0);
    const float root = divides ? 1.41421356f : 0.707106781f;
    if (!x || dt_low_known(x) || !is_number(w, n->node->in[1], root)) return false;
    const int32_t erf = dt_low_reader(w, n->node->out[0]);
    if (!is_op(node_at(w, erf), "Erf")) return false;
    const int32_t add = dt_low_reader(w, node_at(w, erf)->out[0]);
    if (!is_op(node_at(w, add), "Add") || !is_number(w, beside(node_at(w, add), node_at(w, erf)->out[0]), 1))
        return false;
    const int32_t first = dt_low_reader(w, node_at(w, add)->out[0]);
    if (!is_op(node_at(w, first), "Mul")) return false;
    const int32_t second = dt_low_reader(w, node_at(w, first)->out[0]);
    if (!is_op(node_at(w, second), "Mul")) return false;
    const char *a = beside(node_at(w, first), node_at(w, add)->out[0]),
               *b = beside(node_at(w, second), node_at(w, first)->out[0]);
    const bool fits = (strcmp(a, x->name) == 0 && is_number(w, b, 0.5f)) ||
                      (strcmp(b, x->name) == 0 && is_number(w, a, 0.5f));
    if (!fits) return false;
    /* in the place of the last product, whose name it has */
    dt_lv *y = dt_low_out(n, 0);
    const bool last = dt_low_is_last(x);
    dt_low_set(w, y,
               dt_low_unary(w, node_at(w, second)->out[0], last ? dt_low_last(w, x) : dt_low_plain(w, x),
                            DT_UNARY_GELU, 0, 0),
               last);
    w->done[erf] = w->done[add] = w->done[first] = w->done[second] = true;
    dt_low_alias(w, node_at(w, second)->out[0], y);
    return true;
}

/* ---- two operands ---- */

/* The order in which values of one shape are taken together: with dimension 1 at the end where one that has it so would
 * otherwise have to be turned. */
static bool takes_last(const dt_low_node *n, const dt_lv *y) {
    bool last = false;
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->t.ndim == y->t.ndim && dt_low_is_last(n->in[i])) last = true;
    return last && y->t.ndim >= 3;
}

/* A table that is added is a place's, or a bias; such that hide something, and those that turn, are no weights. */
static bool is_trained(const dt_lv *v, dt_binary fn) {
    if (!dt_low_known(v) || !v->weight) return false;
    const int64_t n = dt_host_n_elem(&v->t);
    const float *x = v->t.data;
    int32_t wide = 0;
    for (int32_t i = 0; i < v->t.ndim; i++) wide += v->t.dim[i] > 1;
    if (n < 2) return false;
    if (wide > 1 && fn != DT_BINARY_ADD) return false;
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) < 1e3f)) return false;
    return fn == DT_BINARY_ADD || fn == DT_BINARY_MUL;
}

static dt_vid binary_of(dt_low *w, const char *name, dt_lv *a, dt_lv *b, int32_t ndim, bool last,
                        dt_binary fn) {
    const dt_vid va = dt_low_operand(w, a, ndim, last, is_trained(a, fn)),
                 vb = dt_low_operand(w, b, ndim, last, is_trained(b, fn));
    return dt_low_binary(w, name, va, vb, fn);
}

static bool binary(dt_low *w, const dt_low_node *n, dt_binary fn) {
    dt_lv *a = dt_low_in(n, 0), *b = dt_low_in(n, 1), *y = dt_low_out(n, 0);
    float all;
    if (!a || !b || !y || !dt_low_is_real(a) || !dt_low_is_real(b)) return false;
    const bool last = takes_last(n, y);
    /* by a number */
    const bool grows = dt_host_n_elem(&a->t) != dt_host_n_elem(&y->t);
    if (!grows && (fn == DT_BINARY_MUL || fn == DT_BINARY_DIV) && !dt_low_known(a) &&
        dt_low_uniform(b, &all) && dt_host_n_elem(&b->t) == 1 &&
        isfinite(fn == DT_BINARY_DIV ? 1 / all : all)) {
        const dt_vid x = last ? dt_low_last(w, a) : dt_low_plain(w, a);
        if (fn == DT_BINARY_MUL) {
            dt_low_set(w, y, dt_low_unary(w, y->name, x, DT_UNARY_SCALE, all, 0), last);
            return true;
        }
    }
    dt_low_set(w, y, binary_of(w, y->name, a, b, y->t.ndim, last, fn), last);
    return true;
}

static bool lower_add(dt_low *w, const dt_low_node *n) {
    return binary(w, n, DT_BINARY_ADD);
}
static bool lower_sub(dt_low *w, const dt_low_node *n) {
    return binary(w, n, DT_BINARY_SUB);
}

/* x and its sigmoid. */
static bool lower_mul(dt_low *w, const dt_low_node *n) {
    dt_lv *a = dt_low_in(n, 0), *b = dt_low_in(n, 1);
    if (a && b && dt_low_is_real(a) && lower_gelu_parts(w, n, false)) return true;
    return binary(w, n, DT_BINARY_MUL);
}
static bool lower_div(dt_low *w, const dt_low_node *n) {
    dt_lv *a = dt_low_in(n, 0), *b = dt_low_in(n, 1);
    if (a && b && dt_low_is_real(a) && lower_gelu_parts(w, n, true)) return true;
    return binary(w, n, DT_BINARY_DIV);
}

/* Of any number of operands, one after the other. */
static bool many(dt_low *w, const dt_low_node *n, dt_binary fn, bool mean) {
    dt_lv *y = dt_low_out(n, 0);
    if (!y || n->n_in < 1) return false;
    for (int32_t i = 0; i < n->n_in; i++)
        if (!n->in[i] || !dt_low_is_real(n->in[i])) return false;
    if (n->n_in == 1 && dt_host_n_elem(&n->in[0]->t) != dt_host_n_elem(&y->t)) return false;
    const bool last = takes_last(n, y);
    dt_vid v = dt_low_operand(w, n->in[0], y->t.ndim, last, false);
    for (int32_t i = 1; i < n->n_in; i++)
        v = dt_low_binary(w, y->name, v, dt_low_operand(w, n->in[i], y->t.ndim, last, false), fn);
    if (mean) v = dt_low_unary(w, y->name, v, DT_UNARY_SCALE, 1.0f / (float)n->n_in, 0);
    dt_low_set(w, y, v, last);
    return true;
}

static bool lower_min(dt_low *w, const dt_low_node *n) {
    return many(w, n, DT_BINARY_MIN, false);
}
static bool lower_max(dt_low *w, const dt_low_node *n) {
    return many(w, n, DT_BINARY_MAX, false);
}
static bool lower_sum(dt_low *w, const dt_low_node *n) {
    return many(w, n, DT_BINARY_ADD, false);
}
static bool lower_mean(dt_low *w, const dt_low_node *n) {
    return many(w, n, DT_BINARY_ADD, true);
}

static bool lower_pow(dt_low *w, const dt_low_node *n) {
    double p;
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!x || !y || !dt_low_in(n, 1) || !dt_low_scalar(n, 1, 0, &p) ||
        dt_host_n_elem(&x->t) != dt_host_n_elem(&y->t))
        return false;
    if (p == 2) return unary(w, n, DT_UNARY_SQUARE, 0, 0);
    if (p == 0.5) return unary(w, n, DT_UNARY_SQRT, 0, 0);
    if (p == -1) return unary(w, n, DT_UNARY_RECIPROCAL, 0, 0);
    if (p != 3 || !dt_low_is_real(x)) return false;
    const bool last = dt_low_is_last(x);
    const dt_vid v = last ? dt_low_last(w, x) : dt_low_plain(w, x);
    dt_low_set(
        w, y, dt_low_binary(w, y->name, dt_low_unary(w, y->name, v, DT_UNARY_SQUARE, 0, 0), v, DT_BINARY_MUL),
        last);
    return true;
}

/* max(x, 0) + slope min(x, 0) */
static bool lower_prelu(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *slope = dt_low_in(n, 1), *y = dt_low_out(n, 0);
    if (!x || !slope || !y || !dt_low_is_real(x)) return false;
    const bool last = dt_low_is_last(x);
    const dt_vid v = last ? dt_low_last(w, x) : dt_low_plain(w, x),
                 s = dt_low_operand(w, slope, y->t.ndim, last, true);
    const dt_vid high = dt_low_unary(w, y->name, v, DT_UNARY_RELU, 0, 0),
                 low = dt_low_binary(w, y->name, v, high, DT_BINARY_SUB);
    dt_low_set(
        w, y,
        dt_low_binary(w, y->name, high, dt_low_binary(w, y->name, low, s, DT_BINARY_MUL), DT_BINARY_ADD),
        last);
    return true;
}

/* ---- types and choices ---- */

static bool lower_cast(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!x || !y) return false;
    if (x->t.type == y->t.type) { /* f16 and bf16 are computed as f32 */
        dt_low_same(y, x);
        return true;
    }
    const bool whole = x->t.type == DT_TENSOR_I32 || x->t.type == DT_TENSOR_I64 ||
                       x->t.type == DT_TENSOR_U8 || x->t.type == DT_TENSOR_BOOL || x->t.type == DT_TENSOR_I8;
    if (!dt_low_is_real(y) || !whole || x->opaque) return false;
    dt_low_set(w, y, dt_low_cast(w, y->name, dt_low_plain(w, x), w->g->compute), false);
    return true;
}

/* The numbers of a known value, of infinite ones the largest, times m or 1 - m. */
static const float *masked(dt_low *w, const dt_lv *v, const float *m, int64_t n, bool rest) {
    float *out = dt_low_alloc(w, n * (int64_t)sizeof *out);
    const float *x = v->t.data;
    const int64_t one = dt_host_n_elem(&v->t) == 1;
    for (int64_t i = 0; out && i < n; i++) {
        const float value = fmaxf(fminf(x[one ? 0 : i], FLT_MAX), -FLT_MAX);
        out[i] = (rest ? m[i] == 0 : m[i] != 0) ? value : 0;
    }
    return out;
}

/* By a known mask, of which one part is a number: x m + number (1 - m). */
static bool where_known(dt_low *w, const dt_low_node *n) {
    dt_lv *c = n->in[0], *y = dt_low_out(n, 0);
    const bool rest = dt_low_known(n->in[2]);
    dt_lv *x = n->in[rest ? 1 : 2], *k = n->in[rest ? 2 : 1];
    const int64_t n_elem = dt_host_n_elem(&c->t);
    if (!dt_low_known(k) || dt_low_known(x) || dt_host_n_elem(&k->t) != 1 || c->rowwise ||
        dt_host_n_elem(&x->t) != dt_host_n_elem(&y->t))
        return false;
    float *m = dt_low_alloc(w, n_elem * (int64_t)sizeof *m);
    for (int64_t i = 0; m && i < n_elem; i++) m[i] = (dt_host_i64(&c->t, i) != 0) == rest ? 1 : 0;
    const float *fill = m ? masked(w, k, m, n_elem, true) : NULL;
    if (!fill) return true;
    char name[DT_NAME_MAX];
    snprintf(name, sizeof name, "%.60s/mask", c->name);
    const dt_vid mask = dt_low_param(w, name, m, c->t.ndim, c->t.dim, false, false);
    snprintf(name, sizeof name, "%.60s/fill", c->name);
    const dt_vid filled = dt_low_param(w, name, fill, c->t.ndim, c->t.dim, false, false);
    const dt_vid kept = dt_low_binary(w, y->name, dt_low_plain(w, x), mask, DT_BINARY_MUL);
    dt_low_set(w, y, dt_low_binary(w, y->name, kept, filled, DT_BINARY_ADD), false);
    return true;
}

/* By what is computed: a m + b (1 - m), where a call would have no gradient. */
static bool where_computed(dt_low *w, const dt_low_node *n) {
    dt_lv *c = n->in[0], *y = dt_low_out(n, 0);
    dt_vid part[2];
    if (!w->o->kernels || c->opaque) return false;
    const dt_vid m = dt_low_cast(w, y->name, dt_low_plain(w, c), w->g->compute);
    const dt_vid minus = dt_low_unary(w, y->name, m, DT_UNARY_NEG, 0, 0);
    float *one = dt_low_alloc(w, (int64_t)sizeof *one);
    if (!one) return true;
    *one = 1;
    const dt_vid rest = dt_low_binary(
        w, y->name, minus, dt_low_param(w, "one", one, 1, (int64_t[]){1}, false, false), DT_BINARY_ADD);
    for (int i = 0; i < 2; i++) {
        dt_lv *v = n->in[1 + i];
        float all;
        dt_vid x;
        if (dt_low_uniform(v, &all)) {
            float *number = dt_low_alloc(w, (int64_t)sizeof *number);
            char name[DT_NAME_MAX];
            if (!number) return true;
            *number = fmaxf(fminf(all, FLT_MAX), -FLT_MAX);
            snprintf(name, sizeof name, "%.60s/number", v->name);
            x = dt_low_param(w, name, number, 1, (int64_t[]){1}, false, false);
        } else {
            x = dt_low_plain(w, v);
        }
        part[i] = dt_low_binary(w, y->name, x, i == 0 ? m : rest, DT_BINARY_MUL);
    }
    dt_low_set(w, y, dt_low_binary(w, y->name, part[0], part[1], DT_BINARY_ADD), false);
    return true;
}

static const dt_onnx_node *maker_of(const dt_low *w, const char *name) {
    for (int32_t i = 0; i < w->graph->n_node; i++)
        for (int32_t k = 0; k < w->graph->node[i].n_out; k++)
            if (strcmp(w->graph->node[i].out[k], name) == 0) return &w->graph->node[i];
    return NULL;
}

/* A softmax, with something in the place of what is not a number: of rows that see nothing, which then stay so. */
static bool where_softmax(const dt_low *w, const dt_low_node *n) {
    const dt_onnx_node *is = maker_of(w, n->node->in[0]), *soft = maker_of(w, n->node->in[2]);
    return w->o->kernels && is_op(is, "IsNaN") && is_op(soft, "Softmax") &&
           strcmp(is->in[0], soft->out[0]) == 0 && n->in[2]->t.ndim == n->out[0]->t.ndim &&
           dt_host_n_elem(&n->in[2]->t) == dt_host_n_elem(&n->out[0]->t);
}

static bool lower_where(dt_low *w, const dt_low_node *n) {
    if (n->n_in != 3 || !n->in[0] || !n->in[1] || !n->in[2] || !n->out[0] || !dt_low_is_real(n->out[0]) ||
        dt_low_is_empty(n->out[0]))
        return false;
    if (where_softmax(w, n)) {
        dt_low_same(n->out[0], n->in[2]);
        return true;
    }
    return dt_low_known(n->in[0]) ? where_known(w, n) : where_computed(w, n);
}

static bool lower_identity(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    (void)w;
    if (!x || !y || dt_low_out(n, 1)) return false;
    dt_low_same(y, x);
    return true;
}

/* In evaluation nothing; in training as often as the file says. */
static bool lower_dropout(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    double rate;
    if (!x || !y || dt_low_out(n, 1) || !dt_low_is_real(x)) return false;
    if (!dt_low_scalar(n, 1, dt_onnx_attr_float(n->node, "ratio", 0.5f), &rate)) return false;
    if (!w->g->training || !(rate > 0 && rate < 1)) {
        dt_low_same(y, x);
        return true;
    }
    const bool last = dt_low_is_last(x);
    const dt_vid v = last ? dt_low_last(w, x) : dt_low_plain(w, x);
    const dt_attr t = {.dropout = {.p = (float)rate, .salt = (uint64_t)n->index}};
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_DROPOUT, &t, 1, &v), last);
    return true;
}

const dt_low_row dt_low_elementwise[] = {
    {"Relu", lower_relu},
    {"Sigmoid", lower_sigmoid},
    {"Tanh", lower_tanh},
    {"Softplus", lower_softplus},
    {"Mish", lower_mish},
    {"Exp", lower_exp},
    {"Log", lower_log},
    {"Sqrt", lower_sqrt},
    {"Neg", lower_neg},
    {"Abs", lower_abs},
    {"Reciprocal", lower_reciprocal},
    {"HardSwish", lower_hardswish},
    {"LeakyRelu", lower_leaky_relu},
    {"Elu", lower_elu},
    {"Selu", lower_selu},
    {"HardSigmoid", lower_hard_sigmoid},
    {"Gelu", lower_gelu},
    {"Swish", lower_swish},
    {"Clip", lower_clip},
    {"Add", lower_add},
    {"Sub", lower_sub},
    {"Mul", lower_mul},
    {"Div", lower_div},
    {"Min", lower_min},
    {"Max", lower_max},
    {"Sum", lower_sum},
    {"Mean", lower_mean},
    {"Pow", lower_pow},
    {"PRelu", lower_prelu},
    {"Cast", lower_cast},
    {"Where", lower_where},
    {"Identity", lower_identity},
    {"Dropout", lower_dropout},
    {NULL, NULL},
};

const dt_low_row dt_low_microsoft[] = {{"Gelu", lower_gelu}, {NULL, NULL}};
