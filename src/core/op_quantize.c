/* Numbers in 8 and 4 bits: to them, back, and products of them. For graphs that only run forward. */
#include <math.h>

#include "core/qproduct.h"
#include "op_row.h"

enum { DEPTH_MAX = 1 << 16 }; /* so many products of 8 bits fit 32 */

static bool is_scale(float s) {
    return isfinite(s) && s > 0;
}

static dt_status check_scale(dt_qscale s, const char *of) {
    if (is_scale(s.scale) && s.zero >= 0 && s.zero <= 255) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "numbers of 8 bits by scale %g and zero point %d in %s", (double)s.scale,
                   s.zero, of);
}

static dt_status infer_quantize(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_quantize_attr *t = &n->attr.quantize;
    const dt_value *x = dt_infer_in(g, n, 0);
    if (t->per < 0 || t->per >= DT_QUANTIZE_COUNT) return dt_fail(DT_ERR_CONFIG, "no such range: %d", t->per);
    if (t->per == DT_QUANTIZE_GIVEN && !is_scale(t->scale))
        return dt_fail(DT_ERR_CONFIG, "a scale of %g", (double)t->scale);
    if ((t->per == DT_QUANTIZE_GIVEN) == dt_node_makes(n, 1))
        return dt_fail(DT_ERR_CONFIG, "scales that are measured are results, and others are not");
    dt_infer_set(&out[0], t->is_signed ? DT_DTYPE_I8 : DT_DTYPE_U8, x->ndim, x->dim);
    const int64_t n_elem = dt_value_n_elem(x);
    const int64_t rows = t->per == DT_QUANTIZE_ROW     ? n_elem / dt_max_i64(dt_infer_last(x), 1)
                         : t->per == DT_QUANTIZE_FIRST ? x->dim[0]
                                                       : 1;
    DT_INFER_SET(&out[1], DT_DTYPE_F32, rows, 2);
    return DT_OK;
}

static dt_status infer_dequantize(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    if (x->dtype != DT_DTYPE_U8 && x->dtype != DT_DTYPE_I8) return dt_infer_misfit(g, n, 0);
    if (!is_scale(n->attr.quantize.scale))
        return dt_fail(DT_ERR_CONFIG, "a scale of %g", (double)n->attr.quantize.scale);
    dt_infer_set(&out[0], DT_DTYPE_F32, x->ndim, x->dim);
    return DT_OK;
}

/* A depth of the filter and the channels of the image are one another's. */
static dt_status check_window(const dt_qproduct *q, const dt_value *x, dt_value *y) {
    const dt_window_attr *t = &q->window;
    int64_t p, c;
    if (x->ndim != 4) return dt_fail(DT_ERR_CONFIG, "%s is no image", x->name);
    if (t->groups < 1 || x->dim[3] % t->groups || q->k % t->groups)
        return dt_fail(DT_ERR_CONFIG, "groups %d does not divide %lld input and %lld output channels",
                       t->groups, (long long)x->dim[3], (long long)q->k);
    if ((int64_t)t->kernel[0] * t->kernel[1] * (x->dim[3] / t->groups) != q->depth)
        return dt_fail(DT_ERR_CONFIG, "filters of %lld numbers for %s of %s", (long long)q->depth, x->name,
                       dt_value_shape_text(x));
    DT_TRY(dt_infer_windows(t, x->dim[1], x->dim[2], &p, &c));
    DT_INFER_SET(y, q->y_type, x->dim[0], p, c, q->k);
    return DT_OK;
}

static dt_status infer_qproduct(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_qproduct *q = n->attr.qproduct.product;
    const dt_value *x = dt_infer_in(g, n, DT_QPRODUCT_IN_X);
    const bool scaled = dt_node_has(n, DT_QPRODUCT_IN_X_SCALE), added = dt_node_has(n, DT_QPRODUCT_IN_RES);
    if (!q || q->k < 1 || q->depth < 1 || q->depth > INT32_MAX || (q->bits != 8 && q->bits != 4))
        return dt_fail(DT_ERR_CONFIG, "a product of nothing");
    const bool small = q->bits == 8;
    if (x->dtype != (small ? DT_DTYPE_U8 : DT_DTYPE_F32)) return dt_infer_misfit(g, n, DT_QPRODUCT_IN_X);
    if (small && (q->depth > DEPTH_MAX || !q->w || (!q->w_scale && q->y_type != DT_DTYPE_I32)))
        return dt_fail(DT_ERR_CONFIG, "sums of %lld products of 8 bits", (long long)q->depth);
    if (!small && (!q->dense || !q->w4 || !q->w4_scale || q->block < 8 || q->block % 8 || scaled || added ||
                   q->y_type != DT_DTYPE_F32))
        return dt_fail(DT_ERR_CONFIG, "such a product is not made with weights of 4 bits");
    if (small && !scaled) DT_TRY(check_scale(q->x, "its input"));
    if (q->has_mid) DT_TRY(check_scale(q->mid, "its middle"));
    if (q->y_type == DT_DTYPE_U8) DT_TRY(check_scale(q->y, "its result"));
    if (q->y_type != DT_DTYPE_U8 && q->y_type != DT_DTYPE_F32 &&
        (q->y_type != DT_DTYPE_I32 || added || q->act || scaled || q->bias || q->bias_f32))
        return dt_fail(DT_ERR_CONFIG, "a result in %s", dt_dtype_name(q->y_type));
    if (q->act != 0 && q->act != 1 + DT_UNARY_RELU)
        return dt_fail(DT_ERR_CONFIG, "an end that is neither plain nor relu");
    if (scaled && (q->bias || q->y_type != DT_DTYPE_F32 || q->has_mid))
        return dt_fail(DT_ERR_CONFIG, "scales of rows go with a result in f32");
    if (q->dense) {
        if (dt_infer_last(x) != q->depth) return dt_infer_misfit(g, n, DT_QPRODUCT_IN_X);
        dt_infer_set(&out[0], q->y_type, x->ndim, x->dim);
        out[0].dim[x->ndim - 1] = q->k;
    } else {
        DT_TRY(check_window(q, x, &out[0]));
    }
    if (scaled) {
        const dt_value *s = dt_infer_in(g, n, DT_QPRODUCT_IN_X_SCALE);
        const int64_t rows = dt_value_n_elem(&out[0]) / q->k;
        if (s->dim[1] != 2 || rows % s->dim[0]) return dt_infer_misfit(g, n, DT_QPRODUCT_IN_X_SCALE);
    }
    if (!added) return q->has_mid ? dt_fail(DT_ERR_CONFIG, "a middle without a sum") : DT_OK;
    const dt_value *r = dt_infer_in(g, n, DT_QPRODUCT_IN_RES);
    if (!dt_infer_same_dims(&out[0], r) || (r->dtype != DT_DTYPE_U8 && r->dtype != DT_DTYPE_F32))
        return dt_infer_misfit(g, n, DT_QPRODUCT_IN_RES);
    return r->dtype == DT_DTYPE_U8 ? check_scale(q->res, "what is added") : DT_OK;
}

static double qproduct_flops(const dt_graph *g, const dt_node *n) {
    return 2.0 * (double)dt_value_n_elem(&g->value[n->out[0]]) * (double)n->attr.qproduct.product->depth;
}

const dt_op_row dt_row_quantize = {
    .name = "quantize",
    .doc = "y = round(x / scale) + zero, half to even, within u8 or i8. per: by scale and zero as given, or "
           "by those of "
           "ONNX's DynamicQuantizeLinear of all of x, of each of its first dimension, of each row; "
           "they are x_scale [rows, (scale, zero)].",
    .in = {F32("x")},
    .out = {ANY("y"), F32("x_scale", OPT)},
    .flags = DT_OP_INTERNAL | DT_OP_NO_GRADIENT,
    .attr = {A(quantize, scale), A(quantize, zero), A(quantize, per), A(quantize, is_signed)},
    .infer = infer_quantize,
};

const dt_op_row dt_row_dequantize = {
    .name = "dequantize",
    .doc = "y = (x - zero) * scale of x in u8 or i8.",
    .in = {ANY("x")},
    .out = {F32("y")},
    .flags = DT_OP_INTERNAL | DT_OP_NO_GRADIENT,
    .attr = {A(quantize, scale), A(quantize, zero)},
    .infer = infer_dequantize,
};

const dt_op_row dt_row_qproduct = {
    .name = "qproduct",
    .doc = "y = act(x w * scales + bias + res), a convolution or a product of rows, of x in u8 (w in 8 bits, "
           "sums are "
           "exact) or f32 (w in 4 bits); y is f32, or u8 again. x_scale: scale and zero point of equally "
           "many rows each.",
    .in = {ANY("x"), F32("x_scale", OPT, .rank = 2), ANY("res", OPT)},
    .out = {ANY("y")},
    .flags = DT_OP_INTERNAL | DT_OP_NO_GRADIENT,
    .attr = {A(qproduct, product)},
    .infer = infer_qproduct,
    .flops = qproduct_flops,
};
