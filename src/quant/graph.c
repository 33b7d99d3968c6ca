#include "graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/op.h"

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "no memory to rewrite a model");
}

bool dt_qnode_is(const dt_qnode *n, const char *op) {
    return n->of->domain[0] == '\0' && strcmp(n->of->op, op) == 0;
}

const char *dt_qnode_name(const dt_qgraph *g, const dt_qnode *n) {
    if (n->of->name[0]) return n->of->name;
    return n->n_out > 0 && n->out[0] >= 0 ? g->value[n->out[0]].name : n->of->op;
}

/* ---- values ---- */

static uint32_t hash_of(const char *name) {
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static int32_t slot_of(const dt_qgraph *g, const char *name) {
    uint32_t at = hash_of(name) % (uint32_t)g->n_table;
    while (g->table[at] >= 0 && strcmp(g->value[g->table[at]].name, name) != 0)
        at = (at + 1) % (uint32_t)g->n_table;
    return (int32_t)at;
}

int32_t dt_qgraph_find(const dt_qgraph *g, const char *name) {
    return g->table[slot_of(g, name)];
}

static bool grow(dt_qgraph *g) {
    const int32_t cap = g->cap_value > 0 ? 2 * g->cap_value : 64;
    dt_qvalue *value = realloc(g->value, (size_t)cap * sizeof *value);
    if (value) g->value = value;
    int32_t *table = value ? malloc((size_t)cap * 2 * sizeof *table) : NULL;
    if (!table) return false;
    free(g->table);
    g->table = table, g->n_table = 2 * cap, g->cap_value = cap;
    memset(table, 0xff, (size_t)g->n_table * sizeof *table);
    for (int32_t v = 0; v < g->n_value; v++) table[slot_of(g, value[v].name)] = v;
    return true;
}

/* The value of that name, a new one where there is none; -1: no memory. */
static int32_t add_value(dt_qgraph *g, const char *name) {
    if (g->n_value == g->cap_value && !grow(g)) return -1;
    const int32_t at = slot_of(g, name);
    if (g->table[at] < 0) {
        g->value[g->n_value] = (dt_qvalue){.name = name, .maker = -1};
        g->table[at] = g->n_value++;
    }
    return g->table[at];
}

const char *dt_qgraph_name(dt_qgraph *g, const char *like, const char *what) {
    const char *name = dt_onnx_text(g->pool, "%s_%s", like, what);
    for (int i = 1; name && dt_qgraph_find(g, name) >= 0; i++)
        name = dt_onnx_text(g->pool, "%s_%s_%d", like, what, i);
    return name && add_value(g, name) >= 0 ? name : NULL;
}

int32_t dt_qgraph_constant(dt_qgraph *g, const char *like, const char *what, dt_tensor_type type,
                           int32_t ndim, const int64_t *dim, const void *data) {
    const char *name = dt_qgraph_name(g, like, what);
    dt_onnx_tensor *t = dt_onnx_alloc(g->pool, sizeof *t);
    if (!name || !t || !data) return -1;
    *t = (dt_onnx_tensor){.name = name, .type = type, .ndim = ndim, .data = data};
    memcpy(t->dim, dim, (size_t)ndim * sizeof *dim);
    if (!dt_file_tensor_size(type, ndim, dim, &t->n_elem, &t->n_bytes)) return -1;
    const int32_t v = dt_qgraph_find(g, name);
    g->value[v].constant = t;
    return v;
}

void dt_qgraph_set_in(dt_qgraph *g, int32_t node, int32_t slot, int32_t value) {
    dt_qnode *n = &g->node[node];
    if (n->in[slot] >= 0) g->value[n->in[slot]].n_use--;
    n->in[slot] = value;
    if (value >= 0) g->value[value].n_use++;
}

const float *dt_qgraph_floats(dt_qgraph *g, int32_t value) {
    const dt_onnx_tensor *t = value >= 0 ? g->value[value].constant : NULL;
    if (!t || t->type != DT_TENSOR_F32) return NULL;
    float *x = dt_onnx_alloc(g->pool, t->n_bytes);
    if (x && t->n_bytes > 0) memcpy(x, t->data, (size_t)t->n_bytes);
    return x;
}

/* ---- reading a model ---- */

static int32_t value_of(dt_qgraph *g, const char *name) {
    return name[0] ? add_value(g, name) : -1;
}

/* Names of outer values that bodies read. */
static void hold_bodies(dt_qgraph *g, const dt_onnx_graph *body) {
    for (int32_t i = 0; i < body->n_out; i++) {
        const int32_t v = dt_qgraph_find(g, body->out[i].name);
        if (v >= 0) g->value[v].held = true;
    }
    for (int32_t i = 0; i < body->n_node; i++) {
        const dt_onnx_node *n = &body->node[i];
        for (int32_t k = 0; k < n->n_in; k++) {
            const int32_t v = dt_qgraph_find(g, n->in[k]);
            if (v >= 0) g->value[v].held = true;
        }
        for (int32_t k = 0; k < n->n_attr; k++)
            if (n->attr[k].kind == DT_ONNX_GRAPH) hold_bodies(g, n->attr[k].g);
    }
}

static dt_status read_node(dt_qgraph *g, int32_t i) {
    const dt_onnx_node *from = &g->m->graph.node[i];
    dt_qnode *n = &g->node[i];
    *n = (dt_qnode){.of = from, .n_in = from->n_in, .n_out = from->n_out};
    n->in = dt_onnx_alloc(g->pool, ((int64_t)n->n_in + 4) * (int64_t)sizeof *n->in);
    n->out = dt_onnx_alloc(g->pool, ((int64_t)n->n_out + 1) * (int64_t)sizeof *n->out);
    if (!n->in || !n->out) return no_memory();
    if (strstr(from->op, "Quantize") || strstr(from->op, "QLinear") || strstr(from->op, "NBits"))
        return dt_fail(DT_ERR_UNSUPPORTED, "node '%s' (%s): the network is quantised already",
                       from->name[0] ? from->name : from->op, from->op);
    for (int32_t k = 0; k < n->n_in; k++) {
        n->in[k] = value_of(g, from->in[k]);
        if (n->in[k] < 0 && from->in[k][0]) return no_memory();
        if (n->in[k] >= 0) g->value[n->in[k]].n_use++;
    }
    for (int32_t k = 0; k < n->n_out; k++) {
        n->out[k] = value_of(g, from->out[k]);
        if (n->out[k] < 0 && from->out[k][0]) return no_memory();
        if (n->out[k] >= 0) g->value[n->out[k]].maker = i;
    }
    return DT_OK;
}

/* ---- what is constant ---- */

static dt_host_tensor host_of(const dt_onnx_tensor *t) {
    dt_host_tensor h = {.type = t->type, .ndim = t->ndim, .data = (void *)(uintptr_t)t->data};
    memcpy(h.dim, t->dim, sizeof h.dim);
    return h;
}

static bool can_fold(const dt_qgraph *g, const dt_qnode *n) {
    static const char *const drawn[] = {"Random", "Multinomial", "Bernoulli", "Dropout"};
    if (n->n_out != 1 || n->out[0] < 0 || (n->n_in == 0 && !dt_qnode_is(n, "Constant"))) return false;
    for (size_t i = 0; i < sizeof drawn / sizeof drawn[0]; i++)
        if (strncmp(n->of->op, drawn[i], strlen(drawn[i])) == 0) return false;
    for (int32_t k = 0; k < n->of->n_attr; k++)
        if (n->of->attr[k].kind == DT_ONNX_GRAPH || n->of->attr[k].kind == DT_ONNX_GRAPHS) return false;
    for (int32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && !g->value[n->in[k]].constant) return false;
    return true;
}

/* The bytes of a constant, aligned. */
static dt_status aligned(dt_qgraph *g, const dt_onnx_tensor *t, dt_host_tensor *out) {
    *out = host_of(t);
    if ((uintptr_t)t->data % 8 == 0) return DT_OK;
    out->data = dt_onnx_alloc(g->pool, t->n_bytes);
    if (!out->data) return no_memory();
    memcpy(out->data, t->data, (size_t)t->n_bytes);
    return DT_OK;
}

static dt_status fold_node(dt_qgraph *g, dt_onnx_eval *e, dt_qnode *n) {
    enum { IN_MAX = 16 };
    dt_host_tensor value[IN_MAX], out = {.ndim = 0};
    const dt_host_tensor *in[IN_MAX] = {NULL};
    int64_t bytes = 4096;
    if (n->n_in > IN_MAX) return DT_OK;
    for (int32_t k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0) continue;
        DT_TRY(aligned(g, g->value[n->in[k]].constant, &value[k]));
        in[k] = &value[k];
        bytes += 4 * g->value[n->in[k]].constant->n_bytes;
    }
    DT_TRY(dt_onnx_eval_node(e, n->of, in, &out));
    const int64_t n_bytes = dt_host_bytes(&out);
    /* What is larger than what it is made of stays with its maker. */
    if (!out.data || (n->n_in > 0 && n_bytes > bytes)) return DT_OK;
    dt_onnx_tensor *t = dt_onnx_alloc(g->pool, sizeof *t);
    void *data = dt_onnx_alloc(g->pool, n_bytes);
    if (!t || !data) return no_memory();
    memcpy(data, out.data, (size_t)n_bytes);
    *t = (dt_onnx_tensor){.name = g->value[n->out[0]].name, .type = out.type, .ndim = out.ndim, .data = data};
    memcpy(t->dim, out.dim, sizeof t->dim);
    DT_ASSERT(dt_file_tensor_size(t->type, t->ndim, t->dim, &t->n_elem, &t->n_bytes));
    g->value[n->out[0]].constant = t;
    g->value[n->out[0]].maker = -1;
    for (int32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0) g->value[n->in[k]].n_use--;
    n->gone = true;
    return DT_OK;
}

static dt_status fold_constants(dt_qgraph *g) {
    dt_onnx_eval *e;
    DT_TRY(dt_onnx_eval_create(g->m, (int64_t)16 << 30, &e));
    dt_status st = DT_OK;
    for (int32_t i = 0; i < g->n_node && st == DT_OK; i++) {
        if (!can_fold(g, &g->node[i])) continue;
        st = fold_node(g, e, &g->node[i]);
        dt_onnx_eval_clear(e);
    }
    dt_onnx_eval_destroy(e);
    return st;
}

/* ---- batch norm ---- */

/* The node whose result nobody but `n` reads. */
static dt_qnode *only_source(const dt_qgraph *g, const dt_qnode *n) {
    const int32_t v = n->in[0];
    if (v < 0 || g->value[v].maker < 0 || g->value[v].n_use != 1 || g->value[v].held) return NULL;
    return &g->node[g->value[v].maker];
}

static dt_status fold_norm(dt_qgraph *g, dt_qnode *norm) {
    if (!dt_qnode_is(norm, "BatchNormalization") || norm->n_in < 5 ||
        dt_onnx_attr_int(norm->of, "training_mode", 0) != 0)
        return DT_OK;
    dt_qnode *conv = only_source(g, norm);
    for (int32_t k = 1; k < norm->n_out; k++)
        if (norm->out[k] >= 0) return DT_OK;
    if (!conv || !dt_qnode_is(conv, "Conv") || conv->n_in < 2) return DT_OK;
    const int32_t old_bias = dt_qnode_in(conv, 2);
    const float *w = dt_qgraph_floats(g, conv->in[1]), *bias = dt_qgraph_floats(g, old_bias), *p[4];
    if (!w || (old_bias >= 0 && !bias)) return DT_OK;
    const dt_onnx_tensor *t = g->value[conv->in[1]].constant;
    const int64_t n = t->ndim > 0 ? t->dim[0] : 0, inner = n > 0 ? t->n_elem / n : 0;
    for (int k = 0; k < 4; k++) {
        p[k] = dt_qgraph_floats(g, norm->in[1 + k]);
        if (!p[k] || g->value[norm->in[1 + k]].constant->n_elem != n) return DT_OK;
    }
    if (bias && g->value[old_bias].constant->n_elem != n) return DT_OK;
    const double epsilon = (double)dt_onnx_attr_float(norm->of, "epsilon", 1e-5f);
    float *scaled = dt_onnx_alloc(g->pool, t->n_bytes), *shift = dt_onnx_alloc(g->pool, n * 4);
    if (!scaled || !shift) return no_memory();
    for (int64_t c = 0; c < n; c++) {
        const double factor = (double)p[0][c] / sqrt((double)p[3][c] + epsilon);
        if (!isfinite(factor)) return DT_OK;
        for (int64_t i = 0; i < inner; i++)
            scaled[c * inner + i] = (float)((double)w[c * inner + i] * factor);
        shift[c] = (float)(((bias ? (double)bias[c] : 0) - (double)p[2][c]) * factor + (double)p[1][c]);
    }
    const char *name = g->value[conv->out[0]].name;
    const int32_t new_w = dt_qgraph_constant(g, name, "weight", DT_TENSOR_F32, t->ndim, t->dim, scaled),
                  new_bias = dt_qgraph_constant(g, name, "bias", DT_TENSOR_F32, 1, &n, shift);
    if (new_w < 0 || new_bias < 0) return no_memory();
    const int32_t at = (int32_t)(conv - g->node);
    if (conv->n_in < 3) conv->in[2] = -1;
    conv->n_in = 3;
    dt_qgraph_set_in(g, at, 1, new_w);
    dt_qgraph_set_in(g, at, 2, new_bias);
    norm->gone = true;
    conv->out[0] = norm->out[0];
    g->value[conv->out[0]].maker = at;
    return DT_OK;
}

/* ---- all of it ---- */

dt_status dt_qgraph_create(const dt_onnx_model *m, dt_qgraph *out) {
    dt_qgraph *g = out;
    *g = (dt_qgraph){.m = m, .n_node = m->graph.n_node};
    DT_TRY(dt_onnx_check_ops(m));
    DT_TRY(dt_onnx_model_create(dt_onnx_version(m, ""), &g->pool));
    g->node = calloc((size_t)g->n_node + 1, sizeof *g->node);
    if (!g->node || !grow(g)) return no_memory();
    for (int32_t i = 0; i < m->graph.n_in; i++)
        if (add_value(g, m->graph.in[i].name) < 0) return no_memory();
    for (int32_t i = 0; i < m->graph.n_constant; i++) {
        const int32_t v = add_value(g, m->graph.constant[i].name);
        if (v < 0) return no_memory();
        g->value[v].constant = &m->graph.constant[i];
    }
    for (int32_t i = 0; i < g->n_node; i++) DT_TRY(read_node(g, i));
    for (int32_t i = 0; i < m->graph.n_out; i++) {
        const int32_t v = dt_qgraph_find(g, m->graph.out[i].name);
        if (v >= 0) g->value[v].held = true;
    }
    for (int32_t i = 0; i < g->n_node; i++)
        for (int32_t k = 0; k < g->node[i].of->n_attr; k++)
            if (g->node[i].of->attr[k].kind == DT_ONNX_GRAPH) hold_bodies(g, g->node[i].of->attr[k].g);
    DT_TRY(fold_constants(g));
    for (int32_t i = 0; i < g->n_node; i++)
        if (!g->node[i].gone) DT_TRY(fold_norm(g, &g->node[i]));
    return DT_OK;
}

void dt_qgraph_free(dt_qgraph *g) {
    free(g->node), free(g->value), free(g->table);
    dt_onnx_model_free(g->pool);
    *g = (dt_qgraph){.m = NULL};
}
