/* Batch statistics of all ranks (core/pass.h). Forward and backward of batch norm are linear in sums over rows, so a
 * small collective between the sums and their use is all that it takes. */
#include <stdio.h>
#include <stdlib.h>

#include "core/op.h"
#include "core/pass.h"

/* Reads `from` behind which another node makes `to`. */
static void read_instead(dt_graph *g, dt_vid from, dt_vid to) {
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t j = 0; j < g->node[i].n_in; j++)
            if (g->node[i].in[j] == from) g->node[i].in[j] = to;
}

/* The collective over v, for who reads it. */
static dt_status sync_value(dt_graph *g, dt_op op, dt_vid v, dt_phase phase, const dt_attr *t, dt_node *out) {
    const dt_value from = g->value[v];
    char name[DT_NAME_MAX];
    dt_vid all;
    snprintf(name, sizeof name, "%.*s:all", DT_NAME_MAX - 8, from.name);
    DT_TRY(dt_graph_add_value(g, name, DT_ROLE_ACT, DT_DTYPE_F32, from.ndim, from.dim, &all));
    read_instead(g, v, all);
    DT_TRY(dt_graph_blank_node(g, op, t, phase, out));
    out->in[0] = v;
    out->out[0] = all;
    return DT_OK;
}

/* m rows of a normalisation of this rank's: those of all. */
static dt_status rows_of_all(int64_t m, int64_t rows, int64_t rows_all, dt_attr *t) {
    const int64_t m_all = m / rows * rows_all;
    if (m % rows != 0)
        return dt_fail(
            DT_ERR_UNSUPPORTED,
            "batch statistics of all ranks need the same number of values of every sample, but %lld "
            "samples have %lld of a channel: set train.sync_batch_norm = false",
            (long long)rows, (long long)m);
    if (m_all > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG,
                       "more than 2^31 - 1 values per channel on all ranks: a smaller batch or image, or "
                       "train.sync_batch_norm = false");
    *t = (dt_attr){.norm.rows = (int32_t)m, .norm.rows_all = (int32_t)m_all};
    return DT_OK;
}

/* What goes before or behind node i into list[*n]. */
static dt_status sync_one(dt_graph *g, dt_nid i, int64_t rows, int64_t rows_all, dt_node *list, int32_t *n) {
    dt_node *node = &g->node[i];
    dt_attr t;
    if (node->op == DT_OP_BN_FINALIZE) {
        DT_TRY(rows_of_all(node->attr.norm.rows, rows, rows_all, &t));
        DT_TRY(sync_value(g, DT_OP_BN_SYNC, node->in[DT_FINALIZE_IN_STATS], node->phase, &t, &list[(*n)++]));
        node->attr.norm.rows = t.norm.rows_all;
    }
    list[(*n)++] = *node;
    const dt_vid coef = node->op == DT_OP_BN_REDUCE ? node->out[DT_REDUCE_OUT_COEF] : -1;
    if (coef < 0 || dt_graph_use_count(g, coef) == 0) return DT_OK;
    const dt_value *c = &g->value[node->in[DT_REDUCE_IN_C]];
    DT_TRY(rows_of_all(dt_value_n_elem(c) / c->dim[c->ndim - 1], rows, rows_all, &t));
    return sync_value(g, DT_OP_BN_SYNC_GRAD, coef, node->phase, &t, &list[(*n)++]);
}

dt_status dt_pass_sync_batchnorm(dt_graph *g, int64_t rows, int64_t rows_all) {
    const int32_t cap = g->n_node * 2 + 1;
    int32_t n = 0;
    dt_node *list = calloc((size_t)cap, sizeof *list);
    if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for %d nodes", cap);
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_status st = sync_one(g, i, rows, rows_all, list, &n);
        if (st == DT_OK) continue;
        free(list);
        return st;
    }
    free(g->node);
    g->node = list;
    g->n_node = n;
    g->cap_node = cap;
    dt_graph_compact(g);
    return dt_graph_validate(g);
}
