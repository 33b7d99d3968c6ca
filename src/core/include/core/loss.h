/* Losses of a row's elements, one line each, read by C and by CUDA: DT_LOSS_LIST. Definitions are PyTorch's;
 * arithmetic is fp32. A row's loss is the mean over its elements, so PyTorch's mean over everything is the mean
 * of the rows' losses. NaN stays NaN. */
#ifndef DT_CORE_LOSS_H
#define DT_CORE_LOSS_H

#include <math.h>
#include <stdint.h>

#include "core/rng.h"

/* Of the difference d: between -p and p. */
DT_HOST_DEVICE static inline float dt_loss_clamp(float d, float p) {
    return d > p ? p : d < -p ? -p : d;
}
DT_HOST_DEVICE static inline float dt_loss_sign(float d) {
    return d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d;
}
DT_HOST_DEVICE static inline float dt_loss_huber(float d, float p) {
    return fabsf(d) <= p ? 0.5f * d * d : p * (fabsf(d) - 0.5f * p);
}
/* log(1 + exp(x)) without overflow, and its derivative. */
DT_HOST_DEVICE static inline float dt_loss_softplus(float x) {
    return (x > 0.0f ? x : x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x)));
}
DT_HOST_DEVICE static inline float dt_loss_sigmoid(float x) {
    const float e = expf(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* NAME, name, whether it has a target, loss and its derivative for an element x, its target t and p:
 * VALUE  x itself is the loss
 * HUBER  p is delta, where the square becomes a line (PyTorch's huber_loss)
 * BCE    x is a logit, t in 0..1, p the weight of t = 1 (PyTorch's binary_cross_entropy_with_logits) */
#define DT_LOSS_LIST(L)                                                                                      \
    L(VALUE, value, false, x, 1.0f)                                                                          \
    L(MSE, mse, true, (x - t) * (x - t), 2.0f * (x - t))                                                     \
    L(L1, l1, true, fabsf(x - t), dt_loss_sign(x - t))                                                       \
    L(HUBER, huber, true, dt_loss_huber(x - t, p), dt_loss_clamp(x - t, p))                                  \
    L(BCE, bce, true, p *t *dt_loss_softplus(-x) + (1.0f - t) * dt_loss_softplus(x),                         \
      (1.0f - t + p * t) * dt_loss_sigmoid(x) - p * t)

typedef enum dt_loss_kind {
#define DT_LOSS_NAME(NAME, name, target, loss, slope) DT_LOSS_##NAME,
    DT_LOSS_LIST(DT_LOSS_NAME)
#undef DT_LOSS_NAME
        DT_LOSS_COUNT
} dt_loss_kind;

DT_HOST_DEVICE static inline float dt_loss_value(int32_t kind, float x, float t, float p) {
    switch (kind) {
#define DT_LOSS_VALUE(NAME, name, target, loss, slope)                                                       \
    case DT_LOSS_##NAME:                                                                                     \
        return loss;
        DT_LOSS_LIST(DT_LOSS_VALUE)
#undef DT_LOSS_VALUE
    default:
        return x + t + p;
    }
}

DT_HOST_DEVICE static inline float dt_loss_slope(int32_t kind, float x, float t, float p) {
    switch (kind) {
#define DT_LOSS_SLOPE(NAME, name, target, loss, slope)                                                       \
    case DT_LOSS_##NAME:                                                                                     \
        return slope;
        DT_LOSS_LIST(DT_LOSS_SLOPE)
#undef DT_LOSS_SLOPE
    default:
        return x + t + p;
    }
}

/* What the target of a row of classes is made of: `own` of label's and `other` of partner's, `even` of all. */
typedef struct dt_loss_target {
    int32_t label, partner; /* -1: none */
    float own, other, even;
    float threshold; /* above 0: targets above it are 1, others 0 */
} dt_loss_target;
DT_HOST_DEVICE static inline dt_loss_target dt_loss_target_of(int32_t label, int32_t partner, float share,
                                                              float smoothing, float threshold,
                                                              int64_t n_classes) {
    dt_loss_target t = {label, -1, 1.0f - smoothing, 0.0f, smoothing / (float)n_classes, threshold};
    if (partner < 0 || share == 1.0f) return t; /* 0 times an infinite logit is NaN */
    t.partner = partner;
    t.other = t.own * (1.0f - share);
    t.own *= share;
    return t;
}
/* Of class i. */
DT_HOST_DEVICE static inline float dt_loss_target_at(const dt_loss_target *t, int64_t i) {
    float y = t->even + (i == t->label ? t->own : 0.0f);
    if (i == t->partner) y += t->other;
    return t->threshold > 0.0f ? (y > t->threshold ? 1.0f : 0.0f) : y;
}

/* What a loss adds to the task's sums, DT_LOSS_SUMS_MAX numbers of each row, means over its elements. */
typedef enum dt_loss_sums {
    DT_LOSS_SUMS_NONE = 0,
    DT_LOSS_SUMS_REGRESS, /* (x-t)^2, |x-t|, t, t^2 */
    DT_LOSS_SUMS_LABELS   /* x > 0 tells t > 1/2: right; both; one of them alone; 1 where all are right */
} dt_loss_sums;
enum { DT_LOSS_SUMS_MAX = 4 };

#ifdef __CUDACC__
typedef float dt_loss_real; /* a thread adds few */
#else
typedef double dt_loss_real;
#endif

/* Adds an element to the sums of its row. */
DT_HOST_DEVICE static inline void dt_loss_add_sums(int32_t sums, float x, float t, dt_loss_real *sum) {
    if (sums == DT_LOSS_SUMS_REGRESS) {
        const dt_loss_real d = (dt_loss_real)x - (dt_loss_real)t, y = (dt_loss_real)t;
        sum[0] += d * d;
        sum[1] += d < 0 ? -d : d;
        sum[2] += y;
        sum[3] += y * y;
    } else if (sums == DT_LOSS_SUMS_LABELS) {
        const int said = x > 0.0f, is = t > 0.5f;
        sum[0] += said == is;
        sum[1] += said && is;
        sum[2] += said != is;
    }
}

/* From sums over the n elements of a row to what the row adds. */
DT_HOST_DEVICE static inline void dt_loss_end_sums(int32_t sums, int64_t n, dt_loss_real *sum) {
    const int right = sums == DT_LOSS_SUMS_LABELS && sum[2] == 0;
    for (int i = 0; i < DT_LOSS_SUMS_MAX; i++) sum[i] /= (dt_loss_real)n;
    if (sums == DT_LOSS_SUMS_LABELS) sum[3] = right;
}

#endif
