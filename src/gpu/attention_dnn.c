/* The graphs of attention that cuDNN's fused kernels match, and the choice between them and ours. cuDNN finds its kernels by
 * pattern: the operations, their order and the types between them are those of its developer guide ("Fused flash
 * attention"), and nothing may be left out or put elsewhere.
 *
 * Faults that are walked around: without lengths, gradients of lengths that are no multiple of 128 read outside (9.15 and
 * before, in replays) or are NaN (64 over such a multiple, rows far against all keys). Lengths are given for all of these. */
#include "attention_dnn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "algo.h"
#include "blas.h"

enum { OPS_MAX = 40, CANDIDATES = 3, ASKED = 8, FIRST_VIRTUAL = 100, WORKSPACE_LIMIT = 1 << 30 };

/* Unique ids of what is in memory. SUM and DQ32 are in the workspace, the last ones are numbers of the host. */
typedef enum uid {
    UID_Q = 1,
    UID_K,
    UID_V,
    UID_Y,
    UID_LSE,
    UID_DY,
    UID_DQ,
    UID_DK,
    UID_DV,
    UID_SUM,
    UID_DQ32,
    UID_LENGTHS_Q,
    UID_LENGTHS_K,
    UID_SCALE,
    UID_ONE,
    UID_HIDDEN_BEHIND, /* the score of what lengths hide */
    UID_HIDDEN,        /* and of what comes later */
    UID_COUNT
} uid;

struct dt_attention_plan {
    dt_attention_plan *next;
    dt_conv_spec key;
    dt_attention_dims dims;
    dt_dtype t;
    bool backward, padded;
    int32_t *lengths; /* of every row T, on the device; NULL: not padded */
    float number[UID_COUNT];
    dt_dnn_builder graph_desc, desc;
    cudnnBackendDescriptor_t plan; /* NULL: ours is faster */
    int64_t bytes;                 /* of the plan's workspace */
};

typedef cudnnBackendDescriptor_t tensor;

/* ---- a graph ---- */

typedef struct graph {
    dt_dnn_builder *b;
    dt_attention_plan *p;
    cudnnDataType_t t;
    int64_t next_virtual;
    tensor lengths[2]; /* of queries and keys; NULL: none */
    int32_t n_op;
    cudnnBackendDescriptor_t op[OPS_MAX];
} graph;

typedef enum kind { IN_MEMORY, BETWEEN, A_NUMBER } kind;

static tensor make(graph *g, int64_t id, kind k, cudnnDataType_t type, const int64_t dim[4],
                   const int64_t stride[4]) {
    const int64_t align = 16;
    const bool yes = true;
    dt_dnn_builder *b = g->b;
    tensor t = dt_dnn_make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    if (k == BETWEEN) dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
    if (k == A_NUMBER) dt_dnn_set(b, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
    dt_dnn_finalize(b, t, "tensor of attention");
    return t;
}

/* [B,heads,T,D] with rows of so many elements; turned: [B,heads,D,T]. */
static tensor heads_of(graph *g, int64_t id, kind k, cudnnDataType_t type, int64_t row, bool turned) {
    const dt_attention_dims *a = &g->p->dims;
    const int64_t dim[2][4] = {{a->b, a->heads, a->t, a->d}, {a->b, a->heads, a->d, a->t}};
    const int64_t stride[2][4] = {{a->t * row, a->d, row, 1}, {a->t * row, a->d, 1, row}};
    return make(g, id, k, type, dim[turned], stride[turned]);
}
/* [B,heads,T,T] */
static tensor scores(graph *g, cudnnDataType_t type, bool turned) {
    const dt_attention_dims *a = &g->p->dims;
    const int64_t dim[4] = {a->b, a->heads, a->t, a->t}, all = a->t * a->t;
    const int64_t stride[4] = {a->heads * all, all, turned ? 1 : a->t, turned ? a->t : 1};
    return make(g, FIRST_VIRTUAL + g->next_virtual++, BETWEEN, type, dim, stride);
}
/* [B,heads,T,1] */
static tensor rows(graph *g, int64_t id) {
    const dt_attention_dims *a = &g->p->dims;
    const int64_t dim[4] = {a->b, a->heads, a->t, 1}, stride[4] = {a->heads * a->t, a->t, 1, 1};
    return make(g, id ? id : FIRST_VIRTUAL + g->next_virtual++, id ? IN_MEMORY : BETWEEN, CUDNN_DATA_FLOAT,
                dim, stride);
}
static tensor number(graph *g, uid id, float value) {
    const int64_t one[4] = {1, 1, 1, 1};
    g->p->number[id] = value;
    return make(g, id, A_NUMBER, CUDNN_DATA_FLOAT, one, one);
}

static void push(graph *g, cudnnBackendDescriptor_t op, const char *what) {
    dt_dnn_finalize(g->b, op, what);
    if (g->n_op < OPS_MAX) g->op[g->n_op++] = op;
}

static void set_tensor(graph *g, cudnnBackendDescriptor_t op, cudnnBackendAttributeName_t name, tensor t) {
    if (t) dt_dnn_set(g->b, op, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t);
}

/* y = mode(x, b) in `prec`, by default fp32, or of BINARY_SELECT mask ? x : b; axis of GEN_INDEX. Returns y. */
typedef struct point {
    cudnnPointwiseMode_t mode;
    tensor x, b, mask, y;
    cudnnDataType_t prec;
    int64_t axis;
} point;

static tensor do_point(graph *g, const point *p) {
    dt_dnn_builder *b = g->b;
    cudnnBackendDescriptor_t how = dt_dnn_make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dt_dnn_set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &p->mode);
    dt_dnn_set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &p->prec);
    if (p->mode == CUDNN_POINTWISE_GEN_INDEX)
        dt_dnn_set(b, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &p->axis);
    dt_dnn_finalize(b, how, "pointwise");
    cudnnBackendDescriptor_t op = dt_dnn_make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, p->x);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, p->y);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, p->b);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, p->mask);
    push(g, op, "pointwise operation");
    return p->y;
}
#define POINT(g, ...) do_point(g, &(point){__VA_ARGS__})

static tensor reduce(graph *g, cudnnReduceTensorOp_t how, tensor x, tensor y) {
    dt_dnn_builder *b = g->b;
    const cudnnDataType_t prec = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t r = dt_dnn_make(b, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    dt_dnn_set(b, r, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &prec);
    dt_dnn_set(b, r, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &how);
    dt_dnn_finalize(b, r, "reduction");
    cudnnBackendDescriptor_t op = dt_dnn_make(b, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, r);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    push(g, op, "reduction operation");
    return y;
}

static tensor reshape(graph *g, tensor x, tensor y) {
    cudnnBackendDescriptor_t op = dt_dnn_make(g->b, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    push(g, op, "reshape operation");
    return y;
}

/* c = a b; m, n, k: whose lengths bound these dimensions, 0 queries, 1 keys, -1 none. */
static tensor multiply(graph *g, tensor a, tensor b_, tensor c, int m, int n, int k) {
    dt_dnn_builder *b = g->b;
    const cudnnDataType_t prec = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t how = dt_dnn_make(b, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    dt_dnn_set(b, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &prec);
    dt_dnn_finalize(b, how, "product");
    cudnnBackendDescriptor_t op = dt_dnn_make(b, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b_);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m < 0 ? NULL : g->lengths[m]);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, n < 0 ? NULL : g->lengths[n]);
    set_tensor(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, k < 0 ? NULL : g->lengths[k]);
    push(g, op, "product operation");
    return c;
}

static tensor index_of(graph *g, tensor x, int64_t axis, cudnnDataType_t prec) {
    return POINT(g, .mode = CUDNN_POINTWISE_GEN_INDEX, .x = x, .y = scores(g, CUDNN_DATA_INT32, false),
                 .axis = axis, .prec = prec);
}

static tensor compare(graph *g, cudnnPointwiseMode_t mode, tensor x, tensor b) {
    return POINT(g, .mode = mode, .x = x, .b = b, .y = scores(g, CUDNN_DATA_BOOLEAN, false),
                 .prec = CUDNN_DATA_BOOLEAN);
}

static tensor hide(graph *g, tensor x, tensor mask, uid id) {
    return POINT(g, .mode = CUDNN_POINTWISE_BINARY_SELECT, .x = x, .b = number(g, id, -INFINITY),
                 .mask = mask, .y = scores(g, CUDNN_DATA_FLOAT, false));
}

/* Scores of places that lengths do not reach. */
static tensor hide_behind(graph *g, tensor x) {
    if (!g->p->padded) return x;
    const tensor row = index_of(g, x, 2, CUDNN_DATA_INT32), column = index_of(g, x, 3, CUDNN_DATA_INT32),
                 a = compare(g, CUDNN_POINTWISE_CMP_LT, row, g->lengths[0]),
                 b = compare(g, CUDNN_POINTWISE_CMP_LT, column, g->lengths[1]);
    return hide(g, x, compare(g, CUDNN_POINTWISE_LOGICAL_AND, a, b), UID_HIDDEN_BEHIND);
}

static tensor hide_later(graph *g, tensor x) {
    if (!g->p->dims.causal) return x;
    const tensor row = index_of(g, x, 2, CUDNN_DATA_FLOAT), column = index_of(g, x, 3, CUDNN_DATA_FLOAT);
    return hide(g, x, compare(g, CUDNN_POINTWISE_CMP_GE, row, column), UID_HIDDEN);
}

static void forward(graph *g) {
    const dt_attention_dims *a = &g->p->dims;
    const cudnnDataType_t f = CUDNN_DATA_FLOAT;
    const tensor q = heads_of(g, UID_Q, IN_MEMORY, g->t, a->q_row, false),
                 k = heads_of(g, UID_K, IN_MEMORY, g->t, a->kv_row, true);
    tensor s = multiply(g, q, k, scores(g, f, false), 0, 1, -1);
    s = POINT(g, .mode = CUDNN_POINTWISE_MUL, .x = s, .b = number(g, UID_SCALE, a->scale),
              .y = scores(g, f, false));
    s = hide_later(g, hide_behind(g, s));
    const tensor most = reduce(g, CUDNN_REDUCE_TENSOR_MAX, s, rows(g, 0)),
                 less = POINT(g, .mode = CUDNN_POINTWISE_SUB, .x = s, .b = most, .y = scores(g, f, false)),
                 e = POINT(g, .mode = CUDNN_POINTWISE_EXP, .x = less, .y = scores(g, f, false)),
                 sum = reduce(g, CUDNN_REDUCE_TENSOR_ADD, e, rows(g, 0)),
                 log = POINT(g, .mode = CUDNN_POINTWISE_LOG, .x = sum, .y = rows(g, 0));
    (void)POINT(g, .mode = CUDNN_POINTWISE_ADD, .x = most, .b = log, .y = rows(g, UID_LSE));
    const tensor p = POINT(g, .mode = CUDNN_POINTWISE_DIV, .x = e, .b = sum, .y = scores(g, g->t, false));
    (void)multiply(g, p, heads_of(g, UID_V, IN_MEMORY, g->t, a->kv_row, false),
                   heads_of(g, UID_Y, IN_MEMORY, g->t, a->heads * a->d, false), 0, -1, 1);
}

static void backward(graph *g) {
    const dt_attention_dims *a = &g->p->dims;
    const cudnnDataType_t f = CUDNN_DATA_FLOAT;
    const int64_t y_row = a->heads * a->d;
    const tensor q = heads_of(g, UID_Q, IN_MEMORY, g->t, a->q_row, false),
                 k = heads_of(g, UID_K, IN_MEMORY, g->t, a->kv_row, true),
                 v = heads_of(g, UID_V, IN_MEMORY, g->t, a->kv_row, true),
                 y = heads_of(g, UID_Y, IN_MEMORY, g->t, y_row, false),
                 dy = heads_of(g, UID_DY, IN_MEMORY, g->t, y_row, false),
                 scale = number(g, UID_SCALE, a->scale);
    const int64_t dim[4] = {a->b, a->heads, a->t, a->d}, packed[4] = {a->t * y_row, a->t * a->d, y_row, 1},
                  apart[4] = {a->t * y_row, a->t * a->d, a->d, 1};
    const tensor dy_y = POINT(g, .mode = CUDNN_POINTWISE_MUL, .x = dy, .b = y,
                              .y = make(g, FIRST_VIRTUAL + g->next_virtual++, BETWEEN, f, dim, packed)),
                 sum = POINT(g, .mode = CUDNN_POINTWISE_MUL,
                             .x = reduce(g, CUDNN_REDUCE_TENSOR_ADD, dy_y, rows(g, 0)),
                             .b = number(g, UID_ONE, 1), .y = rows(g, UID_SUM));
    tensor s = multiply(g, q, k, scores(g, f, false), 0, 1, -1);
    s = POINT(g, .mode = CUDNN_POINTWISE_MUL, .x = s, .b = scale, .y = scores(g, f, false));
    s = hide_behind(g, s);
    s = POINT(g, .mode = CUDNN_POINTWISE_SUB, .x = s, .b = rows(g, UID_LSE), .y = scores(g, f, false));
    s = hide_later(g, s);
    const tensor p = POINT(g, .mode = CUDNN_POINTWISE_EXP, .x = s, .y = scores(g, f, false)),
                 p_turned = reshape(g, p, scores(g, g->t, true));
    (void)multiply(g, p_turned, dy, heads_of(g, UID_DV, IN_MEMORY, g->t, a->kv_row, false), 1, -1, 0);
    tensor dp = multiply(g, dy, v, scores(g, f, false), 0, 1, -1);
    dp = POINT(g, .mode = CUDNN_POINTWISE_SUB, .x = dp, .b = sum, .y = scores(g, f, false));
    dp = POINT(g, .mode = CUDNN_POINTWISE_MUL, .x = dp, .b = p, .y = scores(g, f, false));
    const tensor ds = POINT(g, .mode = CUDNN_POINTWISE_MUL, .x = dp, .b = scale, .y = scores(g, f, false)),
                 ds_turned = reshape(g, ds, scores(g, g->t, true));
    (void)multiply(g, ds_turned, q, heads_of(g, UID_DK, IN_MEMORY, g->t, a->kv_row, false), 1, -1, 0);
    const tensor k_turned =
        reshape(g, k, heads_of(g, FIRST_VIRTUAL + g->next_virtual++, BETWEEN, f, a->kv_row, false));
    const tensor dq = multiply(g, ds, k_turned, make(g, UID_DQ32, IN_MEMORY, f, dim, apart), 0, -1, 1);
    (void)POINT(g, .mode = CUDNN_POINTWISE_IDENTITY, .x = dq,
                .y = heads_of(g, UID_DQ, IN_MEMORY, g->t, a->q_row, false));
}

static cudnnBackendDescriptor_t build(dt_cuda *cu, dt_attention_plan *p) {
    p->graph_desc = (dt_dnn_builder){.handle = cu->dnn};
    graph g = {
        .b = &p->graph_desc, .p = p, .t = p->t == DT_DTYPE_F16 ? CUDNN_DATA_HALF : CUDNN_DATA_BFLOAT16};
    const int64_t dim[4] = {p->dims.b, 1, 1, 1}, stride[4] = {1, 1, 1, 1};
    for (int i = 0; p->padded && i < 2; i++)
        g.lengths[i] = make(&g, UID_LENGTHS_Q + i, IN_MEMORY, CUDNN_DATA_INT32, dim, stride);
    if (p->backward)
        backward(&g);
    else
        forward(&g);
    return dt_dnn_graph(&p->graph_desc, g.n_op, g.op);
}

/* ---- memory ---- */

static int64_t sum_bytes(const dt_attention_plan *p) {
    return p->backward ? dt_round_up(p->dims.b * p->dims.heads * p->dims.t * (int64_t)sizeof(float), 256) : 0;
}
static int64_t dq32_bytes(const dt_attention_plan *p) {
    return p->backward
               ? dt_round_up(p->dims.b * p->dims.heads * p->dims.t * p->dims.d * (int64_t)sizeof(float), 256)
               : 0;
}

int64_t dt_attention_plan_bytes(const dt_attention_plan *p) {
    return sum_bytes(p) + dq32_bytes(p) + p->bytes;
}

cudnnBackendDescriptor_t dt_attention_plan_of(const dt_attention_plan *p) {
    return p->plan;
}

static void *head(const void *base, int64_t at, const dt_attention_plan *p) {
    return (char *)(uintptr_t)base + at * (int64_t)dt_dtype_size(p->t);
}

dt_status dt_attention_plan_bind(const dt_attention_plan *p, const dt_gpu_attention_args *a, void *workspace,
                                 dt_dnn_builder *desc, cudnnBackendDescriptor_t *pack) {
    char *const sum = workspace, *const dq32 = sum + sum_bytes(p);
    void *const all[UID_COUNT] = {
        [UID_Q] = head(a->q, 0, p),
        [UID_K] = head(a->k, p->dims.k_at, p),
        [UID_V] = head(a->v, p->dims.v_at, p),
        [UID_Y] = a->y,
        [UID_LSE] = a->lse,
        [UID_DY] = p->backward ? head(a->dy, 0, p) : NULL,
        [UID_DQ] = p->backward ? a->dq : NULL,
        [UID_DK] = p->backward ? head(a->dk, p->dims.k_at, p) : NULL,
        [UID_DV] = p->backward ? head(a->dv, p->dims.v_at, p) : NULL,
        [UID_SUM] = p->backward ? sum : NULL,
        [UID_DQ32] = p->backward ? dq32 : NULL,
        [UID_LENGTHS_Q] = p->lengths,
        [UID_LENGTHS_K] = p->lengths,
    };
    int64_t id[UID_COUNT], n = 0;
    void *data[UID_COUNT];
    for (int64_t u = UID_Q; u < UID_COUNT; u++) {
        const bool is_number = u >= UID_SCALE, in_graph = p->number[u] != 0;
        if (is_number ? !in_graph : !all[u]) continue;
        id[n] = u;
        /* A number is read from the host when it runs, so also while a graph is captured. */
        data[n] = is_number ? (void *)(uintptr_t)&p->number[u] : all[u];
        if (!is_number && (uintptr_t)data[n] & 15)
            return dt_fail(DT_ERR_INTERNAL, "attention: a tensor is not aligned to 16 bytes");
        n++;
    }
    *pack = dt_dnn_pack_of(desc, n, id, data, dq32 + dq32_bytes(p));
    if (desc->st != CUDNN_STATUS_SUCCESS) DT_CUDNN_TRY(desc->st);
    return DT_OK;
}

/* ---- the choice ---- */

typedef struct candidate {
    dt_algo_choice choice;
    dt_dnn_builder desc;
    cudnnBackendDescriptor_t plan;
    int64_t bytes;
} candidate;

/* One way and the operands to time it on. */
typedef struct trial {
    const dt_attention_plan *p;
    const candidate *c; /* NULL: our kernels */
    cudnnBackendDescriptor_t pack;
    dt_gpu_attention_args a;
    void *workspace;
} trial;

static bool enqueue(dt_cuda *cu, const void *arg) {
    const trial *t = arg;
    if (!t->c) return dt_gpu_attention_mma(t->p->t, &t->a, t->p->backward, cu->compute) == cudaSuccess;
    return cudnnBackendExecute(cu->dnn, t->c->plan, t->pack) == CUDNN_STATUS_SUCCESS;
}

enum { PARTS = 11 };

static void parts_of(trial *t, int64_t workspace, dt_blas_part part[PARTS]) {
    const dt_attention_dims *a = &t->p->dims;
    const int64_t rows = a->b * a->t, q = rows * a->q_row, kv = a->packed ? 0 : rows * a->kv_row,
                  y = rows * a->heads * a->d, back = t->p->backward;
    dt_gpu_attention_args *args = &t->a;
    const dt_blas_part all[PARTS] = {
        {(void **)(uintptr_t)&args->q, q, t->p->t},
        {(void **)(uintptr_t)&args->k, kv, t->p->t},
        {(void **)(uintptr_t)&args->v, kv, t->p->t},
        {&args->y, y, t->p->t},
        {(void **)&args->lse, rows * a->heads, DT_DTYPE_F32},
        {(void **)&args->delta, rows * a->heads, DT_DTYPE_F32},
        {(void **)(uintptr_t)&args->dy, back * y, t->p->t},
        {&args->dq, back * q, t->p->t},
        {&args->dk, back * kv, t->p->t},
        {&args->dv, back * kv, t->p->t},
        {&t->workspace, workspace / (int64_t)sizeof(float), DT_DTYPE_F32},
    };
    memcpy(part, all, sizeof all);
}

/* The fastest of cuDNN's candidates if it beats ours: its place in c, or -1. */
static int32_t fastest(dt_cuda *cu, dt_attention_plan *p, const candidate *c, int32_t n, double *seconds) {
    trial t = {.p = p, .a = {.dims = p->dims}};
    dt_blas_part part[PARTS];
    dt_blas_scratch s;
    int64_t workspace = 256;
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) workspace = dt_max_i64(workspace, c[i].bytes);
    parts_of(&t, workspace + sum_bytes(p) + dq32_bytes(p), part);
    if (dt_blas_scratch_make(&s, dt_blas_parts_bytes(part, PARTS)) &&
        dt_blas_scratch_fill(cu, &s, part, PARTS) &&
        cudnnSetStream(cu->dnn, cu->compute) == CUDNN_STATUS_SUCCESS) {
        cu->dnn_stream = cu->compute;
        if (p->dims.packed) {
            t.a.k = t.a.v = t.a.q;
            t.a.dk = t.a.dv = t.a.dq;
        }
        dt_blas_contest contest = {.best_s = dt_blas_time(cu, &s, enqueue, &t)};
        for (int32_t i = 0; i < n; i++) {
            dt_dnn_builder desc = {.handle = cu->dnn};
            t.c = &c[i];
            if (dt_attention_plan_bind(p, &t.a, t.workspace, &desc, &t.pack) == DT_OK &&
                dt_blas_wins(cu, &contest, dt_blas_time(cu, &s, enqueue, &t)))
                best = i;
            dt_dnn_release(&desc);
        }
        *seconds = contest.best_s;
    }
    dt_blas_scratch_free(&s);
    return best;
}

static void choose(dt_cuda *cu, dt_attention_plan *p, cudnnBackendDescriptor_t g) {
    dt_algo_choice asked[ASKED];
    candidate c[CANDIDATES];
    int32_t n = 0;
    double seconds = 0;
    const int32_t n_asked = dt_dnn_choices(&p->graph_desc, g, CUDNN_HEUR_MODE_A, 0, ASKED, asked);
    for (int32_t i = 0; i < n_asked && n < CANDIDATES; i++) {
        c[n] = (candidate){.choice = asked[i], .desc = {.handle = cu->dnn}};
        c[n].plan = dt_dnn_plan(&c[n].desc, g, &asked[i], &c[n].bytes);
        if (c[n].plan && c[n].bytes <= WORKSPACE_LIMIT)
            n++;
        else
            dt_dnn_release(&c[n].desc);
    }
    const int32_t best = n > 0 ? fastest(cu, p, c, n, &seconds) : -1;
    dt_algo_record r = {
        .spec = p->key, .usable = best >= 0, .seconds = seconds < DT_BLAS_FAILED ? seconds : 0};
    for (int32_t i = 0; i < n; i++) {
        if (i != best) {
            dt_dnn_release(&c[i].desc);
            continue;
        }
        p->plan = c[i].plan;
        p->bytes = c[i].bytes;
        p->desc = c[i].desc;
        r.choice = c[i].choice;
    }
    /* What failed for want of memory is asked again at the next start. */
    if (cu->take_candidate || (n > 0 ? seconds <= 0 : p->graph_desc.passing)) return;
    dt_algos_remember(cu, r);
    dt_algos_save(cu);
}

static void release(void *ptr) {
    dt_attention_plan *p = ptr;
    dt_dnn_release(&p->desc);
    dt_dnn_release(&p->graph_desc);
}

static bool takes(dt_cuda *cu, dt_dtype t, const dt_attention_dims *a) {
    const size_t version = cudnnGetVersion();
    if (cu->deterministic || version < 90600 || version == 91000 || version == 91001) return false;
    if (a->t != a->s || a->t < 2 || a->heads != a->kv_heads || a->window > 0 || a->p > 0) return false;
    const bool ours =
        dt_gpu_attention_mma_takes(t, a); /* and so are heads and rows that copies of 16 bytes fit */
    (void)cudaGetLastError();             /* what it asked the card may have failed */
    return ours;
}

static dt_status make_lengths(dt_cuda *cu, dt_attention_plan *p) {
    if (!p->padded) return DT_OK;
    const size_t bytes = (size_t)p->dims.b * sizeof(int32_t);
    int32_t *host = malloc(bytes);
    if (!host) return dt_fail(DT_ERR_MEMORY, "no memory for %lld lengths", (long long)p->dims.b);
    for (int64_t i = 0; i < p->dims.b; i++) host[i] = (int32_t)p->dims.t;
    dt_status st = dt_cuda_own_device(cu, (int64_t)bytes, (void **)&p->lengths);
    const cudaError_t err =
        st == DT_OK ? cudaMemcpy(p->lengths, host, bytes, cudaMemcpyHostToDevice) : cudaSuccess;
    free(host);
    if (st == DT_OK && err != cudaSuccess) st = dt_cuda_fail(err, "cudaMemcpy", __FILE__, __LINE__);
    return st;
}

dt_status dt_attention_plan_choose(dt_cuda *cu, dt_dtype t, const dt_attention_dims *a, bool back,
                                   const dt_attention_plan **out) {
    dt_attention_plan *p = cu->attention_plan;
    const dt_conv_spec key = {.kind = back ? DT_CACHE_ATTENTION_BWD : DT_CACHE_ATTENTION,
                              .dtype = (int32_t)t,
                              .d = {.n = a->b,
                                    .h = a->t,
                                    .c = a->d,
                                    .k = a->heads,
                                    .p = a->q_row,
                                    .q = a->kv_row,
                                    .groups = a->causal}};
    *out = NULL;
    if (!takes(cu, t, a)) return DT_OK;
    while (p && (memcmp(&p->key, &key, sizeof key) != 0 || p->dims.scale != a->scale ||
                 p->dims.k_at != a->k_at || p->dims.v_at != a->v_at))
        p = p->next;
    if (!p) {
        DT_TRY(dt_cuda_own(cu, sizeof *p, (void **)&p));
        p->key = key, p->dims = *a, p->t = t, p->backward = back, p->padded = a->t % 128 != 0;
        DT_TRY(dt_cuda_adopt(cu, p, release));
        DT_TRY(make_lengths(cu, p));
        p->next = cu->attention_plan;
        cu->attention_plan = p;
        const dt_algo_record *r = cu->take_candidate ? NULL : dt_algos_recall(cu, &key);
        const cudnnBackendDescriptor_t g = r && !r->usable ? NULL : build(cu, p);
        if (g && r) {
            p->desc = (dt_dnn_builder){.handle = cu->dnn};
            p->plan = dt_dnn_plan(&p->desc, g, &r->choice, &p->bytes);
            if (!p->plan) dt_dnn_release(&p->desc); /* a stale record: choose anew */
        }
        if (g && !p->plan) choose(cu, p, g);
    }
    if (p->plan) *out = p;
    return DT_OK;
}
