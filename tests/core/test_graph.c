/* The graph's storage and its rules: what is refused and how it says so, views, growth, validation. */
#include <stdio.h>

#include "core/op.h"
#include "core/plan.h"
#include "test_check.h"

typedef struct tiny {
    dt_graph *g;
    dt_vid x, w, y, r, flat;
} tiny;

/* x [2,4,4,3] -> conv 5 -> relu -> flatten */
static tiny tiny_open(void) {
    tiny t;
    dt_attr conv = {.window.kernel = {3, 3},
                    .window.stride = {1, 1},
                    .window.pad_begin = {1, 1},
                    .window.pad_end = {1, 1},
                    .window.dilation = {1, 1},
                    .window.groups = 1};
    check_ok(dt_graph_create(&t.g, DT_DTYPE_F32, true));
    check_ok(dt_graph_add_value(t.g, "x", DT_ROLE_ACT, DT_DTYPE_F32, 4, (int64_t[]){2, 4, 4, 3}, &t.x));
    check_ok(dt_graph_add_value(t.g, "w", DT_ROLE_PARAM, DT_DTYPE_F32, 4, (int64_t[]){5, 3, 3, 3}, &t.w));
    check_ok(dt_graph_add_node(t.g, "y", DT_OP_CONV, &conv, 2, (dt_vid[]){t.x, t.w}, &t.y));
    check_ok(dt_graph_add_node(t.g, "r", DT_OP_UNARY, NULL, 1, &t.y, &t.r));
    check_ok(dt_graph_add_node(t.g, "flat", DT_OP_RESHAPE, NULL, 1, &t.r, &t.flat));
    check_ok(dt_graph_validate(t.g));
    return t;
}

static void test_values_and_views(void **state) {
    (void)state;
    tiny t = tiny_open();
    const dt_value *y = &t.g->value[t.y];
    assert_int_equal(dt_value_n_elem(y), 2 * 4 * 4 * 5);
    assert_int_equal(dt_value_bytes(y), 2 * 4 * 4 * 5 * 4);
    assert_string_equal(dt_value_shape_text(y), "2x4x4x5 f32");
    assert_string_equal(dt_value_shape_text(&t.g->value[t.flat]), "2x80 f32");
    assert_int_equal(dt_graph_root(t.g, t.flat), t.r);
    assert_int_equal(dt_graph_root(t.g, t.r), t.r);
    assert_int_equal(dt_graph_find(t.g, "flat"), t.flat);
    assert_int_equal(dt_graph_find(t.g, "fla"), -1);
    assert_int_equal(y->producer, 0);
    assert_int_equal(t.g->value[t.x].producer, -1);
    dt_attr back = {.reshape = {.ndim = 4, .dim = {2, 2, 2, -1}}};
    dt_vid image;
    check_ok(dt_graph_add_node(t.g, "image", DT_OP_RESHAPE, &back, 1, &t.flat, &image));
    assert_string_equal(dt_value_shape_text(&t.g->value[image]), "2x2x2x20 f32");
    assert_int_equal(dt_graph_root(t.g, image), t.r); /* a view of a view */
    dt_graph_destroy(t.g);
}

static void test_arrays_grow(void **state) {
    (void)state;
    tiny t = tiny_open();
    const int32_t n_value = t.g->n_value, n_node = t.g->n_node;
    for (int i = 0; i < 200; i++) {
        char name[16];
        dt_vid v;
        snprintf(name, sizeof name, "more%d", i);
        check_ok(dt_graph_add_node(t.g, name, DT_OP_UNARY, NULL, 1, &t.r, &v));
        assert_int_equal(v, n_value + i);
    }
    assert_int_equal(t.g->n_node, n_node + 200);
    assert_int_equal(t.g->node[0].op, DT_OP_CONV);
    assert_int_equal(dt_graph_find(t.g, "y"), t.y);
    check_ok(dt_graph_validate(t.g));
    dt_graph_destroy(t.g);
    dt_graph_destroy(NULL);
}

static void test_refused_values(void **state) {
    (void)state;
    tiny t = tiny_open();
    dt_vid v;
    char name[DT_NAME_MAX + 8];
    const int64_t two[DT_MAX_DIM + 1] = {2, 2, 2, 2, 2, 2, 2, 2, 2};
    const int32_t n = t.g->n_value;
#define ADD(name_, ndim, ...)                                                                                \
    dt_graph_add_value(t.g, name_, DT_ROLE_ACT, DT_DTYPE_F32, ndim, (int64_t[]){__VA_ARGS__}, &v)
    CHECK_ERROR(ADD("y", 1, 4), DT_ERR_CONFIG, "\"y\"", "twice");
    CHECK_ERROR(ADD("", 1, 4), DT_ERR_CONFIG, "no name");
    CHECK_ERROR(ADD("z", 0, 4), DT_ERR_CONFIG, "z", "0 dimensions");
    CHECK_ERROR(dt_graph_add_value(t.g, "z", DT_ROLE_ACT, DT_DTYPE_F32, DT_MAX_DIM + 1, two, &v),
                DT_ERR_CONFIG, "9 dim");
    CHECK_ERROR(dt_graph_add_value(t.g, "z", DT_ROLE_PARAM, DT_DTYPE_F32, 2, (int64_t[]){4, 0}, &v),
                DT_ERR_CONFIG, "z: dimension 1 would be 0");
    CHECK_ERROR(ADD("z", 4, 0, INT32_MAX, INT32_MAX, INT32_MAX), DT_ERR_CONFIG, "too large");
    CHECK_ERROR(ADD("z", 2, -1, 4), DT_ERR_CONFIG, "dimension 0");
    CHECK_ERROR(ADD("z", 3, INT32_MAX, INT32_MAX, INT32_MAX), DT_ERR_CONFIG, "too large");
    CHECK_ERROR(ADD("z", 1, INT64_MAX), DT_ERR_CONFIG, "too large");
    memset(name, 'n', sizeof name);
    name[DT_NAME_MAX] = 0;
    CHECK_ERROR(ADD(name, 1, 4), DT_ERR_CONFIG, "longer than");
    assert_int_equal(t.g->n_value, n);
    name[DT_NAME_MAX - 1] = 0; /* the longest that fits */
    check_ok(ADD(name, 1, 4));
#undef ADD
    dt_graph_destroy(t.g);
}

static void test_refused_nodes(void **state) {
    (void)state;
    tiny t = tiny_open();
    const int32_t n_value = t.g->n_value, n_node = t.g->n_node;
    dt_attr conv = t.g->node[0].attr;
    dt_vid v;
#define ADD(name, op, attr, ...)                                                                             \
    dt_graph_add_node(t.g, name, op, attr, (int32_t)(sizeof((dt_vid[]){__VA_ARGS__}) / sizeof(dt_vid)),      \
                      (dt_vid[]){__VA_ARGS__}, &v)
    CHECK_ERROR(ADD("z", DT_OP_CONV, &conv, t.x), DT_ERR_CONFIG, "z (conv)", "input w is missing");
    CHECK_ERROR(ADD("z", DT_OP_UNARY, NULL, n_value), DT_ERR_CONFIG, "z (relu)", "does not exist");
    CHECK_ERROR(ADD("z", DT_OP_UNARY, NULL, -1), DT_ERR_CONFIG, "input x is missing");
    CHECK_ERROR(ADD("z", DT_OP_UNARY, NULL, -2), DT_ERR_CONFIG, "does not exist");
    CHECK_ERROR(ADD("z", DT_OP_UNARY, NULL, t.x, t.x), DT_ERR_CONFIG, "2 inputs, at most 1");
    CHECK_ERROR(ADD("z", DT_OP_BINARY, NULL, t.x, t.y), DT_ERR_CONFIG, "z (add)", "x is 2x4x4x3 f32",
                "y is 2x4x4x5 f32");
    CHECK_ERROR(ADD("z", DT_OP_CONV, &conv, t.y, t.w), DT_ERR_CONFIG, "weight w is 5x3x3x3 f32");
    CHECK_ERROR(ADD("z", DT_OP_GLOBAL_AVGPOOL, NULL, t.flat), DT_ERR_CONFIG, "flat, is 2x80 f32");
    CHECK_ERROR(ADD("y", DT_OP_UNARY, NULL, t.y), DT_ERR_CONFIG, "\"y\"", "twice");
    conv.window.pad_begin[0] = conv.window.pad_begin[1] = 0;
    conv.window.pad_end[0] = conv.window.pad_end[1] = 0, conv.window.dilation[0] = 2;
    CHECK_ERROR(ADD("z", DT_OP_CONV, &conv, t.x, t.w), DT_ERR_CONFIG, "window of 5", "image side of 4");
    /* Its second output has a name already: the first must not stay. */
    dt_attr pool = {.window.kernel = {2, 2}, .window.stride = {2, 2}};
    check_ok(dt_graph_add_value(t.g, "p:1", DT_ROLE_ACT, DT_DTYPE_F32, 1, (int64_t[]){1}, &v));
    CHECK_ERROR(ADD("p", DT_OP_MAXPOOL, &pool, t.x), DT_ERR_CONFIG, "\"p:1\"");
    assert_int_equal(dt_graph_find(t.g, "p"), -1);
    assert_int_equal(t.g->n_value, n_value + 1);
    assert_int_equal(t.g->n_node, n_node);
    check_ok(dt_graph_validate(t.g));
#undef ADD
    dt_graph_destroy(t.g);
}

static void break_input_range(tiny *t) {
    t->g->node[1].in[0] = t->g->n_value;
}
static void break_input_none(tiny *t) {
    t->g->node[1].in[0] = -1;
}
static void break_order(tiny *t) {
    dt_node n = t->g->node[0];
    t->g->node[0] = t->g->node[1], t->g->node[1] = n;
}
static void break_self(tiny *t) {
    t->g->node[1].in[0] = t->r;
}
static void break_producer(tiny *t) {
    t->g->value[t->r].producer = 0;
}
static void break_output(tiny *t) {
    t->g->node[1].out[0] = t->y;
}
static void break_output_range(tiny *t) {
    t->g->node[1].out[0] = 1000;
}
static void break_name(tiny *t) {
    strcpy(t->g->value[t->r].name, "y");
}
static void break_view(tiny *t) {
    t->g->value[t->flat].alias_of = t->x;
}
static void break_view_lost(tiny *t) {
    t->g->value[t->flat].alias_of = -1;
}
static void break_view_made(tiny *t) {
    t->g->value[t->r].alias_of = t->y;
}

static void test_validate_finds_broken_graphs(void **state) {
    (void)state;
    static const struct {
        void (*spoil)(tiny *t);
        const char *says;
    } cases[] = {
        {break_input_range, "input 0"},         {break_input_none, "input 0"},
        {break_order, "before it is made"},     {break_self, "before it is made"},
        {break_producer, "producer"},           {break_output, "producer"},
        {break_output_range, "producer"},       {break_name, "named y"},
        {break_view, "memory of another"},      {break_view_lost, "memory of another"},
        {break_view_made, "memory of another"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        tiny t = tiny_open();
        cases[k].spoil(&t);
        dt_status st = dt_graph_validate(t.g);
        if (st == DT_OK) fail_msg("broken graph %zu passes", k);
        CHECK_ERROR(st, DT_ERR_INTERNAL, cases[k].says);
        dt_graph_destroy(t.g);
    }
}

/* The attributes of a row are of one family, lie apart, and are all that reaches a node. */
static void test_attributes(void **state) {
    (void)state;
    dt_attr all;
    memset(&all, 0xff, sizeof all);
    for (int32_t op = 0; op < DT_OP_COUNT; op++) {
        const dt_attr_row *row = dt_op_get((dt_op)op)->attr;
        dt_attr left = dt_op_attr((dt_op)op, &all);
        for (int32_t i = 0; row[i].name; i++) {
            assert_string_equal(row[i].family, row[0].family);
            assert_true(row[i].count >= 1 && row[i].size > 0);
            for (int32_t b = row[i].offset; b < row[i].offset + row[i].size; b++) {
                if (left.bytes[b] != 0xff) fail_msg("%s of op %d lies in another", row[i].name, op);
                left.bytes[b] = 0;
            }
        }
        const dt_attr zero = {0};
        assert_memory_equal(&left, &zero, sizeof zero);
    }
    tiny t = tiny_open();
    check_ok(dt_graph_validate(t.g));
    assert_int_equal(t.g->node[0].op, DT_OP_CONV);
    t.g->node[0].attr.window.size[0] = 1; /* of the gradient */
    CHECK_ERROR(dt_graph_validate(t.g), DT_ERR_INTERNAL, "an attribute of another op");
    dt_graph_destroy(t.g);
}

/* Sizes in bits; a packed value ends with a whole byte. */
static void test_types(void **state) {
    (void)state;
    static const int32_t bits[DT_DTYPE_COUNT] = {32, 16, 16, 8, 32, 64, 64, 8, 8, 4};
    for (int32_t t = 0; t < DT_DTYPE_COUNT; t++) {
        assert_int_equal(dt_dtype_bits((dt_dtype)t), bits[t]);
        for (int64_t n = 0; n < 9; n++)
            assert_int_equal(dt_dtype_bytes((dt_dtype)t, n), (n * bits[t] + 7) / 8);
        const dt_value v = {.dtype = (dt_dtype)t, .ndim = 2, .dim = {3, 5}};
        assert_int_equal(dt_value_bytes(&v), (15 * bits[t] + 7) / 8);
    }
}

/* Values of 1-byte and of 4-bit types get places of their own, in the arenas of inputs, states and activations. */
static void test_plan_of_narrow_types(void **state) {
    (void)state;
    dt_graph *g;
    dt_vid x, mask, w8, w4, y, z, part;
    dt_plan plan;
    check_ok(dt_graph_create(&g, DT_DTYPE_F32, false));
    check_ok(dt_graph_add_value(g, "x", DT_ROLE_INPUT, DT_DTYPE_F32, 2, (int64_t[]){3, 5}, &x));
    check_ok(dt_graph_add_value(g, "mask", DT_ROLE_INPUT, DT_DTYPE_BOOL, 2, (int64_t[]){3, 9}, &mask));
    check_ok(dt_graph_add_value(g, "w4", DT_ROLE_STATE, DT_DTYPE_I4, 2, (int64_t[]){7, 5}, &w4));
    check_ok(dt_graph_add_value(g, "w8", DT_ROLE_STATE, DT_DTYPE_I8, 2, (int64_t[]){11, 7}, &w8));
    check_ok(dt_graph_add_node(g, "y", DT_OP_DENSE, NULL, 2, (dt_vid[]){x, w4}, &y));
    check_ok(dt_graph_add_node(g, "z", DT_OP_DENSE, NULL, 2, (dt_vid[]){y, w8}, &z));
    check_ok(dt_graph_add_node(g, "part", DT_OP_SLICE, &(dt_attr){.shape = {.axis = 1, .length = 5}}, 1,
                               &mask, &part));
    check_ok(dt_graph_add_output(g, "z", z));
    check_ok(dt_graph_add_output(g, "part", part));
    check_ok(dt_graph_validate(g));
    check_ok(dt_plan_build(g, 16, 8, true, &plan));
    assert_int_equal(dt_value_bytes(&g->value[w4]), 18);
    assert_int_equal(dt_value_bytes(&g->value[part]), 15);
    for (dt_vid a = 0; a < g->n_value; a++)
        for (dt_vid b = 0; b < a; b++) {
            const dt_value *u = &g->value[a], *v = &g->value[b];
            if (u->arena != v->arena || u->arena == DT_ARENA_NONE) continue;
            if (u->arena == DT_ARENA_ACT && u->first >= 0 && v->first >= 0 &&
                (u->last < v->first || v->last < u->first))
                continue;
            if (u->offset_bytes < v->offset_bytes + dt_value_bytes(v) &&
                v->offset_bytes < u->offset_bytes + dt_value_bytes(u))
                fail_msg("%s and %s overlap", u->name, v->name);
        }
    dt_graph_destroy(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attributes),           cmocka_unit_test(test_types),
        cmocka_unit_test(test_plan_of_narrow_types), cmocka_unit_test(test_values_and_views),
        cmocka_unit_test(test_arrays_grow),          cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_refused_nodes),        cmocka_unit_test(test_validate_finds_broken_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
