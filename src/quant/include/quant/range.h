/* What a tensor's numbers were over a calibration, and the range that 8 bits shall stand for. */
#ifndef DT_QUANT_RANGE_H
#define DT_QUANT_RANGE_H

#include "core/status.h"

typedef enum dt_range_method {
    DT_RANGE_MINMAX,     /* all numbers that were seen */
    DT_RANGE_PERCENTILE, /* 99.99 % of them on either side */
    DT_RANGE_ENTROPY,    /* that of the least Kullback-Leibler divergence */
    DT_RANGE_METHODS
} dt_range_method;
extern const char *const dt_range_method_names[DT_RANGE_METHODS];

enum { DT_RANGE_BINS = 2048 }; /* of each sign */

/* Counts in bins of one width from -limit to limit; limit, a power of two, doubles when a number lies beyond it, so that
 * one pass is enough and the order of the numbers within a batch is of no account. */
typedef struct dt_histogram {
    double limit; /* 0: nothing but zeros so far */
    double low, high;
    int64_t n,
        n_zero; /* numbers in all; of which exact zeros, which are in no bin: 8 bits have them exactly */
    int64_t negative[DT_RANGE_BINS], positive[DT_RANGE_BINS]; /* by magnitude */
} dt_histogram;

/* DT_ERR_NONFINITE where one is not finite; the histogram is then of no use. */
dt_status dt_histogram_add(dt_histogram *h, int64_t n, const float *x);
/* The range, zero within: *low <= 0 <= *high. Nothing seen, or zeros alone: 0 and 0. */
void dt_histogram_range(const dt_histogram *h, dt_range_method method, float *low, float *high);
/* How many of the first bins are kept when `levels` numbers are to stand for them: at least `levels`, all where the
 * rest is empty. */
int32_t dt_entropy_bins(int32_t n, const double *count, int32_t levels);

#endif
