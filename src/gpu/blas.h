/* Products through cuBLASLt where one of its algorithms is faster than what else there is: timed once per
 * shape on scratch memory, the choice kept by the backend. Not under train.deterministic, where it would have
 * to be the same in every run, and not in f32.
 *
 * cuBLASLt counts columns first, so a row-major [m,c] is its c x m matrix. */
#ifndef DT_GPU_BLAS_H
#define DT_GPU_BLAS_H

#include "algo_cache.h"
#include "gpu.h"

/* D = op(A) op(B) [+ C] in cuBLASLt's order; C is like D. */
typedef struct dt_blas_shape {
    dt_dtype t, out; /* of A and B; of C and D */
    bool trans_a, trans_b;
    int64_t a_rows, a_cols, b_rows, b_cols;
    cublasLtEpilogue_t epilogue;
    bool tf32;         /* f32 operands may be rounded to it */
    bool alpha_vector; /* rows of D times f32 [D's rows] on the device */
    bool aux;          /* the epilogue has a matrix like D besides */
} dt_blas_shape;

typedef struct dt_blas_matmul {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algo;
    int64_t bytes; /* of workspace */
} dt_blas_matmul;

typedef struct dt_blas_operands {
    const void *a, *b, *c; /* c NULL: none */
    void *d;
    void *vector;       /* the epilogue's bias, or its gradient; NULL: none */
    void *aux;          /* the epilogue's matrix; NULL: none */
    const float *alpha; /* alpha_vector's; NULL: 1 */
    void *workspace;    /* 256-aligned */
} dt_blas_operands;

enum { DT_BLAS_ALGOS = 8, DT_BLAS_WORKSPACE = 64 << 20 /* bytes that an algorithm may want */ };
typedef cublasLtMatmulHeuristicResult_t dt_blas_algos[DT_BLAS_ALGOS];

/* A matrix of rows x cols in cuBLASLt's order, packed; it belongs to the backend. */
dt_status dt_blas_layout(dt_cuda *cu, dt_dtype t, int64_t rows, int64_t cols, cublasLtMatrixLayout_t *out);
/* All of *out but the algorithm. The descriptors belong to the backend. */
dt_status dt_blas_describe(dt_cuda *cu, const dt_blas_shape *s, dt_blas_matmul *out);
/* The algorithms that should be fastest, for operands that are 256-aligned, A 128-aligned; returns how many.
 * vector: any such pointer, if the epilogue wants one. */
int32_t dt_blas_find(dt_cuda *cu, const dt_blas_matmul *m, const void *vector, dt_blas_algos found);
/* The same for operands that are 16-aligned. aux: like vector. */
int32_t dt_blas_find_anywhere(dt_cuda *cu, const dt_blas_matmul *m, const void *vector, const void *aux,
                              dt_blas_algos found);
/* The algorithm that should be fastest into m, for operands that are 16-aligned, without timing. label: for the error
 * where there is none. */
dt_status dt_blas_first(dt_cuda *cu, dt_blas_matmul *m, const char *label);
/* m with that algorithm. */
dt_blas_matmul dt_blas_with(const dt_blas_matmul *m, const cublasLtMatmulHeuristicResult_t *algo);
dt_status dt_blas_run(dt_cuda *cu, const dt_blas_matmul *m, const dt_blas_operands *o, cudaStream_t s);

/* Memory to time on: parts of one allocation, filled with random numbers. */
typedef struct dt_blas_part {
    void **ptr;
    int64_t n_elem;
    dt_dtype t;
} dt_blas_part;
typedef struct dt_blas_scratch {
    char *base;
    cudaEvent_t begin, end;
} dt_blas_scratch;
int64_t dt_blas_parts_bytes(const dt_blas_part *part, int32_t n);
/* False where memory does not suffice; free it in either case. */
bool dt_blas_scratch_make(dt_blas_scratch *s, int64_t bytes);
void dt_blas_scratch_free(dt_blas_scratch *s);
/* Places the parts from the start of the scratch on. */
bool dt_blas_scratch_fill(dt_cuda *cu, const dt_blas_scratch *s, const dt_blas_part *part, int32_t n);

/* Seconds of what `enqueue` puts on the compute stream; DT_BLAS_FAILED where it fails. */
#define DT_BLAS_FAILED 1e30
double dt_blas_time(dt_cuda *cu, const dt_blas_scratch *s, bool (*enqueue)(dt_cuda *cu, const void *arg),
                    const void *arg);

/* The best so far of candidates that are shown one after the other. */
typedef struct dt_blas_contest {
    double best_s; /* to be beaten; DT_BLAS_FAILED: anything is better */
    int32_t n;     /* shown */
} dt_blas_contest;
bool dt_blas_wins(const dt_cuda *cu, dt_blas_contest *c, double seconds);

/* What was chosen for a key, in the algorithm cache: a candidate's kind (0: none of cuBLASLt's), its algorithm
 * and its seconds. recall false: nothing is known of this version of the library. */
typedef struct dt_blas_choice {
    int32_t form;
    cublasLtMatmulAlgo_t algo;
    double seconds;
} dt_blas_choice;
dt_conv_spec dt_blas_key(dt_blas_kind kind, dt_dtype t, int64_t rows, int64_t c, int64_t k);
bool dt_blas_recall(const dt_cuda *cu, const dt_conv_spec *key, dt_blas_choice *out);
void dt_blas_remember(dt_cuda *cu, const dt_conv_spec *key, const dt_blas_choice *c);
/* m with a recalled algorithm; false where the library refuses it. */
bool dt_blas_restore(dt_cuda *cu, const cublasLtMatmulAlgo_t *algo, dt_blas_matmul *m);

/* gram_blas.c: what GRAM, GRAM_CROSS and BN_GRAM_DX take of cuBLASLt. use false: all is done by our own
 * kernels. */
typedef struct dt_blas_product {
    bool use;
    bool sums_apart; /* column sums by a kernel of ours */
    dt_blas_matmul matmul;
    dt_dtype t;
    int64_t rows, k; /* of the second operand */
    int64_t bytes;   /* of workspace */
} dt_blas_product;
/* For a node of these ops; times all that the graph has together. */
dt_status dt_blas_product_choose(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_blas_product *out);
/* GRAM: out f32 [c,c] = x^T x with sums f32 [c], first and second being x. GRAM_CROSS: out f32 [k,c] = dz^T
 * x, [sums f32 [k]], first x, second dz. BN_GRAM_DX: out T [rows,c] = dz wa, first wa, second dz. */
dt_status dt_blas_product_run(dt_cuda *cu, const dt_blas_product *b, const void *first, const void *second,
                              void *out, float *sums, void *workspace, cudaStream_t s);

/* dense_blas.c: DENSE and its gradients, with what stands around the product in it or apart.
 * y = act(x w^T + bias + res), pre what act is of; dx = dy w act'(pre); dw = dy^T x, db the columns' sums of dy. */
typedef struct dt_dense_form {
    dt_op op;
    dt_dtype t;
    int64_t n, c, k;                   /* rows, inputs, outputs */
    int32_t act;                       /* 1 + dt_unary; 0: none */
    bool bias, bias_f32, res, pre, db; /* bias_f32: else of t */
} dt_dense_form;
typedef struct dt_dense_product {
    dt_dense_form form;
    dt_blas_matmul matmul;
    bool whole;               /* act and db are in the epilogue */
    int64_t bias_at, plan_at; /* in the workspace; the sums of db are at plan_at, after the product */
    int64_t bytes;            /* of workspace */
} dt_dense_product;
typedef struct dt_dense_operands {
    const void *first, *second; /* x and w; dy and w; x and dy */
    const void *bias, *res;
    void *pre, *out, *db, *workspace; /* workspace: 256-aligned */
} dt_dense_operands;
/* Algorithms with all in the epilogue and with the parts apart are timed, but for f32 and under deterministic. */
dt_status dt_dense_choose(dt_cuda *cu, const dt_dense_form *f, const char *label, dt_dense_product *out);
dt_status dt_dense_run(dt_cuda *cu, const dt_dense_product *p, const dt_dense_operands *o, cudaStream_t s);

/* blas_end.c: y T [rows,k] = act(x [rows,c] w^T [k,c] + bias T [k] + residual), of evaluation. use false: cuBLASLt has
 * nothing, or nothing may be timed. Run with a = w, b = x, c = residual, d = y, vector = bias. */
typedef struct dt_blas_end_shape {
    dt_dtype t;
    int64_t rows, c, k;
    int32_t act;
    bool bias, residual;
} dt_blas_end_shape;
typedef struct dt_blas_end {
    bool use;
    double seconds;
    dt_blas_matmul matmul;
} dt_blas_end;
/* Whether it has that function. */
bool dt_blas_ends_in(int32_t act);
dt_status dt_blas_end_choose(dt_cuda *cu, const dt_blas_end_shape *shape, dt_blas_end *out);

/* conv_blas.c: a 1x1 convolution with apply as one product, y = act(x w'^T + shift [+ residual]), x T
 * [rows,c], w T [k,c], y and residual T [rows,k]. w' = scale w is rounded to T, or scale multiplies the
 * sums. */
typedef struct dt_blas_apply {
    bool use;
    bool folded; /* scale is in w' */
    dt_blas_matmul matmul;
    dt_dtype t;
    int64_t c, k;
    int64_t bias_at, plan_at; /* in the workspace, behind w' */
    int64_t bytes;            /* of workspace */
} dt_blas_apply;
/* Chosen if faster than algo_s, the seconds of cuDNN's engine. */
dt_status dt_blas_apply_choose(dt_cuda *cu, dt_dtype t, int64_t rows, int64_t c, int64_t k, bool relu,
                               bool residual, double algo_s, dt_blas_apply *out);
/* residual NULL: none; as it was chosen. workspace: 256-aligned. */
dt_status dt_blas_apply_run(dt_cuda *cu, const dt_blas_apply *b, const void *x, const void *w,
                            const float *scale, const float *shift, const void *residual, void *y,
                            void *workspace, cudaStream_t s);

#endif
