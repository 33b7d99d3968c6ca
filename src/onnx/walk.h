/* A way through several tensors at once: few dimensions, and in each of them a step for every tensor. */
#ifndef DT_ONNX_WALK_H
#define DT_ONNX_WALK_H

#include "onnx/op.h"

enum { DT_WALK_MAX = 4, DT_RUN = 256 /* numbers that are computed at once */ };

typedef struct dt_walk {
    int32_t n_tensor, n; /* n: dimensions, 1 at least */
    int64_t dim[DT_MAX_DIM];
    int64_t step[DT_WALK_MAX][DT_MAX_DIM]; /* in elements */
    int64_t rows, run;                     /* run: elements in the last dimension */
    int64_t at[DT_WALK_MAX];               /* where the row begins in each tensor */
    int64_t index[DT_MAX_DIM];
} dt_walk;

/* All tensors read as one of the shape that they broadcast to; NULL is a tensor of that shape. */
dt_walk dt_walk_broadcast(int32_t ndim, const int64_t *dim, int32_t n, const dt_host_tensor *const *tensor);
/* Of dimensions and steps that are set; joins those that can be one. */
void dt_walk_begin(dt_walk *w);
/* For each row: for (w = ...; w.rows > 0; dt_walk_next(&w)). */
void dt_walk_next(dt_walk *w);
static inline int64_t dt_walk_step(const dt_walk *w, int32_t tensor) {
    return w->step[tensor][w->n - 1];
}
/* Steps of a tensor without gaps. */
void dt_walk_steps(int32_t ndim, const int64_t *dim, int64_t *step);

/* Copies the elements of `from` along the walk's tensor 1 to those of `to` along its tensor 0, both of one type. */
void dt_walk_copy(dt_walk w, dt_host_tensor *to, const dt_host_tensor *from);

/* Element i, j, ... of `to` is the one of `from` at the sum of table[0][i], table[1][j], ... (in elements), or `fill` where
 * one of them is -1. Both of one type. */
void dt_walk_tables(dt_host_tensor *to, const dt_host_tensor *from, const int64_t *const *table,
                    const void *fill);

#endif
