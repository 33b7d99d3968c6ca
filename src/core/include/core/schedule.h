/* Learning-rate schedules: pure functions of the step. */
#ifndef DT_CORE_SCHEDULE_H
#define DT_CORE_SCHEDULE_H

#include "core/key.h"

enum { DT_SCHEDULE_MILESTONES_MAX = 16 };

typedef enum dt_schedule_kind {
    DT_SCHEDULE_CONSTANT = 0,
    DT_SCHEDULE_STEP,
    DT_SCHEDULE_COSINE,
    DT_SCHEDULE_POLYNOMIAL,
    DT_SCHEDULE_LINEAR,
    DT_SCHEDULE_WSD,
    DT_SCHEDULE_WSD_SQRT
} dt_schedule_kind;

/* [schedule]; each key is documented in its row. */
typedef struct dt_schedule_options {
    int64_t kind; /* dt_schedule_kind */
    double warmup_epochs;
    int64_t warmup_steps;                          /* > 0 wins over warmup_epochs */
    double warmup_start;                           /* fraction of lr at step 0; 0: 1 / (warm-up steps + 1) */
    double final;                                  /* fraction of lr at the end */
    double power;                                  /* polynomial */
    double cooldown;                               /* wsd, wsd_sqrt: fraction of the run */
    double gamma;                                  /* step */
    double milestones[DT_SCHEDULE_MILESTONES_MAX]; /* step: epochs */
    int32_t n_milestones;
    double every_epochs; /* step, in place of milestones; 0: they decide */
} dt_schedule_options;
extern const dt_section dt_schedule_section;

/* Steps of the warm-up; fractional where it is given in epochs. */
double dt_schedule_warmup(const dt_schedule_options *o, double steps_per_epoch);

/* Learning rate of update `step` (from 0) of `total_steps`, with `lr` at the peak. Warm-up of W steps rises linearly from
 * warmup_start*lr in step 0 to lr in step W, as PyTorch's LinearLR(start_factor = warmup_start, total_iters =
 * W); with warmup_start 0 from lr / (W + 1), whence step t has lr * (t + 1) / (W + 1): a first step of rate 0
 * would change nothing. Then, with u = (step - warmup) / (total - warmup) in [0, 1): constant lr; cosine
 * lr*(final + (1-final)*(1+cos(pi u))/2); linear lr*(1 - (1-final)*u); polynomial lr*(final +
 * (1-final)*(1-u)^power); step lr*gamma^(milestones passed, in epochs, or whole multiples of
 * every_epochs in the epochs that are done, as timm has it); wsd (warm-up, stable, decay) lr until
 * S = (1 - cooldown) * total, then with v = (step - S) / (total - S) lr*(1 - (1-final)*v), wsd_sqrt lr*(1 -
 * (1-final)*sqrt(v)) (the 1-sqrt cooldown of Hagele et al. 2024, arXiv 2405.18392). An epoch is n_samples /
 * global_batch steps, not a whole number of them. */
double dt_schedule_lr(const dt_schedule_options *o, double lr, int64_t step, int64_t total_steps,
                      double steps_per_epoch);

/* Decay of the average of weights in update `step`: that of its option, or with a warm-up of this power at most 1 - (1 +
 * step)^-power, as timm's ModelEmaV3 has it: the first update takes the weights themselves, and early ones soon fade.
 * power 0: no warm-up. */
double dt_schedule_ema(double decay, double power, int64_t step);

#endif
