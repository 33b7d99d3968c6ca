/* Gradient rules: each appends the backward nodes of one forward node. Formulas are in op.h. */
#include <stdio.h>
#include <string.h>

#include "op_infer.h"

/* "grad/<value>", made unique by a counter where several uses contribute. */
static void grad_name(const dt_graph *g, dt_vid v, char *name) {
    const char *base = g->value[v].name;
    snprintf(name, DT_NAME_MAX, "grad/%.*s", DT_NAME_MAX - 16, base);
    for (int32_t k = 2; dt_graph_find(g, name) >= 0; k++)
        snprintf(name, DT_NAME_MAX, "grad/%.*s#%d", DT_NAME_MAX - 16, base, k);
}

dt_status dt_grad_add_node(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, int32_t n_in,
                           const dt_vid *in, dt_vid *out) {
    char name[DT_NAME_MAX];
    grad_name(g, of, name);
    return dt_graph_add_node(g, name, op, attr, n_in, in, out);
}

/* The same of the gradient that stands in slot 0 of in[]. */
static dt_status add_grad_of(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, dt_vid dout,
                             dt_vid *out) {
    return dt_grad_add_node(g, of, op, attr, 1, &dout, out);
}

/* Of a convolution or pool. */
static dt_attr with_size_of(const dt_graph *g, const dt_attr *attr, dt_vid image) {
    dt_attr t = *attr;
    t.window.size[0] = (int32_t)g->value[image].dim[1];
    t.window.size[1] = (int32_t)g->value[image].dim[2];
    return t;
}

dt_status dt_grad_conv(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid x = n.in[DT_CONV_IN_X], w = n.in[DT_CONV_IN_W], bias = n.in[DT_CONV_IN_BIAS], dy = dout[0];
    const dt_attr t = with_size_of(g, &n.attr, x);
    /* The weight gradient first: its bucket can start while the data gradient runs. */
    if (want[DT_CONV_IN_W])
        DT_TRY(dt_grad_add_node(g, w, DT_OP_CONV_WGRAD, &t, 2, (dt_vid[]){x, dy}, &din[DT_CONV_IN_W]));
    if (want[DT_CONV_IN_BIAS]) DT_TRY(add_grad_of(g, bias, DT_OP_BIAS_GRAD, NULL, dy, &din[DT_CONV_IN_BIAS]));
    if (want[DT_CONV_IN_X])
        DT_TRY(dt_grad_add_node(g, x, DT_OP_CONV_DGRAD, &t, 2, (dt_vid[]){dy, w}, &din[DT_CONV_IN_X]));
    return DT_OK;
}

dt_status dt_grad_dense(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid x = n.in[DT_DENSE_IN_X], w = n.in[DT_DENSE_IN_W], bias = n.in[DT_DENSE_IN_BIAS],
                 dy = dout[0];
    if (want[DT_DENSE_IN_W])
        DT_TRY(dt_grad_add_node(g, w, DT_OP_DENSE_WGRAD, NULL, 2, (dt_vid[]){x, dy}, &din[DT_DENSE_IN_W]));
    if (want[DT_DENSE_IN_BIAS])
        DT_TRY(add_grad_of(g, bias, DT_OP_BIAS_GRAD, NULL, dy, &din[DT_DENSE_IN_BIAS]));
    if (!want[DT_DENSE_IN_X]) return DT_OK;
    return dt_grad_add_node(g, x, DT_OP_DENSE_DGRAD, NULL, 2, (dt_vid[]){dy, w}, &din[DT_DENSE_IN_X]);
}

dt_status dt_grad_batchnorm(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const bool residual = dt_node_has(&n, DT_BN_IN_RES);
    /* With a residual the masked gradient is needed by the skip path too, so it is written once; without one
     * the mask is cheaper to recompute from the BN input than to read from the output. */
    const bool from_y = n.attr.norm.relu && residual, from_c = n.attr.norm.relu && !residual;
    const dt_vid x = n.in[DT_BN_IN_X], scale = from_c ? n.out[DT_BN_OUT_SCALE] : -1,
                 shift = from_c ? n.out[DT_BN_OUT_SHIFT] : -1;
    const dt_vid in[] = {[DT_REDUCE_IN_DY] = dout[0],
                         [DT_REDUCE_IN_DY2] = -1,
                         [DT_REDUCE_IN_C] = x,
                         [DT_REDUCE_IN_MEAN] = n.out[DT_BN_OUT_MEAN],
                         [DT_REDUCE_IN_INVSTD] = n.out[DT_BN_OUT_INVSTD],
                         [DT_REDUCE_IN_GAMMA] = n.in[DT_BN_IN_GAMMA],
                         [DT_REDUCE_IN_Y] = from_y ? n.out[DT_BN_OUT_Y] : -1,
                         [DT_REDUCE_IN_SCALE] = scale,
                         [DT_REDUCE_IN_SHIFT] = shift};
    char name[DT_NAME_MAX];
    grad_name(g, n.in[DT_BN_IN_GAMMA], name);
    DT_TRY(dt_graph_add_node_with(g, name, DT_OP_BN_REDUCE, NULL, DT_REDUCE_IN_SHIFT + 1, in,
                                  from_y ? 1u << DT_REDUCE_OUT_DZ : 0, &din[DT_BN_IN_GAMMA]));
    const dt_node reduce = g->node[g->n_node - 1];
    const dt_vid dz = from_y ? reduce.out[DT_REDUCE_OUT_DZ] : dout[0];
    din[DT_BN_IN_BETA] = reduce.out[DT_REDUCE_OUT_DBETA];
    if (residual) din[DT_BN_IN_RES] = dz;
    if (!want[DT_BN_IN_X]) return DT_OK;
    return dt_grad_add_node(g, x, DT_OP_BN_DX, NULL, DT_DX_IN_SHIFT + 1,
                            (dt_vid[]){dz, x, reduce.out[DT_REDUCE_OUT_COEF], scale, shift},
                            &din[DT_BN_IN_X]);
}

dt_status dt_grad_maxpool(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = with_size_of(g, &n.attr, n.in[0]);
    return dt_grad_add_node(g, n.in[0], DT_OP_MAXPOOL_BWD, &t, 2,
                            (dt_vid[]){dout[0], n.out[DT_MAXPOOL_OUT_IDX]}, &din[0]);
}

dt_status dt_grad_avgpool(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = with_size_of(g, &n.attr, n.in[0]);
    return add_grad_of(g, n.in[0], DT_OP_AVGPOOL_BWD, &t, dout[0], &din[0]);
}

dt_status dt_grad_global_avgpool(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_attr t = with_size_of(g, &n.attr, n.in[0]);
    return add_grad_of(g, n.in[0], DT_OP_GLOBAL_AVGPOOL_BWD, &t, dout[0], &din[0]);
}

dt_status dt_grad_reshape(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    dt_attr t = {0};
    const dt_value *x = &g->value[n.in[0]];
    if (x->ndim == 4) t.shape.size[0] = (int32_t)x->dim[1], t.shape.size[1] = (int32_t)x->dim[2];
    return add_grad_of(g, n.in[0], DT_OP_RESHAPE, &t, dout[0], &din[0]);
}

dt_status dt_grad_dropout(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    return add_grad_of(g, n.in[0], DT_OP_DROPOUT_BWD, &n.attr, dout[0], &din[0]);
}
