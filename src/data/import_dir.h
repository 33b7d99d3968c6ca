/* The directory that an import writes a set to: shards of an earlier, interrupted run of the same import are
 * kept; whatever else would be overwritten or mixed in is refused before any work. */
#ifndef DT_DATA_IMPORT_DIR_H
#define DT_DATA_IMPORT_DIR_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_import_dir {
    const char *path;
    const char *origin; /* attribute `source` of the shards */
    int64_t n_shards;
    int lock_fd; /* -1: not open */
    /* Opens the shard at `path` and compares every sample with its checksum: DT_ERR_DATA. */
    dt_status (*check)(const char *path);
} dt_import_dir;

/* Creates it where absent, locks it (one import at a time), removes what is half-written, and checks that
 * every shard in it is of this import. */
dt_status dt_import_dir_open(dt_import_dir *d);
/* Whether an earlier run finished the shard at `path`, which dt_import_dir_open found to be ours. One that is
 * damaged is to be made again. */
dt_status dt_import_dir_finished(const dt_import_dir *d, const char *path, bool *finished);
void dt_import_dir_close(dt_import_dir *d);

#endif
