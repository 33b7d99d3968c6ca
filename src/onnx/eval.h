/* An evaluation's insides: memory by blocks, and the values of the graphs that are being evaluated. */
#ifndef DT_ONNX_EVAL_H
#define DT_ONNX_EVAL_H

#include "onnx/op.h"

/* Zero-filled memory, its data behind it. */
typedef struct dt_eval_block {
    _Alignas(64) struct dt_eval_block *older;
    struct dt_eval_block *younger;
    int64_t bytes, age;
} dt_eval_block;

typedef struct dt_eval_plan dt_eval_plan;

/* The values of one graph while it is evaluated. */
typedef struct dt_eval_frame {
    dt_eval_plan *plan;
    dt_host_tensor *value; /* by slot; data NULL: not made yet, or done with */
    bool *owned;           /* its data are a block that is the value's alone */
    struct dt_eval_frame *outer;
} dt_eval_frame;

struct dt_onnx_eval {
    const dt_onnx_model *model;
    int64_t budget, used;
    int64_t age; /* of the youngest block */
    dt_eval_block *youngest;
    dt_eval_plan *plans;
    dt_eval_frame *frame; /* innermost */
    int32_t depth;
    int64_t steps; /* nodes that may yet be evaluated */
};

/* Whether no product of some of its dimensions overflows, nor does it times the bytes of anything: rows multiply without
 * looking. A tensor without elements may have others of any size. */
bool dt_eval_is_small(const dt_host_tensor *t);
/* Zero-filled. DT_ERR_DATA where the budget has no more, DT_ERR_MEMORY where the machine has none. */
dt_status dt_eval_take(dt_onnx_eval *e, int64_t bytes, void **out);
/* Ends a block, by its data. */
void dt_eval_give(dt_onnx_eval *e, void *data);

#endif
