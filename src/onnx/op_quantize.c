/* Rows that go from numbers to quantised ones and back. */
#include <math.h>
#include <string.h>

#include "numbers.h"

/* Where the scale of an element is: one for all, one for each place along an axis, or one for each block there. */
typedef struct scales {
    int64_t n, step; /* the axis: its elements, and elements from one to the next */
    int64_t block;   /* places along it that share one */
    int64_t per;     /* scales along it */
    bool blocked;    /* scales have all the other dimensions too */
} scales;

static dt_status read_scales(const dt_onnx_call *c, scales *s) {
    const dt_host_tensor *x = c->in[0], *scale = c->in[1], *zero = dt_onnx_in(c, 2);
    *s = (scales){.n = 1, .step = 1, .block = 1, .per = 1};
    /* One number has any shape. */
    if (zero && (dt_host_n_elem(zero) != 1 || dt_host_n_elem(scale) != 1))
        DT_TRY(dt_onnx_shape_of(c, 2, scale->ndim, scale->dim));
    const bool newest = *c->node->domain != '\0'; /* com.microsoft's are as ai.onnx's of version 21 */
    const int64_t block = newest || c->version >= 21 ? dt_onnx_attr_int(c->node, "block_size", 0) : 0;
    if (block < 0) return dt_onnx_refuse(c, "blocks of %lld", (long long)block);
    if (block == 0 && scale->ndim <= 1 && dt_host_n_elem(scale) == 1) {
        s->block = INT64_MAX;
        return DT_OK;
    }
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, 1, x->ndim, &axis));
    s->n = x->dim[axis];
    s->step = dt_host_span(x, axis + 1, x->ndim);
    s->block = block ? block : 1;
    if (block == 0) {
        if (!newest && c->version < 13) return dt_onnx_refuse(c, "it has more than one scale");
        s->per = s->n;
        return dt_onnx_shape_of(c, 1, 1, &s->n);
    }
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, x->dim, sizeof dim);
    s->per = dim[axis] = s->n / block + (s->n % block != 0);
    s->blocked = true;
    return dt_onnx_shape_of(c, 1, x->ndim, dim);
}

/* The scale of element i. */
static int64_t scale_at(const scales *s, int64_t i) {
    if (s->block == INT64_MAX) return 0;
    const int64_t along = i / s->step % s->n / s->block;
    return s->blocked ? (i / s->step / s->n * s->per + along) * s->step + i % s->step : along;
}

/* The type that an attribute names, or `otherwise`; refused where the types do not have it. */
static dt_status type_asked(const dt_onnx_call *c, const char *attr, dt_tensor_type otherwise, uint32_t types,
                            dt_tensor_type *out) {
    const int64_t number = dt_onnx_attr_int(c->node, attr, 0);
    *out = otherwise;
    if (number != 0) DT_TRY(dt_onnx_type(c, number, out));
    if (types & DT_HOST_IS(*out)) return DT_OK;
    return dt_onnx_refuse(c, "it cannot result in %s", dt_tensor_type_name(*out));
}

static const uint32_t quantised =
    DT_HOST_BYTES | DT_HOST_SMALL | DT_HOST_IS(DT_TENSOR_I16) | DT_HOST_IS(DT_TENSOR_U16);

static dt_status infer_quantize(const dt_onnx_call *c) {
    scales s;
    dt_tensor_type type = DT_TENSOR_U8;
    const dt_host_tensor *zero = dt_onnx_in(c, 2);
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS | DT_HOST_IS(DT_TENSOR_I32)));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_FLOATS | DT_HOST_IS(DT_TENSOR_I32)));
    DT_TRY(dt_onnx_expect(c, 2, quantised));
    DT_TRY(type_asked(c, "output_dtype", zero ? zero->type : DT_TENSOR_U8, quantised, &type));
    if (zero && zero->type != type)
        return dt_onnx_refuse(c, "its zero point is not of the type that is asked");
    DT_TRY(read_scales(c, &s));
    return dt_onnx_out(c, 0, type, c->in[0]->ndim, c->in[0]->dim);
}

/* The operands of both directions; zero is NULL where there is none. */
static dt_status load_scaled(const dt_onnx_call *c, scales *s, double **x, double **scale, double **zero) {
    DT_TRY(read_scales(c, s));
    DT_TRY(dt_onnx_load(c, 0, x));
    DT_TRY(dt_onnx_load(c, 1, scale));
    return dt_onnx_load(c, 2, zero);
}

static dt_status run_quantize(const dt_onnx_call *c) {
    scales s;
    double *x, *scale, *zero;
    DT_TRY(load_scaled(c, &s, &x, &scale, &zero));
    const int64_t n = dt_host_n_elem(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = scale_at(&s, i);
        x[i] = (double)nearbyintf((float)x[i] / (float)scale[k]) + (zero ? zero[k] : 0);
    }
    dt_host_store_f64(&c->out[0], 0, n, x);
    return DT_OK;
}

static dt_status infer_dequantize(const dt_onnx_call *c) {
    scales s;
    dt_tensor_type type = DT_TENSOR_F32;
    DT_TRY(dt_onnx_expect(c, 0, quantised | DT_HOST_IS(DT_TENSOR_I32)));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_same_type(c, 0, 2));
    DT_TRY(type_asked(c, "output_dtype", c->in[1]->type, DT_HOST_FLOATS, &type));
    DT_TRY(read_scales(c, &s));
    return dt_onnx_out(c, 0, type, c->in[0]->ndim, c->in[0]->dim);
}

static dt_status run_dequantize(const dt_onnx_call *c) {
    scales s;
    double *x, *scale, *zero;
    DT_TRY(load_scaled(c, &s, &x, &scale, &zero));
    const int64_t n = dt_host_n_elem(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = scale_at(&s, i);
        x[i] = (x[i] - (zero ? zero[k] : 0)) * scale[k];
    }
    dt_host_store_f64(&c->out[0], 0, n, x);
    return DT_OK;
}

static dt_status infer_dynamic(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_IS(DT_TENSOR_F32)));
    DT_TRY(dt_onnx_out(c, 0, DT_TENSOR_U8, c->in[0]->ndim, c->in[0]->dim));
    DT_TRY(dt_onnx_out(c, 1, DT_TENSOR_F32, 0, NULL));
    return dt_onnx_out(c, 2, DT_TENSOR_U8, 0, NULL);
}

static dt_status run_dynamic(const dt_onnx_call *c) {
    double *x;
    float low = 0, high = 0;
    const int64_t n = dt_host_n_elem(c->in[0]);
    DT_TRY(dt_onnx_load(c, 0, &x));
    for (int64_t i = 0; i < n; i++) {
        low = fminf(low, (float)x[i]);
        high = fmaxf(high, (float)x[i]);
    }
    const float scale = high == low ? 1 : (high - low) / 255;
    const double zero = fmin(fmax((double)nearbyintf(-low / scale), 0), 255);
    for (int64_t i = 0; i < n; i++) x[i] = (double)nearbyintf((float)x[i] / scale) + zero;
    if (dt_onnx_wants(c, 0)) dt_host_store_f64(&c->out[0], 0, n, x);
    if (dt_onnx_wants(c, 1)) dt_host_put_f64(&c->out[1], 0, (double)scale);
    if (dt_onnx_wants(c, 2)) dt_host_put_f64(&c->out[2], 0, zero);
    return DT_OK;
}

#define ROW(name, since, in_min, in_max, out_max, infer, run)                                                \
    { "", name, since, in_min, in_max, out_max, infer, run, false }

const dt_onnx_op dt_onnx_ops_quantize[] = {
    ROW("QuantizeLinear", 10, 2, 3, 1, infer_quantize, run_quantize),
    ROW("DequantizeLinear", 10, 2, 3, 1, infer_dequantize, run_dequantize),
    ROW("DynamicQuantizeLinear", 11, 1, 1, 3, infer_dynamic, run_dynamic),
    {"com.microsoft", "QuantizeLinear", 1, 2, 3, 1, infer_quantize, run_quantize, false},
    {"com.microsoft", "DequantizeLinear", 1, 2, 3, 1, infer_dequantize, run_dequantize, false},
    {.name = NULL},
};
