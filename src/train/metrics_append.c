/* Buffered appending of whole records; see the header for what a failed write leaves. */
#include "metrics_append.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/dir.h"

enum { WRITE_AT_BYTES = 64 << 10, BUFFER_MAX_BYTES = 4 << 20 };
static const double write_every_s = 1.0;

dt_status dt_append_open(dt_append *f, const char *path, bool exclusive) {
    *f = (dt_append){.fd = -1, .written_at = dt_time_s()};
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (exclusive ? O_EXCL : 0);
    struct stat st;
    f->fd = open(path, flags, 0666);
    if (f->fd < 0 || fstat(f->fd, &st) != 0 || lseek(f->fd, 0, SEEK_END) < 0) {
        int error = errno;
        dt_append_close(f);
        return dt_fail(DT_ERR_IO, "%s: cannot be opened for writing: %s", path,
                       dt_create_error(path, error).s);
    }
    f->size = st.st_size;
    return DT_OK;
}

static dt_status write_out(dt_append *f) {
    size_t done = 0;
    f->written_at = dt_time_s();
    while (done < f->used) {
        ssize_t n = write(f->fd, f->buffer + done, f->used - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            int error = n < 0 ? errno : EIO;
            /* A torn record in the middle would spoil what is appended later. */
            if (done > 0 && (ftruncate(f->fd, f->size) != 0 || lseek(f->fd, f->size, SEEK_SET) < 0))
                return dt_fail(DT_ERR_IO, "cannot be written: %s; nor cut back: %s", strerror(error),
                               strerror(errno));
            return dt_fail(DT_ERR_IO, "cannot be written: %s", strerror(error));
        }
        done += (size_t)n;
    }
    f->size += (int64_t)f->used;
    f->used = 0;
    return DT_OK;
}

dt_status dt_append_record(dt_append *f, const void *record, size_t size) {
    if (f->fd < 0) return DT_OK;
    const bool lost_before = f->lost;
    f->lost = true;
    if (size > BUFFER_MAX_BYTES - f->used) {
        DT_TRY(write_out(f));
        if (size > BUFFER_MAX_BYTES) return dt_fail(DT_ERR_IO, "a record of %zu bytes", size);
    }
    if (f->used + size > f->room) {
        size_t room = f->room ? f->room : 2 * WRITE_AT_BYTES;
        while (room < f->used + size) room *= 2;
        char *buffer = realloc(f->buffer, room);
        if (!buffer) return dt_fail(DT_ERR_MEMORY, "out of memory for %zu bytes of records", room);
        f->buffer = buffer;
        f->room = room;
    }
    memcpy(f->buffer + f->used, record, size);
    f->used += size;
    f->lost = lost_before;
    double age_s = dt_time_s() - f->written_at;
    bool due = age_s > write_every_s || (f->used >= WRITE_AT_BYTES && age_s > 0.01);
    return due ? write_out(f) : DT_OK;
}

dt_status dt_append_flush(dt_append *f, bool durable) {
    if (f->fd < 0) return DT_OK;
    DT_TRY(write_out(f));
    if (durable && fsync(f->fd) != 0) return dt_fail(DT_ERR_IO, "fsync failed: %s", strerror(errno));
    return DT_OK;
}

void dt_append_close(dt_append *f) {
    if (f->fd >= 0) close(f->fd);
    free(f->buffer);
    *f = (dt_append){.fd = -1};
}
