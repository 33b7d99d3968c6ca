/* JPEG and PNG files with an EXIF orientation. Header only. */
#ifndef DT_TEST_EXIF_FILES_H
#define DT_TEST_EXIF_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

enum { EXIF_TIFF_BYTES = 26, EXIF_SEGMENT_BYTES = 4 + 6 + EXIF_TIFF_BYTES };

/* One directory with one entry, little-endian. */
static inline void exif_files_tiff(int orientation, uint8_t out[EXIF_TIFF_BYTES]) {
    memcpy(out, "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0", EXIF_TIFF_BYTES);
    out[18] = (uint8_t)orientation;
}

/* The JPEG file with an EXIF segment at its start; `out` has room for EXIF_SEGMENT_BYTES more. Its size. */
static inline int64_t exif_files_add(const uint8_t *file, int64_t n, int orientation, uint8_t *out) {
    memcpy(out, file, 2);
    memcpy(out + 2, "\xFF\xE1\0\0Exif\0\0", 10);
    out[5] = EXIF_SEGMENT_BYTES - 2;
    exif_files_tiff(orientation, out + 12);
    memcpy(out + 2 + EXIF_SEGMENT_BYTES, file + 2, (size_t)n - 2);
    return n + EXIF_SEGMENT_BYTES;
}

/* RGB, [h, w, 3]. 1 when the file could not be written. */
static inline int exif_files_write_png(const char *path, const uint8_t *pixel, int h, int w,
                                       int orientation) {
    uint8_t tiff[EXIF_TIFF_BYTES];
    FILE *f = fopen(path, "wb");
    if (!f) return 1;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, f);
    png_set_IHDR(png, info, (png_uint_32)w, (png_uint_32)h, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    exif_files_tiff(orientation, tiff);
    png_set_eXIf_1(png, info, sizeof tiff, tiff);
    png_write_info(png, info);
    for (int y = 0; y < h; y++) png_write_row(png, pixel + (size_t)y * (size_t)w * 3);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return fclose(f) != 0;
}

#endif
