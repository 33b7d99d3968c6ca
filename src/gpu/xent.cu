/* Softmax cross-entropy with label smoothing, its metrics (two stages, fixed order), and its gradient. */
#include "vec.cuh"

namespace {
using namespace dt;

enum { ROW_STATS = 4, WARP = 32, WARPS = THREADS / WARP };

/* Of all threads, to all threads. smem: WARPS floats. */
template <typename Op> __device__ float block_reduce(float v, Op op, float *smem) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
    __syncthreads(); /* the reduction before has been read */
    if (threadIdx.x % WARP == 0) smem[threadIdx.x / WARP] = v;
    __syncthreads();
    v = smem[0];
#pragma unroll
    for (int w = 1; w < WARPS; w++) v = op(v, smem[w]);
    return v;
}

__device__ float plus(float a, float b) {
    return a + b;
}
__device__ float larger(float a, float b) { /* NaN wins */
    return a > b || a != a ? a : b;
}

/* A block per sample. row_stats [N,4] = loss, top1, top5, has a label. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    row_kernel(const T *logits, const int32_t *label, float *loss, float *prob, float *row_stats, int64_t k,
               float smoothing) {
    __shared__ float smem[WARPS];
    const int64_t n = blockIdx.x;
    const T *z = logits + n * k;
    float top = -INFINITY, total = 0;
    for (int64_t i = threadIdx.x; i < k; i += THREADS) {
        float v = to_float(z[i]);
        top = larger(v, top);
        total += v;
    }
    top = block_reduce(top, larger, smem);
    total = block_reduce(total, plus, smem);
    const int32_t y = label[n];
    const bool has = y >= 0 && y < k;
    const float mine = has ? to_float(z[y]) : 0.0f;
    float sum = 0, above = 0;
    for (int64_t i = threadIdx.x; i < k; i += THREADS) {
        float v = to_float(z[i]);
        sum += expf(v - top);
        if (has && i != y) above += i < y ? !(v < mine) : !(v <= mine); /* NaN counts as above */
    }
    sum = block_reduce(sum, plus, smem);
    above = block_reduce(above, plus, smem);
    const float inv = 1.0f / sum;
    for (int64_t i = threadIdx.x; i < k; i += THREADS) prob[n * k + i] = expf(to_float(z[i]) - top) * inv;
    if (threadIdx.x) return;
    const float log_sum = top + logf(sum);
    float l = has ? (1.0f - smoothing) * (log_sum - mine) : 0.0f;
    if (has && smoothing > 0.0f) l += smoothing * (log_sum - total / (float)k); /* 0 times -inf is NaN */
    loss[n] = l;
    float *r = row_stats + n * ROW_STATS;
    r[0] = l;
    r[1] = has && above < 1.0f ? 1.0f : 0.0f;
    r[2] = has && above < 5.0f ? 1.0f : 0.0f;
    r[3] = has ? 1.0f : 0.0f;
}

/* One block: a thread adds every THREADS-th sample, then a tree. */
__global__ void __launch_bounds__(THREADS) metrics_kernel(const float *row_stats, float *metrics, int64_t n) {
    __shared__ float smem[WARPS];
    float sum[ROW_STATS] = {0, 0, 0, 0};
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
#pragma unroll
        for (int j = 0; j < ROW_STATS; j++) sum[j] += row_stats[i * ROW_STATS + j];
    const int slot[ROW_STATS] = {DT_METRIC_LOSS, DT_METRIC_TOP1, DT_METRIC_TOP5, DT_METRIC_SAMPLES};
#pragma unroll
    for (int j = 0; j < ROW_STATS; j++) {
        float v = block_reduce(sum[j], plus, smem);
        if (threadIdx.x == 0) metrics[slot[j]] += v;
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    grad_kernel(const float *prob, const int32_t *label, T *dlogits, int64_t n, int64_t k, float smoothing,
                const dt_step_params *params) {
    const float weight = params->loss_weight * params->loss_scale, even = smoothing / (float)k;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n * k; i += stride) {
        const int32_t y = label[i / k];
        float target = even + (i % k == y ? 1.0f - smoothing : 0.0f);
        dlogits[i] = from_float<T>(y >= 0 && y < k ? weight * (prob[i] - target) : 0.0f);
    }
}

} // namespace

cudaError_t dt_gpu_xent(dt_dtype t, const void *logits, const int32_t *label, float *metrics, float *loss,
                        float *prob, int64_t n, int64_t k, float smoothing, float *workspace,
                        cudaStream_t s) {
    DT_WITH_TYPE(t, row_kernel<T><<<(unsigned)n, THREADS, 0, s>>>((const T *)logits, label, loss, prob,
                                                                  workspace, k, smoothing));
    metrics_kernel<<<1, THREADS, 0, s>>>(workspace, metrics, n);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_xent_bwd(const dt_gpu *gpu, dt_dtype t, const float *prob, const int32_t *label,
                            void *dlogits, int64_t n, int64_t k, float smoothing,
                            const dt_step_params *params, cudaStream_t s) {
    DT_WITH_TYPE(t, grad_kernel<T><<<grid_for(gpu, n * k, 1), THREADS, 0, s>>>(prob, label, (T *)dlogits, n,
                                                                               k, smoothing, params));
    return cudaPeekAtLastError();
}
