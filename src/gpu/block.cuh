/* Reductions of a block, in a fixed order. */
#ifndef DT_GPU_BLOCK_CUH
#define DT_GPU_BLOCK_CUH

#include "vec.cuh"

namespace dt {

constexpr int WARP = 32, WARPS = THREADS / WARP;

/* Of the GROUP threads of a row, a warp's or all, to all of them. smem: WARPS floats. */
template <int GROUP, typename Op> __device__ float group_reduce(float v, Op op, float *smem) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
    if (GROUP == WARP) return v;
    __syncthreads(); /* the reduction before has been read */
    if (threadIdx.x % WARP == 0) smem[threadIdx.x / WARP] = v;
    __syncthreads();
    v = smem[0];
#pragma unroll
    for (int w = 1; w < WARPS; w++) v = op(v, smem[w]);
    return v;
}
template <typename Op> __device__ float block_reduce(float v, Op op, float *smem) {
    return group_reduce<THREADS>(v, op, smem);
}

__device__ inline float plus(float a, float b) {
    return a + b;
}
__device__ inline float larger(float a, float b) { /* NaN wins */
    return a > b || a != a ? a : b;
}

} // namespace dt

#endif
