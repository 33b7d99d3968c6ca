/* Whole files and directories; every system call's result is looked at. */
#include "files.h"

#include "core/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { HASH_BLOCK_BYTES = 1 << 20 };

static dt_status io_fail(const char *path, const char *what) {
    return dt_fail(DT_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

static dt_status sync_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_fail(path, "cannot open");
    dt_status status = fsync(fd) == 0 ? DT_OK : io_fail(path, "cannot sync");
    if (close(fd) != 0 && status == DT_OK) status = io_fail(path, "cannot close");
    return status;
}

dt_status dt_file_publish(const char *temporary, const char *path) {
    DT_TRY(sync_file(temporary));
    if (rename(temporary, path) != 0) return io_fail(path, "cannot rename to it");
    char *copy = strdup(path);
    if (!copy) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_status status = dt_dir_sync(dirname(copy));
    free(copy);
    return status;
}

dt_status dt_file_replace(const char *path, const char *text) {
    char *temporary;
    if (asprintf(&temporary, "%s.tmp", path) < 0) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_status status = DT_OK;
    FILE *f = fopen(temporary, "we");
    if (!f)
        status = dt_fail(DT_ERR_IO, "%s: cannot create: %s", temporary, dt_create_error(temporary, errno).s);
    else {
        bool written = fputs(text, f) >= 0;
        if ((fclose(f) != 0 || !written)) status = io_fail(temporary, "cannot write");
    }
    if (status == DT_OK) status = dt_file_publish(temporary, path);
    if (status != DT_OK) unlink(temporary);
    free(temporary);
    return status;
}

dt_status dt_file_open(const char *path, int *fd, int64_t *n_bytes) {
    struct stat st;
    dt_status status = DT_OK;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would block */
    if (*fd < 0 || fstat(*fd, &st) != 0)
        status = dt_fail(DT_ERR_DATA, "%s: cannot open: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        status = dt_fail(DT_ERR_DATA, "%s: is a directory, not a file", path);
    else if (!S_ISREG(st.st_mode))
        status = dt_fail(DT_ERR_DATA, "%s: is a device or a pipe, not a file", path);
    if (status == DT_OK) {
        *n_bytes = st.st_size;
        return DT_OK;
    }
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return status;
}

dt_status dt_file_pread(const char *path, int fd, int64_t at, int64_t n, void *dst) {
    for (uint8_t *to = dst; n > 0;) {
        const ssize_t got = pread(fd, to, (size_t)n, at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return dt_fail(DT_ERR_DATA, "%s: cannot read: %s", path,
                           got < 0 ? strerror(errno) : "it has become shorter");
        at += got;
        to += got;
        n -= got;
    }
    return DT_OK;
}

dt_status dt_file_read(const char *path, int64_t max_bytes, uint8_t **out, int64_t *n_bytes) {
    int fd;
    *out = NULL;
    DT_TRY(dt_file_open(path, &fd, n_bytes));
    const int64_t n = *n_bytes;
    uint8_t *bytes = n > max_bytes ? NULL : malloc((size_t)n + 1);
    dt_status status = DT_OK;
    if (n > max_bytes)
        status = dt_fail(DT_ERR_DATA, "%s: has %lld bytes, more than the %lld of the largest that is read",
                         path, (long long)n, (long long)max_bytes);
    else if (!bytes)
        status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    else
        status = dt_file_pread(path, fd, 0, n, bytes);
    close(fd);
    if (status != DT_OK) {
        free(bytes);
        return status;
    }
    bytes[n] = 0; /* so that text can be used as a string */
    *out = bytes;
    return DT_OK;
}

static dt_status hash_part(const char *path, int fd, int64_t begin, int64_t end, uint8_t *block,
                           XXH3_state_t *state) {
    while (begin < end) {
        const int64_t n = dt_min_i64(HASH_BLOCK_BYTES, end - begin);
        DT_TRY(dt_file_pread(path, fd, begin, n, block));
        XXH3_64bits_update(state, block, (size_t)n);
        begin += n;
    }
    return DT_OK;
}

dt_status dt_file_hash(const char *path, int32_t n_skip, const dt_range *skip, uint64_t *hash,
                       int64_t *n_bytes) {
    int fd;
    int64_t begin = 0;
    DT_TRY(dt_file_open(path, &fd, n_bytes));
    uint8_t *block = malloc(HASH_BLOCK_BYTES);
    XXH3_state_t *state = XXH3_createState();
    dt_status status = block && state ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    if (status == DT_OK) XXH3_64bits_reset(state);
    for (int32_t i = 0; i <= n_skip && status == DT_OK; i++) {
        const int64_t end = i < n_skip ? dt_min_i64(skip[i].begin, *n_bytes) : *n_bytes;
        status = hash_part(path, fd, begin, end, block, state);
        if (i < n_skip) begin = skip[i].begin + skip[i].n_bytes;
    }
    if (status == DT_OK) *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    free(block);
    close(fd);
    return status;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool dt_name_is_visible(const char *name) {
    return name[0] != '.';
}

dt_status dt_dir_list(const char *path, bool (*keep)(const char *name), dt_names *out) {
    *out = (dt_names){0};
    int64_t capacity = 0;
    dt_status status = DT_OK;
    DIR *d = opendir(path);
    if (!d) return dt_fail(DT_ERR_DATA, "%s: cannot list: %s", path, strerror(errno));
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(d);
        if (!entry) {
            if (errno) status = dt_fail(DT_ERR_DATA, "%s: cannot list: %s", path, strerror(errno));
            break;
        }
        if (!keep(entry->d_name)) continue;
        if (out->n == capacity) {
            capacity = capacity ? 2 * capacity : 256;
            char **grown = realloc(out->name, (size_t)capacity * sizeof *grown);
            if (grown) out->name = grown;
            if (!grown) capacity = 0;
        }
        char *copy = capacity ? strdup(entry->d_name) : NULL;
        if (!copy) {
            status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
            break;
        }
        out->name[out->n++] = copy;
    }
    closedir(d);
    if (status != DT_OK)
        dt_names_free(out);
    else if (out->n)
        qsort(out->name, (size_t)out->n, sizeof *out->name, compare_names);
    return status;
}

dt_status dt_dir_enter(const char *path, const dt_dir_trail *above, dt_dir_trail *here) {
    struct stat st;
    if (stat(path, &st) != 0) return dt_fail(DT_ERR_DATA, "%s: cannot list: %s", path, strerror(errno));
    *here = (dt_dir_trail){above, (int64_t)st.st_dev, (int64_t)st.st_ino, above ? above->depth + 1 : 0};
    for (const dt_dir_trail *t = above; t; t = t->above)
        if (t->device == here->device && t->inode == here->inode)
            return dt_fail(DT_ERR_DATA,
                           "%s: a link to a directory above it, whose files would be met again without end: "
                           "remove the link",
                           path);
    if (here->depth > DT_DIR_DEPTH_MAX)
        return dt_fail(DT_ERR_DATA, "%s: more than %d directories deep", path, DT_DIR_DEPTH_MAX);
    return DT_OK;
}

void dt_names_free(dt_names *names) {
    for (int64_t i = 0; i < names->n; i++) free(names->name[i]);
    free(names->name);
    *names = (dt_names){0};
}
