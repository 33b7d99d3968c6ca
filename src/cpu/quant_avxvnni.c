/* Products of bytes for AVX-VNNI, which processors have that lack AVX-512. Called only there. */
#if defined(__x86_64__)
#pragma GCC target("avx2,avxvnni")
#include <immintrin.h>
#include <string.h>

#include "quant.h"

enum { UNIT_BYTES = 64 };

/* A unit's 16 channels are two vectors. */
DT_CPU_INLINE void vnni(const dt_cpu_qblock *b, const int32_t rows) {
    __m256i acc[6][2];
#pragma GCC unroll 6
    for (int32_t r = 0; r < rows; r++)
        for (int32_t h = 0; h < 2; h++)
            acc[r][h] = b->add
                            ? _mm256_loadu_si256((const __m256i *)(const void *)(b->acc + r * b->ld + 8 * h))
                            : _mm256_setzero_si256();
    const int8_t *w = b->w;
    for (int64_t t = 0; t < b->taps; t++)
        for (int64_t s = 0; s < b->steps; s++, w += UNIT_BYTES) {
            const __m256i v0 = _mm256_loadu_si256((const __m256i *)(const void *)w),
                          v1 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
#pragma GCC unroll 6
            for (int32_t r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, b->row[t * DT_CPU_Q_ROWS + r] + b->off + 4 * s, sizeof four);
                const __m256i all = _mm256_set1_epi32(four);
                acc[r][0] = _mm256_dpbusd_avx_epi32(acc[r][0], all, v0);
                acc[r][1] = _mm256_dpbusd_avx_epi32(acc[r][1], all, v1);
            }
        }
#pragma GCC unroll 6
    for (int32_t r = 0; r < rows; r++)
        for (int32_t h = 0; h < 2; h++)
            _mm256_storeu_si256((__m256i *)(void *)(b->acc + r * b->ld + 8 * h), acc[r][h]);
}

static void vnni_block(const dt_cpu_qblock *b, int32_t rows, int32_t units) {
    (void)units;
    switch (rows) {
    case 1:
        vnni(b, 1);
        return;
    case 2:
        vnni(b, 2);
        return;
    case 3:
        vnni(b, 3);
        return;
    case 4:
        vnni(b, 4);
        return;
    case 5:
        vnni(b, 5);
        return;
    default:
        vnni(b, 6);
        return;
    }
}

const dt_cpu_qsimd dt_cpu_qsimd_avxvnni = {.name = "avxvnni", .wide = 1, .rows = {6}, .block = vnni_block};

#endif
