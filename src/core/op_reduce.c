/* Sums, means and maxima over dimensions. */
#include "core/broadcast.h"
#include "op_row.h"

static dt_status infer_reduce(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    const dt_reduce_attr *t = &n->attr.reduce;
    if (t->kind < 0 || t->kind >= DT_REDUCE_COUNT)
        return dt_fail(DT_ERR_CONFIG, "there is no reduction of number %d", (int)t->kind);
    if (t->axes <= 0 || t->axes >= 1 << x->ndim)
        return dt_fail(DT_ERR_CONFIG, "axes %#x of %s, which is %s", (unsigned)t->axes, x->name,
                       dt_value_shape_text(x));
    dt_infer_like(out, x);
    for (int32_t i = 0; i < x->ndim; i++)
        if (t->axes >> i & 1) out->dim[i] = 1;
    return DT_OK;
}

static dt_status grad_reduce(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_value *x = &g->value[n.in[0]];
    const bool max = n.attr.reduce.kind == DT_REDUCE_MAX;
    (void)want;
    dt_attr t = n.attr;
    t.reduce.ndim = x->ndim;
    for (int32_t i = 0; i < x->ndim; i++) t.reduce.dim[i] = x->dim[i];
    return dt_grad_add_node(g, n.in[0], DT_OP_REDUCE_BWD, &t, 3,
                            (dt_vid[]){dout[0], max ? n.in[0] : -1, max ? n.out[0] : -1}, &din[0]);
}

static dt_status infer_reduce_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, DT_REDUCE_BWD_IN_DY);
    const dt_reduce_attr *t = &n->attr.reduce;
    dt_value reduced;
    if (t->kind < 0 || t->kind >= DT_REDUCE_COUNT || t->ndim < 1 || t->ndim > DT_MAX_DIM || t->axes <= 0 ||
        t->axes >= 1 << t->ndim)
        return dt_fail(DT_ERR_CONFIG, "reduction %d of axes %#x of %d dimensions", (int)t->kind,
                       (unsigned)t->axes, t->ndim);
    dt_infer_set(out, dy->dtype, t->ndim, t->dim);
    reduced = *out;
    for (int32_t i = 0; i < t->ndim; i++)
        if (t->axes >> i & 1) reduced.dim[i] = 1;
    if (!dt_infer_same_dims(dy, &reduced)) return dt_infer_misfit(g, n, DT_REDUCE_BWD_IN_DY);
    if (dt_node_has(n, DT_REDUCE_BWD_IN_X) != (t->kind == DT_REDUCE_MAX))
        return dt_fail(DT_ERR_CONFIG, "x and y go with a maximum");
    if (t->kind == DT_REDUCE_MAX && !dt_infer_same_dims(dt_infer_in(g, n, DT_REDUCE_BWD_IN_X), out))
        return dt_infer_misfit(g, n, DT_REDUCE_BWD_IN_X);
    return DT_OK;
}

const dt_op_row dt_row_reduce = {
    .name = "reduce",
    .doc = "y = sum, mean or maximum of x over the dimensions of axes, which become 1.",
    .in = {FLOAT("x")},
    .out = {FLOAT("y")},
    .attr = {A(reduce, kind), A(reduce, axes)},
    .infer = infer_reduce,
    .grad = grad_reduce,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_reduce_bwd = {
    .name = "reduce_bwd",
    .doc =
        "dx = dy repeated (sum), divided by how many were averaged (mean), or shared evenly by the elements "
        "that are the maximum (as PyTorch's amax).",
    .in = {FLOAT("dy"), FLOAT("x", OPT, NEEDS(DT_REDUCE_BWD_IN_Y)),
           FLOAT("y", OPT, SAME(DT_REDUCE_BWD_IN_DY), NEEDS(DT_REDUCE_BWD_IN_X))},
    .out = {FLOAT("dx")},
    .flags = DT_OP_INTERNAL,
    .attr = {A(reduce, kind), A(reduce, axes), A(reduce, ndim), A(reduce, dim)},
    .infer = infer_reduce_bwd,
};
