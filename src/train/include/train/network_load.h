/* Anything with a network in it as a model of ONNX in memory. */
#ifndef DT_TRAIN_NETWORK_LOAD_H
#define DT_TRAIN_NETWORK_LOAD_H

#include "formats/onnx.h"

/* A run or checkpoint of dtrain, a network's file (tensorflow/network.h), or weights alone with `config`, the configuration (TOML)
 * of their network; NULL: the file says. What dtrain trained goes through files in $TMPDIR that are gone when it returns.
 * DT_ERR_DATA, DT_ERR_CONFIG, DT_ERR_CHECKPOINT, DT_ERR_USAGE (a configuration for what has a network), DT_ERR_IO. */
dt_status dt_network_load(const char *path, const char *config, dt_onnx_model **out);

#endif
