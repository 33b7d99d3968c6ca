/* Rows of the family. */
#include "onnx/op.h"

const dt_onnx_op dt_onnx_ops_einsum[] = {{.name = NULL}};
