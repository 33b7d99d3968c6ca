/* Whole files of a checkpoint: written and fsynced, read, hashed. Special files are refused, links not
 * followed. */
#include "checkpoint_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/dir.h"

enum { HASH_BLOCK_BYTES = 256 << 10 /* stays in the L2 cache between read and hash */, FINITE_BLOCK = 4096 };

dt_status dt_ckpt_path(char *out, const char *dir, const char *name) {
    int n = snprintf(out, DT_CKPT_PATH_MAX, "%s/%s", dir, name);
    if (n >= 0 && n < DT_CKPT_PATH_MAX) return DT_OK;
    return dt_fail(DT_ERR_IO, "%s/%s: path longer than %d bytes", dir, name, DT_CKPT_PATH_MAX - 1);
}

dt_status dt_ckpt_file_put(int fd, const char *path, const void *data, int64_t bytes, int64_t offset_bytes) {
    const char *from = data;
    for (int64_t at = 0; at < bytes;) {
        ssize_t n = pwrite(fd, from + at, (size_t)(bytes - at), offset_bytes + at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return dt_fail(DT_ERR_IO, "%s: cannot write: %s", path, strerror(n < 0 ? errno : ENOSPC));
        at += n;
    }
    return DT_OK;
}

dt_status dt_ckpt_file_write(const char *path, const char *text, size_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return dt_fail(DT_ERR_IO, "%s: cannot create: %s", path, dt_create_error(path, errno).s);
    dt_status status = dt_ckpt_file_put(fd, path, text, (int64_t)bytes, 0);
    if (status == DT_OK && fsync(fd) != 0)
        status = dt_fail(DT_ERR_IO, "%s: fsync: %s", path, strerror(errno));
    if (close(fd) != 0 && status == DT_OK)
        status = dt_fail(DT_ERR_IO, "%s: close: %s", path, strerror(errno));
    return status;
}

/* Opens a regular file for reading. Not blocking: a FIFO in its place must not hang us. */
static dt_status open_regular(const char *path, int *fd, int64_t *bytes) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0) return dt_fail(DT_ERR_CHECKPOINT, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(*fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *bytes = st.st_size;
        return DT_OK;
    }
    close(*fd);
    return dt_fail(DT_ERR_CHECKPOINT, "%s: not a regular file", path);
}

/* Reads exactly `bytes`. */
static dt_status read_all(int fd, const char *path, char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t n = read(fd, data, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return dt_fail(DT_ERR_CHECKPOINT, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0) return dt_fail(DT_ERR_CHECKPOINT, "%s: became shorter while it was read", path);
        data += n;
        bytes -= (size_t)n;
    }
    return DT_OK;
}

dt_status dt_ckpt_file_read(const char *path, size_t max_bytes, char **text, size_t *bytes) {
    *text = NULL;
    int fd;
    int64_t length;
    DT_TRY(open_regular(path, &fd, &length));
    dt_status status = DT_OK;
    if ((uint64_t)length > max_bytes) {
        status = dt_fail(DT_ERR_CHECKPOINT, "%s: %lld bytes long, more than a checkpoint's (%zu)", path,
                         (long long)length, max_bytes);
        goto done;
    }
    *text = malloc((size_t)length + 1);
    if (*text == NULL) {
        status = dt_fail(DT_ERR_MEMORY, "%s: no memory to read it", path);
        goto done;
    }
    DT_TRY_GOTO(status, read_all(fd, path, *text, (size_t)length), done);
    (*text)[length] = '\0';
    *bytes = (size_t)length;
done:
    if (status != DT_OK) {
        free(*text);
        *text = NULL;
    }
    close(fd);
    return status;
}

dt_status dt_ckpt_file_hash(const char *path, int64_t want_bytes, int64_t *bytes, uint64_t *xxh3) {
    int fd;
    DT_TRY(open_regular(path, &fd, bytes));
    dt_status status = DT_OK;
    char *block = malloc(HASH_BLOCK_BYTES);
    XXH3_state_t *state = XXH3_createState();
    if (block == NULL || state == NULL) {
        status = dt_fail(DT_ERR_MEMORY, "%s: no memory to check it", path);
        goto done;
    }
    if (want_bytes >= 0 && *bytes != want_bytes) {
        status =
            dt_fail(DT_ERR_CHECKPOINT, "%s: %s: %lld bytes long, the manifest says %lld", path,
                    *bytes < want_bytes ? "truncated" : "altered", (long long)*bytes, (long long)want_bytes);
        goto done;
    }
    XXH3_64bits_reset(state);
    for (int64_t at = 0; at < *bytes; at += HASH_BLOCK_BYTES) {
        size_t n = (size_t)dt_min_i64(HASH_BLOCK_BYTES, *bytes - at);
        DT_TRY_GOTO(status, read_all(fd, path, block, n), done);
        XXH3_64bits_update(state, block, n);
    }
    *xxh3 = XXH3_64bits_digest(state);
done:
    XXH3_freeState(state);
    free(block);
    close(fd);
    return status;
}

/* True when all are finite; no branch per value, so that it runs at memory speed. */
static bool block_finite(const float *data, int64_t n_elem) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n_elem; i++) {
        uint32_t bits;
        memcpy(&bits, &data[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

int64_t dt_ckpt_find_nonfinite(const float *data, int64_t n_elem) {
    for (int64_t at = 0; at < n_elem; at += FINITE_BLOCK) {
        int64_t n = dt_min_i64(FINITE_BLOCK, n_elem - at);
        if (block_finite(data + at, n)) continue;
        int64_t i = at;
        while (block_finite(data + i, 1)) i++;
        return i;
    }
    return -1;
}
