/* Layers that move elements: rows by number, pieces, several as one. */
#include <stdio.h>

#include "core/op.h"
#include "model/builder.h"

static dt_vid refuse(dt_builder *b, dt_status st) {
    b->status = st;
    return -1;
}

/* "<name>.<part>" */
static const char *part_name(char *text, const char *name, const char *part) {
    snprintf(text, DT_NAME_MAX, "%s.%s", name, part);
    return text;
}

/* x in another shape, named "<name>.<part>"; without a part "<name>". */
static dt_vid reshaped(dt_builder *b, const char *name, const char *part, dt_vid x, int32_t ndim,
                       const int64_t *dim) {
    char full[DT_NAME_MAX];
    dt_attr t = {.reshape.ndim = ndim};
    for (int32_t i = 0; i < ndim; i++) t.reshape.dim[i] = dim[i];
    return dt_build_op(b, part ? part_name(full, name, part) : name, DT_OP_RESHAPE, &t, 1, &x);
}

static int64_t product(const int64_t *dim, int32_t n) {
    int64_t all = 1;
    for (int32_t i = 0; i < n; i++) all *= dim[i];
    return all;
}

dt_vid dt_build_index(dt_builder *b, const char *name, dt_vid x) {
    if (b->status != DT_OK) return -1;
    const dt_nid row = dt_graph_maker(b->g, x, DT_OP_RESHAPE);
    const dt_vid from = row >= 0 ? b->g->node[row].in[0] : x;
    const dt_nid cast = dt_graph_maker(b->g, from, DT_OP_CAST);
    const dt_value *v = &b->g->value[cast >= 0 ? b->g->node[cast].in[0] : from];
    if (dt_dtype_is_float(v->dtype) || v->dtype == DT_DTYPE_F64)
        return refuse(b, dt_fail(DT_ERR_CONFIG, "%s: its input, %s, is %s, expected whole numbers", name,
                                 v->name, dt_value_shape_text(v)));
    if (row < 0 || cast < 0) return dt_build_as(b, x, DT_DTYPE_I32);
    char full[DT_NAME_MAX];
    const dt_attr t = b->g->node[row].attr;
    const dt_vid whole = dt_build_as(b, from, DT_DTYPE_I32);
    snprintf(full, sizeof full, "%s.index", name);
    return dt_build_op(b, full, DT_OP_RESHAPE, &t, 1, &whole);
}

dt_vid dt_build_gather(dt_builder *b, const char *name, dt_vid x, dt_vid index, const dt_gather_options *o) {
    if (b->status != DT_OK) return -1;
    index = dt_build_index(b, name, index);
    if (index < 0) return -1;
    const dt_value v = b->g->value[x], at = b->g->value[index];
    const int32_t axis = (int32_t)o->axis, behind = v.ndim - axis - 1, named = at.ndim - axis;
    bool fits = axis >= 1 && behind >= 0 && named >= 0 && axis + named + behind <= DT_MAX_DIM;
    for (int32_t i = 0; fits && i < axis; i++) fits = v.dim[i] == at.dim[i];
    if (!fits) {
        char text[96];
        snprintf(text, sizeof text, "%s", dt_value_shape_text(&v));
        return refuse(b, dt_fail(DT_ERR_CONFIG,
                                 "%s (gather): %s is %s and the rows to take, %s, are %s: the dimensions "
                                 "before number %d of both must be the same, and it must be there",
                                 name, v.name, text, at.name, dt_value_shape_text(&at), axis));
    }
    const int64_t tables = product(v.dim, axis), c = product(v.dim + axis + 1, behind),
                  taken = product(at.dim + axis, named);
    int64_t dim[DT_MAX_DIM];
    for (int32_t i = 0; i < axis + named; i++) dim[i] = at.dim[i];
    for (int32_t i = 0; i < behind; i++) dim[axis + named + i] = v.dim[axis + 1 + i];
    char full[DT_NAME_MAX];
    x = reshaped(b, name, "rows", x, 3, (int64_t[]){tables, v.dim[axis], c});
    index = reshaped(b, name, "numbers", index, 2, (int64_t[]){tables, taken});
    const dt_vid y = dt_build_op(b, part_name(full, name, "taken"), DT_OP_EMBED,
                                 &(dt_attr){.embed.padding = -1}, 2, (dt_vid[]){x, index});
    return reshaped(b, name, NULL, y, axis + named + behind, dim);
}

dt_vid dt_build_one_hot(dt_builder *b, const char *name, dt_vid x, const dt_one_hot_options *o) {
    const dt_vid index = dt_build_index(b, name, x);
    return dt_build_op(b, name, DT_OP_ONE_HOT, &(dt_attr){.embed.rows = o->classes}, 1, &index);
}

dt_vid dt_build_slice(dt_builder *b, const char *name, dt_vid x, const dt_slice_options *o) {
    if (b->status != DT_OK) return -1;
    const int32_t axis = dt_build_axis(b, name, "slice", x, o->axis);
    if (axis < 0) return -1;
    const dt_value *v = &b->g->value[x];
    const int64_t whole = v->dim[axis], begin = o->begin < 0 ? whole + o->begin : o->begin,
                  length = o->length > 0 ? o->length : whole - begin;
    if (begin < 0 || begin >= whole || length > whole - begin)
        return refuse(b, dt_fail(DT_ERR_CONFIG,
                                 "%s (slice): begin %lld and length %lld do not lie in the %lld of dimension "
                                 "%d of %s, which is %s",
                                 name, (long long)o->begin, (long long)o->length, (long long)whole, axis,
                                 v->name, dt_value_shape_text(v)));
    const dt_attr t = {.shape = {.axis = axis, .begin = begin, .length = length}};
    return dt_build_op(b, name, DT_OP_SLICE, &t, 1, &x);
}

dt_vid dt_build_pad(dt_builder *b, const char *name, dt_vid x, const dt_pad_options *o) {
    if (b->status != DT_OK) return -1;
    const int32_t axis = dt_build_axis(b, name, "pad", x, o->axis);
    if (axis < 0) return -1;
    const dt_attr t = {.shape = {.axis = axis,
                                 .begin = o->before,
                                 .length = o->before + b->g->value[x].dim[axis] + o->after}};
    return dt_build_op(b, name, DT_OP_PAD, &t, 1, &x);
}

int32_t dt_build_split(dt_builder *b, const char *name, dt_vid x, const dt_split_options *o,
                       dt_vid part[DT_SPLIT_PARTS]) {
    if (b->status != DT_OK) return 0;
    const int32_t axis = dt_build_axis(b, name, "split", x, o->axis);
    if (axis < 0) return 0;
    const dt_value v = b->g->value[x];
    const int32_t n = o->n_sizes > 0 ? o->n_sizes : (int32_t)o->parts;
    double sum = 0;
    bool whole = n <= DT_SPLIT_PARTS && (o->n_sizes > 0 || v.dim[axis] % n == 0);
    for (int32_t i = 0; whole && i < o->n_sizes; i++) {
        whole = o->sizes[i] >= 1 && (double)(int64_t)o->sizes[i] == o->sizes[i];
        sum += o->sizes[i];
    }
    if (!whole || (o->n_sizes > 0 && sum != (double)v.dim[axis])) {
        refuse(b, dt_fail(DT_ERR_CONFIG,
                          "%s (split): dimension %d of %s, which is %s, is not made of %s%d parts%s", name,
                          axis, v.name, dt_value_shape_text(&v), o->n_sizes > 0 ? "" : "equal ", n,
                          o->n_sizes > 0 ? " of these sizes" : ""));
        return 0;
    }
    dt_attr t = {.shape.axis = axis};
    for (int32_t i = 0; i < n; i++, t.shape.begin += t.shape.length) {
        char number[16], full[DT_NAME_MAX];
        snprintf(number, sizeof number, "%d", i);
        t.shape.length = o->n_sizes > 0 ? (int64_t)o->sizes[i] : v.dim[axis] / n;
        part[i] = dt_build_op(b, part_name(full, name, number), DT_OP_SLICE, &t, 1, &x);
    }
    return b->status == DT_OK ? n : 0;
}

dt_vid dt_build_stack(dt_builder *b, const char *name, int32_t n, const dt_vid *in,
                      const dt_dimension_options *o) {
    if (b->status != DT_OK) return -1;
    const dt_value v = b->g->value[in[0]];
    const int32_t axis = o->axis > 0 ? (int32_t)o->axis : v.ndim;
    dt_vid one[DT_MAX_CONCAT];
    if (axis > v.ndim || v.ndim == DT_MAX_DIM || n > DT_MAX_CONCAT)
        return refuse(b, dt_fail(DT_ERR_CONFIG, "%s (stack): %d of %s along a new dimension %d: %s", name, n,
                                 dt_value_shape_text(&v), axis,
                                 axis > v.ndim ? "those before it are not there" : "too many"));
    for (int32_t i = 0; i < n; i++) {
        const dt_value w = b->g->value[in[i]];
        int64_t dim[DT_MAX_DIM];
        char number[16];
        for (int32_t k = 0, to = 0; to <= w.ndim && to < DT_MAX_DIM; to++)
            dim[to] = to == axis ? 1 : w.dim[k++];
        if (w.ndim != v.ndim)
            return refuse(b, dt_fail(DT_ERR_CONFIG, "%s (stack): %s is %s, of other dimensions than %s", name,
                                     w.name, dt_value_shape_text(&w), v.name));
        snprintf(number, sizeof number, "one%d", i);
        one[i] = reshaped(b, name, number, in[i], w.ndim + 1, dim);
    }
    return dt_build_op(b, name, DT_OP_CONCAT, &(dt_attr){.shape.axis = axis}, n, one);
}
