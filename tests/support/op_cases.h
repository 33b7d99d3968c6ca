/* The op test matrix: one list of cases, each a graph of one op with its inputs. Neutral of backends:
 * tests/cpu checks the oracle with it, tests/gpu compares with the oracle. Every op must have a case. */
#ifndef DT_TEST_OP_CASES_H
#define DT_TEST_OP_CASES_H

#include "core/pass.h"
#include "core/rng.h"
#include "op_run.h"
#include "op_scalar.h"

#include <stdio.h>

/* What an input holds: its dtype and how it is filled. */
typedef enum op_kind {
    IN_ACT = 0,  /* compute dtype, uniform in [-1.5, 1.5) */
    IN_DISTINCT, /* compute dtype, all different by a margin: no ties, no kinks nearby */
    IN_WIDE,     /* compute dtype, uniform in [-5, 5) */
    IN_WIDER,    /* compute dtype, uniform in [-10, 10) */
    IN_ABOVE,    /* compute dtype, uniform in [0.25, 2.25) */
    IN_TIE,      /* compute dtype, 0, -1, -2 in turn */
    IN_FAR,      /* compute dtype, 50 +- 1: cancellation in statistics */
    IN_UNIT_ACT, /* compute dtype, uniform in [-0.3, 0.7): a recurrence of these weights stays small */
    IN_VEC,      /* f32, uniform in [-1.5, 1.5) */
    IN_POS,      /* f32, uniform in [0.5, 1.5) */
    IN_ZERO,     /* f32 zeros */
    IN_SIGN,     /* f32, 1 and every third -1: exact to multiply and add */
    IN_GRAM,     /* f32 [C,C]: 1 off the diagonal, C on it: what rows could have given */
    IN_PROB,     /* f32 rows that sum to 1 */
    IN_BYTE,     /* u8 */
    IN_LABEL,    /* i32 class of a row; the number of classes is the last dim of input 0 */
    IN_PADDED,   /* the same, every third -1 */
    IN_INDEX,    /* i32 row of a table, which input 0 is or attr.embed.rows counts; many are row 1 */
    IN_UNIT,     /* f32, uniform in [0, 1) */
    IN_BIT,      /* f32, 0 or 1 */
    IN_DOUBLE,   /* f64, uniform in [-1.5, 1.5) */
    IN_LONG,     /* i64, whole numbers of 40 bits, some of them small */
    IN_WHOLE,    /* i32, whole numbers of 28 bits */
    IN_LENGTH,   /* i32, from 0 to one more than dimension 1 of the op's main input */
    IN_POSITION, /* u8 position within attr.window.kernel */
    IN_WINDOW,   /* i32 [N,8] windows inside input 0; every second flipped */
    IN_K_LENGTH, /* i32 lengths of sequences as input 0's second dimension, all kinds of them, some too long */
    IN_Q_LENGTH, /* the same, none 0 */
    IN_SEGMENT,  /* i32 documents of 1 to 5 positions, ascending */
    IN_LSE       /* f32, above what scores sum up to; every seventh -infinity */
} op_kind;

typedef struct op_in {
    op_kind kind;
    int64_t dim[DT_MAX_DIM];
} op_in;

typedef struct op_case {
    const char *name;
    dt_op op;
    dt_attr attr;
    op_in in[DT_SLOTS_IN_MAX]; /* by slot; those without dims are empty */
    uint32_t wanted;           /* bit i: optional output i is made */
    bool eval;                 /* graph not in training */
    bool large;                /* too large for finite differences */
    uint32_t
        free_dim; /* bit i: the last dim of input i may differ (it decides an output's); its first may not */
    uint32_t any_dim; /* bit i: any size of input i will do */
    int32_t retyped;  /* 1 + the slot whose value has another type */
    dt_dtype type;
} op_case;

#define OP_WINDOW(r, s, step, padding)                                                                       \
    .window.kernel = {r, s}, .window.stride = {step, step}, .window.pad_begin = {padding, padding},          \
    .window.pad_end = {padding, padding}
#define OP_CONV(r, s, step, padding)                                                                         \
    OP_WINDOW(r, s, step, padding), .window.dilation = {1, 1}, .window.groups = 1
/* No padding above, a row below, a column to the left and two to the right. */
#define OP_UNEVEN(size_, step)                                                                               \
    .window.kernel = {size_, size_}, .window.stride = {step, step}, .window.pad_begin = {0, 1},              \
    .window.pad_end = {1, 2}, .window.dilation = {1, 1}, .window.groups = 1
#define OP_LOSS         .loss.weight = 1
#define OP_RNN(kind_)   .recurrent.kind = kind_
#define OP_RNN_R(kind_) .recurrent.kind = kind_, .recurrent.reverse = true
/* Results of RECURRENT and its gradient. */
#define OP_KEPT     (1u << DT_RNN_OUT_ACT | 1u << DT_RNN_OUT_CELL)
#define OP_LAST_H   (1u << DT_RNN_OUT_H)
#define OP_LAST     (OP_LAST_H | 1u << DT_RNN_OUT_C)
#define OP_DWEIGHTS (1u << DT_RNN_BWD_OUT_DW | 1u << DT_RNN_BWD_OUT_DB)
#define OP_DSTATE   (1u << DT_RNN_BWD_OUT_DH0)
#define OP_BN       .norm.eps = 1e-5f, .norm.momentum = 0.1f
#define OP_NORMAL   .input.mean = {0.5f, 0.4f, 0.3f, 0.2f}, .input.stddev = {0.25f, 0.2f, 0.3f, 0.5f}

static const op_case op_case_table[] = {
    {.name = "input gray",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {5, 7}, .input.padded_c = 1, OP_NORMAL},
     .in = {{IN_BYTE, {3, 5, 7, 1}}}},
    {.name = "input rgb",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {4, 6}, .input.padded_c = 3, OP_NORMAL},
     .in = {{IN_BYTE, {2, 4, 6, 3}}}},
    {.name = "input large",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {33, 35}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {16, 33, 35, 3}}}},
    {.name = "input larger than a grid",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {740, 740}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {4, 740, 740, 3}}}},
    {.name = "input gray padded",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {5, 7}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {2, 5, 7, 1}}}},
    {.name = "input odd",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {5, 7}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {3, 5, 7, 3}}}},
    {.name = "input crop down",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {6, 5}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {6, 17, 13, 3}}, {IN_WINDOW, {6, 8}}}},
    {.name = "input crop up",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {16, 24}, .input.padded_c = 1, OP_NORMAL},
     .in = {{IN_BYTE, {5, 9, 8, 1}}, {IN_WINDOW, {5, 8}}}},
    {.name = "input crop in vectors",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {45, 24}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {7, 19, 31, 3}}, {IN_WINDOW, {7, 8}}}},
    {.name = "input crop from one column",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {4, 6}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {3, 9, 1, 3}}, {IN_WINDOW, {3, 8}}}},
    {.name = "input crop from two columns",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {5, 8}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {9, 4, 2, 3}}, {IN_WINDOW, {9, 8}}}},
    {.name = "input crop gray in vectors",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {7, 12}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {3, 11, 9, 1}}, {IN_WINDOW, {3, 8}}}},
    {.name = "input crop wide",
     .op = DT_OP_INPUT,
     .attr = {.input.size = {9, 300}, .input.padded_c = 4, OP_NORMAL},
     .in = {{IN_BYTE, {2, 17, 90, 3}}, {IN_WINDOW, {2, 8}}}},

    {.name = "conv 3x3",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(3, 3, 1, 1)},
     .in = {{IN_ACT, {2, 6, 5, 8}}, {IN_ACT, {8, 3, 3, 8}}}},
    {.name = "conv 3x3 bias",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(3, 3, 1, 1)},
     .in = {{IN_ACT, {2, 5, 6, 3}}, {IN_ACT, {5, 3, 3, 3}}, {IN_VEC, {5}}}},
    {.name = "conv 3x3/2",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(3, 3, 2, 1)},
     .in = {{IN_ACT, {2, 9, 7, 4}}, {IN_ACT, {6, 3, 3, 4}}}},
    {.name = "conv 3x3 no pad",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(3, 3, 1, 0)},
     .in = {{IN_ACT, {1, 5, 7, 4}}, {IN_ACT, {4, 3, 3, 4}}}},
    {.name = "conv 1x1",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(1, 1, 1, 0)},
     .in = {{IN_ACT, {2, 4, 3, 6}}, {IN_ACT, {10, 1, 1, 6}}}},
    {.name = "conv 1x1/2",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(1, 1, 2, 0)},
     .in = {{IN_ACT, {2, 5, 6, 4}}, {IN_ACT, {8, 1, 1, 4}}}},
    {.name = "conv 7x7/2 stem",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(7, 7, 2, 3)},
     .in = {{IN_ACT, {1, 12, 11, 3}}, {IN_ACT, {4, 7, 7, 3}}}},
    {.name = "conv 5x3 uneven",
     .op = DT_OP_CONV,
     .attr = {.window.kernel = {5, 3},
              .window.stride = {1, 2},
              .window.pad_begin = {2, 0},
              .window.pad_end = {2, 0},
              .window.dilation = {1, 1},
              .window.groups = 1},
     .in = {{IN_ACT, {2, 6, 8, 3}}, {IN_ACT, {4, 5, 3, 3}}}},
    {.name = "conv dilated",
     .op = DT_OP_CONV,
     .attr = {.window.kernel = {3, 3},
              .window.stride = {1, 1},
              .window.pad_begin = {2, 2},
              .window.pad_end = {2, 2},
              .window.dilation = {2, 2},
              .window.groups = 1},
     .in = {{IN_ACT, {1, 8, 7, 4}}, {IN_ACT, {4, 3, 3, 4}}}},
    {.name = "conv dilated /2",
     .op = DT_OP_CONV,
     .attr = {.window.kernel = {3, 3},
              .window.stride = {2, 2},
              .window.pad_begin = {3, 3},
              .window.pad_end = {3, 3},
              .window.dilation = {3, 2},
              .window.groups = 1},
     .in = {{IN_ACT, {1, 9, 8, 3}}, {IN_ACT, {4, 3, 3, 3}}}},
    {.name = "conv 3x3 padded unevenly",
     .op = DT_OP_CONV,
     .attr = {OP_UNEVEN(3, 1)},
     .in = {{IN_ACT, {2, 7, 5, 16}}, {IN_ACT, {16, 3, 3, 16}}}},
    {.name = "conv 3x3/2 padded unevenly",
     .op = DT_OP_CONV,
     .attr = {OP_UNEVEN(3, 2)},
     .in = {{IN_ACT, {2, 8, 7, 3}}, {IN_ACT, {4, 3, 3, 3}}}},
    {.name = "conv 1x1 padded behind",
     .op = DT_OP_CONV,
     .attr = {.window.kernel = {1, 1},
              .window.stride = {1, 1},
              .window.pad_end = {1, 2},
              .window.dilation = {1, 1},
              .window.groups = 1},
     .in = {{IN_ACT, {2, 4, 3, 8}}, {IN_ACT, {8, 1, 1, 8}}}},
    {.name = "conv 2 groups",
     .op = DT_OP_CONV,
     .attr = {.window.kernel = {3, 3},
              .window.stride = {1, 1},
              .window.pad_begin = {1, 1},
              .window.pad_end = {1, 1},
              .window.dilation = {1, 1},
              .window.groups = 2},
     .in = {{IN_ACT, {2, 5, 5, 8}}, {IN_ACT, {6, 3, 3, 4}}}},
    {.name = "conv depthwise",
     .op = DT_OP_CONV,
     .attr = {.window.kernel = {3, 3},
              .window.stride = {1, 1},
              .window.pad_begin = {1, 1},
              .window.pad_end = {1, 1},
              .window.dilation = {1, 1},
              .window.groups = 6},
     .in = {{IN_ACT, {2, 6, 5, 6}}, {IN_ACT, {6, 3, 3, 1}}}},
    {.name = "conv depthwise x2 /2",
     .op = DT_OP_CONV,
     .attr = {.window.kernel = {3, 3},
              .window.stride = {2, 2},
              .window.pad_begin = {1, 1},
              .window.pad_end = {1, 1},
              .window.dilation = {1, 1},
              .window.groups = 4},
     .in = {{IN_ACT, {2, 7, 6, 4}}, {IN_ACT, {8, 3, 3, 1}}, {IN_VEC, {8}}}},
    {.name = "conv one pixel",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(3, 3, 1, 1)},
     .in = {{IN_ACT, {1, 1, 1, 1}}, {IN_ACT, {1, 3, 3, 1}}}},
    {.name = "conv large",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(3, 3, 1, 1)},
     .in = {{IN_ACT, {8, 18, 15, 32}}, {IN_ACT, {48, 3, 3, 32}}},
     .large = true},

    {.name = "conv 1x1 applied",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(1, 1, 1, 0)},
     .in = {[DT_CONV_IN_X] = {IN_ACT, {2, 4, 3, 8}},
            [DT_CONV_IN_W] = {IN_ACT, {16, 1, 1, 8}},
            [DT_CONV_IN_SCALE] = {IN_POS, {16}},
            [DT_CONV_IN_SHIFT] = {IN_VEC, {16}}},
     .large = true},
    {.name = "conv 1x1 applied residual relu",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(1, 1, 1, 0), .window.relu = true},
     .in = {[DT_CONV_IN_X] = {IN_ACT, {4, 9, 7, 64}},
            [DT_CONV_IN_W] = {IN_ACT, {256, 1, 1, 64}},
            [DT_CONV_IN_SCALE] = {IN_VEC, {256}},
            [DT_CONV_IN_SHIFT] = {IN_VEC, {256}},
            [DT_CONV_IN_RES] = {IN_ACT, {4, 9, 7, 256}}},
     .large = true},
    {.name = "conv 1x1 applied residual scaled relu",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(1, 1, 1, 0), .window.relu = true},
     .in = {[DT_CONV_IN_X] = {IN_ACT, {2, 5, 7, 32}},
            [DT_CONV_IN_W] = {IN_ACT, {64, 1, 1, 32}},
            [DT_CONV_IN_SCALE] = {IN_VEC, {64}},
            [DT_CONV_IN_SHIFT] = {IN_VEC, {64}},
            [DT_CONV_IN_RES] = {IN_ACT, {2, 5, 7, 64}},
            [DT_CONV_IN_RES_SCALE] = {IN_VEC, {64}},
            [DT_CONV_IN_RES_SHIFT] = {IN_VEC, {64}}},
     .large = true},
    {.name = "conv 3x3 applied narrow",
     .op = DT_OP_CONV,
     .attr = {OP_CONV(3, 3, 1, 1), .window.relu = true},
     .in = {[DT_CONV_IN_X] = {IN_ACT, {2, 4, 3, 3}},
            [DT_CONV_IN_W] = {IN_ACT, {5, 3, 3, 3}},
            [DT_CONV_IN_SCALE] = {IN_VEC, {5}},
            [DT_CONV_IN_SHIFT] = {IN_VEC, {5}},
            [DT_CONV_IN_RES] = {IN_ACT, {2, 4, 3, 5}}},
     .large = true},

    {.name = "lstm",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {{IN_ACT, {3, 4, 20}}, {IN_ACT, {20, 5}}},
     .wanted = OP_KEPT},
    {.name = "lstm bias states",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {{IN_ACT, {2, 3, 24}}, {IN_ACT, {24, 6}}, {IN_VEC, {24}}, {IN_ACT, {2, 6}}, {IN_ACT, {2, 6}}},
     .wanted = OP_KEPT | OP_LAST},
    {.name = "lstm reverse lengths",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN_R(DT_LSTM)},
     .in = {{IN_ACT, {5, 3, 12}},
            {IN_ACT, {12, 3}},
            {IN_VEC, {12}},
            {IN_ACT, {5, 3}},
            {IN_ACT, {5, 3}},
            {IN_LENGTH, {5}}},
     .wanted = OP_KEPT | OP_LAST},
    {.name = "lstm lengths",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {{IN_ACT, {6, 4, 16}}, {IN_ACT, {16, 4}}, [DT_RNN_IN_LENGTHS] = {IN_LENGTH, {6}}},
     .wanted = OP_KEPT | OP_LAST},
    {.name = "lstm of one step",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {{IN_ACT, {1, 1, 4}}, {IN_ACT, {4, 1}}, {IN_VEC, {4}}},
     .wanted = OP_KEPT | OP_LAST},
    {.name = "lstm in evaluation",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {{IN_ACT, {3, 4, 20}}, {IN_ACT, {20, 5}}, {IN_VEC, {20}}},
     .wanted = OP_LAST,
     .eval = true},
    {.name = "lstm large",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {{IN_WIDE, {70, 7, 4 * 77}}, {IN_UNIT_ACT, {4 * 77, 77}}, {IN_VEC, {4 * 77}}, {IN_ACT, {70, 77}}},
     .wanted = OP_KEPT | OP_LAST,
     .large = true},
    {.name = "gru",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_GRU)},
     .in = {{IN_ACT, {3, 4, 15}}, {IN_ACT, {15, 5}}},
     .wanted = OP_KEPT},
    {.name = "gru bias state lengths",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_GRU)},
     .in = {{IN_ACT, {5, 3, 18}},
            {IN_ACT, {18, 6}},
            {IN_VEC, {18}},
            {IN_ACT, {5, 6}},
            [DT_RNN_IN_LENGTHS] = {IN_LENGTH, {5}}},
     .wanted = OP_KEPT | OP_LAST_H},
    {.name = "gru reverse",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN_R(DT_GRU)},
     .in = {{IN_ACT, {2, 5, 9}}, {IN_ACT, {9, 3}}, {IN_VEC, {9}}},
     .wanted = OP_KEPT | OP_LAST_H},
    {.name = "gru in evaluation",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_GRU)},
     .in = {{IN_ACT, {3, 4, 15}}, {IN_ACT, {15, 5}}},
     .eval = true},
    {.name = "gru large",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN_R(DT_GRU)},
     .in = {{IN_WIDE, {130, 5, 3 * 40}},
            {IN_UNIT_ACT, {3 * 40, 40}},
            {IN_VEC, {3 * 40}},
            [DT_RNN_IN_LENGTHS] = {IN_LENGTH, {130}}},
     .wanted = OP_KEPT | OP_LAST_H,
     .large = true},
    {.name = "rnn_tanh",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_RNN_TANH)},
     .in = {{IN_ACT, {3, 4, 5}}, {IN_ACT, {5, 5}}, {IN_VEC, {5}}, {IN_ACT, {3, 5}}},
     .wanted = OP_LAST_H},
    {.name = "rnn_tanh reverse lengths",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN_R(DT_RNN_TANH)},
     .in = {{IN_ACT, {5, 3, 4}}, {IN_ACT, {4, 4}}, {IN_VEC, {4}}, [DT_RNN_IN_LENGTHS] = {IN_LENGTH, {5}}},
     .wanted = OP_LAST_H},
    {.name = "rnn_relu",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_RNN_RELU)},
     .in = {{IN_DISTINCT, {2, 3, 4}}, {IN_UNIT_ACT, {4, 4}}}},
    {.name = "rnn large",
     .op = DT_OP_RECURRENT,
     .attr = {OP_RNN(DT_RNN_TANH)},
     .in = {{IN_ACT, {67, 9, 130}}, {IN_UNIT_ACT, {130, 130}}, {IN_VEC, {130}}},
     .wanted = OP_LAST_H,
     .large = true},

    {.name = "lstm_bwd",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_ACT, {3, 4, 5}},
            [DT_RNN_BWD_IN_W] = {IN_ACT, {20, 5}},
            [DT_RNN_BWD_IN_ACT] = {IN_UNIT_ACT, {3, 4, 20}},
            [DT_RNN_BWD_IN_CELL] = {IN_VEC, {3, 4, 5}},
            [DT_RNN_BWD_IN_DY] = {IN_ACT, {3, 4, 5}}},
     .wanted = OP_DWEIGHTS},
    {.name = "lstm_bwd of the last state alone",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_ACT, {3, 4, 5}},
            [DT_RNN_BWD_IN_W] = {IN_ACT, {20, 5}},
            [DT_RNN_BWD_IN_ACT] = {IN_UNIT_ACT, {3, 4, 20}},
            [DT_RNN_BWD_IN_CELL] = {IN_VEC, {3, 4, 5}},
            [DT_RNN_BWD_IN_DH] = {IN_ACT, {3, 5}}},
     .wanted = OP_DWEIGHTS | OP_DSTATE | 1u << DT_RNN_BWD_OUT_DC0},
    {.name = "lstm_bwd of all reverse lengths",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN_R(DT_LSTM)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_ACT, {6, 3, 7}},
            [DT_RNN_BWD_IN_W] = {IN_ACT, {28, 7}},
            [DT_RNN_BWD_IN_ACT] = {IN_UNIT_ACT, {6, 3, 28}},
            [DT_RNN_BWD_IN_CELL] = {IN_VEC, {6, 3, 7}},
            [DT_RNN_BWD_IN_DY] = {IN_ACT, {6, 3, 7}},
            [DT_RNN_BWD_IN_DH] = {IN_ACT, {6, 7}},
            [DT_RNN_BWD_IN_DC] = {IN_ACT, {6, 7}},
            [DT_RNN_BWD_IN_H0] = {IN_ACT, {6, 7}},
            [DT_RNN_BWD_IN_C0] = {IN_ACT, {6, 7}},
            [DT_RNN_BWD_IN_LENGTHS] = {IN_LENGTH, {6}}},
     .wanted = OP_DWEIGHTS | OP_DSTATE | 1u << DT_RNN_BWD_OUT_DC0},
    {.name = "lstm_bwd large",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN(DT_LSTM)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_ACT, {70, 7, 77}},
            [DT_RNN_BWD_IN_W] = {IN_UNIT_ACT, {4 * 77, 77}},
            [DT_RNN_BWD_IN_ACT] = {IN_UNIT_ACT, {70, 7, 4 * 77}},
            [DT_RNN_BWD_IN_CELL] = {IN_VEC, {70, 7, 77}},
            [DT_RNN_BWD_IN_DY] = {IN_ACT, {70, 7, 77}},
            [DT_RNN_BWD_IN_LENGTHS] = {IN_LENGTH, {70}}},
     .wanted = OP_DWEIGHTS | OP_DSTATE},
    {.name = "gru_bwd",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN(DT_GRU)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_ACT, {3, 4, 5}},
            [DT_RNN_BWD_IN_W] = {IN_ACT, {15, 5}},
            [DT_RNN_BWD_IN_ACT] = {IN_UNIT_ACT, {3, 4, 15}},
            [DT_RNN_BWD_IN_CELL] = {IN_VEC, {3, 4, 5}},
            [DT_RNN_BWD_IN_DY] = {IN_ACT, {3, 4, 5}},
            [DT_RNN_BWD_IN_DH] = {IN_ACT, {3, 5}},
            [DT_RNN_BWD_IN_H0] = {IN_ACT, {3, 5}},
            [DT_RNN_BWD_IN_LENGTHS] = {IN_LENGTH, {3}}},
     .wanted = OP_DWEIGHTS | OP_DSTATE},
    {.name = "gru_bwd large",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN_R(DT_GRU)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_ACT, {130, 5, 40}},
            [DT_RNN_BWD_IN_W] = {IN_UNIT_ACT, {120, 40}},
            [DT_RNN_BWD_IN_ACT] = {IN_UNIT_ACT, {130, 5, 120}},
            [DT_RNN_BWD_IN_CELL] = {IN_VEC, {130, 5, 40}},
            [DT_RNN_BWD_IN_DY] = {IN_ACT, {130, 5, 40}}},
     .wanted = OP_DWEIGHTS},
    {.name = "rnn_tanh_bwd",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN(DT_RNN_TANH)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_UNIT_ACT, {3, 4, 5}},
            [DT_RNN_BWD_IN_W] = {IN_UNIT_ACT, {5, 5}},
            [DT_RNN_BWD_IN_DY] = {IN_ACT, {3, 4, 5}},
            [DT_RNN_BWD_IN_LENGTHS] = {IN_LENGTH, {3}}},
     .wanted = OP_DWEIGHTS | OP_DSTATE},
    {.name = "rnn_relu_bwd",
     .op = DT_OP_RECURRENT_BWD,
     .attr = {OP_RNN_R(DT_RNN_RELU)},
     .in = {[DT_RNN_BWD_IN_Y] = {IN_ACT, {3, 4, 17}},
            [DT_RNN_BWD_IN_W] = {IN_UNIT_ACT, {17, 17}},
            [DT_RNN_BWD_IN_DH] = {IN_ACT, {3, 17}}},
     .wanted = OP_DWEIGHTS | OP_DSTATE},

    {.name = "dense", .op = DT_OP_DENSE, .in = {{IN_ACT, {5, 12}}, {IN_ACT, {7, 12}}}},
    {.name = "dense bias", .op = DT_OP_DENSE, .in = {{IN_ACT, {4, 9}}, {IN_ACT, {10, 9}}, {IN_VEC, {10}}}},
    {.name = "dense of image",
     .op = DT_OP_DENSE,
     .in = {{IN_ACT, {3, 2, 3, 4}}, {IN_ACT, {5, 4}}, {IN_VEC, {5}}}},
    {.name = "dense of sequences",
     .op = DT_OP_DENSE,
     .in = {{IN_ACT, {3, 4, 6}}, {IN_ACT, {5, 6}}, {IN_VEC, {5}}}},
    {.name = "dense of one vector", .op = DT_OP_DENSE, .in = {{IN_ACT, {6}}, {IN_ACT, {5, 6}}}},
    {.name = "dense one row", .op = DT_OP_DENSE, .in = {{IN_ACT, {1, 33}}, {IN_ACT, {1, 33}}}},
    {.name = "dense large",
     .op = DT_OP_DENSE,
     .in = {{IN_ACT, {65, 300}}, {IN_ACT, {130, 300}}, {IN_VEC, {130}}},
     .large = true},

    {.name = "batchnorm",
     .op = DT_OP_BATCHNORM,
     .attr = {OP_BN},
     .in = {{IN_ACT, {3, 4, 3, 5}}, {IN_POS, {5}}, {IN_VEC, {5}}, {IN_VEC, {5}}, {IN_POS, {5}}}},
    {.name = "batchnorm relu",
     .op = DT_OP_BATCHNORM,
     .attr = {OP_BN, .norm.relu = true},
     .in = {{IN_ACT, {3, 4, 3, 6}}, {IN_POS, {6}}, {IN_VEC, {6}}, {IN_VEC, {6}}, {IN_POS, {6}}}},
    {.name = "batchnorm residual",
     .op = DT_OP_BATCHNORM,
     .attr = {OP_BN},
     .in = {{IN_ACT, {2, 4, 3, 3}},
            {IN_POS, {3}},
            {IN_VEC, {3}},
            {IN_VEC, {3}},
            {IN_POS, {3}},
            {IN_ACT, {2, 4, 3, 3}}}},
    {.name = "batchnorm residual relu",
     .op = DT_OP_BATCHNORM,
     .attr = {OP_BN, .norm.relu = true},
     .in = {{IN_ACT, {2, 4, 3, 4}},
            {IN_POS, {4}},
            {IN_VEC, {4}},
            {IN_VEC, {4}},
            {IN_POS, {4}},
            {IN_ACT, {2, 4, 3, 4}}}},
    {.name = "batchnorm rows",
     .op = DT_OP_BATCHNORM,
     .attr = {OP_BN},
     .in = {{IN_ACT, {16, 4}}, {IN_POS, {4}}, {IN_VEC, {4}}, {IN_VEC, {4}}, {IN_POS, {4}}}},
    {.name = "batchnorm eval",
     .op = DT_OP_BATCHNORM,
     .attr = {OP_BN, .norm.relu = true},
     .in = {{IN_ACT, {2, 3, 3, 5}}, {IN_POS, {5}}, {IN_VEC, {5}}, {IN_VEC, {5}}, {IN_POS, {5}}},
     .eval = true},

    {.name = "bn_stats", .op = DT_OP_BN_STATS, .in = {{IN_ACT, {3, 4, 5, 6}}}},
    {.name = "bn_stats one channel", .op = DT_OP_BN_STATS, .in = {{IN_ACT, {2, 3, 3, 1}}}},
    {.name = "bn_stats far from 0", .op = DT_OP_BN_STATS, .in = {{IN_FAR, {8, 16, 16, 24}}}},
    {.name = "bn_stats long", .op = DT_OP_BN_STATS, .in = {{IN_ACT, {23, 31, 37, 3}}}},
    {.name = "bn_stats wide", .op = DT_OP_BN_STATS, .in = {{IN_ACT, {3, 7, 9, 1100}}}},
    {.name = "bn_stats rows", .op = DT_OP_BN_STATS, .in = {{IN_ACT, {777, 300}}}},
    {.name = "bn_finalize",
     .op = DT_OP_BN_FINALIZE,
     .attr = {OP_BN, .norm.rows = 48},
     .in = {{IN_POS, {2, 7}}, {IN_POS, {7}}, {IN_VEC, {7}}, {IN_VEC, {7}}, {IN_POS, {7}}}},
    {.name = "bn_finalize sums",
     .op = DT_OP_BN_FINALIZE,
     .attr = {OP_BN, .norm.rows = 2, .norm.stats_are_sums = true},
     .in = {{IN_POS, {2, 7}}, {IN_POS, {7}}, {IN_VEC, {7}}, {IN_VEC, {7}}, {IN_POS, {7}}}},
    {.name = "bn_fold",
     .op = DT_OP_BN_FOLD,
     .attr = {OP_BN},
     .in = {{IN_POS, {9}}, {IN_VEC, {9}}, {IN_VEC, {9}}, {IN_POS, {9}}}},

    {.name = "bn_apply", .op = DT_OP_BN_APPLY, .in = {{IN_ACT, {2, 5, 3, 7}}, {IN_VEC, {7}}, {IN_VEC, {7}}}},
    {.name = "bn_apply relu",
     .op = DT_OP_BN_APPLY,
     .attr = {.norm.relu = true},
     .in = {{IN_ACT, {9, 31, 17, 13}}, {IN_VEC, {13}}, {IN_VEC, {13}}}},
    {.name = "bn_apply residual",
     .op = DT_OP_BN_APPLY,
     .in = {{IN_ACT, {2, 5, 3, 8}}, {IN_VEC, {8}}, {IN_VEC, {8}}, {IN_ACT, {2, 5, 3, 8}}}},
    {.name = "bn_apply residual relu",
     .op = DT_OP_BN_APPLY,
     .attr = {.norm.relu = true},
     .in = {{IN_ACT, {4, 9, 3, 520}}, {IN_VEC, {520}}, {IN_VEC, {520}}, {IN_ACT, {4, 9, 3, 520}}}},
    {.name = "bn_apply residual scaled",
     .op = DT_OP_BN_APPLY,
     .in = {{IN_ACT, {2, 5, 3, 8}},
            {IN_VEC, {8}},
            {IN_VEC, {8}},
            {IN_ACT, {2, 5, 3, 8}},
            {IN_VEC, {8}},
            {IN_VEC, {8}}}},
    {.name = "bn_apply residual scaled relu",
     .op = DT_OP_BN_APPLY,
     .attr = {.norm.relu = true},
     .in = {{IN_ACT, {8, 33, 5, 48}},
            {IN_VEC, {48}},
            {IN_VEC, {48}},
            {IN_ACT, {8, 33, 5, 48}},
            {IN_VEC, {48}},
            {IN_VEC, {48}}}},

    {.name = "bn_reduce",
     .op = DT_OP_BN_REDUCE,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {2, 4, 3, 5}},
            [DT_REDUCE_IN_C] = {IN_ACT, {2, 4, 3, 5}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {5}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {5}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {5}}}},
    {.name = "bn_reduce writes dz",
     .op = DT_OP_BN_REDUCE,
     .wanted = 1u << DT_REDUCE_OUT_DZ,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {2, 4, 3, 5}},
            [DT_REDUCE_IN_C] = {IN_ACT, {2, 4, 3, 5}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {5}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {5}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {5}}}},
    {.name = "bn_reduce from y",
     .op = DT_OP_BN_REDUCE,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {2, 4, 3, 6}},
            [DT_REDUCE_IN_C] = {IN_ACT, {2, 4, 3, 6}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {6}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {6}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {6}},
            [DT_REDUCE_IN_Y] = {IN_ACT, {2, 4, 3, 6}}}},
    {.name = "bn_reduce from y, dz",
     .op = DT_OP_BN_REDUCE,
     .wanted = 1u << DT_REDUCE_OUT_DZ,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {9, 16, 16, 24}},
            [DT_REDUCE_IN_C] = {IN_ACT, {9, 16, 16, 24}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {24}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {24}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {24}},
            [DT_REDUCE_IN_Y] = {IN_ACT, {9, 16, 16, 24}}}},
    {.name = "bn_reduce from c",
     .op = DT_OP_BN_REDUCE,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {5, 31, 17, 40}},
            [DT_REDUCE_IN_C] = {IN_ACT, {5, 31, 17, 40}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {40}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {40}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {40}},
            [DT_REDUCE_IN_SCALE] = {IN_VEC, {40}},
            [DT_REDUCE_IN_SHIFT] = {IN_VEC, {40}}}},
    {.name = "bn_reduce two gradients",
     .op = DT_OP_BN_REDUCE,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {2, 4, 3, 5}},
            [DT_REDUCE_IN_DY2] = {IN_ACT, {2, 4, 3, 5}},
            [DT_REDUCE_IN_C] = {IN_ACT, {2, 4, 3, 5}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {5}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {5}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {5}}}},
    {.name = "bn_reduce two gradients from y, dz",
     .op = DT_OP_BN_REDUCE,
     .wanted = 1u << DT_REDUCE_OUT_DZ,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {3, 5, 7, 530}},
            [DT_REDUCE_IN_DY2] = {IN_ACT, {3, 5, 7, 530}},
            [DT_REDUCE_IN_C] = {IN_ACT, {3, 5, 7, 530}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {530}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {530}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {530}},
            [DT_REDUCE_IN_Y] = {IN_ACT, {3, 5, 7, 530}}}},
    {.name = "bn_reduce two gradients from c, dz",
     .op = DT_OP_BN_REDUCE,
     .wanted = 1u << DT_REDUCE_OUT_DZ,
     .in = {[DT_REDUCE_IN_DY] = {IN_ACT, {2, 4, 3, 8}},
            [DT_REDUCE_IN_DY2] = {IN_ACT, {2, 4, 3, 8}},
            [DT_REDUCE_IN_C] = {IN_ACT, {2, 4, 3, 8}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {8}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {8}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {8}},
            [DT_REDUCE_IN_SCALE] = {IN_VEC, {8}},
            [DT_REDUCE_IN_SHIFT] = {IN_VEC, {8}}}},
    {.name = "bn_dx",
     .op = DT_OP_BN_DX,
     .in = {{IN_ACT, {2, 4, 3, 5}}, {IN_ACT, {2, 4, 3, 5}}, {IN_VEC, {3, 5}}}},
    {.name = "bn_dx from c",
     .op = DT_OP_BN_DX,
     .in = {{IN_ACT, {7, 31, 9, 40}},
            {IN_ACT, {7, 31, 9, 40}},
            {IN_VEC, {3, 40}},
            {IN_VEC, {40}},
            {IN_VEC, {40}}}},

    {.name = "bn_reduce pooled",
     .op = DT_OP_BN_REDUCE,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {[DT_REDUCE_IN_C] = {IN_ACT, {2, 7, 5, 3}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {3}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {3}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {3}},
            [DT_REDUCE_IN_SCALE] = {IN_VEC, {3}},
            [DT_REDUCE_IN_SHIFT] = {IN_VEC, {3}},
            [DT_REDUCE_IN_DYP] = {IN_ACT, {2, 4, 3, 3}},
            [DT_REDUCE_IN_IDX] = {IN_POSITION, {2, 4, 3, 3}}}},
    {.name = "bn_reduce pooled, two gradients",
     .op = DT_OP_BN_REDUCE,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {[DT_REDUCE_IN_C] = {IN_ACT, {3, 34, 19, 40}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {40}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {40}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {40}},
            [DT_REDUCE_IN_SCALE] = {IN_VEC, {40}},
            [DT_REDUCE_IN_SHIFT] = {IN_VEC, {40}},
            [DT_REDUCE_IN_DYP] = {IN_ACT, {3, 17, 10, 40}},
            [DT_REDUCE_IN_DYP2] = {IN_ACT, {3, 17, 10, 40}},
            [DT_REDUCE_IN_IDX] = {IN_POSITION, {3, 17, 10, 40}}}},
    {.name = "bn_reduce pooled wide",
     .op = DT_OP_BN_REDUCE,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {[DT_REDUCE_IN_C] = {IN_ACT, {2, 9, 8, 520}},
            [DT_REDUCE_IN_MEAN] = {IN_VEC, {520}},
            [DT_REDUCE_IN_INVSTD] = {IN_POS, {520}},
            [DT_REDUCE_IN_GAMMA] = {IN_VEC, {520}},
            [DT_REDUCE_IN_SCALE] = {IN_VEC, {520}},
            [DT_REDUCE_IN_SHIFT] = {IN_VEC, {520}},
            [DT_REDUCE_IN_DYP] = {IN_ACT, {2, 5, 4, 520}},
            [DT_REDUCE_IN_IDX] = {IN_POSITION, {2, 5, 4, 520}}}},
    {.name = "bn_dx pooled",
     .op = DT_OP_BN_DX,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {[DT_DX_IN_C] = {IN_ACT, {2, 7, 5, 3}},
            [DT_DX_IN_COEF] = {IN_VEC, {3, 3}},
            [DT_DX_IN_SCALE] = {IN_VEC, {3}},
            [DT_DX_IN_SHIFT] = {IN_VEC, {3}},
            [DT_DX_IN_DYP] = {IN_ACT, {2, 4, 3, 3}},
            [DT_DX_IN_IDX] = {IN_POSITION, {2, 4, 3, 3}}}},
    {.name = "bn_dx pooled, two gradients",
     .op = DT_OP_BN_DX,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {[DT_DX_IN_C] = {IN_ACT, {3, 34, 19, 40}},
            [DT_DX_IN_COEF] = {IN_VEC, {3, 40}},
            [DT_DX_IN_SCALE] = {IN_VEC, {40}},
            [DT_DX_IN_SHIFT] = {IN_VEC, {40}},
            [DT_DX_IN_DYP] = {IN_ACT, {3, 17, 10, 40}},
            [DT_DX_IN_DYP2] = {IN_ACT, {3, 17, 10, 40}},
            [DT_DX_IN_IDX] = {IN_POSITION, {3, 17, 10, 40}}}},
    {.name = "bn_dx pooled wide",
     .op = DT_OP_BN_DX,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {[DT_DX_IN_C] = {IN_ACT, {2, 9, 8, 520}},
            [DT_DX_IN_COEF] = {IN_VEC, {3, 520}},
            [DT_DX_IN_SCALE] = {IN_VEC, {520}},
            [DT_DX_IN_SHIFT] = {IN_VEC, {520}},
            [DT_DX_IN_DYP] = {IN_ACT, {2, 5, 4, 520}},
            [DT_DX_IN_IDX] = {IN_POSITION, {2, 5, 4, 520}}}},

    {.name = "gram", .op = DT_OP_GRAM, .in = {{IN_ACT, {2, 3, 5, 7}}}},
    {.name = "gram 64", .op = DT_OP_GRAM, .in = {{IN_ACT, {9, 31, 17, 64}}}},
    {.name = "gram 128", .op = DT_OP_GRAM, .in = {{IN_ACT, {3, 31, 17, 128}}}},
    {.name = "gram 320 rows", .op = DT_OP_GRAM, .in = {{IN_ACT, {333, 320}}}},
    {.name = "gram_cross",
     .op = DT_OP_GRAM_CROSS,
     .in = {{IN_ACT, {2, 3, 5, 7}}, {IN_ACT, {2, 3, 5, 3}}},
     .free_dim = 2},
    {.name = "gram_cross 256x64",
     .op = DT_OP_GRAM_CROSS,
     .in = {{IN_ACT, {5, 29, 17, 256}}, {IN_ACT, {5, 29, 17, 64}}},
     .free_dim = 2},
    {.name = "gram_cross 256x64 sums",
     .op = DT_OP_GRAM_CROSS,
     .wanted = 1u << DT_CROSS_OUT_DBETA,
     .in = {{IN_ACT, {5, 29, 17, 256}}, {IN_ACT, {5, 29, 17, 64}}},
     .free_dim = 2},
    {.name = "gram_cross 72x24 sums",
     .op = DT_OP_GRAM_CROSS,
     .wanted = 1u << DT_CROSS_OUT_DBETA,
     .in = {{IN_ACT, {3, 11, 17, 72}}, {IN_ACT, {3, 11, 17, 24}}},
     .free_dim = 2},
    {.name = "gram_cross 320x160",
     .op = DT_OP_GRAM_CROSS,
     .in = {{IN_ACT, {3, 11, 17, 320}}, {IN_ACT, {3, 11, 17, 160}}},
     .free_dim = 2},
    {.name = "bn_gram",
     .op = DT_OP_BN_GRAM,
     .attr = {OP_BN, .norm.rows = 2},
     .in = {{IN_GRAM, {6, 6}},
            {IN_VEC, {6}},
            {IN_ACT, {10, 1, 1, 6}},
            {IN_POS, {10}},
            {IN_VEC, {10}},
            {IN_VEC, {10}},
            {IN_POS, {10}}}},
    {.name = "bn_gram 256x64",
     .op = DT_OP_BN_GRAM,
     .attr = {OP_BN, .norm.rows = 48},
     .in = {{IN_GRAM, {64, 64}},
            {IN_VEC, {64}},
            {IN_ACT, {256, 1, 1, 64}},
            {IN_POS, {256}},
            {IN_VEC, {256}},
            {IN_VEC, {256}},
            {IN_POS, {256}}}},
    {.name = "bn_gram 200x144",
     .op = DT_OP_BN_GRAM,
     .attr = {OP_BN, .norm.rows = 1000},
     .in = {{IN_GRAM, {144, 144}},
            {IN_VEC, {144}},
            {IN_ACT, {200, 1, 1, 144}},
            {IN_POS, {200}},
            {IN_VEC, {200}},
            {IN_VEC, {200}},
            {IN_POS, {200}}}},
    {.name = "bn_mask", .op = DT_OP_BN_MASK, .in = {[DT_BN_MASK_IN_DY] = {IN_ACT, {2, 4, 3, 5}}}},
    {.name = "bn_mask from y, dz",
     .op = DT_OP_BN_MASK,
     .wanted = 1u << DT_BN_MASK_OUT_DZ,
     .in = {[DT_BN_MASK_IN_DY] = {IN_ACT, {9, 16, 16, 24}}, [DT_BN_MASK_IN_Y] = {IN_ACT, {9, 16, 16, 24}}}},
    {.name = "bn_mask two gradients from y, dz",
     .op = DT_OP_BN_MASK,
     .wanted = 1u << DT_BN_MASK_OUT_DZ,
     .in = {[DT_BN_MASK_IN_DY] = {IN_ACT, {3, 5, 7, 530}},
            [DT_BN_MASK_IN_DY2] = {IN_ACT, {3, 5, 7, 530}},
            [DT_BN_MASK_IN_Y] = {IN_ACT, {3, 5, 7, 530}}}},
    {.name = "bn_mask wide, dz",
     .op = DT_OP_BN_MASK,
     .wanted = 1u << DT_BN_MASK_OUT_DZ,
     .in = {[DT_BN_MASK_IN_DY] = {IN_ACT, {2, 5, 7, 2048}}, [DT_BN_MASK_IN_DY2] = {IN_ACT, {2, 5, 7, 2048}}}},
    {.name = "bn_gram_grad",
     .op = DT_OP_BN_GRAM_GRAD,
     .attr = {.norm.rows = 9},
     .in = {{IN_VEC, {10, 6}},
            {IN_VEC, {10}},
            {IN_VEC, {10, 6}},
            {IN_VEC, {6}},
            {IN_ACT, {10, 1, 1, 6}},
            {IN_VEC, {10}},
            {IN_POS, {10}},
            {IN_VEC, {10}}}},
    {.name = "bn_gram_grad 200x144",
     .op = DT_OP_BN_GRAM_GRAD,
     .attr = {.norm.rows = 100},
     .in = {{IN_VEC, {200, 144}},
            {IN_VEC, {200}},
            {IN_VEC, {200, 144}},
            {IN_VEC, {144}},
            {IN_ACT, {200, 1, 1, 144}},
            {IN_VEC, {200}},
            {IN_POS, {200}},
            {IN_VEC, {200}}}},
    {.name = "bn_gram_dx",
     .op = DT_OP_BN_GRAM_DX,
     .in = {{IN_ACT, {2, 3, 5, 10}}, {IN_ACT, {10, 1, 1, 6}}, {IN_ACT, {2, 3, 5, 6}}, {IN_VEC, {7, 6}}}},
    {.name = "bn_gram_dx 256, 64",
     .op = DT_OP_BN_GRAM_DX,
     .in = {{IN_ACT, {5, 9, 17, 256}},
            {IN_ACT, {256, 1, 1, 64}},
            {IN_ACT, {5, 9, 17, 64}},
            {IN_VEC, {65, 64}}}},
    {.name = "bn_gram_dx 320, 160",
     .op = DT_OP_BN_GRAM_DX,
     .in = {{IN_ACT, {3, 9, 17, 320}},
            {IN_ACT, {320, 1, 1, 160}},
            {IN_ACT, {3, 9, 17, 160}},
            {IN_VEC, {161, 160}}}},

#define UNARY_CASES(NAME, kind, kind_v, a_, b_, value, slope)                                                \
    {.name = #NAME,                                                                                          \
     .op = DT_OP_UNARY,                                                                                      \
     .attr = {.unary.fn = DT_UNARY_##NAME, .unary.a = a_, .unary.b = b_},                                    \
     .in = {{kind, {2, 3, 5, 7}}}},                                                                          \
        {.name = #NAME " large",                                                                             \
         .op = DT_OP_UNARY,                                                                                  \
         .attr = {.unary.fn = DT_UNARY_##NAME, .unary.a = a_, .unary.b = b_},                                \
         .in = {{kind, {70001, 1}}},                                                                         \
         .large = true},                                                                                     \
        {.name = #NAME " gradient",                                                                          \
         .op = DT_OP_UNARY_BWD,                                                                              \
         .attr = {.unary.fn = DT_UNARY_##NAME, .unary.a = a_, .unary.b = b_},                                \
         .in = {{IN_ACT, {3, 333}}, {kind_v, {3, 333}}}},
    OP_UNARY_LIST(UNARY_CASES)
#undef UNARY_CASES

#define BINARY_CASES(NAME, kind, value, dx, dy)                                                              \
    {.name = #NAME,                                                                                          \
     .op = DT_OP_BINARY,                                                                                     \
     .attr = {.binary.fn = DT_BINARY_##NAME},                                                                \
     .in = {{IN_ACT, {2, 3, 5, 7}}, {kind, {2, 3, 5, 7}}}},                                                  \
        {.name = #NAME " of rows and columns",                                                               \
         .op = DT_OP_BINARY,                                                                                 \
         .attr = {.binary.fn = DT_BINARY_##NAME},                                                            \
         .in = {{IN_ACT, {4, 1, 6}}, {kind, {3, 4, 5, 1}}}},                                                 \
        {.name = #NAME " gradient of a",                                                                     \
         .op = DT_OP_BINARY_BWD,                                                                             \
         .attr = {.binary.fn = DT_BINARY_##NAME,                                                             \
                  .binary.operand = 0,                                                                       \
                  .binary.ndim = 2,                                                                          \
                  .binary.dim = {5, 7}},                                                                     \
         .in = {{IN_ACT, {2, 3, 5, 7}}, {IN_ACT, {5, 7}}, {kind, {2, 3, 1, 7}}}},                            \
        {.name = #NAME " gradient of b",                                                                     \
         .op = DT_OP_BINARY_BWD,                                                                             \
         .attr = {.binary.fn = DT_BINARY_##NAME,                                                             \
                  .binary.operand = 1,                                                                       \
                  .binary.ndim = 4,                                                                          \
                  .binary.dim = {2, 1, 5, 1}},                                                               \
         .in = {{IN_ACT, {2, 3, 5, 7}}, {IN_ACT, {2, 3, 5, 7}}, {kind, {2, 1, 5, 1}}}},
        OP_BINARY_LIST(BINARY_CASES)
#undef BINARY_CASES
            {.name = "add large",
             .op = DT_OP_BINARY,
             .in = {{IN_ACT, {70001}}, {IN_ACT, {70001}}},
             .large = true},
    {.name = "mul of channels", /* squeeze and excite */
     .op = DT_OP_BINARY,
     .attr = {.binary.fn = DT_BINARY_MUL},
     .in = {{IN_ACT, {3, 9, 11, 40}}, {IN_ACT, {3, 1, 1, 40}}},
     .large = true},
    {.name = "sub of eight dimensions",
     .op = DT_OP_BINARY,
     .attr = {.binary.fn = DT_BINARY_SUB},
     .in = {{IN_ACT, {2, 1, 3, 1, 2, 1, 3, 2}}, {IN_ACT, {1, 2, 1, 2, 1, 2, 1, 2}}}},
    {.name = "mul of one",
     .op = DT_OP_BINARY,
     .attr = {.binary.fn = DT_BINARY_MUL},
     .in = {{IN_ACT, {9, 33}}, {IN_ACT, {1}}}},
    {.name = "add gradient of a vector",
     .op = DT_OP_BINARY_BWD,
     .attr = {.binary.operand = 1, .binary.ndim = 1, .binary.dim = {37}},
     .in = {[DT_BINARY_BWD_IN_DY] = {IN_ACT, {60, 61, 37}}}},
    {.name = "mul gradient of a scalar",
     .op = DT_OP_BINARY_BWD,
     .attr = {.binary.fn = DT_BINARY_MUL, .binary.operand = 0, .binary.ndim = 1, .binary.dim = {1}},
     .in = {[DT_BINARY_BWD_IN_DY] = {IN_ACT, {333, 301}}, [DT_BINARY_BWD_IN_B] = {IN_ACT, {333, 301}}}},
    {.name = "mul gradient of channels",
     .op = DT_OP_BINARY_BWD,
     .attr =
         {.binary.fn = DT_BINARY_MUL, .binary.operand = 1, .binary.ndim = 4, .binary.dim = {3, 1, 1, 600}},
     .in = {[DT_BINARY_BWD_IN_DY] = {IN_ACT, {3, 9, 11, 600}},
            [DT_BINARY_BWD_IN_A] = {IN_ACT, {3, 9, 11, 600}}}},
    {.name = "mul gradient of columns",
     .op = DT_OP_BINARY_BWD,
     .attr = {.binary.fn = DT_BINARY_MUL, .binary.operand = 1, .binary.ndim = 2, .binary.dim = {9, 1}},
     .in = {[DT_BINARY_BWD_IN_DY] = {IN_ACT, {9, 9001}}, [DT_BINARY_BWD_IN_A] = {IN_ACT, {9, 9001}}}},
    {.name = "mul gradient, nothing repeated",
     .op = DT_OP_BINARY_BWD,
     .attr = {.binary.fn = DT_BINARY_MUL, .binary.operand = 0, .binary.ndim = 3, .binary.dim = {7, 9, 600}},
     .in = {[DT_BINARY_BWD_IN_DY] = {IN_ACT, {7, 9, 600}}, [DT_BINARY_BWD_IN_B] = {IN_ACT, {9, 1}}}},

    {.name = "concat of channels",
     .op = DT_OP_CONCAT,
     .attr = {.shape.axis = 2},
     .in = {{IN_ACT, {2, 3, 4, 5}}, {IN_ACT, {2, 3, 1, 5}}, {IN_ACT, {2, 3, 7, 5}}}},
    {.name = "concat of rows", .op = DT_OP_CONCAT, .in = {{IN_ACT, {4, 5}}, {IN_ACT, {1, 5}}}},
    {.name = "concat of one", .op = DT_OP_CONCAT, .attr = {.shape.axis = 1}, .in = {{IN_ACT, {4, 5}}}},
    {.name = "concat large",
     .op = DT_OP_CONCAT,
     .attr = {.shape.axis = 1},
     .in = {{IN_ACT, {37, 300, 5}}, {IN_ACT, {37, 500, 5}}, {IN_ACT, {37, 3, 5}}},
     .large = true},
    {.name = "slice of columns",
     .op = DT_OP_SLICE,
     .attr = {.shape.axis = 1, .shape.begin = 2, .shape.length = 3},
     .in = {{IN_ACT, {3, 7}}}},
    {.name = "slice of rows",
     .op = DT_OP_SLICE,
     .attr = {.shape.axis = 0, .shape.begin = 1, .shape.length = 2},
     .in = {{IN_ACT, {3, 4, 5}}}},
    {.name = "slice large",
     .op = DT_OP_SLICE,
     .attr = {.shape.axis = 1, .shape.begin = 100, .shape.length = 500},
     .in = {{IN_ACT, {37, 803, 5}}},
     .large = true},
    {.name = "pad",
     .op = DT_OP_PAD,
     .attr = {.shape.axis = 1, .shape.begin = 2, .shape.length = 9},
     .in = {{IN_ACT, {3, 4, 5}}}},
    {.name = "softmax", .op = DT_OP_SOFTMAX, .in = {{IN_WIDE, {3, 4, 7}}}},
    {.name = "softmax long", .op = DT_OP_SOFTMAX, .in = {{IN_WIDE, {5, 5003}}}, .large = true},
    {.name = "softmax of one", .op = DT_OP_SOFTMAX, .in = {{IN_WIDE, {9, 1}}}},
    {.name = "softmax rows", .op = DT_OP_SOFTMAX, .in = {{IN_WIDE, {777, 64}}}, .large = true},
    {.name = "log_softmax", .op = DT_OP_LOG_SOFTMAX, .in = {{IN_WIDE, {3, 4, 7}}}},
    {.name = "log_softmax long", .op = DT_OP_LOG_SOFTMAX, .in = {{IN_WIDE, {5, 5003}}}, .large = true},
    {.name = "log_softmax of one", .op = DT_OP_LOG_SOFTMAX, .in = {{IN_WIDE, {9, 1}}}},
    {.name = "softmax_bwd", .op = DT_OP_SOFTMAX_BWD, .in = {{IN_ACT, {6, 5, 10}}, {IN_ABOVE, {6, 5, 10}}}},
    {.name = "softmax_bwd long", .op = DT_OP_SOFTMAX_BWD, .in = {{IN_ACT, {7, 5003}}, {IN_ABOVE, {7, 5003}}}},
    {.name = "log_softmax_bwd",
     .op = DT_OP_LOG_SOFTMAX_BWD,
     .in = {{IN_ACT, {6, 5, 10}}, {IN_ACT, {6, 5, 10}}}},
    {.name = "log_softmax_bwd long",
     .op = DT_OP_LOG_SOFTMAX_BWD,
     .in = {{IN_ACT, {7, 5003}}, {IN_ACT, {7, 5003}}}},
    {.name = "reshape flatten", .op = DT_OP_RESHAPE, .in = {{IN_ACT, {2, 3, 4, 5}}}},
    {.name = "reshape image",
     .op = DT_OP_RESHAPE,
     .attr = {.reshape = {.ndim = 4, .dim = {2, 3, 4, -1}}},
     .in = {{IN_ACT, {2, 60}}}},
    {.name = "reshape heads",
     .op = DT_OP_RESHAPE,
     .attr = {.reshape = {.ndim = 5, .dim = {-1, 2, 5, 1, 3}}},
     .in = {{IN_ACT, {4, 30}}}},
    {.name = "reshape vector",
     .op = DT_OP_RESHAPE,
     .attr = {.reshape = {.ndim = 1, .dim = {24}}},
     .in = {{IN_ACT, {2, 3, 4}}}},

    {.name = "transpose matrix",
     .op = DT_OP_TRANSPOSE,
     .attr = {.transpose = {.ndim = 2, .perm = {1, 0}}},
     .in = {{IN_ACT, {37, 70}}}},
    {.name = "transpose heads",
     .op = DT_OP_TRANSPOSE,
     .attr = {.transpose = {.ndim = 4, .perm = {0, 2, 1, 3}}},
     .in = {{IN_ACT, {2, 5, 3, 8}}}},
    {.name = "transpose all",
     .op = DT_OP_TRANSPOSE,
     .attr = {.transpose = {.ndim = 5, .perm = {4, 2, 0, 3, 1}}},
     .in = {{IN_ACT, {2, 3, 4, 5, 6}}}},
    {.name = "transpose nothing",
     .op = DT_OP_TRANSPOSE,
     .attr = {.transpose = {.ndim = 3, .perm = {0, 1, 2}}},
     .in = {{IN_ACT, {2, 3, 5}}}},
    {.name = "transpose bytes",
     .op = DT_OP_TRANSPOSE,
     .large = true,
     .attr = {.transpose = {.ndim = 3, .perm = {2, 1, 0}}},
     .in = {{IN_BYTE, {3, 4, 5}}}},
    {.name = "transpose large",
     .op = DT_OP_TRANSPOSE,
     .large = true,
     .attr = {.transpose = {.ndim = 3, .perm = {0, 2, 1}}},
     .in = {{IN_ACT, {3, 129, 301}}}},

    {.name = "matmul", .op = DT_OP_MATMUL, .in = {{IN_ACT, {2, 5, 7}}, {IN_ACT, {2, 7, 3}}}, .free_dim = 2},
    {.name = "matmul a turned",
     .op = DT_OP_MATMUL,
     .attr = {.matmul.turn_a = true},
     .in = {{IN_ACT, {2, 7, 5}}, {IN_ACT, {2, 7, 3}}},
     .free_dim = 3},
    {.name = "matmul b turned",
     .op = DT_OP_MATMUL,
     .attr = {.matmul.turn_b = true},
     .in = {{IN_ACT, {3, 2, 5, 7}}, {IN_ACT, {3, 2, 4, 7}}}},
    {.name = "matmul both turned",
     .op = DT_OP_MATMUL,
     .attr = {.matmul = {.turn_a = true, .turn_b = true}},
     .in = {{IN_ACT, {2, 8, 16}}, {IN_ACT, {2, 24, 8}}},
     .free_dim = 1},
    {.name = "matmul many",
     .op = DT_OP_MATMUL,
     .large = true,
     .in = {{IN_ACT, {24, 33, 17}}, {IN_ACT, {24, 17, 40}}},
     .free_dim = 2},
    {.name = "matmul large",
     .op = DT_OP_MATMUL,
     .large = true,
     .attr = {.matmul.turn_b = true},
     .in = {{IN_ACT, {2, 300, 64}}, {IN_ACT, {2, 280, 64}}}},

    {.name = "reduce sum of rows",
     .op = DT_OP_REDUCE,
     .attr = {.reduce = {.kind = DT_REDUCE_SUM, .axes = 2}},
     .in = {{IN_ACT, {3, 5}}}},
    {.name = "reduce sum of columns",
     .op = DT_OP_REDUCE,
     .attr = {.reduce = {.kind = DT_REDUCE_SUM, .axes = 1}},
     .in = {{IN_ACT, {6, 5}}}},
    {.name = "reduce mean of steps",
     .op = DT_OP_REDUCE,
     .attr = {.reduce = {.kind = DT_REDUCE_MEAN, .axes = 2}},
     .in = {{IN_ACT, {2, 5, 6}}}},
    {.name = "reduce mean of two",
     .op = DT_OP_REDUCE,
     .attr = {.reduce = {.kind = DT_REDUCE_MEAN, .axes = 5}},
     .in = {{IN_ACT, {3, 4, 5, 2}}}},
    {.name = "reduce mean of all",
     .op = DT_OP_REDUCE,
     .attr = {.reduce = {.kind = DT_REDUCE_MEAN, .axes = 7}},
     .in = {{IN_ACT, {3, 4, 5}}}},
    {.name = "reduce sum large",
     .op = DT_OP_REDUCE,
     .large = true,
     .attr = {.reduce = {.kind = DT_REDUCE_SUM, .axes = 1}},
     .in = {{IN_ACT, {3000, 70}}}},
    {.name = "reduce max of rows",
     .op = DT_OP_REDUCE,
     .attr = {.reduce = {.kind = DT_REDUCE_MAX, .axes = 2}},
     .in = {{IN_DISTINCT, {4, 10}}}},
    {.name = "reduce max of steps",
     .op = DT_OP_REDUCE,
     .attr = {.reduce = {.kind = DT_REDUCE_MAX, .axes = 2}},
     .in = {{IN_DISTINCT, {2, 6, 5}}}},
    {.name = "reduce max large",
     .op = DT_OP_REDUCE,
     .large = true,
     .attr = {.reduce = {.kind = DT_REDUCE_MAX, .axes = 6}},
     .in = {{IN_ACT, {3, 150, 7, 40}}}},
    {.name = "reduce_bwd max with ties",
     .op = DT_OP_REDUCE_BWD,
     .attr = {.reduce = {.kind = DT_REDUCE_MAX, .axes = 2, .ndim = 2, .dim = {3, 6}}},
     .in = {{IN_ACT, {3, 1}}, {IN_TIE, {3, 6}}, {IN_TIE, {3, 1}}}},
    {.name = "reduce_bwd mean",
     .op = DT_OP_REDUCE_BWD,
     .attr = {.reduce = {.kind = DT_REDUCE_MEAN, .axes = 6, .ndim = 4, .dim = {2, 3, 5, 4}}},
     .in = {{IN_ACT, {2, 1, 1, 4}}}},

#define OP_EPS       .norm.eps = 1e-5f
#define OP_GROUPS(n) .norm.eps = 1e-5f, .norm.groups = n
    {.name = "layernorm",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {3, 4, 13}}, {IN_VEC, {13}}, {IN_VEC, {13}}}},
    {.name = "layernorm in vectors",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {9, 64}}, {IN_VEC, {64}}, {IN_VEC, {64}}}},
    {.name = "layernorm without bias",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {5, 16}}, {IN_VEC, {16}}}},
    {.name = "layernorm without scale",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {5, 16}}, {0}, {IN_VEC, {16}}}},
    {.name = "layernorm alone", .op = DT_OP_LAYERNORM, .attr = {OP_EPS}, .in = {{IN_ACT, {2, 3, 8}}}},
    {.name = "layernorm of one column",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {6, 1}}},
     .large = true},
    {.name = "layernorm far from 0",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_FAR, {33, 96}}, {IN_VEC, {96}}, {IN_VEC, {96}}},
     .large = true},
    {.name = "layernorm large",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {3, 131, 768}}, {IN_VEC, {768}}, {IN_VEC, {768}}},
     .large = true},
    {.name = "layernorm of long rows",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {5, 10248}}, {IN_VEC, {10248}}, {IN_VEC, {10248}}},
     .large = true},
    {.name = "layernorm of long odd rows",
     .op = DT_OP_LAYERNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {7, 3001}}, {IN_VEC, {3001}}, {IN_VEC, {3001}}},
     .large = true},
    {.name = "rmsnorm", .op = DT_OP_RMSNORM, .attr = {OP_EPS}, .in = {{IN_ACT, {3, 4, 13}}, {IN_VEC, {13}}}},
    {.name = "rmsnorm alone", .op = DT_OP_RMSNORM, .attr = {OP_EPS}, .in = {{IN_ACT, {5, 16}}}},
    {.name = "rmsnorm large",
     .op = DT_OP_RMSNORM,
     .attr = {OP_EPS},
     .in = {{IN_ACT, {201, 640}}, {IN_VEC, {640}}},
     .large = true},
    {.name = "groupnorm",
     .op = DT_OP_GROUPNORM,
     .attr = {OP_GROUPS(3)},
     .in = {{IN_ACT, {2, 3, 4, 6}}, {IN_VEC, {6}}, {IN_VEC, {6}}}},
    {.name = "groupnorm in one group",
     .op = DT_OP_GROUPNORM,
     .attr = {OP_GROUPS(1)},
     .in = {{IN_ACT, {3, 5, 8}}}},
    {.name = "groupnorm of every channel",
     .op = DT_OP_GROUPNORM,
     .attr = {OP_GROUPS(8)},
     .in = {{IN_ACT, {2, 3, 5, 8}}, {IN_VEC, {8}}}},
    {.name = "groupnorm of rows",
     .op = DT_OP_GROUPNORM,
     .attr = {OP_GROUPS(4)},
     .in = {{IN_ACT, {3, 20}}, {IN_VEC, {20}}, {IN_VEC, {20}}}},
    {.name = "groupnorm far from 0",
     .op = DT_OP_GROUPNORM,
     .attr = {OP_GROUPS(4)},
     .in = {{IN_FAR, {3, 9, 11, 16}}, {IN_VEC, {16}}, {IN_VEC, {16}}},
     .large = true},
    {.name = "groupnorm large",
     .op = DT_OP_GROUPNORM,
     .attr = {OP_GROUPS(8)},
     .in = {{IN_ACT, {5, 33, 31, 64}}, {IN_VEC, {64}}, {IN_VEC, {64}}},
     .large = true},
#define OP_NORM_BWD(NAME, OP_, ATTR, ROWS, ...)                                                              \
    {                                                                                                        \
        .name = NAME, .op = OP_, .attr = {ATTR},                                                             \
        .in = {{IN_ACT, {__VA_ARGS__}}, {IN_ACT, {__VA_ARGS__}}, {IN_POS, {ROWS}}, {0}, {IN_VEC, {ROWS}}},   \
        .wanted = 6                                                                                          \
    }
    OP_NORM_BWD("layernorm_bwd", DT_OP_LAYERNORM_BWD, .norm.groups = 0, 15, 3, 5, 24),
    OP_NORM_BWD("layernorm_bwd odd", DT_OP_LAYERNORM_BWD, .norm.groups = 0, 515, 515, 37),
    OP_NORM_BWD("groupnorm_bwd", DT_OP_GROUPNORM_BWD, OP_GROUPS(4), 12, 3, 7, 9, 16),
    {.name = "layernorm_bwd scaled",
     .op = DT_OP_LAYERNORM_BWD,
     .in =
         {{IN_ACT, {1031, 768}}, {IN_ACT, {1031, 768}}, {IN_POS, {1031}}, {IN_VEC, {768}}, {IN_VEC, {1031}}},
     .wanted = 6},
    {.name = "layernorm_bwd without sums",
     .op = DT_OP_LAYERNORM_BWD,
     .in = {{IN_ACT, {11, 40}}, {IN_ACT, {11, 40}}, {IN_POS, {11}}, {IN_VEC, {40}}, {IN_VEC, {11}}}},
    {.name = "layernorm_bwd of long rows",
     .op = DT_OP_LAYERNORM_BWD,
     .in = {{IN_ACT, {9, 20488}}, {IN_ACT, {9, 20488}}, {IN_POS, {9}}, {IN_VEC, {20488}}, {IN_VEC, {9}}},
     .wanted = 6},
    {.name = "rmsnorm_bwd",
     .op = DT_OP_RMSNORM_BWD,
     .in = {{IN_ACT, {77, 640}}, {IN_ACT, {77, 640}}, {IN_POS, {77}}, {IN_VEC, {640}}},
     .wanted = 2},
    {.name = "groupnorm_bwd scaled",
     .op = DT_OP_GROUPNORM_BWD,
     .attr = {OP_GROUPS(8)},
     .in = {{IN_ACT, {5, 33, 31, 64}},
            {IN_ACT, {5, 33, 31, 64}},
            {IN_POS, {40}},
            {IN_VEC, {64}},
            {IN_VEC, {40}}},
     .wanted = 6},

    {.name = "embed",
     .op = DT_OP_EMBED,
     .attr = {.embed.padding = -1},
     .in = {{IN_ACT, {7, 5}}, {IN_INDEX, {3, 4}}},
     .any_dim = 2},
    {.name = "embed in vectors",
     .op = DT_OP_EMBED,
     .attr = {.embed.padding = -1},
     .in = {{IN_ACT, {300, 64}}, {IN_INDEX, {5, 111}}},
     .any_dim = 2,
     .large = true},
    {.name = "embed_bwd",
     .op = DT_OP_EMBED_BWD,
     .attr = {.embed = {.padding = 2, .rows = 7}},
     .in = {{IN_ACT, {3, 4, 5}}, {IN_INDEX, {3, 4}}}},
    {.name = "embed_bwd of padding 0",
     .op = DT_OP_EMBED_BWD,
     .attr = {.embed = {.padding = 0, .rows = 2}},
     .in = {{IN_ACT, {64, 8}}, {IN_INDEX, {64}}}},
    {.name = "embed_bwd large",
     .op = DT_OP_EMBED_BWD,
     .attr = {.embed = {.padding = -1, .rows = 5003}},
     .in = {{IN_ACT, {3, 701, 136}}, {IN_INDEX, {3, 701}}}},
    {.name = "embed_bwd of few rows",
     .op = DT_OP_EMBED_BWD,
     .attr = {.embed = {.padding = -1, .rows = 5}},
     .in = {{IN_ACT, {2101, 263}}, {IN_INDEX, {2101}}}},

    {.name = "maxpool 2x2/2",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(2, 2, 2, 0)},
     .in = {{IN_DISTINCT, {2, 6, 5, 3}}}},
    {.name = "maxpool 3x3/2 pad",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {{IN_DISTINCT, {2, 7, 6, 4}}}},
    {.name = "maxpool 3x2/1",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(3, 2, 1, 0)},
     .in = {{IN_DISTINCT, {1, 5, 4, 70}}},
     .large = true},
    {.name = "maxpool ties",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {{IN_ZERO, {1, 5, 5, 2}}},
     .large = true},
    {.name = "maxpool 3x3/2 pad prologue",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {{IN_DISTINCT, {2, 7, 6, 4}}, {IN_SIGN, {4}}, {IN_SIGN, {4}}},
     .large = true},
    {.name = "maxpool 2x2/2 prologue",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(2, 2, 2, 0)},
     .in = {{IN_DISTINCT, {2, 6, 5, 3}}, {IN_SIGN, {3}}, {IN_ZERO, {3}}},
     .large = true},
    {.name = "maxpool 3x3/2 pad large",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {{IN_DISTINCT, {2, 35, 9, 16}}},
     .large = true},
    {.name = "maxpool 3x3/2 pad prologue large",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {{IN_DISTINCT, {2, 35, 18, 24}}, {IN_SIGN, {24}}, {IN_ZERO, {24}}},
     .large = true},
    {.name = "maxpool 4x4/2 padded unevenly",
     .op = DT_OP_MAXPOOL,
     .attr = {OP_UNEVEN(4, 2)},
     .in = {{IN_DISTINCT, {2, 7, 6, 4}}}},
    {.name = "maxpool 3x3/2 padded before",
     .op = DT_OP_MAXPOOL,
     .attr = {.window.kernel = {3, 3}, .window.stride = {2, 2}, .window.pad_begin = {1, 1}},
     .in = {{IN_DISTINCT, {2, 7, 9, 16}}},
     .large = true},
    {.name = "avgpool 4x4/2 padded unevenly",
     .op = DT_OP_AVGPOOL,
     .attr = {OP_UNEVEN(4, 2)},
     .in = {{IN_ACT, {2, 7, 6, 4}}}},
    {.name = "maxpool_bwd 2x2/2",
     .op = DT_OP_MAXPOOL_BWD,
     .attr = {OP_WINDOW(2, 2, 2, 0), .window.size = {6, 5}},
     .in = {{IN_ACT, {2, 3, 2, 3}}, {IN_POSITION, {2, 3, 2, 3}}}},
    {.name = "maxpool_bwd 3x3/2 pad",
     .op = DT_OP_MAXPOOL_BWD,
     .attr = {OP_WINDOW(3, 3, 2, 1), .window.size = {17, 18}},
     .in = {{IN_ACT, {8, 9, 9, 68}}, {IN_POSITION, {8, 9, 9, 68}}}},
    {.name = "avgpool 2x2/2",
     .op = DT_OP_AVGPOOL,
     .attr = {OP_WINDOW(2, 2, 2, 0)},
     .in = {{IN_ACT, {2, 6, 5, 3}}}},
    {.name = "avgpool 3x3/2 pad",
     .op = DT_OP_AVGPOOL,
     .attr = {OP_WINDOW(3, 3, 2, 1)},
     .in = {{IN_ACT, {2, 7, 6, 5}}}},
    {.name = "avgpool_bwd 3x3/2 pad",
     .op = DT_OP_AVGPOOL_BWD,
     .attr = {OP_WINDOW(3, 3, 2, 1), .window.size = {7, 6}},
     .in = {{IN_ACT, {2, 4, 3, 5}}}},
    {.name = "global_avgpool", .op = DT_OP_GLOBAL_AVGPOOL, .in = {{IN_ACT, {3, 4, 5, 6}}}},
    {.name = "global_avgpool wide",
     .op = DT_OP_GLOBAL_AVGPOOL,
     .in = {{IN_ACT, {3, 7, 7, 130}}},
     .large = true},
    {.name = "global_avgpool_bwd",
     .op = DT_OP_GLOBAL_AVGPOOL_BWD,
     .attr = {.window.size = {4, 5}},
     .in = {{IN_ACT, {3, 6}}}},

    {.name = "dropout rows",
     .op = DT_OP_DROPOUT,
     .attr = {.dropout.p = 0.4f, .dropout.rows = true, .dropout.salt = 9},
     .in = {{IN_ACT, {7, 3, 5}}}},
    {.name = "attention ",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 5, 16}}}},
    {.name = "attention_bwd ",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 5}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention packed",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 3, .kv_heads = 3}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 6, 36}}}},
    {.name = "attention_bwd packed",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 3, .kv_heads = 3}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 6, 12}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 6, 36}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 6, 12}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 3, 6}}}},
    {.name = "attention packed causal",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 7, 48}}}},
    {.name = "attention_bwd packed causal",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 7, 16}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 7, 48}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 7, 16}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 7}}}},
    {.name = "attention packed grouped",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 4, .kv_heads = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 32}}}},
    {.name = "attention_bwd packed grouped",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 4, .kv_heads = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 5, 32}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 5, 16}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 4, 5}}}},
    {.name = "attention of keys elsewhere",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}}}},
    {.name = "attention_bwd of keys elsewhere",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 7, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 7, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 3}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention grouped causal",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 4, .kv_heads = 1, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 6, 32}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 6, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 6, 8}}}},
    {.name = "attention_bwd grouped causal",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 4, .kv_heads = 1, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 6, 32}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 6, 32}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 6, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 6, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 6, 32}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 4, 6}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention causal of more keys",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 8, 4}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 8, 4}}}},
    {.name = "attention_bwd causal of more keys",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 8, 4}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 8, 4}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 3, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 3}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention causal of fewer keys",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 8, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 5, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 5, 8}}}},
    {.name = "attention_bwd causal of fewer keys",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 8, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 8, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 5, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 5, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 8, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 8}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention window",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .window = 3}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 9, 8}}}},
    {.name = "attention_bwd window",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .window = 3}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 2, 9}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention causal window",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true, .window = 3}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 9, 8}}}},
    {.name = "attention_bwd causal window",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true, .window = 3}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 9, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 2, 9}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention window of 1",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 1, .kv_heads = 1, .causal = true, .window = 1}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 6, 4}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 6, 4}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 6, 4}}}},
    {.name = "attention_bwd window of 1",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 1, .kv_heads = 1, .causal = true, .window = 1}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 6, 4}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 6, 4}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 6, 4}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 6, 4}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 6, 4}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 1, 6}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention window of fewer keys",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 1, .kv_heads = 1, .window = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 9, 4}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 4, 4}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 4, 4}}}},
    {.name = "attention_bwd window of fewer keys",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 1, .kv_heads = 1, .window = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 9, 4}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 9, 4}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 4, 4}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 4, 4}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 9, 4}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 1, 9}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention lengths",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {5, 4, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_IN_LENGTHS] = {IN_K_LENGTH, {5}}}},
    {.name = "attention_bwd lengths",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {5, 4, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {5, 4, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {5, 4, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {5, 2, 4}},
            [DT_ATTENTION_BWD_IN_LENGTHS] = {IN_K_LENGTH, {5}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention lengths causal packed",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {5, 6, 24}},
            [DT_ATTENTION_IN_LENGTHS] = {IN_K_LENGTH, {5}},
            [DT_ATTENTION_IN_Q_LENGTHS] = {IN_Q_LENGTH, {5}}}},
    {.name = "attention_bwd lengths causal packed",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {5, 6, 24}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {5, 2, 6}},
            [DT_ATTENTION_BWD_IN_LENGTHS] = {IN_K_LENGTH, {5}},
            [DT_ATTENTION_BWD_IN_Q_LENGTHS] = {IN_Q_LENGTH, {5}}}},
    {.name = "attention of a cache",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 4, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {5, 1, 32}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {5, 6, 16}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {5, 6, 16}},
            [DT_ATTENTION_IN_LENGTHS] = {IN_K_LENGTH, {5}}}},
    {.name = "attention_bwd of a cache",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 4, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {5, 1, 32}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {5, 1, 32}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {5, 6, 16}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {5, 6, 16}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {5, 1, 32}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {5, 4, 1}},
            [DT_ATTENTION_BWD_IN_LENGTHS] = {IN_K_LENGTH, {5}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention query lengths window",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .window = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {5, 6, 4}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {5, 6, 4}},
            [DT_ATTENTION_IN_LENGTHS] = {IN_K_LENGTH, {5}},
            [DT_ATTENTION_IN_Q_LENGTHS] = {IN_Q_LENGTH, {5}}}},
    {.name = "attention_bwd query lengths window",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .window = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {5, 6, 4}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {5, 6, 4}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {5, 6, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {5, 2, 6}},
            [DT_ATTENTION_BWD_IN_LENGTHS] = {IN_K_LENGTH, {5}},
            [DT_ATTENTION_BWD_IN_Q_LENGTHS] = {IN_Q_LENGTH, {5}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention segments",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_IN_SEGMENTS] = {IN_SEGMENT, {3, 9}}}},
    {.name = "attention_bwd segments",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {3, 9, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {3, 2, 9}},
            [DT_ATTENTION_BWD_IN_SEGMENTS] = {IN_SEGMENT, {3, 9}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention segments causal window lengths",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true, .window = 4}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {4, 9, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {4, 9, 4}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {4, 9, 4}},
            [DT_ATTENTION_IN_LENGTHS] = {IN_K_LENGTH, {4}},
            [DT_ATTENTION_IN_Q_LENGTHS] = {IN_Q_LENGTH, {4}},
            [DT_ATTENTION_IN_SEGMENTS] = {IN_SEGMENT, {4, 9}}}},
    {.name = "attention_bwd segments causal window lengths",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true, .window = 4}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {4, 9, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {4, 9, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {4, 9, 4}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {4, 9, 4}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {4, 9, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {4, 2, 9}},
            [DT_ATTENTION_BWD_IN_LENGTHS] = {IN_K_LENGTH, {4}},
            [DT_ATTENTION_BWD_IN_Q_LENGTHS] = {IN_Q_LENGTH, {4}},
            [DT_ATTENTION_BWD_IN_SEGMENTS] = {IN_SEGMENT, {4, 9}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention scale",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .scale = 0.3f}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 4, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 4, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 4, 8}}}},
    {.name = "attention_bwd scale",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .scale = 0.3f}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 4, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 4, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 4, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 4, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 4, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 4}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention dropout",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .dropout = 0.3f, .salt = 5}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 6, 8}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 7, 8}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 7, 8}}}},
    {.name = "attention_bwd dropout",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .dropout = 0.3f, .salt = 5}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 6, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 6, 8}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 7, 8}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 7, 8}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 6, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 6}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention dropout causal packed",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true, .dropout = 0.5f, .salt = 9}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 9, 16}}}},
    {.name = "attention_bwd dropout causal packed",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true, .dropout = 0.5f, .salt = 9}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 9, 8}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 9, 16}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 9, 8}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 9}}}},
    {.name = "attention of one",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 1, .kv_heads = 1}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 1, 1}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 1, 1}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 1, 1}}}},
    {.name = "attention_bwd of one",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 1, .kv_heads = 1}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 1, 1}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 1, 1}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 1, 1}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 1, 1}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 1, 1}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 1, 1}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention of odd heads",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 3, .kv_heads = 3}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 5, 15}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 6, 15}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 6, 15}}}},
    {.name = "attention_bwd of odd heads",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 3, .kv_heads = 3}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 5, 15}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 5, 15}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 6, 15}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 6, 15}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 5, 15}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 3, 5}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention of 13",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 3, 26}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 4, 13}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 4, 13}}}},
    {.name = "attention_bwd of 13",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 3, 26}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 3, 26}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 4, 13}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 4, 13}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 3, 26}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 3}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention of 256",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 1, .kv_heads = 1}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 3, 256}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 3, 256}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 3, 256}}}},
    {.name = "attention_bwd of 256",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 1, .kv_heads = 1}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 3, 256}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 3, 256}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 3, 256}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 3, 256}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 3, 256}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 1, 3}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention of 197",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 197, 32}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 197, 32}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 197, 32}}},
     .large = true},
    {.name = "attention_bwd of 197",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 197, 32}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 197, 32}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 197, 32}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 197, 32}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 197, 32}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 2, 197}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention packed causal of 200",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 3, .kv_heads = 3, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 200, 576}}},
     .large = true},
    {.name = "attention_bwd packed causal of 200",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 3, .kv_heads = 3, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 200, 192}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 200, 576}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 200, 192}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 3, 200}}}},
    {.name = "attention causal of 300",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 4, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 300, 80}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 300, 40}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 300, 40}}},
     .large = true},
    {.name = "attention_bwd causal of 300",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 4, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 300, 80}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 300, 80}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 300, 40}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 300, 40}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 300, 80}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 4, 300}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention causal window of 700",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 1, .kv_heads = 1, .causal = true, .window = 150}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 700, 32}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 700, 32}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 700, 32}}},
     .large = true},
    {.name = "attention_bwd causal window of 700",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 1, .kv_heads = 1, .causal = true, .window = 150}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 700, 32}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 700, 32}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 700, 32}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 700, 32}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 700, 32}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 1, 700}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention segments of 260",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_IN_SEGMENTS] = {IN_SEGMENT, {2, 260}}},
     .large = true},
    {.name = "attention_bwd segments of 260",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2, .causal = true}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {2, 260, 48}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {2, 2, 260}},
            [DT_ATTENTION_BWD_IN_SEGMENTS] = {IN_SEGMENT, {2, 260}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention lengths of 513",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {3, 70, 80}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {3, 513, 80}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {3, 513, 80}},
            [DT_ATTENTION_IN_LENGTHS] = {IN_K_LENGTH, {3}}},
     .large = true},
    {.name = "attention_bwd lengths of 513",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 2}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {3, 70, 80}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {3, 70, 80}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {3, 513, 80}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {3, 513, 80}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {3, 70, 80}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {3, 2, 70}},
            [DT_ATTENTION_BWD_IN_LENGTHS] = {IN_K_LENGTH, {3}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "attention dropout of 333",
     .op = DT_OP_ATTENTION,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true, .dropout = 0.1f, .salt = 3}},
     .in = {[DT_ATTENTION_IN_Q] = {IN_ACT, {1, 333, 72}},
            [DT_ATTENTION_IN_K] = {IN_ACT, {1, 333, 36}},
            [DT_ATTENTION_IN_V] = {IN_ACT, {1, 333, 36}}},
     .large = true},
    {.name = "attention_bwd dropout of 333",
     .op = DT_OP_ATTENTION_BWD,
     .attr = {.attention = {.heads = 2, .kv_heads = 1, .causal = true, .dropout = 0.1f, .salt = 3}},
     .in = {[DT_ATTENTION_BWD_IN_DY] = {IN_ACT, {1, 333, 72}},
            [DT_ATTENTION_BWD_IN_Q] = {IN_ACT, {1, 333, 72}},
            [DT_ATTENTION_BWD_IN_K] = {IN_ACT, {1, 333, 36}},
            [DT_ATTENTION_BWD_IN_V] = {IN_ACT, {1, 333, 36}},
            [DT_ATTENTION_BWD_IN_Y] = {IN_ACT, {1, 333, 72}},
            [DT_ATTENTION_BWD_IN_LSE] = {IN_LSE, {1, 2, 333}}},
     .wanted = 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV},
    {.name = "dropout",
     .op = DT_OP_DROPOUT,
     .attr = {.dropout.p = 0.3f, .dropout.salt = 5},
     .in = {{IN_ACT, {3, 37}}}},
    {.name = "dropout 0", .op = DT_OP_DROPOUT, .attr = {.dropout.p = 0}, .in = {{IN_ACT, {3, 5}}}},
    {.name = "dropout large",
     .op = DT_OP_DROPOUT,
     .attr = {.dropout.p = 0.5f, .dropout.salt = 9},
     .in = {{IN_ACT, {64, 3, 3, 30}}},
     .large = true},
    {.name = "dropout_bwd",
     .op = DT_OP_DROPOUT_BWD,
     .attr = {.dropout.p = 0.3f, .dropout.salt = 5},
     .in = {{IN_ACT, {3, 37}}}},

    {.name = "xent",
     .op = DT_OP_XENT,
     .attr = {OP_LOSS},
     .in = {{IN_ACT, {6, 10}}, {IN_LABEL, {6}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
    {.name = "xent smoothing",
     .op = DT_OP_XENT,
     .attr = {OP_LOSS, .loss.smoothing = 0.1f},
     .in = {{IN_ACT, {5, 7}}, {IN_LABEL, {5}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
    {.name = "xent padded labels",
     .op = DT_OP_XENT,
     .attr = {OP_LOSS, .loss.smoothing = 0.2f},
     .in = {{IN_ACT, {7, 4}}, {IN_PADDED, {7}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
    {.name = "xent valid rows",
     .op = DT_OP_XENT,
     .attr = {OP_LOSS},
     .in = {{IN_ACT, {9, 4}}, {IN_LABEL, {9}}, {IN_ZERO, {DT_METRIC_COUNT}}, {IN_LABEL, {9}}}},
    {.name = "xent_bwd valid rows",
     .op = DT_OP_XENT_BWD,
     .attr = {OP_LOSS},
     .in = {{IN_PROB, {9, 4}}, {IN_LABEL, {9}}, {IN_LABEL, {9}}}},
    {.name = "xent first of several",
     .op = DT_OP_XENT,
     .attr = {.loss = {.weight = 0.5f, .nth = 1}},
     .in = {{IN_ACT, {7, 9}}, {IN_PADDED, {7}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
    {.name = "xent third of several",
     .op = DT_OP_XENT,
     .attr = {.loss = {.weight = 0.3f, .nth = 3}},
     .in = {{IN_ACT, {7, 9}}, {IN_PADDED, {7}}, {IN_ZERO, {DT_METRIC_COUNT}}}},
    {.name = "xent 1000 classes",
     .op = DT_OP_XENT,
     .attr = {OP_LOSS, .loss.smoothing = 0.1f},
     .in = {{IN_ACT, {33, 1000}}, {IN_PADDED, {33}}, {IN_ZERO, {DT_METRIC_COUNT}}},
     .large = true},
    {.name = "xent_bwd",
     .op = DT_OP_XENT_BWD,
     .attr = {OP_LOSS},
     .in = {{IN_PROB, {6, 10}}, {IN_LABEL, {6}}}},
    {.name = "xent_bwd smoothing, padded",
     .op = DT_OP_XENT_BWD,
     .attr = {.loss = {.weight = 0.75f, .smoothing = 0.1f}},
     .in = {{IN_PROB, {37, 1001}}, {IN_PADDED, {37}}}},

#define OP_LOSS_CASES(NAME, kind_, sums_, param_, x, target)                                                 \
    {.name = #NAME,                                                                                          \
     .op = DT_OP_LOSS,                                                                                       \
     .attr = {.loss = {.weight = 1, .kind = DT_LOSS_##NAME, .sums = sums_, .param = param_}},                \
     .in = {{x, {6, 5}}, target({6, 5}), {IN_LABEL, {6}}, {IN_ZERO, {DT_METRIC_COUNT}}}},                    \
        {.name = #NAME " second of several",                                                                 \
         .op = DT_OP_LOSS,                                                                                   \
         .attr =                                                                                             \
             {.loss = {.weight = 0.7f, .nth = 2, .kind = DT_LOSS_##NAME, .sums = sums_, .param = param_}},   \
         .in = {{x, {5, 3, 2, 2}}, target({5, 3, 2, 2}), {0}, {IN_ZERO, {DT_METRIC_COUNT}}}},                \
        {.name = #NAME " large",                                                                             \
         .op = DT_OP_LOSS,                                                                                   \
         .attr =                                                                                             \
             {.loss = {.weight = 0.7f, .nth = 1, .kind = DT_LOSS_##NAME, .sums = sums_, .param = param_}},   \
         .in = {{x, {301, 133}}, target({301, 133}), {IN_LABEL, {301}}, {IN_ZERO, {DT_METRIC_COUNT}}},       \
         .large = true},                                                                                     \
        {.name = #NAME " gradient",                                                                          \
         .op = DT_OP_LOSS_BWD,                                                                               \
         .attr = {.loss = {.weight = 0.7f, .kind = DT_LOSS_##NAME, .param = param_}},                        \
         .in = {{x, {99, 401}}, target({99, 401}), {IN_LABEL, {99}}}},
#define OP_NO_TARGET(...)                                                                                    \
    { 0 }
#define OP_TARGET(...)                                                                                       \
    { IN_VEC, __VA_ARGS__ }
#define OP_UNIT(...)                                                                                         \
    { IN_UNIT, __VA_ARGS__ }
#define OP_BIT(...)                                                                                          \
    { IN_BIT, __VA_ARGS__ }
    OP_LOSS_CASES(VALUE, DT_LOSS_VALUE, DT_LOSS_SUMS_NONE, 0, IN_ACT,
                  OP_NO_TARGET) OP_LOSS_CASES(MSE, DT_LOSS_MSE, DT_LOSS_SUMS_REGRESS, 0, IN_ACT, OP_TARGET)
        OP_LOSS_CASES(L1, DT_LOSS_L1, DT_LOSS_SUMS_REGRESS, 0, IN_ACT, OP_TARGET)
            OP_LOSS_CASES(HUBER, DT_LOSS_HUBER, DT_LOSS_SUMS_REGRESS, 0.6f, IN_ACT, OP_TARGET)
                OP_LOSS_CASES(BCE, DT_LOSS_BCE, DT_LOSS_SUMS_LABELS, 2.5f, IN_DISTINCT, OP_BIT)
                    OP_LOSS_CASES(BCE, DT_LOSS_BCE, DT_LOSS_SUMS_NONE, 1, IN_ACT, OP_UNIT)

#define OP_CAST_CASE(NAME, kind, to)                                                                         \
    {.name = "cast " NAME, .op = DT_OP_CAST, .attr = {.cast.dtype = to}, .in = {{kind, {7, 3, 5}}}},         \
        {.name = "cast " NAME " large",                                                                      \
         .op = DT_OP_CAST,                                                                                   \
         .attr = {.cast.dtype = to},                                                                         \
         .in = {{kind, {131, 1009}}}},
                        OP_CAST_CASE("u8 to f32", IN_BYTE, DT_DTYPE_F32)
                            OP_CAST_CASE("i32 to f32", IN_WHOLE, DT_DTYPE_F32)
                                OP_CAST_CASE("i64 to f32", IN_LONG, DT_DTYPE_F32)
                                    OP_CAST_CASE("f64 to f32", IN_DOUBLE, DT_DTYPE_F32)
                                        OP_CAST_CASE("T to f32", IN_ACT, DT_DTYPE_F32)
                                            OP_CAST_CASE("u8 to i32", IN_BYTE, DT_DTYPE_I32)
                                                OP_CAST_CASE("i64 to i32", IN_LONG, DT_DTYPE_I32)

                                                    {.name = "conv_dgrad 3x3/2",
                                                     .op = DT_OP_CONV_DGRAD,
                                                     .attr = {OP_CONV(3, 3, 2, 1), .window.size = {9, 8}},
                                                     .in = {{IN_ACT, {2, 5, 4, 6}}, {IN_ACT, {6, 3, 3, 4}}},
                                                     .free_dim = 2},
    {.name = "conv_dgrad 3x3",
     .op = DT_OP_CONV_DGRAD,
     .attr = {OP_CONV(3, 3, 1, 1), .window.size = {6, 5}},
     .in = {{IN_ACT, {2, 6, 5, 8}}, {IN_ACT, {8, 3, 3, 8}}},
     .free_dim = 2},
    {.name = "conv_dgrad 3x3/2 add mask",
     .op = DT_OP_CONV_DGRAD,
     .attr = {OP_CONV(3, 3, 2, 1), .window.size = {9, 8}},
     .in = {[DT_DGRAD_IN_DY] = {IN_ACT, {2, 5, 4, 6}},
            [DT_DGRAD_IN_W] = {IN_ACT, {6, 3, 3, 4}},
            [DT_DGRAD_IN_DX2] = {IN_ACT, {2, 9, 8, 4}},
            [DT_DGRAD_IN_Y] = {IN_ACT, {2, 9, 8, 4}}},
     .free_dim = 2},
    {.name = "conv_dgrad 1x1 mask",
     .op = DT_OP_CONV_DGRAD,
     .attr = {OP_CONV(1, 1, 1, 0), .window.size = {5, 7}},
     .in = {[DT_DGRAD_IN_DY] = {IN_ACT, {3, 5, 7, 8}},
            [DT_DGRAD_IN_W] = {IN_ACT, {8, 1, 1, 16}},
            [DT_DGRAD_IN_Y] = {IN_ACT, {3, 5, 7, 16}}},
     .free_dim = 2},
    {.name = "conv_dgrad 1x1 add",
     .op = DT_OP_CONV_DGRAD,
     .attr = {OP_CONV(1, 1, 1, 0), .window.size = {5, 7}},
     .in = {[DT_DGRAD_IN_DY] = {IN_ACT, {3, 5, 7, 8}},
            [DT_DGRAD_IN_W] = {IN_ACT, {8, 1, 1, 16}},
            [DT_DGRAD_IN_DX2] = {IN_ACT, {3, 5, 7, 16}}},
     .free_dim = 2},
    {.name = "conv_dgrad 1x1 64->256 add mask",
     .op = DT_OP_CONV_DGRAD,
     .attr = {OP_CONV(1, 1, 1, 0), .window.size = {13, 11}},
     .in = {[DT_DGRAD_IN_DY] = {IN_ACT, {7, 13, 11, 64}},
            [DT_DGRAD_IN_W] = {IN_ACT, {64, 1, 1, 256}},
            [DT_DGRAD_IN_DX2] = {IN_ACT, {7, 13, 11, 256}},
            [DT_DGRAD_IN_Y] = {IN_ACT, {7, 13, 11, 256}}},
     .free_dim = 2},
    {.name = "conv_wgrad 3x3",
     .op = DT_OP_CONV_WGRAD,
     .attr = {OP_CONV(3, 3, 1, 1)},
     .in = {{IN_ACT, {2, 6, 5, 8}}, {IN_ACT, {2, 6, 5, 8}}},
     .free_dim = 2},
    {.name = "conv_dgrad large",
     .op = DT_OP_CONV_DGRAD,
     .attr = {OP_CONV(3, 3, 1, 1), .window.size = {18, 15}},
     .in = {{IN_ACT, {8, 18, 15, 48}}, {IN_ACT, {48, 3, 3, 32}}},
     .free_dim = 2},
    {.name = "conv_wgrad 3x3/2",
     .op = DT_OP_CONV_WGRAD,
     .attr = {OP_CONV(3, 3, 2, 1)},
     .in = {{IN_ACT, {2, 9, 8, 4}}, {IN_ACT, {2, 5, 4, 6}}},
     .free_dim = 2},
    {.name = "conv_wgrad large",
     .op = DT_OP_CONV_WGRAD,
     .attr = {OP_CONV(3, 3, 1, 1)},
     .in = {{IN_ACT, {8, 18, 15, 32}}, {IN_ACT, {8, 18, 15, 48}}},
     .free_dim = 2},
    {.name = "dense_dgrad",
     .op = DT_OP_DENSE_DGRAD,
     .in = {{IN_ACT, {5, 7}}, {IN_ACT, {7, 12}}},
     .free_dim = 2},
    {.name = "dense_wgrad",
     .op = DT_OP_DENSE_WGRAD,
     .in = {{IN_ACT, {5, 12}}, {IN_ACT, {5, 7}}},
     .free_dim = 2},
    {.name = "dense_dgrad of sequences",
     .op = DT_OP_DENSE_DGRAD,
     .in = {{IN_ACT, {2, 3, 7}}, {IN_ACT, {7, 12}}},
     .free_dim = 2},
    {.name = "dense_wgrad of sequences",
     .op = DT_OP_DENSE_WGRAD,
     .in = {{IN_ACT, {2, 3, 12}}, {IN_ACT, {2, 3, 7}}},
     .free_dim = 2},
    {.name = "bias_grad", .op = DT_OP_BIAS_GRAD, .in = {{IN_ACT, {3, 4, 5, 6}}}},
    {.name = "bias_grad rows", .op = DT_OP_BIAS_GRAD, .in = {{IN_ACT, {333, 1030}}}},
};
enum { OP_CASE_COUNT = sizeof op_case_table / sizeof op_case_table[0] };

static inline int32_t op_in_ndim(const op_in *in) {
    int32_t n = 0;
    while (n < DT_MAX_DIM && in->dim[n] > 0) n++;
    return n;
}

static inline bool op_case_has(const op_case *c, int32_t slot) {
    return c->in[slot].dim[0] > 0;
}

static inline dt_dtype op_in_dtype(op_kind kind, dt_dtype compute) {
    switch (kind) {
    case IN_ACT:
    case IN_DISTINCT:
    case IN_WIDE:
    case IN_WIDER:
    case IN_ABOVE:
    case IN_TIE:
    case IN_FAR:
    case IN_UNIT_ACT:
        return compute;
    case IN_BYTE:
    case IN_POSITION:
        return DT_DTYPE_U8;
    case IN_LABEL:
    case IN_PADDED:
    case IN_WHOLE:
    case IN_INDEX:
    case IN_WINDOW:
    case IN_LENGTH:
    case IN_K_LENGTH:
    case IN_Q_LENGTH:
    case IN_SEGMENT:
        return DT_DTYPE_I32;
    case IN_LONG:
        return DT_DTYPE_I64;
    case IN_DOUBLE:
        return DT_DTYPE_F64;
    default:
        return DT_DTYPE_F32;
    }
}

/* The value of a slot: "in0", "in1", ... */
static inline const char *op_case_in_name(int32_t slot) {
    static _Thread_local char name[8];
    snprintf(name, sizeof name, "in%d", slot);
    return name;
}

/* Adds the case's inputs as values "in<slot>" and its op as node "node". */
static inline dt_status op_case_add(const op_case *c, dt_graph *g, dt_vid *out) {
    dt_vid in[DT_SLOTS_IN_MAX];
    int32_t n_in = 0;
    for (int32_t i = 0; i < DT_SLOTS_IN_MAX; i++) {
        in[i] = -1;
        if (!op_case_has(c, i)) continue;
        n_in = i + 1;
        /* an image of zeros is data too: ties need it in the compute dtype */
        dt_dtype dtype =
            c->in[i].kind == IN_ZERO && i == 0 ? g->compute : op_in_dtype(c->in[i].kind, g->compute);
        if (c->retyped == i + 1) dtype = c->type;
        const dt_slot *slot = i < dt_op_n_in(c->op) ? &dt_op_get(c->op)->in[i] : NULL;
        dt_role role = slot && strcmp(slot->name, "metrics") == 0 ? DT_ROLE_METRIC : DT_ROLE_INPUT;
        DT_TRY(dt_graph_add_value(g, op_case_in_name(i), role, dtype, op_in_ndim(&c->in[i]), c->in[i].dim,
                                  &in[i]));
    }
    return dt_graph_add_node_with(g, "node", c->op, &c->attr, n_in, in, c->wanted, out);
}

/* The graph of a case, BATCHNORM split as a backend wants it. */
static inline dt_graph *op_case_graph(const op_case *c, dt_dtype compute) {
    dt_graph *g = NULL;
    op_ok(dt_graph_create(&g, compute, !c->eval));
    op_ok(op_case_add(c, g, NULL));
    op_ok(dt_pass_split_batchnorm(g));
    return g;
}

static inline float op_uniform(uint64_t salt, int64_t i) {
    return dt_u01(dt_philox(dt_rng_key(7, DT_RNG_TEST, salt), 0, (uint64_t)i / 4).v[i % 4]);
}

static inline void op_fill_window(const op_case *c, int64_t row, float u, int32_t *aug) {
    int64_t h = c->in[0].dim[1], w = c->in[0].dim[2];
    memset(aug, 0, 8 * sizeof *aug);
    aug[2] = (int32_t)(1 + (w - 1) * (row + 1) / (row + 2)),
    aug[3] = (int32_t)(1 + (h - 1) * (row + 2) / (row + 3));
    if (row == 0) aug[2] = (int32_t)w, aug[3] = (int32_t)h;
    aug[0] = (int32_t)((float)(w - aug[2]) * u), aug[1] = (int32_t)((float)(h - aug[3]) * u);
    aug[4] = (int32_t)(row % 2);
}

/* Host data of input i: floats for 16-bit kinds too, the value's own type for the others; always the same for a case.
 * Caller frees. `round_to` rounds floats of the compute dtype to what that dtype can hold. */
static inline void *op_case_data(const op_case *c, int32_t i, dt_dtype round_to) {
    const op_in *in = &c->in[i];
    int64_t n = 1, cols = in->dim[op_in_ndim(in) - 1], classes = c->in[0].dim[op_in_ndim(&c->in[0]) - 1];
    const int64_t table_rows = c->op == DT_OP_EMBED_BWD ? c->attr.embed.rows : c->in[0].dim[0];
    for (int32_t d = 0; d < op_in_ndim(in); d++) n *= in->dim[d];
    float *f = op_zalloc(n * 8);
    int32_t *whole = (int32_t *)(void *)f;
    int64_t *lng = (int64_t *)(void *)f;
    double *dbl = (double *)(void *)f;
    uint8_t *byte = (uint8_t *)f;
    uint64_t salt = (uint64_t)i + 1;
    double sum = 0;
    const int64_t steps = c->in[dt_op_get(c->op)->main].dim[1];
    for (int64_t e = 0; e < n; e++) {
        float u = op_uniform(salt, e);
        switch (in->kind) {
        case IN_ACT:
        case IN_VEC:
            f[e] = 3 * u - 1.5f;
            break;
        case IN_DISTINCT:
            f[e] = 0.125f * (float)(e * 37 % n) - (float)n / 16; /* 37 is no factor of n */
            break;
        case IN_WIDE:
            f[e] = 10 * u - 5;
            break;
        case IN_WIDER:
            f[e] = 20 * u - 10;
            break;
        case IN_ABOVE:
            f[e] = 0.25f + 2 * u;
            break;
        case IN_TIE:
            f[e] = -(float)(e % 3);
            break;
        case IN_FAR:
            f[e] = 49 + 2 * u;
            break;
        case IN_UNIT_ACT:
            f[e] = (u - 0.3f) / (cols > 16 ? 4 : 1);
            break;
        case IN_POS:
            f[e] = 0.5f + u;
            break;
        case IN_ZERO:
            f[e] = 0;
            break;
        case IN_SIGN:
            f[e] = e % 3 == 2 ? -1 : 1;
            break;
        case IN_GRAM:
            f[e] = e / cols == e % cols ? 60 * (float)cols : 1;
            break;
        case IN_PROB:
            if (e % cols == 0) {
                sum = 0;
                for (int64_t k = 0; k < cols; k++) sum += (double)op_uniform(salt, e + k);
            }
            f[e] = (float)((double)u / sum);
            break;
        case IN_BYTE:
            byte[e] = (uint8_t)(256 * u);
            break;
        case IN_UNIT:
            f[e] = u;
            break;
        case IN_BIT:
            f[e] = u < 0.4f ? 1 : 0;
            break;
        case IN_DOUBLE:
            dbl[e] = 3 * (double)u - 1.5 + 1e-9 * (double)e;
            break;
        case IN_LONG:
            lng[e] = (int64_t)((double)(u - 0.5f) * (e % 2 ? 0x1p40 : 0x1p20)) + e;
            break;
        case IN_WHOLE:
            whole[e] = (int32_t)((u - 0.5f) * 0x1p28f) + (int32_t)e;
            break;
        case IN_LABEL:
            whole[e] = (int32_t)((float)classes * u);
            break;
        case IN_PADDED:
            whole[e] = e % 3 == 1 ? -1 : (int32_t)((float)classes * u);
            break;
        case IN_LENGTH:
            whole[e] = (int32_t)((steps + 1 + e) % (steps + 2));
            break;
        case IN_INDEX:
            whole[e] = e % 4 == 3 ? 1 : (int32_t)((float)table_rows * u);
            break;
        case IN_POSITION:
            byte[e] = (uint8_t)((float)(c->attr.window.kernel[0] * c->attr.window.kernel[1]) * u);
            break;
        case IN_WINDOW:
            if (e % 8 == 0) op_fill_window(c, e / 8, u, whole + e);
            break;
        case IN_K_LENGTH:
            whole[e] = (int32_t)((float)(2 * e) / (float)n * (float)c->in[0].dim[1] + 0.5f);
            break;
        case IN_Q_LENGTH:
            whole[e] = 1 + (int32_t)(u * (float)c->in[0].dim[1]);
            break;
        case IN_SEGMENT:
            whole[e] = e % cols == 0 ? 0 : whole[e - 1] + (u < 0.4f);
            break;
        case IN_LSE:
            f[e] = e % 7 == 6 ? -INFINITY : 6 + u;
            break;
        }
        if (op_is_16(round_to) && op_in_dtype(in->kind, round_to) == round_to)
            f[e] = op_from16(round_to, op_to16(round_to, f[e]));
    }
    return f;
}

/* Writes all inputs of the case. */
static inline void op_case_fill(const op_case *c, op_run *r) {
    for (int32_t i = 0; i < DT_SLOTS_IN_MAX; i++) {
        if (!op_case_has(c, i)) continue;
        dt_vid v = dt_graph_find(r->g, op_case_in_name(i));
        void *data = op_case_data(c, i, r->g->compute);
        op_write(r, v, data);
        free(data);
    }
}

/* Channels whose batch was not finite keep their running statistics, the others do not. */
static inline void op_check_bn_keeps(dt_backend *be) {
    static const float stats[2][4] = {{1, INFINITY, 1, NAN}, {4, 4, INFINITY, 4}}, before[4] = {8, 8, 8, 8};
    const op_case c = {.op = DT_OP_BN_FINALIZE,
                       .attr = {.norm.eps = 1e-5f, .norm.momentum = 0.5f, .norm.rows = 3},
                       .in = {{IN_POS, {2, 4}}, {IN_POS, {4}}, {IN_VEC, {4}}, {IN_VEC, {4}}, {IN_POS, {4}}}};
    dt_graph *g = op_case_graph(&c, DT_DTYPE_F32);
    op_run r = op_run_open(be, g, &op_step, false);
    op_write(&r, dt_graph_find(g, "in0"), stats[0]);
    op_write(&r, dt_graph_find(g, "in3"), before);
    op_write(&r, dt_graph_find(g, "in4"), before);
    op_run_go(&r);
    float *mean = op_read(&r, dt_graph_find(g, "in3")), *var = op_read(&r, dt_graph_find(g, "in4"));
    assert_true(mean[0] == 4.5f && fabsf(var[0] - 7) < 1e-5f);
    for (int i = 1; i < 4; i++) assert_true(mean[i] == 8 && var[i] == 8);
    free(mean);
    free(var);
    op_run_close(&r);
    dt_graph_destroy(g);
}

#endif
