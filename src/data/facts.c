/* Facts of a data set as JSON, by way of jansson. Everything read is checked: the file may be made by
 * hand. */
#include "data/facts.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dataset.h"
#include "field_json.h"
#include "recipe.h"

enum { NAMES_MAX_BYTES = 16 << 20 };
static const char samples_key[] = "samples_xxh3";

const dt_recipe_row dt_recipe_table[DT_RECIPE_ROWS] = {
    {"resize", offsetof(dt_recipe, resize), DT_IMPORT_SIDE_MAX},
    {"square", offsetof(dt_recipe, square), 1},
    {"exif_rotate", offsetof(dt_recipe, exif_rotate), 1},
    {"quality", offsetof(dt_recipe, quality), 100},
};

static json_t *reals(const double *x, int64_t n) {
    json_t *out = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(out, json_real(x[i]));
    return out;
}

/* NULL where there are none, one of them is not UTF-8, or they are longer than any list of names. */
static json_t *names(const dt_dataset *d) {
    json_t *out = d->class_name ? json_array() : NULL;
    size_t bytes = 0;
    for (int64_t i = 0; out && i < d->info.n_classes; i++)
        if ((bytes += strlen(d->class_name[i])) > NAMES_MAX_BYTES ||
            json_array_append_new(out, json_string(d->class_name[i])) != 0) {
            json_decref(out);
            return NULL;
        }
    return out;
}

static json_t *recipe(dt_recipe r) {
    json_t *out = json_object();
    for (int i = 0; i < DT_RECIPE_ROWS; i++)
        json_object_set_new(out, dt_recipe_table[i].name, json_integer(*dt_recipe_field(&r, i)));
    return out;
}

/* Of text with classes: how many, and their names. */
static bool add_classes(const dt_dataset *d, json_t *root) {
    if (d->info.n_classes <= 0) return true;
    json_t *list = names(d);
    return json_object_set_new(root, "classes", json_integer(d->info.n_classes)) == 0 &&
           (!list || json_object_set_new(root, "class_names", list) == 0);
}

/* Fields, and of text the tokenizer and classes. */
static json_t *fields(const dt_dataset *d) {
    char *text = NULL;
    json_t *root = json_pack("{s:s, s:o}", "kind", d->info.kind, "fields",
                             dt_fields_to_json(d->info.n_field, d->info.field));
    if (!root || !d->tokens.tokenizer) return root;
    json_t *tokenizer =
        dt_tokenizer_text(d->tokens.tokenizer, &text) == DT_OK ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (tokenizer && json_object_set_new(root, "tokenizer", tokenizer) == 0 && add_classes(d, root))
        return root;
    json_decref(root);
    return NULL;
}

dt_status dt_data_facts_text(const dt_dataset *d, char **out) {
    const dt_dataset_info *info = &d->info;
    const bool images = info->channels > 0;
    json_t *root = !images ? fields(d)
                           : json_pack("{s:s, s:[I, I, I], s:I, s:o, s:o, s:o, s:o*}", "kind",
                                       info->jpeg ? "jpeg" : "raw", "shape", (json_int_t)info->height,
                                       (json_int_t)info->width, (json_int_t)info->channels, "classes",
                                       (json_int_t)info->n_classes, "mean", reals(info->mean, info->channels),
                                       "std", reals(info->stddev, info->channels), "recipe",
                                       recipe(d->recipe), "class_names", names(d));
    const uint64_t hash = dt_data_samples_hash(d);
    char hex[17];
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    if (root && hash && json_object_set_new(root, samples_key, json_string(hex)) != 0) {
        json_decref(root);
        root = NULL;
    }
    *out = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    return *out ? DT_OK : dt_fail(DT_ERR_MEMORY, "out of memory for the facts of a data set");
}

static bool get_hash(const json_t *v, uint64_t *out) {
    const char *text = json_string_value(v);
    if (!text || strlen(text) != 16 || text[strspn(text, "0123456789abcdef")]) return false;
    *out = strtoull(text, NULL, 16);
    return true;
}

static dt_status wrong(const char *what) {
    return dt_fail(DT_ERR_DATA, "the facts of the training set: \"%s\" is missing or out of range", what);
}

static bool get_count(const json_t *v, int64_t min, int64_t max, int64_t *out) {
    *out = json_integer_value(v);
    return json_is_integer(v) && *out >= min && *out <= max;
}

static bool get_reals(const json_t *array, int64_t n, double above, double out[4]) {
    if ((int64_t)json_array_size(array) != n) return false;
    for (int64_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(array, (size_t)i);
        out[i] = json_number_value(v);
        if (!json_is_number(v) || !isfinite(out[i]) || !(out[i] > above)) return false;
    }
    return true;
}

static dt_status get_names(const json_t *array, dt_data_facts *out) {
    const int64_t n = out->info.n_classes;
    if (!array) return DT_OK;
    if ((int64_t)json_array_size(array) != n) return wrong("class_names");
    out->class_name = calloc((size_t)n, sizeof *out->class_name);
    if (!out->class_name) return dt_fail(DT_ERR_MEMORY, "out of memory for %lld class names", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(array, (size_t)i));
        if (!name) return wrong("class_names");
        if (!(out->class_name[i] = strdup(name)))
            return dt_fail(DT_ERR_MEMORY, "out of memory for %lld class names", (long long)n);
    }
    return DT_OK;
}

static dt_status get_tokenizer(const json_t *root, dt_data_facts *out) {
    dt_tokenizer_info info;
    const json_t *tokenizer = json_object_get(root, "tokenizer");
    char *text = tokenizer ? json_dumps(tokenizer, JSON_COMPACT) : NULL;
    if (!text) return wrong("tokenizer");
    const dt_status status =
        dt_tokenizer_parse("the facts of the training set", text, strlen(text), &out->tokenizer);
    free(text);
    DT_TRY(status);
    dt_tokenizer_info_get(out->tokenizer, &info);
    out->info.n_vocab = info.n_vocab;
    out->info.end_token = info.end;
    out->info.tokenizer_xxh3 = info.xxh3;
    return DT_OK;
}

/* Of text; earlier versions did not say its classes. */
static dt_status get_text(const json_t *root, dt_data_facts *out) {
    const json_t *classes = json_object_get(root, "classes");
    DT_TRY(get_tokenizer(root, out));
    if (!classes) return DT_OK;
    if (!get_count(classes, 1, INT32_MAX, &out->info.n_classes)) return wrong("classes");
    return get_names(json_object_get(root, "class_names"), out);
}

static dt_status get_all(const json_t *root, dt_data_facts *out) {
    dt_dataset_info *info = &out->info;
    const char *kind = json_string_value(json_object_get(root, "kind"));
    const json_t *shape = json_object_get(root, "shape"), *r = json_object_get(root, "recipe");
    const json_t *samples = json_object_get(root, samples_key);
    if (samples && !get_hash(samples, &out->samples_xxh3)) return wrong(samples_key);
    const dt_data_row *const others[] = {&dt_arrays_row, &dt_synthetic_row, &dt_tokens_row};
    for (int i = 0; kind && i < 3; i++) {
        if (strcmp(kind, others[i]->kind) != 0) continue;
        info->kind = others[i]->kind;
        if (!dt_fields_from_json(json_object_get(root, "fields"), &info->n_field, info->field))
            return wrong("fields");
        return others[i] == &dt_tokens_row ? get_text(root, out) : DT_OK;
    }
    if (!kind || (strcmp(kind, "jpeg") != 0 && strcmp(kind, "raw") != 0)) return wrong("kind");
    info->kind = dt_images_row.kind;
    info->jpeg = strcmp(kind, "jpeg") == 0;
    if (!get_count(json_array_get(shape, 0), 1, DT_SIDE_MAX, &info->height) ||
        !get_count(json_array_get(shape, 1), 1, DT_SIDE_MAX, &info->width) ||
        !get_count(json_array_get(shape, 2), 1, DT_CHANNELS_MAX, &info->channels))
        return wrong("shape");
    if (!get_count(json_object_get(root, "classes"), 1, INT32_MAX, &info->n_classes)) return wrong("classes");
    if (!get_reals(json_object_get(root, "mean"), info->channels, -INFINITY, info->mean))
        return wrong("mean");
    if (!get_reals(json_object_get(root, "std"), info->channels, 0, info->stddev)) return wrong("std");
    for (int i = info->channels < 4 ? (int)info->channels : 4; i < 4; i++)
        info->mean[i] = 0.5, info->stddev[i] = 0.25; /* as of an open set */
    for (int i = 0; r && i < DT_RECIPE_ROWS; i++) {
        const json_t *v = json_object_get(r, dt_recipe_table[i].name);
        if (v && !get_count(v, 0, dt_recipe_table[i].max, dt_recipe_field(&out->recipe, i)))
            return wrong("recipe");
    }
    return get_names(json_object_get(root, "class_names"), out);
}

dt_status dt_data_facts_parse(const char *text, dt_data_facts *out) {
    *out = (dt_data_facts){0};
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!root) return dt_fail(DT_ERR_DATA, "the facts of the training set: %s", error.text);
    const dt_status status = get_all(root, out);
    json_decref(root);
    return status;
}

dt_status dt_data_facts_of(const dt_dataset *d, dt_data_facts *out) {
    char *text;
    *out = (dt_data_facts){0};
    DT_TRY(dt_data_facts_text(d, &text));
    const dt_status status = dt_data_facts_parse(text, out);
    free(text);
    return status;
}

void dt_data_facts_free(dt_data_facts *f) {
    dt_class_names_free(f->class_name, f->info.n_classes);
    dt_tokenizer_close(f->tokenizer);
    *f = (dt_data_facts){0};
}

const char *dt_data_facts_class(const dt_data_facts *f, int64_t label) {
    return f->class_name && label >= 0 && label < f->info.n_classes ? f->class_name[label] : "";
}
