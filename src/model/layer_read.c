/* [[model.layers]]: reading and printing its entries. Checks keys and names; what `from` and `with`
 * lead to is found when the network is built, and shapes are the graph's affair. */
#include <stdlib.h>
#include <string.h>

#include "core/key_rows.h"
#include "core/text.h"
#include "model/options.h"

#define KEYS_OF dt_layer_entry
static const dt_key_row entry_keys[] = {
    {STRING("name", name), .help =
                               "Name in checkpoints and for `from`, of letters, digits, - and _; not set: "
                               "layer1, layer2, ..."},
    {STRING("from", from), .help = "What is read: an earlier layer, a field of the data, or input, which is "
                                   "the image or the data's first field; not set: the layer before"},
    {NAMES("with", with, n_with), .help = "The other operand, or several, named as in from"},
};
const dt_section dt_layer_entry_section = SECTION("layers", entry_keys);
enum { N_ENTRY_KEY = sizeof entry_keys / sizeof entry_keys[0] };
enum { KEYS_MAX = 32 }; /* of a layer, for messages */

static bool is_with(const dt_key_row *key) {
    return key->kind == DT_KEY_NAMES;
}

bool dt_layer_takes(const dt_layer_row *type, const dt_key_row *entry_key) {
    return !is_with(entry_key) || type->max_in > 1;
}

bool dt_layer_needs(const dt_layer_row *type, const dt_key_row *entry_key) {
    return is_with(entry_key) && type->min_in > 1;
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
    if (!type) return dt_key_fail(place_of(name, entry, false), label, "has no type, e.g. type = \"conv\"");
    dt_place at = place_of(name, type, false);
    if (type->kind != DT_TOML_STRING)
        return dt_key_fail(at, label, "type: expected a string, got %s", dt_toml_kind_name(type->kind));
    *out = dt_layer_find(type->string);
    if (*out) return DT_OK;
    const char **types = malloc((size_t)dt_layer_count * sizeof *types), *near = NULL;
    for (int i = 0; types && i < dt_layer_count; i++) types[i] = dt_layer_table[i].type;
    if (types) near = dt_nearest_name(type->string, dt_layer_count, types);
    free(types);
    if (near)
        return dt_key_fail(at, label, "\"%.60s\" is no layer type; did you mean \"%s\"?", type->string, near);
    return dt_key_fail(at, label, "\"%.60s\" is no layer type; `dtrain config` lists them", type->string);
}

/* A key of an entry of this type, and the struct that it is a field of. NULL: it has none of this name. */
static const dt_key_row *find_key(dt_layer_entry *e, const char *key, void **options) {
    const dt_key_row *row = dt_section_find(&dt_layer_entry_section, key);
    *options = e;
    if (row && dt_layer_takes(e->row, row)) return row;
    *options = e->options;
    return e->row->keys ? dt_section_find(e->row->keys, key) : NULL;
}

static dt_status fail_unknown_key(const dt_layer_row *row, const char *key, dt_place at, const char *label) {
    const dt_section *const sections[] = {&dt_layer_entry_section, row->keys};
    const char *accepted[KEYS_MAX];
    char list[512] = "type";
    int n = 0;
    for (int s = 0; s < 2 && sections[s]; s++) {
        for (int k = 0; k < sections[s]->n_row && n < KEYS_MAX; k++) {
            if (s == 0 && !dt_layer_takes(row, &sections[s]->row[k])) continue;
            accepted[n] = sections[s]->row[k].key;
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, ", %s", accepted[n++]);
        }
    }
    const char *near = dt_nearest_name(key, n, accepted);
    if (near) return dt_key_fail(at, label, "%s has no key %.60s; did you mean %s?", row->type, key, near);
    return dt_key_fail(at, label, "%s has no key %.60s; its keys are %s", row->type, key, list);
}

static bool is_given(const dt_toml_value *entry, const char *key) {
    for (int32_t i = 0; i < entry->n_items; i++)
        if (strcmp(entry->items[i].key, key) == 0) return true;
    return false;
}

static dt_status check_needed(const dt_toml_value *entry, const dt_layer_entry *e, dt_place at,
                              const char *label) {
    const dt_layer_row *row = e->row;
    for (int k = 0; k < N_ENTRY_KEY; k++)
        if (dt_layer_needs(row, &entry_keys[k]) && !is_given(entry, entry_keys[k].key))
            return dt_key_fail(at, label, "%s needs %s", row->type, entry_keys[k].key);
    for (int k = 0; row->keys && k < row->keys->n_row; k++)
        if (row->keys->row[k].flags & DT_KEY_REQUIRED && !is_given(entry, row->keys->row[k].key))
            return dt_key_fail(at, label, "%s needs %s", row->type, row->keys->row[k].key);
    if (is_given(entry, "with") && (e->n_with + 1 < row->min_in || e->n_with + 1 > row->max_in))
        return dt_key_fail(at, label, "%s takes %s besides from, but with names %d", row->type,
                           dt_count_text(row->max_in - 1, "input").s, e->n_with);
    return DT_OK;
}

static dt_status read_layer(const dt_toml_value *entry, const char *name, int index, dt_layer_entry *out) {
    char label[48];
    snprintf(label, sizeof label, "model.layers[%d]", index);
    dt_place entry_at = place_of(name, entry, false);
    if (entry->kind != DT_TOML_TABLE)
        return dt_key_fail(entry_at, label, "expected a table, got %s", dt_toml_kind_name(entry->kind));
    dt_section_defaults(&dt_layer_entry_section, out);
    DT_TRY(read_type(entry, name, label, &out->row));
    dt_layer_defaults(out->row, out->options);
    out->line = entry_at.line;
    for (int32_t i = 0; i < entry->n_items; i++) {
        const dt_toml_value *v = &entry->items[i];
        void *options;
        if (strcmp(v->key, "type") == 0) continue;
        const dt_key_row *row = find_key(out, v->key, &options);
        if (!row) return fail_unknown_key(out->row, v->key, place_of(name, v, true), label);
        char key[80];
        snprintf(key, sizeof key, "%s.%s", label, v->key);
        DT_TRY(dt_key_set(row, key, options, v, place_of(name, v, false)));
    }
    DT_TRY(check_needed(entry, out, entry_at, label));
    const dt_key_row *ignored = out->row->keys ? dt_section_ignored(out->row->keys, out->options) : NULL;
    for (int32_t i = 0; ignored && i < entry->n_items; i++) {
        const dt_toml_value *v = &entry->items[i];
        char key[80];
        snprintf(key, sizeof key, "%s.%s", label, v->key);
        if (strcmp(v->key, ignored->key) == 0)
            return dt_section_counts(out->row->keys, ignored, key, out->options, place_of(name, v, false));
    }
    if (out->row->resolve) out->row->resolve(out->options);
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

static dt_status check_layer(const dt_model_options *o, int index, dt_place at) {
    const dt_layer_entry *l = &o->layers[index];
    char label[48];
    snprintf(label, sizeof label, "model.layers[%d].name", index);
    /* Values that every network has; names of the data's fields are taken, too, and known when it is built. */
    static const char *const taken[] = {"input", "loss", "metrics", DT_FIELD_VALID};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (strcmp(l->name, taken[i]) == 0)
            return dt_key_fail(at, label, "\"%s\" has a meaning of its own; choose another name", l->name);
    if (!name_is_plain(l->name))
        return dt_key_fail(at, label, "\"%s\": only letters, digits, - and _", l->name);
    for (int i = 0; i < index; i++)
        if (strcmp(o->layers[i].name, l->name) == 0)
            return dt_key_fail(at, label, "\"%s\" is also the name of model.layers[%d]", l->name, i);
    return DT_OK;
}

dt_status dt_model_read_layers(dt_model_options *o, const dt_toml_value *v, const char *name) {
    dt_place at = place_of(name, v, false);
    if (v->kind != DT_TOML_ARRAY)
        return dt_key_fail(at, "model.layers", "expected [[model.layers]] tables, got %s",
                           dt_toml_kind_name(v->kind));
    if (v->n_items > DT_LAYERS_MAX)
        return dt_key_fail(at, "model.layers", "%d layers: at most %d", v->n_items, DT_LAYERS_MAX);
    dt_model_options_fini(o);
    snprintf(o->layers_file, sizeof o->layers_file, "%s", name);
    if (v->n_items == 0) return DT_OK;
    o->layers = calloc((size_t)v->n_items, sizeof *o->layers);
    if (!o->layers) return dt_fail(DT_ERR_MEMORY, "out of memory for %d layers", v->n_items);
    for (int32_t i = 0; i < v->n_items; i++) {
        DT_TRY(read_layer(&v->items[i], name, i, &o->layers[i]));
        o->n_layers = i + 1;
        DT_TRY(check_layer(o, i, place_of(name, &v->items[i], false)));
    }
    return DT_OK;
}

static void print_keys(const dt_section *s, const void *options, FILE *out) {
    for (int k = 0; k < s->n_row; k++) {
        if (dt_key_is_empty(&s->row[k], options)) continue;
        fprintf(out, "%s = ", s->row[k].key);
        dt_key_print(&s->row[k], options, out);
        fputc('\n', out);
    }
}

void dt_model_print_entries(const dt_model_options *o, FILE *out) {
    for (int32_t i = 0; i < o->n_layers; i++) {
        const dt_layer_entry *l = &o->layers[i];
        fprintf(out, "\n[[model.layers]]\ntype = \"%s\"\n", l->row->type);
        print_keys(&dt_layer_entry_section, l, out);
        if (l->row->keys) print_keys(l->row->keys, l->options, out);
    }
    for (int32_t i = 0; i < o->n_losses; i++) {
        fprintf(out, "\n[[model.losses]]\n");
        print_keys(&dt_loss_entry_section, &o->losses[i], out);
    }
}
