/* Progressive learning: stretches of a run with images of a size of their own, edited more or less. */
#ifndef DT_TRAIN_STAGES_H
#define DT_TRAIN_STAGES_H

#include "core/text.h"
#include "train/config.h"

/* At least 1: without train.stage_epochs all of the run is one stage. */
int32_t dt_stage_count(const dt_config *c);
/* The options of data and augmentation in this stage: the configuration's with the stage's size and strength. */
void dt_stage_options(const dt_config *c, int32_t stage, dt_data_options *data, dt_augment_options *augment);
/* The step, from 0, with which it begins; behind the last stage INT64_MAX. */
int64_t dt_stage_first_step(const dt_config *c, int32_t stage, double steps_per_epoch);
/* That of a step. */
int32_t dt_stage_at(const dt_config *c, int64_t step, double steps_per_epoch);
/* "images of 160 x 160, augmentation x 0.5" */
typedef struct dt_stage_text {
    char s[96];
} dt_stage_text;
dt_stage_text dt_stage_describe(const dt_config *c, int32_t stage);

#endif
