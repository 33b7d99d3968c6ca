/* What the families' files (op_<family>.c) write their rows with. A family holds its ops' rows, shape rules, gradients
 * and FLOPs. What slots say is checked before a shape rule is asked (op_check.c). Private to the room. */
#ifndef DT_CORE_OP_ROW_H
#define DT_CORE_OP_ROW_H

#include <stddef.h>

#include "core/op.h"

#define DT_OP_ROW(NAME, name) extern const dt_op_row dt_row_##name;
DT_OP_LIST(DT_OP_ROW)
#undef DT_OP_ROW

/* Short forms of slots. */
#define T(name_, ...)                                                                                        \
    { .name = (name_), __VA_ARGS__ }
#define WEIGHT(name_, ...)                                                                                   \
    { .name = (name_), .type = DT_SLOT_WEIGHT, __VA_ARGS__ }
#define ANY(name_, ...)                                                                                      \
    { .name = (name_), .type = DT_SLOT_ANY, __VA_ARGS__ }
#define FLOAT(name_, ...)                                                                                    \
    { .name = (name_), .type = DT_SLOT_FLOAT, __VA_ARGS__ }
#define F32(name_, ...)                                                                                      \
    { .name = (name_), .type = DT_SLOT_F32, __VA_ARGS__ }
#define OPT            .optional = true
#define SAME(slot)     .same = (slot) + 1
#define LEN(slot, d)   .len_of = (slot) + 1, .len_dim = (d)
#define LAST           (-1)
#define NEEDS(slot)    .needs = 1u << (slot)
#define NEEDS2(a, b)   .needs = 1u << (a) | 1u << (b)
#define IN_PLACE(i, o) .in_place = (i) + 1, .in_place_out = (o)

/* An attribute; its type is that of the field. */
#define FIELD(family, field)   ((dt_attr *)0)->family.field
#define A(family_, field)      ATTRIBUTE(family_, field, false)
#define LEARNS(family_, field) ATTRIBUTE(family_, field, true) /* means nothing outside of training */
#define ATTRIBUTE(family_, field, learns_)                                                                     \
    {                                                                                                          \
        .family = #family_, .name = #field, .learns = (learns_),                                             \
        .type = _Generic(FIELD(family_, field),                                                              \
                         int32_t: "i32",                                                                     \
                         int32_t *: "i32",                                                                   \
                         int64_t: "i64",                                                                     \
                         int64_t *: "i64",                                                                   \
                         uint64_t: "u64",                                                                    \
                         float: "f32",                                                                       \
                         float *: "f32",                                                                     \
                         bool: "bool",                                                                       \
                         dt_unary: "function",                                                               \
                         dt_binary: "function",                                                              \
                         dt_loss_kind: "loss",                                                               \
                         dt_loss_sums: "sums",                                                               \
dt_reduce_kind: "reduction", \
                         dt_resample_mode: "resampling",                                                     \
                         dt_recurrent_kind: "recurrence",                                                    \
                         const dt_call *: "call",                                                            \
                         const dt_qproduct *: "product",                                                            \
                         dt_dtype: "type"),                                                                  \
        .offset = offsetof(dt_attr, family_.field), .size = sizeof FIELD(family_, field),                    \
        .count = sizeof FIELD(family_, field) / _Generic(FIELD(family_, field),                                \
                                                          int32_t *: (sizeof(int32_t)),                     \
                                                          int64_t *: (sizeof(int64_t)),                     \
                                                          float *: (sizeof(float)),                         \
                                                          default: (sizeof FIELD(family_, field))) \
    }
#define WINDOW      A(window, kernel), A(window, stride), A(window, pad_begin), A(window, pad_end)
#define CONVOLUTION WINDOW, A(window, dilation), A(window, groups)

/* Whether the node's operands are what the slots of its row ask for. */
dt_status dt_op_check(const dt_graph *g, const dt_node *n);

/* What rules are written with. */
static inline const dt_value *dt_infer_in(const dt_graph *g, const dt_node *n, int32_t slot) {
    return &g->value[n->in[slot]];
}
static inline int64_t dt_infer_last(const dt_value *v) {
    return v->dim[v->ndim - 1];
}
/* Dims past the ndim-th are ignored. */
static inline void dt_infer_set(dt_value *out, dt_dtype dtype, int32_t ndim, const int64_t *dim) {
    out->dtype = dtype;
    out->ndim = ndim;
    for (int32_t i = 0; i < DT_MAX_DIM; i++) out->dim[i] = i < ndim ? dim[i] : 0;
}
#define DT_INFER_SET(out, dtype, ...)                                                                        \
    dt_infer_set(out, dtype, (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                  \
                 (int64_t[]){__VA_ARGS__})
static inline void dt_infer_like(dt_value *out, const dt_value *v) {
    dt_infer_set(out, v->dtype, v->ndim, v->dim);
}
/* Dims, not dtype. */
static inline bool dt_infer_same_dims(const dt_value *a, const dt_value *b) {
    bool same = a->ndim == b->ndim;
    for (int32_t i = 0; same && i < a->ndim; i++) same = a->dim[i] == b->dim[i];
    return same;
}
/* "input <slot>, <value>, is <shape>: it does not fit the others" */
dt_status dt_infer_misfit(const dt_graph *g, const dt_node *n, int32_t slot);

/* One output like the first input. */
dt_status dt_infer_same(const dt_graph *g, const dt_node *n, dt_value *out);

/* A name for a gradient of v: "grad/<value>", made unique by a counter where several uses contribute. */
void dt_grad_name(const dt_graph *g, dt_vid v, char *name);
/* Appends the node that makes the gradient of value `of`, named after it. */
dt_status dt_grad_add_node(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, int32_t n_in,
                           const dt_vid *in, dt_vid *out);
/* The same of dout alone. */
dt_status dt_grad_add_of(dt_graph *g, dt_vid of, dt_op op, const dt_attr *attr, dt_vid dout, dt_vid *out);

/* FLOPs: one, or four, for each element of the row's main input. */
double dt_flops_main(const dt_graph *g, const dt_node *n);
double dt_flops_main4(const dt_graph *g, const dt_node *n);

/* Whether attr.act is a function that a product may end in. */
dt_status dt_infer_act(int32_t act);

/* op_conv.c: P and Q of an image of h x w. */
dt_status dt_infer_windows(const dt_window_attr *t, int64_t h, int64_t w, int64_t *p, int64_t *q);
/* The pooled image of v. */
dt_status dt_infer_pooled(const dt_window_attr *t, const dt_value *v, dt_value *out);
/* The sums of a batch norm's backward, of c channels. */
void dt_infer_bn_sums(const dt_graph *g, const dt_node *n, int64_t c, dt_value *dgamma, dt_value *dbeta,
                      dt_value *coef);
/* The attributes with size of `image`, of a convolution or pool. */
dt_attr dt_grad_window(const dt_graph *g, const dt_attr *attr, dt_vid image);

#endif
