/* Layer helpers over dt_graph_add_value and dt_graph_add_node. */
#include "model/builder.h"

#include <stdio.h>
#include <string.h>

#include "core/edit.h"
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
    dt_vid pixels = image;
    if (in->edits) {
        const dt_vid edit = add_input(b, "edit", DT_DTYPE_I32, 2, (int64_t[]){n, DT_EDIT_INTS});
        pixels = dt_build_op(b, "edited", DT_OP_EDIT, NULL, 2, (dt_vid[]){image, edit});
        b->n_silent++;
    }
    return dt_build_op(b, "input", DT_OP_INPUT, &t, 3, (dt_vid[]){pixels, aug, mix});
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

/* The parameter of a convolution over `sides` sides of x: [K, kernel..., C / groups]. */
static dt_vid add_conv_weight(dt_builder *b, const char *name, dt_vid x, int32_t sides,
                              const dt_conv2d_options *o) {
    const dt_value *xv = &b->g->value[x];
    const int64_t c = xv->dim[xv->ndim - 1], real = real_channels(b, x), groups = dt_max_i64(o->groups, 1);
    int64_t dim[DT_MAX_DIM] = {o->channels}, taps = 1;
    for (int32_t i = 0; i < sides; i++) dim[1 + i] = o->kernel, taps *= o->kernel;
    dim[1 + sides] = c / groups;
    const dt_vid w = add_value(b, name, "weight", DT_ROLE_PARAM, b->g->compute, sides + 2, dim);
    if (w < 0) return -1;
    dt_value *wv = &b->g->value[w];
    wv->init = DT_INIT_KAIMING_NORMAL_FAN_OUT;
    wv->decay = true;
    wv->fan_in = taps * dt_max_i64(real / groups, 1);
    wv->fan_out = taps * o->channels / groups;
    if (real != c && groups == 1) wv->stored_c = real;
    return w;
}

/* v in another shape, named "<name>.<part>". */
static dt_vid view(dt_builder *b, const char *name, const char *part, dt_vid v, int32_t ndim,
                   const int64_t *dim) {
    char full[DT_NAME_MAX];
    dt_attr t = {.reshape.ndim = ndim};
    for (int32_t i = 0; i < ndim; i++) t.reshape.dim[i] = dim[i];
    return dt_build_op(b, part ? joined(full, name, part) : name, DT_OP_RESHAPE, &t, 1, &v);
}

static dt_attr square_window(const dt_conv2d_options *o, int64_t pad) {
    const int32_t k = (int32_t)o->kernel, s = (int32_t)dt_max_i64(o->stride, 1), p = (int32_t)pad,
                  d = (int32_t)dt_max_i64(o->dilation, 1);
    return (dt_attr){.window = {.kernel = {k, k},
                                .stride = {s, s},
                                .pad_begin = {p, p},
                                .pad_end = {p, p},
                                .dilation = {d, d},
                                .groups = (int32_t)dt_max_i64(o->groups, 1)}};
}

/* Of [N,L,C], as images of one row. */
static dt_vid conv_line(dt_builder *b, const char *name, dt_vid x, dt_vid w, dt_vid bias,
                        const dt_conv2d_options *o, int64_t pad) {
    const dt_value v = b->g->value[x], wv = b->g->value[w];
    dt_attr t = square_window(o, pad);
    t.window.kernel[0] = t.window.stride[0] = t.window.dilation[0] = 1;
    t.window.pad_begin[0] = t.window.pad_end[0] = 0;
    char full[DT_NAME_MAX];
    x = view(b, name, "image", x, 4, (int64_t[]){v.dim[0], 1, v.dim[1], v.dim[2]});
    w = view(b, name, "window", w, 4, (int64_t[]){wv.dim[0], 1, wv.dim[1], wv.dim[2]});
    const dt_vid y = dt_build_op(b, joined(full, name, "row"), DT_OP_CONV, &t, 3, (dt_vid[]){x, w, bias});
    return view(b, name, NULL, y, 3, (int64_t[]){v.dim[0], -1, o->channels});
}

/* [N, planes, HWC]: of each of `planes` places of the window the plane that its tap `tap` lies on. x [N,D,HWC] is
 * padded. */
static dt_vid take_planes(dt_builder *b, const char *name, dt_vid x, int64_t tap, int64_t planes,
                          const dt_conv2d_options *o) {
    const int64_t n = b->g->value[x].dim[0], plane = b->g->value[x].dim[2], stride = dt_max_i64(o->stride, 1);
    char part[32], full[DT_NAME_MAX];
    snprintf(part, sizeof part, "tap%d", (int)tap);
    const dt_attr t = {
        .shape = {.axis = 1, .begin = tap * dt_max_i64(o->dilation, 1), .length = planes * stride}};
    x = dt_build_op(b, joined(full, name, part), DT_OP_SLICE, &t, 1, &x);
    if (stride == 1) return x;
    snprintf(part, sizeof part, "tap%d.strides", (int)tap);
    x = view(b, name, part, x, 4, (int64_t[]){n, planes, stride, plane});
    snprintf(part, sizeof part, "tap%d.first", (int)tap);
    const dt_attr first = {.shape = {.axis = 2, .length = 1}};
    return dt_build_op(b, joined(full, name, part), DT_OP_SLICE, &first, 1, &x);
}

/* Of [N,D,H,W,C]: the planes that a window's taps lie on become channels of one, whose convolution is of images. */
static dt_vid conv_volume(dt_builder *b, const char *name, dt_vid x, dt_vid w, dt_vid bias,
                          const dt_conv2d_options *o, int64_t pad) {
    const dt_value v = b->g->value[x];
    const int64_t *d = v.dim, k = o->kernel, groups = dt_max_i64(o->groups, 1),
                  stride = dt_max_i64(o->stride, 1), span = dt_max_i64(o->dilation, 1) * (k - 1), c = d[4],
                  depth = d[1] + 2 * pad;
    if (depth <= span) {
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s (conv): a window of %lld does not fit a depth of %lld with padding %lld",
                            name, (long long)span + 1, (long long)d[1], (long long)pad);
        return -1;
    }
    const int64_t planes = (depth - span - 1) / stride + 1,
                  needed = dt_max_i64(depth, span + planes * stride);
    char full[DT_NAME_MAX];
    dt_vid tap[DT_MAX_CONCAT];
    x = view(b, name, "planes", x, 3, (int64_t[]){d[0], d[1], d[2] * d[3] * c});
    const dt_attr padded = {.shape = {.axis = 1, .begin = pad, .length = needed}};
    if (needed > d[1]) x = dt_build_op(b, joined(full, name, "padded"), DT_OP_PAD, &padded, 1, &x);
    for (int64_t t = 0; t < k && b->status == DT_OK; t++) {
        char part[32];
        snprintf(part, sizeof part, "tap%d.groups", (int)t);
        tap[t] = view(b, name, part, take_planes(b, name, x, t, planes, o), 3,
                      (int64_t[]){d[0] * planes * d[2] * d[3], groups, c / groups});
    }
    if (b->status != DT_OK) return -1;
    x = dt_build_op(b, joined(full, name, "taps"), DT_OP_CONCAT, &(dt_attr){.shape.axis = 2}, (int32_t)k,
                    tap);
    x = view(b, name, "images", x, 4, (int64_t[]){d[0] * planes, d[2], d[3], k * c});
    const dt_attr turned = {.transpose = {.ndim = 5, .perm = {0, 2, 3, 1, 4}}},
                  window = square_window(o, pad);
    w = dt_build_op(b, joined(full, name, "turned"), DT_OP_TRANSPOSE, &turned, 1, &w);
    w = view(b, name, "window", w, 4, (int64_t[]){o->channels, k, k, k * (c / groups)});
    const dt_vid y =
        dt_build_op(b, joined(full, name, "made"), DT_OP_CONV, &window, 3, (dt_vid[]){x, w, bias});
    if (y < 0) return -1;
    const dt_value made = b->g->value[y];
    return view(b, name, NULL, y, 5, (int64_t[]){d[0], planes, made.dim[1], made.dim[2], o->channels});
}

dt_vid dt_build_conv(dt_builder *b, const char *name, dt_vid x, const dt_conv2d_options *o) {
    if (b->status != DT_OK) return -1;
    const dt_value xv = b->g->value[x];
    const int64_t c = xv.dim[xv.ndim - 1], groups = dt_max_i64(o->groups, 1),
                  pad = o->pad >= 0 ? o->pad : (o->kernel - 1) * dt_max_i64(o->dilation, 1) / 2;
    const int32_t sides = xv.ndim - 2;
    if (sides < 1 || sides > 3) {
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s (conv): its input is %s, not an image N H W C (nor a sequence N L C, nor a "
                            "volume N D H W C)",
                            name, dt_value_shape_text(&xv));
        return -1;
    }
    if (c % groups || o->channels % groups || (sides == 3 && o->kernel > DT_MAX_CONCAT)) {
        b->status =
            sides == 3 && o->kernel > DT_MAX_CONCAT
                ? dt_fail(DT_ERR_CONFIG, "%s (conv): a kernel of %lld: over volumes up to %d", name,
                          (long long)o->kernel, DT_MAX_CONCAT)
                : dt_fail(DT_ERR_CONFIG,
                          "%s (conv): groups %lld does not divide %lld input and %lld output channels", name,
                          (long long)groups, (long long)c, (long long)o->channels);
        return -1;
    }
    const dt_vid w = add_conv_weight(b, name, x, sides, o);
    if (w < 0) return -1;
    const dt_vid bias = o->no_bias ? -1 : add_bias(b, name, o->channels, b->g->value[w].fan_in);
    if (b->status != DT_OK) return -1;
    if (sides == 1) return conv_line(b, name, x, w, bias, o, pad);
    if (sides == 3) return conv_volume(b, name, x, w, bias, o, pad);
    const dt_attr t = square_window(o, pad);
    return dt_build_op(b, name, DT_OP_CONV, &t, 3, (dt_vid[]){x, w, bias});
}

dt_vid dt_build_conv_transpose(dt_builder *b, const char *name, dt_vid x,
                               const dt_conv_transpose_options *o) {
    if (b->status != DT_OK) return -1;
    const dt_value *xv = &b->g->value[x];
    const int64_t stride = dt_max_i64(o->stride, 1), dilation = dt_max_i64(o->dilation, 1),
                  groups = dt_max_i64(o->groups, 1);
    if (xv->ndim != 4) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (conv_transpose): its input is %s, not an image N H W C", name,
                            dt_value_shape_text(xv));
        return -1;
    }
    const int64_t c = xv->dim[3], grown = dilation * (o->kernel - 1) + 1 + o->output_pad - 2 * o->pad;
    int64_t side[2];
    for (int i = 0; i < 2; i++) side[i] = (xv->dim[1 + i] - 1) * stride + grown;
    if (c % groups || o->channels % groups)
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "%s (conv_transpose): groups %lld does not divide %lld input and %lld output channels",
                    name, (long long)groups, (long long)c, (long long)o->channels);
    else if (o->output_pad >= dt_max_i64(stride, dilation))
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s (conv_transpose): output_pad %lld must be below stride %lld or dilation %lld",
                            name, (long long)o->output_pad, (long long)stride, (long long)dilation);
    else if (side[0] < 1 || side[1] < 1 || side[0] > INT32_MAX || side[1] > INT32_MAX)
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s (conv_transpose): an image of %lld x %lld would become one of %lld x %lld: a "
                            "smaller pad, or a larger kernel",
                            name, (long long)xv->dim[1], (long long)xv->dim[2], (long long)side[0],
                            (long long)side[1]);
    if (b->status != DT_OK) return -1;
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
        b->n_silent++;
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

static dt_vid pool(dt_builder *b, const char *name, dt_op op, dt_vid x, const int32_t kernel[2],
                   const int32_t stride[2], const int32_t pad[2]) {
    const dt_attr t = {.window = {.kernel = {kernel[0], kernel[1]},
                                  .stride = {stride[0], stride[1]},
                                  .pad_begin = {pad[0], pad[1]},
                                  .pad_end = {pad[0], pad[1]}}};
    return dt_build_op(b, name, op, &t, 1, &x);
}

dt_vid dt_build_pool(dt_builder *b, const char *name, dt_op op, dt_vid x, int64_t kernel, int64_t stride,
                     int64_t padding) {
    if (b->status != DT_OK) return -1;
    const int32_t k = (int32_t)kernel, s = (int32_t)stride, p = padding >= 0 ? (int32_t)padding : (k - 1) / 2;
    const dt_value v = b->g->value[x];
    const int64_t *d = v.dim;
    char full[DT_NAME_MAX];
    if (v.ndim == 3) { /* N L C: images of one row */
        x = view(b, name, "image", x, 4, (int64_t[]){d[0], 1, d[1], d[2]});
        x = pool(b, joined(full, name, "row"), op, x, (int32_t[]){1, k}, (int32_t[]){1, s},
                 (int32_t[]){0, p});
        return view(b, name, NULL, x, 3, (int64_t[]){d[0], -1, d[2]});
    }
    if (v.ndim != 5) return pool(b, name, op, x, (int32_t[]){k, k}, (int32_t[]){s, s}, (int32_t[]){p, p});
    /* N D H W C: the planes, then their pixels along the depth */
    x = view(b, name, "planes", x, 4, (int64_t[]){d[0] * d[1], d[2], d[3], d[4]});
    x = pool(b, joined(full, name, "plane"), op, x, (int32_t[]){k, k}, (int32_t[]){s, s}, (int32_t[]){p, p});
    if (x < 0) return -1;
    const dt_value plane = b->g->value[x];
    x = view(b, name, "depths", x, 4, (int64_t[]){d[0], d[1], plane.dim[1] * plane.dim[2], d[4]});
    x = pool(b, joined(full, name, "depth"), op, x, (int32_t[]){k, 1}, (int32_t[]){s, 1}, (int32_t[]){p, 0});
    return view(b, name, NULL, x, 5, (int64_t[]){d[0], -1, plane.dim[1], plane.dim[2], d[4]});
}

dt_vid dt_build_global_avgpool(dt_builder *b, const char *name, dt_vid x) {
    if (b->status != DT_OK) return -1;
    const dt_value v = b->g->value[x];
    const int64_t *d = v.dim;
    if (v.ndim == 3) x = view(b, name, "image", x, 4, (int64_t[]){d[0], 1, d[1], d[2]});
    if (v.ndim == 5) x = view(b, name, "image", x, 4, (int64_t[]){d[0], d[1] * d[2], d[3], d[4]});
    return dt_build_op(b, name, DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
}

uint64_t dt_build_salt(const dt_builder *b) {
    return (uint64_t)(b->g->n_node - b->n_silent);
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

int32_t dt_build_axis(dt_builder *b, const char *name, const char *type, dt_vid x, int64_t axis) {
    const dt_value *v = &b->g->value[x];
    if (axis >= 0 && axis < v->ndim && v->ndim > 1) return axis > 0 ? (int32_t)axis : v->ndim - 1;
    b->status =
        dt_fail(DT_ERR_CONFIG,
                "%s (%s): %s is %s, the batch first: dimension %lld is none of 1 to %d behind it, nor 0, "
                "the last",
                name, type, v->name, dt_value_shape_text(v), (long long)axis, v->ndim - 1);
    return -1;
}

dt_vid dt_build_reduce(dt_builder *b, const char *name, dt_vid x, dt_reduce_kind kind, int64_t axis) {
    if (b->status != DT_OK) return -1;
    const dt_value v = b->g->value[x];
    static const char *const types[] = {
        [DT_REDUCE_SUM] = "sum", [DT_REDUCE_MEAN] = "mean", [DT_REDUCE_MAX] = "amax"};
    const int32_t at = dt_build_axis(b, name, types[kind], x, axis);
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
    const int32_t first = dt_build_axis(b, name, "transpose", x, o->first),
                  second = first < 0 ? -1 : dt_build_axis(b, name, "transpose", x, o->second);
    if (second < 0) return -1;
    dt_attr t = {.transpose.ndim = b->g->value[x].ndim};
    for (int32_t i = 0; i < t.transpose.ndim; i++) t.transpose.perm[i] = i;
    t.transpose.perm[first] = second, t.transpose.perm[second] = first;
    return dt_build_op(b, name, DT_OP_TRANSPOSE, &t, 1, &x);
}
