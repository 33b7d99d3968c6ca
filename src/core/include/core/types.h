/* Data types and small helpers that every room shares. */
#ifndef DT_CORE_TYPES_H
#define DT_CORE_TYPES_H

#define DTRAIN_TYPES_ONLY
#include "dtrain.h" /* dt_dtype, DT_MAX_DIM; with stdbool.h, stddef.h, stdint.h */
#undef DTRAIN_TYPES_ONLY

#ifdef __cplusplus
extern "C" {
#endif

/* Bits of one element. */
int32_t dt_dtype_bits(dt_dtype dtype);
/* Bytes of n elements in a row, rounded up. */
int64_t dt_dtype_bytes(dt_dtype dtype, int64_t n);
/* Whether data sets and tensors hold it: all but packed types. */
bool dt_dtype_is_whole_bytes(dt_dtype dtype);
/* f32, f16 or bf16. */
bool dt_dtype_is_float(dt_dtype dtype);
/* Bytes of one element; of a packed type 1. */
size_t dt_dtype_size(dt_dtype dtype);
/* "f32", "f16", "bf16", "u8", "i32", "i64", "f64", "i8", "bool", "i4". */
const char *dt_dtype_name(dt_dtype dtype);

/* `x` rounded up to a multiple of `to` (to > 0). */
static inline int64_t dt_round_up(int64_t x, int64_t to) {
    return (x + to - 1) / to * to;
}
/* x / by, rounded up (x >= 0, by > 0). */
static inline int64_t dt_ceil_div(int64_t x, int64_t by) {
    return (x + by - 1) / by;
}
static inline int64_t dt_min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t dt_max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* What a noun after this count ends in: "s" unless it is 1. */
static inline const char *dt_plural(int64_t n) {
    return n == 1 ? "" : "s";
}

/* Seconds of a monotonic clock. */
double dt_time_s(void);

#ifdef __cplusplus
}
#endif
#endif
