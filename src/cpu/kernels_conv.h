/* fp32 convolution and dense kernels of the CPU backend; used by backend.c only.
 *
 * A plan is made once per node (prepare) and is plain data; a run allocates nothing, shares its work out to
 * plan.threads threads, and gives the same bits for any number. Not here: BatchNorm, pooling, element-wise work. */
#ifndef DT_CPU_KERNELS_CONV_H
#define DT_CPU_KERNELS_CONV_H

#include "core/op.h"
#include "team.h"

typedef enum dt_cpu_conv_kind {
    DT_CPU_CONV_FORWARD = 0, /* out = y  [N,P,Q,K]     from x, w, [bias] */
    DT_CPU_CONV_DGRAD,       /* out = dx [N,H,W,C]     from dy, w */
    DT_CPU_CONV_WGRAD        /* out = dw [K,R,S,C/G]   from x, dy */
} dt_cpu_conv_kind;

typedef enum dt_cpu_conv_algo {
    DT_CPU_CONV_ALGO_GEMM = 0, /* im2col of a cache-sized tile, then register-blocked GEMM */
    DT_CPU_CONV_ALGO_WINOGRAD, /* F(4x4,3x3) and its two gradients */
    DT_CPU_CONV_ALGO_DEPTHWISE /* loops over taps, vectors over channels: groups == C == K */
} dt_cpu_conv_algo;
enum { DT_CPU_CONV_ALGOS = DT_CPU_CONV_ALGO_DEPTHWISE + 1 };

typedef struct dt_cpu_conv_plan {
    dt_conv_dims dims;
    dt_cpu_conv_kind kind;
    dt_cpu_conv_algo algo;
    int32_t threads;
    bool team;               /* how threads are had: dt_cpu_crew */
    bool kept;               /* packed weights come with each run, and none are in the workspace */
    int64_t packed_bytes;    /* of packed weights; 0: the kind has none */
    int32_t form;            /* and how they lie there, besides what the algorithm says */
    int64_t tile;            /* rows (GEMM) or image tiles (Winograd) of one block */
    int64_t shared_bytes;    /* first part of the workspace: packed weights, common to all threads */
    int64_t thread_bytes;    /* then one part of this size per thread */
    int64_t workspace_bytes; /* all of it; needs 64-byte alignment, no particular contents */
    char label[64];          /* "conv 3x3/1 64->64 [winograd]" */
} dt_cpu_conv_plan;

typedef struct dt_cpu_conv_args {
    const float *x, *w, *dy; /* as the kind reads them; others may be NULL */
    const float *bias;       /* FORWARD: [K], or NULL */
    const float *res;        /* FORWARD: as out, added to it; NULL: none */
    int32_t act;             /* FORWARD: the function that out ends in (dt_act) */
    const float *packed;     /* of a plan that keeps them: what dt_cpu_conv_pack made */
    float *out;
    void *workspace; /* plan.workspace_bytes, 64-byte aligned; may be NULL if 0 */
} dt_cpu_conv_args;

/* Chooses algorithm and workspace; by_row: an algorithm that any number of images gets. threads >= 1. Fails (DT_ERR_UNSUPPORTED) on sizes that overflow. */
dt_status dt_cpu_conv_plan_make(const dt_conv_dims *dims, dt_cpu_conv_kind kind, bool by_row, int32_t threads,
                                dt_cpu_conv_plan *out);
/* The same with the algorithm given; fails (DT_ERR_UNSUPPORTED) where it does not apply. */
dt_status dt_cpu_conv_plan_algo(const dt_conv_dims *dims, dt_cpu_conv_kind kind, dt_cpu_conv_algo algo,
                                int32_t threads, dt_cpu_conv_plan *out);
void dt_cpu_conv_run(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *args);
/* The plan of weights that never change: they are packed once, into packed_bytes, 64-byte aligned, and read by all runs. How
 * they lie there depends on the algorithm, `form` and the sizes of w alone. */
void dt_cpu_conv_plan_keep(dt_cpu_conv_plan *plan);
void dt_cpu_conv_pack(const dt_cpu_conv_plan *plan, const float *w, float *packed);

/* dense.c: a product of row-major matrices, out [rows,cols] = op(a) op(b) + bias, on `threads` threads. workspace: that
 * many bytes, 64-byte aligned, of no particular contents. Every dim below 2^31. */
typedef struct dt_cpu_product {
    int64_t rows, cols, depth;
    bool turn_a, turn_b; /* a is [depth,rows], b is [cols,depth]; else [rows,depth], [depth,cols] */
    const float *a, *b;
    const float *bias; /* [cols], or NULL */
    const float *res;  /* as out, added to it; NULL: none */
    int32_t act;       /* the function that out ends in (dt_act) */
    float *out;
    bool kept;           /* b is packed once: */
    const float *packed; /* what dt_cpu_product_pack made of it */
    bool team;           /* how threads are had: dt_cpu_crew */
} dt_cpu_product;
int64_t dt_cpu_product_bytes(const dt_cpu_product *p, int32_t threads);
void dt_cpu_product_run(const dt_cpu_product *p, int32_t threads, void *workspace);
/* The second matrix of a product that is kept: bytes, 64-byte aligned, and what lies there, whatever the rows. The first one
 * of such a product is not turned. */
int64_t dt_cpu_product_packed_bytes(const dt_cpu_product *p);
void dt_cpu_product_pack(const dt_cpu_product *p, int32_t threads, float *packed);
/* Sizes of DENSE, DENSE_DGRAD or DENSE_WGRAD of n rows, c inputs and k outputs. Operands: x and w; dy and w; dy and x. */
dt_cpu_product dt_cpu_dense_product(dt_op op, int64_t n, int64_t c, int64_t k);
/* MATMUL: a, b and y [batch, ...]. */
int64_t dt_cpu_matmul_bytes(const dt_matmul_dims *d, const dt_matmul_attr *t, int32_t threads);
void dt_cpu_matmul(const dt_matmul_dims *d, const dt_matmul_attr *t, const float *a, const float *b, float *y,
                   dt_cpu_crew crew, void *workspace);

/* eltwise.c: rows of a block, ld apart, end while they are in the caches: y = act(y + res); res NULL: none. */
void dt_cpu_end_rows(float *y, const float *res, int64_t ld, int64_t rows, int64_t cols, int32_t act);

/* Instruction set the kernels run on: "avx512", "avx2" or "generic". */
const char *dt_cpu_conv_isa(void);

#endif
