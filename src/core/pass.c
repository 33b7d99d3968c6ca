/* Passes over the node list. A pass edits nodes in place, marks those that go with op = DT_OP_COUNT, and
 * rebuilds the list once. */
#include "core/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/op.h"
#include "pass_fuse.h"

int32_t dt_graph_use_count(const dt_graph *g, dt_vid v) {
    int32_t n = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        if ((int)g->node[i].op == REMOVED) continue;
        for (int32_t j = 0; j < g->node[i].n_in; j++) n += g->node[i].in[j] == v;
    }
    return n;
}

static void replace_uses(dt_graph *g, dt_vid from, dt_vid to) {
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t j = 0; j < g->node[i].n_in; j++)
            if (g->node[i].in[j] == from) g->node[i].in[j] = to;
    for (dt_vid v = 0; v < g->n_value; v++) /* views of it */
        if (g->value[v].alias_of == from) g->value[v].alias_of = to;
    dt_vid *known[] = {&g->logits, &g->loss};
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
        if (*known[k] == from) *known[k] = to;
}

/* Squeezes removed nodes out and restores every value's producer. */
static void compact(dt_graph *g) {
    int32_t n = 0;
    for (dt_nid i = 0; i < g->n_node; i++)
        if ((int)g->node[i].op != REMOVED) g->node[n++] = g->node[i];
    g->n_node = n;
    for (dt_vid v = 0; v < g->n_value; v++) g->value[v].producer = -1;
    for (dt_nid i = 0; i < n; i++)
        for (int32_t j = 0; j < g->node[i].n_out; j++) g->value[g->node[i].out[j]].producer = i;
}

/* The only reader of v, or NULL when there is none or more than one. */
static dt_node *only_reader(dt_graph *g, dt_vid v) {
    dt_node *found = NULL;
    for (dt_nid i = 0; i < g->n_node; i++) {
        if ((int)g->node[i].op == REMOVED) continue;
        for (int32_t j = 0; j < g->node[i].n_in; j++)
            if (g->node[i].in[j] == v) {
                if (found) return NULL;
                found = &g->node[i];
            }
    }
    return found;
}

dt_status dt_pass_fuse_bn_act(dt_graph *g) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        dt_node *relu = &g->node[i];
        if (relu->op != DT_OP_RELU) continue;
        dt_vid x = relu->in[0];
        dt_node *bn = made_by(g, x, DT_OP_BATCHNORM), *add = made_by(g, x, DT_OP_ADD);
        dt_vid residual = -1;
        if (dt_graph_use_count(g, x) != 1) continue;
        if (add) {
            /* Either operand may be the normalised one; the later one keeps the order of nodes valid. */
            for (int32_t k = 0; k < 2 && !bn; k++) {
                dt_node *candidate = made_by(g, add->in[k], DT_OP_BATCHNORM);
                dt_nid other = g->value[add->in[1 - k]].producer;
                if (candidate && !candidate->attr.relu && !candidate->attr.residual &&
                    add->in[0] != add->in[1] && dt_graph_use_count(g, add->in[k]) == 1 &&
                    other < candidate - g->node)
                    bn = candidate, residual = add->in[1 - k];
            }
        }
        if (!bn || bn->attr.relu || bn->attr.residual) continue;
        bn->attr.relu = true;
        if (residual >= 0) {
            bn->attr.residual = true;
            bn->in[bn->n_in++] = residual;
            remove_node(g, g->value[x].producer);
        }
        replace_uses(g, relu->out[0], bn->out[0]);
        remove_node(g, i);
    }
    compact(g);
    return DT_OK;
}

dt_status dt_pass_split_batchnorm(dt_graph *g) {
    int32_t n_old = g->n_node, n_bn = 0;
    for (dt_nid i = 0; i < n_old; i++) n_bn += g->node[i].op == DT_OP_BATCHNORM;
    if (n_bn == 0) return DT_OK;
    dt_node *old = g->node;
    g->node = NULL;
    g->n_node = g->cap_node = 0;
    dt_status st = DT_OK;
    dt_node *list = calloc((size_t)(n_old + 2 * n_bn), sizeof *list);
    int32_t n = 0;
    if (!list) {
        st = dt_fail(DT_ERR_MEMORY, "no memory for %d nodes", n_old);
        goto out;
    }
    for (dt_nid i = 0; i < n_old; i++) {
        if (old[i].op != DT_OP_BATCHNORM) {
            list[n++] = old[i];
            continue;
        }
        const dt_node bn = old[i];
        const dt_value x = g->value[bn.in[0]];
        int64_t c = x.dim[x.ndim - 1];
        dt_node *apply;
        if (g->training) {
            char name[DT_NAME_MAX];
            dt_vid stats;
            snprintf(name, sizeof name, "%.*s:stats", DT_NAME_MAX - 8, g->value[bn.out[0]].name);
            DT_TRY_GOTO(st,
                        dt_graph_add_value(g, name, DT_ROLE_ACT, DT_DTYPE_F32, 2, (int64_t[]){2, c}, &stats),
                        out);
            list[n++] = (dt_node){.op = DT_OP_BN_STATS,
                                  .attr = bn.attr,
                                  .n_in = 1,
                                  .n_out = 1,
                                  .in = {bn.in[0]},
                                  .out = {stats},
                                  .phase = bn.phase,
                                  .workspace = -1};
            dt_node *f = &list[n++];
            *f = (dt_node){.op = DT_OP_BN_FINALIZE,
                           .attr = bn.attr,
                           .n_in = 5,
                           .n_out = 4,
                           .in = {stats, bn.in[1], bn.in[2], bn.in[3], bn.in[4]},
                           .out = {bn.out[1], bn.out[2], bn.out[3], bn.out[4]},
                           .phase = bn.phase,
                           .workspace = -1};
            f->attr.kernel[0] = (int32_t)(dt_value_n_elem(&x) / c);
        } else {
            list[n++] = (dt_node){.op = DT_OP_BN_FOLD,
                                  .attr = bn.attr,
                                  .n_in = 4,
                                  .n_out = 2,
                                  .in = {bn.in[1], bn.in[2], bn.in[3], bn.in[4]},
                                  .out = {bn.out[3], bn.out[4]},
                                  .phase = bn.phase,
                                  .workspace = -1};
        }
        apply = &list[n++];
        *apply = (dt_node){.op = DT_OP_BN_APPLY,
                           .attr = bn.attr,
                           .n_in = bn.attr.residual ? 4 : 3,
                           .n_out = 1,
                           .in = {bn.in[0], bn.out[3], bn.out[4], bn.attr.residual ? bn.in[5] : 0},
                           .out = {bn.out[0]},
                           .phase = bn.phase,
                           .workspace = -1};
    }
out:
    free(old);
    g->node = list;
    g->n_node = n;
    g->cap_node = n_old + 2 * n_bn;
    if (st == DT_OK) compact(g);
    return st;
}

static void fuse_conv_stats(dt_graph *g, dt_backend *be, dt_nid i) {
    dt_node *stats = &g->node[i];
    dt_node *conv = made_by(g, stats->in[0], DT_OP_CONV), *finalize = only_reader(g, stats->out[0]);
    if (!conv || conv->attr.stats || conv->attr.apply || !finalize) return;
    if (be->fuse_gain(be, g, DT_FUSE_CONV_STATS, (dt_nid)(conv - g->node)) <= 0) return;
    conv->attr.stats = true;
    conv->out[conv->n_out++] = stats->out[0];
    g->value[stats->out[0]].producer = (dt_nid)(conv - g->node);
    finalize->attr.stats_are_sums = true;
    remove_node(g, i);
}

/* A BN_APPLY whose every reader can normalise while it reads disappears, if that pays in sum. */
static void fuse_prologue(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node apply = g->node[i];
    if (!apply.attr.relu || apply.attr.residual) return;
    double gain = 0;
    int32_t n_reader = 0;
    for (dt_nid k = i + 1; k < g->n_node; k++) {
        const dt_node *n = &g->node[k];
        if ((int)n->op == REMOVED) continue;
        for (int32_t j = 0; j < n->n_in; j++) {
            if (n->in[j] != apply.out[0]) continue;
            if (j != 0 || n->attr.prologue || (n->op != DT_OP_CONV && n->op != DT_OP_CONV_WGRAD)) return;
            double one =
                be->fuse_gain(be, g, n->op == DT_OP_CONV ? DT_FUSE_CONV_PROLOGUE : DT_FUSE_WGRAD_PROLOGUE, k);
            if (one == 0) return; /* this reader cannot; the gain of the others does not help it */
            gain += one;
            n_reader++;
        }
    }
    if (n_reader == 0 || gain <= 0) return;
    for (dt_nid k = i + 1; k < g->n_node; k++) {
        dt_node *n = &g->node[k];
        if ((int)n->op == REMOVED || n->n_in == 0 || n->in[0] != apply.out[0]) continue;
        n->attr.prologue = true;
        n->in[0] = apply.in[0];
        n->in[n->n_in++] = apply.in[1];
        n->in[n->n_in++] = apply.in[2];
    }
    remove_node(g, i);
}

static void fuse_dgrad_bn(dt_graph *g, dt_backend *be, dt_nid i) {
    dt_node *reduce = &g->node[i];
    if (reduce->attr.mask != DT_MASK_FROM_C || reduce->attr.second_grad || reduce->attr.writes_dz) return;
    dt_node *dgrad = made_by(g, reduce->in[0], DT_OP_CONV_DGRAD);
    dt_node *dx = only_reader(g, reduce->out[2]);
    if (!dgrad || dgrad->attr.bn_epilogue || !dx || dx->op != DT_OP_BN_DX || dx->in[0] != reduce->in[0])
        return;
    if (dt_graph_use_count(g, reduce->in[0]) != 2) return;
    if (be->fuse_gain(be, g, DT_FUSE_DGRAD_BN, (dt_nid)(dgrad - g->node)) <= 0) return;
    /* reduce: dy, c, mean, invstd, gamma, scale, shift -> dgrad: dy, w, c, mean, invstd, scale, shift, gamma
     */
    const int32_t order[] = {1, 2, 3, 5, 6, 4};
    for (int32_t k = 0; k < 6; k++) dgrad->in[2 + k] = reduce->in[order[k]];
    dgrad->n_in = 8;
    for (int32_t k = 0; k < 3; k++) {
        dgrad->out[1 + k] = reduce->out[k];
        g->value[reduce->out[k]].producer = (dt_nid)(dgrad - g->node);
    }
    dgrad->n_out = 4;
    dgrad->attr.bn_epilogue = true;
    dx->attr.mask = DT_MASK_NONE;
    dx->n_in = 3;
    remove_node(g, i);
}

static void fuse_dual_apply(dt_graph *g, dt_backend *be, dt_nid i) {
    dt_node *apply = &g->node[i];
    if (!apply->attr.residual || apply->attr.residual_scaled) return;
    dt_node *other = made_by(g, apply->in[3], DT_OP_BN_APPLY);
    if (!other || other->attr.relu || other->attr.residual || dt_graph_use_count(g, apply->in[3]) != 1)
        return;
    if (be->fuse_gain(be, g, DT_FUSE_DUAL_APPLY, i) <= 0) return;
    for (int32_t k = 0; k < 3; k++) apply->in[3 + k] = other->in[k];
    apply->n_in = 6;
    apply->attr.residual_scaled = true;
    remove_node(g, (dt_nid)(other - g->node));
}

static void fuse_second_grad(dt_graph *g, dt_backend *be, dt_nid i) {
    dt_node *reduce = &g->node[i];
    if (reduce->attr.second_grad || reduce->n_in >= DT_MAX_IN) return;
    /* Only where the masked sum is written: otherwise BN_DX still needs the plain sum. */
    dt_node *add = made_by(g, reduce->in[0], DT_OP_ADD);
    if (!add || !reduce->attr.writes_dz || dt_graph_use_count(g, reduce->in[0]) != 1) return;
    if (be->fuse_gain(be, g, DT_FUSE_SECOND_GRAD, i) <= 0) return;
    memmove(&reduce->in[2], &reduce->in[1], (size_t)(reduce->n_in - 1) * sizeof reduce->in[0]);
    reduce->in[0] = add->in[0];
    reduce->in[1] = add->in[1];
    reduce->n_in++;
    reduce->attr.second_grad = true;
    remove_node(g, (dt_nid)(add - g->node));
}

typedef struct fusion_row {
    dt_op op;
    void (*apply)(dt_graph *g, dt_backend *be, dt_nid i);
} fusion_row;

/* In this order: a prologue needs statistics in the same convolution on some backends. */
static const fusion_row fusion_table[] = {
    {DT_OP_BN_STATS, fuse_conv_stats},    {DT_OP_BN_APPLY, fuse_prologue},
    {DT_OP_BN_REDUCE, fuse_dgrad_bn},     {DT_OP_BN_APPLY, fuse_dual_apply},
    {DT_OP_BN_REDUCE, fuse_second_grad},  {DT_OP_MAXPOOL, dt_fuse_pool_prologue},
    {DT_OP_MAXPOOL_BWD, dt_fuse_pool_bn},
};

dt_status dt_pass_fuse_for_backend(dt_graph *g, dt_backend *be) {
    for (size_t f = 0; f < sizeof fusion_table / sizeof fusion_table[0]; f++)
        for (dt_nid i = 0; i < g->n_node; i++)
            if (g->node[i].op == fusion_table[f].op) fusion_table[f].apply(g, be, i);
    compact(g);
    return dt_graph_validate(g);
}

/* Nodes that matter even if nobody reads their outputs: they write states, metrics or gradients. */
static bool has_effect(const dt_graph *g, const dt_node *n) {
    if (n->op == DT_OP_BN_FINALIZE || n->op == DT_OP_BN_GRAM || n->op == DT_OP_XENT) return true;
    for (int32_t j = 0; j < n->n_out; j++)
        if (g->value[n->out[j]].role == DT_ROLE_GRAD) return true;
    return false;
}

dt_status dt_pass_remove_dead(dt_graph *g) {
    bool *read = calloc((size_t)g->n_value + 1, sizeof *read);
    if (!read) return dt_fail(DT_ERR_MEMORY, "no memory for a pass");
    if (g->logits >= 0) read[g->logits] = true;
    for (dt_nid i = g->n_node - 1; i >= 0; i--) {
        dt_node *n = &g->node[i];
        bool live = has_effect(g, n);
        for (int32_t j = 0; j < n->n_out; j++) live |= read[n->out[j]];
        if (!live) {
            remove_node(g, i);
            continue;
        }
        for (int32_t j = 0; j < n->n_in; j++) read[n->in[j]] = true;
    }
    free(read);
    compact(g);
    return DT_OK;
}
