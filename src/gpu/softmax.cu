/* Softmax and its logarithm over the last dimension, and their gradients. A row is a warp's, a long one a
 * block's; sums are of a fixed order. */
#include "block.cuh"

namespace {
using namespace dt;

enum { LONG_ROW = 2048 };

template <typename T, int V, int GROUP, bool LOG>
__global__ void __launch_bounds__(THREADS) softmax_kernel(const T *x, T *y, int64_t rows, int64_t c) {
    __shared__ float smem[WARPS];
    const int64_t row = (int64_t)blockIdx.x * (THREADS / GROUP) + threadIdx.x / GROUP;
    const int64_t first = threadIdx.x % GROUP * V;
    if (row >= rows) return; /* a whole warp; never part of a block's row */
    x += row * c, y += row * c;
    float top = -INFINITY, sum = 0;
    for (int64_t i = first; i < c; i += GROUP * V) {
        const Pack<T, V> p = load<T, V>(x + i);
#pragma unroll
        for (int j = 0; j < V; j++) top = larger(to_float(p.v[j]), top);
    }
    top = group_reduce<GROUP>(top, larger, smem);
    for (int64_t i = first; i < c; i += GROUP * V) {
        const Pack<T, V> p = load<T, V>(x + i);
#pragma unroll
        for (int j = 0; j < V; j++) sum += expf(to_float(p.v[j]) - top);
    }
    sum = group_reduce<GROUP>(sum, plus, smem);
    const float scale = 1.0f / sum, less = top + logf(sum);
    for (int64_t i = first; i < c; i += GROUP * V) {
        Pack<T, V> p = load<T, V>(x + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float v = to_float(p.v[j]);
            p.v[j] = from_float<T>(LOG ? v - less : expf(v - top) * scale);
        }
        store<T, V>(y + i, p);
    }
}

template <typename T, int V, int GROUP, bool LOG>
__global__ void __launch_bounds__(THREADS)
    softmax_bwd_kernel(const T *dy, const T *y, T *dx, int64_t rows, int64_t c) {
    __shared__ float smem[WARPS];
    const int64_t row = (int64_t)blockIdx.x * (THREADS / GROUP) + threadIdx.x / GROUP;
    const int64_t first = threadIdx.x % GROUP * V;
    if (row >= rows) return;
    dy += row * c, y += row * c, dx += row * c;
    float sum = 0;
    for (int64_t i = first; i < c; i += GROUP * V) {
        const Pack<T, V> p = load<T, V>(dy + i), q = load<T, V>(y + i);
#pragma unroll
        for (int j = 0; j < V; j++) sum += LOG ? to_float(p.v[j]) : to_float(p.v[j]) * to_float(q.v[j]);
    }
    sum = group_reduce<GROUP>(sum, plus, smem);
    for (int64_t i = first; i < c; i += GROUP * V) {
        Pack<T, V> p = load<T, V>(dy + i);
        const Pack<T, V> q = load<T, V>(y + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float g = to_float(p.v[j]), v = to_float(q.v[j]);
            p.v[j] = from_float<T>(LOG ? g - expf(v) * sum : v * (g - sum));
        }
        store<T, V>(dx + i, p);
    }
}

template <typename T, int V, int GROUP>
void launch(const void *a, const void *b, void *out, int64_t rows, int64_t c, bool logarithm,
            cudaStream_t s) {
    const unsigned grid = (unsigned)ceil_div(rows, THREADS / GROUP);
    if (b && logarithm)
        softmax_bwd_kernel<T, V, GROUP, true>
            <<<grid, THREADS, 0, s>>>((const T *)a, (const T *)b, (T *)out, rows, c);
    else if (b)
        softmax_bwd_kernel<T, V, GROUP, false>
            <<<grid, THREADS, 0, s>>>((const T *)a, (const T *)b, (T *)out, rows, c);
    else if (logarithm)
        softmax_kernel<T, V, GROUP, true><<<grid, THREADS, 0, s>>>((const T *)a, (T *)out, rows, c);
    else
        softmax_kernel<T, V, GROUP, false><<<grid, THREADS, 0, s>>>((const T *)a, (T *)out, rows, c);
}

/* b NULL: forward. */
cudaError_t run(dt_dtype t, const void *a, const void *b, void *out, int64_t rows, int64_t c, bool logarithm,
                cudaStream_t s) {
    const bool al = aligned16(a) && aligned16(b) && aligned16(out);
    DT_WITH_TYPE(t, {
        const bool wide = al && c % WIDE<T> == 0;
        if (wide && c > LONG_ROW)
            launch<T, WIDE<T>, THREADS>(a, b, out, rows, c, logarithm, s);
        else if (wide)
            launch<T, WIDE<T>, WARP>(a, b, out, rows, c, logarithm, s);
        else if (c > LONG_ROW)
            launch<T, 1, THREADS>(a, b, out, rows, c, logarithm, s);
        else
            launch<T, 1, WARP>(a, b, out, rows, c, logarithm, s);
    });
    return cudaPeekAtLastError();
}

} // namespace

cudaError_t dt_gpu_softmax(dt_dtype t, const void *x, void *y, int64_t rows, int64_t c, bool logarithm,
                           cudaStream_t s) {
    return run(t, x, nullptr, y, rows, c, logarithm, s);
}

cudaError_t dt_gpu_softmax_bwd(dt_dtype t, const void *dy, const void *y, void *dx, int64_t rows, int64_t c,
                               bool logarithm, cudaStream_t s) {
    return run(t, dy, y, dx, rows, c, logarithm, s);
}
