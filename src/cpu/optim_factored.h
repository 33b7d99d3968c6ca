/* Mean squares of gradients by row and column, for optimizers that are FACTORED. */
#ifndef DT_CPU_OPTIM_FACTORED_H
#define DT_CPU_OPTIM_FACTORED_H

#include "core/backend.h"

typedef struct dt_cpu_factored dt_cpu_factored;

/* NULL: no memory. */
dt_cpu_factored *dt_cpu_factored_create(const dt_axis_args *a, int32_t threads);
void dt_cpu_factored_destroy(dt_cpu_factored *f); /* accepts NULL */
/* Takes the step's gradients into the means. */
void dt_cpu_factored_update(dt_cpu_factored *f, const dt_optim_factors *step);
/* The mean squares of n elements of a segment from `at` on, an index of the axis. */
void dt_cpu_factored_estimate(const dt_cpu_factored *f, int32_t segment, int64_t at, int64_t n, float *out);
/* 1 / sqrt(elements). */
float dt_cpu_factored_inv_sqrt_n(const dt_cpu_factored *f, int32_t segment);

#endif
