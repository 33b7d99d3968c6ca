/* TensorFlow's graphs as their files hold them: GraphDef, its functions, signatures, and the variables beside them. */
#ifndef DT_TENSORFLOW_GRAPH_H
#define DT_TENSORFLOW_GRAPH_H

#include "formats/onnx_draft.h"
#include "formats/protobuf.h"

typedef struct dt_tf_node {
    const char *name, *op;
    int32_t n_in;
    const char **in; /* "node", "node:1", in functions "node:output:0"; control edges are left out */
    dt_pb message;   /* its NodeDef: attributes are looked up in it */
} dt_tf_node;

/* A body of nodes: a function, or the main graph, which has neither arguments nor results. */
typedef struct dt_tf_body {
    const char *name;
    int32_t n_node, n_arg, n_result;
    dt_tf_node *node;
    const dt_tf_node **by_name; /* ascending */
    const char **arg;
    const char **result; /* what is returned, a name as those in `in` */
} dt_tf_body;

/* A place where a signature ends. */
typedef struct dt_tf_port {
    const char *name;   /* of the argument */
    const char *tensor; /* "serving_default_x:0" */
    dt_onnx_value_info info;
} dt_tf_port;

typedef struct dt_tf_graph {
    dt_tf_body main;
    int32_t n_function, n_in, n_out;
    dt_tf_body *function;
    dt_tf_port *in, *out; /* of the signature; none of a GraphDef */
} dt_tf_graph;

/* All memory is the model's. Errors say what is wrong where, and the caller the path. */
dt_status dt_tf_graph_read(dt_onnx_model *m, const dt_mapped_file *f, bool saved_model, dt_tf_graph *out);
/* NULL if absent. */
const dt_tf_node *dt_tf_node_find(const dt_tf_body *b, const char *name);
const dt_tf_body *dt_tf_function_find(const dt_tf_graph *g, const char *name);

/* ---- attributes: `otherwise` where there is none of that name and kind ---- */

int64_t dt_tf_int(const dt_tf_node *n, const char *name, int64_t otherwise); /* of truths and types too */
float dt_tf_float(const dt_tf_node *n, const char *name, float otherwise);
/* A text, or the name of a function, in the model's memory. */
const char *dt_tf_text(dt_onnx_model *m, const dt_tf_node *n, const char *name, const char *otherwise);
/* Up to cap of a list; returns how many there are. */
int64_t dt_tf_ints(const dt_tf_node *n, const char *name, int64_t cap, int64_t *out);
/* The constant of a node; DT_ERR_DATA where it has none, or it is no tensor. */
dt_status dt_tf_tensor(dt_onnx_model *m, const dt_tf_node *n, const char *name, dt_onnx_tensor *out);
/* The texts of a constant. */
dt_status dt_tf_texts(dt_onnx_model *m, const dt_tf_node *n, const char *name, int64_t *count,
                      const char ***out);
/* A shape: ndim -1 where its rank is not told, sides -1. */
void dt_tf_shape(const dt_tf_node *n, const char *name, dt_onnx_value_info *out);
/* DT_TENSOR_TYPES where there is none like it. */
dt_tensor_type dt_tf_type(int64_t tensorflow);

/* ---- variables: variables.index and variables.data-... ---- */

typedef struct dt_tf_bundle {
    int64_t n;
    struct dt_tf_entry *entry; /* ascending by key */
    int32_t n_shard;
    const dt_mapped_file *shard;
} dt_tf_bundle;

/* prefix: "model/variables/variables". Its files stay mapped with the model. */
dt_status dt_tf_bundle_open(dt_onnx_model *m, const char *prefix, dt_tf_bundle *out);
/* DT_ERR_DATA where there is none, it is of another kind than numbers, or its checksum is not that of its bytes. */
dt_status dt_tf_bundle_get(const dt_tf_bundle *b, const char *key, dt_onnx_tensor *out);
bool dt_tf_bundle_has(const dt_tf_bundle *b, const char *key);

/* ---- translation ---- */

typedef struct dt_tf_value {
    const char *name;  /* in the draft; NULL: a constant that nothing has read yet, or a variable */
    const char *title; /* of a constant: what its name will be */
    const dt_onnx_tensor *constant; /* NULL: not known */
    const char *variable;           /* the key of a variable's handle; NULL: it is none */
    int64_t channels;               /* its last side, as far as it is known; 0: it is not */
    /* 0: none. An image to be read every so many rows and columns: what TensorFlow calls space to batch, around a
     * convolution that is dilated by it. */
    int64_t block[2];
} dt_tf_value;

enum { DT_TF_VALUES = 64 };

typedef struct dt_tf_call {
    dt_onnx_draft *d;
    const dt_tf_node *node;
    const char *scope; /* names of its nodes begin so */
    int32_t n_in, n_out;
    const dt_tf_value *in;
    dt_tf_value out[DT_TF_VALUES];
} dt_tf_call;

typedef struct dt_tf_op {
    const char *op;
    int32_t in_min, in_max;
    void (*make)(dt_tf_call *c);
    const char *to;        /* what ONNX calls it, where nothing else is to be done; make is NULL */
    bool keeps;            /* the result has as many channels as the first operand */
    const char *result[3]; /* names of its results, where there are several that are no list */
} dt_tf_op;

extern const dt_tf_op dt_tf_ops[]; /* ends in a NULL op */
const dt_tf_op *dt_tf_op_find(const char *op);

void dt_tf_refuse(dt_tf_call *c, const char *format, ...) DT_PRINTF(2, 3);
/* The name of a value in the draft; constants get there when they are first read. */
const char *dt_tf_name(dt_onnx_draft *d, const dt_tf_value *v);

#endif
