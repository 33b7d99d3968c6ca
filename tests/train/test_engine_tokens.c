/* A loss of places in samples, many of which have no label: gradient, norm and metrics are means over those that have
 * one, in the whole batch of a step, over any number of micro-batches and ranks. */
#include "engine_fixture.h"
#include "model/builder.h"

enum { STEPS = 6, TOKENS = 11, PLACES = 7, WIDE = 12, BATCH = 12 };

/* A clipped norm, so that the norm shows too. */
#define CONFIG(rest)                                                                                         \
    "[model]\nname = \"resnet18\"\n[optim]\nkind = \"momentum\"\nmomentum = 0.9\nweight_decay = 0.0\n"       \
    "[train]\nclip_norm = 0.3\nglobal_batch = 12\n" rest

static const dt_dataset_info text = {
    .n_samples = 512,
    .n_classes = TOKENS,
    .n_field = 2,
    .field = {{"tokens", DT_DTYPE_I32, 1, {PLACES}}, {"label", DT_DTYPE_I32, 1, {PLACES}}}};

/* A table that is the head too, places, and a layer between. */
static dt_status forward(void *arg, int64_t rows, bool training, dt_graph **out) {
    dt_builder b = {.rows = rows, .field = text.field, .n_field = text.n_field};
    (void)arg;
    DT_TRY(dt_graph_create(&b.g, DT_DTYPE_F32, training));
    dt_vid x = dt_build_embedding(&b, "wte", dt_build_input_as(&b, "tokens", DT_DTYPE_I32),
                                  &(dt_embedding_options){.rows = TOKENS, .channels = WIDE, .std = 0.5});
    x = dt_build_position(&b, "wpe", x, &(dt_position_options){.rows = PLACES + 2, .std = 0.5});
    const dt_vid y = dt_build_dense(&b, "fc", dt_build_layernorm(&b, "ln_1", x, NULL), WIDE, true);
    x = dt_build_rmsnorm(&b, "ln_2", dt_build_add(&b, "sum", x, y), NULL);
    x = dt_build_tied(&b, "head", dt_build_rotary(&b, "turn", x, &(dt_rotary_options){.heads = 3}), "wte");
    dt_build_loss(&b, x, NULL);
    dt_build_output(&b, "logits", x);
    if (b.status != DT_OK) dt_graph_destroy(b.g);
    *out = b.g;
    return b.status;
}

/* How many of sample t's places have a label: none of some. */
static int64_t labelled(int64_t t) {
    return t % 5 == 0 ? 0 : t * 3 % (PLACES + 1);
}

static dt_batch batch(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end) {
    dt_batch b = {.field = text.field, .n_field = 2, .rows = rows};
    int32_t *tokens = check_alloc((size_t)(rows * PLACES) * sizeof *tokens),
            *label = check_alloc((size_t)(rows * PLACES) * sizeof *label);
    (void)r;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t t = first + i * stride;
        check_rng rng = {.stream = 9000 + (uint64_t)t};
        for (int64_t k = 0; k < PLACES; k++) {
            tokens[i * PLACES + k] = (int32_t)check_below(&rng, TOKENS);
            label[i * PLACES + k] = k < labelled(t) ? (tokens[i * PLACES + k] * 3 + 1) % TOKENS : -1;
        }
        b.n_valid += t < end; /* rows past the last must not count */
    }
    b.data[0] = tokens, b.data[1] = label;
    return b;
}

static crew_work work_of(const char *config) {
    return (crew_work){
        .config = config, .data = &text, .batch = batch, .forward = forward, .end = STEPS, .lr = 0.3f};
}

static void open_text(rig *r, const char *config) {
    rig_prepare(r, config);
    r->data = text, r->batch = batch, r->forward = forward;
    check_ok(rig_try_open(r, NULL, true));
}

static float count_labels(int64_t step) {
    int64_t n = 0;
    for (int64_t t = step * BATCH; t < (step + 1) * BATCH; t++) n += labelled(t);
    return (float)n;
}

static void test_worlds_agree(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int32_t world;
    } rows[] = {{CONFIG("micro_batch = 4\n"), 1},
                {CONFIG("micro_batch = 1\n"), 1},
                {CONFIG(""), 2},
                {CONFIG("micro_batch = 2\n"), 2},
                {CONFIG(""), 4},
                {CONFIG("micro_batch = 1\n"), 4},
                {CONFIG("micro_batch = 2\n"), 4}};
    rig alone;
    open_text(&alone, CONFIG(""));
    float loss = 0;
    for (int64_t s = 0; s < STEPS; s++) {
        rig_step(&alone, s, 0.3f);
        assert_true(alone.result.metric[DT_METRIC_SAMPLES] == count_labels(s));
        if (s == 0) loss = alone.result.metric[DT_METRIC_LOSS] / alone.result.metric[DT_METRIC_SAMPLES];
    }
    const float *want = alone.result.metric;
    assert_true(want[DT_METRIC_LOSS] / want[DT_METRIC_SAMPLES] < 0.8f * loss); /* it learns */
    assert_true(want[DT_METRIC_GRAD_NORM] > 0.3f);                             /* it is clipped */
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        rig r[CREW_MAX];
        crew w;
        const crew_work work = work_of(rows[k].config);
        dt_ckpt c = crew_train(&w, rows[k].world, &work, r);
        for (int32_t i = 0; i < rows[k].world; i++) {
            const float *got = r[i].result.metric;
            if (!(rig_distance(&alone, &r[i]) < 2e-6))
                fail_msg("%d ranks, %s: the weights are off by %.2g", rows[k].world, rows[k].config,
                         rig_distance(&alone, &r[i]));
            assert_true(got[DT_METRIC_SAMPLES] == want[DT_METRIC_SAMPLES]);
            assert_true(got[DT_METRIC_TOP1] == want[DT_METRIC_TOP1]);
            assert_true(fabsf(got[DT_METRIC_LOSS] - want[DT_METRIC_LOSS]) < 2e-5f * want[DT_METRIC_LOSS]);
            assert_true(fabsf(got[DT_METRIC_GRAD_NORM] - want[DT_METRIC_GRAD_NORM]) <
                        1e-5f * want[DT_METRIC_GRAD_NORM]);
        }
        for (int32_t i = 0; i < rows[k].world; i++) rig_close(&r[i]);
        rig_checkpoint_free(&c);
    }
    rig_close(&alone);
}

/* Every label twice is every label once; places without one do not count. */
static int32_t copies; /* samples without any label among copies of the first */

static dt_batch batch_of_copies(rig *r, int64_t rows, int64_t first, int64_t stride, int64_t end) {
    dt_batch b = batch(r, rows, first, stride, end);
    int32_t *tokens = b.data[0], *label = b.data[1];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < PLACES; k++) {
            tokens[i * PLACES + k] = (int32_t)(k * 5 % TOKENS);
            label[i * PLACES + k] = i < rows - copies && k < 4 ? (int32_t)k : -1;
        }
    return b;
}

static void test_mean_over_labels(void **state) {
    (void)state;
    rig full, sparse;
    open_text(&full, CONFIG(""));
    open_text(&sparse, CONFIG(""));
    full.batch = sparse.batch = batch_of_copies;
    for (int64_t s = 0; s < STEPS; s++) {
        copies = 0;
        rig_step(&full, s, 0.3f);
        copies = BATCH - 1;
        rig_step(&sparse, s, 0.3f);
        const float *a = full.result.metric, *b = sparse.result.metric;
        assert_true(a[DT_METRIC_SAMPLES] == 4 * BATCH && b[DT_METRIC_SAMPLES] == 4);
        assert_true(fabsf(a[DT_METRIC_GRAD_NORM] - b[DT_METRIC_GRAD_NORM]) < 1e-5f * a[DT_METRIC_GRAD_NORM]);
    }
    if (!(rig_distance(&full, &sparse) < 2e-6)) fail_msg("off by %.2g", rig_distance(&full, &sparse));
    copies = BATCH; /* nothing to learn from: nothing is learnt, and nothing breaks */
    rig_step(&sparse, STEPS, 0.3f);
    assert_true(sparse.result.metric[DT_METRIC_GRAD_NORM] == 0 && sparse.result.metric[DT_METRIC_LOSS] == 0);
    rig_close(&full);
    rig_close(&sparse);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds_agree),
        cmocka_unit_test(test_mean_over_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
