/* Normalisations, and what goes over dimensions. */
#include <string.h>

#include "lower.h"

static const char *origin_of(const dt_lv *v) {
    return v->origin ? v->origin : v->name;
}

static dt_vid as_it_is(dt_low *w, dt_lv *x, bool *last) {
    *last = dt_low_is_last(x) && x->t.ndim >= 3;
    return *last ? dt_low_last(w, x) : dt_low_plain(w, x);
}

/* ---- softmax ---- */

/* Whether it makes the output, but for names given to that. */
static bool ends_network(const dt_low *w, const dt_low_node *n) {
    const dt_onnx_graph *g = &w->m->graph;
    const char *name = g->out[0].name;
    for (int32_t i = g->n_node - 1; i >= 0; i--)
        if (g->node[i].n_out == 1 && strcmp(g->node[i].out[0], name) == 0 &&
            strcmp(g->node[i].op, "Identity") == 0)
            name = g->node[i].in[0];
    return w->depth == 1 && strcmp(n->node->out[0], name) == 0;
}

static bool softmax(dt_low *w, const dt_low_node *n, dt_op op) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!x || !y || !dt_low_is_real(x) || dt_low_is_empty(x) || x->t.ndim < 1) return false;
    if (w->o->logits && op == DT_OP_SOFTMAX && ends_network(w, n)) {
        dt_low_same(y, x);
        return true;
    }
    const int32_t ndim = x->t.ndim,
                  axis = dt_low_axis(dt_onnx_attr_int(n->node, "axis", n->version < 13 ? 1 : -1), ndim);
    if (n->version < 13 && axis < ndim - 1) { /* all from the axis on are one */
        int64_t rows = 1;
        for (int32_t i = 0; i < axis; i++) rows *= x->t.dim[i];
        dt_vid v = dt_low_reshape(w, y->name, dt_low_plain(w, x), 2,
                                  (int64_t[]){rows, dt_host_n_elem(&x->t) / rows});
        dt_low_set(w, y, dt_low_add(w, y->name, op, NULL, 1, &v), false);
        return true;
    }
    bool last;
    dt_vid v = as_it_is(w, x, &last);
    const int32_t at = dt_low_place(axis, ndim, last);
    int32_t perm[DT_MAX_DIM], back[DT_MAX_DIM];
    for (int32_t i = 0; i < ndim; i++) perm[i] = i < at ? i : i + 1 < ndim ? i + 1 : at;
    for (int32_t i = 0; i < ndim; i++) back[perm[i]] = i;
    v = at == ndim - 1 ? v : dt_low_permute(w, y->name, v, perm);
    v = dt_low_add(w, y->name, op, NULL, 1, &v);
    dt_low_set(w, y, at == ndim - 1 ? v : dt_low_permute(w, y->name, v, back), last);
    return true;
}

static bool lower_softmax(dt_low *w, const dt_low_node *n) {
    return softmax(w, n, DT_OP_SOFTMAX);
}
static bool lower_log_softmax(dt_low *w, const dt_low_node *n) {
    return softmax(w, n, DT_OP_LOG_SOFTMAX);
}

/* ---- reductions ---- */

typedef struct reduction {
    dt_reduce_kind kind;
    int32_t before, after; /* functions of dt_unary; -1: none */
} reduction;

static bool reduce(dt_low *w, const dt_low_node *n, const reduction *r) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    int64_t given[DT_MAX_DIM];
    if (!x || !y || !dt_low_is_real(x) || dt_low_is_empty(x) || x->t.ndim < 1) return false;
    if (dt_low_in(n, 1) && !dt_low_known(n->in[1])) return false;
    int32_t n_axis = dt_low_numbers(n, "axes", 1, DT_MAX_DIM, given);
    if (n_axis <= 0 && dt_onnx_attr_int(n->node, "noop_with_empty_axes", 0) != 0) return false;
    const int32_t ndim = x->t.ndim;
    int32_t axes = n_axis <= 0 ? (1 << ndim) - 1 : 0;
    for (int32_t i = 0; i < n_axis; i++) axes |= 1 << dt_low_axis(given[i], ndim);
    bool last;
    dt_vid v = as_it_is(w, x, &last);
    const bool keeps = dt_onnx_attr_int(n->node, "keepdims", 1) != 0;
    /* Without the dimensions that go, the order is the plain one, unless channels and places stay. */
    if (last && !keeps && !(axes >> 1 & 1) && axes >> 2 != (1 << (ndim - 2)) - 1)
        v = dt_low_plain(w, x), last = false;
    dt_attr t = {.reduce.kind = r->kind};
    for (int32_t d = 0; d < ndim; d++)
        if (axes >> d & 1) t.reduce.axes |= 1 << dt_low_place(d, ndim, last);
    if (r->before >= 0) v = dt_low_unary(w, y->name, v, (dt_unary)r->before, 0, 0);
    v = dt_low_add(w, y->name, DT_OP_REDUCE, &t, 1, &v);
    if (r->after >= 0) v = dt_low_unary(w, y->name, v, (dt_unary)r->after, 0, 0);
    dt_low_set(w, y, v, last && keeps);
    return true;
}

#define REDUCTION(NAME, KIND, BEFORE, AFTER)                                                                 \
    static bool lower_##NAME(dt_low *w, const dt_low_node *n) {                                              \
        return reduce(w, n, &(const reduction){DT_REDUCE_##KIND, BEFORE, AFTER});                            \
    }
REDUCTION(reduce_mean, MEAN, -1, -1)
REDUCTION(reduce_sum, SUM, -1, -1)
REDUCTION(reduce_max, MAX, -1, -1)
REDUCTION(reduce_min, MAX, DT_UNARY_NEG, DT_UNARY_NEG)
REDUCTION(reduce_l1, SUM, DT_UNARY_ABS, -1)
REDUCTION(reduce_l2, SUM, DT_UNARY_SQUARE, DT_UNARY_SQRT)
REDUCTION(reduce_sum_square, SUM, DT_UNARY_SQUARE, -1)
REDUCTION(reduce_log_sum, SUM, -1, DT_UNARY_LOG)

/* ---- normalisations ---- */

static bool is_vector(const dt_lv *v, int64_t n) {
    return v && dt_low_known(v) && dt_low_is_real(v) && !v->rowwise && dt_host_n_elem(&v->t) == n;
}

static bool lower_batch_norm(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!x || !y || !dt_low_is_real(x) || dt_low_is_empty(x) || x->t.ndim < 2 || n->n_in != 5) return false;
    for (int32_t i = 1; i < 5; i++)
        if (!is_vector(n->in[i], x->t.dim[1])) return false;
    for (int32_t i = 1; i < n->n_out; i++)
        if (n->out[i]) return false;
    const float eps = dt_onnx_attr_float(n->node, "epsilon", 1e-5f);
    if (dt_onnx_attr_int(n->node, "training_mode", 0) != 0 || dt_onnx_attr_int(n->node, "spatial", 1) == 0 ||
        !(eps > 0))
        return false;
    /* The file's momentum weighs the old statistics. */
    const dt_attr t = {.norm = {.eps = eps, .momentum = 1 - dt_onnx_attr_float(n->node, "momentum", 0.9f)}};
    const bool last = x->t.ndim >= 3;
    const dt_vid in[] = {
        [DT_BN_IN_X] = last ? dt_low_last(w, x) : dt_low_plain(w, x),
        [DT_BN_IN_GAMMA] = dt_low_vector(w, n->in[1]),
        [DT_BN_IN_BETA] = dt_low_vector(w, n->in[2]),
        [DT_BN_IN_RMEAN] = dt_low_state(w, origin_of(n->in[3]), n->in[3]->t.data, x->t.dim[1]),
        [DT_BN_IN_RVAR] = dt_low_state(w, origin_of(n->in[4]), n->in[4]->t.data, x->t.dim[1]),
        [DT_BN_IN_RES] = -1};
    if (w->st == DT_OK) w->g->value[in[DT_BN_IN_RVAR]].init = DT_INIT_ONE;
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_BATCHNORM, &t, 6, in), last);
    return true;
}

/* Over all dimensions from `axis` on. */
static bool row_norm(dt_low *w, const dt_low_node *n, dt_op op) {
    dt_lv *x = dt_low_in(n, 0), *g = dt_low_in(n, 1), *b = dt_low_in(n, 2), *y = dt_low_out(n, 0);
    if (!x || !g || !y || !dt_low_is_real(x) || dt_low_is_empty(x) || x->t.ndim < 1 || dt_low_out(n, 1) ||
        dt_low_out(n, 2))
        return false;
    const int32_t axis = dt_low_axis(dt_onnx_attr_int(n->node, "axis", -1), x->t.ndim);
    int64_t wide = 1, dim[DT_MAX_DIM];
    for (int32_t i = 0; i < axis; i++) dim[i] = x->t.dim[i];
    for (int32_t i = axis; i < x->t.ndim; i++) wide *= x->t.dim[i];
    dim[axis] = wide;
    const float eps = dt_onnx_attr_float(n->node, "epsilon", 1e-5f);
    if (!is_vector(g, wide) || (b && !is_vector(b, wide)) || !(eps > 0)) return false;
    const dt_attr t = {.norm.eps = eps};
    const dt_vid v = dt_low_reshape(w, y->name, dt_low_plain(w, x), axis + 1, dim);
    const dt_vid in[] = {v, dt_low_vector(w, g), b ? dt_low_vector(w, b) : -1};
    dt_low_set(w, y, dt_low_add(w, y->name, op, &t, op == DT_OP_LAYERNORM ? 3 : 2, in), false);
    return true;
}

static bool lower_layer_norm(dt_low *w, const dt_low_node *n) {
    return row_norm(w, n, DT_OP_LAYERNORM);
}
static bool lower_rms_norm(dt_low *w, const dt_low_node *n) {
    return n->n_in == 2 && row_norm(w, n, DT_OP_RMSNORM);
}

/* A vector by channel, of one that may be by group. */
static dt_vid by_channel(dt_low *w, const dt_lv *v, int64_t channels) {
    const int64_t have = dt_host_n_elem(&v->t);
    if (have == channels) return dt_low_vector(w, v);
    float *x = dt_low_alloc(w, channels * (int64_t)sizeof *x);
    for (int64_t i = 0; x && i < channels; i++) x[i] = ((const float *)v->t.data)[i / (channels / have)];
    return x ? dt_low_param_f32(w, origin_of(v), x, channels) : -1;
}

static bool group_norm(dt_low *w, const dt_low_node *n, int64_t groups) {
    dt_lv *x = dt_low_in(n, 0), *g = dt_low_in(n, 1), *b = dt_low_in(n, 2), *y = dt_low_out(n, 0);
    if (!x || !g || !b || !y || !dt_low_is_real(x) || dt_low_is_empty(x) || x->t.ndim < 3) return false;
    const int64_t channels = x->t.dim[1];
    if (groups == 0) groups = channels;
    const float eps = dt_onnx_attr_float(n->node, "epsilon", 1e-5f);
    if (groups < 1 || groups > INT32_MAX || channels % groups || !(eps > 0)) return false;
    if (!(is_vector(g, channels) || is_vector(g, groups)) ||
        !(is_vector(b, channels) || is_vector(b, groups)))
        return false;
    const dt_attr t = {.norm = {.eps = eps, .groups = (int32_t)groups}};
    const dt_vid in[] = {dt_low_last(w, x), by_channel(w, g, channels), by_channel(w, b, channels)};
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_GROUPNORM, &t, 3, in), true);
    return true;
}

static bool lower_instance_norm(dt_low *w, const dt_low_node *n) {
    return group_norm(w, n, 0);
}
static bool lower_group_norm(dt_low *w, const dt_low_node *n) {
    const int64_t groups = dt_onnx_attr_int(n->node, "num_groups", 0);
    return groups > 0 && group_norm(w, n, groups);
}

const dt_low_row dt_low_norms[] = {
    {"Softmax", lower_softmax},
    {"LogSoftmax", lower_log_softmax},
    {"ReduceMean", lower_reduce_mean},
    {"ReduceSum", lower_reduce_sum},
    {"ReduceMax", lower_reduce_max},
    {"ReduceMin", lower_reduce_min},
    {"ReduceL1", lower_reduce_l1},
    {"ReduceL2", lower_reduce_l2},
    {"ReduceSumSquare", lower_reduce_sum_square},
    {"ReduceLogSum", lower_reduce_log_sum},
    {"BatchNormalization", lower_batch_norm},
    {"LayerNormalization", lower_layer_norm},
    {"RMSNormalization", lower_rms_norm},
    {"InstanceNormalization", lower_instance_norm},
    {"GroupNormalization", lower_group_norm},
    {NULL, NULL},
};
