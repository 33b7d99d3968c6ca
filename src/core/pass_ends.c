/* Products of graphs that are not trained: constants behind them go into their weights, and what their results pass at
 * once, a sum and a function, becomes their end.
 *
 * On a graph of f32 the ends change no bit where a device adds and applies in the order of the nodes; constants in the
 * weights change the last one. */
#include <math.h>
#include <stdlib.h>
#include <stdio.h>

#include "pass_fuse.h"

/* Where a product has its operands. */
typedef struct product_row {
    dt_op op;
    int32_t w, bias, res, scale; /* scale -1: it has none */
} product_row;

static const product_row product_table[] = {
    {DT_OP_CONV, DT_CONV_IN_W, DT_CONV_IN_BIAS, DT_CONV_IN_RES, DT_CONV_IN_SCALE},
    {DT_OP_DENSE, DT_DENSE_IN_W, DT_DENSE_IN_BIAS, DT_DENSE_IN_RES, -1},
};

static const product_row *row_of(dt_op op) {
    for (size_t k = 0; k < sizeof product_table / sizeof product_table[0]; k++)
        if (product_table[k].op == op) return &product_table[k];
    return NULL;
}

static int32_t *act_of(dt_node *n) {
    return n->op == DT_OP_CONV ? &n->attr.window.act : &n->attr.dense.act;
}

/* The product that makes v for one reader alone, and its row; -1: none. */
static dt_nid product_of(dt_graph *g, dt_vid v, const product_row **row) {
    const dt_nid id = v >= 0 ? g->value[v].producer : -1;
    if (id < 0 || g->node[id].out[0] != v) return -1;
    *row = row_of(g->node[id].op);
    return *row && dt_graph_use_count(g, v) == 1 ? id : -1;
}

/* Nothing stands behind its sums yet but a bias. */
static bool is_bare(dt_node *n, const product_row *row) {
    return *act_of(n) == DT_ACT_NONE && !dt_node_has(n, row->res) &&
           (row->scale < 0 || (!dt_node_has(n, row->scale) && !dt_node_has(n, DT_CONV_IN_PRE_SCALE) &&
                               !dt_node_makes(n, DT_CONV_OUT_STATS)));
}

/* ---- constants ---- */

/* Numbers that are never others: nothing of the graph is trained. */
const float *dt_pass_known(const dt_graph *g, dt_vid v) {
    if (v < 0) return NULL;
    const dt_value *p = &g->value[v];
    const bool constant = p->role == DT_ROLE_PARAM || p->role == DT_ROLE_STATE;
    return constant && dt_dtype_is_float(p->dtype) ? p->init_data : NULL;
}

/* A constant like `from` with n numbers of its own, which are the graph's. */
dt_status dt_pass_add_constant(dt_graph *g, dt_vid from, const char *what, dt_dtype dtype, int32_t ndim,
                               const int64_t *dim, float *data, dt_vid *out) {
    char name[DT_NAME_MAX];
    snprintf(name, sizeof name, "%.*s:%s", DT_NAME_MAX - 24, g->value[from].name, what);
    for (int32_t k = 2; dt_graph_find(g, name) >= 0; k++)
        snprintf(name, sizeof name, "%.*s:%s%d", DT_NAME_MAX - 24, g->value[from].name, what, k);
    DT_TRY(dt_graph_own(g, data, free));
    DT_TRY(dt_graph_add_value(g, name, DT_ROLE_PARAM, dtype, ndim, dim, out));
    dt_value *p = &g->value[*out];
    p->init_data = data;
    p->frozen = p->constant = true;
    p->stored_c = g->value[from].ndim == ndim ? g->value[from].stored_c : 0;
    return DT_OK;
}

/* Batch norm by known statistics behind a product of known weights. */
static dt_status fold_batchnorm(dt_graph *g, dt_nid i) {
    const dt_node *bn = &g->node[i];
    const product_row *row;
    const dt_nid id = product_of(g, bn->in[DT_BN_IN_X], &row);
    if (id < 0 || !is_bare(&g->node[id], row) || bn->attr.norm.relu || dt_node_has(bn, DT_BN_IN_RES))
        return DT_OK;
    const dt_node *n = &g->node[id];
    const float *w = dt_pass_known(g, n->in[row->w]), *gamma = dt_pass_known(g, bn->in[DT_BN_IN_GAMMA]),
                *beta = dt_pass_known(g, bn->in[DT_BN_IN_BETA]),
                *mean = dt_pass_known(g, bn->in[DT_BN_IN_RMEAN]),
                *var = dt_pass_known(g, bn->in[DT_BN_IN_RVAR]);
    const bool biased = dt_node_has(n, row->bias);
    const float *bias = biased ? dt_pass_known(g, n->in[row->bias]) : NULL;
    if (!w || !gamma || !beta || !mean || !var || (biased && !bias)) return DT_OK;
    for (int32_t k = DT_BN_OUT_MEAN; k <= DT_BN_OUT_SHIFT; k++)
        if (dt_node_makes(bn, k) && dt_graph_use_count(g, bn->out[k]) > 0) return DT_OK;
    const dt_value weight = g->value[n->in[row->w]];
    const int64_t k = weight.dim[0], inner = dt_value_n_elem(&weight) / k;
    float *folded = malloc((size_t)(k * inner) * sizeof *folded), *shift = malloc((size_t)k * sizeof *shift);
    if (!folded || !shift) {
        free(folded), free(shift);
        return dt_fail(DT_ERR_MEMORY, "no memory for %lld folded weights", (long long)(k * inner));
    }
    for (int64_t c = 0; c < k; c++) {
        const double scale = gamma[c] / sqrt((double)var[c] + (double)bn->attr.norm.eps);
        for (int64_t j = 0; j < inner; j++) folded[c * inner + j] = (float)(w[c * inner + j] * scale);
        shift[c] = (float)(beta[c] + ((bias ? bias[c] : 0.0) - mean[c]) * scale);
    }
    dt_vid new_w = -1, new_bias = -1;
    dt_status st = dt_pass_add_constant(g, n->in[row->w], "folded", weight.dtype, weight.ndim, weight.dim,
                                        folded, &new_w);
    if (st != DT_OK) {
        free(shift);
        return st;
    }
    DT_TRY(dt_pass_add_constant(g, n->in[row->w], "shift", DT_DTYPE_F32, 1, &k, shift, &new_bias));
    g->node[id].in[row->w] = new_w;
    g->node[id].in[row->bias] = new_bias;
    const dt_vid y = g->node[i].out[DT_BN_OUT_Y];
    dt_graph_remove_node(g, i);
    dt_pass_replace_uses(g, y, g->node[id].out[0]);
    return DT_OK;
}

/* A bias in the type of the products, as libraries want it beside 16-bit ones. */
static dt_status round_bias(dt_graph *g, dt_nid i, const product_row *row) {
    const dt_vid v = dt_node_has(&g->node[i], row->bias) ? g->node[i].in[row->bias] : -1;
    const float *data = dt_pass_known(g, v);
    const dt_dtype t = dt_op_type(g, &g->node[i]);
    if (!data || g->value[v].dtype == t || g->value[v].ndim != 1) return DT_OK;
    const dt_value from = g->value[v];
    float *copy = malloc((size_t)from.dim[0] * sizeof *copy);
    if (!copy) return dt_fail(DT_ERR_MEMORY, "no memory for a bias");
    for (int64_t k = 0; k < from.dim[0]; k++) copy[k] = data[k];
    dt_vid rounded;
    DT_TRY(dt_pass_add_constant(g, v, dt_dtype_name(t), t, 1, from.dim, copy, &rounded));
    g->node[i].in[row->bias] = rounded;
    return DT_OK;
}

dt_status dt_pass_fold_constants(dt_graph *g) {
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_BATCHNORM) DT_TRY(fold_batchnorm(g, i));
    dt_graph_compact(g);
    for (dt_nid i = 0; i < g->n_node; i++) {
        const product_row *row = row_of(g->node[i].op);
        if (row) DT_TRY(round_bias(g, i, row));
    }
    return dt_graph_validate(g);
}

/* ---- ends ---- */

/* The product `id` at the place of node i, whose result it makes; *now is for the caller to complete. */
static dt_status propose(dt_rewrite *r, dt_graph *g, dt_backend *be, dt_nid id, dt_nid i, dt_node **now) {
    const dt_node from = g->node[id];
    dt_rewrite_begin(r, g, be);
    DT_TRY(dt_rewrite_drop(r, id));
    DT_TRY(dt_rewrite_put(r, i, from.op, &from.attr, now));
    for (int32_t k = 0; k < from.n_in; k++) (*now)->in[k] = from.in[k];
    (*now)->out[0] = g->node[i].out[0];
    return DT_OK;
}

/* A function without scalars as a product's end; DT_ACT_NONE: it is none. */
static int32_t act_of_unary(const dt_unary_attr *t) {
    if (t->fn == DT_UNARY_CLAMP && t->a == 0 && t->b == 6) return 1 + DT_UNARY_RELU6;
    return dt_unary_table[t->fn].param[0].name ? DT_ACT_NONE : 1 + (int32_t)t->fn;
}

static dt_status end_in_function(dt_graph *g, dt_backend *be, dt_nid i) {
    const int32_t act = act_of_unary(&g->node[i].attr.unary);
    const product_row *row;
    const dt_nid id = act == DT_ACT_NONE ? -1 : product_of(g, g->node[i].in[0], &row);
    if (id < 0 || *act_of(&g->node[id]) != DT_ACT_NONE ||
        (row->scale >= 0 &&
         (dt_node_has(&g->node[id], DT_CONV_IN_PRE_SCALE) || dt_node_makes(&g->node[id], DT_CONV_OUT_STATS))))
        return DT_OK;
    dt_rewrite r;
    dt_node *n;
    DT_TRY(propose(&r, g, be, id, i, &n));
    *act_of(n) = act;
    dt_rewrite_take(&r);
    return DT_OK;
}

dt_status dt_pass_end_in_sum(dt_graph *g, dt_backend *be, dt_nid i, bool dense_alone) {
    if (!dt_op_is_sum(g, &g->node[i])) return DT_OK;
    for (int32_t k = 0; k < 2; k++) {
        const product_row *row;
        const dt_vid other = g->node[i].in[1 - k];
        const dt_nid id = product_of(g, g->node[i].in[k], &row);
        if (id < 0 || !is_bare(&g->node[id], row) || (dense_alone && row->op != DT_OP_DENSE)) continue;
        dt_rewrite r;
        dt_node *n;
        DT_TRY(propose(&r, g, be, id, i, &n));
        n->in[row->res] = other;
        if (dt_rewrite_take(&r)) return DT_OK;
    }
    return DT_OK;
}

/* Batch norm whose numbers may change from run to run. */
static dt_status end_in_apply(dt_graph *g, dt_backend *be, dt_nid i) {
    const dt_node apply = g->node[i];
    const product_row *row;
    const dt_nid id = product_of(g, apply.in[DT_APPLY_IN_X], &row);
    if (id < 0 || row->scale < 0 || !is_bare(&g->node[id], row) || dt_node_has(&g->node[id], row->bias))
        return DT_OK;
    dt_rewrite r;
    dt_node *n;
    DT_TRY(propose(&r, g, be, id, i, &n));
    for (int32_t k = DT_APPLY_IN_SCALE; k <= DT_APPLY_IN_RES_SHIFT; k++)
        if (dt_node_has(&apply, k)) n->in[DT_CONV_IN_SCALE + k - DT_APPLY_IN_SCALE] = apply.in[k];
    *act_of(n) = apply.attr.norm.relu ? DT_ACT_RELU : DT_ACT_NONE;
    dt_rewrite_take(&r);
    return DT_OK;
}

dt_status dt_pass_ends(dt_graph *g, dt_backend *be) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        if (g->node[i].op == DT_OP_BINARY) DT_TRY(dt_pass_end_in_sum(g, be, i, false));
        if (g->node[i].op == DT_OP_UNARY) DT_TRY(end_in_function(g, be, i));
        if (g->node[i].op == DT_OP_BN_APPLY) DT_TRY(end_in_apply(g, be, i));
    }
    dt_graph_compact(g);
    return dt_graph_validate(g);
}
