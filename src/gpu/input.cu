/* The INPUT op: bytes to normalised T with channels padded; with a window per sample also crop, resize and
 * flip. The resize rounds to bytes as the loader's does, with the same operations in the same order, so that
 * both give the same pixel. A channel of a pixel is a byte either way, so a table per
 * block normalises it. */
#include "vec.cuh"

namespace {
using namespace dt;

/* Source positions of an output position and the weight of the higher one. */
struct Tap {
    int32_t low, high;
    float weight;
};
__device__ Tap tap(int32_t o, int32_t size, int32_t len) {
    float at = __fadd_rn(__fmul_rn(__fadd_rn((float)o, 0.5f), __fdiv_rn((float)len, (float)size)), -0.5f);
    at = at < 0.0f ? 0.0f : at;
    Tap t;
    t.low = min((int32_t)at, len - 1);
    t.high = min(t.low + 1, len - 1);
    t.weight = __fadd_rn(at, -(float)t.low);
    return t;
}
__device__ float blend(float a, float b, float weight) {
    return __fadd_rn(a, __fmul_rn(weight, __fadd_rn(b, -a)));
}

enum { BYTES = 256, TABLE = 4 * BYTES };

/* table[k * BYTES + b]: byte b of channel k normalised; 0 for channels that only pad. */
template <typename T> __device__ void fill_table(const dt_gpu_input_args &a, T *table) {
    for (int32_t i = threadIdx.x; i < TABLE; i += THREADS) {
        const int32_t k = i / BYTES;
        const float unit = __fdiv_rn((float)(i % BYTES), 255.0f);
        table[i] = from_float<T>(k < a.cs ? __fdiv_rn(__fadd_rn(unit, -a.mean[k]), a.stddev[k]) : 0.0f);
    }
    __syncthreads();
}

/* A thread owns one output pixel. */
template <typename T, int CP>
__global__ void __launch_bounds__(THREADS) input_kernel(dt_gpu_input_args a, int64_t n_pixel) {
    __shared__ T table[TABLE];
    fill_table(a, table);
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    const int32_t cpad = CP > 0 ? CP : a.cpad;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n_pixel; i += stride) {
        int32_t byte[4] = {0, 0, 0, 0};
        if (a.aug) {
            const int32_t n = (int32_t)(i / ((int64_t)a.h * a.w)), row = (int32_t)(i / a.w % a.h);
            const int32_t *aug = a.aug + (int64_t)n * 8;
            const int32_t col = aug[4] ? a.w - 1 - (int32_t)(i % a.w) : (int32_t)(i % a.w);
            /* A window that leaves the image must not read outside it. */
            const int32_t x0 = min(max(aug[0], 0), a.ws - 1), y0 = min(max(aug[1], 0), a.hs - 1);
            const Tap ty = tap(row, a.h, min(max(aug[3], 1), a.hs - y0));
            const Tap tx = tap(col, a.w, min(max(aug[2], 1), a.ws - x0));
            const uint8_t *image = a.image + (int64_t)n * a.hs * a.ws * a.cs;
            const uint8_t *low = image + (int64_t)(y0 + ty.low) * a.ws * a.cs;
            const uint8_t *high = image + (int64_t)(y0 + ty.high) * a.ws * a.cs;
            const int32_t left = (x0 + tx.low) * a.cs, right = (x0 + tx.high) * a.cs;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (k >= a.cs) break;
                float above = blend((float)low[left + k], (float)low[right + k], tx.weight);
                float below = blend((float)high[left + k], (float)high[right + k], tx.weight);
                byte[k] = (int32_t)floorf(__fadd_rn(blend(above, below, ty.weight), 0.5f));
            }
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (k >= a.cs) break;
                byte[k] = a.image[i * a.cs + k];
            }
        }
        T *x = (T *)a.x + i * cpad;
        if (CP > 0) {
            Pack<T, (CP > 0 ? CP : 1)> p;
#pragma unroll
            for (int k = 0; k < CP; k++)
                p.v[k] = k < 4 ? table[(k < 4 ? k * BYTES : 0) + byte[k < 4 ? k : 0]] : from_float<T>(0.0f);
            store<T, (CP > 0 ? CP : 1)>(x, p);
        } else {
            for (int32_t k = 0; k < cpad; k++)
                x[k] = k < 4 ? table[k * BYTES + byte[k]] : from_float<T>(0.0f);
        }
    }
}

/* As stored, CS channels to 4: a thread owns pairs of pixels, so that it writes whole vectors. */
template <typename T, int CS>
__global__ void __launch_bounds__(THREADS) pair_kernel(dt_gpu_input_args a, int64_t n_pair) {
    enum { PAIRS = 4, OUT = 2 * 4 };
    __shared__ T table[TABLE];
    fill_table(a, table);
    const uint16_t *from = (const uint16_t *)a.image;
    const int64_t stride = (int64_t)gridDim.x * THREADS * PAIRS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS * PAIRS + threadIdx.x; i < n_pair; i += stride) {
        uint16_t in[PAIRS][CS]; /* two bytes each */
#pragma unroll
        for (int u = 0; u < PAIRS; u++)
#pragma unroll
            for (int k = 0; k < CS; k++)
                in[u][k] = i + u * THREADS < n_pair ? from[(i + u * THREADS) * CS + k] : 0;
#pragma unroll
        for (int u = 0; u < PAIRS; u++) {
            if (i + u * THREADS >= n_pair) break;
#pragma unroll
            for (int at = 0; at < OUT; at += WIDE<T>) {
                Pack<T, WIDE<T>> p;
#pragma unroll
                for (int j = 0; j < WIDE<T>; j++) {
                    const int k = (at + j) % 4, b = (at + j) / 4 * CS + k;
                    p.v[j] = k < CS ? table[k * BYTES + (in[u][k < CS ? b / 2 : 0] >> (b % 2 * 8) & 255)]
                                    : from_float<T>(0.0f);
                }
                store<T, WIDE<T>>((T *)a.x + (i + u * THREADS) * OUT + at, p);
            }
        }
    }
}

bool in_pairs(const dt_gpu_input_args &a, int64_t n_pixel) {
    return !a.aug && a.cpad == 4 && n_pixel % 2 == 0 && aligned16(a.x) && (uintptr_t)a.image % 2 == 0;
}

} // namespace

cudaError_t dt_gpu_input(const dt_gpu *gpu, dt_dtype t, const dt_gpu_input_args *a, cudaStream_t s) {
    const int64_t n_pixel = (int64_t)a->n * a->h * a->w;
    /* Few enough blocks that their tables cost little. */
    const int64_t blocks = ceil_div(n_pixel, THREADS), limit = (int64_t)gpu->sm_count * 8;
    const unsigned grid = (unsigned)(blocks < limit ? blocks : limit);
    DT_WITH_TYPE(t, {
        if (a->cs == 3 && in_pairs(*a, n_pixel))
            pair_kernel<T, 3><<<grid, THREADS, 0, s>>>(*a, n_pixel / 2);
        else if (a->cs == 1 && in_pairs(*a, n_pixel))
            pair_kernel<T, 1><<<grid, THREADS, 0, s>>>(*a, n_pixel / 2);
        else if (a->cpad == 4 && aligned16(a->x))
            input_kernel<T, 4><<<grid, THREADS, 0, s>>>(*a, n_pixel);
        else if (a->cpad == 8 && sizeof(T) == 2 && aligned16(a->x))
            input_kernel<T, 8><<<grid, THREADS, 0, s>>>(*a, n_pixel);
        else
            input_kernel<T, 0><<<grid, THREADS, 0, s>>>(*a, n_pixel);
    });
    return cudaPeekAtLastError();
}
