/* Learning-rate schedules. */
#include "core/schedule.h"

#include <math.h>

double dt_schedule_warmup(const dt_config *c, double steps_per_epoch) {
    return c->schedule.warmup_steps > 0 ? (double)c->schedule.warmup_steps
                                        : c->schedule.warmup_epochs * steps_per_epoch;
}

double dt_schedule_lr(const dt_config *c, int64_t step, int64_t total_steps, double steps_per_epoch) {
    const double lr = c->optim.lr, final = c->schedule.final;
    const double warmup = dt_schedule_warmup(c, steps_per_epoch);
    if ((double)step < warmup) {
        const double given = c->schedule.warmup_start, start = given > 0 ? given : 1 / (warmup + 1);
        return lr * (start + (1 - start) * (double)step / warmup);
    }
    double span = (double)total_steps - warmup;
    double u = span > 0 ? ((double)step - warmup) / span : 1;
    if (u > 1) u = 1;
    switch ((dt_schedule_kind)c->schedule.kind) {
    case DT_SCHEDULE_CONSTANT:
        return lr;
    case DT_SCHEDULE_COSINE:
        return lr * (final + (1 - final) * 0.5 * (1 + cos(3.14159265358979323846 * u)));
    case DT_SCHEDULE_LINEAR:
        return lr * (1 - (1 - final) * u);
    case DT_SCHEDULE_POLYNOMIAL:
        return lr * (final + (1 - final) * pow(1 - u, c->schedule.power));
    case DT_SCHEDULE_WSD:
    case DT_SCHEDULE_WSD_SQRT: {
        const double start = fmax(warmup, (1 - c->schedule.cooldown) * (double)total_steps);
        if ((double)step <= start) return lr;
        const double v = fmin(((double)step - start) / fmax((double)total_steps - start, 1), 1);
        return lr * (1 - (1 - final) * (c->schedule.kind == DT_SCHEDULE_WSD ? v : sqrt(v)));
    }
    case DT_SCHEDULE_STEP: {
        double factor = 1; /* a quotient may round to just above the step at which an epoch is full */
        for (int32_t i = 0; i < c->schedule.n_milestones; i++)
            if ((double)step + 1e-6 >= c->schedule.milestones[i] * steps_per_epoch)
                factor *= c->schedule.gamma;
        return lr * factor;
    }
    }
    return lr;
}
