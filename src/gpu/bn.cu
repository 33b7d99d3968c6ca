/* Batch normalisation that is one pass over the tensors: apply, the gradient of the input, and the tiny
 * per-channel kernels between them. Reductions are in bn_reduce.cu. */
#include "pool_gather.cuh"

namespace {
using namespace dt;

enum { UNROLL = 4 };

/* How the residual enters. */
enum { RES_NONE = 0, RES_PLAIN, RES_SCALED };

/* y = act(x*scale + shift [+ res | + res*rscale + rshift]). The grid's stride is a multiple of c_vec, so each
 * thread keeps its channels' factors in registers. */
template <typename T, int V, int RES>
__global__ void __launch_bounds__(THREADS)
    apply_kernel(dt_gpu_bn_apply_args a, int64_t n_vec, int32_t c_vec) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    /* From the end to the start: the end of what the convolution wrote is still in the L2, and the start of
     * what is written here will be when the next convolution reads it. */
    int64_t i = n_vec - 1 - ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    if (i < 0) return;
    const int32_t c0 = (int32_t)(i % c_vec) * V;
    const T *x = (const T *)a.x, *res = (const T *)a.res;
    T *y = (T *)a.y;
    float scale[V], shift[V], rscale[V];
#pragma unroll
    for (int j = 0; j < V; j++) {
        scale[j] = a.scale[c0 + j];
        shift[j] = a.shift[c0 + j];
        rscale[j] = RES == RES_SCALED ? a.rscale[c0 + j] : 1.0f;
        if (RES == RES_SCALED) shift[j] += a.rshift[c0 + j];
    }
    const float floor = a.relu ? 0.0f : -INFINITY;
    auto one = [&](const Pack<T, V> &px, const Pack<T, V> &pr) {
        Pack<T, V> out;
#pragma unroll
        for (int j = 0; j < V; j++) {
            float v = fmaf(to_float(px.v[j]), scale[j], shift[j]);
            if (RES != RES_NONE) v = fmaf(to_float(pr.v[j]), rscale[j], v);
            out.v[j] = from_float<T>(v < floor ? floor : v); /* keeps NaN */
        }
        return out;
    };
    for (; i - (UNROLL - 1) * stride >= 0; i -= UNROLL * stride) {
        Pack<T, V> px[UNROLL], pr[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            px[u] = load<T, V>(x + (i - u * stride) * V);
            if (RES != RES_NONE) pr[u] = load<T, V>(res + (i - u * stride) * V);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) store<T, V>(y + (i - u * stride) * V, one(px[u], pr[u]));
    }
    for (; i >= 0; i -= stride) {
        Pack<T, V> px = load<T, V>(x + i * V), pr = px;
        if (RES != RES_NONE) pr = load<T, V>(res + i * V);
        store<T, V>(y + i * V, one(px, pr));
    }
}

template <typename T, int V>
cudaError_t apply(const dt_gpu *gpu, const dt_gpu_bn_apply_args &a, cudaStream_t s) {
    int64_t c_vec = a.c / V, n_vec = a.rows * c_vec;
    unsigned grid = grid_for_rows(gpu, n_vec, c_vec, UNROLL);
    if (!a.res)
        apply_kernel<T, V, RES_NONE><<<grid, THREADS, 0, s>>>(a, n_vec, (int32_t)c_vec);
    else if (!a.rscale)
        apply_kernel<T, V, RES_PLAIN><<<grid, THREADS, 0, s>>>(a, n_vec, (int32_t)c_vec);
    else
        apply_kernel<T, V, RES_SCALED><<<grid, THREADS, 0, s>>>(a, n_vec, (int32_t)c_vec);
    return cudaPeekAtLastError();
}

/* dc = A*dz + B*c + D with dz = dy, masked by c*scale+shift > 0 if MASK. */
template <typename T, int V, bool MASK>
__global__ void __launch_bounds__(THREADS) dx_kernel(dt_gpu_bn_dx_args a, int64_t n_vec, int32_t c_vec) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int32_t c0 = (int32_t)(i % c_vec) * V;
    const T *dy = (const T *)a.dy, *ci = (const T *)a.c_in;
    T *dc = (T *)a.dc;
    float ka[V], kb[V], kd[V], scale[V], shift[V];
#pragma unroll
    for (int j = 0; j < V; j++) {
        ka[j] = a.coef[c0 + j];
        kb[j] = a.coef[a.c + c0 + j];
        kd[j] = a.coef[2 * a.c + c0 + j];
        scale[j] = MASK ? a.scale[c0 + j] : 0.0f;
        shift[j] = MASK ? a.shift[c0 + j] : 0.0f;
    }
    auto one = [&](const Pack<T, V> &pd, const Pack<T, V> &pc) {
        Pack<T, V> out;
#pragma unroll
        for (int j = 0; j < V; j++) {
            float c = to_float(pc.v[j]), d = to_float(pd.v[j]);
            if (MASK && !(fmaf(c, scale[j], shift[j]) > 0.0f)) d = 0.0f;
            out.v[j] = from_float<T>(fmaf(ka[j], d, fmaf(kb[j], c, kd[j])));
        }
        return out;
    };
    for (; i + (UNROLL - 1) * stride < n_vec; i += UNROLL * stride) {
        Pack<T, V> pd[UNROLL], pc[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            pd[u] = load<T, V>(dy + (i + u * stride) * V);
            pc[u] = load<T, V>(ci + (i + u * stride) * V);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) store<T, V>(dc + (i + u * stride) * V, one(pd[u], pc[u]));
    }
    for (; i < n_vec; i += stride)
        store<T, V>(dc + i * V, one(load<T, V>(dy + i * V), load<T, V>(ci + i * V)));
}

/* One store for sure: where stores are conditional the compiler may leave them in elements. */
template <typename T, int V> __device__ void store_whole(T *p, const Pack<T, V> &v) {
    if constexpr (sizeof v == sizeof(uint4))
        __stwb(reinterpret_cast<uint4 *>(p), *reinterpret_cast<const uint4 *>(&v));
    else
        store<T, V>(p, v);
}

/* The same with a pooled gradient, masked. */
template <typename T, int V, bool SECOND>
__global__ void __launch_bounds__(THREADS, 2)
    dx_pooled_kernel(dt_gpu_bn_dx_args a, int64_t n_strip_vec, int32_t c_vec) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n_strip_vec) return;
    const int32_t c0 = (int32_t)(i % c_vec) * V;
    float ka[V], kb[V], kd[V], scale[V], shift[V];
#pragma unroll
    for (int j = 0; j < V; j++) {
        ka[j] = a.coef[c0 + j];
        kb[j] = a.coef[a.c + c0 + j];
        kd[j] = a.coef[2 * a.c + c0 + j];
        scale[j] = a.scale[c0 + j];
        shift[j] = a.shift[c0 + j];
    }
    walk_strip<T, V, SECOND>(
        a.pooled, strip_at(a.pooled, i / c_vec), (const T *)a.c_in, a.c, c0,
        [&](int64_t at, const Pack<T, V> &pc, int y, int x, const Window<T, V>(&w)[2][2], bool there) {
            if (!there) return;
            Pack<T, V> out;
#pragma unroll
            for (int j = 0; j < V; j++) {
                const float c = to_float(pc.v[j]), d = patch_grad(w, y, x, j);
                float dc = fmaf(kb[j], c, kd[j]);
                if (fmaf(c, scale[j], shift[j]) > 0.0f) dc = fmaf(ka[j], d, dc);
                out.v[j] = from_float<T>(dc);
            }
            store_whole<T, V>((T *)a.dc + at, out);
        });
}

template <typename T, int V> cudaError_t dx(const dt_gpu *gpu, const dt_gpu_bn_dx_args &a, cudaStream_t s) {
    int64_t c_vec = a.c / V, n_vec = a.rows * c_vec;
    if (a.pooled.idx) {
        const int64_t n = strip_count(a.pooled) * c_vec;
        const unsigned blocks = (unsigned)ceil_div(n, THREADS);
        if (a.pooled.dy2)
            dx_pooled_kernel<T, V, true><<<blocks, THREADS, 0, s>>>(a, n, (int32_t)c_vec);
        else
            dx_pooled_kernel<T, V, false><<<blocks, THREADS, 0, s>>>(a, n, (int32_t)c_vec);
        return cudaPeekAtLastError();
    }
    unsigned grid = grid_for_rows(gpu, n_vec, c_vec, UNROLL);
    if (a.scale)
        dx_kernel<T, V, true><<<grid, THREADS, 0, s>>>(a, n_vec, (int32_t)c_vec);
    else
        dx_kernel<T, V, false><<<grid, THREADS, 0, s>>>(a, n_vec, (int32_t)c_vec);
    return cudaPeekAtLastError();
}

__global__ void finalize_kernel(dt_gpu_bn_finalize_args a) {
    int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= a.c) return;
    float mean = a.stats[c], var = a.stats[a.c + c];
    if (a.stats_are_sums) {
        double m = (double)mean / a.rows;
        var = (float)((double)var / a.rows - m * m);
        mean = (float)m;
    }
    bn_finalize(a, c, mean, var);
}

__global__ void fold_kernel(const float *gamma, const float *beta, const float *rmean, const float *rvar,
                            float *scale, float *shift, int64_t n, float eps) {
    int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= n) return;
    float k = gamma[c] * (float)(1.0 / sqrt((double)rvar[c] + eps));
    scale[c] = k;
    shift[c] = fmaf(-rmean[c], k, beta[c]);
}

} // namespace

cudaError_t dt_gpu_bn_apply(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_apply_args *a, cudaStream_t s) {
    bool al = aligned16(a->x) && aligned16(a->y) && (!a->res || aligned16(a->res));
    DT_WITH_TYPE(t,
                 return al && a->c % WIDE<T> == 0 ? apply<T, WIDE<T>>(gpu, *a, s) : apply<T, 1>(gpu, *a, s));
}

cudaError_t dt_gpu_bn_dx(const dt_gpu *gpu, dt_dtype t, const dt_gpu_bn_dx_args *a, cudaStream_t s) {
    bool al = aligned16(a->dy) && aligned16(a->c_in) && aligned16(a->dc) && pooled_aligned(a->pooled);
    DT_WITH_TYPE(t, return al && a->c % WIDE<T> == 0 ? dx<T, WIDE<T>>(gpu, *a, s) : dx<T, 1>(gpu, *a, s));
}

cudaError_t dt_gpu_bn_finalize(const dt_gpu_bn_finalize_args *a, cudaStream_t s) {
    finalize_kernel<<<(unsigned)ceil_div(a->c, THREADS), THREADS, 0, s>>>(*a);
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_bn_fold(const float *gamma, const float *beta, const float *rmean, const float *rvar,
                           float *scale, float *shift, int64_t c, float eps, cudaStream_t s) {
    fold_kernel<<<(unsigned)ceil_div(c, THREADS), THREADS, 0, s>>>(gamma, beta, rmean, rvar, scale, shift, c,
                                                                   eps);
    return cudaPeekAtLastError();
}
