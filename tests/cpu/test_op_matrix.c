/* The op test matrix on the CPU backend: for every case, shape errors, bounds, repeatability, the oracle in
 * double, and finite differences of every gradient rule. */
#include "cpu/cpu.h"
#include "gpu/cuda.h"
#include "graph_oracle.h"
#include "op_cases.h"
#include "op_time.h"

static dt_backend *make_backend(int32_t threads) {
    dt_backend *be = NULL;
    op_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = threads}, &be));
    return be;
}

static int set_up(void **state) {
    *state = make_backend(2);
    return 0;
}

static int tear_down(void **state) {
    dt_backend *be = *state;
    be->destroy(be);
    return 0;
}

static void test_every_op_has_a_case(void **state) {
    (void)state;
    for (int op = 0; op < DT_OP_COUNT; op++) {
        int n = 0;
        for (int i = 0; i < OP_CASE_COUNT; i++) n += (int)op_case_table[i].op == op;
        if (n == 0) fail_msg("op %s has no case in op_cases.h", dt_op_get((dt_op)op)->name);
    }
}

/* ---- shape errors ---- */

static void expect_refused(const op_case *c, dt_dtype compute, const char *how) {
    dt_graph *g = NULL;
    op_ok(dt_graph_create(&g, compute, !c->eval));
    dt_status st = op_case_add(c, g, NULL);
    if (st == DT_OK) fail_msg("case %s was accepted with %s", c->name, how);
    if (!strstr(dt_error_text(), "node"))
        fail_msg("case %s with %s: the message \"%s\" does not name the node", c->name, how, dt_error_text());
    assert_int_equal(g->n_node, 0);
    dt_graph_destroy(g);
}

static void test_wrong_inputs_are_refused(void **state) {
    (void)state;
    for (int i = 0; i < OP_CASE_COUNT; i++) {
        const op_case *c = &op_case_table[i];
        const dt_op_row *row = dt_op_get(c->op);
        if (c->op == DT_OP_CALL) continue; /* takes anything */
        for (int32_t k = 0; k < DT_SLOTS_IN_MAX; k++) {
            op_case bad = *c;
            if (k >= dt_op_n_in(c->op)) {
                bad.in[k] = (op_in){IN_LABEL, {1}};
                expect_refused(&bad, DT_DTYPE_F32, "an input too many");
                continue;
            }
            if (!op_case_has(c, k)) continue;
            const dt_slot *slot = &row->in[k];
            bool needed = !slot->optional;
            for (int32_t j = 0; j < dt_op_n_in(c->op); j++)
                needed |= op_case_has(c, j) && (row->in[j].needs >> k & 1);
            memset(&bad.in[k], 0, sizeof bad.in[k]);
            if (needed) expect_refused(&bad, DT_DTYPE_F32, "an input missing");
            bad = *c;
            bad.in[k].kind = op_in_dtype(c->in[k].kind, DT_DTYPE_F32) == DT_DTYPE_I32 ? IN_ACT : IN_LABEL;
            if (slot->type != DT_SLOT_ANY) expect_refused(&bad, DT_DTYPE_F32, "the wrong dtype");
            bad = *c;
            if (slot->rank == 0 || op_in_ndim(&c->in[k]) == DT_MAX_DIM) continue;
            bad.in[k].dim[slot->rank] = 1;
            expect_refused(&bad, DT_DTYPE_F32, "a dimension too many");
        }
        /* Every input but the first decides nothing alone, unless free_dim says so. */
        bool first = true;
        for (int32_t k = 0; k < DT_SLOTS_IN_MAX; k++) {
            if (!op_case_has(c, k)) continue;
            op_case bad = *c;
            const bool free = c->free_dim >> k & 1;
            bad.in[k].dim[free ? 0 : op_in_ndim(&c->in[k]) - 1]++;
            if (!first && !(c->any_dim >> k & 1)) expect_refused(&bad, DT_DTYPE_F32, "a wrong size");
            first = false;
        }
    }
}

/* Whether a slot's declaration takes a type in an evaluation graph. */
static bool slot_takes(const dt_slot *s, dt_dtype t) {
    switch (s->type) {
    case DT_SLOT_T:
    case DT_SLOT_FLOAT:
        return dt_dtype_is_float(t);
    case DT_SLOT_WEIGHT:
        return dt_dtype_is_float(t) || t == DT_DTYPE_I8 || t == DT_DTYPE_I4;
    case DT_SLOT_ANY:
        return t != DT_DTYPE_I4;
    default:
        return t == (s->type == DT_SLOT_U8    ? DT_DTYPE_U8
                     : s->type == DT_SLOT_I32 ? DT_DTYPE_I32
                                              : DT_DTYPE_F32);
    }
}

/* Every type in every slot: a graph takes what the slot says, and what the backend has no kernel for it refuses
 * by the slot's name. In training a weight of whole numbers is refused. */
static void test_types_by_slot(void **state) {
    dt_backend *be = *state;
    int n_weight = 0;
    for (int i = 0; i < OP_CASE_COUNT; i++) {
        op_case c = op_case_table[i];
        if (c.op == DT_OP_BATCHNORM || c.op == DT_OP_RESHAPE) continue; /* not run */
        for (int32_t k = 0; k < dt_op_n_in(c.op); k++) {
            if (!op_case_has(&c, k)) continue;
            const dt_slot *slot = dt_op_in(c.op, k);
            for (int t = 0; t < DT_DTYPE_COUNT; t++) {
                c.retyped = k + 1, c.type = (dt_dtype)t;
                dt_graph *g = NULL;
                op_ok(dt_graph_create(&g, DT_DTYPE_F32, false));
                const bool made = op_case_add(&c, g, NULL) == DT_OK;
                if (made && !slot_takes(slot, c.type))
                    fail_msg("case %s took %s in slot %s", c.name, dt_dtype_name(c.type), slot->name);
                const bool whole = slot->type == DT_SLOT_WEIGHT && !dt_dtype_is_float(c.type);
                if (whole && slot_takes(slot, c.type) && !made)
                    fail_msg("case %s: %s", c.name, dt_error_text());
                dt_prep *prep = NULL;
                int64_t bytes;
                const bool computed = slot->type == DT_SLOT_T || slot->type == DT_SLOT_FLOAT || whole;
                if (made && computed && t != DT_DTYPE_F32) {
                    assert_int_equal(be->prepare(be, g, 0, &prep, &bytes), DT_ERR_UNSUPPORTED);
                    if (!strstr(dt_error_text(), "fused") &&
                        (!strstr(dt_error_text(), slot->name) ||
                         !strstr(dt_error_text(), dt_dtype_name(c.type))))
                        fail_msg("case %s, slot %s: \"%s\"", c.name, slot->name, dt_error_text());
                    n_weight += whole;
                }
                dt_graph_destroy(g);
                if (!whole) continue;
                op_case trained = c;
                trained.eval = false;
                expect_refused(&trained, DT_DTYPE_F32, "a weight of whole numbers in training");
            }
        }
    }
    assert_true(n_weight > 20);
}

static void test_wrong_attributes_are_refused(void **state) {
    (void)state;
#define IMAGE                                                                                                \
    {                                                                                                        \
        IN_ACT, {                                                                                            \
            2, 5, 5, 4                                                                                       \
        }                                                                                                    \
    }
#define WEIGHT                                                                                               \
    {                                                                                                        \
        IN_ACT, {                                                                                            \
            6, 3, 3, 4                                                                                       \
        }                                                                                                    \
    }
    static const op_case bad[] = {
        {.name = "stride 0", .op = DT_OP_CONV, .attr = {OP_CONV(3, 3, 0, 1)}, .in = {IMAGE, WEIGHT}},
        {.name = "negative padding", .op = DT_OP_CONV, .attr = {OP_CONV(3, 3, 1, -1)}, .in = {IMAGE, WEIGHT}},
        {.name = "window of 4", .op = DT_OP_CONV, .attr = {OP_CONV(4, 3, 1, 1)}, .in = {IMAGE, WEIGHT}},
        {.name = "window too large",
         .op = DT_OP_CONV,
         .attr = {OP_CONV(3, 3, 1, 0)},
         .in = {{IN_ACT, {2, 2, 5, 4}}, WEIGHT}},
        {.name = "3 groups",
         .op = DT_OP_CONV,
         .attr = {OP_WINDOW(3, 3, 1, 1), .window.dilation = {1, 1}, .window.groups = 3},
         .in = {IMAGE, WEIGHT}},
        {.name = "0 groups",
         .op = DT_OP_CONV,
         .attr = {OP_WINDOW(3, 3, 1, 1), .window.dilation = {1, 1}},
         .in = {IMAGE, WEIGHT}},
        {.name = "pool padding", .op = DT_OP_MAXPOOL, .attr = {OP_WINDOW(2, 2, 2, 2)}, .in = {IMAGE}},
        {.name = "pool kernel 0", .op = DT_OP_AVGPOOL, .attr = {OP_WINDOW(0, 2, 2, 0)}, .in = {IMAGE}},
        {.name = "pool window 16x16", .op = DT_OP_MAXPOOL, .attr = {OP_WINDOW(16, 16, 1, 8)}, .in = {IMAGE}},
        {.name = "pool_bwd size",
         .op = DT_OP_AVGPOOL_BWD,
         .attr = {OP_WINDOW(2, 2, 2, 0), .window.size = {5, 5}},
         .in = {IMAGE}},
        {.name = "global pool_bwd size", .op = DT_OP_GLOBAL_AVGPOOL_BWD, .in = {{IN_ACT, {2, 3}}}},
        {.name = "pool of rows",
         .op = DT_OP_MAXPOOL,
         .attr = {OP_WINDOW(2, 2, 2, 0)},
         .in = {{IN_ACT, {2, 3}}}},
        {.name = "eps 0",
         .op = DT_OP_BATCHNORM,
         .in = {IMAGE, {IN_POS, {4}}, {IN_VEC, {4}}, {IN_VEC, {4}}, {IN_POS, {4}}}},
        {.name = "one value a channel",
         .op = DT_OP_BATCHNORM,
         .attr = {OP_BN},
         .in = {{IN_ACT, {1, 4}}, {IN_POS, {4}}, {IN_VEC, {4}}, {IN_VEC, {4}}, {IN_POS, {4}}}},
        {.name = "no recurrence",
         .op = DT_OP_RECURRENT,
         .attr = {OP_RNN(DT_RECURRENT_COUNT)},
         .in = {{IN_ACT, {2, 3, 8}}, {IN_ACT, {8, 2}}}},
        {.name = "lstm of three gates",
         .op = DT_OP_RECURRENT,
         .attr = {OP_RNN(DT_LSTM)},
         .in = {{IN_ACT, {2, 3, 6}}, {IN_ACT, {6, 2}}}},
        {.name = "gru with a cell",
         .op = DT_OP_RECURRENT,
         .attr = {OP_RNN(DT_GRU)},
         .in = {{IN_ACT, {2, 3, 6}}, {IN_ACT, {6, 2}}, [DT_RNN_IN_C0] = {IN_ACT, {2, 2}}}},
        {.name = "last cell of a gru",
         .op = DT_OP_RECURRENT,
         .attr = {OP_RNN(DT_GRU)},
         .in = {{IN_ACT, {2, 3, 6}}, {IN_ACT, {6, 2}}},
         .wanted = OP_LAST},
        {.name = "gates of an rnn",
         .op = DT_OP_RECURRENT,
         .attr = {OP_RNN(DT_RNN_RELU)},
         .in = {{IN_ACT, {2, 3, 2}}, {IN_ACT, {2, 2}}},
         .wanted = OP_KEPT},
        {.name = "lstm_bwd of nothing kept",
         .op = DT_OP_RECURRENT_BWD,
         .attr = {OP_RNN(DT_LSTM)},
         .in = {{IN_ACT, {2, 3, 2}}, {IN_ACT, {8, 2}}, [DT_RNN_BWD_IN_DY] = {IN_ACT, {2, 3, 2}}}},
        {.name = "rate 1", .op = DT_OP_DROPOUT, .attr = {.dropout.p = 1}, .in = {IMAGE}},
        {.name = "rate -0.1", .op = DT_OP_DROPOUT, .attr = {.dropout.p = -0.1f}, .in = {IMAGE}},
        {.name = "rate nan", .op = DT_OP_DROPOUT, .attr = {.dropout.p = NAN}, .in = {IMAGE}},
        {.name = "smoothing 1",
         .op = DT_OP_XENT,
         .attr = {OP_LOSS, .loss.smoothing = 1},
         .in = {{IN_ACT, {2, 3}}, {IN_LABEL, {2}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "threshold 1",
         .op = DT_OP_XENT,
         .attr = {OP_LOSS, .loss.binary = true, .loss.threshold = 1},
         .in = {{IN_ACT, {2, 3}}, {IN_LABEL, {2}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "a partner without a share",
         .op = DT_OP_XENT,
         .attr = {OP_LOSS},
         .in = {{IN_ACT, {2, 3}}, {IN_LABEL, {2}}, {IN_ZERO, {DT_METRIC_COUNT}}, {0}, {IN_LABEL, {2}}}},
        {.name = "shares of fewer rows",
         .op = DT_OP_XENT,
         .attr = {OP_LOSS},
         .in = {{IN_ACT, {2, 3}},
                {IN_LABEL, {2}},
                {IN_ZERO, {DT_METRIC_COUNT}},
                {0},
                {IN_LABEL, {2}},
                {IN_UNIT, {1}}}},
        {.name = "mixing rows of 8",
         .op = DT_OP_INPUT,
         .attr = {.input.size = {5, 5}, .input.padded_c = 3, OP_NORMAL},
         .in = {{IN_BYTE, {2, 5, 5, 3}}, {0}, {IN_WINDOW, {2, 8}}}},
        {.name = "mixed channels",
         .op = DT_OP_INPUT,
         .attr = {.input.size = {5, 5}, .input.padded_c = 17, OP_NORMAL},
         .in = {{IN_BYTE, {2, 5, 5, 3}}, {0}, {IN_MIX, {2, DT_MIX_INTS}}}},
        {.name = "loss without weight",
         .op = DT_OP_XENT,
         .in = {{IN_ACT, {2, 3}}, {IN_LABEL, {2}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "loss of infinite weight",
         .op = DT_OP_LOSS,
         .attr = {.loss = {.weight = INFINITY}},
         .in = {{IN_ACT, {2, 3}}, {0}, {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "loss of no kind",
         .op = DT_OP_LOSS,
         .attr = {.loss = {.weight = 1, .kind = DT_LOSS_COUNT}},
         .in = {{IN_ACT, {2, 3}}, {IN_VEC, {2, 3}}, {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "mse without target",
         .op = DT_OP_LOSS,
         .attr = {.loss = {.weight = 1, .kind = DT_LOSS_MSE}},
         .in = {{IN_ACT, {2, 3}}, {0}, {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "value with target",
         .op = DT_OP_LOSS,
         .attr = {OP_LOSS},
         .in = {{IN_ACT, {2, 3}}, {IN_VEC, {2, 3}}, {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "value with sums",
         .op = DT_OP_LOSS,
         .attr = {.loss = {.weight = 1, .sums = DT_LOSS_SUMS_REGRESS}},
         .in = {{IN_ACT, {2, 3}}, {0}, {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "delta 0",
         .op = DT_OP_LOSS,
         .attr = {.loss = {.weight = 1, .kind = DT_LOSS_HUBER}},
         .in = {{IN_ACT, {2, 3}}, {IN_VEC, {2, 3}}, {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "weight of positives -1",
         .op = DT_OP_LOSS,
         .attr = {.loss = {.weight = 1, .kind = DT_LOSS_BCE, .param = -1}},
         .in = {{IN_ACT, {2, 3}}, {IN_VEC, {2, 3}}, {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},
        {.name = "floats to whole numbers",
         .op = DT_OP_CAST,
         .attr = {.cast.dtype = DT_DTYPE_I32},
         .in = {{IN_VEC, {4}}}},
        {.name = "cast to bytes",
         .op = DT_OP_CAST,
         .attr = {.cast.dtype = DT_DTYPE_U8},
         .in = {{IN_BYTE, {4}}}},
        {.name = "stddev 0",
         .op = DT_OP_INPUT,
         .attr = {.input.size = {5, 5}, .input.padded_c = 3},
         .in = {{IN_BYTE, {2, 5, 5, 3}}}},
        {.name = "image size",
         .op = DT_OP_INPUT,
         .attr = {.input.size = {5, 6}, .input.padded_c = 3, OP_NORMAL},
         .in = {{IN_BYTE, {2, 5, 5, 3}}}},
        {.name = "5 channels",
         .op = DT_OP_INPUT,
         .attr = {.input.size = {5, 5}, .input.padded_c = 8, OP_NORMAL},
         .in = {{IN_BYTE, {2, 5, 5, 5}}}},
        {.name = "unpadded channels",
         .op = DT_OP_INPUT,
         .attr = {.input.size = {5, 5}, .input.padded_c = 2, OP_NORMAL},
         .in = {{IN_BYTE, {2, 5, 5, 3}}}},
        {.name = "axis 3 of 2", .op = DT_OP_CONCAT, .attr = {.shape.axis = 3}, .in = {{IN_ACT, {2, 3}}}},
        {.name = "axis -1",
         .op = DT_OP_SLICE,
         .attr = {.shape.axis = -1, .shape.length = 1},
         .in = {{IN_ACT, {2, 3}}}},
        {.name = "slice past the end",
         .op = DT_OP_SLICE,
         .attr = {.shape.axis = 1, .shape.begin = 2, .shape.length = 2},
         .in = {{IN_ACT, {2, 3}}}},
        {.name = "slice from before",
         .op = DT_OP_SLICE,
         .attr = {.shape.begin = -1, .shape.length = 1},
         .in = {{IN_ACT, {2, 3}}}},
        {.name = "pad past the end",
         .op = DT_OP_PAD,
         .attr = {.shape.axis = 1, .shape.begin = 2, .shape.length = 4},
         .in = {{IN_ACT, {2, 3}}}},
        {.name = "no function", .op = DT_OP_UNARY, .attr = {.unary.fn = DT_UNARY_COUNT}, .in = {IMAGE}},
        {.name = "alpha nan",
         .op = DT_OP_UNARY,
         .attr = {.unary.fn = DT_UNARY_ELU, .unary.a = NAN},
         .in = {IMAGE}},
        {.name = "lo above hi",
         .op = DT_OP_UNARY,
         .attr = {.unary.fn = DT_UNARY_CLAMP, .unary.a = 2, .unary.b = 1},
         .in = {IMAGE}},
        {.name = "mul gradient without b",
         .op = DT_OP_BINARY_BWD,
         .attr = {.binary.fn = DT_BINARY_MUL, .binary.ndim = 1, .binary.dim = {3}},
         .in = {{IN_ACT, {2, 3}}, {IN_ACT, {3}}}},
        {.name = "gradient of three columns from four",
         .op = DT_OP_BINARY_BWD,
         .attr = {.binary.ndim = 1, .binary.dim = {3}},
         .in = {{IN_ACT, {2, 4}}}},
        {.name = "uneven padding below 0",
         .op = DT_OP_CONV,
         .attr = {.window.kernel = {3, 3},
                  .window.stride = {1, 1},
                  .window.pad_end = {0, -1},
                  .window.dilation = {1, 1},
                  .window.groups = 1},
         .in = {IMAGE, WEIGHT}},
        {.name = "pool padding behind",
         .op = DT_OP_MAXPOOL,
         .attr = {.window.kernel = {2, 2}, .window.stride = {2, 2}, .window.pad_end = {2, 0}},
         .in = {IMAGE}},
        {.name = "image of 7 elements",
         .op = DT_OP_RESHAPE,
         .attr = {.reshape = {.ndim = 4, .dim = {2, 2, 2, -1}}},
         .in = {{IN_ACT, {2, 7}}}},
        {.name = "two dimensions that remain",
         .op = DT_OP_RESHAPE,
         .attr = {.reshape = {.ndim = 2, .dim = {-1, -1}}},
         .in = {{IN_ACT, {2, 7}}}},
        {.name = "fewer elements",
         .op = DT_OP_RESHAPE,
         .attr = {.reshape = {.ndim = 1, .dim = {13}}},
         .in = {{IN_ACT, {2, 7}}}},
        {.name = "a shape beyond all numbers",
         .op = DT_OP_RESHAPE,
         .attr = {.reshape = {.ndim = 3, .dim = {INT64_C(1) << 62, INT64_C(1) << 62, 14}}},
         .in = {{IN_ACT, {2, 7}}}},
        {.name = "no heads",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.kv_heads = 1}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}}}},
        {.name = "no heads of keys",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 1}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}}}},
        {.name = "3 heads of 2",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 3, .kv_heads = 2}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}}}},
        {.name = "heads of 2.67",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 3, .kv_heads = 3}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}}}},
        {.name = "packed heads of 2.4",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 8, .kv_heads = 1}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 24}}}},
        {.name = "negative window",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2, .window = -1}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 24}}}},
        {.name = "negative scale",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2, .scale = -1}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 24}}}},
        {.name = "scale nan",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2, .scale = NAN}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 24}}}},
        {.name = "infinite scale",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2, .scale = INFINITY}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 24}}}},
        {.name = "attention dropout 1",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2, .dropout = 1}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 24}}}},
        {.name = "attention dropout nan",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2, .dropout = NAN}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 24}}}},
        {.name = "keys of another batch",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_IN_K] = {IN_ACT, {3, 7, 8}},
                [DT_ATTENTION_IN_V] = {IN_ACT, {3, 7, 8}}}},
        {.name = "keys of fewer heads",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 1}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}}}},
        {.name = "segments of two sequences",
         .op = DT_OP_ATTENTION,
         .attr = {.attention = {.heads = 2, .kv_heads = 2}},
         .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_IN_SEGMENTS] = {IN_SEGMENT, {2, 5}}}},
        {.name = "gradients of packed parts",
         .op = DT_OP_ATTENTION_BWD,
         .attr = {.attention = {.heads = 2, .kv_heads = 2}},
         .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 5, 24}},
                [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_BWD_IN_LSE] = {IN_VEC, {2, 2, 5}}},
         .wanted = 2},
        {.name = "no gradient of v",
         .op = DT_OP_ATTENTION_BWD,
         .attr = {.attention = {.heads = 2, .kv_heads = 2}},
         .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 7, 8}},
                [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_BWD_IN_LSE] = {IN_VEC, {2, 2, 5}}},
         .wanted = 2},
        {.name = "lse of other heads",
         .op = DT_OP_ATTENTION_BWD,
         .attr = {.attention = {.heads = 2, .kv_heads = 2}},
         .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 5, 24}},
                [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 5, 8}},
                [DT_ATTENTION_BWD_IN_LSE] = {IN_VEC, {2, 3, 5}}}},
        {.name = "a table of one dimension",
         .op = DT_OP_EMBED,
         .attr = {.embed.padding = -1},
         .in = {{IN_ACT, {5}}, {IN_INDEX, {2}}}},
        {.name = "no rows",
         .op = DT_OP_EMBED_BWD,
         .attr = {.embed.padding = -1},
         .in = {{IN_ACT, {2, 3}}, {IN_WHOLE, {2}}}},
        {.name = "tables of another batch",
         .op = DT_OP_EMBED_BWD,
         .attr = {.embed = {.padding = -1, .rows = 4, .tables = 3}},
         .in = {{IN_ACT, {2, 3}}, {IN_WHOLE, {2}}}},
        {.name = "one of none", .op = DT_OP_ONE_HOT, .in = {{IN_WHOLE, {2}}}},
        {.name = "an image of no rows",
         .op = DT_OP_RESAMPLE,
         .attr = {.resample = {.size = {0, 3}}},
         .in = {IMAGE}},
        {.name = "no resampling",
         .op = DT_OP_RESAMPLE,
         .attr = {.resample = {.mode = DT_RESAMPLE_COUNT, .size = {2, 2}}},
         .in = {IMAGE}},
        {.name = "a maximum of no columns",
         .op = DT_OP_ADAPTIVE_MAXPOOL,
         .attr = {.resample = {.size = {2, -1}}},
         .in = {IMAGE}},
        {.name = "nine dimensions",
         .op = DT_OP_RESHAPE,
         .attr = {.reshape = {.ndim = 9, .dim = {14, 1, 1, 1, 1, 1, 1, 1}}},
         .in = {{IN_ACT, {2, 7}}}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect_refused(&bad[i], DT_DTYPE_F32, "that");
}

/* ---- bounds, repeatability ---- */

/* Outputs of all nodes, one after the other, as floats; caller frees. */
static float *all_outputs(op_run *r, int64_t *n_elem) {
    float *all = NULL;
    *n_elem = 0;
    for (dt_vid v = 0; v < r->g->n_value; v++) {
        if (op_is_input(r, v)) continue;
        int64_t n = dt_value_n_elem(&r->g->value[v]);
        float *one = op_read(r, v), *more = realloc(all, (size_t)(*n_elem + n) * sizeof *more);
        if (!more) fail_msg("no memory");
        all = more;
        memcpy(all + *n_elem, one, (size_t)n * sizeof *one);
        *n_elem += n;
        free(one);
    }
    return all;
}

static void run_case(dt_backend *be, const op_case *c, bool in_place, float **out, int64_t *n_elem) {
    dt_graph *g = op_case_graph(c, DT_DTYPE_F32);
    op_run r = op_run_open(be, g, &op_step, in_place);
    op_case_fill(c, &r);
    op_run_go(&r);
    op_check_bounds(&r);
    *out = all_outputs(&r, n_elem);
    op_run_close(&r);
    dt_graph_destroy(g);
}

static void expect_same_bits(const float *a, const float *b, int64_t n, const op_case *c, const char *what) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("case %s, %s: element %lld is %.9g and %.9g", c->name, what, (long long)i, (double)a[i],
                     (double)b[i]);
}

static void test_bounds_and_repeats(void **state) {
    dt_backend *be = *state;
    for (int i = 0; i < OP_CASE_COUNT; i++) {
        const op_case *c = &op_case_table[i];
        float *a = NULL, *b = NULL, *p = NULL;
        int64_t n = 0;
        run_case(be, c, false, &a, &n);
        run_case(be, c, false, &b, &n);
        run_case(be, c, true, &p, &n);
        expect_same_bits(a, b, n, c, "run again");
        expect_same_bits(a, p, n, c, "in place");
        free(a), free(b), free(p);
    }
}

static void test_threads_do_not_change_results(void **state) {
    static const int32_t thread_table[] = {2, 3, 5};
    (void)state;
    float *one[OP_CASE_COUNT] = {NULL};
    for (size_t t = 0; t <= sizeof thread_table / sizeof *thread_table; t++) {
        dt_backend *be = make_backend(t ? thread_table[t - 1] : 1);
        for (int i = 0; i < OP_CASE_COUNT; i++) {
            const op_case *c = &op_case_table[i];
            char what[32];
            float *got = NULL;
            int64_t n = 0;
            run_case(be, c, false, &got, &n);
            snprintf(what, sizeof what, "%d threads", t ? thread_table[t - 1] : 1);
            if (t) expect_same_bits(one[i], got, n, c, what);
            if (t) free(got);
            if (!t) one[i] = got;
        }
        be->destroy(be);
    }
    for (int i = 0; i < OP_CASE_COUNT; i++) free(one[i]);
}

/* Inputs keep their bits, except those an op updates. */
static void test_inputs_are_only_read(void **state) {
    dt_backend *be = *state;
    for (int i = 0; i < OP_CASE_COUNT; i++) {
        const op_case *c = &op_case_table[i];
        dt_graph *g = op_case_graph(c, DT_DTYPE_F32);
        op_run r = op_run_open(be, g, &op_step, false);
        op_case_fill(c, &r);
        float *before[DT_SLOTS_IN_MAX] = {NULL};
        for (int32_t k = 0; k < DT_SLOTS_IN_MAX; k++)
            if (op_case_has(c, k) && !dt_op_get(c->op)->in[k].updated)
                before[k] = op_read(&r, dt_graph_find(g, op_case_in_name(k)));
        op_run_go(&r);
        for (int32_t k = 0; k < DT_SLOTS_IN_MAX; k++) {
            if (!before[k]) continue;
            const dt_vid v = dt_graph_find(g, op_case_in_name(k));
            float *after = op_read(&r, v);
            expect_same_bits(before[k], after, dt_value_n_elem(&g->value[v]), c, "input");
            free(before[k]), free(after);
        }
        op_run_close(&r);
        dt_graph_destroy(g);
    }
}

/* ---- any number of inputs ---- */

static void test_concat_of_thirty(void **state) {
    enum { MANY = 30, ROWS = 3, AFTER = 5 };
    dt_graph *g = NULL;
    dt_vid in[MANY], y, dout, din[MANY];
    bool want[MANY];
    const dt_attr t = {.shape.axis = 1};
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    for (int32_t i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "in%d", i);
        op_ok(dt_graph_add_value(g, name, DT_ROLE_INPUT, DT_DTYPE_F32, 3, (int64_t[]){ROWS, 1 + i % 4, AFTER},
                                 &in[i]));
        want[i] = i != 7, din[i] = -1;
    }
    op_ok(dt_graph_add_node(g, "y", DT_OP_CONCAT, &t, MANY, in, &y));
    const dt_value v = g->value[y];
    op_ok(dt_graph_add_value(g, "dout", DT_ROLE_INPUT, v.dtype, v.ndim, v.dim, &dout));
    op_ok(dt_op_get(DT_OP_CONCAT)->grad(g, 0, &dout, want, din));
    op_ok(dt_graph_validate(g));
    op_run r = op_run_open(*state, g, &op_step, false);
    const int64_t n = dt_value_n_elem(&v), length = v.dim[1];
    float *up = op_zalloc(n * 4);
    for (int64_t e = 0; e < n; e++) up[e] = (float)e;
    op_write(&r, dout, up);
    for (int32_t i = 0; i < MANY; i++) {
        float own[ROWS * 4 * AFTER];
        for (int32_t e = 0; e < ROWS * 4 * AFTER; e++) own[e] = (float)(1000 * i + e);
        op_write(&r, in[i], own);
    }
    op_run_go(&r);
    op_check_bounds(&r);
    float *got = op_read(&r, y);
    int64_t begin = 0;
    assert_true(din[7] < 0);
    for (int32_t i = 0; i < MANY; i++) {
        const int64_t wide = 1 + i % 4;
        float *d = want[i] ? op_read(&r, din[i]) : NULL;
        for (int64_t e = 0; e < ROWS * wide * AFTER; e++) {
            const int64_t row = e / (wide * AFTER), at = (row * length + begin) * AFTER + e % (wide * AFTER);
            assert_true(got[at] == (float)(1000 * i + e));
            assert_true(!d || d[e] == up[at]);
        }
        begin += wide;
        free(d);
    }
    assert_int_equal(begin, length);
    free(got), free(up);
    op_run_close(&r);
    dt_graph_destroy(g);
}

/* ---- values without elements ---- */

static void test_empty_values(void **state) {
    dt_graph *g = NULL;
    dt_vid none, row, full, v, sum, cat, slice, down, soft;
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    op_ok(dt_graph_add_value(g, "none", DT_ROLE_INPUT, DT_DTYPE_F32, 3, (int64_t[]){2, 0, 3}, &none));
    op_ok(dt_graph_add_value(g, "row", DT_ROLE_INPUT, DT_DTYPE_F32, 1, (int64_t[]){3}, &row));
    op_ok(dt_graph_add_value(g, "full", DT_ROLE_INPUT, DT_DTYPE_F32, 3, (int64_t[]){2, 2, 3}, &full));
    op_ok(dt_graph_add_node(g, "relu", DT_OP_UNARY, NULL, 1, &none, &v));
    op_ok(dt_graph_add_node(g, "sum", DT_OP_BINARY, NULL, 2, (dt_vid[]){v, row}, &sum));
    assert_string_equal(dt_value_shape_text(&g->value[sum]), "2x0x3 f32");
    op_ok(dt_graph_add_node(g, "soft", DT_OP_SOFTMAX, NULL, 1, &sum, &soft));
    op_ok(dt_graph_add_node(g, "flat", DT_OP_RESHAPE, NULL, 1, &soft, &v));
    assert_string_equal(dt_value_shape_text(&g->value[v]), "2x0 f32");
    op_ok(dt_graph_add_node(g, "cat", DT_OP_CONCAT, &(dt_attr){.shape.axis = 1}, 3,
                            (dt_vid[]){sum, full, none}, &cat));
    op_ok(dt_graph_add_node(g, "slice", DT_OP_SLICE, &(dt_attr){.shape.axis = 1, .shape.begin = 2}, 1, &full,
                            &slice));
    const dt_attr of_row = {.binary.operand = 1, .binary.ndim = 1, .binary.dim = {3}};
    op_ok(dt_graph_add_node(g, "down", DT_OP_BINARY_BWD, &of_row, 1, &sum, &down));
    /* What sums or convolves does not take them, nor may a parameter be one. */
    if (dt_graph_add_node(g, "bad", DT_OP_BIAS_GRAD, NULL, 1, &none, &v) != DT_ERR_CONFIG ||
        !strstr(dt_error_text(), "bad (bias_grad): input dy, none, is 2x0x3 f32, expected elements"))
        fail_msg("%s", dt_error_text());
    assert_int_equal(dt_graph_add_value(g, "w", DT_ROLE_PARAM, DT_DTYPE_F32, 2, (int64_t[]){4, 0}, &v),
                     DT_ERR_CONFIG);
    op_run r = op_run_open(*state, g, &op_step, false);
    const float x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    op_write(&r, row, x);
    op_write(&r, full, x);
    op_run_go(&r);
    op_check_bounds(&r);
    float *got = op_read(&r, cat), *zero = op_read(&r, down);
    assert_memory_equal(got, x, sizeof x);
    for (int i = 0; i < 3; i++) assert_true(zero[i] == 0);
    free(got), free(zero);
    op_run_close(&r);
    dt_graph_destroy(g);
}

/* ---- the oracle ---- */

/* A resized pixel is rounded to a byte; where fp32 and double fall on different sides of a half, it is off by
 * one. */
static void expect_close_pixels(const float *got, const float *want, int64_t n, const op_case *c) {
    int64_t n_off = 0;
    for (int64_t i = 0; i < n; i++) {
        float d = fabsf(got[i] - want[i]);
        n_off += d > 1e-5f;
        if (d > 1.01f / 255 / 0.2f)
            fail_msg("case %s: element %lld is off by %g", c->name, (long long)i, (double)d);
    }
    if (n_off * 50 > n)
        fail_msg("case %s: %lld of %lld elements are off", c->name, (long long)n_off, (long long)n);
}

static void test_oracle(void **state) {
    dt_backend *be = *state;
    for (int i = 0; i < OP_CASE_COUNT; i++) {
        const op_case *c = &op_case_table[i];
        dt_graph *g = op_case_graph(c, DT_DTYPE_F32);
        op_run r = op_run_open(be, g, &op_step, false);
        op_case_fill(c, &r);
        oracle o = oracle_open(g, &op_step);
        for (dt_vid v = 0; v < g->n_value; v++) {
            if (!op_is_input(&r, v)) continue;
            float *x = op_read(&r, v);
            for (int64_t e = 0; e < dt_value_n_elem(&g->value[v]); e++) o.data[v][e] = (double)x[e];
            free(x);
        }
        op_run_go(&r);
        oracle_run(&o, g->n_node);
        for (dt_vid v = 0; v < g->n_value; v++) {
            int64_t n = dt_value_n_elem(&g->value[v]);
            float *got = op_read(&r, v), *want = op_zalloc(n * 4);
            for (int64_t e = 0; e < n; e++) want[e] = (float)o.data[v][e];
            if (c->op == DT_OP_INPUT && op_case_has(c, DT_INPUT_AUG) && !op_is_input(&r, v))
                expect_close_pixels(got, want, n, c);
            else
                op_expect_close(got, want, n, 4e-6, c->name);
            free(got), free(want);
        }
        oracle_close(&o);
        op_run_close(&r);
        dt_graph_destroy(g);
    }
}

/* ---- finite differences ---- */

/* The op and its gradient rule; dout is a value filled with random weights, so the scalar is sum(y *
 * dout). */
typedef struct grad_graph {
    dt_graph *g;
    dt_vid y, dout, din[DT_SLOTS_IN_MAX], in[DT_SLOTS_IN_MAX];
} grad_graph;

static grad_graph grad_graph_make(const op_case *c) {
    grad_graph q = {0};
    bool want[DT_SLOTS_IN_MAX];
    dt_vid dout[DT_SLOTS_OUT_MAX] = {-1, -1, -1, -1, -1};
    op_ok(dt_graph_create(&q.g, DT_DTYPE_F32, true));
    op_ok(op_case_add(c, q.g, &q.y));
    dt_value y = q.g->value[q.y];
    op_ok(dt_graph_add_value(q.g, "dout", DT_ROLE_INPUT, y.dtype, y.ndim, y.dim, &q.dout));
    dout[0] = q.dout;
    for (int32_t k = 0; k < DT_SLOTS_IN_MAX; k++) {
        want[k] = op_case_has(c, k), q.din[k] = -1;
        q.in[k] = want[k] ? q.g->node[0].in[k] : -1;
    }
    op_ok(dt_op_get(c->op)->grad(q.g, 0, dout, want, q.din));
    op_ok(dt_pass_split_batchnorm(q.g));
    op_ok(dt_graph_validate(q.g));
    return q;
}

/* Of a loss the sum by its weight; of a sample with several rows their mean. */
static double scalar(op_run *r, const grad_graph *q, const float *weight, bool is_loss) {
    op_run_go(r);
    float *y = op_read(r, q->y);
    const dt_value *v = &q->g->value[q->y];
    const int64_t n = dt_value_n_elem(v);
    double sum = 0, loss_weight = (double)q->g->node[0].attr.loss.weight * (double)op_step.loss_weight *
                                  (double)op_step.loss_scale * (double)v->dim[0] / (double)n;
    for (int64_t i = 0; i < n; i++) sum += (double)y[i] * (is_loss ? loss_weight : (double)weight[i]);
    free(y);
    return sum;
}

/* Central differences of input k at a sample of its elements. Where they disagree with the gradient, the
 * point may be a kink: then the gradient must lie between the one-sided slopes. */
static void check_gradient(const op_case *c, op_run *r, const grad_graph *q, int32_t k, const float *weight) {
    bool is_loss = dt_op_get(c->op)->flags & DT_OP_SEED;
    int64_t n = dt_value_n_elem(&q->g->value[q->in[k]]), n_kink = 0, n_tried = 0;
    static const dt_op curved_ops[] = {DT_OP_BATCHNORM, DT_OP_XENT,      DT_OP_LOSS,      DT_OP_UNARY,
                                       DT_OP_MAXPOOL,   DT_OP_BINARY,    DT_OP_SOFTMAX,   DT_OP_LOG_SOFTMAX,
                                       DT_OP_REDUCE,    DT_OP_ATTENTION, DT_OP_RECURRENT, DT_OP_LAYERNORM,
                                       DT_OP_RMSNORM,   DT_OP_GROUPNORM};
    bool curved = false;
    for (size_t i = 0; i < sizeof curved_ops / sizeof curved_ops[0]; i++) curved |= c->op == curved_ops[i];
    const double step =
        curved ? 1e-2 : 0.25; /* a linear op is exact at any step; a large one has less noise */
    double largest = 0, middle = scalar(r, q, weight, is_loss);
    float *x = op_read(r, q->in[k]), *grad = op_read(r, q->din[k]);
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)grad[i]));
    double allowed = 4e-3 * largest + 1e-4;
    int64_t stride = n / 96 + 1;
    for (int64_t i = 0; i < n; i += stride, n_tried++) {
        float at = x[i], high = at + (float)step, low = at - (float)step;
        x[i] = high;
        op_write(r, q->in[k], x);
        double up = scalar(r, q, weight, is_loss);
        x[i] = low;
        op_write(r, q->in[k], x);
        double down = scalar(r, q, weight, is_loss);
        x[i] = at;
        double central = (up - down) / (double)(high - low), got = (double)grad[i];
        if (fabs(central - got) <= allowed) continue;
        double right = (up - middle) / (double)(high - at), left = (middle - down) / (double)(at - low);
        n_kink++;
        if (got < fmin(left, right) - allowed || got > fmax(left, right) + allowed ||
            fabs(right - left) < allowed)
            fail_msg("case %s, input %d, element %lld: gradient %.6g, differences %.6g", c->name, k,
                     (long long)i, got, central);
    }
    op_write(r, q->in[k], x);
    if (n_kink * 5 > n_tried) fail_msg("case %s, input %d: %lld kinks", c->name, k, (long long)n_kink);
    free(x), free(grad);
}

static void test_finite_differences(void **state) {
    dt_backend *be = *state;
    int n_checked[DT_OP_COUNT] = {0};
    for (int i = 0; i < OP_CASE_COUNT; i++) {
        const op_case *c = &op_case_table[i];
        const bool fused =
            c->op == DT_OP_CONV_DGRAD && (op_case_has(c, DT_DGRAD_IN_DX2) || op_case_has(c, DT_DGRAD_IN_Y) ||
                                          op_case_has(c, DT_DGRAD_IN_C));
        if (!dt_op_get(c->op)->grad || c->large || c->eval || fused) continue;
        grad_graph q = grad_graph_make(c);
        op_run r = op_run_open(be, q.g, &op_step, false);
        op_case_fill(c, &r);
        int64_t n = dt_value_n_elem(&q.g->value[q.dout]);
        float *weight = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) weight[e] = 2 * op_uniform(99, e) - 1;
        op_write(&r, q.dout, weight);
        op_run_go(&r);
        op_check_bounds(&r);
        for (int32_t k = 0; k < DT_SLOTS_IN_MAX; k++) {
            if (q.din[k] < 0) continue;
            assert_int_equal(dt_value_n_elem(&q.g->value[q.din[k]]), dt_value_n_elem(&q.g->value[q.in[k]]));
            check_gradient(c, &r, &q, k, weight);
            n_checked[c->op]++;
        }
        free(weight);
        op_run_close(&r);
        dt_graph_destroy(q.g);
    }
    for (int op = 0; op < DT_OP_COUNT; op++)
        if (dt_op_get((dt_op)op)->grad && n_checked[op] == 0)
            fail_msg("no gradient of %s was checked", dt_op_get((dt_op)op)->name);
}

int main(int argc, char **argv) {
    /* "time" or "time cuda": the timing mode */
    if (argc > 1 && strcmp(argv[1], "time") == 0) {
        const dt_backend_options o = {.local_world = 1};
        bool gpu = argc > 2 && strcmp(argv[2], "cuda") == 0;
        dt_backend *be;
        if ((gpu ? dt_backend_cuda_create(&o, &be) : dt_backend_cpu_create(&o, &be)) != DT_OK) {
            fprintf(stderr, "%s\n", dt_error_text());
            return 1;
        }
        op_time_all(be, gpu ? DT_DTYPE_F16 : DT_DTYPE_F32);
        be->destroy(be);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op_has_a_case),  cmocka_unit_test(test_wrong_inputs_are_refused),
        cmocka_unit_test(test_types_by_slot),        cmocka_unit_test(test_wrong_attributes_are_refused),
        cmocka_unit_test(test_bounds_and_repeats),   cmocka_unit_test(test_threads_do_not_change_results),
        cmocka_unit_test(test_inputs_are_only_read), cmocka_unit_test(test_concat_of_thirty),
        cmocka_unit_test(test_empty_values),         cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_finite_differences),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
