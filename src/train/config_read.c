/* Reading a configuration: defaults, then the file, then overrides from the command line, then the checks.
 * Says of every key that it refuses where it stands and what was probably meant. */
#include "config_table.h"

#include "checkpoint_internal.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* A configuration being read. */
typedef struct reader {
    dt_config *config;
    const char *name; /* of the file */
} reader;

static const char *leaf_of(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* The key that was probably meant, written into `out`: near as a whole, or the same name in another section, or
 * a known alias. */
static bool nearest_key(const char *key, char out[DT_CONFIG_KEY_MAX]) {
    const char *leaf = leaf_of(key);
    int limit = 1 + (int)strnlen(leaf, DT_CONFIG_KEY_MAX) / 4;
    int best_distance = limit + 1;
    dt_config_key k;
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        int whole = dt_edit_distance(key, k.name, limit);
        int elsewhere = strcmp(leaf, k.row->key) == 0 ? 1 : limit + 1;
        int d = whole < elsewhere ? whole : elsewhere;
        if (d >= best_distance || d >= (int)strlen(k.row->key)) continue;
        memcpy(out, k.name, sizeof k.name);
        best_distance = d;
    }
    if (best_distance <= limit) return true;
    for (size_t i = 0; i < sizeof alias_table / sizeof alias_table[0]; i++) {
        if (strcmp(leaf, alias_table[i].foreign) != 0) continue;
        snprintf(out, DT_CONFIG_KEY_MAX, "%s", alias_table[i].own);
        return true;
    }
    return false;
}

static dt_status fail_unknown_key(dt_place at, const char *key) {
    char near[DT_CONFIG_KEY_MAX];
    if (strcmp(leaf_of(key), "layers") == 0)
        return dt_key_fail(at, key, "unknown key; did you mean model.layers?");
    if (strcmp(leaf_of(key), "groups") == 0)
        return dt_key_fail(at, key, "unknown key; did you mean optim.groups?");
    if (nearest_key(key, near)) return dt_key_fail(at, key, "unknown key; did you mean %s?", near);
    return dt_key_fail(at, key, "unknown key; `dtrain config` lists all keys");
}

/* "section.key", with what a terminal should not see replaced. */
static void join_key(char out[DT_CONFIG_KEY_MAX], const char *section, const char *key) {
    snprintf(out, DT_CONFIG_KEY_MAX, "%s%s%s", section, *section ? "." : "", key);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
}

static dt_status read_key(reader *r, const char *key, const dt_toml_value *v, dt_place key_at,
                          dt_place value_at) {
    dt_config_key k;
    const dt_config_place at =
        key_at.line > 0 ? (dt_config_place){key_at.line, key_at.column} : (dt_config_place){-1, 0};
    if (strcmp(key, "model.layers") == 0) {
        r->config->layers_at = at;
        return dt_model_read_layers(&r->config->model, v, value_at.name);
    }
    if (strcmp(key, "optim.groups") == 0) return dt_optim_groups_read(&r->config->groups, v, value_at.name);
    if (strcmp(key, "model.losses") == 0) r->config->losses_at = at;
    if (strcmp(key, "model.losses") == 0) return dt_model_read_losses(&r->config->model, v, value_at.name);
    if (!dt_config_find_key(key, &k)) return fail_unknown_key(key_at, key);
    DT_TRY(dt_key_set(k.row, key, dt_config_options(r->config, k.part), v, value_at));
    r->config->set_at[k.index] = value_at.line > 0 ? (dt_config_place){value_at.line, value_at.column} : at;
    return DT_OK;
}

static bool is_section(const char *name) {
    for (int p = 0; p < DT_CONFIG_PARTS; p++)
        if (strcmp(dt_config_parts[p].section->name, name) == 0) return true;
    return false;
}

static dt_status fail_unknown_section(dt_place at, const char *name) {
    char shown[DT_CONFIG_KEY_MAX], near_key[DT_CONFIG_KEY_MAX], list[256] = "";
    const char *sections[DT_CONFIG_PARTS];
    join_key(shown, "", name);
    for (int p = 0; p < DT_CONFIG_PARTS; p++) {
        const char *join = p == 0 ? "" : p + 1 < DT_CONFIG_PARTS ? ", " : " and ";
        const size_t used = strlen(list);
        sections[p] = dt_config_parts[p].section->name;
        snprintf(list + used, sizeof list - used, "%s%s", join, sections[p]);
    }
    const char *near = dt_nearest_name(name, DT_CONFIG_PARTS, sections);
    if (near) return dt_key_fail(at, shown, "unknown section; did you mean %s?", near);
    if (nearest_key(name, near_key)) return dt_key_fail(at, shown, "unknown key; did you mean %s?", near_key);
    return dt_key_fail(at, shown, "unknown section; there are %s", list);
}

static dt_status read_document(reader *r, const dt_toml_value *root) {
    for (int32_t i = 0; i < root->n_items; i++) {
        const dt_toml_value *section = &root->items[i];
        dt_place section_at = {r->name, section->key_line, section->key_column};
        if (!is_section(section->key)) return fail_unknown_section(section_at, section->key);
        if (section->kind != DT_TOML_TABLE)
            return dt_key_fail(section_at, section->key, "is a section: write [%s] and its keys below",
                               section->key);
        for (int32_t k = 0; k < section->n_items; k++) {
            const dt_toml_value *v = &section->items[k];
            char key[DT_CONFIG_KEY_MAX];
            join_key(key, section->key, v->key);
            DT_TRY(read_key(r, key, v, (dt_place){r->name, v->key_line, v->key_column},
                            (dt_place){r->name, v->line, v->column}));
        }
    }
    return DT_OK;
}

static dt_status read_text(reader *r, const char *text, size_t size) {
    dt_toml_error error;
    dt_toml *doc = dt_toml_parse(text, size, &error);
    if (!doc) return dt_key_fail((dt_place){r->name, error.line, error.column}, NULL, "%s", error.text);
    dt_status status = read_document(r, dt_toml_root(doc));
    dt_toml_free(doc);
    return status;
}

/* "a, b" as ["a", "b"]. */
static void print_words(const char *value, FILE *out) {
    char word[DT_KEY_STRING_MAX];
    fputs("v = [", out);
    for (const char *at = value; *at;) {
        at += strspn(at, " ");
        size_t n = strcspn(at, ",");
        const char *next = at + n + (at[n] == ',');
        while (n > 0 && at[n - 1] == ' ') n--;
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        dt_print_quoted(word, out);
        fputs(*next ? ", " : "", out);
        at = next;
    }
    fputc(']', out);
}

/* The value of an override as a TOML document "v = ...": strings need no quotes, arrays no brackets. */
static char *override_document(const dt_key_row *row, const char *value) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    const char *start = value + strspn(value, " \t");
    bool is_text = row && (row->kind == DT_KEY_STRING || row->kind == DT_KEY_CHOICE);
    bool is_list = row && row->kind == DT_KEY_FLOATS, is_names = row && row->kind == DT_KEY_NAMES;
    if (is_text && *start != '"' && *start != '\'') {
        fputs("v = ", out);
        dt_print_quoted(value, out);
    } else if (is_names && !strchr("[\"'", *start)) {
        print_words(value, out);
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

/* Arrays of tables, which are read by rooms of their own. */
static bool is_tables(const char *key) {
    static const char *const keys[] = {"model.layers", "model.losses", "optim.groups"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

static dt_status read_override(reader *r, const char *override) {
    dt_place at = {"command line", 0, 0};
    const char *equals = strchr(override, '=');
    if (!equals) return dt_key_fail(at, NULL, "\"%.60s\": expected section.key=value", override);
    char key[DT_CONFIG_KEY_MAX];
    size_t n = (size_t)(equals - override);
    if (n >= sizeof key) return dt_key_fail(at, NULL, "\"%.60s...\": unknown key", override);
    char raw[DT_CONFIG_KEY_MAX];
    memcpy(raw, override, n);
    raw[n] = '\0';
    join_key(key, "", raw);
    dt_config_key k;
    const dt_key_row *row = dt_config_find_key(key, &k) ? k.row : NULL;
    if (!row && !is_tables(key)) return fail_unknown_key(at, key);

    char *text = override_document(row, equals + 1);
    if (!text) return dt_fail(DT_ERR_MEMORY, "out of memory for the override of %s", key);
    dt_toml_error error;
    dt_toml *doc = dt_toml_parse(text, strlen(text), &error);
    free(text);
    if (!doc && row)
        return dt_key_fail(at, key, "expected %s %s, got \"%.60s\"", row->kind == DT_KEY_INT ? "an" : "a",
                           dt_key_kind_name(row->kind), equals + 1);
    if (!doc) return dt_key_fail(at, key, "\"%.60s\" is not a TOML value: %s", equals + 1, error.text);
    const dt_toml_value *root = dt_toml_root(doc);
    dt_status status;
    if (root->n_items != 1)
        status = dt_key_fail(at, key, "more than one value");
    else
        status = read_key(r, key, &root->items[0], at, at);
    dt_toml_free(doc);
    return status;
}

void dt_config_settle_optim(dt_config *c, const dt_config *of) {
    const dt_optim_options own = dt_optim_defaults((dt_optim_kind)of->optim.kind);
    dt_config_key k;
    for (int i = 0; dt_config_key_at(i, &k); i++)
        if (k.part->section == &dt_optim_section && c->set_at[i].line == 0)
            memcpy((char *)&c->optim + k.row->offset, (const char *)&own + k.row->offset, k.row->size);
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

/* Samples of that many tokens. */
static void derive_batch(dt_config *c) {
    c->train.global_batch = dt_max_i64(c->train.global_tokens / c->data.context, 1);
}

/* The file with the network is the one that it was; from now on, where nobody said which. One that cannot be read fails
 * where it is needed. */
static dt_status know_file(dt_config *c) {
    char hash[sizeof c->model.path_xxh3];
    uint64_t xxh3;
    int64_t bytes;
    if (strcmp(c->model.name, "file") != 0 || !c->model.path[0] ||
        dt_ckpt_file_hash(c->model.path, -1, &bytes, &xxh3) != DT_OK)
        return DT_OK;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)xxh3);
    if (c->model.path_xxh3[0] && strcmp(c->model.path_xxh3, hash) != 0)
        return dt_fail(DT_ERR_CONFIG,
                       "%s: model.path: %s is another file than it was: its hash is %s, not %s", c->path,
                       c->model.path, hash, c->model.path_xxh3);
    memcpy(c->model.path_xxh3, hash, sizeof hash);
    return DT_OK;
}

dt_status dt_config_parse(dt_config *c, const char *name, const char *text, int n_override,
                          const char *const *override) {
    dt_config_init(c);
    reader r = {.config = c, .name = name};
    dt_config_key best;
    dt_status status = DT_OK;
    if (strlen(name) >= sizeof c->path) {
        status = dt_fail(DT_ERR_CONFIG, "%.60s...: path longer than %zu bytes", name, sizeof c->path - 1);
        goto done;
    }
    strcpy(c->path, name);
    DT_TRY_GOTO(status, read_text(&r, text, strlen(text)), done);
    for (int i = 0; i < n_override; i++) DT_TRY_GOTO(status, read_override(&r, override[i]), done);
    if (!c->run.out_dir[0]) derive_out_dir(c);
    dt_config_settle_optim(c, c);
    if (dt_config_find_key("checkpoint.best_metric", &best) && c->set_at[best.index].line == 0)
        c->checkpoint.best_metric = (int64_t)dt_best_metric_first(dt_task_of(&c->model));
    if (c->train.global_tokens > 0) derive_batch(c);
    c->data.masked = dt_task_of(&c->model)->masked;
    c->data.stream = dt_task_of(&c->model)->tokens;
    status = dt_config_check(c);
    if (status == DT_OK) status = dt_config_check_counts(c);
    if (status == DT_OK) status = know_file(c);
    if (status == DT_OK) dt_config_settle_optim(c, c);
done:
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
