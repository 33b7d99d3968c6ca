/* What all rows are written with, and the list of their lists. */
#include "onnx/op.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "eval.h"

static const dt_onnx_op *const families[] = {
    dt_onnx_ops_unary,  dt_onnx_ops_binary,    dt_onnx_ops_cast,     dt_onnx_ops_shape,
    dt_onnx_ops_slice,  dt_onnx_ops_index,     dt_onnx_ops_scatter,  dt_onnx_ops_sort,
    dt_onnx_ops_reduce, dt_onnx_ops_einsum,    dt_onnx_ops_network,  dt_onnx_ops_norm,
    dt_onnx_ops_pool,   dt_onnx_ops_recurrent, dt_onnx_ops_quantize, dt_onnx_ops_control,
};

const dt_onnx_op *dt_onnx_op_at(int32_t i) {
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (const dt_onnx_op *op = families[f]; op->name; op++)
            if (i-- == 0) return op;
    return NULL;
}

const dt_onnx_op *dt_onnx_op_find(const char *domain, const char *name, int64_t version) {
    const dt_onnx_op *best = NULL;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (const dt_onnx_op *op = families[f]; op->name; op++)
            if (op->since <= version && (!best || op->since > best->since) && strcmp(op->name, name) == 0 &&
                strcmp(op->domain, domain) == 0)
                best = op;
    return best;
}

/* ---- what a model asks for that there is not ---- */

enum { MISSING_SHOWN = 20 };

typedef struct missing {
    FILE *to;
    int64_t n;
} missing;

static const char *shown(const char *domain) {
    return *domain ? domain : "ai.onnx";
}

static void check_graph(const dt_onnx_model *m, const dt_onnx_graph *g, missing *out) {
    for (int32_t i = 0; i < g->n_node; i++) {
        const dt_onnx_node *n = &g->node[i];
        const int64_t version = dt_onnx_version(m, n->domain);
        if (!dt_onnx_op_find(n->domain, n->op, version) && out->n++ < MISSING_SHOWN) {
            const char *name = *n->name ? n->name : n->n_out > 0 ? n->out[0] : "";
            fprintf(out->to, "%s%s of %s %lld (node '%s')", out->n > 1 ? ", " : "", n->op, shown(n->domain),
                    (long long)version, name);
        }
        for (int32_t a = 0; a < n->n_attr; a++)
            if (n->attr[a].kind == DT_ONNX_GRAPH) check_graph(m, n->attr[a].g, out);
    }
}

dt_status dt_onnx_check_ops(const dt_onnx_model *m) {
    char *text = NULL;
    size_t size;
    missing found = {.to = open_memstream(&text, &size)};
    if (!found.to) return dt_fail(DT_ERR_MEMORY, "no memory for a list of ops");
    check_graph(m, &m->graph, &found);
    if (found.n > MISSING_SHOWN) fprintf(found.to, " and %lld more", (long long)found.n - MISSING_SHOWN);
    dt_status status = DT_OK;
    if (fclose(found.to) != 0)
        status = dt_fail(DT_ERR_MEMORY, "no memory for a list of ops");
    else if (found.n > 0)
        status = dt_fail(DT_ERR_DATA, "%s: %s not supported: %s", m->path,
                         found.n == 1 ? "an op is" : "some ops are", text);
    free(text);
    return status;
}

/* ---- helpers of rows ---- */

bool dt_onnx_wants(const dt_onnx_call *c, int32_t i) {
    return i < c->n_out && c->node->out[i][0];
}

dt_status dt_onnx_refuse(const dt_onnx_call *c, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const dt_onnx_node *n = c->node;
    return dt_fail(DT_ERR_DATA, "node '%s' (%s%s%s, opset %lld): %s",
                   *n->name       ? n->name
                   : n->n_out > 0 ? n->out[0]
                                  : "",
                   n->domain, *n->domain ? "." : "", n->op, (long long)c->version, text);
}

dt_status dt_onnx_expect(const dt_onnx_call *c, int32_t i, uint32_t types) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    if (!t || dt_host_is(t, types)) return DT_OK;
    return dt_onnx_refuse(c, "input %d is %s, which it does not take", (int)i, dt_tensor_type_name(t->type));
}

dt_status dt_onnx_need(const dt_onnx_call *c, int32_t i) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    if (!t) return dt_onnx_refuse(c, "input %d is missing", (int)i);
    if (t->data) return DT_OK;
    const dt_onnx_node *n = c->node;
    return dt_fail(
        DT_ERR_USAGE,
        "node '%s' (%s): what '%s' holds is not known, and the shape of the result follows from it",
        *n->name ? n->name : n->out[0], n->op, n->in[i]);
}

bool dt_onnx_all_known(const dt_onnx_call *c) {
    for (int32_t i = 0; i < c->n_in; i++)
        if (c->in[i] && !c->in[i]->data) return false;
    return true;
}

dt_status dt_onnx_numbers(const dt_onnx_call *c, const char *attr, int32_t slot, int32_t cap, int64_t *out,
                          int32_t *n) {
    *n = -1;
    const dt_host_tensor *t = slot >= 0 ? dt_onnx_in(c, slot) : NULL;
    const int64_t *list;
    int64_t count;
    if (t) {
        DT_TRY(dt_onnx_expect(c, slot, DT_HOST_INTS));
        DT_TRY(dt_onnx_need(c, slot));
        if (t->ndim > 1)
            return dt_onnx_refuse(c, "input %d has %d dimensions instead of 1", (int)slot, (int)t->ndim);
        count = dt_host_n_elem(t);
    } else {
        const dt_onnx_attr *a = attr ? dt_onnx_attr_find(c->node, attr) : NULL;
        if (!a) return DT_OK;
        if (a->kind == DT_ONNX_INT) {
            list = &a->i, count = 1;
        } else {
            if (a->kind != DT_ONNX_INTS) return dt_onnx_refuse(c, "attribute %s is not whole numbers", attr);
            list = a->ints, count = a->n;
        }
    }
    if (count > cap)
        return dt_onnx_refuse(c, "%lld numbers for %s, where %d can be", (long long)count,
                              attr ? attr : "an input", (int)cap);
    for (int32_t i = 0; i < (int32_t)count; i++) out[i] = t ? dt_host_i64(t, i) : list[i];
    *n = (int32_t)count;
    return DT_OK;
}

dt_status dt_onnx_axis(const dt_onnx_call *c, int64_t axis, int32_t ndim, int32_t *out) {
    if (axis < -ndim || axis >= ndim)
        return dt_onnx_refuse(c, "axis %lld of %d dimensions", (long long)axis, (int)ndim);
    *out = (int32_t)(axis < 0 ? axis + ndim : axis);
    return DT_OK;
}

dt_status dt_onnx_index(const dt_onnx_call *c, const dt_host_tensor *t, int64_t i, int64_t size,
                        int64_t *out) {
    const int64_t at = dt_host_i64(t, i);
    if (at < -size || at >= size)
        return dt_onnx_refuse(c, "index %lld of %lld", (long long)at, (long long)size);
    *out = at < 0 ? at + size : at;
    return DT_OK;
}

dt_status dt_onnx_axis_attr(const dt_onnx_call *c, int64_t otherwise, int32_t ndim, int32_t *out) {
    return dt_onnx_axis(c, dt_onnx_attr_int(c->node, "axis", otherwise), ndim, out);
}

bool dt_eval_is_small(const dt_host_tensor *t) {
    int64_t n = 1;
    for (int32_t d = 0; d < t->ndim; d++)
        if (t->dim[d] > 0 && (__builtin_mul_overflow(n, t->dim[d], &n) || n > INT64_C(1) << 56)) return false;
    return true;
}

dt_status dt_onnx_out(const dt_onnx_call *c, int32_t i, dt_tensor_type type, int32_t ndim,
                      const int64_t *dim) {
    if (i >= c->n_out) return DT_OK;
    if (ndim > DT_MAX_DIM)
        return dt_onnx_refuse(c, "a result of %d dimensions, where %d can be", (int)ndim, DT_MAX_DIM);
    dt_host_tensor *t = &c->out[i];
    t->type = type, t->ndim = ndim, t->data = NULL;
    for (int32_t d = 0; d < ndim; d++) {
        if (dim[d] < 0)
            return dt_onnx_refuse(c, "dimension %d of the result would be %lld", (int)d, (long long)dim[d]);
        t->dim[d] = dim[d];
    }
    const int64_t bytes = dt_eval_is_small(t) ? dt_host_bytes(t) : INT64_MAX;
    if (bytes > c->eval->budget)
        return dt_onnx_refuse(c, "the result would take %s, more than the %s there may be",
                              dt_bytes_needed_text((double)bytes).s,
                              dt_bytes_free_text((double)c->eval->budget).s);
    return DT_OK;
}

dt_status dt_onnx_out_like(const dt_onnx_call *c, int32_t i, int32_t k) {
    const dt_host_tensor *t = dt_onnx_in(c, k);
    return dt_onnx_out(c, i, t->type, t->ndim, t->dim);
}

dt_status dt_onnx_broadcast(const dt_onnx_call *c, const dt_host_tensor *a, const dt_host_tensor *b,
                            int32_t *ndim, int64_t dim[DT_MAX_DIM]) {
    const int32_t n = a->ndim > b->ndim ? a->ndim : b->ndim;
    int64_t made[DT_MAX_DIM]; /* dim may be a's or b's */
    for (int32_t i = 0; i < n; i++) {
        const int32_t ia = i - (n - a->ndim), ib = i - (n - b->ndim);
        const int64_t p = ia < 0 ? 1 : a->dim[ia], q = ib < 0 ? 1 : b->dim[ib];
        if (p != q && p != 1 && q != 1)
            return dt_onnx_refuse(c, "%lld and %lld in dimension %d do not broadcast", (long long)p,
                                  (long long)q, (int)i);
        made[i] = p == 1 ? q : p;
    }
    memcpy(dim, made, (size_t)n * sizeof *dim);
    *ndim = n;
    return DT_OK;
}

dt_status dt_onnx_scratch(const dt_onnx_call *c, int64_t bytes, void **out) {
    return dt_eval_take(c->eval, bytes, out);
}
