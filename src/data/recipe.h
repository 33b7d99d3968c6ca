/* The recipe's fields by name, as shards and checkpoints hold them. */
#ifndef DT_DATA_RECIPE_H
#define DT_DATA_RECIPE_H

#include "data/facts.h"
#include "data/import.h"

typedef struct dt_recipe_row {
    const char *name;
    size_t offset; /* of an int64_t in dt_recipe */
    int64_t max;
} dt_recipe_row;

enum { DT_RECIPE_ROWS = 4 };
extern const dt_recipe_row dt_recipe_table[DT_RECIPE_ROWS];

static inline int64_t *dt_recipe_field(dt_recipe *r, int i) {
    return (int64_t *)(void *)((char *)r + dt_recipe_table[i].offset);
}

#endif
