/* The weight and the bias of a convolution that is one product with what normalises it. */
#include "vec.cuh"

namespace {
using namespace dt;

/* Threads of V elements of w; the first K of them also make the bias. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    fold_apply_kernel(const T *w, const float *scale, const float *shift, int64_t k, int64_t c, T *folded,
                      T *bias) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < k) bias[i] = from_float<T>(shift[i]);
    if (!folded || i >= k * (c / V)) return;
    const float s = scale[i / (c / V)];
    Pack<T, V> p = load<T, V>(w + i * V);
#pragma unroll
    for (int j = 0; j < V; j++) p.v[j] = from_float<T>(to_float(p.v[j]) * s);
    store<T, V>(folded + i * V, p);
}

} // namespace

cudaError_t dt_gpu_fold_apply(dt_dtype t, const void *w, const float *scale, const float *shift, int64_t k,
                              int64_t c, void *folded, void *bias, cudaStream_t s) {
    DT_WITH_TYPE(t, fold_apply_kernel<T, WIDE<T>>
                 <<<(unsigned)ceil_div(folded ? k * ceil_div(c, WIDE<T>) : k, THREADS), THREADS, 0, s>>>(
                     (const T *)w, scale, shift, k, c, (T *)folded, (T *)bias));
    return cudaPeekAtLastError();
}
