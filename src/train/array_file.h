/* A .npy file in memory. */
#ifndef DT_TRAIN_ARRAY_FILE_H
#define DT_TRAIN_ARRAY_FILE_H

#include "onnx/op.h"

/* Its numbers in their order, of the file's type; data is the caller's to free, also after an error. DT_ERR_DATA. */
dt_status dt_array_file_read(const char *path, dt_host_tensor *out);

#endif
