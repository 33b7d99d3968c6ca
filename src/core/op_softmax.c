/* Softmax and its logarithm. */
#include "op_row.h"

static dt_status grad_softmax(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_op op = n.op == DT_OP_SOFTMAX ? DT_OP_SOFTMAX_BWD : DT_OP_LOG_SOFTMAX_BWD;
    return dt_grad_add_node(g, n.in[0], op, NULL, 2, (dt_vid[]){dout[0], n.out[0]}, &din[0]);
}

const dt_op_row dt_row_softmax = {
    .name = "softmax",
    .doc = "y = exp(x) / sum of exp(x) over the last dimension.",
    .in = {FLOAT("x")},
    .out = {FLOAT("y")},
    IN_PLACE(0, 0),
    .flags = DT_OP_EMPTY,
    .infer = dt_infer_same,
    .grad = grad_softmax,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_log_softmax = {
    .name = "log_softmax",
    .doc = "y = x - log of the sum of exp(x) over the last dimension.",
    .in = {FLOAT("x")},
    .out = {FLOAT("y")},
    IN_PLACE(0, 0),
    .flags = DT_OP_EMPTY,
    .infer = dt_infer_same,
    .grad = grad_softmax,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_softmax_bwd = {
    .name = "softmax_bwd",
    .doc = "dx = y (dy - sum of dy y over the last dimension).",
    .in = {FLOAT("dy"), FLOAT("y", SAME(0))},
    .out = {FLOAT("dx")},
    .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
    IN_PLACE(0, 0),
    .infer = dt_infer_same,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_log_softmax_bwd = {
    .name = "log_softmax_bwd",
    .doc = "dx = dy - exp(y) times the sum of dy over the last dimension.",
    .in = {FLOAT("dy"), FLOAT("y", SAME(0))},
    .out = {FLOAT("dx")},
    .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
    IN_PLACE(0, 0),
    .infer = dt_infer_same,
    .flops = dt_flops_main4,
};
