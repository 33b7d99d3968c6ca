/* The table of tasks, their metrics, and the head that a task puts on a network. */
#include "model/task.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/key_rows.h"
#include "core/text.h"

/* ---- metrics: of the task's sums, in the order in which its losses add them (core/step.h, core/loss.h) ---- */

static double first_share(const dt_metric_facts *f) {
    return f->sum[0] / f->rows;
}

static double second_share(const dt_metric_facts *f) {
    return f->sum[1] / f->rows;
}

static double fourth_share(const dt_metric_facts *f) {
    return f->sum[3] / f->rows;
}

static double root(const dt_metric_facts *f) {
    return sqrt(f->sum[0] / f->rows);
}

/* 1 - sum (x - t)^2 / sum (t - mean t)^2, over all numbers at once. */
static double explained(const dt_metric_facts *f) {
    const double spread = f->sum[3] - f->sum[2] * f->sum[2] / f->rows;
    return spread > 0 ? 1 - f->sum[0] / spread : NAN;
}

/* 2 both / (2 both + one of them alone), over all labels at once. */
static double f1(const dt_metric_facts *f) {
    return 2 * f->sum[1] / (2 * f->sum[1] + f->sum[2]);
}

static double perplexity(const dt_metric_facts *f) {
    return exp(f->loss);
}

/* What the text would be packed into, of each of its bytes. */
static double bits_a_byte(const dt_metric_facts *f) {
    return f->more.bytes_a_row > 0 ? f->loss / log(2) / f->more.bytes_a_row : NAN;
}

static double average_precision(const dt_metric_facts *f) {
    return f->more.average_precision;
}

#define CLASSIFY(M)                                                                                          \
    M("top1", "top-1", "accuracy", "acc", true, true, first_share, DT_NEED_SUMS)                             \
    M("top5", "top-5", NULL, NULL, true, true, second_share, DT_NEED_SUMS)
#define MULTILABEL(M)                                                                                        \
    M("accuracy", "label accuracy", "accuracy", "acc", true, true, first_share, DT_NEED_SUMS)                \
    M("f1", "F1", NULL, NULL, true, true, f1, DT_NEED_SUMS)                                                  \
    M("exact", "all labels right", NULL, NULL, true, true, fourth_share, DT_NEED_SUMS)                       \
    M("map", "mAP", NULL, NULL, true, true, average_precision, DT_NEED_SCORES)
#define REGRESS(M)                                                                                           \
    M("rmse", "RMSE", "RMSE", "rmse", false, false, root, DT_NEED_SUMS)                                      \
    M("mae", "MAE", NULL, NULL, false, false, second_share, DT_NEED_SUMS)                                    \
    M("r2", "R2", NULL, NULL, false, true, explained, DT_NEED_SUMS)
#define LANGUAGE(M)                                                                                          \
    M("perplexity", "perplexity", "perplexity", "ppl", false, false, perplexity, DT_NEED_SUMS)               \
    M("bits_per_byte", "bits per byte", NULL, NULL, false, false, bits_a_byte, DT_NEED_BYTES)                \
    M("token_accuracy", "accuracy", "accuracy", "acc", true, true, first_share, DT_NEED_SUMS)

#define METRIC_ROW(...)          {__VA_ARGS__},
#define METRIC_CHOICE(name, ...) "eval_" name,
static const dt_metric_row classify_metrics[] = {CLASSIFY(METRIC_ROW)};
static const dt_metric_row multilabel_metrics[] = {MULTILABEL(METRIC_ROW)};
static const dt_metric_row regress_metrics[] = {REGRESS(METRIC_ROW)};
static const dt_metric_row language_metrics[] = {LANGUAGE(METRIC_ROW)};
/* Of the same names: a text is not packed by what is hidden in it. */
static const dt_metric_row masked_metrics[] = {
    METRIC_ROW("perplexity", "perplexity", "perplexity", "ppl", false, false, perplexity, false)
        METRIC_ROW("token_accuracy", "accuracy", "accuracy", "acc", true, true, first_share, false)};
const char *const dt_metric_choices[] = {CLASSIFY(METRIC_CHOICE) "eval_loss",
                                         MULTILABEL(METRIC_CHOICE) REGRESS(METRIC_CHOICE)
                                             LANGUAGE(METRIC_CHOICE) NULL};

#define METRICS(table) .n_metric = (int32_t)(sizeof table / sizeof table[0]), .metric = table

#define TASKS(T)                                                                                             \
    T(classify, .help = "one class of several", .loss = {"cross_entropy", "bce"}, .output = "logits",        \
      .classes = true, METRICS(classify_metrics))                                                            \
    T(multilabel, .help = "any number of labels, each 0 or 1 in the target", .loss = {"bce"},                \
      .sums = DT_LOSS_SUMS_LABELS, .output = "logits", METRICS(multilabel_metrics))                          \
    T(regress, .help = "numbers", .loss = {"mse", "l1", "huber"}, .sums = DT_LOSS_SUMS_REGRESS,              \
      .output = "output", METRICS(regress_metrics))                                                          \
    T(minimize, .help = "the network's own result is its loss", .loss = {"value"}, .output = "output")       \
    T(language, .help = "the next token of each place in a text", .loss = {"cross_entropy"},                 \
      .output = "logits", .tokens = true, METRICS(language_metrics))                                         \
    T(masked_language, .help = "the tokens that are hidden in a text", .loss = {"cross_entropy"},            \
      .output = "logits", .tokens = true, .masked = true, METRICS(masked_metrics))

#define ROW(name_, ...) {.name = #name_, __VA_ARGS__},
const dt_task_row dt_task_table[] = {TASKS(ROW)};
#define NAME(name_, ...) #name_,
const char *const dt_task_choices[] = {TASKS(NAME) NULL};
enum { N_TASK = sizeof dt_task_table / sizeof dt_task_table[0] };

int64_t dt_task_named(const char *name) {
    int i = 0;
    while (i < N_TASK - 1 && strcmp(dt_task_table[i].name, name) != 0) i++;
    return i;
}

const dt_task_row *dt_task_of(const dt_model_options *o) {
    return &dt_task_table[o->task];
}

const dt_task_row *dt_task_of_loss(const char *kind) {
    for (int k = 0; k < DT_TASK_LOSSES_MAX;
         k++) /* the task whose own loss it is, before others that have it too */
        for (int i = 0; i < N_TASK; i++)
            if (dt_task_table[i].loss[k] && strcmp(dt_task_table[i].loss[k], kind) == 0)
                return &dt_task_table[i];
    return NULL;
}

const dt_metric_row *dt_metric_find(const char *name) {
    for (int i = 0; i < N_TASK; i++)
        for (int32_t k = 0; k < dt_task_table[i].n_metric; k++)
            if (strcmp(dt_task_table[i].metric[k].name, name) == 0) return &dt_task_table[i].metric[k];
    return NULL;
}

double dt_loss_total(const double *metric, int32_t n, const double *weight) {
    const double rows = metric[DT_METRIC_SAMPLES];
    double sum = 0;
    bool alike = true;
    for (int32_t i = 0; i < n; i++) {
        const double *own = metric + DT_METRIC_LOSSES + 2 * i;
        alike = alike && own[1] == rows;
        sum += own[1] > 0 ? weight[i] * own[0] / own[1] : 0;
    }
    return alike ? metric[DT_METRIC_LOSS] / (rows > 0 ? rows : 1) : sum;
}

double dt_metric_value(const dt_metric_row *m, const double *metric, bool several,
                       const dt_metric_extra *more) {
    const double *loss = several ? metric + DT_METRIC_LOSSES : metric + DT_METRIC_LOSS, n = loss[1];
    const dt_metric_facts f = {.sum = metric + DT_METRIC_TASK,
                               .rows = metric[DT_METRIC_SAMPLES] > 0 ? metric[DT_METRIC_SAMPLES] : 1,
                               .loss = loss[0] / (n > 0 ? n : 1),
                               .more = *more};
    return m->value(&f);
}

const char *dt_metric_text(const dt_metric_row *m, double value, char out[DT_METRIC_TEXT]) {
    snprintf(out, DT_METRIC_TEXT, m->percent ? "%.2f %%" : "%.4g", m->percent ? 100 * value : value);
    return out;
}

/* ---- the head ---- */

static const dt_field *target_of(dt_builder *b, const dt_model_options *o) {
    const dt_field *f = o->target[0] ? dt_build_field(b, o->target) : dt_build_target(b);
    if (f || b->status != DT_OK) return f;
    b->status = o->target[0]
                    ? dt_fail(DT_ERR_CONFIG, "model.target = \"%s\": the data has no such field", o->target)
                    : dt_fail(DT_ERR_CONFIG,
                              "the data has no field label, y or target: say in model.target which is it");
    return NULL;
}

int64_t dt_task_outputs(dt_builder *b, const dt_model_options *o, const dt_model_input *in) {
    const dt_task_row *task = dt_task_of(o);
    const bool images = in->height > 0, text = in->n_vocab > 0;
    const dt_field *label = text ? dt_build_target(b) : NULL;
    if (task->tokens && images)
        b->status = dt_fail(DT_ERR_CONFIG, "model.task = \"%s\" learns text, and the data are images: %s",
                            task->name, "set data.train to a set that data import text has made");
    else if (task->classes && text && label && label->ndim > 0)
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "model.task = \"%s\", but the text has no classes: import it with --label, or set "
                    "model.task = \"language\"",
                    task->name);
    else if (task->tokens && text && label && label->ndim == 0)
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "model.task = \"%s\", but the data is text with classes: set model.task = \"classify\", "
                    "or import it without --label",
                    task->name);
    else if (task->classes && in->classes <= 0)
        b->status =
            dt_fail(DT_ERR_CONFIG, "the data does not say how many classes there are: set model.classes");
    if (task->classes) return in->classes;
    if (task->tokens) return in->n_vocab;
    if (strcmp(task->loss[0], "value") == 0) return 1;
    const dt_field *f = target_of(b, o);
    int64_t n = f ? 1 : 0;
    for (int32_t i = 0; f && i < f->ndim; i++) n *= f->dim[i];
    return n;
}

static const char *loss_of(dt_builder *b, const dt_model_options *o) {
    const dt_task_row *task = dt_task_of(o);
    char list[128] = "";
    if (strcmp(o->loss, "auto") == 0) return task->loss[0];
    for (int i = 0; i < DT_TASK_LOSSES_MAX && task->loss[i]; i++) {
        const size_t used = strlen(list);
        if (strcmp(o->loss, task->loss[i]) == 0) return task->loss[i];
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i ? ", " : "", task->loss[i]);
    }
    b->status =
        dt_fail(DT_ERR_CONFIG, "model.loss = \"%s\": model.task = \"%s\" has %s", o->loss, task->name, list);
    return NULL;
}

void dt_task_head(dt_builder *b, const dt_model_options *o, dt_vid y) {
    const dt_task_row *task = dt_task_of(o);
    if (b->status != DT_OK) return;
    dt_build_loss_options t = {
        .kind = loss_of(b, o), .target = o->target[0] ? o->target : NULL, .sums = task->sums};
    if (b->status != DT_OK) return;
    if (strcmp(t.kind, "huber") == 0) t.param = o->huber_delta;
    if (strcmp(t.kind, "bce") == 0 && task->classes)
        t.kind = "class_bce", t.param = o->bce_threshold;
    else if (strcmp(t.kind, "bce") == 0)
        t.param = o->pos_weight;
    dt_build_loss(b, y, &t);
    dt_build_output(b, task->output, y);
    for (int32_t i = 0; i < o->n_losses && b->status == DT_OK; i++) {
        const dt_loss_entry *e = &o->losses[i];
        char name[DT_NAME_MAX];
        snprintf(name, sizeof name, "loss_%s", e->name[0] ? e->name : e->of);
        const dt_vid x = dt_graph_find(b->g, e->of);
        const bool taken = strcmp(name, "loss_main") == 0;
        const dt_build_loss_options more = {.name = name,
                                            .kind = dt_loss_kinds[e->kind],
                                            .target = e->target[0] ? e->target : NULL,
                                            .weight = e->weight,
                                            .param = e->param};
        if (taken)
            b->status =
                dt_fail(DT_ERR_CONFIG, "the task's own loss is reported as loss_main: set another name");
        else if (x < 0)
            b->status = dt_fail(DT_ERR_CONFIG, "the network has no layer \"%s\"", e->of);
        else
            dt_build_loss(b, x, &more);
        if (b->status == DT_OK) continue;
        dt_error_context("model.losses[%d]", i);
        if (e->line > 0) dt_error_context("%s:%d", o->losses_file, e->line);
    }
}
