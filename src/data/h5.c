/* HDF5 behind the calls of data/h5.h: files and datasets (h5_attr.c: attributes).
 *
 * One process-wide lock is held around every call: the library is either not thread-safe or serialised by a
 * lock of its own. Its error stack is silenced (per thread, so on every entry) and the innermost message, the
 * one that says "no space left" or "bad signature", goes into the error text. Object times are not recorded,
 * so that equal content gives equal bytes. Not here: what a shard or a checkpoint is made of. */
#include "h5_private.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/dir.h"

enum {
    H5_ALIGN_BYTES = 4096,      /* of large contiguous data: pages, direct I/O */
    H5_ALIGN_THRESHOLD = 65536, /* smaller objects stay packed */
    H5_COMPRESSION_MAX = 4096,  /* deflate reaches 1032 */
    H5_UNBOUNDED_BYTES =
        16 << 20, /* some filters keep a constant in no space: of so little all is believed */
};

static pthread_mutex_t h5_mutex = PTHREAD_MUTEX_INITIALIZER;
static bool h5_ready;

void dt_h5_lock(void) {
    pthread_mutex_lock(&h5_mutex);
    if (!h5_ready) {
        H5dont_atexit();
        h5_ready = H5open() >= 0;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void dt_h5_unlock(void) {
    pthread_mutex_unlock(&h5_mutex);
}

typedef struct h5_cause {
    char text[256];
} h5_cause;

/* Of "file write failed: time = ..., error message = 'No space left on device', ..." HDF5's words and the
 * system's, without the numbers around them. */
static herr_t take_innermost(unsigned n, const H5E_error2_t *e, void *arg) {
    static const char before[] = "error message = '";
    h5_cause *cause = arg;
    if (n != 0 || !e->desc) return 0;
    const char *colon = strstr(e->desc, ": "), *reason = strstr(e->desc, before);
    if (colon && reason && colon < reason) {
        reason += sizeof before - 1;
        snprintf(cause->text, sizeof cause->text, "%.*s: %.*s", (int)(colon - e->desc), e->desc,
                 (int)strcspn(reason, "'"), reason);
    } else {
        snprintf(cause->text, sizeof cause->text, "%s", e->desc);
    }
    return 0;
}

/* "path: what name: HDF5's innermost message". */
static dt_status h5_fail(dt_status status, const char *path, const char *what, const char *name) {
    h5_cause cause = {"unknown HDF5 error"};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &cause);
    H5Eclear2(H5E_DEFAULT);
    cause.text[strcspn(cause.text, "\r\n")] = 0; /* messages are one line */
    return dt_fail(status, "%s: %s%s%s: %s", path, what, *name ? " " : "", name, cause.text);
}

dt_status dt_h5_file_fail(const dt_h5 *h, const char *what, const char *name) {
    return h5_fail(h->writable ? DT_ERR_IO : DT_ERR_DATA, h->path, what, name);
}

/* IEEE 754 half precision, as h5py stores it; the library has it ready-made only lately. */
static hid_t half_type(void) {
    static hid_t type = -1;
    if (type >= 0) return type;
    const hid_t made = H5Tcopy(H5T_NATIVE_FLOAT);
    if (made >= 0 && H5Tset_fields(made, 15, 10, 5, 0, 10) >= 0 && H5Tset_ebias(made, 15) >= 0 &&
        H5Tset_size(made, 2) >= 0)
        type = made;
    return type;
}

/* Under the lock. */
static hid_t native_type(dt_dtype dtype) {
    switch (dtype) {
    case DT_DTYPE_F32:
        return H5T_NATIVE_FLOAT;
    case DT_DTYPE_F64:
        return H5T_NATIVE_DOUBLE;
    case DT_DTYPE_F16:
        return half_type();
    case DT_DTYPE_U8:
        return H5T_NATIVE_UINT8;
    case DT_DTYPE_I32:
        return H5T_NATIVE_INT32;
    case DT_DTYPE_I64:
        return H5T_NATIVE_INT64;
    default:
        return -1;
    }
}

/* The narrowest dtype that holds every value of a stored type, if there is one. */
static bool holding_dtype(H5T_class_t class, size_t size, bool is_signed, dt_dtype *out) {
    static const struct {
        H5T_class_t class;
        size_t size;
        bool is_signed;
        dt_dtype dtype;
    } rows[] = {
        {H5T_FLOAT, 2, true, DT_DTYPE_F16},   {H5T_FLOAT, 4, true, DT_DTYPE_F32},
        {H5T_FLOAT, 8, true, DT_DTYPE_F64},   {H5T_INTEGER, 1, false, DT_DTYPE_U8},
        {H5T_INTEGER, 1, true, DT_DTYPE_I32}, {H5T_INTEGER, 2, false, DT_DTYPE_I32},
        {H5T_INTEGER, 2, true, DT_DTYPE_I32}, {H5T_INTEGER, 4, false, DT_DTYPE_I64},
        {H5T_INTEGER, 4, true, DT_DTYPE_I32}, {H5T_INTEGER, 8, true, DT_DTYPE_I64},
        {H5T_ENUM, 1, false, DT_DTYPE_U8}, /* truth values, by h5py */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].class == class && rows[i].size == size && rows[i].is_signed == is_signed) {
            *out = rows[i].dtype;
            return true;
        }
    return false;
}

/* The dtype that a stored type is read as; `native` tells whether its bytes can be used as they lie. */
static bool stored_dtype(hid_t type, dt_dtype *dtype, bool *native) {
    const H5T_class_t class = H5Tget_class(type);
    const bool is_signed = class == H5T_FLOAT || (class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2);
    if (!holding_dtype(class, H5Tget_size(type), is_signed, dtype)) return false;
    *native = class == H5T_ENUM || H5Tequal(native_type(*dtype), type) > 0;
    return true;
}

/* Elements of these dims; false on a negative dim or when the bytes would overflow. */
static bool count_elements(int32_t ndim, const int64_t *dim, dt_dtype dtype, int64_t *n_elem) {
    int64_t n = 1;
    if (ndim < 0 || ndim > DT_MAX_DIM) return false;
    for (int32_t i = 0; i < ndim; i++)
        if (dim[i] < 0 || __builtin_mul_overflow(n, dim[i], &n)) return false;
    int64_t bytes;
    if (__builtin_mul_overflow(n, (int64_t)dt_dtype_size(dtype), &bytes)) return false;
    *n_elem = n;
    return true;
}

/* ---- files ---- */

/* NULL when out of memory. */
static dt_h5 *new_handle(const char *path, bool writable) {
    dt_h5 *h = calloc(1, sizeof *h);
    char *copy = strdup(path);
    if (!h || !copy) {
        free(h);
        free(copy);
        return NULL;
    }
    *h = (dt_h5){.file = -1, .writable = writable, .path = copy};
    return h;
}

static void free_handle(dt_h5 *h) {
    free(h->path);
    free(h);
}

/* What stands in the way of a new file the system says in plain words. */
static dt_status create_empty(const char *path) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd >= 0 && close(fd) == 0) return DT_OK;
    return dt_fail(DT_ERR_IO, "%s: cannot create the file: %s", path, dt_create_error(path, errno).s);
}

static dt_status create_locked(dt_h5 *h) {
    DT_TRY(create_empty(h->path));
    hid_t fcpl = H5Pcreate(H5P_FILE_CREATE), fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (fcpl >= 0 && fapl >= 0 && H5Pset_obj_track_times(fcpl, false) >= 0 &&
        H5Pset_alignment(fapl, H5_ALIGN_THRESHOLD, H5_ALIGN_BYTES) >= 0 &&
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0)
        h->file = H5Fcreate(h->path, H5F_ACC_TRUNC, fcpl, fapl);
    dt_status status = h->file >= 0 ? DT_OK : h5_fail(DT_ERR_IO, h->path, "cannot create the file", "");
    if (fcpl >= 0) H5Pclose(fcpl);
    if (fapl >= 0) H5Pclose(fapl);
    return status;
}

static dt_status open_locked(dt_h5 *h) {
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    /* Readers need no lock file support from the file system: finished files do not change. */
    if (fapl >= 0 && H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_file_locking(fapl, false, true) >= 0)
        h->file = H5Fopen(h->path, H5F_ACC_RDONLY, fapl);
    dt_status status =
        h->file >= 0 ? DT_OK : h5_fail(DT_ERR_DATA, h->path, "cannot open as an HDF5 file", "");
    if (fapl >= 0) H5Pclose(fapl);
    return status;
}

static dt_status open_or_create(const char *path, bool writable, dt_h5 **out) {
    *out = NULL;
    dt_h5 *h = new_handle(path, writable);
    if (!h) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_h5_lock();
    dt_status status = writable ? create_locked(h) : open_locked(h);
    dt_h5_unlock();
    if (status != DT_OK) {
        free_handle(h);
        return status;
    }
    *out = h;
    return DT_OK;
}

dt_status dt_h5_create(const char *path, dt_h5 **out) {
    return open_or_create(path, true, out);
}

dt_status dt_h5_open(const char *path, dt_h5 **out) {
    struct stat st;
    *out = NULL;
    bool there = stat(path, &st) == 0;
    if (there && !S_ISREG(st.st_mode)) /* HDF5 would wait for ever on a FIFO */
        return dt_fail(DT_ERR_DATA, "%s: not a regular file", path);
    DT_TRY(open_or_create(path, false, out));
    (*out)->file_bytes = there ? st.st_size : 0;
    return DT_OK;
}

dt_status dt_h5_close(dt_h5 *h) {
    if (!h) return DT_OK;
    dt_status status = DT_OK;
    dt_h5_lock();
    /* Flushed first: after a failed write the close itself may report success. */
    if (h->writable && H5Fflush(h->file, H5F_SCOPE_LOCAL) < 0)
        status = dt_h5_file_fail(h, "cannot write the file out", "");
    if (H5Fclose(h->file) < 0 && status == DT_OK) status = dt_h5_file_fail(h, "cannot close the file", "");
    dt_h5_unlock();
    free_handle(h);
    return status;
}

/* ---- writing ---- */

static hid_t creation_plist(const dt_h5_new *n) {
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (dcpl < 0) return -1;
    bool ok = H5Pset_obj_track_times(dcpl, false) >= 0 && H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) >= 0;
    if (n->early) ok = ok && H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) >= 0;
    if (ok) return dcpl;
    H5Pclose(dcpl);
    return -1;
}

/* Creates the dataset and the groups on its way; -1 on failure. */
static hid_t create_dataset(const dt_h5 *h, const char *name, const dt_h5_new *n) {
    hid_t space = n->ndim ? H5Screate_simple(n->ndim, n->dim, NULL) : H5Screate(H5S_SCALAR);
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE), dcpl = creation_plist(n), set = -1;
    if (space >= 0 && lcpl >= 0 && dcpl >= 0 && H5Pset_create_intermediate_group(lcpl, 1) >= 0)
        set = H5Dcreate2(h->file, name, n->type, space, lcpl, dcpl, H5P_DEFAULT);
    if (dcpl >= 0) H5Pclose(dcpl);
    if (lcpl >= 0) H5Pclose(lcpl);
    if (space >= 0) H5Sclose(space);
    return set;
}

static dt_status check_new(const dt_h5 *h, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim,
                           dt_h5_new *n) {
    int64_t n_elem;
    if (!h->writable)
        return dt_fail(DT_ERR_INTERNAL, "%s: opened for reading, cannot write %s", h->path, name);
    dt_h5_lock();
    hid_t type = native_type(dtype);
    dt_h5_unlock();
    if (type < 0)
        return dt_fail(DT_ERR_INTERNAL, "%s: %s: type %s is not storable", h->path, name,
                       dt_dtype_name(dtype));
    if (!count_elements(ndim, dim, dtype, &n_elem))
        return dt_fail(DT_ERR_INTERNAL, "%s: %s: dims out of range", h->path, name);
    *n = (dt_h5_new){.type = type, .ndim = ndim};
    for (int32_t i = 0; i < ndim; i++) n->dim[i] = (hsize_t)dim[i];
    return DT_OK;
}

dt_status dt_h5_set_write(dt_h5 *h, const char *name, const dt_h5_new *n, const void *data) {
    dt_status status = DT_OK;
    dt_h5_lock();
    hid_t set = create_dataset(h, name, n);
    if (set < 0)
        status = dt_h5_file_fail(h, "cannot create", name);
    else {
        if (H5Dwrite(set, n->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
            status = dt_h5_file_fail(h, "cannot write", name);
        if (H5Dclose(set) < 0 && status == DT_OK) status = dt_h5_file_fail(h, "cannot close", name);
    }
    dt_h5_unlock();
    return status;
}

dt_status dt_h5_write(dt_h5 *h, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim,
                      const void *data) {
    dt_h5_new n;
    DT_TRY(check_new(h, name, dtype, ndim, dim, &n));
    return dt_h5_set_write(h, name, &n, data);
}

dt_status dt_h5_reserve(dt_h5 *h, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim,
                        int64_t *offset_bytes) {
    dt_h5_new n;
    DT_TRY(check_new(h, name, dtype, ndim, dim, &n));
    n.early = true;
    dt_status status = DT_OK;
    dt_h5_lock();
    hid_t set = create_dataset(h, name, &n);
    haddr_t offset = set >= 0 ? H5Dget_offset(set) : HADDR_UNDEF;
    bool empty = false;
    for (int32_t i = 0; i < ndim; i++) empty = empty || dim[i] == 0;
    if (set < 0 || (offset == HADDR_UNDEF && !empty)) status = dt_h5_file_fail(h, "cannot reserve", name);
    if (set >= 0 && H5Dclose(set) < 0 && status == DT_OK) status = dt_h5_file_fail(h, "cannot close", name);
    dt_h5_unlock();
    *offset_bytes = empty ? 0 : (int64_t)offset;
    return status;
}

/* ---- reading ---- */

/* Where the data lie. External files and virtual datasets are refused: a shard must not name other files
 * (links to them: open_dataset). */
static bool stored_layout(hid_t set, bool native, dt_h5_info *info) {
    hid_t dcpl = H5Dget_create_plist(set);
    if (dcpl < 0) return false;
    H5D_layout_t layout = H5Pget_layout(dcpl);
    int n_filter = H5Pget_nfilters(dcpl), n_external = H5Pget_external_count(dcpl);
    H5Pclose(dcpl);
    if (layout < 0 || layout == H5D_VIRTUAL || n_filter < 0 || n_external != 0) return false;
    info->offset_bytes = -1;
    if (layout == H5D_CONTIGUOUS && native) {
        haddr_t offset = H5Dget_offset(set);
        if (offset != HADDR_UNDEF && offset <= INT64_MAX) info->offset_bytes = (int64_t)offset;
    }
    return true;
}

static dt_status describe(const dt_h5 *h, hid_t set, const char *name, dt_h5_info *info) {
    dt_status status = DT_OK;
    hsize_t dim[DT_MAX_DIM] = {0};
    bool native = false;
    *info = (dt_h5_info){0};
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    if (space < 0 || type < 0) {
        status = dt_h5_file_fail(h, "cannot read the header of", name);
        goto done;
    }
    if (!stored_dtype(type, &info->dtype, &native)) {
        H5T_class_t class = H5Tget_class(type);
        status = dt_fail(DT_ERR_DATA, "%s: %s is %s", h->path, name,
                         class == H5T_INTEGER ? "of an integer type that i64 does not hold (u64)"
                         : class == H5T_FLOAT ? "of a floating-point type other than f16, f32 and f64"
                                              : "not of a number's type");
        goto done;
    }
    int ndim = H5Sget_simple_extent_ndims(space);
    if (ndim < 0 || ndim > DT_MAX_DIM || H5Sget_simple_extent_type(space) == H5S_NULL ||
        H5Sget_simple_extent_dims(space, dim, NULL) < 0) {
        status = dt_fail(DT_ERR_DATA, "%s: %s has no dims or more than %d", h->path, name, DT_MAX_DIM);
        goto done;
    }
    info->ndim = ndim;
    for (int i = 0; i < ndim; i++) info->dim[i] = dim[i] > INT64_MAX ? -1 : (int64_t)dim[i];
    if (!count_elements(info->ndim, info->dim, info->dtype, &info->n_elem))
        status = dt_fail(DT_ERR_DATA, "%s: %s: dims out of range", h->path, name);
    else if (!stored_layout(set, native, info))
        status = dt_fail(DT_ERR_DATA, "%s: %s has a layout that is not contiguous, compact or chunked",
                         h->path, name);
done:
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return status;
}

/* Called by HDF5 before it opens the file that an external link names, which may be anything, a FIFO too. */
static herr_t refuse_link(const char *parent_file, const char *parent_group, const char *file,
                          const char *object, unsigned *flags, hid_t fapl, void *refused) {
    (void)parent_file, (void)parent_group, (void)file, (void)object, (void)flags, (void)fapl;
    *(bool *)refused = true;
    return -1;
}

/* Opens a dataset of this very file; hard and soft links to it are followed. -1 on failure; `refused` tells
 * whether an external link stands at the name, on the way to it or where a soft link leads. */
static hid_t open_dataset(const dt_h5 *h, const char *name, bool *refused) {
    hid_t dapl = H5Pcreate(H5P_DATASET_ACCESS), set = -1;
    *refused = false;
    if (dapl >= 0 && H5Pset_elink_cb(dapl, refuse_link, refused) >= 0) set = H5Dopen2(h->file, name, dapl);
    if (dapl >= 0) H5Pclose(dapl);
    if (set < 0) H5Eclear2(H5E_DEFAULT);
    return set;
}

dt_status dt_h5_set_open(const dt_h5 *h, const char *name, hid_t *set, dt_h5_info *info) {
    bool refused;
    *set = open_dataset(h, name, &refused);
    if (refused)
        return dt_fail(DT_ERR_DATA,
                       "%s: %s is behind a link to another file, which is not followed (a file must hold its "
                       "data itself)",
                       h->path, name);
    if (*set < 0) return dt_fail(DT_ERR_DATA, "%s: no dataset %s", h->path, name);
    dt_status status = describe(h, *set, name, info);
    if (status != DT_OK) H5Dclose(*set);
    return status;
}

/* That the file holds as much as the dims say, so that a caller can allocate by them. */
static dt_status check_stored(const dt_h5 *h, hid_t set, const char *name, const dt_h5_info *info) {
    int64_t claimed = info->n_elem * (int64_t)dt_dtype_size(info->dtype);
    hid_t dcpl = H5Dget_create_plist(set);
    bool chunked = dcpl >= 0 && H5Pget_layout(dcpl) == H5D_CHUNKED;
    if (dcpl >= 0) H5Pclose(dcpl);
    hsize_t stored = H5Dget_storage_size(set); /* 0 also on failure */
    H5Eclear2(H5E_DEFAULT);
    if (claimed == 0) return DT_OK;
    if (stored == 0)
        return dt_fail(DT_ERR_DATA, "%s: %s has no data in the file (write it, or make the file again)",
                       h->path, name);
    bool enough = chunked ? claimed <= H5_UNBOUNDED_BYTES || (hsize_t)claimed / H5_COMPRESSION_MAX <= stored
                          : (hsize_t)claimed <= stored;
    if (!enough || stored > (hsize_t)h->file_bytes)
        return dt_fail(
            DT_ERR_DATA,
            "%s: %s should have %lld bytes, but %llu are stored in a file of %lld (write all of it, "
            "or make the file again)",
            h->path, name, (long long)claimed, (unsigned long long)stored, (long long)h->file_bytes);
    return DT_OK;
}

dt_status dt_h5_info_get(dt_h5 *h, const char *name, dt_h5_info *out) {
    hid_t set;
    dt_h5_lock();
    dt_status status = dt_h5_set_open(h, name, &set, out);
    if (status == DT_OK) {
        if (!h->writable) status = check_stored(h, set, name, out);
        if (H5Dclose(set) < 0 && status == DT_OK) status = dt_h5_file_fail(h, "cannot close", name);
    }
    dt_h5_unlock();
    return status;
}

bool dt_h5_has(dt_h5 *h, const char *name) {
    bool refused;
    dt_h5_lock();
    /* Opening is the one test that also fails for a missing group on the way. What is behind an external link
     * counts as there, so that reading it says what is wrong. */
    hid_t set = open_dataset(h, name, &refused);
    if (set >= 0) H5Dclose(set);
    dt_h5_unlock();
    return set >= 0 || refused;
}

static bool is_float(dt_dtype dtype) {
    return dtype == DT_DTYPE_F16 || dtype == DT_DTYPE_F32 || dtype == DT_DTYPE_F64;
}

static bool same_class(dt_dtype a, dt_dtype b) {
    return is_float(a) == is_float(b);
}

/* Integers convert to integers and floats to floats; a float where an integer belongs is a foreign file. */
static dt_status check_read(const dt_h5 *h, const char *name, const dt_h5_info *info, dt_dtype dtype) {
    if (native_type(dtype) < 0)
        return dt_fail(DT_ERR_INTERNAL, "%s: %s: cannot read as %s", h->path, name, dt_dtype_name(dtype));
    if (!same_class(info->dtype, dtype))
        return dt_fail(DT_ERR_DATA, "%s: %s is of type %s, expected %s", h->path, name,
                       dt_dtype_name(info->dtype), dt_dtype_name(dtype));
    return DT_OK;
}

dt_status dt_h5_read(dt_h5 *h, const char *name, dt_dtype dtype, int64_t n_elem, void *dst) {
    dt_h5_info info;
    hid_t set = -1;
    dt_h5_lock();
    dt_status status = dt_h5_set_open(h, name, &set, &info);
    if (status != DT_OK) goto unlock;
    DT_TRY_GOTO(status, check_read(h, name, &info, dtype), close);
    if (info.n_elem != n_elem) {
        status = dt_fail(DT_ERR_DATA, "%s: %s has %lld elements, expected %lld", h->path, name,
                         (long long)info.n_elem, (long long)n_elem);
        goto close;
    }
    if (n_elem && H5Dread(set, native_type(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, dst) < 0)
        status = dt_h5_file_fail(h, "cannot read", name);
close:
    if (H5Dclose(set) < 0 && status == DT_OK) status = dt_h5_file_fail(h, "cannot close", name);
unlock:
    dt_h5_unlock();
    return status;
}

static dt_status read_slab(const dt_h5 *h, hid_t set, const char *name, const dt_h5_info *info,
                           dt_dtype dtype, int64_t row0, int64_t n_rows, void *dst) {
    hsize_t start[DT_MAX_DIM] = {(hsize_t)row0}, count[DT_MAX_DIM] = {(hsize_t)n_rows};
    for (int32_t i = 1; i < info->ndim; i++) count[i] = (hsize_t)info->dim[i];
    dt_status status = DT_OK;
    hid_t file_space = H5Dget_space(set), memory_space = H5Screate_simple(info->ndim, count, NULL);
    if (file_space < 0 || memory_space < 0 ||
        H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dread(set, native_type(dtype), memory_space, file_space, H5P_DEFAULT, dst) < 0)
        status = dt_h5_file_fail(h, "cannot read rows of", name);
    if (file_space >= 0) H5Sclose(file_space);
    if (memory_space >= 0) H5Sclose(memory_space);
    return status;
}

dt_status dt_h5_read_rows(dt_h5 *h, const char *name, dt_dtype dtype, int64_t row0, int64_t n_rows,
                          void *dst) {
    dt_h5_info info;
    hid_t set = -1;
    dt_h5_lock();
    dt_status status = dt_h5_set_open(h, name, &set, &info);
    if (status != DT_OK) goto unlock;
    DT_TRY_GOTO(status, check_read(h, name, &info, dtype), close);
    if (info.ndim < 1 || row0 < 0 || n_rows < 0 || row0 > info.dim[0] || n_rows > info.dim[0] - row0)
        status = dt_fail(DT_ERR_DATA, "%s: %s has %lld rows, wanted %lld from row %lld", h->path, name,
                         (long long)(info.ndim ? info.dim[0] : 1), (long long)n_rows, (long long)row0);
    else if (n_rows && info.n_elem)
        status = read_slab(h, set, name, &info, dtype, row0, n_rows, dst);
close:
    if (H5Dclose(set) < 0 && status == DT_OK) status = dt_h5_file_fail(h, "cannot close", name);
unlock:
    dt_h5_unlock();
    return status;
}
