/* Graphs: nodes, what is said of values, initializers. */
#include <stdlib.h>
#include <string.h>

#include "onnx_private.h"

enum {
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_CONSTANT = 5,
    GRAPH_IN = 11,
    GRAPH_OUT = 12,
    GRAPH_VALUE = 13,
    GRAPH_SPARSE = 15,
    NODE_IN = 1,
    NODE_OUT = 2,
    NODE_NAME = 3,
    NODE_OP = 4,
    NODE_ATTR = 5,
    NODE_DOMAIN = 7,
    NODE_OVERLOAD = 8
};

static dt_status take_value_name(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                                 const dt_pb_field *f, const char **out) {
    DT_TRY(dt_onnx_take_text(rd, scope, r, f, true, out));
    return dt_onnx_rename_value(rd, scope, out);
}

static dt_status read_node_fields(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_node *out,
                                  const char **overload) {
    const char **in = NULL, **result = NULL;
    int64_t n_in = 0, n_out = 0;
    dt_pb a = r;
    dt_pb_field f;
    while (dt_pb_next(&a, &f)) {
        n_in += f.number == NODE_IN, n_out += f.number == NODE_OUT;
        if (f.number == NODE_NAME) DT_TRY(dt_onnx_take_text(rd, scope, &a, &f, true, &out->name));
        if (f.number == NODE_OP) DT_TRY(dt_onnx_take_text(rd, scope, &a, &f, true, &out->op));
        if (f.number == NODE_DOMAIN) DT_TRY(dt_onnx_take_text(rd, scope, &a, &f, true, &out->domain));
        if (f.number == NODE_OVERLOAD) DT_TRY(dt_onnx_take_text(rd, scope, &a, &f, true, overload));
    }
    if (n_in > INT32_MAX || n_out > INT32_MAX) return dt_fail(DT_ERR_DATA, "more than 2^31 - 1 inputs");
    if (n_in > 0) DT_TRY(dt_onnx_take(rd, scope, n_in * (int64_t)sizeof *in, &in));
    if (n_out > 0) DT_TRY(dt_onnx_take(rd, scope, n_out * (int64_t)sizeof *result, &result));
    out->domain = dt_onnx_plain_domain(out->domain);
    out->in = in, out->out = result;
    while (dt_pb_next(&r, &f)) {
        if (f.number == NODE_IN) DT_TRY(take_value_name(rd, scope, &r, &f, &in[out->n_in++]));
        if (f.number == NODE_OUT) DT_TRY(take_value_name(rd, scope, &r, &f, &result[out->n_out++]));
    }
    if (!*out->op) return dt_fail(DT_ERR_DATA, "no op is named");
    return DT_OK;
}

dt_status dt_onnx_read_node(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_list *nodes) {
    dt_onnx_node node = {.op = "", .domain = "", .name = ""};
    const char *overload = "";
    dt_status st = read_node_fields(rd, scope, r, &node, &overload);
    if (st == DT_OK) st = dt_onnx_read_attrs(rd, scope, &r, NODE_ATTR, &node.attr, &node.n_attr);
    if (st == DT_OK) {
        const dt_onnx_function *fn = dt_onnx_find_function(rd, node.domain, node.op, overload);
        if (fn) {
            st = dt_onnx_inline(rd, scope, fn, &node, nodes);
        } else {
            dt_onnx_node *kept = dt_onnx_list_add(nodes);
            if (scope) rd->inlined_bytes += (int64_t)sizeof node;
            if (kept)
                *kept = node;
            else
                st = dt_onnx_no_memory();
        }
    }
    if (st != DT_OK) dt_error_context("node '%.200s' (%.100s)", node.name, node.op);
    return st;
}

/* TypeProto.Tensor's shape: messages of a fixed number or a name. */
static dt_status read_shape(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r,
                            dt_onnx_value_info *out) {
    dt_pb inner;
    dt_pb_field f, d;
    out->ndim = 0;
    while (dt_pb_next(&r, &f)) {
        if (f.number != 1) continue;
        if (out->ndim == DT_MAX_DIM) return dt_pb_fail(&r, &f, "more than 8 dimensions");
        int64_t *dim = &out->dim[out->ndim];
        const char **name = &out->dim_name[out->ndim++];
        *dim = -1;
        DT_TRY(dt_pb_enter(&r, &f, &inner));
        while (dt_pb_next(&inner, &d)) {
            if (d.number == 1) {
                DT_TRY(dt_pb_want(&inner, &d, DT_PB_VARINT));
                *dim = (int64_t)d.value < 0 ? -1 : (int64_t)d.value;
            }
            if (d.number == 2) DT_TRY(dt_onnx_take_text(rd, scope, &inner, &d, true, name));
        }
        if (*name && !**name) *name = NULL;
        if (*dim >= 0) *name = NULL;
    }
    return DT_OK;
}

/* *tensor: whether it is one. */
static dt_status read_type(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_value_info *out,
                           uint64_t *number, bool *tensor) {
    dt_pb inner, shape;
    dt_pb_field f, t;
    while (dt_pb_next(&r, &f)) {
        if (f.number != 1) {
            *tensor &= f.number == 6; /* what it denotes */
            continue;
        }
        DT_TRY(dt_pb_enter(&r, &f, &inner));
        while (dt_pb_next(&inner, &t)) {
            if (t.number == 1) {
                DT_TRY(dt_pb_want(&inner, &t, DT_PB_VARINT));
                *number = t.value;
                out->type = dt_onnx_type_find(t.value);
            }
            if (t.number == 2) {
                DT_TRY(dt_pb_enter(&inner, &t, &shape));
                DT_TRY(read_shape(rd, scope, shape, out));
            }
        }
    }
    return DT_OK;
}

/* `whole`: the value is one that the model as a whole takes or gives: a tensor of a type that can be held. */
static dt_status read_value(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, bool whole,
                            dt_onnx_value_info *out) {
    dt_pb inner;
    dt_pb_field f;
    bool tensor = true;
    uint64_t number = 0;
    *out = (dt_onnx_value_info){.name = "", .type = DT_TENSOR_TYPES, .ndim = -1};
    dt_status st = DT_OK;
    while (dt_pb_next(&r, &f)) {
        if (f.number == 1) DT_TRY(take_value_name(rd, scope, &r, &f, &out->name));
        if (f.number != 2) continue;
        DT_TRY(dt_pb_enter(&r, &f, &inner));
        st = read_type(rd, scope, inner, out, &number, &tensor);
        if (st != DT_OK) {
            dt_error_context("value '%.200s'", out->name);
            return st;
        }
    }
    if (whole && (!tensor || (number != 0 && out->type == DT_TENSOR_TYPES)))
        return dt_fail(DT_ERR_DATA, "value '%.200s': an input or output that is no tensor of numbers",
                       out->name);
    return *out->name ? DT_OK : dt_fail(DT_ERR_DATA, "a value without a name");
}

/* The lists of a graph while it is read. */
typedef struct graph_lists {
    dt_onnx_list node, constant, in, out, value;
} graph_lists;

static dt_status read_constant(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r,
                               dt_onnx_list *constants) {
    dt_onnx_tensor t;
    const char *why;
    DT_TRY(dt_onnx_read_tensor(rd, scope, r, &t, &why));
    if (!*t.name) return dt_fail(DT_ERR_DATA, "an initializer without a name");
    DT_TRY(dt_onnx_rename_value(rd, scope, &t.name));
    if (why) {
        dt_onnx_unread *u = dt_onnx_list_add(&rd->unread);
        if (!u) return dt_onnx_no_memory();
        *u = (dt_onnx_unread){t.name, why};
        return DT_OK;
    }
    dt_onnx_tensor *kept = dt_onnx_list_add(constants);
    if (!kept) return dt_onnx_no_memory();
    *kept = t;
    return DT_OK;
}

static dt_status read_graph_field(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                                  const dt_pb_field *f, dt_onnx_graph *out, graph_lists *l) {
    dt_pb inner;
    if (f->number == GRAPH_NAME) return dt_onnx_take_text(rd, scope, r, f, true, &out->name);
    if (f->number == GRAPH_SPARSE) return dt_pb_fail(r, f, "a sparse initializer, which is not read,");
    dt_onnx_list *values = f->number == GRAPH_IN      ? &l->in
                           : f->number == GRAPH_OUT   ? &l->out
                           : f->number == GRAPH_VALUE ? &l->value
                                                      : NULL;
    if (f->number != GRAPH_NODE && f->number != GRAPH_CONSTANT && !values) return DT_OK;
    DT_TRY(dt_pb_enter(r, f, &inner));
    if (f->number == GRAPH_NODE) return dt_onnx_read_node(rd, scope, inner, &l->node);
    if (f->number == GRAPH_CONSTANT) return read_constant(rd, scope, inner, &l->constant);
    dt_onnx_value_info *value = dt_onnx_list_add(values);
    if (!value) return dt_onnx_no_memory();
    return read_value(rd, scope, inner, out == &rd->m->graph && values != &l->value, value);
}

static dt_status fill_lists(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_graph *out,
                            graph_lists *l) {
    dt_pb_field f;
    while (dt_pb_next(&r, &f)) DT_TRY(read_graph_field(rd, scope, &r, &f, out, l));
    return DT_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Inputs that are initializers are defaults of IR 3: what the file says of them it says of the constants. */
static dt_status drop_constant_inputs(const graph_lists *l, dt_onnx_list *in) {
    const int64_t n = l->constant.n;
    const dt_onnx_tensor *t = (const dt_onnx_tensor *)(const void *)l->constant.item;
    const char **name = malloc(((size_t)n + 1) * sizeof *name);
    if (!name) return dt_onnx_no_memory();
    for (int64_t i = 0; i < n; i++) name[i] = t[i].name;
    qsort(name, (size_t)n, sizeof *name, by_text);
    dt_onnx_value_info *value = (dt_onnx_value_info *)(void *)in->item;
    int64_t kept = 0;
    for (int64_t i = 0; i < in->n; i++)
        if (n == 0 || !bsearch(&value[i].name, name, (size_t)n, sizeof *name, by_text))
            value[kept++] = value[i];
    in->n = kept;
    free(name);
    return DT_OK;
}

dt_status dt_onnx_read_graph(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_graph *out) {
    graph_lists l = {.node.size = sizeof(dt_onnx_node),
                     .constant.size = sizeof(dt_onnx_tensor),
                     .in.size = sizeof(dt_onnx_value_info),
                     .out.size = sizeof(dt_onnx_value_info),
                     .value.size = sizeof(dt_onnx_value_info)};
    *out = (dt_onnx_graph){.name = ""};
    dt_status st = fill_lists(rd, scope, r, out, &l);
    if (st == DT_OK) st = drop_constant_inputs(&l, &l.in);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &l.node, &out->node, &out->n_node);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &l.constant, &out->constant, &out->n_constant);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &l.in, &out->in, &out->n_in);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &l.out, &out->out, &out->n_out);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &l.value, &out->value, &out->n_value);
    dt_onnx_list_free(&l.node), dt_onnx_list_free(&l.constant), dt_onnx_list_free(&l.in),
        dt_onnx_list_free(&l.out), dt_onnx_list_free(&l.value);
    return st;
}
