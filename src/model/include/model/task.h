/* Tasks: what a network is trained for. A row says which losses it may have, what its head adds to the graph,
 * and the metrics that its sums give. Whoever reports an evaluation goes through the row's metrics. */
#ifndef DT_MODEL_TASK_H
#define DT_MODEL_TASK_H

#include "model/builder.h"
#include "model/options.h"

enum { DT_TASK_METRICS_MAX = 4, DT_TASK_LOSSES_MAX = 4, DT_METRIC_TEXT = 32 };

typedef struct dt_metric_row {
    const char *name;        /* "top1": in records; checkpoint.best_metric says "eval_top1" */
    const char *label;       /* "top-1": for people */
    const char *line, *part; /* in progress lines, long and short; NULL: of evaluations alone */
    bool percent;            /* a fraction, shown in % */
    bool higher_is_better;
    /* Of the task's sums over `rows` rows that count. NaN where they do not say. */
    double (*value)(const double *sum, double rows);
} dt_metric_row;

typedef struct dt_task_row {
    const char *name, *help;
    const char *loss[DT_TASK_LOSSES_MAX]; /* names of kinds, the first is meant where none is named */
    dt_loss_sums sums;
    const char *output; /* what the network's result is called */
    bool classes;       /* as many outputs as classes; else as many as the target has numbers */
    int32_t n_metric;
    const dt_metric_row *metric;
} dt_task_row;

extern const dt_task_row dt_task_table[];
/* Their names, ending in NULL: the choices of model.task. */
extern const char *const dt_task_choices[];
/* All metrics and the loss, "eval_top1" and so on, ending in NULL: the choices of checkpoint.best_metric. */
extern const char *const dt_metric_choices[];
/* The row of o->task. */
const dt_task_row *dt_task_of(const dt_model_options *o);
/* The first row that has this kind of loss; NULL where there is none. */
const dt_task_row *dt_task_of_loss(const char *kind);
/* The metric of that name, of any task; NULL where there is none. */
const dt_metric_row *dt_metric_find(const char *name);
/* The value for people: "91.25 %", "0.1234"; returns `out`. */
const char *dt_metric_text(const dt_metric_row *m, double value, char out[DT_METRIC_TEXT]);

/* How many numbers the network must give of each row. 0 sticks an error in the builder. */
int64_t dt_task_outputs(dt_builder *b, const dt_model_options *o, int64_t classes);
/* Checks y, the network's result [N, ...], and adds the task's loss, [[model.losses]] and the output. */
void dt_task_head(dt_builder *b, const dt_model_options *o, dt_vid y);

#endif
