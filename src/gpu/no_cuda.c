/* The GPU room of a build without a CUDA toolkit: says so when asked. */
#include "candidate.h"
#include "gpu/cuda.h"

dt_status dt_backend_cuda_create(const dt_backend_options *options, dt_backend **out) {
    (void)options;
    *out = NULL;
    return dt_fail(DT_ERR_UNSUPPORTED,
                   "this dtrain was built without CUDA: rebuild it where a CUDA toolkit with cuDNN is "
                   "installed (-DDT_CUDA=ON), or set run.device = \"cpu\"");
}

int32_t dt_cuda_device_count(void) {
    return 0;
}

const dt_jpeg_device *dt_cuda_jpeg(void) {
    return NULL;
}

void dt_cuda_fail_first_list(dt_backend *be) {
    (void)be;
}

void dt_cuda_take_candidate(dt_backend *be, int32_t nth) {
    (void)be, (void)nth; /* there is no such backend */
}
