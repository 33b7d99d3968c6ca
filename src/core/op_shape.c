/* Ops that move or rename elements. */
#include <stdio.h>

#include "op_row.h"

static dt_status infer_reshape(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    const dt_reshape_attr *t = &n->attr.reshape;
    const int64_t have = dt_value_n_elem(x);
    const dt_reshape_attr flat = {.ndim = 2, .dim = {x->dim[0], -1}};
    if (t->ndim == 0) t = &flat;
    if (t->ndim < 0 || t->ndim > DT_MAX_DIM)
        return dt_fail(DT_ERR_CONFIG, "a shape of %d dimensions: there are at most %d", t->ndim, DT_MAX_DIM);
    dt_infer_set(&out[0], x->dtype, t->ndim, t->dim);
    int64_t known = 1;
    int32_t i_rest = -1;
    bool fits = true;
    for (int32_t i = 0; i < t->ndim; i++) {
        if (t->dim[i] == -1 && i_rest < 0) {
            i_rest = i;
            continue;
        }
        fits &= t->dim[i] >= 0 && (known == 0 || t->dim[i] <= INT64_MAX / dt_max_i64(known, 1));
        known = fits ? known * t->dim[i] : 0;
    }
    if (i_rest >= 0) {
        fits &= known > 0 && have % dt_max_i64(known, 1) == 0;
        out[0].dim[i_rest] = fits ? have / known : 0;
    }
    if (fits && dt_value_n_elem(&out[0]) == have) return DT_OK;
    char text[96];
    snprintf(text, sizeof text, "%s", dt_value_shape_text(x));
    out[0].dim[i_rest >= 0 ? i_rest : 0] = i_rest >= 0 ? -1 : t->dim[0];
    return dt_fail(DT_ERR_CONFIG, "%s is %s: its elements do not make a %s", x->name, text,
                   dt_value_shape_text(&out[0]));
}

static dt_status grad_reshape(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_value *x = &g->value[n.in[0]];
    dt_attr t = {.reshape.ndim = x->ndim};
    for (int32_t i = 0; i < x->ndim; i++) t.reshape.dim[i] = x->dim[i];
    return dt_grad_add_of(g, n.in[0], DT_OP_RESHAPE, &t, dout[0], &din[0]);
}

static dt_status need_axis(const dt_node *n, const dt_value *v) {
    if (n->attr.shape.axis >= 0 && n->attr.shape.axis < v->ndim) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s is %s: there is no dimension %d, the first being 0", v->name,
                   dt_value_shape_text(v), n->attr.shape.axis);
}

static dt_status infer_concat(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *first = dt_infer_in(g, n, 0);
    const int32_t axis = n->attr.shape.axis;
    DT_TRY(need_axis(n, first));
    dt_infer_like(out, first);
    for (int32_t i = 1; i < n->n_in; i++) {
        const dt_value *v = dt_infer_in(g, n, i);
        bool fits = v->dtype == first->dtype && v->ndim == first->ndim;
        for (int32_t k = 0; fits && k < v->ndim; k++) fits = k == axis || v->dim[k] == first->dim[k];
        if (fits) {
            out->dim[axis] += v->dim[axis];
            continue;
        }
        char text[96];
        snprintf(text, sizeof text, "%s", dt_value_shape_text(first));
        return dt_fail(DT_ERR_CONFIG,
                       "%s is %s but %s is %s: they differ elsewhere than in dimension %d, the first being 0",
                       first->name, text, v->name, dt_value_shape_text(v), axis);
    }
    return DT_OK;
}

static dt_status grad_concat(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    dt_attr t = {.shape.axis = n.attr.shape.axis};
    for (int32_t i = 0; i < n.n_in; i++, t.shape.begin += t.shape.length) {
        t.shape.length = g->value[n.in[i]].dim[t.shape.axis];
        if (want[i]) DT_TRY(dt_grad_add_node(g, n.in[i], DT_OP_SLICE, &t, 1, dout, &din[i]));
    }
    return DT_OK;
}

static dt_status infer_slice(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    const dt_shape_attr *t = &n->attr.shape;
    DT_TRY(need_axis(n, x));
    const int64_t whole = x->dim[t->axis];
    if (t->begin < 0 || t->length < 0 || t->begin > whole || t->length > whole - t->begin)
        return dt_fail(DT_ERR_CONFIG,
                       "%lld from %lld on along dimension %d, the first being 0, of %s, which is %s",
                       (long long)t->length, (long long)t->begin, t->axis, x->name, dt_value_shape_text(x));
    dt_infer_like(out, x);
    out->dim[t->axis] = t->length;
    return DT_OK;
}

static dt_status grad_slice(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    dt_attr t = n.attr;
    t.shape.length = g->value[n.in[0]].dim[t.shape.axis];
    return dt_grad_add_node(g, n.in[0], DT_OP_PAD, &t, 1, dout, &din[0]);
}

static dt_status infer_pad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0);
    const dt_shape_attr *t = &n->attr.shape;
    DT_TRY(need_axis(n, dy));
    if (t->begin < 0 || t->begin > t->length || dy->dim[t->axis] > t->length - t->begin)
        return dt_infer_misfit(g, n, 0);
    dt_infer_like(out, dy);
    out->dim[t->axis] = t->length;
    return DT_OK;
}

static dt_status grad_pad(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    dt_attr t = n.attr;
    t.shape.length = g->value[n.in[0]].dim[t.shape.axis];
    return dt_grad_add_node(g, n.in[0], DT_OP_SLICE, &t, 1, dout, &din[0]);
}

static dt_status infer_transpose(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    const dt_transpose_attr *t = &n->attr.transpose;
    uint32_t seen = 0;
    dt_infer_like(out, x);
    for (int32_t i = 0; t->ndim == x->ndim && i < x->ndim; i++) {
        if (t->perm[i] < 0 || t->perm[i] >= x->ndim) break;
        seen |= 1u << t->perm[i];
        out->dim[i] = x->dim[t->perm[i]];
    }
    if (seen == (1u << x->ndim) - 1) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s is %s: perm must name each of its dimensions once", x->name,
                   dt_value_shape_text(x));
}

static dt_status grad_transpose(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    dt_attr back = {.transpose.ndim = n.attr.transpose.ndim};
    for (int32_t i = 0; i < back.transpose.ndim; i++) back.transpose.perm[n.attr.transpose.perm[i]] = i;
    return dt_grad_add_node(g, n.in[0], DT_OP_TRANSPOSE, &back, 1, dout, &din[0]);
}

dt_blocks dt_op_blocks(const dt_graph *g, const dt_node *n, const dt_value *v) {
    const dt_value *y = &g->value[n->out[0]];
    dt_blocks b = {.rows = 1, .bytes = (int64_t)dt_dtype_size(y->dtype)};
    for (int32_t i = 0; i < n->attr.shape.axis; i++) b.rows *= y->dim[i];
    for (int32_t i = n->attr.shape.axis + 1; i < y->ndim; i++) b.bytes *= y->dim[i];
    b.begin = n->op == DT_OP_CONCAT ? 0 : n->attr.shape.begin * b.bytes;
    b.bytes *= v->dim[n->attr.shape.axis];
    return b;
}

const dt_op_row dt_row_reshape = {
    .name = "reshape",
    .doc = "y = x in another shape, row-major; a dimension of -1 is what remains; without a shape [N, rest].",
    .in = {{.name = "x", .type = DT_SLOT_ANY}},
    .out = {ANY("y")},
    .flags = DT_OP_VIEW | DT_OP_EMPTY,
    .attr = {A(reshape, ndim), A(reshape, dim)},
    .infer = infer_reshape,
    .grad = grad_reshape,
};

const dt_op_row dt_row_concat = {
    .name = "concat",
    .doc = "y = the inputs one after the other along a dimension.",
    .in = {{.name = "x", .type = DT_SLOT_ANY, .many = true}},
    .out = {ANY("y")},
    .flags = DT_OP_EMPTY,
    .attr = {A(shape, axis)},
    .infer = infer_concat,
    .grad = grad_concat,
};

const dt_op_row dt_row_slice = {
    .name = "slice",
    .doc = "y = x from begin on for length along a dimension.",
    .in = {ANY("x")},
    .out = {ANY("y")},
    .flags = DT_OP_EMPTY,
    .attr = {A(shape, axis), A(shape, begin), A(shape, length)},
    .infer = infer_slice,
    .grad = grad_slice,
};

const dt_op_row dt_row_pad = {
    .name = "pad",
    .doc = "y = x from begin on along a dimension of length, 0 elsewhere.",
    .in = {ANY("x")},
    .out = {ANY("y")},
    .flags = DT_OP_EMPTY,
    .attr = {A(shape, axis), A(shape, begin), A(shape, length)},
    .infer = infer_pad,
    .grad = grad_pad,
};

const dt_op_row dt_row_transpose = {
    .name = "transpose",
    .doc = "y = x with its dimensions in another order: dimension i of y is perm[i] of x.",
    .in = {ANY("x")},
    .out = {ANY("y")},
    .flags = DT_OP_EMPTY,
    .attr = {A(transpose, ndim), A(transpose, perm)},
    .infer = infer_transpose,
    .grad = grad_transpose,
};
