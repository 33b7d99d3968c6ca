/* The timing mode of the op matrix: every case's kernel alone. For people; nothing here passes or fails. The
 * cases are small, so these figures show overheads and gross mistakes; `dtrain bench op` times the shapes of
 * a real network. */
#ifndef DT_TESTS_OP_TIME_H
#define DT_TESTS_OP_TIME_H

#include <stdio.h>

#include "op_cases.h"

enum { OP_TIME_SAMPLES = 9 };
#define OP_TIME_SAMPLE_S 2e-3

/* Seconds of one run: the median of samples that each repeat it for about OP_TIME_SAMPLE_S. */
static inline double op_time_run(op_run *r) {
    double sample[OP_TIME_SAMPLES];
    int64_t repeats = 1;
    for (;; repeats *= 2) {
        double t = dt_time_s();
        for (int64_t i = 0; i < repeats; i++) op_ok(r->kernel[0].run(r->kernel[0].ctx, NULL));
        op_ok(r->be->stream_sync(r->be, NULL));
        if (dt_time_s() - t > OP_TIME_SAMPLE_S || repeats > 1 << 20) break;
    }
    for (int s = 0; s < OP_TIME_SAMPLES; s++) {
        double t = dt_time_s();
        for (int64_t i = 0; i < repeats; i++) op_ok(r->kernel[0].run(r->kernel[0].ctx, NULL));
        op_ok(r->be->stream_sync(r->be, NULL));
        t = (dt_time_s() - t) / (double)repeats;
        int k = s;
        for (; k > 0 && sample[k - 1] > t; k--) sample[k] = sample[k - 1];
        sample[k] = t;
    }
    return sample[OP_TIME_SAMPLES / 2];
}

/* Prints a line per case on stdout. */
static inline void op_time_all(dt_backend *be, dt_dtype compute) {
    printf("%-40s %10s %10s %10s  kernel\n", "case", "us", "GB/s", "GFLOP/s");
    for (int i = 0; i < OP_CASE_COUNT; i++) {
        const op_case *c = &op_case_table[i];
        dt_graph *g = op_case_graph(c, compute);
        op_run r = op_run_open(be, g, &op_step, false);
        op_case_fill(c, &r);
        if (r.n_kernel > 0) {
            const dt_node *n = &g->node[0];
            double s = op_time_run(&r);
            printf("%-40.40s %10.2f %10.2f %10.2f  %s\n", c->name, 1e6 * s, dt_op_bytes(g, n) / s / 1e9,
                   dt_op_flops(g, n) / s / 1e9, r.kernel[0].label);
        }
        op_run_close(&r);
        dt_graph_destroy(g);
    }
}

#endif
