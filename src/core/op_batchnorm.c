/* Batch normalisation: the op of models, and what passes make of it. */
#include "op_row.h"

static dt_status infer_batchnorm(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_BN_IN_X);
    const int64_t c = dt_infer_last(x), rows = dt_value_n_elem(x) / c;
    if (!(n->attr.norm.eps > 0)) return dt_fail(DT_ERR_CONFIG, "eps must be positive");
    if (g->training && rows < 2)
        return dt_fail(DT_ERR_CONFIG, "batch statistics need more than one value per channel (%s)",
                       dt_value_shape_text(x));
    if (rows > INT32_MAX)
        return dt_fail(DT_ERR_CONFIG, "more than 2^31 - 1 values per channel (%s): a smaller batch or image",
                       dt_value_shape_text(x));
    dt_infer_like(&out[DT_BN_OUT_Y], x);
    for (int32_t i = DT_BN_OUT_MEAN; i <= DT_BN_OUT_SHIFT; i++) DT_INFER_SET(&out[i], DT_DTYPE_F32, c);
    return DT_OK;
}

static dt_status infer_bn_stats(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_INFER_SET(&out[0], DT_DTYPE_F32, 2, dt_infer_last(dt_infer_in(g, n, 0)));
    return DT_OK;
}

static dt_status infer_bn_finalize(const dt_graph *g, const dt_node *n, dt_value *out) {
    if (n->attr.norm.rows < 2) return dt_fail(DT_ERR_CONFIG, "statistics over %d rows", n->attr.norm.rows);
    for (int32_t i = 0; i < n->n_out; i++)
        DT_INFER_SET(&out[i], DT_DTYPE_F32, dt_infer_in(g, n, DT_FINALIZE_IN_GAMMA)->dim[0]);
    return DT_OK;
}

static dt_status infer_bn_fold(const dt_graph *g, const dt_node *n, dt_value *out) {
    for (int32_t i = 0; i < n->n_out; i++) dt_infer_like(&out[i], dt_infer_in(g, n, 0));
    return DT_OK;
}

/* The gradient is there once: as it is, or in slot dyp to be gathered from the pooled image of c. */
static dt_status need_one_gradient(const dt_graph *g, const dt_node *n, int32_t dy, int32_t c, int32_t dyp) {
    dt_value pooled = {0};
    if (dt_node_has(n, dy) == dt_node_has(n, dyp))
        return dt_fail(DT_ERR_CONFIG, "the gradient must be given once: dy or dyp");
    if (!dt_node_has(n, dyp)) return DT_OK;
    if (dt_infer_in(g, n, c)->ndim != 4) return dt_infer_misfit(g, n, c);
    DT_TRY(dt_infer_pooled(&n->attr.window, dt_infer_in(g, n, c), &pooled));
    return dt_infer_same_dims(dt_infer_in(g, n, dyp), &pooled) ? DT_OK : dt_infer_misfit(g, n, dyp);
}

static dt_status infer_bn_reduce(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *c = dt_infer_in(g, n, DT_REDUCE_IN_C);
    DT_TRY(need_one_gradient(g, n, DT_REDUCE_IN_DY, DT_REDUCE_IN_C, DT_REDUCE_IN_DYP));
    if (dt_node_has(n, DT_REDUCE_IN_Y) && dt_node_has(n, DT_REDUCE_IN_SCALE))
        return dt_fail(DT_ERR_CONFIG, "two kinds of mask for one gradient");
    if (dt_node_has(n, DT_REDUCE_IN_DYP) && dt_node_makes(n, DT_REDUCE_OUT_DZ))
        return dt_fail(DT_ERR_CONFIG, "a gathered gradient is not written");
    dt_infer_bn_sums(g, n, dt_infer_last(c), &out[DT_REDUCE_OUT_DGAMMA], &out[DT_REDUCE_OUT_DBETA],
                     &out[DT_REDUCE_OUT_COEF]);
    dt_infer_like(&out[DT_REDUCE_OUT_DZ], c);
    return DT_OK;
}

static dt_status infer_bn_dx(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_one_gradient(g, n, DT_DX_IN_DY, DT_DX_IN_C, DT_DX_IN_DYP));
    dt_infer_like(&out[0], dt_infer_in(g, n, DT_DX_IN_C));
    return DT_OK;
}

static dt_status grad_batchnorm(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const bool residual = dt_node_has(&n, DT_BN_IN_RES);
    /* With a residual the masked gradient is needed by the skip path too, so it is written once; without one
     * the mask is cheaper to recompute from the BN input than to read from the output. */
    const bool from_y = n.attr.norm.relu && residual, from_c = n.attr.norm.relu && !residual;
    const dt_vid x = n.in[DT_BN_IN_X], scale = from_c ? n.out[DT_BN_OUT_SCALE] : -1,
                 shift = from_c ? n.out[DT_BN_OUT_SHIFT] : -1;
    const dt_vid in[] = {[DT_REDUCE_IN_DY] = dout[0],
                         [DT_REDUCE_IN_DY2] = -1,
                         [DT_REDUCE_IN_C] = x,
                         [DT_REDUCE_IN_MEAN] = n.out[DT_BN_OUT_MEAN],
                         [DT_REDUCE_IN_INVSTD] = n.out[DT_BN_OUT_INVSTD],
                         [DT_REDUCE_IN_GAMMA] = n.in[DT_BN_IN_GAMMA],
                         [DT_REDUCE_IN_Y] = from_y ? n.out[DT_BN_OUT_Y] : -1,
                         [DT_REDUCE_IN_SCALE] = scale,
                         [DT_REDUCE_IN_SHIFT] = shift};
    char name[DT_NAME_MAX];
    dt_grad_name(g, n.in[DT_BN_IN_GAMMA], name);
    DT_TRY(dt_graph_add_node_with(g, name, DT_OP_BN_REDUCE, NULL, DT_REDUCE_IN_SHIFT + 1, in,
                                  from_y ? 1u << DT_REDUCE_OUT_DZ : 0, &din[DT_BN_IN_GAMMA]));
    const dt_node reduce = g->node[g->n_node - 1];
    const dt_vid dz = from_y ? reduce.out[DT_REDUCE_OUT_DZ] : dout[0];
    din[DT_BN_IN_BETA] = reduce.out[DT_REDUCE_OUT_DBETA];
    if (residual) din[DT_BN_IN_RES] = dz;
    if (!want[DT_BN_IN_X]) return DT_OK;
    return dt_grad_add_node(g, x, DT_OP_BN_DX, NULL, DT_DX_IN_SHIFT + 1,
                            (dt_vid[]){dz, x, reduce.out[DT_REDUCE_OUT_COEF], scale, shift},
                            &din[DT_BN_IN_X]);
}

const dt_op_row dt_row_batchnorm = {
    .name = "batchnorm",
    .doc =
        "y = act(x * scale + shift + res), scale = gamma * invstd, shift = beta - mean * "
        "scale, invstd = 1 / sqrt(var + eps), var biased; training updates rmean += momentum "
        "(mean - rmean), rvar += momentum (var m / (m-1) - rvar), as PyTorch's BatchNorm2d; "
        "in evaluation, and where fixed, mean and var are rmean and rvar. Never lowered: a pass splits it.",
    .in = {T("x"), F32("gamma", LEN(DT_BN_IN_X, LAST)), F32("beta", LEN(DT_BN_IN_X, LAST)),
           F32("rmean", LEN(DT_BN_IN_X, LAST), .updated = true),
           F32("rvar", LEN(DT_BN_IN_X, LAST), .updated = true), T("res", OPT, SAME(DT_BN_IN_X))},
    .out = {T("y"), F32("mean"), F32("invstd"), F32("scale"), F32("shift")},
    .flags = DT_OP_EFFECT,
    .attr = {A(norm, eps), LEARNS(norm, momentum), A(norm, relu), LEARNS(norm, fixed)},
    .infer = infer_batchnorm,
    .grad = grad_batchnorm,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_bn_stats = {
    .name = "bn_stats",
    .doc = "stats [2,C] = mean and biased variance of x over its rows.",
    .in = {T("x")},
    .out = {F32("stats")},
    .flags = DT_OP_INTERNAL,
    .infer = infer_bn_stats,
    .flops = dt_flops_main,
};

const dt_op_row dt_row_bn_finalize = {
    .name = "bn_finalize",
    .doc = "mean, invstd, scale, shift of batchnorm from stats, and its update of rmean and rvar.",
    .in = {F32("stats", LEN(DT_FINALIZE_IN_GAMMA, LAST), .len_times = 2), F32("gamma", .rank = 1),
           F32("beta", LEN(DT_FINALIZE_IN_GAMMA, LAST)),
           F32("rmean", LEN(DT_FINALIZE_IN_GAMMA, LAST), .updated = true),
           F32("rvar", LEN(DT_FINALIZE_IN_GAMMA, LAST), .updated = true)},
    .out = {F32("mean"), F32("invstd"), F32("scale"), F32("shift")},
    .flags = DT_OP_INTERNAL | DT_OP_EFFECT,
    .attr = {A(norm, rows), A(norm, eps), LEARNS(norm, momentum), A(norm, stats_are_sums)},
    .infer = infer_bn_finalize,
};

/* [n,C], of which some are this rank's rows. */
static dt_status infer_sync(const dt_graph *g, const dt_node *n, int64_t first, dt_value *out) {
    const dt_norm_attr *t = &n->attr.norm;
    if (dt_infer_in(g, n, 0)->dim[0] != first) return dt_infer_misfit(g, n, 0);
    if (t->rows < 1 || t->rows_all < t->rows)
        return dt_fail(DT_ERR_CONFIG, "%d rows of this rank, %d of all", t->rows, t->rows_all);
    dt_infer_like(&out[0], dt_infer_in(g, n, 0));
    return DT_OK;
}

static dt_status infer_bn_sync(const dt_graph *g, const dt_node *n, dt_value *out) {
    return infer_sync(g, n, 2, out);
}

static dt_status infer_bn_sync_grad(const dt_graph *g, const dt_node *n, dt_value *out) {
    return infer_sync(g, n, 3, out);
}

const dt_op_row dt_row_bn_sync = {
    .name = "bn_sync",
    .doc = "all [2,C] = mean and biased variance over the rows of all ranks, from this rank's: sums over "
           "ranks of "
           "rows / rows_all times the mean and the mean square. A collective: every rank runs it.",
    .in = {F32("stats", .rank = 2)},
    .out = {F32("all")},
    .flags = DT_OP_INTERNAL | DT_OP_EFFECT,
    .attr = {A(norm, rows), A(norm, rows_all), A(norm, stats_are_sums)},
    .infer = infer_bn_sync,
};

const dt_op_row dt_row_bn_sync_grad = {
    .name = "bn_sync_grad",
    .doc = "all [3,C] = bn_reduce's coef with the sums of all ranks: A, which they share, and sums over "
           "ranks of "
           "rows / rows_all times B and D, which are linear in dgamma / m and dbeta / m. A collective.",
    .in = {F32("coef", .rank = 2)},
    .out = {F32("all")},
    .flags = DT_OP_INTERNAL | DT_OP_EFFECT,
    .attr = {A(norm, rows), A(norm, rows_all)},
    .infer = infer_bn_sync_grad,
};

const dt_op_row dt_row_bn_fold = {
    .name = "bn_fold",
    .doc = "scale and shift of batchnorm in evaluation.",
    .in = {F32("gamma", .rank = 1), F32("beta", SAME(0)), F32("rmean", SAME(0)), F32("rvar", SAME(0))},
    .out = {F32("scale"), F32("shift")},
    .flags = DT_OP_INTERNAL,
    .attr = {A(norm, eps)},
    .infer = infer_bn_fold,
};

const dt_op_row dt_row_bn_apply = {
    .name = "bn_apply",
    .doc = "y = act(x * scale + shift + r), r = res or res * res_scale + res_shift.",
    .in = {T("x"), F32("scale", LEN(DT_APPLY_IN_X, LAST)), F32("shift", LEN(DT_APPLY_IN_X, LAST)),
           T("res", OPT, SAME(DT_APPLY_IN_X)),
           F32("res_scale", OPT, LEN(DT_APPLY_IN_X, LAST), NEEDS2(DT_APPLY_IN_RES, DT_APPLY_IN_RES_SHIFT)),
           F32("res_shift", OPT, LEN(DT_APPLY_IN_X, LAST), NEEDS2(DT_APPLY_IN_RES, DT_APPLY_IN_RES_SCALE))},
    .out = {T("y")},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(DT_APPLY_IN_X, 0),
    .attr = {A(norm, relu)},
    .infer = dt_infer_same,
};

const dt_op_row dt_row_bn_reduce = {
    .name = "bn_reduce",
    .doc = "dz = (dy + dy2) where y > 0, or where c * scale + shift > 0; dbeta = sum dz, dgamma "
           "= sum dz * (c - mean) * invstd; coef [3,C] = (A, B, D) of dc = A dz + B c + D: A = "
           "gamma*invstd, B = -A*invstd*dgamma/m, D = -A*dbeta/m - B*mean (Ioffe & Szegedy 2015, "
           "collected per channel). With dyp dy is the max pool's gradient of dyp + dyp2 at idx.",
    .in = {T("dy", OPT, SAME(DT_REDUCE_IN_C)),
           T("dy2", OPT, SAME(DT_REDUCE_IN_C), NEEDS(DT_REDUCE_IN_DY)),
           T("c"),
           F32("mean", LEN(DT_REDUCE_IN_C, LAST)),
           F32("invstd", LEN(DT_REDUCE_IN_C, LAST)),
           F32("gamma", LEN(DT_REDUCE_IN_C, LAST)),
           T("y", OPT, SAME(DT_REDUCE_IN_C)),
           F32("scale", OPT, LEN(DT_REDUCE_IN_C, LAST), NEEDS(DT_REDUCE_IN_SHIFT)),
           F32("shift", OPT, LEN(DT_REDUCE_IN_C, LAST), NEEDS(DT_REDUCE_IN_SCALE)),
           T("dyp", OPT, .rank = 4, NEEDS2(DT_REDUCE_IN_IDX, DT_REDUCE_IN_SCALE)),
           T("dyp2", OPT, SAME(DT_REDUCE_IN_DYP), NEEDS(DT_REDUCE_IN_DYP)),
           {.name = "idx", .type = DT_SLOT_U8, OPT, SAME(DT_REDUCE_IN_DYP), NEEDS(DT_REDUCE_IN_DYP)}},
    .out = {T("dgamma"), T("dbeta"), F32("coef"), T("dz", OPT)},
    .flags = DT_OP_INTERNAL,
    .main = DT_REDUCE_IN_C,
    IN_PLACE(DT_REDUCE_IN_DY, DT_REDUCE_OUT_DZ),
    .attr = {WINDOW},
    .infer = infer_bn_reduce,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_bn_dx = {
    .name = "bn_dx",
    .doc = "dx = A dz + B c + D, dz = dy where c * scale + shift > 0 (everywhere without scale). "
           "With dyp dy is the max pool's gradient of dyp + dyp2 at idx.",
    .in = {T("dy", OPT, SAME(DT_DX_IN_C)),
           T("c"),
           F32("coef", LEN(DT_DX_IN_C, LAST), .len_times = 3),
           F32("scale", OPT, LEN(DT_DX_IN_C, LAST), NEEDS(DT_DX_IN_SHIFT)),
           F32("shift", OPT, LEN(DT_DX_IN_C, LAST), NEEDS(DT_DX_IN_SCALE)),
           T("dyp", OPT, .rank = 4, NEEDS2(DT_DX_IN_IDX, DT_DX_IN_SCALE)),
           T("dyp2", OPT, SAME(DT_DX_IN_DYP), NEEDS(DT_DX_IN_DYP)),
           {.name = "idx", .type = DT_SLOT_U8, OPT, SAME(DT_DX_IN_DYP), NEEDS(DT_DX_IN_DYP)}},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    .main = DT_DX_IN_C,
    IN_PLACE(DT_DX_IN_DY, 0),
    .attr = {WINDOW},
    .infer = infer_bn_dx,
    .flops = dt_flops_main4,
};
