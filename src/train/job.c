#include "job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A whole number of the environment; -1: none. */
static int64_t number(const char *name) {
    const char *text = getenv(name);
    if (!text || text[0] < '0' || text[0] > '9') return -1;
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' ? v : -1;
}

dt_job dt_job_here(void) {
    dt_job job = {.id = ""};
    const int64_t id = number("SLURM_JOB_ID"), array = number("SLURM_ARRAY_JOB_ID"),
                  task = number("SLURM_ARRAY_TASK_ID");
    if (id < 0) return job;
    /* As scontrol names it: the number of an array's last task is that of the whole array. */
    if (array >= 0 && task >= 0)
        snprintf(job.id, sizeof job.id, "%lld_%lld", (long long)array, (long long)task);
    else
        snprintf(job.id, sizeof job.id, "%lld", (long long)id);
    job.restart = dt_max_i64(number("SLURM_RESTART_COUNT"), 0);
    return job;
}
