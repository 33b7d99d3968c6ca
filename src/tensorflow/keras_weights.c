/* Variables of Keras files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keras.h"

#define BY_NAME_ROOT "model_weights"

dt_status dt_keras_weights_open(dt_h5 *h, bool by_name, dt_keras_weights *out) {
    *out = (dt_keras_weights){.h = h, .by_name = by_name};
    return by_name ? dt_h5_list(h, BY_NAME_ROOT, &out->n, &out->path) : DT_OK;
}

void dt_keras_weights_close(dt_keras_weights *w) {
    dt_h5_list_free(w->n, w->path);
    *w = (dt_keras_weights){.n = 0};
}

/* Whether one of the folders of a path is `word`, or begins with it. */
static bool has_folder(const char *path, const char *word, bool whole) {
    const size_t n = strlen(word);
    for (const char *at = path, *end; (end = strchr(at, '/')); at = end + 1)
        if (strncmp(at, word, n) == 0 && (!whole || at + n == end)) return true;
    return false;
}

/* "top/.../layer/.../kernel:0" */
static bool is_at(const char *path, const dt_keras_call *c, const dt_keras_var_name *name) {
    const char *slash = strrchr(path, '/'), *leaf = slash ? slash + 1 : path;
    const size_t n = strlen(c->top), n_name = strlen(name->name);
    return strncmp(path, c->top, n) == 0 && path[n] == '/' && strncmp(leaf, name->name, n_name) == 0 &&
           (leaf[n_name] == 0 || leaf[n_name] == ':') && has_folder(path, c->name, true) &&
           (!name->within || has_folder(path, name->within, name->within[strlen(name->within) - 1] != '_'));
}

bool dt_keras_has_var(const dt_keras_call *c, const dt_keras_var_name *name) {
    for (int64_t i = 0; i < c->w->n; i++)
        if (is_at(c->w->path[i], c, name)) return true;
    return false;
}

static void find_by_name(dt_keras_call *c, const dt_keras_var_name *name, char *path, size_t size) {
    const char *found = NULL;
    for (int64_t i = 0; i < c->w->n; i++) {
        if (!is_at(c->w->path[i], c, name)) continue;
        if (found) {
            dt_keras_refuse(c, "two variables may be its %s: %s and %s", name->name, found, c->w->path[i]);
            return;
        }
        found = c->w->path[i];
    }
    if (found)
        snprintf(path, size, "%s/%s", BY_NAME_ROOT, found);
    else
        dt_keras_refuse(c, "the file has no variable %s of it", name->name);
}

bool dt_keras_read_var(dt_keras_call *c, const dt_keras_var_name *name, int32_t ndim, dt_keras_var *out) {
    char path[1024] = "";
    dt_h5_info info;
    *out = (dt_keras_var){.data = NULL};
    if (c->d->status != DT_OK) return false;
    if (c->w->by_name)
        find_by_name(c, name, path, sizeof path);
    else
        snprintf(path, sizeof path, "%s/%s%svars/%d", c->folder, name->part ? name->part : "",
                 name->part ? "/" : "", name->nth);
    if (c->d->status != DT_OK) return false;
    dt_status st = dt_h5_info_get(c->w->h, path, &info);
    if (st == DT_OK) {
        if (info.ndim != ndim) {
            dt_keras_refuse(c, "its variable %s has %d dimensions, not %d", name->name, info.ndim, ndim);
            return false;
        }
        out->data = dt_onnx_alloc(c->d->m, info.n_elem * (int64_t)sizeof(float));
        st = out->data ? dt_h5_read(c->w->h, path, DT_DTYPE_F32, info.n_elem, out->data)
                       : dt_fail(DT_ERR_MEMORY, "no memory for %s", path);
    }
    if (st != DT_OK) {
        dt_error_context("layer \"%s\" (%s)", c->name, c->type);
        c->d->status = st;
        return false;
    }
    out->ndim = ndim, out->n_elem = info.n_elem;
    memcpy(out->dim, info.dim, sizeof out->dim);
    return true;
}

void dt_keras_permute(dt_keras_call *c, dt_keras_var *v, const int32_t *perm) {
    dt_keras_var to = *v;
    int64_t stride[DT_MAX_DIM], at[DT_MAX_DIM] = {0};
    to.data = c->d->status == DT_OK ? dt_onnx_alloc(c->d->m, v->n_elem * (int64_t)sizeof(float)) : NULL;
    if (!to.data) {
        if (c->d->status == DT_OK) c->d->status = dt_fail(DT_ERR_MEMORY, "no memory for a weight");
        return;
    }
    for (int32_t i = 0; i < v->ndim; i++) {
        stride[i] = 1;
        for (int32_t k = perm[i] + 1; k < v->ndim; k++) stride[i] *= v->dim[k];
        to.dim[i] = v->dim[perm[i]];
    }
    for (int64_t i = 0; i < v->n_elem; i++) {
        int64_t from = 0;
        for (int32_t k = 0; k < v->ndim; k++) from += at[k] * stride[k];
        to.data[i] = v->data[from];
        for (int32_t k = v->ndim - 1; k >= 0 && ++at[k] == to.dim[k]; k--) at[k] = 0;
    }
    *v = to;
}

const char *dt_keras_constant(dt_keras_call *c, const char *name, const dt_keras_var *v) {
    if (c->d->status != DT_OK) return "";
    const char *full = dt_onnx_text(c->d->m, "%s/%s", c->scope, name);
    const dt_onnx_graph *g = &c->d->m->graph;
    for (int32_t i = 0; full && i < g->n_constant; i++)
        if (strcmp(g->constant[i].name, full) == 0) return g->constant[i].name;
    return dt_onnx_draft_constant(c->d, full, DT_TENSOR_F32, v->ndim, v->dim, v->data, true);
}

const char *dt_keras_weight(dt_keras_call *c, const dt_keras_var_name *name, int32_t ndim) {
    dt_keras_var v;
    return dt_keras_read_var(c, name, ndim, &v) ? dt_keras_constant(c, name->name, &v) : "";
}
