/* Opening, reading and writing arrays. HDF5 is used for the structure only: the place of each field is resolved
 * once and its rows are read from there, as those of images are. */
#include "arrays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/text.h"
#include "files.h"
#include "numbers.h"
#include "shard.h"
#include "shard_set.h"

/* ---- fields ---- */

bool dt_array_name_is(const char *name) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    const size_t n = strlen(name);
    return n > 0 && n < DT_FIELD_NAME_MAX && name[strspn(name, letters)] == 0 &&
           !(name[0] >= '0' && name[0] <= '9') && strcmp(name, "checksum") != 0 && strcmp(name, "valid") != 0;
}

dt_field_shown dt_field_text(const dt_field *f) {
    dt_field_shown out;
    int at = snprintf(out.s, sizeof out.s, "%s %s [", f->name, dt_dtype_name(f->dtype));
    for (int32_t i = 0; i < f->ndim && at < (int)sizeof out.s; i++)
        at += snprintf(out.s + at, sizeof out.s - (size_t)at, "%s%lld", i ? ", " : "", (long long)f->dim[i]);
    if (at < (int)sizeof out.s) snprintf(out.s + at, sizeof out.s - (size_t)at, "]");
    return out;
}

bool dt_field_same(const dt_field *a, const dt_field *b) {
    return strcmp(a->name, b->name) == 0 && a->dtype == b->dtype && a->ndim == b->ndim &&
           memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim) == 0;
}

/* Low 32 bits of XXH3-64 over the fields' bytes, each seeded with the hash of those before it. */
static int64_t checksum_of(int32_t n_fields, const dt_field *field, void *const row[]) {
    uint64_t hash = 0;
    for (int32_t k = 0; k < n_fields; k++)
        hash = XXH3_64bits_withSeed(row[k], (size_t)dt_field_bytes(&field[k]), hash);
    return (int64_t)(hash & 0xFFFFFFFFu);
}

/* ---- opening ---- */

static dt_status wrong(const dt_array_shard *s, const char *what) {
    return dt_fail(DT_ERR_DATA, "%s: not a sound file of arrays: %s", s->path, what);
}

/* NULL where the attribute is absent. */
static dt_status optional_str(dt_h5 *h, const char *name, char **out) {
    bool there;
    *out = NULL;
    DT_TRY(dt_h5_attr_has(h, name, &there));
    return there ? dt_h5_attr_get_str(h, name, out) : DT_OK;
}

static dt_status is_arrays(dt_h5 *h, bool *out) {
    char *kind = NULL;
    DT_TRY(optional_str(h, "kind", &kind));
    *out = kind ? strcmp(kind, DT_ARRAYS_KIND) == 0 : false;
    free(kind);
    if (kind) return DT_OK;
    DT_TRY(dt_h5_attr_has(h, "fields", out));
    *out = (*out || dt_h5_has(h, "x")) && !dt_h5_has(h, "images") && !dt_h5_has(h, "jpeg/bytes");
    return DT_OK;
}

dt_status dt_array_shard_is(const char *path, bool *out) {
    dt_h5 *h;
    *out = false;
    DT_TRY(dt_h5_open(path, &h));
    const dt_status status = is_arrays(h, out);
    const dt_status closed = dt_h5_close(h);
    return status == DT_OK ? closed : status;
}

/* *count: what the file states, -1 where it states nothing. */
static dt_status open_attributes(dt_array_shard *s, int64_t *count) {
    char *format;
    int64_t version;
    *count = -1;
    DT_TRY(optional_str(s->h, "format", &format));
    if (!format) return DT_OK;
    const bool mine = strcmp(format, DT_SHARD_FORMAT) == 0;
    free(format);
    if (!mine) return wrong(s, "attribute format is not \"" DT_SHARD_FORMAT "\"");
    DT_TRY(dt_h5_attr_get_i64(s->h, "version", &version));
    if (version != DT_SHARD_VERSION)
        return dt_fail(DT_ERR_DATA, "%s: shard version %lld; this program reads version %d", s->path,
                       (long long)version, DT_SHARD_VERSION);
    return dt_h5_attr_get_i64(s->h, "count", count);
}

static dt_status open_field(dt_array_shard *s, const char *name) {
    dt_h5_info info;
    dt_field *f = &s->field[s->n_fields];
    DT_TRY(dt_h5_info_get(s->h, name, &info));
    int64_t bytes = (int64_t)dt_dtype_size(info.dtype);
    *f = (dt_field){.dtype = info.dtype, .ndim = info.ndim - 1};
    strcpy(f->name, name);
    if (info.ndim < 1)
        return dt_fail(DT_ERR_DATA,
                       "%s: %s is one number, not an array: expected a first dimension of samples", s->path,
                       name);
    for (int32_t i = 0; i < f->ndim; i++) {
        f->dim[i] = info.dim[i + 1];
        if (f->dim[i] < 1 || __builtin_mul_overflow(bytes, f->dim[i], &bytes) || bytes > DT_SAMPLE_BYTES_MAX)
            return dt_fail(DT_ERR_DATA, "%s: %s: a row of it is empty, or larger than %d MiB", s->path, name,
                           DT_SAMPLE_BYTES_MAX >> 20);
    }
    if (s->n_fields > 0 && info.dim[0] != s->n_samples)
        return dt_fail(DT_ERR_DATA, "%s: %s has %s, but %s has %lld", s->path, name,
                       dt_count_text(info.dim[0], "row").s, s->field[0].name, (long long)s->n_samples);
    s->n_samples = info.dim[0];
    s->offset[s->n_fields++] = info.offset_bytes;
    return DT_OK;
}

/* Opens those that a list names, separated by blanks. */
static dt_status open_listed(dt_array_shard *s, char *list) {
    char *rest = NULL;
    for (char *name = strtok_r(list, " \n", &rest); name; name = strtok_r(NULL, " \n", &rest)) {
        if (!dt_array_name_is(name))
            return wrong(s, "a field's name is not a word of letters, digits and '_', or is too long");
        if (s->n_fields == DT_ARRAY_FIELDS_MAX)
            return dt_fail(DT_ERR_DATA, "%s: more than %d fields", s->path, DT_ARRAY_FIELDS_MAX);
        for (int32_t i = 0; i < s->n_fields; i++)
            if (strcmp(name, s->field[i].name) == 0) return wrong(s, "it lists a field twice");
        DT_TRY(open_field(s, name));
    }
    return s->n_fields > 0 ? DT_OK : wrong(s, "it lists no fields");
}

static dt_status open_fields(dt_array_shard *s) {
    char *list;
    DT_TRY(optional_str(s->h, "fields", &list));
    if (list) {
        const dt_status status = open_listed(s, list);
        free(list);
        return status;
    }
    DT_TRY(open_field(s, "x"));
    return dt_h5_has(s->h, "y") ? open_field(s, "y") : DT_OK;
}

static dt_status open_checksums(dt_array_shard *s) {
    dt_h5_info info;
    if (!dt_h5_has(s->h, "checksum")) return DT_OK;
    DT_TRY(dt_h5_info_get(s->h, "checksum", &info));
    if (info.ndim != 1 || info.n_elem != s->n_samples) return wrong(s, "checksum is not one for each row");
    s->checksum = malloc((size_t)s->n_samples * sizeof *s->checksum);
    if (!s->checksum) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    return dt_h5_read(s->h, "checksum", DT_DTYPE_I64, s->n_samples, s->checksum);
}

/* Keeps a file descriptor where all fields lie in one piece each, else the HDF5 handle too. */
static dt_status open_data(dt_array_shard *s) {
    int64_t n_bytes;
    bool slow = false;
    DT_TRY(dt_file_open(s->path, &s->fd, &n_bytes));
    for (int32_t k = 0; k < s->n_fields; k++) {
        slow = slow || s->offset[k] < 0;
        const int64_t bytes = s->n_samples * dt_field_bytes(&s->field[k]);
        if (s->offset[k] > n_bytes || (s->offset[k] >= 0 && bytes > n_bytes - s->offset[k]))
            return wrong(s, "its rows reach past the end of the file");
    }
    if (slow) return DT_OK;
    dt_h5 *h = s->h;
    s->h = NULL;
    return dt_h5_close(h);
}

dt_status dt_array_shard_open(const char *path, dt_array_shard *s) {
    int64_t count;
    *s = (dt_array_shard){.fd = -1, .path = strdup(path)};
    if (!s->path) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    DT_TRY(dt_h5_open(path, &s->h));
    DT_TRY(open_attributes(s, &count));
    DT_TRY(open_fields(s));
    if (s->n_samples < 1) return wrong(s, "it is empty");
    if (count >= 0 && count != s->n_samples) return wrong(s, "attribute count differs from the rows");
    DT_TRY(open_checksums(s));
    return open_data(s);
}

void dt_array_shard_close(dt_array_shard *s) {
    if (s->fd >= 0) close(s->fd);
    dt_status ignored = dt_h5_close(s->h); /* only read from */
    (void)ignored;
    free(s->path);
    free(s->checksum);
    *s = (dt_array_shard){.fd = -1};
}

/* ---- rows ---- */

dt_range dt_array_shard_range(const dt_array_shard *s, int32_t k) {
    return (dt_range){s->offset[k], s->n_samples * dt_field_bytes(&s->field[k])};
}

dt_status dt_array_shard_column(const dt_array_shard *s, int32_t k, int64_t i, int64_t n, void *dst) {
    const dt_field *f = &s->field[k];
    const int64_t bytes = dt_field_bytes(f);
    return s->offset[k] < 0 ? dt_h5_read_rows(s->h, f->name, f->dtype, i, n, dst)
                            : dt_file_pread(s->path, s->fd, s->offset[k] + i * bytes, n * bytes, dst);
}

dt_status dt_array_shard_read(const dt_array_shard *s, int64_t i, void *const row[]) {
    dt_status status = DT_OK;
    for (int32_t k = 0; k < s->n_fields && status == DT_OK; k++)
        status = dt_array_shard_column(s, k, i, 1, row[k]);
    if (status != DT_OK) dt_error_context("sample %lld", (long long)i);
    return status;
}

dt_status dt_array_shard_check(const dt_array_shard *s, int64_t i, void *const row[]) {
    if (!s->checksum)
        return dt_fail(DT_ERR_DATA, "%s: the file has no checksums to verify (set data.verify = false)",
                       s->path);
    if (checksum_of(s->n_fields, s->field, row) != s->checksum[i])
        return dt_fail(DT_ERR_DATA, "%s: sample %lld is damaged: its checksum differs (import it again)",
                       s->path, (long long)i);
    return DT_OK;
}

dt_status dt_array_shard_finite(const dt_array_shard *s, int64_t i, void *const row[]) {
    for (int32_t k = 0; k < s->n_fields; k++) {
        const dt_field *f = &s->field[k];
        const int64_t n = dt_field_bytes(f) / (int64_t)dt_dtype_size(f->dtype),
                      bad = dt_numbers_find_bad(f->dtype, row[k], n);
        if (bad < 0) continue;
        return dt_fail(DT_ERR_DATA, "%s: sample %lld: %s %s: take the row out, or put a number in its place",
                       s->path, (long long)i, dt_number_place(f, bad).s,
                       dt_number_why(dt_number_at(f->dtype, row[k], bad)).s);
    }
    return DT_OK;
}

/* ---- writing ---- */

static dt_status write_checksums(dt_h5 *h, const dt_array_content *k) {
    int64_t *checksum = malloc((size_t)k->n_samples * sizeof *checksum);
    if (!checksum) return dt_fail(DT_ERR_MEMORY, "out of memory for checksums");
    for (int64_t i = 0; i < k->n_samples; i++) {
        void *row[DT_FIELDS_MAX];
        for (int32_t f = 0; f < k->n_fields; f++)
            row[f] = (uint8_t *)(uintptr_t)k->data[f] + i * dt_field_bytes(&k->field[f]);
        checksum[i] = checksum_of(k->n_fields, k->field, row);
    }
    dt_status status = dt_h5_write(h, "checksum", DT_DTYPE_I64, 1, &k->n_samples, checksum);
    free(checksum);
    return status;
}

static dt_status write_all(dt_h5 *h, const dt_array_content *k) {
    char list[DT_FIELDS_MAX * DT_FIELD_NAME_MAX] = "";
    for (int32_t f = 0; f < k->n_fields; f++) {
        if (f > 0) strcat(list, " ");
        strcat(list, k->field[f].name);
    }
    DT_TRY(dt_h5_attr_set_str(h, "format", DT_SHARD_FORMAT));
    DT_TRY(dt_h5_attr_set_i64(h, "version", DT_SHARD_VERSION));
    DT_TRY(dt_h5_attr_set_str(h, "kind", DT_ARRAYS_KIND));
    DT_TRY(dt_h5_attr_set_str(h, "split", k->split));
    DT_TRY(dt_h5_attr_set_i64(h, "count", k->n_samples));
    DT_TRY(dt_h5_attr_set_str(h, "fields", list));
    DT_TRY(dt_h5_attr_set_str(h, "source", k->source));
    for (int32_t f = 0; f < k->n_fields; f++) {
        int64_t dim[DT_MAX_DIM] = {k->n_samples};
        for (int32_t i = 0; i < k->field[f].ndim; i++) dim[i + 1] = k->field[f].dim[i];
        DT_TRY(dt_h5_write(h, k->field[f].name, k->field[f].dtype, k->field[f].ndim + 1, dim, k->data[f]));
    }
    return write_checksums(h, k);
}

dt_status dt_array_shard_write(const char *dir, const char *name, const dt_array_content *content) {
    char *temporary = NULL, *path = NULL;
    dt_h5 *h = NULL;
    dt_status status = DT_OK;
    if (asprintf(&temporary, "%s/" DT_TEMPORARY_PREFIX "%s", dir, name) < 0) temporary = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0) path = NULL;
    if (!temporary || !path) {
        status = dt_fail(DT_ERR_MEMORY, "%s/%s: out of memory", dir, name);
        goto done;
    }
    DT_TRY_GOTO(status, dt_h5_create(temporary, &h), done);
    status = write_all(h, content);
    const dt_status closed = dt_h5_close(h);
    if (status == DT_OK) status = closed;
    if (status == DT_OK) status = dt_file_publish(temporary, path);
    if (status != DT_OK) unlink(temporary);
done:
    free(temporary);
    free(path);
    return status;
}

/* ---- a set ---- */

static dt_status check_alike(const dt_array_shard *a, const dt_array_shard *b) {
    if (a->n_fields != b->n_fields)
        return dt_fail(DT_ERR_DATA, "%s: %s, but %s has %d", b->path, dt_count_text(b->n_fields, "field").s,
                       a->path, a->n_fields);
    for (int32_t k = 0; k < a->n_fields; k++)
        if (!dt_field_same(&a->field[k], &b->field[k]))
            return dt_fail(DT_ERR_DATA, "%s: has %s where %s has %s", b->path, dt_field_text(&b->field[k]).s,
                           a->path, dt_field_text(&a->field[k]).s);
    return DT_OK;
}

/* What the index says of the set is what the shards, now open, hold. */
static dt_status check_index(const dt_arrays *a, const dt_index *index) {
    if (index->n_shards == 0) return DT_OK;
    for (int64_t i = 0; i < index->n_shards; i++)
        if (index->shard[i].n_samples != a->shard[i].n_samples)
            return dt_shard_set_differs(a->shard[i].path, "count", index->shard[i].n_samples,
                                        a->shard[i].n_samples);
    if (index->n_samples != a->n_samples)
        return dt_shard_set_differs(a->path, "count", index->n_samples, a->n_samples);
    if (index->n_fields != a->n_fields)
        return dt_shard_set_differs(a->path, "fields", index->n_fields, a->n_fields);
    for (int32_t k = 0; k < a->n_fields; k++)
        if (!dt_field_same(&index->field[k], &a->field[k]))
            return dt_fail(DT_ERR_DATA, "%s: " DT_INDEX_NAME " says %s, the shards say %s (import it again)",
                           a->path, dt_field_text(&index->field[k]).s, dt_field_text(&a->field[k]).s);
    return DT_OK;
}

dt_status dt_arrays_open_set(const dt_shard_set *set, dt_arrays *a) {
    *a = (dt_arrays){.path = NULL};
    a->path = strdup(set->path);
    a->shard = calloc((size_t)set->n, sizeof *a->shard);
    a->first = calloc((size_t)set->n + 1, sizeof *a->first);
    if (!a->path || !a->shard || !a->first) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", set->path);
    for (int64_t i = 0; i < set->n; i++) {
        dt_array_shard *s = &a->shard[a->n_shards++];
        DT_TRY(dt_array_shard_open(set->file[i], s));
        DT_TRY(check_alike(&a->shard[0], s));
        a->first[i + 1] = a->first[i] + s->n_samples;
    }
    a->n_samples = a->first[set->n];
    a->n_fields = a->shard[0].n_fields;
    memcpy(a->field, a->shard[0].field, sizeof a->field);
    return check_index(a, &set->index);
}

dt_status dt_arrays_open(const char *path, dt_arrays *out) {
    dt_shard_set set;
    *out = (dt_arrays){.path = NULL};
    dt_status status = dt_shard_set_open(path, &set);
    if (status == DT_OK) status = dt_arrays_open_set(&set, out);
    dt_shard_set_close(&set);
    return status;
}

void dt_arrays_close(dt_arrays *a) {
    for (int64_t i = 0; i < a->n_shards; i++) dt_array_shard_close(&a->shard[i]);
    free(a->shard);
    free(a->first);
    free(a->path);
    *a = (dt_arrays){.path = NULL};
}

const dt_array_shard *dt_arrays_locate(const dt_arrays *a, int64_t sample, int64_t *row) {
    const int64_t i = dt_shard_set_find(a->first, a->n_shards, sample);
    *row = sample - a->first[i];
    return &a->shard[i];
}
