/* Networks written in the configuration: [[model.layers]] in order, each reading the one before unless `from`
 * names another. The last layer must give the logits. */
#include <stdio.h>
#include <string.h>

#include "model_nets.h"

/* A layer kind: how it becomes graph nodes. */
typedef struct layer_row {
    const char *type;
    dt_vid (*build)(dt_builder *b, const char *name, dt_vid x, dt_vid with, const dt_layer_config *l);
} layer_row;

/* As `pad` is documented. */
static int64_t pad_of(const dt_layer_config *l, int64_t dilation) {
    return l->pad >= 0 ? l->pad : (l->kernel - 1) * dilation / 2;
}

static dt_vid layer_conv(dt_builder *b, const char *name, dt_vid x, dt_vid with, const dt_layer_config *l) {
    (void)with;
    int64_t dilation = l->dilation > 0 ? l->dilation : 1;
    dt_conv_options o = {.channels = l->channels,
                         .kernel = l->kernel,
                         .stride = l->stride,
                         .dilation = dilation,
                         .pad = pad_of(l, dilation),
                         .groups = l->groups,
                         .bias = l->bias,
                         .init = DT_INIT_KAIMING_NORMAL_FAN_OUT};
    return dt_build_conv(b, name, x, &o);
}

static dt_vid layer_dense(dt_builder *b, const char *name, dt_vid x, dt_vid with, const dt_layer_config *l) {
    (void)with;
    return dt_build_dense(b, name, x, l->channels, l->bias);
}

static dt_vid layer_batchnorm(dt_builder *b, const char *name, dt_vid x, dt_vid with,
                              const dt_layer_config *l) {
    (void)with, (void)l;
    return dt_build_batchnorm(b, name, x, false);
}

static dt_vid layer_relu(dt_builder *b, const char *name, dt_vid x, dt_vid with, const dt_layer_config *l) {
    (void)with, (void)l;
    return dt_build_relu(b, name, x);
}

static dt_vid layer_maxpool(dt_builder *b, const char *name, dt_vid x, dt_vid with,
                            const dt_layer_config *l) {
    (void)with;
    return dt_build_pool(b, name, DT_OP_MAXPOOL, x, l->kernel, l->stride, pad_of(l, 1));
}

static dt_vid layer_avgpool(dt_builder *b, const char *name, dt_vid x, dt_vid with,
                            const dt_layer_config *l) {
    (void)with;
    return dt_build_pool(b, name, DT_OP_AVGPOOL, x, l->kernel, l->stride, pad_of(l, 1));
}

static dt_vid layer_global_avgpool(dt_builder *b, const char *name, dt_vid x, dt_vid with,
                                   const dt_layer_config *l) {
    (void)with, (void)l;
    return dt_build_op(b, name, DT_OP_GLOBAL_AVGPOOL, NULL, 1, &x);
}

static dt_vid layer_flatten(dt_builder *b, const char *name, dt_vid x, dt_vid with,
                            const dt_layer_config *l) {
    (void)with, (void)l;
    return dt_build_op(b, name, DT_OP_RESHAPE, NULL, 1, &x);
}

static dt_vid layer_dropout(dt_builder *b, const char *name, dt_vid x, dt_vid with,
                            const dt_layer_config *l) {
    (void)with;
    return dt_build_dropout(b, name, x, l->rate);
}

static dt_vid layer_add(dt_builder *b, const char *name, dt_vid x, dt_vid with, const dt_layer_config *l) {
    (void)l;
    return dt_build_add(b, name, x, with);
}

static const layer_row layer_table[] = {
    {"conv", layer_conv},
    {"dense", layer_dense},
    {"batchnorm", layer_batchnorm},
    {"relu", layer_relu},
    {"maxpool", layer_maxpool},
    {"avgpool", layer_avgpool},
    {"global_avgpool", layer_global_avgpool},
    {"flatten", layer_flatten},
    {"dropout", layer_dropout},
    {"add", layer_add},
};

typedef struct named_value {
    char name[DT_NAME_MAX];
    dt_vid value;
} named_value;

static dt_vid find_layer(const named_value *known, int32_t n, const char *name) {
    for (int32_t i = n - 1; i >= 0; i--)
        if (strcmp(known[i].name, name) == 0) return known[i].value;
    return -1;
}

dt_vid dt_net_layers(dt_builder *b, dt_vid x, int64_t classes, const int64_t *arg) {
    (void)arg;
    const dt_config *c = b->config;
    named_value known[DT_CONFIG_LAYERS_MAX + 1];
    int32_t n_known = 0;
    snprintf(known[0].name, sizeof known[0].name, "input");
    known[n_known++].value = x;
    for (int32_t i = 0; i < c->model.n_layers && b->status == DT_OK; i++) {
        const dt_layer_config *l = &c->model.layers[i];
        const layer_row *row = NULL;
        for (size_t k = 0; k < sizeof layer_table / sizeof layer_table[0]; k++)
            if (strcmp(layer_table[k].type, l->type) == 0) row = &layer_table[k];
        char name[DT_NAME_MAX];
        if (l->name[0])
            snprintf(name, sizeof name, "%s", l->name);
        else
            snprintf(name, sizeof name, "layer%d", i + 1);
        dt_vid from = l->from[0] ? find_layer(known, n_known, l->from) : x;
        dt_vid with = l->with[0] ? find_layer(known, n_known, l->with) : -1;
        if (!row)
            b->status = dt_fail(DT_ERR_CONFIG, "unknown layer type \"%s\"", l->type);
        else if (find_layer(known, n_known, name) >= 0)
            b->status = dt_fail(DT_ERR_CONFIG, "the layer name \"%s\" is used twice", name);
        else if (from < 0 || (l->with[0] && with < 0))
            b->status = dt_fail(DT_ERR_CONFIG, "no layer before this one is named \"%s\"",
                                from < 0 ? l->from : l->with);
        else
            x = row->build(b, name, from, with, l);
        if (b->status != DT_OK) {
            dt_error_context("%s:%d", c->path, l->line); /* the layer is named where it was refused */
            return -1;
        }
        snprintf(known[n_known].name, sizeof known[0].name, "%s", name);
        known[n_known++].value = x;
    }
    if (b->status != DT_OK) return -1;
    const dt_value *out = &b->g->value[x];
    if (out->ndim != 2 || out->dim[1] != classes) {
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "%s: the last layer gives %s, expected %lld logits a sample: end with a dense layer",
                    c->path, dt_value_shape_text(out), (long long)classes);
        return -1;
    }
    return x;
}
