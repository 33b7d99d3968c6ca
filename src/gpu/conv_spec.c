#include "conv_spec.h"

/* The kinds by plain kind and what is fused. */
dt_conv_kind dt_conv_kind_of(const dt_node *n) {
    if (n->op == DT_OP_CONV_DGRAD && dt_node_has(n, DT_DGRAD_IN_C)) return DT_CONV_D_BN;
    if (n->op == DT_OP_CONV_DGRAD)
        return dt_node_has(n, DT_DGRAD_IN_DX2) && dt_node_has(n, DT_DGRAD_IN_Y) ? DT_CONV_D_ADD_MASK
                                                                                : DT_CONV_D;
    if (n->op == DT_OP_CONV_WGRAD) return dt_node_has(n, DT_WGRAD_IN_PRE_SCALE) ? DT_CONV_SBR_W : DT_CONV_W;
    const bool applied = dt_node_has(n, DT_CONV_IN_SCALE), residual = dt_node_has(n, DT_CONV_IN_RES);
    if (applied && n->attr.window.act == DT_ACT_RELU && residual)
        return dt_node_has(n, DT_CONV_IN_RES_SCALE) ? DT_CONV_F_APPLY_RES2 : DT_CONV_F_APPLY_RES;
    if (applied) return n->attr.window.act || residual ? DT_CONV_F : DT_CONV_F_APPLY;
    if (dt_node_has(n, DT_CONV_IN_PRE_SCALE))
        return DT_CONV_SBR_STATS; /* there is no engine without statistics */
    if (dt_node_makes(n, DT_CONV_OUT_STATS)) return DT_CONV_F_STATS;
    const bool relu = n->attr.window.act == DT_ACT_RELU;
    if (!dt_node_has(n, DT_CONV_IN_BIAS) || (n->attr.window.act != DT_ACT_NONE && !relu)) return DT_CONV_F;
    return residual ? (relu ? DT_CONV_F_BIAS_RES_RELU : DT_CONV_F_BIAS_RES)
                    : (relu ? DT_CONV_F_BIAS_RELU : DT_CONV_F_BIAS);
}

dt_conv_kind dt_conv_plain_kind(dt_conv_kind kind) {
    static const dt_conv_kind PLAIN[DT_CONV_KIND_COUNT] = {
        [DT_CONV_F] = DT_CONV_F,
        [DT_CONV_F_STATS] = DT_CONV_F,
        [DT_CONV_SBR_STATS] = DT_CONV_F,
        [DT_CONV_D] = DT_CONV_D,
        [DT_CONV_D_BN] = DT_CONV_D,
        [DT_CONV_W] = DT_CONV_W,
        [DT_CONV_SBR_W] = DT_CONV_W,
        [DT_CONV_F_APPLY] = DT_CONV_F,
        [DT_CONV_F_APPLY_RES] = DT_CONV_F,
        [DT_CONV_F_APPLY_RES2] = DT_CONV_F,
        [DT_CONV_D_ADD_MASK] = DT_CONV_D,
        [DT_CONV_F_BIAS] = DT_CONV_F,
        [DT_CONV_F_BIAS_RELU] = DT_CONV_F,
        [DT_CONV_F_BIAS_RES] = DT_CONV_F,
        [DT_CONV_F_BIAS_RES_RELU] = DT_CONV_F,
    };
    return PLAIN[kind];
}

int32_t dt_conv_pre_slot(const dt_node *n) {
    const int32_t slot = n->op == DT_OP_CONV         ? DT_CONV_IN_PRE_SCALE
                         : n->op == DT_OP_CONV_WGRAD ? DT_WGRAD_IN_PRE_SCALE
                                                     : -1;
    return slot >= 0 && dt_node_has(n, slot) ? slot : -1;
}

bool dt_conv_ends_in_bias(dt_conv_kind kind) {
    return kind >= DT_CONV_F_BIAS && kind <= DT_CONV_F_BIAS_RES_RELU;
}

bool dt_conv_has_bias(const dt_node *n) {
    return n->op == DT_OP_CONV && dt_node_has(n, DT_CONV_IN_BIAS);
}

/* Four channels of 16 bits are half of what matrix units want to load. With a stride of 2, pairs of columns
 * can be taken as one of eight channels: the same memory seen as [N,H,W/2,2C]; only the weight is laid out
 * anew. cuDNN has an engine for four channels in fp16 alone, so both forms are timed. */
static bool can_fold(const dt_graph *g, const dt_node *n) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    return dt_op_type(g, n) != DT_DTYPE_F32 && d.c == 4 && d.groups == 1 && d.w % 2 == 0 && d.stride_w == 2 &&
           d.dil_w == 1 && dt_conv_pre_slot(n) < 0 && dt_conv_kind_of(n) != DT_CONV_D_BN;
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

int32_t dt_conv_spec_forms(const dt_graph *g, const dt_node *n, dt_conv_kind kind, dt_conv_spec out[2]) {
    out[0] =
        (dt_conv_spec){.kind = (int32_t)kind, .dtype = (int32_t)dt_op_type(g, n), .d = dt_op_conv_dims(g, n)};
    out[1] = folded(out[0]);
    return can_fold(g, n) ? 2 : 1;
}

bool dt_conv_spec_fusable(const dt_graph *g, const dt_node *n, int64_t c) {
    const dt_conv_dims d = dt_op_conv_dims(g, n);
    const bool applied = n->op == DT_OP_CONV && dt_node_has(n, DT_CONV_IN_SCALE);
    const bool both = applied || dt_conv_kind_of(n) == DT_CONV_D_ADD_MASK; /* engines for bf16 too */
    /* Of evaluation: cuDNN says of which channels. */
    if (dt_conv_ends_in_bias(dt_conv_kind_of(n)))
        return !g->training && dt_op_type(g, n) != DT_DTYPE_F32 && d.groups == 1 &&
               g->value[n->in[DT_CONV_IN_BIAS]].dtype == dt_op_type(g, n);
    const bool dtype = dt_op_type(g, n) == DT_DTYPE_F16 || (dt_op_type(g, n) == DT_DTYPE_BF16 && both);
    return dtype && d.groups == 1 && c % 8 == 0 && d.k % 8 == 0 && !dt_conv_has_bias(n);
}
