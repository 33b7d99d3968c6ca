/* What a step or an evaluation came to: the total loss, the task's metrics, and of several losses each. */
#ifndef DT_TRAIN_SCORES_H
#define DT_TRAIN_SCORES_H

#include "core/step.h"
#include "model/task.h"

enum { DT_SCORE_NAME_MAX = 64 };

/* What there is to be told of a network. */
typedef struct dt_scoreboard {
    const dt_task_row *task;
    double bytes_a_token; /* of the validation set; 0: not known */
    bool no_ranking;      /* it has more scores than are kept (train/ranking.h) */
    int32_t n_own;        /* several losses, or 0 */
    char own[DT_LOSSES_MAX][DT_SCORE_NAME_MAX];
    double weight[DT_LOSSES_MAX]; /* of each in the total */
} dt_scoreboard;

/* Means over the rows that count; 0 of none. */
typedef struct dt_scores {
    double loss;
    double metric[DT_TASK_METRICS_MAX]; /* as the task's rows */
    double own[DT_LOSSES_MAX];          /* of each loss, without its weight */
} dt_scores;

dt_scoreboard dt_scoreboard_of(const dt_model_options *o);
/* Whether there is the task's metric k: those of bytes need data that knows them, those of scores an evaluation that
 * keeps them. */
bool dt_scoreboard_has(const dt_scoreboard *b, int32_t k);
/* metric: the sums of all ranks [DT_METRIC_COUNT]. average_precision: as in dt_metric_extra. */
void dt_scores_of(const dt_scoreboard *b, const double *metric, double average_precision, dt_scores *out);
void dt_scores_of_step(const dt_scoreboard *b, const float *metric, dt_scores *out);
/* The scores in order, "loss" first, then the metrics (in_training: those that are told of steps), then each
 * loss: the name of number i, its value in *value; NULL behind the last. */
const char *dt_score_at(const dt_scoreboard *b, const dt_scores *s, bool in_training, int32_t i,
                        double *value);

#endif
