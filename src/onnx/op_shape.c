/* Shapes: what they are, tensors made from them, the same numbers in another one. */
#include <math.h>
#include <string.h>

#include "walk.h"

/* ---- the same numbers ---- */

static dt_status run_copy(const dt_onnx_call *c) {
    memcpy(c->out[0].data, c->in[0]->data, (size_t)dt_host_bytes(c->in[0]));
    return DT_OK;
}

static dt_status infer_identity(const dt_onnx_call *c) {
    return dt_onnx_out_like(c, 0, 0);
}

/* Sets the output to x's elements in another shape. */
static dt_status out_reshaped(const dt_onnx_call *c, int32_t ndim, const int64_t *dim) {
    DT_TRY(dt_onnx_out(c, 0, c->in[0]->type, ndim, dim));
    const int64_t n = dt_host_n_elem(c->in[0]), made = dt_host_n_elem(&c->out[0]);
    if (made != n)
        return dt_onnx_refuse(c, "its input has %lld elements, its result would have %lld", (long long)n,
                              (long long)made);
    return DT_OK;
}

static dt_status infer_reshape(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool zero_is_zero = dt_onnx_attr_int(c->node, "allowzero", 0) != 0;
    int64_t dim[DT_MAX_DIM], known = 1;
    int32_t n, open = -1;
    DT_TRY(dt_onnx_numbers(c, "shape", 1, DT_MAX_DIM, dim, &n));
    if (n < 0) return dt_onnx_refuse(c, "it has no shape");
    for (int32_t d = 0; d < n; d++) {
        if (dim[d] == 0 && !zero_is_zero) {
            if (d >= x->ndim)
                return dt_onnx_refuse(c, "dimension %d is kept, of %d dimensions", (int)d, (int)x->ndim);
            dim[d] = x->dim[d];
        }
        if (dim[d] == -1 && open < 0)
            open = d;
        else if (dim[d] < 0 || __builtin_mul_overflow(known, dim[d], &known))
            return dt_onnx_refuse(c, "dimension %d would be %lld", (int)d, (long long)dim[d]);
    }
    if (open >= 0) {
        const int64_t all = dt_host_n_elem(x);
        if (known == 0 ? all != 0 : all % known != 0)
            return dt_onnx_refuse(c, "%lld elements are no multiple of %lld", (long long)all,
                                  (long long)known);
        dim[open] = known == 0 ? 0 : all / known;
    }
    return out_reshaped(c, n, dim);
}

static dt_status infer_flatten(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t axis = dt_onnx_attr_int(c->node, "axis", 1), dim[2] = {1, 1};
    if (axis < -x->ndim || axis > x->ndim)
        return dt_onnx_refuse(c, "axis %lld of %d dimensions", (long long)axis, (int)x->ndim);
    if (axis < 0) axis += x->ndim;
    for (int32_t d = 0; d < x->ndim; d++) dim[d >= axis] *= x->dim[d];
    return out_reshaped(c, 2, dim);
}

/* Which of ndim dimensions the numbers of "axes" (an attribute, an input since 13) name. */
static dt_status axes_set(const dt_onnx_call *c, int32_t n, const int64_t *axes, int32_t ndim, bool *set) {
    memset(set, 0, DT_MAX_DIM * sizeof *set);
    for (int32_t i = 0; i < n; i++) {
        int32_t axis;
        DT_TRY(dt_onnx_axis(c, axes[i], ndim, &axis));
        if (set[axis]) return dt_onnx_refuse(c, "axis %d is named twice", (int)axis);
        set[axis] = true;
    }
    return DT_OK;
}

static dt_status infer_squeeze(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t axes[DT_MAX_DIM], dim[DT_MAX_DIM];
    int32_t n, kept = 0;
    bool set[DT_MAX_DIM];
    DT_TRY(dt_onnx_numbers(c, "axes", 1, DT_MAX_DIM, axes, &n));
    DT_TRY(axes_set(c, n, axes, x->ndim, set));
    for (int32_t d = 0; d < x->ndim; d++) {
        if (set[d] && x->dim[d] != 1)
            return dt_onnx_refuse(c, "dimension %d, which it drops, is %lld", (int)d, (long long)x->dim[d]);
        if (!set[d] && (n >= 0 || x->dim[d] != 1)) dim[kept++] = x->dim[d];
    }
    return out_reshaped(c, kept, dim);
}

static dt_status infer_unsqueeze(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t axes[DT_MAX_DIM], dim[DT_MAX_DIM];
    int32_t n;
    bool set[DT_MAX_DIM];
    DT_TRY(dt_onnx_numbers(c, "axes", 1, DT_MAX_DIM, axes, &n));
    if (n < 0) return dt_onnx_refuse(c, "it has no axes");
    const int32_t ndim = x->ndim + n;
    if (ndim > DT_MAX_DIM)
        return dt_onnx_refuse(c, "a result of %d dimensions, where %d can be", (int)ndim, DT_MAX_DIM);
    DT_TRY(axes_set(c, n, axes, ndim, set));
    for (int32_t d = 0, from = 0; d < ndim; d++) dim[d] = set[d] ? 1 : x->dim[from++];
    return out_reshaped(c, ndim, dim);
}

/* ---- tensors made from shapes and numbers ---- */

/* Of `dim`, the part from attribute start to end. */
static void shape_part(const dt_onnx_call *c, int32_t *from, int32_t *to) {
    const int64_t n = c->in[0]->ndim;
    int64_t start = dt_onnx_attr_int(c->node, "start", 0), end = dt_onnx_attr_int(c->node, "end", n);
    start = start < 0 ? dt_max_i64(start < -n ? 0 : start + n, 0) : dt_min_i64(start, n);
    end = end < 0 ? dt_max_i64(end < -n ? 0 : end + n, 0) : dt_min_i64(end, n);
    *from = (int32_t)start, *to = (int32_t)dt_max_i64(start, end);
}

static dt_status infer_shape(const dt_onnx_call *c) {
    int32_t from, to;
    shape_part(c, &from, &to);
    return dt_onnx_out(c, 0, DT_TENSOR_I64, 1, &(int64_t){to - from});
}
static dt_status run_shape(const dt_onnx_call *c) {
    int32_t from, to;
    shape_part(c, &from, &to);
    memcpy(c->out[0].data, c->in[0]->dim + from, (size_t)(to - from) * sizeof(int64_t));
    return DT_OK;
}

static dt_status infer_size(const dt_onnx_call *c) {
    return dt_onnx_out(c, 0, DT_TENSOR_I64, 0, NULL);
}
static dt_status run_size(const dt_onnx_call *c) {
    *(int64_t *)c->out[0].data = dt_host_n_elem(c->in[0]);
    return DT_OK;
}

/* Attribute "value"; NULL: it has none. */
static dt_status value_attr(const dt_onnx_call *c, const dt_onnx_tensor **out) {
    const dt_onnx_attr *a = dt_onnx_attr_find(c->node, "value");
    *out = a && a->kind == DT_ONNX_TENSOR ? a->t : NULL;
    if (*out && !(DT_HOST_ANY & DT_HOST_IS((*out)->type)))
        return dt_onnx_refuse(c, "its value is of a type that is not computed with");
    return DT_OK;
}

static dt_status infer_constant(const dt_onnx_call *c) {
    const dt_onnx_tensor *t;
    DT_TRY(value_attr(c, &t));
    if (t) return dt_onnx_out(c, 0, t->type, t->ndim, t->dim);
    for (int32_t i = 0; i < c->node->n_attr; i++) {
        const dt_onnx_attr *a = &c->node->attr[i];
        const bool named = strncmp(a->name, "value_", 6) == 0;
        if (!named) continue;
        if (a->kind == DT_ONNX_FLOAT) return dt_onnx_out(c, 0, DT_TENSOR_F32, 0, NULL);
        if (a->kind == DT_ONNX_INT) return dt_onnx_out(c, 0, DT_TENSOR_I64, 0, NULL);
        if (a->kind == DT_ONNX_FLOATS) return dt_onnx_out(c, 0, DT_TENSOR_F32, 1, &a->n);
        if (a->kind == DT_ONNX_INTS) return dt_onnx_out(c, 0, DT_TENSOR_I64, 1, &a->n);
    }
    return dt_onnx_refuse(c, "it has no value that is computed with");
}

static dt_status run_constant(const dt_onnx_call *c) {
    dt_host_tensor *y = &c->out[0];
    const size_t bytes = (size_t)dt_host_bytes(y);
    const dt_onnx_tensor *t;
    DT_TRY(value_attr(c, &t));
    if (t) {
        if (bytes > 0) memcpy(y->data, t->data, bytes);
        return DT_OK;
    }
    for (int32_t i = 0; i < c->node->n_attr; i++) {
        const dt_onnx_attr *a = &c->node->attr[i];
        if (strncmp(a->name, "value_", 6) != 0) continue;
        const void *from = a->kind == DT_ONNX_FLOAT    ? (const void *)&a->f
                           : a->kind == DT_ONNX_INT    ? (const void *)&a->i
                           : a->kind == DT_ONNX_FLOATS ? (const void *)a->floats
                           : a->kind == DT_ONNX_INTS   ? (const void *)a->ints
                                                       : NULL;
        if (!from) continue;
        if (bytes > 0) memcpy(y->data, from, bytes);
        break;
    }
    return DT_OK;
}

static dt_status infer_constant_of_shape(const dt_onnx_call *c) {
    const dt_onnx_tensor *t;
    int64_t dim[DT_MAX_DIM];
    int32_t n;
    DT_TRY(value_attr(c, &t));
    if (t && t->n_elem != 1) return dt_onnx_refuse(c, "its value has %lld elements", (long long)t->n_elem);
    DT_TRY(dt_onnx_numbers(c, NULL, 0, DT_MAX_DIM, dim, &n));
    return dt_onnx_out(c, 0, t ? t->type : DT_TENSOR_F32, n, dim);
}

static dt_status run_constant_of_shape(const dt_onnx_call *c) {
    dt_host_tensor *y = &c->out[0];
    const dt_onnx_tensor *t;
    DT_TRY(value_attr(c, &t));
    if (!t) return DT_OK; /* 0 */
    const size_t bytes = (size_t)dt_host_elem_bytes(y->type), all = (size_t)dt_host_bytes(y);
    if (all == 0) return DT_OK;
    memcpy(y->data, t->data, bytes);
    for (size_t done = bytes; done < all;) { /* doubling */
        const size_t more = done < all - done ? done : all - done;
        memcpy((char *)y->data + done, y->data, more);
        done += more;
    }
    return DT_OK;
}

static dt_status infer_eye(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    dt_tensor_type type = x->type;
    if (x->ndim != 2) return dt_onnx_refuse(c, "its input has %d dimensions instead of 2", (int)x->ndim);
    if (dt_onnx_attr_find(c->node, "dtype"))
        DT_TRY(dt_onnx_type(c, dt_onnx_attr_int(c->node, "dtype", 0), &type));
    return dt_onnx_out(c, 0, type, 2, x->dim);
}
static dt_status run_eye(const dt_onnx_call *c) {
    dt_host_tensor *y = &c->out[0];
    const int64_t k = dt_onnx_attr_int(c->node, "k", 0), rows = y->dim[0], columns = y->dim[1];
    if (columns == 0 || k > columns || k < -rows) return DT_OK;
    for (int64_t i = 0; i < rows; i++)
        if (i + k >= 0 && i + k < columns) dt_host_put_i64(y, i * columns + i + k, 1);
    return DT_OK;
}

static dt_status infer_range(const dt_onnx_call *c) {
    int64_t n = 0;
    for (int32_t i = 0; i < 3; i++) {
        DT_TRY(dt_onnx_expect(c, i, DT_HOST_FLOATS | DT_HOST_SIGNED));
        DT_TRY(dt_onnx_need(c, i));
        if (c->in[i]->type != c->in[0]->type || dt_host_n_elem(c->in[i]) != 1)
            return dt_onnx_refuse(c, "start, limit and delta are not one number each, of one type");
    }
    if (dt_host_is(c->in[0], DT_HOST_FLOATS)) {
        const double start = dt_host_f64(c->in[0], 0), limit = dt_host_f64(c->in[1], 0);
        const double count = ceil((limit - start) / dt_host_f64(c->in[2], 0));
        if (!(count < 0x1p62)) return dt_onnx_refuse(c, "its numbers have no end");
        n = count > 0 ? (int64_t)count : 0;
    } else {
        const __int128 start = dt_host_i64(c->in[0], 0), limit = dt_host_i64(c->in[1], 0);
        const __int128 step = dt_host_i64(c->in[2], 0);
        if (step == 0) return dt_onnx_refuse(c, "its step is 0");
        const __int128 way = step > 0 ? limit - start : start - limit, size = step > 0 ? step : -step;
        const __int128 count = way > 0 ? (way + size - 1) / size : 0;
        n = count > INT64_MAX ? INT64_MAX : (int64_t)count;
    }
    return dt_onnx_out(c, 0, c->in[0]->type, 1, &n);
}
static dt_status run_range(const dt_onnx_call *c) {
    dt_host_tensor *y = &c->out[0];
    const bool floats = dt_host_is(y, DT_HOST_FLOATS);
    for (int64_t i = 0; i < y->dim[0]; i++)
        if (floats)
            dt_host_put_f64(y, i, dt_host_f64(c->in[0], 0) + (double)i * dt_host_f64(c->in[2], 0));
        else
            dt_host_put_i64(y, i,
                            (int64_t)((uint64_t)dt_host_i64(c->in[0], 0) +
                                      (uint64_t)i * (uint64_t)dt_host_i64(c->in[2], 0)));
    return DT_OK;
}

/* ---- dimensions in another order ---- */

static dt_status permutation(const dt_onnx_call *c, int32_t perm[DT_MAX_DIM]) {
    const int32_t n = c->in[0]->ndim;
    const int64_t *list = NULL;
    const int64_t count = dt_onnx_attr_ints(c->node, "perm", &list);
    bool seen[DT_MAX_DIM] = {false};
    if (count > 0 && count != n)
        return dt_onnx_refuse(c, "perm has %lld numbers for %d dimensions", (long long)count, (int)n);
    for (int32_t d = 0; d < n; d++) {
        const int64_t from = count > 0 ? list[d] : n - 1 - d;
        if (from < 0 || from >= n || seen[from])
            return dt_onnx_refuse(c, "perm is no order of %d dimensions", (int)n);
        seen[from] = true;
        perm[d] = (int32_t)from;
    }
    return DT_OK;
}

static dt_status infer_transpose(const dt_onnx_call *c) {
    int32_t perm[DT_MAX_DIM];
    int64_t dim[DT_MAX_DIM];
    DT_TRY(permutation(c, perm));
    for (int32_t d = 0; d < c->in[0]->ndim; d++) dim[d] = c->in[0]->dim[perm[d]];
    return dt_onnx_out(c, 0, c->in[0]->type, c->in[0]->ndim, dim);
}

/* x, seen with dimensions `dim`, in the order perm. */
static void permuted(const dt_host_tensor *x, int32_t n, const int64_t *dim, const int32_t *perm,
                     dt_host_tensor *y) {
    dt_walk w = {.n_tensor = 2, .n = n};
    int64_t step[DT_MAX_DIM];
    dt_walk_steps(n, dim, step);
    for (int32_t d = 0; d < n; d++) w.dim[d] = dim[perm[d]], w.step[1][d] = step[perm[d]];
    dt_walk_steps(n, w.dim, w.step[0]);
    dt_walk_begin(&w);
    dt_walk_copy(w, y, x);
}

static dt_status run_transpose(const dt_onnx_call *c) {
    int32_t perm[DT_MAX_DIM];
    DT_TRY(permutation(c, perm));
    permuted(c->in[0], c->in[0]->ndim, c->in[0]->dim, perm, &c->out[0]);
    return DT_OK;
}

static dt_status block_of(const dt_onnx_call *c, int64_t *block) {
    *block = dt_onnx_attr_int(c->node, "blocksize", 0);
    if (c->in[0]->ndim != 4)
        return dt_onnx_refuse(c, "its input has %d dimensions instead of 4", (int)c->in[0]->ndim);
    if (*block < 1 || *block > INT32_MAX) return dt_onnx_refuse(c, "blocksize is %lld", (long long)*block);
    return DT_OK;
}

static dt_status infer_depth_to_space(const dt_onnx_call *c) {
    const int64_t *x = c->in[0]->dim;
    int64_t b;
    DT_TRY(block_of(c, &b));
    if (x[1] % (b * b) != 0)
        return dt_onnx_refuse(c, "%lld channels are no multiple of %lld", (long long)x[1],
                              (long long)(b * b));
    int64_t dim[4] = {x[0], x[1] / (b * b)};
    if (__builtin_mul_overflow(x[2], b, &dim[2]) || __builtin_mul_overflow(x[3], b, &dim[3]))
        return dt_onnx_refuse(c, "blocksize is %lld", (long long)b);
    return dt_onnx_out(c, 0, c->in[0]->type, 4, dim);
}
static dt_status run_depth_to_space(const dt_onnx_call *c) {
    static const int32_t dcr[] = {0, 3, 4, 1, 5, 2}, crd[] = {0, 1, 4, 2, 5, 3};
    const int64_t *x = c->in[0]->dim, b = dt_onnx_attr_int(c->node, "blocksize", 0), rest = x[1] / (b * b);
    const bool by_column = strcmp(dt_onnx_attr_text(c->node, "mode", "DCR"), "CRD") == 0;
    const int64_t seen_dcr[] = {x[0], b, b, rest, x[2], x[3]}, seen_crd[] = {x[0], rest, b, b, x[2], x[3]};
    permuted(c->in[0], 6, by_column ? seen_crd : seen_dcr, by_column ? crd : dcr, &c->out[0]);
    return DT_OK;
}

static dt_status infer_space_to_depth(const dt_onnx_call *c) {
    const int64_t *x = c->in[0]->dim;
    int64_t b;
    DT_TRY(block_of(c, &b));
    if (x[2] % b != 0 || x[3] % b != 0)
        return dt_onnx_refuse(c, "%lldx%lld is no multiple of %lld", (long long)x[2], (long long)x[3],
                              (long long)b);
    int64_t dim[4] = {x[0], 0, x[2] / b, x[3] / b};
    if (__builtin_mul_overflow(x[1], b * b, &dim[1]))
        return dt_onnx_refuse(c, "blocksize is %lld", (long long)b);
    return dt_onnx_out(c, 0, c->in[0]->type, 4, dim);
}
static dt_status run_space_to_depth(const dt_onnx_call *c) {
    static const int32_t dcr[] = {0, 3, 5, 1, 2, 4}, crd[] = {0, 1, 3, 5, 2, 4};
    const bool by_column = strcmp(dt_onnx_attr_text(c->node, "mode", "DCR"), "CRD") == 0; /* since 28 */
    const int64_t *x = c->in[0]->dim, b = dt_onnx_attr_int(c->node, "blocksize", 0);
    permuted(c->in[0], 6, (int64_t[]){x[0], x[1], x[2] / b, b, x[3] / b, b}, by_column ? crd : dcr,
             &c->out[0]);
    return DT_OK;
}

const dt_onnx_op dt_onnx_ops_shape[] = {
    {"", "Identity", 1, 1, 1, 1, infer_identity, run_copy, false},
    {"", "Reshape", 1, 1, 2, 1, infer_reshape, run_copy, false},
    {"", "Flatten", 1, 1, 1, 1, infer_flatten, run_copy, false},
    {"", "Squeeze", 1, 1, 2, 1, infer_squeeze, run_copy, false},
    {"", "Unsqueeze", 1, 1, 2, 1, infer_unsqueeze, run_copy, false},
    {"", "Shape", 1, 1, 1, 1, infer_shape, run_shape, true},
    {"", "Size", 1, 1, 1, 1, infer_size, run_size, true},
    {"", "Constant", 1, 0, 0, 1, infer_constant, run_constant, true},
    {"", "ConstantOfShape", 9, 1, 1, 1, infer_constant_of_shape, run_constant_of_shape, true},
    {"", "EyeLike", 9, 1, 1, 1, infer_eye, run_eye, true},
    {"", "Range", 11, 3, 3, 1, infer_range, run_range, false},
    {"", "Transpose", 1, 1, 1, 1, infer_transpose, run_transpose, false},
    {"", "DepthToSpace", 1, 1, 1, 1, infer_depth_to_space, run_depth_to_space, false},
    {"", "SpaceToDepth", 1, 1, 1, 1, infer_space_to_depth, run_space_to_depth, false},
    {.name = NULL},
};
