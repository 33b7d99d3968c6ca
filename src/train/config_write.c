/* The configuration for readers: as TOML that reads back, as a hash, and the key tables as text and
 * Markdown. */
#include "config_table.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Whether a hash is to know of the section: of a later one only where one of its keys is set. */
static bool is_hashed(const dt_config_part *part, const void *options, const void *defaults) {
    for (int i = 0; i < part->section->n_row; i++) {
        const dt_key_row *row = &part->section->row[i];
        if (!(row->flags & DT_KEY_LATER) || !dt_key_is_same(row, options, defaults)) return true;
    }
    return false;
}

/* The keys that carry one of `flags`, or all keys with flags 0; for a hash without the later ones that are not
 * set. */
static void print_config(const dt_config *c, uint32_t flags, bool hash, FILE *out) {
    dt_config_key k;
    dt_config defaults;
    dt_config_init(&defaults);
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        const void *options = dt_config_options_of(c, k.part),
                   *unset = dt_config_options_of(&defaults, k.part);
        if (k.first && (!hash || is_hashed(k.part, options, unset)))
            fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", k.part->section->name);
        if (flags && !(k.row->flags & flags)) continue;
        if (hash && k.row->flags & DT_KEY_LATER && dt_key_is_same(k.row, options, unset)) continue;
        bool by_kind;
        const bool counts = dt_config_counts(c, &k, &by_kind);
        if (!hash && (!counts || (by_kind && c->set_at[i].line == 0))) fputs("# ", out);
        fprintf(out, "%s = ", k.row->key);
        dt_key_print(k.row, options, out);
        fputc('\n', out);
    }
    dt_model_print_entries(&c->model, out);
    dt_optim_groups_print(&c->groups, out);
}

dt_status dt_config_write(const dt_config *c, FILE *out) {
    print_config(c, 0, false, out);
    if (fflush(out) != 0 || ferror(out)) return dt_fail(DT_ERR_IO, "the configuration could not be written");
    return DT_OK;
}

static dt_status config_text(const dt_config *c, uint32_t flags, bool hash, char **out) {
    size_t size = 0;
    *out = NULL;
    FILE *f = open_memstream(out, &size);
    if (!f) return dt_fail(DT_ERR_MEMORY, "out of memory for the configuration's text");
    print_config(c, flags, hash, f);
    if (fclose(f) != 0) {
        free(*out);
        *out = NULL;
        return dt_fail(DT_ERR_MEMORY, "out of memory for the configuration's text");
    }
    return DT_OK;
}

dt_status dt_config_to_text(const dt_config *c, char **out) {
    return config_text(c, 0, false, out);
}

/* The text is canonical (fixed order, shortest numbers), so its hash is the configuration's. */
static uint64_t hash_text(const dt_config *c, uint32_t flags) {
    char *text = NULL;
    if (config_text(c, flags, true, &text) != DT_OK) return 0;
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

static void print_only(const dt_key_row *row, const char *before, const char *mark, const char *behind,
                       FILE *out) {
    char text[512];
    if (row->only)
        fprintf(out, "%s%s%s", before, dt_key_only_text(row->only, mark, text, sizeof text), behind);
}

static void print_fallback(const dt_config_key *k, const dt_config *defaults, FILE *out) {
    if (k->row->flags & DT_KEY_REQUIRED)
        fputs("required", out);
    else if (!k->row->fallback)
        fputs("derived", out);
    else
        dt_key_print(k->row, dt_config_options_of(defaults, k->part), out);
}

/* A layer's keys with the type's defaults: 'channels, kernel = 3, ...'; `mark` goes around each. */
static void print_layer_keys(const dt_layer_row *type, const char *mark, FILE *out) {
    _Alignas(max_align_t) unsigned char defaults[DT_LAYER_OPTIONS_BYTES];
    const dt_section *const sections[] = {&dt_layer_entry_section, type->keys};
    const char *join = "";
    dt_layer_defaults(type, defaults);
    for (int s = 0; s < 2 && sections[s]; s++) {
        for (int k = 0; k < sections[s]->n_row; k++) {
            const dt_key_row *key = &sections[s]->row[k];
            if (s == 0 && !dt_layer_takes(type, key)) continue;
            fprintf(out, "%s%s%s", join, mark, key->key);
            join = ", ";
            if (key->flags & DT_KEY_REQUIRED || (s == 0 && dt_layer_needs(type, key))) {
                fprintf(out, "%s (required)", mark);
                continue;
            }
            if (key->fallback) {
                fputs(" = ", out);
                dt_key_print(key, defaults, out);
            }
            fputs(mark, out);
        }
    }
}

void dt_config_print_keys(FILE *out) {
    dt_config defaults;
    dt_config_key k;
    dt_config_init(&defaults);
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        if (k.first) fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", k.part->section->name);
        fprintf(out, "  %-26s %s, default ", k.name, dt_key_kind_name(k.row->kind));
        print_fallback(&k, &defaults, out);
        dt_key_print_range(k.row, "; ", out);
        fprintf(out, "\n      %s\n", k.row->help);
        print_only(k.row, "      only with ", "", "\n", out);
    }
    fputs("\n[[model.layers]], with model.name = \"layers\"\n", out);
    for (int i = 0; i < dt_layer_count; i++) {
        fprintf(out, "  type = \"%s\": ", dt_layer_table[i].type);
        print_layer_keys(&dt_layer_table[i], "", out);
        fprintf(out, "\n      %s\n", dt_layer_table[i].help);
    }
    fputs("\n[[optim.groups]]\n", out);
    for (int i = 0; i < dt_optim_group_section.n_row; i++)
        fprintf(out, "  %s\n      %s\n", dt_optim_group_section.row[i].key,
                dt_optim_group_section.row[i].help);
    dt_config_fini(&defaults);
}

void dt_config_print_choices(FILE *out) {
    dt_config_key k;
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        fprintf(out, "%s=", k.name);
        for (int j = 0; k.row->choices && k.row->choices[j]; j++)
            fprintf(out, "%s%s", j > 0 ? "|" : "", k.row->choices[j]);
        fprintf(out, "%s\n", k.row->kind == DT_KEY_BOOL ? "true|false" : "");
    }
}

/* Whether an earlier type has the same key: same name, same words. */
static bool is_told(int type, const dt_key_row *key) {
    for (int i = 0; i < type; i++) {
        const dt_key_row *other =
            dt_layer_table[i].keys ? dt_section_find(dt_layer_table[i].keys, key->key) : NULL;
        if (other && strcmp(other->help, key->help) == 0) return true;
    }
    return false;
}

static void print_markdown_layer_key(const dt_key_row *row, FILE *out) {
    fprintf(out, "| `%s` | %s | ", row->key, dt_key_kind_name(row->kind));
    dt_key_print_range(row, "", out);
    fprintf(out, " | %s", row->help);
    print_only(row, ". Only with ", "`", "", out);
    fputs(" |\n", out);
}

/* The keys of entries that are all of one type, with their defaults; `entry` is one without any key set. */
static void print_markdown_entry(const dt_section *s, void *entry, FILE *out) {
    dt_section_defaults(s, entry);
    fputs("| key | kind | default | range | meaning |\n| --- | --- | --- | --- | --- |\n", out);
    for (int k = 0; k < s->n_row; k++) {
        const dt_key_row *row = &s->row[k];
        fprintf(out, "| `%s` | %s | ", row->key, dt_key_kind_name(row->kind));
        if (row->fallback) {
            fputc('`', out);
            dt_key_print(row, entry, out);
            fputc('`', out);
        } else {
            fputs(row->flags & DT_KEY_REQUIRED ? "required" : "not set", out);
        }
        fputs(" | ", out);
        dt_key_print_range(row, "", out);
        fprintf(out, " | %s", row->help);
        print_only(row, ". Only with ", "`", "", out);
        fputs(" |\n", out);
    }
}

static void print_markdown_layers(FILE *out) {
    fputs("\n## [[model.layers]]\n\n"
          "With `model.name = \"layers\"` the model is the list of these entries, in order. Each reads the "
          "layer before it\nor the one named by `from`: another layer, a field of the data, or `input`, "
          "which is the image, or of "
          "arrays the\nfirst field that is no target. The last layer must give what the task judges: a "
          "number for each class, or as "
          "many as\nthe target has in a row; the loss follows it.\n\n"
          "| type | keys and defaults | meaning |\n| --- | --- | --- |\n",
          out);
    for (int i = 0; i < dt_layer_count; i++) {
        fprintf(out, "| `%s` | ", dt_layer_table[i].type);
        print_layer_keys(&dt_layer_table[i], "`", out);
        fprintf(out, " | %s |\n", dt_layer_table[i].help);
    }
    fputs("\n| key | kind | range | meaning |\n| --- | --- | --- | --- |\n", out);
    for (int k = 0; k < dt_layer_entry_section.n_row; k++)
        print_markdown_layer_key(&dt_layer_entry_section.row[k], out);
    for (int i = 0; i < dt_layer_count; i++) {
        const dt_section *keys = dt_layer_table[i].keys;
        for (int k = 0; keys && k < keys->n_row; k++)
            if (!is_told(i, &keys->row[k])) print_markdown_layer_key(&keys->row[k], out);
    }
    fputs("\nA residual block:\n\n```toml\n"
          "[[model.layers]]\ntype = \"conv\"\nname = \"trunk\"\nchannels = 32\n\n"
          "[[model.layers]]\ntype = \"relu\"\n\n"
          "[[model.layers]]\ntype = \"conv\"\nchannels = 32\n\n"
          "[[model.layers]]\ntype = \"add\"\nwith = \"trunk\"\n```\n",
          out);
}

static void print_markdown_losses(FILE *out) {
    fputs(
        "\n## [[model.losses]]\n\n"
        "Losses beside the task's, which has weight 1: the total is the sum of all by their weights, and the "
        "mean of\neach is in the records, the task's own as `loss_main`.\n\n",
        out);
    dt_loss_entry loss;
    print_markdown_entry(&dt_loss_entry_section, &loss, out);
    fputs("\nA second loss on a layer in the middle:\n\n```toml\n"
          "[[model.losses]]\nof = \"trunk\"\ntarget = \"mask\"\nkind = \"bce\"\nweight = 0.4\n```\n",
          out);
}

static void print_markdown_groups(FILE *out) {
    fputs("\n## [[optim.groups]]\n\n"
          "Parameters that are trained in their own way, by patterns on their names. Groups are applied in "
          "order: of each\nkey the last group that says it counts. A pattern that is of no parameter is an "
          "error.\n\n",
          out);
    dt_optim_group group;
    print_markdown_entry(&dt_optim_group_section, &group, out);
    fputs(
        "\nFrozen parameters need no memory but their own, and where nothing below them is trained the "
        "gradient ends there.\nA run may be resumed with other groups: what is trained from then on starts "
        "with fresh optimizer state, what is\nfrozen loses it. Only the last layer, and its bias faster "
        "and without decay:\n\n```toml\n"
        "[[optim.groups]]\npattern = \"*\"\nfrozen = true\n\n"
        "[[optim.groups]]\npattern = \"fc.*\"\nfrozen = false\n\n"
        "[[optim.groups]]\npattern = \"fc.bias\"\nlr_factor = 2.0\nweight_decay = 0.0\n```\n"
        "\nWith `optim.kind = \"muon\"` hidden matrices, the weights of dense layers whose result is no "
        "output "
        "of the network,\nare stepped by muon: PyTorch's `torch.optim.Muon` (five steps of Newton and "
        "Schulz, "
        "coefficients 3.4445, -4.7750,\n2.0315, decoupled decay), computed in fp32 instead of bfloat16. "
        "Embeddings, output layers, vectors and convolutions are\nstepped by adamw; a group may say "
        "otherwise "
        "of matrices, and of convolutions as matrices of [out, the rest].\n`dtrain inspect` lists what muon "
        "steps:\n\n```toml\n"
        "[[optim.groups]]\npattern = \"layer*.weight\"\nmuon = true\n```\n",
        out);
}

void dt_config_print_markdown(FILE *out) {
    dt_config defaults;
    dt_config_key k;
    dt_config_init(&defaults);
    fputs(
        "# Configuration\n\n"
        "<!-- Generated by `dtrain config --markdown`; a test compares this file with the key table. -->\n\n"
        "A run is described by one TOML file; `section.key=value` on the command line overrides it. Unknown "
        "keys, wrong\ntypes, values out of range and contradictions are errors that name file, line, column "
        "and key. So is a key that\nwould be ignored: *only with* says with which other choices a key "
        "counts, `images` and `tokens` with "
        "which data. A choice on the\ncommand line makes void what the file says for another one, and the "
        "run says so.\n",
        out);
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        if (k.first)
            fprintf(out,
                    "\n## [%s]\n\n| key | kind | default | range | meaning |\n| --- | --- | --- | --- | "
                    "--- |\n",
                    k.part->section->name);
        fprintf(out, "| `%s` | %s | ", k.row->key, dt_key_kind_name(k.row->kind));
        bool has_value = k.row->fallback != NULL;
        fputs(has_value ? "`" : "", out);
        print_fallback(&k, &defaults, out);
        fprintf(out, "%s | ", has_value ? "`" : "");
        dt_key_print_range(k.row, "", out);
        fprintf(out, " | %s", k.row->help);
        print_only(k.row, ". Only with ", "`", "", out);
        fputs(" |\n", out);
    }
    print_markdown_layers(out);
    print_markdown_losses(out);
    print_markdown_groups(out);
    dt_config_fini(&defaults);
}
