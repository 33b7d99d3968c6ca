/* Creating directories with their parents. */
#include "core/dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

dt_status dt_dir_create(const char *path) {
    if (!*path) return dt_fail(DT_ERR_IO, "the name of the directory is empty");
    char *part = strdup(path);
    if (!part) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_status status = DT_OK;
    for (char *p = part + 1; status == DT_OK; p++) {
        if (*p != '/' && *p != 0) continue;
        char end = *p;
        *p = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            status = dt_fail(DT_ERR_IO, "%s: cannot create the directory: %s", part, strerror(errno));
        *p = end;
        if (end == 0) break;
    }
    free(part);
    return status;
}
