/* Recurrences over a sequence: simple, GRU and LSTM, one layer in one direction. */
#include "op_row.h"

const char *const dt_recurrent_names[DT_RECURRENT_COUNT][2] = {
    {"rnn_tanh", "rnn_tanh_bwd"}, {"rnn_relu", "rnn_relu_bwd"}, {"gru", "gru_bwd"}, {"lstm", "lstm_bwd"}};

static const char *name_of(const dt_node *n) {
    return dt_recurrent_names[n->attr.recurrent.kind][0];
}

static dt_status need_kind(const dt_node *n) {
    if ((uint32_t)n->attr.recurrent.kind < DT_RECURRENT_COUNT) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "no recurrence has number %d", (int)n->attr.recurrent.kind);
}

/* w_hh is [gates * H, H]. */
static dt_status need_weight(const dt_graph *g, const dt_node *n, int32_t slot) {
    const dt_value *w = dt_infer_in(g, n, slot);
    const int32_t gates = dt_recurrent_gates(n->attr.recurrent.kind);
    if (w->dim[1] > 0 && w->dim[0] % gates == 0 && w->dim[0] / gates == w->dim[1]) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "weight %s is %s, expected [%d H,H] of %s", w->name, dt_value_shape_text(w),
                   gates, name_of(n));
}

/* Where there is one it is [B,H]; cell: only an LSTM has it. */
static dt_status need_state(const dt_graph *g, const dt_node *n, int32_t slot, int64_t rows, int64_t units,
                            bool cell) {
    if (!dt_node_has(n, slot)) return DT_OK;
    const dt_value *v = dt_infer_in(g, n, slot);
    if (cell && n->attr.recurrent.kind != DT_LSTM)
        return dt_fail(DT_ERR_CONFIG, "input %s, %s: only an LSTM has a cell state",
                       dt_op_in(n->op, slot)->name, v->name);
    return v->dim[0] == rows && v->dim[1] == units ? DT_OK : dt_infer_misfit(g, n, slot);
}

static dt_status infer_recurrent(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_kind(n));
    DT_TRY(need_weight(g, n, DT_RNN_IN_W));
    const dt_value *x = dt_infer_in(g, n, DT_RNN_IN_GATES), *w = dt_infer_in(g, n, DT_RNN_IN_W);
    const int64_t rows = x->dim[0], steps = x->dim[1], units = w->dim[1];
    const dt_recurrent_kind kind = n->attr.recurrent.kind;
    if (x->dim[2] != w->dim[0]) return dt_infer_misfit(g, n, DT_RNN_IN_W);
    DT_TRY(need_state(g, n, DT_RNN_IN_H0, rows, units, false));
    DT_TRY(need_state(g, n, DT_RNN_IN_C0, rows, units, true));
    const bool gated = dt_recurrent_gates(kind) > 1;
    if ((dt_node_makes(n, DT_RNN_OUT_C) && kind != DT_LSTM) ||
        ((dt_node_makes(n, DT_RNN_OUT_ACT) || dt_node_makes(n, DT_RNN_OUT_CELL)) && !gated))
        return dt_fail(DT_ERR_CONFIG, "%s has no such output", name_of(n));
    DT_INFER_SET(&out[DT_RNN_OUT_Y], x->dtype, rows, steps, units);
    DT_INFER_SET(&out[DT_RNN_OUT_H], x->dtype, rows, units);
    DT_INFER_SET(&out[DT_RNN_OUT_C], x->dtype, rows, units);
    dt_infer_like(&out[DT_RNN_OUT_ACT], x);
    DT_INFER_SET(&out[DT_RNN_OUT_CELL], DT_DTYPE_F32, rows, steps, units);
    return DT_OK;
}

static dt_status infer_recurrent_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_kind(n));
    DT_TRY(need_weight(g, n, DT_RNN_BWD_IN_W));
    const dt_value *y = dt_infer_in(g, n, DT_RNN_BWD_IN_Y), *w = dt_infer_in(g, n, DT_RNN_BWD_IN_W);
    const int64_t rows = y->dim[0], steps = y->dim[1], units = y->dim[2], wide = w->dim[0];
    const dt_dtype t = dt_op_type(g, n);
    const bool gated = dt_recurrent_gates(n->attr.recurrent.kind) > 1;
    if (w->dim[1] != units) return dt_infer_misfit(g, n, DT_RNN_BWD_IN_W);
    for (int32_t slot = DT_RNN_BWD_IN_ACT; slot <= DT_RNN_BWD_IN_CELL; slot++)
        if (dt_node_has(n, slot) != gated)
            return dt_fail(DT_ERR_CONFIG, "input %s is %s %s", dt_op_in(n->op, slot)->name,
                           gated ? "needed by" : "not of", name_of(n));
    if (gated) {
        const dt_value *act = dt_infer_in(g, n, DT_RNN_BWD_IN_ACT);
        if (act->dim[0] != rows || act->dim[1] != steps || act->dim[2] != wide)
            return dt_infer_misfit(g, n, DT_RNN_BWD_IN_ACT);
    }
    DT_TRY(need_state(g, n, DT_RNN_BWD_IN_DH, rows, units, false));
    DT_TRY(need_state(g, n, DT_RNN_BWD_IN_DC, rows, units, true));
    DT_TRY(need_state(g, n, DT_RNN_BWD_IN_H0, rows, units, false));
    DT_TRY(need_state(g, n, DT_RNN_BWD_IN_C0, rows, units, true));
    if (dt_node_makes(n, DT_RNN_BWD_OUT_DC0) && n->attr.recurrent.kind != DT_LSTM)
        return dt_fail(DT_ERR_CONFIG, "%s has no such output", name_of(n));
    DT_INFER_SET(&out[DT_RNN_BWD_OUT_DGATES], t, rows, steps, wide);
    DT_INFER_SET(&out[DT_RNN_BWD_OUT_DW], t, wide, units);
    DT_INFER_SET(&out[DT_RNN_BWD_OUT_DB], t, wide);
    DT_INFER_SET(&out[DT_RNN_BWD_OUT_DH0], t, rows, units);
    DT_INFER_SET(&out[DT_RNN_BWD_OUT_DC0], t, rows, units);
    return DT_OK;
}

static dt_status grad_recurrent(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    static const int32_t result[][2] = {{DT_RNN_IN_W, DT_RNN_BWD_OUT_DW},
                                        {DT_RNN_IN_B, DT_RNN_BWD_OUT_DB},
                                        {DT_RNN_IN_H0, DT_RNN_BWD_OUT_DH0},
                                        {DT_RNN_IN_C0, DT_RNN_BWD_OUT_DC0}};
    enum { RESULTS = sizeof result / sizeof result[0] };
    const dt_node n = g->node[id];
    const dt_vid in[] = {
        [DT_RNN_BWD_IN_Y] = n.out[DT_RNN_OUT_Y],     [DT_RNN_BWD_IN_W] = n.in[DT_RNN_IN_W],
        [DT_RNN_BWD_IN_ACT] = n.out[DT_RNN_OUT_ACT], [DT_RNN_BWD_IN_CELL] = n.out[DT_RNN_OUT_CELL],
        [DT_RNN_BWD_IN_DY] = dout[DT_RNN_OUT_Y],     [DT_RNN_BWD_IN_DH] = dout[DT_RNN_OUT_H],
        [DT_RNN_BWD_IN_DC] = dout[DT_RNN_OUT_C],     [DT_RNN_BWD_IN_H0] = n.in[DT_RNN_IN_H0],
        [DT_RNN_BWD_IN_C0] = n.in[DT_RNN_IN_C0],     [DT_RNN_BWD_IN_LENGTHS] = n.in[DT_RNN_IN_LENGTHS]};
    uint32_t wanted = 0;
    char name[DT_NAME_MAX];
    for (int32_t i = 0; i < RESULTS; i++) wanted |= want[result[i][0]] ? 1u << result[i][1] : 0;
    dt_grad_name(g, n.in[DT_RNN_IN_GATES], name);
    DT_TRY(dt_graph_add_node_with(g, name, DT_OP_RECURRENT_BWD, &n.attr, sizeof in / sizeof in[0], in, wanted,
                                  &din[DT_RNN_IN_GATES]));
    const dt_node made = g->node[g->n_node - 1];
    for (int32_t i = 0; i < RESULTS; i++)
        if (want[result[i][0]]) din[result[i][0]] = made.out[result[i][1]];
    return DT_OK;
}

/* A product of [B,H] with [H,gates H] each step; backward one of the same size, and the weight's gradient. */
static double recurrent_flops(const dt_graph *g, const dt_node *n) {
    const bool back = n->op == DT_OP_RECURRENT_BWD;
    const dt_value *x = &g->value[back ? n->out[0] : n->in[0]];
    return (back ? 4.0 : 2.0) * (double)dt_value_n_elem(x) * (double)g->value[n->in[1]].dim[1];
}

const dt_op_row dt_row_recurrent = {
    .name = "recurrent",
    .doc =
        "A recurrence over T steps of gates [B,T,GH] = x w_ih^T + b_ih; u = w_hh h + b_hh. rnn: h = tanh or "
        "relu "
        "of (gates + u). gru (r, z, n): r, z = sigmoid(gates + u), n = tanh(gates + r u), h = (1 - z) n + z "
        "h. "
        "lstm (i, f, g, o): i, f, o = sigmoid(gates + u), g = tanh(gates + u), c = f c + i g, h = o tanh(c). "
        "y [B,T,H] = every h, h and c [B,H] the last. lengths: a row ends there, y is 0 beyond. reverse: "
        "from a "
        "row's end to its beginning. For the gradient act = activated gates, cell = c of lstm, u of n of "
        "gru. "
        "PyTorch's LSTM, GRU and RNN.",
    .in = {T("gates", .rank = 3),
           WEIGHT("w_hh", .rank = 2),
           F32("b_hh", OPT, LEN(DT_RNN_IN_GATES, LAST)),
           T("h0", OPT, .rank = 2),
           T("c0", OPT, .rank = 2),
           {.name = "lengths", .type = DT_SLOT_I32, OPT, LEN(DT_RNN_IN_GATES, 0)}},
    .out = {T("y"), T("h", OPT), T("c", OPT), T("act", OPT), F32("cell", OPT)},
    .flags = DT_OP_EMPTY,
    IN_PLACE(DT_RNN_IN_GATES, DT_RNN_OUT_ACT),
    .attr = {A(recurrent, kind), A(recurrent, reverse)},
    .infer = infer_recurrent,
    .grad = grad_recurrent,
    .flops = recurrent_flops,
};

const dt_op_row dt_row_recurrent_bwd = {
    .name = "recurrent_bwd",
    .doc = "Gradients of recurrent from those of y, h and c, of which any may be absent.",
    .in = {T("y", .rank = 3),
           T("w_hh", .rank = 2),
           T("act", OPT, .rank = 3),
           F32("cell", OPT, SAME(DT_RNN_BWD_IN_Y)),
           T("dy", OPT, SAME(DT_RNN_BWD_IN_Y)),
           T("dh", OPT, .rank = 2),
           T("dc", OPT, .rank = 2),
           T("h0", OPT, .rank = 2),
           T("c0", OPT, .rank = 2),
           {.name = "lengths", .type = DT_SLOT_I32, OPT, LEN(DT_RNN_BWD_IN_Y, 0)}},
    .out = {T("dgates"), T("dw_hh", OPT), T("db_hh", OPT), T("dh0", OPT), T("dc0", OPT)},
    .flags = DT_OP_INTERNAL | DT_OP_EMPTY,
    IN_PLACE(DT_RNN_BWD_IN_ACT, DT_RNN_BWD_OUT_DGATES),
    .attr = {A(recurrent, kind), A(recurrent, reverse)},
    .infer = infer_recurrent_bwd,
    .flops = recurrent_flops,
};
