/* How often a network finds the right one of several endings the likeliest: `dtrain eval --choices`. */
#ifndef DT_TRAIN_CHOOSE_H
#define DT_TRAIN_CHOOSE_H

#include "dist/comm.h"
#include "train/config.h"
#include "train/sink.h"

typedef struct dt_choose_result {
    int64_t n; /* questions */
    int64_t
        n_sum; /* of which the right ending has the largest sum of the log probabilities of its tokens; of equals the first counts */
    int64_t n_mean; /* likewise by the mean over its tokens */
    int64_t n_cut;  /* whose context was too long: its end was looked at */
} dt_choose_result;

/* The file (data/choices.h) by the checkpoint that run.resume asks for; needs no data set. The ranks share the questions;
 * the result does not depend on how many there are. Collective; all ranks return the same. sink hears of it (NULL: nobody). */
dt_status dt_choose(const dt_config *c, dt_comm *mpi, const char *path, const dt_sink *sink,
                    dt_choose_result *out);

#endif
