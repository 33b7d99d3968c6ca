/* What the parts of the Keras reader share. */
#ifndef DT_TENSORFLOW_KERAS_H
#define DT_TENSORFLOW_KERAS_H

#include <jansson.h>

#include "data/h5.h"
#include "formats/onnx_draft.h"

/* ---- weights ---- */

/* Where variables are: in a Keras 3 archive below the path of their layer, numbered in the order in which they were made;
 * in older files below the group of the outermost layer, by name. */
typedef struct dt_keras_weights {
    dt_h5 *h;
    bool by_name;
    int64_t n; /* by_name: all that is in the file */
    char **path;
} dt_keras_weights;

dt_status dt_keras_weights_open(dt_h5 *h, bool by_name, dt_keras_weights *out);
void dt_keras_weights_close(dt_keras_weights *w);

/* A variable, as its layer knows it. */
typedef struct dt_keras_var_name {
    const char *name; /* "kernel" */
    int32_t nth;      /* among those of its part */
    const char *part; /* "forward_layer/cell": the object in the layer that has it; NULL: the layer itself */
    const char *within; /* by_name: a folder on its way, "query", or how it begins, "forward_"; NULL: any */
} dt_keras_var_name;

typedef struct dt_keras_var {
    float *data; /* in the draft's model */
    int32_t ndim;
    int64_t dim[DT_MAX_DIM];
    int64_t n_elem;
} dt_keras_var;

/* ---- layers ---- */

typedef struct dt_keras_value {
    const char *name;
    int32_t ndim;
    bool index; /* an input of whole numbers */
} dt_keras_value;

enum { DT_KERAS_VALUES = 64 };

/* A layer about to be translated, once for each call of it. */
typedef struct dt_keras_call {
    dt_onnx_draft *d;
    dt_keras_weights *w;
    const char *type, *name;  /* "Dense", "dense_1" */
    const char *scope;        /* names of its weights begin so: "inner/dense_1" */
    const char *folder, *top; /* of its variables: "layers/dense", the outermost layer's name */
    const json_t *config;
    const json_t *arg; /* what it is called with by name; NULL: nothing */
    int32_t n_in, n_out;
    dt_keras_value in[DT_KERAS_VALUES], out[DT_KERAS_VALUES];
} dt_keras_call;

/* Sticks an error that names the layer. */
void dt_keras_refuse(dt_keras_call *c, const char *format, ...) DT_PRINTF(2, 3);

/* Keys of the configuration; `otherwise` where they are absent or null. */
const char *dt_keras_word(const dt_keras_call *c, const char *key, const char *otherwise);
int64_t dt_keras_int(dt_keras_call *c, const char *key, int64_t otherwise);
double dt_keras_number(const dt_keras_call *c, const char *key, double otherwise);
bool dt_keras_flag(const dt_keras_call *c, const char *key, bool otherwise);
/* n whole numbers, or one for all of them. */
void dt_keras_ints(dt_keras_call *c, const char *key, int32_t n, int64_t otherwise, int64_t *out);

/* Whether a file of variables by name has this one. */
bool dt_keras_has_var(const dt_keras_call *c, const dt_keras_var_name *name);
/* Reads a variable, which must have ndim dimensions; false with an error. */
bool dt_keras_read_var(dt_keras_call *c, const dt_keras_var_name *name, int32_t ndim, dt_keras_var *out);
/* Puts its dimensions in another order: dimension i becomes perm[i] of the old. */
void dt_keras_permute(dt_keras_call *c, dt_keras_var *v, const int32_t *perm);
/* The constant "<scope>/<name>" of a variable: once, whatever the number of calls. */
const char *dt_keras_constant(dt_keras_call *c, const char *name, const dt_keras_var *v);
/* The variable as a constant. */
const char *dt_keras_weight(dt_keras_call *c, const dt_keras_var_name *name, int32_t ndim);

/* One node of one output. */
const char *dt_keras_op(dt_keras_call *c, const char *op, const char *const *in, int32_t n_in,
                        const dt_onnx_attr *attr, int32_t n_attr);
/* x with its dimensions in another order. */
const char *dt_keras_turn(dt_keras_call *c, const char *x, int32_t ndim, const int64_t *perm);
/* The last dimension behind the first, and back. */
const char *dt_keras_channels_first(dt_keras_call *c, const char *x, int32_t ndim);
const char *dt_keras_channels_last(dt_keras_call *c, const char *x, int32_t ndim);
/* The function of the configuration's key on x of ndim dimensions, whose channels are the last. */
const char *dt_keras_activation(dt_keras_call *c, const char *key, const char *x, int32_t ndim);
/* Its only result. */
void dt_keras_result(dt_keras_call *c, const char *x, int32_t ndim);

typedef void dt_keras_layer_fn(dt_keras_call *c);
typedef struct dt_keras_layer {
    const char *type;
    int32_t ndim; /* of its first input; 0: any */
    dt_keras_layer_fn *make;
} dt_keras_layer;

/* Ends in a NULL type. */
extern const dt_keras_layer dt_keras_layers[], dt_keras_sequence_layers[];
/* NULL where it is not translated. */
const dt_keras_layer *dt_keras_layer_find(const char *type);

#endif
