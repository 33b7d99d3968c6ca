/* The smaller kernels around Gram matrices: sums of splits, covariance and statistics, the masked gradient,
 * and the parameter gradients from P = dz^T x. */
#include "gram.h"
#include "vec.cuh"

namespace {
using namespace dt;

enum { WARP = 32, LANES = 16, MASK_SPLITS = 1024, MASK_TILE = 16 };

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

/* Block of WARP columns x blockDim.y lanes; the value of lane 0 after adding or taking the maximum of all. */
template <typename V, typename F> __device__ V lanes_reduce(V v, V *smem, F join) {
    smem[threadIdx.y * WARP + threadIdx.x] = v;
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) {
            v = join(v, smem[(threadIdx.y + half) * WARP + threadIdx.x]);
            smem[threadIdx.y * WARP + threadIdx.x] = v;
        }
    }
    __syncthreads();
    return v;
}

/* The power of two that brings `largest` near 2^top; 1 for 0 and what is not finite. */
__device__ __forceinline__ float power_for(float largest, int top) {
    return largest > 0.0f && isfinite(largest) ? exp2f((float)(top - ilogbf(largest))) : 1.0f;
}

/* The first `blocks` blocks make out, the others out2. */
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
    sum = lanes_reduce(sum, smem, [](double x, double y) { return x + y; });
    if (i < n && threadIdx.y == 0)
        (second ? a.out2 : a.out)[i] = (float)(a.scale && !second ? sum * *a.scale : sum);
}

/* --- statistics
 * ------------------------------------------------------------------------------------------------- */

template <typename T>
__global__ void __launch_bounds__(THREADS) cov_split_kernel(const float *gram, const float *sum, double rows,
                                                            int64_t c, T *hi, T *lo, float *scale) {
    __shared__ float smem[THREADS];
    float largest = 0; /* a covariance is largest on its diagonal */
    for (int64_t i = threadIdx.x; i < c; i += THREADS) {
        double mean = sum[i] / rows;
        largest = fmaxf(largest, (float)(gram[i * c + i] / rows - mean * mean));
    }
    smem[threadIdx.x] = largest;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) smem[threadIdx.x] = fmaxf(smem[threadIdx.x], smem[threadIdx.x + half]);
    }
    __syncthreads();
    const float up = power_for(smem[0], 10);
    if (blockIdx.x == 0)
        for (int64_t i = threadIdx.x; i < c; i += THREADS) scale[i] = 1.0f / up;
    for (int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x; e < c * c;
         e += (int64_t)gridDim.x * THREADS) {
        const double cov = gram[e] / rows - (sum[e / c] / rows) * (sum[e % c] / rows);
        const float v = (float)cov * up;
        const T h = from_float<T>(v);
        hi[e] = h;
        lo[e] = from_float<T>(v - to_float(h));
    }
}

/* A warp per output channel. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    bn_gram_kernel(dt_gpu_bn_finalize_args a, const T *w, const float *wcov, int64_t c) {
    const int64_t k = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    if (k >= a.c) return;
    float dot = 0, sq = 0;
    for (int64_t i = threadIdx.x % WARP; i < c; i += WARP) {
        const float wi = to_float(w[k * c + i]);
        dot = fmaf(wi, (float)(a.stats[i] / a.rows), dot);
        sq = fmaf(wi, wcov[k * c + i], sq);
    }
    const float mean = warp_sum(dot);
    float var = warp_sum(sq);
    if (threadIdx.x % WARP) return;
    var = var < 0.0f ? 0.0f : var; /* keeps NaN */
    const float invstd = (float)(1.0 / sqrt((double)var + a.eps)), scale = a.gamma[k] * invstd;
    a.mean[k] = mean;
    a.invstd[k] = invstd;
    a.scale[k] = scale;
    a.shift[k] = fmaf(-mean, scale, a.beta[k]);
    a.rmean[k] += a.momentum * (mean - a.rmean[k]);
    a.rvar[k] += a.momentum * ((float)((double)var * a.rows / (a.rows - 1.0)) - a.rvar[k]);
}

/* --- the masked gradient
 * ---------------------------------------------------------------------------------------- */

struct MaskShape {
    dim3 grid, block;
    int32_t splits;
};

MaskShape mask_shape(const dt_gpu *gpu, int64_t rows, int64_t c_vec) {
    int64_t tx = 1;
    while (tx < c_vec && tx < MASK_TILE) tx *= 2;
    const int64_t ty = THREADS / tx, tiles = ceil_div(c_vec, tx);
    int64_t splits = ceil_div((int64_t)gpu->sm_count * 3, tiles), most = ceil_div(rows, ty * 4);
    splits = splits < most ? splits : most;
    if (splits > MASK_SPLITS) splits = MASK_SPLITS;
    if (splits < 1) splits = 1;
    return {dim3((unsigned)tiles, (unsigned)splits), dim3((unsigned)tx, (unsigned)ty), (int32_t)splits};
}

/* dz = (dy [+ dy2]) where y > 0; partial [splits,C] of its column sums. From the last row to the first: the
 * end of what the kernel before wrote is still in the L2. */
template <typename T, int V, bool SECOND, bool MASK>
__global__ void __launch_bounds__(THREADS, 3) mask_kernel(dt_gpu_bn_mask_args a) {
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
    const MaskShape m = mask_shape(gpu, a.rows, a.c / V);
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

/* --- gradients of the parameters
 * -------------------------------------------------------------------------------- */

/* A warp per output channel. */
template <typename T> __global__ void __launch_bounds__(THREADS) gram_grad_kernel(dt_gpu_gram_grad_args a) {
    const int64_t k = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    if (k >= a.k) return;
    const T *w = (const T *)a.w + k * a.c;
    const float *p = a.p + k * a.c, *wcov = a.wcov + k * a.c, dbeta = a.dbeta[k];
    const float share = (float)(dbeta / a.rows);
    float dot = 0;
    for (int64_t i = threadIdx.x % WARP; i < a.c; i += WARP)
        dot = fmaf(to_float(w[i]), fmaf(-share, a.sum[i], p[i]), dot);
    const float invstd = a.invstd[k], dgamma = invstd * warp_sum(dot), ka = a.gamma[k] * invstd;
    const double kb = -(double)ka * invstd * dgamma / a.rows;
    const float mb = -ka * invstd * dgamma; /* B times the rows */
    if (threadIdx.x % WARP == 0) {
        ((T *)a.dgamma)[k] = from_float<T>(dgamma);
        ((T *)a.dbeta_out)[k] = from_float<T>(dbeta);
        a.coef[k] = (float)kb;
        a.coef[a.k + k] = (float)(-(double)ka * dbeta / a.rows - kb * a.mean[k]);
    }
    for (int64_t i = threadIdx.x % WARP; i < a.c; i += WARP) {
        ((T *)a.dw)[k * a.c + i] = from_float<T>(fmaf(ka, fmaf(-share, a.sum[i], p[i]), mb * wcov[i]));
        ((T *)a.wa)[k * a.c + i] = from_float<T>(ka * to_float(w[i]));
    }
}

/* Blocks of WARP columns; each finds the largest |B| itself. */
template <typename T>
__global__ void gram_weights_kernel(const T *w, const float *coef, int64_t k, int64_t c, T *bw, float *scale,
                                    float *v) {
    __shared__ float smem[WARP * WARP];
    const int64_t i = (int64_t)blockIdx.x * WARP + threadIdx.x;
    float largest = 0;
    for (int64_t j = threadIdx.y * WARP + threadIdx.x; j < k; j += WARP * blockDim.y)
        largest = fmaxf(largest, fabsf(coef[j]));
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
    largest = lanes_reduce(largest, smem, [](float a, float b) { return fmaxf(a, b); });
    if (threadIdx.y == 0) smem[threadIdx.x] = largest;
    __syncthreads();
    const float up = power_for(smem[0], 0);
    __syncthreads();
    if (blockIdx.x == 0 && threadIdx.x == 0 && threadIdx.y == 0) *scale = 1.0f / up;
    float sum = 0;
    if (i < c) {
#pragma unroll 4
        for (int64_t j = threadIdx.y; j < k; j += blockDim.y) {
            const float wi = to_float(w[j * c + i]);
            bw[j * c + i] = from_float<T>(wi * (coef[j] * up));
            sum = fmaf(wi, coef[k + j], sum);
        }
    }
    sum = lanes_reduce(sum, smem, [](float a, float b) { return a + b; });
    if (i < c && threadIdx.y == 0) v[i] = sum;
}

template <typename T>
__global__ void narrow_columns_kernel(const float *in, int64_t n, int64_t c, T *m, float *scale) {
    __shared__ float smem[WARP * WARP], up_of[WARP];
    const int64_t i = (int64_t)blockIdx.x * WARP + threadIdx.x;
    float largest = 0;
    if (i < c) {
#pragma unroll 4
        for (int64_t j = threadIdx.y; j < n; j += blockDim.y) largest = fmaxf(largest, fabsf(in[j * c + i]));
    }
    largest = lanes_reduce(largest, smem, [](float a, float b) { return fmaxf(a, b); });
    if (threadIdx.y == 0) {
        up_of[threadIdx.x] = power_for(largest, 0);
        if (i < c) scale[i] = 1.0f / up_of[threadIdx.x];
    }
    __syncthreads();
    const float up = up_of[threadIdx.x];
    if (i < c) {
#pragma unroll 4
        for (int64_t j = threadIdx.y; j < n; j += blockDim.y)
            m[j * c + i] = from_float<T>(in[j * c + i] * up);
    }
}

unsigned warps_grid(int64_t n) {
    return (unsigned)ceil_div(n, THREADS / WARP);
}

} // namespace

cudaError_t dt_gpu_sum_splits(const dt_gpu_sum_args *a, cudaStream_t s) {
    const unsigned blocks = (unsigned)ceil_div(a->n, WARP), more = (unsigned)ceil_div(a->n2, WARP);
    unsigned lanes = 1;
    while (lanes < LANES && lanes * 4 < (unsigned)a->splits) lanes *= 2;
    sum_splits_kernel<<<blocks + more, dim3(WARP, lanes), 0, s>>>(*a, blocks);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_cov_split(dt_dtype t, const float *gram, const float *sum, double rows, int64_t c,
                             void *hi, void *lo, float *scale, cudaStream_t s) {
    const int64_t blocks = ceil_div(c * c, THREADS * 4);
    DT_WITH_TYPE(t, cov_split_kernel<T><<<(unsigned)(blocks < 256 ? blocks : 256), THREADS, 0, s>>>(
                        gram, sum, rows, c, (T *)hi, (T *)lo, scale));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_bn_gram(dt_dtype t, const dt_gpu_bn_finalize_args *a, const void *w, const float *wcov,
                           int64_t c, cudaStream_t s) {
    DT_WITH_TYPE(t, bn_gram_kernel<T><<<warps_grid(a->c), THREADS, 0, s>>>(*a, (const T *)w, wcov, c));
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
    DT_WITH_TYPE(t, gram_grad_kernel<T><<<warps_grid(a->k), THREADS, 0, s>>>(*a));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_gram_weights(dt_dtype t, const void *w, const float *coef, int64_t k, int64_t c, void *bw,
                                float *scale, float *v, cudaStream_t s) {
    DT_WITH_TYPE(t, gram_weights_kernel<T><<<(unsigned)ceil_div(c, WARP), dim3(WARP, WARP), 0, s>>>(
                        (const T *)w, coef, k, c, (T *)bw, scale, v));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_narrow_columns(dt_dtype t, const float *in, int64_t n, int64_t c, void *m, float *scale,
                                  cudaStream_t s) {
    DT_WITH_TYPE(t, narrow_columns_kernel<T>
                 <<<(unsigned)ceil_div(c, WARP), dim3(WARP, WARP), 0, s>>>(in, n, c, (T *)m, scale));
    return cudaPeekAtLastError();
}
