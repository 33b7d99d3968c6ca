/* Normalisation of rows and of groups of channels. */
#include "op_row.h"

static dt_status need_eps(const dt_node *n) {
    return n->attr.norm.eps > 0 ? DT_OK : dt_fail(DT_ERR_CONFIG, "eps must be positive");
}

/* Statistics that one value has: of its rows, or of the groups of each sample. */
static int64_t stats_of(const dt_node *n, const dt_value *x) {
    const bool groups = n->op == DT_OP_GROUPNORM || n->op == DT_OP_GROUPNORM_BWD;
    return groups ? x->dim[0] * n->attr.norm.groups : dt_value_n_elem(x) / dt_infer_last(x);
}

static dt_status infer_norm(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_LN_IN_X);
    DT_TRY(need_eps(n));
    dt_infer_like(&out[DT_LN_OUT_Y], x);
    for (int32_t i = DT_LN_OUT_RSTD; i < n->n_out; i++) DT_INFER_SET(&out[i], DT_DTYPE_F32, stats_of(n, x));
    return DT_OK;
}

static dt_status need_groups(const dt_node *n, const dt_value *x) {
    const int64_t c = dt_infer_last(x), groups = n->attr.norm.groups;
    if (x->ndim < 2)
        return dt_fail(DT_ERR_CONFIG, "%s is %s: groups are of samples, which are missing", x->name,
                       dt_value_shape_text(x));
    if (groups < 1 || c % groups != 0)
        return dt_fail(DT_ERR_CONFIG, "%lld groups do not divide %lld channels", (long long)groups,
                       (long long)c);
    return DT_OK;
}

static dt_status infer_groupnorm(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_groups(n, dt_infer_in(g, n, DT_LN_IN_X)));
    return infer_norm(g, n, out);
}

static dt_status infer_norm_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_LN_BWD_IN_X);
    for (int32_t i = DT_LN_BWD_IN_RSTD; i < dt_op_norm_dx2(n->op) && i < n->n_in; i++)
        if (i != DT_LN_BWD_IN_GAMMA && dt_value_n_elem(dt_infer_in(g, n, i)) != stats_of(n, x))
            return dt_infer_misfit(g, n, i);
    dt_infer_like(&out[DT_LN_BWD_OUT_DX], x);
    for (int32_t i = DT_LN_BWD_OUT_DGAMMA; i < n->n_out; i++)
        DT_INFER_SET(&out[i], dt_op_type(g, n), dt_infer_last(x));
    return DT_OK;
}

static dt_status infer_groupnorm_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_groups(n, dt_infer_in(g, n, DT_LN_BWD_IN_X)));
    return infer_norm_bwd(g, n, out);
}

static dt_status grad_norm(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const bool centred = n.op != DT_OP_RMSNORM;
    const dt_op op = n.op == DT_OP_LAYERNORM ? DT_OP_LAYERNORM_BWD
                     : n.op == DT_OP_RMSNORM ? DT_OP_RMSNORM_BWD
                                             : DT_OP_GROUPNORM_BWD;
    const dt_vid in[] = {[DT_LN_BWD_IN_DY] = dout[0],
                         [DT_LN_BWD_IN_X] = n.in[DT_LN_IN_X],
                         [DT_LN_BWD_IN_RSTD] = n.out[DT_LN_OUT_RSTD],
                         [DT_LN_BWD_IN_GAMMA] = n.in[DT_LN_IN_GAMMA],
                         [DT_LN_BWD_IN_MEAN] = centred ? n.out[DT_LN_OUT_MEAN] : -1};
    const bool gamma = want[DT_LN_IN_GAMMA], beta = centred && want[DT_LN_IN_BETA];
    char name[DT_NAME_MAX];
    dt_grad_name(g, n.in[DT_LN_IN_X], name);
    DT_TRY(dt_graph_add_node_with(
        g, name, op, &n.attr, centred ? DT_LN_BWD_IN_MEAN + 1 : DT_LN_BWD_IN_MEAN, in,
        (gamma ? 1u << DT_LN_BWD_OUT_DGAMMA : 0) | (beta ? 1u << DT_LN_BWD_OUT_DBETA : 0), NULL));
    const dt_node back = g->node[g->n_node - 1];
    din[DT_LN_IN_X] = back.out[DT_LN_BWD_OUT_DX];
    if (gamma) din[DT_LN_IN_GAMMA] = back.out[DT_LN_BWD_OUT_DGAMMA];
    if (beta) din[DT_LN_IN_BETA] = back.out[DT_LN_BWD_OUT_DBETA];
    return DT_OK;
}

static double norm_bwd_flops(const dt_graph *g, const dt_node *n) {
    return 3 * dt_flops_main4(g, n);
}

#define GAMMA_BETA F32("gamma", OPT, LEN(DT_LN_IN_X, LAST)), F32("beta", OPT, LEN(DT_LN_IN_X, LAST))
#define BWD_IN                                                                                               \
    T("dy"), T("x", SAME(DT_LN_BWD_IN_DY)), F32("rstd"), F32("gamma", OPT, LEN(DT_LN_BWD_IN_DY, LAST))

#define DX2 T("dx2", OPT, SAME(DT_LN_BWD_IN_DY))

const dt_op_row dt_row_layernorm = {
    .name = "layernorm",
    .doc = "y = (x - mean) * rstd * gamma + beta over the last dimension, rstd = 1 / sqrt(var + eps), "
           "var biased, as PyTorch's layer_norm; rstd and mean of each row are kept.",
    .in = {T("x"), GAMMA_BETA},
    .out = {T("y"), F32("rstd"), F32("mean")},
    IN_PLACE(DT_LN_IN_X, DT_LN_OUT_Y),
    .attr = {A(norm, eps)},
    .infer = infer_norm,
    .grad = grad_norm,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_rmsnorm = {
    .name = "rmsnorm",
    .doc = "y = x * rstd * gamma over the last dimension, rstd = 1 / sqrt(mean of x^2 + eps), as PyTorch's "
           "rms_norm; rstd of each row is kept. length: rstd = 1 / max(sqrt(sum of x^2), eps), as PyTorch's "
           "normalize.",
    .in = {T("x"), F32("gamma", OPT, LEN(DT_LN_IN_X, LAST))},
    .out = {T("y"), F32("rstd")},
    IN_PLACE(DT_LN_IN_X, DT_LN_OUT_Y),
    .attr = {A(norm, eps), A(norm, length)},
    .infer = infer_norm,
    .grad = grad_norm,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_groupnorm = {
    .name = "groupnorm",
    .doc = "layernorm over all positions and the C / groups channels of each of `groups` groups of a sample "
           "of x [N,...,C], gamma and beta by channel, as PyTorch's group_norm; groups = C is instance norm.",
    .in = {T("x"), GAMMA_BETA},
    .out = {T("y"), F32("rstd"), F32("mean")},
    IN_PLACE(DT_LN_IN_X, DT_LN_OUT_Y),
    .attr = {A(norm, eps), A(norm, groups)},
    .infer = infer_groupnorm,
    .grad = grad_norm,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_layernorm_bwd = {
    .name = "layernorm_bwd",
    .doc = "With xh = (x - mean) * rstd and d = dy * gamma: dx = rstd * (d - mean of d - xh * mean of d xh) "
           "of each row, + dx2; dgamma = sum of dy xh, dbeta = sum of dy over the rows, in a fixed order.",
    .in = {BWD_IN, F32("mean"), DX2},
    .out = {T("dx"), T("dgamma", OPT), T("dbeta", OPT)},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(DT_LN_BWD_IN_DY, DT_LN_BWD_OUT_DX),
    .infer = infer_norm_bwd,
    .flops = norm_bwd_flops,
};

const dt_op_row dt_row_rmsnorm_bwd = {
    .name = "rmsnorm_bwd",
    .doc = "With xh = x * rstd and d = dy * gamma: dx = rstd * (d - xh * mean of d xh) of each row, + dx2; "
           "dgamma = sum of dy xh over the rows, in a fixed order. length: sum in place of mean, 0 where "
           "rstd is 1 / "
           "eps.",
    .in = {BWD_IN, DX2},
    .out = {T("dx"), T("dgamma", OPT)},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(DT_LN_BWD_IN_DY, DT_LN_BWD_OUT_DX),
    .attr = {A(norm, eps), A(norm, length)},
    .infer = infer_norm_bwd,
    .flops = norm_bwd_flops,
};

const dt_op_row dt_row_groupnorm_bwd = {
    .name = "groupnorm_bwd",
    .doc =
        "layernorm_bwd over the groups of groupnorm; dgamma and dbeta are summed over samples and positions.",
    .in = {BWD_IN, F32("mean")},
    .out = {T("dx"), T("dgamma", OPT), T("dbeta", OPT)},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(DT_LN_BWD_IN_DY, DT_LN_BWD_OUT_DX),
    .attr = {A(norm, groups)},
    .infer = infer_groupnorm_bwd,
    .flops = norm_bwd_flops,
};
