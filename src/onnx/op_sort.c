/* What goes by order: the largest, the largest few, each once; and sums on the way. */
#include <stdlib.h>
#include <string.h>

#include "walk.h"

/* ---- keys: whole numbers in the order of the elements; NaN is the largest, 0 and -0 are one ---- */

static void load_keys(const dt_host_tensor *x, int64_t at, int64_t stride, int64_t n, int64_t *key) {
    if (!dt_host_is(x, DT_HOST_FLOATS)) {
        dt_host_load_i64(x, at, stride, n, key);
        for (int64_t i = 0; i < n && x->type == DT_TENSOR_U64; i++) key[i] ^= INT64_MIN;
        return;
    }
    double v[DT_RUN];
    for (int64_t i = 0; i < n; i += DT_RUN) {
        const int64_t m = dt_min_i64(n - i, DT_RUN);
        dt_host_load_f64(x, at + i * stride, stride, m, v);
        for (int64_t k = 0; k < m; k++) {
            int64_t bits;
            v[k] = v[k] == 0 ? 0 : v[k];
            memcpy(&bits, &v[k], sizeof bits);
            key[i + k] = v[k] != v[k] ? INT64_MAX : bits < 0 ? INT64_MIN - bits : bits;
        }
    }
}

/* A tensor as lanes along one axis. */
typedef struct lanes {
    int32_t axis;
    int64_t outer, size, inner;
} lanes;

static lanes lanes_of(const dt_host_tensor *t, int32_t axis) {
    lanes l = {.axis = axis, .outer = 1, .size = t->dim[axis], .inner = 1};
    for (int32_t d = 0; d < axis; d++) l.outer *= t->dim[d];
    for (int32_t d = axis + 1; d < t->ndim; d++) l.inner *= t->dim[d];
    return l;
}

/* Element 0 of lane `n`, its others `inner` apart. */
static int64_t lane_at(const lanes *l, int64_t n) {
    return n / l->inner * l->size * l->inner + n % l->inner;
}

/* ---- ArgMax, ArgMin ---- */

static dt_status infer_arg(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool keep = dt_onnx_attr_int(c->node, "keepdims", 1) != 0;
    int32_t axis, n = 0;
    int64_t dim[DT_MAX_DIM];
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    if (x->dim[axis] == 0) return dt_onnx_refuse(c, "there is nothing along axis %d", (int)axis);
    for (int32_t d = 0; d < x->ndim; d++)
        if (d != axis || keep) dim[n++] = d == axis ? 1 : x->dim[d];
    return dt_onnx_out(c, 0, DT_TENSOR_I64, n, dim);
}

static dt_status run_arg(const dt_onnx_call *c, bool largest) {
    const dt_host_tensor *x = c->in[0];
    const bool last = dt_onnx_attr_int(c->node, "select_last_index", 0) != 0;
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    const lanes l = lanes_of(x, axis);
    void *room;
    DT_TRY(dt_onnx_scratch(c, l.size * (int64_t)sizeof(int64_t), &room));
    int64_t *key = room, *y = c->out[0].data;
    for (int64_t i = 0; i < l.outer * l.inner; i++) {
        int64_t best = 0;
        load_keys(x, lane_at(&l, i), l.inner, l.size, key);
        for (int64_t k = 1; k < l.size; k++)
            if (key[k] == key[best] ? last : (key[k] > key[best]) == largest) best = k;
        y[i] = best;
    }
    return DT_OK;
}
static dt_status run_arg_max(const dt_onnx_call *c) {
    return run_arg(c, true);
}
static dt_status run_arg_min(const dt_onnx_call *c) {
    return run_arg(c, false);
}

/* ---- Hardmax ---- */

static dt_status infer_hardmax(const dt_onnx_call *c) {
    int32_t axis;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_FLOATS));
    DT_TRY(dt_onnx_axis_attr(c, c->version < 13 ? 1 : -1, c->in[0]->ndim, &axis));
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_hardmax(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, c->version < 13 ? 1 : -1, x->ndim, &axis));
    if (dt_host_n_elem(x) == 0) return DT_OK;
    lanes l = lanes_of(x, axis);
    if (c->version < 13) l.size *= l.inner, l.inner = 1; /* all from the axis on is one */
    void *room;
    DT_TRY(dt_onnx_scratch(c, l.size * (int64_t)sizeof(int64_t), &room));
    int64_t *key = room;
    for (int64_t i = 0; i < l.outer * l.inner; i++) {
        int64_t best = 0;
        load_keys(x, lane_at(&l, i), l.inner, l.size, key);
        for (int64_t k = 1; k < l.size; k++)
            if (key[k] > key[best]) best = k;
        dt_host_put_i64(&c->out[0], lane_at(&l, i) + best * l.inner, 1);
    }
    return DT_OK;
}

/* ---- TopK ---- */

static dt_status infer_top_k(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t k, dim[DT_MAX_DIM];
    int32_t axis, n;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_axis_attr(c, -1, x->ndim, &axis));
    DT_TRY(dt_onnx_numbers(c, "k", c->version < 10 ? -1 : 1, 1, &k, &n));
    if (n != 1) return dt_onnx_refuse(c, "k is not one number");
    if (k < 0 || k > x->dim[axis])
        return dt_onnx_refuse(c, "%lld of %lld along axis %d", (long long)k, (long long)x->dim[axis],
                              (int)axis);
    memcpy(dim, x->dim, sizeof dim);
    dim[axis] = k;
    DT_TRY(dt_onnx_out(c, 0, x->type, x->ndim, dim));
    return dt_onnx_out(c, 1, DT_TENSOR_I64, x->ndim, dim);
}

typedef struct keyed {
    int64_t key, index;
} keyed;

static int ascending(const void *a, const void *b) {
    const keyed *p = a, *q = b;
    if (p->key != q->key) return p->key < q->key ? -1 : 1;
    return p->index < q->index ? -1 : p->index > q->index;
}
static int descending(const void *a, const void *b) {
    const keyed *p = a, *q = b;
    if (p->key != q->key) return p->key > q->key ? -1 : 1;
    return p->index < q->index ? -1 : p->index > q->index;
}

static dt_status run_top_k(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool largest = c->version < 11 || dt_onnx_attr_int(c->node, "largest", 1) != 0;
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, -1, x->ndim, &axis));
    if (dt_host_n_elem(&c->out[0]) == 0) return DT_OK;
    const lanes l = lanes_of(x, axis), to = lanes_of(&c->out[0], axis);
    const size_t bytes = (size_t)dt_host_elem_bytes(x->type);
    void *room, *more;
    DT_TRY(dt_onnx_scratch(c, l.size * (int64_t)sizeof(int64_t), &room));
    DT_TRY(dt_onnx_scratch(c, l.size * (int64_t)sizeof(keyed), &more));
    int64_t *key = room;
    keyed *list = more;
    for (int64_t i = 0; i < l.outer * l.inner; i++) {
        const int64_t from = lane_at(&l, i), at = lane_at(&to, i);
        load_keys(x, from, l.inner, l.size, key);
        for (int64_t k = 0; k < l.size; k++) list[k] = (keyed){key[k], k};
        qsort(list, (size_t)l.size, sizeof *list, largest ? descending : ascending);
        for (int64_t k = 0; k < to.size; k++) {
            if (dt_onnx_wants(c, 0))
                memcpy((char *)c->out[0].data + (size_t)(at + k * to.inner) * bytes,
                       (const char *)x->data + (size_t)(from + list[k].index * l.inner) * bytes, bytes);
            if (dt_onnx_wants(c, 1)) ((int64_t *)c->out[1].data)[at + k * to.inner] = list[k].index;
        }
    }
    return DT_OK;
}

/* ---- Unique ---- */

/* Things side by side along an axis (or all elements), as rows of keys. */

typedef struct unique_row {
    const int64_t *key;
    int64_t width, index; /* where it is */
    int64_t group;        /* its number among those that differ */
} unique_row;

static int by_keys(const void *a, const void *b) {
    const unique_row *p = a, *q = b;
    for (int64_t i = 0; i < p->width; i++)
        if (p->key[i] != q->key[i]) return p->key[i] < q->key[i] ? -1 : 1;
    return p->index < q->index ? -1 : p->index > q->index;
}
static int by_index(const void *a, const void *b) {
    const unique_row *p = a, *q = b;
    return p->index < q->index ? -1 : p->index > q->index;
}

/* All rows in the order they stand in, with the groups they are of; *n: groups, *first: where each group is met first. */
static dt_status unique_rows(const dt_onnx_call *c, unique_row **rows, int64_t **first, int64_t *n) {
    const dt_host_tensor *x = c->in[0];
    const bool flat = !dt_onnx_attr_find(c->node, "axis");
    int32_t axis = 0;
    if (!flat) DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    const int64_t all = dt_host_n_elem(x);
    lanes l = {.outer = 1, .size = all, .inner = 1};
    if (!flat) l = lanes_of(x, axis);
    const int64_t width = l.size > 0 ? all / l.size : 0;
    void *keys, *list, *met;
    DT_TRY(dt_onnx_scratch(c, dt_min_i64(all, INT64_MAX / 16) * (int64_t)sizeof(int64_t), &keys));
    DT_TRY(dt_onnx_scratch(c, dt_min_i64(l.size, INT64_MAX / 64) * (int64_t)sizeof(unique_row), &list));
    DT_TRY(dt_onnx_scratch(c, dt_min_i64(l.size, INT64_MAX / 16) * (int64_t)sizeof(int64_t), &met));
    unique_row *row = list;
    int64_t *key = keys, *at = met;
    for (int64_t i = 0; i < l.size; i++) {
        row[i] = (unique_row){.key = key + i * width, .width = width, .index = i};
        for (int64_t o = 0; o < l.outer && width > 0; o++)
            load_keys(x, (o * l.size + i) * l.inner, 1, l.inner, key + i * width + o * l.inner);
    }
    qsort(row, (size_t)l.size, sizeof *row, by_keys);
    *n = 0;
    for (int64_t i = 0; i < l.size; i++) {
        const bool same =
            i > 0 && (width == 0 || memcmp(row[i].key, row[i - 1].key, (size_t)width * sizeof *key) == 0);
        if (!same) at[(*n)++] = row[i].index;
        row[i].group = *n - 1;
    }
    qsort(row, (size_t)l.size, sizeof *row, by_index);
    if (!dt_onnx_attr_int(c->node, "sorted", 1)) { /* groups in the order in which they are met */
        void *numbers;
        DT_TRY(dt_onnx_scratch(c, (*n + 1) * (int64_t)sizeof(int64_t), &numbers));
        int64_t *number = numbers, met_so_far = 0; /* plus 1; 0: not met */
        for (int64_t i = 0; i < l.size; i++) {
            int64_t *g = &number[row[i].group];
            if (*g == 0) *g = ++met_so_far, at[met_so_far - 1] = i;
            row[i].group = *g - 1;
        }
    }
    *rows = row, *first = at;
    return DT_OK;
}

static dt_status infer_unique(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool flat = !dt_onnx_attr_find(c->node, "axis");
    unique_row *rows;
    int64_t *first, n, dim[DT_MAX_DIM];
    int32_t axis = 0;
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS | DT_HOST_BOOL));
    DT_TRY(dt_onnx_need(c, 0));
    DT_TRY(unique_rows(c, &rows, &first, &n));
    memcpy(dim, x->dim, sizeof dim);
    if (!flat) DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    const int64_t all = flat ? dt_host_n_elem(x) : x->dim[axis];
    dim[axis] = n;
    DT_TRY(dt_onnx_out(c, 0, x->type, flat ? 1 : x->ndim, dim));
    DT_TRY(dt_onnx_out(c, 1, DT_TENSOR_I64, 1, &n));
    DT_TRY(dt_onnx_out(c, 2, DT_TENSOR_I64, 1, &all));
    return dt_onnx_out(c, 3, DT_TENSOR_I64, 1, &n);
}

static dt_status run_unique(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    const bool flat = !dt_onnx_attr_find(c->node, "axis");
    unique_row *row;
    int64_t *first, n;
    int32_t axis = 0;
    DT_TRY(unique_rows(c, &row, &first, &n));
    if (!flat) DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, &axis));
    lanes l = {.outer = 1, .size = dt_host_n_elem(x), .inner = 1};
    if (!flat) l = lanes_of(x, axis);
    const int64_t bytes = l.inner * dt_host_elem_bytes(x->type);
    for (int64_t o = 0; o < l.outer && bytes > 0 && dt_onnx_wants(c, 0); o++)
        for (int64_t g = 0; g < n; g++)
            memcpy((char *)c->out[0].data + (o * n + g) * bytes,
                   (const char *)x->data + (o * l.size + first[g]) * bytes, (size_t)bytes);
    for (int64_t g = 0; g < n && dt_onnx_wants(c, 1); g++) ((int64_t *)c->out[1].data)[g] = first[g];
    for (int64_t i = 0; i < l.size && dt_onnx_wants(c, 2); i++) ((int64_t *)c->out[2].data)[i] = row[i].group;
    for (int64_t i = 0; i < l.size && dt_onnx_wants(c, 3); i++) ((int64_t *)c->out[3].data)[row[i].group]++;
    return DT_OK;
}

/* ---- CumSum ---- */

static dt_status infer_cum(const dt_onnx_call *c) {
    DT_TRY(dt_onnx_expect(c, 0, DT_HOST_NUMBERS));
    DT_TRY(dt_onnx_expect(c, 1, DT_HOST_INDEX));
    if (dt_host_n_elem(c->in[1]) != 1) return dt_onnx_refuse(c, "its axis is not one number");
    return dt_onnx_out_like(c, 0, 0);
}

static dt_status run_cum(const dt_onnx_call *c, bool product) {
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    const bool exclusive = dt_onnx_attr_int(c->node, "exclusive", 0) != 0;
    const bool reverse = dt_onnx_attr_int(c->node, "reverse", 0) != 0, floats = dt_host_is(x, DT_HOST_FLOATS);
    int32_t axis;
    DT_TRY(dt_onnx_axis(c, dt_host_i64(c->in[1], 0), x->ndim, &axis));
    const lanes l = lanes_of(x, axis);
    for (int64_t i = 0; l.size > 0 && i < l.outer * l.inner; i++) {
        double f = product;
        uint64_t whole = product;
        for (int64_t k = 0; k < l.size; k++) {
            const int64_t at = lane_at(&l, i) + (reverse ? l.size - 1 - k : k) * l.inner;
            const double before = f;
            const uint64_t whole_before = whole;
            if (floats) {
                const double v = dt_host_f64(x, at);
                f = product ? f * v : f + v;
                dt_host_put_f64(y, at, exclusive ? before : f);
            } else {
                const uint64_t v = (uint64_t)dt_host_i64(x, at);
                whole = product ? whole * v : whole + v;
                dt_host_put_i64(y, at, (int64_t)(exclusive ? whole_before : whole));
            }
        }
    }
    return DT_OK;
}
static dt_status run_cum_sum(const dt_onnx_call *c) {
    return run_cum(c, false);
}
static dt_status run_cum_prod(const dt_onnx_call *c) {
    return run_cum(c, true);
}

const dt_onnx_op dt_onnx_ops_sort[] = {
    {"", "ArgMax", 1, 1, 1, 1, infer_arg, run_arg_max, false},
    {"", "ArgMin", 1, 1, 1, 1, infer_arg, run_arg_min, false},
    {"", "Hardmax", 1, 1, 1, 1, infer_hardmax, run_hardmax, false},
    {"", "Hardmax", 13, 1, 1, 1, infer_hardmax, run_hardmax, false},
    {"", "TopK", 1, 1, 1, 2, infer_top_k, run_top_k, false},
    {"", "TopK", 10, 2, 2, 2, infer_top_k, run_top_k, false},
    {"", "Unique", 11, 1, 1, 4, infer_unique, run_unique, false},
    {"", "CumSum", 11, 2, 2, 1, infer_cum, run_cum_sum, false},
    {"", "CumProd", 26, 2, 2, 1, infer_cum, run_cum_prod, false},
    {.name = NULL},
};
