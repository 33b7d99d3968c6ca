/* What `dtrain inspect` says of a model beside its tensors. */
#ifndef DT_TRAIN_SHOW_MODEL_H
#define DT_TRAIN_SHOW_MODEL_H

#include <stdio.h>

#include "formats/onnx.h"

/* Who wrote it, opsets, inputs and outputs with their shapes, how many nodes of which op. */
dt_status dt_show_model(const dt_onnx_model *m, FILE *out);

#endif
