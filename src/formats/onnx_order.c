/* Names of a model: each value is made once, everything that is read is made somewhere, and nodes come after those
 * whose results they read. */
#include <stdlib.h>
#include <string.h>

#include "onnx_private.h"

/* Nodes of bodies that are looked at: one body may stand in many nodes. */
enum { BODY_NODES_MAX = 20000000 };

typedef struct maker {
    const char *name;
    int32_t node; /* -1: an input or a constant */
} maker;

/* A name that a graph reads and does not make. */
typedef struct free_name {
    const char *name;
    const dt_onnx_node *node; /* that reads it; NULL: it is an output of the graph */
} free_name;

typedef struct ordering {
    dt_onnx_reader *rd;
    int64_t n_body_node;
} ordering;

/* One graph. */
typedef struct names {
    const dt_onnx_graph *graph;
    dt_onnx_list makers; /* maker, ascending */
    dt_onnx_list needs;  /* int32_t: nodes that must come before */
    int64_t *first_need; /* of each node, and the end */
    dt_onnx_list *free;  /* free_name */
} names;

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "no memory for the names of a model");
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const maker *)a)->name, ((const maker *)b)->name);
}

static dt_status add_maker(dt_onnx_list *makers, const char *name, int32_t node) {
    if (!*name) return DT_OK;
    maker *m = dt_onnx_list_add(makers);
    if (!m) return no_memory();
    *m = (maker){name, node};
    return DT_OK;
}

static dt_status find_makers(names *x) {
    const dt_onnx_graph *g = x->graph;
    for (int32_t i = 0; i < g->n_in; i++) DT_TRY(add_maker(&x->makers, g->in[i].name, -1));
    for (int32_t i = 0; i < g->n_constant; i++) DT_TRY(add_maker(&x->makers, g->constant[i].name, -1));
    for (int32_t i = 0; i < g->n_node; i++)
        for (int32_t k = 0; k < g->node[i].n_out; k++) DT_TRY(add_maker(&x->makers, g->node[i].out[k], i));
    maker *m = (maker *)(void *)x->makers.item;
    if (x->makers.n > 0) qsort(m, (size_t)x->makers.n, sizeof *m, by_name);
    for (int64_t i = 1; i < x->makers.n; i++) {
        if (strcmp(m[i].name, m[i - 1].name) != 0) continue;
        const int32_t node = m[i].node > m[i - 1].node ? m[i].node : m[i - 1].node;
        if (node < 0)
            return dt_fail(DT_ERR_DATA, "two inputs or initializers are called '%.200s'", m[i].name);
        return dt_fail(DT_ERR_DATA, "node '%.200s' (%.100s) makes '%.200s', which is there already",
                       g->node[node].name, g->node[node].op, m[i].name);
    }
    return DT_OK;
}

/* `node` (or the graph's end, NULL) reads `name`, of which node `at` of the graph is the reason. */
static dt_status add_need(names *x, const char *name, const dt_onnx_node *node) {
    if (!*name) return DT_OK;
    const maker key = {.name = name};
    const maker *m =
        x->makers.n > 0 ? bsearch(&key, x->makers.item, (size_t)x->makers.n, sizeof key, by_name) : NULL;
    if (!m) {
        free_name *f = dt_onnx_list_add(x->free);
        if (!f) return no_memory();
        *f = (free_name){name, node};
    } else if (m->node >= 0 && node) {
        int32_t *need = dt_onnx_list_add(&x->needs);
        if (!need) return no_memory();
        *need = m->node;
    }
    return DT_OK;
}

static dt_status order_graph(ordering *o, dt_onnx_graph *g, dt_onnx_list *free_names);

static dt_status order_bodies(ordering *o, names *x, const dt_onnx_node *node) {
    for (int32_t a = 0; a < node->n_attr; a++) {
        const dt_onnx_attr *attr = &node->attr[a];
        if (attr->kind != DT_ONNX_GRAPH && attr->kind != DT_ONNX_GRAPHS) continue;
        for (int64_t k = 0; k < attr->n; k++) {
            dt_onnx_graph *body = (dt_onnx_graph *)(uintptr_t)&attr->g[k]; /* read here, so ours to change */
            o->n_body_node += body->n_node;
            if (o->n_body_node > BODY_NODES_MAX)
                return dt_fail(DT_ERR_DATA, "bodies of more than %d nodes", BODY_NODES_MAX);
            dt_onnx_list inner = {.size = sizeof(free_name)};
            dt_status st = order_graph(o, body, &inner);
            const free_name *f = (const free_name *)(const void *)inner.item;
            for (int64_t i = 0; st == DT_OK && i < inner.n; i++)
                st = add_need(x, f[i].name, f[i].node ? f[i].node : node);
            free(inner.item);
            DT_TRY(st);
        }
    }
    return DT_OK;
}

static dt_status find_needs(ordering *o, names *x) {
    const dt_onnx_graph *g = x->graph;
    x->first_need = malloc(((size_t)g->n_node + 1) * sizeof *x->first_need);
    if (!x->first_need) return no_memory();
    for (int32_t i = 0; i < g->n_node; i++) {
        x->first_need[i] = x->needs.n;
        for (int32_t k = 0; k < g->node[i].n_in; k++) DT_TRY(add_need(x, g->node[i].in[k], &g->node[i]));
        DT_TRY(order_bodies(o, x, &g->node[i]));
    }
    x->first_need[g->n_node] = x->needs.n;
    for (int32_t i = 0; i < g->n_out; i++) DT_TRY(add_need(x, g->out[i].name, NULL));
    return DT_OK;
}

/* Node i and all before it that it needs, depth first, into `order`. stack: room for all nodes; next: where each node's needs are
 * looked at, -1 before it is begun; done. */
static dt_status visit(const names *x, int32_t i, int32_t *stack, int64_t *next, bool *done, int32_t *order,
                       int32_t *n_order) {
    const int32_t *need = (const int32_t *)(const void *)x->needs.item;
    int32_t n = 0;
    stack[n++] = i;
    while (n > 0) {
        const int32_t at = stack[n - 1];
        if (next[at] < 0) next[at] = x->first_need[at];
        if (next[at] == x->first_need[at + 1]) {
            done[at] = true;
            order[(*n_order)++] = at;
            n--;
            continue;
        }
        const int32_t other = need[next[at]++];
        if (done[other]) continue;
        if (next[other] >= 0)
            return dt_fail(DT_ERR_DATA, "node '%.200s' (%.100s) needs its own result: a circle",
                           x->graph->node[other].name, x->graph->node[other].op);
        stack[n++] = other;
    }
    return DT_OK;
}

static dt_status sort_nodes(dt_onnx_reader *rd, const names *x, dt_onnx_graph *g) {
    const size_t n = (size_t)g->n_node;
    int32_t *stack = malloc((n + 1) * sizeof *stack), *order = malloc((n + 1) * sizeof *order), n_order = 0;
    int64_t *next = malloc((n + 1) * sizeof *next);
    bool *done = calloc(n + 1, sizeof *done), same = true;
    dt_status st = stack && order && next && done ? DT_OK : no_memory();
    for (size_t i = 0; st == DT_OK && i < n; i++) next[i] = -1;
    for (int32_t i = 0; st == DT_OK && i < g->n_node; i++)
        if (!done[i]) st = visit(x, i, stack, next, done, order, &n_order);
    for (int32_t i = 0; st == DT_OK && i < g->n_node; i++) same &= order[i] == i;
    if (st == DT_OK && !same) {
        dt_onnx_node *sorted = dt_onnx_alloc(rd->m, (int64_t)(n * sizeof *sorted));
        if (!sorted) st = no_memory();
        for (size_t i = 0; sorted && i < n; i++) sorted[i] = g->node[order[i]];
        if (sorted) g->node = sorted;
    }
    free(stack), free(order), free(next), free(done);
    return st;
}

static dt_status order_graph(ordering *o, dt_onnx_graph *g, dt_onnx_list *free_names) {
    names x = {.graph = g, .makers.size = sizeof(maker), .needs.size = sizeof(int32_t), .free = free_names};
    dt_status st = find_makers(&x);
    if (st == DT_OK) st = find_needs(o, &x);
    if (st == DT_OK) st = sort_nodes(o->rd, &x, g);
    free(x.makers.item), free(x.needs.item), free(x.first_need);
    return st;
}

static dt_status refuse_free(const dt_onnx_reader *rd, const free_name *f) {
    const dt_onnx_unread *u = (const dt_onnx_unread *)(const void *)rd->unread.item;
    const char *why = "which nothing makes";
    for (int64_t i = 0; i < rd->unread.n; i++)
        if (strcmp(u[i].name, f->name) == 0) why = u[i].why;
    if (!f->node) return dt_fail(DT_ERR_DATA, "output '%.200s': %s", f->name, why);
    return dt_fail(DT_ERR_DATA, "node '%.200s' (%.100s) reads '%.200s', %s", f->node->name, f->node->op,
                   f->name, why);
}

dt_status dt_onnx_order(dt_onnx_reader *rd) {
    ordering o = {.rd = rd};
    dt_onnx_list left = {.size = sizeof(free_name)};
    dt_status st = order_graph(&o, &rd->m->graph, &left);
    if (st == DT_OK && left.n > 0) st = refuse_free(rd, (const free_name *)(const void *)left.item);
    free(left.item);
    return st;
}
