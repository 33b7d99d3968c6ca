/* [[optim.groups]]: reading, printing and applying them. */
#include "core/optim_group.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/key_rows.h"
#include "core/text.h"

#define KEYS_OF dt_optim_group
static const dt_key_row entry_keys[] = {
    {STRING("pattern", pattern), .flags = DT_KEY_REQUIRED,
     .help = "Names of parameters as in checkpoints, `*` for any characters: \"layer1.*\", \"*.bias\""},
    {FLOAT("lr_factor", lr_factor, 0, 1e6), .flags = DT_KEY_OPEN_MIN,
     .help = "Factor on the learning rate of these parameters"},
    {FLOAT("weight_decay", weight_decay, 0, 1e6),
     .help = "Weight decay of these parameters instead of optim.weight_decay, also of batch norm and biases "
             "among them"},
    {BOOL("frozen", frozen),
     .help = "These parameters keep their values: no gradient is computed for them and they have no "
             "optimizer state. Running statistics of batch norm go on"},
    {BOOL("muon", muon), .help = "With optim.kind = \"muon\": whether the matrices among these parameters "
                                 "are stepped by muon or by adamw. A "
                                 "convolution counts as one of [out, the rest]"},
};
const dt_section dt_optim_group_section = SECTION("groups", entry_keys);
#undef KEYS_OF
enum { N_ENTRY_KEY = sizeof entry_keys / sizeof entry_keys[0] };

/* What an entry that has this key says by it; 0 for the pattern. */
static const uint32_t says_of[N_ENTRY_KEY] = {0, DT_GROUP_LR, DT_GROUP_DECAY, DT_GROUP_FROZEN, DT_GROUP_MUON};

dt_optim_group dt_optim_group_of(const dt_optim_groups *g, const char *name) {
    dt_optim_group all = g->base ? dt_optim_group_of(g->base, name) : (dt_optim_group){.lr_factor = 1};
    for (int32_t i = 0; i < g->n; i++) {
        const dt_optim_group *one = &g->group[i];
        if (!dt_name_matches(one->pattern, name)) continue;
        all.says |= one->says;
        if (one->says & DT_GROUP_LR) all.lr_factor = one->lr_factor;
        if (one->says & DT_GROUP_DECAY) all.weight_decay = one->weight_decay;
        if (one->says & DT_GROUP_FROZEN) all.frozen = one->frozen;
        if (one->says & DT_GROUP_MUON) all.muon = one->muon;
    }
    return all;
}

/* The start of a parameter's name up to as many dots as `pattern` has before its first star, with the rest of
 * the pattern: what a slip of the pen may have been meant for. */
static void as_pattern(const char *pattern, const char *name, char out[DT_NAME_MAX]) {
    const size_t head = strcspn(pattern, "*");
    int dots = 0;
    size_t n = 0;
    for (size_t i = 0; i < head; i++) dots += pattern[i] == '.';
    if (pattern[head] == '\0' || dots == 0) {
        n = strlen(name);
    } else {
        while (name[n] && dots > 0) dots -= name[n++] == '.';
    }
    snprintf(out, DT_NAME_MAX, "%.*s%s", (int)n, name,
             pattern[head] && dots == 0 && n < strlen(name) ? pattern + head : "");
}

static dt_status fail_no_match(const dt_graph *graph, const dt_optim_groups *g, int32_t index) {
    const char *pattern = g->group[index].pattern, *first = "";
    char(*candidate)[DT_NAME_MAX] = calloc((size_t)graph->n_value + 1, sizeof *candidate);
    const char **names = calloc((size_t)graph->n_value + 1, sizeof *names);
    int n = 0;
    for (dt_vid v = 0; candidate && names && v < graph->n_value; v++) {
        if (graph->value[v].role != DT_ROLE_PARAM) continue;
        if (n == 0) first = graph->value[v].name;
        as_pattern(pattern, graph->value[v].name, candidate[n]);
        names[n] = candidate[n], n++;
    }
    const char *near = n > 0 ? dt_nearest_name(pattern, n, names) : NULL;
    dt_status st;
    if (near)
        st = dt_fail(DT_ERR_CONFIG,
                     "optim.groups[%d]: pattern \"%s\" is of no parameter; did you mean \"%s\"?", index,
                     pattern, near);
    else
        st = dt_fail(DT_ERR_CONFIG,
                     "optim.groups[%d]: pattern \"%s\" is of no parameter; their names are such as \"%s\" "
                     "(`dtrain inspect` lists the layers)",
                     index, pattern, first);
    free(names), free(candidate);
    return st;
}

/* Of groups that a program filled in. */
static dt_status check_group(const dt_optim_group *g, int32_t index) {
    if (!memchr(g->pattern, '\0', sizeof g->pattern))
        return dt_fail(DT_ERR_CONFIG, "optim.groups[%d]: pattern does not end", index);
    if (g->says & DT_GROUP_LR && !(g->lr_factor > 0 && g->lr_factor <= 1e6))
        return dt_fail(DT_ERR_CONFIG,
                       "optim.groups[%d]: lr_factor = %g: above 0 to 1e6; what is not trained is frozen",
                       index, g->lr_factor);
    if (g->says & DT_GROUP_DECAY && !(g->weight_decay >= 0 && g->weight_decay <= 1e6))
        return dt_fail(DT_ERR_CONFIG, "optim.groups[%d]: weight_decay = %g: from 0 to 1e6", index,
                       g->weight_decay);
    return DT_OK;
}

dt_status dt_optim_groups_mark(const dt_optim_groups *g, dt_graph *graph) {
    int32_t n_param = 0, n_frozen = 0;
    if (g->n < 0 || g->n > DT_OPTIM_GROUPS_MAX)
        return dt_fail(DT_ERR_CONFIG, "optim.groups: %d groups: at most %d", g->n, DT_OPTIM_GROUPS_MAX);
    for (int32_t i = 0; i < g->n; i++) {
        bool any = false, matrix = false;
        dt_status st = check_group(&g->group[i], i);
        for (dt_vid v = 0; v < graph->n_value && st == DT_OK; v++) {
            const dt_value *p = &graph->value[v];
            if (p->role != DT_ROLE_PARAM || !dt_name_matches(g->group[i].pattern, p->name)) continue;
            any = true, matrix = matrix || p->ndim > 1;
        }
        if (st == DT_OK && !any) st = fail_no_match(graph, g, i);
        if (st == DT_OK && g->group[i].says & DT_GROUP_MUON && !matrix)
            st = dt_fail(DT_ERR_CONFIG,
                         "optim.groups[%d]: muon: none of \"%s\" is a matrix; biases and the parameters of "
                         "normalisations are always stepped by adamw",
                         i, g->group[i].pattern);
        if (st != DT_OK && g->line[i] > 0) dt_error_context("%s:%d", g->file, g->line[i]);
        DT_TRY(st);
    }
    for (dt_vid v = 0; v < graph->n_value; v++) {
        dt_value *p = &graph->value[v];
        if (p->role != DT_ROLE_PARAM) continue;
        const dt_optim_group all = dt_optim_group_of(g, p->name);
        p->frozen = all.frozen || p->constant;
        if (all.says & DT_GROUP_MUON) p->matrix = all.muon ? 1 : -1;
        n_param++, n_frozen += p->frozen;
    }
    if (n_param == 0 || n_frozen < n_param) return DT_OK;
    const dt_status st =
        dt_fail(DT_ERR_CONFIG,
                "optim.groups: all %d parameters are frozen: nothing is left to train; add a group with "
                "frozen = false for those that should be, e.g. the last layer's",
                n_param);
    if (g->line[0] > 0) dt_error_context("%s:%d", g->file, g->line[0]);
    return st;
}

void dt_optim_groups_apply(const dt_optim_groups *g, dt_axis *axis) {
    for (int32_t i = 0; i < axis->n_segment; i++) {
        const dt_optim_group all = dt_optim_group_of(g, axis->param[i].name);
        if (all.says & DT_GROUP_LR) axis->segment[i].lr_scale = (float)all.lr_factor;
        if (all.says & DT_GROUP_DECAY) axis->segment[i].decay = (float)all.weight_decay;
    }
}

static dt_place place_of(const char *name, const dt_toml_value *v, bool of_key) {
    if (strcmp(name, "command line") == 0) return (dt_place){name, 0, 0};
    return (dt_place){name, of_key ? v->key_line : v->line, of_key ? v->key_column : v->column};
}

static dt_status fail_unknown_key(const char *key, dt_place at, const char *label) {
    const char *accepted[N_ENTRY_KEY];
    for (int k = 0; k < N_ENTRY_KEY; k++) accepted[k] = entry_keys[k].key;
    const char *near = dt_nearest_name(key, N_ENTRY_KEY, accepted);
    if (near) return dt_key_fail(at, label, "no key %.60s; did you mean %s?", key, near);
    return dt_key_fail(at, label, "no key %.60s; the keys are pattern, lr_factor, weight_decay, frozen, muon",
                       key);
}

static dt_status read_group(const dt_toml_value *entry, const char *name, int index, dt_optim_group *out) {
    char label[48];
    snprintf(label, sizeof label, "optim.groups[%d]", index);
    const dt_place at = place_of(name, entry, false);
    if (entry->kind != DT_TOML_TABLE)
        return dt_key_fail(at, label, "expected a table, got %s", dt_toml_kind_name(entry->kind));
    dt_section_defaults(&dt_optim_group_section, out);
    for (int32_t i = 0; i < entry->n_items; i++) {
        const dt_toml_value *v = &entry->items[i];
        const dt_key_row *row = dt_section_find(&dt_optim_group_section, v->key);
        char key[80];
        if (!row) return fail_unknown_key(v->key, place_of(name, v, true), label);
        snprintf(key, sizeof key, "%s.%s", label, v->key);
        DT_TRY(dt_key_set(row, key, out, v, place_of(name, v, false)));
        out->says |= says_of[row - entry_keys];
    }
    if (!out->pattern[0])
        return dt_key_fail(at, label, "needs pattern, the names of its parameters, e.g. \"layer1.*\"");
    if (!out->says)
        return dt_key_fail(at, label, "says nothing of \"%s\": give lr_factor, weight_decay, frozen or muon",
                           out->pattern);
    return DT_OK;
}

dt_status dt_optim_groups_read(dt_optim_groups *g, const dt_toml_value *v, const char *name) {
    const dt_place at = place_of(name, v, false);
    if (v->kind != DT_TOML_ARRAY)
        return dt_key_fail(at, "optim.groups", "expected [[optim.groups]] tables, got %s",
                           dt_toml_kind_name(v->kind));
    if (v->n_items > DT_OPTIM_GROUPS_MAX)
        return dt_key_fail(at, "optim.groups", "%d groups: at most %d", v->n_items, DT_OPTIM_GROUPS_MAX);
    g->n = 0;
    snprintf(g->file, sizeof g->file, "%s", name);
    for (int32_t i = 0; i < v->n_items; i++) {
        g->line[i] = place_of(name, &v->items[i], false).line;
        DT_TRY(read_group(&v->items[i], name, i, &g->group[i]));
        g->n = i + 1;
    }
    return DT_OK;
}

void dt_optim_groups_print(const dt_optim_groups *g, FILE *out) {
    for (int32_t i = 0; i < g->n; i++) {
        fprintf(out, "\n[[optim.groups]]\n");
        for (int k = 0; k < N_ENTRY_KEY; k++) {
            if (says_of[k] && !(g->group[i].says & says_of[k])) continue;
            fprintf(out, "%s = ", entry_keys[k].key);
            dt_key_print(&entry_keys[k], &g->group[i], out);
            fputc('\n', out);
        }
    }
}
