/* The card that costs are asked of: convolutions are timed when a pass first asks about one, all of the graph
 * together. */
#include <stdlib.h>

#include "cost.h"
#include "lower.h"

static const double REACHED = 0.85; /* of the memory's peak rate */

/* What was not timed comes after all that was, and what cannot run last. */
static double rank_of(const dt_algo *e) {
    if (!e || !e->known || !e->usable) return 2e30;
    return e->seconds > 0 ? e->seconds : 1e30;
}

dt_conv_spec dt_conv_spec_of(const dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    dt_conv_spec form[2];
    if (dt_conv_spec_forms(g, n, kind, form) == 1) return form[0];
    const double as_is = rank_of(dt_algos_find(cu, &form[0]));
    return as_is < rank_of(dt_algos_find(cu, &form[1])) ? form[0] : form[1];
}

bool dt_conv_fusable(const dt_cuda *cu, const dt_graph *g, const dt_node *n) {
    return dt_conv_spec_fusable(g, n, dt_conv_spec_of(cu, g, n, DT_CONV_F).d.c);
}

/* The BN_APPLY that makes x could be a prologue. */
static bool has_plain_apply(const dt_graph *g, dt_vid x) {
    const dt_nid p = dt_graph_maker(g, x, DT_OP_BN_APPLY);
    return p >= 0 && g->node[p].attr.norm.relu && !dt_node_has(&g->node[p], DT_APPLY_IN_RES);
}

static bool is_read(const dt_graph *g, dt_vid v, dt_op op, int32_t slot) {
    return dt_graph_reader(g, v, op, slot) >= 0;
}

/* The BN_APPLY after a convolution, or after that of a gradient, whose batch norm will most likely come from
 * Gram matrices: other fusions are only asked for where it does not. */
static const dt_node *gram_site(const dt_graph *g, const dt_node *n) {
    const dt_node *conv = n;
    if (n->op != DT_OP_CONV) {
        const dt_vid dc = n->in[n->op == DT_OP_CONV_WGRAD ? DT_WGRAD_IN_DY : DT_DGRAD_IN_DY];
        const dt_nid dx = dt_graph_maker(g, dc, DT_OP_BN_DX);
        const dt_nid id = dx >= 0 ? dt_graph_maker(g, g->node[dx].in[DT_DX_IN_C], DT_OP_CONV) : -1;
        if (id < 0) return NULL;
        conv = &g->node[id];
    }
    if (!g->training || dt_op_type(g, conv) == DT_DTYPE_F32 || dt_conv_has_bias(conv) ||
        !dt_op_conv_is_product(g, conv))
        return NULL;
    const dt_nid id = dt_graph_reader(g, conv->out[0], DT_OP_BN_APPLY, DT_APPLY_IN_X);
    return id >= 0 && g->node[id].attr.norm.relu == dt_node_has(&g->node[id], DT_APPLY_IN_RES) ? &g->node[id]
                                                                                               : NULL;
}

/* The convolution that such a site becomes. Normalised alone it takes the block's end in, unless the other
 * branch is a site too. */
static dt_conv_kind site_kind(const dt_graph *g, const dt_node *apply) {
    if (dt_node_has(apply, DT_APPLY_IN_RES)) return DT_CONV_F_APPLY_RES;
    const dt_nid end = dt_graph_reader(g, apply->out[0], DT_OP_BN_APPLY, DT_APPLY_IN_RES);
    const dt_nid other = end >= 0 ? dt_graph_maker(g, g->node[end].in[DT_APPLY_IN_X], DT_OP_CONV) : -1;
    return other >= 0 && (dt_conv_has_bias(&g->node[other]) || !dt_op_conv_is_product(g, &g->node[other]))
               ? DT_CONV_F_APPLY_RES2
               : DT_CONV_F_APPLY;
}

/* What a pass may ask about a node; to time what nobody asks for costs seconds of a first start. */
static int32_t asked_kinds(const dt_cuda *cu, const dt_graph *g, const dt_node *node, dt_conv_kind *kind) {
    const dt_conv_kind plain = dt_conv_plain_kind(dt_conv_kind_of(node));
    const dt_node *site = gram_site(g, node);
    int32_t n = 0;
    kind[n++] = plain;
    if (site && plain == DT_CONV_F) { /* the gain's own question, and what the site ends as */
        kind[n++] = DT_CONV_F_APPLY_RES;
        kind[n++] = site_kind(g, site);
    }
    if (site) return n;
    if (plain == DT_CONV_D && dt_op_type(g, node) != DT_DTYPE_F32 && dt_op_conv_is_product(g, node) &&
        !is_read(g, node->out[0], DT_OP_BN_REDUCE, DT_REDUCE_IN_DY))
        kind[n++] = DT_CONV_D_ADD_MASK;
    if (!dt_conv_fusable(cu, g, node)) return n;
    const bool apply = dt_conv_pre_slot(node) >= 0 || has_plain_apply(g, node->in[0]);
    if (plain == DT_CONV_F && is_read(g, node->out[0], DT_OP_BN_STATS, 0)) kind[n++] = DT_CONV_F_STATS;
    if (plain == DT_CONV_F && apply) kind[n++] = DT_CONV_SBR_STATS;
    if (plain == DT_CONV_D && is_read(g, node->out[0], DT_OP_BN_REDUCE, DT_REDUCE_IN_DY))
        kind[n++] = DT_CONV_D_BN;
    if (plain == DT_CONV_W && apply) kind[n++] = DT_CONV_SBR_W;
    return n;
}

/* Every convolution of the graph in every form a pass may ask about: timed together, built in threads. */
static dt_status require_all(dt_cuda *cu, const dt_graph *g) {
    enum { PER_NODE = 8 };
    int32_t n = 0;
    dt_conv_spec *spec = calloc((size_t)g->n_node * PER_NODE, sizeof *spec);
    if (!spec) return dt_fail(DT_ERR_MEMORY, "no memory to list the graph's convolutions");
    for (int32_t i = 0; i < g->n_node; i++) {
        const dt_node *node = &g->node[i];
        if (node->op != DT_OP_CONV && node->op != DT_OP_CONV_DGRAD && node->op != DT_OP_CONV_WGRAD) continue;
        dt_conv_kind kind[PER_NODE / 2]; /* each in two forms */
        const int32_t n_kind = asked_kinds(cu, g, node, kind);
        for (int32_t k = 0; k < n_kind; k++) n += dt_conv_spec_forms(g, node, kind[k], spec + n);
    }
    dt_status st = dt_algos_require(cu, n, spec, false);
    free(spec);
    return st;
}

/* Seconds of a convolution; negative where it cannot run or was not timed. */
static double seconds(void *arg, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    dt_cuda *cu = arg;
    dt_conv_spec spec = dt_conv_spec_of(cu, g, n, kind), form[2];
    const dt_algo *e = dt_algos_find(cu, &spec);
    if (!e || !e->known) {
        if (require_all(cu, g) != DT_OK) return -1;
        if (dt_algos_require(cu, dt_conv_spec_forms(g, n, kind, form), form, false) != DT_OK) return -1;
        spec = dt_conv_spec_of(cu, g, n, kind);
        e = dt_algos_find(cu, &spec);
    }
    return e && e->usable && e->seconds > 0 ? e->seconds : -1;
}

static dt_conv_spec form(void *arg, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    return dt_conv_spec_of(arg, g, n, kind);
}

static double memory_rate(const dt_cuda *cu) {
    int khz = 0, bits = 0;
    if (cudaDeviceGetAttribute(&khz, cudaDevAttrMemoryClockRate, cu->device) != cudaSuccess ||
        cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, cu->device) != cudaSuccess || khz <= 0)
        return 1e12;
    return 2.0 * khz * 1e3 * bits / 8 * REACHED;
}

double dt_cuda_cost(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n) {
    dt_cuda *cu = dt_cuda_of(be);
    const dt_cost_card card = {.bytes_per_s = memory_rate(cu),
                               .sm_count = cu->gpu.sm_count,
                               .epilogues = !cu->deterministic,
                               .seconds = seconds,
                               .form = form,
                               .arg = cu};
    return dt_cost_of(&card, g, node, n);
}
