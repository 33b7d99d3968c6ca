/* `dtrain predict`: what to predict, and how the answers look. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/text.h"
#include "train/predict.h"
#include "verbs.h"

struct predict_verb;
typedef void print_fn(const struct predict_verb *v, const dt_prediction *p, FILE *out);

typedef struct predict_verb {
    print_fn *print;
    void (*head)(const dt_predict_form *form, FILE *out); /* NULL: none */
    dt_predict_form form;
    bool top_given;
    bool live;
    double drawn_s;
    int64_t n_done;
    bool drawn;
} predict_verb;

/* The name of a class, or its number where it has none. */
static const char *class_text(const dt_data_facts *f, int64_t index, char number[32]) {
    const char *name = dt_data_facts_class(f, index);
    if (name[0]) return name;
    snprintf(number, 32, "%lld", (long long)index);
    return number;
}

static const char *label_text(const dt_input *in, char number[32]) {
    if (in->label < 0) return "";
    if (in->label_name[0]) return in->label_name;
    snprintf(number, 32, "%lld", (long long)in->label);
    return number;
}

/* "y", or of several values "y_0", "y_1", ... */
static const char *value_name(const dt_predict_form *form, int64_t k, char name[96]) {
    if (form->n_value == 1)
        snprintf(name, 96, "%s", form->name);
    else
        snprintf(name, 96, "%s_%lld", form->name, (long long)k);
    return name;
}

/* One line whatever the name is. */
static void put_plain(const char *text, FILE *out) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            fprintf(out, "\\x%02x", (unsigned)(unsigned char)*text);
        else
            fputc(*text, out);
}

static void print_text(const predict_verb *v, const dt_prediction *p, FILE *out) {
    char number[32];
    put_plain(p->input.path, out);
    if (p->input.sample >= 0) fprintf(out, "[%lld]", (long long)p->input.sample);
    for (int32_t k = 0; k < p->n; k++) {
        fputs(k ? ", " : ": ", out);
        put_plain(class_text(p->facts, p->index[k], number), out);
        fprintf(out, " %.2f %%", 100 * p->probability[k]);
    }
    for (int64_t k = 0; k < p->n_value; k++) {
        char name[96];
        fprintf(out, "%s%s ", k ? ", " : ": ", value_name(&v->form, k, name));
        if (v->form.labels)
            fprintf(out, "%.2f %%", 100 * (double)p->value[k]);
        else
            fprintf(out, "%.9g", (double)p->value[k]);
    }
    if (p->input.label >= 0) {
        fputs(" (labelled ", out);
        put_plain(label_text(&p->input, number), out);
        fputc(')', out);
    }
    fputc('\n', out);
}

/* A JSON string; bytes that are not UTF-8 become the replacement character. */
static void put_json(const char *text, FILE *out) {
    fputc('"', out);
    while (*text) {
        const int n = dt_utf8_bytes(text);
        if (n == 0)
            fputs("\\ufffd", out);
        else if (n == 1 && (*text < 0x20 || *text == '"' || *text == '\\'))
            fprintf(out, "\\u%04x", (unsigned)*text);
        else
            fwrite(text, 1, (size_t)n, out);
        text += n ? n : 1;
    }
    fputc('"', out);
}

static void print_json(const predict_verb *v, const dt_prediction *p, FILE *out) {
    char number[32];
    fputs("{\"input\": ", out);
    put_json(p->input.path, out);
    if (p->input.sample >= 0) fprintf(out, ", \"sample\": %lld", (long long)p->input.sample);
    if (p->input.label >= 0) {
        fputs(", \"label\": ", out);
        put_json(label_text(&p->input, number), out);
    }
    if (!v->form.classes) {
        fprintf(out, ", \"%s\": [", v->form.labels ? "probabilities" : "values");
        for (int64_t k = 0; k < p->n_value; k++) fprintf(out, "%s%.9g", k ? ", " : "", (double)p->value[k]);
        fputs("]}\n", out);
        return;
    }
    fputs(", \"classes\": [", out);
    for (int32_t k = 0; k < p->n; k++) {
        fputs(k ? ", {\"class\": " : "{\"class\": ", out);
        put_json(class_text(p->facts, p->index[k], number), out);
        fprintf(out, ", \"index\": %d, \"probability\": %.6g}", p->index[k], p->probability[k]);
    }
    fputs("]}\n", out);
}

/* RFC 4180. */
static void put_csv(const char *text, FILE *out) {
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void head_csv(const dt_predict_form *form, FILE *out) {
    char name[96];
    if (form->classes) {
        fputs("input,sample,label,rank,class,index,probability\n", out);
        return;
    }
    fputs("input,sample", out);
    for (int64_t k = 0; k < form->n_value; k++) fprintf(out, ",%s", value_name(form, k, name));
    fputc('\n', out);
}

/* A line per class; a column per value. */
static void print_csv(const predict_verb *v, const dt_prediction *p, FILE *out) {
    char number[32];
    if (!v->form.classes) {
        put_csv(p->input.path, out);
        fputc(',', out);
        if (p->input.sample >= 0) fprintf(out, "%lld", (long long)p->input.sample);
        for (int64_t k = 0; k < p->n_value; k++) fprintf(out, ",%.9g", (double)p->value[k]);
        fputc('\n', out);
        return;
    }
    for (int32_t k = 0; k < p->n; k++) {
        put_csv(p->input.path, out);
        fputc(',', out);
        if (p->input.sample >= 0) fprintf(out, "%lld", (long long)p->input.sample);
        fputc(',', out);
        put_csv(label_text(&p->input, number), out);
        fprintf(out, ",%d,", k + 1);
        put_csv(class_text(p->facts, p->index[k], number), out);
        fprintf(out, ",%d,%.6g\n", p->index[k], p->probability[k]);
    }
}

static const struct {
    const char *name;
    void (*head)(const dt_predict_form *form, FILE *out);
    print_fn *print;
} format_table[] = {{"text", NULL, print_text}, {"jsonl", NULL, print_json}, {"csv", head_csv, print_csv}};

static void clear_progress(predict_verb *v) {
    if (v->drawn) fputs("\r\033[K", stderr);
    v->drawn = false;
}

/* The answers are what standard output is for. */
static void tell(void *arg, const dt_news *news) {
    if (!news->text) return;
    clear_progress(arg);
    fprintf(stderr, "dtrain: %s\n", news->text);
}

static dt_status begin(void *arg, const dt_predict_form *form) {
    predict_verb *v = arg;
    v->form = *form;
    if (v->top_given && !form->classes)
        return dt_fail(DT_ERR_USAGE, "--top is of classes, and this network tells none");
    if (v->head) v->head(form, stdout);
    return DT_OK;
}

static dt_status row(void *arg, const dt_prediction *p) {
    predict_verb *v = arg;
    v->n_done++;
    if (p->error) {
        clear_progress(v);
        fprintf(stderr, "dtrain: %s\n", p->error);
    } else {
        v->print(v, p, stdout);
    }
    if (ferror(stdout)) return dt_fail(DT_ERR_IO, "the output could not be written: %s", strerror(errno));
    if (v->live && dt_time_s() - v->drawn_s > 0.2) {
        v->drawn_s = dt_time_s();
        v->drawn = true;
        fprintf(stderr, "\rpredict: %lld\033[K", (long long)v->n_done);
    }
    return DT_OK;
}

/* section.key=value rather than the name of a file: ./section.key=value is one. */
static bool is_override(const char *argument) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_0123456789";
    const size_t section = strspn(argument, letters);
    if (section == 0 || argument[section] != '.') return false;
    const size_t key = strspn(argument + section + 1, letters);
    return key > 0 && argument[section + 1 + key] == '=';
}

typedef struct predict_args {
    dt_args config; /* CONFIG and overrides */
    char **argv;    /* of that */
    const char **input;
    int n_input;
} predict_args;

static dt_status parse(const dt_args *args, predict_args *a) {
    a->argv = calloc((size_t)args->argc + 1, sizeof *a->argv);
    a->input = calloc((size_t)args->argc + 1, sizeof *a->input);
    if (!a->argv || !a->input) return dt_fail(DT_ERR_MEMORY, "out of memory for the arguments");
    a->config = (dt_args){.verb = args->verb, .argv = a->argv};
    for (int i = 0; i < args->argc; i++)
        if (i < 2 || is_override(args->argv[i]))
            a->argv[a->config.argc++] = args->argv[i];
        else
            a->input[a->n_input++] = args->argv[i];
    if (a->n_input == 0)
        return dt_fail(DT_ERR_USAGE,
                       "predict needs inputs: dtrain predict CONFIG.toml FILE|FOLDER|DATASET...");
    return DT_OK;
}

static void choose_format(const char *name, predict_verb *v) {
    size_t i = 0;
    while (name && strcmp(name, format_table[i].name) != 0) i++; /* the parser knows them */
    v->print = format_table[i].print;
    v->head = format_table[i].head;
}

static dt_status predict(dt_app *app, const predict_args *a, int64_t top, const char *columns,
                         predict_verb *v) {
    dt_config c;
    dt_predict_result r;
    DT_TRY(dt_app_config_agreed(app, &a->config, &c));
    const dt_sink sink = {.tell = tell, .arg = v};
    const dt_predict_options o = {.n_input = a->n_input,
                                  .input = a->input,
                                  .columns = columns,
                                  .top = top,
                                  .begin = begin,
                                  .row = row,
                                  .arg = v,
                                  .sink = &sink};
    const dt_status st = dt_predict(&c, app->mpi, &o, &r);
    clear_progress(v);
    dt_config_fini(&c);
    return st;
}

dt_status dt_verb_predict(dt_app *app, const dt_args *args) {
    predict_verb v = {.live = app->mpi->rank == 0 && isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO)};
    predict_args a = {.n_input = 0};
    choose_format(dt_args_text(args, "format"), &v);
    v.top_given = dt_args_has(args, "top");
    dt_status st = dt_comm_agree(app->mpi, parse(args, &a));
    if (st == DT_OK) st = predict(app, &a, dt_args_number(args, "top"), dt_args_text(args, "x"), &v);
    free(a.argv);
    free(a.input);
    return st;
}
