/* A product through cuBLASLt: its description, its algorithms, and how candidates are timed. */
#include "blas.h"

#include "candidate.h"
#include "algo.h"
#include "timing.h"

enum { RUNS = 4, ALIGN = 256, ALIGN_WEIGHT = 128 }; /* weights lie on the axis, which packs closer */
/* A record's values: the words of an algorithm, then the library's version. */
enum { WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t), VERSION = WORDS, VALUES };
_Static_assert((int)VALUES <= (int)DT_KNOB_MAX, "an algorithm fits a record");

static cudaDataType_t data_type(dt_dtype t) {
    return t == DT_DTYPE_F16 ? CUDA_R_16F : t == DT_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static void release_desc(void *ptr) {
    (void)cublasLtMatmulDescDestroy(ptr);
}
static void release_layout(void *ptr) {
    (void)cublasLtMatrixLayoutDestroy(ptr);
}

dt_status dt_blas_layout(dt_cuda *cu, dt_dtype t, int64_t rows, int64_t cols, cublasLtMatrixLayout_t *out) {
    DT_CUBLAS_TRY(cublasLtMatrixLayoutCreate(out, data_type(t), (uint64_t)rows, (uint64_t)cols, rows));
    return dt_cuda_adopt(cu, *out, release_layout);
}

dt_status dt_blas_describe(dt_cuda *cu, const dt_blas_shape *s, dt_blas_matmul *out) {
    const cublasOperation_t op_a = s->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                            op_b = s->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const uint32_t epilogue = s->epilogue;
    const int32_t mode =
        s->alpha_vector ? CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_HOST : CUBLASLT_POINTER_MODE_HOST;
    const struct {
        cublasLtMatmulDescAttributes_t name;
        const void *value;
        size_t size;
    } attributes[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a},
                      {CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b},
                      {CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue},
                      {CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode}};
    DT_CUBLAS_TRY(cublasLtMatmulDescCreate(
        &out->desc, s->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    DT_TRY(dt_cuda_adopt(cu, out->desc, release_desc));
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++)
        DT_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(out->desc, attributes[i].name, attributes[i].value,
                                                     attributes[i].size));
    const int64_t d_rows = s->trans_a ? s->a_cols : s->a_rows;
    if (s->aux)
        DT_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(out->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &d_rows,
                                                     sizeof d_rows));
    DT_TRY(dt_blas_layout(cu, s->t, s->a_rows, s->a_cols, &out->a));
    DT_TRY(dt_blas_layout(cu, s->t, s->b_rows, s->b_cols, &out->b));
    return dt_blas_layout(cu, s->out, d_rows, s->trans_b ? s->b_rows : s->b_cols, &out->d);
}

/* Pointers of the epilogue: the nodes of a shape share a descriptor. */
static dt_status set_pointers(const dt_blas_matmul *m, const void *vector, const void *aux) {
    const struct {
        cublasLtMatmulDescAttributes_t name;
        const void *value;
    } pointers[] = {{CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector},
                    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux}};
    for (size_t i = 0; i < sizeof pointers / sizeof pointers[0]; i++)
        if (pointers[i].value)
            DT_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(m->desc, pointers[i].name, &pointers[i].value,
                                                         sizeof pointers[i].value));
    return DT_OK;
}

/* What an algorithm may count on. */
typedef struct wish {
    uint64_t bytes;      /* of workspace */
    uint32_t a, b, c, d; /* alignment */
} wish;

/* The algorithms that should be fastest; *n: how many. */
static cublasStatus_t ask(const dt_cuda *cu, const dt_blas_matmul *m, const wish *w, int cap,
                          cublasLtMatmulHeuristicResult_t *found, int *n) {
    static const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* no sums in 16 bits */
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t size;
    } attributes[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &w->bytes, sizeof w->bytes},
                      {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme, sizeof scheme},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &w->a, sizeof w->a},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &w->b, sizeof w->b},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &w->c, sizeof w->c},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &w->d, sizeof w->d}};
    cublasLtMatmulPreference_t pref = NULL;
    *n = 0;
    cublasStatus_t st = cublasLtMatmulPreferenceCreate(&pref);
    if (st != CUBLAS_STATUS_SUCCESS) return st;
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0] && st == CUBLAS_STATUS_SUCCESS; i++)
        st = cublasLtMatmulPreferenceSetAttribute(pref, attributes[i].name, attributes[i].value,
                                                  attributes[i].size);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulAlgoGetHeuristic(cu->blas, m->desc, m->a, m->b, m->d, m->d, pref, cap, found, n);
    (void)cublasLtMatmulPreferenceDestroy(pref);
    return st;
}

static int32_t find(const dt_cuda *cu, const dt_blas_matmul *m, const void *vector, const void *aux,
                    const wish *w, dt_blas_algos found) {
    int n, usable = 0;
    if (set_pointers(m, vector, aux) != DT_OK ||
        ask(cu, m, w, DT_BLAS_ALGOS, found, &n) != CUBLAS_STATUS_SUCCESS)
        return 0;
    for (int i = 0; i < n; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS) found[usable++] = found[i];
    return usable;
}

int32_t dt_blas_find(dt_cuda *cu, const dt_blas_matmul *m, const void *vector, dt_blas_algos found) {
    static const wish w = {DT_BLAS_WORKSPACE, ALIGN_WEIGHT, ALIGN, ALIGN, ALIGN};
    return find(cu, m, vector, NULL, &w, found);
}

static const wish anywhere = {32u << 20, 16, 16, 16, 16};

int32_t dt_blas_find_anywhere(dt_cuda *cu, const dt_blas_matmul *m, const void *vector, const void *aux,
                              dt_blas_algos found) {
    return find(cu, m, vector, aux, &anywhere, found);
}

dt_status dt_blas_first(dt_cuda *cu, dt_blas_matmul *m, const char *label) {
    cublasLtMatmulHeuristicResult_t found;
    int n;
    const cublasStatus_t st = ask(cu, m, &anywhere, 1, &found, &n);
    if (st != CUBLAS_STATUS_SUCCESS || n == 0)
        return dt_fail(DT_ERR_UNSUPPORTED, "cuBLASLt has no algorithm for %s: %s", label,
                       cublasLtGetStatusString(st));
    m->algo = found.algo;
    m->bytes = (int64_t)found.workspaceSize;
    return DT_OK;
}

dt_blas_matmul dt_blas_with(const dt_blas_matmul *m, const cublasLtMatmulHeuristicResult_t *algo) {
    dt_blas_matmul out = *m;
    out.algo = algo->algo;
    out.bytes = (int64_t)algo->workspaceSize;
    return out;
}

dt_status dt_blas_run(dt_cuda *cu, const dt_blas_matmul *m, const dt_blas_operands *o, cudaStream_t s) {
    const float one = 1.0f, zero = 0.0f;
    DT_TRY(set_pointers(m, o->vector, o->aux));
    DT_CUBLAS_TRY(cublasLtMatmul(cu->blas, m->desc, o->alpha ? o->alpha : &one, o->a, m->a, o->b, m->b,
                                 o->c ? &one : &zero, o->c ? o->c : o->d, m->d, o->d, m->d, &m->algo,
                                 o->workspace, (size_t)m->bytes, s));
    return DT_OK;
}

static int64_t part_bytes(const dt_blas_part *p) {
    return dt_round_up(p->n_elem * (int64_t)dt_dtype_size(p->t), ALIGN);
}

int64_t dt_blas_parts_bytes(const dt_blas_part *part, int32_t n) {
    int64_t bytes = 0;
    for (int32_t i = 0; i < n; i++) bytes += part_bytes(&part[i]);
    return bytes;
}

bool dt_blas_scratch_make(dt_blas_scratch *s, int64_t bytes) {
    *s = (dt_blas_scratch){0};
    return cudaMalloc((void **)&s->base, (size_t)bytes) == cudaSuccess &&
           cudaEventCreate(&s->begin) == cudaSuccess && cudaEventCreate(&s->end) == cudaSuccess;
}

void dt_blas_scratch_free(dt_blas_scratch *s) {
    (void)cudaFree(s->base);
    if (s->begin) (void)cudaEventDestroy(s->begin);
    if (s->end) (void)cudaEventDestroy(s->end);
    (void)cudaGetLastError(); /* out of memory is not sticky */
}

bool dt_blas_scratch_fill(dt_cuda *cu, const dt_blas_scratch *s, const dt_blas_part *part, int32_t n) {
    char *at = s->base;
    for (int32_t i = 0; i < n; at += part_bytes(&part[i++])) {
        *part[i].ptr = at;
        if (dt_gpu_fill_random(&cu->gpu, part[i].t, at, part[i].n_elem, (uint64_t)i + 1, cu->compute) !=
            cudaSuccess)
            return false;
    }
    return true;
}

/* The first run loads the kernels, and keeps the card busy while the others are queued. */
double dt_blas_time(dt_cuda *cu, const dt_blas_scratch *s, bool (*enqueue)(dt_cuda *cu, const void *arg),
                    const void *arg) {
    float ms = 0;
    if (!enqueue(cu, arg) || cudaEventRecord(s->begin, cu->compute) != cudaSuccess) return DT_BLAS_FAILED;
    for (int i = 0; i < RUNS; i++)
        if (!enqueue(cu, arg)) return DT_BLAS_FAILED;
    if (cudaEventRecord(s->end, cu->compute) != cudaSuccess || cudaEventSynchronize(s->end) != cudaSuccess ||
        cudaEventElapsedTime(&ms, s->begin, s->end) != cudaSuccess)
        return DT_BLAS_FAILED;
    const double open = (double)ms * 1e-3 / RUNS,
                 captured =
                     open < DT_TIMING_SMALL_S ? dt_timing_captured(cu, s->begin, s->end, enqueue, arg) : -1;
    return captured > 0 ? captured : open;
}

bool dt_blas_wins(const dt_cuda *cu, dt_blas_contest *c, double seconds) {
    c->n++;
    if (cu->take_candidate ? c->n != cu->take_candidate || seconds >= DT_BLAS_FAILED : seconds >= c->best_s)
        return false;
    c->best_s = seconds;
    return true;
}

dt_conv_spec dt_blas_key(dt_blas_kind kind, dt_dtype t, int64_t rows, int64_t c, int64_t k) {
    return (dt_conv_spec){.kind = (int32_t)kind, .dtype = (int32_t)t, .d = {.n = rows, .c = c, .k = k}};
}

bool dt_blas_recall(const dt_cuda *cu, const dt_conv_spec *key, dt_blas_choice *out) {
    const dt_algo_record *r = cu->take_candidate ? NULL : dt_algos_recall(cu, key);
    if (!r || r->choice.n_knob != VALUES || r->choice.value[VERSION] != (int64_t)cublasLtGetVersion())
        return false;
    *out = (dt_blas_choice){.form = (int32_t)r->choice.engine, .seconds = r->seconds};
    for (int i = 0; i < WORDS; i++) out->algo.data[i] = (uint64_t)r->choice.value[i];
    return true;
}

void dt_blas_remember(dt_cuda *cu, const dt_conv_spec *key, const dt_blas_choice *c) {
    dt_algo_record r = {.spec = *key, .usable = true};
    if (cu->take_candidate) return;
    if (c->seconds < DT_BLAS_FAILED) r.seconds = c->seconds;
    r.choice.engine = c->form;
    r.choice.n_knob = VALUES;
    for (int i = 0; i < WORDS; i++) r.choice.value[i] = (int64_t)c->algo.data[i];
    r.choice.value[VERSION] = (int64_t)cublasLtGetVersion();
    dt_algos_remember(cu, r);
}

bool dt_blas_restore(dt_cuda *cu, const cublasLtMatmulAlgo_t *algo, dt_blas_matmul *m) {
    cublasLtMatmulHeuristicResult_t found = {.algo = *algo};
    if (cublasLtMatmulAlgoCheck(cu->blas, m->desc, m->a, m->b, m->d, m->d, algo, &found) !=
            CUBLAS_STATUS_SUCCESS ||
        found.workspaceSize > DT_BLAS_WORKSPACE)
        return false;
    m->algo = *algo;
    m->bytes = (int64_t)found.workspaceSize;
    return true;
}

void dt_cuda_take_candidate(dt_backend *be, int32_t nth) {
    dt_cuda_of(be)->take_candidate = nth;
}

void dt_cuda_fail_first_list(dt_backend *be) {
    dt_cuda_of(be)->first_list_fails = true;
}
