/* The INPUT op: bytes to normalised T with channels padded; with a window per sample also crop, resize and
 * flip, rounded to bytes by the CPU backend's operations in the same order, so that both give the same pixel.
 *
 * Where PX whole pixels fill a 16-byte vector, a thread owns one; everything else takes a thread per
 * pixel, also rows that are erased or mixed. */
#include <type_traits>

#include "core/mix.h"
#include "vec.cuh"

namespace {
using namespace dt;

enum { CHANNELS = 4, CROP_ROWS = 4 /* of a thread */, VECTORS = 4 /* of a thread in flight */ };

/* A byte normalised is byte * mul + add; channels that only pad are 0. */
struct Norm {
    float mul[CHANNELS], add[CHANNELS];
};
Norm norm_of(const dt_gpu_input_args &a) {
    Norm n = {};
    for (int k = 0; k < a.cs; k++) {
        n.mul[k] = (float)(1.0 / (255.0 * a.stddev[k]));
        n.add[k] = (float)(-(double)a.mean[k] / a.stddev[k]);
    }
    return n;
}

/* Source positions of an output position and the weight of the higher one; ratio = len / size. */
struct Tap {
    int32_t low, high;
    float weight;
};
__device__ __forceinline__ Tap tap(int32_t o, float ratio, int32_t len) {
    float at = __fadd_rn(__fmul_rn(__fadd_rn((float)o, 0.5f), ratio), -0.5f);
    at = at < 0.0f ? 0.0f : at;
    Tap t;
    t.low = min((int32_t)at, len - 1);
    t.high = min(t.low + 1, len - 1);
    t.weight = __fadd_rn(at, -(float)t.low);
    return t;
}
__device__ __forceinline__ float blend(float a, float b, float weight) {
    return __fadd_rn(a, __fmul_rn(weight, __fadd_rn(b, -a)));
}

/* A sample's window, kept inside the image: one that leaves it must not read outside. */
struct Window {
    const uint8_t *at; /* its first pixel */
    int32_t x0, w, h, pitch;
    bool flip;
    float across, down; /* source pixels of an output pixel */
};
__device__ __forceinline__ Window window_of(const dt_gpu_input_args &a, int64_t n) {
    const int32_t *aug = a.aug + n * 8;
    const int32_t x0 = min(max(aug[0], 0), a.ws - 1), y0 = min(max(aug[1], 0), a.hs - 1);
    Window w;
    w.x0 = x0;
    w.w = min(max(aug[2], 1), a.ws - x0), w.h = min(max(aug[3], 1), a.hs - y0);
    w.flip = aug[4] != 0;
    w.pitch = a.ws * a.cs;
    w.at = a.image + (n * a.hs + y0) * w.pitch + x0 * a.cs;
    w.across = __fdiv_rn((float)w.w, (float)a.w), w.down = __fdiv_rn((float)w.h, (float)a.h);
    return w;
}
/* A byte between the columns and rows of two taps. */
__device__ __forceinline__ float resized(float low_left, float low_right, float high_left, float high_right,
                                         float across, float down) {
    const float above = blend(low_left, low_right, across), below = blend(high_left, high_right, across);
    return floorf(__fadd_rn(blend(above, below, down), 0.5f));
}

/* Two neighbouring pixels; three channels as whole words, of which each holds a byte of theirs. */
template <int CS> struct Pair { float left[CS], right[CS]; };
__device__ __forceinline__ void load_pair(const uint8_t *at, Pair<1> &p) {
    p.left[0] = (float)at[0], p.right[0] = (float)at[1];
}
__device__ __forceinline__ void load_pair(const uint8_t *at, Pair<3> &p) {
    const uint32_t *word = (const uint32_t *)((uintptr_t)at & ~(uintptr_t)3);
    const uint32_t shift = (uint32_t)((uintptr_t)at & 3) * 8;
    const uint32_t middle = word[1], low = __funnelshift_r(word[0], middle, shift),
                   high = __funnelshift_r(middle, shift == 24 ? word[2] : 0, shift);
    p.left[0] = (float)(low & 255), p.left[1] = (float)(low >> 8 & 255), p.left[2] = (float)(low >> 16 & 255);
    p.right[0] = (float)(low >> 24), p.right[1] = (float)(high & 255), p.right[2] = (float)(high >> 8 & 255);
}
/* The same pixel from two neighbours, where both columns of a tap are the window's last. */
__device__ __forceinline__ void make_neighbours(Tap &t, int32_t x0) {
    if (t.low < t.high) return;
    t.weight = x0 + t.low > 0 ? 1.0f : 0.0f;
    t.low -= x0 + t.low > 0;
}

/* Cropped and resized: a thread owns the PX columns of a vector, and finds their places once for its rows. */
template <typename T, int CS, int CP>
__global__ void __launch_bounds__(THREADS)
    crop_kernel(dt_gpu_input_args a, Norm norm, int32_t tiles, int32_t bands) {
    constexpr int PX = WIDE<T> / CP;
    const int32_t tile = blockIdx.x % tiles, band = blockIdx.x / tiles % bands;
    const int64_t n = blockIdx.x / tiles / bands;
    const int32_t col = (tile * (int32_t)blockDim.x + (int32_t)threadIdx.x) * PX;
    if (col >= a.w) return;
    const Window win = window_of(a, n);
    Tap x[PX];
#pragma unroll
    for (int i = 0; i < PX; i++) {
        x[i] = tap(win.flip ? a.w - 1 - (col + i) : col + i, win.across, win.w);
        make_neighbours(x[i], win.x0);
    }
#pragma unroll 2
    for (int i = 0; i < CROP_ROWS; i++) {
        const int32_t row = (band * CROP_ROWS + i) * (int32_t)blockDim.y + (int32_t)threadIdx.y;
        if (row >= a.h) return;
        const Tap y = tap(row, win.down, win.h);
        const uint8_t *low = win.at + (int64_t)y.low * win.pitch,
                      *high = win.at + (int64_t)y.high * win.pitch;
        Pack<T, WIDE<T>> p;
#pragma unroll
        for (int px = 0; px < PX; px++) {
            Pair<CS> above, below;
            load_pair(low + x[px].low * CS, above);
            load_pair(high + x[px].low * CS, below);
#pragma unroll
            for (int k = 0; k < CP; k++) {
                const int c = k < CS ? k : 0;
                const float byte = resized(above.left[c], above.right[c], below.left[c], below.right[c],
                                           x[px].weight, y.weight);
                p.v[px * CP + k] = from_float<T>(k < CS ? fmaf(byte, norm.mul[c], norm.add[c]) : 0.0f);
            }
        }
        store<T, WIDE<T>>((T *)a.x + ((n * a.h + row) * a.w + col) * CP, p);
    }
}

/* As stored: a thread owns vectors. Two pixels come as two-byte words, one as bytes. */
template <typename T, int CS, int CP>
__global__ void __launch_bounds__(THREADS) stored_kernel(dt_gpu_input_args a, Norm norm, int64_t n_vec) {
    constexpr int PX = WIDE<T> / CP;
    using Word = typename std::conditional<PX == 2, uint16_t, uint8_t>::type;
    const Word *from = (const Word *)a.image;
    const int64_t first = (int64_t)blockIdx.x * THREADS * VECTORS + threadIdx.x;
    Word in[VECTORS][CS];
#pragma unroll
    for (int u = 0; u < VECTORS; u++)
#pragma unroll
        for (int k = 0; k < CS; k++)
            in[u][k] = first + u * THREADS < n_vec ? from[(first + u * THREADS) * CS + k] : 0;
#pragma unroll
    for (int u = 0; u < VECTORS; u++) {
        if (first + u * THREADS >= n_vec) return;
        Pack<T, WIDE<T>> p;
#pragma unroll
        for (int j = 0; j < WIDE<T>; j++) {
            const int k = j % CP, b = k < CS ? j / CP * CS + k : 0;
            const float byte = (float)(in[u][b / PX] >> (b % PX * 8) & 255);
            p.v[j] = from_float<T>(k < CS ? fmaf(byte, norm.mul[k], norm.add[k]) : 0.0f);
        }
        store<T, WIDE<T>>((T *)a.x + (first + u * THREADS) * WIDE<T>, p);
    }
}

/* A pixel of the network's input before anything is erased or mixed. */
struct Pixel {
    float v[CHANNELS];
};
__device__ Pixel pixel_of(const dt_gpu_input_args &a, const Norm &norm, int64_t n, int32_t row, int32_t col) {
    Pixel p = {};
    Window win;
    Tap x, y;
    if (a.aug) {
        win = window_of(a, n);
        x = tap(win.flip ? a.w - 1 - col : col, win.across, win.w);
        y = tap(row, win.down, win.h);
    }
#pragma unroll
    for (int32_t k = 0; k < CHANNELS; k++) {
        if (k >= a.cs) break;
        float byte;
        if (a.aug) {
            const uint8_t *low = win.at + (int64_t)y.low * win.pitch + k,
                          *high = win.at + (int64_t)y.high * win.pitch + k;
            byte = resized((float)low[x.low * a.cs], (float)low[x.high * a.cs], (float)high[x.low * a.cs],
                           (float)high[x.high * a.cs], x.weight, y.weight);
        } else {
            byte = (float)a.image[((n * a.h + row) * a.w + col) * a.cs + k];
        }
        p.v[k] = fmaf(byte, norm.mul[k], norm.add[k]);
    }
    return p;
}
__device__ Pixel erased_pixel(const dt_gpu_input_args &a, const Norm &norm, const dt_mix &m, int64_t n,
                              int32_t row, int32_t col) {
    if (!dt_box_holds(&m.erase, row, col)) return pixel_of(a, norm, n, row, col);
    Pixel p = {};
#pragma unroll
    for (int32_t k = 0; k < CHANNELS; k++)
        if (m.noise && k < a.cs) p.v[k] = dt_mix_noise(m.key, row, col, k);
    return p;
}

/* With a partner outside of the batch a row stays alone. */
template <typename T, bool MIXED>
__global__ void __launch_bounds__(THREADS) any_kernel(dt_gpu_input_args a, Norm norm) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, n_pixel = (int64_t)a.n * a.h * a.w;
    if (i >= n_pixel) return;
    const int64_t n = i / ((int64_t)a.h * a.w);
    const int32_t row = (int32_t)(i / a.w % a.h), col = (int32_t)(i % a.w);
    Pixel p;
    if (MIXED) {
        const dt_mix m = ((const dt_mix *)a.mix)[n];
        const float share = dt_box_holds(&m.box, row, col) ? 0.0f : m.share;
        p = erased_pixel(a, norm, m, n, row, col);
        if (share != 1.0f && m.partner >= 0 && m.partner < a.n) {
            const Pixel q = erased_pixel(a, norm, ((const dt_mix *)a.mix)[m.partner], m.partner, row, col);
#pragma unroll
            for (int32_t k = 0; k < CHANNELS; k++)
                p.v[k] = __fadd_rn(__fmul_rn(share, p.v[k]), __fmul_rn(1.0f - share, q.v[k]));
        }
    } else {
        p = pixel_of(a, norm, n, row, col);
    }
    for (int32_t k = 0; k < a.cpad; k++)
        ((T *)a.x)[i * a.cpad + k] = from_float<T>(k < a.cs ? p.v[k % CHANNELS] : 0.0f);
}

template <typename T, int CS, int CP>
void run_vectors(const dt_gpu_input_args &a, const Norm &norm, cudaStream_t s) {
    const int32_t cols = a.w / (WIDE<T> / CP);
    if (!a.aug) {
        const int64_t n_vec = (int64_t)a.n * a.h * cols;
        stored_kernel<T, CS, CP>
            <<<(unsigned)ceil_div(n_vec, THREADS * VECTORS), THREADS, 0, s>>>(a, norm, n_vec);
        return;
    }
    const int32_t tx = cols < THREADS ? cols : THREADS, ty = THREADS / tx;
    const int32_t tiles = (int32_t)ceil_div(cols, tx), bands = (int32_t)ceil_div(a.h, ty * CROP_ROWS);
    crop_kernel<T, CS, CP>
        <<<(unsigned)((int64_t)a.n * bands * tiles), dim3((unsigned)tx, (unsigned)ty), 0, s>>>(a, norm, tiles,
                                                                                               bands);
}

/* Whether vectors hold whole pixels of CP channels, rows whole vectors, and images two columns. */
template <typename T, int CP> bool in_vectors(const dt_gpu_input_args &a) {
    constexpr int PX = WIDE<T> / CP;
    return a.cpad == CP && a.w % PX == 0 && a.ws > 1 && aligned16(a.x) && (uintptr_t)a.image % PX == 0;
}

template <typename T> void run(const dt_gpu_input_args &a, cudaStream_t s) {
    const Norm norm = norm_of(a);
    if (!a.mix && a.cs == 3 && in_vectors<T, 4>(a)) return run_vectors<T, 3, 4>(a, norm, s);
    if (!a.mix && a.cs == 1 && in_vectors<T, 4>(a)) return run_vectors<T, 1, 4>(a, norm, s);
    const unsigned grid = (unsigned)ceil_div((int64_t)a.n * a.h * a.w, THREADS);
    if (a.mix)
        any_kernel<T, true><<<grid, THREADS, 0, s>>>(a, norm);
    else
        any_kernel<T, false><<<grid, THREADS, 0, s>>>(a, norm);
}

} // namespace

cudaError_t dt_gpu_input(dt_dtype t, const dt_gpu_input_args *a, cudaStream_t s) {
    DT_WITH_TYPE(t, run<T>(*a, s));
    return cudaPeekAtLastError();
}
