#include "formats/onnx_draft.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool dead(dt_onnx_draft *d) {
    return d->status != DT_OK || !d->m;
}

static void no_memory(dt_onnx_draft *d) {
    if (!dead(d)) d->status = dt_fail(DT_ERR_MEMORY, "no memory for a model");
}

static void *take(dt_onnx_draft *d, int64_t bytes) {
    void *p = dead(d) ? NULL : dt_onnx_alloc(d->m, bytes);
    if (!p) no_memory(d);
    return p;
}

static void *copied(dt_onnx_draft *d, const void *from, int64_t bytes) {
    void *p = take(d, bytes);
    if (p && bytes > 0) memcpy(p, from, (size_t)bytes);
    return p;
}

static const char *text(dt_onnx_draft *d, const char *s) {
    const char *t = s ? copied(d, s, (int64_t)strlen(s) + 1) : NULL;
    return t ? t : "";
}

/* Room for one more in a list of the model, which moves when it grows; the old list stays in the pool until the end,
 * half as large each. */
static void *one_more(dt_onnx_draft *d, const void *list, int32_t *n, int32_t *cap, size_t size) {
    const char *old = list;
    char *p = (char *)(uintptr_t)old;
    if (dead(d)) return NULL;
    if (*n == *cap) {
        const int32_t grown = *cap > 0 ? 2 * *cap : 16;
        p = take(d, (int64_t)size * grown);
        if (!p) return NULL;
        if (*n > 0) memcpy(p, old, size * (size_t)*n);
        *cap = grown;
    }
    ++*n;
    return p;
}

dt_status dt_onnx_draft_create(int64_t version, dt_onnx_draft *out) {
    *out = (dt_onnx_draft){.status = DT_OK};
    return out->status = dt_onnx_model_create(version, &out->m);
}

dt_status dt_onnx_draft_end(dt_onnx_draft *d, dt_onnx_model **out) {
    *out = d->status == DT_OK ? d->m : NULL;
    if (d->status != DT_OK) dt_onnx_model_free(d->m);
    d->m = NULL;
    return d->status;
}

void dt_onnx_draft_fail(dt_onnx_draft *d, const char *format, ...) {
    char reason[512];
    va_list args;
    if (dead(d)) return;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    d->status = dt_fail(DT_ERR_DATA, "%s", reason);
}

static const char *name_of(dt_onnx_draft *d, const char *name, const char *kind) {
    if (dead(d)) return "";
    if (name) return text(d, name);
    const char *made = dt_onnx_text(d->m, "%s_%lld", kind, (long long)d->n_named++);
    if (!made) no_memory(d);
    return made ? made : "";
}

static const char *const *texts(dt_onnx_draft *d, const char *const *list, int64_t n) {
    const char **own = take(d, n * (int64_t)sizeof *own);
    for (int64_t i = 0; own && i < n; i++) own[i] = text(d, list[i]);
    return own;
}

static dt_onnx_attr attribute(dt_onnx_draft *d, const dt_onnx_attr *from) {
    dt_onnx_attr a = *from;
    a.name = text(d, from->name);
    if (a.kind == DT_ONNX_STRING) a.s = text(d, from->s);
    if (a.kind == DT_ONNX_INTS) a.ints = copied(d, from->ints, a.n * (int64_t)sizeof *a.ints);
    if (a.kind == DT_ONNX_FLOATS) a.floats = copied(d, from->floats, a.n * (int64_t)sizeof *a.floats);
    if (a.kind == DT_ONNX_STRINGS) a.strings = texts(d, from->strings, a.n);
    return a;
}

void dt_onnx_draft_node(dt_onnx_draft *d, const char *op, const char *domain, const char *const *in,
                        int32_t n_in, const char *const *out, int32_t n_out, const dt_onnx_attr *attr,
                        int32_t n_attr) {
    if (dead(d)) return;
    dt_onnx_graph *g = &d->m->graph;
    dt_onnx_node *list = one_more(d, g->node, &g->n_node, &d->cap_node, sizeof *list);
    dt_onnx_attr *own = take(d, n_attr * (int64_t)sizeof *own);
    if (!list || !own) return;
    g->node = list;
    dt_onnx_node *node = &list[g->n_node - 1];
    *node = (dt_onnx_node){.op = text(d, op), .domain = text(d, domain), .n_in = n_in, .n_out = n_out};
    node->in = texts(d, in, n_in);
    node->out = texts(d, out, n_out);
    node->name = n_out > 0 && node->out ? node->out[0] : "";
    node->attr = own;
    for (int32_t i = 0; i < n_attr; i++)
        if (attr[i].name) own[node->n_attr++] = attribute(d, &attr[i]);
}

const char *dt_onnx_draft_op(dt_onnx_draft *d, const char *op, const char *name, const char *const *in,
                             int32_t n_in, const dt_onnx_attr *attr, int32_t n_attr) {
    const char *out = name_of(d, name, op);
    dt_onnx_draft_node(d, op, "", in, n_in, &out, 1, attr, n_attr);
    return out;
}

const char *dt_onnx_draft_constant(dt_onnx_draft *d, const char *name, dt_tensor_type type, int32_t ndim,
                                   const int64_t *dim, const void *data, bool keep) {
    if (dead(d)) return "";
    dt_onnx_graph *g = &d->m->graph;
    dt_onnx_tensor t = {.type = type, .ndim = ndim, .data = data};
    if (ndim > DT_MAX_DIM || !dt_file_tensor_size(type, ndim, dim, &t.n_elem, &t.n_bytes)) {
        dt_onnx_draft_fail(d, "constant \"%s\": a shape that no tensor has", name ? name : "");
        return "";
    }
    if (ndim > 0) memcpy(t.dim, dim, (size_t)ndim * sizeof *dim);
    t.name = name_of(d, name, "constant");
    if (!keep) t.data = copied(d, data, t.n_bytes);
    dt_onnx_tensor *list = one_more(d, g->constant, &g->n_constant, &d->cap_constant, sizeof *list);
    if (!list) return "";
    list[g->n_constant - 1] = t;
    g->constant = list;
    return t.name;
}

const char *dt_onnx_draft_i64s(dt_onnx_draft *d, int32_t n, const int64_t *value) {
    return dt_onnx_draft_constant(d, NULL, DT_TENSOR_I64, 1, &(int64_t){n}, value, false);
}

const char *dt_onnx_draft_f32(dt_onnx_draft *d, float value) {
    return dt_onnx_draft_constant(d, NULL, DT_TENSOR_F32, 0, NULL, &value, false);
}

static const dt_onnx_value_info *add_info(dt_onnx_draft *d, const dt_onnx_value_info *list, int32_t *n,
                                          int32_t *cap, const dt_onnx_value_info *v) {
    dt_onnx_value_info *grown = one_more(d, list, n, cap, sizeof *grown);
    if (!grown) return list;
    dt_onnx_value_info *own = &grown[*n - 1];
    *own = *v;
    own->name = text(d, v->name);
    for (int32_t i = 0; i < v->ndim; i++)
        if (v->dim_name[i]) own->dim_name[i] = text(d, v->dim_name[i]);
    return grown;
}

void dt_onnx_draft_input(dt_onnx_draft *d, const dt_onnx_value_info *v) {
    if (!dead(d)) d->m->graph.in = add_info(d, d->m->graph.in, &d->m->graph.n_in, &d->cap_in, v);
}

void dt_onnx_draft_output(dt_onnx_draft *d, const dt_onnx_value_info *v) {
    if (!dead(d)) d->m->graph.out = add_info(d, d->m->graph.out, &d->m->graph.n_out, &d->cap_out, v);
}

void dt_onnx_draft_note(dt_onnx_draft *d, const char *key, const char *value) {
    if (dead(d)) return;
    dt_onnx_model *m = d->m;
    dt_onnx_note *list = take(d, (m->n_note + 1) * (int64_t)sizeof *list);
    if (!list) return;
    if (m->n_note > 0) memcpy(list, m->note, (size_t)m->n_note * sizeof *list);
    list[m->n_note++] = (dt_onnx_note){text(d, key), text(d, value)};
    m->note = list;
}
