/* Recurrences: stacks of layers against PyTorch (values by tests/golden/make_golden.py); cases made at random against
 * the oracle in double and that against finite differences, with gradients into every mixture of outputs; empty
 * sequences. */
#include "graph_oracle.h"
#include "op_cases.h"

#include "core/autodiff.h"
#include "cpu/cpu.h"
#include "data/h5.h"
#include "model/builder.h"

static dt_backend *be;

static int set_up(void **state) {
    (void)state;
    op_ok(dt_backend_cpu_create(&(dt_backend_options){.local_world = 1, .threads = 2}, &be));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    be->destroy(be);
    return 0;
}

/* ---- stacks against PyTorch ---- */

typedef struct stack_case {
    const char *name; /* of the group in recurrent.h5 */
    dt_recurrent_kind kind;
    bool states, lengths;
    dt_recurrent_options o;
} stack_case;

static const stack_case stack_cases[] = {
    {"lstm", DT_LSTM, false, false, {.hidden = 7, .layers = 1}},
    {"lstm states", DT_LSTM, true, false, {.hidden = 6, .layers = 1, .no_bias = true}},
    {"lstm stack", DT_LSTM, true, true, {.hidden = 10, .layers = 3, .bidirectional = true}},
    {"lstm lengths", DT_LSTM, false, true, {.hidden = 17, .layers = 1}},
    {"gru", DT_GRU, false, false, {.hidden = 7, .layers = 1}},
    {"gru stack", DT_GRU, true, true, {.hidden = 11, .layers = 2, .bidirectional = true}},
    {"gru deep", DT_GRU, true, false, {.hidden = 5, .layers = 3, .no_bias = true}},
    {"rnn", DT_RNN_TANH, true, false, {.hidden = 7, .layers = 1}},
    {"rnn stack", DT_RNN_TANH, true, true, {.hidden = 8, .layers = 2, .bidirectional = true}},
    {"rnn relu", DT_RNN_RELU, false, true, {.hidden = 9, .layers = 2}},
};

static const char *in_group(const char *group, const char *what, const char *item) {
    static char text[256];
    snprintf(text, sizeof text, "%s%s%s%s", group, *group ? "/" : "", what, item);
    return text;
}

static void *load(dt_h5 *h, const char *name, dt_h5_info *info) {
    op_ok(dt_h5_info_get(h, name, info));
    void *data = op_zalloc(info->n_elem * 4);
    op_ok(dt_h5_read(h, name, info->dtype, info->n_elem, data));
    return data;
}

/* A value of the shape of a dataset, which it will hold; a parameter where a gradient of it is known. */
static dt_vid add_like(dt_h5 *h, dt_graph *g, const char *group, const char *name, bool param) {
    dt_h5_info info;
    dt_vid v;
    free(load(h, in_group(group, name, ""), &info));
    op_ok(dt_graph_add_value(g, name, param ? DT_ROLE_PARAM : DT_ROLE_INPUT, info.dtype, info.ndim, info.dim,
                             &v));
    return v;
}

/* Adds the products of v with the weights of that name to `terms`, as rows. */
static void add_term(dt_h5 *h, dt_builder *b, const char *group, const char *name, dt_vid v, dt_vid *terms,
                     int32_t *n) {
    char text[32];
    snprintf(text, sizeof text, "r_%s", name);
    const dt_vid weights = add_like(h, b->g, group, text, false);
    snprintf(text, sizeof text, "%s*", name);
    const dt_vid product =
        dt_build_op(b, text, DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_MUL}, 2, (dt_vid[]){v, weights});
    snprintf(text, sizeof text, "%s rows", name);
    terms[(*n)++] = dt_build_op(b, text, DT_OP_RESHAPE, NULL, 1, &product);
}

static void expect_dataset(dt_h5 *h, op_run *r, dt_vid v, const char *dataset, double scale) {
    dt_h5_info info;
    float *want = load(h, dataset, &info), *got = op_read(r, v);
    assert_int_equal(dt_value_n_elem(&r->g->value[v]), info.n_elem);
    for (int64_t i = 0; i < info.n_elem; i++) want[i] *= (float)scale;
    op_expect_close(got, want, info.n_elem, 1e-5, dataset);
    free(want), free(got);
}

static void check_stack(dt_h5 *h, const stack_case *c) {
    dt_builder b = {0};
    dt_vid last[2] = {-1, -1}, terms[3], metrics, loss;
    int32_t n = 0;
    op_ok(dt_graph_create(&b.g, DT_DTYPE_F32, true));
    const bool lstm = c->kind == DT_LSTM;
    const dt_build_recurrent_inputs in = {.x = add_like(h, b.g, c->name, "x", true),
                                          .lengths = c->lengths ? add_like(h, b.g, "", "lengths", false) : -1,
                                          .h0 = c->states ? add_like(h, b.g, c->name, "h0", true) : -1,
                                          .c0 =
                                              c->states && lstm ? add_like(h, b.g, c->name, "c0", true) : -1};
    const dt_vid out = dt_build_recurrent(&b, "l", c->kind, &in, &c->o, last);
    op_ok(b.status);
    add_term(h, &b, c->name, "out", out, terms, &n);
    add_term(h, &b, c->name, "h", last[0], terms, &n);
    if (lstm) add_term(h, &b, c->name, "c", last[1], terms, &n);
    const dt_vid sum = dt_build_op(&b, "terms", DT_OP_CONCAT, &(dt_attr){.shape.axis = 1}, n, terms);
    op_ok(dt_graph_add_value(b.g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1, (int64_t[]){DT_METRIC_COUNT},
                             &metrics));
    op_ok(b.status);
    /* A row's loss is a mean. */
    const dt_attr t = {.loss = {.weight = (float)b.g->value[sum].dim[1], .kind = DT_LOSS_VALUE}};
    op_ok(dt_graph_add_node(b.g, "loss", DT_OP_LOSS, &t, 4, (dt_vid[]){sum, -1, -1, metrics}, &loss));
    op_ok(dt_graph_add_loss(b.g, loss));
    const int32_t n_value = b.g->n_value;
    op_ok(dt_autodiff(b.g));
    op_ok(dt_graph_validate(b.g));
    op_run r = op_run_open(be, b.g, &op_step, false);
    for (dt_vid v = 0; v < n_value; v++) {
        dt_h5_info info;
        const dt_value *val = &b.g->value[v];
        if (val->producer >= 0 || val->role == DT_ROLE_METRIC) continue;
        void *data = load(h, in_group(v == in.lengths ? "" : c->name, val->name, ""), &info);
        assert_int_equal(dt_value_n_elem(val), info.n_elem);
        op_write_bytes(&r, v, data);
        free(data);
    }
    op_run_go(&r);
    expect_dataset(h, &r, last[0], in_group(c->name, "h", ""), 1);
    if (lstm) expect_dataset(h, &r, last[1], in_group(c->name, "c", ""), 1);
    int32_t n_grad = 0;
    for (dt_vid v = n_value; v < b.g->n_value; v++) {
        if (b.g->value[v].role != DT_ROLE_GRAD) continue;
        expect_dataset(h, &r, v, in_group(c->name, "grad_", b.g->value[b.g->value[v].grad_of].name),
                       (double)op_step.loss_weight * (double)op_step.loss_scale);
        n_grad++;
    }
    const int32_t each = (c->o.no_bias ? 2 : 4) * (c->o.bidirectional ? 2 : 1);
    assert_int_equal(n_grad, 1 + c->states * (1 + lstm) + each * c->o.layers);
    op_run_close(&r);
    dt_graph_destroy(b.g);
}

/* The outputs alone, of an evaluation graph, which keeps nothing for gradients; and the last state of the top layer. */
static void check_evaluation(dt_h5 *h, const stack_case *c, bool top) {
    dt_builder b = {0};
    dt_recurrent_options o = c->o;
    dt_h5_info info;
    o.last = top;
    op_ok(dt_graph_create(&b.g, DT_DTYPE_F32, false));
    const dt_build_recurrent_inputs in = {
        .x = add_like(h, b.g, c->name, "x", true),
        .lengths = c->lengths ? add_like(h, b.g, "", "lengths", false) : -1,
        .h0 = c->states ? add_like(h, b.g, c->name, "h0", true) : -1,
        .c0 = c->states && c->kind == DT_LSTM ? add_like(h, b.g, c->name, "c0", true) : -1};
    const dt_vid out = dt_build_recurrent(&b, "l", c->kind, &in, &o, NULL);
    op_ok(b.status);
    for (dt_nid i = 0; i < b.g->n_node; i++)
        assert_true(b.g->node[i].op != DT_OP_RECURRENT ||
                    (b.g->node[i].out[DT_RNN_OUT_ACT] < 0 && b.g->node[i].out[DT_RNN_OUT_CELL] < 0));
    op_run r = op_run_open(be, b.g, &op_step, true);
    for (dt_vid v = 0; v < b.g->n_value; v++) {
        const dt_value *val = &b.g->value[v];
        if (val->producer >= 0) continue;
        void *data = load(h, in_group(v == in.lengths ? "" : c->name, val->name, ""), &info);
        op_write_bytes(&r, v, data);
        free(data);
    }
    op_run_go(&r);
    if (!top) {
        expect_dataset(h, &r, out, in_group(c->name, "out", ""), 1);
    } else {
        const int64_t wide = c->o.hidden * (c->o.bidirectional ? 2 : 1);
        float *all = load(h, in_group(c->name, "h", ""), &info), *got = op_read(&r, out);
        assert_int_equal(dt_value_n_elem(&b.g->value[out]), info.dim[0] * wide);
        for (int64_t row = 0; row < info.dim[0]; row++)
            op_expect_close(got + row * wide, all + (row + 1) * info.dim[1] - wide, wide, 1e-5, c->name);
        free(all), free(got);
    }
    op_run_close(&r);
    dt_graph_destroy(b.g);
}

static void test_stacks(void **state) {
    (void)state;
    char path[1024];
    dt_h5 *h = NULL;
    snprintf(path, sizeof path, "%s/recurrent.h5", DT_TEST_DATA);
    op_ok(dt_h5_open(path, &h));
    for (size_t i = 0; i < sizeof stack_cases / sizeof stack_cases[0]; i++) {
        check_stack(h, &stack_cases[i]);
        check_evaluation(h, &stack_cases[i], false);
        check_evaluation(h, &stack_cases[i], true);
    }
    op_ok(dt_h5_close(h));
}

/* ---- generated cases ---- */

/* A node, its gradient, and weights of the outputs: the scalar is the sum of outputs times weights. */
typedef struct made {
    dt_graph *g;
    dt_vid in[DT_RNN_IN_LENGTHS + 1], dout[DT_RNN_OUT_C + 1], din[DT_RNN_IN_LENGTHS + 1];
    int64_t rows, steps, units;
    dt_recurrent_kind kind;
} made;

static int64_t draw(uint64_t salt, int64_t *at, int64_t below) {
    return (int64_t)(op_uniform(salt, (*at)++) * (float)below);
}

static dt_vid add_input(dt_graph *g, const char *name, dt_dtype dtype, int32_t ndim, const int64_t *dim) {
    dt_vid v;
    op_ok(dt_graph_add_value(g, name, DT_ROLE_INPUT, dtype, ndim, dim, &v));
    return v;
}

static made make(uint64_t salt, bool empty) {
    int64_t at = 0;
    made m = {.kind = (dt_recurrent_kind)draw(salt, &at, DT_RECURRENT_COUNT)};
    const bool wide = draw(salt, &at, 4) == 0, lstm = m.kind == DT_LSTM;
    m.rows = 1 + draw(salt, &at, 5);
    m.steps = empty ? 0 : 1 + draw(salt, &at, 5);
    m.units = 1 + draw(salt, &at, wide ? 70 : 9);
    const int64_t gates = dt_recurrent_gates(m.kind) * m.units;
    const uint32_t has = (uint32_t)draw(salt, &at, 16), reached = 1 + (uint32_t)draw(salt, &at, lstm ? 7 : 3);
    const dt_attr t = {.recurrent = {.kind = m.kind, .reverse = draw(salt, &at, 2) == 1}};
    op_ok(dt_graph_create(&m.g, DT_DTYPE_F32, true));
    for (int i = 0; i <= DT_RNN_IN_LENGTHS; i++) m.in[i] = m.din[i] = -1;
    m.in[DT_RNN_IN_GATES] = add_input(m.g, "gates", DT_DTYPE_F32, 3, (int64_t[]){m.rows, m.steps, gates});
    m.in[DT_RNN_IN_W] = add_input(m.g, "w", DT_DTYPE_F32, 2, (int64_t[]){gates, m.units});
    const int64_t state[] = {m.rows, m.units};
    if (has & 1) m.in[DT_RNN_IN_B] = add_input(m.g, "b", DT_DTYPE_F32, 1, &gates);
    if (has & 2) m.in[DT_RNN_IN_H0] = add_input(m.g, "h0", DT_DTYPE_F32, 2, state);
    if ((has & 4) && lstm) m.in[DT_RNN_IN_C0] = add_input(m.g, "c0", DT_DTYPE_F32, 2, state);
    if (has & 8) m.in[DT_RNN_IN_LENGTHS] = add_input(m.g, "lengths", DT_DTYPE_I32, 1, &m.rows);
    const uint32_t kept = m.kind >= DT_GRU ? 1u << DT_RNN_OUT_ACT | 1u << DT_RNN_OUT_CELL : 0;
    dt_vid dout[DT_SLOTS_OUT_MAX] = {-1, -1, -1, -1, -1};
    bool want[DT_RNN_IN_LENGTHS + 1];
    op_ok(dt_graph_add_node_with(m.g, "node", DT_OP_RECURRENT, &t, DT_RNN_IN_LENGTHS + 1, m.in,
                                 reached | 1 | kept, NULL));
    for (int i = 0; i <= DT_RNN_OUT_C; i++) {
        m.dout[i] = -1;
        if (!(reached >> i & 1)) continue;
        const dt_value v = m.g->value[m.g->node[0].out[i]];
        dout[i] = m.dout[i] = add_input(m.g, (const char *[]){"dy", "dh", "dc"}[i], v.dtype, v.ndim, v.dim);
    }
    for (int i = 0; i <= DT_RNN_IN_LENGTHS; i++) want[i] = m.in[i] >= 0 && i != DT_RNN_IN_LENGTHS;
    op_ok(dt_op_get(DT_OP_RECURRENT)->grad(m.g, 0, dout, want, m.din));
    op_ok(dt_graph_validate(m.g));
    return m;
}

static double scalar_of(const made *m, oracle *o) {
    double sum = 0;
    oracle_run(o, 1);
    for (int i = 0; i <= DT_RNN_OUT_C; i++)
        for (int64_t e = 0; m->dout[i] >= 0 && e < dt_value_n_elem(&m->g->value[m->dout[i]]); e++)
            sum += o->data[m->dout[i]][e] * o->data[m->g->node[0].out[i]][e];
    return sum;
}

/* Inputs of both, the same numbers. */
static void fill(const made *m, oracle *o, op_run *r, uint64_t salt) {
    for (dt_vid v = 0; v < m->g->n_value; v++) {
        const dt_value *val = &m->g->value[v];
        if (val->producer >= 0) continue;
        const int64_t n = dt_value_n_elem(val);
        float *x = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) {
            const float u = op_uniform(salt + 100 * (uint64_t)v, e);
            const int32_t length = (int32_t)(u * (float)(m->steps + 4)) - 1; /* from -1 to two past the end */
            x[e] = 2 * u - 1;
            if (val->dtype == DT_DTYPE_I32) memcpy(&x[e], &length, sizeof length);
            o->data[v][e] = val->dtype == DT_DTYPE_I32 ? (double)length : (double)x[e];
        }
        op_write_bytes(r, v, x);
        free(x);
    }
}

static void check_made(uint64_t salt, bool empty) {
    made m = make(salt, empty);
    oracle o = oracle_open(m.g, &op_step);
    op_run r = op_run_open(be, m.g, &op_step, salt % 2 == 1);
    fill(&m, &o, &r, salt);
    op_run_go(&r);
    op_check_bounds(&r);
    oracle_run(&o, m.g->n_node);
    for (dt_vid v = 0; v < m.g->n_value; v++) {
        const dt_value *val = &m.g->value[v];
        const int64_t n = dt_value_n_elem(val);
        /* what was overwritten in place is gone */
        if (val->producer < 0 || (salt % 2 == 1 && v == m.g->node[0].out[DT_RNN_OUT_ACT])) continue;
        float *got = op_read(&r, v), *want = op_zalloc(n * 4);
        char what[128];
        for (int64_t e = 0; e < n; e++) want[e] = (float)o.data[v][e];
        snprintf(what, sizeof what, "case %llu, %s %s", (unsigned long long)salt, val->name,
                 dt_value_shape_text(val));
        op_expect_close(got, want, n, 5e-6, what);
        free(got), free(want);
    }
    for (int32_t k = 0; k <= DT_RNN_IN_LENGTHS; k++) {
        if (m.din[k] < 0) continue;
        const int64_t n = dt_value_n_elem(&m.g->value[m.in[k]]);
        double largest = 0, *grad = check_alloc((size_t)n * sizeof *grad), *x = o.data[m.in[k]];
        memcpy(grad, o.data[m.din[k]], (size_t)n * sizeof *grad);
        for (int64_t e = 0; e < n; e++) largest = fmax(largest, fabs(grad[e]));
        for (int64_t e = 0; e < n; e += n / 24 + 1) {
            const double at = x[e], step = 1e-6;
            x[e] = at + step;
            const double up = scalar_of(&m, &o);
            x[e] = at - step;
            const double down = scalar_of(&m, &o), slope = (up - down) / (2 * step);
            x[e] = at;
            if (fabs(slope - grad[e]) > 1e-6 * largest + 1e-8)
                fail_msg("case %llu, input %d, element %lld: gradient %.12g, differences %.12g",
                         (unsigned long long)salt, k, (long long)e, grad[e], slope);
        }
        free(grad);
    }
    op_run_close(&r);
    oracle_close(&o);
    dt_graph_destroy(m.g);
}

static void test_generated(void **state) {
    (void)state;
    for (uint64_t salt = 1; salt <= 150; salt++) check_made(salt, false);
}

static void test_sequences_of_no_steps(void **state) {
    (void)state;
    for (uint64_t salt = 1; salt <= 30; salt++) check_made(salt, true);
}

/* ---- what a builder refuses ---- */

static void expect_build(dt_recurrent_kind kind, int32_t ndim, const int64_t *dim, const int64_t *h0,
                         const char *says) {
    dt_builder b = {0};
    op_ok(dt_graph_create(&b.g, DT_DTYPE_F32, true));
    dt_build_recurrent_inputs in = {.lengths = -1, .h0 = -1, .c0 = -1};
    in.x = add_input(b.g, "x", DT_DTYPE_F32, ndim, dim);
    if (h0) in.h0 = in.c0 = add_input(b.g, "h0", DT_DTYPE_F32, 2, h0);
    const dt_vid y =
        dt_build_recurrent(&b, "l", kind, &in, &(dt_recurrent_options){.hidden = 3, .layers = 2}, NULL);
    assert_true(y < 0);
    CHECK_ERROR(b.status, DT_ERR_CONFIG, "l", says);
    dt_graph_destroy(b.g);
}

static void test_refusals(void **state) {
    (void)state;
    expect_build(DT_LSTM, 2, (int64_t[]){2, 5}, NULL, "x, is 2x5 f32, not a sequence");
    expect_build(DT_LSTM, 3, (int64_t[]){2, 4, 5}, (int64_t[]){2, 3}, "expected 6 numbers a row");
    expect_build(DT_GRU, 3, (int64_t[]){2, 4, 5}, (int64_t[]){2, 6}, "only an LSTM has a cell state");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stacks),
        cmocka_unit_test(test_generated),
        cmocka_unit_test(test_sequences_of_no_steps),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
