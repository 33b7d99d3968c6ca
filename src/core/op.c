/* The op table and the arithmetic that follows from it. */
#include "core/op.h"

#include "op_infer.h"

dt_conv_dims dt_op_conv_dims(const dt_graph *g, const dt_node *n) {
    const dt_attr *t = &n->attr;
    dt_conv_dims d = {.r = t->kernel[0],
                      .s = t->kernel[1],
                      .stride_h = t->stride[0],
                      .stride_w = t->stride[1],
                      .pad_h = t->pad[0],
                      .pad_w = t->pad[1],
                      .dil_h = t->dilation[0],
                      .dil_w = t->dilation[1],
                      .groups = t->groups};
    const dt_value *image = &g->value[n->op == DT_OP_CONV_DGRAD ? n->out[0] : n->in[0]];
    const dt_value *result = &g->value[n->op == DT_OP_CONV         ? n->out[0]
                                       : n->op == DT_OP_CONV_DGRAD ? n->in[0]
                                                                   : n->in[1]];
    d.n = image->dim[0], d.h = image->dim[1], d.w = image->dim[2], d.c = image->dim[3];
    d.p = result->dim[1], d.q = result->dim[2], d.k = result->dim[3];
    if (d.dil_h < 1) d.dil_h = 1;
    if (d.dil_w < 1) d.dil_w = 1;
    return d;
}

bool dt_op_conv_is_product(const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    return d.r == 1 && d.s == 1 && d.stride_h == 1 && d.stride_w == 1 && d.pad_h == 0 && d.pad_w == 0 &&
           d.groups == 1;
}

static double conv_flops(const dt_graph *g, const dt_node *n) {
    dt_conv_dims d = dt_op_conv_dims(g, n);
    return 2.0 * (double)(d.n * d.p * d.q) * (double)d.k * (double)(d.r * d.s * (d.c / d.groups));
}

static double dense_flops(const dt_graph *g, const dt_node *n) {
    const dt_value *a = &g->value[n->in[0]], *b = &g->value[n->in[1]];
    /* forward: x and w; dgrad: dy and w; wgrad: x and dy: N*C*K each way */
    double rows = (double)a->dim[0];
    double first = (double)dt_value_n_elem(a) / rows;
    double other = (double)dt_value_n_elem(b);
    return n->op == DT_OP_DENSE_WGRAD ? 2.0 * first * other : 2.0 * rows * other;
}

static double gram_flops(const dt_graph *g, const dt_node *n) {
    /* rows x C x K of GRAM, GRAM_CROSS and BN_GRAM_DX; K x C x C of the small matrices */
    const dt_value *a = &g->value[n->in[0]], *b = &g->value[n->in[n->n_in > 2 ? 2 : n->n_in - 1]];
    const double k = (double)a->dim[a->ndim - 1], c = (double)b->dim[b->ndim - 1];
    const double rows = (double)dt_value_n_elem(a) / k;
    if (n->op == DT_OP_BN_GRAM || n->op == DT_OP_BN_GRAM_GRAD)
        return 2.0 * (double)dt_value_n_elem(&g->value[n->in[n->op == DT_OP_BN_GRAM ? 2 : 4]]) *
               (n->op == DT_OP_BN_GRAM ? rows : k);
    return 2.0 * rows * c * (k + (n->op == DT_OP_BN_GRAM_DX ? c : 0));
}

static double pool_flops(const dt_graph *g, const dt_node *n) {
    return (double)dt_value_n_elem(&g->value[n->in[0]]);
}

static double bn_flops(const dt_graph *g, const dt_node *n) {
    return 4.0 * (double)dt_value_n_elem(&g->value[n->in[0]]);
}

#define NO_INPLACE -1, -1
static const dt_op_row op_table[] = {
    /*                      name               inputs  outs  in place    view   infer  grad  flops */
    [DT_OP_INPUT] = {"input", 1, 2, 1, NO_INPLACE, false, dt_infer_input, NULL, NULL},
    [DT_OP_CONV] = {"conv", 2, 7, 2, NO_INPLACE, false, dt_infer_conv, dt_grad_conv, conv_flops},
    [DT_OP_DENSE] = {"dense", 2, 3, 1, NO_INPLACE, false, dt_infer_dense, dt_grad_dense, dense_flops},
    [DT_OP_BATCHNORM] = {"batchnorm", 5, 6, 5, NO_INPLACE, false, dt_infer_batchnorm, dt_grad_batchnorm,
                         bn_flops},
    [DT_OP_RELU] = {"relu", 1, 1, 1, 0, 0, false, dt_infer_same, dt_grad_relu, NULL},
    [DT_OP_ADD] = {"add", 2, 2, 1, 0, 0, false, dt_infer_add, dt_grad_add, NULL},
    [DT_OP_MAXPOOL] = {"maxpool", 1, 3, 2, NO_INPLACE, false, dt_infer_maxpool, dt_grad_maxpool, pool_flops},
    [DT_OP_AVGPOOL] = {"avgpool", 1, 1, 1, NO_INPLACE, false, dt_infer_avgpool, dt_grad_avgpool, pool_flops},
    [DT_OP_GLOBAL_AVGPOOL] = {"global_avgpool", 1, 1, 1, NO_INPLACE, false, dt_infer_global_avgpool,
                              dt_grad_global_avgpool, pool_flops},
    [DT_OP_RESHAPE] = {"reshape", 1, 1, 1, NO_INPLACE, true, dt_infer_reshape, dt_grad_reshape, NULL},
    [DT_OP_DROPOUT] = {"dropout", 1, 1, 1, 0, 0, false, dt_infer_dropout, dt_grad_dropout, NULL},
    [DT_OP_XENT] = {"xent", 3, 3, 2, NO_INPLACE, false, dt_infer_xent, dt_grad_xent, bn_flops},
    [DT_OP_BN_STATS] = {"bn_stats", 1, 1, 1, NO_INPLACE, false, dt_infer_bn_stats, NULL, pool_flops},
    [DT_OP_BN_FINALIZE] = {"bn_finalize", 5, 5, 4, NO_INPLACE, false, dt_infer_bn_finalize, NULL, NULL},
    [DT_OP_BN_FOLD] = {"bn_fold", 4, 4, 2, NO_INPLACE, false, dt_infer_bn_fold, NULL, NULL},
    [DT_OP_BN_APPLY] = {"bn_apply", 3, 6, 1, 0, 0, false, dt_infer_bn_apply, NULL, NULL},
    [DT_OP_GRAM] = {"gram", 1, 1, 2, NO_INPLACE, false, dt_infer_gram, NULL, gram_flops},
    [DT_OP_GRAM_CROSS] = {"gram_cross", 2, 2, 2, NO_INPLACE, false, dt_infer_gram_cross, NULL, gram_flops},
    [DT_OP_BN_GRAM] = {"bn_gram", 7, 7, 5, NO_INPLACE, false, dt_infer_bn_gram, NULL, gram_flops},
    [DT_OP_BN_MASK] = {"bn_mask", 1, 3, 2, 1, 0, false, dt_infer_bn_mask, NULL, pool_flops},
    [DT_OP_BN_GRAM_GRAD] = {"bn_gram_grad", 8, 8, 5, NO_INPLACE, false, dt_infer_bn_gram_grad, NULL,
                            gram_flops},
    [DT_OP_BN_GRAM_DX] = {"bn_gram_dx", 4, 4, 1, NO_INPLACE, false, dt_infer_bn_gram_dx, NULL, gram_flops},
    [DT_OP_CONV_DGRAD] = {"conv_dgrad", 2, 8, 4, NO_INPLACE, false, dt_infer_conv_dgrad, NULL, conv_flops},
    [DT_OP_CONV_WGRAD] = {"conv_wgrad", 2, 4, 1, NO_INPLACE, false, dt_infer_conv_wgrad, NULL, conv_flops},
    [DT_OP_DENSE_DGRAD] = {"dense_dgrad", 2, 2, 1, NO_INPLACE, false, dt_infer_dense_dgrad, NULL,
                           dense_flops},
    [DT_OP_DENSE_WGRAD] = {"dense_wgrad", 2, 2, 1, NO_INPLACE, false, dt_infer_dense_wgrad, NULL,
                           dense_flops},
    [DT_OP_BIAS_GRAD] = {"bias_grad", 1, 1, 1, NO_INPLACE, false, dt_infer_bias_grad, NULL, pool_flops},
    [DT_OP_BN_REDUCE] = {"bn_reduce", 5, 9, 4, 3, 0, false, dt_infer_bn_reduce, NULL, bn_flops},
    [DT_OP_BN_DX] = {"bn_dx", 3, 7, 1, 0, 0, false, dt_infer_bn_dx, NULL, bn_flops},
    [DT_OP_RELU_BWD] = {"relu_bwd", 2, 2, 1, 0, 0, false, dt_infer_same, NULL, NULL},
    [DT_OP_MAXPOOL_BWD] = {"maxpool_bwd", 2, 2, 1, NO_INPLACE, false, dt_infer_pool_bwd, NULL, NULL},
    [DT_OP_AVGPOOL_BWD] = {"avgpool_bwd", 1, 1, 1, NO_INPLACE, false, dt_infer_pool_bwd, NULL, NULL},
    [DT_OP_GLOBAL_AVGPOOL_BWD] = {"global_avgpool_bwd", 1, 1, 1, NO_INPLACE, false,
                                  dt_infer_global_avgpool_bwd, NULL, NULL},
    [DT_OP_DROPOUT_BWD] = {"dropout_bwd", 1, 1, 1, 0, 0, false, dt_infer_same, NULL, NULL},
    [DT_OP_XENT_BWD] = {"xent_bwd", 2, 2, 1, NO_INPLACE, false, dt_infer_xent_bwd, NULL, NULL},
};
_Static_assert(sizeof op_table / sizeof op_table[0] == DT_OP_COUNT, "a row per op");

const dt_op_row *dt_op_get(dt_op op) {
    return &op_table[op];
}

double dt_op_bytes(const dt_graph *g, const dt_node *n) {
    if (op_table[n->op].view) return 0;
    int64_t bytes = 0;
    for (int32_t i = 0; i < n->n_in; i++) bytes += dt_value_bytes(&g->value[n->in[i]]);
    for (int32_t i = 0; i < n->n_out; i++) bytes += dt_value_bytes(&g->value[n->out[i]]);
    return (double)bytes;
}

double dt_op_flops(const dt_graph *g, const dt_node *n) {
    if (op_table[n->op].view) return 0;
    if (op_table[n->op].flops) return op_table[n->op].flops(g, n);
    return n->n_out > 0 ? (double)dt_value_n_elem(&g->value[n->out[0]]) : 0;
}
