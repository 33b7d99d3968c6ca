/* conv.c: convolutions of every kind, as products of matrices. */
#ifndef DT_ONNX_CONV_H
#define DT_ONNX_CONV_H

#include "onnx/op.h"

dt_status dt_infer_conv(const dt_onnx_call *c);
dt_status dt_run_conv(const dt_onnx_call *c);
dt_status dt_infer_conv_integer(const dt_onnx_call *c);
dt_status dt_run_conv_integer(const dt_onnx_call *c);
dt_status dt_infer_conv_quantized(const dt_onnx_call *c);
dt_status dt_run_conv_quantized(const dt_onnx_call *c);
dt_status dt_infer_conv_transpose(const dt_onnx_call *c);
dt_status dt_run_conv_transpose(const dt_onnx_call *c);
dt_status dt_infer_conv_deform(const dt_onnx_call *c);
dt_status dt_run_conv_deform(const dt_onnx_call *c);

#endif
