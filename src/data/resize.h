/* Bilinear resizing of a window of a u8 HWC image, half-pixel centres (PyTorch's align_corners=False),
 * clamped at the window's edges, rounded to the nearest level (half up).
 *
 * Fixed point with 6 fractional bits and 15-bit weights: within 0.03 levels of exact before the rounding.
 * Every instruction set gives the same bytes. Not here: which window, and where the pixels come from. */
#ifndef DT_DATA_RESIZE_H
#define DT_DATA_RESIZE_H

#include "core/status.h"
#include "core/types.h"

/* One axis: output o samples the source at origin + (o + 0.5) * step - 0.5, clamped to pixels lo..hi. */
typedef struct dt_resize_axis {
    double origin, step;
    int32_t lo, hi;
} dt_resize_axis;

/* The axis for a window of `size` pixels from `x0` on. */
static inline dt_resize_axis dt_resize_window_axis(int32_t x0, int32_t size, int64_t out) {
    return (dt_resize_axis){(double)x0, (double)size / (double)out, x0, x0 + size - 1};
}

typedef enum dt_simd { DT_SIMD_GENERIC = 0, DT_SIMD_AVX2, DT_SIMD_AVX512 } dt_simd;

/* What this machine has. */
dt_simd dt_simd_best(void);

/* Tables and a row of scratch; for one thread. */
typedef struct dt_resizer dt_resizer;

dt_status dt_resizer_new(dt_simd simd, dt_resizer **out);
void dt_resizer_free(dt_resizer *r); /* accepts NULL */

/* src: rows `stride` bytes apart, `channels` bytes a pixel; dst: out_h x out_w x channels, packed. */
dt_status dt_resize(dt_resizer *r, const uint8_t *src, int64_t stride, int64_t channels, dt_resize_axis x,
                    dt_resize_axis y, bool flip, int64_t out_h, int64_t out_w, uint8_t *dst);

/* Copies a window of the size of the output, zero outside the image (pad-and-crop); src is h x w. */
void dt_resize_copy(const uint8_t *src, int64_t h, int64_t w, int64_t channels, int32_t x0, int32_t y0,
                    bool flip, int64_t out_h, int64_t out_w, uint8_t *dst);

#endif
