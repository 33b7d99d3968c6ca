/* Dropout. */
#include "op_row.h"

static dt_status infer_dropout(const dt_graph *g, const dt_node *n, dt_value *out) {
    if (!(n->attr.dropout.p >= 0 && n->attr.dropout.p < 1))
        return dt_fail(DT_ERR_CONFIG, "dropout rate %g is not in [0, 1)", (double)n->attr.dropout.p);
    return dt_infer_same(g, n, out);
}

static dt_status grad_dropout(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    return dt_grad_add_of(g, n.in[0], DT_OP_DROPOUT_BWD, &n.attr, dout[0], &din[0]);
}

const dt_op_row dt_row_dropout = {
    .name = "dropout",
    .doc = "y = x * keep / (1-p); keep from Philox of the key of (seed, DROPOUT, salt) at "
           "((step, micro), element / 4); with rows one draw for each row of the batch, by its number there: "
           "stochastic depth.",
    .in = {T("x")},
    .out = {T("y")},
    IN_PLACE(0, 0),
    .flags = DT_OP_EMPTY,
    .attr = {A(dropout, p), A(dropout, rows), A(dropout, salt)},
    .infer = infer_dropout,
    .grad = grad_dropout,
};

const dt_op_row dt_row_dropout_bwd = {
    .name = "dropout_bwd",
    .doc = "dx = dy * keep / (1-p): dropout's own map.",
    .in = {T("dy")},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
    IN_PLACE(0, 0),
    .attr = {A(dropout, p), A(dropout, rows), A(dropout, salt)},
    .infer = dt_infer_same,
};
