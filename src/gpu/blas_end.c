/* Products of evaluation, DENSE and 1x1 convolutions, that end in a bias, a residual and a function: cuBLASLt's
 * epilogues, the algorithm chosen by timing, once per shape.
 *
 * Its GELU is that by tanh. Its ReLU makes 0 of NaN, as in conv_blas.c. */
#include "algo.h"
#include "lower.h"

/* The cache's names of candidates. */
enum { FORM_NONE = 0, FORM_PRODUCT };

/* A shape and what is fastest for it. */
struct dt_end_choice {
    dt_end_choice *next;
    dt_blas_end_shape shape;
    dt_blas_end end;
};

static const struct {
    int32_t act;
    cublasLtEpilogue_t plain, biased;
} epilogue_table[] = {
    {DT_ACT_NONE, CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS},
    {DT_ACT_RELU, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU_BIAS},
    {1 + DT_UNARY_GELU_TANH, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS},
};
enum { N_EPILOGUE = sizeof epilogue_table / sizeof epilogue_table[0] };

static int32_t epilogue_of(int32_t act) {
    for (int32_t i = 0; i < N_EPILOGUE; i++)
        if (epilogue_table[i].act == act) return i;
    return -1;
}

bool dt_blas_ends_in(int32_t act) {
    return epilogue_of(act) >= 0;
}

/* y^T [k,m] = act(w[c,k]^T x [c,m] + residual^T + bias). */
static dt_status describe(dt_cuda *cu, const dt_blas_end_shape *q, dt_blas_matmul *out) {
    const int32_t e = epilogue_of(q->act);
    const dt_blas_shape s = {.t = q->t,
                             .out = q->t,
                             .trans_a = true,
                             .a_rows = q->c,
                             .a_cols = q->k,
                             .b_rows = q->c,
                             .b_cols = q->rows,
                             .epilogue = q->bias ? epilogue_table[e].biased : epilogue_table[e].plain};
    return dt_blas_describe(cu, &s, out);
}

/* A candidate and operands to time it on. */
typedef struct trial {
    const dt_blas_matmul *m;
    void *x, *w, *bias, *residual, *y, *workspace;
} trial;

static bool enqueue(dt_cuda *cu, const void *arg) {
    const trial *t = arg;
    const dt_blas_operands o = {
        .a = t->w, .b = t->x, .c = t->residual, .d = t->y, .vector = t->bias, .workspace = t->workspace};
    return dt_blas_run(cu, t->m, &o, cu->compute) == DT_OK;
}

static dt_conv_spec key_of(const dt_blas_end_shape *q) {
    dt_conv_spec key = dt_blas_key(DT_BLAS_END, q->t, q->rows, q->c, q->k);
    key.d.r = q->bias, key.d.s = q->residual, key.d.p = q->act;
    return key;
}

/* What an earlier run chose. */
static bool recall(dt_cuda *cu, dt_end_choice *q) {
    const dt_conv_spec key = key_of(&q->shape);
    dt_blas_choice c;
    if (!dt_blas_recall(cu, &key, &c) || c.form < FORM_NONE || c.form > FORM_PRODUCT) return false;
    q->end.use = c.form == FORM_PRODUCT;
    q->end.seconds = c.seconds;
    return !q->end.use ||
           (describe(cu, &q->shape, &q->end.matmul) == DT_OK && dt_blas_restore(cu, &c.algo, &q->end.matmul));
}

static dt_status choose(dt_cuda *cu, dt_end_choice *q) {
    if (recall(cu, q)) return DT_OK;
    const dt_blas_end_shape *a = &q->shape;
    const dt_conv_spec key = key_of(a);
    dt_blas_choice chosen = {.form = FORM_NONE};
    trial t = {0};
    const dt_blas_part part[] = {
        {&t.x, a->rows * a->c, a->t},
        {&t.w, a->k * a->c, a->t},
        {&t.y, a->rows * a->k, a->t},
        {&t.bias, a->k, a->t},
        {&t.workspace, DT_BLAS_WORKSPACE / (int64_t)sizeof(float), DT_DTYPE_F32},
        {&t.residual, a->rows * a->k, a->t},
    };
    const int32_t n_part = (int32_t)(sizeof part / sizeof part[0]) - !a->residual;
    dt_blas_contest contest = {.best_s = DT_BLAS_FAILED};
    dt_blas_scratch s;
    dt_blas_matmul plain = {0};
    dt_blas_algos found;
    const bool timed = dt_blas_scratch_make(&s, dt_blas_parts_bytes(part, n_part)) &&
                       dt_blas_scratch_fill(cu, &s, part, n_part);
    if (!a->bias) t.bias = NULL;
    const dt_status st = describe(cu, a, &plain);
    const int32_t n = timed && st == DT_OK ? dt_blas_find(cu, &plain, t.bias, found) : 0;
    for (int32_t i = 0; i < n; i++) {
        const dt_blas_matmul m = dt_blas_with(&plain, &found[i]);
        t.m = &m;
        if (!dt_blas_wins(cu, &contest, dt_blas_time(cu, &s, enqueue, &t))) continue;
        q->end = (dt_blas_end){.use = true, .matmul = m};
        chosen = (dt_blas_choice){.form = FORM_PRODUCT, .algo = m.algo};
    }
    dt_blas_scratch_free(&s);
    chosen.seconds = q->end.seconds = contest.best_s;
    if (!timed || st != DT_OK) return st; /* a lack of memory is this run's */
    dt_blas_remember(cu, &key, &chosen);
    dt_algos_save(cu);
    return DT_OK;
}

dt_status dt_blas_end_choose(dt_cuda *cu, const dt_blas_end_shape *shape, dt_blas_end *out) {
    *out = (dt_blas_end){0};
    if (cu->deterministic || shape->t == DT_DTYPE_F32 || shape->c % 8 || shape->k % 8 ||
        !dt_blas_ends_in(shape->act))
        return DT_OK;
    dt_end_choice *q = cu->end_choice;
    while (q && (q->shape.t != shape->t || q->shape.rows != shape->rows || q->shape.c != shape->c ||
                 q->shape.k != shape->k || q->shape.act != shape->act || q->shape.bias != shape->bias ||
                 q->shape.residual != shape->residual))
        q = q->next;
    if (!q) {
        DT_TRY(dt_cuda_own(cu, sizeof *q, (void **)&q));
        *q = (dt_end_choice){.next = cu->end_choice, .shape = *shape};
        DT_TRY(choose(cu, q));
        cu->end_choice = q;
    }
    *out = q->end;
    return DT_OK;
}
