/* What a program has set that cannot be, and texts of mistakes. */
#include <unistd.h>

#include "api_test.h"

enum { ROWS = 3, WORDS = 10, N = 2 };

/* Tokens through an embedding to a bce and, of one class of three, a cross-entropy. */
typedef struct graph {
    dt_run *run;
    dt_net *net;
    dt_tensor *tokens, *y, *label;
} graph;

static int32_t token_data[ROWS] = {0, 4, WORDS - 1}, label_data[ROWS] = {0, -1, 2};
static float y_data[ROWS * N] = {0, 1, 0.5f, 1, 0, 0};

static graph begin(void) {
    graph g = {.run = open_cpu()};
    OK(dt_net_create(g.run, (dt_net_options){.batch = ROWS}, &g.net));
    dt_var tokens = dt_input(g.net, "tokens", DT_DTYPE_I32, DT_SHAPE(1)),
           y = dt_input(g.net, "y", DT_DTYPE_F32, DT_SHAPE(N)),
           label = dt_input(g.net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_var x = dt_flatten(dt_embedding(tokens, (dt_embedding_options){.rows = WORDS, .channels = 4}));
    dt_loss("bce", dt_dense(x, (dt_dense_options){.channels = N}), y, (dt_loss_options){0});
    dt_loss("cross_entropy", dt_dense(x, (dt_dense_options){.channels = 3}), label, (dt_loss_options){0});
    OK(dt_tensor_from(g.run, DT_DTYPE_I32, DT_SHAPE(ROWS, 1), token_data, &g.tokens));
    OK(dt_tensor_from(g.run, DT_DTYPE_I32, DT_SHAPE(ROWS), label_data, &g.label));
    g.y = floats(g.run, DT_SHAPE(ROWS, N), y_data);
    OK(dt_net_set(g.net, "tokens", g.tokens));
    OK(dt_net_set(g.net, "y", g.y));
    OK(dt_net_set(g.net, "label", g.label));
    return g;
}

static void end(graph *g) {
    dt_tensor_free(g->tokens), dt_tensor_free(g->y), dt_tensor_free(g->label);
    dt_net_free(g->net), dt_run_close(g->run);
}

/* The first that is wrong is told, and once it is mended all goes on. */
static void test_numbers(void **state) {
    (void)state;
    graph g = begin();
    int32_t *token = dt_tensor_data(g.tokens), *label = dt_tensor_data(g.label);
    float *y = dt_tensor_data(g.y);
    OK(dt_net_step(g.net));
    token[1] = WORDS;
    OK(dt_net_set(g.net, "tokens", g.tokens));
    FAILS(DT_ERR_DATA, "\"tokens\" has 10 in row 1", dt_net_step(g.net));
    FAILS(DT_ERR_DATA, "rows are 0 to 9", dt_net_forward(g.net, DT_EVALUATION));
    token[1] = -1;
    OK(dt_net_set(g.net, "tokens", g.tokens));
    FAILS(DT_ERR_DATA, "\"tokens\" has -1 in row 1", dt_net_step(g.net));
    token[1] = 1;
    OK(dt_net_set(g.net, "tokens", g.tokens));
    y[5] = -1;
    OK(dt_net_set(g.net, "y", g.y));
    FAILS(DT_ERR_DATA, "\"y\" has -1 in row 2", dt_net_step(g.net));
    y[5] = 1;
    OK(dt_net_set(g.net, "y", g.y));
    label[0] = 3;
    OK(dt_net_set(g.net, "label", g.label));
    FAILS(DT_ERR_DATA, "\"label\" has 3 in row 0", dt_net_step(g.net));
    label[0] = 2;
    OK(dt_net_set(g.net, "label", g.label));
    OK(dt_net_step(g.net));
    end(&g);
}

/* A file of weights that are no numbers is not written. */
static void test_export(void **state) {
    (void)state;
    char dir[] = "/tmp/dt-rows-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/w.safetensors", dir);
    graph g = begin();
    dt_tensor *w;
    OK(dt_net_export(g.net, path));
    assert_int_equal(unlink(path), 0);
    OK(dt_net_parameter(g.net, "embedding1.weight", &w));
    ((float *)dt_tensor_data(w))[7] = NAN;
    dt_tensor_free(w);
    FAILS(DT_ERR_NONFINITE, "embedding1.weight", dt_net_export(g.net, path));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(rmdir(dir), 0);
    end(&g);
}

static dt_status stop(void *arg, dt_net *net, int64_t step) {
    (void)arg, (void)net, (void)step;
    return DT_STOPPED;
}

/* A status that the program brings itself has no cause of a call before. */
static void test_brought(void **state) {
    (void)state;
    graph g = begin();
    dt_data *data;
    FAILS(DT_ERR_USAGE, "no input", dt_net_set(g.net, "nothing", g.y));
    FAILS(DT_STOPPED, "brought the status \"stopped\"", dt_run_agree(g.run, DT_STOPPED));
    FAILS(DT_ERR_USAGE, "no input", dt_net_set(g.net, "nothing", g.y));
    FAILS(DT_ERR_USAGE, "no input", dt_run_agree(g.run, DT_ERR_USAGE)); /* which is that */
    end(&g);
    dt_run *run = open_cpu();
    dt_net *net;
    OK(dt_net_create(run, (dt_net_options){.batch = ROWS}, &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(N)),
           y = dt_input(net, "y", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_loss("cross_entropy", dt_dense(x, (dt_dense_options){.channels = 3}), y, (dt_loss_options){0});
    OK(dt_data_open(run, "synthetic",
                    (dt_data_open_options){.fields = "x:f32[2] y:i32", .rows = 9, .classes = 3}, &data));
    FAILS(DT_STOPPED, "after_step", dt_net_fit(net, data, (dt_fit_options){.steps = 2, .after_step = stop}));
    dt_data_free(data), dt_net_free(net), dt_run_close(run);
}

/* A fresh network, of which the mistake is told with its own words. */
#define TOLD(word, call)                                                                                     \
    do {                                                                                                     \
        dt_net *net;                                                                                         \
        OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));                                          \
        dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(30, 30, 3));                                    \
        (void)x, (void)(call);                                                                               \
        const dt_status st = dt_net_status(net);                                                             \
        assert_int_not_equal(st, DT_OK);                                                                     \
        FAILS(st, word, dt_net_status(net));                                                                 \
        dt_net_free(net);                                                                                    \
    } while (0)

static void test_texts(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    TOLD("dt_concat: n is -1", dt_concat(&x, -1, 0));
    TOLD("dt_concat: n is 33", dt_concat(&x, 33, 0));
    TOLD("dt_stack: x is NULL", dt_stack(NULL, 2, 0));
    TOLD("from -1e+30 to 1e+30", dt_scale(x, 1e31));
    TOLD("30x30", dt_model("vit_b_16", x, (dt_model_add_options){.outputs = 10}));
    dt_run_close(run);
    graph g = begin();
    FAILS(DT_ERR_USAGE, "dt_net_profile: text is NULL", dt_net_profile(g.net, 1, NULL));
    FAILS(DT_ERR_USAGE, "rename is NULL", dt_net_import(g.net, "/tmp", &(dt_weights_options){.n_rename = 2}));
    assert_int_equal(dt_net_import(g.net, "/tmp", NULL), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "/tmp: a directory without model.safetensors"));
    FAILS(DT_ERR_CHECKPOINT, "/tmp", dt_net_load(g.net, "/tmp"));
    end(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_export),
                                       cmocka_unit_test(test_brought), cmocka_unit_test(test_texts)};
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
