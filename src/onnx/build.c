/* The walk over a model: what is known is computed, the rest is lowered by the tables of the families, and what those
 * leave becomes a call. */
#include "onnx/build.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "core/quota.h"
#include "lower.h"

enum { BODIES = 16 };
#define BUDGET dt_memory_part((int64_t)4 << 30, 0.5)

dt_dtype dt_onnx_dtype(dt_tensor_type type) {
    switch (type) {
    case DT_TENSOR_F32:
    case DT_TENSOR_F16:
    case DT_TENSOR_BF16:
        return DT_DTYPE_F32;
    case DT_TENSOR_F64:
        return DT_DTYPE_F64;
    case DT_TENSOR_I32:
        return DT_DTYPE_I32;
    case DT_TENSOR_I64:
        return DT_DTYPE_I64;
    case DT_TENSOR_I8:
        return DT_DTYPE_I8;
    case DT_TENSOR_U8:
        return DT_DTYPE_U8;
    case DT_TENSOR_BOOL:
        return DT_DTYPE_BOOL;
    default:
        return DT_DTYPE_COUNT;
    }
}

static dt_tensor_type widened(dt_tensor_type type) {
    return type == DT_TENSOR_F16 || type == DT_TENSOR_BF16 ? DT_TENSOR_F32 : type;
}

/* ---- values ---- */

static uint32_t place_of(const dt_low *w, const char *name) {
    const uint32_t mask = (uint32_t)w->cap_value * 2 - 1;
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
    uint32_t at = (hash ^ hash >> 15) & mask;
    while (w->by_name[at] >= 0 && strcmp(w->value[w->by_name[at]].name, name) != 0) at = (at + 1) & mask;
    return at;
}

dt_lv *dt_low_find(const dt_low *w, const char *name) {
    const int32_t i = w->cap_value ? w->by_name[place_of(w, name)] : -1;
    return i >= 0 ? &w->value[i] : NULL;
}

/* Values of a graph and of the bodies in it. */
static int64_t count_values(const dt_onnx_graph *g) {
    int64_t n = (int64_t)g->n_in + g->n_constant;
    for (int32_t i = 0; i < g->n_node; i++) {
        n += g->node[i].n_out;
        for (int32_t k = 0; k < g->node[i].n_attr; k++)
            if (g->node[i].attr[k].kind == DT_ONNX_GRAPH) n += count_values(g->node[i].attr[k].g);
    }
    return n;
}

static dt_status make_room(dt_low *w) {
    const int64_t n = count_values(&w->m->graph);
    if (n > INT32_MAX / 8) return dt_fail(DT_ERR_DATA, "%lld values are too many", (long long)n);
    w->cap_value = 16;
    while (w->cap_value < n) w->cap_value *= 2;
    w->value = calloc((size_t)w->cap_value, sizeof *w->value);
    w->by_name = malloc((size_t)w->cap_value * 2 * sizeof *w->by_name);
    if (!w->value || !w->by_name) return dt_fail(DT_ERR_MEMORY, "no memory for %lld values", (long long)n);
    for (int32_t i = 0; i < w->cap_value * 2; i++) w->by_name[i] = -1;
    return DT_OK;
}

/* A value that is not there yet; of a body an inner one hides an outer one. */
static dt_lv *add_value(dt_low *w, const char *name) {
    DT_ASSERT(w->n_value < w->cap_value);
    dt_lv *v = &w->value[w->n_value];
    *v = (dt_lv){.name = name, .plain = -1, .last = -1, .byte = {-1, -1}, .measured = -1};
    w->by_name[place_of(w, name)] = w->n_value++;
    return v;
}

void dt_low_alias(dt_low *w, const char *name, const dt_lv *y) {
    const dt_lv is = *y;
    if (w->st == DT_OK) dt_low_same(add_value(w, name), &is);
}

/* Data in the form that values have here: aligned, floats of 16 bits widened. */
static dt_status take_data(dt_low *w, const dt_host_tensor *from, dt_lv *v) {
    const int64_t n = dt_host_n_elem(from), size = dt_host_elem_bytes(from->type);
    v->t = *from;
    v->t.type = widened(from->type);
    if (size == 0)
        return dt_fail(DT_ERR_DATA, "'%s' is %s, which nothing is computed in", v->name,
                       dt_tensor_type_name(from->type));
    const bool aligned = (uintptr_t)from->data % (uintptr_t)size == 0;
    if (v->t.type == from->type && aligned && n > 0) return DT_OK;
    v->t.data = dt_low_alloc(w, dt_max_i64(dt_host_bytes(&v->t), 1));
    if (!v->t.data) return w->st;
    if (v->t.type == from->type) {
        memcpy(v->t.data, from->data, (size_t)dt_host_bytes(from));
        return DT_OK;
    }
    const uint8_t *at = from->data;
    for (int64_t i = 0; i < n; i++, at += size) { /* one at a time: in no alignment */
        uint16_t bits;
        memcpy(&bits, at, sizeof bits);
        const dt_host_tensor one = {.type = from->type, .data = &bits};
        ((float *)v->t.data)[i] = (float)dt_host_f64(&one, 0);
    }
    return DT_OK;
}

static dt_status add_constants(dt_low *w, const dt_onnx_graph *g) {
    for (int32_t i = 0; i < g->n_constant; i++) {
        const dt_onnx_tensor *c = &g->constant[i];
        dt_host_tensor t = {.type = c->type, .ndim = c->ndim, .data = (void *)(uintptr_t)c->data};
        memcpy(t.dim, c->dim, sizeof t.dim);
        dt_lv *v = add_value(w, c->name);
        DT_TRY(take_data(w, &t, v));
        v->origin = c->name;
        v->weight = dt_low_is_real(v);
        v->ready = true;
    }
    return DT_OK;
}

static dt_status add_inputs(dt_low *w) {
    const dt_onnx_graph *g = &w->m->graph;
    for (int32_t i = 0; i < g->n_in; i++) {
        const dt_onnx_bound *b = &w->o->in[i];
        dt_lv *v = add_value(w, g->in[i].name);
        v->from = UINT64_C(1) << (i < 63 ? i : 63);
        v->ready = true;
        if (b->t.data) {
            DT_TRY(take_data(w, &b->t, v));
            v->rowwise = w->o->rows > 0;
            continue;
        }
        v->t = b->t;
        v->t.type = widened(b->t.type);
        v->opaque = dt_onnx_dtype(v->t.type) == DT_DTYPE_COUNT;
        dt_vid in = b->value;
        if (in < 0) continue; /* who reads it is told */
        if (dt_low_is_real(v)) in = dt_low_cast(w, v->name, in, w->g->compute);
        DT_TRY(w->st);
        if (b->channels_last)
            v->last = in; /* perhaps with channels that only pad it */
        else if (v->opaque)
            v->plain = in;
        else
            dt_low_set(w, v, in, false);
        DT_TRY(w->st);
    }
    return DT_OK;
}

/* ---- which nodes are needed ---- */

static void want_value(const dt_onnx_graph *g, bool *needed, const char *name, int32_t before);

static void want_body(const dt_onnx_graph *g, bool *needed, const dt_onnx_node *n, int32_t at) {
    for (int32_t k = 0; k < n->n_attr; k++) {
        if (n->attr[k].kind != DT_ONNX_GRAPH) continue;
        const dt_onnx_graph *body = n->attr[k].g;
        for (int32_t i = 0; i < body->n_node; i++) {
            for (int32_t j = 0; j < body->node[i].n_in; j++) want_value(g, needed, body->node[i].in[j], at);
            want_body(g, needed, &body->node[i], at);
        }
        for (int32_t i = 0; i < body->n_out; i++) want_value(g, needed, body->out[i].name, at);
    }
}

/* The node before `before` that makes the value. */
static void want_value(const dt_onnx_graph *g, bool *needed, const char *name, int32_t before) {
    if (!name[0]) return;
    for (int32_t i = before - 1; i >= 0; i--)
        for (int32_t k = 0; k < g->node[i].n_out; k++)
            if (strcmp(g->node[i].out[k], name) == 0) {
                needed[i] = true;
                return;
            }
}

static void mark_needed(const dt_onnx_graph *g, int32_t n_out, bool *needed) {
    for (int32_t i = 0; i < n_out; i++) want_value(g, needed, g->out[i].name, g->n_node);
    for (int32_t i = g->n_node - 1; i >= 0; i--) {
        if (!needed[i]) continue;
        for (int32_t k = 0; k < g->node[i].n_in; k++) want_value(g, needed, g->node[i].in[k], i);
        want_body(g, needed, &g->node[i], i);
    }
}

static bool is_output(const dt_low *w, const char *name) {
    for (int32_t i = 0; i < w->graph->n_out; i++)
        if (strcmp(w->graph->out[i].name, name) == 0) return true;
    return false;
}

int32_t dt_low_reader(const dt_low *w, const char *name) {
    int32_t found = -1;
    if (is_output(w, name)) return -1;
    for (int32_t i = 0; i < w->graph->n_node; i++) {
        const dt_onnx_node *n = &w->graph->node[i];
        if (!w->needed[i]) continue;
        for (int32_t k = 0; k < n->n_attr; k++)
            if (n->attr[k].kind == DT_ONNX_GRAPH) return -1; /* a body may read it */
        for (int32_t k = 0; k < n->n_in; k++) {
            if (strcmp(n->in[k], name) != 0) continue;
            if (found >= 0) return -1;
            found = i;
        }
    }
    return found;
}

/* The layer that ends the network: what makes the output, through what takes each number by itself. */
static const dt_onnx_node *find_head(const dt_onnx_graph *g) {
    static const char *const through[] = {"Identity", "Softmax", "LogSoftmax", "Flatten",
                                          "Dropout",  "Add",     "Cast"};
    const char *name = g->n_out > 0 ? g->out[0].name : "";
    for (int32_t i = g->n_node - 1; i >= 0; i--) {
        const dt_onnx_node *n = &g->node[i];
        if (n->n_out < 1 || strcmp(n->out[0], name) != 0) continue;
        if (strcmp(n->op, "Gemm") == 0 || strcmp(n->op, "MatMul") == 0) return n;
        bool on = false;
        for (size_t k = 0; k < sizeof through / sizeof through[0]; k++) on |= strcmp(n->op, through[k]) == 0;
        if (!on || n->n_in < 1) return NULL;
        name = n->in[0];
        for (int32_t k = 0; k < g->n_constant && n->n_in > 1; k++) /* a bias may stand first */
            if (strcmp(g->constant[k].name, name) == 0) name = n->in[1];
    }
    return NULL;
}

/* ---- nodes ---- */

static bool one_of(const char *name, const char *const *list) {
    for (; *list; list++)
        if (strcmp(name, *list) == 0) return true;
    return false;
}

/* Draws numbers: what it gives is no constant. */
static bool is_random(const dt_low_node *n) {
    static const char *const names[] = {"RandomNormal",
                                        "RandomNormalLike",
                                        "RandomUniform",
                                        "RandomUniformLike",
                                        "Bernoulli",
                                        "Multinomial",
                                        NULL};
    return one_of(n->node->op, names);
}

/* Of a weight it gives the same numbers, in another order or shape. */
static bool keeps_weight(const dt_low_node *n) {
    static const char *const names[] = {"Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze",
                                        "Flatten",  "Cast",      "Dropout", NULL};
    return one_of(n->node->op, names);
}

/* Exporters write equal tensors once, each other one as its Identity under its own name: in a network that is new, all
 * norms' statistics. Tied weights are one tensor without such a node. */
static bool is_other_weight(const dt_low *w, const dt_low_node *n) {
    const dt_lv *x = n->in[0];
    const char *name = n->out[0]->name;
    const bool named = (isalpha((unsigned char)name[0]) || name[0] == '_') && !strpbrk(name, "/:");
    return w->o->rows > 0 && strcmp(n->node->op, "Identity") == 0 && x->origin == x->name && named;
}

/* Of a weight it takes rows, or repeats it: that is trained, and not a copy. */
static bool takes_weight(const dt_low *w, const dt_low_node *n) {
    static const char *const names[] = {"Gather", "Expand", NULL};
    const dt_lv *x = dt_low_in(n, 0);
    return w->o->rows > 0 && x && x->weight && dt_host_n_elem(&x->t) > 1 && one_of(n->node->op, names);
}

static void set_out(dt_low *w, const dt_low_node *n, dt_host_tensor *made) {
    uint64_t from = 0;
    bool rowwise = false;
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i]) from |= n->in[i]->from, rowwise |= n->in[i]->rowwise;
    for (int32_t i = 0; i < n->n_out; i++) {
        dt_lv *v = n->out[i];
        if (!v) continue;
        v->from = from;
        v->rowwise = rowwise;
        v->t = made[i];
        v->t.data = NULL;
        v->t.type = widened(made[i].type);
        v->opaque = dt_onnx_dtype(v->t.type) == DT_DTYPE_COUNT;
        if (made[i].data && w->st == DT_OK) w->st = take_data(w, &made[i], v);
        v->ready = v->t.data != NULL;
    }
}

/* Inputs of the model that the value of an operand comes from, without which no shape follows. The first operand of
 * most ops is what they are done to: it is asked for only where nothing else is missing. */
static dt_status need_values(dt_low *w, const dt_low_node *n, bool *needs) {
    uint64_t from = 0;
    for (int32_t i = n->n_in - 1; i >= 0 && from == 0; i--)
        if (n->in[i] && !dt_low_known(n->in[i])) from = n->in[i]->from;
    for (int32_t i = 0; i < w->m->graph.n_in; i++)
        if (from >> (i < 63 ? i : 63) & 1) needs[i] = true;
    return DT_ERR_USAGE;
}

/* Types and shapes of the results, and their values where those of all operands are known. */
static dt_status infer(dt_low *w, const dt_low_node *n, bool *needs) {
    const dt_host_tensor **in = calloc((size_t)n->n_in + 1, sizeof *in);
    dt_host_tensor *hidden = calloc((size_t)n->n_in + 1, sizeof *hidden),
                   *made = calloc((size_t)n->n_out + 1, sizeof *made);
    dt_status st = in && hidden && made ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a node");
    const bool open = is_random(n) || takes_weight(w, n);
    for (int32_t i = 0; i < n->n_in && st == DT_OK; i++) {
        in[i] = n->in[i] ? &n->in[i]->t : NULL;
        if (!open || i > 0 || !n->in[i]) continue;
        hidden[i] = n->in[i]->t;
        hidden[i].data = NULL;
        in[i] = &hidden[i];
    }
    if (st == DT_OK) st = dt_onnx_eval_node(w->kept->eval, n->node, in, made);
    if (st == DT_ERR_USAGE) st = need_values(w, n, needs);
    if (st == DT_OK && is_random(n))
        for (int32_t i = 0; i < n->n_out; i++) made[i].data = NULL;
    if (st == DT_OK) set_out(w, n, made);
    const bool shape = strcmp(n->node->op, "Shape") == 0 || strcmp(n->node->op, "Size") == 0;
    if (st == DT_OK && n->n_out > 0 && n->out[0] && w->o->rows > 0 && shape && !dt_low_known(n->in[0]))
        n->out[0]->rowwise = true;
    const dt_lv *x = dt_low_in(n, 0);
    if (st == DT_OK && w->st == DT_OK && x && x->weight && n->out[0] && dt_low_known(n->out[0]) &&
        keeps_weight(n)) {
        n->out[0]->origin = is_other_weight(w, n) ? n->out[0]->name : x->origin;
        n->out[0]->weight = dt_low_is_real(n->out[0]);
    }
    if (st == DT_OK && strcmp(n->node->op, "Constant") == 0 && n->out[0]) {
        n->out[0]->origin = n->out[0]->name;
        n->out[0]->weight = dt_low_is_real(n->out[0]);
    }
    free(in), free(hidden), free(made);
    return st == DT_OK ? w->st : st;
}

static const struct {
    const char *domain;
    const dt_low_row *row;
} families[] = {{"", dt_low_elementwise}, {"", dt_low_moves},     {"", dt_low_layers},
                {"", dt_low_norms},       {"", dt_low_recurrent}, {"com.microsoft", dt_low_microsoft}};

static dt_low_fn *find_lowering(const char *domain, const char *name) {
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++)
        for (const dt_low_row *r = families[f].row; r->name; r++)
            if (strcmp(r->name, name) == 0 && strcmp(families[f].domain, domain) == 0) return r->lower;
    return NULL;
}

/* What is asked first where there are kernels of 8 and 4 bits. */
static dt_low_fn *find_quantised(const char *domain, const char *name) {
    for (const dt_low_row *r = domain[0] ? dt_low_quantized_microsoft : dt_low_quantized; r->name; r++)
        if (strcmp(r->name, name) == 0 && (!domain[0] || strcmp(domain, "com.microsoft") == 0))
            return r->lower;
    return NULL;
}

bool dt_onnx_op_has_nodes(const char *domain, const char *name) {
    return find_lowering(domain, name) != NULL;
}

static bool all_known(const dt_low_node *n) {
    for (int32_t i = 0; i < n->n_out; i++)
        if (n->out[i] && !n->out[i]->ready) return false;
    return true;
}

static void explain(const dt_low_node *n) {
    dt_error_context("node '%s' (%s, opset %lld)", n->node->name[0] ? n->node->name : n->node->out[0],
                     n->node->op, (long long)n->version);
}

static dt_status lower_graph(dt_low *w, const dt_onnx_graph *g, int32_t n_out, bool *needs);

/* The branch of an If whose condition is known, in its place. */
static dt_status lower_if(dt_low *w, const dt_low_node *n, bool *needs) {
    const dt_onnx_attr *a =
        dt_onnx_attr_find(n->node, dt_host_i64(&n->in[0]->t, 0) ? "then_branch" : "else_branch");
    if (!a || a->kind != DT_ONNX_GRAPH || a->g->n_out < n->n_out)
        return dt_fail(DT_ERR_DATA, "node '%s' (If): it has no such branch", n->node->name);
    DT_TRY(lower_graph(w, a->g, n->n_out, needs));
    for (int32_t i = 0; i < n->n_out; i++) {
        const dt_lv *v = dt_low_find(w, a->g->out[i].name);
        if (!v || !v->ready)
            return dt_fail(DT_ERR_DATA, "node '%s' (If): its branch gives no '%s'", n->node->name,
                           a->g->out[i].name);
        if (n->out[i]) dt_low_same(n->out[i], v);
    }
    return DT_OK;
}

static bool has_body(const dt_onnx_node *n) {
    for (int32_t k = 0; k < n->n_attr; k++)
        if (n->attr[k].kind == DT_ONNX_GRAPH) return true;
    return false;
}

/* Bodies read outer values by name, which a call is not given. */
static dt_status need_all(dt_low *w, const dt_low_node *n, bool *needs) {
    for (int32_t i = 0; i < w->m->graph.n_in; i++) needs[i] = needs[i] || w->o->in[i].value >= 0;
    return dt_fail(DT_ERR_USAGE, "node '%s' (%s) goes by values that are not known before it runs",
                   n->node->name, n->node->op);
}

static dt_status lower_node(dt_low *w, const dt_low_node *n, bool *needs) {
    const int32_t before = w->g->n_node;
    if (strcmp(n->node->op, "If") == 0 && n->in[0] && dt_low_known(n->in[0])) return lower_if(w, n, needs);
    if (has_body(n->node)) return need_all(w, n, needs);
    DT_TRY(infer(w, n, needs));
    dt_low_note_code(n);
    if (all_known(n)) return DT_OK;
    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] && !n->in[i]->ready)
            return dt_fail(DT_ERR_USAGE, "it reads '%s', which has no value", n->in[i]->name);
    dt_low_fn *small = w->o->quantised ? find_quantised(n->node->domain, n->node->op) : NULL,
              *f = find_lowering(n->node->domain, n->node->op);
    if (small && small(w, n)) return w->st;
    if (w->st == DT_OK && (!f || !f(w, n))) {
        DT_ASSERT(w->st != DT_OK || w->g->n_node >= before);
        dt_low_call(w, n);
    }
    return w->st;
}

static dt_status take_node(dt_low *w, int32_t i, bool *needs) {
    const dt_onnx_node *node = &w->graph->node[i];
    dt_low_node n = {.node = node,
                     .index = i,
                     .version = dt_onnx_version(w->m, node->domain),
                     .n_in = node->n_in,
                     .n_out = node->n_out};
    n.in = calloc((size_t)n.n_in + 1, sizeof *n.in);
    n.out = calloc((size_t)n.n_out + 1, sizeof *n.out);
    dt_status st = n.in && n.out ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a node");
    for (int32_t k = 0; k < n.n_in && st == DT_OK; k++) {
        if (!node->in[k][0]) continue;
        n.in[k] = dt_low_find(w, node->in[k]);
        if (!n.in[k]) st = dt_fail(DT_ERR_DATA, "it reads '%s', which nothing makes", node->in[k]);
    }
    for (int32_t k = 0; k < n.n_out && st == DT_OK; k++)
        if (node->out[k][0]) n.out[k] = add_value(w, node->out[k]);
    if (st == DT_OK) st = lower_node(w, &n, needs);
    if (st != DT_OK && st != DT_ERR_USAGE && !strstr(dt_error_text(), "node '")) explain(&n);
    free(n.in), free(n.out);
    return st;
}

static dt_status lower_graph(dt_low *w, const dt_onnx_graph *g, int32_t n_out, bool *needs) {
    const dt_low outer = *w;
    if (w->depth >= BODIES) return dt_fail(DT_ERR_DATA, "bodies in bodies, more than %d deep", BODIES);
    w->graph = g;
    w->depth++;
    w->needed = calloc((size_t)g->n_node + 1, sizeof *w->needed);
    w->done = calloc((size_t)g->n_node + 1, sizeof *w->done);
    dt_status st = w->needed && w->done ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for %d nodes", g->n_node);
    if (st == DT_OK) mark_needed(g, n_out, w->needed);
    if (st == DT_OK) st = add_constants(w, g);
    for (int32_t i = 0; i < g->n_node && st == DT_OK; i++) { /* first: what follows looks at them */
        if (!w->needed[i] || strcmp(g->node[i].op, "Constant") != 0) continue;
        st = take_node(w, i, needs);
        w->done[i] = true;
    }
    for (int32_t i = 0; i < g->n_node && st == DT_OK; i++)
        if (w->needed[i] && !w->done[i]) st = take_node(w, i, needs);
    free(w->needed), free(w->done);
    w->graph = outer.graph, w->needed = outer.needed, w->done = outer.done, w->depth = outer.depth;
    return st;
}

/* ---- the whole ---- */

static void drop_kept(void *p) {
    dt_low_kept *k = p;
    while (k->block) {
        dt_low_block *next = k->block->next;
        free(k->block);
        k->block = next;
    }
    dt_onnx_eval_destroy(k->eval);
    dt_onnx_eval_destroy(k->calls);
    free(k);
}

static dt_status collect(dt_low *w, dt_onnx_made *out) {
    const dt_onnx_graph *g = &w->m->graph;
    const int32_t n_out = w->o->n_out > 0 ? w->o->n_out : g->n_out;
    for (int32_t i = 0; i < n_out; i++) {
        dt_lv *v = dt_low_find(w, g->out[i].name);
        if (!v || !v->ready) return dt_fail(DT_ERR_DATA, "nothing makes its output '%s'", g->out[i].name);
        out[i] = (dt_onnx_made){.t = v->t, .file = g->out[i].type, .value = -1};
        if (out[i].file == DT_TENSOR_TYPES) out[i].file = v->t.type;
        if (!dt_low_known(v)) out[i].value = dt_low_plain(w, v);
    }
    return w->st;
}

dt_status dt_onnx_build(const dt_onnx_build_options *o, dt_graph *g, dt_onnx_made *out, bool *needs) {
    const dt_onnx_graph *graph = &o->model->graph;
    const int64_t budget = o->budget > 0 ? o->budget : BUDGET;
    dt_low w = {.o = o, .m = o->model, .g = g, .zeros = -1};
    for (int32_t i = 0; i < graph->n_in; i++) needs[i] = false;
    DT_TRY(dt_onnx_check_ops(o->model));
    w.kept = calloc(1, sizeof *w.kept);
    if (!w.kept) return dt_fail(DT_ERR_MEMORY, "no memory for a model");
    DT_TRY(dt_graph_own(g, w.kept, drop_kept));
    dt_status st = dt_onnx_eval_create(o->model, budget, &w.kept->eval);
    if (st == DT_OK) st = dt_onnx_eval_create(o->model, budget, &w.kept->calls);
    if (st == DT_OK) st = make_room(&w);
    if (st == DT_OK) st = add_inputs(&w);
    if (o->outputs > 0) w.head = find_head(graph);
    if (st == DT_OK && o->outputs > 0 && !w.head)
        st = dt_fail(DT_ERR_CONFIG,
                     "no dense layer ends the network, which could be drawn anew for %lld outputs",
                     (long long)o->outputs);
    if (st == DT_OK) st = lower_graph(&w, graph, o->n_out > 0 ? o->n_out : graph->n_out, needs);
    if (st == DT_OK) st = collect(&w, out);
    free(w.value), free(w.by_name);
    if (st != DT_OK) dt_error_context("%s", o->model->path);
    return st;
}
