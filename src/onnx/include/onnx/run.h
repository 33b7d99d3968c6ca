/* An ONNX model compiled for given shapes of its inputs, and run. */
#ifndef DT_ONNX_RUN_H
#define DT_ONNX_RUN_H

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

/* For these inputs, one for each of graph.in: their types and shapes count, and values from which shapes follow. `be` and
 * the model outlive it. plain: no fusions. Errors: DT_ERR_USAGE, input by input; DT_ERR_UNSUPPORTED: nodes that `be` has no
 * kernel for; DT_ERR_DATA. */
dt_status dt_onnx_run_create(dt_backend *be, const dt_onnx_model *m, const dt_host_tensor *in, bool plain,
                             dt_onnx_run **out);
void dt_onnx_run_destroy(dt_onnx_run *r); /* accepts NULL */
/* in: of the same types and shapes. DT_ERR_USAGE where values from which shapes follow are others. out: one for each of
 * graph.out, in the file's types; data is the run's until the next. */
dt_status dt_onnx_run_go(dt_onnx_run *r, const dt_host_tensor *in, dt_host_tensor *out);
const dt_onnx_run_info *dt_onnx_run_get_info(const dt_onnx_run *r);

#endif
