/* Element-wise functions of one variable, and their gradients. */
#include "core/scalar.h"
#include "map.cuh"

namespace {
using namespace dt;

#define FUNCTION(NAME, name, of, scalars, value, gradient)                                                   \
    struct name##_value {                                                                                    \
        float a, b;                                                                                          \
        __device__ float operator()(float x, float) const { return value; }                                  \
    };                                                                                                       \
    struct name##_gradient {                                                                                 \
        float a, b;                                                                                          \
        __device__ float operator()(float g, float v) const {                                                \
            const float x = v, y = v; /* whichever it is made of */                                          \
            (void)g, (void)x, (void)y;                                                                       \
            return gradient;                                                                                 \
        }                                                                                                    \
    };
DT_UNARY_LIST(FUNCTION)
#undef FUNCTION

} // namespace

cudaError_t dt_gpu_unary(const dt_gpu *gpu, dt_dtype t, dt_unary f, float a, float b, const void *x, void *y,
                         int64_t n, cudaStream_t s) {
    switch (f) {
#define CASE(NAME, name, of, scalars, value, gradient)                                                       \
    case DT_UNARY_##NAME:                                                                                    \
        return map(gpu, t, name##_value{a, b}, x, nullptr, y, n, s);
        DT_UNARY_LIST(CASE)
#undef CASE
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t dt_gpu_unary_bwd(const dt_gpu *gpu, dt_dtype t, dt_unary f, float a, float b, const void *dy,
                             const void *v, void *dx, int64_t n, cudaStream_t s) {
    switch (f) {
#define CASE(NAME, name, of, scalars, value, gradient)                                                       \
    case DT_UNARY_##NAME:                                                                                    \
        return map(gpu, t, name##_gradient{a, b}, dy, v, dx, n, s);
        DT_UNARY_LIST(CASE)
#undef CASE
    default:
        return cudaErrorInvalidValue;
    }
}
