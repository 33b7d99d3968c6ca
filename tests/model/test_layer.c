/* The table of layer types from C: every row is whole and builds, zeros mean what is documented, and what a
 * program may get wrong is refused with the layer's name. */
#include "core/op.h"
#include "model/layer.h"

#include "test_check.h"

static const dt_model_input input = {.batch = 2,
                                     .height = 8,
                                     .width = 8,
                                     .channels = 3,
                                     .padded_channels = 3,
                                     .classes = 4,
                                     .stddev = {1, 1, 1, 1}};

typedef struct net {
    dt_builder b;
    dt_vid x; /* an image */
} net;

static net net_open(void) {
    net n = {0};
    check_ok(dt_graph_create(&n.b.g, DT_DTYPE_F32, true));
    n.x = dt_build_image(&n.b, &input);
    check_ok(n.b.status);
    return n;
}

static const dt_layer_row *row_of(const char *type) {
    const dt_layer_row *row = dt_layer_find(type);
    if (!row) fail_msg("no layer type %s", type);
    return row;
}

/* What a layer reads: the image, of some a sequence, of one whole numbers. */
static dt_vid operand(net *n, const char *type) {
    const bool sequence = strstr("lstm gru rnn position rotary attention", type) != NULL;
    const dt_attr steps = {
        .reshape = {.ndim = 3, .dim = {input.batch, -1, strcmp(type, "rotary") ? input.channels : 4}}};
    dt_vid x = sequence ? dt_build_op(&n->b, "steps", DT_OP_RESHAPE, &steps, 1, &n->x) : n->x;
    if (strcmp(type, "embedding") == 0 || strcmp(type, "one_hot") == 0)
        check_ok(dt_graph_add_value(n->b.g, "tokens", DT_ROLE_INPUT, DT_DTYPE_I32, 2, (int64_t[]){2, 5}, &x));
    if (strcmp(type, "split") == 0) x = dt_build_op(&n->b, "flat", DT_OP_RESHAPE, NULL, 1, &n->x);
    const dt_attr square = {.reshape = {.ndim = 4, .dim = {input.batch, -1, 8, 8}}};
    if (strcmp(type, "matmul") == 0) x = dt_build_op(&n->b, "square", DT_OP_RESHAPE, &square, 1, &n->x);
    if (strcmp(type, "tied") == 0) {
        x = dt_build_op(&n->b, "flat", DT_OP_RESHAPE, NULL, 1, &n->x);
        dt_build_dense(&n->b, "first", x, 7, true);
    }
    return x;
}

/* The layer on x, as often as it wants it; gather reads numbers of rows. */
static dt_vid build_on(net *n, const char *type, dt_vid x, const void *options) {
    const dt_layer_row *row = row_of(type);
    dt_vid in[DT_LAYER_IN_MAX];
    for (int32_t i = 0; i < row->min_in; i++) in[i] = x;
    if (strcmp(type, "gather") == 0)
        check_ok(
            dt_graph_add_value(n->b.g, "rows", DT_ROLE_INPUT, DT_DTYPE_I32, 2, (int64_t[]){2, 5}, &in[1]));
    return dt_layer_build(&n->b, row, "l", in, row->min_in, options);
}

static dt_vid build(net *n, const char *type, const void *options) {
    return build_on(n, type, operand(n, type), options);
}

/* Gives required keys, numbers and the name of a layer, a value. */
static void fill_required(const dt_layer_row *row, unsigned char *options) {
    for (int k = 0; row->keys && k < row->keys->n_row; k++)
        if (row->keys->row[k].kind == DT_KEY_STRING && row->keys->row[k].flags & DT_KEY_REQUIRED)
            snprintf((char *)options + row->keys->row[k].offset, row->keys->row[k].size, "first");
        else if (row->keys->row[k].flags & DT_KEY_REQUIRED)
            *(int64_t *)(void *)(options + row->keys->row[k].offset) = 3;
}

static void test_every_row_builds(void **state) {
    (void)state;
    for (int i = 0; i < dt_layer_count; i++) {
        const dt_layer_row *row = &dt_layer_table[i];
        _Alignas(max_align_t) unsigned char options[DT_LAYER_OPTIONS_BYTES] = {0};
        net n = net_open();
        assert_ptr_equal(dt_layer_find(row->type), row);
        assert_true(row->help && row->min_in >= 1 && row->min_in <= row->max_in);
        assert_true(row->max_in <= DT_LAYER_IN_MAX);
        assert_true(row->build || !row->keys); /* an op alone takes no options */
        if (row->keys) assert_true(row->keys->size > 0 && row->keys->size <= sizeof options);
        dt_layer_defaults(row, options);
        fill_required(row, options);
        const dt_vid y = build(&n, row->type, options);
        if (n.b.status != DT_OK) fail_msg("%s: %s", row->type, dt_error_text());
        assert_true(y >= 0);
        check_ok(dt_graph_validate(n.b.g));
        dt_graph_destroy(n.b.g);
    }
    assert_null(dt_layer_find("no such layer"));
}

static void need_shape(const net *n, dt_vid v, const char *shape) {
    check_ok(n->b.status);
    assert_string_equal(dt_value_shape_text(&n->b.g->value[v]), shape);
}

/* A field that is not set has its documented meaning: no options at all are the defaults of TOML. */
static void test_unset_fields(void **state) {
    (void)state;
    net n = net_open();
    need_shape(&n, dt_layer_build(&n.b, row_of("maxpool"), "none", &n.x, 1, NULL), "2x4x4x3 f32");
    const dt_pool_options pool = {.kernel = 4};
    need_shape(&n, dt_layer_build(&n.b, row_of("avgpool"), "four", &n.x, 1, &pool), "2x2x2x3 f32");
    const dt_conv2d_options conv = {.channels = 5, .pad = -1};
    need_shape(&n, dt_layer_build(&n.b, row_of("conv"), "conv", &n.x, 1, &conv), "2x8x8x5 f32");
    assert_int_equal(n.b.g->value[dt_graph_find(n.b.g, "conv.weight")].init, DT_INIT_KAIMING_NORMAL_FAN_OUT);
    assert_true(dt_graph_find(n.b.g, "conv.bias") >= 0);
    dt_vid y = dt_layer_build(&n.b, row_of("batchnorm"), "bn", &n.x, 1, NULL);
    const dt_node *bn = &n.b.g->node[n.b.g->value[y].producer];
    assert_true(bn->attr.norm.eps == 1e-5f && bn->attr.norm.momentum == 0.1f);
    n.b.bn_eps = 1e-3;
    const dt_batchnorm_options own = {.momentum = 0.25};
    y = dt_layer_build(&n.b, row_of("batchnorm"), "own", &n.x, 1, &own);
    bn = &n.b.g->node[n.b.g->value[y].producer];
    assert_true(bn->attr.norm.eps == 1e-3f && bn->attr.norm.momentum == 0.25f);
    dt_graph_destroy(n.b.g);
}

/* Every function of one variable is a layer of its name, of two as well; scalars have their defaults. */
static void test_functions(void **state) {
    (void)state;
    net n = net_open();
    for (int f = 0; f < DT_UNARY_COUNT; f++) {
        const char *name = dt_unary_table[f].name;
        const dt_vid y = dt_layer_build(&n.b, row_of(name), name, &n.x, 1, NULL);
        check_ok(n.b.status);
        const dt_node *node = &n.b.g->node[n.b.g->value[y].producer];
        assert_true(node->op == DT_OP_UNARY && (int)node->attr.unary.fn == f);
        assert_true(node->attr.unary.a == dt_unary_table[f].param[0].value &&
                    node->attr.unary.b == dt_unary_table[f].param[1].value);
    }
    for (int f = 0; f < DT_BINARY_COUNT; f++) {
        const char *name = dt_binary_table[f].name;
        const dt_vid y = dt_layer_build(&n.b, row_of(name), name, (dt_vid[]){n.x, n.x}, 2, NULL);
        check_ok(n.b.status);
        const dt_node *node = &n.b.g->node[n.b.g->value[y].producer];
        assert_true(node->op == DT_OP_BINARY && (int)node->attr.binary.fn == f);
    }
    const dt_vid three[] = {n.x, n.x, n.x};
    need_shape(&n, dt_layer_build(&n.b, row_of("concat"), "cat", three, 3, NULL), "2x8x8x9 f32");
    need_shape(&n, dt_layer_build(&n.b, row_of("concat"), "rows", three, 3, &(dt_concat_options){.axis = 1}),
               "2x24x8x3 f32");
    const dt_vid thin = dt_layer_build(&n.b, row_of("conv"), "thin", &n.x, 1,
                                       &(dt_conv2d_options){.channels = 1, .kernel = 1});
    need_shape(&n, dt_layer_build(&n.b, row_of("mul"), "gate", (dt_vid[]){n.x, thin}, 2, NULL),
               "2x8x8x3 f32");
    need_shape(&n, dt_layer_build(&n.b, row_of("mean"), "mean", &n.x, 1, &(dt_dimension_options){.axis = 1}),
               "2x8x3 f32");
    const dt_vid flat = dt_layer_build(&n.b, row_of("amax"), "amax", &n.x, 1, NULL);
    need_shape(&n, flat, "2x8x8 f32");
    need_shape(&n, dt_layer_build(&n.b, row_of("matmul"), "product", (dt_vid[]){flat, flat}, 2, NULL),
               "2x8x8 f32");
    need_shape(&n,
               dt_layer_build(&n.b, row_of("reshape"), "gates", &flat, 1,
                              &(dt_reshape_options){.shape = {1, -1, 4}, .n_shape = 3}),
               "2x1x16x4 f32");
    need_shape(&n,
               dt_layer_build(&n.b, row_of("transpose"), "turned", &n.x, 1,
                              &(dt_swap_options){.first = 1, .second = 0}),
               "2x3x8x8 f32");
    need_shape(&n,
               dt_layer_build(&n.b, row_of("conv_transpose"), "larger", &n.x, 1,
                              &(dt_conv_transpose_options){
                                  .channels = 5, .kernel = 3, .stride = 2, .pad = 1, .output_pad = 1}),
               "2x16x16x5 f32");
    assert_int_equal(n.b.g->value[dt_graph_find(n.b.g, "larger.weight")].dim[0], 3);
    assert_int_equal(dt_layer_build(&n.b, row_of("add"), "sum", (dt_vid[]){n.x, thin}, 2, NULL), -1);
    CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "sum (add)", "2x8x8x3 f32", "2x8x8x1 f32");
    dt_graph_destroy(n.b.g);
}

static void refused(const char *type, const void *options, const char *says) {
    net n = net_open();
    const dt_vid x = operand(&n, type);
    const int32_t n_node = n.b.g->n_node, n_value = n.b.g->n_value;
    assert_int_equal(build_on(&n, type, x, options), -1);
    CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "l (", type, says);
    assert_int_equal(build_on(&n, "relu", x, NULL), -1); /* the first error sticks */
    assert_int_equal(n.b.g->n_node, n_node);
    assert_int_equal(n.b.g->n_value, n_value);
    dt_graph_destroy(n.b.g);
}

static dt_vid add_input(net *n, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim) {
    dt_vid v;
    check_ok(dt_graph_add_value(n->b.g, name, DT_ROLE_INPUT, dtype, ndim, dim, &v));
    return v;
}

/* What attention reads besides its sequence stands in any order; lengths are of queries too where there is one
 * sequence. */
static void test_attention(void **state) {
    (void)state;
    net n = net_open();
    const dt_vid x = add_input(&n, "x", DT_DTYPE_F32, 3, (int64_t[]){2, 5, 12}),
                 other = add_input(&n, "other", DT_DTYPE_F32, 3, (int64_t[]){2, 7, 10}),
                 lengths = add_input(&n, "lengths", DT_DTYPE_I64, 1, (int64_t[]){2}),
                 segments = add_input(&n, "segments", DT_DTYPE_I32, 2, (int64_t[]){2, 5});
    const dt_attention_options o = {.heads = 4, .kv_heads = 2, .window = 3, .dropout = 0.25, .causal = true};
    dt_vid y = dt_layer_build(&n.b, row_of("attention"), "a", (dt_vid[]){x, segments, lengths}, 3, &o);
    need_shape(&n, y, "2x5x12 f32");
    need_shape(&n, dt_graph_find(n.b.g, "a.in_proj_weight"), "24x12 f32");
    need_shape(&n, dt_graph_find(n.b.g, "a.in_proj_bias"), "24 f32");
    need_shape(&n, dt_graph_find(n.b.g, "a.out_proj.weight"), "12x12 f32");
    const dt_node *node = &n.b.g->node[n.b.g->value[dt_graph_find(n.b.g, "a/heads")].producer];
    const dt_attention_attr *t = &node->attr.attention;
    assert_true(t->heads == 4 && t->kv_heads == 2 && t->window == 3 && t->causal && t->dropout == 0.25f);
    assert_true(node->in[DT_ATTENTION_IN_K] < 0 && node->in[DT_ATTENTION_IN_SEGMENTS] == segments);
    assert_true(node->in[DT_ATTENTION_IN_LENGTHS] == node->in[DT_ATTENTION_IN_Q_LENGTHS]);
    assert_int_equal(n.b.g->value[node->in[DT_ATTENTION_IN_LENGTHS]].dtype, DT_DTYPE_I32);

    y = dt_layer_build(&n.b, row_of("attention"), "c", (dt_vid[]){x, lengths, other}, 3,
                       &(dt_attention_options){.heads = 3, .head_size = 8, .qk_norm = true});
    need_shape(&n, y, "2x5x12 f32");
    need_shape(&n, dt_graph_find(n.b.g, "c.q_proj_weight"), "24x12 f32");
    need_shape(&n, dt_graph_find(n.b.g, "c.k_proj_weight"), "24x10 f32");
    need_shape(&n, dt_graph_find(n.b.g, "c.k_norm.weight"), "8 f32");
    node = &n.b.g->node[n.b.g->value[dt_graph_find(n.b.g, "c/heads")].producer];
    assert_true(node->in[DT_ATTENTION_IN_LENGTHS] >= 0 && node->in[DT_ATTENTION_IN_Q_LENGTHS] < 0);
    check_ok(dt_graph_validate(n.b.g));

    /* Names of one's own. */
    const dt_attention_names names = {.q = "q_proj.", .k = "k_proj.", .v = "v_proj.", .out = "o_proj."};
    const dt_build_attention_inputs in = {.x = x, .context = -1, .lengths = -1, .segments = -1};
    const dt_attention_options llama = {
        .heads = 6, .kv_heads = 2, .no_bias = true, .rotary = true, .theta = 5e5};
    need_shape(&n, dt_build_attention(&n.b, "self_attn", &in, &llama, &names), "2x5x12 f32");
    need_shape(&n, dt_graph_find(n.b.g, "self_attn.k_proj.weight"), "4x12 f32");
    need_shape(&n, dt_graph_find(n.b.g, "self_attn.o_proj.weight"), "12x12 f32");
    assert_int_equal(dt_graph_find(n.b.g, "self_attn.q_proj.bias"), -1);
    node = &n.b.g->node[n.b.g->value[dt_graph_find(n.b.g, "self_attn/k_turned")].producer];
    assert_true(node->op == DT_OP_ROPE && node->attr.rope.theta == 5e5f);

    assert_int_equal(dt_layer_build(&n.b, row_of("attention"), "d", (dt_vid[]){x, other, other}, 3, &o), -1);
    CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "d (attention)", "other");
    dt_graph_destroy(n.b.g);
}

static void test_squeeze_excite_names(void **state) {
    (void)state;
    net n = net_open();
    const dt_squeeze_excite_options o = {.channels = 2, .activation = DT_SQUEEZE_SILU};
    const dt_vid y = dt_layer_build(&n.b, row_of("squeeze_excite"), "a", &n.x, 1, &o);
    need_shape(&n, y, "2x8x8x3 f32");
    need_shape(&n, dt_graph_find(n.b.g, "a.fc1.weight"), "2x1x1x3 f32");
    need_shape(&n, dt_graph_find(n.b.g, "a.fc2.bias"), "3 f32");
    dt_build_squeeze_excite(&n.b, "se", y, &o, &dt_squeeze_excite_names_timm);
    need_shape(&n, dt_graph_find(n.b.g, "se.conv_reduce.bias"), "2 f32");
    need_shape(&n, dt_graph_find(n.b.g, "se.conv_expand.weight"), "3x1x1x2 f32");
    const dt_vid flat = dt_layer_build(&n.b, row_of("flatten"), "flat", &y, 1, NULL);
    assert_int_equal(dt_layer_build(&n.b, row_of("squeeze_excite"), "b", &flat, 1, &o), -1);
    CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "b (squeeze_excite)", "2x192 f32", "N H W C");
    dt_graph_destroy(n.b.g);
}

/* Layers that move elements, and what they refuse. */
static void test_moves(void **state) {
    (void)state;
    net n = net_open();
    const dt_vid index = add_input(&n, "index", DT_DTYPE_I32, 2, (int64_t[]){2, 5}),
                 other = add_input(&n, "other", DT_DTYPE_I32, 2, (int64_t[]){3, 5}), x = n.x;
    const dt_vid taken = dt_layer_build(&n.b, row_of("gather"), "g", (dt_vid[]){x, index}, 2, NULL);
    need_shape(&n, taken, "2x5x8x3 f32");
    const dt_vid one = dt_layer_build(&n.b, row_of("one_hot"), "o", &index, 1, &(dt_one_hot_options){4});
    need_shape(&n, one, "2x5x4 f32");
    need_shape(&n, dt_layer_build(&n.b, row_of("stack"), "s", (dt_vid[]){one, one, one}, 3, NULL),
               "2x5x4x3 f32");
    need_shape(&n,
               dt_layer_build(&n.b, row_of("slice"), "c", &x, 1, &(dt_slice_options){.axis = 2, .begin = -2}),
               "2x8x2x3 f32");
    need_shape(&n, dt_layer_build(&n.b, row_of("pad"), "p", &x, 1, &(dt_pad_options){.axis = 1, .after = 3}),
               "2x11x8x3 f32");
    need_shape(&n,
               dt_layer_build(&n.b, row_of("split"), "t", &x, 1, &(dt_split_options){.axis = 1, .parts = 4}),
               "2x2x8x3 f32");
    assert_int_equal(n.b.g->node[n.b.g->value[dt_graph_find(n.b.g, "t.3")].producer].attr.shape.begin, 6);
    const struct {
        const char *type;
        dt_vid in[2];
        const void *options;
        const char *says[2];
    } wrong[] = {
        {"gather", {x, other}, NULL, {"2x8x8x3 f32", "3x5 i32"}},
        {"gather", {one, index}, &(dt_gather_options){.axis = 3}, {"2x5x4 f32", "2x5 i32"}},
        {"gather", {one, one}, NULL, {"o, is 2x5x4 f32", "whole numbers"}},
        {"one_hot", {index}, NULL, {"classes is required", "l (one_hot)"}},
        {"slice", {x}, &(dt_slice_options){.axis = 1, .begin = 8}, {"begin 8", "2x8x8x3"}},
        {"slice", {x}, &(dt_slice_options){.axis = 1, .begin = 3, .length = 6}, {"length 6", "2x8x8x3"}},
        {"slice", {x}, &(dt_slice_options){.axis = 4}, {"dimension 4", "2x8x8x3"}},
        {"pad", {x}, &(dt_pad_options){.before = -1}, {"before = -1", "range"}},
        {"split", {x}, &(dt_split_options){.parts = 2}, {"2x8x8x3", "2 parts"}},
        {"split", {x}, &(dt_split_options){.sizes = {1, 1}, .n_sizes = 2}, {"2x8x8x3", "these sizes"}},
        {"split", {x}, &(dt_split_options){.sizes = {1.5, 1.5}, .n_sizes = 2}, {"2x8x8x3", "these sizes"}},
        {"stack", {x, one}, NULL, {"2x5x4 f32", "input"}},
        {"stack", {x, x}, &(dt_dimension_options){.axis = 5}, {"2x8x8x3", "5"}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const dt_layer_row *row = row_of(wrong[i].type);
        n.b.status = DT_OK;
        assert_int_equal(dt_layer_build(&n.b, row, "l", wrong[i].in, row->min_in, wrong[i].options), -1);
        CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "l", wrong[i].says[0], wrong[i].says[1]);
    }
    dt_graph_destroy(n.b.g);
}

static void test_wrong_options(void **state) {
    (void)state;
    refused("conv", NULL, "channels is required");
    refused("conv", &(dt_conv2d_options){.channels = -1, .kernel = 3}, "channels = -1 is out of range");
    refused("conv", &(dt_conv2d_options){.channels = 4, .kernel = (1ll << 32) + 3},
            "kernel = 4294967299 is out");
    refused("conv", &(dt_conv2d_options){.channels = 4, .kernel = 3, .pad = -2}, "pad = -2 is out of range");
    refused("dense", &(dt_dense_options){0}, "channels is required");
    refused("upsample", &(dt_upsample_options){.scale = -1}, "scale = -1 is out of range");
    refused("adaptive_avgpool", NULL, "height is required");
    refused("normalize", &(dt_eps_options){.eps = -1}, "eps = -1");
    refused("squeeze_excite", NULL, "channels is required");
    refused("squeeze_excite", &(dt_squeeze_excite_options){.channels = 2, .gate = 7}, "gate");
    refused("maxpool", &(dt_pool_options){.kernel = 2, .stride = -2}, "stride = -2");
    refused("dropout", &(dt_dropout_options){.rate = 1}, "rate = 1 is out of range");
    refused("dropout", &(dt_dropout_options){.rate = NAN}, "rate = nan");
    refused("attention", NULL, "heads is required");
    refused("attention", &(dt_attention_options){.heads = 2}, "heads = 2 does not divide 3 channels");
    refused("attention", &(dt_attention_options){.heads = 3, .kv_heads = 2},
            "kv_heads = 2 does not divide heads = 3");
    refused("attention", &(dt_attention_options){.heads = 3, .dropout = 1}, "dropout = 1 is out of range");
    refused("attention", &(dt_attention_options){.heads = 3, .window = -1}, "window = -1 is out of range");
}

/* An option that would be ignored beside the others is refused; its default is not. */
static void test_ignored_options(void **state) {
    (void)state;
    refused("upsample", &(dt_upsample_options){.align_corners = true},
            "align_corners would be ignored: it is for mode = bilinear alone");
    refused("upsample", &(dt_upsample_options){.width = 4}, "width would be ignored: it is for height > 0");
    refused("upsample", &(dt_upsample_options){.scale = 3, .height = 4}, "scale would be ignored");
    refused("split", &(dt_split_options){.parts = 3, .sizes = {100, 92}, .n_sizes = 2},
            "parts would be ignored: it is for sizes = []");
    refused("attention", &(dt_attention_options){.heads = 3, .theta = 5e5},
            "theta would be ignored: it is for rotary = true alone");
    refused("lstm", &(dt_recurrent_options){.hidden = 4, .dropout = 0.5},
            "dropout would be ignored: it is for layers > 1 alone");
    refused("rnn", &(dt_recurrent_options){.hidden = 4, .layers = 1, .dropout = 0.5}, "dropout");
    refused("embedding", &(dt_embedding_options){.rows = 9, .channels = 4, .padding = 2},
            "padding would be ignored: it is for padded = true alone");
    refused("position", &(dt_position_options){.kind = DT_POSITION_SINUSOIDAL, .rows = 100},
            "rows would be ignored: it is for kind = learnt alone");
    refused("position", &(dt_position_options){.kind = DT_POSITION_SINUSOIDAL, .std = 0.5}, "std");
    refused("position", &(dt_position_options){.theta = 100}, "theta would be ignored");
    net n = net_open();
    const dt_vid heads = add_input(&n, "heads", DT_DTYPE_F32, 4, (int64_t[]){2, 5, 3, 4}),
                 steps = add_input(&n, "steps", DT_DTYPE_F32, 3, (int64_t[]){2, 5, 4});
    need_shape(&n,
               dt_layer_build(&n.b, row_of("attention"), "a", &steps, 1,
                              &(dt_attention_options){.heads = 2, .theta = 10000}),
               "2x5x4 f32");
    assert_int_equal(dt_layer_build(&n.b, row_of("rotary"), "r", &heads, 1, &(dt_rotary_options){.heads = 3}),
                     -1);
    CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "r (rotary)", "heads would be ignored", "2x5x3x4");
    dt_graph_destroy(n.b.g);
}

/* Each cause has words of its own. */
static void test_causes(void **state) {
    (void)state;
    const dt_conv_transpose_options groups = {.channels = 4, .groups = 2},
                                    output_pad = {.channels = 4, .output_pad = 2},
                                    pad = {.channels = 4, .pad = 20};
    refused("conv_transpose", &groups, "groups 2 does not divide 3 input and 4 output");
    refused("conv_transpose", &output_pad, "output_pad 2 must be below stride 2");
    refused("conv_transpose", &pad, "an image of 8 x 8 would become one of -24 x -24");
    refused("mean", &(dt_dimension_options){.axis = 4}, "dimension 4 is none of 1 to 3");
    net n = net_open();
    const dt_vid a = add_input(&n, "a", DT_DTYPE_F32, 3, (int64_t[]){2, 4, 5}),
                 b = add_input(&n, "b", DT_DTYPE_F32, 3, (int64_t[]){2, 4, 5}),
                 c = add_input(&n, "c", DT_DTYPE_F32, 3, (int64_t[]){3, 5, 4}),
                 d = add_input(&n, "d", DT_DTYPE_F32, 2, (int64_t[]){5, 4});
    const struct {
        const char *type;
        dt_vid with;
        const char *says[2];
    } cases[] = {
        {"matmul", b, {"b, 2x4x5 f32", "columns of the first must be as many as the rows of the second"}},
        {"matmul", c, {"c, 3x5x4 f32", "dimensions before the last two"}},
        {"matmul", d, {"d, 5x4 f32", "same number of dimensions"}},
        {"concat", c, {"a is 2x4x5 f32 but c is 3x5x4 f32", "dimension 2, the first being 0"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        n.b.status = DT_OK;
        dt_layer_build(&n.b, row_of(cases[i].type), "l", (dt_vid[]){a, cases[i].with}, 2, NULL);
        CHECK_ERROR(n.b.status, DT_ERR_CONFIG, cases[i].says[0], cases[i].says[1]);
    }
    const dt_vid label = add_input(&n, "l", DT_DTYPE_I32, 1, (int64_t[]){2});
    n.b.status = DT_OK;
    dt_build_loss(&n.b, a, &(dt_build_loss_options){.value = &label});
    CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "label l is 2 i32", "logits a, 2x4x5 f32", "8 labels expected");
    n.b.status = DT_OK;
    dt_build_loss(&n.b, a, &(dt_build_loss_options){.kind = "mse", .value = &d});
    CHECK_ERROR(n.b.status, DT_ERR_CONFIG, "target d is 5x4 f32", "a, which is 2x4x5 f32");
    dt_graph_destroy(n.b.g);
}

static void test_number_of_inputs(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int32_t n_in;
        const char *says;
    } cases[] = {{"add", 1, "l (add): 1 input, expected 2"},
                 {"add", 3, "l (add): 3 inputs, expected 2"},
                 {"relu", 2, "l (relu): 2 inputs, expected 1"},
                 {"relu", 0, "l (relu): 0 inputs, expected 1"}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        net n = net_open();
        const dt_vid in[3] = {n.x, n.x, n.x};
        assert_int_equal(dt_layer_build(&n.b, row_of(cases[k].type), "l", in, cases[k].n_in, NULL), -1);
        CHECK_ERROR(n.b.status, DT_ERR_CONFIG, cases[k].says);
        dt_graph_destroy(n.b.g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_builds),
        cmocka_unit_test(test_unset_fields),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_squeeze_excite_names),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_ignored_options),
        cmocka_unit_test(test_causes),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_number_of_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
