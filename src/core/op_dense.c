/* Products of rows with a weight. */
#include "op_row.h"

/* Like v with another last dimension. */
static void set_last(dt_value *out, const dt_value *v, int64_t last) {
    dt_infer_like(out, v);
    out->dim[out->ndim - 1] = last;
}

dt_status dt_infer_act(int32_t act) {
    if (act < 0 || act > DT_UNARY_COUNT)
        return dt_fail(DT_ERR_CONFIG, "there is no function %d to end in", act);
    if (act > 0 && dt_unary_table[act - 1].param[0].name)
        return dt_fail(DT_ERR_CONFIG, "a product does not end in %s, which has a scalar",
                       dt_unary_table[act - 1].name);
    return DT_OK;
}

static dt_status infer_dense(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_DENSE_IN_X), *w = dt_infer_in(g, n, DT_DENSE_IN_W);
    if (w->dim[1] != dt_infer_last(x))
        return dt_fail(DT_ERR_CONFIG, "weight %s is %s, expected [K,%lld]", w->name, dt_value_shape_text(w),
                       (long long)dt_infer_last(x));
    if (dt_node_makes(n, DT_DENSE_OUT_PRE) && n->attr.dense.act == 0)
        return dt_fail(DT_ERR_CONFIG, "what no function is applied to is the result itself");
    set_last(&out[DT_DENSE_OUT_Y], x, w->dim[0]);
    set_last(&out[DT_DENSE_OUT_PRE], x, w->dim[0]);
    if (dt_node_has(n, DT_DENSE_IN_RES) && !dt_infer_same_dims(&out[0], dt_infer_in(g, n, DT_DENSE_IN_RES)))
        return dt_infer_misfit(g, n, DT_DENSE_IN_RES);
    return dt_infer_act(n->attr.dense.act);
}

static dt_status infer_dense_dgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0), *w = dt_infer_in(g, n, 1);
    const int32_t act = n->attr.dense.act;
    if (w->dim[0] != dt_infer_last(dy)) return dt_infer_misfit(g, n, 1);
    set_last(&out[0], dy, w->dim[1]);
    DT_TRY(dt_infer_act(act));
    if (dt_node_has(n, DT_DENSE_DGRAD_IN_PRE) != (act != 0))
        return dt_fail(DT_ERR_CONFIG, "a function's gradient needs what the function was of");
    if (act && dt_unary_table[act - 1].of_y)
        return dt_fail(DT_ERR_CONFIG, "the gradient of %s is not made of what it was of",
                       dt_unary_table[act - 1].name);
    if (act && !dt_infer_same_dims(&out[0], dt_infer_in(g, n, DT_DENSE_DGRAD_IN_PRE)))
        return dt_infer_misfit(g, n, DT_DENSE_DGRAD_IN_PRE);
    return DT_OK;
}

static dt_status infer_dense_wgrad(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0), *dy = dt_infer_in(g, n, 1);
    dt_value like_x;
    set_last(&like_x, dy, dt_infer_last(x));
    if (!dt_infer_same_dims(x, &like_x)) return dt_infer_misfit(g, n, 1);
    DT_INFER_SET(&out[DT_DENSE_WGRAD_OUT_DW], dt_op_type(g, n), dt_infer_last(dy), dt_infer_last(x));
    DT_INFER_SET(&out[DT_DENSE_WGRAD_OUT_DB], dt_op_type(g, n), dt_infer_last(dy));
    return DT_OK;
}

static dt_status infer_bias_grad(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_INFER_SET(&out[0], dt_op_type(g, n), dt_infer_last(dt_infer_in(g, n, 0)));
    return DT_OK;
}

static dt_status grad_dense(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid x = n.in[DT_DENSE_IN_X], w = n.in[DT_DENSE_IN_W], bias = n.in[DT_DENSE_IN_BIAS],
                 dy = dout[0];
    if (n.attr.dense.act || dt_node_has(&n, DT_DENSE_IN_RES))
        return dt_fail(DT_ERR_INTERNAL, "a fused product is not differentiated");
    if (want[DT_DENSE_IN_W])
        DT_TRY(dt_grad_add_node(g, w, DT_OP_DENSE_WGRAD, NULL, 2, (dt_vid[]){x, dy}, &din[DT_DENSE_IN_W]));
    if (want[DT_DENSE_IN_BIAS])
        DT_TRY(dt_grad_add_of(g, bias, DT_OP_BIAS_GRAD, NULL, dy, &din[DT_DENSE_IN_BIAS]));
    if (!want[DT_DENSE_IN_X]) return DT_OK;
    return dt_grad_add_node(g, x, DT_OP_DENSE_DGRAD, NULL, 2, (dt_vid[]){dy, w}, &din[DT_DENSE_IN_X]);
}

static double dense_flops(const dt_graph *g, const dt_node *n) {
    const dt_value *a = &g->value[n->in[0]], *b = &g->value[n->in[1]];
    /* forward: x and w; dgrad: dy and w; wgrad: x and dy: rows*C*K each way */
    const double c = (double)dt_infer_last(a), rows = (double)dt_value_n_elem(a) / c;
    return 2.0 * (n->op == DT_OP_DENSE_WGRAD ? c : rows) * (double)dt_value_n_elem(b);
}

const dt_op_row dt_row_dense = {
    .name = "dense",
    .doc = "y [...,K] = act(pre), pre = x [...,C] w^T + bias + res, w [K,C]. act: 1 + a function without "
           "scalars, 0 none.",
    .in = {T("x"), WEIGHT("w", .rank = 2), FLOAT("bias", OPT, LEN(DT_DENSE_IN_W, 0)), T("res", OPT)},
    .out = {T("y"), T("pre", OPT)},
    .attr = {A(dense, act)},
    .infer = infer_dense,
    .grad = grad_dense,
    .flops = dense_flops,
};

const dt_op_row dt_row_dense_dgrad = {
    .name = "dense_dgrad",
    .doc = "dx [...,C] = dy [...,K] w [K,C], times the gradient of act at pre.",
    .in = {T("dy"), T("w", .rank = 2), T("pre", OPT)},
    .out = {T("dx")},
    .attr = {A(dense, act)},
    .flags = DT_OP_INTERNAL,
    .infer = infer_dense_dgrad,
    .flops = dense_flops,
};

const dt_op_row dt_row_dense_wgrad = {
    .name = "dense_wgrad",
    .doc = "dw [K,C] = dy^T x of dy [...,K] and x [...,C]; db [K] as bias_grad's of dy.",
    .in = {T("x"), T("dy")},
    .out = {T("dw"), T("db", OPT)},
    .flags = DT_OP_INTERNAL,
    .infer = infer_dense_wgrad,
    .flops = dense_flops,
};

const dt_op_row dt_row_bias_grad = {
    .name = "bias_grad",
    .doc = "db [K] = column sums of dy [...,K].",
    .in = {T("dy")},
    .out = {T("db")},
    .flags = DT_OP_INTERNAL,
    .infer = infer_bias_grad,
    .flops = dt_flops_main,
};
