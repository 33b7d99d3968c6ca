/* PNG by libpng's simplified interface, which cannot longjmp out. Read with alpha, which is then dropped:
 * asked for no alpha, libpng would blend with whatever lies in the buffer. */
#include "png_image.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "jpeg.h"

bool dt_png_is(const uint8_t *bytes, int64_t n) {
    return n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

dt_status dt_png_decode(const uint8_t *bytes, int64_t n, int64_t channels, uint8_t **out, int32_t *h,
                        int32_t *w) {
    png_image image = {.version = PNG_IMAGE_VERSION};
    *out = NULL;
    if (!png_image_begin_read_from_memory(&image, bytes, (size_t)n))
        return dt_fail(DT_ERR_DATA, "not a readable PNG: %s", image.message);
    uint64_t pixels = (uint64_t)image.width * image.height;
    if (pixels > DT_IMAGE_PIXELS_MAX) {
        dt_status status = dt_fail(DT_ERR_DATA, "PNG of %u x %u pixels: larger than allowed (%d megapixels)",
                                   image.width, image.height, DT_IMAGE_PIXELS_MAX / 1000000);
        png_image_free(&image);
        return status;
    }
    image.format = channels == 1 ? PNG_FORMAT_GA : PNG_FORMAT_RGBA;
    uint64_t stored = (uint64_t)channels + 1;
    uint8_t *pixel = malloc(pixels * stored);
    if (!pixel) {
        png_image_free(&image);
        return dt_fail(DT_ERR_MEMORY, "out of memory for a PNG of %u x %u pixels", image.width, image.height);
    }
    if (!png_image_finish_read(&image, NULL, pixel, 0, NULL)) {
        free(pixel);
        return dt_fail(DT_ERR_DATA, "not a readable PNG: %s", image.message);
    }
    for (uint64_t i = 0; i < pixels; i++)
        memmove(pixel + i * (uint64_t)channels, pixel + i * stored, (size_t)channels);
    *out = pixel;
    *h = (int32_t)image.height;
    *w = (int32_t)image.width;
    return DT_OK;
}
