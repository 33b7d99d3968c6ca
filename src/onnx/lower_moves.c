/* What moves, renames and repeats elements. */
#include <stdio.h>
#include <string.h>

#include "lower.h"

/* A graph value that a native op can move: none whose bytes are packed anew. */
static bool moves(const dt_lv *x, const dt_lv *y) {
    return x && y && !x->opaque && !dt_low_is_empty(x) && !dt_low_is_empty(y);
}

/* As it is there: with dimension 1 at the end, or plain. */
static dt_vid either(dt_low *w, dt_lv *x, bool *last) {
    *last = dt_low_is_last(x) && x->t.ndim >= 3;
    return *last ? dt_low_last(w, x) : dt_low_plain(w, x);
}

static bool lower_reshape(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!x || !y || x->opaque) return false;
    dt_low_set(w, y, dt_low_plain(w, x), false);
    return true;
}

static bool lower_transpose(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    const int64_t *given;
    int32_t perm[DT_MAX_DIM], there[DT_MAX_DIM];
    if (!moves(x, y) || x->t.ndim < 1) return false;
    const int32_t ndim = x->t.ndim;
    const int64_t have = dt_onnx_attr_ints(n->node, "perm", &given);
    for (int32_t i = 0; i < ndim; i++) perm[i] = have == ndim ? (int32_t)given[i] : ndim - 1 - i;
    dt_low_decode(w, x);
    /* Of the two orders of both, those between which nothing moves. */
    for (int32_t k = 0; k < 4; k++) {
        const bool from_last = k & 1, to_last = k >> 1;
        if ((from_last ? x->last : x->plain) < 0 || (to_last && ndim < 3)) continue;
        int32_t before = -1;
        bool still = true;
        for (int32_t d = 0; d < ndim; d++)
            there[dt_low_place(d, ndim, to_last)] = dt_low_place(perm[d], ndim, from_last);
        const dt_vid v = from_last ? x->last : x->plain;
        for (int32_t i = 0; i < ndim; i++) {
            if (w->g->value[v].dim[there[i]] == 1) continue;
            still = still && there[i] > before;
            before = there[i];
        }
        if (!still) continue;
        dt_low_set(w, y, dt_low_permute(w, y->name, v, there), to_last);
        return true;
    }
    const bool from_last = dt_low_is_last(x);
    const dt_vid v = from_last ? dt_low_last(w, x) : dt_low_plain(w, x);
    for (int32_t d = 0; d < ndim; d++) there[d] = dt_low_place(perm[d], ndim, from_last);
    dt_low_set(w, y, dt_low_permute(w, y->name, v, there), false);
    return true;
}

static bool lower_concat(dt_low *w, const dt_low_node *n) {
    dt_lv *y = dt_low_out(n, 0);
    dt_vid in[256];
    if (!y || n->n_in < 1 || n->n_in > (int32_t)(sizeof in / sizeof in[0]) || dt_low_is_empty(y) || y->opaque)
        return false;
    bool last = false, real = dt_low_is_real(y);
    for (int32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i] || (dt_low_known(n->in[i]) && !real)) return false;
        last = last || (dt_low_is_last(n->in[i]) && y->t.ndim >= 3);
    }
    const int32_t axis = dt_low_axis(dt_onnx_attr_int(n->node, "axis", 1), y->t.ndim);
    int32_t n_part = 0;
    for (int32_t i = 0; i < n->n_in; i++) {
        dt_lv *x = n->in[i];
        if (dt_low_is_empty(x)) continue;
        dt_vid v = last ? dt_low_last(w, x) : dt_low_plain(w, x);
        if (dt_low_known(x) && x->rowwise && !last) v = dt_low_plain(w, x);
        in[n_part++] = v;
    }
    const dt_attr t = {.shape.axis = dt_low_place(axis, y->t.ndim, last)};
    dt_low_set(w, y, n_part == 1 ? in[0] : dt_low_add(w, y->name, DT_OP_CONCAT, &t, n_part, in), last);
    return true;
}

static bool lower_slice(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    int64_t start[DT_MAX_DIM], end[DT_MAX_DIM], axis[DT_MAX_DIM], step[DT_MAX_DIM];
    if (!moves(x, y)) return false;
    const int32_t k = dt_low_numbers(n, "starts", 1, DT_MAX_DIM, start);
    int32_t n_axis = dt_low_numbers(n, "axes", 3, DT_MAX_DIM, axis);
    const int32_t n_step = dt_low_in(n, 4) ? dt_low_numbers(n, NULL, 4, DT_MAX_DIM, step) : 0;
    if (k < 1 || dt_low_numbers(n, "ends", 2, DT_MAX_DIM, end) != k || n_step < 0) return false;
    for (int32_t i = 0; n_axis < 0 && i < k; i++) axis[i] = i;
    if (n_axis >= 0 && n_axis != k) return false;
    for (int32_t i = 0; i < n_step; i++)
        if (step[i] != 1) return false;
    bool last;
    dt_vid v = either(w, x, &last);
    for (int32_t i = 0; i < k; i++) {
        const int32_t d = dt_low_axis(axis[i], x->t.ndim);
        const int64_t whole = x->t.dim[d],
                      from = start[i] < 0 ? dt_max_i64(start[i] + whole, 0) : dt_min_i64(start[i], whole);
        v = dt_low_slice(w, y->name, v, dt_low_place(d, x->t.ndim, last), from, y->t.dim[d]);
    }
    dt_low_set(w, y, v, last);
    return true;
}

static bool lower_split(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0);
    bool last;
    if (!x || x->opaque || dt_low_is_empty(x)) return false;
    for (int32_t i = 0; i < n->n_out; i++)
        if (!n->out[i] || dt_low_is_empty(n->out[i])) return false;
    const int32_t axis = dt_low_axis(dt_onnx_attr_int(n->node, "axis", 0), x->t.ndim);
    const dt_vid v = either(w, x, &last);
    int64_t at = 0;
    for (int32_t i = 0; i < n->n_out; i++) {
        dt_lv *y = n->out[i];
        dt_low_set(w, y, dt_low_slice(w, y->name, v, dt_low_place(axis, x->t.ndim, last), at, y->t.dim[axis]),
                   last);
        at += y->t.dim[axis];
    }
    return true;
}

static bool lower_expand(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    if (!moves(x, y) || !dt_low_is_real(x)) return false;
    const dt_lv *shape = dt_low_in(n, 1);
    dt_low_set(w, y,
               dt_low_expand(w, y->name, dt_low_plain(w, x), y->t.ndim, y->t.dim, shape && shape->rowwise),
               false);
    return true;
}

/* Zeros around it, or what is there where it grows smaller. */
static bool lower_pad(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    int64_t pad[2 * DT_MAX_DIM], axis[DT_MAX_DIM];
    double value;
    if (!moves(x, y) || strcmp(dt_onnx_attr_text(n->node, "mode", "constant"), "constant") != 0) return false;
    if (!dt_low_scalar(n, 2, dt_onnx_attr_float(n->node, "value", 0), &value) || value != 0) return false;
    const int32_t k = dt_low_numbers(n, n->version < 2 ? "paddings" : "pads", 1, 2 * DT_MAX_DIM, pad) / 2;
    const int32_t n_axis = dt_low_in(n, 3) ? dt_low_numbers(n, NULL, 3, DT_MAX_DIM, axis) : k;
    if (k < 1 || n_axis != k) return false;
    for (int32_t i = 0; !dt_low_in(n, 3) && i < k; i++) axis[i] = i;
    for (int32_t i = 0; i < k; i++)
        if (x->t.dim[dt_low_axis(axis[i], x->t.ndim)] + dt_min_i64(pad[i], 0) + dt_min_i64(pad[k + i], 0) < 1)
            return false;
    bool last;
    dt_vid v = either(w, x, &last);
    for (int32_t i = 0; i < k; i++) {
        const int32_t d = dt_low_axis(axis[i], x->t.ndim), at = dt_low_place(d, x->t.ndim, last);
        const int64_t cut = dt_max_i64(-pad[i], 0), kept = x->t.dim[d] - cut - dt_max_i64(-pad[k + i], 0);
        v = dt_low_slice(w, y->name, v, at, cut, kept);
        v = dt_low_pad(w, y->name, v, at, dt_max_i64(pad[i], 0), y->t.dim[d]);
    }
    dt_low_set(w, y, v, last);
    return true;
}

/* Rows one after the other, from which on; -1: they are others. */
static int64_t run_from(const dt_lv *index, int64_t rows) {
    const int64_t n = dt_host_n_elem(&index->t);
    int64_t first = dt_host_i64(&index->t, 0);
    first += first < 0 ? rows : 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = dt_host_i64(&index->t, i);
        if ((at < 0 ? at + rows : at) != first + i) return -1;
    }
    return first >= 0 && first + n <= rows ? first : -1;
}

static dt_vid table_of(dt_low *w, dt_lv *x) {
    return dt_low_known(x) ? dt_low_param(w, x->origin ? x->origin : x->name, x->t.data, x->t.ndim, x->t.dim,
                                          x->weight, true)
                           : dt_low_plain(w, x);
}

/* Rows of a table by numbers that are computed, or in any order. */
static bool gather_rows(dt_low *w, const dt_low_node *n) {
    dt_lv *x = n->in[0], *index = n->in[1], *y = n->out[0];
    if (x->t.ndim < 1 || x->t.ndim + index->t.ndim - 1 > DT_MAX_DIM) return false;
    const int64_t rows = x->t.dim[0], wide = dt_host_n_elem(&x->t) / rows;
    dt_vid at;
    if (dt_low_known(index)) {
        const int64_t k = dt_host_n_elem(&index->t);
        if (index->rowwise) return false;
        float *numbers = dt_low_alloc(w, k * (int64_t)sizeof *numbers);
        for (int64_t i = 0; numbers && i < k; i++) {
            const int64_t v = dt_host_i64(&index->t, i);
            numbers[i] = (float)(v < 0 ? v + rows : v);
        }
        if (rows > 1 << 24) return false;
        at = numbers ? dt_low_whole(w, index, numbers) : -1;
    } else {
        if (index->opaque) return false;
        at = dt_low_cast(w, y->name, dt_low_plain(w, index), DT_DTYPE_I32);
    }
    dt_vid table = dt_low_reshape(w, y->name, table_of(w, x), 2, (int64_t[]){rows, wide});
    const dt_attr t = {.embed.padding = -1};
    dt_low_set(w, y, dt_low_add(w, y->name, DT_OP_EMBED, &t, 2, (dt_vid[]){table, at}), false);
    return true;
}

static bool lower_gather(dt_low *w, const dt_low_node *n) {
    dt_lv *x = dt_low_in(n, 0), *index = dt_low_in(n, 1), *y = dt_low_out(n, 0);
    if (!moves(x, y) || !index || dt_low_is_empty(index)) return false;
    const int32_t axis = dt_low_axis(dt_onnx_attr_int(n->node, "axis", 0), x->t.ndim);
    const int64_t first = dt_low_known(index) ? run_from(index, x->t.dim[axis]) : -1;
    if (first >= 0 && (!dt_low_known(x) || dt_low_is_real(x))) {
        bool last = false;
        dt_vid v = dt_low_known(x) ? table_of(w, x) : either(w, x, &last);
        v = dt_low_slice(w, y->name, v, dt_low_place(axis, x->t.ndim, last), first,
                         dt_host_n_elem(&index->t));
        /* With the dimension gone its order is the plain one where it was that of channels. */
        const bool gone = index->t.ndim != 1;
        if (last && gone && (index->t.ndim > 0 || axis != 1)) {
            int32_t perm[DT_MAX_DIM];
            for (int32_t d = 0; d < x->t.ndim; d++) perm[d] = dt_low_place(d, x->t.ndim, true);
            v = dt_low_permute(w, y->name, v, perm);
        }
        dt_low_set(w, y, v, last && !gone);
        return true;
    }
    /* Numbers that are computed may be below 0, which a table does not take: only such as tokens are not. */
    if (axis != 0 || !dt_low_is_real(x) || (!dt_low_known(index) && !w->o->kernels)) return false;
    return gather_rows(w, n);
}

/* [N, C, H, W] with pixels of a block as channels, or back: in plain order, as the file says. */
static bool blocks(dt_low *w, const dt_low_node *n, bool to_depth) {
    dt_lv *x = dt_low_in(n, 0), *y = dt_low_out(n, 0);
    const int64_t b = dt_onnx_attr_int(n->node, "blocksize", 1);
    if (!moves(x, y) || x->t.ndim != 4 || b < 1) return false;
    const bool crd = strcmp(dt_onnx_attr_text(n->node, "mode", "DCR"), "CRD") == 0;
    const int64_t *d = x->t.dim, *o = y->t.dim;
    const int64_t split_to[] = {d[0], d[1], d[2] / b, b, d[3] / b, b},
                  split_dcr[] = {d[0], b, b, o[1], d[2], d[3]}, split_crd[] = {d[0], o[1], b, b, d[2], d[3]};
    static const int32_t perm_to[] = {0, 3, 5, 1, 2, 4}, perm_to_crd[] = {0, 1, 3, 5, 2, 4},
                         perm_dcr[] = {0, 3, 4, 1, 5, 2}, perm_crd[] = {0, 1, 4, 2, 5, 3};
    dt_vid v = dt_low_reshape(w, y->name, dt_low_plain(w, x), 6,
                              to_depth ? split_to
                              : crd    ? split_crd
                                       : split_dcr);
    const int32_t *perm = to_depth ? (crd ? perm_to_crd : perm_to) : crd ? perm_crd : perm_dcr;
    v = dt_low_permute(w, y->name, v, perm);
    dt_low_set(w, y, v, false);
    return true;
}

static bool lower_depth_to_space(dt_low *w, const dt_low_node *n) {
    return blocks(w, n, false);
}
static bool lower_space_to_depth(dt_low *w, const dt_low_node *n) {
    return blocks(w, n, true);
}

const dt_low_row dt_low_moves[] = {
    {"Reshape", lower_reshape},
    {"Flatten", lower_reshape},
    {"Squeeze", lower_reshape},
    {"Unsqueeze", lower_reshape},
    {"Transpose", lower_transpose},
    {"Concat", lower_concat},
    {"Slice", lower_slice},
    {"Split", lower_split},
    {"Expand", lower_expand},
    {"Pad", lower_pad},
    {"Gather", lower_gather},
    {"DepthToSpace", lower_depth_to_space},
    {"SpaceToDepth", lower_space_to_depth},
    {NULL, NULL},
};
