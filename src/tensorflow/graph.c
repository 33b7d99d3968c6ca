/* GraphDef, SavedModel: numbers of fields are those of TensorFlow's .proto files. */
#include "graph.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 1 << 24 }; /* nodes, texts of one file */

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "no memory for a graph");
}

static const char *copied(dt_onnx_model *m, const dt_pb_field *f) {
    return f->wire == DT_PB_BYTES && f->n < INT_MAX ? dt_onnx_text(m, "%.*s", (int)f->n, (const char *)f->at)
                                                    : "";
}

static bool is_text(const dt_pb_field *f, const char *text) {
    return f->wire == DT_PB_BYTES && (size_t)f->n == strlen(text) && memcmp(f->at, text, (size_t)f->n) == 0;
}

/* How many fields of that number a message has, at most LIST_MAX. */
static int32_t count_fields(dt_pb r, int32_t number) {
    dt_pb_field f;
    int32_t n = 0;
    while (n < LIST_MAX && dt_pb_next(&r, &f)) n += f.number == number;
    return n;
}

/* The field of a message, the last where it is there several times; false where it is not. */
static bool find_field(dt_pb r, int32_t number, dt_pb_field *out) {
    dt_pb_field f;
    bool found = false;
    *out = (dt_pb_field){.n = 0};
    while (dt_pb_next(&r, &f))
        if (f.number == number) *out = f, found = true;
    return found;
}

/* The inner message of that number; false where there is none. */
static bool enter(const dt_pb *r, int32_t number, dt_pb *out) {
    dt_pb_field f;
    return find_field(*r, number, &f) && f.wire == DT_PB_BYTES && dt_pb_enter(r, &f, out) == DT_OK;
}

/* The value of a map's entry: key 1, value 2. */
static bool entry_value(const dt_pb *map, const dt_pb_field *entry, const char *key, dt_pb *out) {
    dt_pb e;
    dt_pb_field f;
    return entry->wire == DT_PB_BYTES && dt_pb_enter(map, entry, &e) == DT_OK && find_field(e, 1, &f) &&
           is_text(&f, key) && enter(&e, 2, out);
}

/* ---- attributes ---- */

enum {
    ATTR_LIST = 1,
    ATTR_TEXT,
    ATTR_INT,
    ATTR_FLOAT,
    ATTR_BOOL,
    ATTR_TYPE,
    ATTR_SHAPE,
    ATTR_TENSOR,
    ATTR_FUNC = 10
};

static bool find_attr(const dt_tf_node *n, const char *name, dt_pb *out) {
    enum { NODE_ATTR = 5 };
    dt_pb r = n->message;
    dt_pb_field f;
    while (dt_pb_next(&r, &f))
        if (f.number == NODE_ATTR && entry_value(&n->message, &f, name, out)) return true;
    return false;
}

int64_t dt_tf_int(const dt_tf_node *n, const char *name, int64_t otherwise) {
    dt_pb a;
    dt_pb_field f;
    if (!find_attr(n, name, &a)) return otherwise;
    const int32_t kinds[] = {ATTR_INT, ATTR_BOOL, ATTR_TYPE};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (find_field(a, kinds[i], &f) && f.wire == DT_PB_VARINT) return (int64_t)f.value;
    return 0; /* numbers of 0 are left out of files */
}

float dt_tf_float(const dt_tf_node *n, const char *name, float otherwise) {
    dt_pb a;
    dt_pb_field f;
    float value = 0;
    if (!find_attr(n, name, &a)) return otherwise;
    if (find_field(a, ATTR_FLOAT, &f) && f.wire == DT_PB_FIXED32) {
        const uint32_t bits = (uint32_t)f.value;
        memcpy(&value, &bits, sizeof value);
    }
    return value;
}

const char *dt_tf_text(dt_onnx_model *m, const dt_tf_node *n, const char *name, const char *otherwise) {
    dt_pb a, inner;
    dt_pb_field f;
    const char *text = NULL;
    if (!find_attr(n, name, &a)) return otherwise;
    if (find_field(a, ATTR_TEXT, &f) || (enter(&a, ATTR_FUNC, &inner) && find_field(inner, 1, &f)))
        text = copied(m, &f);
    return text ? text : otherwise;
}

int64_t dt_tf_ints(const dt_tf_node *n, const char *name, int64_t cap, int64_t *out) {
    enum { LIST_INTS = 3 };
    dt_pb a, list;
    dt_pb_field f;
    int64_t have = 0, more;
    if (!find_attr(n, name, &a) || !enter(&a, ATTR_LIST, &list)) return 0;
    dt_pb r = list;
    while (dt_pb_next(&r, &f)) {
        if (f.number != LIST_INTS || dt_pb_count(&list, &f, DT_PB_VARINT, &more) != DT_OK) continue;
        for (; more > 0; more--, have++) {
            uint64_t bits;
            dt_pb_numbers(&f, DT_PB_VARINT, 1, &bits);
            if (have < cap) out[have] = (int64_t)bits;
        }
    }
    return have;
}

/* TensorShapeProto. False where it has too many sides. */
static bool read_shape(const dt_pb *shape, int32_t *ndim, int64_t dim[DT_MAX_DIM]) {
    enum { SHAPE_DIM = 2, SHAPE_UNKNOWN = 3 };
    dt_pb r = *shape, side;
    dt_pb_field f, size;
    *ndim = 0;
    if (find_field(*shape, SHAPE_UNKNOWN, &f) && f.value) {
        *ndim = -1;
        return true;
    }
    while (dt_pb_next(&r, &f)) {
        if (f.number != SHAPE_DIM || f.wire != DT_PB_BYTES) continue;
        if (*ndim == DT_MAX_DIM || dt_pb_enter(shape, &f, &side) != DT_OK) return false;
        dim[(*ndim)++] = find_field(side, 1, &size) ? (int64_t)size.value : 0;
    }
    return true;
}

void dt_tf_shape(const dt_tf_node *n, const char *name, dt_onnx_value_info *out) {
    dt_pb a, shape;
    out->ndim = -1;
    if (!find_attr(n, name, &a) || !enter(&a, ATTR_SHAPE, &shape)) return;
    if (!read_shape(&shape, &out->ndim, out->dim)) out->ndim = -1;
}

dt_tensor_type dt_tf_type(int64_t tensorflow) {
    static const struct {
        int64_t number;
        dt_tensor_type type;
    } row[] = {{1, DT_TENSOR_F32},   {2, DT_TENSOR_F64},  {3, DT_TENSOR_I32},  {4, DT_TENSOR_U8},
               {5, DT_TENSOR_I16},   {6, DT_TENSOR_I8},   {9, DT_TENSOR_I64},  {10, DT_TENSOR_BOOL},
               {14, DT_TENSOR_BF16}, {17, DT_TENSOR_U16}, {19, DT_TENSOR_F16}, {22, DT_TENSOR_U32},
               {23, DT_TENSOR_U64}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (row[i].number == tensorflow) return row[i].type;
    return DT_TENSOR_TYPES;
}

/* ---- TensorProto ---- */

enum { TENSOR_TYPE = 1, TENSOR_SHAPE, TENSOR_CONTENT = 4, TENSOR_TEXT = 8 };

/* A field of numbers, its wire type, and the tensor types that stand in it. */
static const struct {
    int32_t number;
    dt_pb_wire wire;
    dt_tensor_type type[5];
} value_fields[] = {
    {5, DT_PB_FIXED32, {DT_TENSOR_F32, DT_TENSOR_TYPES}},
    {6, DT_PB_FIXED64, {DT_TENSOR_F64, DT_TENSOR_TYPES}},
    {7, DT_PB_VARINT, {DT_TENSOR_I32, DT_TENSOR_I16, DT_TENSOR_I8, DT_TENSOR_U8, DT_TENSOR_U16}},
    {10, DT_PB_VARINT, {DT_TENSOR_I64, DT_TENSOR_TYPES}},
    {11, DT_PB_VARINT, {DT_TENSOR_BOOL, DT_TENSOR_TYPES}},
    {13, DT_PB_VARINT, {DT_TENSOR_F16, DT_TENSOR_BF16, DT_TENSOR_TYPES}},
    {16, DT_PB_VARINT, {DT_TENSOR_U32, DT_TENSOR_TYPES}},
    {17, DT_PB_VARINT, {DT_TENSOR_U64, DT_TENSOR_TYPES}},
};

static bool has_type(size_t row, dt_tensor_type type) {
    for (size_t k = 0; k < 5 && value_fields[row].type[k] != DT_TENSOR_TYPES; k++)
        if (value_fields[row].type[k] == type) return true;
    return false;
}

/* Numbers written one by one; where there are fewer than elements, the last stands for the rest, and none for zeros. */
static dt_status take_numbers(dt_onnx_model *m, const dt_pb *t, dt_onnx_tensor *out) {
    size_t row = 0;
    while (row < sizeof value_fields / sizeof value_fields[0] && !has_type(row, out->type)) row++;
    const int64_t bytes = out->n_elem > 0 ? out->n_bytes / out->n_elem : 0, most = 1 << 28;
    if (out->n_bytes > most) /* one number may stand for all: a small file would ask for much memory */
        return dt_fail(DT_ERR_DATA, "node \"%s\": a tensor of more than %lld bytes that are not in the file",
                       out->name, (long long)most);
    char *data = dt_onnx_alloc(m, out->n_bytes);
    if (!data) return no_memory();
    dt_pb r = *t;
    dt_pb_field f;
    int64_t at = 0, n;
    while (row < sizeof value_fields / sizeof value_fields[0] && dt_pb_next(&r, &f)) {
        if (f.number != value_fields[row].number) continue;
        DT_TRY(dt_pb_count(t, &f, value_fields[row].wire, &n));
        for (; n > 0 && at < out->n_elem; n--, at++) {
            uint64_t bits;
            dt_pb_numbers(&f, value_fields[row].wire, 1, &bits);
            memcpy(data + at * bytes, &bits, (size_t)bytes); /* little endian */
        }
    }
    for (; at > 0 && at < out->n_elem; at++)
        memcpy(data + at * bytes, data + (at - 1) * bytes, (size_t)bytes);
    out->data = data;
    return DT_OK;
}

dt_status dt_tf_tensor(dt_onnx_model *m, const dt_tf_node *n, const char *name, dt_onnx_tensor *out) {
    dt_pb a, t, shape;
    dt_pb_field f;
    *out = (dt_onnx_tensor){.name = n->name};
    if (!find_attr(n, name, &a) || !enter(&a, ATTR_TENSOR, &t) || !find_field(t, TENSOR_TYPE, &f))
        return dt_fail(DT_ERR_DATA, "node \"%s\": no tensor in it", n->name);
    out->type = dt_tf_type((int64_t)f.value);
    if (out->type == DT_TENSOR_TYPES)
        return dt_fail(DT_ERR_DATA, "node \"%s\": a tensor of TensorFlow's type %llu", n->name,
                       (unsigned long long)f.value);
    if (enter(&t, TENSOR_SHAPE, &shape) && (!read_shape(&shape, &out->ndim, out->dim) || out->ndim < 0))
        return dt_fail(DT_ERR_DATA, "node \"%s\": a tensor of no shape that is read", n->name);
    if (!dt_file_tensor_size(out->type, out->ndim, out->dim, &out->n_elem, &out->n_bytes))
        return dt_fail(DT_ERR_DATA, "node \"%s\": a tensor of no size", n->name);
    if (!find_field(t, TENSOR_CONTENT, &f) || f.n == 0) return take_numbers(m, &t, out);
    if (f.wire != DT_PB_BYTES || f.n != out->n_bytes)
        return dt_fail(DT_ERR_DATA, "node \"%s\": %lld bytes for a tensor of %lld", n->name, (long long)f.n,
                       (long long)out->n_bytes);
    out->data = f.at;
    return DT_OK;
}

dt_status dt_tf_texts(dt_onnx_model *m, const dt_tf_node *n, const char *name, int64_t *count,
                      const char ***out) {
    dt_pb a, t;
    dt_pb_field f;
    *count = 0;
    if (!find_attr(n, name, &a) || !enter(&a, ATTR_TENSOR, &t))
        return dt_fail(DT_ERR_DATA, "node \"%s\": no tensor in it", n->name);
    const int32_t most = count_fields(t, TENSOR_TEXT);
    *out = dt_onnx_alloc(m, (most + 1) * (int64_t)sizeof **out);
    if (!*out) return no_memory();
    dt_pb r = t;
    while (*count < most && dt_pb_next(&r, &f))
        if (f.number == TENSOR_TEXT && !((*out)[(*count)++] = copied(m, &f))) return no_memory();
    return DT_OK;
}

/* ---- bodies ---- */

static int by_name(const void *a, const void *b) {
    const dt_tf_node *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

const dt_tf_node *dt_tf_node_find(const dt_tf_body *b, const char *name) {
    int32_t low = 0, high = b->n_node;
    while (low < high) {
        const int32_t middle = (low + high) / 2, order = strcmp(b->by_name[middle]->name, name);
        if (order == 0) return b->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const dt_tf_body *dt_tf_function_find(const dt_tf_graph *g, const char *name) {
    for (int32_t i = 0; i < g->n_function; i++)
        if (strcmp(g->function[i].name, name) == 0) return &g->function[i];
    return NULL;
}

static dt_status read_node(dt_onnx_model *m, const dt_pb *r, const dt_pb_field *field, dt_tf_node *n) {
    enum { NODE_NAME = 1, NODE_OP, NODE_IN };
    dt_pb_field f;
    *n = (dt_tf_node){.name = "", .op = ""};
    DT_TRY(dt_pb_enter(r, field, &n->message));
    n->in = dt_onnx_alloc(m, (count_fields(n->message, NODE_IN) + 1) * (int64_t)sizeof *n->in);
    if (!n->in) return no_memory();
    dt_pb each = n->message;
    while (dt_pb_next(&each, &f)) {
        const char *text = f.number <= NODE_IN ? copied(m, &f) : "";
        if (!text) return no_memory();
        if (f.number == NODE_NAME) n->name = text;
        if (f.number == NODE_OP) n->op = text;
        if (f.number == NODE_IN && text[0] != '^') n->in[n->n_in++] = text;
    }
    return n->name[0] && n->op[0] ? DT_OK : dt_pb_fail(r, field, "a node without name or op");
}

static dt_status read_nodes(dt_onnx_model *m, const dt_pb *r, int32_t number, dt_tf_body *b) {
    const int32_t n = count_fields(*r, number);
    b->node = dt_onnx_alloc(m, (n + 1) * (int64_t)sizeof *b->node);
    b->by_name = dt_onnx_alloc(m, (n + 1) * (int64_t)sizeof *b->by_name);
    if (!b->node || !b->by_name) return no_memory();
    dt_pb each = *r;
    dt_pb_field f;
    while (b->n_node < n && dt_pb_next(&each, &f)) {
        if (f.number != number) continue;
        DT_TRY(read_node(m, r, &f, &b->node[b->n_node]));
        b->by_name[b->n_node] = &b->node[b->n_node];
        b->n_node++;
    }
    qsort(b->by_name, (size_t)b->n_node, sizeof *b->by_name, by_name);
    for (int32_t i = 1; i < b->n_node; i++)
        if (strcmp(b->by_name[i]->name, b->by_name[i - 1]->name) == 0)
            return dt_fail(DT_ERR_DATA, "two nodes are named \"%s\"", b->by_name[i]->name);
    return DT_OK;
}

/* Names of OpDef's arguments of that number. */
static dt_status read_args(dt_onnx_model *m, const dt_pb *op, int32_t number, int32_t *n, const char ***out) {
    dt_pb each = *op, arg;
    dt_pb_field f, name;
    *n = 0;
    *out = dt_onnx_alloc(m, (count_fields(*op, number) + 1) * (int64_t)sizeof **out);
    if (!*out) return no_memory();
    while (dt_pb_next(&each, &f)) {
        if (f.number != number) continue;
        DT_TRY(dt_pb_enter(op, &f, &arg));
        (*out)[*n] = find_field(arg, 1, &name) ? copied(m, &name) : "";
        if (!(*out)[(*n)++]) return no_memory();
    }
    return DT_OK;
}

static dt_status read_function(dt_onnx_model *m, const dt_pb *r, const dt_pb_field *field, dt_tf_body *b) {
    enum { FUNCTION_SIGNATURE = 1, FUNCTION_NODE = 3, FUNCTION_RET, OP_NAME = 1, OP_IN, OP_OUT };
    dt_pb f, op, entry;
    dt_pb_field name, x;
    DT_TRY(dt_pb_enter(r, field, &f));
    if (!enter(&f, FUNCTION_SIGNATURE, &op) || !find_field(op, OP_NAME, &name))
        return dt_pb_fail(r, field, "a function without a name");
    b->name = copied(m, &name);
    if (!b->name) return no_memory();
    DT_TRY(read_args(m, &op, OP_IN, &b->n_arg, &b->arg));
    DT_TRY(read_args(m, &op, OP_OUT, &b->n_result, &b->result));
    for (int32_t i = 0; i < b->n_result; i++) { /* result's name -> where it is made */
        dt_pb each = f;
        const char *made = NULL;
        while (dt_pb_next(&each, &x)) {
            if (x.number != FUNCTION_RET || x.wire != DT_PB_BYTES || dt_pb_enter(&f, &x, &entry) != DT_OK)
                continue;
            if (find_field(entry, 1, &name) && is_text(&name, b->result[i]) && find_field(entry, 2, &name))
                made = copied(m, &name);
        }
        if (!made)
            return dt_fail(DT_ERR_DATA, "function \"%s\" does not say what \"%s\" is", b->name, b->result[i]);
        b->result[i] = made;
    }
    return read_nodes(m, &f, FUNCTION_NODE, b);
}

static dt_status read_graph(dt_onnx_model *m, const dt_pb *r, dt_tf_graph *g) {
    enum { GRAPH_NODE = 1, GRAPH_LIBRARY };
    dt_pb library;
    dt_pb_field f;
    g->main.name = "";
    DT_TRY(read_nodes(m, r, GRAPH_NODE, &g->main));
    if (!enter(r, GRAPH_LIBRARY, &library)) return DT_OK;
    g->function = dt_onnx_alloc(m, (count_fields(library, 1) + 1) * (int64_t)sizeof *g->function);
    if (!g->function) return no_memory();
    dt_pb each = library;
    while (dt_pb_next(&each, &f))
        if (f.number == 1) DT_TRY(read_function(m, &library, &f, &g->function[g->n_function++]));
    return DT_OK;
}

/* ---- signatures ---- */

static dt_status read_ports(dt_onnx_model *m, const dt_pb *signature, int32_t number, int32_t *n,
                            dt_tf_port **out) {
    enum { INFO_NAME = 1, INFO_TYPE, INFO_SHAPE };
    dt_pb each = *signature, entry, info, shape;
    dt_pb_field f, x;
    *out = dt_onnx_alloc(m, (count_fields(*signature, number) + 1) * (int64_t)sizeof **out);
    if (!*out) return no_memory();
    while (dt_pb_next(&each, &f)) {
        if (f.number != number) continue;
        dt_tf_port *p = &(*out)[(*n)++];
        DT_TRY(dt_pb_enter(signature, &f, &entry));
        p->name = find_field(entry, 1, &x) ? copied(m, &x) : "";
        p->tensor = enter(&entry, 2, &info) && find_field(info, INFO_NAME, &x) ? copied(m, &x) : "";
        if (!p->name || !p->tensor) return no_memory();
        if (!p->tensor[0]) return dt_pb_fail(signature, &f, "a signature without the name of a tensor");
        p->info = (dt_onnx_value_info){.name = p->name, .ndim = -1};
        p->info.type = find_field(info, INFO_TYPE, &x) ? dt_tf_type((int64_t)x.value) : DT_TENSOR_TYPES;
        if (enter(&info, INFO_SHAPE, &shape) && !read_shape(&shape, &p->info.ndim, p->info.dim))
            return dt_pb_fail(signature, &f, "a shape of too many sides");
    }
    return DT_OK;
}

/* "serving_default", else the first that has results. */
static dt_status read_signature(dt_onnx_model *m, const dt_pb *meta, dt_tf_graph *g) {
    enum { META_SIGNATURE = 5, SIGNATURE_IN = 1, SIGNATURE_OUT };
    dt_pb each = *meta, signature, other;
    dt_pb_field f;
    bool found = false;
    while (dt_pb_next(&each, &f)) {
        dt_pb entry;
        if (f.number != META_SIGNATURE || f.wire != DT_PB_BYTES) continue;
        if (entry_value(meta, &f, "serving_default", &signature)) {
            found = true;
            break;
        }
        if (!found && dt_pb_enter(meta, &f, &entry) == DT_OK && enter(&entry, 2, &other) &&
            count_fields(other, SIGNATURE_IN) > 0 && count_fields(other, SIGNATURE_OUT) > 0)
            signature = other, found = true;
    }
    if (!found) return dt_fail(DT_ERR_DATA, "no signature with inputs and outputs (serving_default) in it");
    DT_TRY(read_ports(m, &signature, SIGNATURE_IN, &g->n_in, &g->in));
    return read_ports(m, &signature, SIGNATURE_OUT, &g->n_out, &g->out);
}

dt_status dt_tf_graph_read(dt_onnx_model *m, const dt_mapped_file *f, bool saved_model, dt_tf_graph *out) {
    enum { SAVED_META = 2, META_GRAPH = 2 };
    dt_pb r, meta, graph;
    *out = (dt_tf_graph){.n_in = 0};
    DT_TRY(dt_pb_open(f->byte, f->n_bytes, &r));
    if (!saved_model) return read_graph(m, &r, out);
    if (!enter(&r, SAVED_META, &meta) || !enter(&meta, META_GRAPH, &graph))
        return dt_fail(DT_ERR_DATA, "no graph in it");
    DT_TRY(read_graph(m, &graph, out));
    return read_signature(m, &meta, out);
}
