/* Adapters are nodes behind those of a network that is whole already, so no network knows of them. */
#include "model/lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/axis.h"
#include "core/key_rows.h"
#include "core/op.h"
#include "core/text.h"

#define KEYS_OF dt_lora_options
static const dt_key_row lora_keys[] = {
    {INT("rank", rank, 0, 65536), LATER_MATHS, .fallback = "0",
     .help = "Low-rank adapters beside dense layers and attention's projections, which keep their weights as "
             "all else "
             "does: y = W x + alpha / rank B A x. 0: none"},
    {FLOAT("alpha", alpha, 0, 1e6), LATER_MATHS, .fallback = "0.0", .only = "lora.rank > 0",
     .help = "What the adapters count, times rank; 0: rank, so that they count once"},
    {FLOAT("dropout", dropout, 0, 1), .flags = DT_KEY_MATHS | DT_KEY_LATER | DT_KEY_OPEN_MAX,
     .fallback = "0.0", .only = "lora.rank > 0",
     .help = "Part of what an adapter reads that is dropped in training"},
    {NAMES("targets", targets, n_targets), LATER_MATHS, .fallback = "[]", .only = "lora.rank > 0",
     .help = "Names of the weights that get one, `*` for any characters: [\"*.attn.*\"]; none: all but the "
             "last layer's. One that is an embedding's too gets none"},
    {NAMES("train", train, n_train), LATER_MATHS, .fallback = "[]", .only = "lora.rank > 0",
     .help = "Names of parameters that are trained besides, as [\"*norm*\"]; with model.init_head = \"new\" "
             "the last "
             "layer is in any case"},
};
const dt_section dt_lora_section = SECTION("lora", lora_keys);
#undef KEYS_OF

/* Beyond the numbers that nodes have, which tell dropouts apart. */
static const uint64_t salt_base = 1ull << 40;

typedef struct work {
    const dt_lora_options *o;
    dt_graph *g;
    bool used[DT_LORA_NAMES_MAX];
    int32_t n;       /* adapted layers */
    int32_t *behind; /* [n_node]: of an added node the old one that it stands behind */
    int32_t n_old;
} work;

bool dt_lora_is_adapter(const char *name) {
    static const char *const tail[] = {DT_LORA_A, DT_LORA_B};
    const size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        const size_t m = strlen(tail[i]);
        if (n >= m && strcmp(name + n - m, tail[i]) == 0) return true;
    }
    return false;
}

double dt_lora_factor(const dt_lora_options *o) {
    return o->alpha > 0 ? o->alpha / (double)o->rank : 1;
}

/* The parameter that the dense node's weight is, or of which it has rows, and the SLICE in between, -1: none. */
static dt_vid weight_of(const dt_graph *g, const dt_node *dense, dt_nid *slice) {
    dt_vid w = dense->in[DT_DENSE_IN_W];
    *slice = dt_graph_maker(g, w, DT_OP_SLICE);
    if (*slice >= 0) w = g->node[*slice].in[0];
    return g->value[w].role == DT_ROLE_PARAM ? w : -1;
}

/* Whether it is also a table that is looked up in, in which an adapter of this layer has no part. */
static bool is_shared(const dt_graph *g, dt_vid weight) {
    return dt_graph_reader(g, weight, DT_OP_EMBED, DT_EMBED_IN_WEIGHT) >= 0;
}

/* By its name, or by that of its layer. */
static bool is_target(work *w, const dt_node *dense, const char *name) {
    char layer[DT_NAME_MAX];
    bool any = false;
    const size_t n = strlen(name), tail = strlen(".weight");
    if (w->o->n_targets == 0) return !dt_axis_is_end(w->g, dense->out[0]);
    snprintf(layer, sizeof layer, "%.*s", (int)(n > tail ? n - tail : 0), name);
    for (int32_t i = 0; i < w->o->n_targets; i++) {
        if (!dt_name_matches(w->o->targets[i], name) && !dt_name_matches(w->o->targets[i], layer)) continue;
        any = w->used[i] = true;
    }
    return any;
}

/* The adapter's matrix beside the parameter `of`, made where it is not there yet. */
static dt_status matrix(dt_graph *g, dt_vid of, const char *tail, int64_t rows, int64_t cols, dt_init init,
                        dt_vid *out) {
    char name[DT_NAME_MAX];
    const char *weight = g->value[of].name;
    const size_t n = strlen(weight), own = strlen("weight");
    const int head = (int)(n >= own && strcmp(weight + n - own, "weight") == 0 ? n - own : n);
    if (snprintf(name, sizeof name, "%.*s%s", head, weight, tail) >= (int)sizeof name)
        return dt_fail(DT_ERR_CONFIG, "%s: a name too long for an adapter's", weight);
    *out = dt_graph_find(g, name);
    if (*out >= 0) return DT_OK;
    const dt_dtype dtype = g->value[of].dtype;
    DT_TRY(dt_graph_add_value(g, name, DT_ROLE_PARAM, dtype, 2, (int64_t[]){rows, cols}, out));
    dt_value *v = &g->value[*out];
    v->init = init;
    v->fan_in = cols, v->fan_out = rows;
    v->decay = true;
    return DT_OK;
}

/* A node at the end of the list, to stand behind node `id`. */
static dt_status append(work *w, dt_nid id, const char *step, dt_op op, const dt_attr *attr, int32_t n_in,
                        const dt_vid *in, dt_vid *out) {
    char name[DT_NAME_MAX];
    const char *layer = w->g->value[w->g->node[id].out[0]].name;
    snprintf(name, sizeof name, "%.*s/%s", DT_NAME_MAX - 16, layer, step);
    DT_TRY(dt_graph_add_node(w->g, name, op, attr, n_in, in, out));
    int32_t *behind = realloc(w->behind, (size_t)w->g->n_node * sizeof *behind);
    if (!behind) return dt_fail(DT_ERR_MEMORY, "no memory for adapters");
    w->behind = behind;
    w->behind[w->g->n_node - 1] = id;
    return DT_OK;
}

/* Everyone but node `but` reads `to` in place of `from`. */
static void redirect(dt_graph *g, dt_vid from, dt_vid to, dt_nid but) {
    for (dt_nid i = 0; i < g->n_node; i++)
        for (int32_t k = 0; i != but && k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == from) g->node[i].in[k] = to;
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].alias_of == from) g->value[v].alias_of = to;
    for (int32_t i = 0; i < g->n_output; i++)
        if (g->output[i].value == from) g->output[i].value = to;
}

/* One of a greater rank than the weight's could say nothing more. */
static dt_status check_rank(const dt_value *weight, int64_t rank) {
    const int64_t most = dt_min_i64(weight->dim[0], weight->dim[1]);
    if (rank <= most) return DT_OK;
    return dt_fail(DT_ERR_CONFIG,
                   "lora.rank = %lld, but %s is %lld x %lld: at most %lld, or name others in lora.targets",
                   (long long)rank, weight->name, (long long)weight->dim[0], (long long)weight->dim[1],
                   (long long)most);
}

static dt_status adapt(work *w, dt_nid id) {
    dt_graph *g = w->g;
    dt_nid slice;
    const dt_node dense = g->node[id];
    const dt_vid weight = weight_of(g, &dense, &slice), y = dense.out[0];
    const int64_t rank = w->o->rank;
    dt_vid a, b, x = dense.in[DT_DENSE_IN_X], z;
    if (weight < 0 || is_shared(g, weight) || !is_target(w, &dense, g->value[weight].name)) return DT_OK;
    DT_TRY(check_rank(&g->value[weight], rank));
    DT_TRY(matrix(g, weight, DT_LORA_A, rank, g->value[weight].dim[1], DT_INIT_KAIMING_UNIFORM_A5, &a));
    DT_TRY(matrix(g, weight, DT_LORA_B, g->value[weight].dim[0], rank, DT_INIT_ZERO, &b));
    const dt_attr drop = {.dropout = {.p = (float)w->o->dropout, .salt = salt_base + (uint64_t)w->n}},
                  scale = {.unary = {.fn = DT_UNARY_SCALE, .a = (float)dt_lora_factor(w->o)}},
                  add = {.binary = {.fn = DT_BINARY_ADD}};
    if (slice >= 0) {
        const dt_attr rows = g->node[slice].attr;
        DT_TRY(append(w, id, "lora_rows", DT_OP_SLICE, &rows, 1, &b, &b));
    }
    if (g->training && w->o->dropout > 0)
        DT_TRY(append(w, id, "lora_dropout", DT_OP_DROPOUT, &drop, 1, &x, &x));
    DT_TRY(append(w, id, "lora_A", DT_OP_DENSE, NULL, 3, (dt_vid[]){x, a, -1}, &z));
    if (scale.unary.a != 1) DT_TRY(append(w, id, "lora_scale", DT_OP_UNARY, &scale, 1, &z, &z));
    DT_TRY(append(w, id, "lora_B", DT_OP_DENSE, NULL, 3, (dt_vid[]){z, b, -1}, &z));
    DT_TRY(append(w, id, "lora", DT_OP_BINARY, &add, 2, (dt_vid[]){y, z}, &z));
    redirect(g, y, z, g->n_node - 1);
    w->n++;
    return DT_OK;
}

/* Each added node to its place behind an old one. */
static dt_status reorder(work *w) {
    dt_graph *g = w->g;
    dt_node *list = calloc((size_t)g->cap_node, sizeof *list);
    if (!list) return dt_fail(DT_ERR_MEMORY, "no memory for %d nodes", g->cap_node);
    int32_t n = 0, next = w->n_old;
    for (dt_nid i = 0; i < w->n_old; i++) {
        list[n++] = g->node[i];
        while (next < g->n_node && w->behind[next] == i) list[n++] = g->node[next++];
    }
    free(g->node);
    g->node = list;
    dt_graph_compact(g);
    return DT_OK;
}

static dt_status fail_target(const work *w, const char *target) {
    const char *names[256];
    int n = 0;
    for (dt_nid i = 0; i < w->g->n_node && n < (int)(sizeof names / sizeof names[0]); i++) {
        dt_nid slice;
        const dt_node *node = &w->g->node[i];
        const dt_vid v = node->op == DT_OP_DENSE ? weight_of(w->g, node, &slice) : -1;
        if (v >= 0 && !dt_lora_is_adapter(w->g->value[v].name)) names[n++] = w->g->value[v].name;
    }
    return dt_fail(DT_ERR_CONFIG,
                   "lora.targets: \"%s\" is the name of no dense layer's weight, and of no projection's; "
                   "they are called such as %s",
                   target, n > 0 ? names[n / 2] : "nothing: the network has none");
}

static dt_status check_train(const dt_lora_options *o, const dt_graph *g) {
    for (int32_t i = 0; i < o->n_train; i++) {
        bool used = false;
        for (dt_vid v = 0; v < g->n_value && !used; v++)
            used = g->value[v].role == DT_ROLE_PARAM && dt_name_matches(o->train[i], g->value[v].name);
        if (!used)
            return dt_fail(DT_ERR_CONFIG,
                           "lora.train: \"%s\" is the name of no parameter (`dtrain inspect` lists them)",
                           o->train[i]);
    }
    return DT_OK;
}

dt_status dt_lora_insert(const dt_lora_options *o, dt_graph *g) {
    work w = {.o = o, .g = g, .n_old = g->n_node};
    dt_status st = DT_OK;
    if (o->rank == 0) return DT_OK;
    for (dt_nid i = 0; i < w.n_old && st == DT_OK; i++)
        if (g->node[i].op == DT_OP_DENSE) st = adapt(&w, i);
    if (st == DT_OK) st = reorder(&w);
    for (int32_t i = 0; i < o->n_targets && st == DT_OK; i++)
        if (!w.used[i]) st = fail_target(&w, o->targets[i]);
    if (st == DT_OK && w.n == 0) st = fail_target(&w, "*");
    if (st == DT_OK) st = check_train(o, g);
    free(w.behind);
    return st;
}

void dt_lora_merge(double factor, int64_t out, int64_t in, int64_t rank, const float *a, const float *b,
                   float *weight) {
    for (int64_t i = 0; i < out; i++)
        for (int64_t k = 0; k < in; k++) {
            double sum = 0;
            for (int64_t r = 0; r < rank; r++) sum += (double)b[i * rank + r] * (double)a[r * in + k];
            weight[i * in + k] = (float)((double)weight[i * in + k] + factor * sum);
        }
}
