/* [[model.layers]]: the layer types, the keys each accepts with their defaults, and the reading of entries.
 * Checks names and references; shapes are the graph's affair. A new layer type is a row here. */
#include "config_table.h"

#include <stdlib.h>
#include <string.h>

#define FIELD(name, kind_, field)                                                                            \
    .key = name, .kind = kind_, .offset = offsetof(dt_layer_config, field),                                  \
    .size = sizeof(((dt_layer_config *)0)->field)

const dt_key_row dt_layer_key_table[DT_LAYER_KEY_COUNT] = {
    [DT_LAYER_KEY_NAME] =
        {FIELD("name", DT_KEY_STRING, name),
         .help = "Name in checkpoints and for `from`, of letters, digits, - and _; not set: layer1, "
                 "layer2, ..."},
    [DT_LAYER_KEY_FROM] = {FIELD("from", DT_KEY_STRING, from),
                           .help = "The layer whose output is read, or input; not set: the layer before"},
    [DT_LAYER_KEY_WITH] = {FIELD("with", DT_KEY_STRING, with), .help = "The other operand: a layer or input"},
    [DT_LAYER_KEY_CHANNELS] = {FIELD("channels", DT_KEY_INT, channels), .min = 1, .max = 1 << 20,
                               .help = "Outputs"},
    [DT_LAYER_KEY_KERNEL] = {FIELD("kernel", DT_KEY_INT, kernel), .min = 1, .max = 1024,
                             .help = "Height and width of the window"},
    [DT_LAYER_KEY_STRIDE] = {FIELD("stride", DT_KEY_INT, stride), .min = 1, .max = 1024,
                             .help = "Step of the window; pooling: not set, the kernel"},
    [DT_LAYER_KEY_PAD] = {FIELD("pad", DT_KEY_INT, pad), .min = -1, .max = 1024,
                          .help = "Padding on each side; -1: (kernel - 1) * dilation / 2, which keeps the "
                                  "size at stride 1 where the kernel is odd"},
    [DT_LAYER_KEY_DILATION] = {FIELD("dilation", DT_KEY_INT, dilation), .min = 1, .max = 1024,
                               .help = "Distance between the taps of the window"},
    [DT_LAYER_KEY_GROUPS] = {FIELD("groups", DT_KEY_INT, groups), .min = 1, .max = 1 << 20,
                             .help = "Channel groups convolved apart; divides the channels in and out"},
    [DT_LAYER_KEY_BIAS] = {FIELD("bias", DT_KEY_BOOL, bias), .help = "Add a learnt bias"},
    [DT_LAYER_KEY_RATE] = {FIELD("rate", DT_KEY_FLOAT, rate), .flags = DT_KEY_OPEN_MAX, .min = 0, .max = 1,
                           .help = "Part of the values dropped in training"},
};

enum {
    HAS_NAME = 1u << DT_LAYER_KEY_NAME | 1u << DT_LAYER_KEY_FROM,
    HAS_WITH = 1u << DT_LAYER_KEY_WITH,
    HAS_CHANNELS = 1u << DT_LAYER_KEY_CHANNELS,
    HAS_WINDOW = 1u << DT_LAYER_KEY_KERNEL | 1u << DT_LAYER_KEY_STRIDE | 1u << DT_LAYER_KEY_PAD,
    HAS_DILATION = 1u << DT_LAYER_KEY_DILATION,
    HAS_GROUPS = 1u << DT_LAYER_KEY_GROUPS,
    HAS_BIAS = 1u << DT_LAYER_KEY_BIAS,
    HAS_RATE = 1u << DT_LAYER_KEY_RATE
};

const dt_layer_row dt_layer_table[] = {
    {.type = "conv",
     .accepts = HAS_NAME | HAS_CHANNELS | HAS_WINDOW | HAS_DILATION | HAS_GROUPS | HAS_BIAS,
     .requires = HAS_CHANNELS,
     .fallback = {.kernel = 3, .stride = 1, .pad = -1, .dilation = 1, .groups = 1, .bias = true},
     .help = "2-D convolution"},
    {.type = "dense",
     .accepts = HAS_NAME | HAS_CHANNELS | HAS_BIAS,
     .requires = HAS_CHANNELS,
     .fallback = {.bias = true},
     .help = "Fully connected layer; an image is taken as flat"},
    {.type = "batchnorm", .accepts = HAS_NAME, .help = "Batch normalisation with learnt scale and shift"},
    {.type = "relu", .accepts = HAS_NAME, .help = "max(x, 0)"},
    {.type = "maxpool",
     .accepts = HAS_NAME | HAS_WINDOW,
     .fallback = {.kernel = 2},
     .help = "Largest value of each window"},
    {.type = "avgpool",
     .accepts = HAS_NAME | HAS_WINDOW,
     .fallback = {.kernel = 2},
     .help = "Mean of each window, with what is padded counted as 0"},
    {.type = "global_avgpool", .accepts = HAS_NAME, .help = "Mean over height and width; the result is flat"},
    {.type = "flatten", .accepts = HAS_NAME, .help = "Height, width and channels as one dimension"},
    {.type = "dropout",
     .accepts = HAS_NAME | HAS_RATE,
     .fallback = {.rate = 0.5},
     .help = "Sets values to 0 at random in training and scales the rest"},
    {.type = "add",
     .accepts = HAS_NAME | HAS_WITH,
     .requires = HAS_WITH,
     .help = "Sum of two layers' outputs of the same shape: a residual connection"},
};
const int dt_layer_count = (int)(sizeof dt_layer_table / sizeof dt_layer_table[0]);

enum { LAYER_TYPES = sizeof dt_layer_table / sizeof dt_layer_table[0] };

const dt_layer_row *dt_layer_row_find(const char *type) {
    for (int i = 0; i < dt_layer_count; i++)
        if (strcmp(dt_layer_table[i].type, type) == 0) return &dt_layer_table[i];
    return NULL;
}

static dt_place place_of(const char *name, const dt_toml_value *v, bool of_key) {
    if (strcmp(name, "command line") == 0) return (dt_place){name, 0, 0};
    return (dt_place){name, of_key ? v->key_line : v->line, of_key ? v->key_column : v->column};
}

static dt_status read_type(const dt_toml_value *entry, const char *name, const char *label,
                           const dt_layer_row **out) {
    const dt_toml_value *type = NULL;
    for (int32_t i = 0; i < entry->n_items; i++)
        if (strcmp(entry->items[i].key, "type") == 0) type = &entry->items[i];
    if (!type)
        return dt_config_fail(place_of(name, entry, false), label, "has no type, e.g. type = \"conv\"");
    dt_place at = place_of(name, type, false);
    if (type->kind != DT_TOML_STRING)
        return dt_config_fail(at, label, "type: expected a string, got %s", dt_toml_kind_name(type->kind));
    *out = dt_layer_row_find(type->string);
    if (*out) return DT_OK;
    const char *types[LAYER_TYPES];
    for (int i = 0; i < dt_layer_count; i++) types[i] = dt_layer_table[i].type;
    const char *near = dt_nearest_name(type->string, dt_layer_count, types);
    if (near)
        return dt_config_fail(at, label, "\"%.60s\" is no layer type; did you mean \"%s\"?", type->string,
                              near);
    return dt_config_fail(at, label, "\"%.60s\" is no layer type; `dtrain config` lists them", type->string);
}

static dt_status fail_unknown_key(const dt_layer_row *row, const char *key, dt_place at, const char *label) {
    const char *accepted[DT_LAYER_KEY_COUNT];
    char list[256] = "type";
    int n = 0;
    for (int k = 0; k < DT_LAYER_KEY_COUNT; k++) {
        if (!(row->accepts & 1u << k)) continue;
        accepted[n++] = dt_layer_key_table[k].key;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, ", %s", dt_layer_key_table[k].key);
    }
    const char *near = dt_nearest_name(key, n, accepted);
    if (near) return dt_config_fail(at, label, "%s has no key %.60s; did you mean %s?", row->type, key, near);
    return dt_config_fail(at, label, "%s has no key %.60s; its keys are %s", row->type, key, list);
}

static int find_layer_key(const char *key) {
    for (int k = 0; k < DT_LAYER_KEY_COUNT; k++)
        if (strcmp(dt_layer_key_table[k].key, key) == 0) return k;
    return -1;
}

static dt_status read_layer(const dt_toml_value *entry, const char *name, int index, dt_layer_config *out) {
    char label[48];
    snprintf(label, sizeof label, "model.layers[%d]", index);
    dt_place entry_at = place_of(name, entry, false);
    if (entry->kind != DT_TOML_TABLE)
        return dt_config_fail(entry_at, label, "expected a table, got %s", dt_toml_kind_name(entry->kind));
    const dt_layer_row *row = NULL;
    DT_TRY(read_type(entry, name, label, &row));
    *out = row->fallback;
    memcpy(out->type, row->type, strlen(row->type));
    out->line = entry_at.line;
    uint32_t seen = 0;
    for (int32_t i = 0; i < entry->n_items; i++) {
        const dt_toml_value *v = &entry->items[i];
        if (strcmp(v->key, "type") == 0) continue;
        int k = find_layer_key(v->key);
        if (k < 0 || !(row->accepts & 1u << k))
            return fail_unknown_key(row, v->key, place_of(name, v, true), label);
        char key[80];
        snprintf(key, sizeof key, "%s.%s", label, v->key);
        DT_TRY(dt_key_set(&dt_layer_key_table[k], key, out, v, place_of(name, v, false)));
        seen |= 1u << k;
    }
    for (int k = 0; k < DT_LAYER_KEY_COUNT; k++)
        if (row->requires & ~seen & 1u << k)
            return dt_config_fail(entry_at, label, "%s needs %s", row->type, dt_layer_key_table[k].key);
    if (row->accepts & 1u << DT_LAYER_KEY_STRIDE && out->stride == 0) out->stride = out->kernel;
    if (!out->name[0]) snprintf(out->name, sizeof out->name, "layer%d", index + 1);
    return DT_OK;
}

/* Names are parts of checkpoint keys, which are separated by dots and slashes there. */
static bool name_is_plain(const char *s) {
    for (; *s; s++) {
        bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
                     *s == '_' || *s == '-';
        if (!plain) return false;
    }
    return true;
}

static dt_status check_reference(const dt_config *c, int index, const char *key, const char *to,
                                 dt_place at) {
    if (strcmp(to, "input") == 0) return DT_OK;
    const char *names[DT_CONFIG_LAYERS_MAX + 1] = {"input"};
    for (int i = 0; i < index; i++) {
        names[i + 1] = c->model.layers[i].name;
        if (strcmp(to, names[i + 1]) == 0) return DT_OK;
    }
    char label[64];
    snprintf(label, sizeof label, "model.layers[%d].%s", index, key);
    const char *near = dt_nearest_name(to, index + 1, names);
    if (near)
        return dt_config_fail(at, label, "no earlier layer is named \"%s\"; did you mean \"%s\"?", to, near);
    return dt_config_fail(at, label, "no earlier layer is named \"%s\"", to);
}

static dt_status check_layer(const dt_config *c, int index, dt_place at) {
    const dt_layer_config *l = &c->model.layers[index];
    char label[48];
    snprintf(label, sizeof label, "model.layers[%d].name", index);
    static const char *const taken[] = {"input", "image", "label", "aug", "loss", "metrics"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (strcmp(l->name, taken[i]) == 0)
            return dt_config_fail(at, label, "\"%s\" has a meaning of its own; choose another name", l->name);
    if (!name_is_plain(l->name))
        return dt_config_fail(at, label, "\"%s\": only letters, digits, - and _", l->name);
    for (int i = 0; i < index; i++)
        if (strcmp(c->model.layers[i].name, l->name) == 0)
            return dt_config_fail(at, label, "\"%s\" is also the name of model.layers[%d]", l->name, i);
    if (l->from[0]) DT_TRY(check_reference(c, index, "from", l->from, at));
    if (l->with[0]) DT_TRY(check_reference(c, index, "with", l->with, at));
    return DT_OK;
}

dt_status dt_config_read_layers(dt_config_reader *r, const dt_toml_value *v, const char *name) {
    dt_config *c = r->config;
    dt_place at = place_of(name, v, false);
    if (v->kind != DT_TOML_ARRAY)
        return dt_config_fail(at, "model.layers", "expected [[model.layers]] tables, got %s",
                              dt_toml_kind_name(v->kind));
    if (v->n_items > DT_CONFIG_LAYERS_MAX)
        return dt_config_fail(at, "model.layers", "%d layers: at most %d", v->n_items, DT_CONFIG_LAYERS_MAX);
    free(c->model.layers);
    c->model.n_layers = 0;
    c->model.layers = NULL;
    if (v->n_items == 0) return DT_OK;
    c->model.layers = calloc((size_t)v->n_items, sizeof *c->model.layers);
    if (!c->model.layers) return dt_fail(DT_ERR_MEMORY, "out of memory for %d layers", v->n_items);
    for (int32_t i = 0; i < v->n_items; i++) {
        DT_TRY(read_layer(&v->items[i], name, i, &c->model.layers[i]));
        c->model.n_layers = i + 1;
        DT_TRY(check_layer(c, i, place_of(name, &v->items[i], false)));
    }
    return DT_OK;
}
