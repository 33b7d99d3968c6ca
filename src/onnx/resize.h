/* resize.c: Resize and Upsample, by any factor along any axes. */
#ifndef DT_ONNX_RESIZE_H
#define DT_ONNX_RESIZE_H

#include "onnx/op.h"

dt_status dt_infer_resize(const dt_onnx_call *c);
dt_status dt_run_resize(const dt_onnx_call *c);
dt_status dt_infer_upsample(const dt_onnx_call *c);
dt_status dt_run_upsample(const dt_onnx_call *c);

#endif
