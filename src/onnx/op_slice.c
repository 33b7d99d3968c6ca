/* Parts of tensors, tensors side by side, and tensors made larger. */
#include <string.h>

#include "walk.h"

/* ---- Slice ---- */

typedef struct slice {
    int64_t start[DT_MAX_DIM], step[DT_MAX_DIM], dim[DT_MAX_DIM];
} slice;

static dt_status slice_of(const dt_onnx_call *c, slice *s) {
    const dt_host_tensor *x = c->in[0];
    const bool old = c->version < 10;
    int64_t start[DT_MAX_DIM], end[DT_MAX_DIM], axis[DT_MAX_DIM], step[DT_MAX_DIM];
    int32_t n, n_end, n_axis, n_step = -1;
    DT_TRY(dt_onnx_numbers(c, "starts", old ? -1 : 1, DT_MAX_DIM, start, &n));
    DT_TRY(dt_onnx_numbers(c, "ends", old ? -1 : 2, DT_MAX_DIM, end, &n_end));
    DT_TRY(dt_onnx_numbers(c, "axes", old ? -1 : 3, DT_MAX_DIM, axis, &n_axis));
    if (!old) DT_TRY(dt_onnx_numbers(c, NULL, 4, DT_MAX_DIM, step, &n_step));
    if (n < 0 || n != n_end || (n_axis >= 0 && n_axis != n) || (n_step >= 0 && n_step != n) || n > x->ndim)
        return dt_onnx_refuse(c, "its starts, ends, axes and steps do not go together");
    for (int32_t d = 0; d < x->ndim; d++) s->start[d] = 0, s->step[d] = 1, s->dim[d] = x->dim[d];
    bool seen[DT_MAX_DIM] = {false};
    for (int32_t i = 0; i < n; i++) {
        int32_t d;
        DT_TRY(dt_onnx_axis(c, n_axis >= 0 ? axis[i] : i, x->ndim, &d));
        const int64_t by = n_step >= 0 ? step[i] : 1, size = x->dim[d];
        if (seen[d]) return dt_onnx_refuse(c, "axis %d is sliced twice", (int)d);
        seen[d] = true;
        if (by == 0) return dt_onnx_refuse(c, "a step is 0");
        const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1; /* bounds of start and end */
        int64_t from = start[i] < 0 ? (start[i] < -size ? -1 : start[i] + size) : start[i];
        int64_t to = end[i] < 0 ? (end[i] < -size ? -1 : end[i] + size) : end[i];
        from = from < low ? low : from > high ? high : from;
        to = to < low ? low : to > high ? high : to;
        if (by < 0 && from < 0) from = to; /* nothing */
        const uint64_t way =
            by > 0 ? (to > from ? (uint64_t)(to - from) : 0) : (from > to ? (uint64_t)(from - to) : 0);
        const uint64_t size_of_step = by > 0 ? (uint64_t)by : 0 - (uint64_t)by;
        s->dim[d] = (int64_t)(way / size_of_step + (way % size_of_step != 0));
        s->start[d] = s->dim[d] > 0 ? from : 0;
        s->step[d] = s->dim[d] > 1 ? by : 1; /* a huge one is not multiplied */
    }
    return DT_OK;
}

static dt_status infer_slice(const dt_onnx_call *c) {
    slice s;
    DT_TRY(slice_of(c, &s));
    return dt_onnx_out(c, 0, c->in[0]->type, c->in[0]->ndim, s.dim);
}

/* Copies into y the part of x that begins at `start` and goes on by `step`. */
static void copy_part(const dt_host_tensor *x, const int64_t *start, const int64_t *step, dt_host_tensor *y) {
    dt_walk w = {.n_tensor = 2, .n = x->ndim};
    int64_t of_x[DT_MAX_DIM];
    dt_walk_steps(x->ndim, x->dim, of_x);
    dt_walk_steps(y->ndim, y->dim, w.step[0]);
    for (int32_t d = 0; d < x->ndim; d++) {
        w.dim[d] = y->dim[d];
        w.step[1][d] = of_x[d] * step[d];
        w.at[1] += of_x[d] * start[d];
    }
    dt_walk_begin(&w);
    dt_walk_copy(w, y, x);
}

static dt_status run_slice(const dt_onnx_call *c) {
    slice s;
    DT_TRY(slice_of(c, &s));
    copy_part(c->in[0], s.start, s.step, &c->out[0]);
    return DT_OK;
}

/* ---- Split ---- */

/* Sizes of the parts along the axis. */
static dt_status split_of(const dt_onnx_call *c, int32_t *axis, int64_t *size) {
    const dt_host_tensor *x = c->in[0];
    int32_t n = -1;
    DT_TRY(dt_onnx_axis_attr(c, 0, x->ndim, axis));
    const int64_t all = x->dim[*axis];
    DT_TRY(dt_onnx_numbers(c, "split", 1, c->n_out, size, &n));
    if (n >= 0) {
        int64_t sum = 0;
        for (int32_t i = 0; i < n; i++)
            if (size[i] < 0 || __builtin_add_overflow(sum, size[i], &sum))
                return dt_onnx_refuse(c, "a part would have %lld", (long long)size[i]);
        if (n != c->n_out || sum != all)
            return dt_onnx_refuse(c, "%d parts with %lld together, where there are %d outputs and %lld",
                                  (int)n, (long long)sum, (int)c->n_out, (long long)all);
        return DT_OK;
    }
    if (dt_onnx_attr_int(c->node, "num_outputs", c->n_out) != c->n_out)
        return dt_onnx_refuse(c, "num_outputs is not the number of its outputs, %d", (int)c->n_out);
    if (c->version < 18 && all % c->n_out != 0)
        return dt_onnx_refuse(c, "%lld do not split into %d equal parts", (long long)all, (int)c->n_out);
    const int64_t part = dt_ceil_div(all, c->n_out);
    for (int32_t i = 0; i < c->n_out; i++) {
        const int64_t left = all - dt_min_i64(all, part * i);
        size[i] = dt_min_i64(left, part);
    }
    return DT_OK;
}

static dt_status infer_split(const dt_onnx_call *c) {
    if (c->n_out == 0) return DT_OK;
    int32_t axis;
    void *room;
    DT_TRY(dt_onnx_scratch(c, c->n_out * (int64_t)sizeof(int64_t), &room));
    const int64_t *size = room;
    DT_TRY(split_of(c, &axis, room));
    for (int32_t i = 0; i < c->n_out; i++) {
        int64_t dim[DT_MAX_DIM];
        memcpy(dim, c->in[0]->dim, sizeof dim);
        dim[axis] = size[i];
        DT_TRY(dt_onnx_out(c, i, c->in[0]->type, c->in[0]->ndim, dim));
    }
    return DT_OK;
}

static dt_status run_split(const dt_onnx_call *c) {
    static const int64_t ones[DT_MAX_DIM] = {1, 1, 1, 1, 1, 1, 1, 1};
    if (c->n_out == 0) return DT_OK;
    int32_t axis;
    int64_t start[DT_MAX_DIM] = {0};
    DT_TRY(dt_onnx_axis_attr(c, 0, c->in[0]->ndim, &axis));
    for (int32_t i = 0; i < c->n_out; i++) {
        if (dt_onnx_wants(c, i) && dt_host_n_elem(&c->out[i]) > 0)
            copy_part(c->in[0], start, ones, &c->out[i]);
        start[axis] += c->out[i].dim[axis];
    }
    return DT_OK;
}

/* ---- Concat ---- */

static dt_status infer_concat(const dt_onnx_call *c) {
    const dt_host_tensor *first = c->in[0];
    int32_t axis;
    int64_t dim[DT_MAX_DIM];
    memcpy(dim, first->dim, sizeof dim);
    DT_TRY(dt_onnx_axis_attr(c, 1, first->ndim, &axis));
    for (int32_t i = 1; i < c->n_in; i++) {
        const dt_host_tensor *t = c->in[i];
        if (!t) return dt_onnx_refuse(c, "input %d is missing", (int)i);
        if (t->type != first->type || t->ndim != first->ndim)
            return dt_onnx_refuse(c, "input %d is %s of %d dimensions, the first is %s of %d", (int)i,
                                  dt_tensor_type_name(t->type), (int)t->ndim,
                                  dt_tensor_type_name(first->type), (int)first->ndim);
        for (int32_t d = 0; d < t->ndim; d++)
            if (d != axis && t->dim[d] != first->dim[d])
                return dt_onnx_refuse(c, "input %d has %lld in dimension %d, the first has %lld", (int)i,
                                      (long long)t->dim[d], (int)d, (long long)first->dim[d]);
        if (__builtin_add_overflow(dim[axis], t->dim[axis], &dim[axis]))
            return dt_onnx_refuse(c, "its inputs are too many together");
    }
    return dt_onnx_out(c, 0, first->type, first->ndim, dim);
}

static dt_status run_concat(const dt_onnx_call *c) {
    dt_host_tensor *y = &c->out[0];
    int32_t axis;
    DT_TRY(dt_onnx_axis_attr(c, 1, y->ndim, &axis));
    int64_t outer = 1, inner = dt_host_elem_bytes(y->type), at = 0;
    for (int32_t d = 0; d < axis; d++) outer *= y->dim[d];
    for (int32_t d = axis + 1; d < y->ndim; d++) inner *= y->dim[d];
    const int64_t row = inner * y->dim[axis];
    for (int32_t i = 0; i < c->n_in; i++) {
        const int64_t bytes = c->in[i]->dim[axis] * inner;
        for (int64_t o = 0; o < outer && bytes > 0; o++)
            memcpy((char *)y->data + o * row + at, (const char *)c->in[i]->data + o * bytes, (size_t)bytes);
        at += bytes;
    }
    return DT_OK;
}

/* ---- Expand ---- */

static dt_status infer_expand(const dt_onnx_call *c) {
    dt_host_tensor want = {.ndim = 0};
    int32_t ndim;
    int64_t dim[DT_MAX_DIM];
    DT_TRY(dt_onnx_numbers(c, NULL, 1, DT_MAX_DIM, want.dim, &want.ndim));
    for (int32_t d = 0; d < want.ndim; d++)
        if (want.dim[d] < 0)
            return dt_onnx_refuse(c, "dimension %d would be %lld", (int)d, (long long)want.dim[d]);
    DT_TRY(dt_onnx_broadcast(c, c->in[0], &want, &ndim, dim));
    return dt_onnx_out(c, 0, c->in[0]->type, ndim, dim);
}

static dt_status run_expand(const dt_onnx_call *c) {
    const dt_host_tensor *const operand[] = {NULL, c->in[0]};
    dt_walk_copy(dt_walk_broadcast(c->out[0].ndim, c->out[0].dim, 2, operand), &c->out[0], c->in[0]);
    return DT_OK;
}

/* ---- Tile, Pad: by tables ---- */

/* A table for each dimension of the output, within one piece of scratch memory. */
static dt_status take_tables(const dt_onnx_call *c, int64_t *table[DT_MAX_DIM]) {
    const dt_host_tensor *y = &c->out[0];
    int64_t n = 1;
    for (int32_t d = 0; d < y->ndim; d++)
        if (__builtin_add_overflow(n, y->dim[d], &n)) n = INT64_MAX / 16;
    void *room;
    DT_TRY(dt_onnx_scratch(c, dt_min_i64(n, INT64_MAX / 16) * (int64_t)sizeof(int64_t), &room));
    table[0] = room;
    for (int32_t d = 1; d < y->ndim; d++) table[d] = table[d - 1] + y->dim[d - 1];
    return DT_OK;
}

static dt_status infer_tile(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    int64_t times[DT_MAX_DIM], dim[DT_MAX_DIM];
    int32_t n;
    DT_TRY(dt_onnx_numbers(c, NULL, 1, DT_MAX_DIM, times, &n));
    if (n != x->ndim) return dt_onnx_refuse(c, "%d repeats for %d dimensions", (int)n, (int)x->ndim);
    for (int32_t d = 0; d < n; d++)
        if (times[d] < 0 || __builtin_mul_overflow(x->dim[d], times[d], &dim[d]))
            return dt_onnx_refuse(c, "dimension %d of %lld cannot be repeated %lld times", (int)d,
                                  (long long)x->dim[d], (long long)times[d]);
    return dt_onnx_out(c, 0, x->type, n, dim);
}

static dt_status run_tile(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0];
    dt_host_tensor *y = &c->out[0];
    int64_t *table[DT_MAX_DIM], step[DT_MAX_DIM];
    if (dt_host_n_elem(y) == 0) return DT_OK;
    DT_TRY(take_tables(c, table));
    dt_walk_steps(x->ndim, x->dim, step);
    for (int32_t d = 0; d < y->ndim; d++)
        for (int64_t i = 0; i < y->dim[d]; i++) table[d][i] = i % x->dim[d] * step[d];
    dt_walk_tables(y, x, (const int64_t *const *)table, NULL);
    return DT_OK;
}

/* Numbers before and behind each dimension; those below 0 take away. */
static dt_status pads_of(const dt_onnx_call *c, int64_t before[DT_MAX_DIM], int64_t behind[DT_MAX_DIM]) {
    const dt_host_tensor *x = c->in[0];
    int64_t pads[2 * DT_MAX_DIM], axis[DT_MAX_DIM];
    int32_t n, n_axis = -1;
    memset(before, 0, DT_MAX_DIM * sizeof *before);
    memset(behind, 0, DT_MAX_DIM * sizeof *behind);
    DT_TRY(dt_onnx_numbers(c, c->version < 2 ? "paddings" : "pads", c->version < 11 ? -1 : 1, 2 * DT_MAX_DIM,
                           pads, &n));
    if (c->version >= 18) DT_TRY(dt_onnx_numbers(c, NULL, 3, DT_MAX_DIM, axis, &n_axis));
    const int32_t count = n_axis >= 0 ? n_axis : x->ndim;
    if (n != 2 * count) return dt_onnx_refuse(c, "%d pads for %d dimensions", (int)n, (int)count);
    bool seen[DT_MAX_DIM] = {false};
    for (int32_t i = 0; i < count; i++) {
        int32_t d;
        DT_TRY(dt_onnx_axis(c, n_axis >= 0 ? axis[i] : i, x->ndim, &d));
        if (seen[d]) return dt_onnx_refuse(c, "axis %d is padded twice", (int)d);
        seen[d] = true;
        before[d] = pads[i], behind[d] = pads[count + i];
    }
    return DT_OK;
}

static const char *pad_mode(const dt_onnx_call *c) {
    return dt_onnx_attr_text(c->node, "mode", "constant");
}

static dt_status infer_pad(const dt_onnx_call *c) {
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    const dt_host_tensor *x = c->in[0], *fill = c->version >= 11 ? dt_onnx_in(c, 2) : NULL;
    int64_t before[DT_MAX_DIM], behind[DT_MAX_DIM], dim[DT_MAX_DIM];
    size_t mode = 0;
    while (mode < 4 && strcmp(pad_mode(c), modes[mode]) != 0) mode++;
    if (mode == 4) return dt_onnx_refuse(c, "there is no mode '%s'", pad_mode(c));
    if (fill && (fill->type != x->type || dt_host_n_elem(fill) != 1))
        return dt_onnx_refuse(c, "what it pads with is not one number of its input's type");
    DT_TRY(pads_of(c, before, behind));
    for (int32_t d = 0; d < x->ndim; d++) {
        if (__builtin_add_overflow(x->dim[d], before[d], &dim[d]) ||
            __builtin_add_overflow(dim[d], behind[d], &dim[d]) || dim[d] < 0)
            return dt_onnx_refuse(c, "dimension %d of %lld cannot be padded by %lld and %lld", (int)d,
                                  (long long)x->dim[d], (long long)before[d], (long long)behind[d]);
        if (mode > 0 && x->dim[d] == 0 && dim[d] > 0)
            return dt_onnx_refuse(c, "dimension %d has nothing to repeat", (int)d);
    }
    return dt_onnx_out(c, 0, x->type, x->ndim, dim);
}

static dt_status run_pad(const dt_onnx_call *c) {
    const dt_host_tensor *x = c->in[0], *fill = c->version >= 11 ? dt_onnx_in(c, 2) : NULL;
    dt_host_tensor *y = &c->out[0];
    int64_t before[DT_MAX_DIM], behind[DT_MAX_DIM], *table[DT_MAX_DIM], step[DT_MAX_DIM];
    const char mode = pad_mode(c)[0];
    uint64_t value = 0;
    if (dt_host_n_elem(y) == 0) return DT_OK;
    DT_TRY(pads_of(c, before, behind));
    DT_TRY(take_tables(c, table));
    if (fill) {
        memcpy(&value, fill->data, (size_t)dt_host_elem_bytes(fill->type));
    } else if (c->version < 11) {
        dt_host_tensor room = {.type = x->type, .data = &value};
        dt_host_put_f64(&room, 0, (double)dt_onnx_attr_float(c->node, "value", 0));
    }
    dt_walk_steps(x->ndim, x->dim, step);
    for (int32_t d = 0; d < y->ndim; d++) {
        const int64_t n = x->dim[d];
        for (int64_t i = 0; i < y->dim[d]; i++) {
            int64_t from = i - before[d];
            if (from < 0 || from >= n) {
                if (mode == 'c') {
                    table[d][i] = -1;
                    continue;
                }
                const int64_t period = mode == 'r' ? dt_max_i64(2 * (n - 1), 1) : n;
                if (mode == 'e') {
                    from = from < 0 ? 0 : n - 1;
                } else {
                    from %= period;
                    if (from < 0) from += period;
                    if (mode == 'r' && from >= n) from = period - from;
                }
            }
            table[d][i] = from * step[d];
        }
    }
    dt_walk_tables(y, x, (const int64_t *const *)table, &value);
    return DT_OK;
}

const dt_onnx_op dt_onnx_ops_slice[] = {
    {"", "Slice", 1, 1, 1, 1, infer_slice, run_slice, false},
    {"", "Slice", 10, 3, 5, 1, infer_slice, run_slice, false},
    {"", "Split", 1, 1, 2, -1, infer_split, run_split, false},
    {"", "Concat", 1, 1, -1, 1, infer_concat, run_concat, false},
    {"", "Expand", 8, 2, 2, 1, infer_expand, run_expand, false},
    {"", "Tile", 6, 2, 2, 1, infer_tile, run_tile, false},
    {"", "Pad", 1, 1, 1, 1, infer_pad, run_pad, false},
    {"", "Pad", 11, 2, 4, 1, infer_pad, run_pad, false},
    {.name = NULL},
};
