/* Attention of 16-bit types whose products stay in registers: a warp has 16 rows of a tile (forward: MT times 16), scores
 * become weights where the matrix unit left them, and those are the next product's operand as they lie. Keys and values, or
 * queries and gradients, come by asynchronous copies, a tile ahead. A tile of queries is a block's forward and for dq, a
 * tile of keys for dk and dv: no atomics, one order. */
#include "attention.cuh"

namespace {
using namespace dt;

constexpr int BLOCK = ATTENTION_BLOCK, WARPS = BLOCK / WARP, UNIT = 16, TILE = 64;
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

/* Rows of a tile in shared memory, D elements and a shift that puts the eight that one instruction reads on different
 * banks. */
template <int D> constexpr int PITCH = D + 8;

/* ---- the instructions ---- */

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define ON_800(...) __VA_ARGS__
#else
#define ON_800(...)
#endif

__device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}
/* 16 bytes to shared memory; zeros where they are not `there`. */
__device__ __forceinline__ void copy16(void *to, const void *from, bool there) {
    ON_800(asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                        "r"(there ? 16 : 0)
                        : "memory");)
}
__device__ __forceinline__ void end_copies() {
    ON_800(asm volatile("cp.async.commit_group;" ::: "memory");)
}
/* All groups but the last N have come. */
template <int N> __device__ __forceinline__ void await_copies() {
    ON_800(asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");)
}

/* Four 8x8 matrices, of each of which lanes 8 i to 8 i + 7 give the rows. */
struct Four {
    uint32_t r[4];
};
__device__ __forceinline__ Four read4(const void *p) {
    Four f = {};
    ON_800(asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                        : "=r"(f.r[0]), "=r"(f.r[1]), "=r"(f.r[2]), "=r"(f.r[3])
                        : "r"(shared_address(p))
                        : "memory");)
    return f;
}
__device__ __forceinline__ Four read4_turned(const void *p) {
    Four f = {};
    ON_800(asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                        : "=r"(f.r[0]), "=r"(f.r[1]), "=r"(f.r[2]), "=r"(f.r[3])
                        : "r"(shared_address(p))
                        : "memory");)
    return f;
}

/* c [16,8] += a [16,16] b [16,8]: rows g and g + 8 and columns 2 l and 2 l + 1 of c are a lane's, g = lane / 4, l = lane % 4. */
template <typename T>
__device__ __forceinline__ void multiply(float *c, const Four &a, uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void multiply<__half>(float *c, const Four &a, uint32_t b0, uint32_t b1) {
    ON_800(asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
               "{%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));)
}
template <>
__device__ __forceinline__ void multiply<__nv_bfloat16>(float *c, const Four &a, uint32_t b0, uint32_t b1) {
    ON_800(asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
               "{%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));)
}

template <typename T> __device__ __forceinline__ uint32_t pair(float low, float high) {
    const Pack<T, 2> p = {{from_float<T>(low), from_float<T>(high)}};
    return *reinterpret_cast<const uint32_t *>(&p);
}

/* 2^x, of x below 0 to 2^-22 of itself. */
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- tiles ---- */

/* ROWS rows of a head from `first` on, those from `end` on and columns from d on being 0. */
template <int D, int ROWS, typename T>
__device__ __forceinline__ void fetch(T *tile, const T *x, int64_t x_row, int64_t first, int64_t end, int d) {
    constexpr int ACROSS = D / 8;
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * ACROSS; i += BLOCK) {
        const int r = i / ACROSS, c = i % ACROSS * 8;
        const bool there = first + r < end && c < d;
        copy16(tile + r * PITCH<D> + c, there ? x + (first + r) * x_row + c : x, there);
    }
}

/* The 16x16 operand at row `row` and column `col` of a tile: its own rows; as rows of the second operand's columns; as
 * rows of what it sums over. */
template <int D, typename T> __device__ __forceinline__ Four rows_of(const T *tile, int row, int col) {
    const int lane = threadIdx.x % WARP;
    return read4(tile + (row + lane % 16) * PITCH<D> + col + lane / 16 * 8);
}
template <int D, typename T> __device__ __forceinline__ Four columns_of(const T *tile, int row, int col) {
    const int lane = threadIdx.x % WARP;
    return read4(tile + (row + lane / 16 * 8 + lane % 8) * PITCH<D> + col + lane / 8 % 2 * 8);
}
template <int D, typename T> __device__ __forceinline__ Four sums_of(const T *tile, int row, int col) {
    const int lane = threadIdx.x % WARP;
    return read4_turned(tile + (row + lane / 8 % 2 * 8 + lane % 8) * PITCH<D> + col + lane / 16 * 8);
}

/* c [MT 16, N] = a b^T: a from row `row` of its tile on, or kept, b the N rows of its tile; over D. */
template <int D, int MT, int N, typename T>
__device__ __forceinline__ void scores(float (*c)[N / 8][4], const T *a, int row, const T *b) {
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < N / 8; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) c[m][i][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < D; k += UNIT) {
        Four x[MT];
#pragma unroll
        for (int m = 0; m < MT; m++) x[m] = rows_of<D>(a, row + m * UNIT, k);
#pragma unroll
        for (int i = 0; i < N / UNIT; i++) {
            const Four y = columns_of<D>(b, i * UNIT, k);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                multiply<T>(c[m][2 * i], x[m], y.r[0], y.r[1]);
                multiply<T>(c[m][2 * i + 1], x[m], y.r[2], y.r[3]);
            }
        }
    }
}

/* c [MT 16, D] += w b: w as `scores` left it, rounded to T, b the N rows of its tile. */
template <int D, int MT, int N, typename T>
__device__ __forceinline__ void add_weighted(float (*c)[D / 8][4], float (*w)[N / 8][4], const T *b) {
#pragma unroll
    for (int k = 0; k < N / UNIT; k++) {
        Four x[MT];
#pragma unroll
        for (int m = 0; m < MT; m++) {
            const float *u = w[m][2 * k], *v = w[m][2 * k + 1];
            x[m] = {{pair<T>(u[0], u[1]), pair<T>(u[2], u[3]), pair<T>(v[0], v[1]), pair<T>(v[2], v[3])}};
        }
#pragma unroll
        for (int i = 0; i < D / UNIT; i++) {
            const Four y = sums_of<D>(b, k * UNIT, i * UNIT);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                multiply<T>(c[m][2 * i], x[m], y.r[0], y.r[1]);
                multiply<T>(c[m][2 * i + 1], x[m], y.r[2], y.r[3]);
            }
        }
    }
}

template <int D> __device__ __forceinline__ void clear(float (*c)[4]) {
#pragma unroll
    for (int i = 0; i < D / 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) c[i][e] = 0.0f;
}

/* A lane's two rows of a sum, those before `end`, times their factors, to memory. */
template <int D, typename T>
__device__ __forceinline__ void store_rows(T *y, int64_t y_row, float (*c)[4], int64_t row, int64_t end,
                                           int d, float factor0, float factor1) {
    const int col = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
        if (i * 8 >= d) break;
        if (row < end)
            *(uint32_t *)(y + row * y_row + i * 8 + col) = pair<T>(c[i][0] * factor0, c[i][1] * factor0);
        if (row + 8 < end)
            *(uint32_t *)(y + (row + 8) * y_row + i * 8 + col) =
                pair<T>(c[i][2] * factor1, c[i][3] * factor1);
    }
}

/* Over the four lanes of a row. */
__device__ __forceinline__ float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

/* Whether all queries [t0, t0 + rows) see all keys [s0, s0 + keys). */
__device__ __forceinline__ bool sees_all(const dt_gpu_attention_args &a, const Row &b, int64_t t0, int rows,
                                         int64_t s0, int keys) {
    if (b.segments || t0 + rows > b.n_q) return false;
    return dt_attention_sees(&a.dims, t0, b.n_q, b.n_k).end >= s0 + keys &&
           dt_attention_sees(&a.dims, t0 + rows - 1, b.n_q, b.n_k).begin <= s0;
}

/* ---- forward ---- */

template <int D, int MT> struct ForwardTiles {
    static constexpr int ROWS = WARPS * UNIT * MT;
    static constexpr int64_t BYTES = (int64_t)(ROWS + 4 * TILE) * PITCH<D> * 2;
};

template <typename T, int D, int MT, bool DROPS>
__global__ void __launch_bounds__(BLOCK) mma_forward_kernel(const dt_gpu_attention_args a) {
    extern __shared__ __align__(128) char smem[];
    constexpr int ROWS = ForwardTiles<D, MT>::ROWS, P = PITCH<D>, N = TILE / 8;
    const dt_attention_dims &n = a.dims;
    const int d = (int)n.d, lane = threadIdx.x % WARP, row = threadIdx.x / WARP * UNIT * MT;
    T *const tq = (T *)smem, *const tk = tq + ROWS * P, *const tv = tk + 2 * TILE * P;
    const int64_t tiles = (n.t + ROWS - 1) / ROWS;
    const int64_t t0 = (tiles - 1 - blockIdx.x % tiles) * ROWS; /* causal, the last ones take longest */
    const int64_t head = blockIdx.x / tiles % n.heads, kv = head / (n.heads / n.kv_heads);
    const Row b(a, blockIdx.x / tiles / n.heads);
    const T *q = (const T *)a.q + b.row * n.t * n.q_row + head * d;
    const T *k = (const T *)a.k + b.row * n.s * n.kv_row + n.k_at + kv * d;
    const T *v = (const T *)a.v + b.row * n.s * n.kv_row + n.v_at + kv * d;
    const dt_attention_span span = b.tile_sees(a, t0, ROWS);
    const int64_t first = span.begin / TILE * TILE;
    const float scale = n.scale * LOG2E;
    float y[MT][D / 8][4], w[MT][N][4], top[MT][2], total[MT][2];
#pragma unroll
    for (int m = 0; m < MT; m++) {
        clear<D>(y[m]);
        top[m][0] = top[m][1] = -INFINITY, total[m][0] = total[m][1] = 0.0f;
    }
    if (first < span.end) {
        fetch<D, ROWS>(tq, q, n.q_row, t0, b.n_q, d);
        fetch<D, TILE>(tk, k, n.kv_row, first, b.n_k, d);
        fetch<D, TILE>(tv, v, n.kv_row, first, b.n_k, d);
    }
    end_copies();
    int turn = 0;
    for (int64_t s0 = first; s0 < span.end; s0 += TILE, turn ^= 1) {
        const T *const key = tk + turn * TILE * P, *const value = tv + turn * TILE * P;
        if (s0 + TILE < span.end) {
            fetch<D, TILE>(tk + (turn ^ 1) * TILE * P, k, n.kv_row, s0 + TILE, b.n_k, d);
            fetch<D, TILE>(tv + (turn ^ 1) * TILE * P, v, n.kv_row, s0 + TILE, b.n_k, d);
        }
        end_copies();
        await_copies<1>();
        __syncthreads();
        scores<D, MT, TILE>(w, tq, row, key);
        const bool all = sees_all(a, b, t0, ROWS, s0, TILE);
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) { /* rows g and g + 8 */
                const int64_t t = t0 + row + m * UNIT + lane / 4 + h * 8;
                const Query mine(a, b, t);
                float most = top[m][h], sum = 0.0f;
#pragma unroll
                for (int i = 0; i < N; i++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float &x = w[m][i][2 * h + e];
                        x *= scale;
                        if (!all && !mine.sees(s0 + i * 8 + lane % 4 * 2 + e)) x = -INFINITY;
                        most = fmaxf(most, x);
                    }
                most = quad_max(most);
                const float base = most == -INFINITY ? 0.0f : most; /* nobody seen yet */
                const float factor = exp2_fast(top[m][h] - base);
#pragma unroll
                for (int i = 0; i < N; i++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float &x = w[m][i][2 * h + e];
                        x = exp2_fast(x - base);
                        sum += x;
                    }
                if (DROPS) {
                    Keep keep(a, b.row, head, t);
#pragma unroll
                    for (int i = 0; i < N; i++)
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            w[m][i][2 * h + e] *= keep.of(s0 + i * 8 + lane % 4 * 2 + e);
                }
                total[m][h] = total[m][h] * factor + sum;
                top[m][h] = most;
#pragma unroll
                for (int i = 0; i < D / 8; i++) y[m][i][2 * h] *= factor, y[m][i][2 * h + 1] *= factor;
            }
        add_weighted<D, MT, TILE>(y, w, value);
        __syncthreads(); /* the tile has been read */
    }
    const int64_t y_row = n.heads * d;
    T *const out = (T *)a.y + b.row * n.t * y_row + head * d;
#pragma unroll
    for (int m = 0; m < MT; m++) {
        const int64_t t = t0 + row + m * UNIT + lane / 4;
        float factor[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float sum = quad_sum(total[m][h]);
            factor[h] = sum > 0.0f ? 1.0f / sum : 0.0f;
            if (lane % 4 == 0 && t + h * 8 < n.t)
                a.lse[(b.row * n.heads + head) * n.t + t + h * 8] =
                    sum > 0.0f ? top[m][h] * LN2 + logf(sum) : -INFINITY;
        }
        store_rows<D>(out, y_row, y[m], t, n.t, d, factor[0], factor[1]);
    }
}

/* ---- backward ---- */

/* Both passes: two tiles that stay, two pairs of tiles that pass. */
template <int D> constexpr int64_t BACKWARD_BYTES = (int64_t)6 * TILE *PITCH<D> * 2;

template <typename T, int D, bool DROPS>
__global__ void __launch_bounds__(BLOCK, D == 64 && !DROPS ? 3 : 1)
    mma_dq_kernel(const dt_gpu_attention_args a) {
    extern __shared__ __align__(128) char smem[];
    constexpr int P = PITCH<D>, N = TILE / 8;
    const dt_attention_dims &n = a.dims;
    const int d = (int)n.d, lane = threadIdx.x % WARP, row = threadIdx.x / WARP * UNIT;
    T *const tq = (T *)smem, *const tdy = tq + TILE * P, *const tk = tdy + TILE * P,
             *const tv = tk + 2 * TILE * P;
    const int64_t tiles = (n.t + TILE - 1) / TILE, y_row = n.heads * d;
    const int64_t t0 = (tiles - 1 - blockIdx.x % tiles) * TILE;
    const int64_t head = blockIdx.x / tiles % n.heads, kv = head / (n.heads / n.kv_heads);
    const Row b(a, blockIdx.x / tiles / n.heads);
    const T *k = (const T *)a.k + b.row * n.s * n.kv_row + n.k_at + kv * d;
    const T *v = (const T *)a.v + b.row * n.s * n.kv_row + n.v_at + kv * d;
    const int64_t q_at = b.row * n.t * n.q_row + head * d, y_at = b.row * n.t * y_row + head * d;
    const dt_attention_span span = b.tile_sees(a, t0, TILE);
    const int64_t first = span.begin / TILE * TILE;
    const float scale = n.scale * LOG2E;
    float dq[1][D / 8][4], w[1][N][4], dw[1][N][4], less[2], delta[2];
    clear<D>(dq[0]);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64_t t = t0 + row + lane / 4 + h * 8, at = (b.row * n.heads + head) * n.t + t;
        const float lse = t < b.n_q ? a.lse[at] : -INFINITY;
        less[h] = lse > -INFINITY ? lse * LOG2E : INFINITY; /* a query that sees nothing has weights of 0 */
        delta[h] = t < b.n_q ? a.delta[at] : 0.0f;
    }
    if (first < span.end) {
        fetch<D, TILE>(tq, (const T *)a.q + q_at, n.q_row, t0, b.n_q, d);
        fetch<D, TILE>(tdy, (const T *)a.dy + y_at, y_row, t0, b.n_q, d);
        fetch<D, TILE>(tk, k, n.kv_row, first, b.n_k, d);
        fetch<D, TILE>(tv, v, n.kv_row, first, b.n_k, d);
    }
    end_copies();
    int turn = 0;
    for (int64_t s0 = first; s0 < span.end; s0 += TILE, turn ^= 1) {
        const T *const key = tk + turn * TILE * P, *const value = tv + turn * TILE * P;
        if (s0 + TILE < span.end) {
            fetch<D, TILE>(tk + (turn ^ 1) * TILE * P, k, n.kv_row, s0 + TILE, b.n_k, d);
            fetch<D, TILE>(tv + (turn ^ 1) * TILE * P, v, n.kv_row, s0 + TILE, b.n_k, d);
        }
        end_copies();
        await_copies<1>();
        __syncthreads();
        scores<D, 1, TILE>(w, tq, row, key);
        scores<D, 1, TILE>(dw, tdy, row, value);
        const bool all = sees_all(a, b, t0, TILE, s0, TILE);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t t = t0 + row + lane / 4 + h * 8;
            const Query mine(a, b, t);
            Keep keep(a, b.row, head, t);
#pragma unroll
            for (int i = 0; i < N; i++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int64_t s = s0 + i * 8 + lane % 4 * 2 + e;
                    float &x = w[0][i][2 * h + e];
                    const float k_of = DROPS ? keep.of(s) : 1.0f, p = exp2_fast(x * scale - less[h]);
                    x = all || mine.sees(s) ? p * (dw[0][i][2 * h + e] * k_of - delta[h]) * n.scale : 0.0f;
                }
        }
        add_weighted<D, 1, TILE>(dq, w, key);
        __syncthreads();
    }
    store_rows<D>((T *)a.dq + q_at, n.q_row, dq[0], t0 + row + lane / 4, n.t, d, 1.0f, 1.0f);
}

/* What a query brings to a tile of keys. */
struct Asking {
    float less, delta; /* less: log2 of its sum, infinite where it sees nothing */
    int32_t begin, end, segment;
};

template <typename T, int D, bool DROPS>
__global__ void __launch_bounds__(BLOCK) mma_dkv_kernel(const dt_gpu_attention_args a) {
    extern __shared__ __align__(128) char smem[];
    __shared__ Asking asking[2][TILE];
    constexpr int P = PITCH<D>, N = TILE / 8;
    const dt_attention_dims &n = a.dims;
    const int d = (int)n.d, lane = threadIdx.x % WARP, row = threadIdx.x / WARP * UNIT;
    T *const tk = (T *)smem, *const tv = tk + TILE * P, *const tq = tv + TILE * P,
             *const tdy = tq + 2 * TILE * P;
    const int64_t tiles = (n.s + TILE - 1) / TILE, y_row = n.heads * d, shared = n.heads / n.kv_heads;
    const int64_t s0 = blockIdx.x % tiles * TILE, kv = blockIdx.x / tiles % n.kv_heads;
    const Row b(a, blockIdx.x / tiles / n.kv_heads);
    const int64_t k_at = b.row * n.s * n.kv_row + n.k_at + kv * d, v_at = k_at - n.k_at + n.v_at;
    const int64_t query_tiles = (b.n_q + TILE - 1) / TILE, all_tiles = shared * query_tiles;
    const float scale = n.scale * LOG2E;
    float dk[1][D / 8][4], dv[1][D / 8][4], w[1][N][4], dw[1][N][4];
    clear<D>(dk[0]);
    clear<D>(dv[0]);
    /* The next tile of queries, head after head, of which any sees these keys. */
    const auto next = [&](int64_t i) {
        for (; i < all_tiles; i++) {
            const dt_attention_span span = b.tile_sees(a, i % query_tiles * TILE, TILE);
            if (span.begin < s0 + TILE && span.end > s0) break;
        }
        return i;
    };
    const auto take = [&](int64_t i, int turn) {
        const int64_t head = kv * shared + i / query_tiles, t0 = i % query_tiles * TILE;
        fetch<D, TILE>(tq + turn * TILE * P, (const T *)a.q + b.row * n.t * n.q_row + head * d, n.q_row, t0,
                       b.n_q, d);
        fetch<D, TILE>(tdy + turn * TILE * P, (const T *)a.dy + b.row * n.t * y_row + head * d, y_row, t0,
                       b.n_q, d);
        if (threadIdx.x >= TILE) return;
        const int64_t t = t0 + threadIdx.x, at = (b.row * n.heads + head) * n.t + t;
        Asking x = {INFINITY, 0.0f, 0, 0, 0};
        if (t < b.n_q) {
            const float lse = a.lse[at];
            const dt_attention_span span = dt_attention_sees(&n, t, b.n_q, b.n_k);
            if (lse > -INFINITY) x.less = lse * LOG2E;
            x.delta = a.delta[at], x.begin = (int32_t)span.begin, x.end = (int32_t)span.end;
            if (b.segments) x.segment = b.segments[t];
        }
        asking[turn][threadIdx.x] = x;
    };
    int64_t now = next(0);
    if (now < all_tiles) {
        fetch<D, TILE>(tk, (const T *)a.k + k_at, n.kv_row, s0, b.n_k, d);
        fetch<D, TILE>(tv, (const T *)a.v + v_at, n.kv_row, s0, b.n_k, d);
        take(now, 0);
    }
    end_copies();
    for (int turn = 0; now < all_tiles; turn ^= 1) {
        const int64_t later = next(now + 1), head = kv * shared + now / query_tiles,
                      t0 = now % query_tiles * TILE;
        const T *const query = tq + turn * TILE * P, *const slope = tdy + turn * TILE * P;
        if (later < all_tiles) take(later, turn ^ 1);
        end_copies();
        await_copies<1>();
        __syncthreads();
        scores<D, 1, TILE>(w, tk, row, query); /* [keys, queries] */
        scores<D, 1, TILE>(dw, tv, row, slope);
        const bool all = sees_all(a, b, t0, TILE, s0, TILE);
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int c = i * 8 + lane % 4 * 2 + e;
                const Asking &of = asking[turn][c];
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int64_t s = s0 + row + lane / 4 + h * 8;
                    const bool seen =
                        all || (s >= of.begin && s < of.end && (!b.segments || b.segments[s] == of.segment));
                    const float p = seen ? exp2_fast(w[0][i][2 * h + e] * scale - of.less) : 0.0f;
                    float keep = 1.0f;
                    if (DROPS) keep = Keep(a, b.row, head, t0 + c).of(s);
                    const float slope_of = p * (dw[0][i][2 * h + e] * keep - of.delta) * n.scale;
                    w[0][i][2 * h + e] = p * keep;
                    dw[0][i][2 * h + e] = slope_of;
                }
            }
        add_weighted<D, 1, TILE>(dv, w, slope);
        add_weighted<D, 1, TILE>(dk, dw, query);
        __syncthreads();
        now = later;
    }
    const int64_t s = s0 + row + lane / 4;
    store_rows<D>((T *)a.dk + k_at, n.kv_row, dk[0], s, n.s, d, 1.0f, 1.0f);
    store_rows<D>((T *)a.dv + v_at, n.kv_row, dv[0], s, n.s, d, 1.0f, 1.0f);
}

/* ---- launches ---- */

template <typename T, int D, int MT, bool DROPS>
cudaError_t forward(const dt_gpu_attention_args &a, cudaStream_t s) {
    const dt_attention_dims &n = a.dims;
    return launch(mma_forward_kernel<T, D, MT, DROPS>,
                  n.b * n.heads * ceil_div(n.t, ForwardTiles<D, MT>::ROWS), ForwardTiles<D, MT>::BYTES, a, s);
}

template <typename T, int D, bool DROPS>
cudaError_t backward(const dt_gpu_attention_args &a, cudaStream_t s) {
    const dt_attention_dims &n = a.dims;
    cudaError_t err = attention_delta<T>(a, s);
    if (err == cudaSuccess)
        err = launch(mma_dkv_kernel<T, D, DROPS>, n.b * n.kv_heads * ceil_div(n.s, TILE), BACKWARD_BYTES<D>,
                     a, s);
    if (err == cudaSuccess)
        err =
            launch(mma_dq_kernel<T, D, DROPS>, n.b * n.heads * ceil_div(n.t, TILE), BACKWARD_BYTES<D>, a, s);
    return err;
}

template <typename T, bool DROPS>
cudaError_t either(const dt_gpu_attention_args &a, bool back, cudaStream_t s) {
    if (a.dims.d <= 64) return back ? backward<T, 64, DROPS>(a, s) : forward<T, 64, 2, DROPS>(a, s);
    return back ? backward<T, 128, DROPS>(a, s) : forward<T, 128, 1, DROPS>(a, s);
}

template <typename T> cudaError_t any(const dt_gpu_attention_args &a, bool back, cudaStream_t s) {
    return a.dims.p > 0.0f ? either<T, true>(a, back, s) : either<T, false>(a, back, s);
}

} // namespace

bool dt_gpu_attention_mma_takes(dt_dtype t, const dt_attention_dims *a) {
    cudaFuncAttributes code;
    if ((t != DT_DTYPE_F16 && t != DT_DTYPE_BF16) || a->d > 128) return false;
    if ((a->d | a->q_row | a->kv_row | a->k_at | a->v_at) % 8) return false; /* 16 bytes at once */
    /* Machine code of older cards has none of these instructions. */
    return cudaFuncGetAttributes(&code, mma_dq_kernel<__half, 64, false>) == cudaSuccess &&
           code.ptxVersion >= 80 &&
           cudaFuncSetAttribute(mma_dkv_kernel<__half, 128, false>,
                                cudaFuncAttributeMaxDynamicSharedMemorySize,
                                (int)BACKWARD_BYTES<128>) == cudaSuccess;
}

cudaError_t dt_gpu_attention_mma(dt_dtype t, const dt_gpu_attention_args *a, bool back, cudaStream_t s) {
    return t == DT_DTYPE_F16 ? any<__half>(*a, back, s) : any<__nv_bfloat16>(*a, back, s);
}
