/* Softmax cross-entropy with label smoothing and its gradient: probabilities are never in memory. */
#include "block.cuh"

namespace {
using namespace dt;

enum { ROW_STATS = 4 };

/* -1: none. */
__device__ __forceinline__ int32_t label_of(const dt_gpu_xent_args &a, int64_t row) {
    const int32_t y = a.valid && a.valid[row / a.rows_of_sample] == 0 ? -1 : a.label[row];
    return y < a.k ? y : -1;
}

/* A block per row. row_stats [rows,4] = loss, has a label, top1, top5. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) row_kernel(dt_gpu_xent_args a, float *row_stats) {
    __shared__ float smem[WARPS];
    const int64_t n = blockIdx.x, k = a.k;
    const T *z = (const T *)a.logits + n * k;
    float top = -INFINITY, total = 0;
    for (int64_t i = threadIdx.x * V; i < k; i += THREADS * V) {
        const Pack<T, V> p = load<T, V>(z + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float v = to_float(p.v[j]);
            top = larger(v, top);
            total += v;
        }
    }
    top = block_reduce(top, larger, smem);
    total = block_reduce(total, plus, smem);
    const int32_t y = label_of(a, n);
    const bool has = y >= 0;
    const float mine = has ? to_float(z[y]) : 0.0f;
    float sum = 0, above = 0;
    for (int64_t i = threadIdx.x * V; i < k; i += THREADS * V) {
        const Pack<T, V> p = load<T, V>(z + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float v = to_float(p.v[j]);
            sum += expf(v - top);
            if (has && i + j != y) above += i + j < y ? !(v < mine) : !(v <= mine); /* NaN counts as above */
        }
    }
    sum = block_reduce(sum, plus, smem);
    above = block_reduce(above, plus, smem);
    if (threadIdx.x) return;
    const float log_sum = top + logf(sum), smoothing = a.attr.smoothing;
    float l = has ? (1.0f - smoothing) * (log_sum - mine) : 0.0f;
    if (has && smoothing > 0.0f) l += smoothing * (log_sum - total / (float)k); /* 0 times -inf is NaN */
    a.loss[n] = l;
    a.stats[2 * n] = top;
    a.stats[2 * n + 1] = 1.0f / sum;
    float *r = row_stats + n * ROW_STATS;
    r[0] = l;
    r[1] = has ? 1.0f : 0.0f;
    r[2] = has && above < 1.0f ? 1.0f : 0.0f;
    r[3] = has && above < 5.0f ? 1.0f : 0.0f;
}

/* A block per row, from the last: the end of what the kernel before wrote is still in the L2. dlogits may be
 * logits. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    grad_kernel(dt_gpu_xent_args a, T *dlogits, const dt_step_params *params) {
    const int64_t n = (int64_t)gridDim.x - 1 - blockIdx.x, k = a.k;
    const float smoothing = a.attr.smoothing, even = smoothing / (float)k, top = a.stats[2 * n],
                inv = a.stats[2 * n + 1];
    const float weight = a.attr.weight * params->loss_weight * params->loss_scale / (float)a.rows_of_sample;
    const int32_t y = label_of(a, n);
    const T *z = (const T *)a.logits + n * k;
    dlogits += n * k;
    for (int64_t i = threadIdx.x * V; i < k; i += THREADS * V) {
        Pack<T, V> p = load<T, V>(z + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float prob =
                __fmul_rn(expf(to_float(p.v[j]) - top), inv); /* rounded, as if it were stored */
            const float target = even + (i + j == y ? 1.0f - smoothing : 0.0f);
            p.v[j] = from_float<T>(y >= 0 ? weight * (prob - target) : 0.0f);
        }
        store<T, V>(dlogits + i, p);
    }
}

} // namespace

/* Sums of samples with one row keep their order. */
cudaError_t dt_gpu_xent(dt_dtype t, const dt_gpu_xent_args *a, float *metrics, float *workspace,
                        cudaStream_t s) {
    DT_WITH_TYPE(t, {
        if (a->rows_of_sample > 1 && aligned16(a->logits) && a->k % WIDE<T> == 0)
            row_kernel<T, WIDE<T>><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, workspace);
        else
            row_kernel<T, 1><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, workspace);
    });
    return dt_gpu_loss_sums(workspace, metrics, a->rows, ROW_STATS, &a->attr, s);
}

cudaError_t dt_gpu_xent_bwd(dt_dtype t, const dt_gpu_xent_args *a, void *dlogits,
                            const dt_step_params *params, cudaStream_t s) {
    const bool al = aligned16(a->logits) && aligned16(dlogits);
    DT_WITH_TYPE(t, {
        if (al && a->k % WIDE<T> == 0)
            grad_kernel<T, WIDE<T>><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, (T *)dlogits, params);
        else
            grad_kernel<T, 1><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, (T *)dlogits, params);
    });
    return cudaPeekAtLastError();
}
