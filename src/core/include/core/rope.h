/* Angles of places in a sequence, ROPE's and POSITION's, read by C and by CUDA. */
#ifndef DT_CORE_ROPE_H
#define DT_CORE_ROPE_H

#include <math.h>

#include "core/graph.h"
#include "core/scalar.h"

enum { DT_ROPE_DIMS_MAX = 1024 };

/* How many of a head's `all` numbers are rotated. */
DT_SCALAR int64_t dt_rope_dims(const dt_rope_attr *a, int64_t all) {
    return a->dims > 0 ? a->dims : all;
}

/* By how much pair i of `dims` numbers turns from one step to the next. */
DT_SCALAR double dt_rope_speed(const dt_rope_attr *a, int64_t i, int64_t dims) {
    return exp(-2.0 * (double)i / (double)dims * log((double)a->theta));
}

#endif
