/* PNG to 8-bit pixels by libpng; for the importers. */
#ifndef DT_DATA_PNG_IMAGE_H
#define DT_DATA_PNG_IMAGE_H

#include "core/status.h"
#include "core/types.h"
#include "exif.h"

/* [height, width, channels]; the caller frees `pixel`. */
typedef struct dt_png {
    uint8_t *pixel;
    int32_t height, width;
    dt_orientation orientation;
} dt_png;

bool dt_png_is(const uint8_t *bytes, int64_t n);

/* Any PNG to 1 or 3 channels. The numbers in the file count, whatever it says of their meaning: of 16 bits
 * the upper 8; 1, 2 and 4 bits spread over 0..255; transparency dropped; gamma and colour profiles not
 * applied; colour to grey as in grey.h. DT_ERR_DATA: damaged, cut short or larger than
 * DT_IMAGE_PIXELS_MAX. */
dt_status dt_png_decode(const uint8_t *bytes, int64_t n, int64_t channels, dt_png *out);

#endif
