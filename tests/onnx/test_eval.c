/* Evaluating ONNX on the host: hostile shapes stop at the budget, what is not supported is named, memory does not grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "onnx/op.h"

enum { BUDGET = 1 << 20 };

static void *take(dt_onnx_model *m, size_t bytes) {
    void *p = dt_onnx_alloc(m, (int64_t)bytes);
    assert_non_null(p);
    return p;
}

static dt_onnx_model *model_of(int64_t version) {
    dt_onnx_model *m;
    assert_int_equal(dt_onnx_model_create(version, &m), DT_OK);
    return m;
}

static const char *const *names(dt_onnx_model *m, const char *words, int32_t *n) {
    const char **list = take(m, 16 * sizeof *list);
    char *copy = take(m, strlen(words) + 1);
    strcpy(copy, words);
    *n = 0;
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        list[(*n)++] = strcmp(word, "-") ? word : "";
    return list;
}

/* A node; names in one text, "-" an absent one. */
static dt_onnx_node node_of(dt_onnx_model *m, const char *op, const char *in, const char *out) {
    dt_onnx_node n = {.op = op, .domain = "", .name = op};
    n.in = names(m, in, &n.n_in);
    n.out = names(m, out, &n.n_out);
    return n;
}

static void add_node(dt_onnx_model *m, dt_onnx_graph *g, dt_onnx_node n) {
    dt_onnx_node *list = take(m, (size_t)(g->n_node + 1) * sizeof *list);
    if (g->n_node > 0) memcpy(list, g->node, (size_t)g->n_node * sizeof *list);
    list[g->n_node++] = n;
    g->node = list;
}

static void add_attr(dt_onnx_model *m, dt_onnx_node *n, dt_onnx_attr attr) {
    dt_onnx_attr *list = take(m, (size_t)(n->n_attr + 1) * sizeof *list);
    if (n->n_attr > 0) memcpy(list, n->attr, (size_t)n->n_attr * sizeof *list);
    list[n->n_attr++] = attr;
    n->attr = list;
}

static dt_host_tensor i64s(int32_t n, const int64_t *value) {
    return (dt_host_tensor){.type = DT_TENSOR_I64, .ndim = 1, .dim = {n}, .data = (void *)(uintptr_t)value};
}

static dt_host_tensor f32s(int32_t n, const float *value) {
    return (dt_host_tensor){.type = DT_TENSOR_F32, .ndim = 1, .dim = {n}, .data = (void *)(uintptr_t)value};
}

/* ---- hostile shapes ---- */

typedef struct bomb {
    const char *op;
    int64_t second[8]; /* the input that says how large */
    int32_t n_second;
} bomb;

static void bombs_stop_at_the_budget(void **state) {
    static const int64_t huge = INT64_C(1) << 40;
    static const bomb bombs[] = {
        {"Expand", {1 << 20, 1 << 20, 1}, 3},   {"Expand", {INT64_C(1) << 62, INT64_C(1) << 62, 1}, 3},
        {"Tile", {INT64_C(1) << 40}, 1},        {"Tile", {INT64_MAX}, 1},
        {"Pad", {INT64_MAX, INT64_MAX}, 2},     {"Pad", {INT64_C(1) << 40, 0}, 2},
        {"Reshape", {1 << 30, 1 << 30, -1}, 3},
    };
    (void)state;
    const float one[1] = {1};
    dt_onnx_model *m = model_of(17);
    dt_onnx_eval *e;
    assert_int_equal(dt_onnx_eval_create(m, BUDGET, &e), DT_OK);
    const dt_host_tensor x = f32s(1, one);
    dt_host_tensor out[1];
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        const dt_onnx_node n = node_of(m, bombs[i].op, "x shape", "y");
        const dt_host_tensor shape = i64s(bombs[i].n_second, bombs[i].second);
        assert_int_equal(dt_onnx_eval_node(e, &n, (const dt_host_tensor *[]){&x, &shape}, out), DT_ERR_DATA);
        assert_non_null(strstr(dt_error_text(), bombs[i].op));
    }
    const dt_onnx_node constant = node_of(m, "ConstantOfShape", "shape", "y");
    const dt_host_tensor shape = i64s(1, &huge);
    assert_int_equal(dt_onnx_eval_node(e, &constant, (const dt_host_tensor *[]){&shape}, out), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "more than the 1.00 MiB there may be"));
    const int64_t empty[] = {INT64_C(1) << 40, INT64_C(1) << 40,
                             0}; /* no elements, and products that overflow */
    const dt_host_tensor empty_shape = i64s(3, empty);
    assert_int_equal(dt_onnx_eval_node(e, &constant, (const dt_host_tensor *[]){&empty_shape}, out),
                     DT_ERR_DATA);
    const int64_t limits[] = {INT64_MIN, INT64_MAX, 1};
    dt_host_tensor range[3];
    for (int i = 0; i < 3; i++)
        range[i] = (dt_host_tensor){.type = DT_TENSOR_I64, .data = (void *)(uintptr_t)&limits[i]};
    const dt_onnx_node count = node_of(m, "Range", "a b c", "y");
    assert_int_equal(
        dt_onnx_eval_node(e, &count, (const dt_host_tensor *[]){&range[0], &range[1], &range[2]}, out),
        DT_ERR_DATA);
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
}

/* Results that are each small enough, and too many: those that nobody reads any more are given back. */
static void memory_is_given_back(void **state) {
    (void)state;
    dt_onnx_model *m = model_of(17);
    dt_onnx_value_info *in = take(m, sizeof *in), *out = take(m, sizeof *out);
    *in = (dt_onnx_value_info){.name = "v0", .type = DT_TENSOR_F32, .ndim = 1, .dim = {-1}};
    m->graph.in = in, m->graph.n_in = 1;
    for (int i = 0; i < 50; i++)
        add_node(m, &m->graph, node_of(m, "Neg", dt_onnx_text(m, "v%d", i), dt_onnx_text(m, "v%d", i + 1)));
    *out = (dt_onnx_value_info){.name = "v50", .type = DT_TENSOR_F32, .ndim = -1};
    m->graph.out = out, m->graph.n_out = 1;
    enum { N = BUDGET / 4 / 3 };
    float *data = take(m, N * sizeof *data);
    data[0] = 3;
    dt_onnx_eval *e;
    assert_int_equal(dt_onnx_eval_create(m, BUDGET, &e), DT_OK);
    for (int round = 0; round < 5; round++) {
        const dt_host_tensor x = f32s(N, data);
        dt_host_tensor y;
        assert_int_equal(dt_onnx_eval_run(e, &x, &y), DT_OK);
        assert_true(dt_host_f64(&y, 0) == 3);
    }
    const dt_host_tensor large = f32s(2 * N, data);
    dt_host_tensor y;
    assert_int_equal(dt_onnx_eval_run(e, &large, &y),
                     DT_ERR_DATA); /* two of them are not within the budget */
    const dt_host_tensor wrong = i64s(1, &(int64_t){1});
    assert_int_equal(dt_onnx_eval_run(e, &wrong, &y), DT_ERR_USAGE);
    assert_non_null(strstr(dt_error_text(), "input 'v0'"));
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
}

/* ---- what is not there, not known, or outside ---- */

static void ops_that_are_missing_are_all_named(void **state) {
    (void)state;
    dt_onnx_model *m = model_of(17), *old = model_of(9);
    dt_onnx_graph *body = take(m, sizeof *body);
    body->name = "body";
    dt_onnx_node outer = node_of(m, "Frobnicate", "x", "y"), inner = node_of(m, "Twist", "x", "z");
    inner.domain = "com.example";
    add_node(m, body, inner);
    add_attr(m, &outer, (dt_onnx_attr){.name = "body", .kind = DT_ONNX_GRAPH, .n = 1, .g = body});
    add_node(m, &m->graph, outer);
    assert_int_equal(dt_onnx_check_ops(m), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "Frobnicate of ai.onnx 17"));
    assert_non_null(strstr(dt_error_text(), "Twist of com.example 0"));
    add_node(old, &old->graph, node_of(old, "Trilu", "x", "y")); /* since 14 */
    assert_int_equal(dt_onnx_check_ops(old), DT_ERR_DATA);
    assert_non_null(strstr(dt_error_text(), "Trilu of ai.onnx 9"));
    assert_int_equal(dt_onnx_op_find("", "Slice", 9)->since, 1);
    assert_int_equal(dt_onnx_op_find("", "Slice", 17)->since, 10);
    dt_onnx_model_free(m);
    dt_onnx_model_free(old);
}

static void shapes_are_known_without_values(void **state) {
    (void)state;
    dt_onnx_model *m = model_of(17);
    dt_onnx_eval *e;
    assert_int_equal(dt_onnx_eval_create(m, BUDGET, &e), DT_OK);
    const dt_host_tensor x = {.type = DT_TENSOR_F32, .ndim = 2, .dim = {3, 4}},
                         unknown = {.type = DT_TENSOR_I64, .ndim = 1, .dim = {2}};
    dt_host_tensor y;
    const dt_onnx_node shape = node_of(m, "Shape", "x", "y"), neg = node_of(m, "Neg", "x", "y");
    assert_int_equal(dt_onnx_eval_node(e, &shape, (const dt_host_tensor *[]){&x}, &y), DT_OK);
    assert_true(y.data && dt_host_i64(&y, 0) == 3 && dt_host_i64(&y, 1) == 4);
    assert_int_equal(dt_onnx_eval_node(e, &neg, (const dt_host_tensor *[]){&x}, &y), DT_OK);
    assert_true(!y.data && y.ndim == 2 && y.dim[1] == 4);
    const dt_onnx_node reshape = node_of(m, "Reshape", "x shape", "y");
    assert_int_equal(dt_onnx_eval_node(e, &reshape, (const dt_host_tensor *[]){&x, &unknown}, &y),
                     DT_ERR_USAGE);
    assert_non_null(strstr(dt_error_text(), "'shape'"));
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
}

static void what_lies_outside_is_refused(void **state) {
    (void)state;
    const float data[6] = {1, 2, 3, 4, 5, 6};
    dt_onnx_model *m = model_of(17);
    dt_onnx_eval *e;
    assert_int_equal(dt_onnx_eval_create(m, BUDGET, &e), DT_OK);
    const dt_host_tensor x = f32s(6, data);
    dt_host_tensor y[3];
    static const struct {
        const char *op, *attr;
        int64_t value, second[3];
        int32_t n_second;
    } rows[] = {
        {"Gather", "axis", 1, {0}, 1},     {"Gather", "axis", 0, {6}, 1},
        {"Gather", "axis", 0, {-7}, 1},    {"GatherElements", "axis", 0, {INT64_MIN}, 1},
        {"Split", "axis", 0, {1, 2}, 2},   {"Split", "axis", 0, {-1, 7}, 2},
        {"Squeeze", "x", 0, {3}, 1},       {"Unsqueeze", "x", 0, {0, 0}, 2},
        {"Reshape", "x", 0, {-1, -1}, 2},  {"Reshape", "x", 0, {5, -1}, 2},
        {"Expand", "x", 0, {5}, 1},        {"Tile", "x", 0, {1, 1}, 2},
        {"Pad", "x", 0, {-4, -3}, 2},      {"ReduceSum", "x", 0, {1}, 1},
        {"ReduceSum", "x", 0, {0, -1}, 2}, {"TopK", "axis", 0, {7}, 1},
        {"Transpose", "perm", 0, {0}, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        dt_onnx_node n = node_of(m, rows[i].op, rows[i].n_second ? "x second" : "x",
                                 strcmp(rows[i].op, "Split") == 0 ? "a b" : "a");
        const int64_t twice[] = {0, 0};
        if (strcmp(rows[i].attr, "perm") == 0)
            add_attr(m, &n, (dt_onnx_attr){.name = "perm", .kind = DT_ONNX_INTS, .n = 2, .ints = twice});
        else
            add_attr(m, &n,
                     (dt_onnx_attr){.name = rows[i].attr, .kind = DT_ONNX_INT, .n = 1, .i = rows[i].value});
        const dt_host_tensor second = i64s(rows[i].n_second, rows[i].second);
        assert_int_equal(dt_onnx_eval_node(e, &n, (const dt_host_tensor *[]){&x, &second}, y), DT_ERR_DATA);
        assert_non_null(strstr(dt_error_text(), rows[i].op));
    }
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(m);
}

/* f16 is rounded once, not by way of f32. */
static void f16_is_rounded_once(void **state) {
    (void)state;
    uint16_t bits;
    dt_host_tensor t = {.type = DT_TENSOR_F16, .data = &bits};
    const double half_up = 1 + 0x1p-11; /* between 1 and the next number: to even, 1 */
    dt_host_put_f64(&t, 0, half_up);
    assert_int_equal(bits, 0x3c00);
    dt_host_put_f64(&t, 0, half_up + 0x1p-40); /* above it, by less than f32 tells */
    assert_int_equal(bits, 0x3c01);
    dt_host_put_f64(&t, 0, half_up + 0x1p-10 - 0x1p-40);
    assert_int_equal(bits, 0x3c01);
    dt_host_tensor small = {.type = DT_TENSOR_I4, .data = &(int8_t){0}};
    dt_host_put_f64(&small, 0, 1e9);
    assert_int_equal(dt_host_i64(&small, 0), 7);
    dt_host_put_i64(&small, 0, 9);
    assert_int_equal(dt_host_i64(&small, 0), -7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bombs_stop_at_the_budget),
        cmocka_unit_test(memory_is_given_back),
        cmocka_unit_test(ops_that_are_missing_are_all_named),
        cmocka_unit_test(shapes_are_known_without_values),
        cmocka_unit_test(what_lies_outside_is_refused),
        cmocka_unit_test(f16_is_rounded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
