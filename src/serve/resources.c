/* What the process takes, and what it may. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/cores.h"
#include "core/quota.h"
#include "nvml.h"
#include "private.h"

static int64_t read_number(const char *path, const char *format) {
    long long n = -1;
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    if (fscanf(f, format, &n) != 1) n = -1;
    fclose(f);
    return n;
}

dt_status dt_serve_resources_read(const dt_serve_engine *engine, dt_serve_resources *out) {
    dt_serve_engine *e = (dt_serve_engine *)(uintptr_t)engine; /* its lock */
    const dt_backend *be = e->options.be;
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    pthread_mutex_lock(&e->lock);
    const int64_t model_bytes = e->model_bytes;
    pthread_mutex_unlock(&e->lock);
    const int64_t limit = dt_quota_memory("");
    const int64_t page = sysconf(_SC_PAGESIZE);
    *out = (dt_serve_resources){
        .rss_bytes = read_number("/proc/self/statm", "%*d %lld") * page,
        .host_total_bytes = sysconf(_SC_PHYS_PAGES) * page,
        .memory_limit_bytes =
            limit > 0 && limit < INT64_C(1) << 60 ? limit : -1, /* version 1 says a large number for none */
        .cpu_seconds = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                       1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec),
        .cpu_limit = dt_cores_share(1),
        .device_total_bytes = be->info.is_gpu ? be->info.total_bytes : 0,
        .device_used_bytes = be->info.is_gpu ? model_bytes : 0,
        .device_utilisation = -1,
        .model_bytes = model_bytes,
    };
    if (be->info.is_gpu) (void)dt_nvml_read(be->info.bus, &out->device_utilisation, &out->device_used_bytes);
    return DT_OK;
}
