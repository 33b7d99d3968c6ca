/* The model graph: values and nodes in flat arrays, connected by ids.
 *
 * A value never holds a data pointer; the plan gives it an arena and an offset, and a backend binds pointers
 * once. Nodes are kept in execution order. Layout of images is N H W C, of convolution weights K R S C
 * (out channels, rows, columns, in channels / groups), of dense weights K C (out, in). */
#ifndef DT_CORE_GRAPH_H
#define DT_CORE_GRAPH_H

#include "core/field.h"
#include "core/loss.h"
#include "core/op_list.h"
#include "core/scalar.h"
#include "core/status.h"
#include "core/step.h"
#include "core/types.h"

enum { DT_NAME_MAX = 96 };

typedef int32_t dt_vid; /* index of a value; -1: none */
typedef int32_t dt_nid; /* index of a node; -1: none */

typedef enum dt_role {
    DT_ROLE_INPUT,  /* filled by the batch's field of its name */
    DT_ROLE_PARAM,  /* a weight; lives on the parameter axis unless it is frozen */
    DT_ROLE_STATE,  /* kept between steps, not trained: BN running statistics */
    DT_ROLE_ACT,    /* activation, gradient of one, saved statistic: lives inside a program */
    DT_ROLE_GRAD,   /* gradient of a PARAM; lives on the parameter axis */
    DT_ROLE_METRIC, /* the metrics vector, f32 [DT_METRIC_COUNT], summed over the micro-steps of a step */
    DT_ROLE_CACHE,  /* kept between the runs of decoding programs (core/decode.h): keys, values, states */
    DT_ROLE_COUNT
} dt_role;

typedef enum dt_arena {
    DT_ARENA_NONE = 0,
    DT_ARENA_MASTER,    /* fp32 parameters, on the axis; the checkpoint's weights */
    DT_ARENA_PARAM16,   /* 16-bit copy for compute, on the axis; absent in fp32 */
    DT_ARENA_FROZEN,    /* parameters that are not trained, each in the type it is computed with */
    DT_ARENA_GRAD,      /* gradients as backward writes them, on the axis */
    DT_ARENA_ACC,       /* fp32 gradients summed over micro-steps, on the axis; absent when not needed */
    DT_ARENA_STATE,     /* running statistics */
    DT_ARENA_EMA_STATE, /* averaged running statistics, laid out as STATE */
    DT_ARENA_ACT,       /* activations and workspaces, packed by the plan */
    DT_ARENA_INPUT,     /* input slot of this micro-step */
    DT_ARENA_CACHE,     /* what decoding programs keep; they share it */
    DT_ARENA_METRIC,
    DT_ARENA_COUNT
} dt_arena;

typedef enum dt_init {
    DT_INIT_ZERO = 0,
    DT_INIT_ONE,
    DT_INIT_KAIMING_NORMAL_FAN_OUT, /* N(0, 2 / fan_out): torchvision's ResNet convolutions */
    DT_INIT_KAIMING_UNIFORM_A5,     /* U(-1/sqrt(fan_in), +): PyTorch's default for Linear and Conv2d */
    DT_INIT_XAVIER_UNIFORM,         /* U(-sqrt(6 / (fan_in + fan_out)), +) */
    DT_INIT_UNIFORM_FAN_IN,         /* U(-1/sqrt(fan_in), +) for a bias; fan_in is that of the weight */
    DT_INIT_NORMAL,                 /* N(0, init_std^2) */
    DT_INIT_CONSTANT                /* init_std */
} dt_init;

typedef struct dt_value {
    /* unique; of a PARAM or STATE it is the checkpoint key: "layer1.0.conv2.weight" */
    char name[DT_NAME_MAX];
    dt_dtype dtype;
    int32_t ndim;
    int64_t dim[DT_MAX_DIM];
    dt_role role;
    dt_nid producer; /* -1: none (inputs, parameters, states) */
    dt_vid
        alias_of;   /* >= 0: the same bytes as that value: of a view its operand, or a CACHE that it renews */
    dt_vid grad_of; /* for GRAD: the parameter */
    dt_init init;   /* for PARAM */
    int64_t fan_in, fan_out;
    float init_std;
    int64_t zero_row; /* for PARAM: 1 + the row (of its first dimension) that starts at 0; 0: none */
    bool decay;       /* for PARAM: weight decay applies (not to BN parameters and biases) */
    int64_t stored_c; /* for PARAM: last dim in checkpoints when the device pads channels (the rest is 0); 0:
                         all */
    int64_t grid
        [2]; /* for PARAM: height and width of the grid whose places its last rows (of dimension 1) are; 0: none */
    bool frozen;   /* for PARAM: keeps its value; has no gradient */
    bool constant; /* for PARAM: frozen whatever is said of it */
    const float *
        init_data; /* for PARAM and STATE: what it begins as instead; the graph's (dt_graph_own). NULL: init */
    int32_t
        matrix; /* for PARAM: an optimizer may (1) or may not (-1) take it as a matrix [dim 0, the rest]; 0: as
                         its layer decides */
    int64_t axis_offset; /* for PARAM and GRAD: first element on the parameter axis; of one that is frozen the
                             first byte in its arena */
    dt_arena arena;      /* set by the plan */
    int64_t offset_bytes; /* within the arena */
    int32_t first, last;  /* live range in node positions; set by the plan; -1: whole program */
} dt_value;

/* Ops: core/op_list.h names them, op.h documents their rows. */
typedef enum dt_op {
#define DT_OP_ENUM(NAME, name) DT_OP_##NAME,
    DT_OP_LIST(DT_OP_ENUM)
#undef DT_OP_ENUM
        DT_OP_COUNT
} dt_op;

typedef enum dt_phase { DT_PHASE_FORWARD = 0, DT_PHASE_BACKWARD } dt_phase;

/* Attributes: what an op does besides what its operands say, in a struct for each family of ops. An op's row
 * names those it reads, all of one family; only these reach a node. Plain data: copied freely. */

/* Convolutions and pools; BN_REDUCE and BN_DX that gather from a pool. */
typedef struct dt_window_attr {
    int32_t kernel[2], stride[2], dilation[2]; /* rows, columns */
    int32_t pad_begin[2], pad_end[2];          /* above and left, below and right */
    int32_t groups;
    int32_t size[2]; /* backward: H, W of the result */
    int32_t act;     /* CONV: the function that it ends in (dt_act) */
} dt_window_attr;

typedef struct dt_dense_attr {
    int32_t act; /* the function that it ends in (dt_act) */
} dt_dense_attr;

typedef struct dt_norm_attr {
    int32_t rows;        /* that batch statistics cover */
    int32_t rows_all;    /* BN_SYNC, BN_SYNC_GRAD: on all ranks, of which `rows` are this one's */
    float eps, momentum; /* momentum: weight of the new batch statistic */
    bool relu;           /* ends in a ReLU */
    int32_t groups;      /* GROUPNORM */
    bool fixed;          /* BATCHNORM: in training, too, by the running statistics, which stay */
    bool stats_are_sums; /* stats are (sum, sum of squares), not (mean, biased variance) */
    bool length;         /* RMSNORM: rows are divided by their length, or eps where that is less */
} dt_norm_attr;

typedef struct dt_input_attr {
    int32_t size[2];          /* H, W of the output */
    int32_t padded_c;         /* channels of the output; past those of the image they are 0 */
    float mean[4], stddev[4]; /* per channel, in units of 0..1 */
} dt_input_attr;

typedef enum dt_resample_mode {
    DT_RESAMPLE_NEAREST = 0,
    DT_RESAMPLE_BILINEAR,
    DT_RESAMPLE_ALIGNED, /* bilinear, corners on corners */
    DT_RESAMPLE_MEAN,    /* of the part that a pixel is, of about in / out pixels */
    DT_RESAMPLE_BICUBIC,
    DT_RESAMPLE_COUNT
} dt_resample_mode;

typedef struct dt_resample_attr {
    dt_resample_mode mode;
    int32_t size[2]; /* H, W of the result */
} dt_resample_attr;

typedef struct dt_dropout_attr {
    float p;
    bool rows;     /* whole rows of the batch are dropped: stochastic depth */
    uint64_t salt; /* tells dropout nodes apart */
} dt_dropout_attr;

typedef struct dt_attention_attr {
    int32_t heads, kv_heads; /* of queries; of keys and values, a divisor */
    bool causal;
    int32_t window; /* a query sees keys less than so many positions away; 0: all */
    float scale;    /* of the scores; 0: 1 / sqrt(head size) */
    float dropout;  /* rate, of weights */
    uint64_t salt;  /* tells dropout nodes apart */
} dt_attention_attr;

typedef struct dt_embed_attr {
    int32_t padding; /* the row without a gradient; -1: none */
    int64_t rows;    /* EMBED_BWD: of a table; ONE_HOT: places */
    int64_t tables;  /* EMBED_BWD: one for each first index; 0: one for all */
} dt_embed_attr;

typedef struct dt_rope_attr {
    float theta;
    int32_t dims; /* numbers of a head that are rotated; 0: all */
    bool interleaved;
} dt_rope_attr;

typedef struct dt_unary_attr {
    dt_unary fn;
    float a, b; /* its scalars */
} dt_unary_attr;

typedef struct dt_binary_attr {
    dt_binary fn;
    int32_t operand; /* backward: whose gradient, 0 or 1 */
    int32_t ndim;    /* backward: shape of that operand */
    int64_t dim[DT_MAX_DIM];
} dt_binary_attr;

typedef struct dt_reshape_attr {
    int32_t ndim; /* 0: [N, rest] */
    int64_t dim[DT_MAX_DIM];
} dt_reshape_attr;

typedef struct dt_shape_attr {
    int32_t axis;          /* CONCAT, SLICE, PAD */
    int64_t begin, length; /* SLICE: of y along the axis; PAD: where x begins in y, and y's length */
} dt_shape_attr;

typedef struct dt_transpose_attr {
    int32_t ndim;
    int32_t perm[DT_MAX_DIM]; /* dimension i of y is perm[i] of x */
} dt_transpose_attr;

typedef struct dt_matmul_attr {
    bool turn_a, turn_b; /* the operand is read transposed */
} dt_matmul_attr;

typedef enum dt_reduce_kind {
    DT_REDUCE_SUM = 0,
    DT_REDUCE_MEAN,
    DT_REDUCE_MAX,
    DT_REDUCE_COUNT
} dt_reduce_kind;

typedef struct dt_reduce_attr {
    dt_reduce_kind kind;
    int32_t axes; /* bit i: over dimension i */
    int32_t ndim; /* backward: shape of the result */
    int64_t dim[DT_MAX_DIM];
} dt_reduce_attr;

typedef struct dt_loss_attr {
    float weight;      /* of this loss in the total */
    int32_t nth;       /* 1 + its place among several losses (DT_METRIC_LOSSES); 0: it is the only one */
    float smoothing;   /* XENT, and the two below */
    bool binary;       /* a logistic loss of each class in place of the softmax's */
    float threshold;   /* binary: targets above it are 1, others 0; 0: they stay as they are */
    dt_loss_kind kind; /* LOSS, and all below */
    dt_loss_sums sums; /* what it adds to the task's sums */
    float param;       /* HUBER's delta, BCE's weight of positives */
} dt_loss_attr;

typedef struct dt_cast_attr {
    dt_dtype dtype; /* of the result */
} dt_cast_attr;

typedef enum dt_recurrent_kind {
    DT_RNN_TANH = 0,
    DT_RNN_RELU,
    DT_GRU,
    DT_LSTM,
    DT_RECURRENT_COUNT
} dt_recurrent_kind;

typedef struct dt_cache_attr {
    int32_t k_at, v_at; /* where keys and values begin in a row of what holds them */
} dt_cache_attr;

typedef struct dt_recurrent_attr {
    dt_recurrent_kind kind;
    bool reverse; /* from the end of a row to its beginning */
} dt_recurrent_attr;

typedef struct dt_call dt_call;
typedef struct dt_call_attr {
    const dt_call *call; /* core/call.h; outlives the graph */
} dt_call_attr;

/* What the scales of a QUANTIZE are of: given, or measured of all numbers, of each of the first dimension, of each row. */
typedef enum dt_quantize_range {
    DT_QUANTIZE_GIVEN = 0,
    DT_QUANTIZE_ALL,
    DT_QUANTIZE_FIRST,
    DT_QUANTIZE_ROW,
    DT_QUANTIZE_COUNT
} dt_quantize_range;

typedef struct dt_quantize_attr { /* QUANTIZE, DEQUANTIZE */
    float scale;
    int32_t zero;
    int32_t per; /* dt_quantize_range */
    bool is_signed;
} dt_quantize_attr;

typedef struct dt_qproduct dt_qproduct;
typedef struct dt_qproduct_attr {
    const dt_qproduct *product; /* core/qproduct.h; outlives the graph */
} dt_qproduct_attr;

typedef union dt_attr {
    uint8_t bytes[80]; /* all of it: first, so that {0} clears whatever family is meant */
    dt_window_attr window;
    dt_dense_attr dense;
    dt_norm_attr norm;
    dt_input_attr input;
    dt_resample_attr resample;
    dt_dropout_attr dropout;
    dt_attention_attr attention;
    dt_embed_attr embed;
    dt_rope_attr rope;
    dt_unary_attr unary;
    dt_binary_attr binary;
    dt_reshape_attr reshape;
    dt_shape_attr shape;
    dt_transpose_attr transpose;
    dt_matmul_attr matmul;
    dt_reduce_attr reduce;
    dt_loss_attr loss;
    dt_cast_attr cast;
    dt_recurrent_attr recurrent;
    dt_cache_attr cache;
    dt_call_attr call;
    dt_quantize_attr quantize;
    dt_qproduct_attr qproduct;
} dt_attr;

/* Operands stand in slots, which the op's row names (op.h): in[slot], out[slot], -1 where a slot is empty.
 * n_in and n_out count slots, empty ones too; an op may take any number of inputs in its last slot. The arrays belong to the graph; a copy of a node shares
 * them. */
typedef struct dt_node {
    dt_op op;
    dt_attr attr;
    int32_t n_in, n_out;
    dt_vid *in, *out;
    dt_phase phase;
    int64_t workspace_bytes; /* set by the backend's prepare; planned like a value live at this node only */
    dt_vid workspace;        /* the value that stands for it; -1: none */
} dt_node;

enum { DT_OUTPUTS_MAX = 16, DT_OUTPUTS_OWN = 48 };

/* A value that may be read after a program has run, under the name that users know. */
typedef struct dt_output {
    char name[DT_FIELD_NAME_MAX];
    dt_vid value;
} dt_output;

typedef struct dt_graph {
    dt_value *value;
    int32_t n_value, cap_value;
    dt_vid *by_name; /* hash table of the values' names, cap_value * 2 places; -1: free */
    dt_node *node;
    int32_t n_node, cap_node;
    struct dt_slot_block *slots; /* memory of the nodes' in[] and out[] */
    struct dt_graph_owned *owned;
    dt_output output[DT_OUTPUTS_MAX + DT_OUTPUTS_OWN];
    dt_vid loss[DT_LOSSES_MAX]; /* backward begins at them */
    int32_t n_output, n_loss;
    dt_vid metrics;   /* the value of role METRIC; -1: none */
    dt_dtype compute; /* dtype of activations and weights: f32, f16 or bf16 */
    bool training;    /* forward uses batch statistics and dropout */
    bool
        fixed; /* parameters never change once a program of it is bound: kernels may keep them in another form */
    bool by_row; /* a row's bits may not depend on how many there are: no kernel is chosen by their number */
} dt_graph;

/* An empty graph. `compute` is the dtype of activations, weights and their gradients. */
dt_status dt_graph_create(dt_graph **out, dt_dtype compute, bool training);
void dt_graph_destroy(dt_graph *g); /* accepts NULL */
/* drop(p) is called when the graph ends; also, at once, where there is no memory to remember it. */
dt_status dt_graph_own(dt_graph *g, void *p, void (*drop)(void *p));

/* Adds a value without a producer; fails if the name is taken or a dim is not positive. */
dt_status dt_graph_add_value(dt_graph *g, const char *name, dt_role role, dt_dtype dtype, int32_t ndim,
                             const int64_t *dim, dt_vid *out);

/* Forgets the values added since there were n_value; no node may have them. */
void dt_graph_drop_values(dt_graph *g, int32_t n_value);

/* Appends a node. in[slot] for n_in slots; later ones are empty, and so are those of -1. Its outputs are
 * created by the op's infer rule: all that are not optional, and those of `wanted` (bit i: output slot i).
 * The one of slot i is named "<name>" (i = 0) or "<name>:<i>". Fails with a message that names the node when
 * operands or attributes do not fit. The ids of the outputs are in the node; `out` (may be NULL) gets output
 * 0. */
dt_status dt_graph_add_node_with(dt_graph *g, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                                 const dt_vid *in, uint32_t wanted, dt_vid *out);
/* The same without optional outputs. */
dt_status dt_graph_add_node(dt_graph *g, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                            const dt_vid *in, dt_vid *out);

/* A node outside the list, for a pass that will put it there: all slots are empty. attr may be NULL. */
dt_status dt_graph_blank_node(dt_graph *g, dt_op op, const dt_attr *attr, dt_phase phase, dt_node *out);
/* The same with all that `from` has, in slots of its own. */
dt_status dt_graph_copy_node(dt_graph *g, const dt_node *from, dt_node *out);
/* v becomes the output of node `id` in that slot. */
void dt_graph_set_out(dt_graph *g, dt_nid id, int32_t slot, dt_vid v);

/* Takes a node out: its slots are empty from now on, also in copies of it; the list is closed by compact,
 * which also restores every value's producer. */
void dt_graph_remove_node(dt_graph *g, dt_nid id);
void dt_graph_compact(dt_graph *g);

/* Whether the slot is there and not empty. */
static inline bool dt_node_has(const dt_node *n, int32_t slot) {
    return slot < n->n_in && n->in[slot] >= 0;
}
static inline bool dt_node_makes(const dt_node *n, int32_t slot) {
    return slot < n->n_out && n->out[slot] >= 0;
}

/* Id of the value of that name, -1 if there is none. */
dt_vid dt_graph_find(const dt_graph *g, const char *name);

/* The input or the output of that name, -1 if there is none. */
dt_vid dt_graph_input(const dt_graph *g, const char *name);
dt_vid dt_graph_output(const dt_graph *g, const char *name);
/* Fail where the name is taken, or there are too many. */
dt_status dt_graph_add_output(dt_graph *g, const char *name, dt_vid v);
/* The same beyond the user's, DT_OUTPUTS_OWN of them. */
dt_status dt_graph_keep(dt_graph *g, const char *name, dt_vid v);
/* v: what an op that starts gradients makes (DT_OP_SEED): its losses of rows. */
dt_status dt_graph_add_loss(dt_graph *g, dt_vid v);
bool dt_graph_is_loss(const dt_graph *g, dt_vid v);
/* An output or a loss: no pass may let it vanish. */
bool dt_graph_is_kept(const dt_graph *g, dt_vid v);
/* Rows of a batch: the first dimension of the first input. */
int64_t dt_graph_rows(const dt_graph *g);

/* The value whose storage this one shares (itself if no alias). */
dt_vid dt_graph_root(const dt_graph *g, dt_vid id);
/* Number of uses of a value as an operand; one more where it is kept. */
/* The input that v is, or is of another type or shape; -1: it is none. */
dt_vid dt_graph_source(const dt_graph *g, dt_vid v);
int32_t dt_graph_use_count(const dt_graph *g, dt_vid v);
/* The node that makes v if it is of this op, else -1. */
dt_nid dt_graph_maker(const dt_graph *g, dt_vid v, dt_op op);
/* The first node of that op that reads v in that slot, else -1. */
dt_nid dt_graph_reader(const dt_graph *g, dt_vid v, dt_op op, int32_t slot);
int64_t dt_value_n_elem(const dt_value *v);
int64_t dt_value_bytes(const dt_value *v);
/* "64x32x32x16 f32" into a static thread-local buffer. */
const char *dt_value_shape_text(const dt_value *v);

/* Checks invariants: ids in range, producers before consumers, unique names, no attribute that is not the op's. For
 * tests and after passes. */
dt_status dt_graph_validate(const dt_graph *g);

#endif
