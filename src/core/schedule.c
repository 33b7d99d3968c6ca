/* Learning-rate schedules, and [schedule]: their keys. */
#include "core/schedule.h"

#include <math.h>

#include "core/key_rows.h"

static const char *const schedule_names[] = {
    [DT_SCHEDULE_CONSTANT] = "constant", [DT_SCHEDULE_STEP] = "step",
    [DT_SCHEDULE_COSINE] = "cosine",     [DT_SCHEDULE_POLYNOMIAL] = "polynomial",
    [DT_SCHEDULE_LINEAR] = "linear",     [DT_SCHEDULE_WSD] = "wsd",
    [DT_SCHEDULE_WSD_SQRT] = "wsd_sqrt", NULL};

#define KEYS_OF dt_schedule_options
static const dt_key_row schedule_keys[] = {
    {CHOICE("kind", kind, schedule_names), MATHS, .fallback = "cosine",
     .help = "How the learning rate goes from optim.lr to its end; wsd and wsd_sqrt hold it until the last "
             "schedule.cooldown of the run, whose fall is linear or steep at first (1 - sqrt)"},
    {FLOAT("warmup_epochs", warmup_epochs, 0, 1e9), MATHS, .fallback = "0.0",
     .only = "schedule.warmup_steps = 0", .help = "Epochs of linear rise to optim.lr at the start"},
    {INT("warmup_steps", warmup_steps, 0, STEPS_MAX), MATHS, .fallback = "0",
     .help = "The same in steps; where above 0 it wins over warmup_epochs"},
    {FLOAT("warmup_start", warmup_start, 0, 1), MATHS, .fallback = "0.0",
     .only = "schedule.warmup_steps > 0 | schedule.warmup_epochs > 0",
     .help = "Fraction of optim.lr that the first step has; 0: 1 / (steps of the warm-up + 1), so that every "
             "step adds as much and none has rate 0"},
    {FLOAT("final", final, 0, 1), MATHS, .fallback = "0.0",
     .only = "schedule.kind = cosine, polynomial, linear, wsd, wsd_sqrt",
     .help = "Fraction of optim.lr at the end"},
    {FLOAT("power", power, 0, 100), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "2.0",
     .only = "schedule.kind = polynomial", .help = "Exponent"},
    {FLOAT("cooldown", cooldown, 0, 1), MATHS, .fallback = "0.2", .only = "schedule.kind = wsd, wsd_sqrt",
     .help = "Fraction of the run, at its end, in which the learning rate falls"},
    {FLOAT("gamma", gamma, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "0.1",
     .only = "schedule.kind = step", .help = "Factor on the learning rate at each milestone"},
    {FLOAT("every_epochs", every_epochs, 0, 1e9), LATER_MATHS, .fallback = "0.0",
     .only = "schedule.kind = step",
     .help = "In place of milestones: epochs between two drops, counted from the begin of the run; one in "
             "the middle of an epoch comes with its end. 0: milestones decide"},
    {FLOATS("milestones", milestones, n_milestones, 0, 1e9), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN,
     .fallback = "[]", .only = "schedule.kind = step",
     .help = "Epochs after which the learning rate drops, ascending"},
};
const dt_section dt_schedule_section = SECTION("schedule", schedule_keys);
#undef KEYS_OF

double dt_schedule_warmup(const dt_schedule_options *o, double steps_per_epoch) {
    return o->warmup_steps > 0 ? (double)o->warmup_steps : o->warmup_epochs * steps_per_epoch;
}

double dt_schedule_lr(const dt_schedule_options *o, double lr, int64_t step, int64_t total_steps,
                      double steps_per_epoch) {
    const double final = o->final;
    const double warmup = dt_schedule_warmup(o, steps_per_epoch);
    if ((double)step < warmup) {
        const double given = o->warmup_start, start = given > 0 ? given : 1 / (warmup + 1);
        return lr * (start + (1 - start) * (double)step / warmup);
    }
    double span = (double)total_steps - warmup;
    double u = span > 0 ? ((double)step - warmup) / span : 1;
    if (u > 1) u = 1;
    switch ((dt_schedule_kind)o->kind) {
    case DT_SCHEDULE_CONSTANT:
        return lr;
    case DT_SCHEDULE_COSINE:
        return lr * (final + (1 - final) * 0.5 * (1 + cos(3.14159265358979323846 * u)));
    case DT_SCHEDULE_LINEAR:
        return lr * (1 - (1 - final) * u);
    case DT_SCHEDULE_POLYNOMIAL:
        return lr * (final + (1 - final) * pow(1 - u, o->power));
    case DT_SCHEDULE_WSD:
    case DT_SCHEDULE_WSD_SQRT: {
        const double start = fmax(warmup, (1 - o->cooldown) * (double)total_steps);
        if ((double)step <= start) return lr;
        const double v = fmin(((double)step - start) / fmax((double)total_steps - start, 1), 1);
        return lr * (1 - (1 - final) * (o->kind == DT_SCHEDULE_WSD ? v : sqrt(v)));
    }
    case DT_SCHEDULE_STEP: {
        double factor = 1; /* a quotient may round to just above the step at which an epoch is full */
        if (o->every_epochs > 0) {
            const double epoch = floor(((double)step + 1e-6) / steps_per_epoch);
            return lr * pow(o->gamma, floor(epoch / o->every_epochs * (1 + 1e-12)));
        }
        for (int32_t i = 0; i < o->n_milestones; i++)
            if ((double)step + 1e-6 >= o->milestones[i] * steps_per_epoch) factor *= o->gamma;
        return lr * factor;
    }
    }
    return lr;
}

double dt_schedule_ema(double decay, double power, int64_t step) {
    return power > 0 ? fmin(decay, 1 - pow(1 + (double)step, -power)) : decay;
}
