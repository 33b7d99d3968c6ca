/* What a network reads: the data's fields by their names. */
#include <stdio.h>
#include <string.h>

#include "core/text.h"
#include "model/builder.h"

/* Of data without a list of fields: images. */
static const dt_field label_alone[] = {{.name = "label", .dtype = DT_DTYPE_I32}};

static const dt_field *fields_of(const dt_builder *b, int32_t *n) {
    *n = b->field ? b->n_field : 1;
    return b->field ? b->field : label_alone;
}

const dt_field *dt_build_field(const dt_builder *b, const char *name) {
    int32_t n;
    const dt_field *f = fields_of(b, &n);
    for (int32_t i = 0; i < n; i++)
        if (strcmp(f[i].name, name) == 0) return &f[i];
    return NULL;
}

const dt_field *dt_build_target(const dt_builder *b) {
    static const char *const names[] = {"label", "y", "target"};
    const dt_field *found = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !found; i++) found = dt_build_field(b, names[i]);
    return found;
}

const char *dt_build_field_list(const dt_builder *b, char *list) {
    int32_t n;
    const dt_field *f = fields_of(b, &n);
    size_t used = 0;
    list[0] = 0;
    for (int32_t i = 0; i < n && used < DT_FIELD_LIST; i++)
        used += (size_t)snprintf(list + used, DT_FIELD_LIST - used, "%s%s", i ? ", " : "", f[i].name);
    return list;
}

static dt_vid refuse_field(dt_builder *b, const char *name) {
    int32_t n;
    const dt_field *f = fields_of(b, &n);
    const char *names[DT_FIELDS_MAX];
    char list[DT_FIELD_LIST];
    for (int32_t i = 0; i < n && i < DT_FIELDS_MAX; i++) names[i] = f[i].name;
    const char *near = dt_nearest_name(name, n, names);
    b->status = near
                    ? dt_fail(DT_ERR_CONFIG, "the data has no field \"%s\"; did you mean \"%s\"?", name, near)
                    : dt_fail(DT_ERR_CONFIG, "the data has no field \"%s\"; it has %s", name,
                              dt_build_field_list(b, list));
    return -1;
}

/* The input as it comes. */
static dt_vid raw_input(dt_builder *b, const char *name) {
    if (b->status != DT_OK) return -1;
    dt_vid v = dt_graph_input(b->g, name);
    if (v >= 0) return v;
    const dt_field *f = dt_build_field(b, name);
    if (!f) return refuse_field(b, name);
    if (f->ndim + 1 > DT_MAX_DIM) {
        b->status = dt_fail(DT_ERR_CONFIG, "the data's field \"%s\" has %d dimensions: at most %d", name,
                            f->ndim, DT_MAX_DIM - 1);
        return -1;
    }
    int64_t dim[DT_MAX_DIM] = {b->rows};
    for (int32_t i = 0; i < f->ndim; i++) dim[i + 1] = f->dim[i];
    b->status = dt_graph_add_value(b->g, name, DT_ROLE_INPUT, f->dtype, f->ndim + 1, dim, &v);
    return b->status == DT_OK ? v : -1;
}

dt_vid dt_build_as(dt_builder *b, dt_vid v, dt_dtype dtype) {
    if (b->status != DT_OK || v < 0 || b->g->value[v].dtype == dtype) return b->status == DT_OK ? v : -1;
    const dt_nid cast = dt_graph_maker(b->g, v, DT_OP_CAST); /* what it was made of says more */
    const dt_vid from = cast >= 0 ? b->g->node[cast].in[0] : v;
    if (b->g->value[from].dtype == dtype) return from;
    char name[DT_NAME_MAX];
    if (snprintf(name, sizeof name, "%s/%s", b->g->value[from].name, dt_dtype_name(dtype)) >=
        (int)sizeof name) {
        b->status = dt_fail(DT_ERR_CONFIG, "\"%s\": its name is too long", b->g->value[from].name);
        return -1;
    }
    const dt_vid made = dt_graph_find(b->g, name);
    return made >= 0 ? made : dt_build_op(b, name, DT_OP_CAST, &(dt_attr){.cast.dtype = dtype}, 1, &from);
}

dt_vid dt_build_input_as(dt_builder *b, const char *field, dt_dtype dtype) {
    return dt_build_as(b, raw_input(b, field), dtype);
}

dt_vid dt_build_input(dt_builder *b, const char *field) {
    const dt_vid v = dt_build_input_as(b, field, b->g->compute);
    if (v < 0 || b->g->value[v].ndim > 1) return v;
    char name[DT_NAME_MAX];
    snprintf(name, sizeof name, "%s/row", field);
    const dt_vid made = dt_graph_find(b->g, name);
    return made >= 0 ? made : dt_build_op(b, name, DT_OP_RESHAPE, NULL, 1, &v);
}

dt_vid dt_build_first_input(dt_builder *b, const char *target_name) {
    const dt_field *target = target_name[0] ? dt_build_field(b, target_name) : dt_build_target(b);
    int32_t n;
    const dt_field *f = fields_of(b, &n);
    for (int32_t i = 0; i < n; i++)
        if (&f[i] != target && strcmp(f[i].name, DT_FIELD_VALID) != 0) return dt_build_input(b, f[i].name);
    if (b->status == DT_OK)
        b->status = dt_fail(DT_ERR_CONFIG, "the data has no field that the network could read");
    return -1;
}
