/* Convolutions, pools and products. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lower.h"

enum { SIDES = 3 };

static const char *origin_of(const dt_lv *v) {
    return v->origin ? v->origin : v->name;
}

/* ---- windows ---- */

typedef struct window {
    int32_t sides; /* 1 to 3 */
    int64_t kernel[SIDES], stride[SIDES], dilation[SIDES], begin[SIDES], end[SIDES];
    int64_t declared_end[SIDES]; /* as the file says, where rounding up adds nothing to it */
} window;

static bool read_list(const dt_onnx_node *n, const char *name, int32_t count, int64_t otherwise,
                      int64_t *out) {
    const int64_t *given;
    const int64_t have = dt_onnx_attr_ints(n, name, &given);
    if (have > 0 && have != count) return false;
    for (int32_t i = 0; i < count; i++) out[i] = have > 0 ? given[i] : otherwise;
    return true;
}

/* Of an op whose window slides over `in` and gives `out`: N C sides. */
static bool read_window(const dt_low_node *n, const dt_lv *in, const dt_lv *out, const int64_t *kernel,
                        window *k) {
    const char *mode = dt_onnx_attr_text(n->node, "auto_pad", "NOTSET");
    int64_t pads[2 * SIDES];
    k->sides = in->t.ndim - 2;
    if (k->sides < 1 || k->sides > SIDES || out->t.ndim != in->t.ndim) return false;
    if (!read_list(n->node, "strides", k->sides, 1, k->stride) ||
        !read_list(n->node, "dilations", k->sides, 1, k->dilation) ||
        !read_list(n->node, "pads", 2 * k->sides, 0, pads))
        return false;
    for (int32_t i = 0; i < k->sides; i++) {
        k->kernel[i] = kernel[i];
        const int64_t span = k->dilation[i] * (kernel[i] - 1) + 1, side = in->t.dim[2 + i],
                      covers = (out->t.dim[2 + i] - 1) * k->stride[i] + span,
                      more = dt_max_i64(covers - side, 0);
        k->begin[i] = pads[i], k->declared_end[i] = pads[k->sides + i];
        if (strncmp(mode, "SAME", 4) == 0) {
            k->begin[i] = (more + (strcmp(mode, "SAME_LOWER") == 0)) / 2;
            k->declared_end[i] = more - k->begin[i];
        } else if (strcmp(mode, "VALID") == 0) {
            k->begin[i] = k->declared_end[i] = 0;
        }
        k->end[i] = dt_max_i64(covers - side - k->begin[i], 0);
        if (kernel[i] < 1 || k->stride[i] < 1 || k->dilation[i] < 1 || k->begin[i] < 0 ||
            kernel[i] > INT32_MAX || k->stride[i] > INT32_MAX || k->dilation[i] > INT32_MAX ||
            k->begin[i] > INT32_MAX || k->end[i] > INT32_MAX)
            return false;
    }
    return true;
}

/* The last two sides; of one side a row of them. */
static dt_attr window_attr(const window *k, int64_t groups) {
    dt_attr t = {.window.groups = (int32_t)groups};
    for (int32_t a = 0; a < 2; a++) {
        const int32_t i = k->sides - 2 + a;
        t.window.kernel[a] = i < 0 ? 1 : (int32_t)k->kernel[i];
        t.window.stride[a] = i < 0 ? 1 : (int32_t)k->stride[i];
        t.window.dilation[a] = i < 0 ? 1 : (int32_t)k->dilation[i];
        t.window.pad_begin[a] = i < 0 ? 0 : (int32_t)k->begin[i];
        t.window.pad_end[a] = i < 0 ? 0 : (int32_t)k->end[i];
    }
    return t;
}

/* x [N, L, C] or [N, H, W, C] as images. */
static dt_vid as_images(dt_low *w, const char *name, dt_vid v) {
    if (w->st != DT_OK) return -1;
    const dt_value x = w->g->value[v];
    return x.ndim == 3 ? dt_low_reshape(w, name, v, 4, (int64_t[]){x.dim[0], 1, x.dim[1], x.dim[2]}) : v;
}

/* [N D', ...]: of each place of the window along the depth the planes that its taps lie on, as channels of one. */
static dt_vid take_depths(dt_low *w, const char *name, dt_vid v, const window *k, int64_t groups,
                          int64_t planes) {
    if (w->st != DT_OK) return -1;
    const dt_value x = w->g->value[v];
    const int64_t *d = x.dim, c = d[4], plane = d[2] * d[3] * c, stride = k->stride[0],
                  span = k->dilation[0] * (k->kernel[0] - 1),
                  needed = dt_max_i64(d[1] + k->begin[0] + k->end[0], span + planes * stride);
    dt_vid tap[64];
    v = dt_low_reshape(w, name, v, 3, (int64_t[]){d[0], d[1], plane});
    v = dt_low_pad(w, name, v, 1, k->begin[0], needed);
    for (int64_t t = 0; t < k->kernel[0]; t++) {
        dt_vid s = dt_low_slice(w, name, v, 1, t * k->dilation[0], planes * stride);
        s = dt_low_reshape(w, name, s, 4, (int64_t[]){d[0], planes, stride, plane});
        s = dt_low_slice(w, name, s, 2, 0, 1);
        tap[t] = dt_low_reshape(w, name, s, 3, (int64_t[]){d[0] * planes * d[2] * d[3], groups, c / groups});
    }
    v = k->kernel[0] == 1
            ? tap[0]
            : dt_low_add(w, name, DT_OP_CONCAT, &(dt_attr){.shape.axis = 2}, (int32_t)k->kernel[0], tap);
    return dt_low_reshape(w, name, v, 4, (int64_t[]){d[0] * planes, d[2], d[3], k->kernel[0] * c});
}

/* The filters [K, C/G, sides] as [K, R, S, C/G], a depth before the channels. pad: channels that the images have besides. */
static dt_vid filters(dt_low *w, dt_lv *f, int64_t padded) {
    static const int32_t perms[SIDES + 1][5] = {{0}, {0, 2, 1}, {0, 2, 3, 1}, {0, 3, 4, 2, 1}};
    const int32_t sides = f->t.ndim - 2;
    const int64_t *d = f->t.dim;
    const float *x = dt_low_permuted(w, f, f->t.ndim, d, perms[sides]);
    const int64_t dim[] = {d[0], sides == 1 ? 1 : d[2 + (sides == 3)],
                           d[2 + (sides == 2   ? 1
                                  : sides == 3 ? 2
                                               : 0)],
                           d[1] * (sides == 3 ? d[2] : 1)};
    if (!x) return -1;
    const dt_vid v = dt_low_param(w, origin_of(f), x, 4, dim, true, true);
    if (v >= 0 && padded > dim[3]) {
        dt_value *p = &w->g->value[v];
        p->stored_c = dim[3];
        p->dim[3] = padded;
    }
    return v;
}

bool dt_low_conv_window(const dt_low_node *n, const dt_lv *x, const dt_lv *y, const int64_t *kernel,
                        dt_window_attr *out) {
    const int64_t groups = dt_onnx_attr_int(n->node, "group", 1);
    window k;
    if (groups < 1 || groups > INT32_MAX || !read_window(n, x, y, kernel, &k) || k.sides > 2) return false;
    *out = window_attr(&k, groups).window;
    return true;
}

static bool lower_conv(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 1), *b = dt_low_in(n, 2), *y = dt_low_out(n, 0);
    const int64_t groups = dt_onnx_attr_int(n->node, "group", 1);
    window k;
    if (!x || !f || !y || !dt_low_is_real(x) || !dt_low_known(f) || f->rowwise || (b && !dt_low_known(b)) ||
        dt_low_is_empty(y) || dt_low_is_empty(x) || f->t.ndim != x->t.ndim ||
        !read_window(n, x, y, f->t.dim + 2, &k) || groups < 1 || groups > INT32_MAX)
        return false;
    if (k.sides == 3 && k.kernel[0] > 64) return false;
    dt_vid v = dt_low_last(w, x);
    if (w->st != DT_OK) return true;
    const int64_t have = w->g->value[v].dim[x->t.ndim - 1], padded = have > x->t.dim[1] ? have : 0;
    if (padded && (groups != 1 || k.sides != 2)) {
        w->st = dt_fail(DT_ERR_INTERNAL, "padded channels reach '%s'", y->name);
        return true;
    }
    v = k.sides == 3 ? take_depths(w, y->name, v, &k, groups, y->t.dim[2]) : as_images(w, y->name, v);
    const dt_attr t = window_attr(&k, groups);
    const dt_vid in[] = {v, filters(w, f, padded), b ? dt_low_vector(w, b) : -1};
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_CONV, &t, 3, in), true);
    return true;
}

/* Filters [C, K/G, R, S] as [C, R, S, K/G]: the gradient of a convolution. */
static bool lower_conv_transpose(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 1), *b = dt_low_in(n, 2), *y = dt_low_out(n, 0);
    const int64_t groups = dt_onnx_attr_int(n->node, "group", 1);
    window k;
    /* It slides over the result. */
    if (!x || !f || !y || !dt_low_is_real(x) || !dt_low_known(f) || f->rowwise || (b && !dt_low_known(b)) ||
        dt_low_is_empty(y) || dt_low_is_empty(x) || f->t.ndim != x->t.ndim || x->t.ndim > 4 ||
        !read_window(n, y, x, f->t.dim + 2, &k) || groups < 1 || groups > INT32_MAX)
        return false;
    const char *mode = dt_onnx_attr_text(n->node, "auto_pad", "NOTSET");
    const int64_t *shape;
    int64_t extra[SIDES];
    if (!read_list(n->node, "output_padding", k.sides, 0, extra)) return false;
    const bool by_shape =
        dt_onnx_attr_ints(n->node, "output_shape", &shape) > 0 || strncmp(mode, "SAME", 4) == 0;
    for (int32_t i = 0; i < k.sides; i++) {
        const int64_t span = k.dilation[i] * (k.kernel[i] - 1) + 1,
                      total = (x->t.dim[2 + i] - 1) * k.stride[i] + span + extra[i] - y->t.dim[2 + i];
        if (by_shape) k.begin[i] = strcmp(mode, "SAME_UPPER") == 0 ? total / 2 : total - total / 2;
        /* what a convolution of the result back to x would have */
        const int64_t covers = (x->t.dim[2 + i] - 1) * k.stride[i] + span;
        k.end[i] = dt_max_i64(covers - y->t.dim[2 + i] - k.begin[i], 0);
        if (k.begin[i] < 0 ||
            (y->t.dim[2 + i] + k.begin[i] + k.end[i] - span) / k.stride[i] + 1 != x->t.dim[2 + i])
            return false;
    }
    dt_attr t = window_attr(&k, groups);
    t.window.size[0] = k.sides == 1 ? 1 : (int32_t)y->t.dim[2];
    t.window.size[1] = (int32_t)y->t.dim[y->t.ndim - 1];
    dt_vid v = as_images(w, y->name, dt_low_last(w, x));
    v = dt_low_add(w, y->name, DT_OP_CONV_DGRAD, &t, 2, (dt_vid[]){v, filters(w, f, 0)});
    if (b) {
        const int64_t n_b = dt_host_n_elem(&b->t);
        v = dt_low_binary(w, y->name, v, dt_low_param(w, origin_of(b), b->t.data, 1, &n_b, true, false),
                          DT_BINARY_ADD);
    }
    dt_low_set(w, y, v, true);
    return true;
}

/* The pool over the last two sides, then over the depth, where each is a pool of images. */
static dt_vid pool_sides(dt_low *w, const char *name, dt_op op, dt_vid v, const window *k) {
    dt_attr t = window_attr(k, 0);
    t.window.groups = 0;
    t.window.dilation[0] = t.window.dilation[1] = 0;
    if (w->st != DT_OK) return -1;
    const dt_value x = w->g->value[v];
    if (k->sides < 3) return dt_low_add(w, name, op, &t, 1, (dt_vid[]){as_images(w, name, v)});
    v = dt_low_reshape(w, name, v, 4, (int64_t[]){x.dim[0] * x.dim[1], x.dim[2], x.dim[3], x.dim[4]});
    v = dt_low_add(w, name, op, &t, 1, &v);
    if (v < 0) return -1;
    const dt_value p = w->g->value[v];
    v = dt_low_reshape(w, name, v, 4, (int64_t[]){x.dim[0], x.dim[1], p.dim[1] * p.dim[2], x.dim[4]});
    const dt_attr deep = {.window = {.kernel = {(int32_t)k->kernel[0], 1},
                                     .stride = {(int32_t)k->stride[0], 1},
                                     .pad_begin = {(int32_t)k->begin[0], 0},
                                     .pad_end = {(int32_t)k->end[0], 0}}};
    return dt_low_add(w, name, op, &deep, 1, &v);
}

static bool read_pool(const dt_low_node *n, window *k) {
    const dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    const int64_t *kernel;
    if (!x || !y || dt_low_out(n, 1) || !dt_low_is_real(x) || dt_low_is_empty(x) || dt_low_is_empty(y))
        return false;
    if (dt_onnx_attr_ints(n->node, "kernel_shape", &kernel) != x->t.ndim - 2 ||
        !read_window(n, x, y, kernel, k))
        return false;
    for (int32_t i = 0; i < k->sides; i++)
        if (k->dilation[i] != 1 || dt_max_i64(k->begin[i], k->end[i]) > k->kernel[i] / 2) return false;
    return true;
}

static bool lower_max_pool(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    window k;
    if (!read_pool(n, &k)) return false;
    for (int32_t i = 0; i < k.sides; i++)
        if (k.kernel[i] * (i + 1 < k.sides && i > 0 ? k.kernel[i + 1] : 1) > 255) return false;
    if (k.sides == 2 && k.kernel[0] * k.kernel[1] > 255) return false;
    dt_low_set(w, y, pool_sides(w, y->name, DT_OP_MAXPOOL, dt_low_last(w, x), &k), true);
    return true;
}

/* How many numbers of a side a mean is of, where the pool counts them. */
static int64_t counted(const window *k, int32_t i, int64_t side, int64_t at, bool with_padding) {
    const int64_t from = at * k->stride[i] - k->begin[i], to = from + k->kernel[i];
    if (with_padding) return dt_min_i64(to, side + k->declared_end[i]) - from;
    return dt_min_i64(to, side) - dt_max_i64(from, 0);
}

static bool lower_average_pool(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    const bool with_padding = dt_onnx_attr_int(n->node, "count_include_pad", 0) != 0;
    window k;
    if (!read_pool(n, &k)) return false;
    dt_vid v = pool_sides(w, y->name, DT_OP_AVGPOOL, dt_low_last(w, x), &k);
    /* The kernel divides by its window; the file perhaps by what is there. */
    int64_t dim[DT_MAX_DIM], n_place = 1;
    for (int32_t i = 0; i < k.sides; i++) n_place *= dim[i] = y->t.dim[2 + i];
    dim[k.sides] = 1;
    float *factor = dt_low_alloc(w, n_place * (int64_t)sizeof *factor);
    bool plain = true;
    for (int64_t p = 0; factor && p < n_place; p++) {
        int64_t at = p;
        double f = 1;
        for (int32_t i = k.sides - 1; i >= 0; at /= dim[i--])
            f *= (double)k.kernel[i] /
                 (double)dt_max_i64(counted(&k, i, x->t.dim[2 + i], at % dim[i], with_padding), 1);
        factor[p] = (float)f;
        plain = plain && f == 1;
    }
    if (!plain) {
        char name[DT_NAME_MAX];
        snprintf(name, sizeof name, "%.60s/parts", y->name);
        int64_t shape[DT_MAX_DIM] = {y->t.dim[0]};
        for (int32_t i = 0; i < k.sides; i++) shape[1 + i] = y->t.dim[2 + i];
        shape[1 + k.sides] = y->t.dim[1];
        v = dt_low_reshape(w, y->name, v, y->t.ndim, shape);
        v = dt_low_binary(w, y->name, v, dt_low_param(w, name, factor, k.sides + 1, dim, false, false),
                          DT_BINARY_MUL);
    }
    dt_low_set(w, y, v, true);
    return true;
}

static bool global_pool(dt_low *w, const dt_low_node *n, dt_reduce_kind kind) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!x || !y || !dt_low_is_real(x) || dt_low_is_empty(x) || x->t.ndim < 3) return false;
    const bool last = dt_low_is_last(x);
    dt_vid v = last ? dt_low_last(w, x) : dt_low_plain(w, x);
    if (last && kind == DT_REDUCE_MEAN) {
        int64_t places = 1;
        for (int32_t i = 2; i < x->t.ndim - 1; i++) places *= x->t.dim[i];
        v = dt_low_reshape(w, y->name, v, 4,
                           (int64_t[]){x->t.dim[0], places, x->t.dim[x->t.ndim - 1], x->t.dim[1]});
        dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_GLOBAL_AVGPOOL, NULL, 1, &v), true);
        return true;
    }
    dt_attr t = {.reduce.kind = kind};
    for (int32_t i = 2; i < x->t.ndim; i++) t.reduce.axes |= 1 << dt_low_place(i, x->t.ndim, last);
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_REDUCE, &t, 1, &v), last);
    return true;
}

static bool lower_global_average(dt_low *w, const dt_low_node *n) {
    return global_pool(w, n, DT_REDUCE_MEAN);
}
static bool lower_global_max(dt_low *w, const dt_low_node *n) {
    return global_pool(w, n, DT_REDUCE_MAX);
}

/* ---- products ---- */

/* The weight [K, C] of a dense layer: b [C, K], or [K, C] where it is turned. */
static dt_vid dense_weight(dt_low *w, dt_lv *b, bool turned, float alpha) {
    static const int32_t perms[2][2] = {{1, 0}, {0, 1}};
    const int64_t k = b->t.dim[turned ? 0 : 1], c = b->t.dim[turned ? 1 : 0], n = k * c;
    const float *x = dt_low_permuted(w, b, 2, b->t.dim, perms[turned]);
    if (!x) return -1;
    if (alpha != 1) {
        float *scaled = dt_low_alloc(w, n * (int64_t)sizeof *scaled);
        for (int64_t i = 0; scaled && i < n; i++) scaled[i] = alpha * x[i];
        x = scaled;
    }
    return dt_low_param(w, origin_of(b), x, 2, (int64_t[]){k, c}, true, true);
}

/* A known bias [k] from numbers that broadcast to it. NULL: they do not. */
static const float *dense_bias(dt_low *w, const dt_lv *c, int64_t k, float beta) {
    const int64_t n = dt_host_n_elem(&c->t);
    const float *x = c->t.data;
    if (!dt_low_known(c) || !dt_low_is_real(c) || c->rowwise || (n != k && n != 1)) return NULL;
    if (n == k && c->t.ndim > 0 && c->t.dim[c->t.ndim - 1] != k) return NULL;
    if (n == k && beta == 1) return x;
    float *out = dt_low_alloc(w, k * (int64_t)sizeof *out);
    for (int64_t i = 0; out && i < k; i++) out[i] = beta * x[n == 1 ? 0 : i];
    return out;
}

/* The layer that ends the network, of as many numbers as are asked for, drawn anew. */
static void head(dt_low *w, dt_lv *y, dt_vid x, const dt_lv *b, const dt_lv *c, int64_t columns) {
    const int64_t k = w->o->outputs;
    char bias[DT_NAME_MAX];
    dt_vid in[3] = {x, dt_low_param(w, origin_of(b), NULL, 2, (int64_t[]){k, columns}, true, true), -1};
    snprintf(bias, sizeof bias, "%.80s", c ? origin_of(c) : "");
    if (c) in[2] = dt_low_param_f32(w, bias, NULL, k);
    if (in[2] >= 0) w->g->value[in[2]].fan_in = columns;
    y->t.dim[y->t.ndim - 1] = k;
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_DENSE, NULL, 3, in), false);
}

static bool is_new_head(const dt_low *w, const dt_low_node *n) {
    return w->head == n->node;
}

static bool lower_gemm(dt_low *w, const dt_low_node *n) {
    dt_lv *a = dt_low_in(n, 0), *b = dt_low_in(n, 1), *c = dt_low_in(n, 2), *y = dt_low_out(n, 0);
    const float alpha = dt_onnx_attr_float(n->node, "alpha", 1),
                beta = dt_onnx_attr_float(n->node, "beta", 1);
    const bool turn_a = dt_onnx_attr_int(n->node, "transA", 0) != 0,
               turn_b = dt_onnx_attr_int(n->node, "transB", 0) != 0;
    if (!a || !b || !y || !dt_low_is_real(a) || !dt_low_is_real(b) || dt_low_is_empty(a) ||
        dt_low_is_empty(b) || (c && !dt_low_is_real(c)))
        return false;
    const int64_t k = y->t.dim[1];
    dt_vid v = dt_low_plain(w, a);
    if (dt_low_known(b) && !b->rowwise && !dt_low_known(a)) {
        if (turn_a) v = dt_low_permute(w, y->name, v, (int32_t[]){1, 0});
        if (is_new_head(w, n)) {
            head(w, y, v, b, c, b->t.dim[turn_b ? 1 : 0]);
            return true;
        }
        const float *bias = c ? dense_bias(w, c, k, beta) : NULL;
        const dt_vid in[] = {v, dense_weight(w, b, turn_b, alpha),
                             bias ? dt_low_param_f32(w, origin_of(c), bias, k) : -1};
        v = dt_low_add(w, y->name, DT_OP_DENSE, NULL, 3, in);
        if (bias) c = NULL;
    } else {
        const dt_attr t = {.matmul = {.turn_a = turn_a, .turn_b = turn_b}};
        v = dt_low_add(w, y->name, DT_OP_MATMUL, &t, 2, (dt_vid[]){v, dt_low_plain(w, b)});
        if (alpha != 1) v = dt_low_unary(w, y->name, v, DT_UNARY_SCALE, alpha, 0);
    }
    if (c && beta != 0) {
        dt_vid more = dt_low_operand(w, c, 2, false, true);
        if (beta != 1) more = dt_low_unary(w, y->name, more, DT_UNARY_SCALE, beta, 0);
        v = dt_low_binary(w, y->name, v, more, DT_BINARY_ADD);
    }
    dt_low_set(w, y, v, false);
    return true;
}

/* A bias that alone is added to the product: part of the layer. */
static const dt_lv *following_bias(const dt_low *w, const dt_low_node *n, int64_t k, int32_t *at) {
    const int32_t i = dt_low_reader(w, n->node->out[0]);
    const dt_onnx_node *add = i >= 0 ? &w->graph->node[i] : NULL;
    if (!add || strcmp(add->op, "Add") != 0 || add->n_in != 2) return NULL;
    const dt_lv *c = dt_low_find(w, add->in[strcmp(add->in[0], n->node->out[0]) == 0 ? 1 : 0]);
    if (!c || !dt_low_known(c) || !dt_low_is_real(c) || c->rowwise || c->t.ndim != 1 || c->t.dim[0] != k)
        return NULL;
    *at = i;
    return c;
}

static bool dense(dt_low *w, const dt_low_node *n) {
    dt_lv *a = n->in[0], *b = n->in[1], *y = n->out[0];
    const int64_t k = b->t.dim[1];
    int32_t at = -1;
    const dt_lv *c = following_bias(w, n, k, &at);
    const dt_vid v = dt_low_plain(w, a);
    if (is_new_head(w, n)) {
        head(w, y, v, b, c, b->t.dim[0]);
    } else {
        const dt_vid in[] = {v, dense_weight(w, b, false, 1),
                             c ? dt_low_param_f32(w, origin_of(c), c->t.data, k) : -1};
        dt_low_set(w, y, dt_low_add(w, c ? w->graph->node[at].out[0] : y->name, DT_OP_DENSE, NULL, 3, in),
                   false);
    }
    if (!c) return true;
    w->done[at] = true;
    dt_low_alias(w, w->graph->node[at].out[0], y);
    return true;
}

/* Both with the same dimensions before the last two. */
static bool lower_matmul(dt_low *w, const dt_low_node *n) {
    dt_lv *a = dt_low_in(n, 0), *b = dt_low_in(n, 1), *y = dt_low_out(n, 0);
    if (!a || !b || !y || !dt_low_is_real(a) || !dt_low_is_real(b) || dt_low_is_empty(a) ||
        dt_low_is_empty(b) || a->t.ndim < 1 || b->t.ndim < 1)
        return false;
    if (dt_low_known(b) && !b->rowwise && b->t.ndim == 2 && !dt_low_known(a)) return dense(w, n);
    const int32_t na = dt_max_i64(a->t.ndim, 2) > 2 || b->t.ndim > 2
                           ? (int32_t)dt_max_i64(dt_max_i64(a->t.ndim, b->t.ndim), 2)
                           : 2;
    int64_t da[DT_MAX_DIM], db[DT_MAX_DIM];
    for (int32_t i = 0; i < na; i++) {
        const int32_t ia = i - (na - (int32_t)dt_max_i64(a->t.ndim, 2)),
                      ib = i - (na - (int32_t)dt_max_i64(b->t.ndim, 2));
        da[i] = ia < 0 ? 1 : a->t.ndim == 1 ? (ia == 0 ? 1 : a->t.dim[0]) : a->t.dim[ia];
        db[i] = ib < 0 ? 1 : b->t.ndim == 1 ? (ib == 0 ? b->t.dim[0] : 1) : b->t.dim[ib];
    }
    const int64_t m = da[na - 2], ka = da[na - 1], kb = db[na - 2], columns = db[na - 1];
    dt_vid va = dt_low_reshape(w, y->name, dt_low_plain(w, a), na, da),
           vb = dt_low_reshape(w, y->name, dt_low_plain(w, b), na, db);
    bool same = true, single = true;
    int64_t rows = m;
    for (int32_t i = 0; i < na - 2; i++)
        same = same && da[i] == db[i], single = single && db[i] == 1, rows *= da[i];
    if (!same && single) { /* one matrix for all rows */
        va = dt_low_reshape(w, y->name, va, 2, (int64_t[]){rows, ka});
        vb = dt_low_reshape(w, y->name, vb, 2, (int64_t[]){kb, columns});
    } else if (!same) {
        for (int32_t i = 0; i < na - 2; i++) da[i] = db[i] = dt_max_i64(da[i], db[i]);
        va = dt_low_expand(w, y->name, va, na, da, w->o->rows > 0);
        vb = dt_low_expand(w, y->name, vb, na, db, w->o->rows > 0);
    }
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_MATMUL, NULL, 2, (dt_vid[]){va, vb}), false);
    return true;
}

/* ---- images in another size ---- */

static bool lower_resize(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    const bool old = n->version < 11;
    const char *mode = dt_onnx_attr_text(n->node, "mode", "nearest"),
               *place = dt_onnx_attr_text(n->node, "coordinate_transformation_mode",
                                          old ? "asymmetric" : "half_pixel"),
               *round = dt_onnx_attr_text(n->node, "nearest_mode", old ? "floor" : "round_prefer_floor");
    if (!x || !y || !dt_low_is_real(x) || x->t.ndim != 4 || dt_low_is_empty(y) || dt_low_is_empty(x) ||
        y->t.dim[0] != x->t.dim[0] || y->t.dim[1] != x->t.dim[1] ||
        dt_onnx_attr_int(n->node, "antialias", 0) != 0 || strcmp(place, "tf_crop_and_resize") == 0)
        return false;
    const dt_lv *scales = dt_low_in(n, n->n_in == 2 ? 1 : 2);
    bool whole = true, exact = true, single = false;
    for (int32_t i = 2; i < 4; i++) {
        whole = whole && y->t.dim[i] % x->t.dim[i] == 0;
        single = single || y->t.dim[i] == 1;
        if (scales && dt_low_known(scales) && dt_host_n_elem(&scales->t) == 4 && dt_low_is_real(scales))
            exact =
                exact && fabs(dt_host_f64(&scales->t, i) * (double)x->t.dim[i] - (double)y->t.dim[i]) < 1e-4;
    }
    if (!exact) return false;
    dt_resample_mode how;
    const bool half =
        strcmp(place, "half_pixel") == 0 || (strcmp(place, "pytorch_half_pixel") == 0 && !single);
    if (strcmp(mode, "nearest") == 0 && ((strcmp(place, "asymmetric") == 0 && strcmp(round, "floor") == 0) ||
                                         (half && whole && strncmp(round, "round_prefer", 12) == 0)))
        how = DT_RESAMPLE_NEAREST;
    else if (strcmp(mode, "linear") == 0 && half)
        how = DT_RESAMPLE_BILINEAR;
    else if (strcmp(mode, "linear") == 0 && strcmp(place, "align_corners") == 0)
        how = DT_RESAMPLE_ALIGNED;
    else if (strcmp(mode, "cubic") == 0 && half &&
             dt_onnx_attr_float(n->node, "cubic_coeff_a", -0.75f) == -0.75f &&
             dt_onnx_attr_int(n->node, "exclude_outside", 0) == 0)
        how = DT_RESAMPLE_BICUBIC;
    else
        return false;
    const dt_attr t = {.resample = {.mode = how, .size = {(int32_t)y->t.dim[2], (int32_t)y->t.dim[3]}}};
    const dt_vid v = dt_low_last(w, x);
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_RESAMPLE, &t, 1, &v), true);
    return true;
}

const dt_low_row dt_low_layers[] = {
    {"Conv", lower_conv},
    {"ConvTranspose", lower_conv_transpose},
    {"MaxPool", lower_max_pool},
    {"AveragePool", lower_average_pool},
    {"GlobalAveragePool", lower_global_average},
    {"GlobalMaxPool", lower_global_max},
    {"Gemm", lower_gemm},
    {"MatMul", lower_matmul},
    {"Resize", lower_resize},
    {"Upsample", lower_resize},
    {NULL, NULL},
};
