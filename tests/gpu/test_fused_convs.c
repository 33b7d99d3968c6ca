/* Fused convolutions against the CPU's separate ops: statistics, scale-bias-ReLU prologue, ReLU mask and BN
 * sums in dgrad. In fp16 these are cuDNN's fused engines, in the other dtypes our passes around a plain
 * convolution. */
#include "gpu_test.h"

typedef struct shape {
    int64_t n, h, w, c, k, kernel, stride;
} shape;

static const shape SHAPES[] = {
    {4, 14, 14, 64, 64, 1, 1},  {4, 14, 14, 64, 64, 3, 1}, {8, 7, 7, 128, 256, 1, 1},
    {4, 16, 16, 64, 128, 3, 2}, {4, 15, 13, 32, 64, 1, 2}, {2, 9, 11, 256, 64, 1, 1},
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof SHAPES[0] };

static dt_attr conv_attr(const shape *s) {
    int32_t k = (int32_t)s->kernel, step = (int32_t)s->stride, pad = (int32_t)(s->kernel / 2);
    return (dt_attr){.window.kernel = {k, k},
                     .window.stride = {step, step},
                     .window.pad_begin = {pad, pad},
                     .window.pad_end = {pad, pad},
                     .window.dilation = {1, 1},
                     .window.groups = 1,
                     .window.size = {(int32_t)s->h, (int32_t)s->w}};
}

static const dt_attr apply = {.norm.relu = true};

static int64_t out_side(const shape *s, int64_t in) {
    return (in + 2 * (s->kernel / 2) - s->kernel) / s->stride + 1;
}

static dt_vid add_input(dt_graph *g, const char *name, dt_dtype t, int32_t ndim, const int64_t *dim) {
    dt_vid v;
    op_ok(dt_graph_add_value(g, name, DT_ROLE_INPUT, t, ndim, dim, &v));
    return v;
}

static dt_vid add_vector(dt_graph *g, const char *name, int64_t n) {
    return add_input(g, name, DT_DTYPE_F32, 1, (int64_t[]){n});
}

/* Random inputs, the same for both backends: small weights, positive scales, values the dtype can hold. */
static void fill_inputs(op_run *r, dt_dtype rounded) {
    for (dt_vid v = 0; v < r->g->n_value; v++) {
        const dt_value *val = &r->g->value[v];
        if (val->producer >= 0) continue;
        int64_t n = dt_value_n_elem(val);
        float *data = op_zalloc(n * (int64_t)sizeof *data);
        bool positive = strcmp(val->name, "scale") == 0 || strcmp(val->name, "stats") == 0;
        bool vector = val->ndim == 1;
        for (int64_t i = 0; i < n; i++) {
            float u = op_uniform((uint64_t)val->name[0] + (uint64_t)val->name[1] * 31, i);
            data[i] = positive ? 0.5f + u : strcmp(val->name, "w") == 0 ? 0.25f * (u - 0.5f) : 2 * u - 1;
            if (!vector && op_is_16(rounded)) data[i] = op_from16(rounded, op_to16(rounded, data[i]));
        }
        op_write(r, v, data);
        free(data);
    }
}

typedef dt_graph *build_fn(const shape *s, dt_dtype t, bool fused);

/* Outputs of the fused and of the plain graph carry the same names. */
static void check(gpu_pair *p, const shape *s, dt_dtype t, build_fn *build, const char *const *names,
                  const char *what) {
    dt_graph *plain = build(s, DT_DTYPE_F32, false), *fused = build(s, t, true);
    op_run want = op_run_open(p->cpu, plain, &op_step, false),
           got = op_run_open(p->gpu, fused, &op_step, false);
    fill_inputs(&want, t);
    fill_inputs(&got, t);
    op_run_go(&want);
    op_run_go(&got);
    op_check_bounds(&got);
    for (; *names; names++) {
        dt_vid a = dt_graph_find(fused, *names), b = dt_graph_find(plain, *names);
        assert_true(a >= 0 && b >= 0);
        float *x = op_read(&got, a), *y = op_read(&want, b);
        int64_t n = dt_value_n_elem(&fused->value[a]);
        char text[200];
        snprintf(text, sizeof text, "%s %lldx%lld/%lld %lld->%lld %s, %s", what, (long long)s->kernel,
                 (long long)s->kernel, (long long)s->stride, (long long)s->c, (long long)s->k,
                 dt_dtype_name(t), *names);
        /* Masks flip where a value rounds to 0, scale and shift are rounded too: twice the plain bound, by
         * norm. */
        op_error e = op_compare(x, y, n);
        if (!(e.norm <= 2 * gpu_tolerance(t))) fail_msg("%s: relative error %.2e", text, e.norm);
        free(x);
        free(y);
    }
    op_run_close(&got);
    op_run_close(&want);
    dt_graph_destroy(fused);
    dt_graph_destroy(plain);
}

/* y = conv(relu(x*scale + shift)), stats = its mean and variance; fused: sums, turned into the same by
 * BN_FINALIZE. */
static dt_graph *build_forward(const shape *s, dt_dtype t, bool fused, bool prologue) {
    dt_graph *g = NULL;
    op_ok(dt_graph_create(&g, t, true));
    dt_attr a = conv_attr(s), bn = {.norm.eps = 1e-5f, .norm.momentum = 0.1f};
    dt_vid x = add_input(g, "x", t, 4, (int64_t[]){s->n, s->h, s->w, s->c});
    dt_vid w = add_input(g, "w", t, 4, (int64_t[]){s->k, s->kernel, s->kernel, s->c});
    dt_vid scale = add_vector(g, "scale", s->c), shift = add_vector(g, "shift", s->c);
    dt_vid gamma = add_vector(g, "gamma", s->k), beta = add_vector(g, "beta", s->k);
    dt_vid rmean = add_vector(g, "rmean", s->k), rvar = add_vector(g, "rvar", s->k), stats;
    bn.norm.rows = (int32_t)(s->n * out_side(s, s->h) * out_side(s, s->w));
    if (prologue && !fused)
        op_ok(dt_graph_add_node(g, "apply", DT_OP_BN_APPLY, &apply, 3, (dt_vid[]){x, scale, shift}, &x));
    const bool pre = fused && prologue;
    const dt_vid in[] = {[DT_CONV_IN_X] = x,
                         [DT_CONV_IN_W] = w,
                         [DT_CONV_IN_BIAS] = -1,
                         [DT_CONV_IN_PRE_SCALE] = pre ? scale : -1,
                         [DT_CONV_IN_PRE_SHIFT] = pre ? shift : -1};
    dt_vid y;
    op_ok(dt_graph_add_node_with(g, "y", DT_OP_CONV, &a, DT_CONV_IN_PRE_SHIFT + 1, in,
                                 fused ? 1u << DT_CONV_OUT_STATS : 0, &y));
    if (fused)
        stats = g->node[g->n_node - 1].out[DT_CONV_OUT_STATS];
    else
        op_ok(dt_graph_add_node(g, "stats", DT_OP_BN_STATS, NULL, 1, &y, &stats));
    bn.norm.stats_are_sums = fused;
    op_ok(dt_graph_add_node(g, "mean", DT_OP_BN_FINALIZE, &bn, 5, (dt_vid[]){stats, gamma, beta, rmean, rvar},
                            NULL));
    return g;
}

static dt_graph *build_stats(const shape *s, dt_dtype t, bool fused) {
    return build_forward(s, t, fused, false);
}
static dt_graph *build_prologue(const shape *s, dt_dtype t, bool fused) {
    return build_forward(s, t, fused, true);
}

static dt_graph *build_wgrad(const shape *s, dt_dtype t, bool fused) {
    dt_graph *g = NULL;
    op_ok(dt_graph_create(&g, t, true));
    dt_attr a = conv_attr(s);
    dt_vid x = add_input(g, "x", t, 4, (int64_t[]){s->n, s->h, s->w, s->c});
    dt_vid dy = add_input(g, "dy", t, 4, (int64_t[]){s->n, out_side(s, s->h), out_side(s, s->w), s->k});
    dt_vid scale = add_vector(g, "scale", s->c), shift = add_vector(g, "shift", s->c);
    if (!fused)
        op_ok(dt_graph_add_node(g, "apply", DT_OP_BN_APPLY, &apply, 3, (dt_vid[]){x, scale, shift}, &x));
    op_ok(dt_graph_add_node(g, "dw", DT_OP_CONV_WGRAD, &a, fused ? 4 : 2, (dt_vid[]){x, dy, scale, shift},
                            NULL));
    return g;
}

/* dgrad, then mask by c*scale+shift and the sums of the BN gradient, then dc. */
static dt_graph *build_dgrad(const shape *s, dt_dtype t, bool fused) {
    dt_graph *g = NULL;
    op_ok(dt_graph_create(&g, t, true));
    dt_attr a = conv_attr(s);
    dt_vid dy = add_input(g, "dy", t, 4, (int64_t[]){s->n, out_side(s, s->h), out_side(s, s->w), s->k});
    dt_vid w = add_input(g, "w", t, 4, (int64_t[]){s->k, s->kernel, s->kernel, s->c});
    dt_vid c = add_input(g, "c", t, 4, (int64_t[]){s->n, s->h, s->w, s->c});
    dt_vid stats = add_input(g, "stats", DT_DTYPE_F32, 2, (int64_t[]){2, s->c});
    dt_vid gamma = add_vector(g, "gamma", s->c), beta = add_vector(g, "beta", s->c);
    dt_vid rmean = add_vector(g, "rmean", s->c), rvar = add_vector(g, "rvar", s->c);
    dt_attr bn = {.norm.eps = 1e-5f, .norm.momentum = 0.1f, .norm.rows = 100};
    op_ok(dt_graph_add_node(g, "bn", DT_OP_BN_FINALIZE, &bn, 5, (dt_vid[]){stats, gamma, beta, rmean, rvar},
                            NULL));
    const dt_vid *v = g->node[0].out;
    const dt_vid mean = v[0], invstd = v[1], scale = v[2], shift = v[3];
    dt_vid dz, coef;
    if (fused) {
        op_ok(dt_graph_add_node_with(
            g, "dz", DT_OP_CONV_DGRAD, &a, DT_DGRAD_IN_SHIFT + 1,
            (dt_vid[]){dy, w, -1, -1, c, mean, invstd, gamma, scale, shift},
            1u << DT_DGRAD_OUT_DGAMMA | 1u << DT_DGRAD_OUT_DBETA | 1u << DT_DGRAD_OUT_COEF, &dz));
        coef = g->node[g->n_node - 1].out[DT_DGRAD_OUT_COEF];
    } else {
        dt_vid dx;
        op_ok(dt_graph_add_node(g, "dx", DT_OP_CONV_DGRAD, &a, 2, (dt_vid[]){dy, w}, &dx));
        op_ok(dt_graph_add_node_with(g, "reduce", DT_OP_BN_REDUCE, NULL, DT_REDUCE_IN_SHIFT + 1,
                                     (dt_vid[]){dx, -1, c, mean, invstd, gamma, -1, scale, shift},
                                     1u << DT_REDUCE_OUT_DZ, NULL));
        coef = g->node[g->n_node - 1].out[DT_REDUCE_OUT_COEF];
        dz = g->node[g->n_node - 1].out[DT_REDUCE_OUT_DZ];
    }
    op_ok(dt_graph_add_node(g, "dc", DT_OP_BN_DX, NULL, 3, (dt_vid[]){dz, c, coef}, NULL));
    return g;
}

static void check_all(void **state, build_fn *build, const char *const *names, const char *what) {
    static const dt_dtype TYPES[] = {DT_DTYPE_F16, DT_DTYPE_F32, DT_DTYPE_BF16};
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    for (size_t t = 0; t < sizeof TYPES / sizeof TYPES[0]; t++)
        for (int i = 0; i < SHAPE_COUNT; i++) check(p, &SHAPES[i], TYPES[t], build, names, what);
}

/* The stem's four channels: columns are folded in pairs into the channels. */
static dt_graph *build_stem_wgrad(const shape *s, dt_dtype t, bool fused) {
    (void)fused;
    dt_graph *g = NULL;
    op_ok(dt_graph_create(&g, t, true));
    dt_attr a = conv_attr(s);
    dt_vid x = add_input(g, "x", t, 4, (int64_t[]){s->n, s->h, s->w, s->c});
    dt_vid dy = add_input(g, "dy", t, 4, (int64_t[]){s->n, out_side(s, s->h), out_side(s, s->w), s->k});
    op_ok(dt_graph_add_node(g, "dw", DT_OP_CONV_WGRAD, &a, 2, (dt_vid[]){x, dy}, NULL));
    return g;
}

static void test_stem(void **state) {
    static const shape STEM[] = {{2, 14, 12, 4, 16, 7, 2}, {3, 11, 20, 4, 64, 3, 2}, {2, 9, 16, 4, 8, 1, 2}};
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    for (size_t i = 0; i < sizeof STEM / sizeof STEM[0]; i++)
        for (dt_dtype t = DT_DTYPE_F32; t <= DT_DTYPE_BF16; t++) {
            check(p, &STEM[i], t, build_stats, (const char *[]){"y", "mean", "mean:1", NULL}, "stem");
            check(p, &STEM[i], t, build_stem_wgrad, (const char *[]){"dw", NULL}, "stem wgrad");
        }
}

static void test_stats(void **state) {
    check_all(state, build_stats, (const char *[]){"y", "mean", "mean:1", NULL}, "stats");
}
static void test_prologue(void **state) {
    check_all(state, build_prologue, (const char *[]){"y", "mean", "mean:1", NULL}, "prologue");
}
static void test_wgrad(void **state) {
    check_all(state, build_wgrad, (const char *[]){"dw", NULL}, "wgrad prologue");
}
static void test_dgrad(void **state) {
    check_all(state, build_dgrad, (const char *[]){"dc", NULL}, "dgrad with BN sums");
}

static struct CMUnitTest tests[] = {
    cmocka_unit_test(test_stem),  cmocka_unit_test(test_stats), cmocka_unit_test(test_prologue),
    cmocka_unit_test(test_wgrad), cmocka_unit_test(test_dgrad),
};
GPU_TEST_MAIN("fused convolutions on the GPU", tests)
