/* Steps of whole matrices, for optimizers that are MATRIX: products of fp32 matrices through cuBLASLt, and kernels of
 * axis.cu around them. */
#ifndef DT_GPU_AXIS_MUON_H
#define DT_GPU_AXIS_MUON_H

#include "gpu.h"

typedef struct dt_muon dt_muon;

/* Chooses the products of every matrix among the segments; belongs to the backend. */
dt_status dt_muon_bind(dt_cuda *cu, const dt_axis_args *a, dt_muon **out);
/* After dt_gpu_axis_update, which has begun the step. */
dt_status dt_muon_run(const dt_muon *m, const dt_axis_args *a, const dt_gpu_axis_step *step, cudaStream_t s);

#endif
