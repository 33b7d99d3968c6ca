/* Names of ranges for Nsight Systems and its like, through NVTX, whose headers are all of it. */
#include <nvtx3/nvToolsExt.h>

#include "gpu.h"

static void range_begin(dt_backend *be, const char *name) {
    (void)be;
    nvtxRangePushA(name);
}

static void range_end(dt_backend *be) {
    (void)be;
    nvtxRangePop();
}

void dt_cuda_range_table(dt_backend *be) {
    be->range_begin = range_begin;
    be->range_end = range_end;
}
