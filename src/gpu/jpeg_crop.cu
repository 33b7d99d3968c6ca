/* Decoded JPEG files of their own sizes to rows of a batch: crop, resize, flip. As on the CPU
 * (src/data/fetch.c): half-pixel bilinear without antialiasing, of the file's image or of one made smaller by
 * 2, 4 or 8. There libjpeg's scaled transform makes it smaller and rounds to bytes; here blocks of pixels are
 * averaged and not rounded, which differs by about a level where blocks have detail, and blocks cut by the
 * image's edge hold the image's pixels alone. A thread owns one output pixel. */
#include "vec.cuh"

namespace {
using namespace dt;

/* The two pixels of the smaller image that an output position lies between, and the weight of the second. */
struct Tap {
    int32_t low, high;
    float weight;
};
__device__ Tap tap(int32_t o, int32_t out, int32_t begin, int32_t size, int32_t shrink) {
    const int32_t first = begin / shrink, last = (begin + size + shrink - 1) / shrink - 1;
    const double step = (double)size / shrink / out;
    const double at =
        fmin(fmax((double)begin / shrink + (o + 0.5) * step - 0.5, (double)first), (double)last);
    Tap t;
    t.low = (int32_t)at;
    t.high = min(t.low + 1, last);
    t.weight = (float)(at - t.low);
    return t;
}

/* Channel k of pixel (x, y) of the smaller image. */
__device__ float block_mean(const dt_gpu_crop &a, int32_t channels, int32_t x, int32_t y, int32_t k) {
    if (a.shrink == 1) return (float)a.image[((int64_t)y * a.ws + x) * channels + k];
    const int32_t x_end = min((x + 1) * a.shrink, a.ws), y_end = min((y + 1) * a.shrink, a.hs);
    const int32_t n = (x_end - x * a.shrink) * (y_end - y * a.shrink);
    int32_t sum = 0;
    for (int32_t v = y * a.shrink; v < y_end; v++)
        for (int32_t u = x * a.shrink; u < x_end; u++) sum += a.image[((int64_t)v * a.ws + u) * channels + k];
    return (float)sum / (float)n;
}

__global__ void __launch_bounds__(THREADS) crop_kernel(const dt_gpu_crop *crop, int32_t n, int32_t out_h,
                                                       int32_t out_w, int32_t channels, uint8_t *out) {
    const int32_t n_pixel = out_h * out_w;
    for (int32_t i = (int32_t)blockIdx.y; i < n; i += (int32_t)gridDim.y) {
        const dt_gpu_crop a = crop[i];
        for (int32_t p = (int32_t)blockIdx.x * THREADS + (int32_t)threadIdx.x; p < n_pixel;
             p += (int32_t)gridDim.x * THREADS) {
            const int32_t row = p / out_w, col = p % out_w;
            const Tap y = tap(row, out_h, a.y0, a.h, a.shrink);
            const Tap x = tap(a.flip ? out_w - 1 - col : col, out_w, a.x0, a.w, a.shrink);
            uint8_t *dst = out + ((int64_t)a.row * n_pixel + p) * channels;
            for (int32_t k = 0; k < channels; k++) {
                const float low_left = block_mean(a, channels, x.low, y.low, k),
                            low_right = block_mean(a, channels, x.high, y.low, k),
                            high_left = block_mean(a, channels, x.low, y.high, k),
                            high_right = block_mean(a, channels, x.high, y.high, k);
                const float left = low_left + y.weight * (high_left - low_left),
                            right = low_right + y.weight * (high_right - low_right);
                dst[k] = (uint8_t)(left + x.weight * (right - left) + 0.5f);
            }
        }
    }
}

} // namespace

cudaError_t dt_gpu_jpeg_crop(const dt_gpu_crop *crop, int32_t n, int32_t out_h, int32_t out_w,
                             int32_t channels, uint8_t *out, cudaStream_t s) {
    const int64_t blocks = ceil_div((int64_t)out_h * out_w, THREADS);
    const dim3 grid((unsigned)(blocks < 4096 ? blocks : 4096), (unsigned)(n < 65535 ? n : 65535));
    crop_kernel<<<grid, THREADS, 0, s>>>(crop, n, out_h, out_w, channels, out);
    return cudaPeekAtLastError();
}
