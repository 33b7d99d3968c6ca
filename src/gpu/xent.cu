/* Softmax cross-entropy with label smoothing and mixed labels and its gradient: probabilities are never in memory. And
 * of the same targets the mean of the classes' logistic losses. */
#include "block.cuh"

namespace {
using namespace dt;

enum { ROW_STATS = 4 };

/* -1: none. */
__device__ __forceinline__ int32_t label_of(const dt_gpu_xent_args &a, int64_t row) {
    const int32_t y = a.valid && a.valid[row / a.rows_of_sample] == 0 ? -1 : a.label[row];
    return y < a.k ? y : -1;
}

/* The target of a row whose label is y >= 0. */
__device__ __forceinline__ dt_loss_target target_of(const dt_gpu_xent_args &a, int64_t row, int32_t y) {
    const int32_t other = a.partner && a.partner[row] < a.k ? a.partner[row] : -1;
    return dt_loss_target_of(y, other, other >= 0 ? a.share[row] : 1.0f, a.attr.smoothing,
                             a.attr.binary ? a.attr.threshold : 0.0f, a.k);
}

/* What a row leaves, of the largest of its logits, the sum of their exponentials against it, the sum of themselves, and how
 * many stand above its label's. */
template <typename T>
__device__ void leave_row(const dt_gpu_xent_args &a, int64_t n, int32_t y, float mine, float top, float sum,
                          float total, float above, float *row_stats) {
    const int64_t k = a.k;
    const bool has = y >= 0;
    const float log_sum = top + logf(sum), smoothing = a.attr.smoothing;
    float labels = mine;
    if (has && a.partner) {
        const dt_loss_target t = target_of(a, n, y);
        if (t.partner >= 0)
            labels =
                a.share[n] * mine + (1.0f - a.share[n]) * to_float(((const T *)a.logits)[n * k + t.partner]);
    }
    float l = has ? (1.0f - smoothing) * (log_sum - labels) : 0.0f;
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

/* A block per row. row_stats [rows,4] = loss, has a label, top1, top5. */
template <typename T>
__global__ void __launch_bounds__(THREADS) row_kernel(dt_gpu_xent_args a, float *row_stats) {
    __shared__ float smem[WARPS];
    const int64_t n = blockIdx.x, k = a.k;
    const T *z = (const T *)a.logits + n * k;
    float top = -INFINITY, total = 0;
    for (int64_t i = threadIdx.x; i < k; i += THREADS) {
        const float v = to_float(z[i]);
        top = larger(v, top);
        total += v;
    }
    top = block_reduce(top, larger, smem);
    total = block_reduce(total, plus, smem);
    const int32_t y = label_of(a, n);
    const bool has = y >= 0;
    const float mine = has ? to_float(z[y]) : 0.0f;
    float sum = 0, above = 0;
    for (int64_t i = threadIdx.x; i < k; i += THREADS) {
        const float v = to_float(z[i]);
        sum += expf(v - top);
        if (has && i != y) above += i < y ? !(v < mine) : !(v <= mine); /* NaN counts as above */
    }
    sum = block_reduce(sum, plus, smem);
    above = block_reduce(above, plus, smem);
    if (threadIdx.x == 0) leave_row<T>(a, n, y, mine, top, sum, total, above, row_stats);
}

/* e^x as 2^(x log2 e) of 16-bit logits, whose own rounding is larger; of fp32 as exactly as it goes. */
template <typename T> __device__ __forceinline__ float exp_against(float x, float base) {
    if (sizeof(T) == 4) return expf(x - base);
    constexpr float LOG2E = 1.44269504f;
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(fmaf(x, LOG2E, -base * LOG2E)));
    return y;
}

/* The same, reading the row once: each thread keeps its largest and the sum against that. A NaN makes the sum one. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) row_once_kernel(dt_gpu_xent_args a, float *row_stats) {
    constexpr int AHEAD = 4; /* loads under way */
    __shared__ float smem[WARPS];
    const int64_t n = blockIdx.x;
    const int32_t k = (int32_t)a.k, y = label_of(a, n);
    const T *z = (const T *)a.logits + n * a.k;
    const float mine = y >= 0 ? to_float(z[y]) : 0.0f;
    const bool smooth = a.attr.smoothing > 0.0f;
    float top = -INFINITY, sum = 0, total = 0;
    int32_t above = 0;
    for (int32_t i0 = threadIdx.x * V; i0 < k; i0 += THREADS * V * AHEAD) {
        Pack<T, V> p[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
            if (i0 + u * THREADS * V < k) p[u] = load<T, V>(z + i0 + u * THREADS * V);
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            const int32_t i = i0 + u * THREADS * V;
            if (i >= k) break;
            float v[V], most = top;
#pragma unroll
            for (int j = 0; j < V; j++) v[j] = to_float(p[u].v[j]), most = fmaxf(v[j], most);
            const float base = most == -INFINITY ? 0.0f : most; /* nothing seen yet */
            sum *= exp_against<T>(top, base);
#pragma unroll
            for (int j = 0; j < V; j++) sum += exp_against<T>(v[j], base);
            top = most;
            if (smooth)
#pragma unroll
                for (int j = 0; j < V; j++) total += v[j];
            if (i + V <= y) { /* of equals those before the label stand above it; NaN counts as above */
#pragma unroll
                for (int j = 0; j < V; j++) above += !(v[j] < mine);
            } else if (i > y) {
#pragma unroll
                for (int j = 0; j < V; j++) above += !(v[j] <= mine);
            } else {
#pragma unroll
                for (int j = 0; j < V; j++)
                    if (i + j != y) above += i + j < y ? !(v[j] < mine) : !(v[j] <= mine);
            }
        }
    }
    const float own = top;
    top = block_reduce(top, larger, smem);
    sum = block_reduce(own == -INFINITY && sum == 0.0f ? 0.0f : sum * expf(own - top), plus, smem);
    total = block_reduce(total, plus, smem);
    const float over = block_reduce((float)above, plus, smem);
    if (threadIdx.x == 0) leave_row<T>(a, n, y, mine, top, sum, total, over, row_stats);
}

/* A block per row, from the last: the end of what the kernel before wrote is still in the L2. dlogits may be
 * logits. */
template <typename T, int V, bool MIXED>
__global__ void __launch_bounds__(THREADS)
    grad_kernel(dt_gpu_xent_args a, T *dlogits, const dt_step_params *params) {
    const int64_t n = (int64_t)gridDim.x - 1 - blockIdx.x, k = a.k;
    const float top = a.stats[2 * n], inv = a.stats[2 * n + 1];
    const float weight = a.attr.weight * params->loss_weight * params->loss_scale / (float)a.rows_of_sample;
    const int32_t y = label_of(a, n);
    const dt_loss_target t = target_of(a, n, y);
    const T *z = (const T *)a.logits + n * k;
    dlogits += n * k;
    for (int64_t i = threadIdx.x * V; i < k; i += THREADS * V) {
        Pack<T, V> p = load<T, V>(z + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float prob =
                __fmul_rn(expf(to_float(p.v[j]) - top), inv); /* rounded, as if it were stored */
            float target = t.even + (i + j == y ? t.own : 0.0f);
            if (MIXED && i + j == t.partner) target += t.other;
            p.v[j] = from_float<T>(y >= 0 ? weight * (prob - target) : 0.0f);
        }
        store<T, V>(dlogits + i, p);
    }
}

/* A block per row, which changes row_stats' loss: of each class its logistic loss. */
template <typename T>
__global__ void __launch_bounds__(THREADS) binary_kernel(dt_gpu_xent_args a, float *row_stats) {
    __shared__ float smem[WARPS];
    const int64_t n = blockIdx.x;
    const int32_t y = label_of(a, n);
    const dt_loss_target t = target_of(a, n, y);
    const T *z = (const T *)a.logits + n * a.k;
    float sum = 0;
    for (int64_t i = threadIdx.x; y >= 0 && i < a.k; i += THREADS)
        sum += dt_loss_value(DT_LOSS_BCE, to_float(z[i]), dt_loss_target_at(&t, i), 1.0f);
    sum = block_reduce(sum, plus, smem);
    if (threadIdx.x == 0) a.loss[n] = row_stats[n * ROW_STATS] = sum / (float)a.k;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    binary_grad_kernel(dt_gpu_xent_args a, T *dlogits, const dt_step_params *params) {
    const int64_t n = blockIdx.x;
    const float weight =
        a.attr.weight * params->loss_weight * params->loss_scale / (float)a.rows_of_sample / (float)a.k;
    const int32_t y = label_of(a, n);
    const dt_loss_target t = target_of(a, n, y);
    const T *z = (const T *)a.logits + n * a.k;
    dlogits += n * a.k;
    for (int64_t i = threadIdx.x; i < a.k; i += THREADS) {
        const float slope = dt_loss_slope(DT_LOSS_BCE, to_float(z[i]), dt_loss_target_at(&t, i), 1.0f);
        dlogits[i] = from_float<T>(y >= 0 ? weight * slope : 0.0f);
    }
}

template <typename T, int V>
void run_grad(const dt_gpu_xent_args &a, T *dlogits, const dt_step_params *params, cudaStream_t s) {
    if (a.partner)
        grad_kernel<T, V, true><<<(unsigned)a.rows, THREADS, 0, s>>>(a, dlogits, params);
    else
        grad_kernel<T, V, false><<<(unsigned)a.rows, THREADS, 0, s>>>(a, dlogits, params);
}

} // namespace

/* Sums of samples with one row keep their order. */
cudaError_t dt_gpu_xent(dt_dtype t, const dt_gpu_xent_args *a, float *metrics, float *workspace,
                        cudaStream_t s) {
    DT_WITH_TYPE(t, {
        if (a->rows_of_sample > 1 && aligned16(a->logits) && a->k % WIDE<T> == 0 && a->k <= INT32_MAX / 2)
            row_once_kernel<T, WIDE<T>><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, workspace);
        else
            row_kernel<T><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, workspace);
        if (a->attr.binary) binary_kernel<T><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, workspace);
    });
    return dt_gpu_loss_sums(workspace, metrics, a->rows, ROW_STATS, &a->attr, s);
}

cudaError_t dt_gpu_xent_bwd(dt_dtype t, const dt_gpu_xent_args *a, void *dlogits,
                            const dt_step_params *params, cudaStream_t s) {
    const bool al = aligned16(a->logits) && aligned16(dlogits);
    DT_WITH_TYPE(t, {
        if (a->attr.binary)
            binary_grad_kernel<T><<<(unsigned)a->rows, THREADS, 0, s>>>(*a, (T *)dlogits, params);
        else if (al && a->k % WIDE<T> == 0)
            run_grad<T, WIDE<T>>(*a, (T *)dlogits, params, s);
        else
            run_grad<T, 1>(*a, (T *)dlogits, params, s);
    });
    return cudaPeekAtLastError();
}
