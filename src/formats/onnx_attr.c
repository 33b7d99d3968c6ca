/* Attributes of nodes. */
#include <string.h>

#include "onnx_private.h"

enum { ATTRS_MAX = 1000, ATTR_NAME = 1, ATTR_TYPE = 20, ATTR_REFERENCE = 21 };

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
        return dt_onnx_read_graph(rd, scope, inner, (dt_onnx_graph *)(void *)at);
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

dt_status dt_onnx_read_attrs(dt_onnx_reader *rd, const dt_onnx_scope *scope, const dt_pb *r, int32_t field,
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
