/* .npy, NumPy's file of one array: a magic number, a header that is a dictionary in Python's notation, then
 * the numbers. Versions 1, 2 and 3, both byte orders, C and Fortran order. The header is read by a grammar of
 * its own and never evaluated; arrays of objects, which need Python's pickle, and of structures are refused. */
#ifndef DT_DATA_NPY_H
#define DT_DATA_NPY_H

#include "core/status.h"
#include "core/types.h"

enum { DT_NPY_HEAD_MAX = 1 << 16 }; /* bytes before the numbers; NumPy itself writes 128 */

typedef struct dt_npy {
    dt_dtype dtype;    /* the narrowest of ours that holds every value of the file's type */
    char type;         /* NumPy's letter: f, i, u or b */
    int32_t elem_size; /* bytes, in the file */
    bool swap;         /* of the other byte order than this machine */
    bool fortran;      /* the first dimension varies fastest */
    int32_t ndim;      /* 1 to DT_MAX_DIM; by dt_npy_parse_any from 0 */
    int64_t dim[DT_MAX_DIM];
    int64_t n_elem, row_elem; /* row_elem: of one index of the first dimension */
    int64_t data_offset;      /* bytes */
} dt_npy;

/* `head`: the first bytes of the array's `n_bytes`, min(n_bytes, DT_NPY_HEAD_MAX) of them. `path` is for
 * errors. DT_ERR_DATA: not such a file, of a type or shape that is not for us, cut short or too long. */
dt_status dt_npy_parse(const char *path, const uint8_t *head, int64_t n_bytes, dt_npy *out);
/* The same of any array: also of one number, without dimensions, and of none. */
dt_status dt_npy_parse_any(const char *path, const uint8_t *head, int64_t n_bytes, dt_npy *out);

/* n numbers as they lie in the file to `dtype`. -1, or the first that has no place there: it is not finite, or beyond
 * fp32, an unsigned one of 2^63 or more, or a truth value other than 0 and 1. */
int64_t dt_npy_convert(const dt_npy *a, const uint8_t *src, int64_t n, void *dst);

#endif
