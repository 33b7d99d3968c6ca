/* A 1x1 convolution, the normalisation after it, the residual and the ReLU as one product of cuBLASLt.
 *
 * scale is folded into the weight, which rounds it to T once more, or multiplies the sums where cuBLASLt
 * takes a vector for alpha. The bias is a vector of T: with 16-bit matrices cuBLASLt takes no other.
 *
 * cuBLASLt's ReLU makes 0 of NaN. That hides nothing: an x or w that is not finite makes the covariance of x
 * or its product with w NaN, so the variance, scale and shift of the output channels, and then their gradient
 * of gamma, invstd times a sum. A residual that is not finite was normalised like that itself, or is what x
 * was made of. The norm of the gradient is not finite then and the update is skipped. */
#include "algo.h"
#include "lower.h"

/* The cache's names of candidates. */
enum { FORM_NONE = 0, FORM_FOLDED, FORM_VECTOR };

/* A shape and what is fastest for it. */
struct dt_apply_choice {
    dt_apply_choice *next;
    dt_dtype t;
    int64_t rows, c, k;
    bool relu, residual;
    double seconds; /* DT_BLAS_FAILED: cuBLASLt has nothing */
    dt_blas_apply blas;
};

/* y^T [k,m] = act(w'[c,k]^T x [c,m] + bias + residual^T). */
static dt_status describe(dt_cuda *cu, const dt_apply_choice *q, bool folded, dt_blas_matmul *out) {
    const dt_blas_shape s = {.t = q->t,
                             .out = q->t,
                             .trans_a = true,
                             .a_rows = q->c,
                             .a_cols = q->k,
                             .b_rows = q->c,
                             .b_cols = q->rows,
                             .epilogue = q->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS,
                             .alpha_vector = !folded};
    return dt_blas_describe(cu, &s, out);
}

static dt_blas_apply candidate(const dt_apply_choice *q, bool folded, const dt_blas_matmul *m) {
    const int64_t size = (int64_t)dt_dtype_size(q->t), w_bytes = folded ? q->k * q->c * size : 0;
    dt_blas_apply b = {.use = true, .folded = folded, .matmul = *m, .t = q->t, .c = q->c, .k = q->k};
    b.bias_at = dt_round_up(w_bytes, 256);
    b.plan_at = dt_round_up(b.bias_at + q->k * size, 256);
    b.bytes = b.plan_at + m->bytes;
    return b;
}

/* A candidate and operands to time it on. */
typedef struct trial {
    const dt_blas_apply *blas;
    void *x, *w, *scale, *shift, *residual, *y, *workspace;
} trial;

static bool enqueue(dt_cuda *cu, const void *arg) {
    const trial *t = arg;
    return dt_blas_apply_run(cu, t->blas, t->x, t->w, t->scale, t->shift, t->residual, t->y, t->workspace,
                             cu->compute) == DT_OK;
}

static dt_conv_spec key_of(const dt_apply_choice *q) {
    const dt_blas_kind kind = q->residual ? (q->relu ? DT_BLAS_APPLY_RES_RELU : DT_BLAS_APPLY_RES)
                                          : (q->relu ? DT_BLAS_APPLY_RELU : DT_BLAS_APPLY);
    return dt_blas_key(kind, q->t, q->rows, q->c, q->k);
}

/* What an earlier run chose. */
static bool recall(dt_cuda *cu, dt_apply_choice *q) {
    const dt_conv_spec key = key_of(q);
    dt_blas_choice c;
    dt_blas_matmul m;
    if (!dt_blas_recall(cu, &key, &c) || c.form < FORM_NONE || c.form > FORM_VECTOR) return false;
    q->seconds = c.form == FORM_NONE ? DT_BLAS_FAILED : c.seconds;
    if (c.form == FORM_NONE) return true;
    const bool folded = c.form == FORM_FOLDED;
    if (describe(cu, q, folded, &m) != DT_OK || !dt_blas_restore(cu, &c.algo, &m)) return false;
    q->blas = candidate(q, folded, &m);
    return true;
}

static dt_status choose(dt_cuda *cu, dt_apply_choice *q) {
    if (recall(cu, q)) return DT_OK;
    const dt_conv_spec key = key_of(q);
    dt_blas_choice chosen = {.form = FORM_NONE};
    trial t = {0};
    const int64_t small = candidate(q, true, &(dt_blas_matmul){0}).bytes; /* what is not the algorithm's */
    const dt_blas_part part[] = {
        {&t.x, q->rows * q->c, q->t},
        {&t.w, q->k * q->c, q->t},
        {&t.scale, q->k, DT_DTYPE_F32},
        {&t.shift, q->k, DT_DTYPE_F32},
        {&t.y, q->rows * q->k, q->t},
        {&t.workspace, (small + DT_BLAS_WORKSPACE) / (int64_t)sizeof(float), DT_DTYPE_F32},
        {&t.residual, q->rows * q->k, q->t},
    };
    const int32_t n_part = (int32_t)(sizeof part / sizeof part[0]) - !q->residual;
    dt_blas_contest contest = {.best_s = DT_BLAS_FAILED};
    dt_blas_scratch s;
    dt_status st = DT_OK;
    const bool timed = dt_blas_scratch_make(&s, dt_blas_parts_bytes(part, n_part)) &&
                       dt_blas_scratch_fill(cu, &s, part, n_part);
    for (int folded = 1; timed && folded >= 0 && st == DT_OK; folded--) {
        dt_blas_matmul plain = {0};
        dt_blas_algos found;
        st = describe(cu, q, folded, &plain);
        const int32_t n = st == DT_OK ? dt_blas_find(cu, &plain, t.workspace, found) : 0;
        for (int32_t i = 0; i < n; i++) {
            const dt_blas_matmul m = dt_blas_with(&plain, &found[i]);
            const dt_blas_apply b = candidate(q, folded, &m);
            t.blas = &b;
            if (!dt_blas_wins(cu, &contest, dt_blas_time(cu, &s, enqueue, &t))) continue;
            q->blas = b;
            chosen = (dt_blas_choice){.form = folded ? FORM_FOLDED : FORM_VECTOR, .algo = m.algo};
        }
    }
    dt_blas_scratch_free(&s);
    chosen.seconds = q->seconds = contest.best_s;
    if (!timed || st != DT_OK) return st; /* a lack of memory is this run's */
    dt_blas_remember(cu, &key, &chosen);
    dt_algos_save(cu);
    return DT_OK;
}

dt_status dt_blas_apply_choose(dt_cuda *cu, dt_dtype t, int64_t rows, int64_t c, int64_t k, bool relu,
                               bool residual, double algo_s, dt_blas_apply *out) {
    *out = (dt_blas_apply){0};
    if (cu->deterministic || t == DT_DTYPE_F32 || c % 8 || k % 8) return DT_OK;
    dt_apply_choice *q = cu->apply_choice;
    while (q && (q->t != t || q->rows != rows || q->c != c || q->k != k || q->relu != relu ||
                 q->residual != residual))
        q = q->next;
    if (!q) {
        DT_TRY(dt_cuda_own(cu, sizeof *q, (void **)&q));
        *q = (dt_apply_choice){.next = cu->apply_choice,
                               .t = t,
                               .rows = rows,
                               .c = c,
                               .k = k,
                               .relu = relu,
                               .residual = residual};
        DT_TRY(choose(cu, q));
        cu->apply_choice = q;
    }
    if (q->seconds < algo_s || cu->take_candidate) *out = q->blas;
    return DT_OK;
}

dt_status dt_blas_apply_run(dt_cuda *cu, const dt_blas_apply *b, const void *x, const void *w,
                            const float *scale, const float *shift, const void *residual, void *y,
                            void *workspace, cudaStream_t s) {
    char *at = workspace;
    void *folded = b->folded ? at : NULL, *bias = at + b->bias_at;
    DT_CUDA_TRY(dt_gpu_fold_apply(b->t, w, scale, shift, b->k, b->c, folded, bias, s));
    const dt_blas_operands o = {.a = b->folded ? folded : w,
                                .b = x,
                                .c = residual,
                                .d = y,
                                .vector = bias,
                                .alpha = b->folded ? NULL : scale,
                                .workspace = at + b->plan_at};
    return dt_blas_run(cu, &b->matmul, &o, s);
}
