/* The op table: one const row per op, with its operands by name. `dtrain ops` prints it.
 *
 * Letters: N batch, H W image, C in channels, K out channels, R S kernel rows/columns, P Q output image,
 * G groups, m = N*H*W. "T" is the compute dtype (f32, f16, bf16), also of gradients; statistics and BN
 * parameters are f32. What an op computes is the row's doc. */
#ifndef DT_CORE_OP_H
#define DT_CORE_OP_H

#include <stdio.h>

#include "core/attention.h"
#include "core/graph.h"
#include "core/rope.h"

/* Slots of the ops that passes and kernels take apart. Ops that are not here have their operands in the order
 * of their row. */
enum { DT_INPUT_IMAGE, DT_INPUT_AUG, DT_INPUT_MIX };
enum {
    DT_CONV_IN_X,
    DT_CONV_IN_W,
    DT_CONV_IN_BIAS,
    DT_CONV_IN_PRE_SCALE, /* x is relu(x * pre_scale + pre_shift), done while reading */
    DT_CONV_IN_PRE_SHIFT,
    DT_CONV_IN_SCALE, /* the result ends as BN_APPLY's: scale, shift, residual */
    DT_CONV_IN_SHIFT,
    DT_CONV_IN_RES,
    DT_CONV_IN_RES_SCALE,
    DT_CONV_IN_RES_SHIFT
};
enum { DT_CONV_OUT_Y, DT_CONV_OUT_STATS };
enum {
    DT_DGRAD_IN_DY,
    DT_DGRAD_IN_W,
    DT_DGRAD_IN_DX2,
    DT_DGRAD_IN_Y,
    DT_DGRAD_IN_C, /* from here on: the sums of BN_REDUCE over the result */
    DT_DGRAD_IN_MEAN,
    DT_DGRAD_IN_INVSTD,
    DT_DGRAD_IN_GAMMA,
    DT_DGRAD_IN_SCALE,
    DT_DGRAD_IN_SHIFT
};
enum { DT_DGRAD_OUT_DX, DT_DGRAD_OUT_DGAMMA, DT_DGRAD_OUT_DBETA, DT_DGRAD_OUT_COEF };
enum { DT_WGRAD_IN_X, DT_WGRAD_IN_DY, DT_WGRAD_IN_PRE_SCALE, DT_WGRAD_IN_PRE_SHIFT };
enum { DT_DENSE_IN_X, DT_DENSE_IN_W, DT_DENSE_IN_BIAS, DT_DENSE_IN_RES };
enum { DT_DENSE_OUT_Y, DT_DENSE_OUT_PRE };
enum { DT_DENSE_DGRAD_IN_DY, DT_DENSE_DGRAD_IN_W, DT_DENSE_DGRAD_IN_PRE };
enum { DT_DENSE_WGRAD_IN_X, DT_DENSE_WGRAD_IN_DY };
enum { DT_DENSE_WGRAD_OUT_DW, DT_DENSE_WGRAD_OUT_DB };
enum { DT_MATMUL_IN_A, DT_MATMUL_IN_B };
enum { DT_REDUCE_BWD_IN_DY, DT_REDUCE_BWD_IN_X, DT_REDUCE_BWD_IN_Y };
enum { DT_BINARY_IN_A, DT_BINARY_IN_B };
enum { DT_BINARY_BWD_IN_DY, DT_BINARY_BWD_IN_A, DT_BINARY_BWD_IN_B };
enum { DT_MAXPOOL_IN_X, DT_MAXPOOL_IN_PRE_SCALE, DT_MAXPOOL_IN_PRE_SHIFT };
enum { DT_MAXPOOL_OUT_Y, DT_MAXPOOL_OUT_IDX };
enum {
    DT_ATTENTION_IN_Q,
    DT_ATTENTION_IN_K, /* absent with V: q holds them too */
    DT_ATTENTION_IN_V,
    DT_ATTENTION_IN_LENGTHS,
    DT_ATTENTION_IN_Q_LENGTHS,
    DT_ATTENTION_IN_SEGMENTS
};
enum { DT_ATTENTION_OUT_Y, DT_ATTENTION_OUT_LSE };
enum {
    DT_ATTENTION_BWD_IN_DY,
    DT_ATTENTION_BWD_IN_Q,
    DT_ATTENTION_BWD_IN_K,
    DT_ATTENTION_BWD_IN_V,
    DT_ATTENTION_BWD_IN_Y,
    DT_ATTENTION_BWD_IN_LSE,
    DT_ATTENTION_BWD_IN_LENGTHS,
    DT_ATTENTION_BWD_IN_Q_LENGTHS,
    DT_ATTENTION_BWD_IN_SEGMENTS
};
enum { DT_ATTENTION_BWD_OUT_DQ, DT_ATTENTION_BWD_OUT_DK, DT_ATTENTION_BWD_OUT_DV };
enum {
    DT_XENT_IN_LOGITS,
    DT_XENT_IN_LABEL,
    DT_XENT_IN_METRICS,
    DT_XENT_IN_VALID,
    DT_XENT_IN_PARTNER, /* a second label, with what the first leaves of the row's target */
    DT_XENT_IN_SHARE
};
enum {
    DT_XENT_BWD_IN_LOGITS,
    DT_XENT_BWD_IN_LABEL,
    DT_XENT_BWD_IN_STATS,
    DT_XENT_BWD_IN_VALID,
    DT_XENT_BWD_IN_PARTNER,
    DT_XENT_BWD_IN_SHARE
};
enum { DT_XENT_OUT_LOSS, DT_XENT_OUT_STATS };
enum {
    DT_LOSS_IN_X,
    DT_LOSS_IN_TARGET,
    DT_LOSS_IN_VALID,
    DT_LOSS_IN_METRICS
}; /* LOSS_BWD: the first three */
enum { DT_BN_IN_X, DT_BN_IN_GAMMA, DT_BN_IN_BETA, DT_BN_IN_RMEAN, DT_BN_IN_RVAR, DT_BN_IN_RES };
enum { DT_BN_OUT_Y, DT_BN_OUT_MEAN, DT_BN_OUT_INVSTD, DT_BN_OUT_SCALE, DT_BN_OUT_SHIFT };
enum {
    DT_FINALIZE_IN_STATS,
    DT_FINALIZE_IN_GAMMA,
    DT_FINALIZE_IN_BETA,
    DT_FINALIZE_IN_RMEAN,
    DT_FINALIZE_IN_RVAR
};
enum { DT_FINALIZE_OUT_MEAN, DT_FINALIZE_OUT_INVSTD, DT_FINALIZE_OUT_SCALE, DT_FINALIZE_OUT_SHIFT };
enum {
    DT_APPLY_IN_X,
    DT_APPLY_IN_SCALE,
    DT_APPLY_IN_SHIFT,
    DT_APPLY_IN_RES,
    DT_APPLY_IN_RES_SCALE,
    DT_APPLY_IN_RES_SHIFT
};
enum {
    DT_REDUCE_IN_DY,
    DT_REDUCE_IN_DY2,
    DT_REDUCE_IN_C,
    DT_REDUCE_IN_MEAN,
    DT_REDUCE_IN_INVSTD,
    DT_REDUCE_IN_GAMMA,
    DT_REDUCE_IN_Y,     /* the mask of a ReLU: y > 0 */
    DT_REDUCE_IN_SCALE, /* or c * scale + shift > 0 */
    DT_REDUCE_IN_SHIFT,
    DT_REDUCE_IN_DYP, /* dy is gathered from the gradient of a max pool's output */
    DT_REDUCE_IN_DYP2,
    DT_REDUCE_IN_IDX
};
enum { DT_REDUCE_OUT_DGAMMA, DT_REDUCE_OUT_DBETA, DT_REDUCE_OUT_COEF, DT_REDUCE_OUT_DZ };
enum {
    DT_DX_IN_DY,
    DT_DX_IN_C,
    DT_DX_IN_COEF,
    DT_DX_IN_SCALE,
    DT_DX_IN_SHIFT,
    DT_DX_IN_DYP,
    DT_DX_IN_DYP2,
    DT_DX_IN_IDX
};
/* Of LAYERNORM, RMSNORM (without beta and mean) and GROUPNORM. */
enum { DT_LN_IN_X, DT_LN_IN_GAMMA, DT_LN_IN_BETA };
enum { DT_LN_OUT_Y, DT_LN_OUT_RSTD, DT_LN_OUT_MEAN };
enum { DT_LN_BWD_IN_DY, DT_LN_BWD_IN_X, DT_LN_BWD_IN_RSTD, DT_LN_BWD_IN_GAMMA, DT_LN_BWD_IN_MEAN };
enum { DT_LN_BWD_OUT_DX, DT_LN_BWD_OUT_DGAMMA, DT_LN_BWD_OUT_DBETA };
/* The slot of a gradient that is added, of LAYERNORM_BWD and RMSNORM_BWD. */
static inline int32_t dt_op_norm_dx2(dt_op op) {
    return op == DT_OP_RMSNORM_BWD ? DT_LN_BWD_IN_MEAN : DT_LN_BWD_IN_MEAN + 1;
}
enum { DT_EMBED_IN_WEIGHT, DT_EMBED_IN_INDEX };
enum { DT_GRAM_OUT_GRAM, DT_GRAM_OUT_SUM };
enum { DT_CROSS_IN_DZ, DT_CROSS_IN_X };
enum { DT_CROSS_OUT_P, DT_CROSS_OUT_DBETA };
enum {
    DT_BN_GRAM_IN_GRAM,
    DT_BN_GRAM_IN_SUM,
    DT_BN_GRAM_IN_W,
    DT_BN_GRAM_IN_GAMMA,
    DT_BN_GRAM_IN_BETA,
    DT_BN_GRAM_IN_RMEAN,
    DT_BN_GRAM_IN_RVAR
};
enum {
    DT_BN_GRAM_OUT_MEAN,
    DT_BN_GRAM_OUT_INVSTD,
    DT_BN_GRAM_OUT_SCALE,
    DT_BN_GRAM_OUT_SHIFT,
    DT_BN_GRAM_OUT_WCOV
};
enum { DT_BN_MASK_IN_DY, DT_BN_MASK_IN_DY2, DT_BN_MASK_IN_Y };
enum { DT_BN_MASK_OUT_DBETA, DT_BN_MASK_OUT_DZ };
enum {
    DT_GRAM_GRAD_IN_P,
    DT_GRAM_GRAD_IN_DBETA,
    DT_GRAM_GRAD_IN_WCOV,
    DT_GRAM_GRAD_IN_SUM,
    DT_GRAM_GRAD_IN_W,
    DT_GRAM_GRAD_IN_MEAN,
    DT_GRAM_GRAD_IN_INVSTD,
    DT_GRAM_GRAD_IN_GAMMA
};
enum {
    DT_GRAM_GRAD_OUT_DGAMMA,
    DT_GRAM_GRAD_OUT_DBETA,
    DT_GRAM_GRAD_OUT_DW,
    DT_GRAM_GRAD_OUT_WA,
    DT_GRAM_GRAD_OUT_MV
};
enum { DT_RNN_IN_GATES, DT_RNN_IN_W, DT_RNN_IN_B, DT_RNN_IN_H0, DT_RNN_IN_C0, DT_RNN_IN_LENGTHS };
enum { DT_RNN_OUT_Y, DT_RNN_OUT_H, DT_RNN_OUT_C, DT_RNN_OUT_ACT, DT_RNN_OUT_CELL };
enum {
    DT_RNN_BWD_IN_Y,
    DT_RNN_BWD_IN_W,
    DT_RNN_BWD_IN_ACT,
    DT_RNN_BWD_IN_CELL,
    DT_RNN_BWD_IN_DY,
    DT_RNN_BWD_IN_DH,
    DT_RNN_BWD_IN_DC,
    DT_RNN_BWD_IN_H0,
    DT_RNN_BWD_IN_C0,
    DT_RNN_BWD_IN_LENGTHS
};
enum { DT_RNN_BWD_OUT_DGATES, DT_RNN_BWD_OUT_DW, DT_RNN_BWD_OUT_DB, DT_RNN_BWD_OUT_DH0, DT_RNN_BWD_OUT_DC0 };
enum {
    DT_CACHE_IN_K_CACHE,
    DT_CACHE_IN_V_CACHE,
    DT_CACHE_IN_K,
    DT_CACHE_IN_V, /* absent: k holds them too */
    DT_CACHE_IN_START,
    DT_CACHE_IN_COUNT
};
enum { DT_QPRODUCT_IN_X, DT_QPRODUCT_IN_X_SCALE, DT_QPRODUCT_IN_RES };
enum { DT_GRAM_DX_IN_DZ, DT_GRAM_DX_IN_WA, DT_GRAM_DX_IN_X, DT_GRAM_DX_IN_MV };

enum { DT_SLOTS_IN_MAX = 12, DT_SLOTS_OUT_MAX = 5, DT_ATTRS_MAX = 7 };

typedef enum dt_slot_type {
    DT_SLOT_T = 0,  /* the node's type (dt_op_type) */
    DT_SLOT_ANY,    /* whole bytes */
    DT_SLOT_FLOAT,  /* f32, f16 or bf16, whatever the node's type */
    DT_SLOT_WEIGHT, /* the node's type; in evaluation also i8 or i4 */
    DT_SLOT_F32,
    DT_SLOT_U8,
    DT_SLOT_I32
} dt_slot_type;

/* What one operand must be. Relations name other inputs by slot + 1; 0: none. */
typedef struct dt_slot {
    const char *name; /* NULL ends the list */
    dt_slot_type type;
    int8_t rank; /* dimensions; 0: any */
    bool optional;
    int8_t same;              /* like that input, dtype apart */
    int8_t len_of, len_times; /* len_times (0: 1) times as many elements as dimension len_dim of that input */
    int8_t len_dim;           /* -1: the last */
    uint16_t needs;           /* bit i: not without input i */
    bool updated;             /* the op writes it */
    bool many;                /* the last one: any number of inputs of its kind */
} dt_slot;

/* An attribute that an op reads: where it is in dt_attr. */
typedef struct dt_attr_row {
    const char *family, *name, *type; /* NULL name ends the list; type for people */
    uint8_t offset, size, count;      /* bytes; elements of an array */
    bool learns;                      /* means nothing outside of training */
} dt_attr_row;

enum {
    DT_OP_VIEW = 1,        /* moves no data: output 0 aliases input 0 */
    DT_OP_EFFECT = 2,      /* matters even if nobody reads its outputs */
    DT_OP_INTERNAL = 4,    /* made by passes and autodiff, not by models */
    DT_OP_SEED = 8,        /* output 0 is the loss of each row, where gradients start */
    DT_OP_EMPTY = 16,      /* takes values of no elements */
    DT_OP_NO_GRADIENT = 32 /* a gradient that would have to pass through it is an error */
};

typedef struct dt_op_row {
    const char *name, *doc;
    dt_slot in[DT_SLOTS_IN_MAX + 1], out[DT_SLOTS_OUT_MAX + 1];
    dt_attr_row attr[DT_ATTRS_MAX + 1]; /* all of one family; the rest of a node's dt_attr is 0 */
    uint32_t flags;
    int32_t main;     /* the input whose last dimension and elements are the op's columns and size */
    int32_t in_place; /* 1 + the input that output in_place_out may overwrite when it dies here; 0: none */
    int32_t in_place_out;
    /* What slots cannot say: checks attributes and states dtype, ndim and dim of out[slot], for every slot;
     * those that will not be made are -1 in the node. */
    dt_status (*infer)(const dt_graph *g, const dt_node *n, dt_value *out);
    /* Appends backward nodes. dout[slot]: gradient of an output, -1 where none reached it: all of them of a
     * SEED, whose own gradient per row is attr.loss.weight * params.loss_weight * loss_scale. din[slot]:
     * gradient of an input, -1 where there is none. want[slot] says which inputs need one. NULL: not differentiable. */
    dt_status (*grad)(dt_graph *g, dt_nid n, const dt_vid *dout, const bool *want, dt_vid *din);
    /* Floating-point operations (a multiply-add is two). NULL: one per element of output 0. */
    double (*flops)(const dt_graph *g, const dt_node *n);
} dt_op_row;

const dt_op_row *dt_op_get(dt_op op);
/* The type that T stands for: that of the first operand in T or float, of a node without one the graph's. A
 * graph that is trained has one T, its compute: its gradients lie on one axis. */
dt_dtype dt_op_type(const dt_graph *g, const dt_node *n);
/* What the node does, for people: its op's name, of an element-wise one or a recurrence the function's. */
const char *dt_op_name(const dt_node *n);
/* Whether there is nothing to run: a view, or results without elements. */
bool dt_op_is_idle(const dt_graph *g, const dt_node *n);
/* Whether it is y = a + b of two values of one shape. */
bool dt_op_is_sum(const dt_graph *g, const dt_node *n);
/* What input i must be: the last slot stands for all after it where it takes many. */
const dt_slot *dt_op_in(dt_op op, int32_t i);
/* Those attributes that the op reads; the rest is 0. */
dt_attr dt_op_attr(dt_op op, const dt_attr *from);
/* Slots of an op, optional ones too. */
int32_t dt_op_n_in(dt_op op);
int32_t dt_op_n_out(dt_op op);

/* Every row for people: operands, types, what it computes. */
void dt_op_print_all(FILE *out);

/* Bytes that must move: every input read once, every output written once. */
double dt_op_bytes(const dt_graph *g, const dt_node *n);
double dt_op_flops(const dt_graph *g, const dt_node *n);

/* Operand v of a CONCAT, SLICE or PAD as rows of bytes, and where a slice begins in a row. */
typedef struct dt_blocks {
    int64_t rows, bytes, begin;
} dt_blocks;
dt_blocks dt_op_blocks(const dt_graph *g, const dt_node *n, const dt_value *v);

/* A MATMUL's: of each matrix of the batch. */
typedef struct dt_matmul_dims {
    int64_t batch, m, n, k;
} dt_matmul_dims;
dt_matmul_dims dt_op_matmul_dims(const dt_graph *g, const dt_node *n);

/* From an ATTENTION or ATTENTION_BWD node. */
dt_attention_dims dt_op_attention_dims(const dt_graph *g, const dt_node *n);

/* From a CACHE node. */
dt_cache_dims dt_op_cache_dims(const dt_graph *g, const dt_node *n);

/* Gates of a recurrence: rows of w_hh in units of H. */
static inline int32_t dt_recurrent_gates(dt_recurrent_kind kind) {
    return kind == DT_LSTM ? 4 : kind == DT_GRU ? 3 : 1;
}

/* "lstm" and so on, and of the gradient. */
extern const char *const dt_recurrent_names[DT_RECURRENT_COUNT][2];

/* Convolution geometry shared by kernels: all sizes in elements. */
typedef struct dt_conv_dims {
    int64_t n, h, w, c, k, r, s, p, q;
    int64_t stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
} dt_conv_dims;
/* From a CONV, CONV_DGRAD or CONV_WGRAD node. */
dt_conv_dims dt_op_conv_dims(const dt_graph *g, const dt_node *n);
/* Whether it is a product of matrices: 1x1, stride 1, no padding, one group. */
bool dt_op_conv_is_product(const dt_graph *g, const dt_node *n);

#endif
