/* A rewrite that a pass proposes: nodes of the graph that go, and those that come in their places. The device
 * says what either costs (dt_backend.cost), and the graph changes only where that falls. */
#ifndef DT_CORE_REWRITE_H
#define DT_CORE_REWRITE_H

#include "core/backend.h"

enum { DT_REWRITE_MAX = 64 }; /* nodes that go */

typedef struct dt_rewrite {
    dt_graph *g;
    dt_backend *be;
    int32_t n, n_value; /* n_value: values of the graph before */
    struct {
        dt_nid at;
        bool empty; /* nothing comes in its place */
        dt_node now;
    } place[DT_REWRITE_MAX];
} dt_rewrite;

/* Values that are added to g from here on belong to the rewrite. */
void dt_rewrite_begin(dt_rewrite *r, dt_graph *g, dt_backend *be);
/* The node goes. */
dt_status dt_rewrite_drop(dt_rewrite *r, dt_nid at);
/* A copy of the node comes, with slots of its own, for the caller to change until the next call. */
dt_status dt_rewrite_edit(dt_rewrite *r, dt_nid at, dt_node **out);
/* Another node comes, of the same phase, with empty slots; attr may be NULL. */
dt_status dt_rewrite_put(dt_rewrite *r, dt_nid at, dt_op op, const dt_attr *attr, dt_node **out);

/* Seconds that it saves: what goes less what comes. Negative without bound where the device has no kernel for
 * what comes. */
double dt_rewrite_saving(const dt_rewrite *r);
/* Does it. The list of nodes is not closed (dt_graph_compact). */
void dt_rewrite_apply(const dt_rewrite *r);
/* Applies it if it saves something; if not, its values are gone again. */
bool dt_rewrite_take(const dt_rewrite *r);

#endif
