/* A network's graph anew: the ops of the one that was written, over another number of rows. */
#include <stdlib.h>

#include "core/op.h"
#include "net.h"

/* Inputs, parameters and states. */
static dt_status copy_values(const dt_graph *from, int64_t rows, dt_graph *to, dt_vid *map) {
    for (dt_vid v = 0; v < from->n_value; v++) {
        const dt_value *old = &from->value[v];
        if (old->producer >= 0) continue;
        int64_t dim[DT_MAX_DIM];
        for (int32_t d = 0; d < old->ndim; d++) dim[d] = old->dim[d];
        if (old->role == DT_ROLE_INPUT) dim[0] = rows;
        DT_TRY(dt_graph_add_value(to, old->name, old->role, old->dtype, old->ndim, dim, &map[v]));
        dt_value *new = &to->value[map[v]];
        new->init = old->init;
        new->fan_in = old->fan_in;
        new->fan_out = old->fan_out;
        new->init_std = old->init_std;
        new->init_data = old->init_data; /* of the network, which outlives its copies */
        new->constant = old->constant;
        new->zero_row = old->zero_row;
        new->decay = old->decay;
        new->stored_c = old->stored_c;
        memcpy(new->grid, old->grid, sizeof new->grid);
    }
    return DT_OK;
}

/* The operands in the copy are in `in`. */
static dt_status copy_node(const dt_graph *from, const dt_node *n, dt_graph *to, dt_vid *map, dt_vid *in) {
    dt_attr attr = n->attr;
    uint32_t wanted = 0;
    for (int32_t j = 0; j < n->n_in; j++) in[j] = n->in[j] >= 0 ? map[n->in[j]] : -1;
    if (!to->training && n->op == DT_OP_DROPOUT) { /* the identity */
        map[n->out[0]] = in[0];
        return DT_OK;
    }
    if (!to->training && n->op == DT_OP_XENT) attr.loss.smoothing = 0;
    if (!to->training && n->op == DT_OP_INPUT && n->n_in > DT_INPUT_MIX) in[DT_INPUT_MIX] = -1;
    if (!to->training && n->op == DT_OP_XENT && n->n_in > DT_XENT_IN_PARTNER)
        in[DT_XENT_IN_PARTNER] = in[DT_XENT_IN_SHARE] = -1;
    /* What nobody reads was for a gradient. */
    for (int32_t j = 0; j < n->n_out; j++)
        if (n->out[j] >= 0 && (to->training || dt_graph_use_count(from, n->out[j]) > 0)) wanted |= 1u << j;
    DT_TRY(dt_graph_add_node_with(to, from->value[n->out[0]].name, n->op, &attr, n->n_in, in, wanted, NULL));
    const dt_node *made = &to->node[to->n_node - 1];
    for (int32_t j = 0; j < n->n_out; j++)
        if (n->out[j] >= 0) map[n->out[j]] = made->out[j]; /* -1: not wanted */
    return DT_OK;
}

static dt_status copy_nodes(const dt_graph *from, dt_graph *to, dt_vid *map) {
    int32_t most = 1;
    for (dt_nid i = 0; i < from->n_node; i++)
        if (from->node[i].n_in > most) most = from->node[i].n_in;
    dt_vid *in = malloc((size_t)most * sizeof *in);
    if (!in) return dt_fail(DT_ERR_MEMORY, "no memory to copy a network");
    dt_status st = DT_OK;
    for (dt_nid i = 0; st == DT_OK && i < from->n_node; i++)
        st = copy_node(from, &from->node[i], to, map, in);
    free(in);
    return st;
}

static dt_status copy_all(const dt_graph *from, int64_t rows, dt_graph *to, dt_vid *map) {
    DT_TRY(copy_values(from, rows, to, map));
    DT_TRY(copy_nodes(from, to, map));
    for (int32_t i = 0; i < from->n_output; i++)
        DT_TRY(dt_graph_add_output(to, from->output[i].name, map[from->output[i].value]));
    for (int32_t i = 0; i < from->n_loss; i++) DT_TRY(dt_graph_add_loss(to, map[from->loss[i]]));
    return DT_OK;
}

dt_status dt_net_instance(const dt_graph *from, int64_t rows, bool training, dt_graph **out) {
    dt_graph *to;
    *out = NULL;
    dt_vid *map = malloc(((size_t)from->n_value + 1) * sizeof *map);
    if (!map) return dt_fail(DT_ERR_MEMORY, "no memory for a graph of %d values", from->n_value);
    dt_status st = dt_graph_create(&to, from->compute, training);
    if (st == DT_OK) {
        st = copy_all(from, rows, to, map);
        if (st == DT_OK)
            *out = to;
        else
            dt_graph_destroy(to);
    }
    free(map);
    return st;
}
