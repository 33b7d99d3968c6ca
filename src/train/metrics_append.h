/* A file that only grows by whole records, buffered in memory so that a record costs no system call.
 * After a failed write (a full disk) the file ends with its last whole record and the rest waits for the next
 * try. */
#ifndef DT_TRAIN_METRICS_APPEND_H
#define DT_TRAIN_METRICS_APPEND_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_append {
    int fd;       /* -1: closed */
    int64_t size; /* bytes in the file */
    char *buffer; /* records not yet in the file */
    size_t used, room;
    double written_at; /* dt_time_s() of the last try */
    bool lost;         /* a record */
} dt_append;

/* Opens `path` for appending, creating it; DT_ERR_IO with the cause. `f` is closed on failure. */
dt_status dt_append_open(dt_append *f, const char *path, bool exclusive);
/* Adds one record to the buffer; writes the buffer out when it is large or a second old. DT_ERR_IO where a
 * write failed or the buffer is full (the record is then lost); the next call tries again. */
dt_status dt_append_record(dt_append *f, const void *record, size_t size);
/* Writes the buffer out; `durable`: with fsync. */
dt_status dt_append_flush(dt_append *f, bool durable);
/* Frees the buffer, closes. What is still in the buffer is lost: flush before. */
void dt_append_close(dt_append *f);

#endif
