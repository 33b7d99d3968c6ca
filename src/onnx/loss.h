/* loss.c: losses by class, and Softmax with its kin. */
#ifndef DT_ONNX_LOSS_H
#define DT_ONNX_LOSS_H

#include "onnx/op.h"

/* NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss. */
dt_status dt_infer_loss(const dt_onnx_call *c);
dt_status dt_run_loss(const dt_onnx_call *c);
/* Softmax, LogSoftmax, Hardmax: before version 13 all dimensions from the axis on are one. */
dt_status dt_infer_softmax(const dt_onnx_call *c);
dt_status dt_run_softmax(const dt_onnx_call *c);

#endif
