/* The configuration's sections and keys, shared by the files that parse, check, write and document it.
 * Private to the room: everyone else includes train/config.h. */
#ifndef DT_TRAIN_CONFIG_TABLE_H
#define DT_TRAIN_CONFIG_TABLE_H

#include "core/text.h"
#include "core/toml.h"
#include "train/config.h"

enum { DT_CONFIG_PARTS = 10, DT_CONFIG_KEY_MAX = 128 };

/* A section, and where its options stand in dt_config. */
typedef struct dt_config_part {
    const dt_section *section;
    size_t offset;
} dt_config_part;

extern const dt_config_part dt_config_parts[DT_CONFIG_PARTS];

static inline void *dt_config_options(dt_config *c, const dt_config_part *part) {
    return (char *)c + part->offset;
}
static inline const void *dt_config_options_of(const dt_config *c, const dt_config_part *part) {
    return (const char *)c + part->offset;
}

/* A key of a section. */
typedef struct dt_config_key {
    const dt_config_part *part;
    const dt_key_row *row;
    int index;
    bool first;                   /* of its section */
    char name[DT_CONFIG_KEY_MAX]; /* "optim.lr" */
} dt_config_key;

/* Key number `index` of all; false behind the last. */
bool dt_config_key_at(int index, dt_config_key *out);
int dt_config_n_key(void);

bool dt_config_find_key(const char *name, dt_config_key *out);

/* Where key number `index` was set, for messages. */
dt_place dt_config_place_of(const dt_config *c, int index);

/* What is not set of the optimizer is as the kind has it that `of` says. */
void dt_config_settle_optim(dt_config *c, const dt_config *of);

/* Everything that one key alone cannot tell. */
dt_status dt_config_check(const dt_config *c);

/* Whether the key counts with the choices of this configuration; *by_kind (may be NULL): that hangs on the kind of the
 * data, too, which is taken for the right one. */
bool dt_config_counts(const dt_config *c, const dt_config_key *k, bool *by_kind);
/* DT_ERR_CONFIG where one that is set does not count. What the file sets and the command line has made void is no
 * longer set, and is told in c->left_out. */
dt_status dt_config_check_counts(dt_config *c);

#endif
