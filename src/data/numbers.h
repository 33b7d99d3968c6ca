/* The numbers of arrays: whether a network, which computes in fp32 at most, can take them. */
#ifndef DT_DATA_NUMBERS_H
#define DT_DATA_NUMBERS_H

#include "core/field.h"
#include "core/status.h"

/* Number i. */
double dt_number_at(dt_dtype dtype, const void *numbers, int64_t i);
/* Makes number i this one, rounded to the type: a whole one, where that is what the type holds. */
void dt_number_set(dt_dtype dtype, void *numbers, int64_t i, double x);
/* The first of n that is not finite, or that fp32 has no finite number for; -1: none. */
int64_t dt_numbers_find_bad(dt_dtype dtype, const void *numbers, int64_t n);
/* The first of n, of a type of whole numbers, that fp32 holds only rounded; -1: none. */
int64_t dt_numbers_find_inexact(dt_dtype dtype, const void *numbers, int64_t n);
/* "is nan", "is infinite" or "is 1e+300, too large for fp32". */
typedef struct dt_number_shown {
    char s[64];
} dt_number_shown;
dt_number_shown dt_number_why(double x);
/* Number e of a row of the field, with its place: "y", "x[3]", "x[1, 2]". */
typedef struct dt_place_shown {
    char s[DT_FIELD_NAME_MAX + 24 * DT_MAX_DIM];
} dt_place_shown;
dt_place_shown dt_number_place(const dt_field *f, int64_t e);

#endif
