/* Bilinear resizing in two passes per output row: two source rows are blended into a 16-bit row (contiguous,
 * any instruction set does it well), then each output element blends two of its elements, `channels` apart.
 *
 * The columns' positions and weights are tabulated once per image. With AVX-512 32 outputs are gathered by
 * one two-register permute when their sources span at most 64 elements, which holds up to a reduction by
 * about 1.9. */
#include "resize.h"

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FRACTION_BITS = 6,
    GROUP = 32,     /* outputs per permute */
    SPAN = 64,      /* source elements a permute reaches */
    ROW_SLACK = 96, /* elements readable past the end of the blended row */
};

typedef struct column_table {
    int64_t n; /* out_w * channels */
    int64_t channels;
    int32_t *source; /* [n] element of the blended row */
    int16_t *weight; /* [n] of the element `channels` further on, Q15 */
    int16_t *lane;   /* [n rounded up] source relative to base */
    int32_t *base;   /* [groups] first source element of the group; -1: spans too far */
} column_table;

typedef void blend_fn(const uint8_t *a, const uint8_t *b, int16_t weight, int64_t n, int16_t *dst);
typedef void gather_fn(const int16_t *row, const column_table *t, uint8_t *dst);

struct dt_resizer {
    blend_fn *blend;
    gather_fn *gather;
    column_table columns;
    int64_t columns_capacity, row_capacity;
    int16_t *row;
};

/* a * b in Q15, rounded: what the instruction pmulhrsw computes. */
static inline int32_t mul_q15(int32_t a, int32_t b) {
    return (a * b + 0x4000) >> 15;
}

static void blend_generic(const uint8_t *a, const uint8_t *b, int16_t weight, int64_t n, int16_t *dst) {
    for (int64_t i = 0; i < n; i++) {
        int32_t from = a[i] << FRACTION_BITS, to = b[i] << FRACTION_BITS;
        dst[i] = (int16_t)(from + mul_q15(to - from, weight));
    }
}

static inline uint8_t gather_one(const int16_t *row, const column_table *t, int64_t i) {
    int32_t from = row[t->source[i]], to = row[t->source[i] + t->channels];
    return (uint8_t)((from + mul_q15(to - from, t->weight[i]) + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS);
}

static void gather_generic(const int16_t *row, const column_table *t, uint8_t *dst) {
    for (int64_t i = 0; i < t->n; i++) dst[i] = gather_one(row, t, i);
}

__attribute__((target("avx2"))) static void blend_avx2(const uint8_t *a, const uint8_t *b, int16_t weight,
                                                       int64_t n, int16_t *dst) {
    const __m256i w = _mm256_set1_epi16(weight);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i from = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(a + i)));
        __m256i to = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(b + i)));
        from = _mm256_slli_epi16(from, FRACTION_BITS);
        to = _mm256_slli_epi16(to, FRACTION_BITS);
        __m256i mixed = _mm256_add_epi16(from, _mm256_mulhrs_epi16(_mm256_sub_epi16(to, from), w));
        _mm256_storeu_si256((__m256i *)(dst + i), mixed);
    }
    blend_generic(a + i, b + i, weight, n - i, dst + i);
}

/* Two RGB pixels: eight elements from each pixel's first, of which six are its two taps. */
__attribute__((target("avx2"))) static inline __m256i two_pixels_avx2(const int16_t *row,
                                                                      const column_table *t, int64_t i) {
    __m128i low = _mm_loadu_si128((const __m128i *)(row + t->source[i]));
    __m128i high = _mm_loadu_si128((const __m128i *)(row + t->source[i + 3]));
    __m256i from = _mm256_set_m128i(high, low);
    __m256i w = _mm256_set_m128i(_mm_set1_epi16(t->weight[i + 3]), _mm_set1_epi16(t->weight[i]));
    __m256i step = _mm256_sub_epi16(_mm256_srli_si256(from, 6), from);
    __m256i mixed = _mm256_add_epi16(from, _mm256_mulhrs_epi16(step, w));
    mixed = _mm256_add_epi16(mixed, _mm256_set1_epi16(1 << (FRACTION_BITS - 1)));
    return _mm256_srai_epi16(mixed, FRACTION_BITS);
}

__attribute__((target("avx2"))) static void gather_avx2(const int16_t *row, const column_table *t,
                                                        uint8_t *dst) {
    int64_t i = 0;
    if (t->channels == 3) {
        /* Of each 128-bit lane after packing: pixel k at bytes 0..2, pixel k + 2 at bytes 8..10. */
        const __m256i order = _mm256_setr_epi8(0, 1, 2, -1, -1, -1, 8, 9, 10, -1, -1, -1, -1, -1, -1, -1, -1,
                                               -1, -1, 0, 1, 2, -1, -1, -1, 8, 9, 10, -1, -1, -1, -1);
        for (; i + 18 <= t->n; i += 12) { /* stores 16 bytes, 12 of them good */
            __m256i packed = _mm256_packus_epi16(two_pixels_avx2(row, t, i), two_pixels_avx2(row, t, i + 6));
            packed = _mm256_shuffle_epi8(packed, order);
            __m128i out = _mm_or_si128(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1));
            _mm_storeu_si128((__m128i *)(dst + i), out);
        }
    }
    for (; i < t->n; i++) dst[i] = gather_one(row, t, i);
}

#define TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

TARGET_AVX512 static void blend_avx512(const uint8_t *a, const uint8_t *b, int16_t weight, int64_t n,
                                       int16_t *dst) {
    const __m512i w = _mm512_set1_epi16(weight);
    for (int64_t i = 0; i < n; i += GROUP) {
        __mmask32 live = n - i >= GROUP ? ~(__mmask32)0 : ((__mmask32)1 << (n - i)) - 1;
        __m512i from = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(live, a + i));
        __m512i to = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(live, b + i));
        from = _mm512_slli_epi16(from, FRACTION_BITS);
        to = _mm512_slli_epi16(to, FRACTION_BITS);
        __m512i mixed = _mm512_add_epi16(from, _mm512_mulhrs_epi16(_mm512_sub_epi16(to, from), w));
        _mm512_mask_storeu_epi16(dst + i, live, mixed);
    }
}

TARGET_AVX512 static void gather_avx512(const int16_t *row, const column_table *t, uint8_t *dst) {
    const __m512i half = _mm512_set1_epi16(1 << (FRACTION_BITS - 1));
    for (int64_t i = 0; i < t->n; i += GROUP) {
        int64_t n = t->n - i >= GROUP ? GROUP : t->n - i;
        int32_t base = t->base[i / GROUP];
        if (base < 0) {
            for (int64_t k = i; k < i + n; k++) dst[k] = gather_one(row, t, k);
            continue;
        }
        __mmask32 live = n == GROUP ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1;
        const int16_t *near = row + base, *far = near + t->channels;
        __m512i lane = _mm512_loadu_si512(t->lane + i);
        __m512i w = _mm512_maskz_loadu_epi16(live, t->weight + i);
        __m512i from =
            _mm512_permutex2var_epi16(_mm512_loadu_si512(near), lane, _mm512_loadu_si512(near + 32));
        __m512i to = _mm512_permutex2var_epi16(_mm512_loadu_si512(far), lane, _mm512_loadu_si512(far + 32));
        __m512i mixed = _mm512_add_epi16(from, _mm512_mulhrs_epi16(_mm512_sub_epi16(to, from), w));
        mixed = _mm512_srai_epi16(_mm512_add_epi16(mixed, half), FRACTION_BITS);
        _mm256_mask_storeu_epi8(dst + i, live, _mm512_cvtepi16_epi8(mixed));
    }
}

static const struct {
    blend_fn *blend;
    gather_fn *gather;
} kernels[] = {
    [DT_SIMD_GENERIC] = {blend_generic, gather_generic},
    [DT_SIMD_AVX2] = {blend_avx2, gather_avx2},
    [DT_SIMD_AVX512] = {blend_avx512, gather_avx512},
};

dt_simd dt_simd_best(void) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return DT_SIMD_AVX512;
    return __builtin_cpu_supports("avx2") ? DT_SIMD_AVX2 : DT_SIMD_GENERIC;
}

dt_status dt_resizer_new(dt_simd simd, dt_resizer **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return dt_fail(DT_ERR_MEMORY, "out of memory for a resizer");
    (*out)->blend = kernels[simd].blend;
    (*out)->gather = kernels[simd].gather;
    return DT_OK;
}

static void free_columns(column_table *t) {
    free(t->source);
    free(t->weight);
    free(t->lane);
    free(t->base);
    *t = (column_table){0};
}

void dt_resizer_free(dt_resizer *r) {
    if (!r) return;
    free_columns(&r->columns);
    free(r->row);
    free(r);
}

static dt_status grow(dt_resizer *r, int64_t n_columns, int64_t n_row) {
    if (n_columns > r->columns_capacity) {
        size_t n = (size_t)dt_round_up(n_columns, GROUP);
        free_columns(&r->columns);
        r->columns_capacity = 0;
        column_table *t = &r->columns;
        t->source = calloc(n, sizeof *t->source);
        t->weight = calloc(n, sizeof *t->weight);
        t->lane = calloc(n, sizeof *t->lane);
        t->base = calloc(n / GROUP, sizeof *t->base);
        if (!t->source || !t->weight || !t->lane || !t->base)
            return dt_fail(DT_ERR_MEMORY, "out of memory for the tables of a resizer");
        r->columns_capacity = (int64_t)n;
    }
    if (n_row > r->row_capacity) {
        free(r->row);
        r->row = calloc((size_t)(n_row + ROW_SLACK), sizeof *r->row);
        r->row_capacity = r->row ? n_row : 0;
        if (!r->row) return dt_fail(DT_ERR_MEMORY, "out of memory for a row of a resizer");
    }
    return DT_OK;
}

/* Where output `o` lies: the first of its two pixels and the weight (Q15) of the second. */
static void locate(const dt_resize_axis *axis, int64_t o, int32_t *first, int16_t *weight) {
    double at = axis->origin + ((double)o + 0.5) * axis->step - 0.5;
    *weight = 0;
    if (at <= axis->lo)
        *first = axis->lo;
    else if (at >= axis->hi)
        *first = axis->hi;
    else {
        *first = (int32_t)at; /* at > lo >= 0 */
        int32_t w = (int32_t)((at - *first) * 32768.0 + 0.5);
        *weight = (int16_t)(w > INT16_MAX ? INT16_MAX : w);
    }
}

static void fill_columns(column_table *t, const dt_resize_axis *x, bool flip, int64_t out_w,
                         int64_t channels) {
    t->n = out_w * channels;
    t->channels = channels;
    for (int64_t o = 0; o < out_w; o++) {
        int32_t first;
        int16_t weight;
        locate(x, flip ? out_w - 1 - o : o, &first, &weight);
        for (int64_t c = 0; c < channels; c++) {
            t->source[o * channels + c] = (int32_t)((first - x->lo) * channels + c);
            t->weight[o * channels + c] = weight;
        }
    }
    for (int64_t g = 0; g * GROUP < t->n; g++) {
        int64_t begin = g * GROUP, end = dt_min_i64(begin + GROUP, t->n);
        int32_t low = t->source[begin], high = low;
        for (int64_t i = begin; i < end; i++) {
            if (t->source[i] < low) low = t->source[i];
            if (t->source[i] > high) high = t->source[i];
        }
        t->base[g] = high - low < SPAN ? low : -1;
        for (int64_t i = begin; i < end; i++) t->lane[i] = (int16_t)(t->source[i] - low);
    }
}

dt_status dt_resize(dt_resizer *r, const uint8_t *src, int64_t stride, int64_t channels, dt_resize_axis x,
                    dt_resize_axis y, bool flip, int64_t out_h, int64_t out_w, uint8_t *dst) {
    int64_t n_row = (int64_t)(x.hi - x.lo + 1) * channels;
    DT_TRY(grow(r, out_w * channels, n_row));
    fill_columns(&r->columns, &x, flip, out_w, channels);
    const uint8_t *left = src + x.lo * channels;
    for (int64_t o = 0; o < out_h; o++) {
        int32_t first;
        int16_t weight;
        locate(&y, o, &first, &weight);
        const uint8_t *a = left + first * stride, *b = first < y.hi ? a + stride : a;
        r->blend(a, b, weight, n_row, r->row);
        r->gather(r->row, &r->columns, dst + o * out_w * channels);
    }
    return DT_OK;
}

void dt_resize_copy(const uint8_t *src, int64_t h, int64_t w, int64_t channels, int32_t x0, int32_t y0,
                    bool flip, int64_t out_h, int64_t out_w, uint8_t *dst) {
    int64_t left = dt_max_i64(0, -(int64_t)x0), right = dt_min_i64(out_w, w - x0); /* columns with pixels */
    for (int64_t o = 0; o < out_h; o++, dst += out_w * channels) {
        int64_t sy = y0 + o;
        if (sy < 0 || sy >= h || left >= right) {
            memset(dst, 0, (size_t)(out_w * channels));
            continue;
        }
        const uint8_t *row = src + (sy * w + x0 + left) * channels;
        int64_t n = right - left;
        if (!flip) {
            memset(dst, 0, (size_t)(left * channels));
            memcpy(dst + left * channels, row, (size_t)(n * channels));
            memset(dst + right * channels, 0, (size_t)((out_w - right) * channels));
            continue;
        }
        memset(dst, 0, (size_t)(out_w * channels));
        uint8_t *last = dst + (out_w - 1 - left) * channels;
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < channels; c++) last[c - i * channels] = row[i * channels + c];
    }
}
