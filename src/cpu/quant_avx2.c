/* Products of bytes for AVX2. Both bytes are widened: the one instruction for products of bytes keeps sums of two in
 * 16 bits, where they do not always fit. Called only where the processor has it. */
#if defined(__x86_64__)
#pragma GCC target("avx2")
#include <immintrin.h>
#include <string.h>

#include "quant.h"

enum { UNIT_BYTES = 64 };

/* Four channels are a vector of pairs of sums, which are added at the end. */
DT_CPU_INLINE void wide(const dt_cpu_qblock *b, const int32_t rows) {
    __m256i acc[2][4];
    for (int32_t r = 0; r < rows; r++)
        for (int32_t h = 0; h < 4; h++) acc[r][h] = _mm256_setzero_si256();
    const int8_t *w = b->w;
    for (int64_t t = 0; t < b->taps; t++)
        for (int64_t s = 0; s < b->steps; s++, w += UNIT_BYTES) {
            __m256i x[2];
#pragma GCC unroll 2
            for (int32_t r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, b->row[t * DT_CPU_Q_ROWS + r] + b->off + 4 * s, sizeof four);
                x[r] = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
            }
#pragma GCC unroll 4
            for (int32_t h = 0; h < 4; h++) {
                const __m256i v =
                    _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + 16 * h)));
#pragma GCC unroll 2
                for (int32_t r = 0; r < rows; r++)
                    acc[r][h] = _mm256_add_epi32(acc[r][h], _mm256_madd_epi16(x[r], v));
            }
        }
    for (int32_t r = 0; r < rows; r++)
        for (int32_t h = 0; h < 4; h++) {
            const __m256i pair = _mm256_hadd_epi32(acc[r][h], acc[r][h]);
            __m128i *to = (__m128i *)(void *)(b->acc + r * b->ld + 4 * h);
            __m128i sum = _mm_unpacklo_epi64(_mm256_castsi256_si128(pair), _mm256_extracti128_si256(pair, 1));
            if (b->add) sum = _mm_add_epi32(sum, _mm_loadu_si128(to));
            _mm_storeu_si128(to, sum);
        }
}

static void wide_block(const dt_cpu_qblock *b, int32_t rows, int32_t units) {
    (void)units;
    if (rows == 1)
        wide(b, 1);
    else
        wide(b, 2);
}
const dt_cpu_qsimd dt_cpu_qsimd_avx2 = {.name = "avx2", .wide = 1, .rows = {2}, .block = wide_block};
#endif
