/* Recurrent layers: for each layer and direction a dense layer over all steps and a node that walks them. */
#include <stdio.h>

#include "core/op.h"
#include "model/builder.h"

/* A stack while it grows. */
typedef struct stack {
    dt_builder *b;
    const char *name, *type;
    dt_recurrent_kind kind;
    const dt_recurrent_options *o;
    int64_t ways;           /* directions */
    bool ends;              /* the last states of all layers are wanted */
    dt_vid lengths, h0, c0; /* states: [B, layers * ways * hidden]; -1: none */
    dt_vid h[DT_RECURRENT_LAYERS * 2], c[DT_RECURRENT_LAYERS * 2]; /* last states */
} stack;

/* "<name><sep><what>_l<layer>[_reverse]", PyTorch's names after a dot. */
static bool name_part(const stack *s, const char *sep, const char *what, int64_t layer, bool reverse,
                      char text[DT_NAME_MAX]) {
    const int n = snprintf(text, DT_NAME_MAX, "%s%s%s_l%lld%s", s->name, sep, what, (long long)layer,
                           reverse ? "_reverse" : "");
    if (n < DT_NAME_MAX) return true;
    s->b->status = dt_fail(DT_ERR_CONFIG, "%s (%s): its name is too long", s->name, s->type);
    return false;
}

/* "<name>/<what>" */
static bool name_whole(const stack *s, const char *what, char text[DT_NAME_MAX]) {
    if (snprintf(text, DT_NAME_MAX, "%s/%s", s->name, what) < DT_NAME_MAX) return true;
    s->b->status = dt_fail(DT_ERR_CONFIG, "%s (%s): its name is too long", s->name, s->type);
    return false;
}

static dt_vid add_op(const stack *s, const char *what, int64_t layer, bool reverse, dt_op op,
                     const dt_attr *attr, int32_t n_in, const dt_vid *in) {
    char full[DT_NAME_MAX];
    if (s->b->status != DT_OK || !name_part(s, "/", what, layer, reverse, full)) return -1;
    return dt_build_op(s->b, full, op, attr, n_in, in);
}

/* U(-1/sqrt(hidden), +), whatever it is. */
static dt_vid add_param(const stack *s, const char *what, int64_t layer, bool reverse, int32_t ndim,
                        const int64_t *dim) {
    char full[DT_NAME_MAX];
    dt_builder *b = s->b;
    dt_vid v = -1;
    if (b->status != DT_OK || !name_part(s, ".", what, layer, reverse, full)) return -1;
    b->status =
        dt_graph_add_value(b->g, full, DT_ROLE_PARAM, ndim > 1 ? b->g->compute : DT_DTYPE_F32, ndim, dim, &v);
    if (b->status != DT_OK) return -1;
    b->g->value[v].init = DT_INIT_UNIFORM_FAN_IN;
    b->g->value[v].fan_in = s->o->hidden;
    b->g->value[v].fan_out = dim[0];
    b->g->value[v].decay = ndim > 1;
    return v;
}

/* Part i of the states. */
static dt_vid state_of(const stack *s, const char *what, dt_vid states, int64_t layer, bool reverse) {
    const int64_t i = layer * s->ways + reverse;
    const dt_attr t = {.shape = {.axis = 1, .begin = i * s->o->hidden, .length = s->o->hidden}};
    if (states < 0 || s->o->layers * s->ways == 1) return states;
    return add_op(s, what, layer, reverse, DT_OP_SLICE, &t, 1, &states);
}

/* One layer in one direction; its output. `name`: of the node. */
static dt_vid add_layer(stack *s, const char *name, int64_t layer, bool reverse, dt_vid x) {
    dt_builder *b = s->b;
    if (b->status != DT_OK) return -1;
    const int64_t hidden = s->o->hidden, wide = dt_recurrent_gates(s->kind) * hidden,
                  at = layer * s->ways + reverse;
    const dt_value *xv = &b->g->value[x];
    const int64_t ih[] = {wide, xv->dim[xv->ndim - 1]}, hh[] = {wide, hidden};
    const dt_vid w_ih = add_param(s, "weight_ih", layer, reverse, 2, ih),
                 w_hh = add_param(s, "weight_hh", layer, reverse, 2, hh);
    const dt_vid b_ih = s->o->no_bias ? -1 : add_param(s, "bias_ih", layer, reverse, 1, &wide),
                 b_hh = s->o->no_bias ? -1 : add_param(s, "bias_hh", layer, reverse, 1, &wide);
    const dt_vid gates = add_op(s, "gates", layer, reverse, DT_OP_DENSE, NULL, 3, (dt_vid[]){x, w_ih, b_ih});
    const dt_vid in[] = {[DT_RNN_IN_GATES] = gates,
                         [DT_RNN_IN_W] = w_hh,
                         [DT_RNN_IN_B] = b_hh,
                         [DT_RNN_IN_H0] = state_of(s, "h0", s->h0, layer, reverse),
                         [DT_RNN_IN_C0] = state_of(s, "c0", s->c0, layer, reverse),
                         [DT_RNN_IN_LENGTHS] = s->lengths};
    const dt_attr t = {.recurrent = {.kind = s->kind, .reverse = reverse}};
    uint32_t wanted = s->ends || s->o->last ? 1u << DT_RNN_OUT_H : 0;
    if (s->ends && s->kind == DT_LSTM) wanted |= 1u << DT_RNN_OUT_C;
    if (b->g->training && s->kind >= DT_GRU) wanted |= 1u << DT_RNN_OUT_ACT | 1u << DT_RNN_OUT_CELL;
    if (b->status != DT_OK) return -1;
    b->status =
        dt_graph_add_node_with(b->g, name, DT_OP_RECURRENT, &t, sizeof in / sizeof in[0], in, wanted, NULL);
    if (b->status != DT_OK) return -1;
    const dt_node *made = &b->g->node[b->g->n_node - 1];
    s->h[at] = made->out[DT_RNN_OUT_H];
    s->c[at] = made->out[DT_RNN_OUT_C];
    return made->out[DT_RNN_OUT_Y];
}

static dt_vid concat(const stack *s, const char *name, int32_t n, const dt_vid *in, int32_t axis) {
    if (n == 1 || s->b->status != DT_OK) return n == 1 ? in[0] : -1;
    return dt_build_op(s->b, name, DT_OP_CONCAT, &(dt_attr){.shape.axis = axis}, n, in);
}

/* x through layer `layer`. */
static dt_vid add_layers(stack *s, int64_t layer, dt_vid x) {
    const bool top = layer + 1 == s->o->layers;
    char full[DT_NAME_MAX];
    dt_vid y[2];
    for (int64_t way = 0; way < s->ways; way++) {
        if (!name_part(s, "/", "steps", layer, way == 1, full)) return -1;
        y[way] = add_layer(s, top && s->ways == 1 ? s->name : full, layer, way == 1, x);
    }
    if (top && s->o->last) return concat(s, s->name, (int32_t)s->ways, s->h + layer * s->ways, 1);
    if (!name_part(s, "/", "both", layer, false, full)) return -1;
    const dt_vid both = concat(s, top ? s->name : full, (int32_t)s->ways, y, 2);
    if (top || s->o->dropout <= 0 || s->b->status != DT_OK) return both;
    return name_part(s, "/", "dropout", layer, false, full)
               ? dt_build_dropout(s->b, full, both, s->o->dropout)
               : -1;
}

/* v [B, ...] as [B, layers * ways * hidden]; -1 where it is absent. */
static dt_vid states_of(const stack *s, const char *what, dt_vid v) {
    char full[DT_NAME_MAX];
    const int64_t wide = s->o->layers * s->ways * s->o->hidden;
    if (v < 0 || s->b->status != DT_OK) return -1;
    const dt_value *have = &s->b->g->value[v];
    if (dt_value_n_elem(have) != have->dim[0] * wide) {
        s->b->status =
            dt_fail(DT_ERR_CONFIG,
                    "%s (%s): %s, the initial %s, is %s, expected %lld numbers a row: layers x directions x "
                    "hidden",
                    s->name, s->type, have->name, what, dt_value_shape_text(have), (long long)wide);
        return -1;
    }
    if (have->ndim == 2) return v;
    const dt_attr t = {.reshape = {.ndim = 2, .dim = {have->dim[0], wide}}};
    return name_whole(s, what, full) ? dt_build_op(s->b, full, DT_OP_RESHAPE, &t, 1, &v) : -1;
}

dt_vid dt_build_recurrent(dt_builder *b, const char *name, dt_recurrent_kind kind,
                          const dt_build_recurrent_inputs *in, const dt_recurrent_options *o,
                          dt_vid last[2]) {
    static const char *const types[DT_RECURRENT_COUNT] = {"rnn", "rnn", "gru", "lstm"};
    if (b->status != DT_OK) return -1;
    stack s = {
        .b = b, .name = name, .type = types[kind], .kind = kind, .o = o, .ways = o->bidirectional ? 2 : 1};
    const dt_value *xv = &b->g->value[in->x];
    if (xv->ndim != 3)
        b->status =
            dt_fail(DT_ERR_CONFIG, "%s (%s): its input, %s, is %s, not a sequence [rows, steps, channels]",
                    name, s.type, xv->name, dt_value_shape_text(xv));
    if (b->status == DT_OK && o->layers > DT_RECURRENT_LAYERS)
        b->status = dt_fail(DT_ERR_CONFIG, "%s (%s): %lld layers, at most %d", name, s.type,
                            (long long)o->layers, DT_RECURRENT_LAYERS);
    if (b->status != DT_OK) return -1;
    s.lengths = in->lengths;
    s.ends = last != NULL;
    s.h0 = states_of(&s, "h0", in->h0);
    s.c0 = states_of(&s, "c0", in->c0);
    dt_vid y = in->x;
    for (int64_t layer = 0; layer < o->layers && b->status == DT_OK; layer++) y = add_layers(&s, layer, y);
    if (!last || b->status != DT_OK) return b->status == DT_OK ? y : -1;
    const int32_t n = (int32_t)(o->layers * s.ways);
    char full[DT_NAME_MAX];
    if (name_whole(&s, "h", full)) last[0] = concat(&s, full, n, s.h, 1);
    if (kind == DT_LSTM && name_whole(&s, "c", full)) last[1] = concat(&s, full, n, s.c, 1);
    return b->status == DT_OK ? y : -1;
}
