/* Walking a space (core/broadcast.h) in a kernel. */
#ifndef DT_GPU_SPACE_CUH
#define DT_GPU_SPACE_CUH

#include "vec.cuh"

namespace dt {

/* Where an element of a space is in each operand; I: 32 bits where the space allows it. */
template <typename I> struct Offsets {
    I at[DT_SPACE_OPERANDS];
    __device__ Offsets(const dt_space &s, I index) : at{} {
        for (int i = s.n - 1; i >= 0; i--) {
            const I rest = i > 0 ? index / (I)s.dim[i] : 0, here = index - rest * (I)s.dim[i];
#pragma unroll
            for (int k = 0; k < DT_SPACE_OPERANDS; k++) at[k] += here * (I)s.stride[k][i];
            index = rest;
        }
    }
};

inline int64_t product(const dt_space &s) {
    int64_t n = 1;
    for (int32_t i = 0; i < s.n; i++) n *= s.dim[i];
    return n;
}

} // namespace dt

#endif
