/* The transforms of Winograd convolution, for the vector type of the including file; vectors run over
 * channels.
 *
 * F(4x4,3x3) (Winograd 1980; Lavin & Gray 2015) as Toom-Cook products at the points 0, +-3/4, +-3/2 and
 * infinity, which round about half as badly in fp32 as 0, +-1, +-2. With p the points and N(p) the product of
 * the differences to the other finite ones, forward is  y = A^T [(G w) . (B^T x)]  and the gradient of the
 * weights is dw = A3^T [(G4 dy) . (B^T x)]: the same 6x6 transform of x, G4 and A3 being G and A for 4 and 3
 * terms. No include guard: included once by each of conv_avx512.c, conv_avx2.c and conv_generic.c. */

#define P1     0.75f
#define P2     1.5f
#define P1_2   (P1 * P1)
#define P2_2   (P2 * P2)
#define P1_3   (P1_2 * P1)
#define P2_3   (P2_2 * P2)
#define P_PROD (P1_2 * P2_2)
#define P_SUM  (P1_2 + P2_2)
#define N_ZERO (1.0f / P_PROD)
#define N_P1   (1.0f / (2.0f * P1_2 * (P1_2 - P2_2)))
#define N_P2   (1.0f / (2.0f * P2_2 * (P2_2 - P1_2)))

ALWAYS vf mul_k(float k, vf a) {
    return v_mul(v_set1(k), a);
}
ALWAYS vf fma_k(float k, vf a, vf b) {
    return v_fma(v_set1(k), a, b);
}

/* B^T: six pixels to six products' factors; `by` is the step between them in both arrays. */
ALWAYS void input_1d(const vf *d, vf *t, const int by) {
    const vf even1 = fma_k(-P2_2, d[2 * by], d[4 * by]), odd1 = fma_k(-P2_2, d[1 * by], d[3 * by]);
    const vf even2 = fma_k(-P1_2, d[2 * by], d[4 * by]), odd2 = fma_k(-P1_2, d[1 * by], d[3 * by]);
    const vf t0 = fma_k(P_PROD, d[0], fma_k(-P_SUM, d[2 * by], d[4 * by]));
    const vf t5 = fma_k(P_PROD, d[1 * by], fma_k(-P_SUM, d[3 * by], d[5 * by]));
    t[0] = t0;
    t[1 * by] = fma_k(P1, odd1, even1);
    t[2 * by] = fma_k(-P1, odd1, even1);
    t[3 * by] = fma_k(P2, odd2, even2);
    t[4 * by] = fma_k(-P2, odd2, even2);
    t[5 * by] = t5;
}

/* A^T or A3^T: six products to n (4 or 3) results. */
ALWAYS void output_1d(const vf *m, vf *y, const int by, const int n) {
    const vf s1 = v_add(m[1 * by], m[2 * by]), d1 = v_sub(m[1 * by], m[2 * by]);
    const vf s2 = v_add(m[3 * by], m[4 * by]), d2 = v_sub(m[3 * by], m[4 * by]);
    const vf last = m[5 * by];
    y[0] = v_add(v_add(m[0], s1), s2);
    y[1 * by] = fma_k(P1, d1, mul_k(P2, d2));
    if (n == 3) {
        y[2 * by] = fma_k(P1_2, s1, fma_k(P2_2, s2, last));
    } else {
        y[2 * by] = fma_k(P1_2, s1, mul_k(P2_2, s2));
        y[3 * by] = fma_k(P1_3, d1, fma_k(P2_3, d2, last));
    }
}

/* G or G4: n (3 or 4) weights or gradients to six. */
ALWAYS void filter_1d(const vf *g, vf *t, const int g_by, const int t_by, const int n) {
    const vf g0 = g[0], g1 = g[g_by], g2 = g[2 * g_by], g3 = n == 4 ? g[3 * g_by] : v_zero();
    vf odd1 = mul_k(P1 * N_P1, g1), odd2 = mul_k(P2 * N_P2, g1);
    if (n == 4) {
        odd1 = fma_k(P1_3 * N_P1, g3, odd1);
        odd2 = fma_k(P2_3 * N_P2, g3, odd2);
    }
    const vf even1 = fma_k(P1_2 * N_P1, g2, mul_k(N_P1, g0)), even2 = fma_k(P2_2 * N_P2, g2, mul_k(N_P2, g0));
    t[0] = mul_k(N_ZERO, g0);
    t[1 * t_by] = v_add(even1, odd1);
    t[2 * t_by] = v_sub(even1, odd1);
    t[3 * t_by] = v_add(even2, odd2);
    t[4 * t_by] = v_sub(even2, odd2);
    t[5 * t_by] = n == 4 ? g3 : g2;
}

static void winograd_input(const float *const pixel[36], int64_t channels, float *dst, int64_t step) {
    for (int64_t c = 0; c < channels; c += VL) {
        vf d[36];
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) d[6 * i + j] = v_load(pixel[6 * i + j] + c);
            input_1d(d + j, d + j, 6);
        }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            input_1d(d + 6 * i, d + 6 * i, 1);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) v_store(dst + (6 * i + j) * step + c, d[6 * i + j]);
        }
    }
}

static void winograd_grad(const float *const pixel[16], int64_t channels, float *dst, int64_t step) {
    for (int64_t c = 0; c < channels; c += VL) {
        vf d[16], t[36];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) d[4 * i + j] = v_load(pixel[4 * i + j] + c);
            filter_1d(d + j, t + j, 4, 6, 4);
        }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            vf u[6];
            filter_1d(t + 6 * i, u, 1, 1, 4);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) v_store(dst + (6 * i + j) * step + c, u[j]);
        }
    }
}

static void winograd_output(const float *src, int64_t step, int64_t channels, const float *bias, float *dst,
                            int64_t row_step, int64_t col_step, int64_t rows, int64_t cols) {
    for (int64_t c = 0; c < channels; c += VL) {
        vf m[36];
        const vf b = bias ? v_load(bias + c) : v_zero();
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) m[6 * i + j] = v_load(src + (6 * i + j) * step + c);
            output_1d(m + j, m + j, 6, 4);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            output_1d(m + 6 * i, m + 6 * i, 1, 4);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                if (i < rows && j < cols)
                    v_store(dst + i * row_step + j * col_step + c, v_add(m[6 * i + j], b));
        }
    }
}

static void winograd_dw(const float *src, int64_t step, int64_t channels, float *dst, bool add) {
    for (int64_t c = 0; c < channels; c += VL) {
        vf m[36];
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) m[6 * i + j] = v_load(src + (6 * i + j) * step + c);
            output_1d(m + j, m + j, 6, 3);
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            output_1d(m + 6 * i, m + 6 * i, 1, 3);
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++) {
                float *to = dst + (3 * i + j) * channels + c;
                v_store(to, add ? v_add(v_load(to), m[6 * i + j]) : m[6 * i + j]);
            }
        }
    }
}

/* Transforms n_row x VL weights; tap (r, s) of vector i is at g[(r*3 + s) * tap_step + i * row_step], and
 * goes to dst[xi * step + i * NR]. */
static void winograd_filter(const float *g, int64_t tap_step, int64_t row_step, bool flip, int64_t n_row,
                            float *dst, int64_t step) {
    for (int64_t n = 0; n < n_row; n++) {
        vf t[18], u[6];
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) {
            vf w[3];
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++) {
                const int64_t tap = flip ? 8 - (3 * i + j) : 3 * i + j;
                w[i] = v_load(g + tap * tap_step + n * row_step);
            }
            filter_1d(w, t + j, 1, 3, 3);
        }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            filter_1d(t + 3 * i, u, 1, 1, 3);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) v_store(dst + (6 * i + j) * step + n * NR, u[j]);
        }
    }
}
