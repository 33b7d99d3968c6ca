/* Broadcasting (NumPy's): shapes are aligned at their last dimensions, and a dimension that is missing or 1
 * is repeated. What kernels walk is a space of few dimensions: those that the operands take alike are one. */
#ifndef DT_CORE_BROADCAST_H
#define DT_CORE_BROADCAST_H

#include "core/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DT_SPACE_FULL = 0, DT_SPACE_A, DT_SPACE_B, DT_SPACE_OPERANDS };

typedef struct dt_space {
    int32_t n; /* dimensions, 1 at least */
    int64_t dim[DT_MAX_DIM];
    int64_t stride[DT_SPACE_OPERANDS][DT_MAX_DIM]; /* in elements; 0: repeated */
} dt_space;

/* The shape of a op b: ndim and dim of `out`. False: they do not fit together. */
bool dt_broadcast_shape(const dt_value *a, const dt_value *b, dt_value *out);
/* The space of `full` read by a and b, which may be NULL. */
dt_space dt_broadcast_space(const dt_value *full, const dt_value *a, const dt_value *b);
/* The space of x with its dimensions in the order perm, which is FULL; A is x itself. */
dt_space dt_broadcast_permuted(const dt_value *x, const int32_t *perm);
/* The two parts of a space: dimensions that `operand` has, and those along which it is repeated. */
void dt_broadcast_split(const dt_space *s, int32_t operand, dt_space *kept, dt_space *summed);
int64_t dt_space_n_elem(const dt_space *s);

/* Where element `index` of the space is in each operand. */
static inline void dt_space_offsets(const dt_space *s, int64_t index, int64_t off[DT_SPACE_OPERANDS]) {
    for (int32_t k = 0; k < DT_SPACE_OPERANDS; k++) off[k] = 0;
    for (int32_t i = s->n - 1; i >= 0; i--) {
        const int64_t at = i > 0 ? index % s->dim[i] : index;
        index /= s->dim[i];
        for (int32_t k = 0; k < DT_SPACE_OPERANDS; k++) off[k] += at * s->stride[k][i];
    }
}

#ifdef __cplusplus
}
#endif

#endif
