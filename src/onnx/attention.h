/* attention.c: Attention with its caches and masks, and the rotation of positions. */
#ifndef DT_ONNX_ATTENTION_H
#define DT_ONNX_ATTENTION_H

#include "onnx/op.h"

dt_status dt_infer_attention(const dt_onnx_call *c);
dt_status dt_run_attention(const dt_onnx_call *c);
dt_status dt_infer_rotary(const dt_onnx_call *c);
dt_status dt_run_rotary(const dt_onnx_call *c);

#endif
