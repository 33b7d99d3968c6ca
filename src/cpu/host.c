/* What the host offers: processor name and memory. */
#include "kernels.h"

#include <stdio.h>
#include <string.h>

/* Number after "key" at the beginning of a line; 0 if absent. */
static int64_t line_number(const char *path, const char *key) {
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    char line[256];
    long long value = 0;
    size_t n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && sscanf(line + n, " %lld", &value) == 1) break;
    fclose(f);
    return value;
}

static int64_t meminfo_kib(const char *key) {
    return line_number("/proc/meminfo", key);
}

/* A control group's number; INT64_MAX for "max" or where there is none. */
static int64_t cgroup_bytes(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) return INT64_MAX;
    long long v = 0;
    int n = fscanf(f, "%lld", &v);
    fclose(f);
    return n == 1 && v >= 0 ? v : INT64_MAX;
}

static void cpu_name(char *out, size_t size) {
    snprintf(out, size, "cpu");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0) continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    fclose(f);
}

void dt_cpu_host_info(dt_device_info *out) {
    memset(out, 0, sizeof *out);
    cpu_name(out->name, sizeof out->name);
    int64_t limit = cgroup_bytes("/sys/fs/cgroup/memory.max"), used = 0;
    if (limit != INT64_MAX) {
        /* What the kernel gives back when it is needed, the cache of files above all, counts as used
         * there. */
        static const char *const given_back[] = {"inactive_file ", "active_file ", "slab_reclaimable "};
        used = cgroup_bytes("/sys/fs/cgroup/memory.current");
        for (int i = 0; i < 3; i++) used -= line_number("/sys/fs/cgroup/memory.stat", given_back[i]);
        used = dt_max_i64(used, 0);
    }
    out->total_bytes = dt_min_i64(meminfo_kib("MemTotal:") * 1024, limit);
    out->free_bytes = dt_min_i64(meminfo_kib("MemAvailable:") * 1024, dt_max_i64(limit - used, 0));
}
