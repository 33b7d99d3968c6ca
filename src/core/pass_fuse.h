/* What passes that edit nodes in place share: marking nodes as gone, finding neighbours; and the fusions of
 * pass.c's table that are in files of their own. */
#ifndef DT_CORE_PASS_FUSE_H
#define DT_CORE_PASS_FUSE_H

#include "core/pass.h"

enum { REMOVED = DT_OP_COUNT }; /* the op of a node that goes when the list is rebuilt */

static inline void remove_node(dt_graph *g, dt_nid i) {
    g->node[i].op = (dt_op)REMOVED;
}

/* The node that makes v if it is of this op, else NULL. */
static inline dt_node *made_by(dt_graph *g, dt_vid v, dt_op op) {
    dt_nid i = g->value[v].producer;
    return i >= 0 && g->node[i].op == op ? &g->node[i] : NULL;
}

/* pass_pool.c */
void dt_fuse_pool_prologue(dt_graph *g, dt_backend *be, dt_nid i);
void dt_fuse_pool_bn(dt_graph *g, dt_backend *be, dt_nid i);

#endif
