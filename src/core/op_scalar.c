/* Element-wise functions (core/scalar.h). */
#include <math.h>
#include <stdio.h>

#include "core/broadcast.h"
#include "op_row.h"

static dt_status infer_unary(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_unary_attr *t = &n->attr.unary;
    if (t->fn < 0 || t->fn >= DT_UNARY_COUNT)
        return dt_fail(DT_ERR_CONFIG, "there is no function of number %d", (int)t->fn);
    const dt_unary_row *row = &dt_unary_table[t->fn];
    const float given[DT_SCALARS_MAX] = {t->a, t->b};
    for (int32_t i = 0; i < DT_SCALARS_MAX && row->param[i].name; i++)
        if (!isfinite(given[i]))
            return dt_fail(DT_ERR_CONFIG, "%s is %g, not a finite number", row->param[i].name,
                           (double)given[i]);
    if (t->fn == DT_UNARY_CLAMP && t->a > t->b)
        return dt_fail(DT_ERR_CONFIG, "lo = %g is above hi = %g", (double)t->a, (double)t->b);
    return dt_infer_same(g, n, out);
}

static dt_status grad_unary(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_vid v = dt_unary_table[n.attr.unary.fn].of_y ? n.out[0] : n.in[0];
    return dt_grad_add_node(g, n.in[0], DT_OP_UNARY_BWD, &n.attr, 2, (dt_vid[]){dout[0], v}, &din[0]);
}

static dt_status need_function(const dt_node *n) {
    if (n->attr.binary.fn >= 0 && n->attr.binary.fn < DT_BINARY_COUNT) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "there is no function of number %d", (int)n->attr.binary.fn);
}

static dt_status infer_binary(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *a = dt_infer_in(g, n, DT_BINARY_IN_A), *b = dt_infer_in(g, n, DT_BINARY_IN_B);
    DT_TRY(need_function(n));
    out->dtype = a->dtype;
    if (a->dtype == b->dtype && dt_broadcast_shape(a, b, out)) return DT_OK;
    char text[96];
    snprintf(text, sizeof text, "%s", dt_value_shape_text(a));
    return dt_fail(DT_ERR_CONFIG, "%s is %s but %s is %s", a->name, text, b->name, dt_value_shape_text(b));
}

/* Of one shape there is nothing to sum: where the gradient is that of the result, it is that value. */
static dt_status grad_binary(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_binary_row *row = &dt_binary_table[n.attr.binary.fn];
    for (int32_t k = 0; k < 2; k++) {
        if (!want[k]) continue;
        const dt_value *v = &g->value[n.in[k]];
        const bool as_it_is =
            n.attr.binary.fn == DT_BINARY_ADD || (n.attr.binary.fn == DT_BINARY_SUB && k == 0);
        if (as_it_is && dt_infer_same_dims(v, &g->value[n.out[0]])) {
            din[k] = dout[0];
            continue;
        }
        dt_attr t = {.binary.fn = n.attr.binary.fn, .binary.operand = k, .binary.ndim = v->ndim};
        for (int32_t i = 0; i < v->ndim; i++) t.binary.dim[i] = v->dim[i];
        const dt_vid in[] = {dout[0], row->reads[k] & 1 ? n.in[0] : -1, row->reads[k] & 2 ? n.in[1] : -1};
        DT_TRY(dt_grad_add_node(g, n.in[k], DT_OP_BINARY_BWD, &t, 3, in, &din[k]));
    }
    return DT_OK;
}

static dt_status infer_binary_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_binary_attr *t = &n->attr.binary;
    const dt_value *dy = dt_infer_in(g, n, DT_BINARY_BWD_IN_DY);
    dt_value whole = {0};
    DT_TRY(need_function(n));
    if ((t->operand != 0 && t->operand != 1) || t->ndim < 1 || t->ndim > DT_MAX_DIM)
        return dt_fail(DT_ERR_CONFIG, "operand %d of %d dimensions", t->operand, t->ndim);
    dt_infer_set(out, dy->dtype, t->ndim, t->dim);
    if (!dt_broadcast_shape(dy, out, &whole) || !dt_infer_same_dims(&whole, dy))
        return dt_infer_misfit(g, n, DT_BINARY_BWD_IN_DY);
    for (int32_t i = 0; i < 2; i++) {
        const int32_t slot = DT_BINARY_BWD_IN_A + i;
        if (!dt_node_has(n, slot)) {
            if (dt_binary_table[t->fn].reads[t->operand] >> i & 1)
                return dt_fail(DT_ERR_CONFIG, "the gradient of %s needs input %s",
                               dt_binary_table[t->fn].name, dt_op_get(n->op)->in[slot].name);
            continue;
        }
        const dt_value *v = dt_infer_in(g, n, slot);
        if (v->dtype != dy->dtype || !dt_broadcast_shape(dy, v, &whole) || !dt_infer_same_dims(&whole, dy) ||
            (i == t->operand && !dt_infer_same_dims(v, out)))
            return dt_infer_misfit(g, n, slot);
    }
    return DT_OK;
}

const dt_op_row dt_row_unary = {
    .name = "unary",
    .doc = "y = function(x), element by element, in PyTorch's definition.",
    .in = {FLOAT("x")},
    .out = {FLOAT("y")},
    IN_PLACE(0, 0),
    .flags = DT_OP_EMPTY,
    .attr = {A(unary, fn), A(unary, a), A(unary, b)},
    .infer = infer_unary,
    .grad = grad_unary,
};

const dt_op_row dt_row_binary = {
    .name = "binary",
    .doc = "y = function(a, b), element by element, of one type. Shapes are aligned at the last "
           "dimension; one that is missing or 1 is repeated.",
    .in = {FLOAT("a"), FLOAT("b")},
    .out = {FLOAT("y")},
    IN_PLACE(0, 0),
    .flags = DT_OP_EMPTY,
    .attr = {A(binary, fn)},
    .infer = infer_binary,
    .grad = grad_binary,
};

const dt_op_row dt_row_unary_bwd = {
    .name = "unary_bwd",
    .doc = "dx = dy times the derivative of unary's function; v is its y or its x, as the "
           "function's gradient is made.",
    .in = {FLOAT("dy"), FLOAT("v", SAME(0))},
    .out = {FLOAT("dx")},
    .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
    IN_PLACE(0, 0),
    .attr = {A(unary, fn), A(unary, a), A(unary, b)},
    .infer = infer_unary,
};

const dt_op_row dt_row_binary_bwd = {
    .name = "binary_bwd",
    .doc = "gradient of one operand of binary, summed in a fixed order over what was repeated; a "
           "and b where the function's gradient reads them.",
    .in = {FLOAT("dy"), FLOAT("a", OPT), FLOAT("b", OPT)},
    .out = {FLOAT("dx")},
    .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
    .attr = {A(binary, fn), A(binary, operand), A(binary, ndim), A(binary, dim)},
    .infer = infer_binary_bwd,
};
