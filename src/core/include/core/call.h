/* A function of the host as a node of a graph (DT_OP_CALL): what no kernel computes. The cpu backend runs it; a device that
 * cannot refuses a graph that has any. Not differentiable. */
#ifndef DT_CORE_CALL_H
#define DT_CORE_CALL_H

#include "core/backend.h"
#include "core/op.h"

typedef struct dt_call_out {
    dt_dtype dtype; /* of whole bytes */
    int32_t ndim;   /* 1 at least */
    int64_t dim[DT_MAX_DIM];
} dt_call_out;

/* Outlives every graph with a node of it. */
struct dt_call {
    const char *name; /* for people: what it is and where it comes from */
    int32_t n_out;    /* 1 to DT_SLOTS_OUT_MAX */
    dt_call_out out[DT_SLOTS_OUT_MAX];
    /* in: the data of the node's inputs, out: room for those outputs that are made, NULL for others. From one thread
     * at a time. */
    dt_status (*run)(const dt_call *c, void *const *in, void *const *out);
    void *arg; /* run's own */
};

/* Appends the node; in[i] >= 0 for all n_in, which may be 0. out: c->n_out values. */
dt_status dt_call_add(dt_graph *g, const char *name, const dt_call *c, int32_t n_in, const dt_vid *in,
                      dt_vid *out);
/* DT_ERR_UNSUPPORTED where `be` cannot run the graph's calls: all of them in one text. */
dt_status dt_call_check(dt_backend *be, const dt_graph *g);

#endif
