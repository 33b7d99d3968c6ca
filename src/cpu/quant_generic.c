/* Products of bytes and of 4 bits in plain C: what the other instruction sets are held against. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant.h"

static void block(const dt_cpu_qblock *b, int32_t rows, int32_t units) {
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < units * DT_CPU_Q_UNIT; c++) {
            const int8_t *w = b->w + c / DT_CPU_Q_UNIT * b->unit_bytes + c % DT_CPU_Q_UNIT * 4;
            int32_t sum = b->add ? b->acc[r * b->ld + c] : 0;
            for (int64_t t = 0; t < b->taps; t++) {
                const uint8_t *x = b->row[t * DT_CPU_Q_ROWS + r] + b->off;
                for (int64_t s = 0; s < b->steps; s++, w += 4 * DT_CPU_Q_UNIT)
                    for (int32_t i = 0; i < 4; i++) sum += x[4 * s + i] * w[i];
            }
            b->acc[r * b->ld + c] = sum;
        }
}

const dt_cpu_qsimd dt_cpu_qsimd_generic = {.name = "generic", .wide = 1, .rows = {4}, .block = block};

/* As the wide form adds: even and odd numbers of a block apart. */
DT_CPU_SIMD void dt_cpu_q4_generic(const dt_cpu_q4block *b, int32_t rows, int32_t units) {
    enum { N = DT_CPU_Q_UNIT };
    for (int32_t r = 0; r < rows; r++)
        for (int32_t u = 0; u < units; u++) {
            const uint32_t *w = b->w + u * b->blocks * (b->block / 8) * N;
            float *y = b->y + (r * units + u) * N;
            memset(y, 0, N * sizeof *y);
            for (int64_t k = 0; k < b->blocks; k++) {
                float sum[2][N] = {{0}};
                const float *x = b->x + r * b->ldx + k * b->block;
                for (int64_t s = 0; s < b->block; s += 8, w += N)
                    for (int32_t j = 0; j < 8; j++)
                        for (int32_t i = 0; i < N; i++)
                            sum[j & 1][i] =
                                fmaf(x[s + j], (float)((int32_t)(w[i] >> 4 * j & 15) - 8), sum[j & 1][i]);
                const int64_t at = (u * b->blocks + k) * N;
                for (int32_t i = 0; i < N; i++) {
                    float all = sum[0][i] + sum[1][i];
                    if (b->mid) all = fmaf(b->sum[r * b->blocks + k], b->mid[at + i], all);
                    y[i] = fmaf(b->scale[at + i], all, y[i]);
                }
            }
        }
}

const dt_cpu_qsimd *dt_cpu_qsimd_get(void) {
#if defined(__x86_64__)
    const char *isa = getenv("DT_CPU_ISA");
    const bool any = !isa || strcmp(isa, "avx512") == 0, least = any || strcmp(isa, "avxvnni") == 0;
    __builtin_cpu_init();
    if (any && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return &dt_cpu_qsimd_avx512;
    if (least && __builtin_cpu_supports("avxvnni")) return &dt_cpu_qsimd_avxvnni;
    if ((least || strcmp(isa, "avx2") == 0) && __builtin_cpu_supports("avx2")) return &dt_cpu_qsimd_avx2;
#endif
    return &dt_cpu_qsimd_generic;
}
