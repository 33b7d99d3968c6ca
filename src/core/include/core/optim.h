/* Optimizers: a row each in optim.c (name, state vectors, defaults), and below it a formula over one element,
 * which C and CUDA both read. Sums, norms and order are the backends' affair; a formula knows its element and
 * what the step has in common. */
#ifndef DT_CORE_OPTIM_H
#define DT_CORE_OPTIM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/rng.h"
#include "core/types.h" /* dt_muon_scale, of dtrain.h */

struct dt_section;

/* Name in upper and lower case, number of state vectors. The lower one is the formula's, and what a
 * configuration says. */
#define DT_OPTIM_LIST(X)                                                                                     \
    X(SGD, sgd, 0)                                                                                           \
    X(MOMENTUM, momentum, 1)                                                                                 \
    X(NESTEROV, nesterov, 1)                                                                                 \
    X(ADAM, adam, 2)                                                                                         \
    X(ADAMW, adamw, 2)                                                                                       \
    X(RMSPROP, rmsprop, 3)                                                                                   \
    X(RMSPROP_TF, rmsprop_tf, 3)                                                                             \
    X(ADAGRAD, adagrad, 1)                                                                                   \
    X(LAMB, lamb, 2)                                                                                         \
    X(LARS, lars, 1)                                                                                         \
    X(LION, lion, 1)                                                                                         \
    X(ADAFACTOR, adafactor, 1)                                                                               \
    X(MUON, muon, 2)
/* Those whose row has TRUST. */
#define DT_OPTIM_TRUST_LIST(X)                                                                               \
    X(LAMB, lamb, 2)                                                                                         \
    X(LARS, lars, 1)                                                                                         \
    X(ADAFACTOR, adafactor, 1)

#define DT_OPTIM_ENUM(upper, lower, n) DT_OPTIM_##upper,
typedef enum dt_optim_kind { DT_OPTIM_LIST(DT_OPTIM_ENUM) DT_OPTIM_COUNT } dt_optim_kind;
#undef DT_OPTIM_ENUM

enum { DT_OPTIM_STATES_MAX = 3 };

/* What a user chooses. A kind reads those fields that its row names; dt_optim_defaults fills all. */
typedef struct dt_optim_options {
    int64_t kind; /* dt_optim_kind */
    double lr;    /* peak; a schedule scales it */
    double momentum, weight_decay, beta1, beta2;
    double alpha; /* rmsprop: decay of the mean square */
    double eps;
    double lr_decay;                              /* adagrad */
    double trust;                                 /* lars: the coefficient */
    double beta2_decay, scale_floor, update_clip; /* adafactor */
    double adamw_lr;                              /* muon: peak, of what is no matrix of its */
    int64_t muon_scale;                           /* dt_muon_scale */
    bool nesterov;                                /* muon */
    bool centered;                                /* rmsprop: by the variance instead of the mean square */
    bool trust_clip; /* lamb, lars: the ratio is at most 1 (lars: the rate is at most lr) */
    bool decay_bn_and_bias;
    double layer_decay, head_lr_factor; /* factors on the rate: a layer below, of the last layer; 0: none */
} dt_optim_options;

/* What of a parameter a state vector has a float for. A matrix is [dim 0, the rest]; all else is a vector. */
typedef enum dt_state_shape {
    DT_STATE_ELEMENT = 0,
    DT_STATE_ROW,    /* of a matrix: its rows */
    DT_STATE_COLUMN, /* of a matrix: its columns */
    DT_STATE_VECTOR, /* elements of what is no matrix */
    DT_STATE_REST,   /* elements of what a MATRIX optimizer leaves to its formula */
    DT_STATE_SHAPES
} dt_state_shape;

/* One state vector. */
typedef struct dt_optim_state_row {
    const char *name; /* its tensors in a checkpoint are "<name>/<parameter>" */
    uint32_t needs;   /* 0: always there; else DT_OPTIM_NEEDS_*, all of which must be so */
    float init;
    dt_state_shape shape;
} dt_optim_state_row;

enum {
    DT_OPTIM_NEEDS_MOMENTUM = 1u << 0, /* momentum above 0 */
    DT_OPTIM_NEEDS_CENTERED = 1u << 1
};
enum {
    /* The step of a parameter is scaled by a ratio of two norms: dt_optim_measure_<name> updates the state and
     * gives the direction whose norm counts, the formula then moves the weight. */
    DT_OPTIM_TRUST = 1u << 0,
    /* The state is, in this order: means of squares by row, by column, and of what is no matrix. The formula sees
     * one float, the mean square of its element as these give it. */
    DT_OPTIM_FACTORED = 1u << 1,
    /* Some matrices (dt_axis_segment.matrix) are stepped as a whole, by the backends; the formula is of the rest. The
     * first vector is of all, the second of the rest. */
    DT_OPTIM_MATRIX = 1u << 2
};

typedef struct dt_optim_row {
    const char *doc;     /* the update in one line */
    const char *lineage; /* rows of one lineage understand each other's state */
    uint32_t flags;
    dt_optim_state_row state[DT_OPTIM_STATES_MAX]; /* s[] of the formula; ends at a NULL name */
    dt_optim_options defaults;
} dt_optim_row;

#ifdef __cplusplus
extern "C" {
#endif
/* Never NULL; `kind` must be one. */
const dt_optim_row *dt_optim_get(dt_optim_kind kind);
/* Names of all kinds in their order, NULL-terminated. */
extern const char *const dt_optim_names[DT_OPTIM_COUNT + 1];
/* DT_OPTIM_COUNT where there is none of that name. */
dt_optim_kind dt_optim_find(const char *name);
dt_optim_options dt_optim_defaults(dt_optim_kind kind);
/* Whether these options need state vector i of their row. */
bool dt_optim_has_state(const dt_optim_options *o, int32_t i);
/* Whether these options can continue with the state that `kind` has left. One without state always can. */
bool dt_optim_continues(const dt_optim_options *o, dt_optim_kind kind);
/* [optim] (core/key.h); each key is documented in its row. */
extern const struct dt_section dt_optim_section;
#ifdef __cplusplus
}
#endif

/* What all elements of a parameter have in common in one update. */
typedef struct dt_optim_factors {
    float grad_scale; /* clip / loss scale */
    float lr, decay, momentum, beta1, beta2, alpha, eps, trust, centered;
    float inv_correct1, inv_correct2;         /* 1 / (1 - beta^t) */
    float ratio;                              /* TRUST: of this parameter */
    float new_weight;                         /* FACTORED: of this step in the means */
    float rate_max, scale_floor, update_clip; /* adafactor */
    float inv_sqrt_n;                         /* FACTORED: 1 / sqrt(elements of this parameter) */
    float rest_rate;                          /* MATRIX: share of lr that the rest has */
    bool trust_clip, nesterov;
} dt_optim_factors;

/* Factors of update number t (from 1; skipped ones are not counted) but for what differs between parameters:
 * lr is the schedule's, decay 0, ratio 1. */
DT_HOST_DEVICE static inline dt_optim_factors dt_optim_begin(const dt_optim_options *o, float lr,
                                                             float grad_scale, int64_t t) {
    dt_optim_factors f;
    f.grad_scale = grad_scale;
    f.lr = o->kind == DT_OPTIM_ADAGRAD ? (float)((double)lr / (1 + (double)(t - 1) * o->lr_decay)) : lr;
    f.decay = 0.0f, f.ratio = 1.0f;
    f.momentum = (float)o->momentum, f.beta1 = (float)o->beta1, f.beta2 = (float)o->beta2;
    f.alpha = (float)o->alpha, f.eps = (float)o->eps, f.trust = (float)o->trust;
    f.centered = o->centered ? 1.0f : 0.0f;
    f.inv_correct1 = 1.0f / (float)(1 - pow(o->beta1, (double)t));
    f.inv_correct2 = 1.0f / (float)(1 - pow(o->beta2, (double)t));
    f.trust_clip = o->trust_clip;
    f.new_weight = (float)pow((double)t, -o->beta2_decay);
    f.rate_max = (float)(1 / sqrt((double)t));
    f.scale_floor = (float)o->scale_floor, f.update_clip = (float)o->update_clip;
    f.inv_sqrt_n = 1.0f;
    f.rest_rate = o->lr > 0 ? (float)(o->adamw_lr / o->lr) : 0.0f;
    f.nesterov = o->nesterov;
    return f;
}

/* What gradients are multiplied by first. sample_rows: rows that the loss has of each sample, of which `counted` in the
 * whole batch have a target: the gradients, weighted as if all had, become their mean over those. 0: they are a mean
 * over samples as they are, and so they are where nothing counts. Where a sample is one row and all count, it is 1 to the
 * last bit. */
DT_HOST_DEVICE static inline float dt_optim_mean_scale(float sample_rows, float loss_weight, float counted) {
    const bool whole = sample_rows == 1.0f && (double)counted == rint(1.0 / (double)loss_weight),
               divide = sample_rows > 0.0f && counted > 0.0f && !whole;
    return divide ? (float)((double)sample_rows / ((double)loss_weight * (double)counted)) : 1.0f;
}

/* A product that is rounded by itself: in a sum of two products this one is not fused, the other may be, so that
 * a device's bits do not depend on what the compiler sees around a formula. */
DT_HOST_DEVICE static inline float dt_optim_mul(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

/* An element on its way through a formula. Passed by value, which lets compilers keep it in vector registers. */
typedef struct dt_optim_element {
    float w;
    float s[DT_OPTIM_STATES_MAX]; /* its state, in the row's order */
    float u;                      /* TRUST: the direction that is measured */
} dt_optim_element;

/* ---- the formulas: the element of the next step from e and the gradient g as backward left it. Definitions are
 * PyTorch 2's (adafactor's too, but that a convolution is a matrix), of lars, lamb, lion and rmsprop_tf timm's. ---- */
#define DT_OPTIM_FORMULA(name)                                                                               \
    DT_HOST_DEVICE static inline dt_optim_element dt_optim_##name(const dt_optim_factors *f, float g,        \
                                                                  dt_optim_element e)

DT_OPTIM_FORMULA(sgd) {
    g = dt_optim_mul(g, f->grad_scale);
    g += f->decay * e.w;
    e.w -= f->lr * g;
    return e;
}

DT_OPTIM_FORMULA(momentum) {
    g = dt_optim_mul(g, f->grad_scale);
    g += f->decay * e.w;
    e.s[0] = f->momentum * e.s[0] + g;
    e.w -= f->lr * e.s[0];
    return e;
}

DT_OPTIM_FORMULA(nesterov) {
    g = dt_optim_mul(g, f->grad_scale);
    g += f->decay * e.w;
    e.s[0] = f->momentum * e.s[0] + g;
    e.w -= f->lr * (g + f->momentum * e.s[0]);
    return e;
}

/* Of g, already scaled: the two moments, as adam, adamw and lamb have them. */
DT_OPTIM_FORMULA(moments) {
    e.s[0] = f->beta1 * e.s[0] + dt_optim_mul(1.0f - f->beta1, g);
    e.s[1] = f->beta2 * e.s[1] + dt_optim_mul(1.0f - f->beta2, g * g);
    return e;
}

DT_OPTIM_FORMULA(adam) {
    g = dt_optim_mul(g, f->grad_scale);
    g += f->decay * e.w;
    e = dt_optim_moments(f, g, e);
    e.w -= f->lr * (e.s[0] * f->inv_correct1) / (sqrtf(e.s[1] * f->inv_correct2) + f->eps);
    return e;
}

DT_OPTIM_FORMULA(adamw) {
    e = dt_optim_moments(f, dt_optim_mul(g, f->grad_scale), e);
    e.w -= f->lr * f->decay * e.w;
    e.w -= f->lr * (e.s[0] * f->inv_correct1) / (sqrtf(e.s[1] * f->inv_correct2) + f->eps);
    return e;
}

/* Of the rest: adamw at a rate of its own. */
DT_OPTIM_FORMULA(muon) {
    const float lr = f->lr * f->rest_rate;
    e = dt_optim_moments(f, dt_optim_mul(g, f->grad_scale), e);
    e.w -= lr * f->decay * e.w;
    e.w -= lr * (e.s[0] * f->inv_correct1) / (sqrtf(e.s[1] * f->inv_correct2) + f->eps);
    return e;
}

/* Of a matrix, before: the velocity, and in u what is made orthogonal. */
DT_OPTIM_FORMULA(before_muon) {
    g = dt_optim_mul(g, f->grad_scale);
    e.s[0] += (1.0f - f->momentum) * (g - e.s[0]);
    e.u = f->nesterov ? e.s[0] - (1.0f - f->momentum) * (e.s[0] - g) : e.s[0];
    return e;
}

/* And after, g being of the orthogonal matrix and ratio its scale. */
DT_OPTIM_FORMULA(after_muon) {
    e.w -= f->lr * f->decay * e.w;
    e.w -= f->lr * (f->ratio * g);
    return e;
}

/* A variance that rounding may have made negative. */
DT_HOST_DEVICE static inline float dt_optim_above_0(float x) {
    return x > 0.0f ? x : 0.0f;
}

/* s: mean square, velocity, mean. */
DT_OPTIM_FORMULA(rmsprop) {
    g = dt_optim_mul(g, f->grad_scale);
    g += f->decay * e.w;
    e.s[0] = f->alpha * e.s[0] + dt_optim_mul(1.0f - f->alpha, g * g);
    e.s[2] = f->centered * (f->alpha * e.s[2] + dt_optim_mul(1.0f - f->alpha, g));
    e.s[1] = f->momentum * e.s[1] + g / (sqrtf(dt_optim_above_0(e.s[0] - e.s[2] * e.s[2])) + f->eps);
    e.w -= f->lr * e.s[1];
    return e;
}

/* The mean square starts at 1, eps stands within the root, the rate within the velocity. */
DT_OPTIM_FORMULA(rmsprop_tf) {
    g = dt_optim_mul(g, f->grad_scale);
    g += f->decay * e.w;
    e.s[0] += (1.0f - f->alpha) * (g * g - e.s[0]);
    e.s[2] = f->centered * (e.s[2] + (1.0f - f->alpha) * (g - e.s[2]));
    e.s[1] = f->momentum * e.s[1] + f->lr * g / sqrtf(dt_optim_above_0(e.s[0] - e.s[2] * e.s[2]) + f->eps);
    e.w -= e.s[1];
    return e;
}

DT_OPTIM_FORMULA(adagrad) {
    g = dt_optim_mul(g, f->grad_scale);
    g += f->decay * e.w;
    e.s[0] += g * g;
    e.w -= f->lr * g / (sqrtf(e.s[0]) + f->eps);
    return e;
}

DT_OPTIM_FORMULA(lion) {
    g = dt_optim_mul(g, f->grad_scale);
    const float u = f->beta1 * e.s[0] + dt_optim_mul(1.0f - f->beta1, g);
    e.s[0] = f->beta2 * e.s[0] + dt_optim_mul(1.0f - f->beta2, g);
    e.w -= f->lr * f->decay * e.w;
    e.w -= f->lr * (u > 0.0f ? 1.0f : u < 0.0f ? -1.0f : 0.0f);
    return e;
}

/* ---- TRUST: measure_<name> updates the state and gives the direction, <name> then moves the weight ---- */

DT_HOST_DEVICE static inline float dt_optim_lamb_direction(const dt_optim_factors *f, dt_optim_element e) {
    return (e.s[0] * f->inv_correct1) / (sqrtf(e.s[1] * f->inv_correct2) + f->eps) + f->decay * e.w;
}

DT_OPTIM_FORMULA(measure_lamb) {
    e = dt_optim_moments(f, dt_optim_mul(g, f->grad_scale), e);
    e.u = dt_optim_lamb_direction(f, e);
    return e;
}

DT_OPTIM_FORMULA(lamb) {
    (void)g;
    e.w -= f->lr * (f->ratio * dt_optim_lamb_direction(f, e));
    return e;
}

DT_OPTIM_FORMULA(measure_lars) {
    e.u = dt_optim_mul(g, f->grad_scale);
    return e;
}

DT_OPTIM_FORMULA(lars) {
    g = dt_optim_mul(g, f->grad_scale);
    e.s[0] = f->momentum * e.s[0] + f->ratio * (g + f->decay * e.w);
    e.w -= f->lr * e.s[0];
    return e;
}

/* u = g / sqrt(mean square); the ratio is the whole rate. */
DT_OPTIM_FORMULA(measure_adafactor) {
    g = dt_optim_mul(g, f->grad_scale);
    e.u = g / sqrtf(fmaxf(e.s[0], f->eps * f->eps));
    return e;
}

DT_OPTIM_FORMULA(adafactor) {
    const float u = dt_optim_measure_adafactor(f, g, e).u;
    e.w -= f->lr * f->decay * e.w;
    e.w -= f->ratio * u;
    return e;
}
#undef DT_OPTIM_FORMULA

/* How muon makes a matrix X of norm 1 orthogonal, so that all of its singular values come near 1: so many times
 * X = a X + (b A + c A A) X, A = X X^T (Newton and Schulz; coefficients of Jordan et al. 2024). */
enum { DT_MUON_STEPS = 5 };
#define DT_MUON_A   3.4445f
#define DT_MUON_B   (-4.7750f)
#define DT_MUON_C   2.0315f
#define DT_MUON_EPS 1e-7f /* the least norm */

static inline float dt_muon_scale_of(int64_t kind, int64_t rows, int64_t cols) {
    const double r = (double)rows, c = (double)cols;
    return (float)(kind == DT_MUON_ORIGINAL          ? sqrt(r > c ? r / c : 1)
                   : kind == DT_MUON_MATCH_RMS_ADAMW ? 0.2 * sqrt(r > c ? r : c)
                                                     : sqrt(r / c));
}

/* The ratio from the norms of the parameter and of what measure gave; 1 where one of them is 0, and for what
 * has no weight decay. */
DT_HOST_DEVICE static inline float dt_optim_ratio_lamb(const dt_optim_factors *f, float w_norm,
                                                       float u_norm) {
    if (f->decay == 0.0f || w_norm == 0.0f || u_norm == 0.0f) return 1.0f;
    const float r = w_norm / u_norm;
    return f->trust_clip ? fminf(r, 1.0f) : r;
}

DT_HOST_DEVICE static inline float dt_optim_ratio_lars(const dt_optim_factors *f, float w_norm,
                                                       float u_norm) {
    if (f->decay == 0.0f || w_norm == 0.0f || u_norm == 0.0f) return 1.0f;
    const float r = f->trust * w_norm / (u_norm + f->decay * w_norm + f->eps);
    return f->trust_clip ? fminf(r / f->lr, 1.0f) : r;
}

/* The rate, relative to the weights, and shorter where the update is long. */
DT_HOST_DEVICE static inline float dt_optim_ratio_adafactor(const dt_optim_factors *f, float w_norm,
                                                            float u_norm) {
    const float scale = fmaxf(f->scale_floor, w_norm * f->inv_sqrt_n), rate = fminf(f->lr, f->rate_max);
    return scale * rate / fmaxf(1.0f, u_norm * f->inv_sqrt_n / f->update_clip);
}

#endif
