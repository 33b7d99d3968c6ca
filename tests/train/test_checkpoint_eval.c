/* What evaluation says of checkpoints: which is better, its file, the order of all, and what retention makes
 * of it. */
#include "checkpoint_fixture.h"

#include "checkpoint_internal.h"

static const dt_best_metric top1 = DT_BEST_EVAL_TOP1, loss = DT_BEST_EVAL_LOSS;

static void judge(dt_ckpt_eval *e, int64_t step, double cost, double first, double fifth,
                  dt_best_metric metric, double min_delta) {
    const dt_scores score = {.loss = cost, .metric = {first, fifth}};
    dt_ckpt_eval_add(e, step, &score, metric, min_delta);
}

/* ---- the best so far ---- */

static void need(const dt_ckpt_eval *e, double best, int64_t best_step, int64_t worse) {
    if (e->best != best || e->best_step != best_step || e->worse != worse)
        fail_msg("best %g of step %lld, %lld worse; expected %g, %lld, %lld", e->best,
                 (long long)e->best_step, (long long)e->worse, best, (long long)best_step, (long long)worse);
}

static void test_improvement(void **state) {
    (void)state;
    dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
    assert_true(e.step == -1 && e.best_step == -1 && e.worse == 0);
    judge(&e, 10, 2.0, 0.50, 0.9, top1, 0.125);
    need(&e, 0.50, 10, 0);
    judge(&e, 20, 1.0, 0.625, 0.9, top1, 0.125); /* by no more than the least difference */
    need(&e, 0.50, 10, 1);
    judge(&e, 30, 1.0, 0.75, 0.9, top1, 0.125); /* beyond the best, not beyond the last */
    need(&e, 0.75, 30, 0);
    judge(&e, 40, 1.0, 0.25, 0.9, top1, 0.125);
    judge(&e, 50, 1.0, 0.75, 0.9, top1, 0);
    need(&e, 0.75, 30, 2); /* an equal one is no improvement */
    judge(&e, 60, NAN, 1.0, 1.0, top1, 0);
    need(&e, 0.75, 30, 3); /* whatever accuracy goes with a loss that is not finite */
    assert_true(isnan(e.score.loss) && e.step == 60 && e.score.metric[0] == 1.0);
    judge(&e, 60, 0.5, 0.875, 0.9, top1, 0); /* a repetition is not counted again */
    need(&e, 0.75, 30, 3);
    assert_true(e.score.loss == 0.5 && e.score.metric[0] == 0.875);
}

static void test_direction_and_change_of_metric(void **state) {
    (void)state;
    dt_ckpt_eval e = dt_ckpt_eval_none(0, loss);
    judge(&e, 10, INFINITY, 0.5, 0.9, loss, 0.1);
    assert_true(e.best_step == -1 && e.worse == 1);
    judge(&e, 20, 2.0, 0.5, 0.9, loss, 0.1);
    need(&e, 2.0, 20, 0);
    judge(&e, 30, 3.0, 0.9, 0.9, loss, 0.1);
    need(&e, 2.0, 20, 1);
    judge(&e, 40, 1.5, 0.1, 0.9, loss, 0.1);
    need(&e, 1.5, 40, 0);
    judge(&e, 50, 1.6, 0.1, 0.95, DT_BEST_EVAL_TOP5, 0.1);
    need(&e, 0.95, 50, 0);
    assert_int_equal(e.metric, DT_BEST_EVAL_TOP5);
    assert_string_equal(dt_metric_choices[DT_BEST_EVAL_TOP5], "eval_top5");
    assert_string_equal(dt_metric_choices[top1], "eval_top1");
    assert_string_equal(dt_metric_choices[loss], "eval_loss");
}

/* ---- evaluation.json ---- */

static dt_ckpt_writer *open_writer(const fixture *f, int64_t keep_best, dt_best_metric metric) {
    dt_ckpt_writer *w;
    dt_ckpt_policy policy = {.dir = f->dir, .keep_last = 2, .keep_best = keep_best, .best_metric = metric};
    assert_int_equal(dt_ckpt_writer_create(&policy, &w), DT_OK);
    return w;
}

/* Saves a step, then evaluates it: accuracy and loss. */
static void save_evaluated(fixture *f, dt_ckpt_writer *w, dt_ckpt_eval *e, int64_t step, double accuracy,
                           double cost) {
    fix_save_ok(f, w, step);
    judge(e, step, cost, accuracy, 1, (dt_best_metric)e->metric, 0);
    dt_ckpt_writer_evaluated(w, e, step);
    assert_int_equal(dt_ckpt_writer_wait(w), DT_OK);
}

static dt_ckpt *load(const fixture *f, int64_t step) {
    char path[FIX_PATH_MAX];
    dt_ckpt *c;
    fix_step_path(f, step, "", path);
    assert_int_equal(dt_ckpt_load(path, &c), DT_OK);
    return c;
}

/* A save carries the evaluations before it; its own comes to it later. */
static void test_file(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = open_writer(&f, 0, top1);
    dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
    fix_save_ok(&f, w, 1);
    dt_ckpt *c = load(&f, 1);
    assert_true(c->has_eval && !c->eval_damaged && c->eval.step == -1 && isnan(c->eval.score.loss));
    dt_ckpt_free(c);
    save_evaluated(&f, w, &e, 2, 1.0 / 3, 2.0 / 3);
    c = load(&f, 2);
    assert_true(c->eval.step == 2 && c->eval.score.metric[0] == 1.0 / 3 && c->eval.score.loss == 2.0 / 3 &&
                c->eval.best_step == 2);
    dt_ckpt_free(c);
    save_evaluated(&f, w, &e, 3, 0.25, NAN);
    fix_save_ok(&f, w, 4);
    c = load(&f, 4);
    assert_true(fix_is_step(&f, c, 4));
    assert_true(c->eval.step == 3 && isnan(c->eval.score.loss) && c->eval.score.metric[0] == 0.25 &&
                c->eval.score.metric[1] == 1);
    assert_true(c->eval.best == 1.0 / 3 && c->eval.best_step == 2 && c->eval.worse == 1);
    dt_ckpt_free(c);
    dt_ckpt_writer_destroy(w);

    /* Of a version that had none. */
    char path[FIX_PATH_MAX];
    fix_step_path(&f, 4, "evaluation.json", path);
    assert_int_equal(unlink(path), 0);
    c = load(&f, 4);
    assert_true(!c->has_eval && !c->eval_damaged && c->eval.step == -1);
    dt_ckpt_free(c);
    fix_close(&f);
}

/* A record of a task that has got a metric since: that one is not known. */
static void test_record_of_fewer_metrics(void **state) {
    (void)state;
    static const char text[] = "{\n"
                               " \"format\": \"dtrain-evaluation\",\n"
                               " \"version\": 1,\n"
                               " \"step\": 16,\n"
                               " \"loss\": 0.67828509921119329,\n"
                               " \"accuracy\": 0.52380952380952384,\n"
                               " \"f1\": 0.52380952380952384,\n"
                               " \"exact\": 0.11904761904761904,\n"
                               " \"metric\": \"eval_accuracy\",\n"
                               " \"best\": 0.55952380952380953,\n"
                               " \"best_step\": 8,\n"
                               " \"worse\": 1,\n"
                               " \"xxh3\": \"72e96027572de69d\"\n"
                               "}\n";
    fixture f;
    char path[FIX_PATH_MAX];
    dt_ckpt_eval e;
    bool found;
    fix_open(&f, 1);
    snprintf(path, sizeof path, "%s/evaluation.json", f.root);
    fix_write(path, text, strlen(text));
    assert_int_equal(dt_ckpt_eval_read(f.root, &e, &found), DT_OK);
    const dt_task_row *task = &dt_task_table[e.task];
    assert_string_equal(task->name, "multilabel");
    assert_true(found && e.step == 16 && e.best_step == 8 && e.score.metric[2] == 0.11904761904761904);
    assert_string_equal(task->metric[3].name, "map");
    assert_true(task->n_metric == 4 && isnan(e.score.metric[3]));
    fix_close(&f);
}

/* Damage costs what the file says, not the checkpoint. */
static void test_damaged_file(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = open_writer(&f, 1, top1);
    dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
    save_evaluated(&f, w, &e, 1, 0.5, 1);
    dt_ckpt_writer_destroy(w);
    char path[FIX_PATH_MAX];
    size_t bytes;
    fix_step_path(&f, 1, "evaluation.json", path);
    char *text = fix_read(path, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        text[i] ^= 1;
        fix_write(path, text, bytes);
        text[i] ^= 1;
        dt_ckpt *c = load(&f, 1);
        assert_true(fix_is_step(&f, c, 1) && c->has_eval && c->eval_damaged && c->eval.step == -1);
        dt_ckpt_free(c);
    }
    for (size_t n = 0; n < bytes; n++) {
        fix_write(path, text, n);
        dt_ckpt *c = load(&f, 1);
        assert_true(c->has_eval && c->eval_damaged && c->eval.worse == 0);
        dt_ckpt_free(c);
    }
    int64_t *step;
    int32_t n_step;
    assert_int_equal(dt_ckpt_rank(f.dir, top1, 100, &step, &n_step), DT_OK);
    assert_int_equal(n_step, 0);
    free(step);
    free(text);
    fix_close(&f);
}

/* ---- retention ---- */

/* The steps that are there are these, and none else. */
static void need_steps(const fixture *f, const int64_t *step, int n) {
    for (int i = 0; i < n; i++)
        if (!fix_has_step(f, step[i])) fail_msg("step %lld is gone", (long long)step[i]);
    assert_int_equal(fix_count_entries(f->dir, "step-"), n);
    assert_int_equal(fix_count_entries(f->dir, ".tmp-"), 0);
}
#define NEED_STEPS(f, ...)                                                                                   \
    need_steps(f, (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

static void need_link(const fixture *f, const char *want) {
    char path[FIX_PATH_MAX], to[64];
    snprintf(path, sizeof path, "%s/best", f->dir);
    ssize_t n = readlink(path, to, sizeof to - 1);
    to[n > 0 ? n : 0] = '\0';
    assert_string_equal(to, want);
    if (*want) assert_int_equal(access(path, F_OK), 0);
}

static void test_best_stay(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = open_writer(&f, 2, top1);
    dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
    save_evaluated(&f, w, &e, 1, 0.3, 1);
    need_link(&f, "step-00000001");
    save_evaluated(&f, w, &e, 2, 0.9, 1);
    save_evaluated(&f, w, &e, 3, 0.5, 1);
    save_evaluated(&f, w, &e, 4, 0.9, 1); /* of equals the earlier is the better */
    save_evaluated(&f, w, &e, 5, 0.1, 1);
    save_evaluated(&f, w, &e, 6, 0.2, 1);
    NEED_STEPS(&f, 2, 4, 5, 6);
    need_link(&f, "step-00000002");
    save_evaluated(&f, w, &e, 7, 0.95, 1);
    save_evaluated(&f, w, &e, 8, 0.0, 1);
    save_evaluated(&f, w, &e, 9, 0.0, 1);
    NEED_STEPS(&f, 2, 7, 8, 9);
    need_link(&f, "step-00000007");

    dt_ckpt_policy policy = {.dir = f.dir, .keep_last = 2, .keep_best = 2, .best_metric = top1};
    dt_ckpt_eval next = e;
    next.step = 10;
    next.score.metric[0] = 0.9;
    assert_false(dt_ckpt_is_among_best(&policy, &next));
    next.score.metric[0] = 0.91;
    assert_true(dt_ckpt_is_among_best(&policy, &next));
    next.score.loss = NAN;
    assert_false(dt_ckpt_is_among_best(&policy, &next));
    policy.keep_best = 5;
    next.score.loss = 1, next.score.metric[0] = 0;
    assert_true(dt_ckpt_is_among_best(&policy, &next)); /* there is room */
    policy.keep_best = 0;
    assert_false(dt_ckpt_is_among_best(&policy, &next));

    dt_ckpt *c;
    assert_int_equal(dt_ckpt_load_best(f.dir, top1, fix_note, &f, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 7));
    dt_ckpt_free(c);
    assert_int_equal(f.note_count, 0);
    char path[FIX_PATH_MAX];
    size_t bytes;
    fix_step_path(&f, 7, "state.h5", path);
    char *data = fix_read(path, &bytes);
    data[bytes / 2] ^= 4;
    fix_write(path, data, bytes);
    free(data);
    assert_int_equal(dt_ckpt_load_best(f.dir, top1, fix_note, &f, &c), DT_OK);
    assert_true(fix_is_step(&f, c, 2));
    dt_ckpt_free(c);
    assert_int_equal(f.note_count, 1);
    dt_ckpt_writer_destroy(w);

    w = open_writer(&f, 0, top1); /* the best are no longer wanted, nor is the link */
    fix_save_ok(&f, w, 11);
    need_link(&f, "");
    NEED_STEPS(&f, 9, 11);
    dt_ckpt_writer_destroy(w);
    fix_close(&f);
}

static void test_best_by_loss(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = open_writer(&f, 1, loss);
    dt_ckpt_eval e = dt_ckpt_eval_none(0, loss);
    static const double cost[] = {3, 1, 2, 4, 5};
    for (int64_t step = 1; step <= 5; step++)
        save_evaluated(&f, w, &e, step, (double)step / 10, cost[step - 1]);
    NEED_STEPS(&f, 2, 4, 5);
    need_link(&f, "step-00000002");
    dt_ckpt_writer_destroy(w);
    fix_close(&f);
}

/* The newest that was evaluated and found finite stays, however many come after it. */
static void test_last_finite_stays(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = open_writer(&f, 0, top1);
    dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
    save_evaluated(&f, w, &e, 1, 0.5, 1);
    save_evaluated(&f, w, &e, 2, 0.4, 1);
    for (int64_t step = 3; step <= 8; step++) save_evaluated(&f, w, &e, step, 0.1, step % 2 ? NAN : INFINITY);
    NEED_STEPS(&f, 2, 7, 8);
    fix_save_ok(&f, w, 9); /* not evaluated */
    NEED_STEPS(&f, 2, 8, 9);
    save_evaluated(&f, w, &e, 10, 0.1, 9);
    NEED_STEPS(&f, 9, 10);
    /* One whose state was cut is none to fall back to. */
    save_evaluated(&f, w, &e, 11, 0.1, 9);
    char path[FIX_PATH_MAX];
    fix_step_path(&f, 11, "state.h5", path);
    assert_int_equal(truncate(path, 100), 0);
    for (int64_t step = 12; step <= 15; step++) save_evaluated(&f, w, &e, step, 0.1, NAN);
    NEED_STEPS(&f, 10, 14, 15);
    dt_ckpt_writer_destroy(w);
    fix_close(&f);
}

/* Killed after a save, before its evaluation was recorded, or before retention: who comes after does the
 * rest. */
static void test_killed_in_between(void **state) {
    (void)state;
    for (int at = 0; at < 3; at++) {
        fixture f;
        fix_open(&f, 1);
        dt_ckpt_writer *w = open_writer(&f, 1, top1);
        dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
        static const double accuracy[] = {0.2, 0.6, 0.3, 0.4};
        for (int64_t step = 1; step <= 4; step++) save_evaluated(&f, w, &e, step, accuracy[step - 1], 1);
        dt_ckpt_writer_destroy(w);
        NEED_STEPS(&f, 2, 3, 4);
        /* A writer that keeps all stands for one that did not come to retention. */
        dt_ckpt_policy all = {.dir = f.dir, .keep_last = 100};
        assert_int_equal(dt_ckpt_writer_create(&all, &w), DT_OK);
        fix_save_ok(&f, w, 5);
        dt_ckpt_writer_destroy(w);
        char path[FIX_PATH_MAX];
        fix_step_path(&f, 5, "", path);
        judge(&e, 5, 1, 0.9, 1, top1, 0);
        if (at == 1) assert_int_equal(dt_ckpt_eval_write(path, &e), DT_OK);
        fix_step_path(&f, 5, "evaluation.json.tmp", path);
        if (at == 2) fix_write(path, "half", 4);
        w = open_writer(&f, 1, top1);
        dt_ckpt_writer_evaluated(w, &e, 5);
        dt_ckpt_writer_destroy(w); /* which waits */
        NEED_STEPS(&f, 4, 5);
        need_link(&f, "step-00000005");
        assert_int_not_equal(access(path, F_OK), 0);
        fix_close(&f);
    }
}

/* An evaluation that ends while its checkpoint is still being written waits for it, and the caller for
 * neither. */
static void test_evaluated_in_flight(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 20000);
    dt_ckpt_writer *w = open_writer(&f, 1, top1);
    dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
    for (int64_t step = 1; step <= 6; step++) {
        dt_ckpt_meta meta = fix_meta(step);
        fix_fill(&f, step);
        assert_int_equal(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f.tensor, fix_config), DT_OK);
        judge(&e, step, 1, step == 2 ? 0.9 : 0.1, 1, top1, 0);
        dt_ckpt_writer_evaluated(w, &e, step);
    }
    dt_ckpt_writer_destroy(w);
    NEED_STEPS(&f, 2, 5, 6);
    for (int64_t step = 5; step <= 6; step++) {
        dt_ckpt *c = load(&f, step);
        assert_true(fix_is_step(&f, c, step) && c->eval.step == step);
        dt_ckpt_free(c);
    }
    fix_close(&f);
}

/* A step whose save failed has nothing to record in, and what is there of another course keeps its own. */
static void test_evaluated_but_not_saved(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1);
    dt_ckpt_writer *w = open_writer(&f, 1, top1);
    dt_ckpt_eval e = dt_ckpt_eval_none(0, top1);
    save_evaluated(&f, w, &e, 7, 0.5, 1);
    fix_fill(&f, 7);
    dt_ckpt_meta meta = fix_meta(7);
    meta.loss_scale = NAN; /* cannot be stored */
    assert_int_equal(dt_ckpt_writer_save(w, &meta, FIX_TENSORS, f.tensor, fix_config), DT_OK);
    e.score.metric[0] = 0.25;
    dt_ckpt_writer_evaluated(w, &e, 7);
    assert_int_equal(dt_ckpt_writer_wait(w), DT_ERR_IO);
    dt_ckpt_writer_destroy(w);
    dt_ckpt *c = load(&f, 7);
    assert_true(c->eval.score.metric[0] == 0.5);
    dt_ckpt_free(c);
    fix_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_improvement),
        cmocka_unit_test(test_direction_and_change_of_metric),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_record_of_fewer_metrics),
        cmocka_unit_test(test_damaged_file),
        cmocka_unit_test(test_best_stay),
        cmocka_unit_test(test_best_by_loss),
        cmocka_unit_test(test_last_finite_stays),
        cmocka_unit_test(test_killed_in_between),
        cmocka_unit_test(test_evaluated_in_flight),
        cmocka_unit_test(test_evaluated_but_not_saved),
    };
    return cmocka_run_group_tests_name("evaluated checkpoints", tests, NULL, NULL);
}
