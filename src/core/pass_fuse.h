/* Fusions of pass.c's table that are in files of their own. */
#ifndef DT_CORE_PASS_FUSE_H
#define DT_CORE_PASS_FUSE_H

#include "core/op.h"
#include "core/pass.h"
#include "rewrite.h"

/* The node that makes v if it is of this op, else NULL. */
static inline dt_node *dt_pass_maker(dt_graph *g, dt_vid v, dt_op op) {
    const dt_nid i = dt_graph_maker(g, v, op);
    return i >= 0 ? &g->node[i] : NULL;
}

/* The node that makes v if it is a sum of two values of v's shape, else -1. */
static inline dt_nid dt_pass_sum(const dt_graph *g, dt_vid v) {
    const dt_nid i = dt_graph_maker(g, v, DT_OP_BINARY);
    return i >= 0 && dt_op_is_sum(g, &g->node[i]) ? i : -1;
}

/* pass_rows.c */
dt_status dt_fuse_bias_grad(dt_graph *g, dt_backend *be, dt_nid i);
dt_status dt_fuse_norm_sum(dt_graph *g, dt_backend *be, dt_nid i);
dt_status dt_fuse_dense_sum(dt_graph *g, dt_backend *be, dt_nid i);
dt_status dt_fuse_dense_act(dt_graph *g, dt_backend *be, dt_nid i);
dt_status dt_fuse_dense_act_grad(dt_graph *g, dt_backend *be, dt_nid i);

/* pass.c: who reads `from`, views and what is kept among them, has `to`. */
void dt_pass_replace_uses(dt_graph *g, dt_vid from, dt_vid to);

/* pass_ends.c, of graphs of which nothing is trained: the numbers of a parameter or a statistic; NULL: not known. */
const float *dt_pass_known(const dt_graph *g, dt_vid v);
/* A constant named after `from`; data, which the graph takes, is malloc's. */
dt_status dt_pass_add_constant(dt_graph *g, dt_vid from, const char *what, dt_dtype dtype, int32_t ndim,
                               const int64_t *dim, float *data, dt_vid *out);

/* pass_ends.c: a product takes in the sum of its result and a value, and stands in its place, where that pays. */
dt_status dt_pass_end_in_sum(dt_graph *g, dt_backend *be, dt_nid i, bool dense_alone);

/* pass_pool.c */
dt_status dt_fuse_pool_prologue(dt_graph *g, dt_backend *be, dt_nid i);
dt_status dt_fuse_pool_bn(dt_graph *g, dt_backend *be, dt_nid i);

#endif
