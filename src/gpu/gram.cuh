/* What the kernels around Gram matrices share: the matrix units (mma.sync m16n8k16), swizzled tiles in shared
 * memory that cp.async fills, powers of two as scales, sums over a warp. */
#ifndef DT_GPU_GRAM_CUH
#define DT_GPU_GRAM_CUH

#include "gram.h"
#include "vec.cuh"

namespace dt {

constexpr int WARP = 32, STEP = 16;

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}
/* Of a block of N_THREAD threads; all of them get it. */
template <int N_THREAD> __device__ __forceinline__ float block_max(float v) {
    __shared__ float smem[N_THREAD / WARP];
    v = warp_max(v);
    if (threadIdx.x % WARP == 0) smem[threadIdx.x / WARP] = v;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N_THREAD / WARP; i++) v = fmaxf(v, smem[i]);
    return v;
}

/* The power of two that brings `largest` near 2^top, as far as it and its inverse are normal numbers; 1 for 0
 * and what is not finite. */
__device__ __forceinline__ float power_for(float largest, int top) {
    return largest > 0.0f && isfinite(largest) ? exp2f((float)min(top - ilogbf(largest), 126)) : 1.0f;
}

template <typename T>
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b);
template <>
__device__ __forceinline__ void mma<__half>(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}
__device__ __forceinline__ void ldmatrix(uint32_t *r, uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
__device__ __forceinline__ void ldmatrix_t(uint32_t *r, uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
/* 16 bytes to shared memory; zeros where !there. */
__device__ __forceinline__ void copy16(uint32_t to, const void *from, bool there) {
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}
__device__ __forceinline__ void copy_commit() {
    asm volatile("cp.async.commit_group;");
}
template <int N> __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N));
}

/* A tile of rows x COLS 16-bit elements in shared memory; the 16-byte chunks of a row are permuted so that
 * eight rows of one chunk column fall into different banks. */
template <int COLS> __device__ __forceinline__ uint32_t tile_at(int row, int chunk) {
    return (uint32_t)((row * (COLS / 8) + (chunk ^ (row & 7))) * 16);
}

/* Rows [r0, r0+ROWS) and columns [c0, c0+COLS) of x [n_row,n_col] into a tile. */
template <typename T, int ROWS, int COLS, int N_THREAD>
__device__ __forceinline__ void load_tile(uint32_t tile, const T *x, int64_t r0, int64_t n_row, int64_t c0,
                                          int64_t n_col) {
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * COLS / 8; i += N_THREAD) {
        const int row = i / (COLS / 8), chunk = i % (COLS / 8);
        const bool there = r0 + row < n_row && c0 + chunk * 8 < n_col;
        copy16(tile + tile_at<COLS>(row, chunk), there ? x + (r0 + row) * n_col + c0 + chunk * 8 : x, there);
    }
}

} // namespace dt

#endif
