/* From an ONNX model to a graph of dtrain's ops, for given shapes of its inputs. What follows from constants and shapes is
 * computed here; what has no kernel becomes a call of the host's definition (core/call.h). */
#ifndef DT_ONNX_BUILD_H
#define DT_ONNX_BUILD_H

#include "core/graph.h"
#include "onnx/op.h"

/* One of model->graph.in. */
typedef struct dt_onnx_bound {
    dt_host_tensor
        t; /* type and shape as the file means them, a batch in place of a name; data: its value is known */
    dt_vid value;       /* in the graph; -1: not there, or t.data instead */
    bool channels_last; /* value is N ... C, t N C ... */
} dt_onnx_bound;

typedef struct dt_onnx_build_options {
    const dt_onnx_model *model; /* outlives the graph */
    const dt_onnx_bound *in;    /* [graph.n_in] */
    int64_t
        rows; /* above 0: first dimension of the inputs, and nothing kept may depend on it: weights are parameters that
                     may be trained. 0: all are constants */
    int64_t
        outputs; /* columns of the layer that ends the network in place of the file's, drawn anew; 0: as they are */
    bool logits; /* a Softmax at the end is left out */
    bool
        kernels; /* arithmetic of kernels in place of calls where there are both: for gradients, and other devices */
    bool quantised; /* products of 8 and 4 bits are kernels: the device has them */
    bool exact; /* quantised: weights of 8 bits alone stay with floats, and no row's bits depend on another */
    int32_t n_out;  /* the first so many of graph.out are wanted; 0: all */
    int64_t budget; /* bytes that folded constants may take; 0: 4 GiB, or half of the memory there is */
} dt_onnx_build_options;

/* One of model->graph.out. */
typedef struct dt_onnx_made {
    dt_host_tensor
        t; /* type as the graph has it (f16 and bf16 are f32), shape; data: it is a constant, of the graph's */
    dt_tensor_type file; /* the file's type */
    dt_vid
        value; /* in plain order, its dimensions those of t, of none 1; -1: t.data. Types that dt_dtype lacks are bytes */
} dt_onnx_made;

/* Appends to g, which from then on owns what its nodes need. Values that a shape follows from and that are not known:
 * DT_ERR_USAGE, and needs[i] (of graph.n_in) is set for inputs that they come from. DT_ERR_UNSUPPORTED: all nodes that are
 * known to nobody; DT_ERR_DATA: what does not fit, with its node. Parameters have the names and begin with the numbers
 * (dt_value.init_data) of the file's initializers, which lie as dtrain's ops want them. */
dt_status dt_onnx_build(const dt_onnx_build_options *o, dt_graph *g, dt_onnx_made *out, bool *needs);

/* Whether there is a way to make dtrain's own nodes of it, at least in some of its forms: kernels, gradients. */
bool dt_onnx_op_has_nodes(const char *domain, const char *name);

/* The type of values in a graph; DT_DTYPE_COUNT: there is none, they are bytes. */
dt_dtype dt_onnx_dtype(dt_tensor_type type);

#endif
