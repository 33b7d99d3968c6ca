/* Data sets: what a network is fed, in training and evaluation, predictions, texts, and what is refused. */
#include <unistd.h>

#include "api_test.h"

enum { BATCH = 4, ROWS = 22, WIDTH = 3 };

static const dt_data_open_options table = {.fields = "x:f32[3] y:f32", .rows = ROWS};

static dt_net *make(dt_run *run, int64_t batch) {
    dt_net *net;
    OK(dt_net_create(
        run, (dt_net_options){.batch = batch, .optimizer = {.name = "momentum", .lr = 0.01}, .seed = 3},
        &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(WIDTH)),
           y = dt_input(net, "y", DT_DTYPE_F32, DT_SHAPE_SCALAR);
    dt_var out =
        dt_dense(dt_tanh(dt_dense(x, (dt_dense_options){.channels = 5})), (dt_dense_options){.channels = 1});
    dt_expose(out, "out");
    dt_expose(x, "x");
    dt_loss("mse", out, y, (dt_loss_options){0});
    OK(dt_net_status(net));
    return net;
}

static double metric(dt_net *net, const char *name) {
    double v;
    OK(dt_net_metric(net, name, &v));
    return v;
}

static void questions(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_data *data, *images;
    dt_dtype type;
    dt_shape shape;
    dt_image_options image;
    OK(dt_data_open(run, "synthetic", table, &data));
    assert_int_equal(dt_data_n_rows(data), ROWS);
    OK(dt_data_field(data, "x", &type, &shape));
    assert_true(type == DT_DTYPE_F32 && shape.ndim == 1 && shape.dim[0] == WIDTH);
    OK(dt_data_field(data, "y", NULL, NULL));
    FAILS(DT_ERR_USAGE, "\"z\"", dt_data_field(data, "z", &type, &shape));
    FAILS(DT_ERR_USAGE, "no images", dt_data_image(data, &image));
    OK(dt_data_open(
        run, "synthetic",
        (dt_data_open_options){.image_size = 8, .channels = 1, .classes = 3, .rows = 9, .flip = true},
        &images));
    assert_int_equal(dt_data_n_classes(images), 3);
    OK(dt_data_image(images, &image));
    assert_true(image.height == 8 && image.width == 8 && image.channels == 1 && image.stddev[0] > 0);
    dt_data_free(data), dt_data_free(data), dt_data_free(NULL), dt_data_free(images);
    assert_int_equal(dt_data_n_rows(data), 0);
    dt_run_close(run);
}

/* An epoch gives every row once; a step that is taken again gives the same rows. */
static void training(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_data *data;
    OK(dt_data_open(run, "synthetic", (dt_data_open_options){.fields = "x:f32[3] y:f32", .rows = 8}, &data));
    dt_net *net = make(run, BATCH), *other = make(run, BATCH);
    float seen[8][WIDTH], again[BATCH][WIDTH];
    for (int i = 0; i < 2; i++) {
        dt_tensor *x;
        for (int twice = 0; twice < 2; twice++) {
            OK(dt_net_next(net, data, DT_TRAINING, NULL));
            OK(dt_net_forward(net, DT_TRAINING));
            OK(dt_net_output(net, "x", &x));
            OK(dt_tensor_read(x, twice ? again : &seen[i * BATCH], sizeof again));
            dt_tensor_free(x);
        }
        assert_memory_equal(again, &seen[i * BATCH], sizeof again);
        OK(dt_net_backward(net));
        OK(dt_net_update(net));
    }
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < i; k++) assert_memory_not_equal(seen[i], seen[k], sizeof seen[i]);
    /* fit is that loop. */
    OK(dt_net_fit(other, data, (dt_fit_options){.steps = 2}));
    for (int32_t i = 0; i < dt_net_n_parameter(net); i++) {
        dt_tensor *a, *b;
        OK(dt_net_parameter(net, dt_net_parameter_name(net, i), &a));
        OK(dt_net_parameter(other, dt_net_parameter_name(net, i), &b));
        assert_memory_equal(dt_tensor_data(a), dt_tensor_data(b),
                            (size_t)dt_tensor_n_elem(a) * sizeof(float));
        dt_tensor_free(a), dt_tensor_free(b);
    }
    dt_net_free(net), dt_net_free(other), dt_data_free(data), dt_run_close(run);
}

static dt_status count_steps(void *arg, dt_net *net, int64_t step) {
    double loss;
    int64_t *n = arg;
    const dt_status st = dt_net_metric(net, "loss", &loss);
    if (st != DT_OK || step == 5) return st == DT_OK ? DT_STOPPED : st;
    (*n)++;
    return DT_OK;
}

static void evaluating(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_data *data;
    OK(dt_data_open(run, "synthetic", table, &data));
    dt_net *net = make(run, BATCH);
    int64_t n = 0;
    assert_int_equal(
        dt_net_fit(net, data, (dt_fit_options){.epochs = 2, .after_step = count_steps, .arg = &n}),
        DT_STOPPED);
    assert_int_equal(n, 5);
    OK(dt_net_fit(net, data, (dt_fit_options){.epochs = 40}));
    OK(dt_net_evaluate(net, data));
    const double loss = metric(net, "loss"), rmse = metric(net, "rmse");
    assert_true(metric(net, "rows") == ROWS && fabs(rmse * rmse - loss) < 1e-6);
    /* What is predicted for each row, and by whom it is asked, does not matter. */
    dt_tensor *out, *x;
    OK(dt_net_predict(net, data, "out", &out));
    OK(dt_net_predict(net, data, "x", &x));
    assert_true(dt_tensor_shape(out).dim[0] == ROWS && dt_tensor_shape(x).dim[1] == WIDTH);
    bool more;
    int64_t row = 0;
    for (;;) {
        float got[BATCH];
        dt_tensor *view;
        OK(dt_net_next(net, data, DT_EVALUATION, &more));
        if (!more) break;
        OK(dt_net_forward(net, DT_EVALUATION));
        OK(dt_net_output(net, "out", &view));
        OK(dt_tensor_read(view, got, sizeof got));
        for (int i = 0; i < BATCH && row < ROWS; i++, row++)
            assert_true(((float *)dt_tensor_data(out))[row] == got[i]);
        dt_tensor_free(view);
    }
    assert_int_equal(row, ROWS);
    OK(dt_net_evaluate(net, data));
    assert_true(metric(net, "loss") == loss);
    dt_tensor_free(out), dt_tensor_free(x), dt_net_free(net), dt_data_free(data), dt_run_close(run);
}

static void texts(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_data *data;
    const char *text;
    OK(dt_data_open(run, "synthetic", table, &data));
    dt_net *net = make(run, BATCH);
    OK(dt_net_inspect(net, &text));
    assert_non_null(strstr(text, "dense1"));
    FAILS(DT_ERR_USAGE, "not set", dt_net_profile(net, 2, &text));
    OK(dt_net_fit(net, data, (dt_fit_options){.steps = 1}));
    dt_tensor *w;
    OK(dt_net_parameter(net, "dense1.weight", &w));
    float before[15];
    OK(dt_tensor_read(w, before, sizeof before));
    OK(dt_net_profile(net, 2, &text));
    assert_non_null(strstr(text, "dense1"));
    assert_memory_equal(before, dt_tensor_data(w), sizeof before);
    OK(dt_net_fit(net, data, (dt_fit_options){.steps = 1}));
    assert_memory_not_equal(before, dt_tensor_data(w), sizeof before);
    FAILS(DT_ERR_CONFIG, "steps", dt_net_profile(net, 0, &text));
    FAILS(DT_ERR_USAGE, "NULL", dt_net_inspect(net, NULL));
    dt_tensor_free(w), dt_net_free(net), dt_data_free(data), dt_run_close(run);
}

/* Images of a data set through dt_image_input. */
static void images(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_data *data;
    dt_net *net;
    dt_image_options image;
    OK(dt_data_open(
        run, "synthetic",
        (dt_data_open_options){.image_size = 8, .channels = 3, .classes = 4, .rows = 40, .pad_crop = 1},
        &data));
    OK(dt_data_image(data, &image));
    OK(dt_net_create(run, (dt_net_options){.batch = 8, .optimizer = {.name = "adam"}}, &net));
    dt_var y = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_var x = dt_dense(dt_image_input(net, "image", image), (dt_dense_options){.channels = 4});
    dt_loss("cross_entropy", x, y, (dt_loss_options){0});
    OK(dt_net_fit(net, data, (dt_fit_options){.epochs = 20}));
    OK(dt_net_evaluate(net, data));
    assert_true(metric(net, "rows") == 40 && metric(net, "top1") > 0.5);
    dt_net_free(net), dt_data_free(data), dt_run_close(run);
}

/* Images whose colours are changed, that are erased and mixed: learnt, and evaluated as they are. */
static void edited_images(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    const dt_data_open_options as_they_are = {.image_size = 8, .channels = 3, .classes = 4, .rows = 40};
    for (int mixed = 0; mixed < 3; mixed++) {
        dt_data *data, *plain;
        dt_net *net;
        dt_image_options image;
        dt_data_open_options o = as_they_are;
        o.brightness = 0.2, o.hue = 0.1, o.grayscale = 0.1, o.policy = "trivialaugment", o.repeats = 2;
        if (mixed > 0) o.erase = 0.3;
        if (mixed > 1) o.mixup = 0.2, o.cutmix = 1;
        OK(dt_data_open(run, "synthetic", o, &data));
        OK(dt_data_open(run, "synthetic", as_they_are, &plain));
        OK(dt_data_image(data, &image));
        assert_true(image.erased == (mixed == 1) && image.mixed == (mixed == 2));
        OK(dt_net_create(run, (dt_net_options){.batch = 8, .optimizer = {.name = "adam"}}, &net));
        dt_var y = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
        dt_var x = dt_dense(dt_image_input(net, "image", image), (dt_dense_options){.channels = 4});
        dt_loss("cross_entropy", x, y, (dt_loss_options){0});
        OK(dt_net_fit(net, data, (dt_fit_options){.epochs = 60}));
        OK(dt_net_evaluate(net, plain));
        assert_true(metric(net, "rows") == 40 && metric(net, "top1") > 0.4);
        if (mixed > 0)
            FAILS(DT_ERR_DATA, "as dt_data_image gives them",
                  dt_net_fit(net, plain, (dt_fit_options){.steps = 1}));
        dt_net_free(net), dt_data_free(plain), dt_data_free(data);
    }
    dt_data *data = NULL;
    dt_data_open_options wrong = as_they_are;
    wrong.policy = "auto";
    FAILS(DT_ERR_CONFIG, "expected randaugment or trivialaugment",
          dt_data_open(run, "synthetic", wrong, &data));
    dt_data_open_options rows = table;
    rows.hue = 0.1;
    FAILS(DT_ERR_CONFIG, "hue is for images", dt_data_open(run, "synthetic", rows, &data));
    dt_run_close(run);
}

/* A small network that tells the next letter of a text; documents apart or joined. */
static void text(void **state) {
    (void)state;
    enum { CONTEXT = 10, VOCABULARY = 257 };
    char dir[] = "/tmp/dtrain-api-XXXXXX", set[256], command[64];
    assert_non_null(mkdtemp(dir));
    make_text(dir, set);
    dt_run *run = open_cpu();
    for (int isolated = 0; isolated < 2; isolated++) {
        dt_data *d;
        dt_net *net;
        dt_dtype type;
        dt_shape shape;
        const dt_data_open_options o = {.context = CONTEXT, .isolated = isolated};
        OK(dt_data_open(run, set, o, &d));
        assert_int_equal(dt_data_n_rows(d), (9 * 27 - 1 + CONTEXT - 1) / CONTEXT);
        OK(dt_data_field(d, "label", &type, &shape));
        assert_true(type == DT_DTYPE_I32 && shape.ndim == 1 && shape.dim[0] == CONTEXT);
        assert_int_equal(dt_data_field(d, "segment", NULL, NULL), isolated ? DT_OK : DT_ERR_USAGE);
        OK(dt_net_create(run, (dt_net_options){.batch = 5, .optimizer = {.name = "adam", .lr = 0.02}}, &net));
        dt_var x = dt_input(net, "tokens", DT_DTYPE_I32, DT_SHAPE(CONTEXT)),
               label = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE(CONTEXT));
        dt_attention_inputs with = {0};
        if (isolated) with.segments = dt_input(net, "segment", DT_DTYPE_I32, DT_SHAPE(CONTEXT));
        x = dt_embedding(x, (dt_embedding_options){.rows = VOCABULARY, .channels = 16});
        x = dt_attention_of(x, with, (dt_attention_options){.heads = 2, .causal = true});
        dt_loss("cross_entropy", dt_dense(x, (dt_dense_options){.channels = VOCABULARY}), label,
                (dt_loss_options){0});
        OK(dt_net_status(net));
        OK(dt_net_evaluate(net, d));
        /* Each token but the first is told; with documents apart none that begins one. */
        assert_true(metric(net, "rows") == (isolated ? 9 * 27 - 1 - 8 : 9 * 27 - 1));
        const double before = metric(net, "loss");
        OK(dt_net_fit(net, d, (dt_fit_options){.steps = 60}));
        OK(dt_net_evaluate(net, d));
        assert_true(metric(net, "loss") < 0.3 * before);
        dt_data_free(d), dt_net_free(net);
    }
    dt_data *d = NULL;
    FAILS(DT_ERR_CONFIG, "flip is for images",
          dt_data_open(run, set, (dt_data_open_options){.flip = true}, &d));
    dt_data_open_options no_text = table;
    no_text.context = CONTEXT;
    FAILS(DT_ERR_CONFIG, "context is for text", dt_data_open(run, "synthetic", no_text, &d));
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    dt_run_close(run);
}

static void refused(void **state) {
    (void)state;
    dt_run *run = open_cpu(), *second = open_cpu();
    dt_data *data = NULL, *other;
    dt_tensor *t;
    bool more;
    FAILS(DT_ERR_USAGE, "NULL", dt_data_open(run, NULL, table, &data));
    FAILS(DT_ERR_USAGE, "NULL", dt_data_open(run, "synthetic", table, NULL));
    FAILS(DT_ERR_DATA, "/no/such", dt_data_open(run, "/no/such", (dt_data_open_options){0}, &data));
    FAILS(DT_ERR_CONFIG, "image_size", dt_data_open(run, "synthetic", (dt_data_open_options){0}, &data));
    FAILS(DT_ERR_CONFIG, "NAME:TYPE",
          dt_data_open(run, "synthetic", (dt_data_open_options){.fields = "x"}, &data));
    FAILS(DT_ERR_CONFIG, "-1",
          dt_data_open(run, "synthetic", (dt_data_open_options){.image_size = 8, .rows = -1}, &data));
    FAILS(DT_ERR_CONFIG, "pad_crop",
          dt_data_open(run, "synthetic",
                       (dt_data_open_options){.image_size = 8, .pad_crop = 1, .random_resized = true},
                       &data));
    assert_null(data);
    OK(dt_data_open(run, "synthetic", table, &data));
    OK(dt_data_open(second, "synthetic", (dt_data_open_options){.fields = "x:f32[4] y:f32", .rows = 5},
                    &other));
    dt_net *net = make(run, BATCH), *away = make(second, BATCH);
    FAILS(DT_ERR_USAGE, "different runs", dt_net_next(net, other, DT_TRAINING, NULL));
    FAILS(DT_ERR_DATA, "\"x\"", dt_net_next(away, other, DT_TRAINING, NULL));
    FAILS(DT_ERR_DATA, "\"x\"", dt_net_evaluate(away, other));
    FAILS(DT_ERR_USAGE, "more", dt_net_next(net, data, DT_EVALUATION, NULL));
    FAILS(DT_ERR_USAGE, "dt_mode", dt_net_next(net, data, (dt_mode)7, &more));
    FAILS(DT_ERR_CONFIG, "epochs", dt_net_fit(net, data, (dt_fit_options){.epochs = NAN}));
    FAILS(DT_ERR_CONFIG, "epochs", dt_net_fit(net, data, (dt_fit_options){.epochs = 1e300}));
    FAILS(DT_ERR_USAGE, "\"logits\"", dt_net_predict(net, data, "logits", &t));
    assert_null(t);
    dt_data_free(data);
    FAILS(DT_ERR_USAGE, "freed", dt_net_fit(net, data, (dt_fit_options){0}));
    FAILS(DT_ERR_USAGE, "freed", dt_net_evaluate(net, data));
    FAILS(DT_ERR_USAGE, "data", dt_net_evaluate(net, (dt_data *)(void *)net));
    FAILS(DT_ERR_USAGE, "data is NULL", dt_net_predict(net, NULL, "out", &t));
    dt_net_free(net), dt_net_free(away), dt_run_close(run), dt_run_close(second);
    dt_data_free(other); /* after its run */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions), cmocka_unit_test(training), cmocka_unit_test(evaluating),
        cmocka_unit_test(texts),     cmocka_unit_test(images),   cmocka_unit_test(edited_images),
        cmocka_unit_test(text),      cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
