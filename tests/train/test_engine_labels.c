/* One row a sample: gradient, norm and metrics are means over those that have a label, in the whole batch of a step. */
#include "engine_fixture.h"

enum { STEPS = 5, BATCH = 12 };

#define CONFIG(rest)                                                                                         \
    RIG_PLAIN_MODEL "[optim]\nkind = \"momentum\"\nmomentum = 0.9\nweight_decay = 0.0\n"                     \
                    "[train]\nclip_norm = 0.3\nglobal_batch = 12\n" rest

/* Every fourth sample alone has a label, and of the others copies take its place where `filled`. */
static bool filled;

static dt_batch batch(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end) {
    const int64_t bytes = r->data.height * r->data.width * r->data.channels;
    dt_batch b = batch_new(r->field, rows, r->data.height, r->data.width, r->data.channels);
    (void)end;
    b.n_valid = rows;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t t = first + i * stride;
        batch_label(&b)[i] = rig_sample(r, filled ? t / 4 * 4 : t, batch_image(&b) + i * bytes);
        if (!filled && t % 4 > 0) batch_label(&b)[i] = -1;
    }
    return b;
}

/* What three of four copies add is divided out. */
static void test_mean_over_labels(void **state) {
    (void)state;
    static const char *const configs[] = {CONFIG(""), CONFIG("micro_batch = 4\n"),
                                          CONFIG("micro_batch = 1\n")};
    rig full;
    rig_open(&full, configs[0]);
    full.batch = batch;
    filled = true;
    for (int64_t s = 0; s < STEPS; s++) rig_step(&full, s, 0.3f);
    filled = false;
    for (size_t k = 0; k < sizeof configs / sizeof configs[0]; k++) {
        rig sparse;
        rig_open(&sparse, configs[k]);
        sparse.batch = batch;
        for (int64_t s = 0; s < STEPS; s++) rig_step(&sparse, s, 0.3f);
        const float *a = full.result.metric, *b = sparse.result.metric;
        assert_true(a[DT_METRIC_SAMPLES] == BATCH && b[DT_METRIC_SAMPLES] == BATCH / 4);
        assert_true(fabsf(a[DT_METRIC_GRAD_NORM] - b[DT_METRIC_GRAD_NORM]) < 1e-5f * a[DT_METRIC_GRAD_NORM]);
        assert_true(fabsf(a[DT_METRIC_LOSS] - 4 * b[DT_METRIC_LOSS]) < 1e-5f * a[DT_METRIC_LOSS]);
        if (!(rig_distance(&full, &sparse) < 2e-6)) fail_msg("off by %.2g", rig_distance(&full, &sparse));
        rig_close(&sparse);
    }
    rig_close(&full);
}

/* Where all count nothing is divided, not even by what rounding leaves of 1. */
static void test_all_labelled(void **state) {
    (void)state;
    for (int32_t b = 1; b <= 1 << 16; b += 1 + b / 7)
        assert_true(dt_optim_mean_scale(1, (float)(1.0 / (double)b), (float)b) == 1);
    assert_true(dt_optim_mean_scale(1, 0.25f, 0) == 1 && dt_optim_mean_scale(1, 0.25f, 1) == 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean_over_labels),
        cmocka_unit_test(test_all_labelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
