#include "train/stages.h"

#include <math.h>
#include <stdio.h>

int32_t dt_stage_count(const dt_config *c) {
    return c->train.n_stage > 0 ? c->train.n_stage : 1;
}

static double strength_of(const dt_config *c, int32_t stage) {
    return stage < c->train.n_stage_strength ? c->train.stage_strength[stage] : 1;
}

void dt_stage_options(const dt_config *c, int32_t stage, dt_data_options *data, dt_augment_options *augment) {
    const double by = strength_of(c, stage);
    dt_augment_options *a = augment;
    *data = c->data;
    *augment = c->augment;
    if (stage < c->train.n_stage_size) data->image_size = (int64_t)c->train.stage_size[stage];
    if (by == 1) return;
    a->policy_magnitude =
        dt_min_i64((int64_t)rint((double)a->policy_magnitude * by), dt_max_i64(a->policy_bins - 1, 0));
    a->brightness *= by, a->contrast *= by, a->saturation *= by;
    a->hue = fmin(a->hue * by, 0.5);
    a->grayscale = fmin(a->grayscale * by, 1), a->erase = fmin(a->erase * by, 1);
    a->mixup *= by, a->cutmix *= by;
}

int64_t dt_stage_first_step(const dt_config *c, int32_t stage, double steps_per_epoch) {
    if (stage == 0) return 0;
    if (stage >= dt_stage_count(c)) return INT64_MAX;
    /* 1.1 epochs of 500 steps are 550, although 1.1 is a little more than 1.1. */
    return (int64_t)ceil(c->train.stage_epoch[stage] * steps_per_epoch * (1 - 1e-12));
}

int32_t dt_stage_at(const dt_config *c, int64_t step, double steps_per_epoch) {
    int32_t stage = dt_stage_count(c) - 1;
    while (stage > 0 && step < dt_stage_first_step(c, stage, steps_per_epoch)) stage--;
    return stage;
}

dt_stage_text dt_stage_describe(const dt_config *c, int32_t stage) {
    dt_stage_text t;
    dt_data_options data;
    dt_augment_options augment;
    dt_stage_options(c, stage, &data, &augment);
    const int n = data.image_size > 0 ? snprintf(t.s, sizeof t.s, "images of %lld x %lld",
                                                 (long long)data.image_size, (long long)data.image_size)
                                      : snprintf(t.s, sizeof t.s, "images as stored");
    if (c->train.n_stage_strength > 0)
        snprintf(t.s + n, sizeof t.s - (size_t)n, ", augmentation x %g", strength_of(c, stage));
    return t;
}
