/* Directories. */
#ifndef DT_CORE_DIR_H
#define DT_CORE_DIR_H

#include "core/status.h"
#include "core/text.h"

/* Creates a directory and its parents where absent (mkdir -p). DT_ERR_IO names the part that failed.
 * DT_ERR_USAGE: the path is empty. */
dt_status dt_dir_create(const char *path);

/* Removes a directory with all that is in it, as far as that can be; links are removed, not followed. */
void dt_dir_remove(const char *path);

/* Makes names in a directory durable. File systems that cannot (some on networks and in user space) are taken
 * at their word: that is no error. DT_ERR_IO otherwise. */
dt_status dt_dir_sync(const char *path);

/* Why `path` could not be created, of errno's `error`: the system's words, and of a file system that has room
 * for no other file that it is this. */
dt_text dt_create_error(const char *path, int error);

#endif
