/* Where the time of a training step goes: per kernel, layer or op, and over time as a trace. */
#ifndef DT_TRAIN_PROFILE_H
#define DT_TRAIN_PROFILE_H

#include <stdio.h>

#include "core/trace.h"
#include "dist/comm.h"
#include "dist/watchdog.h"
#include "train/config.h"
#include "train/engine.h"
#include "train/sink.h"

/* Parts of a step. */
typedef enum dt_profile_phase {
    DT_PROFILE_FORWARD = 0,
    DT_PROFILE_BACKWARD,
    DT_PROFILE_UPDATE, /* kernels of the parameter axis: accumulation, gradient norm, optimizer, averages */
    DT_PROFILE_PHASES
} dt_profile_phase;

/* What a row of the table stands for. */
typedef enum dt_profile_by { DT_PROFILE_BY_NODE = 0, DT_PROFILE_BY_LAYER, DT_PROFILE_BY_OP } dt_profile_by;

/* Of a step of this rank, all its micro-batches together. */
typedef struct dt_profile_row {
    char name[DT_NAME_MAX];  /* of the node, layer or op */
    char layer[DT_NAME_MAX]; /* that the node belongs to; BY_OP: "" */
    char op[32];             /* BY_LAYER: "" */
    char label[96]; /* of the kernel: "conv 3x3/1 64->64 [winograd]"; "" in other tables than BY_NODE's */
    int32_t n_call;
    double phase_s[DT_PROFILE_PHASES]; /* seconds by phase: of a node one is not 0 */
    double seconds;                    /* their sum */
    double bytes, flops;               /* at least moved; done; 0: not known */
} dt_profile_row;

typedef struct dt_profile {
    char model[64], device[128], dtype[8];
    int32_t rank, world;
    int64_t global_batch, n_micro, rows;          /* of this rank: micro-batches of a step, samples of each */
    int64_t n_step;                               /* measured, of each kind */
    double copy_bytes_per_s, product_flops_per_s; /* what the device gives; 0: there was no room to ask */
    double step_s;                     /* a step without profiling; medians, like all that follows */
    double wait_s;                     /* of it, waiting for data */
    double profiled_step_s;            /* a step whose kernels were timed one by one */
    double kernel_s;                   /* all kernels of a profiled step */
    double phase_s[DT_PROFILE_PHASES]; /* of these, by phase; medians of sums, where rows are medians each */
    double exchange_s; /* of a profiled step, from the last kernel of backward to the first of the update */
    double gap_s;      /* of a profiled step, between kernels otherwise */
    dt_profile_by by;
    int32_t n_row;
    dt_profile_row *row; /* by time, the longest first; owned */
} dt_profile;

/* One whole training step, collective where ranks are several: begins it, feeds and runs its micro-batches,
 * ends it and takes the results that are due. *wait_s: seconds that it waited for data. */
typedef dt_status dt_profile_step(void *arg, int64_t step, double *wait_s);

typedef struct dt_profile_options {
    int64_t steps;         /* measured without profiling, and again with it; at least 1 */
    dt_profile_step *step; /* run dt_profile_n_steps times, step counting from 0 */
    void *arg;
    dt_trace *trace;       /* gets streams, and what attached threads do in the profiled steps; NULL: none */
    dt_watchdog *watchdog; /* may be NULL */
} dt_profile_options;

/* Steps that dt_profile_engine runs. */
int64_t dt_profile_n_steps(int64_t steps);
/* Profiles a training engine: trains it with a learning rate of the caller's. Leaves it as it was but for
 * that. `out` by node; release it with dt_profile_free also after an error. */
dt_status dt_profile_engine(dt_engine *e, const dt_profile_options *o, dt_profile *out);
/* The rows of `p`, which is by node, put together. */
dt_status dt_profile_group(const dt_profile *p, dt_profile_by by, dt_profile *out);
void dt_profile_free(dt_profile *p);

/* The table for people; the same as one JSON object. */
void dt_profile_print(const dt_profile *p, FILE *out);
void dt_profile_print_json(const dt_profile *p, FILE *out);

/* `dtrain profile`. */
typedef struct dt_profile_request {
    int64_t steps;
    dt_profile_by by;
    const char *trace, *json; /* files to write; NULL: not */
    FILE *out;                /* rank 0 prints the table there */
    const dt_sink *sink;      /* hears notes about the data; NULL: nobody */
} dt_profile_request;
/* Profiles training as configured, with its loader; nothing is saved. Collective. Files that cannot be
 * written are DT_ERR_IO, before anything is measured as far as that can be told. */
dt_status dt_profile_run(const dt_config *c, dt_comm *mpi, const dt_profile_request *r);

#endif
