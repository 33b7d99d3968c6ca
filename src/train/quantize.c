#include "train/quantize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "cpu/cpu.h"
#include "onnx/run.h"
#include "quant/quantize.h"
#include "samples.h"
#include "tensorflow/network.h"
#include "train/export.h"
#include "train/network_load.h"

enum { ROWS = 32 };
#define SLOWER 1.02 /* less is chance */

/* ---- the network ---- */

static int64_t constant_bytes(const dt_onnx_model *m) {
    int64_t n = 0;
    for (int32_t i = 0; i < m->graph.n_constant; i++) n += m->graph.constant[i].n_bytes;
    return n;
}

static int32_t word_of(const char *word, int32_t n, const char *const *names) {
    int32_t i = 0;
    while (i < n && strcmp(names[i], word) != 0) i++;
    return i;
}

/* ---- observing ---- */

static dt_status observe(dt_quant *q, dt_backend *be, dt_samples *s, const dt_sink *sink) {
    for (int64_t i = 0; i < dt_samples_batches(s); i++) {
        const dt_host_tensor *in;
        const int64_t *label;
        int64_t n_valid, n_label;
        DT_TRY(dt_samples_next(s, &in, &n_valid, &label, &n_label));
        DT_TRY(dt_quant_observe(q, be, in));
    }
    dt_tell(sink, DT_NEWS_LINE, "%s observed over %lld samples of %s",
            dt_count_text(dt_quant_get_info(q)->n_tensor, "tensor").s,
            (long long)dt_min_i64(dt_samples_count(s), dt_samples_batches(s) * dt_samples_rows(s)),
            dt_samples_name(s));
    return DT_OK;
}

/* ---- the report ---- */

/* Of the two networks. */
typedef struct side {
    const char *name;
    const dt_onnx_model *m;
    dt_onnx_run *run;
    dt_host_tensor *out;
    double *seconds; /* [batches] */
    double loss;
    int64_t n_right;
} side;

typedef struct comparison {
    side s[2];
    int64_t n_batch, n_label, n_row, n_agree; /* n_row: of predictions */
    double signal, noise;
} comparison;

static int32_t best_of(const float *x, int64_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static double loss_of(const float *x, int64_t n, int64_t label) {
    double most = (double)x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) most = fmax(most, (double)x[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return log(sum) - ((double)x[label] - most);
}

/* One batch's outputs, the first of each. */
static void compare(comparison *c, int64_t n_valid, int64_t rows, const int64_t *label, int64_t n_label) {
    const dt_host_tensor *a = &c->s[0].out[0], *b = &c->s[1].out[0];
    if (a->type != DT_TENSOR_F32 || b->type != DT_TENSOR_F32 || a->ndim == 0) return;
    const int64_t n = dt_host_n_elem(a) / dt_max_i64(rows, 1) * n_valid, classes = a->dim[a->ndim - 1];
    const float *x[2] = {a->data, b->data};
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)x[1][i] - (double)x[0][i];
        c->signal += (double)x[0][i] * (double)x[0][i];
        c->noise += d * d;
    }
    if (classes < 2) return;
    const int64_t n_row = n / classes;
    const bool labelled = label && n_row == n_valid * n_label;
    for (int64_t r = 0; r < n_row; r++) {
        int32_t best[2];
        for (int i = 0; i < 2; i++) best[i] = best_of(x[i] + r * classes, classes);
        c->n_row++;
        c->n_agree += best[0] == best[1];
        if (!labelled || label[r] < 0 || label[r] >= classes) continue;
        c->n_label++;
        for (int i = 0; i < 2; i++) {
            c->s[i].n_right += best[i] == label[r];
            c->s[i].loss += loss_of(x[i] + r * classes, classes, label[r]);
        }
    }
}

static dt_status run_batch(comparison *c, dt_backend *be, dt_samples *s, int64_t at) {
    const dt_host_tensor *in;
    const int64_t *label;
    int64_t n_valid, n_label;
    DT_TRY(dt_samples_next(s, &in, &n_valid, &label, &n_label));
    for (int i = 0; i < 2; i++) {
        side *x = &c->s[i];
        if (!x->run) DT_TRY(dt_onnx_run_create(be, x->m, in, NULL, &x->run));
        const double begin = dt_time_s();
        DT_TRY(dt_onnx_run_go(x->run, in, x->out));
        x->seconds[at] = dt_time_s() - begin;
    }
    if (c->s[0].m->graph.n_out > 0) compare(c, n_valid, dt_samples_rows(s), label, n_label);
    return DT_OK;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell_report(comparison *c, dt_samples *s, const dt_sink *sink) {
    double ms[2];
    for (int i = 0; i < 2; i++) {
        qsort(c->s[i].seconds, (size_t)c->n_batch, sizeof(double), by_size);
        ms[i] = 1e3 * c->s[i].seconds[c->n_batch / 2];
    }
    dt_tell(sink, DT_NEWS_LINE, "%s: %s, batches of %lld", dt_samples_name(s),
            dt_count_text(dt_samples_count(s), "sample").s, (long long)dt_samples_rows(s));
    dt_tell(sink, DT_NEWS_LINE, "%-14s %12s %12s", "", c->s[0].name, c->s[1].name);
    dt_tell(sink, DT_NEWS_LINE, "%-14s %12s %12s", "weights",
            dt_bytes_text((double)constant_bytes(c->s[0].m)).s,
            dt_bytes_text((double)constant_bytes(c->s[1].m)).s);
    dt_tell(sink, DT_NEWS_LINE, "%-14s %9.3f ms %9.3f ms", "time a batch", ms[0], ms[1]);
    if (c->n_label > 0) {
        const double n = (double)c->n_label;
        dt_tell(sink, DT_NEWS_LINE, "%-14s %10.2f %% %10.2f %%", "top-1", 100 * (double)c->s[0].n_right / n,
                100 * (double)c->s[1].n_right / n);
        dt_tell(sink, DT_NEWS_LINE, "%-14s %12.5f %12.5f", "loss", c->s[0].loss / n, c->s[1].loss / n);
    }
    if (c->n_row > 0)
        dt_tell(sink, DT_NEWS_LINE, "%-14s %12s %10.2f %%", "same top-1", "",
                100 * (double)c->n_agree / (double)c->n_row);
    if (c->noise > 0)
        dt_tell(sink, DT_NEWS_LINE, "%-14s %12s %9.1f dB", "signal/noise", "",
                10 * log10(c->signal / c->noise));
    if (ms[1] > SLOWER * ms[0])
        dt_tell(sink, DT_NEWS_WARNING, "%s is slower here than fp32: %.3f ms a batch instead of %.3f",
                c->s[1].name, ms[1], ms[0]);
}

static dt_status report(const dt_onnx_model *whole, const dt_onnx_model *small, const char *form,
                        dt_backend *be, dt_samples *s, const dt_sink *sink) {
    comparison c = {.s = {{.name = "fp32", .m = whole}, {.name = form, .m = small}},
                    .n_batch = dt_samples_batches(s)};
    dt_status st = DT_OK;
    for (int i = 0; i < 2; i++) {
        c.s[i].out = calloc((size_t)whole->graph.n_out + 1, sizeof *c.s[i].out);
        c.s[i].seconds = calloc((size_t)c.n_batch + 1, sizeof *c.s[i].seconds);
        if (!c.s[i].out || !c.s[i].seconds) st = dt_fail(DT_ERR_MEMORY, "no memory for a report");
    }
    for (int64_t i = 0; i < c.n_batch && st == DT_OK; i++) st = run_batch(&c, be, s, i);
    if (st == DT_OK) tell_report(&c, s, sink);
    for (int i = 0; i < 2; i++) {
        dt_onnx_run_destroy(c.s[i].run);
        free(c.s[i].out), free(c.s[i].seconds);
    }
    return st;
}

/* ---- all of it ---- */

typedef struct job {
    const dt_quantize_options *o;
    dt_onnx_model *whole, *small;
    dt_quant *q;
    dt_samples *seen, *val;
    dt_backend *be;
} job;

static dt_status open_samples(job *j) {
    const dt_quantize_options *o = j->o;
    if (dt_quant_needs_data(j->q)) {
        const dt_samples_options seen = {
            .model = j->whole, .data = o->data, .rows = ROWS, .most = o->samples};
        DT_TRY(dt_samples_open(&seen, &j->seen));
    }
    if (!o->report) return DT_OK;
    const dt_samples_options val = {
        .model = j->whole, .data = o->val, .labels = o->labels, .validation = true, .rows = ROWS};
    DT_TRY(dt_samples_open(&val, &j->val));
    if (j->seen && dt_samples_same(j->seen, j->val))
        return dt_fail(
            DT_ERR_USAGE,
            "%s would be both what the scales are chosen by and what the report is of, which would say "
            "nothing of other data: --data takes training data, --val what to compare on",
            dt_samples_name(j->val));
    return DT_OK;
}

static dt_status quantize(job *j, const dt_config *c, const dt_sink *sink) {
    const dt_quantize_options *o = j->o;
    const dt_quant_options qo = {
        .form = (dt_quant_form)word_of(o->form, DT_QUANT_FORMS, dt_quant_form_names),
        .method = (dt_range_method)word_of(o->method, DT_RANGE_METHODS, dt_range_method_names),
        .compensate = o->compensate,
        .keep = o->keep};
    if (qo.form == DT_QUANT_FORMS) return dt_fail(DT_ERR_USAGE, "no form is called \"%s\"", o->form);
    if (qo.method == DT_RANGE_METHODS) return dt_fail(DT_ERR_USAGE, "no method is called \"%s\"", o->method);
    if (qo.compensate && qo.form != DT_QUANT_INT4)
        return dt_fail(DT_ERR_USAGE, "--compensate is of --form int4");
    if (!dt_names_onnx(o->out)) return dt_fail(DT_ERR_USAGE, "%s: the name of a model ends in .onnx", o->out);
    const dt_backend_options be = {.local_world = 1, .threads = (int32_t)c->run.threads};
    DT_TRY(dt_network_load(o->in, o->config, &j->whole));
    DT_TRY(dt_quant_create(j->whole, &qo, &j->q));
    DT_TRY(open_samples(j));
    DT_TRY(dt_backend_cpu_create(&be, &j->be));
    if (j->seen) DT_TRY(observe(j->q, j->be, j->seen, sink));
    DT_TRY(dt_quant_finish(j->q, &j->small));
    DT_TRY(dt_onnx_write(j->small, o->out));
    const dt_quant_info *info = dt_quant_get_info(j->q);
    char between[96] = "";
    if (qo.form == DT_QUANT_INT4)
        snprintf(between, sizeof between, ", %d of them in 4 bits", (int)info->n_4_bits);
    if (info->n_between > 0)
        snprintf(between, sizeof between, ", and %s between them", dt_count_text(info->n_between, "node").s);
    dt_tell(sink, DT_NEWS_LINE, "%s: %s, %d of %s%s; weights %s instead of %s", o->out, o->form,
            (int)info->n_done, dt_count_text(info->n_node, "product").s, between,
            dt_bytes_text((double)constant_bytes(j->small)).s,
            dt_bytes_text((double)constant_bytes(j->whole)).s);
    return j->val ? report(j->whole, j->small, o->form, j->be, j->val, sink) : DT_OK;
}

dt_status dt_quantize(const dt_config *c, const dt_quantize_options *o, const dt_sink *sink) {
    job j = {.o = o};
    const dt_status st = quantize(&j, c, sink);
    dt_samples_close(j.seen), dt_samples_close(j.val);
    dt_onnx_model_free(j.small);
    dt_quant_destroy(j.q);
    dt_onnx_model_free(j.whole);
    if (j.be) j.be->destroy(j.be);
    return st;
}
