/* What the process takes, and what it may. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/cores.h"
#include "private.h"

static int64_t read_number(const char *path, const char *format) {
    long long n = -1;
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    if (fscanf(f, format, &n) != 1) n = -1;
    fclose(f);
    return n;
}

/* Of the process' control group, version 2 or 1; -1: none. */
static int64_t memory_limit(void) {
    char line[512], path[600];
    int64_t n = -1;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && n < 0 && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::", 3) == 0) {
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", line + 3);
            n = read_number(path, "%lld");
        }
    }
    if (f) fclose(f);
    if (n < 0) n = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", "%lld");
    return n >= (INT64_C(1) << 60) ? -1 : n;
}

dt_status dt_serve_resources_read(const dt_serve_engine *engine, dt_serve_resources *out) {
    dt_serve_engine *e = (dt_serve_engine *)(uintptr_t)engine; /* its lock */
    const dt_backend *be = e->options.be;
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    pthread_mutex_lock(&e->lock);
    const int64_t model_bytes = e->model_bytes;
    pthread_mutex_unlock(&e->lock);
    const int64_t page = sysconf(_SC_PAGESIZE);
    *out = (dt_serve_resources){
        .rss_bytes = read_number("/proc/self/statm", "%*d %lld") * page,
        .host_total_bytes = sysconf(_SC_PHYS_PAGES) * page,
        .memory_limit_bytes = memory_limit(),
        .cpu_seconds = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                       1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec),
        .cpu_limit = dt_cores_share(1),
        .device_total_bytes = be->info.is_gpu ? be->info.total_bytes : 0,
        .device_used_bytes = be->info.is_gpu ? model_bytes : 0,
        .device_utilisation = -1,
        .model_bytes = model_bytes,
    };
    return DT_OK;
}
