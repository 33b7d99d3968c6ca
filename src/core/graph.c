/* Graph storage: two growing arrays and the rules that keep them consistent. Shapes come from the op
 * table. */
#include "core/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op_row.h"

/* Memory of slots: blocks that never move, so nodes may keep pointers into them. */
struct dt_slot_block {
    struct dt_slot_block *next;
    int32_t used, cap;
    dt_vid vid[];
};

/* What ends with a graph. */
struct dt_graph_owned {
    struct dt_graph_owned *next;
    void *p;
    void (*drop)(void *p);
};

dt_status dt_graph_own(dt_graph *g, void *p, void (*drop)(void *p)) {
    struct dt_graph_owned *o = malloc(sizeof *o);
    if (!o) {
        drop(p);
        return dt_fail(DT_ERR_MEMORY, "no memory for a graph");
    }
    *o = (struct dt_graph_owned){.next = g->owned, .p = p, .drop = drop};
    g->owned = o;
    return DT_OK;
}

dt_status dt_graph_create(dt_graph **out, dt_dtype compute, bool training) {
    dt_graph *g = calloc(1, sizeof *g);
    if (!g) return dt_fail(DT_ERR_MEMORY, "no memory for a graph");
    g->compute = compute;
    g->training = training;
    g->metrics = -1;
    *out = g;
    return DT_OK;
}

void dt_graph_destroy(dt_graph *g) {
    if (!g) return;
    while (g->owned) {
        struct dt_graph_owned *o = g->owned;
        g->owned = o->next;
        o->drop(o->p);
        free(o);
    }
    while (g->slots) {
        struct dt_slot_block *next = g->slots->next;
        free(g->slots);
        g->slots = next;
    }
    free(g->value);
    free(g->by_name);
    free(g->node);
    free(g);
}

/* Makes room for one more element of `size` bytes; *cap doubles. */
static dt_status grow(void **array, int32_t n, int32_t *cap, size_t size) {
    if (n < *cap) return DT_OK;
    int32_t new_cap = *cap ? *cap * 2 : 64;
    void *p = realloc(*array, (size_t)new_cap * size);
    if (!p) return dt_fail(DT_ERR_MEMORY, "no memory for %d graph elements", new_cap);
    *array = p;
    *cap = new_cap;
    return DT_OK;
}

/* The place of a name in by_name: where it stands, or the free one where it would. */
static uint32_t place_of(const dt_graph *g, const char *name) {
    const uint32_t mask = (uint32_t)g->cap_value * 2 - 1;
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
    uint32_t at = (hash ^ hash >> 15) & mask;
    while (g->by_name[at] >= 0 && strcmp(g->value[g->by_name[at]].name, name) != 0) at = (at + 1) & mask;
    return at;
}

dt_vid dt_graph_find(const dt_graph *g, const char *name) {
    return g->cap_value ? g->by_name[place_of(g, name)] : -1;
}

static void list_names(dt_graph *g) {
    for (int32_t i = 0; i < g->cap_value * 2; i++) g->by_name[i] = -1;
    for (dt_vid v = 0; v < g->n_value; v++) g->by_name[place_of(g, g->value[v].name)] = v;
}

/* Room for one more value, and for its name. */
static dt_status grow_values(dt_graph *g) {
    const int32_t before = g->cap_value;
    DT_TRY(grow((void **)&g->value, g->n_value, &g->cap_value, sizeof *g->value));
    if (g->cap_value == before) return DT_OK;
    dt_vid *table = malloc((size_t)g->cap_value * 2 * sizeof *table);
    if (!table) {
        g->cap_value = before; /* of the array there is more now, which harms nobody */
        return dt_fail(DT_ERR_MEMORY, "no memory for the names of %d values", g->n_value + 1);
    }
    free(g->by_name);
    g->by_name = table;
    list_names(g);
    return DT_OK;
}

static dt_status push_value(dt_graph *g, const dt_value *v, dt_vid *out) {
    if (strlen(v->name) == 0) return dt_fail(DT_ERR_CONFIG, "a value has no name");
    if (dt_graph_find(g, v->name) >= 0)
        return dt_fail(DT_ERR_CONFIG, "the name \"%s\" is used twice in the model", v->name);
    if (v->ndim < 1 || v->ndim > DT_MAX_DIM)
        return dt_fail(DT_ERR_CONFIG, "%s has %d dimensions, not 1 to %d", v->name, v->ndim, DT_MAX_DIM);
    int64_t n = 1;
    for (int32_t i = 0; i < v->ndim; i++) {
        if (v->dim[i] < 0)
            return dt_fail(DT_ERR_CONFIG, "%s: dimension %d would be %lld", v->name, i, (long long)v->dim[i]);
        const int64_t d = v->dim[i] > 0 ? v->dim[i] : 1; /* an empty value has strides too */
        if (n > INT64_MAX / 16 / d) return dt_fail(DT_ERR_CONFIG, "%s is too large", v->name);
        n *= d;
    }
    DT_TRY(grow_values(g));
    g->value[g->n_value] = *v;
    g->by_name[place_of(g, v->name)] = g->n_value;
    *out = g->n_value++;
    return DT_OK;
}

static dt_value blank_value(void) {
    dt_value v;
    memset(&v, 0, sizeof v);
    v.producer = v.alias_of = v.grad_of = -1;
    v.first = v.last = -1;
    v.axis_offset = -1;
    return v;
}

dt_status dt_graph_add_value(dt_graph *g, const char *name, dt_role role, dt_dtype dtype, int32_t ndim,
                             const int64_t *dim, dt_vid *out) {
    dt_value v = blank_value();
    if ((size_t)snprintf(v.name, sizeof v.name, "%s", name) >= sizeof v.name)
        return dt_fail(DT_ERR_CONFIG, "the name \"%s\" is longer than %d characters", name, DT_NAME_MAX - 1);
    v.role = role;
    v.dtype = dtype;
    v.ndim = ndim;
    for (int32_t i = 0; i < ndim && i < DT_MAX_DIM; i++) {
        v.dim[i] = dim[i];
        if (dim[i] == 0 && role != DT_ROLE_INPUT && role != DT_ROLE_ACT)
            return dt_fail(DT_ERR_CONFIG,
                           "%s: dimension %d would be 0, which only inputs and activations may have", name,
                           i);
    }
    DT_TRY(push_value(g, &v, out));
    if (role == DT_ROLE_METRIC) g->metrics = *out;
    return DT_OK;
}

void dt_graph_drop_values(dt_graph *g, int32_t n_value) {
    if (g->n_value == n_value) return;
    g->n_value = n_value;
    list_names(g);
}

dt_vid dt_graph_input(const dt_graph *g, const char *name) {
    const dt_vid v = dt_graph_find(g, name);
    return v >= 0 && g->value[v].role == DT_ROLE_INPUT ? v : -1;
}

dt_vid dt_graph_output(const dt_graph *g, const char *name) {
    for (int32_t i = 0; i < g->n_output; i++)
        if (strcmp(g->output[i].name, name) == 0) return g->output[i].value;
    return -1;
}

static dt_status add_output(dt_graph *g, const char *name, dt_vid v, int32_t most) {
    if (dt_graph_output(g, name) >= 0)
        return dt_fail(DT_ERR_CONFIG, "the network has two outputs named \"%s\"", name);
    if (g->n_output >= most)
        return dt_fail(DT_ERR_CONFIG, "the network has more than %d outputs", DT_OUTPUTS_MAX);
    dt_output o = {.value = v};
    if ((size_t)snprintf(o.name, sizeof o.name, "%s", name) >= sizeof o.name)
        return dt_fail(DT_ERR_CONFIG, "the name of output \"%s\" is longer than %d characters", name,
                       DT_FIELD_NAME_MAX - 1);
    g->output[g->n_output++] = o;
    return DT_OK;
}

dt_status dt_graph_add_output(dt_graph *g, const char *name, dt_vid v) {
    return add_output(g, name, v, DT_OUTPUTS_MAX);
}

dt_status dt_graph_keep(dt_graph *g, const char *name, dt_vid v) {
    return add_output(g, name, v, DT_OUTPUTS_MAX + DT_OUTPUTS_OWN);
}

dt_status dt_graph_add_loss(dt_graph *g, dt_vid v) {
    if (g->n_loss == DT_LOSSES_MAX)
        return dt_fail(DT_ERR_CONFIG, "the network has more than %d losses", DT_LOSSES_MAX);
    if (dt_graph_is_loss(g, v))
        return dt_fail(DT_ERR_CONFIG, "%s is a loss of the network already", g->value[v].name);
    const dt_nid maker = g->value[v].producer;
    if (maker < 0 || !(dt_op_get(g->node[maker].op)->flags & DT_OP_SEED) || g->node[maker].out[0] != v)
        return dt_fail(DT_ERR_CONFIG, "%s is no loss: give it to an op that makes one", g->value[v].name);
    g->loss[g->n_loss++] = v;
    for (int32_t i = 0; g->n_loss > 1 && i < g->n_loss; i++)
        g->node[g->value[g->loss[i]].producer].attr.loss.nth = i + 1;
    return DT_OK;
}

bool dt_graph_is_loss(const dt_graph *g, dt_vid v) {
    for (int32_t i = 0; i < g->n_loss; i++)
        if (g->loss[i] == v) return true;
    return false;
}

bool dt_graph_is_kept(const dt_graph *g, dt_vid v) {
    for (int32_t i = 0; i < g->n_output; i++)
        if (g->output[i].value == v) return true;
    return dt_graph_is_loss(g, v);
}

int64_t dt_graph_rows(const dt_graph *g) {
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_INPUT) return g->value[v].dim[0];
    return 1;
}

/* n empty slots. */
static dt_status take_slots(dt_graph *g, int32_t n, dt_vid **out) {
    enum { BLOCK = 4096 };
    if (!g->slots || g->slots->cap - g->slots->used < n) {
        const int32_t cap = n > BLOCK ? n : BLOCK;
        struct dt_slot_block *b = malloc(sizeof *b + (size_t)cap * sizeof(dt_vid));
        if (!b) return dt_fail(DT_ERR_MEMORY, "no memory for %d graph elements", cap);
        *b = (struct dt_slot_block){.next = g->slots, .cap = cap};
        g->slots = b;
    }
    *out = g->slots->vid + g->slots->used;
    g->slots->used += n;
    for (int32_t i = 0; i < n; i++) (*out)[i] = -1;
    return DT_OK;
}

/* A node of n_in inputs, all slots empty. */
static dt_status blank_node(dt_graph *g, dt_op op, const dt_attr *attr, dt_phase phase, int32_t n_in,
                            dt_node *out) {
    dt_node n = {.op = op, .n_in = n_in, .n_out = dt_op_n_out(op), .phase = phase, .workspace = -1};
    if (attr) n.attr = dt_op_attr(op, attr);
    DT_TRY(take_slots(g, n.n_in + n.n_out, &n.in));
    n.out = n.in + n.n_in;
    *out = n;
    return DT_OK;
}

dt_status dt_graph_blank_node(dt_graph *g, dt_op op, const dt_attr *attr, dt_phase phase, dt_node *out) {
    return blank_node(g, op, attr, phase, dt_op_n_in(op), out);
}

dt_status dt_graph_copy_node(dt_graph *g, const dt_node *from, dt_node *out) {
    DT_TRY(blank_node(g, from->op, &from->attr, from->phase, from->n_in, out));
    memcpy(out->in, from->in, (size_t)from->n_in * sizeof *out->in);
    memcpy(out->out, from->out, (size_t)from->n_out * sizeof *out->out);
    return DT_OK;
}

void dt_graph_set_out(dt_graph *g, dt_nid id, int32_t slot, dt_vid v) {
    g->node[id].out[slot] = v;
    g->value[v].producer = id;
}

/* Fills in[] and says which outputs will be made. */
static dt_status take_operands(const dt_graph *g, dt_node *n, int32_t n_in, const dt_vid *in,
                               uint32_t wanted) {
    const dt_op_row *row = dt_op_get(n->op);
    if (n_in > n->n_in) return dt_fail(DT_ERR_CONFIG, "%d inputs, at most %d", n_in, n->n_in);
    for (int32_t i = 0; i < n_in; i++) {
        if (in[i] < -1 || in[i] >= g->n_value)
            return dt_fail(DT_ERR_CONFIG, "input %s does not exist", dt_op_in(n->op, i)->name);
        n->in[i] = in[i];
    }
    DT_TRY(dt_op_check(g, n));
    for (int32_t i = 0; i < n->n_out; i++)
        if (!row->out[i].optional || (wanted >> i & 1)) n->out[i] = 0;
    return DT_OK;
}

dt_status dt_graph_add_node_with(dt_graph *g, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                                 const dt_vid *in, uint32_t wanted, dt_vid *out) {
    const dt_op_row *row = dt_op_get(op);
    dt_node n;
    dt_value outs[DT_SLOTS_OUT_MAX];
    const int32_t slots = dt_op_n_in(op), wide = n_in > slots && row->in[slots - 1].many ? n_in : slots;
    DT_TRY(blank_node(g, op, attr, DT_PHASE_FORWARD, wide, &n));
    for (int32_t i = 0; i < DT_SLOTS_OUT_MAX; i++) outs[i] = blank_value(), outs[i].role = DT_ROLE_ACT;
    dt_status st = take_operands(g, &n, n_in, in, wanted);
    if (st == DT_OK) st = row->infer(g, &n, outs);
    if (st != DT_OK) {
        dt_error_context("%s (%s)", name, dt_op_name(&n));
        return st;
    }
    dt_nid id = g->n_node;
    DT_TRY(grow((void **)&g->node, g->n_node, &g->cap_node, sizeof *g->node));
    int32_t n_value = g->n_value;
    for (int32_t i = 0; i < n.n_out; i++) {
        if (n.out[i] < 0) continue;
        int len = i == 0 ? snprintf(outs[i].name, sizeof outs[i].name, "%s", name)
                         : snprintf(outs[i].name, sizeof outs[i].name, "%s:%d", name, i);
        outs[i].producer = id;
        if (row->flags & DT_OP_VIEW) outs[i].alias_of = in[0];
        st = (size_t)len < sizeof outs[i].name ? push_value(g, &outs[i], &n.out[i])
                                               : dt_fail(DT_ERR_CONFIG, "the name \"%s\" is too long", name);
        if (st != DT_OK) {
            dt_graph_drop_values(g, n_value);
            return st;
        }
    }
    g->node[g->n_node++] = n;
    if (out) *out = n.out[0];
    return DT_OK;
}

dt_status dt_graph_add_node(dt_graph *g, const char *name, dt_op op, const dt_attr *attr, int32_t n_in,
                            const dt_vid *in, dt_vid *out) {
    return dt_graph_add_node_with(g, name, op, attr, n_in, in, 0, out);
}

enum { REMOVED = DT_OP_COUNT }; /* the op of a node that goes when the list is closed */

void dt_graph_remove_node(dt_graph *g, dt_nid id) {
    dt_node *n = &g->node[id];
    for (int32_t i = 0; i < n->n_in; i++) n->in[i] = -1;
    for (int32_t i = 0; i < n->n_out; i++) n->out[i] = -1;
    n->op = (dt_op)REMOVED;
}

void dt_graph_compact(dt_graph *g) {
    int32_t n = 0;
    for (dt_nid i = 0; i < g->n_node; i++)
        if ((int)g->node[i].op != REMOVED) g->node[n++] = g->node[i];
    g->n_node = n;
    for (dt_vid v = 0; v < g->n_value; v++) g->value[v].producer = -1;
    for (dt_nid i = 0; i < n; i++)
        for (int32_t j = 0; j < g->node[i].n_out; j++)
            if (g->node[i].out[j] >= 0) g->value[g->node[i].out[j]].producer = i;
}

dt_vid dt_graph_source(const dt_graph *g, dt_vid v) {
    while (v >= 0 && g->value[v].role != DT_ROLE_INPUT) {
        const dt_nid made = g->value[v].producer;
        if (made < 0 || (g->node[made].op != DT_OP_CAST && g->node[made].op != DT_OP_RESHAPE)) return -1;
        v = g->node[made].in[0];
    }
    return v;
}

int32_t dt_graph_use_count(const dt_graph *g, dt_vid v) {
    int32_t n = dt_graph_is_kept(g, v);
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t j = 0; j < g->node[i].n_in; j++) n += g->node[i].in[j] == v;
    return n;
}

dt_nid dt_graph_maker(const dt_graph *g, dt_vid v, dt_op op) {
    const dt_nid i = v >= 0 ? g->value[v].producer : -1;
    return i >= 0 && g->node[i].op == op ? i : -1;
}

dt_nid dt_graph_reader(const dt_graph *g, dt_vid v, dt_op op, int32_t slot) {
    for (dt_nid i = 0; i < g->n_node; i++)
        if (g->node[i].op == op && g->node[i].in[slot] == v) return i;
    return -1;
}

dt_vid dt_graph_root(const dt_graph *g, dt_vid id) {
    while (g->value[id].alias_of >= 0) id = g->value[id].alias_of;
    return id;
}

int64_t dt_value_n_elem(const dt_value *v) {
    int64_t n = 1;
    for (int32_t i = 0; i < v->ndim; i++) n *= v->dim[i];
    return n;
}

int64_t dt_value_bytes(const dt_value *v) {
    return dt_dtype_bytes(v->dtype, dt_value_n_elem(v));
}

const char *dt_value_shape_text(const dt_value *v) {
    static _Thread_local char text[192];
    int n = 0;
    for (int32_t i = 0; i < v->ndim; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, i ? "x%lld" : "%lld", (long long)v->dim[i]);
    snprintf(text + n, sizeof text - (size_t)n, " %s", dt_dtype_name(v->dtype));
    return text;
}

dt_status dt_graph_validate(const dt_graph *g) {
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        const dt_op_row *row = dt_op_get(n->op);
        const dt_attr own = dt_op_attr(n->op, &n->attr);
        if (memcmp(&own, &n->attr, sizeof own) != 0)
            return dt_fail(DT_ERR_INTERNAL, "node %d (%s) has an attribute of another op", i, row->name);
        for (int32_t j = 0; j < n->n_in; j++) {
            dt_vid v = n->in[j];
            if (v == -1 && dt_op_in(n->op, j)->optional) continue;
            if (v < 0 || v >= g->n_value)
                return dt_fail(DT_ERR_INTERNAL, "node %d (%s): input %d is value %d", i, row->name, j, v);
            if (g->value[v].producer >= i)
                return dt_fail(DT_ERR_INTERNAL, "node %d (%s) reads %s before it is made", i, row->name,
                               g->value[v].name);
        }
        for (int32_t j = 0; j < n->n_out; j++) {
            dt_vid v = n->out[j];
            if (v == -1 && row->out[j].optional) continue;
            if (v < 0 || v >= g->n_value || g->value[v].producer != i)
                return dt_fail(DT_ERR_INTERNAL, "node %d (%s): output %d has another producer", i, row->name,
                               j);
            if (g->value[v].alias_of != (row->flags & DT_OP_VIEW ? n->in[0] : -1) &&
                g->value[dt_graph_root(g, v)].role != DT_ROLE_CACHE)
                return dt_fail(DT_ERR_INTERNAL, "node %d (%s): %s shares the memory of another value", i,
                               row->name, g->value[v].name);
        }
    }
    for (dt_vid a = 0; a < g->n_value; a++)
        if (dt_graph_find(g, g->value[a].name) != a)
            return dt_fail(DT_ERR_INTERNAL, "two values are named %s", g->value[a].name);
    return DT_OK;
}
