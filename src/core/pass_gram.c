/* Batch normalisation around a 1x1 convolution from Gram matrices (core/pass.h; formulas in core/op.h).
 *
 * Every node of the split graph turns into one of the new graph, at its place:
 *   CONV         -> GRAM             BN_REDUCE  -> BN_MASK
 *   BN_STATS     -> nothing          BN_DX      -> GRAM_CROSS
 *   BN_FINALIZE  -> BN_GRAM          CONV_WGRAD -> BN_GRAM_GRAD
 *   BN_APPLY     -> CONV with apply  CONV_DGRAD -> BN_GRAM_DX
 * Then BN_MASK goes where it can: into the gradient before it, its sums into GRAM_CROSS. */
#include <stdio.h>

#include "pass_fuse.h"

/* Nodes of one site; -1: absent. */
typedef struct site {
    dt_nid conv, stats, finalize, apply, reduce, dx, wgrad, dgrad;
} site;

/* Adds the reader i of v to its place in the site; false where the pattern has none for it. */
static bool place_reader(const dt_graph *g, site *s, dt_nid i, int32_t slot) {
    const struct {
        dt_op op;
        int32_t slot;
        dt_nid *to;
    } place[] = {{DT_OP_BN_STATS, 0, &s->stats},
                 {DT_OP_BN_APPLY, DT_APPLY_IN_X, &s->apply},
                 {DT_OP_BN_REDUCE, DT_REDUCE_IN_C, &s->reduce},
                 {DT_OP_BN_DX, DT_DX_IN_C, &s->dx}};
    for (size_t k = 0; k < sizeof place / sizeof place[0]; k++) {
        if (g->node[i].op != place[k].op || slot != place[k].slot || *place[k].to >= 0) continue;
        *place[k].to = i;
        return true;
    }
    return false;
}

/* The same for a reader of the convolution's output gradient. */
static bool place_grad_reader(const dt_graph *g, site *s, dt_nid i, int32_t slot) {
    const dt_node *n = &g->node[i], *conv = &g->node[s->conv];
    if (n->op == DT_OP_CONV_WGRAD && slot == DT_WGRAD_IN_DY && s->wgrad < 0 &&
        n->in[DT_WGRAD_IN_X] == conv->in[DT_CONV_IN_X])
        s->wgrad = i;
    else if (n->op == DT_OP_CONV_DGRAD && slot == DT_DGRAD_IN_DY && s->dgrad < 0 &&
             n->in[DT_DGRAD_IN_W] == conv->in[DT_CONV_IN_W])
        s->dgrad = i;
    else
        return false;
    return true;
}

static bool place_readers(const dt_graph *g, site *s, dt_vid v,
                          bool (*place)(const dt_graph *g, site *s, dt_nid i, int32_t slot)) {
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t j = 0; j < g->node[i].n_in; j++)
            if (g->node[i].in[j] == v && !place(g, s, i, j)) return false;
    return !dt_graph_is_kept(g, v);
}

/* Whether everything around the convolution is there and nothing else reads what would go. */
static bool match(const dt_graph *g, dt_nid conv, site *s) {
    const dt_node *c = &g->node[conv];
    *s = (site){conv, -1, -1, -1, -1, -1, -1, -1};
    if (dt_node_has(c, DT_CONV_IN_BIAS) || dt_node_has(c, DT_CONV_IN_PRE_SCALE) ||
        dt_node_has(c, DT_CONV_IN_SCALE) || dt_node_makes(c, DT_CONV_OUT_STATS) ||
        !dt_op_conv_is_product(g, c))
        return false;
    if (!place_readers(g, s, c->out[0], place_reader)) return false;
    if (s->stats < 0 || s->apply < 0 || s->reduce < 0 || s->dx < 0) return false;
    const dt_node *apply = &g->node[s->apply], *reduce = &g->node[s->reduce], *dx = &g->node[s->dx];
    s->finalize = dt_graph_maker(g, apply->in[DT_APPLY_IN_SCALE], DT_OP_BN_FINALIZE);
    if (s->finalize < 0) return false;
    const dt_node *finalize = &g->node[s->finalize];
    if (finalize->in[DT_FINALIZE_IN_STATS] != g->node[s->stats].out[0] ||
        apply->in[DT_APPLY_IN_SCALE] != finalize->out[DT_FINALIZE_OUT_SCALE] ||
        apply->in[DT_APPLY_IN_SHIFT] != finalize->out[DT_FINALIZE_OUT_SHIFT] ||
        reduce->in[DT_REDUCE_IN_MEAN] != finalize->out[DT_FINALIZE_OUT_MEAN] ||
        reduce->in[DT_REDUCE_IN_INVSTD] != finalize->out[DT_FINALIZE_OUT_INVSTD] ||
        dx->in[DT_DX_IN_COEF] != reduce->out[DT_REDUCE_OUT_COEF] ||
        dt_graph_use_count(g, reduce->out[DT_REDUCE_OUT_COEF]) != 1)
        return false;
    /* The end of a block with its mask from y, or a normalisation alone. */
    if (apply->attr.norm.relu != dt_node_has(apply, DT_APPLY_IN_RES) ||
        dt_node_has(apply, DT_APPLY_IN_RES_SCALE) || !dt_node_has(reduce, DT_REDUCE_IN_DY) ||
        dt_node_has(reduce, DT_REDUCE_IN_DY2) || dt_node_has(reduce, DT_REDUCE_IN_SCALE) ||
        dt_node_has(dx, DT_DX_IN_SCALE))
        return false;
    const dt_vid dz =
        dt_node_makes(reduce, DT_REDUCE_OUT_DZ) ? reduce->out[DT_REDUCE_OUT_DZ] : reduce->in[DT_REDUCE_IN_DY];
    if (dx->in[DT_DX_IN_DY] != dz ||
        reduce->in[DT_REDUCE_IN_Y] != (apply->attr.norm.relu ? apply->out[0] : -1) ||
        dt_node_makes(reduce, DT_REDUCE_OUT_DZ) != apply->attr.norm.relu)
        return false;
    if (!place_readers(g, s, dx->out[0], place_grad_reader)) return false;
    return s->wgrad > s->dx && (s->dgrad < 0 || s->dgrad > s->wgrad);
}

/* A new value, named after `of`. */
static dt_status add_value(dt_graph *g, dt_vid of, const char *what, dt_dtype dtype, int32_t ndim,
                           const int64_t *dim, dt_vid *out) {
    char name[DT_NAME_MAX];
    snprintf(name, sizeof name, "%.*s:%s", DT_NAME_MAX - 16, g->value[of].name, what);
    return dt_graph_add_value(g, name, DT_ROLE_ACT, dtype, ndim, dim, out);
}

/* Values of a site that only the rewrite has, by their place in the table below. */
enum { GRAM, SUM, WCOV, DBETA, CROSS, WA, MV, N_NEW };

static dt_status add_values(dt_graph *g, const dt_node *conv, dt_vid *made) {
    const dt_value *w = &g->value[conv->in[DT_CONV_IN_W]];
    const int64_t k = w->dim[0], c = w->dim[3];
    const struct {
        const char *what;
        dt_dtype dtype;
        int32_t ndim;
        int64_t dim[4];
    } row[N_NEW] = {
        [GRAM] = {"gram", DT_DTYPE_F32, 2, {c, c}},   [SUM] = {"sum", DT_DTYPE_F32, 1, {c}},
        [WCOV] = {"wcov", DT_DTYPE_F32, 2, {k, c}},   [DBETA] = {"dbeta", DT_DTYPE_F32, 1, {k}},
        [CROSS] = {"cross", DT_DTYPE_F32, 2, {k, c}}, [WA] = {"wa", g->compute, 4, {k, 1, 1, c}},
        [MV] = {"mv", DT_DTYPE_F32, 2, {c + 1, c}},
    };
    for (int32_t i = 0; i < N_NEW; i++)
        DT_TRY(add_value(g, conv->out[0], row[i].what, row[i].dtype, row[i].ndim, row[i].dim, &made[i]));
    return DT_OK;
}

static dt_status propose_forward(dt_rewrite *r, const site *s, const dt_vid *made) {
    const dt_node *conv = &r->g->node[s->conv], *finalize = &r->g->node[s->finalize],
                  *apply = &r->g->node[s->apply];
    dt_node *n;
    DT_TRY(dt_rewrite_put(r, s->conv, DT_OP_GRAM, NULL, &n));
    n->in[0] = conv->in[DT_CONV_IN_X];
    n->out[DT_GRAM_OUT_GRAM] = made[GRAM];
    n->out[DT_GRAM_OUT_SUM] = made[SUM];

    DT_TRY(dt_rewrite_drop(r, s->stats));

    dt_attr a = finalize->attr;
    a.norm.stats_are_sums = false;
    DT_TRY(dt_rewrite_put(r, s->finalize, DT_OP_BN_GRAM, &a, &n));
    n->in[DT_BN_GRAM_IN_GRAM] = made[GRAM];
    n->in[DT_BN_GRAM_IN_SUM] = made[SUM];
    n->in[DT_BN_GRAM_IN_W] = conv->in[DT_CONV_IN_W];
    for (int32_t i = 0; i < 4; i++) {
        n->in[DT_BN_GRAM_IN_GAMMA + i] = finalize->in[DT_FINALIZE_IN_GAMMA + i];
        n->out[DT_BN_GRAM_OUT_MEAN + i] = finalize->out[DT_FINALIZE_OUT_MEAN + i];
    }
    n->out[DT_BN_GRAM_OUT_WCOV] = made[WCOV];

    a = conv->attr;
    a.window.act = apply->attr.norm.relu ? DT_ACT_RELU : DT_ACT_NONE;
    DT_TRY(dt_rewrite_put(r, s->apply, DT_OP_CONV, &a, &n));
    n->in[DT_CONV_IN_X] = conv->in[DT_CONV_IN_X];
    n->in[DT_CONV_IN_W] = conv->in[DT_CONV_IN_W];
    n->in[DT_CONV_IN_SCALE] = apply->in[DT_APPLY_IN_SCALE];
    n->in[DT_CONV_IN_SHIFT] = apply->in[DT_APPLY_IN_SHIFT];
    n->in[DT_CONV_IN_RES] = apply->in[DT_APPLY_IN_RES];
    n->out[DT_CONV_OUT_Y] = apply->out[0];
    return DT_OK;
}

static dt_status propose_backward(dt_rewrite *r, const site *s, const dt_vid *made) {
    const dt_graph *g = r->g;
    const dt_node *conv = &g->node[s->conv], *finalize = &g->node[s->finalize], *reduce = &g->node[s->reduce];
    const bool masked = dt_node_makes(reduce, DT_REDUCE_OUT_DZ);
    const dt_vid x = conv->in[DT_CONV_IN_X], w = conv->in[DT_CONV_IN_W];
    const dt_vid dz = masked ? reduce->out[DT_REDUCE_OUT_DZ] : reduce->in[DT_REDUCE_IN_DY];
    dt_node *n;
    DT_TRY(dt_rewrite_put(r, s->reduce, DT_OP_BN_MASK, NULL, &n));
    n->in[DT_BN_MASK_IN_DY] = reduce->in[DT_REDUCE_IN_DY];
    n->in[DT_BN_MASK_IN_Y] = reduce->in[DT_REDUCE_IN_Y];
    n->out[DT_BN_MASK_OUT_DBETA] = made[DBETA];
    if (masked) n->out[DT_BN_MASK_OUT_DZ] = dz;

    DT_TRY(dt_rewrite_put(r, s->dx, DT_OP_GRAM_CROSS, NULL, &n));
    n->in[DT_CROSS_IN_DZ] = dz;
    n->in[DT_CROSS_IN_X] = x;
    n->out[DT_CROSS_OUT_P] = made[CROSS];

    const dt_attr rows = {.norm.rows = finalize->attr.norm.rows};
    DT_TRY(dt_rewrite_put(r, s->wgrad, DT_OP_BN_GRAM_GRAD, &rows, &n));
    n->in[DT_GRAM_GRAD_IN_P] = made[CROSS];
    n->in[DT_GRAM_GRAD_IN_DBETA] = made[DBETA];
    n->in[DT_GRAM_GRAD_IN_WCOV] = made[WCOV];
    n->in[DT_GRAM_GRAD_IN_SUM] = made[SUM];
    n->in[DT_GRAM_GRAD_IN_W] = w;
    n->in[DT_GRAM_GRAD_IN_MEAN] = finalize->out[DT_FINALIZE_OUT_MEAN];
    n->in[DT_GRAM_GRAD_IN_INVSTD] = finalize->out[DT_FINALIZE_OUT_INVSTD];
    n->in[DT_GRAM_GRAD_IN_GAMMA] = reduce->in[DT_REDUCE_IN_GAMMA];
    n->out[DT_GRAM_GRAD_OUT_DGAMMA] = reduce->out[DT_REDUCE_OUT_DGAMMA];
    n->out[DT_GRAM_GRAD_OUT_DBETA] = reduce->out[DT_REDUCE_OUT_DBETA];
    n->out[DT_GRAM_GRAD_OUT_DW] = g->node[s->wgrad].out[0];
    n->out[DT_GRAM_GRAD_OUT_WA] = made[WA];
    n->out[DT_GRAM_GRAD_OUT_MV] = made[MV];

    if (s->dgrad < 0) return DT_OK;
    DT_TRY(dt_rewrite_put(r, s->dgrad, DT_OP_BN_GRAM_DX, NULL, &n));
    n->in[DT_GRAM_DX_IN_DZ] = dz;
    n->in[DT_GRAM_DX_IN_WA] = made[WA];
    n->in[DT_GRAM_DX_IN_X] = x;
    n->in[DT_GRAM_DX_IN_MV] = made[MV];
    n->out[0] = g->node[s->dgrad].out[0];
    return DT_OK;
}

/* A BN_MASK may add two gradients before it masks them. */
static dt_status mask_two(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *mask = &g->node[i];
    const dt_vid dy = mask->in[DT_BN_MASK_IN_DY];
    const dt_nid add = dt_pass_sum(g, dy);
    if (add < 0 || !dt_node_makes(mask, DT_BN_MASK_OUT_DZ) || dt_graph_use_count(g, dy) != 1) return DT_OK;
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, add));
    DT_TRY(dt_rewrite_edit(&r, i, &n));
    n->in[DT_BN_MASK_IN_DY] = g->node[add].in[0];
    n->in[DT_BN_MASK_IN_DY2] = g->node[add].in[1];
    dt_rewrite_take(&r);
    return DT_OK;
}

static dt_status rewrite_site(dt_graph *g, dt_backend *be, const site *s) {
    dt_vid made[N_NEW];
    dt_rewrite r;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(add_values(g, &g->node[s->conv], made));
    DT_TRY(propose_forward(&r, s, made));
    DT_TRY(propose_backward(&r, s, made));
    return dt_rewrite_take(&r) ? mask_two(g, be, s->reduce) : DT_OK;
}

/* A BN_APPLY whose residual is such a convolution, normalised alone, moves into it: what it normalised itself
 * becomes the residual, scaled and shifted. */
static dt_status swap_residual(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *apply = &g->node[i];
    const dt_vid res = apply->in[DT_APPLY_IN_RES];
    if (res < 0 || dt_node_has(apply, DT_APPLY_IN_RES_SCALE)) return DT_OK;
    const dt_nid id = dt_graph_maker(g, res, DT_OP_CONV);
    if (id < 0 || dt_graph_use_count(g, res) != 1) return DT_OK;
    const dt_node *conv = &g->node[id];
    if (!dt_node_has(conv, DT_CONV_IN_SCALE) || conv->attr.window.act || dt_node_has(conv, DT_CONV_IN_RES))
        return DT_OK;
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, id));
    DT_TRY(dt_rewrite_put(&r, i, DT_OP_CONV, &conv->attr, &n));
    n->attr.window.act = apply->attr.norm.relu ? DT_ACT_RELU : DT_ACT_NONE;
    for (int32_t k = 0; k < n->n_in; k++) n->in[k] = conv->in[k];
    for (int32_t k = 0; k < 3; k++) n->in[DT_CONV_IN_RES + k] = apply->in[DT_APPLY_IN_X + k];
    n->out[0] = apply->out[0];
    dt_rewrite_take(&r);
    return DT_OK;
}

/* The sums of a BN_MASK become those of the GRAM_CROSS over the same gradient. */
static dt_status move_sums(dt_rewrite *r, const dt_node *mask) {
    const dt_graph *g = r->g;
    const dt_vid dbeta = mask->out[DT_BN_MASK_OUT_DBETA];
    const dt_nid grad = dt_graph_reader(g, dbeta, DT_OP_BN_GRAM_GRAD, DT_GRAM_GRAD_IN_DBETA);
    dt_node *n;
    DT_TRY(dt_rewrite_edit(r, dt_graph_maker(g, g->node[grad].in[DT_GRAM_GRAD_IN_P], DT_OP_GRAM_CROSS), &n));
    n->out[DT_CROSS_OUT_DBETA] = dbeta;
    return DT_OK;
}

/* The gradient mask.in[slot] comes from a convolution, which could add the other and mask by itself. False:
 * there is nothing to propose. */
static dt_status propose_dgrad(dt_rewrite *r, dt_nid i, int32_t slot, bool *proposed) {
    const dt_graph *g = r->g;
    const dt_node *mask = &g->node[i];
    const dt_nid id = dt_graph_maker(g, mask->in[slot], DT_OP_CONV_DGRAD);
    dt_node *n;
    *proposed = false;
    if (id < 0 || dt_graph_use_count(g, mask->in[slot]) != 1) return DT_OK;
    const dt_node *dgrad = &g->node[id];
    if (dt_node_has(dgrad, DT_DGRAD_IN_DX2) || dt_node_has(dgrad, DT_DGRAD_IN_Y) ||
        dt_node_has(dgrad, DT_DGRAD_IN_C))
        return DT_OK;
    DT_TRY(dt_rewrite_drop(r, id));
    DT_TRY(dt_rewrite_put(r, i, DT_OP_CONV_DGRAD, &dgrad->attr, &n));
    n->in[DT_DGRAD_IN_DY] = dgrad->in[DT_DGRAD_IN_DY];
    n->in[DT_DGRAD_IN_W] = dgrad->in[DT_DGRAD_IN_W];
    n->in[DT_DGRAD_IN_DX2] = mask->in[DT_BN_MASK_IN_DY + DT_BN_MASK_IN_DY2 - slot];
    n->in[DT_DGRAD_IN_Y] = mask->in[DT_BN_MASK_IN_Y];
    n->out[DT_DGRAD_OUT_DX] = mask->out[DT_BN_MASK_OUT_DZ];
    *proposed = true;
    return move_sums(r, mask);
}

/* A BN_MASK of nothing but sums goes; one of two gradients into the convolution of either, the better one. */
static dt_status fuse_mask(dt_graph *g, dt_backend *be, dt_nid i) {
    dt_rewrite r[2];
    double saving[2] = {0};
    if (!dt_node_makes(&g->node[i], DT_BN_MASK_OUT_DZ)) {
        dt_rewrite_begin(&r[0], g, be);
        DT_TRY(dt_rewrite_drop(&r[0], i));
        DT_TRY(move_sums(&r[0], &g->node[i]));
        dt_rewrite_take(&r[0]);
        return DT_OK;
    }
    if (!dt_node_has(&g->node[i], DT_BN_MASK_IN_DY2)) return DT_OK;
    for (int32_t k = 0; k < 2; k++) {
        bool proposed;
        dt_rewrite_begin(&r[k], g, be);
        DT_TRY(propose_dgrad(&r[k], i, DT_BN_MASK_IN_DY + k, &proposed));
        if (proposed) saving[k] = dt_rewrite_saving(&r[k]);
    }
    const int32_t best = saving[1] > saving[0];
    if (saving[best] > 0) dt_rewrite_apply(&r[best]);
    return DT_OK;
}

dt_status dt_pass_gram_batchnorm(dt_graph *g, dt_backend *be) {
    site s;
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_CONV && match(g, i, &s)) DT_TRY(rewrite_site(g, be, &s));
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_BN_APPLY) DT_TRY(swap_residual(g, be, i));
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_BN_MASK) DT_TRY(fuse_mask(g, be, i));
    dt_graph_compact(g);
    return dt_graph_validate(g);
}
