/* Losses: their shape rules, and where gradients start. The formulas of LOSS are in core/loss.h. */
#include <math.h>

#include "core/step.h"
#include "op_infer.h"

static dt_status check_loss(const dt_graph *g, const dt_node *n, int32_t i_metrics) {
    if (dt_value_n_elem(dt_infer_in(g, n, i_metrics)) != DT_METRIC_COUNT)
        return dt_infer_misfit(g, n, i_metrics);
    const float weight = n->attr.loss.weight;
    if (!isfinite(weight) || weight == 0)
        return dt_fail(DT_ERR_CONFIG, "the weight of a loss is %g: it must be a number other than 0",
                       (double)weight);
    return DT_OK;
}

dt_status dt_infer_xent(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_XENT_IN_LOGITS);
    DT_TRY(check_loss(g, n, DT_XENT_IN_METRICS));
    if (!(n->attr.loss.smoothing >= 0 && n->attr.loss.smoothing < 1))
        return dt_fail(DT_ERR_CONFIG, "label smoothing %g is not in [0, 1)", (double)n->attr.loss.smoothing);
    DT_INFER_SET(&out[DT_XENT_OUT_LOSS], DT_DTYPE_F32, x->dim[0]);
    DT_INFER_SET(&out[DT_XENT_OUT_PROB], DT_DTYPE_F32, x->dim[0], x->dim[1]);
    return DT_OK;
}

dt_status dt_infer_xent_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *prob = dt_infer_in(g, n, 0);
    DT_INFER_SET(&out[0], g->compute, prob->dim[0], prob->dim[1]);
    return DT_OK;
}

dt_status dt_grad_xent(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)dout, (void)want;
    return dt_grad_add_node(
        g, n.in[DT_XENT_IN_LOGITS], DT_OP_XENT_BWD, &n.attr, 3,
        (dt_vid[]){n.out[DT_XENT_OUT_PROB], n.in[DT_XENT_IN_LABEL], n.in[DT_XENT_IN_VALID]},
        &din[DT_XENT_IN_LOGITS]);
}

static const struct {
    const char *name;
    bool target;
} kind_table[DT_LOSS_COUNT] = {
#define DT_LOSS_ROW(NAME, name, target, loss, slope) [DT_LOSS_##NAME] = {#name, target},
    DT_LOSS_LIST(DT_LOSS_ROW)
#undef DT_LOSS_ROW
};

/* Whether the shapes are one, dimensions of 1 apart. */
static bool same_numbers(const dt_value *a, const dt_value *b) {
    int32_t i = 0, j = 0;
    for (;; i++, j++) {
        while (i < a->ndim && a->dim[i] == 1) i++;
        while (j < b->ndim && b->dim[j] == 1) j++;
        if (i == a->ndim || j == b->ndim || a->dim[i] != b->dim[j]) break;
    }
    return i == a->ndim && j == b->ndim && a->dim[0] == b->dim[0];
}

static dt_status check_kind(const dt_graph *g, const dt_node *n) {
    const dt_loss_attr *t = &n->attr.loss;
    const bool target = dt_node_has(n, DT_LOSS_IN_TARGET);
    if ((uint32_t)t->kind >= DT_LOSS_COUNT) return dt_fail(DT_ERR_CONFIG, "no loss number %d", (int)t->kind);
    if (target != kind_table[t->kind].target)
        return dt_fail(DT_ERR_CONFIG, "a loss of kind %s has %s target", kind_table[t->kind].name,
                       target ? "no" : "a");
    if (target && !same_numbers(dt_infer_in(g, n, DT_LOSS_IN_X), dt_infer_in(g, n, DT_LOSS_IN_TARGET)))
        return dt_infer_misfit(g, n, DT_LOSS_IN_TARGET);
    if (t->sums != DT_LOSS_SUMS_NONE && !target)
        return dt_fail(DT_ERR_CONFIG, "a loss without a target has no sums of a task");
    if ((t->kind == DT_LOSS_HUBER || t->kind == DT_LOSS_BCE) && !(t->param > 0 && isfinite(t->param)))
        return dt_fail(DT_ERR_CONFIG, "%s of %g: it must be above 0",
                       t->kind == DT_LOSS_BCE ? "a weight of positives" : "delta", (double)t->param);
    return DT_OK;
}

dt_status dt_infer_loss(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(check_loss(g, n, DT_LOSS_IN_METRICS));
    DT_TRY(check_kind(g, n));
    DT_INFER_SET(&out[0], DT_DTYPE_F32, dt_infer_in(g, n, DT_LOSS_IN_X)->dim[0]);
    return DT_OK;
}

dt_status dt_infer_loss_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(check_kind(g, n));
    return dt_infer_same(g, n, out);
}

dt_status dt_grad_loss(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid x = n.in[DT_LOSS_IN_X];
    (void)dout, (void)want;
    return dt_grad_add_node(g, x, DT_OP_LOSS_BWD, &n.attr, 3,
                            (dt_vid[]){x, n.in[DT_LOSS_IN_TARGET], n.in[DT_LOSS_IN_VALID]},
                            &din[DT_LOSS_IN_X]);
}

dt_status dt_infer_cast(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    const dt_dtype to = n->attr.cast.dtype;
    const bool whole = x->dtype == DT_DTYPE_U8 || x->dtype == DT_DTYPE_I32 || x->dtype == DT_DTYPE_I64 ||
                       x->dtype == DT_DTYPE_I8 || x->dtype == DT_DTYPE_BOOL;
    if (!dt_dtype_is_float(to) && !(to == DT_DTYPE_I32 && whole))
        return dt_fail(DT_ERR_CONFIG, "no cast of %s, %s, to %s", x->name, dt_value_shape_text(x),
                       (uint32_t)to < DT_DTYPE_COUNT ? dt_dtype_name(to) : "no type");
    dt_infer_set(&out[0], to, x->ndim, x->dim);
    return DT_OK;
}
