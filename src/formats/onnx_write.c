/* A model as an .onnx file: its bytes depend on the model alone. */
#include <stdlib.h>
#include <string.h>

#include "core/out_file.h"
#include "onnx_private.h"

enum { IR_VERSION = 8, IR_OF_F8 = 9, IR_OF_4_BITS = 10, PAGE_BYTES = 4096, SMALL_BYTES = 1024 };

static const int64_t inside_bytes = 1500000000;

/* What is written beside the model. */
typedef struct outside {
    const char *name; /* of the file; NULL: all is inside */
    const dt_onnx_tensor **tensor;
    int64_t n, bytes;
} outside;

/* The bytes as a file has them: 2 and 4 bits several in a byte. *own is to be freed. */
static dt_status data_of(const dt_onnx_tensor *t, const void **data, int64_t *n, uint8_t **own) {
    const int32_t bits = dt_onnx_packed_bits(t->type);
    *data = t->data, *n = t->n_bytes, *own = NULL;
    if (!bits) return DT_OK;
    const uint8_t *from = t->data;
    const int32_t in_byte = 8 / bits, mask = (1 << bits) - 1;
    *n = dt_ceil_div(t->n_elem, in_byte);
    *own = calloc((size_t)*n + 1, 1);
    if (!*own) return dt_fail(DT_ERR_MEMORY, "no memory for numbers of %d bits", (int)bits);
    for (int64_t i = 0; i < t->n_elem; i++)
        (*own)[i / in_byte] =
            (uint8_t)((*own)[i / in_byte] | (from[i] & mask) << bits * (int32_t)(i % in_byte));
    *data = *own;
    return DT_OK;
}

static void put_pair(dt_pb_writer *w, int32_t number, const char *key, const char *value) {
    dt_pb_writer pair = {0};
    dt_pb_put_text(&pair, 1, key);
    dt_pb_put_text(&pair, 2, value);
    dt_pb_put_message(w, number, &pair);
}

static void put_external(dt_pb_writer *w, const char *name, int64_t offset, int64_t length) {
    char text[32];
    put_pair(w, 13, "location", name);
    snprintf(text, sizeof text, "%lld", (long long)offset);
    put_pair(w, 13, "offset", text);
    snprintf(text, sizeof text, "%lld", (long long)length);
    put_pair(w, 13, "length", text);
    dt_pb_put_int(w, 14, 1);
}

static int64_t round_up(int64_t n) {
    return (n + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static dt_status put_tensor(dt_pb_writer *w, int32_t number, const dt_onnx_tensor *t, outside *out) {
    const void *data;
    int64_t n;
    uint8_t *own;
    dt_pb_writer inner = {0};
    if (dt_onnx_type_number(t->type) == 0)
        return dt_fail(DT_ERR_DATA, "tensor '%.200s': ONNX has no type %s", t->name,
                       dt_tensor_type_name(t->type));
    dt_pb_put_ints(&inner, 1, t->ndim, t->dim);
    dt_pb_put_int(&inner, 2, dt_onnx_type_number(t->type));
    if (*t->name) dt_pb_put_text(&inner, 8, t->name);
    if (out && out->name && t->n_bytes >= SMALL_BYTES && t->type < DT_SAFETENSORS_TYPES) {
        put_external(&inner, out->name, out->bytes, t->n_bytes);
        out->tensor[out->n++] = t;
        out->bytes = round_up(out->bytes + t->n_bytes);
    } else {
        const dt_status st = data_of(t, &data, &n, &own);
        if (st != DT_OK) {
            dt_pb_writer_free(&inner);
            return st;
        }
        if (own)
            dt_pb_put_bytes(&inner, 9, own, (size_t)n);
        else
            dt_pb_put_blob(&inner, 9, data, (size_t)n);
        free(own);
    }
    dt_pb_put_message(w, number, &inner);
    return DT_OK;
}

static dt_status put_graph(dt_pb_writer *w, int32_t number, const dt_onnx_graph *g, outside *out);

static dt_status put_attr(dt_pb_writer *w, const dt_onnx_attr *a) {
    dt_pb_writer inner = {0};
    dt_status st = DT_OK;
    dt_pb_put_text(&inner, 1, a->name);
    switch (a->kind) {
    case DT_ONNX_FLOAT:
        dt_pb_put_float(&inner, 2, a->f);
        break;
    case DT_ONNX_INT:
        dt_pb_put_int(&inner, 3, a->i);
        break;
    case DT_ONNX_STRING:
        dt_pb_put_text(&inner, 4, a->s);
        break;
    case DT_ONNX_FLOATS: /* not packed: so the message is declared */
        for (int64_t i = 0; i < a->n; i++) dt_pb_put_float(&inner, 7, a->floats[i]);
        break;
    case DT_ONNX_INTS:
        for (int64_t i = 0; i < a->n; i++) dt_pb_put_int(&inner, 8, a->ints[i]);
        break;
    case DT_ONNX_STRINGS:
        for (int64_t i = 0; i < a->n; i++) dt_pb_put_text(&inner, 9, a->strings[i]);
        break;
    case DT_ONNX_TENSOR:
    case DT_ONNX_TENSORS:
        for (int64_t i = 0; st == DT_OK && i < a->n; i++)
            st = put_tensor(&inner, a->kind == DT_ONNX_TENSOR ? 5 : 10, &a->t[i], NULL);
        break;
    case DT_ONNX_GRAPH:
    case DT_ONNX_GRAPHS:
        for (int64_t i = 0; st == DT_OK && i < a->n; i++)
            st = put_graph(&inner, a->kind == DT_ONNX_GRAPH ? 6 : 11, &a->g[i], NULL);
        break;
    }
    dt_pb_put_int(&inner, 20, a->kind);
    if (st == DT_OK)
        dt_pb_put_message(w, 5, &inner);
    else
        dt_pb_writer_free(&inner);
    return st;
}

static dt_status put_node(dt_pb_writer *w, const dt_onnx_node *n) {
    dt_pb_writer inner = {0};
    dt_status st = DT_OK;
    for (int32_t i = 0; i < n->n_in; i++) dt_pb_put_text(&inner, 1, n->in[i]);
    for (int32_t i = 0; i < n->n_out; i++) dt_pb_put_text(&inner, 2, n->out[i]);
    if (*n->name) dt_pb_put_text(&inner, 3, n->name);
    dt_pb_put_text(&inner, 4, n->op);
    for (int32_t i = 0; st == DT_OK && i < n->n_attr; i++) st = put_attr(&inner, &n->attr[i]);
    if (*n->domain) dt_pb_put_text(&inner, 7, n->domain);
    if (st == DT_OK)
        dt_pb_put_message(w, 1, &inner);
    else
        dt_pb_writer_free(&inner);
    return st;
}

static void put_shape(dt_pb_writer *w, const dt_onnx_value_info *v) {
    dt_pb_writer shape = {0};
    for (int32_t d = 0; d < v->ndim; d++) {
        dt_pb_writer dim = {0};
        if (v->dim[d] >= 0)
            dt_pb_put_int(&dim, 1, v->dim[d]);
        else if (v->dim_name[d])
            dt_pb_put_text(&dim, 2, v->dim_name[d]);
        dt_pb_put_message(&shape, 1, &dim);
    }
    dt_pb_put_message(w, 2, &shape);
}

static void put_value(dt_pb_writer *w, int32_t number, const dt_onnx_value_info *v) {
    dt_pb_writer inner = {0}, type = {0}, tensor = {0};
    dt_pb_put_text(&inner, 1, v->name);
    if (v->type < DT_TENSOR_TYPES) {
        dt_pb_put_int(&tensor, 1, dt_onnx_type_number(v->type));
        if (v->ndim >= 0) put_shape(&tensor, v);
        dt_pb_put_message(&type, 1, &tensor);
        dt_pb_put_message(&inner, 2, &type);
    }
    dt_pb_put_message(w, number, &inner);
}

static dt_status put_graph(dt_pb_writer *w, int32_t number, const dt_onnx_graph *g, outside *out) {
    dt_pb_writer inner = {0};
    dt_status st = DT_OK;
    for (int32_t i = 0; st == DT_OK && i < g->n_node; i++) st = put_node(&inner, &g->node[i]);
    dt_pb_put_text(&inner, 2, *g->name ? g->name : "main");
    for (int32_t i = 0; st == DT_OK && i < g->n_constant; i++)
        st = put_tensor(&inner, 5, &g->constant[i], out);
    for (int32_t i = 0; i < g->n_in; i++) put_value(&inner, 11, &g->in[i]);
    for (int32_t i = 0; i < g->n_out; i++) put_value(&inner, 12, &g->out[i]);
    for (int32_t i = 0; i < g->n_value; i++) put_value(&inner, 13, &g->value[i]);
    if (st == DT_OK)
        dt_pb_put_message(w, number, &inner);
    else
        dt_pb_writer_free(&inner);
    return st;
}

/* The oldest IR version that has all types of the model, and not below the one it was read from. */
static int64_t ir_version(const dt_onnx_model *m) {
    int64_t v = m->ir_version > IR_VERSION ? m->ir_version : IR_VERSION;
    for (int32_t i = 0; i < m->graph.n_constant; i++) {
        const dt_tensor_type type = m->graph.constant[i].type;
        const int64_t least = type >= DT_SAFETENSORS_TYPES                                 ? IR_OF_4_BITS
                              : type >= DT_TENSOR_F8_E5M2 && type <= DT_TENSOR_F8_E4M3FNUZ ? IR_OF_F8
                                                                                           : 0;
        v = v > least ? v : least;
    }
    return v;
}

static dt_status put_model(dt_pb_writer *w, const dt_onnx_model *m, outside *out) {
    dt_pb_put_int(w, 1, ir_version(m));
    if (*m->producer) dt_pb_put_text(w, 2, m->producer);
    if (*m->producer_version) dt_pb_put_text(w, 3, m->producer_version);
    if (*m->doc) dt_pb_put_text(w, 6, m->doc);
    DT_TRY(put_graph(w, 7, &m->graph, out));
    for (int32_t i = 0; i < m->n_opset; i++) {
        dt_pb_writer opset = {0};
        dt_pb_put_text(&opset, 1, m->opset[i].domain);
        dt_pb_put_int(&opset, 2, m->opset[i].version);
        dt_pb_put_message(w, 8, &opset);
    }
    for (int32_t i = 0; i < m->n_note; i++) put_pair(w, 14, m->note[i].key, m->note[i].value);
    return w->failed ? dt_fail(DT_ERR_MEMORY, "no memory for what is written of a model") : DT_OK;
}

static dt_status write_outside(const char *path, const outside *out) {
    dt_out_file f;
    DT_TRY(dt_out_file_open(path, &f));
    static const uint8_t zero[PAGE_BYTES];
    for (int64_t i = 0; i < out->n; i++) {
        const dt_onnx_tensor *t = out->tensor[i];
        fwrite(t->data, 1, (size_t)t->n_bytes, f.file);
        if (i + 1 < out->n) fwrite(zero, 1, (size_t)(round_up(t->n_bytes) - t->n_bytes), f.file);
    }
    return dt_out_file_close(&f, dt_files_check());
}

static dt_status write_inside(const char *path, const dt_pb_writer *w) {
    dt_out_file f;
    size_t at = 0;
    DT_TRY(dt_out_file_open(path, &f));
    for (size_t i = 0; i < w->n_blob; i++) {
        const dt_pb_blob *b = &w->blob[i];
        fwrite(w->byte + at, 1, b->at - at, f.file);
        if (b->n > 0) fwrite(b->data, 1, b->n, f.file);
        at = b->at;
    }
    fwrite(w->byte + at, 1, w->n - at, f.file);
    return dt_out_file_close(&f, dt_files_check());
}

dt_status dt_onnx_write_limit(const dt_onnx_model *m, const char *path, int64_t inside_bytes_max) {
    int64_t bytes = 0;
    dt_pb_writer w = {0};
    outside out = {.name = NULL};
    char *data_path = NULL;
    dt_status st = DT_OK;
    for (int32_t i = 0; i < m->graph.n_constant; i++) bytes += m->graph.constant[i].n_bytes;
    if (bytes > inside_bytes_max) {
        const size_t n = strlen(path) + sizeof ".data";
        data_path = malloc(n);
        out.tensor = calloc((size_t)m->graph.n_constant + 1, sizeof(const dt_onnx_tensor *));
        if (data_path && out.tensor) {
            snprintf(data_path, n, "%s.data", path);
            out.name = strrchr(data_path, '/') ? strrchr(data_path, '/') + 1 : data_path;
        } else {
            st = dt_fail(DT_ERR_MEMORY, "no memory to write a model");
        }
    }
    if (st == DT_OK) st = put_model(&w, m, &out);
    if (st != DT_OK) dt_error_context("%s", path);
    if (st == DT_OK && out.n > 0) st = write_outside(data_path, &out);
    if (st == DT_OK) st = write_inside(path, &w);
    dt_pb_writer_free(&w);
    free(out.tensor), free(data_path);
    return st;
}

dt_status dt_onnx_write(const dt_onnx_model *m, const char *path) {
    return dt_onnx_write_limit(m, path, inside_bytes);
}
