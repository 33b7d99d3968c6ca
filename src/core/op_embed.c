/* Rows of a table by number, and places in a sequence. */
#include "op_row.h"

static dt_status need_padding(const dt_node *n, int64_t rows) {
    if (n->attr.embed.padding >= -1 && n->attr.embed.padding < rows) return DT_OK;
    return dt_fail(DT_ERR_CONFIG,
                   "padding index %d: the table has rows 0 to %lld, and -1 says that there is none",
                   n->attr.embed.padding, (long long)(rows - 1));
}

static dt_status infer_embed(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *w = dt_infer_in(g, n, DT_EMBED_IN_WEIGHT), *index = dt_infer_in(g, n, DT_EMBED_IN_INDEX);
    if (w->ndim != 2 && w->ndim != 3)
        return dt_fail(DT_ERR_CONFIG, "%s is %s, expected a table of rows, or one for each sample", w->name,
                       dt_value_shape_text(w));
    DT_TRY(need_padding(n, w->dim[w->ndim - 2]));
    if (w->ndim == 3 && w->dim[0] != index->dim[0]) return dt_infer_misfit(g, n, DT_EMBED_IN_INDEX);
    if (index->ndim == DT_MAX_DIM)
        return dt_fail(DT_ERR_CONFIG,
                       "%s is %s: with the table's columns it would have more than %d dimensions",
                       index->name, dt_value_shape_text(index), DT_MAX_DIM);
    dt_infer_set(&out[0], w->dtype, index->ndim, index->dim);
    out[0].dim[out[0].ndim++] = dt_infer_last(w);
    return DT_OK;
}

static dt_status infer_embed_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *dy = dt_infer_in(g, n, 0), *index = dt_infer_in(g, n, 1);
    dt_value rows = *dy;
    rows.ndim--;
    const int64_t tables = n->attr.embed.tables;
    if (n->attr.embed.rows < 1 || tables < 0)
        return dt_fail(DT_ERR_CONFIG, "%lld tables of %lld rows", (long long)tables,
                       (long long)n->attr.embed.rows);
    DT_TRY(need_padding(n, n->attr.embed.rows));
    if (!dt_infer_same_dims(index, &rows) || dt_value_n_elem(index) > INT32_MAX ||
        (tables > 0 && index->dim[0] != tables))
        return dt_infer_misfit(g, n, 1);
    if (tables > 0)
        DT_INFER_SET(&out[0], dt_op_type(g, n), tables, n->attr.embed.rows, dt_infer_last(dy));
    else
        DT_INFER_SET(&out[0], dt_op_type(g, n), n->attr.embed.rows, dt_infer_last(dy));
    return DT_OK;
}

static dt_status infer_one_hot(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *index = dt_infer_in(g, n, 0);
    if (n->attr.embed.rows < 1)
        return dt_fail(DT_ERR_CONFIG, "%lld places for one", (long long)n->attr.embed.rows);
    if (index->ndim == DT_MAX_DIM)
        return dt_fail(DT_ERR_CONFIG, "%s is %s: there would be more than %d dimensions", index->name,
                       dt_value_shape_text(index), DT_MAX_DIM);
    dt_infer_set(&out[0], dt_op_type(g, n), index->ndim, index->dim);
    out[0].dim[out[0].ndim++] = n->attr.embed.rows;
    return DT_OK;
}

static dt_status grad_embed(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid w = n.in[DT_EMBED_IN_WEIGHT];
    dt_attr t = n.attr;
    const dt_value *table = &g->value[w];
    t.embed.rows = table->dim[table->ndim - 2];
    t.embed.tables = table->ndim == 3 ? table->dim[0] : 0;
    if (!want[DT_EMBED_IN_WEIGHT]) return DT_OK;
    return dt_grad_add_node(g, w, DT_OP_EMBED_BWD, &t, 2, (dt_vid[]){dout[0], n.in[DT_EMBED_IN_INDEX]},
                            &din[DT_EMBED_IN_WEIGHT]);
}

const dt_op_row dt_row_embed = {
    .name = "embed",
    .doc = "y [...,C] = rows of weight [V,C] by index [...], as PyTorch's embedding, or of weight [N,V,C] by "
           "index [N,...], each sample's of its own; an index outside the table gives zeros (the cpu backend "
           "refuses it). padding: a row that learns nothing; -1: none.",
    .in = {T("weight"), {.name = "index", .type = DT_SLOT_I32}},
    .out = {T("y")},
    .attr = {LEARNS(embed, padding)},
    .infer = infer_embed,
    .grad = grad_embed,
};

const dt_op_row dt_row_one_hot = {
    .name = "one_hot",
    .doc = "y [...,rows] = 1 where index [...] says, 0 elsewhere; all 0 where it is outside.",
    .in = {{.name = "index", .type = DT_SLOT_I32}},
    .out = {T("y")},
    .attr = {A(embed, rows)},
    .infer = infer_one_hot,
};

const dt_op_row dt_row_embed_bwd = {
    .name = "embed_bwd",
    .doc =
        "dw [V,C], with tables [N,V,C]: of each row the sum of dy where index names it, in the order of the "
        "indices; 0 for the padding and what no index names.",
    .in = {T("dy"), {.name = "index", .type = DT_SLOT_I32}},
    .out = {T("dw")},
    .flags = DT_OP_INTERNAL,
    .attr = {LEARNS(embed, padding), A(embed, rows), A(embed, tables)},
    .infer = infer_embed_bwd,
    .flops = dt_flops_main,
};
