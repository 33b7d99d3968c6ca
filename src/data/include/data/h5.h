/* HDF5 behind a few calls: hdf5.h is included by h5*.c alone.
 *
 * All calls take one process-wide lock, so any thread may call them. Every HDF5 result is checked, including
 * those of close. HDF5's exit handler is turned off (H5dont_atexit): after a full disk it can crash. Error
 * text names the file and the object. Names may hold '.' but are flat within a group: "images",
 * "tensors/fc.weight". */
#ifndef DT_DATA_H5_H
#define DT_DATA_H5_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_h5 dt_h5;

typedef struct dt_h5_info {
    dt_dtype dtype; /* of another type, or in the other byte order: the narrowest that holds its values */
    int32_t ndim;   /* 0: scalar */
    int64_t dim[DT_MAX_DIM];
    int64_t n_elem;
    int64_t
        offset_bytes; /* in the file if contiguous, allocated and of this dtype (pread it); -1 otherwise */
} dt_h5_info;

/* Creates (truncates) a file. */
dt_status dt_h5_create(const char *path, dt_h5 **out);
/* Opens for reading. Missing, truncated or foreign file: DT_ERR_DATA. */
dt_status dt_h5_open(const char *path, dt_h5 **out);
/* h5_tree.c. The same of a file that stands in memory, which is copied; `name` is for messages. */
dt_status dt_h5_open_bytes(const char *name, const void *bytes, int64_t n_bytes, dt_h5 **out);
/* Names of all that is below a group, from it on ("dense/vars/0"), in order; the caller frees them with
 * dt_h5_list_free. DT_ERR_DATA where there is no such group. */
dt_status dt_h5_list(dt_h5 *h, const char *group, int64_t *n, char ***name);
void dt_h5_list_free(int64_t n, char **name);
/* Flushes and closes; the handle is gone even on error. A full disk may show only here. NULL: DT_OK. */
dt_status dt_h5_close(dt_h5 *h);

/* Writes a contiguous dataset; intermediate groups are created. dtype BF16 is not storable. */
dt_status dt_h5_write(dt_h5 *h, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim,
                      const void *data);
/* Creates a contiguous dataset without data (early allocation) and tells its offset in the file, so that the
 * caller can pwrite it after dt_h5_close. */
dt_status dt_h5_reserve(dt_h5 *h, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim,
                        int64_t *offset_bytes);

/* DT_ERR_DATA if absent, of a type that no dt_dtype holds, or of more elements than the file can hold: never
 * written, or less than they could be compressed to. */
dt_status dt_h5_info_get(dt_h5 *h, const char *name, dt_h5_info *out);
bool dt_h5_has(dt_h5 *h, const char *name);
/* Reads the whole dataset, converting to `dtype`; `n_elem` must equal the dataset's. */
dt_status dt_h5_read(dt_h5 *h, const char *name, dt_dtype dtype, int64_t n_elem, void *dst);
/* Reads rows [row0, row0 + n_rows) along dim 0. */
dt_status dt_h5_read_rows(dt_h5 *h, const char *name, dt_dtype dtype, int64_t row0, int64_t n_rows,
                          void *dst);

/* Rows of unsigned words, which no dt_dtype is: `width` is 2 (u16) or 4 (u32) bytes. Writes them as a contiguous
 * dataset of one dimension. */
dt_status dt_h5_words_write(dt_h5 *h, const char *name, int32_t width, int64_t n, const void *data);
/* Where they lie in the file. DT_ERR_DATA: the dataset is not of one dimension, contiguous, all there, and u16 or u32 in
 * this machine's byte order. */
dt_status dt_h5_words_get(dt_h5 *h, const char *name, int32_t *width, int64_t *n, int64_t *offset_bytes);

/* Root attributes. Strings are variable or fixed length, UTF-8 or ASCII; caller frees *out. Reading:
 * DT_ERR_DATA if absent, of another kind, not a single value, or damaged. */
dt_status dt_h5_attr_set_i64(dt_h5 *h, const char *name, int64_t value);
dt_status dt_h5_attr_set_f64(dt_h5 *h, const char *name, double value);
dt_status dt_h5_attr_set_str(dt_h5 *h, const char *name, const char *value);
dt_status dt_h5_attr_has(dt_h5 *h, const char *name, bool *out);
dt_status dt_h5_attr_get_i64(dt_h5 *h, const char *name, int64_t *out);
dt_status dt_h5_attr_get_str(dt_h5 *h, const char *name, char **out);

#endif
