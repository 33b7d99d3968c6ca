/* Tasks: heads on networks that read fields of any kind, their losses and sums, metrics, and what is
 * refused. */
#include <math.h>

#include "graph_program.h"
#include "model/task.h"
#include "test_model.h"

enum { ROWS = 5 };

#define MLP                                                                                                  \
    "[model]\nname = \"layers\"\n%s\n"                                                                       \
    "[[model.layers]]\ntype = \"dense\"\nname = \"hidden\"\nchannels = 6\n"                                  \
    "[[model.layers]]\ntype = \"relu\"\n"                                                                    \
    "[[model.layers]]\ntype = \"dense\"\nchannels = %d\n%s"

static void options_of(dt_model_options *o, const char *keys, int outputs, const char *losses) {
    char text[2048];
    snprintf(text, sizeof text, MLP, keys, outputs, losses);
    check_model_options(o, text);
}

static dt_status build(const dt_model_options *o, const dt_field *field, int32_t n_field, bool training,
                       dt_graph **out) {
    const dt_model_input in = {.batch = ROWS, .field = field, .n_field = n_field, .classes = 3};
    return dt_model_build(o, &in, DT_DTYPE_F32, training, out);
}

static const dt_field table[] = {{.name = "x", .dtype = DT_DTYPE_F64, .ndim = 1, .dim = {4}},
                                 {.name = "y", .dtype = DT_DTYPE_F32, .ndim = 1, .dim = {2}},
                                 {.name = "tags", .dtype = DT_DTYPE_U8, .ndim = 1, .dim = {2}},
                                 {.name = "kind", .dtype = DT_DTYPE_I64}};
enum { N_TABLE = sizeof table / sizeof table[0] };

enum { STEPS = 4, WORDS = 7 };
static const dt_field prose[] = {{.name = "tokens", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {STEPS}},
                                 {.name = "label", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {STEPS}}};

/* Values of the fields: x, y between -1 and 1, tags 0 and 1, kinds 0 to 2, row 3 is padding. */
static double value_of(const char *field, int64_t i) {
    check_rng r = {.stream = 9 + (uint64_t)field[0], .next = (uint64_t)i * 4};
    if (strcmp(field, "tags") == 0) return (double)check_below(&r, 2);
    if (strcmp(field, "kind") == 0) return (double)check_below(&r, 3);
    if (strcmp(field, "tokens") == 0) return (double)check_below(&r, WORDS);
    if (strcmp(field, "label") == 0)
        return (double)check_below(&r, WORDS + 1) - 1; /* some places have none */
    if (strcmp(field, "valid") == 0) return i == 3 ? 0 : 1;
    return check_uniform(&r);
}

static void put(void *to, dt_dtype dtype, int64_t i, double v) {
    if (dtype == DT_DTYPE_F64) ((double *)to)[i] = v;
    if (dtype == DT_DTYPE_F32) ((float *)to)[i] = (float)v;
    if (dtype == DT_DTYPE_U8) ((uint8_t *)to)[i] = (uint8_t)v;
    if (dtype == DT_DTYPE_I32) ((int32_t *)to)[i] = (int32_t)v;
    if (dtype == DT_DTYPE_I64) ((int64_t *)to)[i] = (int64_t)v;
}

static double metric_of(const dt_metric_row *m, const double *sum, bool several, double bytes_a_row) {
    const dt_metric_extra more = {.bytes_a_row = bytes_a_row, .average_precision = 0.5};
    return dt_metric_value(m, sum, several, &more);
}

/* Trains a step on backend and oracle; gradients and all sums must agree. Returns the sums. */
static void check_step(const dt_model_options *o, const dt_field *field, int32_t n_field,
                       double sum[DT_METRIC_COUNT]) {
    dt_backend *be = live_backend();
    dt_graph *g;
    dt_axis *axis;
    check_ok(build(o, field, n_field, true, &g));
    check_ok(dt_autodiff(g));
    check_ok(dt_axis_build(g, 2, 0, false, &axis));
    live l = live_open(be, axis, g, NULL);
    oracle want = oracle_open(g, &live_step);
    oracle_reset(&want, axis);
    for (dt_vid v = 0; v < g->n_value; v++) {
        if (g->value[v].role != DT_ROLE_INPUT) continue;
        for (int64_t i = 0; i < dt_value_n_elem(&g->value[v]); i++) {
            put(dt_program_address(l.program, v), g->value[v].dtype, i, value_of(g->value[v].name, i));
            want.data[v][i] = value_of(g->value[v].name, i);
        }
    }
    check_ok(dt_program_run(l.program, NULL, NULL));
    oracle_run(&want, g->n_node);
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_GRAD && live_distance(&l, &want, v) > 1e-5)
            fail_msg("%s is off", g->value[v].name);
    for (int i = 0; i < DT_METRIC_SUMMED; i++) {
        sum[i] = (double)((float *)l.store->arena[DT_ARENA_METRIC])[i];
        const double w = want.data[g->metrics][i];
        if (fabs(sum[i] - w) > 1e-5 * (fabs(w) + 1)) fail_msg("sum %d is %g, not %g", i, sum[i], w);
    }
    oracle_close(&want);
    live_close(&l);
    dt_axis_destroy(axis);
    be->destroy(be);
}

static void test_heads_of_all_tasks(void **state) {
    (void)state;
    static const struct {
        const char *keys;
        int outputs;
    } rows[] = {{"task = \"regress\"", 2},
                {"task = \"regress\"\nloss = \"l1\"", 2},
                {"task = \"regress\"\nloss = \"huber\"\nhuber_delta = 0.3", 2},
                {"task = \"multilabel\"\ntarget = \"tags\"\npos_weight = 3.0", 2},
                {"task = \"classify\"\ntarget = \"kind\"", 3},
                {"task = \"minimize\"", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dt_model_options o;
        double sum[DT_METRIC_COUNT];
        options_of(&o, rows[i].keys, rows[i].outputs, "");
        check_step(&o, table, N_TABLE, sum);
        assert_true(sum[DT_METRIC_SAMPLES] == ROWS - 1); /* one is padding */
        const dt_task_row *task = dt_task_of(&o);
        for (int32_t k = 0; k < task->n_metric; k++)
            assert_true(isfinite(metric_of(&task->metric[k], sum, false, 0)));
        dt_model_options_fini(&o);
    }
}

#define WORDS_OF(rows, last)                                                                                 \
    "[model]\nname = \"layers\"\ntask = \"language\"\n"                                                      \
    "[[model.layers]]\ntype = \"embedding\"\nname = \"words\"\nrows = " rows                                 \
    "\nchannels = 6\n[[model.layers]]\n" last

static void test_language_counts_labels(void **state) {
    (void)state;
    dt_model_options o;
    double sum[DT_METRIC_COUNT];
    int n_label = 0;
    for (int64_t i = 0; i < ROWS * STEPS; i++) n_label += i / STEPS != 3 && value_of("label", i) >= 0;
    check_model_options(&o, WORDS_OF("9", "type = \"tied\"\nto = \"words\"\n")); /* more rows than words */
    check_step(&o, prose, 2, sum);
    assert_true(n_label < (ROWS - 1) * STEPS && sum[DT_METRIC_SAMPLES] == n_label);
    const double loss = sum[DT_METRIC_LOSS] / n_label;
    assert_true(metric_of(dt_metric_find("perplexity"), sum, false, 0) == exp(loss));
    assert_true(isnan(metric_of(dt_metric_find("bits_per_byte"), sum, false, 0)));
    assert_true(fabs(metric_of(dt_metric_find("bits_per_byte"), sum, false, 4) - loss / log(2) / 4) < 1e-12);
    dt_model_options_fini(&o);
    /* Of several losses perplexity is of the task's own. */
    check_model_options(&o, WORDS_OF("9", "type = \"tied\"\nto = \"words\"\n"
                                          "[[model.losses]]\nof = \"words\"\nkind = \"value\"\n"));
    check_step(&o, prose, 2, sum);
    assert_true(fabs(metric_of(dt_metric_find("perplexity"), sum, true, 0) / exp(loss) - 1) < 1e-6);
    dt_model_options_fini(&o);
}

static void test_networks_that_do_not_fit_text(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool image;
        const char *why;
    } rows[] = {
        {WORDS_OF("6", "type = \"tied\"\nto = \"words\"\n"), false,
         "test.toml:9: model.layers[1], the last layer, gives 6 logits a place, but the data's vocabulary is "
         "of 7"},
        {WORDS_OF("7", "type = \"lstm\"\nhidden = 7\nlast = true\n"), false,
         "expected logits for each place"},
        {WORDS_OF("7", "type = \"position\"\nrows = 3\n"), false, "has 4 steps, but there are 3 positions"},
        {WORDS_OF("7", "type = \"tied\"\nto = \"words\"\n"), true, "learns text, and the data are images"},
        {"[model]\nname = \"layers\"\n[[model.layers]]\ntype = \"relu\"\n", false,
         "\"classify\", but the text has no classes: import it with --label"},
        {"[model]\nname = \"resnet18\"\ntask = \"language\"\n", false,
         "it reads images or rows of numbers, and the data is text"},
    };
    const dt_model_input words = {.batch = ROWS, .field = prose, .n_field = 2, .n_vocab = WORDS},
                         images = {.batch = ROWS,
                                   .height = 8,
                                   .width = 8,
                                   .channels = 1,
                                   .padded_channels = 1,
                                   .classes = 3,
                                   .stddev = {1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dt_model_options o;
        dt_graph *g;
        check_model_options(&o, rows[i].text);
        if (dt_model_build(&o, rows[i].image ? &images : &words, DT_DTYPE_F32, true, &g) != DT_ERR_CONFIG)
            fail_msg("accepted: %s", rows[i].text);
        if (!strstr(dt_error_text(), rows[i].why))
            fail_msg("\"%s\" does not say \"%s\"", dt_error_text(), rows[i].why);
        dt_model_options_fini(&o);
    }
}

/* A target of one number is the same as a row of one. */
static void test_dimensions_of_one_do_not_matter(void **state) {
    (void)state;
    static const dt_field plain[] = {{.name = "x", .dtype = DT_DTYPE_F32, .ndim = 1, .dim = {4}},
                                     {.name = "y", .dtype = DT_DTYPE_F16}};
    dt_model_options o;
    dt_graph *g;
    options_of(&o, "task = \"regress\"", 1, "");
    check_ok(build(&o, plain, 2, true, &g));
    assert_true(dt_graph_output(g, "output") >= 0 && g->n_loss == 1);
    dt_graph_destroy(g);
    dt_model_options_fini(&o);
}

static void test_several_losses_add_up(void **state) {
    (void)state;
    dt_model_options o;
    double sum[DT_METRIC_COUNT];
    options_of(
        &o, "task = \"regress\"", 2,
        "[[model.losses]]\nof = \"hidden\"\nkind = \"cross_entropy\"\ntarget = \"kind\"\nweight = 0.25\n"
        "[[model.losses]]\nof = \"hidden\"\nkind = \"value\"\nname = \"size\"\nweight = -0.5\n");
    check_step(&o, table, N_TABLE, sum);
    const double *own = sum + DT_METRIC_LOSSES;
    for (int k = 0; k < 3; k++) assert_true(own[2 * k + 1] == ROWS - 1);
    assert_true(fabs(sum[DT_METRIC_LOSS] - (own[0] + 0.25 * own[2] - 0.5 * own[4])) < 1e-5);
    assert_true(sum[DT_METRIC_SAMPLES] == ROWS - 1);
    dt_model_options_fini(&o);
}

static void expect_refused(const char *keys, int outputs, const char *losses, const dt_field *field,
                           const char *why) {
    dt_model_options o;
    dt_graph *g;
    options_of(&o, keys, outputs, losses);
    if (build(&o, field, N_TABLE, true, &g) == DT_OK) fail_msg("accepted: %s", keys);
    if (!strstr(dt_error_text(), why)) fail_msg("\"%s\" does not say \"%s\"", dt_error_text(), why);
    dt_model_options_fini(&o);
}

static void test_what_does_not_fit_is_refused(void **state) {
    (void)state;
    dt_field other[N_TABLE];
    memcpy(other, table, sizeof other);
    snprintf(other[1].name, sizeof other[1].name, "z");
    expect_refused("task = \"regress\"", 3, "", table, "expected 2 numbers a sample");
    expect_refused("task = \"classify\"\ntarget = \"kind\"", 2, "", table, "expected 3 logits a sample");
    expect_refused("task = \"regress\"\nloss = \"bce\"", 2, "", table, "has \"mse\", \"l1\", \"huber\"");
    expect_refused("task = \"regress\"\ntarget = \"why\"", 2, "", table, "no such field");
    expect_refused("task = \"regress\"", 2, "", other, "no field label, y or target");
    expect_refused("task = \"classify\"", 3, "", table, "the target \"y\" holds real numbers (f32)");
    expect_refused("task = \"regress\"", 2,
                   "[[model.layers]]\ntype = \"dense\"\nchannels = 2\nfrom = \"x\"\n", table,
                   "no loss depends on \"hidden\": let a layer read it");
    expect_refused("task = \"regress\"", 2, "[[model.layers]]\ntype = \"add\"\nwith = \"y\"\n", table,
                   "\"y\" is the target, which the network is to give and may not read; an autoencoder says "
                   "model.target = \"y\"");
    expect_refused("task = \"regress\"", 2, "[[model.losses]]\nof = \"hiden\"\n", table,
                   "no layer \"hiden\"");
    expect_refused("task = \"regress\"", 2, "[[model.losses]]\nof = \"hidden\"\n", table, "does not fit");
    expect_refused("task = \"regress\"", 2, "[[model.losses]]\nof = \"hidden\"\nname = \"main\"\n", table,
                   "loss_main: set another name");
    expect_refused("task = \"regress\"", 2, "[[model.losses]]\nof = \"hidden\"\n", table, "test.toml:");
}

/* ---- layers that name fields ---- */

static const dt_field pair[] = {{.name = "x1", .dtype = DT_DTYPE_F32, .ndim = 1, .dim = {4}},
                                {.name = "x2", .dtype = DT_DTYPE_F64},
                                {.name = "y", .dtype = DT_DTYPE_F32, .ndim = 1, .dim = {2}},
                                {.name = "unread", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {7}}};
enum { N_PAIR = sizeof pair / sizeof pair[0] };

static dt_status build_pair(const char *layers, const dt_model_input *in, dt_model_options *o,
                            dt_graph **out) {
    char text[2048];
    snprintf(text, sizeof text, "[model]\nname = \"layers\"\n%s", layers);
    check_model_options(o, text);
    return dt_model_build(o, in, DT_DTYPE_F32, true, out);
}

static const dt_model_input pair_input = {.batch = ROWS, .field = pair, .n_field = N_PAIR, .classes = 3};

#define TWO_INPUTS(from)                                                                                     \
    "task = \"regress\"\n"                                                                                   \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 6\nname = \"a\"\nfrom = \"" from "\"\n"                  \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 6\nname = \"b\"\nfrom = \"x2\"\n"                        \
    "[[model.layers]]\ntype = \"add\"\nfrom = \"a\"\nwith = \"b\"\n"                                         \
    "[[model.layers]]\ntype = \"concat\"\nwith = [\"x2\", \"input\"]\n"                                      \
    "[[model.layers]]\ntype = \"dense\"\nchannels = 2\n"

static void test_layers_read_fields_by_name(void **state) {
    (void)state;
    dt_model_options o;
    dt_graph *g, *by_input;
    check_ok(build_pair(TWO_INPUTS("x1"), &pair_input, &o, &g));
    dt_model_options_fini(&o);
    check_ok(build_pair(TWO_INPUTS("input"), &pair_input, &o, &by_input));
    assert_int_equal(g->n_node, by_input->n_node);
    assert_int_equal(dt_graph_input(g, "unread"), -1); /* what nobody reads is not asked for */
    const dt_vid x2 = dt_graph_find(g, "x2/row");
    assert_true(x2 >= 0 && g->value[x2].ndim == 2 && g->value[x2].dim[1] == 1);
    const dt_value *joined = &g->value[dt_graph_find(g, "layer4")];
    assert_int_equal(joined->dim[1], 6 + 1 + 4);
    dt_graph_destroy(g);
    dt_graph_destroy(by_input);
    static const dt_dtype dtypes[] = {DT_DTYPE_F64, DT_DTYPE_F32}; /* f32 is read where it lies, as a view */
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        double sum[DT_METRIC_COUNT];
        dt_field field[N_PAIR];
        memcpy(field, pair, sizeof field);
        field[1].dtype = dtypes[i];
        check_step(&o, field, N_PAIR, sum);
        assert_true(sum[DT_METRIC_SAMPLES] == ROWS - 1);
    }
    dt_model_options_fini(&o);
}

#define RELU(keys) "[[model.layers]]\ntype = \"relu\"\n" keys

static void test_names_of_layers_and_fields(void **state) {
    (void)state;
    const dt_model_input images = {.batch = ROWS,
                                   .height = 8,
                                   .width = 8,
                                   .channels = 1,
                                   .padded_channels = 1,
                                   .classes = 3,
                                   .stddev = {1}};
    static const struct {
        const char *layers;
        bool of_images;
        const char *why;
    } rows[] = {
        {RELU("name = \"trunk\"\n") RELU("from = \"trnk\"\n"), false,
         "test.toml:6: model.layers[1].from: no earlier layer and no field of the data is named \"trnk\"; "
         "did "
         "you mean \"trunk\"? (layers: trunk; fields: x1, x2, y, unread)"},
        {RELU("from = \"layer1\"\n"), false, "\"layer1\" (layers: none; fields: x1, x2, y, unread)"},
        {"[[model.layers]]\ntype = \"add\"\nwith = \"x3\"\n", false,
         "model.layers[0].with: no earlier layer and no field"},
        {RELU("name = \"x2\"\n"), false, "model.layers[0].name: \"x2\" is a field of the data"},
        {RELU("from = \"x1\"\n"), true, "(layers: none; fields: image, label)"},
        {RELU("name = \"image\"\n"), true, "\"image\" is a field of the data"},
        {RELU("name = \"label\"\n"), true, "\"label\" is a field of the data"},
        {RELU("name = \"aug\"\n"), true, "\"aug\" is a field of the data"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dt_model_options o;
        dt_graph *g;
        if (build_pair(rows[i].layers, rows[i].of_images ? &images : &pair_input, &o, &g) == DT_OK)
            fail_msg("accepted: %s", rows[i].layers);
        if (!strstr(dt_error_text(), rows[i].why))
            fail_msg("\"%s\" does not say \"%s\"", dt_error_text(), rows[i].why);
        dt_model_options_fini(&o);
    }
    /* Without images, layers may be called so; the image has its own name. */
    static const char tail[] = "[[model.layers]]\ntype = \"dense\"\nchannels = ";
    char text[512];
    dt_model_options o;
    dt_graph *g;
    snprintf(text, sizeof text, "task = \"regress\"\n%s%s2\n", RELU("name = \"image\"\n"), tail);
    check_ok(build_pair(text, &pair_input, &o, &g));
    dt_graph_destroy(g);
    dt_model_options_fini(&o);
    snprintf(text, sizeof text, "%s%s3\n", RELU("from = \"image\"\n"), tail);
    check_ok(build_pair(text, &images, &o, &g));
    dt_graph_destroy(g);
    dt_model_options_fini(&o);
}

static void test_a_loss_that_is_computed_with_is_refused(void **state) {
    (void)state;
    dt_graph *g;
    check_ok(dt_graph_create(&g, DT_DTYPE_F32, true));
    dt_builder b = {.g = g, .rows = ROWS, .field = table, .n_field = N_TABLE};
    const dt_vid y = dt_build_dense(&b, "fc", dt_build_input(&b, "x"), 2, true);
    dt_build_loss(&b, y, &(dt_build_loss_options){.name = "first", .kind = "mse"});
    assert_int_equal(dt_graph_add_loss(g, y), DT_ERR_CONFIG); /* no op that starts gradients made it */
    dt_build_loss(&b, g->loss[0], &(dt_build_loss_options){.name = "second", .kind = "value"});
    check_ok(b.status);
    assert_int_equal(dt_autodiff(g), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "first"));
    dt_graph_destroy(g);
}

static double metric(const char *name, const double *sum, double rows) {
    return dt_metric_find(name)->value(&(dt_metric_facts){.sum = sum, .rows = rows});
}

static void test_metrics(void **state) {
    (void)state;
    char text[DT_METRIC_TEXT];
    /* targets 1, 2, 3, 4; results 1, 2, 3, 6 */
    const double numbers[] = {4, 2, 10, 30}, constant[] = {1, 1, 8, 16};
    assert_true(metric("rmse", numbers, 4) == 1 && metric("mae", numbers, 4) == 0.5);
    assert_true(fabs(metric("r2", numbers, 4) - 0.2) < 1e-12);
    assert_true(isnan(metric("r2", constant, 4)));
    /* four rows of two labels: 5 of 8 right, 2 both, 3 of one alone */
    const double labels[] = {2.5, 1, 1.5, 1};
    assert_true(metric("accuracy", labels, 4) == 0.625 && metric("exact", labels, 4) == 0.25);
    assert_true(fabs(metric("f1", labels, 4) - 4.0 / 7) < 1e-12);
    const double classes[] = {3, 4};
    assert_true(metric("top1", classes, 4) == 0.75 && metric("top5", classes, 4) == 1);
    assert_null(dt_metric_find("top2"));
    assert_string_equal(dt_metric_text(dt_metric_find("top1"), 0.75, text), "75.00 %");
    assert_string_equal(dt_metric_text(dt_metric_find("rmse"), 0.123456, text), "0.1235");
}

/* One loss of 2 samples beside one of their 8 places: each by its own mean. */
static void test_total_of_losses(void **state) {
    (void)state;
    double sums[DT_METRIC_COUNT] = {[DT_METRIC_LOSS] = 3 + 0.5 * 16, [DT_METRIC_SAMPLES] = 2};
    const double weight[] = {1, 0.5};
    double *own = sums + DT_METRIC_LOSSES;
    own[0] = 3, own[1] = 2, own[2] = 16, own[3] = 8;
    assert_true(dt_loss_total(sums, 2, weight) == 1.5 + 0.5 * 2);
    own[3] = 2; /* both of samples */
    assert_true(dt_loss_total(sums, 2, weight) == 5.5);
    assert_true(dt_loss_total(sums, 0, NULL) == 5.5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_total_of_losses),
        cmocka_unit_test(test_heads_of_all_tasks),
        cmocka_unit_test(test_language_counts_labels),
        cmocka_unit_test(test_networks_that_do_not_fit_text),
        cmocka_unit_test(test_dimensions_of_one_do_not_matter),
        cmocka_unit_test(test_several_losses_add_up),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_layers_read_fields_by_name),
        cmocka_unit_test(test_names_of_layers_and_fields),
        cmocka_unit_test(test_a_loss_that_is_computed_with_is_refused),
        cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
