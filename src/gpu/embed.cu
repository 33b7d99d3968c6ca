/* Rows of a table by number, and the table's gradient: without atomics, in the order of the indices. */
#include "block.cuh"

namespace {
using namespace dt;

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) embed_kernel(const T *w, const int32_t *index, T *y, int64_t n_vec,
                                                        int64_t c_vec, int64_t rows, int64_t per_table) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_vec; i += stride) {
        const int64_t r = i / c_vec, v = index[r], at = i % c_vec;
        Pack<T, V> p;
        if (v >= 0 && v < rows) {
            p = load<T, V>(w + ((r / per_table * rows + v) * c_vec + at) * V);
        } else {
#pragma unroll
            for (int j = 0; j < V; j++) p.v[j] = from_float<T>(0.0f);
        }
        store<T, V>(y + i * V, p);
    }
}

enum { IN_FLIGHT = 4 };

/* A block an index (and tile of THREADS * V columns, gridDim.y): the first of its value adds up all of them. The
 * search reads a table's indices at most once for each value that there is. dw is zero before. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    embed_bwd_kernel(const T *dy, const int32_t *index, T *dw, int64_t per_table, int64_t c, int64_t rows,
                     int32_t padding) {
    __shared__ int32_t found[THREADS], warp_count[WARPS];
    const int64_t mine = blockIdx.x, table = mine / per_table, end = (table + 1) * per_table;
    const int32_t v = index[mine];
    if (v < 0 || v >= rows || v == padding) return;
    for (int64_t j0 = table * per_table; j0 < mine; j0 += THREADS) { /* not the first: another block has it */
        const int64_t j = j0 + threadIdx.x;
        if (__syncthreads_or(j < mine && index[j] == v)) return;
    }
    const int64_t column = ((int64_t)blockIdx.y * THREADS + threadIdx.x) * V;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    float sum[V];
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] = 0.0f;
    for (int64_t j0 = mine; j0 < end; j0 += THREADS) {
        const int64_t j = j0 + threadIdx.x;
        const bool is = j < end && index[j] == v;
        const unsigned mask = __ballot_sync(0xffffffffu, is);
        if (lane == 0) warp_count[warp] = __popc(mask);
        __syncthreads();
        int32_t before = __popc(mask & ((1u << lane) - 1)), n = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            if (w < warp) before += warp_count[w];
            n += warp_count[w];
        }
        if (is) found[before] = (int32_t)(j - j0);
        __syncthreads();
        if (column < c)
            for (int32_t k = 0; k < n; k += IN_FLIGHT) {
                Pack<T, V> p[IN_FLIGHT];
#pragma unroll
                for (int u = 0; u < IN_FLIGHT; u++)
                    if (k + u < n) p[u] = load<T, V>(dy + (j0 + found[k + u]) * c + column);
#pragma unroll
                for (int u = 0; u < IN_FLIGHT; u++)
#pragma unroll
                    for (int e = 0; e < V; e++)
                        if (k + u < n) sum[e] += to_float(p[u].v[e]);
            }
        __syncthreads(); /* found and warp_count have been read */
    }
    if (column >= c) return;
    Pack<T, V> p;
#pragma unroll
    for (int j = 0; j < V; j++) p.v[j] = from_float<T>(sum[j]);
    store<T, V>(dw + (table * rows + v) * c + column, p);
}

template <typename T, int V> void launch_bwd(const dt_gpu_embed_args &a, cudaStream_t s) {
    const dim3 grid((unsigned)(a.tables * a.per_table), (unsigned)ceil_div(a.c, THREADS * V));
    embed_bwd_kernel<T, V>
        <<<grid, THREADS, 0, s>>>((const T *)a.from, a.index, (T *)a.to, a.per_table, a.c, a.rows, a.padding);
}

template <typename T, int V> void launch(const dt_gpu *gpu, const dt_gpu_embed_args &a, cudaStream_t s) {
    const int64_t c_vec = a.c / V, n_vec = a.tables * a.per_table * c_vec;
    embed_kernel<T, V><<<grid_for(gpu, n_vec, 1), THREADS, 0, s>>>((const T *)a.from, a.index, (T *)a.to,
                                                                   n_vec, c_vec, a.rows, a.per_table);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    one_hot_kernel(const int32_t *index, T *y, int64_t n_elem, int64_t rows) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_elem; i += stride)
        y[i] = from_float<T>(index[i / rows] == i % rows ? 1.0f : 0.0f);
}

} // namespace

cudaError_t dt_gpu_embed(const dt_gpu *gpu, dt_dtype t, const dt_gpu_embed_args *a, cudaStream_t s) {
    const bool al = aligned16(a->from) && aligned16(a->to);
    DT_WITH_TYPE(t, {
        if (al && a->c % WIDE<T> == 0)
            launch<T, WIDE<T>>(gpu, *a, s);
        else
            launch<T, 1>(gpu, *a, s);
    });
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_embed_bwd(dt_dtype t, const dt_gpu_embed_args *a, cudaStream_t s) {
    const bool al = aligned16(a->from) && aligned16(a->to);
    const size_t bytes = (size_t)(a->tables * a->rows * a->c) * (t == DT_DTYPE_F32 ? 4 : 2);
    const cudaError_t err = cudaMemsetAsync(a->to, 0, bytes, s);
    if (err != cudaSuccess) return err;
    DT_WITH_TYPE(t, {
        if (al && a->c % WIDE<T> == 0)
            launch_bwd<T, WIDE<T>>(*a, s);
        else
            launch_bwd<T, 1>(*a, s);
    });
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_one_hot(const dt_gpu *gpu, dt_dtype t, const int32_t *index, void *y, int64_t m,
                           int64_t rows, cudaStream_t s) {
    DT_WITH_TYPE(
        t, (one_hot_kernel<T><<<grid_for(gpu, m * rows, 1), THREADS, 0, s>>>(index, (T *)y, m * rows, rows)));
    return cudaPeekAtLastError();
}
