/* A field of a batch: what every row of it holds under one name ("image", "label", "tokens"). Data kinds state
 * their fields, networks their inputs; they meet by name. */
#ifndef DT_CORE_FIELD_H
#define DT_CORE_FIELD_H

#include "core/types.h"

enum { DT_FIELDS_MAX = 8, DT_FIELD_NAME_MAX = 32 };
/* i32: 0 where a row is padding and counts for no loss. A network may read it whatever the data's fields are;
 * classes need none, theirs is label -1. */
#define DT_FIELD_VALID "valid"

typedef struct dt_field {
    char name[DT_FIELD_NAME_MAX];
    dt_dtype dtype;
    int32_t ndim; /* of one row: 0 is one number */
    int64_t dim[DT_MAX_DIM];
} dt_field;

/* Bytes of one row. */
static inline int64_t dt_field_bytes(const dt_field *f) {
    int64_t n = (int64_t)dt_dtype_size(f->dtype);
    for (int32_t i = 0; i < f->ndim; i++) n *= f->dim[i];
    return n;
}

#endif
