/* From one type to another. */
#include <math.h>
#include <string.h>

#include "walk.h"

dt_status dt_onnx_type(const dt_onnx_call *c, int64_t number, dt_tensor_type *out) {
    static const int8_t types[] = {
        -1,
        DT_TENSOR_F32,
        DT_TENSOR_U8,
        DT_TENSOR_I8,
        DT_TENSOR_U16,
        DT_TENSOR_I16,
        DT_TENSOR_I32,
        DT_TENSOR_I64,
        -1 /* text */,
        DT_TENSOR_BOOL,
        DT_TENSOR_F16,
        DT_TENSOR_F64,
        DT_TENSOR_U32,
        DT_TENSOR_U64,
        -1,
        -1,
        DT_TENSOR_BF16,
        -1,
        -1,
        -1,
        -1,
        DT_TENSOR_U4,
        DT_TENSOR_I4,
        -1,
        -1,
        DT_TENSOR_U2,
        DT_TENSOR_I2,
    };
    const int8_t type = number < 0 || number >= (int64_t)sizeof types ? -1 : types[number];
    if (type < 0) return dt_onnx_refuse(c, "type %lld is not computed with", (long long)number);
    *out = (dt_tensor_type)type;
    return DT_OK;
}

static dt_status infer_cast(const dt_onnx_call *c) {
    dt_tensor_type to;
    DT_TRY(dt_onnx_type(c, dt_onnx_attr_int(c->node, "to", 0), &to));
    return dt_onnx_out(c, 0, to, c->in[0]->ndim, c->in[0]->dim);
}

static dt_status infer_cast_like(const dt_onnx_call *c) {
    return dt_onnx_out(c, 0, c->in[1]->type, c->in[0]->ndim, c->in[0]->dim);
}

/* Floats are cut to whole numbers, which are kept within the type (ONNX leaves open what else becomes of them; its own
 * examples let those of 2 and 4 bits wrap since opset 23); whole numbers wrap. */
static dt_status run_cast(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    const int64_t n = dt_host_n_elem(x);
    if (x->type == y->type) {
        memcpy(y->data, x->data, (size_t)dt_host_bytes(x));
        return DT_OK;
    }
    const bool wrap = c->version >= 23 && dt_host_is(y, DT_HOST_SMALL);
    const bool floats = dt_host_is(x, DT_HOST_FLOATS) && !wrap;
    const bool cut = dt_host_is(y, DT_HOST_INTS | DT_HOST_SMALL);
    const bool wide = x->type == DT_TENSOR_U64 && dt_host_is(y, DT_HOST_FLOATS);
    double f[DT_RUN];
    int64_t whole[DT_RUN];
    for (int64_t i = 0; i < n; i += DT_RUN) {
        const int64_t m = dt_min_i64(n - i, DT_RUN);
        if (floats || wide) {
            dt_host_load_f64(x, i, 1, m, f);
            for (int64_t k = 0; k < m && cut; k++) f[k] = trunc(f[k]);
            dt_host_store_f64(y, i, m, f);
        } else {
            dt_host_load_i64(x, i, 1, m, whole);
            dt_host_store_i64(y, i, m, whole);
        }
    }
    return DT_OK;
}

static dt_status infer_bit_cast(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    dt_tensor_type to;
    DT_TRY(dt_onnx_type(c, dt_onnx_attr_int(c->node, "to", 0), &to));
    if (dt_host_elem_bytes(to) != dt_host_elem_bytes(x->type) || DT_HOST_IS(to) & DT_HOST_SMALL ||
        dt_host_is(x, DT_HOST_SMALL))
        return dt_onnx_refuse(c, "%s and %s do not have as many bits", dt_tensor_type_name(x->type),
                              dt_tensor_type_name(to));
    return dt_onnx_out(c, 0, to, x->ndim, x->dim);
}
static dt_status run_bit_cast(const dt_onnx_call *c) {
    memcpy(c->out[0].data, c->in[0]->data, (size_t)dt_host_bytes(c->in[0]));
    return DT_OK;
}

const dt_onnx_op dt_onnx_ops_cast[] = {
    {"", "Cast", 6, 1, 1, 1, infer_cast, run_cast, false},
    {"", "CastLike", 15, 2, 2, 1, infer_cast_like, run_cast, false},
    {"", "BitCast", 26, 1, 1, 1, infer_bit_cast, run_bit_cast, false},
    {.name = NULL},
};
