/* A network as others read it: its weights as a file in safetensors, or all of it as an ONNX model, in PyTorch's layouts
 * and under its names. */
#ifndef DT_TRAIN_EXPORT_H
#define DT_TRAIN_EXPORT_H

#include "formats/safetensors.h"
#include "model/weight.h"
#include "model/onnx_export.h"
#include "train/checkpoint.h"

/* Keys of what such a file says of itself. */
#define DT_EXPORT_CONFIG "dtrain.config" /* the configuration, TOML */
#define DT_EXPORT_DATA   "dtrain.data"   /* what the training set was, JSON as in the manifest */
#define DT_EXPORT_STEP   "dtrain.step"

typedef struct dt_export {
    const dt_weight_list *net;
    int32_t
        n; /* as in checkpoints: of "param/", "state/" and "ema/" the averaged ones where they are there */
    const dt_ckpt_tensor *tensor;
    const dt_graph
        *graph; /* evaluation's, of DT_ONNX_EXPORT_ROWS rows: for an ONNX model; NULL: for safetensors */
    dt_tensor_type type;                 /* F32, F16 or BF16; of running statistics F32 in any case */
    const char *config_text, *data_text; /* the latter may be NULL */
    int64_t step;
    bool merge;    /* low-rank adapters become part of the weights that they adapt */
    double factor; /* of them */
} dt_export;

/* DT_ERR_IO; DT_ERR_CHECKPOINT where a weight is missing; DT_ERR_CONFIG where a number is too large for the type,
 * or an op has no form in ONNX. */
dt_status dt_export_write(const char *path, const dt_export *x);

/* Whether a file of that name is to be an ONNX model. */
bool dt_names_onnx(const char *path);

/* n numbers, in place, in F32, F16 or BF16. DT_ERR_CONFIG where one, of the tensor `name`, is too large for it. */
dt_status dt_export_narrow(dt_tensor_type type, const char *name, int64_t n, float *data);

#endif
