/* The scores of a whole evaluation, for what follows from their order: mean average precision. */
#ifndef DT_TRAIN_RANKING_H
#define DT_TRAIN_RANKING_H

#include "dist/comm.h"
#include "dist/watchdog.h"
#include "train/engine.h"

/* Numbers kept over all ranks, 5 bytes each. An evaluation of more has no mean average precision. */
#define DT_RANKING_MAX (1LL << 30)

typedef struct dt_ranking {
    int64_t n_label; /* of a row; 0: the network's task has none, and nothing below does anything */
    int64_t n_row, cap_row;
    float *score;   /* [n_row, n_label] of this rank's rows */
    uint8_t *is;    /* [n_row, n_label]: the label holds */
    int64_t n_bare; /* by dt_ranking_average: labels that no row has */
} dt_ranking;

/* Of the engine's evaluation program. To be freed in any case. */
void dt_ranking_begin(const dt_engine *e, dt_ranking *out);
/* Takes the first `rows` rows of the batch that the evaluation program has just run. Waits for the device. */
dt_status dt_ranking_add(dt_ranking *r, dt_engine *e, int64_t rows);
/* The mean over labels of average precision, over the rows of all ranks: the same bits however they are divided and
 * ordered. NaN where there is no row, or a score is. `mpi`, `watchdog` may be NULL. Collective. */
dt_status dt_ranking_average(dt_ranking *r, dt_comm *mpi, dt_watchdog *watchdog, double *out);
void dt_ranking_free(dt_ranking *r);

/* A score, and whether the label holds. */
typedef struct dt_ranked {
    float score;
    uint32_t is;
} dt_ranked;
/* The sum over falling scores of precision, weighted by how much recall grew: scikit-learn's average_precision_score.
 * Equal scores count as one step; a label that nothing has gives 0. Sorts v [n], which holds no NaN. */
double dt_average_precision(dt_ranked *v, int64_t n);

#endif
