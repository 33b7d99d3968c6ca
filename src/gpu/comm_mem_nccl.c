/* Memory fit for collectives, of a build with NCCL: ncclMemAlloc, which NCCL can register. */
#include <nccl.h>

#include "gpu.h"

dt_status dt_cuda_comm_alloc(int64_t bytes, void **out) {
    ncclResult_t r = ncclMemAlloc(out, (size_t)bytes);
    if (r == ncclSuccess) return DT_OK;
    return dt_cuda_out_of_memory(bytes, "device memory for collectives");
}

void dt_cuda_comm_free(void *ptr) {
    (void)ncclMemFree(ptr);
}
