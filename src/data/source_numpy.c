/* NumPy's files: .npy, one array each, and .npz, a zip file of them. Arrays that lie in a file as they are get
 * read from there; deflated ones are unpacked into memory. */
#include "array_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/text.h"
#include "arrays.h"
#include "files.h"
#include "data/npy.h"
#include "zip.h"

enum { COLUMN_ROWS = 1 << 16 }; /* of an array in Fortran order, read at once */

/* One array: in a file from `begin` on, or in memory. */
typedef struct array {
    char *label; /* owned: how errors call it */
    int fd;      /* borrowed where `owned_fd` is false */
    bool owned_fd;
    int64_t begin;
    uint8_t *memory; /* owned; NULL: in the file */
    dt_npy npy;
} array;

typedef struct numpy_state {
    int32_t n;
    array array[DT_FIELDS_MAX];
    dt_zip zip;
} numpy_state;

static dt_status read_bytes(const array *a, int64_t at, int64_t n, void *dst) {
    if (!a->memory) return dt_file_pread(a->label, a->fd, a->begin + at, n, dst);
    memcpy(dst, a->memory + at, (size_t)n);
    return DT_OK;
}

static dt_status open_array(array *a, int64_t n_bytes) {
    const int64_t n = dt_min_i64(n_bytes, DT_NPY_HEAD_MAX);
    uint8_t *head = malloc((size_t)n + 1);
    dt_status status = head ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", a->label);
    if (status == DT_OK) status = read_bytes(a, 0, n, head);
    if (status == DT_OK) status = dt_npy_parse(a->label, head, n_bytes, &a->npy);
    free(head);
    return status;
}

/* Number e of a row, in C order. */
static dt_status not_a_number(const array *a, int64_t row, int64_t e) {
    const dt_npy *npy = &a->npy;
    int64_t index[DT_MAX_DIM] = {0};
    char place[24 * DT_MAX_DIM] = "";
    for (int32_t i = npy->ndim - 1; i > 0; i--) {
        index[i] = e % npy->dim[i];
        e /= npy->dim[i];
    }
    for (int32_t i = 1; i < npy->ndim; i++) {
        const size_t used = strlen(place);
        snprintf(place + used, sizeof place - used, ", %lld", (long long)index[i]);
    }
    return dt_fail(DT_ERR_DATA, "%s: [%lld%s] is %s: take the row out, or put a number in its place",
                   a->label, (long long)row, place,
                   npy->type == 'f'   ? npy->elem_size == 8
                                            ? "not finite, or too large for fp32, in which networks compute"
                                            : "not finite"
                   : npy->type == 'b' ? "neither true nor false"
                                      : "too large for 64 bits with a sign");
}

/* Runs of rows that follow each other are read at once. */
static dt_status load_c(const array *a, const int64_t *row, int64_t n, uint8_t *dst) {
    const int64_t row_bytes = a->npy.row_elem * a->npy.elem_size,
                  out_bytes = a->npy.row_elem * (int64_t)dt_dtype_size(a->npy.dtype);
    const int64_t run_max = dt_max_i64(1, (4 << 20) / row_bytes);
    uint8_t *bytes = malloc((size_t)(run_max * row_bytes));
    dt_status status = bytes ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", a->label);
    for (int64_t i = 0, run; i < n && status == DT_OK; i += run) {
        for (run = 1; i + run < n && run < run_max && row[i + run] == row[i] + run;) run++;
        status = read_bytes(a, a->npy.data_offset + row[i] * row_bytes, run * row_bytes, bytes);
        if (status != DT_OK) break;
        const int64_t bad = dt_npy_convert(&a->npy, bytes, run * a->npy.row_elem, dst + i * out_bytes);
        if (bad >= 0) status = not_a_number(a, row[i] + bad / a->npy.row_elem, bad % a->npy.row_elem);
    }
    free(bytes);
    return status;
}

/* Element e of a row in C order, as it is counted in Fortran order. */
static int64_t fortran_place(const dt_npy *npy, int64_t e) {
    int64_t place = 0;
    for (int32_t i = npy->ndim - 1; i > 0; i--) {
        int64_t stride = 1; /* in elements of a row, of dimension i */
        for (int32_t k = 1; k < i; k++) stride *= npy->dim[k];
        place += e % npy->dim[i] * stride;
        e /= npy->dim[i];
    }
    return place;
}

/* The same element of all rows lies together: a column at a time, of the rows between the first and the last
 * wanted. */
static dt_status load_fortran(const array *a, const int64_t *row, int64_t n, uint8_t *dst) {
    const dt_npy *npy = &a->npy;
    const int64_t size = npy->elem_size, out_size = (int64_t)dt_dtype_size(npy->dtype);
    uint8_t *column = malloc((size_t)(COLUMN_ROWS * size));
    dt_status status = column ? DT_OK : dt_fail(DT_ERR_MEMORY, "%s: out of memory", a->label);
    for (int64_t i = 0, end; i < n && status == DT_OK; i = end) {
        for (end = i + 1; end < n && row[end] - row[i] < COLUMN_ROWS;) end++;
        const int64_t rows = row[end - 1] - row[i] + 1;
        for (int64_t e = 0; e < npy->row_elem && status == DT_OK; e++) {
            const int64_t at = fortran_place(npy, e) * npy->dim[0] + row[i];
            status = read_bytes(a, npy->data_offset + at * size, rows * size, column);
            for (int64_t k = i; k < end && status == DT_OK; k++)
                if (dt_npy_convert(npy, column + (row[k] - row[i]) * size, 1,
                                   dst + (k * npy->row_elem + e) * out_size) >= 0)
                    status = not_a_number(a, row[k], e);
        }
    }
    free(column);
    return status;
}

static dt_status load_rows(const void *state, int32_t k, const int64_t *row, int64_t n, void *dst) {
    const array *a = &((const numpy_state *)state)->array[k];
    return a->npy.fortran && a->npy.ndim > 1 ? load_fortran(a, row, n, dst) : load_c(a, row, n, dst);
}

static void close_numpy(void *state) {
    numpy_state *s = state;
    for (int32_t i = 0; i < s->n; i++) {
        array *a = &s->array[i];
        if (a->owned_fd && a->fd >= 0) close(a->fd);
        free(a->label);
        free(a->memory);
    }
    dt_zip_close(&s->zip);
    free(s);
}

static dt_status begin(dt_array_source *out) {
    numpy_state *s = calloc(1, sizeof *s);
    *out = (dt_array_source){.state = s, .load = load_rows, .close = s ? close_numpy : NULL};
    if (!s) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    s->zip.fd = -1;
    return DT_OK;
}

/* Adds the array that the state has got as its last, under this name. */
static dt_status add_field(dt_array_source *out, const char *name) {
    const numpy_state *s = out->state;
    const array *a = &s->array[s->n - 1];
    dt_field *f = &out->field[out->n_fields];
    const char *label = a->label;
    if (!dt_array_name_is(name))
        return dt_fail(DT_ERR_DATA,
                       "%s: \"%s\" is no name for a field: expected letters, digits and '_', fewer than %d, "
                       "and neither \"checksum\" nor \"valid\"",
                       label, name, DT_FIELD_NAME_MAX);
    for (int32_t i = 0; i < out->n_fields; i++)
        if (strcmp(out->field[i].name, name) == 0)
            return dt_fail(s->zip.fd >= 0 ? DT_ERR_DATA : DT_ERR_USAGE, "%s: there are two arrays \"%s\"",
                           label, name);
    if (out->n_fields > 0 && a->npy.dim[0] != out->n_rows)
        return dt_fail(DT_ERR_DATA, "%s has %s, but %s has %lld: each row is a sample", label,
                       dt_count_text(a->npy.dim[0], "row").s, s->array[0].label, (long long)out->n_rows);
    out->n_rows = a->npy.dim[0];
    *f = (dt_field){.dtype = a->npy.dtype, .ndim = a->npy.ndim - 1};
    strcpy(f->name, name);
    for (int32_t i = 0; i < f->ndim; i++) f->dim[i] = a->npy.dim[i + 1];
    out->identity = XXH3_64bits_withSeed(name, strlen(name), out->identity);
    out->n_fields++;
    return DT_OK;
}

/* The next array of the state, with its label. */
static dt_status new_array(numpy_state *s, const char *path, const char *member, array **out) {
    if (s->n == DT_ARRAY_FIELDS_MAX)
        return dt_fail(DT_ERR_DATA, "%s: more than %d arrays: name those that are wanted", path,
                       DT_ARRAY_FIELDS_MAX);
    array *a = *out = &s->array[s->n++];
    *a = (array){.fd = -1};
    if (asprintf(&a->label, "%s%s%s", path, member ? ": " : "", member ? member : "") < 0) {
        a->label = NULL;
        return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    }
    return DT_OK;
}

/* ---- .npy ---- */

static dt_status add_file(dt_array_source *out, const char *path, const char *name) {
    array *a = NULL;
    int64_t n_bytes;
    uint64_t hash;
    DT_TRY(new_array(out->state, path, NULL, &a));
    DT_TRY(dt_file_open(path, &a->fd, &n_bytes));
    a->owned_fd = true;
    DT_TRY(open_array(a, n_bytes));
    DT_TRY(dt_file_hash(path, 0, NULL, &hash, &n_bytes));
    out->identity ^= hash;
    return add_field(out, name);
}

/* "NAME=FILE", or a file alone, which is x. */
static dt_status add_input(dt_array_source *out, const char *input) {
    char name[DT_FIELD_NAME_MAX] = "x";
    const char *equals = strchr(input, '=');
    if (equals && equals - input < DT_FIELD_NAME_MAX) {
        snprintf(name, sizeof name, "%.*s", (int)(equals - input), input);
        if (dt_array_name_is(name))
            input = equals + 1;
        else
            strcpy(name, "x");
    }
    return add_file(out, input, name);
}

dt_status dt_source_npy(const dt_import_options *o, dt_array_source *out) {
    DT_TRY(begin(out));
    if (o->x) DT_TRY(add_file(out, o->x, "x"));
    for (int32_t i = 0; i < o->n_input; i++) DT_TRY(add_input(out, o->input[i]));
    if (o->y) DT_TRY(add_file(out, o->y, "y"));
    if (out->n_fields > 0) return DT_OK;
    return dt_fail(DT_ERR_USAGE, "import npy: give the file of x, and that of y as --y FILE");
}

/* ---- .npz ---- */

static dt_status add_member(dt_array_source *out, const dt_zip_member *m, const char *name) {
    numpy_state *s = out->state;
    array *a = NULL;
    DT_TRY(new_array(s, s->zip.path, m->name, &a));
    if (m->deflated) {
        DT_TRY(dt_zip_unpack(&s->zip, m, &a->memory));
    } else {
        DT_TRY(dt_zip_check(&s->zip, m));
        a->fd = s->zip.fd;
        a->begin = m->offset;
    }
    DT_TRY(open_array(a, m->n_bytes));
    const uint64_t words[] = {m->crc, (uint64_t)m->n_bytes};
    out->identity = XXH3_64bits_withSeed(words, sizeof words, out->identity);
    return add_field(out, name);
}

/* The name of a member without its ".npy". */
static bool key_of(const dt_zip_member *m, char key[256]) {
    const size_t n = strlen(m->name);
    if (n < 5 || n > 255 || strcmp(m->name + n - 4, ".npy") != 0) return false;
    snprintf(key, 256, "%.*s", (int)(n - 4), m->name);
    return true;
}

static dt_status no_key(const dt_zip *z, const char *wanted) {
    char shown[512] = "", key[256];
    size_t at = 0;
    for (int64_t i = 0; i < z->n_members && at < sizeof shown; i++)
        if (key_of(&z->member[i], key))
            at += (size_t)snprintf(shown + at, sizeof shown - at, "%s%s", at ? ", " : "", key);
    return dt_fail(DT_ERR_DATA, "%s: no array \"%s\" in it: it has %s", z->path, wanted,
                   *shown ? shown : "none at all");
}

static dt_status add_key(dt_array_source *out, const char *wanted, const char *name) {
    const dt_zip *z = &((const numpy_state *)out->state)->zip;
    char key[256];
    for (int64_t i = 0; i < z->n_members; i++)
        if (key_of(&z->member[i], key) && strcmp(key, wanted) == 0)
            return add_member(out, &z->member[i], name);
    return no_key(z, wanted);
}

static dt_status add_all(dt_array_source *out) {
    const dt_zip *z = &((const numpy_state *)out->state)->zip;
    char key[256];
    for (int64_t i = 0; i < z->n_members; i++) {
        if (!key_of(&z->member[i], key))
            return dt_fail(DT_ERR_DATA, "%s: %s in it is no .npy file: name the arrays with --x and --y",
                           z->path, z->member[i].name);
        DT_TRY(add_member(out, &z->member[i], key));
    }
    return out->n_fields > 0 ? DT_OK : no_key(z, "x");
}

dt_status dt_source_npz(const dt_import_options *o, dt_array_source *out) {
    DT_TRY(begin(out));
    if (o->n_input != 1) return dt_fail(DT_ERR_USAGE, "import npz: give one .npz file");
    DT_TRY(dt_zip_open(o->input[0], &((numpy_state *)out->state)->zip));
    if (!o->x && !o->y) return add_all(out);
    if (o->x) DT_TRY(add_key(out, o->x, "x"));
    return o->y ? add_key(out, o->y, "y") : DT_OK;
}
