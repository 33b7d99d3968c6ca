/* Where the time of a model's run goes. */
#include <stdlib.h>

#include "core/text.h"
#include "private.h"

static int by_time(const void *a, const void *b) {
    const double x = ((const dt_onnx_kernel_time *)a)->seconds, y = ((const dt_onnx_kernel_time *)b)->seconds;
    return (x < y) - (x > y);
}

static void print(const dt_serve_model *m, const dt_onnx_run *run, double seconds, dt_onnx_kernel_time *row,
                  int32_t n, FILE *out) {
    const dt_onnx_run_info *info = dt_onnx_run_get_info(run);
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += row[i].seconds;
    fprintf(out, "%s at level %s: %.3f ms a run, %s, %s by itself %.3f ms\n", m->info.name,
            dt_level_names[m->info.level], 1e3 * seconds, dt_bytes_text((double)info->device_bytes).s,
            dt_count_text(n, "kernel").s, 1e3 * sum);
    if (info->by_definition) {
        fprintf(out, "evaluated node by node: shapes follow from what is computed\n");
        return;
    }
    qsort(row, (size_t)n, sizeof *row, by_time);
    fprintf(out, "\n%10s %6s  %-48s %s\n", "us", "%", "kernel", "makes");
    for (int32_t i = 0; i < n; i++)
        fprintf(out, "%10.1f %6.1f  %-48s %s\n", 1e6 * row[i].seconds,
                sum > 0 ? 100 * row[i].seconds / sum : 0, row[i].label, row[i].name);
}

/* A program of its own: that of the requests may be theirs at any time. */
static dt_status measure(dt_serve_model *m, const dt_host_tensor *in, dt_host_tensor *result, int64_t runs,
                         FILE *out) {
    const dt_onnx_run_options o = {.plain = m->info.level == DT_LEVEL_NONE,
                                   .by_row = m->info.level <= DT_LEVEL_BASIC,
                                   .compute = m->compute};
    dt_onnx_run *run;
    dt_onnx_kernel_time *row = NULL;
    int32_t n = 0;
    DT_TRY(dt_onnx_run_create(m->engine->options.be, m->m, in, &o, &run));
    dt_status st = dt_onnx_run_go(run, in, result);
    const double begin = dt_time_s();
    for (int64_t i = 0; i < runs && st == DT_OK; i++) st = dt_onnx_run_go(run, in, result);
    const double seconds = (dt_time_s() - begin) / (double)runs;
    if (st == DT_OK) st = dt_onnx_run_profile(run, runs, &row, &n);
    if (st == DT_OK) print(m, run, seconds, row, n, out);
    free(row);
    dt_onnx_run_destroy(run);
    return st;
}

dt_status dt_serve_model_profile(dt_serve_model *m, const dt_host_tensor *in, int64_t runs, FILE *out) {
    enum { RUNS_MAX = 10000 };
    if (runs < 1 || runs > RUNS_MAX)
        return dt_fail(DT_ERR_USAGE, "%lld runs: a profile takes 1 to %d", (long long)runs, RUNS_MAX);
    dt_serve_request *as; /* what is before the network is no part of its profile */
    DT_TRY(dt_serve_request_make(m, in, &as));
    dt_host_tensor *result = calloc((size_t)m->info.n_out + 1, sizeof *result);
    if (!result) {
        dt_serve_request_unmake(as);
        return dt_fail(DT_ERR_MEMORY, "no memory for results");
    }
    dt_turns_take(&m->engine->device);
    const dt_status st = measure(m, as->in, result, runs, out);
    dt_turns_give(&m->engine->device);
    free(result);
    dt_serve_request_unmake(as);
    return st;
}
