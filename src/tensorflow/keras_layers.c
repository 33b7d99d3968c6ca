/* Layers of Keras, a function for each kind. Definitions: keras.layers of Keras 3; images N H W C. */
#include <math.h>
#include <string.h>

#include "keras.h"

/* ---- dense ---- */

static const char *with_bias(dt_keras_call *c, const char *x, int32_t nth) {
    if (!dt_keras_flag(c, "use_bias", true)) return x;
    const char *bias = dt_keras_weight(c, &(dt_keras_var_name){"bias", nth, NULL, NULL}, 1);
    return dt_keras_op(c, "Add", DT_ONNX_IN(x, bias), DT_ONNX_PLAIN);
}

static void make_dense(dt_keras_call *c) {
    const char *kernel = dt_keras_weight(c, &(dt_keras_var_name){"kernel", 0, NULL, NULL}, 2);
    const char *y = dt_keras_op(c, "MatMul", DT_ONNX_IN(c->in[0].name, kernel), DT_ONNX_PLAIN);
    y = dt_keras_activation(c, "activation", with_bias(c, y, 1), c->in[0].ndim);
    dt_keras_result(c, y, c->in[0].ndim);
}

static void make_embedding(dt_keras_call *c) {
    if (dt_keras_flag(c, "mask_zero", false))
        dt_keras_refuse(c, "mask_zero hides places from the layers behind, which is not translated");
    const char *table = dt_keras_weight(c, &(dt_keras_var_name){"embeddings", 0, NULL, NULL}, 2);
    const char *index = c->in[0].name;
    if (!c->in[0].index)
        index = dt_keras_op(c, "Cast", DT_ONNX_IN(index), DT_ONNX_ATTR(dt_onnx_int("to", 7))); /* INT64 */
    dt_keras_result(c, dt_keras_op(c, "Gather", DT_ONNX_IN(table, index), DT_ONNX_PLAIN), c->in[0].ndim + 1);
}

/* ---- windows ---- */

enum { SIDES = 3 };

typedef struct window {
    int32_t n; /* sides */
    bool last; /* channels are */
    int64_t size[SIDES], stride[SIDES], dilation[SIDES], pad[2 * SIDES];
    const char *padding;
} window;

static bool channels_last(dt_keras_call *c) {
    return strcmp(dt_keras_word(c, "data_format", "channels_last"), "channels_first") != 0;
}

static window read_window(dt_keras_call *c, const char *size, const char *stride) {
    window w = {
        .n = c->in[0].ndim - 2, .last = channels_last(c), .padding = dt_keras_word(c, "padding", "valid")};
    dt_keras_ints(c, size, w.n, 1, w.size);
    dt_keras_ints(c, "dilation_rate", w.n, 1, w.dilation);
    if (stride)
        dt_keras_ints(c, stride, w.n, 1, w.stride);
    else
        memcpy(w.stride, w.size, sizeof w.stride);
    if (strcmp(w.padding, "causal") == 0) w.pad[0] = (w.size[0] - 1) * w.dilation[0];
    bool ones = strcmp(w.padding, "same") == 0;
    for (int32_t i = 0; i < w.n; i++) ones = ones && w.stride[i] == 1;
    for (int32_t i = 0; ones && i < w.n; i++) { /* does not depend on the input's size, and may be dilated */
        const int64_t more = (w.size[i] - 1) * w.dilation[i];
        w.pad[i] = more / 2, w.pad[w.n + i] = more - more / 2;
    }
    if (ones) w.padding = "valid";
    return w;
}

static const char *opened(dt_keras_call *c, const window *w, const char *x) {
    return w->last ? dt_keras_channels_first(c, x, w->n + 2) : x;
}

static const char *closed(dt_keras_call *c, const window *w, const char *x) {
    return w->last ? dt_keras_channels_last(c, x, w->n + 2) : x;
}

/* "same" splits what is missing with the larger part behind, as ONNX's SAME_UPPER does. */
static dt_onnx_attr padding_of(const window *w) {
    if (strcmp(w->padding, "same") == 0) return dt_onnx_word("auto_pad", "SAME_UPPER");
    return dt_onnx_ints("pads", 2 * w->n, w->pad);
}

/* bias NULL: none. */
static const char *convolve(dt_keras_call *c, const window *w, const char *x, const char *kernel,
                            const char *bias, int64_t groups) {
    return dt_keras_op(c, "Conv", (const char *const[]){x, kernel, bias ? bias : ""}, bias ? 3 : 2,
                       DT_ONNX_ATTR(dt_onnx_ints("strides", w->n, w->stride),
                                    dt_onnx_ints("dilations", w->n, w->dilation), padding_of(w),
                                    dt_onnx_int("group", groups)));
}

static const char *bias_of(dt_keras_call *c, int32_t nth) {
    if (!dt_keras_flag(c, "use_bias", true)) return NULL;
    return dt_keras_weight(c, &(dt_keras_var_name){"bias", nth, NULL, NULL}, 1);
}

static void finish(dt_keras_call *c, const window *w, const char *y) {
    const int32_t ndim = w->n + 2;
    if (w->last) {
        dt_keras_result(c, dt_keras_activation(c, "activation", closed(c, w, y), ndim), ndim);
        return;
    }
    const char *function = dt_keras_word(c, "activation", "linear");
    if (strcmp(function, "softmax") == 0 || strcmp(function, "log_softmax") == 0)
        dt_keras_refuse(c, "%s with channels first", function);
    dt_keras_result(c, dt_keras_activation(c, "activation", y, ndim), ndim);
}

/* [sides..., C, K] as [K, C, sides...], or with `swap` as [C, K, sides...]. */
static const char *filters(dt_keras_call *c, const dt_keras_var_name *name, int32_t n, bool swap) {
    dt_keras_var v;
    int32_t perm[SIDES + 2] = {swap ? n : n + 1, swap ? n + 1 : n};
    for (int32_t i = 0; i < n; i++) perm[2 + i] = i;
    if (!dt_keras_read_var(c, name, n + 2, &v)) return "";
    dt_keras_permute(c, &v, perm);
    return dt_keras_constant(c, name->name, &v);
}

static void make_conv(dt_keras_call *c) {
    const window w = read_window(c, "kernel_size", "strides");
    const char *kernel = filters(c, &(dt_keras_var_name){"kernel", 0, NULL, NULL}, w.n, false);
    finish(
        c, &w,
        convolve(c, &w, opened(c, &w, c->in[0].name), kernel, bias_of(c, 1), dt_keras_int(c, "groups", 1)));
}

/* [sides..., C, M] as M filters for each channel, one channel each. */
static const char *depth_filters(dt_keras_call *c, const dt_keras_var_name *name, int32_t n,
                                 int64_t *groups) {
    dt_keras_var v;
    int32_t perm[SIDES + 2] = {n, n + 1};
    for (int32_t i = 0; i < n; i++) perm[2 + i] = i;
    *groups = 1;
    if (!dt_keras_read_var(c, name, n + 2, &v)) return "";
    dt_keras_permute(c, &v, perm);
    *groups = v.dim[0];
    v.dim[0] *= v.dim[1], v.dim[1] = 1;
    return dt_keras_constant(c, name->name, &v);
}

static void make_depthwise(dt_keras_call *c) {
    const window w = read_window(c, "kernel_size", "strides");
    const dt_keras_var_name older = {"depthwise_kernel", 0, NULL, NULL}, newer = {"kernel", 0, NULL, NULL};
    int64_t groups;
    const char *kernel = depth_filters(c, dt_keras_has_var(c, &older) ? &older : &newer, w.n, &groups);
    finish(c, &w, convolve(c, &w, opened(c, &w, c->in[0].name), kernel, bias_of(c, 1), groups));
}

static void make_separable(dt_keras_call *c) {
    const window w = read_window(c, "kernel_size", "strides");
    const window one = {.n = w.n, .stride = {1, 1, 1}, .dilation = {1, 1, 1}, .padding = "valid"};
    int64_t groups;
    const char *depth =
        depth_filters(c, &(dt_keras_var_name){"depthwise_kernel", 0, NULL, NULL}, w.n, &groups);
    const char *point = filters(c, &(dt_keras_var_name){"pointwise_kernel", 1, NULL, NULL}, w.n, false);
    const char *x = convolve(c, &w, opened(c, &w, c->in[0].name), depth, NULL, groups);
    finish(c, &w, convolve(c, &one, x, point, bias_of(c, 2), 1));
}

static void make_conv_transpose(dt_keras_call *c) {
    window w = read_window(c, "kernel_size", "strides");
    int64_t output_pad[SIDES] = {0};
    const bool same = strcmp(w.padding, "same") == 0;
    if (json_is_integer(json_object_get(c->config, "output_padding")) ||
        json_is_array(json_object_get(c->config, "output_padding")))
        dt_keras_refuse(c, "output_padding is not translated");
    for (int32_t i = 0; i < w.n; i++) { /* a result of stride times the input's size */
        const int64_t extent = (w.size[i] - 1) * w.dilation[i] + 1, more = extent - w.stride[i];
        if (more < 0) output_pad[i] = -more;
        if (same && more > 0) w.pad[i] = more / 2, w.pad[w.n + i] = more - more / 2;
    }
    w.padding = "valid";
    const char *kernel = filters(c, &(dt_keras_var_name){"kernel", 0, NULL, NULL}, w.n, false),
               *bias = bias_of(c, 1);
    const char *y = dt_keras_op(
        c, "ConvTranspose", (const char *const[]){opened(c, &w, c->in[0].name), kernel, bias ? bias : ""},
        bias ? 3 : 2,
        DT_ONNX_ATTR(dt_onnx_ints("strides", w.n, w.stride), dt_onnx_ints("dilations", w.n, w.dilation),
                     dt_onnx_ints("pads", 2 * w.n, w.pad), dt_onnx_ints("output_padding", w.n, output_pad)));
    finish(c, &w, y);
}

static void pool(dt_keras_call *c, const char *op) {
    window w =
        read_window(c, "pool_size", json_is_null(json_object_get(c->config, "strides")) ? NULL : "strides");
    const char *y = dt_keras_op(c, op, DT_ONNX_IN(opened(c, &w, c->in[0].name)),
                                DT_ONNX_ATTR(dt_onnx_ints("kernel_shape", w.n, w.size),
                                             dt_onnx_ints("strides", w.n, w.stride), padding_of(&w)));
    dt_keras_result(c, closed(c, &w, y), w.n + 2);
}

static void make_maxpool(dt_keras_call *c) {
    pool(c, "MaxPool");
}

static void make_avgpool(dt_keras_call *c) {
    pool(c, "AveragePool");
}

static void global_pool(dt_keras_call *c, const char *op) {
    const bool last = channels_last(c), keep = dt_keras_flag(c, "keepdims", false);
    const int32_t n = c->in[0].ndim - 2;
    int64_t axis[SIDES];
    for (int32_t i = 0; i < n; i++) axis[i] = i + (last ? 1 : 2);
    const char *axes = dt_onnx_draft_i64s(c->d, n, axis);
    const char *y =
        dt_keras_op(c, op, DT_ONNX_IN(c->in[0].name, axes), DT_ONNX_ATTR(dt_onnx_int("keepdims", keep)));
    dt_keras_result(c, y, keep ? n + 2 : 2);
}

static void make_global_maxpool(dt_keras_call *c) {
    global_pool(c, "ReduceMax");
}

static void make_global_avgpool(dt_keras_call *c) {
    global_pool(c, "ReduceMean");
}

static void make_upsampling(dt_keras_call *c) {
    const int32_t ndim = c->in[0].ndim, n = ndim - 2;
    const window w = {.n = n, .last = channels_last(c)};
    int64_t size[SIDES];
    float scale[SIDES + 2] = {1, 1};
    const char *how = dt_keras_word(c, "interpolation", "nearest");
    dt_keras_ints(c, "size", n, 2, size);
    for (int32_t i = 0; i < n; i++) scale[2 + i] = (float)size[i];
    if (strcmp(how, "nearest") != 0 && strcmp(how, "bilinear") != 0)
        dt_keras_refuse(c, "interpolation \"%s\" is not translated", how);
    const char *scales = dt_onnx_draft_constant(c->d, NULL, DT_TENSOR_F32, 1, &(int64_t){ndim}, scale, false);
    const bool nearest = strcmp(how, "nearest") == 0;
    const char *y = dt_keras_op(
        c, "Resize", DT_ONNX_IN(opened(c, &w, c->in[0].name), "", scales),
        DT_ONNX_ATTR(dt_onnx_word("mode", nearest ? "nearest" : "linear"),
                     dt_onnx_word("coordinate_transformation_mode", nearest ? "asymmetric" : "half_pixel"),
                     dt_onnx_word("nearest_mode", "floor")));
    dt_keras_result(c, closed(c, &w, y), ndim);
}

/* Numbers before and behind of each side: one for all, one for each side, or pairs. */
static void read_margins(dt_keras_call *c, const char *key, int32_t n, int64_t begin[SIDES],
                         int64_t end[SIDES]) {
    const json_t *v = json_object_get(c->config, key);
    const bool one_side = n == 1 && json_array_size(v) == 2; /* 1-D: (left, right) */
    for (int32_t i = 0; i < n; i++) {
        const json_t *side = one_side || !json_is_array(v) ? v : json_array_get(v, (size_t)i);
        const json_t *a = json_is_array(side) ? json_array_get(side, 0) : side;
        const json_t *b = json_is_array(side) ? json_array_get(side, 1) : side;
        begin[i] = json_integer_value(a), end[i] = json_integer_value(b);
        if (!json_is_integer(a) || !json_is_integer(b) || begin[i] < 0 || end[i] < 0 || begin[i] > 1 << 20 ||
            end[i] > 1 << 20)
            dt_keras_refuse(c, "%s is not of whole numbers", key);
    }
}

static void make_zero_padding(dt_keras_call *c) {
    const int32_t ndim = c->in[0].ndim, n = ndim - 2, at = channels_last(c) ? 1 : 2;
    int64_t begin[SIDES], end[SIDES], pads[2 * DT_MAX_DIM] = {0};
    read_margins(c, "padding", n, begin, end);
    for (int32_t i = 0; i < n; i++) pads[at + i] = begin[i], pads[ndim + at + i] = end[i];
    const char *list = dt_onnx_draft_i64s(c->d, 2 * ndim, pads);
    dt_keras_result(c, dt_keras_op(c, "Pad", DT_ONNX_IN(c->in[0].name, list), DT_ONNX_PLAIN), ndim);
}

static void make_cropping(dt_keras_call *c) {
    const int32_t ndim = c->in[0].ndim, n = ndim - 2, at = channels_last(c) ? 1 : 2;
    int64_t begin[SIDES], end[SIDES], axis[SIDES];
    read_margins(c, "cropping", n, begin, end);
    for (int32_t i = 0; i < n; i++) {
        axis[i] = at + i;
        end[i] = end[i] > 0 ? -end[i] : INT64_MAX;
    }
    const char *from = dt_onnx_draft_i64s(c->d, n, begin), *to = dt_onnx_draft_i64s(c->d, n, end),
               *axes = dt_onnx_draft_i64s(c->d, n, axis);
    dt_keras_result(c, dt_keras_op(c, "Slice", DT_ONNX_IN(c->in[0].name, from, to, axes), DT_ONNX_PLAIN),
                    ndim);
}

/* ---- norms ---- */

/* The one axis of the configuration, from 0 on. */
static int64_t axis_of(dt_keras_call *c, int64_t otherwise) {
    const json_t *v = json_object_get(c->config, "axis");
    if (json_is_array(v) && json_array_size(v) == 1) v = json_array_get(v, 0);
    int64_t axis = json_is_integer(v) ? json_integer_value(v) : otherwise;
    if ((json_is_array(v) && json_array_size(v) != 1) || axis < -c->in[0].ndim || axis >= c->in[0].ndim)
        dt_keras_refuse(c, "axis is not one of %d dimensions", c->in[0].ndim);
    return axis < 0 ? axis + c->in[0].ndim : axis;
}

/* Ones or zeros where the layer has no such variable; *nth counts those that it has. */
static const char *scale_of(dt_keras_call *c, const char *key, const char *name, float otherwise, int64_t n,
                            int32_t *nth) {
    if (dt_keras_flag(c, key, true))
        return dt_keras_weight(c, &(dt_keras_var_name){name, (*nth)++, NULL, NULL}, 1);
    dt_keras_var v = {.ndim = 1, .dim = {n}, .n_elem = n};
    v.data = c->d->status == DT_OK ? dt_onnx_alloc(c->d->m, n * (int64_t)sizeof(float)) : NULL;
    for (int64_t i = 0; v.data && i < n; i++) v.data[i] = otherwise;
    return v.data ? dt_keras_constant(c, name, &v) : "";
}

static void make_batchnorm(dt_keras_call *c) {
    const int32_t ndim = c->in[0].ndim;
    const int64_t axis = axis_of(c, -1);
    const bool last = axis == ndim - 1 && ndim > 2;
    if (axis != 1 && axis != ndim - 1)
        dt_keras_refuse(c, "axis %lld is neither the first nor the last", (long long)axis);
    int32_t nth = dt_keras_flag(c, "scale", true) + dt_keras_flag(c, "center", true);
    dt_keras_var mean, var;
    if (!dt_keras_read_var(c, &(dt_keras_var_name){"moving_mean", nth, NULL, NULL}, 1, &mean) ||
        !dt_keras_read_var(c, &(dt_keras_var_name){"moving_variance", nth + 1, NULL, NULL}, 1, &var))
        return;
    nth = 0;
    const char *gamma = scale_of(c, "scale", "gamma", 1, mean.n_elem, &nth);
    const char *beta = scale_of(c, "center", "beta", 0, mean.n_elem, &nth);
    const char *x = last ? dt_keras_channels_first(c, c->in[0].name, ndim) : c->in[0].name;
    const char *y =
        dt_keras_op(c, "BatchNormalization",
                    DT_ONNX_IN(x, gamma, beta, dt_keras_constant(c, "moving_mean", &mean),
                               dt_keras_constant(c, "moving_variance", &var)),
                    DT_ONNX_ATTR(dt_onnx_float("epsilon", (float)dt_keras_number(c, "epsilon", 1e-3)),
                                 dt_onnx_float("momentum", (float)dt_keras_number(c, "momentum", 0.99))));
    dt_keras_result(c, last ? dt_keras_channels_last(c, y, ndim) : y, ndim);
}

static void make_layernorm(dt_keras_call *c) {
    const int32_t ndim = c->in[0].ndim;
    if (axis_of(c, -1) != ndim - 1) dt_keras_refuse(c, "only the last axis is translated");
    if (dt_keras_flag(c, "rms_scaling", false)) dt_keras_refuse(c, "rms_scaling is not translated");
    if (!dt_keras_flag(c, "scale", true)) dt_keras_refuse(c, "without scale it is not translated");
    int32_t nth = 0;
    const char *gamma = dt_keras_weight(c, &(dt_keras_var_name){"gamma", nth++, NULL, NULL}, 1);
    const bool center = dt_keras_flag(c, "center", true);
    const char *beta = center ? dt_keras_weight(c, &(dt_keras_var_name){"beta", nth, NULL, NULL}, 1) : "";
    const char *y = dt_keras_op(
        c, "LayerNormalization", (const char *const[]){c->in[0].name, gamma, beta}, center ? 3 : 2,
        DT_ONNX_ATTR(dt_onnx_int("axis", -1),
                     dt_onnx_float("epsilon", (float)dt_keras_number(c, "epsilon", 1e-3))));
    dt_keras_result(c, y, ndim);
}

/* x * a + b of numbers that the configuration has, one or a list along the last dimension. */
static const char *number_constant(dt_keras_call *c, const char *key, float otherwise) {
    const json_t *v = json_object_get(c->config, key);
    const int64_t n = json_is_array(v) ? (int64_t)json_array_size(v) : 1;
    float *data = c->d->status == DT_OK ? dt_onnx_alloc(c->d->m, n * (int64_t)sizeof *data) : NULL;
    for (int64_t i = 0; data && i < n; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, (size_t)i) : v;
        if (v && !json_is_number(one)) dt_keras_refuse(c, "%s is not of numbers", key);
        data[i] = v ? (float)json_number_value(one) : otherwise;
    }
    if (!data) return "";
    return dt_onnx_draft_constant(c->d, NULL, DT_TENSOR_F32, json_is_array(v) ? 1 : 0, &n, data, true);
}

static void make_rescaling(dt_keras_call *c) {
    const char *scale = number_constant(c, "scale", 1), *offset = number_constant(c, "offset", 0);
    const char *x =
        dt_keras_op(c, "Cast", DT_ONNX_IN(c->in[0].name), DT_ONNX_ATTR(dt_onnx_int("to", 1))); /* FLOAT */
    const char *y = dt_keras_op(c, "Mul", DT_ONNX_IN(x, scale), DT_ONNX_PLAIN);
    dt_keras_result(c, dt_keras_op(c, "Add", DT_ONNX_IN(y, offset), DT_ONNX_PLAIN), c->in[0].ndim);
}

/* Numbers of the configuration, one for each channel. */
static bool read_numbers(dt_keras_call *c, const char *key, dt_keras_var *out) {
    const json_t *v = json_object_get(c->config, key);
    while (json_is_array(v) && json_is_array(json_array_get(v, 0))) v = json_array_get(v, 0); /* [[[...]]] */
    const int64_t n = json_is_array(v) ? (int64_t)json_array_size(v) : json_is_number(v);
    *out = (dt_keras_var){.ndim = 1, .dim = {n}, .n_elem = n};
    if (n == 0 || c->d->status != DT_OK) return false;
    out->data = dt_onnx_alloc(c->d->m, n * (int64_t)sizeof(float));
    for (int64_t i = 0; out->data && i < n; i++)
        out->data[i] = (float)json_number_value(json_is_array(v) ? json_array_get(v, (size_t)i) : v);
    return out->data != NULL;
}

/* (x - mean) / deviation along the last dimension, of numbers that were given or counted before training. */
static void make_normalization(dt_keras_call *c) {
    const float least = 1e-7f;
    dt_keras_var mean, variance;
    if (axis_of(c, -1) != c->in[0].ndim - 1 || dt_keras_flag(c, "invert", false))
        dt_keras_refuse(c, "only along the last axis, and not inverted, it is translated");
    if (!(read_numbers(c, "mean", &mean) && read_numbers(c, "variance", &variance)) &&
        (!dt_keras_read_var(c, &(dt_keras_var_name){"mean", 0, NULL, NULL}, 1, &mean) ||
         !dt_keras_read_var(c, &(dt_keras_var_name){"variance", 1, NULL, NULL}, 1, &variance)))
        return;
    for (int64_t i = 0; i < variance.n_elem; i++) variance.data[i] = fmaxf(sqrtf(variance.data[i]), least);
    const char *middle = dt_keras_constant(c, "mean", &mean),
               *deviation = dt_keras_constant(c, "deviation", &variance);
    const char *y = dt_keras_op(c, "Sub", DT_ONNX_IN(c->in[0].name, middle), DT_ONNX_PLAIN);
    dt_keras_result(c, dt_keras_op(c, "Div", DT_ONNX_IN(y, deviation), DT_ONNX_PLAIN), c->in[0].ndim);
}

/* ---- functions ---- */

static void make_activation(dt_keras_call *c) {
    dt_keras_result(c, dt_keras_activation(c, "activation", c->in[0].name, c->in[0].ndim), c->in[0].ndim);
}

static void make_same(dt_keras_call *c) {
    dt_keras_result(c, c->in[0].name, c->in[0].ndim);
}

static void make_relu(dt_keras_call *c) {
    const double slope = dt_keras_number(c, "negative_slope", 0),
                 top = dt_keras_number(c, "max_value", INFINITY);
    if (dt_keras_number(c, "threshold", 0) != 0) dt_keras_refuse(c, "a threshold is not translated");
    const char *y = dt_keras_op(
        c, slope == 0 ? "Relu" : "LeakyRelu", DT_ONNX_IN(c->in[0].name),
        DT_ONNX_ATTR(
            {.name = slope == 0 ? NULL : "alpha", .kind = DT_ONNX_FLOAT, .n = 1, .f = (float)slope}));
    if (top < INFINITY) {
        const char *most = dt_onnx_draft_f32(c->d, (float)top);
        y = dt_keras_op(c, "Clip", DT_ONNX_IN(y, "", most), DT_ONNX_PLAIN);
    }
    dt_keras_result(c, y, c->in[0].ndim);
}

static void sloped(dt_keras_call *c, const char *op, float slope) {
    const char *y =
        dt_keras_op(c, op, DT_ONNX_IN(c->in[0].name), DT_ONNX_ATTR(dt_onnx_float("alpha", slope)));
    dt_keras_result(c, y, c->in[0].ndim);
}

static void make_leaky_relu(dt_keras_call *c) { /* Keras 2 calls it alpha */
    sloped(c, "LeakyRelu", (float)dt_keras_number(c, "negative_slope", dt_keras_number(c, "alpha", 0.3)));
}

static void make_elu(dt_keras_call *c) {
    sloped(c, "Elu", (float)dt_keras_number(c, "alpha", 1));
}

static void make_prelu(dt_keras_call *c) {
    const char *slope = dt_keras_weight(c, &(dt_keras_var_name){"alpha", 0, NULL, NULL}, c->in[0].ndim - 1);
    const char *y = dt_keras_op(c, "PRelu", DT_ONNX_IN(c->in[0].name, slope), DT_ONNX_PLAIN);
    dt_keras_result(c, y, c->in[0].ndim);
}

static void make_softmax(dt_keras_call *c) {
    const char *y = dt_keras_op(c, "Softmax", DT_ONNX_IN(c->in[0].name),
                                DT_ONNX_ATTR(dt_onnx_int("axis", axis_of(c, -1))));
    dt_keras_result(c, y, c->in[0].ndim);
}

/* ---- shapes ---- */

static void make_flatten(dt_keras_call *c) {
    const char *x = c->in[0].name;
    if (!channels_last(c))
        x = dt_keras_channels_last(c, x, c->in[0].ndim); /* it is flattened as if they were */
    dt_keras_result(c, dt_keras_op(c, "Flatten", DT_ONNX_IN(x), DT_ONNX_PLAIN), 2);
}

static void make_reshape(dt_keras_call *c) {
    const json_t *v = json_object_get(c->config, "target_shape");
    const int32_t n = (int32_t)json_array_size(v);
    int64_t shape[DT_MAX_DIM] = {0}; /* the batch as it is */
    if (!json_is_array(v) || n > DT_MAX_DIM - 1) {
        dt_keras_refuse(c, "target_shape is no shape");
        return;
    }
    dt_keras_ints(c, "target_shape", n, -1, shape + 1);
    const char *to = dt_onnx_draft_i64s(c->d, n + 1, shape);
    dt_keras_result(c, dt_keras_op(c, "Reshape", DT_ONNX_IN(c->in[0].name, to), DT_ONNX_PLAIN), n + 1);
}

static void make_permute(dt_keras_call *c) {
    int64_t perm[DT_MAX_DIM] = {0};
    dt_keras_ints(c, "dims", c->in[0].ndim - 1, 1, perm + 1);
    for (int32_t i = 1; i < c->in[0].ndim; i++)
        if (perm[i] < 1 || perm[i] >= c->in[0].ndim) dt_keras_refuse(c, "dims is no order of the dimensions");
    dt_keras_result(c, dt_keras_turn(c, c->in[0].name, c->in[0].ndim, perm), c->in[0].ndim);
}

static void make_repeat(dt_keras_call *c) {
    const char *axis = dt_onnx_draft_i64s(c->d, 1, &(int64_t){1});
    const char *times = dt_onnx_draft_i64s(c->d, 3, (const int64_t[]){1, dt_keras_int(c, "n", 1), 1});
    const char *y = dt_keras_op(c, "Unsqueeze", DT_ONNX_IN(c->in[0].name, axis), DT_ONNX_PLAIN);
    dt_keras_result(c, dt_keras_op(c, "Tile", DT_ONNX_IN(y, times), DT_ONNX_PLAIN), 3);
}

/* ---- of several ---- */

/* Two and two: the result has as many dimensions as the larger. */
static void fold(dt_keras_call *c, const char *op) {
    const char *y = c->in[0].name;
    int32_t ndim = c->in[0].ndim;
    for (int32_t i = 1; i < c->n_in; i++) {
        y = dt_keras_op(c, op, DT_ONNX_IN(y, c->in[i].name), DT_ONNX_PLAIN);
        if (c->in[i].ndim > ndim) ndim = c->in[i].ndim;
    }
    dt_keras_result(c, y, ndim);
}

static void make_add(dt_keras_call *c) {
    fold(c, "Add");
}

static void make_subtract(dt_keras_call *c) {
    fold(c, "Sub");
}

static void make_multiply(dt_keras_call *c) {
    fold(c, "Mul");
}

static void make_divide(dt_keras_call *c) {
    fold(c, "Div");
}

static void make_maximum(dt_keras_call *c) {
    fold(c, "Max");
}

static void make_minimum(dt_keras_call *c) {
    fold(c, "Min");
}

static void make_average(dt_keras_call *c) {
    fold(c, "Add");
    const char *n = dt_onnx_draft_f32(c->d, (float)c->n_in);
    c->out[0].name = dt_keras_op(c, "Div", DT_ONNX_IN(c->out[0].name, n), DT_ONNX_PLAIN);
}

static void make_concat(dt_keras_call *c) {
    const char *in[DT_KERAS_VALUES];
    for (int32_t i = 0; i < c->n_in; i++) in[i] = c->in[i].name;
    const char *y = dt_keras_op(c, "Concat", in, c->n_in, DT_ONNX_ATTR(dt_onnx_int("axis", axis_of(c, -1))));
    dt_keras_result(c, y, c->in[0].ndim);
}

const dt_keras_layer dt_keras_layers[] = {
    {"Dense", 0, make_dense},
    {"Embedding", 0, make_embedding},
    {"Conv1D", 3, make_conv},
    {"Conv2D", 4, make_conv},
    {"Conv3D", 5, make_conv},
    {"DepthwiseConv1D", 3, make_depthwise},
    {"DepthwiseConv2D", 4, make_depthwise},
    {"SeparableConv1D", 3, make_separable},
    {"SeparableConv2D", 4, make_separable},
    {"Conv1DTranspose", 3, make_conv_transpose},
    {"Conv2DTranspose", 4, make_conv_transpose},
    {"MaxPooling1D", 3, make_maxpool},
    {"MaxPooling2D", 4, make_maxpool},
    {"MaxPooling3D", 5, make_maxpool},
    {"AveragePooling1D", 3, make_avgpool},
    {"AveragePooling2D", 4, make_avgpool},
    {"AveragePooling3D", 5, make_avgpool},
    {"GlobalMaxPooling1D", 3, make_global_maxpool},
    {"GlobalMaxPooling2D", 4, make_global_maxpool},
    {"GlobalMaxPooling3D", 5, make_global_maxpool},
    {"GlobalAveragePooling1D", 3, make_global_avgpool},
    {"GlobalAveragePooling2D", 4, make_global_avgpool},
    {"GlobalAveragePooling3D", 5, make_global_avgpool},
    {"UpSampling1D", 3, make_upsampling},
    {"UpSampling2D", 4, make_upsampling},
    {"ZeroPadding1D", 3, make_zero_padding},
    {"ZeroPadding2D", 4, make_zero_padding},
    {"ZeroPadding3D", 5, make_zero_padding},
    {"Cropping1D", 3, make_cropping},
    {"Cropping2D", 4, make_cropping},
    {"Cropping3D", 5, make_cropping},
    {"BatchNormalization", 0, make_batchnorm},
    {"LayerNormalization", 0, make_layernorm},
    {"Rescaling", 0, make_rescaling},
    {"Normalization", 0, make_normalization},
    {"Activation", 0, make_activation},
    {"ReLU", 0, make_relu},
    {"LeakyReLU", 0, make_leaky_relu},
    {"ELU", 0, make_elu},
    {"PReLU", 0, make_prelu},
    {"Softmax", 0, make_softmax},
    /* these do something in training alone */
    {"Dropout", 0, make_same},
    {"SpatialDropout1D", 0, make_same},
    {"SpatialDropout2D", 0, make_same},
    {"SpatialDropout3D", 0, make_same},
    {"AlphaDropout", 0, make_same},
    {"GaussianDropout", 0, make_same},
    {"GaussianNoise", 0, make_same},
    {"ActivityRegularization", 0, make_same},
    {"RandomFlip", 0, make_same},
    {"RandomRotation", 0, make_same},
    {"RandomZoom", 0, make_same},
    {"RandomTranslation", 0, make_same},
    {"RandomContrast", 0, make_same},
    {"Identity", 0, make_same},
    {"Flatten", 0, make_flatten},
    {"Reshape", 0, make_reshape},
    {"Permute", 0, make_permute},
    {"RepeatVector", 2, make_repeat},
    {"Add", 0, make_add},
    {"Subtract", 0, make_subtract},
    {"Multiply", 0, make_multiply},
    {"Divide", 0, make_divide},
    {"TrueDivide", 0, make_divide},
    {"Maximum", 0, make_maximum},
    {"Minimum", 0, make_minimum},
    {"Average", 0, make_average},
    {"Concatenate", 0, make_concat},
    {.type = NULL},
};
