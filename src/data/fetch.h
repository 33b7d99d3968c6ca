/* One sample from the disk to its place in a batch: read, check, decode, crop, resize, flip, edit. */
#ifndef DT_DATA_FETCH_H
#define DT_DATA_FETCH_H

#include "data/augment.h"
#include "data/jpeg_device.h"
#include "dataset.h"
#include "edit.h"
#include "resize.h"

typedef struct dt_fetch_options {
    const dt_dataset *dataset;
    dt_augment augment;
    bool source_crop; /* deliver the stored image and the window's numbers */
    bool edits;       /* deliver the image before its edits: whoever asks for the draws makes them */
    bool verify;
    dt_simd simd;
} dt_fetch_options;

/* Where the time went. */
typedef struct dt_fetch_times {
    double read_s, decode_s, resize_s, edit_s;
    int64_t n_samples, n_bytes, n_warnings;
} dt_fetch_times;

/* Buffers of one thread. */
typedef struct dt_fetcher dt_fetcher;

dt_status dt_fetcher_new(const dt_fetch_options *o, dt_fetcher **out);
void dt_fetcher_free(dt_fetcher *f); /* accepts NULL */

/* image: u8 [out_h, out_w, C] (stored size when source_crop); aug: i32 [8], only when source_crop. */
dt_status dt_fetch(dt_fetcher *f, const dt_draw_of *of, uint8_t *image, int32_t *label, int32_t *aug);

/* JPEG data for a decoder elsewhere. row->n_bytes > 0 says that `bytes` holds room for the file (its size, by
 * dt_dataset_locate): it is read to there and *row, but for offset, filled in. A file that is not plain
 * (jpeg.h), or has no room, is decoded to `image` as by dt_fetch, and row->n_bytes is 0. */
dt_status dt_fetch_file(dt_fetcher *f, const dt_draw_of *of, uint8_t *image, int32_t *label, uint8_t *bytes,
                        dt_jpeg_row *row);

/* What was drawn for the sample fetched last. */
const dt_draws *dt_fetcher_draws(const dt_fetcher *f);

void dt_fetcher_times(const dt_fetcher *f, dt_fetch_times *out);

#endif
