/* The pass decode: a forward graph is written anew for a few places of each row at a time. Every value is known to run
 * along the text (dimension 1 is its places) or not to; a rule for each op says what becomes of it. */
#include "core/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/op.h"

typedef struct work {
    const dt_graph *from;
    dt_graph *to;
    const dt_decode_options *o;
    dt_decode_facts facts;
    int64_t context; /* T of the tokens */
    bool *timed;     /* of a value of `from`: it runs along the text */
    bool *needed;    /* the output follows from it */
    dt_vid *map;     /* its value in `to` */
    dt_vid last_of;  /* the value of which only the last place counts from there on; -1: none */
    dt_vid start, count, place, last; /* in `to`; -1: not made yet */
} work;

typedef dt_status rule_fn(work *w, dt_nid id);

/* ---- small parts ---- */

static const dt_value *value_of(const work *w, dt_vid v) {
    return &w->from->value[v];
}

static const char *name_of(const work *w, dt_nid id) {
    return w->from->value[w->from->node[id].out[0]].name;
}

static dt_status refuse(const work *w, dt_nid id, const char *why) {
    return dt_fail(DT_ERR_UNSUPPORTED, "%s (%s) %s: the network cannot go on with a text place by place",
                   name_of(w, id), dt_op_name(&w->from->node[id]), why);
}

/* "<node><what>" */
static const char *part_name(const work *w, dt_nid id, const char *what, char text[DT_NAME_MAX]) {
    snprintf(text, DT_NAME_MAX, "%.*s%s", (int)(DT_NAME_MAX - 1 - strlen(what)), name_of(w, id), what);
    return text;
}

/* The input of that name, made when first asked for. */
static dt_status input(work *w, dt_vid *v, const char *name, int32_t ndim, int64_t cols) {
    if (*v >= 0) return DT_OK;
    return dt_graph_add_value(w->to, name, DT_ROLE_INPUT, DT_DTYPE_I32, ndim, (int64_t[]){w->o->rows, cols},
                              v);
}

static dt_status need_start(work *w) {
    return input(w, &w->start, DT_DECODE_START, 1, 0);
}
static dt_status need_count(work *w) {
    return input(w, &w->count, DT_DECODE_COUNT, 1, 0);
}

/* The places that a value of `to` has. */
static int64_t places(const work *w, dt_vid in_to) {
    return w->to->value[in_to].dim[1];
}

/* The node as it is, with these attributes, over the operands' values in `to`. */
static dt_status copy(work *w, dt_nid id, const dt_attr *attr) {
    const dt_node *n = &w->from->node[id];
    dt_vid *in = malloc(((size_t)n->n_in + 1) * sizeof *in);
    if (!in) return dt_fail(DT_ERR_MEMORY, "no memory for a pass");
    uint32_t wanted = 0;
    for (int32_t j = 0; j < n->n_in; j++) in[j] = n->in[j] >= 0 ? w->map[n->in[j]] : -1;
    for (int32_t j = 0; j < n->n_out; j++)
        if (n->out[j] >= 0 && w->needed[n->out[j]]) wanted |= 1u << j;
    const dt_status st =
        dt_graph_add_node_with(w->to, name_of(w, id), n->op, attr, n->n_in, in, wanted, NULL);
    free(in);
    DT_TRY(st);
    const dt_node *made = &w->to->node[w->to->n_node - 1];
    for (int32_t j = 0; j < n->n_out; j++)
        if (n->out[j] >= 0) w->map[n->out[j]] = made->out[j];
    return DT_OK;
}

/* How many operands run along the text. */
static int32_t n_timed(const work *w, const dt_node *n) {
    int32_t k = 0;
    for (int32_t j = 0; j < n->n_in; j++) k += n->in[j] >= 0 && w->timed[n->in[j]];
    return k;
}

/* ---- rules ---- */

/* Each number by itself. */
static dt_status each_number(work *w, dt_nid id) {
    return copy(w, id, &w->from->node[id].attr);
}

/* Over the last dimension of the first operand, which is not the places. */
static dt_status each_row(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    if (n_timed(w, n) > 1 || !w->timed[n->in[0]] || value_of(w, n->in[0])->ndim < 3)
        return refuse(w, id, "joins places of the text");
    return copy(w, id, &n->attr);
}

static dt_status each_index(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    if (w->timed[n->in[DT_EMBED_IN_WEIGHT]]) return refuse(w, id, "looks places of the text up");
    return copy(w, id, &n->attr);
}

/* CONCAT, SLICE and PAD along another dimension. */
static dt_status other_axis(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    int32_t axis = n->attr.shape.axis;
    if (axis < 0) axis += value_of(w, n->in[0])->ndim;
    if (n_timed(w, n) < n->n_in || axis < 2) return refuse(w, id, "joins or parts places of the text");
    return copy(w, id, &n->attr);
}

static dt_status other_axes(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    if (n->attr.reduce.axes & 3) return refuse(w, id, "takes places of the text together");
    return copy(w, id, &n->attr);
}

static dt_status keep_first_axes(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    if (n->attr.transpose.perm[0] != 0 || n->attr.transpose.perm[1] != 1)
        return refuse(w, id, "turns the places of the text into something else");
    return copy(w, id, &n->attr);
}

static dt_status reshape(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    const dt_value *x = value_of(w, n->in[0]), *y = value_of(w, n->out[0]);
    dt_attr t = {.reshape.ndim = y->ndim};
    if (y->ndim < 2 || y->dim[0] != x->dim[0] || y->dim[1] != x->dim[1])
        return refuse(w, id, "joins places of the text");
    memcpy(t.reshape.dim, y->dim, sizeof t.reshape.dim);
    t.reshape.dim[0] = w->o->rows;
    t.reshape.dim[1] = places(w, w->map[n->in[0]]);
    return copy(w, id, &t);
}

/* The table whose rows are the places: of a slice of its first rows the whole one. */
static dt_vid table_of(const work *w, dt_vid v) {
    const dt_nid cut = dt_graph_maker(w->from, v, DT_OP_SLICE);
    if (cut < 0) return v;
    const dt_node *n = &w->from->node[cut];
    const bool first = n->attr.shape.axis == 0 && n->attr.shape.begin == 0;
    return first && value_of(w, n->in[0])->ndim == 2 ? n->in[0] : v;
}

/* Rows of p [T, ...] or [1, T, ...] for the places of this run: [rows, steps, ...]. */
static dt_status rows_of_places(work *w, dt_nid id, dt_vid p, int32_t axis, dt_vid *out) {
    const dt_value *v = value_of(w, p);
    const dt_vid table = v->ndim == 2 ? table_of(w, p) : p;
    const int64_t n_rows = table == p ? w->context : value_of(w, table)->dim[0];
    char name[DT_NAME_MAX];
    dt_vid flat = w->map[table];
    int64_t wide = 1;
    for (int32_t i = axis + 1; i < v->ndim; i++) wide *= v->dim[i];
    for (int32_t i = 0; i < axis; i++)
        if (v->dim[i] != 1) return refuse(w, id, "adds places in a way that is not known");
    if (v->ndim != 2 || axis != 0) {
        const dt_attr t = {.reshape = {.ndim = 2, .dim = {n_rows, wide}}};
        DT_TRY(
            dt_graph_add_node(w->to, part_name(w, id, "/table", name), DT_OP_RESHAPE, &t, 1, &flat, &flat));
    }
    w->facts.positions = dt_min_i64(w->facts.positions, n_rows);
    DT_TRY(input(w, &w->place, DT_DECODE_PLACE, 2, w->o->steps));
    DT_TRY(dt_graph_add_node(w->to, part_name(w, id, "/places", name), DT_OP_EMBED,
                             &(dt_attr){.embed.padding = -1}, 2, (dt_vid[]){flat, w->place}, out));
    if (v->ndim - axis == 2) return DT_OK;
    dt_attr t = {.reshape = {.ndim = 2 + v->ndim - axis - 1, .dim = {w->o->rows, w->o->steps}}};
    for (int32_t i = axis + 1; i < v->ndim; i++) t.reshape.dim[2 + i - axis - 1] = v->dim[i];
    return dt_graph_add_node(w->to, part_name(w, id, "/shaped", name), DT_OP_RESHAPE, &t, 1, out, out);
}

/* Two that run along the text, or one and what is the same at each place, or a table of places. */
static dt_status binary(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    const dt_value *a = value_of(w, n->in[0]), *b = value_of(w, n->in[1]);
    if (n_timed(w, n) == 2) {
        if (a->ndim != b->ndim) return refuse(w, id, "joins places of the text");
        return copy(w, id, &n->attr);
    }
    const int32_t still = w->timed[n->in[0]] ? 1 : 0;
    const dt_value *x = still == 1 ? a : b, *p = still == 1 ? b : a;
    const int32_t axis = p->ndim - (x->ndim - 1);
    if (axis < 0 || p->dim[axis] == 1) return copy(w, id, &n->attr);
    if (p->dim[axis] != w->context || p->ndim - axis > x->ndim - 1)
        return refuse(w, id, "joins places of the text");
    dt_vid in[2] = {w->map[n->in[0]], w->map[n->in[1]]};
    DT_TRY(rows_of_places(w, id, n->in[still], axis, &in[still]));
    return dt_graph_add_node(w->to, name_of(w, id), n->op, &n->attr, 2, in, &w->map[n->out[0]]);
}

/* ROPE and POSITION begin where the row is. */
static dt_status turn(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    if (dt_node_has(n, 1)) return refuse(w, id, "begins at a place that the data says");
    DT_TRY(need_start(w));
    return dt_graph_add_node(w->to, name_of(w, id), n->op, &n->attr, 2,
                             (dt_vid[]){w->map[n->in[0]], w->start}, &w->map[n->out[0]]);
}

static dt_status add_cache(work *w, dt_nid id, const char *what, dt_dtype type, int32_t ndim,
                           const int64_t *dim, dt_vid *out) {
    char name[DT_NAME_MAX];
    return dt_graph_add_value(w->to, part_name(w, id, what, name), DT_ROLE_CACHE, type, ndim, dim, out);
}

static const char STATE_H[] = "/state_h", STATE_C[] = "/state_c";

bool dt_decode_is_state(const dt_value *v) {
    const size_t n = strlen(v->name), m = sizeof STATE_H - 1;
    return v->role == DT_ROLE_CACHE && n >= m &&
           (strcmp(v->name + n - m, STATE_H) == 0 || strcmp(v->name + n - m, STATE_C) == 0);
}

/* Keys and values go to the caches, and the queries look there. */
static dt_status attention(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    const dt_attention_dims a = dt_op_attention_dims(w->from, n);
    char name[DT_NAME_MAX];
    if (!a.causal) return refuse(w, id, "sees what comes after a place (it is not causal)");
    if (dt_node_has(n, DT_ATTENTION_IN_LENGTHS) || dt_node_has(n, DT_ATTENTION_IN_Q_LENGTHS))
        return refuse(w, id, "takes lengths from the data");
    for (int32_t j = 0; j < (a.packed ? 1 : 3); j++)
        if (!w->timed[n->in[j]] || value_of(w, n->in[j])->dim[1] != w->context)
            return refuse(w, id, "attends to another sequence");
    DT_TRY(need_start(w));
    DT_TRY(need_count(w));
    const int64_t wide = a.kv_heads * a.d, dim[] = {w->o->rows, w->o->capacity, wide};
    const dt_vid from[3] = {w->map[n->in[0]], a.packed ? w->map[n->in[0]] : w->map[n->in[1]],
                            a.packed ? -1 : w->map[n->in[2]]};
    dt_vid cache[2], lengths, q = from[0];
    DT_TRY(add_cache(w, id, "/cache_k", w->to->compute, 3, dim, &cache[0]));
    DT_TRY(add_cache(w, id, "/cache_v", w->to->compute, 3, dim, &cache[1]));
    const dt_attr at = {.cache = {.k_at = (int32_t)a.k_at, .v_at = (int32_t)a.v_at}};
    DT_TRY(dt_graph_add_node(w->to, part_name(w, id, "/cached", name), DT_OP_CACHE, &at, 6,
                             (dt_vid[]){cache[0], cache[1], from[1], from[2], w->start, w->count}, &lengths));
    if (a.packed) {
        const dt_attr t = {.shape = {.axis = 2, .length = a.heads * a.d}};
        DT_TRY(dt_graph_add_node(w->to, part_name(w, id, "/queries", name), DT_OP_SLICE, &t, 1, &q, &q));
    }
    w->facts.attends = true;
    return dt_graph_add_node(w->to, name_of(w, id), DT_OP_ATTENTION, &n->attr, 5,
                             (dt_vid[]){q, cache[0], cache[1], lengths, w->count}, &w->map[n->out[0]]);
}

/* The states are where the run before has left them. */
static dt_status recurrent(work *w, dt_nid id) {
    const dt_node *n = &w->from->node[id];
    if (n->attr.recurrent.reverse) return refuse(w, id, "reads the text backwards");
    if (!w->timed[n->in[DT_RNN_IN_GATES]]) return refuse(w, id, "walks along something else than the text");
    if (dt_node_has(n, DT_RNN_IN_H0) || dt_node_has(n, DT_RNN_IN_C0))
        return refuse(w, id, "begins with states of its own");
    if (dt_node_has(n, DT_RNN_IN_LENGTHS)) return refuse(w, id, "takes lengths from the data");
    const bool lstm = n->attr.recurrent.kind == DT_LSTM;
    const int64_t dim[] = {w->o->rows, value_of(w, n->in[DT_RNN_IN_W])->dim[1]};
    dt_vid h, c = -1;
    DT_TRY(need_count(w));
    DT_TRY(add_cache(w, id, STATE_H, w->to->compute, 2, dim, &h));
    if (lstm) DT_TRY(add_cache(w, id, STATE_C, w->to->compute, 2, dim, &c));
    const dt_vid in[] = {[DT_RNN_IN_GATES] = w->map[n->in[DT_RNN_IN_GATES]],
                         [DT_RNN_IN_W] = w->map[n->in[DT_RNN_IN_W]],
                         [DT_RNN_IN_B] = dt_node_has(n, DT_RNN_IN_B) ? w->map[n->in[DT_RNN_IN_B]] : -1,
                         [DT_RNN_IN_H0] = h,
                         [DT_RNN_IN_C0] = c,
                         [DT_RNN_IN_LENGTHS] = w->count};
    const uint32_t wanted = 1u << DT_RNN_OUT_H | (lstm ? 1u << DT_RNN_OUT_C : 0);
    DT_TRY(dt_graph_add_node_with(w->to, name_of(w, id), DT_OP_RECURRENT, &n->attr,
                                  (int32_t)(sizeof in / sizeof *in), in, wanted, &w->map[n->out[0]]));
    const dt_node *made = &w->to->node[w->to->n_node - 1];
    w->to->value[made->out[DT_RNN_OUT_H]].alias_of = h;
    if (lstm) w->to->value[made->out[DT_RNN_OUT_C]].alias_of = c;
    return DT_OK;
}

/* Ops that have none look along the text, or are not known to do otherwise. tail: where only the last place's result is
 * wanted, only the last place's operand is. */
static const struct rule {
    rule_fn *run;
    bool tail;
} rules[DT_OP_COUNT] = {
    [DT_OP_UNARY] = {each_number, true},
    [DT_OP_CAST] = {each_number, true},
    [DT_OP_DROPOUT] = {each_number, true},
    [DT_OP_DENSE] = {each_row, true},
    [DT_OP_SOFTMAX] = {each_row, true},
    [DT_OP_LOG_SOFTMAX] = {each_row, true},
    [DT_OP_LAYERNORM] = {each_row, true},
    [DT_OP_RMSNORM] = {each_row, true},
    [DT_OP_ONE_HOT] = {each_number, false},
    [DT_OP_RESHAPE] = {reshape, true},
    [DT_OP_EMBED] = {each_index, false},
    [DT_OP_CONCAT] = {other_axis, false},
    [DT_OP_SLICE] = {other_axis, true},
    [DT_OP_PAD] = {other_axis, true},
    [DT_OP_TRANSPOSE] = {keep_first_axes, false},
    [DT_OP_REDUCE] = {other_axes, false},
    [DT_OP_BINARY] = {binary, false},
    [DT_OP_ROPE] = {turn, false},
    [DT_OP_POSITION] = {turn, false},
    [DT_OP_ATTENTION] = {attention, false},
    [DT_OP_RECURRENT] = {recurrent, false},
};

/* ---- the pass ---- */

/* Documents of a batch: what is decoded is one. */
static bool is_ignored(const dt_node *n, int32_t slot) {
    return n->op == DT_OP_ATTENTION && slot == DT_ATTENTION_IN_SEGMENTS;
}

static void mark_needed(work *w, dt_vid out) {
    w->needed[out] = true;
    for (dt_nid i = w->from->n_node - 1; i >= 0; i--) {
        const dt_node *n = &w->from->node[i];
        bool any = false;
        for (int32_t j = 0; j < n->n_out; j++) any |= n->out[j] >= 0 && w->needed[n->out[j]];
        for (int32_t j = 0; j < n->n_in && any; j++)
            if (n->in[j] >= 0 && !is_ignored(n, j)) w->needed[n->in[j]] = true;
    }
}

static bool is_needed(const work *w, const dt_node *n) {
    for (int32_t j = 0; j < n->n_out; j++)
        if (n->out[j] >= 0 && w->needed[n->out[j]]) return true;
    return false;
}

/* What a recurrence ends with is of no place. */
static void mark_timed(work *w, dt_vid tokens) {
    w->timed[tokens] = true;
    for (dt_nid i = 0; i < w->from->n_node; i++) {
        const dt_node *n = &w->from->node[i];
        const int32_t n_out = n->op == DT_OP_RECURRENT ? 1 : n->n_out;
        if (n_timed(w, n) == 0) continue;
        for (int32_t j = 0; j < n_out; j++)
            if (n->out[j] >= 0) w->timed[n->out[j]] = true;
    }
}

/* Back from the output over nodes that take each place by itself. */
static void find_last(work *w, dt_vid out) {
    w->last_of = w->o->steps > 1 ? out : -1;
    for (dt_nid i; w->last_of >= 0 && (i = value_of(w, w->last_of)->producer) >= 0;) {
        const dt_node *n = &w->from->node[i];
        if (!rules[n->op].tail || n_timed(w, n) != 1 || !w->timed[n->in[0]] ||
            value_of(w, n->in[0])->ndim != 3)
            return;
        w->last_of = n->in[0];
    }
}

/* From here on only the last place of each row: [rows, 1, C]. */
static dt_status pick_last(work *w) {
    const dt_value *v = value_of(w, w->last_of);
    const dt_attr t = {.reshape = {.ndim = 2, .dim = {w->o->rows * w->o->steps, v->dim[2]}}};
    dt_vid *x = &w->map[w->last_of];
    if (v->ndim != 3 || !dt_dtype_is_float(v->dtype))
        return dt_fail(DT_ERR_UNSUPPORTED, "%s, the network's result, is %s, not numbers for each place",
                       v->name, dt_value_shape_text(v));
    DT_TRY(input(w, &w->last, DT_DECODE_LAST, 2, 1));
    DT_TRY(dt_graph_add_node(w->to, "decode/places", DT_OP_RESHAPE, &t, 1, x, x));
    return dt_graph_add_node(w->to, "decode/picked", DT_OP_EMBED, &(dt_attr){.embed.padding = -1}, 2,
                             (dt_vid[]){*x, w->last}, x);
}

static dt_status copy_value(work *w, dt_vid v, dt_vid tokens) {
    const dt_value *old = value_of(w, v);
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, old->dim, sizeof dim);
    if (v == tokens) dim[0] = w->o->rows, dim[1] = w->o->steps;
    if (old->role == DT_ROLE_INPUT && v != tokens)
        return dt_fail(
            DT_ERR_UNSUPPORTED,
            "the network reads the field \"%s\" too: it cannot go on with a text from tokens alone",
            old->name);
    DT_TRY(dt_graph_add_value(w->to, old->name, old->role, old->dtype, old->ndim, dim, &w->map[v]));
    dt_value *new = &w->to->value[w->map[v]];
    new->init = old->init;
    new->fan_in = old->fan_in;
    new->fan_out = old->fan_out;
    new->stored_c = old->stored_c;
    return DT_OK;
}

static dt_status write_nodes(work *w) {
    for (dt_nid i = 0; i < w->from->n_node; i++) {
        const dt_node *n = &w->from->node[i];
        if (!is_needed(w, n)) continue;
        if (n_timed(w, n) == 0)
            DT_TRY(copy(w, i, &n->attr));
        else if (rules[n->op].run)
            DT_TRY(rules[n->op].run(w, i));
        else
            return refuse(w, i, "looks along the text");
        if (n->out[0] == w->last_of) DT_TRY(pick_last(w));
    }
    return DT_OK;
}

static dt_status write_graph(work *w) {
    const dt_graph *g = w->from;
    const dt_vid tokens = dt_graph_input(g, w->o->tokens), out = dt_graph_output(g, w->o->output);
    if (tokens < 0 || g->value[tokens].ndim != 2 || g->value[tokens].dtype != DT_DTYPE_I32)
        return dt_fail(DT_ERR_UNSUPPORTED, "the network has no input \"%s\" of tokens, i32 [rows, places]",
                       w->o->tokens);
    if (out < 0) return dt_fail(DT_ERR_UNSUPPORTED, "the network has no output \"%s\"", w->o->output);
    w->context = g->value[tokens].dim[1];
    mark_needed(w, out);
    mark_timed(w, tokens);
    if (!w->timed[out] || g->value[out].ndim != 3)
        return dt_fail(DT_ERR_UNSUPPORTED,
                       "%s, the network's result, is %s, not numbers for each place of a text",
                       g->value[out].name, dt_value_shape_text(&g->value[out]));
    find_last(w, out);
    for (dt_vid v = 0; v < g->n_value; v++)
        if (w->needed[v] && g->value[v].producer < 0) DT_TRY(copy_value(w, v, tokens));
    DT_TRY(write_nodes(w));
    return dt_graph_add_output(w->to, w->o->output, w->map[out]);
}

dt_status dt_decode_graph(const dt_graph *g, const dt_decode_options *o, dt_decode_facts *facts,
                          dt_graph **out) {
    const size_t n = (size_t)g->n_value + 1;
    work w = {.from = g,
              .o = o,
              .facts.positions = INT64_MAX,
              .timed = calloc(n, sizeof *w.timed),
              .needed = calloc(n, sizeof *w.needed),
              .map = malloc(n * sizeof *w.map),
              .start = -1,
              .count = -1,
              .place = -1,
              .last = -1};
    *out = NULL;
    dt_status st = w.timed && w.needed && w.map ? dt_graph_create(&w.to, g->compute, false)
                                                : dt_fail(DT_ERR_MEMORY, "no memory for a pass");
    if (st == DT_OK) {
        for (dt_vid v = 0; v < g->n_value; v++) w.map[v] = -1;
        st = write_graph(&w);
        if (st == DT_OK)
            *out = w.to;
        else
            dt_graph_destroy(w.to);
    }
    if (st == DT_OK && facts) *facts = w.facts;
    free(w.timed);
    free(w.needed);
    free(w.map);
    return st;
}
