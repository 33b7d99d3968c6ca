/* Fusions around a max pool that follows a normalisation and its ReLU: the pool normalises while it reads,
 * and the backward of the normalisation gathers its gradient from that of the pooled image. The image between
 * the two, and its gradient, are then never in memory. */
#include <string.h>

#include "pass_fuse.h"

void dt_fuse_pool_prologue(dt_graph *g, dt_backend *be, dt_nid i) {
    dt_node *pool = &g->node[i];
    const dt_node *apply = made_by(g, pool->in[0], DT_OP_BN_APPLY);
    if (!apply || pool->attr.prologue || !apply->attr.relu || apply->attr.residual) return;
    if (pool->in[0] == g->logits || dt_graph_use_count(g, pool->in[0]) != 1) return;
    if (be->fuse_gain(be, g, DT_FUSE_POOL_PROLOGUE, i) <= 0) return;
    memcpy(pool->in, apply->in, 3 * sizeof pool->in[0]);
    pool->n_in = 3;
    pool->attr.prologue = true;
    remove_node(g, (dt_nid)(apply - g->node));
}

/* The only node of this op that reads v as its first input, or NULL. */
static dt_node *reader(dt_graph *g, dt_vid v, dt_op op) {
    dt_node *found = NULL;
    for (dt_nid i = 0; i < g->n_node; i++) {
        if (g->node[i].op != op || g->node[i].in[0] != v) continue;
        if (found) return NULL;
        found = &g->node[i];
    }
    return found;
}

/* Replaces input 0 of n, the materialised gradient, by what it is gathered from, at the end. */
static void take_pooled(dt_node *n, const dt_node *pool) {
    memmove(n->in, n->in + 1, (size_t)(n->n_in - 1) * sizeof n->in[0]);
    n->n_in--;
    n->in[n->n_in++] = pool->in[0];
    n->in[n->n_in++] = pool->in[1];
    n->attr.pooled = true;
    for (int32_t a = 0; a < 2; a++) {
        n->attr.kernel[a] = pool->attr.kernel[a];
        n->attr.stride[a] = pool->attr.stride[a];
        n->attr.pad[a] = pool->attr.pad[a];
    }
}

/* The pooled gradient is a sum: its two parts, in its place before idx. */
static void take_second(dt_node *n, const dt_node *add) {
    const dt_vid idx = n->in[n->n_in - 1];
    n->in[n->n_in - 2] = add->in[0];
    n->in[n->n_in - 1] = add->in[1];
    n->in[n->n_in++] = idx;
    n->attr.second_grad = true;
}

void dt_fuse_pool_bn(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *pool = &g->node[i];
    const dt_vid dy = pool->out[0], dyp = pool->in[0];
    dt_node *reduce = reader(g, dy, DT_OP_BN_REDUCE), *dx = reader(g, dy, DT_OP_BN_DX);
    if (!reduce || !dx || dt_graph_use_count(g, dy) != 2) return;
    if (reduce->attr.mask != DT_MASK_FROM_C || reduce->attr.second_grad || reduce->attr.writes_dz) return;
    if (dx->attr.mask != DT_MASK_FROM_C || dx->in[1] != reduce->in[1] || dx->in[2] != reduce->out[2]) return;
    if (be->fuse_gain(be, g, DT_FUSE_POOL_BN, i) <= 0) return;
    take_pooled(reduce, pool);
    take_pooled(dx, pool);
    remove_node(g, i);
    const dt_node *add = made_by(g, dyp, DT_OP_ADD);
    if (!add || dt_graph_use_count(g, dyp) != 2) return;
    if (be->fuse_gain(be, g, DT_FUSE_SECOND_GRAD, (dt_nid)(reduce - g->node)) <= 0) return;
    take_second(reduce, add);
    take_second(dx, add);
    remove_node(g, (dt_nid)(add - g->node));
}
