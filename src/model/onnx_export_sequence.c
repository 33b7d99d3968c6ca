/* What ONNX has for sequences: attention is products and a softmax, a recurrence takes its gates in another order. */
#include <math.h>
#include <string.h>

#include "onnx_export_private.h"

#define OP(op, name, in, attr) dt_onnx_draft_op(&x->d, op, name, in, attr)
#define ONE(a)                 DT_ONNX_IN(a)
#define TWO(a, b)              DT_ONNX_IN(a, b)
#define NONE                   DT_ONNX_PLAIN

static const char *ints(dt_onnx_exporter *x, int32_t n, const int64_t *value) {
    return dt_onnx_draft_i64s(&x->d, n, value);
}

static const char *shaped(dt_onnx_exporter *x, const char *from, int32_t n, const int64_t *dim) {
    return OP("Reshape", NULL, TWO(from, ints(x, n, dim)), NONE);
}

static const char *turned(dt_onnx_exporter *x, const char *name, const char *from, int32_t n,
                          const int64_t *perm) {
    return OP("Transpose", name, ONE(from), DT_ONNX_ATTR(dt_onnx_ints("perm", n, perm)));
}

/* Dimension `axis` is added. */
static const char *widened(dt_onnx_exporter *x, const char *from, int64_t axis) {
    return OP("Unsqueeze", NULL, TWO(from, ints(x, 1, &axis)), NONE);
}

/* Places begin to begin + n along an axis. */
static const char *part(dt_onnx_exporter *x, const char *from, int64_t axis, int64_t begin, int64_t n) {
    const int64_t end = begin + n;
    return OP("Slice", NULL, DT_ONNX_IN(from, ints(x, 1, &begin), ints(x, 1, &end), ints(x, 1, &axis)), NONE);
}

/* i64 0, 1, ... of this shape, one dimension of which is not 1. */
static const char *counted(dt_onnx_exporter *x, int64_t n, int32_t ndim, const int64_t *dim) {
    int64_t *all = dt_onnx_alloc(x->d.m, n * (int64_t)sizeof *all);
    for (int64_t i = 0; all && i < n; i++) all[i] = i;
    if (!all) {
        dt_onnx_draft_fail(&x->d, "no memory for a constant");
        return "";
    }
    return dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_I64, ndim, dim, all, true);
}

/* ---- attention ---- */

static const char *both(dt_onnx_exporter *x, const char *a, const char *b) {
    return !a ? b : OP("And", NULL, TWO(a, b), NONE);
}

/* i64 [B,1,1] of the rows' lengths, or a constant where they all are full. */
static const char *length_of(dt_onnx_exporter *x, dt_vid lengths, int64_t full) {
    if (lengths < 0) return ints(x, 1, &full);
    return shaped(x, dt_onnx_see(x, lengths, DT_ONNX_SAME), 3, (int64_t[]){-1, 1, 1});
}

/* bool [B or 1, 1, T, S]: which query sees which key (core/attention.h); NULL: each sees all. */
static const char *make_mask(dt_onnx_exporter *x, const dt_onnx_mask *m) {
    const int64_t t = m->t, s = m->s;
    const char *mask = NULL, *places = counted(x, s, 3, (int64_t[]){1, 1, s});
    const char *keys = length_of(x, m->lengths, s), *queries = length_of(x, m->q_lengths, t);
    const char *query = counted(x, t, 3, (int64_t[]){1, t, 1});
    if (m->lengths >= 0) mask = OP("Less", NULL, TWO(places, keys), NONE);
    if (m->q_lengths >= 0) mask = both(x, mask, OP("Less", NULL, TWO(query, queries), NONE));
    if (m->causal || m->window > 0) {
        const char *at = OP("Add", NULL, TWO(query, OP("Sub", NULL, TWO(keys, queries), NONE)), NONE);
        if (m->causal) mask = both(x, mask, OP("LessOrEqual", NULL, TWO(places, at), NONE));
        if (m->window > 0) {
            const char *wide = ints(x, 1, &m->window);
            mask = both(x, mask, OP("Less", NULL, TWO(at, OP("Add", NULL, TWO(places, wide), NONE)), NONE));
            if (!m->causal)
                mask =
                    both(x, mask, OP("Less", NULL, TWO(places, OP("Add", NULL, TWO(at, wide), NONE)), NONE));
        }
    }
    if (m->segments >= 0) {
        const char *of = dt_onnx_see(x, m->segments, DT_ONNX_SAME);
        mask = both(x, mask, OP("Equal", NULL, TWO(widened(x, of, 2), widened(x, of, 1)), NONE));
    }
    return mask ? widened(x, mask, 1) : NULL;
}

static bool same_mask(const dt_onnx_mask *a, const dt_onnx_mask *b) {
    return a->lengths == b->lengths && a->q_lengths == b->q_lengths && a->segments == b->segments &&
           a->t == b->t && a->s == b->s && a->window == b->window && a->causal == b->causal;
}

static dt_vid slot(const dt_node *n, int32_t k) {
    return dt_node_has(n, k) ? n->in[k] : -1;
}

static const char *mask_of(dt_onnx_exporter *x, const dt_node *n, const dt_attention_dims *a) {
    dt_onnx_mask m = {.lengths = slot(n, DT_ATTENTION_IN_LENGTHS),
                      .q_lengths = slot(n, DT_ATTENTION_IN_Q_LENGTHS),
                      .segments = slot(n, DT_ATTENTION_IN_SEGMENTS),
                      .t = a->t,
                      .s = a->s,
                      .window = a->window,
                      .causal = a->causal};
    for (int32_t i = 0; i < x->n_mask; i++)
        if (same_mask(&x->mask[i], &m)) return x->mask[i].name;
    m.name = make_mask(x, &m);
    if (x->n_mask < DT_ONNX_SHARED) x->mask[x->n_mask++] = m;
    return m.name;
}

/* [B,T,heads D] as [B,heads,T,D], or with `swap` [B,heads,D,T]; few heads serve `repeat` times as many. */
static const char *by_head(dt_onnx_exporter *x, const char *from, int64_t t, int64_t heads, int64_t d,
                           bool swap, int64_t repeat) {
    static const int64_t plain[4] = {0, 2, 1, 3}, swapped[4] = {0, 2, 3, 1};
    const char *y = shaped(x, from, 4, (int64_t[]){0, t, heads, d});
    y = turned(x, NULL, y, 4, swap ? swapped : plain);
    if (repeat == 1) return y;
    y = widened(x, y, 2);
    y = OP("Expand", NULL, TWO(y, ints(x, 5, (int64_t[]){1, 1, repeat, 1, 1})), NONE);
    return shaped(x, y, 4, (int64_t[]){0, heads * repeat, swap ? d : t, swap ? t : d});
}

void dt_onnx_put_attention(dt_onnx_exporter *x, const dt_node *n) {
    const dt_attention_dims a = dt_op_attention_dims(x->g, n);
    const int64_t repeat = a.heads / a.kv_heads;
    const char *q = dt_onnx_see(x, n->in[DT_ATTENTION_IN_Q], DT_ONNX_SAME), *k, *v;
    if (a.packed) {
        const char *all = q;
        q = part(x, all, 2, 0, a.heads * a.d);
        k = part(x, all, 2, a.heads * a.d, a.kv_heads * a.d);
        v = part(x, all, 2, (a.heads + a.kv_heads) * a.d, a.kv_heads * a.d);
    } else {
        k = dt_onnx_see(x, n->in[DT_ATTENTION_IN_K], DT_ONNX_SAME);
        v = dt_onnx_see(x, n->in[DT_ATTENTION_IN_V], DT_ONNX_SAME);
    }
    q = by_head(x, q, a.t, a.heads, a.d, false, 1);
    k = by_head(x, k, a.s, a.kv_heads, a.d, true, repeat);
    v = by_head(x, v, a.s, a.kv_heads, a.d, false, repeat);
    q = OP("Mul", NULL, TWO(q, dt_onnx_draft_f32(&x->d, a.scale)), NONE);
    const char *scores = OP("MatMul", NULL, TWO(q, k), NONE), *mask = mask_of(x, n, &a);
    if (mask) scores = OP("Where", NULL, DT_ONNX_IN(mask, scores, dt_onnx_draft_f32(&x->d, -3e38f)), NONE);
    const char *p = OP("Softmax", NULL, ONE(scores), DT_ONNX_ATTR(dt_onnx_int("axis", -1)));
    const bool may_be_blind =
        slot(n, DT_ATTENTION_IN_LENGTHS) >= 0 || slot(n, DT_ATTENTION_IN_Q_LENGTHS) >= 0;
    if (may_be_blind) p = OP("Where", NULL, DT_ONNX_IN(mask, p, dt_onnx_draft_f32(&x->d, 0)), NONE);
    const char *y = turned(x, NULL, OP("MatMul", NULL, TWO(p, v), NONE), 4, (int64_t[]){0, 2, 1, 3});
    dt_onnx_set(
        x, n->out[0], DT_ONNX_SAME,
        OP("Reshape", dt_onnx_result(x, n), TWO(y, ints(x, 3, (int64_t[]){0, a.t, a.heads * a.d})), NONE));
}

/* ---- places ---- */

/* sin and cos of (t + 0) times each pair's speed: [steps, 1, dims / 2]. */
static const char *const *turns_of(dt_onnx_exporter *x, const dt_rope_attr *r, int64_t steps, int64_t dims) {
    static const char *const none[2] = {"", ""};
    for (int32_t i = 0; i < x->n_turns; i++)
        if (x->turns[i].theta == r->theta && x->turns[i].steps == steps && x->turns[i].dims == dims)
            return x->turns[i].name;
    if (x->n_turns == DT_ONNX_SHARED) x->n_turns--;
    dt_onnx_turns *t = &x->turns[x->n_turns++];
    *t = (dt_onnx_turns){.theta = r->theta, .steps = steps, .dims = dims};
    for (int k = 0; k < 2; k++) {
        float *all = dt_onnx_alloc(x->d.m, steps * (dims / 2) * (int64_t)sizeof *all);
        if (!all) {
            dt_onnx_draft_fail(&x->d, "no memory for a constant");
            return none;
        }
        for (int64_t s = 0; s < steps; s++)
            for (int64_t i = 0; i < dims / 2; i++) {
                const double angle = (double)s * dt_rope_speed(r, i, dims);
                all[s * (dims / 2) + i] = (float)(k ? cos(angle) : sin(angle));
            }
        t->name[k] =
            dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_F32, 3, (int64_t[]){steps, 1, dims / 2}, all, true);
    }
    return t->name;
}

void dt_onnx_put_rope(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *v = dt_onnx_value(x, n->in[0]);
    const dt_rope_attr *r = &n->attr.rope;
    const int64_t steps = v->dim[1], heads = v->dim[2], all = v->dim[3], dims = dt_rope_dims(r, all);
    if (dt_node_has(n, 1)) {
        dt_onnx_draft_fail(&x->d, "%s (rope): places that begin elsewhere are not exported",
                           dt_onnx_result(x, n));
        return;
    }
    const char *const *turn = turns_of(x, r, steps, dims);
    const char *in = dt_onnx_see(x, n->in[0], DT_ONNX_SAME), *pair[2], *y[2];
    const char *moved = dims < all ? part(x, in, 3, 0, dims) : in;
    if (r->interleaved) {
        moved = shaped(x, moved, 5, (int64_t[]){0, steps, heads, dims / 2, 2});
        for (int i = 0; i < 2; i++)
            pair[i] = OP("Squeeze", NULL, TWO(part(x, moved, 4, i, 1), ints(x, 1, &(int64_t){4})), NONE);
    } else {
        for (int i = 0; i < 2; i++) pair[i] = part(x, moved, 3, i * (dims / 2), dims / 2);
    }
    for (int i = 0; i < 2; i++)
        y[i] = OP(
            i ? "Add" : "Sub", NULL,
            TWO(OP("Mul", NULL, TWO(pair[i], turn[1]), NONE), OP("Mul", NULL, TWO(pair[!i], turn[0]), NONE)),
            NONE);
    const bool rest = dims < all;
    if (r->interleaved)
        for (int i = 0; i < 2; i++) y[i] = widened(x, y[i], 4);
    const char *joined = OP("Concat", rest || r->interleaved ? NULL : dt_onnx_result(x, n), TWO(y[0], y[1]),
                            DT_ONNX_ATTR(dt_onnx_int("axis", -1)));
    if (r->interleaved)
        joined = OP("Reshape", rest ? NULL : dt_onnx_result(x, n),
                    TWO(joined, ints(x, 4, (int64_t[]){0, steps, heads, dims})), NONE);
    if (rest)
        joined = OP("Concat", dt_onnx_result(x, n), TWO(joined, part(x, in, 3, dims, all - dims)),
                    DT_ONNX_ATTR(dt_onnx_int("axis", -1)));
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME, joined);
}

void dt_onnx_put_position(dt_onnx_exporter *x, const dt_node *n) {
    const dt_value *v = dt_onnx_value(x, n->in[0]);
    const int64_t steps = v->dim[1], c = v->dim[2];
    float *table = dt_onnx_alloc(x->d.m, steps * c * (int64_t)sizeof *table);
    if (!table || dt_node_has(n, 1)) {
        dt_onnx_draft_fail(&x->d, "%s (position): places that begin elsewhere are not exported",
                           dt_onnx_result(x, n));
        return;
    }
    for (int64_t t = 0; t < steps; t++)
        for (int64_t i = 0; i < c; i++) {
            const double angle = (double)t * dt_rope_speed(&n->attr.rope, i / 2, c);
            table[t * c + i] = (float)(i % 2 ? cos(angle) : sin(angle));
        }
    const char *places =
        dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_F32, 2, (int64_t[]){steps, c}, table, true);
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME,
                OP("Add", dt_onnx_result(x, n), TWO(dt_onnx_see(x, n->in[0], DT_ONNX_SAME), places), NONE));
}

/* ---- tables ---- */

void dt_onnx_put_embed(dt_onnx_exporter *x, const dt_node *n) {
    const bool own = dt_onnx_value(x, n->in[DT_EMBED_IN_WEIGHT])->ndim == 3;
    const char *table = dt_onnx_see(x, n->in[DT_EMBED_IN_WEIGHT], DT_ONNX_SAME),
               *index = dt_onnx_see(x, n->in[DT_EMBED_IN_INDEX], DT_ONNX_SAME);
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME,
                own ? OP("GatherND", dt_onnx_result(x, n), TWO(table, widened(x, index, -1)),
                         DT_ONNX_ATTR(dt_onnx_int("batch_dims", 1)))
                    : OP("Gather", dt_onnx_result(x, n), TWO(table, index), NONE));
}

void dt_onnx_put_one_hot(dt_onnx_exporter *x, const dt_node *n) {
    const float off_on[2] = {0, 1};
    const char *values = dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_F32, 1, &(int64_t){2}, off_on, false);
    dt_onnx_set(
        x, n->out[0], DT_ONNX_SAME,
        OP("OneHot", dt_onnx_result(x, n),
           DT_ONNX_IN(dt_onnx_see(x, n->in[0], DT_ONNX_SAME), ints(x, 1, &n->attr.embed.rows), values),
           NONE));
}

/* ---- recurrences ---- */

typedef struct recurrent_row {
    const char *op, *activation; /* NULL: the op's own */
    int32_t gate[4];             /* ONNX's gates, in ours */
} recurrent_row;

static const recurrent_row recurrent_table[DT_RECURRENT_COUNT] = {
    [DT_RNN_TANH] = {"RNN", "Tanh", {0}},
    [DT_RNN_RELU] = {"RNN", "Relu", {0}},
    [DT_GRU] = {"GRU", NULL, {1, 0, 2}},     /* z r h of r z n */
    [DT_LSTM] = {"LSTM", NULL, {0, 3, 1, 2}} /* i o f c of i f g o */
};

/* A weight or bias of all gates, in ONNX's order. */
static const char *gates_of(dt_onnx_exporter *x, const char *from, dt_recurrent_kind kind, int64_t h) {
    const int32_t n = dt_recurrent_gates(kind);
    const char *piece[4];
    if (n == 1) return from;
    for (int32_t i = 0; i < n; i++) piece[i] = part(x, from, 0, recurrent_table[kind].gate[i] * h, h);
    return dt_onnx_draft_op(&x->d, "Concat", NULL, piece, n, DT_ONNX_ATTR(dt_onnx_int("axis", 0)));
}

static const char *zeros(dt_onnx_exporter *x, int64_t n) {
    float *all = dt_onnx_alloc(x->d.m, n * (int64_t)sizeof *all);
    if (!all) {
        dt_onnx_draft_fail(&x->d, "no memory for a constant");
        return "";
    }
    return dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_F32, 1, &n, all, true);
}

/* The unit matrix: gates that are there already are their own product. */
static const char *unit_of(dt_onnx_exporter *x, int64_t n) {
    float *all = dt_onnx_alloc(x->d.m, n * n * (int64_t)sizeof *all);
    if (!all) {
        dt_onnx_draft_fail(&x->d, "no memory for a constant");
        return "";
    }
    for (int64_t i = 0; i < n; i++) all[i * n + i] = 1;
    return dt_onnx_draft_constant(&x->d, NULL, DT_TENSOR_F32, 2, (int64_t[]){n, n}, all, true);
}

/* Operands of ONNX's op: X, W, R, B, lengths, first states. */
static int32_t put_operands(dt_onnx_exporter *x, const dt_node *n, const char *in[7]) {
    const dt_recurrent_kind kind = n->attr.recurrent.kind;
    const dt_value *w = dt_onnx_value(x, n->in[DT_RNN_IN_W]);
    const int64_t h = w->dim[1], wide = w->dim[0];
    const dt_nid made = dt_graph_maker(x->g, n->in[DT_RNN_IN_GATES], DT_OP_DENSE);
    const dt_node *dense = made >= 0 && x->within[made] ? &x->g->node[made] : NULL;
    const char *of = dt_onnx_see(x, dense ? dense->in[DT_DENSE_IN_X] : n->in[DT_RNN_IN_GATES], DT_ONNX_SAME);
    const char *w_ih = dense ? dt_onnx_see(x, dense->in[DT_DENSE_IN_W], DT_ONNX_SAME) : unit_of(x, wide);
    const char *b_ih = dense ? dt_onnx_see_in(x, dense, DT_DENSE_IN_BIAS, DT_ONNX_SAME) : "";
    const char *b_hh = dt_onnx_see_in(x, n, DT_RNN_IN_B, DT_ONNX_SAME);
    in[0] = turned(x, NULL, of, 3, (int64_t[]){1, 0, 2});
    in[1] = widened(x, gates_of(x, w_ih, kind, h), 0);
    in[2] = widened(x, gates_of(x, dt_onnx_see(x, n->in[DT_RNN_IN_W], DT_ONNX_SAME), kind, h), 0);
    in[3] = in[4] = in[5] = in[6] = "";
    if (*b_ih || *b_hh) {
        const char *b[2] = {*b_ih ? gates_of(x, b_ih, kind, h) : zeros(x, wide),
                            *b_hh ? gates_of(x, b_hh, kind, h) : zeros(x, wide)};
        in[3] = widened(x, OP("Concat", NULL, TWO(b[0], b[1]), DT_ONNX_ATTR(dt_onnx_int("axis", 0))), 0);
    }
    if (dt_node_has(n, DT_RNN_IN_LENGTHS))
        in[4] = OP("Cast", NULL, ONE(dt_onnx_see(x, n->in[DT_RNN_IN_LENGTHS], DT_ONNX_SAME)),
                   DT_ONNX_ATTR(dt_onnx_int("to", 6)));
    if (dt_node_has(n, DT_RNN_IN_H0))
        in[5] = widened(x, dt_onnx_see(x, n->in[DT_RNN_IN_H0], DT_ONNX_SAME), 0);
    if (dt_node_has(n, DT_RNN_IN_C0))
        in[6] = widened(x, dt_onnx_see(x, n->in[DT_RNN_IN_C0], DT_ONNX_SAME), 0);
    int32_t n_in = 7;
    while (!*in[n_in - 1]) n_in--;
    return n_in;
}

void dt_onnx_put_recurrent(dt_onnx_exporter *x, const dt_node *n) {
    const dt_recurrent_kind kind = n->attr.recurrent.kind;
    const recurrent_row *row = &recurrent_table[kind];
    const char *in[7], *out[3] = {"", "", ""};
    char name[3][DT_NAME_MAX + 8];
    const int32_t n_in = put_operands(x, n, in), n_out = kind == DT_LSTM ? 3 : 2;
    for (int32_t k = 0; k < n_out; k++) {
        if (!dt_node_makes(n, k)) continue;
        snprintf(name[k], sizeof name[k], "%s.all%d", dt_onnx_result(x, n), k);
        out[k] = name[k];
    }
    dt_onnx_draft_node(
        &x->d, row->op, "", in, n_in, out, n_out,
        DT_ONNX_ATTR(dt_onnx_int("hidden_size", dt_onnx_value(x, n->in[DT_RNN_IN_W])->dim[1]),
                     dt_onnx_word("direction", n->attr.recurrent.reverse ? "reverse" : "forward"),
                     dt_onnx_int(kind == DT_GRU ? "linear_before_reset" : NULL, 1),
                     dt_onnx_words(row->activation ? "activations" : NULL, 1, &row->activation)));
    const char *y = OP("Squeeze", NULL, TWO(out[0], ints(x, 1, &(int64_t){1})), NONE);
    dt_onnx_set(x, n->out[0], DT_ONNX_SAME, turned(x, dt_onnx_result(x, n), y, 3, (int64_t[]){1, 0, 2}));
    for (int32_t k = DT_RNN_OUT_H; k < n_out; k++)
        if (*out[k])
            dt_onnx_set(
                x, n->out[k], DT_ONNX_SAME,
                OP("Squeeze", x->g->value[n->out[k]].name, TWO(out[k], ints(x, 1, &(int64_t){0})), NONE));
}
