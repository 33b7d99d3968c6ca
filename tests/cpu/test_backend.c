/* The CPU backend's own promises: memory, refusals, hostile operands, dropout, metrics, and the axis
 * kernels. */
#include "cpu/cpu.h"
#include "op_cases.h"

static dt_backend *be;

static int set_up(void **state) {
    (void)state;
    op_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 2}, &be));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    be->destroy(be);
    return 0;
}

static void test_memory(void **state) {
    (void)state;
    static const int64_t size[] = {0, 1, 63, 4097, (int64_t)9 << 20};
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
        char *p = NULL;
        op_ok(be->alloc(be, DT_MEM_COMM, size[i], (void **)&p));
        assert_int_equal((uintptr_t)p % (uintptr_t)be->align_bytes, 0);
        for (int64_t k = 0; k < size[i]; k++)
            if (p[k] != 0) fail_msg("byte %lld is not zero", (long long)k);
        be->free(be, DT_MEM_COMM, p);
    }
    void *p = NULL;
    assert_int_equal(be->alloc(be, DT_MEM_DEVICE, -1, &p), DT_ERR_MEMORY);
    assert_int_equal(be->alloc(be, DT_MEM_DEVICE, INT64_MAX, &p), DT_ERR_MEMORY);
    assert_true(be->info.total_bytes > 0 && be->info.free_bytes > 0 &&
                be->info.free_bytes <= be->info.total_bytes);
    assert_true(be->info.name[0] != '\0' && !be->info.is_gpu);
}

static void test_threads(void **state) {
    (void)state;
    for (int32_t world = 1; world <= 1024; world *= 32) {
        dt_backend *b = NULL;
        op_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = world}, &b));
        assert_true(b->host_threads >= 1);
        if (world == 1024) assert_int_equal(b->host_threads, 1);
        b->destroy(b);
    }
}

static void expect_unsupported(const op_case *c, dt_dtype compute) {
    dt_graph *g = op_case_graph(c, compute);
    dt_prep *prep = NULL;
    int64_t bytes = 0;
    assert_int_equal(be->prepare(be, g, 0, &prep, &bytes), DT_ERR_UNSUPPORTED);
    assert_non_null(strstr(dt_error_text(), "node"));
    dt_graph_destroy(g);
}

static void test_unsupported_is_refused(void **state) {
    (void)state;
    static const op_case relu = {.op = DT_OP_UNARY, .in = {{IN_ACT, {2, 3}}}};
    static const op_case stats = {.op = DT_OP_CONV,
                                  .wanted = 1u << DT_CONV_OUT_STATS,
                                  .attr = {OP_CONV(1, 1, 1, 0)},
                                  .in = {{IN_ACT, {1, 2, 2, 3}}, {IN_ACT, {4, 1, 1, 3}}}};
    static const op_case prologue = {
        .op = DT_OP_CONV_WGRAD,
        .attr = {OP_CONV(1, 1, 1, 0)},
        .in = {{IN_ACT, {1, 2, 2, 3}}, {IN_ACT, {1, 2, 2, 4}}, {IN_VEC, {3}}, {IN_VEC, {3}}}};
    assert_true(be->supports(be, DT_DTYPE_F32));
    assert_false(be->supports(be, DT_DTYPE_BF16));
    expect_unsupported(&relu, DT_DTYPE_F16);
    expect_unsupported(&stats, DT_DTYPE_F32);
    expect_unsupported(&prologue, DT_DTYPE_F32);
}

/* Runs a one-op case with one operand replaced; the status, and output 0 where `out` is given (caller
 * frees). */
static dt_status run_with(const op_case *c, const dt_step_params *step, const char *name, const void *data,
                          float **out) {
    dt_graph *g = op_case_graph(c, DT_DTYPE_F32);
    op_run r = op_run_open(be, g, step, false);
    op_case_fill(c, &r);
    if (name) op_write_bytes(&r, dt_graph_find(g, name), data);
    dt_status st = op_run_try(&r);
    if (out) *out = op_read(&r, g->node[0].out[0]);
    op_run_close(&r);
    dt_graph_destroy(g);
    return st;
}

static void test_hostile_operands(void **state) {
    (void)state;
    static const op_case xent = {.op = DT_OP_XENT,
                                 .attr = {OP_LOSS},
                                 .in = {{IN_ACT, {3, 4}}, {IN_LABEL, {3}}, {IN_ZERO, {DT_METRIC_COUNT}}}};
    assert_int_equal(run_with(&xent, &op_step, "in1", (int32_t[]){0, 4, 1}, NULL), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "label 4 of sample 1"));
    assert_int_equal(run_with(&xent, &op_step, "in1", (int32_t[]){INT32_MIN, -1, 3}, NULL), DT_OK);

    static const op_case crop = {.op = DT_OP_INPUT,
                                 .attr = {.input.size = {2, 2}, .input.padded_c = 1, OP_NORMAL},
                                 .in = {{IN_BYTE, {1, 5, 6, 1}}, {IN_WINDOW, {1, 8}}}};
    static const int32_t bad[][8] = {{-1, 0, 2, 2},
                                     {0, -1, 2, 2},
                                     {0, 0, 0, 2},
                                     {0, 0, 2, 0},
                                     {5, 0, 2, 2},
                                     {0, 4, 2, 2},
                                     {INT32_MAX, 0, INT32_MAX, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(run_with(&crop, &op_step, "in1", bad[i], NULL), DT_ERR_DATA);
    assert_int_equal(run_with(&crop, &op_step, "in1", (int32_t[8]){4, 3, 2, 2}, NULL), DT_OK);

    static const op_case mixed = {.op = DT_OP_XENT,
                                  .attr = {OP_LOSS},
                                  .in = {{IN_ACT, {3, 4}},
                                         {IN_LABEL, {3}},
                                         {IN_ZERO, {DT_METRIC_COUNT}},
                                         {0},
                                         {IN_LABEL, {3}},
                                         {IN_UNIT, {3}}}};
    assert_int_equal(run_with(&mixed, &op_step, "in4", (int32_t[]){0, 1, 4}, NULL), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "label 4 of sample 2"));
    assert_int_equal(run_with(&mixed, &op_step, "in4", (int32_t[]){INT32_MIN, -1, 3}, NULL), DT_OK);

    static const op_case mix = {.op = DT_OP_INPUT,
                                .attr = {.input.size = {5, 6}, .input.padded_c = 1, OP_NORMAL},
                                .in = {{IN_BYTE, {2, 5, 6, 1}}, {0}, {IN_MIX, {2, DT_MIX_INTS}}}};
    static const dt_mix rows[][2] = {
        {{.partner = 2, .share = 1}, {.share = 1}},
        {{.share = 1}, {.partner = -1, .share = 1}},
        {{.share = 1}, {.share = 1.5f}},
        {{.share = NAN}, {.share = 1}},
        {{.partner = 1, .box = {-9, -9, 99, 99}}, {.share = 1, .erase = {-9, -9, 99, 99}}}};
    for (int i = 0; i < 5; i++)
        assert_int_equal(run_with(&mix, &op_step, "in2", &rows[i], NULL), i < 4 ? DT_ERR_DATA : DT_OK);
}

/* A window of the whole image at its own size is the plain input; flipped, its mirror image. */
static void test_crop_of_everything(void **state) {
    (void)state;
    static const op_case plain = {.op = DT_OP_INPUT,
                                  .attr = {.input.size = {5, 6}, .input.padded_c = 4, OP_NORMAL},
                                  .in = {{IN_BYTE, {1, 5, 6, 3}}}};
    op_case crop = plain;
    float *a, *b;
    crop.in[1] = (op_in){IN_WINDOW, {1, 8}};
    op_ok(run_with(&plain, &op_step, NULL, NULL, &a));
    for (int32_t flip = 0; flip < 2; flip++) {
        op_ok(run_with(&crop, &op_step, "in1", (int32_t[8]){0, 0, 6, 5, flip}, &b));
        for (int i = 0; i < 5 * 6 * 4; i++) {
            int col = i / 4 % 6, from = i + (flip ? (5 - 2 * col) * 4 : 0);
            assert_true(b[i] == a[from]);
        }
        free(b);
    }
    free(a);
}

static void test_nan_is_not_hidden(void **state) {
    (void)state;
    static const op_case relu = {.op = DT_OP_UNARY, .in = {{IN_ACT, {4}}}};
    static const op_case pool = {
        .op = DT_OP_MAXPOOL, .attr = {OP_WINDOW(2, 2, 2, 0)}, .in = {{IN_ACT, {1, 2, 2, 1}}}};
    static const op_case apply = {.op = DT_OP_BN_APPLY,
                                  .attr = {.norm.relu = true},
                                  .in = {{IN_ACT, {1, 4}}, {IN_VEC, {4}}, {IN_VEC, {4}}}};
    static const op_case stats = {.op = DT_OP_BN_STATS, .in = {{IN_ACT, {4, 1}}}};
    const op_case *all[] = {&relu, &pool, &apply, &stats};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
        for (int at = 0; at < 4; at++) {
            float x[4] = {1, -2, 3, -4}, *y;
            x[at] = NAN;
            op_ok(run_with(all[k], &op_step, "in0", x, &y));
            assert_true(isnan(all[k]->op == DT_OP_MAXPOOL || all[k]->op == DT_OP_BN_STATS ? y[0] : y[at]));
            free(y);
        }
}

static void test_running_statistics(void **state) {
    (void)state;
    op_check_bn_keeps(be);
}

static void test_metrics(void **state) {
    (void)state;
    static const op_case c = {.op = DT_OP_XENT,
                              .attr = {OP_LOSS},
                              .in = {{IN_ACT, {4, 7}}, {IN_LABEL, {4}}, {IN_ZERO, {DT_METRIC_COUNT}}}};
    static const float logit[4][7] = {
        {9, 1, 2, 3, 4, 5, 6},   /* label 0: first */
        {7, 7, 1, 1, 1, 1, 1},   /* label 1: tied with a lower index, so second */
        {6, 5, 4, 3, 2, 1, 0},   /* label 5: sixth */
        {NAN, 1, 2, 3, 4, 5, 6}, /* label 6: every comparison with NaN counts against it */
    };
    dt_graph *g = op_case_graph(&c, DT_DTYPE_F32);
    op_run r = op_run_open(be, g, &op_step, false);
    float start[DT_METRIC_COUNT] = {[DT_METRIC_TOP1] = 10, [DT_METRIC_SAMPLES] = 100};
    op_write(&r, dt_graph_find(g, "in0"), &logit[0][0]);
    op_write_bytes(&r, dt_graph_find(g, "in1"), (int32_t[]){0, 1, 5, -1});
    op_write(&r, dt_graph_find(g, "in2"), start);
    op_run_go(&r);
    float *m = op_read(&r, dt_graph_find(g, "in2")), *loss = op_read(&r, g->node[0].out[0]);
    assert_true(m[DT_METRIC_TOP1] == 11 && m[DT_METRIC_TOP5] == 2 && m[DT_METRIC_SAMPLES] == 103);
    assert_true(fabsf(m[DT_METRIC_LOSS] - (loss[0] + loss[1] + loss[2])) < 1e-5f && loss[3] == 0);
    op_write(&r, dt_graph_find(g, "in2"), start);
    op_write_bytes(&r, dt_graph_find(g, "in1"), (int32_t[]){-1, -1, -1, 6});
    op_run_go(&r);
    free(m), free(loss);
    m = op_read(&r, dt_graph_find(g, "in2"));
    assert_true(m[DT_METRIC_TOP1] == 10 && isnan(m[DT_METRIC_LOSS]));
    free(m);
    op_run_close(&r);
    dt_graph_destroy(g);
}

/* Large logits must not overflow. */
static void test_xent_range(void **state) {
    (void)state;
    static const op_case c = {.op = DT_OP_XENT,
                              .attr = {OP_LOSS},
                              .in = {{IN_ACT, {2, 3}}, {IN_LABEL, {2}}, {IN_ZERO, {DT_METRIC_COUNT}}}};
    dt_graph *g = op_case_graph(&c, DT_DTYPE_F32);
    op_run r = op_run_open(be, g, &op_step, false);
    op_write(&r, dt_graph_find(g, "in0"), (float[]){3e4f, 0, -3e4f, -200, -200, -200});
    op_write_bytes(&r, dt_graph_find(g, "in1"), (int32_t[]){1, 2});
    op_write(&r, dt_graph_find(g, "in2"), (float[DT_METRIC_COUNT]){0});
    op_run_go(&r);
    float *loss = op_read(&r, g->node[0].out[0]);
    assert_true(fabsf(loss[0] - 3e4f) < 1 && fabsf(loss[1] - logf(3)) < 1e-6f);
    free(loss);
    op_run_close(&r);
    dt_graph_destroy(g);
}

static void test_dropout(void **state) {
    (void)state;
    enum { N = 40000 };
    op_case c = {.op = DT_OP_DROPOUT, .attr = {.dropout.p = 0.3f, .dropout.salt = 1}, .in = {{IN_POS, {N}}}};
    op_case back = c;
    c.in[0].kind = back.in[0].kind = IN_FAR; /* no zeros of its own */
    back.op = DT_OP_DROPOUT_BWD;
    dt_step_params step = op_step;
    float *base, *same, *other;
    op_ok(run_with(&c, &step, NULL, NULL, &base));
    op_ok(run_with(&back, &step, NULL, NULL, &same));
    assert_memory_equal(base, same, N * sizeof *base);
    int64_t n_kept = 0;
    float *x = op_case_data(&c, 0, DT_DTYPE_F32);
    for (int i = 0; i < N; i++) {
        n_kept += base[i] != 0;
        if (base[i] != 0) assert_true(fabsf(base[i] - x[i] / 0.7f) < 1e-4f);
    }
    free(x), free(same);
    double sigma = sqrt(0.3 * 0.7 * N);
    assert_true(fabs((double)n_kept - 0.7 * N) < 4 * sigma);
    /* Another step, micro-batch, seed or node draws another, independent mask. */
    for (int k = 0; k < 4; k++) {
        step = op_step;
        op_case d = c;
        if (k == 0) step.step++;
        if (k == 1) step.micro++;
        if (k == 2) step.seed++;
        if (k == 3) d.attr.dropout.salt++;
        op_ok(run_with(&d, &step, NULL, NULL, &other));
        int64_t both = 0;
        for (int i = 0; i < N; i++) both += base[i] != 0 && other[i] != 0;
        assert_true(fabs((double)both - 0.49 * N) < 4 * sqrt(0.49 * 0.51 * N));
        free(other);
    }
    free(base);
}

/* ---- the parameter axis ---- */

enum { AXIS = 70000, FIRST = 10, FIRST_N = 33000, SECOND = 33024, SECOND_N = 30000 };

typedef struct axis {
    float *grad, *acc, *master, *mom1, *mom2, *ema, norm2, metrics[DT_METRIC_COUNT];
    dt_step_params params;
    dt_axis_args args;
} axis;

static void axis_make(axis *x) {
    static const dt_axis_segment segment[] = {
        {.n_elem = 8, .decay = 0.5f, .lr_scale = 1},
        {.offset = FIRST, .n_elem = FIRST_N, .lr_scale = 1},
        {.offset = SECOND, .n_elem = SECOND_N, .decay = 0.1f, .lr_scale = 0.5f},
        {.offset = AXIS - 8, .n_elem = 8, .decay = 0.5f, .lr_scale = 1}};
    float **array[] = {&x->grad, &x->acc, &x->master, &x->mom1, &x->mom2, &x->ema};
    memset(x, 0, sizeof *x);
    for (size_t k = 0; k < sizeof array / sizeof array[0]; k++) {
        *array[k] = op_zalloc(sizeof(float) * AXIS);
        for (int i = 0; i < AXIS; i++) (*array[k])[i] = op_uniform((uint64_t)k, i);
    }
    x->params = op_step;
    x->args = (dt_axis_args){
        .offset = 9,
        .n_elem = AXIS - 17, /* the first and the last segment are outside */
        .segment = segment,
        .n_segment = 4,
        .grad = x->grad,
        .acc = x->acc,
        .master = x->master,
        .state = {x->mom1, x->mom2},
        .ema = x->ema,
        .norm2 = &x->norm2,
        .metrics = x->metrics,
        .optim = {.kind = DT_OPTIM_MOMENTUM, .momentum = 0.9, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8},
        .params = &x->params};
}

static void axis_free(axis *x) {
    free(x->grad), free(x->acc), free(x->master), free(x->mom1), free(x->mom2), free(x->ema);
}

static void axis_run(axis *x, dt_axis_kind kind) {
    dt_kernel k;
    op_ok(be->bind_axis(be, kind, &x->args, &k));
    assert_int_equal(k.node, -1);
    assert_true(k.label && strlen(k.label) > 3);
    op_ok(k.run(k.ctx, NULL));
}

static void test_axis_accumulates(void **state) {
    (void)state;
    axis x;
    axis_make(&x);
    for (int i = 9; i < AXIS - 8; i++) x.acc[i] = NAN;
    axis_run(&x, DT_AXIS_ACCUM);
    x.params.first_micro = 0;
    axis_run(&x, DT_AXIS_ACCUM);
    for (int i = 0; i < AXIS; i++) {
        bool inside = i >= 9 && i < AXIS - 8;
        assert_true(x.acc[i] == (inside ? 2 * x.grad[i] : op_uniform(1, i)));
    }
    axis_free(&x);
}

static void test_axis_norm(void **state) {
    (void)state;
    axis x;
    axis_make(&x);
    double want = 3;
    x.norm2 = 3;
    for (int i = 9; i < AXIS - 8; i++) want += pow((double)x.grad[i] / (double)op_step.loss_scale, 2);
    axis_run(&x, DT_AXIS_SUMSQ);
    assert_true(fabs((double)x.norm2 / want - 1) < 1e-6);
    static const float broken[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (size_t k = 0; k < sizeof broken / sizeof broken[0]; k++) {
        x.grad[AXIS / 2] = broken[k];
        x.norm2 = 0;
        axis_run(&x, DT_AXIS_SUMSQ);
        assert_true(!isfinite(x.norm2));
    }
    axis_free(&x);
}

/* Decay by segment, clipping, EMA; padding and everything outside the range keep their bits. */
static void test_axis_update(void **state) {
    (void)state;
    static const dt_optim_kind kinds[] = {DT_OPTIM_SGD, DT_OPTIM_MOMENTUM, DT_OPTIM_NESTEROV, DT_OPTIM_ADAMW};
    for (int rule = 0; rule < 4; rule++) {
        axis x, old;
        axis_make(&x);
        axis_make(&old);
        x.norm2 = 16;
        x.args.clip_norm = 1;
        x.args.optim.kind = kinds[rule];
        if (rule == 0) x.args.state[0] = NULL;
        axis_run(&x, DT_AXIS_UPDATE);
        assert_true(x.metrics[DT_METRIC_GRAD_NORM] == 4 && x.metrics[DT_METRIC_SKIPPED] == 0);
        assert_int_equal(x.params.updates, 1);
        const double clip = 1 / (4 + 1e-6), scale = clip / (double)op_step.loss_scale,
                     d = (double)op_step.ema_decay;
        for (int i = 0; i < AXIS; i++) {
            bool first = i >= FIRST && i < FIRST + FIRST_N, second = i >= SECOND && i < SECOND + SECOND_N;
            if (!first && !second) {
                assert_true(x.master[i] == old.master[i] && x.mom1[i] == old.mom1[i] &&
                            x.ema[i] == old.ema[i]);
                continue;
            }
            double decay = second ? (double)0.1f : 0, lr = second ? 0.05 : 0.1, w = (double)old.master[i],
                   g = scale * (double)old.grad[i];
            double m = (double)old.mom1[i], v = (double)old.mom2[i];
            if (rule == 3) {
                w -= lr * decay * w;
                m = 0.9 * m + 0.1 * g, v = 0.99 * v + 0.01 * g * g;
                w -= lr * (m / 0.1) / (sqrt(v / 0.01) + 1e-8);
            } else {
                g += decay * w;
                m = rule == 0 ? m : 0.9 * m + g;
                w -= lr * (rule == 0 ? g : rule == 1 ? m : g + 0.9 * m);
            }
            double ema = d * (double)old.ema[i] + (1 - d) * w;
            double allowed = 1e-6 * (1 + fabs(w));
            if (fabs((double)x.master[i] - w) > allowed || fabs((double)x.mom1[i] - m) > allowed ||
                fabs((double)x.ema[i] - ema) > allowed ||
                (rule == 3 && fabs((double)x.mom2[i] - v) > allowed))
                fail_msg("rule %d, element %d: %.8g, expected %.8g", rule, i, (double)x.master[i], w);
        }
        axis_free(&x), axis_free(&old);
    }
}

/* Without segments: all of the range, padding or not. */
static void test_axis_average(void **state) {
    (void)state;
    static const float norms[] = {16, NAN, INFINITY};
    for (size_t k = 0; k < sizeof norms / sizeof norms[0]; k++) {
        axis x, old;
        axis_make(&x);
        axis_make(&old);
        x.norm2 = norms[k];
        x.args.segment = NULL, x.args.n_segment = 0;
        axis_run(&x, DT_AXIS_AVERAGE);
        for (int i = 0; i < AXIS; i++) {
            const bool inside = i >= 9 && i < AXIS - 8 && k == 0;
            const double d = inside ? (double)op_step.ema_decay : 1,
                         want = d * (double)old.ema[i] + (1 - d) * (double)old.master[i];
            assert_true(fabs((double)x.ema[i] - want) <= (inside ? 1e-6 : 0) && x.master[i] == old.master[i]);
        }
        assert_true(fabsf(x.ema[AXIS / 2] - old.ema[AXIS / 2]) > 1e-4f || k > 0); /* it moves */
        axis_free(&x), axis_free(&old);
    }
}

static void test_axis_skips_what_is_not_finite(void **state) {
    (void)state;

    for (int k = 0; k < 2; k++) {
        axis x, old;
        axis_make(&x);
        axis_make(&old);
        x.norm2 = k == 0 ? NAN : INFINITY;
        axis_run(&x, DT_AXIS_UPDATE);
        assert_true(x.metrics[DT_METRIC_SKIPPED] == 1 && x.params.updates == 0);
        assert_memory_equal(x.master, old.master, sizeof(float) * AXIS);
        assert_memory_equal(x.mom1, old.mom1, sizeof(float) * AXIS);
        assert_memory_equal(x.ema, old.ema, sizeof(float) * AXIS);
        axis_free(&x), axis_free(&old);
    }
}

static void test_axis_refuses_16_bits(void **state) {
    (void)state;
    axis x;
    dt_kernel k;
    axis_make(&x);
    x.args.grad_dtype = DT_DTYPE_F16;
    assert_int_equal(be->bind_axis(be, DT_AXIS_UPDATE, &x.args, &k), DT_ERR_UNSUPPORTED);
    x.args.grad_dtype = DT_DTYPE_F32;
    x.args.param16 = x.acc;
    assert_int_equal(be->bind_axis(be, DT_AXIS_CAST, &x.args, &k), DT_ERR_UNSUPPORTED);
    axis_free(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_unsupported_is_refused),
        cmocka_unit_test(test_hostile_operands),
        cmocka_unit_test(test_crop_of_everything),
        cmocka_unit_test(test_nan_is_not_hidden),
        cmocka_unit_test(test_running_statistics),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_xent_range),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_axis_accumulates),
        cmocka_unit_test(test_axis_norm),
        cmocka_unit_test(test_axis_update),
        cmocka_unit_test(test_axis_average),
        cmocka_unit_test(test_axis_skips_what_is_not_finite),
        cmocka_unit_test(test_axis_refuses_16_bits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
