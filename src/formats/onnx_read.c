/* An .onnx file: a ModelProto. Weights stay in the mapped file; functions are put where they are called. */
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "onnx_private.h"
#include "readers.h"
#include "text_pool.h"

enum {
    IR_MIN = 3,
    IR_MAX = 14,
    OPSET_MIN = 1,
    OPSET_MAX = 28,
    ATTRS_MAX = 1000,
    CALLS_DEEP_MAX = 32,
    INLINED_BYTES_MAX = 1 << 28
};

/* Fields. */
enum {
    MODEL_IR = 1,
    MODEL_PRODUCER = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_VERSION = 5,
    MODEL_DOC = 6,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_NOTE = 14,
    MODEL_FUNCTION = 25,
    MODEL_LAST = 31,
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
    NODE_OVERLOAD = 8,
    ATTR_NAME = 1,
    ATTR_TYPE = 20,
    ATTR_REFERENCE = 21,
    FUNCTION_NAME = 1,
    FUNCTION_IN = 4,
    FUNCTION_OUT = 5,
    FUNCTION_NODE = 7,
    FUNCTION_OPSET = 9,
    FUNCTION_DOMAIN = 10,
    FUNCTION_DEFAULT = 11,
    FUNCTION_OVERLOAD = 13
};

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "no memory for a model");
}

void *dt_onnx_list_add(dt_onnx_list *l) {
    if (l->n == l->room) {
        const int64_t room = l->room ? 2 * l->room : 16;
        char *item = realloc(l->item, (size_t)room * l->size);
        if (!item) return NULL;
        l->item = item, l->room = room;
    }
    char *p = l->item + (size_t)l->n++ * l->size;
    memset(p, 0, l->size);
    return p;
}

static void list_free(dt_onnx_list *l) {
    free(l->item);
    *l = (dt_onnx_list){.size = l->size};
}

dt_status dt_onnx_list_keep(dt_onnx_reader *rd, dt_onnx_list *l, const void *out, int32_t *n) {
    dt_status st = l->n > INT32_MAX ? dt_fail(DT_ERR_DATA, "a list of more than 2^31 - 1 entries") : DT_OK;
    const int64_t bytes = l->n * (int64_t)l->size;
    void *kept = st == DT_OK && l->n > 0 ? dt_onnx_alloc(rd->m, bytes) : NULL;
    if (st == DT_OK && l->n > 0 && !kept) st = no_memory();
    if (kept) memcpy(kept, l->item, (size_t)bytes);
    if (st == DT_OK) {
        memcpy((void *)(uintptr_t)out, &kept, sizeof kept);
        *n = (int32_t)l->n;
    }
    list_free(l);
    return st;
}

dt_status dt_onnx_take(dt_onnx_reader *rd, const dt_onnx_scope *scope, int64_t bytes, void *out) {
    if (scope) {
        rd->inlined_bytes += bytes;
        if (bytes > INLINED_BYTES_MAX || rd->inlined_bytes > INLINED_BYTES_MAX)
            return dt_fail(DT_ERR_DATA, "its functions need more than 256 MiB where they are called");
    }
    void *p = dt_onnx_alloc(rd->m, bytes);
    if (!p) return no_memory();
    memcpy(out, &p, sizeof p);
    return DT_OK;
}

dt_status dt_onnx_take_text(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                            const dt_pb_field *f, bool is_name, const char **out) {
    DT_TRY(dt_pb_want(r, f, DT_PB_BYTES));
    if (f->n == 0) {
        *out = "";
        return DT_OK;
    }
    if (memchr(f->at, 0, (size_t)f->n)) return dt_pb_fail(r, f, "a text with a zero byte in it");
    char *text;
    DT_TRY(dt_onnx_take(rd, scope, f->n + 1, &text));
    memcpy(text, f->at, (size_t)f->n);
    int n;
    for (const char *c = text; *c; c += n) {
        const uint8_t *b = (const uint8_t *)c;
        n = dt_utf8_bytes(c);
        if (n == 0) return dt_pb_fail(r, f, "a text that is not UTF-8");
        if (is_name && (b[0] < 0x20 || b[0] == 0x7f || (b[0] == 0xc2 && b[1] < 0xa0)))
            return dt_pb_fail(r, f, "a name with a control character in it");
    }
    *out = text;
    return DT_OK;
}

static const char *plain_domain(const char *domain) {
    return strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

static int by_formal(const void *a, const void *b) {
    return strcmp(((const dt_onnx_formal *)a)->name, ((const dt_onnx_formal *)b)->name);
}

/* The name of a value in a function's body, as the graph that calls it knows it. */
static dt_status rename_value(dt_onnx_reader *rd, const dt_onnx_scope *scope, const char **name) {
    if (!scope || !**name) return DT_OK;
    const dt_onnx_function *fn = scope->function;
    const dt_onnx_formal key = {.name = *name};
    const dt_onnx_formal *formal =
        bsearch(&key, fn->formal, (size_t)fn->n_in + (size_t)fn->n_out, sizeof key, by_formal);
    for (int32_t k = -1; formal && formal->is_out && k <= 1;
         k++) { /* an input that is handed on is an input */
        const int64_t at = formal - fn->formal + k;
        if (at >= 0 && at < fn->n_in + fn->n_out && !fn->formal[at].is_out &&
            strcmp(fn->formal[at].name, *name) == 0)
            formal = &fn->formal[at];
    }
    if (formal) {
        const bool given = formal->index < (formal->is_out ? scope->call->n_out : scope->call->n_in);
        const char *actual =
            !given ? "" : (formal->is_out ? scope->call->out : scope->call->in)[formal->index];
        if (*actual || !formal->is_out) {
            *name = actual;
            return DT_OK;
        }
    }
    const size_t n_prefix = strlen(scope->prefix), n = strlen(*name) + 1;
    char *whole;
    DT_TRY(dt_onnx_take(rd, scope, (int64_t)(n_prefix + n), &whole));
    memcpy(whole, scope->prefix, n_prefix);
    memcpy(whole + n_prefix, *name, n);
    *name = whole;
    return DT_OK;
}

static dt_status take_value_name(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                                 const dt_pb_field *f, const char **out) {
    DT_TRY(dt_onnx_take_text(rd, scope, r, f, true, out));
    return rename_value(rd, scope, out);
}

static dt_status read_graph(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_graph *out);

/* What the fields of an AttributeProto are called by their kinds. */
typedef struct attr_row {
    int8_t field;
    dt_onnx_attr_kind kind;
    dt_pb_wire wire;
    bool list;
    size_t size; /* of one value */
} attr_row;

static const attr_row attr_table[] = {
    {2, DT_ONNX_FLOAT, DT_PB_FIXED32, false, sizeof(float)},
    {3, DT_ONNX_INT, DT_PB_VARINT, false, sizeof(int64_t)},
    {4, DT_ONNX_STRING, DT_PB_BYTES, false, sizeof(const char *)},
    {5, DT_ONNX_TENSOR, DT_PB_BYTES, false, sizeof(dt_onnx_tensor)},
    {6, DT_ONNX_GRAPH, DT_PB_BYTES, false, sizeof(dt_onnx_graph)},
    {7, DT_ONNX_FLOATS, DT_PB_FIXED32, true, sizeof(float)},
    {8, DT_ONNX_INTS, DT_PB_VARINT, true, sizeof(int64_t)},
    {9, DT_ONNX_STRINGS, DT_PB_BYTES, true, sizeof(const char *)},
    {10, DT_ONNX_TENSORS, DT_PB_BYTES, true, sizeof(dt_onnx_tensor)},
    {11, DT_ONNX_GRAPHS, DT_PB_BYTES, true, sizeof(dt_onnx_graph)},
};
enum { N_ATTR_ROW = sizeof attr_table / sizeof attr_table[0] };

/* The values in field f, `at` and those after it of the attribute. */
static dt_status read_attr_values(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r,
                                  dt_pb_field *f, const attr_row *row, int64_t n, char *at) {
    const char *why;
    dt_pb inner;
    switch (row->kind) {
    case DT_ONNX_FLOAT:
    case DT_ONNX_FLOATS:
    case DT_ONNX_INT:
    case DT_ONNX_INTS:
        for (int64_t i = 0; i < n; i++, at += row->size) {
            uint64_t bits;
            dt_pb_numbers(f, row->wire, 1, &bits);
            memcpy(at, &bits, row->size);
        }
        return DT_OK;
    case DT_ONNX_STRING:
    case DT_ONNX_STRINGS:
        return dt_onnx_take_text(rd, scope, r, f, false, (const char **)(void *)at);
    case DT_ONNX_TENSOR:
    case DT_ONNX_TENSORS:
        DT_TRY(dt_pb_enter(r, f, &inner));
        DT_TRY(dt_onnx_read_tensor(rd, scope, inner, (dt_onnx_tensor *)(void *)at, &why));
        return why ? dt_fail(DT_ERR_DATA, "%s", why) : DT_OK;
    case DT_ONNX_GRAPH:
    case DT_ONNX_GRAPHS:
        DT_TRY(dt_pb_enter(r, f, &inner));
        return read_graph(rd, scope, inner, (dt_onnx_graph *)(void *)at);
    }
    return DT_OK;
}

static const attr_row *find_attr_row(int32_t field) {
    for (int k = 0; k < N_ATTR_ROW; k++)
        if (attr_table[k].field == field) return &attr_table[k];
    return NULL;
}

typedef struct attr_facts {
    const char *name, *reference;
    uint64_t type;
    const attr_row *row; /* of the values that are there; NULL: none */
    int64_t n;
} attr_facts;

static dt_status read_attr_facts(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, attr_facts *x) {
    dt_pb_field f;
    int64_t n;
    *x = (attr_facts){.name = "", .reference = ""};
    while (dt_pb_next(&r, &f)) {
        const attr_row *row = find_attr_row(f.number);
        if (f.number == ATTR_NAME) DT_TRY(dt_onnx_take_text(rd, scope, &r, &f, true, &x->name));
        if (f.number == ATTR_REFERENCE) DT_TRY(dt_onnx_take_text(rd, scope, &r, &f, true, &x->reference));
        if (f.number == ATTR_TYPE) {
            DT_TRY(dt_pb_want(&r, &f, DT_PB_VARINT));
            x->type = f.value;
        }
        if (!row) continue;
        if (x->row && (row != x->row || !row->list))
            return dt_pb_fail(&r, &f, "an attribute with more than one value");
        x->row = row;
        n = 1;
        if (row->wire != DT_PB_BYTES && row->list)
            DT_TRY(dt_pb_count(&r, &f, row->wire, &n));
        else
            DT_TRY(dt_pb_want(&r, &f, row->wire));
        x->n += n;
    }
    return *x->name ? DT_OK : dt_fail(DT_ERR_DATA, "an attribute without a name");
}

static const dt_onnx_attr *find_in(const dt_onnx_attr *attr, int32_t n, const char *name) {
    for (int32_t i = 0; i < n; i++)
        if (strcmp(attr[i].name, name) == 0) return &attr[i];
    return NULL;
}

static dt_status read_attr(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_attr *out,
                           bool *absent) {
    attr_facts x;
    *absent = false;
    DT_TRY(read_attr_facts(rd, scope, r, &x));
    out->name = x.name;
    if (*x.reference) {
        if (!scope)
            return dt_fail(DT_ERR_DATA, "attribute %.200s: refers to one of a function, in none", x.name);
        const dt_onnx_function *fn = scope->function;
        const dt_onnx_attr *from = dt_onnx_attr_find(scope->call, x.reference);
        if (!from) from = find_in(fn->attr, fn->n_attr, x.reference);
        *absent = !from;
        if (from) *out = *from;
        out->name = x.name;
        return DT_OK;
    }
    const attr_row *row = x.row;
    for (int k = 0; !row && k < N_ATTR_ROW; k++)
        if (x.type == (uint64_t)attr_table[k].kind) row = &attr_table[k]; /* 0, "" or none at all */
    if (!row || (x.type != 0 && x.type != (uint64_t)row->kind))
        return dt_fail(DT_ERR_DATA,
                       "attribute %.200s: of a kind that is not read (%llu), or not of the kind that it says",
                       x.name, (unsigned long long)x.type);
    out->kind = row->kind;
    out->n = row->list ? x.n : 1;
    char *value = NULL;
    if (out->n > 0) DT_TRY(dt_onnx_take(rd, scope, out->n * (int64_t)row->size, &value));
    if (x.n == 0 && row->kind == DT_ONNX_STRING) memcpy(value, &(const char *){""}, row->size);
    if (x.n == 0 && (row->kind == DT_ONNX_TENSOR || row->kind == DT_ONNX_GRAPH))
        return dt_fail(DT_ERR_DATA, "attribute %.200s: without a value", x.name);
    char *at = value;
    dt_pb_field f;
    dt_status st = DT_OK;
    while (dt_pb_next(&r, &f)) {
        if (f.number != row->field) continue;
        int64_t n = 1;
        if (row->wire != DT_PB_BYTES) DT_TRY(dt_pb_count(&r, &f, row->wire, &n));
        st = read_attr_values(rd, scope, &r, &f, row, n, at);
        if (st != DT_OK) {
            dt_error_context("attribute %.200s", x.name);
            return st;
        }
        at += n * (int64_t)row->size;
    }
    if (row->list || row->kind == DT_ONNX_TENSOR || row->kind == DT_ONNX_GRAPH)
        out->t =
            (const dt_onnx_tensor *)(const void *)value; /* all of the union's pointers are at one place */
    else
        memcpy(&out->i, value, row->size);
    return DT_OK;
}

static int by_function(const void *a, const void *b) {
    const dt_onnx_function *x = a, *y = b;
    const int name = strcmp(x->name, y->name), domain = strcmp(x->domain, y->domain);
    return name ? name : domain ? domain : strcmp(x->overload, y->overload);
}

static const dt_onnx_function *find_function(const dt_onnx_reader *rd, const char *domain, const char *name,
                                             const char *overload) {
    const dt_onnx_function key = {.domain = domain, .name = name, .overload = overload};
    return rd->functions.n > 0
               ? bsearch(&key, rd->functions.item, (size_t)rd->functions.n, sizeof key, by_function)
               : NULL;
}

static dt_status read_node(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_list *nodes);

/* What is wrong with putting fn in the place of a call. */
static dt_status check_call(dt_onnx_reader *rd, const dt_onnx_scope *outer, const dt_onnx_function *fn,
                            const dt_onnx_node *call) {
    for (const dt_onnx_scope *s = outer; s; s = s->outer)
        if (s->function == fn) return dt_fail(DT_ERR_DATA, "function %.200s calls itself", fn->name);
    if (outer && outer->depth >= CALLS_DEEP_MAX)
        return dt_fail(DT_ERR_DATA, "functions that call each other more than %d deep", CALLS_DEEP_MAX);
    if (call->n_in > fn->n_in || call->n_out > fn->n_out)
        return dt_fail(DT_ERR_DATA, "function %.200s has %d inputs and %d outputs, the call %d and %d",
                       fn->name, fn->n_in, fn->n_out, call->n_in, call->n_out);
    for (int32_t i = 0; i < fn->n_opset; i++) {
        int64_t version = 0;
        const dt_onnx_opset *of = (const dt_onnx_opset *)(const void *)rd->opsets.item;
        for (int64_t k = 0; k < rd->opsets.n; k++)
            if (strcmp(of[k].domain, fn->opset[i].domain) == 0) version = of[k].version;
        if (version == fn->opset[i].version) continue;
        if (version)
            return dt_fail(DT_ERR_DATA, "function %.200s is of opset %lld of \"%.200s\", the model of %lld",
                           fn->name, (long long)fn->opset[i].version, fn->opset[i].domain,
                           (long long)version);
        dt_onnx_opset *more = dt_onnx_list_add(&rd->opsets);
        if (!more) return no_memory();
        *more = fn->opset[i];
    }
    return DT_OK;
}

/* An output of a function that is one of its inputs. */
static dt_status pass_inputs(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_onnx_list *nodes) {
    const dt_onnx_function *fn = scope->function;
    for (int32_t i = 1; i < fn->n_in + fn->n_out; i++) {
        const dt_onnx_formal *a = &fn->formal[i - 1], *b = &fn->formal[i];
        if (strcmp(a->name, b->name) != 0) continue;
        if (a->is_out == b->is_out)
            return dt_fail(DT_ERR_DATA, "function %.200s has two inputs or two outputs of one name",
                           fn->name);
        const int32_t in = a->is_out ? b->index : a->index, at = a->is_out ? a->index : b->index;
        if (at >= scope->call->n_out || !*scope->call->out[at]) continue;
        const char **name;
        dt_onnx_node *node = dt_onnx_list_add(nodes);
        if (!node) return no_memory();
        DT_TRY(dt_onnx_take(rd, scope, 2 * (int64_t)sizeof *name, &name));
        name[0] = in < scope->call->n_in ? scope->call->in[in] : "";
        name[1] = scope->call->out[at];
        *node = (dt_onnx_node){.op = "Identity",
                               .domain = "",
                               .name = scope->prefix,
                               .n_in = 1,
                               .n_out = 1,
                               .in = name,
                               .out = name + 1};
    }
    return DT_OK;
}

static dt_status inline_call(dt_onnx_reader *rd, const dt_onnx_scope *outer, const dt_onnx_function *fn,
                             const dt_onnx_node *call, dt_onnx_list *nodes) {
    DT_TRY(check_call(rd, outer, fn, call));
    dt_onnx_scope scope = {
        .outer = outer, .function = fn, .call = call, .depth = outer ? outer->depth + 1 : 1};
    scope.prefix = dt_onnx_text(rd->m, "%.200s:%lld/", fn->name, (long long)++rd->n_call);
    if (!scope.prefix) return no_memory();
    rd->inlined_bytes += (int64_t)strlen(scope.prefix);
    DT_TRY(pass_inputs(rd, &scope, nodes));
    dt_pb r = fn->body, inner;
    dt_pb_field f;
    while (dt_pb_next(&r, &f)) {
        if (f.number != FUNCTION_NODE) continue;
        DT_TRY(dt_pb_enter(&r, &f, &inner));
        DT_TRY(read_node(rd, &scope, inner, nodes));
    }
    return DT_OK;
}

static dt_status read_attrs(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r, int32_t field,
                            const dt_onnx_attr **out, int32_t *n_out) {
    int32_t n = 0, max = 0;
    dt_onnx_attr *attr = NULL;
    dt_pb a = *r, inner;
    dt_pb_field f;
    bool absent;
    while (dt_pb_next(&a, &f)) max += f.number == field;
    if (max > ATTRS_MAX) return dt_fail(DT_ERR_DATA, "more than %d attributes", ATTRS_MAX);
    if (max > 0) DT_TRY(dt_onnx_take(rd, scope, max * (int64_t)sizeof *attr, &attr));
    a = *r;
    while (dt_pb_next(&a, &f)) {
        if (f.number != field) continue;
        DT_TRY(dt_pb_enter(&a, &f, &inner));
        DT_TRY(read_attr(rd, scope, inner, &attr[n], &absent));
        if (find_in(attr, n, attr[n].name))
            return dt_fail(DT_ERR_DATA, "attribute %.200s is there twice", attr[n].name);
        n += !absent;
    }
    *out = attr, *n_out = n;
    return DT_OK;
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
    out->domain = plain_domain(out->domain);
    out->in = in, out->out = result;
    while (dt_pb_next(&r, &f)) {
        if (f.number == NODE_IN) DT_TRY(take_value_name(rd, scope, &r, &f, &in[out->n_in++]));
        if (f.number == NODE_OUT) DT_TRY(take_value_name(rd, scope, &r, &f, &result[out->n_out++]));
    }
    if (!*out->op) return dt_fail(DT_ERR_DATA, "no op is named");
    return DT_OK;
}

static dt_status read_node(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_list *nodes) {
    dt_onnx_node node = {.op = "", .domain = "", .name = ""};
    const char *overload = "";
    dt_status st = read_node_fields(rd, scope, r, &node, &overload);
    if (st == DT_OK) st = read_attrs(rd, scope, &r, NODE_ATTR, &node.attr, &node.n_attr);
    if (st == DT_OK) {
        const dt_onnx_function *fn = find_function(rd, node.domain, node.op, overload);
        if (fn) {
            st = inline_call(rd, scope, fn, &node, nodes);
        } else {
            dt_onnx_node *kept = dt_onnx_list_add(nodes);
            if (scope) rd->inlined_bytes += (int64_t)sizeof node;
            if (kept)
                *kept = node;
            else
                st = no_memory();
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
    DT_TRY(rename_value(rd, scope, &t.name));
    if (why) {
        dt_onnx_unread *u = dt_onnx_list_add(&rd->unread);
        if (!u) return no_memory();
        *u = (dt_onnx_unread){t.name, why};
        return DT_OK;
    }
    dt_onnx_tensor *kept = dt_onnx_list_add(constants);
    if (!kept) return no_memory();
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
    if (f->number == GRAPH_NODE) return read_node(rd, scope, inner, &l->node);
    if (f->number == GRAPH_CONSTANT) return read_constant(rd, scope, inner, &l->constant);
    dt_onnx_value_info *value = dt_onnx_list_add(values);
    if (!value) return no_memory();
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
    if (!name) return no_memory();
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

static dt_status read_graph(dt_onnx_reader *rd, const dt_onnx_scope *scope, dt_pb r, dt_onnx_graph *out) {
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
    list_free(&l.node), list_free(&l.constant), list_free(&l.in), list_free(&l.out), list_free(&l.value);
    return st;
}

static dt_status read_opset(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at, dt_onnx_opset *out) {
    dt_pb inner;
    dt_pb_field f;
    *out = (dt_onnx_opset){.domain = ""};
    DT_TRY(dt_pb_enter(r, at, &inner));
    while (dt_pb_next(&inner, &f)) {
        if (f.number == 1) DT_TRY(dt_onnx_take_text(rd, NULL, &inner, &f, true, &out->domain));
        if (f.number != 2) continue;
        DT_TRY(dt_pb_want(&inner, &f, DT_PB_VARINT));
        out->version = (int64_t)f.value;
    }
    out->domain = plain_domain(out->domain);
    return DT_OK;
}

static dt_status read_note(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at, dt_onnx_note *out) {
    dt_pb inner;
    dt_pb_field f;
    *out = (dt_onnx_note){"", ""};
    DT_TRY(dt_pb_enter(r, at, &inner));
    while (dt_pb_next(&inner, &f)) {
        if (f.number == 1) DT_TRY(dt_onnx_take_text(rd, NULL, &inner, &f, true, &out->key));
        if (f.number == 2) DT_TRY(dt_onnx_take_text(rd, NULL, &inner, &f, false, &out->value));
    }
    return DT_OK;
}

static dt_status read_formals(dt_onnx_reader *rd, dt_onnx_function *fn, dt_onnx_list *formals,
                              dt_onnx_list *opsets) {
    dt_pb r = fn->body;
    dt_pb_field f;
    while (dt_pb_next(&r, &f)) {
        if (f.number == FUNCTION_NAME) DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &fn->name));
        if (f.number == FUNCTION_DOMAIN) DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &fn->domain));
        if (f.number == FUNCTION_OVERLOAD) DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &fn->overload));
        if (f.number == FUNCTION_OPSET) {
            dt_onnx_opset *opset = dt_onnx_list_add(opsets);
            if (!opset) return no_memory();
            DT_TRY(read_opset(rd, &r, &f, opset));
        }
        if (f.number != FUNCTION_IN && f.number != FUNCTION_OUT) continue;
        dt_onnx_formal *formal = dt_onnx_list_add(formals);
        if (!formal) return no_memory();
        formal->is_out = f.number == FUNCTION_OUT;
        formal->index = formal->is_out ? fn->n_out++ : fn->n_in++;
        DT_TRY(dt_onnx_take_text(rd, NULL, &r, &f, true, &formal->name));
    }
    return DT_OK;
}

static dt_status read_function(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *at) {
    dt_onnx_list formals = {.size = sizeof(dt_onnx_formal)}, opsets = {.size = sizeof(dt_onnx_opset)};
    dt_onnx_function fn = {.domain = "", .name = "", .overload = ""};
    int32_t n_formal = 0;
    DT_TRY(dt_pb_enter(r, at, &fn.body));
    dt_status st = read_formals(rd, &fn, &formals, &opsets);
    if (st == DT_OK && formals.n > 0) qsort(formals.item, (size_t)formals.n, formals.size, by_formal);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &formals, &fn.formal, &n_formal);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &opsets, &fn.opset, &fn.n_opset);
    list_free(&formals), list_free(&opsets);
    if (st == DT_OK) st = read_attrs(rd, NULL, &fn.body, FUNCTION_DEFAULT, &fn.attr, &fn.n_attr);
    fn.domain = plain_domain(fn.domain);
    dt_onnx_function *kept = st == DT_OK ? dt_onnx_list_add(&rd->functions) : NULL;
    if (st == DT_OK && !kept) st = no_memory();
    if (kept) *kept = fn;
    if (st != DT_OK) dt_error_context("function '%.200s'", fn.name);
    return st;
}

static dt_status sort_functions(dt_onnx_reader *rd) {
    dt_onnx_function *fn = (dt_onnx_function *)(void *)rd->functions.item;
    if (rd->functions.n > 0) qsort(fn, (size_t)rd->functions.n, sizeof *fn, by_function);
    for (int64_t i = 1; i < rd->functions.n; i++)
        if (by_function(&fn[i - 1], &fn[i]) == 0)
            return dt_fail(DT_ERR_DATA, "two functions are called '%.200s'", fn[i].name);
    return DT_OK;
}

static dt_status check_versions(const dt_onnx_reader *rd) {
    const dt_onnx_opset *opset = (const dt_onnx_opset *)(const void *)rd->opsets.item;
    if (rd->m->ir_version < IR_MIN || rd->m->ir_version > IR_MAX)
        return dt_fail(DT_ERR_DATA, "of IR version %lld: %d to %d are read", (long long)rd->m->ir_version,
                       IR_MIN, IR_MAX);
    if (rd->opsets.n == 0) return dt_fail(DT_ERR_DATA, "it does not say of which opset it is");
    for (int64_t i = 0; i < rd->opsets.n; i++) {
        for (int64_t k = 0; k < i; k++)
            if (strcmp(opset[k].domain, opset[i].domain) == 0)
                return dt_fail(DT_ERR_DATA, "two opsets of domain \"%.200s\"", opset[i].domain);
        if (*opset[i].domain == '\0' && (opset[i].version < OPSET_MIN || opset[i].version > OPSET_MAX))
            return dt_fail(DT_ERR_DATA, "of opset %lld: %d to %d are read", (long long)opset[i].version,
                           OPSET_MIN, OPSET_MAX);
        if (i > ATTRS_MAX || opset[i].version < 1)
            return dt_fail(DT_ERR_DATA, "opset %lld of domain \"%.200s\": none that can be",
                           (long long)opset[i].version, opset[i].domain);
    }
    return DT_OK;
}

static dt_status read_model_field(dt_onnx_reader *rd, const dt_pb *r, const dt_pb_field *f,
                                  dt_onnx_list *notes, dt_pb *graph) {
    dt_onnx_model *m = rd->m;
    switch (f->number) {
    case MODEL_IR:
        DT_TRY(dt_pb_want(r, f, DT_PB_VARINT));
        m->ir_version = (int64_t)f->value;
        return DT_OK;
    case MODEL_PRODUCER:
        return dt_onnx_take_text(rd, NULL, r, f, true, &m->producer);
    case MODEL_PRODUCER_VERSION:
        return dt_onnx_take_text(rd, NULL, r, f, true, &m->producer_version);
    case MODEL_DOC:
        return dt_onnx_take_text(rd, NULL, r, f, false, &m->doc);
    case MODEL_GRAPH:
        if (graph->file) return dt_pb_fail(r, f, "a second graph");
        return dt_pb_enter(r, f, graph);
    case MODEL_FUNCTION:
        return read_function(rd, r, f);
    case MODEL_OPSET: {
        dt_onnx_opset *opset = dt_onnx_list_add(&rd->opsets);
        return opset ? read_opset(rd, r, f, opset) : no_memory();
    }
    case MODEL_NOTE: {
        dt_onnx_note *note = dt_onnx_list_add(notes);
        return note ? read_note(rd, r, f, note) : no_memory();
    }
    default:
        return DT_OK;
    }
}

static dt_status read_fields(dt_onnx_reader *rd, dt_onnx_list *notes, dt_pb *graph) {
    dt_pb r;
    dt_pb_field f;
    DT_TRY(dt_pb_open(rd->m->file[0].byte, rd->m->file[0].n_bytes, &r));
    while (dt_pb_next(&r, &f)) DT_TRY(read_model_field(rd, &r, &f, notes, graph));
    return DT_OK;
}

static dt_status read_model(dt_onnx_reader *rd) {
    dt_onnx_model *m = rd->m;
    dt_onnx_list notes = {.size = sizeof(dt_onnx_note)};
    dt_pb graph = {.file = NULL};
    dt_status st = read_fields(rd, &notes, &graph);
    if (st == DT_OK) st = check_versions(rd);
    if (st == DT_OK) st = sort_functions(rd);
    if (st == DT_OK && !graph.file) st = dt_fail(DT_ERR_DATA, "a model without a graph");
    if (st == DT_OK) st = read_graph(rd, NULL, graph, &m->graph);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &notes, &m->note, &m->n_note);
    if (st == DT_OK) st = dt_onnx_list_keep(rd, &rd->opsets, &m->opset, &m->n_opset);
    if (st == DT_OK) st = dt_onnx_order(rd);
    list_free(&notes);
    return st;
}

static dt_status map_file(dt_onnx_model *m, const char *path) {
    dt_mapped_file *file = dt_onnx_alloc(m, sizeof *file);
    if (!file) return no_memory();
    DT_TRY(dt_file_map(path, file));
    m->file = file, m->n_file = 1;
    return DT_OK;
}

dt_status dt_onnx_read_into(dt_onnx_model *m, const char *path) {
    dt_onnx_reader rd = {.m = m,
                         .path = path,
                         .functions.size = sizeof(dt_onnx_function),
                         .externals.size = sizeof(dt_onnx_external),
                         .unread.size = sizeof(dt_onnx_unread),
                         .opsets.size = sizeof(dt_onnx_opset)};
    m->format = "ONNX";
    m->opset = NULL, m->n_opset = 0;
    m->path = dt_onnx_text(m, "%s", path);
    dt_status st = m->path ? map_file(m, path) : no_memory();
    if (st == DT_OK) st = read_model(&rd);
    list_free(&rd.functions), list_free(&rd.externals), list_free(&rd.unread), list_free(&rd.opsets);
    return st;
}

dt_status dt_onnx_read(const char *path, dt_onnx_model **out) {
    *out = NULL;
    dt_onnx_model *m;
    DT_TRY(dt_onnx_model_create(OPSET_MIN, &m));
    dt_status st = dt_onnx_read_into(m, path);
    if (st != DT_OK) dt_error_context("%s", path);
    if (dt_onnx_check_files(m) != DT_OK) st = DT_ERR_DATA; /* what was read may be what is missing */
    if (st == DT_OK)
        *out = m;
    else
        dt_onnx_model_free(m);
    return st;
}

dt_status dt_onnx_read_constant(const char *path, dt_onnx_model **out) {
    *out = NULL;
    dt_onnx_model *m;
    DT_TRY(dt_onnx_model_create(OPSET_MIN, &m));
    dt_onnx_reader rd = {.m = m, .path = path, .externals.size = sizeof(dt_onnx_external)};
    dt_onnx_tensor *t = dt_onnx_alloc(m, (int64_t)sizeof *t);
    const char *why = NULL;
    dt_pb message;
    dt_status st = t ? map_file(m, path) : no_memory();
    if (st == DT_OK) st = dt_pb_open(m->file->byte, m->file->n_bytes, &message);
    if (st == DT_OK) st = dt_onnx_read_tensor(&rd, NULL, message, t, &why);
    if (st == DT_OK && why) st = dt_fail(DT_ERR_DATA, "%s", why);
    list_free(&rd.externals);
    if (st == DT_OK) {
        m->graph.constant = t, m->graph.n_constant = 1;
        *out = m;
        return DT_OK;
    }
    dt_onnx_model_free(m);
    dt_error_context("%s", path);
    return st;
}

/* Fields as an ONNX model has them, up to its graph. A file that was cut off later is still one. */
bool dt_onnx_knows_bytes(const dt_mapped_file *file) {
    dt_pb r = {.at = file->byte, .end = file->byte + file->n_bytes, .file = file->byte};
    dt_pb_field f;
    bool more, has_version = false;
    for (;;) {
        const uint8_t *at = r.at;
        if (r.end - at > 0 && *at == (MODEL_GRAPH << 3 | DT_PB_BYTES)) return has_version;
        if (dt_pb_step(&r, &f, &more) != DT_OK || !more) return false;
        has_version |= f.number == MODEL_IR && f.wire == DT_PB_VARINT;
        const bool number = f.number == MODEL_IR || f.number == MODEL_VERSION;
        if (f.number > MODEL_LAST || f.wire != (number ? DT_PB_VARINT : DT_PB_BYTES)) return false;
    }
}

bool dt_onnx_knows(const char *path) {
    dt_onnx_model *m;
    if (dt_onnx_model_create(OPSET_MIN, &m) != DT_OK) return false;
    const bool known = map_file(m, path) == DT_OK && dt_onnx_knows_bytes(m->file);
    dt_onnx_model_free(m);
    return known;
}
