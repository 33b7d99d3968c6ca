/* Places in a sequence: rotated pairs, and waves that are added. Angles are computed in double, once for all heads of a
 * step. */
#include "core/rope.h"
#include "vec.cuh"

namespace {
using namespace dt;

/* A thread has one pair of all heads of a step, or one of the numbers that stay. */
template <typename T>
__global__ void __launch_bounds__(THREADS) rope_kernel(dt_gpu_rope_args a, dt_rope_attr attr) {
    const int64_t dims = dt_rope_dims(&attr, a.c), pairs = dims / 2, each = a.c - pairs,
                  n_thread = a.n * a.steps * each, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_thread; i += stride) {
        const int64_t k = i % each, step = i / each, t = step % a.steps;
        const T *x = (const T *)a.x + step * a.heads * a.c;
        T *y = (T *)a.y + step * a.heads * a.c;
        if (k >= pairs) {
            for (int64_t h = 0; h < a.heads; h++) y[h * a.c + k + pairs] = x[h * a.c + k + pairs];
            continue;
        }
        const int64_t place = t + (a.start ? a.start[step / a.steps] : 0);
        double sine, cosine;
        sincos((double)place * dt_rope_speed(&attr, k, dims), &sine, &cosine);
        const float c = (float)cosine, s = (float)(a.back ? -sine : sine);
        const int64_t first = attr.interleaved ? 2 * k : k, second = attr.interleaved ? 2 * k + 1 : k + pairs;
        for (int64_t h = 0; h < a.heads; h++) {
            const float p = to_float(x[h * a.c + first]), q = to_float(x[h * a.c + second]);
            y[h * a.c + first] = from_float<T>(p * c - q * s);
            y[h * a.c + second] = from_float<T>(q * c + p * s);
        }
    }
}

/* A thread has one column of a step, of all samples where they begin at one place. */
template <typename T>
__global__ void __launch_bounds__(THREADS) position_kernel(dt_gpu_rope_args a, dt_rope_attr attr) {
    const int64_t n_thread = a.steps * a.c, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_thread; i += stride) {
        const int64_t t = i / a.c, column = i % a.c;
        const double speed = dt_rope_speed(&attr, column / 2, a.c);
        float p = 0;
        for (int64_t n = 0; n < a.n; n++) {
            if (n == 0 || a.start) {
                const double angle = (double)(t + (a.start ? a.start[n] : 0)) * speed;
                p = (float)(column % 2 ? cos(angle) : sin(angle));
            }
            const int64_t at = n * n_thread + i;
            ((T *)a.y)[at] = from_float<T>(to_float(((const T *)a.x)[at]) + p);
        }
    }
}

} // namespace

cudaError_t dt_gpu_rope(const dt_gpu *gpu, dt_dtype t, const dt_gpu_rope_args *a, const dt_rope_attr *attr,
                        cudaStream_t s) {
    const int64_t n = a->n * a->steps * a->c;
    DT_WITH_TYPE(t, rope_kernel<T><<<grid_for(gpu, n, 1), THREADS, 0, s>>>(*a, *attr));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_position(const dt_gpu *gpu, dt_dtype t, const dt_gpu_rope_args *a,
                            const dt_rope_attr *attr, cudaStream_t s) {
    DT_WITH_TYPE(t, position_kernel<T><<<grid_for(gpu, a->steps * a->c, 1), THREADS, 0, s>>>(*a, *attr));
    return cudaPeekAtLastError();
}
