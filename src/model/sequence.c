/* Layers of sequences: normalisation of rows and groups, tables of rows, places. */
#include <stdio.h>
#include <string.h>

#include "core/op.h"
#include "model/builder.h"

/* A parameter "<name>.<suffix>". */
static dt_vid add_param(dt_builder *b, const char *name, const char *suffix, dt_dtype dtype, int32_t ndim,
                        const int64_t *dim, dt_init init) {
    char full[DT_NAME_MAX];
    dt_vid id = -1;
    if (b->status != DT_OK) return -1;
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    b->status = dt_graph_add_value(b->g, full, DT_ROLE_PARAM, dtype, ndim, dim, &id);
    if (b->status != DT_OK) return -1;
    b->g->value[id].init = init;
    return id;
}

static dt_vid refuse(dt_builder *b, const char *name, const char *type, dt_vid x, const char *expected) {
    b->status = dt_fail(DT_ERR_CONFIG, "%s (%s): its input is %s, expected %s", name, type,
                        dt_value_shape_text(&b->g->value[x]), expected);
    return -1;
}

static dt_vid normalise(dt_builder *b, const char *name, dt_vid x, dt_op op, const dt_norm_options *o,
                        double eps) {
    if (b->status != DT_OK) return -1;
    const dt_value *v = &b->g->value[x];
    const int64_t c = v->dim[v->ndim - 1], groups = o->groups == DT_EVERY_CHANNEL ? c : o->groups;
    const bool bias = op != DT_OP_RMSNORM && !o->no_bias;
    const dt_attr t = {.norm = {.eps = (float)(o->eps > 0 ? o->eps : eps),
                                .groups = op == DT_OP_GROUPNORM ? (int32_t)groups : 0}};
    dt_vid in[] = {x, -1, -1};
    if (!o->no_scale) in[1] = add_param(b, name, "weight", DT_DTYPE_F32, 1, &c, DT_INIT_ONE);
    if (bias) in[2] = add_param(b, name, "bias", DT_DTYPE_F32, 1, &c, DT_INIT_ZERO);
    return dt_build_op(b, name, op, &t, op == DT_OP_RMSNORM ? 2 : 3, in);
}

dt_vid dt_build_layernorm(dt_builder *b, const char *name, dt_vid x, const dt_norm_options *o) {
    return normalise(b, name, x, DT_OP_LAYERNORM, o ? o : &(dt_norm_options){0}, 1e-5);
}

dt_vid dt_build_rmsnorm(dt_builder *b, const char *name, dt_vid x, const dt_norm_options *o) {
    return normalise(b, name, x, DT_OP_RMSNORM, o ? o : &(dt_norm_options){0}, 1e-6);
}

dt_vid dt_build_groupnorm(dt_builder *b, const char *name, dt_vid x, const dt_norm_options *o) {
    return normalise(b, name, x, DT_OP_GROUPNORM, o, 1e-5);
}

dt_vid dt_build_embedding(dt_builder *b, const char *name, dt_vid x, const dt_embedding_options *o) {
    if (b->status != DT_OK) return -1;
    const dt_vid index = dt_build_index(b, name, x),
                 w = add_param(b, name, "weight", b->g->compute, 2, (int64_t[]){o->rows, o->channels},
                               DT_INIT_NORMAL);
    if (b->status != DT_OK) return -1;
    const int64_t padding = o->padded ? o->padding : -1;
    dt_value *v = &b->g->value[w];
    v->init_std = (float)(o->std > 0 ? o->std : 1);
    v->zero_row = padding + 1;
    v->decay = true;
    if (padding >= o->rows) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (embedding): padding %lld is no row of %lld", name,
                            (long long)padding, (long long)o->rows);
        return -1;
    }
    return dt_build_op(b, name, DT_OP_EMBED, &(dt_attr){.embed.padding = (int32_t)padding}, 2,
                       (dt_vid[]){w, index});
}

static dt_vid learnt_position(dt_builder *b, const char *name, dt_vid x, const dt_position_options *o) {
    const dt_value *v = &b->g->value[x];
    const int64_t steps = v->dim[1], c = v->dim[2], rows = o->rows > 0 ? o->rows : steps;
    char part[DT_NAME_MAX];
    if (rows < steps) {
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "%s (position): its input has %lld steps, but there are %lld positions: more rows, or a "
                    "shorter context of the text",
                    name, (long long)steps, (long long)rows);
        return -1;
    }
    dt_vid w = add_param(b, name, "weight", b->g->compute, 2, (int64_t[]){rows, c}, DT_INIT_NORMAL);
    if (w < 0) return -1;
    b->g->value[w].init_std = (float)(o->std > 0 ? o->std : 0.02);
    b->g->value[w].decay = true;
    snprintf(part, sizeof part, "%s.first", name);
    if (rows > steps)
        w = dt_build_op(b, part, DT_OP_SLICE, &(dt_attr){.shape = {.axis = 0, .length = steps}}, 1, &w);
    return dt_build_op(b, name, DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_ADD}, 2, (dt_vid[]){x, w});
}

dt_vid dt_build_position(dt_builder *b, const char *name, dt_vid x, const dt_position_options *options) {
    if (b->status != DT_OK) return -1;
    const dt_position_options o = options ? *options : (dt_position_options){0};
    if (b->g->value[x].ndim != 3) return refuse(b, name, "position", x, "steps of channels, N T C");
    if (o.kind == DT_POSITION_LEARNT) return learnt_position(b, name, x, &o);
    return dt_build_op(b, name, DT_OP_POSITION,
                       &(dt_attr){.rope.theta = (float)(o.theta > 0 ? o.theta : 1e4)}, 1, &x);
}

dt_vid dt_build_rotary(dt_builder *b, const char *name, dt_vid x, const dt_rotary_options *options) {
    if (b->status != DT_OK) return -1;
    const dt_rotary_options o = options ? *options : (dt_rotary_options){0};
    const dt_value v = b->g->value[x];
    const int64_t heads = v.ndim == 4 ? v.dim[2] : o.heads > 0 ? o.heads : 1;
    if (v.ndim != 3 && v.ndim != 4) return refuse(b, name, "rotary", x, "steps of heads, N T C or N T H D");
    if (v.ndim == 4 && o.heads > 1) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (rotary): heads would be ignored: its input, %s, is of heads",
                            name, dt_value_shape_text(&v));
        return -1;
    }
    if (v.dim[2] % heads != 0) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (rotary): %lld heads do not divide %lld channels", name,
                            (long long)heads, (long long)v.dim[2]);
        return -1;
    }
    const dt_attr t = {.rope = {.theta = (float)(o.theta > 0 ? o.theta : 1e4),
                                .dims = (int32_t)o.dims,
                                .interleaved = o.interleaved}};
    if (v.ndim == 4) return dt_build_op(b, name, DT_OP_ROPE, &t, 1, &x);
    char part[DT_NAME_MAX];
    const dt_attr split = {.reshape = {.ndim = 4, .dim = {v.dim[0], v.dim[1], heads, v.dim[2] / heads}}},
                  join = {.reshape = {.ndim = 3, .dim = {v.dim[0], v.dim[1], v.dim[2]}}};
    snprintf(part, sizeof part, "%s.heads", name);
    x = dt_build_op(b, part, DT_OP_RESHAPE, &split, 1, &x);
    snprintf(part, sizeof part, "%s.turned", name);
    x = dt_build_op(b, part, DT_OP_ROPE, &t, 1, &x);
    return dt_build_op(b, name, DT_OP_RESHAPE, &join, 1, &x);
}

dt_vid dt_build_tied(dt_builder *b, const char *name, dt_vid x, const char *to) {
    return dt_build_tied_with(b, name, x, to, false);
}

dt_vid dt_build_tied_with(dt_builder *b, const char *name, dt_vid x, const char *to, bool bias) {
    if (b->status != DT_OK) return -1;
    char full[DT_NAME_MAX];
    snprintf(full, sizeof full, "%s.weight", to);
    const dt_vid w = dt_graph_find(b->g, full);
    if (w < 0 || b->g->value[w].role != DT_ROLE_PARAM) {
        b->status = dt_fail(DT_ERR_CONFIG, "%s (tied): there is no parameter %s before it", name, full);
        return -1;
    }
    const int64_t rows = b->g->value[w].dim[0];
    const dt_vid own = bias ? add_param(b, name, "bias", DT_DTYPE_F32, 1, &rows, DT_INIT_ZERO) : -1;
    return dt_build_op(b, name, DT_OP_DENSE, NULL, 3, (dt_vid[]){x, w, own});
}
