/* Sums of fp16 and bf16 buffers as MPI operations. */
#include "comm_mpi_internal.h"
#include "core/half.h"

void dt_mpi_sum_f16(void *in, void *inout, int *n, MPI_Datatype *type) {
    (void)type;
    const uint16_t *a = in;
    uint16_t *b = inout;
    for (int i = 0; i < *n; i++) b[i] = dt_f32_to_f16(dt_f16_to_f32(a[i]) + dt_f16_to_f32(b[i]));
}

void dt_mpi_sum_bf16(void *in, void *inout, int *n, MPI_Datatype *type) {
    (void)type;
    const uint16_t *a = in;
    uint16_t *b = inout;
    for (int i = 0; i < *n; i++) b[i] = dt_f32_to_bf16(dt_bf16_to_f32(a[i]) + dt_bf16_to_f32(b[i]));
}
