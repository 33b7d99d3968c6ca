/* Operations on the pixels of an image of bytes: torchvision's on u8 tensors, with its roundings. Which there are, and
 * the arithmetic of those that look at a pixel alone, which the loader, the CPU and the GPU share to the bit: it must not
 * be contracted. Edits of a row of a batch travel beside the images as DT_EDIT_INTS i32, a dt_edit_row. */
#ifndef DT_CORE_EDIT_H
#define DT_CORE_EDIT_H

#include <stdint.h>

#include "core/rng.h"

/* What `value` is: */
typedef enum dt_edit_kind {
    DT_EDIT_BRIGHTNESS = 0, /* factor */
    DT_EDIT_CONTRAST,       /* factor */
    DT_EDIT_SATURATION,     /* factor */
    DT_EDIT_HUE,            /* part of the circle */
    DT_EDIT_GRAYSCALE,
    DT_EDIT_COLOURS,                     /* those before it are the op EDIT's */
    DT_EDIT_SHARPNESS = DT_EDIT_COLOURS, /* factor */
    DT_EDIT_POSTERIZE,                   /* bits left */
    DT_EDIT_SOLARIZE,                    /* level from which on pixels are inverted */
    DT_EDIT_AUTOCONTRAST,
    DT_EDIT_EQUALIZE,
    DT_EDIT_SHEAR_X, /* columns a row */
    DT_EDIT_SHEAR_Y, /* rows a column */
    DT_EDIT_SHIFT_X, /* columns, whole */
    DT_EDIT_SHIFT_Y, /* rows, whole */
    DT_EDIT_ROTATE,  /* degrees, counter-clockwise */
    DT_EDIT_COUNT
} dt_edit_kind;

typedef struct dt_edit {
    dt_edit_kind kind;
    float value;
} dt_edit;

enum { DT_EDIT_ROW_MAX = 5 /* of each colour one */ };

typedef struct dt_edit_row {
    int32_t n, unused;
    dt_edit edit[DT_EDIT_ROW_MAX]; /* in their order */
} dt_edit_row;

enum { DT_EDIT_INTS = sizeof(dt_edit_row) / sizeof(int32_t) };

/* Levels beyond the range are its ends; fractions are cut off. */
DT_HOST_DEVICE static inline uint8_t dt_edit_level(float x) {
    return (uint8_t)(x < 0.0f ? 0.0f : x > 255.0f ? 255.0f : x);
}

/* a + b * c, rounded once, as PyTorch adds a multiple. The product of floats is exact in double. */
DT_HOST_DEVICE static inline float dt_edit_plus_times(float a, float b, float c) {
    return (float)((double)a + (double)b * (double)c);
}

DT_HOST_DEVICE static inline float dt_edit_blend(float a, float b, float ratio, float rest) {
    return dt_edit_plus_times(a * ratio, b, rest);
}

DT_HOST_DEVICE static inline float dt_edit_grey(float r, float g, float b) {
    return dt_edit_plus_times(dt_edit_plus_times(r * 0.2989f, g, 0.587f), b, 0.114f);
}

DT_HOST_DEVICE static inline float dt_edit_unit(float x) {
    return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
}

/* Which of six numbers a channel is, by the sixth of the circle. */
DT_HOST_DEVICE static inline float dt_edit_sector(float i, float a, float b, float c, float d, float e,
                                                  float f) {
    float x = a;
    x = i >= 1.0f ? b : x;
    x = i >= 2.0f ? c : x;
    x = i >= 3.0f ? d : x;
    x = i >= 4.0f ? e : x;
    return i >= 5.0f ? f : x;
}

/* Channels of 0 to 1 to hue, saturation and value, turned, and back. */
DT_HOST_DEVICE static inline void dt_edit_turn(float r, float g, float b, float turn, float *red,
                                               float *green, float *blue) {
    const float rg = r > g ? r : g, low_rg = r < g ? r : g;
    const float v = rg > b ? rg : b, low = low_rg < b ? low_rg : b, range = v - low;
    const float s = range / (range == 0.0f ? 1.0f : v), divisor = range == 0.0f ? 1.0f : range;
    const float rc = (v - r) / divisor, gc = (v - g) / divisor, bc = (v - b) / divisor;
    const float of_r = bc - gc, of_g = rc + 2.0f - bc, of_b = gc + 4.0f - rc;
    float sixths = v == g ? of_g : of_b;
    sixths = v == r ? of_r : sixths;
    float h = sixths * (1.0f / 6.0f) + 1.0f;
    h -= (float)(int32_t)h;
    h += turn;
    h -= h >= 1.0f ? 1.0f : 0.0f;
    h += h < 0.0f ? 1.0f : 0.0f;
    const float h6 = h * 6.0f;
    const float whole = (float)(int32_t)h6, f = h6 - whole, sf = s * f, rest = 1.0f - s;
    const float q = dt_edit_unit((1.0f - sf) * v), t = dt_edit_unit((sf + rest) * v),
                p = dt_edit_unit(rest * v);
    const float sixth = whole >= 6.0f ? 0.0f : whole;
    *red = dt_edit_sector(sixth, v, q, p, p, t, v);
    *green = dt_edit_sector(sixth, t, v, v, q, p, p);
    *blue = dt_edit_sector(sixth, p, p, t, v, v, q);
}

/* The level of a channel of 0 to 1. */
DT_HOST_DEVICE static inline uint8_t dt_edit_level_of_unit(float x) {
    return (uint8_t)(x * (256.0f - 1e-3f));
}

/* What the mean of an image counts of a pixel, of 1 or 3 channels: its grey, cut off. */
DT_HOST_DEVICE static inline uint32_t dt_edit_counted(const uint8_t *pixel, int32_t channels) {
    return channels == 3 ? (uint32_t)dt_edit_grey((float)pixel[0], (float)pixel[1], (float)pixel[2])
                         : (uint32_t)pixel[0];
}

/* One of the colours' edits of a pixel of 1 or 3 channels; mean: of the image as it is then, for CONTRAST alone. */
DT_HOST_DEVICE static inline void dt_edit_pixel(dt_edit e, float mean, int32_t channels, uint8_t *pixel) {
    const float rest = 1.0f - e.value;
    if (e.kind == DT_EDIT_BRIGHTNESS || e.kind == DT_EDIT_CONTRAST)
        for (int32_t k = 0; k < channels; k++)
            pixel[k] = dt_edit_level(e.kind == DT_EDIT_BRIGHTNESS
                                         ? (float)pixel[k] * e.value
                                         : dt_edit_blend((float)pixel[k], mean, e.value, rest));
    if (channels != 3 || e.kind < DT_EDIT_SATURATION || e.kind > DT_EDIT_GRAYSCALE) return;
    const float r = (float)pixel[0], g = (float)pixel[1], b = (float)pixel[2];
    if (e.kind == DT_EDIT_HUE) {
        float red, green, blue;
        dt_edit_turn(r / 255.0f, g / 255.0f, b / 255.0f, e.value, &red, &green, &blue);
        pixel[0] = dt_edit_level_of_unit(red), pixel[1] = dt_edit_level_of_unit(green);
        pixel[2] = dt_edit_level_of_unit(blue);
        return;
    }
    const float grey = (float)(int32_t)dt_edit_grey(r, g, b);
    const float ratio = e.kind == DT_EDIT_GRAYSCALE ? 0.0f : e.value,
                other = e.kind == DT_EDIT_GRAYSCALE ? 1.0f : rest;
    pixel[0] = dt_edit_level(dt_edit_blend(r, grey, ratio, other));
    pixel[1] = dt_edit_level(dt_edit_blend(g, grey, ratio, other));
    pixel[2] = dt_edit_level(dt_edit_blend(b, grey, ratio, other));
}

#endif
