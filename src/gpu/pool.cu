/* Max, average and global average pooling and their gradients. The gradients gather: each input element
 * collects from the windows that cover it, in a fixed order. A thread owns one pixel and one vector of
 * channels. */
#include "vec.cuh"

namespace {
using namespace dt;

/* Splits a thread's index into image, row, column and first channel of an [n, h, w, c_vec] grid. */
struct Place {
    int32_t n, h, w, c0;
};
template <int V> __device__ Place place(int64_t i, int32_t h, int32_t w, int32_t c_vec) {
    Place p;
    p.c0 = (int32_t)(i % c_vec) * V;
    i /= c_vec;
    p.w = (int32_t)(i % w);
    i /= w;
    p.h = (int32_t)(i % h);
    p.n = (int32_t)(i / h);
    return p;
}

/* First and one past the last window that covers position i. */
__device__ void covering(int32_t i, int32_t stride, int32_t pad, int32_t kernel, int32_t n_out,
                         int32_t *first, int32_t *last) {
    int32_t low = i + pad - kernel + 1;
    *first = low <= 0 ? 0 : (low + stride - 1) / stride;
    *last = min((i + pad) / stride + 1, n_out);
}

template <typename T, int V> __global__ void __launch_bounds__(THREADS) maxpool_kernel(dt_gpu_pool_args a) {
    const int32_t c_vec = a.c / V;
    const int64_t n_out = (int64_t)a.n * a.p * a.q * c_vec, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_out; i += stride) {
        const Place o = place<V>(i, a.p, a.q, c_vec);
        const int32_t h0 = o.h * a.sr - a.pr, w0 = o.w * a.ss - a.ps;
        float best[V];
        uint8_t at[V];
        const uint8_t start = (uint8_t)(max(-h0, 0) * a.ks + max(-w0, 0));
#pragma unroll
        for (int j = 0; j < V; j++) best[j] = -INFINITY, at[j] = start;
        for (int32_t r = max(-h0, 0); r < min(a.kr, a.h - h0); r++)
            for (int32_t q = max(-w0, 0); q < min(a.ks, a.w - w0); q++) {
                const int64_t from = (((int64_t)o.n * a.h + h0 + r) * a.w + w0 + q) * a.c + o.c0;
                const Pack<T, V> x = load<T, V>((const T *)a.in + from);
#pragma unroll
                for (int j = 0; j < V; j++) {
                    float v = to_float(x.v[j]);
                    if (v > best[j] || v != v) best[j] = v, at[j] = (uint8_t)(r * a.ks + q); /* NaN wins */
                }
            }
        Pack<T, V> y;
        Pack<uint8_t, V> idx;
#pragma unroll
        for (int j = 0; j < V; j++) y.v[j] = from_float<T>(best[j]), idx.v[j] = at[j];
        store<T, V>((T *)a.out + i * V, y);
        store<uint8_t, V>(a.idx_out + i * V, idx);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) maxpool_bwd_kernel(dt_gpu_pool_args a) {
    const int32_t c_vec = a.c / V;
    const int64_t n_in = (int64_t)a.n * a.h * a.w * c_vec, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_in; i += stride) {
        const Place o = place<V>(i, a.h, a.w, c_vec);
        int32_t p0, p1, q0, q1;
        covering(o.h, a.sr, a.pr, a.kr, a.p, &p0, &p1);
        covering(o.w, a.ss, a.ps, a.ks, a.q, &q0, &q1);
        float sum[V];
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = 0;
        for (int32_t p = p0; p < p1; p++)
            for (int32_t q = q0; q < q1; q++) {
                const int64_t from = (((int64_t)o.n * a.p + p) * a.q + q) * a.c + o.c0;
                const uint8_t me = (uint8_t)((o.h + a.pr - p * a.sr) * a.ks + o.w + a.ps - q * a.ss);
                const Pack<T, V> dy = load<T, V>((const T *)a.in + from);
                const Pack<uint8_t, V> idx = load<uint8_t, V>(a.idx + from);
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += idx.v[j] == me ? to_float(dy.v[j]) : 0.0f;
            }
        Pack<T, V> dx;
#pragma unroll
        for (int j = 0; j < V; j++) dx.v[j] = from_float<T>(sum[j]);
        store<T, V>((T *)a.out + i * V, dx);
    }
}

/* The same for stride 2 and windows of at most 3: a thread owns 2 x 2 pixels, which at most 2 x 2 windows
 * cover, so each window is read once for four pixels. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) maxpool_bwd_patch_kernel(dt_gpu_pool_args a) {
    const int32_t c_vec = a.c / V, ph = (a.h + 1) / 2, pw = (a.w + 1) / 2;
    const int64_t n_patch = (int64_t)a.n * ph * pw * c_vec, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_patch; i += stride) {
        const Place o = place<V>(i, ph, pw, c_vec);
        const int32_t h0 = 2 * o.h, w0 = 2 * o.w;
        /* First window that covers the patch's first row and column. */
        const int32_t p0 = max(h0 + a.pr - a.kr + 2, 0) / 2, q0 = max(w0 + a.ps - a.ks + 2, 0) / 2;
        Pack<T, V> dy[2][2];
        Pack<uint8_t, V> idx[2][2];
        bool there[2][2];
#pragma unroll
        for (int u = 0; u < 2; u++)
#pragma unroll
            for (int v = 0; v < 2; v++) {
                const int32_t p = p0 + u, q = q0 + v;
                there[u][v] = p < a.p && q < a.q;
                if (!there[u][v]) continue;
                const int64_t from = (((int64_t)o.n * a.p + p) * a.q + q) * a.c + o.c0;
                dy[u][v] = load<T, V>((const T *)a.in + from);
                idx[u][v] = load<uint8_t, V>(a.idx + from);
            }
#pragma unroll
        for (int y = 0; y < 2; y++)
#pragma unroll
            for (int x = 0; x < 2; x++) {
                if (h0 + y >= a.h || w0 + x >= a.w) continue;
                float sum[V];
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] = 0;
#pragma unroll
                for (int u = 0; u < 2; u++)
#pragma unroll
                    for (int v = 0; v < 2; v++) {
                        const int32_t r = h0 + y + a.pr - 2 * (p0 + u), t = w0 + x + a.ps - 2 * (q0 + v);
                        if (!there[u][v] || r < 0 || r >= a.kr || t < 0 || t >= a.ks) continue;
                        const uint8_t me = (uint8_t)(r * a.ks + t);
#pragma unroll
                        for (int j = 0; j < V; j++)
                            sum[j] += idx[u][v].v[j] == me ? to_float(dy[u][v].v[j]) : 0.0f;
                    }
                Pack<T, V> dx;
#pragma unroll
                for (int j = 0; j < V; j++) dx.v[j] = from_float<T>(sum[j]);
                store<T, V>((T *)a.out + (((int64_t)o.n * a.h + h0 + y) * a.w + w0 + x) * a.c + o.c0, dx);
            }
    }
}

template <typename T, int V> __global__ void __launch_bounds__(THREADS) avgpool_kernel(dt_gpu_pool_args a) {
    const int32_t c_vec = a.c / V;
    const int64_t n_out = (int64_t)a.n * a.p * a.q * c_vec, stride = (int64_t)gridDim.x * THREADS;
    const float scale = 1.0f / (float)(a.kr * a.ks);
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_out; i += stride) {
        const Place o = place<V>(i, a.p, a.q, c_vec);
        const int32_t h0 = o.h * a.sr - a.pr, w0 = o.w * a.ss - a.ps;
        float sum[V];
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = 0;
        for (int32_t h = max(h0, 0); h < min(h0 + a.kr, a.h); h++)
            for (int32_t w = max(w0, 0); w < min(w0 + a.ks, a.w); w++) {
                const Pack<T, V> x =
                    load<T, V>((const T *)a.in + (((int64_t)o.n * a.h + h) * a.w + w) * a.c + o.c0);
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += to_float(x.v[j]);
            }
        Pack<T, V> y;
#pragma unroll
        for (int j = 0; j < V; j++) y.v[j] = from_float<T>(sum[j] * scale);
        store<T, V>((T *)a.out + i * V, y);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) avgpool_bwd_kernel(dt_gpu_pool_args a) {
    const int32_t c_vec = a.c / V;
    const int64_t n_in = (int64_t)a.n * a.h * a.w * c_vec, stride = (int64_t)gridDim.x * THREADS;
    const float scale = 1.0f / (float)(a.kr * a.ks);
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_in; i += stride) {
        const Place o = place<V>(i, a.h, a.w, c_vec);
        int32_t p0, p1, q0, q1;
        covering(o.h, a.sr, a.pr, a.kr, a.p, &p0, &p1);
        covering(o.w, a.ss, a.ps, a.ks, a.q, &q0, &q1);
        float sum[V];
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = 0;
        for (int32_t p = p0; p < p1; p++)
            for (int32_t q = q0; q < q1; q++) {
                const Pack<T, V> dy =
                    load<T, V>((const T *)a.in + (((int64_t)o.n * a.p + p) * a.q + q) * a.c + o.c0);
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += to_float(dy.v[j]);
            }
        Pack<T, V> dx;
#pragma unroll
        for (int j = 0; j < V; j++) dx.v[j] = from_float<T>(sum[j] * scale);
        store<T, V>((T *)a.out + i * V, dx);
    }
}

/* A thread owns one vector of channels of one sample and walks the image. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) global_kernel(const T *x, T *y, int64_t n, int64_t hw, int64_t c) {
    const int64_t c_vec = c / V, total = n * c_vec, stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += stride) {
        const T *from = x + (i / c_vec) * hw * c + (i % c_vec) * V;
        float sum[V];
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = 0;
#pragma unroll 4
        for (int64_t k = 0; k < hw; k++) {
            const Pack<T, V> p = load<T, V>(from + k * c);
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] += to_float(p.v[j]);
        }
        Pack<T, V> out;
#pragma unroll
        for (int j = 0; j < V; j++) out.v[j] = from_float<T>(sum[j] / (float)hw);
        store<T, V>(y + i * V, out);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    global_bwd_kernel(const T *dy, T *dx, int64_t n, int64_t hw, int64_t c) {
    const int64_t c_vec = c / V, total = n * hw * c_vec, stride = (int64_t)gridDim.x * THREADS;
    const float scale = 1.0f / (float)hw;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += stride) {
        Pack<T, V> p = load<T, V>(dy + ((i / c_vec / hw) * c_vec + i % c_vec) * V);
#pragma unroll
        for (int j = 0; j < V; j++) p.v[j] = from_float<T>(to_float(p.v[j]) * scale);
        store<T, V>(dx + i * V, p);
    }
}

/* Byte positions come in vectors of V too, so idx must be V-aligned: it is where x is 16-byte aligned. */
bool wide_ok(const dt_gpu_pool_args &a, int wide) {
    return a.c % wide == 0 && aligned16(a.in) && aligned16(a.out) && ((uintptr_t)a.idx & 7) == 0 &&
           ((uintptr_t)a.idx_out & 7) == 0;
}

} // namespace

#define DT_POOL(NAME, KERNEL, H, W)                                                                          \
    cudaError_t NAME(const dt_gpu *gpu, dt_dtype t, const dt_gpu_pool_args *a, cudaStream_t s) {             \
        DT_WITH_TYPE(t, {                                                                                    \
            int64_t n = (int64_t)a->n * a->H * a->W * a->c;                                                  \
            if (wide_ok(*a, WIDE<T>))                                                                        \
                KERNEL<T, WIDE<T>><<<grid_for(gpu, n / WIDE<T>, 1), THREADS, 0, s>>>(*a);                    \
            else                                                                                             \
                KERNEL<T, 1><<<grid_for(gpu, n, 1), THREADS, 0, s>>>(*a);                                    \
        });                                                                                                  \
        return cudaPeekAtLastError();                                                                        \
    }

DT_POOL(dt_gpu_maxpool, maxpool_kernel, p, q)
static DT_POOL(maxpool_bwd_any, maxpool_bwd_kernel, h, w) DT_POOL(dt_gpu_avgpool, avgpool_kernel, p, q)
    DT_POOL(dt_gpu_avgpool_bwd, avgpool_bwd_kernel, h, w)

        cudaError_t
    dt_gpu_maxpool_bwd(const dt_gpu *gpu, dt_dtype t, const dt_gpu_pool_args *a, cudaStream_t s) {
    if (a->sr != 2 || a->ss != 2 || a->kr > 3 || a->ks > 3) return maxpool_bwd_any(gpu, t, a, s);
    DT_WITH_TYPE(t, {
        int64_t n = (int64_t)a->n * ((a->h + 1) / 2) * ((a->w + 1) / 2) * a->c;
        if (wide_ok(*a, WIDE<T>))
            maxpool_bwd_patch_kernel<T, WIDE<T>><<<grid_for(gpu, n / WIDE<T>, 1), THREADS, 0, s>>>(*a);
        else
            maxpool_bwd_patch_kernel<T, 1><<<grid_for(gpu, n, 1), THREADS, 0, s>>>(*a);
    });
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_global_avgpool(const dt_gpu *gpu, dt_dtype t, const void *x, void *y, int64_t n,
                                  int64_t hw, int64_t c, cudaStream_t s) {
    DT_WITH_TYPE(t, {
        if (c % WIDE<T> == 0 && aligned16(x) && aligned16(y))
            global_kernel<T, WIDE<T>>
                <<<grid_for(gpu, n * c / WIDE<T>, 1), THREADS, 0, s>>>((const T *)x, (T *)y, n, hw, c);
        else
            global_kernel<T, 1><<<grid_for(gpu, n * c, 1), THREADS, 0, s>>>((const T *)x, (T *)y, n, hw, c);
    });
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_global_avgpool_bwd(const dt_gpu *gpu, dt_dtype t, const void *dy, void *dx, int64_t n,
                                      int64_t hw, int64_t c, cudaStream_t s) {
    DT_WITH_TYPE(t, {
        if (c % WIDE<T> == 0 && aligned16(dy) && aligned16(dx))
            global_bwd_kernel<T, WIDE<T>>
                <<<grid_for(gpu, n * hw * c / WIDE<T>, 1), THREADS, 0, s>>>((const T *)dy, (T *)dx, n, hw, c);
        else
            global_bwd_kernel<T, 1>
                <<<grid_for(gpu, n * hw * c, 1), THREADS, 0, s>>>((const T *)dy, (T *)dx, n, hw, c);
    });
    return cudaPeekAtLastError();
}
