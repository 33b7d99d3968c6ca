/* The second stage of sums by column: partial sums of blocks, added in a fixed order. */
#ifndef DT_GPU_COLUMN_SUMS_CUH
#define DT_GPU_COLUMN_SUMS_CUH

#include "block.cuh"

namespace dt {

/* partial [splits][2][C] into out[0] and out[1], T [C]; NULL: not wanted. A block has WARP columns of one of the
 * two (gridDim.y), WARPS threads for each. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    column_final(const float *partial, int64_t splits, int64_t c, T *first, T *second) {
    __shared__ double smem[WARPS][WARP];
    T *out = blockIdx.y == 0 ? first : second;
    if (!out) return;
    const int lane = threadIdx.x % WARP, slice = threadIdx.x / WARP;
    const int64_t column = (int64_t)blockIdx.x * WARP + lane;
    double sum = 0;
    if (column < c)
        for (int64_t i = slice; i < splits; i += WARPS) sum += partial[(i * 2 + blockIdx.y) * c + column];
    smem[slice][lane] = sum;
    __syncthreads();
    if (slice != 0 || column >= c) return;
#pragma unroll
    for (int w = 1; w < WARPS; w++) sum += smem[w][lane];
    out[column] = from_float<T>((float)sum);
}

template <typename T>
void launch_column_final(const float *partial, int64_t splits, int64_t c, void *first, void *second,
                         cudaStream_t s) {
    column_final<T><<<dim3((unsigned)ceil_div(c, WARP), 2), THREADS, 0, s>>>(partial, splits, c, (T *)first,
                                                                             (T *)second);
}

} // namespace dt

#endif
