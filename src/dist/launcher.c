#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/text.h"
#include "proc.h"

/* Open MPI 4's server makes two segments of 4 MiB there, when its first rank has come, and some small
 * files. */
static const uint64_t room_bytes = (8 << 20) + (128 << 10);
static const uint64_t room_files = 4;

static const char *const rank_of_launcher[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                               "SLURM_PROCID"};
enum { RANK_NAMES = sizeof rank_of_launcher / sizeof rank_of_launcher[0] };

int64_t dt_launcher_env_count(const char *name) {
    const char *text = getenv(name);
    if (text == NULL || *text == '\0') return -1;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' ? value : -1;
}

bool dt_launcher_speaks_mpi(void) {
    static const char *const mark[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK",
                                       "PMI_FD"};
    for (size_t i = 0; i < sizeof mark / sizeof mark[0]; i++)
        if (getenv(mark[i]) != NULL) return true;
    return false;
}

int64_t dt_launcher_tasks(void) {
    /* Of a step: SLURM_NTASKS is also set in a batch script, which is one process. */
    static const char *const size_name[] = {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE"};
    if (dt_launcher_env_count("DTRAIN_SINGLE") == 1) return 1;
    for (size_t i = 0; i < sizeof size_name / sizeof size_name[0]; i++) {
        const int64_t n = dt_launcher_env_count(size_name[i]);
        if (n >= 1) return n;
    }
    return 1;
}

int32_t dt_launcher_rank(void) {
    for (int i = 0; i < RANK_NAMES; i++) {
        const int64_t rank = dt_launcher_env_count(rank_of_launcher[i]);
        if (rank >= 0 && rank < INT32_MAX) return (int32_t)rank;
    }
    return 0;
}

void dt_launcher_tell_end(int code) {
    const char *path = getenv("DTRAIN_ENDS");
    const int64_t ranks_here = dt_launcher_env_count("OMPI_COMM_WORLD_LOCAL_SIZE");
    struct stat s;
    if (!path || ranks_here < 1) return;
    const int fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode))
        (void)!dprintf(fd, "%d %lld\n", code, (long long)ranks_here);
    close(fd);
}

/* Of the files in a directory and below: a rank that comes later finds what was made for an earlier one. */
static uint64_t used_bytes(const char *dir, int levels) {
    uint64_t bytes = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char path[4096];
        struct stat s;
        if (e->d_name[0] == '.' || snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >= (int)sizeof path ||
            lstat(path, &s) != 0)
            continue;
        if (S_ISREG(s.st_mode)) bytes += (uint64_t)s.st_blocks * 512;
        if (S_ISDIR(s.st_mode) && levels > 1) bytes += used_bytes(path, levels - 1);
    }
    if (d) closedir(d);
    return bytes;
}

dt_status dt_launcher_check_room(void) {
    static const char shared[] = "where the launcher and its ranks on";
    const char *dir = getenv("PMIX_SERVER_TMPDIR");
    struct statvfs fs;
    if (!dir || statvfs(dir, &fs) != 0) return DT_OK;
    const uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    char host[64] = "?";
    (void)gethostname(host, sizeof host - 1);
    if (free_bytes < room_bytes && free_bytes + used_bytes(dir, 2) < room_bytes)
        return dt_fail(DT_ERR_USAGE,
                       "%s, %s %s share data, has %s left, and MPI needs %s: for mpirun, set TMPDIR to a "
                       "directory with more",
                       dir, shared, host, dt_bytes_free_text((double)free_bytes).s,
                       dt_bytes_needed_text((double)room_bytes).s);
    if (fs.f_files > 0 && fs.f_favail < room_files)
        return dt_fail(
            DT_ERR_USAGE,
            "%s, %s %s share data, has room for %llu more files, and MPI needs %llu: for mpirun, set "
            "TMPDIR to a directory with more",
            dir, shared, host, (unsigned long long)fs.f_favail, (unsigned long long)room_files);
    return DT_OK;
}

void dt_launcher_name_stopped(char *text, size_t text_bytes) {
    enum { CHILDREN_MAX = 256 };
    static dt_proc child[CHILDREN_MAX];
    const int n = dt_proc_children(getppid(), child, CHILDREN_MAX);
    for (int i = 0; i < n; i++) {
        char rank[16] = "?";
        if ((child[i].state != 'T' && child[i].state != 't') || !dt_proc_is_this_program(child[i].pid))
            continue;
        for (int k = 0; k < RANK_NAMES; k++)
            if (dt_proc_env(child[i].pid, rank_of_launcher[k], rank, sizeof rank)) break;
        const size_t len = strlen(text);
        snprintf(text + len, text_bytes - len, "; rank %s (process %ld of this host) is stopped", rank,
                 (long)child[i].pid);
    }
}
