/* Weights in 8 and 4 bits, activations as they were. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static const char *name_of(dt_qwriter *w, const char *like, const char *what) {
    const char *name = dt_qgraph_name(w->g, like, what);
    if (!name) dt_onnx_draft_fail(&w->d, "no memory for a name");
    return name ? name : "";
}

static dt_status read_weight(dt_quant *q, const dt_qnode *n, int32_t value, const float **out) {
    *out = dt_qgraph_floats(&q->g, value);
    if (!*out) return dt_fail(DT_ERR_MEMORY, "no memory for a weight");
    for (int64_t i = 0; i < q->g.value[value].constant->n_elem; i++)
        if (!isfinite((*out)[i]))
            return dt_fail(DT_ERR_NONFINITE, "%s: its weight is not finite", dt_qnode_name(&q->g, n));
    return DT_OK;
}

/* ---- 8 bits ---- */

static dt_status put_i8(dt_qwriter *w, const dt_qnode *n, const dt_onnx_tensor *t, const float *x,
                        const dt_quant_weight *at, bool row_scales, const char **weight, const char **scale) {
    const char *like = dt_qnode_name(w->g, n);
    int8_t *small = malloc((size_t)t->n_elem);
    float *s = calloc((size_t)at->channels, sizeof *s);
    if (small && s) {
        const int64_t dim[2] = {at->channels, 1};
        dt_quant_i8(at->outer, at->channels, at->inner, x, NULL, small, s);
        *weight = dt_qwriter_constant(w, like, "weight_quantized", DT_TENSOR_I8, t->ndim, t->dim, small);
        *scale = dt_qwriter_constant(w, like, "weight_scale", DT_TENSOR_F32, row_scales ? 2 : 1, dim, s);
    }
    const dt_status st = small && s ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a weight");
    free(small), free(s);
    return st;
}

static dt_status put_product_i8(dt_qwriter *w, dt_quant *q, const dt_qnode *n) {
    dt_quant_weight at;
    const float *x;
    const char *weight, *scale;
    DT_TRY(read_weight(q, n, n->in[1], &x));
    if (!dt_quant_weight_of(&q->g, n, &at)) return dt_fail(DT_ERR_INTERNAL, "a product without a weight");
    DT_TRY(put_i8(w, n, q->g.value[n->in[1]].constant, x, &at, false, &weight, &scale));
    const char *back = name_of(w, dt_qnode_name(&q->g, n), "weight_dequantized");
    dt_qwriter_node(w, "DequantizeLinear", DT_ONNX_IN(weight, scale), back,
                    DT_ONNX_ATTR(dt_onnx_int("axis", at.axis)));
    dt_qwriter_copy(w, n, (const char *const[]){NULL, back, NULL, NULL});
    return DT_OK;
}

/* Rows that are looked up are dequantised, not the table. */
static dt_status put_table(dt_qwriter *w, dt_quant *q, const dt_qnode *n) {
    const dt_onnx_tensor *t = q->g.value[n->in[0]].constant;
    const dt_quant_weight at = {.outer = 1, .channels = t->dim[0], .inner = t->dim[1]};
    const char *like = dt_qnode_name(&q->g, n), *weight, *scale;
    const float *x;
    DT_TRY(read_weight(q, n, n->in[0], &x));
    DT_TRY(put_i8(w, n, t, x, &at, true, &weight, &scale));
    const char *index = dt_qwriter_see(w, n->in[1]), *rows = name_of(w, like, "rows"),
               *wide = name_of(w, like, "rows_float"), *scales = name_of(w, like, "row_scales");
    dt_qwriter_node(w, "Gather", DT_ONNX_IN(weight, index), rows, DT_ONNX_PLAIN);
    dt_qwriter_node(w, "Gather", DT_ONNX_IN(scale, index), scales, DT_ONNX_PLAIN);
    dt_qwriter_node(w, "Cast", DT_ONNX_IN(rows), wide, DT_ONNX_ATTR(dt_onnx_int("to", 1)));
    dt_qwriter_node(w, "Mul", DT_ONNX_IN(wide, scales), q->g.value[n->out[0]].name, DT_ONNX_PLAIN);
    return DT_OK;
}

/* ---- 4 bits ---- */

typedef struct packer {
    int64_t k, n, blocks;
    const float *w;  /* [k, n] */
    uint8_t *packed; /* [n, blocks, 16]: the first of two in the low bits */
    float *scale;    /* [n, blocks] */
} packer;

/* Scales of the rows from `row` on as they stand. */
static void choose_scales(void *arg, int64_t row, const float *x) {
    packer *p = arg;
    float part[DT_QUANT_BLOCK];
    uint8_t q[DT_QUANT_BLOCK];
    for (int64_t c = 0; c < p->n; c++) {
        for (int64_t i = 0; i < DT_QUANT_BLOCK; i++) part[i] = row + i < p->k ? x[i * p->n + c] : 0;
        p->scale[c * p->blocks + row / DT_QUANT_BLOCK] = dt_quant_i4(part, q);
        uint8_t *to = p->packed + (c * p->blocks + row / DT_QUANT_BLOCK) * DT_QUANT_BLOCK / 2;
        for (int i = 0; i < DT_QUANT_BLOCK / 2; i++) to[i] = (uint8_t)(q[2 * i] | q[2 * i + 1] << 4);
    }
}

/* One row by the scales of its block. */
static void round_row(void *arg, int64_t row, float *x) {
    packer *p = arg;
    const int64_t block = row / DT_QUANT_BLOCK, at = row % DT_QUANT_BLOCK;
    for (int64_t c = 0; c < p->n; c++) {
        const float scale = p->scale[c * p->blocks + block];
        const int q = (int)fminf(fmaxf(nearbyintf(x[c] / scale) + 8, 0), 15);
        uint8_t *to = p->packed + (c * p->blocks + block) * DT_QUANT_BLOCK / 2 + at / 2;
        *to = (uint8_t)(at % 2 ? (*to & 15) | q << 4 : (*to & 240) | q);
        x[c] = (float)(q - 8) * scale;
    }
}

static dt_status pack(dt_quant *q, const dt_qnode *n, packer *p, float *w) {
    double *square = q->tensor[n->in[0]].square;
    if (!square) {
        for (int64_t row = 0; row < p->k; row += DT_QUANT_BLOCK) choose_scales(p, row, w + row * p->n);
        return DT_OK;
    }
    double *own = malloc((size_t)(p->k * p->k) * sizeof *own); /* several products may read one value */
    if (!own) return dt_fail(DT_ERR_MEMORY, "no memory to round a weight");
    memcpy(own, square, (size_t)(p->k * p->k) * sizeof *own);
    const dt_status st = dt_quant_compensate(p->k, p->n, w, own, choose_scales, round_row, p);
    free(own);
    return st;
}

static void put_nbits(dt_qwriter *w, const dt_qnode *n, const packer *p) {
    const char *like = dt_qnode_name(w->g, n), *out = w->g->value[n->out[0]].name;
    const int64_t dim[3] = {p->n, p->blocks, DT_QUANT_BLOCK / 2}, n_scale = p->n * p->blocks;
    const bool added = dt_qnode_in(n, 2) >= 0;
    const char *product = added ? name_of(w, like, "product") : out;
    const char *in[3] = {dt_qwriter_see(w, n->in[0]),
                         dt_qwriter_constant(w, like, "weight_quantized", DT_TENSOR_U8, 3, dim, p->packed),
                         dt_qwriter_constant(w, like, "weight_scale", DT_TENSOR_F32, 1, &n_scale, p->scale)};
    dt_onnx_draft_node(&w->d, "MatMulNBits", "com.microsoft", in, 3, &product, 1,
                       DT_ONNX_ATTR(dt_onnx_int("K", p->k), dt_onnx_int("N", p->n), dt_onnx_int("bits", 4),
                                    dt_onnx_int("block_size", DT_QUANT_BLOCK)));
    if (added)
        dt_qwriter_node(w, "Add", DT_ONNX_IN(product, dt_qwriter_see(w, n->in[2])), out, DT_ONNX_PLAIN);
}

static dt_status put_product_i4(dt_qwriter *w, dt_quant *q, const dt_qnode *n) {
    dt_quant_weight at;
    const float *x;
    DT_TRY(read_weight(q, n, n->in[1], &x));
    if (!dt_quant_weight_of(&q->g, n, &at)) return dt_fail(DT_ERR_INTERNAL, "a product without a weight");
    packer p = {.k = at.outer * at.inner, .n = at.channels};
    p.blocks = (p.k + DT_QUANT_BLOCK - 1) / DT_QUANT_BLOCK;
    float *rows = malloc((size_t)(p.k * p.n) * sizeof *rows); /* [k, n] */
    p.packed = malloc((size_t)(p.n * p.blocks * DT_QUANT_BLOCK / 2));
    p.scale = malloc((size_t)(p.n * p.blocks) * sizeof *p.scale);
    dt_status st = rows && p.packed && p.scale ? DT_OK : dt_fail(DT_ERR_MEMORY, "no memory for a weight");
    if (st == DT_OK) {
        for (int64_t k = 0; k < p.k; k++)
            for (int64_t c = 0; c < p.n; c++)
                rows[k * p.n + c] = at.axis == 0 ? x[c * p.k + k] : x[k * p.n + c];
        st = pack(q, n, &p, rows);
    }
    if (st == DT_OK) put_nbits(w, n, &p);
    free(rows), free(p.packed), free(p.scale);
    return st;
}

dt_status dt_quant_write_weights(dt_quant *q, dt_onnx_model **out) {
    dt_qwriter w;
    bool small = false;
    for (int32_t i = 0; i < q->g.n_node; i++) small |= dt_quant_is_4_bits(q, i);
    dt_status st = dt_qwriter_begin(&q->g, small, &w);
    for (int32_t i = 0; i < q->g.n_node && st == DT_OK; i++) {
        const dt_qnode *n = &q->g.node[i];
        if (n->gone) continue;
        if (dt_quant_is_4_bits(q, i))
            st = put_product_i4(&w, q, n);
        else if (q->role[i] == DT_QROLE_PRODUCT)
            st = put_product_i8(&w, q, n);
        else if (q->role[i] == DT_QROLE_TABLE)
            st = put_table(&w, q, n);
        else
            dt_qwriter_copy(&w, n, NULL);
    }
    return dt_qwriter_end(&w, st, true, out);
}
