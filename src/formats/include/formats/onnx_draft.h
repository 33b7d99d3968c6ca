/* A model that grows node by node, for who translates a network into one. The first error sticks in the draft; later
 * calls do nothing and return "", so that a translation reads as a list of nodes and is checked once. */
#ifndef DT_FORMATS_ONNX_DRAFT_H
#define DT_FORMATS_ONNX_DRAFT_H

#include "formats/onnx.h"

typedef struct dt_onnx_draft {
    dt_onnx_model *m;
    dt_status status;
    int32_t cap_node, cap_constant, cap_in, cap_out;
    int64_t n_named; /* names made up so far */
} dt_onnx_draft;

/* Of ai.onnx's version. */
dt_status dt_onnx_draft_create(int64_t version, dt_onnx_draft *out);
/* The model, which is the caller's from here on; what stuck in the draft frees it. Harmless on a draft that was not
 * created. */
dt_status dt_onnx_draft_end(dt_onnx_draft *d, dt_onnx_model **out);

/* An attribute; the numbers and texts become the model's own with the node. */
static inline dt_onnx_attr dt_onnx_int(const char *name, int64_t value) {
    return (dt_onnx_attr){.name = name, .kind = DT_ONNX_INT, .n = 1, .i = value};
}
static inline dt_onnx_attr dt_onnx_float(const char *name, float value) {
    return (dt_onnx_attr){.name = name, .kind = DT_ONNX_FLOAT, .n = 1, .f = value};
}
static inline dt_onnx_attr dt_onnx_word(const char *name, const char *value) {
    return (dt_onnx_attr){.name = name, .kind = DT_ONNX_STRING, .n = 1, .s = value};
}
static inline dt_onnx_attr dt_onnx_ints(const char *name, int32_t n, const int64_t *value) {
    return (dt_onnx_attr){.name = name, .kind = DT_ONNX_INTS, .n = n, .ints = value};
}
static inline dt_onnx_attr dt_onnx_words(const char *name, int32_t n, const char *const *value) {
    return (dt_onnx_attr){.name = name, .kind = DT_ONNX_STRINGS, .n = n, .strings = value};
}

/* Lists with their lengths: dt_onnx_draft_op(d, "Concat", NULL, DT_ONNX_IN(x, y), DT_ONNX_ATTR(dt_onnx_int("axis", 1))). */
#define DT_ONNX_IN(...)                                                                                      \
    (const char *const[]){__VA_ARGS__},                                                                      \
        (int32_t)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))
#define DT_ONNX_ATTR(...)                                                                                    \
    (const dt_onnx_attr[]){__VA_ARGS__},                                                                     \
        (int32_t)(sizeof((const dt_onnx_attr[]){__VA_ARGS__}) / sizeof(dt_onnx_attr))
#define DT_ONNX_PLAIN NULL, 0 /* no attributes */

/* A node of one output, whose name is returned: `name`, or one made up where that is NULL. Attributes of a NULL name
 * are left out. */
const char *dt_onnx_draft_op(dt_onnx_draft *d, const char *op, const char *name, const char *const *in,
                             int32_t n_in, const dt_onnx_attr *attr, int32_t n_attr);
/* The same with outputs of these names. */
void dt_onnx_draft_node(dt_onnx_draft *d, const char *op, const char *domain, const char *const *in,
                        int32_t n_in, const char *const *out, int32_t n_out, const dt_onnx_attr *attr,
                        int32_t n_attr);

/* A constant; `data` (n_bytes as the shape says) is copied, or with `keep` stays the caller's and outlives the model. Returns
 * its name: `name`, or one made up. */
const char *dt_onnx_draft_constant(dt_onnx_draft *d, const char *name, dt_tensor_type type, int32_t ndim,
                                   const int64_t *dim, const void *data, bool keep);
/* i64 [n], f32 []: operands such as shapes, axes and factors. */
const char *dt_onnx_draft_i64s(dt_onnx_draft *d, int32_t n, const int64_t *value);
const char *dt_onnx_draft_f32(dt_onnx_draft *d, float value);

/* What the graph takes and gives; the name of an output is one of a value. dim -1: any; ndim -1: not told. */
void dt_onnx_draft_input(dt_onnx_draft *d, const dt_onnx_value_info *v);
void dt_onnx_draft_output(dt_onnx_draft *d, const dt_onnx_value_info *v);
void dt_onnx_draft_note(dt_onnx_draft *d, const char *key, const char *value);

/* Notes an error, as dt_fail; the first counts. */
void dt_onnx_draft_fail(dt_onnx_draft *d, const char *format, ...) DT_PRINTF(2, 3);

#endif
