/* How fast samples become input, per core: `dtrain bench data`. */
#ifndef DT_DATA_BENCH_H
#define DT_DATA_BENCH_H

#include <stdio.h>

#include "data/jpeg_device.h"
#include "core/status.h"
#include "core/types.h"

typedef struct dt_data_bench_options {
    const char *dir; /* where the generated shards go, kept for the next call; NULL: under $TMPDIR, removed */
    const char *dump_dir;       /* also writes the JPEG files here, for a peer to read; NULL: no */
    int64_t n_images;           /* of each kind; 0: 256 */
    double seconds;             /* per row; 0: 3 */
    int32_t threads;            /* loader threads of the last row of each kind; 0: 1 */
    dt_backend *be;             /* borrowed; where `jpeg` runs; NULL: none */
    const dt_jpeg_device *jpeg; /* timed too; NULL: none */
} dt_data_bench_options;

typedef struct dt_data_bench_row {
    const char *name;
    double images_per_s;                           /* one thread, or all of them in the "loader" rows */
    double read_us, decode_us, resize_us, edit_us; /* per image; 0 in the "loader" rows */
    double mb_per_image;                           /* read */
} dt_data_bench_row;

enum { DT_DATA_BENCH_AUGMENTS = 9, DT_DATA_BENCH_ROWS = 6 + DT_DATA_BENCH_AUGMENTS };

/* Rows: raw 256 x 256 -> 224 x 224 with random-resized-crop and flip; the same with every checksum verified;
 * JPEG 500 x 375 at quality 90 -> 224 x 224 likewise; then both kinds through the loader with `threads`; last
 * the JPEG files through the loader and the device's decoder, until the batch lies on the device (0 images/s
 * where there is none); then raw as in the first row with one augmentation each. Prints a table to `out` unless NULL. */
dt_status dt_data_bench(const dt_data_bench_options *o, FILE *out,
                        dt_data_bench_row rows[DT_DATA_BENCH_ROWS]);

#endif
