/* Directories: created with their parents, made durable. */
#include "core/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

dt_status dt_dir_sync(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (fd < 0) return dt_fail(DT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    const bool done = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP || errno == ENOSYS;
    dt_status status = done ? DT_OK : dt_fail(DT_ERR_IO, "%s: fsync: %s", path, strerror(errno));
    close(fd);
    return status;
}
