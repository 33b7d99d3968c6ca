/* Images in another size: resampled, or the largest of each part. */
#include "op_row.h"

static dt_status need_size(const dt_node *n) {
    const int32_t *size = n->attr.resample.size;
    if (size[0] < 1 || size[1] < 1) return dt_fail(DT_ERR_CONFIG, "an image of %dx%d", size[0], size[1]);
    if (n->attr.resample.mode < 0 || n->attr.resample.mode >= DT_RESAMPLE_COUNT)
        return dt_fail(DT_ERR_CONFIG, "there is no resampling of number %d", (int)n->attr.resample.mode);
    return DT_OK;
}

/* The image, or of a gradient that of the result, in the attribute's size. */
static dt_status infer_resample(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    const int32_t *size = n->attr.resample.size;
    DT_TRY(need_size(n));
    DT_INFER_SET(&out[0], x->dtype, x->dim[0], size[0], size[1], x->dim[3]);
    return DT_OK;
}

static dt_status infer_adaptive_maxpool(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    DT_TRY(infer_resample(g, n, out));
    if (x->dim[1] * x->dim[2] > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG, "%s is %s: too many pixels", x->name, dt_value_shape_text(x));
    dt_infer_like(&out[DT_MAXPOOL_OUT_IDX], &out[0]);
    out[DT_MAXPOOL_OUT_IDX].dtype = DT_DTYPE_I32;
    return DT_OK;
}

static dt_attr sized(const dt_graph *g, const dt_node *n) {
    const dt_value *x = &g->value[n->in[0]];
    dt_attr t = n->attr;
    t.resample.size[0] = (int32_t)x->dim[1], t.resample.size[1] = (int32_t)x->dim[2];
    return t;
}

static dt_status grad_resample(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = sized(g, &n);
    return dt_grad_add_of(g, n.in[0], DT_OP_RESAMPLE_BWD, &t, dout[0], &din[0]);
}

static dt_status grad_adaptive_maxpool(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want,
                                       dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = sized(g, &n);
    return dt_grad_add_node(g, n.in[0], DT_OP_ADAPTIVE_MAXPOOL_BWD, &t, 2,
                            (dt_vid[]){dout[0], n.out[DT_MAXPOOL_OUT_IDX]}, &din[0]);
}

const dt_op_row dt_row_resample = {
    .name = "resample",
    .doc = "y [N,P,Q,C] = x [N,H,W,C] in `size`, as PyTorch's interpolate (nearest, bilinear, bilinear with "
           "align_corners, bicubic) or adaptive_avg_pool2d.",
    .in = {T("x", .rank = 4)},
    .out = {T("y")},
    .attr = {A(resample, mode), A(resample, size)},
    .infer = infer_resample,
    .grad = grad_resample,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_adaptive_maxpool = {
    .name = "adaptive_maxpool",
    .doc =
        "y [N,P,Q,C] = the maximum of each of the parts of x [N,H,W,C] that adaptive_avg_pool2d takes means "
        "of; idx its position in the image, h W + w, the first one wins.",
    .in = {T("x", .rank = 4)},
    .out = {T("y"), {.name = "idx", .type = DT_SLOT_I32}},
    .attr = {A(resample, size)},
    .infer = infer_adaptive_maxpool,
    .grad = grad_adaptive_maxpool,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_resample_bwd = {
    .name = "resample_bwd",
    .doc = "dx [N,H,W,C] of `size` = sum of dy over the pixels that an element is part of, times its part.",
    .in = {T("dy", .rank = 4)},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    .attr = {A(resample, mode), A(resample, size)},
    .infer = infer_resample,
};

const dt_op_row dt_row_adaptive_maxpool_bwd = {
    .name = "adaptive_maxpool_bwd",
    .doc = "dx [N,H,W,C] of `size` = sum of dy over the parts whose maximum an element was.",
    .in = {T("dy", .rank = 4), {.name = "idx", .type = DT_SLOT_I32, SAME(0)}},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    .attr = {A(resample, size)},
    .infer = infer_resample,
};
