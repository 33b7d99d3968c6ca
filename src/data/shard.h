/* One shard file: opening with every check that later reads rely on, reading samples at offsets resolved
 * once, and writing. Format: docs/data-format.md. */
#ifndef DT_DATA_SHARD_H
#define DT_DATA_SHARD_H

#include "core/status.h"
#include "core/types.h"
#include "data/facts.h"
#include "data/h5.h"

#define DT_SHARD_FORMAT "dtrain-shard"

enum {
    DT_SHARD_VERSION = 1,
    DT_CHANNELS_MAX = 4,
    DT_SIDE_MAX = 65535,             /* pixels */
    DT_SAMPLE_BYTES_MAX = 256 << 20, /* of one stored sample */
};

typedef struct dt_shard {
    char *path;
    int fd;   /* -1: rows are read through `h` */
    dt_h5 *h; /* NULL: rows are read from `fd` */
    bool jpeg;
    int64_t n_samples;
    int64_t height, width, channels;   /* jpeg: the largest */
    int64_t n_classes;                 /* 0: not stated */
    int64_t data_offset_bytes;         /* of images or jpeg/bytes in the file */
    int32_t *label;                    /* [n_samples] */
    int64_t *offset;                   /* jpeg: [n_samples + 1] into jpeg/bytes */
    int32_t *jpeg_height, *jpeg_width; /* jpeg: [n_samples] */
    int64_t *checksum;                 /* [n_samples]; NULL if the shard has none */
    char *class_names;                 /* newline-separated; NULL if none */
    char *source;                      /* what it was imported from; NULL if not stated */
    int64_t n_skipped;
    dt_recipe recipe;
    int64_t stats_pixels; /* 0: no statistics */
    int64_t sum[DT_CHANNELS_MAX], sum_sq[DT_CHANNELS_MAX];
} dt_shard;

/* Anything that is not a sound shard: DT_ERR_DATA with path and reason. `s` is closed by dt_shard_close in
 * any case. */
dt_status dt_shard_open(const char *path, dt_shard *s);
void dt_shard_close(dt_shard *s);

/* What a file says of its making, whatever the state of the rest: `version` 0 where it has not our format,
 * `source` NULL where it names none (else the caller frees it). DT_ERR_DATA when that cannot be read. */
dt_status dt_shard_origin_read(const char *path, int64_t *version, char **source);

/* Bytes of sample i. */
int64_t dt_shard_sample_bytes(const dt_shard *s, int64_t i);
/* Bytes [begin, begin + n) of sample i. Callable from several threads. */
dt_status dt_shard_read(const dt_shard *s, int64_t i, int64_t begin, int64_t n, uint8_t *dst);
/* Compares the whole sample with its checksum. DT_ERR_DATA when they differ or there is none. */
dt_status dt_shard_check(const dt_shard *s, int64_t i, const uint8_t *bytes);

/* XXH3-64 of the bytes, seeded with the label, low 32 bits. */
int64_t dt_sample_checksum(const uint8_t *bytes, int64_t n, int32_t label);

/* What a shard is written from; borrowed. */
typedef struct dt_shard_content {
    bool jpeg;
    int64_t n_samples, n_skipped, n_classes;
    int64_t height, width, channels; /* raw */
    const uint8_t *bytes;            /* images, or the pool of JPEG files */
    const int64_t *offset;           /* jpeg: [n_samples + 1] */
    const int32_t *jpeg_height, *jpeg_width;
    const int32_t *label;
    const char *split, *class_names, *source;
    dt_recipe recipe;
    int64_t stats_pixels;
    const int64_t *sum, *sum_sq; /* [channels] */
} dt_shard_content;

/* Writes to a temporary name in the same directory, syncs, renames, syncs the directory. */
dt_status dt_shard_write(const char *dir, const char *name, const dt_shard_content *content);

#endif
