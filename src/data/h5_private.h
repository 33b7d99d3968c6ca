/* What h5.c, h5_attr.c and h5_words.c share. Not for anyone else: it is the way to hdf5.h. */
#ifndef DT_DATA_H5_PRIVATE_H
#define DT_DATA_H5_PRIVATE_H

#include <hdf5.h>

#include "data/h5.h"

struct dt_h5 {
    hid_t file;
    bool writable;
    int64_t file_bytes; /* when it was opened for reading */
    char *path;
};

typedef struct dt_h5_new {
    hid_t type;
    int32_t ndim;
    hsize_t dim[DT_MAX_DIM];
    bool early; /* space is allocated at creation */
} dt_h5_new;

/* The process-wide lock; taking it also sets the library up and silences its error stack for this thread. */
void dt_h5_lock(void);
void dt_h5_unlock(void);

/* dt_fail with "path: what name: HDF5's innermost message". The status is that of the file's content where it
 * is read (DT_ERR_DATA) and of the disk where it is written (DT_ERR_IO). Under the lock. */
dt_status dt_h5_file_fail(const dt_h5 *h, const char *what, const char *name) DT_MUST_CHECK;

/* Creates a dataset and the groups on its way, and writes all of it. Takes the lock. */
dt_status dt_h5_set_write(dt_h5 *h, const char *name, const dt_h5_new *n, const void *data) DT_MUST_CHECK;
/* Opens a dataset of this very file, to be closed where that succeeds, and describes it. Under the lock. */
dt_status dt_h5_set_open(const dt_h5 *h, const char *name, hid_t *set, dt_h5_info *info) DT_MUST_CHECK;

#endif
