/* Convolution and dense kernels against a double-precision reference, on every instruction set this processor
 * has, with every algorithm that applies; bit-equal repeats; no write outside output and workspace. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels_conv.h"

enum { GUARD = 64 };

typedef struct problem {
    int64_t n, h, w, c, k, r, s, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
} problem;

static const problem problem_table[] = {
    {2, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1}, /* whole Winograd tiles */
    {3, 7, 9, 32, 48, 3, 3, 1, 1, 1, 1, 1, 1, 1}, /* partial ones */
    {2, 14, 14, 32, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {1, 6, 6, 16, 16, 3, 3, 1, 1, 0, 0, 1, 1, 1},    /* no padding */
    {1, 5, 4, 16, 32, 3, 3, 1, 1, 2, 2, 1, 1, 1},    /* full padding */
    {37, 4, 4, 128, 160, 3, 3, 1, 1, 1, 1, 1, 1, 1}, /* more than one chunk of tiles */
    {5, 4, 4, 256, 272, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 12, 12, 3, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1}, /* stems */
    {2, 28, 28, 1, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {1, 30, 30, 4, 24, 7, 7, 2, 2, 3, 3, 1, 1, 1},
    {2, 10, 10, 32, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1}, /* strides */
    {2, 9, 11, 16, 40, 3, 3, 2, 2, 1, 1, 1, 1, 1},
    {1, 13, 8, 5, 7, 5, 3, 3, 2, 2, 1, 1, 1, 1},
    {2, 8, 8, 64, 128, 1, 1, 2, 2, 0, 0, 1, 1, 1},
    {1, 9, 9, 6, 10, 2, 2, 3, 3, 0, 0, 1, 1, 1},  /* stride larger than the kernel */
    {3, 6, 5, 48, 17, 1, 1, 1, 1, 0, 0, 1, 1, 1}, /* 1x1 */
    {2, 7, 7, 64, 64, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {1, 12, 10, 8, 12, 3, 3, 1, 1, 2, 2, 2, 2, 1}, /* dilation */
    {1, 15, 14, 6, 9, 3, 3, 2, 3, 2, 1, 2, 2, 1},  /* dilation and stride */
    {2, 9, 9, 32, 64, 3, 3, 1, 1, 1, 1, 1, 1, 4},  /* groups */
    {1, 8, 8, 12, 6, 3, 3, 2, 2, 1, 1, 1, 1, 3},
    {2, 9, 8, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1, 40}, /* depthwise */
    {1, 9, 9, 24, 24, 5, 5, 2, 2, 2, 2, 1, 1, 24},
    {1, 9, 9, 8, 16, 3, 3, 1, 1, 1, 1, 1, 1, 8}, /* two outputs per input channel */
    {1, 1, 1, 7, 3, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {1, 3, 200, 3, 5, 3, 9, 1, 1, 1, 4, 1, 1, 1},
    {9, 32, 32, 16, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1}, /* gradients of the weights summed in parts */
    {5, 33, 33, 3, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1},
    {3, 32, 32, 64, 32, 1, 1, 1, 1, 0, 0, 1, 1, 1},
    {6, 40, 40, 8, 12, 3, 3, 2, 2, 1, 1, 1, 1, 4},
    {2, 1, 1, 32, 48, 3, 3, 1, 1, 1, 1, 1, 1, 1}, /* images smaller than the kernel */
    {3, 1, 2, 24, 40, 7, 5, 2, 2, 3, 2, 1, 1, 1},
    {1, 2, 1, 8, 16, 5, 3, 1, 1, 2, 1, 1, 1, 2},
    {2, 2, 2, 16, 33, 3, 3, 2, 2, 1, 1, 1, 1, 1},
};

static const char *const isa_table[] = {"avx512", "avx2", "generic"};

static dt_conv_dims dims_of(const problem *p) {
    dt_conv_dims d = {.n = p->n,
                      .h = p->h,
                      .w = p->w,
                      .c = p->c,
                      .k = p->k,
                      .r = p->r,
                      .s = p->s,
                      .stride_h = p->stride_h,
                      .stride_w = p->stride_w,
                      .pad_h = p->pad_h,
                      .pad_w = p->pad_w,
                      .dil_h = p->dil_h,
                      .dil_w = p->dil_w,
                      .groups = p->groups};
    d.p = (d.h + 2 * d.pad_h - d.dil_h * (d.r - 1) - 1) / d.stride_h + 1;
    d.q = (d.w + 2 * d.pad_w - d.dil_w * (d.s - 1) - 1) / d.stride_w + 1;
    return d;
}

static uint32_t draw_state = 1;
static float draw(void) {
    draw_state = draw_state * 1664525u + 1013904223u;
    return (float)(int32_t)draw_state / 2147483648.0f;
}

static float *draw_array(int64_t n) {
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) v[i] = draw();
    return v;
}

/* The sum every kind is a slice of: x[n,h,w,c] w[k,r,s,c/G] dy[n,p,q,k], accumulated into `out`. */
static void reference(const dt_conv_dims *d, dt_cpu_conv_kind kind, const dt_cpu_conv_args *a, double *out) {
    const int64_t cg = d->c / d->groups, kg = d->k / d->groups;
    for (int64_t n = 0; n < d->n; n++)
        for (int64_t p = 0; p < d->p; p++)
            for (int64_t q = 0; q < d->q; q++)
                for (int64_t k = 0; k < d->k; k++) {
                    const int64_t y = ((n * d->p + p) * d->q + q) * d->k + k;
                    if (kind == DT_CPU_CONV_FORWARD && a->bias) out[y] += (double)a->bias[k];
                    for (int64_t r = 0; r < d->r; r++)
                        for (int64_t s = 0; s < d->s; s++) {
                            const int64_t h = p * d->stride_h - d->pad_h + r * d->dil_h;
                            const int64_t w = q * d->stride_w - d->pad_w + s * d->dil_w;
                            if (h < 0 || h >= d->h || w < 0 || w >= d->w) continue;
                            const int64_t x = ((n * d->h + h) * d->w + w) * d->c + k / kg * cg;
                            const int64_t f = ((k * d->r + r) * d->s + s) * cg;
                            for (int64_t c = 0; c < cg; c++) {
                                if (kind == DT_CPU_CONV_FORWARD)
                                    out[y] += (double)a->x[x + c] * (double)a->w[f + c];
                                else if (kind == DT_CPU_CONV_DGRAD)
                                    out[x + c] += (double)a->dy[y] * (double)a->w[f + c];
                                else
                                    out[f + c] += (double)a->dy[y] * (double)a->x[x + c];
                            }
                        }
                }
}

static double relative_error(const float *got, const double *want, int64_t n) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return isfinite(diff) ? sqrt(diff / (norm > 0 ? norm : 1)) : INFINITY;
}

/* Fills with NaN, so that an element that is not written, or scratch that is read too early, shows. */
static float *poisoned(int64_t n) {
    float *v = aligned_alloc(64, (size_t)((n + GUARD + 15) / 16 * 16) * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n + GUARD; i++) v[i] = NAN;
    return v;
}

static void check_guard(const float *v, int64_t n, const char *what, const char *label) {
    for (int64_t i = n; i < n + GUARD; i++)
        if (!isnan(v[i])) fail_msg("%s: wrote past the %s", label, what);
}

/* Returns the output; the caller frees it. */
static float *check_plan(const dt_cpu_conv_plan *plan, const dt_cpu_conv_args *inputs, const double *want,
                         int64_t n_out) {
    const int64_t n_work = plan->workspace_bytes / (int64_t)sizeof(float);
    dt_cpu_conv_args args = *inputs;
    float *first = poisoned(n_out), *again = poisoned(n_out), *work = poisoned(n_work);
    args.workspace = work;
    args.out = first;
    dt_cpu_conv_run(plan, &args);
    args.out = again;
    dt_cpu_conv_run(plan, &args);
    check_guard(first, n_out, "output", plan->label);
    check_guard(work, n_work, "workspace", plan->label);
    const double limit = plan->algo == DT_CPU_CONV_ALGO_WINOGRAD ? 5e-6 : 1e-6;
    const double error = relative_error(first, want, n_out);
    if (!(error < limit))
        fail_msg("%s on %s, %d threads: relative error %.2e", plan->label, dt_cpu_conv_isa(), plan->threads,
                 error);
    if (memcmp(first, again, (size_t)n_out * sizeof *first) != 0)
        fail_msg("%s on %s: two runs differ", plan->label, dt_cpu_conv_isa());
    free(again);
    free(work);
    return first;
}

/* The same bits where the weights are packed before, and with a team in place of OpenMP's threads. */
static void check_kept(const dt_cpu_conv_plan *plain, const dt_cpu_conv_args *inputs, const double *want,
                       int64_t n_out, const float *one) {
    dt_cpu_conv_plan plan = *plain;
    dt_cpu_conv_args args = *inputs;
    dt_cpu_conv_plan_keep(&plan);
    plan.team = true;
    const int64_t n_packed = plan.packed_bytes / (int64_t)sizeof(float);
    float *packed = plan.kept ? poisoned(n_packed) : NULL;
    if (packed) {
        dt_cpu_conv_pack(&plan, args.w, packed);
        check_guard(packed, n_packed, "packed weights", plan.label);
        args.w = NULL, args.packed = packed;
    }
    float *got = check_plan(&plan, &args, want, n_out);
    if (memcmp(one, got, (size_t)n_out * sizeof *got) != 0)
        fail_msg("%s on %s: other bits with packed weights", plan.label, dt_cpu_conv_isa());
    free(got);
    free(packed);
}

/* One algorithm with 1 to 17 threads: the same bits. */
static void check_algo(const dt_conv_dims *d, dt_cpu_conv_kind kind, dt_cpu_conv_algo algo,
                       const dt_cpu_conv_args *args, const double *want, int64_t n_out) {
    static const int32_t thread_table[] = {1, 2, 3, 5, 8, 17};
    float *one = NULL;
    for (size_t i = 0; i < sizeof thread_table / sizeof *thread_table; i++) {
        dt_cpu_conv_plan plan;
        if (dt_cpu_conv_plan_algo(d, kind, algo, thread_table[i], &plan) != DT_OK) return;
        float *got = check_plan(&plan, args, want, n_out);
        if (!one) one = got;
        if (memcmp(one, got, (size_t)n_out * sizeof *got) != 0)
            fail_msg("%s on %s: other bits with %d threads than with 1", plan.label, dt_cpu_conv_isa(),
                     plan.threads);
        check_kept(&plan, args, want, n_out, one);
        if (got != one) free(got);
    }
    free(one);
}

static void check_problem(const problem *p) {
    const dt_conv_dims d = dims_of(p);
    const int64_t nx = d.n * d.h * d.w * d.c, nw = d.k * d.r * d.s * d.c / d.groups,
                  ny = d.n * d.p * d.q * d.k;
    const int64_t n_out[] = {ny, nx, nw};
    float *x = draw_array(nx), *w = draw_array(nw), *dy = draw_array(ny), *bias = draw_array(d.k);
    for (int kind = 0; kind < 3; kind++) {
        const dt_cpu_conv_args args = {
            .x = x, .w = w, .dy = dy, .bias = kind == DT_CPU_CONV_FORWARD && p->h % 2 ? bias : NULL};
        double *want = calloc((size_t)n_out[kind], sizeof *want);
        assert_non_null(want);
        reference(&d, (dt_cpu_conv_kind)kind, &args, want);
        for (size_t isa = 0; isa < sizeof isa_table / sizeof *isa_table; isa++) {
            assert_int_equal(setenv("DT_CPU_ISA", isa_table[isa], 1), 0);
            if (strcmp(dt_cpu_conv_isa(), isa_table[isa]) != 0) continue; /* this processor lacks it */
            for (int algo = DT_CPU_CONV_ALGO_GEMM; algo <= DT_CPU_CONV_ALGO_DEPTHWISE; algo++)
                check_algo(&d, (dt_cpu_conv_kind)kind, (dt_cpu_conv_algo)algo, &args, want, n_out[kind]);
        }
        free(want);
    }
    unsetenv("DT_CPU_ISA");
    free(x);
    free(w);
    free(dy);
    free(bias);
}

static void test_conv_matches_reference(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof problem_table / sizeof *problem_table; i++)
        check_problem(&problem_table[i]);
}

/* A dense layer and its gradients, of the operands of a convolution, in a workspace with guards. */
static void run_dense(dt_cpu_conv_kind kind, int64_t n, int64_t c, int64_t k, const dt_cpu_conv_args *args,
                      int32_t threads, float *out) {
    static const dt_op op[] = {DT_OP_DENSE, DT_OP_DENSE_DGRAD, DT_OP_DENSE_WGRAD};
    dt_cpu_product p = dt_cpu_dense_product(op[kind], n, c, k);
    const int64_t n_float = dt_cpu_product_bytes(&p, threads) / (int64_t)sizeof(float);
    float *workspace = poisoned(n_float);
    p.a = kind == DT_CPU_CONV_FORWARD ? args->x : args->dy;
    p.b = kind == DT_CPU_CONV_WGRAD ? args->x : args->w;
    p.bias = kind == DT_CPU_CONV_FORWARD ? args->bias : NULL;
    p.out = out;
    dt_cpu_product_run(&p, threads, workspace);
    check_guard(workspace, n_float, "workspace", "dense");
    free(workspace);
}

/* The same bits from weights that were packed before, by a team. */
static void check_kept_dense(int64_t n, int64_t c, int64_t k, const dt_cpu_conv_args *args,
                             const float *want) {
    enum { THREADS = 3 };
    dt_cpu_product p = dt_cpu_dense_product(DT_OP_DENSE, n, c, k);
    p.b = args->w, p.kept = p.team = true;
    const int64_t n_packed = dt_cpu_product_packed_bytes(&p) / (int64_t)sizeof(float),
                  n_float = dt_cpu_product_bytes(&p, THREADS) / (int64_t)sizeof(float);
    float *packed = poisoned(n_packed), *workspace = poisoned(n_float), *got = poisoned(n * k);
    dt_cpu_product_pack(&p, THREADS, packed);
    check_guard(packed, n_packed, "packed weights", "dense");
    p.a = args->x, p.b = NULL, p.bias = args->bias, p.packed = packed, p.out = got;
    dt_cpu_product_run(&p, THREADS, workspace);
    check_guard(workspace, n_float, "workspace", "dense");
    check_guard(got, n * k, "output", "dense");
    assert_memory_equal(got, want, (size_t)(n * k) * sizeof *got);
    free(packed);
    free(workspace);
    free(got);
}

static void test_dense_matches_reference(void **state) {
    (void)state;
    static const int64_t shape_table[][3] = {
        {128, 512, 10},   {5, 33, 7},  {300, 100, 130}, {1, 1, 1},
        {900, 40, 33},    {6, 16, 15}, {400, 24, 900}, /* several stretches of the depth and tiles of the weights' rows */
        {2100, 20, 1024},                              /* past the caches */
        {70, 1024, 45}};                               /* rows that collide there */
    for (size_t i = 0; i < sizeof shape_table / sizeof *shape_table; i++) {
        const int64_t n = shape_table[i][0], c = shape_table[i][1], k = shape_table[i][2];
        const dt_conv_dims d = dims_of(&(problem){n, 1, 1, c, k, 1, 1, 1, 1, 0, 0, 1, 1, 1});
        float *x = draw_array(n * c), *w = draw_array(k * c), *dy = draw_array(n * k), *bias = draw_array(k);
        const dt_cpu_conv_args args = {.x = x, .w = w, .dy = dy, .bias = bias};
        const int64_t n_out[] = {n * k, n * c, k * c};
        for (int kind = 0; kind < 3; kind++) {
            double *want = calloc((size_t)n_out[kind], sizeof *want);
            assert_non_null(want);
            reference(&d, (dt_cpu_conv_kind)kind, &args, want);
            float *got = poisoned(n_out[kind]);
            run_dense((dt_cpu_conv_kind)kind, n, c, k, &args, 2, got);
            check_guard(got, n_out[kind], "output", "dense");
            assert_true(relative_error(got, want, n_out[kind]) < 1e-6);
            if (kind == DT_CPU_CONV_FORWARD) check_kept_dense(n, c, k, &args, got);
            free(got);
            free(want);
        }
        free(x);
        free(w);
        free(dy);
        free(bias);
    }
}

static void test_dense_is_the_same_on_any_threads(void **state) {
    (void)state;
    static const int64_t shape_table[][3] = {
        {128, 512, 10}, {32, 2048, 1000}, {500, 900, 37}, {2, 3136, 128}};
    static const int thread_table[] = {1, 2, 3, 5, 8};
    for (size_t i = 0; i < sizeof shape_table / sizeof *shape_table; i++) {
        const int64_t n = shape_table[i][0], c = shape_table[i][1], k = shape_table[i][2];
        const int64_t n_out[] = {n * k, n * c, k * c};
        float *x = draw_array(n * c), *w = draw_array(k * c), *dy = draw_array(n * k), *bias = draw_array(k);
        const dt_cpu_conv_args args = {.x = x, .w = w, .dy = dy, .bias = bias};
        for (int kind = 0; kind < 3; kind++) {
            float *one = poisoned(n_out[kind]), *got = poisoned(n_out[kind]);
            for (size_t t = 0; t < sizeof thread_table / sizeof *thread_table; t++) {
                float *out = t ? got : one;
                run_dense((dt_cpu_conv_kind)kind, n, c, k, &args, thread_table[t], out);
                if (memcmp(one, out, (size_t)n_out[kind] * sizeof *out) != 0)
                    fail_msg("dense %s of %ld x %ld x %ld: other bits with %d threads than with 1",
                             (const char *[]){"forward", "dgrad", "wgrad"}[kind], (long)n, (long)c, (long)k,
                             thread_table[t]);
            }
            free(one);
            free(got);
        }
        free(x);
        free(w);
        free(dy);
        free(bias);
    }
}

static void test_plan_refuses_overflow(void **state) {
    (void)state;
    dt_conv_dims d = dims_of(&(problem){4, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1});
    dt_cpu_conv_plan plan;
    d.n = INT64_MAX / 8;
    assert_int_equal(dt_cpu_conv_plan_make(&d, DT_CPU_CONV_FORWARD, false, 2, &plan), DT_ERR_UNSUPPORTED);
    d.n = 4;
    d.groups = 3;
    assert_int_equal(dt_cpu_conv_plan_make(&d, DT_CPU_CONV_FORWARD, false, 2, &plan), DT_ERR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_matches_reference),
        cmocka_unit_test(test_dense_matches_reference),
        cmocka_unit_test(test_dense_is_the_same_on_any_threads),
        cmocka_unit_test(test_plan_refuses_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
