/* Products for which the backend chooses between its own kernels, cuDNN and cuBLASLt by timing, which the
 * deterministic backend of the op matrix does not: what is fastest here, and every other candidate. And the
 * small products of batch normalisation from Gram matrices, as closely as their arithmetic allows. */
#include "candidate.h"
#include "gpu_test.h"

enum { N_ROW = 1568, MAX_CANDIDATES = 64 };

#define CONV_1X1                                                                                             \
    .window.kernel = {1, 1}, .window.stride = {1, 1}, .window.dilation = {1, 1}, .window.groups = 1

static const op_case cases[] = {
    {.name = "gram 128", .op = DT_OP_GRAM, .in = {{IN_ACT, {2, 28, 28, 128}}}},
    {.name = "gram 64", .op = DT_OP_GRAM, .in = {{IN_ACT, {N_ROW, 64}}}},
    {.name = "gram 72", .op = DT_OP_GRAM, .in = {{IN_ACT, {77, 72}}}},
    {.name = "gram_cross 512x128",
     .op = DT_OP_GRAM_CROSS,
     .in = {{IN_ACT, {2, 28, 28, 512}}, {IN_ACT, {2, 28, 28, 128}}}},
    {.name = "gram_cross 136x72", .op = DT_OP_GRAM_CROSS, .in = {{IN_ACT, {77, 136}}, {IN_ACT, {77, 72}}}},
    {.name = "gram_cross 512x128 sums",
     .op = DT_OP_GRAM_CROSS,
     .wanted = 1u << DT_CROSS_OUT_DBETA,
     .in = {{IN_ACT, {2, 28, 28, 512}}, {IN_ACT, {2, 28, 28, 128}}}},
    {.name = "gram_cross 256x64 sums",
     .op = DT_OP_GRAM_CROSS,
     .wanted = 1u << DT_CROSS_OUT_DBETA,
     .in = {{IN_ACT, {N_ROW, 256}}, {IN_ACT, {N_ROW, 64}}}},
    {.name = "gram_cross 136x72 sums",
     .op = DT_OP_GRAM_CROSS,
     .wanted = 1u << DT_CROSS_OUT_DBETA,
     .in = {{IN_ACT, {77, 136}}, {IN_ACT, {77, 72}}}},
    {.name = "bn_gram_dx 512, 128",
     .op = DT_OP_BN_GRAM_DX,
     .in = {{IN_ACT, {2, 28, 28, 512}},
            {IN_ACT, {512, 1, 1, 128}},
            {IN_ACT, {2, 28, 28, 128}},
            {IN_VEC, {129, 128}}}},
    {.name = "bn_gram_dx 256, 64",
     .op = DT_OP_BN_GRAM_DX,
     .in = {{IN_ACT, {N_ROW, 256}}, {IN_ACT, {256, 1, 1, 64}}, {IN_ACT, {N_ROW, 64}}, {IN_VEC, {65, 64}}}},
    {.name = "bn_gram_dx 136, 72",
     .op = DT_OP_BN_GRAM_DX,
     .in = {{IN_ACT, {77, 136}}, {IN_ACT, {136, 1, 1, 72}}, {IN_ACT, {77, 72}}, {IN_VEC, {73, 72}}}},
    {.name = "conv 1x1 64->256 applied residual relu",
     .op = DT_OP_CONV,
     .attr = {CONV_1X1, .window.act = DT_ACT_RELU},
     .in = {[DT_CONV_IN_X] = {IN_ACT, {2, 28, 28, 64}},
            [DT_CONV_IN_W] = {IN_ACT, {256, 1, 1, 64}},
            [DT_CONV_IN_SCALE] = {IN_VEC, {256}},
            [DT_CONV_IN_SHIFT] = {IN_VEC, {256}},
            [DT_CONV_IN_RES] = {IN_ACT, {2, 28, 28, 256}}}},
    {.name = "conv 1x1 128->512 applied",
     .op = DT_OP_CONV,
     .attr = {CONV_1X1},
     .in = {[DT_CONV_IN_X] = {IN_ACT, {2, 14, 14, 128}},
            [DT_CONV_IN_W] = {IN_ACT, {512, 1, 1, 128}},
            [DT_CONV_IN_SCALE] = {IN_VEC, {512}},
            [DT_CONV_IN_SHIFT] = {IN_VEC, {512}}}},
    {.name = "conv 1x1 72->136 applied residual relu",
     .op = DT_OP_CONV,
     .attr = {CONV_1X1, .window.act = DT_ACT_RELU},
     .in = {[DT_CONV_IN_X] = {IN_ACT, {1, 7, 11, 72}},
            [DT_CONV_IN_W] = {IN_ACT, {136, 1, 1, 72}},
            [DT_CONV_IN_SCALE] = {IN_VEC, {136}},
            [DT_CONV_IN_SHIFT] = {IN_VEC, {136}},
            [DT_CONV_IN_RES] = {IN_ACT, {1, 7, 11, 136}}}},
};
enum { CASE_COUNT = sizeof cases / sizeof cases[0] };

static const dt_dtype dtypes[] = {DT_DTYPE_F16, DT_DTYPE_BF16};
enum { DTYPE_COUNT = sizeof dtypes / sizeof dtypes[0] };

/* All outputs of a case. */
typedef struct results {
    int32_t n_out;
    float *out[DT_SLOTS_OUT_MAX]; /* NULL: not made */
    int64_t n[DT_SLOTS_OUT_MAX];
    bool library;
    char label[128];
} results;

static void results_free(results *r) {
    for (int32_t i = 0; i < r->n_out; i++) free(r->out[i]);
}

/* On inputs that `rounded` can hold, or on their magnitudes. */
static results run_case(dt_backend *be, const op_case *c, dt_dtype t, dt_dtype rounded, bool magnitudes) {
    dt_graph *g = op_case_graph(c, t);
    op_run r = op_run_open(be, g, &op_step, false);
    results out = {.n_out = g->node[0].n_out};
    for (int32_t i = 0; i < g->node[0].n_in; i++) {
        if (!op_case_has(c, i)) continue;
        float *data = op_case_data(c, i, rounded);
        const int64_t n = dt_value_n_elem(&g->value[g->node[0].in[i]]);
        for (int64_t e = 0; e < n && magnitudes; e++) data[e] = fabsf(data[e]);
        op_write(&r, g->node[0].in[i], data);
        free(data);
    }
    op_run_go(&r);
    op_check_bounds(&r);
    for (int32_t i = 0; i < out.n_out; i++) {
        if (!dt_node_makes(&g->node[0], i)) continue;
        out.out[i] = op_read(&r, g->node[0].out[i]);
        out.n[i] = dt_value_n_elem(&g->value[g->node[0].out[i]]);
    }
    out.library = strstr(r.kernel[0].label, "cublaslt") != NULL;
    snprintf(out.label, sizeof out.label, "%s", r.kernel[0].label);
    op_run_close(&r);
    dt_graph_destroy(g);
    return out;
}

/* What an output may be off by, in shares of the sum of its terms' magnitudes. A sum of n terms in fp32 is
 * off by n/2^24 in the worst order, here and in the oracle. Roundings to T: of GRAM and GRAM_CROSS none; of a
 * convolution the scaled weight or the sum, and the shift, then the result; of BN_GRAM_DX M, dz wa, x M + v
 * and the result. */
static double share(const op_case *c, dt_dtype t) {
    const double u = t == DT_DTYPE_F16 ? 0x1p-11 : 0x1p-8;
    const int32_t i = op_in_ndim(&c->in[0]) - 1;
    const int64_t last = c->in[0].dim[i];
    int64_t rows = 1;
    for (int32_t d = 0; d < i; d++) rows *= c->in[0].dim[d];
    if (c->op == DT_OP_CONV) return 2 * u + (double)(last + 4) * 0x1p-23;
    if (c->op == DT_OP_BN_GRAM_DX)
        return 3 * u + (double)(last + c->in[2].dim[op_in_ndim(&c->in[2]) - 1]) * 0x1p-23;
    return (double)rows * 0x1p-23;
}

static void compare(const results *got, const results *want, const results *size, double share_of,
                    const char *what) {
    for (int32_t i = 0; i < got->n_out; i++)
        for (int64_t e = 0; e < got->n[i]; e++) {
            const double off = fabs((double)got->out[i][e] - (double)want->out[i][e]);
            const double allowed = share_of * (double)size->out[i][e];
            if (!(off <= allowed))
                fail_msg("%s (%s): element %lld of output %d is %g instead of %g: off by %g, allowed %g",
                         what, got->label, (long long)e, i, (double)got->out[i][e], (double)want->out[i][e],
                         off, allowed);
        }
}

typedef results wanted[CASE_COUNT][DTYPE_COUNT];

static void wanted_make(dt_backend *cpu, wanted want, wanted size) {
    for (int i = 0; i < CASE_COUNT; i++)
        for (int k = 0; k < DTYPE_COUNT; k++) {
            want[i][k] = run_case(cpu, &cases[i], DT_DTYPE_F32, dtypes[k], false);
            size[i][k] = run_case(cpu, &cases[i], DT_DTYPE_F32, dtypes[k], true);
        }
}

static void wanted_free(wanted want, wanted size) {
    for (int i = 0; i < CASE_COUNT; i++)
        for (int k = 0; k < DTYPE_COUNT; k++) results_free(&want[i][k]), results_free(&size[i][k]);
}

/* Of the cases: the products of own kernels, the convolutions, which may take cuDNN's run-time fusions. */
enum { PRODUCTS = 1, CONVS = 2 };

/* How many products went through cuBLASLt. */
static int32_t run_all(dt_backend *be, wanted want, wanted size, const char *candidate, int which) {
    int32_t n_library = 0;
    for (int i = 0; i < CASE_COUNT; i++) {
        if (!(which & (cases[i].op == DT_OP_CONV ? CONVS : PRODUCTS))) continue;
        for (int k = 0; k < DTYPE_COUNT; k++) {
            char what[96];
            snprintf(what, sizeof what, "%s, %s, %s", cases[i].name, dt_dtype_name(dtypes[k]), candidate);
            results got = run_case(be, &cases[i], dtypes[k], dtypes[k], false);
            compare(&got, &want[i][k], &size[i][k], share(&cases[i], dtypes[k]), what);
            if (strcmp(candidate, "fastest") == 0) print_message("%s: %s\n", what, got.label);
            n_library += got.library;
            results_free(&got);
        }
    }
    return n_library;
}

static void check_deterministic(void **state, int which) {
    static wanted want, size;
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    wanted_make(p->cpu, want, size);
    assert_int_equal(run_all(p->gpu, want, size, "deterministic", which), 0);
    wanted_free(want, size);
}

/* Alone, so that a race checker can look at them: it does not bear the libraries' kernels. */
static void test_own_kernels(void **state) {
    check_deterministic(state, PRODUCTS);
}
static void test_convs(void **state) {
    check_deterministic(state, CONVS);
}

static void test_candidates(void **state) {
    static wanted want, size;
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    wanted_make(p->cpu, want, size);
    int32_t n_library = 1;
    for (int32_t nth = 0; nth <= 1 || n_library > 0; nth++) {
        dt_backend *be = NULL;
        dt_backend_options o = {
            .local_world = 1, .share_gpu = true, .cache_dir = getenv("DTRAIN_TEST_CACHE")};
        op_ok(dt_backend_cuda_create(&o, &be));
        dt_cuda_take_candidate(be, nth);
        char candidate[32] = "fastest";
        if (nth > 0) snprintf(candidate, sizeof candidate, "candidate %d", nth);
        n_library = run_all(be, want, size, candidate, PRODUCTS | CONVS);
        print_message("%s: %d of %d products through cuBLASLt\n", candidate, n_library,
                      CASE_COUNT * DTYPE_COUNT);
        if (nth == 1) assert_true(n_library > 0);
        be->destroy(be);
        assert_true(nth < MAX_CANDIDATES);
    }
    wanted_free(want, size);
}

/* Where no engine of cuDNN's first list runs, its second list's do, with the same results. */
static void test_next_list(void **state) {
    static wanted want, size;
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    char cache[] = "/tmp/dtrain-cache-XXXXXX", file[64];
    dt_backend *be = NULL;
    assert_non_null(mkdtemp(cache)); /* a choice that is known would not be asked again */
    dt_backend_options o = {.local_world = 1, .share_gpu = true, .cache_dir = cache};
    op_ok(dt_backend_cuda_create(&o, &be));
    dt_cuda_fail_first_list(be);
    wanted_make(p->cpu, want, size);
    (void)run_all(be, want, size, "next list", CONVS);
    wanted_free(want, size);
    be->destroy(be);
    snprintf(file, sizeof file, "rm -r %s", cache);
    assert_int_equal(system(file), 0);
}

/* Sizes of the op matrix take one tile or one split of these. */
static const op_case small_cases[] = {
    {.name = "bn_gram 1024x512",
     .op = DT_OP_BN_GRAM,
     .attr = {.norm.eps = 1e-5f, .norm.momentum = 0.1f, .norm.rows = 1000},
     .in = {{IN_GRAM, {512, 512}},
            {IN_VEC, {512}},
            {IN_ACT, {1024, 1, 1, 512}},
            {IN_POS, {1024}},
            {IN_VEC, {1024}},
            {IN_VEC, {1024}},
            {IN_POS, {1024}}}},
    {.name = "bn_gram 100x72",
     .op = DT_OP_BN_GRAM,
     .attr = {.norm.eps = 1e-5f, .norm.momentum = 0.1f, .norm.rows = 100},
     .in = {{IN_GRAM, {72, 72}},
            {IN_VEC, {72}},
            {IN_ACT, {100, 1, 1, 72}},
            {IN_POS, {100}},
            {IN_VEC, {100}},
            {IN_VEC, {100}},
            {IN_POS, {100}}}},
    {.name = "bn_gram_grad 2048x192",
     .op = DT_OP_BN_GRAM_GRAD,
     .attr = {.norm.rows = 1000},
     .in = {{IN_VEC, {2048, 192}},
            {IN_VEC, {2048}},
            {IN_VEC, {2048, 192}},
            {IN_VEC, {192}},
            {IN_ACT, {2048, 1, 1, 192}},
            {IN_VEC, {2048}},
            {IN_POS, {2048}},
            {IN_VEC, {2048}}}},
    {.name = "bn_gram_grad 600x72",
     .op = DT_OP_BN_GRAM_GRAD,
     .attr = {.norm.rows = 100},
     .in = {{IN_VEC, {600, 72}},
            {IN_VEC, {600}},
            {IN_VEC, {600, 72}},
            {IN_VEC, {72}},
            {IN_ACT, {600, 1, 1, 72}},
            {IN_VEC, {600}},
            {IN_POS, {600}},
            {IN_VEC, {600}}}},
};

/* With u a rounding to T, and sums of n terms in fp32 here and in the oracle: BN_GRAM takes the covariance in
 * two halves, so u^2; of BN_GRAM_GRAD the scaled weight or the result are rounded. */
static double small_tolerance(const op_case *c, dt_dtype t) {
    const double u = t == DT_DTYPE_F16 ? 0x1p-11 : 0x1p-8;
    if (c->op == DT_OP_BN_GRAM) return 2 * u * u + (double)c->in[0].dim[0] * 0x1p-23;
    return 2 * u + (double)c->in[0].dim[0] * 0x1p-23;
}

static void test_small_products(void **state) {
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    for (size_t i = 0; i < sizeof small_cases / sizeof small_cases[0]; i++)
        for (int k = 0; k < DTYPE_COUNT; k++) {
            const op_case *c = &small_cases[i];
            results want = run_case(p->cpu, c, DT_DTYPE_F32, dtypes[k], false);
            results got = run_case(p->gpu, c, dtypes[k], dtypes[k], false);
            for (int32_t o = 0; o < got.n_out; o++) {
                char what[96];
                snprintf(what, sizeof what, "%s, %s, output %d", c->name, dt_dtype_name(dtypes[k]), o);
                op_expect_close(got.out[o], want.out[o], got.n[o], small_tolerance(c, dtypes[k]), what);
            }
            results_free(&got), results_free(&want);
        }
}

static struct CMUnitTest tests[] = {cmocka_unit_test(test_own_kernels), cmocka_unit_test(test_convs),
                                    cmocka_unit_test(test_candidates), cmocka_unit_test(test_next_list),
                                    cmocka_unit_test(test_small_products)};
GPU_TEST_MAIN("products chosen by timing", tests)
