/* Resizing with a filter that covers every source pixel, for images that are stored resized. Slower and
 * better than resize.h. */
#ifndef DT_DATA_FILTER_H
#define DT_DATA_FILTER_H

#include "resize.h"

/* Triangle filter, as wide as the reduction (the antialiased bilinear of Pillow and torchvision). Axes as for
 * dt_resize. dst: out_h x out_w x channels. */
dt_status dt_filter_resize(const uint8_t *src, int64_t stride, int64_t channels, dt_resize_axis x,
                           dt_resize_axis y, int64_t out_h, int64_t out_w, uint8_t *dst);

#endif
