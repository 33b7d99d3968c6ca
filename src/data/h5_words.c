/* Datasets of u16 and u32, which are read where they lie. */
#include "h5_private.h"

static hid_t word_type(int32_t width) {
    return width == 2 ? H5T_NATIVE_UINT16 : H5T_NATIVE_UINT32;
}

dt_status dt_h5_words_write(dt_h5 *h, const char *name, int32_t width, int64_t n, const void *data) {
    dt_h5_lock(); /* the types are there from then on */
    const dt_h5_new set = {.type = word_type(width), .ndim = 1, .dim = {(hsize_t)n}};
    dt_h5_unlock();
    return dt_h5_set_write(h, name, &set, data);
}

static dt_status describe(const dt_h5 *h, hid_t set, const char *name, const dt_h5_info *info, int32_t *width,
                          int64_t *offset_bytes) {
    const hid_t type = H5Dget_type(set), dcpl = H5Dget_create_plist(set);
    *width = type >= 0 && H5Tequal(type, H5T_NATIVE_UINT16) > 0   ? 2
             : type >= 0 && H5Tequal(type, H5T_NATIVE_UINT32) > 0 ? 4
                                                                  : 0;
    const bool contiguous = dcpl >= 0 && H5Pget_layout(dcpl) == H5D_CONTIGUOUS;
    if (type >= 0) H5Tclose(type);
    if (dcpl >= 0) H5Pclose(dcpl);
    const haddr_t offset = contiguous ? H5Dget_offset(set) : HADDR_UNDEF;
    H5Eclear2(H5E_DEFAULT);
    if (*width == 0 || info->ndim != 1 || !contiguous)
        return dt_fail(DT_ERR_DATA,
                       "%s: %s is not one dimension of u16 or u32 in one piece (of h5py: "
                       "f.create_dataset(name, data=x.astype(\"uint16\")))",
                       h->path, name);
    if (offset == HADDR_UNDEF || offset > (haddr_t)h->file_bytes ||
        info->n_elem > (h->file_bytes - (int64_t)offset) / *width)
        return dt_fail(DT_ERR_DATA, "%s: %s is not all in the file (write it, or make the file again)",
                       h->path, name);
    *offset_bytes = (int64_t)offset;
    return DT_OK;
}

dt_status dt_h5_words_get(dt_h5 *h, const char *name, int32_t *width, int64_t *n, int64_t *offset_bytes) {
    hid_t set;
    dt_h5_info info;
    dt_h5_lock();
    dt_status status = dt_h5_set_open(h, name, &set, &info);
    if (status == DT_OK) {
        status = describe(h, set, name, &info, width, offset_bytes);
        *n = info.n_elem;
        if (H5Dclose(set) < 0 && status == DT_OK) status = dt_h5_file_fail(h, "cannot close", name);
    }
    dt_h5_unlock();
    return status;
}
