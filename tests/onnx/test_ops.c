/* Ops of networks in the evaluator: attributes and shapes that cannot be are refused, before anything is computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "onnx/op.h"

enum { BUDGET = 1 << 20, MAX_IN = 4, MAX_ATTR = 3 };

typedef struct row {
    const char *op;
    const char *dims[MAX_IN]; /* of inputs: types f32; NULL: absent */
    struct {
        const char *name;
        int32_t n; /* 0: one number, not a list */
        int64_t value[4];
    } attr[MAX_ATTR];
    const char *word; /* of the text */
    int64_t version;  /* 0: 17 */
} row;

static const row rows[] = {
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"strides", 2, {0, 1}}}, "strides has 0", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"strides", 3, {1, 1, 1}}}, "strides has 3 numbers", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"dilations", 2, {0, 1}}}, "dilations has 0", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"dilations", 2, {1 << 30, 1}}}, "does not fit", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"pads", 4, {0, -1, 0, 0}}}, "pads has -1", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"pads", 4, {INT64_MAX, 0, 0, 0}}}, "2^30", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"pads", 4, {1 << 30, 0, 0, 1 << 30}}}, "more than", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2"}, {{"kernel_shape", 2, {2, 3}}}, "kernel_shape has 3", 0},
    {"Conv", {"1 2 5 5", "3 2 6 2"}, {{0}}, "does not fit", 0},
    {"Conv", {"1 2 5 5", "3 2 0 2"}, {{0}}, "a kernel of 0", 0},
    {"Conv", {"1 4 5 5", "3 4 2 2"}, {{"group", 0, {3}}}, "3 groups", 0},
    {"Conv", {"1 4 5 5", "3 2 2 2"}, {{"group", 0, {2}}}, "2 groups", 0},
    {"Conv", {"1 4 5 5", "3 4 2 2"}, {{"group", 0, {0}}}, "0 groups", 0},
    {"Conv", {"1 2 5 5", "3 2 2"}, {{0}}, "dimensions", 0},
    {"Conv", {"1 2", "3 2"}, {{0}}, "dimensions", 0},
    {"Conv", {"1 2 5 5", "3 2 2 2", "4"}, {{0}}, "must be 3, not 4", 0},
    {"ConvTranspose", {"1 2 5 5", "2 3 2 2"}, {{"strides", 2, {1 << 30, 1 << 30}}}, "too large", 0},
    {"ConvTranspose", {"1 2 5 5", "2 3 2 2"}, {{"pads", 4, {9, 0, 9, 0}}}, "would be -12", 0},
    {"ConvTranspose", {"1 2 5 5", "2 3 2 2"}, {{"output_shape", 2, {-1, 5}}}, "output_shape has -1", 0},
    {"ConvTranspose", {"1 2 5 5", "3 3 2 2"}, {{0}}, "weights of 3 channels", 0},
    {"DeformConv", {"1 2 5 5", "3 2 2 2", "1 8 4 4"}, {{"offset_group", 0, {3}}}, "3 offset groups", 19},
    {"MatMul", {"2 3", "4 2"}, {{0}}, "3 and 4 elements", 0},
    {"MatMul", {"2 3 4", "3 4 2"}, {{0}}, "2 and 3 do not broadcast", 0},
    {"MatMul", {"", "4 2"}, {{0}}, "dimensions", 0},
    {"Gemm", {"2 3", "4 3"}, {{0}}, "3 and 4 elements", 0},
    {"Gemm", {"2 3", "3 4", "3 4"}, {{0}}, "do not broadcast", 0},
    {"Softmax", {"2 3"}, {{"axis", 0, {2}}}, "axis", 0},
    {"MaxPool", {"1 2 5 5"}, {{0}}, "no kernel_shape", 0},
    {"MaxPool", {"1 2 5 5"}, {{"kernel_shape", 2, {0, 2}}}, "kernel_shape has 0", 0},
    {"MaxPool", {"1 2 5 5"}, {{"kernel_shape", 2, {6, 2}}}, "does not fit", 0},
    {"AveragePool",
     {"1 2 5 5"},
     {{"kernel_shape", 2, {1 << 30, 1 << 30}}, {"pads", 4, {1 << 30, 1 << 30, 1 << 30, 1 << 30}}},
     "too large",
     0},
    {"LpPool", {"1 2 5 5"}, {{"kernel_shape", 2, {2, 2}}, {"strides", 2, {-1, 1}}}, "strides has -1", 0},
    {"GlobalAveragePool", {"5"}, {{0}}, "dimensions", 0},
    {"BatchNormalization", {"1 2 5", "2", "2", "2"}, {{0}}, "input", 0},
    {"InstanceNormalization", {"1 2 5", "3", "2"}, {{0}}, "must be 2, not 3", 0},
    {"GroupNormalization", {"1 6 5", "4", "4"}, {{"num_groups", 0, {4}}}, "4 groups", 18},
    {"GroupNormalization", {"1 6 5", "0", "0"}, {{"num_groups", 0, {0}}}, "0 groups", 18},
    {"LayerNormalization", {"2 3", "2"}, {{0}}, "broadcast", 0},
    {"RoiAlign", {"1 2 5 5", "3 4", NULL}, {{"output_height", 0, {0}}}, "RoiAlign", 0},
    {"MaxRoiPool", {"1 2 5 5", "3 5"}, {{"pooled_shape", 2, {2, 1 << 20}}}, "more than", 0},
    {"LSTM", {"4 2 3", "1 20 3", "1 20 5"}, {{"hidden_size", 0, {4}}}, "hidden size of 4", 0},
    {"LSTM", {"4 2 3", "1 16 3", "1 20 5"}, {{0}}, "must be 20, not 16", 0},
    {"GRU", {"4 2 3", "1 15 3", "1 15 5", "2 30"}, {{0}}, "must be 1, not 2", 0},
    {"QuantizeLinear", {"2 6", "2 2"}, {{"block_size", 0, {-1}}}, "blocks of -1", 21},
    {"QuantizeLinear", {"2 6", "3"}, {{"axis", 0, {1}}}, "must be 6, not 3", 21},
    {"QuantizeLinear", {"2 6", "2 2"}, {{"block_size", 0, {4}}, {"axis", 0, {0}}}, "must be 1, not 2", 21},
    {"Attention", {"2 4 24", "2 6 8", "2 6 10"}, {{"q_num_heads", 0, {5}}}, "5", 23},
    {"Attention", {"2 3 4 8", "2 2 4 8", "2 2 4 8"}, {{0}}, "do not fit", 23},
    {"DFT", {"1 8 3"}, {{0}}, "must be 1 or 2", 0},
    {"Det", {"2 3"}, {{0}}, "not square", 0},
};

static void read_dims(const char *text, dt_host_tensor *t) {
    *t = (dt_host_tensor){.type = DT_TENSOR_F32};
    int more;
    long long dim;
    for (; sscanf(text, "%lld%n", &dim, &more) == 1; text += more) t->dim[t->ndim++] = dim;
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    static const char *const in_names[] = {"a", "b", "c", "d"}, *const out_names[] = {"y"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        dt_onnx_model *m;
        dt_onnx_eval *e;
        assert_int_equal(dt_onnx_model_create(r->version ? r->version : 17, &m), DT_OK);
        assert_int_equal(dt_onnx_eval_create(m, BUDGET, &e), DT_OK);
        dt_host_tensor in[MAX_IN], out[1];
        const dt_host_tensor *inputs[MAX_IN] = {NULL};
        dt_onnx_attr attr[MAX_ATTR];
        dt_onnx_node n = {.op = r->op,
                          .domain = "",
                          .name = r->op,
                          .in = in_names,
                          .n_out = 1,
                          .out = out_names,
                          .attr = attr};
        for (; n.n_in < MAX_IN && r->dims[n.n_in]; n.n_in++) {
            read_dims(r->dims[n.n_in], &in[n.n_in]);
            inputs[n.n_in] = &in[n.n_in];
        }
        for (; n.n_attr < MAX_ATTR && r->attr[n.n_attr].name; n.n_attr++) {
            dt_onnx_attr *a = &attr[n.n_attr];
            *a = (dt_onnx_attr){.name = r->attr[n.n_attr].name, .kind = DT_ONNX_INT, .n = 1};
            a->i = r->attr[n.n_attr].value[0];
            if (r->attr[n.n_attr].n == 0) continue;
            a->kind = DT_ONNX_INTS;
            a->n = r->attr[n.n_attr].n;
            a->ints = r->attr[n.n_attr].value;
        }
        const dt_status status = dt_onnx_eval_node(e, &n, inputs, out);
        if (status != DT_ERR_DATA || !strstr(dt_error_text(), r->word) || !strstr(dt_error_text(), r->op))
            fail_msg("%s (row %zu): status %d, \"%s\" without \"%s\"", r->op, i, (int)status, dt_error_text(),
                     r->word);
        dt_onnx_eval_destroy(e);
        dt_onnx_model_free(m);
    }
}

/* Without values a result's type and shape are known. */
static void shapes_are_known_without_values(void **state) {
    (void)state;
    static const char *const in_names[] = {"x", "w"}, *const out_names[] = {"y"};
    static const int64_t strides[] = {2, 1};
    const dt_onnx_attr attr = {.name = "strides", .kind = DT_ONNX_INTS, .n = 2, .ints = strides};
    const dt_onnx_node n = {.op = "Conv",
                            .domain = "",
                            .name = "c",
                            .n_in = 2,
                            .in = in_names,
                            .n_out = 1,
                            .out = out_names,
                            .n_attr = 1,
                            .attr = &attr};
    dt_onnx_model *m;
    dt_onnx_eval *e;
    dt_host_tensor x, w, y;
    read_dims("7 2 9 9", &x);
    read_dims("3 2 3 3", &w);
    assert_int_equal(dt_onnx_model_create(17, &m), DT_OK);
    assert_int_equal(dt_onnx_eval_create(m, BUDGET, &e), DT_OK);
    assert_int_equal(dt_onnx_eval_node(e, &n, (const dt_host_tensor *[]){&x, &w}, &y), DT_OK);
    assert_true(!y.data && y.type == DT_TENSOR_F32 && y.ndim == 4);
    assert_true(y.dim[0] == 7 && y.dim[1] == 3 && y.dim[2] == 4 && y.dim[3] == 7);
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(shapes_are_known_without_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
