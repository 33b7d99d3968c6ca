/* The gradient of a max pool's input, gathered from that of its output while something else is done with it.
 * For windows of 3x3, stride 2, padding 1: the four pixels of patch (i, j), which are (2i..2i+1, 2j..2j+1),
 * are covered by windows (i..i+1, j..j+1) alone. A thread walks down a column of patches, so that it reads
 * two windows for each four pixels. */
#ifndef DT_GPU_POOL_GATHER_CUH
#define DT_GPU_POOL_GATHER_CUH

#include "vec.cuh"

namespace dt {

enum { PATCH_STRIP = 8 }; /* patches a thread walks down */

/* What one window hands back. */
template <typename T, int V> struct Window {
    static constexpr int WORDS = (V + 3) / 4;
    Pack<T, V> dy;
    uint32_t idx[WORDS]; /* a byte for each channel */
};

/* A strip of patches of one image: row i0, column j; channels c0 .. c0+V-1. */
struct Strip {
    int32_t n, i0, j;
};

inline bool pooled_aligned(const dt_gpu_pooled &a) {
    return aligned16(a.dy) && aligned16(a.dy2) && ((uintptr_t)a.idx & 7) == 0;
}

/* Strips of all images. */
inline int64_t strip_count(const dt_gpu_pooled &a) {
    return (int64_t)a.n * ceil_div(a.p, PATCH_STRIP) * a.q;
}

__device__ __forceinline__ Strip strip_at(const dt_gpu_pooled &a, int64_t i) {
    const int32_t per_image = (a.p + PATCH_STRIP - 1) / PATCH_STRIP * a.q;
    Strip s;
    s.n = (int32_t)(i / per_image);
    const int32_t k = (int32_t)(i % per_image);
    s.i0 = k / a.q * PATCH_STRIP;
    s.j = k % a.q;
    return s;
}

/* The window at element `at`; one that is not there hands nothing back, but `at` is read all the same. */
template <typename T, int V>
__device__ __forceinline__ Window<T, V> load_window(const dt_gpu_pooled &a, int64_t at, bool there) {
    Window<T, V> w;
    w.dy = load<T, V>((const T *)a.dy + at);
    if constexpr (V % 4 == 0) {
        const Pack<uint32_t, V / 4> idx = load<uint32_t, V / 4>((const uint32_t *)(a.idx + at));
#pragma unroll
        for (int k = 0; k < V / 4; k++) w.idx[k] = there ? idx.v[k] : 0xffffffffu;
    } else {
        w.idx[0] = there ? a.idx[at] : 0xffffffffu;
    }
    return w;
}

/* dy += dy2 as ADD would. */
template <typename T, int V>
__device__ __forceinline__ void add_second(Window<T, V> &w, const Pack<T, V> &dy2) {
#pragma unroll
    for (int j = 0; j < V; j++) w.dy.v[j] = from_float<T>(to_float(w.dy.v[j]) + to_float(dy2.v[j]));
}

/* Windows j and j + 1 of a row; `at`: the first, `right`: elements to the second, 0: it is not there. */
template <typename T, int V, bool SECOND>
__device__ __forceinline__ void load_windows(const dt_gpu_pooled &a, int64_t at, int64_t right, bool there,
                                             Window<T, V> (&w)[2]) {
    Pack<T, V> dy2[2];
#pragma unroll
    for (int v = 0; v < 2; v++) {
        w[v] = load_window<T, V>(a, at + v * right, there && (v == 0 || right));
        if (SECOND) dy2[v] = load<T, V>((const T *)a.dy2 + at + v * right);
    }
#pragma unroll
    for (int v = 0; v < 2 && SECOND; v++) add_second(w[v], dy2[v]);
}

template <typename T, int V>
__device__ __forceinline__ float from_window(const Window<T, V> &w, int k, uint32_t position) {
    const uint32_t differs = w.idx[k / 4] ^ position * 0x01010101u;
    return differs & 0xffu << 8 * (k % 4) ? 0.0f : to_float(w.dy.v[k]);
}

/* The gradient of channel k of the patch's pixel (y, x); w[u][v] is window (i + u, j + v). */
template <typename T, int V>
__device__ __forceinline__ float patch_grad(const Window<T, V> (&w)[2][2], int y, int x, int k) {
    float g = from_window(w[0][0], k, 3 * (y + 1) + x + 1);
    if (x) g += from_window(w[0][1], k, 3 * (y + 1));
    if (y) g += from_window(w[1][0], k, x + 1);
    if (x && y) g += from_window(w[1][1], k, 0);
    return g;
}

/* Calls f(element of c, pack of c, y, x, windows, there) for every pixel of the strip's patches. One past the
 * image's edge is not there; its neighbour is read in its place, so that all loads of a patch are in flight
 * at once. */
template <typename T, int V, bool SECOND, typename F>
__device__ __forceinline__ void walk_strip(const dt_gpu_pooled &a, const Strip &s, const T *c_in, int64_t c,
                                           int64_t c0, F &&f) {
    const int64_t row = (int64_t)a.w * c, pooled_row = (int64_t)a.q * c;
    const int32_t end = min(s.i0 + PATCH_STRIP, a.p);
    const int64_t right = 2 * s.j + 1 < a.w ? c : 0, pooled_right = s.j + 1 < a.q ? c : 0;
    int64_t at = ((int64_t)s.n * a.h + 2 * s.i0) * row + 2 * s.j * c + c0;
    int64_t from = ((int64_t)s.n * a.p + s.i0) * pooled_row + s.j * c + c0;
    Window<T, V> w[2][2];
    load_windows<T, V, SECOND>(a, from, pooled_right, true, w[0]);
    for (int32_t i = s.i0; i < end; i++, at += 2 * row) {
        const int64_t down = 2 * i + 1 < a.h ? row : 0;
        const bool more = i + 1 < a.p;
        Pack<T, V> pc[2][2];
#pragma unroll
        for (int y = 0; y < 2; y++)
#pragma unroll
            for (int x = 0; x < 2; x++) pc[y][x] = load<T, V>(c_in + at + y * down + x * right);
        from += more ? pooled_row : 0;
        load_windows<T, V, SECOND>(a, from, pooled_right, more, w[1]);
#pragma unroll
        for (int y = 0; y < 2; y++)
#pragma unroll
            for (int x = 0; x < 2; x++)
                f(at + y * down + x * right, pc[y][x], y, x, w, (!y || down) && (!x || right));
        w[0][0] = w[1][0];
        w[0][1] = w[1][1];
    }
}

} // namespace dt

#endif
