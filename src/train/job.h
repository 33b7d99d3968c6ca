/* What the scheduler says of the job that this process belongs to, from its environment. */
#ifndef DT_TRAIN_JOB_H
#define DT_TRAIN_JOB_H

#include "core/types.h"

enum { DT_JOB_ID_MAX = 48 };

typedef struct dt_job {
    char id[DT_JOB_ID_MAX]; /* Slurm's number, "123_4" for a task of an array; "": no job */
    int64_t restart;        /* how often the job was put back into the queue; 0: this is its first start */
} dt_job;

dt_job dt_job_here(void);

#endif
