/* The files that make a data set, of whatever kind: those of a directory, or one alone. */
#ifndef DT_DATA_SHARD_SET_H
#define DT_DATA_SHARD_SET_H

#include "core/status.h"
#include "core/types.h"
#include "index.h"

typedef struct dt_shard_set {
    const char *path; /* borrowed */
    int64_t n;
    char **file;    /* [n] paths, in the order of the samples */
    dt_index index; /* empty where there is none */
} dt_shard_set;

/* Finds them, compares their structure with the index, and allows that many open files. DT_ERR_DATA: there
 * are none, some are missing, or they are not those of the index. Closed by dt_shard_set_close in any case. */
dt_status dt_shard_set_open(const char *path, dt_shard_set *out);
void dt_shard_set_close(dt_shard_set *s);

/* The part that a sample lies in: first[i] <= sample < first[i + 1], i < n. */
int64_t dt_shard_set_find(const int64_t *first, int64_t n, int64_t sample);

/* The error that the index says another number than the shards. */
dt_status dt_shard_set_differs(const char *path, const char *what, int64_t said, int64_t found);

enum { DT_SHARD_HINT_BYTES = 256 };
/* For errors about a directory without shards: ", but NAME, ... in it are data sets: name one of them", or
 * "" where none of them is. */
void dt_shard_set_hint(const char *path, char out[DT_SHARD_HINT_BYTES]);

#endif
