/* Places in a sequence: rotated pairs, and waves that are added. */
#include <math.h>

#include "op_row.h"

static dt_status need_theta(const dt_node *n) {
    const float theta = n->attr.rope.theta;
    if (theta > 0 && isfinite(theta)) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "theta %g is not a positive number", (double)theta);
}

static dt_status infer_rope(const dt_graph *g, const dt_node *n, dt_value *out) {
    const int64_t d = dt_infer_last(dt_infer_in(g, n, 0)), dims = dt_rope_dims(&n->attr.rope, d);
    DT_TRY(need_theta(n));
    if (dims < 2 || dims > d || dims % 2 != 0 || dims > DT_ROPE_DIMS_MAX)
        return dt_fail(
            DT_ERR_CONFIG,
            "%lld of a head's %lld numbers are to be rotated in pairs: an even number of them, at most %d",
            (long long)dims, (long long)d, DT_ROPE_DIMS_MAX);
    return dt_infer_same(g, n, out);
}

static dt_status grad_rope(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    return dt_grad_add_node(g, n.in[0], DT_OP_ROPE_BWD, &n.attr, 2, (dt_vid[]){dout[0], n.in[1]}, &din[0]);
}

static dt_status infer_position(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_theta(n));
    return dt_infer_same(g, n, out);
}

/* What is added is constant. */
static dt_status grad_position(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    (void)g, (void)id, (void)want;
    din[0] = dout[0];
    return DT_OK;
}

#define START                                                                                                \
    { .name = "start", .type = DT_SLOT_I32, OPT, LEN(0, 0) }

const dt_op_row dt_row_rope = {
    .name = "rope",
    .doc = "y [N,T,H,D]: of the first dims (0: all) numbers of each head the pairs (2i, 2i+1), interleaved, "
           "or (i, i + dims/2) turned by (t + start) theta^(-2i/dims); the rest of x as it is. start [N]: "
           "place of the first step; 0 without.",
    .in = {T("x", .rank = 4), START},
    .out = {T("y")},
    IN_PLACE(0, 0),
    .attr = {A(rope, theta), A(rope, dims), A(rope, interleaved)},
    .infer = infer_rope,
    .grad = grad_rope,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_rope_bwd = {
    .name = "rope_bwd",
    .doc = "dx = dy turned back as rope turns.",
    .in = {T("dy", .rank = 4), START},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(0, 0),
    .attr = {A(rope, theta), A(rope, dims), A(rope, interleaved)},
    .infer = infer_rope,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_position = {
    .name = "position",
    .doc = "y [N,T,C] = x + p, p = sin(a) in even columns and cos(a) in odd ones, a = (t + start) "
           "theta^(-2i/C) of pair i; start [N]: place of the first step; 0 without.",
    .in = {T("x", .rank = 3), START},
    .out = {T("y")},
    IN_PLACE(0, 0),
    .attr = {A(rope, theta)},
    .infer = infer_position,
    .grad = grad_position,
};
