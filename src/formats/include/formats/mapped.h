/* Files in memory, for reading. A file that becomes shorter while it is mapped would end the process at the next look at
 * it; here what is gone reads as zeros, and the checks below tell of it: whoever used a file's bytes asks before the
 * result counts. */
#ifndef DT_FORMATS_MAPPED_H
#define DT_FORMATS_MAPPED_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_mapped_file {
    const uint8_t *byte;
    int64_t n_bytes;
} dt_mapped_file;

/* DT_ERR_DATA: no regular file with anything in it. Errors say what is wrong with it, and the caller its path. */
dt_status dt_file_map(const char *path, dt_mapped_file *out);
/* The same of a file that is open; `path` is what it is called when it is told of. The descriptor stays the caller's. */
dt_status dt_file_map_open(int fd, const char *path, dt_mapped_file *out);
void dt_file_unmap(const dt_mapped_file *f); /* accepts what was never mapped, all 0 */

/* DT_ERR_DATA with the path where the file is shorter than it was when it was mapped, or could not be read. */
dt_status dt_file_check(const dt_mapped_file *f);
/* The same of all files that are mapped now. */
dt_status dt_files_check(void);

#endif
