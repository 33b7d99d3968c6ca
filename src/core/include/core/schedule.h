/* Learning-rate schedules: pure functions of the step. */
#ifndef DT_CORE_SCHEDULE_H
#define DT_CORE_SCHEDULE_H

#include "core/config.h"

/* Steps of the warm-up; fractional where it is given in epochs. */
double dt_schedule_warmup(const dt_config *c, double steps_per_epoch);

/* Learning rate of update `step` (from 0) of `total_steps`. Warm-up rises linearly from warmup_start*lr to lr
 * over the warm-up steps; then, with u = (step - warmup) / (total - warmup) in [0, 1): constant lr; cosine
 * lr*(final + (1-final)*(1+cos(pi u))/2); linear lr*(1 - (1-final)*u); polynomial lr*(final +
 * (1-final)*(1-u)^power); step lr*gamma^(milestones passed, in epochs). An epoch is n_samples / global_batch
 * steps, not a whole number of them. */
double dt_schedule_lr(const dt_config *c, int64_t step, int64_t total_steps, double steps_per_epoch);

#endif
