/* Networks in 8 and 4 bits on their kernels against the plain definitions of their ops: at most one level apart, and that
 * seldom, where rounding is by a product in place of a quotient. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/op.h"
#include "cpu/cpu.h"
#include "formats/onnx_draft.h"
#include "onnx/run.h"

static dt_backend *cpu;
static uint32_t seed;

static void ok(dt_status st) {
    if (st != DT_OK) fail_msg("%s: %s", dt_status_name(st), dt_error_text());
}

static int set_up(void **state) {
    (void)state;
    const dt_backend_options o = {.local_world = 1, .threads = 2};
    return dt_backend_cpu_create(&o, &cpu) == DT_OK ? 0 : 1;
}
static int tear_down(void **state) {
    (void)state;
    cpu->destroy(cpu);
    return 0;
}

static uint32_t draw(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
static float real(void) {
    return (float)draw() / (float)(1 << 23) - 1;
}

/* ---- models ---- */

static dt_onnx_draft d;

static void begin(void) {
    static dt_onnx_opset opsets[] = {{.domain = "", .version = 17},
                                     {.domain = "com.microsoft", .version = 1}};
    seed = 11;
    ok(dt_onnx_draft_create(17, &d));
    d.m->opset = opsets, d.m->n_opset = 2;
}

#define DIMS(...)                                                                                            \
    (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) {                             \
        __VA_ARGS__                                                                                          \
    }

static void input(const char *name, int32_t ndim, const int64_t *dim) {
    dt_onnx_value_info v = {.name = name, .type = DT_TENSOR_F32, .ndim = ndim};
    memcpy(v.dim, dim, (size_t)ndim * sizeof *dim);
    dt_onnx_draft_input(&d, &v);
}
static void output(const char *name) {
    dt_onnx_draft_output(&d, &(dt_onnx_value_info){.name = name, .type = DT_TENSOR_TYPES, .ndim = -1});
}

static const char *floats(int32_t ndim, const int64_t *dim, float low, float high) {
    float x[4096];
    int64_t n = 1;
    for (int32_t i = 0; i < ndim; i++) n *= dim[i];
    assert_true(n <= 4096);
    for (int64_t i = 0; i < n; i++) x[i] = low + (high - low) * (real() + 1) / 2;
    return dt_onnx_draft_constant(&d, NULL, DT_TENSOR_F32, ndim, dim, x, false);
}
static const char *bytes(dt_tensor_type type, int32_t ndim, const int64_t *dim) {
    uint8_t x[4096];
    int64_t n = 1;
    for (int32_t i = 0; i < ndim; i++) n *= dim[i];
    assert_true(n <= 4096);
    for (int64_t i = 0; i < n; i++) x[i] = (uint8_t)draw();
    return dt_onnx_draft_constant(&d, NULL, type, ndim, dim, x, false);
}
static const char *whole(int64_t n, int32_t most) {
    int32_t x[64];
    for (int64_t i = 0; i < n; i++) x[i] = (int32_t)(draw() % (uint32_t)(2 * most)) - most;
    return dt_onnx_draft_constant(&d, NULL, DT_TENSOR_I32, 1, &n, x, false);
}
static const char *scale(float s) {
    return dt_onnx_draft_constant(&d, NULL, DT_TENSOR_F32, 0, NULL, &s, false);
}
static const char *zero(dt_tensor_type type, int z) {
    const uint8_t b = (uint8_t)z;
    return dt_onnx_draft_constant(&d, NULL, type, 0, NULL, &b, false);
}

#define OP(op, ...)         dt_onnx_draft_op(&d, op, NULL, DT_ONNX_IN(__VA_ARGS__), DT_ONNX_PLAIN)
#define OP_A(op, attr, ...) dt_onnx_draft_op(&d, op, NULL, DT_ONNX_IN(__VA_ARGS__), DT_ONNX_ATTR(attr))

/* x rounded to 8 bits and back. */
static const char *pair(const char *x, dt_tensor_type type, float s, int z) {
    const char *of = scale(s), *from = zero(type, z);
    return OP("DequantizeLinear", OP("QuantizeLinear", x, of, from), of, from);
}

/* ---- both ways ---- */

typedef struct both {
    dt_onnx_model *m;
    dt_host_tensor in[2], want[4];
    dt_onnx_eval *e;
    int32_t n_call, n_product;
} both;

static dt_host_tensor given(const dt_onnx_value_info *v) {
    dt_host_tensor t = {.type = v->type, .ndim = v->ndim};
    memcpy(t.dim, v->dim, sizeof t.dim);
    float *x = malloc((size_t)dt_host_bytes(&t) + 8);
    assert_non_null(x);
    for (int64_t i = 0; i < dt_host_n_elem(&t); i++) x[i] = 3 * real();
    t.data = x;
    return t;
}

static void evaluate(both *b) {
    *b = (both){.m = NULL};
    ok(dt_onnx_draft_end(&d, &b->m));
    for (int32_t i = 0; i < b->m->graph.n_in; i++) b->in[i] = given(&b->m->graph.in[i]);
    ok(dt_onnx_eval_create(b->m, 1 << 28, &b->e));
    ok(dt_onnx_eval_run(b->e, b->in, b->want));
}

static void end(both *b) {
    for (int32_t i = 0; i < b->m->graph.n_in; i++) free(b->in[i].data);
    dt_onnx_eval_destroy(b->e);
    dt_onnx_model_free(b->m);
}

/* On kernels alone it gives what the definitions give: `level` apart in one of 200 numbers, else within 1e-5. */
static void check(double level, bool by_row) {
    both b;
    evaluate(&b);
    dt_onnx_run *r;
    dt_host_tensor got[4];
    const dt_onnx_run_options o = {.by_row = by_row};
    ok(dt_onnx_run_create(cpu, b.m, b.in, &o, &r));
    ok(dt_onnx_run_go(r, b.in, got));
    if (dt_onnx_run_get_info(r)->n_call > 0) fail_msg("called: %s", dt_onnx_run_get_info(r)->called);
    for (int32_t i = 0; i < b.m->graph.n_out; i++) {
        int64_t off = 0;
        const int64_t n = dt_host_n_elem(&b.want[i]);
        assert_int_equal(dt_host_n_elem(&got[i]), n);
        for (int64_t k = 0; k < n; k++) {
            const double have = dt_host_f64(&got[i], k), want = dt_host_f64(&b.want[i], k),
                         apart = fabs(have - want);
            off += apart > 1e-5 * (1 + fabs(want));
            if (apart > level * 1.001 + 1e-5 * (1 + fabs(want)))
                fail_msg("output %d: element %lld is %.9g, want %.9g", i, (long long)k, have, want);
        }
        if (off * 200 > n)
            fail_msg("output %d: %lld of %lld numbers are off", i, (long long)off, (long long)n);
    }
    dt_onnx_run_destroy(r);
    end(&b);
}

static void conv_weights(int64_t k, int64_t c, int64_t side, float in, const char **w, const char **bias) {
    const char *s = floats(1, &k, 0.002f, 0.01f);
    *w = OP_A("DequantizeLinear", dt_onnx_int("axis", 0), bytes(DT_TENSOR_I8, DIMS(k, c, side, side)), s);
    (void)in;
    *bias = floats(1, &k, -1, 1);
}

/* Two convolutions and the sum with what went in, as ResNets have it. */
static void test_pairs_around_convolutions(void **state) {
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        const dt_tensor_type type = kind ? DT_TENSOR_I8 : DT_TENSOR_U8;
        const int shift = kind ? -128 : 0;
        begin();
        input("x", DIMS(2, 8, 9, 7));
        const char *w, *bias, *w2, *bias2, *x = pair("x", type, 0.02431f, 121 + shift);
        conv_weights(12, 8, 3, 0.024f, &w, &bias);
        const dt_onnx_attr pads = dt_onnx_ints("pads", 4, (int64_t[]){1, 1, 1, 1});
        const char *a = pair(OP("Relu", OP_A("Conv", pads, x, w, bias)), type, 0.05f, 0 + shift);
        conv_weights(8, 12, 1, 0.05f, &w2, &bias2);
        const char *y = pair(OP("Conv", a, w2, bias2), type, 0.0713f, 128 + shift);
        const char *sum = pair(OP("Relu", OP("Add", y, x)), type, 0.06171f, 3 + shift);
        output(sum);
        output(OP("GlobalAveragePool", sum));
        check(0.0713, false);
    }
}

/* A bias of whole numbers in units of the sums; rows of a Gemm and a MatMul. */
static void test_pairs_around_rows(void **state) {
    (void)state;
    begin();
    input("x", DIMS(5, 20));
    const int64_t k = 9;
    float unit[9], w_scale[9];
    for (int i = 0; i < 9; i++) w_scale[i] = 0.003f + 0.001f * (float)i, unit[i] = 0.024f * w_scale[i];
    const char *s = dt_onnx_draft_constant(&d, NULL, DT_TENSOR_F32, 1, &k, w_scale, false),
               *u = dt_onnx_draft_constant(&d, NULL, DT_TENSOR_F32, 1, &k, unit, false);
    const char *x = pair("x", DT_TENSOR_U8, 0.024f, 121);
    const char *w = OP_A("DequantizeLinear", dt_onnx_int("axis", 0), bytes(DT_TENSOR_I8, DIMS(9, 20)), s),
               *bias = OP_A("DequantizeLinear", dt_onnx_int("axis", 0), whole(9, 4000), u);
    const char *y =
        dt_onnx_draft_op(&d, "Gemm", NULL, DT_ONNX_IN(x, w, bias), DT_ONNX_ATTR(dt_onnx_int("transB", 1)));
    const char *second = pair(y, DT_TENSOR_U8, 0.05f, 99);
    const char *w2 =
        OP_A("DequantizeLinear", dt_onnx_int("axis", 1), bytes(DT_TENSOR_I8, DIMS(9, 7)), scale(0.004f));
    output(OP("Add", OP("MatMul", second, w2), floats(DIMS(7), -1, 1)));
    check(0.05 * 0.004 * 128, false);
}

/* The ops of whole numbers, in files without pairs. */
static void test_ops_of_whole_numbers(void **state) {
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        const dt_tensor_type type = kind ? DT_TENSOR_I8 : DT_TENSOR_U8;
        const int shift = kind ? -128 : 0;
        begin();
        input("x", DIMS(2, 8, 6, 5));
        const char *xs = scale(0.024f), *xz = zero(type, 121 + shift);
        const char *x = OP("QuantizeLinear", "x", xs, xz);
        const char *ys = scale(0.0813f), *yz = zero(type, 120 + shift);
        const char *wz = dt_onnx_draft_constant(&d, NULL, DT_TENSOR_I8, DIMS(8), (int8_t[8]){0}, false);
        const char *y =
            dt_onnx_draft_op(&d, "QLinearConv", NULL,
                             DT_ONNX_IN(x, xs, xz, bytes(DT_TENSOR_I8, DIMS(8, 8, 3, 3)),
                                        floats(DIMS(8), 0.001f, 0.004f), wz, ys, yz, whole(8, 3000)),
                             DT_ONNX_ATTR(dt_onnx_ints("pads", 4, (int64_t[]){1, 1, 1, 1})));
        const char *ss = scale(0.07171f), *sz = zero(type, 100 + shift), *sum = "sum";
        dt_onnx_draft_node(&d, "QLinearAdd", "com.microsoft", DT_ONNX_IN(y, ys, yz, x, xs, xz, ss, sz), &sum,
                           1, DT_ONNX_PLAIN);
        const char *twice = "twice";
        dt_onnx_draft_node(&d, "QLinearAdd", "com.microsoft", DT_ONNX_IN(sum, ss, sz, sum, ss, sz, ss, sz),
                           &twice, 1, DT_ONNX_PLAIN);
        const char *flat = OP_A("Flatten", dt_onnx_int("axis", 3), twice);
        output(OP("QLinearMatMul", flat, ss, sz, bytes(DT_TENSOR_I8, DIMS(5, 11)), scale(0.003f),
                  zero(DT_TENSOR_I8, 0), scale(0.02f), zero(type, 128 + shift)));
        output(OP("DequantizeLinear", sum, ss, sz));
        check(2.0, false);
    }
}

static const char *dynamic(const char *x, int64_t c, int64_t k, const char *w_scale) {
    const char *made[3] = {"dq", "dq_scale", "dq_zero"};
    dt_onnx_draft_node(&d, "DynamicQuantizeLinear", "", DT_ONNX_IN(x), made, 3, DT_ONNX_PLAIN);
    const char *sums =
        OP("MatMulInteger", made[0], bytes(DT_TENSOR_I8, DIMS(c, k)), made[2], zero(DT_TENSOR_I8, 0));
    return OP("Mul", OP_A("Cast", dt_onnx_int("to", 1), sums), OP("Mul", made[1], w_scale));
}

static void test_dynamic(void **state) {
    (void)state;
    begin();
    input("x", DIMS(3, 4, 24));
    output(OP("Relu",
              OP("Add", dynamic("x", 24, 10, floats(DIMS(10), 0.001f, 0.01f)), floats(DIMS(10), -1, 1))));
    check(0, false);
}

/* A row gives the same bits alone and among others: its range is its own. */
static void test_batch_mates(void **state) {
    (void)state;
    enum { ROW = 4 * 24 };
    dt_onnx_model *m;
    dt_onnx_run *all, *one;
    dt_host_tensor got[4], own[4];
    begin();
    input("x", 3, (int64_t[]){-1, 4, 24});
    output(dynamic("x", 24, 10, floats(DIMS(10), 0.001f, 0.01f)));
    ok(dt_onnx_draft_end(&d, &m));
    float x[3 * ROW];
    for (int i = 0; i < 3 * ROW; i++)
        x[i] = (i / ROW == 1 ? 15 : 3) * real(); /* the second row has another range */
    const dt_onnx_run_options o = {.by_row = true};
    dt_host_tensor in = {.type = DT_TENSOR_F32, .ndim = 3, .dim = {3, 4, 24}, .data = x};
    ok(dt_onnx_run_create(cpu, m, &in, &o, &all));
    ok(dt_onnx_run_go(all, &in, got));
    assert_int_equal(dt_onnx_run_get_info(all)->n_call, 0);
    for (int r = 0; r < 3; r++) {
        dt_host_tensor row = {.type = DT_TENSOR_F32, .ndim = 3, .dim = {1, 4, 24}, .data = x + r * ROW};
        ok(dt_onnx_run_create(cpu, m, &row, &o, &one));
        ok(dt_onnx_run_go(one, &row, own));
        assert_memory_equal((float *)got[0].data + r * 40, own[0].data, 40 * sizeof(float));
        dt_onnx_run_destroy(one);
    }
    dt_onnx_run_destroy(all);
    dt_onnx_model_free(m);
}

static void test_4_bits(void **state) {
    (void)state;
    for (int with = 0; with < 2; with++) {
        begin();
        input("x", DIMS(6, 70));
        const char *y = "y",
                   *in[4] = {"x", bytes(DT_TENSOR_U8, DIMS(21, 3, 16)), floats(DIMS(63), -0.01f, 0.02f),
                             with ? bytes(DT_TENSOR_U8, DIMS(42)) : NULL};
        dt_onnx_draft_node(&d, "MatMulNBits", "com.microsoft", in, with ? 4 : 3, &y, 1,
                           DT_ONNX_ATTR(dt_onnx_int("K", 70), dt_onnx_int("N", 21), dt_onnx_int("bits", 4),
                                        dt_onnx_int("block_size", 32)));
        output(OP("Add", "y", floats(DIMS(21), -1, 1)));
        check(0, false);
    }
}

/* Weights of 8 bits alone: activations of each row are rounded, but not where rows may not differ by 1e-5. */
static void test_weights_alone(void **state) {
    (void)state;
    for (int exact = 0; exact < 2; exact++) {
        begin();
        input("x", DIMS(3, 24));
        const char *w = OP_A("DequantizeLinear", dt_onnx_int("axis", 1), bytes(DT_TENSOR_I8, DIMS(24, 10)),
                             floats(DIMS(10), 0.001f, 0.01f));
        output(OP("MatMul", "x", w));
        both b;
        evaluate(&b);
        dt_onnx_run *r;
        dt_host_tensor got[4];
        ok(dt_onnx_run_create(cpu, b.m, b.in, &(dt_onnx_run_options){.by_row = exact}, &r));
        ok(dt_onnx_run_go(r, b.in, got));
        double most = 0, size = 0;
        for (int64_t i = 0; i < 30; i++) {
            most = fmax(most, fabs(dt_host_f64(&got[0], i) - dt_host_f64(&b.want[0], i)));
            size = fmax(size, fabs(dt_host_f64(&b.want[0], i)));
        }
        if (most > size * (exact ? 1e-5 : 1e-2)) fail_msg("off by %g of %g", most, size);
        if (!exact) assert_true(most > 1e-6 * size);
        dt_onnx_run_destroy(r);
        end(&b);
    }
}

/* Scales and zero points that are none are computed as they are defined, or refused, with kernels as without. */
static void test_hostile(void **state) {
    (void)state;
    static const float scales[] = {0, -0.1f, NAN, INFINITY, 1e-45f};
    for (int i = 0; i < 5; i++)
        for (int where = 0; where < 3; where++)
            for (int wrong = 0; wrong < 3; wrong++) {
                begin();
                input("x", DIMS(1, 4, 5, 5));
                const char *x = pair("x", DT_TENSOR_U8, where == 0 ? scales[i] : 0.02f, 100);
                const int64_t k = wrong == 1 ? 5 : 6;
                const char *s = where == 1 ? scale(scales[i]) : floats(1, &k, 0.001f, 0.01f);
                const char *w = OP_A("DequantizeLinear", dt_onnx_int("axis", wrong == 2 ? 7 : 0),
                                     bytes(DT_TENSOR_I8, DIMS(6, 4, 3, 3)), s);
                output(pair(OP("Conv", x, w), DT_TENSOR_U8, where == 2 ? scales[i] : 0.05f, 7));
                dt_onnx_model *m;
                dt_onnx_run *r = NULL;
                dt_host_tensor in[1], got[4];
                ok(dt_onnx_draft_end(&d, &m));
                in[0] = given(&m->graph.in[0]);
                dt_status st = dt_onnx_run_create(cpu, m, in, NULL, &r);
                if (st == DT_OK) st = dt_onnx_run_go(r, in, got);
                if (st != DT_OK) assert_true(strlen(dt_error_text()) > 10);
                if (wrong > 0 && where != 1) assert_int_not_equal(st, DT_OK);
                dt_onnx_run_destroy(r);
                free(in[0].data);
                dt_onnx_model_free(m);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_around_convolutions),
        cmocka_unit_test(test_pairs_around_rows),
        cmocka_unit_test(test_ops_of_whole_numbers),
        cmocka_unit_test(test_dynamic),
        cmocka_unit_test(test_batch_mates),
        cmocka_unit_test(test_4_bits),
        cmocka_unit_test(test_weights_alone),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
