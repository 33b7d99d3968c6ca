/* Attention where the backend chooses between its own kernels and cuDNN's by timing, which the deterministic backend of the op
 * matrix does not: cuDNN's wherever it takes a node, run and replayed, against the definition in double; lengths around whole
 * tiles, rows far against every key. */
#include "attention_rows.h"
#include "candidate.h"
#include "gpu_test.h"

static dt_backend *cudnn_first(void) {
    static dt_backend *be;
    if (be || dt_cuda_device_count() == 0) return be;
    op_ok(dt_backend_cuda_create(&(dt_backend_options){.local_world = 1, .cache_dir = "/nonexistent"}, &be));
    dt_cuda_take_candidate(be, 1);
    return be;
}

typedef struct shape {
    int64_t b, t, heads, d;
    bool causal, packed;
} shape;

static const shape shapes[] = {
    {2, 128, 2, 64, true, true},  {3, 197, 2, 64, false, true},  {2, 192, 2, 64, false, true},
    {1, 64, 4, 32, false, false}, {2, 1000, 2, 64, true, false}, {1, 1024, 2, 64, true, true},
    {2, 50, 3, 64, false, true},  {1, 256, 2, 128, true, true},  {2, 72, 2, 40, false, true},
    {2, 577, 1, 64, false, true}, {2, 64, 2, 64, true, false},
};

/* y and the gradients of its inputs for a given gradient of y. */
static dt_graph *graph_of(const shape *s, dt_dtype t, dt_vid in[4], int32_t *n_in) {
    static const char *const name[] = {"q", "k", "v"};
    const dt_attr attr = {
        .attention = {.heads = (int32_t)s->heads, .kv_heads = (int32_t)s->heads, .causal = s->causal}};
    const int64_t wide = s->heads * s->d;
    dt_vid y, din[DT_SLOTS_IN_MAX], dout[DT_SLOTS_OUT_MAX] = {-1, -1, -1, -1, -1};
    bool want[DT_SLOTS_IN_MAX] = {true, !s->packed, !s->packed};
    dt_graph *g;
    *n_in = s->packed ? 1 : 3;
    op_ok(dt_graph_create(&g, t, true));
    for (int32_t i = 0; i <= *n_in; i++)
        op_ok(dt_graph_add_value(g, i < *n_in ? name[i] : "dout", DT_ROLE_INPUT, t, 3,
                                 (int64_t[]){s->b, s->t, i < *n_in && s->packed ? 3 * wide : wide}, &in[i]));
    op_ok(dt_graph_add_node(g, "y", DT_OP_ATTENTION, &attr, *n_in, in, &y));
    dout[0] = in[(*n_in)++];
    op_ok(dt_op_get(DT_OP_ATTENTION)->grad(g, 0, dout, want, din));
    return g;
}

static void compare(op_run *r, const oracle *o, dt_dtype t, const char *what) {
    for (dt_vid v = 0; v < r->g->n_value; v++) {
        if (op_is_input(r, v)) continue;
        const int64_t n = dt_value_n_elem(&r->g->value[v]);
        float *got = op_read(r, v), *want = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) want[e] = (float)o->data[v][e];
        char text[160];
        snprintf(text, sizeof text, "%s, %s", what, r->g->value[v].name);
        op_expect_close(got, want, n, gpu_tolerance(t), text);
        free(got), free(want);
    }
}

static void check_shape(dt_backend *be, const shape *s, dt_dtype t) {
    dt_vid in[4];
    int32_t n_in, n_cudnn = 0;
    char what[120];
    dt_graph *g = graph_of(s, t, in, &n_in);
    op_run r = op_run_open(be, g, &op_step, false);
    oracle o = oracle_open(g, &op_step);
    for (int32_t i = 0; i < r.n_kernel; i++) n_cudnn += strstr(r.kernel[i].label, "[cuDNN]") != NULL;
    snprintf(what, sizeof what, "%lld x %lld places, %lld heads of %lld%s%s, %s, %d of %d kernels cuDNN's",
             (long long)s->b, (long long)s->t, (long long)s->heads, (long long)s->d,
             s->causal ? ", causal" : "", s->packed ? ", packed" : "", dt_dtype_name(t), n_cudnn, r.n_kernel);
    puts(what);
    for (int32_t i = 0; i < n_in; i++) {
        const int64_t n = dt_value_n_elem(&g->value[in[i]]);
        float *x = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) x[e] = 3 * op_uniform((uint64_t)i + 1, e) - 1.5f;
        op_write(&r, in[i], x);
        free(x);
        x = op_read(&r, in[i]); /* as the type holds it */
        for (int64_t e = 0; e < n; e++) o.data[in[i]][e] = (double)x[e];
        free(x);
    }
    oracle_run(&o, g->n_node);
    op_run_go(&r);
    op_check_bounds(&r);
    compare(&r, &o, t, what);
    dt_capture *captured = NULL;
    for (dt_vid v = 0; v < g->n_value; v++)
        if (!op_is_input(&r, v)) op_fill_device(be, r.value[v].data, OP_POISON, r.value[v].bytes);
    op_ok(be->capture(be, against_enqueue, &r, &captured));
    op_ok(be->replay(be, captured, NULL));
    op_ok(be->stream_sync(be, NULL));
    op_check_bounds(&r);
    compare(&r, &o, t, what);
    be->capture_free(be, captured);
    oracle_close(&o);
    op_run_close(&r);
    dt_graph_destroy(g);
}

static void check_all(dt_dtype t) {
    dt_backend *be = cudnn_first();
    if (!be) skip();
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_shape(be, &shapes[i], t);
}

static void test_shapes_f16(void **state) {
    (void)state;
    check_all(DT_DTYPE_F16);
}

static void test_shapes_bf16(void **state) {
    (void)state;
    check_all(DT_DTYPE_BF16);
}

static void test_against_all_keys(void **state) {
    static const dt_dtype types[] = {DT_DTYPE_F16, DT_DTYPE_BF16};
    (void)state;
    if (!cudnn_first()) skip();
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        attention_check_rows(cudnn_first(), types[i], gpu_tolerance(types[i]));
}

static int close_backend(void **state) {
    (void)state;
    if (cudnn_first()) cudnn_first()->destroy(cudnn_first());
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes_f16),
        cmocka_unit_test(test_shapes_bf16),
        cmocka_unit_test(test_against_all_keys),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const int failed = cmocka_run_group_tests_name("attention through cuDNN", tests, NULL, close_backend);
    if (dt_cuda_device_count() == 0) puts("ALL TESTS SKIPPED: no GPU");
    return failed;
}
