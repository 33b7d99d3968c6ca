/* The parameter axis: one element order that parameters, gradients, fp32 masters and optimizer state share.
 *
 * The order is the one in which backward completes the gradients, so a communication bucket, an optimizer
 * launch and a stretch of a checkpoint are all [offset, offset + n_elem). Segments start at multiples of
 * DT_AXIS_ALIGN elements; the padding between them is zero and stays zero. */
#ifndef DT_CORE_AXIS_H
#define DT_CORE_AXIS_H

#include "core/backend.h"
#include "core/graph.h"

enum { DT_AXIS_ALIGN = 64, DT_BUCKETS_MAX = 64 };

typedef struct dt_bucket {
    int64_t offset, n_elem;
    int32_t first_segment, n_segment;
} dt_bucket;

typedef struct dt_axis_param {
    char name[DT_NAME_MAX];
    dt_init init;
    int64_t fan_in, fan_out;
    float init_std;
    int64_t zero_row;
    int32_t ndim;
    int64_t dim[DT_MAX_DIM]; /* as stored in checkpoints: without channel padding */
    int64_t padded_c;        /* last dim on the axis */
    dt_dtype dtype;          /* that it is computed with */
    int64_t frozen_at;       /* of one that is frozen: first byte in its arena */
} dt_axis_param;

typedef struct dt_axis {
    int64_t n_elem;       /* with padding */
    int64_t n_param_elem; /* without, and without that of channels */
    int32_t n_segment;
    dt_axis_segment *segment; /* ascending */
    dt_axis_param *param;     /* of the same index */
    /* Parameters that are frozen do not stand on the axis. They follow the others in segment[] and param[],
     * n_frozen of them; their offsets are in an fp32 array of their own, of n_frozen_elem floats. */
    int32_t n_frozen;
    int64_t n_frozen_elem;            /* with padding */
    int64_t n_frozen_param_elem;      /* without */
    int64_t frozen_bytes;             /* of their arena */
    int64_t n_state[DT_STATE_SHAPES]; /* floats of a state vector of that shape */
    int32_t n_bucket;
    dt_bucket bucket[DT_BUCKETS_MAX]; /* in completion order, covering the axis */
} dt_axis;

/* Lays the trained parameters of a differentiated graph on the axis, the frozen ones in their arena, sets
 * axis_offset of every PARAM and GRAD, and cuts `n_bucket` buckets (fewer if there are fewer parameters; the last one small: nothing is left to hide
 * it behind). `weight_decay` goes to segments whose parameter has decay set (all of them if decay_all). */
dt_status dt_axis_build(dt_graph *g, int32_t n_bucket, float weight_decay, bool decay_all, dt_axis **out);
/* Of a graph that is not trained and has none of a training graph's: all its PARAMs are frozen, and those that nobody
 * reads left out. */
dt_status dt_axis_build_frozen(dt_graph *g, dt_axis **out);
void dt_axis_destroy(dt_axis *a); /* accepts NULL */

/* Gives the PARAMs of another graph of the same model (evaluation, another size of input) and their gradients their
 * offsets, by name and shape; those that are frozen are so there too. */
dt_status dt_axis_assign(const dt_axis *a, dt_graph *g);

/* Whether v ends the network of a forward graph: it is an output, or judged by a loss, perhaps in another shape or
 * type. */
bool dt_axis_is_end(const dt_graph *g, dt_vid v);

/* Index of the parameter of that name, trained or frozen; -1 if there is none. */
int32_t dt_axis_find(const dt_axis *a, const char *name);

/* Number of elements of parameter i in a checkpoint. */
int64_t dt_axis_stored_elem(const dt_axis *a, int32_t i);
/* Copies parameter i between an axis array (of one that is frozen: the array of these) and its checkpoint form
 * (channel padding dropped; zeroed on the axis). */
void dt_axis_to_stored(const dt_axis *a, int32_t i, const float *axis, float *stored);
void dt_axis_from_stored(const dt_axis *a, int32_t i, const float *stored, float *axis);

/* The same of parameter i in a state vector of that shape. dims: returns how many dimensions its tensor has, and
 * writes them; 0: the parameter has none. */
int32_t dt_axis_state_dims(const dt_axis *a, int32_t i, dt_state_shape shape, int64_t dim[DT_MAX_DIM]);
void dt_axis_state_to_stored(const dt_axis *a, int32_t i, dt_state_shape shape, const float *state,
                             float *stored);
void dt_axis_state_from_stored(const dt_axis *a, int32_t i, dt_state_shape shape, const float *stored,
                               float *state);

/* Fills `master` (n_elem floats, zeroed) with initial weights: a function of the seed and each parameter's
 * name. */
void dt_axis_init(const dt_axis *a, uint64_t seed, float *master);
/* The same of those that are frozen (n_frozen_elem floats, zeroed). */
void dt_axis_init_frozen(const dt_axis *a, uint64_t seed, float *frozen);
/* Their arena (frozen_bytes, zeroed) from the fp32 array: each rounded to the type it is computed with. */
void dt_axis_pack_frozen(const dt_axis *a, const float *frozen, void *arena);

#endif
