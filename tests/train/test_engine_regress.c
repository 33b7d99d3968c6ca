/* A network on a table of numbers, x f32 [13] and y f32 [1]: against PyTorch over 20 steps (regress.h5, made by
 * tests/golden/make_golden.py), over any number of micro-batches and ranks, and in evaluation. */
#include "data/h5.h"
#include "engine_fixture.h"
#include "train/scores.h"

enum { STEPS = 20, SAMPLES = 64, EVALUATED = 70, FEATURES = 13 };

#define MODEL                                                                                                \
    "[model]\nname = \"layers\"\ntask = \"regress\"\n"                                                       \
    "[[model.layers]]\ntype = \"dense\"\nname = \"hidden\"\nchannels = 16\n"                                 \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"dense\"\nname = \"out\"\nchannels = 1\n"                                     \
    "[optim]\nkind = \"momentum\"\nmomentum = 0.9\nweight_decay = 0.0\n"
#define TRAIN(rest) MODEL "[train]\nglobal_batch = 16\neval_batch = 32\n" rest

static float x[EVALUATED * FEATURES], y[EVALUATED];

static int load_table(void **state) {
    dt_h5 *h;
    (void)state;
    check_ok(dt_h5_open(DT_TEST_DATA "/regress.h5", &h));
    check_ok(dt_h5_read(h, "x", DT_DTYPE_F32, EVALUATED * FEATURES, x));
    check_ok(dt_h5_read(h, "y", DT_DTYPE_F32, EVALUATED, y));
    check_ok(dt_h5_close(h));
    return 0;
}

static const dt_dataset_info table = {
    .n_samples = SAMPLES,
    .n_field = 2,
    .field = {{"x", DT_DTYPE_F32, 1, {FEATURES}}, {"y", DT_DTYPE_F32, 1, {1}}}};

/* Samples first, first + stride, ... below end; rows past the last are padding, full of numbers that must not
 * count. */
static dt_batch table_batch(int64_t rows, int64_t first, int64_t stride, int64_t end, int64_t modulo) {
    dt_batch b = {.field = table.field, .n_field = 2, .rows = rows};
    float *fx = check_alloc((size_t)(rows * FEATURES) * sizeof *fx),
          *fy = check_alloc((size_t)rows * sizeof *fy);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t t = first + i * stride;
        const bool real = t < end;
        for (int64_t k = 0; k < FEATURES; k++)
            fx[i * FEATURES + k] = real ? x[t % modulo * FEATURES + k] : 1e3f;
        fy[i] = real ? y[t % modulo] : -1e3f;
        b.n_valid += real;
    }
    b.data[0] = fx, b.data[1] = fy;
    return b;
}

static dt_batch fixture_batch(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end) {
    (void)r;
    return table_batch(rows, first, stride, end, SAMPLES);
}

static crew_work work_of(const char *config) {
    return (crew_work){.config = config, .data = &table, .batch = fixture_batch, .end = STEPS, .lr = 0.02f};
}

static void open_table(rig *r, const char *config) {
    rig_prepare(r, config);
    r->data = table, r->batch = fixture_batch;
    check_ok(rig_try_open(r, NULL, true));
}

static void load_start(rig *r, dt_h5 *h) {
    dt_ckpt c = rig_checkpoint(r);
    for (int32_t i = 0; i < c.n_tensor; i++) {
        char path[256];
        int64_t n = 1;
        for (int32_t d = 0; d < c.tensor[i].ndim; d++) n *= c.tensor[i].dim[d];
        snprintf(path, sizeof path, "start/%s", strchr(c.tensor[i].name, '/') + 1);
        if (strncmp(c.tensor[i].name, "param/", 6) == 0)
            check_ok(dt_h5_read(h, path, DT_DTYPE_F32, n, c.tensor[i].data));
    }
    check_ok(dt_engine_load(r->e, &c));
    rig_checkpoint_free(&c);
}

static void need_close(double got, double want, double tolerance, const char *what, int64_t s) {
    if (!(fabs(got - want) <= tolerance * fabs(want)))
        fail_msg("step %lld: %s is %.8g, PyTorch's %.8g", (long long)s, what, got, want);
}

static void evaluate(rig *r, dt_scores *out) {
    double metric[DT_METRIC_COUNT];
    const int64_t rows = dt_engine_division(r->e)->eval_rows;
    const dt_scoreboard board = dt_scoreboard_of(&r->c.model);
    check_ok(dt_engine_eval_begin(r->e, false));
    for (int64_t i = 0; i < EVALUATED; i += rows) { /* the last is padded */
        dt_batch b = table_batch(rows, i, 1, EVALUATED, EVALUATED);
        check_ok(dt_engine_feed(r->e, &b, true));
        rig_batch_free(&b);
        check_ok(dt_engine_eval_batch(r->e));
    }
    check_ok(dt_engine_eval_end(r->e, metric));
    assert_true(metric[DT_METRIC_SAMPLES] == EVALUATED);
    dt_scores_of(&board, metric, NAN, out);
}

static void test_curve_is_pytorchs(void **state) {
    (void)state;
    static const char *const configs[] = {TRAIN(""), TRAIN("micro_batch = 4\n")};
    float loss[STEPS], rmse[STEPS], eval[4];
    dt_h5 *h;
    check_ok(dt_h5_open(DT_TEST_DATA "/regress.h5", &h));
    check_ok(dt_h5_read(h, "loss", DT_DTYPE_F32, STEPS, loss));
    check_ok(dt_h5_read(h, "rmse", DT_DTYPE_F32, STEPS, rmse));
    check_ok(dt_h5_read(h, "eval", DT_DTYPE_F32, 4, eval));
    for (size_t k = 0; k < sizeof configs / sizeof configs[0]; k++) {
        rig r;
        dt_scores s;
        open_table(&r, configs[k]);
        const dt_scoreboard board = dt_scoreboard_of(&r.c.model);
        load_start(&r, h);
        for (int64_t i = 0; i < STEPS; i++) {
            rig_step(&r, i, 0.02f);
            dt_scores_of_step(&board, r.result.metric, &s);
            need_close(s.loss, (double)loss[i], 2e-5, "loss", i);
            need_close(s.metric[0], (double)rmse[i], 2e-5, "rmse", i);
        }
        assert_true(s.loss < 0.5 * (double)loss[0]);
        evaluate(&r, &s);
        need_close(s.loss, (double)eval[0], 1e-4, "loss of evaluation", STEPS);
        for (int m = 0; m < 3; m++)
            need_close(s.metric[m], (double)eval[m + 1], 1e-4, board.task->metric[m].name, STEPS);
        rig_close(&r);
    }
    check_ok(dt_h5_close(h));
}

static void test_worlds_agree(void **state) {
    (void)state;
    /* Uneven, too: rows of padding in training. */
    static const struct {
        const char *config;
        int32_t world;
    } rows[] = {{TRAIN("micro_batch = 4\n"), 1},
                {TRAIN("micro_batch = 8\n"), 2},
                {TRAIN("micro_batch = 4\n"), 2},
                {TRAIN("micro_batch = 4\n"), 4},
                {TRAIN(""), 2},
                {TRAIN(""), 3}};
    rig alone;
    open_table(&alone, TRAIN(""));
    for (int64_t s = 0; s < STEPS; s++) rig_step(&alone, s, 0.02f);
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        rig r[CREW_MAX];
        crew w;
        const crew_work work = work_of(rows[k].config);
        dt_ckpt c = crew_train(&w, rows[k].world, &work, r);
        rig_checkpoint_free(&c);
        for (int32_t i = 0; i < rows[k].world; i++) {
            assert_true(rig_hash(&r[i]) == rig_hash(&r[0]));
            assert_true(rig_distance(&alone, &r[i]) < 1e-5);
            assert_true(r[i].result.metric[DT_METRIC_SAMPLES] == 16);
        }
        for (int32_t i = 0; i < rows[k].world; i++) rig_close(&r[i]);
    }
    rig_close(&alone);
}

/* Long enough to learn what there is to learn. */
static void test_it_converges(void **state) {
    (void)state;
    rig r;
    dt_scores s;
    open_table(&r, TRAIN(""));
    for (int64_t i = 0; i < 1500; i++) rig_step(&r, i, 0.02f);
    evaluate(&r, &s);
    if (!(s.metric[2] > 0.97)) fail_msg("R2 is %g", s.metric[2]);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curve_is_pytorchs),
        cmocka_unit_test(test_worlds_agree),
        cmocka_unit_test(test_it_converges),
    };
    return cmocka_run_group_tests(tests, load_table, NULL);
}
