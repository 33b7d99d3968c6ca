/* How many threads a rank computes with.
 *
 * The ranks of a host share its cores. A launcher may have bound each rank to its own cores (then the
 * affinity mask is smaller than the launcher's own) or not (then all ranks see all cores and must divide
 * them). One pool serves everything: OpenBLAS is the OpenMP build, and both are set to the same number. */
#include "kernels.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cblas.h>

static int64_t mask_cores(pid_t pid) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(pid, sizeof set, &set) != 0) return 0;
    return CPU_COUNT(&set);
}

/* CPUs that the control group's quota allows; 0: no quota. */
static int64_t quota_cores(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return 0;
    long long quota = 0, period = 0;
    int n = fscanf(f, "%lld %lld", &quota, &period); /* "max 100000" reads 0 numbers */
    fclose(f);
    if (n != 2 || quota <= 0 || period <= 0) return 0;
    return (quota + period - 1) / period;
}

static int64_t env_cores(const char *name) {
    const char *text = getenv(name);
    if (!text) return 0;
    char *end = NULL;
    long v = strtol(text, &end, 10);
    return end != text && *end == '\0' && v > 0 ? v : 0;
}

static int64_t cap(int64_t value, int64_t limit) {
    return limit > 0 ? dt_min_i64(value, limit) : value;
}

int32_t dt_cpu_threads_share(const dt_backend_options *options) {
    int64_t mine = dt_max_i64(mask_cores(0), 1);
    /* The launcher's mask tells the cores of the job on this host, where it is wider than ours. */
    int64_t host = cap(dt_max_i64(mine, mask_cores(getppid())), env_cores("SLURM_CPUS_ON_NODE"));
    host = cap(host, quota_cores());
    return (int32_t)dt_max_i64(dt_min_i64(mine, host / dt_max_i64(options->local_world, 1)), 1);
}

int32_t dt_cpu_threads_setup(const dt_backend_options *options) {
    int32_t threads = options->threads > 0 ? options->threads : dt_cpu_threads_share(options);
    omp_set_dynamic(0);
    omp_set_max_active_levels(1);
    omp_set_num_threads(threads);
    openblas_set_num_threads(threads);
    return threads;
}
