/* How many threads a rank computes with. OpenBLAS gets one: dense.c cuts its products, so that results do not
 * depend on the number of threads. */
#include "kernels.h"

#include <omp.h>

#include <cblas.h>

#include "core/cores.h"

int32_t dt_cpu_threads_setup(const dt_backend_options *options) {
    int32_t threads = options->threads > 0 ? options->threads : dt_cores_share(options->local_world);
    omp_set_dynamic(0);
    omp_set_max_active_levels(1);
    openblas_set_num_threads(1); /* before OpenMP's: the OpenMP build sets that too */
    omp_set_num_threads(threads);
    return threads;
}
