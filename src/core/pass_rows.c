/* Fusions around products and normalisations of rows, as transformers have them. */
#include "pass_fuse.h"

/* The gradient of a bias comes with that of the weight, which reads the same gradient. */
dt_status dt_fuse_bias_grad(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_vid dy = g->node[i].in[0], db = g->node[i].out[0];
    const dt_nid id = dt_graph_reader(g, dy, DT_OP_DENSE_WGRAD, DT_DENSE_WGRAD_IN_DY);
    dt_rewrite r;
    dt_node *n;
    if (id < 0 || id > i || dt_node_makes(&g->node[id], DT_DENSE_WGRAD_OUT_DB)) return DT_OK;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, i));
    DT_TRY(dt_rewrite_edit(&r, id, &n));
    n->out[DT_DENSE_WGRAD_OUT_DB] = db;
    dt_rewrite_take(&r);
    return DT_OK;
}

/* The gradient that goes around a normalisation is added as it writes its own. */
dt_status dt_fuse_norm_sum(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *norm = &g->node[i];
    const int32_t slot = dt_op_norm_dx2(norm->op);
    const dt_vid dx = norm->out[DT_LN_BWD_OUT_DX];
    dt_nid add = -1;
    for (int32_t k = 0; k < 2 && add < 0; k++) add = dt_graph_reader(g, dx, DT_OP_BINARY, k);
    if (add < 0 || dt_node_has(norm, slot) || !dt_op_is_sum(g, &g->node[add]) ||
        dt_graph_use_count(g, dx) != 1)
        return DT_OK;
    const dt_vid *part = g->node[add].in, other = part[part[0] == dx];
    dt_rewrite r;
    dt_node *n;
    if (g->value[other].producer >= i) return DT_OK;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, add));
    DT_TRY(dt_rewrite_edit(&r, i, &n));
    n->in[slot] = other;
    n->out[DT_LN_BWD_OUT_DX] = g->node[add].out[0];
    dt_rewrite_take(&r);
    return DT_OK;
}

/* Convolutions of training have no such kernels. */
dt_status dt_fuse_dense_sum(dt_graph *g, dt_backend *be, dt_nid i) {
    return g->training && g->node[i].phase == DT_PHASE_FORWARD ? dt_pass_end_in_sum(g, be, i, true) : DT_OK;
}

/* In training a layer ends in the function after it, and keeps what that was of for its gradient, if that is a product's
 * own too: otherwise nothing is saved that a kernel of ours would not read. */
dt_status dt_fuse_dense_act(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *unary = &g->node[i];
    const dt_vid pre = unary->in[0];
    const dt_nid id = dt_graph_maker(g, pre, DT_OP_DENSE),
                 back = dt_graph_reader(g, pre, DT_OP_DENSE_DGRAD, DT_DENSE_DGRAD_IN_PRE);
    dt_rewrite r;
    dt_node *n;
    if (!g->training || id < 0 || back < 0 || g->node[id].attr.dense.act ||
        dt_node_has(&g->node[id], DT_DENSE_IN_RES) || dt_graph_use_count(g, pre) != 2 ||
        dt_graph_is_kept(g, pre))
        return DT_OK;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, i));
    DT_TRY(dt_rewrite_edit(&r, id, &n));
    n->attr.dense.act = 1 + (int32_t)unary->attr.unary.fn;
    n->out[DT_DENSE_OUT_Y] = unary->out[0];
    n->out[DT_DENSE_OUT_PRE] = pre;
    dt_rewrite_take(&r);
    return DT_OK;
}

/* The gradient of a function from the product that makes the gradient of its result. */
dt_status dt_fuse_dense_act_grad(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *back = &g->node[i];
    const dt_vid dy = back->in[0], pre = back->in[1];
    const dt_unary_row *row = &dt_unary_table[back->attr.unary.fn];
    const dt_nid id = dt_graph_maker(g, dy, DT_OP_DENSE_DGRAD);
    dt_rewrite r;
    dt_node *n;
    if (id < 0 || g->node[id].attr.dense.act || row->of_y || row->param[0].name ||
        dt_graph_use_count(g, dy) != 1 || dt_graph_maker(g, pre, DT_OP_DENSE) < 0)
        return DT_OK;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, i));
    DT_TRY(dt_rewrite_edit(&r, id, &n));
    n->attr.dense.act = 1 + (int32_t)back->attr.unary.fn;
    n->in[DT_DENSE_DGRAD_IN_PRE] = pre;
    n->out[0] = back->out[0];
    dt_rewrite_take(&r);
    return DT_OK;
}
