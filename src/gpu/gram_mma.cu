/* Two products on the matrix units (mma.sync m16n8k16, operands through swizzled shared memory, cp.async
 * ahead): a^T b over very many rows, cut into splits; and rows times small matrices, two of them into one
 * accumulator. */
#include "gram.cuh"

namespace {
using namespace dt;

enum { MAX_SPLITS = 1024 };

/* ---- a^T b ---- */

template <typename T, int BM, int BN> struct Cross {
    static constexpr int WM = BM / 64 < 2 ? 2 : (BN == 64 ? 4 : 2), WN = BM == 64 ? 2 : (BN == 64 ? 2 : 4);
    static constexpr int THREAD = WM * WN * WARP, ROWS = BN == 64 ? 32 : 64, STAGES = BN == 64 ? 4 : 3;
    static constexpr int MT = BM / WM / 16, NT = BN / WN / 8;
    static constexpr int BYTES_A = ROWS * BM * 2, BYTES = ROWS * (BM + BN) * 2 * STAGES;
};

/* Four weights of a fragment: rows r, r+1, r+8, r+9; 0 from `end` on. */
__device__ __forceinline__ void row_weights(const float *weight, int64_t r, int64_t end, float (&w)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t at = r + i / 2 * 8 + i % 2;
        w[i] = at < end ? weight[at] : 0.0f;
    }
}

/* A pair of T times x and y, rounded once. */
template <typename T> __device__ __forceinline__ uint32_t scaled(uint32_t pair, float x, float y) {
    Pack<T, 2> p = *reinterpret_cast<Pack<T, 2> *>(&pair);
    p.v[0] = from_float<T>(to_float(p.v[0]) * x);
    p.v[1] = from_float<T>(to_float(p.v[1]) * y);
    return *reinterpret_cast<uint32_t *>(&p);
}
template <typename T> __device__ __forceinline__ float dot_pair(uint32_t pair, float x, float y, float sum) {
    const Pack<T, 2> p = *reinterpret_cast<Pack<T, 2> *>(&pair);
    return fmaf(to_float(p.v[0]), x, fmaf(to_float(p.v[1]), y, sum));
}

/* partial [splits,ka,kb] of the tile (blockIdx.x: i tile, j tile), rows of split blockIdx.y. With weights b's
 * rows are scaled on their way to the matrix units, times the power of two that brings the largest near 1. */
template <typename T, int BM, int BN, bool WEIGHTED>
__global__ void __launch_bounds__(Cross<T, BM, BN>::THREAD, 2)
    cross_kernel(dt_gpu_cross_args args, float *partial, float *partial_sum, int64_t rows_split) {
    using S = Cross<T, BM, BN>;
    extern __shared__ __align__(128) char smem[];
    const T *a = (const T *)args.a, *b = (const T *)args.b;
    const int64_t rows = args.rows, ka = args.ka, kb = args.kb;
    const int tiles_j = (int)((kb + BN - 1) / BN), ti = blockIdx.x / tiles_j, tj = blockIdx.x % tiles_j;
    const bool symmetric = a == b;
    if (symmetric && tj > ti) return; /* the mirror image */
    const bool same = symmetric && ti == tj;
    const int64_t i0 = (int64_t)ti * BM, j0 = (int64_t)tj * BN;
    const int64_t r0 = (int64_t)blockIdx.y * rows_split, r1 = r0 + rows_split < rows ? r0 + rows_split : rows;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, wm = warp % S::WM, wn = warp / S::WM;
    const uint32_t base = shared_address(smem);
    const int n_step = r1 > r0 ? (int)((r1 - r0 + S::ROWS - 1) / S::ROWS) : 0;
    auto fetch = [&](int step) {
        const uint32_t at = base + (step % S::STAGES) * (S::ROWS * (BM + BN) * 2);
        if (step < n_step) {
            load_tile<T, S::ROWS, BM, S::THREAD>(at, a, r0 + step * S::ROWS, r1, i0, ka);
            if (!same)
                load_tile<T, S::ROWS, BN, S::THREAD>(at + S::BYTES_A, b, r0 + step * S::ROWS, r1, j0, kb);
        }
        copy_commit();
    };
    float acc[S::MT][S::NT][4] = {}, sums[S::MT][4] = {};
    const bool want_sum = partial_sum && tj == 0 && wn == 0;
    const T one = from_float<T>(1.0f);
    Pack<T, 2> pair = {{one, one}};
    const uint32_t ones[2] = {*reinterpret_cast<uint32_t *>(&pair), *reinterpret_cast<uint32_t *>(&pair)};
    for (int i = 0; i < S::STAGES - 1; i++) fetch(i);
    float up = 1.0f;
    if (WEIGHTED) {
        float largest = 0;
#pragma unroll 4
        for (int64_t r = threadIdx.x; r < rows; r += S::THREAD)
            largest = fmaxf(largest, fabsf(args.weight[r]));
        up = power_for(block_max<S::THREAD>(largest), 0);
    }
    for (int step = 0; step < n_step; step++) {
        copy_wait<S::STAGES - 2>();
        __syncthreads();
        fetch(step + S::STAGES - 1);
        const uint32_t ta = base + (step % S::STAGES) * (S::ROWS * (BM + BN) * 2),
                       tb = same ? ta : ta + S::BYTES_A;
#pragma unroll
        for (int k = 0; k < S::ROWS; k += STEP) {
            uint32_t fa[S::MT][4], fb[S::NT][2];
#pragma unroll
            for (int i = 0; i < S::MT; i++)
                ldmatrix_t(fa[i], ta + tile_at<BM>(k + (lane >> 4) * 8 + (lane & 7),
                                                   (wm * S::MT + i) * 2 + ((lane >> 3) & 1)));
#pragma unroll
            for (int j = 0; j < S::NT; j += 2)
                ldmatrix_t(fb[j], tb + tile_at<BN>(k + ((lane >> 3) & 1) * 8 + (lane & 7),
                                                   wn * S::NT + j + (lane >> 4)));
            if (WEIGHTED) {
                const int64_t r = r0 + step * S::ROWS + k + lane % 4 * 2;
                float w[4];
                row_weights(args.weight, r, r1, w);
#pragma unroll
                for (int j = 0; j < S::NT; j++) {
                    fb[j][0] = scaled<T>(fb[j][0], w[0] * up, w[1] * up);
                    fb[j][1] = scaled<T>(fb[j][1], w[2] * up, w[3] * up);
                }
                if (want_sum) {
                    row_weights(args.sum_weight, r, r1, w);
#pragma unroll
                    for (int i = 0; i < S::MT; i++)
#pragma unroll
                        for (int h = 0; h < 2; h++)
                            sums[i][h * 2] = dot_pair<T>(
                                fa[i][h], w[0], w[1], dot_pair<T>(fa[i][h + 2], w[2], w[3], sums[i][h * 2]));
                }
            }
#pragma unroll
            for (int i = 0; i < S::MT; i++) {
#pragma unroll
                for (int j = 0; j < S::NT; j++) mma<T>(acc[i][j], fa[i], fb[j]);
                if (!WEIGHTED && want_sum) mma<T>(sums[i], fa[i], ones);
            }
        }
    }
    if (WEIGHTED && want_sum)
#pragma unroll
        for (int i = 0; i < S::MT; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int d = 1; d < 4; d *= 2)
                    sums[i][h * 2] += __shfl_xor_sync(0xffffffffu, sums[i][h * 2], d);
    const float down = 1.0f / up;
    float *out = partial + (int64_t)blockIdx.y * ka * kb;
#pragma unroll
    for (int i = 0; i < S::MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64_t row = i0 + (wm * S::MT + i) * 16 + h * 8 + lane / 4;
            if (row >= ka) continue;
#pragma unroll
            for (int j = 0; j < S::NT; j++) {
                const int64_t col = j0 + (wn * S::NT + j) * 8 + lane % 4 * 2;
                if (col >= kb) continue;
                const float x = acc[i][j][h * 2] * down, y = acc[i][j][h * 2 + 1] * down;
                *reinterpret_cast<float2 *>(out + row * kb + col) = make_float2(x, y);
                if (!symmetric || same) continue;
                out[col * kb + row] = x;
                out[(col + 1) * kb + row] = y;
            }
            if (want_sum && lane % 4 == 0) partial_sum[(int64_t)blockIdx.y * ka + row] = sums[i][h * 2];
        }
}

template <typename T> __global__ void plain_cross_kernel(dt_gpu_cross_args p) {
    const int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= p.ka * p.kb) return;
    const int64_t i = e / p.kb, j = e % p.kb;
    const T *a = (const T *)p.a, *b = (const T *)p.b;
    double dot = 0, column = 0;
    for (int64_t r = 0; r < p.rows; r++) {
        const double x = to_float(a[r * p.ka + i]);
        dot += x * to_float(b[r * p.kb + j]) * (p.weight ? p.weight[r] : 1.0f);
        column += x * (p.sum_weight ? p.sum_weight[r] : 1.0f);
    }
    p.out[e] = (float)dot;
    if (p.sum && j == 0) p.sum[i] = (float)column;
}

/* The tile: wide enough to read the longer operand once where the other is narrow; with weights the rows are
 * few, and tiles are what there is to do at a time. */
struct Tile {
    int64_t m, n;
};
Tile tile_for(int64_t ka, int64_t kb, bool weighted) {
    return weighted || (ka <= 64 && kb <= 64) ? Tile{64, 64} : kb <= 64 ? Tile{128, 64} : Tile{128, 128};
}

/* As many splits as fill the card, of at least a few steps. */
int64_t splits_for(const dt_gpu *gpu, int64_t rows, int64_t ka, int64_t kb, bool symmetric, bool weighted) {
    const Tile t = tile_for(ka, kb, weighted);
    const int64_t ni = ceil_div(ka, t.m), nj = ceil_div(kb, t.n),
                  tiles = symmetric ? ni * (ni + 1) / 2 : ni * nj;
    /* Two blocks a multiprocessor hide latency, but every split is written and read once more. */
    const int64_t per_sm = weighted ? 2 : t.m == 64 ? 4 : t.n == 64 ? 3 : tiles > 1 ? 2 : 1;
    int64_t splits = gpu->sm_count * per_sm / tiles, most = ceil_div(rows, 128);
    if (splits > most) splits = most;
    if (splits > MAX_SPLITS) splits = MAX_SPLITS;
    return splits < 1 ? 1 : splits;
}

template <typename T, int BM, int BN, bool WEIGHTED>
cudaError_t cross_tiles(const dt_gpu *gpu, const dt_gpu_cross_args &a, cudaStream_t s) {
    using S = Cross<T, BM, BN>;
    static const cudaError_t ready = cudaFuncSetAttribute(
        cross_kernel<T, BM, BN, WEIGHTED>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::BYTES);
    if (ready != cudaSuccess) return ready;
    const int64_t splits = splits_for(gpu, a.rows, a.ka, a.kb, a.a == a.b, WEIGHTED);
    const int64_t rows_split = ceil_div(ceil_div(a.rows, splits), S::ROWS) * S::ROWS;
    float *const out = splits > 1 ? a.workspace : a.out;
    float *const sums = !a.sum ? nullptr : splits > 1 ? a.workspace + splits * a.ka * a.kb : a.sum;
    const dim3 grid((unsigned)(ceil_div(a.ka, BM) * ceil_div(a.kb, BN)), (unsigned)splits);
    cross_kernel<T, BM, BN, WEIGHTED><<<grid, S::THREAD, S::BYTES, s>>>(a, out, sums, rows_split);
    const cudaError_t err = cudaPeekAtLastError();
    if (err != cudaSuccess || splits == 1) return err;
    dt_gpu_sum_args add = {};
    add.partial = out, add.out = a.out, add.n = a.ka * a.kb;
    add.partial2 = sums, add.out2 = a.sum, add.n2 = sums ? a.ka : 0;
    add.splits = (int32_t)splits;
    return dt_gpu_sum_splits(&add, s);
}

template <typename T> cudaError_t cross(const dt_gpu *gpu, const dt_gpu_cross_args &a, cudaStream_t s) {
    const bool units = a.ka % 8 == 0 && a.kb % 8 == 0 && aligned16(a.a) && aligned16(a.b);
    if constexpr (sizeof(T) == 2) {
        const Tile t = tile_for(a.ka, a.kb, a.weight);
        if (units && a.weight) return cross_tiles<T, 64, 64, true>(gpu, a, s);
        if (units && t.m == 64) return cross_tiles<T, 64, 64, false>(gpu, a, s);
        if (units && t.n == 64) return cross_tiles<T, 128, 64, false>(gpu, a, s);
        if (units) return cross_tiles<T, 128, 128, false>(gpu, a, s);
    }
    plain_cross_kernel<T><<<(unsigned)ceil_div(a.ka * a.kb, THREADS), THREADS, 0, s>>>(a);
    return cudaPeekAtLastError();
}

/* ---- a1 b1 * scale + a2 b2 + v ---- */

template <int BN> struct Rows {
    static constexpr int BM = 128, BK = 64, WM = BN == 64 ? 4 : 2, WN = BN == 64 ? 2 : 4, THREAD = 256,
                         STAGES = 3;
    static constexpr int MT = BM / WM / 16, NT = BN / WN / 8;
    static constexpr int BYTES_A = BM * BK * 2, BYTES_STAGE = BYTES_A + BK * BN * 2,
                         BYTES = BYTES_STAGE * STAGES;
    static_assert(BM * BN * 2 <= BYTES, "the result passes through the stages");
};

template <typename T, int BN, bool BASE>
__global__ void __launch_bounds__(256, 2) rows_kernel(dt_gpu_rows_args p, int32_t tiles_n) {
    using S = Rows<BN>;
    extern __shared__ __align__(128) char smem[];
    const int64_t m0 = (int64_t)(blockIdx.x / tiles_n) * S::BM, n0 = (int64_t)(blockIdx.x % tiles_n) * BN;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, wm = warp % S::WM, wn = warp / S::WM;
    const uint32_t base = shared_address(smem);
    const int n_first = (int)((p.k1 + S::BK - 1) / S::BK),
              n_step = n_first + (int)((p.k2 + S::BK - 1) / S::BK);
    auto fetch = [&](int step) {
        const uint32_t at = base + (step % S::STAGES) * S::BYTES_STAGE;
        if (step < n_step) {
            const bool first = step < n_first;
            const T *a = (const T *)(first ? p.a1 : p.a2), *b = (const T *)(first ? p.b1 : p.b2);
            const int64_t k = first ? p.k1 : p.k2, k0 = (int64_t)(first ? step : step - n_first) * S::BK;
            load_tile<T, S::BM, S::BK, S::THREAD>(at, a, m0, p.rows, k0, k);
            load_tile<T, S::BK, BN, S::THREAD>(at + S::BYTES_A, b, k0, k, n0, p.n);
        }
        copy_commit();
    };
    float acc[S::MT][S::NT][4] = {};
    auto rescale = [&] {
#pragma unroll
        for (int j = 0; j < S::NT; j++) {
            const int64_t col = n0 + (wn * S::NT + j) * 8 + lane % 4 * 2;
            const float x = col < p.n ? p.scale[col] : 0.0f, y = col < p.n ? p.scale[col + 1] : 0.0f;
#pragma unroll
            for (int i = 0; i < S::MT; i++) {
                acc[i][j][0] *= x, acc[i][j][1] *= y;
                acc[i][j][2] *= x, acc[i][j][3] *= y;
            }
        }
    };
    for (int i = 0; i < S::STAGES - 1; i++) fetch(i);
    for (int step = 0; step < n_step; step++) {
        copy_wait<S::STAGES - 2>();
        __syncthreads();
        fetch(step + S::STAGES - 1);
        if (step == n_first) rescale();
        const uint32_t ta = base + (step % S::STAGES) * S::BYTES_STAGE, tb = ta + S::BYTES_A;
#pragma unroll
        for (int k = 0; k < S::BK; k += STEP) {
            uint32_t fa[S::MT][4], fb[S::NT][2];
#pragma unroll
            for (int i = 0; i < S::MT; i++)
                ldmatrix(fa[i],
                         ta + tile_at<S::BK>((wm * S::MT + i) * 16 + ((lane >> 3) & 1) * 8 + (lane & 7),
                                             k / 8 + (lane >> 4)));
#pragma unroll
            for (int j = 0; j < S::NT; j += 2)
                ldmatrix_t(fb[j], tb + tile_at<BN>(k + ((lane >> 3) & 1) * 8 + (lane & 7),
                                                   wn * S::NT + j + (lane >> 4)));
#pragma unroll
            for (int i = 0; i < S::MT; i++)
#pragma unroll
                for (int j = 0; j < S::NT; j++) mma<T>(acc[i][j], fa[i], fb[j]);
        }
    }
    if (n_step == n_first) rescale();
    copy_wait<0>();
    __syncthreads();
#pragma unroll
    for (int j = 0; j < S::NT; j++) {
        const int64_t col = n0 + (wn * S::NT + j) * 8 + lane % 4 * 2;
        if (col >= p.n) continue;
        const float vx = p.v ? p.v[col] : 0.0f, vy = p.v ? p.v[col + 1] : 0.0f;
#pragma unroll
        for (int i = 0; i < S::MT; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = (wm * S::MT + i) * 16 + h * 8 + lane / 4;
                const float x = acc[i][j][h * 2] + vx, y = acc[i][j][h * 2 + 1] + vy;
                /* through shared memory, so that whole lines are written */
                Pack<T, 2> pair = {{from_float<T>(x), from_float<T>(y)}};
                *reinterpret_cast<Pack<T, 2> *>(smem + tile_at<BN>(row, wn * S::NT + j) + lane % 4 * 4) =
                    pair;
            }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < S::BM * BN / 8; i += S::THREAD) {
        const int row = i / (BN / 8), chunk = i % (BN / 8);
        if (m0 + row >= p.rows || n0 + chunk * 8 >= p.n) continue;
        const int64_t at = (m0 + row) * p.n + n0 + chunk * 8;
        Pack<T, 8> y = *reinterpret_cast<const Pack<T, 8> *>(smem + tile_at<BN>(row, chunk));
        if (BASE) {
            const Pack<T, 8> b = load<T, 8>((const T *)p.base + at);
#pragma unroll
            for (int j = 0; j < 8; j++) y.v[j] = from_float<T>(to_float(y.v[j]) + to_float(b.v[j]));
        }
        store<T, 8>((T *)p.out + at, y);
    }
}

template <typename T> __global__ void plain_rows_kernel(dt_gpu_rows_args p) {
    const int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (e >= p.rows * p.n) return;
    const int64_t r = e / p.n, j = e % p.n;
    const T *a1 = (const T *)p.a1, *b1 = (const T *)p.b1, *a2 = (const T *)p.a2, *b2 = (const T *)p.b2;
    double one = 0, two = 0;
    for (int64_t k = 0; k < p.k1; k++) one += (double)to_float(a1[r * p.k1 + k]) * to_float(b1[k * p.n + j]);
    for (int64_t k = 0; k < p.k2; k++) two += (double)to_float(a2[r * p.k2 + k]) * to_float(b2[k * p.n + j]);
    double y = one * p.scale[j] + two + (p.v ? p.v[j] : 0.0f);
    if (p.base) y += to_float(((const T *)p.base)[e]);
    ((T *)p.out)[e] = from_float<T>((float)y);
}

template <typename T, int BN, bool BASE> cudaError_t rows_tiles(const dt_gpu_rows_args &a, cudaStream_t s) {
    using S = Rows<BN>;
    static const cudaError_t ready =
        cudaFuncSetAttribute(rows_kernel<T, BN, BASE>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::BYTES);
    if (ready != cudaSuccess) return ready;
    const int64_t tiles_n = ceil_div(a.n, BN);
    rows_kernel<T, BN, BASE>
        <<<(unsigned)(ceil_div(a.rows, S::BM) * tiles_n), S::THREAD, S::BYTES, s>>>(a, (int32_t)tiles_n);
    return cudaPeekAtLastError();
}

template <typename T> cudaError_t rows(const dt_gpu_rows_args &a, cudaStream_t s) {
    const bool units = a.k1 % 8 == 0 && a.k2 % 8 == 0 && a.n % 8 == 0 && aligned16(a.a1) && aligned16(a.b1) &&
                       aligned16(a.a2) && aligned16(a.b2) && aligned16(a.out) && aligned16(a.base);
    if constexpr (sizeof(T) == 2) {
        if (units && a.n <= 64)
            return a.base ? rows_tiles<T, 64, true>(a, s) : rows_tiles<T, 64, false>(a, s);
        if (units) return a.base ? rows_tiles<T, 128, true>(a, s) : rows_tiles<T, 128, false>(a, s);
    }
    plain_rows_kernel<T><<<(unsigned)ceil_div(a.rows * a.n, THREADS), THREADS, 0, s>>>(a);
    return cudaPeekAtLastError();
}

} // namespace

int64_t dt_gpu_cross_bytes(const dt_gpu *gpu, int64_t rows, int64_t ka, int64_t kb, bool weighted) {
    int64_t most = 0;
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        int64_t splits = splits_for(gpu, rows, ka, kb, symmetric, weighted);
        if (splits > most) most = splits;
    }
    return most * (ka * kb + ka) * (int64_t)sizeof(float);
}

cudaError_t dt_gpu_cross(const dt_gpu *gpu, dt_dtype t, const dt_gpu_cross_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, return cross<T>(gpu, *a, s));
}

cudaError_t dt_gpu_rows(const dt_gpu *gpu, dt_dtype t, const dt_gpu_rows_args *a, cudaStream_t s) {
    (void)gpu;
    DT_WITH_TYPE(t, return rows<T>(*a, s));
}
