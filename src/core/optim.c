/* The optimizers' rows and the keys of [optim]. Their formulas are in core/optim.h. */
#include "core/optim.h"

#include <string.h>

#include "core/key_rows.h"
#include "core/status.h"

/* The rates, momenta and eps of the references, but for those of sgd, momentum and nesterov, which are older here than
 * the others. */
#define DEFAULTS(lr_, momentum_, beta1_, beta2_, alpha_, eps_)                                               \
    .defaults = {.lr = lr_,                                                                                  \
                 .momentum = momentum_,                                                                      \
                 .weight_decay = 1e-4,                                                                       \
                 .beta1 = beta1_,                                                                            \
                 .beta2 = beta2_,                                                                            \
                 .alpha = alpha_,                                                                            \
                 .eps = eps_,                                                                                \
                 .trust = 1e-3,                                                                              \
                 .beta2_decay = 0.8,                                                                         \
                 .scale_floor = 1e-3,                                                                        \
                 .update_clip = 1,                                                                           \
                 .adamw_lr = 3e-4,                                                                           \
                 .nesterov = true}
#define VELOCITY(name_)                                                                                      \
    { .name = name_, .needs = DT_OPTIM_NEEDS_MOMENTUM }
#define MOMENTS(first, next) .state = {{.name = first}, {.name = next}}
#define RMS(start)                                                                                           \
    .state = {{.name = "square_avg", .init = start},                                                         \
              VELOCITY("velocity"),                                                                          \
              {.name = "grad_avg", .needs = DT_OPTIM_NEEDS_CENTERED}}

/* g: gradient + decay w where decay is not said; m^, v^: divided by 1 - beta^t. */
static const dt_optim_row rows[DT_OPTIM_COUNT] = {
    [DT_OPTIM_SGD] = {.doc = "w -= lr g", .lineage = "sgd", DEFAULTS(0.1, 0.9, 0.9, 0.999, 0.99, 1e-8)},
    [DT_OPTIM_MOMENTUM] = {.doc = "v = momentum v + g; w -= lr v",
                           .lineage = "sgd",
                           .state = {VELOCITY("mom1")},
                           DEFAULTS(0.1, 0.9, 0.9, 0.999, 0.99, 1e-8)},
    [DT_OPTIM_NESTEROV] = {.doc = "v = momentum v + g; w -= lr (g + momentum v)",
                           .lineage = "sgd",
                           .state = {VELOCITY("mom1")},
                           DEFAULTS(0.1, 0.9, 0.9, 0.999, 0.99, 1e-8)},
    [DT_OPTIM_ADAM] = {.doc = "m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; "
                              "w -= lr m^ / (sqrt(v^) + eps)",
                       .lineage = "adam",
                       MOMENTS("mom1", "mom2"),
                       DEFAULTS(1e-3, 0.9, 0.9, 0.999, 0.99, 1e-8)},
    [DT_OPTIM_ADAMW] = {.doc = "as adam, with w -= lr decay w in place of the decay in g",
                        .lineage = "adam",
                        MOMENTS("mom1", "mom2"),
                        DEFAULTS(1e-3, 0.9, 0.9, 0.999, 0.99, 1e-8)},
    [DT_OPTIM_RMSPROP] = {.doc = "PyTorch's: s = alpha s + (1 - alpha) g^2; v = momentum v + g / (sqrt(s) + "
                                 "eps); w -= lr v",
                          .lineage = "rmsprop",
                          RMS(0.0f),
                          DEFAULTS(1e-2, 0.0, 0.9, 0.999, 0.99, 1e-8)},
    [DT_OPTIM_RMSPROP_TF] = {.doc = "TensorFlow's: s, from 1, as rmsprop's; v = momentum v + lr g / sqrt(s + "
                                    "eps); w -= v",
                             .lineage = "rmsprop_tf",
                             RMS(1.0f),
                             DEFAULTS(1e-2, 0.0, 0.9, 0.999, 0.9, 1e-10)},
    [DT_OPTIM_ADAGRAD] = {.doc = "s += g^2; w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)",
                          .lineage = "adagrad",
                          .state = {{.name = "square_sum"}},
                          DEFAULTS(1e-2, 0.9, 0.9, 0.999, 0.99, 1e-10)},
    [DT_OPTIM_LAMB] = {.doc = "u = adam's step + decay w; w -= lr |w| / |u| u, of each parameter that has "
                              "decay",
                       .lineage = "lamb",
                       .flags = DT_OPTIM_TRUST,
                       MOMENTS("exp_avg", "exp_avg_sq"),
                       DEFAULTS(1e-3, 0.9, 0.9, 0.999, 0.99, 1e-6)},
    [DT_OPTIM_LARS] = {.doc = "r = trust |w| / (|g| + decay |w| + eps), of each parameter that has decay; "
                              "v = momentum v + r (g + decay w); w -= lr v",
                       .lineage = "lars",
                       .flags = DT_OPTIM_TRUST,
                       .state = {VELOCITY("velocity")},
                       DEFAULTS(1.0, 0.9, 0.9, 0.999, 0.99, 1e-8)},
    [DT_OPTIM_LION] = {.doc = "w -= lr (sign(beta1 m + (1 - beta1) g) + decay w); m = beta2 m + (1 - beta2) "
                              "g",
                       .lineage = "lion",
                       .state = {{.name = "exp_avg"}},
                       DEFAULTS(1e-4, 0.9, 0.9, 0.99, 0.99, 1e-8)},
    [DT_OPTIM_ADAFACTOR] =
        {.doc = "PyTorch's: means of g^2 by row and column, of weight t^-beta2_decay; u = g / "
                "sqrt(row column / mean); w -= lr decay w; w -= max(scale_floor, rms(w)) "
                "min(lr, 1 / sqrt(t)) / max(1, rms(u) / update_clip) u",
         .lineage = "adafactor",
         .flags = DT_OPTIM_TRUST | DT_OPTIM_FACTORED,
         .state = {{.name = "row_var", .shape = DT_STATE_ROW},
                   {.name = "col_var", .shape = DT_STATE_COLUMN},
                   {.name = "variance", .shape = DT_STATE_VECTOR}},
         DEFAULTS(1e-2, 0.9, 0.9, 0.999, 0.99, 1.1920928955078125e-7)},
    [DT_OPTIM_MUON] =
        {.doc = "PyTorch's, in fp32: hidden matrices v = momentum v + (1 - momentum) g; u = v, or momentum v "
                "+ (1 - "
                "momentum) g; w -= lr decay w; w -= lr scale orthogonal(u); the rest as adamw with adamw_lr",
         .lineage = "muon",
         .flags = DT_OPTIM_MATRIX,
         .state = {{.name = "mom1"}, {.name = "mom2", .shape = DT_STATE_REST}},
         DEFAULTS(0.02, 0.95, 0.9, 0.95, 0.99, 1e-8)},
};

#define NAME(upper, lower, n) [DT_OPTIM_##upper] = #lower,
const char *const dt_optim_names[DT_OPTIM_COUNT + 1] = {DT_OPTIM_LIST(NAME)};
#undef NAME

const dt_optim_row *dt_optim_get(dt_optim_kind kind) {
    DT_ASSERT(kind >= 0 && kind < DT_OPTIM_COUNT);
    return &rows[kind];
}

dt_optim_kind dt_optim_find(const char *name) {
    int kind = 0;
    while (kind < DT_OPTIM_COUNT && strcmp(dt_optim_names[kind], name) != 0) kind++;
    return (dt_optim_kind)kind;
}

dt_optim_options dt_optim_defaults(dt_optim_kind kind) {
    dt_optim_options o = dt_optim_get(kind)->defaults;
    o.kind = kind;
    return o;
}

bool dt_optim_has_state(const dt_optim_options *o, int32_t i) {
    const dt_optim_state_row *s = &dt_optim_get((dt_optim_kind)o->kind)->state[i];
    const uint32_t has =
        (o->momentum > 0 ? DT_OPTIM_NEEDS_MOMENTUM : 0) | (o->centered ? DT_OPTIM_NEEDS_CENTERED : 0);
    return s->name && (s->needs & ~has) == 0;
}

bool dt_optim_continues(const dt_optim_options *o, dt_optim_kind kind) {
    bool any = false;
    for (int32_t i = 0; i < DT_OPTIM_STATES_MAX; i++) any |= dt_optim_has_state(o, i);
    return !any || strcmp(dt_optim_get((dt_optim_kind)o->kind)->lineage, dt_optim_get(kind)->lineage) == 0;
}

static const char *const muon_scales[] = {"original", "match_rms_adamw", "spectral", NULL};

#define KEYS_OF dt_optim_options
static const dt_key_row optim_keys[] = {
    /* Of a key that is not set the row of its kind decides; the fallbacks are momentum's. */
    {CHOICE("kind", kind, dt_optim_names), MATHS, .fallback = "momentum", .help = "Optimizer"},
    {FLOAT("lr", lr, 0, 1e6), MATHS, .fallback = "0.1",
     .help =
         "Peak learning rate, for the whole global batch; the schedule scales it. Default of adam, adamw and "
         "lamb: 1e-3; rmsprop, rmsprop_tf and adagrad: 1e-2; lars: 1; lion: 1e-4; muon: 0.02; adafactor: "
         "1e-2, a bound on the rate relative to the weights"},
    {FLOAT("momentum", momentum, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.9",
     .only = "optim.kind = momentum, nesterov, rmsprop, rmsprop_tf, lars, muon",
     .help = "Decay of the velocity. Default of rmsprop and rmsprop_tf: 0; muon: 0.95"},
    {FLOAT("weight_decay", weight_decay, 0, 1e6), MATHS, .fallback = "1e-4",
     .help = "Weight decay; adamw, lamb, lion, adafactor, muon: decoupled, else added to the gradient"},
    {FLOAT("beta1", beta1, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.9",
     .only = "optim.kind = adam, adamw, lamb, lion, muon",
     .help = "Decay of the first moment (lion: in the step)"},
    {FLOAT("beta2", beta2, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MAX, .fallback = "0.999",
     .only = "optim.kind = adam, adamw, lamb, lion, muon",
     .help = "Decay of the second moment. Default of muon: 0.95; lion: 0.99, of its only one"},
    {FLOAT("alpha", alpha, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MAX, .fallback = "0.99",
     .only = "optim.kind = rmsprop, rmsprop_tf",
     .help = "Decay of the mean square. Default of rmsprop_tf: 0.9"},
    {BOOL("centered", centered), .flags = DT_KEY_MATHS | DT_KEY_LATER, .fallback = "false",
     .only = "optim.kind = rmsprop, rmsprop_tf",
     .help = "Divide by the deviation instead of the root of the mean square"},
    {FLOAT("lr_decay", lr_decay, 0, 1e6), .flags = DT_KEY_MATHS | DT_KEY_LATER, .fallback = "0.0",
     .only = "optim.kind = adagrad", .help = "Update t has the rate lr / (1 + (t - 1) lr_decay)"},
    {FLOAT("eps", eps, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_OPEN_MIN, .fallback = "1e-8",
     .only = "optim.kind = adam, adamw, rmsprop, rmsprop_tf, adagrad, lamb, lars, adafactor, muon",
     .help = "Added where the step is divided: by a root of squares, or by norms (lars). Default of lamb: "
             "1e-6; rmsprop_tf and adagrad: 1e-10; "
             "adafactor: 1.1920929e-7, the least root of a mean square"},
    {FLOAT("trust", trust, 0, 1e6), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "1e-3", .only = "optim.kind = lars", .help = "Factor on the norm of a parameter"},
    {BOOL("trust_clip", trust_clip), .flags = DT_KEY_MATHS | DT_KEY_LATER, .fallback = "false",
     .only = "optim.kind = lamb, lars", .help = "The ratio of norms is at most 1; lars: at most 1 / lr"},
    {FLOAT("beta2_decay", beta2_decay, 0, 10), LATER_MATHS, .fallback = "0.8",
     .only = "optim.kind = adafactor", .help = "The mean squares take step t with weight t^-beta2_decay"},
    {FLOAT("scale_floor", scale_floor, 0, 1e6), LATER_MATHS, .fallback = "1e-3",
     .only = "optim.kind = adafactor", .help = "The root mean square of a parameter counts as no less"},
    {FLOAT("update_clip", update_clip, 0, 1e6), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MIN,
     .fallback = "1.0", .only = "optim.kind = adafactor",
     .help = "An update whose root mean square is larger is scaled down to it"},
    {FLOAT("adamw_lr", adamw_lr, 0, 1e6), LATER_MATHS, .fallback = "3e-4", .only = "optim.kind = muon",
     .help = "Peak learning rate of what adamw trains: all but hidden matrices (the weights of dense layers "
             "whose result "
             "is no output of the network), unless [[optim.groups]] says otherwise; the schedule scales both "
             "rates"},
    {CHOICE("muon_scale", muon_scale, muon_scales), LATER_MATHS, .fallback = "original",
     .only = "optim.kind = muon",
     .help = "Factor on the rate of a matrix: sqrt(max(1, rows / columns)), 0.2 sqrt(max(rows, columns)), "
             "after which one "
             "rate suits both parts, or sqrt(rows / columns)"},
    {BOOL("nesterov", nesterov), LATER_MATHS, .fallback = "true", .only = "optim.kind = muon",
     .help = "The step looks ahead by one gradient"},
    {BOOL("decay_bn_and_bias", decay_bn_and_bias), MATHS, .fallback = "false",
     .help = "Weight decay on batch-norm parameters and biases too"},
    {FLOAT("layer_decay", layer_decay, 0, 1), LATER_MATHS, .fallback = "0.0",
     .help = "Factor on the learning rate from each layer to the one below it, for fine-tuning: the last "
             "layer has 1, the last "
             "block this, what comes before the first block the least (BEiT's layers). 0: none"},
    {FLOAT("head_lr_factor", head_lr_factor, 0, 1e6), LATER_MATHS, .fallback = "0.0",
     .help = "Factor on the learning rate of the last layer; 0: none"},
};
const dt_section dt_optim_section = SECTION("optim", optim_keys);
#undef KEYS_OF
