/* Layers that are made of several ops, or of one in several ways, against PyTorch (values by
 * tests/golden/make_layers.py): output, and gradients of all inputs and parameters. */
#include "op_run.h"
#include "test_check.h"

#include "core/autodiff.h"
#include "cpu/cpu.h"
#include "data/h5.h"
#include "model/layer.h"

#define GOLDEN_FILE "layers.h5"
#include "golden_file.h"

/* A dataset in its type; caller frees. */
static void *load(const char *name, dt_h5_info *info) {
    op_ok(dt_h5_info_get(golden, name, info));
    void *data = op_zalloc(info->n_elem * 4);
    op_ok(dt_h5_read(golden, name, info->dtype, info->n_elem, data));
    return data;
}

/* A value of the dataset's name, type and shape: floats have a gradient. -1 where there is none. */
static dt_vid add_like(dt_graph *g, const char *group, const char *name, bool differentiated) {
    dt_h5_info info;
    dt_vid v = -1;
    if (!dt_h5_has(golden, in_group(group, name, ""))) return -1;
    free(load(in_group(group, name, ""), &info));
    const bool param = differentiated && dt_dtype_is_float(info.dtype);
    op_ok(dt_graph_add_value(g, name, param ? DT_ROLE_PARAM : DT_ROLE_INPUT, info.dtype, info.ndim, info.dim,
                             &v));
    return v;
}

static void fill(op_run *r, const char *group, int32_t n_value) {
    for (dt_vid v = 0; v < n_value; v++) {
        dt_h5_info info;
        const dt_value *val = &r->g->value[v];
        if (val->producer >= 0 || val->role == DT_ROLE_METRIC) continue;
        void *data = load(in_group(group, val->name, ""), &info);
        bool fits = val->ndim == info.ndim;
        for (int32_t i = 0; fits && i < info.ndim; i++) fits = val->dim[i] == info.dim[i];
        if (!fits)
            fail_msg("%s: %s is %s, and in the file another shape", group, val->name,
                     dt_value_shape_text(val));
        op_write_bytes(r, v, data);
        free(data);
    }
}

static void expect(op_run *r, dt_vid v, const char *name, double scale) {
    dt_h5_info info;
    float *want = load(name, &info), *got = op_read(r, v);
    assert_int_equal(dt_value_n_elem(&r->g->value[v]), info.n_elem);
    for (int64_t i = 0; i < info.n_elem; i++) want[i] *= (float)scale;
    op_expect_close(got, want, info.n_elem, 1e-5, name);
    free(want), free(got);
}

typedef struct layer_golden {
    const char *name; /* of the group */
    const char *type;
    const void *options;
    int32_t n_param;
} layer_golden;

#define OPTIONS(type, ...)                                                                                   \
    &(const dt_##type##_options) {                                                                           \
        __VA_ARGS__                                                                                          \
    }

static const layer_golden layer_table[] = {
    {"squeeze_excite", "squeeze_excite", OPTIONS(squeeze_excite, .channels = 3), 4},
    {"squeeze_excite silu", "squeeze_excite",
     OPTIONS(squeeze_excite, .channels = 3, .activation = DT_SQUEEZE_SILU), 4},
    {"squeeze_excite hard", "squeeze_excite",
     OPTIONS(squeeze_excite, .channels = 3, .activation = DT_SQUEEZE_HARDSWISH, .gate = DT_GATE_HARDSIGMOID),
     4},
    {"gather", "gather", NULL, 0},
    {"gather of images", "gather", NULL, 0},
    {"gather of the second", "gather", OPTIONS(gather, .axis = 2), 0},
    {"gather numbers", "gather", NULL, 0},
    {"one_hot", "one_hot", OPTIONS(one_hot, .classes = 6), 0},
    {"slice", "slice", OPTIONS(slice, .axis = 1, .begin = 2, .length = 3), 0},
    {"slice to the end", "slice", OPTIONS(slice, .begin = -3), 0},
    {"pad", "pad", OPTIONS(pad, .axis = 1, .before = 2, .after = 1), 0},
    {"split", "split", OPTIONS(split, .sizes = {3, 1, 4}, .n_sizes = 3), 0},
    {"stack", "stack", OPTIONS(dimension, .axis = 1), 0},
    {"stack last", "stack", NULL, 0},
    {"upsample", "upsample", NULL, 0},
    {"upsample by 3", "upsample", OPTIONS(upsample, .scale = 3), 0},
    {"upsample to a size", "upsample", OPTIONS(upsample, .height = 7, .width = 3), 0},
    {"upsample bilinear", "upsample", OPTIONS(upsample, .mode = DT_UPSAMPLE_BILINEAR), 0},
    {"upsample bilinear to a size", "upsample",
     OPTIONS(upsample, .height = 3, .width = 13, .mode = DT_UPSAMPLE_BILINEAR), 0},
    {"upsample bicubic", "upsample", OPTIONS(upsample, .mode = DT_UPSAMPLE_BICUBIC), 0},
    {"upsample bicubic to a size", "upsample",
     OPTIONS(upsample, .height = 3, .width = 13, .mode = DT_UPSAMPLE_BICUBIC), 0},
    {"upsample corners", "upsample", OPTIONS(upsample, .mode = DT_UPSAMPLE_BILINEAR, .align_corners = true),
     0},
    {"upsample corners to a size", "upsample",
     OPTIONS(upsample, .height = 2, .width = 20, .mode = DT_UPSAMPLE_BILINEAR, .align_corners = true), 0},
    {"adaptive_avgpool", "adaptive_avgpool", OPTIONS(adaptive_pool, .height = 3, .width = 2), 0},
    {"adaptive_avgpool larger", "adaptive_avgpool", OPTIONS(adaptive_pool, .height = 9), 0},
    {"adaptive_maxpool", "adaptive_maxpool", OPTIONS(adaptive_pool, .height = 3, .width = 2), 0},
    {"adaptive_maxpool ties", "adaptive_maxpool", OPTIONS(adaptive_pool, .height = 2), 0},
    {"global_maxpool", "global_maxpool", NULL, 0},
    {"normalize", "normalize", NULL, 0},
    {"normalize by at least 1", "normalize", OPTIONS(eps, .eps = 1), 0},
    {"cosine_similarity", "cosine_similarity", NULL, 0},
    {"conv1d", "conv", OPTIONS(conv2d, .channels = 4, .pad = 1), 2},
    {"conv1d stride", "conv",
     OPTIONS(conv2d, .channels = 4, .kernel = 4, .stride = 3, .pad = 2, .no_bias = true), 1},
    {"conv1d dilated groups", "conv", OPTIONS(conv2d, .channels = 6, .dilation = 2, .groups = 2), 2},
    {"conv1d depthwise", "conv",
     OPTIONS(conv2d, .channels = 8, .kernel = 5, .pad = 4, .groups = 8, .no_bias = true), 1},
    {"conv3d", "conv", OPTIONS(conv2d, .channels = 4, .pad = -1), 2},
    {"conv3d stride", "conv", OPTIONS(conv2d, .channels = 4, .stride = 2, .pad = 1, .no_bias = true), 1},
    {"conv3d no pad", "conv", OPTIONS(conv2d, .channels = 3, .kernel = 2, .stride = 3, .no_bias = true), 1},
    {"conv3d dilated groups", "conv", OPTIONS(conv2d, .channels = 6, .pad = 2, .dilation = 2, .groups = 2),
     2},
    {"conv3d depthwise", "conv", OPTIONS(conv2d, .channels = 6, .pad = 1, .groups = 6, .no_bias = true), 1},
    {"conv3d of one", "conv", OPTIONS(conv2d, .channels = 6, .kernel = 1), 2},
    {"maxpool1d", "maxpool", OPTIONS(pool, .kernel = 3, .stride = 2, .pad = 1), 0},
    {"avgpool1d", "avgpool", OPTIONS(pool, .kernel = 3, .stride = 2, .pad = 1), 0},
    {"maxpool3d", "maxpool", NULL, 0},
    {"maxpool3d ties", "maxpool", OPTIONS(pool, .kernel = 3, .stride = 2, .pad = 1), 0},
    {"avgpool3d", "avgpool", OPTIONS(pool, .kernel = 3, .stride = 2, .pad = 1), 0},
    {"global_avgpool3d", "global_avgpool", NULL, 0},
    {"global_avgpool1d", "global_avgpool", NULL, 0},
    {"global_maxpool1d", "global_maxpool", NULL, 0},
    {"cosine_similarity of zeros", "cosine_similarity", NULL, 0},
};

/* The sum of y * r is the loss: a row's is a mean. */
static void add_loss(dt_builder *b, dt_vid y, dt_vid weights) {
    dt_vid metrics, loss;
    const dt_attr mul = {.binary.fn = DT_BINARY_MUL};
    const dt_vid product = dt_build_op(b, "product", DT_OP_BINARY, &mul, 2, (dt_vid[]){y, weights});
    op_ok(b->status);
    const dt_value *v = &b->g->value[product];
    const dt_attr t = {.loss = {.weight = (float)(dt_value_n_elem(v) / v->dim[0]), .kind = DT_LOSS_VALUE}};
    op_ok(dt_graph_add_value(b->g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1, (int64_t[]){DT_METRIC_COUNT},
                             &metrics));
    op_ok(dt_graph_add_node(b->g, "loss", DT_OP_LOSS, &t, 4, (dt_vid[]){product, -1, -1, metrics}, &loss));
    op_ok(dt_graph_add_loss(b->g, loss));
}

static void check_layer(const layer_golden *c) {
    dt_builder b = {0};
    dt_vid in[DT_LAYER_IN_MAX];
    int32_t n_in = 0, n_float = 0, n_grad = 0;
    char name[16] = "x";
    op_ok(dt_graph_create(&b.g, DT_DTYPE_F32, true));
    while ((in[n_in] = add_like(b.g, c->name, name, true)) >= 0) {
        n_float += b.g->value[in[n_in]].role == DT_ROLE_PARAM;
        snprintf(name, sizeof name, "x%d", ++n_in);
    }
    const dt_vid y = dt_layer_build(&b, dt_layer_find(c->type), "l", in, n_in, c->options);
    op_ok(b.status);
    const bool differentiated = n_float + c->n_param > 0;
    if (differentiated) add_loss(&b, y, add_like(b.g, c->name, "r", false));
    const int32_t n_value = b.g->n_value;
    if (differentiated) op_ok(dt_autodiff(b.g));
    op_ok(dt_graph_validate(b.g));
    op_run r = op_run_open(be, b.g, &op_step, false);
    fill(&r, c->name, n_value);
    op_run_go(&r);
    op_check_bounds(&r);
    expect(&r, y, in_group(c->name, "y", ""), 1);
    for (dt_vid d = n_value; d < b.g->n_value; d++) {
        if (b.g->value[d].role != DT_ROLE_GRAD) continue;
        expect(&r, d, in_group(c->name, "grad_", b.g->value[b.g->value[d].grad_of].name),
               (double)op_step.loss_weight * (double)op_step.loss_scale);
        n_grad++;
    }
    assert_int_equal(n_grad, n_float + c->n_param);
    op_run_close(&r);
    dt_graph_destroy(b.g);
}

static void test_layers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof layer_table / sizeof layer_table[0]; i++) check_layer(&layer_table[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers)};
    return cmocka_run_group_tests(tests, golden_open, golden_close);
}
