/* Stands in for NCCL where it is not built. */
#include "dist/comm.h"

bool dt_comm_nccl_built(void) {
    return false;
}

dt_status dt_comm_nccl_create(dt_comm *mpi, dt_backend *be, double timeout_s, dt_comm **out) {
    (void)mpi;
    (void)be;
    (void)timeout_s;
    *out = NULL;
    return dt_fail(
        DT_ERR_UNSUPPORTED,
        "this dtrain was built without NCCL: install libnccl-dev and build again, or reduce over MPI "
        "(dist.backend = \"mpi\")");
}
