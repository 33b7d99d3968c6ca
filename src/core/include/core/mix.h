/* What a row of a batch of images becomes after normalising: a rectangle erased, another row mixed in. Rows travel
 * beside the images as DT_MIX_INTS i32, of which these are the fields. */
#ifndef DT_CORE_MIX_H
#define DT_CORE_MIX_H

#include <math.h>
#include <stdint.h>

#include "core/rng.h"

/* Rows and columns [y0, y1), [x0, x1); empty where all are 0. */
typedef struct dt_box {
    int32_t y0, x0, y1, x1;
} dt_box;

typedef struct dt_mix {
    int32_t partner; /* the row that is mixed in, which is erased by its own box first */
    float share;     /* of the row's own pixels outside of `box`; the partner has the rest. 1: they stay */
    dt_box box;      /* pixels that are the partner's alone */
    dt_box erase;    /* pixels that become 0, or noise */
    int32_t noise;
    uint32_t
        key[2]; /* of the noise: low, high; counter: (row, column), four normal numbers for the channels */
    int32_t unused[3];
} dt_mix;

enum { DT_MIX_INTS = sizeof(dt_mix) / sizeof(int32_t), DT_MIX_CHANNELS = 16 /* padded, at most */ };

DT_HOST_DEVICE static inline int dt_box_holds(const dt_box *b, int64_t y, int64_t x) {
    return y >= b->y0 && y < b->y1 && x >= b->x0 && x < b->x1;
}

/* The normal number of channel c < 4: Box and Muller's pairs. */
DT_HOST_DEVICE static inline float dt_mix_noise(const uint32_t key[2], int64_t y, int64_t x, int32_t c) {
    const dt_u32x4 w = dt_philox((uint64_t)key[1] << 32 | key[0], (uint64_t)y, (uint64_t)x);
    const float u = ((float)(w.v[c / 2 * 2] >> 8) + 1.0f) * (1.0f / 16777216.0f); /* above 0 */
    const float radius = sqrtf(-2.0f * logf(u)), turn = 6.28318530717958647692f * dt_u01(w.v[c / 2 * 2 + 1]);
    return radius * (c % 2 ? sinf(turn) : cosf(turn));
}

#endif
