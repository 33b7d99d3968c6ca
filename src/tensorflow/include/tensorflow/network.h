/* A file with a network in it, whatever program wrote it: told by its content, read as a model of ONNX. */
#ifndef DT_TENSORFLOW_NETWORK_H
#define DT_TENSORFLOW_NETWORK_H

#include "formats/onnx.h"

/* ONNX, Keras (.keras, .h5), a SavedModel, a GraphDef. */
dt_status dt_network_read(const char *path, dt_onnx_model **out);
bool dt_network_knows(const char *path);
/* The tensors of a file: its weights where it is a network's, else as dt_tensors_open. */
dt_status dt_network_tensors(const char *path, dt_tensors **out);

#endif
