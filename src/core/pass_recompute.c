/* Activations computed again in backward instead of kept (Chen et al. 2016, "Training deep nets with sublinear memory
 * cost"). Which values are kept is all that the levels differ in; the rest follows: a backward node that reads one that
 * is not gets a copy of the nodes that lead to it from what is kept, put in just before it, and the plan of memory
 * sees shorter lives. Copies draw the same random numbers, so results do not change. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/op.h"
#include "core/pass.h"

enum {
    CHEAP_FLOPS = 16, /* an element of the result: a normalisation, no product */
    SMALL = 16,       /* statistics and the like are kept: a sixteenth of the largest, or less */
    TRIALS = 32       /* sizes of blocks that are tried */
};

const char *const dt_recompute_names[] = {
    [DT_RECOMPUTE_NONE] = "none", [DT_RECOMPUTE_CHEAP] = "cheap", [DT_RECOMPUTE_BLOCKS] = "blocks"};

typedef struct recompute {
    dt_graph *g;
    int32_t n_forward, n_value;
    bool *keep;    /* of roots */
    bool *needed;  /* roots that backward reads */
    dt_vid *again; /* what stands for a value in backward; -1: itself */
    int32_t *last; /* of roots: the last forward node that reads it */
    dt_node *list; /* the new one */
    int32_t n, cap;
    double extra_flops;
} recompute;

/* A value that may be made anew: an activation of forward. */
static bool is_made(const recompute *r, dt_vid v) {
    if (v < 0 || v >= r->n_value) return false;
    const dt_value *val = &r->g->value[v];
    return val->role == DT_ROLE_ACT && val->producer >= 0 && val->producer < r->n_forward;
}

static int64_t bytes(const recompute *r, dt_vid root) {
    return dt_value_bytes(&r->g->value[root]);
}

/* Whether a second run of the node would be seen: it counts, or moves a running statistic. */
static bool has_effect(const dt_graph *g, const dt_node *n) {
    bool effect = dt_op_get(n->op)->flags & (DT_OP_EFFECT | DT_OP_SEED);
    for (int32_t j = 0; j < n->n_in; j++) effect |= n->in[j] >= 0 && g->value[n->in[j]].role == DT_ROLE_STATE;
    return effect;
}

static bool is_cheap(const dt_graph *g, const dt_node *n) {
    return dt_op_flops(g, n) <= CHEAP_FLOPS * (double)dt_value_n_elem(&g->value[n->out[0]]);
}

/* What forward makes and backward reads, where values die in forward, and what is kept whatever the level. */
static void survey(recompute *r) {
    const dt_graph *g = r->g;
    int64_t largest = 0;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        for (int32_t j = 0; j < n->n_in; j++) {
            if (n->in[j] < 0) continue;
            const dt_vid root = dt_graph_root(g, n->in[j]);
            if (!is_made(r, root)) continue;
            if (i < r->n_forward)
                r->last[root] = i;
            else
                r->needed[root] = true, largest = dt_max_i64(largest, bytes(r, root));
        }
        if (i < r->n_forward && has_effect(g, n))
            for (int32_t j = 0; j < n->n_out; j++)
                if (n->out[j] >= 0) r->keep[dt_graph_root(g, n->out[j])] = true;
    }
    for (dt_vid v = 0; v < r->n_value; v++) {
        const dt_vid root = dt_graph_root(g, v);
        if (dt_graph_is_kept(g, v) || (r->needed[root] && bytes(r, root) * SMALL <= largest))
            r->keep[root] = true;
    }
}

/* Kept is what only a product can make again, or what would need a value that is not kept. */
static void keep_products(recompute *r) {
    const dt_graph *g = r->g;
    bool *has = r->keep; /* or it can be made of what is */
    bool *cheap = calloc((size_t)r->n_value + 1, sizeof *cheap);
    if (!cheap) return; /* nothing is made again */
    for (dt_nid i = 0; i < r->n_forward; i++) {
        const dt_node *n = &g->node[i];
        bool from_kept = is_cheap(g, n) && !has_effect(g, n);
        for (int32_t j = 0; j < n->n_in && from_kept; j++) {
            if (n->in[j] < 0) continue;
            const dt_vid root = dt_graph_root(g, n->in[j]);
            from_kept = !is_made(r, root) || has[root] || cheap[root];
        }
        for (int32_t j = 0; j < n->n_out; j++) {
            if (n->out[j] < 0 || g->value[n->out[j]].alias_of >= 0) continue;
            cheap[n->out[j]] = from_kept;
            if (!from_kept && r->needed[n->out[j]]) r->keep[n->out[j]] = true;
        }
    }
    free(cheap);
}

/* Cuts the forward nodes into blocks of at most `most` bytes that backward reads, each where least crosses. Marks
 * what crosses in `keep`. Returns the bytes at the peak: all that crosses, and the largest block. */
static double cut(const recompute *r, int64_t most, const int64_t *made, const int64_t *crosses, bool *keep) {
    double kept = 0, largest = 0;
    for (int32_t begin = 0; begin < r->n_forward;) {
        int32_t end = begin, best = -1;
        int64_t sum = 0;
        for (; end < r->n_forward && (end == begin || sum + made[end] <= most); end++) {
            sum += made[end];
            if (sum * 2 >= most && (best < 0 || crosses[end] <= crosses[best])) best = end;
        }
        if (end == r->n_forward) { /* its backward comes at once: all of it is kept */
            largest = fmax(largest, (double)sum);
            for (dt_vid v = 0; v < r->n_value; v++)
                if (is_made(r, v) && r->g->value[v].alias_of < 0 && r->g->value[v].producer >= begin)
                    keep[v] = true;
            break;
        }
        if (best < 0) best = end - 1;
        sum = 0;
        for (int32_t i = begin; i <= best; i++) sum += made[i];
        largest = fmax(largest, (double)sum);
        for (dt_vid v = 0; v < r->n_value; v++) {
            if (!is_made(r, v) || r->g->value[v].alias_of >= 0 || keep[v]) continue;
            if (r->g->value[v].producer > best || r->last[v] <= best) continue;
            keep[v] = true;
            kept += (double)bytes(r, v);
        }
        begin = best + 1;
    }
    return kept + largest;
}

/* Kept is what crosses the borders of blocks, whose size makes the peak least. */
static dt_status keep_borders(recompute *r) {
    const dt_graph *g = r->g;
    int64_t *made = calloc((size_t)r->n_forward + 1, sizeof *made);
    int64_t *crosses = calloc((size_t)r->n_forward + 1, sizeof *crosses);
    bool *keep = malloc((size_t)r->n_value + 1);
    int64_t all = 0;
    double best = INFINITY, most = 0;
    if (!made || !crosses || !keep) {
        free(made), free(crosses), free(keep);
        return dt_fail(DT_ERR_MEMORY, "no memory for a pass");
    }
    for (dt_vid v = 0; v < r->n_value; v++) {
        if (!is_made(r, v) || g->value[v].alias_of >= 0 || r->keep[v]) continue;
        const dt_nid at = g->value[v].producer;
        if (r->needed[v]) made[at] += bytes(r, v), all += bytes(r, v);
        for (dt_nid i = at; i < r->last[v]; i++) crosses[i] += bytes(r, v);
    }
    for (int32_t k = 0; k < TRIALS && all > 0; k++) {
        const double size = (double)all * pow(0.5, 10.0 * k / TRIALS);
        memcpy(keep, r->keep, (size_t)r->n_value);
        const double peak = cut(r, (int64_t)size, made, crosses, keep);
        if (peak < best) best = peak, most = size;
    }
    if (all > 0) cut(r, (int64_t)most, made, crosses, r->keep);
    free(made), free(crosses), free(keep);
    return DT_OK;
}

static dt_status put(recompute *r, const dt_node *n) {
    if (r->n == r->cap) {
        const int32_t cap = r->cap * 2;
        dt_node *list = realloc(r->list, (size_t)cap * sizeof *list);
        if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for %d nodes", cap);
        r->list = list;
        r->cap = cap;
    }
    r->list[r->n++] = *n;
    return DT_OK;
}

/* A value like v, of the copy of its maker. */
static dt_status copy_value(recompute *r, dt_vid v) {
    const dt_value from = r->g->value[v];
    char name[DT_NAME_MAX];
    int32_t length = snprintf(name, sizeof name, "again/%.*s", DT_NAME_MAX - 16, from.name);
    for (int32_t k = 2; dt_graph_find(r->g, name) >= 0; k++)
        snprintf(name + length, sizeof name - (size_t)length, "#%d", k);
    DT_TRY(dt_graph_add_value(r->g, name, DT_ROLE_ACT, from.dtype, from.ndim, from.dim, &r->again[v]));
    if (from.alias_of >= 0)
        r->g->value[r->again[v]].alias_of =
            r->again[from.alias_of] >= 0 ? r->again[from.alias_of] : from.alias_of;
    return DT_OK;
}

/* Puts in copies of what leads to v, unless they or v are there. */
static dt_status make_again(recompute *r, dt_vid v) {
    if (!is_made(r, v) || r->keep[dt_graph_root(r->g, v)] || r->again[v] >= 0) return DT_OK;
    const dt_node from = r->g->node[r->g->value[v].producer];
    dt_node n;
    for (int32_t j = 0; j < from.n_in; j++)
        if (from.in[j] >= 0) DT_TRY(make_again(r, from.in[j]));
    DT_TRY(dt_graph_copy_node(r->g, &from, &n));
    n.phase = DT_PHASE_BACKWARD;
    for (int32_t j = 0; j < n.n_in; j++)
        if (n.in[j] >= 0 && n.in[j] < r->n_value && r->again[n.in[j]] >= 0) n.in[j] = r->again[n.in[j]];
    for (int32_t j = 0; j < n.n_out; j++) {
        if (n.out[j] < 0) continue;
        DT_TRY(copy_value(r, n.out[j]));
        n.out[j] = r->again[n.out[j]];
    }
    r->extra_flops += dt_op_flops(r->g, &from);
    return put(r, &n);
}

static dt_status rebuild(recompute *r) {
    dt_graph *g = r->g;
    for (dt_nid i = 0; i < g->n_node; i++) {
        const dt_node *n = &g->node[i];
        for (int32_t j = 0; j < n->n_in && i >= r->n_forward; j++) {
            const dt_vid v = n->in[j];
            if (v < 0) continue;
            DT_TRY(make_again(r, v));
            if (v < r->n_value && r->again[v] >= 0) n->in[j] = r->again[v];
        }
        DT_TRY(put(r, n));
    }
    free(g->node);
    g->node = r->list;
    g->n_node = r->n;
    g->cap_node = r->cap;
    r->list = NULL;
    dt_graph_compact(g);
    return DT_OK;
}

dt_status dt_pass_recompute(dt_graph *g, dt_recompute level, double *extra_flops) {
    recompute r = {.g = g, .n_value = g->n_value, .cap = g->n_node * 2 + 1};
    dt_status st = DT_OK;
    while (r.n_forward < g->n_node && g->node[r.n_forward].phase == DT_PHASE_FORWARD) r.n_forward++;
    r.keep = calloc((size_t)g->n_value + 1, sizeof *r.keep);
    r.needed = calloc((size_t)g->n_value + 1, sizeof *r.needed);
    r.again = malloc(((size_t)g->n_value + 1) * sizeof *r.again);
    r.last = calloc((size_t)g->n_value + 1, sizeof *r.last);
    r.list = malloc((size_t)r.cap * sizeof *r.list);
    if (!r.keep || !r.needed || !r.again || !r.last || !r.list) {
        st = dt_fail(DT_ERR_MEMORY, "no memory for a pass");
        goto out;
    }
    for (dt_vid v = 0; v < g->n_value; v++) r.again[v] = -1;
    survey(&r);
    if (level == DT_RECOMPUTE_BLOCKS)
        DT_TRY_GOTO(st, keep_borders(&r), out);
    else
        keep_products(&r);
    DT_TRY_GOTO(st, rebuild(&r), out);
    *extra_flops = r.extra_flops;
out:
    free(r.keep), free(r.needed), free(r.again), free(r.last), free(r.list);
    return st;
}
