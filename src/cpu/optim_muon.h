/* Steps of whole matrices, for optimizers that are MATRIX. */
#ifndef DT_CPU_OPTIM_MUON_H
#define DT_CPU_OPTIM_MUON_H

#include "core/backend.h"

typedef struct dt_cpu_muon dt_cpu_muon;

/* NULL: no memory. */
dt_cpu_muon *dt_cpu_muon_create(const dt_axis_args *a, int32_t threads);
void dt_cpu_muon_destroy(dt_cpu_muon *m); /* accepts NULL */
/* Velocity, weights and averages of every such matrix; the rest of the axis is not touched. */
void dt_cpu_muon_update(dt_cpu_muon *m, const dt_optim_factors *step);

#endif
