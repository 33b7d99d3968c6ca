/* A batch of JPEG files on its way to a device that decodes them. The loader lays it out; windows and files are
 * checked there. The device's side is a table, which gpu fills in. */
#ifndef DT_DATA_JPEG_DEVICE_H
#define DT_DATA_JPEG_DEVICE_H

#include "core/backend.h"
#include "core/types.h"

enum {
    DT_JPEG_LANES = 2,        /* batches whose decoded files a device holds at once */
    DT_JPEG_ALIGN_BYTES = 256 /* of a decoded file in a lane */
};

/* One row of the batch. Its window, made smaller by averaging blocks of shrink x shrink pixels where the file
 * has more than the output needs, is resized as data/resize.h says, then mirrored when `flip`. */
typedef struct dt_jpeg_row {
    int64_t offset, n_bytes; /* of the file in the batch's bytes; n_bytes 0: the row has its pixels already */
    int32_t height, width;   /* of the file, pixels */
    int32_t x0, y0, w, h;    /* window, inside the file's image */
    int32_t shrink;          /* 1, 2, 4 or 8 */
    bool flip;
    const char *path; /* shard, for messages; borrowed */
    int64_t index;    /* in the shard */
} dt_jpeg_row;

/* What dt_batch.beside is where files are delivered. Rows without a file have their pixels in "image". */
typedef struct dt_jpeg_files {
    dt_jpeg_row *row; /* [rows] */
    uint8_t *bytes;   /* the files */
} dt_jpeg_files;

typedef struct dt_jpeg_batch {
    const dt_jpeg_row *row; /* [n_rows] */
    int64_t n_rows;
    const uint8_t *bytes; /* the files, in memory that async copies may use */
    const uint8_t *image; /* u8 [n_rows, out_h, out_w, channels]: the rows without a file; likewise */
} dt_jpeg_batch;

/* What batches may hold, for all of a run. */
typedef struct dt_jpeg_limits {
    int64_t rows, out_h, out_w, channels; /* channels 1 or 3 */
    int64_t file_bytes;                   /* of all files of a batch */
    int64_t pixel_bytes;                  /* of all files of a batch once decoded, each rounded up */
} dt_jpeg_limits;

/* Bytes of a decoded file in a lane. */
static inline int64_t dt_jpeg_decoded_bytes(int64_t height, int64_t width, int64_t channels) {
    return dt_round_up(height * width * channels, DT_JPEG_ALIGN_BYTES);
}

typedef struct dt_jpeg_decoder dt_jpeg_decoder; /* opaque */

/* JPEG decoded by a device. */
typedef struct dt_jpeg_device {
    dt_status (*create)(dt_backend *be, const dt_jpeg_limits *limits, dt_jpeg_decoder **out);
    void (*destroy)(dt_backend *be, dt_jpeg_decoder *d);
    /* Fills image, u8 [n_rows, out_h, out_w, channels] on the device, on `stream`; the batch must stay until that
     * is done. The host may wait for the batch DT_JPEG_LANES before it, and for files that can only be decoded one
     * by one. A file that cannot be decoded is DT_ERR_DATA with its path and index. */
    dt_status (*decode)(dt_backend *be, dt_jpeg_decoder *d, const dt_jpeg_batch *b, uint8_t *image,
                        dt_stream *stream);
    /* What decodes, for people: "nvJPEG, hardware decoder". */
    const char *(*name)(const dt_jpeg_decoder *d);
} dt_jpeg_device;

#endif
