#include "train/scores.h"

#include <math.h>
#include <stdio.h>

dt_scoreboard dt_scoreboard_of(const dt_model_options *o) {
    dt_scoreboard b = {.task = dt_task_of(o), .n_own = o->n_losses > 0 ? o->n_losses + 1 : 0};
    snprintf(b.own[0], sizeof b.own[0], "loss_main");
    b.weight[0] = 1;
    for (int32_t i = 0; i < o->n_losses; i++) {
        const dt_loss_entry *e = &o->losses[i];
        b.weight[i + 1] = e->weight;
        snprintf(b.own[i + 1], sizeof b.own[0], "loss_%s", e->name[0] ? e->name : e->of);
    }
    return b;
}

bool dt_scoreboard_has(const dt_scoreboard *b, int32_t k) {
    const dt_metric_need need = b->task->metric[k].need;
    return (need != DT_NEED_BYTES || b->bytes_a_token > 0) && (need != DT_NEED_SCORES || !b->no_ranking);
}

void dt_scores_of(const dt_scoreboard *b, const double *metric, double average_precision, dt_scores *out) {
    const dt_metric_extra more = {.bytes_a_row = b->bytes_a_token, .average_precision = average_precision};
    *out = (dt_scores){.loss = dt_loss_total(metric, b->n_own, b->weight)};
    for (int32_t i = 0; i < b->task->n_metric; i++)
        out->metric[i] = dt_metric_value(&b->task->metric[i], metric, b->n_own > 0, &more);
    for (int32_t i = 0; i < b->n_own; i++) {
        const double *own = metric + DT_METRIC_LOSSES + 2 * i;
        out->own[i] = own[0] / (own[1] > 0 ? own[1] : 1);
    }
}

void dt_scores_of_step(const dt_scoreboard *b, const float *metric, dt_scores *out) {
    double wide[DT_METRIC_COUNT];
    for (int i = 0; i < DT_METRIC_COUNT; i++) wide[i] = (double)metric[i];
    dt_scores_of(b, wide, NAN, out);
}

const char *dt_score_at(const dt_scoreboard *b, const dt_scores *s, bool in_training, int32_t i,
                        double *value) {
    if (i-- == 0) return *value = s->loss, "loss";
    for (int32_t k = 0; k < b->task->n_metric; k++) {
        if ((in_training && !b->task->metric[k].line) || !dt_scoreboard_has(b, k)) continue;
        if (i-- == 0) return *value = s->metric[k], b->task->metric[k].name;
    }
    return i < b->n_own ? (*value = s->own[i], b->own[i]) : NULL;
}
