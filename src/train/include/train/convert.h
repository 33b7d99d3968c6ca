/* Weights from one kind of file to another, and what is in one: `dtrain convert`, `dtrain inspect FILE`. */
#ifndef DT_TRAIN_CONVERT_H
#define DT_TRAIN_CONVERT_H

#include <stdio.h>

#include "core/status.h"
#include "train/sink.h"

typedef struct dt_convert_options {
    const char *in;     /* a run, a checkpoint, or a file of tensors, told by its content */
    const char *out;    /* a file ending in .safetensors or .onnx, else the directory of a run to be made */
    const char *type;   /* of a file: "f32", "f16", "bf16" */
    const char *config; /* TOML: the network of `in`, where it does not say that itself; NULL: it does */
    int n_override;     /* of the configuration */
    const char *const *override;
    bool merge; /* low-rank adapters become part of the weights that they adapt */
} dt_convert_options;

/* DT_ERR_CONFIG, DT_ERR_DATA or DT_ERR_CHECKPOINT with the file; nothing is written over but a file in safetensors. */
dt_status dt_convert(const dt_convert_options *o, const dt_sink *sink);

/* Whether the path is of weights: a file of tensors, a checkpoint, or a run. */
bool dt_holds_weights(const char *path);
/* Its tensors, a line each, and what it says of itself. */
dt_status dt_convert_show(const char *path, FILE *out);

#endif
