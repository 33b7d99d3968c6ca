/* Typed 16-byte vectors, conversions and launch sizes shared by the kernels. */
#ifndef DT_GPU_VEC_CUH
#define DT_GPU_VEC_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels.h"

namespace dt {

constexpr int THREADS = 256;

template <typename T> constexpr int WIDE = 16 / (int)sizeof(T); /* elements of a 16-byte vector */

__device__ __forceinline__ float to_float(float x) {
    return x;
}
__device__ __forceinline__ float to_float(__half x) {
    return __half2float(x);
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ __half from_float<__half>(float x) {
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

/* V elements moved as one access. */
template <typename T, int V> struct alignas(sizeof(T) * V) Pack { T v[V]; };

template <typename T, int V> __device__ __forceinline__ Pack<T, V> load(const T *p) {
    return *reinterpret_cast<const Pack<T, V> *>(p);
}
template <typename T, int V> __device__ __forceinline__ void store(T *p, const Pack<T, V> &v) {
    *reinterpret_cast<Pack<T, V> *>(p) = v;
}

inline bool aligned16(const void *p) {
    return ((uintptr_t)p & 15) == 0;
}
inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
inline int64_t gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}
/* Blocks for a grid-stride loop over n items with `unroll` items in flight per thread. */
inline unsigned grid_for(const dt_gpu *gpu, int64_t n, int unroll) {
    int64_t blocks = ceil_div(n, (int64_t)THREADS * unroll), limit = (int64_t)gpu->sm_count * 32;
    return (unsigned)(blocks < 1 ? 1 : blocks < limit ? blocks : limit);
}
/* The same, so that a thread's stride is a multiple of the c_vec vectors of a row: its channels never
 * change. */
inline unsigned grid_for_rows(const dt_gpu *gpu, int64_t n, int64_t c_vec, int unroll) {
    int64_t multiple = c_vec / gcd(c_vec, THREADS);
    return (unsigned)(ceil_div(grid_for(gpu, n, unroll), multiple) * multiple);
}
/* For sums down the columns of rows x c_vec vectors: blocks of up to tile_vecs columns and as many rows as
 * THREADS give, in as many splits of the rows as keep blocks_per_sm busy, of a few steps at least. */
struct Split {
    dim3 grid, block;
    int32_t splits;
};
inline Split split_columns(const dt_gpu *gpu, int64_t rows, int64_t c_vec, int64_t tile_vecs,
                           int64_t blocks_per_sm, int64_t max_splits) {
    int64_t tx = 1;
    while (tx < c_vec && tx < tile_vecs) tx *= 2;
    const int64_t ty = THREADS / tx, tiles = ceil_div(c_vec, tx);
    /* Rounded down: one block too many would run after all others. */
    const int64_t want = (int64_t)gpu->sm_count * blocks_per_sm / tiles, most = ceil_div(rows, ty * 4);
    int64_t splits = want < most ? want : most;
    if (splits > max_splits) splits = max_splits;
    if (splits < 1) splits = 1;
    return {dim3((unsigned)tiles, (unsigned)splits), dim3((unsigned)tx, (unsigned)ty), (int32_t)splits};
}

/* What a channel's mean and variance give: what normalises it, and the running statistics. */
__device__ __forceinline__ void bn_finalize(const dt_gpu_bn_finalize_args &a, int64_t c, float mean,
                                            float var) {
    /* All loads before the first store, which they could not pass. */
    const float gamma = a.gamma[c], beta = a.beta[c], rmean = a.rmean[c], rvar = a.rvar[c];
    var = var < 0.0f ? 0.0f : var; /* keeps NaN */
    const float invstd = (float)(1.0 / sqrt((double)var + a.eps)), scale = gamma * invstd;
    a.mean[c] = mean;
    a.invstd[c] = invstd;
    a.scale[c] = scale;
    a.shift[c] = fmaf(-mean, scale, beta);
    const float unbiased = (float)((double)var * a.rows / (a.rows - 1.0));
    /* The update after a batch that is not finite is skipped: its statistics must not stay either. */
    if (!isfinite(mean) || !isfinite(unbiased)) return;
    a.rmean[c] = rmean + a.momentum * (mean - rmean);
    a.rvar[c] = rvar + a.momentum * (unbiased - rvar);
}

} // namespace dt

/* Runs the statement with T the C++ type of a dt_dtype. */
#define DT_WITH_TYPE(dtype, ...)                                                                             \
    do {                                                                                                     \
        if ((dtype) == DT_DTYPE_F16) {                                                                       \
            using T = __half;                                                                                \
            __VA_ARGS__;                                                                                     \
        } else if ((dtype) == DT_DTYPE_BF16) {                                                               \
            using T = __nv_bfloat16;                                                                         \
            __VA_ARGS__;                                                                                     \
        } else {                                                                                             \
            using T = float;                                                                                 \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
    } while (0)

#endif
