/* Group normalisation N ... C and its gradient. A block has one group of one sample, whose later readings come from
 * the cache; sums are of a fixed order. */
#include "column_sums.cuh"

namespace {
using namespace dt;

constexpr int64_t MAX_SPLITS = 256;

/* Element i of a group, which begins at `base`: `width` channels at each position. */
__device__ __forceinline__ int64_t at(int64_t i, int64_t width, int64_t c) {
    return i / width * c + i % width;
}

/* Where group blockIdx.x begins, and its first channel. */
__device__ __forceinline__ int64_t group_base(int64_t positions, int64_t c, int64_t groups,
                                              int64_t *channel) {
    *channel = (int64_t)blockIdx.x % groups * (c / groups);
    return (int64_t)blockIdx.x / groups * positions * c + *channel;
}

template <typename T> __global__ void __launch_bounds__(THREADS) group_kernel(dt_gpu_groupnorm_args a) {
    __shared__ float smem[WARPS];
    int64_t channel;
    const int64_t base = group_base(a.positions, a.c, a.groups, &channel), width = a.c / a.groups,
                  n = a.positions * width;
    const T *x = (const T *)a.x + base;
    T *y = (T *)a.y + base;
    float mid = 0, s1 = 0, s2 = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) mid += to_float(x[at(i, width, a.c)]);
    mid = block_reduce(mid, plus, smem) / (float)n;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const float d = to_float(x[at(i, width, a.c)]) - mid;
        s1 += d;
        s2 = fmaf(d, d, s2);
    }
    const float low = block_reduce(s1, plus, smem) / (float)n;
    const float var = block_reduce(s2, plus, smem) / (float)n - low * low;
    const float rstd = (float)(1.0 / sqrt((double)(var < 0.0f ? 0.0f : var) + a.eps));
    if (threadIdx.x == 0) {
        a.rstd[blockIdx.x] = rstd;
        a.mean[blockIdx.x] = mid + low;
    }
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const int64_t ch = channel + i % width;
        const float scale = a.gamma ? a.gamma[ch] : 1.0f, shift = a.beta ? a.beta[ch] : 0.0f;
        y[at(i, width, a.c)] =
            from_float<T>(fmaf((to_float(x[at(i, width, a.c)]) - mid - low) * rstd, scale, shift));
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) group_bwd_kernel(dt_gpu_groupnorm_bwd_args a) {
    __shared__ float smem[WARPS];
    int64_t channel;
    const int64_t base = group_base(a.positions, a.c, a.groups, &channel), width = a.c / a.groups,
                  n = a.positions * width;
    const T *x = (const T *)a.x + base, *dy = (const T *)a.dy + base;
    T *dx = (T *)a.dx + base;
    const float mean = a.mean[blockIdx.x], rstd = a.rstd[blockIdx.x];
    float s1 = 0, s2 = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const int64_t e = at(i, width, a.c);
        const float d = to_float(dy[e]) * (a.gamma ? a.gamma[channel + i % width] : 1.0f);
        s1 = fmaf(d, (to_float(x[e]) - mean) * rstd, s1);
        s2 += d;
    }
    const float m1 = block_reduce(s1, plus, smem) / (float)n, m2 = block_reduce(s2, plus, smem) / (float)n;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        const int64_t e = at(i, width, a.c);
        const float d = to_float(dy[e]) * (a.gamma ? a.gamma[channel + i % width] : 1.0f);
        dx[e] = from_float<T>(rstd * (d - m2 - (to_float(x[e]) - mean) * rstd * m1));
    }
}

/* Sums by channel, partial [gridDim.y][2][C]: a block has WARP channels and every gridDim.y * WARPS-th position. */
template <typename T>
__global__ void __launch_bounds__(THREADS) channel_kernel(dt_gpu_groupnorm_bwd_args a, float *partial) {
    __shared__ float smem[2][WARPS][WARP];
    const int lane = threadIdx.x % WARP, slice = threadIdx.x / WARP;
    const int64_t ch = (int64_t)blockIdx.x * WARP + lane, rows = a.n * a.positions, width = a.c / a.groups;
    float dgamma = 0, dbeta = 0;
    if (ch < a.c)
        for (int64_t r = (int64_t)blockIdx.y * WARPS + slice; r < rows; r += (int64_t)gridDim.y * WARPS) {
            const int64_t k = r / a.positions * a.groups + ch / width;
            const float d = to_float(((const T *)a.dy)[r * a.c + ch]);
            dgamma = fmaf(d, (to_float(((const T *)a.x)[r * a.c + ch]) - a.mean[k]) * a.rstd[k], dgamma);
            dbeta += d;
        }
    smem[0][slice][lane] = dgamma;
    smem[1][slice][lane] = dbeta;
    __syncthreads();
    if (slice > 1 || ch >= a.c) return;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += smem[slice][w][lane];
    partial[((int64_t)blockIdx.y * 2 + slice) * a.c + ch] = sum;
}

int64_t splits_of(int64_t rows) {
    const int64_t n = ceil_div(rows, WARPS * 4);
    return n < MAX_SPLITS ? n : MAX_SPLITS;
}

} // namespace

cudaError_t dt_gpu_groupnorm(dt_dtype t, const dt_gpu_groupnorm_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, group_kernel<T><<<(unsigned)(a->n * a->groups), THREADS, 0, s>>>(*a));
    return cudaPeekAtLastError();
}

int64_t dt_gpu_groupnorm_bwd_bytes(int64_t rows, int64_t c) {
    return splits_of(rows) * 2 * c * (int64_t)sizeof(float);
}

/* The sums first: dx may be dy. */
cudaError_t dt_gpu_groupnorm_bwd(dt_dtype t, const dt_gpu_groupnorm_bwd_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, {
        if (a->dgamma || a->dbeta) {
            const int64_t splits = splits_of(a->n * a->positions);
            channel_kernel<T>
                <<<dim3((unsigned)ceil_div(a->c, WARP), (unsigned)splits), THREADS, 0, s>>>(*a, a->workspace);
            launch_column_final<T>(a->workspace, splits, a->c, a->dgamma, a->dbeta, s);
        }
        group_bwd_kernel<T><<<(unsigned)(a->n * a->groups), THREADS, 0, s>>>(*a);
    });
    return cudaPeekAtLastError();
}
