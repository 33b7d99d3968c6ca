/* The large products of BN from Gram matrices, through cuBLASLt where one of its algorithms is faster than
 * gram_mma.cu: with the column sums in its epilogue or by a kernel of ours. */
#include "algo.h"
#include "gram.h"
#include "lower.h"

/* The cache's names of candidates. */
enum { FORM_OWN = 0, FORM_EPILOGUE, FORM_PLAIN };

/* A shape and what was chosen for it. sums: GRAM_CROSS with column sums of dz. */
struct dt_gram_choice {
    dt_gram_choice *next;
    dt_op op;
    bool sums;
    bool known; /* from the cache */
    dt_dtype t;
    int64_t rows, k, c; /* of GRAM k is c */
    dt_blas_product blas;
};

/* The product of a node, without a choice; false where a node has none. */
static bool product_of(const dt_graph *g, const dt_node *n, dt_gram_choice *q) {
    if (n->op != DT_OP_GRAM && n->op != DT_OP_GRAM_CROSS && n->op != DT_OP_BN_GRAM_DX) return false;
    const int32_t i_x = n->op == DT_OP_GRAM ? 0 : n->op == DT_OP_GRAM_CROSS ? DT_CROSS_IN_X : DT_GRAM_DX_IN_X;
    const dt_value *dz = &g->value[n->in[0]], *x = &g->value[n->in[i_x]];
    *q = (dt_gram_choice){.op = n->op,
                          .sums = n->op == DT_OP_GRAM ||
                                  (n->op == DT_OP_GRAM_CROSS && dt_node_makes(n, DT_CROSS_OUT_DBETA)),
                          .t = dt_op_type(g, n),
                          .k = dz->dim[dz->ndim - 1],
                          .c = x->dim[x->ndim - 1]};
    q->rows = dt_value_n_elem(dz) / q->k;
    return q->t != DT_DTYPE_F32 && q->k % 8 == 0 && q->c % 8 == 0;
}

static dt_gram_choice *find(const dt_cuda *cu, const dt_gram_choice *like) {
    dt_gram_choice *q = cu->gram_choice;
    while (q && (q->op != like->op || q->sums != like->sums || q->t != like->t || q->rows != like->rows ||
                 q->k != like->k || q->c != like->c))
        q = q->next;
    return q;
}

/* gram [c,c] = x [c,m] x[c,m]^T and P^T [c,k] = x [c,m] dz[k,m]^T in fp32; dx^T [c,m] = wa [c,k] dz [k,m]. */
static dt_status describe(dt_cuda *cu, const dt_gram_choice *q, bool epilogue, dt_blas_matmul *out) {
    const bool dx = q->op == DT_OP_BN_GRAM_DX;
    const dt_blas_shape s = {.t = q->t,
                             .out = dx ? q->t : DT_DTYPE_F32,
                             .trans_b = !dx,
                             .a_rows = q->c,
                             .a_cols = dx ? q->k : q->rows,
                             .b_rows = q->k,
                             .b_cols = q->rows,
                             .epilogue = !epilogue             ? CUBLASLT_EPILOGUE_DEFAULT
                                         : q->op == DT_OP_GRAM ? CUBLASLT_EPILOGUE_BGRADA
                                                               : CUBLASLT_EPILOGUE_BGRADB};
    return dt_blas_describe(cu, &s, out);
}

/* A candidate and operands to time it on. */
typedef struct trial {
    dt_gram_choice *q;
    const dt_blas_product *blas; /* NULL: our own kernels */
    void *dz, *x, *w, *scale, *out, *sums, *workspace;
} trial;

enum { PARTS = 7 };

static void parts_of(trial *t, dt_cuda *cu, dt_blas_part part[PARTS]) {
    const dt_gram_choice *q = t->q;
    const bool dx = q->op == DT_OP_BN_GRAM_DX;
    const int64_t own = dt_gpu_cross_bytes(&cu->gpu, q->rows, q->k, q->c, false),
                  apart = dt_gpu_bn_mask_bytes(&cu->gpu, q->rows, q->k);
    const int64_t workspace = dt_max_i64(dt_max_i64(own, apart), DT_BLAS_WORKSPACE);
    const dt_blas_part all[PARTS] = {
        {&t->dz, q->rows * q->k, q->t},
        {&t->x, q->op == DT_OP_GRAM ? 0 : q->rows * q->c, q->t},
        {&t->w, (q->k + q->c) * q->c, q->t}, /* wa and below it M */
        {&t->scale, q->c, DT_DTYPE_F32},
        {&t->out, dx ? q->rows * q->c : q->k * q->c, dx ? q->t : DT_DTYPE_F32},
        {&t->sums, q->k, DT_DTYPE_F32},
        {&t->workspace, workspace / (int64_t)sizeof(float), DT_DTYPE_F32},
    };
    for (int i = 0; i < PARTS; i++) part[i] = all[i];
}

/* The product with all that belongs to it. */
static bool enqueue(dt_cuda *cu, const void *arg) {
    const trial *t = arg;
    const dt_gram_choice *q = t->q;
    const bool dx = q->op == DT_OP_BN_GRAM_DX;
    const void *x = q->op == DT_OP_GRAM ? t->dz : t->x;
    dt_gpu_rows_args rows = {.a1 = x,
                             .b1 = (char *)t->w + q->k * q->c * (int64_t)dt_dtype_size(q->t),
                             .scale = t->scale,
                             .out = t->out,
                             .rows = q->rows,
                             .k1 = q->c,
                             .n = q->c};
    if (t->blas) {
        if (dt_blas_product_run(cu, t->blas, dx ? t->w : x, t->dz, t->out, q->sums ? t->sums : NULL,
                                t->workspace, cu->compute) != DT_OK)
            return false;
        rows.base = t->out;
        return !dx || dt_gpu_rows(&cu->gpu, q->t, &rows, cu->compute) == cudaSuccess;
    }
    if (dx) {
        rows.a2 = t->dz;
        rows.b2 = t->w;
        rows.k2 = q->k;
        return dt_gpu_rows(&cu->gpu, q->t, &rows, cu->compute) == cudaSuccess;
    }
    const dt_gpu_cross_args cross = {.a = t->dz,
                                     .b = x,
                                     .out = t->out,
                                     .sum = q->sums ? t->sums : NULL,
                                     .workspace = t->workspace,
                                     .rows = q->rows,
                                     .ka = q->k,
                                     .kb = q->c};
    return dt_gpu_cross(&cu->gpu, q->t, &cross, cu->compute) == cudaSuccess;
}

static dt_blas_product product_with(const dt_cuda *cu, const dt_gram_choice *q, bool epilogue,
                                    const dt_blas_matmul *m) {
    dt_blas_product b = {.use = true,
                         .sums_apart = q->sums && !epilogue,
                         .matmul = *m,
                         .t = q->t,
                         .rows = q->rows,
                         .k = q->k,
                         .bytes = m->bytes};
    if (b.sums_apart) b.bytes = dt_max_i64(b.bytes, dt_gpu_bn_mask_bytes(&cu->gpu, q->rows, q->k));
    return b;
}

static dt_conv_spec key_of(const dt_gram_choice *q) {
    const dt_blas_kind kind = q->op == DT_OP_GRAM         ? DT_BLAS_GRAM
                              : q->op == DT_OP_BN_GRAM_DX ? DT_BLAS_DX
                              : q->sums                   ? DT_BLAS_CROSS_SUMS
                                                          : DT_BLAS_CROSS;
    return dt_blas_key(kind, q->t, q->rows, q->c, q->k);
}

/* What an earlier run chose. */
static bool recall(dt_cuda *cu, dt_gram_choice *q) {
    const dt_conv_spec key = key_of(q);
    dt_blas_choice c;
    dt_blas_matmul m;
    if (!dt_blas_recall(cu, &key, &c)) return false;
    if (c.form == FORM_OWN) return true;
    const bool epilogue = c.form == FORM_EPILOGUE;
    if (epilogue ? !q->sums : c.form != FORM_PLAIN) return false;
    if (describe(cu, q, epilogue, &m) != DT_OK || !dt_blas_restore(cu, &c.algo, &m)) return false;
    q->blas = product_with(cu, q, epilogue, &m);
    return true;
}

/* Our own kernels, then the algorithms with sums in the epilogue where sums are wanted, then those
 * without. */
static dt_status choose(dt_cuda *cu, dt_gram_choice *q, const dt_blas_scratch *s) {
    trial t = {.q = q};
    dt_blas_part part[PARTS];
    parts_of(&t, cu, part);
    if (!dt_blas_scratch_fill(cu, s, part, PARTS)) return DT_OK;
    dt_blas_contest contest = {.best_s = dt_blas_time(cu, s, enqueue, &t)};
    const dt_conv_spec key = key_of(q);
    dt_blas_choice chosen = {.form = FORM_OWN};
    for (int epilogue = q->sums; epilogue >= 0; epilogue--) {
        dt_blas_matmul plain = {0};
        dt_blas_algos found;
        DT_TRY(describe(cu, q, epilogue, &plain));
        const int32_t n = dt_blas_find(cu, &plain, epilogue ? t.sums : NULL, found);
        for (int32_t i = 0; i < n; i++) {
            const dt_blas_matmul m = dt_blas_with(&plain, &found[i]);
            const dt_blas_product b = product_with(cu, q, epilogue, &m);
            t.blas = &b;
            if (!dt_blas_wins(cu, &contest, dt_blas_time(cu, s, enqueue, &t))) continue;
            q->blas = b;
            chosen = (dt_blas_choice){.form = epilogue ? FORM_EPILOGUE : FORM_PLAIN, .algo = m.algo};
        }
    }
    chosen.seconds = contest.best_s;
    dt_blas_remember(cu, &key, &chosen);
    return DT_OK;
}

/* All new shapes of the graph on one scratch. */
static dt_status choose_all(dt_cuda *cu, const dt_graph *g) {
    dt_gram_choice *const known = cu->gram_choice;
    dt_gram_choice like;
    dt_blas_part part[PARTS];
    dt_blas_scratch s;
    int64_t bytes = 0;
    for (int32_t i = 0; i < g->n_node; i++) {
        dt_gram_choice *q = NULL;
        if (!product_of(g, &g->node[i], &like) || find(cu, &like)) continue;
        DT_TRY(dt_cuda_own(cu, sizeof *q, (void **)&q));
        *q = like;
        q->next = cu->gram_choice;
        cu->gram_choice = q;
        q->known = recall(cu, q);
        if (q->known) continue;
        parts_of(&(trial){.q = q}, cu, part);
        bytes = dt_max_i64(bytes, dt_blas_parts_bytes(part, PARTS));
    }
    dt_status st = DT_OK;
    if (bytes == 0) return DT_OK;
    if (dt_blas_scratch_make(&s, bytes))
        for (dt_gram_choice *q = cu->gram_choice; q != known && st == DT_OK; q = q->next)
            if (!q->known) st = choose(cu, q, &s);
    dt_blas_scratch_free(&s);
    dt_algos_save(cu);
    return st;
}

dt_status dt_blas_product_choose(dt_cuda *cu, const dt_graph *g, const dt_node *n, dt_blas_product *out) {
    dt_gram_choice like;
    *out = (dt_blas_product){0};
    if (cu->deterministic || !product_of(g, n, &like)) return DT_OK;
    const dt_gram_choice *q = find(cu, &like);
    if (!q) {
        DT_TRY(choose_all(cu, g));
        q = find(cu, &like);
    }
    *out = q->blas;
    return DT_OK;
}

dt_status dt_blas_product_run(dt_cuda *cu, const dt_blas_product *b, const void *first, const void *second,
                              void *out, float *sums, void *workspace, cudaStream_t s) {
    const dt_blas_operands o = {
        .a = first, .b = second, .d = out, .vector = b->sums_apart ? NULL : sums, .workspace = workspace};
    DT_TRY(dt_blas_run(cu, &b->matmul, &o, s));
    if (!b->sums_apart) return DT_OK;
    const dt_gpu_bn_mask_args a = {
        .dy = second, .dbeta = sums, .workspace = workspace, .rows = b->rows, .c = b->k};
    DT_CUDA_TRY(dt_gpu_bn_mask(&cu->gpu, b->t, &a, s));
    return DT_OK;
}
