/* A file of results that is there whole or not at all. */
#ifndef DT_CORE_OUT_FILE_H
#define DT_CORE_OUT_FILE_H

#include <stdio.h>

#include "core/status.h"

typedef struct dt_out_file {
    const char *path; /* borrowed */
    char *temporary;  /* owned */
    FILE *file;       /* to be written to; NULL: not open */
} dt_out_file;

/* Whether a file can be made at `path`, before there is anything to write: DT_ERR_IO, or DT_ERR_USAGE for a
 * path that cannot be one of a file. */
dt_status dt_out_file_try(const char *path);
dt_status dt_out_file_open(const char *path, dt_out_file *out);
/* Where `st` is DT_OK and all was written the file takes its place, else nothing of it is left. Returns the
 * first error. */
dt_status dt_out_file_close(dt_out_file *f, dt_status st);

#endif
