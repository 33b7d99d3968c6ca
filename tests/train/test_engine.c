/* The engine: how a batch is divided over micro-batches and ranks, what that may change (nothing but
 * rounding), saving and loading its state, evaluation between steps, and what it refuses. */
#include "engine_fixture.h"
#include "trainer_internal.h"

/* Ranks of a world share the samples; every micro-batch is run once. */
static void test_division(void **state) {
    (void)state;
    static const struct {
        int64_t batch, micro;
        int32_t world;
        int64_t n_micro_all;
    } cases[] = {{128, 0, 1, 1},  {128, 32, 1, 4}, {128, 32, 2, 4}, {128, 32, 4, 4},
                 {128, 32, 3, 4}, {10, 0, 3, 3},   {7, 0, 7, 7},    {96, 8, 5, 12}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        dt_config c;
        int64_t samples = 0, n_micro = 0;
        dt_config_init(&c);
        c.train.global_batch = cases[k].batch;
        c.train.micro_batch = cases[k].micro;
        for (int32_t rank = 0; rank < cases[k].world; rank++) {
            dt_division d;
            check_ok(dt_division_make(&c, rank, cases[k].world, &d));
            assert_int_equal(d.global_batch, cases[k].batch);
            assert_int_equal(d.n_micro_all, cases[k].n_micro_all);
            assert_true(d.n_micro >= 1 && d.rows >= 1 && d.eval_rows >= d.rows);
            if (cases[k].micro) assert_int_equal(d.rows, cases[k].micro);
            /* The loader deals counter t to micro-batch t % n_micro_all. */
            int64_t dealt = 0;
            for (int64_t t = 0; t < d.global_batch; t++) dealt += t % d.n_micro_all % cases[k].world == rank;
            assert_int_equal(d.rows * d.n_micro, dealt);
            samples += d.rows * d.n_micro, n_micro += d.n_micro;
        }
        assert_int_equal(samples, cases[k].batch);
        assert_int_equal(n_micro, cases[k].n_micro_all);
    }
}

static void test_division_errors(void **state) {
    (void)state;
    dt_config c;
    dt_division d;
    dt_config_init(&c);
    c.train.global_batch = 100;
    c.train.micro_batch = 32;
    CHECK_ERROR(dt_division_make(&c, 0, 1, &d), DT_ERR_CONFIG, "train.micro_batch = 32", "divisor");
    c.train.micro_batch = 50;
    CHECK_ERROR(dt_division_make(&c, 0, 4, &d), DT_ERR_CONFIG, "2 of 4 ranks", "at most 25");
    c.train.micro_batch = 200;
    CHECK_ERROR(dt_division_make(&c, 0, 1, &d), DT_ERR_CONFIG, "train.micro_batch = 200");
    c.train.global_batch = 3;
    c.train.micro_batch = 0;
    CHECK_ERROR(dt_division_make(&c, 0, 4, &d), DT_ERR_CONFIG, "train.global_batch = 3", "4");
    c.train.global_batch = 2;
    c.train.micro_batch = 1;
    CHECK_ERROR(dt_division_make(&c, 0, 4, &d), DT_ERR_CONFIG, "train.global_batch = 2", "fewer ranks");
    c.train.global_batch = 3;
    c.train.micro_batch = 0;
    c.train.eval_batch = 77;
    check_ok(dt_division_make(&c, 0, 2, &d));
    assert_int_equal(d.eval_rows, 77);
}

#define PLAIN(micro)                                                                                         \
    RIG_PLAIN_MODEL "[train]\nglobal_batch = 16\nlabel_smoothing = 0.1\nmicro_batch = " #micro               \
                    "\n[optim]\nkind = \"nesterov\"\nweight_decay = 1e-3\n"

static void test_micro_batches_add_up_to_the_batch(void **state) {
    (void)state;
    static const char *const configs[] = {PLAIN(16), PLAIN(8), PLAIN(4), PLAIN(2), PLAIN(1)};
    rig whole;
    rig_open(&whole, PLAIN(0));
    dt_step_result first = {0};
    for (int64_t s = 0; s < 4; s++) {
        rig_step(&whole, s, 0.05f);
        if (s == 0) first = whole.result;
    }
    for (size_t k = 0; k < sizeof configs / sizeof configs[0]; k++) {
        rig parts;
        rig_open(&parts, configs[k]);
        assert_int_equal(dt_engine_division(parts.e)->n_micro, 1 << k);
        for (int64_t s = 0; s < 4; s++) {
            rig_step(&parts, s, 0.05f);
            if (s > 0) continue;
            const float *got = parts.result.metric;
            assert_true(fabsf(got[DT_METRIC_LOSS] - first.metric[DT_METRIC_LOSS]) < 1e-4f);
            assert_true(got[DT_METRIC_TOP1] == first.metric[DT_METRIC_TOP1]);
            assert_true(got[DT_METRIC_TOP5] == 16 && got[DT_METRIC_SAMPLES] == 16); /* of 5 classes */
            assert_true(fabsf(got[DT_METRIC_GRAD_NORM] / first.metric[DT_METRIC_GRAD_NORM] - 1) < 1e-5f);
        }
        double d = rig_distance(&whole, &parts);
        if (!(d < 2e-6)) fail_msg("%d micro-batches: weights are off by %.1e", 1 << k, d);
        rig_close(&parts);
    }
    rig_close(&whole);
}

#define FULL(batch, micro, more)                                                                             \
    RIG_FULL_MODEL "[train]\nglobal_batch = " #batch "\nmicro_batch = " #micro "\n" more                     \
                   "[optim]\nkind = \"momentum\"\nweight_decay = 1e-3\n[dist]\nbuckets = 4\n"

static void need_same_metrics(const rig *a, const rig *b) {
    assert_memory_equal(a->result.metric, b->result.metric, DT_METRIC_SUMMED * sizeof(float));
}

/* Two ranks with a micro-batch each compute what one rank with two does, to the bit: they are the same
 * micro-batches with the same dropout, and a sum of two has one order. */
static void test_ranks_and_micro_batches_are_the_same(void **state) {
    (void)state;
    static const char *const configs[] = {FULL(16, 8, ""), FULL(16, 8, "clip_norm = 0.5\nema = 0.9\n"),
                                          FULL(16, 8, "") "overlap = false\n"};
    for (size_t k = 0; k < sizeof configs / sizeof configs[0]; k++) {
        rig alone, two[2];
        crew w;
        rig_open(&alone, configs[k]);
        for (int64_t s = 0; s < 4; s++) rig_step(&alone, s, 0.1f);
        dt_ckpt c = crew_train(&w, 2, &(crew_work){.config = configs[k], .end = 4, .lr = 0.1f}, two);
        rig_checkpoint_free(&c);
        assert_true(rig_hash(&two[0]) == rig_hash(&alone));
        assert_true(rig_hash(&two[1]) == rig_hash(&alone));
        need_same_metrics(&alone, &two[0]);
        need_same_metrics(&alone, &two[1]);
        assert_true(two[0].result.metric[DT_METRIC_GRAD_NORM] == alone.result.metric[DT_METRIC_GRAD_NORM]);
        if (k == 1)
            assert_memory_equal(rig_vec(&alone, DT_STORE_EMA), rig_vec(&two[1], DT_STORE_EMA),
                                rig_vec_bytes(&alone));
        rig_close(&alone), rig_close(&two[0]), rig_close(&two[1]);
    }
}

/* More micro-batches than ranks, and uneven: the same samples, summed in another order. */
static void test_worlds_agree_within_rounding(void **state) {
    (void)state;
    rig alone, three[3];
    crew w;
    rig_open(&alone, FULL(16, 4, ""));
    for (int64_t s = 0; s < 3; s++) rig_step(&alone, s, 0.1f);
    /* 2, 1 and 1 micro-batches */
    dt_ckpt c = crew_train(&w, 3, &(crew_work){.config = FULL(16, 4, ""), .end = 3, .lr = 0.1f}, three);
    rig_checkpoint_free(&c);
    assert_int_equal(dt_engine_division(three[0].e)->n_micro, 2);
    assert_int_equal(dt_engine_division(three[2].e)->n_micro, 1);
    for (int32_t k = 0; k < 3; k++) {
        assert_true(rig_hash(&three[k]) == rig_hash(&three[0]));
        assert_true(rig_distance(&alone, &three[k]) < 1e-5);
        assert_true(three[k].result.metric[DT_METRIC_SAMPLES] == 16);
        assert_true(fabsf(three[k].result.metric[DT_METRIC_LOSS] - alone.result.metric[DT_METRIC_LOSS]) <
                    1e-3f);
    }
    for (int32_t k = 0; k < 3; k++) rig_close(&three[k]);
    /* Without micro-batches the rows differ by rank; no normalisation, so only rounding may differ. */
    rig_close(&alone);
    static const char plain[] = RIG_PLAIN_MODEL "[train]\nglobal_batch = 10\n";
    rig_open(&alone, plain);
    for (int64_t s = 0; s < 3; s++) rig_step(&alone, s, 0.1f);
    /* 4, 3 and 3 rows */
    c = crew_train(&w, 3, &(crew_work){.config = plain, .end = 3, .lr = 0.1f}, three);
    rig_checkpoint_free(&c);
    for (int32_t k = 0; k < 3; k++) {
        assert_true(rig_hash(&three[k]) == rig_hash(&three[0]));
        assert_true(rig_distance(&alone, &three[k]) < 1e-5);
        assert_true(three[k].result.metric[DT_METRIC_SAMPLES] == 10);
    }
    for (int32_t k = 0; k < 3; k++) rig_close(&three[k]);
    rig_close(&alone);
}

#define STATEFUL FULL(8, 4, "ema = 0.95\nclip_norm = 1.0\n")

static void need_same_checkpoint(const dt_ckpt *a, const dt_ckpt *b) {
    assert_int_equal(a->n_tensor, b->n_tensor);
    for (int32_t i = 0; i < a->n_tensor; i++) {
        int64_t n = 1;
        assert_string_equal(a->tensor[i].name, b->tensor[i].name);
        assert_int_equal(a->tensor[i].ndim, b->tensor[i].ndim);
        for (int32_t d = 0; d < a->tensor[i].ndim; d++) n *= a->tensor[i].dim[d];
        if (memcmp(a->tensor[i].data, b->tensor[i].data, (size_t)n * sizeof(float)) != 0)
            fail_msg("%s differs", a->tensor[i].name);
    }
}

static void check_resume(const char *config) {
    rig through, resumed;
    rig_open(&through, config);
    for (int64_t s = 0; s < 3; s++) rig_step(&through, s, 0.1f);
    dt_ckpt saved = rig_checkpoint(&through);
    for (int64_t s = 3; s < 7; s++) rig_step(&through, s, 0.05f);
    rig_open(&resumed, config);
    check_ok(dt_engine_load(resumed.e, &saved));
    dt_ckpt loaded = rig_checkpoint(&resumed);
    need_same_checkpoint(&saved, &loaded);
    for (int64_t s = 3; s < 7; s++) rig_step(&resumed, s, 0.05f);
    assert_true(rig_hash(&resumed) == rig_hash(&through));
    assert_memory_equal(&resumed.result, &through.result, sizeof resumed.result);
    dt_ckpt a = rig_checkpoint(&through), b = rig_checkpoint(&resumed);
    need_same_checkpoint(&a, &b);
    rig_checkpoint_free(&a), rig_checkpoint_free(&b);
    rig_checkpoint_free(&saved), rig_checkpoint_free(&loaded);
    rig_close(&through), rig_close(&resumed);
}

static void test_resuming_changes_no_bit(void **state) {
    (void)state;
    check_resume(STATEFUL);
    check_resume(RIG_FULL_MODEL "[train]\nglobal_batch = 8\n[optim]\nkind = \"adamw\"\nlr = 0.01\n");
    check_resume(RIG_PLAIN_MODEL "[train]\nglobal_batch = 8\n[optim]\nkind = \"sgd\"\n");
}

static const dt_ckpt_tensor *tensor_named(const dt_ckpt *c, const char *name) {
    const dt_ckpt_tensor *t = dt_ckpt_find(c, name);
    if (!t) fail_msg("the snapshot has no %s", name);
    return t;
}

/* Ranks keep statistics of their own; a checkpoint holds their mean for others and each for itself. */
static void test_resuming_two_ranks_changes_no_bit(void **state) {
    (void)state;
    rig through[2], resumed[2];
    crew w[2];
    crew_work work = {.config = STATEFUL, .end = 3, .lr = 0.1f};
    dt_ckpt saved = crew_train(&w[0], 2, &work, through);
    const int64_t n_state = rig_arena_bytes(&through[0], DT_ARENA_STATE) / (int64_t)sizeof(float);
    static const struct {
        const char *mean, *local;
        dt_arena arena;
    } kept[] = {{"state/layer2.running_mean", "local_state", DT_ARENA_STATE},
                {"ema/layer2.running_mean", "local_ema", DT_ARENA_EMA_STATE}};
    for (size_t k = 0; k < 2; k++) {
        const float *mean = tensor_named(&saved, kept[k].mean)->data,
                    *local = tensor_named(&saved, kept[k].local)->data;
        for (int64_t rank = 0; rank < 2; rank++)
            assert_memory_equal(local + rank * n_state, rig_arena(&through[rank], kept[k].arena),
                                (size_t)n_state * sizeof(float));
        assert_true(local[0] != local[n_state]);
        assert_true(fabsf(mean[0] - (local[0] + local[n_state]) / 2) < 1e-6f);
    }
    rig_close(&through[0]), rig_close(&through[1]);

    work.end = 6;
    dt_ckpt straight = crew_train(&w[0], 2, &work, through);
    work.load = &saved, work.first = 3;
    dt_ckpt rejoined = crew_train(&w[1], 2, &work, resumed);
    need_same_checkpoint(&straight, &rejoined);
    rig_checkpoint_free(&saved), rig_checkpoint_free(&straight), rig_checkpoint_free(&rejoined);
    for (int k = 0; k < 2; k++) rig_close(&through[k]), rig_close(&resumed[k]);
}

static void test_snapshot_holds_everything(void **state) {
    (void)state;
    rig r;
    rig_open(&r, STATEFUL);
    rig_step(&r, 0, 0.1f);
    dt_ckpt c = rig_checkpoint(&r);
    const dt_axis *axis = dt_engine_axis(r.e);
    static const char *const prefixes[] = {"param/", "mom1/", "ema/"}, *const of_state[] = {"state/", "ema/"};
    for (int32_t i = 0; i < axis->n_segment; i++)
        for (size_t k = 0; k < 3; k++) {
            char name[DT_NAME_MAX + 16];
            snprintf(name, sizeof name, "%s%s", prefixes[k], axis->param[i].name);
            const dt_ckpt_tensor *t = tensor_named(&c, name);
            assert_int_equal(t->ndim, axis->param[i].ndim);
            assert_memory_equal(t->dim, axis->param[i].dim, (size_t)t->ndim * sizeof *t->dim);
        }
    for (size_t k = 0; k < 2; k++) {
        char name[DT_NAME_MAX + 16];
        snprintf(name, sizeof name, "%slayer2.running_mean", of_state[k]);
        const dt_ckpt_tensor *mean = tensor_named(&c, name);
        assert_true(mean->dim[0] == 6 && mean->data[0] != 0);
        snprintf(name, sizeof name, "%slayer5.running_var", of_state[k]);
        tensor_named(&c, name);
    }
    assert_null(dt_ckpt_find(&c, "mom2/layer1.weight")); /* momentum has no second moment */
    assert_int_equal(c.n_tensor, 3 * axis->n_segment + 2 * (4 + 1));
    rig_checkpoint_free(&c);
    rig_close(&r);
}

static void rename_tensor(dt_ckpt *c, const char *from, const char *to) {
    dt_ckpt_tensor *t = &c->tensor[tensor_named(c, from) - c->tensor];
    free((void *)(uintptr_t)t->name);
    t->name = strdup(to);
}

static void test_load_errors(void **state) {
    (void)state;
    static const char *const needed[] = {"param/layer1.weight",      "param/layer10.bias",
                                         "mom1/layer4.weight",       "ema/layer1.weight",
                                         "state/layer5.running_var", "ema/layer5.running_var"};
    rig r;
    rig_open(&r, STATEFUL);
    rig_step(&r, 0, 0.1f);
    for (size_t k = 0; k < sizeof needed / sizeof needed[0]; k++) {
        dt_ckpt c = rig_checkpoint(&r);
        rename_tensor(&c, needed[k], "gone");
        CHECK_ERROR(dt_engine_load(r.e, &c), DT_ERR_CHECKPOINT, "memory", needed[k], "no tensor");
        rename_tensor(&c, "gone", needed[k]);
        dt_ckpt_tensor *t = &c.tensor[tensor_named(&c, needed[k]) - c.tensor];
        t->dim[0] += 1;
        CHECK_ERROR(dt_engine_load(r.e, &c), DT_ERR_CHECKPOINT, needed[k], "shape");
        t->dim[0] -= 1, t->ndim -= 1;
        CHECK_ERROR(dt_engine_load(r.e, &c), DT_ERR_CHECKPOINT, needed[k], "shape");
        t->ndim += 1;
        check_ok(dt_engine_load(r.e, &c));
        rig_checkpoint_free(&c);
    }
    /* Of another optimizer: its state is not there. */
    rig plain;
    rig_open(&plain, RIG_FULL_MODEL "[train]\nglobal_batch = 8\n[optim]\nkind = \"sgd\"\n");
    dt_ckpt c = rig_checkpoint(&plain);
    CHECK_ERROR(dt_engine_load(r.e, &c), DT_ERR_CHECKPOINT, "mom1/", "optimizer");
    rig_checkpoint_free(&c);
    rig_close(&plain);
    rig_close(&r);
}

/* Averages that a checkpoint lacks start from its weights; statistics of another world from their mean. */
static void test_load_of_less(void **state) {
    (void)state;
    rig with, without;
    rig_open(&without, FULL(8, 4, ""));
    rig_step(&without, 0, 0.1f);
    dt_ckpt c = rig_checkpoint(&without);
    rename_tensor(&c, "local_state", "of another world");
    rig_open(&with, STATEFUL);
    check_ok(dt_engine_load(with.e, &c));
    assert_memory_equal(rig_vec(&with, DT_STORE_EMA), rig_arena(&with, DT_ARENA_MASTER),
                        rig_vec_bytes(&with));
    assert_true(rig_hash(&with) == rig_hash(&without));
    static const dt_arena states[] = {DT_ARENA_STATE, DT_ARENA_EMA_STATE};
    for (size_t k = 0; k < 2; k++)
        assert_memory_equal(rig_arena(&with, states[k]), rig_arena(&without, DT_ARENA_STATE),
                            (size_t)rig_arena_bytes(&with, DT_ARENA_STATE));
    assert_null(rig_arena(&without, DT_ARENA_EMA_STATE));
    rig_checkpoint_free(&c);
    rig_close(&with), rig_close(&without);
}

static void test_seed_decides_the_weights(void **state) {
    (void)state;
    rig a, b, c;
    rig_open(&a, FULL(8, 4, "") "[run]\nseed = 1\n");
    rig_open(&b, FULL(8, 0, "") "[run]\nseed = 1\n");
    rig_open(&c, FULL(8, 4, "") "[run]\nseed = 2\n");
    assert_true(rig_hash(&a) == rig_hash(&b));
    assert_true(rig_hash(&a) != rig_hash(&c));
    uint64_t fresh = rig_hash(&a);
    rig_step(&a, 0, 0.1f);
    assert_true(rig_hash(&a) != fresh);
    check_ok(dt_engine_init(a.e)); /* begins anew, optimizer and statistics too */
    rig_step(&a, 0, 0.1f);
    check_ok(dt_engine_init(a.e));
    rig_step(&a, 0, 0.1f);
    rig_step(&c, 0, 0.1f);
    check_ok(dt_engine_init(b.e));
    rig again;
    rig_open(&again, FULL(8, 4, "") "[run]\nseed = 1\n");
    rig_step(&again, 0, 0.1f);
    assert_true(rig_hash(&a) == rig_hash(&again));
    rig_close(&a), rig_close(&b), rig_close(&c), rig_close(&again);
}

/* Evaluates samples [1000, 1000 + n). */
static void evaluate(rig *r, bool ema, int64_t n, double *metric) {
    const int64_t rows = dt_engine_division(r->e)->eval_rows;
    check_ok(dt_engine_eval_begin(r->e, ema));
    for (int64_t i = 0; i < n; i += rows) {
        dt_batch b = rig_batch(r, rows, 1000 + i, 1, 1000 + n);
        check_ok(dt_engine_feed(r->e, &b, true));
        rig_batch_free(&b);
        check_ok(dt_engine_eval_batch(r->e));
    }
    check_ok(dt_engine_eval_end(r->e, metric));
}

static void test_evaluation_leaves_no_trace(void **state) {
    (void)state;
    rig watched, unwatched;
    double with[DT_METRIC_COUNT], without[DT_METRIC_COUNT], again[DT_METRIC_COUNT];
    rig_open(&watched, STATEFUL);
    rig_open(&unwatched, STATEFUL);
    for (int64_t s = 0; s < 4; s++) {
        rig_step(&watched, s, 0.1f), rig_step(&unwatched, s, 0.1f);
        evaluate(&watched, true, 21, with);
        evaluate(&watched, false, 21, without);
        evaluate(&watched, true, 21, again);
        assert_memory_equal(with, again, sizeof with);
        assert_true(with[DT_METRIC_SAMPLES] == 21 && without[DT_METRIC_SAMPLES] == 21);
        assert_true(with[DT_METRIC_LOSS] != without[DT_METRIC_LOSS]); /* other weights */
    }
    dt_ckpt a = rig_checkpoint(&watched), b = rig_checkpoint(&unwatched);
    need_same_checkpoint(&a, &b);
    rig_checkpoint_free(&b);
    rig_close(&unwatched);

    /* An engine for evaluation alone measures the same: with averages configured, and given the averages,
     * weights and statistics, as its only ones. */
    rig only;
    rig_prepare(&only, FULL(8, 4, "eval_batch = 4\nema = 0.9\n"));
    check_ok(rig_try_open(&only, NULL, false));
    check_ok(dt_engine_load(only.e, &a));
    evaluate(&only, true, 21, again);
    assert_memory_equal(with, again, DT_METRIC_SUMMED * sizeof *with);
    rig_close(&only);
    rename_tensor(&a, "local_state", "not these");
    rename_tensor(&a, "local_ema", "local_state");
    for (int32_t i = 0; i < a.n_tensor; i++) {
        const char *slash = strchr(a.tensor[i].name, '/');
        const bool param = strncmp(a.tensor[i].name, "param/", 6) == 0;
        if (!slash || (!param && strncmp(a.tensor[i].name, "state/", 6) != 0)) continue;
        char name[DT_NAME_MAX + 16];
        int64_t n = 1;
        snprintf(name, sizeof name, "ema%s", slash);
        for (int32_t d = 0; d < a.tensor[i].ndim; d++) n *= a.tensor[i].dim[d];
        memcpy(a.tensor[i].data, tensor_named(&a, name)->data, (size_t)n * sizeof(float));
    }
    rig_prepare(&only, FULL(8, 4, "eval_batch = 4\n"));
    check_ok(rig_try_open(&only, NULL, false));
    check_ok(dt_engine_load(only.e, &a));
    evaluate(&only, false, 21, again);
    assert_memory_equal(with, again, DT_METRIC_SUMMED * sizeof *with);
    rig_checkpoint_free(&a);
    rig_close(&only), rig_close(&watched);
}

/* With a decay of 0 the average is the current state, statistics included: both evaluations agree to the bit.
 * Were the averaged weights evaluated with other statistics, they would not. */
static void test_average_is_whole(void **state) {
    (void)state;
    rig r;
    double averaged[DT_METRIC_COUNT], current[DT_METRIC_COUNT];
    rig_open(&r, STATEFUL);
    r.c.train.ema = 0;
    for (int64_t s = 0; s < 3; s++) rig_step(&r, s, 0.1f);
    assert_memory_equal(rig_arena(&r, DT_ARENA_EMA_STATE), rig_arena(&r, DT_ARENA_STATE),
                        (size_t)rig_arena_bytes(&r, DT_ARENA_STATE));
    evaluate(&r, true, 21, averaged);
    evaluate(&r, false, 21, current);
    assert_memory_equal(averaged, current, sizeof current);
    r.c.train.ema = 0.95;
    rig_step(&r, 3, 0.1f);
    evaluate(&r, true, 21, averaged);
    dt_ckpt c = rig_checkpoint(&r); /* made one of an earlier version, which averaged weights alone */
    assert_false(dt_trainer_averages_weights_alone(&r.c, &c));
    rename_tensor(&c, "local_ema", "none");
    assert_true(dt_trainer_averages_weights_alone(&r.c, &c));
    assert_false(dt_trainer_averages_weights_alone(&(dt_config){.train.ema = 0}, &c)); /* none is wanted */
    static const char *const states[] = {"layer2.running_mean", "layer2.running_var", "layer5.running_mean",
                                         "layer5.running_var"};
    for (int i = 0; i < 4; i++) {
        char name[DT_NAME_MAX + 16];
        snprintf(name, sizeof name, "ema/%s", states[i]);
        rename_tensor(&c, name, "none");
    }
    check_ok(dt_engine_load(r.e, &c));
    assert_memory_equal(rig_arena(&r, DT_ARENA_EMA_STATE), rig_arena(&r, DT_ARENA_STATE),
                        (size_t)rig_arena_bytes(&r, DT_ARENA_STATE));
    evaluate(&r, true, 21, current);
    assert_true(averaged[DT_METRIC_LOSS] != current[DT_METRIC_LOSS]);
    rig_checkpoint_free(&c);
    rig_close(&r);
}

static void test_refused(void **state) {
    (void)state;
    rig r;
    rig_prepare(&r, FULL(8, 4, "precision = \"bf16\"\n"));
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "train.precision", "fp32");
    rig_close(&r);
    rig_prepare(&r, FULL(8, 4, ""));
    r.c.train.micro_batch = 3;
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "train.micro_batch = 3");
    rig_close(&r);
    rig_prepare(&r, FULL(8, 4, ""));
    r.data.n_classes = 6; /* the model ends in 5 */
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "expected 6 logits");
    r.c.model.classes = 4;
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "model.classes = 4", "6 classes");
    rig_close(&r);
    rig_prepare(&r, FULL(8, 4, ""));
    r.be->info.free_bytes = 4096;
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "are free",
                "not even one sample at a time fits");
    rig_close(&r);
}

/* Where evaluation has a batch of its own, what is too large is named, and what is said to fit fits. */
static void test_memory_of_evaluation(void **state) {
    (void)state;
    rig r;
    rig_open(&r, FULL(8, 0, "eval_batch = 8\n"));
    const int64_t small = dt_engine_device_bytes(r.e);
    rig_close(&r);
    rig_prepare(&r, FULL(8, 0, "eval_batch = 500\n"));
    r.be->info.free_bytes = 4 * small;
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "evaluation", "now 500", "train.eval_batch");
    const char *about = strstr(dt_error_text(), "is about ");
    assert_non_null(about);
    const int64_t fits = strtoll(about + strlen("is about "), NULL, 10);
    rig_close(&r);
    for (int k = 0; k < 2; k++) {
        rig_prepare(&r, FULL(8, 0, "eval_batch = 8\n"));
        r.be->info.free_bytes = 4 * small;
        r.c.train.eval_batch = k ? fits * 3 / 2 : fits;
        const dt_status st = rig_try_open(&r, NULL, true);
        if (k == 0) check_ok(st);
        if (k == 1) CHECK_ERROR(st, DT_ERR_CONFIG, "train.eval_batch");
        rig_close(&r);
    }
    /* Evaluation fits at any size of the micro-batch: that one is named. */
    rig_prepare(&r, FULL(4096, 0, "eval_batch = 8\n"));
    r.be->info.free_bytes = 4 * small;
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "micro-batch that fits", "now 4096");
    rig_close(&r);
}

/* Training and evaluation use one arena, whichever needs the larger one. */
static void test_one_arena(void **state) {
    (void)state;
    static const char *const keys[] = {FULL(64, 0, "eval_batch = 4\n"), FULL(4, 0, "eval_batch = 64\n")};
    for (int k = 0; k < 2; k++) {
        rig r;
        rig_open(&r, keys[k]);
        const dt_program *train = dt_engine_program(r.e, false), *eval = dt_engine_program(r.e, true);
        assert_true(k == (eval->plan.act_bytes > train->plan.act_bytes));
        assert_ptr_equal(train->act, eval->act);
        assert_true(train->act_shared + eval->act_shared == 1);
        rig_close(&r);
    }
}

/* The figures of `inspect`: the need grows with the rows, and the largest batch that "fits" does fit. */
static void test_memory_figures(void **state) {
    (void)state;
    rig r, twice;
    rig_open(&r, FULL(64, 0, ""));
    rig_open(&twice, FULL(128, 0, ""));
    int64_t one = dt_engine_device_bytes(r.e), two = dt_engine_device_bytes(twice.e);
    const dt_plan *plan = &dt_engine_program(r.e, false)->plan;
    assert_true(one >= plan->act_bytes + plan->input_bytes + 3 * dt_engine_axis(r.e)->n_elem * 4);
    assert_true(two > one && two < 2 * one);
    rig_close(&twice);
    r.be->info.free_bytes = 8 << 20;
    int64_t rows = dt_engine_largest_rows(r.e), free_bytes = r.be->info.free_bytes;
    assert_true(rows > 64);
    rig_close(&r);
    for (int k = 0; k < 2; k++) {
        rig_prepare(&r, FULL(8, 0, ""));
        r.c.train.global_batch = k ? rows * 3 / 2 : rows;
        r.c.train.recompute = DT_RECOMPUTE_LEVELS + DT_RECOMPUTE_NONE;
        r.be->info.free_bytes = free_bytes;
        dt_status st = rig_try_open(&r, NULL, true);
        if (k == 0) check_ok(st);
        if (k == 1) CHECK_ERROR(st, DT_ERR_CONFIG, "are free");
        rig_close(&r);
    }
}

/* What does not fit is computed again instead of kept, as little of it as will do; then it trains the same. */
static void test_recompute_where_memory_is_short(void **state) {
    (void)state;
    rig r;
    int64_t need[DT_RECOMPUTE_BLOCKS + 1];
    uint64_t hash[DT_RECOMPUTE_BLOCKS + 1];
    double more;
    for (int k = 0; k <= DT_RECOMPUTE_BLOCKS; k++) {
        rig_prepare(&r, FULL(64, 0, "eval_batch = 1\n"));
        r.c.train.recompute = DT_RECOMPUTE_LEVELS + k;
        check_ok(rig_try_open(&r, NULL, true));
        need[k] = dt_engine_device_bytes(r.e);
        for (int64_t step = 0; step < 3; step++) rig_step(&r, step, 0.1f);
        hash[k] = rig_hash(&r);
        rig_close(&r);
        assert_true(hash[k] == hash[0]);
        assert_true(k == 0 || need[k] < need[k - 1]);
    }
    for (int k = 0; k <= DT_RECOMPUTE_BLOCKS; k++) {
        rig_prepare(&r, FULL(64, 0, "eval_batch = 1\n"));
        r.be->info.free_bytes = need[k];
        check_ok(rig_try_open(&r, NULL, true));
        assert_int_equal(dt_engine_recompute(r.e, &more), k);
        assert_true(k == 0 ? more == 0 : more > 0);
        rig_close(&r);
    }
    rig_prepare(&r, FULL(64, 0, "eval_batch = 1\n"));
    r.be->info.free_bytes = need[DT_RECOMPUTE_BLOCKS] - 1;
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "micro-batch that fits");
    rig_close(&r);
    rig_prepare(&r, FULL(64, 0, "eval_batch = 1\n"));
    r.c.train.recompute = DT_RECOMPUTE_LEVELS + DT_RECOMPUTE_NONE;
    r.be->info.free_bytes = need[0] - 1;
    CHECK_ERROR(rig_try_open(&r, NULL, true), DT_ERR_CONFIG, "micro-batch that fits", "train.recompute");
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_division),
        cmocka_unit_test(test_division_errors),
        cmocka_unit_test(test_micro_batches_add_up_to_the_batch),
        cmocka_unit_test(test_ranks_and_micro_batches_are_the_same),
        cmocka_unit_test(test_worlds_agree_within_rounding),
        cmocka_unit_test(test_resuming_changes_no_bit),
        cmocka_unit_test(test_resuming_two_ranks_changes_no_bit),
        cmocka_unit_test(test_snapshot_holds_everything),
        cmocka_unit_test(test_load_errors),
        cmocka_unit_test(test_load_of_less),
        cmocka_unit_test(test_seed_decides_the_weights),
        cmocka_unit_test(test_evaluation_leaves_no_trace),
        cmocka_unit_test(test_average_is_whole),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_one_arena),
        cmocka_unit_test(test_memory_figures),
        cmocka_unit_test(test_recompute_where_memory_is_short),
        cmocka_unit_test(test_memory_of_evaluation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
