/* What changes from step to step: one small struct that kernels read, on the device for a GPU. */
#ifndef DT_CORE_STEP_H
#define DT_CORE_STEP_H

#include <stddef.h>
#include <stdint.h>

typedef struct dt_step_params {
    float lr;            /* learning rate of this step */
    float loss_weight;   /* weight of one sample in the loss: 1 / global batch; its rows share it */
    float ema_decay;     /* weight of the old average; 0: no EMA this step */
    int32_t first_micro; /* 1: accumulation overwrites; 0: adds */
    uint64_t seed;       /* run seed: key of dropout */
    uint64_t step;       /* global step, from 0 */
    uint64_t micro;      /* index of this micro-batch in the global batch */
    /* Below: the device's own. The host writes them once; DT_AXIS_SCALE changes them, UPDATE counts. */
    float loss_scale;   /* gradients in GRAD are multiplied by it; the optimizer divides */
    int32_t good_steps; /* updates since the scale last changed */
    int64_t updates;    /* that were not skipped: Adam's t is one more */
} dt_step_params;

/* What the host sends before each micro-step. */
#define DT_STEP_HOST_BYTES ((int64_t)offsetof(dt_step_params, loss_scale))

enum { DT_TASK_SUMS_MAX = 8, DT_LOSSES_MAX = 8 };

/* Sums over the rows of a step (all its micro-batches), filled by the loss ops and the optimizer.
 * Order matters: the first DT_METRIC_SUMMED entries are summed over ranks. */
typedef enum dt_metric {
    DT_METRIC_LOSS = 0, /* sum of the losses of rows, each loss by its weight */
    DT_METRIC_SAMPLES,  /* rows that count: those with a target, of several losses the first's. Of a loss
                                        of places in samples these are rows: tokens */
    DT_METRIC_TASK,     /* the task's own sums, DT_TASK_SUMS_MAX of them */
    DT_METRIC_TOP1 = DT_METRIC_TASK, /* classify: rows whose first class is right */
    DT_METRIC_TOP5,
    /* of several losses: sum and rows of each, without its weight */
    DT_METRIC_LOSSES = DT_METRIC_TASK + DT_TASK_SUMS_MAX,
    DT_METRIC_STOP = DT_METRIC_LOSSES + 2 * DT_LOSSES_MAX, /* > 0: a rank asks to stop (signal) */
    DT_METRIC_SAVE,                                        /* > 0: rank 0's clock asks for a checkpoint */
    DT_METRIC_SUMMED,
    DT_METRIC_GRAD_NORM = DT_METRIC_SUMMED, /* global L2 norm of the averaged gradient, before clipping */
    DT_METRIC_SKIPPED,    /* 1: the update was skipped because the gradient was not finite */
    DT_METRIC_LOSS_SCALE, /* dynamic loss scale after the step */
    DT_METRIC_GOOD_STEPS,
    DT_METRIC_COUNT
} dt_metric;

#endif
