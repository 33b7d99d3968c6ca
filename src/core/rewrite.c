#include "rewrite.h"

#include <math.h>

void dt_rewrite_begin(dt_rewrite *r, dt_graph *g, dt_backend *be) {
    r->g = g;
    r->be = be;
    r->n = 0;
    r->n_value = g->n_value;
}

static dt_status open_place(dt_rewrite *r, dt_nid at, dt_node **out) {
    if (r->n == DT_REWRITE_MAX)
        return dt_fail(DT_ERR_INTERNAL, "a rewrite of more than %d nodes", DT_REWRITE_MAX);
    r->place[r->n].at = at;
    r->place[r->n].empty = false;
    *out = &r->place[r->n++].now;
    return DT_OK;
}

dt_status dt_rewrite_drop(dt_rewrite *r, dt_nid at) {
    dt_node *none;
    DT_TRY(open_place(r, at, &none));
    r->place[r->n - 1].empty = true;
    return DT_OK;
}

dt_status dt_rewrite_put(dt_rewrite *r, dt_nid at, dt_op op, const dt_attr *attr, dt_node **out) {
    DT_TRY(open_place(r, at, out));
    return dt_graph_blank_node(r->g, op, attr, r->g->node[at].phase, *out);
}

dt_status dt_rewrite_edit(dt_rewrite *r, dt_nid at, dt_node **out) {
    DT_TRY(open_place(r, at, out));
    return dt_graph_copy_node(r->g, &r->g->node[at], *out);
}

double dt_rewrite_saving(const dt_rewrite *r) {
    dt_node node[DT_REWRITE_MAX];
    int32_t n = 0;
    for (int32_t i = 0; i < r->n; i++)
        if (!r->place[i].empty) node[n++] = r->place[i].now;
    /* First, for a device need not know what the rest costs where it cannot do this. */
    const double now = r->be->cost(r->be, r->g, node, n);
    if (isinf(now)) return -INFINITY;
    for (int32_t i = 0; i < r->n; i++) node[i] = r->g->node[r->place[i].at];
    return r->be->cost(r->be, r->g, node, r->n) - now;
}

void dt_rewrite_apply(const dt_rewrite *r) {
    for (int32_t i = 0; i < r->n; i++) dt_graph_remove_node(r->g, r->place[i].at);
    for (int32_t i = 0; i < r->n; i++) {
        if (r->place[i].empty) continue;
        const dt_node *now = &r->place[i].now;
        r->g->node[r->place[i].at] = *now;
        for (int32_t k = 0; k < now->n_out; k++)
            if (now->out[k] >= 0) r->g->value[now->out[k]].producer = r->place[i].at;
    }
}

bool dt_rewrite_take(const dt_rewrite *r) {
    const bool pays = dt_rewrite_saving(r) > 0;
    if (pays)
        dt_rewrite_apply(r);
    else
        dt_graph_drop_values(r->g, r->n_value);
    return pays;
}
