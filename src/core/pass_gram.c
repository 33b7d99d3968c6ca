/* Batch normalisation around a 1x1 convolution from Gram matrices (core/pass.h; formulas in core/op.h).
 *
 * Every node of the split graph turns into one of the new graph, at its place:
 *   CONV         -> GRAM             BN_REDUCE  -> BN_MASK
 *   BN_STATS     -> nothing          BN_DX      -> GRAM_CROSS
 *   BN_FINALIZE  -> BN_GRAM          CONV_WGRAD -> BN_GRAM_GRAD
 *   BN_APPLY     -> CONV with apply  CONV_DGRAD -> BN_GRAM_DX
 * Then BN_MASK goes where it can: into the gradient before it, its sums into GRAM_CROSS. */
#include "core/pass.h"

#include <stdio.h>

#include "core/op.h"

/* Nodes of one site; -1: absent. */
typedef struct site {
    dt_nid conv, stats, finalize, apply, reduce, dx, wgrad, dgrad;
} site;

static dt_nid made_by(const dt_graph *g, dt_vid v, dt_op op) {
    dt_nid i = g->value[v].producer;
    return i >= 0 && g->node[i].op == op ? i : -1;
}

/* Adds the reader i of v to its place in the site; false where the pattern has none for it. */
static bool place_reader(const dt_graph *g, site *s, dt_nid i, int32_t operand) {
    static const dt_op op[] = {DT_OP_BN_STATS, DT_OP_BN_APPLY, DT_OP_BN_REDUCE, DT_OP_BN_DX};
    static const int32_t at[] = {0, 0, 1, 1};
    dt_nid *const to[] = {&s->stats, &s->apply, &s->reduce, &s->dx};
    for (size_t k = 0; k < sizeof op / sizeof op[0]; k++) {
        if (g->node[i].op != op[k] || operand != at[k] || *to[k] >= 0) continue;
        *to[k] = i;
        return true;
    }
    return false;
}

/* The same for a reader of the convolution's output gradient. */
static bool place_grad_reader(const dt_graph *g, site *s, dt_nid i, int32_t operand) {
    const dt_node *n = &g->node[i], *conv = &g->node[s->conv];
    if (n->op == DT_OP_CONV_WGRAD && operand == 1 && s->wgrad < 0 && n->in[0] == conv->in[0])
        s->wgrad = i;
    else if (n->op == DT_OP_CONV_DGRAD && operand == 0 && s->dgrad < 0 && n->in[1] == conv->in[1])
        s->dgrad = i;
    else
        return false;
    return true;
}

static bool place_readers(const dt_graph *g, site *s, dt_vid v,
                          bool (*place)(const dt_graph *g, site *s, dt_nid i, int32_t operand)) {
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t j = 0; j < g->node[i].n_in; j++)
            if (g->node[i].in[j] == v && !place(g, s, i, j)) return false;
    return v != g->logits && v != g->loss;
}

/* Whether everything around the convolution is there and nothing else reads what would go. */
static bool match(const dt_graph *g, dt_nid conv, site *s) {
    const dt_node *c = &g->node[conv];
    *s = (site){conv, -1, -1, -1, -1, -1, -1, -1};
    if (c->attr.bias || c->attr.prologue || c->attr.stats || c->attr.apply || !dt_op_conv_is_product(g, c))
        return false;
    if (!place_readers(g, s, c->out[0], place_reader)) return false;
    if (s->stats < 0 || s->apply < 0 || s->reduce < 0 || s->dx < 0) return false;
    const dt_node *apply = &g->node[s->apply], *reduce = &g->node[s->reduce], *dx = &g->node[s->dx];
    s->finalize = made_by(g, apply->in[1], DT_OP_BN_FINALIZE);
    if (s->finalize < 0) return false;
    const dt_node *finalize = &g->node[s->finalize];
    if (finalize->in[0] != g->node[s->stats].out[0] || apply->in[1] != finalize->out[2] ||
        apply->in[2] != finalize->out[3] || reduce->in[2] != finalize->out[0] ||
        reduce->in[3] != finalize->out[1] || dx->in[2] != reduce->out[2] ||
        dt_graph_use_count(g, reduce->out[2]) != 1)
        return false;
    /* The end of a block with its mask from y, or a normalisation alone. */
    if (apply->attr.relu != apply->attr.residual || apply->attr.residual_scaled || reduce->attr.second_grad)
        return false;
    if (apply->attr.relu) {
        if (reduce->attr.mask != DT_MASK_FROM_Y || !reduce->attr.writes_dz ||
            reduce->in[5] != apply->out[0] || dx->in[0] != reduce->out[3])
            return false;
    } else if (reduce->attr.mask != DT_MASK_NONE || reduce->attr.writes_dz || dx->in[0] != reduce->in[0]) {
        return false;
    }
    if (dx->attr.mask != DT_MASK_NONE || !place_readers(g, s, dx->out[0], place_grad_reader)) return false;
    return s->wgrad > s->dx && (s->dgrad < 0 || s->dgrad > s->wgrad);
}

/* A new value of node `id`, named after `of`. */
static dt_status add_value(dt_graph *g, dt_vid of, const char *what, dt_nid id, dt_dtype dtype, int32_t ndim,
                           const int64_t *dim, dt_vid *out) {
    char name[DT_NAME_MAX];
    snprintf(name, sizeof name, "%.*s:%s", DT_NAME_MAX - 16, g->value[of].name, what);
    DT_TRY(dt_graph_add_value(g, name, DT_ROLE_ACT, dtype, ndim, dim, out));
    g->value[*out].producer = id;
    return DT_OK;
}

static dt_node node_of(dt_op op, dt_attr attr, dt_phase phase) {
    return (dt_node){.op = op, .attr = attr, .phase = phase, .workspace = -1};
}

static void add_in(dt_node *n, dt_vid v) {
    n->in[n->n_in++] = v;
}

static void add_out(dt_graph *g, dt_node *n, dt_nid id, dt_vid v) {
    n->out[n->n_out++] = v;
    g->value[v].producer = id;
}

/* The two gradients that `reduce` would first add, where the backend likes to; and the node that adds them.
 */
static dt_nid sum_of_two(const dt_graph *g, dt_backend *be, dt_nid reduce) {
    const dt_node *n = &g->node[reduce];
    dt_nid add = made_by(g, n->in[0], DT_OP_ADD);
    if (add < 0 || !n->attr.writes_dz || dt_graph_use_count(g, n->in[0]) != 1) return -1;
    return be->fuse_gain(be, g, DT_FUSE_SECOND_GRAD, reduce) > 0 ? add : -1;
}

static dt_status rewrite(dt_graph *g, dt_backend *be, const site *s) {
    const dt_node conv = g->node[s->conv], finalize = g->node[s->finalize], apply = g->node[s->apply];
    const dt_node reduce = g->node[s->reduce], wgrad = g->node[s->wgrad], dx = g->node[s->dx];
    const dt_vid x = conv.in[0], w = conv.in[1], c = conv.out[0];
    const int64_t n_k = g->value[w].dim[0], n_c = g->value[w].dim[3];
    const dt_dtype t = g->compute;
    const bool masked = reduce.attr.mask == DT_MASK_FROM_Y;
    const dt_nid add = sum_of_two(g, be, s->reduce);
    const dt_vid dz = masked ? reduce.out[3] : reduce.in[0];
    dt_vid gram, sum, wcov, dbeta, p, wa, mv;
    DT_TRY(add_value(g, c, "gram", s->conv, DT_DTYPE_F32, 2, (int64_t[]){n_c, n_c}, &gram));
    DT_TRY(add_value(g, c, "sum", s->conv, DT_DTYPE_F32, 1, &n_c, &sum));
    DT_TRY(add_value(g, c, "wcov", s->finalize, DT_DTYPE_F32, 2, (int64_t[]){n_k, n_c}, &wcov));
    DT_TRY(add_value(g, c, "dbeta", s->reduce, DT_DTYPE_F32, 1, &n_k, &dbeta));
    DT_TRY(add_value(g, c, "cross", s->dx, DT_DTYPE_F32, 2, (int64_t[]){n_k, n_c}, &p));
    DT_TRY(add_value(g, c, "wa", s->wgrad, t, 4, g->value[w].dim, &wa));
    DT_TRY(add_value(g, c, "mv", s->wgrad, DT_DTYPE_F32, 2, (int64_t[]){n_c + 1, n_c}, &mv));

    dt_node n = node_of(DT_OP_GRAM, (dt_attr){0}, conv.phase);
    add_in(&n, x);
    n.out[0] = gram, n.out[1] = sum, n.n_out = 2;
    g->node[s->conv] = n;

    dt_attr a = finalize.attr;
    a.stats_are_sums = false;
    n = node_of(DT_OP_BN_GRAM, a, finalize.phase);
    add_in(&n, gram), add_in(&n, sum), add_in(&n, w);
    for (int32_t i = 1; i < 5; i++) add_in(&n, finalize.in[i]);
    for (int32_t i = 0; i < 4; i++) add_out(g, &n, s->finalize, finalize.out[i]);
    add_out(g, &n, s->finalize, wcov);
    g->node[s->finalize] = n;

    a = conv.attr;
    a.apply = true;
    a.relu = apply.attr.relu;
    a.residual = apply.attr.residual;
    n = node_of(DT_OP_CONV, a, apply.phase);
    add_in(&n, x), add_in(&n, w);
    for (int32_t i = 1; i < apply.n_in; i++) add_in(&n, apply.in[i]);
    add_out(g, &n, s->apply, apply.out[0]);
    g->node[s->apply] = n;

    a = (dt_attr){.mask = reduce.attr.mask, .writes_dz = masked, .second_grad = add >= 0};
    n = node_of(DT_OP_BN_MASK, a, reduce.phase);
    for (int32_t i = 0; add >= 0 && i < 2; i++) add_in(&n, g->node[add].in[i]);
    if (add >= 0) g->node[add].n_in = g->node[add].n_out = 0;
    if (add < 0) add_in(&n, reduce.in[0]);
    if (masked) add_in(&n, reduce.in[5]);
    add_out(g, &n, s->reduce, dbeta);
    if (masked) add_out(g, &n, s->reduce, dz);
    g->node[s->reduce] = n;

    n = node_of(DT_OP_GRAM_CROSS, (dt_attr){0}, dx.phase);
    add_in(&n, dz), add_in(&n, x);
    add_out(g, &n, s->dx, p);
    g->node[s->dx] = n;

    a = (dt_attr){.kernel = {finalize.attr.kernel[0]}};
    n = node_of(DT_OP_BN_GRAM_GRAD, a, wgrad.phase);
    const dt_vid grad_in[] = {p, dbeta, wcov, sum, w, finalize.out[0], finalize.out[1], reduce.in[4]};
    const dt_vid grad_out[] = {reduce.out[0], reduce.out[1], wgrad.out[0], wa, mv};
    for (size_t i = 0; i < sizeof grad_in / sizeof grad_in[0]; i++) add_in(&n, grad_in[i]);
    for (size_t i = 0; i < sizeof grad_out / sizeof grad_out[0]; i++) add_out(g, &n, s->wgrad, grad_out[i]);
    g->node[s->wgrad] = n;

    if (s->dgrad < 0) return DT_OK;
    const dt_node dgrad = g->node[s->dgrad];
    n = node_of(DT_OP_BN_GRAM_DX, (dt_attr){0}, dgrad.phase);
    add_in(&n, dz), add_in(&n, wa), add_in(&n, x), add_in(&n, mv);
    add_out(g, &n, s->dgrad, dgrad.out[0]);
    g->node[s->dgrad] = n;
    return DT_OK;
}

/* A BN_APPLY whose residual is such a convolution, normalised alone, moves into it: what it normalised itself
 * becomes the residual, scaled and shifted. */
static void swap_residual(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node apply = g->node[i];
    if (!apply.attr.residual || apply.attr.residual_scaled) return;
    const dt_nid id = made_by(g, apply.in[3], DT_OP_CONV);
    if (id < 0 || dt_graph_use_count(g, apply.in[3]) != 1 || apply.in[3] == g->logits) return;
    const dt_node conv = g->node[id];
    if (!conv.attr.apply || conv.attr.relu || conv.attr.residual) return;
    if (be->fuse_gain(be, g, DT_FUSE_DUAL_APPLY, i) <= 0) return;
    dt_node n = conv;
    n.attr.relu = apply.attr.relu;
    n.attr.residual = n.attr.residual_scaled = true;
    for (int32_t k = 0; k < 3; k++) add_in(&n, apply.in[k]);
    n.out[0] = apply.out[0];
    g->node[i] = n;
    g->node[id].n_in = g->node[id].n_out = 0; /* goes with the other nodes that make nothing */
}

/* The sums of a BN_MASK become those of the GRAM_CROSS over the same gradient. */
static void move_sums(dt_graph *g, const dt_node *mask) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (n->op != DT_OP_BN_GRAM_GRAD || n->in[1] != mask->out[0]) continue;
        const dt_nid id = made_by(g, n->in[0], DT_OP_GRAM_CROSS);
        g->node[id].attr.stats = true;
        add_out(g, &g->node[id], id, mask->out[0]);
    }
}

/* One of the two gradients that a BN_MASK adds comes from a convolution: that adds and masks by itself. */
static void fuse_mask(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node mask = g->node[i];
    if (!mask.attr.writes_dz) { /* nothing but sums */
        move_sums(g, &mask);
        g->node[i].n_in = g->node[i].n_out = 0;
        return;
    }
    dt_nid best = -1;
    double best_gain = 0;
    dt_vid other = -1;
    for (int32_t k = 0; mask.attr.second_grad && k < 2; k++) {
        const dt_nid id = made_by(g, mask.in[k], DT_OP_CONV_DGRAD);
        if (id < 0 || g->node[id].n_in != 2 || dt_graph_use_count(g, mask.in[k]) != 1) continue;
        const double gain = be->fuse_gain(be, g, DT_FUSE_DGRAD_MASK, id);
        if (gain <= best_gain) continue;
        best = id, best_gain = gain, other = mask.in[1 - k];
    }
    if (best < 0) return;
    dt_node n = g->node[best];
    move_sums(g, &mask);
    n.attr.second_grad = true;
    n.attr.mask = mask.attr.mask;
    add_in(&n, other);
    add_in(&n, mask.in[2]);
    n.n_out = 0;
    add_out(g, &n, i, mask.out[1]);
    g->node[i] = n;
    g->node[best].n_in = g->node[best].n_out = 0;
}

/* Drops nodes that make nothing and restores every value's producer. */
static void squeeze(dt_graph *g) {
    int32_t n = 0;
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].n_out > 0) g->node[n++] = g->node[i];
    g->n_node = n;
    for (dt_vid v = 0; v < g->n_value; v++) g->value[v].producer = -1;
    for (dt_nid i = 0; i < n; i++)
        for (int32_t j = 0; j < g->node[i].n_out; j++) g->value[g->node[i].out[j]].producer = i;
}

dt_status dt_pass_gram_batchnorm(dt_graph *g, dt_backend *be) {
    site s;
    for (dt_nid i = 0; i < g->n_node; i++) {
        if (g->node[i].op != DT_OP_CONV || !match(g, i, &s)) continue;
        if (be->fuse_gain(be, g, DT_FUSE_GRAM_BN, i) <= 0) continue;
        DT_TRY(rewrite(g, be, &s));
        g->node[s.stats].n_out = g->node[s.stats].n_in = 0;
    }
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_BN_APPLY) swap_residual(g, be, i);
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_BN_MASK) fuse_mask(g, be, i);
    squeeze(g);
    return dt_graph_validate(g);
}
