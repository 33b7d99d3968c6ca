/* The dtype table and the clock. */
#include "core/types.h"

#include <time.h>

typedef struct dtype_row {
    const char *name;
    size_t bytes;
} dtype_row;

static const dtype_row dtype_table[] = {
    [DT_DTYPE_F32] = {"f32", 4}, [DT_DTYPE_F16] = {"f16", 2}, [DT_DTYPE_BF16] = {"bf16", 2},
    [DT_DTYPE_U8] = {"u8", 1},   [DT_DTYPE_I32] = {"i32", 4}, [DT_DTYPE_I64] = {"i64", 8},
    [DT_DTYPE_F64] = {"f64", 8},
};
_Static_assert(sizeof dtype_table / sizeof dtype_table[0] == DT_DTYPE_COUNT, "a row per dtype");

size_t dt_dtype_size(dt_dtype dtype) {
    return dtype_table[dtype].bytes;
}

const char *dt_dtype_name(dt_dtype dtype) {
    return dtype_table[dtype].name;
}

double dt_time_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
