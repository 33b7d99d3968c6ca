/* Memory fit for collectives, of a build without NCCL: plain device memory. */
#include "gpu.h"

dt_status dt_cuda_comm_alloc(int64_t bytes, void **out) {
    if (cudaMalloc(out, (size_t)bytes) == cudaSuccess) return DT_OK;
    return dt_cuda_out_of_memory(bytes, "device memory for collectives");
}

void dt_cuda_comm_free(void *ptr) {
    (void)cudaFree(ptr);
}
