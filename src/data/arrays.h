/* The arrays kind: samples that are rows of named datasets of numbers ("x", "y", "tokens"). One shard file, and
 * a set of them. Format: docs/data-format.md. */
#ifndef DT_DATA_ARRAYS_H
#define DT_DATA_ARRAYS_H

#include "core/field.h"
#include "core/status.h"
#include "data/h5.h"
#include "files.h"

#define DT_ARRAYS_KIND "arrays" /* attribute `kind` of a shard */

enum { DT_ARRAY_FIELDS_MAX = DT_FIELDS_MAX - 1 }; /* batches have "valid" too */

struct dt_shard_set;

typedef struct dt_array_shard {
    char *path;
    int fd;
    dt_h5 *h; /* NULL: no field is read through it */
    int64_t n_samples;
    int32_t n_fields;
    dt_field field[DT_FIELDS_MAX];
    int64_t
        offset[DT_FIELDS_MAX]; /* bytes in the file; -1: chunked, compressed or of a foreign type, and read
                                    * through HDF5, one row at a time */
    int64_t *checksum;         /* [n_samples]; NULL if the shard has none */
} dt_array_shard;

/* Whether the file says, or its datasets do, that it holds arrays and not images. DT_ERR_DATA: it cannot be
 * opened. */
dt_status dt_array_shard_is(const char *path, bool *out);

/* Anything that is not a sound shard: DT_ERR_DATA with path and reason. `s` is closed by dt_array_shard_close
 * in any case. */
dt_status dt_array_shard_open(const char *path, dt_array_shard *s);
void dt_array_shard_close(dt_array_shard *s);
/* Row i of every field; row[k] has dt_field_bytes(field k) of room. Callable from several threads. */
dt_status dt_array_shard_read(const dt_array_shard *s, int64_t i, void *const row[]);
/* Rows [i, i + n) of field k alone. */
dt_status dt_array_shard_column(const dt_array_shard *s, int32_t k, int64_t i, int64_t n, void *dst);
/* Compares a row with its checksum. DT_ERR_DATA when they differ or there is none. */
dt_status dt_array_shard_check(const dt_array_shard *s, int64_t i, void *const row[]);
/* Whether all numbers of the row are such as a network can take: DT_ERR_DATA with the place of one that is not
 * (numbers.h). */
dt_status dt_array_shard_finite(const dt_array_shard *s, int64_t i, void *const row[]);
/* Where field k lies, of a shard whose fields are all read at their offsets. */
dt_range dt_array_shard_range(const dt_array_shard *s, int32_t k);

/* What a shard is written from; borrowed. */
typedef struct dt_array_content {
    int64_t n_samples;
    int32_t n_fields;
    const dt_field *field;
    const void *data[DT_FIELDS_MAX]; /* [n_samples] rows */
    const char *split, *source;
} dt_array_content;
/* Writes to a temporary name in the same directory, syncs, renames, syncs the directory. */
dt_status dt_array_shard_write(const char *dir, const char *name, const dt_array_content *content);

/* A letter or '_', then letters, digits and '_', fewer than DT_FIELD_NAME_MAX; and neither "checksum" nor
 * "valid". */
bool dt_array_name_is(const char *name);
/* "x f32 [4, 16]" */
typedef struct dt_field_shown {
    char s[192];
} dt_field_shown;
dt_field_shown dt_field_text(const dt_field *f);
bool dt_field_same(const dt_field *a, const dt_field *b);

/* A set. */
typedef struct dt_arrays {
    char *path;
    int64_t n_shards, n_samples;
    dt_array_shard *shard;
    int64_t *first; /* [n_shards + 1] first sample of each shard */
    int32_t n_fields;
    dt_field field[DT_FIELDS_MAX];
} dt_arrays;

dt_status dt_arrays_open_set(const struct dt_shard_set *set, dt_arrays *out);
/* A directory of shards or one file. Closed by dt_arrays_close in any case. */
dt_status dt_arrays_open(const char *path, dt_arrays *out);
void dt_arrays_close(dt_arrays *a);
/* The shard that a sample lies in, and its row there. */
const dt_array_shard *dt_arrays_locate(const dt_arrays *a, int64_t sample, int64_t *row);

#endif
