/* Shape rules of the ops, one function each; op.c's table names them. Private to the room. */
#ifndef DT_CORE_OP_INFER_H
#define DT_CORE_OP_INFER_H

#include "core/op.h"

typedef dt_status dt_infer_fn(const dt_graph *g, const dt_node *n, int32_t *n_out, dt_value *out);
dt_infer_fn dt_infer_input, dt_infer_conv, dt_infer_dense, dt_infer_batchnorm, dt_infer_same, dt_infer_add,
    dt_infer_maxpool, dt_infer_avgpool, dt_infer_global_avgpool, dt_infer_reshape, dt_infer_dropout,
    dt_infer_xent, dt_infer_bn_stats, dt_infer_bn_finalize, dt_infer_bn_fold, dt_infer_bn_apply,
    dt_infer_conv_dgrad, dt_infer_conv_wgrad, dt_infer_dense_dgrad, dt_infer_dense_wgrad, dt_infer_bias_grad,
    dt_infer_bn_reduce, dt_infer_bn_dx, dt_infer_pool_bwd, dt_infer_global_avgpool_bwd, dt_infer_xent_bwd,
    dt_infer_gram, dt_infer_gram_cross, dt_infer_bn_gram, dt_infer_bn_mask, dt_infer_bn_gram_grad,
    dt_infer_bn_gram_dx;

typedef dt_status dt_grad_fn(dt_graph *g, dt_nid n, dt_vid dout, const bool *want, dt_vid *din);
dt_grad_fn dt_grad_conv, dt_grad_dense, dt_grad_batchnorm, dt_grad_relu, dt_grad_add, dt_grad_maxpool,
    dt_grad_avgpool, dt_grad_global_avgpool, dt_grad_reshape, dt_grad_dropout, dt_grad_xent;

#endif
