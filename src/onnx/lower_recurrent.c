/* LSTM, GRU and RNN: dense layers over all steps, and nodes that walk them. */
#include <stdio.h>
#include <string.h>

#include "lower.h"

typedef struct kind_row {
    dt_recurrent_kind kind;
    int32_t gates;
    int32_t order[4]; /* where each of dtrain's gates stands in the file */
} kind_row;

static const kind_row lstm = {DT_LSTM, 4, {0, 2, 3, 1}}, gru = {DT_GRU, 3, {1, 0, 2}},
                      rnn_tanh = {DT_RNN_TANH, 1, {0}}, rnn_relu = {DT_RNN_RELU, 1, {0}};

typedef struct recurrence {
    const kind_row *row;
    dt_lv *x, *wi, *wh, *b, *lengths, *h0, *c0;
    int64_t steps, rows, units, wide; /* wide: of what it reads */
    int32_t ways;
    bool back_first; /* the only direction is the reverse one */
    bool batch_first;
} recurrence;

/* Rows of the gates of direction `way`, from `at` on, in dtrain's order: [gates H, columns]. */
static const float *gates_of(dt_low *w, const recurrence *r, const dt_lv *v, int32_t way, int64_t per_way,
                             int64_t at, int64_t columns) {
    const int64_t part = r->units * columns;
    const float *from = (const float *)v->t.data + way * per_way + at;
    float *to = dt_low_alloc(w, r->row->gates * part * (int64_t)sizeof *to);
    for (int32_t g = 0; to && g < r->row->gates; g++)
        memcpy(to + g * part, from + r->row->order[g] * part, (size_t)part * sizeof *to);
    return to;
}

static const char *named(char text[DT_NAME_MAX], const dt_lv *v, bool reverse, const char *part) {
    snprintf(text, DT_NAME_MAX, "%.70s%s%s", v->origin ? v->origin : v->name, part,
             reverse ? "_reverse" : "");
    return text;
}

/* State of a direction, [rows, units]; -1: zeros. */
static dt_vid state_of(dt_low *w, const recurrence *r, dt_lv *v, int32_t way) {
    float all;
    if (!v || (dt_low_uniform(v, &all) && all == 0)) return -1;
    const dt_vid s = dt_low_slice(w, v->name, dt_low_plain(w, v), r->batch_first ? 1 : 0, way, 1);
    return dt_low_reshape(w, v->name, s, 2, (int64_t[]){r->rows, r->units});
}

/* One direction: every h, [rows, steps, units], and the last states. */
static dt_vid add_way(dt_low *w, const dt_low_node *n, const recurrence *r, dt_vid x, int32_t way,
                      dt_vid end[2]) {
    const bool reverse = way == 1 || r->back_first;
    const int64_t gates = r->row->gates, tall = gates * r->units;
    char name[DT_NAME_MAX];
    const float *wi = gates_of(w, r, r->wi, way, tall * r->wide, 0, r->wide),
                *wh = gates_of(w, r, r->wh, way, tall * r->units, 0, r->units),
                *bi = r->b ? gates_of(w, r, r->b, way, 2 * tall, 0, 1) : NULL,
                *bh = r->b ? gates_of(w, r, r->b, way, 2 * tall, tall, 1) : NULL;
    if (w->st != DT_OK) return -1;
    dt_vid in[] = {
        x, dt_low_param(w, named(name, r->wi, reverse, ""), wi, 2, (int64_t[]){tall, r->wide}, true, true),
        -1};
    if (bi) in[2] = dt_low_param_f32(w, named(name, r->b, reverse, ".ih"), bi, tall);
    const dt_vid lengths =
        r->lengths ? dt_low_cast(w, r->lengths->name, dt_low_plain(w, r->lengths), DT_DTYPE_I32) : -1;
    const dt_vid of[] = {
        [DT_RNN_IN_GATES] =
            dt_low_add(w, n->node->out[0][0] ? n->node->out[0] : n->node->op, DT_OP_DENSE, NULL, 3, in),
        [DT_RNN_IN_W] =
            dt_low_param(w, named(name, r->wh, reverse, ""), wh, 2, (int64_t[]){tall, r->units}, true, true),
        [DT_RNN_IN_B] = bh ? dt_low_param_f32(w, named(name, r->b, reverse, ".hh"), bh, tall) : -1,
        [DT_RNN_IN_H0] = state_of(w, r, r->h0, way),
        [DT_RNN_IN_C0] = r->row->kind == DT_LSTM ? state_of(w, r, r->c0, way) : -1,
        [DT_RNN_IN_LENGTHS] = lengths};
    if (w->st != DT_OK) return -1;
    const dt_attr t = {.recurrent = {.kind = r->row->kind, .reverse = reverse}};
    uint32_t wanted = dt_low_out(n, 1) ? 1u << DT_RNN_OUT_H : 0;
    if (dt_low_out(n, 2)) wanted |= 1u << DT_RNN_OUT_C;
    if (w->g->training && r->row->kind >= DT_GRU) wanted |= 1u << DT_RNN_OUT_ACT | 1u << DT_RNN_OUT_CELL;
    snprintf(name, sizeof name, "%.60s/steps%d.%d", n->node->out[0][0] ? n->node->out[0] : n->node->op, way,
             w->counter++);
    w->st =
        dt_graph_add_node_with(w->g, name, DT_OP_RECURRENT, &t, sizeof of / sizeof of[0], of, wanted, NULL);
    if (w->st != DT_OK) return -1;
    const dt_node *made = &w->g->node[w->g->n_node - 1];
    end[0] = made->out[DT_RNN_OUT_H], end[1] = made->out[DT_RNN_OUT_C];
    return made->out[DT_RNN_OUT_Y];
}

/* The directions side by side along a new dimension `axis` of v[way], which has the shape `dim`. */
static dt_vid side_by_side(dt_low *w, const char *name, int32_t ways, dt_vid *v, int32_t ndim,
                           const int64_t *dim, int32_t axis) {
    int64_t with[DT_MAX_DIM];
    for (int32_t i = 0; i <= ndim; i++) with[i] = i < axis ? dim[i] : i == axis ? 1 : dim[i - 1];
    for (int32_t k = 0; k < ways; k++) v[k] = dt_low_reshape(w, name, v[k], ndim + 1, with);
    return ways == 1 ? v[0] : dt_low_add(w, name, DT_OP_CONCAT, &(dt_attr){.shape.axis = axis}, ways, v);
}

static bool given(const dt_lv *v) {
    return v && dt_low_known(v) && dt_low_is_real(v) && !v->rowwise && v->t.ndim >= 2;
}

/* Whether an LSTM or a GRU has its usual functions, in every direction. */
static bool has_usual_functions(const dt_onnx_node *n, const kind_row *row) {
    static const char *const usual[] = {"Sigmoid", "Tanh", "Tanh"};
    const int64_t each = row->kind == DT_LSTM ? 3 : 2;
    const dt_onnx_attr *a = dt_onnx_attr_find(n, "activations");
    if (!a) return true;
    if (a->kind != DT_ONNX_STRINGS || a->n % each != 0) return false;
    for (int64_t i = 0; i < a->n; i++)
        if (strcasecmp(a->strings[i], usual[i % each]) != 0) return false;
    return true;
}

static bool recurrent(dt_low *w, const dt_low_node *n, const kind_row *row) {
    const char *direction = dt_onnx_attr_text(n->node, "direction", "forward");
    recurrence r = {.row = row,
                    .x = dt_low_in(n, 0),
                    .wi = dt_low_in(n, 1),
                    .wh = dt_low_in(n, 2),
                    .b = dt_low_in(n, 3),
                    .lengths = dt_low_in(n, 4),
                    .h0 = dt_low_in(n, 5),
                    .c0 = dt_low_in(n, 6),
                    .ways = strcmp(direction, "bidirectional") == 0 ? 2 : 1,
                    .back_first = strcmp(direction, "reverse") == 0,
                    .batch_first = dt_onnx_attr_int(n->node, "layout", 0) != 0};
    const dt_onnx_attr *clip = dt_onnx_attr_find(n->node, "clip");
    if (!r.x || !dt_low_is_real(r.x) || dt_low_is_empty(r.x) || !given(r.wi) || !given(r.wh) ||
        (r.b && !given(r.b)) || clip || dt_low_in(n, 7) ||
        dt_onnx_attr_int(n->node, "input_forget", 0) != 0 ||
        (row->kind == DT_GRU && dt_onnx_attr_int(n->node, "linear_before_reset", 0) == 0) ||
        (r.lengths && r.lengths->opaque))
        return false;
    if (row->kind >= DT_GRU && !has_usual_functions(n->node, row)) return false;
    r.steps = r.x->t.dim[r.batch_first ? 1 : 0], r.rows = r.x->t.dim[r.batch_first ? 0 : 1],
    r.wide = r.x->t.dim[2];
    r.units = r.wh->t.dim[2];
    static const int32_t turn[] = {1, 0, 2};
    dt_vid x = dt_low_plain(w, r.x), y[2], h[2], c[2], end[2] = {-1, -1};
    if (!r.batch_first) x = dt_low_permute(w, r.x->name, x, turn);
    for (int32_t way = 0; way < r.ways; way++) {
        y[way] = add_way(w, n, &r, x, way, end);
        h[way] = end[0], c[way] = end[1];
    }
    dt_lv *const out[] = {dt_low_out(n, 0), dt_low_out(n, 1), dt_low_out(n, 2)};
    for (int32_t way = 0; out[0] && !r.batch_first && way < r.ways; way++)
        y[way] = dt_low_permute(w, out[0]->name, y[way], turn);
    if (out[0] && r.batch_first)
        dt_low_set(w, out[0],
                   side_by_side(w, out[0]->name, r.ways, y, 3, (int64_t[]){r.rows, r.steps, r.units}, 2),
                   false);
    else if (out[0])
        dt_low_set(w, out[0],
                   side_by_side(w, out[0]->name, r.ways, y, 3, (int64_t[]){r.steps, r.rows, r.units}, 1),
                   false);
    for (int32_t k = 1; k < 3; k++)
        if (out[k])
            dt_low_set(w, out[k],
                       side_by_side(w, out[k]->name, r.ways, k == 1 ? h : c, 2, (int64_t[]){r.rows, r.units},
                                    r.batch_first ? 1 : 0),
                       false);
    return true;
}

static bool lower_lstm(dt_low *w, const dt_low_node *n) {
    return recurrent(w, n, &lstm);
}
static bool lower_gru(dt_low *w, const dt_low_node *n) {
    return recurrent(w, n, &gru);
}

/* One function for all directions, tanh or relu. */
static bool lower_rnn(dt_low *w, const dt_low_node *n) {
    const dt_onnx_attr *a = dt_onnx_attr_find(n->node, "activations");
    bool relu = false;
    for (int64_t i = 0; a && a->kind == DT_ONNX_STRINGS && i < a->n; i++) {
        const bool is = strcasecmp(a->strings[i], "Relu") == 0;
        if ((!is && strcasecmp(a->strings[i], "Tanh") != 0) || (i > 0 && is != relu)) return false;
        relu = is;
    }
    return recurrent(w, n, relu ? &rnn_relu : &rnn_tanh);
}

const dt_low_row dt_low_recurrent[] = {
    {"LSTM", lower_lstm},
    {"GRU", lower_gru},
    {"RNN", lower_rnn},
    {NULL, NULL},
};
