/* A model while it is rewritten: values by number, what is constant computed, batch norms inside convolutions. */
#ifndef DT_QUANT_GRAPH_H
#define DT_QUANT_GRAPH_H

#include "formats/onnx_draft.h"

typedef struct dt_qvalue {
    const char *name;
    const dt_onnx_tensor *constant; /* NULL: it is computed, or an input */
    int32_t maker;                  /* node; -1 */
    int32_t n_use;                  /* by nodes that are not gone */
    bool held;                      /* an output, or read in a body: it keeps its name and its numbers */
} dt_qvalue;

typedef struct dt_qnode {
    const dt_onnx_node *of; /* op, name and attributes */
    int32_t n_in, n_out;
    int32_t *in, *out; /* values; -1: absent */
    bool gone;
} dt_qnode;

typedef struct dt_qgraph {
    const dt_onnx_model *m;
    dt_onnx_model *pool; /* memory that lasts as long as the graph, and as what is made of it */
    int32_t n_node, n_value, cap_value;
    dt_qnode *node;
    dt_qvalue *value;
    int32_t *table; /* names, open addressing; -1: free */
    int32_t n_table;
} dt_qgraph;

/* `m` outlives it and its results. DT_ERR_DATA, DT_ERR_UNSUPPORTED: ops that are not known, a model that is quantised
 * already. To be freed in any case. */
dt_status dt_qgraph_create(const dt_onnx_model *m, dt_qgraph *out);
void dt_qgraph_free(dt_qgraph *g);

/* -1: none of that name. */
int32_t dt_qgraph_find(const dt_qgraph *g, const char *name);
/* A constant beside the model's; data, of the size that the shape says, outlives the graph (dt_onnx_alloc of its pool).
 * The name is made of `like` and `what`. -1: no memory. */
int32_t dt_qgraph_constant(dt_qgraph *g, const char *like, const char *what, dt_tensor_type type,
                           int32_t ndim, const int64_t *dim, const void *data);
/* A name that no value has: "<like>_<what>". NULL: no memory. */
const char *dt_qgraph_name(dt_qgraph *g, const char *like, const char *what);
/* Input `slot` of a node becomes another. */
void dt_qgraph_set_in(dt_qgraph *g, int32_t node, int32_t slot, int32_t value);
/* The numbers of a constant f32 tensor, aligned; NULL: it is none, or there is no memory. */
const float *dt_qgraph_floats(dt_qgraph *g, int32_t value);
bool dt_qnode_is(const dt_qnode *n, const char *op);
/* "conv1", or what it makes where it has no name. */
const char *dt_qnode_name(const dt_qgraph *g, const dt_qnode *n);
/* Value in slot i; -1: absent. */
static inline int32_t dt_qnode_in(const dt_qnode *n, int32_t i) {
    return i < n->n_in ? n->in[i] : -1;
}

/* Writing a graph: nodes in their order, each by `node` (NULL, or where it returns false: as it is). */
typedef struct dt_qwriter {
    dt_qgraph *g;
    dt_onnx_draft d;
    const char **as; /* [n_value]: the name that readers in 8 bits see; NULL: the value's own */
    bool *is_there;  /* [n_value]: constants that are written */
} dt_qwriter;
/* A model of the same inputs, notes and opset (at least 13; of older ones nodes that changed are rewritten, before 11
 * DT_ERR_UNSUPPORTED). microsoft: with nodes of com.microsoft. */
dt_status dt_qwriter_begin(dt_qgraph *g, bool microsoft, dt_qwriter *w);
/* A node as it is, reading in[i] where in is not NULL and in[i] is not, instead of the values' names. */
void dt_qwriter_copy(dt_qwriter *w, const dt_qnode *n, const char *const *in);
/* Its name, the constant written if it is one. */
const char *dt_qwriter_see(dt_qwriter *w, int32_t value);
/* A constant of the writer's; returns its name. */
const char *dt_qwriter_constant(dt_qwriter *w, const char *like, const char *what, dt_tensor_type type,
                                int32_t ndim, const int64_t *dim, const void *data);
/* A node of one output of the name. */
void dt_qwriter_node(dt_qwriter *w, const char *op, const char *const *in, int32_t n_in, const char *out,
                     const dt_onnx_attr *attr, int32_t n_attr);
/* The outputs (false: the caller has added its own), and the end. st: what happened since the beginning; where it is an
 * error there is no model. */
dt_status dt_qwriter_end(dt_qwriter *w, dt_status st, bool outputs, dt_onnx_model **out);

#endif
