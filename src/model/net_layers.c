/* Networks written in the configuration: [[model.layers]] in order, each reading the one before unless `from`
 * names another. The last layer must give the logits. */
#include <string.h>

#include "model/task.h"
#include "nets.h"

/* The output of the entry of that name among the first n; -1: there is none. */
static dt_vid find_layer(const dt_model_options *o, const dt_vid *value, int32_t n, const char *name) {
    if (strcmp(name, "input") == 0) return value[0];
    for (int32_t i = n - 1; i >= 0; i--)
        if (strcmp(o->layers[i].name, name) == 0) return value[i + 1];
    return -1;
}

/* Of entry i; value[k + 1] is the output of entry k, value[0] the input. */
static dt_vid build_entry(dt_builder *b, const dt_model_options *o, int32_t i, const dt_vid *value) {
    const dt_layer_entry *l = &o->layers[i];
    dt_vid in[DT_LAYER_IN_MAX] = {l->from[0] ? find_layer(o, value, i, l->from) : value[i]};
    for (int32_t k = 0; k < l->n_with; k++) in[k + 1] = find_layer(o, value, i, l->with[k]);
    for (int32_t k = 0; k <= l->n_with; k++) {
        if (in[k] >= 0) continue;
        b->status = dt_fail(DT_ERR_CONFIG, "no layer before this one is named \"%s\"",
                            k == 0 ? l->from : l->with[k - 1]);
        return -1;
    }
    return dt_layer_build(b, l->row, l->name, in, l->n_with + 1, l->options);
}

dt_vid dt_net_layers(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    (void)shape;
    dt_vid value[DT_LAYERS_MAX + 1] = {x};
    for (int32_t i = 0; i < o->n_layers; i++) {
        value[i + 1] = build_entry(b, o, i, value);
        if (b->status == DT_OK) continue;
        /* The layer is named where it was refused. */
        if (o->layers[i].line > 0)
            dt_error_context("%s:%d", o->layers_file, o->layers[i].line);
        else
            dt_error_context("%s", o->layers_file);
        return -1;
    }
    const dt_value *out = &b->g->value[value[o->n_layers]];
    const bool classes = dt_task_of(o)->classes;
    if (dt_value_n_elem(out) == out->dim[0] * outputs && (out->ndim == 2 || !classes))
        return value[o->n_layers];
    b->status = dt_fail(
        DT_ERR_CONFIG, "%s: the last layer gives %s, expected %lld %s a sample: end with a dense layer",
        o->layers_file, dt_value_shape_text(out), (long long)outputs, classes ? "logits" : "numbers");
    return -1;
}
