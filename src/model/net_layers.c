/* Networks written in the configuration: [[model.layers]] in order, each reading the one before unless `from`
 * names another or a field of the data. The last layer must give the logits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "model/task.h"
#include "nets.h"

typedef struct layers_net {
    dt_builder *b;
    const dt_model_options *o;
    dt_vid image;                /* -1: the data has none */
    dt_vid value[DT_LAYERS_MAX]; /* outputs of the entries */
} layers_net;

typedef struct place_text {
    char s[DT_KEY_STRING_MAX + 16];
} place_text;

/* "net.toml:12" */
static place_text layer_place(const dt_model_options *o, int32_t i) {
    place_text out;
    if (o->layers[i].line > 0)
        snprintf(out.s, sizeof out.s, "%s:%d", o->layers_file, o->layers[i].line);
    else
        snprintf(out.s, sizeof out.s, "%s", o->layers_file);
    return out;
}

/* What "input" is: images, or the data's first field. Made where a layer reads it. */
static dt_vid read_input(layers_net *n) {
    return n->image >= 0 ? n->image : dt_build_first_input(n->b, n->o->target);
}

/* Of entry i, whose key names what is neither a layer nor a field. */
static dt_vid refuse_name(layers_net *n, int32_t i, const char *key, const char *name) {
    enum { LISTED = 12 };
    const char *names[DT_LAYERS_MAX] = {NULL};
    char fields[DT_FIELD_LIST], layers[LISTED * (DT_KEY_NAME_MAX + 2) + 8] = "";
    const int32_t skipped = i > LISTED ? i - LISTED : 0;
    size_t used = skipped ? (size_t)snprintf(layers, sizeof layers, "..., ") : 0;
    for (int32_t k = 0; k < i; k++) names[k] = n->o->layers[k].name;
    for (int32_t k = skipped; k < i && used < sizeof layers; k++)
        used +=
            (size_t)snprintf(layers + used, sizeof layers - used, "%s%s", k > skipped ? ", " : "", names[k]);
    const char *near = dt_nearest_name(name, i, names);
    n->b->status =
        dt_fail(DT_ERR_CONFIG,
                "model.layers[%d].%s: no earlier layer and no field of the data is named \"%s\"%s%s%s "
                "(layers: %s; fields: %s)",
                i, key, name, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "",
                i ? layers : "none", n->image >= 0 ? "image, label" : dt_build_field_list(n->b, fields));
    return -1;
}

/* Of entry i, which reads all of entry k, whose parts stand alone. */
static dt_vid refuse_whole(layers_net *n, int32_t i, int32_t k) {
    const char *name = n->o->layers[k].name;
    n->b->status = dt_fail(DT_ERR_CONFIG,
                           "model.layers[%d] reads \"%s\", which is parts: name one of them in from or with, "
                           "as %s.0",
                           i, name, name);
    return -1;
}

/* "<layer>.<number>", a part of an entry before entry i; -1: it is none. */
static dt_vid find_part(const layers_net *n, int32_t i, const char *name) {
    const char *dot = strrchr(name, '.');
    for (int32_t k = 0; dot && k < i; k++) {
        const dt_layer_entry *l = &n->o->layers[k];
        if (l->row->parts && strlen(l->name) == (size_t)(dot - name) &&
            strncmp(l->name, name, (size_t)(dot - name)) == 0)
            return dt_graph_find(n->b->g, name);
    }
    return -1;
}

/* Whether the field is what the network is to give. Numbers may be both, of an autoencoder, which says so by the name of
 * its target. */
static bool is_answer(const layers_net *n, const char *name) {
    const dt_task_row *task = dt_task_of(n->o);
    const dt_field *f = n->o->target[0] ? dt_build_field(n->b, n->o->target) : dt_build_target(n->b);
    return f && strcmp(f->name, name) == 0 && (task->classes || task->tokens || !n->o->target[0]);
}

static dt_vid refuse_answer(layers_net *n, int32_t i, const char *key, const char *name) {
    const dt_task_row *task = dt_task_of(n->o);
    char more[DT_FIELD_NAME_MAX + 64] = "";
    if (!task->classes && !task->tokens)
        snprintf(more, sizeof more, "; an autoencoder says model.target = \"%s\"", name);
    n->b->status = dt_fail(DT_ERR_CONFIG,
                           "model.layers[%d].%s: \"%s\" is the target, which the network is to give and may "
                           "not read%s",
                           i, key, name, more);
    return -1;
}

/* What entry i reads by that name. */
static dt_vid find(layers_net *n, int32_t i, const char *key, const char *name) {
    for (int32_t k = i - 1; k >= 0; k--)
        if (strcmp(n->o->layers[k].name, name) == 0)
            return n->o->layers[k].row->parts ? refuse_whole(n, i, k) : n->value[k];
    const dt_vid part = find_part(n, i, name);
    if (part >= 0) return part;
    if (n->image >= 0 && strcmp(name, "image") == 0) return n->image;
    if (is_answer(n, name)) return refuse_answer(n, i, key, name);
    if (dt_build_field(n->b, name)) return dt_build_input(n->b, name);
    return strcmp(name, "input") == 0 ? read_input(n) : refuse_name(n, i, key, name);
}

/* Names that the data's fields have are theirs. */
static bool name_is_free(layers_net *n, int32_t i) {
    const char *name = n->o->layers[i].name;
    static const char *const beside[] = {"image", "aug", "mix", "partner", "share"};
    bool of_images = false;
    for (size_t k = 0; k < sizeof beside / sizeof beside[0]; k++)
        of_images = of_images || (n->image >= 0 && strcmp(name, beside[k]) == 0);
    if (!of_images && !dt_build_field(n->b, name)) return true;
    n->b->status = dt_fail(DT_ERR_CONFIG,
                           "model.layers[%d].name: \"%s\" is a field of the data; choose another", i, name);
    return false;
}

static dt_vid build_entry(layers_net *n, int32_t i) {
    const dt_layer_entry *l = &n->o->layers[i];
    dt_vid in[DT_LAYER_IN_MAX];
    if (!name_is_free(n, i)) return -1;
    if (l->from[0])
        in[0] = find(n, i, "from", l->from);
    else if (i > 0 && n->o->layers[i - 1].row->parts)
        in[0] = refuse_whole(n, i, i - 1);
    else
        in[0] = i > 0 ? n->value[i - 1] : read_input(n);
    for (int32_t k = 0; k < l->n_with && n->b->status == DT_OK; k++)
        in[k + 1] = find(n, i, "with", l->with[k]);
    if (n->b->status != DT_OK) return -1;
    return dt_layer_build(n->b, l->row, l->name, in, l->n_with + 1, l->options);
}

/* The last layer gives logits [rows, steps, words] for all words that the data has. */
static void check_places(layers_net *n, int64_t n_vocab) {
    const int32_t i = n->o->n_layers - 1;
    const dt_value *out = &n->b->g->value[n->value[i]];
    if (out->ndim != 3)
        n->b->status = dt_fail(DT_ERR_CONFIG,
                               "%s: model.layers[%d], the last layer, gives %s, expected logits for each "
                               "place, [rows, steps, vocabulary]",
                               layer_place(n->o, i).s, i, dt_value_shape_text(out));
    else if (out->dim[2] < n_vocab)
        n->b->status =
            dt_fail(DT_ERR_CONFIG,
                    "%s: model.layers[%d], the last layer, gives %lld logits a place, but the data's "
                    "vocabulary is of %lld: it needs as many channels, or rows of what it is tied to",
                    layer_place(n->o, i).s, i, (long long)out->dim[2], (long long)n_vocab);
}

dt_vid dt_net_layers(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    layers_net n = {.b = b, .o = o, .image = x};
    (void)shape;
    if (o->n_layers == 0) {
        b->status = dt_fail(DT_ERR_CONFIG, "\"layers\" needs [[model.layers]] entries");
        return -1;
    }
    for (int32_t i = 0; i < o->n_layers; i++) {
        n.value[i] = build_entry(&n, i);
        if (b->status == DT_OK) continue;
        dt_error_context("%s", layer_place(o, i).s);
        return -1;
    }
    if (o->layers[o->n_layers - 1].row->parts) {
        b->status = dt_fail(DT_ERR_CONFIG,
                            "%s: model.layers[%d], the last layer, gives parts: join them, or take one",
                            layer_place(o, o->n_layers - 1).s, o->n_layers - 1);
        return -1;
    }
    const dt_vid last = n.value[o->n_layers - 1];
    const dt_value *out = &b->g->value[last];
    if (dt_task_of(o)->tokens) return check_places(&n, outputs), last;
    const bool classes = dt_task_of(o)->classes;
    if (dt_value_n_elem(out) == out->dim[0] * outputs && (out->ndim == 2 || !classes)) return last;
    b->status = dt_fail(
        DT_ERR_CONFIG,
        "%s: model.layers[%d], the last layer, gives %s, expected %lld %s a sample%s: end with a dense layer",
        layer_place(o, o->n_layers - 1).s, o->n_layers - 1, dt_value_shape_text(out), (long long)outputs,
        classes ? "logits" : "numbers", classes ? "" : ", as the target has");
    return -1;
}

/* Whether a loss depends on the entry; of parts one is enough. */
static bool is_read(const dt_graph *g, const bool *reaches, const dt_layer_entry *l) {
    dt_vid v = dt_graph_find(g, l->name);
    for (int32_t k = 0; l->row->parts; k++) {
        char name[DT_NAME_MAX];
        snprintf(name, sizeof name, "%s.%d", l->name, k);
        v = dt_graph_find(g, name);
        if (v < 0) return false;
        if (reaches[v]) return true;
    }
    return v < 0 || reaches[v];
}

void dt_net_layers_check(dt_builder *b, const dt_model_options *o) {
    const dt_graph *g = b->g;
    if (b->status != DT_OK) return;
    bool *reaches = calloc((size_t)g->n_value + 1, sizeof *reaches);
    if (!reaches) {
        b->status = dt_fail(DT_ERR_MEMORY, "no memory for the network");
        return;
    }
    for (int32_t i = 0; i < g->n_loss; i++) reaches[g->loss[i]] = true;
    for (dt_nid i = g->n_node - 1; i >= 0; i--) {
        const dt_node *n = &g->node[i];
        bool any = false;
        for (int32_t j = 0; j < n->n_out; j++) any |= n->out[j] >= 0 && reaches[n->out[j]];
        for (int32_t j = 0; j < n->n_in && any; j++)
            if (n->in[j] >= 0) reaches[n->in[j]] = true;
        for (int32_t j = 0; j < n->n_out && any; j++) /* a layer may give but one of its results */
            if (n->out[j] >= 0) reaches[n->out[j]] = true;
    }
    for (int32_t i = 0; i < o->n_layers && b->status == DT_OK; i++) {
        if (is_read(g, reaches, &o->layers[i])) continue;
        b->status = dt_fail(
            DT_ERR_CONFIG,
            "%s: model.layers[%d]: no loss depends on \"%s\": let a layer read it by from or with, or take "
            "it out",
            layer_place(o, i).s, i, o->layers[i].name);
    }
    free(reaches);
}
