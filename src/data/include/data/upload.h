/* How a batch gets to the device: a field is copied, but for images whose files the device decodes. */
#ifndef DT_DATA_UPLOAD_H
#define DT_DATA_UPLOAD_H

#include "data/jpeg_device.h"
#include "data/loader.h"

/* Whether the device decodes the files of this set (may be NULL). */
bool dt_data_device_decodes(const dt_data_options *o, const dt_dataset *d);

/* What the compressed batches of this set hold at most: a quarter more than average files of `rows` rows
 * need, and a few files. Rows that would exceed it, in their order, are decoded by the workers. So the limits
 * decide who decodes a row: `rows` is the largest of any rank's batches, lest that depend on the rank. */
void dt_loader_jpeg_limits(const dt_dataset *d, int64_t rows, int64_t out_h, int64_t out_w,
                           dt_jpeg_limits *out);
/* What the batches of a run may hold; `device` NULL: all is copied. */
typedef struct dt_upload_plan {
    const dt_jpeg_device *device;
    dt_jpeg_limits jpeg;
} dt_upload_plan;

/* Of batches of rows[i] rows of each set, of which either may be NULL. `device`: what the backend decodes with, NULL
 * where it cannot. */
void dt_upload_plan_make(const dt_data_options *o, const dt_jpeg_device *device,
                         const dt_dataset *const set[2], const int64_t rows[2], dt_upload_plan *out);
/* Device memory that it takes. */
int64_t dt_upload_bytes(const dt_upload_plan *p);

typedef struct dt_upload dt_upload;
/* *out NULL (and DT_OK) where all is copied. */
dt_status dt_upload_create(const dt_upload_plan *p, dt_backend *be, dt_upload **out);
void dt_upload_destroy(dt_upload *u, dt_backend *be); /* accepts NULL */
/* The rows of field i to `dst` on the device, on `stream`; the batch must stay until that is done. u may be NULL. */
dt_status dt_upload_field(dt_upload *u, dt_backend *be, const dt_batch *b, int32_t i, void *dst,
                          dt_stream *stream);

#endif
