/* The op test matrix on the CUDA backend against the CPU oracle, in every dtype: guard bands, poisoned
 * outputs, bit-equal repeats, in-place runs, replay of a captured graph. */
#include "attention_rows.h"
#include "core/program.h"
#include "gpu_test.h"

/* A case run on one backend; the inputs are those that `rounded` can hold. */
static op_run run_case(dt_backend *be, const op_case *c, dt_graph *g, dt_dtype rounded, bool in_place) {
    op_run r = op_run_open(be, g, &op_step, in_place);
    for (int32_t i = 0; i < DT_SLOTS_IN_MAX; i++) {
        if (!op_case_has(c, i)) continue;
        dt_vid v = dt_graph_find(g, op_case_in_name(i));
        void *data = op_case_data(c, i, rounded);
        op_write(&r, v, data);
        free(data);
    }
    op_run_go(&r);
    return r;
}

static void compare_outputs(op_run *gpu, op_run *cpu, const op_case *c, dt_dtype t) {
    for (dt_vid v = 0; v < gpu->g->n_value; v++) {
        const dt_value *val = &gpu->g->value[v];
        bool written = val->producer >= 0 || val->role == DT_ROLE_METRIC || val->role == DT_ROLE_CACHE;
        if (!written) continue;
        dt_vid w = dt_graph_find(cpu->g, val->name);
        assert_true(w >= 0);
        float *got = op_read(gpu, v), *want = op_read(cpu, w);
        char what[200];
        snprintf(what, sizeof what, "%s, %s, %s", c->name, dt_dtype_name(t), val->name);
        op_expect_close(got, want, dt_value_n_elem(val), gpu_tolerance(t), what);
        free(got);
        free(want);
    }
}

static void expect_same_outputs(op_run *a, op_run *b, const op_case *c, const char *what) {
    for (dt_vid v = 0; v < a->g->n_value; v++) {
        if (op_is_input(a, v)) continue;
        float *x = op_read(a, v), *y = op_read(b, v);
        if (memcmp(x, y, (size_t)dt_value_n_elem(&a->g->value[v]) * sizeof *x) != 0)
            fail_msg("%s: %s changes %s", c->name, what, a->g->value[v].name);
        free(x);
        free(y);
    }
}

static void check_case(gpu_pair *p, const op_case *c, dt_dtype t) {
    dt_graph *g = op_case_graph(c, t), *plain = op_case_graph(c, DT_DTYPE_F32);
    op_run want = run_case(p->cpu, c, plain, t, false), got = run_case(p->gpu, c, g, t, false);
    op_check_bounds(&got);
    compare_outputs(&got, &want, c, t);
    op_run again = run_case(p->gpu, c, g, t, false), place = run_case(p->gpu, c, g, t, true);
    expect_same_outputs(&got, &again, c, "a second run");
    expect_same_outputs(&got, &place, c, "running in place");
    op_run_close(&place);
    op_run_close(&again);
    op_run_close(&got);
    op_run_close(&want);
    dt_graph_destroy(plain);
    dt_graph_destroy(g);
}

static void test_running_statistics(void **state) {
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    op_check_bn_keeps(p->gpu);
}

/* What cuDNN and cuBLASLt compute: in 16 bits race checkers hang or break off on their kernels. */
static bool by_library(const op_case *c) {
    static const dt_op ops[] = {DT_OP_CONV,   DT_OP_CONV_DGRAD,  DT_OP_CONV_WGRAD,
                                DT_OP_DENSE,  DT_OP_DENSE_DGRAD, DT_OP_DENSE_WGRAD,
                                DT_OP_MATMUL, DT_OP_RECURRENT,   DT_OP_RECURRENT_BWD};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (c->op == ops[i]) return true;
    return false;
}

/* What only the CPU has: who lowers to these asks for their cost first, which is infinite here. */
static bool is_of_cpu(const op_case *c) {
    return c->op == DT_OP_QUANTIZE || c->op == DT_OP_DEQUANTIZE || c->op == DT_OP_QPRODUCT;
}

/* A case in a type: a test of its own, so that one that fails hides no other. */
typedef struct case_test {
    const op_case *c;
    dt_dtype t;
    char name[100];
} case_test;

static void test_case(void **state) {
    const case_test *test = *state;
    gpu_pair *p = gpu_the_pair();
    GPU_OR_SKIP(p);
    if (is_of_cpu(test->c)) skip();
    check_case(p, test->c, test->t);
}

static dt_status enqueue(void *arg) {
    op_run *r = arg;
    for (int32_t i = 0; i < r->n_kernel; i++) DT_TRY(r->kernel[i].run(r->kernel[i].ctx, NULL));
    return DT_OK;
}

/* Adding up what they read, they may run once. */
static bool adds_up(const op_case *c) {
    return dt_op_get(c->op)->flags & DT_OP_SEED || c->op == DT_OP_BN_FINALIZE || c->op == DT_OP_BN_GRAM ||
           c->op == DT_OP_BATCHNORM;
}

static void test_replay_equals_run(void **state) {
    const case_test *test = *state;
    gpu_pair *p = gpu_the_pair();
    GPU_OR_SKIP(p);
    const op_case *c = test->c;
    if (is_of_cpu(c)) skip();
    dt_graph *g = op_case_graph(c, test->t);
    op_run run = run_case(p->gpu, c, g, test->t, false), replay = run_case(p->gpu, c, g, test->t, false);
    for (dt_vid v = 0; v < g->n_value; v++)
        if (!op_is_input(&replay, v) && g->value[v].alias_of < 0)
            op_fill_device(p->gpu, replay.value[v].data, OP_POISON, replay.value[v].bytes);
    dt_capture *captured = NULL;
    op_ok(p->gpu->capture(p->gpu, enqueue, &replay, &captured));
    op_ok(p->gpu->replay(p->gpu, captured, NULL));
    op_ok(p->gpu->stream_sync(p->gpu, NULL));
    expect_same_outputs(&run, &replay, c, "replaying");
    p->gpu->capture_free(p->gpu, captured);
    op_run_close(&replay);
    op_run_close(&run);
    dt_graph_destroy(g);
}

static void test_attention_against_all_keys(void **state) {
    static const dt_dtype types[] = {DT_DTYPE_F32, DT_DTYPE_F16, DT_DTYPE_BF16};
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        attention_check_rows(p->gpu, types[i], fmax(gpu_tolerance(types[i]), AGAINST_TOLERANCE));
}

/* Indices outside the table give zeros, and nothing to its gradient. */
static void test_embed_outside(void **state) {
    static const int32_t index[] = {-1, 2, 3, INT32_MAX, INT32_MIN, 0};
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    const op_case forward = {.op = DT_OP_EMBED,
                             .attr = {.embed.padding = -1},
                             .in = {{IN_ABOVE, {3, 8}}, {IN_INDEX, {6}}}},
                  back = {.op = DT_OP_EMBED_BWD,
                          .attr = {.embed = {.padding = -1, .rows = 3}},
                          .in = {{IN_ABOVE, {6, 8}}, {IN_INDEX, {6}}}};
    for (int k = 0; k < 2; k++) {
        const op_case *c = k ? &back : &forward;
        dt_graph *g = op_case_graph(c, DT_DTYPE_F32);
        op_run r = op_run_open(p->gpu, g, &op_step, false);
        op_case_fill(c, &r);
        op_write_bytes(&r, dt_graph_find(g, "in1"), index);
        op_run_go(&r);
        op_check_bounds(&r);
        float *got = op_read(&r, g->node[0].out[0]), *from = op_read(&r, dt_graph_find(g, "in0"));
        for (int i = 0; i < 8; i++)
            for (int row = 0; row < (k ? 3 : 6); row++) {
                const bool there = k ? row != 1 : row == 1 || row == 5;
                const int at = k ? (row == 0 ? 5 : 1) : row == 1 ? 2 : 0; /* the one row that it is */
                assert_true(got[row * 8 + i] == (there ? from[at * 8 + i] : 0));
            }
        free(got), free(from);
        op_run_close(&r);
        dt_graph_destroy(g);
    }
}

/* A graph with functions of the host is refused, all of them in one text. */
static void test_calls_are_refused(void **state) {
    static const char *const names[] = {"Unknown 13 'first'", "Other 9 'second'"};
    gpu_pair *p = *state;
    GPU_OR_SKIP(p);
    dt_graph *g;
    dt_program *program;
    dt_call call[2];
    op_ok(dt_graph_create(&g, DT_DTYPE_F32, false));
    for (int i = 0; i < 2; i++) {
        dt_vid made[2];
        call[i] = op_call, call[i].name = names[i];
        op_ok(dt_call_add(g, names[i], &call[i], 0, NULL, made));
    }
    assert_int_equal(dt_program_prepare(p->gpu, g, NULL, &program), DT_ERR_UNSUPPORTED);
    for (int i = 0; i < 2; i++) assert_non_null(strstr(dt_error_text(), names[i]));
    dt_graph_destroy(g);
}

static const struct CMUnitTest others[] = {
    cmocka_unit_test(test_calls_are_refused),
    cmocka_unit_test(test_running_statistics),
    cmocka_unit_test(test_embed_outside),
    cmocka_unit_test(test_attention_against_all_keys),
};

/* The names of tests begin with "own" or "library", by whose kernels they run, or with "replay". */
int main(int argc, char **argv) {
    static const dt_dtype types[] = {DT_DTYPE_F32, DT_DTYPE_F16, DT_DTYPE_BF16};
    enum { N_TYPE = sizeof types / sizeof *types, N_OTHER = sizeof others / sizeof *others };
    static case_test about[(N_TYPE + 1) * OP_CASE_COUNT];
    static struct CMUnitTest tests[(N_TYPE + 1) * OP_CASE_COUNT + N_OTHER];
    size_t n = 0;
    for (int k = 0; k <= N_TYPE; k++)
        for (int i = 0; i < OP_CASE_COUNT; i++) {
            const op_case *c = &op_case_table[i];
            const bool replay = k == N_TYPE;
            if ((replay && adds_up(c)) || c->op == DT_OP_CALL) continue;
            case_test *a = &about[n];
            *a = (case_test){.c = c, .t = replay ? DT_DTYPE_F16 : types[k]};
            snprintf(a->name, sizeof a->name, "%s %s: %s",
                     replay          ? "replay"
                     : by_library(c) ? "library"
                                     : "own",
                     dt_dtype_name(a->t), c->name);
            tests[n++] = (struct CMUnitTest){.name = a->name,
                                             .test_func = replay ? test_replay_equals_run : test_case,
                                             .initial_state = a};
        }
    memcpy(tests + n, others, sizeof others);
    return gpu_test_run("op matrix on the GPU", tests, n + N_OTHER, argc, argv);
}
