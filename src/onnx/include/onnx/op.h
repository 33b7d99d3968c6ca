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
    void
        *data; /* aligned for its type, rows without gaps, numbers of 4 bits one in a byte; NULL: not known */
} dt_host_tensor;

int64_t dt_host_n_elem(const dt_host_tensor *t);
int64_t dt_host_bytes(const dt_host_tensor *t);
/* The element as a number, rounded where it must be; i64 saturates. t->data is there. */
double dt_host_f64(const dt_host_tensor *t, int64_t i);
int64_t dt_host_i64(const dt_host_tensor *t, int64_t i);
/* Rounded to nearest into its type; whole numbers saturate, NaN becomes 0. */
void dt_host_put_f64(dt_host_tensor *t, int64_t i, double value);
void dt_host_put_i64(dt_host_tensor *t, int64_t i, int64_t value);

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
} dt_onnx_call;

/* Absent inputs, and such past the last, are NULL. */
static inline const dt_host_tensor *dt_onnx_in(const dt_onnx_call *c, int32_t i) {
    return i < c->n_in ? c->in[i] : NULL;
}
/* Whether anybody wants output i. */
bool dt_onnx_wants(const dt_onnx_call *c, int32_t i);

/* DT_ERR_DATA "node 'name' (Op, opset v): <text>". */
dt_status dt_onnx_refuse(const dt_onnx_call *c, const char *format, ...) DT_PRINTF(2, 3);
/* DT_ERR_USAGE where the value of input i, which a shape follows from, is not known: whoever builds a graph then asks
 * for the values of what it depends on. */
dt_status dt_onnx_need(const dt_onnx_call *c, int32_t i);
/* Numbers that older versions have as an attribute and newer ones as an input (slot): up to `cap` of them into `out`;
 * *n: -1 where there are neither. Needs the input's value. */
dt_status dt_onnx_numbers(const dt_onnx_call *c, const char *attr, int32_t slot, int32_t cap, int64_t *out,
                          int32_t *n);
/* An axis of ndim dimensions, those below 0 counted from the end; refused outside of them. */
dt_status dt_onnx_axis(const dt_onnx_call *c, int64_t axis, int32_t ndim, int32_t *out);
/* Sets what output i will be, within DT_MAX_DIM and the evaluation's memory. */
dt_status dt_onnx_out(const dt_onnx_call *c, int32_t i, dt_tensor_type type, int32_t ndim,
                      const int64_t *dim);
/* The shape that a and b broadcast to, ONNX's way (numpy's). */
dt_status dt_onnx_broadcast(const dt_onnx_call *c, const dt_host_tensor *a, const dt_host_tensor *b,
                            int32_t *ndim, int64_t dim[DT_MAX_DIM]);

typedef struct dt_onnx_op {
    const char *domain, *name; /* domain "": ai.onnx */
    int32_t since;             /* holds from this version on, until the next row of that name */
    int8_t in_min, in_max;     /* in_max -1: any number */
    int8_t out_max;            /* -1: any number */
    /* Sets type and shape of every output from types, shapes and, where they are known and matter, values. */
    dt_status (*infer)(const dt_onnx_call *c);
    /* All values are there, and room for the results. */
    dt_status (*run)(const dt_onnx_call *c);
} dt_onnx_op;

/* The families' rows, each list ending in a NULL name; op.c has the list of lists. */
extern const dt_onnx_op dt_onnx_ops_elementwise[], dt_onnx_ops_shape[], dt_onnx_ops_index[],
    dt_onnx_ops_reduce[], dt_onnx_ops_network[], dt_onnx_ops_norm[], dt_onnx_ops_pool[],
    dt_onnx_ops_recurrent[], dt_onnx_ops_quantize[], dt_onnx_ops_control[];

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
/* A body (of If, Loop, Scan) with values for its inputs; names of outer graphs are seen. */
dt_status dt_onnx_eval_body(const dt_onnx_call *c, const dt_onnx_graph *body, int32_t n_in,
                            const dt_host_tensor *in, int32_t n_out, dt_host_tensor *out);
/* infer and run of one node whose inputs are given; memory of results is the evaluation's. */
dt_status dt_onnx_eval_node(dt_onnx_eval *e, const dt_onnx_node *node, const dt_host_tensor *const *in,
                            dt_host_tensor *out);

#endif
