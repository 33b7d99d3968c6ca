/* Whether a graph and what passes made of it compute the same. Header only. */
#ifndef DT_TEST_SAME_FUNCTION_H
#define DT_TEST_SAME_FUNCTION_H

#include "graph_check.h"
#include "graph_program.h"
#include "stand_in.h"

static uint32_t same_can; /* what the CPU is said to have kernels for */

static inline double same_cost(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n) {
    (void)be;
    return stand_in_price(same_can, g, node, n);
}

/* A copy with those fusions; every node of it fits its op's own rule. */
static inline dt_graph *same_fused(const dt_graph *g, dt_backend *be, uint32_t fusions) {
    dt_graph *f = graph_clone(g);
    same_can = fusions;
    be->cost = same_cost;
    check_ok(dt_pass_fuse_for_backend(f, be));
    check_ok(dt_pass_remove_dead(f));
    graph_need_sound(f);
    return f;
}

/* What matters of a graph: everything that outlives a program. */
static inline bool same_is_result(const dt_graph *g, dt_vid v) {
    const dt_role role = g->value[v].role;
    return role == DT_ROLE_METRIC || role == DT_ROLE_STATE || role == DT_ROLE_GRAD ||
           v == dt_graph_output(g, "logits");
}

/* The fused graph gives what the plain one does: by the oracle, and on the CPU. Takes both. */
static inline void need_same(dt_backend *be, dt_graph *g, dt_graph *f, dt_axis *axis, const char *what) {
    oracle plain = oracle_open(g, &live_step), after = oracle_open(f, &live_step);
    oracle_reset(&plain, axis), oracle_reset(&after, axis);
    oracle_run(&plain, g->n_node), oracle_run(&after, f->n_node);
    dt_graph *bound = graph_clone(f); /* binding adds workspaces */
    live l = live_open(be, axis, bound, NULL);
    check_ok(dt_program_run(l.program, NULL, NULL));
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (!same_is_result(g, v)) continue;
        double d = check_distance(after.data[v], plain.data[v], dt_value_n_elem(&g->value[v]));
        if (!(d <= 1e-9)) fail_msg("%s: %s is off by %.2e", what, g->value[v].name, d);
        d = live_distance(&l, &plain, v);
        if (!(d <= 2e-4)) fail_msg("%s: %s on the CPU is off by %.2e", what, g->value[v].name, d);
    }
    oracle_close(&plain), oracle_close(&after);
    live_close(&l);
    dt_graph_destroy(g), dt_graph_destroy(f);
    dt_axis_destroy(axis);
}

#endif
