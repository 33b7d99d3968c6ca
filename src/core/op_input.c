/* What makes numbers of a batch: images and casts. */
#include "core/edit.h"
#include "core/mix.h"
#include "op_row.h"

static dt_status infer_edit(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *v = dt_infer_in(g, n, 0), *edit = dt_infer_in(g, n, 1);
    if (v->dim[3] != 1 && v->dim[3] != 3)
        return dt_fail(DT_ERR_CONFIG, "input %s is %s, colours are edited of 1 or 3 channels", v->name,
                       dt_value_shape_text(v));
    if (edit->dim[0] != v->dim[0] || edit->dim[1] != DT_EDIT_INTS)
        return dt_fail(DT_ERR_CONFIG, "edits %s are %s, expected [%lld,%d] i32", edit->name,
                       dt_value_shape_text(edit), (long long)v->dim[0], (int)DT_EDIT_INTS);
    dt_infer_like(&out[0], v);
    return DT_OK;
}

static dt_status infer_input(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *v = dt_infer_in(g, n, DT_INPUT_IMAGE);
    const dt_input_attr *t = &n->attr.input;
    if (v->dim[3] > 4)
        return dt_fail(DT_ERR_CONFIG, "input %s is %s, expected at most 4 channels", v->name,
                       dt_value_shape_text(v));
    if (t->padded_c < v->dim[3])
        return dt_fail(DT_ERR_CONFIG, "padded channels (%d) fewer than the image's (%lld)", t->padded_c,
                       (long long)v->dim[3]);
    if (dt_node_has(n, DT_INPUT_AUG)) {
        const dt_value *aug = dt_infer_in(g, n, DT_INPUT_AUG);
        if (aug->dim[0] != v->dim[0] || aug->dim[1] != 8)
            return dt_fail(DT_ERR_CONFIG, "windows %s are %s, expected [%lld,8] i32", aug->name,
                           dt_value_shape_text(aug), (long long)v->dim[0]);
    } else if (v->dim[1] != t->size[0] || v->dim[2] != t->size[1]) {
        return dt_fail(DT_ERR_CONFIG, "the image is %lldx%lld, the model's input %dx%d", (long long)v->dim[1],
                       (long long)v->dim[2], t->size[0], t->size[1]);
    }
    if (dt_node_has(n, DT_INPUT_MIX)) {
        const dt_value *mix = dt_infer_in(g, n, DT_INPUT_MIX);
        if (mix->dim[0] != v->dim[0] || mix->dim[1] != DT_MIX_INTS)
            return dt_fail(DT_ERR_CONFIG, "mixing rows %s are %s, expected [%lld,%d] i32", mix->name,
                           dt_value_shape_text(mix), (long long)v->dim[0], (int)DT_MIX_INTS);
        if (t->padded_c > DT_MIX_CHANNELS)
            return dt_fail(DT_ERR_CONFIG, "%d channels of mixed images, at most %d", t->padded_c,
                           (int)DT_MIX_CHANNELS);
    }
    for (int64_t c = 0; c < v->dim[3]; c++)
        if (!(t->stddev[c] > 0)) return dt_fail(DT_ERR_CONFIG, "the standard deviation must be positive");
    DT_INFER_SET(&out[0], dt_op_type(g, n), v->dim[0], t->size[0], t->size[1], t->padded_c);
    return DT_OK;
}

static dt_status infer_cast(const dt_graph *g, const dt_node *n, dt_value *out) {
    const dt_value *x = dt_infer_in(g, n, 0);
    const dt_dtype to = n->attr.cast.dtype;
    const bool whole = x->dtype == DT_DTYPE_U8 || x->dtype == DT_DTYPE_I32 || x->dtype == DT_DTYPE_I64 ||
                       x->dtype == DT_DTYPE_I8 || x->dtype == DT_DTYPE_BOOL;
    if (!dt_dtype_is_float(to) && !(to == DT_DTYPE_I32 && whole))
        return dt_fail(DT_ERR_CONFIG, "no cast of %s, %s, to %s", x->name, dt_value_shape_text(x),
                       (uint32_t)to < DT_DTYPE_COUNT ? dt_dtype_name(to) : "no type");
    dt_infer_set(&out[0], to, x->ndim, x->dim);
    return DT_OK;
}

const dt_op_row dt_row_edit = {
    .name = "edit",
    .doc = "y = image with the edits of each row (core/edit.h) one after the other: brightness, contrast, "
           "saturation, "
           "hue, grey, as torchvision makes them of bytes.",
    .in = {{.name = "image", .type = DT_SLOT_U8, .rank = 4},
           {.name = "edit", .type = DT_SLOT_I32, .rank = 2}},
    .out = {{.name = "y", .type = DT_SLOT_U8}},
    .infer = infer_edit,
    .flops = dt_flops_main4,
};

const dt_op_row dt_row_input = {
    .name = "input",
    .doc =
        "x = (image / 255 - mean[c]) / stddev[c], channels past the image's are 0; with aug "
        "the window {x0, y0, w, h, flip, 0, 0, 0} of each image is resized (bilinear, "
        "half-pixel centres) to H x W, flip mirrors columns. With mix (core/mix.h) a rectangle of each image "
        "is erased, then x = share * x + (1 - share) * x of the partner's row, which alone fills the box.",
    .in = {{.name = "image", .type = DT_SLOT_U8, .rank = 4},
           {.name = "aug", .type = DT_SLOT_I32, .rank = 2, OPT},
           {.name = "mix", .type = DT_SLOT_I32, .rank = 2, OPT}},
    .out = {T("x")},
    .attr = {A(input, size), A(input, padded_c), A(input, mean), A(input, stddev)},
    .infer = infer_input,
};

const dt_op_row dt_row_cast = {
    .name = "cast",
    .doc = "y = x in another type; to f32 or T rounded to nearest, whole numbers to i32 clamped.",
    .in = {{.name = "x", .type = DT_SLOT_ANY}},
    .out = {{.name = "y", .type = DT_SLOT_ANY}},
    .attr = {A(cast, dtype)},
    .infer = infer_cast,
};
