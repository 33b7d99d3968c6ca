/* Attention with its projections. Queries, keys and values of one sequence come of one product; where they are of two,
 * or are normalised or turned by their place, of a
 * product each. */
#include <stdio.h>

#include "core/op.h"
#include "model/builder.h"

const dt_attention_names dt_attention_names_torch = {
    .qkv = "in_proj_", .q = "q_proj_", .k = "k_proj_", .v = "v_proj_", .out = "out_proj."};

/* A layer while it grows. */
typedef struct layer {
    dt_builder *b;
    const char *name;
    const dt_attention_options *o;
    const dt_attention_names *names;
    int64_t heads, kv_heads, d;
    int64_t wide; /* outputs of all three projections */
} layer;

/* "<name><sep><a><b>" */
static bool name_of(const layer *l, const char *sep, const char *a, const char *b, char text[DT_NAME_MAX]) {
    if (l->b->status != DT_OK) return false;
    if (snprintf(text, DT_NAME_MAX, "%s%s%s%s", l->name, sep, a, b) < DT_NAME_MAX) return true;
    l->b->status = dt_fail(DT_ERR_CONFIG, "%s (attention): its name is too long", l->name);
    return false;
}

static dt_vid add_op(const layer *l, const char *what, const char *step, dt_op op, const dt_attr *attr,
                     int32_t n_in, const dt_vid *in) {
    char full[DT_NAME_MAX];
    return name_of(l, "/", what, step, full) ? dt_build_op(l->b, full, op, attr, n_in, in) : -1;
}

/* "<name>.<prefix>weight" [rows, cols] or "...bias" [rows] with cols 0. */
static dt_vid add_param(const layer *l, const char *prefix, int64_t rows, int64_t cols, dt_init init) {
    char full[DT_NAME_MAX];
    dt_vid v = -1;
    dt_graph *g = l->b->g;
    if (!name_of(l, ".", prefix, cols > 0 ? "weight" : "bias", full)) return -1;
    l->b->status = dt_graph_add_value(g, full, DT_ROLE_PARAM, cols > 0 ? g->compute : DT_DTYPE_F32,
                                      cols > 0 ? 2 : 1, (int64_t[]){rows, cols}, &v);
    if (l->b->status != DT_OK) return -1;
    g->value[v].init = init;
    g->value[v].fan_in = cols;
    g->value[v].fan_out = rows;
    g->value[v].decay = cols > 0;
    return v;
}

/* Rows [begin, begin + n) of a weight or bias. */
static dt_vid part_of(const layer *l, const char *what, const char *step, dt_vid v, int64_t begin,
                      int64_t n) {
    const dt_attr t = {.shape = {.begin = begin, .length = n}};
    return v < 0 ? -1 : add_op(l, what, step, DT_OP_SLICE, &t, 1, &v);
}

/* x [B,T,heads D] with its heads normalised, by "<name>.<norm>weight" [D], and turned by their place, as the options
 * have it. */
static dt_vid shaped(const layer *l, const char *what, dt_vid x, int64_t heads, const char *norm) {
    char full[DT_NAME_MAX];
    dt_builder *b = l->b;
    if ((!l->o->qk_norm && !l->o->rotary) || b->status != DT_OK) return x;
    const int64_t rows = b->g->value[x].dim[0], steps = b->g->value[x].dim[1];
    const dt_attr apart = {.reshape = {.ndim = 4, .dim = {rows, steps, heads, l->d}}},
                  joined = {.reshape = {.ndim = 3, .dim = {rows, steps, heads * l->d}}};
    x = add_op(l, what, "_heads", DT_OP_RESHAPE, &apart, 1, &x);
    if (l->o->qk_norm && name_of(l, ".", norm, "weight", full)) {
        dt_vid weight = -1;
        b->status = dt_graph_add_value(b->g, full, DT_ROLE_PARAM, DT_DTYPE_F32, 1, &l->d, &weight);
        if (b->status != DT_OK) return -1;
        b->g->value[weight].init = DT_INIT_ONE;
        x = add_op(l, what, "_norm", DT_OP_RMSNORM, &(dt_attr){.norm.eps = 1e-6f}, 2, (dt_vid[]){x, weight});
    }
    if (l->o->rotary && name_of(l, "/", what, "_turned", full))
        x = dt_build_rotary(b, full, x, &(dt_rotary_options){.theta = l->o->theta});
    return add_op(l, what, "_flat", DT_OP_RESHAPE, &joined, 1, &x);
}

/* One of the three projections. fused: the weight and bias of all three, of which it is rows from `begin` on; -1: it
 * has its own. */
static dt_vid project(const layer *l, const char *what, const char *own, const dt_vid fused[2], dt_vid x,
                      int64_t heads, int64_t begin) {
    if (l->b->status != DT_OK) return -1;
    const dt_value *xv = &l->b->g->value[x];
    const int64_t rows = heads * l->d, c = xv->dim[2];
    dt_vid in[3] = {x, -1, -1};
    in[1] = fused[0] >= 0 ? part_of(l, what, "_weight", fused[0], begin, rows)
                          : add_param(l, own, rows, c, DT_INIT_XAVIER_UNIFORM);
    if (!l->o->no_bias)
        in[2] = fused[1] >= 0 ? part_of(l, what, "_bias", fused[1], begin, rows)
                              : add_param(l, own, rows, 0, DT_INIT_ZERO);
    return add_op(l, what, "", DT_OP_DENSE, NULL, 3, in);
}

/* q, k and v, or q alone where it holds all three. */
static void project_all(const layer *l, const dt_build_attention_inputs *in, dt_vid qkv[3]) {
    const dt_vid other = in->context >= 0 ? in->context : in->x;
    const int64_t c = l->b->g->value[in->x].dim[2], of = l->b->g->value[other].dim[2];
    const bool fused = l->names->qkv && of == c,
               packed = fused && other == in->x && !l->o->qk_norm && !l->o->rotary;
    dt_vid param[2] = {-1, -1};
    if (fused) param[0] = add_param(l, l->names->qkv, l->wide, c, DT_INIT_XAVIER_UNIFORM);
    if (l->names->qkv && !l->o->no_bias) param[1] = add_param(l, l->names->qkv, l->wide, 0, DT_INIT_ZERO);
    qkv[1] = qkv[2] = -1;
    if (packed) {
        qkv[0] = add_op(l, "qkv", "", DT_OP_DENSE, NULL, 3, (dt_vid[]){in->x, param[0], param[1]});
        return;
    }
    const int64_t q = l->heads * l->d, k = l->kv_heads * l->d;
    qkv[0] = shaped(l, "q", project(l, "q", l->names->q, param, in->x, l->heads, 0), l->heads,
                    l->names->q_norm ? l->names->q_norm : "q_norm.");
    qkv[1] = shaped(l, "k", project(l, "k", l->names->k, param, other, l->kv_heads, q), l->kv_heads,
                    l->names->k_norm ? l->names->k_norm : "k_norm.");
    qkv[2] = project(l, "v", l->names->v, param, other, l->kv_heads, q + k);
}

static dt_status need_sequence(const dt_builder *b, const char *name, const char *what, dt_vid v) {
    if (b->g->value[v].ndim == 3) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s (attention): its %s is %s, not a sequence [rows, steps, channels]",
                   name, what, dt_value_shape_text(&b->g->value[v]));
}

/* Heads and their size from the options. */
static dt_status measure(layer *l, const dt_build_attention_inputs *in) {
    const dt_attention_options *o = l->o;
    DT_TRY(need_sequence(l->b, l->name, "input", in->x));
    if (in->context >= 0) DT_TRY(need_sequence(l->b, l->name, "context", in->context));
    const int64_t c = l->b->g->value[in->x].dim[2];
    l->heads = o->heads;
    l->kv_heads = o->kv_heads > 0 ? o->kv_heads : o->heads;
    if (l->heads % l->kv_heads != 0)
        return dt_fail(DT_ERR_CONFIG, "%s (attention): kv_heads = %lld does not divide heads = %lld", l->name,
                       (long long)l->kv_heads, (long long)l->heads);
    if (o->head_size == 0 && c % l->heads != 0)
        return dt_fail(DT_ERR_CONFIG,
                       "%s (attention): heads = %lld does not divide %lld channels: set head_size", l->name,
                       (long long)l->heads, (long long)c);
    l->d = o->head_size > 0 ? o->head_size : c / l->heads;
    l->wide = (l->heads + 2 * l->kv_heads) * l->d;
    return DT_OK;
}

/* Documents that are to be apart are so without being named. */
static dt_vid segments_of(dt_builder *b, const char *name, const dt_build_attention_inputs *in) {
    const dt_field *f = b->n_vocab > 0 ? dt_build_field(b, "segment") : NULL;
    if (in->segments >= 0 || !f) return in->segments;
    const bool alone = in->context < 0 && f->ndim == 1 && f->dim[0] == b->g->value[in->x].dim[1];
    if (alone) return dt_build_input_as(b, f->name, DT_DTYPE_I32);
    b->status = dt_fail(
        DT_ERR_CONFIG,
        "%s (attention): with data.documents = \"isolated\" it attends to the tokens themselves, and this "
        "is to %s: set data.documents = \"joined\"",
        name, in->context < 0 ? "a sequence of another length" : "another sequence");
    return -1;
}

dt_vid dt_build_attention(dt_builder *b, const char *name, const dt_build_attention_inputs *in,
                          const dt_attention_options *o, const dt_attention_names *names) {
    if (b->status != DT_OK) return -1;
    layer l = {.b = b, .name = name, .o = o, .names = names ? names : &dt_attention_names_torch};
    b->status = measure(&l, in);
    if (b->status != DT_OK) return -1;
    const int64_t c = b->g->value[in->x].dim[2];
    const dt_vid segments = segments_of(b, name, in);
    dt_vid qkv[3];
    project_all(&l, in, qkv);
    if (b->status != DT_OK) return -1;
    /* Who has fewer keys has fewer queries, of one sequence. */
    const dt_vid args[] = {[DT_ATTENTION_IN_Q] = qkv[0],
                           [DT_ATTENTION_IN_K] = qkv[1],
                           [DT_ATTENTION_IN_V] = qkv[2],
                           [DT_ATTENTION_IN_LENGTHS] = in->lengths,
                           [DT_ATTENTION_IN_Q_LENGTHS] = in->context >= 0 ? -1 : in->lengths,
                           [DT_ATTENTION_IN_SEGMENTS] = segments};
    const dt_attr t = {.attention = {.heads = (int32_t)l.heads,
                                     .kv_heads = (int32_t)l.kv_heads,
                                     .causal = o->causal,
                                     .window = (int32_t)o->window,
                                     .dropout = b->g->training ? (float)o->dropout : 0,
                                     .salt = dt_build_salt(b)}};
    const int32_t n_in = (int32_t)(sizeof args / sizeof args[0]);
    if (!l.names->out) return dt_build_op(b, name, DT_OP_ATTENTION, &t, n_in, args);
    const dt_vid y = add_op(&l, "heads", "", DT_OP_ATTENTION, &t, n_in, args);
    const dt_vid w = add_param(&l, l.names->out, c, l.heads * l.d, DT_INIT_KAIMING_UNIFORM_A5);
    const dt_vid bias =
        o->no_bias || l.names->plain_out ? -1 : add_param(&l, l.names->out, c, 0, DT_INIT_ZERO);
    return dt_build_op(b, name, DT_OP_DENSE, NULL, 3, (dt_vid[]){y, w, bias});
}
