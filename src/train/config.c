/* The list of sections. Reading is in config_read.c, cross checks in config_check.c, writing and documentation
 * in config_write.c. A new section is a field of dt_config and a row here. */
#include "config_table.h"

#include <string.h>

#define PART(name)                                                                                           \
    { &dt_##name##_section, offsetof(dt_config, name) }

/* In the order in which they are written and documented. */
const dt_config_part dt_config_parts[DT_CONFIG_PARTS] = {
    PART(run),        PART(model),    {&dt_lora_section, offsetof(dt_config, model.lora)},
    PART(data),       PART(augment),  PART(train),
    PART(optim),      PART(schedule), PART(dist),
    PART(checkpoint),
};

bool dt_config_key_at(int index, dt_config_key *out) {
    for (int p = 0, first = 0; p < DT_CONFIG_PARTS; first += dt_config_parts[p++].section->n_row) {
        const dt_section *s = dt_config_parts[p].section;
        if (index >= first + s->n_row) continue;
        *out = (dt_config_key){.part = &dt_config_parts[p],
                               .row = &s->row[index - first],
                               .index = index,
                               .first = index == first};
        snprintf(out->name, sizeof out->name, "%s.%s", s->name, out->row->key);
        return true;
    }
    return false;
}

bool dt_config_find_key(const char *name, dt_config_key *out) {
    for (int i = 0; dt_config_key_at(i, out); i++)
        if (strcmp(out->name, name) == 0) return true;
    return false;
}

dt_place dt_config_place_of(const dt_config *c, int index) {
    const dt_config_place at = c->set_at[index];
    return at.line < 0 ? (dt_place){"command line", 0, 0} : (dt_place){c->path, at.line, at.column};
}

int dt_config_n_key(void) {
    int n = 0;
    for (int p = 0; p < DT_CONFIG_PARTS; p++) n += dt_config_parts[p].section->n_row;
    return n;
}

void dt_config_init(dt_config *c) {
    DT_ASSERT(dt_config_n_key() <= DT_CONFIG_KEYS_MAX);
    *c = (dt_config){0};
    for (int p = 0; p < DT_CONFIG_PARTS; p++)
        dt_section_defaults(dt_config_parts[p].section, dt_config_options(c, &dt_config_parts[p]));
}

void dt_config_fini(dt_config *c) {
    dt_model_options_fini(&c->model);
}
