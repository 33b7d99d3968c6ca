/* What is to be quantised in a graph. */
#ifndef DT_QUANT_PLAN_H
#define DT_QUANT_PLAN_H

#include "graph.h"
#include "quant/quantize.h"
#include "quant/round.h"

/* How a node's weight lies: [outer, channels, inner], channels along `axis`. */
typedef struct dt_quant_weight {
    int64_t outer, channels, inner;
    int32_t axis;
} dt_quant_weight;

typedef enum dt_quant_role {
    DT_QROLE_FLOAT = 0, /* stays */
    DT_QROLE_PRODUCT,   /* weights are quantised, and where activations are, the input */
    DT_QROLE_BETWEEN,   /* static: stays in 8 bits, with a range of its own */
    DT_QROLE_PASSED,    /* static: likewise, with its input's */
    DT_QROLE_CLAMP,     /* static: what the range of its result does anyway */
    DT_QROLE_TABLE,     /* weights alone: a Gather out of rows */
} dt_quant_role;

/* Of a value. */
typedef struct dt_quant_tensor {
    bool wanted;        /* static: seen by readers in 8 bits */
    int32_t like;       /* the value whose range it has; -1: its own */
    dt_histogram *seen; /* of a range of its own */
    double *square;     /* [k, k]: the sum of x x^T, where products compensate */
    int64_t k;
    dt_quant_u8 to;
} dt_quant_tensor;

struct dt_quant {
    dt_quant_options o;
    dt_qgraph g;
    dt_quant_role *role;     /* [g.n_node] */
    dt_quant_tensor *tensor; /* [n_tensor]: of the values there were when the plan was made */
    int32_t n_tensor;
    int32_t n_seen, *seen; /* values that are observed */
    dt_onnx_model *watched;
    struct dt_onnx_run *run;
    dt_host_tensor *result; /* [n_seen] */
    dt_quant_info info;
};

/* Fills role, tensor and seen. */
dt_status dt_quant_plan(dt_quant *q);
/* False where the node has no constant f32 weight that is quantised by channels. */
bool dt_quant_weight_of(const dt_qgraph *g, const dt_qnode *n, dt_quant_weight *out);
/* Whether a product becomes MatMulNBits. */
bool dt_quant_is_4_bits(const dt_quant *q, int32_t node);

/* The two ways of writing it. */
dt_status dt_quant_write_static(dt_quant *q, dt_onnx_model **out);
dt_status dt_quant_write_weights(dt_quant *q, dt_onnx_model **out);

#endif
