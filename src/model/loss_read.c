/* [[model.losses]]: reading and printing its entries. What they name is the graph's affair. */
#include <string.h>

#include "core/key_rows.h"
#include "core/text.h"
#include "model/options.h"

#define KEYS_OF dt_loss_entry
static const dt_key_row entry_keys[] = {
    {STRING("of", of), .flags = DT_KEY_REQUIRED, .help = "The layer whose output is judged"},
    {STRING("name", name), .help = "Reported as loss_<name>; not set: the layer's name"},
    {CHOICE("kind", kind, dt_loss_kinds), .fallback = "mse",
     .help =
         "As model.loss, and cross_entropy and class_bce of classes; value: the layer's output is the loss "
         "itself"},
    {STRING("target", target), .only = "kind = cross_entropy, class_bce, bce, mse, l1, huber",
     .help = "Field of the data; not set: label, y or target"},
    {FLOAT("weight", weight, -1e30, 1e30), .fallback = "1.0", .help = "Of this loss in the total"},
    {FLOAT("param", param, 0, 1e30), .flags = DT_KEY_OPEN_MIN, .fallback = "1.0", .only = "kind = huber, bce",
     .help = "huber: its delta; bce: the weight of labels that are 1"},
};
const dt_section dt_loss_entry_section = SECTION("losses", entry_keys);
enum { N_ENTRY_KEY = sizeof entry_keys / sizeof entry_keys[0] };

static dt_place place_of(const char *name, const dt_toml_value *v, bool of_key) {
    if (strcmp(name, "command line") == 0) return (dt_place){name, 0, 0};
    return (dt_place){name, of_key ? v->key_line : v->line, of_key ? v->key_column : v->column};
}

static dt_status fail_unknown_key(const char *key, dt_place at, const char *label) {
    const char *accepted[N_ENTRY_KEY];
    char list[256] = "";
    for (int k = 0; k < N_ENTRY_KEY; k++) {
        const size_t used = strlen(list);
        accepted[k] = entry_keys[k].key;
        snprintf(list + used, sizeof list - used, "%s%s", k ? ", " : "", accepted[k]);
    }
    const char *near = dt_nearest_name(key, N_ENTRY_KEY, accepted);
    if (near) return dt_key_fail(at, label, "no key %.60s; did you mean %s?", key, near);
    return dt_key_fail(at, label, "no key %.60s; the keys are %s", key, list);
}

static dt_status read_loss(const dt_toml_value *entry, const char *name, int index, dt_loss_entry *out) {
    char label[48];
    snprintf(label, sizeof label, "model.losses[%d]", index);
    const dt_place at = place_of(name, entry, false);
    if (entry->kind != DT_TOML_TABLE)
        return dt_key_fail(at, label, "expected a table, got %s", dt_toml_kind_name(entry->kind));
    dt_section_defaults(&dt_loss_entry_section, out);
    out->line = at.line;
    for (int32_t i = 0; i < entry->n_items; i++) {
        const dt_toml_value *v = &entry->items[i];
        const dt_key_row *row = dt_section_find(&dt_loss_entry_section, v->key);
        char key[80];
        if (!row) return fail_unknown_key(v->key, place_of(name, v, true), label);
        snprintf(key, sizeof key, "%s.%s", label, v->key);
        DT_TRY(dt_key_set(row, key, out, v, place_of(name, v, false)));
    }
    for (int32_t i = 0; i < entry->n_items; i++) {
        const dt_key_row *row = dt_section_find(&dt_loss_entry_section, entry->items[i].key);
        char key[80];
        snprintf(key, sizeof key, "%s.%s", label, row->key);
        DT_TRY(dt_section_counts(&dt_loss_entry_section, row, key, out,
                                 place_of(name, &entry->items[i], false)));
    }
    if (!out->of[0]) return dt_key_fail(at, label, "needs of, the layer whose output it judges");
    if (out->weight == 0) return dt_key_fail(at, label, "weight is 0: remove the loss");
    return DT_OK;
}

dt_status dt_model_read_losses(dt_model_options *o, const dt_toml_value *v, const char *name) {
    const dt_place at = place_of(name, v, false);
    if (v->kind != DT_TOML_ARRAY)
        return dt_key_fail(at, "model.losses", "expected [[model.losses]] tables, got %s",
                           dt_toml_kind_name(v->kind));
    if (v->n_items > DT_MODEL_LOSSES_MAX)
        return dt_key_fail(at, "model.losses", "%d losses: at most %d besides the task's", v->n_items,
                           DT_MODEL_LOSSES_MAX);
    snprintf(o->losses_file, sizeof o->losses_file, "%s", name);
    o->n_losses = 0;
    for (int32_t i = 0; i < v->n_items; i++) {
        DT_TRY(read_loss(&v->items[i], name, i, &o->losses[i]));
        o->n_losses = i + 1;
    }
    return DT_OK;
}
