/* Kernels over the parameter axis: accumulate, cast, sum of squares (two stages), optimizer update. What
 * changes from step to step is read from device memory, so a captured step stays valid. Segments start at
 * multiples of 64 elements, so four at a time are aligned. */
#include "vec.cuh"

namespace {
using namespace dt;

enum { QUAD = 4, SUM_THREADS = 1024 };

template <typename G>
__global__ void __launch_bounds__(THREADS)
    accum_kernel(const G *grad, float *acc, int64_t n, const dt_step_params *params) {
    const bool first = params->first_micro != 0;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t q = (int64_t)blockIdx.x * THREADS + threadIdx.x; q * QUAD < n; q += stride) {
        if (q * QUAD + QUAD <= n) {
            Pack<G, QUAD> g = load<G, QUAD>(grad + q * QUAD);
            Pack<float, QUAD> a = {};
            if (!first) a = load<float, QUAD>(acc + q * QUAD);
#pragma unroll
            for (int j = 0; j < QUAD; j++) a.v[j] = first ? to_float(g.v[j]) : a.v[j] + to_float(g.v[j]);
            store<float, QUAD>(acc + q * QUAD, a);
        } else {
            for (int64_t i = q * QUAD; i < n; i++) acc[i] = (first ? 0.0f : acc[i]) + to_float(grad[i]);
        }
    }
}

template <typename P>
__global__ void __launch_bounds__(THREADS) cast_kernel(const float *master, P *param, int64_t n) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride)
        param[i] = from_float<P>(master[i]);
}

/* Sum of the values of a block's threads, in thread 0. */
__device__ double block_total(double v, double *smem) {
    smem[threadIdx.x] = v;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) smem[threadIdx.x] += smem[threadIdx.x + half];
    }
    return smem[0];
}

template <typename G>
__global__ void __launch_bounds__(THREADS)
    sumsq_kernel(const G *grad, float *partial, int64_t n, const dt_step_params *params) {
    __shared__ double smem[THREADS];
    const float scale = 1.0f / params->loss_scale;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    float sum = 0;
    for (int64_t q = (int64_t)blockIdx.x * THREADS + threadIdx.x; q * QUAD < n; q += stride) {
        if (q * QUAD + QUAD <= n) {
            Pack<G, QUAD> g = load<G, QUAD>(grad + q * QUAD);
#pragma unroll
            for (int j = 0; j < QUAD; j++) {
                float v = to_float(g.v[j]) * scale;
                sum = fmaf(v, v, sum);
            }
        } else {
            for (int64_t i = q * QUAD; i < n; i++) {
                float v = to_float(grad[i]) * scale;
                sum = fmaf(v, v, sum);
            }
        }
    }
    double total = block_total(sum, smem);
    if (threadIdx.x == 0) partial[blockIdx.x] = (float)total;
}

__global__ void __launch_bounds__(SUM_THREADS) sumsq_final(const float *partial, int n, float *norm2) {
    __shared__ double smem[SUM_THREADS];
    double sum = (int)threadIdx.x < n ? (double)partial[threadIdx.x] : 0.0;
    double total = block_total(sum, smem);
    if (threadIdx.x == 0) norm2[0] = (float)((double)norm2[0] + total);
}

/* Factors of this step, the same for all elements. */
struct Factors {
    float grad_scale, lr, inv_correct1, inv_correct2, ema;
    bool skip;
};

__device__ Factors factors(const dt_axis_args &a) {
    const dt_step_params *s = a.params;
    Factors f;
    float clip = 1.0f;
    f.skip = false;
    if (a.norm2) {
        const float norm2 = *a.norm2;
        f.skip = !isfinite(norm2);
        const float norm = sqrtf(norm2);
        if (a.clip_norm > 0.0f) clip = fminf(1.0f, a.clip_norm / (norm + 1e-6f));
        if (blockIdx.x == 0 && threadIdx.x == 0) {
            a.metrics[DT_METRIC_GRAD_NORM] = norm;
            a.metrics[DT_METRIC_SKIPPED] = f.skip ? 1.0f : 0.0f;
        }
    }
    f.grad_scale = clip / s->loss_scale;
    f.lr = s->lr;
    f.ema = s->ema_decay;
    f.inv_correct1 = f.inv_correct2 = 1.0f;
    if (a.optim == DT_OPTIM_ADAMW) {
        f.inv_correct1 = 1.0f / s->adam_correct1;
        f.inv_correct2 = 1.0f / s->adam_correct2;
    }
    return f;
}

/* One element's new weight; m1, m2: its optimizer state (core/backend.h states the rules). */
__device__ float updated(const dt_axis_args &a, const Factors &f, float decay, float g, float w, float *m1,
                         float *m2) {
    g *= f.grad_scale;
    if (a.optim == DT_OPTIM_ADAMW) {
        *m1 = a.beta1 * *m1 + (1.0f - a.beta1) * g;
        *m2 = a.beta2 * *m2 + (1.0f - a.beta2) * (g * g);
        w -= f.lr * decay * w;
        return w - f.lr * (*m1 * f.inv_correct1) / (sqrtf(*m2 * f.inv_correct2) + a.eps);
    }
    g += decay * w;
    if (!a.mom1) return w - f.lr * g;
    *m1 = a.momentum * *m1 + g;
    return w - f.lr * (a.nesterov ? g + a.momentum * *m1 : *m1);
}

__global__ void scale_kernel(dt_axis_args a) {
    dt_step_params *p = a.params;
    if (a.metrics[DT_METRIC_SKIPPED] > 0.0f) {
        p->loss_scale = fmaxf(1.0f, p->loss_scale / 2.0f);
        p->good_steps = 0;
    } else if (++p->good_steps >= a.growth_steps) {
        p->loss_scale = fminf(0x1p24f, p->loss_scale * 2.0f);
        p->good_steps = 0;
    }
    a.metrics[DT_METRIC_LOSS_SCALE] = p->loss_scale;
    a.metrics[DT_METRIC_GOOD_STEPS] = (float)p->good_steps;
}

/* Of arrays that need no alignment: running statistics, a few thousand elements. */
__global__ void __launch_bounds__(THREADS)
    average_kernel(float *ema, const float *x, int64_t n, const float *norm2, const dt_step_params *params) {
    if (norm2 && !isfinite(*norm2)) return;
    const float d = params->ema_decay;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride)
        ema[i] = d * ema[i] + (1.0f - d) * x[i];
}

template <typename G, typename P>
__global__ void __launch_bounds__(THREADS) update_kernel(dt_axis_args a, const dt_gpu_axis_chunk *chunk) {
    const Factors f = factors(a);
    if (f.skip) return;
    const dt_gpu_axis_chunk ch = chunk[blockIdx.x];
    const G *grad = (const G *)a.grad + ch.first;
    P *param = a.param16 ? (P *)a.param16 + ch.first : nullptr;
    float *w = a.master + ch.first;
    float *m1 = a.mom1 ? a.mom1 + ch.first : nullptr, *m2 = a.mom2 ? a.mom2 + ch.first : nullptr;
    float *ema = a.ema ? a.ema + ch.first : nullptr;
    for (int32_t i = (int32_t)threadIdx.x * QUAD; i < ch.n_elem; i += THREADS * QUAD) {
        if (i + QUAD <= ch.n_elem) {
            const Pack<G, QUAD> g = load<G, QUAD>(grad + i);
            Pack<float, QUAD> pw = load<float, QUAD>(w + i), p1 = {}, p2 = {}, pe = {};
            Pack<P, QUAD> p16;
            if (m1) p1 = load<float, QUAD>(m1 + i);
            if (m2) p2 = load<float, QUAD>(m2 + i);
            if (ema) pe = load<float, QUAD>(ema + i);
#pragma unroll
            for (int j = 0; j < QUAD; j++) {
                pw.v[j] = updated(a, f, ch.decay, to_float(g.v[j]), pw.v[j], &p1.v[j], &p2.v[j]);
                pe.v[j] = f.ema * pe.v[j] + (1.0f - f.ema) * pw.v[j];
                p16.v[j] = from_float<P>(pw.v[j]);
            }
            store<float, QUAD>(w + i, pw);
            if (m1) store<float, QUAD>(m1 + i, p1);
            if (m2) store<float, QUAD>(m2 + i, p2);
            if (ema) store<float, QUAD>(ema + i, pe);
            if (param) store<P, QUAD>(param + i, p16);
        } else {
            for (int32_t k = i; k < ch.n_elem; k++) {
                float v1 = m1 ? m1[k] : 0.0f, v2 = m2 ? m2[k] : 0.0f;
                w[k] = updated(a, f, ch.decay, to_float(grad[k]), w[k], &v1, &v2);
                if (m1) m1[k] = v1;
                if (m2) m2[k] = v2;
                if (ema) ema[k] = f.ema * ema[k] + (1.0f - f.ema) * w[k];
                if (param) param[k] = from_float<P>(w[k]);
            }
        }
    }
}

template <typename G>
void update(const dt_axis_args &a, const dt_gpu_axis_chunk *chunk, int32_t n_chunk, cudaStream_t s) {
    if (a.param16 && a.param16_dtype == DT_DTYPE_F16)
        update_kernel<G, __half><<<(unsigned)n_chunk, THREADS, 0, s>>>(a, chunk);
    else if (a.param16 && a.param16_dtype == DT_DTYPE_BF16)
        update_kernel<G, __nv_bfloat16><<<(unsigned)n_chunk, THREADS, 0, s>>>(a, chunk);
    else
        update_kernel<G, float><<<(unsigned)n_chunk, THREADS, 0, s>>>(a, chunk);
}

} // namespace

cudaError_t dt_gpu_axis_accum(const dt_gpu *gpu, const dt_axis_args *a, cudaStream_t s) {
    DT_WITH_TYPE(a->grad_dtype,
                 accum_kernel<T><<<grid_for(gpu, ceil_div(a->n_elem, QUAD), 1), THREADS, 0, s>>>(
                     (const T *)a->grad + a->offset, a->acc + a->offset, a->n_elem, a->params));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_axis_cast(const dt_gpu *gpu, const dt_axis_args *a, cudaStream_t s) {
    if (!a->param16) return cudaSuccess;
    DT_WITH_TYPE(a->param16_dtype, cast_kernel<T><<<grid_for(gpu, a->n_elem, 1), THREADS, 0, s>>>(
                                       a->master + a->offset, (T *)a->param16 + a->offset, a->n_elem));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_axis_scale(const dt_axis_args *a, cudaStream_t s) {
    scale_kernel<<<1, 1, 0, s>>>(*a);
    return cudaGetLastError();
}

cudaError_t dt_gpu_axis_average(const dt_gpu *gpu, const dt_axis_args *a, cudaStream_t s) {
    average_kernel<<<grid_for(gpu, a->n_elem, 1), THREADS, 0, s>>>(a->ema + a->offset, a->master + a->offset,
                                                                   a->n_elem, a->norm2, a->params);
    return cudaGetLastError();
}

cudaError_t dt_gpu_axis_sumsq(const dt_gpu *gpu, const dt_axis_args *a, float *partial, cudaStream_t s) {
    unsigned grid = grid_for(gpu, ceil_div(a->n_elem, QUAD), 4);
    if (grid > DT_GPU_SUMSQ_BLOCKS) grid = DT_GPU_SUMSQ_BLOCKS;
    DT_WITH_TYPE(a->grad_dtype, sumsq_kernel<T>
                 <<<grid, THREADS, 0, s>>>((const T *)a->grad + a->offset, partial, a->n_elem, a->params));
    sumsq_final<<<1, SUM_THREADS, 0, s>>>(partial, (int)grid, a->norm2);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_axis_update(const dt_axis_args *a, const dt_gpu_axis_chunk *chunk, int32_t n_chunk,
                               cudaStream_t s) {
    if (n_chunk == 0) return cudaSuccess;
    DT_WITH_TYPE(a->grad_dtype, update<T>(*a, chunk, n_chunk, s));
    return cudaPeekAtLastError();
}
