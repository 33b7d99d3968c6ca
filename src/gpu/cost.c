/* Costs that passes compare. They need not be right to the microsecond, but what is compared must be counted
 * alike: a pass over memory that one kernel saves another has to make.
 *
 * A BN_APPLY goes away only if the convolution and the weight gradient that read its result both take it as a
 * prologue. Each of those is charged one pass of it, so that it pays for itself. */
#include "cost.h"

#include <math.h>

static const double LAUNCH_S = 2e-6; /* of a kernel, or one over a few channels */
/* Of BN from Gram matrices: what the products of gram_mma.cu reach, and the small matrices around them, of
 * forward and of backward. */
static const double GRAM_FLOPS_PER_SM = 1.4e12, GRAM_SMALL_S = 24e-6;

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double smaller(double a, double b) {
    return a < b ? a : b;
}

/* Seconds to move a value once. */
static double pass(const dt_cost_card *card, const dt_graph *g, dt_vid v) {
    return (double)dt_value_bytes(&g->value[v]) / card->bytes_per_s;
}

bool dt_pool_gathers(const dt_window_attr *t) {
    for (int a = 0; a < 2; a++)
        if (t->kernel[a] != 3 || t->stride[a] != 2 || t->pad_begin[a] != 1 || t->pad_end[a] != 1)
            return false;
    return true;
}

/* Every operand once, but for what there is of each channel only, or of a batch. */
static double passes(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    double s = 0;
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && dt_op_in(n->op, i)->type != DT_SLOT_F32) s += pass(card, g, n->in[i]);
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && dt_op_get(n->op)->out[i].type != DT_SLOT_F32 &&
            g->value[n->out[i]].role != DT_ROLE_GRAD)
            s += pass(card, g, n->out[i]);
    return s;
}

static double plain_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    return passes(card, g, n) + LAUNCH_S;
}

static double time_of(const dt_cost_card *card, const dt_graph *g, const dt_node *n, dt_conv_kind kind) {
    const double s = card->seconds(card->arg, g, n, kind);
    return s > 0 ? s : INFINITY;
}

/* What a bias, a sum and a function add to a convolution of evaluation: no more than a pass of ours after it, and cuDNN and
 * cuBLASLt mostly do it for nothing. */
static double end_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    const bool residual = dt_node_has(n, DT_CONV_IN_RES);
    if (!residual && !n->attr.window.act) return 0;
    return LAUNCH_S + pass(card, g, n->out[0]) + (residual ? pass(card, g, n->in[DT_CONV_IN_RES]) : 0);
}

static double conv_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    const dt_conv_kind kind = dt_conv_kind_of(n), plain = dt_conv_plain_kind(kind);
    const bool applied = n->op == DT_OP_CONV && dt_node_has(n, DT_CONV_IN_SCALE);
    if (n->op == DT_OP_CONV && !applied && (kind == plain || dt_conv_ends_in_bias(kind)))
        return time_of(card, g, n, plain) + end_cost(card, g, n);
    if (kind == plain && !applied) return time_of(card, g, n, plain);
    if (!dt_conv_spec_fusable(g, n, card->form(card->arg, g, n, DT_CONV_F).d.c)) return INFINITY;
    if ((applied || kind == DT_CONV_D_ADD_MASK) && !dt_op_conv_is_product(g, n)) return INFINITY;
    /* Without a time of the plain one there is nothing to compare with. */
    if (isinf(time_of(card, g, n, plain))) return INFINITY;
    /* However it ends; that is settled after it is chosen. */
    if (applied) return time_of(card, g, n, DT_CONV_F_APPLY_RES);
    double s = time_of(card, g, n, kind);
    /* The sums of BN_REDUCE come with a kernel over the channels, those of BN_MASK from a product, at the price
     * of a pass at most. */
    if (kind == DT_CONV_D_BN) s += LAUNCH_S;
    if (kind == DT_CONV_D_ADD_MASK) s += pass(card, g, n->out[DT_DGRAD_OUT_DX]);
    return s;
}

static bool is_prologue(const dt_node *n, dt_vid v) {
    return (n->op == DT_OP_CONV && n->in[DT_CONV_IN_X] == v) ||
           (n->op == DT_OP_CONV_WGRAD && n->in[DT_WGRAD_IN_X] == v);
}

/* Where convolutions read what a BN_APPLY with a ReLU makes, it costs what they would save by normalising
 * themselves: reading and writing it, in halves for a convolution and its weight gradient, which each start by
 * converting scale and shift. */
static double apply_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    int32_t n_reader = 0;
    if (n->attr.norm.relu && !dt_node_has(n, DT_APPLY_IN_RES))
        for (dt_nid i = 0; i < g->n_node; i++) n_reader += is_prologue(&g->node[i], n->out[0]);
    return n_reader ? pass(card, g, n->out[0]) * n_reader * (g->training ? 1 : 2) : plain_cost(card, g, n);
}

/* Two kernels. */
static double stats_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    return plain_cost(card, g, n) + LAUNCH_S;
}

/* A gradient that is gathered is a little slower to read. */
static double gather_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    const bool gathers = dt_node_has(n, n->op == DT_OP_BN_DX ? DT_DX_IN_DYP : DT_REDUCE_IN_DYP);
    if (gathers && !dt_pool_gathers(&n->attr.window)) return INFINITY;
    return plain_cost(card, g, n) + (gathers ? LAUNCH_S : 0);
}

/* Nothing but sums: the product over the same gradient will make them. */
static double mask_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    return dt_node_makes(n, DT_BN_MASK_OUT_DZ) ? plain_cost(card, g, n) : LAUNCH_S;
}

static double last(const dt_graph *g, dt_vid v) {
    return (double)g->value[v].dim[g->value[v].ndim - 1];
}

/* What of training cuBLASLt's epilogues have (dense_blas.c). */
static double dense_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    const int32_t act = n->op == DT_OP_DENSE_WGRAD ? 0 : n->attr.dense.act;
    const bool ends = act || (n->op == DT_OP_DENSE && dt_node_has(n, DT_DENSE_IN_RES)) ||
                      (n->op == DT_OP_DENSE_WGRAD && dt_node_makes(n, DT_DENSE_WGRAD_OUT_DB));
    if (!g->training || !ends) return plain_cost(card, g, n);
    if (!card->epilogues || dt_op_type(g, n) == DT_DTYPE_F32 || fmod(last(g, n->in[0]), 8) != 0 ||
        fmod(last(g, n->out[0]), 8) != 0 || (act && act != 1 + DT_UNARY_GELU_TANH))
        return INFINITY;
    return plain_cost(card, g, n);
}

/* Operands of a product of matrices as a convolution of 1x1 has them. */
static dt_node as_conv(dt_op op, dt_vid *in, dt_vid *out) {
    return (dt_node){.op = op,
                     .attr.window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1},
                     .n_in = 2,
                     .n_out = 1,
                     .in = in,
                     .out = out};
}

static double gram_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    const double c = last(g, n->in[0]), rows = (double)dt_value_n_elem(&g->value[n->in[0]]) / c;
    if (dt_op_type(g, n) == DT_DTYPE_F32 || fmod(c, 8) != 0) return INFINITY;
    return larger(plain_cost(card, g, n), 2 * rows * c * c / (GRAM_FLOPS_PER_SM * card->sm_count));
}

/* The libraries' products are as fast as their gradients of a convolution. */
static double cross_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    dt_vid in[] = {[DT_WGRAD_IN_X] = n->in[DT_CROSS_IN_X], [DT_WGRAD_IN_DY] = n->in[DT_CROSS_IN_DZ]},
           out[] = {n->out[DT_CROSS_OUT_P]};
    const double c = last(g, n->in[DT_CROSS_IN_X]), k = last(g, n->in[DT_CROSS_IN_DZ]);
    if (dt_op_type(g, n) == DT_DTYPE_F32 || fmod(c, 8) != 0 || fmod(k, 8) != 0) return INFINITY;
    const dt_node wgrad = as_conv(DT_OP_CONV_WGRAD, in, out);
    const double library = time_of(card, g, &wgrad, DT_CONV_W);
    const double own =
        larger(plain_cost(card, g, n) + LAUNCH_S, dt_op_flops(g, n) / (GRAM_FLOPS_PER_SM * card->sm_count));
    return isinf(library) ? library : smaller(own, library);
}

static double gram_dx_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    const dt_vid x = n->in[DT_GRAM_DX_IN_X], dz = n->in[DT_GRAM_DX_IN_DZ];
    dt_vid in[] = {[DT_DGRAD_IN_DY] = dz, [DT_DGRAD_IN_W] = n->in[DT_GRAM_DX_IN_WA]}, out[] = {n->out[0]};
    if (dt_op_type(g, n) == DT_DTYPE_F32 || fmod(last(g, x), 8) != 0 || fmod(last(g, dz), 8) != 0)
        return INFINITY;
    const dt_node dgrad = as_conv(DT_OP_CONV_DGRAD, in, out);
    const double library = time_of(card, g, &dgrad, DT_CONV_D);
    const double own = larger(2 * pass(card, g, x) + pass(card, g, dz) + 2 * LAUNCH_S,
                              dt_op_flops(g, n) / (GRAM_FLOPS_PER_SM * card->sm_count));
    return isinf(library) ? library : smaller(own, library + 3 * pass(card, g, x) + LAUNCH_S);
}

/* In fp16 a convolution could have made the statistics of its result as it wrote it: to have saved the pass
 * over that is no merit of this. */
static double bn_gram_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    const dt_value *w = &g->value[n->in[DT_BN_GRAM_IN_W]];
    const int64_t elems = n->attr.norm.rows * w->dim[0];
    return GRAM_SMALL_S +
           (w->dtype == DT_DTYPE_F16 ? (double)dt_dtype_bytes(w->dtype, elems) / card->bytes_per_s : 0);
}

static double small_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    (void)card, (void)g, (void)n;
    return GRAM_SMALL_S;
}

/* A function of the host, or what the CPU alone has kernels for. */
static double call_cost(const dt_cost_card *card, const dt_graph *g, const dt_node *n) {
    (void)card, (void)g, (void)n;
    return INFINITY;
}

typedef double cost_function(const dt_cost_card *card, const dt_graph *g, const dt_node *n);

/* Of the ops that are not here: passes over their operands. */
static cost_function *const cost_table[DT_OP_COUNT] = {
    [DT_OP_DENSE] = dense_cost,        [DT_OP_DENSE_DGRAD] = dense_cost,  [DT_OP_DENSE_WGRAD] = dense_cost,
    [DT_OP_CONV] = conv_cost,          [DT_OP_CONV_DGRAD] = conv_cost,    [DT_OP_CONV_WGRAD] = conv_cost,
    [DT_OP_BN_STATS] = stats_cost,     [DT_OP_BN_APPLY] = apply_cost,     [DT_OP_BN_REDUCE] = gather_cost,
    [DT_OP_BN_DX] = gather_cost,       [DT_OP_BN_MASK] = mask_cost,       [DT_OP_GRAM] = gram_cost,
    [DT_OP_GRAM_CROSS] = cross_cost,   [DT_OP_BN_GRAM_DX] = gram_dx_cost, [DT_OP_BN_GRAM] = bn_gram_cost,
    [DT_OP_BN_GRAM_GRAD] = small_cost, [DT_OP_CALL] = call_cost,          [DT_OP_QUANTIZE] = call_cost,
    [DT_OP_DEQUANTIZE] = call_cost,    [DT_OP_QPRODUCT] = call_cost,
};

double dt_cost_of(const dt_cost_card *card, const dt_graph *g, const dt_node *node, int32_t n) {
    double s = 0;
    for (int32_t i = 0; i < n && !isinf(s); i++) {
        cost_function *f = cost_table[node[i].op];
        s += (f ? f : plain_cost)(card, g, &node[i]);
    }
    return s;
}
