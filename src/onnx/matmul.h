/* matmul.c: products of matrices, N-D, quantized or with whole numbers, and Gemm. */
#ifndef DT_ONNX_MATMUL_H
#define DT_ONNX_MATMUL_H

#include "onnx/op.h"

dt_status dt_infer_matmul(const dt_onnx_call *c);
dt_status dt_run_matmul(const dt_onnx_call *c);
dt_status dt_infer_matmul_integer(const dt_onnx_call *c);
dt_status dt_run_matmul_integer(const dt_onnx_call *c);
dt_status dt_infer_matmul_quantized(const dt_onnx_call *c);
dt_status dt_run_matmul_quantized(const dt_onnx_call *c);
dt_status dt_infer_gemm(const dt_onnx_call *c);
dt_status dt_run_gemm(const dt_onnx_call *c);

#endif
