/* What families of ops check alike, and tensors as doubles while a node runs. */
#ifndef DT_ONNX_NUMBERS_H
#define DT_ONNX_NUMBERS_H

#include "onnx/op.h"

#define DT_HOST_BYTES (DT_HOST_IS(DT_TENSOR_I8) | DT_HOST_IS(DT_TENSOR_U8))
#define DT_HOST_WIDE                                                                                         \
    (DT_HOST_IS(DT_TENSOR_I32) | DT_HOST_IS(DT_TENSOR_U32) | DT_HOST_IS(DT_TENSOR_I64) |                     \
     DT_HOST_IS(DT_TENSOR_U64))

/* Input i is of these types, and inputs (i, last], where they are there, of the same as it. */
dt_status dt_onnx_expect_all(const dt_onnx_call *c, int32_t i, int32_t last, uint32_t types);
/* Inputs i and j, where both are there, have the same type. */
dt_status dt_onnx_same_type(const dt_onnx_call *c, int32_t i, int32_t j);
/* Input i has lo to hi dimensions. */
dt_status dt_onnx_rank(const dt_onnx_call *c, int32_t i, int32_t lo, int32_t hi);
/* Input i is absent or has exactly this shape. */
dt_status dt_onnx_shape_of(const dt_onnx_call *c, int32_t i, int32_t ndim, const int64_t *dim);
/* Input i is absent or one number. */
dt_status dt_onnx_one(const dt_onnx_call *c, int32_t i);
/* Its one number, or `otherwise`. */
double dt_onnx_scalar(const dt_onnx_call *c, int32_t i, double otherwise);

/* Elements of dimensions [begin, end); saturates. */
int64_t dt_host_span(const dt_host_tensor *t, int32_t begin, int32_t end);
/* Zero-filled, ends with the node. */
dt_status dt_onnx_doubles(const dt_onnx_call *c, int64_t n, double **out);
/* All of input i; *out is NULL where that is absent. */
dt_status dt_onnx_load(const dt_onnx_call *c, int32_t i, double **out);

#endif
