/* Learning-rate schedules against their formulas, at their corners, and in their shape. */
#include "core/schedule.h"
#include "test_check.h"

enum { TOTAL = 1000, PER_EPOCH = 100 };
static const double LR = 0.4;

static dt_schedule_options schedule(dt_schedule_kind kind) {
    dt_schedule_options c;
    dt_section_defaults(&dt_schedule_section, &c);
    c.kind = kind;
    c.warmup_epochs = 0;
    c.warmup_steps = 100;
    c.warmup_start = 0.25;
    c.final = 0.1;
    c.power = 2;
    c.gamma = 0.1;
    c.cooldown = 0.25;
    c.n_milestones = 2;
    c.milestones[0] = 3;
    c.milestones[1] = 6.5;
    return c;
}

/* An epoch of 130 samples in batches of 128 is not two steps: epoch 5 begins with step 6, not 10. */
static void test_epochs_are_not_rounded(void **state) {
    (void)state;
    dt_schedule_options c = schedule(DT_SCHEDULE_STEP);
    c.warmup_steps = 0;
    c.n_milestones = 1;
    c.milestones[0] = 5;
    assert_true(dt_schedule_lr(&c, LR, 5, 11, 130.0 / 128) == 0.4);
    assert_true(dt_schedule_lr(&c, LR, 6, 11, 130.0 / 128) == 0.4 * 0.1);
    c.milestones[0] = 15; /* 15 epochs of 50/3 steps are 250, which 250 / (50/3) is a little below */
    assert_true(dt_schedule_lr(&c, LR, 249, 300, 50.0 / 3) == 0.4);
    assert_true(dt_schedule_lr(&c, LR, 250, 300, 50.0 / 3) == 0.4 * 0.1);
    c.warmup_epochs = 4;
    assert_true(dt_schedule_lr(&c, LR, 4, 11, 130.0 / 128) < 0.4);
    assert_true(dt_schedule_lr(&c, LR, 5, 11, 130.0 / 128) == 0.4);
}

/* timm's EfficientNet: 0.97 every 2.4 epochs, at the ends of epochs 3, 5, 8, 10, 12. */
static void test_drops_every_so_often(void **state) {
    (void)state;
    dt_schedule_options c = schedule(DT_SCHEDULE_STEP);
    c.warmup_steps = 0;
    c.n_milestones = 0;
    c.every_epochs = 2.4;
    c.gamma = 0.97;
    static const int drops[] = {0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5};
    for (int64_t epoch = 0; epoch < 13; epoch++)
        for (int64_t step = (epoch * 50 + 2) / 3; step < ((epoch + 1) * 50 + 2) / 3; step++)
            assert_true(fabs(dt_schedule_lr(&c, LR, step, 1000, 50.0 / 3) - 0.4 * pow(0.97, drops[epoch])) <
                        1e-15);
}

static double at(const dt_schedule_options *c, int64_t step) {
    return dt_schedule_lr(c, LR, step, TOTAL, PER_EPOCH);
}

static void need(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 * fmax(1, fabs(want)))) fail_msg("%.17g, expected %.17g", got, want);
}

static double formula(const dt_schedule_options *c, int64_t step) {
    const double u = ((double)step - 100) / (TOTAL - 100), lr = 0.4, final = 0.1;
    if (step < 100) return lr * (0.25 + 0.75 * (double)step / 100);
    switch ((dt_schedule_kind)c->kind) {
    case DT_SCHEDULE_CONSTANT:
        return lr;
    case DT_SCHEDULE_STEP:
        return step < 300 ? lr : step < 650 ? lr * 0.1 : lr * 0.1 * 0.1;
    case DT_SCHEDULE_COSINE:
        return lr * (final + (1 - final) * 0.5 * (1 + cos(acos(-1.0) * u)));
    case DT_SCHEDULE_POLYNOMIAL:
        return lr * (final + (1 - final) * (1 - u) * (1 - u));
    case DT_SCHEDULE_LINEAR:
        return lr * (1 - u * (1 - final));
    case DT_SCHEDULE_WSD:
        return step < 750 ? lr : lr - (lr - 0.04) * ((double)step - 750) / 250;
    case DT_SCHEDULE_WSD_SQRT:
        return step < 750 ? lr : lr - (lr - 0.04) * sqrt(((double)step - 750) / 250);
    }
    return NAN;
}

static const dt_schedule_kind kinds[] = {DT_SCHEDULE_CONSTANT,   DT_SCHEDULE_STEP,   DT_SCHEDULE_COSINE,
                                         DT_SCHEDULE_POLYNOMIAL, DT_SCHEDULE_LINEAR, DT_SCHEDULE_WSD,
                                         DT_SCHEDULE_WSD_SQRT};
enum { N_KIND = sizeof kinds / sizeof kinds[0] };

static void test_formulas(void **state) {
    (void)state;
    for (int k = 0; k < N_KIND; k++) {
        dt_schedule_options c = schedule(kinds[k]);
        for (int64_t s = 0; s < TOTAL; s++) need(at(&c, s), formula(&c, s));
    }
}

static void test_corners(void **state) {
    (void)state;
    for (int k = 0; k < N_KIND; k++) {
        dt_schedule_options c = schedule(kinds[k]);
        bool decays = kinds[k] != DT_SCHEDULE_CONSTANT && kinds[k] != DT_SCHEDULE_STEP;
        need(at(&c, 0), 0.1);          /* warmup_start * lr */
        need(at(&c, 50), 0.4 * 0.625); /* half way up */
        need(at(&c, 100), 0.4);        /* warm-up ends at lr exactly */
        if (decays) need(at(&c, TOTAL), 0.04);
        need(at(&c, TOTAL + 500), at(&c, TOTAL)); /* and stays there */
    }
    dt_schedule_options c = schedule(DT_SCHEDULE_COSINE);
    need(at(&c, 550), 0.4 * (0.1 + 0.9 * 0.5)); /* half way: the mean of both ends */
    c = schedule(DT_SCHEDULE_WSD_SQRT);
    c.cooldown = 1; /* no stable part: it falls from the end of the warm-up on */
    need(at(&c, 325), 0.4 * (0.1 + 0.9 * 0.5));
    c.cooldown = 0;
    need(at(&c, TOTAL - 1), 0.4);
}

static void test_monotone(void **state) {
    (void)state;
    for (int k = 0; k < N_KIND; k++) {
        dt_schedule_options c = schedule(kinds[k]);
        for (int64_t s = 1; s <= 100; s++) assert_true(at(&c, s) > at(&c, s - 1));
        for (int64_t s = 101; s <= TOTAL + 10; s++) assert_true(at(&c, s) <= at(&c, s - 1));
        for (int64_t s = 0; s <= TOTAL; s++) assert_true(at(&c, s) > 0 && at(&c, s) <= 0.4);
    }
}

static void test_warmup_epochs(void **state) {
    (void)state;
    dt_schedule_options c = schedule(DT_SCHEDULE_CONSTANT);
    c.warmup_steps = 0;
    c.warmup_epochs = 2.5;
    need(at(&c, 125), 0.4 * (0.25 + 0.75 * 0.5));
    need(at(&c, 250), 0.4);
    c.warmup_steps = 10; /* steps win over epochs */
    need(at(&c, 10), 0.4);
    c.warmup_steps = 0;
    c.warmup_epochs = 0; /* no warm-up: full rate at once */
    need(at(&c, 0), 0.4);
}

/* No step has rate 0: without a start of its own the warm-up rises by equal parts, the first step's
 * included. */
static void test_first_step(void **state) {
    (void)state;
    dt_schedule_options c = schedule(DT_SCHEDULE_CONSTANT);
    c.warmup_start = 0;
    c.warmup_steps = 4;
    static const double fifths[] = {1, 2, 3, 4, 5, 5};
    for (int64_t s = 0; s < 6; s++) need(at(&c, s), 0.4 * fifths[s] / 5);
    c.warmup_steps = 1;
    need(at(&c, 0), 0.2);
    need(at(&c, 1), 0.4);
    c.warmup_steps = 0;
    c.warmup_epochs = 0.015; /* one step and a half */
    need(at(&c, 0), 0.4 * 1 / 2.5);
    need(at(&c, 1), 0.4 * 2 / 2.5);
    need(at(&c, 2), 0.4);
    c.warmup_steps = 4; /* a start that is given is the first step's */
    c.warmup_start = 0.01;
    need(at(&c, 0), 0.4 * 0.01);
    need(at(&c, 2), 0.4 * (0.01 + 0.99 * 0.5));
    need(at(&c, 4), 0.4);
}

/* A run that ends inside or right after its warm-up has no span left to decay over. */
static void test_no_span(void **state) {
    (void)state;
    for (int k = 0; k < N_KIND; k++) {
        dt_schedule_options c = schedule(kinds[k]);
        for (int64_t total = 0; total <= 100; total += 50)
            for (int64_t s = 0; s <= 200; s += 10) {
                double lr = dt_schedule_lr(&c, LR, s, total, PER_EPOCH);
                assert_true(isfinite(lr) && lr >= 0 && lr <= 0.4);
            }
        assert_true(isfinite(dt_schedule_lr(&c, LR, 500, TOTAL, 0)));
    }
}

/* timm's ModelEmaV3 with its gamma of 1, whose steps are one more than ours: get_decay(step + 1). */
static void test_ema(void **state) {
    (void)state;
    static const struct {
        double power;
        int64_t step;
        double decay;
    } want[] = {{0, 0, 0.9999},     {0, 1000, 0.9999},    {2.0 / 3, 0, 0}, {2.0 / 3, 1, 0.3700394750525634},
                {2.0 / 3, 7, 0.75}, {2.0 / 3, 999, 0.99}, {1, 3, 0.75},    {1, 20000, 0.9999}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_true(fabs(dt_schedule_ema(0.9999, want[i].power, want[i].step) - want[i].decay) < 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formulas),
        cmocka_unit_test(test_corners),
        cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_warmup_epochs),
        cmocka_unit_test(test_no_span),
        cmocka_unit_test(test_epochs_are_not_rounded),
        cmocka_unit_test(test_drops_every_so_often),
        cmocka_unit_test(test_first_step),
        cmocka_unit_test(test_ema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
