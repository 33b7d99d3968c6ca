/* Passes over the node list. A pass edits nodes in place, or proposes rewrites (rewrite.h), and closes the
 * list once. */
#include "core/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pass_fuse.h"

void dt_pass_replace_uses(dt_graph *g, dt_vid from, dt_vid to) {
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t j = 0; j < g->node[i].n_in; j++)
            if (g->node[i].in[j] == from) g->node[i].in[j] = to;
    for (dt_vid v = 0; v < g->n_value; v++) /* views of it */
        if (g->value[v].alias_of == from) g->value[v].alias_of = to;
    for (int32_t k = 0; k < g->n_output; k++)
        if (g->output[k].value == from) g->output[k].value = to;
    for (int32_t k = 0; k < g->n_loss; k++)
        if (g->loss[k] == from) g->loss[k] = to;
}

/* The only reader of v, or NULL when there is none or more than one. */
static dt_node *only_reader(dt_graph *g, dt_vid v) {
    dt_node *found = NULL;
    if (dt_graph_is_kept(g, v)) return NULL;
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t j = 0; j < g->node[i].n_in; j++) {
            if (g->node[i].in[j] != v) continue;
            if (found) return NULL;
            found = &g->node[i];
        }
    return found;
}

/* A BATCHNORM that ends neither in a ReLU nor in a sum. */
static bool is_bare_bn(const dt_node *n) {
    return n && !n->attr.norm.relu && !dt_node_has(n, DT_BN_IN_RES);
}

dt_status dt_pass_fuse_bn_act(dt_graph *g) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        dt_node *relu = &g->node[i];
        if (relu->op != DT_OP_UNARY || relu->attr.unary.fn != DT_UNARY_RELU) continue;
        const dt_vid x = relu->in[0], y = relu->out[0];
        dt_node *bn = dt_pass_maker(g, x, DT_OP_BATCHNORM);
        const dt_nid i_add = dt_pass_sum(g, x);
        const dt_node *add = i_add >= 0 ? &g->node[i_add] : NULL;
        dt_vid residual = -1;
        if ((!bn && !add) || dt_graph_use_count(g, x) != 1) continue; /* counting reads all nodes */
        if (add) {
            /* Either operand may be the normalised one; the later one keeps the order of nodes valid. */
            for (int32_t k = 0; k < 2 && !bn; k++) {
                dt_node *candidate = dt_pass_maker(g, add->in[k], DT_OP_BATCHNORM);
                dt_nid other = g->value[add->in[1 - k]].producer;
                if (is_bare_bn(candidate) && add->in[0] != add->in[1] &&
                    dt_graph_use_count(g, add->in[k]) == 1 && other < candidate - g->node)
                    bn = candidate, residual = add->in[1 - k];
            }
        }
        if (!is_bare_bn(bn)) continue;
        bn->attr.norm.relu = true;
        bn->in[DT_BN_IN_RES] = residual;
        if (residual >= 0) dt_graph_remove_node(g, g->value[x].producer);
        dt_graph_remove_node(g, i);
        dt_pass_replace_uses(g, y, bn->out[DT_BN_OUT_Y]);
    }
    dt_graph_compact(g);
    return DT_OK;
}

/* The nodes a BATCHNORM becomes, at the end of list[*n]. */
static dt_status split_one(dt_graph *g, const dt_node *bn, dt_node *list, int32_t *n) {
    const dt_value x = g->value[bn->in[DT_BN_IN_X]];
    const int64_t c = x.dim[x.ndim - 1];
    dt_node *made = &list[(*n)++];
    if (g->training && !bn->attr.norm.fixed) {
        char name[DT_NAME_MAX];
        dt_vid stats;
        snprintf(name, sizeof name, "%.*s:stats", DT_NAME_MAX - 8, g->value[bn->out[DT_BN_OUT_Y]].name);
        DT_TRY(dt_graph_add_value(g, name, DT_ROLE_ACT, DT_DTYPE_F32, 2, (int64_t[]){2, c}, &stats));
        DT_TRY(dt_graph_blank_node(g, DT_OP_BN_STATS, NULL, bn->phase, made));
        made->in[0] = bn->in[DT_BN_IN_X];
        made->out[0] = stats;
        const dt_attr t = {.norm.eps = bn->attr.norm.eps,
                           .norm.momentum = bn->attr.norm.momentum,
                           .norm.rows = (int32_t)(dt_value_n_elem(&x) / c)};
        made = &list[(*n)++];
        DT_TRY(dt_graph_blank_node(g, DT_OP_BN_FINALIZE, &t, bn->phase, made));
        made->in[DT_FINALIZE_IN_STATS] = stats;
        for (int32_t i = 0; i < 4; i++) {
            made->in[DT_FINALIZE_IN_GAMMA + i] = bn->in[DT_BN_IN_GAMMA + i];
            made->out[DT_FINALIZE_OUT_MEAN + i] = bn->out[DT_BN_OUT_MEAN + i];
        }
    } else {
        DT_TRY(dt_graph_blank_node(g, DT_OP_BN_FOLD, &(dt_attr){.norm.eps = bn->attr.norm.eps}, bn->phase,
                                   made));
        for (int32_t i = 0; i < 4; i++) made->in[i] = bn->in[DT_BN_IN_GAMMA + i];
        for (int32_t i = 0; i < 2; i++) made->out[i] = bn->out[DT_BN_OUT_SCALE + i];
    }
    made = &list[(*n)++];
    DT_TRY(
        dt_graph_blank_node(g, DT_OP_BN_APPLY, &(dt_attr){.norm.relu = bn->attr.norm.relu}, bn->phase, made));
    made->in[DT_APPLY_IN_X] = bn->in[DT_BN_IN_X];
    made->in[DT_APPLY_IN_SCALE] = bn->out[DT_BN_OUT_SCALE];
    made->in[DT_APPLY_IN_SHIFT] = bn->out[DT_BN_OUT_SHIFT];
    made->in[DT_APPLY_IN_RES] = bn->in[DT_BN_IN_RES];
    made->out[0] = bn->out[DT_BN_OUT_Y];
    return DT_OK;
}

dt_status dt_pass_split_batchnorm(dt_graph *g) {
    int32_t n_old = g->n_node, n_bn = 0, n = 0;
    for (dt_nid i = 0; i < n_old; i++) n_bn += g->node[i].op == DT_OP_BATCHNORM;
    if (n_bn == 0) return DT_OK;
    const int32_t cap = n_old + 2 * n_bn;
    dt_node *list = calloc((size_t)cap, sizeof *list);
    if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for %d nodes", cap);
    for (dt_nid i = 0; i < n_old; i++) {
        dt_status st = DT_OK;
        if (g->node[i].op == DT_OP_BATCHNORM)
            st = split_one(g, &g->node[i], list, &n);
        else
            list[n++] = g->node[i];
        if (st == DT_OK) continue;
        free(list);
        return st;
    }
    free(g->node);
    g->node = list;
    g->n_node = n;
    g->cap_node = cap;
    dt_graph_compact(g);
    return DT_OK;
}

static dt_status fuse_conv_stats(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_vid y = g->node[i].in[0], stats = g->node[i].out[0];
    const dt_nid id = dt_graph_maker(g, y, DT_OP_CONV);
    const dt_node *reader = only_reader(g, stats);
    dt_rewrite r;
    dt_node *n;
    if (id < 0 || !reader) return DT_OK;
    const dt_node *conv = &g->node[id];
    if (dt_node_makes(conv, DT_CONV_OUT_STATS) || dt_node_has(conv, DT_CONV_IN_SCALE)) return DT_OK;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, i));
    DT_TRY(dt_rewrite_edit(&r, id, &n));
    n->out[DT_CONV_OUT_STATS] = stats;
    DT_TRY(dt_rewrite_edit(&r, (dt_nid)(reader - g->node), &n));
    n->attr.norm.stats_are_sums = true;
    dt_rewrite_take(&r);
    return DT_OK;
}

/* Ops that can normalise while they read, and where. */
static const struct prologue_row {
    dt_op op;
    int32_t x, scale, shift;
} prologue_table[] = {
    {DT_OP_CONV, DT_CONV_IN_X, DT_CONV_IN_PRE_SCALE, DT_CONV_IN_PRE_SHIFT},
    {DT_OP_CONV_WGRAD, DT_WGRAD_IN_X, DT_WGRAD_IN_PRE_SCALE, DT_WGRAD_IN_PRE_SHIFT},
};

static const struct prologue_row *prologue_of(dt_op op) {
    for (size_t k = 0; k < sizeof prologue_table / sizeof prologue_table[0]; k++)
        if (prologue_table[k].op == op) return &prologue_table[k];
    return NULL;
}

/* A BN_APPLY whose every reader can normalise while it reads disappears, if that pays in sum. */
static dt_status fuse_prologue(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *apply = &g->node[i];
    const dt_vid y = apply->out[0], from[] = {apply->in[DT_APPLY_IN_X], apply->in[DT_APPLY_IN_SCALE],
                                              apply->in[DT_APPLY_IN_SHIFT]};
    dt_rewrite r;
    if (!apply->attr.norm.relu || dt_node_has(apply, DT_APPLY_IN_RES)) return DT_OK;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, i));
    for (dt_nid k = i + 1; k < g->n_node; k++) {
        const struct prologue_row *row = prologue_of(g->node[k].op);
        for (int32_t j = 0; j < g->node[k].n_in; j++) {
            dt_node *n;
            if (g->node[k].in[j] != y) continue;
            if (!row || j != row->x || dt_node_has(&g->node[k], row->scale) || r.n == DT_REWRITE_MAX)
                return DT_OK;
            DT_TRY(dt_rewrite_edit(&r, k, &n));
            n->in[row->x] = from[0];
            n->in[row->scale] = from[1];
            n->in[row->shift] = from[2];
        }
    }
    if (r.n > 1) dt_rewrite_take(&r);
    return DT_OK;
}

/* The sums of batch norm's gradient from the convolution that makes the gradient. */
static dt_status fuse_dgrad_bn(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *reduce = &g->node[i];
    const dt_vid dy = reduce->in[DT_REDUCE_IN_DY];
    if (!dt_node_has(reduce, DT_REDUCE_IN_SCALE) || dt_node_has(reduce, DT_REDUCE_IN_DY2) ||
        dt_node_makes(reduce, DT_REDUCE_OUT_DZ))
        return DT_OK;
    const dt_nid id = dt_graph_maker(g, dy, DT_OP_CONV_DGRAD);
    const dt_node *dx = only_reader(g, reduce->out[DT_REDUCE_OUT_COEF]);
    if (id < 0 || dt_node_has(&g->node[id], DT_DGRAD_IN_C) || !dx || dx->op != DT_OP_BN_DX ||
        dx->in[DT_DX_IN_DY] != dy)
        return DT_OK;
    if (dt_graph_use_count(g, dy) != 2) return DT_OK;
    static const int32_t moved[][2] = {
        {DT_DGRAD_IN_C, DT_REDUCE_IN_C},           {DT_DGRAD_IN_MEAN, DT_REDUCE_IN_MEAN},
        {DT_DGRAD_IN_INVSTD, DT_REDUCE_IN_INVSTD}, {DT_DGRAD_IN_GAMMA, DT_REDUCE_IN_GAMMA},
        {DT_DGRAD_IN_SCALE, DT_REDUCE_IN_SCALE},   {DT_DGRAD_IN_SHIFT, DT_REDUCE_IN_SHIFT}};
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, i));
    DT_TRY(dt_rewrite_edit(&r, id, &n));
    for (size_t k = 0; k < sizeof moved / sizeof moved[0]; k++) n->in[moved[k][0]] = reduce->in[moved[k][1]];
    for (int32_t k = 0; k < 3; k++) n->out[DT_DGRAD_OUT_DGAMMA + k] = reduce->out[DT_REDUCE_OUT_DGAMMA + k];
    DT_TRY(dt_rewrite_edit(&r, (dt_nid)(dx - g->node), &n));
    n->in[DT_DX_IN_SCALE] = n->in[DT_DX_IN_SHIFT] = -1;
    dt_rewrite_take(&r);
    return DT_OK;
}

static dt_status fuse_dual_apply(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *apply = &g->node[i];
    const dt_vid res = apply->in[DT_APPLY_IN_RES];
    if (res < 0 || dt_node_has(apply, DT_APPLY_IN_RES_SCALE)) return DT_OK;
    const dt_nid id = dt_graph_maker(g, res, DT_OP_BN_APPLY);
    if (id < 0 || g->node[id].attr.norm.relu || dt_node_has(&g->node[id], DT_APPLY_IN_RES) ||
        dt_graph_use_count(g, res) != 1)
        return DT_OK;
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, id));
    DT_TRY(dt_rewrite_edit(&r, i, &n));
    for (int32_t k = 0; k < 3; k++) n->in[DT_APPLY_IN_RES + k] = g->node[id].in[DT_APPLY_IN_X + k];
    dt_rewrite_take(&r);
    return DT_OK;
}

static dt_status fuse_second_grad(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node *reduce = &g->node[i];
    const dt_vid dy = reduce->in[DT_REDUCE_IN_DY];
    /* Only where the masked sum is written: otherwise BN_DX still needs the plain sum. */
    const dt_nid add = dt_pass_sum(g, dy);
    if (add < 0 || dt_node_has(reduce, DT_REDUCE_IN_DY2) || !dt_node_makes(reduce, DT_REDUCE_OUT_DZ) ||
        dt_graph_use_count(g, dy) != 1)
        return DT_OK;
    dt_rewrite r;
    dt_node *n;
    dt_rewrite_begin(&r, g, be);
    DT_TRY(dt_rewrite_drop(&r, add));
    DT_TRY(dt_rewrite_edit(&r, i, &n));
    n->in[DT_REDUCE_IN_DY] = g->node[add].in[0];
    n->in[DT_REDUCE_IN_DY2] = g->node[add].in[1];
    dt_rewrite_take(&r);
    return DT_OK;
}

typedef struct fusion_row {
    dt_op op;
    dt_status (*propose)(dt_graph *g, dt_backend *be, dt_nid i);
} fusion_row;

/* In this order: a prologue needs statistics in the same convolution on some backends. */
static const fusion_row fusion_table[] = {
    {DT_OP_BN_STATS, fuse_conv_stats},       {DT_OP_BN_APPLY, fuse_prologue},
    {DT_OP_BN_REDUCE, fuse_dgrad_bn},        {DT_OP_BN_APPLY, fuse_dual_apply},
    {DT_OP_BN_REDUCE, fuse_second_grad},     {DT_OP_MAXPOOL, dt_fuse_pool_prologue},
    {DT_OP_MAXPOOL_BWD, dt_fuse_pool_bn},    {DT_OP_BIAS_GRAD, dt_fuse_bias_grad},
    {DT_OP_LAYERNORM_BWD, dt_fuse_norm_sum}, {DT_OP_RMSNORM_BWD, dt_fuse_norm_sum},
    {DT_OP_BINARY, dt_fuse_dense_sum},       {DT_OP_UNARY_BWD, dt_fuse_dense_act_grad},
    {DT_OP_UNARY, dt_fuse_dense_act},
};

dt_status dt_pass_fuse_for_backend(dt_graph *g, dt_backend *be) {
    for (size_t f = 0; f < sizeof fusion_table / sizeof fusion_table[0]; f++)
        for (dt_nid i = 0; i < g->n_node; i++)
            if (g->node[i].op == fusion_table[f].op) DT_TRY(fusion_table[f].propose(g, be, i));
    dt_graph_compact(g);
    return dt_graph_validate(g);
}

/* Nodes that matter even if nobody reads their outputs: they write states, metrics or gradients. */
static bool has_effect(const dt_graph *g, const dt_node *n) {
    if (dt_op_get(n->op)->flags & DT_OP_EFFECT) return true;
    for (int32_t j = 0; j < n->n_out; j++)
        if (n->out[j] >= 0 && g->value[n->out[j]].role == DT_ROLE_GRAD) return true;
    return false;
}

dt_status dt_pass_remove_dead(dt_graph *g) {
    bool *read = calloc((size_t)g->n_value + 1, sizeof *read);
    if (!read) return dt_fail(DT_ERR_MEMORY, "no memory for a pass");
    for (int32_t i = 0; i < g->n_output; i++) read[g->output[i].value] = true;
    for (dt_nid i = g->n_node - 1; i >= 0; i--) {
        dt_node *n = &g->node[i];
        bool live = has_effect(g, n);
        for (int32_t j = 0; j < n->n_out; j++) live |= n->out[j] >= 0 && read[n->out[j]];
        if (!live) {
            dt_graph_remove_node(g, i);
            continue;
        }
        for (int32_t j = 0; j < n->n_in; j++)
            if (n->in[j] >= 0) read[n->in[j]] = true;
    }
    free(read);
    dt_graph_compact(g);
    return DT_OK;
}
