/* What each level makes of a network: its passes, its time beside the others', and its distance from level none. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "private.h"

enum { LEVELS = DT_LEVEL_EXTREME - DT_LEVEL_NONE + 1 };

/* A level's program. */
typedef struct entry {
    dt_level level;
    dt_dtype compute;
    bool same; /* as the level before */
    dt_onnx_run *run;
    char *told;
    size_t n_told;
    double error, *seconds; /* [runs] */
} entry;

static dt_status make(dt_serve_model *m, const dt_host_tensor *in, entry *e) {
    FILE *tell = open_memstream(&e->told, &e->n_told);
    if (!tell) return dt_fail(DT_ERR_MEMORY, "no memory for a text");
    const dt_onnx_run_options o = {.plain = e->level == DT_LEVEL_NONE,
                                   .by_row = e->level <= DT_LEVEL_BASIC,
                                   .compute = e->compute,
                                   .tell = tell};
    const dt_status st = dt_onnx_run_create(m->engine->options.be, m->m, in, &o, &e->run);
    if (fclose(tell) != 0 && st == DT_OK) return dt_fail(DT_ERR_MEMORY, "no memory for a text");
    return st;
}

/* All outputs as numbers, one behind the other; the caller's. */
static dt_status numbers(const dt_serve_model *m, const dt_host_tensor *y, double **out, int64_t *n) {
    *n = 0;
    for (int32_t i = 0; i < m->info.n_out; i++) *n += dt_host_n_elem(&y[i]);
    double *at = *out = malloc((size_t)(*n + 1) * sizeof *at);
    if (!at) return dt_fail(DT_ERR_MEMORY, "no memory for results");
    for (int32_t i = 0; i < m->info.n_out; i++)
        for (int64_t k = 0; k < dt_host_n_elem(&y[i]); k++) *at++ = dt_host_f64(&y[i], k);
    return DT_OK;
}

/* Each level once, with its error, then all in turn. */
static dt_status measure(dt_serve_model *m, const dt_host_tensor *in, int64_t runs, entry *e,
                         dt_host_tensor *y) {
    double *exact = NULL, *fast = NULL;
    int64_t n, n_fast;
    dt_status st = DT_OK;
    for (int k = 0; k < LEVELS && st == DT_OK; k++) {
        if (e[k].same) continue;
        st = make(m, in, &e[k]);
        if (st == DT_OK) st = dt_onnx_run_go(e[k].run, in, y);
        if (st == DT_OK) st = numbers(m, y, k == 0 ? &exact : &fast, k == 0 ? &n : &n_fast);
        if (st == DT_OK && k > 0) e[k].error = n == n_fast ? dt_serve_difference(fast, exact, n) : INFINITY;
        free(fast);
        fast = NULL;
        if (st != DT_OK) dt_error_context("level %s", dt_level_names[e[k].level]);
    }
    free(exact);
    for (int64_t r = 0; r < runs && st == DT_OK; r++)
        for (int k = 0; k < LEVELS && st == DT_OK; k++) {
            if (e[k].same) continue;
            const double begin = dt_time_s();
            st = dt_onnx_run_go(e[k].run, in, y);
            e[k].seconds[r] = dt_time_s() - begin;
        }
    return st;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int64_t n) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

static void print(const dt_serve_model *m, int64_t rows, int64_t runs, entry *e, FILE *out) {
    for (int k = 0; k < LEVELS; k++) {
        if (e[k].same) continue;
        fprintf(out, "level %s\n%s\n", dt_level_names[e[k].level], e[k].told);
    }
    fprintf(out, "%s, %s, %s in turn, medians\n", m->info.name, dt_count_text(rows, "row").s,
            dt_count_text(runs, "run").s);
    fprintf(out, "%-12s %10s %8s %10s %10s\n", "level", "ms", "times", "error", "memory");
    const double none = median(e[0].seconds, runs);
    for (int k = 0; k < LEVELS; k++) {
        if (e[k].same) {
            fprintf(out, "%-12s as %s: this device computes in no other type for it\n",
                    dt_level_names[e[k].level], dt_level_names[e[k].level - 1]);
            continue;
        }
        const double s = median(e[k].seconds, runs);
        fprintf(out, "%-12s %10.3f %8.2f %10.1e %10s\n", dt_level_names[e[k].level], 1e3 * s, none / s,
                e[k].error, dt_bytes_text((double)dt_onnx_run_get_info(e[k].run)->device_bytes).s);
    }
}

static dt_status compare(dt_serve_model *m, const dt_host_tensor *in, int64_t rows, int64_t runs, FILE *out) {
    dt_backend *be = m->engine->options.be;
    entry e[LEVELS] = {{.level = DT_LEVEL_NONE}};
    dt_host_tensor *y = calloc((size_t)m->info.n_out + 1, sizeof *y);
    dt_status st = y ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for results");
    for (int k = 0; k < LEVELS; k++) {
        e[k].level = (dt_level)(DT_LEVEL_NONE + k);
        const bool half = e[k].level >= DT_LEVEL_AGGRESSIVE && be->supports(be, DT_DTYPE_F16);
        e[k].compute = half ? DT_DTYPE_F16 : DT_DTYPE_F32;
        e[k].same = e[k].level >= DT_LEVEL_AGGRESSIVE && e[k].compute == e[k - 1].compute;
        e[k].seconds = calloc((size_t)runs, sizeof *e[k].seconds);
        if (!e[k].seconds && st == DT_OK) st = dt_fail(DT_ERR_MEMORY, "no memory for times");
    }
    if (st == DT_OK) st = measure(m, in, runs, e, y);
    if (st == DT_OK) print(m, rows, runs, e, out);
    for (int k = 0; k < LEVELS; k++) {
        dt_onnx_run_destroy(e[k].run);
        free(e[k].told), free(e[k].seconds);
    }
    free(y);
    return st;
}

dt_status dt_serve_model_optimize(dt_serve_model *m, int64_t rows, int64_t runs, bool profile, FILE *out) {
    if (!dt_serve_all_known(m))
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "%s leaves sizes open besides the rows: nobody knows with what to measure it",
                       m->info.name);
    if (rows < 1 || rows > m->info.max_batch || runs < 1)
        return dt_fail(DT_ERR_USAGE, "%lld rows: 1 to %lld, and one run at least", (long long)rows,
                       (long long)m->info.max_batch);
    dt_host_tensor *in;
    DT_TRY(dt_serve_draw(m, rows, &in));
    dt_turns_take(&m->engine->device);
    dt_status st = compare(m, in, rows, runs, out);
    dt_turns_give(&m->engine->device);
    if (st == DT_OK && profile) {
        fputc('\n', out);
        st = dt_serve_model_profile(m, in, runs, out);
    }
    dt_serve_drop_inputs(m, in);
    return st;
}
