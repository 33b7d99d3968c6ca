/* Kernels over the parameter axis: accumulate, cast, sum of squares (two stages), optimizer update. What
 * changes from step to step is read from device memory, so a captured step stays valid. Segments start at
 * multiples of 64 elements, so four at a time are aligned. */
#include <type_traits>

#include "vec.cuh"

namespace {
using namespace dt;

enum { QUAD = 4, SUM_THREADS = 1024, FACTOR_BLOCKS = 64 };

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

/* One thread before an update: what all of its elements share, and the count of updates. */
__global__ void begin_kernel(dt_axis_args a, dt_gpu_axis_step *out) {
    dt_step_params *p = a.params;
    const float mean = dt_optim_mean_scale(a.sample_rows, p->loss_weight,
                                           a.sample_rows > 0.0f ? a.metrics[DT_METRIC_SAMPLES] : 0.0f);
    float clip = 1.0f;
    out->skip = 0;
    if (a.norm2) {
        const float norm2 = *a.norm2;
        out->skip = !isfinite(norm2);
        const float norm = sqrtf(norm2) * mean;
        if (a.clip_norm > 0.0f) clip = fminf(1.0f, a.clip_norm / (norm + 1e-6f));
        a.metrics[DT_METRIC_GRAD_NORM] = norm;
        a.metrics[DT_METRIC_SKIPPED] = out->skip ? 1.0f : 0.0f;
    }
    if (out->skip) return;
    out->ema_decay = p->ema_decay;
    out->factors = dt_optim_begin(&a.optim, p->lr, clip * mean / p->loss_scale, ++p->updates);
}

template <int KIND> struct Rule;
#define RULE(upper, lower, n)                                                                                \
    template <> struct Rule<DT_OPTIM_##upper> {                                                              \
        static constexpr int N_STATE = n;                                                                    \
        static __device__ dt_optim_element update(const dt_optim_factors *f, float g, dt_optim_element e) {  \
            return dt_optim_##lower(f, g, e);                                                                \
        }                                                                                                    \
    };
DT_OPTIM_LIST(RULE)
#undef RULE

template <int KIND> struct Trust { static constexpr bool IS = false; };
#define TRUST(upper, lower, n)                                                                               \
    template <> struct Trust<DT_OPTIM_##upper> {                                                             \
        static constexpr bool IS = true;                                                                     \
        static __device__ dt_optim_element measure(const dt_optim_factors *f, float g, dt_optim_element e) { \
            return dt_optim_measure_##lower(f, g, e);                                                        \
        }                                                                                                    \
        static __device__ float ratio(const dt_optim_factors *f, float w_norm, float u_norm) {               \
            return dt_optim_ratio_##lower(f, w_norm, u_norm);                                                \
        }                                                                                                    \
    };
DT_OPTIM_TRUST_LIST(TRUST)
#undef TRUST

/* The state of a stretch, and a quad of it; absent vectors are zeros. */
template <int N> struct State {
    float *p[N > 0 ? N : 1];
    __device__ State(const dt_axis_args &a, const dt_gpu_axis_chunk &ch, const dt_gpu_axis_segment *,
                     const float *) {
        const int64_t first = ch.first;
#pragma unroll
        for (int k = 0; k < N; k++) p[k] = a.state[k] ? a.state[k] + first : nullptr;
    }
    __device__ void load_quad(int32_t i, Pack<float, QUAD> *v) const {
#pragma unroll
        for (int k = 0; k < N; k++) {
            v[k] = {};
            if (p[k]) v[k] = load<float, QUAD>(p[k] + i);
        }
    }
    __device__ dt_optim_element one(int32_t i, float w) const {
        dt_optim_element e = {};
        e.w = w;
#pragma unroll
        for (int k = 0; k < N; k++) e.s[k] = p[k] ? p[k][i] : 0.0f;
        return e;
    }
    __device__ void store_one(int32_t i, const dt_optim_element &e) const {
#pragma unroll
        for (int k = 0; k < N; k++)
            if (p[k]) p[k][i] = e.s[k];
    }
    __device__ void store_quad(int32_t i, const Pack<float, QUAD> *v) const {
#pragma unroll
        for (int k = 0; k < N; k++)
            if (p[k]) store<float, QUAD>(p[k] + i, v[k]);
    }
};

/* Of a FACTORED optimizer: the mean square of each element, which nobody stores. */
struct FactoredState {
    const float *row, *column, *vector; /* of the segment */
    int64_t at, cols;                   /* the stretch's first element in it */
    float inv_mean;
    __device__ FactoredState(const dt_axis_args &a, const dt_gpu_axis_chunk &ch,
                             const dt_gpu_axis_segment *segment, const float *inv_means) {
        const dt_gpu_axis_segment &s = segment[ch.segment];
        row = a.state[0] + s.row_at, column = a.state[1] + s.column_at, vector = a.state[2] + s.vector_at;
        at = ch.first - s.offset, cols = s.cols, inv_mean = inv_means[ch.segment];
    }
    __device__ float value(int32_t i) const {
        const int64_t k = at + i;
        return cols == 0 ? vector[k] : dt_optim_mul(row[k / cols], inv_mean) * column[k % cols];
    }
    __device__ void load_quad(int32_t i, Pack<float, QUAD> *v) const {
#pragma unroll
        for (int j = 0; j < QUAD; j++) v[0].v[j] = value(i + j);
    }
    __device__ dt_optim_element one(int32_t i, float w) const {
        dt_optim_element e = {};
        e.w = w;
        e.s[0] = value(i);
        return e;
    }
    __device__ void store_one(int32_t, const dt_optim_element &) const {}
    __device__ void store_quad(int32_t, const Pack<float, QUAD> *) const {}
};
/* Of a MATRIX optimizer: the second vector is of the rest alone. */
template <int N> struct RestState : State<N> {
    __device__ RestState(const dt_axis_args &a, const dt_gpu_axis_chunk &ch,
                         const dt_gpu_axis_segment *segment, const float *inv_means)
        : State<N>(a, ch, segment, inv_means) {
        const dt_gpu_axis_segment &s = segment[ch.segment];
        this->p[1] = a.state[1] + s.rest_at + (ch.first - s.offset);
    }
};
template <int KIND> struct StateOf { using Type = State<Rule<KIND>::N_STATE>; };
template <> struct StateOf<DT_OPTIM_ADAFACTOR> { using Type = FactoredState; };
template <> struct StateOf<DT_OPTIM_MUON> { using Type = RestState<2>; };

/* s += weight (x - s). */
__device__ float moved(float s, float x, float weight) {
    return s + weight * (x - s);
}

/* Mean squares of FACTORED, a segment a row of the grid: a block a row of a matrix, in turns. */
template <typename G>
__global__ void __launch_bounds__(THREADS)
    factor_rows_kernel(dt_axis_args a, const dt_gpu_axis_segment *segment, const dt_gpu_axis_step *step) {
    __shared__ double smem[THREADS];
    if (step->skip) return;
    const dt_gpu_axis_segment s = segment[blockIdx.y];
    const float scale = step->factors.grad_scale;
    for (int64_t row = blockIdx.x; row < s.rows; row += gridDim.x) {
        const G *grad = (const G *)a.grad + s.offset + row * s.cols;
        double sum = 0.0;
        for (int64_t i = threadIdx.x; i < s.cols; i += THREADS) {
            const float g = to_float(grad[i]) * scale;
            sum += (double)g * (double)g;
        }
        const double total = block_total(sum, smem);
        if (threadIdx.x == 0) {
            float *mean = a.state[0] + s.row_at + row;
            *mean = moved(*mean, (float)(total / (double)(s.n_real / s.rows)), step->factors.new_weight);
        }
        __syncthreads();
    }
}

/* A thread a column of a matrix, or an element of a vector. */
template <typename G>
__global__ void __launch_bounds__(THREADS)
    factor_columns_kernel(dt_axis_args a, const dt_gpu_axis_segment *segment, const dt_gpu_axis_step *step) {
    if (step->skip) return;
    const dt_gpu_axis_segment s = segment[blockIdx.y];
    const float scale = step->factors.grad_scale, weight = step->factors.new_weight;
    const G *grad = (const G *)a.grad + s.offset;
    const int64_t n = s.rows > 0 ? s.cols : s.n_elem, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride) {
        if (s.rows == 0) {
            const float g = to_float(grad[i]) * scale;
            float *mean = a.state[2] + s.vector_at + i;
            *mean = moved(*mean, g * g, weight);
            continue;
        }
        double sum = 0.0;
        for (int64_t row = 0; row < s.rows; row++) {
            const float g = to_float(grad[row * s.cols + i]) * scale;
            sum += (double)g * (double)g;
        }
        float *mean = a.state[1] + s.column_at + i;
        *mean = moved(*mean, (float)(sum / (double)s.rows), weight);
    }
}

/* A block per segment. */
__global__ void __launch_bounds__(THREADS)
    factor_mean_kernel(dt_axis_args a, const dt_gpu_axis_segment *segment, const dt_gpu_axis_step *step,
                       float *inv_mean) {
    __shared__ double smem[THREADS];
    const dt_gpu_axis_segment s = segment[blockIdx.x];
    if (step->skip || s.rows == 0) return;
    double sum = 0.0;
    for (int64_t row = threadIdx.x; row < s.rows; row += THREADS) sum += (double)a.state[0][s.row_at + row];
    const double total = block_total(sum, smem);
    if (threadIdx.x == 0)
        inv_mean[blockIdx.x] = 1.0f / fmaxf((float)(total / (double)s.rows), step->factors.eps);
}

/* Element j of a quad. */
template <int N> __device__ dt_optim_element element_of(float w, const Pack<float, QUAD> *ps, int j) {
    dt_optim_element e = {};
    e.w = w;
#pragma unroll
    for (int k = 0; k < N; k++) e.s[k] = ps[k].v[j];
    return e;
}

/* The factors of a chunk's elements. */
__device__ dt_optim_factors chunk_factors(const dt_gpu_axis_step *step, float decay, float lr_scale) {
    dt_optim_factors f = step->factors;
    f.decay = decay;
    f.lr *= lr_scale;
    return f;
}

/* First pass of TRUST: the state, and a chunk's sums of squares. */
template <typename G, int KIND>
__global__ void __launch_bounds__(THREADS)
    measure_kernel(dt_axis_args a, const dt_gpu_axis_segment *segment, const float *inv_mean,
                   const dt_gpu_axis_chunk *chunk, const dt_gpu_axis_step *step, double *square) {
    __shared__ double smem[THREADS];
    constexpr int N = Rule<KIND>::N_STATE;
    if (step->skip) return;
    const dt_gpu_axis_chunk ch = chunk[blockIdx.x];
    const dt_optim_factors f = chunk_factors(step, ch.decay, ch.lr_scale);
    const G *grad = (const G *)a.grad + ch.first;
    const float *w = a.master + ch.first;
    const typename StateOf<KIND>::Type state(a, ch, segment, inv_mean);
    float w2 = 0.0f, u2 = 0.0f;
    for (int32_t i = (int32_t)threadIdx.x * QUAD; i < ch.n_elem; i += THREADS * QUAD) {
        if (i + QUAD <= ch.n_elem) {
            const Pack<G, QUAD> g = load<G, QUAD>(grad + i);
            const Pack<float, QUAD> pw = load<float, QUAD>(w + i);
            Pack<float, QUAD> ps[N];
            state.load_quad(i, ps);
#pragma unroll
            for (int j = 0; j < QUAD; j++) {
                const dt_optim_element e =
                    Trust<KIND>::measure(&f, to_float(g.v[j]), element_of<N>(pw.v[j], ps, j));
#pragma unroll
                for (int k = 0; k < N; k++) ps[k].v[j] = e.s[k];
                w2 = fmaf(e.w, e.w, w2);
                u2 = fmaf(e.u, e.u, u2);
            }
            state.store_quad(i, ps);
        } else {
            for (int32_t q = i; q < ch.n_elem; q++) {
                const dt_optim_element e = Trust<KIND>::measure(&f, to_float(grad[q]), state.one(q, w[q]));
                state.store_one(q, e);
                w2 = fmaf(e.w, e.w, w2);
                u2 = fmaf(e.u, e.u, u2);
            }
        }
    }
    const double sum_w = block_total(w2, smem);
    __syncthreads();
    const double sum_u = block_total(u2, smem);
    if (threadIdx.x == 0) {
        square[2 * blockIdx.x] = sum_w;
        square[2 * blockIdx.x + 1] = sum_u;
    }
}

/* A block per segment: its chunks' sums in a fixed order. */
template <int KIND>
__global__ void __launch_bounds__(THREADS)
    ratio_kernel(const dt_gpu_axis_segment *segment, const double *square, const dt_gpu_axis_step *step,
                 float *ratio) {
    __shared__ double smem[THREADS];
    if (step->skip) return;
    const dt_gpu_axis_segment seg = segment[blockIdx.x];
    double w2 = 0.0, u2 = 0.0;
    for (int32_t i = (int32_t)threadIdx.x; i < seg.n_chunk; i += THREADS) {
        w2 += square[2 * (seg.first_chunk + i)];
        u2 += square[2 * (seg.first_chunk + i) + 1];
    }
    const double sum_w = block_total(w2, smem);
    __syncthreads();
    const double sum_u = block_total(u2, smem);
    if (threadIdx.x != 0) return;
    dt_optim_factors f = chunk_factors(step, seg.decay, seg.lr_scale);
    f.inv_sqrt_n = (float)(1.0 / sqrt((double)seg.n_real));
    ratio[blockIdx.x] = Trust<KIND>::ratio(&f, (float)sqrt(sum_w), (float)sqrt(sum_u));
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

template <typename G, typename P, int KIND>
__global__ void __launch_bounds__(THREADS)
    update_kernel(dt_axis_args a, const dt_gpu_axis_segment *segment, const float *inv_mean,
                  const dt_gpu_axis_chunk *chunk, const dt_gpu_axis_step *step, const float *ratio) {
    constexpr int N = Rule<KIND>::N_STATE;
    if (step->skip) return;
    const dt_gpu_axis_chunk ch = chunk[blockIdx.x];
    dt_optim_factors f = chunk_factors(step, ch.decay, ch.lr_scale);
    if (Trust<KIND>::IS) f.ratio = ratio[ch.segment];
    const float d = step->ema_decay;
    const G *grad = (const G *)a.grad + ch.first;
    P *param = a.param16 ? (P *)a.param16 + ch.first : nullptr;
    float *w = a.master + ch.first, *ema = a.ema ? a.ema + ch.first : nullptr;
    const typename StateOf<KIND>::Type state(a, ch, segment, inv_mean);
    for (int32_t i = (int32_t)threadIdx.x * QUAD; i < ch.n_elem; i += THREADS * QUAD) {
        if (i + QUAD <= ch.n_elem) {
            const Pack<G, QUAD> g = load<G, QUAD>(grad + i);
            Pack<float, QUAD> pw = load<float, QUAD>(w + i), pe = {}, ps[N > 0 ? N : 1];
            Pack<P, QUAD> p16;
            state.load_quad(i, ps);
            if (ema) pe = load<float, QUAD>(ema + i);
#pragma unroll
            for (int j = 0; j < QUAD; j++) {
                const dt_optim_element e =
                    Rule<KIND>::update(&f, to_float(g.v[j]), element_of<N>(pw.v[j], ps, j));
                pw.v[j] = e.w;
#pragma unroll
                for (int k = 0; k < N; k++) ps[k].v[j] = e.s[k];
                pe.v[j] = dt_optim_mul(d, pe.v[j]) + (1.0f - d) * pw.v[j];
                p16.v[j] = from_float<P>(pw.v[j]);
            }
            store<float, QUAD>(w + i, pw);
            state.store_quad(i, ps);
            if (ema) store<float, QUAD>(ema + i, pe);
            if (param) store<P, QUAD>(param + i, p16);
        } else {
            for (int32_t q = i; q < ch.n_elem; q++) {
                const dt_optim_element e = Rule<KIND>::update(&f, to_float(grad[q]), state.one(q, w[q]));
                w[q] = e.w;
                state.store_one(q, e);
                if (ema) ema[q] = dt_optim_mul(d, ema[q]) + (1.0f - d) * w[q];
                if (param) param[q] = from_float<P>(w[q]);
            }
        }
    }
}

/* The step of a matrix before its products. */
template <typename G>
__global__ void __launch_bounds__(THREADS) matrix_before_kernel(dt_axis_args a, const dt_gpu_axis_step *step,
                                                                dt_gpu_matrix m, float *x, double *square) {
    __shared__ double smem[THREADS];
    if (step->skip) return;
    const dt_optim_factors f = step->factors;
    const G *grad = (const G *)a.grad + m.offset;
    float *velocity = a.state[0] + m.offset;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    float sum = 0.0f;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < m.n_elem; i += stride) {
        dt_optim_element e = {};
        e.s[0] = velocity[i];
        e = dt_optim_before_muon(&f, to_float(grad[i]), e);
        velocity[i] = e.s[0];
        x[i] = e.u;
        sum = fmaf(e.u, e.u, sum);
    }
    const double total = block_total(sum, smem);
    if (threadIdx.x == 0) square[blockIdx.x] = total;
}

/* Every block adds the sums of all by itself, in their order. */
__global__ void __launch_bounds__(THREADS) matrix_norm_kernel(const dt_gpu_axis_step *step, int64_t n,
                                                              float *x, const double *square, int n_square) {
    __shared__ double smem[THREADS];
    if (step->skip) return;
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < n_square; i += THREADS) sum += square[i];
    block_total(sum, smem);
    __syncthreads();
    const float inv_norm = 1.0f / fmaxf((float)sqrt(smem[0]), DT_MUON_EPS);
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride) x[i] *= inv_norm;
}

template <typename P>
__global__ void __launch_bounds__(THREADS)
    matrix_after_kernel(dt_axis_args a, const dt_gpu_axis_step *step, dt_gpu_matrix m, const float *o) {
    if (step->skip) return;
    dt_optim_factors f = chunk_factors(step, m.decay, m.lr_scale);
    f.ratio = m.scale;
    const float d = step->ema_decay;
    P *param = a.param16 ? (P *)a.param16 + m.offset : nullptr;
    float *w = a.master + m.offset, *ema = a.ema ? a.ema + m.offset : nullptr;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < m.n_elem; i += stride) {
        dt_optim_element e = {};
        e.w = w[i];
        e = dt_optim_after_muon(&f, o[i], e);
        w[i] = e.w;
        if (ema) ema[i] = dt_optim_mul(d, ema[i]) + (1.0f - d) * e.w;
        if (param) param[i] = from_float<P>(e.w);
    }
}

template <typename G, int KIND>
void measure(const dt_axis_args &a, const dt_gpu_axis_plan &p, cudaStream_t s) {
    if constexpr (Trust<KIND>::IS) {
        if constexpr (std::is_same<typename StateOf<KIND>::Type, FactoredState>::value) {
            const dim3 grid(FACTOR_BLOCKS, (unsigned)p.n_segment);
            factor_rows_kernel<G><<<grid, THREADS, 0, s>>>(a, p.segment, p.step);
            factor_columns_kernel<G><<<grid, THREADS, 0, s>>>(a, p.segment, p.step);
            factor_mean_kernel<<<(unsigned)p.n_segment, THREADS, 0, s>>>(a, p.segment, p.step, p.inv_mean);
        }
        measure_kernel<G, KIND>
            <<<(unsigned)p.n_chunk, THREADS, 0, s>>>(a, p.segment, p.inv_mean, p.chunk, p.step, p.square);
        ratio_kernel<KIND><<<(unsigned)p.n_segment, THREADS, 0, s>>>(p.segment, p.square, p.step, p.ratio);
    }
}

template <typename G, typename P>
void update(const dt_axis_args &a, const dt_gpu_axis_plan &p, cudaStream_t s) {
    switch ((dt_optim_kind)a.optim.kind) {
#define CASE(upper, lower, n)                                                                                \
    case DT_OPTIM_##upper:                                                                                   \
        measure<G, DT_OPTIM_##upper>(a, p, s);                                                               \
        update_kernel<G, P, DT_OPTIM_##upper>                                                                \
            <<<(unsigned)p.n_chunk, THREADS, 0, s>>>(a, p.segment, p.inv_mean, p.chunk, p.step, p.ratio);    \
        break;
        DT_OPTIM_LIST(CASE)
#undef CASE
    case DT_OPTIM_COUNT:
        break;
    }
}

/* 16-bit gradients come with a copy of the weights of the same type; sums of them in fp32 with any. */
template <typename G> void update_any(const dt_axis_args &a, const dt_gpu_axis_plan &p, cudaStream_t s) {
    update<G, G>(a, p, s);
}
template <> void update_any<float>(const dt_axis_args &a, const dt_gpu_axis_plan &p, cudaStream_t s) {
    if (!a.param16)
        update<float, float>(a, p, s);
    else
        DT_WITH_TYPE(a.param16_dtype, update<float, T>(a, p, s));
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

cudaError_t dt_gpu_axis_update(const dt_axis_args *a, const dt_gpu_axis_plan *plan, cudaStream_t s) {
    begin_kernel<<<1, 1, 0, s>>>(*a, plan->step);
    if (plan->n_chunk > 0) DT_WITH_TYPE(a->grad_dtype, update_any<T>(*a, *plan, s));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_matrix_before(const dt_gpu *gpu, const dt_axis_args *a, const dt_gpu_axis_step *step,
                                 const dt_gpu_matrix *m, float *x, double *square, cudaStream_t s) {
    unsigned grid = grid_for(gpu, m->n_elem, 4);
    if (grid > DT_GPU_MATRIX_BLOCKS) grid = DT_GPU_MATRIX_BLOCKS;
    DT_WITH_TYPE(a->grad_dtype, matrix_before_kernel<T><<<grid, THREADS, 0, s>>>(*a, step, *m, x, square));
    matrix_norm_kernel<<<grid, THREADS, 0, s>>>(step, m->n_elem, x, square, (int)grid);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_matrix_after(const dt_gpu *gpu, const dt_axis_args *a, const dt_gpu_axis_step *step,
                                const dt_gpu_matrix *m, const float *o, cudaStream_t s) {
    const unsigned grid = grid_for(gpu, m->n_elem, 4);
    const dt_dtype t = a->param16 ? a->param16_dtype : DT_DTYPE_F32;
    DT_WITH_TYPE(t, matrix_after_kernel<T><<<grid, THREADS, 0, s>>>(*a, step, *m, o));
    return cudaPeekAtLastError();
}
