/* Verdicts of all samples, and the tables made of them. */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/dir.h"
#include "train/predict.h"

enum { GATHER_SAMPLES = 1 << 16, SHOWN_MAX = 30 };

/* Of one class. */
typedef struct tally {
    int64_t class, n_sample, n_right, n_predicted;
} tally;

typedef struct writer {
    const dt_report *r;
    const dt_dataset *d;
    const char *(*name)(const void *of, int64_t i);
    const void *of;
    tally *tally;          /* [n_class] */
    const dt_verdict **at; /* [n_sample], to be sorted */
} writer;

static int32_t label_at(const dt_field *f, const void *rows, int64_t i) {
    return f->dtype == DT_DTYPE_I64  ? (int32_t)((const int64_t *)rows)[i]
           : f->dtype == DT_DTYPE_U8 ? ((const uint8_t *)rows)[i]
                                     : ((const int32_t *)rows)[i];
}

static dt_status take_batch(void *arg, dt_session *s, int64_t batch, const dt_batch *b) {
    dt_report *r = arg;
    const dt_field *field = dt_session_target(s->config, b->n_field, b->field);
    const float *logit;
    int64_t n;
    if (!field || field->ndim > 0 ||
        (field->dtype != DT_DTYPE_U8 && field->dtype != DT_DTYPE_I32 && field->dtype != DT_DTYPE_I64))
        return dt_fail(DT_ERR_DATA,
                       "a report tells classes, and the data has no field of whole numbers for them");
    const void *label = dt_batch_field(b, field->name);
    DT_TRY(dt_engine_output(s->engine, "logits", &n, &logit));
    for (int64_t i = 0; i < b->n_valid; i++) {
        const int64_t sample = (batch * b->rows + i) * s->mpi->world + s->mpi->rank; /* data/loader.h */
        dt_verdict *v = &r->verdict[sample];
        double probability = 0;
        v->label = label_at(field, label, i);
        /* What is not finite makes the evaluation's loss so, which is an error of its own. */
        if (!dt_predict_top(logit + i * r->n_class, r->n_class, 1, &v->predicted, &probability))
            v->predicted = -1;
        v->probability = (float)probability;
    }
    return DT_OK;
}

dt_status dt_report_place(const char *dir) {
    DT_TRY(dt_dir_create(dir));
    return access(dir, W_OK) == 0 ? DT_OK
                                  : dt_fail(DT_ERR_IO, "%s: cannot be written: %s", dir, strerror(errno));
}

dt_status dt_report_begin(dt_session *s, dt_report *r) {
    const dt_program *p = dt_engine_program(s->engine, true);
    const dt_value *logits = &p->graph->value[dt_graph_output(p->graph, "logits")];
    dt_dataset_info info;
    dt_dataset_info_get(s->val_data, &info);
    *r = (dt_report){.n_sample = info.n_samples, .n_class = logits->dim[logits->ndim - 1]};
    r->verdict = malloc((size_t)r->n_sample * sizeof *r->verdict);
    if (!r->verdict)
        return dt_fail(DT_ERR_MEMORY, "no memory for the verdicts of %lld samples", (long long)r->n_sample);
    for (int64_t i = 0; i < r->n_sample; i++) r->verdict[i] = (dt_verdict){-1, -1, 0};
    s->on_batch = take_batch;
    s->on_batch_arg = r;
    return DT_OK;
}

void dt_report_free(dt_report *r) {
    free(r->verdict);
    *r = (dt_report){0};
}

/* Each sample was seen by one rank: sums of numbers that are 0 elsewhere. */
dt_status dt_report_gather(dt_session *s, dt_report *r) {
    double *v = malloc(3 * GATHER_SAMPLES * sizeof *v);
    const dt_status st = v ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory to gather the verdicts");
    dt_status all = dt_comm_agree(s->mpi, st);
    for (int64_t at = 0; at < r->n_sample && all == DT_OK; at += GATHER_SAMPLES) {
        const int64_t n = dt_min_i64(GATHER_SAMPLES, r->n_sample - at);
        dt_watchdog_beat(s->watchdog, 0, "gathering verdicts");
        for (int64_t i = 0; i < n; i++) {
            const dt_verdict *d = &r->verdict[at + i];
            v[3 * i] = d->label + 1;
            v[3 * i + 1] = d->predicted + 1;
            v[3 * i + 2] = (double)d->probability;
        }
        all = dt_comm_sum_host(s->mpi, v, (int32_t)(3 * n));
        for (int64_t i = 0; i < n; i++)
            r->verdict[at + i] =
                (dt_verdict){(int32_t)v[3 * i] - 1, (int32_t)v[3 * i + 1] - 1, (float)v[3 * i + 2]};
    }
    free(v);
    return all;
}

/* ---- tables ---- */

static void put_name(const writer *w, int64_t class, FILE *out) {
    const char *text = w->name(w->of, class);
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, out);
        return;
    }
    fputc('"', out); /* RFC 4180 */
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void write_classes(writer *w, FILE *out) {
    fputs("class,name,samples,right,accuracy,predicted\n", out);
    for (int64_t c = 0; c < w->r->n_class; c++) {
        const tally *t = &w->tally[c];
        fprintf(out, "%lld,", (long long)c);
        put_name(w, c, out);
        fprintf(out, ",%lld,%lld,", (long long)t->n_sample, (long long)t->n_right);
        if (t->n_sample > 0) fprintf(out, "%.6g", (double)t->n_right / (double)t->n_sample);
        fprintf(out, ",%lld\n", (long long)t->n_predicted);
    }
}

static int by_pair(const void *a, const void *b) {
    const dt_verdict *x = *(const dt_verdict *const *)a, *y = *(const dt_verdict *const *)b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return (x->predicted > y->predicted) - (x->predicted < y->predicted);
}

static void write_confusion(writer *w, FILE *out) {
    const int64_t n = w->r->n_sample;
    fputs("label,label_name,predicted,predicted_name,samples\n", out);
    qsort(w->at, (size_t)n, sizeof *w->at, by_pair);
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && by_pair(&w->at[i], &w->at[end]) == 0;) end++;
        fprintf(out, "%d,", w->at[i]->label);
        put_name(w, w->at[i]->label, out);
        fprintf(out, ",%d,", w->at[i]->predicted);
        put_name(w, w->at[i]->predicted, out);
        fprintf(out, ",%lld\n", (long long)(end - i));
    }
}

/* Mistakes first, the surest first of all; then by sample. */
static int by_surety(const void *a, const void *b) {
    const dt_verdict *x = *(const dt_verdict *const *)a, *y = *(const dt_verdict *const *)b;
    const bool wrong_x = x->label != x->predicted, wrong_y = y->label != y->predicted;
    if (wrong_x != wrong_y) return wrong_x ? -1 : 1;
    if (x->probability != y->probability) return x->probability > y->probability ? -1 : 1;
    return (x > y) - (x < y);
}

static void write_mistakes(writer *w, FILE *out) {
    const dt_report *r = w->r;
    fputs("sample,shard,row,label,label_name,predicted,predicted_name,probability\n", out);
    qsort(w->at, (size_t)r->n_sample, sizeof *w->at, by_surety);
    for (int64_t i = 0; i < dt_min_i64(r->n_sample, DT_MISTAKES_MAX); i++) {
        const dt_verdict *v = w->at[i];
        const char *file;
        int64_t row;
        if (v->label == v->predicted) break;
        dt_dataset_place(w->d, v - r->verdict, &file, &row);
        const char *slash = strrchr(file, '/');
        fprintf(out, "%lld,%s,%lld,%d,", (long long)(v - r->verdict), slash ? slash + 1 : file,
                (long long)row, v->label);
        put_name(w, v->label, out);
        fprintf(out, ",%d,", v->predicted);
        put_name(w, v->predicted, out);
        fprintf(out, ",%.4f\n", (double)v->probability);
    }
}

/* ---- the picture ---- */

static int64_t mistakes_of(const tally *t) {
    return t->n_sample - t->n_right + t->n_predicted - t->n_right;
}

static int by_mistakes(const void *a, const void *b) {
    const int64_t x = mistakes_of(a), y = mistakes_of(b);
    if (x != y) return x > y ? -1 : 1;
    return ((const tally *)a)->class < ((const tally *)b)->class ? -1 : 1;
}

static int ascending(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t place_of(const int64_t *shown, int64_t n, int64_t class) {
    const int64_t *at = bsearch(&class, shown, (size_t)n, sizeof *shown, ascending);
    return at ? at - shown : -1;
}

/* All classes, or those with most mistakes, as label or as answer, in their own order. Sorts the tallies. */
static void write_svg(writer *w, FILE *out) {
    int64_t shown[SHOWN_MAX], count[SHOWN_MAX * SHOWN_MAX] = {0}, n = dt_min_i64(w->r->n_class, SHOWN_MAX);
    qsort(w->tally, (size_t)w->r->n_class, sizeof *w->tally, by_mistakes);
    while (w->r->n_class > SHOWN_MAX && n > 1 && mistakes_of(&w->tally[n - 1]) == 0) n--;
    for (int64_t i = 0; i < n; i++) shown[i] = w->tally[i].class;
    qsort(shown, (size_t)n, sizeof *shown, ascending);
    for (int64_t i = 0; i < w->r->n_sample; i++) {
        const dt_verdict *v = &w->r->verdict[i];
        const int64_t y = place_of(shown, n, v->label), x = place_of(shown, n, v->predicted);
        if (x >= 0 && y >= 0) count[y * n + x]++;
    }
    dt_report_draw(out, n, shown, count, w->r->n_class, w->name, w->of);
}

static const struct {
    const char *file;
    void (*write)(writer *w, FILE *out);
} file_table[] = {{"classes.csv", write_classes},
                  {"confusion.csv", write_confusion},
                  {"mistakes.csv", write_mistakes},
                  {"confusion.svg", write_svg}}; /* the last: it sorts the tallies */

/* A file is there whole or not at all. */
static dt_status write_file(writer *w, const char *dir, const char *file,
                            void (*write)(writer *w, FILE *out)) {
    char path[4096], temporary[sizeof path + 8];
    if (snprintf(path, sizeof path, "%s/%s", dir, file) >= (int)sizeof path)
        return dt_fail(DT_ERR_IO, "%.60s...: path too long", dir);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE *out = fopen(temporary, "we");
    if (!out)
        return dt_fail(DT_ERR_IO, "%s: cannot be written: %s", temporary,
                       dt_create_error(temporary, errno).s);
    write(w, out);
    bool written = !ferror(out);
    if (fclose(out) != 0) written = false;
    if (written && rename(temporary, path) == 0) return DT_OK;
    const dt_status st = dt_fail(DT_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    unlink(temporary);
    return st;
}

static void count_classes(writer *w) {
    for (int64_t c = 0; c < w->r->n_class; c++) w->tally[c].class = c;
    for (int64_t i = 0; i < w->r->n_sample; i++) {
        const dt_verdict *v = &w->r->verdict[i];
        w->at[i] = v;
        w->tally[v->label].n_sample++;
        w->tally[v->predicted].n_predicted++;
        w->tally[v->label].n_right += v->label == v->predicted;
    }
}

dt_status dt_report_write(const dt_report *r, const dt_dataset *d,
                          const char *(*name)(const void *of, int64_t i), const void *of, const char *dir) {
    writer w = {.r = r, .d = d, .name = name, .of = of};
    for (int64_t i = 0; i < r->n_sample; i++) {
        const dt_verdict *v = &r->verdict[i];
        if (v->label < 0 && v->predicted >= 0)
            return dt_fail(
                DT_ERR_DATA,
                "sample %lld of data.val has no label (%d): a report is of sets whose samples all have one",
                (long long)i, v->label);
        if (v->label < 0 || v->label >= r->n_class)
            return dt_fail(DT_ERR_INTERNAL, "the report has no verdict of sample %lld", (long long)i);
        if (v->predicted < 0)
            return dt_fail(DT_ERR_NONFINITE, "an output of the network for sample %lld is not finite",
                           (long long)i);
    }
    w.tally = calloc((size_t)r->n_class, sizeof *w.tally);
    w.at = malloc((size_t)r->n_sample * sizeof *w.at);
    dt_status st = w.tally && w.at ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for the report");
    if (st == DT_OK) count_classes(&w);
    for (size_t i = 0; i < sizeof file_table / sizeof file_table[0] && st == DT_OK; i++)
        st = write_file(&w, dir, file_table[i].file, file_table[i].write);
    free(w.tally);
    free(w.at);
    return st;
}
