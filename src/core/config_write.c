/* The configuration for readers: as TOML that reads back, as a hash, and the key tables as text and
 * Markdown. */
#include "config_table.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static size_t section_length(const char *key) {
    return (size_t)(strchr(key, '.') - key);
}

static bool starts_section(int i) {
    const char *key = dt_key_table[i].key;
    size_t n = section_length(key);
    return i == 0 || strncmp(dt_key_table[i - 1].key, key, n + 1) != 0;
}

static void print_layer(const dt_layer_config *l, FILE *out) {
    const dt_layer_row *row = dt_layer_row_find(l->type);
    DT_ASSERT(row);
    fprintf(out, "\n[[model.layers]]\ntype = \"%s\"\n", l->type);
    for (int k = 0; k < DT_LAYER_KEY_COUNT; k++) {
        const dt_key_row *key = &dt_layer_key_table[k];
        if (!(row->accepts & 1u << k)) continue;
        if (key->kind == DT_KEY_STRING && !*((const char *)l + key->offset)) continue;
        fprintf(out, "%s = ", key->key);
        dt_key_print(key, l, out);
        fputc('\n', out);
    }
}

/* The keys that carry one of `flags`, or all keys with flags 0. */
static void print_config(const dt_config *c, uint32_t flags, FILE *out) {
    for (int i = 0; i < dt_key_count; i++) {
        const dt_key_row *row = &dt_key_table[i];
        size_t n = section_length(row->key);
        if (starts_section(i)) fprintf(out, "%s[%.*s]\n", i > 0 ? "\n" : "", (int)n, row->key);
        if (flags && !(row->flags & flags)) continue;
        fprintf(out, "%s = ", row->key + n + 1);
        dt_key_print(row, c, out);
        fputc('\n', out);
    }
    for (int32_t i = 0; i < c->model.n_layers; i++) print_layer(&c->model.layers[i], out);
}

dt_status dt_config_write(const dt_config *c, FILE *out) {
    print_config(c, 0, out);
    if (fflush(out) != 0 || ferror(out)) return dt_fail(DT_ERR_IO, "the configuration could not be written");
    return DT_OK;
}

static dt_status config_text(const dt_config *c, uint32_t flags, char **out) {
    size_t size = 0;
    *out = NULL;
    FILE *f = open_memstream(out, &size);
    if (!f) return dt_fail(DT_ERR_MEMORY, "out of memory for the configuration's text");
    print_config(c, flags, f);
    if (fclose(f) != 0) {
        free(*out);
        *out = NULL;
        return dt_fail(DT_ERR_MEMORY, "out of memory for the configuration's text");
    }
    return DT_OK;
}

dt_status dt_config_to_text(const dt_config *c, char **out) {
    return config_text(c, 0, out);
}

/* The text is canonical (fixed order, shortest numbers), so its hash is the configuration's. */
static uint64_t hash_text(const dt_config *c, uint32_t flags) {
    char *text = NULL;
    if (config_text(c, flags, &text) != DT_OK) return 0;
    uint64_t hash = XXH3_64bits(text, strlen(text));
    free(text);
    return hash;
}

uint64_t dt_config_hash(const dt_config *c) {
    return hash_text(c, DT_KEY_MATHS);
}

uint64_t dt_config_hash_all(const dt_config *c) {
    return hash_text(c, 0);
}

static void print_fallback(const dt_key_row *row, const dt_config *defaults, FILE *out) {
    if (row->flags & DT_KEY_REQUIRED)
        fputs("required", out);
    else if (!row->fallback)
        fputs("derived", out);
    else
        dt_key_print(row, defaults, out);
}

/* A layer's keys with the type's defaults: 'channels, kernel = 3, ...'; `mark` goes around each. */
static void print_layer_keys(const dt_layer_row *row, const char *mark, FILE *out) {
    const char *join = "";
    for (int k = 0; k < DT_LAYER_KEY_COUNT; k++) {
        const dt_key_row *key = &dt_layer_key_table[k];
        if (!(row->accepts & 1u << k)) continue;
        fprintf(out, "%s%s%s", join, mark, key->key);
        join = ", ";
        bool from_kernel = k == DT_LAYER_KEY_STRIDE && row->fallback.stride == 0;
        if (row->requires & 1u << k) {
            fprintf(out, "%s (required)", mark);
            continue;
        }
        if (key->kind != DT_KEY_STRING && !from_kernel) {
            fputs(" = ", out);
            dt_key_print(key, &row->fallback, out);
        }
        fputs(mark, out);
    }
}

void dt_config_print_keys(FILE *out) {
    dt_config defaults;
    dt_config_init(&defaults);
    for (int i = 0; i < dt_key_count; i++) {
        const dt_key_row *row = &dt_key_table[i];
        size_t n = section_length(row->key);
        if (starts_section(i)) fprintf(out, "%s[%.*s]\n", i > 0 ? "\n" : "", (int)n, row->key);
        fprintf(out, "  %-26s %s, default ", row->key, dt_key_kind_name(row->kind));
        print_fallback(row, &defaults, out);
        dt_key_print_range(row, "; ", out);
        fprintf(out, "\n      %s\n", row->help);
    }
    fputs("\n[[model.layers]], with model.name = \"layers\"\n", out);
    for (int i = 0; i < dt_layer_count; i++) {
        fprintf(out, "  type = \"%s\": ", dt_layer_table[i].type);
        print_layer_keys(&dt_layer_table[i], "", out);
        fprintf(out, "\n      %s\n", dt_layer_table[i].help);
    }
    dt_config_fini(&defaults);
}

void dt_config_print_choices(FILE *out) {
    for (int i = 0; i < dt_key_count; i++) {
        const dt_key_row *row = &dt_key_table[i];
        fprintf(out, "%s=", row->key);
        for (int k = 0; row->choices && row->choices[k]; k++)
            fprintf(out, "%s%s", k > 0 ? "|" : "", row->choices[k]);
        fprintf(out, "%s\n", row->kind == DT_KEY_BOOL ? "true|false" : "");
    }
}

static void print_markdown_layers(FILE *out) {
    fputs("\n## [[model.layers]]\n\n"
          "With `model.name = \"layers\"` the model is the list of these entries, in order. Each reads the "
          "layer "
          "before it\nor the one named by `from`; `input` is the image. The last layer must give "
          "`[batch, classes]`; the loss follows it.\n\n"
          "| type | keys and defaults | meaning |\n| --- | --- | --- |\n",
          out);
    for (int i = 0; i < dt_layer_count; i++) {
        fprintf(out, "| `%s` | ", dt_layer_table[i].type);
        print_layer_keys(&dt_layer_table[i], "`", out);
        fprintf(out, " | %s |\n", dt_layer_table[i].help);
    }
    fputs("\n| key | kind | range | meaning |\n| --- | --- | --- | --- |\n", out);
    for (int k = 0; k < DT_LAYER_KEY_COUNT; k++) {
        const dt_key_row *row = &dt_layer_key_table[k];
        fprintf(out, "| `%s` | %s | ", row->key, dt_key_kind_name(row->kind));
        dt_key_print_range(row, "", out);
        fprintf(out, " | %s |\n", row->help);
    }
    fputs("\nA residual block:\n\n```toml\n"
          "[[model.layers]]\ntype = \"conv\"\nname = \"trunk\"\nchannels = 32\n\n"
          "[[model.layers]]\ntype = \"relu\"\n\n"
          "[[model.layers]]\ntype = \"conv\"\nchannels = 32\n\n"
          "[[model.layers]]\ntype = \"add\"\nwith = \"trunk\"\n```\n",
          out);
}

void dt_config_print_markdown(FILE *out) {
    dt_config defaults;
    dt_config_init(&defaults);
    fputs(
        "# Configuration\n\n"
        "<!-- Generated by `dtrain config --markdown`; a test compares this file with the key table. -->\n\n"
        "A run is described by one TOML file; `section.key=value` on the command line overrides it. Unknown "
        "keys, wrong\ntypes, values out of range and contradictions are errors that name file, line, column "
        "and key.\n",
        out);
    for (int i = 0; i < dt_key_count; i++) {
        const dt_key_row *row = &dt_key_table[i];
        size_t n = section_length(row->key);
        if (starts_section(i))
            fprintf(out,
                    "\n## [%.*s]\n\n| key | kind | default | range | meaning |\n| --- | --- | --- | --- | "
                    "--- |\n",
                    (int)n, row->key);
        fprintf(out, "| `%s` | %s | ", row->key + n + 1, dt_key_kind_name(row->kind));
        bool has_value = row->fallback != NULL;
        fputs(has_value ? "`" : "", out);
        print_fallback(row, &defaults, out);
        fprintf(out, "%s | ", has_value ? "`" : "");
        dt_key_print_range(row, "", out);
        fprintf(out, " | %s |\n", row->help);
    }
    print_markdown_layers(out);
    dt_config_fini(&defaults);
}
