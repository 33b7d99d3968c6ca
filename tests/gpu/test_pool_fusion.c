/* A max pool that normalises while it reads gives the bits of a normalisation followed by a max pool: values
 * and positions, in every dtype, with ties and at edges. */
#include "gpu_test.h"

typedef struct pool_case {
    int64_t n, h, w, c;
    int32_t kernel, stride, pad;
} pool_case;

static const pool_case pool_cases[] = {
    {3, 34, 35, 64, 3, 2, 1}, {2, 17, 9, 24, 3, 2, 1}, {2, 9, 8, 5, 3, 2, 1},
    {2, 16, 9, 16, 2, 2, 0},  {2, 7, 9, 8, 3, 1, 1},
};

static const char *const in_names[] = {"x", "scale", "shift"};

/* The pool of relu(x*scale + shift): in one node or in two. */
static dt_graph *pool_graph(const pool_case *k, dt_dtype t, bool fused) {
    dt_graph *g;
    dt_vid in[3], x;
    op_ok(dt_graph_create(&g, t, true));
    op_ok(
        dt_graph_add_value(g, in_names[0], DT_ROLE_INPUT, t, 4, (int64_t[]){k->n, k->h, k->w, k->c}, &in[0]));
    for (int i = 1; i < 3; i++)
        op_ok(dt_graph_add_value(g, in_names[i], DT_ROLE_INPUT, DT_DTYPE_F32, 1, &k->c, &in[i]));
    dt_attr pool = {.window.kernel = {k->kernel, k->kernel},
                    .window.stride = {k->stride, k->stride},
                    .window.pad_begin = {k->pad, k->pad},
                    .window.pad_end = {k->pad, k->pad}};
    x = in[0];
    if (!fused)
        op_ok(dt_graph_add_node(g, "apply", DT_OP_BN_APPLY, &(dt_attr){.norm.relu = true}, 3, in, &x));
    op_ok(dt_graph_add_node(g, "pool", DT_OP_MAXPOOL, &pool, fused ? 3 : 1, fused ? in : &x, NULL));
    return g;
}

/* Few different values, so that windows have ties; about half are below the kink. */
static op_run run_pool(dt_backend *be, dt_graph *g) {
    op_run r = op_run_open(be, g, &op_step, false);
    for (int i = 0; i < 3; i++) {
        const dt_vid v = dt_graph_find(g, in_names[i]);
        const int64_t n = dt_value_n_elem(&g->value[v]);
        float *data = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) {
            const float u = op_uniform((uint64_t)i + 1, e);
            data[e] = i == 0 ? floorf(24 * u) / 8 - 1.5f : 2 * u - 0.9f;
        }
        op_write(&r, v, data);
        free(data);
    }
    op_run_go(&r);
    op_check_bounds(&r);
    return r;
}

static void test_same_bits_as_two_nodes(void **state) {
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    static const dt_dtype dtypes[] = {DT_DTYPE_F32, DT_DTYPE_F16, DT_DTYPE_BF16};
    for (size_t i = 0; i < 3 * sizeof pool_cases / sizeof pool_cases[0]; i++) {
        const pool_case *k = &pool_cases[i / 3];
        dt_graph *one = pool_graph(k, dtypes[i % 3], true), *two = pool_graph(k, dtypes[i % 3], false);
        op_run a = run_pool(p->gpu, one), b = run_pool(p->gpu, two);
        static const char *const results[] = {"pool", "pool:1"};
        for (int o = 0; o < 2; o++) {
            const dt_vid v = dt_graph_find(one, results[o]), w = dt_graph_find(two, results[o]);
            float *x = op_read(&a, v), *y = op_read(&b, w);
            for (int64_t e = 0; e < dt_value_n_elem(&one->value[v]); e++)
                if (x[e] != y[e]) /* zeros of either sign are equal */
                    fail_msg("case %d, %s, %s: element %lld is %.9g, not %.9g", (int)(i / 3),
                             dt_dtype_name(dtypes[i % 3]), results[o], (long long)e, (double)x[e],
                             (double)y[e]);
            free(x), free(y);
        }
        op_run_close(&a), op_run_close(&b);
        dt_graph_destroy(one), dt_graph_destroy(two);
    }
}

static struct CMUnitTest tests[] = {
    cmocka_unit_test(test_same_bits_as_two_nodes),
};
GPU_TEST_MAIN("max pools that normalise", tests)
