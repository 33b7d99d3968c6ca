/* Losses, where gradients start. The formulas of LOSS are in core/loss.h. */
#include <math.h>
#include <stdio.h>

#include "core/step.h"
#include "core/text.h"
#include "op_row.h"

static dt_status check_loss(const dt_graph *g, const dt_node *n, int32_t i_metrics) {
    if (dt_value_n_elem(dt_infer_in(g, n, i_metrics)) != DT_METRIC_COUNT)
        return dt_infer_misfit(g, n, i_metrics);
    const float weight = n->attr.loss.weight;
    if (!isfinite(weight) || weight == 0)
        return dt_fail(DT_ERR_CONFIG, "the weight of a loss is %g: it must be a number other than 0",
                       (double)weight);
    return DT_OK;
}

/* Logits are rows of at least one sample; there is a label for each. */
static dt_status need_rows(const dt_graph *g, const dt_node *n, int32_t i_label) {
    const dt_value *x = dt_infer_in(g, n, 0);
    if (x->ndim < 2) return dt_infer_misfit(g, n, 0);
    const dt_value *label = dt_infer_in(g, n, i_label);
    const int64_t rows = dt_value_n_elem(x) / dt_max_i64(dt_infer_last(x), 1);
    if (dt_value_n_elem(label) == rows) return DT_OK;
    char text[96];
    snprintf(text, sizeof text, "%s", dt_value_shape_text(label));
    return dt_fail(DT_ERR_CONFIG,
                   "label %s is %s: it does not fit logits %s, %s, whose last dimension is the classes: %s "
                   "expected",
                   label->name, text, x->name, dt_value_shape_text(x), dt_count_text(rows, "label").s);
}

/* A target has as many numbers, in the same order. */
static dt_status target_misfit(const dt_value *x, const dt_value *target) {
    char text[96];
    snprintf(text, sizeof text, "%s", dt_value_shape_text(target));
    return dt_fail(DT_ERR_CONFIG, "target %s is %s: it does not fit %s, which is %s", target->name, text,
                   x->name, dt_value_shape_text(x));
}

static dt_status infer_xent(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_XENT_IN_LOGITS);
    DT_TRY(check_loss(g, n, DT_XENT_IN_METRICS));
    if (!(n->attr.loss.smoothing >= 0 && n->attr.loss.smoothing < 1))
        return dt_fail(DT_ERR_CONFIG, "label smoothing %g is not in [0, 1)", (double)n->attr.loss.smoothing);
    if (!(n->attr.loss.threshold >= 0 && n->attr.loss.threshold < 1))
        return dt_fail(DT_ERR_CONFIG, "a threshold of targets of %g is not in [0, 1)",
                       (double)n->attr.loss.threshold);
    DT_TRY(need_rows(g, n, DT_XENT_IN_LABEL));
    dt_infer_set(&out[DT_XENT_OUT_LOSS], DT_DTYPE_F32, x->ndim - 1, x->dim);
    DT_INFER_SET(&out[DT_XENT_OUT_STATS], DT_DTYPE_F32, dt_value_n_elem(&out[DT_XENT_OUT_LOSS]), 2);
    return DT_OK;
}

static dt_status infer_xent_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, DT_XENT_BWD_IN_LOGITS),
                   *stats = dt_infer_in(g, n, DT_XENT_BWD_IN_STATS);
    DT_TRY(need_rows(g, n, DT_XENT_BWD_IN_LABEL));
    if (stats->dim[1] != 2 || stats->dim[0] * dt_infer_last(x) != dt_value_n_elem(x))
        return dt_infer_misfit(g, n, DT_XENT_BWD_IN_STATS);
    return dt_infer_same(g, n, out);
}

static dt_status grad_xent(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    (void)dout, (void)want;
    return dt_grad_add_node(g, n.in[DT_XENT_IN_LOGITS], DT_OP_XENT_BWD, &n.attr, 6,
                            (dt_vid[]){n.in[DT_XENT_IN_LOGITS], n.in[DT_XENT_IN_LABEL],
                                       n.out[DT_XENT_OUT_STATS], n.in[DT_XENT_IN_VALID],
                                       n.in[DT_XENT_IN_PARTNER], n.in[DT_XENT_IN_SHARE]},
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
        return target_misfit(dt_infer_in(g, n, DT_LOSS_IN_X), dt_infer_in(g, n, DT_LOSS_IN_TARGET));
    if (t->sums != DT_LOSS_SUMS_NONE && !target)
        return dt_fail(DT_ERR_CONFIG, "a loss without a target has no sums of a task");
    if ((t->kind == DT_LOSS_HUBER || t->kind == DT_LOSS_BCE) && !(t->param > 0 && isfinite(t->param)))
        return dt_fail(DT_ERR_CONFIG, "%s of %g: it must be above 0",
                       t->kind == DT_LOSS_BCE ? "a weight of positives" : "delta", (double)t->param);
    return DT_OK;
}

static dt_status infer_loss(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(check_loss(g, n, DT_LOSS_IN_METRICS));
    DT_TRY(check_kind(g, n));
    DT_INFER_SET(&out[0], DT_DTYPE_F32, dt_infer_in(g, n, DT_LOSS_IN_X)->dim[0]);
    return DT_OK;
}

static dt_status infer_loss_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(check_kind(g, n));
    return dt_infer_same(g, n, out);
}

static dt_status grad_loss(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const dt_vid x = n.in[DT_LOSS_IN_X];
    (void)dout, (void)want;
    return dt_grad_add_node(g, x, DT_OP_LOSS_BWD, &n.attr, 3,
                            (dt_vid[]){x, n.in[DT_LOSS_IN_TARGET], n.in[DT_LOSS_IN_VALID]},
                            &din[DT_LOSS_IN_X]);
}

const dt_op_row dt_row_xent = {
    .name = "xent",
    .doc =
        "loss [...] = (1-s) * -log p[label] + s * mean_k(-log p[k]) of p = softmax(logits "
        "[...,K]), as PyTorch's cross_entropy; 0 where label < 0, or valid of the sample is 0. With partner "
        "label's part of 1-s is share, partner has the rest. binary: mean_k of the logistic loss of "
        "logit k and the same target, above threshold 1, else 0, where there is one. stats "
        "[rows,2]: largest logit, 1 / sum of exp(logit - it). Adds to metrics (LOSS, SAMPLES: rows that "
        "count, its own sums among several; the first also TOP1, TOP5); a class counts as above the "
        "label's if its logit is greater, or equal with a lower index.",
    .in = {T("logits"),
           {.name = "label", .type = DT_SLOT_I32},
           F32("metrics", .updated = true),
           {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(DT_XENT_IN_LOGITS, 0)},
           {.name = "partner", .type = DT_SLOT_I32, OPT, SAME(DT_XENT_IN_LABEL), NEEDS(DT_XENT_IN_SHARE)},
           F32("share", OPT, SAME(DT_XENT_IN_LABEL), NEEDS(DT_XENT_IN_PARTNER))},
    .out = {F32("loss"), F32("stats")},
    .flags = DT_OP_EFFECT | DT_OP_SEED,
    .attr = {A(loss, weight), A(loss, nth), A(loss, smoothing), A(loss, binary), A(loss, threshold)},
    .infer = infer_xent,
    .grad = grad_xent,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_loss = {
    .name = "loss",
    .doc = "loss [N] = mean over a row's elements of value: x; mse: (x - target)^2; l1: |x - "
           "target|; huber: PyTorch's huber_loss with delta; bce: binary_cross_entropy_with_logits "
           "with the positives' weight. 0 where valid is 0. Adds to metrics (LOSS, SAMPLES, its own "
           "sums among several; the first also the task's sums).",
    .in = {T("x"),
           F32("target", OPT),
           {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(DT_LOSS_IN_X, 0)},
           F32("metrics", .updated = true)},
    .out = {F32("loss")},
    .flags = DT_OP_EFFECT | DT_OP_SEED,
    .attr = {A(loss, weight), A(loss, nth), A(loss, kind), A(loss, sums), A(loss, param)},
    .infer = infer_loss,
    .grad = grad_loss,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_xent_bwd = {
    .name = "xent_bwd",
    .doc = "dlogits [...,K] = (p - target) * weight * loss_weight * loss_scale / rows of a sample, target as "
           "xent has it, p from its stats; binary: p = logistic(logits), and divided by K; 0 where label < "
           "0, or "
           "valid of the sample is 0.",
    .in = {T("logits"),
           {.name = "label", .type = DT_SLOT_I32},
           F32("stats", .rank = 2),
           {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(0, 0)},
           {.name = "partner",
            .type = DT_SLOT_I32,
            OPT,
            SAME(DT_XENT_BWD_IN_LABEL),
            NEEDS(DT_XENT_BWD_IN_SHARE)},
           F32("share", OPT, SAME(DT_XENT_BWD_IN_LABEL), NEEDS(DT_XENT_BWD_IN_PARTNER))},
    .out = {T("dlogits")},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(DT_XENT_BWD_IN_LOGITS, 0),
    .attr = {A(loss, weight), A(loss, smoothing), A(loss, binary), A(loss, threshold)},
    .infer = infer_xent_bwd,
};

const dt_op_row dt_row_loss_bwd = {
    .name = "loss_bwd",
    .doc = "dx = slope of loss at each element * weight * loss_weight * loss_scale / elements of "
           "a row; 0 where valid is 0.",
    .in = {T("x"), F32("target", OPT), {.name = "valid", .type = DT_SLOT_I32, OPT, LEN(DT_LOSS_IN_X, 0)}},
    .out = {T("dx")},
    .flags = DT_OP_INTERNAL,
    IN_PLACE(0, 0),
    .attr = {A(loss, weight), A(loss, kind), A(loss, param)},
    .infer = infer_loss_bwd,
};
