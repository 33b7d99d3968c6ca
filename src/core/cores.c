/* Affinity masks, quotas and what mpirun says of itself in the environment. */
#include "core/cores.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/quota.h"

extern char **environ;

/* Cores in a process' mask; 0: unknown. */
static int64_t mask_of(pid_t pid, cpu_set_t *set) {
    CPU_ZERO(set);
    if (sched_getaffinity(pid, sizeof *set, set) != 0) return 0;
    return CPU_COUNT(set);
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

/* Whether mpirun bound this rank, and no option of its, which it hands on as these variables, named cores or
 * a mapping. */
static bool bound_unasked(void) {
    static const char *const asked[] = {"OMPI_MCA_hwloc_base_", "OMPI_MCA_rmaps_base_"};
    const char *bound = getenv("OMPI_MCA_orte_bound_at_launch");
    if (!bound || strcmp(bound, "1") != 0) return false;
    for (char **e = environ; *e; e++)
        for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
            if (strncmp(*e, asked[i], strlen(asked[i])) == 0) return false;
    return true;
}

void dt_cores_unbind(int32_t local_world) {
    cpu_set_t mine, launcher;
    if (!bound_unasked()) return;
    if (mask_of(0, &mine) * dt_max_i64(local_world, 1) >= mask_of(getppid(), &launcher)) return;
    (void)sched_setaffinity(0, sizeof launcher, &launcher); /* refused: it stays as it was */
}

int32_t dt_cores_share(int32_t local_world) {
    cpu_set_t set;
    const int64_t mine = dt_max_i64(mask_of(0, &set), 1);
    /* The launcher's mask tells the cores of the job on this host, where it is wider than ours. */
    int64_t host = cap(dt_max_i64(mine, mask_of(getppid(), &set)), env_cores("SLURM_CPUS_ON_NODE"));
    host = cap(host, dt_quota_cpus(""));
    return (int32_t)dt_max_i64(dt_min_i64(mine, host / dt_max_i64(local_world, 1)), 1);
}
