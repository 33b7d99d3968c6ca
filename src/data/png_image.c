/* libpng behind png_image.h. Its errors arrive by longjmp: all that must outlive one lies in a reader that
 * belongs to the caller of the function that sets the jump. */
#include "png_image.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grey.h"
#include "jpeg.h"

enum { SIGNATURE_BYTES = 8, TEXT_BYTES = 256 };

typedef struct reader {
    const uint8_t *at;
    size_t left;
    png_structp png;
    png_infop info;
    jmp_buf escape;
    char text[TEXT_BYTES];
    uint8_t *pixel;
} reader;

bool dt_png_is(const uint8_t *bytes, int64_t n) {
    return n >= SIGNATURE_BYTES && memcmp(bytes, "\x89PNG\r\n\x1a\n", SIGNATURE_BYTES) == 0;
}

static void on_error(png_structp png, png_const_charp text) {
    reader *r = png_get_error_ptr(png);
    snprintf(r->text, sizeof r->text, "%s", text);
    longjmp(r->escape, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep to, size_t n) {
    reader *r = png_get_io_ptr(png);
    if (n > r->left) png_error(png, "the file is cut short");
    memcpy(to, r->at, n);
    r->at += n;
    r->left -= n;
}

/* Everything that would change pixels or could unpack to much is passed over unread. */
static void skip_chunks(png_structp png) {
    static const png_byte names[] =
        "bKGD\0cHRM\0cICP\0cLLI\0gAMA\0hIST\0iCCP\0iTXt\0mDCV\0oFFs\0pCAL\0pHYs\0sBIT\0"
        "sCAL\0sPLT\0sRGB\0sTER\0tEXt\0tIME\0tRNS\0zTXt";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, names, (int)(sizeof names / 5));
}

static dt_orientation orientation_of(const reader *r) {
    png_uint_32 n = 0;
    png_bytep exif = NULL;
    return png_get_eXIf_1(r->png, r->info, &n, &exif) ? dt_exif_orientation(exif, n) : 1;
}

static dt_status read_all(reader *r, int64_t channels, dt_png *out) {
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    if (r->png) r->info = png_create_info_struct(r->png);
    if (!r->info) return dt_fail(DT_ERR_MEMORY, "out of memory for a PNG decoder");
    if (setjmp(r->escape)) return dt_fail(DT_ERR_DATA, "not a readable PNG: %s", r->text);
    png_set_read_fn(r->png, r, on_read);
    png_set_benign_errors(r->png, 1);
    skip_chunks(r->png);
    png_read_info(r->png, r->info);
    png_uint_32 w = png_get_image_width(r->png, r->info), h = png_get_image_height(r->png, r->info);
    if ((uint64_t)w * h > DT_IMAGE_PIXELS_MAX)
        return dt_fail(DT_ERR_DATA, "PNG of %u x %u pixels: larger than allowed (%d megapixels)", w, h,
                       DT_IMAGE_PIXELS_MAX / 1000000);
    png_set_palette_to_rgb(r->png);
    png_set_expand_gray_1_2_4_to_8(r->png);
    png_set_strip_16(r->png);
    png_set_strip_alpha(r->png);
    if (channels == 3) png_set_gray_to_rgb(r->png);
    int passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    size_t stored = png_get_channels(r->png, r->info), row_bytes = png_get_rowbytes(r->png, r->info);
    if ((stored != 1 && stored != 3) || row_bytes != w * stored)
        return dt_fail(DT_ERR_DATA, "not a readable PNG: %zu channels, rows of %zu bytes", stored, row_bytes);
    if (!(r->pixel = malloc(row_bytes * h)))
        return dt_fail(DT_ERR_MEMORY, "out of memory for a PNG of %u x %u pixels", w, h);
    for (int pass = 0; pass < passes; pass++)
        for (png_uint_32 y = 0; y < h; y++) png_read_row(r->png, r->pixel + y * row_bytes, NULL);
    png_read_end(r->png, r->info);
    if (stored == 3 && channels == 1) dt_grey_row(r->pixel, (int64_t)w * h, r->pixel);
    *out = (dt_png){r->pixel, (int32_t)h, (int32_t)w, orientation_of(r)};
    return DT_OK;
}

dt_status dt_png_decode(const uint8_t *bytes, int64_t n, int64_t channels, dt_png *out) {
    reader r = {.at = bytes, .left = (size_t)n};
    *out = (dt_png){.pixel = NULL};
    dt_status status = read_all(&r, channels, out);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    if (status != DT_OK) free(r.pixel);
    return status;
}
