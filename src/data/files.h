/* Files as the importers need them: whole in memory, and published under their final name only when
 * complete. */
#ifndef DT_DATA_FILES_H
#define DT_DATA_FILES_H

#include "core/status.h"
#include "core/types.h"

#define DT_TEMPORARY_PREFIX ".tmp-"

/* Syncs `temporary`, renames it to `path`, syncs the directory. */
dt_status dt_file_publish(const char *temporary, const char *path);

/* Writes `text` to `path` by way of a temporary file. */
dt_status dt_file_replace(const char *path, const char *text);

/* Reads a file of at most `max_bytes`; caller frees. DT_ERR_DATA when it cannot be read or is larger. */
dt_status dt_file_read(const char *path, int64_t max_bytes, uint8_t **out, int64_t *n_bytes);

/* Opens a regular file for reading and tells its size; DT_ERR_DATA for anything else. */
dt_status dt_file_open(const char *path, int *fd, int64_t *n_bytes);
/* Reads n bytes at `at`, which must all be there: DT_ERR_DATA. Callable from several threads. */
dt_status dt_file_pread(const char *path, int fd, int64_t at, int64_t n, void *dst);

typedef struct dt_range {
    int64_t begin, n_bytes;
} dt_range;
/* XXH3-64 of a file without these ranges, which ascend and do not overlap, and its size. They are not
 * read. */
dt_status dt_file_hash(const char *path, int32_t n_skip, const dt_range *skip, uint64_t *hash,
                       int64_t *n_bytes);

/* Names in a directory for which keep(name) holds, sorted by bytes. Free with dt_names_free. */
typedef struct dt_names {
    char **name;
    int64_t n;
} dt_names;
/* A filter for that: hidden files, which begin with a dot, are none of ours. */
bool dt_name_is_visible(const char *name);
dt_status dt_dir_list(const char *path, bool (*keep)(const char *name), dt_names *out);
void dt_names_free(dt_names *names);

/* A directory that is being walked, and those that led to it. */
enum { DT_DIR_DEPTH_MAX = 32 };
typedef struct dt_dir_trail {
    const struct dt_dir_trail *above; /* NULL: the walk began here */
    int64_t device, inode;
    int32_t depth;
} dt_dir_trail;
/* Steps from `above` (NULL: from outside) into `path`. DT_ERR_DATA: it is a link to a directory of the trail,
 * so that the walk would have no end, lies more than DT_DIR_DEPTH_MAX deep, or is not there. */
dt_status dt_dir_enter(const char *path, const dt_dir_trail *above, dt_dir_trail *here);

#endif
