/* The work of dt_onnx_build: values, and what the families' functions are written with. Errors stick in low.st, and what
 * comes after the first does nothing. Private to the room. */
#ifndef DT_ONNX_LOWER_H
#define DT_ONNX_LOWER_H

#include "core/call.h"
#include "onnx/build.h"

/* What a DequantizeLinear is of. */
typedef struct dt_low_code {
    struct dt_lv *of; /* NULL: it is none */
    const struct dt_lv *scale, *zero;
    int32_t axis;
} dt_low_code;

/* A value of the model. Floats of 16 bits are f32 here: they are computed in the graph's type. */
typedef struct dt_lv {
    const char *name;
    dt_host_tensor t; /* data: its value is known */
    const char
        *origin;  /* the constant that it is, perhaps in another order or shape; NULL: it was computed */
    bool weight;  /* floats that the file gives as they are */
    bool rowwise; /* known, but follows from the number of rows */
    bool opaque;  /* its graph value is bytes */
    bool ready;
    uint64_t from;      /* inputs of the model that it depends on, bit i; of the 64th on bit 63 */
    dt_vid plain, last; /* graph values, in the file's order and with dimension 1 at the end; -1 */
    dt_vid byte[2];     /* likewise, of numbers of 8 bits as lower_quantize.c keeps them; -1 */
    dt_vid measured;    /* the scales of what a DynamicQuantizeLinear made; -1 */
    dt_low_code code;
} dt_lv;

typedef struct dt_low_block {
    struct dt_low_block *next;
    _Alignas(64) unsigned char byte[];
} dt_low_block;

/* What a graph keeps of a build. */
typedef struct dt_low_kept {
    dt_low_block *block;
    dt_onnx_eval *eval, *calls; /* of what is known; of calls as they run */
} dt_low_kept;

typedef struct dt_low {
    const dt_onnx_build_options *o;
    const dt_onnx_model *m;
    dt_graph *g;
    dt_low_kept *kept;
    dt_lv *value;
    int32_t n_value, cap_value;
    int32_t *by_name;         /* hash table, cap_value * 2 places */
    const dt_onnx_node *head; /* the node of the last layer; NULL: there is none, or nobody asks */
    dt_vid zeros;             /* [rows, 1] zeros; -1: not made yet */
    bool *needed;             /* by node: it is on the way to what is wanted */
    bool *done;               /* by node: another one has taken it in */
    const dt_onnx_graph *graph;
    int32_t depth;
    int32_t counter;
    dt_status st;
} dt_low;

typedef struct dt_low_node {
    const dt_onnx_node *node;
    int32_t index; /* in w->graph */
    int64_t version;
    int32_t n_in, n_out;
    dt_lv **in;  /* NULL: absent */
    dt_lv **out; /* NULL: nobody's; types and shapes are set */
} dt_low_node;

/* Lowers the node, or returns false, having added nothing: it becomes a call. */
typedef bool dt_low_fn(dt_low *w, const dt_low_node *n);
typedef struct dt_low_row {
    const char *name; /* NULL ends a list */
    dt_low_fn *lower;
} dt_low_row;
extern const dt_low_row dt_low_elementwise[], dt_low_microsoft[], dt_low_moves[], dt_low_layers[],
    dt_low_norms[], dt_low_recurrent[], dt_low_quantized[], dt_low_quantized_microsoft[];

static inline dt_lv *dt_low_in(const dt_low_node *n, int32_t i) {
    return i < n->n_in ? n->in[i] : NULL;
}
static inline dt_lv *dt_low_out(const dt_low_node *n, int32_t i) {
    return i < n->n_out ? n->out[i] : NULL;
}
static inline bool dt_low_known(const dt_lv *v) {
    return v->t.data != NULL;
}
/* Numbers that are computed in the graph's type. */
static inline bool dt_low_is_real(const dt_lv *v) {
    return v->t.type == DT_TENSOR_F32;
}
static inline bool dt_low_is_empty(const dt_lv *v) {
    return dt_host_n_elem(&v->t) == 0;
}

/* lower_value.c */
void *dt_low_alloc(dt_low *w, int64_t bytes);
/* An axis below 0 counts from the end. */
int32_t dt_low_axis(int64_t axis, int32_t ndim);
/* Numbers of a known value, or of an attribute where the version has one; -1: neither, or more than cap. */
int32_t dt_low_numbers(const dt_low_node *n, const char *attr, int32_t slot, int32_t cap, int64_t *out);
/* A known scalar of slot i, or `otherwise` where it is absent. false: it is not known. */
bool dt_low_scalar(const dt_low_node *n, int32_t slot, double otherwise, double *out);
/* All its elements are the same one. */
bool dt_low_uniform(const dt_lv *v, float *out);

/* `name` as the graph takes it, made unique. */
const char *dt_low_free_name(dt_low *w, const char *name, char text[DT_NAME_MAX]);
/* Adds a node whose name begins with `name`. */
dt_vid dt_low_add(dt_low *w, const char *name, dt_op op, const dt_attr *attr, int32_t n_in, const dt_vid *in);
/* v itself where nothing changes. */
dt_vid dt_low_reshape(dt_low *w, const char *name, dt_vid v, int32_t ndim, const int64_t *dim);
dt_vid dt_low_permute(dt_low *w, const char *name, dt_vid v, const int32_t *perm);
dt_vid dt_low_slice(dt_low *w, const char *name, dt_vid v, int32_t axis, int64_t begin, int64_t length);
dt_vid dt_low_pad(dt_low *w, const char *name, dt_vid v, int32_t axis, int64_t begin, int64_t length);
dt_vid dt_low_unary(dt_low *w, const char *name, dt_vid v, dt_unary fn, float a, float b);
dt_vid dt_low_binary(dt_low *w, const char *name, dt_vid a, dt_vid b, dt_binary fn);
dt_vid dt_low_cast(dt_low *w, const char *name, dt_vid v, dt_dtype to);
/* v, dimensions of 1 or missing ones repeated. */
dt_vid dt_low_expand(dt_low *w, const char *name, dt_vid v, int32_t ndim, const int64_t *dim, bool rowwise);

/* A parameter called after `origin` that begins as `data`, which stay where they are. trains: unless the build has
 * constants alone. decay: weight decay is for it. */
dt_vid dt_low_param(dt_low *w, const char *origin, const float *data, int32_t ndim, const int64_t *dim,
                    bool trains, bool decay);
/* The same of a vector that is f32 in every network: biases, and what normalisations have. */
dt_vid dt_low_param_f32(dt_low *w, const char *origin, const float *data, int64_t n);
/* A running statistic. */
dt_vid dt_low_state(dt_low *w, const char *origin, const float *data, int64_t n);
/* The known value's numbers with its dimensions in another order. */
const float *dt_low_permuted(dt_low *w, const dt_lv *v, int32_t ndim, const int64_t *dim,
                             const int32_t *perm);
/* Whole numbers, given as floats, in the shape of v, as a constant of i32. */
dt_vid dt_low_whole(dt_low *w, const dt_lv *v, const float *numbers);
/* A known vector as a parameter of one dimension. */
dt_vid dt_low_vector(dt_low *w, const dt_lv *v);

/* The graph value, made where it is not there; dimensions are the value's, a scalar's 1. */
dt_vid dt_low_plain(dt_low *w, dt_lv *v);
/* Of 3 dimensions or more: dimension 1 at the end. */
dt_vid dt_low_last(dt_low *w, dt_lv *v);
/* Whether it is there with dimension 1 at the end, and not otherwise. */
bool dt_low_is_last(const dt_lv *v);
/* As an operand of a function of values of ndim dimensions, in that order. */
dt_vid dt_low_operand(dt_low *w, dt_lv *v, int32_t ndim, bool last, bool trains);
void dt_low_set(dt_low *w, dt_lv *out, dt_vid v, bool last);
/* out is in. */
void dt_low_same(dt_lv *out, const dt_lv *in);
/* The place of dimension d of the file's order. */
static inline int32_t dt_low_place(int32_t d, int32_t ndim, bool last) {
    return !last || d == 0 ? d : d == 1 ? ndim - 1 : d - 1;
}
/* The node that alone reads out[0] of this one, and nobody else wants that; -1: there is none. */
int32_t dt_low_reader(const dt_low *w, const char *name);
/* The value of a node that is done is y. */
void dt_low_alias(dt_low *w, const char *name, const dt_lv *y);
dt_lv *dt_low_find(const dt_low *w, const char *name);
/* lower_layers.c: of a Conv of images whose filters have these sides; false: it has no such window. */
bool dt_low_conv_window(const dt_low_node *n, const dt_lv *x, const dt_lv *y, const int64_t *kernel,
                        dt_window_attr *out);
/* lower_quantize.c */
/* Remembers what a DequantizeLinear is of. */
void dt_low_note_code(const dt_low_node *n);
/* Makes the graph value of what is 8 bits so far; dt_low_decodes_last: whether with dimension 1 at the end. */
void dt_low_decode(dt_low *w, dt_lv *v);
bool dt_low_decodes_last(const dt_lv *v);
/* v in 8 bits by ranges that are measured; false: w->st says why. */
bool dt_low_measure(dt_low *w, const char *name, dt_vid v, const dt_attr *t, dt_vid *y, dt_vid *scale);
/* A call of the node's definition. */
void dt_low_call(dt_low *w, const dt_low_node *n);

#endif
