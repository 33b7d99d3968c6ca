/* Products of graphs that only run forward: what is folded into their weights, and what they take in as their end. Graphs
 * before and after are run by the CPU backend. */
#include <math.h>
#include <stdio.h>

#include "core/compile.h"
#include "cpu/cpu.h"
#include "test_check.h"

enum { N = 2, H = 5, W = 4, C = 3, K = 8 };

static const float *numbers(dt_graph *g, int64_t n, float base, float spread, uint32_t seed) {
    float *x = check_alloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = base + spread * ((float)(seed >> 8) / (float)(1 << 24) - 0.5f);
    }
    check_ok(dt_graph_own(g, x, free));
    return x;
}

static dt_vid constant(dt_graph *g, const char *name, int32_t ndim, const int64_t *dim, float base,
                       float spread) {
    dt_vid v;
    check_ok(dt_graph_add_value(g, name, DT_ROLE_PARAM, DT_DTYPE_F32, ndim, dim, &v));
    g->value[v].constant = true;
    g->value[v].init_data = numbers(g, dt_value_n_elem(&g->value[v]), base, spread, (uint32_t)v + 1);
    return v;
}

static dt_vid add(dt_graph *g, const char *name, dt_op op, const dt_attr *attr, int32_t n, const dt_vid *in) {
    dt_vid out;
    check_ok(dt_graph_add_node(g, name, op, attr, n, in, &out));
    return out;
}

static dt_graph *begin(int32_t ndim, const int64_t *dim, dt_vid *x) {
    dt_graph *g;
    check_ok(dt_graph_create(&g, DT_DTYPE_F32, false));
    check_ok(dt_graph_add_value(g, "x", DT_ROLE_INPUT, DT_DTYPE_F32, ndim, dim, x));
    return g;
}

/* conv, batch norm, [sum with x's other convolution,] relu6 as a clamp; the sum's other operand first or last. kept: the
 * normalised value is an output as well. */
static dt_graph *block(bool sum, bool first, bool kept) {
    static const dt_attr window = {.window = {.kernel = {3, 3},
                                              .stride = {1, 1},
                                              .dilation = {1, 1},
                                              .pad_begin = {1, 1},
                                              .pad_end = {1, 1},
                                              .groups = 1}},
                         norm = {.norm = {.eps = 1e-5f, .momentum = 0.1f}},
                         clamp = {.unary = {.fn = DT_UNARY_CLAMP, .a = 0, .b = 6}},
                         plus = {.binary.fn = DT_BINARY_ADD};
    dt_vid x, other = -1;
    dt_graph *g = begin(4, (int64_t[]){N, H, W, C}, &x);
    const dt_vid w2 = constant(g, "w2", 4, (int64_t[]){K, 3, 3, C}, 0, 1);
    if (sum && first) other = add(g, "other", DT_OP_CONV, &window, 2, (dt_vid[]){x, w2});
    const dt_vid w = constant(g, "w", 4, (int64_t[]){K, 3, 3, C}, 0, 1),
                 gamma = constant(g, "gamma", 1, (int64_t[]){K}, 1, 1),
                 beta = constant(g, "beta", 1, (int64_t[]){K}, 0, 1),
                 mean = constant(g, "mean", 1, (int64_t[]){K}, 0, 1),
                 var = constant(g, "var", 1, (int64_t[]){K}, 1, 1);
    dt_vid y = add(g, "conv", DT_OP_CONV, &window, 2, (dt_vid[]){x, w});
    y = add(g, "bn", DT_OP_BATCHNORM, &norm, 5, (dt_vid[]){y, gamma, beta, mean, var});
    if (kept) check_ok(dt_graph_add_output(g, "bn", y));
    if (sum && !first) other = add(g, "other", DT_OP_CONV, &window, 2, (dt_vid[]){x, w2});
    if (sum) y = add(g, "sum", DT_OP_BINARY, &plus, 2, (dt_vid[]){y, other});
    y = add(g, "end", DT_OP_UNARY, &clamp, 1, &y);
    check_ok(dt_graph_add_output(g, "y", y));
    return g;
}

/* Heads of attention as a file of another program has them: places [B,T,C], queries scaled after the product. packed: one
 * layer makes q, k and v, and its rows are [T,B]. */
static dt_graph *heads(int64_t b, bool packed, bool causal) {
    enum { T = 6, D = 4, HEADS = 2, WIDE = HEADS * D };
    static const dt_attr soft = {0}, scale = {.unary = {.fn = DT_UNARY_SCALE, .a = 0.5f}},
                         plus = {.binary.fn = DT_BINARY_ADD};
    dt_vid x, part[3], y;
    dt_graph *g = begin(3, (int64_t[]){b, T, WIDE}, &x);
    const dt_attr turn = {.transpose = {.ndim = 3, .perm = {1, 0, 2}}};
    if (packed) {
        const dt_vid w = constant(g, "w", 2, (int64_t[]){3 * WIDE, WIDE}, 0, 1),
                     bias = constant(g, "b", 1, (int64_t[]){3 * WIDE}, 0, 1);
        y = add(g, "turned", DT_OP_TRANSPOSE, &turn, 1, &x);
        y = add(g, "qkv", DT_OP_DENSE, NULL, 3, (dt_vid[]){y, w, bias});
        for (int32_t i = 0; i < 3; i++) {
            const dt_attr slice = {.shape = {.axis = 2, .begin = i * WIDE, .length = WIDE}},
                          flat = {.reshape = {.ndim = 3, .dim = {T, b * HEADS, D}}},
                          whole = {.reshape = {.ndim = 4, .dim = {b, HEADS, T, D}}};
            char name[16];
            snprintf(name, sizeof name, "part%d", i);
            part[i] = add(g, name, DT_OP_SLICE, &slice, 1, &y);
            snprintf(name, sizeof name, "flat%d", i);
            part[i] = add(g, name, DT_OP_RESHAPE, &flat, 1, &part[i]);
            snprintf(name, sizeof name, "heads%d", i);
            part[i] = add(g, name, DT_OP_TRANSPOSE, &turn, 1, &part[i]);
            snprintf(name, sizeof name, "whole%d", i);
            part[i] = add(g, name, DT_OP_RESHAPE, &whole, 1, &part[i]);
        }
    } else {
        for (int32_t i = 0; i < 3; i++) {
            const dt_attr split = {.reshape = {.ndim = 4, .dim = {b, T, HEADS, D}}},
                          swap = {.transpose = {.ndim = 4, .perm = {0, 2, 1, 3}}};
            char name[16];
            snprintf(name, sizeof name, "w%d", i);
            const dt_vid w = constant(g, name, 2, (int64_t[]){WIDE, WIDE}, 0, 1);
            snprintf(name, sizeof name, "b%d", i);
            const dt_vid bias = constant(g, name, 1, (int64_t[]){WIDE}, 0, 1);
            snprintf(name, sizeof name, "dense%d", i);
            part[i] = add(g, name, DT_OP_DENSE, NULL, 3, (dt_vid[]){x, w, bias});
            snprintf(name, sizeof name, "split%d", i);
            part[i] = add(g, name, DT_OP_RESHAPE, &split, 1, &part[i]);
            snprintf(name, sizeof name, "heads%d", i);
            part[i] = add(g, name, DT_OP_TRANSPOSE, &swap, 1, &part[i]);
        }
    }
    const dt_attr back = {.transpose = {.ndim = 4, .perm = {0, 1, 3, 2}}},
                  out = {.transpose = {.ndim = 4, .perm = {0, 2, 1, 3}}},
                  join = {.reshape = {.ndim = 3, .dim = {b, T, WIDE}}};
    y = add(g, "kt", DT_OP_TRANSPOSE, &back, 1, &part[1]);
    y = add(g, "scores", DT_OP_MATMUL, NULL, 2, (dt_vid[]){part[0], y});
    y = add(g, "scaled", DT_OP_UNARY, &scale, 1, &y);
    if (causal) {
        float *m = check_alloc(sizeof(float) * (size_t)(b * T * T));
        for (int32_t i = 0; i < b * T * T; i++) m[i] = i % T > i / T % T ? -3.4e38f : 0;
        const dt_vid mask = constant(g, "mask", 4, (int64_t[]){b, 1, T, T}, 0, 1);
        check_ok(dt_graph_own(g, m, free));
        g->value[mask].init_data = m;
        y = add(g, "masked", DT_OP_BINARY, &plus, 2, (dt_vid[]){y, mask});
    }
    y = add(g, "soft", DT_OP_SOFTMAX, &soft, 1, &y);
    y = add(g, "mixed", DT_OP_MATMUL, NULL, 2, (dt_vid[]){y, part[2]});
    y = add(g, "out", DT_OP_TRANSPOSE, &out, 1, &y);
    y = add(g, "joined", DT_OP_RESHAPE, &join, 1, &y);
    const dt_vid w = constant(g, "wo", 2, (int64_t[]){WIDE, WIDE}, 0, 1);
    y = add(g, "y", DT_OP_DENSE, NULL, 2, (dt_vid[]){y, w});
    check_ok(dt_graph_add_output(g, "y", y));
    return g;
}

/* Patches of an image, side by side. */
static dt_graph *patched(void) {
    static const dt_attr window = {
        .window = {.kernel = {2, 3}, .stride = {2, 3}, .dilation = {1, 1}, .groups = 1}};
    dt_vid x;
    dt_graph *g = begin(4, (int64_t[]){N, 6, 6, C}, &x);
    const dt_vid w = constant(g, "w", 4, (int64_t[]){K, 2, 3, C}, 0, 1),
                 b = constant(g, "b", 1, (int64_t[]){K}, 0, 1);
    const dt_vid y = add(g, "y0", DT_OP_CONV, &window, 3, (dt_vid[]){x, w, b}),
                 end = add(g, "y", DT_OP_UNARY, &(dt_attr){.unary.fn = DT_UNARY_GELU}, 1, &y);
    check_ok(dt_graph_add_output(g, "y", end));
    return g;
}

/* Compiles g, runs it and gives its output y; counts the ops of the program. */
static float *result(dt_graph *g, bool fuse, int32_t count[DT_OP_COUNT], int64_t *n) {
    dt_backend *be;
    dt_axis *axis = NULL;
    dt_program *p;
    dt_store *s;
    check_ok(dt_backend_cpu_create(&(dt_backend_options){0}, &be));
    const dt_compile_options o = {.be = be, .fuse = fuse};
    check_ok(dt_compile(g, &o, &axis, &p));
    g = p->graph;
    check_ok(dt_store_create(be, axis, g, &(dt_store_options){.compute = DT_DTYPE_F32}, &s));
    float *floats = calloc((size_t)axis->n_frozen_elem + 1, sizeof *floats);
    for (int32_t i = 0; i < axis->n_segment + axis->n_frozen; i++) {
        const dt_vid v = dt_graph_find(g, axis->param[i].name);
        memcpy(floats + axis->segment[i].offset, g->value[v].init_data,
               (size_t)dt_value_n_elem(&g->value[v]) * sizeof *floats);
    }
    dt_axis_pack_frozen(axis, floats, s->arena[DT_ARENA_FROZEN]);
    free(floats);
    check_ok(dt_program_bind(p, s, &(dt_program_options){0}));
    const dt_vid x = dt_graph_input(g, "x"), y = dt_graph_output(g, "y");
    float *in = dt_program_address(p, x);
    for (int64_t i = 0; i < dt_value_n_elem(&g->value[x]); i++) in[i] = sinf((float)i * 1.7f);
    check_ok(dt_program_run(p, NULL, NULL));
    *n = dt_value_n_elem(&g->value[y]);
    float *out = check_alloc((size_t)*n * sizeof *out);
    memcpy(out, dt_program_address(p, y), (size_t)*n * sizeof *out);
    for (int32_t op = 0; op < DT_OP_COUNT; op++) count[op] = 0;
    for (dt_nid i = 0; i < g->n_node; i++) count[g->node[i].op]++;
    dt_program_destroy(p);
    dt_store_destroy(s);
    dt_axis_destroy(axis);
    be->destroy(be);
    return out;
}

static void need_same(dt_graph *plain, dt_graph *fused, int32_t after[DT_OP_COUNT], const char *what) {
    int32_t before[DT_OP_COUNT];
    int64_t n, m;
    float *a = result(plain, false, before, &n), *b = result(fused, true, after, &m);
    double d = 0, most = 0;
    assert_int_equal(n, m);
    for (int64_t i = 0; i < n; i++)
        d = fmax(d, fabs((double)a[i] - (double)b[i])), most = fmax(most, fabs((double)a[i]));
    if (!(most > 0.1 && d <= 1e-5 * most)) fail_msg("%s: off by %.2e of %.2e", what, d, most);
    free(a), free(b);
}

static void test_convolutions_take_in_what_follows(void **state) {
    (void)state;
    for (int32_t k = 0; k < 8; k++) {
        const bool sum = k & 1, first = k & 2, kept = k & 4;
        int32_t count[DT_OP_COUNT];
        char what[64];
        snprintf(what, sizeof what, "sum %d, first %d, kept %d", sum, first, kept);
        need_same(block(sum, first, kept), block(sum, first, kept), count, what);
        assert_int_equal(count[DT_OP_BATCHNORM] + count[DT_OP_BN_FOLD] + count[DT_OP_BN_APPLY], 0);
        assert_int_equal(count[DT_OP_CONV], sum ? 2 : 1);
        /* a value that is an output stays; the other convolution may still take the sum in */
        assert_int_equal(count[DT_OP_BINARY], 0);
        assert_int_equal(count[DT_OP_UNARY], kept && !sum ? 1 : 0);
    }
}

static void test_attention_is_found(void **state) {
    (void)state;
    for (int32_t k = 0; k < 8; k++) {
        const int64_t b = k & 1 ? 3 : 1;
        const bool packed = k & 2, causal = k & 4;
        int32_t count[DT_OP_COUNT];
        char what[64];
        snprintf(what, sizeof what, "batch %d, packed %d, causal %d", (int)b, packed, causal);
        need_same(heads(b, packed, causal), heads(b, packed, causal), count, what);
        assert_int_equal(count[DT_OP_ATTENTION], 1);
        assert_int_equal(
            count[DT_OP_MATMUL] + count[DT_OP_SOFTMAX] + count[DT_OP_TRANSPOSE] + count[DT_OP_SLICE], 0);
        assert_int_equal(count[DT_OP_DENSE], 2);
    }
}

static void test_patches_are_a_product(void **state) {
    (void)state;
    int32_t count[DT_OP_COUNT];
    need_same(patched(), patched(), count, "patches");
    assert_int_equal(count[DT_OP_CONV], 0);
    assert_int_equal(count[DT_OP_DENSE], 1);
    assert_int_equal(count[DT_OP_UNARY], 0);
}

static void test_mask_of_another_kind_stays(void **state) {
    (void)state;
    dt_graph *plain = heads(2, false, true), *fused = heads(2, false, true);
    dt_graph *both[] = {plain, fused};
    int32_t count[DT_OP_COUNT];
    for (int32_t k = 0; k < 2; k++) {
        float *m = (float *)(uintptr_t)both[k]->value[dt_graph_find(both[k], "mask")].init_data;
        m[1] = -1; /* hides less */
    }
    need_same(plain, fused, count, "another mask");
    assert_int_equal(count[DT_OP_ATTENTION], 0);
    assert_int_equal(count[DT_OP_SOFTMAX], 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions_take_in_what_follows), cmocka_unit_test(test_attention_is_found),
        cmocka_unit_test(test_patches_are_a_product), cmocka_unit_test(test_mask_of_another_kind_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
