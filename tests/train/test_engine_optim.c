/* Optimizers through the engine against their definitions in double: the reference takes the engine's own
 * gradients and keeps weights, moments and averages to itself. Clipping, weight decay by role, averaging,
 * skipped updates, the loss scale. */
#include "engine_fixture.h"
#include "trainer_internal.h"

typedef struct reference {
    int64_t n;
    int64_t n_state;
    double *w, *m, *v, *ema, *g, *ema_state;
    double norm;
} reference;

static reference reference_open(const rig *r) {
    reference f = {.n = dt_engine_axis(r->e)->n_elem};
    double **all[] = {&f.w, &f.m, &f.v, &f.ema, &f.g};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
        *all[k] = check_alloc((size_t)f.n * sizeof(double));
    for (int64_t i = 0; i < f.n; i++) f.w[i] = f.ema[i] = (double)rig_arena(r, DT_ARENA_MASTER)[i];
    f.n_state = rig_arena_bytes(r, DT_ARENA_STATE) / (int64_t)sizeof(float);
    f.ema_state = check_alloc((size_t)f.n_state * sizeof(double));
    for (int64_t i = 0; i < f.n_state; i++) f.ema_state[i] = (double)rig_arena(r, DT_ARENA_STATE)[i];
    return f;
}

static void reference_close(reference *f) {
    free(f->w), free(f->m), free(f->v), free(f->ema), free(f->g), free(f->ema_state);
}

static bool is_matrix(const dt_axis *a, int32_t segment) {
    return a->param[segment].ndim > 1;
}

/* The gradients of the step that just ran, unscaled and clipped. */
static void take_gradients(reference *f, const rig *r, double loss_scale) {
    const float *g = rig_arena(r, dt_engine_division(r->e)->n_micro > 1 ? DT_ARENA_ACC : DT_ARENA_GRAD);
    double sum = 0;
    for (int64_t i = 0; i < f->n; i++) {
        f->g[i] = (double)g[i] / loss_scale;
        sum += f->g[i] * f->g[i];
    }
    f->norm = sqrt(sum);
    double clip = r->c.train.clip_norm;
    if (clip > 0 && f->norm > clip)
        for (int64_t i = 0; i < f->n; i++) f->g[i] *= clip / (f->norm + 1e-6);
}

/* Update number t from 1. */
static void reference_step(reference *f, const rig *r, double lr, int64_t t) {
    const dt_config *c = &r->c;
    const dt_axis *a = dt_engine_axis(r->e);
    const double mu = c->optim.momentum, b1 = c->optim.beta1, b2 = c->optim.beta2, d = c->train.ema;
    for (int32_t s = 0; s < a->n_segment; s++) {
        double decay = is_matrix(a, s) || c->optim.decay_bn_and_bias ? c->optim.weight_decay : 0;
        for (int64_t k = 0; k < a->segment[s].n_elem; k++) {
            const int64_t i = a->segment[s].offset + k;
            double g = f->g[i], *w = &f->w[i], *m = &f->m[i], *v = &f->v[i];
            switch ((dt_cfg_optim)c->optim.kind) {
            case DT_CFG_SGD:
                *w -= lr * (g + decay * *w);
                break;
            case DT_CFG_MOMENTUM:
                *m = mu * *m + g + decay * *w;
                *w -= lr * *m;
                break;
            case DT_CFG_NESTEROV:
                g += decay * *w;
                *m = mu * *m + g;
                *w -= lr * (g + mu * *m);
                break;
            case DT_CFG_ADAMW:
                *w -= lr * decay * *w;
                *m = b1 * *m + (1 - b1) * g;
                *v = b2 * *v + (1 - b2) * g * g;
                *w -= lr * (*m / (1 - pow(b1, (double)t))) /
                      (sqrt(*v / (1 - pow(b2, (double)t))) + c->optim.eps);
                break;
            }
            f->ema[i] = d * f->ema[i] + (1 - d) * *w;
        }
    }
    const float *statistics = rig_arena(r, DT_ARENA_STATE);
    for (int64_t i = 0; i < f->n_state; i++)
        f->ema_state[i] = d * f->ema_state[i] + (1 - d) * (double)statistics[i];
}

static void need_close(const double *want, const float *got, int64_t n, double tolerance, const char *what,
                       const char *config) {
    double *wide = check_alloc((size_t)n * sizeof *wide);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)got[i];
    double d = check_distance(wide, want, n);
    if (!(d < tolerance)) fail_msg("%s are off by %.1e with %s", what, d, config + strlen(RIG_FULL_MODEL));
    free(wide);
}

/* Padding between parameters is zero and stays zero. */
static void need_zero_padding(const rig *r, dt_arena arena) {
    const dt_axis *a = dt_engine_axis(r->e);
    const float *x = rig_arena(r, arena);
    for (int32_t s = 0; x && s < a->n_segment; s++) {
        int64_t end = s + 1 < a->n_segment ? a->segment[s + 1].offset : a->n_elem;
        for (int64_t i = a->segment[s].offset + a->segment[s].n_elem; i < end; i++) assert_true(x[i] == 0);
    }
}

static void check_optimizer(const char *config) {
    rig r;
    rig_open(&r, config);
    reference f = reference_open(&r);
    const double scale = r.c.train.loss_scale > 0 ? r.c.train.loss_scale : 1;
    bool clipped = false, unclipped = false;
    for (int64_t s = 0; s < 8; s++) {
        const float lr = (float)(r.c.optim.lr / (double)(1 + s / 3));
        rig_step(&r, s, lr);
        take_gradients(&f, &r, scale);
        reference_step(&f, &r, (double)lr, s + 1);
        clipped |= f.norm > r.c.train.clip_norm, unclipped |= f.norm <= r.c.train.clip_norm;
        need_close(f.w, rig_arena(&r, DT_ARENA_MASTER), f.n, 1e-6, "weights", config);
        assert_true(fabs((double)r.result.metric[DT_METRIC_GRAD_NORM] / f.norm - 1) < 1e-5);
        assert_true(fabs((double)r.result.norm2 / (f.norm * f.norm) - 1) < 1e-5);
        assert_true(r.result.metric[DT_METRIC_SKIPPED] == 0);
    }
    if (r.c.train.clip_norm > 0) assert_true(clipped && unclipped); /* the case has both */
    if (rig_arena(&r, DT_ARENA_MOM1))
        need_close(f.m, rig_arena(&r, DT_ARENA_MOM1), f.n, 1e-5, "moments", config);
    if (rig_arena(&r, DT_ARENA_MOM2)) /* 1 - beta2 in fp32 has an error of its own */
        need_close(f.v, rig_arena(&r, DT_ARENA_MOM2), f.n, 4e-5, "squares", config);
    if (r.c.train.ema > 0) need_close(f.ema, rig_arena(&r, DT_ARENA_EMA), f.n, 1e-6, "averages", config);
    if (r.c.train.ema > 0)
        need_close(f.ema_state, rig_arena(&r, DT_ARENA_EMA_STATE), f.n_state, 1e-6, "averaged statistics",
                   config);
    assert_true((rig_arena(&r, DT_ARENA_EMA) != NULL) == (r.c.train.ema > 0));
    assert_true((rig_arena(&r, DT_ARENA_EMA_STATE) != NULL) == (r.c.train.ema > 0));
    assert_true((rig_arena(&r, DT_ARENA_MOM2) != NULL) == (r.c.optim.kind == DT_CFG_ADAMW));
    static const dt_arena padded[] = {DT_ARENA_MASTER, DT_ARENA_MOM1, DT_ARENA_MOM2, DT_ARENA_EMA};
    for (size_t k = 0; k < sizeof padded / sizeof padded[0]; k++) need_zero_padding(&r, padded[k]);
    reference_close(&f);
    rig_close(&r);
}

#define OPTIM(train, optim) RIG_FULL_MODEL "[train]\nglobal_batch = 16\n" train "[optim]\n" optim

static void test_sgd(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"sgd\"\nlr = 0.2\nweight_decay = 0\n"));
    check_optimizer(OPTIM("ema = 0.8\n", "kind = \"sgd\"\nlr = 0.2\nweight_decay = 0.05\n"));
    check_optimizer(OPTIM("micro_batch = 4\n", "kind = \"sgd\"\nlr = 0.2\nweight_decay = 0.05\n"
                                               "decay_bn_and_bias = true\n"));
    check_optimizer(OPTIM("", "kind = \"momentum\"\nmomentum = 0.0\nlr = 0.2\nweight_decay = 0.05\n"));
}

static void test_momentum(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"momentum\"\nlr = 0.1\nweight_decay = 0\n"));
    check_optimizer(OPTIM("ema = 0.9\nloss_scale = 64\n", "kind = \"momentum\"\nlr = 0.1\nmomentum = 0.8\n"
                                                          "weight_decay = 0.02\n"));
    check_optimizer(
        OPTIM("clip_norm = 0.9\nloss_scale = 8\n", "kind = \"momentum\"\nlr = 0.1\nweight_decay = 0.02\n"));
}

static void test_nesterov(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"nesterov\"\nlr = 0.1\nweight_decay = 0.02\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\nmicro_batch = 8\nema = 0.5\n",
                          "kind = \"nesterov\"\nlr = 0.1\nweight_decay = 0.02\n"));
}

static void test_adamw(void **state) {
    (void)state;
    check_optimizer(OPTIM("", "kind = \"adamw\"\nlr = 0.01\nweight_decay = 0\n"));
    check_optimizer(OPTIM("loss_scale = 32\nema = 0.9\n", "kind = \"adamw\"\nlr = 0.01\nweight_decay = 0.3\n"
                                                          "beta1 = 0.8\nbeta2 = 0.95\neps = 1e-5\n"));
    check_optimizer(OPTIM("clip_norm = 0.9\nmicro_batch = 2\n",
                          "kind = \"adamw\"\nlr = 0.01\nweight_decay = 0.3\n"
                          "decay_bn_and_bias = true\n"));
}

/* A gradient that is not finite: nothing of the optimizer moves, and the run goes on as if the step had not
 * been. */
static void check_skip(const char *config, float weight) {
    static const dt_arena kept[] = {DT_ARENA_MASTER, DT_ARENA_MOM1, DT_ARENA_MOM2, DT_ARENA_EMA,
                                    DT_ARENA_EMA_STATE};
    enum { N_KEPT = sizeof kept / sizeof kept[0] };
    rig r;
    void *before[N_KEPT];
    rig_open(&r, config);
    rig_step(&r, 0, 0.05f);
    for (size_t k = 0; k < N_KEPT; k++) {
        size_t bytes = (size_t)rig_arena_bytes(&r, kept[k]);
        before[k] = check_alloc(bytes);
        if (bytes) memcpy(before[k], rig_arena(&r, kept[k]), bytes);
    }
    r.loss_weight = weight;
    rig_step(&r, 1, 0.05f);
    assert_true(r.result.metric[DT_METRIC_SKIPPED] == 1);
    assert_true(!isfinite(r.result.norm2));
    for (size_t k = 0; k < N_KEPT; k++) {
        if (rig_arena_bytes(&r, kept[k]))
            assert_memory_equal(before[k], rig_arena(&r, kept[k]), (size_t)rig_arena_bytes(&r, kept[k]));
        free(before[k]);
    }
    r.loss_weight = 0;
    rig_step(&r, 2, 0.05f);
    assert_true(r.result.metric[DT_METRIC_SKIPPED] == 0 && isfinite(r.result.norm2));
    for (int64_t i = 0; i < dt_engine_axis(r.e)->n_elem; i++)
        assert_true(isfinite(rig_arena(&r, DT_ARENA_MASTER)[i]));
    rig_close(&r);
}

static void test_skip_of_what_is_not_finite(void **state) {
    (void)state;
    static const char *const configs[] = {
        OPTIM("ema = 0.9\n", "kind = \"adamw\"\nlr = 0.01\n"),
        OPTIM("ema = 0.9\nclip_norm = 1.0\nmicro_batch = 8\n", "kind = \"nesterov\"\n"),
        OPTIM("", "kind = \"sgd\"\n"),
    };
    for (size_t k = 0; k < sizeof configs / sizeof configs[0]; k++) {
        check_skip(configs[k], INFINITY);
        check_skip(configs[k], NAN);
        check_skip(configs[k], 1e38f); /* finite gradients whose sum of squares is not */
    }
}

static void need_scale(rig *r, int64_t step, bool spoil, float scale, float good_steps) {
    r->loss_weight = spoil ? INFINITY : 0;
    rig_step(r, step, 0.05f);
    assert_true(r->result.metric[DT_METRIC_SKIPPED] == (spoil ? 1 : 0));
    if (r->result.metric[DT_METRIC_LOSS_SCALE] != scale ||
        r->result.metric[DT_METRIC_GOOD_STEPS] != good_steps)
        fail_msg("step %lld: scale %g after %g good steps, expected %g after %g", (long long)step,
                 (double)r->result.metric[DT_METRIC_LOSS_SCALE],
                 (double)r->result.metric[DT_METRIC_GOOD_STEPS], (double)scale, (double)good_steps);
}

static void test_dynamic_loss_scale(void **state) {
    (void)state;
    static const char config[] = OPTIM("loss_scale = 4\n", "kind = \"sgd\"\nweight_decay = 0\n");
    rig r, fixed;
    rig_prepare(&r, config);
    r.c.train.loss_scale_growth = 3;
    check_ok(rig_try_open(&r, NULL, true));
    rig_open(&fixed, config);
    need_scale(&r, 0, false, 4, 1);
    need_scale(&r, 1, false, 4, 2);
    need_scale(&r, 2, false, 8, 0); /* three in a row: doubled */
    for (int64_t s = 0; s < 3; s++) rig_step(&fixed, s, 0.05f);
    assert_true(rig_hash(&r) == rig_hash(&fixed)); /* powers of two change nothing */
    need_scale(&r, 3, false, 8, 1);
    need_scale(&r, 4, true, 4, 0);
    need_scale(&r, 5, true, 2, 0);
    need_scale(&r, 6, true, 1, 0);
    need_scale(&r, 7, true, 1, 0); /* not below 1 */
    need_scale(&r, 8, false, 1, 1);
    check_ok(dt_engine_set_loss_scale(r.e, 16777216.0f, 2)); /* as after a resume */
    need_scale(&r, 9, false, 16777216.0f, 0);                /* not above 2^24 */
    rig_close(&r), rig_close(&fixed);
}

/* Adam's t of a step does not depend on when the results of the steps before it were looked at: late, as a
 * GPU gives them, or at once, as around a stop, a save and an evaluation. It ends up right where none is
 * skipped. */
static void test_adam_step(void **state) {
    (void)state;
    enum { STEPS = 500, LAG = DT_METRIC_LAG_MAX };
    bool skip[STEPS];
    int64_t late[STEPS];
    srand48(1);
    for (int s = 0; s < STEPS; s++) skip[s] = s % 100 < 50 && drand48() < 0.4;
    for (int run = 0; run < 50; run++) {
        int64_t updates = 0, recent = 0;
        for (int s = 0, known = 0; s < STEPS; s++) {
            const int64_t t = dt_adam_step(updates, recent, s + 1 - known, LAG);
            if (run == 0) late[s] = t;
            assert_int_equal(t, late[s]);
            const int leave = run > 0 && drand48() < 0.3 ? 0 : LAG;
            for (; s + 1 - known > leave; known++) {
                updates += !skip[known];
                recent = (recent << 1 | skip[known]) & ((1 << LAG) - 1);
            }
            if (s % 100 == 99) assert_int_equal(t, updates + (s + 1 - known));
        }
    }
    assert_int_equal(dt_adam_step(7, 3, 1, 0), 8); /* nothing comes late: exact */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_momentum),
        cmocka_unit_test(test_nesterov),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_skip_of_what_is_not_finite),
        cmocka_unit_test(test_dynamic_loss_scale),
        cmocka_unit_test(test_adam_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
