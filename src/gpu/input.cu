/* The INPUT op: bytes to normalised T with channels padded; with a window per sample also crop, resize and
 * flip. The resize rounds to bytes as the loader's does, with the same operations in the same order, so that
 * both give the same pixel. A thread owns one output pixel. */
#include "vec.cuh"

namespace {
using namespace dt;

/* Source positions of an output position and the weight of the higher one. */
struct Tap {
    int32_t low, high;
    float weight;
};
__device__ Tap tap(int32_t o, int32_t size, int32_t len) {
    float at = __fadd_rn(__fmul_rn(__fadd_rn((float)o, 0.5f), __fdiv_rn((float)len, (float)size)), -0.5f);
    at = at < 0.0f ? 0.0f : at;
    Tap t;
    t.low = min((int32_t)at, len - 1);
    t.high = min(t.low + 1, len - 1);
    t.weight = __fadd_rn(at, -(float)t.low);
    return t;
}
__device__ float blend(float a, float b, float weight) {
    return __fadd_rn(a, __fmul_rn(weight, __fadd_rn(b, -a)));
}

template <typename T, int CP>
__global__ void __launch_bounds__(THREADS) input_kernel(dt_gpu_input_args a, int64_t n_pixel) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    const int32_t cpad = CP > 0 ? CP : a.cpad;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_pixel; i += stride) {
        float v[4] = {0, 0, 0, 0};
        if (a.aug) {
            const int32_t n = (int32_t)(i / ((int64_t)a.h * a.w)), row = (int32_t)(i / a.w % a.h);
            const int32_t *aug = a.aug + (int64_t)n * 8;
            const int32_t col = aug[4] ? a.w - 1 - (int32_t)(i % a.w) : (int32_t)(i % a.w);
            /* A window that leaves the image must not read outside it. */
            const int32_t x0 = min(max(aug[0], 0), a.ws - 1), y0 = min(max(aug[1], 0), a.hs - 1);
            const Tap ty = tap(row, a.h, min(max(aug[3], 1), a.hs - y0));
            const Tap tx = tap(col, a.w, min(max(aug[2], 1), a.ws - x0));
            const uint8_t *image = a.image + (int64_t)n * a.hs * a.ws * a.cs;
            const uint8_t *low = image + (int64_t)(y0 + ty.low) * a.ws * a.cs;
            const uint8_t *high = image + (int64_t)(y0 + ty.high) * a.ws * a.cs;
            const int32_t left = (x0 + tx.low) * a.cs, right = (x0 + tx.high) * a.cs;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (k >= a.cs) break;
                float above = blend((float)low[left + k], (float)low[right + k], tx.weight);
                float below = blend((float)high[left + k], (float)high[right + k], tx.weight);
                v[k] = floorf(__fadd_rn(blend(above, below, ty.weight), 0.5f));
            }
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (k >= a.cs) break;
                v[k] = (float)a.image[i * a.cs + k];
            }
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = k < a.cs ? __fdiv_rn(__fadd_rn(__fdiv_rn(v[k], 255.0f), -a.mean[k]), a.stddev[k]) : 0.0f;
        T *x = (T *)a.x + i * cpad;
        if (CP > 0) {
            Pack<T, (CP > 0 ? CP : 1)> p;
#pragma unroll
            for (int k = 0; k < CP; k++) p.v[k] = from_float<T>(k < 4 ? v[k < 4 ? k : 0] : 0.0f);
            store<T, (CP > 0 ? CP : 1)>(x, p);
        } else {
            for (int32_t k = 0; k < cpad; k++) x[k] = from_float<T>(k < 4 ? v[k] : 0.0f);
        }
    }
}

} // namespace

cudaError_t dt_gpu_input(const dt_gpu *gpu, dt_dtype t, const dt_gpu_input_args *a, cudaStream_t s) {
    int64_t n_pixel = (int64_t)a->n * a->h * a->w;
    unsigned grid = grid_for(gpu, n_pixel, 1);
    DT_WITH_TYPE(t, {
        if (a->cpad == 4 && aligned16(a->x))
            input_kernel<T, 4><<<grid, THREADS, 0, s>>>(*a, n_pixel);
        else if (a->cpad == 8 && sizeof(T) == 2 && aligned16(a->x))
            input_kernel<T, 8><<<grid, THREADS, 0, s>>>(*a, n_pixel);
        else
            input_kernel<T, 0><<<grid, THREADS, 0, s>>>(*a, n_pixel);
    });
    return cudaPeekAtLastError();
}
