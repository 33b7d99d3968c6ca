/* Colour to grey, for every format alike: ITU-R BT.601's weights as libjpeg has them, in 16 bits of fraction,
 * rounded to the nearest level. */
#ifndef DT_DATA_GREY_H
#define DT_DATA_GREY_H

#include <stdint.h>

static inline uint8_t dt_grey(unsigned r, unsigned g, unsigned b) {
    return (uint8_t)((19595u * r + 38470u * g + 7471u * b + 32768u) >> 16);
}

/* n pixels; dst may be rgb. */
static inline void dt_grey_row(const uint8_t *rgb, int64_t n, uint8_t *dst) {
    for (int64_t i = 0; i < n; i++) dst[i] = dt_grey(rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]);
}

#endif
