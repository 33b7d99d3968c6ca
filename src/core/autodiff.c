/* Reverse-mode differentiation: walks the forward nodes backwards and sums contributions where a value is
 * used more than once. */
#include "core/autodiff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op_row.h"

/* needs[v]: a parameter that is trained influences v. */
static void mark_needs(const dt_graph *g, bool *needs) {
    for (dt_vid v = 0; v < g->n_value; v++)
        needs[v] = g->value[v].role == DT_ROLE_PARAM && !g->value[v].frozen;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        if (!dt_op_get(n->op)->grad) continue;
        bool any = false;
        for (int32_t j = 0; j < n->n_in; j++) any |= n->in[j] >= 0 && needs[n->in[j]];
        for (int32_t j = 0; j < n->n_out; j++)
            if (n->out[j] >= 0) needs[n->out[j]] |= any;
    }
}

/* Adds one contribution to the gradient of v. */
static dt_status contribute(dt_graph *g, dt_vid v, dt_vid contribution, dt_vid *grad) {
    if (grad[v] < 0) {
        grad[v] = contribution;
        return DT_OK;
    }
    char name[DT_NAME_MAX];
    for (int32_t k = 2;; k++) {
        snprintf(name, sizeof name, "sum/%.*s#%d", DT_NAME_MAX - 16, g->value[v].name, k);
        if (dt_graph_find(g, name) < 0) break;
    }
    return dt_graph_add_node(g, name, DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_ADD}, 2,
                             (dt_vid[]){grad[v], contribution}, &grad[v]);
}

/* A gradient lies on the axis, alone: a view of another value, and what is also another parameter's, is copied. */
static dt_status own_gradient(dt_graph *g, dt_vid param, dt_vid *grad) {
    const dt_value *d = &g->value[*grad];
    if (d->alias_of < 0 && d->role == DT_ROLE_ACT) return DT_OK;
    char name[DT_NAME_MAX];
    dt_grad_name(g, param, name);
    return dt_graph_add_node(g, name, DT_OP_CAST, &(dt_attr){.cast.dtype = d->dtype}, 1, grad, grad);
}

/* A node without a gradient that computes with v, however far behind it; -1: there is none. */
static dt_nid blind_node_behind(const dt_graph *g, int32_t n_forward, dt_vid v) {
    bool *behind = calloc((size_t)g->n_value, sizeof *behind);
    dt_nid found = -1;
    if (behind) behind[v] = true;
    for (dt_nid i = 0; behind && i < n_forward && found < 0; i++) {
        const dt_node *n = &g->node[i];
        bool reads = false;
        for (int32_t j = 0; j < n->n_in; j++) reads |= n->in[j] >= 0 && behind[n->in[j]];
        for (int32_t j = 0; j < n->n_out && reads; j++)
            if (n->out[j] >= 0) behind[n->out[j]] = true;
        if (reads && dt_op_get(n->op)->flags & DT_OP_NO_GRADIENT) found = i;
    }
    free(behind);
    return found;
}

static dt_status fail_unreached(const dt_graph *g, int32_t n_forward, dt_vid v) {
    const dt_nid blind = blind_node_behind(g, n_forward, v);
    if (blind >= 0)
        return dt_fail(
            DT_ERR_UNSUPPORTED,
            "no gradient reaches parameter %s: %s, %s, stands behind it and has none; a network exported "
            "in training mode is to be exported in evaluation mode, what stands before it may be frozen: "
            "[[optim.groups]] with frozen = true, or model.freeze",
            g->value[v].name, g->value[g->node[blind].out[0]].name, dt_op_name(&g->node[blind]));
    return dt_fail(DT_ERR_CONFIG, "the loss does not depend on parameter %s: remove the layer or connect it",
                   g->value[v].name);
}

dt_status dt_autodiff(dt_graph *g) {
    DT_ASSERT(g->training && g->n_loss > 0);
    const int32_t n_forward = g->n_node, n_value = g->n_value;
    dt_status st = DT_OK;
    bool *needs = calloc((size_t)n_value, sizeof *needs);
    dt_vid *grad = malloc((size_t)n_value * sizeof *grad);
    int32_t widest = 1;
    for (dt_nid i = 0; i < n_forward; i++)
        if (g->node[i].n_in > widest) widest = g->node[i].n_in;
    bool *want = malloc((size_t)widest * sizeof *want);
    dt_vid *din = malloc((size_t)widest * sizeof *din);
    if (!needs || !grad || !want || !din) {
        st = dt_fail(DT_ERR_MEMORY, "no memory to differentiate %d values", n_value);
        goto out;
    }
    for (dt_vid v = 0; v < n_value; v++) grad[v] = -1;
    mark_needs(g, needs);

    for (dt_nid i = n_forward - 1; i >= 0; i--) {
        const dt_node n = g->node[i];
        const dt_op_row *row = dt_op_get(n.op);
        bool reached = false;
        dt_vid dout[DT_SLOTS_OUT_MAX];
        for (int32_t j = 0; j < n.n_out; j++) {
            dout[j] = n.out[j] >= 0 ? grad[n.out[j]] : -1;
            reached |= n.out[j] >= 0 && needs[n.out[j]] && (dout[j] >= 0 || dt_graph_is_loss(g, n.out[j]));
        }
        if (reached && row->flags & DT_OP_SEED && dout[0] >= 0) {
            st =
                dt_fail(DT_ERR_CONFIG,
                        "%s, a loss, is computed with: gradients start at a loss, and none passes through it",
                        g->value[n.out[0]].name);
            goto out;
        }
        if (reached && row->flags & DT_OP_NO_GRADIENT) {
            st = dt_fail(DT_ERR_UNSUPPORTED,
                         "%s, %s, has no gradient: what stands before it cannot be trained; freeze that: "
                         "[[optim.groups]] with frozen = true, or model.freeze",
                         g->value[n.out[0]].name, dt_op_name(&n));
            goto out;
        }
        if (!row->grad || !reached) continue;
        for (int32_t j = 0; j < n.n_in; j++) want[j] = n.in[j] >= 0 && needs[n.in[j]], din[j] = -1;
        DT_TRY_GOTO(st, row->grad(g, i, dout, want, din), out);
        for (int32_t j = 0; j < n.n_in; j++)
            if (want[j] && din[j] >= 0) DT_TRY_GOTO(st, contribute(g, n.in[j], din[j], grad), out);
    }
    for (dt_vid v = 0; v < n_value; v++) {
        if (g->value[v].role != DT_ROLE_PARAM || g->value[v].frozen) continue;
        if (grad[v] < 0) {
            st = fail_unreached(g, n_forward, v);
            goto out;
        }
        DT_TRY_GOTO(st, own_gradient(g, v, &grad[v]), out);
        dt_value *d = &g->value[grad[v]];
        d->role = DT_ROLE_GRAD;
        d->grad_of = v;
    }
    for (dt_nid i = n_forward; i < g->n_node; i++) g->node[i].phase = DT_PHASE_BACKWARD;
out:
    free(needs);
    free(grad);
    free(want);
    free(din);
    return st;
}
