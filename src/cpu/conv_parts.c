/* Sums over pixels in parts, for the algorithms that take a gradient of weights so. */
#include "conv_internal.h"

int64_t dt_cpu_conv_parts(int64_t most) {
    static const int64_t count[] = {DT_CPU_CONV_PARTS, 24, 12, 8, 6, 4, 3, 2};
    for (size_t i = 0; i < sizeof count / sizeof *count; i++)
        if (count[i] <= most) return count[i];
    return 1;
}

void dt_cpu_conv_add_parts(float *out, const float *part, int64_t size, int64_t n_part) {
    enum { PIECE = 4096 }; /* stays in L1 */
    if (n_part == 0) return;
#pragma omp for schedule(static)
    for (int64_t at = 0; at < size; at += PIECE)
        for (int64_t p = 0; p < n_part; p++)
            for (int64_t i = at; i < dt_min_i64(at + PIECE, size); i++) out[i] += part[p * size + i];
}
