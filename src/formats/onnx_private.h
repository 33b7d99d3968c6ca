/* What the reader of ONNX files consists of. Private to src/formats. */
#ifndef DT_FORMATS_ONNX_PRIVATE_H
#define DT_FORMATS_ONNX_PRIVATE_H

#include "formats/onnx.h"
#include "formats/protobuf.h"

/* A list that grows while a message is read: its length is never taken from the file. */
typedef struct dt_onnx_list {
    char *item; /* owned */
    size_t size;
    int64_t n, room;
} dt_onnx_list;

typedef struct dt_onnx_external {
    const char *location;
    int32_t file; /* of the model's */
} dt_onnx_external;

/* An input or output of a function. */
typedef struct dt_onnx_formal {
    const char *name;
    int32_t index;
    bool is_out;
} dt_onnx_formal;

typedef struct dt_onnx_function {
    const char *domain, *name, *overload;
    dt_pb body;
    int32_t n_in, n_out, n_attr, n_opset;
    const dt_onnx_formal *formal; /* n_in + n_out, ascending by name */
    const dt_onnx_attr *attr;     /* where a call does not give them */
    const dt_onnx_opset *opset;
} dt_onnx_function;

/* One call of a function while it is put in the call's place. */
typedef struct dt_onnx_scope {
    const struct dt_onnx_scope *outer; /* NULL: the function was called by the graph */
    const dt_onnx_function *function;
    const dt_onnx_node *call;
    const char *prefix; /* of the function's own names */
    int32_t depth;
} dt_onnx_scope;

/* A tensor that cannot be held, which is an error only where something reads it. */
typedef struct dt_onnx_unread {
    const char *name, *why;
} dt_onnx_unread;

typedef struct dt_onnx_reader {
    dt_onnx_model *m;
    const char *path;
    dt_onnx_list functions; /* dt_onnx_function, ascending */
    dt_onnx_list externals; /* dt_onnx_external */
    dt_onnx_list unread;    /* dt_onnx_unread */
    dt_onnx_list opsets;    /* dt_onnx_opset */
    int64_t inlined_bytes, n_call;
} dt_onnx_reader;

/* onnx_take.c */
dt_status dt_onnx_no_memory(void);
/* The new item, zero-filled; NULL without memory. */
void *dt_onnx_list_add(dt_onnx_list *l);
/* Moves the items into the model; an error or not, the list is empty. */
dt_status dt_onnx_list_keep(dt_onnx_reader *rd, dt_onnx_list *l, const void *out, int32_t *n);

void dt_onnx_list_free(dt_onnx_list *l);

/* Memory of the model; what functions take is bounded (scope). *out: a pointer of any type. */
dt_status dt_onnx_take(dt_onnx_reader *rd, const dt_onnx_scope *scope, int64_t bytes, void *out);
/* UTF-8 without NUL; of a name also without control characters. */
dt_status dt_onnx_take_text(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                            const dt_pb_field *f, bool is_name, const char **out);

/* onnx_attr.c. Those in the fields of that number. */
dt_status dt_onnx_read_attrs(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r, int32_t field,
                             const dt_onnx_attr **out, int32_t *n_out);

/* onnx_graph.c. A node, or those of the function that it calls, behind `nodes`. */
dt_status dt_onnx_read_node(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_list *nodes);
dt_status dt_onnx_read_graph(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_graph *out);

/* onnx_function.c */
const char *dt_onnx_plain_domain(const char *domain); /* "" for "ai.onnx" */
dt_status dt_onnx_read_opset(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at, dt_onnx_opset *out);
dt_status dt_onnx_read_function(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at);
/* After the last: they are found by name from here on. */
dt_status dt_onnx_sort_functions(dt_onnx_reader *rd);
const dt_onnx_function *dt_onnx_find_function(const dt_onnx_reader *rd, const char *domain, const char *name,
                                              const char *overload);
/* Its nodes in the place of a call, which `outer`, a function or NULL, makes. */
dt_status dt_onnx_inline(dt_onnx_reader *rd, const dt_onnx_scope *outer, const dt_onnx_function *fn,
                         const dt_onnx_node *call, dt_onnx_list *nodes);
dt_status dt_onnx_rename_value(dt_onnx_reader *rd, const dt_onnx_scope *scope, const char **name);

/* onnx_tensor.c. *why: not NULL where its type is none that can be held; then *out has a name and nothing else. */
dt_status dt_onnx_read_tensor(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_tensor *out,
                              const char **why);
/* Bits of a number of a type that files pack several of in a byte; 0: another type. */
int32_t dt_onnx_packed_bits(dt_tensor_type type);
/* ONNX's number of a type; 0: it has none. */
int64_t dt_onnx_type_number(dt_tensor_type type);
/* DT_TENSOR_TYPES: none that can be held. */
dt_tensor_type dt_onnx_type_find(uint64_t number);

/* onnx_order.c. Checks all names of the model's graph and its bodies, and puts nodes in order. */
dt_status dt_onnx_order(dt_onnx_reader *rd);

/* onnx_read.c. Reads into an empty model; errors do not say the path. */
dt_status dt_onnx_read_into(dt_onnx_model *m, const char *path);

/* onnx_write.c. dt_onnx_write() with another limit to the bytes that a file holds itself. */
dt_status dt_onnx_write_limit(const dt_onnx_model *m, const char *path, int64_t inside_bytes_max);

#endif
