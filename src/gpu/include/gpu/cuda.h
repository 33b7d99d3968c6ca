/* The CUDA backend; in a build without CUDA it is there, and says so. */
#ifndef DT_GPU_CUDA_H
#define DT_GPU_CUDA_H

#include "data/jpeg_device.h"

/* Fails with DT_ERR_UNSUPPORTED ("built without CUDA") or DT_ERR_DEVICE (no driver, no GPU). */
dt_status dt_backend_cuda_create(const dt_backend_options *options, dt_backend **out);
/* Number of usable GPUs; 0 without a driver, without a GPU, or in a build without CUDA. Never fails. */
int32_t dt_cuda_device_count(void);
/* JPEG decoded by the GPU; NULL where the build has no nvJPEG. */
const dt_jpeg_device *dt_cuda_jpeg(void);

#endif
