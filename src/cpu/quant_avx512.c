/* Products of bytes for AVX-512 VNNI, and of 4 bits for AVX-512. Compiled for those instruction sets whatever the build
 * targets; called only where the processor has them. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx512vnni,avx2,fma")
#include <immintrin.h>
#include <string.h>

#include "quant.h"

enum { UNIT_BYTES = 64 };

DT_CPU_INLINE void block(const dt_cpu_qblock *b, const int32_t rows, const int32_t units) {
    __m512i acc[12][DT_CPU_Q_WIDE];
#pragma GCC unroll 12
    for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int32_t u = 0; u < units; u++)
            acc[r][u] =
                b->add ? _mm512_loadu_si512(b->acc + r * b->ld + u * DT_CPU_Q_UNIT) : _mm512_setzero_si512();
    const int8_t *w = b->w;
    for (int64_t t = 0; t < b->taps; t++) {
        const uint8_t *x[12];
#pragma GCC unroll 12
        for (int32_t r = 0; r < rows; r++) x[r] = b->row[t * DT_CPU_Q_ROWS + r] + b->off;
        for (int64_t s = 0; s < b->steps; s++, w += UNIT_BYTES) {
            __m512i v[DT_CPU_Q_WIDE];
#pragma GCC unroll 4
            for (int32_t u = 0; u < units; u++) v[u] = _mm512_load_si512(w + u * b->unit_bytes);
#pragma GCC unroll 12
            for (int32_t r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, x[r] + 4 * s, sizeof four);
                const __m512i all = _mm512_set1_epi32(four);
#pragma GCC unroll 4
                for (int32_t u = 0; u < units; u++) acc[r][u] = _mm512_dpbusd_epi32(acc[r][u], all, v[u]);
            }
        }
    }
#pragma GCC unroll 12
    for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int32_t u = 0; u < units; u++)
            _mm512_storeu_si512(b->acc + r * b->ld + u * DT_CPU_Q_UNIT, acc[r][u]);
}

#define CASE(r, u)                                                                                           \
    case r:                                                                                                  \
        block(b, r, u);                                                                                      \
        return;
#define CASES6(u)  CASE(1, u) CASE(2, u) CASE(3, u) CASE(4, u) CASE(5, u) CASE(6, u)
#define CASES8(u)  CASES6(u) CASE(7, u) CASE(8, u)
#define CASES12(u) CASES8(u) CASE(9, u) CASE(10, u) CASE(11, u) CASE(12, u)

static void blocks_of_1(const dt_cpu_qblock *b, int32_t rows) {
    switch (rows) { CASES12(1) }
}
static void blocks_of_2(const dt_cpu_qblock *b, int32_t rows) {
    switch (rows) { CASES12(2) }
}
static void blocks_of_3(const dt_cpu_qblock *b, int32_t rows) {
    switch (rows) { CASES8(3) }
}
static void blocks_of_4(const dt_cpu_qblock *b, int32_t rows) {
    switch (rows) { CASES6(4) }
}

static void any_block(const dt_cpu_qblock *b, int32_t rows, int32_t units) {
    static void (*const of[])(const dt_cpu_qblock *, int32_t) = {blocks_of_1, blocks_of_2, blocks_of_3,
                                                                 blocks_of_4};
    of[units - 1](b, rows);
}

const dt_cpu_qsimd dt_cpu_qsimd_avx512 = {
    .name = "avx512", .wide = 4, .rows = {12, 12, 8, 6}, .block = any_block};

/* ---- 4 bits: numbers by a table of 16 floats ---- */

DT_CPU_INLINE void few(const dt_cpu_q4block *b, const int32_t rows, const int32_t units) {
    const __m512 table = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const int64_t unit = b->blocks * (b->block / 8) * DT_CPU_Q_UNIT;
    __m512 y[DT_CPU_Q4_ROWS][DT_CPU_Q4_WIDE];
    for (int32_t r = 0; r < rows; r++)
        for (int32_t u = 0; u < units; u++) y[r][u] = _mm512_setzero_ps();
    const uint32_t *w = b->w;
    for (int64_t k = 0; k < b->blocks; k++) {
        __m512 sum[DT_CPU_Q4_ROWS][DT_CPU_Q4_WIDE][2];
#pragma GCC unroll 4
        for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int32_t u = 0; u < units; u++) sum[r][u][0] = sum[r][u][1] = _mm512_setzero_ps();
        const float *x = b->x + k * b->block;
        for (int64_t s = 0; s < b->block; s += 8, w += DT_CPU_Q_UNIT) {
            __m512i q[DT_CPU_Q4_WIDE];
#pragma GCC unroll 2
            for (int32_t u = 0; u < units; u++) {
                q[u] = _mm512_load_si512(w + u * unit);
                _mm_prefetch((const char *)(w + u * unit + 16 * DT_CPU_Q_UNIT), _MM_HINT_T0);
            }
#pragma GCC unroll 8
            for (int32_t j = 0; j < 8; j++)
#pragma GCC unroll 2
                for (int32_t u = 0; u < units; u++) {
                    const __m512 v = _mm512_permutexvar_ps(_mm512_srli_epi32(q[u], 4 * (uint32_t)j), table);
#pragma GCC unroll 4
                    for (int32_t r = 0; r < rows; r++)
                        sum[r][u][j & 1] =
                            _mm512_fmadd_ps(_mm512_set1_ps(x[r * b->ldx + s + j]), v, sum[r][u][j & 1]);
                }
        }
#pragma GCC unroll 2
        for (int32_t u = 0; u < units; u++) {
            const int64_t at = (u * b->blocks + k) * DT_CPU_Q_UNIT;
            const __m512 scale = _mm512_load_ps(b->scale + at);
#pragma GCC unroll 4
            for (int32_t r = 0; r < rows; r++) {
                __m512 all = _mm512_add_ps(sum[r][u][0], sum[r][u][1]);
                if (b->mid)
                    all = _mm512_fmadd_ps(_mm512_set1_ps(b->sum[r * b->blocks + k]),
                                          _mm512_load_ps(b->mid + at), all);
                y[r][u] = _mm512_fmadd_ps(scale, all, y[r][u]);
            }
        }
    }
    for (int32_t r = 0; r < rows; r++)
        for (int32_t u = 0; u < units; u++) _mm512_storeu_ps(b->y + (r * units + u) * DT_CPU_Q_UNIT, y[r][u]);
}

#define FEW(r)                                                                                               \
    case r:                                                                                                  \
        if (units == 1)                                                                                      \
            few(b, r, 1);                                                                                    \
        else                                                                                                 \
            few(b, r, 2);                                                                                    \
        return;
void dt_cpu_q4_avx512(const dt_cpu_q4block *b, int32_t rows, int32_t units) {
    switch (rows) { FEW(1) FEW(2) FEW(3) FEW(4) }
}
#endif
