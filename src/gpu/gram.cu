/* The smaller kernels around Gram matrices: sums of splits, the masked gradient, and the parameter gradients
 * from P = dz^T x. */
#include "gram.cuh"

namespace {
using namespace dt;

enum { LANES = 16, MASK_SPLITS = 1024, MASK_TILE = 16, MASK_BLOCKS_PER_SM = 3 };

/* Blocks of WARP columns x blockDim.y lanes. The first `blocks` blocks make out, the others out2. */
__global__ void sum_splits_kernel(dt_gpu_sum_args a, unsigned blocks) {
    __shared__ double smem[LANES * WARP];
    const bool second = blockIdx.x >= blocks;
    const float *partial = second ? a.partial2 : a.partial;
    const int64_t n = second ? a.n2 : a.n;
    const int64_t i = (int64_t)(second ? blockIdx.x - blocks : blockIdx.x) * WARP + threadIdx.x;
    double sum = 0;
    if (i < n) {
        const int stride = blockDim.y;
#pragma unroll 8
        for (int s = threadIdx.y; s < a.splits; s += stride) sum += partial[s * n + i];
    }
    smem[threadIdx.y * WARP + threadIdx.x] = sum;
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y >= half) continue;
        sum += smem[(threadIdx.y + half) * WARP + threadIdx.x];
        smem[threadIdx.y * WARP + threadIdx.x] = sum;
    }
    if (i < n && threadIdx.y == 0) (second ? a.out2 : a.out)[i] = (float)sum;
}

/* ---- the masked gradient ---- */

/* dz = (dy [+ dy2]) where y > 0; partial [splits,C] of its column sums. From the last row to the first: the
 * end of what the kernel before wrote is still in the L2. */
template <typename T, int V, bool SECOND, bool MASK>
__global__ void __launch_bounds__(THREADS, MASK_BLOCKS_PER_SM) mask_kernel(dt_gpu_bn_mask_args a) {
    constexpr int U = 4;
    __shared__ float smem[THREADS * V];
    const int64_t cv = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, c0 = cv * V, c = a.c;
    const int64_t stride = (int64_t)gridDim.y * blockDim.y;
    const T *dy = (const T *)a.dy, *dy2 = (const T *)a.dy2, *y = (const T *)a.y;
    T *dz = (T *)a.dz;
    float sum[V] = {};
    auto one = [&](int64_t at, Pack<T, V> g, const Pack<T, V> &g2, const Pack<T, V> &py) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            float d = to_float(g.v[j]);
            if (SECOND) d += to_float(g2.v[j]);
            if (MASK && !(to_float(py.v[j]) > 0.0f)) d = 0.0f;
            g.v[j] = from_float<T>(d);
            sum[j] += to_float(g.v[j]); /* of what the products will read */
        }
        if (dz) store<T, V>(dz + at, g);
    };
    if (c0 < c) {
        int64_t r = a.rows - 1 - ((int64_t)blockIdx.y * blockDim.y + threadIdx.y);
        for (; r - (U - 1) * stride >= 0; r -= U * stride) {
            Pack<T, V> g[U], g2[U], py[U];
#pragma unroll
            for (int u = 0; u < U; u++) {
                const int64_t at = (r - u * stride) * c + c0;
                g[u] = load<T, V>(dy + at);
                if (SECOND) g2[u] = load<T, V>(dy2 + at);
                if (MASK) py[u] = load<T, V>(y + at);
            }
#pragma unroll
            for (int u = 0; u < U; u++) one((r - u * stride) * c + c0, g[u], g2[u], py[u]);
        }
        for (; r >= 0; r -= stride) {
            const int64_t at = r * c + c0;
            Pack<T, V> g = load<T, V>(dy + at), g2 = g, py = g;
            if (SECOND) g2 = load<T, V>(dy2 + at);
            if (MASK) py = load<T, V>(y + at);
            one(at, g, g2, py);
        }
    }
    for (int j = 0; j < V; j++) smem[(threadIdx.y * V + j) * blockDim.x + threadIdx.x] = sum[j];
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            for (int j = 0; j < V; j++)
                smem[(threadIdx.y * V + j) * blockDim.x + threadIdx.x] +=
                    smem[((threadIdx.y + half) * V + j) * blockDim.x + threadIdx.x];
    }
    if (threadIdx.y == 0 && c0 < c)
        for (int j = 0; j < V; j++) a.workspace[blockIdx.y * c + c0 + j] = smem[j * blockDim.x + threadIdx.x];
}

template <typename T, int V>
cudaError_t mask(const dt_gpu *gpu, const dt_gpu_bn_mask_args &a, cudaStream_t s) {
    const Split m = split_columns(gpu, a.rows, a.c / V, MASK_TILE, MASK_BLOCKS_PER_SM, MASK_SPLITS);
    if (a.dy2 && a.y)
        mask_kernel<T, V, true, true><<<m.grid, m.block, 0, s>>>(a);
    else if (a.y)
        mask_kernel<T, V, false, true><<<m.grid, m.block, 0, s>>>(a);
    else if (a.dy2)
        mask_kernel<T, V, true, false><<<m.grid, m.block, 0, s>>>(a);
    else
        mask_kernel<T, V, false, false><<<m.grid, m.block, 0, s>>>(a);
    const cudaError_t err = cudaPeekAtLastError();
    dt_gpu_sum_args add = {};
    add.partial = a.workspace, add.out = a.dbeta, add.n = a.c, add.splits = m.splits;
    return err == cudaSuccess ? dt_gpu_sum_splits(&add, s) : err;
}

/* ---- gradients of the parameters ---- */

/* A warp per output channel, V columns a lane. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) gram_grad_kernel(dt_gpu_gram_grad_args a) {
    const int64_t k = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    if (k >= a.k) return;
    const T *w = (const T *)a.w + k * a.c;
    const float *p = a.p + k * a.c, *wcov = a.wcov + k * a.c, dbeta = a.dbeta[k];
    const float invstd = a.invstd[k], gamma = a.gamma[k], mean = a.mean[k]; /* one wait for all */
    const float share = (float)(dbeta / a.rows);
    const int first = threadIdx.x % WARP * V;
    float dot = 0;
#pragma unroll 4
    for (int64_t i = first; i < a.c; i += WARP * V) {
        const Pack<T, V> pw = load<T, V>(w + i);
        const Pack<float, V> pp = load<float, V>(p + i), sum = load<float, V>(a.sum + i);
#pragma unroll
        for (int j = 0; j < V; j++) dot = fmaf(to_float(pw.v[j]), fmaf(-share, sum.v[j], pp.v[j]), dot);
    }
    const float dgamma = invstd * warp_sum(dot), ka = gamma * invstd;
    const double kb = -(double)ka * invstd * dgamma / a.rows;
    const float mb = -ka * invstd * dgamma; /* B times the rows */
    if (threadIdx.x % WARP == 0) {
        ((T *)a.dgamma)[k] = from_float<T>(dgamma);
        ((T *)a.dbeta_out)[k] = from_float<T>(dbeta);
        a.coef[k] = (float)kb;
        a.coef[a.k + k] = (float)(-(double)ka * dbeta / a.rows - kb * mean);
    }
#pragma unroll 4
    for (int64_t i = first; i < a.c; i += WARP * V) {
        const Pack<T, V> pw = load<T, V>(w + i);
        const Pack<float, V> pp = load<float, V>(p + i), sum = load<float, V>(a.sum + i),
                             pc = load<float, V>(wcov + i);
        Pack<T, V> dw, wa;
#pragma unroll
        for (int j = 0; j < V; j++) {
            dw.v[j] = from_float<T>(fmaf(ka, fmaf(-share, sum.v[j], pp.v[j]), mb * pc.v[j]));
            wa.v[j] = from_float<T>(ka * to_float(pw.v[j]));
        }
        store<T, V>((T *)a.dw + k * a.c + i, dw);
        store<T, V>((T *)a.wa + k * a.c + i, wa);
    }
}

enum { NARROW = 8, NARROW_LANES = 128 };

/* Blocks of NARROW columns; a column's NARROW_LANES threads take its rows in turn. */
template <typename T>
__global__ void __launch_bounds__(NARROW *NARROW_LANES)
    narrow_columns_kernel(const float *in, int64_t n, int64_t c, T *m, float *scale) {
    __shared__ float smem[NARROW_LANES / (WARP / NARROW)][NARROW];
    const int column = threadIdx.x % NARROW, lane = threadIdx.x / NARROW;
    const int64_t i = (int64_t)blockIdx.x * NARROW + column;
    float largest = 0;
    if (i < c) {
#pragma unroll 4
        for (int64_t j = lane; j < n; j += NARROW_LANES) largest = fmaxf(largest, fabsf(in[j * c + i]));
    }
#pragma unroll
    for (int d = NARROW; d < WARP; d *= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
    if (threadIdx.x % WARP < NARROW) smem[threadIdx.x / WARP][column] = largest;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < NARROW_LANES / (WARP / NARROW); j++) largest = fmaxf(largest, smem[j][column]);
    if (i >= c) return;
    const float up = power_for(largest, 0);
    if (lane == 0) scale[i] = 1.0f / up;
#pragma unroll 4
    for (int64_t j = lane; j < n; j += NARROW_LANES) m[j * c + i] = from_float<T>(in[j * c + i] * up);
}

} // namespace

cudaError_t dt_gpu_sum_splits(const dt_gpu_sum_args *a, cudaStream_t s) {
    const unsigned blocks = (unsigned)ceil_div(a->n, WARP), more = (unsigned)ceil_div(a->n2, WARP);
    unsigned lanes = 1;
    while (lanes < LANES && lanes * 4 < (unsigned)a->splits) lanes *= 2;
    sum_splits_kernel<<<blocks + more, dim3(WARP, lanes), 0, s>>>(*a, blocks);
    return cudaPeekAtLastError();
}

int64_t dt_gpu_bn_mask_bytes(const dt_gpu *gpu, int64_t rows, int64_t c) {
    (void)gpu, (void)rows;
    return MASK_SPLITS * c * (int64_t)sizeof(float);
}

cudaError_t dt_gpu_bn_mask(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_mask_args *a, cudaStream_t s) {
    const bool al = aligned16(a->dy) && aligned16(a->dy2) && aligned16(a->y) && aligned16(a->dz);
    DT_WITH_TYPE(t, return al && a->c % WIDE<T> == 0 ? mask<T, WIDE<T>>(gpu, *a, s) : mask<T, 1>(gpu, *a, s));
}

cudaError_t dt_gpu_gram_grad(dt_dtype t, const dt_gpu_gram_grad_args *a, cudaStream_t s) {
    const unsigned grid = (unsigned)ceil_div(a->k, THREADS / WARP);
    const bool al = aligned16(a->p) && aligned16(a->wcov) && aligned16(a->sum) && aligned16(a->w) &&
                    aligned16(a->dw) && aligned16(a->wa);
    if (al && a->c % 2 == 0)
        DT_WITH_TYPE(t, gram_grad_kernel<T, 2><<<grid, THREADS, 0, s>>>(*a));
    else
        DT_WITH_TYPE(t, gram_grad_kernel<T, 1><<<grid, THREADS, 0, s>>>(*a));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_narrow_columns(dt_dtype t, const float *in, int64_t n, int64_t c, void *m, float *scale,
                                  cudaStream_t s) {
    DT_WITH_TYPE(t, narrow_columns_kernel<T>
                 <<<(unsigned)ceil_div(c, NARROW), NARROW * NARROW_LANES, 0, s>>>(in, n, c, (T *)m, scale));
    return cudaPeekAtLastError();
}
