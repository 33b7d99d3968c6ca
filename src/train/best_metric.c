/* checkpoint.best_metric and the tasks: which metric is of which. */
#include "train/checkpoint.h"

#include <string.h>

#include "model/task.h"

int32_t dt_best_metric_index(const dt_task_row *task, dt_best_metric metric) {
    const char *name = dt_metric_choices[metric] + strlen("eval_");
    for (int32_t i = 0; i < task->n_metric; i++)
        if (strcmp(task->metric[i].name, name) == 0) return i;
    return -1;
}

bool dt_best_metric_fits(const dt_task_row *task, dt_best_metric metric) {
    return metric == DT_BEST_EVAL_LOSS || dt_best_metric_index(task, metric) >= 0;
}

dt_best_metric dt_best_metric_first(const dt_task_row *task) {
    for (int64_t m = 0; dt_metric_choices[m]; m++)
        if (dt_best_metric_index(task, (dt_best_metric)m) == 0) return (dt_best_metric)m;
    return DT_BEST_EVAL_LOSS;
}
