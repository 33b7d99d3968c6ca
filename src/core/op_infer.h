/* Shape rules of the ops, one function each; op.c's table names them. What slots say is checked before a rule
 * is asked (op_check.c). Private to the room. */
#ifndef DT_CORE_OP_INFER_H
#define DT_CORE_OP_INFER_H

#include "core/op.h"

typedef dt_status dt_infer_fn(const dt_graph *g, const dt_node *n, dt_value *out);
dt_infer_fn dt_infer_input, dt_infer_conv, dt_infer_dense, dt_infer_batchnorm, dt_infer_same,
    dt_infer_maxpool, dt_infer_avgpool, dt_infer_global_avgpool, dt_infer_reshape, dt_infer_dropout,
    dt_infer_xent, dt_infer_bn_stats, dt_infer_bn_finalize, dt_infer_bn_fold, dt_infer_conv_dgrad,
    dt_infer_conv_wgrad, dt_infer_dense_dgrad, dt_infer_dense_wgrad, dt_infer_bias_grad, dt_infer_bn_reduce,
    dt_infer_bn_dx, dt_infer_pool_bwd, dt_infer_global_avgpool_bwd, dt_infer_xent_bwd, dt_infer_gram,
    dt_infer_unary, dt_infer_binary, dt_infer_binary_bwd, dt_infer_concat, dt_infer_slice, dt_infer_slice_bwd,
    dt_infer_gram_cross, dt_infer_bn_gram, dt_infer_bn_mask, dt_infer_bn_gram_grad, dt_infer_bn_gram_dx;
dt_infer_fn dt_infer_loss, dt_infer_loss_bwd, dt_infer_cast;

typedef dt_status dt_grad_fn(dt_graph *g, dt_nid n, const dt_vid *dout, const bool *want, dt_vid *din);
dt_grad_fn dt_grad_conv, dt_grad_dense, dt_grad_batchnorm, dt_grad_unary, dt_grad_binary, dt_grad_softmax,
    dt_grad_concat, dt_grad_slice, dt_grad_maxpool, dt_grad_avgpool, dt_grad_global_avgpool, dt_grad_reshape,
    dt_grad_dropout, dt_grad_xent, dt_grad_loss;

/* op_grad.c: appends the node that makes the gradient of value `of`, named after it. */
dt_status dt_grad_add_node(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, int32_t n_in,
                           const dt_vid *in, dt_vid *out);

/* Whether the node's operands are what the slots of its row ask for. */
dt_status dt_op_check(const dt_graph *g, const dt_node *n);

/* What rules are written with. */
static inline const dt_value *dt_infer_in(const dt_graph *g, const dt_node *n, int32_t slot) {
    return &g->value[n->in[slot]];
}
static inline int64_t dt_infer_last(const dt_value *v) {
    return v->dim[v->ndim - 1];
}
/* Dims past the ndim-th are ignored. */
static inline void dt_infer_set(dt_value *out, dt_dtype dtype, int32_t ndim, const int64_t *dim) {
    out->dtype = dtype;
    out->ndim = ndim;
    for (int32_t i = 0; i < DT_MAX_DIM; i++) out->dim[i] = i < ndim ? dim[i] : 0;
}
#define DT_INFER_SET(out, dtype, ...)                                                                        \
    dt_infer_set(out, dtype, (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                  \
                 (int64_t[]){__VA_ARGS__})
static inline void dt_infer_like(dt_value *out, const dt_value *v) {
    dt_infer_set(out, v->dtype, v->ndim, v->dim);
}
/* Dims, not dtype. */
static inline bool dt_infer_same_dims(const dt_value *a, const dt_value *b) {
    bool same = a->ndim == b->ndim;
    for (int32_t i = 0; same && i < a->ndim; i++) same = a->dim[i] == b->dim[i];
    return same;
}
/* "input <slot>, <value>, is <shape>: it does not fit the others" */
dt_status dt_infer_misfit(const dt_graph *g, const dt_node *n, int32_t slot);

#endif
