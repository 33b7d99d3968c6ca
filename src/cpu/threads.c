/* How many threads a rank computes with. */
#include "kernels.h"

#include <omp.h>

#include "core/cores.h"

int32_t dt_cpu_threads_setup(const dt_backend_options *options) {
    int32_t threads = options->threads > 0 ? options->threads : dt_cores_share(options->local_world);
    omp_set_dynamic(0);
    omp_set_max_active_levels(1);
    omp_set_num_threads(threads);
    return threads;
}
