/* Reading a configuration: defaults, then the file, then overrides from the command line, then the checks.
 * Says of every key that it refuses where it stands and what was probably meant. */
#include "config_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 128 };

/* Names that other trainers use, for hints only. */
static const struct {
    const char *foreign, *own;
} alias_table[] = {
    {"learning_rate", "optim.lr"},   {"batch_size", "train.global_batch"},
    {"max_steps", "train.steps"},    {"max_epochs", "train.epochs"},
    {"num_workers", "data.workers"}, {"num_classes", "model.classes"},
    {"output_dir", "run.out_dir"},   {"grad_clip", "train.clip_norm"},
    {"optimizer", "optim.kind"},     {"warmup", "schedule.warmup_epochs"},
};

static const dt_key_row *find_row(const char *key) {
    for (int i = 0; i < dt_key_count; i++)
        if (strcmp(dt_key_table[i].key, key) == 0) return &dt_key_table[i];
    return NULL;
}

static const char *leaf_of(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* The key that was probably meant: near as a whole, or the same name in another section, or a known alias. */
static const char *nearest_key(const char *key) {
    const char *leaf = leaf_of(key), *best = NULL;
    int limit = 1 + (int)strnlen(leaf, KEY_MAX) / 4;
    int best_distance = limit + 1;
    for (int i = 0; i < dt_key_count; i++) {
        const char *own = dt_key_table[i].key;
        int whole = dt_edit_distance(key, own, limit);
        int elsewhere = strcmp(leaf, leaf_of(own)) == 0 ? 1 : limit + 1;
        int d = whole < elsewhere ? whole : elsewhere;
        if (d >= best_distance || d >= (int)strlen(leaf_of(own))) continue;
        best = own;
        best_distance = d;
    }
    if (best) return best;
    for (size_t i = 0; i < sizeof alias_table / sizeof alias_table[0]; i++)
        if (strcmp(leaf, alias_table[i].foreign) == 0) return alias_table[i].own;
    return NULL;
}

static dt_status fail_unknown_key(dt_place at, const char *key) {
    if (strcmp(leaf_of(key), "layers") == 0)
        return dt_config_fail(at, key, "unknown key; did you mean model.layers?");
    const char *near = nearest_key(key);
    if (near) return dt_config_fail(at, key, "unknown key; did you mean %s?", near);
    return dt_config_fail(at, key, "unknown key; `dtrain config` lists all keys");
}

/* "section.key", with what a terminal should not see replaced. */
static void join_key(char out[KEY_MAX], const char *section, const char *key) {
    snprintf(out, KEY_MAX, "%s%s%s", section, *section ? "." : "", key);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
}

static dt_status read_key(dt_config_reader *r, const char *key, const dt_toml_value *v, dt_place key_at,
                          dt_place value_at) {
    if (strcmp(key, "model.layers") == 0) {
        r->layers_at = key_at;
        return dt_config_read_layers(r, v, value_at.name);
    }
    const dt_key_row *row = find_row(key);
    if (!row) return fail_unknown_key(key_at, key);
    DT_TRY(dt_key_set(row, row->key, r->config, v, value_at));
    r->set_at[row - dt_key_table] = value_at;
    return DT_OK;
}

static bool is_section(const char *name, size_t n) {
    for (int i = 0; i < dt_key_count; i++) {
        const char *key = dt_key_table[i].key;
        if (strncmp(key, name, n) == 0 && key[n] == '.') return true;
    }
    return false;
}

static dt_status fail_unknown_section(dt_place at, const char *name) {
    char shown[KEY_MAX];
    join_key(shown, "", name);
    static const char *const sections[] = {"run",   "model",    "data", "augment",   "train",
                                           "optim", "schedule", "dist", "checkpoint"};
    const char *near = dt_nearest_name(name, (int)(sizeof sections / sizeof sections[0]), sections);
    if (near) return dt_config_fail(at, shown, "unknown section; did you mean %s?", near);
    near = nearest_key(name);
    if (near) return dt_config_fail(at, shown, "unknown key; did you mean %s?", near);
    return dt_config_fail(at, shown,
                          "unknown section; there are run, model, data, augment, train, optim, "
                          "schedule, dist and checkpoint");
}

static dt_status read_document(dt_config_reader *r, const dt_toml_value *root) {
    for (int32_t i = 0; i < root->n_items; i++) {
        const dt_toml_value *section = &root->items[i];
        dt_place section_at = {r->name, section->key_line, section->key_column};
        if (!is_section(section->key, strlen(section->key)))
            return fail_unknown_section(section_at, section->key);
        if (section->kind != DT_TOML_TABLE)
            return dt_config_fail(section_at, section->key, "is a section: write [%s] and its keys below",
                                  section->key);
        for (int32_t k = 0; k < section->n_items; k++) {
            const dt_toml_value *v = &section->items[k];
            char key[KEY_MAX];
            join_key(key, section->key, v->key);
            DT_TRY(read_key(r, key, v, (dt_place){r->name, v->key_line, v->key_column},
                            (dt_place){r->name, v->line, v->column}));
        }
    }
    return DT_OK;
}

static dt_status read_text(dt_config_reader *r, const char *text, size_t size) {
    dt_toml_error error;
    dt_toml *doc = dt_toml_parse(text, size, &error);
    if (!doc) return dt_config_fail((dt_place){r->name, error.line, error.column}, NULL, "%s", error.text);
    dt_status status = read_document(r, dt_toml_root(doc));
    dt_toml_free(doc);
    return status;
}

/* The value of an override as a TOML document "v = ...": strings need no quotes, arrays no brackets. */
static char *override_document(const dt_key_row *row, const char *value) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    const char *start = value + strspn(value, " \t");
    bool is_text = row && (row->kind == DT_KEY_STRING || row->kind == DT_KEY_CHOICE);
    bool is_list = row && row->kind == DT_KEY_FLOATS;
    if (is_text && *start != '"' && *start != '\'') {
        fputs("v = \"", out);
        for (const char *p = value; *p; p++) {
            unsigned char c = (unsigned char)*p;
            if (c == '"' || c == '\\')
                fprintf(out, "\\%c", c);
            else if (c < 0x20 || c == 0x7f)
                fprintf(out, "\\u%04X", c);
            else
                fputc(c, out);
        }
        fputc('"', out);
    } else if (is_list && *start != '[') {
        fprintf(out, "v = [%s]", value);
    } else {
        fprintf(out, "v = %s", value);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static dt_status read_override(dt_config_reader *r, const char *override) {
    dt_place at = {"command line", 0, 0};
    const char *equals = strchr(override, '=');
    if (!equals) return dt_config_fail(at, NULL, "\"%.60s\": expected section.key=value", override);
    char key[KEY_MAX];
    size_t n = (size_t)(equals - override);
    if (n >= sizeof key) return dt_config_fail(at, NULL, "\"%.60s...\": unknown key", override);
    char raw[KEY_MAX];
    memcpy(raw, override, n);
    raw[n] = '\0';
    join_key(key, "", raw);
    const dt_key_row *row = find_row(key);
    if (!row && strcmp(key, "model.layers") != 0) return fail_unknown_key(at, key);

    char *text = override_document(row, equals + 1);
    if (!text) return dt_fail(DT_ERR_MEMORY, "out of memory for the override of %s", key);
    dt_toml_error error;
    dt_toml *doc = dt_toml_parse(text, strlen(text), &error);
    free(text);
    if (!doc && row)
        return dt_config_fail(at, key, "expected %s %s, got \"%.60s\"", row->kind == DT_KEY_INT ? "an" : "a",
                              dt_key_kind_name(row->kind), equals + 1);
    if (!doc) return dt_config_fail(at, key, "\"%.60s\" is not a TOML value: %s", equals + 1, error.text);
    const dt_toml_value *root = dt_toml_root(doc);
    dt_status status;
    if (root->n_items != 1)
        status = dt_config_fail(at, key, "more than one value");
    else
        status = read_key(r, key, &root->items[0], at, at);
    dt_toml_free(doc);
    return status;
}

/* runs/<name of the configuration file>, in characters that no shell minds. */
static void derive_out_dir(dt_config *c) {
    const char *slash = strrchr(c->path, '/');
    const char *base = slash ? slash + 1 : c->path;
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".toml") == 0) n -= 5;
    if (n > 200) n = 200;
    snprintf(c->run.out_dir, sizeof c->run.out_dir, "runs/%.*s", n > 0 ? (int)n : 3, n > 0 ? base : "run");
    for (char *p = c->run.out_dir + strlen("runs/"); *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                     *p == '.' || *p == '_' || *p == '-';
        if (!plain) *p = '_';
    }
}

dt_status dt_config_parse(dt_config *c, const char *name, const char *text, int n_override,
                          const char *const *override) {
    dt_config_init(c);
    dt_config_reader r = {.config = c, .name = name};
    dt_status status = DT_OK;
    r.set_at = calloc((size_t)dt_key_count, sizeof *r.set_at);
    if (!r.set_at) {
        status = dt_fail(DT_ERR_MEMORY, "out of memory for %s", name);
        goto done;
    }
    if (strlen(name) >= sizeof c->path) {
        status = dt_fail(DT_ERR_CONFIG, "%.60s...: path longer than %zu bytes", name, sizeof c->path - 1);
        goto done;
    }
    strcpy(c->path, name);
    DT_TRY_GOTO(status, read_text(&r, text, strlen(text)), done);
    for (int i = 0; i < n_override; i++) DT_TRY_GOTO(status, read_override(&r, override[i]), done);
    if (!c->run.out_dir[0]) derive_out_dir(c);
    status = dt_config_check(&r);
done:
    free(r.set_at);
    if (status != DT_OK) dt_config_fini(c);
    return status;
}

static dt_status read_file(const char *path, char **out) {
    *out = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) return dt_fail(DT_ERR_CONFIG, "%s: cannot be opened: %s", path, strerror(errno));
    dt_status status = DT_OK;
    size_t room = (size_t)DT_TOML_TEXT_MAX + 2; /* one byte more than is allowed, and the terminator */
    char *text = malloc(room);
    size_t n = 0;
    if (!text) {
        status = dt_fail(DT_ERR_MEMORY, "out of memory for %s", path);
        goto done;
    }
    n = fread(text, 1, room - 1, f);
    text[n] = '\0';
    if (ferror(f))
        status = dt_fail(DT_ERR_CONFIG, "%s: cannot be read: %s", path, strerror(errno));
    else if (n > DT_TOML_TEXT_MAX)
        status = dt_fail(DT_ERR_CONFIG, "%s:1:1: larger than 1 MiB: not a configuration", path);
    else if (memchr(text, '\0', n))
        status = dt_fail(DT_ERR_CONFIG, "%s:1:1: holds NUL bytes: not a configuration", path);
done:
    fclose(f);
    if (status == DT_OK)
        *out = text;
    else
        free(text);
    return status;
}

dt_status dt_config_load(dt_config *c, const char *path, int n_override, const char *const *override) {
    char *text = NULL;
    dt_config_init(c);
    DT_TRY(read_file(path, &text));
    dt_status status = dt_config_parse(c, path, text, n_override, override);
    free(text);
    return status;
}
