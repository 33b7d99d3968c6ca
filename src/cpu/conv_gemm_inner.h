/* Register-blocked GEMM and the gathering of image windows, for the vector type of the including file.
 *
 * The including file defines vf, VL (lanes), MR (rows of a block, at most 14) and v_load, v_store, v_stream, v_stream_end,
 * v_copy_some, v_set1, v_zero, v_fma. No include guard: included once by each of conv_avx512.c, conv_avx2.c
 * and conv_generic.c. */

#define NR          (2 * VL)
#define ALWAYS      static inline __attribute__((always_inline))
#define AHEAD       16  /* steps of the depth to fetch ahead */
#define DEPTH_BLOCK 512 /* depth of one pass: a block of rows stays in L1 */

ALWAYS void copy_floats(float *restrict dst, const float *restrict src, int64_t n) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL) v_store(dst + i, v_load(src + i));
    if (i < n) v_copy_some(dst + i, src + i, n - i);
}

ALWAYS void zero_floats(float *dst, int64_t n) {
    static const float zeros[VL];
    int64_t i = 0;
    for (; i + VL <= n; i += VL) v_store(dst + i, v_zero());
    if (i < n) v_copy_some(dst + i, zeros, n - i);
}

ALWAYS int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
ALWAYS int64_t max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Columns [lo, hi) of a stretch whose part [from, to) comes from src (src addresses column 0), the rest is
 * 0. */
ALWAYS void copy_stretch(float *dst, const float *src, int64_t src_at, int64_t from, int64_t to, int64_t lo,
                         int64_t hi) {
    const int64_t a = min_i64(max_i64(from, lo), hi), b = max_i64(min_i64(to, hi), a);
    zero_floats(dst, a - lo);
    copy_floats(dst + (a - lo), src + (src_at + a), b - a);
    zero_floats(dst + (b - lo), hi - b);
}

typedef int32_t lane_numbers __attribute__((vector_size(VL * sizeof(int32_t))));

/* Of rows i and i + s the lanes without bit s go to one, those with it to the other: half of a transposition. */
ALWAYS void exchange(vf row[VL], const int s) {
    lane_numbers low, high;
#pragma GCC unroll 16
    for (int l = 0; l < VL; l++) low[l] = l & s ? VL + l - s : l, high[l] = l & s ? VL + l : l + s;
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) {
        if (i & s) continue;
        const vf a = row[i], b = row[i + s];
        row[i] = __builtin_shuffle(a, b, low);
        row[i + s] = __builtin_shuffle(a, b, high);
    }
}

static void pack_turned(int64_t n, int64_t depth, const float *src, int64_t ld, float *dst) {
    int64_t d = 0;
    for (; d + VL <= depth; d += VL)
        for (int64_t col = 0; col < NR; col += VL) {
            vf row[VL];
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) row[i] = col + i < n ? v_load(src + (col + i) * ld + d) : v_zero();
#if VL_BITS > 3
            exchange(row, 8);
#endif
#if VL_BITS > 2
            exchange(row, 4);
#endif
            exchange(row, 2);
            exchange(row, 1);
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) v_store(dst + (d + i) * NR + col, row[i]);
        }
    for (; d < depth; d++)
        for (int64_t col = 0; col < NR; col++) dst[d * NR + col] = col < n ? src[col * ld + d] : 0.0f;
}

static void gather(const dt_cpu_gather *g, const float *src, int64_t row0, int64_t n_row, int64_t col0,
                   int64_t col1, float *dst, int64_t pitch) {
    const int64_t line = g->taps_w * g->c, th0 = col0 / line, th1 = (col1 + line - 1) / line;
    const bool joined = g->dil_w == 1 && g->c == g->src_c;
    int64_t j = row0 % g->out_w, i = row0 / g->out_w % g->out_h, n = row0 / (g->out_w * g->out_h);
    for (int64_t row = 0; row < n_row; row++, dst += pitch) {
        const int64_t w0 = j * g->stride_w + g->off_w;
        const int64_t from = max_i64(-w0, 0) * g->c, to = min_i64(g->taps_w, g->src_w - w0) * g->c;
        const bool inside = joined && from == 0 && to == line; /* no padding left or right */
        for (int64_t th = th0; th < th1; th++) {
            const int64_t h = i * g->stride_h + g->off_h + th * g->dil_h;
            const int64_t lo = max_i64(col0 - th * line, 0), hi = min_i64(col1 - th * line, line);
            float *part = dst + (th * line + lo - col0);
            const int64_t at = ((n * g->src_h + h) * g->src_w + w0) * g->src_c + g->c0;
            if (h < 0 || h >= g->src_h) {
                zero_floats(part, hi - lo);
            } else if (inside) {
                copy_floats(part, src + (at + lo), hi - lo);
            } else if (joined) {
                copy_stretch(part, src, at, from, to, lo, hi);
            } else {
                for (int64_t tw = lo / g->c; tw * g->c < hi; tw++) {
                    const int64_t w = w0 + tw * g->dil_w;
                    const int64_t tlo = max_i64(lo - tw * g->c, 0), thi = min_i64(hi - tw * g->c, g->c);
                    copy_stretch(part + (tw * g->c + tlo - lo), src, at + tw * g->dil_w * g->src_c, 0,
                                 w >= 0 && w < g->src_w ? g->c : 0, tlo, thi);
                }
            }
        }
        if (++j == g->out_w) {
            j = 0;
            if (++i == g->out_h) i = 0, n++;
        }
    }
}

static void scatter(const dt_cpu_scatter *s, const float *tile, int64_t row0, int64_t n_row, int64_t n,
                    float *dst, int64_t pitch) {
    int64_t j = row0 % s->out_w, i = row0 / s->out_w % s->out_h, image = row0 / (s->out_w * s->out_h);
    for (int64_t row = 0; row < n_row; row++) {
        float *to =
            dst + ((image * s->dst_h + s->h0 + i * s->step_h) * s->dst_w + s->w0 + j * s->step_w) * s->dst_c;
        if (tile)
            copy_floats(to, tile + row * pitch, n);
        else
            zero_floats(to, n);
        if (++j == s->out_w) {
            j = 0;
            if (++i == s->out_h) i = 0, image++;
        }
    }
}

/* One register block: c[mr, nv*VL] = init + sum over k of a(i,k) b(k,.), a(i,k) = a[i*ar + k*ak]. stream: c, of whole
 * vectors, is written past the caches. */
ALWAYS void micro(const int mr, const int nv, int64_t k, const float *a, int64_t ar, int64_t ak,
                  const float *b, int64_t bk, const float *init, int64_t init_ld, float *c, int64_t ldc,
                  bool stream) {
    vf acc[MR][2];
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) acc[i][j] = init ? v_load(init + i * init_ld + j * VL) : v_zero();
    if (!stream) { /* of the block below, which comes next */
#pragma GCC unroll 14
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
            for (int j = 0; j < nv; j++) __builtin_prefetch(c + (mr + i) * ldc + j * VL, 1);
    }
    /* Rows of a matrix that is not turned: three addresses and two distances reach them all, for a processor has no
     * registers for fourteen. The compiler must not see that the distances stay. */
    const char *five[3] = {(const char *)a, (const char *)(a + 5 * ar), (const char *)(a + 10 * ar)};
    int64_t one = ar * (int64_t)sizeof(float), three = 3 * one;
    for (int64_t t = 0; t < k; t++) {
        vf bv[2];
        if (ar != 1) __asm__("" : "+r"(one), "+r"(three));
        const int64_t row[5] = {0, one, 2 * one, three, 4 * one};
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) {
            bv[j] = v_load(b + j * VL);
            __builtin_prefetch(b + AHEAD * bk + j * VL);
        }
        if (ar == 1) __builtin_prefetch(a + AHEAD * ak);
#pragma GCC unroll 14
        for (int i = 0; i < mr; i++) {
            const vf av = v_set1(ar == 1 ? a[i] : *(const float *)(const void *)(five[i / 5] + row[i % 5]));
#pragma GCC unroll 2
            for (int j = 0; j < nv; j++) acc[i][j] = v_fma(av, bv[j], acc[i][j]);
        }
        a += ak;
        for (int i = 0; i < (mr + 4) / 5; i++) five[i] += ak * (int64_t)sizeof(float);
        b += bk;
    }
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) {
            if (stream)
                v_stream(c + i * ldc + j * VL, acc[i][j]);
            else
                v_store(c + i * ldc + j * VL, acc[i][j]);
        }
}

typedef void (*micro_fn)(int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                         const float *init, int64_t init_ld, float *c, int64_t ldc, bool stream);

#define MICRO(mr, nv)                                                                                        \
    static void nn_##mr##_##nv(int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,          \
                               const float *init, int64_t init_ld, float *c, int64_t ldc, bool stream) {     \
        (void)ldb;                                                                                           \
        micro(mr, nv, k, a, lda, 1, b, NR, init, init_ld, c, ldc, stream);                                   \
    }                                                                                                        \
    static void tn_##mr##_##nv(int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,          \
                               const float *init, int64_t init_ld, float *c, int64_t ldc, bool stream) {     \
        (void)stream;                                                                                        \
        micro(mr, nv, k, a, 1, lda, b, ldb, init, init_ld, c, ldc, false);                                   \
    }
#define MICRO_ROW(mr) MICRO(mr, 1) MICRO(mr, 2)
#define NN_PAIR(mr)                                                                                          \
    { nn_##mr##_1, nn_##mr##_2 }
#define TN_PAIR(mr)                                                                                          \
    { tn_##mr##_1, tn_##mr##_2 }

MICRO_ROW(1)
MICRO_ROW(2)
MICRO_ROW(3)
MICRO_ROW(4)
#if MR > 4
MICRO_ROW(5)
MICRO_ROW(6)
#endif
#if MR > 6
MICRO_ROW(7)
MICRO_ROW(8)
MICRO_ROW(9)
MICRO_ROW(10)
MICRO_ROW(11)
MICRO_ROW(12)
MICRO_ROW(13)
MICRO_ROW(14)
#endif

static const micro_fn nn_table[MR][2] = {
    NN_PAIR(1), NN_PAIR(2), NN_PAIR(3), NN_PAIR(4),
#if MR > 4
    NN_PAIR(5), NN_PAIR(6),
#endif
#if MR > 6
    NN_PAIR(7), NN_PAIR(8), NN_PAIR(9), NN_PAIR(10), NN_PAIR(11), NN_PAIR(12), NN_PAIR(13), NN_PAIR(14),
#endif
};
static const micro_fn tn_table[MR][2] = {
    TN_PAIR(1), TN_PAIR(2), TN_PAIR(3), TN_PAIR(4),
#if MR > 4
    TN_PAIR(5), TN_PAIR(6),
#endif
#if MR > 6
    TN_PAIR(7), TN_PAIR(8), TN_PAIR(9), TN_PAIR(10), TN_PAIR(11), TN_PAIR(12), TN_PAIR(13), TN_PAIR(14),
#endif
};

/* One panel of n <= NR columns: all m rows, in blocks of nearly equal height. a_row: step of a between
 * rows. */
ALWAYS void panel(const micro_fn table[MR][2], int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
                  int64_t lda, const float *b, int64_t ldb, const float *init, int64_t init_ld, float *c,
                  int64_t ldc, bool stream) {
    const int64_t blocks = (m + MR - 1) / MR, low = m / blocks, high = m % blocks;
    const int nv = n > VL ? 1 : 0;
    for (int64_t i = 0, at = 0; i < blocks; i++) {
        const int64_t rows = low + (i < high ? 1 : 0);
        const float *from = init ? init + at * init_ld : NULL;
        const micro_fn run = table[rows - 1][nv];
        if (n % VL == 0) {
            run(k, a + at * a_row, lda, b, ldb, from, init_ld, c + at * ldc, ldc, stream);
        } else { /* columns past n must not be touched: go through a full-width copy */
            float full[MR * NR] = {0};
            for (int64_t r = 0; from && r < rows; r++)
                for (int64_t col = 0; col < n; col++) full[r * NR + col] = from[r * init_ld + col];
            run(k, a + at * a_row, lda, b, ldb, full, NR, full, NR, false);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t col = 0; col < n; col++) c[(at + r) * ldc + col] = full[r * NR + col];
        }
        at += rows;
    }
}

static void gemm_nn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                    const float *init, int64_t init_ld, float *c, int64_t ldc, bool stream) {
    /* What is read again for the next part of the depth stays in the caches. */
    stream = stream && k <= DEPTH_BLOCK && (uintptr_t)c % (VL * sizeof *c) == 0 && ldc % VL == 0;
    for (int64_t d = 0; d < k; d += DEPTH_BLOCK) {
        const int64_t depth = min_i64(DEPTH_BLOCK, k - d);
        const float *from = d ? c : init;
        const int64_t from_ld = d ? ldc : init_ld;
        for (int64_t j = 0; j < n; j += NR)
            panel(nn_table, m, min_i64(NR, n - j), depth, a + d, lda, lda, b + j * k + d * NR, NR,
                  from ? from + j : NULL, from_ld, c + j, ldc, stream);
    }
    if (stream) v_stream_end();
}

static void gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                    const float *init, int64_t init_ld, float *c, int64_t ldc) {
    for (int64_t j = 0; j < n; j += NR)
        panel(tn_table, m, min_i64(NR, n - j), k, a, 1, lda, b + j, ldb, init ? init + j : NULL, init_ld,
              c + j, ldc, false);
}

static void mul_add(int64_t n, const float *a, const float *b, float *y) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_fma(v_load(a + i), v_load(b + i), v_load(y + i)));
    for (; i < n; i++) y[i] += a[i] * b[i];
}

#undef VL_BITS
#undef AHEAD
#undef DEPTH_BLOCK
