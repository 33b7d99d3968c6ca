/* DENSE and its gradients as products of cuBLASLt: what stands around them is in its epilogue or done by kernels of ours,
 * whichever is faster. cuBLASLt counts columns first, so a row-major [rows,C] is its C x rows matrix. */
#include "algo.h"
#include "lower.h"

/* The cache's names of candidates. */
enum { FORM_APART = 1, FORM_WHOLE };

/* A shape and what was chosen for it. */
struct dt_dense_choice {
    dt_dense_choice *next;
    dt_dense_product product;
};

static bool is_same(const dt_dense_form *a, const dt_dense_form *b) {
    return a->op == b->op && a->t == b->t && a->n == b->n && a->c == b->c && a->k == b->k &&
           a->act == b->act && a->bias == b->bias && a->bias_f32 == b->bias_f32 && a->res == b->res &&
           a->pre == b->pre && a->db == b->db;
}

/* cuBLASLt's GELU is the one by tanh. */
static bool knows_act(const dt_dense_form *f) {
    if (f->act == 0) return true;
    if (f->op == DT_OP_DENSE_DGRAD) return f->act == 1 + DT_UNARY_GELU_TANH;
    return f->act == 1 + DT_UNARY_GELU_TANH || (f->act == 1 + DT_UNARY_RELU && !f->pre);
}

/* Whether cuBLASLt may have all of the form in one product. */
static bool has_epilogue(const dt_cuda *cu, const dt_dense_form *f) {
    return f->t != DT_DTYPE_F32 && !cu->deterministic && f->c % 8 == 0 && f->k % 8 == 0 && knows_act(f);
}

static cublasLtEpilogue_t epilogue_of(const dt_dense_form *f, bool whole) {
    static const cublasLtEpilogue_t act[2][3] = {
        {CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_AUX},
        {CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS}};
    if (f->op == DT_OP_DENSE_WGRAD && f->db && whole) return CUBLASLT_EPILOGUE_BGRADB;
    if (f->op == DT_OP_DENSE_DGRAD && f->act && whole) return CUBLASLT_EPILOGUE_DGELU;
    if (f->op == DT_OP_DENSE && f->act && whole)
        return act[f->bias][f->act == 1 + DT_UNARY_RELU ? 0 : 1 + f->pre];
    return f->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/* D = op(A) op(B), column-major. */
static dt_status describe(dt_cuda *cu, const dt_dense_form *f, bool whole, dt_blas_matmul *out) {
    dt_blas_shape s = {.t = f->t,
                       .out = f->t,
                       .epilogue = epilogue_of(f, whole),
                       .tf32 = f->t == DT_DTYPE_F32 && cu->tf32,
                       .aux = f->pre && whole};
    if (f->op == DT_OP_DENSE) /* y^T[K,N] = w[C,K]^T x[C,N] */
        s.trans_a = true, s.a_rows = f->c, s.a_cols = f->k, s.b_rows = f->c, s.b_cols = f->n;
    else if (f->op == DT_OP_DENSE_DGRAD) /* dx^T[C,N] = w[C,K] dy[K,N] */
        s.a_rows = f->c, s.a_cols = f->k, s.b_rows = f->k, s.b_cols = f->n;
    else /* dw^T[C,K] = x[C,N] dy[K,N]^T */
        s.trans_b = true, s.a_rows = f->c, s.a_cols = f->n, s.b_rows = f->k, s.b_cols = f->n;
    return dt_blas_describe(cu, &s, out);
}

/* cuBLASLt wants the bias in the type of the result. */
static bool casts_bias(const dt_dense_form *f) {
    return f->bias && f->bias_f32 && f->t != DT_DTYPE_F32;
}

static dt_dense_product product_with(const dt_cuda *cu, const dt_dense_form *f, bool whole,
                                     const dt_blas_matmul *m) {
    dt_dense_product p = {.form = *f, .matmul = *m, .whole = whole};
    int64_t plan = m->bytes;
    if (f->db && !whole) plan = dt_max_i64(plan, dt_gpu_reduce_bytes(&cu->gpu, f->t, f->n, f->k));
    if (casts_bias(f)) p.plan_at = dt_round_up(f->k * (int64_t)dt_dtype_size(f->t), 256);
    p.bytes = p.plan_at + plan;
    return p;
}

/* ---- choosing ---- */

typedef struct trial {
    const dt_dense_product *product;
    dt_dense_operands o;
    void *bias; /* what o.bias and others are, for their places to be filled */
    void *first, *second, *res;
} trial;

enum { PARTS = 8 };

static void parts_of(trial *t, const dt_cuda *cu, const dt_dense_form *f, dt_blas_part part[PARTS]) {
    const int64_t x = f->n * f->c, y = f->n * f->k, w = f->c * f->k;
    const bool forward = f->op == DT_OP_DENSE, wgrad = f->op == DT_OP_DENSE_WGRAD;
    const dt_dense_product least = product_with(cu, f, false, &(dt_blas_matmul){.bytes = DT_BLAS_WORKSPACE});
    const dt_blas_part all[PARTS] = {
        {&t->first, forward || wgrad ? x : y, f->t},
        {&t->second, wgrad ? y : w, f->t},
        {&t->bias, f->bias ? f->k : 0, f->bias_f32 ? DT_DTYPE_F32 : f->t},
        {&t->res, f->res ? y : 0, f->t},
        {&t->o.pre,
         !f->pre   ? 0
         : forward ? y
                   : x,
         f->t},
        {&t->o.out,
         forward ? y
         : wgrad ? w
                 : x,
         f->t},
        {&t->o.db, f->db ? f->k : 0, f->t},
        {&t->o.workspace, least.bytes / (int64_t)sizeof(float), DT_DTYPE_F32},
    };
    for (int i = 0; i < PARTS; i++) part[i] = all[i];
}

static bool enqueue(dt_cuda *cu, const void *arg) {
    const trial *t = arg;
    return dt_dense_run(cu, t->product, &t->o, cu->compute) == DT_OK;
}

static dt_conv_spec key_of(const dt_dense_form *f) {
    dt_conv_spec key = dt_blas_key(DT_BLAS_DENSE, f->t, f->n, f->c, f->k);
    key.d.r = (int64_t)f->op;
    key.d.s = f->act;
    key.d.groups = f->bias | f->res << 1 | f->pre << 2 | f->db << 3 | f->bias_f32 << 4;
    return key;
}

static bool recall(dt_cuda *cu, const dt_dense_form *f, dt_dense_product *out) {
    const dt_conv_spec key = key_of(f);
    dt_blas_choice c;
    dt_blas_matmul m;
    if (!dt_blas_recall(cu, &key, &c) || c.form < FORM_APART || c.form > FORM_WHOLE) return false;
    const bool whole = c.form == FORM_WHOLE;
    if (describe(cu, f, whole, &m) != DT_OK || !dt_blas_restore(cu, &c.algo, &m)) return false;
    *out = product_with(cu, f, whole, &m);
    return true;
}

/* *out stays as it is where memory does not suffice. */
static dt_status contest(dt_cuda *cu, const dt_dense_form *f, bool apart, dt_dense_product *out) {
    trial t = {0};
    dt_blas_part part[PARTS];
    dt_blas_scratch s;
    dt_blas_contest best = {.best_s = DT_BLAS_FAILED};
    dt_blas_choice chosen = {0};
    dt_status st = DT_OK;
    parts_of(&t, cu, f, part);
    const bool timed = dt_blas_scratch_make(&s, dt_blas_parts_bytes(part, PARTS)) &&
                       dt_blas_scratch_fill(cu, &s, part, PARTS);
    t.o.first = t.first, t.o.second = t.second, t.o.bias = t.bias, t.o.res = f->res ? t.res : NULL;
    for (int whole = 1; timed && whole >= !apart && st == DT_OK; whole--) {
        dt_blas_matmul plain = {0};
        dt_blas_algos found;
        st = describe(cu, f, whole, &plain);
        const int32_t n = st == DT_OK ? dt_blas_find_anywhere(cu, &plain, t.o.workspace, t.o.pre, found) : 0;
        for (int32_t i = 0; i < n; i++) {
            const dt_blas_matmul m = dt_blas_with(&plain, &found[i]);
            const dt_dense_product p = product_with(cu, f, whole, &m);
            t.product = &p;
            if (!dt_blas_wins(cu, &best, dt_blas_time(cu, &s, enqueue, &t))) continue;
            *out = p;
            chosen = (dt_blas_choice){.form = whole ? FORM_WHOLE : FORM_APART, .algo = m.algo};
        }
    }
    dt_blas_scratch_free(&s);
    if (!timed || st != DT_OK || chosen.form == 0) return st;
    const dt_conv_spec key = key_of(f);
    chosen.seconds = best.best_s;
    dt_blas_remember(cu, &key, &chosen);
    dt_algos_save(cu);
    return DT_OK;
}

dt_status dt_dense_choose(dt_cuda *cu, const dt_dense_form *f, const char *label, dt_dense_product *out) {
    const bool whole = has_epilogue(cu, f), apart = f->act || f->db;
    dt_blas_matmul m = {0};
    for (const dt_dense_choice *q = cu->dense_choice; q; q = q->next)
        if (is_same(&q->product.form, f)) {
            *out = q->product;
            return DT_OK;
        }
    dt_dense_choice *q;
    DT_TRY(dt_cuda_own(cu, sizeof *q, (void **)&q));
    DT_TRY(describe(cu, f, !apart, &m));
    DT_TRY(dt_blas_first(cu, &m, label));
    q->product = product_with(cu, f, !apart, &m);
    if (whole && !recall(cu, f, &q->product)) DT_TRY(contest(cu, f, apart, &q->product));
    q->next = cu->dense_choice;
    cu->dense_choice = q;
    *out = q->product;
    return DT_OK;
}

/* ---- running ---- */

dt_status dt_dense_run(dt_cuda *cu, const dt_dense_product *p, const dt_dense_operands *o, cudaStream_t s) {
    const dt_dense_form *f = &p->form;
    const bool wgrad = f->op == DT_OP_DENSE_WGRAD, forward = f->op == DT_OP_DENSE;
    const bool act_apart = f->act && !p->whole, keeps = act_apart && forward && f->pre;
    const dt_unary fn = (dt_unary)(f->act - 1);
    char *plan = (char *)o->workspace + p->plan_at;
    void *vector = f->db && p->whole ? o->db : NULL;
    if (casts_bias(f)) {
        vector = o->workspace;
        DT_CUDA_TRY(dt_gpu_cast_vectors(f->t, o->bias, NULL, vector, f->k, s));
    } else if (f->bias) {
        vector = (void *)(uintptr_t)o->bias;
    }
    const dt_blas_operands x = {.a = wgrad ? o->first : o->second,
                                .b = wgrad ? o->second : o->first,
                                .c = o->res,
                                .d = keeps ? o->pre : o->out,
                                .vector = vector,
                                .aux = f->pre && p->whole ? o->pre : NULL,
                                .workspace = plan};
    DT_TRY(dt_blas_run(cu, &p->matmul, &x, s));
    if (act_apart && forward)
        DT_CUDA_TRY(dt_gpu_unary(&cu->gpu, f->t, fn, 0, 0, x.d, o->out, f->n * f->k, s));
    if (act_apart && !forward)
        DT_CUDA_TRY(dt_gpu_unary_bwd(&cu->gpu, f->t, fn, 0, 0, o->out, o->pre, o->out, f->n * f->c, s));
    if (f->db && !p->whole)
        DT_CUDA_TRY(dt_gpu_bias_grad(&cu->gpu, f->t, o->second, o->db, f->n, f->k, (float *)plan, s));
    return DT_OK;
}
