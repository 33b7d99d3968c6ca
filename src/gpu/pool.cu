/* Max, average and global average pooling and their gradients. The gradients gather: each input element
 * collects from the windows that cover it, in a fixed order. A thread owns one pixel and one vector of
 * channels. */
#include "group_sums.cuh"

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

template <typename T, int V, bool PROLOGUE>
__global__ void __launch_bounds__(THREADS) maxpool_kernel(dt_gpu_pool_args a) {
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
                    if (PROLOGUE) {
                        v = fmaf(v, a.scale[o.c0 + j], a.shift[o.c0 + j]);
                        v = to_float(from_float<T>(v < 0.0f ? 0.0f : v)); /* keeps NaN */
                    }
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

/* Words of 32 bits: two 16-bit floats or one float, and positions in lanes of as many bits. */
template <typename T> struct Word;
template <> struct Word<float> {
    static constexpr int LANES = 1;
    static constexpr uint32_t LOWEST = 0xff800000u, ONES = 1; /* -infinity; 1 in every lane */
    static __device__ uint32_t relu_of(uint32_t x, const float *scale, const float *shift) {
        const float v = fmaf(__uint_as_float(x), *scale, *shift);
        return __float_as_uint(v < 0.0f ? 0.0f : v);
    }
    static __device__ uint32_t wins(uint32_t x, uint32_t best) {
        const float v = __uint_as_float(x);
        return v > __uint_as_float(best) || v != v ? 0xffffffffu : 0;
    }
};
template <typename T2> __device__ T2 as_pair(uint32_t x) {
    return *reinterpret_cast<T2 *>(&x);
}
template <typename T2> __device__ uint32_t as_word(T2 x) {
    return *reinterpret_cast<uint32_t *>(&x);
}
/* All ones where x takes the place of best: greater, or NaN. */
template <typename T2> __device__ uint32_t pair_wins(uint32_t x, uint32_t best) {
    const T2 v = as_pair<T2>(x);
    return __hgt2_mask(v, as_pair<T2>(best)) | __hneu2_mask(v, v);
}
/* relu(x*scale + shift), rounded once; NaN stays. */
template <> struct Word<__half> {
    static constexpr int LANES = 2;
    static constexpr uint32_t LOWEST = 0xfc00fc00u, ONES = 0x00010001u;
    static __device__ uint32_t relu_of(uint32_t x, const float *scale, const float *shift) {
        const float2 v = __half22float2(as_pair<__half2>(x));
        const __half2 y = __floats2half2_rn(fmaf(v.x, scale[0], shift[0]), fmaf(v.y, scale[1], shift[1]));
        return as_word(__hmax2_nan(y, as_pair<__half2>(0)));
    }
    static __device__ uint32_t wins(uint32_t x, uint32_t best) { return pair_wins<__half2>(x, best); }
};
template <> struct Word<__nv_bfloat16> {
    static constexpr int LANES = 2;
    static constexpr uint32_t LOWEST = 0xff80ff80u, ONES = 0x00010001u;
    static __device__ uint32_t relu_of(uint32_t x, const float *scale, const float *shift) {
        const float2 v = __bfloat1622float2(as_pair<__nv_bfloat162>(x));
        const __nv_bfloat162 y =
            __floats2bfloat162_rn(fmaf(v.x, scale[0], shift[0]), fmaf(v.y, scale[1], shift[1]));
        return as_word(__hmax2_nan(y, as_pair<__nv_bfloat162>(0)));
    }
    static __device__ uint32_t wins(uint32_t x, uint32_t best) { return pair_wins<__nv_bfloat162>(x, best); }
};

enum { WORDS = 4, POOL_STRIP = 8 }; /* of a vector; windows a thread walks down */

/* Largest value so far of a vector's channels, and where it was. */
template <typename T> struct Best {
    uint32_t v[WORDS], at[WORDS];
    __device__ void start(uint32_t position) {
#pragma unroll
        for (int k = 0; k < WORDS; k++) v[k] = Word<T>::LOWEST, at[k] = position * Word<T>::ONES;
    }
    __device__ void take(const uint32_t (&x)[WORDS], const uint32_t (&position)[WORDS]) {
#pragma unroll
        for (int k = 0; k < WORDS; k++) {
            const uint32_t m = Word<T>::wins(x[k], v[k]);
            v[k] = (x[k] & m) | (v[k] & ~m);
            at[k] = (position[k] & m) | (at[k] & ~m);
        }
    }
    /* A row's best, `offset` positions on in the window. */
    __device__ void take_row(const Best &row, uint32_t offset) {
        uint32_t position[WORDS];
#pragma unroll
        for (int k = 0; k < WORDS; k++) position[k] = row.at[k] + offset * Word<T>::ONES;
        take(row.v, position);
    }
};

/* Windows of 3x3, stride 2, padding 1. A thread walks down a column of windows: a window's last row is the
 * first of the next, whose best it keeps. Values are rounded before they are compared, as stored ones are. */
template <typename T, bool PROLOGUE>
__global__ void __launch_bounds__(THREADS, 3) maxpool_strip_kernel(dt_gpu_pool_args a, int64_t n_strip_vec) {
    constexpr int V = WIDE<T>;
    const int32_t c_vec = a.c / V, n_strip = (a.p + POOL_STRIP - 1) / POOL_STRIP;
    /* From the last to the first: the end of what the convolution wrote is still in the L2. */
    const int64_t i = n_strip_vec - 1 - ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    if (i < 0) return;
    const Place o = place<V>(i, n_strip, a.q, c_vec);
    float scale[V], shift[V];
#pragma unroll
    for (int j = 0; j < V; j++) {
        scale[j] = PROLOGUE ? a.scale[o.c0 + j] : 1.0f;
        shift[j] = PROLOGUE ? a.shift[o.c0 + j] : 0.0f;
    }
    const int64_t row = (int64_t)a.w * a.c;
    const T *x = (const T *)a.in + (int64_t)o.n * a.h * row + (int64_t)(2 * o.w) * a.c + o.c0;
    const bool left = o.w > 0, right = 2 * o.w + 1 < a.w;
    using Vec = Pack<uint32_t, WORDS>;
    auto load_row = [&](Vec(&p)[3], int32_t h) {
        const T *from = x + h * row;
        if (left) p[0] = load<uint32_t, WORDS>((const uint32_t *)(from - a.c));
        p[1] = load<uint32_t, WORDS>((const uint32_t *)from);
        if (right) p[2] = load<uint32_t, WORDS>((const uint32_t *)(from + a.c));
    };
    auto row_best = [&](Vec(&p)[3]) {
        Best<T> b;
        b.start(left ? 0 : 1);
#pragma unroll
        for (int s = 0; s < 3; s++) {
            if ((s == 0 && !left) || (s == 2 && !right)) continue;
            uint32_t position[WORDS];
#pragma unroll
            for (int k = 0; k < WORDS; k++) {
                position[k] = s * Word<T>::ONES;
                if (PROLOGUE)
                    p[s].v[k] =
                        Word<T>::relu_of(p[s].v[k], scale + k * Word<T>::LANES, shift + k * Word<T>::LANES);
            }
            b.take(p[s].v, position);
        }
        return b;
    };
    const int32_t p0 = o.h * POOL_STRIP, p1 = min(p0 + POOL_STRIP, a.p);
    Best<T> best;
    if (p0 == 0) {
        best.start(left ? 3 : 4);
    } else {
        Vec top[3];
        load_row(top, 2 * p0 - 1);
        best = row_best(top);
    }
    int64_t to = (((int64_t)o.n * a.p + p0) * a.q + o.w) * a.c + o.c0;
    for (int32_t p = p0; p < p1; p++, to += (int64_t)a.q * a.c) {
        Vec mid[3], low[3];
        const bool below = 2 * p + 1 < a.h;
        load_row(mid, 2 * p);
        if (below) load_row(low, 2 * p + 1);
        best.take_row(row_best(mid), 3);
        Best<T> next;
        if (below) {
            next = row_best(low);
            best.take_row(next, 6);
        }
        Vec y;
        Pack<uint8_t, V> idx;
#pragma unroll
        for (int k = 0; k < WORDS; k++) y.v[k] = best.v[k];
#pragma unroll
        for (int j = 0; j < V; j++)
            idx.v[j] = (uint8_t)(best.at[j / Word<T>::LANES] >> (16 * (j % Word<T>::LANES)));
        store<uint32_t, WORDS>((uint32_t *)((T *)a.out + to), y);
        store<uint8_t, V>(a.idx_out + to, idx);
        best = next;
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
#pragma unroll 7
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

struct Itself {
    __device__ float operator()(float x, float, float) const { return x; }
};

/* Where samples and channels are threads too few for the card, several threads share a sum. */
template <typename T>
bool global_shared(const dt_gpu *gpu, const void *x, void *y, int64_t n, int64_t hw, int64_t c,
                   cudaStream_t s) {
    GroupSums sums = {.in = {x},
                      .group = {hw * c},
                      .row = {c},
                      .column = {true},
                      .out = y,
                      .groups = n,
                      .rows = hw,
                      .c = c,
                      .scale = 1.0f / (float)hw};
    if (n * c / WIDE<T> >= (int64_t)gpu->sm_count * THREADS || !group_sums_take<T>(gpu, sums)) return false;
    group_sums<T>(Itself{}, sums, s);
    return true;
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

template <typename T, bool PROLOGUE>
static void maxpool(const dt_gpu *gpu, const dt_gpu_pool_args &a, cudaStream_t s) {
    const int64_t n = (int64_t)a.n * a.p * a.q * a.c;
    const bool wide = wide_ok(a, WIDE<T>);
    if (wide && a.kr == 3 && a.ks == 3 && a.sr == 2 && a.ss == 2 && a.pr == 1 && a.ps == 1) {
        const int64_t n_strip = (int64_t)a.n * ceil_div(a.p, POOL_STRIP) * a.q * (a.c / WIDE<T>);
        maxpool_strip_kernel<T, PROLOGUE>
            <<<(unsigned)ceil_div(n_strip, THREADS), THREADS, 0, s>>>(a, n_strip);
    } else if (wide) {
        maxpool_kernel<T, WIDE<T>, PROLOGUE><<<grid_for(gpu, n / WIDE<T>, 1), THREADS, 0, s>>>(a);
    } else {
        maxpool_kernel<T, 1, PROLOGUE><<<grid_for(gpu, n, 1), THREADS, 0, s>>>(a);
    }
}

cudaError_t dt_gpu_maxpool(const dt_gpu *gpu, dt_dtype t, const dt_gpu_pool_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, a->scale ? maxpool<T, true>(gpu, *a, s) : maxpool<T, false>(gpu, *a, s));
    return cudaPeekAtLastError();
}

cudaError_t dt_gpu_global_avgpool(const dt_gpu *gpu, dt_dtype t, const void *x, void *y, int64_t n,
                                  int64_t hw, int64_t c, cudaStream_t s) {
    DT_WITH_TYPE(t, {
        if (global_shared<T>(gpu, x, y, n, hw, c, s)) return cudaPeekAtLastError();
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
