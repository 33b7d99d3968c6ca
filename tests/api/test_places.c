/* A small language model from C, its layers one of each: training on labels some of which are missing overlays
 * PyTorch's. The losses are printed by tests/golden/make_golden.py, which makes the same numbers. */
#include "api_test.h"

enum { BATCH = 5, PLACES = 7, TOKENS = 11, WIDE = 12, TRAINED = 10 };

/* Element i of what has that name. */
static float number_of(const char *name, int64_t i) {
    int64_t sum = 0;
    for (const char *c = name; *c; c++) sum = (sum * 31 + (unsigned char)*c) % 1009;
    return (float)(0.4 * sin(0.731 * (double)i + (double)sum));
}

static void set_parameters(dt_net *net) {
    OK(dt_net_compile(net));
    for (int32_t i = 0; i < dt_net_n_parameter(net); i++) {
        dt_tensor *t;
        const char *name = dt_net_parameter_name(net, i);
        OK(dt_net_parameter(net, name, &t));
        const int64_t n = dt_tensor_n_elem(t);
        float *x = malloc((size_t)n * sizeof *x);
        assert_non_null(x);
        for (int64_t k = 0; k < n; k++) x[k] = number_of(name, k);
        OK(dt_tensor_write(t, x, n * (int64_t)sizeof *x));
        free(x);
        dt_tensor_free(t);
    }
}

static void set_whole(dt_net *net, dt_run *run, const char *name, const int32_t *value) {
    dt_tensor *t;
    OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(BATCH, PLACES), value, &t));
    OK(dt_net_set(net, name, t));
    dt_tensor_free(t);
}

static int32_t token_of(int32_t i) {
    return (i / PLACES * 5 + i % PLACES * 3) % TOKENS;
}

static void set_batch(dt_net *net, dt_run *run) {
    int32_t tokens[BATCH * PLACES], label[BATCH * PLACES];
    for (int32_t i = 0; i < BATCH * PLACES; i++) {
        tokens[i] = token_of(i);
        label[i] = i % PLACES < i / PLACES * 2 % (PLACES + 1) ? (tokens[i] * 3 + 1) % TOKENS : -1;
    }
    set_whole(net, run, "tokens", tokens);
    set_whole(net, run, "label", label);
}

static dt_net *language_model(dt_run *run) {
    dt_net *net;
    OK(dt_net_create(
        run, (dt_net_options){.batch = BATCH, .clip_norm = 0.2, .optimizer = {.name = "momentum", .lr = 0.2}},
        &net));
    const dt_var tokens = dt_input(net, "tokens", DT_DTYPE_I32, DT_SHAPE(PLACES)),
                 label = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE(PLACES));
    dt_var x = dt_embedding(
        tokens, (dt_embedding_options){.rows = TOKENS, .channels = WIDE, .padded = true, .name = "wte"});
    x = dt_position(x, (dt_position_options){.rows = PLACES + 2, .name = "wpe"});
    x = dt_position(x, (dt_position_options){.kind = DT_POSITION_SINUSOIDAL});
    dt_var y = dt_layernorm(x, (dt_norm_options){.name = "ln"});
    y = dt_dense(y, (dt_dense_options){.channels = WIDE, .name = "fc"});
    x = dt_add(x, dt_groupnorm(y, (dt_norm_options){.groups = 3, .name = "gn"}));
    x = dt_rmsnorm(x, (dt_norm_options){.name = "rms"});
    x = dt_tied(dt_rotary(x, (dt_rotary_options){.heads = 3}), "wte");
    OK(dt_net_status(net));
    assert_int_equal(dt_var_shape(x).dim[0], PLACES);
    assert_int_equal(dt_var_shape(x).dim[1], TOKENS);
    dt_loss("cross_entropy", x, label, (dt_loss_options){0});
    return net;
}

static void test_training_is_pytorchs(void **state) {
    static const double want[TRAINED] = {2.378200302, 2.364438257, 2.339317718, 2.305310126, 2.263992334,
                                         2.215301736, 2.157452562, 2.087700577, 2.003664263, 1.904822669};
    dt_run *run = open_cpu();
    (void)state;
    dt_net *net = language_model(run);
    set_parameters(net);
    set_batch(net, run);
    for (int i = 0; i < TRAINED; i++) {
        double loss, rows;
        OK(dt_net_step(net));
        OK(dt_net_metric(net, "loss", &loss));
        OK(dt_net_metric(net, "rows", &rows));
        assert_true(rows == 12);
        if (!(fabs(loss - want[i]) < 2e-5 * want[i]))
            fail_msg("step %d: loss %.8f, PyTorch's %.8f", i, loss, want[i]);
    }
    dt_net_free(net);
    dt_run_close(run);
}

static void test_numbers_outside_the_table(void **state) {
    dt_run *run = open_cpu();
    (void)state;
    dt_net *net = language_model(run);
    int32_t tokens[BATCH * PLACES] = {0};
    set_batch(net, run);
    tokens[9] = TOKENS;
    set_whole(net, run, "tokens", tokens);
    FAILS(DT_ERR_DATA, "has 11 in row 1", dt_net_step(net));
    dt_net_free(net);
    dt_run_close(run);
}

static void test_refused(void **state) {
    dt_run *run = open_cpu();
    (void)state;
    dt_net *net;
    OK(dt_net_create(run, (dt_net_options){.batch = BATCH, .optimizer = {.name = "sgd", .lr = 0.1}}, &net));
    const dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(PLACES, WIDE));
    dt_tied(x, "nobody");
    FAILS(DT_ERR_CONFIG, "no parameter nobody.weight", dt_net_status(net));
    dt_net_free(net);
    OK(dt_net_create(run, (dt_net_options){.batch = BATCH, .optimizer = {.name = "sgd", .lr = 0.1}}, &net));
    dt_position(dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(PLACES, WIDE)), (dt_position_options){.rows = 3});
    FAILS(DT_ERR_CONFIG, "7 steps, but there are 3 positions", dt_net_status(net));
    dt_net_free(net);
    dt_run_close(run);
}

/* Weights begin as their options say, in a program as in a configuration. */
static void test_initial(void **state) {
    dt_run *run = open_cpu();
    dt_net *net;
    dt_tensor *w;
    (void)state;
    float table[50 * 8];
    double squares = 0;
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));
    dt_var x = dt_input(net, "tokens", DT_DTYPE_I32, DT_SHAPE(4));
    dt_var y = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE(4));
    x = dt_embedding(x,
                     (dt_embedding_options){
                         .rows = 50, .channels = 8, .std = 0.5, .padded = true, .padding = 7, .name = "e"});
    dt_loss("cross_entropy", dt_dense(x, (dt_dense_options){.channels = 5}), y, (dt_loss_options){0});
    OK(dt_net_compile(net));
    OK(dt_net_parameter(net, "e.weight", &w));
    OK(dt_tensor_read(w, table, sizeof table));
    for (int i = 0; i < 50 * 8; i++) {
        squares += (double)table[i] * (double)table[i];
        if (i / 8 == 7) assert_true(table[i] == 0);
    }
    assert_true(fabs(sqrt(squares / (49 * 8)) - 0.5) < 0.1);
    dt_tensor_free(w);
    dt_net_free(net);
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_is_pytorchs),
        cmocka_unit_test(test_numbers_outside_the_table),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_initial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
