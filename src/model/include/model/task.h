/* Tasks: what a network is trained for. A row says which losses it may have, what its head adds to the graph,
 * and the metrics that its sums give. Whoever reports an evaluation goes through the row's metrics. */
#ifndef DT_MODEL_TASK_H
#define DT_MODEL_TASK_H

#include "model/builder.h"
#include "model/options.h"

enum { DT_TASK_METRICS_MAX = 4, DT_TASK_LOSSES_MAX = 4, DT_METRIC_TEXT = 32 };

/* What sums do not say. */
typedef struct dt_metric_extra {
    double bytes_a_row;       /* text that a token stands for; 0: not known */
    double average_precision; /* mean over labels, of a whole evaluation; NaN: not known */
} dt_metric_extra;

/* What a metric is made of. */
typedef struct dt_metric_facts {
    const double *sum; /* the task's own, DT_TASK_SUMS_MAX of them */
    double rows;       /* that count, at least 1 */
    double loss;       /* mean of the task's loss over them */
    dt_metric_extra more;
} dt_metric_facts;

/* Where there is a metric: everywhere, where bytes_a_row is known, in evaluations that keep all scores
 * (train/ranking.h). */
typedef enum dt_metric_need { DT_NEED_SUMS = 0, DT_NEED_BYTES, DT_NEED_SCORES } dt_metric_need;

typedef struct dt_metric_row {
    const char *name;        /* "top1": in records; checkpoint.best_metric says "eval_top1" */
    const char *label;       /* "top-1": for people */
    const char *line, *part; /* in progress lines, long and short; NULL: of evaluations alone */
    bool percent;            /* a fraction, shown in % */
    bool higher_is_better;
    double (*value)(const dt_metric_facts *f); /* NaN where they do not say */
    dt_metric_need need;
} dt_metric_row;

typedef struct dt_task_row {
    const char *name, *help;
    const char *loss[DT_TASK_LOSSES_MAX]; /* names of kinds, the first is meant where none is named */
    dt_loss_sums sums;
    const char *output; /* what the network's result is called */
    bool classes;       /* as many outputs as classes; else as many as the target has numbers */
    bool masked;        /* the tokens to be given are hidden ones, not those that follow */
    bool tokens; /* logits of each place; as many as the last layer has, which the vocabulary fits in */
    int32_t n_metric;
    const dt_metric_row *metric;
} dt_task_row;

extern const dt_task_row dt_task_table[];
/* Their names, ending in NULL: the choices of model.task. */
extern const char *const dt_task_choices[];
/* All metrics and the loss, "eval_top1" and so on, ending in NULL: the choices of checkpoint.best_metric. */
extern const char *const dt_metric_choices[];
/* The task of that name, which is one. */
int64_t dt_task_named(const char *name);
/* The row of o->task. */
const dt_task_row *dt_task_of(const dt_model_options *o);
/* The first row that has this kind of loss; NULL where there is none. */
const dt_task_row *dt_task_of_loss(const char *kind);
/* The mean loss: of n losses, 0 where there is one, the sum of their own means by their weights. Rows of one may be
 * samples and those of another places, so sums are not divided by one number. */
double dt_loss_total(const double *metric, int32_t n, const double *weight);
/* Its value of the sums of a step or an evaluation [DT_METRIC_COUNT], of `several` losses or one. */
double dt_metric_value(const dt_metric_row *m, const double *metric, bool several,
                       const dt_metric_extra *more);
/* The metric of that name, of any task; NULL where there is none. */
const dt_metric_row *dt_metric_find(const char *name);
/* The value for people: "91.25 %", "0.1234"; returns `out`. */
const char *dt_metric_text(const dt_metric_row *m, double value, char out[DT_METRIC_TEXT]);

/* How many numbers the network must give of each row, of the task "language" of each place at least. An error sticks in
 * the builder: also where the data is of another kind than the task. */
int64_t dt_task_outputs(dt_builder *b, const dt_model_options *o, const dt_model_input *in);
/* Checks y, the network's result [N, ...], and adds the task's loss, [[model.losses]] and the output. */
void dt_task_head(dt_builder *b, const dt_model_options *o, dt_vid y);

#endif
