/* The op table, made of the families' rows, and the arithmetic that follows from it. */
#include "core/op.h"

#include <stdio.h>
#include <string.h>

#include "core/call.h"
#include "op_row.h"

static const dt_op_row *const row_table[DT_OP_COUNT] = {
#define DT_OP_ROW(NAME, name) [DT_OP_##NAME] = &dt_row_##name,
    DT_OP_LIST(DT_OP_ROW)
#undef DT_OP_ROW
};

const dt_op_row *dt_op_get(dt_op op) {
    return row_table[op];
}

dt_attr dt_op_attr(dt_op op, const dt_attr *from) {
    dt_attr a = {0};
    for (const dt_attr_row *row = row_table[op]->attr; row->name; row++)
        memcpy(a.bytes + row->offset, from->bytes + row->offset, row->size);
    return a;
}

dt_dtype dt_op_type(const dt_graph *g, const dt_node *n) {
    for (int32_t i = 0; i < n->n_in; i++) {
        const dt_slot_type type = dt_op_in(n->op, i)->type;
        if (n->in[i] < 0 || (type != DT_SLOT_T && type != DT_SLOT_FLOAT)) continue;
        const dt_dtype is = g->value[n->in[i]].dtype;
        return dt_dtype_is_float(is) ? is : g->compute;
    }
    return g->compute;
}

/* Attributes may be anything: the name stands in errors about them. */
const char *dt_op_name(const dt_node *n) {
    const dt_attr *t = &n->attr;
    const char *name = row_table[n->op]->name;
    switch (n->op) {
    case DT_OP_UNARY:
        return (uint32_t)t->unary.fn < DT_UNARY_COUNT ? dt_unary_table[t->unary.fn].name : name;
    case DT_OP_UNARY_BWD:
        return (uint32_t)t->unary.fn < DT_UNARY_COUNT ? dt_unary_table[t->unary.fn].grad_name : name;
    case DT_OP_BINARY:
        return (uint32_t)t->binary.fn < DT_BINARY_COUNT ? dt_binary_table[t->binary.fn].name : name;
    case DT_OP_BINARY_BWD:
        return (uint32_t)t->binary.fn < DT_BINARY_COUNT ? dt_binary_table[t->binary.fn].grad_name : name;
    case DT_OP_CALL:
        return t->call.call ? t->call.call->name : name;
    case DT_OP_RECURRENT:
    case DT_OP_RECURRENT_BWD:
        return (uint32_t)t->recurrent.kind < DT_RECURRENT_COUNT
                   ? dt_recurrent_names[t->recurrent.kind][n->op == DT_OP_RECURRENT_BWD]
                   : name;
    default:
        return name;
    }
}

bool dt_op_is_idle(const dt_graph *g, const dt_node *n) {
    if (row_table[n->op]->flags & DT_OP_VIEW) return true;
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && dt_value_n_elem(&g->value[n->out[i]]) > 0) return false;
    return true;
}

bool dt_op_is_sum(const dt_graph *g, const dt_node *n) {
    return n->op == DT_OP_BINARY && n->attr.binary.fn == DT_BINARY_ADD &&
           dt_infer_same_dims(dt_infer_in(g, n, 0), dt_infer_in(g, n, 1));
}

static int32_t count(const dt_slot *slot) {
    int32_t n = 0;
    while (slot[n].name) n++;
    return n;
}

const dt_slot *dt_op_in(dt_op op, int32_t i) {
    const int32_t last = count(row_table[op]->in) - 1;
    return &row_table[op]->in[i > last && row_table[op]->in[last].many ? last : i];
}

int32_t dt_op_n_in(dt_op op) {
    return count(row_table[op]->in);
}

int32_t dt_op_n_out(dt_op op) {
    return count(row_table[op]->out);
}

double dt_op_bytes(const dt_graph *g, const dt_node *n) {
    if (row_table[n->op]->flags & DT_OP_VIEW) return 0;
    int64_t bytes = 0;
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0) bytes += dt_value_bytes(&g->value[n->in[i]]);
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0) bytes += dt_value_bytes(&g->value[n->out[i]]);
    return (double)bytes;
}

double dt_op_flops(const dt_graph *g, const dt_node *n) {
    if (row_table[n->op]->flags & DT_OP_VIEW) return 0;
    if (row_table[n->op]->flops) return row_table[n->op]->flops(g, n);
    return (double)dt_value_n_elem(&g->value[n->out[0]]);
}

double dt_flops_main(const dt_graph *g, const dt_node *n) {
    return (double)dt_value_n_elem(&g->value[n->in[row_table[n->op]->main]]);
}

double dt_flops_main4(const dt_graph *g, const dt_node *n) {
    return 4.0 * dt_flops_main(g, n);
}

/* One output like the first input. */
dt_status dt_infer_same(const dt_graph *g, const dt_node *n, dt_value *out) {
    dt_infer_like(&out[0], dt_infer_in(g, n, 0));
    return DT_OK;
}

/* "grad/<value>", made unique by a counter where several uses contribute. */
void dt_grad_name(const dt_graph *g, dt_vid v, char *name) {
    const char *base = g->value[v].name;
    snprintf(name, DT_NAME_MAX, "grad/%.*s", DT_NAME_MAX - 16, base);
    for (int32_t k = 2; dt_graph_find(g, name) >= 0; k++)
        snprintf(name, DT_NAME_MAX, "grad/%.*s#%d", DT_NAME_MAX - 16, base, k);
}

dt_status dt_grad_add_node(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, int32_t n_in,
                           const dt_vid *in, dt_vid *out) {
    char name[DT_NAME_MAX];
    dt_grad_name(g, of, name);
    return dt_graph_add_node(g, name, op, attr, n_in, in, out);
}

/* The same of the gradient that stands in slot 0 of in[]. */
dt_status dt_grad_add_of(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, dt_vid dout, dt_vid *out) {
    return dt_grad_add_node(g, of, op, attr, 1, &dout, out);
}
