/* An ONNX model as a file of tensors: its initializers, and weights that stand in Constant nodes. */
#include <stdlib.h>
#include <string.h>

#include "onnx_private.h"
#include "readers.h"

/* A Constant node's weight; NULL: it is none. */
static const dt_onnx_tensor *weight_of(const dt_onnx_node *n) {
    if (strcmp(n->op, "Constant") != 0 || *n->domain || n->n_out != 1) return NULL;
    const dt_onnx_attr *a = dt_onnx_attr_find(n, "value");
    return a && a->kind == DT_ONNX_TENSOR && a->t->ndim > 0 && dt_tensor_type_is_weight(a->t->type) ? a->t
                                                                                                    : NULL;
}

static void add(dt_tensors *t, const char *name, const dt_onnx_tensor *from) {
    dt_file_tensor *to = &t->tensor[t->n++];
    *to = (dt_file_tensor){.name = name,
                           .type = from->type,
                           .ndim = from->ndim,
                           .n_elem = from->n_elem,
                           .n_bytes = from->n_bytes,
                           .data = from->data};
    memcpy(to->dim, from->dim, sizeof to->dim);
}

static dt_status list(dt_tensors *t, const dt_onnx_model *m) {
    const dt_onnx_graph *g = &m->graph;
    int64_t n = g->n_constant;
    for (int32_t i = 0; i < g->n_node; i++) n += weight_of(&g->node[i]) != NULL;
    t->tensor = calloc((size_t)n + 1, sizeof *t->tensor);
    t->note = calloc((size_t)m->n_note + 1, sizeof *t->note);
    t->file = realloc(t->file, ((size_t)t->n_file + (size_t)m->n_file) * sizeof *t->file);
    if (!t->tensor || !t->note || !t->file) return dt_fail(DT_ERR_MEMORY, "no memory for a list of tensors");
    for (int32_t i = 0; i < g->n_constant; i++) add(t, g->constant[i].name, &g->constant[i]);
    for (int32_t i = 0; i < g->n_node; i++)
        if (weight_of(&g->node[i])) add(t, g->node[i].out[0], weight_of(&g->node[i]));
    for (int32_t i = 0; i < m->n_note; i++)
        t->note[t->n_note++] = (dt_tensor_note){m->note[i].key, m->note[i].value};
    return DT_OK;
}

/* What the listing points into is the listing's from here on. */
static void take_memory(dt_tensors *t, dt_onnx_model *m) {
    for (int32_t i = 0; i < m->n_file; i++) t->file[t->n_file++] = m->file[i];
    m->n_file = 0;
    t->text = m->pool;
    m->pool = NULL;
}

dt_status dt_onnx_list_tensors(dt_tensors *t, const char *path, const dt_mapped_file *f) {
    dt_onnx_model *m;
    DT_TRY(dt_onnx_model_create(1, &m));
    dt_status st = dt_onnx_read_into(m, path);
    if (st == DT_OK) st = list(t, m);
    if (st == DT_OK) { /* the model maps the file itself */
        dt_file_unmap(f);
        t->n_file--;
        take_memory(t, m);
    }
    dt_onnx_model_free(m);
    return st;
}

dt_status dt_tensors_of_model(dt_onnx_model *m, dt_tensors **out) {
    dt_tensors *t = calloc(1, sizeof *t);
    *out = NULL;
    if (t) t->path = strdup(m->path), t->format = m->format;
    dt_status st = t && t->path ? list(t, m) : dt_fail(DT_ERR_MEMORY, "no memory for a list of tensors");
    if (st == DT_OK) {
        take_memory(t, m);
        st = dt_tensors_index(t);
    }
    dt_onnx_model_free(m);
    if (st == DT_OK)
        *out = t;
    else
        dt_tensors_close(t);
    return st;
}
