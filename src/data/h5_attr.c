/* Root attributes of an HDF5 file: integers, reals and strings.
 *
 * Strings are written with variable length, since fixed-length ones are limited to 64 KiB and h5py shows them
 * as bytes; both kinds are read, in UTF-8 or ASCII. What a file claims about sizes is bounded before anything
 * is allocated. */
#include "h5_private.h"

#include <stdlib.h>
#include <string.h>

enum { STR_MAX_BYTES = 64 << 20 };

static dt_status set_attr(dt_h5 *h, const char *name, hid_t type, const void *value) {
    dt_status status = DT_OK;
    hid_t space = -1, attr = -1;
    if (!h->writable) return dt_fail(DT_ERR_INTERNAL, "%s: opened for reading, cannot set %s", h->path, name);
    htri_t exists = H5Aexists(h->file, name);
    if (exists < 0 || (exists > 0 && H5Adelete(h->file, name) < 0) || (space = H5Screate(H5S_SCALAR)) < 0 ||
        (attr = H5Acreate2(h->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT)) < 0 ||
        H5Awrite(attr, type, value) < 0)
        status = dt_h5_file_fail(h, "cannot write attribute", name);
    if (attr >= 0 && H5Aclose(attr) < 0 && status == DT_OK)
        status = dt_h5_file_fail(h, "cannot close attribute", name);
    if (space >= 0) H5Sclose(space);
    return status;
}

dt_status dt_h5_attr_set_i64(dt_h5 *h, const char *name, int64_t value) {
    dt_h5_lock();
    dt_status status = set_attr(h, name, H5T_NATIVE_INT64, &value);
    dt_h5_unlock();
    return status;
}

dt_status dt_h5_attr_set_f64(dt_h5 *h, const char *name, double value) {
    dt_h5_lock();
    dt_status status = set_attr(h, name, H5T_NATIVE_DOUBLE, &value);
    dt_h5_unlock();
    return status;
}

/* String of variable length; -1 on failure. */
static hid_t string_type(H5T_cset_t cset) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return -1;
    if (H5Tset_size(type, H5T_VARIABLE) >= 0 && H5Tset_cset(type, cset) >= 0) return type;
    H5Tclose(type);
    return -1;
}

dt_status dt_h5_attr_set_str(dt_h5 *h, const char *name, const char *value) {
    dt_h5_lock();
    hid_t type = string_type(H5T_CSET_UTF8);
    dt_status status =
        type >= 0 ? set_attr(h, name, type, &value) : dt_h5_file_fail(h, "cannot write attribute", name);
    if (type >= 0) H5Tclose(type);
    dt_h5_unlock();
    return status;
}

dt_status dt_h5_attr_has(dt_h5 *h, const char *name, bool *out) {
    dt_h5_lock();
    htri_t exists = H5Aexists(h->file, name);
    *out = exists > 0;
    dt_status status = exists < 0 ? dt_h5_file_fail(h, "cannot look for attribute", name) : DT_OK;
    dt_h5_unlock();
    return status;
}

/* Opens a scalar (or one-element) attribute of this class. */
static dt_status open_attr(const dt_h5 *h, const char *name, H5T_class_t class, hid_t *attr, hid_t *type) {
    *attr = *type = -1;
    htri_t exists = H5Aexists(h->file, name);
    if (exists < 0) return dt_h5_file_fail(h, "cannot look for attribute", name);
    if (exists == 0) return dt_fail(DT_ERR_DATA, "%s: no attribute %s", h->path, name);
    hid_t space = -1;
    dt_status status = DT_OK;
    if ((*attr = H5Aopen(h->file, name, H5P_DEFAULT)) < 0 || (*type = H5Aget_type(*attr)) < 0 ||
        (space = H5Aget_space(*attr)) < 0)
        status = dt_h5_file_fail(h, "cannot read attribute", name);
    else if (H5Tget_class(*type) != class || H5Sget_simple_extent_npoints(space) != 1)
        status = dt_fail(DT_ERR_DATA, "%s: attribute %s is not one %s (write it as one, or leave it out)",
                         h->path, name, class == H5T_STRING ? "string" : "integer");
    if (space >= 0) H5Sclose(space);
    return status;
}

static void close_attr(hid_t attr, hid_t type) {
    if (type >= 0) H5Tclose(type);
    if (attr >= 0) H5Aclose(attr);
}

dt_status dt_h5_attr_get_i64(dt_h5 *h, const char *name, int64_t *out) {
    hid_t attr, type;
    dt_h5_lock();
    dt_status status = open_attr(h, name, H5T_INTEGER, &attr, &type);
    if (status == DT_OK && H5Aread(attr, H5T_NATIVE_INT64, out) < 0)
        status = dt_h5_file_fail(h, "cannot read attribute", name);
    close_attr(attr, type);
    dt_h5_unlock();
    return status;
}

/* In the character set it is stored in: HDF5 does not convert between them. */
static dt_status read_variable(const dt_h5 *h, const char *name, hid_t attr, hid_t stored, char **out) {
    hid_t type = string_type(H5Tget_cset(stored));
    char *text = NULL; /* stays so where the string is empty */
    dt_status status = DT_OK;
    if (type < 0 || H5Aread(attr, type, &text) < 0)
        status = dt_h5_file_fail(h, "cannot read attribute", name);
    else if (!(*out = strdup(text ? text : "")))
        status = dt_fail(DT_ERR_MEMORY, "%s: attribute %s: out of memory", h->path, name);
    if (text) H5free_memory(text);
    if (type >= 0) H5Tclose(type);
    return status;
}

static dt_status read_fixed(const dt_h5 *h, const char *name, hid_t attr, hid_t type, char **out) {
    size_t size = H5Tget_size(type);
    if (size == 0 || size > STR_MAX_BYTES)
        return dt_fail(DT_ERR_DATA, "%s: attribute %s: size out of range", h->path, name);
    char *text = calloc(1, size + 1);
    if (!text) return dt_fail(DT_ERR_MEMORY, "%s: attribute %s: out of memory", h->path, name);
    if (H5Aread(attr, type, text) < 0) {
        free(text);
        return dt_h5_file_fail(h, "cannot read attribute", name);
    }
    *out = text;
    return DT_OK;
}

dt_status dt_h5_attr_get_str(dt_h5 *h, const char *name, char **out) {
    hid_t attr, type;
    *out = NULL;
    dt_h5_lock();
    dt_status status = open_attr(h, name, H5T_STRING, &attr, &type);
    if (status == DT_OK)
        status = H5Tis_variable_str(type) > 0 ? read_variable(h, name, attr, type, out)
                                              : read_fixed(h, name, attr, type, out);
    close_attr(attr, type);
    dt_h5_unlock();
    return status;
}
