/* Ops of TensorFlow as nodes of ONNX. Definitions: TensorFlow's op documentation; images N H W C. */
#include <stdio.h>
#include <string.h>

#include "graph.h"

/* ---- what ops are translated with ---- */

static const char *name_of(dt_tf_call *c, int32_t i) {
    return dt_tf_name(c->d, &c->in[i]);
}

static const char *put(dt_tf_call *c, const char *op, const char *const *in, int32_t n_in,
                       const dt_onnx_attr *attr, int32_t n_attr) {
    const char *name = NULL;
    if (c->d->status == DT_OK)
        name = dt_onnx_text(c->d->m, "%s%s/%s_%lld", c->scope, c->node->name, op, (long long)c->d->n_named++);
    return dt_onnx_draft_op(c->d, op, name, in, n_in, attr, n_attr);
}

static void give(dt_tf_call *c, const char *name) {
    c->out[c->n_out++] = (dt_tf_value){.name = name};
}

static int64_t whole_at(const dt_onnx_tensor *t, int64_t i) {
    int32_t narrow;
    int64_t wide;
    if (t->type == DT_TENSOR_I64) {
        memcpy(&wide, (const char *)t->data + 8 * i, sizeof wide);
        return wide;
    }
    memcpy(&narrow, (const char *)t->data + 4 * i, sizeof narrow);
    return narrow;
}

/* The whole numbers of a constant operand; how many, at most cap. */
static int32_t ints_of(dt_tf_call *c, int32_t i, int32_t cap, int64_t *out) {
    const dt_onnx_tensor *t = i < c->n_in ? c->in[i].constant : NULL;
    if (!t || (t->type != DT_TENSOR_I32 && t->type != DT_TENSOR_I64) || t->n_elem > cap) {
        dt_tf_refuse(c, "operand %d is not a constant of at most %d whole numbers", i, cap);
        return 0;
    }
    for (int64_t k = 0; k < t->n_elem; k++) out[k] = whole_at(t, k);
    return (int32_t)t->n_elem;
}

static int64_t int_of(dt_tf_call *c, int32_t i) {
    int64_t out = 0;
    if (ints_of(c, i, 1, &out) != 1) dt_tf_refuse(c, "operand %d is not one number", i);
    return out;
}

/* As i64, which ONNX wants of shapes. */
static const char *as_i64(dt_tf_call *c, int32_t i) {
    enum { ONNX_INT64 = 7 };
    int64_t value[DT_MAX_DIM * 2];
    const dt_onnx_tensor *t = c->in[i].constant;
    if (t && t->ndim == 1 && t->n_elem <= DT_MAX_DIM * 2)
        return dt_onnx_draft_i64s(c->d, ints_of(c, i, DT_MAX_DIM * 2, value), value);
    return put(c, "Cast", DT_ONNX_IN(name_of(c, i)), DT_ONNX_ATTR(dt_onnx_int("to", ONNX_INT64)));
}

/* ONNX's number of TensorFlow's type; 0: it is none. */
static int64_t onnx_type(int64_t tensorflow) {
    static const int8_t number[][2] = {{1, 1},  {2, 11},  {3, 6},  {4, 2},   {5, 5},   {6, 3},  {9, 7},
                                       {10, 9}, {14, 16}, {17, 4}, {19, 10}, {22, 12}, {23, 13}};
    for (size_t i = 0; i < sizeof number / sizeof number[0]; i++)
        if (number[i][0] == tensorflow) return number[i][1];
    return 0;
}

static const char *cast(dt_tf_call *c, const char *x, int64_t type) {
    if (onnx_type(type) == 0) dt_tf_refuse(c, "type %lld is not translated", (long long)type);
    return put(c, "Cast", DT_ONNX_IN(x), DT_ONNX_ATTR(dt_onnx_int("to", onnx_type(type))));
}

static const char *turn(dt_tf_call *c, const char *x, int32_t n, const int64_t *perm) {
    return put(c, "Transpose", DT_ONNX_IN(x), DT_ONNX_ATTR(dt_onnx_ints("perm", n, perm)));
}

static const char *channels_first(dt_tf_call *c, const char *x) {
    return turn(c, x, 4, (const int64_t[]){0, 3, 1, 2});
}

static const char *channels_last(dt_tf_call *c, const char *x) {
    return turn(c, x, 4, (const int64_t[]){0, 2, 3, 1});
}

static const char *plain1(dt_tf_call *c, const char *op, const char *x) {
    return put(c, op, DT_ONNX_IN(x), DT_ONNX_PLAIN);
}

static const char *plain2(dt_tf_call *c, const char *op, const char *x, const char *y) {
    return put(c, op, DT_ONNX_IN(x, y), DT_ONNX_PLAIN);
}

/* ---- windows ---- */

typedef struct window {
    bool last; /* channels are */
    int64_t size[2], stride[2], dilation[2], pad[4];
    bool same;
} window;

/* A list of four numbers by dimension: those of the sides. */
static void sides_of(dt_tf_call *c, const char *attr, const window *w, int64_t out[2]) {
    int64_t four[4] = {1, 1, 1, 1};
    const int64_t n = dt_tf_ints(c->node, attr, 4, four);
    if (n != 0 && n != 4) dt_tf_refuse(c, "%s is not four numbers", attr);
    out[0] = four[w->last ? 1 : 2], out[1] = four[w->last ? 2 : 3];
}

static window read_window(dt_tf_call *c) {
    window w = {.last = true};
    const char *padding = dt_tf_text(c->d->m, c->node, "padding", "VALID");
    int64_t explicit_pads[8] = {0};
    w.last = strcmp(dt_tf_text(c->d->m, c->node, "data_format", "NHWC"), "NHWC") == 0;
    sides_of(c, "strides", &w, w.stride);
    sides_of(c, "dilations", &w, w.dilation);
    sides_of(c, "ksize", &w, w.size);
    w.same = strcmp(padding, "SAME") == 0;
    if (strcmp(padding, "EXPLICIT") == 0 && dt_tf_ints(c->node, "explicit_paddings", 8, explicit_pads) == 8)
        for (int i = 0; i < 2; i++) {
            w.pad[i] = explicit_pads[2 * (i + (w.last ? 1 : 2))];
            w.pad[2 + i] = explicit_pads[2 * (i + (w.last ? 1 : 2)) + 1];
        }
    return w;
}

/* What "SAME" adds does not depend on the image where the stride is 1. */
static dt_onnx_attr padding_of(window *w) {
    if (!w->same) return dt_onnx_ints("pads", 4, w->pad);
    if (w->stride[0] != 1 || w->stride[1] != 1) return dt_onnx_word("auto_pad", "SAME_UPPER");
    for (int i = 0; i < 2; i++) {
        const int64_t more = (w->size[i] - 1) * w->dilation[i];
        w->pad[i] = more / 2, w->pad[2 + i] = more - more / 2;
    }
    return dt_onnx_ints("pads", 4, w->pad);
}

static const char *opened(dt_tf_call *c, const window *w, int32_t i) {
    return w->last ? channels_first(c, name_of(c, i)) : name_of(c, i);
}

static void closed(dt_tf_call *c, const window *w, const char *y) {
    give(c, w->last ? channels_last(c, y) : y);
}

/* A kernel of four dimensions in another order: of a constant there and then. `depth`: the first two become one, and
 * filters have one channel. */
static const char *kernel_of(dt_tf_call *c, int32_t i, const int64_t perm[4], bool depth, int64_t dim[4]) {
    const dt_onnx_tensor *t = c->in[i].constant;
    if (!t || t->type != DT_TENSOR_F32 || t->ndim != 4) {
        if (t || depth) dt_tf_refuse(c, "its kernel is not a constant of f32 in four dimensions");
        return t || depth ? "" : turn(c, name_of(c, i), 4, perm);
    }
    int64_t stride[4];
    for (int k = 0; k < 4; k++) {
        stride[k] = 1;
        for (int64_t s = perm[k] + 1; s < 4; s++) stride[k] *= t->dim[s];
        dim[k] = t->dim[perm[k]];
    }
    float *data = c->d->status == DT_OK ? dt_onnx_alloc(c->d->m, t->n_bytes) : NULL;
    const char *title = data ? dt_onnx_text(c->d->m, "%s", c->in[i].title) : NULL;
    if (!title) return "";
    const dt_onnx_graph *g = &c->d->m->graph;
    int64_t at = 0;
    for (int64_t a = 0; a < dim[0]; a++)
        for (int64_t b = 0; b < dim[1]; b++)
            for (int64_t k = 0; k < dim[2]; k++)
                for (int64_t l = 0; l < dim[3]; l++, at++)
                    memcpy(data + at,
                           (const char *)t->data +
                               4 * (a * stride[0] + b * stride[1] + k * stride[2] + l * stride[3]),
                           4);
    const int64_t shape[4] = {depth ? dim[0] * dim[1] : dim[0], depth ? 1 : dim[1], dim[2], dim[3]};
    for (int32_t k = 0; k < g->n_constant; k++)
        if (strcmp(g->constant[k].name, title) == 0)
            title = dt_onnx_text(c->d->m, "%s%s/%s", c->scope, c->node->name, title);
    return dt_onnx_draft_constant(c->d, title, DT_TENSOR_F32, 4, shape, data, true);
}

static void convolve(dt_tf_call *c, bool depth) {
    window w = read_window(c);
    for (int i = 0; i < 2 && c->in[0].block[0]; i++) {
        if (w.stride[i] != 1) dt_tf_refuse(c, "a stride within blocks");
        w.dilation[i] *= c->in[0].block[i];
    }
    int64_t dim[4] = {0};
    const char *kernel = depth ? kernel_of(c, 1, (const int64_t[]){2, 3, 0, 1}, true, dim)
                               : kernel_of(c, 1, (const int64_t[]){3, 2, 0, 1}, false, dim);
    w.size[0] = dim[2], w.size[1] = dim[3];
    if (w.same && dim[2] == 0) dt_tf_refuse(c, "its kernel is not constant");
    /* a kernel of fewer channels than the image is one of groups */
    const int64_t fewer = !depth && w.last && dim[1] > 0 ? c->in[0].channels / dim[1] : 1;
    closed(c, &w,
           put(c, "Conv", DT_ONNX_IN(opened(c, &w, 0), kernel),
               DT_ONNX_ATTR(dt_onnx_ints("strides", 2, w.stride), dt_onnx_ints("dilations", 2, w.dilation),
                            padding_of(&w),
                            dt_onnx_int("group", depth       ? dim[0]
                                                 : fewer > 1 ? fewer
                                                             : 1))));
    memcpy(c->out[0].block, c->in[0].block, sizeof c->out[0].block);
    c->out[0].channels = depth ? dim[0] * dim[1] : dim[0];
}

/* x, blocks, and pairs of numbers before and behind of rows and columns. */
static void read_block(dt_tf_call *c, int64_t block[2], int64_t pair[4]) {
    const bool whole = ints_of(c, 1, 2, block) == 2 && ints_of(c, 2, 4, pair) == 4;
    if (!whole || block[0] < 1 || block[1] < 1) dt_tf_refuse(c, "blocks other than of rows and columns");
}

static void make_space_to_batch(dt_tf_call *c) {
    int64_t block[2] = {0}, pair[4] = {0};
    read_block(c, block, pair);
    const char *pads =
        dt_onnx_draft_i64s(c->d, 8, (const int64_t[]){0, pair[0], pair[2], 0, 0, pair[1], pair[3], 0});
    give(c, plain2(c, "Pad", name_of(c, 0), pads));
    c->out[0].block[0] = block[0], c->out[0].block[1] = block[1];
}

static void make_batch_to_space(dt_tf_call *c) {
    int64_t block[2] = {0}, crop[4] = {0};
    read_block(c, block, crop);
    if (block[0] != c->in[0].block[0] || block[1] != c->in[0].block[1])
        dt_tf_refuse(c, "of other blocks than before");
    const char *from = dt_onnx_draft_i64s(c->d, 2, (const int64_t[]){crop[0], crop[2]}),
               *to = dt_onnx_draft_i64s(
                   c->d, 2,
                   (const int64_t[]){crop[1] ? -crop[1] : INT64_MAX, crop[3] ? -crop[3] : INT64_MAX}),
               *axes = dt_onnx_draft_i64s(c->d, 2, (const int64_t[]){1, 2});
    give(c, put(c, "Slice", DT_ONNX_IN(name_of(c, 0), from, to, axes), DT_ONNX_PLAIN));
}

static void make_conv(dt_tf_call *c) {
    convolve(c, false);
}

static void make_depthwise(dt_tf_call *c) {
    convolve(c, true);
}

/* Of the size of the result, the kernel [H, W, K, C], the input: a result of stride times the input's size. */
static void make_conv_transpose(dt_tf_call *c) {
    window w = read_window(c);
    int64_t dim[4] = {0}, output_pad[2] = {0};
    const char *kernel = kernel_of(c, 1, (const int64_t[]){3, 2, 0, 1}, false, dim);
    for (int i = 0; i < 2; i++) {
        const int64_t more = (dim[2 + i] - 1) * w.dilation[i] + 1 - w.stride[i];
        if (more < 0) output_pad[i] = -more;
        if (w.same && more > 0) w.pad[i] = more / 2, w.pad[2 + i] = more - more / 2;
    }
    closed(c, &w,
           put(c, "ConvTranspose", DT_ONNX_IN(opened(c, &w, 2), kernel),
               DT_ONNX_ATTR(dt_onnx_ints("strides", 2, w.stride), dt_onnx_ints("dilations", 2, w.dilation),
                            dt_onnx_ints("pads", 4, w.pad), dt_onnx_ints("output_padding", 2, output_pad))));
}

static void pool(dt_tf_call *c, const char *op) {
    window w = read_window(c);
    closed(c, &w,
           put(c, op, DT_ONNX_IN(opened(c, &w, 0)),
               DT_ONNX_ATTR(dt_onnx_ints("kernel_shape", 2, w.size), dt_onnx_ints("strides", 2, w.stride),
                            padding_of(&w))));
}

static void make_maxpool(dt_tf_call *c) {
    pool(c, "MaxPool");
}

static void make_avgpool(dt_tf_call *c) {
    pool(c, "AveragePool");
}

static void make_bias(dt_tf_call *c) {
    if (strcmp(dt_tf_text(c->d->m, c->node, "data_format", "NHWC"), "NHWC") != 0)
        dt_tf_refuse(c, "with channels first it is not translated");
    give(c, plain2(c, "Add", name_of(c, 0), name_of(c, 1)));
}

static void make_batchnorm(dt_tf_call *c) {
    const window w = {.last = strcmp(dt_tf_text(c->d->m, c->node, "data_format", "NHWC"), "NHWC") == 0};
    if (dt_tf_int(c->node, "is_training", 1)) dt_tf_refuse(c, "it normalises by the batch, as in training");
    closed(c, &w,
           put(c, "BatchNormalization",
               DT_ONNX_IN(opened(c, &w, 0), name_of(c, 1), name_of(c, 2), name_of(c, 3), name_of(c, 4)),
               DT_ONNX_ATTR(dt_onnx_float("epsilon", dt_tf_float(c->node, "epsilon", 1e-4f)))));
}

static void make_depth_to_space(dt_tf_call *c) {
    const window w = {.last = true};
    closed(c, &w,
           put(c, c->node->op, DT_ONNX_IN(opened(c, &w, 0)),
               DT_ONNX_ATTR(dt_onnx_int("blocksize", dt_tf_int(c->node, "block_size", 1)))));
}

static void resize(dt_tf_call *c, bool linear) {
    const window w = {.last = true};
    const char *x = opened(c, &w, 0), *shape = plain1(c, "Shape", x), *size = as_i64(c, 1);
    const char *from = dt_onnx_draft_i64s(c->d, 1, (const int64_t[]){0}),
               *to = dt_onnx_draft_i64s(c->d, 1, (const int64_t[]){2});
    const char *outer = put(c, "Slice", DT_ONNX_IN(shape, from, to), DT_ONNX_PLAIN);
    const char *sizes = put(c, "Concat", DT_ONNX_IN(outer, size), DT_ONNX_ATTR(dt_onnx_int("axis", 0)));
    const bool corners = dt_tf_int(c->node, "align_corners", 0),
               half = dt_tf_int(c->node, "half_pixel_centers", 0);
    closed(c, &w,
           put(c, "Resize", DT_ONNX_IN(x, "", "", sizes),
               DT_ONNX_ATTR(dt_onnx_word("mode", linear ? "linear" : "nearest"),
                            dt_onnx_word("coordinate_transformation_mode", corners          ? "align_corners"
                                                                           : half && linear ? "half_pixel"
                                                                           : half ? "tf_half_pixel_for_nn"
                                                                                  : "asymmetric"),
                            dt_onnx_word("nearest_mode", corners ? "round_prefer_ceil" : "floor"))));
}

static void make_resize_bilinear(dt_tf_call *c) {
    resize(c, true);
}

static void make_resize_nearest(dt_tf_call *c) {
    resize(c, false);
}

/* ---- products ---- */

static const char *turned_matrix(dt_tf_call *c, int32_t i) {
    if (strcmp(c->node->op, "MatMul") == 0) return turn(c, name_of(c, i), 2, (const int64_t[]){1, 0});
    return put(c, "Einsum", DT_ONNX_IN(name_of(c, i)),
               DT_ONNX_ATTR(dt_onnx_word("equation", "...ij->...ji")));
}

static void make_matmul(dt_tf_call *c) {
    const bool a = dt_tf_int(c->node, "transpose_a", 0) || dt_tf_int(c->node, "adj_x", 0);
    const bool b = dt_tf_int(c->node, "transpose_b", 0) || dt_tf_int(c->node, "adj_y", 0);
    const char *x = a ? turned_matrix(c, 0) : name_of(c, 0), *y = b ? turned_matrix(c, 1) : name_of(c, 1);
    give(c, plain2(c, "MatMul", x, y));
}

static void make_einsum(dt_tf_call *c) {
    const char *in[DT_TF_VALUES];
    for (int32_t i = 0; i < c->n_in; i++) in[i] = name_of(c, i);
    give(c, put(c, "Einsum", in, c->n_in,
                DT_ONNX_ATTR(dt_onnx_word("equation", dt_tf_text(c->d->m, c->node, "equation", "")))));
}

/* ---- element-wise ---- */

static void make_same(dt_tf_call *c) {
    memcpy(c->out, c->in, (size_t)c->n_in * sizeof *c->in);
    c->n_out = c->n_in;
}

static void make_first(dt_tf_call *c) {
    give(c, c->in[0].name ? c->in[0].name : name_of(c, 0));
}

static void make_relu6(dt_tf_call *c) {
    const char *low = dt_onnx_draft_f32(c->d, 0), *high = dt_onnx_draft_f32(c->d, 6);
    give(c, put(c, "Clip", DT_ONNX_IN(name_of(c, 0), low, high), DT_ONNX_PLAIN));
}

static void make_leaky(dt_tf_call *c) {
    give(c, put(c, "LeakyRelu", DT_ONNX_IN(name_of(c, 0)),
                DT_ONNX_ATTR(dt_onnx_float("alpha", dt_tf_float(c->node, "alpha", 0.2f)))));
}

static void make_softmax(dt_tf_call *c) {
    give(c, put(c, c->node->op, DT_ONNX_IN(name_of(c, 0)), DT_ONNX_ATTR(dt_onnx_int("axis", -1))));
}

static void make_rsqrt(dt_tf_call *c) {
    give(c, plain1(c, "Reciprocal", plain1(c, "Sqrt", name_of(c, 0))));
}

static void make_square(dt_tf_call *c) {
    const char *x = name_of(c, 0);
    give(c, plain2(c, "Mul", x, x));
}

static void make_squared_difference(dt_tf_call *c) {
    const char *x = plain2(c, "Sub", name_of(c, 0), name_of(c, 1));
    give(c, plain2(c, "Mul", x, x));
}

static void make_log1p(dt_tf_call *c) {
    give(c, plain1(c, "Log", plain2(c, "Add", name_of(c, 0), dt_onnx_draft_f32(c->d, 1))));
}

static void make_erfc(dt_tf_call *c) {
    give(c, plain2(c, "Sub", dt_onnx_draft_f32(c->d, 1), plain1(c, "Erf", name_of(c, 0))));
}

static void make_not_equal(dt_tf_call *c) {
    give(c, plain1(c, "Not", plain2(c, "Equal", name_of(c, 0), name_of(c, 1))));
}

/* Of whole numbers, which are not below 0 where shapes are computed. */
static void make_floor_div(dt_tf_call *c) {
    const char *y = plain2(c, "Div", name_of(c, 0), name_of(c, 1));
    const int64_t type = dt_tf_int(c->node, "T", 1);
    give(c, type == 1 || type == 2 ? plain1(c, "Floor", y) : y);
}

static void make_cast(dt_tf_call *c) {
    give(c, cast(c, name_of(c, 0), dt_tf_int(c->node, "DstT", 1)));
}

/* ---- reductions ---- */

static void make_reduce(dt_tf_call *c) {
    static const char *const op[][2] = {{"Mean", "ReduceMean"},
                                        {"Sum", "ReduceSum"},
                                        {"Max", "ReduceMax"},
                                        {"Min", "ReduceMin"},
                                        {"Prod", "ReduceProd"}};
    int64_t axis[DT_MAX_DIM];
    const int32_t n = ints_of(c, 1, DT_MAX_DIM, axis);
    const char *axes = dt_onnx_draft_i64s(c->d, n, axis);
    for (size_t i = 0; i < sizeof op / sizeof op[0]; i++)
        if (strcmp(op[i][0], c->node->op) == 0)
            give(c, put(c, op[i][1], DT_ONNX_IN(name_of(c, 0), axes),
                        DT_ONNX_ATTR(dt_onnx_int("keepdims", dt_tf_int(c->node, "keep_dims", 0)))));
}

static void make_argmax(dt_tf_call *c) {
    const char *y = put(c, c->node->op, DT_ONNX_IN(name_of(c, 0)),
                        DT_ONNX_ATTR(dt_onnx_int("axis", int_of(c, 1)), dt_onnx_int("keepdims", 0)));
    give(c, cast(c, y, dt_tf_int(c->node, "output_type", 9)));
}

static void make_cumsum(dt_tf_call *c) {
    give(c, put(c, "CumSum", DT_ONNX_IN(name_of(c, 0), name_of(c, 1)),
                DT_ONNX_ATTR(dt_onnx_int("exclusive", dt_tf_int(c->node, "exclusive", 0)),
                             dt_onnx_int("reverse", dt_tf_int(c->node, "reverse", 0)))));
}

static void make_topk(dt_tf_call *c) {
    const char *k = dt_onnx_draft_i64s(c->d, 1, (const int64_t[]){int_of(c, 1)});
    const char *out[2] = {dt_onnx_text(c->d->m, "%s%s/values", c->scope, c->node->name),
                          dt_onnx_text(c->d->m, "%s%s/indices", c->scope, c->node->name)};
    if (!out[0] || !out[1]) return;
    dt_onnx_draft_node(c->d, "TopK", "", DT_ONNX_IN(name_of(c, 0), k), out, 2, DT_ONNX_PLAIN);
    give(c, out[0]);
    give(c, cast(c, out[1], 3));
}

/* ---- shapes ---- */

static void make_reshape(dt_tf_call *c) {
    give(c, plain2(c, "Reshape", name_of(c, 0), as_i64(c, 1)));
}

static void make_squeeze(dt_tf_call *c) {
    int64_t axis[DT_MAX_DIM];
    const int64_t n = dt_tf_ints(c->node, "squeeze_dims", DT_MAX_DIM, axis);
    const char *x = name_of(c, 0);
    give(c, n > 0 && n <= DT_MAX_DIM ? plain2(c, "Squeeze", x, dt_onnx_draft_i64s(c->d, (int32_t)n, axis))
                                     : plain1(c, "Squeeze", x));
}

static void make_expand_dims(dt_tf_call *c) {
    const char *axis = dt_onnx_draft_i64s(c->d, 1, (const int64_t[]){int_of(c, 1)});
    give(c, plain2(c, "Unsqueeze", name_of(c, 0), axis));
}

static void make_transpose(dt_tf_call *c) {
    int64_t perm[DT_MAX_DIM];
    const int32_t n = ints_of(c, 1, DT_MAX_DIM, perm);
    give(c, turn(c, name_of(c, 0), n, perm));
}

static void make_pack(dt_tf_call *c) {
    const int64_t at = dt_tf_int(c->node, "axis", 0);
    const char *in[DT_TF_VALUES], *axis = dt_onnx_draft_i64s(c->d, 1, &at);
    for (int32_t i = 0; i < c->n_in; i++) in[i] = plain2(c, "Unsqueeze", name_of(c, i), axis);
    give(c, put(c, "Concat", in, c->n_in, DT_ONNX_ATTR(dt_onnx_int("axis", at))));
}

static void make_concat(dt_tf_call *c) {
    const char *in[DT_TF_VALUES];
    for (int32_t i = 0; i < c->n_in - 1; i++) in[i] = name_of(c, i);
    give(c, put(c, "Concat", in, c->n_in - 1, DT_ONNX_ATTR(dt_onnx_int("axis", int_of(c, c->n_in - 1)))));
}

/* n parts of x along an axis; sizes NULL: equal ones. */
static int32_t split(dt_tf_call *c, const char *x, int64_t axis, int64_t n, const int64_t *sizes,
                     const char *part[DT_TF_VALUES]) {
    if (n < 1 || n > DT_TF_VALUES) {
        dt_tf_refuse(c, "into %lld parts", (long long)n);
        return 0;
    }
    for (int64_t i = 0; i < n; i++)
        part[i] = dt_onnx_text(c->d->m, "%s%s/part_%lld", c->scope, c->node->name, (long long)i);
    for (int64_t i = 0; i < n; i++)
        if (!part[i]) return 0;
    const char *in[2] = {x, sizes ? dt_onnx_draft_i64s(c->d, (int32_t)n, sizes) : ""};
    dt_onnx_draft_node(
        c->d, "Split", "", in, sizes ? 2 : 1, part, (int32_t)n,
        DT_ONNX_ATTR(dt_onnx_int("axis", axis),
                     {.name = sizes ? NULL : "num_outputs", .kind = DT_ONNX_INT, .n = 1, .i = n}));
    return (int32_t)n;
}

static void make_split(dt_tf_call *c) {
    const char *part[DT_TF_VALUES];
    const int32_t n = split(c, name_of(c, 1), int_of(c, 0), dt_tf_int(c->node, "num_split", 1), NULL, part);
    for (int32_t i = 0; i < n; i++) give(c, part[i]);
}

static void make_split_v(dt_tf_call *c) {
    const char *part[DT_TF_VALUES];
    int64_t size[DT_TF_VALUES];
    const int32_t n_size = ints_of(c, 1, DT_TF_VALUES, size);
    const int32_t n = split(c, name_of(c, 0), int_of(c, 2), n_size, size, part);
    for (int32_t i = 0; i < n; i++) give(c, part[i]);
}

static void make_unpack(dt_tf_call *c) {
    const char *part[DT_TF_VALUES];
    const int64_t at = dt_tf_int(c->node, "axis", 0);
    const char *axis = dt_onnx_draft_i64s(c->d, 1, &at);
    const int32_t n = split(c, name_of(c, 0), at, dt_tf_int(c->node, "num", 1), NULL, part);
    for (int32_t i = 0; i < n; i++) give(c, plain2(c, "Squeeze", part[i], axis));
}

static const char *sliced(dt_tf_call *c, int32_t n, const int64_t *begin, const int64_t *end,
                          const int64_t *axis, const int64_t *step) {
    const char *from = dt_onnx_draft_i64s(c->d, n, begin), *to = dt_onnx_draft_i64s(c->d, n, end),
               *axes = dt_onnx_draft_i64s(c->d, n, axis), *steps = dt_onnx_draft_i64s(c->d, n, step);
    return put(c, "Slice", DT_ONNX_IN(name_of(c, 0), from, to, axes, steps), DT_ONNX_PLAIN);
}

static void make_slice(dt_tf_call *c) {
    int64_t begin[DT_MAX_DIM], size[DT_MAX_DIM], end[DT_MAX_DIM], axis[DT_MAX_DIM], step[DT_MAX_DIM];
    const int32_t n = ints_of(c, 1, DT_MAX_DIM, begin);
    if (ints_of(c, 2, DT_MAX_DIM, size) != n) dt_tf_refuse(c, "begin and size are of two lengths");
    for (int32_t i = 0; i < n && c->d->status == DT_OK; i++) {
        axis[i] = i, step[i] = 1;
        if (size[i] < 0 || __builtin_add_overflow(begin[i], size[i], &end[i])) end[i] = INT64_MAX;
    }
    give(c, c->d->status == DT_OK ? sliced(c, n, begin, end, axis, step) : "");
}

/* numpy's x[a:b:s, ..., k, newaxis]: a part for each entry, dimensions behind an ellipsis counted from the end. */
static void make_strided_slice(dt_tf_call *c) {
    int64_t begin[DT_MAX_DIM], end[DT_MAX_DIM], step[DT_MAX_DIM];
    int64_t from[DT_MAX_DIM], to[DT_MAX_DIM], by[DT_MAX_DIM], axis[DT_MAX_DIM], gone[DT_MAX_DIM],
        fresh[DT_MAX_DIM];
    const int32_t n = ints_of(c, 1, DT_MAX_DIM, begin);
    const int64_t no_begin = dt_tf_int(c->node, "begin_mask", 0), no_end = dt_tf_int(c->node, "end_mask", 0),
                  ellipsis = dt_tf_int(c->node, "ellipsis_mask", 0),
                  added = dt_tf_int(c->node, "new_axis_mask", 0),
                  shrunk = dt_tf_int(c->node, "shrink_axis_mask", 0);
    int32_t n_slice = 0, n_gone = 0, n_fresh = 0, behind = 0;
    if (ints_of(c, 2, DT_MAX_DIM, end) != n || ints_of(c, 3, DT_MAX_DIM, step) != n)
        dt_tf_refuse(c, "begin, end and strides are of several lengths");
    if (ellipsis && (added || shrunk))
        dt_tf_refuse(c, "an ellipsis beside indices or new axes is not translated");
    if (added && shrunk) dt_tf_refuse(c, "indices beside new axes are not translated");
    if (c->d->status != DT_OK) return;
    bool after = false;
    for (int32_t i = 0, at = 0; i < n; i++) {
        const int64_t bit = INT64_C(1) << i;
        if (ellipsis & bit) {
            after = true, behind = n - i - 1;
            continue;
        }
        if (added & bit) {
            fresh[n_fresh++] = i;
            continue;
        }
        const bool index = (shrunk & bit) != 0;
        axis[n_slice] = after ? -behind-- : at++;
        by[n_slice] = index ? 1 : step[i];
        from[n_slice] = (no_begin & bit) && !index ? step[i] > 0 ? 0 : INT64_MAX : begin[i];
        to[n_slice] = index            ? begin[i] == -1 ? INT64_MAX : begin[i] + 1
                      : (no_end & bit) ? step[i] > 0 ? INT64_MAX : INT64_MIN
                                       : end[i];
        if (index) gone[n_gone++] = axis[n_slice];
        n_slice++;
    }
    const char *y = n_slice > 0 ? sliced(c, n_slice, from, to, axis, by) : name_of(c, 0);
    if (n_gone > 0) y = plain2(c, "Squeeze", y, dt_onnx_draft_i64s(c->d, n_gone, gone));
    if (n_fresh > 0) y = plain2(c, "Unsqueeze", y, dt_onnx_draft_i64s(c->d, n_fresh, fresh));
    give(c, y);
}

static void make_pad(dt_tf_call *c) {
    int64_t pair[2 * DT_MAX_DIM] = {0}, pads[2 * DT_MAX_DIM];
    const int32_t n = ints_of(c, 1, 2 * DT_MAX_DIM, pair) / 2;
    for (int32_t i = 0; i < n; i++) pads[i] = pair[2 * i], pads[n + i] = pair[2 * i + 1];
    const char *mode = dt_tf_text(c->d->m, c->node, "mode", "constant"),
               *list = dt_onnx_draft_i64s(c->d, 2 * n, pads);
    if (strcmp(mode, "SYMMETRIC") == 0) dt_tf_refuse(c, "SYMMETRIC is not translated");
    const bool reflect = strcmp(mode, "REFLECT") == 0;
    give(c, put(c, "Pad", (const char *const[]){name_of(c, 0), list, c->n_in > 2 ? name_of(c, 2) : ""},
                c->n_in > 2 ? 3 : 2, DT_ONNX_ATTR(dt_onnx_word("mode", reflect ? "reflect" : "constant"))));
}

static void make_tile(dt_tf_call *c) {
    give(c, plain2(c, "Tile", name_of(c, 0), as_i64(c, 1)));
}

static void make_shape(dt_tf_call *c) {
    give(c, cast(c, plain1(c, "Shape", name_of(c, 0)), dt_tf_int(c->node, "out_type", 3)));
}

static void make_fill(dt_tf_call *c) {
    give(c, plain2(c, "Expand", name_of(c, 1), as_i64(c, 0)));
}

static void make_broadcast(dt_tf_call *c) {
    give(c, plain2(c, "Expand", name_of(c, 0), as_i64(c, 1)));
}

static void make_gather(dt_tf_call *c) {
    if (dt_tf_int(c->node, "batch_dims", 0)) dt_tf_refuse(c, "batch_dims are not translated");
    give(c, put(c, "Gather", DT_ONNX_IN(name_of(c, 0), name_of(c, 1)),
                DT_ONNX_ATTR(dt_onnx_int("axis", c->n_in > 2 ? int_of(c, 2) : 0))));
}

static void make_one_hot(dt_tf_call *c) {
    const char *axis = dt_onnx_draft_i64s(c->d, 1, (const int64_t[]){0});
    const char *on = plain2(c, "Unsqueeze", name_of(c, 2), axis),
               *off = plain2(c, "Unsqueeze", name_of(c, 3), axis);
    const char *values = put(c, "Concat", DT_ONNX_IN(off, on), DT_ONNX_ATTR(dt_onnx_int("axis", 0)));
    give(c, put(c, "OneHot", DT_ONNX_IN(name_of(c, 0), name_of(c, 1), values),
                DT_ONNX_ATTR(dt_onnx_int("axis", dt_tf_int(c->node, "axis", -1)))));
}

#define ANY -1
const dt_tf_op dt_tf_ops[] = {
    {"Identity", 1, 1, .make = make_same},
    {"IdentityN", 1, ANY, .make = make_same},
    {"StopGradient", 1, 1, .make = make_same},
    {"PreventGradient", 1, 1, .make = make_same},
    {"Snapshot", 1, 1, .make = make_same},
    {"CheckNumerics", 1, 1, .make = make_same},
    {"EnsureShape", 1, 1, .make = make_same},
    {"PlaceholderWithDefault", 1, 1, .make = make_first},
    {"NoOp", 0, ANY, .make = make_same},
    {"Conv2D", 2, 2, .make = make_conv},
    {"DepthwiseConv2dNative", 2, 2, .make = make_depthwise},
    {"Conv2DBackpropInput", 3, 3, .make = make_conv_transpose},
    {"SpaceToBatchND", 3, 3, .make = make_space_to_batch},
    {"BatchToSpaceND", 3, 3, .make = make_batch_to_space},
    {"MaxPool", 1, 1, .make = make_maxpool, .keeps = true},
    {"AvgPool", 1, 1, .make = make_avgpool, .keeps = true},
    {"BiasAdd", 2, 2, .make = make_bias, .keeps = true},
    {"FusedBatchNorm", 5, 5, .make = make_batchnorm, .keeps = true},
    {"FusedBatchNormV2", 5, 5, .make = make_batchnorm, .keeps = true},
    {"FusedBatchNormV3", 5, 5, .make = make_batchnorm, .keeps = true},
    {"DepthToSpace", 1, 1, .make = make_depth_to_space},
    {"SpaceToDepth", 1, 1, .make = make_depth_to_space},
    {"ResizeBilinear", 2, 2, .make = make_resize_bilinear, .keeps = true},
    {"ResizeNearestNeighbor", 2, 2, .make = make_resize_nearest, .keeps = true},
    {"MatMul", 2, 2, .make = make_matmul},
    {"BatchMatMul", 2, 2, .make = make_matmul},
    {"BatchMatMulV2", 2, 2, .make = make_matmul},
    {"BatchMatMulV3", 2, 2, .make = make_matmul},
    {"Einsum", 1, ANY, .make = make_einsum},
    {"Add", 2, 2, .to = "Add"},
    {"AddV2", 2, 2, .to = "Add"},
    {"AddN", 1, ANY, .to = "Sum"},
    {"Sub", 2, 2, .to = "Sub"},
    {"Mul", 2, 2, .to = "Mul"},
    {"Div", 2, 2, .to = "Div"},
    {"RealDiv", 2, 2, .to = "Div"},
    {"DivNoNan", 2, 2, .to = "Div"},
    {"Maximum", 2, 2, .to = "Max"},
    {"Minimum", 2, 2, .to = "Min"},
    {"Pow", 2, 2, .to = "Pow"},
    {"FloorMod", 2, 2, .to = "Mod"},
    {"FloorDiv", 2, 2, .make = make_floor_div},
    {"SquaredDifference", 2, 2, .make = make_squared_difference},
    {"Relu", 1, 1, .to = "Relu"},
    {"Relu6", 1, 1, .make = make_relu6, .keeps = true},
    {"LeakyRelu", 1, 1, .make = make_leaky, .keeps = true},
    {"Elu", 1, 1, .to = "Elu"},
    {"Selu", 1, 1, .to = "Selu"},
    {"Sigmoid", 1, 1, .to = "Sigmoid"},
    {"Tanh", 1, 1, .to = "Tanh"},
    {"Softplus", 1, 1, .to = "Softplus"},
    {"Softsign", 1, 1, .to = "Softsign"},
    {"Softmax", 1, 1, .make = make_softmax},
    {"LogSoftmax", 1, 1, .make = make_softmax},
    {"Exp", 1, 1, .to = "Exp"},
    {"Log", 1, 1, .to = "Log"},
    {"Log1p", 1, 1, .make = make_log1p},
    {"Sqrt", 1, 1, .to = "Sqrt"},
    {"Rsqrt", 1, 1, .make = make_rsqrt},
    {"Square", 1, 1, .make = make_square},
    {"Neg", 1, 1, .to = "Neg"},
    {"Abs", 1, 1, .to = "Abs"},
    {"Erf", 1, 1, .to = "Erf"},
    {"Erfc", 1, 1, .make = make_erfc},
    {"Reciprocal", 1, 1, .to = "Reciprocal"},
    {"Sin", 1, 1, .to = "Sin"},
    {"Cos", 1, 1, .to = "Cos"},
    {"Floor", 1, 1, .to = "Floor"},
    {"Ceil", 1, 1, .to = "Ceil"},
    {"Round", 1, 1, .to = "Round"},
    {"Sign", 1, 1, .to = "Sign"},
    {"Cast", 1, 1, .make = make_cast, .keeps = true},
    {"Equal", 2, 2, .to = "Equal"},
    {"NotEqual", 2, 2, .make = make_not_equal},
    {"Greater", 2, 2, .to = "Greater"},
    {"GreaterEqual", 2, 2, .to = "GreaterOrEqual"},
    {"Less", 2, 2, .to = "Less"},
    {"LessEqual", 2, 2, .to = "LessOrEqual"},
    {"LogicalAnd", 2, 2, .to = "And"},
    {"LogicalOr", 2, 2, .to = "Or"},
    {"LogicalNot", 1, 1, .to = "Not"},
    {"Select", 3, 3, .to = "Where"},
    {"SelectV2", 3, 3, .to = "Where"},
    {"Mean", 2, 2, .make = make_reduce},
    {"Sum", 2, 2, .make = make_reduce},
    {"Max", 2, 2, .make = make_reduce},
    {"Min", 2, 2, .make = make_reduce},
    {"Prod", 2, 2, .make = make_reduce},
    {"ArgMax", 2, 2, .make = make_argmax},
    {"ArgMin", 2, 2, .make = make_argmax},
    {"Cumsum", 2, 2, .make = make_cumsum},
    {"TopKV2", 2, 2, .make = make_topk, .result = {"values", "indices"}},
    {"Reshape", 2, 2, .make = make_reshape},
    {"Squeeze", 1, 1, .make = make_squeeze},
    {"ExpandDims", 2, 2, .make = make_expand_dims},
    {"Transpose", 2, 2, .make = make_transpose},
    {"Pack", 1, ANY, .make = make_pack},
    {"ConcatV2", 2, ANY, .make = make_concat},
    {"Split", 2, 2, .make = make_split},
    {"SplitV", 3, 3, .make = make_split_v},
    {"Unpack", 1, 1, .make = make_unpack},
    {"Slice", 3, 3, .make = make_slice},
    {"StridedSlice", 4, 4, .make = make_strided_slice},
    {"Pad", 2, 2, .make = make_pad, .keeps = true},
    {"PadV2", 3, 3, .make = make_pad, .keeps = true},
    {"MirrorPad", 2, 2, .make = make_pad, .keeps = true},
    {"Tile", 2, 2, .make = make_tile},
    {"Shape", 1, 1, .make = make_shape},
    {"Fill", 2, 2, .make = make_fill},
    {"BroadcastTo", 2, 2, .make = make_broadcast},
    {"Range", 3, 3, .to = "Range"},
    {"Gather", 2, 2, .make = make_gather},
    {"GatherV2", 3, 3, .make = make_gather},
    {"OneHot", 4, 4, .make = make_one_hot},
    {.op = NULL},
};
