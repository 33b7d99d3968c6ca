/* One shard of an import: its samples are loaded by all threads, then written in one go. */
#ifndef DT_DATA_IMPORT_SHARD_H
#define DT_DATA_IMPORT_SHARD_H

#include "source.h"

typedef struct dt_shard_job {
    const dt_import_options *o;
    const dt_source *source;
    const int64_t *sample; /* which of the source the set has; NULL: all */
    int64_t begin, end;    /* samples of the set */
    int64_t before;        /* samples of earlier sets of this import, for the progress */
    int32_t threads;
    const char *dir, *name; /* of the file */
    const char *split;
    const char *origin;       /* attribute `source` */
    const int32_t *label_map; /* the source's labels to those stored; NULL: the same */
    const char *class_names;  /* may be NULL */
    int64_t n_classes;
} dt_shard_job;

/* *n_tilted gets the samples written whose file has an EXIF orientation that is not upright. */
dt_status dt_import_shard(const dt_shard_job *job, int64_t *n_tilted);

#endif
