/* What the ways of attention share: who sees whom, dropout, delta, launches. */
#ifndef DT_GPU_ATTENTION_CUH
#define DT_GPU_ATTENTION_CUH

#include "core/rng.h"
#include "vec.cuh"

namespace dt {

constexpr int ATTENTION_BLOCK = 128, WARP = 32;

/* ---- who sees whom ---- */

__device__ __forceinline__ int64_t clamped(const int32_t *lengths, int64_t row, int64_t most) {
    if (!lengths) return most;
    const int64_t n = lengths[row];
    return n < 0 ? 0 : n < most ? n : most;
}

/* The row of the batch that a block works on. */
struct Row {
    int64_t row, n_q, n_k;
    const int32_t *segments; /* NULL: none */
    __device__ Row(const dt_gpu_attention_args &a, int64_t row_)
        : row(row_), n_q(clamped(a.q_lengths, row_, a.dims.t)), n_k(clamped(a.lengths, row_, a.dims.s)),
          segments(a.segments ? a.segments + row_ * a.dims.s : nullptr) {}
    /* Keys that any query of a tile sees: both ends grow with the query. */
    __device__ dt_attention_span tile_sees(const dt_gpu_attention_args &a, int64_t t0, int rows) const {
        dt_attention_span span = {0, 0};
        if (t0 >= n_q) return span;
        const int64_t last = t0 + rows < n_q ? t0 + rows - 1 : n_q - 1;
        span.begin = dt_attention_sees(&a.dims, t0, n_q, n_k).begin;
        span.end = dt_attention_sees(&a.dims, last, n_q, n_k).end;
        return span;
    }
};

/* One query, as the threads that share its row of a tile see it. */
struct Query {
    dt_attention_span span;
    int32_t segment;
    const int32_t *segments;
    __device__ Query(const dt_gpu_attention_args &a, const Row &b, int64_t t)
        : span{0, 0}, segment(0), segments(b.segments) {
        if (t >= b.n_q) return;
        span = dt_attention_sees(&a.dims, t, b.n_q, b.n_k);
        if (segments) segment = segments[t];
    }
    __device__ bool sees(int64_t s) const {
        return s >= span.begin && s < span.end && (!segments || segments[s] == segment);
    }
};

/* What dropout leaves of a query's weights, key after key. */
struct Keep {
    uint64_t key, hi, first;
    float p, kept;
    int64_t drawn; /* the group of four keys that `draw` is of; -1: none yet */
    dt_u32x4 draw;
    __device__ Keep(const dt_gpu_attention_args &a, int64_t row, int64_t head, int64_t t)
        : key(0), hi(0), first(0), p(a.dims.p), kept(1.0f / (1.0f - a.dims.p)), drawn(-1) {
        if (p <= 0) return;
        key = dt_rng_key(a.params->seed, DT_RNG_DROPOUT, a.dims.salt);
        hi = a.params->step << 24 | a.params->micro;
        first = dt_attention_draw(&a.dims, row, head, t, 0);
    }
    __device__ float of(int64_t s) {
        if (p <= 0) return 1.0f;
        if (drawn != s / 4) {
            drawn = s / 4;
            draw = dt_philox(key, hi, first + (uint64_t)drawn);
        }
        const int j = (int)(s % 4); /* an index into registers would move them to memory */
        const uint32_t word = j == 0 ? draw.v[0] : j == 1 ? draw.v[1] : j == 2 ? draw.v[2] : draw.v[3];
        return dt_u01(word) >= p ? kept : 0.0f;
    }
};

/* Over the PARTS neighbouring threads of a row. */
template <int PARTS> __device__ float row_max(float v) {
#pragma unroll
    for (int d = PARTS / 2; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}
template <int PARTS> __device__ float row_sum(float v) {
#pragma unroll
    for (int d = PARTS / 2; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

/* delta [B,heads,T] = dy . y of a head; a warp each. */
template <typename T>
__global__ void __launch_bounds__(ATTENTION_BLOCK) attention_delta_kernel(const dt_gpu_attention_args a) {
    const dt_attention_dims &n = a.dims;
    const int64_t i = (int64_t)blockIdx.x * (ATTENTION_BLOCK / WARP) + threadIdx.x / WARP;
    if (i >= n.b * n.heads * n.t) return;
    const int64_t t = i % n.t, head = i / n.t % n.heads, row = i / n.t / n.heads;
    const int64_t at = (row * n.t + t) * n.heads * n.d + head * n.d;
    float sum = 0;
    for (int64_t c = threadIdx.x % WARP; c < n.d; c += WARP)
        sum += to_float(((const T *)a.dy)[at + c]) * to_float(((const T *)a.y)[at + c]);
    sum = row_sum<WARP>(sum);
    if (threadIdx.x % WARP == 0) a.delta[i] = sum;
}

template <typename T> cudaError_t attention_delta(const dt_gpu_attention_args &a, cudaStream_t s) {
    const int64_t n = a.dims.b * a.dims.heads * a.dims.t;
    attention_delta_kernel<T><<<(unsigned)ceil_div(n, ATTENTION_BLOCK / WARP), ATTENTION_BLOCK, 0, s>>>(a);
    return cudaPeekAtLastError();
}

template <typename Kernel>
cudaError_t launch(Kernel *kernel, int64_t blocks, int64_t bytes, const dt_gpu_attention_args &a,
                   cudaStream_t s) {
    const cudaError_t err =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (err != cudaSuccess) return err;
    kernel<<<(unsigned)blocks, ATTENTION_BLOCK, (size_t)bytes, s>>>(a);
    return cudaPeekAtLastError();
}

} // namespace dt

#endif
