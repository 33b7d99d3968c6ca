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

/* Appends the node that makes the gradient of value `of`. */
static dt_status add_grad(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, int32_t n_in,
                          const dt_vid *in, dt_vid *out) {
    char name[DT_NAME_MAX];
    grad_name(g, of, name);
    return dt_graph_add_node(g, name, op, attr, n_in, in, out);
}

static dt_attr with_size_of(const dt_graph *g, const dt_attr *attr, dt_vid image) {
    dt_attr t = *attr;
    t.size[0] = (int32_t)g->value[image].dim[1];
    t.size[1] = (int32_t)g->value[image].dim[2];
    return t;
}

dt_status dt_grad_conv(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    dt_attr t = with_size_of(g, &n.attr, n.in[0]);
    /* The weight gradient first: its bucket can start while the data gradient runs. */
    if (want[1]) DT_TRY(add_grad(g, n.in[1], DT_OP_CONV_WGRAD, &t, 2, (dt_vid[]){n.in[0], dout}, &din[1]));
    if (n.attr.bias && want[2]) DT_TRY(add_grad(g, n.in[2], DT_OP_BIAS_GRAD, NULL, 1, &dout, &din[2]));
    if (want[0]) DT_TRY(add_grad(g, n.in[0], DT_OP_CONV_DGRAD, &t, 2, (dt_vid[]){dout, n.in[1]}, &din[0]));
    return DT_OK;
}

dt_status dt_grad_dense(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    if (want[1]) DT_TRY(add_grad(g, n.in[1], DT_OP_DENSE_WGRAD, NULL, 2, (dt_vid[]){n.in[0], dout}, &din[1]));
    if (n.attr.bias && want[2]) DT_TRY(add_grad(g, n.in[2], DT_OP_BIAS_GRAD, NULL, 1, &dout, &din[2]));
    if (!want[0]) return DT_OK;
    const dt_value x = g->value[n.in[0]];
    DT_TRY(add_grad(g, n.in[0], DT_OP_DENSE_DGRAD, NULL, 2, (dt_vid[]){dout, n.in[1]}, &din[0]));
    if (x.ndim == 2) return DT_OK;
    dt_attr t = {.size = {(int32_t)x.dim[1], (int32_t)x.dim[2]}};
    dt_vid flat = din[0];
    return add_grad(g, n.in[0], DT_OP_RESHAPE, &t, 1, &flat, &din[0]);
}

dt_status dt_grad_batchnorm(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid y = n.out[0], mean = n.out[1], invstd = n.out[2], scale = n.out[3], shift = n.out[4];
    /* With a residual the masked gradient is needed by the skip path too, so it is written once; without one
     * the mask is cheaper to recompute from the BN input than to read from the output. */
    dt_attr t = {0};
    if (n.attr.relu) t.mask = n.attr.residual ? DT_MASK_FROM_Y : DT_MASK_FROM_C;
    t.writes_dz = n.attr.relu && n.attr.residual;
    dt_vid in[DT_MAX_IN] = {dout, n.in[0], mean, invstd, n.in[1]};
    int32_t n_in = 5;
    if (t.mask == DT_MASK_FROM_Y) in[n_in++] = y;
    if (t.mask == DT_MASK_FROM_C) in[n_in++] = scale, in[n_in++] = shift;
    dt_vid first;
    DT_TRY(add_grad(g, n.in[1], DT_OP_BN_REDUCE, &t, n_in, in, &first));
    const dt_node reduce = g->node[g->n_node - 1];
    din[1] = reduce.out[0];
    din[2] = reduce.out[1];
    dt_vid dz = t.writes_dz ? reduce.out[3] : dout;
    if (n.attr.residual) din[5] = dz;
    if (!want[0]) return DT_OK;
    dt_attr d = {.mask = t.mask == DT_MASK_FROM_C ? DT_MASK_FROM_C : DT_MASK_NONE};
    return add_grad(g, n.in[0], DT_OP_BN_DX, &d, d.mask == DT_MASK_FROM_C ? 5 : 3,
                    (dt_vid[]){dz, n.in[0], reduce.out[2], scale, shift}, &din[0]);
}

dt_status dt_grad_relu(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    return add_grad(g, n.in[0], DT_OP_RELU_BWD, NULL, 2, (dt_vid[]){dout, n.out[0]}, &din[0]);
}

dt_status dt_grad_add(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    (void)g, (void)id, (void)want;
    din[0] = din[1] = dout;
    return DT_OK;
}

dt_status dt_grad_maxpool(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    dt_attr t = with_size_of(g, &n.attr, n.in[0]);
    return add_grad(g, n.in[0], DT_OP_MAXPOOL_BWD, &t, 2, (dt_vid[]){dout, n.out[1]}, &din[0]);
}

dt_status dt_grad_avgpool(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    dt_attr t = with_size_of(g, &n.attr, n.in[0]);
    return add_grad(g, n.in[0], DT_OP_AVGPOOL_BWD, &t, 1, &dout, &din[0]);
}

dt_status dt_grad_global_avgpool(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    dt_attr t = with_size_of(g, &n.attr, n.in[0]);
    return add_grad(g, n.in[0], DT_OP_GLOBAL_AVGPOOL_BWD, &t, 1, &dout, &din[0]);
}

dt_status dt_grad_reshape(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    const dt_value x = g->value[n.in[0]];
    dt_attr t = {0};
    if (x.ndim == 4) t = with_size_of(g, &t, n.in[0]);
    return add_grad(g, n.in[0], DT_OP_RESHAPE, &t, 1, &dout, &din[0]);
}

dt_status dt_grad_dropout(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)want;
    return add_grad(g, n.in[0], DT_OP_DROPOUT_BWD, &n.attr, 1, &dout, &din[0]);
}

dt_status dt_grad_xent(dt_graph *g, dt_nid id, dt_vid dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)dout, (void)want; /* the loss is where gradients start */
    return add_grad(g, n.in[0], DT_OP_XENT_BWD, &n.attr, 2, (dt_vid[]){n.out[1], n.in[1]}, &din[0]);
}
