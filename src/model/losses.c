/* Losses of a network: the kinds by name, and what each reads. */
#include <string.h>

#include "core/op.h"
#include "core/step.h"
#include "model/builder.h"

enum { CROSS_ENTROPY = 0, CLASS_BCE, FIRST_OF_NUMBERS }; /* among the kinds; those of core/loss.h follow */

#define NAME(NAME_, name, target, loss, slope) #name,
const char *const dt_loss_kinds[] = {"cross_entropy", "class_bce", DT_LOSS_LIST(NAME) NULL};
#undef NAME

/* The index among dt_loss_kinds; -1 sticks an error in the builder. */
static int32_t find_kind(dt_builder *b, const char *name) {
    if (!name) return CROSS_ENTROPY;
    for (int32_t i = 0; dt_loss_kinds[i]; i++)
        if (strcmp(dt_loss_kinds[i], name) == 0) return i;
    b->status = dt_fail(DT_ERR_CONFIG, "there is no loss \"%s\"", name);
    return -1;
}

static dt_vid metrics_of(dt_builder *b) {
    dt_vid v = b->g->metrics;
    if (v < 0 && b->status == DT_OK)
        b->status = dt_graph_add_value(b->g, "metrics", DT_ROLE_METRIC, DT_DTYPE_F32, 1,
                                       (int64_t[]){DT_METRIC_COUNT}, &v);
    return v;
}

/* Which rows of a batch hold samples: the engine's, where the data has no such field. */
static dt_vid valid_rows(dt_builder *b) {
    dt_vid v = dt_graph_input(b->g, DT_FIELD_VALID);
    if (v < 0 && b->status == DT_OK)
        b->status = dt_graph_add_value(b->g, DT_FIELD_VALID, DT_ROLE_INPUT, DT_DTYPE_I32, 1,
                                       (int64_t[]){b->rows}, &v);
    return v;
}

/* Of mixed rows: what else a label is mixed with, and its share; -1 where rows are not mixed. */
static dt_vid mixed_input(dt_builder *b, const char *name, dt_dtype dtype) {
    if (!b->mixed || b->status != DT_OK) return -1;
    dt_vid v = dt_graph_input(b->g, name);
    if (v < 0) b->status = dt_graph_add_value(b->g, name, DT_ROLE_INPUT, dtype, 1, (int64_t[]){b->rows}, &v);
    return b->status == DT_OK ? v : -1;
}

/* The target in that type; -1 after an error, which sticks. */
static dt_vid target_of(dt_builder *b, const dt_build_loss_options *o, const char *name, dt_dtype dtype) {
    if (o->value) return dt_build_as(b, *o->value, dtype);
    const dt_field *f = o->target ? dt_build_field(b, o->target) : dt_build_target(b);
    if (f && dtype == DT_DTYPE_I32 && dt_dtype_is_float(f->dtype)) {
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s: the target \"%s\" holds real numbers (%s), and classes are whole ones from "
                            "0: import them as "
                            "such, or choose a task or a loss for numbers (model.task = \"regress\")",
                            name, f->name, dt_dtype_name(f->dtype));
        return -1;
    }
    if (f) return dt_build_input_as(b, f->name, dtype);
    b->status = o->target ? dt_fail(DT_ERR_CONFIG, "%s: the data has no field \"%s\"", name, o->target)
                          : dt_fail(DT_ERR_CONFIG, "%s: the data has no field label, y or target", name);
    return -1;
}

void dt_build_loss(dt_builder *b, dt_vid x, const dt_build_loss_options *options) {
    if (b->status != DT_OK) return;
    const dt_build_loss_options o = options ? *options : (dt_build_loss_options){0};
    const int32_t kind = find_kind(b, o.kind);
    if (kind < 0) return;
    const char *name = o.name ? o.name : "loss";
    dt_attr t = {.loss = {.weight = o.weight != 0 ? (float)o.weight : 1,
                          .param = o.param != 0 ? (float)o.param : 1,
                          .sums = o.sums}};
    dt_vid loss;
    if (kind < FIRST_OF_NUMBERS) {
        const dt_vid label = target_of(b, &o, name, DT_DTYPE_I32), metrics = metrics_of(b);
        t.loss.smoothing = b->g->training ? (float)b->label_smoothing : 0.0f;
        t.loss.binary = kind == CLASS_BCE;
        t.loss.threshold = kind == CLASS_BCE && b->g->training ? (float)o.param : 0.0f;
        /* A row of images that is padding has label -1. */
        const bool told = b->status == DT_OK && dt_graph_input(b->g, "image") >= 0 &&
                          b->g->value[label].role == DT_ROLE_INPUT;
        const dt_vid valid = told ? -1 : valid_rows(b);
        const dt_vid partner = mixed_input(b, "partner", DT_DTYPE_I32),
                     share = mixed_input(b, "share", DT_DTYPE_F32);
        loss = dt_build_op(b, name, DT_OP_XENT, &t, 6, (dt_vid[]){x, label, metrics, valid, partner, share});
    } else if (b->mixed && kind != FIRST_OF_NUMBERS + DT_LOSS_VALUE) {
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s: augment.mixup and augment.cutmix mix classes, and a loss of kind \"%s\" has "
                            "none",
                            name, dt_loss_kinds[kind]);
        return;
    } else {
        const bool reads_target = kind != FIRST_OF_NUMBERS + DT_LOSS_VALUE;
        const dt_vid y = reads_target ? target_of(b, &o, name, DT_DTYPE_F32) : -1, valid = valid_rows(b),
                     metrics = metrics_of(b);
        t.loss.kind = (dt_loss_kind)(kind - FIRST_OF_NUMBERS);
        loss = dt_build_op(b, name, DT_OP_LOSS, &t, 4, (dt_vid[]){x, y, valid, metrics});
    }
    if (b->status == DT_OK) b->status = dt_graph_add_loss(b->g, loss);
}

void dt_build_output(dt_builder *b, const char *name, dt_vid v) {
    if (b->status == DT_OK) b->status = dt_graph_add_output(b->g, name, v);
}
