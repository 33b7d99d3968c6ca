/* Products in 8 and 4 bits: every instruction set that this processor has against sums that are written down plainly, bit
 * for bit, on any number of threads. */
#include <math.h>
#include <omp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "core/rng.h"
#include "quant.h"

typedef struct shape {
    const char *name;
    bool dense;
    int64_t n, h, w, c, k;
    int32_t kernel[2], stride[2], dilation[2], begin[2], end[2], groups;
} shape;

static const shape shapes[] = {
    {"1 row", true, 1, 1, 1, 772, 130, .groups = 1},
    {"rows", true, 1, 1, 61, 64, 200, .groups = 1},
    {"deep rows", true, 1, 1, 7, 1540, 17, .groups = 1},
    {"odd rows", true, 1, 1, 50, 37, 5, .groups = 1},
    {"1x1", false, 2, 9, 7, 32, 48, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 1},
    {"1x1/2", false, 1, 13, 9, 16, 96, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 1},
    {"3x3", false, 2, 8, 11, 64, 70, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1},
    {"3x3 deep", false, 1, 7, 7, 260, 64, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 1},
    {"7x7/2 of 3", false, 1, 20, 21, 3, 64, {7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}, 1},
    {"uneven", false, 2, 9, 8, 8, 20, {3, 2}, {2, 1}, {1, 2}, {0, 1}, {1, 2}, 1},
    {"groups", false, 1, 9, 8, 24, 40, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 2},
    {"odd groups", false, 1, 9, 8, 15, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 3},
    {"depthwise", false, 2, 9, 8, 70, 70, {5, 5}, {2, 2}, {1, 1}, {2, 2}, {2, 2}, 70},
    {"multiplied", false, 1, 9, 8, 6, 12, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 6},
};

enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* How a product ends. */
typedef enum end { TO_I32 = 0, TO_F32, TO_U8, TO_U8_RES, TO_U8_MID, OWN_SCALES, ENDS } end;

static uint32_t draw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *zeroed(int64_t n) {
    void *p = aligned_alloc(64, (size_t)dt_round_up(n + 64, 64));
    assert_non_null(p);
    return memset(p, 0, (size_t)dt_round_up(n + 64, 64));
}

static int32_t at_x(const shape *s, const uint8_t *x, int64_t row, int64_t p, int64_t q, int64_t k, int64_t i,
                    int32_t zero) {
    if (s->dense) return x[row * s->c + i];
    const int64_t c = s->c / s->groups, tap = i / c, pixel = row % (p * q);
    const int64_t h = pixel / q * s->stride[0] - s->begin[0] + tap / s->kernel[1] * s->dilation[0],
                  w = pixel % q * s->stride[1] - s->begin[1] + tap % s->kernel[1] * s->dilation[1],
                  from = k / (s->k / s->groups) * c + i % c;
    if (h < 0 || h >= s->h || w < 0 || w >= s->w) return zero;
    return x[((row / (p * q) * s->h + h) * s->w + w) * s->c + from];
}

static float clamped(float v, float least, float most) {
    return nearbyintf(fminf(fmaxf(v, least), most));
}

typedef struct job {
    dt_qproduct q;
    uint8_t *x;
    void *res;
    float *own;
    int64_t rows, groups; /* of own scales */
    int64_t p, qq;
} job;

/* The result, as the end of every instruction set is said to be. */
static void plainly(const shape *s, const job *j, end how, void *out) {
    const dt_qproduct *q = &j->q;
    for (int64_t r = 0; r < j->rows; r++)
        for (int64_t k = 0; k < q->k; k++) {
            const int64_t o = r * q->k + k;
            const float *own = j->own ? j->own + r / (j->rows / j->groups) * 2 : NULL;
            const int32_t zero = own ? (int32_t)own[1] : q->x.zero;
            int64_t sum = q->bias ? q->bias[k] : 0;
            for (int64_t i = 0; i < q->depth; i++)
                sum += (at_x(s, j->x, r, j->p, j->qq, k, i, zero) - zero) * (int64_t)q->w[k * q->depth + i];
            const bool small = q->y_type == DT_DTYPE_U8;
            const float unit = small ? q->y.scale : 1;
            float scale = (own ? 1 : q->x.scale) * q->w_scale[k];
            if (q->has_mid)
                scale /= q->mid.scale;
            else if (small)
                scale /= unit;
            if (own) scale = own[0] * scale;
            float v = (float)sum * scale;
            v += q->bias_f32 ? q->bias_f32[k] : 0;
            if (q->has_mid) {
                v = clamped(v, (float)-q->mid.zero, (float)(255 - q->mid.zero));
                v *= q->mid.scale / unit;
            }
            if (how == TO_U8_MID) v += (float)(((uint8_t *)j->res)[o] - q->res.zero) * (q->res.scale / unit);
            if (how == TO_U8_RES) v += ((float *)j->res)[o] * (1 / unit);
            if (q->act) v = v > 0 ? v : 0;
            if (how == TO_I32)
                ((int32_t *)out)[o] = (int32_t)sum;
            else if (small)
                ((uint8_t *)out)[o] =
                    (uint8_t)(int32_t)(clamped(v, (float)-q->y.zero, (float)(255 - q->y.zero)) +
                                       (float)q->y.zero);
            else
                ((float *)out)[o] = v;
        }
}

static void check(const shape *s, end how, uint32_t seed) {
    uint32_t state = seed;
    job j = {.q = {.dense = s->dense,
                   .k = s->k,
                   .bits = 8,
                   .x = {0.031f, (int32_t)(draw(&state) % 256)},
                   .y_type = DT_DTYPE_F32}};
    dt_qproduct *q = &j.q;
    q->window.groups = s->groups;
    for (int i = 0; i < 2; i++) {
        q->window.kernel[i] = s->kernel[i], q->window.stride[i] = s->stride[i];
        q->window.dilation[i] = s->dilation[i];
        q->window.pad_begin[i] = s->begin[i], q->window.pad_end[i] = s->end[i];
    }
    q->depth = s->dense ? s->c : s->kernel[0] * s->kernel[1] * (s->c / s->groups);
    const int64_t n_x = s->n * s->h * s->w * s->c;
    int8_t *w = zeroed(q->k * q->depth);
    float *w_scale = zeroed(q->k * 4), *shift = zeroed(q->k * 4);
    int32_t *bias = zeroed(q->k * 4);
    j.x = zeroed(n_x);
    /* The ends of both types often: they are what sums overflow with. */
    for (int64_t i = 0; i < n_x; i++) j.x[i] = draw(&state) % 4 ? (uint8_t)draw(&state) : 255;
    for (int64_t i = 0; i < q->k * q->depth; i++)
        w[i] = draw(&state) % 4 ? (int8_t)(uint8_t)draw(&state) : draw(&state) % 2 ? 127 : -128;
    for (int64_t k = 0; k < q->k; k++) {
        w_scale[k] = 0.001f + 1e-5f * (float)(draw(&state) % 1000);
        shift[k] = 0.1f * (float)(draw(&state) % 100);
        bias[k] = (int32_t)(draw(&state) % 20000) - 10000;
    }
    q->w = w, q->w_scale = w_scale;
    dt_graph *g;
    dt_vid x, in[3] = {-1, -1, -1}, y;
    assert_int_equal(dt_graph_create(&g, DT_DTYPE_F32, false), DT_OK);
    const int64_t dims[] = {s->n, s->h, s->w, s->c};
    assert_int_equal(dt_graph_add_value(g, "x", DT_ROLE_INPUT, DT_DTYPE_U8, 4, dims, &x), DT_OK);
    in[0] = x;
    if (how == TO_I32) q->y_type = DT_DTYPE_I32;
    if (how == TO_F32) q->bias_f32 = shift, q->act = 1 + DT_UNARY_RELU;
    if (how == TO_U8) q->bias = bias;
    if (how >= TO_U8 && how < OWN_SCALES) q->y_type = DT_DTYPE_U8, q->y = (dt_qscale){0.37f, 12};
    if (how == TO_U8_MID)
        q->has_mid = true, q->mid = (dt_qscale){0.41f, 130}, q->res = (dt_qscale){0.21f, 99},
        q->act = 1 + DT_UNARY_RELU;
    /* the shape of the result first */
    const dt_attr t = {.qproduct.product = q};
    dt_qproduct like = *q;
    like.has_mid = false;
    const dt_attr probe = {.qproduct.product = &like};
    assert_int_equal(dt_graph_add_node(g, "probe", DT_OP_QPRODUCT, &probe, 1, in, &y), DT_OK);
    const dt_value shown = g->value[y];
    j.p = shown.dim[1], j.qq = shown.dim[2];
    const int64_t n_y = dt_value_n_elem(&shown);
    j.rows = n_y / q->k;
    if (how == TO_U8_RES || how == TO_U8_MID) {
        const dt_dtype type = how == TO_U8_MID ? DT_DTYPE_U8 : DT_DTYPE_F32;
        assert_int_equal(dt_graph_add_value(g, "res", DT_ROLE_INPUT, type, shown.ndim, shown.dim, &in[2]),
                         DT_OK);
        j.res = zeroed(n_y * 4);
        for (int64_t i = 0; i < n_y; i++) {
            if (how == TO_U8_MID)
                ((uint8_t *)j.res)[i] = (uint8_t)draw(&state);
            else
                ((float *)j.res)[i] = 0.01f * (float)(draw(&state) % 5000) - 25;
        }
    }
    if (how == OWN_SCALES) {
        j.groups = s->dense ? j.rows : s->n;
        assert_int_equal(
            dt_graph_add_value(g, "own", DT_ROLE_INPUT, DT_DTYPE_F32, 2, (int64_t[]){j.groups, 2}, &in[1]),
            DT_OK);
        j.own = zeroed(j.groups * 8);
        for (int64_t i = 0; i < j.groups; i++)
            j.own[2 * i] = 0.01f + 1e-4f * (float)(draw(&state) % 100),
                      j.own[2 * i + 1] = (float)(draw(&state) % 256);
    }
    if (dt_graph_add_node(g, "node", DT_OP_QPRODUCT, &t, 3, in, &y) != DT_OK) fail_msg("%s", dt_error_text());
    const dt_node *n = &g->node[g->n_node - 1];
    void *want = zeroed(n_y * 4), *got = zeroed(n_y * 4);
    plainly(s, &j, how, want);
    const dt_cpu_qsimd *sets[] = {&dt_cpu_qsimd_generic, NULL, NULL, NULL};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) sets[1] = &dt_cpu_qsimd_avx2;
    if (__builtin_cpu_supports("avxvnni")) sets[2] = &dt_cpu_qsimd_avxvnni;
    if (__builtin_cpu_supports("avx512vnni")) sets[3] = &dt_cpu_qsimd_avx512;
#endif
    for (int i = 0; i < 4; i++)
        for (int32_t threads = 1; sets[i] && threads <= 3; threads += 2) {
            dt_cpu_qplan p;
            int64_t bytes;
            assert_int_equal(dt_cpu_qplan_bytes(g, n, &bytes), DT_OK);
            void *room = zeroed(bytes);
            dt_cpu_qplan_make(g, n, threads, sets[i], room, &p);
            void *work = zeroed(dt_cpu_qplan_workspace(&p)), *operand[3] = {j.x, j.own, j.res},
                 *out[1] = {got};
            memset(work, 0x5a, (size_t)dt_cpu_qplan_workspace(&p));
            const dt_binding b = {.in = operand, .out = out, .workspace = work};
            memset(got, 0x77, (size_t)n_y * 4);
            dt_cpu_qproduct_run(&p, &b);
            const int64_t size = (int64_t)dt_dtype_size(q->y_type);
            for (int64_t e = 0; e < n_y; e++)
                if (memcmp((char *)want + e * size, (char *)got + e * size, (size_t)size) != 0)
                    fail_msg("%s, end %d, %s, %d threads: element %lld of %lld", s->name, (int)how,
                             sets[i]->name, threads, (long long)e, (long long)n_y);
            free(room), free(work);
        }
    dt_graph_destroy(g);
    free(want), free(got), free(w), free(w_scale), free(shift), free(bias), free(j.x), free(j.res),
        free(j.own);
}

static void test_sums_are_exact(void **state) {
    (void)state;
    for (int i = 0; i < SHAPES; i++)
        for (int how = 0; how < ENDS; how++) check(&shapes[i], (end)how, (uint32_t)(i * ENDS + how + 1));
}

/* The wide form of 4 bits adds in the order of the plain one, and rows do not depend on those beside them. */
static void test_4_bits(void **state) {
    (void)state;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx512f")) skip();
    enum { BLOCKS = 5, BLOCK = 32, DEPTH = BLOCKS * BLOCK, N = DT_CPU_Q_UNIT };
    float *x = zeroed(4 * DEPTH * 4), *scale = zeroed(2 * BLOCKS * N * 4), *mid = zeroed(2 * BLOCKS * N * 4),
          *sum = zeroed(4 * BLOCKS * 4), *a = zeroed(8 * N * 4), *b = zeroed(8 * N * 4);
    uint32_t *w = zeroed(2 * DEPTH / 8 * N * 4), seed = 5;
    for (int i = 0; i < 4 * DEPTH; i++) x[i] = 1e-3f * (float)(draw(&seed) % 4000) - 2;
    for (int i = 0; i < 2 * BLOCKS * N; i++)
        scale[i] = 1e-4f * (float)(draw(&seed) % 900), mid[i] = (float)(draw(&seed) % 16) - 8;
    for (int i = 0; i < 4 * BLOCKS; i++) sum[i] = (float)i - 7.3f;
    for (int i = 0; i < 2 * DEPTH / 8 * N; i++) w[i] = draw(&seed) << 16 ^ draw(&seed);
    for (int rows = 1; rows <= 4; rows++)
        for (int units = 1; units <= 2; units++)
            for (int moved = 0; moved < 2; moved++) {
                dt_cpu_q4block k = {.x = x,
                                    .ldx = DEPTH,
                                    .depth = DEPTH,
                                    .block = BLOCK,
                                    .blocks = BLOCKS,
                                    .w = w,
                                    .scale = scale,
                                    .mid = moved ? mid : NULL,
                                    .sum = sum,
                                    .y = a};
                dt_cpu_q4_generic(&k, rows, units);
                k.y = b;
                dt_cpu_q4_avx512(&k, rows, units);
                assert_memory_equal(a, b, (size_t)(rows * units * N) * sizeof *a);
                k.y = a;
                dt_cpu_q4_avx512(&k, 1, units);
                assert_memory_equal(a, b, (size_t)(units * N) * sizeof *a);
            }
    free(x), free(scale), free(mid), free(sum), free(a), free(b), free(w);
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums_are_exact), cmocka_unit_test(test_4_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
