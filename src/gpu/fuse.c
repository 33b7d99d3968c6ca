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
    if (n->op == DT_OP_CONV_DGRAD && n->attr.bn_epilogue) return DT_CONV_D_BN;
    if (n->op == DT_OP_CONV_DGRAD)
        return n->attr.second_grad && n->attr.mask == DT_MASK_FROM_Y ? DT_CONV_D_ADD_MASK : DT_CONV_D;
    if (n->op == DT_OP_CONV_WGRAD) return n->attr.prologue ? DT_CONV_SBR_W : DT_CONV_W;
    if (n->attr.apply && n->attr.relu && n->attr.residual)
        return n->attr.residual_scaled ? DT_CONV_F_APPLY_RES2 : DT_CONV_F_APPLY_RES;
    if (n->attr.apply) return n->attr.relu || n->attr.residual ? DT_CONV_F : DT_CONV_F_APPLY;
    if (n->attr.prologue) return DT_CONV_SBR_STATS; /* there is no engine without statistics */
    return n->attr.stats ? DT_CONV_F_STATS : DT_CONV_F;
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

/* Four channels of 16 bits are half of what matrix units want to load. With a stride of 2, pairs of columns
 * can be taken as one of eight channels: the same memory seen as [N,H,W/2,2C]; only the weight is laid out
 * anew. cuDNN has an engine for four channels in fp16 alone, so both forms are timed. */
static bool can_fold(const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    return g->compute != DT_DTYPE_F32 && d.c == 4 && d.groups == 1 && d.w % 2 == 0 && d.stride_w == 2 &&
           d.dil_w == 1 && !n->attr.prologue && !n->attr.bn_epilogue;
}

static dt_conv_spec spec_as_is(const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    return (dt_conv_spec){.kind = (int32_t)kind, .dtype = (int32_t)g->compute, .d = dt_op_conv_dims(g, n)};
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
static double rank_of(const dt_engine *e) {
    if (!e || !e->known || !e->usable) return 2e30;
    return e->seconds > 0 ? e->seconds : 1e30;
}

dt_conv_spec dt_conv_spec_of(const dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    const dt_conv_spec spec = spec_as_is(g, n, kind);
    if (!can_fold(g, n)) return spec;
    const dt_conv_spec fold = folded(spec);
    const double as_is = rank_of(dt_engines_find(cu, &spec));
    return as_is < rank_of(dt_engines_find(cu, &fold)) ? spec : fold;
}

int32_t dt_conv_spec_forms(const dt_graph *g, const dt_node *n, dt_conv_kind kind, dt_conv_spec out[2]) {
    out[0] = spec_as_is(g, n, kind);
    out[1] = folded(out[0]);
    return can_fold(g, n) ? 2 : 1;
}

bool dt_conv_fusable(const dt_cuda *cu, const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_conv_spec_of(cu, g, n, DT_CONV_F).d;
    const bool both = n->attr.apply || dt_conv_kind_of(n) == DT_CONV_D_ADD_MASK; /* engines for bf16 too */
    const bool dtype = g->compute == DT_DTYPE_F16 || (g->compute == DT_DTYPE_BF16 && both);
    return dtype && d.groups == 1 && d.c % 8 == 0 && d.k % 8 == 0 && !n->attr.bias;
}

/* The BN_APPLY that makes x could be a prologue. */
static bool has_plain_apply(const dt_graph *g, dt_vid x) {
    dt_nid p = g->value[x].producer;
    return p >= 0 && g->node[p].op == DT_OP_BN_APPLY && g->node[p].attr.relu && !g->node[p].attr.residual;
}

/* The first node of that op that reads v as its operand k; NULL: none. */
static const dt_node *operand_of(const dt_graph *g, dt_vid v, dt_op op, int32_t k) {
    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op == op && k < g->node[i].n_in && g->node[i].in[k] == v) return &g->node[i];
    return NULL;
}

static const dt_node *reader_of(const dt_graph *g, dt_vid v, dt_op op) {
    return operand_of(g, v, op, 0);
}

static const dt_node *maker_of(const dt_graph *g, dt_vid v, dt_op op) {
    const dt_nid i = g->value[v].producer;
    return i >= 0 && g->node[i].op == op ? &g->node[i] : NULL;
}

/* The BN_APPLY after a convolution, or after that of a gradient, whose batch norm will most likely come from
 * Gram matrices: other fusions are only asked for where it does not. */
static const dt_node *gram_site(const dt_graph *g, const dt_node *n) {
    const dt_vid dc = n->in[n->op == DT_OP_CONV_WGRAD ? 1 : 0];
    const dt_node *dx = n->op == DT_OP_CONV ? NULL : maker_of(g, dc, DT_OP_BN_DX);
    const dt_node *conv = n->op == DT_OP_CONV ? n : dx ? maker_of(g, dx->in[1], DT_OP_CONV) : NULL;
    if (!conv || !g->training || g->compute == DT_DTYPE_F32 || conv->attr.bias ||
        !dt_op_conv_is_product(g, conv))
        return NULL;
    const dt_node *apply = reader_of(g, conv->out[0], DT_OP_BN_APPLY);
    return apply && apply->attr.relu == apply->attr.residual ? apply : NULL;
}

/* The convolution that such a site becomes. Normalised alone it takes the block's end in, unless the other
 * branch is a site too. */
static dt_conv_kind site_kind(const dt_graph *g, const dt_node *apply) {
    const dt_node *end = apply->attr.residual ? NULL : operand_of(g, apply->out[0], DT_OP_BN_APPLY, 3);
    const dt_node *other = end ? maker_of(g, end->in[0], DT_OP_CONV) : NULL;
    if (apply->attr.residual) return DT_CONV_F_APPLY_RES;
    return other && (other->attr.bias || !dt_op_conv_is_product(g, other)) ? DT_CONV_F_APPLY_RES2
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
    if (plain == DT_CONV_D && g->compute != DT_DTYPE_F32 && dt_op_conv_is_product(g, node) &&
        reader_of(g, node->out[0], DT_OP_BN_REDUCE) == NULL)
        kind[n++] = DT_CONV_D_ADD_MASK;
    if (!dt_conv_fusable(cu, g, node)) return n;
    const bool apply = node->attr.prologue || has_plain_apply(g, node->in[0]);
    if (plain == DT_CONV_F && reader_of(g, node->out[0], DT_OP_BN_STATS)) kind[n++] = DT_CONV_F_STATS;
    if (plain == DT_CONV_F && apply) kind[n++] = DT_CONV_SBR_STATS;
    if (plain == DT_CONV_D && reader_of(g, node->out[0], DT_OP_BN_REDUCE)) kind[n++] = DT_CONV_D_BN;
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
    dt_status st = dt_engines_require(cu, n, spec, false);
    free(spec);
    return st;
}

/* Seconds of a convolution; negative where it cannot run or was not timed. */
static double time_of(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    dt_conv_spec spec = dt_conv_spec_of(cu, g, n, kind), form[2];
    const dt_engine *e = dt_engines_find(cu, &spec);
    if (!e || !e->known) {
        if (require_all(cu, g) != DT_OK) return -1;
        if (dt_engines_require(cu, dt_conv_spec_forms(g, n, kind, form), form, false) != DT_OK) return -1;
        spec = dt_conv_spec_of(cu, g, n, kind);
        e = dt_engines_find(cu, &spec);
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
    if (g->compute == DT_DTYPE_F32 || d.c % 8 || d.k % 8) return 0;
    const double rows = (double)d.n * (double)d.p * (double)d.q, rate = GRAM_FLOPS_PER_SM * cu->gpu.sm_count;
    const double square = 2 * rows * (double)d.c * (double)d.c,
                 product = 2 * rows * (double)d.c * (double)d.k;
    const double forward = time_of(cu, g, n, DT_CONV_F), applied = time_of(cu, g, n, DT_CONV_F_APPLY_RES);
    const double dgrad = time_of(cu, g, n, DT_CONV_D), wgrad = time_of(cu, g, n, DT_CONV_W);
    if (forward <= 0 || applied <= 0 || dgrad <= 0 || wgrad <= 0) return 0;
    const double before = forward + dgrad + wgrad + pass_time(cu, g, c, g->compute == DT_DTYPE_F16 ? 7 : 8);
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
    if (g->compute == DT_DTYPE_F32 || !dt_op_conv_is_product(g, n) || d.c % 8 || d.k % 8) return 0;
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
        return gain(cu, g, n, n->attr.stats ? DT_CONV_F_STATS : DT_CONV_F, DT_CONV_SBR_STATS,
                    pass_time(cu, g, n->in[0], g->training ? 1 : 2) - SMALL_KERNEL_S);
    case DT_FUSE_WGRAD_PROLOGUE:
        return gain(cu, g, n, DT_CONV_W, DT_CONV_SBR_W, pass_time(cu, g, n->in[0], 1) - SMALL_KERNEL_S);
    case DT_FUSE_DGRAD_BN:
        return gain(cu, g, n, DT_CONV_D, DT_CONV_D_BN, pass_time(cu, g, n->out[0], 2) - SMALL_KERNEL_S);
    case DT_FUSE_DUAL_APPLY:
        return pass_time(cu, g, n->out[0], 2);
    case DT_FUSE_SECOND_GRAD: /* pooled: three passes less, two more */
        return pass_time(cu, g, n->in[n->attr.pooled ? n->n_in - 2 : 0], 1);
    case DT_FUSE_POOL_PROLOGUE:
        return pass_time(cu, g, n->in[0], 2);
    case DT_FUSE_POOL_BN: /* read twice instead of once; the gradient it makes is never in memory */
        if (!dt_pool_gathers(&n->attr)) return 0;
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
