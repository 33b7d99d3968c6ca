/* [optim]: the keys of the optimizer. */
#include "core/optim_options.h"

#include "core/key_rows.h"

static const char *const optim_names[] = {[DT_CFG_SGD] = "sgd",
                                          [DT_CFG_MOMENTUM] = "momentum",
                                          [DT_CFG_NESTEROV] = "nesterov",
                                          [DT_CFG_ADAMW] = "adamw",
                                          NULL};

#define KEYS_OF dt_optim_options
static const dt_key_row optim_keys[] = {
    {CHOICE("kind", kind, optim_names), MATHS, .fallback = "momentum", .help = "Optimizer"},
    {FLOAT("lr", lr, 0, 1e6), MATHS, .fallback = "0.1",
     .help = "Peak learning rate, for the whole global batch; the schedule scales it"},
    {FLOAT("momentum", momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.9",
     .help = "momentum, nesterov: decay of the velocity"},
    {FLOAT("weight_decay", weight_decay, 0, 1e6), MATHS, .fallback = "1e-4",
     .help = "Weight decay; adamw: decoupled, else added to the gradient"},
    {FLOAT("beta1", beta1, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.9",
     .help = "adamw: decay of the first moment"},
    {FLOAT("beta2", beta2, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.999",
     .help = "adamw: decay of the second moment"},
    {FLOAT("eps", eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-8",
     .help = "adamw: added to the root of the second moment"},
    {BOOL("decay_bn_and_bias", decay_bn_and_bias), MATHS, .fallback = "false",
     .help = "Weight decay on batch-norm parameters and biases too"},
};
const dt_section dt_optim_section = SECTION("optim", optim_keys);
#undef KEYS_OF
