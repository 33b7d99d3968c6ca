/* A model's memory, and what is asked of nodes. */
#include "formats/onnx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text_pool.h"

dt_status dt_onnx_model_create(int64_t version, dt_onnx_model **out) {
    dt_onnx_model *m = calloc(1, sizeof *m);
    *out = m;
    dt_onnx_opset *opset = m ? dt_onnx_alloc(m, sizeof *opset) : NULL;
    if (!opset) {
        dt_onnx_model_free(m);
        *out = NULL;
        return dt_fail(DT_ERR_MEMORY, "no memory for a model");
    }
    *opset = (dt_onnx_opset){.domain = "", .version = version};
    m->opset = opset, m->n_opset = 1;
    m->path = m->format = m->producer = m->producer_version = m->doc = m->graph.name = "";
    return DT_OK;
}

dt_status dt_onnx_check_files(const dt_onnx_model *m) {
    for (int32_t i = 0; i < m->n_file; i++) DT_TRY(dt_file_check(&m->file[i]));
    return DT_OK;
}

void dt_onnx_model_free(dt_onnx_model *m) {
    if (!m) return;
    for (int32_t i = 0; i < m->n_file; i++) dt_file_unmap(&m->file[i]);
    dt_text_pool_free(m->pool);
    free(m);
}

void *dt_onnx_alloc(dt_onnx_model *m, int64_t bytes) {
    enum { ALIGN = 16 };
    if (bytes < 0) return NULL;
    char *p = dt_text_pool_take(&m->pool, (size_t)bytes + ALIGN);
    if (!p) return NULL;
    p += -(uintptr_t)p % ALIGN;
    memset(p, 0, (size_t)bytes);
    return p;
}

const char *dt_onnx_text(dt_onnx_model *m, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : dt_text_pool_take(&m->pool, (size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

int64_t dt_onnx_version(const dt_onnx_model *m, const char *domain) {
    for (int32_t i = 0; i < m->n_opset; i++)
        if (strcmp(m->opset[i].domain, domain) == 0) return m->opset[i].version;
    return 0;
}

const dt_onnx_attr *dt_onnx_attr_find(const dt_onnx_node *n, const char *name) {
    for (int32_t i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0) return &n->attr[i];
    return NULL;
}

static const dt_onnx_attr *find_kind(const dt_onnx_node *n, const char *name, dt_onnx_attr_kind kind) {
    const dt_onnx_attr *a = dt_onnx_attr_find(n, name);
    return a && a->kind == kind ? a : NULL;
}

int64_t dt_onnx_attr_int(const dt_onnx_node *n, const char *name, int64_t otherwise) {
    const dt_onnx_attr *a = find_kind(n, name, DT_ONNX_INT);
    return a ? a->i : otherwise;
}

float dt_onnx_attr_float(const dt_onnx_node *n, const char *name, float otherwise) {
    const dt_onnx_attr *a = find_kind(n, name, DT_ONNX_FLOAT);
    return a ? a->f : otherwise;
}

const char *dt_onnx_attr_text(const dt_onnx_node *n, const char *name, const char *otherwise) {
    const dt_onnx_attr *a = find_kind(n, name, DT_ONNX_STRING);
    return a ? a->s : otherwise;
}

int64_t dt_onnx_attr_ints(const dt_onnx_node *n, const char *name, const int64_t **out) {
    const dt_onnx_attr *a = find_kind(n, name, DT_ONNX_INTS);
    if (!a) return 0;
    *out = a->ints;
    return a->n;
}
