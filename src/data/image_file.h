/* One image file, JPEG or PNG, to a sample as an import is to store it: decoded, turned upright, cut,
 * resized; or kept as it is. What a file is follows from its first bytes, not from its name. */
#ifndef DT_DATA_IMAGE_FILE_H
#define DT_DATA_IMAGE_FILE_H

#include "source.h"

typedef struct dt_image_options {
    int64_t resize, channels; /* as in dt_import_options, but channels is 1 or 3 */
    bool square, exif_rotate;
    bool raw; /* for raw shards: else a JPEG file that needs no change stays one */
} dt_image_options;

/* *out refers to `bytes` where it holds a JPEG file, and owns its pixels otherwise; its label is left alone.
 * DT_ERR_DATA: damaged, or of another kind. */
dt_status dt_image_load(const dt_image_options *o, dt_jpeg *decoder, const uint8_t *bytes, int64_t n,
                        dt_item *out);

#endif
