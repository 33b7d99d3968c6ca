/* The op EDIT: a block owns an image. What a contrast needs, the mean of the image as it is by then, is a sum of whole
 * numbers, for which the edits before it are made once more: nothing between the edits is written. Compiled without
 * contraction (CMakeLists.txt): the loader's bytes to the bit. */
#include "core/edit.h"
#include "vec.cuh"

namespace {
using namespace dt;

enum { EDIT_THREADS = 512, WARP = 32, EDIT_WARPS = EDIT_THREADS / WARP };

/* The first `count` edits of a pixel. */
template <int CS>
__device__ __forceinline__ void edited(const uint8_t *from, const dt_edit_row &row, int32_t count,
                                       const float *mean, uint8_t (&pixel)[CS]) {
#pragma unroll
    for (int k = 0; k < CS; k++) pixel[k] = from[k];
    for (int32_t i = 0; i < count; i++) dt_edit_pixel(row.edit[i], mean[i], CS, pixel);
}

__device__ uint64_t sum_of_block(uint64_t sum, uint64_t *partial) {
    for (int d = WARP / 2; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    __syncthreads(); /* partial is free */
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = sum;
    __syncthreads();
    sum = 0;
    for (int w = 0; w < EDIT_WARPS; w++) sum += partial[w];
    return sum;
}

template <int CS>
__global__ void __launch_bounds__(EDIT_THREADS)
    edit_kernel(const uint8_t *image, const dt_edit_row *rows, uint8_t *out, int64_t n_pixel) {
    __shared__ uint64_t partial[EDIT_WARPS];
    __shared__ dt_edit_row row;
    const uint8_t *from = image + blockIdx.x * n_pixel * CS;
    uint8_t *to = out + blockIdx.x * n_pixel * CS;
    float mean[DT_EDIT_ROW_MAX];
    uint8_t pixel[CS];
    if (threadIdx.x == 0) row = rows[blockIdx.x];
    __syncthreads();
    const int32_t n = min(max(row.n, 0), (int32_t)DT_EDIT_ROW_MAX);
    for (int32_t i = 0; i < n; i++) {
        mean[i] = 0;
        if (row.edit[i].kind != DT_EDIT_CONTRAST) continue;
        uint64_t sum = 0;
        for (int64_t p = threadIdx.x; p < n_pixel; p += EDIT_THREADS) {
            edited<CS>(from + p * CS, row, i, mean, pixel);
            sum += dt_edit_counted(pixel, CS);
        }
        mean[i] = (float)((double)sum_of_block(sum, partial) / (double)n_pixel);
    }
    for (int64_t p = threadIdx.x; p < n_pixel; p += EDIT_THREADS) {
        edited<CS>(from + p * CS, row, n, mean, pixel);
#pragma unroll
        for (int k = 0; k < CS; k++) to[p * CS + k] = pixel[k];
    }
}

} // namespace

cudaError_t dt_gpu_edit(const uint8_t *image, const void *edits, uint8_t *out, int64_t n, int64_t n_pixel,
                        int32_t channels, cudaStream_t s) {
    const dt_edit_row *rows = (const dt_edit_row *)edits;
    if (channels == 3)
        edit_kernel<3><<<(unsigned)n, EDIT_THREADS, 0, s>>>(image, rows, out, n_pixel);
    else
        edit_kernel<1><<<(unsigned)n, EDIT_THREADS, 0, s>>>(image, rows, out, n_pixel);
    return cudaPeekAtLastError();
}
