/* Built-in networks in a program: added by name, trained, and refused where they do not fit. */
#include "api_test.h"

enum { BATCH = 4, SIDE = 32, CLASSES = 3 };

static dt_net *make(dt_run *run, const char *name, dt_model_add_options o) {
    dt_net *net;
    OK(dt_net_create(run, (dt_net_options){.batch = BATCH, .optimizer = {.name = "adam", .lr = 1e-3}}, &net));
    dt_var x = dt_image_input(net, "image", (dt_image_options){.height = SIDE, .width = SIDE, .channels = 3});
    dt_var y = dt_model(name, x, o);
    dt_loss("cross_entropy", y, dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR), (dt_loss_options){0});
    return net;
}

static void set(dt_net *net, dt_run *run, const char *name, dt_dtype dtype, dt_shape shape,
                const void *data) {
    dt_tensor *t;
    OK(dt_tensor_from(run, dtype, shape, data, &t));
    OK(dt_net_set(net, name, t));
    dt_tensor_free(t);
}

/* What the classic framework's build_resnet50 and its kin stand for: the loss of one batch falls. */
static void test_networks_learn(void **state) {
    (void)state;
    static const struct {
        const char *name, *parameter;
        dt_model_add_options o;
        int64_t n_elem; /* of it */
    } rows[] = {
        {"resnet50", "layer4.2.conv3.weight", {.outputs = CLASSES, .small_stem = true}, 2048 * 512},
        {"efficientnet_b0", "features.1.0.block.1.fc1.weight", {.outputs = CLASSES, .dropout = -1}, 8 * 32},
        {"vit_tiny_patch8",
         "blocks.0.attn.qkv.weight",
         {.outputs = CLASSES, .drop_path = 0.1},
         3 * 192 * 192},
        {"vit_tiny_patch16", "pos_embed", {.outputs = CLASSES, .mean_pool = true}, 4 * 192},
        {"deit_tiny", "pos_embed", {.outputs = CLASSES, .patch = 8}, 17 * 192},
        {"mlp", "3.weight", {.outputs = CLASSES, .widths = {20, 10}}, 10 * 20},
    };
    dt_run *run = open_cpu();
    uint8_t image[BATCH][SIDE * SIDE * 3];
    const int32_t label[BATCH] = {0, 1, 2, 1};
    for (int i = 0; i < BATCH; i++)
        for (int k = 0; k < SIDE * SIDE * 3; k++)
            image[i][k] = (uint8_t)((k * (label[i] + 3) + 40 * label[i]) % 251);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        dt_net *net = make(run, rows[r].name, rows[r].o);
        dt_tensor *t;
        double first = 0, last = 0;
        OK(dt_net_compile(net));
        OK(dt_net_parameter(net, rows[r].parameter, &t));
        assert_int_equal(dt_tensor_n_elem(t), rows[r].n_elem);
        dt_tensor_free(t);
        set(net, run, "image", DT_DTYPE_U8, DT_SHAPE(BATCH, SIDE, SIDE, 3), image);
        set(net, run, "label", DT_DTYPE_I32, DT_SHAPE(BATCH), label);
        for (int step = 0; step < 4; step++) {
            OK(dt_net_step(net));
            OK(dt_net_metric(net, "loss", &last));
            if (step == 0) first = last;
        }
        if (!(last < first)) fail_msg("%s: the loss went from %g to %g", rows[r].name, first, last);
        dt_net_free(net);
    }
    dt_run_close(run);
}

/* A network in a file begins as it is there, and its loss falls. */
static void test_file_learns(void **state) {
    (void)state;
    enum { H = 17, W = 19, C = 3, OUT = 5 };
    static const char path[] = DT_SOURCE_DIR "/tests/golden/onnx/nets/images/model.onnx";
    static float rows[BATCH][H][W][C], planes[BATCH][C][H][W];
    float want[BATCH * OUT], got[BATCH * OUT];
    const int32_t label[BATCH] = {0, 1, 2, 1};
    dt_run *run = open_cpu();
    dt_netfile *file;
    dt_tensor *in, *out;
    for (int i = 0; i < BATCH; i++)
        for (int h = 0; h < H; h++)
            for (int w = 0; w < W; w++)
                for (int c = 0; c < C; c++)
                    planes[i][c][h][w] = rows[i][h][w][c] = (float)((i * 7 + h * w + 3 * c) % 11) / 5 - 1;
    OK(dt_netfile_open(run, path, &file));
    OK(dt_tensor_from(run, DT_DTYPE_F32, DT_SHAPE(BATCH, C, H, W), planes, &in));
    OK(dt_netfile_run(file, &in, &out));
    OK(dt_tensor_read(out, want, sizeof want));
    dt_tensor_free(in), dt_tensor_free(out), dt_netfile_free(file);
    for (int head = 0; head < 2; head++) {
        const int classes = head ? CLASSES : OUT;
        dt_net *net;
        double first = 0, last = 0;
        OK(dt_net_create(run, (dt_net_options){.batch = BATCH, .optimizer = {.name = "adam", .lr = 1e-2}},
                         &net));
        dt_var x = dt_input(net, "x", DT_DTYPE_F32, DT_SHAPE(H, W, C));
        dt_var y = dt_model("file", x,
                            (dt_model_add_options){.outputs = classes, .path = path, .new_head = head == 1});
        dt_expose(y, "y");
        dt_loss("cross_entropy", y, dt_input(net, "label", DT_DTYPE_I32, DT_SHAPE_SCALAR),
                (dt_loss_options){0});
        OK(dt_net_compile(net));
        set(net, run, "x", DT_DTYPE_F32, DT_SHAPE(BATCH, H, W, C), rows);
        set(net, run, "label", DT_DTYPE_I32, DT_SHAPE(BATCH), label);
        OK(dt_net_forward(net, DT_EVALUATION));
        OK(dt_net_output(net, "y", &out));
        OK(dt_tensor_read(out, got, (int64_t)sizeof(float) * BATCH * classes));
        dt_tensor_free(out);
        for (int i = 0; i < BATCH * OUT && !head; i++) assert_true(fabsf(got[i] - want[i]) < 1e-4f);
        for (int step = 0; step < 10; step++) {
            OK(dt_net_step(net));
            OK(dt_net_metric(net, "loss", &last));
            if (step == 0) first = last;
        }
        if (!(last < first)) fail_msg("the loss went from %g to %g", first, last);
        dt_net_free(net);
    }
    dt_run_close(run);
}

/* Networks of text, with a batch that is not full: what no row was set for reaches no table and no loss. */
static void test_networks_of_text(void **state) {
    (void)state;
    enum { STEPS = 6, WORDS = 11 };
    static const struct {
        const char *name;
        bool classes;
    } rows[] = {{"lstm_lm", false}, {"llama_15m", false}, {"lstm_classifier", true}, {"bert_tiny", true}};
    const int32_t tokens[BATCH - 1][STEPS] = {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 0, 1}, {3, 3, 3, 3, 3, 3}};
    dt_run *run = open_cpu();
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        dt_net *net;
        double loss;
        OK(dt_net_create(run, (dt_net_options){.batch = BATCH}, &net));
        const dt_shape places = rows[r].classes ? DT_SHAPE_SCALAR : DT_SHAPE(STEPS);
        const dt_var x = dt_input(net, "tokens", DT_DTYPE_I32, DT_SHAPE(STEPS)),
                     y = dt_input(net, "next", DT_DTYPE_I32, places);
        const dt_model_add_options o = {.outputs = rows[r].classes ? CLASSES : WORDS,
                                        .vocab = rows[r].classes ? WORDS : 0};
        dt_loss("cross_entropy", dt_model(rows[r].name, x, o), y, (dt_loss_options){0});
        OK(dt_net_compile(net));
        set(net, run, "tokens", DT_DTYPE_I32, DT_SHAPE(BATCH - 1, STEPS), tokens);
        if (rows[r].classes)
            set(net, run, "next", DT_DTYPE_I32, DT_SHAPE(BATCH - 1), (const int32_t[]){0, 1, 2});
        else
            set(net, run, "next", DT_DTYPE_I32, DT_SHAPE(BATCH - 1, STEPS), tokens);
        OK(dt_net_forward(net, DT_EVALUATION));
        OK(dt_net_metric(net, "loss", &loss));
        assert_true(loss > 0.5 && loss < 6);
        dt_net_free(net);
    }
    dt_run_close(run);
}

static void test_what_does_not_fit_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        dt_model_add_options o;
        const char *why;
    } rows[] = {
        {"resnet51", {.outputs = CLASSES}, "no model \"resnet51\"; did you mean \"resnet50\"?"},
        {NULL, {.outputs = CLASSES}, "no model \"\""},
        {"layers", {.outputs = CLASSES}, "no network by itself"},
        {"resnet18", {.outputs = 0}, "0 outputs"},
        {"resnet18", {.outputs = -3}, "outputs is -3"},
        {"resnet18", {.outputs = CLASSES, .dropout = 0.1}, "resnet18 has no dropout"},
        {"mobilenet_v2", {.outputs = CLASSES, .drop_path = 0.1}, "mobilenet_v2 has no drop_path"},
        {"vit_b_16", {.outputs = CLASSES, .dropout = 1}, "dropout is 1"},
        {"vit_tiny_patch14", {.outputs = CLASSES}, "not whole patches of 14"},
        {"convnext_tiny", {.outputs = CLASSES, .patch = 8}, "convnext_tiny has no patch"},
        {"mlp", {.outputs = CLASSES, .widths = {-1}}, "widths is -1"},
        {"gpt2", {.outputs = CLASSES}, "it reads tokens"},
        {"mlp", {.outputs = CLASSES, .widths = {8, 0, 4}}, "widths[2] stands behind one of 0"},
        {"resnet18", {.outputs = CLASSES, .vocab = 9}, "resnet18 has no vocab"},
    };
    dt_run *run = open_cpu();
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        dt_net *net = make(run, rows[r].name, rows[r].o);
        if (dt_net_status(net) == DT_OK) fail_msg("accepted: %s", rows[r].why);
        if (!strstr(dt_error_text(), rows[r].why))
            fail_msg("\"%s\" does not say \"%s\"", dt_error_text(), rows[r].why);
        dt_net_free(net);
    }
    dt_run_close(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks_learn),
        cmocka_unit_test(test_file_learns),
        cmocka_unit_test(test_networks_of_text),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
