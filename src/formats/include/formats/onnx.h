/* An ONNX model in memory: the form that all imported graphs take, whatever file they come from. It is what the
 * file says, checked, with functions inlined; what an op means is the room onnx's affair (onnx/op.h).
 *
 * All of a model's arrays and strings belong to its pool and end with it; data of tensors may lie in files that the
 * model maps. */
#ifndef DT_FORMATS_ONNX_H
#define DT_FORMATS_ONNX_H

#include "core/status.h"
#include "formats/tensors.h" /* dt_tensor_type */

typedef struct dt_onnx_graph dt_onnx_graph;

/* A constant. */
typedef struct dt_onnx_tensor {
    const char *name; /* "" where it has none */
    dt_tensor_type type;
    int32_t ndim; /* 0: one element */
    int64_t dim[DT_MAX_DIM];
    int64_t n_elem, n_bytes;
    const void *data; /* in no alignment; numbers of 4 bits one in a byte */
} dt_onnx_tensor;

typedef enum dt_onnx_attr_kind {
    DT_ONNX_FLOAT = 1, /* numbered as AttributeProto.AttributeType is */
    DT_ONNX_INT,
    DT_ONNX_STRING,
    DT_ONNX_TENSOR,
    DT_ONNX_GRAPH,
    DT_ONNX_FLOATS,
    DT_ONNX_INTS,
    DT_ONNX_STRINGS,
    DT_ONNX_TENSORS,
    DT_ONNX_GRAPHS
} dt_onnx_attr_kind;

typedef struct dt_onnx_attr {
    const char *name;
    dt_onnx_attr_kind kind;
    int64_t n; /* of a list; else 1 */
    union {
        float f;
        int64_t i;
        const char *s; /* UTF-8 without NUL */
        const dt_onnx_tensor *t;
        const dt_onnx_graph *g;
        const float *floats;
        const int64_t *ints;
        const char *const *strings;
    };
} dt_onnx_attr;

typedef struct dt_onnx_node {
    const char *op, *domain; /* domain "" is ai.onnx's */
    const char *name;        /* "" where it has none */
    int32_t n_in, n_out, n_attr;
    const char *const *in, *const *out; /* names of values; "": absent */
    const dt_onnx_attr *attr;
} dt_onnx_node;

/* What the file says of a value. */
typedef struct dt_onnx_value_info {
    const char *name;
    dt_tensor_type type;              /* DT_TENSOR_TYPES: not told */
    int32_t ndim;                     /* -1: not told */
    int64_t dim[DT_MAX_DIM];          /* -1: not fixed */
    const char *dim_name[DT_MAX_DIM]; /* "batch"; NULL where it has none */
} dt_onnx_value_info;

/* Nodes come after those whose results they read; each value is made once. */
struct dt_onnx_graph {
    const char *name;
    int32_t n_node, n_constant, n_in, n_out, n_value;
    const dt_onnx_node *node;
    const dt_onnx_tensor *constant; /* initializers */
    const dt_onnx_value_info *in;   /* without those that are initializers */
    const dt_onnx_value_info *out;
    const dt_onnx_value_info *value; /* what it says of values between */
};

typedef struct dt_onnx_opset {
    const char *domain;
    int64_t version;
} dt_onnx_opset;

typedef struct dt_onnx_note {
    const char *key, *value;
} dt_onnx_note;

typedef struct dt_onnx_model {
    struct dt_text_pool *pool;
    const char *path, *format; /* "model.onnx", "ONNX" */
    int64_t ir_version;
    const char *producer, *producer_version, *doc;
    int32_t n_opset, n_note;
    const dt_onnx_opset *opset;
    const dt_onnx_note *note; /* metadata_props */
    dt_onnx_graph graph;
    int32_t n_file;
    const dt_mapped_file *file; /* unmapped with the model */
} dt_onnx_model;

/* A model without anything, opset `version` of ai.onnx, for who writes or translates one. */
dt_status dt_onnx_model_create(int64_t version, dt_onnx_model **out);
void dt_onnx_model_free(dt_onnx_model *m); /* accepts NULL */
/* DT_ERR_DATA where a file that it maps became shorter: for who has read its constants. */
dt_status dt_onnx_check_files(const dt_onnx_model *m);

/* Zero-filled memory, aligned for any type, that ends with the model; NULL where there is none. */
void *dt_onnx_alloc(dt_onnx_model *m, int64_t bytes);
/* A text of the model's own; NULL where there is no memory. */
const char *dt_onnx_text(dt_onnx_model *m, const char *format, ...) DT_PRINTF(2, 3);

/* The version of a domain's ops; 0: the model does not import it. */
int64_t dt_onnx_version(const dt_onnx_model *m, const char *domain);

/* NULL where the node has none of that name. */
const dt_onnx_attr *dt_onnx_attr_find(const dt_onnx_node *n, const char *name);
/* Its value, or `otherwise` where it has none of that name and kind. */
int64_t dt_onnx_attr_int(const dt_onnx_node *n, const char *name, int64_t otherwise);
float dt_onnx_attr_float(const dt_onnx_node *n, const char *name, float otherwise);
const char *dt_onnx_attr_text(const dt_onnx_node *n, const char *name, const char *otherwise);
/* How many there are, 0 where there are none; *out is set where there are. */
int64_t dt_onnx_attr_ints(const dt_onnx_node *n, const char *name, const int64_t **out);

/* onnx_read.c. Reads an .onnx, mapped, functions inlined, names and order checked. DT_ERR_DATA with path, place and reason. */
dt_status dt_onnx_read(const char *path, dt_onnx_model **out);
/* A file with a tensor alone (a TensorProto): a model that has this constant and nothing else. */
dt_status dt_onnx_read_constant(const char *path, dt_onnx_model **out);
/* Whether the file's beginning can be that of an ONNX model. */
bool dt_onnx_knows(const char *path);
/* Its initializers, and weights in nodes Constant, as a listing, whose the model is from here on; it is taken in any case. */
dt_status dt_tensors_of_model(dt_onnx_model *m, dt_tensors **out);
/* Writes it under another name, synced, then renamed. Data of tensors beyond 1.5 GB go to "<path>.data". */
dt_status dt_onnx_write(const dt_onnx_model *m, const char *path);

#endif
