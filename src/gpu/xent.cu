/* Softmax cross-entropy with label smoothing and its gradient. */
#include "block.cuh"

namespace {
using namespace dt;

enum { ROW_STATS = 4 };

/* A block per sample. row_stats [N,4] = loss, has a label, top1, top5. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    row_kernel(const T *logits, const int32_t *label, const int32_t *valid, float *loss, float *prob,
               float *row_stats, int64_t k, float smoothing) {
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
    const int32_t y = valid && valid[n] == 0 ? -1 : label[n];
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
    r[1] = has ? 1.0f : 0.0f;
    r[2] = has && above < 1.0f ? 1.0f : 0.0f;
    r[3] = has && above < 5.0f ? 1.0f : 0.0f;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    grad_kernel(const float *prob, const int32_t *label, const int32_t *valid, T *dlogits, int64_t n,
                int64_t k, float smoothing, float loss_weight, const dt_step_params *params) {
    const float weight = loss_weight * params->loss_weight * params->loss_scale, even = smoothing / (float)k;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n * k; i += stride) {
        const int32_t y = valid && valid[i / k] == 0 ? -1 : label[i / k];
        float target = even + (i % k == y ? 1.0f - smoothing : 0.0f);
        dlogits[i] = from_float<T>(y >= 0 && y < k ? weight * (prob[i] - target) : 0.0f);
    }
}

} // namespace

cudaError_t dt_gpu_xent(dt_dtype t, const void *logits, const int32_t *label, const int32_t *valid,
                        float *metrics, float *loss, float *prob, int64_t n, int64_t k, const dt_loss_attr *a,
                        float *workspace, cudaStream_t s) {
    DT_WITH_TYPE(t, row_kernel<T><<<(unsigned)n, THREADS, 0, s>>>((const T *)logits, label, valid, loss, prob,
                                                                  workspace, k, a->smoothing));
    return dt_gpu_loss_sums(workspace, metrics, n, ROW_STATS, a, s);
}

cudaError_t dt_gpu_xent_bwd(const dt_gpu *gpu, dt_dtype t, const float *prob, const int32_t *label,
                            const int32_t *valid, void *dlogits, int64_t n, int64_t k, const dt_loss_attr *a,
                            const dt_step_params *params, cudaStream_t s) {
    DT_WITH_TYPE(t, grad_kernel<T><<<grid_for(gpu, n * k, 1), THREADS, 0, s>>>(
                        prob, label, valid, (T *)dlogits, n, k, a->smoothing, a->weight, params));
    return cudaPeekAtLastError();
}
