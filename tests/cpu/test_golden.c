/* Ops, optimizers and the training of a tiny ResNet against PyTorch. The values are made by
 * tests/golden/make_golden.py. */
#include "op_cases.h"

#include <stdio.h>

#include "core/autodiff.h"
#include "core/program.h"
#include "cpu/cpu.h"
#include "data/h5.h"
#include "model/builder.h"

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

static dt_h5 *open_golden(const char *name) {
    char path[1024];
    dt_h5 *h = NULL;
    snprintf(path, sizeof path, "%s/%s", DT_TEST_DATA, name);
    op_ok(dt_h5_open(path, &h));
    return h;
}

/* A dataset as floats (or as i32 or u8 where stored so); caller frees. `info` may be NULL. */
static void *load(dt_h5 *h, const char *name, dt_h5_info *info) {
    dt_h5_info i;
    op_ok(dt_h5_info_get(h, name, &i));
    void *data = op_zalloc(i.n_elem * 4);
    op_ok(dt_h5_read(h, name, i.dtype, i.n_elem, data));
    if (info) *info = i;
    return data;
}

static const char *in_group(const char *group, const char *item, int32_t index) {
    static char text[256];
    if (index < 0)
        snprintf(text, sizeof text, "%s/%s", group, item);
    else
        snprintf(text, sizeof text, "%s/%s%d", group, item, index);
    return text;
}

/* ---- ops ---- */

typedef struct golden_op {
    const char *name; /* group of ops.h5 */
    dt_op op;
    dt_attr attr;
} golden_op;

static const golden_op golden_ops[] = {
    {"conv 3x3", DT_OP_CONV, {OP_CONV(3, 3, 1, 1)}},
    {"conv 3x3 thin", DT_OP_CONV, {OP_CONV(3, 3, 1, 1)}},
    {"conv bias stride", DT_OP_CONV, {OP_CONV(3, 3, 2, 1)}},
    {"conv 1x1", DT_OP_CONV, {OP_CONV(1, 1, 1, 0)}},
    {"conv 1x1 stride", DT_OP_CONV, {OP_CONV(1, 1, 2, 0)}},
    {"conv 7x7 stem", DT_OP_CONV, {OP_CONV(7, 7, 2, 3)}},
    {"conv dilated", DT_OP_CONV, {OP_WINDOW(3, 3, 1, 2), .window.dilation = {2, 2}, .window.groups = 1}},
    {"conv grouped", DT_OP_CONV, {OP_WINDOW(3, 3, 1, 1), .window.dilation = {1, 1}, .window.groups = 2}},
    {"conv depthwise", DT_OP_CONV, {OP_WINDOW(3, 3, 2, 1), .window.dilation = {1, 1}, .window.groups = 8}},
    {"conv uneven",
     DT_OP_CONV,
     {.window.kernel = {5, 3},
      .window.stride = {1, 2},
      .window.pad_begin = {2, 0},
      .window.pad_end = {2, 0},
      .window.dilation = {1, 1},
      .window.groups = 1}},
    {.name = "dense", .op = DT_OP_DENSE},
    {.name = "dense bias", .op = DT_OP_DENSE},
    {.name = "relu", .op = DT_OP_UNARY},
    {.name = "add", .op = DT_OP_BINARY},
    {"maxpool", DT_OP_MAXPOOL, {OP_WINDOW(2, 2, 2, 0)}},
    {"maxpool pad", DT_OP_MAXPOOL, {OP_WINDOW(3, 3, 2, 1)}},
    {"avgpool", DT_OP_AVGPOOL, {OP_WINDOW(2, 2, 2, 0)}},
    {"avgpool pad", DT_OP_AVGPOOL, {OP_WINDOW(3, 3, 2, 1)}},
    {.name = "global avgpool", .op = DT_OP_GLOBAL_AVGPOOL},
    {.name = "reshape", .op = DT_OP_RESHAPE},
    {"batchnorm", DT_OP_BATCHNORM, {OP_BN}},
    {"batchnorm relu", DT_OP_BATCHNORM, {OP_BN, .norm.relu = true}},
    {"batchnorm residual", DT_OP_BATCHNORM, {OP_BN}},
    {"batchnorm residual relu", DT_OP_BATCHNORM, {OP_BN, .norm.relu = true}},
    {"batchnorm rows", DT_OP_BATCHNORM, {OP_BN}},
    {"xent", DT_OP_XENT, {OP_LOSS}},
    {"xent smoothing", DT_OP_XENT, {OP_LOSS, .loss.smoothing = 0.1f}},
    {"xent padded", DT_OP_XENT, {OP_LOSS, .loss.smoothing = 0.2f}},
    {"conv transpose", DT_OP_CONV_DGRAD, {OP_CONV(3, 3, 2, 1), .window.size = {8, 10}}},
    {"conv transpose groups",
     DT_OP_CONV_DGRAD,
     {OP_WINDOW(2, 2, 3, 0), .window.dilation = {2, 2}, .window.groups = 2, .window.size = {9, 6}}},
    {"transpose", DT_OP_TRANSPOSE, {.transpose = {.ndim = 3, .perm = {2, 0, 1}}}},
    {.name = "matmul", .op = DT_OP_MATMUL},
    {"matmul turned", DT_OP_MATMUL, {.matmul = {.turn_a = true, .turn_b = true}}},
    {"reduce sum", DT_OP_REDUCE, {.reduce = {.kind = DT_REDUCE_SUM, .axes = 5}}},
    {"reduce mean", DT_OP_REDUCE, {.reduce = {.kind = DT_REDUCE_MEAN, .axes = 2}}},
    {"reduce max", DT_OP_REDUCE, {.reduce = {.kind = DT_REDUCE_MAX, .axes = 6}}},
    {"reduce max ties", DT_OP_REDUCE, {.reduce = {.kind = DT_REDUCE_MAX, .axes = 2}}},
    {"input", DT_OP_INPUT, {.input.size = {5, 6}, .input.padded_c = 3, OP_NORMAL}},
};

#define LOSS(kind_, sums_, param_)                                                                           \
    {                                                                                                        \
        .loss = {.weight = 0.5f, .kind = kind_, .sums = sums_, .param = param_ }                             \
    }
static const golden_op golden_losses[] = {
    {"mse", DT_OP_LOSS, LOSS(DT_LOSS_MSE, DT_LOSS_SUMS_REGRESS, 0)},
    {"l1", DT_OP_LOSS, LOSS(DT_LOSS_L1, DT_LOSS_SUMS_REGRESS, 0)},
    {"huber", DT_OP_LOSS, LOSS(DT_LOSS_HUBER, DT_LOSS_SUMS_REGRESS, 0.8f)},
    {"bce", DT_OP_LOSS, LOSS(DT_LOSS_BCE, DT_LOSS_SUMS_LABELS, 1)},
    {"bce weighted", DT_OP_LOSS, LOSS(DT_LOSS_BCE, DT_LOSS_SUMS_LABELS, 2.5f)},
    {"bce far", DT_OP_LOSS, LOSS(DT_LOSS_BCE, DT_LOSS_SUMS_LABELS, 1)},
};

static void expect_golden(dt_h5 *h, op_run *r, dt_vid v, const char *dataset) {
    dt_h5_info info;
    float *want = load(h, dataset, &info), *got = op_read(r, v);
    if (dt_value_n_elem(&r->g->value[v]) != info.n_elem)
        fail_msg("%s: %s, expected %lld elements", dataset, dt_value_shape_text(&r->g->value[v]),
                 (long long)info.n_elem);
    op_expect_close(got, want, info.n_elem, 1e-5, dataset);
    free(want), free(got);
}

static void check_op(dt_h5 *h, const golden_op *c) {
    dt_graph *g = NULL;
    dt_h5_info info;
    dt_vid in[DT_SLOTS_IN_MAX], out, dout[DT_SLOTS_OUT_MAX] = {-1, -1, -1, -1, -1}, din[DT_SLOTS_IN_MAX];
    void *data[DT_SLOTS_IN_MAX];
    bool want[DT_SLOTS_IN_MAX];
    int32_t n_in = 0;
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    for (; n_in < DT_SLOTS_IN_MAX && dt_h5_has(h, in_group(c->name, "in", n_in)); n_in++) {
        data[n_in] = load(h, in_group(c->name, "in", n_in), &info);
        op_ok(dt_graph_add_value(g, op_case_in_name(n_in), DT_ROLE_INPUT, info.dtype, info.ndim, info.dim,
                                 &in[n_in]));
    }
    if (dt_op_get(c->op)->flags & DT_OP_SEED) {
        data[n_in] = op_zalloc(DT_METRIC_COUNT * 4);
        op_ok(dt_graph_add_value(g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1, (int64_t[]){DT_METRIC_COUNT},
                                 &in[n_in++]));
    }
    op_ok(dt_graph_add_node(g, "node", c->op, &c->attr, n_in, in, &out));
    dt_value y = g->value[out];
    op_ok(dt_graph_add_value(g, "dout", DT_ROLE_INPUT, y.dtype, y.ndim, y.dim, &dout[0]));
    for (int32_t k = 0; k < DT_SLOTS_IN_MAX; k++) want[k] = k < n_in, din[k] = -1;
    if (dt_op_get(c->op)->grad) op_ok(dt_op_get(c->op)->grad(g, 0, dout, want, din));
    op_ok(dt_pass_split_batchnorm(g));

    op_run r = op_run_open(be, g, &op_step, false);
    for (int32_t k = 0; k < n_in; k++) op_write_bytes(&r, in[k], data[k]), free(data[k]);
    if (dt_h5_has(h, in_group(c->name, "dout", -1))) {
        float *weight = load(h, in_group(c->name, "dout", -1), NULL);
        op_write(&r, dout[0], weight);
        free(weight);
    }
    op_run_go(&r);
    expect_golden(h, &r, out, in_group(c->name, "out", -1));
    for (int32_t k = 0; k < n_in; k++) {
        bool has = dt_h5_has(h, in_group(c->name, "grad", k));
        if (has != (din[k] >= 0))
            fail_msg("%s: gradient of input %d %s", c->name, k, has ? "missing" : "unexpected");
        if (has) expect_golden(h, &r, din[k], in_group(c->name, "grad", k));
        if (dt_h5_has(h, in_group(c->name, "after", k)))
            expect_golden(h, &r, in[k], in_group(c->name, "after", k));
    }
    if (c->op == DT_OP_XENT) {
        float *sums = load(h, in_group(c->name, "metrics", -1), NULL), *got = op_read(&r, in[2]);
        assert_true(fabsf(got[DT_METRIC_LOSS] - sums[0]) < 1e-4f);
        assert_true(got[DT_METRIC_TOP1] == sums[1] && got[DT_METRIC_TOP5] == sums[2] &&
                    got[DT_METRIC_SAMPLES] == sums[3]);
        free(sums), free(got);
    }
    if (c->op == DT_OP_LOSS) {
        float *sums = load(h, in_group(c->name, "metrics", -1), NULL), *got = op_read(&r, in[n_in - 1]);
        op_expect_close(got + DT_METRIC_TASK, sums + 2, DT_LOSS_SUMS_MAX, 1e-5, c->name);
        op_expect_close(got, sums, 1, 1e-5, c->name);
        assert_true(got[DT_METRIC_SAMPLES] == sums[1]);
        free(sums), free(got);
    }
    op_run_close(&r);
    dt_graph_destroy(g);
}

static void test_losses(void **state) {
    (void)state;
    dt_h5 *h = open_golden("loss.h5");
    for (size_t i = 0; i < sizeof golden_losses / sizeof golden_losses[0]; i++)
        check_op(h, &golden_losses[i]);
    op_ok(dt_h5_close(h));
}

static void test_ops(void **state) {
    (void)state;
    dt_h5 *h = open_golden("ops.h5");
    for (size_t i = 0; i < sizeof golden_ops / sizeof golden_ops[0]; i++) check_op(h, &golden_ops[i]);
    op_ok(dt_h5_close(h));
}

static const golden_op golden_eltwise[] = {
    {.name = "softmax", .op = DT_OP_SOFTMAX},
    {.name = "softmax long", .op = DT_OP_SOFTMAX},
    {.name = "log_softmax", .op = DT_OP_LOG_SOFTMAX},
    {.name = "log_softmax long", .op = DT_OP_LOG_SOFTMAX},
    {.name = "dense of sequences", .op = DT_OP_DENSE},
    {"conv padded", DT_OP_CONV, {OP_UNEVEN(3, 2)}},
    {"conv 3x3 padded", DT_OP_CONV, {OP_UNEVEN(3, 1)}},
    {"maxpool padded", DT_OP_MAXPOOL, {OP_UNEVEN(4, 2)}},
    {"avgpool padded", DT_OP_AVGPOOL, {OP_UNEVEN(4, 2)}},
};

/* Every function of core/scalar.h by its name there. */
static void test_eltwise(void **state) {
    (void)state;
    dt_h5 *h = open_golden("eltwise.h5");
    for (int f = 0; f < DT_UNARY_COUNT; f++) {
        float *scalar = load(h, in_group(dt_unary_table[f].name, "scalars", -1), NULL);
        check_op(h, &(golden_op){dt_unary_table[f].name,
                                 DT_OP_UNARY,
                                 {.unary.fn = (dt_unary)f, .unary.a = scalar[0], .unary.b = scalar[1]}});
        free(scalar);
    }
    for (int f = 0; f < DT_BINARY_COUNT; f++) {
        char name[64];
        const dt_attr t = {.binary.fn = (dt_binary)f};
        snprintf(name, sizeof name, "%s of five dimensions", dt_binary_table[f].name);
        check_op(h, &(golden_op){dt_binary_table[f].name, DT_OP_BINARY, t});
        check_op(h, &(golden_op){name, DT_OP_BINARY, t});
    }
    for (size_t i = 0; i < sizeof golden_eltwise / sizeof golden_eltwise[0]; i++)
        check_op(h, &golden_eltwise[i]);
    op_ok(dt_h5_close(h));
}

#define GROUPS(n) .norm.eps = 1e-5f, .norm.groups = n
static const golden_op golden_sequences[] = {
    {"layernorm", DT_OP_LAYERNORM, {.norm.eps = 1e-5f}},
    {"layernorm large", DT_OP_LAYERNORM, {.norm.eps = 1e-5f}},
    {"layernorm alone", DT_OP_LAYERNORM, {.norm.eps = 1e-3f}},
    {"rmsnorm", DT_OP_RMSNORM, {.norm.eps = 1e-5f}},
    {"groupnorm", DT_OP_GROUPNORM, {GROUPS(3)}},
    {"groupnorm of every channel", DT_OP_GROUPNORM, {GROUPS(12)}},
    {"groupnorm in one group", DT_OP_GROUPNORM, {GROUPS(1)}},
    {"embed", DT_OP_EMBED, {.embed.padding = -1}},
    {"embed padding", DT_OP_EMBED, {.embed.padding = 3}},
    {"rope", DT_OP_ROPE, {.rope.theta = 10000}},
    {"rope of a part", DT_OP_ROPE, {.rope = {.theta = 10000, .dims = 4}}},
    {"rope interleaved", DT_OP_ROPE, {.rope = {.theta = 500, .interleaved = true}}},
    {"position", DT_OP_POSITION, {.rope.theta = 10000}},
    {"xent of places", DT_OP_XENT, {OP_LOSS}},
    {"xent of places smoothing", DT_OP_XENT, {OP_LOSS, .loss.smoothing = 0.1f}},
};

static void test_sequences(void **state) {
    (void)state;
    dt_h5 *h = open_golden("sequences.h5");
    for (size_t i = 0; i < sizeof golden_sequences / sizeof golden_sequences[0]; i++)
        check_op(h, &golden_sequences[i]);
    op_ok(dt_h5_close(h));
}

/* ---- optimizers ---- */

typedef struct golden_rule {
    const char *name; /* group of optim.h5 */
    dt_optim_kind kind;
    float decay, clip_norm;
} golden_rule;

static const golden_rule golden_rules[] = {
    {"sgd", DT_OPTIM_SGD, 0, 0},
    {"sgd decay", DT_OPTIM_SGD, 0.1f, 0},
    {"momentum", DT_OPTIM_MOMENTUM, 0, 0},
    {"momentum decay", DT_OPTIM_MOMENTUM, 0.1f, 0},
    {"momentum clipped", DT_OPTIM_MOMENTUM, 0.1f, 0.5f},
    {"nesterov", DT_OPTIM_NESTEROV, 0.1f, 0},
    {"adamw", DT_OPTIM_ADAMW, 0, 0},
    {"adamw decay", DT_OPTIM_ADAMW, 0.1f, 0},
    {"adamw clipped", DT_OPTIM_ADAMW, 0.1f, 0.5f},
};

enum { STEPS = 5, FIRST_N = 70, SECOND_AT = 128, SECOND_N = 33, BOTH = FIRST_N + SECOND_N, AXIS = 192 };

static void to_axis(float *axis, const float *both, float scale) {
    for (int i = 0; i < BOTH; i++) axis[i < FIRST_N ? i : i - FIRST_N + SECOND_AT] = scale * both[i];
}

static void expect_axis(const float *axis, const float *both, const char *what) {
    float got[BOTH];
    for (int i = 0; i < BOTH; i++) got[i] = axis[i < FIRST_N ? i : i - FIRST_N + SECOND_AT];
    op_expect_close(got, both, BOTH, 1e-6, what);
    for (int i = FIRST_N; i < SECOND_AT; i++) assert_true(axis[i] == 0);
}

static void check_rule(dt_h5 *h, const golden_rule *c) {
    const dt_axis_segment segment[] = {{.n_elem = FIRST_N, .decay = c->decay, .lr_scale = 1},
                                       {.offset = SECOND_AT, .n_elem = SECOND_N, .lr_scale = 1}};
    float w[AXIS] = {0}, grad[AXIS] = {0}, m[AXIS] = {0}, v[AXIS] = {0}, ema[AXIS] = {0}, norm2,
          metrics[DT_METRIC_COUNT];
    float *start = load(h, "start", NULL), *grads = load(h, "grad", NULL), *rate = load(h, "rate", NULL);
    float *weight = load(h, in_group(c->name, "weight", -1), NULL),
          *average = load(h, in_group(c->name, "ema", -1), NULL);
    float *norm = load(h, in_group(c->name, "norm", -1), NULL);
    dt_step_params p = {.loss_scale = 8, .ema_decay = 0.9f};
    dt_axis_args a = {.n_elem = AXIS,
                      .segment = segment,
                      .n_segment = 2,
                      .grad = grad,
                      .master = w,
                      .state = {m, v},
                      .ema = ema,
                      .norm2 = &norm2,
                      .metrics = metrics,
                      .optim = {.kind = c->kind, .momentum = 0.9, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6},
                      .clip_norm = c->clip_norm,
                      .params = &p};
    dt_kernel sum, update;
    op_ok(be->bind_axis(be, DT_AXIS_SUMSQ, &a, &sum));
    op_ok(be->bind_axis(be, DT_AXIS_UPDATE, &a, &update));
    to_axis(w, start, 1);
    to_axis(ema, start, 1);
    for (int step = 0; step < STEPS; step++) {
        p.lr = rate[step];
        to_axis(grad, grads + step * BOTH, p.loss_scale);
        norm2 = 0;
        op_ok(sum.run(sum.ctx, NULL));
        op_ok(update.run(update.ctx, NULL));
        op_expect_close(&metrics[DT_METRIC_GRAD_NORM], &norm[step], 1, 1e-6, "gradient norm");
        expect_axis(w, weight + step * BOTH, c->name);
        expect_axis(ema, average + step * BOTH, "average");
    }
    free(start), free(grads), free(rate), free(weight), free(average), free(norm);
}

static void test_optimizers(void **state) {
    (void)state;
    dt_h5 *h = open_golden("optim.h5");
    for (size_t i = 0; i < sizeof golden_rules / sizeof golden_rules[0]; i++) check_rule(h, &golden_rules[i]);
    op_ok(dt_h5_close(h));
}

/* Every optimizer over twenty steps: a matrix, and a vector without decay. */
typedef struct optimizer_case {
    const char *name; /* of the array in optimizers.h5 */
    dt_optim_options o;
    float clip_norm;
} optimizer_case;

#define ADAM      .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6
#define MUON      ADAM, .adamw_lr = 0.005
#define ADAFACTOR .eps = 1.1920928955078125e-7, .beta2_decay = 0.8, .scale_floor = 1e-3, .update_clip = 1
static const optimizer_case optimizer_cases[] = {
    {"sgd", {.kind = DT_OPTIM_SGD, .lr = 0.1, .weight_decay = 0.1}, 0},
    {"momentum", {.kind = DT_OPTIM_MOMENTUM, .lr = 0.1, .weight_decay = 0.1, .momentum = 0.9}, 2},
    {"nesterov", {.kind = DT_OPTIM_NESTEROV, .lr = 0.1, .weight_decay = 0.1, .momentum = 0.9}, 2},
    {"adam", {.kind = DT_OPTIM_ADAM, .lr = 0.05, ADAM}, 0},
    {"adam decay", {.kind = DT_OPTIM_ADAM, .lr = 0.05, .weight_decay = 0.1, ADAM}, 2},
    {"adamw", {.kind = DT_OPTIM_ADAMW, .lr = 0.05, ADAM}, 0},
    {"adamw decay", {.kind = DT_OPTIM_ADAMW, .lr = 0.05, .weight_decay = 0.1, ADAM}, 2},
    {"rmsprop", {.kind = DT_OPTIM_RMSPROP, .lr = 0.01, .weight_decay = 0.1, .alpha = 0.99, .eps = 1e-8}, 0},
    {"rmsprop momentum",
     {.kind = DT_OPTIM_RMSPROP, .lr = 0.01, .weight_decay = 0.1, .alpha = 0.9, .eps = 1e-8, .momentum = 0.8},
     2},
    {"rmsprop centered",
     {.kind = DT_OPTIM_RMSPROP, .lr = 0.01, .alpha = 0.99, .eps = 1e-8, .momentum = 0.8, .centered = true},
     0},
    {"rmsprop_tf",
     {.kind = DT_OPTIM_RMSPROP_TF, .lr = 0.01, .weight_decay = 0.1, .alpha = 0.9, .eps = 1e-10},
     0},
    {"rmsprop_tf momentum",
     {.kind = DT_OPTIM_RMSPROP_TF,
      .lr = 0.01,
      .weight_decay = 0.1,
      .alpha = 0.9,
      .eps = 1e-3,
      .momentum = 0.9},
     2},
    {"rmsprop_tf centered",
     {.kind = DT_OPTIM_RMSPROP_TF, .lr = 0.01, .alpha = 0.9, .eps = 1e-3, .momentum = 0.9, .centered = true},
     0},
    {"adagrad", {.kind = DT_OPTIM_ADAGRAD, .lr = 0.1, .eps = 1e-10}, 0},
    {"adagrad decay",
     {.kind = DT_OPTIM_ADAGRAD, .lr = 0.1, .weight_decay = 0.1, .eps = 1e-10, .lr_decay = 0.1},
     2},
    {"lamb",
     {.kind = DT_OPTIM_LAMB, .lr = 0.05, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-6},
     0},
    {"lamb clipped",
     {.kind = DT_OPTIM_LAMB,
      .lr = 0.05,
      .weight_decay = 0.1,
      .beta1 = 0.9,
      .beta2 = 0.999,
      .eps = 1e-6,
      .trust_clip = true},
     2},
    {"lars",
     {.kind = DT_OPTIM_LARS, .lr = 2, .weight_decay = 0.1, .momentum = 0.9, .trust = 0.02, .eps = 1e-8},
     0},
    {"lars clipped",
     {.kind = DT_OPTIM_LARS,
      .lr = 0.1,
      .weight_decay = 0.1,
      .momentum = 0.9,
      .trust = 0.1,
      .eps = 1e-8,
      .trust_clip = true},
     2},
    {"lion", {.kind = DT_OPTIM_LION, .lr = 0.01, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.99}, 0},
    {"lion clipped", {.kind = DT_OPTIM_LION, .lr = 0.01, .beta1 = 0.8, .beta2 = 0.99}, 2},
    {"adafactor", {.kind = DT_OPTIM_ADAFACTOR, .lr = 0.05, .weight_decay = 0.1, ADAFACTOR}, 0},
    {"adafactor clipped",
     {.kind = DT_OPTIM_ADAFACTOR,
      .lr = 0.5,
      .eps = 1e-3,
      .beta2_decay = 0.5,
      .scale_floor = 1.5,
      .update_clip = 1.05},
     2},
    {"muon",
     {.kind = DT_OPTIM_MUON, .lr = 0.02, .weight_decay = 0.1, MUON, .momentum = 0.95, .nesterov = true},
     0},
    {"muon tall",
     {.kind = DT_OPTIM_MUON, .lr = 0.02, .weight_decay = 0.1, MUON, .momentum = 0.8, .nesterov = true},
     2},
    {"muon match",
     {.kind = DT_OPTIM_MUON,
      .lr = 0.02,
      .weight_decay = 0.1,
      ADAM,
      .momentum = 0.95,
      .adamw_lr = 0.02,
      .muon_scale = DT_MUON_MATCH_RMS_ADAMW},
     2},
    {"muon spectral",
     {.kind = DT_OPTIM_MUON,
      .lr = 0.02,
      ADAM,
      .momentum = 0.95,
      .adamw_lr = 0.02,
      .muon_scale = DT_MUON_SPECTRAL,
      .nesterov = true},
     0},
    /* PyTorch orthogonalises in bfloat16, which has 3 digits. */
    {"muon bfloat16",
     {.kind = DT_OPTIM_MUON, .lr = 0.02, .weight_decay = 0.1, MUON, .momentum = 0.95, .nesterov = true},
     0},
};

enum { MATRIX_N = 120, VECTOR_AT = 128, VECTOR_N = 33, TWO = MATRIX_N + VECTOR_N, TWO_AXIS = 192, SEEN = 4 };
static const int seen[SEEN] = {1, 5, 10, 20};

static int at_of(int i) {
    return i < MATRIX_N ? i : i - MATRIX_N + VECTOR_AT;
}

static void check_optimizer(dt_h5 *h, const optimizer_case *c) {
    const bool tall = strstr(c->name, "tall") != NULL; /* the matrix has 20 rows */
    const double tolerance = strstr(c->name, "bfloat16") ? 5e-4 : 2e-6;
    const dt_axis_segment segment[] = {
        {.n_elem = MATRIX_N,
         .decay = (float)c->o.weight_decay,
         .lr_scale = 1,
         .rows = tall ? 20 : 6,
         .cols = tall ? 6 : 20,
         .matrix = true},
        {.offset = VECTOR_AT, .n_elem = VECTOR_N, .lr_scale = 1, .state_at = {[DT_STATE_REST] = 64}}};
    float w[TWO_AXIS] = {0}, grad[TWO_AXIS] = {0}, vec[DT_OPTIM_STATES_MAX][TWO_AXIS] = {{0}}, norm2,
          metrics[DT_METRIC_COUNT], got[TWO];
    float *start = load(h, "start", NULL), *grads = load(h, "grad", NULL), *factor = load(h, "factor", NULL),
          *want = load(h, c->name, NULL);
    dt_step_params p = {.loss_scale = 4};
    dt_axis_args a = {.n_elem = TWO_AXIS,
                      .segment = segment,
                      .n_segment = 2,
                      .grad = grad,
                      .master = w,
                      .norm2 = &norm2,
                      .metrics = metrics,
                      .optim = c->o,
                      .clip_norm = c->clip_norm,
                      .params = &p};
    for (int k = 0; k < DT_OPTIM_STATES_MAX; k++) {
        if (!dt_optim_has_state(&c->o, k)) continue;
        a.state[k] = vec[k];
        for (int i = 0; i < TWO; i++)
            vec[k][at_of(i)] = dt_optim_get((dt_optim_kind)c->o.kind)->state[k].init;
    }
    dt_kernel sum, update;
    op_ok(be->bind_axis(be, DT_AXIS_SUMSQ, &a, &sum));
    op_ok(be->bind_axis(be, DT_AXIS_UPDATE, &a, &update));
    for (int i = 0; i < TWO; i++) w[at_of(i)] = start[i];
    for (int step = 0, next = 0; step < seen[SEEN - 1]; step++) {
        p.lr = (float)c->o.lr * factor[step];
        for (int i = 0; i < TWO; i++) grad[at_of(i)] = grads[step * TWO + i] * p.loss_scale;
        norm2 = 0;
        op_ok(sum.run(sum.ctx, NULL));
        op_ok(update.run(update.ctx, NULL));
        if (step + 1 != seen[next]) continue;
        for (int i = 0; i < TWO; i++) got[i] = w[at_of(i)];
        op_expect_close(got, want + next++ * TWO, TWO, tolerance, c->name);
    }
    assert_int_equal(p.updates, seen[SEEN - 1]);
    free(start), free(grads), free(factor), free(want);
}

static void test_every_optimizer(void **state) {
    (void)state;
    dt_h5 *h = open_golden("optimizers.h5");
    bool has[DT_OPTIM_COUNT] = {false};
    for (size_t i = 0; i < sizeof optimizer_cases / sizeof optimizer_cases[0]; i++) {
        check_optimizer(h, &optimizer_cases[i]);
        has[optimizer_cases[i].o.kind] = true;
    }
    for (int kind = 0; kind < DT_OPTIM_COUNT; kind++)
        if (!has[kind]) fail_msg("%s has no golden values", dt_optim_names[kind]);
    op_ok(dt_h5_close(h));
}

/* ---- a tiny ResNet ---- */

enum { BATCH = 8, SIDE = 16, CLASSES = 10, BATCHES = 4, TRAIN_STEPS = 20 };

static dt_vid conv_bn(dt_builder *b, const char *block, const char *conv, const char *bn, dt_vid x,
                      int64_t channels, int64_t kernel, int64_t stride) {
    char name[DT_NAME_MAX];
    dt_conv2d_options o = {
        .channels = channels, .kernel = kernel, .stride = stride, .pad = kernel / 2, .no_bias = true};
    snprintf(name, sizeof name, "%s%s", block, conv);
    x = dt_build_conv(b, name, x, &o);
    snprintf(name, sizeof name, "%s%s", block, bn);
    return dt_build_batchnorm(b, name, x, NULL);
}

static dt_vid basic_block(dt_builder *b, const char *block, dt_vid x, int64_t channels, int64_t stride) {
    char name[DT_NAME_MAX];
    dt_vid y = conv_bn(b, block, "conv1", "bn1", x, channels, 3, stride);
    snprintf(name, sizeof name, "%srelu1", block);
    y = conv_bn(b, block, "conv2", "bn2", dt_build_relu(b, name, y), channels, 3, 1);
    if (stride != 1) x = conv_bn(b, block, "downsample.0", "downsample.1", x, channels, 1, stride);
    snprintf(name, sizeof name, "%sadd", block);
    y = dt_build_add(b, name, y, x);
    snprintf(name, sizeof name, "%srelu2", block);
    return dt_build_relu(b, name, y);
}

static dt_graph *tiny_resnet(bool training) {
    dt_graph *g = NULL;
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, training));
    dt_builder b = {.g = g, .label_smoothing = 0.1};
    dt_model_input in = {.batch = BATCH,
                         .height = SIDE,
                         .width = SIDE,
                         .channels = 3,
                         .padded_channels = 3,
                         .classes = CLASSES};
    for (int i = 0; i < 4; i++) in.mean[i] = 0.5f, in.stddev[i] = 0.25f;
    dt_vid x = dt_build_image(&b, &in);
    x = dt_build_relu(&b, "relu", conv_bn(&b, "", "conv1", "bn1", x, 8, 3, 1));
    x = basic_block(&b, "layer1.0.", x, 8, 1);
    x = basic_block(&b, "layer1.1.", x, 8, 1);
    x = basic_block(&b, "layer2.0.", x, 16, 2);
    x = basic_block(&b, "layer2.1.", x, 16, 1);
    x = dt_build_op(&b, "avgpool", DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
    x = dt_build_dense(&b, "fc", x, CLASSES, true);
    dt_build_loss(&b, x, NULL);
    dt_build_output(&b, "logits", x);
    op_ok(b.status);
    op_ok(dt_pass_fuse_bn_act(g));
    return g;
}

static dt_program *compile(dt_graph *g) {
    dt_program *p = NULL;
    op_ok(dt_pass_split_batchnorm(g));
    op_ok(dt_pass_fuse_for_backend(g, be));
    op_ok(dt_pass_remove_dead(g));
    op_ok(dt_program_prepare(be, g, NULL, &p));
    return p;
}

/* Visits every parameter and running statistic of a store with its dataset. */
static void each_tensor(dt_h5 *h, const char *group, dt_store *s,
                        void (*fn)(float *mine, const float *theirs, int64_t n, const char *name)) {
    for (int32_t i = 0; i < s->axis->n_segment + s->n_state; i++) {
        bool param = i < s->axis->n_segment;
        const dt_state_entry *e = param ? NULL : &s->state[i - s->axis->n_segment];
        const char *name = param ? s->axis->param[i].name : e->name;
        float *mine = param ? (float *)s->arena[DT_ARENA_MASTER] + s->axis->segment[i].offset
                            : (float *)(void *)((char *)s->arena[DT_ARENA_STATE] + e->offset_bytes);
        dt_h5_info info;
        float *theirs = load(h, in_group(group, name, -1), &info);
        assert_int_equal(info.n_elem, param ? s->axis->segment[i].n_elem : e->n_elem);
        fn(mine, theirs, info.n_elem, name);
        free(theirs);
    }
}

static void take(float *mine, const float *theirs, int64_t n, const char *name) {
    (void)name;
    memcpy(mine, theirs, (size_t)n * sizeof *mine);
}

static void expect_trained(float *mine, const float *theirs, int64_t n, const char *name) {
    op_expect_close(mine, theirs, n, 5e-4, name);
}

static void feed(dt_program *p, const uint8_t *image, const int32_t *label) {
    memcpy(dt_program_address(p, dt_graph_input(p->graph, "image")), image, BATCH * SIDE * SIDE * 3);
    memcpy(dt_program_address(p, dt_graph_input(p->graph, "label")), label, BATCH * sizeof *label);
}

/* Twenty steps of SGD with momentum through every pass of the compiler, then an evaluation. */
static void test_tiny_resnet(void **state) {
    (void)state;
    dt_h5 *h = open_golden("resnet.h5");
    uint8_t *image = load(h, "images", NULL);
    int32_t *label = load(h, "labels", NULL);
    float *loss = load(h, "loss", NULL), *logits = load(h, "eval_logits", NULL);
    dt_graph *g = tiny_resnet(true), *ge = tiny_resnet(false);
    dt_axis *axis = NULL;
    dt_store *s = NULL;
    const dt_optim_options momentum = dt_optim_defaults(DT_OPTIM_MOMENTUM);
    op_ok(dt_autodiff(g));
    op_ok(dt_axis_build(g, 3, 5e-4f, false, &axis));
    op_ok(dt_axis_assign(axis, ge));
    dt_program *train = compile(g), *eval = compile(ge);
    op_ok(dt_store_create(be, axis, g, &(dt_store_options){.train = true, .optim = momentum}, &s));
    op_ok(dt_program_bind(train, s, NULL));
    op_ok(dt_program_bind(eval, s, NULL));
    each_tensor(h, "start", s, take);

    dt_kernel update;
    float *metrics = s->arena[DT_ARENA_METRIC];
    dt_axis_args a = {.n_elem = axis->n_elem,
                      .segment = axis->segment,
                      .n_segment = axis->n_segment,
                      .grad = s->arena[DT_ARENA_GRAD],
                      .master = s->arena[DT_ARENA_MASTER],
                      .state = {s->vec[0].data},
                      .metrics = metrics,
                      .optim = momentum,
                      .params = s->params};
    op_ok(be->bind_axis(be, DT_AXIS_UPDATE, &a, &update));
    *s->params =
        (dt_step_params){.lr = 0.01f, .loss_scale = 4, .loss_weight = 1.0f / BATCH, .first_micro = 1};
    for (int step = 0; step < TRAIN_STEPS; step++) {
        int64_t batch = step % BATCHES;
        memset(metrics, 0, DT_METRIC_COUNT * sizeof *metrics);
        feed(train, image + batch * BATCH * SIDE * SIDE * 3, label + batch * BATCH);
        op_ok(dt_program_run(train, NULL, NULL));
        op_ok(update.run(update.ctx, NULL));
        float mean = metrics[DT_METRIC_LOSS] / BATCH;
        if (fabsf(mean - loss[step]) > 5e-5f * loss[step])
            fail_msg("step %d: loss %.7g, PyTorch's %.7g", step, (double)mean, (double)loss[step]);
    }
    each_tensor(h, "final", s, expect_trained);
    feed(eval, image, label);
    op_ok(dt_program_run(eval, NULL, NULL));
    op_expect_close(dt_program_address(eval, dt_graph_output(eval->graph, "logits")), logits, BATCH * CLASSES,
                    5e-4, "evaluation");

    dt_program_destroy(train), dt_program_destroy(eval);
    dt_store_destroy(s);
    dt_axis_destroy(axis);
    free(image), free(label), free(loss), free(logits);
    op_ok(dt_h5_close(h));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops),         cmocka_unit_test(test_eltwise),
        cmocka_unit_test(test_losses),      cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_optimizers),  cmocka_unit_test(test_every_optimizer),
        cmocka_unit_test(test_tiny_resnet),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
