/* Attention against PyTorch, the op and the layer with its projections (values by tests/golden/make_golden.py), cases made at
 * random against the oracle in double, and where libraries have gone wrong. */
#include "attention_rows.h"

#include "core/autodiff.h"
#include "cpu/cpu.h"
#include "data/h5.h"
#include "model/builder.h"

#define GOLDEN_FILE "attention.h5"
#include "golden_file.h"

static bool has(const char *group, const char *what, const char *item) {
    return dt_h5_has(golden, in_group(group, what, item));
}

/* A dataset in its type; caller frees. */
static void *load(const char *group, const char *what, const char *item, dt_h5_info *info) {
    const char *name = in_group(group, what, item);
    op_ok(dt_h5_info_get(golden, name, info));
    void *data = op_zalloc(info->n_elem * 4);
    op_ok(dt_h5_read(golden, name, info->dtype, info->n_elem, data));
    return data;
}

/* A value of the dataset's name, type and shape, which it will hold; -1 where there is none. */
static dt_vid add_like(dt_graph *g, const char *group, const char *name, dt_role role) {
    dt_h5_info info;
    dt_vid v = -1;
    if (!has(group, name, "")) return -1;
    free(load(group, name, "", &info));
    op_ok(dt_graph_add_value(g, name, role, info.dtype, info.ndim, info.dim, &v));
    return v;
}

static void fill(op_run *r, const char *group, int32_t n_value) {
    for (dt_vid v = 0; v < n_value; v++) {
        dt_h5_info info;
        const dt_value *val = &r->g->value[v];
        if (val->producer >= 0 || val->role == DT_ROLE_METRIC) continue;
        void *data = load(group, "", val->name, &info);
        if (dt_value_n_elem(val) != info.n_elem)
            fail_msg("%s: %s is %s, expected %lld elements", group, val->name, dt_value_shape_text(val),
                     (long long)info.n_elem);
        op_write_bytes(r, v, data);
        free(data);
    }
}

static void expect(op_run *r, dt_vid v, const char *group, const char *what, const char *item, double scale) {
    dt_h5_info info;
    float *want = load(group, what, item, &info), *got = op_read(r, v);
    assert_int_equal(dt_value_n_elem(&r->g->value[v]), info.n_elem);
    for (int64_t i = 0; i < info.n_elem; i++) want[i] *= (float)scale;
    op_expect_close(got, want, info.n_elem, 1e-5, in_group(group, what, item));
    free(want), free(got);
}

/* ---- the op ---- */

typedef struct op_golden {
    const char *name; /* of the group in attention.h5 */
    dt_attention_attr at;
} op_golden;

static const op_golden op_table[] = {
    {"plain", {.heads = 2, .kv_heads = 2}},
    {"of keys elsewhere", {.heads = 3, .kv_heads = 3}},
    {"causal", {.heads = 2, .kv_heads = 2, .causal = true}},
    {"causal of more keys", {.heads = 2, .kv_heads = 2, .causal = true}},
    {"causal of one", {.heads = 2, .kv_heads = 2, .causal = true}},
    {"grouped causal", {.heads = 6, .kv_heads = 2, .causal = true}},
    {"window", {.heads = 2, .kv_heads = 2, .window = 3}},
    {"causal window", {.heads = 2, .kv_heads = 2, .causal = true, .window = 3}},
    {"scale", {.heads = 2, .kv_heads = 2, .scale = 0.25f}},
    {"odd heads", {.heads = 3, .kv_heads = 1, .causal = true}},
    {"lengths", {.heads = 2, .kv_heads = 2}},
    {"segments", {.heads = 2, .kv_heads = 2, .causal = true}},
    {"packed", {.heads = 3, .kv_heads = 3}},
    {"packed grouped causal", {.heads = 4, .kv_heads = 2, .causal = true}},
};

static void test_op(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof op_table / sizeof op_table[0]; i++) {
        const op_golden *c = &op_table[i];
        const int32_t n_in = DT_ATTENTION_IN_SEGMENTS + 1;
        dt_graph *g = NULL;
        dt_vid in[DT_ATTENTION_IN_SEGMENTS + 1], din[DT_ATTENTION_IN_SEGMENTS + 1], y,
            dout[DT_SLOTS_OUT_MAX] = {-1, -1, -1, -1, -1};
        bool want[DT_ATTENTION_IN_SEGMENTS + 1];
        op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
        for (int32_t k = 0; k < n_in; k++) {
            in[k] = add_like(g, c->name, op_case_in_name(k), DT_ROLE_INPUT), din[k] = -1;
            want[k] = k <= DT_ATTENTION_IN_V && in[k] >= 0;
        }
        op_ok(dt_graph_add_node(g, "y", DT_OP_ATTENTION, &(dt_attr){.attention = c->at}, n_in, in, &y));
        dout[0] = add_like(g, c->name, "dout", DT_ROLE_INPUT);
        const int32_t n_value = g->n_value;
        op_ok(dt_op_get(DT_OP_ATTENTION)->grad(g, 0, dout, want, din));
        op_run r = op_run_open(be, g, &op_step, false);
        fill(&r, c->name, n_value);
        op_run_go(&r);
        expect(&r, y, c->name, "out", "", 1);
        for (int32_t k = 0; k < n_in; k++) {
            char name[16];
            snprintf(name, sizeof name, "grad%d", k);
            assert_int_equal(has(c->name, name, ""), din[k] >= 0);
            if (din[k] >= 0) expect(&r, din[k], c->name, name, "", 1);
        }
        op_run_close(&r);
        dt_graph_destroy(g);
    }
}

/* ---- the layer ---- */

typedef struct layer_golden {
    const char *name;
    dt_attention_options o;
    int32_t n_param;
} layer_golden;

static const layer_golden layer_table[] = {
    {"layer", {.heads = 3}, 4},
    {"layer causal", {.heads = 3, .causal = true}, 4},
    {"layer without bias", {.heads = 4, .no_bias = true}, 2},
    {"layer of a context", {.heads = 3}, 4},
    {"layer of another width", {.heads = 3}, 6},
    {"layer of a padded context", {.heads = 3}, 4},
};

/* Output, gradients of both sequences and of every parameter, for torch.nn.MultiheadAttention's weights. */
static void test_layer(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof layer_table / sizeof layer_table[0]; i++) {
        const layer_golden *c = &layer_table[i];
        dt_builder b = {0};
        dt_vid metrics, loss;
        op_ok(dt_graph_create(&b.g, DT_DTYPE_F32, true));
        const dt_build_attention_inputs in = {.x = add_like(b.g, c->name, "x", DT_ROLE_PARAM),
                                              .context = add_like(b.g, c->name, "context", DT_ROLE_PARAM),
                                              .lengths = add_like(b.g, c->name, "lengths", DT_ROLE_INPUT),
                                              .segments = -1};
        const dt_vid y = dt_build_attention(&b, "l", &in, &c->o, NULL);
        op_ok(b.status);
        const dt_vid weights = add_like(b.g, c->name, "r", DT_ROLE_INPUT);
        const dt_vid product = dt_build_op(&b, "product", DT_OP_BINARY,
                                           &(dt_attr){.binary.fn = DT_BINARY_MUL}, 2, (dt_vid[]){y, weights});
        op_ok(dt_graph_add_value(b.g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1,
                                 (int64_t[]){DT_METRIC_COUNT}, &metrics));
        /* A row's loss is a mean. */
        const dt_value *v = &b.g->value[product];
        const dt_attr t = {.loss = {.weight = (float)(v->dim[1] * v->dim[2]), .kind = DT_LOSS_VALUE}};
        op_ok(dt_graph_add_node(b.g, "loss", DT_OP_LOSS, &t, 4, (dt_vid[]){product, -1, -1, metrics}, &loss));
        op_ok(dt_graph_add_loss(b.g, loss));
        const int32_t n_value = b.g->n_value;
        op_ok(dt_autodiff(b.g));
        op_ok(dt_graph_validate(b.g));
        op_run r = op_run_open(be, b.g, &op_step, false);
        fill(&r, c->name, n_value);
        op_run_go(&r);
        expect(&r, y, c->name, "y", "", 1);
        int32_t n_grad = 0;
        for (dt_vid d = n_value; d < b.g->n_value; d++) {
            if (b.g->value[d].role != DT_ROLE_GRAD) continue;
            expect(&r, d, c->name, "grad_", b.g->value[b.g->value[d].grad_of].name,
                   (double)op_step.loss_weight * (double)op_step.loss_scale);
            n_grad++;
        }
        assert_int_equal(n_grad, 1 + (in.context >= 0) + c->n_param);
        op_run_close(&r);
        dt_graph_destroy(b.g);
    }
}

/* ---- cases made at random, against the oracle in double ---- */

/* Number `i` of a case: 0 to n - 1. */
static int64_t pick(uint64_t seed, uint64_t i, int64_t n) {
    return (int64_t)(dt_philox(dt_rng_key(seed, DT_RNG_TEST, 77), 0, i).v[0] % (uint32_t)n);
}

static dt_vid add_input(dt_graph *g, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim) {
    dt_vid v;
    op_ok(dt_graph_add_value(g, name, DT_ROLE_INPUT, dtype, ndim, dim, &v));
    return v;
}

/* Floats in [-1.5, 1.5); lengths -2 to 2 past `most`, segments that ascend. */
static void fill_random(op_run *r, dt_vid v, uint64_t seed, int64_t most) {
    const dt_value *val = &r->g->value[v];
    const int64_t n = dt_value_n_elem(val);
    float *x = op_zalloc(n * 4);
    int32_t *whole = (int32_t *)(void *)x;
    for (int64_t e = 0; e < n; e++) {
        const float u = op_uniform(seed * 16 + (uint64_t)v, e);
        if (val->dtype == DT_DTYPE_F32)
            x[e] = 3 * u - 1.5f;
        else if (val->ndim == 1)
            whole[e] = (int32_t)((float)(most + 5) * u) - 2;
        else
            whole[e] = e % val->dim[1] == 0 ? 0 : whole[e - 1] + (u < 0.03f);
    }
    op_write_bytes(r, v, x);
    free(x);
}

static void check_random(uint64_t seed) {
    static const int64_t steps[] = {1, 2, 17, 63, 64, 65, 130, 200, 300, 520};
    const int64_t kv = 1 + pick(seed, 0, 3), heads = kv * (1 + pick(seed, 1, 3)), d = 1 + pick(seed, 2, 40);
    const int64_t b = 1 + pick(seed, 3, 3), t = steps[pick(seed, 4, 8)];
    const bool packed = pick(seed, 5, 3) == 0, segments = pick(seed, 6, 4) == 0;
    const int64_t s = packed || segments ? t : steps[pick(seed, 7, 10)];
    const dt_attention_attr at = {.heads = (int32_t)heads,
                                  .kv_heads = (int32_t)kv,
                                  .causal = pick(seed, 8, 2) == 0,
                                  .window = pick(seed, 9, 3) == 0 ? 1 + (int32_t)pick(seed, 10, 150) : 0,
                                  .dropout = pick(seed, 11, 4) == 0 ? 0.2f : 0,
                                  .salt = seed};
    dt_graph *g = NULL;
    dt_vid in[DT_ATTENTION_IN_SEGMENTS + 1] = {-1, -1, -1, -1, -1, -1}, din[DT_ATTENTION_IN_SEGMENTS + 1], y,
                                         dout[DT_SLOTS_OUT_MAX] = {-1, -1, -1, -1, -1};
    const bool want[DT_ATTENTION_IN_SEGMENTS + 1] = {true, !packed, !packed};
    char what[160];
    snprintf(what, sizeof what, "case %d: b %d t %d s %d heads %d/%d of %d%s%s window %d", (int)seed, (int)b,
             (int)t, (int)s, (int)heads, (int)kv, (int)d, packed ? " packed" : "", at.causal ? " causal" : "",
             at.window);
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    in[0] = add_input(g, "q", DT_DTYPE_F32, 3, (int64_t[]){b, t, (heads + (packed ? 2 * kv : 0)) * d});
    if (!packed) in[1] = add_input(g, "k", DT_DTYPE_F32, 3, (int64_t[]){b, s, kv * d});
    if (!packed) in[2] = add_input(g, "v", DT_DTYPE_F32, 3, (int64_t[]){b, s, kv * d});
    if (pick(seed, 12, 2)) in[DT_ATTENTION_IN_LENGTHS] = add_input(g, "lengths", DT_DTYPE_I32, 1, &b);
    if (pick(seed, 13, 3) == 0)
        in[DT_ATTENTION_IN_Q_LENGTHS] = add_input(g, "q_lengths", DT_DTYPE_I32, 1, &b);
    if (segments) in[DT_ATTENTION_IN_SEGMENTS] = add_input(g, "segments", DT_DTYPE_I32, 2, (int64_t[]){b, t});
    op_ok(dt_graph_add_node(g, "y", DT_OP_ATTENTION, &(dt_attr){.attention = at},
                            DT_ATTENTION_IN_SEGMENTS + 1, in, &y));
    dout[0] = add_input(g, "dout", DT_DTYPE_F32, 3, (int64_t[]){b, t, heads * d});
    op_ok(dt_op_get(DT_OP_ATTENTION)->grad(g, 0, dout, want, din));
    op_run r = op_run_open(be, g, &op_step, false);
    oracle o = oracle_open(g, &op_step);
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (!op_is_input(&r, v)) continue;
        fill_random(&r, v, seed, strcmp(g->value[v].name, "lengths") == 0 ? s : t);
        float *x = op_read(&r, v);
        for (int64_t e = 0; e < dt_value_n_elem(&g->value[v]); e++) o.data[v][e] = (double)x[e];
        free(x);
    }
    op_run_go(&r);
    op_check_bounds(&r);
    oracle_run(&o, g->n_node);
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (op_is_input(&r, v)) continue;
        const int64_t n = dt_value_n_elem(&g->value[v]);
        float *got = op_read(&r, v), *wanted = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) wanted[e] = (float)o.data[v][e];
        /* Relative to numbers like those given: who sees one key alone has a gradient of 0. */
        double square = 0, off = 0;
        for (int64_t e = 0; e < n; e++) {
            const double w = (double)wanted[e], away = (double)got[e] - w;
            if (got[e] == wanted[e]) continue;
            square += w * w, off += away * away;
        }
        if (!(sqrt(off) <= 1e-5 * fmax(sqrt(square), 0.1 * sqrt((double)n))))
            fail_msg("%s, %s: off by %.2e of %.2e", what, g->value[v].name, sqrt(off), sqrt(square));
        free(got), free(wanted);
    }
    oracle_close(&o);
    op_run_close(&r);
    dt_graph_destroy(g);
}

static void test_random(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) check_random(seed);
}

/* What cannot be counted is refused before it is. */
static void test_too_large(void **state) {
    (void)state;
    static const int64_t dims[][3] = {
        {1, INT64_C(1) << 31, 3}, {INT64_C(1) << 30, INT64_C(1) << 25, 3}, {1, 1 << 24, 3 << 28}};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        const dt_attr t = {.attention = {.heads = 1, .kv_heads = 1}};
        dt_graph *g = NULL;
        dt_prep *prep;
        int64_t bytes;
        op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
        const dt_vid q = add_input(g, "q", DT_DTYPE_F32, 3, dims[i]);
        op_ok(dt_graph_add_node(g, "y", DT_OP_ATTENTION, &t, 1, &q, NULL));
        assert_int_equal(be->prepare(be, g, 0, &prep, &bytes), DT_ERR_UNSUPPORTED);
        assert_non_null(strstr(dt_error_text(), "too large"));
        dt_graph_destroy(g);
    }
}

static void test_against_all_keys(void **state) {
    (void)state;
    attention_check_rows(be, DT_DTYPE_F32, AGAINST_TOLERANCE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_op),
        cmocka_unit_test(test_layer),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_against_all_keys),
    };
    return cmocka_run_group_tests(tests, golden_open, golden_close);
}
