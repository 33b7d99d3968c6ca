/* Losses of core/loss.h, their sums (two stages, fixed order, those of XENT too) and gradients; and the CAST
 * op. */
#include "block.cuh"

namespace {
using namespace dt;

enum { STATS_MAX = DT_GPU_LOSS_STATS };

/* A block per row of `len` elements. row_stats [N, STATS_MAX] = loss, whether it counts, the task's sums. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    row_kernel(const T *x, const float *target, const int32_t *valid, float *loss, float *row_stats,
               int64_t len, dt_loss_attr a) {
    __shared__ float smem[WARPS];
    const int64_t n = blockIdx.x;
    const bool counts = !valid || valid[n] != 0;
    float sum = 0, task[DT_LOSS_SUMS_MAX] = {0};
    for (int64_t i = threadIdx.x; counts && i < len; i += THREADS) {
        const float v = to_float(x[n * len + i]), t = target ? target[n * len + i] : 0.0f;
        sum += dt_loss_value(a.kind, v, t, a.param);
        dt_loss_add_sums(a.sums, v, t, task);
    }
    sum = block_reduce(sum, plus, smem);
#pragma unroll
    for (int j = 0; j < DT_LOSS_SUMS_MAX; j++) task[j] = block_reduce(task[j], plus, smem);
    if (threadIdx.x) return;
    dt_loss_end_sums(a.sums, len, task);
    float *r = row_stats + n * STATS_MAX;
    loss[n] = r[0] = counts ? sum / (float)len : 0.0f;
    r[1] = counts ? 1.0f : 0.0f;
#pragma unroll
    for (int j = 0; j < DT_LOSS_SUMS_MAX; j++) r[2 + j] = counts ? task[j] : 0.0f;
}

/* One block: a thread adds every THREADS-th row, then a tree. */
__global__ void __launch_bounds__(THREADS) sums_kernel(const float *row_stats, float *metrics, int64_t n,
                                                       int32_t n_stat, float weight, int32_t nth) {
    __shared__ float smem[WARPS];
    for (int32_t j = 0; j < n_stat; j++) {
        float sum = 0;
        for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += row_stats[i * n_stat + j];
        const float v = block_reduce(sum, plus, smem);
        if (threadIdx.x) continue;
        if (nth > 0 && j < 2) metrics[DT_METRIC_LOSSES + 2 * (nth - 1) + j] += v;
        if (j == 0)
            metrics[DT_METRIC_LOSS] += weight * v;
        else if (nth <= 1)
            metrics[j == 1 ? DT_METRIC_SAMPLES : DT_METRIC_TASK + j - 2] += v;
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    grad_kernel(const T *x, const float *target, const int32_t *valid, T *dx, int64_t n_elem, int64_t len,
                dt_loss_attr a, const dt_step_params *params) {
    const float seed = a.weight * params->loss_weight * params->loss_scale / (float)len;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_elem; i += stride) {
        const bool counts = !valid || valid[i / len] != 0;
        const float slope = dt_loss_slope(a.kind, to_float(x[i]), target ? target[i] : 0.0f, a.param);
        dx[i] = from_float<T>(counts ? seed * slope : 0.0f);
    }
}

__device__ float load_float(dt_dtype from, const void *x, int64_t i) {
    switch (from) {
    case DT_DTYPE_F16:
        return to_float(((const __half *)x)[i]);
    case DT_DTYPE_BF16:
        return to_float(((const __nv_bfloat16 *)x)[i]);
    case DT_DTYPE_U8:
    case DT_DTYPE_BOOL:
        return (float)((const uint8_t *)x)[i];
    case DT_DTYPE_I8:
        return (float)((const int8_t *)x)[i];
    case DT_DTYPE_I32:
        return (float)((const int32_t *)x)[i];
    case DT_DTYPE_I64:
        return (float)((const int64_t *)x)[i];
    case DT_DTYPE_F64:
        return (float)((const double *)x)[i];
    default:
        return ((const float *)x)[i];
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) cast_kernel(dt_dtype from, const void *x, T *y, int64_t n) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride)
        y[i] = from_float<T>(load_float(from, x, i));
}

__global__ void __launch_bounds__(THREADS)
    cast_whole_kernel(dt_dtype from, const void *x, int32_t *y, int64_t n) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride) {
        const int64_t v = from == DT_DTYPE_U8    ? ((const uint8_t *)x)[i]
                          : from == DT_DTYPE_I32 ? ((const int32_t *)x)[i]
                                                 : ((const int64_t *)x)[i];
        y[i] = (int32_t)(v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v);
    }
}

} // namespace

cudaError_t dt_gpu_loss_sums(const float *row_stats, float *metrics, int64_t n, int32_t n_stat,
                             const dt_loss_attr *a, cudaStream_t s) {
    sums_kernel<<<1, THREADS, 0, s>>>(row_stats, metrics, n, n_stat, a->weight, a->nth);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_loss(dt_dtype t, const void *x, const float *target, const int32_t *valid, float *metrics,
                        float *loss, int64_t n, int64_t len, const dt_loss_attr *a, float *workspace,
                        cudaStream_t s) {
    DT_WITH_TYPE(t, row_kernel<T>
                 <<<(unsigned)n, THREADS, 0, s>>>((const T *)x, target, valid, loss, workspace, len, *a));
    return dt_gpu_loss_sums(workspace, metrics, n, STATS_MAX, a, s);
}

cudaError_t dt_gpu_loss_bwd(const dt_gpu *gpu, dt_dtype t, const void *x, const float *target,
                            const int32_t *valid, void *dx, int64_t n, int64_t len, const dt_loss_attr *a,
                            const dt_step_params *params, cudaStream_t s) {
    DT_WITH_TYPE(t, grad_kernel<T><<<grid_for(gpu, n * len, 1), THREADS, 0, s>>>(
                        (const T *)x, target, valid, (T *)dx, n * len, len, *a, params));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_cast_values(const dt_gpu *gpu, dt_dtype from, const void *x, dt_dtype to, void *y,
                               int64_t n, cudaStream_t s) {
    const unsigned grid = grid_for(gpu, n, 1);
    if (to == DT_DTYPE_I32)
        cast_whole_kernel<<<grid, THREADS, 0, s>>>(from, x, (int32_t *)y, n);
    else
        DT_WITH_TYPE(to, cast_kernel<T><<<grid, THREADS, 0, s>>>(from, x, (T *)y, n));
    return cudaPeekAtLastError();
}
