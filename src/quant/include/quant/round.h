/* Numbers to few bits. */
#ifndef DT_QUANT_ROUND_H
#define DT_QUANT_ROUND_H

#include "core/status.h"

/* u8 = clamp(round(x / scale) + zero, 0, 255); zero stands for 0 exactly. */
typedef struct dt_quant_u8 {
    float scale; /* above 0, also of a range of nothing */
    uint8_t zero;
} dt_quant_u8;
dt_quant_u8 dt_quant_u8_of(float low, float high); /* low <= 0 <= high */

/* Weights [outer, n_channel, inner], a scale for each channel: -127 to 127 times the scale. A channel of zeros has scale 1.
 * least: NULL, or the smallest scale that each channel may have. */
void dt_quant_i8(int64_t outer, int64_t n_channel, int64_t inner, const float *w, const float *least,
                 int8_t *out, float *scale);
/* A bias in units of unit[i] (input's scale times weight's). */
void dt_quant_i32(int64_t n, const float *bias, const double *unit, int32_t *out);
/* The smallest scale of a channel's weights with which its bias fits, with room to add to. */
float dt_quant_least_scale(float bias, float input_scale);

enum { DT_QUANT_BLOCK = 32 };
/* 32 numbers as 4 bits, (q - 8) * scale, q 0 to 15; scale, one that f16 has, is that of the least squared error among a
 * few. */
float dt_quant_i4(const float *x, uint8_t q[DT_QUANT_BLOCK]);

/* Rounds a matrix w [k, n] row by row, so that what rounding one row does wrong is made good in the rows after it as far
 * as the inputs go together: h [k, k], the sum of x x^T over inputs x, is used up. round(arg, row, x): sets x [n] to what
 * the row becomes. DT_ERR_MEMORY. */
typedef void dt_quant_round_fn(void *arg, int64_t row, float *x);
/* Told before the rows of a block of `DT_QUANT_BLOCK`, as they stand then: w + row * n. */
typedef void dt_quant_block_fn(void *arg, int64_t row, const float *x);
dt_status dt_quant_compensate(int64_t k, int64_t n, float *w, double *h, dt_quant_block_fn *block,
                              dt_quant_round_fn *round, void *arg);

#endif
