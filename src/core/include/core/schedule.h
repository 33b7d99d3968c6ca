/* Learning-rate schedules: pure functions of the step. */
#ifndef DT_CORE_SCHEDULE_H
#define DT_CORE_SCHEDULE_H

#include "core/config.h"

/* Steps of the warm-up; fractional where it is given in epochs. */
double dt_schedule_warmup(const dt_config *c, double steps_per_epoch);

/* Learning rate of update `step` (from 0) of `total_steps`. Warm-up of W steps rises linearly from
 * warmup_start*lr in step 0 to lr in step W, as PyTorch's LinearLR(start_factor = warmup_start, total_iters =
 * W); with warmup_start 0 from lr / (W + 1), whence step t has lr * (t + 1) / (W + 1): a first step of rate 0
 * would change nothing. Then, with u = (step - warmup) / (total - warmup) in [0, 1): constant lr; cosine
 * lr*(final + (1-final)*(1+cos(pi u))/2); linear lr*(1 - (1-final)*u); polynomial lr*(final +
 * (1-final)*(1-u)^power); step lr*gamma^(milestones passed, in epochs); wsd (warm-up, stable, decay) lr until
 * S = (1 - cooldown) * total, then with v = (step - S) / (total - S) lr*(1 - (1-final)*v), wsd_sqrt lr*(1 -
 * (1-final)*sqrt(v)) (the 1-sqrt cooldown of Hagele et al. 2024, arXiv 2405.18392). An epoch is n_samples /
 * global_batch steps, not a whole number of them. */
double dt_schedule_lr(const dt_config *c, int64_t step, int64_t total_steps, double steps_per_epoch);

#endif
