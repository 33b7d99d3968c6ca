/* What measurements share (bench.c, profile.c). */
#ifndef DT_TRAIN_MEASURE_H
#define DT_TRAIN_MEASURE_H

#include "core/backend.h"
#include "dist/watchdog.h"
#include "train/config.h"

enum { DT_MEASURE_WINDOWS = 5 };

/* The middle of n values, which it sorts. */
double dt_measure_median(double *v, int64_t n);

/* Of a step that is measured, not learned from. */
dt_step_params dt_measure_params(const dt_config *c, int64_t step);

/* Seconds of one run. */
typedef struct dt_measured {
    double median_s, best_s;
} dt_measured;

/* One kernel over windows of `repeats`. On a device a longer row is captured and replayed,
 * as a training step does it: the host's launches are not what is measured. The watchdog may be NULL. */
dt_status dt_measure_kernel(dt_backend *be, const dt_kernel *k, int64_t repeats, dt_watchdog *watchdog,
                            dt_measured *out);

/* What a device can do at most, as its own kernels reach it on operands that no cache holds. */
typedef struct dt_device_rates {
    double bytes_per_s; /* element-wise: read and written */
    double flops_per_s; /* of a product of large matrices */
} dt_device_rates;

/* In a compute dtype that the backend has. DT_ERR_MEMORY where the operands find no room. */
dt_status dt_measure_rates(dt_backend *be, dt_dtype dtype, dt_watchdog *watchdog, dt_device_rates *out);

#endif
