/* Statistics of c = x w^T from x^T x: the product of w with the covariance on the matrix units, the rows'
 * sums from its results on the way out. The variance is never cancelled in 16 bits: see gram.h. */
#include "gram.cuh"

namespace {
using namespace dt;

enum { BM = 64, BN = 64, BK = 64, STAGES = 3, N_THREAD = 128, WARPS_N = 2, MT = 2, NT = 4 };
enum { W_BYTES = BM * BK * 2, GRAM_BYTES = BK * BN * 4, STAGE_BYTES = W_BYTES + GRAM_BYTES };
enum { SPLIT_BYTES = BK * BN * 2 };

__host__ __device__ inline int64_t tiles_of(int64_t c) {
    return (c + BN - 1) / BN;
}
/* Stages, the two halves of the covariance, and of every channel its sum and its mean in two floats. */
__host__ __device__ inline int64_t smem_bytes(int64_t c) {
    return STAGES * STAGE_BYTES + 2 * SPLIT_BYTES + 3 * tiles_of(c) * BN * (int64_t)sizeof(float);
}

/* m times the covariance: g - s mean with a mean of two floats, rounded as if it were exact. */
__device__ __forceinline__ float centred(float g, float s, float mean_hi, float mean_lo) {
    return fmaf(-s, mean_lo, fmaf(-s, mean_hi, g));
}

/* 64 output channels and 64 columns of wcov a block. partial [tiles,2,K]: shares of mean and variance, where
 * there are several tiles. */
template <typename T>
__global__ void __launch_bounds__(N_THREAD, 2) bn_gram_kernel(dt_gpu_bn_gram_args p, float *partial) {
    extern __shared__ __align__(128) char smem[];
    __shared__ float2 rows[WARPS_N][BM];
    const int64_t c = p.c, n_k = p.bn.c, tiles = tiles_of(c);
    const int64_t tile = blockIdx.x % tiles, m0 = blockIdx.x / tiles * BM, n0 = tile * BN;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, wm = warp / WARPS_N, wn = warp % WARPS_N;
    const T *w = (const T *)p.w;
    char *const halves = smem + STAGES * STAGE_BYTES;
    float *const sum = (float *)(halves + 2 * SPLIT_BYTES), *const mean_hi = sum + tiles * BN,
                 *const mean_lo = mean_hi + tiles * BN;
    const uint32_t base = shared_address(smem), hi = shared_address(halves), lo = hi + SPLIT_BYTES;
    auto fetch = [&](int64_t step) {
        const uint32_t at = base + (uint32_t)(step % STAGES) * STAGE_BYTES;
        if (step < tiles) {
            load_tile<T, BM, BK, N_THREAD>(at, w, m0, n_k, step * BK, c);
#pragma unroll
            for (int i = threadIdx.x; i < BK * BN / 4; i += N_THREAD) {
                const int64_t row = step * BK + i / (BN / 4), col = n0 + i % (BN / 4) * 4;
                const bool there = row < c && col < c;
                copy16(at + W_BYTES + i * 16, there ? p.gram + row * c + col : p.gram, there);
            }
        }
        copy_commit();
    };
    for (int i = 0; i < STAGES - 1; i++) fetch(i);
    /* A covariance is largest on its diagonal. Where all channels are constant it is rounding errors of
     * either sign, and its largest element nearly any of them. */
    float largest = 0;
    for (int64_t i = threadIdx.x; i < tiles * BN; i += N_THREAD) {
        const float s = i < c ? p.bn.stats[i] : 0.0f;
        const double mean = s / p.bn.rows;
        sum[i] = s;
        mean_hi[i] = (float)mean;
        mean_lo[i] = (float)(mean - mean_hi[i]);
        const float square = i < c ? p.gram[i * c + i] : 0.0f;
        largest = fmaxf(largest, square * 0x1p-20f);
        largest = fmaxf(largest, fabsf(centred(square, s, mean_hi[i], mean_lo[i])));
    }
    const float up = power_for((float)(block_max<N_THREAD>(largest) / p.bn.rows), 10);
    const float factor = (float)(up / p.bn.rows), down = 1.0f / up;
    const int chunk = threadIdx.x % (BN / 8);
    float col_hi[8], col_lo[8];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        col_hi[j] = mean_hi[n0 + chunk * 8 + j];
        col_lo[j] = mean_lo[n0 + chunk * 8 + j];
    }
    float acc[MT][NT][4] = {};
    for (int64_t step = 0; step < tiles; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        fetch(step + STAGES - 1);
        const int64_t stage = step % STAGES * STAGE_BYTES;
#pragma unroll
        for (int row = threadIdx.x / (BN / 8); row < BK; row += N_THREAD / (BN / 8)) {
            const Pack<float, 4> *g =
                (const Pack<float, 4> *)(smem + stage + W_BYTES) + row * (BN / 4) + chunk * 2;
            const Pack<float, 4> g0 = g[0], g1 = g[1];
            const float s = sum[step * BK + row];
            Pack<T, 8> h, l;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float v = centred(j < 4 ? g0.v[j % 4] : g1.v[j % 4], s, col_hi[j], col_lo[j]) * factor;
                h.v[j] = from_float<T>(v);
                l.v[j] = from_float<T>(v - to_float(h.v[j]));
            }
            *(Pack<T, 8> *)(halves + tile_at<BN>(row, chunk)) = h;
            *(Pack<T, 8> *)(halves + SPLIT_BYTES + tile_at<BN>(row, chunk)) = l;
        }
        __syncthreads();
        const uint32_t ta = base + (uint32_t)stage;
#pragma unroll
        for (int k = 0; k < BK; k += STEP) {
            uint32_t fa[MT][4], fh[NT][2], fl[NT][2];
#pragma unroll
            for (int i = 0; i < MT; i++)
                ldmatrix(fa[i], ta + tile_at<BK>((wm * MT + i) * 16 + ((lane >> 3) & 1) * 8 + (lane & 7),
                                                 k / 8 + (lane >> 4)));
#pragma unroll
            for (int j = 0; j < NT; j += 2) {
                const uint32_t at =
                    tile_at<BN>(k + ((lane >> 3) & 1) * 8 + (lane & 7), wn * NT + j + (lane >> 4));
                ldmatrix_t(fh[j], hi + at);
                ldmatrix_t(fl[j], lo + at);
            }
#pragma unroll
            for (int i = 0; i < MT; i++)
#pragma unroll
                for (int j = 0; j < NT; j++) {
                    mma<T>(acc[i][j], fa[i], fh[j]);
                    mma<T>(acc[i][j], fa[i], fl[j]);
                }
        }
    }
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = (wm * MT + i) * 16 + h * 8 + lane / 4;
            float dot = 0, sq = 0; /* w mean and w cov w, of these columns */
#pragma unroll
            for (int j = 0; j < NT; j++) {
                const int64_t col = n0 + (wn * NT + j) * 8 + lane % 4 * 2, at = (m0 + row) * c + col;
                if (m0 + row >= n_k || col >= c) continue;
                const float x = acc[i][j][h * 2] * down, y = acc[i][j][h * 2 + 1] * down;
                const Pack<T, 2> pw = load<T, 2>(w + at);
                const float wx = to_float(pw.v[0]), wy = to_float(pw.v[1]);
                *reinterpret_cast<float2 *>(p.wcov + at) = make_float2(x, y);
                dot = fmaf(wx, mean_hi[col], fmaf(wy, mean_hi[col + 1], dot));
                sq = fmaf(wx, x, fmaf(wy, y, sq));
            }
#pragma unroll
            for (int d = 1; d < 4; d *= 2) {
                dot += __shfl_xor_sync(0xffffffffu, dot, d);
                sq += __shfl_xor_sync(0xffffffffu, sq, d);
            }
            if (lane % 4 == 0) rows[wn][row] = make_float2(dot, sq);
        }
    __syncthreads();
    const int64_t k = m0 + threadIdx.x;
    if (threadIdx.x >= BM || k >= n_k) return;
    const float mean = rows[0][threadIdx.x].x + rows[1][threadIdx.x].x,
                var = rows[0][threadIdx.x].y + rows[1][threadIdx.x].y;
    if (tiles == 1) {
        bn_finalize(p.bn, k, mean, var);
    } else {
        partial[tile * 2 * n_k + k] = mean;
        partial[(tile * 2 + 1) * n_k + k] = var;
    }
}

__global__ void __launch_bounds__(N_THREAD)
    finalize_kernel(dt_gpu_bn_finalize_args a, const float *partial, int tiles) {
    const int64_t k = (int64_t)blockIdx.x * N_THREAD + threadIdx.x;
    if (k >= a.c) return;
    float mean = 0, var = 0;
#pragma unroll 8
    for (int i = 0; i < tiles; i++) {
        mean += partial[i * 2 * a.c + k];
        var += partial[(i * 2 + 1) * a.c + k];
    }
    bn_finalize(a, k, mean, var);
}

/* A warp per output channel. */
template <typename T> __global__ void __launch_bounds__(THREADS) plain_bn_gram_kernel(dt_gpu_bn_gram_args p) {
    const int64_t k = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / WARP, c = p.c;
    if (k >= p.bn.c) return;
    const T *w = (const T *)p.w + k * c;
    const double m = p.bn.rows;
    float dot = 0, sq = 0;
    for (int64_t i = threadIdx.x % WARP; i < c; i += WARP) {
        const double mean = p.bn.stats[i] / m;
        double wcov = 0;
        for (int64_t j = 0; j < c; j++)
            wcov += to_float(w[j]) * (p.gram[j * c + i] / m - p.bn.stats[j] / m * mean);
        const float wi = to_float(w[i]);
        p.wcov[k * c + i] = (float)wcov;
        dot = fmaf(wi, (float)mean, dot);
        sq = fmaf(wi, (float)wcov, sq);
    }
    const float mean = warp_sum(dot), var = warp_sum(sq);
    if (threadIdx.x % WARP == 0) bn_finalize(p.bn, k, mean, var);
}

/* All the shared memory that a block may have, granted once: launches that were captured must keep theirs. */
template <typename T> int64_t smem_limit() {
    static const int64_t limit = [] {
        int device = 0, most = 0;
        cudaFuncAttributes kernel = {};
        bool ok =
            cudaGetDevice(&device) == cudaSuccess &&
            cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess &&
            cudaFuncGetAttributes(&kernel, bn_gram_kernel<T>) == cudaSuccess;
        most -= (int)kernel.sharedSizeBytes;
        ok = ok && cudaFuncSetAttribute(bn_gram_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        most) == cudaSuccess;
        if (!ok) (void)cudaGetLastError();
        return ok ? (int64_t)most : 0;
    }();
    return limit;
}

/* Whether the matrix units can do it: with very many channels a block's shared memory does not suffice. */
template <typename T> bool fits(const dt_gpu_bn_gram_args &a) {
    return a.c % 8 == 0 && aligned16(a.w) && aligned16(a.gram) && aligned16(a.wcov) &&
           (int64_t)smem_bytes(a.c) <= smem_limit<T>();
}

template <typename T> cudaError_t bn_gram(const dt_gpu_bn_gram_args &a, cudaStream_t s) {
    if constexpr (sizeof(T) == 2)
        if (fits<T>(a)) {
            const int64_t tiles = tiles_of(a.c);
            bn_gram_kernel<T>
                <<<(unsigned)(ceil_div(a.bn.c, BM) * tiles), N_THREAD, smem_bytes(a.c), s>>>(a, a.workspace);
            const cudaError_t err = cudaPeekAtLastError();
            if (err != cudaSuccess || tiles == 1) return err;
            finalize_kernel<<<(unsigned)ceil_div(a.bn.c, N_THREAD), N_THREAD, 0, s>>>(a.bn, a.workspace,
                                                                                      (int)tiles);
            return cudaPeekAtLastError();
        }
    plain_bn_gram_kernel<T><<<(unsigned)ceil_div(a.bn.c, THREADS / WARP), THREADS, 0, s>>>(a);
    return cudaPeekAtLastError();
}

} // namespace

int64_t dt_gpu_bn_gram_bytes(int64_t k, int64_t c) {
    return 2 * tiles_of(c) * k * (int64_t)sizeof(float);
}

cudaError_t dt_gpu_bn_gram(dt_dtype t, const dt_gpu_bn_gram_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, return bn_gram<T>(*a, s));
}
