/* Keys and values of new places to where attention reads them. */
#include "block.cuh"

namespace {
using namespace dt;

template <typename T> __global__ void __launch_bounds__(THREADS) cache_kernel(const dt_gpu_cache_args a) {
    const dt_cache_dims &n = a.dims;
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x, stride = (int64_t)gridDim.x * THREADS;
    const T *k = (const T *)a.k, *v = (const T *)(a.v ? a.v : a.k);
    for (int64_t i = first; i < n.b * n.t * n.wide; i += stride) {
        const int64_t place = i / n.wide, c = i % n.wide, row = place / n.t, t = place % n.t;
        const int64_t at = a.start[row] + t;
        if (t >= a.count[row] || at < 0 || at >= n.s) continue;
        const int64_t to = (row * n.s + at) * n.wide + c;
        ((T *)a.k_cache)[to] = k[place * n.k_row + a.k_at + c];
        ((T *)a.v_cache)[to] = v[place * n.v_row + a.v_at + c];
    }
    for (int64_t row = first; row < n.b; row += stride) a.lengths[row] = a.start[row] + a.count[row];
}

} // namespace

cudaError_t dt_gpu_cache(const dt_gpu *gpu, dt_dtype t, const dt_gpu_cache_args *a, cudaStream_t s) {
    const int64_t n = a->dims.b * a->dims.t * a->dims.wide;
    DT_WITH_TYPE(t, {
        cache_kernel<T><<<grid_for(gpu, n, 1), THREADS, 0, s>>>(*a);
        return cudaPeekAtLastError();
    });
}
