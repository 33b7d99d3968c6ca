/* The built-in networks against torchvision's published figures and names, and [[model.layers]]: what it
 * builds and how its errors say where. */
#include <stdio.h>

#include "core/autodiff.h"
#include "core/axis.h"
#include "core/op.h"
#include "core/pass.h"
#include "test_model.h"

static const dt_model_input imagenet = {.batch = 1,
                                        .height = 224,
                                        .width = 224,
                                        .channels = 3,
                                        .padded_channels = 3,
                                        .classes = 1000,
                                        .stddev = {1, 1, 1, 1}};

static dt_graph *model(const char *keys, const dt_model_input *in, bool training) {
    dt_model_options c;
    dt_graph *g;
    char text[4096];
    snprintf(text, sizeof text, "[model]\n%s", keys);
    check_model_options(&c, text);
    check_ok(dt_model_build(&c, in, DT_DTYPE_F32, training, &g));
    check_ok(dt_graph_validate(g));
    dt_model_options_fini(&c);
    return g;
}

/* Multiply-adds of convolutions and dense layers, as the literature counts them. */
static double mul_adds(const dt_graph *g) {
    double sum = 0;
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == DT_OP_CONV || g->node[i].op == DT_OP_DENSE)
            sum += dt_op_flops(g, &g->node[i]) / 2;
    return sum / (double)dt_graph_rows(g);
}

static void test_sizes_are_torchvisions(void **state) {
    (void)state;
    static const struct {
        const char *keys;
        int64_t n_param;
        double gmac;
    } cases[] = {
        {"name = \"resnet18\"\n", 11689512, 1.814},
        {"name = \"resnet34\"\n", 21797672, 3.664},
        {"name = \"resnet50\"\n", 25557032, 4.089},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        dt_model_input in = imagenet;
        dt_graph *g = model(cases[k].keys, &in, true);
        assert_int_equal(dt_model_n_param(g), cases[k].n_param);
        if (!(fabs(mul_adds(g) / 1e9 - cases[k].gmac) < 0.0005))
            fail_msg("%s: %.4f GMAC", cases[k].keys, mul_adds(g) / 1e9);
        /* The rest (normalisation, pools, loss) is less than two in a hundred. */
        assert_true(dt_model_flops(g) > 2 * mul_adds(g) && dt_model_flops(g) < 2.04 * mul_adds(g));
        in.batch = 7; /* figures are a sample's */
        in.padded_channels = 4;
        dt_graph *wide = model(cases[k].keys, &in, true);
        assert_int_equal(dt_model_n_param(wide), cases[k].n_param);
        /* Padded channels compute too: one more in the stem of 112x112x64. */
        assert_true(fabs(mul_adds(wide) - mul_adds(g) - 112.0 * 112 * 64 * 49) < 1);
        dt_graph_destroy(wide);
        dt_graph_destroy(g);
    }
}

typedef struct expected_names {
    const dt_graph *g;
    int32_t n_param, n_state;
} expected_names;

static void expect(expected_names *e, dt_role role, const char *prefix, const char *name, int32_t ndim,
                   int64_t k, int64_t r, int64_t c) {
    char full[DT_NAME_MAX];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    dt_vid v = dt_graph_find(e->g, full);
    if (v < 0) fail_msg("there is no %s", full);
    const dt_value *val = &e->g->value[v];
    assert_int_equal(val->role, role);
    assert_int_equal(val->ndim, ndim);
    assert_int_equal(val->dim[0], k);
    if (ndim == 2) assert_int_equal(val->dim[1], c);
    if (ndim == 4) {
        assert_int_equal(val->dim[1], r);
        assert_int_equal(val->dim[2], r);
        assert_int_equal(val->dim[3], c);
    }
    e->n_param += role == DT_ROLE_PARAM;
    e->n_state += role == DT_ROLE_STATE;
}

/* A convolution without bias (torchvision's conv) and its normalisation. */
static void expect_conv_bn(expected_names *e, const char *prefix, const char *conv, const char *bn, int64_t k,
                           int64_t r, int64_t c) {
    static const struct {
        const char *suffix;
        dt_role role;
    } parts[] = {{".weight", DT_ROLE_PARAM},
                 {".bias", DT_ROLE_PARAM},
                 {".running_mean", DT_ROLE_STATE},
                 {".running_var", DT_ROLE_STATE}};
    char name[DT_NAME_MAX];
    snprintf(name, sizeof name, "%s.weight", conv);
    expect(e, DT_ROLE_PARAM, prefix, name, 4, k, r, c);
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", bn, parts[i].suffix);
        expect(e, parts[i].role, prefix, name, 1, k, 1, 1);
    }
}

/* The state dictionary of torchvision.models.resnet*, without num_batches_tracked. */
static void check_names(const char *keys, const int64_t *blocks, bool bottleneck) {
    dt_graph *g = model(keys, &imagenet, true);
    expected_names e = {.g = g};
    expect_conv_bn(&e, "", "conv1", "bn1", 64, 7, 3);
    int64_t c = 64;
    for (int64_t stage = 0; stage < 4; stage++)
        for (int64_t i = 0; i < blocks[stage]; i++) {
            char prefix[32];
            int64_t width = 64 << stage, k = width * (bottleneck ? 4 : 1);
            snprintf(prefix, sizeof prefix, "layer%lld.%lld.", (long long)stage + 1, (long long)i);
            expect_conv_bn(&e, prefix, "conv1", "bn1", width, bottleneck ? 1 : 3, c);
            expect_conv_bn(&e, prefix, "conv2", "bn2", width, 3, width);
            if (bottleneck) expect_conv_bn(&e, prefix, "conv3", "bn3", k, 1, width);
            if (i == 0 && (stage > 0 || bottleneck))
                expect_conv_bn(&e, prefix, "downsample.0", "downsample.1", k, 1, c);
            c = k;
        }
    expect(&e, DT_ROLE_PARAM, "", "fc.weight", 2, 1000, 1, c);
    expect(&e, DT_ROLE_PARAM, "", "fc.bias", 1, 1000, 1, 1);
    int32_t n_param = 0, n_state = 0;
    for (dt_vid v = 0; v < g->n_value; v++) {
        n_param += g->value[v].role == DT_ROLE_PARAM;
        n_state += g->value[v].role == DT_ROLE_STATE;
    }
    assert_int_equal(e.n_param, n_param); /* and no others */
    assert_int_equal(e.n_state, n_state);
    dt_graph_destroy(g);
}

static void test_names_are_torchvisions(void **state) {
    (void)state;
    check_names("name = \"resnet18\"\n", (int64_t[]){2, 2, 2, 2}, false);
    check_names("name = \"resnet34\"\n", (int64_t[]){3, 4, 6, 3}, false);
    check_names("name = \"resnet50\"\n", (int64_t[]){3, 4, 6, 3}, true);
}

static const dt_node *node_named(const dt_graph *g, const char *name) {
    dt_vid v = dt_graph_find(g, name);
    if (v < 0) fail_msg("there is no %s", name);
    return &g->node[g->value[v].producer];
}

static void test_resnet_options(void **state) {
    (void)state;
    dt_graph *g = model("name = \"resnet50\"\nzero_init_residual = false\n", &imagenet, true);
    const dt_node *strided = node_named(g, "layer2.0.conv2");
    assert_int_equal(strided->attr.window.stride[0], 2); /* v1.5: in the 3x3 */
    assert_int_equal(node_named(g, "layer2.0.conv1")->attr.window.stride[0], 1);
    assert_int_equal(g->value[dt_graph_find(g, "layer1.0.bn3.weight")].init, DT_INIT_ONE);
    assert_string_equal(dt_value_shape_text(&g->value[dt_graph_output(g, "logits")]), "1x1000 f32");
    check_ok(dt_pass_fuse_bn_act(g));
    const dt_node *last = node_named(g, "layer4.2.bn3"); /* conv, add and relu in one */
    assert_true(last->op == DT_OP_BATCHNORM && last->attr.norm.relu && dt_node_has(last, DT_BN_IN_RES));
    for (dt_nid i = 0; i < g->n_node; i++)
        assert_true(g->node[i].op != DT_OP_UNARY && g->node[i].op != DT_OP_BINARY);
    dt_graph_destroy(g);

    dt_model_input cifar = imagenet;
    cifar.height = cifar.width = 32, cifar.classes = 10;
    g = model("name = \"resnet18\"\nsmall_stem = true\nzero_init_residual = true\n", &cifar, true);
    assert_int_equal(node_named(g, "conv1")->attr.window.kernel[0], 3);
    assert_int_equal(node_named(g, "conv1")->attr.window.stride[0], 1);
    assert_int_equal(dt_graph_find(g, "maxpool"), -1);
    assert_int_equal(dt_model_n_param(g), 11173962); /* the usual CIFAR ResNet-18 */
    assert_int_equal(g->value[dt_graph_find(g, "layer1.0.bn2.weight")].init, DT_INIT_ZERO);
    assert_int_equal(g->value[dt_graph_find(g, "layer1.0.bn1.weight")].init, DT_INIT_ONE);
    dt_graph_destroy(g);
}

static void test_print(void **state) {
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    dt_graph *g = model("name = \"resnet18\"\n", &imagenet, false);
    dt_model_print(g, out);
    assert_int_equal(fclose(out), 0);
    static const char *const says[] = {"layer4.1.conv2", "batchnorm ", "add ",    "relu ",
                                       "1x7x7x512 f32",  "2359296",    "11689512"};
    for (size_t k = 0; k < sizeof says / sizeof says[0]; k++)
        if (!strstr(text, says[k])) fail_msg("the summary does not say %s:\n%s", says[k], text);
    free(text);
    dt_graph_destroy(g);
}

static void test_layers(void **state) {
    (void)state;
    dt_model_input in = {.batch = 2,
                         .height = 9,
                         .width = 9,
                         .channels = 1,
                         .padded_channels = 1,
                         .classes = 4,
                         .stddev = {1}};
    static const char layers[] = "name = \"layers\"\n"
                                 "[[model.layers]]\ntype = \"conv\"\nname = \"a\"\nchannels = 6\n"
                                 "[[model.layers]]\ntype = \"relu\"\n"
                                 "[[model.layers]]\ntype = \"conv\"\nchannels = 6\ndilation = 2\ngroups = 3\n"
                                 "[[model.layers]]\ntype = \"add\"\nwith = \"a\"\n"
                                 "[[model.layers]]\ntype = \"dropout\"\nrate = 0.25\n"
                                 "[[model.layers]]\ntype = \"maxpool\"\n"
                                 "[[model.layers]]\ntype = \"avgpool\"\nkernel = 3\nstride = 1\npad = -1\n"
                                 "[[model.layers]]\ntype = \"flatten\"\n"
                                 "[[model.layers]]\ntype = \"dense\"\nchannels = 4\nbias = false\n";
    dt_graph *g = model(layers, &in, true), *eval = model(layers, &in, false);
    assert_string_equal(dt_value_shape_text(&g->value[dt_graph_find(g, "a")]), "2x9x9x6 f32");
    const dt_node *conv = node_named(g, "layer3");
    assert_int_equal(conv->attr.window.pad_begin[0], 2); /* keeps the size */
    assert_int_equal(conv->attr.window.groups, 3);
    assert_string_equal(dt_value_shape_text(&g->value[conv->out[0]]), "2x9x9x6 f32");
    const dt_node *add = node_named(g, "layer4");
    assert_int_equal(add->in[0], conv->out[0]);
    assert_int_equal(add->in[1], dt_graph_find(g, "a"));
    assert_string_equal(dt_value_shape_text(&g->value[dt_graph_find(g, "layer6")]), "2x4x4x6 f32");
    assert_string_equal(dt_value_shape_text(&g->value[dt_graph_find(g, "layer7")]), "2x4x4x6 f32");
    assert_true(node_named(g, "layer5")->attr.dropout.p == 0.25f);
    assert_int_equal(dt_graph_find(eval, "layer5"), -1); /* nothing is dropped in evaluation */
    assert_int_equal(dt_model_n_param(g), 6 * 9 + 6 + 6 * 9 * 2 + 6 + 4 * 96);
    assert_int_equal(dt_model_n_param(eval), dt_model_n_param(g));
    dt_graph_destroy(g), dt_graph_destroy(eval);
}

/* Channels that only pad the image are for convolutions of one group: to any other layer that reads the image
 * they would be inputs of their own, and the model another one. */
static void test_padding(void **state) {
    (void)state;
    static const char head[] = "[[model.layers]]\ntype = \"flatten\"\n"
                               "[[model.layers]]\ntype = \"dense\"\nchannels = 4\n",
                      conv[] = "[[model.layers]]\ntype = \"conv\"\nchannels = 3\n",
                      groups[] = "[[model.layers]]\ntype = \"conv\"\nchannels = 6\ngroups = 3\n",
                      norm[] = "[[model.layers]]\ntype = \"batchnorm\"\n",
                      pool[] = "[[model.layers]]\ntype = \"maxpool\"\n",
                      drop[] = "[[model.layers]]\ntype = \"dropout\"\n",
                      add[] = "[[model.layers]]\ntype = \"add\"\nwith = \"input\"\n";
    const struct {
        const char *layer[2];
        bool pads;
    } cases[] = {{{conv, ""}, true},    {{conv, norm}, true},  {{"", ""}, false},    {{groups, ""}, false},
                 {{norm, conv}, false}, {{pool, conv}, false}, {{conv, add}, false}, {{drop, conv}, false}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char keys[512];
        snprintf(keys, sizeof keys, "name = \"layers\"\n%s%s%s", cases[k].layer[0], cases[k].layer[1], head);
        dt_model_input in = {
            .batch = 2, .height = 8, .width = 8, .channels = 3, .padded_channels = 3, .classes = 4};
        for (int i = 0; i < 4; i++) in.stddev[i] = 1;
        dt_graph *plain = model(keys, &in, true);
        in.padded_channels = 4;
        dt_graph *padded = model(keys, &in, true), *eval = model(keys, &in, false);
        assert_int_equal(dt_model_n_param(padded), dt_model_n_param(plain));
        assert_int_equal(eval->value[dt_graph_find(eval, "input")].dim[3], cases[k].pads ? 4 : 3);
        dt_graph_destroy(eval);
        assert_int_equal(padded->value[dt_graph_find(padded, "input")].dim[3], cases[k].pads ? 4 : 3);
        for (int32_t v = 0; v < plain->n_value && !cases[k].pads; v++)
            assert_int_equal(dt_value_n_elem(&padded->value[v]), dt_value_n_elem(&plain->value[v]));
        dt_graph_destroy(plain), dt_graph_destroy(padded);
    }
}

/* Parts are read by their names: a gated layer. */
static void test_split(void **state) {
    (void)state;
    const dt_model_input in = {.batch = 2,
                               .height = 4,
                               .width = 4,
                               .channels = 1,
                               .padded_channels = 1,
                               .classes = 3,
                               .stddev = {1}};
    dt_graph *g = model("name = \"layers\"\n"
                        "[[model.layers]]\ntype = \"dense\"\nchannels = 12\n"
                        "[[model.layers]]\ntype = \"split\"\nname = \"s\"\nsizes = [5, 5, 2]\n"
                        "[[model.layers]]\ntype = \"sigmoid\"\nfrom = \"s.1\"\n"
                        "[[model.layers]]\ntype = \"mul\"\nwith = \"s.0\"\n"
                        "[[model.layers]]\ntype = \"dense\"\nchannels = 3\n",
                        &in, true);
    const dt_node *mul = node_named(g, "layer4");
    assert_string_equal(dt_value_shape_text(&g->value[mul->in[0]]), "2x5 f32");
    assert_int_equal(mul->in[1], dt_graph_find(g, "s.0"));
    assert_int_equal(node_named(g, "layer3")->in[0], dt_graph_find(g, "s.1"));
    assert_int_equal(node_named(g, "s.2")->attr.shape.begin, 10);
    check_ok(dt_autodiff(g));
    dt_graph_destroy(g);
}

/* Errors that only shapes reveal: file, line of the layer, its name and type, and the cause. */
static void test_layer_errors(void **state) {
    (void)state;
    static const struct {
        const char *layers, *where, *cause;
    } cases[] = {
        {"\n[[model.layers]]\ntype = \"flatten\"\n[[model.layers]]\ntype = \"conv\"\nname = \"c\"\nchannels "
         "= 8\n",
         "test.toml:6: c (conv)", "not an image"},
        {"[[model.layers]]\ntype = \"conv\"\nchannels = 5\ngroups = 2\n", "test.toml:3: layer1 (conv)",
         "groups"},
        {"[[model.layers]]\ntype = \"conv\"\nchannels = 4\nkernel = 11\npad = 0\n",
         "test.toml:3: layer1 (conv)", "does not fit"},
        {"[[model.layers]]\ntype = \"conv\"\nchannels = 4\nstride = 2\n[[model.layers]]\ntype = \"add\"\n"
         "name = \"sum\"\nwith = \"input\"\n",
         "test.toml:7: sum (add)", "input is 2x9x9x2 f32"},
        {"[[model.layers]]\ntype = \"global_avgpool\"\n[[model.layers]]\ntype = \"maxpool\"\n",
         "test.toml:5: layer2 (maxpool)", "not an image"},
        {"[[model.layers]]\ntype = \"maxpool\"\nkernel = 20\n", "test.toml:3: layer1 (maxpool)",
         "does not fit"},
        {"[[model.layers]]\ntype = \"flatten\"\n[[model.layers]]\ntype = \"dense\"\nchannels = 7\n",
         "test.toml", "expected 4 logits"},
        {"[[model.layers]]\ntype = \"relu\"\n", "test.toml", "end with a dense layer"},
        {"[[model.layers]]\ntype = \"split\"\nname = \"s\"\n[[model.layers]]\ntype = \"relu\"\n",
         "test.toml:6", "name one of them in from or with, as s.0"},
        {"[[model.layers]]\ntype = \"split\"\nname = \"s\"\n[[model.layers]]\ntype = \"relu\"\nfrom = "
         "\"s\"\n",
         "test.toml:6", "which is parts"},
        {"[[model.layers]]\ntype = \"split\"\nname = \"s\"\n[[model.layers]]\ntype = \"relu\"\nfrom = "
         "\"s.2\"\n",
         "test.toml:6", "is named \"s.2\""},
        {"[[model.layers]]\ntype = \"relu\"\nfrom = \"label\"\n", "test.toml:3: model.layers[0].from",
         "\"label\" is the target, which the network is to give and may not read"},
        {"[[model.layers]]\ntype = \"add\"\nwith = \"label\"\n", "test.toml:3: model.layers[0].with",
         "is the target"},
        {"[[model.layers]]\ntype = \"flatten\"\n[[model.layers]]\ntype = \"split\"\n", "test.toml:5",
         "gives parts"},
        {"[[model.layers]]\ntype = \"split\"\nname = \"s\"\n"
         "[[model.layers]]\ntype = \"dense\"\nchannels = 4\nfrom = \"input\"\n",
         "test.toml:3", "no loss depends on \"s\""},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        dt_model_options c;
        dt_graph *g = NULL;
        char text[1024];
        snprintf(text, sizeof text, "[model]\nname = \"layers\"\n%s", cases[k].layers);
        check_model_options(&c, text);
        dt_model_input in = {.batch = 2,
                             .height = 9,
                             .width = 9,
                             .channels = 2,
                             .padded_channels = 2,
                             .classes = 4,
                             .stddev = {1, 1}};
        dt_status st = dt_model_build(&c, &in, DT_DTYPE_F32, true, &g);
        if (st == DT_OK) fail_msg("accepted: %s", text);
        CHECK_ERROR(st, DT_ERR_CONFIG, cases[k].where, cases[k].cause);
        assert_null(g);
        dt_model_options_fini(&c);
    }
}

/* Recurrent layers over the data's fields: lengths are whole numbers, states are not. */
static void test_sequences(void **state) {
    (void)state;
    static const dt_field fields[] = {{.name = "x", .dtype = DT_DTYPE_F32, .ndim = 2, .dim = {5, 3}},
                                      {.name = "h", .dtype = DT_DTYPE_F32, .ndim = 1, .dim = {6}},
                                      {.name = "n", .dtype = DT_DTYPE_I64},
                                      {.name = "label", .dtype = DT_DTYPE_I32}};
    const dt_model_input in = {.batch = 4, .classes = 7, .field = fields, .n_field = 4};
    static const char layers[] =
        "name = \"layers\"\n"
        "[[model.layers]]\ntype = \"lstm\"\nname = \"a\"\nhidden = 4\nbidirectional = true\n"
        "with = \"n\"\nlayers = 2\ndropout = 0.1\n"
        "[[model.layers]]\ntype = \"rnn\"\nname = \"b\"\nhidden = 6\nwith = [\"n\", \"h\"]\n"
        "nonlinearity = \"relu\"\n"
        "[[model.layers]]\ntype = \"gru\"\nname = \"c\"\nhidden = 6\nwith = \"h\"\nlast = true\n"
        "bias = false\n"
        "[[model.layers]]\ntype = \"dense\"\nchannels = 7\n";
    dt_graph *g = model(layers, &in, true), *eval = model(layers, &in, false);
    assert_string_equal(dt_value_shape_text(&g->value[dt_graph_find(g, "a")]), "4x5x8 f32");
    assert_string_equal(dt_value_shape_text(&g->value[dt_graph_find(g, "a.weight_ih_l1_reverse")]),
                        "16x8 f32");
    assert_true(g->value[dt_graph_find(g, "a.bias_hh_l0")].init == DT_INIT_UNIFORM_FAN_IN);
    assert_int_equal(g->value[dt_graph_find(g, "a.weight_ih_l0")].fan_in, 4); /* hidden, whatever C is */
    assert_true(g->value[dt_graph_find(g, "a.weight_hh_l0")].decay &&
                !g->value[dt_graph_find(g, "b.bias_ih_l0")].decay);
    const dt_node *b = node_named(g, "b"), *c = node_named(g, "c");
    assert_true(b->attr.recurrent.kind == DT_RNN_RELU && c->attr.recurrent.kind == DT_GRU);
    assert_string_equal(dt_op_name(b), "rnn_relu");
    assert_string_equal(dt_value_shape_text(&g->value[b->in[DT_RNN_IN_LENGTHS]]), "4 i32");
    assert_int_equal(b->in[DT_RNN_IN_H0], dt_graph_find(g, "h"));
    assert_true(c->in[DT_RNN_IN_LENGTHS] < 0 && c->in[DT_RNN_IN_B] < 0 && c->out[DT_RNN_OUT_ACT] >= 0);
    assert_true(node_named(eval, "c")->out[DT_RNN_OUT_ACT] < 0);
    assert_int_equal(dt_model_n_param(g),
                     2 * 16 * (3 + 4 + 2) + 2 * 16 * (8 + 4 + 2) + 6 * (8 + 6 + 2) + 18 * 12 + 49);
    assert_int_equal(dt_model_n_param(eval), dt_model_n_param(g));
    check_ok(dt_autodiff(g));
    dt_graph_destroy(g), dt_graph_destroy(eval);

    static const struct {
        const char *keys, *cause;
    } wrong[] = {
        {"type = \"lstm\"\nhidden = 4\nwith = [\"h\", \"n\"]\n", "lengths, of whole numbers, come first"},
        {"type = \"gru\"\nhidden = 4\nwith = \"h\"\n", "expected 4 numbers a row"},
        {"type = \"lstm\"\nfrom = \"h\"\nhidden = 4\n", "its input, h, is 4x6 f32, not a sequence"}};
    for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
        dt_model_options o;
        char text[1024];
        snprintf(text, sizeof text, "[model]\nname = \"layers\"\n[[model.layers]]\n%s%s", wrong[k].keys,
                 "[[model.layers]]\ntype = \"dense\"\nchannels = 7\n");
        check_model_options(&o, text);
        const dt_status st = dt_model_build(&o, &in, DT_DTYPE_F32, true, &g);
        CHECK_ERROR(st, DT_ERR_CONFIG, "test.toml:3: layer1", wrong[k].cause);
        dt_model_options_fini(&o);
    }
}

static void test_unknown_model(void **state) {
    (void)state;
    dt_model_options c;
    dt_graph *g = NULL;
    check_model_options(&c, "[model]\nname = \"quickstart\"\n");
    strcpy(c.name, "resnet19");
    CHECK_ERROR(dt_model_build(&c, &imagenet, DT_DTYPE_F32, true, &g), DT_ERR_CONFIG, "no model \"resnet19\"",
                "did you mean \"resnet18\"?");
    assert_null(g);
    dt_model_options_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_are_torchvisions),
        cmocka_unit_test(test_names_are_torchvisions),
        cmocka_unit_test(test_resnet_options),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_layer_errors),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_unknown_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
