/* Imported graphs as graphs of dtrain's ops: each lowering against the op's definition, how many transpositions an image
 * goes through, and what becomes of weights. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/op.h"
#include "cpu/cpu.h"
#include "onnx/build.h"
#include "onnx/run.h"

enum { MAX_NODES = 16, MAX_VALUES = 16 };

static void ok(dt_status st) {
    if (st != DT_OK) fail_msg("%s: %s", dt_status_name(st), dt_error_text());
}

/* ---- models, written by hand ---- */

typedef struct maker {
    dt_onnx_model *m;
    dt_onnx_node node[MAX_NODES];
    dt_onnx_tensor constant[MAX_VALUES];
    dt_onnx_value_info in[MAX_VALUES], out[MAX_VALUES];
    uint32_t seed;
} maker;

static void begin(maker *k, int64_t opset) {
    *k = (maker){.seed = 7};
    ok(dt_onnx_model_create(opset, &k->m));
    k->m->graph.name = "test";
}

static float draw(maker *k) {
    k->seed = k->seed * 1664525u + 1013904223u;
    return (float)(k->seed >> 8) / (float)(1 << 23) - 1;
}

/* "x y" as names. */
static const char *const *words(maker *k, const char *list, int32_t *n) {
    const char **out = dt_onnx_alloc(k->m, 32 * (int64_t)sizeof *out);
    char *copy = (char *)(uintptr_t)dt_onnx_text(k->m, "%s", list), *rest = NULL;
    *n = 0;
    for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        out[(*n)++] = strcmp(w, "-") ? w : "";
    return out;
}

static dt_onnx_node *add(maker *k, const char *op, const char *in, const char *out) {
    dt_onnx_graph *g = &k->m->graph;
    dt_onnx_node *n = &k->node[g->n_node++];
    *n = (dt_onnx_node){.op = op, .domain = "", .name = ""};
    n->in = words(k, in, &n->n_in);
    n->out = words(k, out, &n->n_out);
    g->node = k->node;
    return n;
}

static dt_onnx_attr *attribute(maker *k, dt_onnx_node *n, const char *name, dt_onnx_attr_kind kind) {
    dt_onnx_attr *list = dt_onnx_alloc(k->m, (n->n_attr + 1) * (int64_t)sizeof *list);
    if (n->n_attr > 0) memcpy(list, n->attr, (size_t)n->n_attr * sizeof *list);
    n->attr = list;
    list[n->n_attr] = (dt_onnx_attr){.name = name, .kind = kind, .n = 1};
    return &list[n->n_attr++];
}

static void set_int(maker *k, dt_onnx_node *n, const char *name, int64_t v) {
    attribute(k, n, name, DT_ONNX_INT)->i = v;
}
static void set_text(maker *k, dt_onnx_node *n, const char *name, const char *v) {
    attribute(k, n, name, DT_ONNX_STRING)->s = v;
}
static void set_ints(maker *k, dt_onnx_node *n, const char *name, int32_t count, const int64_t *v) {
    int64_t *own = dt_onnx_alloc(k->m, count * (int64_t)sizeof *own);
    memcpy(own, v, (size_t)count * sizeof *own);
    dt_onnx_attr *a = attribute(k, n, name, DT_ONNX_INTS);
    a->n = count;
    a->ints = own;
}
#define INTS(...)                                                                                            \
    (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) {                             \
        __VA_ARGS__                                                                                          \
    }

static dt_onnx_tensor *constant(maker *k, const char *name, dt_tensor_type type, int32_t ndim,
                                const int64_t *dim) {
    dt_onnx_graph *g = &k->m->graph;
    dt_onnx_tensor *c = &k->constant[g->n_constant++];
    *c = (dt_onnx_tensor){.name = name, .type = type, .ndim = ndim, .n_elem = 1};
    for (int32_t i = 0; i < ndim; i++) c->n_elem *= c->dim[i] = dim[i];
    c->n_bytes = c->n_elem * (type == DT_TENSOR_F32 ? 4 : 8);
    c->data = dt_onnx_alloc(k->m, c->n_bytes);
    g->constant = k->constant;
    return c;
}

/* Numbers from -1 to 1; positive: from 0.5 to 1.5. */
static void weight(maker *k, const char *name, bool positive, int32_t ndim, const int64_t *dim) {
    dt_onnx_tensor *c = constant(k, name, DT_TENSOR_F32, ndim, dim);
    for (int64_t i = 0; i < c->n_elem; i++)
        ((float *)(uintptr_t)c->data)[i] = positive ? 1 + draw(k) / 2 : draw(k);
}
static void whole(maker *k, const char *name, int32_t count, const int64_t *v) {
    dt_onnx_tensor *c = constant(k, name, DT_TENSOR_I64, 1, (int64_t[]){count});
    memcpy((void *)(uintptr_t)c->data, v, (size_t)count * sizeof *v);
}

static void input(maker *k, const char *name, dt_tensor_type type, int32_t ndim, const int64_t *dim) {
    dt_onnx_graph *g = &k->m->graph;
    dt_onnx_value_info *v = &k->in[g->n_in++];
    *v = (dt_onnx_value_info){.name = name, .type = type, .ndim = ndim};
    memcpy(v->dim, dim, (size_t)ndim * sizeof *dim);
    g->in = k->in;
}
static void output(maker *k, const char *name) {
    dt_onnx_graph *g = &k->m->graph;
    k->out[g->n_out++] = (dt_onnx_value_info){.name = name, .type = DT_TENSOR_TYPES, .ndim = -1};
    g->out = k->out;
}

/* ---- both ways ---- */

static dt_backend *cpu;

static int set_up(void **state) {
    (void)state;
    const dt_backend_options o = {.local_world = 1, .threads = 1};
    return dt_backend_cpu_create(&o, &cpu) == DT_OK ? 0 : 1;
}
static int tear_down(void **state) {
    (void)state;
    cpu->destroy(cpu);
    return 0;
}

static dt_host_tensor host_of(maker *k, const dt_onnx_value_info *info) {
    dt_host_tensor t = {.type = info->type, .ndim = info->ndim};
    memcpy(t.dim, info->dim, sizeof t.dim);
    t.data = dt_onnx_alloc(k->m, dt_host_bytes(&t) + 8);
    for (int64_t i = 0; i < dt_host_n_elem(&t); i++) {
        if (info->type == DT_TENSOR_F32)
            ((float *)t.data)[i] = draw(k);
        else
            ((int64_t *)t.data)[i] = (int64_t)(k->seed = k->seed * 1664525u + 1013904223u) % 5;
    }
    return t;
}

/* Compiled it gives what its definition gives, with so many calls of definitions. Ends the model. */
static void check(maker *k, int32_t n_call) {
    const dt_onnx_graph *g = &k->m->graph;
    dt_host_tensor in[MAX_VALUES], want[MAX_VALUES], got[MAX_VALUES];
    dt_onnx_eval *e;
    dt_onnx_run *r;
    for (int32_t i = 0; i < g->n_in; i++) in[i] = host_of(k, &g->in[i]);
    ok(dt_onnx_eval_create(k->m, 1 << 28, &e));
    ok(dt_onnx_eval_run(e, in, want));
    ok(dt_onnx_run_create(cpu, k->m, in, NULL, &r));
    ok(dt_onnx_run_go(r, in, got));
    ok(dt_onnx_run_go(r, in, got));
    for (int32_t i = 0; i < g->n_out; i++) {
        assert_int_equal(got[i].ndim, want[i].ndim);
        assert_int_equal(got[i].type, want[i].type);
        for (int32_t d = 0; d < want[i].ndim; d++) assert_int_equal(got[i].dim[d], want[i].dim[d]);
        for (int64_t j = 0; j < dt_host_n_elem(&want[i]); j++) {
            const double a = dt_host_f64(&got[i], j), b = dt_host_f64(&want[i], j);
            if (fabs(a - b) > 1e-5 * (1 + fabs(b)))
                fail_msg("%s: element %lld is %.9g, want %.9g", g->out[i].name, (long long)j, a, b);
        }
    }
    assert_int_equal(dt_onnx_run_get_info(r)->n_call, n_call);
    dt_onnx_run_destroy(r);
    dt_onnx_eval_destroy(e);
    dt_onnx_model_free(k->m);
}

/* The graph for `rows` rows of the inputs. */
static dt_graph *built(maker *k, int64_t rows, int64_t outputs, bool last, dt_status want) {
    const dt_onnx_graph *g = &k->m->graph;
    dt_onnx_bound in[MAX_VALUES];
    dt_onnx_made out[MAX_VALUES];
    bool needs[MAX_VALUES];
    dt_graph *made;
    ok(dt_graph_create(&made, DT_DTYPE_F32, true));
    for (int32_t i = 0; i < g->n_in; i++) {
        int64_t dim[DT_MAX_DIM];
        in[i] = (dt_onnx_bound){.t = {.type = g->in[i].type, .ndim = g->in[i].ndim}, .channels_last = last};
        memcpy(in[i].t.dim, g->in[i].dim, sizeof in[i].t.dim);
        in[i].t.dim[0] = rows;
        memcpy(dim, in[i].t.dim, sizeof dim);
        for (int32_t d = 1; last && d < in[i].t.ndim; d++)
            dim[d == 1 ? in[i].t.ndim - 1 : d - 1] = in[i].t.dim[d];
        ok(dt_graph_add_value(made, g->in[i].name, DT_ROLE_INPUT, dt_onnx_dtype(g->in[i].type), in[i].t.ndim,
                              dim, &in[i].value));
    }
    const dt_onnx_build_options o = {
        .model = k->m, .in = in, .rows = rows, .outputs = outputs, .kernels = true};
    const dt_status st = dt_onnx_build(&o, made, out, needs);
    if (st != want) fail_msg("%s: %s", dt_status_name(st), dt_error_text());
    if (st == DT_OK) ok(dt_graph_validate(made));
    return made;
}

static int32_t count(const dt_graph *g, dt_op op) {
    int32_t n = 0;
    for (dt_nid i = 0; i < g->n_node; i++) n += g->node[i].op == op;
    return n;
}

/* ---- layers ---- */

static void convolution(int64_t groups, const int64_t *pads, const char *auto_pad, int64_t stride,
                        int64_t dilation, int32_t sides) {
    maker k;
    const int64_t image[] = {2, 4, 7, 6, 5}, filter[] = {6, 4 / groups, 3, 2, 3};
    begin(&k, 17);
    input(&k, "x", DT_TENSOR_F32, 2 + sides, image);
    weight(&k, "w", false, 2 + sides, filter);
    weight(&k, "b", false, 1, (int64_t[]){6});
    dt_onnx_node *n = add(&k, "Conv", "x w b", "y");
    const int64_t same[] = {stride, stride, stride}, spread[] = {dilation, dilation, dilation};
    set_int(&k, n, "group", groups);
    set_ints(&k, n, "strides", sides, same);
    set_ints(&k, n, "dilations", sides, spread);
    if (pads) set_ints(&k, n, "pads", 2 * sides, pads);
    if (auto_pad) set_text(&k, n, "auto_pad", auto_pad);
    output(&k, "y");
    check(&k, 0);
}

static void test_convolutions(void **state) {
    (void)state;
    const int64_t odd[] = {1, 0, 2, 1, 1, 0}, none[6] = {0};
    for (int32_t sides = 1; sides <= 3; sides++)
        for (int64_t groups = 1; groups <= 2; groups++) {
            convolution(groups, none, NULL, 1, 1, sides);
            convolution(groups, odd, NULL, 2, 1, sides);
            convolution(groups, odd, NULL, 1, 2, sides);
            convolution(groups, NULL, "SAME_UPPER", 2, 1, sides);
            convolution(groups, NULL, "SAME_LOWER", 2, 1, sides);
        }
}

static void test_transposed_convolutions(void **state) {
    (void)state;
    for (int64_t stride = 1; stride <= 2; stride++)
        for (int32_t sides = 1; sides <= 2; sides++) {
            maker k;
            begin(&k, 17);
            input(&k, "x", DT_TENSOR_F32, 2 + sides, (int64_t[]){2, 4, 5, 6});
            weight(&k, "w", false, 2 + sides, (int64_t[]){4, 3, 3, 2});
            weight(&k, "b", false, 1, (int64_t[]){6});
            dt_onnx_node *n = add(&k, "ConvTranspose", "x w b", "y");
            set_int(&k, n, "group", 2);
            set_ints(&k, n, "strides", sides, (int64_t[]){stride, stride});
            set_ints(&k, n, "pads", 2 * sides, (int64_t[]){1, 0, 0, 1});
            if (stride == 2) set_ints(&k, n, "output_padding", sides, (int64_t[]){1, 0});
            output(&k, "y");
            check(&k, 0);
        }
}

static void test_pools(void **state) {
    (void)state;
    for (int kind = 0; kind < 8; kind++)
        for (int32_t sides = 1; sides <= 3; sides++) {
            maker k;
            begin(&k, 19);
            input(&k, "x", DT_TENSOR_F32, 2 + sides, (int64_t[]){2, 3, 7, 6, 5});
            dt_onnx_node *n = add(&k, kind & 1 ? "AveragePool" : "MaxPool", "x", "y");
            set_ints(&k, n, "kernel_shape", sides, (int64_t[]){3, 2, 3});
            set_ints(&k, n, "strides", sides, (int64_t[]){2, 2, 2});
            if (kind & 2) set_ints(&k, n, "pads", 2 * sides, (int64_t[]){1, 1, 1, 1, 1, 1});
            if (kind & 4 && kind & 1) set_int(&k, n, "count_include_pad", 1);
            if (kind & 4 && !(kind & 1)) set_int(&k, n, "ceil_mode", 1);
            output(&k, "y");
            check(&k, 0);
        }
}

static void test_products(void **state) {
    (void)state;
    static const struct {
        const char *op;
        int32_t na, nb;
        int64_t a[4], b[4];
        bool known, turned;
    } cases[] = {
        {"MatMul", 3, 2, {2, 3, 4}, {4, 5}, true, false},
        {"MatMul", 3, 3, {2, 3, 4}, {2, 4, 5}, false, false},
        {"MatMul", 4, 4, {2, 1, 3, 4}, {1, 3, 4, 5}, false, false},
        {"MatMul", 3, 2, {2, 3, 4}, {4, 5}, false, false},
        {"MatMul", 1, 2, {4}, {4, 5}, false, false},
        {"MatMul", 3, 1, {2, 3, 4}, {4}, false, false},
        {"Gemm", 2, 2, {3, 4}, {4, 5}, true, false},
        {"Gemm", 2, 2, {3, 4}, {5, 4}, true, true},
        {"Gemm", 2, 2, {3, 4}, {5, 4}, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        maker k;
        const bool gemm = strcmp(cases[i].op, "Gemm") == 0;
        begin(&k, 17);
        input(&k, "a", DT_TENSOR_F32, cases[i].na, cases[i].a);
        if (cases[i].known)
            weight(&k, "b", false, cases[i].nb, cases[i].b);
        else
            input(&k, "b", DT_TENSOR_F32, cases[i].nb, cases[i].b);
        weight(&k, "c", false, 1, (int64_t[]){5});
        dt_onnx_node *n = add(&k, cases[i].op, gemm ? "a b c" : "a b", "p");
        if (gemm) {
            set_int(&k, n, "transB", cases[i].turned);
            attribute(&k, n, "alpha", DT_ONNX_FLOAT)->f = 0.5f;
            attribute(&k, n, "beta", DT_ONNX_FLOAT)->f = 2;
        }
        if (cases[i].nb > 1) add(&k, "Add", "p c", "y");
        output(&k, cases[i].nb > 1 ? "y" : "p");
        check(&k, 0);
    }
}

static void test_functions(void **state) {
    (void)state;
    static const char *const unary[] = {"Relu",      "Sigmoid",   "Tanh", "Softplus", "Mish",
                                        "Exp",       "Neg",       "Abs",  "Elu",      "Selu",
                                        "HardSwish", "LeakyRelu", "Gelu", "Identity", "Reciprocal"},
                             *const binary[] = {"Add", "Sub", "Mul", "Div", "Min", "Max"};
    for (size_t i = 0; i < sizeof unary / sizeof unary[0]; i++) {
        maker k;
        begin(&k, 20);
        input(&k, "x", DT_TENSOR_F32, 2, (int64_t[]){3, 5});
        add(&k, unary[i], "x", "y");
        output(&k, "y");
        check(&k, 0);
    }
    for (size_t i = 0; i < sizeof binary / sizeof binary[0]; i++)
        for (int known = 0; known < 2; known++) {
            maker k;
            begin(&k, 20);
            input(&k, "x", DT_TENSOR_F32, 3, (int64_t[]){3, 2, 5});
            if (known)
                weight(&k, "w", true, 2, (int64_t[]){2, 1});
            else
                input(&k, "w", DT_TENSOR_F32, 2, (int64_t[]){2, 1});
            add(&k, binary[i], "x w", "y");
            output(&k, "y");
            check(&k, 0);
        }
}

static void test_norms(void **state) {
    (void)state;
    static const char *const names[] = {"BatchNormalization", "LayerNormalization", "InstanceNormalization",
                                        "GroupNormalization"};
    for (int i = 0; i < 4; i++)
        for (int32_t ndim = i == 0 ? 2 : 3; ndim <= 4; ndim++) {
            maker k;
            const int64_t image[] = {3, 4, 5, 6}, wide = i == 1 ? image[ndim - 1] : 4;
            begin(&k, i == 3 ? 21 : 17);
            input(&k, "x", DT_TENSOR_F32, ndim, image);
            weight(&k, "g", true, 1, &wide);
            weight(&k, "b", false, 1, &wide);
            weight(&k, "m", false, 1, &wide);
            weight(&k, "v", true, 1, &wide);
            dt_onnx_node *n = add(&k, names[i], i == 0 ? "x g b m v" : "x g b", "y");
            if (i == 3) set_int(&k, n, "num_groups", 2);
            output(&k, "y");
            check(&k, 0);
        }
}

static void test_reductions(void **state) {
    (void)state;
    static const char *const names[] = {"ReduceMean", "ReduceMax",       "ReduceMin", "ReduceL1",
                                        "ReduceL2",   "ReduceSumSquare", "Softmax",   "LogSoftmax"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (int axis = 0; axis < 4; axis++)
            for (int keeps = 0; keeps < 2; keeps++) {
                maker k;
                begin(&k, 13);
                input(&k, "x", DT_TENSOR_F32, 4, (int64_t[]){2, 3, 6, 5});
                weight(&k, "w", false, 4, (int64_t[]){3, 3, 1, 1});
                add(&k, "Conv", "x w", "c"); /* channels are last here */
                dt_onnx_node *n = add(&k, names[i], "c", "y");
                if (names[i][0] == 'R')
                    set_ints(&k, n, "axes", INTS(axis)), set_int(&k, n, "keepdims", keeps);
                else
                    set_int(&k, n, "axis", axis);
                output(&k, "y");
                check(&k, 0);
            }
}

/* What follows a convolution goes by its order of dimensions, whatever it does with them. */
static void test_moves(void **state) {
    (void)state;
    for (int kind = 0; kind < 9; kind++) {
        maker k;
        begin(&k, 17);
        input(&k, "x", DT_TENSOR_F32, 4, (int64_t[]){2, 3, 6, 5});
        weight(&k, "w", false, 4, (int64_t[]){4, 3, 1, 1});
        add(&k, "Conv", "x w", "c");
        whole(&k, "one", INTS(1));
        whole(&k, "three", INTS(3));
        whole(&k, "pads", INTS(0, 1, 0, 2, 0, 0, 1, 0));
        whole(&k, "flat", INTS(2, -1));
        dt_onnx_node *n;
        switch (kind) {
        case 0:
            n = add(&k, "Flatten", "c", "y");
            break;
        case 1:
            n = add(&k, "Reshape", "c flat", "y");
            break;
        case 2:
            n = add(&k, "Transpose", "c", "y");
            set_ints(&k, n, "perm", INTS(0, 2, 3, 1));
            break;
        case 3:
            n = add(&k, "Slice", "c one three one", "y");
            break;
        case 4:
            n = add(&k, "Split", "c", "y z");
            set_int(&k, n, "axis", 1);
            output(&k, "z");
            break;
        case 5:
            n = add(&k, "Concat", "c x", "y");
            set_int(&k, n, "axis", 1);
            break;
        case 6:
            n = add(&k, "Pad", "c pads", "y");
            break;
        case 7:
            n = add(&k, "Gather", "c one", "y");
            set_int(&k, n, "axis", 1);
            break;
        default:
            n = add(&k, "SpaceToDepth", "c", "y");
            set_int(&k, n, "blocksize", 1);
        }
        output(&k, "y");
        check(&k, 0);
    }
}

static void test_resize(void **state) {
    (void)state;
    static const char *const mode[][2] = {
        {"nearest", "asymmetric"}, {"linear", "half_pixel"}, {"linear", "align_corners"}};
    for (int i = 0; i < 3; i++) {
        maker k;
        begin(&k, 13);
        input(&k, "x", DT_TENSOR_F32, 4, (int64_t[]){2, 3, 4, 5});
        whole(&k, "sizes", INTS(2, 3, 8, 10));
        dt_onnx_node *n = add(&k, "Resize", "x - - sizes", "y");
        set_text(&k, n, "mode", mode[i][0]);
        set_text(&k, n, "coordinate_transformation_mode", mode[i][1]);
        set_text(&k, n, "nearest_mode", "floor");
        output(&k, "y");
        check(&k, 0);
    }
}

/* What has no kernel is a call of its definition: whole numbers, too. */
static void test_calls(void **state) {
    (void)state;
    maker k;
    begin(&k, 17);
    input(&k, "i", DT_TENSOR_I64, 2, (int64_t[]){3, 4});
    input(&k, "x", DT_TENSOR_F32, 2, (int64_t[]){3, 4});
    add(&k, "Add", "i i", "j");
    add(&k, "Cast", "j", "f");
    set_int(&k, &k.node[1], "to", 1);
    add(&k, "Mul", "f x", "p");
    add(&k, "Erf", "p", "y");
    output(&k, "y");
    output(&k, "j");
    check(&k, 2);
}

/* ---- the order of dimensions ---- */

static void image_net(maker *k) {
    begin(k, 17);
    input(k, "x", DT_TENSOR_F32, 4, (int64_t[]){2, 3, 8, 8});
    weight(k, "w1", false, 4, (int64_t[]){4, 3, 3, 3});
    weight(k, "s", true, 1, (int64_t[]){4});
    weight(k, "w2", false, 4, (int64_t[]){4, 4, 1, 1});
    weight(k, "scale", true, 3, (int64_t[]){4, 1, 1});
    weight(k, "fc.weight", false, 2, (int64_t[]){5, 4});
    weight(k, "fc.bias", false, 1, (int64_t[]){5});
    dt_onnx_node *n = add(k, "Conv", "x w1", "a");
    set_ints(k, n, "pads", INTS(1, 1, 1, 1));
    add(k, "BatchNormalization", "a s s s s", "b");
    add(k, "Relu", "b", "c");
    add(k, "Conv", "c w2", "d");
    add(k, "Add", "d c", "e");
    add(k, "Mul", "e scale", "f");
    n = add(k, "Concat", "f c", "g");
    set_int(k, n, "axis", 1);
    n = add(k, "Split", "g", "h i");
    set_int(k, n, "axis", 1);
    n = add(k, "MaxPool", "h", "j");
    set_ints(k, n, "kernel_shape", INTS(2, 2));
    add(k, "GlobalAveragePool", "j", "l");
    add(k, "Flatten", "l", "o");
    n = add(k, "Gemm", "o fc.weight fc.bias", "y");
    set_int(k, n, "transB", 1);
    output(k, "y");
}

static void test_no_transposition_inside(void **state) {
    (void)state;
    maker k;
    image_net(&k);
    check(&k, 0);
    image_net(&k);
    dt_graph *g = built(&k, 3, 0, true, DT_OK);
    assert_int_equal(count(g, DT_OP_TRANSPOSE), 0);
    dt_graph_destroy(g);
    g = built(&k, 3, 0, false, DT_OK); /* the file's order: one, at the edge */
    assert_int_equal(count(g, DT_OP_TRANSPOSE), 1);
    dt_graph_destroy(g);
    dt_onnx_model_free(k.m);
}

/* ---- weights ---- */

static const dt_value *param(const dt_graph *g, const char *name) {
    const dt_vid v = dt_graph_find(g, name);
    if (v < 0) fail_msg("there is no %s", name);
    return &g->value[v];
}

/* They have the file's names and numbers, in the layouts of dtrain's ops; what normalises is a state; another head is
 * drawn. */
static void test_weights(void **state) {
    (void)state;
    maker k;
    image_net(&k);
    dt_graph *g = built(&k, 3, 0, true, DT_OK);
    const float *file = k.constant[0].data;
    const dt_value *w = param(g, "w1");
    assert_int_equal(w->dim[1], 3), assert_int_equal(w->dim[3], 3);
    for (int64_t o = 0; o < 4; o++)
        for (int64_t c = 0; c < 3; c++)
            for (int64_t p = 0; p < 9; p++)
                assert_true(w->init_data[(o * 9 + p) * 3 + c] == file[(o * 3 + c) * 9 + p]);
    assert_false(w->constant);
    assert_true(param(g, "fc.weight")->init_data == k.constant[4].data);
    assert_int_equal(param(g, "scale")->ndim, 1);
    int32_t n_state = 0;
    for (dt_vid v = 0; v < g->n_value; v++) n_state += g->value[v].role == DT_ROLE_STATE;
    assert_int_equal(n_state, 2);
    dt_graph_destroy(g);
    g = built(&k, 3, 7, true, DT_OK);
    assert_int_equal(param(g, "fc.weight")->dim[0], 7);
    assert_null(param(g, "fc.weight")->init_data);
    assert_null(param(g, "fc.bias")->init_data);
    dt_graph_destroy(g);
    dt_onnx_model_free(k.m);
}

/* Exporters write equal tensors once and the others as Identities of it: in training each is a weight of its own, under the
 * name that it has there. A tensor that two layers read is one weight. */
static void test_equal_weights(void **state) {
    (void)state;
    maker k;
    begin(&k, 17);
    input(&k, "x", DT_TENSOR_F32, 2, (int64_t[]){3, 4});
    weight(&k, "one.weight", true, 1, (int64_t[]){4});
    weight(&k, "one.running_mean", false, 1, (int64_t[]){4});
    weight(&k, "tied", false, 2, (int64_t[]){4, 4});
    add(&k, "Identity", "one.weight", "one.running_var");
    add(&k, "Identity", "one.weight", "two.weight");
    add(&k, "Identity", "two.weight", "two.running_var");
    add(&k, "Identity", "one.running_mean", "two.running_mean");
    add(&k, "Identity", "tied", "/Identity_output_0");
    add(&k, "BatchNormalization", "x one.weight one.running_mean one.running_mean one.running_var", "a");
    add(&k, "MatMul", "a tied", "b");
    add(&k, "BatchNormalization", "b two.weight two.running_mean two.running_mean two.running_var", "c");
    add(&k, "MatMul", "c /Identity_output_0", "y");
    output(&k, "y");
    dt_graph *g = built(&k, 3, 0, false, DT_OK);
    static const char *const names[] = {"one.weight", "two.weight", "one.running_mean", "two.running_mean"};
    for (int i = 0; i < 4; i++) assert_int_equal(param(g, names[i])->role, DT_ROLE_PARAM);
    assert_int_equal(param(g, "one.running_var")->role, DT_ROLE_STATE);
    assert_int_equal(param(g, "two.running_var")->role, DT_ROLE_STATE);
    int32_t n_matrix = 0;
    for (dt_vid v = 0; v < g->n_value; v++)
        n_matrix += g->value[v].role == DT_ROLE_PARAM && g->value[v].ndim == 2;
    assert_int_equal(n_matrix, 1);
    dt_graph_destroy(g);
    dt_onnx_model_free(k.m);
}

/* What is kept does not depend on the number of rows: a token that is repeated for each, zeros in the shape of a batch. */
static void test_rows(void **state) {
    (void)state;
    maker k;
    for (int64_t rows = 2; rows <= 3; rows++) {
        begin(&k, 17);
        input(&k, "x", DT_TENSOR_F32, 3, (int64_t[]){2, 4, 5});
        weight(&k, "token", false, 3, (int64_t[]){1, 1, 5});
        whole(&k, "zero", INTS(0));
        whole(&k, "rest", INTS(1, 5));
        add(&k, "Shape", "x", "shape");
        add(&k, "Gather", "shape zero", "n");
        dt_onnx_node *n = add(&k, "Concat", "n rest", "to");
        set_int(&k, n, "axis", 0);
        add(&k, "Expand", "token to", "t");
        n = add(&k, "Concat", "t x", "c");
        set_int(&k, n, "axis", 1);
        add(&k, "ConstantOfShape", "to", "zeros");
        add(&k, "Add", "c zeros", "y");
        output(&k, "y");
        dt_graph *g = built(&k, rows, 0, false, DT_OK);
        assert_int_equal(param(g, "token")->dim[0], 1);
        assert_false(param(g, "token")->constant);
        for (dt_vid v = 0; v < g->n_value; v++)
            if (g->value[v].role == DT_ROLE_PARAM)
                assert_int_equal(g->value[v].dim[0] == rows, g->value[v].dim[0] == 5);
        dt_graph_destroy(g);
        if (rows == 2)
            dt_onnx_model_free(k.m);
        else
            check(&k, 0);
    }
}

/* A shape that follows from a value asks for that value; run, it is compiled for it. */
static void test_needed_values(void **state) {
    (void)state;
    maker k;
    begin(&k, 17);
    input(&k, "x", DT_TENSOR_F32, 2, (int64_t[]){3, 4});
    add(&k, "NonZero", "x", "i");
    add(&k, "Cast", "i", "f");
    set_int(&k, &k.node[1], "to", 1);
    add(&k, "Exp", "f", "y");
    output(&k, "y");
    dt_graph_destroy(built(&k, 3, 0, false, DT_ERR_USAGE));
    check(&k, 0);
}

/* Infinities of a mask are finite in what is trained: a checkpoint holds them. */
static void test_masks(void **state) {
    (void)state;
    maker k;
    begin(&k, 17);
    input(&k, "x", DT_TENSOR_F32, 2, (int64_t[]){2, 4});
    dt_onnx_tensor *mask = constant(&k, "mask", DT_TENSOR_F32, 2, (int64_t[]){1, 4});
    ((float *)(uintptr_t)mask->data)[2] = -INFINITY;
    add(&k, "Add", "x mask", "masked");
    set_int(&k, add(&k, "Softmax", "masked", "y"), "axis", -1);
    output(&k, "y");
    dt_graph *g = built(&k, 2, 0, false, DT_OK);
    int32_t n = 0;
    for (dt_vid v = 0; v < g->n_value; v++)
        if (strncmp(g->value[v].name, "mask", 4) == 0 && g->value[v].init_data) {
            assert_true(g->value[v].init_data[2] == -FLT_MAX);
            n++;
        }
    assert_int_equal(n, 1);
    dt_graph_destroy(g);
    dt_onnx_model_free(k.m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_transposed_convolutions),
        cmocka_unit_test(test_pools),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_no_transposition_inside),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_equal_weights),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_needed_values),
        cmocka_unit_test(test_masks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
