/* A network put to use: outputs of the evaluation program by name, engines that only plan, and the facts of
 * checkpoints that do not say them. */
#include "engine_fixture.h"

#include "trained.h"

static const char config[] = RIG_FULL_MODEL "[train]\nglobal_batch = 8\neval_batch = 5\n";

/* The loss and the right answers, from the logits, are those that the program counts. */
static void test_output(void **state) {
    (void)state;
    rig r;
    double metric[DT_METRIC_COUNT], loss = 0, right = 0;
    rig_open(&r, config);
    const int64_t rows = dt_engine_division(r.e)->eval_rows, classes = r.data.n_classes;
    check_ok(dt_engine_eval_begin(r.e, false));
    for (int64_t at = 0; at < 13; at += rows) {
        const float *logit;
        int64_t n;
        dt_batch b = rig_batch(&r, rows, at, 1, 13);
        check_ok(dt_engine_feed(r.e, &b, true));
        check_ok(dt_engine_eval_batch(r.e));
        check_ok(dt_engine_output(r.e, "logits", &n, &logit));
        assert_int_equal(n, rows * classes);
        for (int64_t i = 0; i < b.n_valid; i++, logit += classes) {
            double sum = 0;
            bool best = true;
            for (int64_t k = 0; k < classes; k++) {
                sum += exp((double)logit[k] - (double)logit[batch_label(&b)[i]]);
                best &= k == batch_label(&b)[i] || logit[k] < logit[batch_label(&b)[i]];
            }
            loss += log(sum);
            right += best;
        }
        rig_batch_free(&b);
    }
    check_ok(dt_engine_eval_end(r.e, metric));
    assert_true(metric[DT_METRIC_SAMPLES] == 13 && metric[DT_METRIC_TOP1] == right);
    assert_true(fabs(metric[DT_METRIC_LOSS] - loss) < 1e-4 * loss);
    rig_close(&r);
}

static void test_output_errors(void **state) {
    (void)state;
    rig r;
    const float *out;
    int64_t n;
    rig_open(&r, config);
    const dt_graph *g = dt_engine_program(r.e, true)->graph;
    CHECK_ERROR(dt_engine_output(r.e, "nothing", &n, &out), DT_ERR_INTERNAL, "no output \"nothing\"");
    const char *inner = g->value[g->node[1].out[0]].name, *label = "label";
    CHECK_ERROR(dt_engine_output(r.e, inner, &n, &out), DT_ERR_INTERNAL, "no output");
    CHECK_ERROR(dt_engine_output(r.e, label, &n, &out), DT_ERR_INTERNAL, "no output");
    rig_close(&r);
}

/* The same plan as that of an engine that runs; what does not fit is none of its business. */
static void test_plan_only(void **state) {
    (void)state;
    rig real, plan;
    rig_open(&real, config);
    rig_prepare(&plan, config);
    plan.be->info.free_bytes = 1000;
    plan.c.train.recompute = DT_RECOMPUTE_LEVELS + DT_RECOMPUTE_NONE;
    const dt_engine_options o = {
        .config = &plan.c, .be = plan.be, .data = &plan.data, .train = true, .plan_only = true};
    check_ok(dt_engine_create(&o, &plan.e));
    assert_true(dt_engine_device_bytes(plan.e) == dt_engine_device_bytes(real.e));
    assert_true(dt_engine_store_bytes(plan.e) == dt_engine_store_bytes(real.e));
    assert_true(dt_engine_payload_bytes(plan.e) == 4);
    for (int eval = 0; eval < 2; eval++) {
        const dt_program *p = dt_engine_program(plan.e, eval);
        assert_true(p->plan.act_bytes == dt_engine_program(real.e, eval)->plan.act_bytes);
        assert_null(p->act);
        assert_null(p->store);
    }
    int64_t store = 0;
    const dt_store *held = dt_engine_program(real.e, false)->store;
    for (int a = 0; a < DT_ARENA_COUNT; a++) store += held->bytes[a];
    for (int i = 0; i < DT_STORE_VECS; i++) store += held->vec[i].bytes;
    assert_true(store == dt_engine_store_bytes(real.e));
    rig_close(&real);
    rig_close(&plan);
}

/* Without facts: those of the data, else of the keys, else an error that names them. */
static void test_facts_of_old_checkpoints(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t side, channels, classes; /* 0: there are none */
        double mean;
    } row[] = {
        {"[data]\nimage_size = 16\n", 16, 3, 10, 0.5}, /* data.val is synthetic */
        {"[data]\nimage_size = 16\n[model]\nclasses = 7\n", 0, 0, 0, 0},
        {"[data]\nimage_size = 16\nchannels = 1\n[augment]\nmean = [0.1]\nstd = [1.0]\n", 0, 0, 0, 0},
        {"[data]\nimage_size = 16\nchannels = 1\n[model]\nclasses = 7\n", 0, 0, 0, 0},
        {"[data]\nimage_size = 16\nchannels = 1\n[model]\nclasses = 7\n[augment]\nmean = [0.1]\nstd = "
         "[1.0]\n",
         16, 1, 7, 0.5},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        dt_config c;
        dt_ckpt ckpt = {.path = "old"};
        dt_trained t = {.ckpt = &ckpt};
        check_config(&c, row[i].text);
        if (i == 0) strcpy(c.data.val, "synthetic");
        const dt_status st = dt_trained_find_facts(&c, "old", &t);
        if (row[i].side == 0) {
            CHECK_ERROR(st, DT_ERR_CONFIG, "old does not say", "none: no such data", "data.channels",
                        "model.classes", "augment.mean");
        } else {
            check_ok(st);
            const dt_dataset_info *info = &t.facts.info;
            assert_true(t.has_facts && info->height == row[i].side && info->width == row[i].side);
            assert_true(info->channels == row[i].channels && info->n_classes == row[i].classes);
            assert_true(info->mean[0] == row[i].mean);
            c.data.val[0] = 0; /* what is known is not asked for again */
            check_ok(dt_trained_find_facts(&c, "old", &t));
        }
        dt_data_facts_free(&t.facts);
        dt_config_fini(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_output_errors),
        cmocka_unit_test(test_plan_only),
        cmocka_unit_test(test_facts_of_old_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
