/* The engine against PyTorch over 20 steps of a small residual network written as [[model.layers]]: loss,
 * gradient norm and learning rate of every step, then weights, running statistics, averaged weights and the
 * evaluation. curve.h5 is made by tests/golden/make_curve.py, in double. */
#include "core/schedule.h"
#include "data/h5.h"
#include "engine_fixture.h"

enum { STEPS = 20, BATCH = 16, SAMPLES = 64, IMAGE_BYTES = 12 * 12 * 3 };

#define CONV(name, rest)  "[[model.layers]]\ntype = \"conv\"\nbias = false\nname = \"" name "\"\n" rest
#define LAYER(type, name) "[[model.layers]]\ntype = \"" type "\"\nname = \"" name "\"\n"

static const char config[] = "[model]\nname = \"layers\"\n" CONV("stem", "channels = 8\n") LAYER(
    "batchnorm", "stem_bn") LAYER("relu", "x0") CONV("a1", "channels = 8\n") LAYER("batchnorm", "a1_bn")
    LAYER("relu", "a1_relu") CONV("a2", "channels = 8\n") LAYER("batchnorm", "a2_bn") LAYER(
        "add", "a_sum") "with = \"x0\"\n" LAYER("relu", "x1") CONV("b1", "channels = 12\nstride = 2\n")
        LAYER("batchnorm", "b1_bn") LAYER("relu", "b1_relu") CONV("b2", "channels = 12\n") LAYER(
            "batchnorm", "b2_bn") CONV("skip", "channels = 12\nkernel = 1\nstride = 2\nfrom = \"x1\"\n")
            LAYER("batchnorm", "skip_bn") LAYER(
                "add", "b_sum") "from = \"b2_bn\"\nwith = \"skip_bn\"\n" LAYER("relu", "x2")
                LAYER("global_avgpool", "pool") LAYER(
                    "dense",
                    "fc") "channels = 10\n"
                          "[augment]\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n"
                          "[train]\nglobal_batch = 16\nmicro_batch = 8\nlabel_smoothing = 0.1\nema = 0.8\n"
                          "[optim]\nkind = \"momentum\"\nmomentum = 0.9\nlr = 0.05\nweight_decay = 1e-3\n"
                          "[schedule]\nkind = \"cosine\"\nwarmup_steps = 4\nwarmup_start = 0.2\nfinal = "
                          "0.05\n";

/* The same with some layers frozen, others with a rate or a decay of their own; the last group's decay is of its
 * bias, too. */
static const char groups[] = "[[optim.groups]]\npattern = \"stem*\"\nfrozen = true\n"
                             "[[optim.groups]]\npattern = \"a1*\"\nfrozen = true\n"
                             "[[optim.groups]]\npattern = \"b1_bn.weight\"\nfrozen = true\n"
                             "[[optim.groups]]\npattern = \"b2*\"\nlr_factor = 0.5\n"
                             "[[optim.groups]]\npattern = \"fc.*\"\nlr_factor = 3.0\nweight_decay = 0.05\n";

typedef struct golden {
    dt_h5 *start; /* the data, and what the weights are before the first step */
    dt_h5 *h;     /* what became of it */
    uint8_t image[SAMPLES * IMAGE_BYTES];
    int32_t label[SAMPLES];
    float loss[STEPS], rate[STEPS], norm[STEPS], eval_loss[2];
} golden;

static golden *golden_open(const char *file) {
    golden *g = check_alloc(sizeof *g);
    char path[1024];
    snprintf(path, sizeof path, DT_TEST_DATA "/%s", file);
    check_ok(dt_h5_open(DT_TEST_DATA "/curve.h5", &g->start));
    check_ok(dt_h5_open(path, &g->h));
    check_ok(dt_h5_read(g->start, "images", DT_DTYPE_U8, SAMPLES * IMAGE_BYTES, g->image));
    check_ok(dt_h5_read(g->start, "labels", DT_DTYPE_I32, SAMPLES, g->label));
    check_ok(dt_h5_read(g->h, "loss", DT_DTYPE_F32, STEPS, g->loss));
    check_ok(dt_h5_read(g->h, "rate", DT_DTYPE_F32, STEPS, g->rate));
    check_ok(dt_h5_read(g->h, "norm", DT_DTYPE_F32, STEPS, g->norm));
    check_ok(dt_h5_read(g->h, "eval_loss", DT_DTYPE_F32, 2, g->eval_loss));
    return g;
}

/* Tensors of group `group`, named as the checkpoint tensor `name` ("param/stem.weight") without its
 * prefix. */
static void golden_read(golden *g, const char *group, const char *name, int64_t n, float *out) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", group, strchr(name, '/') + 1);
    check_ok(dt_h5_read(strcmp(group, "start") == 0 ? g->start : g->h, path, DT_DTYPE_F32, n, out));
}

static int64_t n_elem(const dt_ckpt_tensor *t) {
    int64_t n = 1;
    for (int32_t d = 0; d < t->ndim; d++) n *= t->dim[d];
    return n;
}

static bool has_prefix(const dt_ckpt_tensor *t, const char *prefix) {
    return strncmp(t->name, prefix, strlen(prefix)) == 0;
}

/* PyTorch's initial weights and statistics, in place of those of the seed. */
static void load_start(rig *r, golden *g) {
    dt_ckpt c = rig_checkpoint(r);
    for (int32_t i = 0; i < c.n_tensor; i++) {
        dt_ckpt_tensor *t = &c.tensor[i];
        if (has_prefix(t, "mom1/"))
            memset(t->data, 0, (size_t)n_elem(t) * sizeof(float));
        else if (strncmp(t->name, "local_", 6) != 0)
            golden_read(g, "start", t->name, n_elem(t), t->data);
        else
            t->ndim = 0; /* of no use to this world: the statistics by name count */
    }
    check_ok(dt_engine_load(r->e, &c));
    rig_checkpoint_free(&c);
}

static dt_batch batch_of(golden *g, int64_t rows, int64_t first, int64_t stride) {
    static dt_field field[2];
    dt_batch b = batch_new(field, rows, 12, 12, 3);
    for (int64_t i = 0; i < rows; i++) {
        int64_t t = (first + i * stride) % SAMPLES;
        memcpy(batch_image(&b) + i * IMAGE_BYTES, g->image + t * IMAGE_BYTES, IMAGE_BYTES);
        batch_label(&b)[i] = g->label[t];
    }
    return b;
}

static void step(rig *r, golden *g, int64_t s, float lr) {
    const dt_division *d = dt_engine_division(r->e);
    check_ok(dt_engine_begin_step(r->e, false, false));
    for (int64_t m = 0; m < d->n_micro; m++) {
        dt_batch b = batch_of(g, d->rows, s * BATCH + m, d->n_micro_all);
        dt_step_params p = rig_params(r, s, lr, m, m == 0);
        check_ok(dt_engine_feed(r->e, &b, false));
        rig_batch_free(&b);
        check_ok(dt_engine_micro(r->e, &p, m == d->n_micro - 1));
    }
    check_ok(dt_engine_end_step(r->e, s));
    check_ok(dt_engine_result(r->e, &r->result));
}

static void need_close(double got, double want, double tolerance, const char *what, int64_t s) {
    if (!(fabs(got - want) <= tolerance * fabs(want)))
        fail_msg("step %lld: %s is %.8g, PyTorch's %.8g", (long long)s, what, got, want);
}

static void need_tensor(golden *g, const dt_ckpt_tensor *t, const char *group) {
    int64_t n = n_elem(t);
    float *want = check_alloc((size_t)n * sizeof *want);
    double *a = check_alloc((size_t)n * sizeof *a), *b = check_alloc((size_t)n * sizeof *b);
    golden_read(g, group, t->name, n, want);
    for (int64_t i = 0; i < n; i++) a[i] = (double)t->data[i], b[i] = (double)want[i];
    double d = check_distance(a, b, n);
    if (!(d < 1e-4)) fail_msg("%s is off by %.1e of PyTorch's %s", t->name, d, group);
    free(want), free(a), free(b);
}

static double evaluate(rig *r, golden *g, bool ema) {
    double metric[DT_METRIC_COUNT];
    const int64_t rows = dt_engine_division(r->e)->eval_rows;
    check_ok(dt_engine_eval_begin(r->e, ema));
    for (int64_t i = 0; i < SAMPLES; i += rows) {
        dt_batch b = batch_of(g, rows, i, 1);
        check_ok(dt_engine_feed(r->e, &b, true));
        rig_batch_free(&b);
        check_ok(dt_engine_eval_batch(r->e));
    }
    check_ok(dt_engine_eval_end(r->e, metric));
    assert_true(metric[DT_METRIC_SAMPLES] == SAMPLES);
    return metric[DT_METRIC_LOSS] / SAMPLES;
}

static void check_curve(const char *text, const char *file, int32_t n_frozen) {
    golden *g = golden_open(file);
    rig r;
    rig_prepare(&r, text);
    r.data =
        (dt_dataset_info){.n_samples = SAMPLES, .height = 12, .width = 12, .channels = 3, .n_classes = 10};
    check_ok(rig_try_open(&r, NULL, true));
    assert_int_equal(dt_engine_division(r.e)->n_micro, 2);
    load_start(&r, g);
    for (int64_t s = 0; s < STEPS; s++) {
        double lr = dt_schedule_lr(&r.c.schedule, r.c.optim.lr, s, STEPS, SAMPLES / BATCH);
        need_close(lr, (double)g->rate[s], 1e-6, "the learning rate", s);
        step(&r, g, s, (float)lr);
        need_close((double)r.result.metric[DT_METRIC_LOSS] / BATCH, (double)g->loss[s], 1e-4, "the loss", s);
        need_close((double)r.result.metric[DT_METRIC_GRAD_NORM], (double)g->norm[s], 1e-3,
                   "the gradient's norm", s);
    }
    float first = 0, last = 0; /* an epoch each: the curve is one of learning */
    for (int k = 0; k < SAMPLES / BATCH; k++) first += g->loss[k], last += g->loss[STEPS - 1 - k];
    assert_true(last < 0.8f * first);
    dt_ckpt c = rig_checkpoint(&r);
    int32_t n_compared = 0;
    for (int32_t i = 0; i < c.n_tensor; i++) {
        const dt_ckpt_tensor *t = &c.tensor[i];
        const char *group = has_prefix(t, "ema/") ? "ema" : "final";
        if (!has_prefix(t, "param/") && !has_prefix(t, "state/") && !has_prefix(t, "ema/")) continue;
        need_tensor(g, t, group);
        n_compared++;
    }
    assert_int_equal(dt_engine_axis(r.e)->n_frozen, n_frozen);
    assert_int_equal(n_compared, 2 * dt_engine_axis(r.e)->n_segment + n_frozen + 2 * 2 * 6);
    need_close(evaluate(&r, g, false), (double)g->eval_loss[0], 1e-4, "the evaluation", STEPS);
    need_close(evaluate(&r, g, true), (double)g->eval_loss[1], 1e-4, "the averaged evaluation", STEPS);
    rig_checkpoint_free(&c);
    rig_close(&r);
    check_ok(dt_h5_close(g->h));
    check_ok(dt_h5_close(g->start));
    free(g);
}

static void test_curve_is_pytorchs(void **state) {
    (void)state;
    check_curve(config, "curve.h5", 0);
}

static void test_curve_with_groups_is_pytorchs(void **state) {
    (void)state;
    char text[8192];
    snprintf(text, sizeof text, "%s%s", config, groups);
    check_curve(text, "groups.h5", 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_curve_is_pytorchs),
                                       cmocka_unit_test(test_curve_with_groups_is_pytorchs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
