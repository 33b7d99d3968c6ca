/* Fusions around a max pool that follows a normalisation and its ReLU: the pool normalises while it reads,
 * and the backward of the normalisation gathers its gradient from that of the pooled image. The image between
 * the two, and its gradient, are then never in memory. */
#include "pass_fuse.h"

dt_status dt_fuse_pool_prologue(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *pool = &g->node[i];
    const dt_vid x = pool->in[DT_MAXPOOL_IN_X];
    const dt_nid id = dt_graph_maker(g, x, DT_OP_BN_APPLY);
    if (id < 0 || dt_node_has(pool, DT_MAXPOOL_IN_PRE_SCALE)) return DT_OK;
    const dt_node *apply = &g->node[id];
    if (!apply->attr.norm.relu || dt_node_has(apply, DT_APPLY_IN_RES)) return DT_OK;
    if (dt_graph_use_count(g, x) != 1) return DT_OK;
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, id));
    DT_TRY(dt_rewrite_edit(&r, i, &n));
    n->in[DT_MAXPOOL_IN_X] = apply->in[DT_APPLY_IN_X];
    n->in[DT_MAXPOOL_IN_PRE_SCALE] = apply->in[DT_APPLY_IN_SCALE];
    n->in[DT_MAXPOOL_IN_PRE_SHIFT] = apply->in[DT_APPLY_IN_SHIFT];
    dt_rewrite_take(&r);
    return DT_OK;
}

/* The window of the pool that a gradient is gathered from. */
static void take_window(dt_window_attr *to, const dt_window_attr *pool) {
    for (int32_t a = 0; a < 2; a++) {
        to->kernel[a] = pool->kernel[a];
        to->stride[a] = pool->stride[a];
        to->pad_begin[a] = pool->pad_begin[a];
        to->pad_end[a] = pool->pad_end[a];
    }
}

/* The pooled gradient that the two gather may itself be a sum. */
static dt_status gather_two(dt_graph *g, dt_backend *be, dt_nid i_reduce, dt_nid i_dx) {
    const dt_vid dyp = g->node[i_reduce].in[DT_REDUCE_IN_DYP];
    const dt_nid add = dt_pass_sum(g, dyp);
    if (add < 0 || dt_graph_use_count(g, dyp) != 2) return DT_OK;
    const dt_vid part[] = {g->node[add].in[0], g->node[add].in[1]};
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, add));
    DT_TRY(dt_rewrite_edit(&r, i_reduce, &n));
    n->in[DT_REDUCE_IN_DYP] = part[0], n->in[DT_REDUCE_IN_DYP2] = part[1];
    DT_TRY(dt_rewrite_edit(&r, i_dx, &n));
    n->in[DT_DX_IN_DYP] = part[0], n->in[DT_DX_IN_DYP2] = part[1];
    dt_rewrite_take(&r);
    return DT_OK;
}

dt_status dt_fuse_pool_bn(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *pool = &g->node[i];
    const dt_vid dy = pool->out[0], dyp = pool->in[0], idx = pool->in[1];
    const dt_nid i_reduce = dt_graph_reader(g, dy, DT_OP_BN_REDUCE, DT_REDUCE_IN_DY);
    const dt_nid i_dx = dt_graph_reader(g, dy, DT_OP_BN_DX, DT_DX_IN_DY);
    if (i_reduce < 0 || i_dx < 0 || dt_graph_use_count(g, dy) != 2) return DT_OK;
    const dt_node *reduce = &g->node[i_reduce], *dx = &g->node[i_dx];
    if (!dt_node_has(reduce, DT_REDUCE_IN_SCALE) || dt_node_has(reduce, DT_REDUCE_IN_DY2) ||
        dt_node_makes(reduce, DT_REDUCE_OUT_DZ))
        return DT_OK;
    if (!dt_node_has(dx, DT_DX_IN_SCALE) || dx->in[DT_DX_IN_C] != reduce->in[DT_REDUCE_IN_C] ||
        dx->in[DT_DX_IN_COEF] != reduce->out[DT_REDUCE_OUT_COEF])
        return DT_OK;
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, i));
    DT_TRY(dt_rewrite_edit(&r, i_reduce, &n));
    take_window(&n->attr.window, &pool->attr.window);
    n->in[DT_REDUCE_IN_DY] = -1, n->in[DT_REDUCE_IN_DYP] = dyp, n->in[DT_REDUCE_IN_IDX] = idx;
    DT_TRY(dt_rewrite_edit(&r, i_dx, &n));
    take_window(&n->attr.window, &pool->attr.window);
    n->in[DT_DX_IN_DY] = -1, n->in[DT_DX_IN_DYP] = dyp, n->in[DT_DX_IN_IDX] = idx;
    return dt_rewrite_take(&r) ? gather_two(g, be, i_reduce, i_dx) : DT_OK;
}
