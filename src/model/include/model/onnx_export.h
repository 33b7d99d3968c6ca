/* A network of dtrain as an ONNX model: opset 17, images as N C H W, weights under their names in checkpoints and in
 * the layouts that PyTorch gives them. */
#ifndef DT_MODEL_ONNX_EXPORT_H
#define DT_MODEL_ONNX_EXPORT_H

#include "core/graph.h"
#include "formats/onnx.h"
#include "model/weight.h"

/* Rows of the graph that is exported: a prime, so that a dimension of so many, or of a multiple, is one of the batch,
 * which the model leaves open ("N"). */
enum { DT_ONNX_EXPORT_ROWS = 509 };

typedef struct dt_onnx_export {
    const dt_graph *graph; /* of evaluation, DT_ONNX_EXPORT_ROWS rows, that no pass has changed */
    const dt_weight_list *net;
    int64_t n;
    const dt_file_tensor *tensor; /* the weights, f32, as files have them; data outlive the model */
    int64_t n_note;
    const dt_tensor_note *note;
} dt_onnx_export;

/* Inputs are the graph's: an image as f32 [N,C,H,W], already normalised; whole numbers as i64. DT_ERR_CONFIG with op
 * and node where ONNX has nothing for it, DT_ERR_CHECKPOINT where a weight is missing. */
dt_status dt_onnx_export_graph(const dt_onnx_export *o, dt_onnx_model **out);

#endif
