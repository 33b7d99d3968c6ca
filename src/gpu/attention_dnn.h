/* Attention of 16-bit types through cuDNN's fused kernels, where they are faster than attention_mma.cu: timed once per shape
 * on scratch memory, the choice kept by the backend and remembered in the algorithm cache. Not under train.deterministic:
 * cuDNN adds up dq in the order in which its blocks end. */
#ifndef DT_GPU_ATTENTION_DNN_H
#define DT_GPU_ATTENTION_DNN_H

#include "cudnn_graph.h"
#include "gpu.h"
#include "kernels.h"

/* For a node of ATTENTION, or of its gradient, without lengths and documents; *out NULL: ours is faster, or cuDNN's does not
 * take it. */
dt_status dt_attention_plan_choose(dt_cuda *cu, dt_dtype t, const dt_attention_dims *a, bool backward,
                                   const dt_attention_plan **out);
int64_t dt_attention_plan_bytes(const dt_attention_plan *p); /* of workspace */
/* The pointers of a node, for its runs; desc is released by the caller. workspace: 256-aligned. */
dt_status dt_attention_plan_bind(const dt_attention_plan *p, const dt_gpu_attention_args *a, void *workspace,
                                 dt_dnn_builder *desc, cudnnBackendDescriptor_t *pack);
cudnnBackendDescriptor_t dt_attention_plan_of(const dt_attention_plan *p);

#endif
