/* Reading by index. */
#include <string.h>

#include "walk.h"

static void copy_elem(dt_host_tensor *y, int64_t to, const dt_host_tensor *x, int64_t from) {
    const size_t bytes = (size_t)dt_host_elem_bytes(x->type);
    memcpy((char *)y->data + (size_t)to * bytes, (const char *)x->data + (size_t)from * bytes, bytes);
}

static int64_t product(const int64_t *dim, int32_t from, int32_t to) {
    int64_t n = 1;
    for (int32_t d = from; d < to; d++) n *= dim[d];
    return n;
}

/* ---- Gather ---- */

static dt_status infer_gather(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    int32_t axis, n = 0;
    int64_t dim[3 * DT_MAX_DIM];
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_INDEX));
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    for (int32_t d = 0; d < axis; d++) dim[n++] = x->dim[d];
    for (int32_t d = 0; d < index->ndim; d++) dim[n++] = index->dim[d];
    for (int32_t d = axis + 1; d < x->ndim; d++) dim[n++] = x->dim[d];
    return dt_onnx_out(c, 0, x->type, n, dim);
}

static dt_status run_gather(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    dt_host_tensor *y = &c->out[0];
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    const int64_t outer = product(x->dim, 0, axis), n = dt_host_n_elem(index), size = x->dim[axis];
    const int64_t bytes = product(x->dim, axis + 1, x->ndim) * dt_host_elem_bytes(x->type);
    if (dt_host_n_elem(y) == 0) return DT_OK;
    for (int64_t i = 0; i < n; i++) {
        int64_t from;
        DT_TRY(dt_onnx_index(c, index, i, size, &from));
        for (int64_t o = 0; o < outer; o++)
            memcpy((char *)y->data + (o * n + i) * bytes, (const char *)x->data + (o * size + from) * bytes,
                   (size_t)bytes);
    }
    return DT_OK;
}

/* ---- GatherElements ---- */

static dt_status infer_gather_elements(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    int32_t axis;
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_INDEX));
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    if (index->ndim != x->ndim)
        return dt_onnx_refuse(c, "its indices have %d dimensions, its data %d", (int)index->ndim,
                              (int)x->ndim);
    for (int32_t d = 0; d < x->ndim; d++)
        if (d != axis && index->dim[d] > x->dim[d])
            return dt_onnx_refuse(c, "its indices have %lld in dimension %d, its data %lld",
                                  (long long)index->dim[d], (int)d, (long long)x->dim[d]);
    return dt_onnx_out(c, 0, x->type, index->ndim, index->dim);
}

static dt_status run_gather_elements(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    int32_t axis;
    int64_t step[DT_MAX_DIM], at[DT_MAX_DIM] = {0};
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    dt_walk_steps(x->ndim, x->dim, step);
    for (int64_t i = 0, n = dt_host_n_elem(index); i < n; i++) {
        int64_t from;
        DT_TRY(dt_onnx_index(c, index, i, x->dim[axis], &from));
        from *= step[axis];
        for (int32_t d = 0; d < x->ndim; d++)
            if (d != axis) from += at[d] * step[d];
        copy_elem(&c->out[0], i, x, from);
        for (int32_t d = x->ndim - 1; d >= 0 && ++at[d] == index->dim[d]; d--) at[d] = 0;
    }
    return DT_OK;
}

/* ---- GatherND ---- */

static dt_status infer_gather_nd(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    const int64_t batch = dt_onnx_attr_int(c->node, "batch_dims", 0);
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_IS(DT_TENSOR_I64)));
    if (batch < 0 || batch >= x->ndim || batch >= index->ndim)
        return dt_onnx_refuse(c, "batch_dims is %lld, of %d dimensions", (long long)batch, (int)x->ndim);
    const int64_t depth = index->dim[index->ndim - 1];
    if (depth < 1 || depth > x->ndim - batch)
        return dt_onnx_refuse(c, "an index of %lld numbers for %d dimensions", (long long)depth,
                              (int)(x->ndim - batch));
    int64_t dim[2 * DT_MAX_DIM];
    int32_t n = 0;
    for (int32_t d = 0; d < index->ndim - 1; d++) {
        if (d < batch && index->dim[d] != x->dim[d])
            return dt_onnx_refuse(c, "batch dimension %d is %lld and %lld", (int)d, (long long)x->dim[d],
                                  (long long)index->dim[d]);
        dim[n++] = index->dim[d];
    }
    for (int32_t d = (int32_t)(batch + depth); d < x->ndim; d++) dim[n++] = x->dim[d];
    return dt_onnx_out(c, 0, x->type, n, dim);
}

static dt_status run_gather_nd(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    const int32_t batch = (int32_t)dt_onnx_attr_int(c->node, "batch_dims", 0);
    const int32_t depth = (int32_t)index->dim[index->ndim - 1];
    if (dt_host_n_elem(&c->out[0]) == 0) return DT_OK;
    const int64_t n = dt_host_n_elem(index) / depth, per_batch = n / product(x->dim, 0, batch);
    const int64_t inner = product(x->dim, batch, x->ndim);
    const int64_t bytes = product(x->dim, batch + depth, x->ndim) * dt_host_elem_bytes(x->type);
    for (int64_t i = 0; i < n; i++) {
        int64_t from = 0;
        for (int32_t d = 0; d < depth; d++) {
            int64_t at;
            DT_TRY(dt_onnx_index(c, index, i * depth + d, x->dim[batch + d], &at));
            from = from * x->dim[batch + d] + at;
        }
        memcpy((char *)c->out[0].data + i * bytes,
               (const char *)x->data + i / per_batch * inner * dt_host_elem_bytes(x->type) + from * bytes,
               (size_t)bytes);
    }
    return DT_OK;
}

/* ---- Compress, NonZero ---- */

static dt_status infer_compress(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *keep = c->in[1];
    const bool flat = !dt_onnx_attr_find(c->node, "axis");
    int32_t axis = 0;
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_BOOL));
    DT_TRY(dt_onnx_need(c, 1));
    if (!flat) DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    const int64_t n = flat ? dt_host_n_elem(x) : x->dim[axis];
    if (keep->ndim != 1 || keep->dim[0] > n)
        return dt_onnx_refuse(c, "its condition has %lld values for %lld", (long long)dt_host_n_elem(keep),
                              (long long)n);
    int64_t kept = 0, dim[DT_MAX_DIM];
    for (int64_t i = 0; i < keep->dim[0]; i++) kept += dt_host_i64(keep, i);
    memcpy(dim, x->dim, sizeof dim);
    dim[axis] = kept;
    return dt_onnx_out(c, 0, x->type, flat ? 1 : x->ndim, dim);
}

static dt_status run_compress(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *keep = c->in[1];
    const bool flat = !dt_onnx_attr_find(c->node, "axis");
    int32_t axis = 0;
    if (!flat) DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    const int64_t outer = flat ? 1 : product(x->dim, 0, axis), size = flat ? dt_host_n_elem(x) : x->dim[axis];
    const int64_t bytes = (flat ? 1 : product(x->dim, axis + 1, x->ndim)) * dt_host_elem_bytes(x->type);
    char *y = c->out[0].data;
    if (dt_host_n_elem(&c->out[0]) == 0) return DT_OK;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < keep->dim[0]; i++) {
            if (!dt_host_i64(keep, i)) continue;
            memcpy(y, (const char *)x->data + (o * size + i) * bytes, (size_t)bytes);
            y += bytes;
        }
    return DT_OK;
}

static bool is_zero(const dt_host_tensor *x, int64_t i) {
    return dt_host_is(x, DT_HOST_FLOATS) ? dt_host_f64(x, i) == 0 : dt_host_i64(x, i) == 0;
}

static dt_status infer_non_zero(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    DT_TRY(dt_onnx_need(c, 0));
    int64_t n = 0;
    for (int64_t i = 0, all = dt_host_n_elem(x); i < all; i++) n += !is_zero(x, i);
    return dt_onnx_out(c, 0, DT_TENSOR_I64, 2, (int64_t[]){x->ndim, n});
}

static dt_status run_non_zero(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t *y = c->out[0].data, found = 0;
    const int64_t n = c->out[0].dim[1];
    for (int64_t i = 0, all = dt_host_n_elem(x); i < all; i++) {
        if (is_zero(x, i)) continue;
        for (int64_t d = x->ndim - 1, rest = i; d >= 0; d--) {
            y[d * n + found] = rest % x->dim[d];
            rest /= x->dim[d];
        }
        found++;
    }
    return DT_OK;
}

/* ---- OneHot ---- */

static dt_status infer_one_hot(const dt_onnx_call *c) {
    const dt_host_tensor *index = c->in[0], *values = c->in[2];
    int32_t axis;
    int64_t dim[DT_MAX_DIM + 1];
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_need(c, 1));
    if (dt_host_n_elem(c->in[1]) != 1) return dt_onnx_refuse(c, "its depth is not one number");
    if (values->ndim != 1 || values->dim[0] != 2) return dt_onnx_refuse(c, "its values are not two numbers");
    DT_TRY(dt_onnx_axis_attr(c, -1, index->ndim + 1, &axis));
    for (int32_t d = 0, from = 0; d <= index->ndim; d++)
        dim[d] = d == axis ? dt_host_i64(c->in[1], 0) : index->dim[from++];
    return dt_onnx_out(c, 0, values->type, index->ndim + 1, dim);
}

static dt_status run_one_hot(const dt_onnx_call *c) {
    const dt_host_tensor *index = c->in[0];
    dt_host_tensor *y = &c->out[0];
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, -1, y->ndim, &axis));
    const int64_t n = dt_host_n_elem(y), depth = y->dim[axis], inner = product(y->dim, axis + 1, y->ndim);
    for (int64_t i = 0; i < n; i++) copy_elem(y, i, c->in[2], 0);
    for (int64_t i = 0; n > 0 && i < n / depth; i++) {
        int64_t at = dt_host_i64(index, i); /* outside of the depth: nowhere */
        if (at < 0) at += depth;
        if (at >= 0 && at < depth)
            copy_elem(y, i / inner * depth * inner + at * inner + i % inner, c->in[2], 1);
    }
    return DT_OK;
}

/* ---- ReverseSequence ---- */

static dt_status reverse_axes(const dt_onnx_call *c, int64_t *time, int64_t *batch) {
    *time = dt_onnx_attr_int(c->node, "time_axis", 0), *batch = dt_onnx_attr_int(c->node, "batch_axis", 1);
    if (c->in[0]->ndim < 2 || *time < 0 || *time > 1 || *batch != 1 - *time)
        return dt_onnx_refuse(c, "time_axis %lld and batch_axis %lld are not the first two dimensions",
                              (long long)*time, (long long)*batch);
    return DT_OK;
}

static dt_status infer_reverse(const dt_onnx_call *c) {
    int64_t time, batch;
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_INDEX));
    DT_TRY(reverse_axes(c, &time, &batch));
    if (c->in[1]->ndim != 1 || c->in[1]->dim[0] != c->in[0]->dim[batch])
        return dt_onnx_refuse(c, "there are not as many lengths as sequences");
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_reverse(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t time, batch;
    DT_TRY(reverse_axes(c, &time, &batch));
    const int64_t n_time = x->dim[time], n_batch = x->dim[batch];
    const int64_t bytes = product(x->dim, 2, x->ndim) * dt_host_elem_bytes(x->type);
    const int64_t by_time = time == 0 ? n_batch * bytes : bytes,
                  by_batch = time == 0 ? bytes : n_time * bytes;
    for (int64_t b = 0; b < n_batch && bytes > 0; b++) {
        const int64_t length = dt_host_i64(c->in[1], b);
        if (length < 0 || length > n_time)
            return dt_onnx_refuse(c, "sequence %lld has length %lld of %lld", (long long)b, (long long)length,
                                  (long long)n_time);
        for (int64_t t = 0; t < n_time; t++)
            memcpy((char *)c->out[0].data + b * by_batch + t * by_time,
                   (const char *)x->data + b * by_batch + (t < length ? length - 1 - t : t) * by_time,
                   (size_t)bytes);
    }
    return DT_OK;
}

const dt_onnx_op dt_onnx_ops_index[] = {
    {"", "Gather", 1, 2, 2, 1, infer_gather, run_gather, false},
    {"", "GatherElements", 11, 2, 2, 1, infer_gather_elements, run_gather_elements, false},
    {"", "GatherND", 11, 2, 2, 1, infer_gather_nd, run_gather_nd, false},
    {"", "Compress", 9, 2, 2, 1, infer_compress, run_compress, false},
    {"", "NonZero", 9, 1, 1, 1, infer_non_zero, run_non_zero, false},
    {"", "OneHot", 9, 3, 3, 1, infer_one_hot, run_one_hot, false},
    {"", "ReverseSequence", 10, 2, 2, 1, infer_reverse, run_reverse, false},
    {.name = NULL},
};
