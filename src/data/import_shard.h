/* One shard of an import: its samples are loaded by all threads, then written in one go. */
#ifndef DT_DATA_IMPORT_SHARD_H
#define DT_DATA_IMPORT_SHARD_H

#include "source.h"

typedef struct dt_shard_job {
    const dt_import_options *o;
    const dt_source *source;
    int64_t begin, end; /* samples of the source */
    int32_t threads;
    const char *name;        /* of the file in o->out_dir */
    const char *origin;      /* attribute `source` */
    const char *class_names; /* may be NULL */
    int64_t n_classes;
} dt_shard_job;

dt_status dt_import_shard(const dt_shard_job *job);

#endif
