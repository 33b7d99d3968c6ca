/* Pools. */
#include "op_row.h"

static dt_status infer_maxpool(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_window_attr *t = &n->attr.window;
    DT_TRY(dt_infer_pooled(t, dt_infer_in(g, n, DT_MAXPOOL_IN_X), &out[DT_MAXPOOL_OUT_Y]));
    if (t->kernel[0] * t->kernel[1] > 255)
        return dt_fail(DT_ERR_CONFIG, "a window of %dx%d is more than 255 elements", t->kernel[0],
                       t->kernel[1]);
    dt_infer_like(&out[DT_MAXPOOL_OUT_IDX], &out[DT_MAXPOOL_OUT_Y]);
    out[DT_MAXPOOL_OUT_IDX].dtype = DT_DTYPE_U8;
    return DT_OK;
}

static dt_status infer_avgpool(const dt_graph *g, const dt_node *n, dt_value *out) {
    return dt_infer_pooled(&n->attr.window, dt_infer_in(g, n, 0), &out[0]);
}

static dt_status infer_global_avgpool(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    DT_INFER_SET(&out[0], x->dtype, x->dim[0], x->dim[3]);
    return DT_OK;
}

static dt_status infer_pool_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0);
    int64_t p, q;
    DT_TRY(dt_infer_windows(&n->attr.window, n->attr.window.size[0], n->attr.window.size[1], &p, &q));
    if (p != dy->dim[1] || q != dy->dim[2]) return dt_infer_misfit(g, n, 0);
    DT_INFER_SET(&out[0], dy->dtype, dy->dim[0], n->attr.window.size[0], n->attr.window.size[1], dy->dim[3]);
    return DT_OK;
}

static dt_status infer_global_avgpool_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0);
    const int32_t *size = n->attr.window.size;
    if (size[0] < 1 || size[1] < 1) return dt_fail(DT_ERR_CONFIG, "an image of %dx%d", size[0], size[1]);
    DT_INFER_SET(&out[0], dy->dtype, dy->dim[0], size[0], size[1], dy->dim[1]);
    return DT_OK;
}

static dt_status grad_maxpool(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = dt_grad_window(g, &n.attr, n.in[0]);
    return dt_grad_add_node(g, n.in[0], DT_OP_MAXPOOL_BWD, &t, 2,
                            (dt_vid[]){dout[0], n.out[DT_MAXPOOL_OUT_IDX]}, &din[0]);
}

static dt_status grad_avgpool(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = dt_grad_window(g, &n.attr, n.in[0]);
    return dt_grad_add_of(g, n.in[0], DT_OP_AVGPOOL_BWD, &t, dout[0], &din[0]);
}

static dt_status grad_global_avgpool(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want,
                                     dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = dt_grad_window(g, &n.attr, n.in[0]);
    return dt_grad_add_of(g, n.in[0], DT_OP_GLOBAL_AVGPOOL_BWD, &t, dout[0], &din[0]);
}

const dt_op_row dt_row_maxpool = {
    .name = "maxpool",
    .doc = "y = maximum of each window; idx its position in the window, row-major, the first one "
           "wins. With pre_scale x is relu(x * pre_scale + pre_shift) in T.",
    .in = {T("x", .rank = 4), F32("pre_scale", OPT, LEN(0, LAST), NEEDS(DT_MAXPOOL_IN_PRE_SHIFT)),
           F32("pre_shift", OPT, LEN(0, LAST), NEEDS(DT_MAXPOOL_IN_PRE_SCALE))},
    .out = {T("y"), {.name = "idx", .type = DT_SLOT_U8}},
    .attr = {WINDOW},
    .infer = infer_maxpool,
    .grad = grad_maxpool,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_avgpool = {
    .name = "avgpool",
    .doc = "y = sum of each window / (R S): padding counts as zeros, PyTorch's default.",
    .in = {T("x", .rank = 4)},
    .out = {T("y")},
    .attr = {WINDOW},
    .infer = infer_avgpool,
    .grad = grad_avgpool,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_global_avgpool = {
    .name = "global_avgpool",
    .doc = "y [N,C] = mean of x [N,H,W,C] over H and W.",
    .in = {T("x", .rank = 4)},
    .out = {T("y")},
    .infer = infer_global_avgpool,
    .grad = grad_global_avgpool,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_maxpool_bwd = {
    .name = "maxpool_bwd",
    .doc = "dx = sum of dy over the windows whose maximum an element was.",
    .in = {T("dy", .rank = 4), {.name = "idx", .type = DT_SLOT_U8, SAME(0)}},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    .attr = {WINDOW, A(window, size)},
    .infer = infer_pool_bwd,
};

const dt_op_row dt_row_avgpool_bwd = {
    .name = "avgpool_bwd",
    .doc = "dx = sum of dy / (R S) over the windows that cover an element.",
    .in = {T("dy", .rank = 4)},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    .attr = {WINDOW, A(window, size)},
    .infer = infer_pool_bwd,
};

const dt_op_row dt_row_global_avgpool_bwd = {
    .name = "global_avgpool_bwd",
    .doc = "dx [N,H,W,C] = dy [N,C] / (H W).",
    .in = {T("dy", .rank = 2)},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    .attr = {A(window, size)},
    .infer = infer_global_avgpool_bwd,
};
