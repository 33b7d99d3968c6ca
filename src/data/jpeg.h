/* JPEG by libjpeg-turbo (jpeglib.h): decodes only what a crop window needs, at the smallest scale that still
 * has the output's resolution, and encodes. Not here: resizing to the final size, PNG (png_image.h). */
#ifndef DT_DATA_JPEG_H
#define DT_DATA_JPEG_H

#include "core/status.h"
#include "core/types.h"

enum {
    DT_IMAGE_PIXELS_MAX = 1 << 26, /* larger images are refused, whatever their header says */
    DT_JPEG_SCANS_MAX = 256,       /* of a progressive file: each costs a pass over the whole image */
};

/* A decoder with its buffers; for one thread, reused from image to image. */
typedef struct dt_jpeg dt_jpeg;

/* A decoded part. Pixel (x, y) of it is pixel (x0 + x, y0 + y) of the image scaled by scale_num / 8. */
typedef struct dt_jpeg_part {
    const uint8_t *pixel; /* [h, w, channels], owned by the decoder until its next call */
    int64_t stride;       /* bytes from row to row */
    int32_t x0, y0, w, h;
    int32_t scale_num; /* 8, 4, 2 or 1 */
} dt_jpeg_part;

dt_status dt_jpeg_new(dt_jpeg **out);
void dt_jpeg_free(dt_jpeg *j); /* accepts NULL */

/* Reads the header; `bytes` must live until the part is decoded. DT_ERR_DATA if it is no JPEG or too
 * large. */
dt_status dt_jpeg_begin(dt_jpeg *j, const uint8_t *bytes, int64_t n, int32_t *height, int32_t *width);
/* Decodes at least the window (inside the image) to 1 or 3 channels: grey, RGB and CMYK files are converted.
 * The scale is the smallest that gives min_w x min_h pixels or more for the window. In the window every pixel
 * is what libjpeg-turbo's defaults give for the whole image at that scale. Then the image is done with. */
dt_status dt_jpeg_decode(dt_jpeg *j, int32_t x0, int32_t y0, int32_t w, int32_t h, int64_t min_w,
                         int64_t min_h, int64_t channels, dt_jpeg_part *out);

/* Eighths of full scale, 8, 4, 2 or 1: the least that leaves a w x h window min_w x min_h pixels or more. */
int32_t dt_jpeg_scale(int32_t w, int32_t h, int64_t min_w, int64_t min_h);

/* Of the image begun, `bytes` as there: whether any decoder may have it in place of this one. Sequential
 * Huffman with 8 bits in one scan; YCbCr as 4:4:4, 4:2:2 or 4:2:0, or grey where 1 channel is wanted; and it
 * ends as it should, so that what a decoder makes of a file cut short is libjpeg's in any case. */
bool dt_jpeg_is_plain(const dt_jpeg *j, const uint8_t *bytes, int64_t n, int64_t channels);

/* libjpeg's warnings so far (damaged entropy data, stray bytes), and whether the last image was cut short or
 * its entropy data was wrong. */
int64_t dt_jpeg_warnings(const dt_jpeg *j);
bool dt_jpeg_damaged(const dt_jpeg *j);

/* Encodes 1 or 3 channels, 4:2:0 for quality < 95 and 4:4:4 from there; caller frees *out. */
dt_status dt_jpeg_encode(const uint8_t *pixel, int64_t h, int64_t w, int64_t channels, int quality,
                         uint8_t **out, int64_t *n_bytes);

#endif
