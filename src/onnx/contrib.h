/* contrib.c: ops of the domain com.microsoft, which files have that ONNX Runtime has optimised or quantised. */
#ifndef DT_ONNX_CONTRIB_H
#define DT_ONNX_CONTRIB_H

#include "onnx/op.h"

/* QLinearAdd, QLinearMul. */
dt_status dt_infer_quantized_pair(const dt_onnx_call *c);
dt_status dt_run_quantized_pair(const dt_onnx_call *c);
dt_status dt_infer_quantized_average(const dt_onnx_call *c);
dt_status dt_run_quantized_average(const dt_onnx_call *c);
dt_status dt_infer_quantized_gemm(const dt_onnx_call *c);
dt_status dt_run_quantized_gemm(const dt_onnx_call *c);
/* MatMulIntegerToFloat, DynamicQuantizeMatMul. */
dt_status dt_infer_matmul_to_float(const dt_onnx_call *c);
dt_status dt_run_matmul_to_float(const dt_onnx_call *c);
dt_status dt_infer_matmul_bits(const dt_onnx_call *c);
dt_status dt_run_matmul_bits(const dt_onnx_call *c);
dt_status dt_infer_conv_fused(const dt_onnx_call *c);
dt_status dt_run_conv_fused(const dt_onnx_call *c);
/* SkipLayerNormalization, SkipSimplifiedLayerNormalization. */
dt_status dt_infer_skip_norm(const dt_onnx_call *c);
dt_status dt_run_skip_norm(const dt_onnx_call *c);
/* Gelu, BiasGelu, FastGelu, QuickGelu. */
dt_status dt_infer_gelu(const dt_onnx_call *c);
dt_status dt_run_gelu(const dt_onnx_call *c);

#endif
