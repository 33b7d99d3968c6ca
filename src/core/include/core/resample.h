/* Which pixels of an image make a pixel of it in another size, along one side, read by C and by CUDA: PyTorch's
 * interpolate (nearest, bilinear with align_corners or without, bicubic) and adaptive pools. */
#ifndef DT_CORE_RESAMPLE_H
#define DT_CORE_RESAMPLE_H

#include "core/graph.h"
#include "core/scalar.h"

/* One side: of `from` pixels to `to`. */
typedef struct dt_resample_side {
    dt_resample_mode mode;
    int32_t from, to;
} dt_resample_side;

/* Pixels first to last - 1. */
typedef struct dt_resample_span {
    int32_t first, last;
} dt_resample_span;

/* Where target pixel o lies among the sources; of bicubic it may be before the first. */
DT_SCALAR float dt_resample_place(const dt_resample_side *s, int32_t o) {
    float at;
    if (s->mode == DT_RESAMPLE_ALIGNED)
        return s->to > 1 ? (float)(s->from - 1) / (float)(s->to - 1) * (float)o : 0.0f;
    if (s->mode == DT_RESAMPLE_NEAREST) return (float)s->from / (float)s->to * (float)o;
    at = (float)s->from / (float)s->to * ((float)o + 0.5f) - 0.5f;
    return at < 0.0f && s->mode != DT_RESAMPLE_BICUBIC ? 0.0f : at;
}

/* Of PyTorch's cubic convolution, a = -0.75, at distance d. */
DT_SCALAR float dt_resample_cubic(float d) {
    const float a = -0.75f, x = d < 0.0f ? -d : d;
    if (x <= 1.0f) return ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
    return x < 2.0f ? ((a * x - 5.0f * a) * x + 8.0f * a) * x - 4.0f * a : 0.0f;
}

/* The first of the four sources of a bicubic target; those beyond the image are its edge. */
DT_SCALAR int32_t dt_resample_cubic_first(float at) {
    return (int32_t)(at + 1.0f) - 2; /* floor(at) - 1: at is above -1 */
}

DT_SCALAR float dt_resample_cubic_weight(const dt_resample_side *s, int32_t o, int32_t i) {
    const float at = dt_resample_place(s, o);
    const int32_t first = dt_resample_cubic_first(at);
    float sum = 0.0f;
    int32_t k, j;
    for (k = first; k < first + 4; k++) {
        j = k < 0 ? 0 : k < s->from ? k : s->from - 1;
        if (j == i) sum += dt_resample_cubic(at - (float)k);
    }
    return sum;
}

/* The part of source pixel i in target pixel o. */
DT_SCALAR float dt_resample_weight(const dt_resample_side *s, int32_t o, int32_t i) {
    float at, l;
    int32_t low, high;
    if (s->mode == DT_RESAMPLE_MEAN) {
        low = (int32_t)((int64_t)o * s->from / s->to);
        high = (int32_t)((((int64_t)o + 1) * s->from + s->to - 1) / s->to);
        return i >= low && i < high ? 1.0f / (float)(high - low) : 0.0f;
    }
    if (s->mode == DT_RESAMPLE_BICUBIC) return dt_resample_cubic_weight(s, o, i);
    at = dt_resample_place(s, o);
    low = (int32_t)at < s->from - 1 ? (int32_t)at : s->from - 1;
    if (s->mode == DT_RESAMPLE_NEAREST) return i == low ? 1.0f : 0.0f;
    high = low < s->from - 1 ? low + 1 : low;
    l = at - (float)low;
    return (i == low ? 1.0f - l : 0.0f) + (i == high ? l : 0.0f);
}

/* The sources of target pixel o. */
DT_SCALAR dt_resample_span dt_resample_sources(const dt_resample_side *s, int32_t o) {
    dt_resample_span p;
    if (s->mode == DT_RESAMPLE_MEAN) {
        p.first = (int32_t)((int64_t)o * s->from / s->to);
        p.last = (int32_t)((((int64_t)o + 1) * s->from + s->to - 1) / s->to);
        return p;
    }
    if (s->mode == DT_RESAMPLE_BICUBIC) {
        p.first = dt_resample_cubic_first(dt_resample_place(s, o));
        p.last = p.first + 4 < 1 ? 1 : p.first + 4 < s->from ? p.first + 4 : s->from;
        p.first = p.first < 0 ? 0 : p.first < s->from ? p.first : s->from - 1;
        return p;
    }
    p.first = (int32_t)dt_resample_place(s, o);
    if (p.first > s->from - 1) p.first = s->from - 1;
    p.last = p.first + (s->mode == DT_RESAMPLE_NEAREST ? 1 : 2);
    if (p.last > s->from) p.last = s->from;
    return p;
}

/* All targets of source pixel i, and some whose weight is 0. */
DT_SCALAR dt_resample_span dt_resample_targets(const dt_resample_side *s, int32_t i) {
    const int64_t pixels = s->mode == DT_RESAMPLE_ALIGNED ? s->to - 1 : s->to,
                  of = s->mode == DT_RESAMPLE_ALIGNED ? (s->from > 1 ? s->from - 1 : 1) : s->from;
    const int64_t reach = s->mode == DT_RESAMPLE_BICUBIC ? 2 : 1,
                  first = ((int64_t)i - reach) * pixels / of - 2,
                  last = ((int64_t)i + 1 + reach) * pixels / of + 3;
    dt_resample_span p;
    p.first = i == 0 || first < 0 ? 0 : (int32_t)first;
    p.last = i == s->from - 1 || last > s->to ? s->to : (int32_t)last;
    return p;
}

#endif
