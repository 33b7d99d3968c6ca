/* Networks that Keras and TensorFlow save, as models of ONNX (formats/onnx.h): their layers and ops become nodes of
 * its opset 20, images stay N H W C at inputs and outputs, and weights have the names that they have there.
 *
 * Every error is DT_ERR_DATA with path, layer or node, and reason; of layers and ops that are not translated all are named
 * at once. Nothing of a file is ever run: a Lambda layer, a custom class are refused. */
#ifndef DT_TENSORFLOW_H
#define DT_TENSORFLOW_H

#include "formats/onnx.h"

/* A .keras archive (Keras 3), or an HDF5 file with a model's configuration and weights (Keras 2 and 3). */
dt_status dt_keras_read(const char *path, dt_onnx_model **out);
/* Whether it begins as one of these. */
bool dt_keras_knows(const char *path);

/* A SavedModel (its directory, or saved_model.pb in it): the signature serving_default, or the first; or a frozen GraphDef:
 * from its placeholders to what nobody reads. */
dt_status dt_saved_model_read(const char *path, dt_onnx_model **out);
bool dt_saved_model_knows(const char *path);

#endif
