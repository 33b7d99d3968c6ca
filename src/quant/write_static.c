/* Values in 8 bits: QuantizeLinear and DequantizeLinear behind whoever makes them, weights and biases behind a
 * DequantizeLinear. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static const char *name_of(dt_qwriter *w, const char *like, const char *what) {
    const char *name = dt_qgraph_name(w->g, like, what);
    if (!name) dt_onnx_draft_fail(&w->d, "no memory for a name");
    return name ? name : "";
}

/* The value of that name, `from` in the model, in 8 bits and back. */
static void put_pair(dt_qwriter *w, dt_quant *q, int32_t value, const char *from) {
    const char *like = q->g.value[value].name;
    const dt_quant_u8 *to = &q->tensor[value].to;
    const char *scale = dt_qwriter_constant(w, like, "scale", DT_TENSOR_F32, 0, NULL, &to->scale),
               *zero = dt_qwriter_constant(w, like, "zero_point", DT_TENSOR_U8, 0, NULL, &to->zero),
               *small = name_of(w, like, "quantized"), *back = name_of(w, like, "dequantized");
    dt_qwriter_node(w, "QuantizeLinear", DT_ONNX_IN(from, scale, zero), small, DT_ONNX_PLAIN);
    dt_qwriter_node(w, "DequantizeLinear", DT_ONNX_IN(small, scale, zero), back, DT_ONNX_PLAIN);
    w->as[value] = back;
}

/* The one clamp that reads what the node makes; -1: none. */
static int32_t clamp_of(const dt_quant *q, int32_t node) {
    const int32_t v = q->g.node[node].out[0];
    for (int32_t i = node + 1; i < q->g.n_node; i++)
        if (q->role[i] == DT_QROLE_CLAMP && !q->g.node[i].gone && q->g.node[i].in[0] == v) return i;
    return -1;
}

/* Whatever readers in 8 bits want of the node's result, or of the clamp behind it, which then is left out. */
static void put_result(dt_qwriter *w, dt_quant *q, int32_t node) {
    const dt_qnode *n = &q->g.node[node];
    if (n->n_out == 0 || n->out[0] < 0) return;
    const int32_t clamp = clamp_of(q, node);
    const char *from = q->g.value[n->out[0]].name;
    if (clamp >= 0 && q->tensor[q->g.node[clamp].out[0]].wanted) {
        put_pair(w, q, q->g.node[clamp].out[0], from);
        q->g.node[clamp].gone = true;
    } else if (n->out[0] < q->n_tensor && q->tensor[n->out[0]].wanted) {
        put_pair(w, q, n->out[0], from);
    }
}

/* The bias as i32 in units of the two scales; its name behind a DequantizeLinear, "" where it cannot be one. */
static const char *put_bias(dt_qwriter *w, const char *like, int64_t n, const float *bias, float input,
                            const float *scale) {
    float *unit = calloc((size_t)n, sizeof *unit);
    double *exact = calloc((size_t)n, sizeof *exact);
    int32_t *whole = calloc((size_t)n, sizeof *whole);
    const char *out = "";
    if (unit && exact && whole) {
        for (int64_t i = 0; i < n; i++) unit[i] = input * scale[i], exact[i] = (double)unit[i];
        dt_quant_i32(n, bias, exact, whole);
        const char *q = dt_qwriter_constant(w, like, "bias_quantized", DT_TENSOR_I32, 1, &n, whole),
                   *s = dt_qwriter_constant(w, like, "bias_scale", DT_TENSOR_F32, 1, &n, unit);
        out = name_of(w, like, "bias_dequantized");
        dt_qwriter_node(w, "DequantizeLinear", DT_ONNX_IN(q, s), out, DT_ONNX_ATTR(dt_onnx_int("axis", 0)));
    } else {
        dt_onnx_draft_fail(&w->d, "no memory for a bias");
    }
    free(unit), free(exact), free(whole);
    return out;
}

static dt_status put_product(dt_qwriter *w, dt_quant *q, const dt_qnode *n) {
    dt_quant_weight at;
    const float *x = dt_qgraph_floats(&q->g, n->in[1]);
    const bool is = dt_quant_weight_of(&q->g, n, &at);
    if (!is || !x) return dt_fail(DT_ERR_MEMORY, "no memory for a weight");
    const dt_onnx_tensor *t = q->g.value[n->in[1]].constant;
    const char *like = dt_qnode_name(&q->g, n);
    const float input = q->tensor[n->in[0]].to.scale;
    const int32_t bias_at = dt_qnode_in(n, 2);
    const float *bias = dt_qgraph_floats(&q->g, bias_at);
    if (bias && q->g.value[bias_at].constant->n_elem != at.channels) bias = NULL;
    for (int64_t c = 0; bias && c < at.channels; c++)
        if (!isfinite(bias[c])) return dt_fail(DT_ERR_NONFINITE, "%s: its bias is not finite", like);
    for (int64_t i = 0; i < t->n_elem; i++)
        if (!isfinite(x[i])) return dt_fail(DT_ERR_NONFINITE, "%s: its weight is not finite", like);
    int8_t *small = malloc((size_t)t->n_elem);
    float *scale = calloc((size_t)at.channels, sizeof *scale),
          *least = calloc((size_t)at.channels, sizeof *least);
    dt_status st = small && scale && least ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a weight");
    if (st == DT_OK) {
        for (int64_t c = 0; bias && c < at.channels; c++) least[c] = dt_quant_least_scale(bias[c], input);
        dt_quant_i8(at.outer, at.channels, at.inner, x, bias ? least : NULL, small, scale);
        const char *weight =
                       dt_qwriter_constant(w, like, "weight_quantized", DT_TENSOR_I8, t->ndim, t->dim, small),
                   *s = dt_qwriter_constant(w, like, "weight_scale", DT_TENSOR_F32, 1, &at.channels, scale),
                   *back = name_of(w, like, "weight_dequantized");
        dt_qwriter_node(w, "DequantizeLinear", DT_ONNX_IN(weight, s), back,
                        DT_ONNX_ATTR(dt_onnx_int("axis", at.axis)));
        const char *in[3] = {w->as[n->in[0]], back, NULL};
        if (bias) in[2] = put_bias(w, like, at.channels, bias, input, scale);
        dt_qwriter_copy(w, n, in);
    }
    free(small), free(scale), free(least);
    return st;
}

/* Readers in 8 bits see that; where a clamp is gone all do, as there is nothing else. */
static void put_other(dt_qwriter *w, dt_quant *q, int32_t node) {
    const dt_qnode *n = &q->g.node[node];
    const bool small = q->role[node] != DT_QROLE_FLOAT && q->role[node] != DT_QROLE_CLAMP;
    const char **in = dt_onnx_alloc(q->g.pool, ((int64_t)n->n_in + 1) * (int64_t)sizeof *in);
    if (!in) {
        dt_onnx_draft_fail(&w->d, "no memory for a node");
        return;
    }
    for (int32_t k = 0; k < n->n_in; k++) {
        const int32_t v = n->in[k];
        if (v < 0 || v >= q->n_tensor || !w->as[v]) continue;
        const int32_t maker = q->g.value[v].maker;
        if (small || (maker >= 0 && q->role[maker] == DT_QROLE_CLAMP && q->g.node[maker].gone))
            in[k] = w->as[v];
    }
    dt_qwriter_copy(w, n, in);
}

dt_status dt_quant_write_static(dt_quant *q, dt_onnx_model **out) {
    dt_qwriter w;
    dt_status st = dt_qwriter_begin(&q->g, false, &w);
    for (int32_t i = 0; i < q->g.m->graph.n_in && st == DT_OK; i++) {
        const int32_t v = dt_qgraph_find(&q->g, q->g.m->graph.in[i].name);
        if (q->tensor[v].wanted) put_pair(&w, q, v, q->g.value[v].name);
    }
    for (int32_t i = 0; i < q->g.n_node && st == DT_OK; i++) {
        const dt_qnode *n = &q->g.node[i];
        if (n->gone) continue;
        if (q->role[i] == DT_QROLE_PRODUCT)
            st = put_product(&w, q, n);
        else
            put_other(&w, q, i);
        put_result(&w, q, i);
    }
    return dt_qwriter_end(&w, st, true, out);
}
