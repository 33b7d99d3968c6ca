/* Lowering: from a node to something that runs. One row per op says how it is prepared and how it is
 * launched; prepare sees the graph, run sees only what prepare and bind left. */
#ifndef DT_GPU_LOWER_H
#define DT_GPU_LOWER_H

#include "attention_dnn.h"
#include "blas.h"
#include "algo.h"
#include "conv_spec.h"
#include "gpu.h"

typedef struct dt_bound dt_bound;

typedef struct dt_lower_row {
    const char *name;
    dt_status (*prepare)(dt_cuda *cu, const dt_graph *g, const dt_node *n,
                         dt_prep *prep);         /* NULL: nothing to do */
    dt_status (*bind)(dt_cuda *cu, dt_bound *k); /* NULL: nothing to do */
    dt_status (*run)(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
} dt_lower_row;

/* Offsets into the workspace of a convolution's parts; -1: not used. */
typedef struct dt_conv_prep {
    const dt_algo *algo;
    int64_t fold_at;                          /* the folded weight; -1: not folded */
    int64_t plan_at, t_at, f32_at, reduce_at; /* plan's own, vectors or x in T, f32 vectors, reduction */
    int32_t i_pre;                            /* the slot of pre_scale, pre_shift after it; -1: none */
    bool own_prologue, own_stats, own_epilogue, own_end,
        own_mask;       /* done by our kernels around a plain convolution */
    dt_blas_apply blas; /* use: in place of the algorithm; its workspace is at plan_at */
    dt_blas_end end;    /* likewise */
    bool own_act;       /* the function is ours even so */
    bool bias_is_t;     /* else f32 */
} dt_conv_prep;

/* GRAM to BN_GRAM_DX: output and input channels, and offsets into the workspace. */
typedef struct dt_gram_prep {
    int64_t k, c;
    int64_t sums_at, m_at, scale_at, coef_at;
    dt_blas_product blas;
} dt_gram_prep;

/* MATMUL: each product of the batch; D = op(b) op(a) in cuBLASLt's order. */
typedef struct dt_matmul_prep {
    dt_blas_matmul blas;
} dt_matmul_prep;

/* BINARY, REDUCE, their gradients, TRANSPOSE. */
typedef struct dt_binary_prep {
    dt_space space;
    int32_t item; /* TRANSPOSE: bytes of an element */
} dt_binary_prep;

/* CONCAT, SLICE, PAD: of every input, then of the output. */
typedef struct dt_blocks_prep {
    dt_blocks *block;
} dt_blocks_prep;

typedef struct dt_embed_prep {
    int64_t tables, rows, per_table; /* of a table: its rows, its indices */
} dt_embed_prep;

/* RECURRENT and its gradient. */
typedef struct dt_rnn_prep {
    int64_t b, t, h, wide; /* wide: all gates */
    dt_blas_matmul step, weight;
    bool has_weight;
    int64_t plan_at, cell_at, state_at, product_at, carry_at, prev_at, dn_at, reduce_at;
} dt_rnn_prep;

/* ATTENTION and its gradient. */
typedef struct dt_attention_prep {
    dt_attention_dims dims;
    const struct dt_attention_way *way;
    int32_t rows;                  /* of a tile */
    int64_t delta_at;              /* of the gradient, in the workspace */
    const dt_attention_plan *plan; /* cuDNN's way */
    int64_t plan_at;               /* its workspace */
} dt_attention_prep;

/* What prepare decided. rows x c is the matrix view of `main`: the op's largest operand. */
struct dt_prep {
    const dt_lower_row *row;
    dt_node node; /* a copy: passes may move the graph's */
    dt_dtype t;   /* of the main operand where its slot takes any float, else the graph's compute dtype */
    int64_t n_elem, rows, c;
    int64_t in_dim[DT_MAX_DIM], out_dim[DT_MAX_DIM]; /* of the main input and output 0; missing ones are 1 */
    int64_t workspace_bytes;
    char label[128];
    union {
        dt_conv_prep conv;
        dt_dense_product dense;
        dt_gram_prep gram;
        dt_matmul_prep matmul;
        dt_binary_prep binary;
        dt_blocks_prep blocks;
        dt_embed_prep embed;
        dt_rnn_prep rnn;
        dt_attention_prep attention;
        dt_cache_dims cache;
    };
};

struct dt_bound {
    dt_cuda *cu;
    const dt_prep *prep;
    dt_binding b;
    dt_dnn_builder pack_desc; /* what runs through cuDNN */
    cudnnBackendDescriptor_t pack;
};

const dt_lower_row *dt_lower_get(dt_op op); /* NULL: the op has no kernel here */

/* Reserves `bytes` of the node's workspace; returns the offset. */
static inline int64_t dt_prep_take(dt_prep *p, int64_t bytes) {
    int64_t at = p->workspace_bytes;
    p->workspace_bytes = dt_round_up(at + bytes, 256);
    return at;
}
static inline void *dt_bound_workspace(const dt_bound *k, int64_t at) {
    return (char *)k->b.workspace + at;
}

/* Error of a launch, with the node's label. */
dt_status dt_launch_status(cudaError_t err, const dt_bound *k);

/* conv.c */
/* Releases a bound kernel's pack with the backend. */
dt_status dt_lower_adopt_pack(dt_cuda *cu, dt_bound *k);
/* A plan of cuDNN on k's pack. */
dt_status dt_lower_execute(dt_cuda *cu, const dt_bound *k, cudnnBackendDescriptor_t plan, cudaStream_t s);
dt_status dt_lower_conv_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *prep);
dt_status dt_lower_conv_bind(dt_cuda *cu, dt_bound *k);
dt_status dt_lower_conv_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
dt_status dt_lower_dgrad_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
dt_status dt_lower_wgrad_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);

/* dense.c */
dt_status dt_lower_dense_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *prep);
dt_status dt_lower_dense_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);

/* matmul.c */
dt_status dt_lower_matmul_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *prep);
dt_status dt_lower_matmul_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);

/* rnn.c */
dt_status dt_lower_rnn_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *prep);
dt_status dt_lower_rnn_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
dt_status dt_lower_rnn_bwd_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
/* attention.c */
dt_status dt_lower_attention_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *prep);
dt_status dt_lower_attention_bind(dt_cuda *cu, dt_bound *k);
dt_status dt_lower_attention_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);

/* gram.c */
dt_status dt_lower_gram_prepare(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_prep *prep);
dt_status dt_lower_gram_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s); /* and GRAM_CROSS */
dt_status dt_lower_bn_gram_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
dt_status dt_lower_bn_mask_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
dt_status dt_lower_bn_gram_grad_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);
dt_status dt_lower_bn_gram_dx_run(dt_cuda *cu, const dt_bound *k, cudaStream_t s);

/* cost_cuda.c: the backend's answer to passes. */
double dt_cuda_cost(dt_backend *be, const dt_graph *g, const dt_node *node, int32_t n);
/* A convolution as the algorithm table knows it, in its faster form. Both must be known before it can be
 * chosen. */
dt_conv_spec dt_conv_spec_of(const dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_conv_kind kind);
bool dt_conv_fusable(const dt_cuda *cu, const dt_graph *g, const dt_node *n);

/* axis_run.c */
dt_status dt_cuda_bind_axis(dt_backend *be, dt_axis_kind kind, const dt_axis_args *args, dt_kernel *out);

#endif
