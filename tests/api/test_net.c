/* Networks: gradients against finite differences, steps in one and in three parts, views, evaluation, saving, two
 * of them at once, and what is refused. */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api_test.h"

enum { BATCH = 6, CLASSES = 4, SIDE = 8, CHANNELS = 2 };

typedef struct model {
    dt_run *run;
    dt_net *net;
    dt_tensor *image, *label;
} model;

/* A bit of everything, on float images. */
static model make_with(dt_run *run, const char *optimizer, double dropout, int n_group,
                       const dt_group_options *group) {
    model m = {.run = run};
    int32_t label[BATCH];
    OK(dt_net_create(
        run, (dt_net_options){.batch = BATCH, .optimizer = {.name = optimizer, .lr = 0.05}, .seed = 7},
        &m.net));
    dt_var x = dt_input(m.net, "image", DT_DTYPE_F32, DT_SHAPE(SIDE, SIDE, CHANNELS));
    dt_var y = dt_input(m.net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_var a =
        dt_conv2d(x, (dt_conv2d_options){.channels = 4, .kernel = 3, .pad = DT_PAD_SAME, .name = "stem"});
    a = dt_relu(dt_batchnorm(a, (dt_batchnorm_options){0}));
    dt_var b =
        dt_conv2d(a, (dt_conv2d_options){.channels = 4, .kernel = 3, .pad = 1, .groups = 2, .no_bias = true});
    a = dt_add(a, b);
    a = dt_maxpool(a, (dt_pool_options){.kernel = 2});
    a = dt_avgpool(a, (dt_pool_options){.kernel = 3, .stride = 1, .pad = DT_PAD_SAME});
    assert_int_equal(dt_var_shape(a).ndim, 3);
    assert_int_equal(dt_var_shape(a).dim[0], SIDE / 2);
    dt_var c = dt_dense(dt_flatten(a), (dt_dense_options){.channels = 5});
    c = dt_dropout(dt_relu(c), dropout);
    dt_var logits = dt_dense(c, (dt_dense_options){.channels = CLASSES, .name = "head"});
    dt_expose(logits, "logits");
    dt_expose(a, "pooled");
    dt_loss("cross_entropy", logits, y, (dt_loss_options){.smoothing = 0.1});
    OK(dt_net_status(m.net));
    for (int i = 0; i < n_group; i++) OK(dt_net_group(m.net, group[i]));
    m.image = normal(run, DT_SHAPE(BATCH, SIDE, SIDE, CHANNELS), 11);
    for (int i = 0; i < BATCH; i++) label[i] = i % CLASSES;
    OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(BATCH), label, &m.label));
    OK(dt_net_set(m.net, "image", m.image));
    OK(dt_net_set(m.net, "label", m.label));
    return m;
}

static model make(dt_run *run, const char *optimizer, double dropout) {
    return make_with(run, optimizer, dropout, 0, NULL);
}

static void unmake(model *m) {
    dt_tensor_free(m->image), dt_tensor_free(m->label), dt_net_free(m->net);
}

static double metric(dt_net *net, const char *name) {
    double v;
    OK(dt_net_metric(net, name, &v));
    return v;
}

static double loss_now(dt_net *net) {
    OK(dt_net_forward(net, DT_TRAINING));
    return metric(net, "loss");
}

static void gradients(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    model m = make(run, "sgd", 0);
    OK(dt_net_forward(m.net, DT_TRAINING));
    OK(dt_net_backward(m.net));
    const int32_t n_param = dt_net_n_parameter(m.net);
    assert_int_equal(n_param, 2 + 2 + 1 + 2 + 2);
    assert_string_equal(dt_net_parameter_name(m.net, 0), "stem.weight");
    assert_null(dt_net_parameter_name(m.net, n_param));
    assert_null(dt_net_parameter_name(m.net, -1));
    float *grad[16];
    for (int32_t p = 0; p < n_param; p++) {
        dt_tensor *g;
        OK(dt_net_gradient(m.net, dt_net_parameter_name(m.net, p), &g));
        const int64_t bytes = dt_tensor_n_elem(g) * (int64_t)sizeof(float);
        grad[p] = malloc((size_t)bytes);
        OK(dt_tensor_read(g, grad[p], bytes));
        dt_tensor_free(g);
    }
    int checked = 0;
    for (int32_t p = 0; p < n_param; p++) {
        dt_tensor *view;
        OK(dt_net_parameter(m.net, dt_net_parameter_name(m.net, p), &view));
        float *w = dt_tensor_data(view);
        const int64_t n = dt_tensor_n_elem(view);
        for (int64_t i = 0; i < n; i += 1 + n / 5) {
            const float keep = w[i], h = 2e-3f;
            w[i] = keep + h;
            const double above = loss_now(m.net);
            w[i] = keep - h;
            const double below = loss_now(m.net);
            w[i] = keep;
            const double want = (above - below) / (2 * (double)h);
            if (fabs(want - grad[p][i]) > 2e-2 * fabs(want) + 2e-3)
                fail_msg("%s[%lld]: %g, by differences %g", dt_net_parameter_name(m.net, p), (long long)i,
                         (double)grad[p][i], want);
            checked++;
        }
        dt_tensor_free(view);
        free(grad[p]);
    }
    assert_true(checked > 30);
    unmake(&m), dt_run_close(run);
}

/* The parameters' bytes after some steps. */
static float *weights(dt_net *net, int64_t *n_out) {
    float *all = NULL;
    int64_t n = 0;
    for (int32_t p = 0; p < dt_net_n_parameter(net); p++) {
        dt_tensor *t;
        OK(dt_net_parameter(net, dt_net_parameter_name(net, p), &t));
        const int64_t more = dt_tensor_n_elem(t);
        all = realloc(all, (size_t)(n + more) * sizeof *all);
        OK(dt_tensor_read(t, all + n, more * (int64_t)sizeof *all));
        n += more;
        dt_tensor_free(t);
    }
    *n_out = n;
    return all;
}

static void same_weights(dt_net *a, dt_net *b) {
    int64_t n, m;
    float *x = weights(a, &n), *y = weights(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    free(x), free(y);
}

static void in_parts(void **state) {
    (void)state;
    static const char *const optimizer[] = {"sgd",     "momentum",   "nesterov", "adam", "adamw",
                                            "rmsprop", "rmsprop_tf", "adagrad",  "lamb", "lars",
                                            "lion",    "adafactor",  "muon"};
    dt_run *run = open_cpu();
    for (size_t o = 0; o < sizeof optimizer / sizeof optimizer[0]; o++) {
        model a = make(run, optimizer[o], 0.25), b = make(run, optimizer[o], 0.25);
        double first = 0;
        for (int i = 0; i < 12; i++) {
            OK(dt_net_step(a.net));
            if (i % 3 == 2) { /* one that is not used */
                OK(dt_net_forward(b.net, DT_TRAINING));
                OK(dt_net_forward(b.net, DT_EVALUATION));
            }
        }
        unmake(&b);
        b = make(run, optimizer[o], 0.25);
        for (int i = 0; i < 12; i++) {
            OK(dt_net_forward(b.net, DT_TRAINING));
            if (i == 0) first = metric(b.net, "loss");
            OK(dt_net_backward(b.net));
            OK(dt_net_update(b.net));
        }
        same_weights(a.net, b.net);
        assert_true(metric(a.net, "loss") == metric(b.net, "loss"));
        assert_true(metric(a.net, "loss") < first);
        assert_true(metric(a.net, "skipped") == 0 && metric(a.net, "grad_norm") > 0);
        unmake(&a), unmake(&b);
    }
    dt_run_close(run);
}

static float first_of(dt_net *net, const char *name) {
    dt_tensor *t;
    float v[256];
    OK(dt_net_parameter(net, name, &t));
    OK(dt_tensor_read(t, v, dt_tensor_n_elem(t) * (int64_t)sizeof(float)));
    dt_tensor_free(t);
    return v[0];
}

static void groups(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    static const dt_group_options group[] = {{.pattern = "*", .frozen = true},
                                             {.pattern = "head.*", .trained = true, .no_decay = true},
                                             {.pattern = "head.bias", .lr_factor = 2}};
    model a = make_with(run, "adam", 0, 3, group), b = make(run, "adam", 0);
    const float stem = first_of(a.net, "stem.weight"), head = first_of(a.net, "head.bias");
    FAILS(DT_ERR_USAGE, "compiled", dt_net_group(a.net, (dt_group_options){.pattern = "*", .frozen = true}));
    assert_true(stem == first_of(b.net, "stem.weight") && head == first_of(b.net, "head.bias"));
    for (int i = 0; i < 3; i++) OK(dt_net_step(a.net));
    assert_true(stem == first_of(a.net, "stem.weight"));
    assert_true(head != first_of(a.net, "head.bias"));
    dt_tensor *t;
    FAILS(DT_ERR_USAGE, "frozen", dt_net_gradient(a.net, "stem.weight", &t));
    unmake(&a), unmake(&b);
    dt_net *net;
    OK(dt_net_create(run, (dt_net_options){.batch = BATCH}, &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(3));
    dt_var y = dt_input(net, "y", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    x = dt_dense(x, (dt_dense_options){.channels = CLASSES, .name = "head"});
    dt_loss("cross_entropy", x, y, (dt_loss_options){0});
    FAILS(DT_ERR_USAGE, "a factor", dt_net_group(net, (dt_group_options){.pattern = "*"}));
    FAILS(DT_ERR_USAGE, "a factor",
          dt_net_group(net, (dt_group_options){.pattern = "*", .frozen = true, .trained = true}));
    FAILS(DT_ERR_USAGE, "pattern", dt_net_group(net, (dt_group_options){.frozen = true}));
    OK(dt_net_group(net, (dt_group_options){.pattern = "haed.*", .frozen = true}));
    FAILS(DT_ERR_CONFIG, "head.*", dt_net_compile(net));
    dt_net_free(net);
    dt_run_close(run);
}

static void evaluation(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    model m = make(run, "sgd", 0.5);
    for (int i = 0; i < 3; i++) OK(dt_net_step(m.net));
    OK(dt_net_forward(m.net, DT_EVALUATION));
    const double whole = metric(m.net, "loss");
    assert_true(metric(m.net, "rows") == BATCH);
    double unused;
    FAILS(DT_ERR_USAGE, "grad_norm", dt_net_metric(m.net, "grad_norm", &unused));
    dt_tensor *logits;
    float all[BATCH][CLASSES], some[BATCH][CLASSES];
    OK(dt_net_output(m.net, "logits", &logits));
    OK(dt_tensor_read(logits, all, sizeof all));
    dt_tensor_free(logits);

    /* In two parts the sums are those of the whole; rows do not know their neighbours. */
    OK(dt_net_begin_evaluation(m.net));
    FAILS(DT_ERR_USAGE, "one already", dt_net_begin_evaluation(m.net));
    FAILS(DT_ERR_USAGE, "between", dt_net_step(m.net));
    for (int from = 0; from < BATCH; from += 4) {
        const int n = BATCH - from < 4 ? BATCH - from : 4;
        const float *x = dt_tensor_data(m.image);
        const int32_t *y = dt_tensor_data(m.label);
        dt_tensor *image = floats(run, DT_SHAPE(n, SIDE, SIDE, CHANNELS), x + from * SIDE * SIDE * CHANNELS),
                  *label;
        OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(n), y + from, &label));
        OK(dt_net_set(m.net, "image", image));
        OK(dt_net_set(m.net, "label", label));
        OK(dt_net_forward(m.net, DT_EVALUATION));
        OK(dt_net_output(m.net, "logits", &logits));
        OK(dt_tensor_read(logits, some, sizeof some));
        assert_memory_equal(some, all[from], (size_t)n * sizeof some[0]);
        dt_tensor_free(image), dt_tensor_free(label), dt_tensor_free(logits);
    }
    OK(dt_net_end_evaluation(m.net));
    FAILS(DT_ERR_USAGE, "none", dt_net_end_evaluation(m.net));
    assert_true(metric(m.net, "rows") == BATCH);
    assert_true(fabs(metric(m.net, "loss") - whole) < 1e-5);
    FAILS(DT_ERR_USAGE, "6 rows", dt_net_step(m.net)); /* two rows are set */
    unmake(&m), dt_run_close(run);
}

static void saving(void **state) {
    (void)state;
    char dir[] = "/tmp/dtrain-api-XXXXXX", path[64], command[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/model", dir);
    dt_run *run = open_cpu();
    model a = make(run, "adamw", 0.25), b = make(run, "adamw", 0.25);
    for (int i = 0; i < 3; i++) OK(dt_net_step(a.net));
    OK(dt_net_save(a.net, path));
    for (int i = 0; i < 3; i++) OK(dt_net_step(a.net));
    OK(dt_net_load(b.net, path));
    for (int i = 0; i < 3; i++) OK(dt_net_step(b.net));
    same_weights(a.net, b.net);
    OK(dt_net_save(a.net, path)); /* a second one beside it, the newest */
    OK(dt_net_load(b.net, path));
    same_weights(a.net, b.net);
    FAILS(DT_ERR_CHECKPOINT, "no checkpoint", dt_net_load(b.net, dir));
    FAILS(DT_ERR_IO, "", dt_net_save(b.net, "/proc/nowhere/model"));
    model other = make(run, "momentum", 0);
    FAILS(DT_ERR_CHECKPOINT, "optimizer", dt_net_load(other.net, path));
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    unmake(&a), unmake(&b), unmake(&other), dt_run_close(run);
}

/* Weights alone, by name, through a file of others. */
static void weights_of_others(void **state) {
    (void)state;
    char dir[] = "/tmp/dtrain-api-XXXXXX", path[64], command[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    dt_run *run = open_cpu();
    model a = make(run, "adamw", 0.25), b = make(run, "momentum", 0);
    for (int i = 0; i < 3; i++) OK(dt_net_step(a.net));
    OK(dt_net_export(a.net, path));
    OK(dt_net_import(b.net, path, NULL));
    same_weights(a.net, b.net);
    for (int i = 0; i < 3; i++) OK(dt_net_step(a.net));
    snprintf(path, sizeof path, "%s/model.onnx", dir); /* the network itself */
    OK(dt_net_export(a.net, path));
    OK(dt_net_import(b.net, path, NULL));
    same_weights(a.net, b.net);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    for (int i = 0; i < 3; i++) OK(dt_net_step(a.net));
    OK(dt_net_export(a.net, path)); /* in its place */
    OK(dt_net_import(b.net, path, &(dt_weights_options){.partial = true}));
    same_weights(a.net, b.net);
    static const char *const away[][2] = {{"*", "gone.*"}}, *const nothing[][2] = {{"*", NULL}};
    FAILS(DT_ERR_CONFIG, "dt_weights_options.rename",
          dt_net_import(b.net, path, &(dt_weights_options){.rename = away, .n_rename = 1}));
    FAILS(DT_ERR_USAGE, "NULL",
          dt_net_import(b.net, path, &(dt_weights_options){.rename = nothing, .n_rename = 1}));
    FAILS(DT_ERR_USAGE, "rename is NULL", dt_net_import(b.net, path, &(dt_weights_options){.n_rename = 1}));
    FAILS(DT_ERR_USAGE, "NULL", dt_net_import(b.net, NULL, NULL));
    FAILS(DT_ERR_USAGE, "empty", dt_net_export(b.net, ""));
    FAILS(DT_ERR_DATA, "model.safetensors",
          dt_net_import(b.net, dir, &(dt_weights_options){.rename = NULL}) == DT_OK
              ? dt_net_import(b.net, "/nowhere/model.safetensors", NULL)
              : DT_OK);
    FAILS(DT_ERR_IO, "/proc/nowhere", dt_net_export(b.net, "/proc/nowhere"));
    same_weights(a.net, b.net);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    unmake(&a), unmake(&b), dt_run_close(run);
}

/* Four layers whose weights fit all variants; only the first two compute the same. */
static dt_net *small(dt_run *run, int variant) {
    dt_net *net;
    OK(dt_net_create(run, (dt_net_options){.batch = variant == 1 ? 3 : BATCH}, &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(4, 8));
    dt_var y = dt_input(net, "y", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    x = dt_dropout(dt_dense(x, (dt_dense_options){.channels = 8, .name = "in"}), variant == 1 ? 0.5 : 0);
    x = variant == 2 ? dt_tanh(x) : dt_gelu(x);
    if (variant == 1) dt_expose(x, "middle");
    x = dt_attention(
        x, (dt_attention_options){.heads = variant == 3 ? 4 : 2, .causal = variant == 4, .name = "attn"});
    x = dt_reshape(x, DT_SHAPE(32));
    x = dt_dense(x, (dt_dense_options){.channels = CLASSES, .name = "head"});
    dt_loss("cross_entropy", variant == 5 ? dt_relu(x) : x, y,
            (dt_loss_options){.smoothing = variant == 1 ? 0.1 : 0});
    OK(dt_net_compile(net));
    return net;
}

/* A network that does other things with the same weights is none of theirs. */
static void saved_by_another(void **state) {
    (void)state;
    static const char *const why[] = {
        "",
        "",
        "\"tanh of 1\" here and \"gelu of 1\" there",
        "\"attn/heads\" is \"attention heads 4\" here and \"attention heads 2\" there",
        "\"attention causal 1\" here and \"attention causal 0\" there",
        "here and \"none\" there"};
    char dir[] = "/tmp/dtrain-api-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    dt_run *run = open_cpu();
    dt_net *made = small(run, 0);
    OK(dt_net_save(made, dir));
    for (int v = 0; v < 6; v++) {
        dt_net *net = small(run, v);
        if (v < 2)
            OK(dt_net_load(net, dir));
        else
            FAILS(DT_ERR_CHECKPOINT, why[v], dt_net_load(net, dir));
        dt_net_free(net);
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    dt_net_free(made), dt_run_close(run);
}

/* What cannot be written is a status with a text, and what was there before is there still. */
static void saving_fails(void **state) {
    (void)state;
    char dir[] = "/tmp/dtrain-api-XXXXXX", path[64], file[128], command[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/model", dir);
    dt_run *run = open_cpu();
    model m = make(run, "sgd", 0), other = make(run, "adam", 0), loaded = make(run, "sgd", 0);
    OK(dt_net_step(m.net));
    OK(dt_net_step(other.net));
    OK(dt_net_save(m.net, path));

    /* A limit on files' sizes (ulimit -f), which raises a signal where nobody holds it back. */
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    for (rlim_t bytes = 0; bytes < 6000; bytes += 1500) {
        small.rlim_cur = bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const dt_status st = dt_net_save(m.net, path);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(st, DT_ERR_IO);
        if (!strstr(dt_error_text(), "File too large")) fail_msg("\"%s\"", dt_error_text());
    }
    sigset_t pending;
    assert_int_equal(sigpending(&pending), 0);
    assert_false(sigismember(&pending, SIGXFSZ));
    OK(dt_net_load(loaded.net, path));
    same_weights(m.net, loaded.net);

    /* Somebody else's. */
    FAILS(DT_ERR_USAGE, "another", dt_net_save(other.net, path));
    OK(dt_net_load(loaded.net, path));
    OK(dt_net_step(m.net));
    snprintf(file, sizeof file, "%s/step-00000002", path);
    assert_int_equal(mkdir(file, 0777), 0);
    snprintf(file, sizeof file, "%s/step-00000002/thesis.tex", path);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    FAILS(DT_ERR_IO, "no checkpoint", dt_net_save(m.net, path));
    assert_int_equal(access(file, F_OK), 0);
    OK(dt_net_step(m.net));
    snprintf(path, sizeof path, "%s/model/step-00000003", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    snprintf(path, sizeof path, "%s/model", dir);
    FAILS(DT_ERR_IO, "step-00000003", dt_net_save(m.net, path));
    FAILS(DT_ERR_IO, "there is a file of this name", dt_net_save(m.net, file));
    snprintf(path, sizeof path, "%s/below", file);
    FAILS(DT_ERR_IO, "thesis.tex", dt_net_save(m.net, path));
    FAILS(DT_ERR_USAGE, "empty", dt_net_save(m.net, ""));
    FAILS(DT_ERR_IO, "", dt_net_save(m.net, "/proc/self/model"));
    assert_int_equal(access(file, F_OK), 0);
    OK(dt_net_step(m.net)); /* which goes on */
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    unmake(&m), unmake(&other), unmake(&loaded), dt_run_close(run);
}

static void *train(void *arg) {
    model *m = arg;
    for (int i = 0; i < 10; i++) {
        OK(dt_net_step(m->net));
        dt_tensor *sum = NULL;
        OK(dt_tensor_add(m->image, m->image, &sum)); /* of the run that both use */
        dt_tensor_free(sum);
        double loss;
        assert_int_equal(dt_net_metric(m->net, "no such", &loss),
                         DT_ERR_USAGE); /* texts are the thread's own */
    }
    return NULL;
}

static void two_threads(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    model alone = make(run, "adamw", 0.25), a = make(run, "adamw", 0.25), b = make(run, "adamw", 0.25);
    train(&alone);
    pthread_t thread[2];
    assert_int_equal(pthread_create(&thread[0], NULL, train, &a), 0);
    assert_int_equal(pthread_create(&thread[1], NULL, train, &b), 0);
    pthread_join(thread[0], NULL), pthread_join(thread[1], NULL);
    same_weights(alone.net, a.net);
    same_weights(alone.net, b.net);
    unmake(&alone), unmake(&a), unmake(&b), dt_run_close(run);
}

static void images(void **state) {
    (void)state;
    enum { H = 5, W = 4 };
    dt_run *run = open_cpu();
    dt_net *net;
    uint8_t pixel[2][H][W];
    for (int i = 0; i < 2 * H * W; i++) ((uint8_t *)pixel)[i] = (uint8_t)(6 * i);
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));
    dt_var x = dt_image_input(net, "picture", (dt_image_options){.height = H, .width = W, .channels = 1});
    dt_expose(x, "x");
    dt_loss("cross_entropy", dt_dense(x, (dt_dense_options){.channels = 3}),
            dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR), (dt_loss_options){0});
    dt_tensor *t, *y;
    OK(dt_tensor_from(run, DT_DTYPE_U8, DT_SHAPE(2, H, W, 1), pixel, &t));
    OK(dt_net_set(net, "picture", t));
    OK(dt_net_forward(net, DT_EVALUATION)); /* without labels no row counts */
    OK(dt_net_output(net, "x", &y));
    for (int i = 0; i < 2 * H * W; i++)
        assert_true(fabs(((float *)dt_tensor_data(y))[i] - (6 * i / 255.0 - 0.5) / 0.5) < 1e-6);
    assert_true(isnan(metric(net, "loss")) && metric(net, "rows") == 0);
    dt_tensor_free(t), dt_net_free(net);
    assert_true(((float *)dt_tensor_data(y))[0] == -1); /* a view keeps its network's memory */
    dt_tensor_free(y), dt_run_close(run);
}

static void refused_in_building(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_net *net = NULL;
    FAILS(DT_ERR_CONFIG, "batch", dt_net_create(run, (dt_net_options){0}, &net));
    FAILS(DT_ERR_CONFIG, "adamax",
          dt_net_create(run, (dt_net_options){.batch = 1, .optimizer = {.name = "adamax"}}, &net));
    FAILS(DT_ERR_CONFIG, "lr",
          dt_net_create(run, (dt_net_options){.batch = 1, .optimizer = {.lr = -1}}, &net));
    FAILS(DT_ERR_CONFIG, "beta",
          dt_net_create(run, (dt_net_options){.batch = 1, .optimizer = {.beta1 = 1}}, &net));
    FAILS(DT_ERR_CONFIG, "compute",
          dt_net_create(run, (dt_net_options){.batch = 1, .compute = DT_DTYPE_U8}, &net));
    FAILS(DT_ERR_USAGE, "run", dt_net_create(NULL, (dt_net_options){.batch = 1}, &net));
    assert_null(net);

/* A network whose first mistake is `mistake`; x is an image, v a vector, y a label. */
#define MISTAKE(status, word, mistake)                                                                       \
    do {                                                                                                     \
        OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));                                          \
        dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(4, 4, 6));                                      \
        dt_var v = dt_input(net, "v", DT_DTYPE_F32, DT_SHAPE(6));                                            \
        dt_var y = dt_input(net, "y", DT_DTYPE_I32, DT_SHAPE_SCALAR);                                        \
        (void)x, (void)v, (void)y;                                                                           \
        OK(dt_net_status(net));                                                                              \
        mistake;                                                                                             \
        FAILS(status, word, dt_net_status(net));                                                             \
        assert_null(dt_relu(x).net); /* it sticks */                                                         \
        (void)dt_tensor_zeros(NULL, DT_DTYPE_F32, DT_SHAPE_SCALAR, NULL);                                    \
        FAILS(status, word, dt_net_compile(net));                                                            \
        dt_net_free(net);                                                                                    \
    } while (0)
    MISTAKE(DT_ERR_CONFIG, "channels", dt_dense(v, (dt_dense_options){0}));
    MISTAKE(DT_ERR_CONFIG, "kernel", dt_conv2d(x, (dt_conv2d_options){.channels = 4, .kernel = -3}));
    MISTAKE(DT_ERR_CONFIG, "image", dt_conv2d(v, (dt_conv2d_options){.channels = 4, .kernel = 1}));
    MISTAKE(DT_ERR_CONFIG, "groups",
            dt_conv2d(x, (dt_conv2d_options){.channels = 4, .kernel = 1, .groups = 5}));
    MISTAKE(DT_ERR_CONFIG, "pad", dt_conv2d(x, (dt_conv2d_options){.channels = 4, .kernel = 1, .pad = -7}));
    MISTAKE(DT_ERR_CONFIG, "kernel", dt_maxpool(x, (dt_pool_options){.kernel = -1}));
    MISTAKE(DT_ERR_CONFIG, "maxpool", dt_maxpool(x, (dt_pool_options){.kernel = 9}));
    MISTAKE(DT_ERR_CONFIG, "global_avgpool", dt_global_avgpool(v));
    MISTAKE(DT_ERR_CONFIG, "rate", dt_dropout(v, 1));
    MISTAKE(DT_ERR_CONFIG, "rate", dt_dropout(v, NAN));
    MISTAKE(DT_ERR_CONFIG, "rate", dt_drop_path(v, -0.5));
    MISTAKE(DT_ERR_USAGE, "dimension 9", dt_mean(x, 9));
    MISTAKE(DT_ERR_USAGE, "dimension -2", dt_sum(x, -2));
    MISTAKE(DT_ERR_USAGE, "dimension 7", dt_transpose(x, 0, 7));
    MISTAKE(DT_ERR_CONFIG, "product", dt_matmul(x, v));
    MISTAKE(DT_ERR_CONFIG, "output_pad",
            dt_conv2d_transpose(x, (dt_conv_transpose_options){.channels = 4, .output_pad = 2}));
    MISTAKE(DT_ERR_CONFIG, "dt_conv1d: its input is 2x4x4x6 f32, expected rows of 2 dimensions",
            dt_conv1d(x, (dt_conv1d_options){.channels = 4}));
    MISTAKE(DT_ERR_CONFIG, "expected rows of 4 dimensions", dt_conv3d(x, (dt_conv3d_options){.channels = 4}));
    MISTAKE(DT_ERR_CONFIG, "volumes up to 32",
            dt_conv3d(dt_reshape(x, DT_SHAPE(4, 2, 2, 6)), (dt_conv3d_options){.channels = 4, .kernel = 33}));
    MISTAKE(DT_ERR_CONFIG, "does not fit a depth of 4",
            dt_conv3d(dt_reshape(x, DT_SHAPE(4, 2, 2, 6)), (dt_conv3d_options){.channels = 4, .kernel = 5}));
    MISTAKE(DT_ERR_CONFIG, "groups would be ignored", dt_layernorm(x, (dt_norm_options){.groups = 2}));
    MISTAKE(DT_ERR_CONFIG, "no_bias would be ignored", dt_rmsnorm(x, (dt_norm_options){.no_bias = true}));
    MISTAKE(DT_ERR_CONFIG, "function would be ignored",
            dt_gru(dt_reshape(x, DT_SHAPE(16, 6)), (dt_recurrent_options){.hidden = 2, .function = 1}));
    MISTAKE(DT_ERR_CONFIG, "cosine_similarity", dt_cosine_similarity(x, v, 0));
    MISTAKE(DT_ERR_CONFIG, "whole numbers", dt_gather(x, v, 0));
    MISTAKE(DT_ERR_USAGE, "dimension -1", dt_gather(x, y, -1));
    MISTAKE(DT_ERR_USAGE, "dimension 3", dt_slice(x, 3, 0, 1));
    MISTAKE(DT_ERR_USAGE, "33 parts", dt_split(x, 0, 33, NULL, (dt_var[33]){{0}}));
    MISTAKE(DT_ERR_CONFIG, "3 parts", dt_split(x, 0, 3, NULL, (dt_var[3]){{0}}));
    MISTAKE(DT_ERR_USAGE, "dimension 4", dt_stack((dt_var[]){x, x}, 2, 4));
    MISTAKE(DT_ERR_CONFIG, "add", dt_add(x, v));
    MISTAKE(DT_ERR_USAGE, "no value", dt_relu((dt_var){net, 999}));
    MISTAKE(DT_ERR_USAGE, "no value", dt_relu((dt_var){net, -1}));
    MISTAKE(DT_ERR_CONFIG, "\"x\"", dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE_SCALAR));
    MISTAKE(DT_ERR_USAGE, "name", dt_input(net, NULL, DT_DTYPE_F32, DT_SHAPE_SCALAR));
    MISTAKE(DT_ERR_USAGE, "name",
            dt_input(net, "0123456789012345678901234567890123456789", DT_DTYPE_F32, DT_SHAPE_SCALAR));
    MISTAKE(DT_ERR_USAGE, "row", dt_input(net, "z", DT_DTYPE_F32, DT_SHAPE(1, 1, 1, 1, 1, 1, 1, 1)));
    MISTAKE(DT_ERR_USAGE, "dt_dtype", dt_input(net, "z", (dt_dtype)-1, DT_SHAPE_SCALAR));
    MISTAKE(DT_ERR_MEMORY, "counted", dt_input(net, "z", DT_DTYPE_F32, DT_SHAPE(INT64_MAX / 4)));
    MISTAKE(DT_ERR_CONFIG, "image", dt_image_input(net, "z", (dt_image_options){.height = 1, .width = 1}));
    MISTAKE(DT_ERR_CONFIG, "hinge", dt_loss("hinge", v, y, (dt_loss_options){0}));
    MISTAKE(DT_ERR_CONFIG, "NULL", dt_loss(NULL, v, y, (dt_loss_options){0}));
    MISTAKE(DT_ERR_CONFIG, "no cast", dt_loss("cross_entropy", v, v, (dt_loss_options){0}));
    MISTAKE(DT_ERR_CONFIG, "smoothing", dt_loss("cross_entropy", v, y, (dt_loss_options){.smoothing = 1}));
    MISTAKE(DT_ERR_USAGE, "name", dt_expose(v, NULL));
    MISTAKE(DT_ERR_CONFIG, "twice",
            (dt_dense(v, (dt_dense_options){.channels = 2, .name = "twice"}),
             dt_dense(v, (dt_dense_options){.channels = 2, .name = "twice"})));
    MISTAKE(DT_ERR_CONFIG, "characters", dt_dense(v, (dt_dense_options){.channels = 2, .name = ""}));

    dt_net *second;
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &second));
    dt_var a = dt_input(net, "a", DT_DTYPE_F32, DT_SHAPE(6)),
           b = dt_input(second, "b", DT_DTYPE_F32, DT_SHAPE(6));
    dt_add(a, b);
    FAILS(DT_ERR_USAGE, "different networks", dt_net_status(net));
    OK(dt_net_status(second));
    FAILS(DT_ERR_USAGE, "no loss", dt_net_compile(second));
    dt_net_free(net), dt_net_free(second), dt_net_free(second);
    assert_null(dt_relu(b).net);
    assert_null(dt_relu(DT_NO_VAR).net);
    assert_null(dt_input(NULL, "x", DT_DTYPE_F32, DT_SHAPE_SCALAR).net);
    assert_int_equal(dt_var_shape(b).ndim, 0);
    FAILS(DT_ERR_USAGE, "freed", dt_net_compile(second));
    FAILS(DT_ERR_USAGE, "net is NULL", dt_net_step(NULL));
    dt_run_close(run);
}

static void refused_in_running(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    model m = make(run, "sgd", 0);
    dt_tensor *t = NULL, *wrong = normal(run, DT_SHAPE(BATCH, SIDE, SIDE, CHANNELS + 1), 1);
    double v;
    FAILS(DT_ERR_USAGE, "no forward", dt_net_output(m.net, "logits", &t));
    FAILS(DT_ERR_USAGE, "no backward", dt_net_gradient(m.net, "stem.weight", &t));
    FAILS(DT_ERR_USAGE, "yet", dt_net_metric(m.net, "loss", &v));
    FAILS(DT_ERR_USAGE, "forward", dt_net_backward(m.net));
    FAILS(DT_ERR_USAGE, "backward", dt_net_update(m.net));
    FAILS(DT_ERR_USAGE, "\"picture\"", dt_net_set(m.net, "picture", m.image));
    FAILS(DT_ERR_USAGE, "8x8x3", dt_net_set(m.net, "image", wrong));
    FAILS(DT_ERR_USAGE, "i32", dt_net_set(m.net, "image", m.label));
    FAILS(DT_ERR_USAGE, "NULL", dt_net_set(m.net, NULL, m.image));
    FAILS(DT_ERR_USAGE, "NULL", dt_net_set(m.net, "image", NULL));
    FAILS(DT_ERR_USAGE, "dt_mode", dt_net_forward(m.net, (dt_mode)5));
    dt_tensor_free(wrong);
    wrong = normal(run, DT_SHAPE(BATCH + 1, SIDE, SIDE, CHANNELS), 1);
    FAILS(DT_ERR_USAGE, "7x8x8x2", dt_net_set(m.net, "image", wrong));
    OK(dt_net_forward(m.net, DT_TRAINING));
    FAILS(DT_ERR_USAGE, "\"probabilities\"", dt_net_output(m.net, "probabilities", &t));
    FAILS(DT_ERR_USAGE, "no backward", dt_net_gradient(m.net, "stem.weight", &t));
    FAILS(DT_ERR_USAGE, "backward", dt_net_update(m.net));
    OK(dt_net_backward(m.net));
    FAILS(DT_ERR_USAGE, "\"stem\"", dt_net_gradient(m.net, "stem", &t));
    FAILS(DT_ERR_USAGE, "forward", dt_net_backward(m.net));
    FAILS(DT_ERR_CONFIG, "nan", dt_net_set_lr(m.net, NAN));
    FAILS(DT_ERR_USAGE, "\"accuracy\"", dt_net_metric(m.net, "accuracy", &v));
    assert_null(t);
    assert_null(dt_relu((dt_var){m.net, 0}).net);
    FAILS(DT_ERR_USAGE, "cannot grow", dt_net_status(m.net));
    OK(dt_net_update(m.net)); /* which it goes on without */
    /* Not finite: nothing changes. */
    dt_tensor *nan_image;
    OK(dt_tensor_full(run, DT_DTYPE_F32, DT_SHAPE(BATCH, SIDE, SIDE, CHANNELS), NAN, &nan_image));
    int64_t n;
    float *before = weights(m.net, &n);
    OK(dt_net_set(m.net, "image", nan_image));
    OK(dt_net_step(m.net));
    assert_true(metric(m.net, "skipped") == 1);
    float *after = weights(m.net, &n);
    assert_memory_equal(before, after, (size_t)n * sizeof *before);
    free(before), free(after);
    dt_tensor_free(wrong), dt_tensor_free(nan_image), unmake(&m), dt_run_close(run);
}

/* An autoencoder of images with branches that are dropped, and attention written out: every layer that moves or brings
 * together elements has a gradient. */
static void moves(void **state) {
    (void)state;
    dt_run *run;
    dt_net *net;
    float pixels[4 * 8 * 8 * 3];
    double first = 0, loss = 0;
    OK(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU}, &run));
    OK(dt_net_create(run, (dt_net_options){.batch = 4, .optimizer = {.name = "adam", .lr = 3e-3}, .seed = 3},
                     &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(8, 8, 3));
    dt_var y = dt_conv2d(x, (dt_conv2d_options){.channels = 8, .stride = 2, .pad = DT_PAD_SAME});
    dt_var gate = dt_sigmoid(dt_dense(dt_mean(dt_mean(y, 0), 0), (dt_dense_options){.channels = 8}));
    y = dt_mul(y, dt_reshape(gate, DT_SHAPE(1, 1, -1))); /* squeeze and excite */
    dt_var top = dt_amax(y, -1);                         /* [4, 4] of a row */
    dt_var mixed = dt_matmul(dt_softmax(top), dt_transpose(top, 0, 1));
    y = dt_add(y, dt_drop_path(dt_relu(y), 0.25));
    dt_var part[2], four[2];
    dt_split(y, 0, 2, NULL, part); /* the upper half and the lower, taken apart and put together */
    for (int i = 0; i < 2; i++)
        four[i] = dt_slice(dt_pad(part[i], 0, i ? 2 : 0, i ? 0 : 2), 0, i ? -2 : 0, 2);
    y = dt_reshape(dt_stack(four, 2, 0), DT_SHAPE(4, 4, 8));
    y = dt_conv2d_transpose(y, (dt_conv_transpose_options){.channels = 3, .kernel = 2});
    dt_loss("mse", y, x, (dt_loss_options){0});
    dt_loss("mse", dt_sum(mixed, -1), dt_sum(top, 0), (dt_loss_options){.name = "mixed", .weight = 0.01});
    OK(dt_net_compile(net));
    for (int i = 0; i < (int)(sizeof pixels / sizeof pixels[0]); i++) pixels[i] = sinf((float)i * 0.37f);
    dt_tensor *images;
    OK(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(4, 8, 8, 3), pixels, &images));
    for (int step = 0; step < 120; step++) {
        OK(dt_net_set(net, "x", images));
        OK(dt_net_step(net));
        loss = metric(net, "loss");
        if (step == 0) first = loss;
    }
    assert_true(loss < 0.5f * first);
    dt_tensor_free(images);
    dt_net_free(net);
    dt_run_close(run);
}

/* Sequences, volumes and images in other sizes, rows by number: what is made of several ops learns, in training and in
 * evaluation alike. */
static void shapes(void **state) {
    (void)state;
    enum { N = 4 };
    dt_run *run;
    dt_net *net;
    double first = 0, loss = 0;
    OK(dt_run_open((dt_run_options){.device = DT_DEVICE_CPU}, &run));
    OK(dt_net_create(run, (dt_net_options){.batch = N, .optimizer = {.name = "adam", .lr = 1e-2}, .seed = 3},
                     &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(4, 6, 6, 2)), rows,
           numbers = dt_input(net, "numbers", DT_DTYPE_I32, DT_SHAPE(3)),
           class_of = dt_input(net, "class", DT_DTYPE_I32, DT_SHAPE(1));
    dt_var v = dt_relu(dt_conv3d(
        x,
        (dt_conv3d_options){.channels = 4, .stride = 2, .pad = DT_PAD_SAME, .groups = 2, .name = "volume"}));
    v = dt_maxpool(v, (dt_pool_options){.kernel = 2, .stride = 1}); /* 1 x 2 x 2 x 4 */
    v = dt_upsample(dt_reshape(v, DT_SHAPE(2, 2, 4)),
                    (dt_upsample_options){.scale = 3, .mode = 1}); /* 6 x 6 x 4 */
    v = dt_squeeze_excite(v, (dt_squeeze_excite_options){.channels = 2, .name = "se"});
    v = dt_reshape(dt_adaptive_avgpool(v, 4, 3), DT_SHAPE(12, 4));
    v = dt_conv1d(v, (dt_conv1d_options){.channels = 8, .pad = DT_PAD_SAME, .dilation = 2, .name = "line"});
    assert_int_equal(dt_var_shape(dt_adaptive_maxpool(dt_reshape(v, DT_SHAPE(3, 4, 8)), 2, 2)).dim[1], 2);
    rows = dt_gather(dt_avgpool(v, (dt_pool_options){.kernel = 3}), numbers, 0); /* 3 x 8 */
    assert_int_equal(dt_var_shape(rows).dim[0], 3);
    dt_var likeness = dt_cosine_similarity(rows, dt_normalize(rows, 0), 0); /* 1 */
    dt_expose(likeness, "likeness");
    dt_var y = dt_dense(dt_flatten(rows), (dt_dense_options){.channels = 5});
    y = dt_add(
        y, dt_dense(dt_global_maxpool(dt_reshape(v, DT_SHAPE(3, 4, 8))), (dt_dense_options){.channels = 5}));
    dt_loss("mse", y, dt_reshape(dt_one_hot(class_of, 5), DT_SHAPE(5)), (dt_loss_options){0});
    OK(dt_net_compile(net));
    dt_tensor *t, *weight;
    OK(dt_net_parameter(net, "volume.weight", &weight));
    assert_int_equal(dt_tensor_n_elem(weight), 4 * 27);
    dt_tensor_free(weight);
    for (int step = 0; step < 150; step++) {
        t = normal(run, DT_SHAPE(N, 4, 6, 6, 2), 5);
        OK(dt_net_set(net, "x", t));
        dt_tensor_free(t);
        OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(N, 3),
                          (const int32_t[]){0, 1, 2, 3, 3, 0, 1, 0, 2, 2, 1, 1}, &t));
        OK(dt_net_set(net, "numbers", t));
        dt_tensor_free(t);
        OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(N, 1), (const int32_t[]){3, 0, 4, 1}, &t));
        OK(dt_net_set(net, "class", t));
        dt_tensor_free(t);
        OK(dt_net_step(net));
        loss = metric(net, "loss");
        if (step == 0) first = loss;
    }
    if (!(loss < 0.1 * first)) fail_msg("loss %g, at first %g", loss, first);
    OK(dt_net_forward(net, DT_EVALUATION));
    OK(dt_net_output(net, "likeness", &t));
    assert_int_equal(dt_tensor_n_elem(t), N * 3);
    for (int i = 0; i < N * 3; i++) assert_true(fabsf(((float *)dt_tensor_data(t))[i] - 1) < 1e-5f);
    assert_true(metric(net, "loss") < 0.2 * first);
    dt_tensor_free(t);
    dt_net_free(net);
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),
        cmocka_unit_test(in_parts),
        cmocka_unit_test(groups),
        cmocka_unit_test(evaluation),
        cmocka_unit_test(saving),
        cmocka_unit_test(weights_of_others),
        cmocka_unit_test(saved_by_another),
        cmocka_unit_test(saving_fails),
        cmocka_unit_test(two_threads),
        cmocka_unit_test(images),
        cmocka_unit_test(moves),
        cmocka_unit_test(shapes),
        cmocka_unit_test(refused_in_building),
        cmocka_unit_test(refused_in_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
