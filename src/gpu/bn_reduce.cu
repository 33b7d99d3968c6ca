/* Sums over the rows of [rows, C]: BN statistics, the BN gradient's sums, bias gradients.
 *
 * Stage one: a block owns a tile of channels and every gridDim.y-th group of rows; it writes one partial sum
 * per channel. Stage two: a warp per channel adds the partial sums in a fixed order, in double. */
#include <type_traits>

#include "pool_gather.cuh"

namespace {
using namespace dt;

enum { TILE_VECS = 16, BLOCKS_PER_SM = 2, MAX_SPLITS = 1024, WARP = 32, WARPS = THREADS / WARP, BATCH = 8 };

/* Rows in flight per thread: about the same bytes for any number of inputs. */
template <int NIN> constexpr int ROWS = NIN == 1 ? 8 : 4;

/* Shape of stage one: as many blocks as run at once. */
Split split_for(const dt_gpu *gpu, int64_t rows, int64_t c_vec) {
    return split_columns(gpu, rows, c_vec, TILE_VECS, BLOCKS_PER_SM, MAX_SPLITS);
}

/* What stage one adds up, per element: F::NIN input tensors and one or two sums. */
template <typename T, int V> struct StatsOf {
    static constexpr int NIN = 1;
    static constexpr bool TWO = true;
    const T *in[1];
    bool shifted; /* around row 0, against cancellation */
    T *out;
    float k[V];
    __device__ void start(int64_t c0) {
#pragma unroll
        for (int j = 0; j < V; j++) k[j] = shifted ? to_float(in[0][c0 + j]) : 0.0f;
    }
    __device__ void add(const Pack<T, V> *p, float (&s1)[V], float (&s2)[V], Pack<T, V> *) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            float d = to_float(p[0].v[j]) - k[j];
            s1[j] += d;
            s2[j] = fmaf(d, d, s2[j]);
        }
    }
};

template <typename T, int V> struct SumOf {
    static constexpr int NIN = 1;
    static constexpr bool TWO = false;
    const T *in[1];
    T *out;
    __device__ void start(int64_t) {}
    __device__ void add(const Pack<T, V> *p, float (&s1)[V], float (&)[V], Pack<T, V> *) {
#pragma unroll
        for (int j = 0; j < V; j++) s1[j] += to_float(p[0].v[j]);
    }
};

/* Where a ReLU's mask comes from: nowhere, y > 0, or c * scale + shift > 0. */
enum { MASK_NONE, MASK_FROM_Y, MASK_FROM_C };

/* in: c, dy, [dy2], [y]. Sums dz and dz * (c - mean). */
template <typename T, int V, int MASK, bool SECOND> struct GradOf {
    static constexpr int NIN = 2 + (SECOND ? 1 : 0) + (MASK == MASK_FROM_Y ? 1 : 0);
    static constexpr bool TWO = true;
    const T *in[NIN];
    T *out; /* dz; NULL: not written */
    const float *mean, *scale, *shift;
    float m[V], ks[V], kb[V];
    __device__ void start(int64_t c0) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            m[j] = mean[c0 + j];
            ks[j] = MASK == MASK_FROM_C ? scale[c0 + j] : 0.0f;
            kb[j] = MASK == MASK_FROM_C ? shift[c0 + j] : 0.0f;
        }
    }
    __device__ void add(const Pack<T, V> *p, float (&s1)[V], float (&s2)[V], Pack<T, V> *dz) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            float c = to_float(p[0].v[j]), d = to_float(p[1].v[j]);
            if (SECOND) d += to_float(p[2].v[j]);
            if (MASK == MASK_FROM_Y && !(to_float(p[NIN - 1].v[j]) > 0.0f)) d = 0.0f;
            if (MASK == MASK_FROM_C && !(fmaf(c, ks[j], kb[j]) > 0.0f)) d = 0.0f;
            T rounded = from_float<T>(d);
            if (out) d = to_float(rounded); /* the sums are those of what BN_DX will read */
            dz->v[j] = rounded;
            s1[j] += d;
            s2[j] = fmaf(d, c - m[j], s2[j]);
        }
    }
};

/* The block's sums of its tile's channels to partial [2 or 1][C][splits]: lanes of a warp, then warps, always
 * in the same order. smem: THREADS * V floats. */
template <int V, bool TWO>
__device__ void write_partial(float (&s1)[V], float (&s2)[V], int64_t c, float *smem, float *partial) {
    const int n_tx = (int)blockDim.x, tid = (int)(threadIdx.y * blockDim.x + threadIdx.x);
    const int lane = tid % WARP, warp = tid / WARP, n_channel = n_tx * V, n_value = (TWO ? 2 : 1) * n_channel;
#pragma unroll
    for (int j = 0; j < V; j++)
        for (int d = WARP / 2; d >= n_tx; d /= 2) {
            s1[j] += __shfl_xor_sync(0xffffffffu, s1[j], d);
            if (TWO) s2[j] += __shfl_xor_sync(0xffffffffu, s2[j], d);
        }
    if (lane < n_tx) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            smem[warp * n_value + lane * V + j] = s1[j];
            if (TWO) smem[warp * n_value + n_channel + lane * V + j] = s2[j];
        }
    }
    __syncthreads();
    for (int v = tid; v < n_value; v += THREADS) {
        const int64_t ch = (int64_t)blockIdx.x * n_channel + v % n_channel;
        if (ch >= c) continue;
        float sum = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += smem[w * n_value + v];
        partial[(v / n_channel * c + ch) * gridDim.y + blockIdx.y] = sum;
    }
}

template <typename T, int V, typename F>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    stage_one(F f, int64_t rows, int64_t c, float *partial) {
    __shared__ float smem[THREADS * V];
    const int64_t cv = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, c_vec = c / V;
    const int64_t c0 = cv * V, stride = (int64_t)gridDim.y * blockDim.y;
    float s1[V], s2[V];
#pragma unroll
    for (int j = 0; j < V; j++) s1[j] = s2[j] = 0.0f;
    if (cv < c_vec) {
        f.start(c0);
        constexpr int U = ROWS<F::NIN>;
        /* From the last row to the first: the end of what the kernel before wrote is still in the L2. */
        int64_t r = rows - 1 - ((int64_t)blockIdx.y * blockDim.y + threadIdx.y);
        auto turn = [&](auto whole) {
            constexpr bool ALL = decltype(whole)::value;
            Pack<T, V> p[U][F::NIN], dz;
#pragma unroll
            for (int u = 0; u < U; u++)
#pragma unroll
                for (int i = 0; i < F::NIN; i++)
                    if (ALL || r - u * stride >= 0) p[u][i] = load<T, V>(f.in[i] + (r - u * stride) * c + c0);
#pragma unroll
            for (int u = 0; u < U; u++)
                if (ALL || r - u * stride >= 0) {
                    f.add(p[u], s1, s2, &dz);
                    if (f.out) store<T, V>(f.out + (r - u * stride) * c + c0, dz);
                }
        };
        for (; r - (U - 1) * stride >= 0; r -= U * stride) turn(std::true_type());
        if (r >= 0) turn(std::false_type()); /* its loads too are under way together */
    }
    write_partial<V, F::TWO>(s1, s2, c, smem, partial);
}

/* Stage one of a masked gradient that is pooled: the rows are strips of patches. */
template <typename T, int V, bool SECOND>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    stage_one_pooled(dt_gpu_bn_reduce_args a, int64_t n_strip) {
    __shared__ float smem[THREADS * V];
    const int64_t cv = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, c_vec = a.c / V;
    const int64_t c0 = cv * V, stride = (int64_t)gridDim.y * blockDim.y;
    float s1[V], s2[V];
#pragma unroll
    for (int j = 0; j < V; j++) s1[j] = s2[j] = 0.0f;
    if (cv < c_vec) {
        float mean[V], scale[V], shift[V];
#pragma unroll
        for (int j = 0; j < V; j++) {
            mean[j] = a.mean[c0 + j];
            scale[j] = a.scale[c0 + j];
            shift[j] = a.shift[c0 + j];
        }
        /* From the last strip to the first, as above. */
        for (int64_t i = n_strip - 1 - ((int64_t)blockIdx.y * blockDim.y + threadIdx.y); i >= 0; i -= stride)
            walk_strip<T, V, SECOND>(
                a.pooled, strip_at(a.pooled, i), (const T *)a.c_in, a.c, c0,
                [&](int64_t, const Pack<T, V> &pc, int y, int x, const Window<T, V>(&w)[2][2], bool there) {
#pragma unroll
                    for (int j = 0; j < V; j++) {
                        const float c = to_float(pc.v[j]), d = patch_grad(w, y, x, j);
                        if (!there || !(fmaf(c, scale[j], shift[j]) > 0.0f)) continue;
                        s1[j] += d;
                        s2[j] = fmaf(d, c - mean[j], s2[j]);
                    }
                });
    }
    write_partial<V, true>(s1, s2, a.c, smem, a.workspace);
}

template <typename T, int V, typename F>
int32_t run_stage_one(const dt_gpu *gpu, const F &f, int64_t rows, int64_t c, float *partial,
                      cudaStream_t s) {
    Split sp = split_for(gpu, rows, c / V);
    stage_one<T, V, F><<<sp.grid, sp.block, 0, s>>>(f, rows, c, partial);
    return sp.splits;
}

/* The N sums of n numbers each, `apart` apart, in lane 0. All loads of a turn are under way together. */
template <int N> __device__ void warp_total(const float *p, int64_t apart, int32_t n, double (&sum)[N]) {
#pragma unroll
    for (int k = 0; k < N; k++) sum[k] = 0;
    for (int32_t i = threadIdx.x % WARP; i < n; i += BATCH * WARP) {
        float v[N][BATCH];
#pragma unroll
        for (int k = 0; k < N; k++)
#pragma unroll
            for (int b = 0; b < BATCH; b++) v[k][b] = i + b * WARP < n ? p[k * apart + i + b * WARP] : 0.0f;
#pragma unroll
        for (int k = 0; k < N; k++)
#pragma unroll
            for (int b = 0; b < BATCH; b++) sum[k] += v[k][b];
    }
#pragma unroll
    for (int d = WARP / 2; d > 0; d /= 2)
#pragma unroll
        for (int k = 0; k < N; k++) sum[k] += __shfl_down_sync(0xffffffffu, sum[k], d);
}

__device__ int64_t warp_channel() {
    return ((int64_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
}

unsigned warps_grid(int64_t c) {
    return (unsigned)ceil_div(c, THREADS / WARP);
}

template <typename T>
__global__ void stats_final(const T *x, const float *partial, int32_t splits, float *stats, int64_t rows,
                            int64_t c, bool sums) {
    int64_t ch = warp_channel();
    if (ch >= c) return;
    const float first = to_float(x[ch]); /* before the sums: no wait of its own */
    double s[2];
    warp_total<2>(partial + ch * splits, c * splits, splits, s);
    if (threadIdx.x % WARP) return;
    if (sums) {
        stats[ch] = (float)s[0];
        stats[c + ch] = (float)s[1];
        return;
    }
    double d = s[0] / (double)rows, var = s[1] / (double)rows - d * d;
    stats[ch] = (float)(first + d);
    stats[c + ch] = (float)(var < 0 ? 0 : var); /* keeps NaN */
}

template <typename T> __global__ void bias_final(const float *partial, int32_t splits, T *db, int64_t c) {
    int64_t ch = warp_channel();
    if (ch >= c) return;
    double s[1];
    warp_total<1>(partial + ch * splits, 0, splits, s);
    if (threadIdx.x % WARP == 0) db[ch] = from_float<T>((float)s[0]);
}

/* coef of dc = A*dz + B*c + D (core/op.h). */
__device__ void write_coef(float *coef, int64_t ch, int64_t c, double rows, double dgamma, double dbeta,
                           float mean, float invstd, float gamma) {
    double a = (double)gamma * invstd, b = -a * invstd * dgamma / rows;
    coef[ch] = (float)a;
    coef[c + ch] = (float)b;
    coef[2 * c + ch] = (float)(-a * dbeta / rows - b * mean);
}

template <typename T>
__global__ void grad_final(const float *partial, int32_t splits, dt_gpu_bn_reduce_args a) {
    int64_t ch = warp_channel();
    if (ch >= a.c) return;
    const float mean = a.mean[ch], invstd = a.invstd[ch], gamma = a.gamma[ch];
    double s[2];
    warp_total<2>(partial + ch * splits, a.c * splits, splits, s);
    if (threadIdx.x % WARP) return;
    const double dbeta = s[0], dgamma = s[1] * invstd;
    ((T *)a.dbeta)[ch] = from_float<T>((float)dbeta);
    ((T *)a.dgamma)[ch] = from_float<T>((float)dgamma);
    write_coef(a.coef, ch, a.c, (double)a.rows, dgamma, dbeta, mean, invstd, gamma);
}

template <typename T>
__global__ void coef_kernel(const float *dgamma32, const float *dbeta32, const float *mean,
                            const float *invstd, const float *gamma, T *dgamma, T *dbeta, float *coef,
                            int64_t rows, int64_t c) {
    int64_t ch = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (ch >= c) return;
    dgamma[ch] = from_float<T>(dgamma32[ch]);
    dbeta[ch] = from_float<T>(dbeta32[ch]);
    write_coef(coef, ch, c, (double)rows, dgamma32[ch], dbeta32[ch], mean[ch], invstd[ch], gamma[ch]);
}

__global__ void beta_kernel(const float *mean, const float *scale, const float *shift, float *beta,
                            int64_t c) {
    int64_t ch = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (ch < c) beta[ch] = fmaf(mean[ch], scale[ch], shift[ch]);
}

template <typename T, int V>
cudaError_t stats(const dt_gpu *gpu, const void *x, float *out, bool sums, int64_t rows, int64_t c, float *ws,
                  cudaStream_t s) {
    StatsOf<T, V> f = {};
    f.in[0] = (const T *)x;
    f.shifted = !sums;
    int32_t splits = run_stage_one<T, V>(gpu, f, rows, c, ws, s);
    stats_final<T><<<warps_grid(c), THREADS, 0, s>>>((const T *)x, ws, splits, out, rows, c, sums);
    return cudaPeekAtLastError();
}

template <typename T, int V>
cudaError_t bias(const dt_gpu *gpu, const void *dy, void *db, int64_t rows, int64_t c, float *ws,
                 cudaStream_t s) {
    SumOf<T, V> f = {};
    f.in[0] = (const T *)dy;
    int32_t splits = run_stage_one<T, V>(gpu, f, rows, c, ws, s);
    bias_final<T><<<warps_grid(c), THREADS, 0, s>>>(ws, splits, (T *)db, c);
    return cudaPeekAtLastError();
}

template <typename T, int V, int MASK, bool SECOND>
cudaError_t grad(const dt_gpu *gpu, const dt_gpu_bn_reduce_args &a, cudaStream_t s) {
    GradOf<T, V, MASK, SECOND> f = {};
    f.in[0] = (const T *)a.c_in;
    f.in[1] = (const T *)a.dy;
    if (SECOND) f.in[2] = (const T *)a.dy2;
    if (MASK == MASK_FROM_Y) f.in[f.NIN - 1] = (const T *)a.y;
    f.out = (T *)a.dz;
    f.mean = a.mean;
    f.scale = a.scale;
    f.shift = a.shift;
    int32_t splits = run_stage_one<T, V>(gpu, f, a.rows, a.c, a.workspace, s);
    grad_final<T><<<warps_grid(a.c), THREADS, 0, s>>>(a.workspace, splits, a);
    return cudaPeekAtLastError();
}

template <typename T, int V>
cudaError_t grad_pooled(const dt_gpu *gpu, const dt_gpu_bn_reduce_args &a, cudaStream_t s) {
    const int64_t n_strip = strip_count(a.pooled);
    const Split sp = split_for(gpu, n_strip, a.c / V);
    if (a.pooled.dy2)
        stage_one_pooled<T, V, true><<<sp.grid, sp.block, 0, s>>>(a, n_strip);
    else
        stage_one_pooled<T, V, false><<<sp.grid, sp.block, 0, s>>>(a, n_strip);
    grad_final<T><<<warps_grid(a.c), THREADS, 0, s>>>(a.workspace, sp.splits, a);
    return cudaPeekAtLastError();
}

template <typename T, int V, int MASK>
cudaError_t grad_second(const dt_gpu *gpu, const dt_gpu_bn_reduce_args &a, cudaStream_t s) {
    return a.dy2 ? grad<T, V, MASK, true>(gpu, a, s) : grad<T, V, MASK, false>(gpu, a, s);
}

template <typename T, int V>
cudaError_t grad_mask(const dt_gpu *gpu, const dt_gpu_bn_reduce_args &a, cudaStream_t s) {
    if (a.pooled.idx) return grad_pooled<T, V>(gpu, a, s);
    if (a.y) return grad_second<T, V, MASK_FROM_Y>(gpu, a, s);
    if (a.scale) return grad_second<T, V, MASK_FROM_C>(gpu, a, s);
    return grad_second<T, V, MASK_NONE>(gpu, a, s);
}

} // namespace

int64_t dt_gpu_reduce_bytes(const dt_gpu *gpu, dt_dtype t, int64_t rows, int64_t c) {
    /* Both widths: which one runs depends on the pointers. */
    int64_t wide = 16 / (int64_t)(t == DT_DTYPE_F32 ? 4 : 2);
    int64_t splits = split_for(gpu, rows, c).splits;
    if (c % wide == 0) {
        int64_t v = split_for(gpu, rows, c / wide).splits;
        if (v > splits) splits = v;
    }
    return 2 * c * splits * (int64_t)sizeof(float);
}

cudaError_t dt_gpu_bn_stats(const dt_gpu *gpu, dt_dtype t, const void *x, float *out, bool sums, int64_t rows,
                            int64_t c, float *ws, cudaStream_t s) {
    DT_WITH_TYPE(t, return aligned16(x) && c % WIDE<T> == 0
                               ? stats<T, WIDE<T>>(gpu, x, out, sums, rows, c, ws, s)
                               : stats<T, 1>(gpu, x, out, sums, rows, c, ws, s));
}

cudaError_t dt_gpu_bias_grad(const dt_gpu *gpu, dt_dtype t, const void *dy, void *db, int64_t rows, int64_t c,
                             float *ws, cudaStream_t s) {
    DT_WITH_TYPE(t, return aligned16(dy) && c % WIDE<T> == 0 ? bias<T, WIDE<T>>(gpu, dy, db, rows, c, ws, s)
                                                             : bias<T, 1>(gpu, dy, db, rows, c, ws, s));
}

cudaError_t dt_gpu_bn_reduce(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_reduce_args *a, cudaStream_t s) {
    bool al = aligned16(a->dy) && aligned16(a->c_in) && aligned16(a->dy2) && aligned16(a->y) &&
              aligned16(a->dz) && pooled_aligned(a->pooled);
    DT_WITH_TYPE(t, return al && a->c % WIDE<T> == 0 ? grad_mask<T, WIDE<T>>(gpu, *a, s)
                                                     : grad_mask<T, 1>(gpu, *a, s));
}

cudaError_t dt_gpu_bn_beta(const float *mean, const float *scale, const float *shift, float *beta, int64_t c,
                           cudaStream_t s) {
    beta_kernel<<<(unsigned)ceil_div(c, THREADS), THREADS, 0, s>>>(mean, scale, shift, beta, c);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_bn_coef(dt_dtype t, const float *dgamma32, const float *dbeta32, const float *mean,
                           const float *invstd, const float *gamma, void *dgamma, void *dbeta, float *coef,
                           int64_t rows, int64_t c, cudaStream_t s) {
    DT_WITH_TYPE(t, coef_kernel<T><<<(unsigned)ceil_div(c, THREADS), THREADS, 0, s>>>(
                        dgamma32, dbeta32, mean, invstd, gamma, (T *)dgamma, (T *)dbeta, coef, rows, c));
    return cudaPeekAtLastError();
}
