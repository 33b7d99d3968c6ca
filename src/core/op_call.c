/* Functions of the host. */
#include "core/call.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/backend.h"
#include "op_row.h"

static dt_status infer_call(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_call *c = n->attr.call.call;
    (void)g;
    if (!c || c->n_out < 1 || c->n_out > DT_SLOTS_OUT_MAX)
        return dt_fail(DT_ERR_CONFIG, "a call of %d outputs, not 1 to %d", c ? c->n_out : 0,
                       DT_SLOTS_OUT_MAX);
    for (int32_t i = 0; i < DT_SLOTS_OUT_MAX; i++) {
        const dt_call_out *o = &c->out[i < c->n_out ? i : 0];
        if (dt_node_makes(n, i) && i >= c->n_out)
            return dt_fail(DT_ERR_CONFIG, "output %d of %s, which has %d", i, c->name, c->n_out);
        dt_infer_set(&out[i], o->dtype, o->ndim, o->dim);
    }
    return DT_OK;
}

static double call_flops(const dt_graph *g, const dt_node *n) {
    return n->n_out > 0 && n->out[0] >= 0 ? (double)dt_value_n_elem(&g->value[n->out[0]]) : 0;
}

const dt_op_row dt_row_call = {
    .name = "call",
    .doc = "A function of the host of any inputs, of such outputs as it states; on the CPU alone, without a "
           "gradient.",
    .in = {{.name = "x", .type = DT_SLOT_ANY, OPT, .many = true}},
    .out = {ANY("y"), ANY("y1", OPT), ANY("y2", OPT), ANY("y3", OPT), ANY("y4", OPT)},
    .flags = DT_OP_EMPTY | DT_OP_NO_GRADIENT,
    .attr = {A(call, call)},
    .infer = infer_call,
    .flops = call_flops,
};

dt_status dt_call_add(dt_graph *g, const char *name, const dt_call *c, int32_t n_in, const dt_vid *in,
                      dt_vid *out) {
    const dt_attr t = {.call.call = c};
    dt_vid first;
    DT_TRY(dt_graph_add_node_with(g, name, DT_OP_CALL, &t, n_in, in, (1u << c->n_out) - 1, &first));
    for (int32_t i = 0; i < c->n_out; i++) out[i] = g->node[g->n_node - 1].out[i];
    return DT_OK;
}

dt_status dt_call_check(dt_backend *be, const dt_graph *g) {
    enum { SHOWN = 40 };
    int32_t n = 0;
    char *text = NULL;
    size_t size;
    FILE *list = NULL;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *node = &g->node[i];
        if (node->op != DT_OP_CALL || isfinite(be->cost(be, g, node, 1))) continue;
        if (!list) list = open_memstream(&text, &size);
        if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for a message");
        if (n++ < SHOWN) fprintf(list, "%s%s", n > 1 ? "; " : "", node->attr.call.call->name);
    }
    if (!list) return DT_OK;
    if (n > SHOWN) fprintf(list, "; and %d more", n - SHOWN);
    dt_status st = fclose(list) == 0 ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a message");
    if (st == DT_OK)
        st = dt_fail(DT_ERR_UNSUPPORTED,
                     "%d node%s that %s has no kernel for: %s. The CPU computes them: run.device = \"cpu\"",
                     n, n == 1 ? "" : "s", be->info.name, text);
    free(text);
    return st;
}
