/* ONNX models: what the format's own library wrote is read, what is written here is read again as the same, and a file
 * that lies is refused. */
#include "tensor_files.h"

#include <limits.h>
#include <sys/stat.h>

#include "formats/onnx.h"
#include "onnx_private.h"

#define GOLDEN DT_TEST_DATA "/onnx/"

static int formula(int i) {
    return i % 7 - 3;
}

static dt_onnx_model *open_model(const char *path) {
    dt_onnx_model *m;
    check_ok(dt_onnx_read(path, &m));
    return m;
}

static const dt_onnx_tensor *constant(const dt_onnx_model *m, const char *name) {
    for (int32_t i = 0; i < m->graph.n_constant; i++)
        if (strcmp(m->graph.constant[i].name, name) == 0) return &m->graph.constant[i];
    fail_msg("no constant %s", name);
    return NULL;
}

static void every_type_is_read(void **state) {
    (void)state;
    static const struct {
        const char *name;
        dt_tensor_type type;
        size_t bytes;
    } row[] = {{"FLOAT", DT_TENSOR_F32, 4},     {"UINT8", DT_TENSOR_U8, 1},   {"INT8", DT_TENSOR_I8, 1},
               {"UINT16", DT_TENSOR_U16, 2},    {"INT16", DT_TENSOR_I16, 2},  {"INT32", DT_TENSOR_I32, 4},
               {"INT64", DT_TENSOR_I64, 8},     {"BOOL", DT_TENSOR_BOOL, 1},  {"FLOAT16", DT_TENSOR_F16, 2},
               {"DOUBLE", DT_TENSOR_F64, 8},    {"UINT32", DT_TENSOR_U32, 4}, {"UINT64", DT_TENSOR_U64, 8},
               {"BFLOAT16", DT_TENSOR_BF16, 2}, {"UINT4", DT_TENSOR_U4, 1},   {"INT4", DT_TENSOR_I4, 1}};
    dt_onnx_model *m = open_model(GOLDEN "types.onnx");
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        const dt_onnx_tensor *both[2];
        for (int raw = 0; raw < 2; raw++) {
            char name[32];
            snprintf(name, sizeof name, "%s.%s", row[k].name, raw ? "raw" : "typed");
            both[raw] = constant(m, name);
            assert_int_equal(both[raw]->type, row[k].type);
            assert_int_equal(both[raw]->ndim, 1);
            assert_int_equal(both[raw]->n_elem, 5);
            assert_int_equal(both[raw]->n_bytes, 5 * row[k].bytes);
        }
        assert_memory_equal(both[0]->data, both[1]->data, 5 * row[k].bytes);
        for (int i = 0; i < 5 && row[k].name[0] == 'I'; i++) { /* the signed ones: low byte and sign */
            int64_t got = 0;
            memcpy(&got, (const uint8_t *)both[0]->data + (size_t)i * row[k].bytes, row[k].bytes);
            assert_int_equal((int8_t)got, formula(i));
        }
    }
    for (int i = 0; i < 5; i++) {
        float f;
        memcpy(&f, (const char *)constant(m, "FLOAT.typed")->data + 4 * i, 4);
        assert_true(f == (float)formula(i));
        assert_int_equal(((const uint8_t *)constant(m, "UINT4.typed")->data)[i], formula(i) + 3);
    }
    assert_int_equal(constant(m, "scalar")->ndim, 0);
    assert_int_equal(constant(m, "empty")->n_elem, 0);
    int64_t third;
    memcpy(&third, (const int64_t *)constant(m, "unpacked")->data + 2, sizeof third);
    assert_int_equal(third, 6);
    const dt_onnx_value_info *x = m->graph.in;
    assert_int_equal(x->type, DT_TENSOR_F32);
    assert_int_equal(x->ndim, 3);
    assert_int_equal(x->dim[0], -1);
    assert_string_equal(x->dim_name[0], "N");
    assert_int_equal(x->dim[1], 3);
    assert_int_equal(x->dim[2], -1);
    assert_null(x->dim_name[2]);
    assert_string_equal(m->producer, "make_onnx");
    assert_int_equal(dt_onnx_version(m, ""), 21);
    dt_onnx_model_free(m);
    CHECK_ERROR(dt_tensor_type_find("I4") == DT_TENSOR_TYPES ? dt_fail(DT_ERR_DATA, "no I4") : DT_OK,
                DT_ERR_DATA, "no I4");
}

static void functions_are_put_in_place(void **state) {
    (void)state;
    static const char *const op[] = {"Identity", "Constant",  "Mul",      "LeakyRelu", "Constant",
                                     "Mul",      "LeakyRelu", "Identity", "If",        "Constant",
                                     "Mul",      "LeakyRelu", "Constant", "Mul",       "LeakyRelu",
                                     "Identity", "Add"};
    static const float slope[] = {0.5f, 0.125f, 0.5f, 0.75f};
    dt_onnx_model *m = open_model(GOLDEN "calls.onnx");
    const dt_onnx_graph *g = &m->graph;
    assert_int_equal(g->n_node, sizeof op / sizeof op[0]);
    int n_slope = 0;
    for (int32_t i = 0; i < g->n_node; i++) {
        assert_string_equal(g->node[i].op, op[i]);
        if (strcmp(op[i], "LeakyRelu") == 0)
            assert_true(dt_onnx_attr_float(&g->node[i], "alpha", 0) == slope[n_slope++]);
    }
    assert_string_equal(g->node[0].in[0], "x");
    assert_string_equal(g->node[0].out[0], "x2");
    assert_string_equal(g->node[6].out[0], "y");
    const dt_onnx_attr *body = dt_onnx_attr_find(&g->node[8], "else_branch");
    assert_int_equal(body->g->n_node, 1);
    assert_string_equal(body->g->node[0].in[0], "y");
    dt_onnx_model_free(m);
}

static void old_files_are_read(void **state) {
    (void)state;
    static const char *const name[] = {"first", "second", "last"};
    dt_onnx_model *m = open_model(GOLDEN "old.onnx");
    assert_int_equal(m->graph.n_in, 1); /* the bias is a constant */
    assert_int_equal(m->graph.in[0].dim[0], -1);
    assert_int_equal(dt_onnx_version(m, ""), 7);
    for (int i = 0; i < 3; i++) assert_string_equal(m->graph.node[i + 1].name, name[i]);
    dt_onnx_model_free(m);

    dt_tensors *t;
    check_ok(dt_tensors_open(GOLDEN "old.onnx", &t));
    assert_string_equal(t->format, "ONNX");
    assert_int_equal(t->n, 2);
    float w[6];
    assert_non_null(dt_tensors_find(t, "w"));
    check_ok(dt_file_tensor_read(dt_tensors_find(t, "w"), w));
    for (int i = 0; i < 6; i++) assert_true(w[i] == (float)formula(i));
    assert_string_equal(dt_tensors_note(t, "author"), "make_onnx");
    dt_tensors_close(t);
}

/* Byte by byte what one model is of another. */
static void check_same(const char *a, const char *b) {
    FILE *f[2] = {fopen(a, "rb"), fopen(b, "rb")};
    assert_non_null(f[0]);
    assert_non_null(f[1]);
    int c;
    do {
        c = getc(f[0]);
        assert_int_equal(getc(f[1]), c);
    } while (c != EOF);
    fclose(f[0]), fclose(f[1]);
}

static void what_is_written_is_read(void **state) {
    (void)state;
    static const char *const file[] = {"types", "calls", "old", "outside"};
    for (size_t k = 0; k < sizeof file / sizeof file[0]; k++) {
        char path[PATH_MAX], again[PATH_MAX];
        snprintf(path, sizeof path, GOLDEN "%s.onnx", file[k]);
        dt_onnx_model *m = open_model(path), *n;
        snprintf(path, sizeof path, "%s/%s.onnx", scratch, file[k]);
        snprintf(again, sizeof again, "%s/%s.again.onnx", scratch, file[k]);
        check_ok(dt_onnx_write(m, path));
        check_ok(dt_onnx_read(path, &n));
        assert_true(dt_onnx_knows(path));
        assert_int_equal(n->graph.n_node, m->graph.n_node);
        assert_int_equal(n->graph.n_constant, m->graph.n_constant);
        for (int32_t i = 0; i < m->graph.n_constant; i++) {
            const dt_onnx_tensor *x = &m->graph.constant[i], *y = &n->graph.constant[i];
            assert_string_equal(x->name, y->name);
            assert_int_equal(x->type, y->type);
            if (x->n_bytes > 0) assert_memory_equal(x->data, y->data, (size_t)x->n_bytes);
        }
        check_ok(dt_onnx_write(n, again));
        check_same(path, again);
        dt_onnx_model_free(m), dt_onnx_model_free(n);
    }
}

static void much_data_lie_outside(void **state) {
    (void)state;
    dt_onnx_model *m, *n;
    check_ok(dt_onnx_model_create(17, &m));
    enum { N = 3000 };
    float *x = dt_onnx_alloc(m, N * sizeof *x);
    for (int i = 0; i < N; i++) x[i] = (float)i;
    dt_onnx_tensor t[3] = {{"a", DT_TENSOR_F32, 1, {N}, N, 4 * N, x},
                           {"small", DT_TENSOR_F32, 1, {2}, 2, 8, x},
                           {"b", DT_TENSOR_F32, 2, {N / 2, 2}, N, 4 * N, x}};
    m->graph.constant = t, m->graph.n_constant = 3;
    const char *path = in_scratch("big.onnx");
    check_ok(dt_onnx_write_limit(m, path, 10000));
    check_ok(dt_onnx_read(path, &n));
    assert_int_equal(n->n_file, 2);
    for (int i = 0; i < 3; i++) assert_memory_equal(n->graph.constant[i].data, x, (size_t)t[i].n_bytes);
    assert_int_equal((const uint8_t *)n->graph.constant[2].data - n->file[1].byte, 12288);
    assert_int_equal(n->file[1].n_bytes, 12288 + 4 * N);
    dt_onnx_model_free(m), dt_onnx_model_free(n);
}

/* A model is put together from its messages, so that it can say anything. */
typedef struct draft {
    dt_pb_writer graph, more;
    int64_t ir, opset;
} draft;

static void put_message(dt_pb_writer *w, int32_t number, dt_pb_writer inner) {
    dt_pb_put_message(w, number, &inner);
}

/* "a b" of field `number`, one text each; "-" is an absent one. */
static void put_names(dt_pb_writer *w, int32_t number, const char *names) {
    char copy[256], *save;
    snprintf(copy, sizeof copy, "%s", names);
    for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save))
        dt_pb_put_text(w, number, strcmp(p, "-") == 0 ? "" : p);
}

static dt_pb_writer node_of(const char *op, const char *in, const char *out) {
    dt_pb_writer n = {0};
    put_names(&n, 1, in);
    put_names(&n, 2, out);
    dt_pb_put_text(&n, 3, "node1");
    dt_pb_put_text(&n, 4, op);
    return n;
}

static void put_node(draft *d, const char *op, const char *in, const char *out) {
    put_message(&d->graph, 1, node_of(op, in, out));
}

static void put_value(dt_pb_writer *graph, int32_t number, const char *name, int64_t type) {
    dt_pb_writer value = {0}, kind = {0}, tensor = {0};
    dt_pb_put_text(&value, 1, name);
    dt_pb_put_int(&tensor, 1, type);
    put_message(&kind, 1, tensor);
    put_message(&value, 2, kind);
    put_message(graph, number, value);
}

static dt_pb_writer tensor_of(const char *name, int64_t type, int64_t n) {
    dt_pb_writer t = {0};
    dt_pb_put_ints(&t, 1, 1, &n);
    dt_pb_put_int(&t, 2, type);
    dt_pb_put_text(&t, 8, name);
    return t;
}

static void put_floats(draft *d, const char *name, int64_t n, int64_t n_here) {
    static const float zero[16];
    dt_pb_writer t = tensor_of(name, 1, n);
    dt_pb_put_floats(&t, 4, n_here, zero);
    put_message(&d->graph, 5, t);
}

static void put_external(draft *d, const char *location, const char *offset, const char *length) {
    const char *const pair[][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    dt_pb_writer t = tensor_of("w", 1, 4);
    for (int i = 0; i < 3; i++) {
        dt_pb_writer entry = {0};
        if (!pair[i][1]) continue;
        dt_pb_put_text(&entry, 1, pair[i][0]);
        dt_pb_put_text(&entry, 2, pair[i][1]);
        put_message(&t, 13, entry);
    }
    dt_pb_put_int(&t, 14, 1);
    put_message(&d->graph, 5, t);
}

/* A function of domain "f" that does `op` of `in`. */
static void put_function(draft *d, const char *name, const char *op, const char *domain, int64_t opset) {
    dt_pb_writer f = {0}, version = {0}, n = node_of(op, "a", "b");
    dt_pb_put_text(&f, 1, name);
    put_names(&f, 4, "a");
    put_names(&f, 5, "b");
    dt_pb_put_text(&n, 7, domain);
    put_message(&f, 7, n);
    dt_pb_put_text(&version, 1, "");
    dt_pb_put_int(&version, 2, opset);
    put_message(&f, 9, version);
    dt_pb_put_text(&f, 10, "f");
    put_message(&d->more, 25, f);
}

static void put_call(draft *d, const char *name, const char *in, const char *out) {
    dt_pb_writer n = node_of(name, in, out);
    dt_pb_put_text(&n, 7, "f");
    put_message(&d->graph, 1, n);
}

static const char *finish(draft *d, const char *name) {
    dt_pb_writer model = {0}, opset = {0};
    const char *path = in_scratch(name);
    dt_pb_put_text(&opset, 1, "");
    dt_pb_put_int(&opset, 2, d->opset);
    dt_pb_put_int(&model, 1, d->ir);
    put_message(&model, 7, d->graph);
    put_message(&model, 8, opset);
    uint8_t *bytes = check_alloc(model.n + d->more.n);
    memcpy(bytes, model.byte, model.n);
    if (d->more.n > 0) memcpy(bytes + model.n, d->more.byte, d->more.n);
    put_file(path, bytes, model.n + d->more.n);
    dt_pb_writer_free(&model), dt_pb_writer_free(&d->more);
    free(bytes);
    return path;
}

/* x -> y through what a case puts between. */
static draft begin(void) {
    draft d = {.ir = 8, .opset = 17};
    put_value(&d.graph, 11, "x", 1);
    put_value(&d.graph, 12, "y", 1);
    return d;
}

static void two_makers(draft *d) {
    put_node(d, "Relu", "x", "y");
    put_node(d, "Relu", "x", "y");
}
static void makes_an_input(draft *d) {
    put_node(d, "Relu", "x", "x");
}
static void two_constants(draft *d) {
    put_floats(d, "w", 2, 2);
    put_floats(d, "w", 2, 2);
}
static void unknown_name(draft *d) {
    put_node(d, "Add", "x nowhere", "y");
}
static void unknown_output(draft *d) {
    put_node(d, "Relu", "x", "z");
}
static void circle(draft *d) {
    put_node(d, "Add", "x b", "a");
    put_node(d, "Relu", "a", "b");
    put_node(d, "Relu", "b", "y");
}
static void own_result(draft *d) {
    put_node(d, "Add", "x y", "y");
}
static void no_op(draft *d) {
    put_node(d, "", "x", "y");
}
static void string_with_zero(draft *d) {
    dt_pb_writer n = node_of("Relu", "x", "y");
    dt_pb_put_bytes(&n, 3, "a\0b", 3);
    put_message(&d->graph, 1, n);
}
static void name_that_speaks(draft *d) {
    put_node(d, "Relu", "x", "\x1b[2Jy");
}
static void no_utf8(draft *d) {
    put_node(d, "Relu", "x", "\xff");
}
static void too_few_numbers(draft *d) {
    put_floats(d, "w", 5, 4);
}
static void dims_below_0(draft *d) {
    put_floats(d, "w", -5, 4);
}
static void dims_too_many(draft *d) {
    const int64_t dim[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    dt_pb_writer t = {0};
    dt_pb_put_ints(&t, 1, 9, dim);
    put_message(&d->graph, 5, t);
}
static void dims_overflow(draft *d) {
    const int64_t dim[3] = {INT64_MAX, INT64_MAX, 2};
    dt_pb_writer t = {0};
    dt_pb_put_ints(&t, 1, 3, dim);
    dt_pb_put_int(&t, 2, 1);
    dt_pb_put_text(&t, 8, "w");
    put_message(&d->graph, 5, t);
}
static void huge_without_data(draft *d) {
    put_floats(d, "w", (int64_t)1 << 40, 0);
}
static void two_forms(draft *d) {
    static const float zero[2];
    dt_pb_writer t = tensor_of("w", 1, 2);
    dt_pb_put_floats(&t, 4, 2, zero);
    dt_pb_put_bytes(&t, 9, zero, 8);
    put_message(&d->graph, 5, t);
}
static void other_form(draft *d) {
    const int64_t value[2] = {0};
    dt_pb_writer t = tensor_of("w", 1, 2);
    dt_pb_put_ints(&t, 7, 2, value);
    put_message(&d->graph, 5, t);
}
static void raw_too_short(draft *d) {
    dt_pb_writer t = tensor_of("w", 1, 2);
    dt_pb_put_bytes(&t, 9, "1234567", 7);
    put_message(&d->graph, 5, t);
}
static void number_out_of_range(draft *d) {
    const int64_t value[2] = {0, 128};
    dt_pb_writer t = tensor_of("w", 3, 2);
    dt_pb_put_ints(&t, 5, 2, value);
    put_message(&d->graph, 5, t);
}
static void truth_of_2(draft *d) {
    dt_pb_writer t = tensor_of("w", 9, 2);
    dt_pb_put_bytes(&t, 9, "\1\2", 2);
    put_message(&d->graph, 5, t);
}
static void strings_that_are_read(draft *d) {
    dt_pb_writer t = tensor_of("w", 8, 1);
    dt_pb_put_text(&t, 6, "text");
    put_message(&d->graph, 5, t);
    put_node(d, "Identity", "w", "y");
}
static void segments(draft *d) {
    dt_pb_writer t = tensor_of("w", 1, 1);
    dt_pb_put_text(&t, 3, "");
    put_message(&d->graph, 5, t);
}
static void sparse(draft *d) {
    dt_pb_put_text(&d->graph, 15, "");
}
static void group(draft *d) {
    dt_pb_put_int(&d->graph, 1, 0);
    d->graph.byte[d->graph.n - 2] |= 3;
}
static void long_varint(draft *d) {
    dt_pb_writer n = node_of("Relu", "x", "y");
    dt_pb_put_int(&n, 100, -1);
    n.byte[n.n - 1] = 0x81; /* the 10th byte of a number says that there is an 11th */
    put_message(&d->graph, 1, n);
}
static void length_beyond(draft *d) {
    dt_pb_put_bytes(&d->graph, 2, "name", 4);
    d->graph.byte[d->graph.n - 5] = 100;
}
static void wrong_wire(draft *d) {
    dt_pb_put_int(&d->graph, 1, 5);
}
static void deep(draft *d) {
    dt_pb_writer t = tensor_of("", 1, 0), body = {0};
    dt_pb_writer_free(&t);
    for (int i = 0; i < 30; i++) {
        dt_pb_writer n = node_of("If", "x", "y"), attr = {0};
        dt_pb_put_text(&attr, 1, "then_branch");
        put_message(&attr, 6, body);
        put_message(&n, 5, attr);
        body = (dt_pb_writer){0};
        put_message(&body, 1, n);
    }
    dt_pb_writer n = node_of("If", "x", "y"), attr = {0};
    dt_pb_put_text(&attr, 1, "then_branch");
    put_message(&attr, 6, body);
    put_message(&n, 5, attr);
    put_message(&d->graph, 1, n);
}
static void two_values(draft *d) {
    dt_pb_writer n = node_of("Relu", "x", "y"), attr = {0};
    dt_pb_put_text(&attr, 1, "alpha");
    dt_pb_put_float(&attr, 2, 1);
    dt_pb_put_int(&attr, 3, 1);
    put_message(&n, 5, attr);
    put_message(&d->graph, 1, n);
}
static void attribute_twice(draft *d) {
    dt_pb_writer n = node_of("Relu", "x", "y");
    for (int i = 0; i < 2; i++) {
        dt_pb_writer attr = {0};
        dt_pb_put_text(&attr, 1, "alpha");
        dt_pb_put_float(&attr, 2, 1);
        put_message(&n, 5, attr);
    }
    put_message(&d->graph, 1, n);
}
static void reference_outside(draft *d) {
    dt_pb_writer n = node_of("Relu", "x", "y"), attr = {0};
    dt_pb_put_text(&attr, 1, "alpha");
    dt_pb_put_text(&attr, 21, "beta");
    put_message(&n, 5, attr);
    put_message(&d->graph, 1, n);
}
static void recursion(draft *d) {
    put_function(d, "one", "two", "f", 17);
    put_function(d, "two", "one", "f", 17);
    put_call(d, "one", "x", "y");
}
static void function_twice(draft *d) {
    put_function(d, "one", "Relu", "", 17);
    put_function(d, "one", "Relu", "", 17);
}
static void call_with_too_much(draft *d) {
    put_function(d, "one", "Relu", "", 17);
    put_call(d, "one", "x x", "y");
}
static void function_of_other_opset(draft *d) {
    put_function(d, "one", "Relu", "", 13);
    put_call(d, "one", "x", "y");
}
/* Each function calls the one before it twice: 2^40 nodes. */
static void bomb(draft *d) {
    for (int k = 0; k < 31; k++) {
        char name[16], inner[16];
        snprintf(name, sizeof name, "f%d", k);
        snprintf(inner, sizeof inner, "f%d", k - 1);
        dt_pb_writer f = {0};
        dt_pb_put_text(&f, 1, name);
        put_names(&f, 4, "a");
        put_names(&f, 5, "b");
        for (int i = 0; i < 2; i++) {
            dt_pb_writer n = node_of(k ? inner : "Relu", i ? "t" : "a", i ? "b" : "t");
            if (k) dt_pb_put_text(&n, 7, "f");
            put_message(&f, 7, n);
        }
        dt_pb_put_text(&f, 10, "f");
        put_message(&d->more, 25, f);
    }
    put_call(d, "f30", "x", "y");
}
static void sequence_in(draft *d) {
    dt_pb_writer value = {0}, kind = {0};
    dt_pb_put_text(&value, 1, "s");
    dt_pb_put_text(&kind, 4, "");
    put_message(&value, 2, kind);
    put_message(&d->graph, 11, value);
}
static void ir_2(draft *d) {
    d->ir = 2;
}
static void opset_29(draft *d) {
    d->opset = 29;
}
static void opset_0(draft *d) {
    d->opset = 0;
}
static void nothing(draft *d) {
    (void)d;
}
static void location_absolute(draft *d) {
    put_external(d, "/etc/passwd", NULL, NULL);
}
static void location_above(draft *d) {
    put_external(d, "inside/../../x", NULL, NULL);
}
static void location_empty(draft *d) {
    put_external(d, "", NULL, NULL);
}
static void location_none(draft *d) {
    put_external(d, NULL, "0", "16");
}
static void location_link(draft *d) {
    put_external(d, "link.data", NULL, NULL);
}
static void location_linked_folder(draft *d) {
    put_external(d, "linked/w.data", NULL, NULL);
}
static void location_hard(draft *d) {
    put_external(d, "hard.data", NULL, NULL);
}
static void location_folder(draft *d) {
    put_external(d, "inside", NULL, NULL);
}
static void location_missing(draft *d) {
    put_external(d, "missing.data", NULL, NULL);
}
static void location_two_slashes(draft *d) {
    put_external(d, "inside//w.data", NULL, NULL);
}
static void offset_beyond(draft *d) {
    put_external(d, "inside/w.data", "8", NULL);
}
static void offset_overflows(draft *d) {
    put_external(d, "inside/w.data", "9223372036854775807", NULL);
}
static void offset_no_number(draft *d) {
    put_external(d, "inside/w.data", "-8", NULL);
}
static void length_other(draft *d) {
    put_external(d, "inside/w.data", "0", "12");
}

static const struct {
    void (*put)(draft *d);
    const char *says;
} hostile[] = {
    {two_makers, "node 'node1' (Relu) makes 'y', which is there already"},
    {makes_an_input, "makes 'x', which is there already"},
    {two_constants, "two inputs or initializers are called 'w'"},
    {unknown_name, "node 'node1' (Add) reads 'nowhere', which nothing makes"},
    {unknown_output, "output 'y': which nothing makes"},
    {circle, "a circle"},
    {own_result, "a circle"},
    {no_op, "no op is named"},
    {string_with_zero, "a zero byte"},
    {name_that_speaks, "a control character"},
    {no_utf8, "not UTF-8"},
    {too_few_numbers, "tensor 'w': 4 numbers of its type, and its shape needs 5"},
    {dims_below_0, "tensor 'w': a shape"},
    {dims_too_many, "more than 8 dimensions at byte"},
    {dims_overflow, "tensor 'w': a shape"},
    {huge_without_data, "tensor 'w': 0 numbers of its type, and its shape needs 1099511627776"},
    {two_forms, "tensor 'w': its data are there in two forms"},
    {other_form, "tensor 'w': 0 numbers"},
    {raw_too_short, "tensor 'w': 7 bytes of data, and its type and shape need 8"},
    {number_out_of_range, "a number out of its type's range"},
    {truth_of_2, "neither 0 nor 1"},
    {strings_that_are_read, "reads 'w', a tensor of type STRING"},
    {segments, "in segments"},
    {sparse, "sparse initializer"},
    {group, "a group"},
    {long_varint, "more than 10 bytes"},
    {length_beyond, "a length that goes beyond"},
    {wrong_wire, "a field of another kind"},
    {deep, "nested deeper than 64"},
    {two_values, "more than one value"},
    {attribute_twice, "attribute alpha is there twice"},
    {reference_outside, "refers to one of a function"},
    {recursion, "calls itself"},
    {function_twice, "two functions are called 'one'"},
    {call_with_too_much, "function one has 1 inputs"},
    {function_of_other_opset, "is of opset 13"},
    {bomb, "more than 256 MiB"},
    {sequence_in, "no tensor of numbers"},
    {ir_2, "of IR version 2"},
    {opset_29, "of opset 29"},
    {opset_0, "of opset 0"},
    {nothing, "output 'y'"},
    {location_absolute, "without a place inside"},
    {location_above, "no plain path"},
    {location_empty, "without a place inside"},
    {location_none, "without a place inside"},
    {location_link, "a symbolic link"},
    {location_linked_folder, "a symbolic link"},
    {location_hard, "no regular file of one name"},
    {location_folder, "no regular file of one name"},
    {location_missing, "No such file"},
    {location_two_slashes, "no plain path"},
    {offset_beyond, "the file has 16 bytes"},
    {offset_overflows, "the file has 16 bytes"},
    {offset_no_number, "that is no number"},
    {length_other, "12 bytes of external data, and its shape needs 16"},
};

static void files_that_lie_are_refused(void **state) {
    (void)state;
    static const float w[4];
    char target[PATH_MAX];
    check_ok(mkdir(in_scratch("inside"), 0777) == 0 ? DT_OK : DT_ERR_IO);
    put_file(in_scratch("inside/w.data"), w, sizeof w);
    put_file(in_scratch("one.data"), w, sizeof w);
    assert_int_equal(link(in_scratch("one.data"), in_scratch("hard.data")), 0);
    assert_int_equal(symlink("inside/w.data", in_scratch("link.data")), 0);
    snprintf(target, sizeof target, "%s/inside", scratch);
    assert_int_equal(symlink(target, in_scratch("linked")), 0);
    for (size_t k = 0; k < sizeof hostile / sizeof hostile[0]; k++) {
        draft d = begin();
        dt_onnx_model *m;
        hostile[k].put(&d);
        const char *path = finish(&d, "hostile.onnx");
        CHECK_ERROR(dt_onnx_read(path, &m), DT_ERR_DATA, hostile[k].says, "hostile.onnx: ");
        assert_null(m);
    }
}

/* What is strange and allowed. */
static void strange_files_are_read(void **state) {
    (void)state;
    draft d = begin();
    dt_onnx_model *m;
    put_external(&d, "inside/w.data", "0", "16");
    dt_pb_writer text = tensor_of("text", 8, 1), n = node_of("Add", "x w -", "y -");
    dt_pb_put_text(&text, 6, "nobody reads it");
    put_message(&d.graph, 5, text);
    dt_pb_put_text(&n, 77, "an unknown field");
    put_message(&d.graph, 1, n);
    dt_pb_put_text(&d.more, 20, ""); /* how it was trained */
    dt_pb_put_text(&d.more, 99, "more");
    check_ok(dt_onnx_read(finish(&d, "strange.onnx"), &m));
    assert_int_equal(m->graph.n_constant, 1);
    assert_int_equal(m->graph.node[0].n_in, 3);
    assert_string_equal(m->graph.node[0].in[2], "");
    dt_onnx_model_free(m);
}

/* Bytes of good files, changed here and there: whatever comes of it, it returns. */
static void damage_is_survived(void **state) {
    (void)state;
    static const char *const file[] = {GOLDEN "types.onnx", GOLDEN "calls.onnx", GOLDEN "old.onnx"};
    check_rng rng = {.stream = 33};
    for (int round = 0; round < 3000; round++) {
        uint8_t bytes[8192];
        FILE *f = fopen(file[round % 3], "rb");
        assert_non_null(f);
        const size_t n = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        for (int64_t k = check_below(&rng, 8); k >= 0; k--)
            bytes[check_below(&rng, (int64_t)n)] = (uint8_t)check_u32(&rng);
        const dt_status st =
            open_bytes(bytes, check_below(&rng, 8) ? n : (size_t)check_below(&rng, (int64_t)n));
        assert_true(st == DT_OK || st == DT_ERR_DATA);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),     cmocka_unit_test(functions_are_put_in_place),
        cmocka_unit_test(old_files_are_read),     cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(much_data_lie_outside),  cmocka_unit_test(files_that_lie_are_refused),
        cmocka_unit_test(strange_files_are_read), cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
