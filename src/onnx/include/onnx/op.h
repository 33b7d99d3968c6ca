/* What each op of ONNX means: a row for each (op, version from which on it holds), with the types and shapes of its
 * results and its values computed plainly on the host. It is the definition that compiled graphs are tested against,
 * it evaluates what is constant while a graph is built (shapes above all), and on the CPU it runs what has no kernel. */
#ifndef DT_ONNX_OP_H
#define DT_ONNX_OP_H

#include "formats/onnx.h"

/* A tensor of the host. */
typedef struct dt_host_tensor {
    dt_tensor_type type;
    int32_t ndim; /* 0: one element */
    int64_t dim[DT_MAX_DIM];
    /* Aligned for its type, rows without gaps, numbers of 2 and 4 bits one in a byte; NULL: not known. */
    void *data;
} dt_host_tensor;

/* Sets of types. */
#define DT_HOST_IS(type) (UINT32_C(1) << (type))
#define DT_HOST_FLOATS                                                                                       \
    (DT_HOST_IS(DT_TENSOR_F16) | DT_HOST_IS(DT_TENSOR_BF16) | DT_HOST_IS(DT_TENSOR_F32) |                    \
     DT_HOST_IS(DT_TENSOR_F64))
#define DT_HOST_SIGNED                                                                                       \
    (DT_HOST_IS(DT_TENSOR_I8) | DT_HOST_IS(DT_TENSOR_I16) | DT_HOST_IS(DT_TENSOR_I32) |                      \
     DT_HOST_IS(DT_TENSOR_I64))
#define DT_HOST_UNSIGNED                                                                                     \
    (DT_HOST_IS(DT_TENSOR_U8) | DT_HOST_IS(DT_TENSOR_U16) | DT_HOST_IS(DT_TENSOR_U32) |                      \
     DT_HOST_IS(DT_TENSOR_U64))
#define DT_HOST_INTS    (DT_HOST_SIGNED | DT_HOST_UNSIGNED)
#define DT_HOST_NUMBERS (DT_HOST_FLOATS | DT_HOST_INTS)
#define DT_HOST_BOOL    DT_HOST_IS(DT_TENSOR_BOOL)
#define DT_HOST_INDEX   (DT_HOST_IS(DT_TENSOR_I32) | DT_HOST_IS(DT_TENSOR_I64))
/* Numbers of 2 and 4 bits: cast and quantised, no more. */
#define DT_HOST_SMALL                                                                                        \
    (DT_HOST_IS(DT_TENSOR_I4) | DT_HOST_IS(DT_TENSOR_U4) | DT_HOST_IS(DT_TENSOR_I2) |                        \
     DT_HOST_IS(DT_TENSOR_U2))
#define DT_HOST_ANY (DT_HOST_NUMBERS | DT_HOST_BOOL | DT_HOST_SMALL)

static inline bool dt_host_is(const dt_host_tensor *t, uint32_t types) {
    return (types & DT_HOST_IS(t->type)) != 0;
}

/* Saturates where there are more than 2^63 - 1. */
int64_t dt_host_n_elem(const dt_host_tensor *t);
/* Bytes of one element; 0: not a type that is computed with (DT_HOST_ANY is). */
int64_t dt_host_elem_bytes(dt_tensor_type type);
int64_t dt_host_bytes(const dt_host_tensor *t);
/* The element as a number. As a whole number: cut toward zero, saturated; u64 past 2^63 - 1 keeps its bits. NaN is 0. */
double dt_host_f64(const dt_host_tensor *t, int64_t i);
int64_t dt_host_i64(const dt_host_tensor *t, int64_t i);
/* Rounded to nearest (ties to even) into its type; whole numbers saturate, NaN becomes 0; bool: not 0. */
void dt_host_put_f64(dt_host_tensor *t, int64_t i, double value);
/* Whole numbers wrap; bool: not 0. */
void dt_host_put_i64(dt_host_tensor *t, int64_t i, int64_t value);
/* n elements from `at` on, `stride` elements apart (0: one repeated), and back, side by side: what loops over any type
 * are written with. i64: exact for all whole types. */
void dt_host_load_f64(const dt_host_tensor *t, int64_t at, int64_t stride, int64_t n, double *out);
void dt_host_load_i64(const dt_host_tensor *t, int64_t at, int64_t stride, int64_t n, int64_t *out);
void dt_host_store_f64(dt_host_tensor *t, int64_t at, int64_t n, const double *in);
void dt_host_store_i64(dt_host_tensor *t, int64_t at, int64_t n, const int64_t *in);

typedef struct dt_onnx_eval
    dt_onnx_eval; /* what an evaluation has: memory, its budget, outer values of bodies */

/* One node about to be evaluated. */
typedef struct dt_onnx_call {
    const dt_onnx_node *node;
    int64_t version; /* of its domain */
    int32_t n_in, n_out;
    const dt_host_tensor *const *in; /* NULL: absent. data NULL: only type and shape are known */
    dt_host_tensor *out;
    dt_onnx_eval *eval;
    int64_t mark; /* the evaluation's: its memory before the node */
} dt_onnx_call;

/* Absent inputs, and such past the last, are NULL. */
static inline const dt_host_tensor *dt_onnx_in(const dt_onnx_call *c, int32_t i) {
    return i < c->n_in ? c->in[i] : NULL;
}
/* Whether anybody wants output i. */
bool dt_onnx_wants(const dt_onnx_call *c, int32_t i);

/* DT_ERR_DATA "node 'name' (Op, opset v): <text>". */
dt_status dt_onnx_refuse(const dt_onnx_call *c, const char *format, ...) DT_MUST_CHECK DT_PRINTF(2, 3);
/* Refuses an input that is there and of none of these types (DT_HOST_...). */
dt_status dt_onnx_expect(const dt_onnx_call *c, int32_t i, uint32_t types);
/* DT_ERR_USAGE where the value of input i, which a shape follows from, is not known: whoever builds a graph then asks
 * for the values of what it depends on. */
dt_status dt_onnx_need(const dt_onnx_call *c, int32_t i);
/* Numbers that older versions have as an attribute and newer ones as an input (slot): up to `cap` of them into `out`;
 * *n: -1 where there are neither. Needs the input's value. */
dt_status dt_onnx_numbers(const dt_onnx_call *c, const char *attr, int32_t slot, int32_t cap, int64_t *out,
                          int32_t *n);
/* An axis of ndim dimensions, those below 0 counted from the end; refused outside of them. */
dt_status dt_onnx_axis(const dt_onnx_call *c, int64_t axis, int32_t ndim, int32_t *out);
/* Number i of t as an index of `size` things, those below 0 counted from the end; refused outside of them. */
dt_status dt_onnx_index(const dt_onnx_call *c, const dt_host_tensor *t, int64_t i, int64_t size,
                        int64_t *out);
/* The attribute "axis" (or `otherwise`) so. */
dt_status dt_onnx_axis_attr(const dt_onnx_call *c, int64_t otherwise, int32_t ndim, int32_t *out);
/* Sets what output i will be, within DT_MAX_DIM and the evaluation's memory. Outputs past the last are passed over. */
dt_status dt_onnx_out(const dt_onnx_call *c, int32_t i, dt_tensor_type type, int32_t ndim,
                      const int64_t *dim);
/* The shape that a and b broadcast to, ONNX's way (numpy's). */
dt_status dt_onnx_broadcast(const dt_onnx_call *c, const dt_host_tensor *a, const dt_host_tensor *b,
                            int32_t *ndim, int64_t dim[DT_MAX_DIM]);

/* The type that TensorProto.DataType numbers so; refused where it is not computed with. */
dt_status dt_onnx_type(const dt_onnx_call *c, int64_t number, dt_tensor_type *out);
/* Output i is as input k is. */
dt_status dt_onnx_out_like(const dt_onnx_call *c, int32_t i, int32_t k);
/* Zero-filled memory, aligned for any type, that ends with the node; counted in the budget. */
dt_status dt_onnx_scratch(const dt_onnx_call *c, int64_t bytes, void **out);
/* Ends it (or a result of dt_onnx_eval_body) earlier; accepts NULL and data that are not the node's own. */
void dt_onnx_release(const dt_onnx_call *c, void *data);
/* Whether the values of all inputs that are there are known. */
bool dt_onnx_all_known(const dt_onnx_call *c);

typedef struct dt_onnx_op {
    const char *domain, *name; /* domain "": ai.onnx */
    int32_t since;             /* holds from this version on, until the next row of that name */
    int8_t in_min, in_max;     /* in_max -1: any number */
    int8_t out_max;            /* -1: any number */
    /* Sets type and shape of every output from types, shapes and, where they are known and matter, values. */
    dt_status (*infer)(const dt_onnx_call *c);
    /* All values are there, and zero-filled room for the results that are wanted (dt_onnx_wants). NULL: infer has made the
     * results too, in memory of dt_onnx_scratch or dt_onnx_eval_body, where shapes follow from nothing else (If, Loop). */
    dt_status (*run)(const dt_onnx_call *c);
    bool blind; /* run reads no values of inputs but those that infer needs: Shape, ConstantOfShape */
} dt_onnx_op;

/* The families' rows, each list ending in a NULL name; op.c has the list of lists. */
extern const dt_onnx_op dt_onnx_ops_unary[], dt_onnx_ops_binary[], dt_onnx_ops_cast[], dt_onnx_ops_shape[],
    dt_onnx_ops_slice[], dt_onnx_ops_index[], dt_onnx_ops_scatter[], dt_onnx_ops_sort[], dt_onnx_ops_reduce[],
    dt_onnx_ops_einsum[], dt_onnx_ops_network[], dt_onnx_ops_norm[], dt_onnx_ops_pool[],
    dt_onnx_ops_recurrent[], dt_onnx_ops_quantize[], dt_onnx_ops_control[];

/* Row i of all of them; NULL past the last. */
const dt_onnx_op *dt_onnx_op_at(int32_t i);
/* NULL where there is none of that version. */
const dt_onnx_op *dt_onnx_op_find(const char *domain, const char *name, int64_t version);
/* All nodes of the model, bodies too, whose op has no row, in one text: op, version, node. DT_OK where there are none. */
dt_status dt_onnx_check_ops(const dt_onnx_model *m);

/* Memory for one evaluation after another, of no more than `budget` bytes at once. */
dt_status dt_onnx_eval_create(const dt_onnx_model *m, int64_t budget, dt_onnx_eval **out);
void dt_onnx_eval_destroy(dt_onnx_eval *e); /* accepts NULL */
/* The whole graph, node by node: the plainest way, and the definition. in: one for each of graph.in, with data. out: one
 * for each of graph.out; their data is the evaluation's until its next run. */
dt_status dt_onnx_eval_run(dt_onnx_eval *e, const dt_host_tensor *in, dt_host_tensor *out);
/* A body (of If, Loop, Scan) with values for its inputs; names of outer graphs are seen. The results end with the node, or
 * with dt_onnx_release (an input that goes through is copied). */
dt_status dt_onnx_eval_body(const dt_onnx_call *c, const dt_onnx_graph *body, int32_t n_in,
                            const dt_host_tensor *in, int32_t n_out, dt_host_tensor *out);
/* infer of one node, and run where the values of its inputs are there (else data of the results is NULL); inputs NULL:
 * absent. Memory of results is the evaluation's until dt_onnx_eval_clear. Names of outer values that bodies read are
 * looked for in the model's constants. */
dt_status dt_onnx_eval_node(dt_onnx_eval *e, const dt_onnx_node *node, const dt_host_tensor *const *in,
                            dt_host_tensor *out);
/* Forgets all results. */
void dt_onnx_eval_clear(dt_onnx_eval *e);

#endif
