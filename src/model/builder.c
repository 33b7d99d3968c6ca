/* Layer helpers over dt_graph_add_value and dt_graph_add_node. */
#include "model/builder.h"

#include <stdio.h>
#include <string.h>

#include "core/mix.h"
#include "core/op.h"

/* "<name>.<suffix>". */
static const char *joined(char *text, const char *name, const char *suffix) {
    snprintf(text, DT_NAME_MAX, "%s.%s", name, suffix);
    return text;
}

static dt_vid add_value(dt_builder *b, const char *name, const char *suffix, dt_role role, dt_dtype dtype,
                        int32_t ndim, const int64_t *dim) {
    char full[DT_NAME_MAX];
    dt_vid id = -1;
    if (b->status == DT_OK)
        b->status = dt_graph_add_value(b->g, joined(full, name, suffix), role, dtype, ndim, dim, &id);
    return b->status == DT_OK ? id : -1;
}

dt_vid dt_build_op(dt_builder *b, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                   const dt_vid *in) {
    dt_vid out = -1;
    if (b->status == DT_OK) b->status = dt_graph_add_node(b->g, name, op, attr, n_in, in, &out);
    return b->status == DT_OK ? out : -1;
}

static dt_vid add_input(dt_builder *b, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim) {
    dt_vid id = -1;
    if (b->status == DT_OK) b->status = dt_graph_add_value(b->g, name, DT_ROLE_INPUT, dtype, ndim, dim, &id);
    return b->status == DT_OK ? id : -1;
}

dt_vid dt_build_image(dt_builder *b, const dt_model_input *in) {
    const int64_t n = in->batch, h = in->source_crop ? in->src_height : in->height,
                  w = in->source_crop ? in->src_width : in->width;
    b->rows = n;
    const dt_vid image = add_input(b, "image", DT_DTYPE_U8, 4, (int64_t[]){n, h, w, in->channels});
    const dt_vid aug = in->source_crop ? add_input(b, "aug", DT_DTYPE_I32, 2, (int64_t[]){n, 8}) : -1;
    const dt_vid mix = in->mix_rows ? add_input(b, "mix", DT_DTYPE_I32, 2, (int64_t[]){n, DT_MIX_INTS}) : -1;
    dt_attr t = {.input.size = {(int32_t)in->height, (int32_t)in->width},
                 .input.padded_c = (int32_t)in->padded_channels};
    memcpy(t.input.mean, in->mean, sizeof t.input.mean);
    memcpy(t.input.stddev, in->stddev, sizeof t.input.stddev);
    return dt_build_op(b, "input", DT_OP_INPUT, &t, 3, (dt_vid[]){image, aug, mix});
}

/* Channels that carry data: those of the stored image at the input, all of them elsewhere. */
static int64_t real_channels(const dt_builder *b, dt_vid x) {
    const dt_value *v = &b->g->value[x];
    if (v->producer >= 0 && b->g->node[v->producer].op == DT_OP_INPUT)
        return b->g->value[b->g->node[v->producer].in[DT_INPUT_IMAGE]].dim[3];
    return v->dim[v->ndim - 1];
}

static dt_vid add_bias(dt_builder *b, const char *name, int64_t n, int64_t fan_in) {
    dt_vid bias = add_value(b, name, "bias", DT_ROLE_PARAM, DT_DTYPE_F32, 1, &n);
    if (bias < 0) return -1;
    b->g->value[bias].init = DT_INIT_UNIFORM_FAN_IN;
    b->g->value[bias].fan_in = fan_in;
    return bias;
}

dt_vid dt_build_conv(dt_builder *b, const char *name, dt_vid x, const dt_conv2d_options *o) {
    if (b->status != DT_OK) return -1;
    const dt_value xv = b->g->value[x];
    const int64_t dilation = o->dilation > 0 ? o->dilation : 1, stride = o->stride > 0 ? o->stride : 1;
    const int64_t pad = o->pad >= 0 ? o->pad : (o->kernel - 1) * dilation / 2;
    int64_t groups = o->groups > 0 ? o->groups : 1, c = xv.dim[xv.ndim - 1], real = real_channels(b, x);
    if (xv.ndim != 4) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (conv): its input is %s, not an image N H W C", name,
                            dt_value_shape_text(&xv));
        return -1;
    }
    if (c % groups || o->channels % groups) {
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s (conv): groups %lld does not divide %lld input and %lld output channels",
                            name, (long long)groups, (long long)c, (long long)o->channels);
        return -1;
    }
    const int64_t dim[] = {o->channels, o->kernel, o->kernel, c / groups};
    dt_vid w = add_value(b, name, "weight", DT_ROLE_PARAM, b->g->compute, 4, dim);
    if (w < 0) return -1;
    dt_value *wv = &b->g->value[w];
    wv->init = DT_INIT_KAIMING_NORMAL_FAN_OUT;
    wv->decay = true;
    wv->fan_in = o->kernel * o->kernel * (real / groups > 0 ? real / groups : 1);
    wv->fan_out = o->kernel * o->kernel * o->channels / groups;
    if (real != c && groups == 1) wv->stored_c = real;
    int64_t fan_in = wv->fan_in;
    dt_vid in[3] = {x, w, -1};
    if (!o->no_bias) in[2] = add_bias(b, name, o->channels, fan_in);
    dt_attr t = {.window.kernel = {(int32_t)o->kernel, (int32_t)o->kernel},
                 .window.stride = {(int32_t)stride, (int32_t)stride},
                 .window.pad_begin = {(int32_t)pad, (int32_t)pad},
                 .window.pad_end = {(int32_t)pad, (int32_t)pad},
                 .window.dilation = {(int32_t)dilation, (int32_t)dilation},
                 .window.groups = (int32_t)groups};
    return dt_build_op(b, name, DT_OP_CONV, &t, 3, in);
}

dt_vid dt_build_conv_transpose(dt_builder *b, const char *name, dt_vid x,
                               const dt_conv_transpose_options *o) {
    if (b->status != DT_OK) return -1;
    const dt_value *xv = &b->g->value[x];
    const int64_t stride = dt_max_i64(o->stride, 1), dilation = dt_max_i64(o->dilation, 1),
                  groups = dt_max_i64(o->groups, 1);
    if (xv->ndim != 4) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s: %s is %s, not an image [N, H, W, C]", name, xv->name,
                            dt_value_shape_text(xv));
        return -1;
    }
    const int64_t c = xv->dim[3], grown = dilation * (o->kernel - 1) + 1 + o->output_pad - 2 * o->pad;
    int64_t side[2];
    for (int i = 0; i < 2; i++) side[i] = (xv->dim[1 + i] - 1) * stride + grown;
    if (c % groups || o->channels % groups || side[0] < 1 || side[1] < 1 || side[0] > INT32_MAX ||
        side[1] > INT32_MAX || o->output_pad >= dt_max_i64(stride, dilation)) {
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "%s: %lld channels out of %lld in %lld groups, an image of %lld x %lld, output_pad "
                    "%lld: groups divide both, sides are positive, output_pad is below stride or dilation",
                    name, (long long)o->channels, (long long)c, (long long)groups, (long long)side[0],
                    (long long)side[1], (long long)o->output_pad);
        return -1;
    }
    const int64_t dim[] = {c, o->kernel, o->kernel, o->channels / groups};
    dt_vid w = add_value(b, name, "weight", DT_ROLE_PARAM, b->g->compute, 4, dim);
    if (w < 0) return -1;
    dt_value *wv = &b->g->value[w];
    wv->init = DT_INIT_KAIMING_UNIFORM_A5;
    wv->decay = true;
    /* PyTorch reads fan_in off the weight's second dimension, which is the channels out */
    wv->fan_in = o->kernel * o->kernel * (o->channels / groups);
    wv->fan_out = o->kernel * o->kernel * c;
    const int64_t fan_in = wv->fan_in;
    const dt_attr t = {.window.kernel = {(int32_t)o->kernel, (int32_t)o->kernel},
                       .window.stride = {(int32_t)stride, (int32_t)stride},
                       .window.pad_begin = {(int32_t)o->pad, (int32_t)o->pad},
                       .window.pad_end = {(int32_t)o->pad, (int32_t)o->pad},
                       .window.dilation = {(int32_t)dilation, (int32_t)dilation},
                       .window.groups = (int32_t)groups,
                       .window.size = {(int32_t)side[0], (int32_t)side[1]}};
    if (o->no_bias) return dt_build_op(b, name, DT_OP_CONV_DGRAD, &t, 2, (dt_vid[]){x, w});
    char full[DT_NAME_MAX];
    dt_vid y = dt_build_op(b, joined(full, name, "product"), DT_OP_CONV_DGRAD, &t, 2, (dt_vid[]){x, w});
    dt_vid bias = add_value(b, name, "bias", DT_ROLE_PARAM, b->g->compute, 1, &o->channels);
    if (bias < 0) return -1;
    b->g->value[bias].init = DT_INIT_UNIFORM_FAN_IN;
    b->g->value[bias].fan_in = fan_in;
    const dt_attr add = {.binary.fn = DT_BINARY_ADD}; /* dt_build_add wants one shape */
    return dt_build_op(b, name, DT_OP_BINARY, &add, 2, (dt_vid[]){y, bias});
}

dt_vid dt_build_dense(dt_builder *b, const char *name, dt_vid x, int64_t features, bool bias) {
    if (b->status != DT_OK) return -1;
    if (b->g->value[x].ndim == 4) { /* an image: all of it is one row */
        char full[DT_NAME_MAX];
        x = dt_build_op(b, joined(full, name, "flatten"), DT_OP_RESHAPE, NULL, 1, &x);
        if (x < 0) return -1;
        b->n_flatten++;
    }
    const dt_value *xv = &b->g->value[x];
    const int64_t c = xv->dim[xv->ndim - 1];
    dt_vid w = add_value(b, name, "weight", DT_ROLE_PARAM, b->g->compute, 2, (int64_t[]){features, c});
    if (w < 0) return -1;
    b->g->value[w].init = DT_INIT_KAIMING_UNIFORM_A5;
    b->g->value[w].fan_in = c;
    b->g->value[w].fan_out = features;
    b->g->value[w].decay = true;
    dt_vid in[3] = {x, w, -1};
    if (bias) in[2] = add_bias(b, name, features, c);
    return dt_build_op(b, name, DT_OP_DENSE, NULL, 3, in);
}

/* The first that is set. */
static float first_set(double own, double common, double fallback) {
    return (float)(own > 0 ? own : common > 0 ? common : fallback);
}

dt_vid dt_build_batchnorm(dt_builder *b, const char *name, dt_vid x, const dt_batchnorm_options *o) {
    if (b->status != DT_OK) return -1;
    const dt_batchnorm_options unset = {0};
    if (!o) o = &unset;
    const dt_value *xv = &b->g->value[x];
    int64_t c = xv->dim[xv->ndim - 1];
    dt_vid in[5] = {x, add_value(b, name, "weight", DT_ROLE_PARAM, DT_DTYPE_F32, 1, &c),
                    add_value(b, name, "bias", DT_ROLE_PARAM, DT_DTYPE_F32, 1, &c),
                    add_value(b, name, "running_mean", DT_ROLE_STATE, DT_DTYPE_F32, 1, &c),
                    add_value(b, name, "running_var", DT_ROLE_STATE, DT_DTYPE_F32, 1, &c)};
    if (b->status != DT_OK) return -1;
    b->g->value[in[1]].init = o->zero_gamma ? DT_INIT_ZERO : DT_INIT_ONE;
    b->g->value[in[4]].init = DT_INIT_ONE;
    dt_attr t = {.norm.eps = first_set(o->eps, b->bn_eps, 1e-5),
                 .norm.momentum = first_set(o->momentum, b->bn_momentum, 0.1)};
    if (!(t.norm.eps > 0 && t.norm.eps <= 1) || !(t.norm.momentum > 0 && t.norm.momentum <= 1)) {
        b->status =
            dt_fail(DT_ERR_CONFIG, "%s (batchnorm): eps is %g and momentum %g, expected above 0, at most 1",
                    name, (double)t.norm.eps, (double)t.norm.momentum);
        return -1;
    }
    return dt_build_op(b, name, DT_OP_BATCHNORM, &t, 5, in);
}

dt_vid dt_build_relu(dt_builder *b, const char *name, dt_vid x) {
    return dt_build_op(b, name, DT_OP_UNARY, &(dt_attr){.unary.fn = DT_UNARY_RELU}, 1, &x);
}

dt_vid dt_build_add(dt_builder *b, const char *name, dt_vid x, dt_vid y) {
    if (b->status != DT_OK) return -1;
    const dt_value *xv = &b->g->value[x], *yv = &b->g->value[y];
    if (xv->ndim != yv->ndim || memcmp(xv->dim, yv->dim, sizeof xv->dim) != 0) {
        char text[96];
        snprintf(text, sizeof text, "%s", dt_value_shape_text(xv));
        b->status = dt_fail(DT_ERR_CONFIG, "%s (add): %s is %s but %s is %s", name, xv->name, text, yv->name,
                            dt_value_shape_text(yv));
        return -1;
    }
    return dt_build_op(b, name, DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_ADD}, 2, (dt_vid[]){x, y});
}

dt_vid dt_build_pool(dt_builder *b, const char *name, dt_op op, dt_vid x, int64_t kernel, int64_t stride,
                     int64_t pad) {
    const int32_t k = (int32_t)kernel, s = (int32_t)stride, p = pad >= 0 ? (int32_t)pad : (k - 1) / 2;
    dt_attr t = {.window.kernel = {k, k},
                 .window.stride = {s, s},
                 .window.pad_begin = {p, p},
                 .window.pad_end = {p, p}};
    return dt_build_op(b, name, op, &t, 1, &x);
}

uint64_t dt_build_salt(const dt_builder *b) {
    return (uint64_t)(b->g->n_node - b->n_flatten);
}

dt_vid dt_build_drop_path(dt_builder *b, const char *name, dt_vid x, double rate) {
    if (b->status != DT_OK || !b->g->training) return x;
    dt_attr t = {.dropout.p = (float)rate, .dropout.rows = true, .dropout.salt = dt_build_salt(b)};
    return dt_build_op(b, name, DT_OP_DROPOUT, &t, 1, &x);
}

dt_vid dt_build_dropout(dt_builder *b, const char *name, dt_vid x, double rate) {
    if (b->status != DT_OK || !b->g->training) return x; /* identity in evaluation */
    dt_attr t = {.dropout.p = (float)rate, .dropout.salt = dt_build_salt(b)};
    return dt_build_op(b, name, DT_OP_DROPOUT, &t, 1, &x);
}

/* The dimension that an option of a layer means; -1 with an error where there is none. */
static int32_t dimension_of(dt_builder *b, const char *name, dt_vid x, int64_t axis) {
    const dt_value *xv = &b->g->value[x];
    if (axis >= 0 && axis < xv->ndim && xv->ndim > 1) return axis > 0 ? (int32_t)axis : xv->ndim - 1;
    b->status = dt_fail(DT_ERR_CONFIG, "%s: dimension %lld of %s, which is %s", name, (long long)axis,
                        xv->name, dt_value_shape_text(xv));
    return -1;
}

dt_vid dt_build_reduce(dt_builder *b, const char *name, dt_vid x, dt_reduce_kind kind, int64_t axis) {
    if (b->status != DT_OK) return -1;
    const dt_value v = b->g->value[x];
    const int32_t at = dimension_of(b, name, x, axis);
    if (at < 0) return -1;
    const dt_attr t = {.reduce.kind = kind, .reduce.axes = 1 << at};
    if (v.ndim == 2) return dt_build_op(b, name, DT_OP_REDUCE, &t, 1, &x);
    char full[DT_NAME_MAX];
    dt_vid y = dt_build_op(b, joined(full, name, "kept"), DT_OP_REDUCE, &t, 1, &x);
    dt_attr shape = {.reshape.ndim = v.ndim - 1};
    for (int32_t i = 0, k = 0; i < v.ndim; i++)
        if (i != at) shape.reshape.dim[k++] = v.dim[i];
    return dt_build_op(b, name, DT_OP_RESHAPE, &shape, 1, &y);
}

dt_vid dt_build_reshape(dt_builder *b, const char *name, dt_vid x, const dt_reshape_options *o) {
    if (b->status != DT_OK) return -1;
    dt_attr t = {.reshape.ndim = o->n_shape > 0 ? o->n_shape + 1 : 0};
    if (o->n_shape > 0) t.reshape.dim[0] = b->g->value[x].dim[0];
    for (int32_t i = 0; i < o->n_shape; i++) {
        t.reshape.dim[1 + i] = (int64_t)o->shape[i];
        if ((double)t.reshape.dim[1 + i] == o->shape[i]) continue;
        b->status = dt_fail(DT_ERR_CONFIG, "%s: %g is no dimension of a shape", name, o->shape[i]);
        return -1;
    }
    return dt_build_op(b, name, DT_OP_RESHAPE, &t, 1, &x);
}

dt_vid dt_build_swap(dt_builder *b, const char *name, dt_vid x, const dt_swap_options *o) {
    if (b->status != DT_OK) return -1;
    const int32_t first = dimension_of(b, name, x, o->first),
                  second = first < 0 ? -1 : dimension_of(b, name, x, o->second);
    if (second < 0) return -1;
    dt_attr t = {.transpose.ndim = b->g->value[x].ndim};
    for (int32_t i = 0; i < t.transpose.ndim; i++) t.transpose.perm[i] = i;
    t.transpose.perm[first] = second, t.transpose.perm[second] = first;
    return dt_build_op(b, name, DT_OP_TRANSPOSE, &t, 1, &x);
}
