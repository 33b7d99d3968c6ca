/* Looking at data sets: `dtrain data info` and `dtrain data verify`. */
#ifndef DT_DATA_INFO_H
#define DT_DATA_INFO_H

#include <stdio.h>

#include "core/status.h"
#include "core/types.h"

/* Prints what the set is: kind, shape, samples and classes, mean and deviation, samples per class, shards. */
dt_status dt_data_info_print(const char *path, FILE *out);

typedef struct dt_data_verify_result {
    int64_t n_samples, n_shards, n_bytes;
    int64_t n_jpeg_warnings; /* harmless oddities, e.g. stray bytes */
    int64_t n_unchecked;     /* samples without a checksum: read, but not compared */
    bool indexed;            /* the shards' hashes were compared with index.json */
} dt_data_verify_result;

/* Reads everything: hash of each shard (where there is an index), before HDF5 sees the file; structure, label
 * range, every sample's checksum, that every JPEG decodes and every number of arrays is one for a network. The first fault ends it: DT_ERR_DATA with path
 * and sample. `progress` (may be NULL) returning false: DT_STOPPED. */
dt_status dt_data_verify(const char *path, bool (*progress)(void *arg, int64_t done, int64_t total),
                         void *arg, dt_data_verify_result *out);

#endif
