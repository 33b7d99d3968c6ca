/* Writing by index, and parts that are set to zero. */
#include <string.h>

#include "walk.h"

/* ---- what is there and what comes become one ---- */

typedef enum reduction { SET, ADD, MULTIPLY, LARGER, SMALLER, REDUCTIONS } reduction;

static dt_status reduction_of(const dt_onnx_call *c, reduction *out) {
    static const char *const names[REDUCTIONS] = {"none", "add", "mul", "max", "min"};
    const char *name = dt_onnx_attr_text(c->node, "reduction", "none");
    int r = 0;
    while (r < REDUCTIONS && strcmp(name, names[r]) != 0) r++;
    if (r == REDUCTIONS) return dt_onnx_refuse(c, "there is no reduction '%s'", name);
    if (r != SET) DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    *out = (reduction)r;
    return DT_OK;
}

static void put(dt_host_tensor *y, int64_t to, const dt_host_tensor *x, int64_t from, reduction how) {
    const size_t bytes = (size_t)dt_host_elem_bytes(y->type);
    char *at = (char *)y->data + (size_t)to * bytes;
    const char *value = (const char *)x->data + (size_t)from * bytes;
    if (how == SET) {
        memcpy(at, value, bytes);
    } else if (dt_host_is(y, DT_HOST_FLOATS)) {
        const double a = dt_host_f64(y, to), b = dt_host_f64(x, from);
        dt_host_put_f64(y, to,
                        how == ADD        ? a + b
                        : how == MULTIPLY ? a * b
                        : how == LARGER   ? (a > b || a != a ? a : b)
                                          : (a < b || a != a ? a : b));
    } else {
        const int64_t a = dt_host_i64(y, to), b = dt_host_i64(x, from);
        const bool more = y->type == DT_TENSOR_U64 ? (uint64_t)a > (uint64_t)b : a > b;
        dt_host_put_i64(y, to,
                        how == ADD                ? (int64_t)((uint64_t)a + (uint64_t)b)
                        : how == MULTIPLY         ? (int64_t)((uint64_t)a * (uint64_t)b)
                        : (how == LARGER) == more ? a
                                                  : b);
    }
}

static dt_status like_data(const dt_onnx_call *c) {
    reduction how = SET;
    DT_TRY(reduction_of(c, &how));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_INDEX));
    if (c->in[2]->type != c->in[0]->type)
        return dt_onnx_refuse(c, "it writes %s into %s", dt_tensor_type_name(c->in[2]->type),
                              dt_tensor_type_name(c->in[0]->type));
    return dt_onnx_out_like(c, 0, 0);
}

static void copy_data(const dt_onnx_call *c) {
    memcpy(c->out[0].data, c->in[0]->data, (size_t)dt_host_bytes(c->in[0]));
}

/* ---- ScatterElements ---- */

static dt_status infer_scatter(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1], *u = c->in[2];
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    if (index->ndim != x->ndim || u->ndim != x->ndim)
        return dt_onnx_refuse(c, "data, indices and updates have %d, %d and %d dimensions", (int)x->ndim,
                              (int)index->ndim, (int)u->ndim);
    for (int32_t d = 0; d < x->ndim; d++)
        if (index->dim[d] != u->dim[d] || (d != axis && index->dim[d] > x->dim[d]))
            return dt_onnx_refuse(c, "dimension %d of data, indices and updates is %lld, %lld and %lld",
                                  (int)d, (long long)x->dim[d], (long long)index->dim[d],
                                  (long long)u->dim[d]);
    return like_data(c);
}

static dt_status run_scatter(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    int32_t axis;
    reduction how = SET;
    int64_t step[DT_MAX_DIM], at[DT_MAX_DIM] = {0};
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    DT_TRY(reduction_of(c, &how));
    copy_data(c);
    dt_walk_steps(x->ndim, x->dim, step);
    for (int64_t i = 0, n = dt_host_n_elem(index); i < n; i++) {
        int64_t to;
        DT_TRY(dt_onnx_index(c, index, i, x->dim[axis], &to));
        to *= step[axis];
        for (int32_t d = 0; d < x->ndim; d++)
            if (d != axis) to += at[d] * step[d];
        put(&c->out[0], to, c->in[2], i, how);
        for (int32_t d = x->ndim - 1; d >= 0 && ++at[d] == index->dim[d]; d--) at[d] = 0;
    }
    return DT_OK;
}

/* ---- ScatterND ---- */

static dt_status infer_scatter_nd(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1], *u = c->in[2];
    if (index->ndim < 1) return dt_onnx_refuse(c, "its indices have no dimensions");
    const int64_t depth = index->dim[index->ndim - 1];
    if (depth < 0 || depth > x->ndim)
        return dt_onnx_refuse(c, "an index of %lld numbers for %d dimensions", (long long)depth,
                              (int)x->ndim);
    bool fits = u->ndim == index->ndim - 1 + x->ndim - depth;
    for (int32_t d = 0; d < u->ndim && fits; d++)
        fits = u->dim[d] ==
               (d < index->ndim - 1 ? index->dim[d] : x->dim[(int64_t)d - (index->ndim - 1) + depth]);
    if (!fits) return dt_onnx_refuse(c, "its updates do not have the shape of what they replace");
    return like_data(c);
}

static dt_status run_scatter_nd(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *index = c->in[1];
    const int64_t depth = index->dim[index->ndim - 1];
    reduction how = SET;
    DT_TRY(reduction_of(c, &how));
    copy_data(c);
    int64_t n = 1, inner = 1;
    for (int32_t d = 0; d < index->ndim - 1; d++) n *= index->dim[d];
    for (int64_t d = depth; d < x->ndim; d++) inner *= x->dim[d];
    for (int64_t i = 0; i < n && inner > 0; i++) {
        int64_t to = 0;
        for (int64_t d = 0; d < depth; d++) {
            int64_t at;
            DT_TRY(dt_onnx_index(c, index, i * depth + d, x->dim[d], &at));
            to = to * x->dim[d] + at;
        }
        for (int64_t k = 0; k < inner; k++) put(&c->out[0], to * inner + k, c->in[2], i * inner + k, how);
    }
    return DT_OK;
}

/* ---- TensorScatter: rows of a cache, from an index of each sample's own on ---- */

static dt_status infer_cache(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *u = c->in[1], *at = dt_onnx_in(c, 2);
    const char *mode = dt_onnx_attr_text(c->node, "mode", "linear");
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, -2, x->ndim, &axis));
    DT_TRY(dt_onnx_expect(c, 2, DT_HOST_IS(DT_TENSOR_I64)));
    if (strcmp(mode, "linear") != 0 && strcmp(mode, "circular") != 0)
        return dt_onnx_refuse(c, "there is no mode '%s'", mode);
    bool fits = axis > 0 && u->ndim == x->ndim && u->type == x->type;
    for (int32_t d = 0; d < x->ndim && fits; d++)
        fits = d == axis ? u->dim[d] <= x->dim[d] : u->dim[d] == x->dim[d];
    if (!fits || (at && (at->ndim != 1 || at->dim[0] != x->dim[0])))
        return dt_onnx_refuse(c, "cache, update and indices do not go together");
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_cache(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *u = c->in[1], *at = dt_onnx_in(c, 2);
    const bool circular = strcmp(dt_onnx_attr_text(c->node, "mode", "linear"), "circular") == 0;
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, -2, x->ndim, &axis));
    copy_data(c);
    const int64_t size = x->dim[axis], n = u->dim[axis];
    int64_t outer = 1, bytes = dt_host_elem_bytes(x->type);
    for (int32_t d = 0; d < axis; d++) outer *= x->dim[d];
    for (int32_t d = axis + 1; d < x->ndim; d++) bytes *= x->dim[d];
    for (int64_t o = 0; o < outer && n > 0 && bytes > 0; o++) {
        const int64_t first = at ? dt_host_i64(at, o / (outer / x->dim[0])) : 0;
        if (first < 0 || (!circular && first > size - n))
            return dt_onnx_refuse(c, "%lld rows from %lld on, of %lld", (long long)n, (long long)first,
                                  (long long)size);
        for (int64_t i = 0; i < n; i++)
            memcpy((char *)c->out[0].data + (o * size + (first % size + i) % size) * bytes,
                   (const char *)u->data + (o * n + i) * bytes, (size_t)bytes);
    }
    return DT_OK;
}

/* ---- Trilu ---- */

static dt_status infer_trilu(const dt_onnx_call *c) {
    if (c->in[0]->ndim < 2) return dt_onnx_refuse(c, "its input has %d dimensions", (int)c->in[0]->ndim);
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_IS(DT_TENSOR_I64)));
    if (dt_onnx_in(c, 1) && dt_host_n_elem(c->in[1]) != 1) return dt_onnx_refuse(c, "k is not one number");
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_trilu(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *k_in = dt_onnx_in(c, 1);
    const int64_t rows = x->dim[x->ndim - 2], columns = x->dim[x->ndim - 1], n = dt_host_n_elem(x);
    const int64_t wanted = k_in ? dt_host_i64(k_in, 0) : 0;
    const int64_t k = dt_max_i64(dt_min_i64(wanted, columns), -rows);
    const bool upper = dt_onnx_attr_int(c->node, "upper", 1) != 0;
    const size_t bytes = (size_t)dt_host_elem_bytes(x->type);
    copy_data(c);
    for (int64_t i = 0; n > 0 && i < n / columns; i++)
        for (int64_t j = 0; j < columns; j++) {
            const int64_t diagonal = j - i % rows;
            if (upper ? diagonal < k : diagonal > k)
                memset((char *)c->out[0].data + (size_t)(i * columns + j) * bytes, 0, bytes);
        }
    return DT_OK;
}

const dt_onnx_op dt_onnx_ops_scatter[] = {
    {"", "Scatter", 9, 3, 3, 1, infer_scatter, run_scatter, false},
    {"", "ScatterElements", 11, 3, 3, 1, infer_scatter, run_scatter, false},
    {"", "ScatterND", 11, 3, 3, 1, infer_scatter_nd, run_scatter_nd, false},
    {"", "TensorScatter", 24, 2, 3, 1, infer_cache, run_cache, false},
    {"", "Trilu", 14, 1, 2, 1, infer_trilu, run_trilu, false},
    {.name = NULL},
};
