/* A run is a compilation: from the forward graph of a model to a program, once. Training, evaluation and
 * inspection all go through the same table of passes. */
#ifndef DT_CORE_COMPILE_H
#define DT_CORE_COMPILE_H

#include <stdio.h>

#include "core/axis.h"
#include "core/optim_group.h"
#include "core/pass.h"
#include "core/program.h"

/* How parameters are laid on a new axis (core/axis.h). */
typedef struct dt_axis_options {
    int32_t n_bucket;
    float weight_decay;
    bool decay_all;
    const dt_optim_groups *groups; /* NULL: none */
    bool made;                     /* it is there: of the same network for another size of input */
} dt_axis_options;

typedef struct dt_compile_options {
    dt_backend *be;
    bool fuse; /* passes that only make it faster */
    int64_t rows,
        rows_all; /* batch statistics are those of all ranks: rows of this one's and of all's micro-step;
                                rows_all 0: each rank has its own */
    dt_recompute recompute;  /* of a training graph */
    double *recompute_flops; /* out, what that costs a run of the graph; NULL: not told */
    dt_axis_options axis;    /* of a training graph */
    /* Asked before the device is: may refuse a graph that can never fit. NULL: nobody. */
    dt_status (*check)(void *arg, dt_graph *g);
    void *arg;
    FILE *tell; /* what each pass did, for people; NULL: nobody */
} dt_compile_options;

/* Compiles g, which it takes in any case. A training graph is differentiated and laid on a new axis, *axis, unless that is made;
 * an evaluation graph of the same model is laid on that one, and one with *axis NULL
 * is of constants (core/axis.h: dt_axis_build_frozen). The program is prepared, without memory
 * (dt_program_bind). With out NULL only the axis is made, for runs that evaluate alone. */
dt_status dt_compile(dt_graph *g, const dt_compile_options *o, dt_axis **axis, dt_program **out);

#endif
