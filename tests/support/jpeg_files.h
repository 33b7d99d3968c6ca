/* JPEG files of all kinds, of smooth generated images, and sets made of them. Header only. */
#ifndef DT_TEST_JPEG_FILES_H
#define DT_TEST_JPEG_FILES_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jpeglib.h>

#include "data/import.h"

typedef struct jpeg_kind {
    int32_t height, width;
    int components;           /* 1, 3, or 4: CMYK */
    int h_samp, v_samp;       /* of the first component */
    bool progressive, coarse; /* coarse: noise, so that the file is large */
    bool plain;               /* a decoder other than libjpeg may have it, in a set of 3 channels */
} jpeg_kind;

static const jpeg_kind jpeg_kinds[] = {
    {64, 64, 3, 2, 2, false, false, true},    {45, 61, 3, 2, 2, false, false, true},
    {375, 500, 3, 2, 2, false, false, true},  {333, 257, 3, 2, 1, false, false, true},
    {240, 320, 3, 1, 1, false, false, true},  {901, 1203, 3, 2, 2, false, false, true},
    {17, 9, 3, 1, 1, false, false, true},     {200, 180, 3, 1, 2, false, false, false},
    {150, 210, 1, 1, 1, false, false, false}, {220, 300, 3, 2, 2, true, false, false},
    {160, 160, 4, 1, 1, false, false, false}, {480, 640, 3, 2, 2, false, false, true},
};
enum { JPEG_KINDS = sizeof jpeg_kinds / sizeof jpeg_kinds[0] };

static inline uint8_t jpeg_files_pixel(const jpeg_kind *k, int x, int y, int c, uint32_t seed) {
    if (k->coarse) return (uint8_t)(((uint32_t)(x * 7919 + y * 104729 + c * 31) + seed) * 2654435761u >> 24);
    double u = (double)x / k->width, v = (double)y / k->height, phase = seed * 0.7 + c * 1.3;
    return (uint8_t)(128 + 70 * sin(5 * u + phase) * cos(4 * v + phase) + 40 * sin(9 * v + 2 * phase));
}

/* 1 when the file could not be written. */
static inline int jpeg_files_write(const char *path, const jpeg_kind *k, uint32_t seed) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr error;
    FILE *f = fopen(path, "wb");
    uint8_t *row = calloc((size_t)k->width, 4);
    if (!f || !row) return 1;
    c.err = jpeg_std_error(&error);
    jpeg_create_compress(&c);
    jpeg_stdio_dest(&c, f);
    c.image_width = (JDIMENSION)k->width;
    c.image_height = (JDIMENSION)k->height;
    c.input_components = k->components;
    c.in_color_space = k->components == 1 ? JCS_GRAYSCALE : k->components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 90, TRUE);
    c.comp_info[0].h_samp_factor = k->h_samp;
    c.comp_info[0].v_samp_factor = k->v_samp;
    if (k->progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < k->height; y++) {
        for (int i = 0; i < k->width * k->components; i++)
            row[i] = jpeg_files_pixel(k, i / k->components, y, i % k->components, seed);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(row);
    return fclose(f) != 0;
}

/* A set of one shard in dir/name: sample i is of kind[i % n_kind]. Its label is 0. */
static inline dt_status jpeg_files_set(const char *dir, const char *name, const jpeg_kind *kind, int n_kind,
                                       int n, int64_t channels, char *out, size_t out_bytes) {
    char files[256], path[512];
    snprintf(files, sizeof files, "%s/%s_files", dir, name);
    snprintf(path, sizeof path, "%s/a", files);
    if (mkdir(files, 0777) || mkdir(path, 0777)) return dt_fail(DT_ERR_IO, "%s: cannot create", path);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/a/%04d.jpg", files, i);
        if (jpeg_files_write(path, &kind[i % n_kind], (uint32_t)i))
            return dt_fail(DT_ERR_IO, "%s: cannot write", path);
    }
    snprintf(out, out_bytes, "%s/%s", dir, name);
    const char *input = files;
    dt_import_options o = {.kind = DT_IMPORT_FOLDER,
                           .store = DT_STORE_JPEG,
                           .input = &input,
                           .n_input = 1,
                           .out_dir = out,
                           .split = "train",
                           .channels = channels,
                           .threads = 2};
    dt_import_result result;
    return dt_import_run(&o, &result);
}

#endif
