/* Element-wise kernels: dropout, casts, and random data for timing. One pass over memory. */
#include "core/rng.h"
#include "vec.cuh"

namespace {
using namespace dt;

/* Four elements, one Philox draw, per turn: element e takes word e % 4 of the draw e / 4. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    dropout_kernel(const T *x, T *y, int64_t n, float p, uint64_t salt, const dt_step_params *params) {
    const uint64_t key = dt_rng_key(params->seed, DT_RNG_DROPOUT, salt);
    const uint64_t counter_hi = params->step << 24 | params->micro;
    const float scale = 1.0f / (1.0f - p);
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t q = (int64_t)blockIdx.x * THREADS + threadIdx.x; q * 4 < n; q += stride) {
        dt_u32x4 r = dt_philox(key, counter_hi, (uint64_t)q);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int64_t e = q * 4 + j;
            if (e < n) y[e] = from_float<T>(dt_u01(r.v[j]) >= p ? to_float(x[e]) * scale : 0.0f);
        }
    }
}

/* Row r, blockIdx.y, takes word r % 4 of the draw r / 4. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    dropout_rows_kernel(const T *x, T *y, int64_t row_elem, int64_t rows, float p, uint64_t salt,
                        const dt_step_params *params) {
    const uint64_t key = dt_rng_key(params->seed, DT_RNG_DROPOUT, salt);
    const uint64_t counter_hi = params->step << 24 | params->micro;
    const float scale = 1.0f / (1.0f - p);
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const dt_u32x4 r = dt_philox(key, counter_hi, (uint64_t)row / 4);
        const bool keep = dt_u01(r.v[row % 4]) >= p;
        for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < row_elem / V; i += stride) {
            const int64_t e = row * row_elem + i * V;
            Pack<T, V> v = load<T, V>(x + e);
#pragma unroll
            for (int j = 0; j < V; j++) v.v[j] = from_float<T>(keep ? to_float(v.v[j]) * scale : 0.0f);
            store<T, V>(y + e, v);
        }
    }
}

template <typename T, int V>
void dropout_rows(const T *x, T *y, int64_t n, int64_t row_elem, float p, uint64_t salt,
                  const dt_step_params *params, cudaStream_t s) {
    const int64_t rows = n / row_elem,
                  across = ceil_div(row_elem / V, THREADS * 4); /* a few turns a thread */
    const dim3 grid((unsigned)(across < 1      ? 1
                               : across > 1024 ? 1024
                                               : across),
                    (unsigned)(rows < 65535 ? rows : 65535));
    dropout_rows_kernel<T, V><<<grid, THREADS, 0, s>>>(x, y, row_elem, rows, p, salt, params);
}

template <typename T> __global__ void cast_kernel(const float *a, const float *b, T *out, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    out[i] = from_float<T>(a[i]);
    if (b) out[n + i] = from_float<T>(b[i]);
}

template <typename T>
__global__ void fold_kernel(const T *in, T *out, int64_t kr, int32_t s, int32_t c, int32_t s2, int32_t odd,
                            bool inverse) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; /* element of the folded weight */
    if (i >= kr * s2 * 2 * c) return;
    const int32_t tap = (int32_t)(i / c % (2 * s2)) - odd;
    const bool there = tap >= 0 && tap < s;
    const int64_t plain = ((i / c / (2 * s2)) * s + tap) * c + i % c;
    if (inverse) {
        if (there) out[plain] = in[i];
    } else {
        out[i] = there ? in[plain] : from_float<T>(0.0f);
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) random_kernel(T *x, int64_t n, uint64_t seed) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t q = (int64_t)blockIdx.x * THREADS + threadIdx.x; q * 4 < n; q += stride) {
        dt_u32x4 r = dt_philox(seed, 0, (uint64_t)q);
        for (int j = 0; j < 4; j++)
            if (q * 4 + j < n) x[q * 4 + j] = from_float<T>(2.0f * dt_u01(r.v[j]) - 1.0f);
    }
}

} // namespace

bool dt_gpu_has_code(void) {
    cudaFuncAttributes attr;
    return cudaFuncGetAttributes(&attr, (const void *)random_kernel<float>) == cudaSuccess;
}

cudaError_t dt_gpu_dropout(const dt_gpu *gpu, dt_dtype t, const void *x, void *y, int64_t n, int64_t row_elem,
                           float p, uint64_t salt, const dt_step_params *params, cudaStream_t s) {
    if (row_elem > 0) {
        DT_WITH_TYPE(t, {
            if (row_elem % WIDE<T> == 0 && aligned16(x) && aligned16(y))
                dropout_rows<T, WIDE<T>>((const T *)x, (T *)y, n, row_elem, p, salt, params, s);
            else
                dropout_rows<T, 1>((const T *)x, (T *)y, n, row_elem, p, salt, params, s);
        });
        return cudaPeekAtLastError();
    }
    DT_WITH_TYPE(t, dropout_kernel<T><<<grid_for(gpu, ceil_div(n, 4), 1), THREADS, 0, s>>>(
                        (const T *)x, (T *)y, n, p, salt, params));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_cast_vectors(dt_dtype t, const float *a, const float *b, void *out, int64_t n,
                                cudaStream_t s) {
    DT_WITH_TYPE(t, cast_kernel<T><<<(unsigned)ceil_div(n, THREADS), THREADS, 0, s>>>(a, b, (T *)out, n));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_fold_weight(dt_dtype t, const void *in, void *out, int64_t kr, int32_t s, int32_t c,
                               int32_t s2, int32_t odd, bool inverse, cudaStream_t stream) {
    unsigned grid = (unsigned)ceil_div(kr * s2 * 2 * c, THREADS);
    DT_WITH_TYPE(t, fold_kernel<T>
                 <<<grid, THREADS, 0, stream>>>((const T *)in, (T *)out, kr, s, c, s2, odd, inverse));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_fill_random(const dt_gpu *gpu, dt_dtype t, void *x, int64_t n, uint64_t seed,
                               cudaStream_t s) {
    DT_WITH_TYPE(t, random_kernel<T><<<grid_for(gpu, ceil_div(n, 4), 1), THREADS, 0, s>>>((T *)x, n, seed));
    return cudaPeekAtLastError();
}
