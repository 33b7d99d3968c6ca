/* A graph as a model again. Nodes that mean something else since opset 13 are written as the new ones. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

enum { OPSET_LEAST = 13, OPSET_UPGRADED = 11 };

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "no memory to write a model");
}

static dt_status copy_head(dt_qwriter *w, int64_t version, bool microsoft) {
    const dt_onnx_model *m = w->g->m;
    dt_onnx_model *to = w->d.m;
    dt_onnx_opset *opset = dt_onnx_alloc(to, ((int64_t)m->n_opset + 2) * (int64_t)sizeof *opset);
    if (!opset) return no_memory();
    int32_t n = 0;
    bool own = false, has = false;
    for (int32_t i = 0; i < m->n_opset; i++) {
        opset[n] = m->opset[i];
        if (opset[n].domain[0] == '\0') opset[n].version = version, own = true;
        has |= strcmp(opset[n++].domain, "com.microsoft") == 0;
    }
    if (!own) opset[n++] = (dt_onnx_opset){.domain = "", .version = version};
    if (microsoft && !has) opset[n++] = (dt_onnx_opset){.domain = "com.microsoft", .version = 1};
    to->opset = opset, to->n_opset = n;
    to->ir_version = m->ir_version > 7 ? m->ir_version : 7;
    to->producer = m->producer, to->producer_version = m->producer_version, to->doc = m->doc;
    to->graph.name = m->graph.name;
    for (int32_t i = 0; i < m->n_note; i++) dt_onnx_draft_note(&w->d, m->note[i].key, m->note[i].value);
    for (int32_t i = 0; i < m->graph.n_in; i++) dt_onnx_draft_input(&w->d, &m->graph.in[i]);
    return w->d.status;
}

dt_status dt_qwriter_begin(dt_qgraph *g, bool microsoft, dt_qwriter *w) {
    const int64_t version = dt_onnx_version(g->m, "");
    *w = (dt_qwriter){.g = g};
    if (version < OPSET_UPGRADED)
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "%s is of opset %lld; quantised are networks of opset %d and later: convert it with "
                       "onnx.version_converter",
                       g->m->path, (long long)version, OPSET_UPGRADED);
    w->as = calloc((size_t)g->n_value + 1, sizeof *w->as);
    w->is_there = calloc((size_t)g->n_value + 1, sizeof *w->is_there);
    if (!w->as || !w->is_there) return no_memory();
    DT_TRY(dt_onnx_draft_create(version > OPSET_LEAST ? version : OPSET_LEAST, &w->d));
    return copy_head(w, version > OPSET_LEAST ? version : OPSET_LEAST, microsoft);
}

const char *dt_qwriter_see(dt_qwriter *w, int32_t value) {
    if (value < 0) return "";
    const dt_qvalue *v = &w->g->value[value];
    if (v->constant && !w->is_there[value]) {
        const dt_onnx_tensor *t = v->constant;
        w->is_there[value] = true;
        dt_onnx_draft_constant(&w->d, v->name, t->type, t->ndim, t->dim, t->data, true);
    }
    return v->name;
}

const char *dt_qwriter_constant(dt_qwriter *w, const char *like, const char *what, dt_tensor_type type,
                                int32_t ndim, const int64_t *dim, const void *data) {
    const char *name = dt_qgraph_name(w->g, like, what);
    if (!name) dt_onnx_draft_fail(&w->d, "no memory for a constant");
    return dt_onnx_draft_constant(&w->d, name ? name : "", type, ndim, dim, data, false);
}

void dt_qwriter_node(dt_qwriter *w, const char *op, const char *const *in, int32_t n_in, const char *out,
                     const dt_onnx_attr *attr, int32_t n_attr) {
    dt_onnx_draft_node(&w->d, op, "", in, n_in, &out, 1, attr, n_attr);
}

/* ---- nodes of opset 11 and 12 ---- */

static const char *made_name(dt_qwriter *w, const char *like, const char *what) {
    const char *name = dt_qgraph_name(w->g, like, what);
    if (!name) dt_onnx_draft_fail(&w->d, "no memory for a name");
    return name ? name : "";
}

/* An attribute that has become the second input. */
static void axes_as_input(dt_qwriter *w, const dt_onnx_node *n, const char *key, const char **in,
                          int32_t *n_in) {
    const int64_t *axis;
    const int64_t count = dt_onnx_attr_ints(n, key, &axis);
    if (count == 0) return;
    in[1] = dt_qwriter_constant(w, n->out[0], key, DT_TENSOR_I64, 1, &count, axis);
    *n_in = 2;
}

/* Of all dimensions from `axis` on together, as it was: of rows, then in its shape again. */
static void put_old_softmax(dt_qwriter *w, const dt_onnx_node *n, const char *in, const char *out) {
    const char *rows = made_name(w, out, "rows"), *done = made_name(w, out, "of_rows"),
               *shape = made_name(w, out, "shape");
    dt_qwriter_node(w, "Flatten", DT_ONNX_IN(in), rows,
                    DT_ONNX_ATTR(dt_onnx_int("axis", dt_onnx_attr_int(n, "axis", 1))));
    dt_qwriter_node(w, n->op, DT_ONNX_IN(rows), done, DT_ONNX_ATTR(dt_onnx_int("axis", -1)));
    dt_qwriter_node(w, "Shape", DT_ONNX_IN(in), shape, DT_ONNX_PLAIN);
    dt_qwriter_node(w, "Reshape", DT_ONNX_IN(done, shape), out, DT_ONNX_PLAIN);
}

/* Whether the node was written as a new one. */
static void upgrade(dt_qwriter *w, const dt_onnx_node *n, const char **in, int32_t *n_in, const char **drop) {
    static const struct {
        const char *op, *key;
    } row[] = {{"Squeeze", "axes"}, {"Unsqueeze", "axes"}, {"ReduceSum", "axes"}, {"Split", "split"}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (strcmp(n->op, row[i].op) != 0) continue;
        axes_as_input(w, n, row[i].key, in, n_in);
        *drop = row[i].key;
    }
}

static bool is_softmax(const dt_onnx_node *n) {
    return strcmp(n->op, "Softmax") == 0 || strcmp(n->op, "LogSoftmax") == 0 || strcmp(n->op, "Hardmax") == 0;
}

void dt_qwriter_copy(dt_qwriter *w, const dt_qnode *n, const char *const *in) {
    const dt_onnx_node *of = n->of;
    const bool old = of->domain[0] == '\0' && dt_onnx_version(w->g->m, "") < OPSET_LEAST;
    const char **ins = dt_onnx_alloc(w->g->pool, ((int64_t)n->n_in + 2) * (int64_t)sizeof *ins),
               **outs = dt_onnx_alloc(w->g->pool, ((int64_t)n->n_out + 1) * (int64_t)sizeof *outs);
    dt_onnx_attr *attr = dt_onnx_alloc(w->g->pool, ((int64_t)of->n_attr + 1) * (int64_t)sizeof *attr);
    if (!ins || !outs || !attr) {
        dt_onnx_draft_fail(&w->d, "no memory for a node");
        return;
    }
    int32_t n_in = n->n_in, n_attr = 0;
    const char *drop = NULL;
    for (int32_t i = 0; i < n_in; i++) ins[i] = in && in[i] ? in[i] : dt_qwriter_see(w, n->in[i]);
    for (int32_t i = 0; i < n->n_out; i++) outs[i] = n->out[i] >= 0 ? w->g->value[n->out[i]].name : "";
    if (old && is_softmax(of)) {
        put_old_softmax(w, of, ins[0], outs[0]);
        return;
    }
    if (old) upgrade(w, of, ins, &n_in, &drop);
    for (int32_t i = 0; i < of->n_attr; i++)
        if (!drop || strcmp(of->attr[i].name, drop) != 0) attr[n_attr++] = of->attr[i];
    dt_onnx_draft_node(&w->d, of->op, of->domain, ins, n_in, outs, n->n_out, attr, n_attr);
}

dt_status dt_qwriter_end(dt_qwriter *w, dt_status st, bool outputs, dt_onnx_model **out) {
    const dt_onnx_graph *g = &w->g->m->graph;
    *out = NULL;
    if (w->d.m) {
        /* Constants that bodies read, and those that are outputs. */
        for (int32_t v = 0; w->is_there && v < w->g->n_value; v++)
            if (w->g->value[v].held && w->g->value[v].constant) dt_qwriter_see(w, v);
        for (int32_t i = 0; i < g->n_out && outputs; i++) dt_onnx_draft_output(&w->d, &g->out[i]);
    }
    free(w->as), free(w->is_there);
    w->as = NULL, w->is_there = NULL;
    if (w->d.status == DT_OK) w->d.status = st;
    return dt_onnx_draft_end(&w->d, out);
}
