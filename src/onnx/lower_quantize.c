/* Networks in 8 and 4 bits: what stands between QuantizeLinear and DequantizeLinear, the ops of whole numbers, weights of 4
 * bits. Numbers of 8 bits are u8 in the graph (dt_lv.byte): of i8 128 more, as the zero points then are, so that there is
 * one kind of product. DequantizeLinear makes nothing by itself: its result remembers what it is of (dt_lv.code), and is
 * computed where somebody reads it who is not lowered here. */
#include <math.h>
#include <string.h>

#include "core/qproduct.h"
#include "lower.h"

enum { SAFE = 1 << 30 };

/* ---- numbers of 8 bits ---- */

static bool is_byte(const dt_lv *v) {
    return v && (v->t.type == DT_TENSOR_U8 || v->t.type == DT_TENSOR_I8) && !v->opaque;
}

/* What numbers and zero points of the type are more in the graph. */
static int32_t moved(dt_tensor_type type) {
    return type == DT_TENSOR_I8 ? 128 : 0;
}

/* A scale and a zero point that are single known numbers; the zero point of u8. */
static bool read_scale(const dt_lv *scale, const dt_lv *zero, dt_tensor_type type, dt_qscale *out) {
    if (!scale || !dt_low_known(scale) || dt_host_n_elem(&scale->t) != 1 || !dt_low_is_real(scale))
        return false;
    if (zero && (!dt_low_known(zero) || dt_host_n_elem(&zero->t) != 1 || zero->t.type != type)) return false;
    *out = (dt_qscale){.scale = (float)dt_host_f64(&scale->t, 0),
                       .zero = (zero ? (int32_t)dt_host_i64(&zero->t, 0) : 0) + moved(type)};
    return isfinite(out->scale) && out->scale > 0;
}

static dt_vid code(dt_low *w, const char *name, dt_op op, dt_vid v, dt_qscale s, bool is_signed) {
    const dt_attr t = {.quantize = {.scale = s.scale, .zero = s.zero, .is_signed = is_signed}};
    return dt_low_add(w, name, op, &t, 1, &v);
}

/* Its numbers as u8, dimension 1 at the end or not. */
static dt_vid bytes_of(dt_low *w, dt_lv *v, bool last) {
    if (w->st != DT_OK || v->byte[last] >= 0) return v->byte[last];
    if (v->byte[!last] < 0) {
        const dt_vid raw = last ? dt_low_last(w, v) : dt_low_plain(w, v);
        if (v->t.type == DT_TENSOR_U8) return raw;
        const dt_vid wide = code(w, v->name, DT_OP_DEQUANTIZE, raw, (dt_qscale){1, 0}, false);
        return v->byte[last] = code(w, v->name, DT_OP_QUANTIZE, wide, (dt_qscale){1, 128}, false);
    }
    int32_t perm[DT_MAX_DIM];
    for (int32_t d = 0; d < v->t.ndim; d++) {
        const int32_t at = dt_low_place(d, v->t.ndim, true);
        if (last)
            perm[at] = d;
        else
            perm[d] = at;
    }
    return v->byte[last] = dt_low_permute(w, v->name, v->byte[!last], perm);
}

static bool bytes_last(const dt_lv *v) {
    return v->byte[0] >= 0 || v->byte[1] >= 0 ? v->byte[0] < 0 : dt_low_is_last(v);
}

static void set_bytes(dt_low *w, dt_lv *v, dt_vid made, bool last) {
    if (w->st != DT_OK) return;
    int64_t dim[DT_MAX_DIM];
    for (int32_t d = 0; d < v->t.ndim; d++) dim[dt_low_place(d, v->t.ndim, last)] = v->t.dim[d];
    v->byte[last] = dt_low_reshape(w, v->name, made, v->t.ndim, dim);
    v->ready = true;
}

void dt_low_decode(dt_low *w, dt_lv *v) {
    if (w->st != DT_OK || v->plain >= 0 || v->last >= 0 || dt_low_known(v)) return;
    if (v->byte[0] >= 0 || v->byte[1] >= 0) {
        const bool last = bytes_last(v);
        dt_vid made = v->byte[last];
        if (v->t.type == DT_TENSOR_I8) {
            made = code(w, v->name, DT_OP_DEQUANTIZE, made, (dt_qscale){1, 128}, false);
            made = code(w, v->name, DT_OP_QUANTIZE, made, (dt_qscale){1, 0}, true);
        }
        *(last ? &v->last : &v->plain) = made;
        return;
    }
    dt_qscale s;
    if (!v->code.of || !read_scale(v->code.scale, v->code.zero, v->code.of->t.type, &s)) return;
    const bool last = bytes_last(v->code.of);
    const dt_vid made = code(w, v->name, DT_OP_DEQUANTIZE, bytes_of(w, v->code.of, last), s, false);
    *(last ? &v->last : &v->plain) = made;
}

bool dt_low_decodes_last(const dt_lv *v) {
    if (v->plain >= 0 || v->last >= 0 || dt_low_known(v)) return false;
    if (v->byte[0] >= 0 || v->byte[1] >= 0) return bytes_last(v);
    return v->code.of && bytes_last(v->code.of);
}

void dt_low_note_code(const dt_low_node *n) {
    if (strcmp(n->node->op, "DequantizeLinear") != 0 || !dt_low_in(n, 0) || !dt_low_out(n, 0)) return;
    n->out[0]->code = (dt_low_code){.of = n->in[0],
                                    .scale = n->in[1],
                                    .zero = dt_low_in(n, 2),
                                    .axis = (int32_t)dt_onnx_attr_int(n->node, "axis", 1)};
}

/* A value as numbers of 8 bits with their scale: it is the result of a DequantizeLinear. */
static bool coded(const dt_lv *v, dt_lv **of, dt_qscale *s) {
    if (!v || !v->code.of || !is_byte(v->code.of) || dt_low_known(v->code.of)) return false;
    *of = v->code.of;
    return read_scale(v->code.scale, v->code.zero, v->code.of->t.type, s);
}

static bool lower_dequantize(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0), *of;
    dt_qscale s;
    (void)w;
    if (!x || !y || !dt_low_is_real(y) || dt_low_is_empty(y) || !coded(y, &of, &s)) return false;
    y->ready = true;
    return true;
}

static bool lower_quantize(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0), *of;
    dt_qscale s, was;
    if (!x || !is_byte(y) || !dt_low_is_real(x) || dt_low_known(x) || dt_low_is_empty(y) ||
        !read_scale(dt_low_in(n, 1), dt_low_in(n, 2), y->t.type, &s))
        return false;
    if (coded(x, &of, &was) && was.scale == s.scale && was.zero == s.zero && of->t.type == y->t.type) {
        set_bytes(w, y, bytes_of(w, of, bytes_last(of)), bytes_last(of));
        return true;
    }
    const bool last = dt_low_is_last(x);
    set_bytes(w, y, code(w, y->name, DT_OP_QUANTIZE, last ? dt_low_last(w, x) : dt_low_plain(w, x), s, false),
              last);
    return true;
}

/* ---- products ---- */

typedef struct product {
    dt_qproduct q;
    const char *name; /* of the value that it is so far */
    dt_lv y;          /* that value; its type and shape alone count */
    dt_vid x, x_scale, res;
    int32_t taken[12]; /* nodes that are part of it */
    int32_t n_taken;
} product;

/* Weights as [k, depth] of i8, symmetric; depth in the order R S C/G. turned: they lie as [depth, k]. NULL: they are not so. */
static const int8_t *weights_of(dt_low *w, const dt_lv *f, const dt_lv *zero, bool conv, bool turned,
                                int64_t *k, int64_t *depth) {
    if (!is_byte(f) || !dt_low_known(f) || f->rowwise || f->t.ndim < 2 || dt_low_is_empty(f)) return NULL;
    const int64_t want = f->t.type == DT_TENSOR_U8 ? 128 : 0;
    if (zero && (!dt_low_known(zero) || zero->t.type != f->t.type)) return NULL;
    for (int64_t i = 0; zero && i < dt_host_n_elem(&zero->t); i++)
        if (dt_host_i64(&zero->t, i) != want) return NULL;
    if (!zero && want != 0) return NULL;
    const uint8_t flip = want ? 0x80 : 0, *from = f->t.data;
    const int64_t n = dt_host_n_elem(&f->t);
    *k = turned ? f->t.dim[1] : f->t.dim[0];
    *depth = n / *k;
    uint8_t *to = dt_low_alloc(w, n);
    if (!to) return NULL;
    const int64_t c = conv ? f->t.dim[1] : *depth, taps = *depth / c;
    for (int64_t i = 0; i < *k; i++)
        for (int64_t t = 0; t < taps; t++)
            for (int64_t j = 0; j < c; j++)
                to[i * *depth + t * c + j] =
                    (turned ? from[j * *k + i] : from[i * *depth + j * taps + t]) ^ flip;
    return (const int8_t *)to;
}

/* One number for all channels, or one for each. */
static const float *each_channel(dt_low *w, const dt_lv *v, int64_t k) {
    const int64_t n = v && dt_low_known(v) && dt_low_is_real(v) ? dt_host_n_elem(&v->t) : 0;
    if (n != 1 && n != k) return NULL;
    float *out = dt_low_alloc(w, k * (int64_t)sizeof *out);
    for (int64_t i = 0; out && i < k; i++) {
        out[i] = (float)dt_host_f64(&v->t, n == 1 ? 0 : i);
        if (!isfinite(out[i]) || out[i] < 0) return NULL;
    }
    return out;
}

/* A known bias: whole numbers in units of the sums, or floats that broadcast to the channels. */
static bool take_bias(dt_low *w, product *p, const dt_lv *b) {
    const int64_t k = p->q.k, n = b && dt_low_known(b) ? dt_host_n_elem(&b->t) : 0;
    if (!b) return true;
    if (b->rowwise || (n != k && n != 1)) return false;
    const dt_lv *whole = b->t.type == DT_TENSOR_I32 ? b : NULL;
    if (!whole && b->code.of && b->code.of->t.type == DT_TENSOR_I32 && dt_low_known(b->code.of) &&
        !b->code.zero && p->x_scale < 0 && p->q.w_scale) {
        const float *unit = each_channel(w, b->code.scale, k);
        whole = b->code.of;
        for (int64_t i = 0; i < k; i++) /* in other units it is taken as floats */
            if (!unit || unit[i] != p->q.x.scale * p->q.w_scale[i]) whole = NULL;
    }
    if (whole && (n != k || p->x_scale >= 0)) return false;
    if (whole) {
        const int32_t *x = whole->t.data;
        for (int64_t i = 0; i < k; i++)
            if (x[i] > SAFE || x[i] < -SAFE) return false;
        p->q.bias = x;
        return true;
    }
    if (!dt_low_is_real(b)) return false;
    float *out = dt_low_alloc(w, k * (int64_t)sizeof *out);
    for (int64_t i = 0; out && i < k; i++) {
        out[i] = ((const float *)b->t.data)[n == 1 ? 0 : i];
        if (!isfinite(out[i])) return false;
    }
    p->q.bias_f32 = out;
    return out != NULL;
}

static const dt_onnx_node *reader_of(const dt_low *w, const char *name, int32_t *at) {
    const int32_t i = dt_low_reader(w, name);
    if (i < 0 || w->done[i] || w->graph->node[i].n_out < 1) return NULL;
    *at = i;
    return &w->graph->node[i];
}

static bool is_op(const dt_onnx_node *n, const char *op) {
    return n && strcmp(n->op, op) == 0;
}

static dt_lv *beside(const dt_low *w, const dt_onnx_node *n, const char *name) {
    dt_lv *v = n->n_in == 2 ? dt_low_find(w, n->in[strcmp(n->in[0], name) == 0 ? 1 : 0]) : NULL;
    return v && v->ready ? v : NULL;
}

static void took(product *p, const dt_onnx_node *n, int32_t at) {
    p->taken[p->n_taken++] = at;
    p->name = n->out[0];
}

/* A bias that is added, [k] at the end of the product's dimensions. */
static bool take_added_bias(dt_low *w, product *p) {
    int32_t at;
    const dt_onnx_node *n = reader_of(w, p->name, &at);
    if (!is_op(n, "Add") || p->q.bias || p->q.bias_f32) return false;
    const dt_lv *b = beside(w, n, p->name);
    const int64_t k = p->q.k;
    if (!b || !dt_low_known(b) || !dt_low_is_real(b) || dt_host_n_elem(&b->t) != k || b->t.ndim > p->y.t.ndim)
        return false;
    const int32_t channel = p->q.dense ? p->y.t.ndim - 1 : 1;
    for (int32_t d = 0; d < b->t.ndim; d++)
        if (b->t.dim[d] != 1 && d + p->y.t.ndim - b->t.ndim != channel) return false;
    if (!take_bias(w, p, b)) return false;
    took(p, n, at);
    return true;
}

static bool take_relu(dt_low *w, product *p) {
    int32_t at;
    const dt_onnx_node *n = reader_of(w, p->name, &at);
    if (!is_op(n, "Relu")) return false;
    p->q.act = 1 + DT_UNARY_RELU;
    took(p, n, at);
    return true;
}

/* The scale and type that a QuantizeLinear behind the product has. */
static const dt_onnx_node *next_scale(const dt_low *w, const char *name, int32_t *at, dt_qscale *s,
                                      dt_tensor_type *type) {
    const dt_onnx_node *n = reader_of(w, name, at);
    if (!is_op(n, "QuantizeLinear") || n->n_in < 2 || strcmp(n->in[0], name) != 0) return NULL;
    const dt_lv *scale = dt_low_find(w, n->in[1]), *zero = n->n_in > 2 ? dt_low_find(w, n->in[2]) : NULL;
    if (n->n_in > 2 && n->in[2][0] && !zero) return NULL;
    if (dt_onnx_attr_find(n, "output_dtype") || dt_onnx_attr_int(n, "block_size", 0) != 0) return NULL;
    *type = zero ? zero->t.type : DT_TENSOR_U8;
    if (*type != DT_TENSOR_U8 && *type != DT_TENSOR_I8) return NULL;
    return read_scale(scale, zero, *type, s) ? n : NULL;
}

/* Its operand in the order of the product's result, which it is like in shape. */
static bool take_sum(dt_low *w, product *p, const dt_onnx_node *n, const char *name) {
    dt_lv *other = beside(w, n, name), *of;
    dt_qscale s;
    if (!other || dt_low_known(other) || !dt_low_is_real(other) || other->t.ndim != p->y.t.ndim ||
        p->res >= 0)
        return false;
    for (int32_t d = 0; d < other->t.ndim; d++)
        if (other->t.dim[d] != p->y.t.dim[d]) return false;
    const bool last = !p->q.dense;
    if (coded(other, &of, &s) && other->plain < 0 && other->last < 0) {
        p->res = bytes_of(w, of, last);
        p->q.res = s;
    } else {
        p->res = last ? dt_low_last(w, other) : dt_low_plain(w, other);
    }
    return w->st == DT_OK;
}

static void round_to(product *p, const dt_onnx_node *n, int32_t at, dt_qscale s, dt_tensor_type type) {
    p->q.y_type = DT_DTYPE_U8;
    p->q.y = s;
    p->y.t.type = type;
    took(p, n, at);
}

/* The product is rounded, and then a sum with something else is: the first rounding is done on the way. */
static void take_sum_of_rounded(dt_low *w, product *p) {
    int32_t back, add, relu, end;
    dt_qscale s;
    dt_tensor_type type;
    const dt_onnx_node *d = reader_of(w, p->name, &back);
    if (!is_op(d, "DequantizeLinear") || p->q.act != 0) return;
    const dt_lv *zero = d->n_in > 2 ? dt_low_find(w, d->in[2]) : NULL;
    dt_qscale same;
    if (!read_scale(dt_low_find(w, d->in[1]), zero, p->y.t.type, &same) || same.scale != p->q.y.scale ||
        same.zero != p->q.y.zero)
        return;
    const dt_onnx_node *a = reader_of(w, d->out[0], &add);
    if (!is_op(a, "Add")) return;
    const dt_onnx_node *r = reader_of(w, a->out[0], &relu);
    if (!is_op(r, "Relu")) r = NULL;
    const dt_onnx_node *q = next_scale(w, r ? r->out[0] : a->out[0], &end, &s, &type);
    if (!q || !take_sum(w, p, a, d->out[0])) return;
    took(p, d, back);
    took(p, a, add);
    if (r) took(p, r, relu), p->q.act = 1 + DT_UNARY_RELU;
    p->q.has_mid = true;
    p->q.mid = p->q.y;
    round_to(p, q, end, s, type);
}

/* What follows and can be its end. */
static void take_ends(dt_low *w, product *p) {
    int32_t at;
    dt_qscale s;
    dt_tensor_type type;
    take_added_bias(w, p);
    const dt_onnx_node *n = reader_of(w, p->name, &at);
    if (is_op(n, "Add") && take_sum(w, p, n, p->name)) took(p, n, at);
    take_relu(w, p);
    n = p->x_scale < 0 ? next_scale(w, p->name, &at, &s, &type) : NULL;
    if (!n) return;
    round_to(p, n, at, s, type);
    if (p->res < 0) take_sum_of_rounded(w, p);
}

/* Adds the node; its result has the name of the last one that is part of it. */
static void finish(dt_low *w, const dt_low_node *n, const product *p) {
    dt_qproduct *q = dt_low_alloc(w, (int64_t)sizeof *q);
    if (!q) return;
    *q = p->q;
    const dt_attr t = {.qproduct.product = q};
    const dt_vid in[] = {p->x, p->x_scale, p->res};
    dt_lv y = p->y;
    y.name = p->name;
    y.plain = y.last = y.byte[0] = y.byte[1] = -1;
    y.code = (dt_low_code){.of = NULL};
    const dt_vid made = dt_low_add(w, p->name, DT_OP_QPRODUCT, &t, 3, in);
    if (q->y_type == DT_DTYPE_U8)
        set_bytes(w, &y, made, !q->dense);
    else
        dt_low_set(w, &y, made, !q->dense);
    if (w->st != DT_OK) return;
    for (int32_t i = 0; i < p->n_taken; i++) w->done[p->taken[i]] = true;
    const char *own = n->out[0]->name;
    if (p->n_taken > 0) {
        n->out[0]->ready = true; /* nobody else reads it */
        dt_low_alias(w, p->name, &y);
    } else {
        dt_low_same(n->out[0], &y);
        n->out[0]->name = own;
    }
}

/* x, its scale and weights of a product; the rest is for the caller. conv: of images. */
static bool begin(dt_low *w, const dt_low_node *n, const dt_lv *f, const dt_lv *w_zero, const dt_lv *w_scale,
                  bool conv, bool turned, product *p) {
    dt_lv *y = dt_low_out(n, 0);
    *p = (product){.name = y->name, .x = -1, .x_scale = -1, .res = -1};
    p->y = *y;
    p->q.bits = 8;
    p->q.dense = !conv;
    p->q.y_type = DT_DTYPE_F32;
    p->q.w = weights_of(w, f, w_zero, conv, turned, &p->q.k, &p->q.depth);
    if (!p->q.w || p->q.depth > 1 << 15) return false;
    if (w_scale) p->q.w_scale = each_channel(w, w_scale, p->q.k);
    return !w_scale || p->q.w_scale;
}

/* Whether scales of f run along its output channels. */
static bool along_channels(const dt_lv *f, int32_t channel) {
    const dt_lv *s = f->code.scale;
    return dt_host_n_elem(&s->t) == 1 || dt_low_axis(f->code.axis, f->t.ndim) == channel;
}

static bool is_weight(const dt_lv *f, int32_t channel) {
    return f && f->code.of && dt_low_known(f) && f->code.of->t.ndim == f->t.ndim &&
           f->code.scale->t.ndim <= 1 && along_channels(f, channel);
}

/* The activation: 8 bits already, or floats that each row is rounded of by its own range. */
static bool take_input(dt_low *w, product *p, dt_lv *x) {
    dt_lv *of;
    const bool last = !p->q.dense;
    if (coded(x, &of, &p->q.x)) {
        p->x = bytes_of(w, of, last);
        return w->st == DT_OK;
    }
    /* By the file weights alone are in 8 bits: what rounding activations changes is for levels that allow it. */
    if (w->o->exact || !dt_low_is_real(x) || dt_low_known(x)) return false;
    const dt_attr t = {.quantize = {.per = last ? DT_QUANTIZE_FIRST : DT_QUANTIZE_ROW}};
    const dt_vid v = last ? dt_low_last(w, x) : dt_low_plain(w, x);
    return dt_low_measure(w, x->name, v, &t, &p->x, &p->x_scale);
}

bool dt_low_measure(dt_low *w, const char *name, dt_vid v, const dt_attr *t, dt_vid *y, dt_vid *scale) {
    dt_vid first;
    if (w->st != DT_OK) return false;
    /* Several products of one value share its numbers. */
    for (dt_nid i = 0; i < w->g->n_node; i++) {
        const dt_node *n = &w->g->node[i];
        if (n->op != DT_OP_QUANTIZE || n->in[0] != v || n->attr.quantize.per != t->quantize.per) continue;
        *y = n->out[0], *scale = n->out[1];
        return true;
    }
    char text[DT_NAME_MAX];
    dt_low_free_name(w, name, text);
    w->st = dt_graph_add_node_with(w->g, text, DT_OP_QUANTIZE, t, 1, &v, 3, &first);
    if (w->st != DT_OK) return false;
    *y = w->g->node[w->g->n_node - 1].out[0];
    *scale = w->g->node[w->g->n_node - 1].out[1];
    return true;
}

static bool lower_conv(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 1), *b = dt_low_in(n, 2), *y = dt_low_out(n, 0);
    product p;
    if (!x || !y || !is_weight(f, 0) || dt_low_is_empty(y) || dt_low_is_empty(x) || x->t.ndim != 4)
        return false;
    if (!begin(w, n, f->code.of, f->code.zero, f->code.scale, true, false, &p) ||
        !dt_low_conv_window(n, x, y, f->t.dim + 2, &p.q.window) || !take_input(w, &p, x) ||
        !take_bias(w, &p, b))
        return false;
    take_ends(w, &p);
    finish(w, n, &p);
    return true;
}

static bool lower_matmul(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 1), *y = dt_low_out(n, 0);
    product p;
    if (!x || !y || !is_weight(f, 1) || f->t.ndim != 2 || dt_low_is_empty(y) || dt_low_is_empty(x) ||
        x->t.ndim < 2 || !begin(w, n, f->code.of, f->code.zero, f->code.scale, false, true, &p) ||
        !take_input(w, &p, x))
        return false;
    take_ends(w, &p);
    finish(w, n, &p);
    return true;
}

static bool lower_gemm(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 1), *b = dt_low_in(n, 2), *y = dt_low_out(n, 0);
    const bool turned = dt_onnx_attr_int(n->node, "transB", 0) == 0;
    product p;
    if (!x || !y || !is_weight(f, turned ? 1 : 0) || dt_low_is_empty(y) || dt_low_is_empty(x) ||
        dt_onnx_attr_int(n->node, "transA", 0) != 0 || dt_onnx_attr_float(n->node, "alpha", 1) != 1 ||
        (b && (dt_onnx_attr_float(n->node, "beta", 1) != 1 || b->t.ndim > 1)) ||
        !begin(w, n, f->code.of, f->code.zero, f->code.scale, false, turned, &p) || !take_input(w, &p, x) ||
        !take_bias(w, &p, b))
        return false;
    take_ends(w, &p);
    finish(w, n, &p);
    return true;
}

/* ---- ops of whole numbers: x, its scale and zero point, the weight's, the result's ---- */

/* Its result is added to something by a QLinearAdd: the rounding in between is done on the way. */
static void take_quantized_sum(dt_low *w, product *p) {
    int32_t at;
    const dt_onnx_node *n = reader_of(w, p->name, &at);
    if (!is_op(n, "QLinearAdd") || n->n_in != 8) return;
    const bool second = strcmp(n->in[3], p->name) == 0;
    const char *const *own = n->in + (second ? 3 : 0), *const *of = n->in + (second ? 0 : 3);
    dt_lv *other = dt_low_find(w, of[0]);
    dt_qscale mine, theirs, s;
    if (!is_byte(other) || !other->ready || dt_low_known(other) || other->t.ndim != p->y.t.ndim) return;
    for (int32_t d = 0; d < other->t.ndim; d++)
        if (other->t.dim[d] != p->y.t.dim[d]) return;
    const dt_lv *zero = dt_low_find(w, n->in[7]);
    if (!zero || !is_byte(zero) ||
        !read_scale(dt_low_find(w, own[1]), dt_low_find(w, own[2]), p->y.t.type, &mine) ||
        !read_scale(dt_low_find(w, of[1]), dt_low_find(w, of[2]), other->t.type, &theirs) ||
        !read_scale(dt_low_find(w, n->in[6]), zero, zero->t.type, &s))
        return;
    /* It may be read back by another scale than it was rounded to: that one alone would be known. */
    if (mine.scale != p->q.y.scale || mine.zero != p->q.y.zero) return;
    p->res = bytes_of(w, other, !p->q.dense);
    if (w->st != DT_OK) return;
    p->q.res = theirs;
    p->q.has_mid = true;
    p->q.mid = p->q.y;
    round_to(p, n, at, s, zero->t.type);
}

static bool quantized_product(dt_low *w, const dt_low_node *n, bool conv) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 3), *y = dt_low_out(n, 0);
    product p;
    if (!is_byte(x) || dt_low_known(x) || !f || !is_byte(y) || dt_low_is_empty(y) || dt_low_is_empty(x) ||
        x->t.ndim < 2 || (conv && x->t.ndim != 4) || (!conv && f->t.ndim != 2) ||
        !begin(w, n, f, dt_low_in(n, 5), dt_low_in(n, 4), conv, !conv, &p) ||
        !read_scale(dt_low_in(n, 1), dt_low_in(n, 2), x->t.type, &p.q.x) ||
        !read_scale(dt_low_in(n, 6), dt_low_in(n, 7), y->t.type, &p.q.y))
        return false;
    if (conv && !dt_low_conv_window(n, x, y, f->t.dim + 2, &p.q.window)) return false;
    if (!take_bias(w, &p, dt_low_in(n, 8))) return false;
    p.x = bytes_of(w, x, conv);
    p.q.y_type = DT_DTYPE_U8;
    take_quantized_sum(w, &p);
    finish(w, n, &p);
    return true;
}

static bool lower_quantized_conv(dt_low *w, const dt_low_node *n) {
    return quantized_product(w, n, true);
}
static bool lower_quantized_matmul(dt_low *w, const dt_low_node *n) {
    return quantized_product(w, n, false);
}

/* ---- DynamicQuantizeLinear and the products of what it makes ---- */

/* What becomes of the sums of a product of whole numbers: Cast, Mul by scales that are a product of x's and a constant. */
typedef struct scaled_sums {
    int32_t cast, mul, scales; /* nodes */
    const dt_lv *w_scale;
} scaled_sums;

static bool find_scaled(const dt_low *w, const dt_onnx_node *sums, const char *x_scale, scaled_sums *out) {
    const dt_onnx_node *cast = reader_of(w, sums->out[0], &out->cast);
    if (!is_op(cast, "Cast") || dt_onnx_attr_int(cast, "to", 0) != 1) return false;
    const dt_onnx_node *mul = reader_of(w, cast->out[0], &out->mul);
    if (!is_op(mul, "Mul")) return false;
    const char *name = mul->in[strcmp(mul->in[0], cast->out[0]) == 0 ? 1 : 0];
    if (dt_low_reader(w, name) != out->mul) return false;
    for (int32_t i = 0; i < w->graph->n_node; i++) {
        const dt_onnx_node *s = &w->graph->node[i];
        if (s->n_out != 1 || strcmp(s->out[0], name) != 0) continue;
        out->scales = i;
        if (!is_op(s, "Mul") || s->n_in != 2) return false;
        const bool first = strcmp(s->in[0], x_scale) == 0;
        if (!first && strcmp(s->in[1], x_scale) != 0) return false;
        out->w_scale = dt_low_find(w, s->in[first ? 1 : 0]);
        return out->w_scale && dt_low_known(out->w_scale) && dt_low_is_real(out->w_scale);
    }
    return false;
}

static bool is_integer_product(const dt_onnx_node *n) {
    return (is_op(n, "MatMulInteger") || is_op(n, "ConvInteger")) && n->n_in >= 3;
}

/* Weights of whole numbers that begin() takes. */
static bool whole_weight(const dt_low *w, const dt_onnx_node *n) {
    const dt_lv *f = dt_low_find(w, n->in[1]),
                *zero = n->n_in > 3 && n->in[3][0] ? dt_low_find(w, n->in[3]) : NULL;
    if (!is_byte(f) || !dt_low_known(f) || f->rowwise || dt_low_is_empty(f) ||
        f->t.ndim != (is_op(n, "ConvInteger") ? 4 : 2))
        return false;
    const int64_t want = f->t.type == DT_TENSOR_U8 ? 128 : 0;
    if (!zero) return want == 0;
    if (!dt_low_known(zero)) return false;
    for (int64_t i = 0; i < dt_host_n_elem(&zero->t); i++)
        if (dt_host_i64(&zero->t, i) != want) return false;
    return true;
}

/* Whether all that reads its results are products with scales behind them; marks the products of scales as done. */
static bool all_products(dt_low *w, const dt_onnx_node *n, bool mark) {
    int32_t products = 0;
    for (int32_t i = 0; i < w->graph->n_node; i++) {
        const dt_onnx_node *r = &w->graph->node[i];
        scaled_sums s;
        bool reads = false, scale = false;
        if (!w->needed[i]) continue;
        for (int32_t k = 0; k < r->n_in; k++) {
            reads |= strcmp(r->in[k], n->out[0]) == 0 || strcmp(r->in[k], n->out[2]) == 0;
            scale |= strcmp(r->in[k], n->out[1]) == 0;
        }
        if (scale && !mark) {
            const int32_t at = dt_low_reader(w, r->out[0]);
            if (!is_op(r, "Mul") || at < 0 || !is_op(&w->graph->node[at], "Mul")) return false;
        }
        if (!reads) continue;
        if (!is_integer_product(r) || strcmp(r->in[0], n->out[0]) != 0 || strcmp(r->in[2], n->out[2]) != 0 ||
            !whole_weight(w, r) || !find_scaled(w, r, n->out[1], &s))
            return false;
        products++;
        if (mark) w->done[s.scales] = true;
    }
    if (mark) return true;
    int32_t uses = 0;
    for (int32_t i = 0; i < w->graph->n_node; i++)
        for (int32_t k = 0; w->needed[i] && k < w->graph->node[i].n_in; k++)
            uses += strcmp(w->graph->node[i].in[k], n->out[1]) == 0;
    return products > 0 && uses == products;
}

static bool lower_dynamic(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0);
    if (!x || n->n_out != 3 || !n->out[0] || !n->out[1] || !n->out[2] || !dt_low_is_real(x) ||
        dt_low_known(x) || dt_low_is_empty(x) || x->t.ndim < 2 || !all_products(w, n->node, false))
        return false;
    const bool last = dt_low_is_last(x);
    /* Where rows may not depend on one another each of them is measured as if it were alone. */
    const dt_attr t = {.quantize = {.per = w->o->exact ? DT_QUANTIZE_FIRST : DT_QUANTIZE_ALL}};
    dt_vid y, scale;
    if (!dt_low_measure(w, n->out[0]->name, last ? dt_low_last(w, x) : dt_low_plain(w, x), &t, &y, &scale))
        return true;
    all_products(w, n->node, true);
    set_bytes(w, n->out[0], y, last);
    n->out[0]->measured = scale;
    n->out[1]->ready = n->out[2]->ready = true; /* nobody else reads them */
    return true;
}

static bool integer_product(dt_low *w, const dt_low_node *n, bool conv) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 1), *y = dt_low_out(n, 0);
    scaled_sums s;
    product p;
    if (!x || x->measured < 0 || !y || dt_low_is_empty(y)) return false;
    const char *x_scale = NULL; /* the maker's second result */
    for (int32_t i = 0; i < w->graph->n_node; i++)
        if (w->graph->node[i].n_out == 3 && strcmp(w->graph->node[i].out[0], x->name) == 0)
            x_scale = w->graph->node[i].out[1];
    if (!x_scale || !find_scaled(w, n->node, x_scale, &s) ||
        !begin(w, n, f, dt_low_in(n, 3), s.w_scale, conv, !conv, &p) ||
        (conv && !dt_low_conv_window(n, x, y, f->t.dim + 2, &p.q.window))) {
        if (w->st == DT_OK) w->st = dt_fail(DT_ERR_UNSUPPORTED, "its scales are no numbers above 0");
        return true; /* what it reads was made for this alone */
    }
    p.x = bytes_of(w, x, conv);
    p.x_scale = x->measured;
    p.y.t.type = DT_TENSOR_F32;
    took(&p, &w->graph->node[s.cast], s.cast);
    took(&p, &w->graph->node[s.mul], s.mul);
    take_ends(w, &p);
    finish(w, n, &p);
    return true;
}

static bool lower_integer_conv(dt_low *w, const dt_low_node *n) {
    return integer_product(w, n, true);
}
static bool lower_integer_matmul(dt_low *w, const dt_low_node *n) {
    return integer_product(w, n, false);
}

/* ---- what is computed in floats between two roundings ---- */

/* A value of 8 bits by its scale as floats. */
static dt_vid floats_of(dt_low *w, dt_lv *v, dt_qscale s, bool last) {
    return code(w, v->name, DT_OP_DEQUANTIZE, bytes_of(w, v, last), s, false);
}

static bool lower_quantized_add(dt_low *w, const dt_low_node *n) {
    dt_lv *a = dt_low_in(n, 0), *b = dt_low_in(n, 3), *y = dt_low_out(n, 0);
    dt_qscale of_a, of_b, of_y;
    if (!is_byte(a) || !is_byte(b) || !is_byte(y) || dt_low_known(a) || dt_low_known(b) ||
        dt_low_is_empty(y) || a->t.ndim != b->t.ndim ||
        !read_scale(dt_low_in(n, 1), dt_low_in(n, 2), a->t.type, &of_a) ||
        !read_scale(dt_low_in(n, 4), dt_low_in(n, 5), b->t.type, &of_b) ||
        !read_scale(dt_low_in(n, 6), dt_low_in(n, 7), y->t.type, &of_y))
        return false;
    for (int32_t d = 0; d < a->t.ndim; d++)
        if (a->t.dim[d] != b->t.dim[d]) return false;
    const bool last = bytes_last(a);
    const dt_vid sum =
        dt_low_binary(w, y->name, floats_of(w, a, of_a, last), floats_of(w, b, of_b, last), DT_BINARY_ADD);
    set_bytes(w, y, code(w, y->name, DT_OP_QUANTIZE, sum, of_y, false), last);
    return true;
}

static bool lower_quantized_average(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    dt_qscale of_x, of_y;
    if (!is_byte(x) || !is_byte(y) || dt_low_known(x) || x->t.ndim != 4 || dt_low_is_empty(x) ||
        dt_onnx_attr_int(n->node, "channels_last", 0) != 0 ||
        !read_scale(dt_low_in(n, 1), dt_low_in(n, 2), x->t.type, &of_x) ||
        !read_scale(dt_low_in(n, 3), dt_low_in(n, 4), y->t.type, &of_y))
        return false;
    dt_vid v = floats_of(w, x, of_x, true);
    v = dt_low_add(w, y->name, DT_OP_GLOBAL_AVGPOOL, NULL, 1, &v);
    set_bytes(w, y, code(w, y->name, DT_OP_QUANTIZE, v, of_y, false), true);
    return true;
}

/* ---- weights of 4 bits ---- */

static bool lower_bits(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *f = dt_low_in(n, 1), *s = dt_low_in(n, 2), *z = dt_low_in(n, 3),
          *y = dt_low_out(n, 0);
    const int64_t block = dt_onnx_attr_int(n->node, "block_size", 0);
    product p = {.name = y ? y->name : "", .x = -1, .x_scale = -1, .res = -1};
    p.q.k = dt_onnx_attr_int(n->node, "N", 0), p.q.depth = dt_onnx_attr_int(n->node, "K", 0);
    if (!x || !y || !f || !s || dt_onnx_attr_int(n->node, "bits", 4) != 4 || block < 8 || block % 8 != 0 ||
        block > 1 << 16 || !dt_low_is_real(x) || dt_low_known(x) || dt_low_is_empty(y) ||
        dt_low_is_empty(x) || !dt_low_known(f) || !dt_low_known(s) || !dt_low_is_real(s) ||
        f->t.type != DT_TENSOR_U8 || (z && (!dt_low_known(z) || z->t.type != DT_TENSOR_U8)) ||
        dt_low_in(n, 4) || x->t.ndim < 1)
        return false;
    const int64_t blocks = dt_ceil_div(p.q.depth, block), n_scale = p.q.k * blocks;
    if (dt_host_n_elem(&f->t) != n_scale * block / 2 || dt_host_n_elem(&s->t) != n_scale) return false;
    for (int64_t i = 0; i < n_scale; i++)
        if (!isfinite(((const float *)s->t.data)[i])) return false;
    p.y = *y;
    p.q.bits = 4;
    p.q.dense = true;
    p.q.y_type = DT_DTYPE_F32;
    p.q.block = (int32_t)block;
    p.q.w4 = f->t.data, p.q.w4_scale = s->t.data;
    if (z) {
        const int64_t row = (blocks + 1) / 2;
        uint8_t *to = dt_low_alloc(w, n_scale);
        if (!to || dt_host_n_elem(&z->t) != p.q.k * row) return false;
        for (int64_t k = 0; k < p.q.k; k++)
            for (int64_t b = 0; b < blocks; b++)
                to[k * blocks + b] = ((const uint8_t *)z->t.data)[k * row + b / 2] >> b % 2 * 4 & 15;
        p.q.w4_zero = to;
    }
    if (!take_bias(w, &p, dt_low_in(n, 5))) return false;
    p.x = dt_low_plain(w, x);
    take_added_bias(w, &p);
    take_relu(w, &p);
    finish(w, n, &p);
    return true;
}

const dt_low_row dt_low_quantized[] = {
    {"QuantizeLinear", lower_quantize},
    {"DequantizeLinear", lower_dequantize},
    {"DynamicQuantizeLinear", lower_dynamic},
    {"Conv", lower_conv},
    {"MatMul", lower_matmul},
    {"Gemm", lower_gemm},
    {"QLinearConv", lower_quantized_conv},
    {"QLinearMatMul", lower_quantized_matmul},
    {"ConvInteger", lower_integer_conv},
    {"MatMulInteger", lower_integer_matmul},
    {NULL, NULL},
};

const dt_low_row dt_low_quantized_microsoft[] = {
    {"QuantizeLinear", lower_quantize},  {"DequantizeLinear", lower_dequantize},
    {"QLinearAdd", lower_quantized_add}, {"QLinearGlobalAveragePool", lower_quantized_average},
    {"MatMulNBits", lower_bits},         {NULL, NULL},
};
