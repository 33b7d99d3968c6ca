/* Directories. */
#ifndef DT_CORE_DIR_H
#define DT_CORE_DIR_H

#include "core/status.h"

/* Creates a directory and its parents where absent (mkdir -p). DT_ERR_IO names the part that failed. */
dt_status dt_dir_create(const char *path);

#endif
