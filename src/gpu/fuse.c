/* Which fusions pay: the timed fused engine against the timed plain engine plus the passes over memory that
 * the fusion saves. Passes are taken at the rate our kernels reach of the card's memory.
 *
 * A BN_APPLY goes away only if the convolution and the weight gradient that read its result both take it as a
 * prologue; each of the two is credited with half of the pass, so a pass that wants both asks for the sum. */
#include <stdlib.h>

#include "lower.h"

static const double REACHED = 0.85;        /* of the memory's peak rate */
static const double SMALL_KERNEL_S = 2e-6; /* a launch over a few channels */
/* Of BN from Gram matrices: what the products of gram_mma.cu reach, and the small matrices around them. */
static const double GRAM_FLOPS_PER_SM = 1.4e12, GRAM_SMALL_S = 40e-6;

/* The kinds by plain kind and what is fused. */
dt_conv_kind dt_conv_kind_of(const dt_node *n) {
    if (n->op == DT_OP_CONV_DGRAD && dt_node_has(n, DT_DGRAD_IN_C)) return DT_CONV_D_BN;
    if (n->op == DT_OP_CONV_DGRAD)
        return dt_node_has(n, DT_DGRAD_IN_DX2) && dt_node_has(n, DT_DGRAD_IN_Y) ? DT_CONV_D_ADD_MASK
                                                                                : DT_CONV_D;
    if (n->op == DT_OP_CONV_WGRAD) return dt_node_has(n, DT_WGRAD_IN_PRE_SCALE) ? DT_CONV_SBR_W : DT_CONV_W;
    const bool applied = dt_node_has(n, DT_CONV_IN_SCALE), residual = dt_node_has(n, DT_CONV_IN_RES);
    if (applied && n->attr.window.relu && residual)
        return dt_node_has(n, DT_CONV_IN_RES_SCALE) ? DT_CONV_F_APPLY_RES2 : DT_CONV_F_APPLY_RES;
    if (applied) return n->attr.window.relu || residual ? DT_CONV_F : DT_CONV_F_APPLY;
    if (dt_node_has(n, DT_CONV_IN_PRE_SCALE))
        return DT_CONV_SBR_STATS; /* there is no engine without statistics */
    return dt_node_makes(n, DT_CONV_OUT_STATS) ? DT_CONV_F_STATS : DT_CONV_F;
}

dt_conv_kind dt_conv_plain_kind(dt_conv_kind kind) {
    static const dt_conv_kind PLAIN[DT_CONV_KIND_COUNT] = {
        [DT_CONV_F] = DT_CONV_F,           [DT_CONV_F_STATS] = DT_CONV_F,
        [DT_CONV_SBR_STATS] = DT_CONV_F,   [DT_CONV_D] = DT_CONV_D,
        [DT_CONV_D_BN] = DT_CONV_D,        [DT_CONV_W] = DT_CONV_W,
        [DT_CONV_SBR_W] = DT_CONV_W,       [DT_CONV_F_APPLY] = DT_CONV_F,
        [DT_CONV_F_APPLY_RES] = DT_CONV_F, [DT_CONV_F_APPLY_RES2] = DT_CONV_F,
        [DT_CONV_D_ADD_MASK] = DT_CONV_D,
    };
    return PLAIN[kind];
}

int32_t dt_conv_pre_slot(const dt_node *n) {
    const int32_t slot = n->op == DT_OP_CONV         ? DT_CONV_IN_PRE_SCALE
                         : n->op == DT_OP_CONV_WGRAD ? DT_WGRAD_IN_PRE_SCALE
                                                     : -1;
    return slot >= 0 && dt_node_has(n, slot) ? slot : -1;
}

/* Four channels of 16 bits are half of what matrix units want to load. With a stride of 2, pairs of columns
 * can be taken as one of eight channels: the same memory seen as [N,H,W/2,2C]; only the weight is laid out
 * anew. cuDNN has an engine for four channels in fp16 alone, so both forms are timed. */
static bool can_fold(const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    return dt_op_type(g, n) != DT_DTYPE_F32 && d.c == 4 && d.groups == 1 && d.w % 2 == 0 && d.stride_w == 2 &&
           d.dil_w == 1 && dt_conv_pre_slot(n) < 0 && dt_conv_kind_of(n) != DT_CONV_D_BN;
}

static dt_conv_spec spec_as_is(const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    return (dt_conv_spec){
        .kind = (int32_t)kind, .dtype = (int32_t)dt_op_type(g, n), .d = dt_op_conv_dims(g, n)};
}

static dt_conv_spec folded(dt_conv_spec spec) {
    /* An odd padding starts within a pair: a zero tap in front makes it even. */
    dt_conv_dims *d = &spec.d;
    int64_t odd = d->pad_w % 2;
    d->w /= 2;
    d->c *= 2;
    d->s = (d->s + odd + 1) / 2;
    d->pad_w = (d->pad_w + odd) / 2;
    d->stride_w = 1;
    return spec;
}

/* What was not timed comes after all that was, and what cannot run last. */
static double rank_of(const dt_algo *e) {
    if (!e || !e->known || !e->usable) return 2e30;
    return e->seconds > 0 ? e->seconds : 1e30;
}

dt_conv_spec dt_conv_spec_of(const dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    const dt_conv_spec spec = spec_as_is(g, n, kind);
    if (!can_fold(g, n)) return spec;
    const dt_conv_spec fold = folded(spec);
    const double as_is = rank_of(dt_algos_find(cu, &spec));
    return as_is < rank_of(dt_algos_find(cu, &fold)) ? spec : fold;
}

int32_t dt_conv_spec_forms(const dt_graph *g, const dt_node *n, dt_conv_kind kind, dt_conv_spec out[2]) {
    out[0] = spec_as_is(g, n, kind);
    out[1] = folded(out[0]);
    return can_fold(g, n) ? 2 : 1;
}

static bool has_bias(const dt_node *n) {
    return n->op == DT_OP_CONV && dt_node_has(n, DT_CONV_IN_BIAS);
}

bool dt_conv_fusable(const dt_cuda *cu, const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_conv_spec_of(cu, g, n, DT_CONV_F).d;
    const bool applied = n->op == DT_OP_CONV && dt_node_has(n, DT_CONV_IN_SCALE);
    const bool both = applied || dt_conv_kind_of(n) == DT_CONV_D_ADD_MASK; /* engines for bf16 too */
    const bool dtype = dt_op_type(g, n) == DT_DTYPE_F16 || (dt_op_type(g, n) == DT_DTYPE_BF16 && both);
    return dtype && d.groups == 1 && d.c % 8 == 0 && d.k % 8 == 0 && !has_bias(n);
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
    if (!g->training || dt_op_type(g, conv) == DT_DTYPE_F32 || has_bias(conv) ||
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
    return other >= 0 && (has_bias(&g->node[other]) || !dt_op_conv_is_product(g, &g->node[other]))
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
static double time_of(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
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

static double memory_rate(const dt_cuda *cu) {
    int khz = 0, bits = 0;
    if (cudaDeviceGetAttribute(&khz, cudaDevAttrMemoryClockRate, cu->device) != cudaSuccess ||
        cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, cu->device) != cudaSuccess || khz <= 0)
        return 1e12;
    return 2.0 * khz * 1e3 * bits / 8 * REACHED;
}

/* Seconds to move a value `times` times. */
static double pass_time(const dt_cuda *cu, const dt_graph *g, dt_vid v, double times) {
    return times * (double)dt_value_bytes(&g->value[v]) / memory_rate(cu) + SMALL_KERNEL_S;
}

/* saved + plain - fused, or 0 where a time is missing. */
static double gain(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_conv_kind plain, dt_conv_kind fused,
                   double saved) {
    if (!dt_conv_fusable(cu, g, n)) return 0;
    double tp = time_of(cu, g, n, plain), tf = time_of(cu, g, n, fused);
    return tp > 0 && tf > 0 ? saved + tp - tf : 0;
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double smaller(double a, double b) {
    return a < b ? a : b;
}

/* Neither the convolution's output c nor its gradient is written or read, against products of our own instead
 * of cuDNN's two gradients, x^T x, and x once more in the gradient of x. */
static double gram_gain(dt_cuda *cu, const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    const dt_vid x = n->in[0], c = n->out[0];
    if (dt_op_type(g, n) == DT_DTYPE_F32 || d.c % 8 || d.k % 8) return 0;
    const double rows = (double)d.n * (double)d.p * (double)d.q, rate = GRAM_FLOPS_PER_SM * cu->gpu.sm_count;
    const double square = 2 * rows * (double)d.c * (double)d.c,
                 product = 2 * rows * (double)d.c * (double)d.k;
    const double forward = time_of(cu, g, n, DT_CONV_F), applied = time_of(cu, g, n, DT_CONV_F_APPLY_RES);
    const double dgrad = time_of(cu, g, n, DT_CONV_D), wgrad = time_of(cu, g, n, DT_CONV_W);
    if (forward <= 0 || applied <= 0 || dgrad <= 0 || wgrad <= 0) return 0;
    const double before =
        forward + dgrad + wgrad + pass_time(cu, g, c, dt_op_type(g, n) == DT_DTYPE_F16 ? 7 : 8);
    const double gram = larger(pass_time(cu, g, x, 1), square / rate);
    const double own_cross = larger(pass_time(cu, g, x, 1) + pass_time(cu, g, c, 1), product / rate);
    const double own_dx = larger(pass_time(cu, g, x, 2) + pass_time(cu, g, c, 1), (product + square) / rate);
    /* The libraries' products are as fast as their gradients. */
    const double cross = smaller(own_cross, wgrad), dx = smaller(own_dx, dgrad + pass_time(cu, g, x, 3));
    return before - applied - gram - cross - dx - GRAM_SMALL_S;
}

/* The gradient and another are added and masked in one go; BN_MASK would move four tensors. Its sums come
 * from a product then, at the price of a pass at most. */
static double mask_gain(dt_cuda *cu, const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    if (dt_op_type(g, n) == DT_DTYPE_F32 || !dt_op_conv_is_product(g, n) || d.c % 8 || d.k % 8) return 0;
    const double plain = time_of(cu, g, n, DT_CONV_D), fused = time_of(cu, g, n, DT_CONV_D_ADD_MASK);
    return plain > 0 && fused > 0 ? plain + pass_time(cu, g, n->out[0], 3) - fused : 0;
}

double dt_cuda_fuse_gain(dt_backend *be, const dt_graph *g, dt_fusion fusion, dt_nid node) {
    dt_cuda *cu = dt_cuda_of(be);
    const dt_node *n = &g->node[node];
    switch (fusion) {
    case DT_FUSE_CONV_STATS:
        return gain(cu, g, n, DT_CONV_F, DT_CONV_F_STATS, pass_time(cu, g, n->out[0], 1) + SMALL_KERNEL_S);
    case DT_FUSE_CONV_PROLOGUE: /* without a backward pass the convolution alone saves it */
        return gain(cu, g, n, dt_node_makes(n, DT_CONV_OUT_STATS) ? DT_CONV_F_STATS : DT_CONV_F,
                    DT_CONV_SBR_STATS, pass_time(cu, g, n->in[0], g->training ? 1 : 2) - SMALL_KERNEL_S);
    case DT_FUSE_WGRAD_PROLOGUE:
        return gain(cu, g, n, DT_CONV_W, DT_CONV_SBR_W, pass_time(cu, g, n->in[0], 1) - SMALL_KERNEL_S);
    case DT_FUSE_DGRAD_BN:
        return gain(cu, g, n, DT_CONV_D, DT_CONV_D_BN, pass_time(cu, g, n->out[0], 2) - SMALL_KERNEL_S);
    case DT_FUSE_DUAL_APPLY:
        return pass_time(cu, g, n->out[0], 2);
    case DT_FUSE_SECOND_GRAD: /* pooled: three passes less, two more */
        return pass_time(cu, g, n->in[dt_node_has(n, DT_REDUCE_IN_DYP) ? DT_REDUCE_IN_DYP : DT_REDUCE_IN_DY],
                         1);
    case DT_FUSE_POOL_PROLOGUE:
        return pass_time(cu, g, n->in[0], 2);
    case DT_FUSE_POOL_BN: /* read twice instead of once; the gradient it makes is never in memory */
        if (!dt_pool_gathers(&n->attr.window)) return 0;
        return pass_time(cu, g, n->out[0], 3) - pass_time(cu, g, n->in[0], 1) - pass_time(cu, g, n->in[1], 1);
    case DT_FUSE_GRAM_BN:
        return gram_gain(cu, g, n);
    case DT_FUSE_DGRAD_MASK:
        return mask_gain(cu, g, n);
    default: /* a fusion there are no kernels for */
        break;
    }
    return 0;
}
