/* An ONNX model compiled for given shapes of its inputs, and run. */
#ifndef DT_ONNX_RUN_H
#define DT_ONNX_RUN_H

#include <stdio.h>

#include "core/backend.h"
#include "onnx/op.h"

typedef struct dt_onnx_run dt_onnx_run;

/* What became of the model. */
typedef struct dt_onnx_run_info {
    int32_t n_node, n_call; /* nodes of the graph; of which the host's definitions */
    char called[200];       /* their ops, each once: "Erf, NonZero" */
    bool
        by_definition; /* nothing was compiled: shapes follow from what is computed, so the model is evaluated node by node */
    int64_t device_bytes;
} dt_onnx_run_info;

typedef struct dt_onnx_run_options {
    bool plain;  /* no fusions, and kernel by kernel */
    bool by_row; /* dt_graph.by_row; of backends that can */
    dt_dtype
        compute; /* F32, F16 or BF16: of weights and of what is computed; inputs and outputs stay as the file has them */
    /* Of the same model on the same device; outlives it. Its weights, and where it is large enough its memory for what is
     * computed, are used, as far as they are the same: then not both at a time. NULL: nobody's. */
    dt_onnx_run *share;
    FILE *tell; /* what each pass did (core/compile.h), while it is made; NULL: nobody */
} dt_onnx_run_options;

/* For these inputs, one for each of graph.in: their types and shapes count, and values from which shapes follow. `be` and
 * the model outlive it; o NULL: all of it 0. From its second run on a GPU replays it as one graph. Errors: DT_ERR_USAGE, input by
 * input; DT_ERR_UNSUPPORTED: nodes that `be` has no kernel for, or a type that it does not compute in; DT_ERR_DATA. */
dt_status dt_onnx_run_create(dt_backend *be, const dt_onnx_model *m, const dt_host_tensor *in,
                             const dt_onnx_run_options *o, dt_onnx_run **out);
void dt_onnx_run_destroy(dt_onnx_run *r); /* accepts NULL */
/* in: of the same types and shapes. DT_ERR_USAGE where values from which shapes follow are others. out: one for each of
 * graph.out, in the file's types; data is the run's until the next. */
dt_status dt_onnx_run_go(dt_onnx_run *r, const dt_host_tensor *in, dt_host_tensor *out);
/* The program once more over the inputs that it has, to its end: what it takes without the copies. Not by_definition. */
dt_status dt_onnx_run_again(dt_onnx_run *r);
const dt_onnx_run_info *dt_onnx_run_get_info(const dt_onnx_run *r);

/* A kernel of the program, as it ran. */
typedef struct dt_onnx_kernel_time {
    const char *name, *label; /* of what it makes; what it is: the run's */
    double seconds;
} dt_onnx_kernel_time;
/* The program `times` times over the inputs that it has, each kernel by itself: mean times, [*n] in the order in which they run,
 * the caller's to free. *n is 0 where it is by_definition. */
dt_status dt_onnx_run_profile(dt_onnx_run *r, int64_t times, dt_onnx_kernel_time **out, int32_t *n);

#endif
