/* Attention from C: who sees whom, told by what changes which results; training; what is refused. */
#include "api_test.h"

enum { BATCH = 3, STEPS = 6, OTHER = 5, WIDE = 8 };

static void set(dt_net *net, dt_run *run, const char *name, dt_dtype dtype, dt_shape shape,
                const void *data) {
    dt_tensor *t;
    OK(dt_tensor_from(run, dtype, shape, data, &t));
    OK(dt_net_set(net, name, t));
    dt_tensor_free(t);
}

/* The net of one attention layer on x, a context where asked for, lengths and segments. */
typedef struct model {
    dt_run *run;
    dt_net *net;
    float x[BATCH][STEPS][WIDE], other[BATCH][OTHER][WIDE];
    int32_t lengths[BATCH], segments[BATCH][STEPS];
} model;

static model make(bool context, bool lengths, bool segments, dt_attention_options o) {
    model m = {.run = open_cpu(), .lengths = {STEPS, 2, 4}};
    OK(dt_net_create(m.run, (dt_net_options){.batch = BATCH, .optimizer = {.name = "adam", .lr = 0.02}},
                     &m.net));
    dt_var x = dt_input(m.net, "x", DT_DTYPE_F32, DT_SHAPE(STEPS, WIDE));
    dt_attention_inputs in = {0};
    if (context) in.context = dt_input(m.net, "other", DT_DTYPE_F32, DT_SHAPE(OTHER, WIDE));
    if (lengths) in.lengths = dt_input(m.net, "lengths", DT_DTYPE_I32, DT_SHAPE_SCALAR);
    if (segments) in.segments = dt_input(m.net, "segments", DT_DTYPE_I32, DT_SHAPE(STEPS));
    dt_var y = dt_attention_of(x, in, o);
    dt_expose(y, "y");
    dt_loss("mse", y, dt_input(m.net, "target", DT_DTYPE_F32, DT_SHAPE(STEPS, WIDE)), (dt_loss_options){0});
    OK(dt_net_compile(m.net));
    for (int i = 0; i < BATCH * STEPS * WIDE; i++) (&m.x[0][0][0])[i] = (float)sin(0.7 * i);
    for (int i = 0; i < BATCH * OTHER * WIDE; i++) (&m.other[0][0][0])[i] = (float)cos(1.3 * i);
    for (int i = 0; i < BATCH * STEPS; i++) m.segments[i / STEPS][i % STEPS] = i % STEPS / 3;
    set(m.net, m.run, "target", DT_DTYPE_F32, DT_SHAPE(BATCH, STEPS, WIDE), m.x);
    if (lengths) set(m.net, m.run, "lengths", DT_DTYPE_I32, DT_SHAPE(BATCH), m.lengths);
    if (segments) set(m.net, m.run, "segments", DT_DTYPE_I32, DT_SHAPE(BATCH, STEPS), m.segments);
    return m;
}

static void results(model *m, bool context, float y[BATCH][STEPS][WIDE]) {
    dt_tensor *t;
    set(m->net, m->run, "x", DT_DTYPE_F32, DT_SHAPE(BATCH, STEPS, WIDE), m->x);
    if (context) set(m->net, m->run, "other", DT_DTYPE_F32, DT_SHAPE(BATCH, OTHER, WIDE), m->other);
    OK(dt_net_forward(m->net, DT_EVALUATION));
    OK(dt_net_output(m->net, "y", &t));
    OK(dt_tensor_read(t, y, (int64_t)sizeof(float[BATCH][STEPS][WIDE])));
    dt_tensor_free(t);
}

static void close_model(model *m) {
    dt_net_free(m->net);
    dt_run_close(m->run);
}

/* Row 0: step `changed` of x moves; which steps of y do is told by a string of 0 and 1. */
static void expect_moved(model *m, int changed, const char *moved) {
    float before[BATCH][STEPS][WIDE], after[BATCH][STEPS][WIDE];
    results(m, false, before);
    m->x[0][changed][1] += 1;
    results(m, false, after);
    m->x[0][changed][1] -= 1;
    for (int t = 0; t < STEPS; t++) {
        const bool same = memcmp(before[0][t], after[0][t], sizeof before[0][t]) == 0;
        if (same == (moved[t] == '1')) fail_msg("step %d moves step %d: %d", changed, t, !same);
    }
    assert_memory_equal(before[1], after[1], sizeof before[1]);
}

static void who_sees_whom(void **state) {
    (void)state;
    model m = make(false, false, false, (dt_attention_options){.heads = 2, .causal = true});
    expect_moved(&m, 2, "001111");
    close_model(&m);
    m = make(false, false, false, (dt_attention_options){.heads = 2, .causal = true, .window = 2});
    expect_moved(&m, 2, "001100");
    close_model(&m);
    m = make(false, false, false, (dt_attention_options){.heads = 4, .kv_heads = 2, .window = 2});
    expect_moved(&m, 2, "011100");
    close_model(&m);
    m = make(false, false, true, (dt_attention_options){.heads = 2});
    expect_moved(&m, 4, "000111");
    close_model(&m);
}

/* Past a row's end nothing is read; without a context the results there are those of zeros. */
static void lengths_end_rows(void **state) {
    (void)state;
    for (int context = 0; context < 2; context++) {
        model m = make(context, true, false, (dt_attention_options){.heads = 2});
        float before[BATCH][STEPS][WIDE], after[BATCH][STEPS][WIDE];
        results(&m, context, before);
        for (int i = 0; i < WIDE; i++) {
            if (context)
                m.other[1][3][i] = (float)NAN;
            else
                m.x[1][3][i] = (float)NAN;
        }
        results(&m, context, after);
        assert_memory_equal(before, after, sizeof before);
        if (!context) assert_memory_equal(before[1][2], before[2][5], sizeof before[1][2]);
        close_model(&m);
    }
}

static void training_learns(void **state) {
    (void)state;
    model m = make(true, true, false, (dt_attention_options){.heads = 2, .dropout = 0.1, .qk_norm = true});
    double first, last = 0;
    float y[BATCH][STEPS][WIDE];
    results(&m, true, y);
    OK(dt_net_step(m.net));
    OK(dt_net_metric(m.net, "loss", &first));
    for (int i = 0; i < 60; i++) OK(dt_net_step(m.net));
    OK(dt_net_metric(m.net, "loss", &last));
    assert_true(last < 0.8 * first);
    close_model(&m);
}

static void refusals(void **state) {
    (void)state;
    dt_run *run = open_cpu();
    dt_net *net;
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));
    dt_var flat = dt_input(net, "flat", DT_DTYPE_F32, DT_SHAPE(WIDE));
    dt_attention(flat, (dt_attention_options){.heads = 2});
    assert_int_equal(dt_net_status(net), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "attention1 (attention): its input is 2x8 f32, not a sequence"));
    dt_net_free(net);
    OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));
    dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(STEPS, WIDE)),
           other = dt_input(net, "other", DT_DTYPE_F32, DT_SHAPE(OTHER, WIDE)),
           segments = dt_input(net, "segments", DT_DTYPE_I32, DT_SHAPE(STEPS));
    dt_attention_of(x, (dt_attention_inputs){.context = other, .segments = segments},
                    (dt_attention_options){.heads = 2});
    assert_int_equal(dt_net_status(net), DT_ERR_CONFIG);
    assert_non_null(strstr(dt_error_text(), "they are of one sequence"));
    dt_net_free(net);
    /* Each in its own field, whatever else it might be. */
    static const char *const why[] = {"lengths", "segments", "context"};
    for (int i = 0; i < 3; i++) {
        OK(dt_net_create(run, (dt_net_options){.batch = 2}, &net));
        x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(STEPS, WIDE));
        const dt_var of_steps = dt_input(net, "of_steps", DT_DTYPE_I32, DT_SHAPE(STEPS)),
                     of_rows = dt_input(net, "of_rows", DT_DTYPE_I32, DT_SHAPE_SCALAR);
        dt_attention_inputs in = {0};
        if (i == 0) in.lengths = of_steps;
        if (i == 1) in.segments = of_rows;
        if (i == 2) in.context = of_rows;
        dt_attention_of(x, in, (dt_attention_options){.heads = 2});
        FAILS(DT_ERR_CONFIG, why[i], dt_net_status(net));
        dt_net_free(net);
    }
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_sees_whom),
        cmocka_unit_test(lengths_end_rows),
        cmocka_unit_test(training_learns),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
