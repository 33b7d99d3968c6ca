/* HDF5 files as other programs read and write them: the library's own calls, not data/h5.h. Header only. */
#ifndef DT_TEST_H5_OTHER_H
#define DT_TEST_H5_OTHER_H

#include <hdf5.h>
#include <unistd.h>

#include "test_check.h"

/* A real root attribute. */
static inline double other_attr_f64(const char *path, const char *name) {
    double value = 0;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), attr = H5Aopen(file, name, H5P_DEFAULT);
    assert_true(H5Aread(attr, H5T_NATIVE_DOUBLE, &value) >= 0);
    assert_true(H5Aclose(attr) >= 0 && H5Fclose(file) >= 0);
    return value;
}

/* Adds a dataset in chunks of one row to a file, which is created if absent. */
static inline void other_write_chunked(const char *path, const char *name, hid_t type, int ndim,
                                       const hsize_t *dim, const void *data) {
    hsize_t chunk[4] = {1};
    for (int i = 1; i < ndim; i++) chunk[i] = dim[i];
    hid_t file = access(path, F_OK) == 0 ? H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT)
                                         : H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(ndim, dim, NULL), dcpl = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(H5Pset_chunk(dcpl, ndim, chunk) >= 0);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    assert_true(H5Dclose(set) >= 0 && H5Pclose(dcpl) >= 0 && H5Sclose(space) >= 0 && H5Fclose(file) >= 0);
}

#endif
