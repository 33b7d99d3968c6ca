/* EXIF orientation: reading it out of a file, and turning pixels upright. Nothing else of EXIF is looked
 * at. */
#ifndef DT_DATA_EXIF_H
#define DT_DATA_EXIF_H

#include "core/types.h"

/* 1 to 8 as in EXIF: 1 is upright. Also 1 where there is none, or what there is is damaged. */
typedef int32_t dt_orientation;

/* Of EXIF data, which begins with TIFF's byte order mark. */
dt_orientation dt_exif_orientation(const uint8_t *tiff, int64_t n);
/* Of a JPEG file: the first EXIF segment in front of the image data. */
dt_orientation dt_exif_jpeg_orientation(const uint8_t *file, int64_t n);

/* How the stored image becomes the upright one: mirrored along its own axes, then transposed. */
typedef struct dt_turn {
    bool transpose, mirror_x, mirror_y;
} dt_turn;

dt_turn dt_turn_of(dt_orientation orientation);

/* src: the stored image, [h, w, channels], packed; dst: [w, h, channels] when transposed, else as src. They
 * must not overlap. */
void dt_turn_apply(dt_turn turn, const uint8_t *src, int64_t h, int64_t w, int64_t channels, uint8_t *dst);

#endif
