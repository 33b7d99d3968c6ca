/* What layers are translated with. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "keras.h"

void dt_keras_refuse(dt_keras_call *c, const char *format, ...) {
    char reason[512];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    dt_onnx_draft_fail(c->d, "layer \"%s\" (%s): %s", c->name, c->type, reason);
}

/* ---- configuration ---- */

static const json_t *value_of(const dt_keras_call *c, const char *key) {
    const json_t *v = json_object_get(c->config, key);
    return json_is_null(v) ? NULL : v;
}

const char *dt_keras_word(const dt_keras_call *c, const char *key, const char *otherwise) {
    const char *word = json_string_value(value_of(c, key));
    return word ? word : otherwise;
}

double dt_keras_number(const dt_keras_call *c, const char *key, double otherwise) {
    const json_t *v = value_of(c, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

bool dt_keras_flag(const dt_keras_call *c, const char *key, bool otherwise) {
    const json_t *v = value_of(c, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

int64_t dt_keras_int(dt_keras_call *c, const char *key, int64_t otherwise) {
    int64_t out;
    dt_keras_ints(c, key, 1, otherwise, &out);
    return out;
}

void dt_keras_ints(dt_keras_call *c, const char *key, int32_t n, int64_t otherwise, int64_t *out) {
    enum { LARGE = 1 << 30 }; /* sums of a few fit everywhere */
    const json_t *v = value_of(c, key);
    for (int32_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, (size_t)i) : v;
        out[i] = json_is_integer(one) ? json_integer_value(one) : otherwise;
        const bool fits = out[i] > -LARGE && out[i] < LARGE;
        if ((v && !json_is_integer(one)) || (json_is_array(v) && json_array_size(v) != (size_t)n) || !fits) {
            dt_keras_refuse(c, "%s is not %d whole number%s", key, n, dt_plural(n));
            out[i] = otherwise;
        }
    }
}

/* ---- nodes ---- */

const char *dt_keras_op(dt_keras_call *c, const char *op, const char *const *in, int32_t n_in,
                        const dt_onnx_attr *attr, int32_t n_attr) {
    const char *name = NULL;
    if (c->d->status == DT_OK)
        name = dt_onnx_text(c->d->m, "%s/%s_%lld", c->scope, op, (long long)c->d->n_named++);
    return dt_onnx_draft_op(c->d, op, name, in, n_in, attr, n_attr);
}

const char *dt_keras_turn(dt_keras_call *c, const char *x, int32_t ndim, const int64_t *perm) {
    return dt_keras_op(c, "Transpose", DT_ONNX_IN(x), DT_ONNX_ATTR(dt_onnx_ints("perm", ndim, perm)));
}

const char *dt_keras_channels_first(dt_keras_call *c, const char *x, int32_t ndim) {
    int64_t perm[DT_MAX_DIM] = {0, ndim - 1};
    for (int32_t i = 2; i < ndim; i++) perm[i] = i - 1;
    return ndim > 2 ? dt_keras_turn(c, x, ndim, perm) : x;
}

const char *dt_keras_channels_last(dt_keras_call *c, const char *x, int32_t ndim) {
    int64_t perm[DT_MAX_DIM] = {0};
    for (int32_t i = 1; i < ndim; i++) perm[i] = i + 1 < ndim ? i + 1 : 1;
    return ndim > 2 ? dt_keras_turn(c, x, ndim, perm) : x;
}

void dt_keras_result(dt_keras_call *c, const char *x, int32_t ndim) {
    c->out[0] = (dt_keras_value){.name = x, .ndim = ndim};
    c->n_out = 1;
}

/* ---- functions ---- */

static const char *plain(dt_keras_call *c, const char *op, const char *x) {
    return dt_keras_op(c, op, DT_ONNX_IN(x), DT_ONNX_PLAIN);
}

static const char *clipped(dt_keras_call *c, const char *x, float low, float high) {
    const char *from = dt_onnx_draft_f32(c->d, low), *to = dt_onnx_draft_f32(c->d, high);
    return dt_keras_op(c, "Clip", DT_ONNX_IN(x, from, to), DT_ONNX_PLAIN);
}

static const char *hard_sigmoid(dt_keras_call *c, const char *x) {
    return dt_keras_op(c, "HardSigmoid", DT_ONNX_IN(x),
                       DT_ONNX_ATTR(dt_onnx_float("alpha", 1.0f / 6), dt_onnx_float("beta", 0.5f)));
}

const char *dt_keras_activation(dt_keras_call *c, const char *key, const char *x, int32_t ndim) {
    /* of one operand, by the name that ONNX has for it */
    static const char *const same[][2] = {
        {"relu", "Relu"},
        {"sigmoid", "Sigmoid"},
        {"tanh", "Tanh"},
        {"elu", "Elu"},
        {"selu", "Selu"},
        {"softplus", "Softplus"},
        {"softsign", "Softsign"},
        {"exponential", "Exp"},
        {"mish", "Mish"},
        {"gelu", "Gelu"},
        {"linear", "Identity"},
        {"hard_silu", "HardSwish"},
        {"hard_swish", "HardSwish"},
    };
    const json_t *v = value_of(c, key);
    const char *name =
        json_is_object(v) ? json_string_value(json_object_get(v, "config")) : json_string_value(v);
    if (!v || (name && strcmp(name, "linear") == 0)) return x;
    for (size_t i = 0; name && i < sizeof same / sizeof same[0]; i++)
        if (strcmp(name, same[i][0]) == 0) return plain(c, same[i][1], x);
    if (name && (strcmp(name, "softmax") == 0 || strcmp(name, "log_softmax") == 0))
        return dt_keras_op(c, name[0] == 's' ? "Softmax" : "LogSoftmax", DT_ONNX_IN(x),
                           DT_ONNX_ATTR(dt_onnx_int("axis", ndim - 1)));
    if (name && (strcmp(name, "swish") == 0 || strcmp(name, "silu") == 0)) {
        const char *gate = plain(c, "Sigmoid", x);
        return dt_keras_op(c, "Mul", DT_ONNX_IN(x, gate), DT_ONNX_PLAIN);
    }
    if (name && strcmp(name, "relu6") == 0) return clipped(c, x, 0, 6);
    if (name && strcmp(name, "hard_sigmoid") == 0) return hard_sigmoid(c, x);
    if (name && strcmp(name, "leaky_relu") == 0)
        return dt_keras_op(c, "LeakyRelu", DT_ONNX_IN(x), DT_ONNX_ATTR(dt_onnx_float("alpha", 0.2f)));
    dt_keras_refuse(c, "%s \"%s\" is not translated", key, name ? name : "of a class of its own");
    return "";
}
