/* The two large products of BN from Gram matrices through cuBLASLt, where one of its algorithms is faster
 * than gram_mma.cu: timed once per shape on scratch memory. Not under train.deterministic: there the choice
 * would have to be the same in every run.
 *
 * cuBLASLt counts columns first, so a row-major [m,c] is its c x m matrix. */
#include <stdlib.h>
#include <string.h>

#include "gram.h"
#include "lower.h"

enum { CANDIDATES = 8, RUNS = 3 };
static const uint64_t WORKSPACE_LIMIT = 64u << 20;

/* A shape and what was chosen for it; kept by the backend. */
struct dt_gram_choice {
    dt_gram_choice *next;
    dt_dtype t;
    bool cross;
    int64_t rows, k, c;
    dt_blas_product blas;
};

static cudaDataType_t data_type(dt_dtype t) {
    return t == DT_DTYPE_F16 ? CUDA_R_16F : t == DT_DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static void release_matmul(void *ptr) {
    (void)cublasLtMatmulDescDestroy(ptr);
}
static void release_layout(void *ptr) {
    (void)cublasLtMatrixLayoutDestroy(ptr);
}

static dt_status layout(dt_cuda *cu, dt_dtype t, int64_t rows, int64_t cols, cublasLtMatrixLayout_t *out) {
    DT_CUBLAS_TRY(cublasLtMatrixLayoutCreate(out, data_type(t), (uint64_t)rows, (uint64_t)cols, rows));
    return dt_cuda_adopt(cu, *out, release_layout);
}

/* P^T [c,k] = x [c,m] dz[k,m]^T in fp32, or dx^T [c,m] = wa [c,k] dz [k,m]. */
static dt_status describe(dt_cuda *cu, dt_gram_choice *q) {
    dt_blas_product *b = &q->blas;
    const cublasOperation_t op_b = q->cross ? CUBLAS_OP_T : CUBLAS_OP_N;
    DT_CUBLAS_TRY(cublasLtMatmulDescCreate(&b->matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    DT_TRY(dt_cuda_adopt(cu, b->matmul, release_matmul));
    DT_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(b->matmul, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b));
    DT_TRY(layout(cu, q->t, q->c, q->cross ? q->rows : q->k, &b->a));
    DT_TRY(layout(cu, q->t, q->k, q->rows, &b->b));
    return layout(cu, q->cross ? DT_DTYPE_F32 : q->t, q->c, q->cross ? q->k : q->rows, &b->d);
}

static int candidates(dt_cuda *cu, const dt_blas_product *b, cublasLtMatmulHeuristicResult_t *found) {
    cublasLtMatmulPreference_t pref = NULL;
    const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* no sums in 16 bits */
    int n = 0;
    if (cublasLtMatmulPreferenceCreate(&pref) != CUBLAS_STATUS_SUCCESS) return 0;
    cublasStatus_t st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                             &WORKSPACE_LIMIT, sizeof WORKSPACE_LIMIT);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme,
                                                  sizeof scheme);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulAlgoGetHeuristic(cu->blas, b->matmul, b->a, b->b, b->d, b->d, pref, CANDIDATES,
                                            found, &n);
    (void)cublasLtMatmulPreferenceDestroy(pref);
    return st == CUBLAS_STATUS_SUCCESS ? n : 0;
}

/* Operands for timing. */
typedef struct scratch {
    void *dz, *x, *w, *out, *workspace;
    float *scale;
    cudaEvent_t begin, end;
} scratch;

static bool scratch_make(dt_cuda *cu, const dt_gram_choice *q, scratch *s) {
    const int64_t k = q->rows * q->k, c = q->rows * q->c, w = q->k * q->c, square = q->c * q->c;
    const int64_t own = dt_gpu_cross_bytes(&cu->gpu, q->rows, q->k, q->c);
    const size_t t = dt_dtype_size(q->t);
    const struct part {
        void **ptr;
        int64_t n_elem;
        dt_dtype t;
    } parts[] = {{&s->dz, k, q->t},
                 {&s->x, c, q->t},
                 {&s->w, w + square, q->t},
                 {(void **)&s->scale, q->c, DT_DTYPE_F32}};
    memset(s, 0, sizeof *s);
    bool ok = cudaEventCreate(&s->begin) == cudaSuccess && cudaEventCreate(&s->end) == cudaSuccess &&
              cudaMalloc(&s->out, q->cross ? (size_t)w * sizeof(float) : (size_t)c * t) == cudaSuccess &&
              cudaMalloc(&s->workspace, (size_t)dt_max_i64(own, (int64_t)WORKSPACE_LIMIT)) == cudaSuccess;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && ok; i++)
        ok = cudaMalloc(parts[i].ptr, (size_t)parts[i].n_elem * dt_dtype_size(parts[i].t)) == cudaSuccess &&
             dt_gpu_fill_random(&cu->gpu, parts[i].t, *parts[i].ptr, parts[i].n_elem, i + 1, cu->compute) ==
                 cudaSuccess;
    return ok;
}

static void scratch_free(scratch *s) {
    void *const all[] = {s->dz, s->x, s->w, s->out, s->workspace, s->scale};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) (void)cudaFree(all[i]);
    if (s->begin) (void)cudaEventDestroy(s->begin);
    if (s->end) (void)cudaEventDestroy(s->end);
    (void)cudaGetLastError(); /* out of memory is not sticky */
}

/* The product once, through cuBLASLt, with what must follow it; or by our kernels. */
static bool run_once(dt_cuda *cu, const dt_gram_choice *q, const scratch *s, const cublasLtMatmulAlgo_t *algo,
                     size_t bytes) {
    const dt_gpu_cross_args cross = {.a = s->dz,
                                     .b = s->x,
                                     .out = s->out,
                                     .workspace = s->workspace,
                                     .rows = q->rows,
                                     .ka = q->k,
                                     .kb = q->c};
    dt_gpu_rows_args rows = {.a1 = s->x,
                             .b1 = (char *)s->w + q->k * q->c * (int64_t)dt_dtype_size(q->t),
                             .scale = s->scale,
                             .out = s->out,
                             .rows = q->rows,
                             .k1 = q->c,
                             .n = q->c};
    if (algo) {
        dt_blas_product b = q->blas;
        b.algo = *algo;
        b.bytes = bytes;
        if (dt_blas_product_run(cu, &b, q->cross ? s->x : s->w, s->dz, s->out, s->workspace, cu->compute) !=
            DT_OK)
            return false;
        rows.base = s->out;
        return q->cross || dt_gpu_rows(&cu->gpu, q->t, &rows, cu->compute) == cudaSuccess;
    }
    if (q->cross) return dt_gpu_cross(&cu->gpu, q->t, &cross, cu->compute) == cudaSuccess;
    rows.a2 = s->dz;
    rows.b2 = s->w;
    rows.k2 = q->k;
    return dt_gpu_rows(&cu->gpu, q->t, &rows, cu->compute) == cudaSuccess;
}

/* Seconds of a run; huge where it fails. */
static double time_of(dt_cuda *cu, const dt_gram_choice *q, const scratch *s,
                      const cublasLtMatmulAlgo_t *algo, size_t bytes) {
    double best = 1e30;
    if (!run_once(cu, q, s, algo, bytes)) return best;
    for (int i = 0; i < RUNS; i++) {
        float ms = 0;
        if (cudaEventRecord(s->begin, cu->compute) != cudaSuccess || !run_once(cu, q, s, algo, bytes) ||
            cudaEventRecord(s->end, cu->compute) != cudaSuccess ||
            cudaEventSynchronize(s->end) != cudaSuccess ||
            cudaEventElapsedTime(&ms, s->begin, s->end) != cudaSuccess)
            return 1e30;
        if ((double)ms < best) best = (double)ms;
    }
    return best;
}

static void choose(dt_cuda *cu, dt_gram_choice *q) {
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    scratch s;
    const int n = candidates(cu, &q->blas, found);
    if (scratch_make(cu, q, &s)) {
        double best = time_of(cu, q, &s, NULL, 0);
        for (int i = 0; i < n; i++) {
            if (found[i].state != CUBLAS_STATUS_SUCCESS) continue;
            double t = time_of(cu, q, &s, &found[i].algo, found[i].workspaceSize);
            if (t >= best) continue;
            best = t;
            q->blas.use = true;
            q->blas.algo = found[i].algo;
            q->blas.bytes = found[i].workspaceSize;
        }
    }
    scratch_free(&s);
}

dt_status dt_blas_product_choose(dt_cuda *cu, dt_dtype t, bool cross, int64_t rows, int64_t k, int64_t c,
                                 dt_blas_product *out) {
    *out = (dt_blas_product){0};
    if (cu->deterministic || t == DT_DTYPE_F32 || k % 8 || c % 8) return DT_OK;
    dt_gram_choice *q = cu->gram_choice;
    while (q && (q->t != t || q->cross != cross || q->rows != rows || q->k != k || q->c != c)) q = q->next;
    if (!q) {
        DT_TRY(dt_cuda_own(cu, sizeof *q, (void **)&q));
        q->t = t, q->cross = cross, q->rows = rows, q->k = k, q->c = c;
        DT_TRY(describe(cu, q));
        choose(cu, q);
        q->next = cu->gram_choice;
        cu->gram_choice = q;
    }
    *out = q->blas;
    return DT_OK;
}

dt_status dt_blas_product_run(dt_cuda *cu, const dt_blas_product *b, const void *first, const void *dz,
                              void *out, void *workspace, cudaStream_t s) {
    const float one = 1.0f, zero = 0.0f;
    DT_CUBLAS_TRY(cublasLtMatmul(cu->blas, b->matmul, &one, first, b->a, dz, b->b, &zero, out, b->d, out,
                                 b->d, &b->algo, workspace, b->bytes, s));
    return DT_OK;
}
