/* Evaluates graphs node by node. */
#include "eval.h"

#include <stdlib.h>
#include <string.h>

#include "core/text.h"

enum {
    MAX_DEPTH = 64,     /* bodies in bodies */
    MAX_STEPS = 1 << 24 /* nodes in one run: a loop may say any number of rounds */
};

/* ---- memory ---- */

dt_status dt_eval_take(dt_onnx_eval *e, int64_t bytes, void **out) {
    *out = NULL;
    if (bytes > e->budget - e->used)
        return dt_fail(DT_ERR_DATA,
                       "evaluating it would take %s beside the %s in use, more than the %s there may be",
                       dt_bytes_needed_text((double)bytes).s, dt_bytes_text((double)e->used).s,
                       dt_bytes_free_text((double)e->budget).s);
    dt_eval_block *b = aligned_alloc(64, (sizeof *b + (size_t)bytes + 64) / 64 * 64);
    if (!b) return dt_fail(DT_ERR_MEMORY, "no memory for %lld bytes of a result", (long long)bytes);
    memset(b, 0, sizeof *b + (size_t)bytes);
    *b = (dt_eval_block){.older = e->youngest, .bytes = bytes, .age = ++e->age};
    if (b->older) b->older->younger = b;
    e->youngest = b;
    e->used += bytes;
    *out = b + 1;
    return DT_OK;
}

void dt_eval_give(dt_onnx_eval *e, void *data) {
    dt_eval_block *b = (dt_eval_block *)data - 1;
    if (b->older) b->older->younger = b->younger;
    *(b->younger ? &b->younger->older : &e->youngest) = b->older;
    e->used -= b->bytes;
    free(b);
}

void dt_onnx_release(const dt_onnx_call *c, void *data) {
    for (const dt_eval_block *b = c->eval->youngest; b && b->age > c->mark; b = b->older)
        if (data == b + 1) {
            dt_eval_give(c->eval, data);
            return;
        }
}

void dt_onnx_eval_clear(dt_onnx_eval *e) {
    while (e->youngest) dt_eval_give(e, e->youngest + 1);
}

/* ---- plans ---- */

enum { ABSENT = -1, OUTER = -2, NEVER = -1 };

/* What is known of a graph before it is evaluated, found once. Slots are its inputs, its constants, the nodes' results. */
struct dt_eval_plan {
    dt_eval_plan *next;
    const dt_onnx_graph *graph;
    int32_t n_slot;
    const char **name; /* of each slot */
    int32_t *table;    /* slots by hash of their name; -1: none */
    uint32_t table_mask;
    int32_t *in, *out;     /* slot of each node's inputs and outputs, all in a row */
    const dt_onnx_op **op; /* of each node */
    int32_t *dead;         /* first value that nobody reads after the node; NEVER: none */
    int32_t *next_dead;    /* by slot */
    void **copy;           /* of each constant that is not aligned */
};

static uint32_t hash(const char *s) {
    uint32_t h = 2166136261u;
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

static int32_t plan_find(const dt_eval_plan *p, const char *name) {
    for (uint32_t h = hash(name) & p->table_mask; p->table[h] >= 0; h = (h + 1) & p->table_mask)
        if (strcmp(p->name[p->table[h]], name) == 0) return p->table[h];
    return ABSENT;
}

static int32_t plan_add(dt_eval_plan *p, const char *name) {
    const int32_t slot = p->n_slot++;
    p->name[slot] = name;
    if (!*name) return ABSENT;
    uint32_t h = hash(name) & p->table_mask;
    while (p->table[h] >= 0) h = (h + 1) & p->table_mask;
    p->table[h] = slot;
    return slot;
}

static void plan_free(dt_eval_plan *p) {
    for (int32_t i = 0; p->copy && i < p->graph->n_constant; i++) free(p->copy[i]);
    free(p->name);
    free(p->table);
    free(p->in);
    free(p->out);
    free(p->op);
    free(p->dead);
    free(p->next_dead);
    free(p->copy);
    free(p);
}

static uint64_t nothing; /* what empty tensors point to */

static dt_host_tensor host_of(const dt_onnx_tensor *t) {
    dt_host_tensor h = {.type = t->type, .ndim = t->ndim, .data = (void *)(uintptr_t)t->data};
    memcpy(h.dim, t->dim, sizeof h.dim);
    if (t->n_bytes == 0) h.data = &nothing;
    return h;
}

/* Makes a constant what rows want, when it is first read: aligned. */
static dt_status align(dt_onnx_eval *e, dt_eval_plan *p, int32_t slot, dt_host_tensor *value) {
    const int32_t i = slot - p->graph->n_in;
    if (i < 0 || i >= p->graph->n_constant || !value->data) return DT_OK;
    const int64_t size = dt_host_elem_bytes(value->type), bytes = p->graph->constant[i].n_bytes;
    if (size == 0 || (uintptr_t)value->data % (uintptr_t)size == 0) return DT_OK;
    if (!p->copy[i]) {
        if (bytes > e->budget - e->used)
            return dt_fail(DT_ERR_DATA, "constant '%s' takes %s, more than the %s there may be",
                           p->name[slot], dt_bytes_needed_text((double)bytes).s,
                           dt_bytes_free_text((double)(e->budget - e->used)).s);
        p->copy[i] = malloc((size_t)bytes);
        if (!p->copy[i]) return dt_fail(DT_ERR_MEMORY, "no memory for constant '%s'", p->name[slot]);
        memcpy(p->copy[i], value->data, (size_t)bytes);
        e->used += bytes;
    }
    value->data = p->copy[i];
    return DT_OK;
}

/* What bodies in `n` read of this graph is used by it too. */
static void mark_body(const dt_eval_plan *p, const dt_onnx_node *n, int32_t at, int32_t *last) {
    for (int32_t a = 0; a < n->n_attr; a++) {
        if (n->attr[a].kind != DT_ONNX_GRAPH) continue;
        const dt_onnx_graph *g = n->attr[a].g;
        for (int32_t i = 0; i < g->n_node; i++) {
            for (int32_t k = 0; k < g->node[i].n_in; k++) {
                const int32_t slot = plan_find(p, g->node[i].in[k]);
                if (slot >= 0 && last[slot] < at) last[slot] = at;
            }
            mark_body(p, &g->node[i], at, last);
        }
        for (int32_t i = 0; i < g->n_out; i++) {
            const int32_t slot = plan_find(p, g->out[i].name);
            if (slot >= 0 && last[slot] < at) last[slot] = at;
        }
    }
}

static dt_status plan_fill(dt_onnx_eval *e, dt_eval_plan *p) {
    const dt_onnx_graph *g = p->graph;
    int64_t n_slot = (int64_t)g->n_in + g->n_constant, n_in = 0;
    for (int32_t i = 0; i < g->n_node; i++) n_slot += g->node[i].n_out, n_in += g->node[i].n_in;
    uint32_t n_table = 16;
    if (n_slot > 1 << 28) return dt_fail(DT_ERR_DATA, "graph '%s' has too many values", g->name);
    while (n_table < 2 * (uint32_t)n_slot) n_table *= 2;
    p->table_mask = n_table - 1;
    const size_t slots = (size_t)n_slot + 1, nodes = (size_t)g->n_node + 1;
    p->name = calloc(slots, sizeof *p->name);
    p->table = malloc(n_table * sizeof *p->table);
    p->in = calloc((size_t)n_in + 1, sizeof *p->in);
    p->out = calloc(slots, sizeof *p->out);
    p->op = calloc(nodes, sizeof *p->op);
    p->dead = malloc(nodes * sizeof *p->dead);
    p->next_dead = malloc(slots * sizeof *p->next_dead);
    p->copy = calloc((size_t)g->n_constant + 1, sizeof *p->copy);
    int32_t *last = malloc(slots * sizeof *last);
    dt_status status = DT_OK;
    if (!p->name || !p->table || !p->in || !p->out || !p->op || !p->dead || !p->next_dead || !p->copy ||
        !last) {
        status = dt_fail(DT_ERR_MEMORY, "no memory for evaluating graph '%s'", g->name);
        goto done;
    }
    memset(p->table, 0xff, n_table * sizeof *p->table);
    for (int32_t i = 0; i < g->n_in; i++) plan_add(p, g->in[i].name);
    for (int32_t i = 0; i < g->n_constant; i++) plan_add(p, g->constant[i].name);
    for (size_t i = 0; i < slots; i++) last[i] = NEVER;
    for (int32_t i = 0, at_in = 0, at_out = 0; i < g->n_node; i++) {
        const dt_onnx_node *n = &g->node[i];
        p->op[i] = dt_onnx_op_find(n->domain, n->op, dt_onnx_version(e->model, n->domain));
        for (int32_t k = 0; k < n->n_in; k++) {
            const int32_t slot = *n->in[k] ? plan_find(p, n->in[k]) : ABSENT;
            if (slot >= 0) last[slot] = i;
            p->in[at_in++] = slot < 0 && *n->in[k] ? OUTER : slot;
        }
        mark_body(p, n, i, last);
        for (int32_t k = 0; k < n->n_out; k++) {
            const int32_t slot = plan_add(p, n->out[k]);
            if (slot >= 0) last[slot] = i;
            p->out[at_out++] = slot;
        }
    }
    for (int32_t i = 0; i < g->n_out; i++) {
        const int32_t slot = plan_find(p, g->out[i].name);
        if (slot >= 0) last[slot] = NEVER;
    }
    for (int32_t i = 0; i < g->n_node; i++) p->dead[i] = NEVER;
    for (int32_t slot = 0; slot < p->n_slot; slot++)
        if (last[slot] != NEVER) p->next_dead[slot] = p->dead[last[slot]], p->dead[last[slot]] = slot;
done:
    free(last);
    return status;
}

static dt_status plan_of(dt_onnx_eval *e, const dt_onnx_graph *g, dt_eval_plan **out) {
    for (dt_eval_plan *p = e->plans; p; p = p->next)
        if (p->graph == g) {
            *out = p;
            return DT_OK;
        }
    dt_eval_plan *p = calloc(1, sizeof *p);
    if (!p) return dt_fail(DT_ERR_MEMORY, "no memory for evaluating graph '%s'", g->name);
    p->graph = g;
    const int64_t used = e->used;
    const dt_status status = plan_fill(e, p);
    if (status != DT_OK) {
        e->used = used;
        plan_free(p);
        return status;
    }
    p->next = e->plans;
    e->plans = p;
    *out = p;
    return DT_OK;
}

/* ---- nodes ---- */

static const char *node_name(const dt_onnx_node *n) {
    return *n->name ? n->name : n->n_out > 0 ? n->out[0] : "";
}

/* What every row may take for granted. */
static dt_status check_call(const dt_onnx_call *c, const dt_onnx_op *op) {
    if (!op) return dt_onnx_refuse(c, "there is no such op");
    for (int32_t i = 0; i < c->n_in || i < op->in_min; i++) {
        const dt_host_tensor *t = dt_onnx_in(c, i);
        if (!t && i < op->in_min) return dt_onnx_refuse(c, "input %d is missing", (int)i);
        if (t && op->in_max >= 0 && i >= op->in_max)
            return dt_onnx_refuse(c, "%d inputs, where %d can be", (int)c->n_in, (int)op->in_max);
        if (t && !dt_host_is(t, DT_HOST_ANY))
            return dt_onnx_refuse(c, "input %d is of a type that is not computed with", (int)i);
        if (t && !dt_eval_is_small(t)) return dt_onnx_refuse(c, "input %d is of a shape too large", (int)i);
    }
    if (op->out_max >= 0 && c->n_out > op->out_max)
        return dt_onnx_refuse(c, "%d outputs, where %d can be", (int)c->n_out, (int)op->out_max);
    return DT_OK;
}

static bool is_result(const dt_onnx_call *c, const void *data) {
    for (int32_t i = 0; i < c->n_out; i++)
        if (c->out[i].data == data) return true;
    return false;
}

static dt_status call_node(dt_onnx_eval *e, const dt_onnx_op *op, const dt_onnx_node *node,
                           const dt_host_tensor *const *in, dt_host_tensor *out) {
    dt_onnx_call c = {.node = node,
                      .version = dt_onnx_version(e->model, node->domain),
                      .n_in = node->n_in,
                      .n_out = node->n_out,
                      .in = in,
                      .out = out,
                      .eval = e,
                      .mark = e->age};
    for (int32_t i = 0; i < node->n_out; i++) out[i] = (dt_host_tensor){.type = DT_TENSOR_TYPES};
    DT_TRY(check_call(&c, op));
    if (e->steps-- <= 0)
        return dt_onnx_refuse(&c, "more than %d nodes were evaluated: a loop without end?", MAX_STEPS);
    DT_TRY(op->infer(&c));
    if (op->run && (op->blind || dt_onnx_all_known(&c))) {
        bool empty = true;
        for (int32_t i = 0; i < c.n_out; i++) {
            if (!dt_onnx_wants(&c, i)) continue;
            const dt_status status = dt_eval_take(e, dt_host_bytes(&out[i]), &out[i].data);
            if (status != DT_OK) dt_error_context("node '%s' (%s)", node_name(node), node->op);
            DT_TRY(status);
            empty = empty && dt_host_n_elem(&out[i]) == 0;
        }
        /* Where nothing is to be computed, dimensions beside one of 0 may be of any size: no loop over them is begun. */
        if (!empty) DT_TRY(op->run(&c));
    }
    for (dt_eval_block *b = e->youngest, *older; b && b->age > c.mark; b = older) {
        older = b->older;
        if (!is_result(&c, b + 1)) dt_eval_give(e, b + 1);
    }
    return DT_OK;
}

/* ---- graphs ---- */

static void frame_drop(dt_onnx_eval *e, dt_eval_frame *f, int32_t slot) {
    if (f->owned[slot]) dt_eval_give(e, f->value[slot].data);
    f->owned[slot] = false;
    f->value[slot].data = NULL;
}

/* The value of that name, of this graph or one around it; *out is NULL where there is none yet. */
static dt_status frame_find(dt_onnx_eval *e, dt_eval_frame *f, const char *name, const dt_host_tensor **out) {
    *out = NULL;
    for (; f; f = f->outer) {
        const int32_t slot = plan_find(f->plan, name);
        if (slot < 0) continue;
        if (!f->value[slot].data) return DT_OK;
        *out = &f->value[slot];
        return align(e, f->plan, slot, &f->value[slot]);
    }
    return DT_OK;
}

static void frame_begin(dt_eval_frame *f) {
    const dt_onnx_graph *g = f->plan->graph;
    for (int32_t i = 0; i < g->n_constant; i++) f->value[g->n_in + i] = host_of(&g->constant[i]);
}

static dt_status eval_nodes(dt_onnx_eval *e, dt_eval_frame *f) {
    const dt_onnx_graph *g = f->plan->graph;
    int32_t most_in = 0, most_out = 0, at_in = 0, at_out = 0;
    for (int32_t i = 0; i < g->n_node; i++) {
        if (g->node[i].n_in > most_in) most_in = g->node[i].n_in;
        if (g->node[i].n_out > most_out) most_out = g->node[i].n_out;
    }
    const dt_host_tensor **in = calloc((size_t)most_in + 1, sizeof *in);
    dt_host_tensor *out = calloc((size_t)most_out + 1, sizeof *out);
    dt_status status = DT_OK;
    if (!in || !out) status = dt_fail(DT_ERR_MEMORY, "no memory for evaluating graph '%s'", g->name);
    for (int32_t i = 0; i < g->n_node && status == DT_OK; i++) {
        const dt_onnx_node *n = &g->node[i];
        for (int32_t k = 0; k < n->n_in && status == DT_OK; k++) {
            const int32_t slot = f->plan->in[at_in + k];
            in[k] = NULL;
            if (slot == ABSENT) continue;
            if (slot == OUTER) {
                status = frame_find(e, f->outer, n->in[k], &in[k]);
            } else if (f->value[slot].data) {
                in[k] = &f->value[slot];
                status = align(e, f->plan, slot, &f->value[slot]);
            }
            if (status == DT_OK && !in[k])
                status =
                    dt_fail(DT_ERR_DATA, "node '%s' (%s): there is no '%s'", node_name(n), n->op, n->in[k]);
        }
        if (status == DT_OK) status = call_node(e, f->plan->op[i], n, in, out);
        for (int32_t k = 0; k < n->n_out && status == DT_OK; k++) {
            const int32_t slot = f->plan->out[at_out + k];
            if (!out[k].data) continue;
            if (slot < 0) {
                dt_eval_give(e, out[k].data);
                continue;
            }
            f->value[slot] = out[k];
            f->owned[slot] = true;
        }
        at_in += n->n_in, at_out += n->n_out;
        for (int32_t slot = f->plan->dead[i]; slot != NEVER; slot = f->plan->next_dead[slot])
            frame_drop(e, f, slot);
    }
    free(in);
    free(out);
    return status;
}

/* A graph; inputs are given. Results that are not made by a node of its own are copied where `own` says so. */
static dt_status eval_graph(dt_onnx_eval *e, const dt_onnx_graph *g, const dt_host_tensor *in, int32_t n_out,
                            dt_host_tensor *out, bool own) {
    if (e->depth >= MAX_DEPTH)
        return dt_fail(DT_ERR_DATA, "graph '%s': bodies in more than %d bodies", g->name, MAX_DEPTH);
    if (e->steps-- <= 0)
        return dt_fail(DT_ERR_DATA, "graph '%s': more than %d nodes were evaluated: a loop without end?",
                       g->name, MAX_STEPS);
    dt_eval_frame f = {.outer = e->frame};
    DT_TRY(plan_of(e, g, &f.plan));
    f.value = calloc((size_t)f.plan->n_slot + 1, sizeof *f.value);
    f.owned = calloc((size_t)f.plan->n_slot + 1, sizeof *f.owned);
    dt_status status = DT_OK;
    if (!f.value || !f.owned) status = dt_fail(DT_ERR_MEMORY, "no memory for evaluating graph '%s'", g->name);
    if (status == DT_OK) {
        for (int32_t i = 0; i < g->n_in; i++) {
            f.value[i] = in[i];
            if (!in[i].data) f.value[i].data = &nothing; /* of no elements */
        }
        frame_begin(&f);
        e->frame = &f;
        e->depth++;
        status = eval_nodes(e, &f);
        e->depth--;
        e->frame = f.outer;
    }
    for (int32_t i = 0; i < n_out && status == DT_OK; i++) {
        const int32_t slot = plan_find(f.plan, g->out[i].name);
        const dt_host_tensor *v;
        DT_TRY_GOTO(status, frame_find(e, &f, g->out[i].name, &v), done);
        if (!v) {
            status = dt_fail(DT_ERR_DATA, "graph '%s': there is no output '%s'", g->name, g->out[i].name);
            break;
        }
        out[i] = *v;
        if (!own) continue;
        if (slot >= 0 && f.owned[slot]) {
            f.owned[slot] = false;
            continue;
        }
        if (dt_host_elem_bytes(v->type) == 0) {
            status = dt_fail(DT_ERR_DATA, "graph '%s': output '%s' is of a type that is not computed with",
                             g->name, g->out[i].name);
            break;
        }
        const int64_t bytes = dt_host_bytes(v);
        status = dt_eval_take(e, bytes, &out[i].data);
        if (status == DT_OK) memcpy(out[i].data, v->data, (size_t)bytes);
    }
done:
    for (int32_t slot = 0; own && f.owned && f.value && slot < f.plan->n_slot; slot++)
        frame_drop(e, &f, slot);
    free(f.value);
    free(f.owned);
    return status;
}

dt_status dt_onnx_eval_body(const dt_onnx_call *c, const dt_onnx_graph *body, int32_t n_in,
                            const dt_host_tensor *in, int32_t n_out, dt_host_tensor *out) {
    if (body->n_in != n_in)
        return dt_onnx_refuse(c, "its body '%s' has %d inputs instead of %d", body->name, (int)body->n_in,
                              (int)n_in);
    if (body->n_out != n_out)
        return dt_onnx_refuse(c, "its body '%s' has %d outputs instead of %d", body->name, (int)body->n_out,
                              (int)n_out);
    return eval_graph(c->eval, body, in, n_out, out, true);
}

dt_status dt_onnx_eval_node(dt_onnx_eval *e, const dt_onnx_node *node, const dt_host_tensor *const *in,
                            dt_host_tensor *out) {
    const dt_onnx_op *op = dt_onnx_op_find(node->domain, node->op, dt_onnx_version(e->model, node->domain));
    bool bodies = false;
    for (int32_t i = 0; i < node->n_attr; i++) bodies |= node->attr[i].kind == DT_ONNX_GRAPH;
    e->steps = MAX_STEPS;
    if (!bodies) return call_node(e, op, node, in, out);
    dt_eval_frame f = {0}; /* the constants, which bodies see */
    DT_TRY(plan_of(e, &e->model->graph, &f.plan));
    f.value = calloc((size_t)f.plan->n_slot + 1, sizeof *f.value);
    if (!f.value) return dt_fail(DT_ERR_MEMORY, "no memory for evaluating node '%s'", node_name(node));
    frame_begin(&f);
    e->frame = &f;
    const dt_status status = call_node(e, op, node, in, out);
    e->frame = NULL;
    free(f.value);
    return status;
}

/* ---- a model ---- */

dt_status dt_onnx_eval_create(const dt_onnx_model *m, int64_t budget, dt_onnx_eval **out) {
    dt_onnx_eval *e = calloc(1, sizeof *e);
    *out = e;
    if (!e) return dt_fail(DT_ERR_MEMORY, "no memory for an evaluation");
    *e = (dt_onnx_eval){.model = m, .budget = budget};
    return DT_OK;
}

void dt_onnx_eval_destroy(dt_onnx_eval *e) {
    if (!e) return;
    dt_onnx_eval_clear(e);
    for (dt_eval_plan *p = e->plans, *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    free(e);
}

/* Whether an input is what the file says it is. */
static dt_status check_input(const dt_onnx_value_info *want, const dt_host_tensor *t) {
    if (dt_host_elem_bytes(t->type) == 0 || (want->type != DT_TENSOR_TYPES && want->type != t->type))
        return dt_fail(DT_ERR_USAGE, "input '%s' is of another type than the model takes, %s", want->name,
                       want->type == DT_TENSOR_TYPES ? "numbers" : dt_tensor_type_name(want->type));
    if (!t->data && dt_host_n_elem(t) > 0) return dt_fail(DT_ERR_USAGE, "input '%s' has no data", want->name);
    if (want->ndim < 0) return DT_OK;
    if (t->ndim != want->ndim)
        return dt_fail(DT_ERR_USAGE, "input '%s' has %d dimensions, the model takes %d", want->name,
                       (int)t->ndim, (int)want->ndim);
    for (int32_t d = 0; d < t->ndim; d++)
        if (want->dim[d] >= 0 && want->dim[d] != t->dim[d])
            return dt_fail(DT_ERR_USAGE, "input '%s' has %lld in dimension %d, the model takes %lld",
                           want->name, (long long)t->dim[d], (int)d, (long long)want->dim[d]);
    return DT_OK;
}

dt_status dt_onnx_eval_run(dt_onnx_eval *e, const dt_host_tensor *in, dt_host_tensor *out) {
    const dt_onnx_graph *g = &e->model->graph;
    dt_onnx_eval_clear(e);
    e->steps = MAX_STEPS;
    for (int32_t i = 0; i < g->n_in; i++) DT_TRY(check_input(&g->in[i], &in[i]));
    return eval_graph(e, g, in, g->n_out, out, false);
}
