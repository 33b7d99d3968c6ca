/* What tests of passes ask of a graph: copies, counts, and that every node fits its op. Header only. */
#ifndef DT_TEST_GRAPH_CHECK_H
#define DT_TEST_GRAPH_CHECK_H

#include <stdlib.h>
#include <string.h>

#include "core/graph.h"
#include "core/op.h"
#include "test_check.h"

/* A deep copy, full to the brim: whatever is added to it must make its arrays grow. */
static inline dt_graph *graph_clone(const dt_graph *g) {
    dt_graph *c = check_alloc(sizeof *c);
    *c = *g;
    c->cap_node = g->n_node;
    c->value = check_alloc((size_t)g->cap_value * sizeof *c->value);
    c->by_name = check_alloc((size_t)g->cap_value * 2 * sizeof *c->by_name);
    memcpy(c->by_name, g->by_name, (size_t)g->cap_value * 2 * sizeof *c->by_name);
    c->node = check_alloc((size_t)g->n_node * sizeof *c->node);
    memcpy(c->value, g->value, (size_t)g->n_value * sizeof *c->value);
    c->slots = NULL;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        dt_node copy;
        check_ok(dt_graph_blank_node(c, n->op, &n->attr, n->phase, &copy));
        memcpy(copy.in, n->in, (size_t)n->n_in * sizeof *n->in);
        memcpy(copy.out, n->out, (size_t)n->n_out * sizeof *n->out);
        copy.workspace = n->workspace, copy.workspace_bytes = n->workspace_bytes;
        c->node[i] = copy;
    }
    return c;
}

static inline int32_t graph_count(const dt_graph *g, dt_op op) {
    int32_t n = 0;
    for (dt_nid i = 0; i < g->n_node; i++) n += g->node[i].op == op;
    return n;
}

/* Inputs, outputs and attributes of every node fit by the op's own rule; gradients are made in backward. */
static inline void graph_need_sound(const dt_graph *g) {
    check_ok(dt_graph_validate(g));
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        dt_value outs[DT_SLOTS_OUT_MAX] = {0};
        check_ok(dt_op_get(n->op)->infer(g, n, outs));
        for (int32_t k = 0; k < n->n_out; k++) {
            if (n->out[k] < 0) continue;
            const dt_value *v = &g->value[n->out[k]];
            assert_int_equal(outs[k].dtype, v->dtype);
            assert_int_equal(outs[k].ndim, v->ndim);
            if (memcmp(outs[k].dim, v->dim, (size_t)v->ndim * sizeof v->dim[0]) != 0)
                fail_msg("%s of %s is %s", v->name, dt_op_get(n->op)->name, dt_value_shape_text(v));
        }
        if (n->op == DT_OP_CONV_DGRAD || n->op == DT_OP_CONV_WGRAD || n->op == DT_OP_BN_REDUCE)
            assert_int_equal(n->phase, DT_PHASE_BACKWARD);
    }
}

#endif
