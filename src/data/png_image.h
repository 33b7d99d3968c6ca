/* PNG to 8-bit pixels by libpng; for the importers. */
#ifndef DT_DATA_PNG_IMAGE_H
#define DT_DATA_PNG_IMAGE_H

#include "core/status.h"
#include "core/types.h"

bool dt_png_is(const uint8_t *bytes, int64_t n);

/* Any PNG to 1 or 3 channels; transparency is dropped. Caller frees *out, [h, w, channels]. DT_ERR_DATA. */
dt_status dt_png_decode(const uint8_t *bytes, int64_t n, int64_t channels, uint8_t **out, int32_t *h,
                        int32_t *w);

#endif
