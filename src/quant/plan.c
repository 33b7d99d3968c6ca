/* Products and convolutions with constant weights are quantised; what lies between two of them and can stay in 8 bits
 * does, so that activations go from one to the next without floats between. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/text.h"

/* ---- weights ---- */

static bool is_plain_gemm(const dt_qnode *n) {
    return dt_onnx_attr_int(n->of, "transA", 0) == 0 && dt_onnx_attr_float(n->of, "alpha", 1) == 1 &&
           (n->n_in < 3 || n->in[2] < 0 || dt_onnx_attr_float(n->of, "beta", 1) == 1);
}

bool dt_quant_weight_of(const dt_qgraph *g, const dt_qnode *n, dt_quant_weight *out) {
    const bool conv = dt_qnode_is(n, "Conv"), gemm = dt_qnode_is(n, "Gemm"),
               matmul = dt_qnode_is(n, "MatMul");
    if (!(conv || gemm || matmul) || n->n_in < 2 || n->in[0] < 0 || n->in[1] < 0) return false;
    const dt_onnx_tensor *t = g->value[n->in[1]].constant;
    if (g->value[n->in[0]].constant || !t || t->type != DT_TENSOR_F32 || t->n_elem == 0) return false;
    if (conv ? t->ndim < 3 : t->ndim != 2) return false;
    if (gemm && !is_plain_gemm(n)) return false;
    const bool rows = conv || (gemm && dt_onnx_attr_int(n->of, "transB", 0) != 0);
    out->axis = rows ? 0 : 1;
    out->channels = t->dim[out->axis];
    out->outer = rows ? 1 : t->dim[0];
    out->inner = rows ? t->n_elem / t->dim[0] : 1;
    return true;
}

bool dt_quant_is_4_bits(const dt_quant *q, int32_t node) {
    const dt_qnode *n = &q->g.node[node];
    dt_quant_weight w;
    if (q->o.form != DT_QUANT_INT4 || q->role[node] != DT_QROLE_PRODUCT || dt_qnode_is(n, "Conv"))
        return false;
    if (!dt_quant_weight_of(&q->g, n, &w) || w.outer * w.inner < DT_QUANT_BLOCK) return false;
    for (int32_t i = node + 1; i < q->g.n_node; i++)
        if (q->role[i] == DT_QROLE_PRODUCT) return true;
    return false; /* the last: its result is the network's */
}

/* ---- what is left out ---- */

static bool matches(const char *list, const char *name) {
    char pattern[256];
    for (; *list; list += strcspn(list, ","), list += *list == ',') {
        const size_t n = strcspn(list, ",");
        if (n >= sizeof pattern) continue;
        memcpy(pattern, list, n);
        pattern[n] = '\0';
        if (dt_name_matches(pattern, name)) return true;
    }
    return false;
}

static void choose_products(dt_quant *q) {
    const char *keep = q->o.keep ? q->o.keep : "";
    int32_t first = -1, last = -1;
    dt_quant_weight w;
    for (int32_t i = 0; i < q->g.n_node; i++) {
        const dt_qnode *n = &q->g.node[i];
        if (n->gone || !dt_quant_weight_of(&q->g, n, &w)) continue;
        q->info.n_node++;
        if (matches(keep, dt_qnode_name(&q->g, n))) continue;
        q->role[i] = DT_QROLE_PRODUCT;
        if (first < 0) first = i;
        last = i;
    }
    if (first >= 0 && matches(keep, "first")) q->role[first] = DT_QROLE_FLOAT;
    if (last >= 0 && matches(keep, "last")) q->role[last] = DT_QROLE_FLOAT;
    for (int32_t i = 0; i < q->g.n_node; i++) q->info.n_done += q->role[i] == DT_QROLE_PRODUCT;
}

static void choose_tables(dt_quant *q) {
    enum { BYTES_LEAST = 1 << 16 };
    for (int32_t i = 0; i < q->g.n_node; i++) {
        const dt_qnode *n = &q->g.node[i];
        if (n->gone || !dt_qnode_is(n, "Gather") || dt_onnx_attr_int(n->of, "axis", 0) != 0) continue;
        const dt_onnx_tensor *t = n->in[0] >= 0 ? q->g.value[n->in[0]].constant : NULL;
        const bool keep = matches(q->o.keep ? q->o.keep : "", dt_qnode_name(&q->g, n));
        if (t && t->type == DT_TENSOR_F32 && t->ndim == 2 && t->n_bytes >= BYTES_LEAST && !keep)
            q->role[i] = DT_QROLE_TABLE;
    }
}

/* ---- between products ---- */

static const struct {
    const char *op;
    dt_quant_role role;
} between[] = {
    {"Add", DT_QROLE_BETWEEN},
    {"AveragePool", DT_QROLE_BETWEEN},
    {"GlobalAveragePool", DT_QROLE_BETWEEN},
    {"Concat", DT_QROLE_BETWEEN},
    {"MaxPool", DT_QROLE_PASSED},
    {"Reshape", DT_QROLE_PASSED},
    {"Flatten", DT_QROLE_PASSED},
    {"Transpose", DT_QROLE_PASSED},
    {"Squeeze", DT_QROLE_PASSED},
    {"Unsqueeze", DT_QROLE_PASSED},
    {"Relu", DT_QROLE_CLAMP},
    {"Clip", DT_QROLE_CLAMP},
};

static bool is_zero(const dt_qgraph *g, int32_t value) {
    const dt_onnx_tensor *t = value >= 0 ? g->value[value].constant : NULL;
    float x;
    if (!t || t->type != DT_TENSOR_F32 || t->n_elem != 1) return false;
    memcpy(&x, t->data, sizeof x);
    return x == 0;
}

/* What such a node could be. */
static dt_quant_role role_between(const dt_qgraph *g, const dt_qnode *n) {
    dt_quant_role role = DT_QROLE_FLOAT;
    for (size_t i = 0; i < sizeof between / sizeof between[0]; i++)
        if (dt_qnode_is(n, between[i].op)) role = between[i].role;
    int32_t n_out = 0;
    for (int32_t k = 0; k < n->n_out; k++) n_out += n->out[k] >= 0;
    if (n_out != 1 || n->out[0] < 0 || n->n_in == 0) return DT_QROLE_FLOAT;
    if (role != DT_QROLE_CLAMP) return role;
    /* Numbers below 0 become 0, as in a range that begins there; the upper end is within what was seen. Whoever else reads
     * what is clamped would see another. */
    const dt_qvalue *v = n->in[0] >= 0 ? &g->value[n->in[0]] : NULL;
    if (!v || v->maker < 0 || v->n_use != 1 || v->held || g->value[n->out[0]].held) return DT_QROLE_FLOAT;
    if (dt_qnode_is(n, "Clip") && !is_zero(g, dt_qnode_in(n, 1))) return DT_QROLE_FLOAT;
    if (dt_qnode_is(n, "Clip") && dt_qnode_in(n, 2) >= 0 && !g->value[n->in[2]].constant)
        return DT_QROLE_FLOAT;
    return role;
}

/* How many of a node's inputs are activations: the first so many. */
static int32_t n_activation(const dt_qnode *n) {
    return dt_qnode_is(n, "Add") || dt_qnode_is(n, "Concat") ? n->n_in : 1;
}

/* Values that come out of products in 8 bits, then those of them that go into such. */
static dt_status find_between(dt_quant *q) {
    const dt_qgraph *g = &q->g;
    bool *from = calloc((size_t)g->n_value + 1, sizeof *from),
         *to = calloc((size_t)g->n_value + 1, sizeof *to);
    dt_quant_role *could = calloc((size_t)g->n_node + 1, sizeof *could);
    if (!from || !to || !could) {
        free(from), free(to), free(could);
        return dt_fail(DT_ERR_MEMORY, "no memory to plan a quantisation");
    }
    for (int32_t i = 0; i < g->n_node; i++) {
        const dt_qnode *n = &g->node[i];
        if (n->gone) continue;
        if (q->role[i] == DT_QROLE_PRODUCT) {
            from[n->out[0]] = true;
            continue;
        }
        could[i] = role_between(g, n);
        if (could[i] == DT_QROLE_FLOAT) continue;
        if (matches(q->o.keep ? q->o.keep : "", dt_qnode_name(g, n))) could[i] = DT_QROLE_FLOAT;
        for (int32_t k = 0; k < n_activation(n); k++)
            if (n->in[k] < 0 || !from[n->in[k]]) could[i] = DT_QROLE_FLOAT;
        /* The range that clamps must be one of what it clamps, not one that is passed on. */
        if (could[i] == DT_QROLE_CLAMP) {
            const int32_t maker = g->value[n->in[0]].maker;
            if (q->role[maker] != DT_QROLE_PRODUCT && could[maker] != DT_QROLE_BETWEEN)
                could[i] = DT_QROLE_FLOAT;
        }
        if (could[i] != DT_QROLE_FLOAT) from[n->out[0]] = true;
    }
    for (int32_t i = g->n_node - 1; i >= 0; i--) {
        const dt_qnode *n = &g->node[i];
        if (n->gone) continue;
        if (q->role[i] == DT_QROLE_PRODUCT) to[n->in[0]] = true;
        if (could[i] == DT_QROLE_FLOAT || !to[n->out[0]]) continue;
        q->role[i] = could[i];
        q->info.n_between += could[i] != DT_QROLE_CLAMP;
        for (int32_t k = 0; k < n_activation(n); k++) to[n->in[k]] = true;
    }
    free(from), free(to), free(could);
    return DT_OK;
}

static void find_wanted(dt_quant *q) {
    const dt_qgraph *g = &q->g;
    for (int32_t i = 0; i < g->n_node; i++) {
        const dt_qnode *n = &g->node[i];
        const dt_quant_role role = q->role[i];
        if (role == DT_QROLE_FLOAT || role == DT_QROLE_CLAMP) continue;
        for (int32_t k = 0; k < (role == DT_QROLE_PRODUCT ? 1 : n_activation(n)); k++)
            q->tensor[n->in[k]].wanted = true;
        if (role == DT_QROLE_PASSED) q->tensor[n->out[0]].like = n->in[0];
    }
}

static dt_status find_seen(dt_quant *q) {
    q->seen = calloc((size_t)q->n_tensor + 1, sizeof *q->seen);
    if (!q->seen) return dt_fail(DT_ERR_MEMORY, "no memory to plan a quantisation");
    for (int32_t i = 0; i < q->g.n_node && q->o.compensate; i++)
        if (dt_quant_is_4_bits(q, i)) {
            dt_quant_weight w;
            (void)dt_quant_weight_of(&q->g, &q->g.node[i], &w);
            q->tensor[q->g.node[i].in[0]].k = w.outer * w.inner;
        }
    for (int32_t v = 0; v < q->n_tensor; v++) {
        dt_quant_tensor *t = &q->tensor[v];
        const bool ranged = q->o.form == DT_QUANT_STATIC && t->wanted && t->like < 0;
        if (!ranged && t->k == 0) continue;
        q->seen[q->n_seen++] = v;
        if (ranged) t->seen = calloc(1, sizeof *t->seen);
        if (t->k > 0) t->square = calloc((size_t)(t->k * t->k), sizeof *t->square);
        if ((ranged && !t->seen) || (t->k > 0 && !t->square))
            return dt_fail(DT_ERR_MEMORY, "no memory to observe %s", q->g.value[v].name);
    }
    q->info.n_tensor = q->n_seen;
    return DT_OK;
}

dt_status dt_quant_plan(dt_quant *q) {
    q->n_tensor = q->g.n_value;
    q->role = calloc((size_t)q->g.n_node + 1, sizeof *q->role);
    q->tensor = calloc((size_t)q->n_tensor + 1, sizeof *q->tensor);
    if (!q->role || !q->tensor) return dt_fail(DT_ERR_MEMORY, "no memory to plan a quantisation");
    for (int32_t v = 0; v < q->n_tensor; v++) q->tensor[v].like = -1;
    choose_products(q);
    if (q->o.form == DT_QUANT_STATIC) {
        DT_TRY(find_between(q));
        find_wanted(q);
    } else {
        choose_tables(q);
    }
    if (q->info.n_done == 0)
        return dt_fail(
            DT_ERR_UNSUPPORTED,
            "%s: there is nothing to quantise: %d convolutions and products with constant f32 weights%s",
            q->g.m->path, (int)q->info.n_node, q->info.n_node > 0 ? ", all left out" : "");
    for (int32_t i = 0; i < q->g.n_node; i++) q->info.n_4_bits += dt_quant_is_4_bits(q, i);
    return find_seen(q);
}
