/* What a product ends in where the library's does not: bias or scale and shift, a residual, a function. One pass over
 * memory, in place. */
#include "core/scalar.h"
#include "vec.cuh"

namespace {
using namespace dt;

struct none_value {
    __device__ float operator()(float x) const { return x; }
};
#define FUNCTION(NAME, name, of, scalars, value, gradient)                                                   \
    struct name##_value {                                                                                    \
        __device__ float operator()(float x) const {                                                         \
            const float a = 0.0f, b = 0.0f; /* of functions that have none */                                \
            (void)a, (void)b;                                                                                \
            return value;                                                                                    \
        }                                                                                                    \
    };
DT_UNARY_LIST(FUNCTION)
#undef FUNCTION

template <typename T, int V, typename Op>
__global__ void __launch_bounds__(THREADS)
    end_kernel(Op op, dt_gpu_end_args a, int64_t n_vec, int64_t c_vec) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    T *y = (T *)a.y;
    const T *res = (const T *)a.res, *bias = (const T *)a.bias;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_vec; i += stride) {
        const int64_t c0 = i % c_vec * V;
        Pack<T, V> p = load<T, V>(y + i * V), r = p;
        if (res) r = load<T, V>(res + i * V);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int64_t c = c0 + j;
            float v = to_float(p.v[j]);
            if (a.scale) v *= a.scale[c];
            if (a.shift) v += a.shift[c];
            if (bias) v += to_float(bias[c]);
            if (res) v += a.rscale ? fmaf(to_float(r.v[j]), a.rscale[c], a.rshift[c]) : to_float(r.v[j]);
            p.v[j] = from_float<T>(op(v));
        }
        store<T, V>(y + i * V, p);
    }
}

template <typename Op>
cudaError_t end(const dt_gpu *gpu, dt_dtype t, Op op, const dt_gpu_end_args &a, cudaStream_t s) {
    const int64_t n = a.rows * a.c;
    DT_WITH_TYPE(t, {
        if (a.c % WIDE<T> == 0 && aligned16(a.y) && aligned16(a.res))
            end_kernel<T, WIDE<T>>
                <<<grid_for(gpu, n / WIDE<T>, 1), THREADS, 0, s>>>(op, a, n / WIDE<T>, a.c / WIDE<T>);
        else
            end_kernel<T, 1><<<grid_for(gpu, n, 1), THREADS, 0, s>>>(op, a, n, a.c);
    });
    return cudaPeekAtLastError();
}

} // namespace

cudaError_t dt_gpu_end(const dt_gpu *gpu, dt_dtype t, const dt_gpu_end_args *a, cudaStream_t s) {
    if (a->act == DT_ACT_NONE) return end(gpu, t, none_value{}, *a, s);
    switch ((dt_unary)(a->act - 1)) {
#define CASE(NAME, name, of, scalars, value, gradient)                                                       \
    case DT_UNARY_##NAME:                                                                                    \
        return end(gpu, t, name##_value{}, *a, s);
        DT_UNARY_LIST(CASE)
#undef CASE
    default:
        return cudaErrorInvalidValue;
    }
}
