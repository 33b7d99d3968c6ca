#include "numbers.h"

dt_status dt_onnx_same_type(const dt_onnx_call *c, int32_t i, int32_t j) {
    const dt_host_tensor *a = dt_onnx_in(c, i), *b = dt_onnx_in(c, j);
    if (!a || !b || a->type == b->type) return DT_OK;
    return dt_onnx_refuse(c, "inputs %d and %d must have one type, and are %s and %s", i, j,
                          dt_tensor_type_name(a->type), dt_tensor_type_name(b->type));
}

dt_status dt_onnx_expect_all(const dt_onnx_call *c, int32_t i, int32_t last, uint32_t types) {
    DT_TRY(dt_onnx_expect(c, i, types));
    for (int32_t j = i + 1; j <= last; j++) DT_TRY(dt_onnx_same_type(c, i, j));
    return DT_OK;
}

dt_status dt_onnx_rank(const dt_onnx_call *c, int32_t i, int32_t lo, int32_t hi) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    if (!t || (t->ndim >= lo && t->ndim <= hi)) return DT_OK;
    if (lo == hi) return dt_onnx_refuse(c, "input %d must have %d dimensions, not %d", i, lo, t->ndim);
    return dt_onnx_refuse(c, "input %d must have %d to %d dimensions, not %d", i, lo, hi, t->ndim);
}

dt_status dt_onnx_shape_of(const dt_onnx_call *c, int32_t i, int32_t ndim, const int64_t *dim) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    if (!t) return DT_OK;
    DT_TRY(dt_onnx_rank(c, i, ndim, ndim));
    for (int32_t d = 0; d < ndim; d++)
        if (t->dim[d] != dim[d])
            return dt_onnx_refuse(c, "dimension %d of input %d must be %lld, not %lld", d, i,
                                  (long long)dim[d], (long long)t->dim[d]);
    return DT_OK;
}

dt_status dt_onnx_one(const dt_onnx_call *c, int32_t i) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    if (!t || dt_host_n_elem(t) == 1) return DT_OK;
    return dt_onnx_refuse(c, "input %d must be one number, and has %lld", i, (long long)dt_host_n_elem(t));
}

double dt_onnx_scalar(const dt_onnx_call *c, int32_t i, double otherwise) {
    const dt_host_tensor *t = dt_onnx_in(c, i);
    return t ? dt_host_f64(t, 0) : otherwise;
}

int64_t dt_host_span(const dt_host_tensor *t, int32_t begin, int32_t end) {
    int64_t n = 1;
    for (int32_t d = begin; d < end; d++)
        if (__builtin_mul_overflow(n, t->dim[d], &n)) return INT64_MAX;
    return n;
}

dt_status dt_onnx_doubles(const dt_onnx_call *c, int64_t n, double **out) {
    void *p;
    int64_t bytes;
    if (n < 0 || __builtin_mul_overflow(n, (int64_t)sizeof **out, &bytes))
        return dt_onnx_refuse(c, "it needs too much memory");
    DT_TRY(dt_onnx_scratch(c, bytes, &p));
    *out = p;
    return DT_OK;
}

dt_status dt_onnx_load(const dt_onnx_call *c, int32_t i, double **out) {
    *out = NULL;
    const dt_host_tensor *t = dt_onnx_in(c, i);
    if (!t) return DT_OK;
    DT_TRY(dt_onnx_doubles(c, dt_host_n_elem(t), out));
    dt_host_load_f64(t, 0, 1, dt_host_n_elem(t), *out);
    return DT_OK;
}
