/* Attention: one node for softmax(q k^T) v over all heads, and one for its gradients. */
#include <math.h>

#include "core/attention.h"
#include "op_row.h"

/* Where q, k and v stand in a node, forward or backward. */
static int32_t i_q(const dt_node *n) {
    return n->op == DT_OP_ATTENTION ? DT_ATTENTION_IN_Q : DT_ATTENTION_BWD_IN_Q;
}
static bool is_packed(const dt_node *n) {
    return !dt_node_has(n, i_q(n) + 1);
}

dt_attention_dims dt_op_attention_dims(const dt_graph *g, const dt_node *n) {
    const dt_attention_attr *t = &n->attr.attention;
    const dt_value *q = dt_infer_in(g, n, i_q(n));
    const bool packed = is_packed(n);
    const dt_value *k = packed ? q : dt_infer_in(g, n, i_q(n) + 1);
    dt_attention_dims a = {.b = q->dim[0],
                           .t = q->dim[1],
                           .s = k->dim[1],
                           .heads = t->heads,
                           .kv_heads = t->kv_heads,
                           .q_row = q->dim[2],
                           .kv_row = k->dim[2],
                           .window = t->window,
                           .p = t->dropout,
                           .salt = t->salt,
                           .causal = t->causal,
                           .packed = packed};
    a.d = a.q_row / (a.heads + (packed ? 2 * a.kv_heads : 0));
    a.k_at = packed ? a.heads * a.d : 0;
    a.v_at = packed ? (a.heads + a.kv_heads) * a.d : 0;
    a.scale = t->scale > 0 ? t->scale : (float)(1 / sqrt((double)a.d));
    return a;
}

static dt_status need_options(const dt_attention_attr *t) {
    if (t->heads < 1 || t->kv_heads < 1 || t->heads % t->kv_heads != 0)
        return dt_fail(DT_ERR_CONFIG, "%d heads of %d keys: the heads are a multiple of those of the keys",
                       t->heads, t->kv_heads);
    if (t->window < 0) return dt_fail(DT_ERR_CONFIG, "a window of %d keys", t->window);
    if (!(t->scale >= 0 && isfinite(t->scale)))
        return dt_fail(DT_ERR_CONFIG, "scores are scaled by %g: it is positive, or 0 for 1/sqrt(head size)",
                       (double)t->scale);
    if (!(t->dropout >= 0 && t->dropout < 1))
        return dt_fail(DT_ERR_CONFIG, "dropout rate %g is not in [0, 1)", (double)t->dropout);
    return DT_OK;
}

/* q, k and v fit each other and the heads. */
static dt_status need_heads(const dt_graph *g, const dt_node *n) {
    const dt_attention_attr *t = &n->attr.attention;
    const dt_value *q = dt_infer_in(g, n, i_q(n));
    const int64_t parts = (int64_t)t->heads + (is_packed(n) ? 2 * (int64_t)t->kv_heads : 0);
    DT_TRY(need_options(t));
    if (q->dim[2] % parts != 0)
        return dt_fail(DT_ERR_CONFIG, "%s is %s: its last dimension is not a multiple of %lld heads", q->name,
                       dt_value_shape_text(q), (long long)parts);
    if (is_packed(n)) return DT_OK;
    const dt_value *k = dt_infer_in(g, n, i_q(n) + 1);
    if (k->dim[0] == q->dim[0] && k->dim[2] == q->dim[2] / t->heads * t->kv_heads) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s is %s, expected [%lld,keys,%lld]: %d heads of %lld", k->name,
                   dt_value_shape_text(k), (long long)q->dim[0],
                   (long long)(q->dim[2] / t->heads * t->kv_heads), t->kv_heads,
                   (long long)(q->dim[2] / t->heads));
}

/* Documents are of the positions, which queries and keys share. */
static dt_status need_segments(const dt_graph *g, const dt_node *n, int32_t i_segments) {
    if (!dt_node_has(n, i_segments)) return DT_OK;
    const dt_attention_dims a = dt_op_attention_dims(g, n);
    const int64_t *d = dt_infer_in(g, n, i_segments)->dim;
    if (a.t != a.s)
        return dt_fail(DT_ERR_CONFIG, "segments of %lld queries and %lld keys: they are of one sequence",
                       (long long)a.t, (long long)a.s);
    return d[0] == a.b && d[1] == a.t ? DT_OK : dt_infer_misfit(g, n, i_segments);
}

static dt_status infer_attention(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_heads(g, n));
    DT_TRY(need_segments(g, n, DT_ATTENTION_IN_SEGMENTS));
    const dt_attention_dims a = dt_op_attention_dims(g, n);
    DT_INFER_SET(&out[DT_ATTENTION_OUT_Y], dt_op_type(g, n), a.b, a.t, a.heads * a.d);
    DT_INFER_SET(&out[DT_ATTENTION_OUT_LSE], DT_DTYPE_F32, a.b, a.heads, a.t);
    return DT_OK;
}

static dt_status infer_attention_bwd(const dt_graph *g, const dt_node *n, dt_value *out) {
    DT_TRY(need_heads(g, n));
    DT_TRY(need_segments(g, n, DT_ATTENTION_BWD_IN_SEGMENTS));
    const dt_attention_dims a = dt_op_attention_dims(g, n);
    const int64_t *dy = dt_infer_in(g, n, DT_ATTENTION_BWD_IN_DY)->dim,
                  *lse = dt_infer_in(g, n, DT_ATTENTION_BWD_IN_LSE)->dim;
    if (dy[0] != a.b || dy[1] != a.t || dy[2] != a.heads * a.d)
        return dt_infer_misfit(g, n, DT_ATTENTION_BWD_IN_DY);
    if (lse[0] != a.b || lse[1] != a.heads || lse[2] != a.t)
        return dt_infer_misfit(g, n, DT_ATTENTION_BWD_IN_LSE);
    for (int32_t i = 0; i < (a.packed ? 1 : 3); i++) dt_infer_like(&out[i], dt_infer_in(g, n, i_q(n) + i));
    if (dt_node_makes(n, DT_ATTENTION_BWD_OUT_DK) == a.packed ||
        dt_node_makes(n, DT_ATTENTION_BWD_OUT_DV) == a.packed)
        return dt_fail(DT_ERR_CONFIG, "gradients of k and v are made where these are apart from q");
    return DT_OK;
}

static dt_status grad_attention(dt_graph *g, dt_nid id, const dt_vid *dout, const bool *want, dt_vid *din) {
    const dt_node n = g->node[id];
    const bool packed = is_packed(&n);
    dt_vid dq, in[DT_ATTENTION_BWD_IN_SEGMENTS + 1];
    in[DT_ATTENTION_BWD_IN_DY] = dout[0];
    in[DT_ATTENTION_BWD_IN_Y] = n.out[DT_ATTENTION_OUT_Y];
    in[DT_ATTENTION_BWD_IN_LSE] = n.out[DT_ATTENTION_OUT_LSE];
    for (int32_t i = 0; i < 3; i++) in[DT_ATTENTION_BWD_IN_Q + i] = n.in[DT_ATTENTION_IN_Q + i];
    for (int32_t i = DT_ATTENTION_IN_LENGTHS; i <= DT_ATTENTION_IN_SEGMENTS; i++)
        in[DT_ATTENTION_BWD_IN_LENGTHS + i - DT_ATTENTION_IN_LENGTHS] = n.in[i];
    char name[DT_NAME_MAX];
    dt_grad_name(g, n.in[0], name);
    DT_TRY(dt_graph_add_node_with(
        g, name, DT_OP_ATTENTION_BWD, &n.attr, (int32_t)(sizeof in / sizeof *in), in,
        packed ? 0 : 1u << DT_ATTENTION_BWD_OUT_DK | 1u << DT_ATTENTION_BWD_OUT_DV, &dq));
    const dt_node *back = &g->node[g->value[dq].producer];
    for (int32_t i = 0; i < (packed ? 1 : 3); i++)
        if (want[i]) din[i] = back->out[i];
    return DT_OK;
}

/* Sum of t + a, but at least 0 and at most s, over T queries from 0 on. */
static double sum_clamped(double a, double t, double s) {
    const double edge[4] = {t - 1 + a, a - 1, t - 1 + a - s, a - 1 - s};
    double sum[4];
    for (int i = 0; i < 4; i++) sum[i] = edge[i] > 0 ? edge[i] * (edge[i] + 1) / 2 : 0;
    return sum[0] - sum[1] - (sum[2] - sum[3]);
}

/* FLOPs of one product over the pairs of queries and keys that see each other where no sequence is short. */
static double product_flops(const dt_graph *g, const dt_node *n) {
    const dt_attention_dims a = dt_op_attention_dims(g, n);
    const double t = (double)a.t, s = (double)a.s, w = (double)a.window;
    double pairs = t * s;
    if (a.causal) pairs = sum_clamped(s - t + 1, t, s);
    if (!a.causal && a.window > 0) pairs = sum_clamped(s - t + w, t, s);
    if (a.window > 0) pairs -= sum_clamped(s - t + 1 - w, t, s);
    return 2.0 * (double)(a.b * a.heads) * (double)a.d * pairs;
}

static double attention_flops(const dt_graph *g, const dt_node *n) {
    return 2 * product_flops(g, n);
}
static double attention_bwd_flops(const dt_graph *g, const dt_node *n) {
    return 5 * product_flops(g, n);
}

#define ATTRIBUTES                                                                                           \
    A(attention, heads), A(attention, kv_heads), A(attention, causal), A(attention, window),                 \
        A(attention, scale), LEARNS(attention, dropout), LEARNS(attention, salt)

const dt_op_row dt_row_attention = {
    .name = "attention",
    .doc =
        "y [B,T,heads D] = softmax(scale q k^T) v by head, q [B,T,heads D], k and v [B,S,kv_heads D]; each "
        "head of k serves heads / kv_heads of q. Without k and v, q holds them behind its heads. Scale 0 is "
        "1/sqrt(D). lengths: a row's keys, q_lengths: its queries (past them y is 0). Query t stands at key "
        "t + keys - queries: causal, it sees no later one; window w: none w or more away. segments: a "
        "query sees its own segment. Who sees nobody gets 0. Dropout zeroes weights by Philox of "
        "((step, micro), ((b heads + head) T + t) ceil(S/4) + s/4). lse: log of the sum of exp(scores).",
    .in = {T("q", .rank = 3),
           T("k", .rank = 3, OPT, NEEDS(DT_ATTENTION_IN_V)),
           T("v", .rank = 3, OPT, NEEDS(DT_ATTENTION_IN_K), SAME(DT_ATTENTION_IN_K)),
           {.name = "lengths", .type = DT_SLOT_I32, .rank = 1, OPT, LEN(DT_ATTENTION_IN_Q, 0)},
           {.name = "q_lengths", .type = DT_SLOT_I32, .rank = 1, OPT, LEN(DT_ATTENTION_IN_Q, 0)},
           {.name = "segments", .type = DT_SLOT_I32, .rank = 2, OPT}},
    .out = {T("y"), F32("lse")},
    .attr = {ATTRIBUTES},
    .infer = infer_attention,
    .grad = grad_attention,
    .flops = attention_flops,
};

const dt_op_row dt_row_attention_bwd = {
    .name = "attention_bwd",
    .doc = "gradients of attention's q, k and v, as packed as these; the weights are made again from lse.",
    .in = {T("dy", .rank = 3),
           T("q", .rank = 3),
           T("k", .rank = 3, OPT, NEEDS(DT_ATTENTION_BWD_IN_V)),
           T("v", .rank = 3, OPT, NEEDS(DT_ATTENTION_BWD_IN_K), SAME(DT_ATTENTION_BWD_IN_K)),
           T("y", SAME(DT_ATTENTION_BWD_IN_DY)),
           F32("lse", .rank = 3),
           {.name = "lengths", .type = DT_SLOT_I32, .rank = 1, OPT, LEN(DT_ATTENTION_BWD_IN_Q, 0)},
           {.name = "q_lengths", .type = DT_SLOT_I32, .rank = 1, OPT, LEN(DT_ATTENTION_BWD_IN_Q, 0)},
           {.name = "segments", .type = DT_SLOT_I32, .rank = 2, OPT}},
    .out = {T("dq"), T("dk", OPT), T("dv", OPT)},
    .flags = DT_OP_INTERNAL,
    .attr = {ATTRIBUTES},
    .infer = infer_attention_bwd,
    .flops = attention_bwd_flops,
};
