/* Attention by tiles of ROWS queries and ROWS keys in shared memory: the way that takes every head size, mask and
 * type. Products of 16-bit tiles run on the matrix units, those of fp32 on plain multiply-adds; all sums are fp32.
 * A tile of queries is a block's forward and for dq, a tile of keys for dk and dv: no atomics, one order. */
#include <mma.h>

#include <type_traits>

#include "attention.cuh"

namespace {
using namespace dt;

constexpr int BLOCK = ATTENTION_BLOCK, UNIT = 16; /* UNIT: side of a matrix unit's tile */

/* ---- shared memory ---- */

enum Pass { FORWARD, BACKWARD_Q, BACKWARD_KV };

__host__ __device__ constexpr int whole_units(int64_t d) {
    return (int)((d + UNIT - 1) / UNIT * UNIT);
}

/* A block's memory. Pitches keep what the matrix units read aligned and neighbouring rows on different banks. */
template <typename T, int ROWS> struct Tiles {
    static constexpr bool NARROW = sizeof(T) == 2;
    static constexpr int SCORES = ROWS + 4, WEIGHTS = NARROW ? ROWS + 8 : ROWS + 1;
    int wide, pitch, sums;  /* D in whole units; elements of a row of q, k, v; floats of a row of a sum */
    T *q, *k, *v, *dy;      /* [ROWS][pitch] */
    T *weight, *slope;      /* [ROWS][WEIGHTS] */
    float *score, *dweight; /* [ROWS][SCORES] */
    float *sum, *sum2;      /* [ROWS][sums]: y; dq; dk and dv */
    int64_t bytes;

    template <typename U> __host__ __device__ U *take(char *base, int64_t n) {
        U *p = base ? (U *)(base + bytes) : nullptr;
        bytes += (n * (int64_t)sizeof(U) + 127) / 128 * 128;
        return p;
    }
    __host__ __device__ Tiles(char *base, int64_t d, Pass pass) : bytes(0) {
        wide = whole_units(d);
        pitch = NARROW ? wide + 8 : wide + 1;
        sums = wide + 4;
        q = take<T>(base, ROWS * pitch);
        k = take<T>(base, ROWS * pitch);
        v = take<T>(base, ROWS * pitch);
        dy = pass == FORWARD ? nullptr : take<T>(base, ROWS * pitch);
        weight = pass == BACKWARD_Q ? nullptr : take<T>(base, ROWS * WEIGHTS);
        slope = pass == FORWARD ? nullptr : take<T>(base, ROWS * WEIGHTS);
        score = take<float>(base, ROWS * SCORES);
        dweight = pass == FORWARD ? nullptr : take<float>(base, ROWS * SCORES);
        sum = take<float>(base, ROWS * sums);
        sum2 = pass == BACKWARD_KV ? take<float>(base, ROWS * sums) : nullptr;
    }
};

/* Rows [first, first + ROWS) of a head to shared memory; those from `end` on, and columns past d, are 0. */
template <int ROWS, typename T>
__device__ void load_tile(T *tile, int pitch, int wide, const T *x, int64_t x_row, int64_t first, int64_t end,
                          int d) {
    for (int i = threadIdx.x; i < ROWS * wide; i += BLOCK) {
        const int r = i / wide, c = i % wide;
        tile[r * pitch + c] = first + r < end && c < d ? x[(first + r) * x_row + c] : from_float<T>(0.0f);
    }
}

template <int ROWS> __device__ void clear_sum(float *sum, int n) {
    for (int i = threadIdx.x; i < ROWS * n; i += BLOCK) sum[i] = 0;
}

/* Rows that exist of a sum, times their factor, to memory. */
template <int ROWS, typename T>
__device__ void store_sum(T *y, int64_t y_row, const float *sum, int pitch, int64_t first, int64_t end, int d,
                          const float *factor) {
    for (int i = threadIdx.x; i < ROWS * d; i += BLOCK) {
        const int r = i / d, c = i % d;
        if (first + r < end)
            y[(first + r) * y_row + c] = from_float<T>(sum[r * pitch + c] * (factor ? factor[r] : 1.0f));
    }
}

/* ---- products of tiles ---- */

/* c [m,n] = or += op(a) op(b) over k, all multiples of UNIT. A_TURNED: a is [k,m]; B_TURNED: b is [n,k]. */
template <bool A_TURNED, bool B_TURNED, bool ADD, typename T>
__device__ void product_plain(float *c, int ldc, const T *a, int lda, const T *b, int ldb, int m, int n,
                              int k) {
    const int half = n / 2;
    for (int tile = threadIdx.x; tile < m / 4 * half; tile += BLOCK) {
        const int i = tile / half * 4, j = tile % half;
        float acc[4][2];
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int s = 0; s < 2; s++) acc[r][s] = ADD ? c[(i + r) * ldc + j + s * half] : 0.0f;
        for (int t = 0; t < k; t++) {
            float x[4], y[2];
#pragma unroll
            for (int r = 0; r < 4; r++) x[r] = to_float(A_TURNED ? a[t * lda + i + r] : a[(i + r) * lda + t]);
#pragma unroll
            for (int s = 0; s < 2; s++)
                y[s] = to_float(B_TURNED ? b[(j + s * half) * ldb + t] : b[t * ldb + j + s * half]);
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int s = 0; s < 2; s++) acc[r][s] = fmaf(x[r], y[s], acc[r][s]);
        }
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int s = 0; s < 2; s++) c[(i + r) * ldc + j + s * half] = acc[r][s];
    }
}

template <bool A_TURNED, bool B_TURNED, bool ADD, typename T>
__device__ void product_units(float *c, int ldc, const T *a, int lda, const T *b, int ldb, int m, int n,
                              int k) {
    using namespace nvcuda::wmma;
    using LayoutA = typename std::conditional<A_TURNED, col_major, row_major>::type;
    using LayoutB = typename std::conditional<B_TURNED, col_major, row_major>::type;
    const int across = n / UNIT;
    for (int tile = threadIdx.x / WARP; tile < m / UNIT * across; tile += BLOCK / WARP) {
        const int i = tile / across * UNIT, j = tile % across * UNIT;
        fragment<accumulator, UNIT, UNIT, UNIT, float> acc;
        if (ADD)
            load_matrix_sync(acc, c + i * ldc + j, ldc, mem_row_major);
        else
            fill_fragment(acc, 0.0f);
        for (int t = 0; t < k; t += UNIT) {
            fragment<matrix_a, UNIT, UNIT, UNIT, T, LayoutA> x;
            fragment<matrix_b, UNIT, UNIT, UNIT, T, LayoutB> y;
            load_matrix_sync(x, A_TURNED ? a + t * lda + i : a + i * lda + t, lda);
            load_matrix_sync(y, B_TURNED ? b + j * ldb + t : b + t * ldb + j, ldb);
            mma_sync(acc, x, y, acc);
        }
        store_matrix_sync(c + i * ldc + j, acc, ldc, mem_row_major);
    }
}

template <bool A_TURNED, bool B_TURNED, bool ADD, typename T>
__device__ void product(float *c, int ldc, const T *a, int lda, const T *b, int ldb, int m, int n, int k) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800 /* matrix units that know bf16 */
    if constexpr (sizeof(T) == 2) {
        product_units<A_TURNED, B_TURNED, ADD>(c, ldc, a, lda, b, ldb, m, n, k);
        return;
    }
#endif
    product_plain<A_TURNED, B_TURNED, ADD>(c, ldc, a, lda, b, ldb, m, n, k);
}

/* ---- forward ---- */

template <typename T, int ROWS>
__global__ void __launch_bounds__(BLOCK) attention_kernel(const dt_gpu_attention_args a) {
    extern __shared__ __align__(128) char smem[];
    constexpr int PARTS = BLOCK / ROWS, COLS = ROWS / PARTS;
    const dt_attention_dims &n = a.dims;
    const int d = (int)n.d, r = threadIdx.x / PARTS, part = threadIdx.x % PARTS;
    Tiles<T, ROWS> m(smem, n.d, FORWARD);
    const int64_t tiles = (n.t + ROWS - 1) / ROWS;
    const int64_t t0 = (tiles - 1 - blockIdx.x % tiles) * ROWS; /* causal, the last ones take longest */
    const int64_t head = blockIdx.x / tiles % n.heads, kv = head / (n.heads / n.kv_heads);
    const Row b(a, blockIdx.x / tiles / n.heads);
    const T *q = (const T *)a.q + b.row * n.t * n.q_row + head * d;
    const T *k = (const T *)a.k + b.row * n.s * n.kv_row + n.k_at + kv * d;
    const T *v = (const T *)a.v + b.row * n.s * n.kv_row + n.v_at + kv * d;
    const Query mine(a, b, t0 + r);
    Keep keep(a, b.row, head, t0 + r);
    const dt_attention_span span = b.tile_sees(a, t0, ROWS);
    float top = -INFINITY, total = 0;
    load_tile<ROWS>(m.q, m.pitch, m.wide, q, n.q_row, t0, b.n_q, d);
    clear_sum<ROWS>(m.sum, m.sums);
    for (int64_t s0 = span.begin / ROWS * ROWS; s0 < span.end; s0 += ROWS) {
        __syncthreads(); /* the tile before has been read */
        load_tile<ROWS>(m.k, m.pitch, m.wide, k, n.kv_row, s0, b.n_k, d);
        load_tile<ROWS>(m.v, m.pitch, m.wide, v, n.kv_row, s0, b.n_k, d);
        __syncthreads();
        product<false, true, false>(m.score, m.SCORES, m.q, m.pitch, m.k, m.pitch, ROWS, ROWS, m.wide);
        __syncthreads();
        float most = top, sum = 0;
        for (int j = 0; j < COLS; j++) {
            float &x = m.score[r * m.SCORES + part * COLS + j];
            x = mine.sees(s0 + part * COLS + j) ? x * n.scale : -INFINITY;
            most = fmaxf(most, x);
        }
        most = row_max<PARTS>(most);
        const float factor = most > top ? expf(top - most) : 1.0f;
        const float base = most == -INFINITY ? 0.0f : most; /* nobody seen yet */
        for (int j = 0; j < COLS; j++) {
            const float w = expf(m.score[r * m.SCORES + part * COLS + j] - base);
            sum += w;
            m.weight[r * m.WEIGHTS + part * COLS + j] = from_float<T>(w * keep.of(s0 + part * COLS + j));
        }
        total = total * factor + row_sum<PARTS>(sum);
        top = most;
        if (factor != 1.0f)
            for (int c = part; c < m.wide; c += PARTS) m.sum[r * m.sums + c] *= factor;
        __syncthreads();
        product<false, false, true>(m.sum, m.sums, m.weight, m.WEIGHTS, m.v, m.pitch, ROWS, m.wide, ROWS);
    }
    __syncthreads();
    float *factor = m.score; /* of a row: free by now */
    if (part == 0) {
        factor[r] = total > 0 ? 1.0f / total : 0.0f;
        if (t0 + r < n.t)
            a.lse[(b.row * n.heads + head) * n.t + t0 + r] = total > 0 ? top + logf(total) : -INFINITY;
    }
    __syncthreads();
    const int64_t y_row = n.heads * d;
    store_sum<ROWS>((T *)a.y + b.row * n.t * y_row + head * d, y_row, m.sum, m.sums, t0, n.t, d, factor);
}

/* ---- backward ---- */

/* The tile of weights (m.weight, what dropout leaves of them; absent for dq) and of the scores' gradients times
 * scale (m.slope), of the tiles that q, dy, k and v hold. */
template <typename T, int ROWS>
__device__ void differ(const dt_gpu_attention_args &a, Tiles<T, ROWS> &m, const Row &b, int64_t head,
                       int64_t t0, int64_t s0) {
    constexpr int PARTS = BLOCK / ROWS, COLS = ROWS / PARTS;
    const int r = threadIdx.x / PARTS, part = threadIdx.x % PARTS;
    const int64_t t = t0 + r, at = (b.row * a.dims.heads + head) * a.dims.t + t;
    const Query mine(a, b, t);
    Keep keep(a, b.row, head, t);
    const bool there = t < b.n_q;
    const float lse = there ? a.lse[at] : -INFINITY, delta = there ? a.delta[at] : 0.0f;
    product<false, true, false>(m.score, m.SCORES, m.q, m.pitch, m.k, m.pitch, ROWS, ROWS, m.wide);
    product<false, true, false>(m.dweight, m.SCORES, m.dy, m.pitch, m.v, m.pitch, ROWS, ROWS, m.wide);
    __syncthreads();
    for (int j = 0; j < COLS; j++) {
        const int c = part * COLS + j;
        const bool seen = lse > -INFINITY && mine.sees(s0 + c);
        const float w = seen ? expf(m.score[r * m.SCORES + c] * a.dims.scale - lse) : 0.0f;
        const float k = keep.of(s0 + c), dw = m.dweight[r * m.SCORES + c] * k;
        if (m.weight) m.weight[r * m.WEIGHTS + c] = from_float<T>(w * k);
        m.slope[r * m.WEIGHTS + c] = from_float<T>(seen ? w * (dw - delta) * a.dims.scale : 0.0f);
    }
    __syncthreads();
}

template <typename T, int ROWS>
__global__ void __launch_bounds__(BLOCK) attention_dq_kernel(const dt_gpu_attention_args a) {
    extern __shared__ __align__(128) char smem[];
    const dt_attention_dims &n = a.dims;
    const int d = (int)n.d;
    Tiles<T, ROWS> m(smem, n.d, BACKWARD_Q);
    const int64_t tiles = (n.t + ROWS - 1) / ROWS, y_row = n.heads * d;
    const int64_t t0 = (tiles - 1 - blockIdx.x % tiles) * ROWS;
    const int64_t head = blockIdx.x / tiles % n.heads, kv = head / (n.heads / n.kv_heads);
    const Row b(a, blockIdx.x / tiles / n.heads);
    const T *k = (const T *)a.k + b.row * n.s * n.kv_row + n.k_at + kv * d;
    const T *v = (const T *)a.v + b.row * n.s * n.kv_row + n.v_at + kv * d;
    const int64_t q_at = b.row * n.t * n.q_row + head * d, y_at = b.row * n.t * y_row + head * d;
    load_tile<ROWS>(m.q, m.pitch, m.wide, (const T *)a.q + q_at, n.q_row, t0, b.n_q, d);
    load_tile<ROWS>(m.dy, m.pitch, m.wide, (const T *)a.dy + y_at, y_row, t0, b.n_q, d);
    clear_sum<ROWS>(m.sum, m.sums);
    const dt_attention_span span = b.tile_sees(a, t0, ROWS);
    for (int64_t s0 = span.begin / ROWS * ROWS; s0 < span.end; s0 += ROWS) {
        __syncthreads();
        load_tile<ROWS>(m.k, m.pitch, m.wide, k, n.kv_row, s0, b.n_k, d);
        load_tile<ROWS>(m.v, m.pitch, m.wide, v, n.kv_row, s0, b.n_k, d);
        __syncthreads();
        differ(a, m, b, head, t0, s0);
        product<false, false, true>(m.sum, m.sums, m.slope, m.WEIGHTS, m.k, m.pitch, ROWS, m.wide, ROWS);
    }
    __syncthreads();
    store_sum<ROWS>((T *)a.dq + q_at, n.q_row, m.sum, m.sums, t0, n.t, d, nullptr);
}

template <typename T, int ROWS>
__global__ void __launch_bounds__(BLOCK) attention_dkv_kernel(const dt_gpu_attention_args a) {
    extern __shared__ __align__(128) char smem[];
    const dt_attention_dims &n = a.dims;
    const int d = (int)n.d;
    Tiles<T, ROWS> m(smem, n.d, BACKWARD_KV);
    const int64_t tiles = (n.s + ROWS - 1) / ROWS, y_row = n.heads * d, shared = n.heads / n.kv_heads;
    const int64_t s0 = blockIdx.x % tiles * ROWS, kv = blockIdx.x / tiles % n.kv_heads;
    const Row b(a, blockIdx.x / tiles / n.kv_heads);
    const int64_t k_at = b.row * n.s * n.kv_row + n.k_at + kv * d, v_at = k_at - n.k_at + n.v_at;
    load_tile<ROWS>(m.k, m.pitch, m.wide, (const T *)a.k + k_at, n.kv_row, s0, b.n_k, d);
    load_tile<ROWS>(m.v, m.pitch, m.wide, (const T *)a.v + v_at, n.kv_row, s0, b.n_k, d);
    clear_sum<ROWS>(m.sum, m.sums);
    clear_sum<ROWS>(m.sum2, m.sums);
    for (int64_t head = kv * shared; head < (kv + 1) * shared; head++)
        for (int64_t t0 = 0; t0 < b.n_q; t0 += ROWS) {
            const dt_attention_span span = b.tile_sees(a, t0, ROWS);
            if (span.begin >= s0 + ROWS || span.end <= s0) continue;
            const T *q = (const T *)a.q + b.row * n.t * n.q_row + head * d;
            const T *dy = (const T *)a.dy + b.row * n.t * y_row + head * d;
            __syncthreads();
            load_tile<ROWS>(m.q, m.pitch, m.wide, q, n.q_row, t0, b.n_q, d);
            load_tile<ROWS>(m.dy, m.pitch, m.wide, dy, y_row, t0, b.n_q, d);
            __syncthreads();
            differ(a, m, b, head, t0, s0);
            product<true, false, true>(m.sum, m.sums, m.slope, m.WEIGHTS, m.q, m.pitch, ROWS, m.wide, ROWS);
            product<true, false, true>(m.sum2, m.sums, m.weight, m.WEIGHTS, m.dy, m.pitch, ROWS, m.wide,
                                       ROWS);
        }
    __syncthreads();
    store_sum<ROWS>((T *)a.dk + k_at, n.kv_row, m.sum, m.sums, s0, n.s, d, nullptr);
    store_sum<ROWS>((T *)a.dv + v_at, n.kv_row, m.sum2, m.sums, s0, n.s, d, nullptr);
}

/* ---- launches ---- */

template <typename T, int ROWS> int64_t most_bytes(int64_t d, bool backward) {
    return Tiles<T, ROWS>(nullptr, d, backward ? BACKWARD_KV : FORWARD).bytes;
}

template <typename T, int ROWS> cudaError_t forward(const dt_gpu_attention_args &a, cudaStream_t s) {
    const dt_attention_dims &n = a.dims;
    return launch(attention_kernel<T, ROWS>, n.b * n.heads * ceil_div(n.t, ROWS),
                  Tiles<T, ROWS>(nullptr, n.d, FORWARD).bytes, a, s);
}

template <typename T, int ROWS> cudaError_t backward(const dt_gpu_attention_args &a, cudaStream_t s) {
    const dt_attention_dims &n = a.dims;
    cudaError_t err = attention_delta<T>(a, s);
    if (err == cudaSuccess)
        err = launch(attention_dkv_kernel<T, ROWS>, n.b * n.kv_heads * ceil_div(n.s, ROWS),
                     Tiles<T, ROWS>(nullptr, n.d, BACKWARD_KV).bytes, a, s);
    if (err == cudaSuccess)
        err = launch(attention_dq_kernel<T, ROWS>, n.b * n.heads * ceil_div(n.t, ROWS),
                     Tiles<T, ROWS>(nullptr, n.d, BACKWARD_Q).bytes, a, s);
    return err;
}

} // namespace

/* Runs the statement with ROWS a constant. */
#define WITH_ROWS(rows, ...)                                                                                 \
    do {                                                                                                     \
        if ((rows) == 64) {                                                                                  \
            constexpr int ROWS = 64;                                                                         \
            __VA_ARGS__;                                                                                     \
        } else if ((rows) == 32) {                                                                           \
            constexpr int ROWS = 32;                                                                         \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            constexpr int ROWS = 16;                                                                         \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

int64_t dt_gpu_attention_bytes(dt_dtype t, int64_t d, int32_t rows, bool backward) {
    DT_WITH_TYPE(t, WITH_ROWS(rows, return most_bytes<T, ROWS>(d, backward)));
}

cudaError_t dt_gpu_attention(dt_dtype t, const dt_gpu_attention_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, WITH_ROWS(a->rows, return forward<T, ROWS>(*a, s)));
}

cudaError_t dt_gpu_attention_bwd(dt_dtype t, const dt_gpu_attention_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, WITH_ROWS(a->rows, return backward<T, ROWS>(*a, s)));
}
