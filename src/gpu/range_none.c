/* A build without NVTX: nothing names ranges. */
#include "gpu.h"

void dt_cuda_range_table(dt_backend *be) {
    (void)be;
}
