/* Recurrent layers from C: training overlays PyTorch's, states go from one layer to another, evaluation of fewer rows,
 * what is refused. The losses are printed by tests/golden/make_golden.py, which makes the same numbers. */
#include "api_test.h"

enum { BATCH = 6, STEPS = 7, IN = 3, CLASSES = 4, OUT = 2, TRAINED = 10 };

/* Element i of what has that name. */
static float number_of(const char *name, int64_t i) {
    int64_t sum = 0;
    for (const char *c = name; *c; c++) sum = (sum * 31 + (unsigned char)*c) % 1009;
    return (float)(0.4 * sin(0.731 * (double)i + (double)sum));
}

static void fill(dt_tensor *t, const char *name) {
    const int64_t n = dt_tensor_n_elem(t);
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = number_of(name, i);
    OK(dt_tensor_write(t, x, n * (int64_t)sizeof *x));
    free(x);
}

static void set_floats(dt_net *net, dt_run *run, const char *name, dt_shape shape) {
    dt_tensor *t;
    OK(dt_tensor_zeros(run, DT_DTYPE_F32, shape, &t));
    fill(t, name);
    OK(dt_net_set(net, name, t));
    dt_tensor_free(t);
}

static void set_whole(dt_net *net, dt_run *run, const char *name, const int32_t *value) {
    dt_tensor *t;
    OK(dt_tensor_from(run, DT_DTYPE_I32, DT_SHAPE(BATCH), value, &t));
    OK(dt_net_set(net, name, t));
    dt_tensor_free(t);
}

static void set_parameters(dt_net *net) {
    OK(dt_net_compile(net));
    for (int32_t i = 0; i < dt_net_n_parameter(net); i++) {
        dt_tensor *t;
        const char *name = dt_net_parameter_name(net, i);
        OK(dt_net_parameter(net, name, &t));
        fill(t, name);
        dt_tensor_free(t);
    }
}

static dt_net *make_net(dt_run *run, const char *optimizer, double lr) {
    dt_net *net;
    OK(dt_net_create(run, (dt_net_options){.batch = BATCH, .optimizer = {.name = optimizer, .lr = lr}},
                     &net));
    return net;
}

static void expect_losses(dt_net *net, const double *want) {
    for (int i = 0; i < TRAINED; i++) {
        double loss;
        OK(dt_net_step(net));
        OK(dt_net_metric(net, "loss", &loss));
        if (!(fabs(loss - want[i]) <= 1e-5 * want[i]))
            fail_msg("step %d: loss %.8f, expected %.8f", i, loss, want[i]);
    }
}

static const int32_t lengths[BATCH] = {7, 3, 5, 1, 7, 2}, labels[BATCH] = {0, 1, 2, 3, 1, 0};

/* Sequences of several lengths to a class, by the last states of both directions. */
static void classes_of_sequences(void **state) {
    (void)state;
    static const double want[TRAINED] = {1.371334971, 1.301223416, 1.259643382, 1.232716336, 1.214507784,
                                         1.201778859, 1.190975481, 1.177000677, 1.155876984, 1.126500589};
    dt_run *run = open_cpu();
    dt_net *net = make_net(run, "adam", 0.02);
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(STEPS, IN));
    dt_var n = dt_input(net, "lengths", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_var y = dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    dt_var h =
        dt_recurrent("lstm", x, n, (dt_recurrent_states){0}, NULL,
                     (dt_recurrent_options){
                         .hidden = 8, .layers = 2, .bidirectional = true, .last = true, .name = "lstm"});
    assert_int_equal(dt_var_shape(h).ndim, 1);
    assert_int_equal(dt_var_shape(h).dim[0], 16);
    dt_var logits = dt_dense(h, (dt_dense_options){.channels = CLASSES, .name = "head"});
    dt_expose(logits, "logits");
    dt_loss("cross_entropy", logits, y, (dt_loss_options){0});
    set_parameters(net);
    assert_int_equal(dt_net_n_parameter(net), 2 * 2 * 4 + 2);
    set_floats(net, run, "x", DT_SHAPE(BATCH, STEPS, IN));
    set_whole(net, run, "lengths", lengths);
    set_whole(net, run, "label", labels);
    expect_losses(net, want);

    /* What is beyond a row's end changes nothing, in evaluation too. */
    float first[BATCH * CLASSES];
    for (int pass = 0; pass < 2; pass++) {
        dt_tensor *out;
        OK(dt_net_forward(net, DT_EVALUATION));
        OK(dt_net_output(net, "logits", &out));
        if (pass == 0)
            memcpy(first, dt_tensor_data(out), sizeof first);
        else
            assert_memory_equal(first, dt_tensor_data(out), sizeof first);
        dt_tensor_free(out);
        float data[BATCH][STEPS][IN];
        for (int64_t i = 0; i < BATCH * STEPS * IN; i++)
            data[i / IN / STEPS][i / IN % STEPS][i % IN] =
                i / IN % STEPS < lengths[i / IN / STEPS] ? number_of("x", i) : 1e6f;
        dt_tensor *other = floats(run, DT_SHAPE(BATCH, STEPS, IN), &data[0][0][0]);
        OK(dt_net_set(net, "x", other));
        dt_tensor_free(other);
    }
    dt_net_free(net);
    dt_run_close(run);
}

/* An encoder's last states begin a decoder, whose every output is compared. */
static void sequences_of_sequences(void **state) {
    (void)state;
    static const double want[TRAINED] = {0.245373242, 0.159812872, 0.089267650, 0.092283041, 0.137866241,
                                         0.152292445, 0.117897780, 0.084590266, 0.087423893, 0.109593890};
    dt_run *run = open_cpu();
    dt_net *net = make_net(run, "momentum", 0.2);
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(STEPS, IN));
    dt_var z = dt_input(net, "z", DT_DTYPE_F32, DT_SHAPE(STEPS, OUT));
    dt_var y = dt_input(net, "y", DT_DTYPE_F32, DT_SHAPE(STEPS, OUT));
    dt_recurrent_states end;
    dt_recurrent("lstm", x, DT_NO_VAR, (dt_recurrent_states){0}, &end,
                 (dt_recurrent_options){.hidden = 5, .layers = 2, .name = "encoder"});
    assert_int_equal(dt_var_shape(end.c).dim[0], 10);
    dt_var h = dt_recurrent("lstm", z, DT_NO_VAR, end, NULL,
                            (dt_recurrent_options){.hidden = 5, .layers = 2, .name = "decoder"});
    h = dt_gru(h, (dt_recurrent_options){.hidden = 4, .name = "gru"});
    h = dt_rnn(h, (dt_recurrent_options){.hidden = 6, .bidirectional = true, .name = "rnn"});
    assert_int_equal(dt_var_shape(h).dim[1], 12);
    dt_loss("mse", dt_dense(h, (dt_dense_options){.channels = OUT, .name = "head"}), y, (dt_loss_options){0});
    set_parameters(net);
    set_floats(net, run, "x", DT_SHAPE(BATCH, STEPS, IN));
    set_floats(net, run, "z", DT_SHAPE(BATCH, STEPS, OUT));
    set_floats(net, run, "y", DT_SHAPE(BATCH, STEPS, OUT));
    expect_losses(net, want);
    dt_net_free(net);
    dt_run_close(run);
}

/* Dropout lies between layers, and in training alone. */
static void dropout(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_net *net = make_net(run, "sgd", 0.1);
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(STEPS, IN));
    dt_var y = dt_input(net, "y", DT_DTYPE_F32, DT_SHAPE(4));
    dt_var h = dt_gru(x, (dt_recurrent_options){.hidden = 4, .layers = 2, .dropout = 0.5, .last = true});
    dt_expose(h, "h");
    dt_loss("mse", h, y, (dt_loss_options){0});
    set_parameters(net);
    set_floats(net, run, "x", DT_SHAPE(BATCH, STEPS, IN));
    set_floats(net, run, "y", DT_SHAPE(BATCH, 4));
    float seen[4][BATCH * 4];
    for (int i = 0; i < 4; i++) {
        dt_tensor *out;
        OK(dt_net_forward(net, i < 2 ? DT_TRAINING : DT_EVALUATION));
        OK(dt_net_output(net, "h", &out));
        memcpy(seen[i], dt_tensor_data(out), sizeof seen[i]);
        dt_tensor_free(out);
    }
    assert_memory_not_equal(seen[0], seen[2], sizeof seen[0]);
    assert_memory_equal(seen[2], seen[3], sizeof seen[2]);
    dt_net_free(net);
    dt_run_close(run);
}

static void refuse(dt_run *run, const char *type, dt_recurrent_options o, dt_shape row, const char *says) {
    dt_net *net = make_net(run, "sgd", 0.1);
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, row);
    const dt_var y = dt_recurrent(type, x, DT_NO_VAR, (dt_recurrent_states){0}, &(dt_recurrent_states){0}, o);
    assert_null(y.net);
    FAILS(DT_ERR_CONFIG, says, dt_net_status(net));
    dt_net_free(net);
}

static void refused(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    const dt_shape row = DT_SHAPE(STEPS, IN);
    refuse(run, "lstn", (dt_recurrent_options){.hidden = 3}, row, "none of lstm, gru and rnn");
    refuse(run, "gru", (dt_recurrent_options){0}, row, "gru1 (gru): hidden is required");
    refuse(run, "gru", (dt_recurrent_options){.hidden = 3, .layers = 33}, row, "layers = 33 is out of range");
    refuse(run, "rnn", (dt_recurrent_options){.hidden = 3, .function = 2}, row, "function");
    refuse(run, "lstm", (dt_recurrent_options){.hidden = 3, .dropout = 1}, row,
           "dropout = 1 is out of range");
    refuse(run, "lstm", (dt_recurrent_options){.hidden = 3}, DT_SHAPE(IN), "not a sequence");
    dt_net *net = make_net(run, "sgd", 0.1);
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, row), n = dt_input(net, "n", DT_DTYPE_F32, DT_SHAPE_SCALAR);
    dt_recurrent("lstm", x, n, (dt_recurrent_states){0}, NULL, (dt_recurrent_options){.hidden = 3});
    FAILS(DT_ERR_CONFIG, "i32", dt_net_status(net)); /* lengths are whole numbers */
    dt_net_free(net);
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_of_sequences),
        cmocka_unit_test(sequences_of_sequences),
        cmocka_unit_test(dropout),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
