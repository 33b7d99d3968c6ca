/* The two large products of batch normalisation from Gram matrices when the backend may choose between its
 * own kernels and cuBLASLt by timing, which the deterministic backend of the op matrix does not. */
#include "gpu_test.h"

enum { N_ROW = 1568 };

static const op_case cases[] = {
    {.name = "gram_cross 512x128",
     .op = DT_OP_GRAM_CROSS,
     .in = {{IN_ACT, {2, 28, 28, 512}}, {IN_ACT, {2, 28, 28, 128}}}},
    {.name = "gram_cross 256x64",
     .op = DT_OP_GRAM_CROSS,
     .in = {{IN_ACT, {N_ROW, 256}}, {IN_ACT, {N_ROW, 64}}}},
    {.name = "gram_cross 136x72", .op = DT_OP_GRAM_CROSS, .in = {{IN_ACT, {77, 136}}, {IN_ACT, {77, 72}}}},
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
};

static float *result(dt_backend *be, const op_case *c, dt_dtype t, dt_dtype rounded, int64_t *n,
                     bool *library) {
    dt_graph *g = op_case_graph(c, t);
    op_run r = op_run_open(be, g, &op_step, false);
    for (int32_t i = 0; i < op_case_n_in(c); i++) {
        float *data = op_case_data(c, i, rounded);
        op_write(&r, g->node[0].in[i], data);
        free(data);
    }
    op_run_go(&r);
    op_check_bounds(&r);
    float *out = op_read(&r, g->node[0].out[0]);
    *n = dt_value_n_elem(&g->value[g->node[0].out[0]]);
    *library = strstr(r.kernel[0].label, "cublaslt") != NULL;
    op_run_close(&r);
    dt_graph_destroy(g);
    return out;
}

static void test_chosen_products(void **state) {
    static const dt_dtype dtypes[] = {DT_DTYPE_F16, DT_DTYPE_BF16};
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    dt_backend *be = NULL;
    dt_backend_options o = {.local_world = 1, .share_gpu = true, .cache_dir = getenv("DTRAIN_TEST_CACHE")};
    op_ok(dt_backend_cuda_create(&o, &be));
    int32_t n_library = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < sizeof dtypes / sizeof dtypes[0]; k++) {
            bool library = false;
            int64_t n = 0;
            char what[96];
            float *want = result(p->cpu, &cases[i], DT_DTYPE_F32, dtypes[k], &n, &library);
            float *got = result(be, &cases[i], dtypes[k], dtypes[k], &n, &library);
            n_library += library;
            snprintf(what, sizeof what, "%s, %s%s", cases[i].name, dt_dtype_name(dtypes[k]),
                     library ? ", cublaslt" : "");
            op_expect_close(got, want, n, gpu_tolerance(dtypes[k]), what);
            free(want), free(got);
        }
    print_message("%d of %zu products through cuBLASLt\n", n_library,
                  sizeof cases / sizeof cases[0] * (sizeof dtypes / sizeof dtypes[0]));
    be->destroy(be);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(test_chosen_products)};
GPU_TEST_MAIN("products chosen by timing", tests)
