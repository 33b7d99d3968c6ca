/* One pass over memory: a function of one or two elements at the same place. */
#ifndef DT_GPU_MAP_CUH
#define DT_GPU_MAP_CUH

#include "vec.cuh"

namespace dt {

enum { UNROLL = 4 };

/* y = op(a, b) over n elements: whole packs, then the rest. b NULL: unary. */
template <typename T, int V, typename Op>
__global__ void __launch_bounds__(THREADS) map_kernel(Op op, const T *a, const T *b, T *y, int64_t n) {
    const int64_t stride = (int64_t)gridDim.x * THREADS, n_vec = n / V;
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t tail = n_vec * V + i;
    for (; i < n_vec; i += UNROLL * stride) {
        Pack<T, V> pa[UNROLL], pb[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int64_t k = i + u * stride;
            if (k < n_vec) {
                pa[u] = load<T, V>(a + k * V);
                pb[u] = b ? load<T, V>(b + k * V) : pa[u];
            }
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int64_t k = i + u * stride;
            if (k >= n_vec) break;
#pragma unroll
            for (int j = 0; j < V; j++)
                pa[u].v[j] = from_float<T>(op(to_float(pa[u].v[j]), to_float(pb[u].v[j])));
            store<T, V>(y + k * V, pa[u]);
        }
    }
    if (tail < n) y[tail] = from_float<T>(op(to_float(a[tail]), b ? to_float(b[tail]) : 0.0f));
}

template <typename Op>
cudaError_t map(const dt_gpu *gpu, dt_dtype t, Op op, const void *a, const void *b, void *y, int64_t n,
                cudaStream_t s) {
    bool al = aligned16(a) && aligned16(b) && aligned16(y);
    DT_WITH_TYPE(t, {
        if (al)
            map_kernel<T, WIDE<T>><<<grid_for(gpu, ceil_div(n, WIDE<T>), UNROLL), THREADS, 0, s>>>(
                op, (const T *)a, (const T *)b, (T *)y, n);
        else
            map_kernel<T, 1>
                <<<grid_for(gpu, n, UNROLL), THREADS, 0, s>>>(op, (const T *)a, (const T *)b, (T *)y, n);
    });
    return cudaPeekAtLastError();
}

} // namespace dt

#endif
