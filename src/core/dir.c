/* Directories: created with their parents, made durable. */
#include "core/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

dt_text dt_create_error(const char *path, int error) {
    dt_text t;
    struct statvfs fs;
    snprintf(t.s, sizeof t.s, "%s", strerror(error));
    if (error != ENOSPC) return t;
    char *above = strdup(path), *slash = above ? strrchr(above, '/') : NULL;
    if (slash) slash[slash == above ? 1 : 0] = 0;
    if (above && statvfs(slash ? above : ".", &fs) == 0 && fs.f_files > 0 && fs.f_favail == 0)
        snprintf(t.s, sizeof t.s, "the file system has no room for another file: all its inodes are in use");
    free(above);
    return t;
}

dt_status dt_dir_create(const char *path) {
    struct stat st;
    if (!*path) return dt_fail(DT_ERR_USAGE, "the name of a directory to write into is empty");
    char *part = strdup(path);
    if (!part) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_status status = DT_OK;
    for (char *p = part + 1; status == DT_OK; p++) {
        if (*p != '/' && *p != 0) continue;
        char end = *p;
        *p = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            status = dt_fail(DT_ERR_IO, "%s: cannot create the directory: %s", part,
                             dt_create_error(part, errno).s);
        *p = end;
        if (end == 0) break;
    }
    free(part);
    if (status == DT_OK && stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        status = dt_fail(DT_ERR_IO, "%s: cannot create the directory: there is a file of this name", path);
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

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    remove(path);
    return 0;
}

void dt_dir_remove(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
