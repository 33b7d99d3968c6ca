/* The cells of recurrences: what is left of a step when the product with w_hh is done. A thread has one unit of one row
 * with all its gates. Sums and the cell state are fp32. */
#include "core/scalar.h"
#include "vec.cuh"

namespace {
using namespace dt;

__device__ bool is_past(const int32_t *lengths, int64_t row, int64_t t) {
    return lengths && t >= lengths[row];
}

template <typename T> __device__ float read(const void *p, int64_t i) {
    return p ? to_float(((const T *)p)[i]) : 0.0f;
}
template <typename T> __device__ void write(void *p, int64_t i, float v) {
    if (p) ((T *)p)[i] = from_float<T>(v);
}

/* The element of [B,H] that a thread has; false: none. */
__device__ bool mine(int64_t n, int64_t *i) {
    *i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    return *i < n;
}

template <typename T> __global__ void __launch_bounds__(THREADS) begin_kernel(dt_gpu_rnn_args a) {
    int64_t i;
    if (!mine(a.b * a.h, &i)) return;
    write<T>(a.state, i, read<T>(a.h0, i));
    a.c[i] = read<T>(a.c0, i);
}

template <typename T> __global__ void __launch_bounds__(THREADS) end_kernel(dt_gpu_rnn_args a) {
    int64_t i;
    if (!mine(a.b * a.h, &i)) return;
    write<T>(a.h_last, i, read<T>(a.state, i));
    write<T>(a.c_last, i, a.c[i]);
}

template <typename T, int KIND>
__global__ void __launch_bounds__(THREADS) cell_kernel(dt_gpu_rnn_args a, int64_t t) {
    constexpr int GATES = KIND == DT_LSTM ? 4 : KIND == DT_GRU ? 3 : 1;
    int64_t i;
    if (!mine(a.b * a.h, &i)) return;
    const int64_t row = i / a.h, j = i % a.h, at = row * a.t + t, gate = at * GATES * a.h + j,
                  out = at * a.h + j;
    float x[GATES], u[GATES], v[GATES], kept = 0, h;
    if (is_past(a.lengths, row, t)) { /* the state stays */
        for (int g = 0; g < GATES; g++) write<T>(a.act, gate + g * a.h, 0);
        if (a.cell) a.cell[out] = 0;
        write<T>(a.y, out, 0);
        return;
    }
#pragma unroll
    for (int g = 0; g < GATES; g++) {
        x[g] = read<T>(a.gates, gate + g * a.h);
        u[g] = a.u[(row * GATES + g) * a.h + j] + (a.bias ? a.bias[g * a.h + j] : 0.0f);
    }
    if (KIND == DT_LSTM) {
        v[0] = dt_sigmoidf(x[0] + u[0]), v[1] = dt_sigmoidf(x[1] + u[1]);
        v[2] = tanhf(x[2] + u[2]), v[3] = dt_sigmoidf(x[3] + u[3]);
        kept = v[1] * a.c[i] + v[0] * v[2];
        a.c[i] = kept;
        h = v[3] * tanhf(kept);
    } else if (KIND == DT_GRU) {
        kept = u[2];
        v[0] = dt_sigmoidf(x[0] + u[0]), v[1] = dt_sigmoidf(x[1] + u[1]);
        v[2] = tanhf(x[2] + v[0] * kept);
        h = v[2] + v[1] * (read<T>(a.state, i) - v[2]);
    } else {
        const float z = x[0] + u[0];
        h = v[0] = KIND == DT_RNN_TANH ? tanhf(z) : z < 0 ? 0 : z; /* NaN stays */
    }
    if (GATES > 1) {
#pragma unroll
        for (int g = 0; g < GATES; g++) write<T>(a.act, gate + g * a.h, v[g]);
        if (a.cell) a.cell[out] = kept;
    }
    write<T>(a.state, i, h);
    write<T>(a.y, out, h);
}

template <typename T> __global__ void __launch_bounds__(THREADS) begin_bwd_kernel(dt_gpu_rnn_bwd_args a) {
    int64_t i;
    if (!mine(a.b * a.h, &i)) return;
    a.rec[i] = 0;
    a.carry[i] = read<T>(a.dh_last, i);
    a.dc[i] = read<T>(a.dc_last, i);
}

template <typename T> __global__ void __launch_bounds__(THREADS) end_bwd_kernel(dt_gpu_rnn_bwd_args a) {
    int64_t i;
    if (!mine(a.b * a.h, &i)) return;
    write<T>(a.dh0, i, a.carry[i] + a.rec[i]);
    write<T>(a.dc0, i, a.dc[i]);
}

/* Where in [B,T,H] the step before t of a row is; -1: it is the initial state. */
__device__ int64_t before(const dt_gpu_rnn_bwd_args &a, int64_t row, int64_t t) {
    const int64_t from = a.reverse ? t + 1 : t - 1;
    return from >= 0 && from < a.t && !is_past(a.lengths, row, from) ? row * a.t + from : -1;
}

template <typename T, int KIND>
__global__ void __launch_bounds__(THREADS) slope_kernel(dt_gpu_rnn_bwd_args a, int64_t t) {
    constexpr int GATES = KIND == DT_LSTM ? 4 : KIND == DT_GRU ? 3 : 1;
    int64_t i;
    if (!mine(a.b * a.h, &i)) return;
    const int64_t row = i / a.h, j = i % a.h, at = row * a.t + t, gate = at * GATES * a.h + j,
                  out = at * a.h + j;
    const int64_t prev = before(a, row, t);
    float v[GATES], d[GATES], dh = a.carry[i] + a.rec[i], dn = 0, carry = 0;
    if (is_past(a.lengths, row, t)) { /* h is that of the step before */
        carry = dh;
#pragma unroll
        for (int g = 0; g < GATES; g++) d[g] = 0;
    } else {
        dh += read<T>(a.dy, out);
        if (GATES > 1) {
#pragma unroll
            for (int g = 0; g < GATES; g++) v[g] = read<T>(a.act, gate + g * a.h);
        }
        if (KIND == DT_LSTM) {
            const float tc = tanhf(a.cell[out]),
                        c_prev = prev >= 0 ? a.cell[prev * a.h + j] : read<T>(a.c0, i);
            const float dc = a.dc[i] + dh * v[3] * (1 - tc * tc);
            d[0] = dc * v[2] * v[0] * (1 - v[0]), d[1] = dc * c_prev * v[1] * (1 - v[1]);
            d[2] = dc * v[0] * (1 - v[2] * v[2]), d[3] = dh * tc * v[3] * (1 - v[3]);
            a.dc[i] = dc * v[1];
        } else if (KIND == DT_GRU) {
            const float h_prev = prev >= 0 ? read<T>(a.y, prev * a.h + j) : read<T>(a.h0, i);
            dn = dh * (1 - v[1]) * (1 - v[2] * v[2]);
            d[0] = dn * a.cell[out] * v[0] * (1 - v[0]), d[1] = dh * (h_prev - v[2]) * v[1] * (1 - v[1]);
            d[2] = dn * v[0];
            carry = dh * v[1];
        } else {
            const float y = read<T>(a.y, out);
            d[0] = KIND == DT_RNN_TANH ? dh * (1 - y * y) : y > 0 ? dh : 0;
        }
    }
    a.carry[i] = carry;
    if (KIND == DT_GRU) write<T>(a.dn, out, dn);
#pragma unroll
    for (int g = 0; g < GATES; g++) {
        write<T>(a.dgates, gate + g * a.h, d[g]);
        write<T>(a.du, (row * GATES + g) * a.h + j, d[g]);
    }
}

/* The h that every step began with. */
template <typename T> __global__ void __launch_bounds__(THREADS) previous_kernel(dt_gpu_rnn_bwd_args a) {
    int64_t i;
    if (!mine(a.b * a.t * a.h, &i)) return;
    const int64_t j = i % a.h, row = i / a.h / a.t, prev = before(a, row, i / a.h % a.t);
    write<T>(a.prev, i, prev >= 0 ? read<T>(a.y, prev * a.h + j) : read<T>(a.h0, row * a.h + j));
}

unsigned blocks_for(int64_t n) {
    return (unsigned)ceil_div(n, THREADS);
}

} // namespace

#define WITH_KIND(kind, ...)                                                                                 \
    switch (kind) {                                                                                          \
    case DT_LSTM: {                                                                                          \
        constexpr int KIND = DT_LSTM;                                                                        \
        __VA_ARGS__;                                                                                         \
        break;                                                                                               \
    }                                                                                                        \
    case DT_GRU: {                                                                                           \
        constexpr int KIND = DT_GRU;                                                                         \
        __VA_ARGS__;                                                                                         \
        break;                                                                                               \
    }                                                                                                        \
    case DT_RNN_RELU: {                                                                                      \
        constexpr int KIND = DT_RNN_RELU;                                                                    \
        __VA_ARGS__;                                                                                         \
        break;                                                                                               \
    }                                                                                                        \
    default: {                                                                                               \
        constexpr int KIND = DT_RNN_TANH;                                                                    \
        __VA_ARGS__;                                                                                         \
    }                                                                                                        \
    }

cudaError_t dt_gpu_rnn_begin(dt_dtype t, const dt_gpu_rnn_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, (begin_kernel<T><<<blocks_for(a->b * a->h), THREADS, 0, s>>>(*a)));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_rnn_step(dt_dtype t, const dt_gpu_rnn_args *a, int64_t step, cudaStream_t s) {
    const unsigned grid = blocks_for(a->b * a->h);
    DT_WITH_TYPE(t, WITH_KIND(a->kind, cell_kernel<T, KIND><<<grid, THREADS, 0, s>>>(*a, step)));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_rnn_end(dt_dtype t, const dt_gpu_rnn_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, (end_kernel<T><<<blocks_for(a->b * a->h), THREADS, 0, s>>>(*a)));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_rnn_bwd_begin(dt_dtype t, const dt_gpu_rnn_bwd_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, (begin_bwd_kernel<T><<<blocks_for(a->b * a->h), THREADS, 0, s>>>(*a)));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_rnn_bwd_step(dt_dtype t, const dt_gpu_rnn_bwd_args *a, int64_t step, cudaStream_t s) {
    const unsigned grid = blocks_for(a->b * a->h);
    DT_WITH_TYPE(t, WITH_KIND(a->kind, slope_kernel<T, KIND><<<grid, THREADS, 0, s>>>(*a, step)));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_rnn_bwd_end(dt_dtype t, const dt_gpu_rnn_bwd_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, (end_bwd_kernel<T><<<blocks_for(a->b * a->h), THREADS, 0, s>>>(*a)));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_rnn_previous(dt_dtype t, const dt_gpu_rnn_bwd_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, (previous_kernel<T><<<blocks_for(a->b * a->t * a->h), THREADS, 0, s>>>(*a)));
    return cudaPeekAtLastError();
}
