/* Attention where libraries have gone wrong: every key far against every query, so that the log of a row's sum is
 * below what e^x can hold the inverse of, at lengths around whole tiles. Random rows never show it. For any backend;
 * on one that captures, the replay too. Against the oracle in double. */
#ifndef DT_TEST_ATTENTION_ROWS_H
#define DT_TEST_ATTENTION_ROWS_H

#include <stdio.h>

#include "graph_oracle.h"
#include "op_cases.h"

enum { AGAINST_HEADS = 2, AGAINST_D = 24 };
/* A score of -121 is known to 8e-6 in fp32, and so is its weight by its share; three of these. */
#define AGAINST_TOLERANCE 2.4e-5
/* The first number of dq is -11 times a sum that is 0 but for the roundings of y and of the scores' gradients: in f16 they
 * leave 1.1e-3 of dq's norm in the median of 200 draws, and up to 4.5e-3. */
#define AGAINST_DQ_16 4

typedef struct against {
    dt_graph *g;
    dt_vid in[4]; /* q, k, v, dout */
} against;

static inline against against_graph(dt_dtype t, int64_t queries, int64_t keys) {
    static const char *const name[] = {"q", "k", "v", "dout"};
    const dt_attr attr = {.attention = {.heads = AGAINST_HEADS, .kv_heads = AGAINST_HEADS, .scale = 1}};
    against a = {0};
    dt_vid y, din[DT_SLOTS_IN_MAX], dout[DT_SLOTS_OUT_MAX] = {-1, -1, -1, -1, -1};
    const bool want[DT_SLOTS_IN_MAX] = {true, true, true};
    op_ok(dt_graph_create(&a.g, t, true));
    for (int i = 0; i < 4; i++) {
        const int64_t rows = i == 1 || i == 2 ? keys : queries;
        op_ok(dt_graph_add_value(a.g, name[i], DT_ROLE_INPUT, t, 3,
                                 (int64_t[]){1, rows, AGAINST_HEADS * AGAINST_D}, &a.in[i]));
    }
    op_ok(dt_graph_add_node(a.g, "y", DT_OP_ATTENTION, &attr, 3, a.in, &y));
    dout[0] = a.in[3];
    op_ok(dt_op_get(DT_OP_ATTENTION)->grad(a.g, 0, dout, want, din));
    return a;
}

/* The first number of every head is 11 in q and -11 in k: a score of -121 before the others. */
static inline void against_fill(op_run *r, const against *a) {
    for (int i = 0; i < 4; i++) {
        const int64_t n = dt_value_n_elem(&a->g->value[a->in[i]]);
        float *x = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) {
            x[e] = 3 * op_uniform((uint64_t)i + 1, e) - 1.5f;
            if (i < 2 && e % AGAINST_D == 0) x[e] = i == 0 ? 11 : -11;
        }
        op_write(r, a->in[i], x);
        free(x);
    }
}

static inline dt_status against_enqueue(void *arg) {
    op_run *r = arg;
    for (int32_t i = 0; i < r->n_kernel; i++) DT_TRY(r->kernel[i].run(r->kernel[i].ctx, NULL));
    return DT_OK;
}

static inline void against_compare(op_run *r, const oracle *o, double tolerance, const char *what) {
    for (dt_vid v = 0; v < r->g->n_value; v++) {
        if (op_is_input(r, v)) continue;
        const int64_t n = dt_value_n_elem(&r->g->value[v]);
        float *got = op_read(r, v), *want = op_zalloc(n * 4);
        for (int64_t e = 0; e < n; e++) {
            want[e] = (float)o->data[v][e];
            if (strcmp(r->g->value[v].name, "y:1") == 0) assert_true(want[e] < -88.8f);
        }
        char text[160];
        snprintf(text, sizeof text, "%s, %s", what, r->g->value[v].name);
        const bool dq16 = op_is_16(r->g->compute) && strcmp(r->g->value[v].name, "grad/q") == 0;
        op_expect_close(got, want, n, tolerance * (dq16 ? AGAINST_DQ_16 : 1), text);
        free(got), free(want);
    }
}

static inline void attention_check_rows(dt_backend *be, dt_dtype t, double tolerance) {
    static const int64_t lengths[] = {64, 192, 197, 1000, 1024};
    for (size_t i = 0; i < 2 * sizeof lengths / sizeof lengths[0]; i++) {
        const int64_t keys = lengths[i / 2], queries = i % 2 ? 1 : keys;
        char what[96];
        snprintf(what, sizeof what, "%lld queries against %lld keys, %s", (long long)queries, (long long)keys,
                 dt_dtype_name(t));
        const against a = against_graph(t, queries, keys);
        op_run r = op_run_open(be, a.g, &op_step, false);
        against_fill(&r, &a);
        oracle o = oracle_open(a.g, &op_step);
        for (int k = 0; k < 4; k++) {
            float *x = op_read(&r, a.in[k]);
            for (int64_t e = 0; e < dt_value_n_elem(&a.g->value[a.in[k]]); e++)
                o.data[a.in[k]][e] = (double)x[e];
            free(x);
        }
        oracle_run(&o, a.g->n_node);
        op_run_go(&r);
        op_check_bounds(&r);
        against_compare(&r, &o, tolerance, what);
        if (be->capture) {
            dt_capture *captured = NULL;
            for (dt_vid v = 0; v < a.g->n_value; v++)
                if (!op_is_input(&r, v)) op_fill_device(be, r.value[v].data, OP_POISON, r.value[v].bytes);
            op_ok(be->capture(be, against_enqueue, &r, &captured));
            op_ok(be->replay(be, captured, NULL));
            op_ok(be->stream_sync(be, NULL));
            op_check_bounds(&r);
            against_compare(&r, &o, tolerance, what);
            be->capture_free(be, captured);
        }
        oracle_close(&o);
        op_run_close(&r);
        dt_graph_destroy(a.g);
    }
}

#endif
