/* Images in another size, and the largest of each part; the gradients gather, in a fixed order. A thread owns one pixel
 * and one vector of channels of what is written. */
#include "core/resample.h"
#include "vec.cuh"

namespace {
using namespace dt;

/* What is written is n x h x w x c, what is read n x p x q x c. */
template <int V> struct Pixel {
    int64_t n, c0;
    int32_t h, w;
    __device__ Pixel(int64_t i, const dt_gpu_resample_args &a) {
        const int64_t c_vec = a.c / V;
        c0 = i % c_vec * V;
        i /= c_vec;
        w = (int32_t)(i % a.w);
        i /= a.w;
        h = (int32_t)(i % a.h);
        n = i / a.h;
    }
};

__device__ dt_resample_side side(const dt_gpu_resample_args &a, bool back, int32_t written, int32_t read) {
    const dt_resample_side s = {a.mode, back ? written : read, back ? read : written};
    return s;
}

template <bool BACK> __device__ dt_resample_span span(const dt_resample_side &s, int32_t i) {
    return BACK ? dt_resample_targets(&s, i) : dt_resample_sources(&s, i);
}

template <bool BACK> __device__ float weight(const dt_resample_side &s, int32_t written, int32_t read) {
    return BACK ? dt_resample_weight(&s, read, written) : dt_resample_weight(&s, written, read);
}

template <typename T, int V, bool BACK>
__global__ void __launch_bounds__(THREADS) resample_kernel(dt_gpu_resample_args a) {
    const dt_resample_side down = side(a, BACK, a.h, a.p), across = side(a, BACK, a.w, a.q);
    const int64_t total = a.n * a.h * a.w * (a.c / V), stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += stride) {
        const Pixel<V> o(i, a);
        const dt_resample_span rows = span<BACK>(down, o.h), columns = span<BACK>(across, o.w);
        float sum[V];
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = 0.0f;
        for (int32_t p = rows.first; p < rows.last; p++) {
            const float part = weight<BACK>(down, o.h, p);
            for (int32_t q = columns.first; part != 0.0f && q < columns.last; q++) {
                const float both = part * weight<BACK>(across, o.w, q);
                if (both == 0.0f) continue;
                const Pack<T, V> x = load<T, V>((const T *)a.from + ((o.n * a.p + p) * a.q + q) * a.c + o.c0);
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] = fmaf(both, to_float(x.v[j]), sum[j]);
            }
        }
        Pack<T, V> y;
#pragma unroll
        for (int j = 0; j < V; j++) y.v[j] = from_float<T>(sum[j]);
        store<T, V>((T *)a.to + i * V, y);
    }
}

/* The first maximum wins, NaN over all. */
template <typename T>
__global__ void __launch_bounds__(THREADS) adaptive_maxpool_kernel(dt_gpu_resample_args a) {
    const dt_resample_side down = side(a, false, a.h, a.p), across = side(a, false, a.w, a.q);
    const int64_t total = a.n * a.h * a.w * a.c, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += stride) {
        const Pixel<1> o(i, a);
        const dt_resample_span rows = span<false>(down, o.h), columns = span<false>(across, o.w);
        float best = -INFINITY;
        int32_t at = rows.first * a.q + columns.first;
        for (int32_t p = rows.first; p < rows.last; p++)
            for (int32_t q = columns.first; q < columns.last; q++) {
                const float v = to_float(((const T *)a.from)[((o.n * a.p + p) * a.q + q) * a.c + o.c0]);
                if (v > best || v != v) best = v, at = p * a.q + q;
            }
        ((T *)a.to)[i] = from_float<T>(best);
        a.idx_out[i] = at;
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) adaptive_maxpool_bwd_kernel(dt_gpu_resample_args a) {
    const dt_resample_side down = side(a, true, a.h, a.p), across = side(a, true, a.w, a.q);
    const int64_t total = a.n * a.h * a.w * a.c, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += stride) {
        const Pixel<1> o(i, a);
        const dt_resample_span rows = span<true>(down, o.h), columns = span<true>(across, o.w);
        float sum = 0.0f;
        for (int32_t p = rows.first; p < rows.last; p++)
            for (int32_t q = columns.first; q < columns.last; q++) {
                const int64_t from = ((o.n * a.p + p) * a.q + q) * a.c + o.c0;
                if (a.idx[from] == o.h * a.w + o.w) sum += to_float(((const T *)a.from)[from]);
            }
        ((T *)a.to)[i] = from_float<T>(sum);
    }
}

template <typename T, int V>
void launch(const dt_gpu *gpu, const dt_gpu_resample_args &a, bool back, cudaStream_t s) {
    const unsigned grid = grid_for(gpu, a.n * a.h * a.w * (a.c / V), 1);
    if (back)
        resample_kernel<T, V, true><<<grid, THREADS, 0, s>>>(a);
    else
        resample_kernel<T, V, false><<<grid, THREADS, 0, s>>>(a);
}

} // namespace

cudaError_t dt_gpu_resample(const dt_gpu *gpu, dt_dtype t, const dt_gpu_resample_args *a, bool back,
                            cudaStream_t s) {
    const bool al = aligned16(a->from) && aligned16(a->to);
    DT_WITH_TYPE(t, {
        if (al && a->c % WIDE<T> == 0)
            launch<T, WIDE<T>>(gpu, *a, back, s);
        else
            launch<T, 1>(gpu, *a, back, s);
    });
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_adaptive_maxpool(const dt_gpu *gpu, dt_dtype t, const dt_gpu_resample_args *a, bool back,
                                    cudaStream_t s) {
    const unsigned grid = grid_for(gpu, a->n * a->h * a->w * a->c, 1);
    DT_WITH_TYPE(t, {
        if (back)
            adaptive_maxpool_bwd_kernel<T><<<grid, THREADS, 0, s>>>(*a);
        else
            adaptive_maxpool_kernel<T><<<grid, THREADS, 0, s>>>(*a);
    });
    return cudaPeekAtLastError();
}
