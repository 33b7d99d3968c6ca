/* Keys that count with some choices alone: a key that is set where it does not count would be ignored without a
 * word. Its row says with which it does (dt_key_row.only); here the choices are looked up. */
#include "config_table.h"

#include <string.h>

/* The kind of the data is known only when it is open: until then any will do. */
static bool is_data_kind(const char *key) {
    return strcmp(key, "images") == 0 || strcmp(key, "tokens") == 0;
}

typedef struct choices {
    const dt_config *config;
    const char *kind; /* of the data; NULL: not known yet */
    bool asked_kind;
} choices;

static bool is_layer(const dt_config *c, const char *type) {
    for (int32_t i = 0; i < c->model.n_layers; i++)
        if (strcmp(c->model.layers[i].row->type, type) == 0) return true;
    return false;
}

static bool is_loss(const dt_config *c, const char *kind) {
    for (int32_t i = 0; i < c->model.n_losses; i++)
        if (strcmp(dt_loss_kinds[c->model.losses[i].kind], kind) == 0) return true;
    return false;
}

static bool is(void *arg, const char *key, const char *what) {
    choices *ch = arg;
    dt_config_key k;
    if (is_data_kind(key)) {
        ch->asked_kind = true;
        return !ch->kind || strcmp(ch->kind, key) == 0;
    }
    if (strcmp(key, "model.layers.type") == 0) return is_layer(ch->config, what);
    if (strcmp(key, "model.losses.kind") == 0) return is_loss(ch->config, what);
    const bool found = dt_config_find_key(key, &k);
    DT_ASSERT(found);
    return dt_key_holds(k.row, dt_config_options_of(ch->config, k.part), what);
}

bool dt_config_counts(const dt_config *c, const dt_config_key *k, bool *by_kind) {
    choices ch = {.config = c};
    const bool counts = dt_key_counts(k->row->only, is, &ch);
    if (by_kind) *by_kind = ch.asked_kind;
    return counts;
}

/* Whether the command line made one of the choices that the key hangs on. */
static bool chosen_by_command(const dt_config *c, const char *only) {
    char key[DT_KEY_ONLY_MAX];
    dt_config_key k;
    for (int i = 0; dt_key_only_key(only, i, key); i++) {
        if (is_data_kind(key)) strcpy(key, "data.train");
        if (strncmp(key, "model.layers.", strlen("model.layers.")) == 0 && c->layers_at.line < 0) return true;
        if (strncmp(key, "model.losses.", strlen("model.losses.")) == 0 && c->losses_at.line < 0) return true;
        if (dt_config_find_key(key, &k) && c->set_at[k.index].line < 0) return true;
    }
    return false;
}

/* 'optim.kind = "adam"' of each key that it hangs on. */
static void choices_text(const dt_config *c, const char *only, char *out, size_t size) {
    char key[DT_KEY_ONLY_MAX];
    dt_config_key k;
    FILE *f = fmemopen(out, size, "w");
    const char *join = "";
    out[0] = '\0';
    if (!f) return;
    for (int i = 0; dt_key_only_key(only, i, key); i++) {
        if (!dt_config_find_key(key, &k)) continue;
        fprintf(f, "%s%s = ", join, key);
        dt_key_print(k.row, dt_config_options_of(c, k.part), f);
        join = ", ";
    }
    fclose(f);
}

static dt_status refuse(const dt_config *c, const dt_config_key *k, const char *kind) {
    char only[512], here[512];
    dt_key_only_text(k->row->only, "", only, sizeof only);
    choices_text(c, k->row->only, here, sizeof here);
    if (kind) snprintf(here, sizeof here, "the data is %s", kind);
    return dt_key_fail(dt_config_place_of(c, k->index), k->name,
                       "would be ignored: it counts only with %s, and here %s; take it out", only,
                       here[0] ? here : "there is none");
}

static void leave_out(const dt_config_key *k, char text[DT_CONFIG_LEFT_OUT]) {
    const size_t used = strlen(text);
    snprintf(text + used, DT_CONFIG_LEFT_OUT - used, "%s%s", used ? ", " : "", k->name);
}

/* Whether the file states all of a section, as dtrain wrote it into run directories before it left out what does not
 * count: that a default stands there says nothing. */
static bool is_written_out(const dt_config *c, const dt_config_key *k) {
    dt_config_key other;
    bool all = true;
    for (int i = 0; dt_config_key_at(i, &other) && all; i++)
        if (other.part == k->part && !(other.row->flags & DT_KEY_LATER)) all = c->set_at[i].line > 0;
    return all;
}

static bool is_default(const dt_config *c, const dt_config_key *k) {
    dt_config own;
    dt_config_init(&own);
    dt_config_settle_optim(&own, c);
    return dt_key_is_same(k->row, dt_config_options_of(c, k->part), dt_config_options_of(&own, k->part));
}

dt_status dt_config_check_counts(dt_config *c) {
    dt_config_key k;
    /* One that is left out may be what another hangs on. */
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; dt_config_key_at(i, &k); i++) {
            if (c->set_at[i].line == 0 || dt_config_counts(c, &k, NULL)) continue;
            const bool by_command = c->set_at[i].line > 0 && chosen_by_command(c, k.row->only);
            if (!by_command && !(is_written_out(c, &k) && is_default(c, &k))) return refuse(c, &k, NULL);
            if (by_command) leave_out(&k, c->left_out);
            c->set_at[i] = (dt_config_place){0};
            dt_key_set_default(k.row, dt_config_options(c, k.part));
            changed = true;
        }
    }
    return DT_OK;
}

dt_status dt_config_check_data(const dt_config *c, const char *kind, char left_out[DT_CONFIG_LEFT_OUT]) {
    dt_config_key k;
    left_out[0] = '\0';
    for (int i = 0; dt_config_key_at(i, &k); i++) {
        choices ch = {.config = c, .kind = kind};
        if (c->set_at[i].line == 0 || dt_key_counts(k.row->only, is, &ch)) continue;
        if (is_written_out(c, &k) && is_default(c, &k)) continue;
        if (c->set_at[i].line < 0 || !chosen_by_command(c, k.row->only)) return refuse(c, &k, kind);
        leave_out(&k, left_out);
    }
    return DT_OK;
}
