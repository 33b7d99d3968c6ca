/* Live ranges and greedy-by-size offset assignment (Pisarchyk & Lee, "Efficient memory management for deep
 * neural net inference", 2020), with exact ranges and in-place outputs. */
#include "core/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/op.h"

/* A block of the activation arena: one value with its aliases and in-place successors. */
typedef struct block {
    dt_vid value;
    int64_t bytes;
    int32_t first, last;
    int64_t offset;
} block;

typedef struct planner {
    dt_graph *g;
    int64_t align, guard;
    int32_t *owner; /* value -> the value whose block it uses */
} planner;

static dt_vid owner_of(const planner *p, dt_vid v) {
    while (p->owner[v] != v) v = p->owner[v];
    return v;
}

static bool in_act(const dt_value *v) {
    return v->role == DT_ROLE_ACT && v->producer >= 0;
}

static int64_t padded(const planner *p, int64_t bytes) {
    return dt_round_up(bytes + p->guard, p->align);
}

/* first/last of every ACT root: from its producer to its last reader, aliases included. */
static void live_ranges(planner *p) {
    dt_graph *g = p->g;
    for (dt_vid v = 0; v < g->n_value; v++) g->value[v].first = g->value[v].last = -1;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        for (int32_t j = 0; j < n->n_out; j++) {
            if (n->out[j] < 0) continue;
            dt_value *r = &g->value[dt_graph_root(g, n->out[j])];
            if (r->first < 0) r->first = i;
            r->last = i;
        }
        for (int32_t j = 0; j < n->n_in; j++)
            if (n->in[j] >= 0) g->value[dt_graph_root(g, n->in[j])].last = i;
        if (n->workspace >= 0) g->value[n->workspace].first = g->value[n->workspace].last = i;
    }
    for (int32_t i = 0; i < g->n_output; i++) /* readable after the program */
        g->value[dt_graph_root(g, g->output[i].value)].last = g->n_node;
}

/* An output takes over the block of an input that dies at the same node. */
static void share_in_place(planner *p) {
    dt_graph *g = p->g;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        const dt_op_row *row = dt_op_get(n->op);
        const int32_t over = row->in_place - 1;
        if (over < 0 || n->in[over] < 0 || n->out[row->in_place_out] < 0) continue;
        dt_vid in = dt_graph_root(g, n->in[over]), out = n->out[row->in_place_out];
        if (!in_act(&g->value[in]) || !in_act(&g->value[out])) continue;
        dt_vid block_of_in = owner_of(p, in);
        if (g->value[in].last != i || dt_value_bytes(&g->value[in]) != dt_value_bytes(&g->value[out]))
            continue;
        bool twice = false; /* the same bytes are read through another input */
        for (int32_t j = 0; j < n->n_in; j++)
            twice |= j != over && n->in[j] >= 0 && owner_of(p, dt_graph_root(g, n->in[j])) == block_of_in;
        if (!twice) p->owner[out] = block_of_in;
    }
}

static int by_size(const void *a, const void *b) {
    const block *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : (x->value < y->value ? -1 : 1);
}

/* Lowest offset at which b fits beside the already placed blocks that live at the same time. */
static int64_t place(const block *b, block *const *placed, int32_t n) {
    int64_t offset = 0;
    for (int32_t i = 0; i < n; i++) { /* placed is sorted by offset */
        const block *o = placed[i];
        if (o->last < b->first || b->last < o->first) continue;
        if (offset + b->bytes <= o->offset) break;
        if (o->offset + o->bytes > offset) offset = o->offset + o->bytes;
    }
    return offset;
}

static dt_status assign_offsets(planner *p, bool reuse, dt_plan *out) {
    dt_graph *g = p->g;
    block *blocks = calloc((size_t)g->n_value + 1, sizeof *blocks);
    block **placed = calloc((size_t)g->n_value + 1, sizeof *placed);
    int32_t *index = malloc(((size_t)g->n_value + 1) * sizeof *index);
    int64_t *live = calloc((size_t)g->n_node + 2, sizeof *live);
    if (!blocks || !placed || !index || !live) {
        free(blocks), free(placed), free(index), free(live);
        return dt_fail(DT_ERR_MEMORY, "no memory for the plan of %d values", g->n_value);
    }
    int32_t n = 0;
    for (dt_vid v = 0; v < g->n_value; v++) {
        const dt_value *val = &g->value[v];
        if (!in_act(val) || val->alias_of >= 0) continue;
        out->naive_bytes += padded(p, dt_value_bytes(val));
        if (owner_of(p, v) != v) continue;
        index[v] = n;
        blocks[n++] = (block){
            .value = v, .bytes = padded(p, dt_value_bytes(val)), .first = val->first, .last = val->last};
    }
    for (dt_vid v = 0; v < g->n_value; v++) { /* in-place successors lengthen the block's life */
        const dt_value *val = &g->value[v];
        if (!in_act(val) || val->alias_of >= 0) continue;
        block *b = &blocks[index[owner_of(p, v)]];
        if (val->last > b->last) b->last = val->last;
    }
    for (int32_t i = 0; i < n; i++) {
        live[blocks[i].first] += blocks[i].bytes;
        live[blocks[i].last + 1 <= g->n_node ? blocks[i].last + 1 : g->n_node + 1] -= blocks[i].bytes;
    }
    int64_t sum = 0;
    for (int32_t i = 0; i < g->n_node; i++) {
        sum += live[i];
        if (sum > out->floor_bytes) out->floor_bytes = sum, out->peak_node = i;
    }
    qsort(blocks, (size_t)n, sizeof *blocks, by_size);
    for (int32_t i = 0; i < n; i++) {
        block *b = &blocks[i];
        b->offset = reuse ? place(b, placed, i) : out->act_bytes;
        if (b->offset + b->bytes > out->act_bytes) out->act_bytes = b->offset + b->bytes;
        int32_t k = i;
        for (; k > 0 && placed[k - 1]->offset > b->offset; k--) placed[k] = placed[k - 1];
        placed[k] = b;
        g->value[b->value].offset_bytes = b->offset;
    }
    for (dt_vid v = 0; v < g->n_value; v++) {
        dt_vid root = dt_graph_root(g, v);
        if (!in_act(&g->value[root])) continue;
        g->value[v].arena = DT_ARENA_ACT;
        g->value[v].offset_bytes = g->value[owner_of(p, root)].offset_bytes;
    }
    free(blocks), free(placed), free(index), free(live);
    return DT_OK;
}

/* Everything that does not live in the activation arena. */
static void place_fixed(planner *p, dt_plan *out) {
    for (dt_vid v = 0; v < p->g->n_value; v++) {
        dt_value *val = &p->g->value[v];
        int64_t elem = (int64_t)dt_dtype_size(val->dtype);
        switch (val->role) {
        case DT_ROLE_PARAM:
            val->arena = val->frozen                  ? DT_ARENA_FROZEN
                         : val->dtype == DT_DTYPE_F32 ? DT_ARENA_MASTER
                                                      : DT_ARENA_PARAM16;
            val->offset_bytes = val->axis_offset * (val->frozen ? 1 : elem);
            break;
        case DT_ROLE_GRAD:
            val->arena = DT_ARENA_GRAD;
            val->offset_bytes = val->axis_offset * elem;
            break;
        case DT_ROLE_STATE:
            val->arena = DT_ARENA_STATE;
            val->offset_bytes = out->state_bytes;
            out->state_bytes += dt_state_bytes(val);
            break;
        case DT_ROLE_INPUT:
            val->arena = DT_ARENA_INPUT;
            val->offset_bytes = out->input_bytes;
            out->input_bytes += padded(p, dt_value_bytes(val));
            break;
        case DT_ROLE_CACHE:
            val->arena = DT_ARENA_CACHE;
            val->offset_bytes = out->cache_bytes;
            out->cache_bytes += padded(p, dt_value_bytes(val));
            break;
        case DT_ROLE_METRIC:
            val->arena = DT_ARENA_METRIC;
            val->offset_bytes = 0;
            break;
        default:
            break;
        }
    }
    for (dt_vid v = 0; v < p->g->n_value; v++) { /* views of these stand where they do */
        const dt_value *root = &p->g->value[dt_graph_root(p->g, v)];
        if (in_act(root) || &p->g->value[v] == root) continue;
        p->g->value[v].arena = root->arena;
        p->g->value[v].offset_bytes = root->offset_bytes;
    }
}

int64_t dt_state_bytes(const dt_value *v) {
    enum { ALIGN_BYTES = 256 };
    return dt_round_up(dt_value_bytes(v), ALIGN_BYTES);
}

dt_status dt_plan_build(dt_graph *g, int64_t align_bytes, int64_t guard_bytes, bool reuse, dt_plan *out) {
    memset(out, 0, sizeof *out);
    planner p = {.g = g,
                 .align = align_bytes,
                 .guard = guard_bytes,
                 .owner = malloc(((size_t)g->n_value + 1) * sizeof(int32_t))};
    if (!p.owner) return dt_fail(DT_ERR_MEMORY, "no memory for the plan of %d values", g->n_value);
    for (dt_vid v = 0; v < g->n_value; v++) p.owner[v] = v;
    live_ranges(&p);
    if (reuse) share_in_place(&p);
    place_fixed(&p, out);
    dt_status st = assign_offsets(&p, reuse, out);
    free(p.owner);
    return st;
}
