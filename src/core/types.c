/* The dtype table and the clock. */
#include "core/types.h"

#include <time.h>

typedef struct dtype_row {
    const char *name;
    int32_t bits;
} dtype_row;

static const dtype_row dtype_table[] = {
    [DT_DTYPE_F32] = {"f32", 32}, [DT_DTYPE_F16] = {"f16", 16}, [DT_DTYPE_BF16] = {"bf16", 16},
    [DT_DTYPE_U8] = {"u8", 8},    [DT_DTYPE_I32] = {"i32", 32}, [DT_DTYPE_I64] = {"i64", 64},
    [DT_DTYPE_F64] = {"f64", 64}, [DT_DTYPE_I8] = {"i8", 8},    [DT_DTYPE_BOOL] = {"bool", 8},
    [DT_DTYPE_I4] = {"i4", 4},
};
_Static_assert(sizeof dtype_table / sizeof dtype_table[0] == DT_DTYPE_COUNT, "a row per dtype");

/* Programs may ask for any number. */
static bool is_dtype(dt_dtype dtype) {
    return (uint32_t)dtype < DT_DTYPE_COUNT;
}

size_t dt_dtype_size(dt_dtype dtype) {
    return is_dtype(dtype) ? (size_t)dt_dtype_bytes(dtype, 1) : 0;
}

int32_t dt_dtype_bits(dt_dtype dtype) {
    return dtype_table[dtype].bits;
}

int64_t dt_dtype_bytes(dt_dtype dtype, int64_t n) {
    const int64_t bits = dtype_table[dtype].bits;
    return bits % 8 == 0 ? n * (bits / 8) : dt_ceil_div(n, 8 / bits);
}

bool dt_dtype_is_whole_bytes(dt_dtype dtype) {
    return dtype_table[dtype].bits % 8 == 0;
}

bool dt_dtype_is_float(dt_dtype dtype) {
    return dtype == DT_DTYPE_F32 || dtype == DT_DTYPE_F16 || dtype == DT_DTYPE_BF16;
}

const char *dt_dtype_name(dt_dtype dtype) {
    return is_dtype(dtype) ? dtype_table[dtype].name : "?";
}

double dt_time_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
